//! Which first messages have been seen: a repeat is garbage (PROTOCOL P4).
//!
//! Lives here: the bounded memory of ephemerals, shared by all handshakes of a router. Does not live
//! here: the minute inside message 1, which makes 20 min of memory enough (`handshake.rs`).

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use crate::{crypto::kdf, rng::Rng, time::Time};

/// How long a first message is remembered: its minute is accepted for 10 min either way.
const KEPT: Duration = Duration::from_mins(20);
/// Most first messages remembered (PROTOCOL P1); some 30 MB.
pub const REPLAY_MAX: usize = 1_000_000;

const CONTEXT: &str = "warren link replay 1";

/// Remembers ephemerals. When it is full new ones are refused: nothing is ever evicted early, since
/// that would let a flood make room for a replay.
#[derive(Debug)]
pub struct ReplayFilter {
    /// So that nobody can aim for collisions of the 8 bytes that are kept.
    key: [u8; 32],
    seen: BTreeSet<u64>,
    order: VecDeque<(Time, u64)>,
    limit: usize,
}

impl ReplayFilter {
    /// An empty filter of the usual size.
    pub fn new(rng: &mut Rng) -> Self {
        Self::with_limit(rng, REPLAY_MAX)
    }

    /// An empty filter for `limit` messages.
    pub fn with_limit(rng: &mut Rng, limit: usize) -> Self {
        Self { key: rng.bytes(), seen: BTreeSet::new(), order: VecDeque::new(), limit }
    }

    /// Whether a message with this ephemeral came before. Cheap; asked before any public-key work.
    pub fn has_seen(&self, ephemeral: &[u8; 32]) -> bool {
        self.seen.contains(&self.short(ephemeral))
    }

    /// Remembers an ephemeral; `false` if it is a repeat or there is no room.
    pub fn admit(&mut self, now: Time, ephemeral: &[u8; 32]) -> bool {
        while let Some((at, short)) = self.order.front().copied()
            && now.since(at) >= KEPT
        {
            self.order.pop_front();
            self.seen.remove(&short);
        }
        let short = self.short(ephemeral);
        if self.order.len() >= self.limit || !self.seen.insert(short) {
            return false;
        }
        if self.order.len() == self.order.capacity() {
            self.order.reserve_exact(8.max(self.order.len() / 8));
        }
        self.order.push_back((now, short));
        true
    }

    fn short(&self, ephemeral: &[u8; 32]) -> u64 {
        u64::from_be_bytes(kdf::derive(CONTEXT, &[&self.key, ephemeral]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_is_seen_for_twenty_minutes() {
        let mut filter = ReplayFilter::new(&mut Rng::from_seed([1; 32]));
        let start = Time::from_micros(5);
        assert!(!filter.has_seen(&[1; 32]));
        assert!(filter.admit(start, &[1; 32]));
        assert!(filter.has_seen(&[1; 32]));
        assert!(!filter.admit(start + KEPT.saturating_sub(Duration::from_secs(1)), &[1; 32]));
        assert!(filter.admit(start + KEPT, &[1; 32]));
    }

    #[test]
    fn a_full_filter_refuses_and_forgets_nothing() {
        let mut filter = ReplayFilter::with_limit(&mut Rng::from_seed([1; 32]), 2);
        assert!(filter.admit(Time::ZERO, &[1; 32]));
        assert!(filter.admit(Time::ZERO, &[2; 32]));
        assert!(!filter.admit(Time::ZERO, &[3; 32]));
        assert!(!filter.admit(Time::ZERO, &[1; 32]));
        assert!(filter.admit(Time::ZERO + KEPT, &[3; 32]));
    }
}
