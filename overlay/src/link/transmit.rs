//! What goes into the next frames: control, grants, parts of blocks, then cells by schedule.
//!
//! Lives here: filling the transmit buffer. Does not live here: lanes and timers (`io.rs`), turns
//! (`schedule.rs`).

use crate::{
    link::{
        api::LinkOutput,
        channel::{CIPHERTEXT_MAX, HEAD_LEN},
        classes::Class,
        frame::FrameWriter,
        io::{Core, LinkIo, State, TRANSMIT_MAX},
        lane,
        load::Held,
        schedule::Served,
    },
    plane::CloseReason,
    time::Time,
    wire::{LinkMessage, Writer},
};

/// Bytes of a `Part` before its piece: head 3, flags 1.
const PART_HEAD_LEN: usize = 4;
/// Bytes of a `Credit`: head 3, tunnel id 4, cells 2.
const CREDIT_LEN: usize = 9;

impl LinkIo {
    /// Appends up to [`TRANSMIT_MAX`] bytes of frames to `buffer` and says how many bytes.
    ///
    /// Call it when the socket takes bytes, with nothing else waiting for the socket, and drain
    /// `poll_output` after. Zero means that nothing is to be sent now.
    pub fn poll_transmit(&mut self, now: Time, buffer: &mut Vec<u8>) -> usize {
        let core = &mut self.core;
        if core.state == State::Closed {
            return 0;
        }
        let start = buffer.len();
        while buffer.len() - start + HEAD_LEN + CIPHERTEXT_MAX <= TRANSMIT_MAX {
            if core.frame_out(now, buffer) == 0 {
                break;
            }
        }
        let bytes = buffer.len() - start;
        core.hold(now);
        if bytes > 0 {
            core.pads.sent(now);
            core.bytes_out += bytes as u64;
            core.pace_out.count(now, bytes);
            core.tell_drained(now);
        }
        if core.state == State::Leaving && core.load.control.is_empty() {
            core.close(CloseReason::Local);
        }
        bytes
    }

    /// Whether `poll_transmit` may have something.
    pub fn wants_transmit(&self) -> bool {
        let core = &self.core;
        let held = core.load.held;
        core.state != State::Closed
            && (!core.load.control.is_empty()
                || core.pads.wants_frame()
                || core.grants.is_ready()
                || (core.data_waits(held) && held.data.is_none())
                || core.schedule.has_fresh(held))
    }
}

impl Core {
    /// Writes one frame; says how many bytes.
    pub(super) fn frame_out(&mut self, now: Time, buffer: &mut Vec<u8>) -> usize {
        let mut frame = FrameWriter::begin(buffer);
        self.control_out(now, &mut frame);
        self.grants_out(now, &mut frame);
        let (mut parts, mut placed) = (0, false);
        let open = self.state == State::Open;
        if open
            && self.data_waits(self.load.held)
            && let Ok(most) = self.pace_out.cells(now)
        {
            placed = true;
            parts = self.parts_out(&mut frame);
            self.cells_out(now, &mut frame, most, false);
        } else if open && !self.schedule.is_empty() && self.pace_out.spares(now) {
            self.cells_out(now, &mut frame, usize::MAX, true);
        }
        if let Some(len) = self.pads.fill(now, frame.is_empty()) {
            encode(&LinkMessage::Padding(len), &mut self.load.scratch);
            frame.control(&self.load.scratch);
        }
        let cells = frame.cell_count();
        if cells > 0 {
            self.past.counters().cells_out += cells as u64;
        }
        if cells + parts > 0 {
            self.pulse.spoke(now);
        }
        let bytes = frame.finish(now, &mut self.sealer);
        if bytes > 0 {
            self.pace_out.used(now, bytes, placed && cells + parts > 0);
        }
        bytes
    }

    fn control_out(&mut self, now: Time, frame: &mut FrameWriter<'_>) {
        let Self { load, pulse, .. } = self;
        let Some(load) = load.lists() else { return };
        while load.control.pop(frame.control_room(), |message| {
            if LinkMessage::is_answered(message) {
                pulse.spoke(now);
            }
            frame.control(message);
        }) {}
    }

    /// Takes note of how long the bandwidth limit keeps back what is left, if it does.
    fn hold(&mut self, now: Time) {
        let (shared, shared_fresh) = self.schedule.held(now);
        let mut held = Held { data: None, fresh: !self.pace_out.spares(now), shared, shared_fresh };
        if self.data_waits(held) {
            held.data = self.pace_out.cells(now).err();
        }
        self.load.hold(held);
        self.grants.hold(now);
    }

    /// Whether there is something that nothing but the bandwidth of all may keep back.
    fn data_waits(&self, held: Held) -> bool {
        self.schedule.own_wait()
            || !self.load.bulk.is_empty()
            || (held.shared.is_none() && !self.schedule.is_empty())
    }

    /// Parts of large messages, and how many: one where cells wait, which then have the other half of
    /// the frame.
    fn parts_out(&mut self, frame: &mut FrameWriter<'_>) -> usize {
        let Some(load) = self.load.lists() else { return 0 };
        let mut parts = 0;
        while frame.control_room() >= LinkMessage::PART_LEN + PART_HEAD_LEN
            && (parts == 0 || self.schedule.is_empty())
            && load.bulk.next_part(&mut load.scratch)
        {
            frame.control(&load.scratch);
            parts += 1;
        }
        parts
    }

    fn grants_out(&mut self, now: Time, frame: &mut FrameWriter<'_>) {
        while frame.control_room() >= CREDIT_LEN
            && let Some(turn) = self.grants.next(now)
        {
            let tunnel = turn.tunnel;
            let Some(state) = self.lanes.get_mut(&tunnel) else { continue };
            state.grant_listed = false;
            if let Ok(cells @ 1..) = u16::try_from(state.book.grant(turn.most)) {
                encode(&LinkMessage::Credit { tunnel, cells }, &mut self.load.scratch);
                frame.control(&self.load.scratch);
                self.grants.told(now, turn, cells);
            }
            self.list_grant(tunnel);
        }
    }

    /// Up to `most` cells, by turns; of lanes that were idle alone if `fresh`.
    fn cells_out(&mut self, now: Time, frame: &mut FrameWriter<'_>, most: usize, fresh: bool) {
        let mut of_others = 0;
        for class in self.schedule.order() {
            let before = frame.cell_count();
            let (allowed, fresh) = self.schedule.allows(now, class, fresh);
            let most = most.min(before.saturating_add(allowed));
            of_others += self.class_out(now, frame, most, (class, fresh));
            self.schedule.sent(now, class, frame.cell_count() - before, !fresh);
        }
        self.schedule.count(now, of_others);
    }

    /// Cells of one class until the frame has `most`; says how many are of others.
    fn class_out(
        &mut self,
        now: Time,
        frame: &mut FrameWriter<'_>,
        most: usize,
        (class, fresh): (Class, bool),
    ) -> usize {
        let mut of_others = 0;
        while frame.cell_room() > 0
            && frame.cell_count() < most
            && let Some(tunnel) = self.schedule.next(class, fresh)
        {
            let Some(state) = self.lanes.get_mut(&tunnel) else {
                self.schedule.skip(class);
                continue;
            };
            if !self.schedule.is_placed(tunnel, state) {
                continue;
            }
            let sent = state.fill(now, tunnel, frame, &mut self.load.outputs);
            if sent > 0 && state.left == 0 {
                self.load.drained.push(tunnel);
            }
            state.left += u32::try_from(sent).unwrap_or(u32::MAX);
            // A lane that gave nothing has nothing, whatever it says: the loop must end.
            let more = sent > 0 && state.is_ready();
            let served = if more { Served::More(sent) } else { Served::Empty(sent) };
            self.schedule.served(tunnel, state, served);
            of_others += if state.is_own() { 0 } else { sent };
        }
        of_others
    }

    /// Tells feeders what has left, once a lane.
    fn tell_drained(&mut self, now: Time) {
        if self.load.drained.is_empty() {
            return;
        }
        let mut told = std::mem::take(&mut self.load.drained);
        for tunnel in told.drain(..) {
            let Some(state) = self.lanes.get_mut(&tunnel) else { continue };
            let cells = std::mem::take(&mut state.left);
            match lane::drained(&state.lane, tunnel, cells) {
                Some((to, message)) => self.output(LinkOutput::Part { to, message }),
                None => self.pump_end_hop(now, tunnel),
            }
        }
        self.load.drained = told; // keeps its room
    }
}

/// Replaces what `scratch` holds, and keeps its room.
fn encode(message: &LinkMessage, scratch: &mut Vec<u8>) {
    let mut w = Writer::over(std::mem::take(scratch));
    message.encode(&mut w);
    *scratch = w.into_bytes();
}
