//! Which builds were seen already.
//!
//! Lives here: the window over the ephemeral keys of opened records (PROTOCOL P1). Does not live
//! here: who is asked before it (the bucket and load check in `transit.rs`).

use std::collections::{BTreeMap, BTreeSet};

use super::open::OpenError;
use crate::time::Wall;

/// How long an ephemeral is remembered, in minutes after the minute in its record.
pub const REPLAY_MINUTES: u32 = 20;
/// How old a record may be, or how far ahead, in minutes: where clocks are off by five minutes either
/// way, two of them differ by ten. Links and sessions take no more either.
const MINUTES_OFF_MAX: u32 = 10;

/// Remembers builds for as long as their minute would pass, and forgets none earlier: when full, new
/// builds are refused. Else a flood of builds would push out the one that is to be replayed.
#[derive(Debug)]
pub struct ReplayWindow {
    /// By the record's minute, so that whole minutes are dropped at once; at most 31 of them.
    seen: BTreeMap<Wall, BTreeSet<[u8; 16]>>,
    len: usize,
    capacity: usize,
}

impl ReplayWindow {
    /// The most builds remembered: 20 minutes at 870 a second, about 40 MB when full.
    pub const CAPACITY_MAX: usize = 1_000_000;

    /// An empty window for up to `capacity` builds in 20 minutes.
    pub fn new(capacity: usize) -> Self {
        Self { seen: BTreeMap::new(), len: 0, capacity: capacity.min(Self::CAPACITY_MAX) }
    }

    /// Whether a build would be refused as busy: asked before any costly work.
    pub fn is_full(&mut self, wall: Wall) -> bool {
        self.forget(wall);
        self.len >= self.capacity
    }

    /// Notes the build whose record was made at `made`, unless it must be refused.
    pub(super) fn insert(
        &mut self,
        wall: Wall,
        made: Wall,
        mark: [u8; 16],
    ) -> Result<(), OpenError> {
        if !made.within(wall, MINUTES_OFF_MAX, MINUTES_OFF_MAX) {
            return Err(OpenError::Expired);
        }
        if self.seen.get(&made).is_some_and(|marks| marks.contains(&mark)) {
            return Err(OpenError::Replayed);
        }
        if self.is_full(wall) {
            return Err(OpenError::Busy);
        }
        self.seen.entry(made).or_default().insert(mark);
        self.len += 1;
        Ok(())
    }

    fn forget(&mut self, wall: Wall) {
        while let Some(oldest) = self.seen.first_entry() {
            if oldest.key().plus(REPLAY_MINUTES) >= wall {
                return;
            }
            self.len = self.len.saturating_sub(oldest.remove().len());
        }
    }
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self::new(Self::CAPACITY_MAX)
    }
}
