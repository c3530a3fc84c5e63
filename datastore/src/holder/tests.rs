//! What must hold of the holder, whatever it is told.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use warren_overlay::{ring::REPLICAS, time::Wall};

use super::*;
use crate::{
    memory::MemoryRecords,
    testing::{key, record, record_saying},
};

const WALL: Wall = Wall::from_minutes(28_800_000);
const OWN: Location = Location(0);

fn at(seconds: u64) -> Now {
    let minutes = u32::try_from(seconds / 60).unwrap();
    Now { time: Time::from_micros(seconds * 1_000_000), wall: WALL.plus(minutes) }
}

fn fresh(bytes_max: u64) -> Holder {
    Holder::new(Box::new(MemoryRecords::new(bytes_max)), OWN)
}

fn put(holder: &mut Holder, now: Now, record: &Record, from: Option<u32>) -> Held {
    let op = StoreOp::Put { record: record.clone(), from: from.map(LinkNo) };
    ask(holder, now, op)
}

fn copy(holder: &mut Holder, now: Now, record: &Record, from: u32) {
    let op = StoreOp::Put { record: record.clone(), from: Some(LinkNo(from)) };
    holder.handle_input(now, HolderInput::Store { ticket: None, op });
    assert_eq!(holder.poll_output(), None, "a copy is not answered");
}

fn get(holder: &mut Holder, now: Now, key: Key) -> Held {
    ask(holder, now, StoreOp::Get(key))
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
    assert_eq!(get(&mut holder, at(119), it.key()), Held::Found(it.clone()));
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
    assert_eq!(get(&mut holder, at(0), it.key()), Held::Found(it));
    assert_eq!(put(&mut holder, at(0), &higher, Some(2)), Held::Stored);
    assert_eq!(get(&mut holder, at(0), higher.key()), Held::Found(higher));
    assert_eq!(holder.len(), 1);
}

#[test]
fn an_expiry_out_of_bounds_is_refused() {
    let mut holder = fresh(1 << 20);
    for (expiry, held) in [
        (WALL, Held::Refused),
        (WALL.plus(1), Held::Stored),
        (WALL.plus(EXPIRY_AHEAD_MAX), Held::Stored),
        (WALL.plus(EXPIRY_AHEAD_MAX + 1), Held::Refused),
        (Wall::from_minutes(u32::MAX), Held::Refused),
    ] {
        let it = record(expiry.minutes(), 1, expiry);
        assert_eq!(put(&mut holder, at(0), &it, None), held);
    }
}
