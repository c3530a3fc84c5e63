//! Whose cells go into the next frame: deficit round robin, lanes that were idle first.
//!
//! Lives here: the two rings of lanes that have something to send. Does not live here: the cells
//! (`egress.rs`) and control messages, which always go first (`io.rs`).
//!
//! ```text
//! Idle --has cells--> Fresh --used its quantum--> Old --ran empty--> Idle
//!                      | ^                                            ^
//!             ran empty| |has cells again                             |
//!                      v |                                            |
//!                      Rest ------- a round without cells ------------'
//! ```
//!
//! A lane that was idle is *interactive*: it gets one quantum before the lanes that are at it all
//! the time, be it in pieces, then queues up with them. It has another one only after a round in which
//! it had nothing, so that a lane which goes idle on purpose gains nothing (the "sparse flows" of `FQ-CoDel`, RFC
//! 8290, section 4). All cells have one size, so a deficit is a number of cells and no lane is ever
//! more than one quantum ahead.

use std::collections::VecDeque;

use crate::id::TunnelId;

/// Cells a lane may send in one turn: over half a frame, so that runs are long and turns are short
/// (100 lanes at 20 MiB/s come round in 40 ms).
pub(super) const QUANTUM: u16 = 8;

/// Where a lane stands in the schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Turn {
    /// In no ring.
    #[default]
    Idle,
    /// In the ring of lanes that were idle, with so many cells left to send; perhaps in the other as well.
    Fresh { left: u16, old: bool },
    /// In the ring of the others: nothing to send, and so many cells left of what it had as fresh.
    Rest(u16),
    /// In the ring of the others.
    Old(u16),
}

/// The rings. Nothing on a link that has no lanes with something to send.
#[derive(Debug, Default)]
pub(super) struct Schedule(Option<Box<Rings>>);

/// Every lane is at most once in each of them, so both are bounded by the lanes of a link.
#[derive(Debug, Default)]
struct Rings {
    fresh: VecDeque<TunnelId>,
    old: VecDeque<TunnelId>,
}

/// What came of a lane's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// It sent so many cells and has more that may leave.
    More(usize),
    /// It sent so many cells and has nothing more that may leave.
    Empty(usize),
}

impl Schedule {
    /// Puts a lane that may send into the schedule.
    pub(super) fn wake(&mut self, tunnel: TunnelId, turn: &mut Turn) {
        *turn = match *turn {
            Turn::Idle => Turn::Fresh { left: QUANTUM, old: false },
            Turn::Rest(left) => Turn::Fresh { left, old: true },
            Turn::Fresh { .. } | Turn::Old(_) => return,
        };
        self.0.get_or_insert_default().fresh.push_back(tunnel);
    }

    /// Forgets a lane that is being closed.
    pub(super) fn forget(&mut self, tunnel: TunnelId, turn: Turn) {
        let Some(rings) = &mut self.0 else { return };
        match turn {
            Turn::Idle => {}
            Turn::Fresh { .. } => {
                rings.fresh.retain(|other| *other != tunnel);
                rings.old.retain(|other| *other != tunnel);
            }
            Turn::Rest(_) | Turn::Old(_) => rings.old.retain(|other| *other != tunnel),
        }
    }

    /// Gives up room that no lane needs.
    pub(super) fn rest(&mut self) {
        if self.is_empty() {
            self.0 = None;
        }
    }

    /// Whether no lane waits.
    pub(super) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|rings| rings.fresh.is_empty() && rings.old.is_empty())
    }

    /// Whether a lane waits that was idle before.
    pub(super) fn has_fresh(&self) -> bool {
        self.0.as_ref().is_some_and(|rings| !rings.fresh.is_empty())
    }

    /// The lane whose turn it is.
    pub(super) fn next(&self) -> Option<TunnelId> {
        let rings = self.0.as_ref()?;
        rings.fresh.front().or(rings.old.front()).copied()
    }

    /// Drops the lane that `next` named: it is gone.
    pub(super) fn skip(&mut self) {
        if let Some(rings) = &mut self.0
            && rings.fresh.pop_front().is_none()
        {
            rings.old.pop_front();
        }
    }

    /// Books what the lane that `next` named has done, and moves it on.
    pub(super) fn served(&mut self, tunnel: TunnelId, turn: &mut Turn, served: Served) {
        let Some(rings) = &mut self.0 else { return };
        let sent = match served {
            Served::More(sent) | Served::Empty(sent) => sent,
        };
        let left = turn.left().saturating_sub(u16::try_from(sent).unwrap_or(u16::MAX));
        let full = matches!(served, Served::More(_)) && left > 0; // the frame is: same lane again
        if let Turn::Fresh { old, .. } = *turn {
            if full {
                *turn = Turn::Fresh { left, old };
                return;
            }
            rings.fresh.pop_front();
            *turn = if left > 0 { Turn::Rest(left) } else { Turn::Old(QUANTUM) };
            if !old {
                rings.old.push_back(tunnel);
            }
        } else if full {
            *turn = Turn::Old(left);
        } else {
            rings.old.pop_front();
            *turn = if served == Served::Empty(0) { Turn::Idle } else { Turn::Old(QUANTUM) };
            if *turn != Turn::Idle {
                rings.old.push_back(tunnel);
            }
        }
    }
}

impl Turn {
    /// Cells left in this turn.
    pub(super) const fn deficit(self) -> usize {
        self.left() as usize
    }

    const fn left(self) -> u16 {
        match self {
            Self::Idle => 0,
            Self::Fresh { left, .. } | Self::Rest(left) | Self::Old(left) => left,
        }
    }
}
