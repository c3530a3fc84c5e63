//! Tagging: a hostile first hop changes bits of a cell, and a hostile end hop looks for them.
//!
//! Lives here: tunnels of three hops whose middle is honest, over the layers of production
//! (`warren_overlay::crypto::onion`) with its ciphers, and over layers that are a key stream, as older onion
//! networks have them. Does not live here: marks in time, which no cipher hides (docs/threat-model.md,
//! section 7).
//!
//! The worst case is granted: the end hop knows where the mark would be and what stood there, and is a
//! program of its own that looks at cells which a router would not even keep.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warren_overlay::{
    crypto::{
        kdf,
        onion::{CELL_BODY_LEN, Direction, LayerKeys, OwnerForward, RelayForward},
        secret::Secret,
    },
    rng::Rng,
    time::Time,
};

use super::{Adversary, Outcome};
use crate::{
    metric::{Metric, Metrics},
    run::Watcher,
    scenario::{ScenarioError, value},
    streams::Streams,
};

/// Most tunnels of one seed: some seconds.
const TUNNELS_MAX: u32 = 1_000_000;
/// Bytes of a mark.
const MARK_LEN: usize = 8;
/// Where cells carry what is for the end.
const PAYLOAD_AT: usize = 16;
/// Cells of a tunnel before the one that is marked, and after it.
const BEFORE: u64 = 8;
const AFTER: usize = 3;

/// Hops that mark cells.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tagging {
    /// What hides a cell from the hops that pass it on.
    pub layers: Layers,
    /// Tunnels, each with one marked cell.
    #[serde(default = "default_tunnels")]
    pub tunnels: u32,
}

/// The layers of a tunnel.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layers {
    /// Ours: each cell is a wide block, tied to the ones before it.
    Chained,
    /// A key stream for each hop: a bit that is changed comes out changed, and nothing else does.
    Counter,
}

fn default_tunnels() -> u32 {
    1_000
}

/// What the two hostile hops of one tunnel have of a marked cell.
#[derive(Clone, Copy, Debug)]
enum Sight {
    /// The first put this on it.
    Put([u8; MARK_LEN]),
    /// At the end this differs from what was expected.
    Differs([u8; MARK_LEN]),
}

/// Both hops, who talk to each other.
#[derive(Debug, Default)]
struct Pair {
    put: Option<[u8; MARK_LEN]>,
    differs: Option<[u8; MARK_LEN]>,
}

impl Adversary for Pair {
    type Sight = Sight;
    /// Bits of the mark that are there.
    type Guess = u32;

    fn see(&mut self, sight: Sight) {
        match sight {
            Sight::Put(mark) => self.put = Some(mark),
            Sight::Differs(bits) => self.differs = Some(bits),
        }
    }

    fn guess(&self) -> Option<u32> {
        let (put, differs) = self.put.zip(self.differs)?;
        let wrong: u32 = put.iter().zip(differs).map(|(a, b)| (a ^ b).count_ones()).sum();
        Some(MARK_BITS - wrong)
    }
}

const MARK_BITS: u32 = 64;

type Cell = [u8; CELL_BODY_LEN];

/// One tunnel's forward way: owner, first hop, middle, end.
enum Tunnel {
    /// The end twice: as a router has it, and as somebody does who keeps what a router wipes.
    Chained {
        owner: OwnerForward,
        hops: Box<[RelayForward; 2]>,
        ends: Box<[RelayForward; 2]>,
    },
    Counter {
        hops: [[u8; 32]; 3],
        sent: [u64; 4],
    },
}

impl Tunnel {
    fn new(layers: Layers, rng: &mut Rng) -> Self {
        let mut secrets: [[u8; 32]; 3] = std::array::from_fn(|_| rng.bytes());
        match layers {
            Layers::Chained => {
                let secrets = secrets.each_mut().map(Secret::take);
                let keys = |of: &Secret<32>| LayerKeys::derive(of, Direction::Forward);
                let owner = OwnerForward::new(secrets.iter().map(keys).collect());
                let hop = |of: &Secret<32>| RelayForward::new(keys(of));
                let [first, middle, end] = &secrets;
                let hops = Box::new([hop(first), hop(middle)]);
                Self::Chained { owner, hops, ends: Box::new([hop(end), hop(end)]) }
            }
            Layers::Counter => Self::Counter { hops: secrets, sent: [0; 4] },
        }
    }

    /// One layer of key stream, by whoever's turn it is: owner 3, hops 0 to 2.
    fn stream(hops: &[[u8; 32]; 3], sent: &mut [u64; 4], who: usize, cell: &mut Cell) {
        let Some(count) = sent.get_mut(who) else { return };
        let layers = if who == 3 { &hops[..] } else { hops.get(who..=who).unwrap_or_default() };
        for key in layers {
            kdf::xor_keystream("warren sim counter onion 1", &[key, &count.to_be_bytes()], cell);
        }
        *count += 1;
    }

    fn originate(&mut self, cell: &mut Cell) {
        match self {
            Self::Chained { owner, .. } => owner.originate(cell),
            Self::Counter { hops, sent } => Self::stream(hops, sent, 3, cell),
        }
    }

    /// The first hop, then the middle.
    fn relay(&mut self, hop: usize, cell: &mut Cell) {
        match self {
            Self::Chained { hops, .. } => {
                if let Some(hop) = hops.get_mut(hop) {
                    hop.relay(cell);
                }
            }
            Self::Counter { hops, sent } => Self::stream(hops, sent, hop, cell),
        }
    }

    /// An honest end; whether the tunnel goes on.
    fn arrive(&mut self, cell: &mut Cell) -> bool {
        match self {
            Self::Chained { ends, .. } => {
                let [end, spy] = &mut **ends;
                let mut copy = *cell;
                // What the spy makes of it is in `spied`; here it only keeps step.
                let _ = spy.recognise(&mut copy);
                end.recognise(cell)
            }
            // A key stream alone recognises nothing: whatever comes is taken.
            Self::Counter { hops, sent } => {
                Self::stream(hops, sent, 2, cell);
                true
            }
        }
    }

    /// What a hostile end has of a cell before it says whether it knows it. It takes its layer off as a middle
    /// hop would.
    fn spied(&mut self, cell: &Cell) -> Cell {
        let mut cell = *cell;
        match self {
            Self::Chained { ends, .. } => {
                let [_, spy] = &mut **ends;
                spy.relay(&mut cell);
            }
            Self::Counter { hops, sent } => Self::stream(hops, &mut sent.clone(), 2, &mut cell),
        }
        cell
    }

    /// A good cell all the way; whether its end took it for one.
    fn pass(&mut self) -> bool {
        let mut cell = [0; CELL_BODY_LEN];
        self.originate(&mut cell);
        self.relay(0, &mut cell);
        self.relay(1, &mut cell);
        self.arrive(&mut cell)
    }
}

/// What became of one tunnel.
struct Fate {
    bits: u32,
    ended: bool,
}

impl Tagging {
    pub(super) fn check(self) -> Result<(), ScenarioError> {
        match self.tunnels {
            1..=TUNNELS_MAX => Ok(()),
            tunnels => {
                Err(value("adversary.tunnels", format!("1 to {TUNNELS_MAX}, not {tunnels}")))
            }
        }
    }

    fn tunnel(self, rng: &mut Rng) -> Fate {
        let mut tunnel = Tunnel::new(self.layers, rng);
        for _ in 0..rng.below(BEFORE) {
            tunnel.pass();
        }
        let mark: [u8; MARK_LEN] = rng.bytes();
        let room = (CELL_BODY_LEN - PAYLOAD_AT - MARK_LEN) as u64;
        let at = PAYLOAD_AT + usize::try_from(rng.below(room)).unwrap_or(0);
        let mut pair = Pair::default();
        let mut cell = [0; CELL_BODY_LEN];
        tunnel.originate(&mut cell);
        tunnel.relay(0, &mut cell);
        cell.iter_mut().skip(at).zip(mark).for_each(|(byte, mark)| *byte ^= mark);
        pair.see(Sight::Put(mark));
        tunnel.relay(1, &mut cell);
        let spied = tunnel.spied(&cell);
        if let Some(bits) = spied.get(at..).and_then(<[u8]>::first_chunk) {
            pair.see(Sight::Differs(*bits));
        }
        // Were the end an honest one, this and what follows would be taken or not.
        let taken = tunnel.arrive(&mut cell);
        let ended = !taken && (0..AFTER).all(|_| !tunnel.pass());
        Fate { bits: pair.guess().unwrap_or(0), ended }
    }

    pub(super) fn run(self, streams: Streams, watcher: &mut dyn Watcher) -> Option<Outcome> {
        let (mut read, mut bits, mut ended) = (0u32, 0u64, 0u32);
        for no in 0..self.tunnels {
            if no.is_multiple_of(256) && !watcher.progress(Time::ZERO, no.into()) {
                return None;
            }
            let fate = self.tunnel(&mut streams.of("tunnel", no.into()));
            read += u32::from(fate.bits == MARK_BITS);
            bits += u64::from(fate.bits);
            ended += u32::from(fate.ended);
        }
        let all = f64::from(self.tunnels);
        let chained = self.layers == Layers::Chained;
        #[expect(clippy::cast_precision_loss, reason = "below 2^52")]
        let bits = bits as f64 / f64::from(MARK_BITS);
        Some(Outcome {
            events: self.tunnels.into(),
            metrics: Metrics::from([
                (Metric::MarksRead, f64::from(read) / all),
                (Metric::MarkBits, bits / all),
                (Metric::TunnelsEnded, f64::from(ended) / all),
            ]),
            theory: Metrics::from([(Metric::MarkBits, if chained { 0.5 } else { 1.0 })]),
            ..Outcome::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_mark_every_cell_arrives_as_it_was_sent() {
        for layers in [Layers::Chained, Layers::Counter] {
            let mut tunnel = Tunnel::new(layers, &mut Rng::from_seed([1; 32]));
            for _ in 0..10 {
                let mut cell = [7; CELL_BODY_LEN];
                tunnel.originate(&mut cell);
                assert_ne!(cell[PAYLOAD_AT..], [7; CELL_BODY_LEN - PAYLOAD_AT]);
                tunnel.relay(0, &mut cell);
                tunnel.relay(1, &mut cell);
                assert!(tunnel.arrive(&mut cell));
                assert!(cell[PAYLOAD_AT..].iter().all(|it| *it == 7), "{layers:?}");
            }
        }
    }
}
