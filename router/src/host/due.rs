//! Whose turn it is: which parts have something to say, and which want to be woken when.
//!
//! Lives here: the two books. Does not live here: the parts (`host.rs`).
//!
//! A part's deadline mostly moves away, with every frame that comes or goes. So only an earlier one
//! is written down; one that has moved away is found out when its old time comes, and written down
//! anew. Waking for nothing now and then is cheaper than an entry per frame.

use std::collections::BTreeSet;

use warren_overlay::{table::Table, time::Time};

use super::mail::Address;

/// Parts with something to say, each once; few at any time.
#[derive(Debug, Default)]
pub(super) struct Touched(Vec<Address>);

impl Touched {
    /// Notes that `part` may have something to say.
    pub(super) fn insert(&mut self, part: Address) {
        // Last first, so that the first is taken from the end.
        if let Err(at) = self.0.binary_search_by(|other| part.cmp(other)) {
            self.0.insert(at, part);
        }
    }

    /// The first of them.
    pub(super) fn pop_first(&mut self) -> Option<Address> {
        self.0.pop()
    }

    /// Whether there are none.
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// When parts want to be woken, or earlier.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    order: BTreeSet<(Time, Address)>,
    of: Table<Address, Time>,
}

impl Deadlines {
    /// `part` wants to be woken at `at`; changes nothing if it will be earlier.
    pub(super) fn arm(&mut self, part: Address, at: Option<Time>) {
        let Some(at) = at else { return };
        let before = self.of.get(&part).copied();
        if before.is_some_and(|before| before <= at) {
            return;
        }
        if let Some(before) = before {
            self.order.remove(&(before, part));
        }
        self.order.insert((at, part));
        self.of.insert(part, at);
    }

    /// Takes the parts whose time has come by `now`, in their order.
    pub(super) fn take(&mut self, now: Time) -> Vec<Address> {
        let mut parts = Vec::new();
        while let Some(first) = self.order.first().copied().filter(|(at, _)| *at <= now) {
            self.order.remove(&first);
            self.of.remove(&first.1);
            parts.push(first.1);
        }
        parts.sort_unstable();
        parts
    }

    /// Gives up room that nothing needs.
    pub(super) fn rest(&mut self) {
        self.of.rest();
    }

    /// The earliest.
    pub(super) fn first(&self) -> Option<Time> {
        self.order.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use warren_overlay::id::LinkNo;

    use super::*;

    const fn at(micros: u64) -> Time {
        Time::from_micros(micros)
    }

    #[test]
    fn parts_speak_in_order_and_once() {
        let mut touched = Touched::default();
        for part in [Address::Link(LinkNo(7)), Address::Node, Address::Link(LinkNo(2))] {
            touched.insert(part);
            touched.insert(part);
        }
        let order: Vec<_> = std::iter::from_fn(|| touched.pop_first()).collect();
        assert_eq!(order, [Address::Node, Address::Link(LinkNo(2)), Address::Link(LinkNo(7))]);
        assert!(touched.is_empty());
    }

    proptest! {
        /// Every part is woken by the earliest time that it named since it was woken last.
        #[test]
        fn nobody_is_woken_late(
            steps in prop::collection::vec((0u32..6, 0u64..500, any::<bool>()), 1..200),
        ) {
            let mut deadlines = Deadlines::default();
            let mut wanted = BTreeMap::new();
            let mut now = 0;
            for (part, later, wake) in steps {
                if wake {
                    now += later / 4;
                    for part in deadlines.take(at(now)) {
                        wanted.remove(&part);
                    }
                    prop_assert!(wanted.values().all(|due| *due > at(now)));
                } else {
                    let (part, due) = (Address::Link(LinkNo(part)), at(now + later + 1));
                    deadlines.arm(part, Some(due));
                    let earliest = wanted.entry(part).or_insert(due);
                    *earliest = due.min(*earliest);
                }
                prop_assert_eq!(deadlines.first(), wanted.values().min().copied());
            }
        }
    }
}
