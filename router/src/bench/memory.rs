//! A source, a middle hop and a sink in one thread, joined by buffers instead of sockets.
//!
//! Lives here: moving frames between them, with a mark before and after everything that the hop
//! does, so that it alone is counted. Does not live here: what is counted (`relay.rs`, the
//! allocation guard), frames that are recorded first (`scaling.rs`).

use warren_overlay::time::Time;

use super::{
    actors::{self, IN, OUT},
    hop::Hop,
    load::Generator,
};

/// A hop and the two generators beside it.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) clock: actors::Clock,
    pub(super) source: Generator,
    pub(super) hop: Hop,
    pub(super) sink: Generator,
}

impl Parts {
    /// A hop of `tunnels` tunnels (1 to 10,000), after real handshakes; `None` if one failed.
    pub(super) fn new(tunnels: u32) -> Option<Self> {
        let clock = actors::Clock::start();
        let network = actors::network();
        let member = |k| {
            let mut address = actors::address(k);
            address.set_port(9_000); // nobody dials it
            actors::identity(clock.now(), &network, address.into())
        };
        let hop = member(1)?;
        let (source, came_in) = actors::shake(clock.now(), member(2)?, &hop)?;
        let (sink, goes_out) = actors::shake(clock.now(), member(3)?, &hop)?;
        let now = clock.time();
        let mut source = Generator::source(now, source);
        let mut sink = Generator::sink(now, sink);
        for number in 1..=tunnels {
            source.open(now, actors::lane_in(number));
            sink.open(now, actors::lane_out(number));
        }
        let hop = Hop::new(now, came_in, goes_out, tunnels);
        Some(Self { clock, source, hop, sink })
    }
}

/// One relay in memory.
#[derive(Debug)]
pub struct MemoryRelay {
    parts: Parts,
    /// Source to hop, hop to sink, sink to hop, hop to source.
    wires: [Vec<u8>; 4],
}

impl MemoryRelay {
    /// A hop of `tunnels` tunnels (1 to 10,000), after real handshakes; `None` if one failed.
    pub fn new(tunnels: u32) -> Option<Self> {
        Some(Self { parts: Parts::new(tunnels)?, wires: Default::default() })
    }

    /// Moves one buffer of up to 64 KiB over each wire. `mark` is called with `true` before the hop
    /// works, and with `false` after.
    pub fn step(&mut self, mut mark: impl FnMut(bool)) {
        let now = self.parts.clock.time();
        let [to_hop, _, from_sink, _] = &mut self.wires;
        self.parts.source.poll_transmit(now, to_hop);
        self.parts.sink.poll_transmit(now, from_sink);
        mark(true);
        self.hop_works(now);
        mark(false);
        let [_, to_sink, _, to_source] = &mut self.wires;
        self.parts.sink.received(now, to_sink);
        self.parts.source.received(now, to_source);
        for wire in &mut self.wires {
            wire.clear();
        }
    }

    /// What the hop does in one step. A function of its own, never inlined: `scripts/instructions`
    /// counts what runs in it.
    #[inline(never)]
    fn hop_works(&mut self, now: Time) {
        let [to_hop, to_sink, from_sink, to_source] = &mut self.wires;
        self.parts.hop.received(now, IN, to_hop);
        self.parts.hop.received(now, OUT, from_sink);
        self.parts.hop.poll_transmit(now, OUT, to_sink);
        self.parts.hop.poll_transmit(now, IN, to_source);
    }

    /// Cells that have reached the sink.
    pub const fn cells(&self) -> u64 {
        self.parts.sink.received
    }

    /// The time that its machines are given.
    pub fn now(&self) -> Time {
        self.parts.clock.time()
    }
}
