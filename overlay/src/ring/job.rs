//! One request that this router works on: its state, without its transitions.
//!
//! Lives here: where a request came from, what it still may, what it waits for. Does not live here:
//! what happens next (`request.rs`).

use super::{
    visited::Visited,
    wire::{BUDGET_MAX, Body},
};
use crate::{id::LinkNo, time::Time};

/// Whom the answer goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// A question of this router's own.
    Own { query: u32 },
    /// A linked router, which calls it `id`.
    Link { link: LinkNo, id: u32 },
}

impl From {
    pub(super) const fn link(&self) -> Option<LinkNo> {
        match self {
            Self::Link { link, .. } => Some(*link),
            Self::Own { .. } => None,
        }
    }

    pub(super) const fn is_link(&self) -> bool {
        matches!(self, Self::Link { .. })
    }
}

/// An answer that somebody owes.
#[derive(Debug)]
pub(super) struct Wait {
    pub(super) link: LinkNo,
    pub(super) id: u32,
    pub(super) accepted: bool,
    pub(super) until: Time,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// The own store is asked.
    Local { until: Time },
    /// Passed on.
    Forward(Wait),
    /// The other holders are asked; `copies` of a put are confirmed.
    Siblings { waits: Vec<Wait>, copies: u8 },
}

impl Phase {
    pub(super) fn waits(&self) -> &[Wait] {
        match self {
            Self::Local { .. } => &[],
            Self::Forward(wait) => std::slice::from_ref(wait),
            Self::Siblings { waits, .. } => waits,
        }
    }
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) from: From,
    pub(super) body: Body,
    pub(super) visited: Visited,
    /// Forwards left.
    pub(super) budget: u8,
    /// Ways tried from here.
    pub(super) ways: u8,
    /// The longest back-off that a tried neighbour asked for; 0 if none did.
    pub(super) busy_s: u16,
    pub(super) said_accepted: bool,
    pub(super) phase: Phase,
    /// When the asker loses patience.
    pub(super) give_up: Time,
    /// When the timer that is set goes off.
    pub(super) timer: Time,
}

impl Job {
    pub(super) fn new(from: From, body: Body, visited: Visited, budget: u8) -> Self {
        Self {
            from,
            body,
            visited,
            budget,
            ways: 0,
            busy_s: 0,
            said_accepted: false,
            phase: Phase::Local { until: Time::from_micros(u64::MAX) },
            give_up: Time::from_micros(u64::MAX),
            timer: Time::from_micros(u64::MAX),
        }
    }

    /// What an asker may be told is left: never more than a message can say.
    pub(super) fn left(&self) -> u8 {
        self.budget.min(BUDGET_MAX)
    }

    pub(super) fn next_deadline(&self) -> Time {
        let phase = match &self.phase {
            Phase::Local { until } => Some(*until),
            Phase::Forward(wait) => Some(wait.until),
            Phase::Siblings { waits, .. } => waits.iter().map(|wait| wait.until).min(),
        };
        phase.map_or(self.give_up, |at| at.min(self.give_up))
    }
}
