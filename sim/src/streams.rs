//! Chance: one named stream for each purpose and router.
//!
//! Lives here: how a run's seed becomes generators and pair constants. Does not live here: the
//! distributions (`chance.rs`), the generator itself (`warren_overlay::rng`, `ChaCha20`: the same
//! numbers on every machine and in every version).
//!
//! Streams do not share state: a change of the workload draws no other latencies, and one more
//! router leaves those before it as they were (common random numbers).

use warren_overlay::rng::Rng;

/// Keeps these streams apart from everything else that hashes with BLAKE3.
const CONTEXT: &str = "warren simulator stream 1";

/// All streams of one run.
#[derive(Clone, Copy, Debug)]
pub struct Streams {
    seed: u64,
}

impl Streams {
    /// The streams that follow from `seed`.
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The seed.
    pub const fn seed(self) -> u64 {
        self.seed
    }

    /// The generator for `purpose` at `place` (a router, a service, an incarnation), from its start.
    pub fn of(self, purpose: &str, place: u64) -> Rng {
        Rng::from_seed(self.hash(purpose, place, 0))
    }

    /// A number that belongs to two places, the same either way round.
    pub fn pair(self, purpose: &str, a: u64, b: u64) -> u64 {
        let hash = self.hash(purpose, a.min(b), a.max(b));
        hash.first_chunk().map_or(0, |head| u64::from_le_bytes(*head))
    }

    fn hash(self, purpose: &str, a: u64, b: u64) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        for part in [self.seed, a, b] {
            hasher.update(&part.to_le_bytes());
        }
        *hasher.update(purpose.as_bytes()).finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_seed_purpose_and_place_has_numbers_of_its_own() {
        let first = |seed, purpose, place| Streams::new(seed).of(purpose, place).below(u64::MAX);
        let base = first(1, "jitter", 1);
        assert_eq!(base, first(1, "jitter", 1));
        for other in [first(2, "jitter", 1), first(1, "churn", 1), first(1, "jitter", 2)] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn a_pair_is_the_same_from_both_sides() {
        let streams = Streams::new(3);
        assert_eq!(streams.pair("way", 4, 9), streams.pair("way", 9, 4));
        assert_ne!(streams.pair("way", 4, 9), streams.pair("way", 4, 8));
    }

    #[test]
    fn streams_are_the_same_on_every_machine() {
        assert_eq!(Streams::new(7).of("vector", 1).below(1 << 32), VECTOR);
    }

    /// Written down when the format was made; a change of it is a change of every result.
    const VECTOR: u64 = 3_749_166_206;
}
