//! What must hold of the holder, whatever it is told.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use warren_overlay::{record::RecordSize, ring::REPLICAS, rng::Rng, time::Wall};

use super::*;
use crate::{
    memory::MemoryRecords,
    store::StoreError,
    testing::{key, record, record_saying},
};

const WALL: Wall = Wall::from_minutes(28_800_000);
const OWN: Location = Location(0);

fn rng() -> Rng {
    Rng::from_seed([7; 32])
}

fn at(seconds: u64) -> Now {
    let minutes = u32::try_from(seconds / 60).unwrap();
    Now { time: Time::from_micros(seconds * 1_000_000), wall: WALL.plus(minutes) }
}

fn fresh(bytes_max: u64) -> Holder {
    Holder::new(Box::new(MemoryRecords::new(bytes_max)), OWN, rng())
}

fn put(holder: &mut Holder, now: Now, record: &Record, from: Option<u32>) -> Held {
    let op = StoreOp::Put { unit: record.clone().into(), from: from.map(LinkNo) };
    ask(holder, now, op)
}

fn copy(holder: &mut Holder, now: Now, record: &Record, from: u32) {
    let op = StoreOp::Put { unit: record.clone().into(), from: Some(LinkNo(from)) };
    holder.handle_input(now, HolderInput::Store { ticket: None, op });
    assert_eq!(holder.poll_output(), None, "a copy is not answered");
}

fn get(holder: &mut Holder, now: Now, key: Key) -> Held {
    ask(holder, now, StoreOp::Get(UnitKey::Record(key)))
}

fn ask(holder: &mut Holder, now: Now, op: StoreOp) -> Held {
    holder.handle_input(now, HolderInput::Store { ticket: Some(7), op });
    match holder.poll_output() {
        Some(HolderOutput::Held { ticket: 7, held }) => held,
        other => panic!("{other:?}"),
    }
}

/// Lets the holder work until `until`; what it sent meanwhile.
fn run(holder: &mut Holder, until: u64) -> Vec<(LinkNo, Record)> {
    let mut sent = Vec::new();
    loop {
        while let Some(output) = holder.poll_output() {
            if let HolderOutput::Send { link, message: RingMessage::Replicate(record) } = output {
                sent.push((link, record));
            }
        }
        match holder.poll_timeout() {
            Some(time) if time <= at(until).time => {
                let wall = at(time.as_micros() / 1_000_000).wall;
                holder.handle_timeout(Now { time, wall });
            }
            _ => return sent,
        }
    }
}

/// Neighbours numbered from 0 at these places.
fn around(places: &[u64]) -> Vec<(LinkNo, Location)> {
    (0..).map(LinkNo).zip(places.iter().copied().map(Location)).collect()
}

fn tell(holder: &mut Holder, now: Now, around: Vec<(LinkNo, Location)>) {
    holder.handle_input(now, HolderInput::Neighbourhood(around));
}

#[test]
fn what_was_put_is_found_until_it_expires() {
    let mut holder = fresh(1 << 20);
    let it = record(1, 5, WALL.plus(2));
    assert_eq!(get(&mut holder, at(0), it.key()), Held::Missing);
    assert_eq!(put(&mut holder, at(0), &it, None), Held::Stored);
    assert_eq!(get(&mut holder, at(119), it.key()), Held::Found(it.clone().into()));
    assert_eq!(get(&mut holder, at(120), it.key()), Held::Missing);
    assert_eq!(holder.len(), 1);
    run(&mut holder, 180);
    assert_eq!((holder.len(), holder.poll_timeout()), (0, None));
}

#[test]
fn a_version_as_high_stays_and_the_same_bytes_are_stored_already() {
    let mut holder = fresh(1 << 20);
    let it = record(1, 5, WALL.plus(60));
    let other = record(1, 5, WALL.plus(61));
    let lower = record(1, 4, WALL.plus(60));
    let higher = record(1, 6, WALL.plus(60));
    assert_eq!(put(&mut holder, at(0), &it, Some(1)), Held::Stored);
    assert_eq!(put(&mut holder, at(0), &it, Some(2)), Held::Stored);
    assert_eq!(put(&mut holder, at(0), &other, Some(1)), Held::Stale);
    assert_eq!(put(&mut holder, at(0), &lower, Some(1)), Held::Stale);
    assert_eq!(get(&mut holder, at(0), it.key()), Held::Found(it.into()));
    assert_eq!(put(&mut holder, at(0), &higher, Some(2)), Held::Stored);
    assert_eq!(get(&mut holder, at(0), higher.key()), Held::Found(higher.into()));
    assert_eq!(holder.len(), 1);
}

#[test]
fn an_expiry_out_of_bounds_is_refused() {
    let mut holder = fresh(1 << 20);
    // What lasts is small: a site's record. A service's is large.
    for (size, max) in
        [(RecordSize::Small, LASTING_AHEAD_MAX), (RecordSize::Large, EXPIRY_AHEAD_MAX)]
    {
        for (owner, expiry, held) in [
            (max, WALL, Held::Refused),
            (max + 1, WALL.plus(1), Held::Stored),
            (max + 2, WALL.plus(max), Held::Stored),
            (max + 3, WALL.plus(max + 1), Held::Refused),
            (max + 4, Wall::from_minutes(u32::MAX), Held::Refused),
        ] {
            let it = record_saying(owner, 1, expiry, b"", size);
            assert_eq!(put(&mut holder, at(0), &it, None), held);
        }
    }
}

/// A place and neighbours around the key of `owner`, so many steps from it.
fn near_key(owner: u32, own: u64, neighbours: &[u32]) -> (Holder, Vec<(LinkNo, Location)>) {
    let place = key(owner).location();
    let holder = Holder::new(Box::new(MemoryRecords::default()), place.plus(own), rng());
    let around =
        neighbours.iter().map(|step| (LinkNo(*step), place.plus((*step).into()))).collect();
    (holder, around)
}

fn links(sent: &[(LinkNo, Record)]) -> Vec<u32> {
    sent.iter().map(|(link, _)| link.0).collect()
}

#[test]
fn a_newcomer_is_sent_what_it_is_close_to_by_the_two_closest_that_had_it() {
    for (own, others, sends) in
        [(10, [20, 30, 40], true), (20, [10, 30, 40], true), (30, [10, 20, 40], false)]
    {
        let (mut holder, mut around) = near_key(1, own, &others);
        tell(&mut holder, at(0), around.clone());
        put(&mut holder, at(0), &record(1, 1, WALL.plus(60)), Some(40));
        assert_eq!(links(&run(&mut holder, 60)), [], "the ring sends what was just put");
        around.push((LinkNo(15), key(1).location().plus(15)));
        around.push((LinkNo(35), key(1).location().plus(35)));
        tell(&mut holder, at(60), around);
        let expected: &[u32] = if sends { &[15] } else { &[] };
        assert_eq!(links(&run(&mut holder, 120)), expected);
    }
}

#[test]
fn when_one_of_the_three_goes_the_next_one_gets_the_record() {
    let (mut holder, mut around) = near_key(1, 10, &[20, 30, 40, 50]);
    tell(&mut holder, at(0), around.clone());
    put(&mut holder, at(0), &record(1, 1, WALL.plus(60)), None);
    around.retain(|(link, _)| *link != LinkNo(20));
    tell(&mut holder, at(1), around.clone());
    around.retain(|(link, _)| *link != LinkNo(30));
    tell(&mut holder, at(1), around);
    assert_eq!(links(&run(&mut holder, 60)), [40, 50], "changes in quick succession lose none");
}

#[test]
fn records_from_before_a_restart_are_sent_to_the_closest() {
    let mut store = MemoryRecords::default();
    store.put(&record(1, 1, WALL.plus(60))).unwrap();
    let (_, around) = near_key(1, 10, &[20, 30, 40]);
    let mut holder = Holder::new(Box::new(store), key(1).location().plus(10), rng());
    assert_eq!(holder.len(), 1);
    tell(&mut holder, at(0), around);
    assert_eq!(links(&run(&mut holder, 60)), [20, 30]);
}

#[test]
fn what_is_far_is_refused_and_parted_with_once_the_closest_have_it() {
    let (mut holder, around) = near_key(1, 90, &[10, 20, 30, 40, 50, 60, 70, 80, 85]);
    put(&mut holder, at(0), &record(1, 1, WALL.plus(60)), None);
    tell(&mut holder, at(0), around[..FAR].to_vec());
    assert_eq!(links(&run(&mut holder, 60)), [10, 20, 30]);
    assert_eq!(holder.len(), 1);
    tell(&mut holder, at(60), around.clone());
    run(&mut holder, 120);
    assert_eq!(holder.len(), 0);
    assert_eq!(put(&mut holder, at(120), &record(1, 1, WALL.plus(60)), None), Held::Refused);
    tell(&mut holder, at(120), around[1..].to_vec());
    assert_eq!(put(&mut holder, at(120), &record(1, 1, WALL.plus(60)), None), Held::Stored);
}

#[test]
fn who_leaves_sends_everything_to_those_that_take_its_place() {
    let (mut holder, around) = near_key(1, 10, &[20, 30, 40, 50]);
    tell(&mut holder, at(0), around);
    put(&mut holder, at(0), &record(1, 1, WALL.plus(60)), None);
    holder.handle_input(at(1), HolderInput::HandOver);
    let outputs: Vec<_> = std::iter::from_fn(|| holder.poll_output()).collect();
    let to = |output: &HolderOutput| match output {
        HolderOutput::Send { link, .. } => link.0,
        _ => 0,
    };
    // Who is presumed to have it comes last, unless it is the closest.
    assert_eq!(outputs.iter().map(to).collect::<Vec<_>>(), [20, 40, 30, 0]);
    assert_eq!(outputs.last(), Some(&HolderOutput::HandedOver));
    assert_eq!(put(&mut holder, at(1), &record(2, 1, WALL.plus(60)), None), Held::Refused);
}

#[test]
fn handing_over_ends_in_time_however_much_there_is() {
    let mut holder = fresh(1 << 24);
    for owner in 0..1_500 {
        put(&mut holder, at(0), &record(owner, 1, WALL.plus(60)), None);
    }
    tell(&mut holder, at(0), around(&[5]));
    holder.handle_input(at(1), HolderInput::HandOver);
    let (mut now, mut over, mut sent) = (at(1), false, 0);
    loop {
        while let Some(output) = holder.poll_output() {
            over |= output == HolderOutput::HandedOver;
            sent += usize::from(matches!(output, HolderOutput::Send { .. }));
        }
        if over {
            break;
        }
        now.time = holder.poll_timeout().unwrap().max(now.time);
        holder.handle_timeout(now);
    }
    assert!(now.time <= at(4).time && sent > 1_000, "{sent} by {:?}", now.time);
}

#[test]
fn one_link_cannot_take_more_than_its_quota_and_others_still_get_in() {
    let room = 64 * 2_048;
    let mut holder = fresh(room);
    let mut stored = [0; 3];
    for owner in 0..200 {
        let it = record(owner, 1, WALL.plus(60));
        stored[0] += u32::from(put(&mut holder, at(0), &it, Some(1)) == Held::Stored);
        let it = record(1_000 + owner, 1, WALL.plus(60));
        copy(&mut holder, at(0), &it, 1);
        stored[1] += u32::from(matches!(get(&mut holder, at(0), it.key()), Held::Found(_)));
        let it = record(2_000 + owner, 1, WALL.plus(60));
        stored[2] += u32::from(put(&mut holder, at(0), &it, None) == Held::Stored);
    }
    assert_eq!(stored, [8, 16, 32], "an eighth, a quarter, a half");
    assert_eq!(put(&mut holder, at(0), &record(9_000, 1, WALL.plus(60)), Some(2)), Held::Stored);
    holder.books.check();
}

#[test]
fn who_comes_back_with_new_links_pushes_out_its_own() {
    let mut holder = fresh(64 * 2_048);
    let honest = record(9_999, 1, WALL.plus(60));
    tell(&mut holder, at(0), around(&[1, 2]));
    assert_eq!(put(&mut holder, at(0), &honest, Some(0)), Held::Stored);
    for link in 1..100 {
        tell(&mut holder, at(0), vec![(LinkNo(0), Location(1)), (LinkNo(link), Location(2))]);
        for owner in 0..8 {
            let it = record(link * 8 + owner, 1, WALL.plus(60));
            assert_eq!(put(&mut holder, at(0), &it, Some(link)), Held::Stored);
        }
    }
    holder.books.check();
    assert_eq!(holder.status().bytes, 64 * 2_048);
    assert_eq!(get(&mut holder, at(0), honest.key()), Held::Found(honest.into()));
}

#[test]
fn one_link_cannot_keep_the_disk_busy() {
    let mut holder = fresh(1 << 20);
    let put_many = |holder: &mut Holder, now: Now, versions: std::ops::Range<u64>| {
        versions
            .filter(|version| {
                put(holder, now, &record(1, *version, WALL.plus(60)), Some(1)) == Held::Stored
            })
            .count()
    };
    assert_eq!(put_many(&mut holder, at(0), 0..3_000), 2_048);
    assert_eq!(put_many(&mut holder, at(1), 3_000..4_000), 64);
    assert_eq!(put(&mut holder, at(1), &record(1, 5_000, WALL.plus(60)), Some(2)), Held::Stored);
}

/// A disk that fails whatever it is asked.
#[derive(Debug)]
struct Broken;

fn broken<T>() -> Result<T, StoreError> {
    Err(StoreError::Disk("broken".into()))
}

impl RecordStore for Broken {
    fn get(&mut self, _: &Key) -> Result<Option<Record>, StoreError> {
        broken()
    }
    fn put(&mut self, _: &Record) -> Result<PutOutcome, StoreError> {
        broken()
    }
    fn remove(&mut self, _: &Key) -> Result<bool, StoreError> {
        broken()
    }
    fn range(&mut self, _: Option<&Key>, _: usize) -> Result<Vec<Record>, StoreError> {
        broken()
    }
    fn len(&self) -> u64 {
        0
    }
    fn bytes(&self) -> u64 {
        0
    }
    fn bytes_max(&self) -> u64 {
        1 << 20
    }
    fn damaged(&self) -> u64 {
        0
    }
}

#[test]
fn a_broken_disk_is_counted_and_breaks_nothing_else() {
    let mut holder = Holder::new(Box::new(Broken), OWN, rng());
    let it = record(1, 1, WALL.plus(60));
    assert_eq!(put(&mut holder, at(0), &it, None), Held::Refused);
    assert_eq!(get(&mut holder, at(0), it.key()), Held::Missing);
    run(&mut holder, 600);
    assert_eq!(holder.status().failures, 2);
    holder.handle_input(at(600), HolderInput::HandOver);
    assert_eq!(holder.poll_output(), Some(HolderOutput::HandedOver));
}

#[derive(Clone, Debug)]
enum Action {
    Put { owner: u32, version: u64, minutes: u32, large: bool, from: Option<u32>, copy: bool },
    Get(u32),
    Around(BTreeMap<u32, u64>),
    Wait(u64),
    HandOver,
}

fn any_action() -> impl Strategy<Value = Action> {
    let from = prop::option::weighted(0.8, 0..6u32);
    let version = prop_oneof![0..4u64, Just(u64::MAX)];
    let edges = vec![0, 1_440, 1_441, 576_000, 576_001, u32::MAX / 2];
    let minutes = prop_oneof![1..6u32, prop::sample::select(edges)];
    let around = prop::collection::btree_map(0..16u32, any::<u64>(), 0..14);
    prop_oneof![
        24 => (0..16u32, version, minutes, any::<bool>(), from, any::<bool>()).prop_map(
            |(owner, version, minutes, large, from, copy)| {
                Action::Put { owner, version, minutes, large, from, copy }
            }
        ),
        4 => (0..16u32).prop_map(Action::Get),
        3 => around.prop_map(Action::Around),
        4 => (0..400u64).prop_map(Action::Wait),
        1 => Just(Action::HandOver),
    ]
}

/// The neighbours that may be sent a record: of the three routers closest to its key, with or (when
/// leaving) without this one.
fn allowed(around: &BTreeMap<u32, u64>, key: Key, leaving: bool) -> BTreeSet<LinkNo> {
    let mut all: Vec<_> = around.iter().map(|(link, it)| (Location(*it), Some(*link))).collect();
    if !leaving {
        all.push((OWN, None));
    }
    all.sort_by_key(|(location, _)| location.distance(key.location()));
    all.into_iter().take(REPLICAS).filter_map(|(_, link)| link.map(LinkNo)).collect()
}

fn versions(holder: &mut Holder) -> BTreeMap<Key, (u64, u32)> {
    let all = holder.store.range(None, 1_000).unwrap();
    all.iter().map(|it| (it.key(), (it.version(), it.expiry().minutes()))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn bounds_hold_whatever_neighbours_do(
        actions in prop::collection::vec(any_action(), 1..60), room in 4..40u64,
    ) {
        let mut holder = fresh(room * 2_048);
        let (mut clock, mut near, mut leaving) = (0, BTreeMap::new(), false);
        for action in actions {
            let before = versions(&mut holder);
            let now = at(clock);
            let (mut waited, mut sent) = (false, Vec::new());
            match action {
                Action::Put { owner, version, minutes, large, from, copy } => {
                    let size = if large { RecordSize::Large } else { RecordSize::Small };
                    let expiry = now.wall.plus(minutes);
                    let it = record_saying(owner, version, expiry, b"", size);
                    let old = before.get(&it.key());
                    let ticket = (!copy).then_some(1);
                    let op = StoreOp::Put { unit: it.clone().into(), from: from.map(LinkNo) };
                    holder.handle_input(now, HolderInput::Store { ticket, op });
                    let output = holder.poll_output();
                    if copy {
                        prop_assert_eq!(output, None);
                    } else if let Some(HolderOutput::Held { ticket: 1, held }) = output {
                        let max = if large { EXPIRY_AHEAD_MAX } else { LASTING_AHEAD_MAX };
                        let in_bounds = minutes > 0 && minutes <= max;
                        match held {
                            Held::Stored => prop_assert!(in_bounds && !leaving),
                            Held::Stale => prop_assert!(old.is_some_and(|old| old.0 >= version)),
                            Held::Refused => prop_assert!(
                                !in_bounds || old.is_none_or(|old| old.0 <= version) || leaving
                                    || near.len() > FAR
                            ),
                            other => panic!("{other:?}"),
                        }
                        let found = get(&mut holder, now, it.key());
                        prop_assert!(held != Held::Stored || found == Held::Found(it.into()));
                    } else {
                        panic!("{output:?}");
                    }
                }
                Action::Get(owner) => {
                    if let Held::Found(Unit::Record(it)) = get(&mut holder, now, key(owner)) {
                        prop_assert!(it.key() == key(owner) && it.is_current(now.wall));
                    }
                }
                Action::Around(around) => {
                    near = around;
                    let list = near.iter().map(|(link, it)| (LinkNo(*link), Location(*it)));
                    tell(&mut holder, now, list.collect());
                }
                Action::Wait(seconds) => {
                    clock += seconds;
                    waited = true;
                    sent = run(&mut holder, clock);
                }
                Action::HandOver => {
                    leaving = true;
                    holder.handle_input(now, HolderInput::HandOver);
                    sent = run(&mut holder, clock);
                }
            }
            for (link, it) in sent {
                prop_assert!(allowed(&near, it.key(), leaving).contains(&link), "not close");
            }
            holder.books.check();
            let after = versions(&mut holder);
            prop_assert_eq!(holder.len(), after.len() as u64);
            prop_assert!(holder.store.bytes() <= room * 2_048);
            for (key, (version, expiry)) in &after {
                prop_assert!(before.get(key).is_none_or(|old| old.0 <= *version));
                // Swept each minute; wall minutes and the sweep's may be a minute apart.
                prop_assert!(!waited || at(clock).wall.minutes() <= expiry + 1);
            }
        }
    }
}
