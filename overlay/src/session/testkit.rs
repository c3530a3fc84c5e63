//! A client and a service joined by pipes on a virtual clock, with applications that check bytes.
//!
//! Lives here: what tests share. A pipe is a splice: ordered, delayed, with a bounded number of
//! units in flight; it can be cut (both sides hear of it) or fall silent (nobody does).

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use super::{
    app::{AppCommand, AppEvent, StreamNo},
    choice::Route,
    client::{Client, ClientOutput, SessionOffer},
    end::QUOTA_DEFAULT,
    frame::ResetReason,
    handshake::{Admitted, SessionSecret, SessionTarget},
    path::PathNo,
    record::UNIT_MAX,
    service::{Service, ServiceOutput},
};
use crate::{
    crypto::kem::{DhSecret, KemSecret},
    garlic::OwnTunnelName,
    id::{LinkNo, NetworkId, RouterId, TunnelId},
    rng::Rng,
    service::{Lease, OfferId},
    time::{Now, Time, Wall},
    wire::Address,
};

/// Units in flight per direction, as splice credits would allow.
const IN_FLIGHT: usize = 256;
pub(super) const NETWORK: NetworkId = NetworkId([5; 32]);

pub(super) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(super) fn secret(seed: u8) -> SessionSecret {
    let mut rng = Rng::from_seed([seed; 32]);
    SessionSecret {
        dh: DhSecret::generate(&mut rng),
        kem: KemSecret::generate(&mut rng),
        admitted: vec![Admitted { client: 0, binding: rng.bytes(), access: None }],
        restored: None,
    }
}

pub(super) fn target(secret: &SessionSecret) -> SessionTarget {
    SessionTarget {
        network: NETWORK,
        binding: secret.admitted[0].binding,
        access: secret.admitted[0].access.clone(),
        dh: secret.dh.public(),
        kem: Box::new(*secret.kem.public()),
    }
}

/// The only offer of a service with one router.
pub(super) fn offer(secret: &SessionSecret, leases: Vec<Lease>, effort: u32) -> SessionOffer {
    SessionOffer { id: OfferId::default(), target: target(secret), leases, effort }
}

pub(super) fn address(n: u8) -> Address {
    std::net::SocketAddr::from(([10, n, 0, 1], 7000)).into()
}

pub(super) fn lease(n: u8) -> Lease {
    Lease {
        gateway: RouterId([n; 32]),
        link_key: [n; 32],
        splice_key: [9; 32],
        address: address(n),
        lease: [n; 16],
    }
}

pub(super) fn tunnel(n: u32) -> OwnTunnelName {
    (LinkNo(n), TunnelId(1))
}

#[derive(Debug, Default)]
pub(super) struct Pipe {
    pub(super) service: Option<PathNo>,
    pub(super) tunnel: Option<OwnTunnelName>,
    pub(super) gateway: Option<RouterId>,
    /// `None` in the queue: the sender closed.
    up: VecDeque<(Time, Option<Vec<u8>>)>,
    down: VecDeque<(Time, Option<Vec<u8>>)>,
    pub(super) silent: bool,
    closed: bool,
}

/// What one stream's application has seen.
#[derive(Debug, Default)]
pub(super) struct Flow {
    pub(super) to_send: usize,
    pub(super) sent: usize,
    pub(super) echoed: usize,
    pub(super) opened: bool,
    pub(super) finished: bool,
    pub(super) closed: bool,
    pub(super) reset: Option<ResetReason>,
}

pub(super) struct Net {
    pub(super) now: Time,
    pub(super) delay: Duration,
    pub(super) client: Client,
    pub(super) service: Service,
    pub(super) pipes: BTreeMap<PathNo, Pipe>,
    next_service: u32,
    next_tunnel: u32,
    pub(super) leases: u8,
    /// Tunnels in which everything disappears.
    pub(super) holes: BTreeSet<OwnTunnelName>,
    /// The same for gateways.
    pub(super) dead_gateways: BTreeSet<RouterId>,
    /// Answers of end hops on their way.
    probes: VecDeque<(Time, OwnTunnelName)>,
    pub(super) flows: BTreeMap<StreamNo, Flow>,
    echo: BTreeMap<StreamNo, (VecDeque<u8>, bool)>,
    /// Streams whose service application does not read.
    pub(super) stuck_ports: BTreeSet<u16>,
    pub(super) ports: BTreeMap<StreamNo, u16>,
    /// Everything a service application was given, in order of arrival.
    pub(super) heard: Vec<u8>,
    pub(super) incoming: usize,
    pub(super) service_resets: Vec<ResetReason>,
    pub(super) last_progress: Time,
    pub(super) longest_pause: Duration,
    pub(super) failed: Vec<OwnTunnelName>,
    pub(super) freed: Vec<OwnTunnelName>,
    pub(super) asked: usize,
    pub(super) no_descriptor: bool,
    /// Units as the service got them, for replays.
    pub(super) seen: Vec<(PathNo, Vec<u8>)>,
    pub(super) most_held: usize,
    steps: usize,
}

impl Net {
    pub(super) fn new(seed: u8, delay: Duration) -> Self {
        super::record::watch::forget();
        let mut rng = Rng::from_seed([seed; 32]);
        let mut service = Service::new(rng.fork(), NETWORK, QUOTA_DEFAULT);
        service.secrets(vec![secret(1)]);
        Self {
            now: Time::from_micros(1_000_000),
            delay,
            client: Client::new(rng.fork(), QUOTA_DEFAULT),
            service,
            pipes: BTreeMap::new(),
            next_service: 0,
            next_tunnel: 0,
            leases: 3,
            holes: BTreeSet::new(),
            probes: VecDeque::new(),
            dead_gateways: BTreeSet::new(),
            flows: BTreeMap::new(),
            echo: BTreeMap::new(),
            stuck_ports: BTreeSet::new(),
            ports: BTreeMap::new(),
            heard: Vec::new(),
            incoming: 0,
            service_resets: Vec::new(),
            last_progress: Time::ZERO,
            longest_pause: Duration::ZERO,
            failed: Vec::new(),
            freed: Vec::new(),
            asked: 0,
            no_descriptor: false,
            seen: Vec::new(),
            most_held: 0,
            steps: 0,
        }
    }

    pub(super) fn clock(&self) -> Now {
        let minutes = u32::try_from(self.now.as_micros() / 60_000_000).unwrap();
        Now { time: self.now, wall: Wall::from_minutes(29_000_000 + minutes) }
    }

    /// Opens a stream that sends so many bytes and expects them back.
    pub(super) fn open(&mut self, no: u64, port: u16, bytes: usize) -> StreamNo {
        let stream = StreamNo(no);
        self.flows.insert(stream, Flow { to_send: bytes, ..Flow::default() });
        self.ports.insert(stream, port);
        self.client.command(self.clock(), AppCommand::Open { stream, port });
        self.feed();
        stream
    }

    fn feed(&mut self) {
        let now = self.clock();
        for (stream, flow) in &mut self.flows {
            if flow.reset.is_some() {
                continue;
            }
            let len = self.client.writable(*stream).min(flow.to_send - flow.sent).min(20_000);
            if len > 0 {
                let bytes = (flow.sent..flow.sent + len).map(pattern).collect();
                flow.sent += len;
                self.client.command(now, AppCommand::Data { stream: *stream, bytes });
                if flow.sent == flow.to_send {
                    self.client.command(now, AppCommand::Finish { stream: *stream });
                }
            }
        }
        for (stream, (queue, done)) in &mut self.echo {
            let len = self.service.writable(*stream).min(queue.len());
            if len > 0 {
                let bytes: Vec<u8> = queue.drain(..len).collect();
                self.service.command(now, AppCommand::Data { stream: *stream, bytes });
            }
            if *done && queue.is_empty() {
                *done = false;
                self.service.command(now, AppCommand::Finish { stream: *stream });
            }
        }
    }

    /// Lets both sides do what they can at this moment.
    pub(super) fn settle(&mut self) {
        loop {
            let now = self.clock();
            let mut busy = false;
            self.client.settle(now, false);
            self.service.settle(now);
            while let Some(output) = self.client.poll_output() {
                busy = true;
                self.client_wish(output);
            }
            while let Some(output) = self.service.poll_output() {
                busy = true;
                self.service_wish(output);
            }
            self.feed();
            busy |= self.fill();
            self.most_held = self.most_held.max(self.service.held());
            if !busy {
                return;
            }
        }
    }

    fn fill(&mut self) -> bool {
        let (now, mut unit, mut busy) = (self.clock(), [0; UNIT_MAX], false);
        let arrival = self.now + self.delay;
        for path in self.client.paths().collect::<Vec<_>>() {
            while self.pipes.get(&path).is_some_and(|pipe| pipe.up.len() < IN_FLIGHT) {
                let Some(len) = self.client.fill(now, path, &mut unit) else { break };
                busy = true;
                if let Some(pipe) = self.pipes.get_mut(&path) {
                    pipe.up.push_back((arrival, Some(unit[..len].to_vec())));
                }
            }
        }
        while self.service.poll_ready().is_some() {}
        for pipe in self.pipes.values_mut() {
            let Some(path) = pipe.service else { continue };
            while pipe.down.len() < IN_FLIGHT {
                let Some(len) = self.service.fill(now, path, &mut unit) else { break };
                busy = true;
                pipe.down.push_back((arrival, Some(unit[..len].to_vec())));
            }
        }
        busy
    }

    fn client_wish(&mut self, output: ClientOutput) {
        let now = self.clock();
        match output {
            ClientOutput::OpenPath { path, tunnel, lease, .. } => {
                let pipe = Pipe {
                    tunnel: Some(tunnel),
                    gateway: Some(lease.gateway),
                    silent: self.holes.contains(&tunnel)
                        || self.dead_gateways.contains(&lease.gateway),
                    ..Pipe::default()
                };
                self.pipes.insert(path, pipe);
            }
            ClientOutput::ClosePath { path } => {
                if let Some(pipe) = self.pipes.get_mut(&path) {
                    pipe.up.push_back((self.now + self.delay, None));
                    pipe.down.clear();
                    pipe.closed = true;
                }
            }
            ClientOutput::NeedTunnels { want } => {
                while self.client.tunnels.good(self.now) < want {
                    let name = tunnel(self.next_tunnel);
                    self.next_tunnel += 1;
                    self.client.tunnels.add(name, Route::default());
                }
            }
            ClientOutput::NeedDescriptor => {
                self.asked += 1;
                if !self.no_descriptor {
                    let leases = (1..=self.leases).map(lease).collect();
                    self.client.descriptor(vec![offer(&secret(1), leases, 0)]);
                }
            }
            ClientOutput::Probe { tunnel } => {
                if !self.holes.contains(&tunnel) {
                    // Half as far as the service, there and back.
                    self.probes.push_back((self.now + self.delay, tunnel));
                }
            }
            ClientOutput::TunnelFailed { tunnel } => {
                self.failed.push(tunnel);
                self.client.tunnel_closed(tunnel);
            }
            ClientOutput::TunnelFree { tunnel } => self.freed.push(tunnel),
            ClientOutput::Live => {}
            ClientOutput::App(event) => self.client_event(now, event),
        }
    }

    fn client_event(&mut self, now: Now, event: AppEvent) {
        let (AppEvent::Opened { stream }
        | AppEvent::Incoming { stream, .. }
        | AppEvent::Data { stream, .. }
        | AppEvent::Finished { stream }
        | AppEvent::Reset { stream, .. }
        | AppEvent::Closed { stream }
        | AppEvent::Writable { stream }) = event;
        let flow = self.flows.get_mut(&stream).unwrap();
        assert!(flow.reset.is_none() && !flow.closed, "nothing is said after the end");
        match event {
            AppEvent::Opened { .. } => flow.opened = true,
            AppEvent::Data { bytes, .. } => {
                assert!(flow.opened);
                for byte in &bytes {
                    assert_eq!(*byte, pattern(flow.echoed), "at {}", flow.echoed);
                    flow.echoed += 1;
                }
                self.longest_pause = self.longest_pause.max(self.now.since(self.last_progress));
                self.last_progress = self.now;
                let consumed = AppCommand::Consumed { stream, bytes: bytes.len() };
                self.client.command(now, consumed);
            }
            AppEvent::Finished { .. } => flow.finished = true,
            AppEvent::Reset { reason, .. } => flow.reset = Some(reason),
            AppEvent::Closed { .. } => flow.closed = true,
            AppEvent::Writable { .. } => {}
            AppEvent::Incoming { .. } => panic!("a client accepts no streams"),
        }
    }

    fn service_wish(&mut self, output: ServiceOutput) {
        let now = self.clock();
        match output {
            ServiceOutput::ClosePath { path } => {
                let pipe = self.pipes.values_mut().find(|pipe| pipe.service == Some(path));
                if let Some(pipe) = pipe {
                    pipe.down.push_back((self.now + self.delay, None));
                }
            }
            ServiceOutput::App(AppEvent::Incoming { stream, port }) => {
                self.incoming += 1;
                self.ports.insert(stream, port);
                self.echo.insert(stream, (VecDeque::new(), false));
                self.service.command(now, AppCommand::Accept { stream });
            }
            ServiceOutput::App(AppEvent::Data { stream, bytes }) => {
                if self.heard.len() < 1 << 20 {
                    self.heard.extend(&bytes);
                }
                if self.stuck_ports.contains(&self.ports[&stream]) {
                    return;
                }
                let consumed = AppCommand::Consumed { stream, bytes: bytes.len() };
                self.echo.get_mut(&stream).unwrap().0.extend(bytes);
                self.service.command(now, consumed);
            }
            ServiceOutput::App(AppEvent::Finished { stream }) => {
                self.echo.get_mut(&stream).unwrap().1 = true;
            }
            ServiceOutput::App(AppEvent::Reset { stream, reason }) => {
                self.echo.remove(&stream);
                self.service_resets.push(reason);
            }
            ServiceOutput::App(AppEvent::Closed { stream }) => {
                self.echo.remove(&stream);
            }
            ServiceOutput::App(_) | ServiceOutput::Unheard => {}
        }
    }

    /// Moves on to the next thing that happens, if it happens before `until`.
    fn step(&mut self, until: Time) -> bool {
        self.settle();
        self.steps += 1;
        assert!(self.steps < 5_000_000, "spinning at {:?}", self.now);
        let arrivals = self
            .pipes
            .values()
            .flat_map(|pipe| [&pipe.up, &pipe.down].map(|queue| queue.front().map(|(at, _)| *at)));
        let timers = [self.client.poll_timeout(), self.service.poll_timeout()];
        let probes = self.probes.front().map(|(at, _)| *at);
        let next = arrivals.flatten().chain(probes).chain(timers.into_iter().flatten()).min();
        let Some(next) = next.filter(|next| *next <= until) else {
            self.now = self.now.max(until);
            return false;
        };
        self.now = self.now.max(next);
        self.deliver();
        self.settle();
        true
    }

    /// Whether every stream is echoed in full.
    pub(super) fn done(&self) -> bool {
        self.flows.values().all(|flow| flow.finished && flow.echoed == flow.to_send)
    }

    fn deliver(&mut self) {
        let now = self.clock();
        while let Some((_, tunnel)) = self.probes.pop_front_if(|(at, _)| *at <= now.time) {
            if !self.holes.contains(&tunnel) {
                self.client.tunnels.answered(now.time, tunnel);
            }
        }
        let mut gone = Vec::new();
        for (no, pipe) in &mut self.pipes {
            while let Some((_, unit)) = pipe.up.pop_front_if(|(at, _)| *at <= now.time) {
                if pipe.silent {
                    continue;
                }
                let service = *pipe.service.get_or_insert_with(|| {
                    let path = PathNo(self.next_service);
                    self.next_service += 1;
                    self.service.incoming(now, path);
                    path
                });
                if let Some(mut unit) = unit {
                    self.seen.push((*no, unit.clone()));
                    self.service.receive(now, service, &mut unit);
                } else {
                    self.service.path_closed(now, service);
                    gone.push(*no);
                }
            }
            while let Some((_, unit)) = pipe.down.pop_front_if(|(at, _)| *at <= now.time) {
                if pipe.silent || pipe.closed {
                    continue;
                }
                if let Some(mut unit) = unit {
                    self.client.receive(now, *no, &mut unit);
                } else {
                    self.client.path_closed(now, *no);
                    gone.push(*no);
                }
            }
        }
        for no in gone {
            self.pipes.remove(&no);
        }
    }

    /// Runs for so long.
    pub(super) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
    }

    /// Runs until every stream is echoed in full; panics after so long.
    pub(super) fn run_all(&mut self, time: Duration) {
        let until = self.now + time;
        self.last_progress = self.now;
        while !self.done() {
            assert!(self.step(until), "not done: {:?}", self.flows);
        }
    }

    /// The pipe that carries the session.
    pub(super) fn live(&self) -> PathNo {
        self.client.live_path().unwrap()
    }

    /// Cuts a pipe: both sides hear of it at once, what is in it is lost.
    pub(super) fn cut(&mut self, no: PathNo) {
        let now = self.clock();
        if let Some(pipe) = self.pipes.remove(&no) {
            self.client.path_closed(now, no);
            if let Some(service) = pipe.service {
                self.service.path_closed(now, service);
            }
        }
    }

    /// Everything in a pipe, and everything to come, disappears.
    pub(super) fn silence(&mut self, no: PathNo) {
        if let Some(pipe) = self.pipes.get_mut(&no) {
            pipe.silent = true;
            self.holes.extend(pipe.tunnel);
        }
    }

    /// The gateway of the path that carries the session.
    pub(super) fn gateway(&self) -> RouterId {
        self.pipes[&self.live()].gateway.unwrap()
    }

    /// A router that leads to this gateway falls silent.
    pub(super) fn silence_gateway(&mut self, gateway: RouterId) {
        self.dead_gateways.insert(gateway);
        for pipe in self.pipes.values_mut().filter(|pipe| pipe.gateway == Some(gateway)) {
            pipe.silent = true;
        }
    }

    /// The service is started anew, and of its end nobody is told: the old paths are just silent.
    pub(super) fn restart_service(&mut self) {
        self.service = Service::new(Rng::from_seed([77; 32]), NETWORK, QUOTA_DEFAULT);
        self.service.secrets(vec![secret(1)]);
        self.echo.clear();
        for pipe in self.pipes.values_mut() {
            pipe.silent = true;
            pipe.service = None;
        }
    }

    /// Changes one byte of some unit that is on its way.
    pub(super) fn damage(&mut self, up: bool, at: usize) {
        let Some(pipe) = self.client.live_path().and_then(|no| self.pipes.get_mut(&no)) else {
            return;
        };
        let queue = if up { &mut pipe.up } else { &mut pipe.down };
        let count = queue.len();
        if let Some((_, Some(unit))) = queue.get_mut(at % count.max(1)) {
            let len = unit.len();
            unit[at % len] ^= 0x10;
        }
    }

    /// Somebody plays units to the service on a splice of their own; true if anything came back.
    pub(super) fn play(&mut self, units: &[Vec<u8>]) -> bool {
        let path = PathNo(1_000_000 + self.next_service);
        self.next_service += 1;
        let now = self.clock();
        self.service.incoming(now, path);
        for unit in units {
            self.service.receive(now, path, &mut unit.clone());
        }
        let mut unit = [0; UNIT_MAX];
        self.service.fill(now, path, &mut unit).is_some()
    }
}

pub(super) fn pattern(at: usize) -> u8 {
    u8::try_from((at * 31 + at / 251) % 256).unwrap()
}
