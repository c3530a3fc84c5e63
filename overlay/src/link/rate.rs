//! The operator's bandwidth limit, shared by all links of a router.
//!
//! Lives here: one token bucket, kept as the time at which all that was sent is paid for (the
//! virtual scheduling form of the leaky bucket, ITU-T I.371). Does not live here: sharing between
//! lanes (`schedule.rs`).
//!
//! A sender may overdraw by the frame in hand, and waits until that is paid. Over 10 s the error is
//! at most one frame a link and the burst: under 3 % from 100 kB/s up (DESIGN section 4).

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::time::Time;

/// Unused bandwidth is kept this long: enough to ride over a late wake-up.
const BURST: Duration = Duration::from_millis(50);

/// A bandwidth limit in bytes per second.
///
/// Behind a lock that is taken once per filled transmit buffer, never per cell.
#[derive(Debug)]
pub struct RateLimit {
    bytes_per_second: u64,
    /// Nanoseconds of the monotonic clock.
    paid_at: Mutex<u64>,
}

impl RateLimit {
    /// A limit of `bytes_per_second`, at least 1,000.
    pub fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1_000), paid_at: Mutex::new(0) }
    }

    /// When the next byte may leave; not after `now` if at once.
    pub fn ready_at(&self) -> Time {
        let nanos = *self.paid_at.lock().unwrap_or_else(PoisonError::into_inner);
        Time::from_micros(nanos.div_ceil(1_000))
    }

    /// Whether a byte may leave now.
    pub fn ready(&self, now: Time) -> bool {
        self.ready_at() <= now
    }

    /// Takes note of `bytes` sent.
    pub fn charge(&self, now: Time, bytes: usize) {
        let cost = u128::from(bytes as u64) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let burst = u64::try_from(BURST.as_nanos()).unwrap_or(u64::MAX);
        let earliest = now.as_micros().saturating_mul(1_000).saturating_sub(burst);
        let mut paid_at = self.paid_at.lock().unwrap_or_else(PoisonError::into_inner);
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        *paid_at = (*paid_at).max(earliest).saturating_add(cost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_ten_seconds_the_limit_holds_to_three_percent() {
        for rate in [100_000u64, 1_000_000, 50_000_000] {
            let limit = RateLimit::new(rate);
            let (mut now, mut sent) = (Time::from_micros(5_000_000), 0u64);
            let end = now + Duration::from_secs(10);
            while now < end {
                while limit.ready(now) {
                    limit.charge(now, 15_500);
                    sent += 15_500;
                }
                now = now + Duration::from_millis(3); // wake-ups are never on time
            }
            let ideal = rate * 10;
            assert!(sent.abs_diff(ideal) * 100 <= ideal * 3, "{rate}: {sent} of {ideal}");
        }
    }

    #[test]
    fn what_was_not_used_is_not_saved_up() {
        let limit = RateLimit::new(1_000_000);
        let now = Time::from_micros(60_000_000);
        let mut sent = 0;
        while limit.ready(now) {
            limit.charge(now, 1_000);
            sent += 1_000;
        }
        assert!(sent <= 52_000, "{sent}");
    }
}
