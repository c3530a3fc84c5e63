//! What holds of a lookup, with holders that answer late, wrongly or not at all.

use super::*;
use crate::{
    crypto::{blind::ServiceKey, secret::Secret},
    garlic::RecordBytes,
    service::{EXPIRY_MIN, ServiceDescriptor, descriptor::tests::descriptor, places, seal},
};

const NETWORK: NetworkId = NetworkId([9; 32]);

fn key() -> ServiceKey {
    ServiceKey::from_seed(Secret::take(&mut [1; 32]))
}

fn name() -> Name {
    Name::of_service(&key())
}

/// A minute in the middle of the service's day.
fn noon() -> Wall {
    Day(20_000).start(&name()).plus(720)
}

fn at(wall: Wall, millis: u64) -> Now {
    Now { time: Time::from_micros(millis * 1_000), wall }
}

/// What a place holds under a version: the version decides the number of leases, to tell them apart.
fn record(place: &Place, version: u64, wall: Wall) -> RecordAnswer {
    let mut rng = Rng::from_seed([version.to_le_bytes()[0]; 32]);
    let leases = u8::try_from(version % 5 + 1).unwrap();
    let descriptor = ServiceDescriptor { created: wall, ..descriptor(leases) };
    let expiry = wall.plus(EXPIRY_MIN);
    let record =
        seal(&mut rng, &key(), None, NETWORK, place.day, place.index, version, expiry, &descriptor);
    RecordAnswer::Found(RecordBytes::new(record.unwrap().encode().to_vec()).unwrap())
}

struct Bench {
    wall: Wall,
    lookup: Lookup,
    asked: Vec<(u32, Place)>,
    outcome: Option<Outcome>,
}

impl Bench {
    fn new(wall: Wall, floor: u64, seed: u8) -> Self {
        let lookup =
            Lookup::new(at(wall, 0), name(), None, NETWORK, floor, Rng::from_seed([seed; 32]));
        let mut bench = Self { wall, lookup, asked: Vec::new(), outcome: None };
        bench.drain();
        bench
    }

    fn drain(&mut self) {
        let today = Day::at(&name(), self.wall);
        while let Some(output) = self.lookup.poll_output() {
            assert_eq!(self.outcome, None, "nothing follows the outcome");
            match output {
                Output::Get { request, key } => {
                    let days = [today.previous(), today, today.next()];
                    let all = days.into_iter().flat_map(|day| places(&name(), None, NETWORK, day));
                    let place = all.into_iter().find(|place| place.key == key).unwrap();
                    self.asked.push((request, place));
                }
                Output::Done(outcome) => self.outcome = Some(outcome),
            }
        }
    }

    fn answer(&mut self, millis: u64, nth: usize, answer: RecordAnswer) {
        let request = self.asked[nth].0;
        self.lookup.handle_input(at(self.wall, millis), Input::Answer { request, answer });
        self.drain();
    }

    fn good(&mut self, millis: u64, nth: usize, version: u64) {
        let answer = record(&self.asked[nth].1, version, self.wall);
        self.answer(millis, nth, answer);
    }

    fn pass(&mut self, millis: u64) {
        self.lookup.handle_timeout(at(self.wall, millis));
        self.drain();
    }

    fn version(&self) -> Option<u64> {
        match &self.outcome {
            Some(Outcome::Found(found)) => Some(found.version),
            _ => None,
        }
    }
}

#[test]
fn three_random_places_of_today_are_asked_first() {
    let mut orders = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let bench = Bench::new(noon(), 0, seed);
        assert_eq!(bench.asked.len(), 3);
        assert!(bench.asked.iter().all(|(_, place)| place.day == Day(20_000)));
        let mut indexes: Vec<_> = bench.asked.iter().map(|(_, place)| place.index).collect();
        indexes.sort_unstable();
        indexes.dedup();
        assert_eq!(indexes.len(), 3);
        orders.insert(indexes);
    }
    assert!(orders.len() > 10, "{} of 20 choices seen", orders.len());
}

#[test]
fn the_highest_version_of_three_wins() {
    for order in [[5, 9, 7], [9, 5, 7], [5, 7, 9]] {
        let mut bench = Bench::new(noon(), 0, 1);
        for (nth, version) in order.into_iter().enumerate() {
            assert_eq!(bench.outcome, None);
            bench.good(100, nth, version);
        }
        assert_eq!(bench.version(), Some(9));
        let Some(Outcome::Found(found)) = bench.outcome else { panic!() };
        assert_eq!(found.descriptor.offers[0].leases.len(), 5);
        assert_eq!(found.expiry, noon().plus(EXPIRY_MIN));
        assert_eq!(bench.lookup.poll_timeout(), None);
    }
}

#[test]
fn one_good_record_waits_for_the_others_only_a_little() {
    let mut bench = Bench::new(noon(), 0, 1);
    bench.good(300, 0, 5);
    assert_eq!(bench.lookup.poll_timeout(), Some(Time::from_micros(600_000)));
    bench.pass(599);
    assert_eq!(bench.outcome, None);
    bench.good(599, 1, 8);
    bench.pass(600);
    assert_eq!(bench.version(), Some(8));
}

#[test]
fn a_quick_answer_still_leaves_the_others_a_tenth_of_a_second() {
    let mut bench = Bench::new(noon(), 0, 1);
    bench.good(1, 0, 5);
    bench.pass(100);
    assert_eq!(bench.outcome, None);
    bench.pass(101);
    assert_eq!(bench.version(), Some(5));
}

#[test]
fn the_other_three_are_asked_when_the_first_three_fail() {
    let mut bench = Bench::new(noon(), 0, 1);
    bench.answer(10, 0, RecordAnswer::NotFound);
    bench.answer(20, 1, RecordAnswer::NoRoute { left: 3 });
    assert_eq!(bench.asked.len(), 3);
    bench.answer(30, 2, RecordAnswer::Busy { retry_s: 4 });
    assert_eq!(bench.asked.len(), 6);
    let mut indexes: Vec<_> = bench.asked.iter().map(|(_, place)| place.index).collect();
    indexes.sort_unstable();
    assert_eq!(indexes, [0, 1, 2, 3, 4, 5]);
    bench.good(40, 4, 6);
    bench.answer(41, 3, RecordAnswer::NotFound);
    bench.answer(42, 5, RecordAnswer::NotFound);
    assert_eq!(bench.version(), Some(6));
}

#[test]
fn silence_of_the_first_three_calls_the_others_and_late_answers_still_count() {
    let mut bench = Bench::new(noon(), 0, 1);
    bench.pass(799);
    assert_eq!(bench.asked.len(), 3);
    bench.pass(800);
    assert_eq!(bench.asked.len(), 6);
    bench.good(4_000, 0, 7);
    bench.pass(4_500);
    assert_eq!(bench.version(), Some(7));
}

#[test]
fn an_older_version_than_was_seen_before_is_refused() {
    let mut bench = Bench::new(noon(), 8, 1);
    for nth in 0..3 {
        bench.good(10, nth, 7);
    }
    assert_eq!(bench.asked.len(), 6, "a rollback counts as a failure");
    for nth in 3..6 {
        bench.good(20, nth, 7);
    }
    assert_eq!(bench.outcome, Some(Outcome::Invalid));

    let mut bench = Bench::new(noon(), 8, 1);
    bench.good(10, 0, 7);
    bench.good(10, 1, 8);
    bench.good(10, 2, 7);
    assert_eq!(bench.version(), Some(8), "the same version again is no rollback");
}

#[test]
fn four_empty_places_mean_not_found() {
    let mut bench = Bench::new(noon(), 0, 1);
    for nth in 0..3 {
        bench.answer(10, nth, RecordAnswer::NotFound);
    }
    bench.answer(20, 3, RecordAnswer::RecentlyFailed { until_s: 100 });
    bench.answer(20, 4, RecordAnswer::NoRoute { left: 0 });
    bench.answer(20, 5, RecordAnswer::Found(RecordBytes::new(vec![1; 4_096]).unwrap()));
    assert_eq!(bench.outcome, Some(Outcome::NotFound));
}

#[test]
fn when_most_could_not_be_asked_it_says_so() {
    let busy = |retry_s| RecordAnswer::Busy { retry_s };
    let lost = || RecordAnswer::NoRoute { left: 0 };
    for (answers, reason) in [
        (
            [busy(9), busy(4), lost(), RecordAnswer::NotFound, RecordAnswer::NotFound, busy(5)],
            Unreachable::Busy { retry_s: 4 },
        ),
        (
            [lost(), lost(), lost(), RecordAnswer::NotFound, RecordAnswer::NotFound, lost()],
            Unreachable::NoRoute,
        ),
    ] {
        let mut bench = Bench::new(noon(), 0, 1);
        for (nth, answer) in answers.into_iter().enumerate() {
            bench.answer(10, nth, answer);
        }
        assert_eq!(bench.outcome, Some(Outcome::Unreachable(reason)));
    }
}

#[test]
fn without_any_answer_it_ends_after_eleven_seconds() {
    let mut bench = Bench::new(noon(), 0, 1);
    bench.pass(800);
    bench.pass(10_799);
    assert_eq!(bench.outcome, None);
    bench.pass(10_800);
    assert_eq!(bench.outcome, Some(Outcome::Unreachable(Unreachable::NoRoute)));
}

#[test]
fn forged_damaged_and_misplaced_records_are_invalid() {
    let mut bench = Bench::new(noon(), 0, 1);
    let elsewhere = record(&bench.asked[1].1, 7, noon());
    bench.answer(10, 0, elsewhere);
    bench.answer(10, 1, RecordAnswer::Found(RecordBytes::new(vec![0; 2_048]).unwrap()));
    let RecordAnswer::Found(good) = record(&bench.asked[2].1, 7, noon()) else { panic!() };
    let mut damaged = good.as_bytes().to_vec();
    damaged[100] ^= 1;
    bench.answer(10, 2, RecordAnswer::Found(RecordBytes::new(damaged).unwrap()));
    for nth in 3..6 {
        bench.answer(20, nth, RecordAnswer::NoRoute { left: 0 });
    }
    assert_eq!(bench.outcome, Some(Outcome::Invalid));
}

#[test]
fn an_expired_record_counts_as_none() {
    let mut bench = Bench::new(noon(), 0, 1);
    let old = Wall::from_minutes(noon().minutes() - EXPIRY_MIN - SKEW_MIN);
    for nth in 0..3 {
        let answer = record(&bench.asked[nth].1, 7, old);
        bench.answer(10, nth, answer);
    }
    for nth in 3..6 {
        bench.answer(10, nth, RecordAnswer::NotFound);
    }
    assert_eq!(bench.outcome, Some(Outcome::NotFound));

    let mut bench = Bench::new(noon(), 0, 1);
    for nth in 0..3 {
        let answer = record(&bench.asked[nth].1, 7, old.plus(1));
        bench.answer(10, nth, answer);
    }
    assert_eq!(bench.version(), Some(7), "clocks may differ by ten minutes");
}

#[test]
fn near_the_boundary_the_neighbouring_day_is_tried_too() {
    let start = Day(20_000).start(&name());
    let before = |minutes| Wall::from_minutes(start.minutes() - minutes);
    for (wall, other) in [
        (start.plus(29), Some(Day(19_999))),
        (start.plus(30), None),
        (before(30), Some(Day(20_000))),
        (before(31), None),
    ] {
        let mut bench = Bench::new(wall, 0, 1);
        for nth in 0..3 {
            bench.answer(10, nth, RecordAnswer::NotFound);
        }
        let asked_of = |bench: &Bench, day| {
            bench.asked.iter().filter(|(_, place)| Some(place.day) == day).count()
        };
        assert_eq!(bench.asked.len(), 6 + 3 * usize::from(other.is_some()));
        assert_eq!(asked_of(&bench, other), 3 * usize::from(other.is_some()));
        if let Some(day) = other {
            let nth = bench.asked.iter().position(|(_, place)| place.day == day).unwrap();
            bench.good(20, nth, 7);
            bench.pass(1_000);
            assert_eq!(bench.version(), Some(7));
        }
    }
}

#[test]
fn an_answer_that_nobody_waits_for_changes_nothing() {
    let mut bench = Bench::new(noon(), 0, 1);
    for request in [3, 5, 6, u32::MAX] {
        let answer = RecordAnswer::NotFound;
        bench.lookup.handle_input(at(noon(), 1), Input::Answer { request, answer });
    }
    for _ in 0..5 {
        bench.answer(10, 0, RecordAnswer::NotFound);
    }
    assert_eq!(bench.asked.len(), 3, "one place said no, however often");
    bench.good(20, 1, 7);
    bench.pass(1_000);
    bench.good(1_001, 2, 9);
    assert_eq!(bench.version(), Some(7), "late");
    bench.pass(100_000);
}

#[test]
fn a_place_cannot_take_its_answer_back() {
    let mut bench = Bench::new(noon(), 0, 1);
    for nth in 0..3 {
        bench.answer(10, nth, RecordAnswer::Busy { retry_s: 5 });
    }
    for nth in 3..6 {
        bench.answer(20, 0, RecordAnswer::NotFound);
        bench.answer(20, nth, RecordAnswer::NotFound);
    }
    assert_eq!(bench.outcome, Some(Outcome::Unreachable(Unreachable::Busy { retry_s: 5 })));
}
