//! A network of routers with people: who starts, restarts and stops, and what they want.
//!
//! Lives here: setting routers up and keeping for them what a disk would keep. Does not live here:
//! the clock and the wires (`net.rs`), streams and their bytes (`apps.rs`), when anything goes wrong
//! (`run.rs`).

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use warren_datastore::{
    MemoryRecords, RecordStore,
    blocks::{BlockStore, MemoryBlocks, Shelf},
    capability::ReadCap,
    transfer::{FetchProgress, StoreProgress},
};
use warren_overlay::{
    block::BlockAddress,
    crypto::{kem::DhSecret, puzzle::Difficulty, sign::IdentityKey, suite},
    garlic::Rate,
    id::{EndNo, RouterId},
    link::PadCount,
    ring::{
        VIEW_MAX,
        admission::{Mode, Network, NetworkName, ProofWork},
    },
    rng::Rng,
    service::Name,
    time::Time,
    unit::UnitKey,
    wire::RouterDescriptor,
};
use warren_router::{
    host::{Host, HostOutput},
    node::{Door, JobNo, Membership, NodeInput, NodeSettings, Saved},
};

use crate::{
    apps::{Apps, Fetch, FetchNo, Purpose},
    conn::Uplink,
    disk::{Blocks, Pace, Records},
    files::Files,
    graph::Graph,
    latency::Latency,
    net::{Happened, HostNo, Net, Seat, Wires},
    stock::{Errand, ItemNo, Stock},
    streams::Streams,
};

/// Routers that the others know from the start.
pub const SEEDS: HostNo = 3;

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Everything follows from it.
    pub seed: u64,
    /// How many routers.
    pub routers: HostNo,
    /// Neighbours each keeps.
    pub degree: u8,
    /// Hops per tunnel.
    pub hops: u8,
    /// The wires between them.
    pub wires: Wires,
    /// Longest delay between the parts of one router; zero for none.
    pub deferred: Duration,
    /// A new router starts this often.
    pub stagger: Duration,
    /// Bandwidth of each router, if limited.
    pub uplink: Option<Uplink>,
    /// Share of routers behind a NAT: nobody can dial them. The seeds never are.
    pub natted: f64,
    /// Wall clocks are off by up to so many minutes either way. The seeds' are true.
    pub skew_minutes: u32,
    /// Mean time that a router waits for its disk at each access, if any.
    pub disk: Option<Duration>,
    /// Padding is counted and not sent.
    pub padding_counted: bool,
    /// Other routers that each remembers.
    pub known_max: usize,
    /// Newcomers know three routers of chance instead of the first three.
    pub invited: bool,
    /// Each router's limit for all links together, each way, kbit/s.
    pub bandwidth_kbps: u32,
    /// Each router's limit for what waits, MiB.
    pub memory_mib: u32,
    /// Routers from this number on carry no tunnels of others.
    pub carriers: HostNo,
    /// Builds of others that each router opens a second.
    pub builds_per_second: u32,
    /// How many clients each gateway lets in.
    pub rate: Rate,
}

impl Default for Setup {
    fn default() -> Self {
        let least = Duration::from_millis(5);
        Self {
            seed: 1,
            routers: 12,
            degree: 20,
            hops: 3,
            wires: Wires::new(Latency::Uniform { least, most: Duration::from_millis(40) }),
            deferred: Duration::ZERO,
            stagger: Duration::from_millis(20),
            uplink: None,
            natted: 0.0,
            skew_minutes: 0,
            disk: None,
            padding_counted: false,
            known_max: VIEW_MAX,
            invited: false,
            bandwidth_kbps: 100_000,
            memory_mib: 64,
            carriers: HostNo::MAX,
            builds_per_second: 500,
            rate: Rate::default(),
        }
    }
}

/// What one router's disk holds.
#[derive(Debug, Default)]
struct Disk {
    records: Arc<Mutex<MemoryRecords>>,
    blocks: Arc<Mutex<MemoryBlocks>>,
    guards: Vec<u8>,
    peers: Vec<Arc<RouterDescriptor>>,
    /// How often it has started.
    starts: u32,
}

/// Alarms with this bit are a conversation's next request; others belong to whoever runs the world.
const EXCHANGE: u64 = 1 << 63;
/// Alarms with this bit are of somebody's file.
const FILE: u64 = 1 << 62;

/// Three of the members, or all if there are fewer.
fn sample(members: &[Arc<RouterDescriptor>], rng: &mut Rng) -> Vec<Arc<RouterDescriptor>> {
    let draw = |_| {
        let at = usize::try_from(rng.below(members.len() as u64)).unwrap_or(0);
        members.get(at).cloned()
    };
    (0..SEEDS).filter_map(draw).collect()
}

/// Where a world's run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A moment that was asked for.
    Moment(u64),
    /// Something happened at a router.
    Event(HostNo),
}

/// A network with applications.
#[derive(Debug)]
pub struct World {
    /// The network.
    pub net: Net,
    setup: Setup,
    network: Network,
    /// Whom newcomers may know: the first three routers, or all.
    seeds: Vec<Arc<RouterDescriptor>>,
    identities: BTreeMap<RouterId, HostNo>,
    disks: Vec<Disk>,
    apps: Apps,
    files: Files,
    stock: Stock,
}

/// Router `k`'s address: each in another /24.
pub(crate) fn address(k: HostNo) -> SocketAddr {
    let [_, a, b, c] = k.to_be_bytes();
    ([127u8.saturating_add(a), b, c, 1], 9_000).into()
}

/// Where router `k` is after it moved: where no router of a world of up to a million is.
fn elsewhere(k: HostNo) -> SocketAddr {
    address(k | 1 << 20)
}

/// How often a block lies owned on the disks of routers that run and are awake.
fn owned(disks: &[Disk], net: &Net) -> impl Fn(&BlockAddress) -> u32 {
    let runs = |no: HostNo| net.host(no).is_some() && !net.is_asleep(no);
    let disks = (0..).zip(disks).filter(|(no, _)| runs(*no)).map(|(_, disk)| &disk.blocks);
    let disks: Vec<_> = disks.collect();
    move |address| {
        let holds = |disk: &&Arc<Mutex<MemoryBlocks>>| {
            let disk = disk.lock().unwrap_or_else(PoisonError::into_inner);
            disk.holds(Shelf::Owned, address)
        };
        u32::try_from(disks.iter().copied().filter(holds).count()).unwrap_or(u32::MAX)
    }
}

impl World {
    /// A world whose routers have not started yet.
    pub fn new(setup: Setup) -> Self {
        let network = Network {
            name: NetworkName::Named("simulated".into()),
            mode: Mode::Proof,
            difficulty: Difficulty::NONE,
            suite: suite::number(),
            local: true,
        };
        let streams = Streams::new(setup.seed);
        let mut this = Self {
            net: Net::new(streams, setup.wires.clone(), setup.padding_counted),
            network,
            seeds: Vec::new(),
            identities: BTreeMap::new(),
            disks: Vec::new(),
            apps: Apps::new(streams, setup.rate),
            files: Files::default(),
            stock: Stock::default(),
            setup,
        };
        for no in 0..this.setup.routers {
            let seat = this.seat(no);
            this.net.add(seat);
            this.disks.push(Disk::default());
        }
        this
    }

    fn seat(&self, no: HostNo) -> Seat {
        let Setup { uplink, natted, skew_minutes, .. } = self.setup;
        let mut seat = Seat { uplink, ..Seat::new(address(no)) };
        if no >= SEEDS {
            let mut rng = self.net.streams().of("seat", no.into());
            seat.reachable = rng.unit() >= natted;
            let skew = rng.below(2 * u64::from(skew_minutes) + 1);
            let skew = i64::try_from(skew).unwrap_or(0) - i64::from(skew_minutes);
            seat.ahead_minutes = i32::try_from(skew).unwrap_or(0);
        }
        seat
    }

    /// What the world is made of.
    pub const fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Starts all routers, one after the other; the first three are the seeds of the rest.
    pub fn start(&mut self) {
        for no in 0..self.setup.routers {
            self.start_router(no);
            self.run(self.net.time() + self.setup.stagger);
        }
    }

    /// Starts a router that does not run: for the first time, or with what its disk kept.
    pub fn start_router(&mut self, no: HostNo) {
        let streams = self.net.streams();
        let now = self.net.now(no);
        let door = match self.seat(no) {
            Seat { reachable: true, address, .. } => {
                Door::At(self.net.address(no).unwrap_or(address).into())
            }
            Seat { address, .. } => Door::Behind(address.port()),
        };
        let Some(disk) = self.disks.get_mut(no as usize) else { return };
        if self.net.host(no).is_some() {
            return;
        }
        disk.starts += 1;
        let mut keys = streams.of("keys", no.into());
        let identity = IdentityKey::generate(&mut keys);
        self.identities.insert(identity.id(), no);
        let link_secret = Arc::new(DhSecret::generate(&mut keys));
        let admission = ProofWork::new(&self.network, identity.id(), 0)
            .and_then(|mut work| work.step())
            .expect("difficulty 0 takes the first nonce");
        let pace = self.setup.disk.map(|mean| {
            let place = u64::from(disk.starts) << 32 | u64::from(no);
            Arc::new(Pace::new(mean, streams.of("disk", place)))
        });
        let mut peers = disk.peers.clone();
        let members = if self.setup.invited {
            sample(&self.seeds, &mut streams.of("invite", no.into()))
        } else {
            self.seeds.iter().take(SEEDS as usize).cloned().collect()
        };
        peers.extend(members.into_iter().filter(|it| it.id() != identity.id()));
        let settings = NodeSettings {
            network: self.network.clone(),
            identity,
            link_key: link_secret.public(),
            door,
            admission,
            also: None,
            membership: Membership::default(),
            friends: Vec::new(),
            hops: self.setup.hops,
            degree: self.setup.degree,
            known_max: self.setup.known_max,
            bandwidth_kbps: self.setup.bandwidth_kbps,
            transit: no < self.setup.carriers,
            links_max: 1_024,
            bans: Vec::new(),
            memory_bytes: u64::from(self.setup.memory_mib) << 20,
            builds_per_second: self.setup.builds_per_second,
            peers,
            guards: disk.guards.clone(),
            store: Box::new(Records { kept: Arc::clone(&disk.records), pace: pace.clone() }),
            blocks: Box::new(Blocks::open(&disk.blocks, pace.clone())),
        };
        let rng = streams.of("router", u64::from(disk.starts) << 32 | u64::from(no));
        let mut host = Host::new(now, settings, link_secret, rng);
        if !self.setup.deferred.is_zero() {
            host.defer(self.setup.deferred);
        }
        if self.setup.padding_counted {
            host.count_padding();
        }
        if (no < SEEDS || self.setup.invited) && disk.starts == 1 {
            self.seeds.push(Arc::clone(host.descriptor()));
        }
        self.net.start(no, host, pace);
        self.apps.restarted(&mut self.net, no);
    }

    /// Ends a router as `kill -9` does; its disk keeps what it was given.
    pub fn kill(&mut self, no: HostNo) {
        self.net.kill(no);
        self.apps.killed(self.net.time(), no);
        self.files.killed(no);
    }

    /// A router leaves in order: it says goodbye to its peers and ends a few seconds later.
    pub fn leave(&mut self, no: HostNo) {
        self.net.with(no, |host, now| host.node(now, NodeInput::Leave));
    }

    /// A router's machine has another address from one moment to the next, and notices.
    pub fn move_router(&mut self, no: HostNo) {
        let address = elsewhere(no);
        self.net.move_to(no, address);
        let moved = NodeInput::Moved { door: Some((Door::At(address.into()), None)) };
        self.net.with(no, |host, now| host.node(now, moved));
    }

    /// Whose descriptor it is, if a router of this world signed it and it names that router's address.
    pub fn author(&self, descriptor: &RouterDescriptor) -> Option<HostNo> {
        let no = *self.identities.get(&descriptor.id())?;
        let own = [Some(address(no)), self.net.address(no)];
        let named = descriptor.address().map(|named| named.socket());
        (named.is_none() || own.contains(&named)).then_some(no)
    }

    /// Runs to `until`, applications included; moments that others asked for pass unheard.
    pub fn run(&mut self, until: Time) {
        while self.step(until).is_some() {}
    }

    /// Runs to `until`, or to the next moment that was asked for with `at`, or past the next event at
    /// a router if each is looked at.
    pub fn step(&mut self, until: Time) -> Option<Step> {
        loop {
            while let Some((at, job)) = self.files.poll_alarm() {
                self.net.alarm(at, FILE | job.0);
            }
            while let Some(job) = self.files.poll_over() {
                let owned = owned(&self.disks, &self.net);
                self.stock.over(self.net.time(), &mut self.files, job, &owned);
            }
            let happened = self.net.run(until)?;
            match happened {
                Happened::App { host, output: HostOutput::Save(saved), .. } => {
                    self.save(host, saved);
                }
                Happened::App { output: HostOutput::Job { job, event }, .. } => {
                    self.files.handle(&mut self.net, job, event);
                }
                Happened::App { host, at, output } => {
                    if let Some((at, fetch)) = self.apps.handle(&mut self.net, host, at, output) {
                        self.net.alarm(at, EXCHANGE | fetch as u64);
                    }
                }
                Happened::Event(no) => return Some(Step::Event(no)),
                Happened::Alarm(token) if token & (EXCHANGE | FILE) == 0 => {
                    return Some(Step::Moment(token));
                }
                Happened::Alarm(token) if token & FILE != 0 => {
                    self.files.woken(&mut self.net, JobNo(token ^ FILE));
                }
                Happened::Alarm(token) => {
                    let fetch = usize::try_from(token ^ EXCHANGE).unwrap_or(usize::MAX);
                    self.apps.exchange(&mut self.net, fetch);
                }
            }
        }
    }

    /// At `at`, `step` gives `token`, whose two top bits are clear.
    pub fn at(&mut self, at: Time, token: u64) {
        self.net.alarm(at, token & !(EXCHANGE | FILE));
    }

    fn save(&mut self, no: HostNo, saved: Saved) {
        let Some(disk) = self.disks.get_mut(no as usize) else { return };
        match saved {
            Saved::Guards(guards) => disk.guards = guards,
            Saved::Peers(peers) => disk.peers = peers,
            // No simulated network is one of friends.
            Saved::Friend(_) => {}
            Saved::Service { end, state } => self.apps.save(no, end, &state),
        }
    }

    /// Runs in steps of 50 ms until `done` says so; false after `limit`.
    pub fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let until = self.net.time() + limit;
        while !done(self) {
            if self.net.time() >= until {
                return false;
            }
            self.run(self.net.time() + Duration::from_millis(50));
        }
        true
    }

    /// How much padding the routers that live have sent, or counted.
    pub fn padding(&mut self) -> PadCount {
        let mut sum = PadCount::default();
        for no in 0..self.net.len() {
            let more = self.net.with(no, Host::padding).unwrap_or_default();
            sum.frames += more.frames;
            sum.bytes += more.bytes;
        }
        sum
    }

    /// The ring as it is: routers that live, and whom each has for a neighbour.
    pub fn ring(&self) -> Graph {
        let mut hosts: Vec<_> = self.net.hosts().map(|(_, host)| host).collect();
        hosts.sort_by_cached_key(|host| host.descriptor().location());
        let numbers: BTreeMap<RouterId, u32> =
            (0..).zip(&hosts).map(|(no, host)| (host.descriptor().id(), no)).collect();
        let links = hosts.iter().map(|host| {
            let neighbours = host.node_ref().ring().neighbours();
            neighbours.filter_map(|it| numbers.get(&it.id()).copied()).collect()
        });
        let places = hosts.iter().map(|host| host.descriptor().location().0);
        Graph::of(places.collect(), links)
    }

    /// How many routers that live are ready.
    pub fn ready(&self) -> HostNo {
        let ready = |(no, host): &(HostNo, &Host)| host.status(self.net.now(*no)).ready;
        u32::try_from(self.net.hosts().filter(ready).count()).unwrap_or(u32::MAX)
    }

    /// Publishes a service on a router.
    pub fn expose(&mut self, no: HostNo) -> (EndNo, Name) {
        self.apps.expose(&mut self.net, no)
    }

    /// Publishes a service on one more router; none if nobody has published one of this name.
    pub fn expose_beside(&mut self, no: HostNo, name: Name) -> Option<EndNo> {
        self.apps.expose_beside(&mut self.net, no, name)
    }

    /// A router withdraws a service.
    pub fn withdraw(&mut self, no: HostNo, end: EndNo) {
        self.net.with(no, |host, now| host.node(now, NodeInput::Unexpose { end }));
    }

    /// Whether a service is published.
    pub fn published(&self, no: HostNo, end: EndNo) -> bool {
        self.net
            .host(no)
            .and_then(|host| host.node_ref().service(end))
            .is_some_and(|it| it.published)
    }

    /// Fetches `bytes` bytes from a service; `context` tells isolation contexts apart.
    pub fn fetch(&mut self, no: HostNo, name: Name, bytes: u64, context: u16) -> FetchNo {
        self.ask(no, name, Purpose::fetch(bytes), context)
    }

    /// Opens a stream to a service for what `purpose` says.
    pub fn ask(&mut self, no: HostNo, name: Name, purpose: Purpose, context: u16) -> FetchNo {
        self.apps.ask(&mut self.net, no, name, purpose, context)
    }

    /// How a fetch goes.
    pub fn fetched(&self, fetch: FetchNo) -> Option<&Fetch> {
        self.apps.fetched(fetch)
    }

    /// Somebody at a router stores a file.
    pub fn put(&mut self, no: HostNo, bytes: Vec<u8>) -> JobNo {
        self.files.put(&mut self.net, no, bytes)
    }

    /// Somebody at a router fetches a file.
    pub fn get(&mut self, no: HostNo, cap: ReadCap) -> JobNo {
        self.files.get(&mut self.net, no, cap)
    }

    /// Somebody at a router stores a block that begins with `bytes`, and is asked for it later on.
    pub fn put_block(&mut self, no: HostNo, bytes: Vec<u8>) {
        self.stock.put_block(&mut self.net, &mut self.files, no, bytes);
    }

    /// The same with a file.
    pub fn put_file_item(&mut self, no: HostNo, bytes: Vec<u8>) {
        self.stock.put_file(&mut self.net, &mut self.files, no, bytes);
    }

    /// Somebody at a router asks for an item that was stored.
    pub fn get_item(&mut self, no: HostNo, errand: Errand, item: ItemNo) {
        // Looked at first: what is asked for may change nothing about who has it.
        let there = self.stock.is_there(item, &owned(&self.disks, &self.net));
        self.stock.get(&mut self.net, &mut self.files, (no, errand, item), there);
    }

    /// What a router holds for others: records that have not expired, and blocks, unless its line is too
    /// thin to hand blocks over in seconds.
    pub(crate) fn held(&self, no: HostNo) -> Vec<UnitKey> {
        let Some(disk) = self.disks.get(no as usize) else { return Vec::new() };
        let wall = self.net.now(no).wall;
        let mut records = disk.records.lock().unwrap_or_else(PoisonError::into_inner);
        let records = records.range(None, usize::MAX).unwrap_or_default();
        let records = records.iter().filter(|it| it.is_current(wall));
        let mut held: Vec<_> = records.map(|it| UnitKey::Record(it.key())).collect();
        if self.setup.uplink.is_none() {
            let blocks = disk.blocks.lock().unwrap_or_else(PoisonError::into_inner);
            let blocks = blocks.addresses(Shelf::Owned, None, usize::MAX);
            held.extend(blocks.into_iter().map(UnitKey::Block));
        }
        held
    }

    /// Whether a router holds a unit for others.
    pub(crate) fn holds(&self, no: HostNo, unit: &UnitKey) -> bool {
        let Some(disk) = self.disks.get(no as usize) else { return false };
        match unit {
            UnitKey::Record(key) => {
                let mut records = disk.records.lock().unwrap_or_else(PoisonError::into_inner);
                records.get(key).is_ok_and(|it| it.is_some())
            }
            UnitKey::Block(address) => {
                let blocks = disk.blocks.lock().unwrap_or_else(PoisonError::into_inner);
                blocks.holds(Shelf::Owned, address)
            }
        }
    }

    /// What is stored and who asked for it.
    pub(crate) const fn stock(&self) -> &Stock {
        &self.stock
    }

    /// Of each item that was stored: whether it is there, and in how many copies.
    pub(crate) fn stocked(&self) -> Vec<(bool, u32)> {
        let owned = owned(&self.disks, &self.net);
        self.stock.there(&owned)
    }

    /// Whether a file is stored, or fetched, or cannot be.
    pub fn file_over(&self, job: JobNo) -> bool {
        self.files.over(job)
    }

    /// How far a file is stored, and what reads it.
    pub fn stored(&self, job: JobNo) -> Option<(StoreProgress, ReadCap)> {
        self.files.stored(job)
    }

    /// How far a file is fetched, and what came of it.
    pub fn file(&self, job: JobNo) -> Option<(FetchProgress, &[u8])> {
        self.files.fetched(job)
    }

    /// All fetches, in the order they were asked for.
    pub fn fetches(&self) -> &[Fetch] {
        self.apps.fetches()
    }

    /// The services: router, end and name.
    pub fn services(&self) -> impl Iterator<Item = (HostNo, EndNo, Name)> {
        self.apps.services()
    }
}
