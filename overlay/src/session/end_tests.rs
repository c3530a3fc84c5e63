//! Two `End`s joined by real tunnels (one layer each), end hops, leases and legs, with latency.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::*;
use crate::{
    crypto::{
        kdf::derive_secret,
        onion::{Direction, LayerKeys, RelayBackward, RelayForward},
    },
    garlic::{EndHop, EndHopCommand, EndHopEvent, EndHopOutput, LeaseBook, Rate, RecordAnswer},
    id::{Key, LinkNo, RouterId, SpliceId, TunnelId},
    plane::{CellBody, PartMessage},
    session::{
        app::{AppCommand, AppEvent},
        testkit::{NETWORK, address, ms, offer, pattern, secret},
    },
    time::Wall,
};

const LEG_LINK: LinkNo = LinkNo(1_000);
const LATENCY: Duration = Duration::from_millis(20);
/// Cells that a lane or leg carries a millisecond.
const RATE: usize = 16;
const LEG_WINDOW: u32 = 64;
/// Lanes of the service's tunnels begin here.
const SERVICE_LANES: u32 = 100;
const PORT: u16 = 80;

type Flight = VecDeque<(Time, Vec<CellBody>)>;

/// One tunnel: its lane both ways and its end hop.
struct Lane {
    hop: EndHop,
    egress: VecDeque<CellBody>,
    forth: Flight,
    back: Flight,
    silent: bool,
}

struct Leg {
    /// Tunnel and splice of the client's end hop, and of the gateway.
    ends: [(LinkNo, SpliceId); 2],
    queues: [VecDeque<CellBody>; 2],
    credits: [u32; 2],
    attached: bool,
}

struct World {
    now: Time,
    ends: [End; 2],
    lanes: BTreeMap<LinkNo, Lane>,
    legs: BTreeMap<TunnelId, Leg>,
    next_leg: u32,
    next_lane: u32,
    book: LeaseBook,
    leases: Vec<Lease>,
    effort: u32,
    refuse_leases: bool,
    to_send: usize,
    sent: usize,
    echoed: usize,
    echo: BTreeMap<StreamNo, VecDeque<u8>>,
    events: Vec<EndEvent>,
    app: Vec<AppEvent>,
    last: Time,
    pause: Duration,
}

fn layers(link: LinkNo, direction: Direction) -> LayerKeys {
    let secret = derive_secret("warren test session 1", &[&link.0.to_be_bytes()]);
    LayerKeys::derive(&secret, direction)
}

impl World {
    fn new() -> Self {
        crate::session::record::watch::forget();
        let mut rng = Rng::from_seed([3; 32]);
        let mut service = End::service(rng.fork(), NETWORK, QUOTA_DEFAULT, Rate::default());
        service.handle_input(Now::default(), EndInput::Secrets(vec![secret(1)]));
        let mut world = Self {
            now: Time::from_micros(1_000_000),
            ends: [End::client(rng.fork(), QUOTA_DEFAULT), service],
            lanes: BTreeMap::new(),
            legs: BTreeMap::new(),
            next_leg: 1,
            next_lane: 0,
            book: LeaseBook::new(rng.fork()),
            leases: Vec::new(),
            effort: 0,
            refuse_leases: false,
            to_send: 0,
            sent: 0,
            echoed: 0,
            echo: BTreeMap::new(),
            events: Vec::new(),
            app: Vec::new(),
            last: Time::ZERO,
            pause: Duration::ZERO,
        };
        for n in 0..3 {
            world.add_gateway(n);
        }
        world.run(ms(200));
        world
    }

    fn clock(&self) -> Now {
        Now { time: self.now, wall: Wall::from_minutes(29_000_000) }
    }

    fn add_gateway(&mut self, n: u8) {
        let contact = Contact {
            id: RouterId([n + 1; 32]),
            link_key: [n; 32],
            address: address(n),
            expiry: Wall::from_minutes(30_000_000),
        };
        self.add_tunnel(LinkNo(SERVICE_LANES + u32::from(n)), Some(contact));
    }

    fn add_client_tunnel(&mut self) {
        let link = LinkNo(self.next_lane);
        self.next_lane += 1;
        self.add_tunnel(link, None);
    }

    fn add_tunnel(&mut self, link: LinkNo, gateway: Option<Contact>) {
        let forward = RelayForward::new(layers(link, Direction::Forward));
        let backward = RelayBackward::new(layers(link, Direction::Backward));
        let lane = Lane {
            hop: EndHop::new(forward, backward),
            egress: VecDeque::new(),
            forth: Flight::new(),
            back: Flight::new(),
            silent: false,
        };
        self.lanes.insert(link, lane);
        let layers = (
            OwnerForward::new(vec![layers(link, Direction::Forward)]),
            OwnerBackward::new(vec![layers(link, Direction::Backward)]),
        );
        let tunnel = (link, TunnelId(1));
        let route = Route::default();
        self.input(side(link), EndInput::Tunnel { tunnel, layers, route, gateway });
    }

    fn input(&mut self, side: usize, input: EndInput) {
        let now = self.clock();
        self.ends[side].handle_input(now, input);
    }

    fn drain(&mut self, side: usize) {
        while let Some(output) = self.ends[side].poll_output() {
            match output {
                EndOutput::Part { to, message } => {
                    if let (PartMessage::Cells { cells, .. }, Some(lane)) =
                        (message, self.lanes.get_mut(&to))
                    {
                        lane.egress.extend(cells);
                    }
                }
                EndOutput::Node(event) => self.node(side, event),
                EndOutput::App(event) => self.application(side, event),
            }
        }
    }

    fn node(&mut self, side: usize, event: EndEvent) {
        match &event {
            EndEvent::NeedTunnels { want } => {
                let have = self.lanes.keys().filter(|link| link.0 < SERVICE_LANES).count();
                for _ in have..*want {
                    self.add_client_tunnel();
                }
            }
            EndEvent::NeedDescriptor => {
                let leases = self.leases.clone();
                let offer = offer(&secret(1), leases, self.effort);
                self.input(side, EndInput::Descriptor(vec![offer]));
            }
            EndEvent::LeasesChanged(leases) => self.leases.clone_from(leases),
            EndEvent::TunnelFailed { tunnel } | EndEvent::TunnelFree { tunnel } => {
                self.close_tunnel(tunnel.0);
                if side == 0 {
                    self.add_client_tunnel();
                }
            }
            EndEvent::EffortChanged(_)
            | EndEvent::TunnelMute { .. }
            | EndEvent::Reached(_)
            | EndEvent::Answer { .. }
            | EndEvent::Block { .. }
            | EndEvent::Router { .. } => {}
        }
        self.events.push(event);
    }

    fn close_tunnel(&mut self, link: LinkNo) {
        self.lanes.remove(&link);
        let tunnel = (link, TunnelId(1));
        self.book.revoke(tunnel);
        self.input(side(link), EndInput::TunnelClosed { tunnel });
        let legs = self.legs.iter().filter(|(_, leg)| leg.ends.iter().any(|end| end.0 == link));
        let legs: Vec<_> = legs.map(|(id, _)| *id).collect();
        for id in legs {
            self.close_leg(id, None);
        }
    }

    fn close_leg(&mut self, id: TunnelId, by: Option<usize>) {
        let Some(leg) = self.legs.remove(&id) else { return };
        for (side, (link, splice)) in leg.ends.into_iter().enumerate() {
            if by != Some(side)
                && let Some(lane) = self.lanes.get_mut(&link)
            {
                let cells = leg.queues[1 - side].iter().copied().collect();
                lane.hop.handle_leg_cells(self.now, splice, cells);
                lane.hop.handle_command(self.now, EndHopCommand::CloseSplice { splice });
            }
        }
    }

    fn application(&mut self, side: usize, event: AppEvent) {
        match event {
            AppEvent::Data { stream, bytes } => {
                let len = bytes.len();
                if side == 0 {
                    for byte in bytes {
                        assert_eq!(byte, pattern(self.echoed));
                        self.echoed += 1;
                    }
                    self.pause = self.pause.max(self.now.since(self.last));
                    self.last = self.now;
                } else {
                    self.echo.entry(stream).or_default().extend(bytes);
                }
                self.input(side, EndInput::App(AppCommand::Consumed { stream, bytes: len }));
            }
            AppEvent::Incoming { stream, .. } => {
                self.input(side, EndInput::App(AppCommand::Accept { stream }));
            }
            event => self.app.push(event),
        }
    }

    fn feed(&mut self) {
        let stream = StreamNo(1);
        let len = self.ends[0].writable(stream).min(self.to_send - self.sent);
        if len > 0 {
            let bytes = (self.sent..self.sent + len).map(pattern).collect();
            self.sent += len;
            self.input(0, EndInput::App(AppCommand::Data { stream, bytes }));
        }
        for (stream, queue) in std::mem::take(&mut self.echo) {
            let mut queue = queue;
            let len = self.ends[1].writable(stream).min(queue.len());
            if len > 0 {
                let bytes = queue.drain(..len).collect();
                self.input(1, EndInput::App(AppCommand::Data { stream, bytes }));
            }
            self.echo.insert(stream, queue);
        }
    }

    /// One millisecond.
    fn step(&mut self) {
        self.now = self.now + ms(1);
        let now = self.clock();
        for side in 0..2 {
            if self.ends[side].poll_timeout().is_some_and(|at| at <= self.now) {
                self.ends[side].handle_timeout(now);
            }
            self.drain(side);
        }
        self.feed();
        for link in self.lanes.keys().copied().collect::<Vec<_>>() {
            self.step_lane(link);
        }
        self.carry_legs();
        for side in 0..2 {
            self.drain(side);
            let due = self.ends[side].poll_timeout();
            assert!(due.is_none_or(|at| at > self.now), "a timer that has passed");
        }
    }

    fn step_lane(&mut self, link: LinkNo) {
        let now = self.now;
        let Some(lane) = self.lanes.get_mut(&link) else { return };
        let (side, tunnel) = (side(link), TunnelId(1));
        let count = lane.egress.len().min(RATE);
        if count > 0 {
            lane.forth.push_back((now + LATENCY, lane.egress.drain(..count).collect()));
        }
        while let Some((_, cells)) = lane.forth.pop_front_if(|(at, _)| *at <= now) {
            for mut cell in cells.into_iter().filter(|_| !lane.silent) {
                lane.hop.handle_cell(now, &mut cell).unwrap();
            }
        }
        let (mut cells, mut cell) = (Vec::new(), [0; 1_024]);
        while cells.len() < RATE && lane.hop.has_cell() {
            assert!(lane.hop.poll_cell(now, &mut cell));
            cells.push(cell);
        }
        if !cells.is_empty() {
            lane.back.push_back((now + LATENCY, cells));
        }
        if lane.hop.poll_timeout().is_some_and(|at| at <= now) {
            lane.hop.handle_timeout(now);
        }
        let mut arrived = Vec::new();
        while let Some((_, cells)) = lane.back.pop_front_if(|(at, _)| *at <= now) {
            if !lane.silent {
                arrived.push(cells);
            }
        }
        let outputs: Vec<_> = std::iter::from_fn(|| lane.hop.poll_output()).collect();
        for cells in arrived {
            let message = PartMessage::Cells { tunnel, cells };
            self.input(side, EndInput::Part { from: link, message });
        }
        if count > 0 {
            let cells = u32::try_from(count).unwrap();
            let message = PartMessage::Drained { tunnel, splice: None, cells };
            self.input(side, EndInput::Part { from: link, message });
        }
        for output in outputs {
            match output {
                EndHopOutput::Node(event) => self.hop_event(link, event),
                EndHopOutput::Part { message, .. } => self.feed_leg(link, message),
            }
        }
    }

    fn hop_event(&mut self, link: LinkNo, event: EndHopEvent) {
        let now = self.now;
        let command = match event {
            EndHopEvent::Request(Clove::LeaseRequest { request, lease, rate }) => {
                let key = self.book.grant(now, lease, rate, (link, TunnelId(1)));
                EndHopCommand::Answer(match key.filter(|_| !self.refuse_leases) {
                    Some(splice_key) => Clove::LeaseGranted { request, splice_key },
                    None => Clove::LeaseRefused { request },
                })
            }
            EndHopEvent::Request(Clove::RecordGet { request, .. }) => {
                EndHopCommand::Answer(Clove::RecordAnswer {
                    request,
                    asked: 2,
                    answer: RecordAnswer::NotFound,
                })
            }
            EndHopEvent::Request(Clove::SpliceOpen { splice, sealed, .. }) => {
                let leg = (LinkNo(u32::MAX), TunnelId(1));
                let Ok(Some((gateway, _))) = self.book.open(now, leg, &sealed) else {
                    self.command(link, EndHopCommand::CloseSplice { splice });
                    return;
                };
                let id = TunnelId(self.next_leg);
                self.next_leg += 1;
                let leg = Leg {
                    ends: [(link, splice), (gateway, SpliceId(0))],
                    queues: [VecDeque::new(), VecDeque::new()],
                    credits: [LEG_WINDOW; 2],
                    attached: false,
                };
                self.legs.insert(id, leg);
                self.command(gateway, EndHopCommand::AcceptIncoming { leg: (LEG_LINK, id) });
                return;
            }
            EndHopEvent::Incoming { splice, leg: (_, id) } => {
                let leg = self.legs.get_mut(&id).unwrap();
                leg.ends[1].1 = splice;
                leg.attached = true;
                let (client, splice) = leg.ends[0];
                self.command(client, EndHopCommand::Attach { splice, leg: (LEG_LINK, id) });
                return;
            }
            EndHopEvent::SpliceGone { splice } => {
                let leg = self.legs.iter().find(|(_, leg)| leg.ends.contains(&(link, splice)));
                if let Some(id) = leg.map(|(id, _)| *id) {
                    self.close_leg(id, Some(side(link)));
                }
                return;
            }
            other => panic!("{other:?}"),
        };
        self.command(link, command);
    }

    fn command(&mut self, link: LinkNo, command: EndHopCommand) {
        if let Some(lane) = self.lanes.get_mut(&link) {
            lane.hop.handle_command(self.now, command);
        }
    }

    fn feed_leg(&mut self, link: LinkNo, message: PartMessage) {
        match message {
            PartMessage::Cells { tunnel, cells } => {
                if let Some(leg) = self.legs.get_mut(&tunnel) {
                    leg.queues[side(link)].extend(cells);
                }
            }
            PartMessage::Drained { tunnel, cells, .. } => {
                if let Some(leg) = self.legs.get_mut(&tunnel) {
                    leg.credits[1 - side(link)] += cells;
                }
            }
            PartMessage::SpliceCells { .. } | PartMessage::Spent { .. } => {
                panic!("for an end hop, or for a link")
            }
        }
    }

    fn carry_legs(&mut self) {
        for leg in self.legs.values_mut().filter(|leg| leg.attached) {
            for side in 0..2 {
                let count = leg.queues[side].len().min(RATE).min(leg.credits[side] as usize);
                let cells: Vec<_> = leg.queues[side].drain(..count).collect();
                if cells.is_empty() {
                    continue;
                }
                let drained = u32::try_from(count).unwrap();
                leg.credits[side] -= drained;
                let [(here, ours), (there, theirs)] = [leg.ends[side], leg.ends[1 - side]];
                if let Some(lane) = self.lanes.get_mut(&here) {
                    lane.hop.handle_drained(self.now, ours, drained);
                }
                if let Some(lane) = self.lanes.get_mut(&there) {
                    lane.hop.handle_leg_cells(self.now, theirs, cells);
                }
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.step();
        }
    }

    fn open(&mut self, bytes: usize) {
        self.to_send = bytes;
        self.last = self.now;
        let stream = StreamNo(1);
        self.input(0, EndInput::App(AppCommand::Open { stream, port: PORT }));
        self.feed();
    }

    fn run_all(&mut self, time: Duration) {
        let until = self.now + time;
        while self.echoed < self.to_send {
            assert!(self.now < until, "only {} of {}: {:?}", self.echoed, self.to_send, self.app);
            self.step();
        }
    }

    /// The client's tunnel that carries the session, and the gateway's.
    fn used(&self) -> [LinkNo; 2] {
        let (_, leg) = self.legs.iter().next_back().unwrap();
        leg.ends.map(|(link, _)| link)
    }
}

fn side(link: LinkNo) -> usize {
    usize::from(link.0 >= SERVICE_LANES)
}

#[test]
fn a_client_that_must_work_for_its_turn_gets_in() {
    let mut world = World::new();
    world.effort = 3_000;
    world.open(500);
    world.run_all(Duration::from_secs(5));
    assert_eq!(world.app, [AppEvent::Opened { stream: StreamNo(1) }]);
}

#[test]
fn a_service_gets_its_leases_and_serves_a_client() {
    let mut world = World::new();
    assert_eq!(world.leases.len(), 3);
    let start = world.now;
    world.open(500);
    world.run_all(Duration::from_secs(5));
    // Client's lane, leg, service's lane, and back: four latencies and the steps of a millisecond.
    assert!(world.now.since(start) < ms(100), "{:?}", world.now.since(start));
    assert_eq!(world.app, [AppEvent::Opened { stream: StreamNo(1) }]);
}

#[test]
fn four_mebibytes_cross_real_tunnels() {
    let mut world = World::new();
    world.open(4 * 1024 * 1024);
    world.run_all(Duration::from_secs(30));
}

#[test]
fn any_tunnel_may_die_in_any_way() {
    for silent in [false, true] {
        for side in 0..2 {
            let mut world = World::new();
            world.open(24 * 1024 * 1024);
            world.run(ms(1_500));
            assert!(world.echoed < world.to_send, "over too soon");
            let dead = world.used()[side];
            world.pause = Duration::ZERO;
            if silent {
                world.lanes.get_mut(&dead).unwrap().silent = true;
            } else {
                world.close_tunnel(dead);
            }
            world.run_all(Duration::from_secs(30));
            assert!(world.pause <= ms(3_000), "{silent} {side}: {:?}", world.pause);
            assert!(world.app.len() == 1, "{:?}", world.app);
        }
    }
}

#[test]
fn a_service_finds_out_which_of_its_tunnels_is_silent() {
    let mut world = World::new();
    world.open(40 * 1024 * 1024);
    world.run(ms(1_500));
    let mute = |world: &World| -> Vec<(LinkNo, bool)> {
        let all = world.events.iter().filter_map(|event| match event {
            EndEvent::TunnelMute { tunnel, mute } => Some((tunnel.0, *mute)),
            _ => None,
        });
        all.collect()
    };
    assert_eq!(mute(&world), []);
    let dead = world.used()[1];
    world.lanes.get_mut(&dead).unwrap().silent = true;
    world.run(ms(1_200));
    assert_eq!(mute(&world), [(dead, true)]);
}

#[test]
fn a_retired_tunnel_is_left_and_given_back() {
    let mut world = World::new();
    world.open(24 * 1024 * 1024);
    world.run(ms(1_500));
    assert!(world.echoed < world.to_send, "over too soon");
    let [old, _] = world.used();
    world.pause = Duration::ZERO;
    world.input(0, EndInput::RetireTunnel { tunnel: (old, TunnelId(1)) });
    world.run(ms(500));
    assert!(!world.lanes.contains_key(&old));
    assert_ne!(world.used()[0], old);
    world.run_all(Duration::from_secs(30));
    assert!(world.pause < ms(400), "{:?}", world.pause);
}

#[test]
fn leases_follow_their_tunnels() {
    let mut world = World::new();
    let retired = LinkNo(SERVICE_LANES);
    world.input(1, EndInput::RetireTunnel { tunnel: (retired, TunnelId(1)) });
    world.run(ms(10));
    assert_eq!(world.leases.len(), 2);
    assert!(!world.lanes.contains_key(&retired), "nobody uses it");
    world.close_tunnel(LinkNo(SERVICE_LANES + 1));
    world.run(ms(10));
    assert_eq!(world.leases.len(), 1);
    world.refuse_leases = true;
    world.add_gateway(7);
    world.run(ms(100));
    assert_eq!(world.leases.len(), 1);
    assert!(!world.lanes.contains_key(&LinkNo(SERVICE_LANES + 7)), "refused: closed");
}

#[test]
fn requests_wait_for_a_tunnel_and_are_answered_once() {
    let mut world = World::new();
    let get = |request| EndInput::Request {
        tunnel: None,
        clove: Clove::RecordGet { request, key: Key([1; 32]) },
    };
    world.input(0, get(5));
    world.run(ms(200));
    let answers = |world: &World| -> Vec<(u32, bool)> {
        let answers = world.events.iter().filter_map(|event| match event {
            EndEvent::Answer { request, answer, .. } => Some((*request, answer.is_some())),
            _ => None,
        });
        answers.collect()
    };
    assert_eq!(answers(&world), [(5, true)]);
    world.input(0, get(6));
    world.run(ms(2));
    world.close_tunnel(LinkNo(0));
    world.run(ms(200));
    assert_eq!(answers(&world), [(5, true), (6, false)]);
}
