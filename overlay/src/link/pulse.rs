//! Does the peer still answer? One link's detector of silence (docs/spec/link.md, "Silence").
//!
//! Lives here: when to ask, when a peer counts as quiet, when as gone. Does not live here: the
//! messages (`io.rs`), what others make of a quiet link (`tunnel/pools.rs`, `session/`).
//!
//! ```text
//!  idle --said something that is answered, or grants are owed--> waiting --300 ms--> asked --500 ms--> quiet --5 s--> gone
//!   ^                                           ^____ a frame ____|_________________|
//!   '--- 15 s without any frame: gone, for an idle peer pads (where padding is counted: once its owner
//!        says that the peer is silent)
//! ```
//!
//! Quiet is a hint and costs nobody anything: other tunnels are preferred for a while. Gone closes
//! the link, and with it all that runs through it.

use std::time::Duration;

use crate::time::Time;

/// Silence after which a peer that owes an answer is asked for a sign of life.
const ASK_AFTER: Duration = Duration::from_millis(300);
/// Looking whether grants are owed need not be exact: all links of a router are looked at together.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long it may take to give one.
const ANSWER_TIME: Duration = Duration::from_millis(500);
/// How long it may owe one before it is gone: far more than a busy machine needs.
const GONE_AFTER: Duration = Duration::from_millis(5_500);
/// A peer that is silent so long is gone: an idle one pads at least every 9.5 s.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// A timer so late shows that this side slept: what the peer said meanwhile is not yet read.
const SLEPT: Duration = Duration::from_secs(1);

/// What silence means now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// Nothing.
    Fine,
    /// Send a ping.
    Ask,
    /// It does not answer: tell who may care.
    Quiet,
    /// Close the link.
    Gone,
}

/// What an idle peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Idle {
    /// It pads, and is gone if it does not.
    Pads,
    /// It counts what it would pad.
    Counts,
    /// The same, and it is known to be silent.
    Silent,
}

/// The detector.
#[derive(Debug)]
pub(super) struct Pulse {
    heard: Time,
    /// Since when something is unanswered.
    waiting: Option<Time>,
    /// Something of that kind left and it was not yet looked whether grants are owed.
    spoke: bool,
    /// When to look: a frame came, but it may have answered something else.
    look: Option<Time>,
    asked: Option<Time>,
    quiet: bool,
    idle: Idle,
}

impl Pulse {
    /// A link that has just been heard; `padded` says whether an idle peer pads.
    pub(super) const fn new(now: Time, padded: bool) -> Self {
        Self {
            heard: now,
            waiting: None,
            spoke: false,
            look: None,
            asked: None,
            quiet: false,
            idle: if padded { Idle::Pads } else { Idle::Counts },
        }
    }

    /// A peer that does not pad would have been heard last at `since`, had it.
    pub(super) fn fell_silent(&mut self, since: Time) {
        self.idle = Idle::Silent;
        self.heard = self.heard.max(since);
    }

    /// A frame came; true if the peer was quiet.
    pub(super) fn heard(&mut self, now: Time) -> bool {
        self.heard = now;
        if self.idle == Idle::Silent {
            self.idle = Idle::Counts;
        }
        if std::mem::replace(&mut self.spoke, false) || self.look.is_some() {
            self.look = Some((now + ASK_AFTER).next_multiple_of(LOOK_EVERY));
        }
        self.waiting = None;
        self.asked = None;
        std::mem::replace(&mut self.quiet, false)
    }

    /// Something left that a peer answers sooner or later: cells with grants, requests with replies.
    pub(super) const fn spoke(&mut self, now: Time) {
        self.spoke = true;
        if self.waiting.is_none() {
            self.waiting = Some(now);
        }
    }

    /// Time passed; `owed` says whether cells that left were not granted again.
    pub(super) fn judge(&mut self, now: Time, owed: impl FnOnce() -> bool) -> Sign {
        let look = self.look.take_if(|at| *at <= now).is_some();
        if look && self.waiting.is_none() && owed() {
            self.waiting = Some(self.heard);
        }
        let Some(due) = self.poll_timeout().filter(|due| *due <= now) else {
            return Sign::Fine;
        };
        if now.since(due) >= SLEPT {
            // Asked anew: the answer, or the end of the connection, is what counts.
            self.heard = now;
            self.waiting = Some(now);
            self.asked = Some(now);
            return Sign::Ask;
        }
        match self.asked {
            _ if self.silence().is_some_and(|at| at <= now) => Sign::Gone,
            None => {
                self.asked = Some(now);
                Sign::Ask
            }
            Some(_) if self.quiet => Sign::Gone,
            Some(_) => {
                self.quiet = true;
                Sign::Quiet
            }
        }
    }

    /// When to judge next.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let owed = match (self.asked, self.waiting) {
            (Some(asked), _) if self.quiet => Some(asked + GONE_AFTER),
            (Some(asked), _) => Some(asked + ANSWER_TIME),
            (None, Some(since)) => Some(since + ASK_AFTER),
            (None, None) => self.look,
        };
        owed.into_iter().chain(self.silence()).min()
    }

    /// When an idle peer is gone.
    fn silence(&self) -> Option<Time> {
        (self.idle != Idle::Counts).then(|| self.heard + SILENCE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::ZERO + Duration::from_millis(ms)
    }

    /// Judges every 50 ms up to `until`; what it said, and when.
    fn signs(pulse: &mut Pulse, from: u64, until: u64) -> Vec<(u64, Sign)> {
        let times = (from..=until).step_by(50);
        times
            .map(|ms| (ms, pulse.judge(at(ms), || false)))
            .filter(|(_, sign)| *sign != Sign::Fine)
            .collect()
    }

    #[test]
    fn who_owes_an_answer_is_asked_then_quiet_then_gone() {
        let mut pulse = Pulse::new(at(0), true);
        pulse.spoke(at(1_000));
        pulse.spoke(at(1_300));
        let said = signs(&mut pulse, 1_000, 6_800);
        assert_eq!(said, [(1_300, Sign::Ask), (1_800, Sign::Quiet), (6_800, Sign::Gone)]);
    }

    #[test]
    fn any_frame_is_an_answer() {
        let mut pulse = Pulse::new(at(0), true);
        pulse.spoke(at(0));
        assert_eq!(signs(&mut pulse, 0, 1_000), [(300, Sign::Ask), (800, Sign::Quiet)]);
        assert!(pulse.heard(at(1_020)));
        assert_eq!(signs(&mut pulse, 1_050, 5_000), []);
        assert!(!pulse.heard(at(5_000)));
    }

    #[test]
    fn a_peer_that_owes_grants_is_asked_once_more() {
        let mut pulse = Pulse::new(at(0), true);
        pulse.spoke(at(0));
        pulse.heard(at(100));
        assert_eq!(pulse.judge(at(350), || true), Sign::Fine);
        assert_eq!(pulse.judge(at(400), || true), Sign::Ask);
        assert_eq!(pulse.judge(at(900), || true), Sign::Quiet);
        // It was asked, and lives.
        pulse.heard(at(1_000));
        assert_eq!(pulse.judge(at(5_000), || true), Sign::Fine);
    }

    #[test]
    fn an_idle_peer_is_not_asked_but_must_pad() {
        let mut pulse = Pulse::new(at(0), true);
        let said = signs(&mut pulse, 0, 15_000);
        assert_eq!(said.first(), Some(&(15_000, Sign::Gone)));
    }

    #[test]
    fn a_peer_whose_padding_is_counted_is_gone_when_it_is_told_to_be_silent() {
        let mut pulse = Pulse::new(at(0), false);
        assert_eq!(pulse.poll_timeout(), None);
        assert_eq!(pulse.judge(at(60_000), || false), Sign::Fine);
        pulse.fell_silent(at(61_000));
        pulse.heard(at(70_000));
        assert_eq!(pulse.poll_timeout(), None);
        pulse.fell_silent(at(81_000));
        assert_eq!(signs(&mut pulse, 81_000, 96_000).first(), Some(&(96_000, Sign::Gone)));
    }

    #[test]
    fn who_slept_itself_asks_before_it_judges() {
        let mut pulse = Pulse::new(at(0), true);
        assert_eq!(pulse.judge(at(60_000), || false), Sign::Ask);
        pulse.heard(at(60_010));
        assert_eq!(pulse.judge(at(60_700), || false), Sign::Fine);
    }
}
