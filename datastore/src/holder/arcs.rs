//! For which stretches of the ring this router is among the three closest, and who the two others are.
//!
//! Lives here: the geometry, from places alone. Does not live here: what follows from it (`compare.rs`,
//! `repair.rs`).
//!
//! Whoever is closest to a point stands next to it: the three closest are three in a row on the ring. Of three
//! in a row, the outer ones give way half-way to the next beyond the far end:
//!
//! ```text
//!       h      i    j         k      l
//!  ─────o──────o────o─────────o──────o─────
//!                [──────────]                 closest here: i, j, k
//!          half-way h to k,  half-way i to l
//! ```

use warren_overlay::{
    block::BlockAddress,
    id::{LinkNo, Location},
    ring::{REPLICAS, Stretch},
};

/// Where this router and two others are the three closest.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Arc {
    stretch: Stretch,
    others: Vec<LinkNo>,
}

/// All stretches for which this router is among the three closest, as far as it knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Arcs(Vec<Arc>);

/// The point half-way from one place to another, going up.
const fn midway(from: Location, to: Location) -> u64 {
    from.0.wrapping_add(to.0.wrapping_sub(from.0) / 2)
}

impl Arcs {
    /// Those of a router at `own` with these neighbours.
    pub(super) fn new(own: Location, around: &[(LinkNo, Location)]) -> Self {
        let mut ring: Vec<(Location, Option<LinkNo>)> =
            around.iter().map(|(link, place)| (*place, Some(*link))).collect();
        ring.push((own, None));
        ring.sort_unstable();
        let routers = ring.len();
        if routers <= REPLICAS {
            let others = around.iter().map(|(link, _)| *link).collect();
            return Self(vec![Arc { stretch: Stretch::whole(), others }]);
        }
        let at = |number: usize| ring.get(number % routers).copied().unwrap_or((own, None));
        let here = ring.iter().position(|(_, link)| link.is_none()).unwrap_or(0);
        let mut arcs = Vec::new();
        // Of each three in a row that this router is one of, the first.
        for first in (here + routers + 1 - REPLICAS)..=(here + routers) {
            let row = [at(first), at(first + 1), at(first + 2)];
            let from = midway(at(first + routers - 1).0, at(first + 2).0).wrapping_add(1);
            let to = midway(at(first).0, at(first + REPLICAS).0);
            let others: Vec<LinkNo> = row.iter().filter_map(|(_, link)| *link).collect();
            // Two in one place leave nothing between them.
            let over_zero = to < from && from.wrapping_sub(to) > 1 << 63;
            let ends = if over_zero { [(from, u64::MAX), (0, to)] } else { [(from, to), (1, 0)] };
            for (from, to) in ends {
                let stretch = Stretch::new(Location(from), Location(to));
                arcs.extend(stretch.map(|stretch| Arc { stretch, others: others.clone() }));
            }
        }
        arcs.sort_by_key(|it| it.stretch);
        Self(arcs)
    }

    /// The other two that are closest to an address; `None` where this router is not one of the three.
    pub(super) fn others(&self, address: &BlockAddress) -> Option<&[LinkNo]> {
        let place = address.location();
        let arc =
            self.0.iter().find(|it| it.stretch.first() <= place && place <= it.stretch.last())?;
        Some(&arc.others)
    }

    /// Where this router and the neighbour on `link` are both among the three closest: rising, none next to another.
    pub(super) fn with(&self, link: LinkNo) -> Vec<Stretch> {
        let mut shared: Vec<Stretch> = Vec::new();
        for arc in self.0.iter().filter(|it| it.others.contains(&link)) {
            if let Some(before) = shared.last_mut()
                && before.last().0.checked_add(1) == Some(arc.stretch.first().0)
                && let Some(both) = Stretch::new(before.first(), arc.stretch.last())
            {
                *before = both;
            } else {
                shared.push(arc.stretch);
            }
        }
        shared
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(place: u64) -> BlockAddress {
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&place.to_be_bytes());
        BlockAddress(bytes)
    }

    /// The three closest by looking at all; `None` for this router.
    fn closest(own: u64, around: &[(LinkNo, Location)], place: u64) -> Vec<Option<LinkNo>> {
        let place = Location(place);
        let mut all: Vec<_> = around
            .iter()
            .map(|(link, it)| (it.distance(place), Some(*link)))
            .chain([(Location(own).distance(place), None)])
            .collect();
        all.sort_unstable();
        all.into_iter().take(REPLICAS).map(|(_, link)| link).collect()
    }

    proptest! {
        #[test]
        fn the_three_closest_are_who_the_arcs_say(
            places in prop::collection::btree_set(any::<u64>(), 1..24),
            points in prop::collection::vec(any::<u64>(), 1..40),
            which: prop::sample::Index,
        ) {
            let mut places: Vec<u64> = places.into_iter().collect();
            let own = places.swap_remove(which.index(places.len()));
            let around: Vec<_> = (1..).map(LinkNo).zip(places.into_iter().map(Location)).collect();
            let arcs = Arcs::new(Location(own), &around);
            for point in points {
                let mut expected = closest(own, &around, point);
                expected.sort_unstable();
                let mut others = arcs.others(&address(point)).map(<[LinkNo]>::to_vec);
                if let Some(others) = &mut others {
                    others.sort_unstable();
                }
                let shared = expected.contains(&None);
                prop_assert_eq!(others.is_some(), shared);
                if let Some(others) = others {
                    prop_assert_eq!(&others, &expected.iter().flatten().copied().collect::<Vec<_>>());
                }
                for (link, _) in &around {
                    let both = shared && expected.contains(&Some(*link));
                    let inside = |it: &Stretch| it.first().0 <= point && point <= it.last().0;
                    prop_assert_eq!(arcs.with(*link).iter().any(inside), both);
                }
            }
        }

        #[test] // what one knows and the other does not makes their arcs differ; what both say is right
        fn what_two_agree_on_is_theirs_if_each_knows_two_on_either_side(
            places in prop::collection::btree_set(any::<u64>(), 8..40), far: usize,
        ) {
            let ring: Vec<u64> = places.into_iter().collect();
            let all: Vec<_> = (1..).map(LinkNo).zip(ring.iter().copied().map(Location)).collect();
            let known = |of: usize| -> Vec<(LinkNo, Location)> {
                let n = ring.len();
                let mut near = [n - 2, n - 1, 1, 2].map(|it| all[(of + it) % n]).to_vec();
                near.push(all[(of + 3 + far % (n - 6)) % n]);
                near
            };
            let (one, other) = (far % ring.len(), (far % ring.len() + 1) % ring.len());
            let own = |of: usize| Arcs::new(Location(ring[of]), &known(of));
            let complete = |of: usize, with: usize| {
                let around: Vec<_> = all.iter().filter(|it| it.1.0 != ring[of]).copied().collect();
                Arcs::new(Location(ring[of]), &around).with(all[with].0)
            };
            let mine = own(one).with(all[other].0);
            let theirs = own(other).with(all[one].0);
            let both: Vec<Stretch> = mine
                .iter()
                .flat_map(|it| theirs.iter().filter_map(|other| it.within(*other)))
                .collect();
            prop_assert_eq!(both, complete(one, other));
        }
    }
}
