//! The routers this one knows of: neighbours, and neighbours' neighbours.
//!
//! Lives here: the bounded set of descriptors, fresher before older, and who lately could not be
//! reached. Does not live here: the neighbour table (`neighbours.rs`), private samplers (PROTOCOL
//! P11; they come with the adversaries that test them).
//!
//! No router ever holds the whole network: 512 descriptors (or what it was set up with), and a random one gives way to a new
//! one, except around this router's own place, where the ring must close, and the hops that its owner
//! keeps for days (DESIGN section 6): in a network that is larger than the view they would else be drawn
//! anew with every hour's gossip.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    id::{Location, RouterId},
    rng::Rng,
    room::Room,
    time::{Now, Time, Wall},
    wire::RouterDescriptor,
};

/// Descriptors kept: about 1.6 KB each, shared with whoever else uses them.
pub const VIEW_MAX: usize = 512;
/// Routers drawn to find one that may give way; if none is found, the new one does.
const DRAWS_MAX: usize = 64;
/// No view is smaller: neighbours and the nearest must fit.
const MOST_LEAST: usize = 32;
/// The nearest on each side that never give way.
const NEAR_KEPT: usize = 8;
/// Failures remembered; the one that is soonest forgotten goes first.
const FAILED_MAX: usize = 512;
/// How long a router that could not be reached is not tried; doubles with each failure in a row.
const FAILED_TIME: Duration = Duration::from_secs(20);
/// Doublings at most: 20 s becomes 10 minutes.
const FAILURES_MAX: u32 = 5;
/// The view grows by so many at a time: doubling would leave half of it empty.
const GROWTH: usize = 8;

/// The known routers.
#[derive(Debug)]
pub(super) struct View {
    own: RouterId,
    location: Location,
    /// In the order of their ids.
    entries: Vec<(RouterId, Arc<RouterDescriptor>)>,
    /// The same ones by how far clockwise they are.
    ring: Vec<Arc<RouterDescriptor>>,
    failed: BTreeMap<RouterId, (Time, u32)>,
    changed: bool,
    /// The owner's hops: they do not give way either.
    hops: BTreeSet<RouterId>,
    /// How many are kept.
    most: usize,
}

impl View {
    /// An empty view for `most` routers.
    pub(super) fn new(own: &RouterDescriptor, most: usize) -> Self {
        Self {
            most: most.max(MOST_LEAST),
            own: own.id(),
            location: own.location(),
            entries: Vec::new(),
            ring: Vec::new(),
            failed: BTreeMap::new(),
            changed: false,
            hops: BTreeSet::new(),
        }
    }

    /// These do not give way to others, the first half as many as there is room for.
    pub(super) fn protect(&mut self, hops: impl Iterator<Item = RouterId>) {
        self.hops = hops.take(self.most / 2).collect();
    }

    /// Takes in a descriptor; false if it is old, expired, one's own or of an unreachable router.
    /// `keep` protects neighbours from giving way.
    pub(super) fn insert(
        &mut self,
        now: Now,
        rng: &mut Rng,
        descriptor: &Arc<RouterDescriptor>,
        keep: impl Fn(&RouterId) -> bool,
    ) -> bool {
        let id = descriptor.id();
        if id == self.own || !descriptor.is_current(now.wall) || self.has_failed(now.time, &id) {
            return false;
        }
        if let Some(old) = self.get(&id)
            && old.fields().published >= descriptor.fields().published
        {
            return false;
        }
        self.remove(&id);
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact(GROWTH);
            self.ring.reserve_exact(GROWTH);
        }
        self.ring.insert(self.place(descriptor), Arc::clone(descriptor));
        let at = self.index(&id).unwrap_or_else(|at| at);
        self.entries.insert(at, (id, Arc::clone(descriptor)));
        self.changed = true;
        if self.entries.len() > self.most {
            let near: Vec<RouterId> = self.nearest(NEAR_KEPT, |_| true).map(|it| it.id()).collect();
            // Drawn until one may go: neighbours and the nearest are a small part.
            let mut draws = (0..DRAWS_MAX).filter_map(|_| {
                let at = usize::try_from(rng.below(self.entries.len() as u64)).unwrap_or(0);
                self.entries.get(at).map(|(id, _)| *id)
            });
            let stays = |id: &RouterId| near.contains(id) || keep(id) || self.hops.contains(id);
            let pick = draws.find(|id| !stays(id)).unwrap_or(id);
            self.remove(&pick);
        }
        true
    }

    /// The router says that it can no longer be dialled.
    pub(super) fn withdraw(&mut self, descriptor: &RouterDescriptor) {
        let older =
            |old: &Arc<RouterDescriptor>| old.fields().published < descriptor.fields().published;
        if self.get(&descriptor.id()).is_some_and(older) {
            self.changed |= self.remove(&descriptor.id());
        }
    }

    fn remove(&mut self, id: &RouterId) -> bool {
        let Ok(at) = self.index(id) else { return false };
        let (_, old) = self.entries.remove(at);
        self.ring.remove(self.place(&old));
        true
    }

    /// Where a router is among the entries, or would be.
    fn index(&self, id: &RouterId) -> Result<usize, usize> {
        self.entries.binary_search_by(|(other, _)| other.cmp(id))
    }

    /// How many on the ring come before a router.
    fn place(&self, descriptor: &RouterDescriptor) -> usize {
        let key = |it: &RouterDescriptor| (self.location.clockwise(it.location()), it.id());
        let place = key(descriptor);
        self.ring.partition_point(|it| key(it) < place)
    }

    /// Gives up room that nothing needs.
    pub(super) fn rest(&mut self) {
        self.failed.rest();
        self.entries.rest();
        self.ring.rest();
    }

    pub(super) fn get(&self, id: &RouterId) -> Option<&Arc<RouterDescriptor>> {
        let at = self.index(id).ok()?;
        self.entries.get(at).map(|(_, it)| it)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<RouterDescriptor>> {
        self.entries.iter().map(|(_, it)| it)
    }

    /// The `depth` nearest that `admit` on each side of this router.
    pub(super) fn nearest(
        &self,
        depth: usize,
        admit: impl Fn(&RouterDescriptor) -> bool,
    ) -> impl Iterator<Item = &Arc<RouterDescriptor>> {
        let ahead: Vec<_> = self.ring.iter().filter(|it| admit(it)).take(depth).collect();
        let behind = self.ring.iter().rev().filter(|it| admit(it)).take(depth);
        // In a small network the ways round meet: nobody is named twice.
        let behind: Vec<_> =
            behind.take_while(|it| !ahead.iter().any(|a| a.id() == it.id())).collect();
        ahead.into_iter().chain(behind)
    }

    /// Forgets a router that is gone or lied, and does not believe gossip about it for a while.
    pub(super) fn fail(&mut self, now: Time, id: &RouterId) {
        if self.remove(id) {
            self.changed = true;
        }
        self.avoid(now, id);
    }

    /// Does not try a router for a while, but keeps it.
    pub(super) fn avoid(&mut self, now: Time, id: &RouterId) {
        let (until, failures) = self.failed.entry(*id).or_insert((now, 0));
        *until = now + FAILED_TIME * (1 << *failures);
        *failures = failures.saturating_add(1).min(FAILURES_MAX);
        if self.failed.len() > FAILED_MAX {
            let soonest = self.failed.iter().min_by_key(|(_, (until, _))| *until);
            if let Some(soonest) = soonest.map(|(id, _)| *id) {
                self.failed.remove(&soonest);
            }
        }
    }

    /// It answered after all.
    pub(super) fn reached(&mut self, id: &RouterId) {
        self.failed.remove(id);
    }

    /// All may be tried again: they were out of reach through no fault of theirs.
    pub(super) fn forgive(&mut self) {
        self.failed.clear();
    }

    /// Whether it is not to be tried for now.
    pub(super) fn has_failed(&self, now: Time, id: &RouterId) -> bool {
        self.failed.get(id).is_some_and(|(until, _)| now < *until)
    }

    /// Drops what has expired.
    pub(super) fn expire(&mut self, wall: Wall) {
        let old: Vec<_> = self.iter().filter(|it| !it.is_current(wall)).map(|it| it.id()).collect();
        for id in old {
            self.changed |= self.remove(&id);
        }
    }

    /// Whether it changed since last asked.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::testing::{WALL, descriptor, signed_at};

    fn now(seconds: u64) -> Now {
        Now { time: Time::from_micros(seconds * 1_000_000), wall: WALL }
    }

    fn view() -> (View, Rng) {
        (View::new(&descriptor(0), VIEW_MAX), Rng::from_seed([1; 32]))
    }

    #[test]
    fn only_fresher_descriptors_replace() {
        let (mut view, mut rng) = view();
        let (old, new) = (signed_at(1, WALL), signed_at(1, WALL.plus(1)));
        assert!(view.insert(now(0), &mut rng, &new, |_| false));
        assert!(!view.insert(now(0), &mut rng, &old, |_| false));
        assert!(!view.insert(now(0), &mut rng, &new, |_| false));
        assert_eq!(view.get(&old.id()), Some(&new));
    }

    #[test]
    fn the_expired_the_failed_and_oneself_stay_out() {
        let (mut view, mut rng) = view();
        let it = descriptor(1);
        let late = Now { wall: it.fields().expiry.plus(11), ..now(0) };
        assert!(!view.insert(late, &mut rng, &it, |_| false));
        assert!(!view.insert(now(0), &mut rng, &descriptor(0), |_| false));
        assert!(view.insert(now(0), &mut rng, &it, |_| false));
        view.fail(now(0).time, &it.id());
        assert!(!view.insert(now(19), &mut rng, &it, |_| false));
        assert!(view.insert(now(20), &mut rng, &it, |_| false));
        view.expire(late.wall);
        assert_eq!(view.len(), 0);
    }

    #[test]
    fn the_view_is_bounded_and_keeps_neighbours_the_owners_hops_and_the_nearest() {
        let (mut view, mut rng) = view();
        let kept = descriptor(1).id();
        let hops: Vec<_> = (2..30).map(|n| descriptor(n).id()).collect();
        view.protect(hops.iter().copied());
        for n in 1..1_000 {
            view.insert(now(0), &mut rng, &descriptor(n), |id| *id == kept);
        }
        assert_eq!(view.len(), VIEW_MAX);
        assert!(view.get(&kept).is_some());
        assert!(hops.iter().all(|id| view.get(id).is_some()));
        let own = descriptor(0).location();
        let all = (1..1_000).map(descriptor);
        let next = all.min_by_key(|it| own.clockwise(it.location())).unwrap();
        assert_eq!(view.nearest(1, |_| true).next().map(|it| it.id()), Some(next.id()));
    }
}
