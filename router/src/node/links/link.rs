//! One entry of the registry: how far a link has come, and when it is over.
//!
//! Lives here: what is kept of each. Does not live here: which there are (`links.rs`).

use std::{sync::Arc, time::Duration};

use warren_overlay::{
    id::TunnelId,
    table::Table,
    time::Time,
    wire::{Address, Contact, RouterDescriptor},
};

use super::Asker;

/// How long a dial and its handshake may take; both have stricter limits of their own.
pub(super) const DIAL_LIMIT: Duration = Duration::from_secs(20);
/// How long a link nobody uses stays open: a newcomer meets twice as many routers as it keeps, and in a large
/// network nobody is likely to ask for one of them soon.
const IDLE_LIMIT: Duration = Duration::from_secs(10);
/// The same for the loser of two links between one pair of routers.
pub(super) const RETIRING_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) enum State {
    Dialling {
        dial: Box<Dial>,
        since: Time,
    },
    /// Somebody dialled us; the handshake is under way. Or what it was for is done.
    Accepted {
        since: Time,
    },
    /// Dialled to see whether a peer can be reached there, beside the link that it has here.
    Probing {
        contact: Box<Contact>,
        since: Time,
    },
    Up {
        peer: Arc<RouterDescriptor>,
        initiator: bool,
        lanes_made: u32,
    },
}

/// Where to, and who waits for it.
#[derive(Debug)]
pub(super) struct Dial {
    pub(super) contact: Contact,
    pub(super) waiters: Vec<Asker>,
    /// For this router's own sake too.
    pub(super) own: bool,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) state: State,
    /// Where it really comes from or leads to.
    pub(super) remote: Address,
    /// Lanes open now.
    pub(super) lanes: Table<TunnelId, ()>,
    /// The ring wants it.
    pub(super) kept: bool,
    /// It lost against another link to the same router.
    pub(super) retiring: bool,
    pub(super) used: Time,
}

impl Link {
    pub(super) fn new(state: State, remote: Address, used: Time) -> Self {
        Self { state, remote, lanes: Table::new(), kept: false, retiring: false, used }
    }

    /// When it has taken too long to come up, or been of no use for too long; `None` while it is used.
    pub(super) fn over(&self) -> Option<Time> {
        match &self.state {
            State::Dialling { since, .. }
            | State::Accepted { since }
            | State::Probing { since, .. } => Some(*since + DIAL_LIMIT),
            State::Up { .. } if !self.lanes.is_empty() || self.kept => None,
            State::Up { .. } if self.retiring => Some(self.used + RETIRING_LIMIT),
            State::Up { .. } => Some(self.used + IDLE_LIMIT),
        }
    }
}
