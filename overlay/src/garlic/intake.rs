//! Which of a service's clients a gateway lets in next, when more come than the service wants.
//!
//! Lives here: one lease's rate, and who waits, the dearest first. Does not live here: whether the lease
//! is genuine and the effort was spent (`lease.rs`).
//!
//! ```text
//!  arrives --a token, nobody waits--> Enter
//!     '--else--> waiting, by effort then arrival --a token--> Enter
//!                   '-- 1.5 s, or the cheapest of too many --> refused
//! ```

use std::{
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::{
    bucket::{Bucket, Refill},
    id::{LinkNo, TunnelId},
    time::Time,
};

/// How many clients a service wants of one lease; it tells the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// A second, at least 1.
    pub per_second: u16,
    /// And at once after a pause, at least 1.
    pub burst: u16,
}

impl Rate {
    fn refill(self) -> Refill {
        Refill::per_second(self.per_second.into(), self.burst.into())
    }
}

impl Default for Rate {
    fn default() -> Self {
        Self { per_second: 25, burst: 200 }
    }
}

/// Clients that wait at one lease.
const WAITING_MAX: usize = 256;
/// How long one may: the client's own patience is 2.5 s.
const WAIT_MAX: Duration = Duration::from_millis(1_500);
/// How often the service hears that clients wait.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// The lane on which a client's end hop asks.
type Leg = (LinkNo, TunnelId);
/// Place in the queue: effort, then who came first.
type Place = (u32, Reverse<u64>);

/// What a service hears of its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowd {
    /// How many wait.
    pub waiting: u16,
    /// The least effort that was let in while others waited.
    pub effort: u32,
}

/// One lease's door.
#[derive(Debug)]
pub(super) struct Intake {
    rate: Rate,
    bucket: Bucket,
    waiting: BTreeMap<Place, Leg>,
    /// Arrivals in order, those that have left included until their time.
    arrivals: VecDeque<(Time, Place)>,
    arrived: u64,
    least: Option<u32>,
    reported: Option<Time>,
}

impl Intake {
    pub(super) fn new(rate: Rate) -> Self {
        Self {
            rate,
            bucket: Bucket::full(),
            waiting: BTreeMap::new(),
            arrivals: VecDeque::new(),
            arrived: 0,
            least: None,
            reported: None,
        }
    }

    fn take(&mut self, now: Time) -> bool {
        self.bucket.take(now, self.rate.refill())
    }

    /// Whether a client may enter at once, whatever its effort; then it has.
    pub(super) fn enters(&mut self, now: Time) -> bool {
        self.waiting.is_empty() && self.take(now)
    }

    /// Lets a client wait; gives one that is refused for it, this one or the cheapest.
    pub(super) fn wait(&mut self, now: Time, effort: u32, leg: Leg) -> Option<Leg> {
        self.arrived += 1;
        let place = (effort, Reverse(self.arrived));
        self.waiting.insert(place, leg);
        self.arrivals.push_back((now + WAIT_MAX, place));
        if self.waiting.len() <= WAITING_MAX {
            return None;
        }
        self.waiting.pop_first().map(|(_, leg)| leg)
    }

    /// The next to enter.
    pub(super) fn next(&mut self, now: Time) -> Option<Leg> {
        if self.waiting.is_empty() || !self.take(now) {
            return None;
        }
        let ((effort, _), leg) = self.waiting.pop_last()?;
        self.least = Some(self.least.map_or(effort, |least| least.min(effort)));
        Some(leg)
    }

    /// The next that has waited too long.
    pub(super) fn late(&mut self, now: Time) -> Option<Leg> {
        while let Some((until, place)) = self.arrivals.front()
            && (*until <= now || !self.waiting.contains_key(place))
        {
            let gone = self.waiting.remove(place);
            self.arrivals.pop_front();
            if gone.is_some() {
                return gone;
            }
        }
        None
    }

    /// A client gave up.
    pub(super) fn forget(&mut self, leg: Leg) {
        self.waiting.retain(|_, other| *other != leg);
    }

    /// What the service should hear now.
    pub(super) fn report(&mut self, now: Time) -> Option<Crowd> {
        let due = self.reported.is_none_or(|at| now.since(at) >= REPORT_EVERY);
        if self.waiting.is_empty() || !due {
            return None;
        }
        let effort = self.least.take()?;
        self.reported = Some(now);
        let waiting = u16::try_from(self.waiting.len()).unwrap_or(u16::MAX);
        Some(Crowd { waiting, effort })
    }

    /// Who waits.
    pub(super) fn legs(&self) -> impl Iterator<Item = Leg> {
        self.waiting.values().copied()
    }

    /// Whether somebody waits, or left before its time.
    pub(super) fn is_crowded(&self) -> bool {
        !self.waiting.is_empty() || !self.arrivals.is_empty()
    }

    /// When to look again.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let (late, _) = self.arrivals.front()?;
        let token = self.bucket.next_at(self.rate.refill());
        if self.waiting.is_empty() { Some(*late) } else { Some(token.min(*late)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 2, burst: 3 };

    fn at(millis: u64) -> Time {
        Time::from_micros(millis * 1_000)
    }

    fn leg(n: u32) -> Leg {
        (LinkNo(1), TunnelId(n))
    }

    #[test]
    fn the_dearest_enters_first_and_then_who_came_first() {
        let mut intake = Intake::new(RATE);
        assert_eq!((0..5).filter(|_| intake.enters(at(0))).count(), 3);
        for (n, effort) in [(1, 0), (2, 50), (3, 50), (4, 7)] {
            assert_eq!(intake.wait(at(0), effort, leg(n)), None);
        }
        assert!(!intake.enters(at(500)), "who waits goes first");
        assert_eq!(intake.next(at(500)), Some(leg(2)));
        assert_eq!(intake.next(at(500)), None);
        assert_eq!(intake.report(at(500)), Some(Crowd { waiting: 3, effort: 50 }));
        assert_eq!(intake.next(at(1_000)), Some(leg(3)));
        assert_eq!(intake.report(at(1_000)), None, "once a second");
        intake.forget(leg(4));
        assert_eq!(intake.next(at(1_499)), None);
        assert_eq!(intake.late(at(1_500)), Some(leg(1)));
        assert_eq!((intake.late(at(1_500)), intake.next(at(9_000))), (None, None));
        assert_eq!(intake.poll_timeout(), None);
    }

    #[test]
    fn of_too_many_the_cheapest_goes() {
        let mut intake = Intake::new(RATE);
        for n in 0..256 {
            assert_eq!(intake.wait(at(0), 10 + n, leg(n)), None);
        }
        assert_eq!(intake.wait(at(0), 500, leg(900)), Some(leg(0)));
        assert_eq!(intake.wait(at(0), 3, leg(901)), Some(leg(901)));
        assert_eq!(intake.waiting.len(), WAITING_MAX);
    }
}
