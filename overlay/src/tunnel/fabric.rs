//! A small network in memory for the tests: owners and hops, links without wires.
//!
//! Lives here: carrying control messages between `Transit` and `Pools` machines with 10 ms a way,
//! and cells along open lanes at once. Does not live here: credits, frames, dialling rules.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    layers::Layers,
    pools::{Pools, PoolsConfig, PoolsInput, PoolsOutput},
    testkit::{Router, WALL},
    transit::{Transit, TransitConfig, TransitInput, TransitOutput},
};
use crate::{
    id::{EndNo, LinkNo, RouterId, TunnelId},
    plane::{CellBody, Lane, LinkCommand},
    rng::Rng,
    time::{Now, Time},
    tunnel::build::OwnerLayers,
    wire::{LinkMessage, RouterDescriptor},
};

const WAY: Duration = Duration::from_millis(10);

/// How a router misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Honest,
    /// Takes everything, says nothing.
    Silent,
    /// Cannot be dialled, and its links are down.
    Dead,
    /// Refuses all builds before opening them.
    Loaded,
}

/// What an `End` holds.
pub(super) struct Held {
    pub(super) end: EndNo,
    pub(super) layers: Box<OwnerLayers>,
    pub(super) gateway: RouterId,
    pub(super) at: Time,
}

#[derive(Debug)]
enum Event {
    Message(usize, LinkNo, LinkMessage),
    Connected { of: Machine, node: usize, ask: u64, link: LinkNo, tunnel: TunnelId },
    Unreachable { of: Machine, node: usize, ask: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Machine {
    Transit,
    Pools,
}

/// Node 0 is the owner; the others are hops. Links are numbered by the node at the far side.
pub(super) struct Fabric {
    pub(super) now: Time,
    pub(super) pools: Pools,
    pub(super) transits: Vec<Transit>,
    pub(super) view: Vec<Arc<RouterDescriptor>>,
    pub(super) moods: Vec<Mood>,
    lanes: BTreeMap<(usize, LinkNo, TunnelId), Box<Lane>>,
    numbers: BTreeMap<(usize, LinkNo), u32>,
    events: BTreeMap<(Time, u64), Event>,
    sequence: u64,
    pub(super) held: BTreeMap<(LinkNo, TunnelId), Held>,
    pub(super) log: Vec<(Time, PoolsOutput)>,
    pub(super) dials: usize,
}

impl Fabric {
    pub(super) fn new(routers: Vec<Router>, configure: impl FnOnce(&mut PoolsConfig)) -> Self {
        let mut rng = Rng::from_seed([77; 32]);
        let mut config = PoolsConfig::new(RouterId([0; 32]));
        configure(&mut config);
        let pools = Pools::new(config, Layers::new([]), rng.fork());
        let view: Vec<_> = routers.iter().map(|router| Arc::clone(&router.descriptor)).collect();
        let count = routers.len() + 1;
        // Node 0 has a Transit too, so that numbers are indices; nobody builds through it.
        let transits = std::iter::once(Router::new(250))
            .chain(routers)
            .map(|router| Transit::new(TransitConfig::default(), router.keys, rng.fork()))
            .collect();
        Self {
            now: Time::ZERO,
            pools,
            transits,
            view,
            moods: vec![Mood::Honest; count],
            lanes: BTreeMap::new(),
            numbers: BTreeMap::new(),
            events: BTreeMap::new(),
            sequence: 0,
            held: BTreeMap::new(),
            log: Vec::new(),
            dials: 0,
        }
    }

    pub(super) fn start(&mut self) {
        self.input(PoolsInput::View(self.view.clone()));
    }

    pub(super) fn clock(&self) -> Now {
        let minutes = u32::try_from(self.now.as_micros() / 60_000_000).unwrap();
        Now { time: self.now, wall: WALL.plus(minutes) }
    }

    pub(super) fn input(&mut self, input: PoolsInput) {
        let now = self.clock();
        self.pools.handle_input(now, input);
        self.drain();
    }

    pub(super) fn node_of(&self, id: RouterId) -> usize {
        1 + self.view.iter().position(|router| router.id() == id).unwrap()
    }

    pub(super) fn mood(&mut self, node: usize, mood: Mood) {
        self.moods[node] = mood;
        let now = self.clock();
        self.transits[node].handle_input(now, TransitInput::Loaded(mood == Mood::Loaded));
        if mood == Mood::Dead {
            for other in 0..self.transits.len() {
                let link = LinkNo(u32::try_from(node).unwrap());
                self.lanes.retain(|(at, over, _), _| *at != node && (*at, *over) != (other, link));
                self.transits[other].handle_input(now, TransitInput::LinkDown { link });
                if other == 0 {
                    self.pools.handle_input(now, PoolsInput::LinkDown { link });
                }
            }
            self.drain();
        }
    }

    /// Lets time pass, event by event and timer by timer.
    pub(super) fn run(&mut self, span: Duration) {
        let until = self.now + span;
        let mut steps = 0;
        loop {
            steps += 1;
            assert!(steps < 2_000_000, "time stands still");
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            let timers = self.transits.iter().filter_map(Transit::poll_timeout);
            let timer = timers.chain(self.pools.poll_timeout()).min();
            let Some(next) = event.into_iter().chain(timer).min().filter(|at| *at <= until) else {
                break;
            };
            self.now = self.now.max(next);
            while let Some(entry) = self.events.first_entry()
                && entry.key().0 <= self.now
            {
                let event = entry.remove();
                self.event(event);
            }
            let now = self.clock();
            self.pools.handle_timeout(now);
            for transit in &mut self.transits {
                transit.handle_timeout(now);
            }
            self.drain();
        }
        self.now = until;
    }

    fn later(&mut self, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + WAY, self.sequence), event);
    }

    fn event(&mut self, event: Event) {
        let now = self.clock();
        match event {
            Event::Message(node, link, message) => self.message(now, node, link, message),
            Event::Connected { of: Machine::Pools, ask, link, tunnel, .. } => {
                self.pools.handle_input(now, PoolsInput::Connected { ask, link, tunnel });
            }
            Event::Connected { of: Machine::Transit, node, ask, link, tunnel } => {
                self.transits[node]
                    .handle_input(now, TransitInput::Connected { ask, link, tunnel });
            }
            Event::Unreachable { of: Machine::Pools, ask, .. } => {
                self.pools.handle_input(now, PoolsInput::Unreachable { ask });
            }
            Event::Unreachable { of: Machine::Transit, node, ask } => {
                self.transits[node].handle_input(now, TransitInput::Unreachable { ask });
            }
        }
        self.drain();
    }

    fn message(&mut self, now: Now, node: usize, link: LinkNo, message: LinkMessage) {
        if matches!(self.moods[node], Mood::Dead | Mood::Silent) {
            return;
        }
        match message {
            LinkMessage::Build { tunnel, message } => {
                self.transits[node]
                    .handle_input(now, TransitInput::Build { link, tunnel, message });
            }
            LinkMessage::BuildReply { tunnel, reply } => {
                if node == 0 {
                    self.pools.handle_input(now, PoolsInput::Reply { link, tunnel, reply });
                } else {
                    self.transits[node]
                        .handle_input(now, TransitInput::Reply { link, tunnel, reply });
                }
            }
            LinkMessage::Teardown { tunnel } => {
                self.lanes.remove(&(node, link, tunnel));
                if node == 0 {
                    self.pools.handle_input(now, PoolsInput::LaneClosed { link, tunnel });
                } else {
                    self.transits[node]
                        .handle_input(now, TransitInput::LaneClosed { link, tunnel });
                }
            }
            _ => {}
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.pools.poll_output() {
            match output {
                PoolsOutput::Connect { ask, hop } => {
                    let to = self.node_of(hop.id());
                    self.dial(Machine::Pools, 0, ask, Some(to));
                }
                PoolsOutput::Link { link, command } => self.command(0, link, command),
                PoolsOutput::Ready { end, link, tunnel, layers, path } => {
                    let lane = self.lanes.get(&(0, link, tunnel)).map(|lane| &**lane);
                    assert!(matches!(lane, Some(Lane::ToEnd { end: named }) if *named == end));
                    let gateway = path.last().unwrap().id();
                    let held = Held { end, layers, gateway, at: self.now };
                    assert!(self.held.insert((link, tunnel), held).is_none());
                }
                PoolsOutput::Lost { end, link, tunnel } => {
                    assert_eq!(self.held.remove(&(link, tunnel)).unwrap().end, end);
                    self.log.push((self.now, PoolsOutput::Lost { end, link, tunnel }));
                }
                other => self.log.push((self.now, other)),
            }
        }
        for node in 0..self.transits.len() {
            while let Some(output) = self.transits[node].poll_output() {
                match output {
                    TransitOutput::Connect { ask, contact, .. } => {
                        let found =
                            self.view.iter().position(|router| router.contact() == Some(contact));
                        self.dial(Machine::Transit, node, ask, found.map(|at| at + 1));
                    }
                    TransitOutput::Link { link, command } => self.command(node, link, command),
                }
            }
        }
    }

    fn dial(&mut self, of: Machine, node: usize, ask: u64, to: Option<usize>) {
        self.dials += 1;
        let to = to.filter(|to| self.moods[*to] != Mood::Dead);
        let Some(to) = to else { return self.later(Event::Unreachable { of, node, ask }) };
        let link = LinkNo(u32::try_from(to).unwrap());
        let number = self.numbers.entry((node, link)).or_default();
        *number += 1;
        let responder = if node > to { 0x8000_0000 } else { 0 };
        let tunnel = TunnelId(*number | responder);
        self.later(Event::Connected { of, node, ask, link, tunnel });
    }

    fn command(&mut self, node: usize, link: LinkNo, command: LinkCommand) {
        let to = usize::try_from(link.0).unwrap();
        let back = LinkNo(u32::try_from(node).unwrap());
        if self.moods[to] == Mood::Dead {
            return;
        }
        match command {
            LinkCommand::Send(message) => self.later(Event::Message(to, back, message)),
            LinkCommand::Open { tunnel, lane } => {
                self.lanes.insert((node, link, tunnel), lane);
            }
            LinkCommand::Close { tunnel, tell } => {
                self.lanes.remove(&(node, link, tunnel));
                if tell {
                    self.later(Event::Message(to, back, LinkMessage::Teardown { tunnel }));
                }
            }
            other => panic!("{other:?}"),
        }
    }

    /// Sends one empty cell from the owner; gives the router whose end hop took it.
    pub(super) fn deliver(&mut self, at: (LinkNo, TunnelId)) -> Option<usize> {
        let mut cell: CellBody = [0; 1_024];
        self.held.get_mut(&at)?.layers.forward.originate(&mut cell);
        let (mut node, mut link, mut tunnel) = (0, at.0, at.1);
        for _ in 0..5 {
            let back = LinkNo(u32::try_from(node).unwrap());
            node = usize::try_from(link.0).unwrap();
            let now = self.now;
            match &mut **self.lanes.get_mut(&(node, back, tunnel))? {
                Lane::Transit { half, to, tunnel: onward } => {
                    half.relay(&mut cell);
                    (link, tunnel) = (*to, *onward);
                }
                Lane::EndHop(end_hop) => {
                    return end_hop.handle_cell(now, &mut cell).is_ok().then_some(node);
                }
                _ => return None,
            }
        }
        None
    }

    /// Lanes open anywhere but at the owner.
    pub(super) fn hop_lanes(&self) -> usize {
        self.lanes.keys().filter(|(node, ..)| *node != 0).count()
    }

    pub(super) fn moody(&mut self, mood: Mood, count: usize) -> BTreeSet<usize> {
        let guards: Vec<_> = self.pools.guards().list().iter().map(|guard| guard.id).collect();
        let nodes: BTreeSet<usize> = (1..self.transits.len())
            .filter(|node| !guards.contains(&self.view[node - 1].id()))
            .take(count)
            .collect();
        for node in &nodes {
            self.mood(*node, mood);
        }
        nodes
    }
}
