//! Is the other side still there? A client's detector (docs/spec/session.md, section 6).
//!
//! Lives here: when silence means something, when to ask, and when to go elsewhere. Does not live
//! here: how it asks (`conversation.rs`) and where it goes (`client.rs`).
//!
//! ```text
//!  quiet --something expected--> waiting --350 ms of silence--> asked --max(1 s, 4 RTT)--> silent
//!    ^                              ^________any record____________|
//! ```

use std::time::Duration;

use super::conversation::Conversation;
use crate::time::Time;

/// Silence after which a client asks, if it expects something.
const ASK_AFTER: Duration = Duration::from_millis(350);
/// How long after stream data more of it is expected: a download's gap, not a page being read.
const DATA_EXPECTED: Duration = Duration::from_secs(5);
/// How often an idle open stream is checked: a service cannot reach a client whose path died.
const IDLE_ASK: Duration = Duration::from_secs(15);

/// What the silence means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// Nothing; look again then.
    Fine(Option<Time>),
    /// Ask.
    Ask,
    /// It did not answer.
    Silent,
}

/// The detector of one path.
#[derive(Debug, Default)]
pub(super) struct Watch {
    expecting_since: Option<Time>,
}

impl Watch {
    /// Judges the silence since `heard`.
    pub(super) fn judge(&mut self, now: Time, heard: Time, conversation: &Conversation) -> Sign {
        if let Some(asked) = conversation.pinged() {
            let due = asked + conversation.rtt.patience();
            return if now >= due { Sign::Silent } else { Sign::Fine(Some(due)) };
        }
        let streams = conversation.mux.count() > 0;
        let data = conversation.mux.last_data();
        let expecting = conversation.outstanding() > 0
            || (streams && data.is_some_and(|at| now.since(at) < DATA_EXPECTED));
        let due = if expecting {
            heard.max(*self.expecting_since.get_or_insert(now)) + ASK_AFTER
        } else {
            self.expecting_since = None;
            if !streams {
                return Sign::Fine(None);
            }
            heard + IDLE_ASK
        };
        if now >= due { Sign::Ask } else { Sign::Fine(Some(due)) }
    }
}

/// The earlier of two moments that may not come.
pub(super) fn earlier(a: Option<Time>, b: Option<Time>) -> Option<Time> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
