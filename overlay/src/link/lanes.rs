//! The lanes of one link: opened, granted, closed.
//!
//! Lives here: the life of a lane in the link's table, early grants, stuck queues. Does not live here:
//! one lane's credits and queue (`credit.rs`, `egress.rs`), where its cells go (`io.rs`, `lane.rs`).

use super::{
    api::LinkCounters,
    classes::Class,
    credit::CreditBook,
    egress::Egress,
    io::{Core, EARLY_KEPT, EARLY_MAX, STUCK_MAX},
    lane::{self, LaneCounters, LaneState},
};
use crate::{
    id::TunnelId,
    plane::{Lane, LinkEvent},
    room::Room,
    time::Time,
    wire::LinkMessage,
};

/// Closed lanes that are remembered, to tell late cells from senseless ones.
const CLOSED_MAX: usize = 64;

/// What the lanes of a link have left behind. Over most links goes no cell for long: nothing there.
#[derive(Debug, Default)]
pub(super) struct Past(Option<Box<Left>>);

#[derive(Debug, Default)]
struct Left {
    counters: LinkCounters,
    /// The youngest that were closed.
    closed: Vec<TunnelId>,
}

impl Past {
    /// What was counted of lanes and their cells; all else is zero.
    pub(super) fn counted(&self) -> LinkCounters {
        self.0.as_ref().map(|it| it.counters).unwrap_or_default()
    }

    /// The same, to count on.
    pub(super) fn counters(&mut self) -> &mut LinkCounters {
        &mut self.0.get_or_insert_default().counters
    }

    /// Whether the lane was closed not long ago.
    pub(super) fn has_closed(&self, tunnel: TunnelId) -> bool {
        self.0.as_ref().is_some_and(|it| it.closed.contains(&tunnel))
    }

    /// Takes note of a lane that is closed.
    pub(super) fn close(&mut self, tunnel: TunnelId) {
        let closed = &mut self.0.get_or_insert_default().closed;
        if closed.len() >= CLOSED_MAX {
            closed.remove(0);
        }
        closed.push(tunnel);
    }

    /// Gives up room to spare.
    pub(super) fn rest(&mut self) {
        if let Some(left) = &mut self.0 {
            left.closed.rest();
        }
    }
}

impl Core {
    pub(super) fn credit(&mut self, now: Time, tunnel: TunnelId, cells: u32) {
        if let Some(state) = self.lanes.get_mut(&tunnel) {
            state.egress.credit(cells);
            if state.is_ready() {
                self.schedule.wake(tunnel, state);
            }
        } else if !self.past.has_closed(tunnel) {
            if self.load.early.len() >= EARLY_MAX {
                self.load.early.retain(|_, (_, at)| now.since(*at) < EARLY_KEPT);
            }
            if self.load.early.len() >= EARLY_MAX {
                self.past.counters().grants_dropped += 1;
                return;
            }
            let entry = self.load.early.entry(tunnel).or_insert((0, now));
            entry.0 = entry.0.saturating_add(cells);
        }
    }

    pub(super) fn open(&mut self, now: Time, tunnel: TunnelId, lane: Box<Lane>) {
        if let Some(state) = self.lanes.get_mut(&tunnel) {
            state.lane = lane;
            return self.pump_end_hop(now, tunnel);
        }
        // The peer tore it down before; the control plane was told.
        if self.past.has_closed(tunnel) {
            return;
        }
        let Some(book) = CreditBook::open(now, lane::window(&lane), &self.quota) else {
            self.past.counters().lanes_refused += 1;
            return self.break_lane(tunnel);
        };
        let mut egress = Egress::opened(now);
        if let Some(cells) = self.load.take_early(tunnel) {
            egress.credit(cells);
        }
        let state = LaneState {
            lane,
            book,
            egress,
            pending: Vec::new(),
            left: 0,
            class: Class::default(),
            grant_listed: false,
            counters: LaneCounters::default(),
        };
        self.lanes.insert(tunnel, Box::new(state));
        self.list_grant(tunnel);
    }

    pub(super) fn list_grant(&mut self, tunnel: TunnelId) {
        if let Some(state) = self.lanes.get_mut(&tunnel)
            && !state.grant_listed
            && state.book.due() > 0
        {
            state.grant_listed = true;
            self.grants.list(tunnel, state.is_own(), state.book.is_new());
        }
    }

    /// Removes a lane; says whether there was one.
    pub(super) fn remove(&mut self, tunnel: TunnelId) -> bool {
        let Some(state) = self.lanes.remove(&tunnel) else { return false };
        self.schedule.forget(tunnel, &state);
        if state.grant_listed {
            self.grants.forget(tunnel);
        }
        self.grants.unused(state.book.unused(), state.is_own());
        self.past.close(tunnel);
        true
    }

    /// Closes a lane from this side: the peer and the control plane are told.
    pub(super) fn break_lane(&mut self, tunnel: TunnelId) {
        self.remove(tunnel);
        self.send(&LinkMessage::Teardown { tunnel });
        self.event(LinkEvent::LaneClosed { tunnel });
    }

    pub(super) fn close_stuck(&mut self, now: Time) {
        let stuck = |state: &LaneState| {
            state.egress.stuck_since().is_some_and(|since| now.since(since) >= STUCK_MAX)
        };
        let lanes: Vec<_> =
            self.lanes.iter().filter(|(_, state)| stuck(state)).map(|(id, _)| *id).collect();
        for tunnel in lanes {
            self.past.counters().lanes_stuck += 1;
            self.break_lane(tunnel);
        }
    }
}
