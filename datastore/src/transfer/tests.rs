//! Transfers over exits that are slow, busy, lying, dying, and far too few.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;
use warren_overlay::{
    answer::Answer,
    block::{Block, BlockAddress},
    garlic::BlockAnswer,
    rng::Rng,
    time::Time,
};

use super::*;
use crate::{
    file::{
        Content, Encoder, Options, Placed, ReadError, Scope,
        tests::{Stored, encode, source, store, text},
    },
    transfer::courier::Output,
};

/// How an exit behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    Good,
    /// Says Busy every second time.
    Busy,
    /// Says that nothing is there.
    Denies,
    /// Brings another block.
    Forges,
    /// Never answers.
    Silent,
    /// Dies at its tenth request.
    Dies,
}

/// The owner's side: a network, exits, a clock.
struct World {
    now: Time,
    rng: Rng,
    stored: Stored,
    exits: BTreeMap<ExitNo, (Manner, u32)>,
    manners: Vec<Manner>,
    /// Answers under way.
    queue: BTreeMap<(Time, u64), (ExitNo, Option<BlockAnswer>)>,
    /// Which exit saw which blocks.
    seen: BTreeMap<ExitNo, Vec<BlockAddress>>,
    exits_max: usize,
    suspects: BTreeSet<ExitNo>,
    puts: u64,
}

enum Act<'a> {
    Up(ExitNo),
    Gone(ExitNo),
    NoMore,
    Answer(u64, Option<BlockAnswer>),
    Timeout,
    Out(&'a mut Option<Output>),
    When(&'a mut Option<Time>),
}

trait Machine {
    fn act(&mut self, now: Time, act: Act<'_>);
}

macro_rules! machine {
    ($($name:ident),*) => {$(
        impl Machine for $name {
            fn act(&mut self, now: Time, act: Act<'_>) {
                match act {
                    Act::Up(exit) => self.exit_up(now, exit),
                    Act::Gone(exit) => self.exit_gone(now, exit),
                    Act::NoMore => self.no_more_exits(now),
                    Act::Answer(ask, answer) => self.handle_answer(now, ask, 9, answer),
                    Act::Timeout => self.handle_timeout(now),
                    Act::Out(out) => *out = self.poll_output(),
                    Act::When(when) => *when = self.poll_timeout(now),
                }
            }
        }
    )*};
}
machine!(Fetch, Store, Heal, Load);

impl World {
    fn new(seed: u8, manners: &[Manner], stored: Stored) -> Self {
        Self {
            now: Time::ZERO,
            rng: Rng::from_seed([seed; 32]),
            stored,
            exits: BTreeMap::new(),
            manners: manners.to_vec(),
            queue: BTreeMap::new(),
            seen: BTreeMap::new(),
            exits_max: EXITS_MAX,
            suspects: BTreeSet::new(),
            puts: 0,
        }
    }

    /// Does what the machine wants until it wants nothing.
    fn drain(&mut self, machine: &mut dyn Machine) {
        loop {
            let mut out = None;
            machine.act(self.now, Act::Out(&mut out));
            match out {
                None => return,
                Some(Output::NeedExits { want }) => {
                    while self.exits.len() < want.min(self.exits_max) {
                        let number = ExitNo(u32::try_from(self.seen.len()).unwrap());
                        let manner = self.manners[self.seen.len() % self.manners.len()];
                        self.exits.insert(number, (manner, 0));
                        self.seen.insert(number, Vec::new());
                        machine.act(self.now, Act::Up(number));
                    }
                    if want > self.exits_max {
                        machine.act(self.now, Act::NoMore);
                    }
                }
                Some(Output::Suspect { exit }) => {
                    self.suspects.insert(exit);
                }
                Some(Output::Get { ask, exit, address }) => {
                    let found = self.stored.get(&address).cloned();
                    let answer = found.map_or(Answer::NotFound, Answer::Found);
                    self.request(machine, ask, exit, address, answer);
                }
                Some(Output::Put { ask, exit, block }) => {
                    self.puts += 1;
                    let address = block.address();
                    let good = self.manner(exit, address);
                    if good == Manner::Good {
                        self.stored.insert(address, block);
                    }
                    self.request(machine, ask, exit, address, Answer::Stored { copies: 3 });
                }
            }
        }
    }

    fn manner(&self, exit: ExitNo, _: BlockAddress) -> Manner {
        let (manner, asked) = self.exits[&exit];
        if manner == Manner::Busy && asked % 2 == 1 { Manner::Good } else { manner }
    }

    fn request(
        &mut self,
        machine: &mut dyn Machine,
        ask: u64,
        exit: ExitNo,
        address: BlockAddress,
        truth: BlockAnswer,
    ) {
        self.seen.get_mut(&exit).unwrap().push(address);
        let forged = Answer::Found(Block::copy_from(&vec![6; 32_768]).unwrap());
        let manner = self.manner(exit, address);
        let (_, asked) = self.exits.get_mut(&exit).unwrap();
        *asked += 1;
        let answer = match manner {
            Manner::Good => truth,
            Manner::Busy => Answer::Busy { retry_s: 1 },
            Manner::Denies => Answer::NotFound,
            Manner::Forges => forged,
            Manner::Silent => return,
            Manner::Dies if *asked < 10 => Answer::NotFound,
            Manner::Dies => {
                self.exits.remove(&exit);
                machine.act(self.now, Act::Gone(exit));
                return;
            }
        };
        let delay = Duration::from_millis(20 + self.rng.below(200));
        self.queue.insert((self.now + delay, ask), (exit, Some(answer)));
    }

    /// The next thing that happens; `false` when nothing will.
    fn step(&mut self, machine: &mut dyn Machine) -> bool {
        self.drain(machine);
        let mut when = None;
        machine.act(self.now, Act::When(&mut when));
        let answer = self.queue.first_key_value().map(|(key, _)| *key);
        match (answer, when) {
            (Some((at, ask)), when) if when.is_none_or(|when| at <= when) => {
                self.now = self.now.max(at);
                let (_, answer) = self.queue.remove(&(at, ask)).unwrap();
                machine.act(self.now, Act::Answer(ask, answer));
            }
            (_, Some(when)) => {
                self.now = self.now.max(when);
                machine.act(self.now, Act::Timeout);
            }
            _ => return false,
        }
        self.drain(machine);
        true
    }

    fn fetch(&mut self, fetch: &mut Fetch) -> Result<Vec<u8>, ReadError> {
        let mut out = Vec::new();
        self.drain(fetch);
        for _ in 0..1_000_000 {
            while let Some(bytes) = fetch.poll_data(self.now) {
                out.extend(bytes);
            }
            if let Some(error) = fetch.error() {
                return Err(error);
            }
            if fetch.is_done() {
                return Ok(out);
            }
            assert!(self.step(fetch), "neither done nor waiting: {:?}", fetch.progress());
        }
        panic!("no end");
    }

    fn store(&mut self, machine: &mut Store, mut bytes: &[u8], steps: usize) -> bool {
        for _ in 0..steps {
            while !bytes.is_empty() {
                let taken = machine.push(self.now, bytes).unwrap();
                bytes = &bytes[taken..];
                if taken == 0 {
                    break;
                }
            }
            if bytes.is_empty() && machine.read_cap().is_none() {
                machine.finish(self.now).unwrap();
            }
            if machine.is_done() {
                return true;
            }
            assert!(self.step(machine), "neither done nor waiting");
        }
        false
    }

    /// Most blocks of one segment that an exit was asked about, repetitions included.
    fn most_of_a_segment(&self, placed: &[Placed]) -> usize {
        let place: BTreeMap<_, _> = placed.iter().map(|p| (p.block.address(), p.place)).collect();
        let count = |seen: &Vec<BlockAddress>| {
            let mut counts: BTreeMap<_, usize> = BTreeMap::new();
            for address in seen {
                let place = place[address];
                *counts.entry((place.level, place.segment)).or_default() += 1;
            }
            counts.values().max().copied().unwrap_or(0)
        };
        self.seen.values().map(count).max().unwrap_or(0)
    }
}

fn encoder(bytes: &[u8]) -> Encoder {
    Encoder::new(source(1), Content::of(bytes), Options::default()).unwrap()
}

const GOOD: &[Manner] = &[Manner::Good];

#[test]
fn a_file_goes_and_comes_and_no_exit_sees_more_than_32_blocks_of_a_segment() {
    let bytes = text(9_000_000);
    let (_, placed) = encode(&bytes, source(1), Options::default());
    let mut world = World::new(1, GOOD, Stored::new());
    let mut machine = Store::new(encoder(&bytes));
    assert!(world.store(&mut machine, &bytes, 100_000));
    assert_eq!(world.stored, store(&placed));
    let progress = machine.progress();
    assert_eq!((progress.stored, progress.encoded), (progress.total, progress.total));
    assert_eq!((progress.copies_min, progress.thin), (Some(3), 0));
    assert_eq!(world.most_of_a_segment(&placed), 32);
    let cap = machine.read_cap().unwrap().duplicate();

    let mut world = World::new(2, GOOD, world.stored);
    let mut fetch = Fetch::new(cap, 0..u64::MAX);
    assert!(world.fetch(&mut fetch).unwrap() == bytes);
    assert!(world.most_of_a_segment(&placed) <= 32);
    let progress = fetch.progress();
    assert_eq!((progress.bytes, progress.len), (9_000_000, Some(9_000_000)));
    assert!(progress.asked < 300, "{progress:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    /// Whatever most exits do, two good ones are enough.
    #[test]
    fn a_file_comes_through_bad_exits(
        seed: u8, len in 0usize..600_000,
        bad in prop::collection::vec(prop::sample::select(vec![
            Manner::Busy, Manner::Denies, Manner::Forges, Manner::Silent, Manner::Dies,
        ]), 0..3),
        few in 3usize..17,
    ) {
        let bytes = text(len);
        let (cap, placed) = encode(&bytes, source(1), Options::default());
        let mut manners = bad;
        manners.extend([Manner::Good; 4]);
        let mut world = World::new(seed, &manners, store(&placed));
        world.exits_max = few.max(manners.len());
        let mut fetch = Fetch::new(cap, 0..u64::MAX);
        prop_assert!(world.fetch(&mut fetch).unwrap() == bytes);
    }

    #[test]
    fn a_file_goes_through_bad_exits_and_a_restart(
        seed: u8, len in 40_000usize..400_000, steps in 1usize..40,
        bad in prop::collection::vec(prop::sample::select(vec![
            Manner::Busy, Manner::Forges, Manner::Silent, Manner::Dies,
        ]), 0..3),
    ) {
        let bytes = text(len);
        let (_, placed) = encode(&bytes, source(1), Options::default());
        let mut manners = bad;
        manners.extend([Manner::Good; 3]);
        let mut world = World::new(seed, &manners, Stored::new());
        let mut machine = Store::new(encoder(&bytes));
        world.store(&mut machine, &bytes, steps);
        let saved = machine.state().encode();
        let before = machine.progress().stored;
        let state = StoreState::decode(&saved).unwrap();
        prop_assert_eq!(state.encode(), saved);
        let mut world = World::new(seed, &manners, world.stored);
        let mut machine = Store::resume(encoder(&bytes), state).unwrap();
        prop_assert_eq!(machine.progress().stored, before);
        prop_assert!(world.store(&mut machine, &bytes, 1_000_000));
        prop_assert_eq!(&world.stored, &store(&placed));
    }
}

#[test]
fn what_is_nowhere_is_said_to_be_nowhere_within_seconds() {
    let (cap, _) = encode(b"gone", source(1), Options::default());
    let mut world = World::new(1, GOOD, Stored::new());
    let mut fetch = Fetch::new(cap, 0..u64::MAX);
    assert_eq!(world.fetch(&mut fetch), Err(ReadError::NoRoot { copies: 3 }));
    assert!(world.now < Time::from_micros(5_000_000));
    assert_eq!(fetch.progress().routers, 9, "the user hears how many were asked");
    assert_eq!(fetch.poll_timeout(world.now), None);
}

#[test]
fn an_exit_that_forges_is_named() {
    let bytes = text(400_000);
    let (cap, placed) = encode(&bytes, source(1), Options::default());
    let mut world = World::new(1, &[Manner::Good, Manner::Forges], store(&placed));
    let mut fetch = Fetch::new(cap, 0..u64::MAX);
    assert!(world.fetch(&mut fetch).unwrap() == bytes);
    assert!(world.suspects.iter().all(|exit| exit.0 % 2 == 1) && !world.suspects.is_empty());
}

#[test]
fn one_exit_is_enough_where_there_are_no_more() {
    let bytes = text(3_000_000);
    let (cap, placed) = encode(&bytes, source(1), Options::default());
    let mut world = World::new(1, GOOD, store(&placed));
    world.exits_max = 1;
    let mut fetch = Fetch::new(cap, 0..u64::MAX);
    assert!(world.fetch(&mut fetch).unwrap() == bytes);
}

#[test]
fn back_off_grows_and_never_passes_a_minute() {
    let (cap, placed) = encode(b"x", source(1), Options::default());
    let mut fetch = Fetch::new(cap, 0..u64::MAX);
    let (mut now, mut pauses) = (Time::ZERO, Vec::new());
    fetch.no_more_exits(now);
    fetch.exit_up(now, ExitNo(1));
    let root = placed[0].block.address();
    let mut before = now;
    for _ in 0..200_000 {
        while let Some(out) = fetch.poll_output() {
            let Output::Get { ask, address, .. } = out else { continue };
            if address == root {
                pauses.push(now.since(before).as_millis());
                before = now;
            }
            fetch.handle_answer(now, ask, 1, Some(Answer::Busy { retry_s: 60 }));
        }
        let Some(when) = fetch.poll_timeout(now) else { break };
        now = when.max(now + Duration::from_micros(1));
        fetch.handle_timeout(now);
    }
    assert_eq!(fetch.error(), Some(ReadError::NoRoot { copies: 3 }));
    assert!(pauses.len() == 16 && pauses[1..].iter().all(|ms| (60_000..62_000).contains(ms)));
}

#[test]
fn a_fetch_goes_on_after_a_restart() {
    let bytes = text(2_000_000);
    let (cap, placed) = encode(&bytes, source(1), Options::default());
    let mut world = World::new(1, GOOD, store(&placed));
    let mut fetch = Fetch::new(cap, 100..1_900_000);
    let mut got = Vec::new();
    while got.len() < 700_000 {
        assert!(world.step(&mut fetch));
        got.extend(fetch.poll_data(world.now).unwrap_or_default());
    }
    let saved = fetch.state().encode();
    let state = FetchState::decode(&saved).unwrap();
    assert_eq!(state.encode(), saved);
    assert!((0..saved.len()).all(|len| FetchState::decode(&saved[..len]).is_err()));
    let mut world = World::new(2, GOOD, store(&placed));
    let mut fetch = Fetch::resume(state);
    got.extend(world.fetch(&mut fetch).unwrap());
    assert!(got == bytes[100..1_900_000]);
    assert!(fetch.progress().asked < 60);
}

#[test]
fn a_slow_reader_is_not_run_over() {
    let bytes = text(20 << 20);
    let (cap, placed) = encode(&bytes, source(1), Options::default());
    let mut world = World::new(1, GOOD, store(&placed));
    let mut fetch = Fetch::new(cap, 0..u64::MAX);
    while world.step(&mut fetch) {}
    assert!(fetch.progress().found < 2 * 128 + 20, "two segments and the tables");
    assert!(world.fetch(&mut fetch).unwrap() == bytes);
}

#[test]
fn a_third_party_heals_through_exits() {
    let bytes = text(1_500_000);
    let (cap, placed) = encode(&bytes, source(1), Options::default());
    let whole = store(&placed);
    let mut stored = whole.clone();
    for p in placed.iter().step_by(3) {
        stored.remove(&p.block.address());
    }
    let mut world = World::new(1, &[Manner::Good, Manner::Good, Manner::Busy], stored);
    let mut heal = Heal::new(cap.verify(), Scope::Whole);
    while !heal.is_done() {
        assert_eq!(heal.error(), None);
        assert!(world.step(&mut heal));
    }
    assert!(world.stored == whole);
    assert_eq!(heal.stored(), heal.summary().rebuilt);
    assert_eq!(heal.stored(), placed.len().div_ceil(3) as u64);
}

#[test]
fn a_changed_file_is_not_stored_over_an_old_state() {
    let state = Store::new(encoder(&text(50_000))).state();
    assert!(Store::resume(encoder(&text(50_001)), state.clone()).is_err());
    assert!(Store::resume(encoder(&text(50_000)), state).is_ok());
    let good = StoreState { hash: [1; 32], below: 5, above: vec![7, 9] };
    let bytes = good.encode();
    assert!(StoreState::decode(&bytes) == Ok(good));
    assert!((0..bytes.len()).all(|len| StoreState::decode(&bytes[..len]).is_err()));
    for above in [vec![5], vec![9, 7], vec![7, 7]] {
        let bad = StoreState { hash: [1; 32], below: 5, above };
        assert!(StoreState::decode(&bad.encode()).is_err());
    }
}

#[test]
fn blocks_of_a_bundle_are_put_whatever_exits_do_and_a_later_run_begins_where_all_is_confirmed() {
    let manners = [Manner::Good, Manner::Busy, Manner::Dies];
    let mut world = World::new(7, &manners, Stored::default());
    let blocks: Vec<Block> =
        (0u32..300).map(|n| Block::copy_from(&n.to_be_bytes().repeat(8_192)).unwrap()).collect();
    let mut load = Load::new(40);
    let mut given = 40;
    while given < blocks.len() || !load.is_idle() {
        while given < blocks.len() && load.has_room() {
            match given {
                77 => load.skip(),
                _ => load.push(world.now, blocks[given].clone()),
            }
            given += 1;
        }
        assert!(load.below() <= given as u64);
        world.drain(&mut load);
        world.step(&mut load);
    }
    assert_eq!((load.below(), load.stored(), load.copies_min()), (300, 259, Some(3)));
    let there = |block: &&Block| world.stored.contains_key(&block.address());
    assert_eq!(blocks[40..].iter().filter(there).count(), 259);
    assert_eq!(world.stored.len(), 259, "what an earlier run put is not put again");
}
