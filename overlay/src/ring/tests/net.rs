//! A small network of rings on a virtual clock: seeded delays, deaths, droppers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use crate::{
    answer::Answer,
    crypto::kdf,
    id::{LinkNo, Location, RouterId},
    record::{Record, RecordSize, tests::record_in},
    ring::{
        Body, Class, Held, Input, Output, Request, Ring, RingConfig, RingMessage, StoreOp,
        VIEW_MAX,
        admission::Network,
        testing::{WALL, member, network, vouched, without_address},
    },
    rng::Rng,
    time::{Now, Time},
    unit::{Unit, UnitKey},
    wire::{Address, LinkMessage, RouterDescriptor, Vouch, Writer},
};

/// How long until the far ends notice a silent death.
const DEATH_NOTICED: Duration = Duration::from_secs(10);
const DIFFICULTY: u8 = 0;

enum Event {
    Wake(usize),
    Input(usize, Box<Input>),
    /// Delivered only while the link stands.
    Deliver(usize, LinkNo, Box<LinkMessage>),
    Dial(usize, RouterId),
    Drop(usize, LinkNo),
}

#[expect(clippy::struct_excessive_bools, reason = "what a test makes of it, each by itself")]
pub(super) struct Router {
    pub(super) ring: Ring,
    pub(super) descriptor: Arc<RouterDescriptor>,
    pub(super) store: BTreeMap<UnitKey, Unit>,
    /// Blocks that passed by.
    pub(super) cached: BTreeMap<UnitKey, Unit>,
    pub(super) alive: bool,
    /// Where it is, whether or not it says so.
    address: Address,
    /// Nobody can dial it, and it says so.
    pub(super) guest: bool,
    /// Swallows every request that it should pass on or answer.
    pub(super) dropper: bool,
    /// Keeps blocks that pass by.
    pub(super) caches: bool,
    links: BTreeMap<LinkNo, (usize, LinkNo)>,
    kept: BTreeSet<LinkNo>,
    next_link: u32,
    wake: Option<Time>,
}

pub(super) struct Net {
    pub(super) network: Network,
    pub(super) routers: Vec<Router>,
    pub(super) now: Time,
    events: BTreeMap<(Time, u64), Event>,
    sequence: u64,
    by_id: BTreeMap<RouterId, usize>,
    rng: Rng,
    degree: usize,
    pub(super) answers: BTreeMap<u32, (u8, Answer<Unit>)>,
    /// The same of questions about routers.
    pub(super) located: BTreeMap<u32, Answer<Arc<RouterDescriptor>>>,
    pub(super) pushed: BTreeMap<u32, bool>,
    next_query: u32,
    /// Requests sent with a budget, of any router: what a query costs in hops.
    pub(super) forwards: u64,
    /// Chained hash over everything that was sent, when and by whom.
    pub(super) trace: [u8; 32],
}

pub(super) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(super) fn record(n: u32, version: u64) -> Record {
    let seed = u8::try_from(n % 256).unwrap();
    let payload = n.to_be_bytes();
    let expiry = WALL.plus(180).minutes();
    record_in(network(DIFFICULTY).id(), seed, version, expiry, &payload, RecordSize::Small)
}

impl Net {
    pub(super) fn new(seed: u8, degree: usize) -> Self {
        Self {
            network: network(DIFFICULTY),
            routers: Vec::new(),
            now: Time::ZERO,
            events: BTreeMap::new(),
            sequence: 0,
            by_id: BTreeMap::new(),
            rng: Rng::from_seed([seed; 32]),
            degree,
            answers: BTreeMap::new(),
            located: BTreeMap::new(),
            pushed: BTreeMap::new(),
            next_query: 0,
            forwards: 0,
            trace: [0; 32],
        }
    }

    fn clock(&self) -> Now {
        Now { time: self.now, wall: WALL }
    }

    /// Adds a router that starts in `after` with the given ones as seeds.
    pub(super) fn add(&mut self, after: Duration, seeds: &[usize]) -> usize {
        self.add_as(after, seeds, false)
    }

    /// The same, which nobody can dial if it is a `guest`.
    pub(super) fn add_as(&mut self, after: Duration, seeds: &[usize], guest: bool) -> usize {
        let n = u32::try_from(self.routers.len()).unwrap();
        let descriptor = member(&self.network, n);
        let address = descriptor.address().unwrap();
        let descriptor = if guest { without_address(n, &descriptor, WALL) } else { descriptor };
        self.add_described(after, seeds, descriptor, address)
    }

    /// Adds a router for which these signed.
    pub(super) fn add_vouched(
        &mut self,
        after: Duration,
        seeds: &[usize],
        vouches: Vec<Vouch>,
    ) -> usize {
        let n = u32::try_from(self.routers.len()).unwrap();
        let descriptor = vouched(n, &member(&self.network, n), vouches);
        let address = descriptor.address().unwrap();
        self.add_described(after, seeds, descriptor, address)
    }

    fn add_described(
        &mut self,
        after: Duration,
        seeds: &[usize],
        descriptor: Arc<RouterDescriptor>,
        address: Address,
    ) -> usize {
        let number = self.routers.len();
        let guest = descriptor.address().is_none();
        let config = RingConfig {
            network: self.network.clone(),
            own: Arc::clone(&descriptor),
            degree: self.degree,
            known_max: VIEW_MAX,
        };
        let ring = Ring::new(config, self.rng.fork());
        self.by_id.insert(descriptor.id(), number);
        self.routers.push(Router {
            ring,
            descriptor,
            store: BTreeMap::new(),
            cached: BTreeMap::new(),
            alive: true,
            address,
            guest,
            dropper: false,
            caches: false,
            links: BTreeMap::new(),
            kept: BTreeSet::new(),
            next_link: 0,
            wake: None,
        });
        let seeds = seeds.iter().map(|seed| Arc::clone(&self.routers[*seed].descriptor)).collect();
        self.later(after, Event::Input(number, Box::new(Input::Start { seeds, cached: vec![] })));
        number
    }

    /// `count` routers, 3 of them seeds for all; each starts `apart` after the one before.
    pub(super) fn grown(seed: u8, degree: usize, count: usize, apart: Duration) -> Self {
        let mut net = Self::new(seed, degree);
        for number in 0..count {
            let seeds: Vec<usize> = (0..number.min(3)).collect();
            net.add(apart * u32::try_from(number).unwrap(), &seeds);
        }
        net
    }

    fn later(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + after, self.sequence), event);
    }

    fn delay(a: usize, b: usize) -> Duration {
        let (a, b) = (a.min(b) as u64, a.max(b) as u64);
        let draw: [u8; 1] =
            kdf::derive("warren test delay 1", &[&a.to_be_bytes(), &b.to_be_bytes()]);
        Duration::from_millis(10 + u64::from(draw[0]) / 4)
    }

    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            self.step(event);
        }
        self.now = end;
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Wake(number) => {
                let now = self.clock();
                let router = &mut self.routers[number];
                router.wake = None;
                if router.alive {
                    router.ring.handle_timeout(now);
                    self.drain(number);
                }
            }
            Event::Input(number, input) => self.input(number, *input),
            Event::Deliver(number, link, message) => {
                if !self.routers[number].links.contains_key(&link) {
                    return;
                }
                match *message {
                    LinkMessage::Ring(RingMessage::Request { .. })
                        if self.routers[number].dropper => {}
                    LinkMessage::Ring(message) => {
                        self.input(number, Input::Message { link, message });
                    }
                    LinkMessage::Descriptor(descriptor) => {
                        self.input(number, Input::Descriptor { link, descriptor });
                    }
                    _ => {}
                }
            }
            Event::Dial(from, id) => self.connect(from, &id),
            Event::Drop(number, link) => {
                if self.routers[number].links.remove(&link).is_some() {
                    self.routers[number].kept.remove(&link);
                    self.input(number, Input::LinkDown { link });
                }
            }
        }
    }

    pub(super) fn input(&mut self, number: usize, input: Input) {
        let now = self.clock();
        let router = &mut self.routers[number];
        if router.alive {
            router.ring.handle_input(now, input);
            self.drain(number);
        }
    }

    fn connect(&mut self, from: usize, id: &RouterId) {
        let to = self.by_id[id];
        if !self.routers[from].alive || self.routers[from].links.values().any(|(far, _)| *far == to)
        {
            return;
        }
        if !self.routers[to].alive {
            self.input(from, Input::Unreachable { id: *id });
            return;
        }
        let (near, far) = (self.fresh_link(from), self.fresh_link(to));
        self.routers[from].links.insert(near, (to, far));
        self.routers[to].links.insert(far, (from, near));
        for (number, link, other) in [(from, near, to), (to, far, from)] {
            let peer = Arc::clone(&self.routers[other].descriptor);
            let remote = self.routers[other].address;
            self.input(number, Input::LinkUp { link, peer, remote });
        }
    }

    fn fresh_link(&mut self, number: usize) -> LinkNo {
        self.routers[number].next_link += 1;
        LinkNo(self.routers[number].next_link)
    }

    fn drain(&mut self, number: usize) {
        while let Some(output) = self.routers[number].ring.poll_output() {
            match output {
                Output::Connect(peer) => {
                    assert!(peer.address().is_some(), "nobody dials a guest");
                    let delay = Self::delay(number, self.by_id[&peer.id()]) * 3;
                    let alive = self.routers[self.by_id[&peer.id()]].alive;
                    let delay = if alive { delay } else { seconds(5) };
                    self.later(delay, Event::Dial(number, peer.id()));
                }
                Output::Send { link, message } => self.send(number, link, message),
                Output::Keep { link } => {
                    self.routers[number].kept.insert(link);
                }
                Output::Release { link } => {
                    self.routers[number].kept.remove(&link);
                    self.maybe_close(number, link);
                }
                Output::CloseLink { link } => self.close(number, link, Duration::ZERO),
                Output::Store { ticket, op } => {
                    let held = self.store(number, op);
                    if let Some(ticket) = ticket {
                        let input = Box::new(Input::Held { ticket, held });
                        self.later(Duration::ZERO, Event::Input(number, input));
                    }
                }
                Output::Answer { query, asked, answer } => {
                    let twice = self.answers.insert(query, (asked, answer));
                    assert!(twice.is_none(), "answered twice");
                }
                Output::Router { query, answer, .. } => {
                    assert!(self.located.insert(query, answer).is_none(), "answered twice");
                }
                Output::Pushed { push, stored } => {
                    assert!(self.pushed.insert(push, stored).is_none(), "pushed twice");
                }
                Output::HandOver => {
                    self.later(Duration::ZERO, Event::Input(number, Box::new(Input::HandedOver)));
                }
                Output::Left => self.kill(number, Duration::from_millis(500)),
                Output::View(_) | Output::Neighbourhood(_) | Output::Repair { .. } => {}
            }
        }
        let router = &mut self.routers[number];
        let due = router.ring.poll_timeout().map(|due| due.max(self.now));
        if let Some(due) = due
            && router.wake.is_none_or(|wake| due < wake)
        {
            router.wake = Some(due);
            let after = due.since(self.now);
            self.later(after, Event::Wake(number));
        }
    }

    fn send(&mut self, number: usize, link: LinkNo, message: LinkMessage) {
        let mut w = Writer::default();
        message.encode(&mut w);
        let stamp = [self.now.as_micros(), number as u64, u64::from(link.0)];
        let stamp: Vec<u8> = stamp.iter().flat_map(|part| part.to_be_bytes()).collect();
        self.trace = kdf::hash("warren test trace 1", &[&self.trace, &stamp, &w.into_bytes()]);
        if let LinkMessage::Ring(RingMessage::Request { budget: 1.., body: Body::Get(_), .. }) =
            message
        {
            self.forwards += 1;
        }
        if let Some((to, far)) = self.routers[number].links.get(&link).copied() {
            self.later(Self::delay(number, to), Event::Deliver(to, far, Box::new(message)));
        }
    }

    fn store(&mut self, number: usize, op: StoreOp) -> Held {
        let Router { store, cached, caches, .. } = &mut self.routers[number];
        match op {
            StoreOp::Get(key) => {
                let held = store.get(&key).or_else(|| cached.get(&key));
                held.cloned().map_or(Held::Missing, Held::Found)
            }
            StoreOp::Cache { block, .. } => {
                if *caches {
                    cached.insert(UnitKey::Block(block.address()), block.into());
                }
                Held::Stored
            }
            StoreOp::Put { unit, .. } => match (store.get(&unit.key()), &unit) {
                (Some(old), unit) if old == unit => Held::Stored,
                (Some(Unit::Record(old)), Unit::Record(new)) if old.version() >= new.version() => {
                    Held::Stale
                }
                _ => {
                    store.insert(unit.key(), unit);
                    Held::Stored
                }
            },
        }
    }

    fn maybe_close(&mut self, number: usize, link: LinkNo) {
        let Some((far, far_link)) = self.routers[number].links.get(&link).copied() else { return };
        if !self.routers[far].kept.contains(&far_link) {
            self.close(number, link, Duration::from_millis(100));
        }
    }

    /// The link of a router to another.
    pub(super) fn link(&self, from: usize, to: usize) -> Option<LinkNo> {
        let links = &self.routers[from].links;
        links.iter().find(|(_, (far, _))| *far == to).map(|(link, _)| *link)
    }

    fn close(&mut self, number: usize, link: LinkNo, after: Duration) {
        let Some((far, far_link)) = self.routers[number].links.get(&link).copied() else { return };
        let still = Self::delay(number, far) + after;
        self.later(Duration::ZERO, Event::Drop(number, link));
        self.later(still, Event::Drop(far, far_link));
    }

    /// The router stops at once; the others notice after `noticed`.
    fn kill(&mut self, number: usize, noticed: Duration) {
        self.routers[number].alive = false;
        let links: Vec<_> = self.routers[number].links.values().copied().collect();
        for (far, link) in links {
            self.later(noticed, Event::Drop(far, link));
        }
    }

    pub(super) fn kill_silently(&mut self, number: usize) {
        self.kill(number, DEATH_NOTICED);
    }

    pub(super) fn ask(&mut self, number: usize, request: Request) -> u32 {
        self.next_query += 1;
        let query = self.next_query;
        self.input(number, Input::Query { query, request, class: Class::Interactive });
        query
    }

    /// Asks, and runs until there is an answer.
    pub(super) fn answer(&mut self, number: usize, request: Request) -> Answer<Unit> {
        let query = self.ask(number, request);
        for _ in 0..6_000 {
            if let Some((_, answer)) = self.answers.remove(&query) {
                return answer;
            }
            self.run(Duration::from_millis(10));
        }
        panic!("no answer within a minute");
    }

    pub(super) fn alive(&self) -> Vec<usize> {
        (0..self.routers.len()).filter(|number| self.routers[*number].alive).collect()
    }

    /// Those that can be dialled.
    pub(super) fn members(&self) -> Vec<usize> {
        self.alive().into_iter().filter(|number| !self.routers[*number].guest).collect()
    }

    pub(super) fn location(&self, number: usize) -> Location {
        self.routers[number].descriptor.location()
    }

    /// The living routers closest to a point that have a place, closest first.
    pub(super) fn closest(&self, to: Location, count: usize) -> Vec<usize> {
        let mut all = self.members();
        all.sort_by_key(|number| self.location(*number).distance(to));
        all.truncate(count);
        all
    }

    pub(super) fn neighbours(&self, number: usize) -> Vec<usize> {
        self.routers[number].ring.neighbours().map(|it| self.by_id[&it.id()]).collect()
    }

    /// Whether everybody knows the two living routers next to it on either side.
    pub(super) fn unclosed(&self) -> usize {
        let mut ring = self.members();
        ring.sort_by_key(|number| self.location(*number));
        let len = ring.len();
        (0..len)
            .filter(|at| {
                let has = self.neighbours(ring[*at]);
                let near = [1, 2, len - 1, len - 2].map(|step| ring[(at + step) % len]);
                near.iter().any(|it| !has.contains(it))
            })
            .count()
    }
}
