//! A network of the ring's production machines alone: they join, find neighbours, gossip and ask.
//!
//! Lives here: whose message comes to whom, and when. Does not live here: links, tunnels and stores, which it
//! does without: a message takes always as long, and nothing is kept. With it an hour of some hundreds of
//! routers costs seconds.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use warren_overlay::{
    crypto::{kem::DhSecret, puzzle::Difficulty, sign::IdentityKey, suite},
    id::{LinkNo, RouterId},
    ring::{
        Held, Input, Output, Ring, RingConfig, RingMessage,
        admission::{Mode, Network, NetworkName, ProofWork},
    },
    rng::Rng,
    time::{Now, Time, Wall},
    wire::{DESCRIPTOR_MINUTES_MAX, DescriptorFields, LinkMessage, RouterDescriptor},
};

use crate::{queue::Queue, streams::Streams, world::address};

/// One way.
const WAY: Duration = Duration::from_millis(50);
/// Until a link stands.
const DIAL: Duration = Duration::from_millis(150);
/// The first routers, which all others know.
const SEEDS: Seat = 3;
/// When it all begins.
pub(crate) const EPOCH: Wall = Wall::from_minutes(1_000_000);

/// A router's number.
pub(crate) type Seat = u32;

enum Event {
    Input(Seat, Box<Input>),
    Wake(Seat),
    Dial(Seat, Seat),
    Deliver(Seat, LinkNo, Box<LinkMessage>),
}

/// A router that is nothing but its place on the ring.
struct Member {
    ring: Ring,
    descriptor: Arc<RouterDescriptor>,
    /// Where each link leads, its number there, and whether this side needs it.
    links: BTreeMap<LinkNo, (Seat, LinkNo, bool)>,
    last_link: u32,
    wake: Option<Time>,
    hops: Vec<Seat>,
}

/// The network.
pub(crate) struct Rings {
    members: Vec<Member>,
    seats: BTreeMap<RouterId, Seat>,
    queue: Queue<Event>,
    now: Time,
    pub(crate) events: u64,
}

/// The network that all these routers are of.
pub(crate) fn network() -> Network {
    let name = NetworkName::Named("rings".into());
    let (difficulty, suite) = (Difficulty::NONE, suite::number());
    Network { name, mode: Mode::Proof, difficulty, suite, local: true }
}

/// How a router with keys of its own describes itself, where it is and when.
pub(crate) fn descriptor(
    network: &Network,
    keys: &mut Rng,
    at: SocketAddr,
    published: Wall,
) -> Arc<RouterDescriptor> {
    let identity = IdentityKey::generate(keys);
    let admission = ProofWork::new(network, identity.id(), 0)
        .and_then(|mut work| work.step())
        .expect("difficulty 0 takes the first nonce");
    let fields = DescriptorFields {
        network: network.id(),
        link_key: DhSecret::generate(keys).public(),
        tunnel_dh: keys.bytes(),
        tunnel_kem: Arc::new(keys.bytes()),
        addresses: vec![at.into()],
        capabilities: 0,
        bandwidth_kbps: 10_000,
        family: None,
        admission,
        vouches: Vec::new(),
        published,
        expiry: published.plus(DESCRIPTOR_MINUTES_MAX),
    };
    Arc::new(RouterDescriptor::sign(fields, &identity).expect("a descriptor within its bounds"))
}

impl Rings {
    /// So many routers, each starting `apart` after the one before; each wants `degree` neighbours and
    /// remembers `known` others.
    pub(crate) fn new(
        routers: Seat,
        (degree, known): (usize, usize),
        apart: Duration,
        streams: Streams,
    ) -> Self {
        let network = network();
        let describe = |seat: Seat| {
            descriptor(&network, &mut streams.of("keys", seat.into()), address(seat), EPOCH)
        };
        let all: Vec<_> = (0..routers).map(describe).collect();
        let first = |seat: Seat| (0..SEEDS.min(seat)).collect();
        Self::of(&network, &all, &first, (degree, known), apart, streams)
    }

    /// The same of routers that describe themselves so; `seeds` says whom each knows when it starts.
    pub(crate) fn of(
        network: &Network,
        routers: &[Arc<RouterDescriptor>],
        seeds: &dyn Fn(Seat) -> Vec<Seat>,
        (degree, known): (usize, usize),
        apart: Duration,
        streams: Streams,
    ) -> Self {
        let mut this = Self {
            members: Vec::new(),
            seats: BTreeMap::new(),
            queue: Queue::new(),
            now: Time::ZERO,
            events: 0,
        };
        for (seat, own) in (0..).zip(routers) {
            let own = Arc::clone(own);
            let config = RingConfig {
                network: network.clone(),
                own: Arc::clone(&own),
                degree,
                known_max: known,
            };
            let known = seeds(seat).into_iter().filter(|it| *it != seat);
            let seeds = known.filter_map(|it| routers.get(it as usize).cloned()).collect();
            let start = Input::Start { seeds, cached: Vec::new() };
            this.queue.push(Time::ZERO + apart * seat, Event::Input(seat, Box::new(start)));
            this.seats.insert(own.id(), seat);
            this.members.push(Member {
                ring: Ring::new(config, streams.of("ring", seat.into())),
                descriptor: own,
                links: BTreeMap::new(),
                last_link: 0,
                wake: None,
                hops: Vec::new(),
            });
        }
        this
    }

    fn clock(&self) -> Now {
        let minutes = u32::try_from(self.now.as_micros() / 60_000_000).unwrap_or(u32::MAX);
        Now { time: self.now, wall: EPOCH.plus(minutes) }
    }

    pub(crate) fn descriptor(&self, seat: Seat) -> Option<&Arc<RouterDescriptor>> {
        self.members.get(seat as usize).map(|it| &it.descriptor)
    }

    /// Who a descriptor is of.
    pub(crate) fn seat(&self, id: &RouterId) -> Option<Seat> {
        self.seats.get(id).copied()
    }

    /// Whose neighbour a router counts itself.
    pub(crate) fn neighbours(&self, seat: Seat) -> Vec<Seat> {
        let around =
            self.members.get(seat as usize).into_iter().flat_map(|it| it.ring.neighbours());
        around.filter_map(|it| self.seat(&it.id())).collect()
    }

    /// Whom a router would make tunnels of.
    pub(crate) fn hops(&self, seat: Seat) -> &[Seat] {
        self.members.get(seat as usize).map_or(&[], |it| &it.hops)
    }

    /// Goes on until `end`; `pass` is asked of everything that a ring says, from whom and to whom, whether
    /// it is sent.
    pub(crate) fn run(
        &mut self,
        end: Time,
        pass: &mut dyn FnMut(Seat, Seat, &RingMessage) -> bool,
    ) {
        while let Some((now, event)) = self.queue.pop(end) {
            self.now = now;
            self.events += 1;
            match event {
                Event::Input(seat, input) => self.input(seat, *input, pass),
                Event::Wake(seat) => {
                    let now = self.clock();
                    if let Some(member) = self.members.get_mut(seat as usize) {
                        member.wake = None;
                        member.ring.handle_timeout(now);
                    }
                    self.drain(seat, pass);
                }
                Event::Dial(from, to) => self.connect(from, to),
                Event::Deliver(seat, link, message) => match *message {
                    LinkMessage::Ring(message) => {
                        self.input(seat, Input::Message { link, message }, pass);
                    }
                    LinkMessage::Descriptor(descriptor) => {
                        self.input(seat, Input::Descriptor { link, descriptor }, pass);
                    }
                    _ => {}
                },
            }
        }
        self.now = end;
    }

    /// Has one router open a link to another, whatever its ring thinks.
    pub(crate) fn dial(&mut self, from: Seat, to: Seat) {
        self.queue.push(self.now + DIAL, Event::Dial(from, to));
    }

    /// Whether two routers have a link.
    pub(crate) fn are_linked(&self, a: Seat, b: Seat) -> bool {
        self.members.get(a as usize).is_some_and(|it| it.links.values().any(|end| end.0 == b))
    }

    /// Has one router say something to another over whatever link they have, whatever its ring thinks.
    pub(crate) fn say(&mut self, from: Seat, to: Seat, message: RingMessage) {
        let Some(member) = self.members.get(from as usize) else { return };
        let Some((_, far, _)) = member.links.values().find(|it| it.0 == to) else { return };
        let event = Event::Deliver(to, *far, Box::new(LinkMessage::Ring(message)));
        self.queue.push(self.now + WAY, event);
    }

    fn input(
        &mut self,
        seat: Seat,
        input: Input,
        pass: &mut dyn FnMut(Seat, Seat, &RingMessage) -> bool,
    ) {
        let now = self.clock();
        let Some(member) = self.members.get_mut(seat as usize) else { return };
        member.ring.handle_input(now, input);
        self.drain(seat, pass);
    }

    fn connect(&mut self, from: Seat, to: Seat) {
        let mut end = |seat: Seat| {
            let member = self.members.get_mut(seat as usize)?;
            member.last_link += 1;
            Some((LinkNo(member.last_link), Arc::clone(&member.descriptor)))
        };
        let (Some(near), Some(far)) = (end(from), end(to)) else { return };
        for (seat, (link, _), other, (other_link, peer)) in
            [(from, &near, to, &far), (to, &far, from, &near)]
        {
            let Some(member) = self.members.get_mut(seat as usize) else { return };
            member.links.insert(*link, (other, *other_link, false));
            let remote = address(other).into();
            let input = Input::LinkUp { link: *link, peer: Arc::clone(peer), remote };
            self.queue.push(self.now, Event::Input(seat, Box::new(input)));
        }
    }

    fn close(&mut self, seat: Seat, link: LinkNo) {
        let links = |this: &mut Self, seat: Seat, link| {
            this.members.get_mut(seat as usize).and_then(|it| it.links.remove(&link))
        };
        let Some((other, far, _)) = links(self, seat, link) else { return };
        let _ = links(self, other, far);
        for (seat, link) in [(seat, link), (other, far)] {
            self.queue.push(self.now, Event::Input(seat, Box::new(Input::LinkDown { link })));
        }
    }

    fn need(&mut self, seat: Seat, link: LinkNo, needed: bool) -> Option<(Seat, LinkNo, bool)> {
        let end = self.members.get_mut(seat as usize)?.links.get_mut(&link)?;
        end.2 = needed;
        Some(*end)
    }

    fn drain(&mut self, seat: Seat, pass: &mut dyn FnMut(Seat, Seat, &RingMessage) -> bool) {
        let now = self.clock();
        while let Some(output) =
            self.members.get_mut(seat as usize).and_then(|it| it.ring.poll_output())
        {
            match output {
                Output::Connect(peer) => {
                    if let Some(to) = self.seat(&peer.id()) {
                        self.queue.push(self.now + DIAL, Event::Dial(seat, to));
                    }
                }
                Output::Send { link, message } => self.send(seat, link, message, pass),
                Output::Keep { link } => _ = self.need(seat, link, true),
                Output::Release { link } => {
                    let end = self.need(seat, link, false);
                    let other = end.and_then(|(to, far, _)| {
                        self.members.get(to as usize)?.links.get(&far).copied()
                    });
                    if other.is_some_and(|it| !it.2) {
                        self.close(seat, link);
                    }
                }
                Output::CloseLink { link } => self.close(seat, link),
                Output::Store { ticket: Some(ticket), .. } => {
                    let held = Input::Held { ticket, held: Held::Missing };
                    if let Some(member) = self.members.get_mut(seat as usize) {
                        member.ring.handle_input(now, held);
                    }
                }
                Output::View(view) => {
                    let hops = view.iter().filter_map(|it| self.seat(&it.id())).collect();
                    if let Some(member) = self.members.get_mut(seat as usize) {
                        member.hops = hops;
                    }
                }
                Output::Store { ticket: None, .. }
                | Output::Answer { .. }
                | Output::Router { .. }
                | Output::Pushed { .. }
                | Output::Repair { .. }
                | Output::Neighbourhood(_)
                | Output::HandOver
                | Output::Left => {}
            }
        }
        let Some(member) = self.members.get_mut(seat as usize) else { return };
        let due = member.ring.poll_timeout().map(|due| due.max(self.now));
        if let Some(due) = due.filter(|due| member.wake.is_none_or(|wake| *due < wake)) {
            member.wake = Some(due);
            self.queue.push(due, Event::Wake(seat));
        }
    }

    fn send(
        &mut self,
        seat: Seat,
        link: LinkNo,
        message: LinkMessage,
        pass: &mut dyn FnMut(Seat, Seat, &RingMessage) -> bool,
    ) {
        let member = self.members.get(seat as usize);
        let Some((to, far, _)) = member.and_then(|it| it.links.get(&link)).copied() else { return };
        if let LinkMessage::Ring(said) = &message
            && !pass(seat, to, said)
        {
            return;
        }
        self.queue.push(self.now + WAY, Event::Deliver(to, far, Box::new(message)));
    }
}

#[cfg(test)]
mod tests;
