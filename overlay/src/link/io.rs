//! An established link: the data plane's machine for one connection.
//!
//! Lives here: the lane table, what happens to frames that came, commands, timers. Does not live
//! here: what goes into the next frame (`transmit.rs`), ciphers (`channel.rs`), frame borders
//! (`receive.rs`), credits and queues of one lane (`credit.rs`, `egress.rs`), how the link came to
//! be (`handshake.rs`).
//!
//! ```text
//! socket --Received--> FrameReader --cells--> lane --Part::Cells--> another link, an End
//!                                  --control--> Credit, Teardown: here; the rest: Node
//! socket <--poll_transmit-- control, grants, Schedule <-- Egress of each lane <--Part::Cells--
//!
//! Open --Goodbye command--> Leaving --written, or 5 s--> Closed
//!   '--goodbye, garbage, over-grant, silence (`pulse.rs`), Shut--> Closed
//! ```
//!
//! The driver's loop: give bytes and messages, drain `poll_output`; whenever the socket takes bytes
//! and `wants_transmit`, ask `poll_transmit` for them. So the choice of cells is made late.

use std::{sync::Arc, time::Duration};

use crate::{
    crypto::aead::TAG_LEN,
    id::{LinkNo, TunnelId},
    link::{
        api::{LinkCounters, LinkInput, LinkOutput, LinkSettings},
        batch::BATCH_CELLS,
        channel::{HEAD_LEN, Opener, Sealer},
        classes::Classes,
        credit::CreditQuota,
        frame::{self, Frame, WireCell},
        grants::Grants,
        handshake::Established,
        lane::{self, LaneBalance, LaneCounters, LaneState},
        lanes::Past,
        load::{Held, Load},
        padding::{PadCount, Pads},
        pulse::{Pulse, Sign},
        rate::Pacer,
        receive::{FrameReader, Pieces},
    },
    plane::{CELL_LEN, CloseReason, Lane, LinkCommand, LinkEvent, PartMessage},
    table::Table,
    time::{Time, earliest},
    wire::{LinkMessage, Reader, RouterDescriptor},
};

/// Most bytes that one `poll_transmit` gives: four full frames.
pub const TRANSMIT_MAX: usize = 64 * 1024;

/// A queue that has not moved for so long kills its tunnel (PROTOCOL P5).
pub(super) const STUCK_MAX: Duration = Duration::from_mins(1);
/// How often queues are looked at.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// How long a goodbye may take.
const GOODBYE_MAX: Duration = Duration::from_secs(5);
/// Grants that may wait for their lane to be opened here, and how long: a peer's first grant comes
/// in the same frame as the build that makes this side open.
pub(super) const EARLY_MAX: usize = 4_096;
pub(super) const EARLY_KEPT: Duration = Duration::from_mins(1);

/// How far a link's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Open,
    /// Goodbye was asked for; the link ends when it is written, or at its time.
    Leaving,
    Closed,
}

/// When lanes are looked at next: for all links of a router at the same moment.
fn next_check(now: Time) -> Time {
    (now + CHECK_EVERY).next_multiple_of(CHECK_EVERY)
}

/// One established link.
#[derive(Debug)]
pub struct LinkIo {
    reader: FrameReader,
    pub(super) core: Core,
}

/// All but the reader, so that an open frame can be borrowed from it meanwhile.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) link: LinkNo,
    peer: Arc<RouterDescriptor>,
    initiator: bool,
    /// The handshake's, in microseconds.
    round_trip: u32,
    /// Bounds what lanes hold.
    pub(super) quota: Arc<CreditQuota>,
    pub(super) sealer: Sealer,
    pub(super) state: State,
    pub(super) lanes: Table<TunnelId, Box<LaneState>>,
    pub(super) schedule: Classes,
    /// Grants to tell.
    pub(super) grants: Grants,
    pub(super) load: Load,
    pub(super) past: Past,
    pub(super) pulse: Pulse,
    pub(super) pads: Pads,
    /// The link's turns at the bandwidth for what is sent.
    pub(super) pace_out: Pacer,
    /// When lanes are looked at next; none while nothing can have gone wrong with them. Or when a link that
    /// is leaving ends.
    check_at: Option<Time>,
    bytes_in: u64,
    pub(super) bytes_out: u64,
}

impl LinkIo {
    /// A link that was just established, known to this process as `link`.
    pub fn new(now: Time, link: LinkNo, established: Established, settings: LinkSettings) -> Self {
        let Established { peer, keys, initiator, mut leftover, rtt, .. } = established;
        let opener = Opener::new(&keys.receive, settings.rekey_frames);
        let sealer = Sealer::new(now, &keys.send, settings.rekey_frames);
        let counted = settings.padding_counted;
        let core = Core {
            link,
            peer,
            initiator,
            round_trip: u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX),
            pace_out: Pacer::new(settings.rate.as_ref().map(|limits| &limits.sent)),
            grants: Grants::new(settings.rate.as_deref()),
            schedule: Classes::new(settings.rate.as_deref()),
            quota: settings.quota,
            sealer,
            state: State::Open,
            lanes: Table::new(),
            load: Load::default(),
            past: Past::default(),
            pulse: Pulse::new(now, !counted),
            pads: Pads::new(now, counted, settings.pads),
            check_at: None,
            bytes_in: 0,
            bytes_out: 0,
        };
        let mut this = Self { reader: FrameReader::new(opener), core };
        this.received(now, &mut leftover);
        this
    }

    /// Something happened.
    pub fn handle_input(&mut self, now: Time, input: LinkInput<'_>) {
        if self.core.state == State::Closed {
            return;
        }
        match input {
            LinkInput::Received(bytes) => self.received(now, bytes),
            LinkInput::Command(command) => self.core.command(now, command),
            LinkInput::Part { from: _, message } => self.core.part(now, message),
            LinkInput::Silent(Some(since)) => self.core.pulse.fell_silent(since),
            LinkInput::Silent(None) => self.core.heard(now),
        }
        if !self.core.lanes.is_empty() {
            self.core.check_at.get_or_insert_with(|| next_check(now));
        }
    }

    /// Time passed: pads an idle link, ends a silent one, closes stuck lanes.
    pub fn handle_timeout(&mut self, now: Time) {
        let core = &mut self.core;
        match core.state {
            State::Closed => return,
            State::Leaving if core.check_at.is_none_or(|at| at <= now) => {
                return core.close(CloseReason::Local);
            }
            State::Leaving | State::Open => {}
        }
        let lanes = &core.lanes;
        match core.pulse.judge(now, || lanes.values().any(|lane| lane.egress.is_owed())) {
            Sign::Fine => {}
            Sign::Ask => core.send(&LinkMessage::Ping),
            Sign::Quiet => core.event(LinkEvent::Quiet(true)),
            Sign::Gone => return core.close(CloseReason::Silent),
        }
        if core.pads.handle_timeout(now) {
            self.reader.rest();
            core.rest();
        }
        core.load.let_go(now);
        core.grants.handle_timeout(now);
        if core.check_at.take_if(|at| *at <= now).is_some() {
            core.close_stuck(now);
            core.end_hop_timeouts(now);
            if core.lanes.values().any(|lane| lane.must_be_watched()) {
                core.check_at = Some(next_check(now));
            }
        }
    }

    /// The next thing to pass on.
    pub fn poll_output(&mut self) -> Option<LinkOutput> {
        let output = self.core.load.lists().and_then(|it| it.outputs.pop_front());
        if output.is_none() {
            let Core { pads, lanes, load, .. } = &mut self.core;
            // Where no cells come, little else does.
            if lanes.is_empty() || pads.is_idle() && load.spares.bytes() == 0 {
                self.reader.rest();
                load.rest();
            }
        }
        output
    }

    /// When to call `handle_timeout`.
    pub fn poll_timeout(&self) -> Option<Time> {
        let core = &self.core;
        let life = match core.state {
            State::Closed => return None,
            State::Leaving => None,
            State::Open => core.pulse.poll_timeout(),
        };
        let (pads, grants) = (core.pads.poll_timeout(), core.grants.poll_timeout());
        let Held { data, shared, .. } = core.load.held;
        earliest([life, pads, grants, core.check_at, data, shared])
    }

    /// Whether the link is over.
    pub fn is_closed(&self) -> bool {
        self.core.state == State::Closed
    }

    /// The number by which this process knows the link.
    pub const fn link(&self) -> LinkNo {
        self.core.link
    }

    /// Who is at the other end.
    pub const fn peer(&self) -> &Arc<RouterDescriptor> {
        &self.core.peer
    }

    /// Whether this side dialled: it numbers its lanes with the top bit clear.
    pub const fn initiator(&self) -> bool {
        self.core.initiator
    }

    /// The handshake's round trip.
    pub const fn round_trip(&self) -> Duration {
        self.core.round_trip()
    }

    /// What it has carried.
    pub fn counters(&self) -> LinkCounters {
        let Core { bytes_in, bytes_out, ref sealer, ref past, .. } = self.core;
        let (frames_in, frames_out) = (self.reader.frames(), sealer.frames());
        LinkCounters { bytes_in, bytes_out, frames_in, frames_out, ..past.counted() }
    }

    /// How much padding has left until now, sent or counted.
    pub fn padding(&mut self, now: Time) -> PadCount {
        self.core.pads.settle(now)
    }

    /// What its lanes have carried.
    pub fn lanes(&self) -> impl Iterator<Item = (TunnelId, &Lane, LaneCounters)> {
        self.core.lanes.iter().map(|(tunnel, state)| (*tunnel, &*state.lane, state.counters))
    }

    /// The lanes that keep something: since when it waits, the lane, its memory in bytes. A router
    /// short of memory closes the one that has waited longest first (DESIGN section 6).
    pub fn waiting(&self) -> impl Iterator<Item = (Time, TunnelId, usize)> {
        let lanes = self.core.lanes.iter();
        lanes.filter_map(|(id, lane)| lane.waiting().map(|(since, bytes)| (since, *id, bytes)))
    }

    /// Closes a lane because the router is short of memory: the peer and the control plane hear of it
    /// as of any other end.
    pub fn shed(&mut self, tunnel: TunnelId) {
        if self.core.lanes.contains_key(&tunnel) {
            self.core.past.counters().lanes_shed += 1;
            self.core.break_lane(tunnel);
        }
    }

    /// Memory that is kept for the next cells, in bytes.
    pub fn spare_bytes(&self) -> usize {
        self.core.load.spares.bytes()
    }

    /// Gives up memory that is kept for the next cells.
    pub fn rest(&mut self) {
        self.core.load.rest();
    }

    /// The credits of its lanes.
    pub fn balances(&self) -> impl Iterator<Item = (TunnelId, LaneBalance)> {
        self.core.lanes.iter().map(|(tunnel, state)| {
            let LaneState { book, egress, .. } = &**state;
            let (granted, window) = (book.outstanding(), book.window());
            (*tunnel, LaneBalance { granted, allowed: egress.allowed(), window })
        })
    }

    /// Cells that wait to be sent, over all lanes.
    pub fn queued_cells(&self) -> usize {
        self.core.lanes.values().map(|state| state.egress.queued()).sum()
    }

    fn received(&mut self, now: Time, bytes: &mut [u8]) {
        let core = &mut self.core;
        core.bytes_in += bytes.len() as u64;
        core.grants.pace.count(now, bytes.len());
        let mut bytes = Pieces::new(bytes);
        let result = loop {
            match self.reader.next(&mut bytes) {
                Ok(None) => break Ok(()),
                Ok(Some(plain)) => {
                    if let Err(reason) = core.frame(now, plain) {
                        break Err(reason);
                    }
                    if core.state == State::Closed {
                        break Ok(());
                    }
                }
                Err(_) => break Err(CloseReason::Garbage),
            }
        };
        core.flush_batches();
        if let Err(reason) = result {
            core.close(reason);
        }
    }
}

impl Core {
    fn frame(&mut self, now: Time, plain: &mut [u8]) -> Result<(), CloseReason> {
        self.heard(now);
        let len = plain.len();
        let frame = Frame::split(plain).map_err(|_| CloseReason::Garbage)?;
        // Cells were paid for when they were granted, or are when their lane is looked up.
        let rest = HEAD_LEN + len + TAG_LEN - frame.cells.len() * CELL_LEN;
        self.grants.pace.used(now, rest, false);
        let network = self.peer.fields().network;
        let mut control = Reader::new(frame.control);
        while control.remaining() > 0 {
            let message =
                LinkMessage::decode(&mut control, network).map_err(|_| CloseReason::Garbage)?;
            if let LinkMessage::Part { class, last, bytes } = &message {
                let whole = self.load.joiner.take(network, *class, *last, bytes);
                if let Some(whole) = whole.map_err(|_| CloseReason::Garbage)? {
                    self.event(LinkEvent::Message(Box::new(LinkMessage::Ring(whole))));
                }
                continue;
            }
            self.message(now, message);
            if self.state == State::Closed {
                return Ok(());
            }
        }
        let same_lane = |a: &WireCell, b: &WireCell| frame::tunnel_of(a) == frame::tunnel_of(b);
        for run in frame.cells.chunk_by_mut(same_lane) {
            self.cells(now, run)?;
        }
        Ok(())
    }

    /// An idle link keeps no room for what does not come.
    fn rest(&mut self) {
        self.grants.rest();
        self.load.rest();
        self.schedule.rest();
        self.lanes.rest();
        self.past.rest();
    }

    pub(super) const fn round_trip(&self) -> Duration {
        Duration::from_micros(self.round_trip as u64)
    }

    fn heard(&mut self, now: Time) {
        if self.pulse.heard(now) {
            self.event(LinkEvent::Quiet(false));
        }
    }

    fn message(&mut self, now: Time, message: LinkMessage) {
        match message {
            LinkMessage::Padding(_) | LinkMessage::Pong => {}
            LinkMessage::Ping => self.send(&LinkMessage::Pong),
            LinkMessage::Goodbye => self.close(CloseReason::PeerGoodbye),
            LinkMessage::Credit { tunnel, cells } => self.credit(now, tunnel, u32::from(cells)),
            LinkMessage::Teardown { tunnel } => {
                self.load.take_early(tunnel);
                if !self.remove(tunnel) {
                    if self.past.has_closed(tunnel) {
                        return;
                    }
                    // It came with the reply that will make this side open the lane.
                    self.past.close(tunnel);
                }
                self.event(LinkEvent::LaneClosed { tunnel });
            }
            other => self.event(LinkEvent::Message(Box::new(other))),
        }
    }

    /// Cells of one lane, next to each other in a frame.
    fn cells(&mut self, now: Time, run: &mut [WireCell]) -> Result<(), CloseReason> {
        let Some(first) = run.first() else { return Ok(()) };
        let tunnel = frame::tunnel_of(first);
        let count = u32::try_from(run.len()).unwrap_or(u32::MAX);
        let counters = self.past.counters();
        counters.cells_in += u64::from(count);
        let Some(state) = self.lanes.get_mut(&tunnel) else {
            self.count_lost(tunnel, u64::from(count));
            self.grants.came(now, count, true);
            return Ok(());
        };
        let first = state.book.arrived(count).map_err(|_| CloseReason::OverGrant)?;
        self.grants.came(now, first, state.is_own());
        state.counters.cells_in += u64::from(count);
        if !matches!(&*state.lane, Lane::ToEnd { .. }) {
            counters.relayed_cells_in += u64::from(count);
        }
        match &mut *state.lane {
            Lane::Transit { half, .. } => {
                for cell in run.iter_mut() {
                    half.relay(frame::body_of(cell));
                }
            }
            Lane::EndHop(_) => {
                self.end_hop_cells(now, tunnel, run);
                return Ok(());
            }
            Lane::ToEnd { .. } | Lane::Leg { .. } => {}
        }
        if state.pending.is_empty() {
            self.load.touched.push(tunnel);
        }
        let transit = matches!(&*state.lane, Lane::Transit { .. });
        let full = if transit { BATCH_CELLS } else { frame::CELLS_MAX };
        let mut rest = run;
        while !rest.is_empty() {
            if state.pending.len() >= full {
                let cells = std::mem::take(&mut state.pending);
                let delivery = lane::deliver(&state.lane, tunnel, cells);
                self.load
                    .outputs
                    .extend(delivery.map(|(to, message)| LinkOutput::Part { to, message }));
            }
            if transit && state.pending.capacity() == 0 {
                state.pending = self.load.spares.take();
            }
            let room = full - state.pending.len();
            let (part, later) = rest.split_at_mut(room.min(rest.len()));
            state.pending.reserve_exact(part.len());
            for cell in part {
                state.pending.extend_from_slice(std::slice::from_ref(frame::body_of(cell)));
            }
            rest = later;
        }
        Ok(())
    }

    /// Sends on what one read brought, one message a lane.
    fn flush_batches(&mut self) {
        let Some(load) = self.load.lists() else { return };
        for tunnel in load.touched.drain(..) {
            let Some(state) = self.lanes.get_mut(&tunnel) else { continue };
            let cells = std::mem::take(&mut state.pending);
            if !cells.is_empty() {
                let delivery = lane::deliver(&state.lane, tunnel, cells);
                load.outputs.extend(delivery.map(|(to, message)| LinkOutput::Part { to, message }));
            }
        }
    }

    fn command(&mut self, now: Time, command: LinkCommand) {
        match command {
            LinkCommand::Send(LinkMessage::Ring(message)) if message.is_large() => {
                if !self.load.bulk.push(message) {
                    tracing::debug!("large message dropped: the peer reads too slowly");
                }
            }
            LinkCommand::Send(message) => self.send(&message),
            LinkCommand::Open { tunnel, lane } => self.open(now, tunnel, lane),
            LinkCommand::EndHop { tunnel, command } => self.end_hop_command(now, tunnel, command),
            LinkCommand::Close { tunnel, tell } => {
                self.load.take_early(tunnel);
                self.remove(tunnel);
                if tell {
                    self.send(&LinkMessage::Teardown { tunnel });
                }
            }
            LinkCommand::Goodbye => {
                self.send(&LinkMessage::Goodbye);
                if self.state == State::Open {
                    self.state = State::Leaving;
                    self.check_at = Some(now + GOODBYE_MAX);
                }
            }
            LinkCommand::Shut => self.close(CloseReason::Local),
        }
    }

    fn part(&mut self, now: Time, message: PartMessage) {
        match message {
            PartMessage::Cells { tunnel, cells } => {
                let Some(state) = self.lanes.get_mut(&tunnel) else {
                    return self.count_lost(tunnel, cells.len() as u64);
                };
                self.load.outputs.extend(state.push(now, cells));
                if state.egress.ready() > 0 {
                    self.schedule.wake(tunnel, state);
                }
            }
            PartMessage::Drained { tunnel, splice: None, cells } => {
                let round_trip = self.round_trip();
                let Some(state) = self.lanes.get_mut(&tunnel) else { return };
                state.book.drained(now, cells, round_trip);
                self.list_grant(tunnel);
            }
            PartMessage::Spent { batch } => self.load.spares.give(batch),
            PartMessage::SpliceCells { tunnel, splice, cells } => {
                self.leg_cells(now, tunnel, splice, cells);
            }
            PartMessage::Drained { tunnel, splice: Some(splice), cells } => {
                self.leg_drained(now, tunnel, splice, cells);
            }
        }
    }

    pub(super) fn send(&mut self, message: &LinkMessage) {
        if self.state == State::Open && self.load.control.push(message).is_err() {
            self.close(CloseReason::ControlOverflow);
        }
    }

    pub(super) fn output(&mut self, output: LinkOutput) {
        self.load.outputs.push_back(output);
    }

    pub(super) fn close(&mut self, reason: CloseReason) {
        if self.state == State::Closed {
            return;
        }
        tracing::debug!(link = self.link.0, ?reason, "link closed");
        self.state = State::Closed;
        self.lanes = Table::new();
        self.schedule.clear();
        self.grants.clear();
        self.load.end();
        self.event(LinkEvent::Closed(reason));
    }

    pub(super) fn event(&mut self, event: LinkEvent) {
        if self.state != State::Closed || matches!(event, LinkEvent::Closed(_)) {
            self.output(LinkOutput::Node(event));
        }
    }

    pub(super) fn count_lost(&mut self, tunnel: TunnelId, cells: u64) {
        if self.past.has_closed(tunnel) {
            self.past.counters().late_cells += cells;
        } else {
            self.past.counters().unknown_cells += cells;
        }
    }
}
