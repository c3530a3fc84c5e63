//! A network of routers on one virtual clock: the simulator's engine.
//!
//! Lives here: the clock, what happens to each router, the hash of all that happened. Does not live
//! here: any protocol (the routers are `warren_router::host::Host`, as the driver runs them), the
//! order of events (`queue.rs`), the wires (`conn.rs`), what goes wrong (`net/faults.rs`),
//! applications (`world.rs`).
//!
//! ```text
//!   alarm ─> world                     ┌───────────── bandwidth, way, jitter ─────────────┐
//!   Queue ──> event ──> Host ──> Dial, Transmit, Close, timer ──> Queue               Queue ──> ..
//!                         └────> application events ──> world
//! ```
//!
//! One thread, a total order by (time, sequence), named streams: the same seed gives the same hash.

mod faults;
mod outputs;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use warren_overlay::{
    id::LinkNo,
    rng::Rng,
    table::Table,
    time::{Now, Time, Wall},
};
use warren_router::host::{Host, HostOutput};

use crate::{
    chance,
    conn::{Arrival, Bucket, Conns, EndOf, Flight, Uplink},
    disk::Pace,
    latency::{Latency, Spot},
    queue::Queue,
    streams::Streams,
};

/// A router's number in the network.
pub type HostNo = u32;

/// Minute of the wall clock at which every run starts: 22 November 2026.
const START_MINUTE: u32 = 29_926_080;
/// How long a dial into silence waits; the driver's limit.
const CONNECT_LIMIT: Duration = Duration::from_secs(8);
/// A jitter draw is cut off at this many times its mean.
const JITTER_MAX: f64 = 20.0;

/// What the network asks of whoever drives it.
#[derive(Debug)]
pub enum Happened {
    /// A router wants something of its applications or its folder.
    App {
        /// The router.
        host: HostNo,
        /// When.
        at: Time,
        /// What it wants.
        output: HostOutput,
    },
    /// A moment that was asked for came.
    Alarm(u64),
    /// Something happened at a router: only if each event is looked at.
    Event(HostNo),
}

/// What all wires have in common.
#[derive(Clone, Debug)]
pub struct Wires {
    /// One-way times.
    pub latency: Latency,
    /// Mean of what comes on top of each, as a share of it; exponential.
    pub jitter: f64,
    /// Mean life of a connection before it breaks for no reason; `None`: it does not.
    pub breaks: Option<Duration>,
}

impl Wires {
    /// Wires that do nothing but take their time.
    pub const fn new(latency: Latency) -> Self {
        Self { latency, jitter: 0.0, breaks: None }
    }
}

/// Where a router stands in the network.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether others can dial it: false behind a NAT.
    pub reachable: bool,
    /// Its bandwidth, if limited.
    pub uplink: Option<Uplink>,
    /// Minutes its wall clock is ahead.
    pub ahead_minutes: i32,
}

impl Seat {
    /// A seat at `address` without limits and with a true clock.
    pub const fn new(address: SocketAddr) -> Self {
        Self { address, reachable: true, uplink: None, ahead_minutes: 0 }
    }
}

/// What happened at a router, for those who watch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// When.
    pub at: Time,
    /// At which router.
    pub host: HostNo,
    /// What.
    pub what: What,
    /// Over which link, as the router counts them; zero for none.
    pub link: u32,
    /// Bytes.
    pub bytes: usize,
}

/// Kinds of what happens at a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A dial failed.
    Unanswered,
    /// A dial succeeded.
    Connected,
    /// A connection came in.
    Accepted,
    /// Bytes arrived.
    Received,
    /// The other side closed.
    Closed,
    /// A timer.
    Timer,
    /// There is room in a socket again.
    Writable,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A dial arrives.
    Dial { from: HostNo, link: u32, to: HostNo },
    /// The dialler learns how it went.
    Dialled { host: HostNo, link: u32, ok: bool },
    /// Bytes arrive.
    Bytes { end: EndOf, use_no: u32, payload: u32 },
    /// The other side closed.
    Closed { end: EndOf, use_no: u32 },
    /// A socket takes bytes again.
    Writable { end: EndOf, use_no: u32 },
    /// A connection breaks.
    Break { end: EndOf, use_no: u32 },
    /// A router's timer.
    Timer { host: HostNo },
    /// A router's disk has answered.
    Answered { host: HostNo },
    /// A moment that the world asked for.
    Alarm(u64),
}

// With its time an event fits half a cache line.
const _: () = assert!(size_of::<(u64, Event)>() <= 32);

#[derive(Debug)]
struct Place {
    /// Boxed, so that places can move when there are more.
    host: Option<Box<Host>>,
    seat: Seat,
    spot: Spot,
    asleep: bool,
    pace: Option<Arc<Pace>>,
    /// It waits for its disk.
    busy_until: Time,
    /// Routers hear those of their own side of a partition only.
    side: u32,
    links: Table<LinkNo, EndOf>,
    dialling: BTreeSet<LinkNo>,
    timer: Option<Time>,
    bucket: Bucket,
    jitter: Rng,
}

/// The network.
#[derive(Debug)]
pub struct Net {
    now: Time,
    streams: Streams,
    wires: Wires,
    places: Vec<Place>,
    by_address: BTreeMap<SocketAddr, HostNo>,
    conns: Conns,
    flight: Flight,
    /// Where a router's bytes are put together.
    written: Vec<u8>,
    /// Where links are noted that have something to send.
    transmit: Vec<LinkNo>,
    queue: Queue<Event>,
    breaks: Rng,
    /// Padding of idle links is counted and not sent.
    padding_counted: bool,
    silences: Rng,
    hash: blake3::Hasher,
    events: u64,
    received: u64,
    watched: BTreeSet<HostNo>,
    /// Each event is told, after what it made happen.
    each: bool,
    touched: Option<HostNo>,
    strangers: BTreeSet<HostNo>,
    lines: VecDeque<Line>,
    happened: VecDeque<Happened>,
}

impl Net {
    /// An empty network; `padding_counted` says that its routers' idle links send nothing.
    pub fn new(streams: Streams, wires: Wires, padding_counted: bool) -> Self {
        Self {
            now: Time::ZERO,
            breaks: streams.of("breaks", 0),
            padding_counted,
            silences: streams.of("silences", 0),
            streams,
            wires,
            places: Vec::new(),
            by_address: BTreeMap::new(),
            conns: Conns::default(),
            flight: Flight::default(),
            written: Vec::new(),
            transmit: Vec::new(),
            queue: Queue::new(),
            hash: blake3::Hasher::new(),
            events: 0,
            received: 0,
            watched: BTreeSet::new(),
            each: false,
            touched: None,
            strangers: BTreeSet::new(),
            lines: VecDeque::new(),
            happened: VecDeque::new(),
        }
    }

    /// The virtual time.
    pub const fn time(&self) -> Time {
        self.now
    }

    /// Both clocks as router `no` sees them.
    pub fn now(&self, no: HostNo) -> Now {
        let minutes = u32::try_from(self.now.as_micros() / 60_000_000).unwrap_or(u32::MAX);
        let ahead = self.places.get(no as usize).map_or(0, |place| place.seat.ahead_minutes);
        let minute = START_MINUTE.saturating_add(minutes).saturating_add_signed(ahead);
        Now { time: self.now, wall: Wall::from_minutes(minute) }
    }

    /// The streams of this run.
    pub const fn streams(&self) -> Streams {
        self.streams
    }

    /// Events so far.
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// Bytes that routers have received so far: handshakes, padding that is sent, everything.
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// Events that wait.
    pub const fn pending(&self) -> usize {
        self.queue.len()
    }

    /// A seat for one more router; `start` makes it live.
    pub fn add(&mut self, seat: Seat) -> HostNo {
        let no = u32::try_from(self.places.len()).expect("a process holds fewer routers");
        self.places.push(Place {
            host: None,
            seat,
            spot: self.wires.latency.spot(self.streams, no),
            asleep: false,
            pace: None,
            busy_until: Time::ZERO,
            side: 0,
            links: Table::new(),
            dialling: BTreeSet::new(),
            timer: None,
            bucket: Bucket::default(),
            jitter: self.streams.of("jitter", no.into()),
        });
        self.by_address.insert(seat.address, no);
        no
    }

    /// A router starts in its seat, with a disk that takes its time or none.
    pub(crate) fn start(&mut self, no: HostNo, host: Host, pace: Option<Arc<Pace>>) {
        if let Some(place) = self.places.get_mut(no as usize) {
            place.host = Some(Box::new(host));
            place.pace = pace;
            place.busy_until = self.now;
            place.timer = None;
            self.drain(no);
        }
    }

    /// How many seats there are.
    pub fn len(&self) -> HostNo {
        u32::try_from(self.places.len()).unwrap_or(u32::MAX)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// A router, if it lives.
    pub fn host(&self, no: HostNo) -> Option<&Host> {
        self.places.get(no as usize)?.host.as_deref()
    }

    /// The routers that live.
    pub fn hosts(&self) -> impl Iterator<Item = (HostNo, &Host)> {
        (0..).zip(&self.places).filter_map(|(no, place)| Some((no, place.host.as_deref()?)))
    }

    /// Does something with a router and carries out what follows from it.
    pub fn with<T>(&mut self, no: HostNo, act: impl FnOnce(&mut Host, Now) -> T) -> Option<T> {
        let now = self.now(no);
        let done = act(self.places.get_mut(no as usize)?.host.as_mut()?, now);
        self.drain(no);
        Some(done)
    }

    /// At `at`, `run` gives `Happened::Alarm(token)`.
    pub fn alarm(&mut self, at: Time, token: u64) {
        self.queue.push(at, Event::Alarm(token));
    }

    /// Notes what happens at a router from now on.
    pub fn watch(&mut self, no: HostNo) {
        self.watched.insert(no);
    }

    /// From now on `run` stops after each event at a router.
    pub fn look_at_each(&mut self) {
        self.each = true;
    }

    /// Routers that dialled an address where no router is.
    pub fn strangers(&self) -> impl Iterator<Item = HostNo> + '_ {
        self.strangers.iter().copied()
    }

    /// What was noted and not yet taken.
    pub fn take_lines(&mut self) -> impl Iterator<Item = Line> + '_ {
        self.lines.drain(..)
    }

    /// The connections that stand: each side's router and link, and whether nothing is under way.
    pub fn connections(&self) -> impl Iterator<Item = ([(HostNo, LinkNo); 2], bool)> {
        self.conns.standing()
    }

    /// Runs until `until` or until something happened that is the caller's, whichever is first.
    pub fn run(&mut self, until: Time) -> Option<Happened> {
        loop {
            if let Some(happened) = self.happened.pop_front() {
                return Some(happened);
            }
            if let Some(no) = self.touched.take() {
                return Some(Happened::Event(no));
            }
            let Some((at, event)) = self.queue.pop(until) else {
                self.now = self.now.max(until);
                return None;
            };
            self.now = self.now.max(at);
            self.handle(event);
        }
    }

    /// A hash over the order, kind and size of everything that happened so far.
    pub fn hash(&self) -> [u8; 32] {
        *self.hash.finalize().as_bytes()
    }

    fn note(&mut self, host: HostNo, what: What, link: u32, bytes: usize) {
        let who = u64::from(host) << 32 | u64::from(link);
        let what_and_size = (what as u64) << 56 | bytes as u64;
        let entry = [self.now.as_micros(), who, what_and_size].map(u64::to_le_bytes);
        self.hash.update(entry.as_flattened());
        self.events += 1;
        if what == What::Received {
            self.received += bytes as u64;
        }
        if self.each {
            self.touched = Some(host);
        }
        if self.watched.contains(&host) {
            self.lines.push_back(Line { at: self.now, host, what, link, bytes });
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Dial { from, link, to } => self.dial(from, LinkNo(link), to),
            Event::Dialled { host, link, ok } => self.dialled(host, LinkNo(link), ok),
            Event::Bytes { end, use_no, payload } => {
                if self.conns.side_in_use(end, use_no).is_some() {
                    self.arrive(end, Arrival::Bytes(payload));
                } else {
                    self.flight.take(payload);
                }
            }
            Event::Closed { end, use_no } => {
                if self.conns.side_in_use(end, use_no).is_some() {
                    self.arrive(end, Arrival::Closed);
                }
            }
            Event::Writable { end, use_no } => {
                if let Some(side) = self.conns.side_in_use(end, use_no) {
                    let (host, link) = (side.host, side.link);
                    if let Some(until) = self.busy(host) {
                        self.queue.push(until, event);
                    } else if !self.is_asleep(host) {
                        self.note(host, What::Writable, link.0, 0);
                        self.send(host, link);
                        self.drain(host);
                    }
                }
            }
            Event::Break { end, use_no } => {
                if self.conns.side_in_use(end, use_no).is_some() {
                    self.break_conn(end);
                }
            }
            Event::Timer { host } => self.timer(host),
            Event::Answered { host } => self.answered(host),
            Event::Alarm(token) => self.happened.push_back(Happened::Alarm(token)),
        }
    }

    fn timer(&mut self, no: HostNo) {
        let now = self.now(no);
        let Some(place) = self.places.get_mut(no as usize) else { return };
        if place.asleep || place.busy_until > now.time || place.timer.is_none_or(|at| at > now.time)
        {
            return;
        }
        place.timer = None;
        let Some(host) = &mut place.host else { return };
        host.handle_timeout(now);
        self.note(no, What::Timer, 0, 0);
        self.drain(no);
    }

    fn way(&self, a: HostNo, b: HostNo) -> Duration {
        let spot = |no: HostNo| Some((no, self.places.get(no as usize)?.spot));
        match (spot(a), spot(b)) {
            (Some(a), Some(b)) => self.wires.latency.one_way(self.streams, a, b),
            _ => self.wires.latency.typical(),
        }
    }

    /// A dial arrives, if anybody is there.
    fn dial(&mut self, from: HostNo, link: LinkNo, to: HostNo) {
        let asker = self.places.get(from as usize);
        let Some(source) = asker.filter(|it| it.dialling.contains(&link)).map(|it| it.seat.address)
        else {
            return;
        };
        let reachable = self.places.get(to as usize).is_some_and(|place| place.seat.reachable);
        let silent = !reachable || !self.hear(from, to);
        let way = if silent { CONNECT_LIMIT } else { self.way(from, to) };
        let now = self.now(to);
        let place = self.places.get_mut(to as usize).filter(|_| !silent);
        let theirs = place.and_then(|place| place.host.as_mut()?.accept(now, source));
        if let Some(theirs) = theirs {
            let ends = self.conns.open([(from, link), (to, theirs)], way);
            for ((host, link), end) in [(from, link), (to, theirs)].into_iter().zip(ends) {
                if let Some(place) = self.places.get_mut(host as usize) {
                    place.links.insert(link, end);
                }
            }
            if let Some(mean) = self.wires.breaks {
                let life = mean.mul_f64(chance::exponential(&mut self.breaks));
                let use_no = self.conns.use_no(ends[0]);
                self.queue.push(self.now + life, Event::Break { end: ends[0], use_no });
            }
            self.note(to, What::Accepted, theirs.0, 0);
            self.drain(to);
        }
        let dialled = Event::Dialled { host: from, link: link.0, ok: theirs.is_some() };
        self.queue.push(self.now + way, dialled);
    }

    fn dialled(&mut self, no: HostNo, link: LinkNo, ok: bool) {
        if let Some(until) = self.busy(no) {
            self.queue.push(until, Event::Dialled { host: no, link: link.0, ok });
            return;
        }
        let now = self.now(no);
        let Some(place) = self.places.get_mut(no as usize) else { return };
        let ok = ok && place.links.contains_key(&link);
        if !place.dialling.remove(&link) {
            return;
        }
        let Some(host) = &mut place.host else { return };
        if ok {
            host.connected(now, link);
        } else {
            host.disconnected(now, link);
        }
        self.note(no, if ok { What::Connected } else { What::Unanswered }, link.0, 0);
        self.drain(no);
    }

    /// Something comes to an end of a connection; it waits while the sender cannot be heard.
    fn arrive(&mut self, end: EndOf, arrival: Arrival) {
        let from = self.conns.host(end.other());
        let Some((to, waiting)) = self.conns.side(end).map(|it| (it.host, it.held.is_some()))
        else {
            return;
        };
        let silent = !self.reaches(from, to) || self.conns.is_lost(end);
        match self.conns.side(end) {
            Some(side) if waiting || silent => side.held.get_or_insert_default().push_back(arrival),
            _ => self.deliver(end, arrival),
        }
    }

    fn deliver(&mut self, end: EndOf, arrival: Arrival) {
        let Some(side) = self.conns.side(end) else { return };
        let (no, link) = (side.host, side.link);
        if let Arrival::Bytes(_) = arrival {
            side.coming = side.coming.saturating_sub(1);
        }
        let now = self.now(no);
        let Some(place) = self.places.get_mut(no as usize) else { return };
        match arrival {
            Arrival::Bytes(payload) => {
                let mut bytes = self.flight.take(payload);
                if let Some(host) = &mut place.host {
                    host.received(now, link, &mut bytes);
                }
                self.note(no, What::Received, link.0, bytes.len());
            }
            Arrival::Closed => {
                place.links.remove(&link);
                place.dialling.remove(&link);
                if let Some(host) = &mut place.host {
                    host.disconnected(now, link);
                }
                self.forget(end);
                self.note(no, What::Closed, link.0, 0);
            }
        }
        self.drain(no);
    }

    /// This end is over; the other hears of it after all that was sent before.
    fn close(&mut self, end: EndOf) {
        let use_no = self.conns.use_no(end);
        let way = self.conns.way(end);
        if let Some(other) = self.conns.side(end.other()) {
            other.last = other.last.max(self.now + way);
            self.queue.push(other.last, Event::Closed { end: end.other(), use_no });
        }
        self.forget(end);
    }

    fn forget(&mut self, end: EndOf) {
        for arrival in self.conns.end(end) {
            if let Arrival::Bytes(payload) = arrival {
                self.flight.take(payload);
            }
        }
    }
}
