//! What one neighbour may ask of this hop.
//!
//! Lives here: its bucket of builds, how many tunnels it has here, and how many of its builds go on
//! to one router. Does not live here: turns between neighbours (`gate.rs`).

use super::{BURST, RATE};
use crate::{
    bucket::{Bucket, Refill},
    id::RouterId,
    table::Table,
    time::Time,
};

/// Builds of one neighbour that go on to one and the same router, a second and at once. Owners draw
/// their hops: nobody's honest builds all meet at one router, so that a flood aimed at one through
/// honest routers comes out of each of them as a trickle.
const ONWARD: Refill = Refill::per_second(4, 40);
/// Routers counted at one time for one neighbour; others wait until one of these is forgotten.
const ONWARD_MAX: usize = 64;

const BUILDS: Refill = Refill::per_second(RATE, BURST);

/// What is known of one neighbour; goes with its link.
#[derive(Debug)]
pub(super) struct Neighbour {
    builds: Bucket,
    /// Tunnels and pending builds that came from it.
    pub(super) held: usize,
    /// Of these, builds that wait for their next hop.
    pub(super) pending: usize,
    /// Buckets that are not full, by next hop.
    onward: Table<RouterId, Bucket>,
}

impl Neighbour {
    pub(super) const fn new() -> Self {
        Self { builds: Bucket::full(), held: 0, pending: 0, onward: Table::new() }
    }

    /// Whether it may send one more build.
    pub(super) fn may_build(&mut self, now: Time) -> bool {
        self.builds.take(now, BUILDS)
    }

    /// Gives up the room of buckets that are full again.
    pub(super) fn rest(&mut self, now: Time) {
        self.onward.retain(|_, bucket| !bucket.is_full(now));
        self.onward.rest();
    }

    /// Whether one more build of it may go on to `next`.
    pub(super) fn may_go_on(&mut self, now: Time, next: RouterId) -> bool {
        if self.onward.len() >= ONWARD_MAX && !self.onward.contains_key(&next) {
            self.onward.retain(|_, bucket| !bucket.is_full(now));
            if self.onward.len() >= ONWARD_MAX {
                return false;
            }
        }
        let bucket = self.onward.get_or_insert_with(next, Bucket::full);
        bucket.take(now, ONWARD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_to_one_router_are_few_and_to_many_are_not() {
        let mut neighbour = Neighbour::new();
        let to = |n: u8| RouterId([n; 32]);
        let allowed = |neighbour: &mut Neighbour, now, n| {
            (0..200).filter(|_| neighbour.may_go_on(now, to(n))).count()
        };
        assert_eq!(allowed(&mut neighbour, Time::ZERO, 0), 40);
        assert_eq!(allowed(&mut neighbour, Time::from_micros(1_000_000), 0), 4);
        assert_eq!(allowed(&mut neighbour, Time::from_micros(1_000_000), 1), 40);
        // The table is bounded, and rests when its buckets have filled again.
        let soon = Time::from_micros(1_000_000);
        let counted = (2..=255).filter(|n| neighbour.may_go_on(soon, to(*n))).count();
        assert_eq!((counted, neighbour.onward.len()), (62, ONWARD_MAX));
        let later = Time::from_micros(60_000_000);
        assert!(neighbour.may_go_on(later, to(255)));
        assert_eq!(neighbour.onward.len(), 1);
    }
}
