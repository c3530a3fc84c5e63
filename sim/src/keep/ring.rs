//! Who is whose neighbour while members come and go.
//!
//! Lives here: what our link rule gives once it has settled: two neighbours on each side, and long links
//! 1/d, one draw for each part of the logarithm; a far end that goes is drawn anew. Does not live here: how
//! routers get there (`warren_overlay::ring`), graphs that stand still (`graph`).

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Unbounded},
};

use warren_overlay::{id::Location, rng::Rng};

use crate::graph::harmonic;

/// A member's number.
pub(super) type Seat = u32;

/// Successors, and as many predecessors.
const NEAR: usize = 2;
/// Tries to draw somebody new.
const DRAWS_MAX: u32 = 16;

/// The ring of those who are online.
#[derive(Debug)]
pub(super) struct Ring {
    /// Draws that each makes.
    turns: u32,
    online: BTreeMap<u64, Seat>,
    places: BTreeMap<Seat, u64>,
    /// Whom each drew for which part of the distance, and who drew each.
    drew: BTreeMap<Seat, BTreeMap<u32, Seat>>,
    drawn_by: BTreeMap<Seat, BTreeSet<Seat>>,
}

impl Ring {
    /// With `degree` links each, both ends counted.
    pub(super) fn new(degree: u32) -> Self {
        Self {
            turns: (degree / 2).saturating_sub(2),
            online: BTreeMap::new(),
            places: BTreeMap::new(),
            drew: BTreeMap::new(),
            drawn_by: BTreeMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.online.len()
    }

    /// Those who are online, in the order of the ring.
    pub(super) fn members(&self) -> impl Iterator<Item = Seat> {
        self.online.values().copied()
    }

    /// Where somebody who is online is.
    pub(super) fn place(&self, seat: Seat) -> Location {
        Location(self.places.get(&seat).copied().unwrap_or(0))
    }

    /// Up to `n` after a place, and as many before it, without whoever is there.
    fn around(&self, place: u64, n: usize) -> Vec<Seat> {
        let above = self.online.range((Excluded(place), Unbounded));
        let below = self.online.range(..place);
        let after = above.clone().chain(below.clone()).map(|(_, seat)| *seat).take(n);
        let before = below.rev().chain(above.rev()).map(|(_, seat)| *seat).take(n);
        after.chain(before).collect()
    }

    /// Everybody's neighbours are both sides' wishes.
    pub(super) fn neighbours(&self, seat: Seat) -> BTreeSet<Seat> {
        let Some(place) = self.places.get(&seat) else { return BTreeSet::new() };
        let near = self.around(*place, NEAR).into_iter();
        let drew = self.drew.get(&seat).into_iter().flat_map(|it| it.values().copied());
        let drawn_by = self.drawn_by.get(&seat).into_iter().flatten().copied();
        near.chain(drew).chain(drawn_by).filter(|it| *it != seat).collect()
    }

    /// Somebody comes; gives all whose neighbours are others now.
    pub(super) fn join(&mut self, seat: Seat, place: Location, rng: &mut Rng) -> BTreeSet<Seat> {
        self.online.insert(place.0, seat);
        self.places.insert(seat, place.0);
        let mut changed: BTreeSet<Seat> = self.around(place.0, NEAR).into_iter().collect();
        changed.insert(seat);
        for turn in 0..self.turns {
            changed.extend(self.draw(seat, turn, rng));
        }
        changed
    }

    /// Somebody goes; gives all whose neighbours are others now, without him.
    pub(super) fn leave(&mut self, seat: Seat, rng: &mut Rng) -> BTreeSet<Seat> {
        let Some(place) = self.places.remove(&seat) else { return BTreeSet::new() };
        self.online.remove(&place);
        let mut changed: BTreeSet<Seat> = self.around(place, NEAR).into_iter().collect();
        for far in self.drew.remove(&seat).unwrap_or_default().into_values() {
            if let Some(by) = self.drawn_by.get_mut(&far) {
                by.remove(&seat);
            }
            changed.insert(far);
        }
        for other in self.drawn_by.remove(&seat).unwrap_or_default() {
            let drew = self.drew.entry(other).or_default();
            let turn = drew.iter().find(|(_, far)| **far == seat).map(|(turn, _)| *turn);
            changed.insert(other);
            if let Some(turn) = turn {
                drew.remove(&turn);
                changed.extend(self.draw(other, turn, rng));
            }
        }
        changed.remove(&seat);
        changed
    }

    /// Draws a long link for one part of the distance.
    fn draw(&mut self, seat: Seat, turn: u32, rng: &mut Rng) -> Option<Seat> {
        let own = *self.places.get(&seat)?;
        let spacing = u64::MAX / self.online.len().max(1) as u64;
        for _ in 0..DRAWS_MAX {
            let part = (f64::from(turn) + rng.unit()) / f64::from(self.turns.max(1));
            let distance = harmonic(spacing.saturating_mul(2), part);
            let left = rng.below(2) == 0;
            let point = own.wrapping_add(if left { distance.wrapping_neg() } else { distance });
            let near = self.around(point, 1);
            let far = |it: &Seat| self.place(*it).distance(Location(point));
            let to = near.into_iter().filter(|it| *it != seat).min_by_key(far);
            if let Some(to) = to.filter(|to| !self.neighbours(seat).contains(to)) {
                self.drew.entry(seat).or_default().insert(turn, to);
                self.drawn_by.entry(to).or_default().insert(seat);
                return Some(to);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Streams;

    #[test]
    fn whoever_comes_and_goes_neighbours_are_mutual_and_near_ones_always_there() {
        let mut draw = Streams::new(1).of("test", 0);
        let mut ring = Ring::new(20);
        let mut told: BTreeMap<Seat, BTreeSet<Seat>> = BTreeMap::new();
        for step in 0..2_000u32 {
            let seat = u32::try_from(draw.below(200)).unwrap();
            let changed = if ring.places.contains_key(&seat) {
                told.remove(&seat);
                ring.leave(seat, &mut draw)
            } else {
                let place = Location(draw.below(u64::MAX));
                ring.join(seat, place, &mut draw)
            };
            for seat in changed {
                told.insert(seat, ring.neighbours(seat));
            }
            if step % 50 != 0 {
                continue;
            }
            for seat in ring.members() {
                let neighbours = ring.neighbours(seat);
                // Who is not told of a change has none.
                assert_eq!(told.get(&seat), Some(&neighbours));
                for other in &neighbours {
                    assert!(ring.neighbours(*other).contains(&seat));
                }
            }
        }
        let degrees: usize = ring.members().map(|it| ring.neighbours(it).len()).sum();
        let mean = degrees / ring.len();
        assert!((15..=22).contains(&mean), "{mean}");
    }
}
