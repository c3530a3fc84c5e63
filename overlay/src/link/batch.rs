//! Batches of cells on their way from one link to another, used again and again.
//!
//! Lives here: how long a batch is, and the empty ones that a link keeps. Does not live here: the
//! way back, which is `PartMessage::Spent`.
//!
//! ```text
//!  link A: take --Cells--> link B: queued, sent --Spent--> link A: give
//! ```
//!
//! A middle hop's batches alone make the round trip: those for an `End` or an `EndHop` end there.

use crate::{
    link::credit::TUNNEL_WINDOW,
    plane::{CELL_BODY_LEN, CellBody},
};

/// Cells in a middle hop's batch: a lane's turn (`schedule::QUANTUM`), about half a frame.
///
/// Its room is held however few cells it has, but [`super::egress`] fills up the last one before it
/// queues another. So a queue takes at most twice what its cells do, and one batch: together at
/// most twice the windows, which are half the router's memory (PROTOCOL P5).
pub(super) const BATCH_CELLS: usize = 8;
/// Empty batches that a link keeps, a whole window of a lane's: a queue that drains and fills again
/// then allocates nothing. Never more than once waited at a time; an idle link gives them back, and
/// so does every link when memory runs short.
const SPARES_MAX: usize = TUNNEL_WINDOW.cap as usize / BATCH_CELLS;

/// Empty batches.
#[derive(Debug, Default)]
pub(super) struct Spares(Vec<Vec<CellBody>>);

impl Spares {
    /// None.
    pub(super) const fn none() -> Self {
        Self(Vec::new())
    }

    /// An empty batch with room for [`BATCH_CELLS`].
    pub(super) fn take(&mut self) -> Vec<CellBody> {
        self.0.pop().unwrap_or_else(|| Vec::with_capacity(BATCH_CELLS))
    }

    /// Keeps a batch that is used up, if it is of the usual size and there is room.
    pub(super) fn give(&mut self, mut batch: Vec<CellBody>) {
        if batch.capacity() == BATCH_CELLS && self.0.len() < SPARES_MAX {
            batch.clear();
            self.0.push(batch);
        }
    }

    /// Their memory, in bytes.
    pub(super) const fn bytes(&self) -> usize {
        self.0.len() * BATCH_CELLS * CELL_BODY_LEN
    }

    /// Frees them all.
    pub(super) fn rest(&mut self) {
        self.0 = Vec::new();
    }
}
