//! Keeping one service findable: its descriptor at six places of each day that readers may be in.
//!
//! Lives here: when to seal and send records, retrying, and whether the service counts as
//! published. Does not live here: what is in them (`descriptor.rs`), the daily session keys
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
//!                 \---- failed --- Learning --its version--> next round, with a higher one
//! ```

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use super::{AccessKey, Day, EXPIRY_MIN, LEASES_MAX, Name, PLACES, ServiceDescriptor, day, seal};
use crate::{
    crypto::blind::ServiceKey,
    garlic::RecordAnswer,
    id::{Key, NetworkId},
    record::Record,
    rng::Rng,
    time::{Now, Time, Wall},
};

/// How long a change waits for others to go with it: gateways come and go in groups.
const COALESCE: Duration = Duration::from_millis(500);
/// The least time between two rounds; with [`COALESCE`] well under the 5 s of PROTOCOL P10.
const ROUND_MIN: Duration = Duration::from_secs(1);
/// A round is repeated after 50 to 60 minutes, drawn: six puts at the same second of every hour
/// would be easy to link.
const REFRESH_MIN: Duration = Duration::from_mins(50);
const REFRESH_SPREAD_S: u64 = 10 * 60;
/// The same on the wall clock, which goes on while a machine sleeps.
const REFRESH_WALL_MIN: u32 = 60;
/// How often the wall clock is looked at.
const TICK: Duration = Duration::from_mins(1);
/// A put or get without an answer is sent again after three times what answers take, through another
/// tunnel: one on its way may be silent. At least this, and this before the first answer.
const ANSWER_WAIT_MIN: Duration = Duration::from_millis(500);
const ANSWER_WAIT_FIRST: Duration = Duration::from_millis(1_500);
/// So many times, while there are other tunnels; then the wait doubles up to this.
const QUICK_TRIES: u32 = 3;
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(24);
/// Waits between tries of one place: 1 s, doubling up to 30 s.
const BACK_OFF_MIN: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// The longest wait that an answer can ask for.
const BUSY_MAX_S: u16 = 60;
/// The least time between two rounds because somebody else publishes under the same key.
const CONFLICT_WAIT: Duration = Duration::from_mins(1);
/// Minutes before the boundary from which tomorrow's set is published.
const AHEAD_MIN: u32 = 12 * 60;
/// Minutes after the boundary until which yesterday's set is kept.
const KEPT_MIN: u32 = 3 * 60;
/// So many stored records of today's six make a service published: readers ask three, then the
/// other three.
const PUBLISHED_MIN: usize = 3;

/// What a publisher is told.
#[derive(Debug)]
pub enum Input {
    /// What the service says from now on. `created` is filled in here, leases beyond
    /// [`LEASES_MAX`] are cut off. Without leases there is nothing to publish: what is out is left
    /// to expire.
    Descriptor(ServiceDescriptor),
    /// The service ends: readers are told at once, by a descriptor without leases.
    Withdraw(ServiceDescriptor),
    /// Readers do not find it, although it was stored: the same goes out anew.
    Again,
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum SlotState {
    Retrying { at: Time },
    Putting { request: u32, until: Time },
    Learning { request: u32, until: Time },
    Stored,
}

/// One place of one day in one round.
struct Slot {
    record: Record,
    failures: u32,
    /// When it was put last.
    put: Time,
    state: SlotState,
}

impl Slot {
    const fn request(&self) -> Option<u32> {
        match self.state {
            SlotState::Putting { request, .. } | SlotState::Learning { request, .. } => {
                Some(request)
            }
            SlotState::Retrying { .. } | SlotState::Stored => None,
        }
    }

    const fn wakes(&self) -> Option<Time> {
        match self.state {
            SlotState::Retrying { at } => Some(at),
            SlotState::Putting { until, .. } | SlotState::Learning { until, .. } => Some(until),
            SlotState::Stored => None,
        }
    }

    /// It was sent, and waited for long enough.
    fn is_unanswered(&self, now: Time) -> bool {
        self.request().is_some() && self.wakes().is_some_and(|until| now >= until)
    }

    /// How long an answer is waited for, where they usually take so long.
    fn patience(&self, usual: Option<Duration>) -> Duration {
        let wait = usual.map_or(ANSWER_WAIT_FIRST, |usual| (usual * 3).max(ANSWER_WAIT_MIN));
        let doublings = self.failures.saturating_sub(QUICK_TRIES).min(8);
        wait.saturating_mul(1 << doublings).min(ANSWER_WAIT_MAX)
    }

    /// Puts the next try off: 1 s doubling to 30 s, or as long as was asked for.
    fn fail(&mut self, now: Time, asked_s: u16) {
        let doubled = BACK_OFF_MIN.saturating_mul(1 << self.failures.min(8)).min(BACK_OFF_MAX);
        let asked = Duration::from_secs(asked_s.min(BUSY_MAX_S).into());
        self.failures = self.failures.saturating_add(1);
        self.state = SlotState::Retrying { at: now + doubled.max(asked) };
    }
}

struct DaySet {
    day: Day,
    slots: Vec<Slot>,
    /// Until when at least 3 places hold this version or one before it.
    complete: Option<Wall>,
}

struct Round {
    sealed: Now,
    refresh: Duration,
}

/// Publishes one service, to everybody or to one client.
pub struct Publisher {
    key: ServiceKey,
    access: Option<Arc<AccessKey>>,
    name: Name,
    network: NetworkId,
    rng: Rng,
    descriptor: Option<ServiceDescriptor>,
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
    /// A publisher with nothing to say yet: to everybody, or to the client that holds `access`.
    /// `version` is the last one that was used (zero if none is known; the wall clock then makes up
    /// for it).
    pub fn new(
        now: Now,
        key: ServiceKey,
        access: Option<Arc<AccessKey>>,
        network: NetworkId,
        version: u64,
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
            descriptor: None,
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

    /// How often somebody else was seen publishing under the same key: a second router with a copy
    /// of it, or this one's own past with a clock that was ahead.
    pub const fn conflicts(&self) -> u64 {
        self.conflicts
    }

    /// Something happened. An answer that nobody waits for changes nothing.
    pub fn handle_input(&mut self, now: Now, input: Input) {
        match input {
            Input::Descriptor(descriptor) => self.change(now, descriptor),
            Input::Withdraw(mut descriptor) => {
                descriptor.leases.clear();
                self.descriptor = Some(descriptor);
                self.change_due = Some(now.time);
            }
            Input::Again if self.descriptor.is_some() => self.change_due = Some(now.time),
            Input::Again => {}
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
        self.descriptor.as_ref()?;
        let refresh = self.round.as_ref().map(|round| round.sealed.time + round.refresh);
        let slots = self.sets.iter().flat_map(|set| &set.slots).filter_map(Slot::wakes);
        slots.chain(self.change_due).chain(refresh).chain([self.tick]).min()
    }

    fn change(&mut self, now: Now, mut descriptor: ServiceDescriptor) {
        descriptor.leases.truncate(LEASES_MAX);
        if descriptor.leases.is_empty() {
            self.descriptor = None;
            self.change_due = None;
            self.round = None;
            self.sets.clear();
            self.published = None;
            self.outputs.clear();
            return;
        }
        if let Some(ours) = &self.descriptor {
            descriptor.created = ours.created;
            if *ours == descriptor {
                return;
            }
        }
        self.descriptor = Some(descriptor);
        let earliest = self.round.as_ref().map_or(now.time, |round| round.sealed.time + ROUND_MIN);
        let due = (now.time + COALESCE).max(earliest);
        self.change_due = Some(self.change_due.map_or(due, |earlier| earlier.min(due)));
    }

    fn answer(&mut self, now: Now, request: u32, answer: RecordAnswer) {
        let learning = self.learning();
        let Some(set) = self.sets.iter_mut().find(|set| set.awaits(request)) else { return };
        let Some(slot) = set.slots.iter_mut().find(|slot| slot.request() == Some(request)) else {
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
                        learned = Some(held.version());
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
        if let Some(version) = learned.filter(|version| *version >= self.version) {
            self.overtake(now.time, version);
        }
    }

    /// Whether a stale place is being asked what it holds: one at a time is enough.
    fn learning(&self) -> bool {
        let mut slots = self.sets.iter().flat_map(|set| &set.slots);
        slots.any(|slot| matches!(slot.state, SlotState::Learning { .. }))
    }

    /// A higher version than ours is held: the next round goes beyond it.
    fn overtake(&mut self, now: Time, version: u64) {
        self.version = version;
        if self.conflict.is_some_and(|due| now < due) {
            return; // that round is still to come
        }
        self.conflicts = self.conflicts.saturating_add(1);
        let due = self.conflict.map_or(now, |last| (last + CONFLICT_WAIT).max(now));
        self.conflict = Some(due);
        self.change_due = Some(self.change_due.map_or(due, |earlier| earlier.min(due)));
    }

    fn advance(&mut self, now: Now) {
        if now.time >= self.tick {
            self.tick = now.time + TICK;
        }
        self.today = Day::at(&self.name, now.wall);
        if self.descriptor.is_none() {
            return;
        }
        let changed = self.change_due.is_some_and(|due| now.time >= due);
        if changed || self.round.as_ref().is_some_and(|round| round.over(now)) {
            self.begin_round(now);
        } else if self.round.is_some() {
            self.fit_sets(now);
        }
        self.drive(now);
        self.announce(now);
    }

    /// Seals everything anew under the next version.
    fn begin_round(&mut self, now: Now) {
        let Some(descriptor) = &mut self.descriptor else { return };
        descriptor.created = now.wall;
        self.version = self.version.saturating_add(1).max(now.wall.millis());
        self.change_due = None;
        let refresh = REFRESH_MIN + Duration::from_secs(self.rng.below(REFRESH_SPREAD_S));
        self.round = Some(Round { sealed: now, refresh });
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
        let Some(descriptor) = &self.descriptor else { return Vec::new() };
        let mut expiry = now.wall.plus(EXPIRY_MIN);
        if day < self.today {
            expiry = expiry.min(self.today.start(&self.name).plus(KEPT_MIN));
        }
        let (rng, key, access) = (&mut self.rng, &self.key, self.access.as_deref());
        let (network, version) = (self.network, self.version);
        let seal =
            |index| seal(rng, key, access, network, day, index, version, expiry, descriptor).ok();
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

    /// Says whether readers find the service, and when they first find this version.
    fn announce(&mut self, now: Now) {
        let today = self.today;
        let Some(set) = self.sets.iter().find(|set| set.day == today) else { return };
        let found = set.complete.is_some_and(|until| now.wall < until);
        self.published = found.then(|| self.published.unwrap_or(now.time));
        if self.announced < self.version && set.stored() >= PUBLISHED_MIN {
            self.announced = self.version;
            self.outputs.push_back(Output::Published { version: self.version });
        }
    }
}

impl DaySet {
    fn awaits(&self, request: u32) -> bool {
        self.slots.iter().any(|slot| slot.request() == Some(request))
    }

    fn stored(&self) -> usize {
        self.slots.iter().filter(|slot| slot.state == SlotState::Stored).count()
    }

    /// Notes whether enough places hold the set, and until when.
    fn count(&mut self) {
        let expiry = self.slots.first().map(|slot| slot.record.expiry());
        if let Some(expiry) = expiry.filter(|_| self.stored() >= PUBLISHED_MIN) {
            self.complete = Some(expiry);
        }
    }
}

impl Round {
    /// Whether its records want refreshing; also when a machine slept, or its clock was set back.
    fn over(&self, now: Now) -> bool {
        let wall = self.sealed.wall;
        now.time >= self.sealed.time + self.refresh
            || now.wall >= wall.plus(REFRESH_WALL_MIN)
            || now.wall.plus(2) < wall
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
mod tests;
