//! How long a service waits: for a client to resume, to confirm, to say anything.
//!
//! Lives here: the times, and when one of a session's is over. Does not live here: what follows then
//! (`service.rs`).

use std::time::Duration;

use super::{
    super::{path::PathNo, watch::earlier},
    Session,
};
use crate::time::Time;

/// How long a session waits for its client to resume.
const WAIT_MAX: Duration = Duration::from_mins(2);
/// How long a client may take to confirm that it holds the keys: longer than it goes on trying, so
/// that no attempt of it finds its earlier one forgotten and has its early data read again.
const CONFIRM_TIME: Duration = Duration::from_secs(90);
/// Silence after which a path counts as gone: four of a client's idle checks.
const SILENCE_MAX: Duration = Duration::from_mins(1);
/// The same without streams, when a client checks nothing: longer than it keeps such a path.
const SILENCE_MAX_IDLE: Duration = Duration::from_mins(3);
/// Silence of a client that owes an acknowledgement, beside a round trip, after which the service asks
/// whether its own tunnels are to blame: as long as a client waits before it asks.
const UNHEARD: Duration = Duration::from_millis(350);
/// Age at which a session's keys are not good any more (PROTOCOL P9).
const KEYS_MAX: Duration = Duration::from_hours(24);

/// What has lasted too long.
pub(super) enum Overdue {
    Nothing,
    Path(PathNo),
    Session,
}

impl Session {
    fn silence_max(&self) -> Duration {
        if self.conversation.mux.count() > 0 { SILENCE_MAX } else { SILENCE_MAX_IDLE }
    }

    /// Since when its client owes an acknowledgement and says nothing.
    fn unheard_since(&self) -> Option<Time> {
        let (_, path) = self.live.as_ref()?;
        let (since, _) = self.conversation.waiting()?;
        (self.conversation.outstanding() > 0).then(|| since.max(path.heard))
    }

    fn unheard_at(&self) -> Option<Time> {
        let since = self.unheard_since().filter(|since| self.doubted != Some(*since))?;
        Some(since + UNHEARD + self.conversation.rtt.get())
    }

    /// Whether its client has said nothing for so long that a tunnel may be to blame. Once each time.
    pub(super) fn unheard(&mut self, now: Time) -> bool {
        let unheard = self.unheard_at().is_some_and(|at| at <= now);
        if unheard {
            self.doubted = self.unheard_since();
        }
        unheard
    }

    pub(super) fn next_timeout(&self) -> Option<Time> {
        let mut next = earlier(Some(self.since + KEYS_MAX), self.unheard_at());
        if let Some((_, path)) = &self.live {
            next = earlier(next, self.conversation.poll_timeout());
            next = earlier(next, Some(path.heard + self.silence_max()));
        }
        next = earlier(next, self.gone.map(|gone| gone + WAIT_MAX));
        earlier(next, self.nonce.map(|_| self.since + CONFIRM_TIME))
    }

    pub(super) fn overdue(&self, now: Time) -> Overdue {
        let waited = self.gone.is_some_and(|gone| now >= gone + WAIT_MAX);
        let unconfirmed = self.nonce.is_some() && now >= self.since + CONFIRM_TIME;
        if waited || unconfirmed || now >= self.since + KEYS_MAX {
            return Overdue::Session;
        }
        match &self.live {
            Some((no, path)) if now >= path.heard + self.silence_max() => Overdue::Path(*no),
            _ => Overdue::Nothing,
        }
    }
}
