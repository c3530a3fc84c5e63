//! The router-wide bound on memory for what waits: cells of lanes, end hops and legs, bytes of
//! sessions.
//!
//! Lives here: when to look, how much is too much, who goes first, and refusing tunnels of others
//! meanwhile. Does not live here: counting what a part keeps, and ending it (`LinkIo`, `End`).
//!
//! Credits bound every single queue by construction, and half of the quota bounds what peers may
//! send over all lanes together. This is for the sum of the rest: many sessions, many splices. Memory
//! grows only by what comes from sockets and applications, so it is looked at after every so many
//! bytes of that, and never per cell.

use warren_overlay::{
    id::{EndNo, LinkNo, TunnelId},
    time::{Now, Time},
};

use super::{Host, LinkState, mail::Address};
use crate::node::NodeInput;

/// The memory is looked at after at most so many new bytes.
const STEP_MAX: usize = 4 << 20;

/// Whose data waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiter {
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
    /// A quota of `bytes`. What waits never exceeds fifteen sixteenths of it: it is cut when it might before
    /// the next look. The rest is for what takes memory and is not counted: streams' tasks, gaps between
    /// buffers.
    pub(super) fn new(bytes: u64) -> Self {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let step = (bytes / 16).min(STEP_MAX);
        Self { quota: bytes, limit: bytes - bytes / 16 - step, step, grown: 0 }
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
fn victims(waiting: impl Iterator<Item = (Time, Waiter, usize)>, excess: usize) -> Vec<Waiter> {
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

/// What a router can be short of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) memory: bool,
    pub(super) processor: bool,
}

impl Host {
    /// What comes waits long before it is handled, or does so no more.
    pub fn late(&mut self, now: Now, late: bool) {
        self.judge(now, Load { processor: late, ..self.loaded });
    }

    /// Tells the node when builds of others are to be refused before any costly work, and when not.
    fn judge(&mut self, now: Now, load: Load) {
        if self.loaded != load {
            self.loaded = load;
            let loaded = load.memory || load.processor;
            self.node(now, NodeInput::Loaded(loaded));
        }
    }

    /// Ends what has waited longest, if memory runs short (DESIGN section 6).
    pub(super) fn look_at_memory(&mut self, now: Now, look: bool) {
        if !look {
            return;
        }
        let held = self.memory_held();
        let memory = self.memory.is_short(held) || self.settings.quota.is_short();
        self.judge(now, Load { memory, ..self.loaded });
        if self.memory.excess(held) == 0 {
            return;
        }
        for link in self.links.values_mut() {
            if let LinkState::Up(io) = link {
                io.rest();
            }
        }
        let excess = self.memory.excess(self.memory_held());
        let lanes = self.up_links().flat_map(|(no, io)| {
            io.waiting().map(move |(since, lane, bytes)| (since, Waiter::Lane(no, lane), bytes))
        });
        let sessions = self.ends.iter().flat_map(|(no, end)| {
            end.waiting().map(|(since, id, bytes)| (since, Waiter::Session(*no, id), bytes))
        });
        let victims = victims(lanes.chain(sessions), excess);
        self.shed += victims.len() as u64;
        tracing::debug!(count = victims.len(), "out of memory for what waits: the oldest ended");
        for victim in victims {
            match victim {
                Waiter::Lane(link, lane) => {
                    if let Some(LinkState::Up(io)) = self.links.get_mut(&link) {
                        io.shed(lane);
                        self.touched.insert(Address::Link(link));
                    }
                }
                Waiter::Session(end, session) => {
                    if let Some(machine) = self.ends.get_mut(&end) {
                        machine.shed(now, session);
                        self.touched.insert(Address::End(end));
                    }
                }
            }
        }
        self.settle(now);
    }
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
            assert!(held <= 60 << 20);
        }
        assert!((30..50).contains(&looks), "{looks}");
    }
}
