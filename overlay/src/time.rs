//! Time as the machines see it.
//!
//! Lives here: the monotonic microsecond clock value, the wall clock in minutes, and the pair of
//! both. Does not live here: any clock; the driver and the simulator read theirs and pass it in.

use std::{fmt, num::NonZeroU64, ops::Add, time::Duration};

/// A point on this process's monotonic clock: microseconds since it started.
///
/// Unlike `Instant` it prints the same in each run, can be written into a trace, and exists in a
/// simulator.
///
/// One more is kept than it says, so that an `Option` of it, of which machines have many, takes no more
/// room. The last microsecond is the one before it, therefore.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(NonZeroU64);

const _: () = assert!(size_of::<Option<Time>>() == 8);

impl Time {
    /// The start of the process.
    pub const ZERO: Self = Self(NonZeroU64::MIN);

    /// The point `micros` microseconds after the start.
    pub const fn from_micros(micros: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(micros))
    }

    /// Microseconds since the start.
    pub const fn as_micros(self) -> u64 {
        self.0.get() - 1
    }

    /// How long ago `earlier` was; zero if it lies in the future.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.get().saturating_sub(earlier.0.get()))
    }

    /// This point, or the next that is whole multiples of `span` after the start: what need not be
    /// exact and is rounded so, falls due together and wakes a router once.
    ///
    /// Saturates; a span of zero rounds nothing.
    #[must_use]
    pub fn next_multiple_of(self, span: Duration) -> Self {
        let span = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let next = self.as_micros().checked_next_multiple_of(span.max(1));
        Self::from_micros(next.unwrap_or(u64::MAX))
    }
}

impl Default for Time {
    fn default() -> Self {
        Self::ZERO
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Time").field(&self.as_micros()).finish()
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    /// Saturates at the end of time, about 584,000 years in.
    fn add(self, span: Duration) -> Self {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }
}

/// The earliest of some moments, if there is any.
pub fn earliest<const N: usize>(moments: [Option<Time>; N]) -> Option<Time> {
    moments.into_iter().fold(None, |first, at| match (first, at) {
        (Some(first), Some(at)) => Some(at.min(first)),
        (first, at) => first.or(at),
    })
}

/// The wall clock: whole minutes since the Unix epoch.
///
/// Coarse on purpose: minutes are all that the protocol compares (PROTOCOL P1) and all that it may
/// reveal. Good until the year 10136.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(u32);

impl Wall {
    /// The minute that is `minutes` after the Unix epoch.
    pub const fn from_minutes(minutes: u32) -> Self {
        Self(minutes)
    }

    /// Minutes since the Unix epoch.
    pub const fn minutes(self) -> u32 {
        self.0
    }

    /// Milliseconds since the Unix epoch, at the start of the minute.
    pub const fn millis(self) -> u64 {
        self.0 as u64 * 60_000
    }

    /// The minute `minutes` later, saturating.
    #[must_use]
    pub const fn plus(self, minutes: u32) -> Self {
        Self(self.0.saturating_add(minutes))
    }

    /// Whether `self` lies between `before` minutes before and `after` minutes after `center`.
    pub const fn within(self, center: Self, before: u32, after: u32) -> bool {
        self.0 >= center.0.saturating_sub(before) && self.0 <= center.0.saturating_add(after)
    }
}

impl fmt::Debug for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "minute {}", self.0)
    }
}

/// Both clocks at one moment, as control machines receive them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock: what timers run on.
    pub time: Time,
    /// The wall clock: what signed things carry.
    pub wall: Wall,
}
