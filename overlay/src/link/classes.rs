//! Whose cells go next where tunnels of others have a share of the bandwidth.
//!
//! Lives here: a schedule for lanes of this router and one for those of others, and what the share lets
//! pass. Does not live here: turns within one of them (`schedule.rs`), the bandwidth of all links and the
//! share (`rate.rs`).
//!
//! ```text
//!  own lanes     ---------------------> whoever has had less --sent--> frame
//!  others' lanes --share of transit-->
//! ```
//!
//! Without a share all lanes are in the first schedule and take turns.

use crate::{
    id::TunnelId,
    link::{
        lane::LaneState,
        load::Held,
        rate::{Pacer, RateLimits},
        schedule::{Schedule, Served, Turn},
    },
    plane::CELL_LEN,
    time::Time,
};

/// How far one class may be ahead of the other before a pause makes them equal, in cells.
const LEAD_MAX: i32 = 64;

/// Which lanes: those of others, where these have a share; or all else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Class {
    /// This router's, and all where there is no share.
    #[default]
    Own,
    /// Those that the share holds back.
    Shared,
}

/// The lanes of one link that have something to send.
#[derive(Debug)]
pub(super) struct Classes {
    own: Schedule,
    shared: Schedule,
    /// The link's turns at what tunnels of others may send.
    share: Pacer,
    /// Cells that others have sent more than this router, of late.
    lead: i32,
}

impl Classes {
    /// Nothing waits.
    pub(super) fn new(limits: Option<&RateLimits>) -> Self {
        Self {
            own: Schedule::default(),
            shared: Schedule::default(),
            share: Pacer::new(limits.map(|limits| &limits.transit_sent)),
            lead: 0,
        }
    }

    /// Puts a lane that may send into its schedule.
    pub(super) fn wake(&mut self, tunnel: TunnelId, state: &mut LaneState) {
        if state.egress.turn == Turn::Idle {
            state.class = self.class(state);
        }
        self.of(state.class).wake(tunnel, &mut state.egress.turn);
    }

    /// Forgets a lane that is being closed.
    pub(super) fn forget(&mut self, tunnel: TunnelId, state: &LaneState) {
        self.of(state.class).forget(tunnel, state.egress.turn);
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.own = Schedule::default();
        self.shared = Schedule::default();
    }

    /// Gives up room that no lane needs.
    pub(super) fn rest(&mut self) {
        self.own.rest();
        self.shared.rest();
    }

    /// Whether no lane waits.
    pub(super) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.shared.is_empty()
    }

    /// Whether lanes wait that nothing but the bandwidth of all may hold back.
    pub(super) fn own_wait(&self) -> bool {
        !self.own.is_empty()
    }

    /// Whether a lane waits that was idle before, and that nothing but `held` could keep.
    pub(super) fn has_fresh(&self, held: Held) -> bool {
        !held.fresh && (self.own.has_fresh() || (self.shared.has_fresh() && !held.shared_fresh))
    }

    /// Both classes, the one that has had less first.
    pub(super) const fn order(&self) -> [Class; 2] {
        if self.lead > 0 { [Class::Own, Class::Shared] } else { [Class::Shared, Class::Own] }
    }

    /// Cells that a class may send now, as far as the share says, and whether of lanes that were idle
    /// alone; `fresh` if the bandwidth of all allows no more than that.
    pub(super) fn allows(&mut self, now: Time, class: Class, fresh: bool) -> (usize, bool) {
        if class == Class::Own {
            return (usize::MAX, fresh);
        }
        if self.shared.is_empty() {
            return (0, fresh);
        }
        match self.share.cells(now) {
            Ok(cells) if !fresh => (cells, false),
            _ if self.share.spares(now) => (usize::MAX, true),
            _ => (0, fresh),
        }
    }

    /// The lane of a class whose turn it is; one that was idle if `fresh`.
    pub(super) fn next(&mut self, class: Class, fresh: bool) -> Option<TunnelId> {
        let schedule = self.of(class);
        if fresh && !schedule.has_fresh() { None } else { schedule.next() }
    }

    /// Drops the lane that `next` named: it is gone.
    pub(super) fn skip(&mut self, class: Class) {
        self.of(class).skip();
    }

    /// Whether the lane that `next` named waits among its like; else it does from now on.
    pub(super) fn is_placed(&mut self, tunnel: TunnelId, state: &mut LaneState) -> bool {
        let class = self.class(state);
        // One that has a share no longer sends what it has, as there is room for it.
        if class == state.class || class == Class::Own {
            return true;
        }
        self.forget(tunnel, state);
        state.egress.turn = Turn::Idle;
        self.wake(tunnel, state);
        false
    }

    /// Books what the lane that `next` named has done.
    pub(super) fn served(&mut self, tunnel: TunnelId, state: &mut LaneState, served: Served) {
        self.of(state.class).served(tunnel, &mut state.egress.turn, served);
    }

    /// Books what a class has sent into a frame, by the place if `placed`.
    pub(super) fn sent(&mut self, now: Time, class: Class, cells: usize, placed: bool) {
        if cells == 0 {
            return;
        }
        let more = i32::try_from(cells).unwrap_or(LEAD_MAX);
        let lead = match class {
            Class::Own => self.lead - more,
            Class::Shared => self.lead + more,
        };
        self.lead = lead.clamp(-LEAD_MAX, LEAD_MAX);
        if class == Class::Shared {
            self.share.used(now, cells * CELL_LEN, placed);
        }
    }

    /// Takes note of cells of others that are on their way.
    pub(super) fn count(&self, now: Time, cells: usize) {
        if cells > 0 {
            self.share.count(now, cells * CELL_LEN);
        }
    }

    /// Until when the share holds back what waits for it, if it does; and whether also lanes that were
    /// idle.
    pub(super) fn held(&mut self, now: Time) -> (Option<Time>, bool) {
        if self.shared.is_empty() {
            return (None, false);
        }
        (self.share.cells(now).err(), !self.share.spares(now))
    }

    fn class(&self, state: &LaneState) -> Class {
        if !state.is_own() && self.share.is_limited() { Class::Shared } else { Class::Own }
    }

    const fn of(&mut self, class: Class) -> &mut Schedule {
        match class {
            Class::Own => &mut self.own,
            Class::Shared => &mut self.shared,
        }
    }
}
