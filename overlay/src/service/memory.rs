//! The highest descriptor version that was seen of each service.
//!
//! Lives here: a bounded memory that makes rollback visible. Does not live here: the comparison
//! (`lookup.rs`). Holds no names: its keys are MACs under a key that lives as long as the process.

use std::fmt;

use lru::LruCache;

use super::Name;
use crate::{
    crypto::{kdf, secret::Secret},
    rng::Rng,
};

/// Pairs of context and service remembered. At 24 bytes of content each this is little memory; more are hardly visited
/// within the 3 hours for which an old record is good, and forgetting one costs no more than that.
pub const REMEMBERED_MAX: usize = 4_096;

/// Highest versions by isolation context and service; the one not asked about for longest is
/// forgotten first.
///
/// By context, for whoever serves an old record could tell by its refusal what another context of
/// this router has read. It outlives a context's conversation: the same context gets its floor again.
/// In memory only: on disk it would be a list of what a person visits.
pub struct VersionMemory {
    key: Secret<32>,
    /// Takes memory as it fills, not before.
    seen: LruCache<[u8; 16], u64>,
    most: usize,
}

impl VersionMemory {
    /// An empty memory for [`REMEMBERED_MAX`] pairs.
    pub fn new(rng: &mut Rng) -> Self {
        Self::with_capacity(rng, REMEMBERED_MAX)
    }

    /// An empty memory for `services` pairs, at least one.
    pub fn with_capacity(rng: &mut Rng, services: usize) -> Self {
        Self { key: Secret::random(rng), seen: LruCache::unbounded(), most: services.max(1) }
    }

    /// The lowest version that a lookup of `name` in `context` may still accept; zero for one never
    /// seen there.
    pub fn floor(&mut self, context: &[u8; 32], name: &Name) -> u64 {
        let at = self.at(context, name);
        self.seen.get(&at).copied().unwrap_or(0)
    }

    /// Remembers that `version` was read in `context`; a lower one than before changes nothing.
    pub fn remember(&mut self, context: &[u8; 32], name: &Name, version: u64) {
        let at = self.at(context, name);
        let highest = self.seen.get(&at).copied().unwrap_or(0).max(version);
        self.seen.put(at, highest);
        if self.seen.len() > self.most {
            self.seen.pop_lru();
        }
    }

    fn at(&self, context: &[u8; 32], name: &Name) -> [u8; 16] {
        kdf::mac16(self.key.expose_secret(), &[context, name.key()])
    }
}

/// Says only how many.
impl fmt::Debug for VersionMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VersionMemory({})", self.seen.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::blind::ServiceKey;

    const HERE: [u8; 32] = [1; 32];

    fn name(seed: u8) -> Name {
        Name::of_service(&ServiceKey::generate(&mut Rng::from_seed([seed; 32])))
    }

    #[test]
    fn only_a_higher_version_is_remembered() {
        let mut memory = VersionMemory::new(&mut Rng::from_seed([0; 32]));
        assert_eq!(memory.floor(&HERE, &name(1)), 0);
        memory.remember(&HERE, &name(1), 7);
        memory.remember(&HERE, &name(1), 5);
        assert_eq!((memory.floor(&HERE, &name(1)), memory.floor(&HERE, &name(2))), (7, 0));
    }

    #[test]
    fn the_one_not_asked_about_for_longest_is_forgotten() {
        let mut memory = VersionMemory::with_capacity(&mut Rng::from_seed([0; 32]), 2);
        memory.remember(&HERE, &name(1), 1);
        memory.remember(&HERE, &name(2), 2);
        memory.floor(&HERE, &name(1));
        memory.remember(&HERE, &name(3), 3);
        assert_eq!([1, 2, 3].map(|seed| memory.floor(&HERE, &name(seed))), [1, 0, 3]);
        assert_eq!(format!("{memory:?}"), "VersionMemory(2)");
    }

    #[test]
    fn what_one_context_has_read_says_nothing_to_another() {
        let mut memory = VersionMemory::new(&mut Rng::from_seed([0; 32]));
        memory.remember(&HERE, &name(1), 7);
        assert_eq!((memory.floor(&HERE, &name(1)), memory.floor(&[2; 32], &name(1))), (7, 0));
    }
}
