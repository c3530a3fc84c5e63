//! Which blocks are worth a place in the cache: those that were asked for more often lately.
//!
//! Lives here: the count of uses, and the comparison. Does not live here: what is done with it
//! (`memory.rs`, `rocks.rs`).
//!
//! `TinyLFU` (Einziger, Friedman, Manes, ACM TOS 2017): a small count-min sketch remembers roughly how
//! often each block was put or asked for; a new block takes an old one's place only if it was wanted
//! more often. So a flood of blocks that nobody asks for twice leaves the cache as it was. All counts
//! are halved now and then, else what was once popular would stay for ever.

use warren_overlay::block::BlockAddress;

/// Rows of the sketch: independent guesses, of which the lowest is the best.
const ROWS: usize = 4;
/// A count goes no higher.
const COUNT_MAX: u8 = 15;
/// Counts are halved after so many uses for each block that fits into the cache.
const USES_PER_BLOCK: u64 = 10;
/// Most counters of a row: 4 MiB in all.
const WIDTH_MAX: usize = 1 << 20;

/// Counts of uses.
#[derive(Debug)]
pub(crate) struct Sketch {
    /// Empty until a block is used.
    counts: Vec<u8>,
    mask: usize,
    uses: u64,
    halve_at: u64,
}

impl Sketch {
    /// For a cache of so many blocks.
    pub(crate) fn new(blocks: u64) -> Self {
        let wanted = usize::try_from(blocks.saturating_mul(4)).unwrap_or(WIDTH_MAX);
        let width = wanted.clamp(64, WIDTH_MAX).next_power_of_two();
        let halve_at = blocks.max(16).saturating_mul(USES_PER_BLOCK);
        Self { counts: Vec::new(), mask: width - 1, uses: 0, halve_at }
    }

    /// Where a block's counters are: its address is a hash, so its own bytes will do.
    fn places(&self, address: &BlockAddress) -> [usize; ROWS] {
        let mut places = [0; ROWS];
        let parts = address.as_bytes().as_chunks::<8>().0;
        for (row, (place, part)) in places.iter_mut().zip(parts).enumerate() {
            let hash = usize::try_from(u64::from_be_bytes(*part) & 0xffff_ffff).unwrap_or(0);
            *place = row * (self.mask + 1) + (hash & self.mask);
        }
        places
    }

    /// The block was put or asked for.
    pub(crate) fn touch(&mut self, address: &BlockAddress) {
        if self.counts.is_empty() {
            self.counts = vec![0; (self.mask + 1) * ROWS];
        }
        for place in self.places(address) {
            if let Some(count) = self.counts.get_mut(place) {
                *count = (*count + 1).min(COUNT_MAX);
            }
        }
        self.uses += 1;
        if self.uses >= self.halve_at {
            self.uses /= 2;
            for count in &mut self.counts {
                *count /= 2;
            }
        }
    }

    /// About how often it was, lately.
    pub(crate) fn uses(&self, address: &BlockAddress) -> u8 {
        let counts = self.places(address).into_iter().filter_map(|at| self.counts.get(at));
        counts.min().copied().unwrap_or(0)
    }

    /// Whether a new block should take the place of an old one.
    pub(crate) fn prefers(&self, new: &BlockAddress, old: &BlockAddress) -> bool {
        self.uses(new) > self.uses(old)
    }
}

#[cfg(test)]
mod tests {
    use warren_overlay::crypto::kdf;

    use super::*;

    fn address(n: u32) -> BlockAddress {
        BlockAddress(kdf::hash("warren test address 1", &[&n.to_be_bytes()]))
    }

    #[test]
    fn what_is_wanted_often_is_preferred_and_old_fame_fades() {
        let mut sketch = Sketch::new(1_000);
        for _ in 0..6 {
            sketch.touch(&address(1));
        }
        sketch.touch(&address(2));
        assert!(sketch.prefers(&address(1), &address(2)));
        assert!(!sketch.prefers(&address(2), &address(1)));
        assert!(!sketch.prefers(&address(2), &address(2)), "a tie changes nothing");
        for n in 10..40_000 {
            sketch.touch(&address(n));
        }
        assert!(sketch.uses(&address(1)) < 6);
    }

    #[test]
    fn a_flood_of_blocks_seen_once_is_preferred_to_nothing_that_was_used() {
        let mut sketch = Sketch::new(1_000);
        for n in 0..1_000 {
            for _ in 0..4 {
                sketch.touch(&address(n));
            }
        }
        let flood = (1_000..5_000).filter(|n| {
            sketch.touch(&address(*n));
            sketch.prefers(&address(*n), &address(n % 1_000))
        });
        let count = flood.count();
        assert!(count < 80, "{count} of 4,000");
    }
}
