//! A node that gives back what it does not need.
//!
//! Lives here: when. Does not live here: what each machine can do without (the machine), links
//! (`LinkIo` notices by itself that nothing leaves any more).

use std::time::Duration;

use warren_overlay::{room::Room, time::Time};

use super::Node;

/// How often every machine is asked: what a burst needed is then held no longer.
const REST_EVERY: Duration = Duration::from_secs(15);

impl Node {
    /// Before a timer: nobody has anything to say then.
    pub(super) fn rest(&mut self, now: Time) {
        self.out.rest();
        if self.rest_at > now {
            return;
        }
        self.rest_at = now + REST_EVERY;
        self.links.rest();
        self.reach.rest();
        self.ring.rest(now);
        self.transit.rest(now);
        self.pools.rest();
        self.inquiries.rest();
        self.queries.rest();
    }
}
