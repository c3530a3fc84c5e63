//! The table of ring neighbours, and the questions that routing asks of it.
//!
//! Lives here: who is a neighbour and why, the next hop towards a key, which long link to draw next,
//! caps per prefix, whom to part with. Does not live here: how neighbours are won and lost
//! (`machine.rs`), requests (`request.rs`). No timers: moments come in as arguments.
//!
//! ```text
//!        pred pred  ME  succ succ        near: 2 each side, always
//!   long ...............................  long: as many per octave of distance, so that the
//!        |--|----|--------|-------------  density of links falls with 1/d
//!         1   2      3         4
//! ```
//!
//! A long link's far end is drawn first and then looked up: never whoever answered, never whoever
//! was met on a path. Both ends count a link, so half of the long ones are drawn here and half are
//! drawn by others; more are drawn while others draw few.

use std::{sync::Arc, time::Duration};

use crate::{
    id::{LinkNo, Location, RouterId},
    ring::visited::Visited,
    rng::Rng,
    room::Room,
    time::Time,
    wire::{Prefix, RouterDescriptor},
};

/// Successors kept, and as many predecessors.
pub const NEAR: usize = 2;
/// Routers that hold a record: those closest to its key.
pub const REPLICAS: usize = 3;
/// Among so many closest to its address are copies of a block: who was one of the three closest and is no longer
/// keeps its own.
pub const KEEPERS: usize = REPLICAS + 2;
/// Fewest and most neighbours that can be configured.
pub const DEGREE_RANGE: std::ops::RangeInclusive<usize> = 8..=64;
/// Descriptors remembered as sent to one neighbour; more than a neighbour table ever holds.
const SENT_MAX: usize = 128;
/// Room that is made for more of them at a time: doubling would leave half of it empty.
const SENT_ROOM: usize = 8;
/// How long a neighbour that let a request fall is passed over; doubles with each in a row.
const SUSPECT_TIME: Duration = Duration::from_secs(30);
/// How long a neighbour that is not needed stays: while a ring grows, who is near changes fast, and
/// those one was near to for a moment are those one learns from.
const GRACE: Duration = Duration::from_secs(20);
/// Doublings at most: 30 s becomes 16 minutes.
const STRIKES_MAX: u32 = 5;
/// Guests for each neighbour wanted. Where four of five routers are guests, with up to
/// [`super::guests::DEGREE`] links each, 48 fall to each of the others.
const GUESTS_PER_NEIGHBOUR: usize = 4;

/// Why a link is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// This router drew it as a long link.
    Drawn,
    /// The other side drew it.
    Offered,
    /// One side wanted the other as successor or predecessor.
    Near,
}

/// One neighbour.
#[derive(Debug)]
pub(super) struct Neighbour {
    /// The link that requests to it go out on.
    pub(super) link: LinkNo,
    /// Who it is.
    pub(super) peer: Arc<RouterDescriptor>,
    /// The first bytes of its identity: to find it without looking at all descriptors.
    short: u64,
    /// Its place.
    pub(super) location: Location,
    /// Its bits in visited filters.
    pub(super) marks: [u8; 4],
    /// Why it is one.
    pub(super) origin: Origin,
    since: Time,
    suspect_until: Time,
    strikes: u32,
    /// What stands for the descriptors that it was sent. Two in four thousand million look alike, and
    /// then one of them is not sent: others send it.
    sent: Vec<u32>,
}

impl Neighbour {
    /// A neighbour not yet suspected of anything.
    pub(super) fn new(
        link: LinkNo,
        peer: Arc<RouterDescriptor>,
        origin: Origin,
        since: Time,
    ) -> Self {
        Self {
            link,
            short: short(&peer.id()),
            location: peer.location(),
            marks: Visited::marks(&peer.id()),
            peer,
            origin,
            since,
            suspect_until: Time::ZERO,
            strikes: 0,
            sent: Vec::new(),
        }
    }

    /// Whether it is `id`, whose first bytes are `short`.
    fn is(&self, short: u64, id: &RouterId) -> bool {
        self.short == short && self.peer.id() == *id
    }

    /// Whether it is passed over for now.
    pub(super) fn is_suspect(&self, now: Time) -> bool {
        now < self.suspect_until
    }

    /// Notes that `descriptor` is being sent to it; false if it was before.
    pub(super) fn note_sent(&mut self, descriptor: &RouterDescriptor) -> bool {
        let id = descriptor.id();
        let short = id.as_bytes().first_chunk().copied().unwrap_or_default();
        let entry = u32::from_be_bytes(short) ^ descriptor.fields().published.minutes();
        if self.sent.contains(&entry) || id == self.peer.id() {
            return false;
        }
        if self.sent.len() >= SENT_MAX {
            self.sent.remove(0);
        }
        if self.sent.len() == self.sent.capacity() {
            self.sent.reserve_exact(SENT_ROOM);
        }
        self.sent.push(entry);
        true
    }
}

/// The first bytes of an identity, in the same order.
pub(super) fn short(id: &RouterId) -> u64 {
    id.as_bytes().first_chunk().map_or(0, |head| u64::from_be_bytes(*head))
}

/// The neighbours of one router, in the order one meets them going clockwise from it.
#[derive(Debug)]
pub(super) struct Neighbours {
    own: Location,
    degree: usize,
    per_prefix_max: usize,
    local: bool,
    list: Vec<Neighbour>,
    /// Those that nobody can dial: never a way for a request, nor a holder.
    guests: Vec<Neighbour>,
}

impl Neighbours {
    /// An empty table for the router at `own` that wants `degree` neighbours in all (put into
    /// [`DEGREE_RANGE`]). In `local` networks, where everybody shares few prefixes, the cap per
    /// prefix does not bind.
    pub(super) fn new(own: Location, degree: usize, local: bool) -> Self {
        let degree = degree.clamp(*DEGREE_RANGE.start(), *DEGREE_RANGE.end());
        let per_prefix_max = if local { usize::MAX } else { (degree / 5).max(2) };
        Self { own, degree, per_prefix_max, local, list: Vec::new(), guests: Vec::new() }
    }

    /// Gives up room that nothing needs.
    pub(super) fn rest(&mut self) {
        for list in [&mut self.list, &mut self.guests] {
            list.rest();
            for it in list.iter_mut() {
                it.sent.rest();
            }
        }
    }

    /// Wants so many neighbours from now on.
    pub(super) fn set_degree(&mut self, degree: usize) {
        self.degree = degree.clamp(*DEGREE_RANGE.start(), *DEGREE_RANGE.end());
    }

    /// Whether nobody can dial this router, so that it has no part in the ring but as a guest.
    pub(super) fn is_guest(&self, peer: &RouterDescriptor) -> bool {
        !peer.is_dialable(self.local)
    }

    /// Whether another guest may come: a few for each neighbour, so that a network of mostly guests
    /// has room for all.
    pub(super) fn guests_have_room(&self) -> bool {
        self.guests.len() < GUESTS_PER_NEIGHBOUR * self.degree
    }

    /// Those that nobody can dial.
    pub(super) fn guests(&self) -> impl Iterator<Item = &Neighbour> {
        self.guests.iter()
    }

    /// Neighbours and guests.
    pub(super) fn all(&self) -> impl Iterator<Item = &Neighbour> {
        self.list.iter().chain(&self.guests)
    }

    /// How many neighbours this router wants.
    pub(super) const fn degree(&self) -> usize {
        self.degree
    }

    /// Where this router is.
    pub(super) const fn own(&self) -> Location {
        self.own
    }

    /// The most it accepts: half as many again, since others draw too. Near ones come on top.
    pub(super) const fn cap(&self) -> usize {
        self.degree + self.degree / 2
    }

    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub(super) const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All of them but guests, clockwise from here.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Neighbour> {
        self.list.iter()
    }

    /// The neighbour or guest with this identity.
    pub(super) fn by_id(&self, id: &RouterId) -> Option<&Neighbour> {
        let key = short(id);
        self.all().find(|it| it.is(key, id))
    }

    /// The neighbour or guest with this identity.
    pub(super) fn by_id_mut(&mut self, id: &RouterId) -> Option<&mut Neighbour> {
        let key = short(id);
        let mut all = self.list.iter_mut().chain(&mut self.guests);
        all.find(|it| it.is(key, id))
    }

    /// Adds a neighbour or guest, or replaces what was known of it.
    pub(super) fn insert(&mut self, neighbour: Neighbour) {
        self.remove(&neighbour.peer.id());
        if self.is_guest(&neighbour.peer) {
            self.guests.push(neighbour);
            return;
        }
        let own = self.own;
        let distance = own.clockwise(neighbour.location);
        let at = self.list.partition_point(|it| own.clockwise(it.location) < distance);
        self.list.insert(at, neighbour);
    }

    /// Takes a neighbour or guest out.
    pub(super) fn remove(&mut self, id: &RouterId) -> Option<Neighbour> {
        let key = short(id);
        if let Some(at) = self.guests.iter().position(|it| it.is(key, id)) {
            return Some(self.guests.remove(at));
        }
        let at = self.list.iter().position(|it| it.is(key, id))?;
        Some(self.list.remove(at))
    }

    /// Whether the neighbour at `index` is among the `depth` next on either side.
    fn near_at(&self, index: usize, depth: usize) -> bool {
        index < depth || index + depth >= self.list.len()
    }

    /// Whether this neighbour is a successor or predecessor.
    pub(super) fn is_near(&self, id: &RouterId) -> bool {
        let key = short(id);
        let at = self.list.iter().position(|it| it.is(key, id));
        at.is_some_and(|at| self.near_at(at, NEAR))
    }

    /// The successors and predecessors, nearest first on each side.
    pub(super) fn near(&self) -> impl Iterator<Item = &Neighbour> {
        let ahead = self.list.len().min(NEAR);
        let behind = (self.list.len() - ahead).min(NEAR);
        self.list.iter().take(ahead).chain(self.list.iter().rev().take(behind))
    }

    /// Whether a router there would be among the `depth` next on either side.
    pub(super) fn would_be_near(&self, location: Location, depth: usize) -> bool {
        let distance = self.own.clockwise(location);
        let before =
            self.list.iter().filter(|it| self.own.clockwise(it.location) < distance).count();
        before < depth || self.list.len() - before < depth
    }

    /// Distance between routers around here, as the near ones show it: the ring divided by the
    /// estimated number of routers. `None` until there are neighbours.
    pub(super) fn spacing(&self) -> Option<u64> {
        let ahead = self.list.len().min(NEAR);
        let behind = (self.list.len() - ahead).min(NEAR);
        let after = ahead.checked_sub(1).and_then(|at| self.list.get(at));
        let before = self.list.get(self.list.len().checked_sub(behind.max(1))?);
        let ahead_span = after.map_or(0, |it| self.own.clockwise(it.location));
        let behind_span = match behind {
            0 => 0,
            _ => before.map_or(0, |it| it.location.clockwise(self.own)),
        };
        let gaps = u64::try_from(ahead + behind).ok()?;
        let span = u128::from(ahead_span) + u128::from(behind_span);
        u64::try_from(span / u128::from(gaps.max(1))).ok().map(|spacing| spacing.max(1))
    }

    /// How many routers the network has, judged from the spacing around here: right to within a
    /// factor of two or three.
    pub(super) fn size_estimate(&self) -> u64 {
        self.spacing().map_or(1, |spacing| u64::MAX / spacing)
    }

    /// The neighbour to pass a request on to: the closest to `key` that `skip` does not name and
    /// that is not suspect. It may be further from the key than this router.
    pub(super) fn next_hop(
        &self,
        now: Time,
        key: Location,
        skip: impl Fn(&Neighbour) -> bool,
    ) -> Option<&Neighbour> {
        self.list
            .iter()
            .filter(|it| !it.is_suspect(now) && !skip(it))
            .min_by_key(|it| it.location.distance(key))
    }

    /// The `count` neighbours closest to `key` that are not suspect, closest first.
    pub(super) fn closest(&self, now: Time, key: Location, count: usize) -> Vec<&Neighbour> {
        let mut all: Vec<_> = self.list.iter().filter(|it| !it.is_suspect(now)).collect();
        all.sort_by_key(|it| it.location.distance(key));
        all.truncate(count);
        all
    }

    /// Whether this router is, as far as it knows, one of those that hold `key`.
    pub(super) fn is_holder(&self, now: Time, key: Location) -> bool {
        let mine = self.own.distance(key);
        let closer = |it: &&Neighbour| !it.is_suspect(now) && it.location.distance(key) < mine;
        self.list.iter().filter(closer).count() < REPLICAS
    }

    /// Whether somebody closer to `key` than this router is there but not to be asked now.
    pub(super) fn is_cut_off(&self, now: Time, key: Location) -> bool {
        let mine = self.own.distance(key);
        self.list.iter().any(|it| it.is_suspect(now) && it.location.distance(key) < mine)
    }

    /// The neighbour let a request fall: pass it over for a while.
    pub(super) fn suspect(&mut self, now: Time, id: &RouterId) {
        if let Some(it) = self.by_id_mut(id) {
            let doubled = 1 << it.strikes.min(STRIKES_MAX);
            it.strikes = it.strikes.saturating_add(1);
            it.suspect_until = now + SUSPECT_TIME * doubled;
        }
    }

    /// The neighbour asked to be left alone for `seconds`.
    pub(super) fn back_off(&mut self, now: Time, id: &RouterId, seconds: u16) {
        if let Some(it) = self.by_id_mut(id) {
            it.suspect_until = it.suspect_until.max(now + Duration::from_secs(seconds.into()));
        }
    }

    /// The neighbour did what it was asked.
    pub(super) fn trust(&mut self, id: &RouterId) {
        if let Some(it) = self.by_id_mut(id) {
            it.strikes = 0;
        }
    }

    /// Long links wanted.
    const fn long_wanted(&self) -> usize {
        self.degree - 2 * NEAR
    }

    /// Octaves of distance that long links are spread over: from twice the spacing (nearer ones are
    /// near) to half a turn.
    fn octaves(&self) -> usize {
        let first = self.first_octave();
        usize::try_from((1u64 << 63).checked_div(first).unwrap_or(1).ilog2()).unwrap_or(1).max(1)
    }

    fn first_octave(&self) -> u64 {
        self.spacing().unwrap_or(1 << 62).saturating_mul(2).clamp(1, 1 << 62)
    }

    /// In which of `strata` equal parts of the logarithmic distance scale a neighbour lies.
    fn strata(&self, strata: usize) -> impl Fn(Location) -> usize {
        let (own, first, scale) = (self.own, to_f64_u64(self.first_octave()), self.scale());
        move |location| {
            let ratio = to_f64_u64(own.distance(location)) / first;
            let octave = ratio.max(1.0).log2() / scale * to_f64(strata);
            to_index(octave).min(strata.saturating_sub(1))
        }
    }

    /// The whole logarithmic scale, in octaves.
    fn scale(&self) -> f64 {
        (to_f64_u64(1 << 63) / to_f64_u64(self.first_octave())).log2().max(1.0)
    }

    /// Whether another long link should be drawn.
    pub(super) fn wants_draw(&self) -> bool {
        let drawn = self.list.iter().filter(|it| it.origin == Origin::Drawn).count();
        let enough = self.long_wanted().div_ceil(2);
        self.list.len() < self.degree || (drawn < enough && self.list.len() < self.cap())
    }

    /// Draws where the next long link should lead: the octave with the fewest links, a distance in
    /// it whose logarithm is uniform, either direction.
    pub(super) fn draw(&self, rng: &mut Rng) -> Location {
        let strata = self.octaves().min(self.long_wanted()).max(1);
        let mut counts = vec![0u32; strata];
        let stratum = self.strata(strata);
        for (at, it) in self.list.iter().enumerate() {
            if !self.near_at(at, NEAR)
                && let Some(count) = counts.get_mut(stratum(it.location))
            {
                *count += 1;
            }
        }
        let least = counts.iter().min().copied().unwrap_or(0);
        let open: Vec<_> = (0..strata).filter(|at| counts.get(*at) == Some(&least)).collect();
        let pick = usize::try_from(rng.below(to_u64(open.len()))).unwrap_or(0);
        let stratum = open.get(pick).copied().unwrap_or(0);
        let part = (to_f64(stratum) + rng.unit()) / to_f64(strata);
        let distance = to_f64_u64(self.first_octave()) * (part * self.scale()).exp2();
        let distance = to_distance(distance);
        self.own.plus(if rng.below(2) == 0 { distance } else { distance.wrapping_neg() })
    }

    /// Whether another neighbour from this prefix may come.
    pub(super) fn prefix_has_room(&self, prefix: Option<Prefix>) -> bool {
        self.list.iter().filter(|it| it.peer.prefix() == prefix).count() < self.per_prefix_max
    }

    /// Whether to accept a router that asks. Near ones always: the ring must close, and a place
    /// next to somebody has its price (PROTOCOL P2).
    pub(super) fn accepts(&self, peer: &RouterDescriptor) -> bool {
        self.by_id(&peer.id()).is_some()
            || self.would_be_near(peer.location(), NEAR + 1)
            || (self.list.len() < self.cap() && self.prefix_has_room(peer.prefix()))
    }

    /// The neighbour to part with, if there are too many: one that is no longer near and that
    /// nobody drew; over the cap, also one that others drew. Out of the fullest octave.
    pub(super) fn surplus(&self, now: Time) -> Option<RouterId> {
        if self.list.len() <= self.degree {
            return None;
        }
        let strata = self.octaves();
        let mut counts = vec![0u32; strata];
        let stratum = self.strata(strata);
        for it in &self.list {
            if let Some(count) = counts.get_mut(stratum(it.location)) {
                *count += 1;
            }
        }
        let over = self.list.len() > self.cap();
        let loose = |(at, it): &(usize, &Neighbour)| {
            !self.near_at(*at, NEAR)
                && (over || now >= it.since + GRACE)
                && (it.origin == Origin::Near || over && it.origin == Origin::Offered)
        };
        let crowd = |it: &Neighbour| counts.get(stratum(it.location)).copied();
        let candidates = self.list.iter().enumerate().filter(loose);
        candidates.map(|(_, it)| it).max_by_key(|it| crowd(it)).map(|it| it.peer.id())
    }
}

#[expect(clippy::cast_precision_loss, reason = "distances need no 64 bits of precision")]
const fn to_f64_u64(value: u64) -> f64 {
    value as f64
}

#[expect(clippy::cast_precision_loss, reason = "at most a few dozen")]
const fn to_f64(value: usize) -> f64 {
    value as f64
}

const fn to_u64(value: usize) -> u64 {
    value as u64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "float casts saturate; values are small and not negative"
)]
const fn to_index(value: f64) -> usize {
    value as usize
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "float casts saturate; distances are positive and at most half a turn"
)]
const fn to_distance(value: f64) -> u64 {
    let distance = value as u64;
    if distance > 1 << 63 { 1 << 63 } else { distance }
}

#[cfg(test)]
mod tests;
