//! Routers, handshakes and link pairs without a network.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::{
    crypto::{kem::DhSecret, sign::IdentityKey},
    id::{LinkNo, NetworkId, TunnelId},
    link::{
        CreditQuota, Established, Handshake, HandshakeOutput, LinkIdentity, LinkInput, LinkIo,
        LinkOutput, LinkSettings, ReplayFilter,
    },
    plane::{CellBody, CloseReason, LinkCommand, LinkEvent, Part, PartMessage},
    rng::{Rng, SharedRng},
    time::{Now, Time, Wall},
    wire::{Admission, Contact, DescriptorFields, RouterDescriptor},
};

pub(super) const NETWORK: NetworkId = NetworkId([9; 32]);
pub(super) const WALL: Wall = Wall::from_minutes(30_000_000);
pub(super) const START: Time = Time::from_micros(1_000_000);

pub(super) fn at(time: Time) -> Now {
    Now { time, wall: WALL }
}

pub(super) fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A router of `network` whose descriptor names `link_key`, or its own if none.
pub(super) fn router_with(
    seed: u8,
    network: NetworkId,
    published: Wall,
    link_key: Option<[u8; 32]>,
) -> LinkIdentity {
    let mut rng = Rng::from_seed([seed; 32]);
    let key = IdentityKey::generate(&mut rng);
    let secret = DhSecret::generate(&mut rng);
    let fields = DescriptorFields {
        network,
        link_key: link_key.unwrap_or(secret.public()),
        tunnel_dh: rng.bytes(),
        tunnel_kem: Arc::new(rng.bytes()),
        addresses: vec![SocketAddr::from(([127, seed, 0, 1], 9000)).into()],
        capabilities: 0,
        bandwidth_kbps: 8_000,
        family: None,
        admission: Admission { nonce: 7, output: rng.bytes() },
        vouches: Vec::new(),
        published,
        expiry: published.plus(1_000),
    };
    LinkIdentity {
        network,
        descriptor: Arc::new(RouterDescriptor::sign(fields, &key).unwrap()),
        secret: Arc::new(secret),
        replay: Arc::new(Mutex::new(ReplayFilter::new(&mut rng))),
    }
}

pub(super) fn router(seed: u8) -> LinkIdentity {
    router_with(seed, NETWORK, WALL, None)
}

/// What a machine has said so far.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) sent: Vec<u8>,
    pub(super) established: Option<Box<Established>>,
    pub(super) failed: bool,
    pub(super) closed: bool,
}

pub(super) fn drain(machine: &mut Handshake, said: &mut Said) {
    while let Some(output) = machine.poll_output() {
        match output {
            HandshakeOutput::Transmit(bytes) => said.sent.extend(bytes),
            HandshakeOutput::Established(it) => said.established = Some(it),
            HandshakeOutput::Failed => said.failed = true,
            HandshakeOutput::Close => said.closed = true,
        }
    }
}

pub(super) fn dial(from: &LinkIdentity, to: Contact, seed: u8) -> (Handshake, Said) {
    let rng = Rng::from_seed([seed; 32]);
    let mut machine = Handshake::initiate(at(START), from.clone(), to, rng);
    let mut said = Said::default();
    drain(&mut machine, &mut said);
    (machine, said)
}

pub(super) fn accept(identity: &LinkIdentity, seed: u8) -> Handshake {
    Handshake::accept(at(START), identity.clone(), Rng::from_seed([seed; 32]))
}

/// Gives `bytes` to a machine in pieces of `chunk` bytes.
pub(super) fn feed(machine: &mut Handshake, said: &mut Said, bytes: &[u8], chunk: usize) {
    for piece in bytes.chunks(chunk) {
        machine.handle_input(at(START + millis(20)), piece);
        drain(machine, said);
    }
}

/// A whole handshake: what each side said, and its messages 1, 2, 3.
pub(super) fn shake(
    initiator: &LinkIdentity,
    responder: &LinkIdentity,
    dialled: Contact,
    chunk: usize,
) -> (Said, Said) {
    let (mut a, mut a_said) = dial(initiator, dialled, 101);
    let mut b = accept(responder, 102);
    let mut b_said = Said::default();
    feed(&mut b, &mut b_said, &a_said.sent.clone(), chunk);
    let first = a_said.sent.len();
    feed(&mut a, &mut a_said, &b_said.sent.clone(), chunk);
    feed(&mut b, &mut b_said, &a_said.sent[first..], chunk);
    (a_said, b_said)
}

/// Two established links, joined in memory.
pub(super) struct Pair {
    pub(super) a: Side,
    pub(super) b: Side,
    pub(super) now: Time,
}

/// One link, and what it has said to its surroundings.
pub(super) struct Side {
    pub(super) io: LinkIo,
    pub(super) events: Vec<LinkEvent>,
    pub(super) parts: VecDeque<(Part, PartMessage)>,
    /// Bytes written, not yet read by the other.
    pub(super) wire: Vec<u8>,
}

/// Settings of a router that may hold so many bytes.
pub(super) fn limited_to(bytes: u64) -> LinkSettings {
    let pads = SharedRng::new(Rng::from_seed([7; 32]));
    LinkSettings::new(Arc::new(CreditQuota::new(bytes)), pads)
}

pub(super) fn settings() -> LinkSettings {
    limited_to(1 << 30)
}

pub(super) fn pair_with(a: LinkSettings, b: LinkSettings) -> Pair {
    let (one, two) = (router(1), router(2));
    let (a_said, b_said) = shake(&one, &two, two.descriptor.contact().unwrap(), 4_096);
    let side = |link, said: Said, settings| Side {
        io: LinkIo::new(START, LinkNo(link), *said.established.unwrap(), settings),
        events: Vec::new(),
        parts: VecDeque::new(),
        wire: Vec::new(),
    };
    Pair { a: side(1, a_said, a), b: side(2, b_said, b), now: START }
}

pub(super) fn pair() -> Pair {
    pair_with(settings(), settings())
}

impl Side {
    pub(super) fn input(&mut self, now: Time, input: LinkInput<'_>) {
        self.io.handle_input(now, input);
        self.drain();
    }

    pub(super) fn command(&mut self, now: Time, command: LinkCommand) {
        self.input(now, LinkInput::Command(command));
    }

    pub(super) fn part(&mut self, now: Time, message: PartMessage) {
        self.input(now, LinkInput::Part { from: Part::Link(LinkNo(99)), message });
    }

    pub(super) fn drain(&mut self) {
        while let Some(output) = self.io.poll_output() {
            match output {
                LinkOutput::Node(event) => self.events.push(event),
                LinkOutput::Part { to, message } => self.parts.push_back((to, message)),
            }
        }
    }

    /// Writes all that may be written; says how many bytes.
    pub(super) fn write(&mut self, now: Time) -> usize {
        let before = self.wire.len();
        while self.io.poll_transmit(now, &mut self.wire) > 0 {}
        self.drain();
        self.wire.len() - before
    }

    pub(super) fn closed(&self) -> Option<CloseReason> {
        self.events.iter().find_map(|event| match event {
            LinkEvent::Closed(reason) => Some(*reason),
            _ => None,
        })
    }

    pub(super) fn lane_closed(&self, tunnel: TunnelId) -> bool {
        self.events
            .iter()
            .any(|event| matches!(event, LinkEvent::LaneClosed { tunnel: t } if *t == tunnel))
    }
}

impl Pair {
    /// Lets bytes flow both ways until nobody has any to send.
    pub(super) fn settle(&mut self) {
        loop {
            let moved = self.a.write(self.now) + self.b.write(self.now);
            let (mut to_b, mut to_a) =
                (std::mem::take(&mut self.a.wire), std::mem::take(&mut self.b.wire));
            if moved + to_a.len() + to_b.len() == 0 {
                return;
            }
            self.b.input(self.now, LinkInput::Received(&mut to_b));
            self.a.input(self.now, LinkInput::Received(&mut to_a));
        }
    }

    /// Both sides' timers up to `until`, bytes flowing in between.
    pub(super) fn run_until(&mut self, until: Time) {
        loop {
            self.settle();
            let next = [self.a.io.poll_timeout(), self.b.io.poll_timeout()];
            let next = next.into_iter().flatten().min().unwrap_or(until);
            if next > until {
                self.now = until;
                return;
            }
            self.now = self.now.max(next);
            for side in [&mut self.a, &mut self.b] {
                side.io.handle_timeout(self.now);
                side.drain();
            }
            if self.a.io.is_closed() && self.b.io.is_closed() {
                return;
            }
        }
    }
}

/// A cell that says which one it is.
pub(super) fn cell(number: u32) -> CellBody {
    let mut body = [0x55; 1_024];
    body[..4].copy_from_slice(&number.to_be_bytes());
    body
}

pub(super) fn number(body: &CellBody) -> u32 {
    u32::from_be_bytes(*body.first_chunk().unwrap())
}
