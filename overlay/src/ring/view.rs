//! The routers this one knows of: a private sample of all that it ever heard of, and those it needs.
//!
//! Lives here: the bounded set of descriptors, fresher before older, who of them is of the sample, and who
//! lately could not be reached. Does not live here: the neighbour table (`neighbours.rs`), what is told to
//! others (`rumours.rs`: nothing of the sample ever is).
//!
//! No router ever holds the whole network. Each identity has a rank, a hash under a key that this router
//! drew for itself and shows to nobody, and those with the lowest ranks are kept: so the sample is a uniform
//! draw from all routers that were ever heard of, however often some of them were named (the samplers of
//! Brahms: Bortnikov et al. 2009; PROTOCOL P11). Who pushes its own names a thousand times is in it as
//! often as who was named once. Only proven work displaces proven work; an eighth of the places are for
//! those whose turn to be checked has not come.
//!
//! Kept beside the sample: neighbours, who is around this router's own place, where the ring must close,
//! and the hops that its owner keeps for days (DESIGN section 6). Tunnels go through none of the first two
//! unless they are of the sample as well (`report.rs`).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    crypto::{kdf, secret::Secret},
    id::{Location, RouterId},
    ring::neighbours::short,
    room::Room,
    time::{Now, Time, Wall},
    wire::{DESCRIPTOR_MINUTES_MAX, RouterDescriptor},
};

/// Descriptors kept: about 1.6 KB each, shared with whoever else uses them. Up to about so many routers
/// everybody knows all.
pub const VIEW_MAX: usize = 2_048;
/// No view is smaller: neighbours and the nearest must fit.
const MOST_LEAST: usize = 32;
/// One in so many places may be held by routers whose work is not checked yet.
const UNPROVEN_SHARE: usize = 8;
/// The nearest on each side that never give way.
const NEAR_KEPT: usize = 8;
/// Failures remembered; the one that is soonest forgotten goes first.
const FAILED_MAX: usize = 512;
/// Routers remembered as gone; who was heard of longest ago goes first.
const GONE_MAX: usize = 1_024;
/// How long a router that could not be reached is not tried; doubles with each failure in a row.
const FAILED_TIME: Duration = Duration::from_secs(20);
/// Doublings at most: 20 s becomes 10 minutes.
const FAILURES_MAX: u32 = 5;
/// The view grows by so many at a time: doubling would leave half of it empty.
const GROWTH: usize = 8;

/// A known router.
#[derive(Debug)]
struct Known {
    /// The first bytes of its identity: to find it without looking at all descriptors.
    short: u64,
    /// Its place in the draw: the lower the sooner it is of the sample.
    rank: u64,
    proven: bool,
    descriptor: Arc<RouterDescriptor>,
}

impl Known {
    fn id(&self) -> RouterId {
        self.descriptor.id()
    }
}

/// The known routers.
#[derive(Debug)]
pub(super) struct View {
    own: RouterId,
    location: Location,
    /// What ranks follow from.
    key: Secret<32>,
    /// In the order of their ids.
    entries: Vec<Known>,
    unproven: usize,
    /// The same ones by how far clockwise they are.
    ring: Vec<Arc<RouterDescriptor>>,
    failed: BTreeMap<RouterId, (Time, u32)>,
    changed: bool,
    /// The owner's hops: they do not give way either.
    hops: BTreeSet<RouterId>,
    /// Those that are not there any more, and when the last of their descriptors was made: what is no newer is
    /// not believed.
    gone: BTreeMap<RouterId, Wall>,
    /// How many are kept.
    most: usize,
    /// Ranks from here on are not of the sample: there is no room for them.
    cut: u64,
}

/// The rank of a router under a key.
pub(super) fn rank(key: &[u8; 32], id: &RouterId) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = kdf::mac16(key, &[id.as_bytes()]);
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

impl View {
    /// An empty view of the router `own` for `most` routers; `key` is its alone, and drawn anew with each start.
    pub(super) fn new(own: &RouterDescriptor, most: usize, key: Secret<32>) -> Self {
        Self {
            most: most.max(MOST_LEAST),
            own: own.id(),
            location: own.location(),
            key,
            entries: Vec::new(),
            unproven: 0,
            ring: Vec::new(),
            failed: BTreeMap::new(),
            changed: false,
            hops: BTreeSet::new(),
            gone: BTreeMap::new(),
            cut: u64::MAX,
        }
    }

    /// These do not give way to others, the first half as many as there is room for.
    pub(super) fn protect(&mut self, hops: impl Iterator<Item = RouterId>) {
        self.hops = hops.take(self.most / 2).collect();
    }

    /// Takes in a descriptor; false if it is old, expired, one's own, of an unreachable router, or if there
    /// is no place for it. `keep` says who keeps a place whatever its rank: neighbours.
    pub(super) fn insert(
        &mut self,
        now: Now,
        descriptor: &Arc<RouterDescriptor>,
        proven: bool,
        keep: impl Fn(&RouterId) -> bool,
    ) -> bool {
        let id = descriptor.id();
        if id == self.own || !descriptor.is_current(now.wall) || self.has_failed(now.time, &id) {
            return false;
        }
        if self.is_known(descriptor) {
            return false;
        }
        if self.gone.get(&id).is_some_and(|last| descriptor.fields().published <= *last) {
            return false;
        }
        let rank = rank(self.key.expose_secret(), &id);
        let known = self.remove(&id);
        let full = self.entries.len() >= self.most;
        if full && rank >= self.cut && !self.stays(&id, descriptor.location(), &keep) {
            return false;
        }
        if !full && !known {
            self.cut = self.cut.max(rank.saturating_add(1));
        }
        self.add(Known { short: short(&id), rank, proven, descriptor: Arc::clone(descriptor) });
        if self.entries.len() > self.most {
            return self.evict(&keep) != Some(id);
        }
        true
    }

    /// Whether there is this description of that router, or a fresher one.
    pub(super) fn is_known(&self, descriptor: &RouterDescriptor) -> bool {
        let published = descriptor.fields().published;
        self.get(&descriptor.id()).is_some_and(|old| old.fields().published >= published)
    }

    fn add(&mut self, it: Known) {
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact(GROWTH);
            self.ring.reserve_exact(GROWTH);
        }
        self.ring.insert(self.place(&it.descriptor), Arc::clone(&it.descriptor));
        self.unproven += usize::from(!it.proven);
        let at = self.index(&it.id()).unwrap_or_else(|at| at);
        self.entries.insert(at, it);
        self.changed = true;
    }

    /// Whether a router keeps its place, or gets one, whatever its rank.
    fn stays(&self, id: &RouterId, place: Location, keep: &impl Fn(&RouterId) -> bool) -> bool {
        let at = self.location.clockwise(place);
        let before = self.ring.partition_point(|it| self.location.clockwise(it.location()) < at);
        let near = before < NEAR_KEPT || self.ring.len() - before <= NEAR_KEPT;
        near || keep(id) || self.hops.contains(id)
    }

    /// One router gives way: of those that need not stay the one with the highest rank, and none that is
    /// proven while more than their share are not.
    fn evict(&mut self, keep: &impl Fn(&RouterId) -> bool) -> Option<RouterId> {
        let crowded = self.unproven > self.most / UNPROVEN_SHARE;
        let mut out: Option<&Known> = None;
        for it in self.entries.iter().filter(|it| !crowded || !it.proven) {
            let higher = out.is_none_or(|out| it.rank > out.rank);
            if higher && !self.stays(&it.id(), it.descriptor.location(), keep) {
                out = Some(it);
            }
        }
        let (id, rank) = out.map(|it| (it.id(), it.rank))?;
        self.remove(&id);
        // Who kept a place for other reasons until now was never of the sample.
        if !crowded {
            self.cut = self.cut.min(rank);
        }
        Some(id)
    }

    /// Its work was checked and is good.
    pub(super) fn prove(&mut self, id: &RouterId) {
        let Ok(at) = self.index(id) else { return };
        if let Some(it) = self.entries.get_mut(at)
            && !std::mem::replace(&mut it.proven, true)
        {
            self.unproven -= 1;
        }
    }

    fn is_sampled(&self, it: &Known) -> bool {
        it.rank < self.cut || self.hops.contains(&it.id())
    }

    /// Those that tunnels may go through: the sample, the owner's hops, and who `also` is.
    pub(super) fn fit(
        &self,
        also: impl Fn(&RouterId) -> bool,
    ) -> impl Iterator<Item = &Arc<RouterDescriptor>> {
        let fit = self.entries.iter().filter(move |it| self.is_sampled(it) || also(&it.id()));
        fit.map(|it| &it.descriptor)
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
        let old = self.entries.remove(at);
        self.unproven -= usize::from(!old.proven);
        self.ring.remove(self.place(&old.descriptor));
        true
    }

    /// Where a router is among the entries, or would be.
    fn index(&self, id: &RouterId) -> Result<usize, usize> {
        let short = short(id);
        self.entries.binary_search_by(|it| it.short.cmp(&short).then_with(|| it.id().cmp(id)))
    }

    /// How many on the ring come before a router.
    fn place(&self, descriptor: &RouterDescriptor) -> usize {
        let key = |it: &RouterDescriptor| (self.location.clockwise(it.location()), it.id());
        let place = key(descriptor);
        self.ring.partition_point(|it| key(it) < place)
    }

    /// Gives up room that nothing needs.
    pub(super) fn rest(&mut self, now: Time) {
        // Who has not failed again for as long as it would have been avoided then is forgiven.
        self.failed.retain(|_, (until, failures)| now < *until + FAILED_TIME * (1 << *failures));
        self.failed.rest();
        self.gone.rest();
        self.entries.rest();
        self.ring.rest();
    }

    pub(super) fn get(&self, id: &RouterId) -> Option<&Arc<RouterDescriptor>> {
        let at = self.index(id).ok()?;
        self.entries.get(at).map(|it| &it.descriptor)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<RouterDescriptor>> {
        self.entries.iter().map(|it| &it.descriptor)
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

    /// Forgets a router that is not there any more, until it describes itself anew.
    pub(super) fn lose(&mut self, id: &RouterId) {
        let Some(published) = self.get(id).map(|it| it.fields().published) else { return };
        self.changed |= self.remove(id);
        self.gone.insert(*id, published);
        if self.gone.len() > GONE_MAX
            && let Some(oldest) = self.gone.iter().min_by_key(|(_, published)| **published)
        {
            let oldest = *oldest.0;
            self.gone.remove(&oldest);
        }
    }

    /// It answered after all.
    pub(super) fn reached(&mut self, id: &RouterId) {
        self.failed.remove(id);
        self.gone.remove(id);
    }

    /// It was found elsewhere: what is said of it is believed.
    pub(super) fn found(&mut self, id: &RouterId) {
        self.gone.remove(id);
    }

    /// The sample and the owner's hops.
    pub(super) fn sampled(&self) -> impl Iterator<Item = &Arc<RouterDescriptor>> {
        self.fit(|_| false)
    }

    /// All may be tried again: they were out of reach through no fault of theirs.
    pub(super) fn forgive(&mut self) {
        self.failed.clear();
    }

    /// How many of the known could not be had when they were last tried.
    pub(super) fn doubtful(&self) -> usize {
        self.failed.keys().filter(|id| self.get(id).is_some()).count()
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
        self.gone.retain(|_, last| last.plus(DESCRIPTOR_MINUTES_MAX) >= wall);
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

    fn view(most: usize, key: u8) -> View {
        View::new(&descriptor(0), most, Secret::take(&mut [key; 32]))
    }

    fn nobody(_: &RouterId) -> bool {
        false
    }

    fn numbers(view: &View, up_to: u32) -> BTreeSet<u32> {
        let sampled: BTreeSet<_> = view.fit(nobody).map(|it| it.id()).collect();
        (1..up_to).filter(|n| sampled.contains(&descriptor(*n).id())).collect()
    }

    #[test]
    fn only_fresher_descriptors_replace() {
        let mut view = view(64, 1);
        let (old, new) = (signed_at(1, WALL), signed_at(1, WALL.plus(1)));
        assert!(view.insert(now(0), &new, true, nobody));
        assert!(!view.insert(now(0), &old, true, nobody));
        assert!(!view.insert(now(0), &new, true, nobody));
        assert_eq!(view.get(&old.id()), Some(&new));
    }

    #[test]
    fn the_expired_the_failed_and_oneself_stay_out() {
        let mut view = view(64, 1);
        let it = descriptor(1);
        let late = Now { wall: it.fields().expiry.plus(11), ..now(0) };
        assert!(!view.insert(late, &it, true, nobody));
        assert!(!view.insert(now(0), &descriptor(0), true, nobody));
        assert!(view.insert(now(0), &it, true, nobody));
        view.fail(now(0).time, &it.id());
        assert!(!view.insert(now(19), &it, true, nobody));
        assert!(view.insert(now(20), &it, true, nobody));
        view.expire(late.wall);
        assert_eq!(view.len(), 0);
    }

    #[test]
    fn a_failure_counts_against_a_router_until_it_was_well_for_as_long() {
        let mut view = view(64, 1);
        let id = descriptor(1).id();
        let avoided = |view: &mut View, from, until| {
            view.rest(now(from).time);
            view.avoid(now(from).time, &id);
            assert!(view.has_failed(now(until - 1).time, &id));
            assert!(!view.has_failed(now(until).time, &id));
        };
        avoided(&mut view, 0, 20);
        avoided(&mut view, 50, 90); // again within 40 s after the 20: twice as long
        avoided(&mut view, 169, 249);
        avoided(&mut view, 249 + 160, 249 + 180); // 160 s without a failure
        view.rest(now(249 + 180 + 40).time);
        assert!(view.failed.is_empty());
    }

    #[test]
    fn the_view_is_bounded_and_keeps_neighbours_the_owners_hops_and_the_nearest() {
        const MOST: usize = 256;
        let mut view = view(MOST, 1);
        let kept = descriptor(1).id();
        let hops: Vec<_> = (2..30).map(|n| descriptor(n).id()).collect();
        view.protect(hops.iter().copied());
        for n in 1..1_000 {
            view.insert(now(0), &descriptor(n), true, |id| *id == kept);
        }
        assert_eq!(view.len(), MOST);
        assert!(view.get(&kept).is_some());
        assert!(hops.iter().all(|id| view.get(id).is_some()));
        let own = descriptor(0).location();
        let all = (1..1_000).map(descriptor);
        let next = all.min_by_key(|it| own.clockwise(it.location())).unwrap();
        assert_eq!(view.nearest(1, |_| true).next().map(|it| it.id()), Some(next.id()));
    }

    #[test]
    fn who_is_named_a_hundred_times_is_sampled_no_more_often_than_who_is_named_once() {
        let all: Vec<_> = (1..=300).map(descriptor).collect();
        let (mut loud, mut quiet) = (0usize, 0usize);
        for key in 0..20 {
            let mut view = view(100, key);
            for round in 0..100 {
                // The first hundred push all the time; each of the others is heard of once.
                all[..100].iter().for_each(|it| {
                    view.insert(now(0), it, true, nobody);
                });
                all[100 + 2 * round..102 + 2 * round].iter().for_each(|it| {
                    view.insert(now(0), it, true, nobody);
                });
            }
            let sampled = numbers(&view, 301);
            loud += sampled.iter().filter(|n| **n <= 100).count();
            quiet += sampled.iter().filter(|n| **n > 100).count();
        }
        // A third of the network is a third of the samples: 1,840 draws or so, four standard deviations.
        let share = loud * 1_000 / (loud + quiet);
        assert!((290..=377).contains(&share), "{share} of 1000");
    }

    #[test]
    fn the_same_routers_are_sampled_in_whatever_order_they_are_heard_of() {
        let (mut one, mut other) = (view(64, 1), view(64, 1));
        for n in 1..400 {
            one.insert(now(0), &descriptor(n), true, nobody);
            other.insert(now(0), &descriptor(400 - n), true, nobody);
        }
        // But for those nearest on the ring, which are in the view whatever their rank.
        assert_eq!(
            numbers(&one, 400).len(),
            numbers(&one, 400).intersection(&numbers(&other, 400)).count()
        );
        assert_ne!(numbers(&one, 400), numbers(&view_of(2), 400));
        let kept: BTreeSet<_> = one.nearest(NEAR_KEPT, |_| true).map(|it| it.id()).collect();
        assert_eq!(kept.len(), 2 * NEAR_KEPT);
        let sampled = one.fit(nobody).filter(|it| kept.contains(&it.id())).count();
        assert!(sampled < kept.len(), "the nearest are of the sample only by their rank");
    }

    fn view_of(key: u8) -> View {
        let mut view = view(64, key);
        for n in 1..400 {
            view.insert(now(0), &descriptor(n), true, nobody);
        }
        view
    }

    #[test]
    fn unproven_routers_hold_an_eighth_and_displace_nobody_proven() {
        let mut view = view(64, 1);
        for n in 1..200 {
            view.insert(now(0), &descriptor(n), true, nobody);
        }
        let proven = numbers(&view, 200);
        for n in 200..2_000 {
            view.insert(now(0), &descriptor(n), false, nobody);
        }
        let left = numbers(&view, 200);
        assert!(left.len() + 64 / UNPROVEN_SHARE + 2 * NEAR_KEPT >= proven.len());
        assert!(left.is_subset(&proven) && view.unproven <= 64 / UNPROVEN_SHARE + 2 * NEAR_KEPT);
        // Whose turn comes is as good as anybody.
        let waiting = view.entries.iter().find(|it| !it.proven).map(Known::id).unwrap();
        let unproven = view.unproven;
        view.prove(&waiting);
        assert_eq!(view.unproven, unproven - 1);
    }

    #[test]
    fn a_place_that_becomes_free_goes_to_the_next_who_is_heard_of() {
        let mut view = view_of(1);
        let gone = view.fit(nobody).next().map(|it| it.id()).unwrap();
        view.fail(now(0).time, &gone);
        assert_eq!(view.len(), 63);
        let next = descriptor(1_000);
        assert!(view.insert(now(0), &next, true, nobody));
        assert!(view.fit(nobody).any(|it| it == &next));
    }
}
