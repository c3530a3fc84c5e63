//! Token buckets: so many at once, so many a second after that.
//!
//! Lives here: one bucket's arithmetic. Does not live here: what a token is for, and how many there
//! are; whoever holds the bucket says so at each call, so that a table of buckets stays small.

use std::time::Duration;

use crate::time::Time;

/// One token, in the millionths that are counted.
const ONE: u64 = 1_000_000;

/// A token bucket: 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Millionths of a token.
    tokens: u64,
    filled: Time,
}

impl Bucket {
    /// A full bucket of `burst` tokens.
    pub const fn full(now: Time, burst: u32) -> Self {
        Self { tokens: burst as u64 * ONE, filled: now }
    }

    /// Takes a token if there is one; `per_second` come back each second, up to `burst`.
    pub fn take(&mut self, now: Time, per_second: u32, burst: u32) -> bool {
        self.fill(now, per_second, burst);
        let Some(left) = self.tokens.checked_sub(ONE) else { return false };
        self.tokens = left;
        true
    }

    /// Puts one back that was not needed.
    pub fn give_back(&mut self, burst: u32) {
        self.tokens = (self.tokens + ONE).min(u64::from(burst) * ONE);
    }

    /// Whether nothing is missing: then forgetting the bucket changes nothing.
    pub fn is_full(&mut self, now: Time, per_second: u32, burst: u32) -> bool {
        self.fill(now, per_second, burst);
        self.tokens == u64::from(burst) * ONE
    }

    /// When there will be a token, if none is taken before.
    pub fn next_at(&self, per_second: u32) -> Time {
        let missing = ONE.saturating_sub(self.tokens);
        self.filled + Duration::from_micros(missing.div_ceil(u64::from(per_second.max(1))))
    }

    fn fill(&mut self, now: Time, per_second: u32, burst: u32) {
        let micros = u64::try_from(now.since(self.filled).as_micros()).unwrap_or(u64::MAX);
        let gained = micros.saturating_mul(u64::from(per_second));
        self.tokens = self.tokens.saturating_add(gained).min(u64::from(burst) * ONE);
        self.filled = self.filled.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_at_once_and_then_the_rate() {
        let mut bucket = Bucket::full(Time::ZERO, 5);
        let taken = |bucket: &mut Bucket, now| (0..100).filter(|_| bucket.take(now, 2, 5)).count();
        assert_eq!(taken(&mut bucket, Time::ZERO), 5);
        let next = bucket.next_at(2);
        assert_eq!(next, Time::from_micros(500_000));
        assert_eq!(taken(&mut bucket, Time::from_micros(499_999)), 0);
        assert_eq!(taken(&mut bucket, next), 1);
        assert_eq!(taken(&mut bucket, Time::from_micros(60_000_000)), 5);
        assert!(!bucket.is_full(Time::from_micros(61_000_000), 2, 5));
        assert!(bucket.is_full(Time::from_micros(63_000_000), 2, 5));
    }
}
