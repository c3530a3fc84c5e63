//! Who saw a request already: a small Bloom filter that travels with it.
//!
//! Lives here: the 256 bits and a router's marks in them. Does not live here: what a hop does with
//! it (`request.rs`).
//!
//! Names nobody: whoever holds the filter can test a router it knows, with false positives. Twenty
//! routers (the whole budget) set 80 of the 256 bits and make a stranger look visited in under 1 %
//! of the cases; backtracking goes round that. A filter with more than half its bits set is no
//! honest one, and would make every router look visited: it is refused.

use crate::{crypto::kdf, id::RouterId};

/// Bits of an honest filter at most: 20 hops and as many failed tries fit with room to spare.
const BITS_MAX: u32 = 128;

/// Bloom filter of 256 bits, 4 marks a router.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Visited([u8; 32]);

impl Visited {
    /// The filter with these bits, unless more than half of them are set.
    pub fn from_bytes(bytes: [u8; 32]) -> Option<Self> {
        let bits: u32 = bytes.iter().map(|byte| byte.count_ones()).sum();
        (bits <= BITS_MAX).then_some(Self(bytes))
    }

    /// The bits, lowest bit of the first byte first.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The four bit numbers that stand for a router.
    pub fn marks(id: &RouterId) -> [u8; 4] {
        kdf::derive("warren ring visited 1", &[id.as_bytes()])
    }

    /// Adds a router by its marks; once the filter is full it stays as it is.
    pub fn insert(&mut self, marks: [u8; 4]) {
        let mut fuller = self.0;
        for mark in marks {
            if let Some(byte) = fuller.get_mut(usize::from(mark / 8)) {
                *byte |= 1 << (mark % 8);
            }
        }
        if let Some(fuller) = Self::from_bytes(fuller) {
            *self = fuller;
        }
    }

    /// Whether the router with these marks was added, or looks like it.
    pub fn contains(&self, marks: [u8; 4]) -> bool {
        marks.iter().all(|mark| {
            self.0.get(usize::from(mark / 8)).is_some_and(|byte| byte >> (mark % 8) & 1 == 1)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(number: u32) -> [u8; 4] {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&number.to_be_bytes());
        Visited::marks(&RouterId(id))
    }

    #[test]
    fn who_was_added_is_found_and_few_others_are() {
        let mut visited = Visited::default();
        for number in 0..20 {
            visited.insert(marks(number));
        }
        assert!((0..20).all(|number| visited.contains(marks(number))));
        let strangers = (1_000..11_000).filter(|number| visited.contains(marks(*number))).count();
        assert!(strangers < 200, "{strangers} of 10,000");
    }

    #[test]
    fn a_filter_never_grows_past_half_full() {
        let mut visited = Visited::default();
        for number in 0..1_000 {
            visited.insert(marks(number));
        }
        assert!(Visited::from_bytes(*visited.as_bytes()).is_some());
        assert!(Visited::from_bytes([0xff; 32]).is_none());
    }
}
