//! What holds of several routers that publish one service: each is found beside the other.

use std::collections::BTreeMap;

use super::*;
use crate::{
    crypto::secret::Secret,
    garlic::RecordBytes,
    service::{Place, descriptor::tests::offer, open, places},
    time::Wall,
};

const NETWORK: NetworkId = NetworkId([9; 32]);
/// How often a router looks at what readers find.
const LOOK: u64 = 120_000;

fn key() -> ServiceKey {
    ServiceKey::from_seed(Secret::take(&mut [1; 32]))
}

fn id(n: u8) -> OfferId {
    OfferId::from_bytes([n; 8])
}

/// Routers with one key, a ring, and a virtual clock.
struct Several {
    start: Wall,
    millis: u64,
    routers: Vec<Option<Publisher>>,
    held: BTreeMap<Key, Record>,
    places: Vec<Place>,
    /// Rounds: versions that were put, and by whom.
    rounds: BTreeMap<(usize, u64), usize>,
}

impl Several {
    fn new() -> Self {
        let name = Name::of_service(&key());
        let start = Day(20_000).start(&name).plus(200);
        let places = places(&name, None, NETWORK, Day(20_000));
        let (routers, held, rounds) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        Self { start, millis: 0, routers, held, places, rounds }
    }

    fn now(&self) -> Now {
        let wall = self.start.plus(u32::try_from(self.millis / 60_000).unwrap());
        Now { time: Time::from_micros(self.millis * 1_000), wall }
    }

    /// One more router, with `leases` gateways; it knows of the service's past if `version` is not zero.
    fn join(&mut self, leases: u8, version: u64) -> usize {
        let at = self.routers.len();
        let n = u8::try_from(at).unwrap() + 1;
        let rng = Rng::from_seed([n; 32]);
        let publisher = Publisher::new(self.now(), key(), None, NETWORK, (id(n), version), rng);
        self.routers.push(Some(publisher));
        self.input(at, Input::Offer(offer(leases)));
        at
    }

    fn input(&mut self, at: usize, input: Input) {
        let now = self.now();
        if let Some(publisher) = &mut self.routers[at] {
            publisher.handle_input(now, input);
        }
        self.drain(at);
    }

    fn drain(&mut self, at: usize) {
        let now = self.now();
        let Some(publisher) = &mut self.routers[at] else { return };
        while let Some(output) = publisher.poll_output() {
            let (request, answer) = match output {
                Output::Published { .. } => continue,
                Output::Get { request, key, .. } => {
                    let found = |held: &Record| {
                        RecordAnswer::Found(RecordBytes::new(held.encode().to_vec()).unwrap())
                    };
                    (request, self.held.get(&key).map_or(RecordAnswer::NotFound, found))
                }
                Output::Put { request, record, .. } => {
                    *self.rounds.entry((at, record.version())).or_default() += 1;
                    let held = self.held.get(&record.key());
                    let stale = held.is_some_and(|held| held.version() >= record.version());
                    if stale && held != Some(&record) {
                        (request, RecordAnswer::Stale)
                    } else {
                        self.held.insert(record.key(), record);
                        (request, RecordAnswer::Stored { copies: 3 })
                    }
                }
            };
            publisher.handle_input(now, Input::Answer { request, answer });
        }
    }

    /// The newest that readers find.
    fn read(&self) -> Option<(Arc<ServiceDescriptor>, u64)> {
        let name = Name::of_service(&key());
        let held = |place: &Place| {
            let record = self.held.get(&place.key)?;
            let descriptor = open(&name, None, NETWORK, place, record).ok()?;
            Some((Arc::new(descriptor), record.version()))
        };
        self.places.iter().filter_map(held).max_by_key(|(_, version)| *version)
    }

    fn offered(&self) -> Vec<(OfferId, usize)> {
        let (descriptor, _) = self.read().unwrap();
        descriptor.offers.iter().map(|it| (it.id, it.leases.len())).collect()
    }

    /// Time passes, in steps that a person would not notice, and routers look at what readers find.
    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds * 10 {
            self.millis += 100;
            for at in 0..self.routers.len() {
                let now = self.now();
                if let Some(publisher) = &mut self.routers[at]
                    && publisher.poll_timeout().is_some_and(|wake| wake <= now.time)
                {
                    publisher.handle_timeout(now);
                    self.drain(at);
                }
                let looks = self.millis % LOOK == 1_000 * (1 + at as u64);
                if looks && let Some((descriptor, version)) = self.read() {
                    self.input(at, Input::Found { descriptor, version });
                }
            }
        }
    }

    fn conflicts(&self) -> u64 {
        self.routers.iter().flatten().map(Publisher::conflicts).sum()
    }
}

#[test]
fn who_joins_reads_first_and_both_are_found_within_seconds() {
    let mut several = Several::new();
    several.join(3, 0);
    several.run(300);
    several.join(5, 1);
    several.run(5);
    assert_eq!(several.offered(), [(id(1), 3), (id(2), 5)]);
    assert_eq!(several.conflicts(), 0);
    assert_eq!(several.routers[1].as_ref().unwrap().others(), 1);
}

/// Nobody reads what is not there yet: both write the same version, and overtake each other.
#[test]
fn two_that_begin_in_the_same_moment_are_both_found_within_minutes() {
    let mut several = Several::new();
    several.join(3, 0);
    several.join(4, 0);
    several.run(240);
    assert_eq!(several.offered(), [(id(1), 3), (id(2), 4)]);
    assert!(several.conflicts() <= 4, "{}", several.conflicts());
}

#[test]
fn over_hours_of_changes_each_keeps_what_the_other_offers_and_nobody_fights() {
    let mut several = Several::new();
    several.join(1, 0);
    several.run(200);
    several.join(1, 1);
    for minute in 0..4 * 60u64 {
        several.run(60);
        let [one, two] = [7, 11].map(|every| 1 + u8::try_from(minute / every % 5).unwrap());
        several.input(0, Input::Offer(offer(one)));
        several.input(1, Input::Offer(offer(two)));
        if minute % 10 == 5 {
            several.run(30);
            assert_eq!(several.offered(), [(id(1), one.into()), (id(2), two.into())]);
        }
    }
    // Every 7 and every 11 minutes a change, sometimes at the same moment, and a refresh an hour.
    assert!(several.rounds.len() < 90, "{} rounds", several.rounds.len());
    assert!(several.conflicts() <= 10, "{} conflicts", several.conflicts());
}

#[test]
fn who_is_dead_is_left_out_at_once_and_is_back_when_it_offers_something_new() {
    let mut several = Several::new();
    several.join(3, 0);
    several.run(200);
    several.join(4, 1);
    several.run(200);
    several.input(0, Input::Gone(id(2)));
    several.run(3);
    assert_eq!(several.offered(), [(id(1), 3)]);
    // It was not dead: at its next look it finds that it is left out.
    several.run(2 * LOOK / 1_000);
    assert_eq!(several.offered(), [(id(1), 3), (id(2), 4)]);
}

#[test]
fn what_nobody_renews_is_forgotten_after_three_hours() {
    let mut several = Several::new();
    several.join(3, 0);
    several.run(200);
    several.join(4, 1);
    several.run(200);
    several.routers[1] = None;
    several.run(170 * 60);
    assert_eq!(several.offered().len(), 2);
    several.run(80 * 60);
    assert_eq!(several.offered(), [(id(1), 3)]);
    assert_eq!(several.routers[0].as_ref().unwrap().others(), 0);
}

#[test]
fn who_leaves_takes_back_its_own_offer_alone() {
    let mut several = Several::new();
    several.join(3, 0);
    several.run(200);
    several.join(4, 1);
    several.run(200);
    several.input(0, Input::Withdraw);
    several.run(3);
    assert_eq!(several.offered(), [(id(2), 4)]);
    several.routers[0] = None;
    several.run(300);
    several.input(1, Input::Withdraw);
    several.run(3);
    assert_eq!(several.offered(), [], "nobody is left");
}

#[test]
fn a_third_router_stands_by_until_one_of_two_is_gone() {
    let mut several = Several::new();
    several.join(3, 0);
    several.run(200);
    several.join(4, 1);
    several.run(200);
    let third = several.join(5, 1);
    several.run(500);
    assert_eq!(several.offered(), [(id(1), 3), (id(2), 4)]);
    let publisher = several.routers[third].as_ref().unwrap();
    assert!(publisher.stands_by() && publisher.published().is_none());
    assert!(several.rounds.keys().all(|(at, _)| *at != third), "it wrote nothing");
    several.routers[0] = None;
    several.input(third, Input::Gone(id(1)));
    several.run(10);
    assert_eq!(several.offered(), [(id(2), 4), (id(3), 5)]);
    assert!(several.routers[third].as_ref().unwrap().published().is_some());
    assert_eq!(several.conflicts(), 0);
}
