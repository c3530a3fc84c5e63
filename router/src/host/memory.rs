//! The router-wide bound on memory for what waits: cells of lanes, end hops and legs, bytes of
//! sessions.
//!
//! Lives here: when to look, how much is too much, and who goes first. Does not live here: counting
//! what a part keeps, and ending it (`LinkIo`, `End`).
//!
//! Credits bound every single queue by construction, and half of the quota bounds what peers may
//! send over all lanes together. This is for the sum of the rest: many sessions, many splices. Memory
//! grows only by what comes from sockets and applications, so it is looked at after every so many
//! bytes of that, and never per cell.

use warren_overlay::{
    id::{EndNo, LinkNo, TunnelId},
    time::Time,
};

/// The memory is looked at after at most so many new bytes.
const STEP_MAX: usize = 4 << 20;

/// Whose data waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiter {
    /// A tunnel or leg through this router.
    Lane(LinkNo, TunnelId),
    /// A conversation of this router's own.
    Session(EndNo, u32),
}

/// The quota.
#[derive(Debug)]
pub(super) struct Memory {
    quota: usize,
    limit: usize,
    step: usize,
    /// Bytes that came since the last look.
    grown: usize,
}

impl Memory {
    /// A quota of `bytes`. What waits never exceeds it: it is cut when it might before the next look.
    pub(super) fn new(bytes: u64) -> Self {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let step = (bytes / 16).min(STEP_MAX);
        Self { quota: bytes, limit: bytes - step, step, grown: 0 }
    }

    /// The quota in bytes.
    pub(super) const fn quota(&self) -> usize {
        self.quota
    }

    /// Takes note of `bytes` that came; true if it is time to look.
    pub(super) const fn grew(&mut self, bytes: usize) -> bool {
        self.grown = self.grown.saturating_add(bytes);
        let look = self.grown >= self.step;
        if look {
            self.grown = 0;
        }
        look
    }

    /// Whether over three quarters are used: no time for more tunnels.
    pub(super) const fn is_short(&self, held: usize) -> bool {
        held > self.quota / 4 * 3
    }

    /// How much of `held` bytes is too much.
    pub(super) const fn excess(&self, held: usize) -> usize {
        held.saturating_sub(self.limit)
    }
}

/// Whom to end so that at least `excess` bytes become free: who has waited longest first.
pub(super) fn victims(
    waiting: impl Iterator<Item = (Time, Waiter, usize)>,
    excess: usize,
) -> Vec<Waiter> {
    let mut waiting: Vec<_> = waiting.collect();
    waiting.sort_by_key(|(since, ..)| *since);
    let mut freed = 0;
    let mut chosen = Vec::new();
    for (_, waiter, bytes) in waiting {
        if freed >= excess {
            break;
        }
        freed += bytes;
        chosen.push(waiter);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn session(number: u32) -> Waiter {
        Waiter::Session(EndNo(1), number)
    }

    #[test]
    fn whoever_has_waited_longest_goes_first_and_no_more_than_need_be() {
        let waiting = [(30, 9_000), (10, 2_000), (20, 500), (40, 50_000)];
        let waiting = || {
            let at = |(since, bytes): (u32, usize)| {
                (Time::from_micros(since.into()), session(since), bytes)
            };
            waiting.into_iter().map(at)
        };
        assert_eq!(victims(waiting(), 0), []);
        assert_eq!(victims(waiting(), 2_000), [session(10)]);
        assert_eq!(victims(waiting(), 2_001), [session(10), session(20)]);
        assert_eq!(victims(waiting(), 1 << 30).len(), 4);
    }

    #[test]
    fn what_comes_between_two_looks_fits() {
        let mut memory = Memory::new(64 << 20);
        let (mut held, mut looks) = (0usize, 0);
        for _ in 0..100_000 {
            held += 1_500;
            if memory.grew(1_500) {
                looks += 1;
                held -= memory.excess(held);
            }
            assert!(held <= 64 << 20);
        }
        assert!((30..50).contains(&looks), "{looks}");
    }
}
