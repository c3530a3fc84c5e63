//! A network of routers on one virtual clock: the seed of the simulator's engine.
//!
//! Lives here: the event queue, connections with latency, and the hash of all that happened. Does
//! not live here: any protocol; the routers are `warren_router::host::Host`, as the driver runs them.
//!
//! One thread, a total order by (time, sequence), one seed: the same run gives the same hash.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use warren_overlay::{
    id::LinkNo,
    rng::Rng,
    time::{Now, Time, Wall},
};
use warren_router::host::{Host, HostOutput};

/// A router's number in the network.
pub type HostNo = usize;

/// Minute of the wall clock at which every run starts: 22 November 2026.
const START_MINUTE: u32 = 29_926_080;

/// What the network asks of whoever drives it.
#[derive(Debug)]
pub struct AppEvent {
    /// The router.
    pub host: HostNo,
    /// When.
    pub at: Time,
    /// What it wants of its applications or its folder.
    pub output: HostOutput,
}

/// How long bytes take, one way.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    /// The shortest.
    pub least: Duration,
    /// The longest; each pair of routers has its own in between, always the same.
    pub most: Duration,
}

#[derive(Debug)]
enum Event {
    /// A dial arrives: at whom, from where.
    Dial { to: SocketAddr, from: HostNo, link: LinkNo },
    /// The dialler learns how it went.
    Dialled { host: HostNo, link: LinkNo, ok: bool },
    /// Bytes arrive.
    Bytes { host: HostNo, link: LinkNo, bytes: Vec<u8> },
    /// The other side closed.
    Closed { host: HostNo, link: LinkNo },
    /// A router's timer.
    Timer { host: HostNo },
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Time,
    sequence: u64,
}

#[derive(Debug)]
struct Place {
    host: Option<Host>,
    address: SocketAddr,
    /// Frozen: bytes wait, timers too.
    stopped: bool,
    held: Vec<Event>,
    timer: Option<Time>,
}

/// The network.
#[derive(Debug)]
pub struct Net {
    now: Time,
    places: Vec<Place>,
    by_address: BTreeMap<SocketAddr, HostNo>,
    /// The other end of each connection.
    peers: BTreeMap<(HostNo, LinkNo), (HostNo, LinkNo)>,
    queue: BinaryHeap<Reverse<Due>>,
    events: BTreeMap<u64, Event>,
    sequence: u64,
    latency: Latency,
    seed: u64,
    hash: blake3::Hasher,
    app: VecDeque<AppEvent>,
}

impl Net {
    /// An empty network.
    pub fn new(seed: u64, latency: Latency) -> Self {
        Self {
            now: Time::ZERO,
            places: Vec::new(),
            by_address: BTreeMap::new(),
            peers: BTreeMap::new(),
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            sequence: 0,
            latency,
            seed,
            hash: blake3::Hasher::new(),
            app: VecDeque::new(),
        }
    }

    /// Both clocks of every router now.
    pub fn now(&self) -> Now {
        let minutes = u32::try_from(self.now.as_micros() / 60_000_000).unwrap_or(u32::MAX);
        Now { time: self.now, wall: Wall::from_minutes(START_MINUTE).plus(minutes) }
    }

    /// A generator of its own for purpose `n`: the same in every run of this seed.
    pub fn rng(&self, n: u64) -> Rng {
        let mut input = self.seed.to_le_bytes().to_vec();
        input.extend_from_slice(&n.to_le_bytes());
        Rng::from_seed(*blake3::hash(&input).as_bytes())
    }

    /// Adds a router that listens on `address`.
    pub fn add(&mut self, address: SocketAddr, host: Host) -> HostNo {
        let no = self.places.len();
        self.places.push(Place {
            host: Some(host),
            address,
            stopped: false,
            held: Vec::new(),
            timer: None,
        });
        self.by_address.insert(address, no);
        self.drain(no);
        no
    }

    /// How many routers were ever added.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// A router, unless it was killed.
    pub fn host(&self, no: HostNo) -> Option<&Host> {
        self.places.get(no)?.host.as_ref()
    }

    /// Does something with a router and carries out what follows from it.
    pub fn with<T>(&mut self, no: HostNo, act: impl FnOnce(&mut Host, Now) -> T) -> Option<T> {
        let now = self.now();
        let done = act(self.places.get_mut(no)?.host.as_mut()?, now);
        self.drain(no);
        Some(done)
    }

    /// Ends a router as `kill -9` does: its peers see closed connections.
    pub fn kill(&mut self, no: HostNo) {
        let Some(place) = self.places.get_mut(no) else { return };
        place.host = None;
        place.held.clear();
        self.by_address.remove(&place.address);
        let links: Vec<_> =
            self.peers.range((no, LinkNo(0))..(no + 1, LinkNo(0))).map(|(k, v)| (*k, *v)).collect();
        for (mine, theirs) in links {
            self.peers.remove(&mine);
            self.peers.remove(&theirs);
            let at = self.now + self.delay(no, theirs.0);
            self.schedule(at, Event::Closed { host: theirs.0, link: theirs.1 });
        }
    }

    /// Freezes a router as SIGSTOP does: its peers see silence. Or lets it go on.
    pub fn stop(&mut self, no: HostNo, stopped: bool) {
        let Some(place) = self.places.get_mut(no) else { return };
        place.stopped = stopped;
        if !stopped {
            for event in std::mem::take(&mut place.held) {
                self.schedule(self.now, event);
            }
            self.schedule(self.now, Event::Timer { host: no });
        }
    }

    /// Runs until `until` or until an application is asked something, whichever is first.
    pub fn run(&mut self, until: Time) -> Option<AppEvent> {
        loop {
            if let Some(event) = self.app.pop_front() {
                return Some(event);
            }
            if self.queue.peek().is_none_or(|Reverse(due)| due.at > until) {
                self.now = self.now.max(until);
                return None;
            }
            if let Some(Reverse(Due { at, sequence })) = self.queue.pop()
                && let Some(event) = self.events.remove(&sequence)
            {
                self.now = self.now.max(at);
                self.handle(event);
            }
        }
    }

    /// A hash over the order, kind and size of everything that happened so far.
    pub fn hash(&self) -> [u8; 32] {
        *self.hash.finalize().as_bytes()
    }

    fn schedule(&mut self, at: Time, event: Event) {
        self.sequence += 1;
        self.events.insert(self.sequence, event);
        self.queue.push(Reverse(Due { at, sequence: self.sequence }));
    }

    /// One way between two routers: drawn once per pair from the seed.
    fn delay(&self, a: HostNo, b: HostNo) -> Duration {
        let (low, high) = (a.min(b) as u64, a.max(b) as u64);
        let span = self.latency.most.saturating_sub(self.latency.least);
        let span = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let draw = self.rng(u64::MAX ^ (low << 32 | high)).below(span.saturating_add(1));
        self.latency.least + Duration::from_micros(draw)
    }

    fn note(&mut self, host: HostNo, kind: u8, link: u32, size: usize) {
        self.hash.update(&self.now.as_micros().to_le_bytes());
        self.hash.update(&(host as u64).to_le_bytes());
        self.hash.update(&[kind]);
        self.hash.update(&link.to_le_bytes());
        self.hash.update(&(size as u64).to_le_bytes());
    }

    fn handle(&mut self, event: Event) {
        let now = self.now();
        let host = match &event {
            Event::Dial { to, from, link } => return self.dial(*to, *from, *link),
            Event::Dialled { host, .. }
            | Event::Bytes { host, .. }
            | Event::Closed { host, .. }
            | Event::Timer { host } => *host,
        };
        let Some(place) = self.places.get_mut(host) else { return };
        if place.stopped {
            if !matches!(event, Event::Timer { .. }) {
                place.held.push(event);
            }
            return;
        }
        let Some(machine) = &mut place.host else { return };
        let note = match event {
            Event::Dialled { link, ok, .. } => {
                if ok {
                    machine.connected(now, link);
                } else {
                    machine.disconnected(now, link);
                }
                (1, link.0, usize::from(ok))
            }
            Event::Bytes { link, mut bytes, .. } => {
                machine.received(now, link, &mut bytes);
                (2, link.0, bytes.len())
            }
            Event::Closed { link, .. } => {
                machine.disconnected(now, link);
                (3, link.0, 0)
            }
            Event::Timer { .. } => {
                if place.timer.is_none_or(|at| at > now.time) {
                    return;
                }
                place.timer = None;
                machine.handle_timeout(now);
                (4, 0, 0)
            }
            Event::Dial { .. } => return,
        };
        self.note(host, note.0, note.1, note.2);
        self.drain(host);
    }

    fn dial(&mut self, to: SocketAddr, from: HostNo, link: LinkNo) {
        let now = self.now();
        let source = self.places.get(from).map(|place| place.address);
        let accepted = self.by_address.get(&to).copied().and_then(|host| {
            let place = self.places.get_mut(host)?;
            let theirs = place.host.as_mut()?.accept(now, source?)?;
            Some((host, theirs))
        });
        let delay = match accepted {
            Some((host, theirs)) => {
                self.peers.insert((from, link), (host, theirs));
                self.peers.insert((host, theirs), (from, link));
                self.drain(host);
                self.delay(from, host)
            }
            None => self.latency.most,
        };
        let ok = accepted.is_some();
        self.schedule(self.now + delay, Event::Dialled { host: from, link, ok });
    }

    /// Carries out all that a router wants.
    fn drain(&mut self, no: HostNo) {
        let now = self.now();
        let mut transmit = BTreeSet::new();
        loop {
            let Some(host) = self.places.get_mut(no).and_then(|place| place.host.as_mut()) else {
                return;
            };
            match host.poll_output() {
                Some(HostOutput::Transmit(link)) => {
                    transmit.insert(link);
                }
                Some(HostOutput::Dial { link, to }) => {
                    let at = self.now
                        + self
                            .by_address
                            .get(&to)
                            .map_or(self.latency.most, |to| self.delay(no, *to));
                    self.schedule(at, Event::Dial { to, from: no, link });
                }
                Some(HostOutput::Close(link)) => {
                    self.send(no, link);
                    transmit.remove(&link);
                    if let Some((host, theirs)) = self.peers.remove(&(no, link)) {
                        self.peers.remove(&(host, theirs));
                        let at = self.now + self.delay(no, host);
                        self.schedule(at, Event::Closed { host, link: theirs });
                    }
                }
                Some(output) => self.app.push_back(AppEvent { host: no, at: self.now, output }),
                None => match transmit.pop_first() {
                    Some(link) => self.send(no, link),
                    None => break,
                },
            }
        }
        let Some(place) = self.places.get_mut(no) else { return };
        let wanted = place.host.as_ref().and_then(Host::poll_timeout);
        if let Some(at) = wanted
            && place.timer.is_none_or(|set| at < set)
        {
            let at = at.max(now.time);
            place.timer = Some(at);
            self.schedule(at, Event::Timer { host: no });
        }
    }

    fn send(&mut self, no: HostNo, link: LinkNo) {
        let now = self.now();
        let Some(host) = self.places.get_mut(no).and_then(|place| place.host.as_mut()) else {
            return;
        };
        let mut bytes = Vec::new();
        while host.poll_transmit(now, link, &mut bytes) {}
        if let Some((to, theirs)) = self.peers.get(&(no, link)).copied()
            && !bytes.is_empty()
        {
            let at = self.now + self.delay(no, to);
            self.schedule(at, Event::Bytes { host: to, link: theirs, bytes });
        }
    }
}
