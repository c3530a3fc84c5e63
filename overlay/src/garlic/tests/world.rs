//! A client, a service, and between them two tunnels of three hops and any number of legs.
//!
//! ```text
//!  client Carrier - relay - relay - EndHop X ==legs== EndHop G - relay - relay - Carrier service
//! ```
//! Lanes have credits as links give them; every queue that a peer could fill is checked against its
//! bound at every step.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::{
    crypto::{
        kdf::derive_secret,
        onion::{Direction, LayerKeys, OwnerBackward, OwnerForward, RelayBackward, RelayForward},
    },
    garlic::{
        Carrier, CarrierOutput, Clove, EndHop, EndHopCommand, EndHopError, EndHopEvent,
        EndHopOutput, LeaseBook, Rate, SPLICE_WINDOW_MAX, SpliceNo, clove::tests::contact,
        seal_lease,
    },
    id::{LinkNo, SpliceId, TunnelId},
    plane::{CellBody, PartMessage},
    rng::Rng,
    time::Time,
    wire::SEALED_LEASE_LEN,
};

pub(super) const NAME: (LinkNo, TunnelId) = (LinkNo(1), TunnelId(1));
pub(super) const LEASE: [u8; 16] = [7; 16];
const LEG_LINK: LinkNo = LinkNo(50);
const HOPS: u8 = 3;
/// Cells that a lane carries a step (a millisecond): 16 MB/s.
const RATE: usize = 16;
const LANE_WINDOW: u32 = 64;

pub(super) fn layers(direction: Direction) -> Vec<LayerKeys> {
    (0..HOPS)
        .map(|hop| LayerKeys::derive(&derive_secret("warren test garlic 1", &[&[hop]]), direction))
        .collect()
}

/// One tunnel: its owner, its middle hops, its end hop, and the lanes between them.
pub(super) struct Path {
    pub(super) carrier: Carrier,
    forward: Vec<RelayForward>,
    backward: Vec<RelayBackward>,
    pub(super) hop: EndHop,
    /// The owner's cells in its link's egress.
    egress: VecDeque<CellBody>,
    /// What the owner's lane grants the end hop.
    credit: u32,
    /// Flip a bit of the cell that crosses next: toward the end hop, toward the owner.
    pub(super) flip: [bool; 2],
    pub(super) got: VecDeque<CarrierOutput>,
    pub(super) failed: Option<EndHopError>,
    pub(super) cells: [usize; 2],
    pub(super) owner_reads_lane: bool,
}

impl Path {
    pub(super) fn new() -> Self {
        let mut forward: Vec<_> =
            layers(Direction::Forward).into_iter().map(RelayForward::new).collect();
        let mut backward: Vec<_> =
            layers(Direction::Backward).into_iter().map(RelayBackward::new).collect();
        let hop = EndHop::new(forward.pop().unwrap(), backward.pop().unwrap());
        let mut carrier = Carrier::new();
        carrier.add_tunnel(
            NAME.0,
            NAME.1,
            OwnerForward::new(layers(Direction::Forward)),
            OwnerBackward::new(layers(Direction::Backward)),
        );
        Self {
            carrier,
            forward,
            backward,
            hop,
            egress: VecDeque::new(),
            credit: LANE_WINDOW,
            flip: [false; 2],
            got: VecDeque::new(),
            failed: None,
            cells: [0; 2],
            owner_reads_lane: true,
        }
    }

    /// Takes what the owner has to say.
    fn drain_carrier(&mut self) {
        while let Some(output) = self.carrier.poll_output() {
            match output {
                CarrierOutput::Part { to, message } => {
                    assert_eq!(to, NAME.0);
                    match message {
                        PartMessage::Cells { tunnel, cells } => {
                            assert_eq!(tunnel, NAME.1);
                            assert!((1..=15).contains(&cells.len()));
                            self.egress.extend(cells);
                        }
                        PartMessage::Drained { cells, splice: None, .. } => self.credit += cells,
                        other => panic!("{other:?}"),
                    }
                }
                other => self.got.push_back(other),
            }
        }
        assert!(self.egress.len() <= 128, "feed window");
        assert!(self.credit <= LANE_WINDOW);
        assert_eq!(self.carrier.queued_cells(), 0);
    }

    /// One millisecond of both lanes.
    pub(super) fn step(&mut self, now: Time) {
        self.drain_carrier();
        let count = self.egress.len().min(RATE);
        for mut cell in self.egress.drain(..count) {
            for relay in &mut self.forward {
                relay.relay(&mut cell);
            }
            if std::mem::take(&mut self.flip[0]) {
                cell[500] ^= 4;
            }
            self.cells[0] += 1;
            if let Err(error) = self.hop.handle_cell(now, &mut cell) {
                self.failed.get_or_insert(error);
            }
        }
        let drained = u32::try_from(count).unwrap();
        let message = PartMessage::Drained { tunnel: NAME.1, splice: None, cells: drained };
        self.carrier.handle_part(now, NAME.0, message);
        let mut cells = Vec::new();
        let mut cell = [0x5a; 1024];
        while self.owner_reads_lane && cells.len() < RATE && self.credit > 0 {
            let has = self.hop.has_cell();
            assert_eq!(self.hop.poll_cell(now, &mut cell), has);
            if !has {
                break;
            }
            self.credit -= 1;
            for relay in self.backward.iter_mut().rev() {
                relay.relay(&mut cell);
            }
            if std::mem::take(&mut self.flip[1]) {
                cell[1_023] ^= 128;
            }
            self.cells[1] += 1;
            cells.push(cell);
        }
        if !cells.is_empty() {
            let message = PartMessage::Cells { tunnel: NAME.1, cells };
            self.carrier.handle_part(now, NAME.0, message);
        }
        if self.hop.poll_timeout().is_some_and(|at| at <= now) {
            self.hop.handle_timeout(now);
        }
        self.drain_carrier();
    }

    pub(super) fn hop_outputs(&mut self) -> Vec<EndHopOutput> {
        std::iter::from_fn(|| self.hop.poll_output()).collect()
    }
}

/// One direction of a leg: what waits in its egress, and what its far side grants.
struct Way {
    queue: VecDeque<CellBody>,
    credit: u32,
}

impl Way {
    fn new() -> Self {
        Self { queue: VecDeque::new(), credit: LANE_WINDOW }
    }
}

struct Leg {
    /// The splice's id at X and at G.
    ids: [SpliceId; 2],
    ways: [Way; 2],
    attached: bool,
}

/// What an application does with one splice, on either side.
pub(super) struct Stream {
    pub(super) no: SpliceNo,
    pub(super) to_send: usize,
    pub(super) sent: usize,
    pub(super) received: usize,
    pub(super) reads: bool,
    pub(super) closed: bool,
    writable: bool,
    unread: u32,
    piece: usize,
}

impl Stream {
    pub(super) fn new(no: SpliceNo, to_send: usize) -> Self {
        Self {
            no,
            to_send,
            sent: 0,
            received: 0,
            reads: true,
            closed: false,
            writable: true,
            unread: 0,
            piece: 1_001,
        }
    }

    pub(super) fn in_pieces_of(mut self, piece: usize) -> Self {
        self.piece = piece;
        self
    }

    pub(super) fn done(&self) -> bool {
        self.sent == self.to_send
    }
}

/// Every stream carries this, so that a byte lost, doubled or moved is seen.
fn byte_at(offset: usize) -> u8 {
    let mixed = offset ^ (offset >> 8).wrapping_mul(31) ^ (offset >> 16).wrapping_mul(17);
    mixed.to_le_bytes()[0]
}

/// Index of the client's side, and of the service's.
pub(super) const CLIENT: usize = 0;
pub(super) const SERVICE: usize = 1;

pub(super) struct World {
    pub(super) now: Time,
    pub(super) paths: [Path; 2],
    legs: BTreeMap<TunnelId, Leg>,
    next_leg: u32,
    pub(super) book: LeaseBook,
    pub(super) splice_key: [u8; 32],
    pub(super) rng: Rng,
    pub(super) streams: [Vec<Stream>; 2],
    /// What the service sends on every splice that comes in, and whether it reads it.
    pub(super) service_sends: usize,
    pub(super) service_reads: bool,
    /// Gateways that never answer.
    pub(super) deaf_gateway: bool,
    pub(super) other: Vec<CarrierOutput>,
}

impl World {
    pub(super) fn new() -> Self {
        let mut rng = Rng::from_seed([1; 32]);
        let mut book = LeaseBook::new(rng.fork());
        let splice_key = book.grant(Time::ZERO, LEASE, Rate::default(), NAME).unwrap();
        Self {
            now: Time::ZERO,
            paths: [Path::new(), Path::new()],
            legs: BTreeMap::new(),
            next_leg: 1,
            book,
            splice_key,
            rng,
            streams: [Vec::new(), Vec::new()],
            service_sends: 0,
            service_reads: true,
            deaf_gateway: false,
            other: Vec::new(),
        }
    }

    pub(super) fn seal(&mut self) -> [u8; SEALED_LEASE_LEN] {
        seal_lease(&mut self.rng, &self.splice_key, &LEASE).unwrap()
    }

    pub(super) fn open(&mut self, sealed: [u8; SEALED_LEASE_LEN]) -> SpliceNo {
        self.paths[CLIENT].carrier.open_splice(NAME, contact(), sealed).unwrap()
    }

    pub(super) fn client_stream(&mut self, to_send: usize) -> usize {
        let sealed = self.seal();
        let no = self.open(sealed);
        self.streams[CLIENT].push(Stream::new(no, to_send));
        self.streams[CLIENT].len() - 1
    }

    /// Both routers' Node: dials, accepts, closes.
    fn nodes(&mut self, side: usize, event: EndHopEvent) {
        match event {
            EndHopEvent::Request(Clove::SpliceOpen { splice, sealed, .. }) if side == CLIENT => {
                if self.deaf_gateway {
                    return;
                }
                if self.book.open(self.now, (LinkNo(77), TunnelId(self.next_leg)), &sealed).is_err()
                {
                    let command = EndHopCommand::CloseSplice { splice };
                    self.paths[CLIENT].hop.handle_command(self.now, command);
                    return;
                }
                let id = TunnelId(self.next_leg);
                self.next_leg += 1;
                let leg = Leg {
                    ids: [splice, SpliceId(0)],
                    ways: [Way::new(), Way::new()],
                    attached: false,
                };
                self.legs.insert(id, leg);
                let command = EndHopCommand::AcceptIncoming { leg: (LEG_LINK, id) };
                self.paths[SERVICE].hop.handle_command(self.now, command);
            }
            EndHopEvent::Incoming { splice, leg: (_, id) } => {
                let leg = self.legs.get_mut(&id).unwrap();
                leg.ids[SERVICE] = splice;
                leg.attached = true;
                let splice = leg.ids[CLIENT];
                let command = EndHopCommand::Attach { splice, leg: (LEG_LINK, id) };
                self.paths[CLIENT].hop.handle_command(self.now, command);
            }
            EndHopEvent::SpliceGone { splice } => {
                let leg = self.legs.iter().find(|(_, leg)| leg.ids[side] == splice);
                if let Some((&id, _)) = leg {
                    self.close_leg(id, side);
                }
            }
            other => panic!("{other:?}"),
        }
    }

    /// A side tears its leg down; what is on its way to the other side arrives before.
    fn close_leg(&mut self, id: TunnelId, side: usize) {
        let mut leg = self.legs.remove(&id).unwrap();
        let there = 1 - side;
        let cells: Vec<CellBody> = leg.ways[side].queue.drain(..).collect();
        let hop = &mut self.paths[there].hop;
        hop.handle_leg_cells(self.now, leg.ids[there], cells);
        let command = EndHopCommand::CloseSplice { splice: leg.ids[there] };
        hop.handle_command(self.now, command);
    }

    /// The leg of the first splice breaks.
    pub(super) fn break_a_leg(&mut self) {
        let (&id, _) = self.legs.iter().next().unwrap();
        let leg = self.legs.remove(&id).unwrap();
        for (side, splice) in leg.ids.into_iter().enumerate() {
            let command = EndHopCommand::CloseSplice { splice };
            self.paths[side].hop.handle_command(self.now, command);
        }
    }

    pub(super) fn legs(&self) -> usize {
        self.legs.len()
    }

    fn carry_legs(&mut self) {
        for side in [CLIENT, SERVICE] {
            for output in self.paths[side].hop_outputs() {
                match output {
                    EndHopOutput::Node(event) => self.nodes(side, event),
                    EndHopOutput::Part { to, message } => {
                        assert_eq!(to, LEG_LINK);
                        self.feed_leg(side, message);
                    }
                }
            }
        }
        for leg in self.legs.values_mut().filter(|leg| leg.attached) {
            for side in [CLIENT, SERVICE] {
                let way = &mut leg.ways[side];
                let count = way.queue.len().min(RATE).min(way.credit as usize);
                if count > 0 {
                    let cells = way.queue.drain(..count).collect();
                    let count = u32::try_from(count).unwrap();
                    way.credit -= count;
                    self.paths[side].hop.handle_drained(self.now, leg.ids[side], count);
                    let there = 1 - side;
                    self.paths[there].hop.handle_leg_cells(self.now, leg.ids[there], cells);
                }
            }
        }
        for path in &self.paths {
            let bound = (SPLICE_WINDOW_MAX + LANE_WINDOW) as usize * self.legs.len().max(1);
            assert!(path.hop.queued_cells() <= bound, "splice windows bound what waits");
        }
    }

    fn feed_leg(&mut self, side: usize, message: PartMessage) {
        match message {
            PartMessage::Cells { tunnel, cells } => {
                assert!((1..=15).contains(&cells.len()));
                let Some(leg) = self.legs.get_mut(&tunnel) else { return };
                let queue = &mut leg.ways[side].queue;
                queue.extend(cells);
                assert!(queue.len() <= 128, "feed window of a leg");
            }
            PartMessage::Drained { tunnel, splice: None, cells } => {
                let Some(leg) = self.legs.get_mut(&tunnel) else { return };
                let credit = &mut leg.ways[1 - side].credit;
                *credit += cells;
                assert!(*credit <= LANE_WINDOW);
            }
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn applications_now(&mut self) {
        self.applications();
    }

    fn applications(&mut self) {
        for side in [CLIENT, SERVICE] {
            while let Some(output) = self.paths[side].got.pop_front() {
                self.application(side, output);
            }
            let carrier = &mut self.paths[side].carrier;
            for stream in self.streams[side].iter_mut().filter(|stream| !stream.closed) {
                if stream.reads && stream.unread > 0 {
                    carrier.splice_consumed(self.now, stream.no, stream.unread);
                    stream.unread = 0;
                }
                while stream.writable && stream.sent < stream.to_send {
                    if carrier.splice_capacity(stream.no) == 0 {
                        stream.writable = false;
                        break;
                    }
                    let end = stream.to_send.min(stream.sent + stream.piece);
                    let data: Vec<u8> = (stream.sent..end).map(byte_at).collect();
                    assert!(carrier.splice_send(stream.no, &data));
                    stream.sent = end;
                }
            }
        }
    }

    fn application(&mut self, side: usize, output: CarrierOutput) {
        let stream = |streams: &mut [Vec<Stream>; 2], no| {
            streams[side].iter().position(|stream| stream.no == no)
        };
        match output {
            CarrierOutput::SpliceIncoming { splice, .. } => {
                let mut stream = Stream::new(splice, self.service_sends);
                stream.reads = self.service_reads;
                self.streams[side].push(stream);
            }
            CarrierOutput::SpliceData { splice, data } => {
                let Some(at) = stream(&mut self.streams, splice) else { return };
                let stream = &mut self.streams[side][at];
                for (byte, offset) in data.iter().zip(stream.received..) {
                    assert_eq!(*byte, byte_at(offset), "at {offset}");
                }
                stream.received += data.len();
                stream.unread += 1;
                assert!(stream.unread <= SPLICE_WINDOW_MAX, "splice window");
            }
            CarrierOutput::SpliceWritable { splice } => {
                if let Some(at) = stream(&mut self.streams, splice) {
                    assert!(!self.streams[side][at].writable, "told only if asked");
                    self.streams[side][at].writable = true;
                }
            }
            CarrierOutput::SpliceClosed { splice } => {
                if let Some(at) = stream(&mut self.streams, splice) {
                    self.streams[side][at].closed = true;
                }
                self.other.push(CarrierOutput::SpliceClosed { splice });
            }
            other => self.other.push(other),
        }
    }

    /// One millisecond.
    pub(super) fn step(&mut self) {
        self.now = self.now + Duration::from_millis(1);
        self.applications();
        for path in &mut self.paths {
            path.step(self.now);
        }
        self.carry_legs();
    }

    pub(super) fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
        }
    }

    /// Steps until `done`; how many that took.
    pub(super) fn run_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) -> usize {
        for steps in 0..100_000 {
            if done(self) {
                return steps;
            }
            self.step();
        }
        panic!("never: {what}");
    }
}
