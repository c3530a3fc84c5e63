//! Cloves into cells and back: the ordered clove stream of one direction of one tunnel.
//!
//! Lives here: the queue of cloves that wait for a cell, and the reassembly of cloves that span
//! cells. Does not live here: splice data, which goes from its own queue straight into a cell
//! (`cell.rs`), and who may say what (`end_hop.rs`, `carrier.rs`).
//!
//! The rules (docs/spec/garlic.md, section 2): cloves follow each other without gaps; a head never
//! spans cells; splice data never spans cells; a zero where a head would begin, or fewer than three
//! bytes, is padding to the cell's end and all zero.

use std::collections::VecDeque;

use super::{
    cell::Fill,
    clove::{self, Clove, HEAD_LEN, check_head, kind},
};
use crate::{
    block::BLOCK_LEN,
    id::SpliceId,
    plane::CellBody,
    wire::{Reader, WireError, Writer},
};

/// A clove up to this many bytes goes ahead of larger ones: an answer of a few bytes or a splice
/// request does not wait for the records in front of it. 256 takes in all but records and blocks.
const SMALL_MAX: usize = 256;

/// Cloves that wait for room in a cell.
///
/// It sets no bound of its own: each of its users queues one clove per open request or splice, and
/// bounds those (32 requests, 1,024 splices).
///
/// ```
/// use warren_overlay::{garlic::{Clove, CloveReader, CloveWriter, Piece}, id::SpliceId};
///
/// let (mut writer, mut reader) = (CloveWriter::new(), CloveReader::new());
/// let clove = Clove::SpliceOpened { splice: SpliceId(1) };
/// writer.push(&clove);
/// let mut cell = [0; 1_024];
/// assert!(writer.write_cell(&mut cell));
/// let (payload, mut at) = (&cell[16..], 0);
/// assert_eq!(reader.next(payload, &mut at), Ok(Some(Piece::Clove(clove))));
/// assert_eq!(reader.next(payload, &mut at), Ok(None)); // the rest is padding
/// ```
#[derive(Debug, Default)]
pub struct CloveWriter {
    /// What is left of the clove that the last cell broke off.
    partial: Option<Partial>,
    small: VecDeque<Vec<u8>>,
    large: VecDeque<Vec<u8>>,
    /// Cells of splice data that go before the next large clove.
    owed: u32,
}

#[derive(Debug)]
struct Partial {
    bytes: Vec<u8>,
    at: usize,
    cells: u32,
}

impl CloveWriter {
    /// An empty queue.
    pub const fn new() -> Self {
        Self { partial: None, small: VecDeque::new(), large: VecDeque::new(), owed: 0 }
    }

    /// Queues one clove.
    pub fn push(&mut self, clove: &Clove) {
        let mut w = Writer::default();
        clove.encode(&mut w);
        let bytes = w.into_bytes();
        if bytes.len() <= SMALL_MAX {
            self.small.push_back(bytes);
        } else {
            self.large.push_back(bytes);
        }
    }

    /// How many cloves wait, the one under way included.
    pub fn len(&self) -> usize {
        self.small.len() + self.large.len() + usize::from(self.partial.is_some())
    }

    /// How many of them are as long as a block.
    pub(crate) fn blocks(&self) -> usize {
        let long = |bytes: &&Vec<u8>| bytes.len() >= BLOCK_LEN;
        self.large.iter().chain(self.partial.iter().map(|it| &it.bytes)).filter(long).count()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Goes on with the clove that the last cell broke off; first thing in every cell.
    pub(crate) fn resume(&mut self, body: &mut CellBody, fill: &mut Fill) {
        let Some(partial) = &mut self.partial else { return };
        partial.cells += 1;
        partial.at += fill.put(body, partial.bytes.get(partial.at..).unwrap_or_default());
        if partial.at == partial.bytes.len() {
            self.owed = partial.cells;
            self.partial = None;
        }
    }

    /// Writes small cloves until none waits or the cell is full.
    pub(crate) fn fill_small(&mut self, body: &mut CellBody, fill: &mut Fill) {
        while self.partial.is_none() && fill.room() >= HEAD_LEN {
            let Some(bytes) = self.small.pop_front() else { return };
            self.start(body, fill, bytes);
        }
    }

    /// Writes large cloves likewise; if splices have data to send, they get as many cells as the
    /// last large clove had before the next one starts.
    pub(crate) fn fill_large(&mut self, body: &mut CellBody, fill: &mut Fill, data_waits: bool) {
        while self.partial.is_none() && fill.room() >= HEAD_LEN && (self.owed == 0 || !data_waits) {
            let Some(bytes) = self.large.pop_front() else { return };
            self.start(body, fill, bytes);
        }
    }

    /// A cell of splice data was sent in between.
    pub(crate) const fn data_had_its_turn(&mut self) {
        self.owed = self.owed.saturating_sub(1);
    }

    fn start(&mut self, body: &mut CellBody, fill: &mut Fill, bytes: Vec<u8>) {
        let at = fill.put(body, &bytes);
        if at < bytes.len() {
            self.partial = Some(Partial { bytes, at, cells: 1 });
        }
    }

    /// Writes one clove straight into a cell, if it fits with its first [`HEAD_LEN`] bytes at least.
    ///
    /// For cloves that are made when their turn comes. The cell must not be inside another clove:
    /// call after [`Self::resume`] and only while [`Self::at_border`].
    pub(crate) fn write_now(&mut self, body: &mut CellBody, fill: &mut Fill, clove: &Clove) {
        let mut w = Writer::default();
        clove.encode(&mut w);
        self.start(body, fill, w.into_bytes());
    }

    /// Whether the next byte begins a clove.
    pub(crate) const fn at_border(&self) -> bool {
        self.partial.is_none()
    }

    /// Fills one cell from the queue; `false`, and an untouched cell, if nothing waits.
    ///
    /// What both ends do between splices; here for tests and for whoever sends cloves alone.
    pub fn write_cell(&mut self, body: &mut CellBody) -> bool {
        let mut fill = Fill::default();
        self.resume(body, &mut fill);
        self.fill_small(body, &mut fill);
        self.fill_large(body, &mut fill, false);
        if fill.is_empty() {
            return false;
        }
        fill.finish(body);
        true
    }
}

/// Room for an unfinished clove at its start: a record's; a block's grows up to its length.
const RECORD_ROOM: usize = 8 * 1_024;

/// What a payload holds, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Splice data, still in the cell: whoever keeps it copies it once.
    Data {
        /// Which splice.
        splice: SpliceId,
        /// 1 to 1,001 bytes.
        data: &'a [u8],
    },
    /// Any other clove.
    Clove(Clove),
}

/// Reads the clove stream of one direction, cell by cell.
///
/// Holds at most one unfinished clove, whose buffer is allocated only after its head was checked and
/// grows with what came: announcing a block costs nothing.
#[derive(Debug, Default)]
pub struct CloveReader {
    partial: Option<Unfinished>,
}

#[derive(Debug)]
struct Unfinished {
    kind: u8,
    body: Vec<u8>,
    len: usize,
}

impl CloveReader {
    /// At the start of a tunnel.
    pub const fn new() -> Self {
        Self { partial: None }
    }

    /// The next piece of `payload`, of which `at` bytes were read; `None` at its end.
    ///
    /// # Errors
    /// Bytes that no [`CloveWriter`] makes. The stream is then lost, and its tunnel with it.
    pub fn next<'a>(
        &mut self,
        payload: &'a [u8],
        at: &mut usize,
    ) -> Result<Option<Piece<'a>>, WireError> {
        let rest = payload.get(*at..).unwrap_or_default();
        if let Some(unfinished) = &mut self.partial {
            let missing = unfinished.len.saturating_sub(unfinished.body.len());
            let here = rest.get(..missing).unwrap_or(rest);
            if unfinished.body.capacity() - unfinished.body.len() < here.len() {
                let more = unfinished.body.len().min(missing);
                unfinished.body.reserve_exact(more.max(here.len()));
            }
            unfinished.body.extend_from_slice(here);
            *at += here.len();
            if here.len() < missing {
                return Ok(None);
            }
            let whole = self.partial.take().map(|u| Clove::decode_body(u.kind, &u.body));
            return whole.transpose().map(|clove| clove.map(Piece::Clove));
        }
        if rest.len() < HEAD_LEN || rest.first() == Some(&kind::PADDING) {
            *at = payload.len();
            return if rest.iter().all(|byte| *byte == 0) {
                Ok(None)
            } else {
                Err(WireError::Bad("padding"))
            };
        }
        let mut r = Reader::new(rest);
        let kind = r.u8("clove kind")?;
        let len = usize::from(r.u16("clove length")?);
        check_head(kind, len)?;
        *at += HEAD_LEN;
        if kind == kind::SPLICE_DATA {
            let mut body = Reader::new(r.slice(len, "splice data")?);
            *at += len;
            let splice = clove::splice(&mut body)?;
            return Ok(Some(Piece::Data { splice, data: clove::data(&mut body)? }));
        }
        if r.remaining() < len {
            let here = r.rest();
            let mut body = Vec::with_capacity(len.min(RECORD_ROOM));
            body.extend_from_slice(here);
            *at += here.len();
            self.partial = Some(Unfinished { kind, body, len });
            return Ok(None);
        }
        let body = r.slice(len, "clove body")?;
        *at += len;
        Clove::decode_body(kind, body).map(|clove| Some(Piece::Clove(clove)))
    }

    /// Bytes held for an unfinished clove.
    pub fn held(&self) -> usize {
        self.partial.as_ref().map_or(0, |unfinished| unfinished.body.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        garlic::{
            cell::{DATA_MAX, PAYLOAD_LEN, payload},
            clove::{CLOVE_MAX, RecordAnswer, RecordBytes, tests::any_clove},
        },
        plane::CELL_BODY_LEN,
    };

    const EMPTY: CellBody = [0xee; CELL_BODY_LEN];

    fn read(reader: &mut CloveReader, bytes: &[u8]) -> Result<Vec<Clove>, WireError> {
        let (mut at, mut out) = (0, Vec::new());
        while at < bytes.len() {
            match reader.next(bytes, &mut at)? {
                Some(Piece::Clove(clove)) => out.push(clove),
                Some(Piece::Data { splice, data }) => {
                    out.push(Clove::SpliceData { splice, data: data.to_vec() });
                }
                None => {}
            }
        }
        Ok(out)
    }

    fn found(request: u32) -> Clove {
        let record = RecordBytes::new(vec![9; 4_096]).unwrap();
        Clove::RecordAnswer { request, asked: 2, answer: RecordAnswer::Found(record) }
    }

    fn data(splice: u32, len: usize) -> Clove {
        Clove::SpliceData { splice: SpliceId(splice), data: vec![5; len] }
    }

    fn is_data(clove: &Clove) -> bool {
        matches!(clove, Clove::SpliceData { .. })
    }

    proptest! {
        /// Small ones may overtake large ones; within both, order holds and nothing is lost.
        #[test]
        fn what_goes_in_comes_out(cloves in prop::collection::vec(any_clove(), 0..30)) {
            let cloves: Vec<Clove> = cloves.into_iter().filter(|clove| !is_data(clove)).collect();
            let (mut writer, mut reader) = (CloveWriter::default(), CloveReader::default());
            for clove in &cloves {
                writer.push(clove);
            }
            let (mut got, mut body) = (Vec::new(), EMPTY);
            while writer.write_cell(&mut body) {
                got.extend(read(&mut reader, payload(&body)).unwrap());
                prop_assert!(reader.held() < CLOVE_MAX);
            }
            prop_assert_eq!(reader.held(), 0);
            let len = |clove: &&Clove| {
                let mut w = Writer::default();
                clove.encode(&mut w);
                w.into_bytes().len() <= SMALL_MAX
            };
            for small in [true, false] {
                let sent: Vec<&Clove> = cloves.iter().filter(|c| len(c) == small).collect();
                let seen: Vec<&Clove> = got.iter().filter(|c| len(c) == small).collect();
                prop_assert_eq!(sent, seen);
            }
        }

        #[test]
        fn random_payloads_never_panic_and_hold_little(
            cells in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), PAYLOAD_LEN), 0u8..40, 0u8..20), 1..8),
        ) {
            let mut reader = CloveReader::default();
            for (mut bytes, kind, high) in cells {
                bytes[0] = kind; // give the dice a chance to hit a head
                bytes[1] = high;
                if read(&mut reader, &bytes).is_err() {
                    break;
                }
                prop_assert!(reader.held() <= CLOVE_MAX);
            }
        }

        /// A true stream with one byte changed: refused, or read without panic.
        #[test]
        fn a_mutated_stream_never_panics(
            cloves in prop::collection::vec(any_clove(), 1..20),
            at in 0..PAYLOAD_LEN, cell: prop::sample::Index, with: u8,
        ) {
            let mut writer = CloveWriter::default();
            for clove in cloves.iter().filter(|clove| !is_data(clove)) {
                writer.push(clove);
            }
            let (mut cells, mut body) = (Vec::new(), EMPTY);
            while writer.write_cell(&mut body) {
                cells.push(payload(&body).to_vec());
            }
            if !cells.is_empty() {
                let cell = cell.index(cells.len());
                cells[cell][at] = with;
                let mut reader = CloveReader::default();
                for cell in &cells {
                    if read(&mut reader, cell).is_err() {
                        break;
                    }
                }
            }
        }
    }

    #[test]
    fn small_cloves_share_a_cell_and_zeros_follow() {
        let mut writer = CloveWriter::default();
        writer.push(&Clove::SpliceOpened { splice: SpliceId(1) });
        writer.push(&Clove::SpliceClosed { splice: SpliceId(2) });
        let mut body = EMPTY;
        assert!(writer.write_cell(&mut body));
        assert_eq!(payload(&body)[..15], [17, 0, 4, 0, 0, 0, 1, 18, 0, 4, 0, 0, 0, 2, 0]);
        assert!(payload(&body)[14..].iter().all(|byte| *byte == 0));
        assert!(!writer.write_cell(&mut body));
    }

    #[test]
    fn a_head_never_spans_cells() {
        for leftover in 0..=HEAD_LEN {
            let (mut body, mut fill) = (EMPTY, Fill::default());
            let mut writer = CloveWriter::default();
            assert!(fill.put_data(&mut body, SpliceId(1), &vec![5; DATA_MAX - leftover]));
            writer.push(&Clove::SpliceClosed { splice: SpliceId(2) });
            writer.fill_small(&mut body, &mut fill);
            fill.finish(&mut body);
            assert_eq!(writer.at_border(), leftover < HEAD_LEN);
            assert_eq!(writer.len(), 1, "the clove waits, whole or but for its head");
            let mut reader = CloveReader::default();
            assert_eq!(read(&mut reader, payload(&body)).unwrap().len(), 1);
            assert!(writer.write_cell(&mut body));
            let closed = Clove::SpliceClosed { splice: SpliceId(2) };
            assert_eq!(read(&mut reader, payload(&body)), Ok(vec![closed]));
        }
    }

    #[test]
    fn padding_that_is_not_zero_is_refused() {
        for at in [0, 1, 500, PAYLOAD_LEN - 1] {
            let mut cell = [0; PAYLOAD_LEN];
            cell[at] = if at == 0 { 255 } else { 1 };
            assert!(read(&mut CloveReader::default(), &cell).is_err(), "{at}");
        }
        assert_eq!(read(&mut CloveReader::default(), &[0; PAYLOAD_LEN]), Ok(vec![]));
    }

    #[test]
    fn splice_data_that_spans_cells_is_refused() {
        let mut cell = [0; PAYLOAD_LEN];
        let start = PAYLOAD_LEN - 10;
        cell[..7].copy_from_slice(&[19, 0, 4, 0, 0, 0, 1]); // empty: refused too
        assert!(read(&mut CloveReader::default(), &cell).is_err());
        let mut w = Writer::default();
        data(1, start - 7).encode(&mut w);
        w.bytes(&[19, 0, 8, 0, 0, 0, 1, 1, 2, 3]); // one byte short
        let bytes = w.into_bytes();
        assert_eq!(bytes.len(), PAYLOAD_LEN);
        assert!(read(&mut CloveReader::default(), &bytes).is_err());
    }

    #[test]
    fn a_large_clove_leaves_the_next_cells_to_splice_data() {
        let mut writer = CloveWriter::default();
        writer.push(&found(1));
        writer.push(&found(2));
        let mut body = EMPTY;
        let mut turns = Vec::new();
        for _ in 0..14 {
            let mut fill = Fill::default();
            writer.resume(&mut body, &mut fill);
            writer.fill_large(&mut body, &mut fill, true);
            if writer.at_border() && fill.put_data(&mut body, SpliceId(1), &[1; 500]) {
                writer.data_had_its_turn();
                turns.push('d');
            } else {
                turns.push('r');
            }
        }
        // 4,104 B are 4 cells and 72 B: the fifth has room for data as well.
        assert_eq!(turns.iter().collect::<String>(), "rrrrdddddrrrrd");
    }

    #[test]
    fn an_unfinished_clove_takes_its_own_length_only() {
        let mut cell = [7; PAYLOAD_LEN];
        cell[..3].copy_from_slice(&[2, 16, 4]);
        let mut reader = CloveReader::default();
        assert_eq!(read(&mut reader, &cell), Ok(vec![]));
        assert_eq!(reader.held(), PAYLOAD_LEN - 3);
        let unfinished = reader.partial.unwrap();
        assert_eq!(unfinished.body.capacity(), 4_100);
    }
}
