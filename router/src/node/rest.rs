//! A node that gives back what it does not need.
//!
//! Lives here: when. Does not live here: what each machine can do without (the machine), links
//! (`LinkIo` notices by itself that nothing leaves any more).

use warren_overlay::{room::Room, time::Time};

use super::Node;

impl Node {
    /// Before a timer: nobody has anything to say then. Once a minute every machine is asked.
    pub(super) fn rest(&mut self, now: Time) {
        self.out.rest();
        if self.renew_at > now {
            return;
        }
        self.links.rest();
        self.reach.rest();
        self.ring.rest(now);
        self.transit.rest(now);
        self.pools.rest();
        self.inquiries.rest();
        self.queries.rest();
    }
}
