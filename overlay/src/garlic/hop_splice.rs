//! One splice as a tunnel's end hop sees it: the owner on one side, a leg on the other.
//!
//! Lives here: what waits for whom, credits, and how a splice ends. Does not live here: which
//! splice may send next (`end_hop.rs`), and the leg's lane, which belongs to its link.
//!
//! ```text
//!            SpliceData            leg cells
//!  owner ------------------> to_leg ------------------> leg     inflow: granted as the leg drains
//!        <------------------ to_owner <----------------         outflow: granted by the owner
//!
//!  Open --owner closed--> OwnerLeft --all has left the leg--> gone, Node is told
//!    | '-----leg closed--> LegLeft ---all has gone to the owner--> SpliceClosed, gone
//!    '-------stalled-----> LegLeft, emptied; Node is told
//! ```

use std::collections::VecDeque;

use super::{
    cell::{DATA_MAX, push_leg_data},
    clove::Clove,
    flow::{Inflow, Outflow, STALL_MAX},
};
use crate::{
    id::{LinkNo, SpliceId, TunnelId},
    plane::{CELL_BODY_LEN, CellBody},
    time::Time,
};

/// Most cells in one message between parts (DESIGN section 2).
pub(crate) const BATCH_MAX: usize = 15;
/// Most cells of one splice that may wait in its leg's egress: as for every lane (plane.rs).
pub(crate) const LEG_FEED_MAX: u32 = 128;

/// Cells in the batches in which they came: nothing is copied to queue it.
#[derive(Debug, Default)]
pub(crate) struct CellQueue {
    batches: VecDeque<Vec<CellBody>>,
    /// How many cells of the first batch are used up.
    at: usize,
    len: usize,
}

impl CellQueue {
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a leg cell of `data`: the one copy that it costs. `false` if no leg cell holds it.
    pub(crate) fn push_data(&mut self, data: &[u8]) -> bool {
        if !(1..=DATA_MAX).contains(&data.len()) {
            return false;
        }
        if self.batches.back().is_none_or(|batch| batch.len() >= BATCH_MAX) {
            self.batches.push_back(Vec::new());
        }
        let Some(batch) = self.batches.back_mut() else { return false };
        batch.push([0; CELL_BODY_LEN]);
        self.len += 1;
        batch.last_mut().is_some_and(|cell| push_leg_data(cell, data))
    }

    pub(crate) fn push_batch(&mut self, cells: Vec<CellBody>) {
        if !cells.is_empty() {
            self.len += cells.len();
            self.batches.push_back(cells);
        }
    }

    pub(crate) fn front(&self) -> Option<&CellBody> {
        self.batches.front()?.get(self.at)
    }

    pub(crate) fn pop(&mut self) {
        let Some(batch) = self.batches.front() else { return };
        self.at += 1;
        self.len = self.len.saturating_sub(1);
        if self.at >= batch.len() {
            self.batches.pop_front();
            self.at = 0;
        }
    }

    /// The first cells, at most `max` and at most one batch.
    pub(crate) fn take(&mut self, max: usize) -> Vec<CellBody> {
        let Some(mut batch) = self.batches.pop_front() else { return Vec::new() };
        let used = std::mem::take(&mut self.at);
        if used > 0 {
            batch.drain(..used);
        }
        let max = max.min(BATCH_MAX);
        if batch.len() > max {
            let rest = batch.split_off(max);
            self.batches.push_front(rest);
        }
        self.len = self.len.saturating_sub(batch.len());
        batch
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// How far a splice's end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Both sides are there (or the leg is being dialled).
    Open,
    /// The owner closed it; what it sent still goes to the leg.
    OwnerLeft,
    /// The leg closed, or never came; what it sent still goes to the owner.
    LegLeft,
}

/// The first word that the owner gets about a splice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// It was said, or is not due yet.
    None,
    /// `SpliceIncoming` is to be said.
    Incoming,
    /// `SpliceOpened` is to be said.
    Opened,
}

/// What a sweep found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stall {
    /// All is well.
    None,
    /// Nothing moved for too long: Node must be told, the owner will be.
    Both,
    /// Only the owner is left, and it does not read.
    Owner,
    /// Only the leg is left, and it does not drain.
    Leg,
}

/// State of one splice.
#[derive(Debug)]
pub(crate) struct HopSplice {
    pub(crate) leg: Option<(LinkNo, TunnelId)>,
    pub(crate) phase: Phase,
    pub(crate) inflow: Inflow,
    pub(crate) to_leg: CellQueue,
    /// How many more cells the leg's egress takes.
    pub(crate) leg_room: u32,
    pub(crate) outflow: Outflow,
    pub(crate) to_owner: CellQueue,
    /// Cells that went to the owner and that the leg was not told of yet.
    pub(crate) drained: u32,
    pub(crate) greeting: Greeting,
    pub(crate) in_urgent: bool,
    pub(crate) in_ready: bool,
    pub(crate) in_dirty: bool,
    /// Since when the leg has made no progress with what waits for it, or has not come.
    leg_waits: Option<Time>,
    /// Since when the owner has granted nothing for what waits for it.
    owner_waits: Option<Time>,
}

impl HopSplice {
    pub(crate) const fn unattached(now: Time) -> Self {
        Self {
            leg: None,
            phase: Phase::Open,
            inflow: Inflow::new(),
            to_leg: CellQueue { batches: VecDeque::new(), at: 0, len: 0 },
            leg_room: LEG_FEED_MAX,
            outflow: Outflow::new(),
            to_owner: CellQueue { batches: VecDeque::new(), at: 0, len: 0 },
            drained: 0,
            greeting: Greeting::None,
            in_urgent: false,
            in_ready: false,
            in_dirty: false,
            leg_waits: Some(now),
            owner_waits: None,
        }
    }

    pub(crate) const fn incoming(leg: (LinkNo, TunnelId)) -> Self {
        let mut splice = Self::unattached(Time::ZERO);
        splice.leg = Some(leg);
        splice.greeting = Greeting::Incoming;
        splice.leg_waits = None;
        splice
    }

    /// A splice that was refused before it began: only the refusal is left to say.
    pub(crate) const fn refused() -> Self {
        let mut splice = Self::unattached(Time::ZERO);
        splice.phase = Phase::LegLeft;
        splice.leg_waits = None;
        splice
    }

    /// The next control clove that the owner must get, if any.
    pub(crate) fn next_word(&mut self, splice: SpliceId) -> Option<Clove> {
        match std::mem::replace(&mut self.greeting, Greeting::None) {
            Greeting::Incoming => return Some(Clove::SpliceIncoming { splice }),
            Greeting::Opened => return Some(Clove::SpliceOpened { splice }),
            Greeting::None => {}
        }
        match self.phase {
            Phase::Open if self.inflow.grant_due() => {
                Some(Clove::SpliceCredit { splice, cells: self.inflow.take_grant() })
            }
            Phase::LegLeft if self.to_owner.is_empty() => Some(Clove::SpliceClosed { splice }),
            _ => None,
        }
    }

    pub(crate) fn has_word(&self) -> bool {
        self.greeting != Greeting::None
            || match self.phase {
                Phase::Open => self.inflow.grant_due(),
                Phase::OwnerLeft => false,
                Phase::LegLeft => self.to_owner.is_empty(),
            }
    }

    /// Whether a cell of data can go to the owner now.
    pub(crate) const fn may_send(&self) -> bool {
        !self.to_owner.is_empty() && self.outflow.credit() > 0
    }

    /// Whether all that the owner sent has left the leg's queue.
    pub(crate) const fn leg_is_flushed(&self) -> bool {
        self.to_leg.is_empty() && self.leg_room == LEG_FEED_MAX
    }

    /// Something went to the leg's queue, or left it (`progress`).
    pub(crate) fn leg_moved(&mut self, now: Time, progress: bool) {
        if self.leg.is_some() && self.leg_is_flushed() {
            self.leg_waits = None;
        } else if progress {
            self.leg_waits = Some(now);
        } else {
            self.leg_waits.get_or_insert(now);
        }
    }

    /// The owner's queue or credit changed.
    pub(crate) fn owner_moved(&mut self, now: Time) {
        if self.to_owner.is_empty() || self.outflow.credit() > 0 {
            self.owner_waits = None;
        } else {
            self.owner_waits.get_or_insert(now);
        }
    }

    pub(crate) const fn waits(&self) -> bool {
        self.leg_waits.is_some() || self.owner_waits.is_some()
    }

    pub(crate) fn stall(&self, now: Time) -> Stall {
        let long = |since: Option<Time>| since.is_some_and(|at| now.since(at) >= STALL_MAX);
        match (self.phase, long(self.leg_waits), long(self.owner_waits)) {
            (Phase::Open, true, _) | (Phase::Open, _, true) => Stall::Both,
            (Phase::OwnerLeft, true, _) => Stall::Leg,
            (Phase::LegLeft, _, true) => Stall::Owner,
            _ => Stall::None,
        }
    }

    /// The leg is gone: what waits for it is dropped, what came from it still goes to the owner.
    pub(crate) fn leg_left(&mut self) {
        self.phase = Phase::LegLeft;
        self.leg = None;
        self.leg_waits = None;
        self.drained = 0;
        self.to_leg.clear();
    }

    /// Nothing more goes to the owner but the last word.
    pub(crate) fn drop_for_owner(&mut self) {
        self.to_owner.clear();
        self.owner_waits = None;
    }

    /// Cells held here.
    pub(crate) const fn queued(&self) -> usize {
        self.to_leg.len() + self.to_owner.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::garlic::cell::{leg_cell, leg_data};

    fn cell(n: u16) -> CellBody {
        leg_cell(&n.to_be_bytes()).unwrap()
    }

    proptest! {
        #[test]
        fn a_queue_of_batches_is_a_queue(
            steps in prop::collection::vec((0u8..4, 0usize..40), 1..60),
        ) {
            let (mut queue, mut model, mut next) = (CellQueue::default(), VecDeque::new(), 0);
            let mut fresh = || { next += 1; cell(next) };
            for (what, n) in steps {
                match what {
                    0 => for _ in 0..n {
                        let cell = fresh();
                        model.push_back(cell);
                        queue.push_data(leg_data(&cell).unwrap());
                    },
                    1 => {
                        let cells: Vec<_> = (0..n).map(|_| fresh()).collect();
                        model.extend(cells.iter().copied());
                        queue.push_batch(cells);
                    }
                    2 => for _ in 0..n {
                        prop_assert_eq!(queue.front(), model.front());
                        queue.pop();
                        model.pop_front();
                    },
                    _ => for cell in queue.take(n) {
                        prop_assert_eq!(Some(cell), model.pop_front());
                    },
                }
                prop_assert_eq!(queue.len(), model.len());
            }
            while !queue.is_empty() {
                let batch = queue.take(9);
                prop_assert!((1..=9).contains(&batch.len()));
                for cell in batch {
                    prop_assert_eq!(Some(cell), model.pop_front());
                }
            }
            prop_assert!(model.is_empty());
        }
    }
}
