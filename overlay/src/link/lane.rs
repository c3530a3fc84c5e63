//! One tunnel or splice leg on one link.
//!
//! Lives here: the lane's state on this link, and where its messages go. Does not live here: what a
//! lane can be (`plane.rs`), the table (`io.rs`), the end hop (`garlic`).

use std::collections::VecDeque;

use crate::{
    id::TunnelId,
    link::{
        api::LinkOutput,
        classes::Class,
        credit::{CreditBook, LEG_WINDOW, TUNNEL_WINDOW, WindowBounds},
        egress::Egress,
        frame::FrameWriter,
    },
    plane::{CELL_BODY_LEN, CellBody, Lane, Part, PartMessage},
    time::Time,
};

/// How far a lane's window starts and goes.
pub(super) const fn window(lane: &Lane) -> WindowBounds {
    match lane {
        Lane::Leg { .. } => LEG_WINDOW,
        Lane::Transit { .. } | Lane::ToEnd { .. } | Lane::EndHop(_) => TUNNEL_WINDOW,
    }
}

/// The message that hands on cells which came on `own`; none where they are used up here.
pub(super) fn deliver(
    lane: &Lane,
    own: TunnelId,
    cells: Vec<CellBody>,
) -> Option<(Part, PartMessage)> {
    match *lane {
        Lane::Transit { to, tunnel, .. } => {
            Some((Part::Link(to), PartMessage::Cells { tunnel, cells }))
        }
        Lane::ToEnd { end } => Some((Part::End(end), PartMessage::Cells { tunnel: own, cells })),
        Lane::Leg { to, tunnel, splice } => {
            Some((Part::Link(to), PartMessage::SpliceCells { tunnel, splice, cells }))
        }
        Lane::EndHop(_) => None,
    }
}

/// The message to whoever fed `own`, when cells of it have left; none where they were made here.
pub(super) const fn drained(lane: &Lane, own: TunnelId, cells: u32) -> Option<(Part, PartMessage)> {
    match *lane {
        Lane::Transit { to, tunnel, .. } => {
            Some((Part::Link(to), PartMessage::Drained { tunnel, splice: None, cells }))
        }
        Lane::ToEnd { end } => {
            Some((Part::End(end), PartMessage::Drained { tunnel: own, splice: None, cells }))
        }
        Lane::Leg { to, tunnel, splice } => {
            Some((Part::Link(to), PartMessage::Drained { tunnel, splice: Some(splice), cells }))
        }
        Lane::EndHop(_) => None,
    }
}

/// The message that gives a used up batch back to whoever made it; none where nobody uses it again.
fn spent(lane: &Lane, batch: Vec<CellBody>) -> Option<LinkOutput> {
    let Lane::Transit { to, .. } = *lane else { return None };
    Some(LinkOutput::Part { to: Part::Link(to), message: PartMessage::Spent { batch } })
}

/// What a lane has carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneCounters {
    /// Cells that came.
    pub cells_in: u64,
    /// Cells that were sent.
    pub cells_out: u64,
}

/// A lane's credits, for those who compare both sides of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneBalance {
    /// Cells the peer may still send.
    pub granted: u32,
    /// Cells the peer still takes.
    pub allowed: u32,
    /// The lane's window: what it takes of the router's quota.
    pub window: u32,
}

/// A lane on this link.
#[derive(Debug)]
pub(super) struct LaneState {
    pub(super) lane: Box<Lane>,
    pub(super) book: CreditBook,
    pub(super) egress: Egress,
    /// Cells of the read in progress.
    pub(super) pending: Vec<CellBody>,
    /// Cells of the frames in progress that have left, not yet told to the feeder.
    pub(super) left: u32,
    /// In whose schedule its turns are.
    pub(super) class: Class,
    /// In the list of lanes with a grant to tell.
    pub(super) grant_listed: bool,
    pub(super) counters: LaneCounters,
}

impl LaneState {
    /// Whether it belongs to a tunnel of this router.
    pub(super) fn is_own(&self) -> bool {
        matches!(&*self.lane, Lane::ToEnd { .. })
    }

    /// Since when what is kept for the lane waits, and its memory in bytes; none if nothing is kept.
    pub(super) fn waiting(&self) -> Option<(Time, usize)> {
        let hop = match &*self.lane {
            Lane::EndHop(hop) => hop.queued_cells(),
            _ => 0,
        };
        let cells = self.egress.room() + hop;
        (cells > 0).then(|| (self.egress.moved_at(), cells * CELL_BODY_LEN))
    }

    /// Whether something waits that could get stuck.
    pub(super) fn must_be_watched(&self) -> bool {
        let hop = match &*self.lane {
            Lane::EndHop(hop) => hop.poll_timeout().is_some(),
            _ => false,
        };
        hop || self.egress.stuck_since().is_some()
    }

    /// Whether a cell could leave now.
    pub(super) fn is_ready(&self) -> bool {
        match &*self.lane {
            Lane::EndHop(hop) => self.egress.has_credit() && hop.has_cell(),
            _ => self.egress.ready() > 0,
        }
    }

    /// Queues cells; says what is left of their batch if they found room in one before.
    pub(super) fn push(&mut self, now: Time, cells: Vec<CellBody>) -> Option<LinkOutput> {
        let batch = self.egress.push(now, cells)?;
        spent(&self.lane, batch)
    }

    /// Moves the cells of one turn into `frame`; says how many. Used up batches go to `outputs`.
    pub(super) fn fill(
        &mut self,
        now: Time,
        tunnel: TunnelId,
        frame: &mut FrameWriter<'_>,
        outputs: &mut VecDeque<LinkOutput>,
    ) -> usize {
        let egress = &mut self.egress;
        let limit = egress.turn.deficit();
        let sent = match &mut *self.lane {
            Lane::EndHop(hop) => {
                let make = |body: &mut CellBody| hop.poll_cell(now, body);
                let sent = egress.fill_with(now, tunnel, limit, frame, make);
                egress.waits(now, hop.has_cell());
                sent
            }
            lane => egress.fill(now, tunnel, limit, frame, |batch| {
                outputs.extend(spent(lane, batch));
            }),
        };
        self.counters.cells_out += sent as u64;
        sent
    }
}
