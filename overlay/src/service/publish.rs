//! Keeping one service findable: its descriptor at six places of each day that readers may be in.
//!
//! Lives here: when to seal and send records, and whether the service counts as
//! published. Does not live here: what is in them (`descriptor.rs`), retrying (`publish/slot.rs`), the daily session keys
//! (`keys.rs`), tunnels: the owner sends each `Put` through one, and those of different days
//! through end hops of their own (PROTOCOL P10), so that no end hop can link two days' keys.
//!
//! ```text
//!  round: one version, sealed for every set:
//!      yesterday   until 3 h after the boundary, if it was published as today's
//!      today       always
//!      tomorrow    from 12 h before the boundary
//!  a round begins on a change (500 ms later), and 50 to 60 min after the one before
//!
//!  one place:  Retrying --time--> Putting --stored--> Stored
//!                 ^  ^---- failed --/ |
//!                 |                   | stale: a newer version is held
//!                 \---- failed --- Learning --lacks what we offer--> next round, with a higher one
//!                                           \--has it too--> Stored
//! ```
//!
//! Several routers may publish one service. Each writes what it offers and what the others do, as it
//! last read it (`publish/beside.rs`).

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

mod beside;
mod slot;

use self::{
    beside::{Beside, Read},
    slot::{DaySet, Round, Slot, SlotState},
};
use super::{
    AccessKey, Day, EXPIRY_MIN, LEASES_MAX, Name, Offer, OfferId, PLACES, ServiceDescriptor, day,
    open, place, seal,
};
use crate::{
    crypto::blind::ServiceKey,
    garlic::RecordAnswer,
    id::{Key, NetworkId},
    record::Record,
    rng::Rng,
    time::{Now, Time},
};

/// How long a change waits for others to go with it: gateways come and go in groups.
const COALESCE: Duration = Duration::from_millis(500);
/// How often the wall clock is looked at.
const TICK: Duration = Duration::from_mins(1);
/// The least time between two rounds because another router wrote over what this one publishes, and up
/// to how much later it is.
const CONFLICT_WAIT: Duration = Duration::from_mins(1);
const CONFLICT_SPREAD_MS: u64 = 2_000;
/// Minutes before the boundary from which tomorrow's set is published.
const AHEAD_MIN: u32 = 12 * 60;
/// Minutes after the boundary until which yesterday's set is kept.
const KEPT_MIN: u32 = 3 * 60;
/// What a publisher is told.
#[derive(Debug)]
pub enum Input {
    /// What this router offers from now on. Id and version are filled in here, leases beyond
    /// [`LEASES_MAX`] are cut off. Without leases there is nothing to publish: what is out is left
    /// to expire.
    Offer(Offer),
    /// The service ends here: readers are told at once, by a descriptor without this router's offer.
    Withdraw,
    /// Readers do not find it, although it was stored: the same goes out anew.
    Again,
    /// This is what readers find.
    Found {
        /// The newest of what they were given.
        descriptor: Arc<ServiceDescriptor>,
        /// Its version.
        version: u64,
    },
    /// Nobody answers at another router's offer.
    Gone(OfferId),
    /// What became of a `Put` or `Get`.
    Answer {
        /// Its number.
        request: u32,
        /// As the end hop said.
        answer: RecordAnswer,
    },
}

/// What a publisher wants done.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Put a record, through a tunnel whose end hop no other set uses.
    Put {
        /// To be named in the answer.
        request: u32,
        /// The record; `record.key()` is its place.
        record: Record,
        /// Which set it is of.
        set: Set,
        /// How often it was tried before: each time through another tunnel.
        tries: u32,
    },
    /// Get the record that is held at one of our own places, through the same tunnel as its puts.
    Get {
        /// To be named in the answer.
        request: u32,
        /// The place.
        key: Key,
        /// Which set it is of.
        set: Set,
    },
    /// At least 3 of today's 6 places hold this version. Said once a version.
    Published {
        /// To be persisted, so that it never falls ([`Publisher::version`]).
        version: u64,
    },
}

/// Which day's records, seen from the service's today.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Set {
    /// Kept for readers whose clock is late.
    Yesterday,
    /// What readers ask for.
    Today,
    /// Laid out ahead.
    Tomorrow,
}

/// Publishes one service, to everybody or to one client.
pub struct Publisher {
    key: ServiceKey,
    access: Option<Arc<AccessKey>>,
    name: Name,
    network: NetworkId,
    rng: Rng,
    id: OfferId,
    /// What this router offers; its version is that of the round in which it first went out.
    own: Option<Offer>,
    /// It has not gone out yet, or has to be renewed.
    stale: bool,
    /// This router's offer is taken back.
    withdrawn: bool,
    beside: Beside,
    /// Nothing of this router's is out, because there is no room for it.
    stood_by: bool,
    version: u64,
    announced: u64,
    change_due: Option<Time>,
    round: Option<Round>,
    sets: Vec<DaySet>,
    today: Day,
    published: Option<Time>,
    tick: Time,
    /// When the last round because of a conflict began, or will.
    conflict: Option<Time>,
    conflicts: u64,
    requests: u32,
    /// How long a put waits for its answer, smoothed.
    usual: Option<Duration>,
    outputs: VecDeque<Output>,
}

impl Publisher {
    /// A publisher with nothing to say yet: to everybody, or to the client that holds `access`. `id`
    /// says whose offer it publishes. `version` is the last one that was used (zero if none is known;
    /// the wall clock then makes up for it): if it is not zero, other routers may publish too.
    pub fn new(
        now: Now,
        key: ServiceKey,
        access: Option<Arc<AccessKey>>,
        network: NetworkId,
        (id, version): (OfferId, u64),
        rng: Rng,
    ) -> Self {
        let name = Name::of_service(&key);
        Self {
            today: Day::at(&name, now.wall),
            published: None,
            key,
            access,
            name,
            network,
            rng,
            own: None,
            stale: true,
            withdrawn: false,
            stood_by: false,
            beside: Beside::new(id, version > 0),
            id,
            version,
            announced: 0,
            change_due: None,
            round: None,
            sets: Vec::new(),
            tick: now.time + TICK,
            conflict: None,
            conflicts: 0,
            requests: 0,
            usual: None,
            outputs: VecDeque::new(),
        }
    }

    /// The name under which the service is found.
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// The last version used, to be persisted and given to `new`: a version never falls.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Since when readers find the service: at least 3 of today's 6 places hold a current record.
    pub const fn published(&self) -> Option<Time> {
        self.published
    }

    /// How many other routers offer the same service, as far as is known.
    pub fn others(&self) -> usize {
        self.beside.count()
    }

    /// Whether it waits for one of the others to go: a descriptor has room for two.
    pub fn stands_by(&self) -> bool {
        self.own.is_some() && !self.withdrawn && self.beside.is_full()
    }

    /// How often what was published was found overwritten by what lacks it: another router of the
    /// service wrote at the same time, or this one's own past with a clock that was ahead.
    pub const fn conflicts(&self) -> u64 {
        self.conflicts
    }

    /// Something happened. An answer that nobody waits for changes nothing.
    pub fn handle_input(&mut self, now: Now, input: Input) {
        match input {
            Input::Offer(offer) => self.change(now, offer),
            Input::Withdraw => {
                self.withdrawn = true;
                self.change_due = Some(now.time);
            }
            Input::Again if self.own.is_some() => self.change_due = Some(now.time),
            Input::Again => {}
            Input::Found { descriptor, version } => {
                if self.own.is_some() && !self.learn(&descriptor, version) {
                    self.overtake(now.time);
                }
            }
            Input::Gone(id) => {
                if self.beside.gone(id) {
                    self.change_due = Some(now.time);
                }
            }
            Input::Answer { request, answer } => self.answer(now, request, answer),
        }
        self.advance(now);
    }

    /// Time passed, on either clock.
    pub fn handle_timeout(&mut self, now: Now) {
        self.advance(now);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to be woken.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.own.as_ref()?;
        let slots = self.sets.iter().flat_map(|set| &set.slots).filter_map(Slot::wakes);
        let round = if self.beside.is_reading() {
            self.beside.poll_timeout()
        } else {
            let refresh = self.round.as_ref().map(Round::due);
            refresh.into_iter().chain(self.change_due).min()
        };
        slots.chain(round).chain([self.tick]).min()
    }

    fn change(&mut self, now: Now, mut offer: Offer) {
        offer.leases.truncate(LEASES_MAX);
        if offer.leases.is_empty() {
            self.own = None;
            self.rest();
            self.outputs.clear();
            return;
        }
        offer.id = self.id;
        if let Some(ours) = &self.own {
            offer.version = ours.version;
            if *ours == offer {
                return;
            }
        }
        (self.own, self.stale, self.withdrawn) = (Some(offer), true, false);
        let earliest = self.round.as_ref().map_or(now.time, Round::next);
        let due = (now.time + COALESCE).max(earliest);
        self.change_due = Some(self.change_due.map_or(due, |earlier| earlier.min(due)));
    }

    /// Nothing of this router's is out, and nothing goes out.
    fn rest(&mut self) {
        (self.change_due, self.round, self.published) = (None, None, None);
        self.sets.clear();
        self.stale = true;
    }

    /// Learns what others offer from what lies in the ring. False if that lacks what this router
    /// offers and should not.
    fn learn(&mut self, descriptor: &ServiceDescriptor, version: u64) -> bool {
        if version < self.version {
            return true;
        }
        self.version = version;
        self.beside.learn(descriptor);
        let ours = descriptor.offers.iter().find(|offer| offer.id == self.id);
        let Some(own) = self.own.as_ref().filter(|_| !self.stale && !self.withdrawn) else {
            return true; // a round is to come anyway, or none
        };
        // Another one of this router's is of its own past, with a clock that was ahead.
        self.stale = ours != Some(own);
        !self.stale
    }

    fn answer(&mut self, now: Now, request: u32, answer: RecordAnswer) {
        if self.beside.answer(now, request, &answer) {
            return;
        }
        let learning = self.learning();
        let Some(set) = self.sets.iter_mut().find(|set| set.awaits(request)) else { return };
        let mut slots = set.slots.iter_mut().enumerate();
        let Some((at, slot)) = slots.find(|(_, slot)| slot.request() == Some(request)) else {
            return;
        };
        if matches!(slot.state, SlotState::Putting { .. }) {
            let took = now.time.since(slot.put);
            self.usual = Some(self.usual.map_or(took, |usual| (usual * 7 + took) / 8));
        }
        let mut learned = None;
        match (slot.state, answer) {
            (SlotState::Putting { .. }, RecordAnswer::Stored { copies: 1.. }) => {
                slot.state = SlotState::Stored;
            }
            (SlotState::Putting { .. }, RecordAnswer::Stale) if !learning => {
                let (request, until) = (self.requests, now.time + slot.patience(self.usual));
                self.requests = self.requests.wrapping_add(1);
                slot.state = SlotState::Learning { request, until };
                let key = slot.record.key();
                let set = Set::of(set.day, self.today);
                self.outputs.push_back(Output::Get { request, key, set });
                return;
            }
            (SlotState::Learning { .. }, RecordAnswer::Found(bytes)) => {
                match Record::decode(bytes.as_bytes(), self.network) {
                    Ok(held) if held == slot.record => slot.state = SlotState::Stored,
                    Ok(held) if held.public() == slot.record.public() => {
                        slot.fail(now.time, 0);
                        learned = Some((set.day, at, held));
                    }
                    Ok(_) | Err(_) => slot.fail(now.time, 0),
                }
            }
            (
                _,
                RecordAnswer::Busy { retry_s: asked_s }
                | RecordAnswer::RecentlyFailed { until_s: asked_s },
            ) => slot.fail(now.time, asked_s),
            (
                _,
                RecordAnswer::Stored { .. }
                | RecordAnswer::Stale
                | RecordAnswer::Found(_)
                | RecordAnswer::NotFound
                | RecordAnswer::NoRoute { .. },
            ) => slot.fail(now.time, 0),
        }
        set.count();
        if let Some((day, at, held)) = learned {
            self.held(now.time, day, at, &held);
        }
    }

    /// Another version than ours is held at the place of the `at`th slot of a day. If it says what this
    /// router offers, the place is as good as ours.
    fn held(&mut self, now: Time, day: Day, at: usize, held: &Record) {
        if held.version() < self.version {
            return;
        }
        let index = u8::try_from(at).unwrap_or(u8::MAX);
        let place = place(&self.name, self.access.as_deref(), self.network, day, index);
        let opened = place.and_then(|place| {
            open(&self.name, self.access.as_deref(), self.network, &place, held).ok()
        });
        let Some(descriptor) = opened else {
            self.version = held.version();
            return self.overtake(now);
        };
        if !self.learn(&descriptor, held.version()) {
            return self.overtake(now);
        }
        if let Some(set) = self.sets.iter_mut().find(|set| set.day == day) {
            if let Some(slot) = set.slots.get_mut(at) {
                slot.state = SlotState::Stored;
            }
            set.count();
        }
    }

    /// Whether a stale place is being asked what it holds: one at a time is enough.
    fn learning(&self) -> bool {
        let mut slots = self.sets.iter().flat_map(|set| &set.slots);
        slots.any(|slot| matches!(slot.state, SlotState::Learning { .. }))
    }

    /// What is held lacks our own: the next round goes beyond it. Not at once: of two routers that
    /// overtake each other in step neither would be read by the other.
    fn overtake(&mut self, now: Time) {
        if self.conflict.is_some_and(|due| now < due) {
            return; // that round is still to come
        }
        self.conflicts = self.conflicts.saturating_add(1);
        let due = self.conflict.map_or(now, |last| (last + CONFLICT_WAIT).max(now));
        let due = due + Duration::from_millis(self.rng.below(CONFLICT_SPREAD_MS));
        self.conflict = Some(due);
        self.change_due = Some(self.change_due.map_or(due, |earlier| earlier.min(due)));
    }

    fn advance(&mut self, now: Now) {
        if now.time >= self.tick {
            self.tick = now.time + TICK;
        }
        self.today = Day::at(&self.name, now.wall);
        if self.own.is_none() {
            return;
        }
        self.beside.expire(now.wall);
        self.beside.handle_timeout(now);
        if self.stands_by() != self.stood_by {
            self.stood_by = self.stands_by();
            self.rest();
            self.change_due = (!self.stood_by).then_some(now.time);
        }
        let changed = self.change_due.is_some_and(|due| now.time >= due);
        let old = self.round.as_ref().is_some_and(|round| round.over(now));
        self.stale |= old;
        if self.beside.is_reading() {
            self.read(now);
        } else if (changed || old) && self.beside.wants_reading() {
            let (access, rng) = (self.access.clone(), self.rng.fork());
            self.beside.read(now, self.name, access, self.network, rng);
            self.read(now);
        } else if changed || old {
            self.begin_round(now);
        } else if self.round.is_some() {
            self.fit_sets(now);
        }
        self.drive(now);
        self.announce(now);
    }

    /// Goes on with reading what lies in the ring; then follows the round for which it is read.
    fn read(&mut self, now: Now) {
        while let Some(read) = self.beside.poll(now.time, self.requests) {
            match read {
                Read::Get { request, key } => {
                    self.requests = self.requests.wrapping_add(1);
                    self.outputs.push_back(Output::Get { request, key, set: Set::Today });
                }
                Read::Done(found) => {
                    if let Some((descriptor, version)) = found {
                        self.learn(&descriptor, version);
                    }
                    if !self.stands_by() {
                        self.begin_round(now);
                    }
                }
            }
        }
    }

    /// Seals everything anew under the next version.
    fn begin_round(&mut self, now: Now) {
        self.version = self.version.saturating_add(1).max(now.wall.millis());
        if let Some(own) = self.own.as_mut().filter(|_| std::mem::take(&mut self.stale)) {
            own.version = self.version;
        }
        self.change_due = None;
        let overtaken = self.round.take().filter(|_| !self.todays().is_some_and(DaySet::is_stored));
        self.round = Some(Round::new(now, &mut self.rng, overtaken.as_ref()));
        self.outputs.retain(|output| matches!(output, Output::Published { .. }));
        for set in &mut self.sets {
            set.slots.clear();
        }
        self.fit_sets(now);
        tracing::debug!(sets = self.sets.len(), "publishing a descriptor");
    }

    /// Drops sets whose time is over, begins those whose time has come, fills those that are empty.
    fn fit_sets(&mut self, now: Now) {
        let (today, wall) = (self.today, now.wall);
        let kept = wall < today.start(&self.name).plus(KEPT_MIN);
        let ahead = wall.plus(AHEAD_MIN) >= today.next().start(&self.name);
        let is_wanted =
            |day: Day| day == today || ahead && day == today.next() || kept && day.next() == today;
        self.sets.retain(|set| is_wanted(set.day));
        for day in [today, today.next()] {
            if is_wanted(day) && self.sets.iter().all(|set| set.day != day) {
                self.sets.push(DaySet { day, slots: Vec::new(), complete: None });
            }
        }
        // Today's first: it is what readers wait for.
        self.sets.sort_by_key(|set| (set.day != today, set.day));
        let mut sets = std::mem::take(&mut self.sets);
        for set in sets.iter_mut().filter(|set| set.slots.is_empty()) {
            set.slots = self.sealed(now, set.day);
        }
        self.sets = sets;
    }

    /// The six places of a day, sealed under the round's version and due at once.
    fn sealed(&mut self, now: Now, day: Day) -> Vec<Slot> {
        let own = self.own.as_ref().filter(|_| !self.withdrawn);
        let descriptor = ServiceDescriptor { created: now.wall, offers: self.beside.with(own) };
        let mut expiry = now.wall.plus(EXPIRY_MIN);
        if day < self.today {
            expiry = expiry.min(self.today.start(&self.name).plus(KEPT_MIN));
        }
        let (rng, key, access) = (&mut self.rng, &self.key, self.access.as_deref());
        let (network, version) = (self.network, self.version);
        let seal =
            |index| seal(rng, key, access, network, day, index, version, expiry, &descriptor).ok();
        let records = day::indexes().filter_map(seal);
        let state = SlotState::Retrying { at: now.time };
        records.map(|record| Slot { record, failures: 0, put: now.time, state }).collect()
    }

    /// Gives up on what got no answer and sends what is due.
    fn drive(&mut self, now: Now) {
        for set in &mut self.sets {
            let which = Set::of(set.day, self.today);
            for slot in &mut set.slots {
                if slot.is_unanswered(now.time) {
                    // The wait was its pause.
                    slot.failures = slot.failures.saturating_add(1);
                    slot.state = SlotState::Retrying { at: now.time };
                }
                if matches!(slot.state, SlotState::Retrying { at } if now.time >= at) {
                    let (request, until) = (self.requests, now.time + slot.patience(self.usual));
                    slot.put = now.time;
                    self.requests = self.requests.wrapping_add(1);
                    slot.state = SlotState::Putting { request, until };
                    let (record, tries) = (slot.record.clone(), slot.failures);
                    self.outputs.push_back(Output::Put { request, record, set: which, tries });
                }
            }
        }
    }

    fn todays(&self) -> Option<&DaySet> {
        self.sets.iter().find(|set| set.day == self.today)
    }

    /// Says whether readers find the service, and when they first find this version.
    fn announce(&mut self, now: Now) {
        let Some(set) = self.todays() else { return };
        let found = set.complete.is_some_and(|until| now.wall < until);
        let stored = set.is_stored();
        self.published = found.then(|| self.published.unwrap_or(now.time));
        if self.announced < self.version && stored {
            self.announced = self.version;
            self.outputs.push_back(Output::Published { version: self.version });
        }
    }
}

impl Set {
    fn of(day: Day, today: Day) -> Self {
        match day.cmp(&today) {
            std::cmp::Ordering::Less => Self::Yesterday,
            std::cmp::Ordering::Equal => Self::Today,
            std::cmp::Ordering::Greater => Self::Tomorrow,
        }
    }
}

/// Says only how it stands.
impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stored: usize = self.sets.iter().map(DaySet::stored).sum();
        write!(f, "Publisher({stored} of {} stored)", self.sets.len() * PLACES)
    }
}

#[cfg(test)]
mod beside_tests;
#[cfg(test)]
mod tests;
