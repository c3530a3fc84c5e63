//! One request that this router works on: its state, without its transitions.
//!
//! Lives here: where a request came from, what it still may, what it waits for. Does not live here:
//! what happens next (`request.rs`).

use super::{
    visited::Visited,
    wire::{BUDGET_MAX, Body, Class, RingMessage},
};
use crate::{id::LinkNo, time::Time, unit::Unit};

/// Whom the answer goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// A question of this router's own.
    Own { query: u32 },
    /// A linked router, which calls it `id`.
    Link { link: LinkNo, id: u32 },
    /// The store, which wants one neighbour to have a copy.
    Push { push: u32 },
}

impl From {
    pub(super) const fn link(&self) -> Option<LinkNo> {
        match self {
            Self::Link { link, .. } => Some(*link),
            Self::Own { .. } | Self::Push { .. } => None,
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
    /// It was not sent yet: the neighbour's window is full.
    pub(super) queued: bool,
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
    /// At the end of the way, until what is watched for comes.
    Parked,
}

impl Phase {
    pub(super) fn waits(&self) -> &[Wait] {
        match self {
            Self::Local { .. } | Self::Parked => &[],
            Self::Forward(wait) => std::slice::from_ref(wait),
            Self::Siblings { waits, .. } => waits,
        }
    }

    pub(super) fn wait_mut(&mut self, link: LinkNo, id: u32) -> Option<&mut Wait> {
        let waits = match self {
            Self::Local { .. } | Self::Parked => return None,
            Self::Forward(wait) => std::slice::from_mut(wait),
            Self::Siblings { waits, .. } => waits.as_mut_slice(),
        };
        waits.iter_mut().find(|wait| (wait.link, wait.id) == (link, id))
    }
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) from: From,
    /// Who asked for the same block meanwhile.
    pub(super) followers: Vec<From>,
    pub(super) body: Body,
    pub(super) class: Class,
    pub(super) visited: Visited,
    /// Forwards left.
    pub(super) budget: u8,
    /// Ways tried from here.
    pub(super) ways: u8,
    /// Whether it was passed on to somebody closer than this router.
    pub(super) closer: bool,
    /// Routers asked so far, this one included.
    pub(super) asked: u8,
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
    pub(super) fn new(from: From, body: Body, class: Class, visited: Visited, budget: u8) -> Self {
        Self {
            from,
            followers: Vec::new(),
            body,
            class,
            visited,
            budget,
            ways: 0,
            closer: true,
            asked: 1,
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

    /// Counts routers that were asked on behalf of this job.
    pub(super) fn count_asked(&mut self, more: u8) {
        self.asked = self.asked.saturating_add(more.max(1));
    }

    /// What to say to whoever is asked next, under the number `id`.
    pub(super) fn message(&self, id: u32) -> RingMessage {
        let budget = if matches!(self.phase, Phase::Siblings { .. }) { 0 } else { self.budget };
        let (class, visited, body) = (self.class, self.visited, self.body.clone());
        RingMessage::Request { id, budget, class, visited, body }
    }

    /// Whether asking takes as long as sending a block does.
    pub(super) const fn carries_block(&self) -> bool {
        matches!(self.body, Body::Put(Unit::Block(_)))
    }

    /// Whether it only answers from what this router has.
    pub(super) const fn is_leaf(&self) -> bool {
        self.from.is_link() && self.budget == 0
    }

    pub(super) fn next_deadline(&self) -> Time {
        let phase = match &self.phase {
            Phase::Local { until } => Some(*until),
            Phase::Forward(wait) => Some(wait.until),
            Phase::Siblings { waits, .. } => waits.iter().map(|wait| wait.until).min(),
            Phase::Parked => None,
        };
        phase.map_or(self.give_up, |at| at.min(self.give_up))
    }
}
