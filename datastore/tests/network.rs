//! Rings with real holders on a virtual clock: records and blocks outlive the routers that held them.
#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test, helpers included")]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use warren_datastore::{
    Holder, HolderInput, HolderOutput, MemoryRecords, REPAIR_RATE, StoreError,
    blocks::{BlockStore, Kept, MemoryBlocks, Shelf, Usage},
};
use warren_overlay::{
    answer::Answer,
    block::{BLOCK_LEN, Block, BlockAddress},
    crypto::{blind::ServiceKey, puzzle::Difficulty, secret::Secret, sign::IdentityKey},
    id::{LinkNo, Location, RouterId},
    record::{Record, RecordSize},
    ring::{
        Class, Input, Output, Request, Ring, RingConfig, VIEW_MAX,
        admission::{Mode, Network, NetworkName, ProofWork, SUITE_HYBRID},
    },
    rng::Rng,
    time::{Now, Time, Wall},
    unit::{Unit, UnitKey},
    wire::{DESCRIPTOR_MINUTES_MAX, DescriptorFields, LinkMessage, RouterDescriptor},
};

const WALL: Wall = Wall::from_minutes(1_000);
const DELAY: Duration = Duration::from_millis(30);

fn network() -> Network {
    let name = NetworkName::Named("holders".into());
    let (mode, difficulty) = (Mode::Proof, Difficulty::NONE);
    Network { name, mode, difficulty, suite: SUITE_HYBRID, local: true }
}

fn descriptor(n: u8) -> Arc<RouterDescriptor> {
    let key = IdentityKey::from_seed(Secret::take(&mut [n; 32]));
    let fields = DescriptorFields {
        network: network().id(),
        link_key: [1; 32],
        tunnel_dh: [2; 32],
        tunnel_kem: Arc::new([3; 1184]),
        addresses: vec![SocketAddr::from(([127, n, 0, 1], 9_000)).into()],
        capabilities: 0,
        bandwidth_kbps: 1_000,
        family: None,
        admission: ProofWork::new(&network(), key.id(), 0).unwrap().step().unwrap(),
        vouches: Vec::new(),
        published: WALL,
        expiry: WALL.plus(DESCRIPTOR_MINUTES_MAX),
    };
    Arc::new(RouterDescriptor::sign(fields, &key).unwrap())
}

fn record(n: u8) -> Record {
    let key = ServiceKey::from_seed(Secret::take(&mut [n; 32])).blind(&[b"holders"]);
    Record::sign(&key, network().id(), 1, WALL.plus(180), &[n], RecordSize::Large).unwrap()
}

enum Event {
    Wake(usize),
    Input(usize, Input),
    Message(usize, LinkNo, LinkMessage),
    Dial(usize, RouterId),
}

struct Router {
    ring: Ring,
    holder: Holder,
    around: Vec<(LinkNo, Location)>,
    blocks: Arc<Mutex<MemoryBlocks>>,
    descriptor: Arc<RouterDescriptor>,
    alive: bool,
    links: BTreeMap<LinkNo, (usize, LinkNo)>,
    next_link: u32,
}

impl Router {
    fn owned(&self) -> Vec<BlockAddress> {
        self.blocks.lock().unwrap().addresses(Shelf::Owned, None, usize::MAX)
    }
}

/// A store that the test can look into.
#[derive(Debug)]
struct Shared(Arc<Mutex<MemoryBlocks>>);

impl BlockStore for Shared {
    fn get(&mut self, on: Shelf, address: &BlockAddress) -> Result<Option<Block>, StoreError> {
        self.0.lock().unwrap().get(on, address)
    }
    fn put(&mut self, on: Shelf, block: &Block) -> Result<Kept, StoreError> {
        self.0.lock().unwrap().put(on, block)
    }
    fn commit(&mut self) -> Result<(), StoreError> {
        self.0.lock().unwrap().commit()
    }
    fn remove(&mut self, on: Shelf, address: &BlockAddress) -> Result<bool, StoreError> {
        self.0.lock().unwrap().remove(on, address)
    }
    fn holds(&self, on: Shelf, address: &BlockAddress) -> bool {
        self.0.lock().unwrap().holds(on, address)
    }
    fn addresses(
        &self,
        on: Shelf,
        after: Option<&BlockAddress>,
        limit: usize,
    ) -> Vec<BlockAddress> {
        self.0.lock().unwrap().addresses(on, after, limit)
    }
    fn usage(&self, on: Shelf) -> Usage {
        self.0.lock().unwrap().usage(on)
    }
    fn damaged(&self) -> u64 {
        0
    }
    fn note(&mut self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.lock().unwrap().note(name)
    }
    fn set_note(&mut self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.0.lock().unwrap().set_note(name, bytes)
    }
    fn mend(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

fn block(n: u32) -> Block {
    let mut bytes = vec![0x5a; BLOCK_LEN];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    Block::copy_from(&bytes).unwrap()
}

struct Net {
    routers: Vec<Router>,
    by_id: BTreeMap<RouterId, usize>,
    now: Time,
    events: BTreeMap<(Time, u64), Event>,
    sequence: u64,
    answers: BTreeMap<u32, Answer<Unit>>,
}

impl Net {
    fn grown(count: u8) -> Self {
        Self::of_degree(count, 8)
    }

    fn of_degree(count: u8, degree: usize) -> Self {
        let (events, answers, by_id) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut net =
            Self { routers: vec![], by_id, now: Time::ZERO, events, sequence: 0, answers };
        for n in 0..count {
            let descriptor = descriptor(n);
            let own = Arc::clone(&descriptor);
            let seeds: Vec<_> =
                net.routers.iter().take(3).map(|it| it.descriptor.clone()).collect();
            net.by_id.insert(own.id(), net.routers.len());
            let config = RingConfig { network: network(), own, degree, known_max: VIEW_MAX };
            let blocks = Arc::new(Mutex::new(MemoryBlocks::default()));
            net.routers.push(Router {
                ring: Ring::new(config, Rng::from_seed([n; 32])),
                holder: Self::holder(&descriptor, &blocks),
                around: Vec::new(),
                blocks,
                descriptor,
                alive: true,
                links: BTreeMap::new(),
                next_link: 0,
            });
            net.later(
                DELAY * n.into(),
                Event::Input(n.into(), Input::Start { seeds, cached: vec![] }),
            );
        }
        net
    }

    fn holder(descriptor: &RouterDescriptor, blocks: &Arc<Mutex<MemoryBlocks>>) -> Holder {
        let rng = Rng::from_seed([9; 32]);
        Holder::new(Box::new(MemoryRecords::default()), descriptor.location(), rng)
            .with_blocks(Box::new(Shared(Arc::clone(blocks))), REPAIR_RATE)
    }

    fn later(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + after, self.sequence), event);
    }

    fn clock(&self) -> Now {
        Now { time: self.now, wall: WALL }
    }

    fn run(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            match event {
                Event::Wake(number) => {
                    let now = self.clock();
                    let router = &mut self.routers[number];
                    if router.alive {
                        router.ring.handle_timeout(now);
                        router.holder.handle_timeout(now);
                        self.drain(number);
                    }
                }
                Event::Input(number, input) => self.input(number, input),
                Event::Message(number, link, LinkMessage::Ring(message)) => {
                    if self.routers[number].links.contains_key(&link) {
                        self.input(number, Input::Message { link, message });
                    }
                }
                Event::Message(..) => {}
                Event::Dial(from, id) => self.connect(from, id),
            }
        }
        self.now = end;
    }

    fn input(&mut self, number: usize, input: Input) {
        let now = self.clock();
        let router = &mut self.routers[number];
        if let Input::LinkDown { link } = &input {
            router.links.remove(link);
        }
        if router.alive {
            router.ring.handle_input(now, input);
            self.drain(number);
        }
    }

    fn connect(&mut self, from: usize, id: RouterId) {
        let to = self.by_id[&id];
        if !self.routers[to].alive {
            self.input(from, Input::Unreachable { id });
        } else if !self.routers[from].links.values().any(|(far, _)| *far == to) {
            let mut fresh = |number: usize| {
                self.routers[number].next_link += 1;
                LinkNo(self.routers[number].next_link)
            };
            let (near, far) = (fresh(from), fresh(to));
            self.routers[from].links.insert(near, (to, far));
            self.routers[to].links.insert(far, (from, near));
            for (number, link, other) in [(from, near, to), (to, far, from)] {
                let peer = Arc::clone(&self.routers[other].descriptor);
                let remote = peer.address().unwrap();
                self.input(number, Input::LinkUp { link, peer, remote });
            }
        }
    }

    fn drain(&mut self, number: usize) {
        let now = self.clock();
        loop {
            let router = &mut self.routers[number];
            if let Some(output) = router.holder.poll_output() {
                match output {
                    HolderOutput::Held { ticket, held } => {
                        router.ring.handle_input(now, Input::Held { ticket, held });
                    }
                    HolderOutput::Send { link, message } => {
                        self.send(number, link, LinkMessage::Ring(message));
                    }
                    HolderOutput::Push { push, link, block } => {
                        router.ring.handle_input(now, Input::Push { push, link, block });
                    }
                    HolderOutput::Repair { link, repair } => {
                        router.ring.handle_input(now, Input::Repair { link, repair });
                    }
                    HolderOutput::HandedOver => router.ring.handle_input(now, Input::HandedOver),
                }
                continue;
            }
            let Some(output) = router.ring.poll_output() else { break };
            match output {
                Output::Connect(peer) => self.later(DELAY * 3, Event::Dial(number, peer.id())),
                Output::Send { link, message } => self.send(number, link, message),
                Output::Store { ticket, op } => {
                    router.holder.handle_input(now, HolderInput::Store { ticket, op });
                }
                Output::Neighbourhood(around) => {
                    router.around.clone_from(&around);
                    router.holder.handle_input(now, HolderInput::Neighbourhood(around));
                }
                Output::Pushed { push, stored } => {
                    router.holder.handle_input(now, HolderInput::Pushed { push, stored });
                }
                Output::Repair { link, repair } => {
                    router.holder.handle_input(now, HolderInput::Repair { link, repair });
                }
                Output::HandOver => router.holder.handle_input(now, HolderInput::HandOver),
                Output::Left => self.kill(number, Duration::from_millis(200)),
                Output::Answer { query, asked: _, answer } => {
                    self.answers.insert(query, answer);
                }
                Output::Keep { .. }
                | Output::Release { .. }
                | Output::CloseLink { .. }
                | Output::Router { .. }
                | Output::View(_) => {}
            }
        }
        let router = &self.routers[number];
        let timers = [router.ring.poll_timeout(), router.holder.poll_timeout()];
        if let Some(due) = timers.into_iter().flatten().min() {
            self.later(due.since(self.now), Event::Wake(number));
        }
    }

    fn send(&mut self, number: usize, link: LinkNo, message: LinkMessage) {
        if let Some((to, far)) = self.routers[number].links.get(&link).copied() {
            self.later(DELAY, Event::Message(to, far, message));
        }
    }

    fn kill(&mut self, number: usize, noticed: Duration) {
        self.routers[number].alive = false;
        let links: Vec<_> = self.routers[number].links.values().copied().collect();
        for (far, link) in links {
            self.later(noticed, Event::Input(far, Input::LinkDown { link }));
        }
    }

    fn ask(&mut self, number: usize, request: Request) -> Answer<Unit> {
        self.input(number, Input::Query { query: 1, request, class: Class::Interactive });
        for _ in 0..60 {
            self.run(1);
            if let Some(answer) = self.answers.remove(&1) {
                return answer;
            }
        }
        panic!("no answer within a minute");
    }

    /// How many of `asked` blocks are found, each asked for by another router, all at once.
    fn found(&mut self, blocks: &[u32]) -> usize {
        let alive = self.alive();
        for n in blocks {
            let asker = alive[(*n as usize * 7 + 3) % alive.len()];
            let request = Request::Get(UnitKey::Block(block(*n).address()));
            let input = Input::Query { query: *n, request, class: Class::Interactive };
            self.input(asker, input);
        }
        self.run(60);
        let good = |n: &&u32| self.answers.remove(n) == Some(Answer::Found(block(**n).into()));
        blocks.iter().filter(good).count()
    }

    /// How many living routers own a block.
    fn owners(&mut self, n: u32) -> usize {
        let address = block(n).address();
        let alive = self.alive();
        alive.into_iter().filter(|it| self.routers[*it].owned().contains(&address)).count()
    }

    fn alive(&self) -> Vec<usize> {
        (0..self.routers.len()).filter(|number| self.routers[*number].alive).collect()
    }

    /// How many of the three living routers closest to a record hold it.
    fn copies(&mut self, record: &Record) -> usize {
        let mut all = self.alive();
        let place = record.key().location();
        all.sort_by_key(|it| self.routers[*it].descriptor.location().distance(place));
        let now = self.clock();
        let holds = |number: &usize| {
            let holder = &mut self.routers[*number].holder;
            let op = warren_overlay::ring::StoreOp::Get(UnitKey::Record(record.key()));
            holder.handle_input(now, HolderInput::Store { ticket: Some(u32::MAX), op });
            let output = holder.poll_output();
            matches!(
                output,
                Some(HolderOutput::Held { held: warren_overlay::ring::Held::Found(_), .. })
            )
        };
        all.into_iter().take(3).filter(holds).count()
    }
}

#[test]
fn records_outlive_their_holders_one_after_the_other() {
    let mut net = Net::grown(40);
    net.run(30);
    for n in 0..40 {
        let answer = net.ask(usize::from(n), Request::Put(record(n).into()));
        assert_eq!(answer, Answer::Stored { copies: 3 });
    }
    // Half of the network goes, each in turn: by turns in silence and in good order.
    for (turn, number) in (1..40).step_by(2).enumerate() {
        if turn % 2 == 0 {
            net.kill(number, Duration::from_secs(10));
        } else {
            net.input(number, Input::Leave);
        }
        net.run(25);
        assert!(!net.routers[number].alive);
    }
    assert_eq!(net.alive().len(), 20);
    for n in 0..40 {
        assert_eq!(net.copies(&record(n)), 3, "record {n}");
        let asker = net.alive()[usize::from(n) % 20];
        let answer = net.ask(asker, Request::Get(UnitKey::Record(record(n).key())));
        assert_eq!(answer, Answer::Found(record(n).into()));
    }
}

#[test]
fn a_router_that_leaves_in_good_order_takes_no_record_with_it() {
    let mut net = Net::grown(5);
    net.run(10);
    for n in 0..40 {
        net.ask(0, Request::Put(record(n).into()));
    }
    // Three of five hold each record; without handover two departures at once could lose one.
    for number in [1, 2] {
        net.input(number, Input::Leave);
    }
    net.run(5);
    assert_eq!(net.alive(), [0, 3, 4]);
    for n in 0..40 {
        assert_eq!(net.copies(&record(n)), 3, "record {n}");
    }
}

/// With three copies and 30 % dead at once, 2.7 % of the blocks lose all of them (here 15 of 400, as
/// the draw fell), which nobody can repair: the erasure code is for these. Of the others nearly all are
/// found at once, and all after five minutes of repair.
#[test]
fn when_a_third_dies_at_once_blocks_are_found_and_three_copies_come_back() {
    const BLOCKS: u32 = 400;
    let mut net = Net::of_degree(120, 20);
    net.run(60);
    let all: Vec<u32> = (0..BLOCKS).collect();
    for some in all.chunks(40) {
        for n in some {
            let request = Request::Put(block(*n).into());
            let input = Input::Query { query: *n, request, class: Class::Bulk };
            net.input(*n as usize % 120, input);
        }
        net.run(3);
        for n in some {
            assert_eq!(net.answers.remove(n), Some(Answer::Stored { copies: 3 }), "block {n}");
        }
    }
    for number in (0..120).filter(|number| number % 10 < 3) {
        net.kill(number, Duration::from_secs(10));
    }
    let left: Vec<u32> = all.iter().filter(|n| net.owners(**n) > 0).copied().collect();
    let found = net.found(&all);
    net.run(240);
    let again = net.found(&left);
    let three = left.iter().filter(|n| net.owners(**n) >= 3).count();
    println!(
        "{BLOCKS} blocks, 36 of 120 routers dead: {} still held; {found} found at once, {again} after \
         repair, {three} with three copies again",
        left.len()
    );
    assert!(found * 100 >= left.len() * 98, "{found} of {} found at once", left.len());
    assert!(again * 1_000 >= left.len() * 995, "{again} of {} after repair", left.len());
    assert!(three * 100 >= left.len() * 98, "{three} of {} have three copies", left.len());
}

#[test]
fn a_router_that_leaves_in_good_order_hands_its_blocks_over() {
    let mut net = Net::grown(5);
    net.run(10);
    for n in 0..30 {
        net.ask(0, Request::Put(block(n).into()));
    }
    for number in [1, 2] {
        net.input(number, Input::Leave);
    }
    net.run(6);
    assert_eq!(net.alive(), [0, 3, 4]);
    for n in 0..30 {
        assert_eq!(net.owners(n), 3, "block {n}");
    }
}

#[test]
fn who_joins_is_given_the_blocks_that_belong_to_it_and_what_was_lost_unseen_comes_back() {
    let mut net = Net::grown(12);
    net.run(20);
    for n in 0..40 {
        net.ask(0, Request::Put(block(n).into()));
    }
    // A holder loses its disk: nobody sees it.
    let addresses = net.routers[5].owned();
    assert!(!addresses.is_empty());
    for address in &addresses {
        net.routers[5].blocks.lock().unwrap().remove(Shelf::Owned, address).unwrap();
    }
    let router = &mut net.routers[5];
    router.holder = Net::holder(&router.descriptor, &router.blocks);
    let around = HolderInput::Neighbourhood(router.around.clone());
    let now = Now { time: net.now, wall: WALL };
    router.holder.handle_input(now, around);
    net.run(15 * 60);
    let back = addresses.iter().filter(|it| net.routers[5].owned().contains(it)).count();
    assert_eq!(back, addresses.len());
}
