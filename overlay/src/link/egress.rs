//! What waits to be sent on one lane, and how much of it the peer has allowed.
//!
//! Lives here: the ring of batches with its cursor, the credit left, the lane's turn in the
//! schedule. Does not live here: whose turn it is (`schedule.rs`), what the peer may send
//! (`credit.rs`).
//!
//! Batches are queued as they came, without a copy, but where they fit into the last one's room; a
//! cell is copied once, into the frame.

use std::collections::VecDeque;

use crate::{
    id::TunnelId,
    link::{frame::FrameWriter, schedule::Turn},
    plane::CellBody,
    time::Time,
};

/// The sending side of one lane.
///
/// Bounded by the windows of the lanes that feed it: at most 4,096 cells and what an end's feed
/// window adds.
#[derive(Debug, Default)]
pub(super) struct Egress {
    batches: VecDeque<Vec<CellBody>>,
    /// Cells of the front batch that are already gone.
    cursor: usize,
    queued: usize,
    /// Cells that the batches have room for.
    room: usize,
    credit: u32,
    /// Cells that left and were not granted again.
    owed: u32,
    /// Whether an end hop has cells to make.
    waiting: bool,
    /// When cells last left, or when the first of them came.
    moved_at: Time,
    /// Its place in the schedule.
    pub(super) turn: Turn,
}

impl Egress {
    /// Queues a batch; gives it back if its cells found room in the one before, so that many small
    /// ones do not hold more room than their cells.
    pub(super) fn push(&mut self, now: Time, mut cells: Vec<CellBody>) -> Option<Vec<CellBody>> {
        if cells.is_empty() {
            return Some(cells);
        }
        if self.queued == 0 {
            self.moved_at = now;
        }
        self.queued += cells.len();
        if let Some(last) = self.batches.back_mut()
            && last.capacity() - last.len() >= cells.len()
        {
            last.append(&mut cells);
            return Some(cells);
        }
        self.room += cells.capacity();
        self.batches.push_back(cells);
        None
    }

    /// The peer may be sent `cells` more.
    pub(super) const fn credit(&mut self, cells: u32) {
        self.credit = self.credit.saturating_add(cells);
        self.owed = self.owed.saturating_sub(cells);
    }

    /// Whether the peer owes grants.
    pub(super) const fn is_owed(&self) -> bool {
        self.owed > 0
    }

    /// How many cells may leave now.
    pub(super) fn ready(&self) -> usize {
        self.queued.min(self.credit as usize)
    }

    /// Cells waiting.
    pub(super) const fn queued(&self) -> usize {
        self.queued
    }

    /// Memory of what waits, in cells.
    pub(super) const fn room(&self) -> usize {
        self.room
    }

    /// The sending side of a lane that opens now.
    pub(super) fn opened(now: Time) -> Self {
        Self { moved_at: now, ..Self::default() }
    }

    /// When cells last left, or when the first of them came, or when the lane opened.
    pub(super) const fn moved_at(&self) -> Time {
        self.moved_at
    }

    /// Since when nothing has moved, if something waits.
    pub(super) fn stuck_since(&self) -> Option<Time> {
        (self.queued > 0 || self.waiting).then_some(self.moved_at)
    }

    /// Notes whether the lane's end hop has cells to make.
    pub(super) fn waits(&mut self, now: Time, waiting: bool) {
        if waiting && !self.waiting {
            self.moved_at = now;
        }
        self.waiting = waiting;
    }

    /// Cells that the peer lets pass.
    pub(super) const fn allowed(&self) -> u32 {
        self.credit
    }

    /// Whether the peer lets a cell pass.
    pub(super) const fn has_credit(&self) -> bool {
        self.credit > 0
    }

    /// Lets `make` write up to `limit` cells straight into `frame`; says how many.
    pub(super) fn fill_with(
        &mut self,
        now: Time,
        tunnel: TunnelId,
        limit: usize,
        frame: &mut FrameWriter<'_>,
        mut make: impl FnMut(&mut CellBody) -> bool,
    ) -> usize {
        let mut sent = 0;
        while sent < limit
            && self.credit > 0
            && frame.cell_room() > 0
            && frame.cell_with(tunnel, &mut make)
        {
            self.credit -= 1;
            self.owed = self.owed.saturating_add(1);
            self.moved_at = now;
            sent += 1;
        }
        sent
    }

    /// Moves up to `limit` cells into `frame`; says how many. `used_up` gets each batch that has none
    /// left.
    pub(super) fn fill(
        &mut self,
        now: Time,
        tunnel: TunnelId,
        limit: usize,
        frame: &mut FrameWriter<'_>,
        mut used_up: impl FnMut(Vec<CellBody>),
    ) -> usize {
        let mut left = limit.min(self.ready()).min(frame.cell_room());
        let mut sent = 0;
        while left > 0
            && let Some(front) = self.batches.front()
        {
            let rest = front.get(self.cursor..).unwrap_or_default();
            let (now_sent, later) = rest.split_at(left.min(rest.len()));
            frame.cells(tunnel, now_sent);
            sent += now_sent.len();
            left -= now_sent.len();
            if later.is_empty() {
                let batch = self.batches.pop_front();
                self.room -= batch.as_ref().map_or(0, Vec::capacity);
                batch.map(&mut used_up);
                self.cursor = 0;
            } else {
                self.cursor += now_sent.len();
            }
        }
        self.queued -= sent;
        let gone = u32::try_from(sent).unwrap_or(u32::MAX);
        self.credit = self.credit.saturating_sub(gone);
        self.owed = self.owed.saturating_add(gone);
        if sent > 0 {
            self.moved_at = now;
        }
        sent
    }
}
