//! Reed-Solomon over sealed blocks: from any k of k + m blocks of a segment come all the others.
//!
//! Lives here: how many parity blocks a segment gets, and the only lines that name the library. Does
//! not live here: how a file is cut into segments (`file/layout.rs`).
//!
//! The code runs over ciphertext, so that whoever can check blocks can also rebuild them without a
//! key to read (DESIGN section 8). The library's code is of the Leopard family, over GF(2^16).

use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};
use warren_overlay::block::{BLOCK_LEN, Block};

/// Files longer than this are coded as [`Code::Large`], in bytes.
pub const LARGE_ABOVE: u64 = 256 << 20;
/// Most blocks, data and parity, that one segment of any code has.
pub const SEGMENT_BLOCKS_MAX: usize = 512;

/// How much redundancy a file gets.
///
/// What fails, from exact binomials with blocks lost independently: a 128+64 segment
/// with 10 % of blocks gone 3 in 10^19, with 20 % gone 5 in 10^6; a 128+128 one with 30 % gone 7 in
/// 10^12.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// Segments of 128 + 64 blocks; what `put` uses.
    Standard,
    /// Segments of 128 + 128 blocks: `--durable`, and the address tables of every file.
    Durable,
    /// Segments of 256 + 256 blocks, above 256 MiB: a file of many segments is lost with its
    /// unluckiest one.
    Large,
}

impl Code {
    /// The code of a file of `len` bytes.
    pub const fn of_file(len: u64, durable: bool) -> Self {
        match (len > LARGE_ABOVE, durable) {
            (true, _) => Self::Large,
            (false, true) => Self::Durable,
            (false, false) => Self::Standard,
        }
    }

    /// Most data blocks of one segment.
    pub const fn data_max(self) -> u64 {
        match self {
            Self::Standard | Self::Durable => 128,
            Self::Large => 256,
        }
    }

    /// How many parity blocks a segment of `data` blocks has (2 to [`Code::data_max`]).
    ///
    /// Few blocks need proportionally more: of 4 blocks 2 are often gone, of 128 never 64.
    pub const fn parity(self, data: u64) -> u64 {
        match self {
            Self::Standard => match data {
                0..4 => 4,
                4..=16 => data,
                17..=112 => data / 2 + 8,
                _ => 64,
            },
            Self::Durable if data < 8 => 8,
            Self::Durable | Self::Large => data,
        }
    }

    pub(crate) const fn byte(self) -> u8 {
        match self {
            Self::Standard => 1,
            Self::Durable => 2,
            Self::Large => 3,
        }
    }

    pub(crate) const fn of_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Standard),
            2 => Some(Self::Durable),
            3 => Some(Self::Large),
            _ => None,
        }
    }
}

/// How many blocks a segment has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Data blocks, 2 to 256.
    pub data: usize,
    /// Parity blocks, 4 to 256.
    pub parity: usize,
}

impl Shape {
    /// All blocks.
    pub const fn total(self) -> usize {
        self.data + self.parity
    }
}

/// A code that cannot be: the shape has no code, or there are fewer blocks than data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too few blocks to rebuild the segment: try again when more routers are there")]
pub struct TooFew;

/// The coder's working memory, kept between segments: about twice a segment's bytes.
#[derive(Default)]
pub struct Coder {
    encoder: Option<ReedSolomonEncoder>,
    decoder: Option<ReedSolomonDecoder>,
}

impl Coder {
    /// The parity blocks of these data blocks.
    ///
    /// # Errors
    /// When there are not `shape.data` of them.
    pub fn parity<'a>(
        &mut self,
        shape: Shape,
        data: impl Iterator<Item = &'a Block>,
    ) -> Result<Vec<Block>, TooFew> {
        let mut parity = Vec::with_capacity(shape.parity);
        self.parity_with(shape, data, |_, bytes| parity.extend(Block::copy_from(bytes)))?;
        Ok(parity)
    }

    /// [`Coder::parity`] as bare bytes, each with its number from zero.
    ///
    /// # Errors
    /// When there are not `shape.data` blocks.
    pub fn parity_with<'a>(
        &mut self,
        shape: Shape,
        data: impl Iterator<Item = &'a Block>,
        mut each: impl FnMut(usize, &[u8]),
    ) -> Result<(), TooFew> {
        let encoder = match &mut self.encoder {
            Some(encoder) => {
                encoder.reset(shape.data, shape.parity, BLOCK_LEN).map_err(|_| TooFew)?;
                encoder
            }
            none => none.insert(
                ReedSolomonEncoder::new(shape.data, shape.parity, BLOCK_LEN).map_err(|_| TooFew)?,
            ),
        };
        for block in data {
            encoder.add_original_shard(block.as_bytes()).map_err(|_| TooFew)?;
        }
        let coded = encoder.encode().map_err(|_| TooFew)?;
        coded.recovery_iter().enumerate().for_each(|(number, bytes)| each(number, bytes));
        Ok(())
    }

    /// The data blocks that `blocks` (data first, then parity) has not, with their numbers.
    ///
    /// They are what the code makes of the others; whether they are the right ones only their
    /// addresses can say.
    ///
    /// # Errors
    /// When there are fewer than `shape.data` blocks.
    pub fn restore(
        &mut self,
        shape: Shape,
        blocks: &[Option<&Block>],
    ) -> Result<Vec<(usize, Block)>, TooFew> {
        let mut restored = Vec::new();
        self.restore_with(shape, blocks, |at, bytes| {
            restored.extend(Block::copy_from(bytes).map(|block| (at, block)));
        })?;
        Ok(restored)
    }

    /// [`Coder::restore`] as bare bytes.
    ///
    /// # Errors
    /// When there are fewer than `shape.data` blocks.
    pub fn restore_with(
        &mut self,
        shape: Shape,
        blocks: &[Option<&Block>],
        mut each: impl FnMut(usize, &[u8]),
    ) -> Result<(), TooFew> {
        let decoder = match &mut self.decoder {
            Some(decoder) => {
                decoder.reset(shape.data, shape.parity, BLOCK_LEN).map_err(|_| TooFew)?;
                decoder
            }
            none => none.insert(
                ReedSolomonDecoder::new(shape.data, shape.parity, BLOCK_LEN).map_err(|_| TooFew)?,
            ),
        };
        let mut added = 0;
        for (at, block) in blocks.iter().enumerate() {
            let Some(block) = block else { continue };
            if added == shape.data {
                break;
            }
            added += 1;
            match at.checked_sub(shape.data) {
                None => decoder.add_original_shard(at, block.as_bytes()),
                Some(parity) => decoder.add_recovery_shard(parity, block.as_bytes()),
            }
            .map_err(|_| TooFew)?;
        }
        let whole = decoder.decode().map_err(|_| TooFew)?;
        whole.restored_original_iter().for_each(|(at, bytes)| each(at, bytes));
        Ok(())
    }
}

impl std::fmt::Debug for Coder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Coder")
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;

    fn blocks(count: usize) -> Vec<Block> {
        (0..count)
            .map(|i| {
                let text: Vec<u8> = (0..BLOCK_LEN)
                    .map(|at| u8::try_from((at * 31 + i * 977 + at / 255) % 251).unwrap())
                    .collect();
                Block::copy_from(&text).unwrap()
            })
            .collect()
    }

    fn coded(code: Code, data: usize) -> (Shape, Vec<Block>) {
        let shape = Shape { data, parity: usize::try_from(code.parity(data as u64)).unwrap() };
        let mut all = blocks(data);
        let parity = Coder::default().parity(shape, all.iter()).unwrap();
        assert_eq!(parity.len(), shape.parity);
        all.extend(parity);
        (shape, all)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_k_blocks_give_all(
            data in 2usize..40, durable: bool,
            order in Just((0..100).collect::<Vec<usize>>()).prop_shuffle(),
        ) {
            let code = if durable { Code::Durable } else { Code::Standard };
            let (shape, all) = coded(code, data);
            let kept: Vec<usize> =
                order.into_iter().filter(|i| *i < shape.total()).take(shape.data).collect();
            let have: Vec<_> =
                (0..shape.total()).map(|i| kept.contains(&i).then(|| &all[i])).collect();
            let restored = Coder::default().restore(shape, &have).unwrap();
            prop_assert_eq!(restored.len(), (0..data).filter(|i| !kept.contains(i)).count());
            for (i, block) in restored {
                prop_assert_eq!(&block, &all[i]);
            }
            let mut fewer = have;
            fewer[kept[0]] = None;
            prop_assert_eq!(Coder::default().restore(shape, &fewer), Err(TooFew));
        }
    }

    #[test]
    fn small_segments_have_more_than_proportional_parity() {
        let parity = |code: Code, data: u64| code.parity(data);
        let row: Vec<_> =
            [2, 4, 10, 16, 17, 64, 111, 128].map(|k| parity(Code::Standard, k)).to_vec();
        assert_eq!(row, [4, 4, 10, 16, 16, 40, 63, 64]);
        assert_eq!([2, 8, 128].map(|k| parity(Code::Durable, k)), [8, 8, 128]);
        assert_eq!(parity(Code::Large, 256), 256);
        for data in 2..128 {
            assert!(parity(Code::Standard, data) <= parity(Code::Standard, data + 1));
            assert!(2 * parity(Code::Standard, data) >= data);
        }
    }

    #[test]
    fn the_coder_s_memory_carries_nothing_over() {
        let mut coder = Coder::default();
        for data in [40, 3, 17] {
            let (shape, all) = coded(Code::Standard, data);
            let parity = coder.parity(shape, all[..data].iter()).unwrap();
            assert_eq!(parity[..], all[data..]);
            let have: Vec<_> = all.iter().enumerate().map(|(i, b)| (i != 0).then_some(b)).collect();
            assert_eq!(coder.restore(shape, &have).unwrap(), [(0, all[0].clone())]);
            assert!(coder.parity(shape, all[..1].iter()).is_err());
        }
    }

    /// Frozen: what is stored today must be rebuilt by every later version.
    #[test]
    fn parity_stays_as_it_was_frozen() {
        for (code, data, address) in VECTORS {
            let (shape, all) = coded(code, data);
            let last = all[shape.total() - 1].address();
            assert_eq!(HEXLOWER.encode(last.as_bytes()), address, "{data}");
        }
    }

    const VECTORS: [(Code, usize, &str); 3] = [
        (Code::Standard, 2, "b442cad6f27ba2b31528a8a094b1f315050871ccccc6a51757cd0b5c4b2006f8"),
        (Code::Standard, 128, "c82bf70e8e05c359c43c7ff8f076695199a6a072b3eef5c6ae79a5acdc9c3128"),
        (Code::Large, 256, "ca77c75b22107d3eec6e4716a3e27ca747a0d0c37c24795fc55f020e313746db"),
    ];
}
