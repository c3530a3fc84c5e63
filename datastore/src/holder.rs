//! The holder: which records this router keeps, and who else must have them.
//!
//! Lives here: acceptance (expiry, quota, room), expiry, replication when neighbours change, handover.
//! Does not live here: the bytes (`store.rs`), finding the closest routers (crate overlay's ring).
//!
//! ```text
//! Store(Get)  ── held and current ─────────────────────> Found,  else Missing
//! Store(Put)  ── expiry in bounds, quota, newer, room ──> Stored, else Stale or Refused
//! Neighbourhood ── sweep over all held records, a few at a time ──> Send(Replicate)
//! HandOver ─────── the same, faster, as if this router were gone ──> ... HandedOver
//! ```
//!
//! A record belongs to the three routers closest to its key. When the neighbours change, whoever is
//! newly among these three gets it from the closest of those that had it before: every holder works
//! that out for itself from what it knows, so that mostly one sends, and never none.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use warren_overlay::{
    id::{Key, LinkNo, Location},
    record::Record,
    ring::{Held, REPLICAS, RingMessage, StoreOp},
    time::{Now, Time, Wall},
};

use crate::store::{Put, RecordStore};

/// How far ahead a record may expire: a week. Service descriptors take three hours.
const LIFE_MAX_MIN: u32 = 7 * 24 * 60;
/// Records that one link may bring at once, and how many a second after that. Each is at most 4 KiB:
/// a flood through one neighbour fills a sixteenth of the default store at once, then 32 KiB/s.
const QUOTA_BURST: u32 = 1_024;
const QUOTA_PER_SECOND: u32 = 8;
/// Links whose quota is remembered; more than a ring has neighbours.
const QUOTAS_MAX: usize = 256;
/// Pace of replication: this many records looked at and this many sent each tick, 160 KiB/s.
const TICK: Duration = Duration::from_millis(100);
const LOOKED_AT_PER_TICK: usize = 256;
const SENT_PER_TICK: usize = 4;
/// The same when leaving: there are three seconds.
const HANDED_PER_TICK: usize = 64;
/// How often expired records are taken out.
const EXPIRE_EVERY: Duration = Duration::from_mins(1);

/// What happened.
#[derive(Clone, Debug)]
pub enum HolderInput {
    /// The ring's `Output::Store`.
    Store {
        /// To be named in the answer; without one none is wanted.
        ticket: Option<u32>,
        /// What to do.
        op: StoreOp,
    },
    /// The ring's `Output::Neighbourhood`.
    Neighbourhood(Vec<(LinkNo, Location)>),
    /// The ring's `Output::HandOver`.
    HandOver,
}

/// What the owner must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HolderOutput {
    /// The ring's `Input::Held`.
    Held {
        /// The ticket it answers to.
        ticket: u32,
        /// What the store says.
        held: Held,
    },
    /// Say this on a link.
    Send {
        /// The link.
        link: LinkNo,
        /// Always `Replicate`.
        message: RingMessage,
    },
    /// The ring's `Input::HandedOver`.
    HandedOver,
}

/// A walk over all held records: who gained a place among the closest since `before`?
#[derive(Debug)]
struct Sweep {
    before: Vec<Location>,
    after: Option<Key>,
    leaving: bool,
}

#[derive(Debug)]
struct Quota {
    left: u32,
    since: Time,
}

/// What one router holds for the ring.
#[derive(Debug)]
pub struct Holder {
    store: Box<dyn RecordStore>,
    own: Location,
    neighbours: Vec<(LinkNo, Location)>,
    sweep: Option<Sweep>,
    next_tick: Time,
    next_expiry: Time,
    quotas: BTreeMap<LinkNo, Quota>,
    failures: u64,
    outputs: VecDeque<HolderOutput>,
}

impl Holder {
    /// A holder at `own` with what `store` has from before.
    pub fn new(store: Box<dyn RecordStore>, own: Location) -> Self {
        Self {
            store,
            own,
            neighbours: Vec::new(),
            sweep: None,
            next_tick: Time::ZERO,
            next_expiry: Time::ZERO,
            quotas: BTreeMap::new(),
            failures: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Records held.
    pub fn len(&self) -> usize {
        self.store.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.store.is_empty()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.store.bytes()
    }

    /// How often the store itself failed since the start; each is an operator's business.
    pub const fn failures(&self) -> u64 {
        self.failures
    }

    /// Something happened.
    pub fn handle_input(&mut self, now: Now, input: HolderInput) {
        match input {
            HolderInput::Store { ticket, op } => {
                let held = match op {
                    StoreOp::Get(key) => self.get(now.wall, &key),
                    StoreOp::Put { record, from } => self.put(now, &record, from),
                };
                if let Some(ticket) = ticket {
                    self.outputs.push_back(HolderOutput::Held { ticket, held });
                }
            }
            HolderInput::Neighbourhood(neighbours) => {
                let before = self.places();
                self.neighbours = neighbours;
                self.quotas.retain(|link, _| self.neighbours.iter().any(|(it, _)| it == link));
                // A sweep that did not end starts again, from where its change began.
                let (before, leaving) = match self.sweep.take() {
                    Some(old) => (old.before, old.leaving),
                    None => (before, false),
                };
                self.start_sweep(now.time, Sweep { before, after: None, leaving });
            }
            HolderInput::HandOver => {
                let before = self.places();
                self.start_sweep(now.time, Sweep { before, after: None, leaving: true });
            }
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Now) {
        if now.time >= self.next_expiry {
            self.next_expiry = now.time + EXPIRE_EVERY;
            match self.store.expire(now.wall) {
                Ok(0) => {}
                Ok(_) => self.next_expiry = now.time + TICK, // there may be more
                Err(_) => self.failures += 1,
            }
        }
        if self.sweep.is_some() && now.time >= self.next_tick {
            self.next_tick = now.time + TICK;
            self.sweep_on(now.wall);
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<HolderOutput> {
        self.outputs.pop_front()
    }

    /// When to be woken.
    pub fn poll_timeout(&self) -> Option<Time> {
        let tick = self.sweep.as_ref().map(|_| self.next_tick);
        let expiry = (!self.store.is_empty()).then_some(self.next_expiry);
        tick.into_iter().chain(expiry).min()
    }

    fn get(&mut self, wall: Wall, key: &Key) -> Held {
        match self.store.get(key) {
            Ok(Some(record)) if record.is_current(wall) => Held::Found(record),
            Ok(Some(_) | None) => Held::Missing,
            Err(_) => {
                self.failures += 1;
                Held::Missing
            }
        }
    }

    fn put(&mut self, now: Now, record: &Record, from: Option<LinkNo>) -> Held {
        let timely = record.is_current(now.wall)
            && record.expiry().minutes() <= now.wall.plus(LIFE_MAX_MIN).minutes();
        if !timely {
            return Held::Refused;
        }
        if let Some(link) = from
            && !self.quota_allows(now.time, link)
        {
            return Held::Refused;
        }
        loop {
            match self.store.put(record) {
                Ok(Put::Stored | Put::Same) => return Held::Stored,
                Ok(Put::Stale) => return Held::Stale,
                Ok(Put::Full) if self.make_room(record.key().location()) => {}
                Ok(Put::Full) => return Held::Refused,
                Err(_) => {
                    self.failures += 1;
                    return Held::Refused;
                }
            }
        }
    }

    /// Takes out the record furthest from here, unless the new one is further still. A router holds
    /// what is closest to it; who fills it with more has to be closer than what he pushes out.
    fn make_room(&mut self, for_location: Location) -> bool {
        let Some(furthest) = self.store.nearest(self.own.plus(1 << 63)) else { return false };
        let closer = self.own.distance(for_location) < self.own.distance(furthest.location());
        closer && self.store.remove(&furthest).unwrap_or(false)
    }

    fn quota_allows(&mut self, now: Time, link: LinkNo) -> bool {
        if !self.quotas.contains_key(&link) && self.quotas.len() >= QUOTAS_MAX {
            return false;
        }
        let quota = self.quotas.entry(link).or_insert(Quota { left: QUOTA_BURST, since: now });
        let seconds = u32::try_from(now.since(quota.since).as_secs()).unwrap_or(u32::MAX);
        let more = seconds.saturating_mul(QUOTA_PER_SECOND);
        quota.left = quota.left.saturating_add(more).min(QUOTA_BURST);
        quota.since = quota.since + Duration::from_secs(seconds.into());
        let some = quota.left > 0;
        quota.left = quota.left.saturating_sub(1);
        some
    }

    /// Where the routers are that this one knows of, itself included.
    fn places(&self) -> Vec<Location> {
        let others = self.neighbours.iter().map(|(_, location)| *location);
        std::iter::once(self.own).chain(others).collect()
    }

    fn start_sweep(&mut self, now: Time, sweep: Sweep) {
        let idle = self.sweep.is_none();
        let leaving = sweep.leaving;
        self.sweep = Some(sweep);
        if idle {
            // Changes come in bursts: wait for a few before looking at everything.
            self.next_tick = if leaving { now } else { now + TICK * 10 };
        } else if leaving {
            self.next_tick = now;
        }
    }

    /// Goes on with the walk until enough was sent for this tick.
    fn sweep_on(&mut self, wall: Wall) {
        let Some(mut sweep) = self.sweep.take() else { return };
        let sent_max = if sweep.leaving { HANDED_PER_TICK } else { SENT_PER_TICK };
        let mut sent = 0;
        for _ in 0..LOOKED_AT_PER_TICK {
            if sent >= sent_max {
                break;
            }
            let Some(key) = self.store.next_after(sweep.after.as_ref()) else {
                if sweep.leaving {
                    self.outputs.push_back(HolderOutput::HandedOver);
                }
                return;
            };
            sweep.after = Some(key);
            let targets = self.newly_closest(&sweep, key.location());
            if targets.is_empty() {
                continue;
            }
            match self.store.get(&key) {
                Ok(Some(record)) if record.is_current(wall) => {
                    for link in targets {
                        sent += 1;
                        let message = RingMessage::Replicate(record.clone());
                        self.outputs.push_back(HolderOutput::Send { link, message });
                    }
                }
                Ok(Some(_) | None) => {}
                Err(_) => self.failures += 1,
            }
        }
        self.sweep = Some(sweep);
    }

    /// The neighbours that are among the closest to `key` now and were not before, if it is this
    /// router's turn to tell them: it is the closest of those that had the record before.
    fn newly_closest(&self, sweep: &Sweep, key: Location) -> Vec<LinkNo> {
        let before = closest(sweep.before.clone(), key);
        let now: Vec<Location> =
            self.places().into_iter().filter(|it| !(sweep.leaving && *it == self.own)).collect();
        if !sweep.leaving {
            let had = now.iter().filter(|it| before.contains(it) || **it == self.own);
            let sender = had.min_by_key(|it| it.distance(key));
            if sender != Some(&self.own) {
                return Vec::new();
            }
        }
        let now = closest(now, key);
        let gained = now.iter().filter(|it| !before.contains(it) && **it != self.own);
        gained
            .filter_map(|it| self.neighbours.iter().find(|(_, place)| place == it))
            .map(|(link, _)| *link)
            .collect()
    }
}

/// The three of these that are closest to `key`.
fn closest(mut places: Vec<Location>, key: Location) -> Vec<Location> {
    places.sort_by_key(|it| it.distance(key));
    places.truncate(REPLICAS);
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MemoryRecords, StoreError, tests::record};

    fn at(seconds: u64) -> Now {
        Now { time: Time::from_micros(seconds * 1_000_000), wall: Wall::from_minutes(50) }
    }

    fn holder_at(own: Location) -> Holder {
        Holder::new(Box::new(MemoryRecords::default()), own)
    }

    fn put(holder: &mut Holder, now: Now, record: Record, from: u32) -> Held {
        let op = StoreOp::Put { record, from: Some(LinkNo(from)) };
        holder.handle_input(now, HolderInput::Store { ticket: Some(3), op });
        match holder.poll_output() {
            Some(HolderOutput::Held { ticket: 3, held }) => held,
            other => panic!("{other:?}"),
        }
    }

    fn get(holder: &mut Holder, now: Now, key: Key) -> Held {
        let op = StoreOp::Get(key);
        holder.handle_input(now, HolderInput::Store { ticket: Some(4), op });
        match holder.poll_output() {
            Some(HolderOutput::Held { ticket: 4, held }) => held,
            other => panic!("{other:?}"),
        }
    }

    /// Runs timers for a minute; the links that got a record.
    fn told(holder: &mut Holder, from: u64) -> Vec<u32> {
        let mut links = Vec::new();
        for tenth in 0..600 {
            let time = Time::from_micros(from * 1_000_000 + tenth * 100_000);
            holder.handle_timeout(Now { time, ..at(0) });
            while let Some(output) = holder.poll_output() {
                match output {
                    HolderOutput::Send { link, message: RingMessage::Replicate(_) } => {
                        links.push(link.0);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        links
    }

    #[test]
    fn a_record_is_kept_until_it_expires() {
        let mut holder = holder_at(Location(0));
        let it = record(1, 1, 60, b"x");
        assert_eq!(put(&mut holder, at(0), it.clone(), 1), Held::Stored);
        assert_eq!(get(&mut holder, at(1), it.key()), Held::Found(it.clone()));
        let late = Now { wall: Wall::from_minutes(60), ..at(600) };
        assert_eq!(get(&mut holder, late, it.key()), Held::Missing);
        assert_eq!(put(&mut holder, late, it, 1), Held::Refused);
        assert_eq!(holder.len(), 1);
        holder.handle_timeout(late);
        assert_eq!(holder.len(), 0);
        assert_eq!(holder.poll_timeout(), None);
    }

    #[test]
    fn an_older_version_never_comes_back() {
        let mut holder = holder_at(Location(0));
        assert_eq!(put(&mut holder, at(0), record(1, 5, 60, b"new"), 1), Held::Stored);
        assert_eq!(put(&mut holder, at(0), record(1, 5, 60, b"new"), 2), Held::Stored);
        assert_eq!(put(&mut holder, at(0), record(1, 5, 60, b"fork"), 2), Held::Stale);
        assert_eq!(put(&mut holder, at(0), record(1, 4, 60, b"old"), 2), Held::Stale);
    }

    #[test]
    fn an_expiry_years_ahead_is_refused() {
        let mut holder = holder_at(Location(0));
        let week = 50 + LIFE_MAX_MIN;
        assert_eq!(put(&mut holder, at(0), record(1, 1, week, b""), 1), Held::Stored);
        assert_eq!(put(&mut holder, at(0), record(2, 1, week + 1, b""), 1), Held::Refused);
    }

    #[test]
    fn one_link_cannot_bring_more_than_its_quota_and_others_still_can() {
        let mut holder = holder_at(Location(0));
        let it = record(1, 1, 60, b"");
        for _ in 0..QUOTA_BURST {
            assert_eq!(put(&mut holder, at(0), it.clone(), 1), Held::Stored);
        }
        assert_eq!(put(&mut holder, at(0), it.clone(), 1), Held::Refused);
        assert_eq!(put(&mut holder, at(0), it.clone(), 2), Held::Stored);
        assert_eq!(put(&mut holder, at(1), it, 1), Held::Stored);
    }

    #[test]
    fn a_full_store_keeps_what_is_closest() {
        let all: Vec<_> = (1..=20).map(|owner| record(owner, 1, 60, b"")).collect();
        let own = all[7].key().location();
        let mut holder = Holder::new(Box::new(MemoryRecords::new(5 * 2_048)), own);
        for it in &all {
            put(&mut holder, at(0), it.clone(), 1);
        }
        let mut by_distance = all.clone();
        by_distance.sort_by_key(|it| it.key().location().distance(own));
        for (at_rank, it) in by_distance.iter().enumerate() {
            let held = get(&mut holder, at(0), it.key());
            assert_eq!(held == Held::Found(it.clone()), at_rank < 5);
        }
    }

    /// A holder of one record, at `own` steps from its key, among neighbours at others.
    fn with_record(own: u64, neighbours: &[u64]) -> (Holder, Vec<(LinkNo, Location)>) {
        let it = record(1, 1, 60, b"");
        let key = it.key().location();
        let mut holder = holder_at(key.plus(own));
        let around: Vec<_> = neighbours
            .iter()
            .map(|step| (LinkNo(u32::try_from(*step).unwrap()), key.plus(*step)))
            .collect();
        holder.handle_input(at(0), HolderInput::Neighbourhood(around.clone()));
        assert_eq!(told(&mut holder, 0), []);
        assert_eq!(put(&mut holder, at(60), it, 1), Held::Stored);
        (holder, around)
    }

    #[test]
    fn a_newcomer_among_the_three_closest_is_told_by_the_closest_holder_only() {
        for (own, others, tells) in [(10, [20, 30, 40], true), (20, [10, 30, 40], false)] {
            let (mut holder, mut around) = with_record(own, &others);
            around.push((LinkNo(15), around[0].1.plus(15u64.wrapping_sub(others[0]))));
            holder.handle_input(at(60), HolderInput::Neighbourhood(around));
            let expected: &[u32] = if tells { &[15] } else { &[] };
            assert_eq!(told(&mut holder, 60), expected);
        }
    }

    #[test]
    fn a_newcomer_further_away_is_not_told() {
        let (mut holder, mut around) = with_record(10, &[20, 30, 40]);
        around.push((LinkNo(35), around[0].1.plus(15)));
        holder.handle_input(at(60), HolderInput::Neighbourhood(around));
        assert_eq!(told(&mut holder, 60), []);
    }

    #[test]
    fn when_a_holder_goes_the_next_one_gets_the_record() {
        for (own, others, tells) in [(10, [20, 30, 40], true), (30, [10, 20, 40], false)] {
            let (mut holder, mut around) = with_record(own, &others);
            around.retain(|(link, _)| *link != LinkNo(20));
            holder.handle_input(at(60), HolderInput::Neighbourhood(around));
            let expected: &[u32] = if tells { &[40] } else { &[] };
            assert_eq!(told(&mut holder, 60), expected);
        }
        // The closest holder itself goes: the next closest one tells.
        let (mut holder, mut around) = with_record(20, &[10, 30, 40]);
        around.retain(|(link, _)| *link != LinkNo(10));
        holder.handle_input(at(60), HolderInput::Neighbourhood(around));
        assert_eq!(told(&mut holder, 60), [40]);
    }

    #[test]
    fn changes_during_a_sweep_are_not_lost() {
        let (mut holder, around) = with_record(10, &[20, 30, 40]);
        let mut with = around.clone();
        with.push((LinkNo(15), around[0].1.plus(15u64.wrapping_sub(20))));
        holder.handle_input(at(60), HolderInput::Neighbourhood(with.clone()));
        with.push((LinkNo(90), around[0].1.plus(70)));
        holder.handle_input(at(60), HolderInput::Neighbourhood(with));
        assert_eq!(told(&mut holder, 60), [15]);
    }

    #[test]
    fn who_leaves_hands_its_records_to_who_takes_its_place() {
        let (mut holder, _) = with_record(10, &[20, 30, 40, 50]);
        holder.handle_input(at(60), HolderInput::HandOver);
        holder.handle_timeout(at(60));
        let outputs: Vec<_> = std::iter::from_fn(|| holder.poll_output()).collect();
        assert!(matches!(
            outputs[..],
            [HolderOutput::Send { link: LinkNo(40), .. }, HolderOutput::HandedOver]
        ));
        // With nothing to hand over it is done at once.
        let mut holder = holder_at(Location(0));
        holder.handle_input(at(0), HolderInput::HandOver);
        holder.handle_timeout(at(0));
        assert_eq!(holder.poll_output(), Some(HolderOutput::HandedOver));
    }

    /// A medium that fails whatever it is asked.
    #[derive(Debug)]
    struct Broken;

    impl RecordStore for Broken {
        fn get(&self, _: &Key) -> Result<Option<Record>, StoreError> {
            Err(StoreError("broken".into()))
        }
        fn put(&mut self, _: &Record) -> Result<Put, StoreError> {
            Err(StoreError("broken".into()))
        }
        fn remove(&mut self, _: &Key) -> Result<bool, StoreError> {
            Err(StoreError("broken".into()))
        }
        fn expire(&mut self, _: Wall) -> Result<usize, StoreError> {
            Err(StoreError("broken".into()))
        }
        fn next_after(&self, _: Option<&Key>) -> Option<Key> {
            None
        }
        fn nearest(&self, _: Location) -> Option<Key> {
            None
        }
        fn len(&self) -> usize {
            0
        }
        fn bytes(&self) -> usize {
            0
        }
    }

    #[test]
    fn a_broken_disk_is_counted_and_breaks_nothing_else() {
        let mut holder = Holder::new(Box::new(Broken), Location(0));
        let it = record(1, 1, 60, b"");
        assert_eq!(put(&mut holder, at(0), it.clone(), 1), Held::Refused);
        assert_eq!(get(&mut holder, at(0), it.key()), Held::Missing);
        holder.handle_timeout(at(0));
        assert_eq!(holder.failures(), 3);
    }
}
