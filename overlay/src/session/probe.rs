//! Whether a tunnel's end hop is there: a question of its own, which it answers at once (garlic.md,
//! section 2).
//!
//! Lives here: one tunnel's question, and how long it may take. Does not live here: when it is asked
//! and what follows (`choice.rs`, `gateways.rs`).

use std::time::Duration;

use crate::time::Time;

/// How long an end hop may take to say that it is there, before other tunnels are preferred: three
/// hops and back.
pub(super) const PROBE_TIME: Duration = Duration::from_millis(600);

/// What a tunnel's end hop says to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Probe {
    /// It was not asked yet.
    #[default]
    None,
    /// It was asked then.
    Asked(Time),
    /// It answered then.
    Answered(Time),
}

impl Probe {
    /// Asks, unless the question is open or was answered since `known`. True if it is to be sent.
    pub(super) fn ask(&mut self, now: Time, known: Time) -> bool {
        let due = match self {
            Self::None => true,
            Self::Asked(_) => false,
            Self::Answered(at) => *at < known,
        };
        if due {
            *self = Self::Asked(now);
        }
        due
    }

    /// The end hop is there.
    pub(super) fn answered(&mut self, now: Time) {
        *self = Self::Answered(now);
    }

    /// Whether it was asked and has not answered.
    pub(super) const fn is_open(self) -> bool {
        matches!(self, Self::Asked(_))
    }

    /// When it will have taken too long, if that is still to come.
    pub(super) fn due(self, now: Time) -> Option<Time> {
        let Self::Asked(at) = self else { return None };
        Some(at + PROBE_TIME).filter(|due| *due > now)
    }

    /// Whether it has taken too long over its answer.
    pub(super) fn is_mute(self, now: Time) -> bool {
        matches!(self, Self::Asked(at) if now.since(at) >= PROBE_TIME)
    }
}
