//! The only place that reads a clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use warren_overlay::time::{Now, Time, Wall};

/// The process's clock: monotonic since it was made, wall time in minutes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts at zero.
    pub(super) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Both clocks now.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub(super) fn now(&self) -> Now {
        let micros = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 60;
        Now {
            time: Time::from_micros(micros),
            wall: Wall::from_minutes(u32::try_from(wall).unwrap_or(u32::MAX)),
        }
    }

    /// When the driver should wake for `time`.
    pub(super) fn instant(&self, time: Time) -> Instant {
        // A timer of the machines can lie at the end of time; tokio's cannot.
        let far = Duration::from_hours(720);
        self.start + Duration::from_micros(time.as_micros()).min(self.start.elapsed() + far)
    }
}
