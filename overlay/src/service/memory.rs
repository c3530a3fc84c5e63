//! The highest descriptor version that was seen of each service.
//!
//! Lives here: a bounded memory that makes rollback visible. Does not live here: the comparison
//! (`lookup.rs`). Holds no names: its keys are MACs under a key that lives as long as the process.

use std::{fmt, num::NonZeroUsize};

use lru::LruCache;

use super::Name;
use crate::{
    crypto::{kdf, secret::Secret},
    rng::Rng,
};

/// Services remembered. At 24 bytes of content each this is little memory; more are hardly visited
/// within the 3 hours for which an old record is good, and forgetting one costs no more than that.
pub const REMEMBERED_MAX: usize = 4_096;

/// Highest versions by service; the one not asked about for longest is forgotten first.
///
/// One per isolation context: shared between contexts, it would tell one what another has read.
pub struct VersionMemory {
    key: Secret<32>,
    seen: LruCache<[u8; 16], u64>,
}

impl VersionMemory {
    /// An empty memory for [`REMEMBERED_MAX`] services.
    pub fn new(rng: &mut Rng) -> Self {
        Self::with_capacity(rng, REMEMBERED_MAX)
    }

    /// An empty memory for `services` services, at least one.
    pub fn with_capacity(rng: &mut Rng, services: usize) -> Self {
        let services = NonZeroUsize::new(services).unwrap_or(NonZeroUsize::MIN);
        Self { key: Secret::random(rng), seen: LruCache::new(services) }
    }

    /// The lowest version that a lookup of `name` may still accept; zero for one never seen.
    pub fn floor(&mut self, name: &Name) -> u64 {
        let at = self.at(name);
        self.seen.get(&at).copied().unwrap_or(0)
    }

    /// Remembers that `version` was read; a lower one than before changes nothing.
    pub fn remember(&mut self, name: &Name, version: u64) {
        let at = self.at(name);
        let highest = self.seen.get(&at).copied().unwrap_or(0).max(version);
        self.seen.put(at, highest);
    }

    fn at(&self, name: &Name) -> [u8; 16] {
        kdf::mac16(self.key.expose_secret(), &[name.key()])
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

    fn name(seed: u8) -> Name {
        Name::of_service(&ServiceKey::generate(&mut Rng::from_seed([seed; 32])))
    }

    #[test]
    fn only_a_higher_version_is_remembered() {
        let mut memory = VersionMemory::new(&mut Rng::from_seed([0; 32]));
        assert_eq!(memory.floor(&name(1)), 0);
        memory.remember(&name(1), 7);
        memory.remember(&name(1), 5);
        assert_eq!((memory.floor(&name(1)), memory.floor(&name(2))), (7, 0));
    }

    #[test]
    fn the_one_not_asked_about_for_longest_is_forgotten() {
        let mut memory = VersionMemory::with_capacity(&mut Rng::from_seed([0; 32]), 2);
        memory.remember(&name(1), 1);
        memory.remember(&name(2), 2);
        memory.floor(&name(1));
        memory.remember(&name(3), 3);
        assert_eq!([1, 2, 3].map(|seed| memory.floor(&name(seed))), [1, 0, 3]);
        assert_eq!(format!("{memory:?}"), "VersionMemory(2)");
    }
}
