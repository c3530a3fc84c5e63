//! What a transfer needs to go on after a restart.
//!
//! Lives here: the two states and their bytes. Does not live here: where they are kept. Their owner
//! seals them: they say what a person stores and reads.

use std::{fmt, ops::Range};

use warren_overlay::wire::{Reader, WireError, Writer};

use crate::capability::ReadCap;

/// The only format there is.
const FORMAT: u8 = 1;
/// Most blocks that are stored out of order, 64 KiB of state. Where one block is stuck, so many later
/// ones go on, then the store waits for it.
pub(super) const ABOVE_MAX: usize = 8_192;

/// Where a fetch is.
///
/// | bytes | field |
/// |-------|-------|
/// | 1     | format, 1 |
/// | 64    | read capability |
/// | 8, 8  | range: start, end |
/// | 8     | bytes of it that were given out |
pub struct FetchState {
    /// The file.
    pub cap: ReadCap,
    /// What of it is wanted.
    pub range: Range<u64>,
    /// How much of that was given out.
    pub delivered: u64,
}

impl FetchState {
    /// The bytes that `decode` reads.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.u8(FORMAT).bytes(self.cap.to_bytes().expose_secret());
        w.u64(self.range.start).u64(self.range.end).u64(self.delivered);
        w.into_bytes()
    }

    /// Reads a state.
    ///
    /// # Errors
    /// On anything that `encode` does not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut r = Reader::new(bytes);
        if r.u8("state format")? != FORMAT {
            return Err(WireError::Bad("state format"));
        }
        let cap = ReadCap::take(&mut r.array("capability")?);
        let range = r.u64("range start")?..r.u64("range end")?;
        let delivered = r.u64("delivered")?;
        r.finish()?;
        Ok(Self { cap, range, delivered })
    }
}

/// Which blocks of a store are confirmed, as numbers in the encoder's order.
///
/// | bytes | field |
/// |-------|-------|
/// | 1     | format, 1 |
/// | 32    | content hash |
/// | 8     | all blocks below this number |
/// | 2     | count n, at most 8,192 |
/// | 8·n   | and these, ascending, above it |
#[derive(Clone, PartialEq, Eq)]
pub struct StoreState {
    /// Hash of the content.
    pub hash: [u8; 32],
    /// All blocks below this number are stored.
    pub below: u64,
    /// And these.
    pub above: Vec<u64>,
}

impl StoreState {
    /// Nothing is stored.
    pub const fn new(hash: [u8; 32]) -> Self {
        Self { hash, below: 0, above: Vec::new() }
    }

    /// How many blocks are stored.
    pub fn count(&self) -> u64 {
        self.below + self.above.len() as u64
    }

    /// The bytes that `decode` reads.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.u8(FORMAT).bytes(&self.hash).u64(self.below);
        // More than can be confirmed out of order is forgotten: it is stored once more.
        let count = self.above.len().min(ABOVE_MAX);
        w.u16(u16::try_from(count).unwrap_or(0));
        for number in self.above.iter().take(count) {
            w.u64(*number);
        }
        w.into_bytes()
    }

    /// Reads a state.
    ///
    /// # Errors
    /// On anything that `encode` does not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut r = Reader::new(bytes);
        if r.u8("state format")? != FORMAT {
            return Err(WireError::Bad("state format"));
        }
        let hash = r.array("content hash")?;
        let below = r.u64("stored")?;
        let count = usize::from(r.u16("stored count")?);
        if count > ABOVE_MAX {
            return Err(WireError::Bad("stored count"));
        }
        let mut above = Vec::with_capacity(count);
        for _ in 0..count {
            let number = r.u64("stored number")?;
            if number <= above.last().copied().unwrap_or(below) {
                return Err(WireError::Bad("stored number"));
            }
            above.push(number);
        }
        r.finish()?;
        Ok(Self { hash, below, above })
    }
}

macro_rules! mute {
    ($($name:ident),*) => {$(
        /// Mute.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("_")
            }
        }
    )*};
}
mute!(FetchState, StoreState);
