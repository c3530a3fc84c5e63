//! Asking after routers, against a network of answers.

use super::*;
use crate::{
    garlic::DescriptorBytes,
    ring::testing::{NETWORK, WALL, key, redescribed, signed_at},
    wire::{Address, DescriptorFields},
};

const DAY: u32 = 24 * 60;

/// Router number `n`, as it described itself at `published` for a day.
fn router(n: u32, published: u32) -> Arc<RouterDescriptor> {
    let it = signed_at(n, WALL);
    let published = WALL.plus(published);
    let fields = DescriptorFields { published, expiry: published.plus(DAY), ..it.fields().clone() };
    Arc::new(RouterDescriptor::sign(fields, &key(n)).unwrap())
}

fn found(it: &RouterDescriptor) -> RouterAnswer {
    Answer::Found(DescriptorBytes::new(it.encode()).unwrap())
}

fn exit(n: u8) -> RouterId {
    RouterId([n; 32])
}

/// A machine, what it knows, and who answers.
struct Bench {
    upkeep: Upkeep,
    minute: u32,
    sampled: BTreeMap<RouterId, Arc<RouterDescriptor>>,
    kept: Vec<RouterId>,
    failed: BTreeSet<RouterId>,
    /// When each question was asked, and where.
    asked: Vec<(u32, Location)>,
    gone: Vec<(u32, RouterId)>,
}

impl Bench {
    fn new(sampled: impl IntoIterator<Item = Arc<RouterDescriptor>>) -> Self {
        let rng = Rng::from_seed([7; 32]);
        Self {
            upkeep: Upkeep::new(Time::ZERO, NETWORK, rng),
            minute: 0,
            sampled: sampled.into_iter().map(|it| (it.id(), it)).collect(),
            kept: Vec::new(),
            failed: BTreeSet::new(),
            asked: Vec::new(),
            gone: Vec::new(),
        }
    }

    fn now(&self) -> Now {
        let time = Time::from_micros(u64::from(self.minute) * 60_000_000);
        Now { time, wall: WALL.plus(self.minute) }
    }

    /// Minutes pass, a second at a time; `answer` says what the exit whose turn it is says.
    fn run(&mut self, until: u32, mut answer: impl FnMut(u32, Location) -> UpkeepInput) {
        while self.minute < until {
            for step in 0..60 {
                let now = self.now();
                let now = Now { time: now.time + Duration::from_secs(step), ..now };
                self.upkeep.handle_timeout(now);
                while let Some(output) = self.upkeep.poll_output() {
                    match output {
                        UpkeepOutput::Look => {
                            let sampled = self.sampled.values().cloned().collect();
                            let (kept, failed) = (self.kept.clone(), self.failed.clone());
                            let known = UpkeepInput::Known { sampled, kept, failed };
                            self.upkeep.handle_input(now, known);
                        }
                        UpkeepOutput::Ask(location) => {
                            self.asked.push((self.minute, location));
                            let input = answer(self.minute, location);
                            self.upkeep.handle_input(now, input);
                        }
                        UpkeepOutput::Fresh(it) => _ = self.sampled.insert(it.id(), it),
                        UpkeepOutput::Gone(id) => {
                            self.sampled.remove(&id);
                            self.gone.push((self.minute, id));
                        }
                    }
                }
            }
            self.minute += 1;
            let wall = WALL.plus(self.minute);
            self.sampled.retain(|_, it| it.is_current(wall));
        }
    }
}

/// An exit that says this, never twice the same one.
fn says(turn: &mut u8, answer: RouterAnswer) -> UpkeepInput {
    *turn = turn.wrapping_add(1);
    UpkeepInput::Answered { exit: exit(*turn), place: None, answer }
}

#[test]
fn nobody_is_asked_after_while_gossip_brings_what_is_new() {
    let mut bench = Bench::new((1..50).map(|n| router(n, 0)));
    for half in 0..6 {
        bench.run((half + 1) * DAY / 2 + 30, |_, _| panic!("nobody is late"));
        let news = (1..50).map(|n| router(n, (half + 1) * DAY / 2));
        bench.sampled = news.map(|it| (it.id(), it)).collect();
    }
    assert_eq!(bench.upkeep.status(), UpkeepStatus::default());
}

#[test]
fn the_late_are_asked_after_once_at_moments_of_chance_and_all_are_renewed_before_they_expire() {
    let mut bench = Bench::new((1..=200).map(|n| router(n, 0)));
    let places: BTreeMap<_, _> = (1..=200).map(|n| (router(n, 0).location(), n)).collect();
    let mut turn = 0;
    bench.run(DAY, |minute, at| says(&mut turn, found(&router(places[&at], minute - 60))));
    assert_eq!(bench.asked.len(), 200);
    let first = bench.asked.iter().map(|it| it.0).min().unwrap();
    let last = bench.asked.iter().map(|it| it.0).max().unwrap();
    assert!(first >= DAY / 2 + 60 && last < DAY - 4 * 60, "{first} to {last}");
    assert!(last - first > 4 * 60, "they come together: {first} to {last}");
    assert!(bench.sampled.values().all(|it| it.fields().published > WALL) && bench.gone.is_empty());
    assert_eq!(bench.sampled.len(), 200);
}

#[test]
fn of_two_thousand_that_are_all_late_no_more_than_240_an_hour_are_asked_after_and_none_expires() {
    let count = u32::try_from(VIEW_MAX).unwrap();
    let mut bench = Bench::new((1..=count).map(|n| router(n, 0)));
    let places: BTreeMap<_, _> = (1..=count).map(|n| (router(n, 0).location(), n)).collect();
    let mut turn = 0;
    bench.run(DAY, |minute, at| says(&mut turn, found(&router(places[&at], minute - 60))));
    assert_eq!((bench.asked.len(), bench.sampled.len()), (VIEW_MAX, VIEW_MAX));
    for hour in 13..24 {
        let asked = bench.asked.iter().filter(|it| it.0 / 60 == hour).count();
        assert!(asked <= 240, "{asked} in hour {hour}");
    }
}

#[test]
fn who_left_falls_out_after_three_exits_said_so_at_least_an_hour_apart() {
    let mut bench = Bench::new([router(1, 0)]);
    let mut turn = 0;
    bench.run(DAY, |_, _| says(&mut turn, Answer::NotFound));
    let asked: Vec<_> = bench.asked.iter().map(|it| it.0).collect();
    assert_eq!(bench.gone, [(asked[2], router(1, 0).id())]);
    assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= 60), "{asked:?}");
}

#[test]
fn one_exit_or_one_place_can_say_so_as_often_as_it_likes() {
    let place = |last: u8| Address::from(std::net::SocketAddr::from(([5, 6, 7, last], 9_000)));
    let one = |_: &mut u8| (exit(1), None);
    let near = |turn: &mut u8| {
        *turn += 1;
        (exit(*turn), Some(place(*turn).prefix()))
    };
    for who in [&one as &dyn Fn(&mut u8) -> _, &near] {
        let mut bench = Bench::new([router(1, 0)]);
        let mut turn = 0;
        bench.run(DAY - 1, |_, _| {
            let (exit, place) = who(&mut turn);
            UpkeepInput::Answered { exit, place, answer: Answer::NotFound }
        });
        assert!(bench.asked.len() > 5 && bench.gone.is_empty(), "{:?}", bench.asked);
        assert_eq!(bench.sampled.len(), 1);
    }
}

#[test]
fn two_who_lie_and_one_who_finds_it_leave_it_where_it_is() {
    let mut bench = Bench::new([router(1, 0)]);
    let mut turn = 0u8;
    bench.run(4 * DAY, |minute, _| {
        let lies = !turn.is_multiple_of(3);
        says(&mut turn, if lies { Answer::NotFound } else { found(&router(1, minute - 5)) })
    });
    assert!(bench.gone.is_empty(), "{:?}", bench.gone);
    assert_eq!(bench.sampled.len(), 1);
}

#[test]
fn another_router_a_forged_or_an_expired_descriptor_is_no_answer() {
    let own = router(1, 0);
    let old = router(1, 0);
    let mut forged = router(1, 900).encode();
    forged[200] ^= 1;
    let bytes = |bytes: Vec<u8>| Answer::Found(DescriptorBytes::new(bytes).unwrap());
    let moved = redescribed(2, &own, WALL.plus(900), own.fields().addresses.clone());
    for answer in [found(&router(2, 900)), found(&moved), bytes(forged), bytes(vec![1; 9])] {
        let mut bench = Bench::new([Arc::clone(&own)]);
        let mut turn = 0;
        bench.run(DAY, |_, _| says(&mut turn, answer.clone()));
        assert_eq!(bench.sampled.values().collect::<Vec<_>>(), [&old], "{answer:?}");
        assert!(bench.asked.len() > 5 && bench.gone.is_empty());
    }
}

#[test]
fn no_answer_busy_and_no_way_say_nothing_of_it() {
    let mut bench = Bench::new([router(1, 0)]);
    let mut turn = 0u8;
    bench.run(DAY, |_, _| {
        turn += 1;
        let answer = match turn % 3 {
            0 => return UpkeepInput::Unanswered,
            1 => Answer::Busy { retry_s: 9 },
            _ => Answer::NoRoute { left: 3 },
        };
        UpkeepInput::Answered { exit: exit(turn), place: None, answer }
    });
    assert!(bench.gone.is_empty() && bench.asked.len() > 10);
    let gaps: Vec<_> = bench.asked.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(gaps.iter().all(|gap| *gap >= SOON.0), "{gaps:?}");
}

#[test]
fn who_fails_builds_is_asked_after_at_once_and_not_again_for_hours_once_found() {
    let mut bench = Bench::new((1..9).map(|n| router(n, 0)));
    let here = router(1, 0);
    bench.failed = [here.id()].into();
    let mut turn = 0;
    bench.run(5 * 60, |_, at| {
        assert_eq!(at, here.location());
        says(&mut turn, found(&here))
    });
    assert_eq!(bench.asked.len(), 1);
    assert!(bench.asked[0].0 <= 10 + SOON.1, "{:?}", bench.asked);
    assert!(bench.gone.is_empty());
    // And who is not there is gone in some hours, not in a day.
    let mut bench = Bench::new((1..9).map(|n| router(n, 0)));
    bench.failed = [here.id()].into();
    bench.run(6 * 60, |_, _| says(&mut turn, Answer::NotFound));
    assert_eq!(bench.gone.len(), 1);
    assert!(bench.gone[0].0 <= 10 + SOON.1 + 2 * AFTER_MISS.1, "{:?}", bench.gone);
}

#[test]
fn a_build_that_comes_about_ends_the_question() {
    let mut bench = Bench::new((1..9).map(|n| router(n, 0)));
    bench.failed = [router(1, 0).id()].into();
    let mut turn = 0;
    bench.run(60, |_, _| says(&mut turn, Answer::NotFound));
    assert_eq!(bench.upkeep.status().waiting, 1);
    bench.failed.clear();
    bench.run(80, |_, _| says(&mut turn, Answer::NotFound));
    assert!(bench.upkeep.status().waiting == 0 && bench.gone.is_empty());
}

#[test]
fn a_kept_hop_that_was_away_for_days_is_found_again_when_it_is_back() {
    let mut bench = Bench::new((1..4).map(|n| router(n, 0)));
    bench.kept = vec![router(2, 0).id()];
    let place = router(2, 0).location();
    let mut turn = 0;
    let others = |turn: &mut u8, minute: u32, at: Location, back: u32| {
        let n = (1..4).find(|n| router(*n, 0).location() == at).unwrap();
        let there = n != 2 || minute >= back;
        says(turn, if there { found(&router(n, minute - 5)) } else { Answer::NotFound })
    };
    bench.run(2 * DAY, |minute, at| others(&mut turn, minute, at, 2 * DAY));
    assert!(!bench.sampled.contains_key(&router(2, 0).id()) && bench.sampled.len() == 2);
    bench.asked.clear();
    bench.run(2 * DAY + 150, |minute, at| others(&mut turn, minute, at, 2 * DAY));
    assert!(bench.sampled.contains_key(&router(2, 0).id()), "{:?}", bench.asked);
    // Nobody but the kept is asked after once it is not known any more.
    bench.kept.clear();
    bench.sampled.remove(&router(2, 0).id());
    bench.asked.clear();
    bench.run(2 * DAY + 600, |minute, at| others(&mut turn, minute, at, 2 * DAY));
    assert!(bench.asked.iter().all(|it| it.1 != place));
}

/// A fifth of the exits call everybody gone.
#[test]
fn a_fifth_of_liars_throws_out_few_and_those_are_back_with_their_next_descriptor() {
    let mut bench = Bench::new((1..=200).map(|n| router(n, 0)));
    let places: BTreeMap<_, _> = (1..=200).map(|n| (router(n, 0).location(), n)).collect();
    let mut rng = Rng::from_seed([3; 32]);
    bench.run(2 * DAY, |minute, at| {
        let exit = RouterId(rng.bytes());
        let lies = rng.below(5) == 0;
        let answer = if lies { Answer::NotFound } else { found(&router(places[&at], minute - 60)) };
        UpkeepInput::Answered { exit, place: None, answer }
    });
    // Theory: 200 * 3 rounds * 0.2^3 = 5.
    assert!(bench.gone.len() <= 12, "{} of 200", bench.gone.len());
    assert!(bench.sampled.len() >= 185, "{}", bench.sampled.len());
}
