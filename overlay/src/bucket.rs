//! Token buckets: so many at once, and then one every so often.
//!
//! Lives here: one bucket's arithmetic. Does not live here: what a token is for, and how many there
//! are; whoever holds the bucket says so at each call, so that a table of buckets stays small.
//!
//! By the generic cell rate algorithm (ITU-T I.371, virtual scheduling): what is kept is one moment.

use std::time::Duration;

use crate::time::Time;

/// How many tokens a bucket holds, and how soon one comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refill {
    /// In microseconds.
    every: u32,
    burst: u32,
}

impl Refill {
    /// `burst` at once, and then one every so many seconds, at most 4,000.
    pub const fn every(seconds: u16, burst: u32) -> Self {
        let seconds = if seconds > 4_000 { 4_000 } else { seconds };
        Self { every: seconds as u32 * 1_000_000, burst }
    }

    /// `burst` at once, and then so many a second, at most a million.
    pub const fn per_second(tokens: u32, burst: u32) -> Self {
        let tokens = if tokens == 0 { 1 } else { tokens };
        Self { every: 1_000_000 / tokens, burst }
    }

    /// In how long so many tokens come back.
    const fn time(self, tokens: u32) -> Duration {
        Duration::from_micros(self.every as u64 * tokens as u64)
    }
}

/// A token bucket: 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// When all that were taken are back.
    full: Time,
}

impl Bucket {
    /// A full bucket.
    pub const fn full() -> Self {
        Self { full: Time::ZERO }
    }

    /// Takes a token if there is one.
    pub fn take(&mut self, now: Time, refill: Refill) -> bool {
        let full = self.full.max(now) + refill.time(1);
        let some = full.since(now) <= refill.time(refill.burst);
        if some {
            self.full = full;
        }
        some
    }

    /// Puts one back that was not needed.
    pub fn give_back(&mut self, refill: Refill) {
        self.full = before(self.full, refill.time(1));
    }

    /// Whether nothing is missing: then forgetting the bucket changes nothing.
    pub fn is_full(&self, now: Time) -> bool {
        self.full <= now
    }

    /// When there will be a token, if none is taken before.
    pub fn next_at(&self, refill: Refill) -> Time {
        before(self.full, refill.time(refill.burst.saturating_sub(1)))
    }
}

/// The moment `span` before, or the start of the process.
fn before(at: Time, span: Duration) -> Time {
    let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    Time::from_micros(at.as_micros().saturating_sub(micros))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_at_once_and_then_the_rate() {
        let refill = Refill::per_second(2, 5);
        let mut bucket = Bucket::full();
        let taken =
            |bucket: &mut Bucket, now| (0..100).filter(|_| bucket.take(now, refill)).count();
        assert_eq!(taken(&mut bucket, Time::ZERO), 5);
        let next = bucket.next_at(refill);
        assert_eq!(next, Time::from_micros(500_000));
        assert_eq!(taken(&mut bucket, Time::from_micros(499_999)), 0);
        assert_eq!(taken(&mut bucket, next), 1);
        assert_eq!(taken(&mut bucket, Time::from_micros(60_000_000)), 5);
        assert!(!bucket.is_full(Time::from_micros(62_400_000)));
        assert!(bucket.is_full(Time::from_micros(62_500_000)));
    }

    proptest! {
        #[test]
        fn it_gives_what_counted_tokens_would(
            burst in 1u32..20, steps in prop::collection::vec((0u64..9_000_000, 0u8..4), 1..200),
        ) {
            let refill = Refill::every(2, burst);
            let (mut bucket, mut now, full) = (Bucket::full(), 0, u64::from(burst) * 2_000_000);
            let mut counted = full; // in parts of a token
            for (span, act) in steps {
                now += span;
                counted = (counted + span).min(full);
                let at = Time::from_micros(now);
                if act == 0 {
                    bucket.give_back(refill);
                    counted = (counted + 2_000_000).min(full);
                } else {
                    prop_assert_eq!(bucket.take(at, refill), counted >= 2_000_000);
                    counted -= if counted >= 2_000_000 { 2_000_000 } else { 0 };
                }
                prop_assert_eq!(bucket.is_full(at), counted == full);
                prop_assert_eq!(bucket.next_at(refill) <= at, counted >= 2_000_000);
            }
        }
    }
}
