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

    pub(super) fn next_timeout(&self) -> Option<Time> {
        let mut next = Some(self.since + KEYS_MAX);
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
