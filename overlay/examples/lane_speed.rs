//! What a cell costs at each place of a path: link, end hop, owner. `cargo run --release -p
//! warren-overlay --example lane_speed`. Figures, not tests: docs/performance.md quotes them.
#![expect(clippy::print_stdout, reason = "its purpose")]
#![expect(clippy::disallowed_methods, reason = "it measures")]

use std::time::{Duration, Instant};

use warren_overlay::{
    crypto::{
        onion::{Direction, LayerKeys, OwnerBackward, OwnerForward, RelayBackward, RelayForward},
        secret::Secret,
    },
    garlic::{Carrier, CarrierOutput, Clove, EndHop, EndHopCommand, EndHopEvent, EndHopOutput},
    id::{LinkNo, RouterId, TunnelId},
    link::{
        channel::{HEAD_LEN, Opener, Sealer},
        frame::{CELLS_MAX, Frame, FrameWriter},
    },
    plane::{CELL_BODY_LEN, CellBody, PartMessage},
    rng::Rng,
    time::{Time, Wall},
    wire::{Contact, SEALED_LEASE_LEN},
};

const ROUNDS: usize = 9;
const CELLS: u32 = 20_000;
const CACHED: u32 = 250;
const LINK: LinkNo = LinkNo(1);
const LANE: TunnelId = TunnelId(1);
const LEG: (LinkNo, TunnelId) = (LinkNo(2), TunnelId(7));

/// Best of some rounds, over `cells` cells each: other load only ever adds.
fn report(name: &str, cells: u32, mut round: impl FnMut() -> Duration) {
    let best = (0..ROUNDS).map(|_| round()).min().unwrap_or_default();
    println!("{name}: {:.0} ns", best.as_secs_f64() * 1e9 / f64::from(cells));
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn layers(secrets: &[Secret<32>], direction: Direction) -> Vec<LayerKeys> {
    secrets.iter().map(|secret| LayerKeys::derive(secret, direction)).collect()
}

fn link(rng: &mut Rng) {
    let key: [u8; 32] = rng.bytes();
    let now = Time::ZERO;
    let mut sealer = Sealer::new(now, &Secret::take(&mut key.clone()), 1 << 20);
    let mut opener = Opener::new(&Secret::take(&mut key.clone()), 1 << 20);
    let bodies = vec![[7; CELL_BODY_LEN]; CELLS_MAX];
    let mut buffer = Vec::with_capacity(64 * 1_024);
    let frames = CELLS / 15;
    let (mut seal, mut open) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        let (mut sealing, mut opening) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..frames {
            buffer.clear();
            sealing += timed(|| {
                let mut frame = FrameWriter::begin(&mut buffer);
                frame.cells(LANE, &bodies);
                frame.finish(now, &mut sealer);
            });
            opening += timed(|| {
                let (head, rest) =
                    buffer.split_first_chunk_mut::<HEAD_LEN>().expect("frames have a head");
                let head = opener.head(*head).expect("our own frame");
                let plain = opener.open(head, rest).expect("our own frame");
                assert!(Frame::split(plain).is_ok());
            });
        }
        (seal, open) = (seal.min(sealing), open.min(opening));
    }
    report("link, write and seal a full frame, per cell", frames * 15, || seal);
    report("link, open a full frame, per cell", frames * 15, || open);
}

/// Three hops: the owner's cells pass two middle layers and are recognised; and back.
fn onion(rng: &mut Rng) {
    let secrets: Vec<Secret<32>> = (0..3).map(|_| Secret::random(rng)).collect();
    let keys = |direction| layers(&secrets, direction);
    let mut owner = OwnerForward::new(keys(Direction::Forward));
    let mut back = OwnerBackward::new(keys(Direction::Backward));
    let mut forward: Vec<_> = keys(Direction::Forward).into_iter().map(RelayForward::new).collect();
    let mut backward: Vec<_> =
        keys(Direction::Backward).into_iter().map(RelayBackward::new).collect();
    // Few enough to stay in the cache, as cells on their way do.
    let mut cells = vec![[7; CELL_BODY_LEN]; CACHED as usize];
    let mut best = [Duration::MAX; 6];
    for _ in 0..ROUNDS * (CELLS / CACHED) as usize {
        let [near, middle, end] = &mut *forward else { return };
        let [near_back, middle_back, end_back] = &mut *backward else { return };
        let mut each =
            |work: &mut dyn FnMut(&mut CellBody)| timed(|| cells.iter_mut().for_each(&mut *work));
        let times = [
            each(&mut |cell| owner.originate(cell)),
            each(&mut |cell| {
                near.relay(cell);
                middle.relay(cell);
            }) / 2,
            each(&mut |cell| assert!(end.recognise(cell))),
            each(&mut |cell| end_back.originate(cell)),
            each(&mut |cell| {
                middle_back.relay(cell);
                near_back.relay(cell);
            }) / 2,
            each(&mut |cell| assert!(back.open(cell))),
        ];
        for (best, time) in best.iter_mut().zip(times) {
            *best = time.min(*best);
        }
    }
    let names = [
        "onion, owner originates over 3 hops",
        "onion, a middle hop's layer forward",
        "onion, the end recognises",
        "onion, the end originates",
        "onion, a middle hop's layer backward",
        "onion, owner opens over 3 hops",
    ];
    for (name, time) in names.into_iter().zip(best) {
        report(name, CACHED, || time);
    }
}

/// A carrier and its end hop, one hop apart, so that what both do beside layers stands out; the leg
/// drains at once.
struct Lane {
    carrier: Carrier,
    hop: EndHop,
    now: Time,
    owner_time: Duration,
    hop_time: Duration,
    arrived: u32,
    to_leg: u32,
}

impl Lane {
    fn new(rng: &mut Rng, hops: usize) -> Self {
        let secrets: Vec<Secret<32>> = (0..hops).map(|_| Secret::random(rng)).collect();
        let mut carrier = Carrier::new();
        let keys = |direction| layers(&secrets, direction);
        carrier.add_tunnel(
            LINK,
            LANE,
            OwnerForward::new(keys(Direction::Forward)),
            OwnerBackward::new(keys(Direction::Backward)),
        );
        let last = |direction| keys(direction).pop().expect("at least one hop");
        let hop = EndHop::new(
            RelayForward::new(last(Direction::Forward)),
            RelayBackward::new(last(Direction::Backward)),
        );
        let now = Time::from_micros(1);
        let zero = Duration::ZERO;
        Self { carrier, hop, now, owner_time: zero, hop_time: zero, arrived: 0, to_leg: 0 }
    }

    /// Passes everything on until nobody says anything; says which splice was asked for.
    fn settle(&mut self) {
        loop {
            let start = Instant::now();
            let mut to_hop = Vec::new();
            let mut consumed = Vec::new();
            while let Some(output) = self.carrier.poll_output() {
                match output {
                    CarrierOutput::Part { message: PartMessage::Cells { cells, .. }, .. } => {
                        to_hop.push(cells);
                    }
                    CarrierOutput::SpliceData { splice, data } => {
                        self.arrived += 1;
                        drop(data);
                        consumed.push(splice);
                    }
                    _ => {}
                }
            }
            for splice in consumed {
                self.carrier.splice_consumed(self.now, splice, 1);
            }
            self.owner_time += start.elapsed();
            let start = Instant::now();
            let mut drained = 0;
            for batch in &mut to_hop {
                for cell in batch.iter_mut() {
                    self.hop.handle_cell(self.now, cell).expect("our own cells");
                }
                drained += u32::try_from(batch.len()).unwrap_or_default();
            }
            let mut moved = drained > 0;
            while let Some(output) = self.hop.poll_output() {
                moved = true;
                self.hop_output(output);
            }
            let mut back = Vec::new();
            let mut cell = [0; CELL_BODY_LEN];
            while self.hop.poll_cell(self.now, &mut cell) {
                back.push(cell);
            }
            self.hop_time += start.elapsed();
            let start = Instant::now();
            let (tunnel, splice) = (LANE, None);
            if drained > 0 {
                let message = PartMessage::Drained { tunnel, splice, cells: drained };
                self.carrier.handle_part(self.now, LINK, message);
            }
            if !back.is_empty() {
                let message = PartMessage::Cells { tunnel, cells: back };
                self.carrier.handle_part(self.now, LINK, message);
                moved = true;
            }
            self.owner_time += start.elapsed();
            if !moved {
                return;
            }
        }
    }

    fn hop_output(&mut self, output: EndHopOutput) {
        match output {
            EndHopOutput::Node(EndHopEvent::Request(Clove::SpliceOpen { splice, .. })) => {
                self.hop.handle_command(self.now, EndHopCommand::Attach { splice, leg: LEG });
            }
            EndHopOutput::Part { message: PartMessage::Cells { cells, .. }, .. } => {
                let count = u32::try_from(cells.len()).unwrap_or_default();
                self.to_leg += count;
                let splice = warren_overlay::id::SpliceId(1);
                self.hop.handle_drained(self.now, splice, count);
            }
            _ => {}
        }
    }
}

fn lane(rng: &mut Rng, hops: usize) {
    let mut lane = Lane::new(rng, hops);
    let contact = Contact {
        id: RouterId([3; 32]),
        link_key: [4; 32],
        address: std::net::SocketAddr::from(([127, 0, 0, 1], 9_000)).into(),
        expiry: Wall::from_minutes(1),
    };
    let tunnel = (LINK, LANE);
    let Some(splice) = lane.carrier.open_splice(tunnel, contact, [5; SEALED_LEASE_LEN]) else {
        return;
    };
    lane.settle();
    let piece = [9; 1_001];
    let (mut owner, mut hop) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        (lane.owner_time, lane.hop_time, lane.to_leg) = (Duration::ZERO, Duration::ZERO, 0);
        while lane.to_leg < CELLS {
            let start = Instant::now();
            for _ in 0..lane.carrier.splice_capacity(splice) {
                assert!(lane.carrier.splice_send(splice, &piece));
            }
            lane.owner_time += start.elapsed();
            lane.now = lane.now + Duration::from_micros(100);
            lane.settle();
        }
        (owner, hop) = (owner.min(lane.owner_time), hop.min(lane.hop_time));
    }
    report(&format!("carrier, owner sends bulk over {hops} hops"), CELLS, || owner);
    report("end hop, from the tunnel to the leg", CELLS, || hop);
}

fn main() {
    let mut rng = Rng::from_seed([1; 32]);
    link(&mut rng);
    onion(&mut rng);
    lane(&mut rng, 1);
}
