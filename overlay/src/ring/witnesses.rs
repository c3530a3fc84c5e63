//! Since when a router has been heard of, and from how many places it was named.
//!
//! Lives here: that, of the routers that are known. Does not live here: who is known (`view.rs`), what it is
//! needed for: whom a router takes for a guard (`tunnel/layers.rs`; PROTOCOL P11).
//!
//! Whoever wants to be drawn as a guard within hours of appearing has to be there for a day, and to be named by
//! neighbours in five places. One who names itself, over however many links of one place, is one.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    id::RouterId,
    room::Room,
    time::Time,
    wire::{Prefix, RouterDescriptor},
};

/// So long a guard must have been heard of.
const LONG: Duration = Duration::from_hours(24);
/// And from neighbours in so many places.
const PLACES: usize = 5;

#[derive(Debug)]
struct Named {
    since: Time,
    /// At most [`PLACES`], no two alike.
    by: Vec<Prefix>,
}

/// What is known of the known: some hundred bytes each.
#[derive(Debug, Default)]
pub(super) struct Witnesses(BTreeMap<RouterId, Named>);

impl Witnesses {
    /// A neighbour there names that router, not itself.
    pub(super) fn named(&mut self, now: Time, router: &RouterDescriptor, by: Prefix) {
        let fresh = || Named { since: now, by: Vec::new() };
        let named = self.0.entry(router.id()).or_insert_with(fresh);
        if named.by.len() < PLACES && !named.by.contains(&by) {
            named.by.push(by);
        }
    }

    /// Forgets those that are not known any more.
    pub(super) fn keep(&mut self, known: impl Fn(&RouterId) -> bool) {
        self.0.retain(|id, _| known(id));
    }

    /// Those who were heard of long ago and from places enough.
    pub(super) fn seasoned(&self, now: Time) -> BTreeSet<RouterId> {
        let is = |named: &Named| named.by.len() == PLACES && now.since(named.since) >= LONG;
        self.0.iter().filter(|(_, named)| is(named)).map(|(id, _)| *id).collect()
    }

    /// Gives up room that nothing needs.
    pub(super) fn rest(&mut self) {
        self.0.rest();
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::{ring::testing::descriptor, wire::Address};

    fn place(number: u8) -> Prefix {
        Address::from(SocketAddr::from(([20 + number, 1, 1, 1], 9_000))).prefix()
    }

    fn at(hours: u64) -> Time {
        Time::ZERO + Duration::from_hours(hours)
    }

    #[test]
    fn a_router_is_seasoned_after_a_day_and_five_places_and_not_before() {
        let mut all = Witnesses::default();
        (0..5).for_each(|by| all.named(at(0), &descriptor(1), place(by)));
        (0..4).for_each(|by| all.named(at(0), &descriptor(2), place(by)));
        (0..40).for_each(|_| all.named(at(0), &descriptor(3), place(1)));
        (0..5).for_each(|by| all.named(at(20), &descriptor(4), place(by)));
        assert!(all.seasoned(at(23)).is_empty());
        assert_eq!(all.seasoned(at(24)), [descriptor(1).id()].into());
        all.named(at(30), &descriptor(2), place(9));
        assert_eq!(all.seasoned(at(30)), [descriptor(1).id(), descriptor(2).id()].into());
        all.keep(|id| *id != descriptor(1).id());
        assert_eq!(all.seasoned(at(50)), [descriptor(2).id(), descriptor(4).id()].into());
    }
}
