//! What holds of publishing, over days, changes and holders that refuse.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::{
    crypto::secret::Secret,
    garlic::RecordBytes,
    service::{
        Place,
        descriptor::tests::{descriptor, offer},
        open, places,
    },
    time::Wall,
};

const NETWORK: NetworkId = NetworkId([9; 32]);
const MINUTE: u64 = 60_000;
const OWN: OfferId = OfferId::from_bytes([9; 8]);

fn key() -> ServiceKey {
    ServiceKey::from_seed(Secret::take(&mut [1; 32]))
}

fn name() -> Name {
    Name::of_service(&key())
}

/// A publisher, a virtual clock, and a ring that stores, fails or is silent as it is told.
struct Bench {
    start: Wall,
    millis: u64,
    publisher: Publisher,
    held: BTreeMap<Key, (u64, Record)>,
    /// What the ring says to puts; `None` is silence, `Stored` is checked against what it holds.
    ring: fn(&Record) -> Option<RecordAnswer>,
    puts: Vec<(u64, Set, Record)>,
    /// How often each of these had been tried before.
    tries: Vec<u32>,
    places: BTreeMap<Day, Vec<Place>>,
    gets: usize,
    announced: Vec<u64>,
}

const STORES: fn(&Record) -> Option<RecordAnswer> = |_| Some(RecordAnswer::Stored { copies: 3 });

fn bench(minutes_after_boundary: u32) -> Bench {
    let start = Day(20_000).start(&name()).plus(minutes_after_boundary);
    let now = Now { time: Time::ZERO, wall: start };
    Bench {
        start,
        millis: 0,
        publisher: Publisher::new(now, key(), None, NETWORK, (OWN, 0), Rng::from_seed([2; 32])),
        held: BTreeMap::new(),
        ring: STORES,
        puts: Vec::new(),
        tries: Vec::new(),
        places: BTreeMap::new(),
        gets: 0,
        announced: Vec::new(),
    }
}

impl Bench {
    fn wall(&self) -> Wall {
        self.start.plus(u32::try_from(self.millis / MINUTE).unwrap())
    }

    fn now(&self) -> Now {
        Now { time: Time::from_micros(self.millis * 1_000), wall: self.wall() }
    }

    fn input(&mut self, input: Input) {
        let now = self.now();
        self.publisher.handle_input(now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.publisher.poll_output() {
            let now = self.now();
            let (request, answer) = match output {
                Output::Published { version } => {
                    self.announced.push(version);
                    continue;
                }
                Output::Get { request, key, .. } => {
                    self.gets += 1;
                    let found = |(_, held): &(u64, Record)| {
                        RecordAnswer::Found(RecordBytes::new(held.encode().to_vec()).unwrap())
                    };
                    (request, self.held.get(&key).map_or(RecordAnswer::NotFound, found))
                }
                Output::Put { request, record, set, tries } => {
                    self.tries.push(tries);
                    self.puts.push((self.millis, set, record.clone()));
                    let Some(mut answer) = (self.ring)(&record) else { continue };
                    if let RecordAnswer::Stored { copies: 1.. } = answer {
                        match self.held.get(&record.key()) {
                            Some((version, held)) if *version >= record.version() => {
                                if *held != record {
                                    answer = RecordAnswer::Stale;
                                }
                            }
                            _ => {
                                let entry = (record.version(), record.clone());
                                self.held.insert(record.key(), entry);
                            }
                        }
                    }
                    (request, answer)
                }
            };
            self.publisher.handle_input(now, Input::Answer { request, answer });
        }
    }

    /// Lets time pass the way a driver does: from one timeout to the next.
    fn run_until(&mut self, millis: u64) {
        while let Some(wake) = self.publisher.poll_timeout() {
            let wake = wake.as_micros().div_ceil(1_000);
            if wake > millis {
                break;
            }
            self.millis = self.millis.max(wake);
            let now = self.now();
            self.publisher.handle_timeout(now);
            self.drain();
            assert!(
                self.publisher.poll_timeout().is_none_or(|next| next > now.time),
                "a handled timeout lies in the future"
            );
        }
        self.millis = millis;
    }

    /// How many of a day's places hold a record that is current and opens, of which version.
    fn readable(&mut self, day: Day) -> BTreeMap<u64, usize> {
        let (wall, mut versions) = (self.wall(), BTreeMap::new());
        let places = self.places.entry(day).or_insert_with(|| places(&name(), None, NETWORK, day));
        for place in places {
            let Some((version, record)) = self.held.get(&place.key) else { continue };
            if record.is_current(wall) && open(&name(), None, NETWORK, place, record).is_ok() {
                *versions.entry(*version).or_default() += 1;
            }
        }
        versions
    }

    fn puts_of(&self, set: Set) -> usize {
        self.puts.iter().filter(|(_, of, _)| *of == set).count()
    }
}

#[test]
fn over_three_days_readers_of_every_moment_find_all_six() {
    let mut bench = bench(100);
    bench.input(Input::Offer(offer(3)));
    let mut versions = BTreeSet::new();
    for minute in (5..3 * u64::from(day::DAY_MIN)).step_by(5) {
        bench.run_until(minute * MINUTE);
        let wall = bench.wall();
        let today = Day::at(&name(), wall);
        let readable = bench.readable(today);
        assert_eq!(readable.values().sum::<usize>(), 6, "minute {minute}");
        assert_eq!(readable.len(), 1, "one version in all six places");
        versions.extend(readable.into_keys());
        assert_eq!(bench.publisher.published(), Some(Time::from_micros(500_000)));

        let since = wall.minutes() - today.start(&name()).minutes();
        let tomorrow = bench.readable(today.next()).values().sum::<usize>();
        assert_eq!(tomorrow, if since >= 720 { 6 } else { 0 }, "{since} min into the day");
        if today > Day(20_000) {
            let yesterday = bench.readable(today.previous()).values().sum::<usize>();
            assert_eq!(yesterday, if since < 180 { 6 } else { 0 }, "{since} min into the day");
        }
    }
    assert!((72..=87).contains(&versions.len()), "about hourly: {} rounds", versions.len());
    assert_eq!(versions.iter().copied().collect::<Vec<_>>(), bench.announced);
    assert_eq!(bench.publisher.conflicts(), 0);
}

#[test]
fn a_readers_version_never_falls_from_one_day_to_the_next() {
    let mut bench = bench(100);
    bench.input(Input::Offer(offer(3)));
    let mut seen = 0;
    for minute in (5..2 * u64::from(day::DAY_MIN)).step_by(5) {
        bench.run_until(minute * MINUTE);
        let (version, _) = bench.readable(Day::at(&name(), bench.wall())).pop_last().unwrap();
        assert!(version >= seen);
        seen = version;
    }
}

#[test]
fn a_change_is_out_within_five_seconds_in_every_set() {
    let mut bench = bench(800);
    bench.input(Input::Offer(offer(1)));
    bench.run_until(600_000);
    let before = bench.publisher.version();
    bench.input(Input::Offer(offer(2)));
    bench.run_until(605_000);
    assert!(bench.publisher.version() > before);
    for day in [Day(20_000), Day(20_001)] {
        assert_eq!(bench.readable(day), BTreeMap::from([(bench.publisher.version(), 6)]));
    }
}

#[test]
fn a_withdrawal_replaces_every_record_at_once_and_names_no_gateway() {
    let mut bench = bench(800);
    bench.input(Input::Offer(offer(2)));
    bench.run_until(600_000);
    let before = bench.publisher.version();
    bench.input(Input::Withdraw);
    bench.run_until(601_000);
    let version = bench.publisher.version();
    assert!(version > before);
    for day in [Day(20_000), Day(20_001)] {
        assert_eq!(bench.readable(day), BTreeMap::from([(version, 6)]));
    }
    let (_, _, record) = bench.puts.last().unwrap();
    let sets = [Day(20_000), Day(20_001)].map(|day| places(&name(), None, NETWORK, day));
    let opened =
        sets.iter().flatten().find_map(|place| open(&name(), None, NETWORK, place, record).ok());
    assert_eq!(opened.unwrap().offers, []);
}

#[test]
fn changes_at_one_time_go_out_together() {
    let mut bench = bench(100);
    for leases in 1..=5 {
        bench.input(Input::Offer(offer(leases)));
        bench.run_until(u64::from(leases) * 80);
    }
    bench.run_until(10_000);
    assert_eq!(bench.puts.len(), 6);
    let (_, _, record) = &bench.puts[0];
    let place = places(&name(), None, NETWORK, Day(20_000))[0];
    assert_eq!(open(&name(), None, NETWORK, &place, record).unwrap().offers[0].leases.len(), 5);
}

#[test]
fn steady_changes_neither_flood_nor_starve() {
    let mut bench = bench(100);
    for step in 0..200u8 {
        bench.input(Input::Offer(offer(1 + step % 5)));
        bench.run_until(u64::from(step) * 100);
    }
    let rounds = bench.puts.len() / 6;
    assert!((16..=22).contains(&rounds), "{rounds} rounds in 20 s");
}

#[test]
fn saying_the_same_again_changes_nothing() {
    let mut bench = bench(100);
    bench.input(Input::Offer(offer(2)));
    bench.run_until(10_000);
    bench.input(Input::Offer(offer(2)));
    bench.run_until(20_000);
    assert_eq!(bench.puts.len(), 6);
}

#[test]
fn what_readers_do_not_find_goes_out_again_at_once() {
    let mut bench = bench(600);
    bench.input(Input::Again);
    assert_eq!(bench.puts.len(), 0, "there is nothing to say yet");
    bench.input(Input::Offer(offer(3)));
    bench.run_until(5_000);
    let (puts, version) = (bench.puts_of(Set::Today), bench.publisher.version());
    bench.input(Input::Again);
    assert_eq!((bench.puts_of(Set::Today), puts), (12, 6));
    assert!(bench.publisher.version() > version);
}

#[test]
fn failed_puts_are_tried_again_ever_more_slowly() {
    let mut bench = bench(100);
    bench.ring = |_| Some(RecordAnswer::NoRoute { left: 0 });
    bench.input(Input::Offer(offer(2)));
    bench.run_until(120_000);
    let key = bench.puts[0].2.key();
    let times: Vec<u64> = bench
        .puts
        .iter()
        .filter(|(_, _, record)| record.key() == key)
        .map(|(at, ..)| at / 500)
        .collect();
    assert_eq!(times, [1, 3, 7, 15, 31, 63, 123, 183]);
    assert!(bench.puts.iter().all(|(_, _, record)| record.version() == bench.puts[0].2.version()));
    assert_eq!(bench.publisher.published(), None);
    bench.ring = STORES;
    bench.run_until(150_000);
    assert_eq!(bench.readable(Day(20_000)).values().sum::<usize>(), 6);
    assert!(bench.publisher.published().is_some());
}

#[test]
fn a_busy_ring_is_left_alone_for_as_long_as_it_asks_but_no_longer_than_a_minute() {
    for (asked_s, waited) in [(7, 7_500), (50_000, 60_500)] {
        let mut bench = bench(100);
        bench.ring = if asked_s == 7 {
            |_| Some(RecordAnswer::Busy { retry_s: 7 })
        } else {
            |_| Some(RecordAnswer::RecentlyFailed { until_s: 50_000 })
        };
        bench.input(Input::Offer(offer(2)));
        bench.run_until(waited - 1);
        assert_eq!(bench.puts.len(), 6);
        bench.run_until(waited);
        assert_eq!(bench.puts.len(), 12);
    }
}

/// A router on the tunnel may be silent: what is unanswered goes through another one soon, and ever
/// later where that does not help either.
#[test]
fn what_is_not_answered_is_sent_again_another_way_ever_later() {
    let mut bench = bench(100);
    bench.ring = |_| None;
    bench.input(Input::Offer(offer(2)));
    bench.run_until(100_000);
    let key = bench.puts[0].2.key();
    let of_one = bench.puts.iter().zip(&bench.tries).filter(|((.., it), _)| it.key() == key);
    let times: Vec<_> = of_one.map(|((at, ..), tries)| (*at, *tries)).collect();
    let at = |(tries, ms): (u32, &u64)| (*ms, tries);
    let expected = [500, 2_000, 3_500, 5_000, 6_500, 9_500, 15_500, 27_500, 51_500, 75_500];
    let expected: Vec<_> = (0..).zip(&expected).map(at).collect();
    assert_eq!(times[..expected.len()], expected);
}

#[test]
fn three_of_six_make_it_published_and_two_do_not() {
    for (stored, published) in [(2, false), (3, true)] {
        let mut bench = bench(100);
        bench.ring = |_| None;
        bench.input(Input::Offer(offer(2)));
        bench.run_until(1_000);
        assert!(bench.announced.is_empty());
        for request in 0..stored {
            bench.input(Input::Answer { request, answer: RecordAnswer::Stored { copies: 1 } });
            // Once more: an answer that nobody waits for changes nothing.
            bench.input(Input::Answer { request, answer: RecordAnswer::Stored { copies: 1 } });
        }
        let none = RecordAnswer::Stored { copies: 0 };
        bench.input(Input::Answer { request: 5, answer: none });
        assert_eq!(bench.publisher.published().is_some(), published);
        assert_eq!(bench.announced.len(), usize::from(published));
    }
}

#[test]
fn what_nobody_refreshed_for_three_hours_is_no_longer_published() {
    let mut bench = bench(100);
    bench.input(Input::Offer(offer(2)));
    bench.run_until(1_000);
    bench.ring = |_| Some(RecordAnswer::NoRoute { left: 0 });
    bench.run_until(179 * MINUTE);
    assert!(bench.publisher.published().is_some(), "the old records still lie there");
    bench.run_until(181 * MINUTE);
    assert_eq!(bench.publisher.published(), None);
}

#[test]
fn without_leases_nothing_is_published_until_there_are_some() {
    let mut bench = bench(100);
    bench.input(Input::Offer(offer(2)));
    bench.run_until(10_000);
    bench.input(Input::Offer(offer(0)));
    assert_eq!(bench.publisher.published(), None);
    assert_eq!(bench.publisher.poll_timeout(), None);
    bench.run_until(5 * 60 * MINUTE);
    assert_eq!(bench.puts.len(), 6);
    bench.input(Input::Offer(offer(2)));
    bench.run_until(5 * 60 * MINUTE + 1_000);
    assert_eq!(bench.puts.len(), 12);
}

#[test]
fn a_sixth_lease_is_cut_off() {
    let mut bench = bench(100);
    bench.input(Input::Offer(offer(6)));
    bench.run_until(1_000);
    assert_eq!(bench.readable(Day(20_000)).values().sum::<usize>(), 6);
}

#[test]
fn after_sleep_it_republishes_at_once() {
    for (hours, day) in [(2, Day(20_000)), (30, Day(20_001))] {
        let mut bench = bench(100);
        bench.input(Input::Offer(offer(2)));
        bench.run_until(10_000);
        bench.start = bench.start.plus(hours * 60); // the wall clock went on, the other did not
        bench.run_until(10_000 + MINUTE);
        let version = bench.publisher.version();
        assert!(version >= bench.start.millis());
        assert_eq!(bench.readable(day), BTreeMap::from([(version, 6)]));
    }
}

#[test]
fn a_clock_set_back_does_not_lower_the_version() {
    let mut bench = bench(800);
    bench.input(Input::Offer(offer(2)));
    bench.run_until(10_000);
    let before = bench.publisher.version();
    bench.start = Wall::from_minutes(bench.start.minutes() - 400);
    bench.run_until(10_000 + MINUTE);
    assert_eq!(bench.publisher.version(), before + 1);
    assert_eq!(bench.readable(Day(20_000)), BTreeMap::from([(before + 1, 6)]));
}

#[test]
fn a_version_is_the_wall_clock_or_one_more_than_the_last() {
    let mut bench = bench(100);
    bench.input(Input::Offer(offer(1)));
    bench.run_until(5_000);
    assert_eq!(bench.publisher.version(), bench.start.millis());
    bench.input(Input::Offer(offer(2)));
    bench.run_until(10_000);
    assert_eq!(bench.publisher.version(), bench.start.millis() + 1);
}

/// A restart that lost the counter of a clock that was ahead finds higher versions in the ring.
#[test]
fn a_higher_version_in_the_ring_is_learned_and_overtaken() {
    let mut old = bench(100);
    old.publisher.version = old.start.millis() + 1_000_000_000;
    old.input(Input::Offer(offer(1)));
    old.run_until(1_000);
    let ahead = old.publisher.version();

    let mut new = bench(100);
    new.held = old.held;
    new.input(Input::Offer(offer(2)));
    new.run_until(5_000);
    assert_eq!(new.publisher.version(), ahead + 1);
    assert_eq!(new.readable(Day(20_000)), BTreeMap::from([(ahead + 1, 6)]));
    assert_eq!(new.publisher.conflicts(), 1);
    assert!((1..=2).contains(&new.gets), "asked again before the round: {}", new.gets);
}

#[test]
fn two_routers_with_one_key_do_not_flood_the_ring() {
    let mut bench = bench(100);
    bench.ring = |_| Some(RecordAnswer::Stale);
    bench.input(Input::Offer(offer(1)));
    for step in 1..=360 {
        // The other one is always ahead, and quick.
        for place in places(&name(), None, NETWORK, Day(20_000)) {
            let version = bench.publisher.version() + 5;
            let record = seal(
                &mut Rng::from_seed([3; 32]),
                &key(),
                None,
                NETWORK,
                place.day,
                place.index,
                version,
                bench.wall().plus(60),
                &descriptor(2),
            );
            bench.held.insert(place.key, (version, record.unwrap()));
        }
        bench.run_until(step * 5_000);
    }
    assert!((25..=31).contains(&bench.publisher.conflicts()));
    let versions: BTreeSet<_> = bench.puts.iter().map(|(.., record)| record.version()).collect();
    assert!(versions.len() <= 31, "{} rounds in 30 minutes", versions.len());
    assert!(bench.puts.len() <= 31 * 8 * 6, "{} puts", bench.puts.len());
}

#[test]
fn a_forged_answer_about_a_held_version_is_not_believed() {
    let mut bench = bench(100);
    bench.ring = |_| Some(RecordAnswer::Stale);
    bench.input(Input::Offer(offer(1)));
    bench.run_until(400);
    let other = ServiceKey::from_seed(Secret::take(&mut [7; 32]));
    let before = Day(20_000);
    for place in places(&name(), None, NETWORK, before) {
        let mut rng = Rng::from_seed([3; 32]);
        let expiry = bench.start.plus(60);
        let record = seal(
            &mut rng,
            &other,
            None,
            NETWORK,
            before,
            place.index,
            u64::MAX,
            expiry,
            &descriptor(2),
        );
        bench.held.insert(place.key, (u64::MAX, record.unwrap()));
    }
    bench.run_until(MINUTE);
    assert!(bench.gets > 0);
    assert_eq!((bench.publisher.conflicts(), bench.publisher.version()), (0, bench.start.millis()));
}

#[test]
fn todays_records_go_out_first() {
    let mut bench = bench(800);
    bench.input(Input::Offer(offer(1)));
    bench.run_until(1_000);
    assert_eq!((bench.puts_of(Set::Today), bench.puts_of(Set::Tomorrow)), (6, 6));
    assert!(bench.puts[..6].iter().all(|(_, set, _)| *set == Set::Today));
    assert_eq!(bench.puts_of(Set::Yesterday), 0, "it was never published as today's");
}

#[test]
fn debug_gives_nothing_away() {
    let mut bench = bench(100);
    bench.input(Input::Offer(offer(1)));
    bench.run_until(1_000);
    assert_eq!(format!("{:?}", bench.publisher), "Publisher(6 of 6 stored)");
}
