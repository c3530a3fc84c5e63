//! Bundles: blocks and records in one file, for networks that never meet.
//!
//! Lives here: the bytes, written and read as a stream. Does not live here: files and tunnels. In words:
//! docs/spec/bundle.md.
//!
//! | bytes | field |
//! |-------|-------|
//! | 16    | `warren bundle 1`, line feed |
//! | 32    | network id |
//! | 16    | the bundle's own id, drawn when it was made |
//! | ...   | units |
//!
//! | bytes | unit |
//! |-------|------|
//! | 1 + 32 + 32,768 | 1, a block's address, the block |
//! | 1 + 2,048       | 2, a small record |
//! | 1 + 4,096       | 3, a large record |
//! | 1 + 8           | 0, the end: how many units came before, big-endian |
//!
//! Nothing in it is believed: a block is what its address says or it is dropped, a record is signed, and
//! whoever wrote the file may have written anything.

use std::fmt;

use warren_overlay::{
    block::{BLOCK_LEN, Block, BlockAddress},
    id::NetworkId,
    record::{Record, RecordSize},
};

const MAGIC: &[u8; 16] = b"warren bundle 1\n";
/// Length of what stands before the units.
pub const HEAD_LEN: usize = 16 + NETWORK_LEN + ID_LEN;
const NETWORK_LEN: usize = 32;
/// Length of a bundle's id.
pub const ID_LEN: usize = 16;
const END: u8 = 0;
const BLOCK: u8 = 1;
const SMALL: u8 = 2;
const LARGE: u8 = 3;
const END_LEN: usize = 8;

/// Why a file is no bundle, or ends before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// It begins otherwise.
    #[error("this is no bundle: name a file that `warren bundle export` wrote")]
    Foreign,
    /// A unit of a kind that there is not: nothing behind it can be read.
    #[error(
        "the bundle is damaged, behind {units} units nothing can be read: get it anew, and import it again"
    )]
    Kind {
        /// Units before.
        units: u64,
    },
    /// Bytes are missing.
    #[error(
        "the bundle is cut off behind {units} units: get the rest of the file, and import it again"
    )]
    Cut {
        /// Units before.
        units: u64,
    },
    /// The end speaks of more or fewer units than came.
    #[error("the bundle is damaged, its end does not fit: get it anew, and import it again")]
    End,
    /// Something follows the end.
    #[error("something follows the end of the bundle: get the file anew")]
    Trailing,
}

/// Writes a bundle: what each verb gives comes behind what was given before.
pub struct BundleWriter {
    units: u64,
}

impl BundleWriter {
    /// A bundle of this network, with an id of its own; and its first bytes.
    pub fn new(network: NetworkId, id: [u8; ID_LEN]) -> (Self, Vec<u8>) {
        (Self { units: 0 }, [&MAGIC[..], network.as_bytes(), &id].concat())
    }

    /// A block.
    pub fn block(&mut self, block: &Block) -> Vec<u8> {
        self.units += 1;
        [&[BLOCK][..], block.address().as_bytes(), block.as_bytes()].concat()
    }

    /// A record.
    pub fn record(&mut self, record: &Record) -> Vec<u8> {
        let bytes = record.encode();
        let is_small = bytes.len() == RecordSize::Small.bytes();
        self.units += 1;
        [&[if is_small { SMALL } else { LARGE }][..], bytes].concat()
    }

    /// The end.
    pub fn end(self) -> Vec<u8> {
        [&[END][..], &self.units.to_be_bytes()].concat()
    }
}

/// What a bundle has.
#[derive(Debug)]
pub enum Unit {
    /// A block that is what its address says.
    Block(Block),
    /// A record with a good signature of this network.
    Record(Box<Record>),
    /// A block that is not what its address says: left out.
    DamagedBlock,
    /// A record that nobody of this network signed: left out.
    DamagedRecord,
}

/// Reads a bundle. Holds one unit and what was pushed last.
pub struct BundleReader {
    network: NetworkId,
    head: Option<([u8; NETWORK_LEN], [u8; ID_LEN])>,
    waiting: Vec<u8>,
    /// Of `waiting`, what was read.
    read: usize,
    units: u64,
    ended: bool,
}

impl BundleReader {
    /// Reads for a router of this network.
    pub fn new(network: NetworkId) -> Self {
        Self { network, head: None, waiting: Vec::new(), read: 0, units: 0, ended: false }
    }

    /// The next bytes of the file. Poll until nothing comes before more are pushed.
    pub fn push(&mut self, bytes: &[u8]) {
        self.waiting.drain(..self.read);
        self.read = 0;
        self.waiting.extend_from_slice(bytes);
    }

    fn take(&mut self, len: usize) -> Option<&[u8]> {
        let end = self.read.checked_add(len)?;
        let bytes = self.waiting.get(self.read..end)?;
        self.read = end;
        Some(bytes)
    }

    /// The bundle's id, once its first bytes are there.
    pub fn id(&self) -> Option<[u8; ID_LEN]> {
        self.head.map(|(_, id)| id)
    }

    /// Whether it says that it was made in this network: of another one the blocks are as good, and
    /// no record is.
    pub fn is_of_this_network(&self) -> bool {
        self.head.is_some_and(|(network, _)| network == *self.network.as_bytes())
    }

    /// Units so far.
    pub const fn units(&self) -> u64 {
        self.units
    }

    /// The next unit; `None` when more bytes are needed, or it ended.
    ///
    /// # Errors
    /// When nothing behind this can be read.
    pub fn poll(&mut self) -> Result<Option<Unit>, BundleError> {
        if self.head.is_none() && !self.read_head()? {
            return Ok(None);
        }
        let Some(kind) = self.waiting.get(self.read).copied() else { return Ok(None) };
        if self.ended {
            return Err(BundleError::Trailing);
        }
        let len = match kind {
            END => END_LEN,
            BLOCK => BlockAddress::LEN + BLOCK_LEN,
            SMALL => RecordSize::Small.bytes(),
            LARGE => RecordSize::Large.bytes(),
            _ => return Err(BundleError::Kind { units: self.units }),
        };
        let Some(unit) = self.take(1 + len) else { return Ok(None) };
        let unit = unit.to_vec();
        let (_, body) = unit.split_at(1);
        if kind == END {
            self.end(body)?;
            // Nothing may follow.
            return self.poll();
        }
        self.units += 1;
        Ok(Some(if kind == BLOCK { block(body) } else { self.record(body) }))
    }

    fn read_head(&mut self) -> Result<bool, BundleError> {
        let begin = self.waiting.get(self.read..).unwrap_or_default();
        let known = begin.len().min(MAGIC.len());
        if begin.get(..known) != MAGIC.get(..known) {
            return Err(BundleError::Foreign);
        }
        let Some(head) = self.take(HEAD_LEN).map(<[u8]>::to_vec) else { return Ok(false) };
        let (_, rest) = head.split_at(MAGIC.len());
        let (network, id) = rest.split_at(NETWORK_LEN);
        self.head = network.try_into().ok().zip(id.try_into().ok());
        Ok(true)
    }

    fn record(&self, bytes: &[u8]) -> Unit {
        match Record::decode(bytes, self.network) {
            Ok(record) => Unit::Record(Box::new(record)),
            Err(_) => Unit::DamagedRecord,
        }
    }

    fn end(&mut self, units: &[u8]) -> Result<(), BundleError> {
        self.ended = true;
        if *units == self.units.to_be_bytes() { Ok(()) } else { Err(BundleError::End) }
    }

    /// Says that there are no more bytes.
    ///
    /// # Errors
    /// When the end did not come.
    pub const fn finish(&self) -> Result<(), BundleError> {
        match (self.head.is_some(), self.ended) {
            (true, true) => Ok(()),
            (true, false) => Err(BundleError::Cut { units: self.units }),
            (false, _) => Err(BundleError::Foreign),
        }
    }
}

fn block(body: &[u8]) -> Unit {
    let (address, bytes) = body.split_at(BlockAddress::LEN);
    match Block::copy_from(bytes) {
        Some(block) if block.address().as_bytes()[..] == *address => Unit::Block(block),
        _ => Unit::DamagedBlock,
    }
}

macro_rules! mute {
    ($($name:ident),*) => {$(
        /// Mute: what a person carries from network to network is never logged.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("_")
            }
        }
    )*};
}
mute!(BundleWriter, BundleReader);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use warren_overlay::{crypto::secret::Secret, time::Wall};

    use super::*;
    use crate::{
        capability::{ReadCap, SiteWriteCap},
        site,
    };

    const NETWORK: NetworkId = NetworkId([9; 32]);

    fn any_block(byte: u8) -> Block {
        Block::copy_from(&vec![byte; BLOCK_LEN]).unwrap()
    }

    fn record() -> Record {
        let cap = SiteWriteCap::from_seed(Secret::take(&mut [7; 32]));
        let file = ReadCap::take(&mut [1; 64]);
        site::publish(&cap, NETWORK, 1, Wall::from_minutes(5), &file).unwrap().remove(0)
    }

    /// Two blocks and a record.
    fn bundle() -> Vec<u8> {
        let (mut writer, mut bytes) = BundleWriter::new(NETWORK, [5; ID_LEN]);
        bytes.extend(writer.block(&any_block(1)));
        bytes.extend(writer.record(&record()));
        bytes.extend(writer.block(&any_block(2)));
        bytes.extend(writer.end());
        bytes
    }

    /// What is read of it: blocks' first bytes, records, units left out; and how it ended.
    fn read(
        bytes: &[u8],
        piece: usize,
        network: NetworkId,
    ) -> (Vec<u8>, usize, usize, Result<(), BundleError>) {
        let mut reader = BundleReader::new(network);
        let (mut blocks, mut records, mut damaged) = (Vec::new(), 0, 0);
        for piece in bytes.chunks(piece) {
            reader.push(piece);
            assert!(reader.waiting.len() <= 1 + 32 + BLOCK_LEN + piece.len());
            loop {
                match reader.poll() {
                    Ok(Some(Unit::Block(block))) => blocks.push(block.as_bytes()[0]),
                    Ok(Some(Unit::Record(it))) => records += usize::from(*it == record()),
                    Ok(Some(Unit::DamagedBlock | Unit::DamagedRecord)) => damaged += 1,
                    Ok(None) => break,
                    Err(error) => return (blocks, records, damaged, Err(error)),
                }
            }
        }
        (blocks, records, damaged, reader.finish())
    }

    #[test]
    fn a_bundle_gives_back_what_went_in_however_it_comes() {
        let bytes = bundle();
        assert_eq!(bytes.len(), 64 + 2 * (33 + BLOCK_LEN) + 2_049 + 9);
        assert_eq!(&bytes[..16], b"warren bundle 1\n");
        for piece in [1, 7, 32_768, 1 << 20] {
            assert_eq!(read(&bytes, piece, NETWORK), (vec![1, 2], 1, 0, Ok(())), "{piece}");
        }
    }

    #[test]
    fn of_another_network_blocks_are_taken_and_records_are_not() {
        let (blocks, records, damaged, ended) = read(&bundle(), 4_096, NetworkId([8; 32]));
        assert_eq!((blocks, records, damaged, ended), (vec![1, 2], 0, 1, Ok(())));
    }

    #[test]
    fn what_is_cut_off_is_said_to_be() {
        let bytes = bundle();
        for len in [0, 3, 16, 63] {
            assert_eq!(read(&bytes[..len], 999, NETWORK).3, Err(BundleError::Foreign), "{len}");
        }
        for (len, units) in [(64, 0), (65, 0), (40_000, 2), (bytes.len() - 1, 3)] {
            let ended = read(&bytes[..len], 999, NETWORK).3;
            assert_eq!(ended, Err(BundleError::Cut { units }), "{len}");
        }
        let more = [&bytes[..], &[0]].concat();
        assert_eq!(read(&more, 999, NETWORK).3, Err(BundleError::Trailing));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        /// One byte of it is another: nothing comes out that did not go in, and it is noticed.
        #[test]
        fn no_altered_byte_goes_unnoticed(at in any::<prop::sample::Index>(), with in 1u8..) {
            let mut bytes = bundle();
            let at = at.index(bytes.len());
            bytes[at] ^= with;
            let (blocks, records, damaged, ended) = read(&bytes, 10_000, NETWORK);
            let is_name = (16..HEAD_LEN).contains(&at);
            prop_assert!(is_name || damaged > 0 || ended.is_err(), "{at}");
            prop_assert!(blocks.iter().all(|first| [1, 2].contains(first)));
            prop_assert!(blocks.len() <= 2 && records <= 1);
        }

        /// Whoever wrote it may have written anything.
        #[test]
        fn no_bytes_make_the_reader_panic(
            kinds in prop::collection::vec((0u8..5, 0usize..70_000), 0..6),
        ) {
            let (_, mut bytes) = BundleWriter::new(NETWORK, [5; ID_LEN]);
            for (kind, len) in kinds {
                bytes.push(kind);
                bytes.resize(bytes.len() + len, kind);
            }
            let (blocks, records, ..) = read(&bytes, 5_000, NETWORK);
            prop_assert!(blocks.is_empty() && records == 0);
        }
    }
}
