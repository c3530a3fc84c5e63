//! A node whose machine slept, or is in another network now.
//!
//! Lives here: beginning anew without waiting for what is gone. Does not live here: noticing that a
//! machine slept or moved (driver).

use std::time::Duration;

use warren_overlay::{
    ring,
    time::{Now, Time},
    tunnel::pools::PoolsInput,
    wire::Address,
};

use super::{Door, Node, NodeOutput};

/// A node that is so late has slept: longer than any peer waits for a silent link (docs/spec/link.md,
/// "Silence").
const SLEPT: Duration = Duration::from_secs(15);
/// How often it is looked whether it was.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// When it is looked for sleep next.
pub(super) fn look_at(now: Now) -> Time {
    now.time + LOOK_EVERY
}

impl Node {
    /// A timer that is so late shows that this process stood still.
    pub(super) fn notice_sleep(&mut self, now: Now) {
        let due = self.awake_at;
        if due <= now.time {
            self.awake_at = look_at(now);
        }
        if due + SLEPT <= now.time {
            self.start_over(now);
        }
    }

    /// Leaves every link, and makes all that is needed anew, without the pauses that failures have
    /// earned: they say nothing of how it is now.
    fn start_over(&mut self, now: Now) {
        let neighbours = self.ring.neighbours().cloned().collect();
        for link in self.links.all() {
            self.link_down(now, link);
            self.out.push_back(NodeOutput::Shut { link });
        }
        self.links.forgive();
        self.friends.forgive(now.time);
        self.pools.handle_input(now, PoolsInput::Woke);
        let seeds = self.saved_peers.clone();
        let start = ring::Input::Start { seeds, cached: neighbours };
        self.ring.handle_input(now, start);
        self.wire(now);
    }

    /// Its links carry so much each way from now on, in kbit/s.
    pub(crate) fn set_bandwidth(&mut self, kbps: u32) {
        self.pools.set_bandwidth(kbps);
    }

    /// Others reach it there; whether they do, is asked anew.
    pub(super) fn open_door(&mut self, now: Now, door: Door, also: Option<Address>) {
        self.also = also;
        self.reach.begin(now.time, door);
        self.settle_door(now);
    }

    /// Others reach it elsewhere, and its links lead nowhere.
    pub(super) fn moved(&mut self, now: Now, door: Option<(Door, Option<Address>)>) {
        if let Some((door, also)) = door {
            self.open_door(now, door, also);
        }
        self.start_over(now);
    }
}
