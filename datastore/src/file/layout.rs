//! Which block of a file is where: everything that follows from its length and its code.
//!
//! Lives here: levels, segments and tables as numbers. Does not live here: any byte of a file.
//!
//! ```text
//! level 0   the content, cut into blocks of 32,752 bytes, these into segments: k data, m parity each
//! level 1   the table: the addresses of level 0, segment by segment, data before parity; cut,
//!           sealed and coded like a file itself
//! level 2   the table of level 1 ... until a table fits into the root
//! ```
//!
//! A reader that wants some bytes of the content needs some bytes of level 1, for these some of
//! level 2, and so on: it may begin anywhere and holds one segment a level.

use std::ops::Range;

use warren_overlay::block::{BODY_LEN, BlockAddress};

use crate::erasure::{Code, Shape};

/// How many bytes of a level one block carries: its body. The tail is the seal's tag.
pub const CHUNK_LEN: u64 = BODY_LEN as u64;
/// The longest file in bytes, 1 TiB: the encoder remembers 32 bytes of each MiB.
pub const FILE_LEN_MAX: u64 = 1 << 40;
/// Most addresses that stand in a root.
pub(crate) const ROOT_ADDRESSES_MAX: u64 = 1_000;
/// Most levels: 1 TiB needs three above the content.
pub(crate) const LEVELS_MAX: usize = 4;
/// Length of an address in a table.
const ADDRESS_LEN: u64 = BlockAddress::LEN as u64;

/// One level of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Level {
    /// Its bytes: the content, or the table of the level below.
    pub(crate) len: u64,
    code: Code,
    blocks: u64,
    pub(crate) segments: u64,
}

/// One segment of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Number of its first data block, counted through the level.
    pub(crate) first: u64,
    pub(crate) shape: Shape,
    /// The bytes of the level above that hold its addresses.
    pub(crate) table: (u64, u64),
}

impl Level {
    /// At least two blocks: the parity of one block would be that block again, at the same address.
    fn of(len: u64, code: Code) -> Self {
        let blocks = len.div_ceil(CHUNK_LEN).max(2);
        Self { len, code, blocks, segments: blocks.div_ceil(code.data_max()) }
    }

    /// How many data blocks it has.
    pub(crate) const fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Segments differ by at most one data block: no rest of a few blocks with little redundancy.
    /// The first `larger` segments have `smaller + 1` data blocks.
    const fn split(&self) -> (u64, u64) {
        (self.blocks / self.segments, self.blocks % self.segments)
    }

    const fn total(&self, data: u64) -> u64 {
        data + self.code.parity(data)
    }

    /// How many blocks, data and parity, the segments before `number` have.
    const fn blocks_before(&self, number: u64) -> u64 {
        let (smaller, larger) = self.split();
        let (large, small) = if number < larger { (number, 0) } else { (larger, number - larger) };
        large * self.total(smaller + 1) + small * self.total(smaller)
    }

    /// All blocks, data and parity.
    pub(crate) const fn blocks_total(&self) -> u64 {
        self.blocks_before(self.segments)
    }

    /// Segment `number`, below `segments`.
    pub(crate) fn segment(&self, number: u64) -> Segment {
        let (smaller, larger) = self.split();
        let data = if number < larger { smaller + 1 } else { smaller };
        let to_len = |blocks: u64| usize::try_from(blocks).unwrap_or(0);
        Segment {
            first: number * smaller + number.min(larger),
            shape: Shape { data: to_len(data), parity: to_len(self.code.parity(data)) },
            table: (
                self.blocks_before(number) * ADDRESS_LEN,
                self.blocks_before(number + 1) * ADDRESS_LEN,
            ),
        }
    }

    /// The segments that hold these bytes; empty for none.
    pub(crate) fn segments_of(&self, bytes: &Range<u64>) -> Range<u64> {
        if bytes.is_empty() {
            return 0..0;
        }
        let of = |byte: u64| {
            let (smaller, larger) = self.split();
            let block = byte / CHUNK_LEN;
            let head = larger * (smaller + 1);
            if block < head { block / (smaller + 1) } else { larger + (block - head) / smaller }
        };
        of(bytes.start)..of(bytes.end - 1) + 1
    }

    /// The bytes of the level above that hold the addresses of these segments.
    pub(crate) const fn table_of(&self, segments: &Range<u64>) -> Range<u64> {
        self.blocks_before(segments.start) * ADDRESS_LEN
            ..self.blocks_before(segments.end) * ADDRESS_LEN
    }
}

/// All levels of a file: its shape on the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub(crate) levels: Vec<Level>,
}

impl Layout {
    /// The layout of a file of `len` bytes; `None` above 1 TiB.
    pub fn of(len: u64, code: Code) -> Option<Self> {
        if len > FILE_LEN_MAX {
            return None;
        }
        let mut levels = vec![Level::of(len, code)];
        while let Some(top) = levels.last()
            && top.blocks_total() > ROOT_ADDRESSES_MAX
        {
            if levels.len() == LEVELS_MAX {
                return None;
            }
            levels.push(Level::of(top.blocks_total() * ADDRESS_LEN, Code::Durable));
        }
        Some(Self { levels })
    }

    /// How many blocks the file is stored as, tables included, the root's copies not.
    pub fn blocks(&self) -> u64 {
        self.levels.iter().map(Level::blocks_total).sum()
    }

    /// Length in bytes of the table that stands in the root.
    pub(crate) fn root_table_len(&self) -> usize {
        let addresses = self.levels.last().map_or(0, Level::blocks_total);
        usize::try_from(addresses * ADDRESS_LEN).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_code() -> impl Strategy<Value = Code> {
        prop_oneof![Just(Code::Standard), Just(Code::Durable), Just(Code::Large)]
    }

    proptest! {
        #[test]
        fn segments_cover_a_level_without_gap(len in 0u64..400_000_000, code in any_code()) {
            let level = Level::of(len, code);
            let (mut block, mut table) = (0, 0);
            for number in 0..level.segments {
                let segment = level.segment(number);
                prop_assert_eq!((segment.first, segment.table.0), (block, table));
                prop_assert!(segment.shape.data >= 2);
                prop_assert!(segment.shape.data as u64 <= code.data_max());
                block += segment.shape.data as u64;
                table += 32 * segment.shape.total() as u64;
                prop_assert_eq!(segment.table.1, table);
            }
            prop_assert_eq!(block, level.blocks());
            prop_assert_eq!(table, level.blocks_total() * 32);
            prop_assert!(block * CHUNK_LEN >= len);
        }

        #[test]
        fn a_byte_is_in_the_segment_that_is_named(
            len in 1u64..400_000_000, code in any_code(), a: prop::sample::Index, n in 1u64..9_000_000,
        ) {
            let level = Level::of(len, code);
            let start = a.index(usize::try_from(len).unwrap()) as u64;
            let end = (start + n).min(len);
            let segments = level.segments_of(&(start..end));
            let (first, last) = (level.segment(segments.start), level.segment(segments.end - 1));
            prop_assert!(first.first * CHUNK_LEN <= start);
            prop_assert!((first.first + first.shape.data as u64) * CHUNK_LEN > start);
            prop_assert!(last.first * CHUNK_LEN < end);
            prop_assert!((last.first + last.shape.data as u64) * CHUNK_LEN >= end);
            prop_assert_eq!(level.table_of(&segments), first.table.0..last.table.1);
        }
    }

    #[test]
    fn every_length_up_to_1_tib_has_a_layout() {
        let of = |len, code| Layout::of(len, code).map(|layout| layout.levels.len());
        assert_eq!(of(16 << 20, Code::Standard), Some(1));
        assert_eq!(of(256 << 20, Code::Standard), Some(2));
        assert_eq!(of(10 << 30, Code::Large), Some(3));
        assert_eq!(of(FILE_LEN_MAX, Code::Large), Some(3));
        assert_eq!(of(FILE_LEN_MAX, Code::Standard), Some(3));
        assert_eq!(of(FILE_LEN_MAX + 1, Code::Large), None);
        let big = Layout::of(10 << 30, Code::Large).unwrap();
        assert!(big.blocks() < 2 * (10 << 30) / 32_000, "0.4 % for tables");
    }
}
