//! How much work a service asks of its clients.
//!
//! Lives here: raising it when those who pay still have to wait, lowering it when nobody does. Does not
//! live here: the puzzle (`crypto/effort.rs`), whom a gateway lets in first (`garlic/intake.rs`).
//!
//! ```text
//!  none --clients wait--> FIRST --the cheapest that got in had paid it--> twice that, or what they paid
//!    ^                     |  '--the cheapest had paid less: whoever pays gets in--> stays
//!    '--below FIRST--------'<-- half, after 30 s without news, then every 10 s
//! ```
//!
//! It follows what those who were *let in* paid, never what was offered: a flood that claims much and
//! pays nothing raises nothing, and one that pays raises the price of its own turns.

use std::time::Duration;

use crate::{crypto::effort::EFFORT_MAX, garlic::Crowd, time::Time};

/// Asked when clients first wait: some 30 ms of one core.
const FIRST: u32 = 2_000;
/// How soon after a change the next may come: clients must have had time to read it.
const RAISE_AFTER: Duration = Duration::from_secs(4);
/// Without news for so long nobody waits.
const QUIET: Duration = Duration::from_secs(30);
/// And from then on it is halved so often.
const LOWER_EVERY: Duration = Duration::from_secs(10);

/// One service's price.
#[derive(Debug, Default)]
pub(super) struct Effort {
    asked: u32,
    changed: Time,
    heard: Time,
}

impl Effort {
    /// What is asked now.
    pub(super) const fn asked(&self) -> u32 {
        self.asked
    }

    /// A gateway says that clients wait. Whether the price changed.
    pub(super) fn crowd(&mut self, now: Time, crowd: Crowd) -> bool {
        self.heard = now;
        let early = self.asked > 0 && now.since(self.changed) < RAISE_AFTER;
        if crowd.waiting == 0 || early || crowd.effort < self.asked {
            return false;
        }
        let raised = self.asked.saturating_mul(2).max(crowd.effort).clamp(FIRST, EFFORT_MAX);
        self.changed = now;
        std::mem::replace(&mut self.asked, raised) != raised
    }

    /// Time passed. Whether the price changed.
    pub(super) fn handle_timeout(&mut self, now: Time) -> bool {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return false;
        }
        self.changed = now;
        self.asked = if self.asked <= FIRST { 0 } else { self.asked / 2 };
        true
    }

    /// When to be woken.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        (self.asked > 0).then(|| (self.heard + QUIET).max(self.changed + LOWER_EVERY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    const fn crowd(effort: u32) -> Crowd {
        Crowd { waiting: 9, effort }
    }

    #[test]
    fn it_rises_only_as_far_as_those_who_pay_have_to_wait() {
        let mut effort = Effort::default();
        assert!(effort.crowd(at(1), crowd(0)));
        assert_eq!(effort.asked(), FIRST);
        for second in 2..60 {
            assert!(!effort.crowd(at(second), crowd(0)), "a flood without effort raises nothing");
        }
        assert!(effort.crowd(at(60), crowd(FIRST)));
        assert!(!effort.crowd(at(61), crowd(2 * FIRST)), "not before it can be known");
        assert!(effort.crowd(at(64), crowd(90_000)));
        assert_eq!(effort.asked(), 90_000);
        assert!(effort.crowd(at(70), crowd(90_000)));
        assert!(!effort.crowd(at(80), crowd(EFFORT_MAX)));
        assert_eq!(effort.asked(), EFFORT_MAX);
    }

    #[test]
    fn it_falls_when_nobody_waits_any_more() {
        let mut effort = Effort::default();
        effort.crowd(at(1), crowd(4 * FIRST));
        assert_eq!((effort.asked(), effort.poll_timeout()), (4 * FIRST, Some(at(31))));
        assert!(!effort.handle_timeout(at(30)));
        let mut changes = Vec::new();
        while let Some(next) = effort.poll_timeout() {
            assert!(effort.handle_timeout(next));
            changes.push((next, effort.asked()));
        }
        assert_eq!(changes, [(at(31), 2 * FIRST), (at(41), FIRST), (at(51), 0)]);
    }
}
