//! What is measured with: CPU time, allocations, medians.
//!
//! Lives here: reading the clocks of the process and the thread, counting, the middle of several
//! rounds. Does not live here: the clock that machines are given (`actors.rs`), other processes
//! (`processes.rs`).

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How many allocations the process has made so far: growing one counts as one. Comes from the
/// binary, which alone may choose an allocator.
pub type AllocationCount = fn() -> u64;

/// CPU time that all threads of this process have used.
pub(super) fn process_cpu() -> Duration {
    cpu(ClockId::ProcessCPUTime)
}

/// CPU time that this thread has used.
pub(super) fn thread_cpu() -> Duration {
    cpu(ClockId::ThreadCPUTime)
}

fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// `time` over `cells`, in nanoseconds; zero if there were none.
pub(super) fn nanoseconds_per(time: Duration, cells: u64) -> f64 {
    per(time.as_secs_f64() * 1e9, cells)
}

/// `amount` over `cells`; zero if there were none.
#[expect(clippy::cast_precision_loss, reason = "figures for people; counts are far below 2^53")]
pub(super) fn per(amount: f64, cells: u64) -> f64 {
    if cells == 0 { 0.0 } else { amount / cells as f64 }
}

/// The middle one, or the mean of the middle two; zero if there is none.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let at = |index: usize| values.get(index).copied().unwrap_or_default();
    if values.len() % 2 == 1 {
        at(middle)
    } else {
        f64::midpoint(at(middle.saturating_sub(1)), at(middle))
    }
}

/// The one that `share` (0 to 1) of all do not exceed; zero if there is none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a place in a short list"
)]
pub(super) fn percentile(values: impl IntoIterator<Item = f64>, share: f64) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let at = (values.len() as f64 * share).ceil() as usize;
    values.get(at.saturating_sub(1)).copied().unwrap_or_default()
}

/// CPU nanoseconds for one call of something, in several samples.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples(Vec<f64>);

impl Samples {
    /// One more sample: `work` makes `calls` calls, in this thread.
    pub(super) fn add<T>(&mut self, calls: u64, work: impl FnOnce() -> T) -> T {
        let start = thread_cpu();
        let made = work();
        self.0.push(nanoseconds_per(thread_cpu().saturating_sub(start), calls));
        made
    }

    /// One more sample, measured elsewhere.
    pub(super) fn push(&mut self, nanoseconds: f64) {
        self.0.push(nanoseconds);
    }

    /// The middle sample.
    pub(super) fn median(&self) -> f64 {
        median(self.0.iter().copied())
    }

    /// The least and the most.
    pub(super) fn range(&self) -> [f64; 2] {
        let fold = |start, by: fn(f64, f64) -> f64| self.0.iter().copied().fold(start, by);
        [fold(f64::MAX, f64::min), fold(0.0, f64::max)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_value_that_so_many_do_not_exceed() {
        let hundred = || (1..=100).map(f64::from);
        assert!((percentile(hundred(), 0.95) - 95.0).abs() < 1e-9);
        assert!((percentile([3.0], 0.95) - 3.0).abs() < 1e-9);
        assert!(percentile([], 0.95).abs() < 1e-9);
    }

    #[test]
    fn the_median_is_the_middle() {
        assert!((median([9.0, 1.0, 5.0]) - 5.0).abs() < 1e-9);
        assert!((median([9.0, 1.0, 5.0, 7.0]) - 6.0).abs() < 1e-9);
        assert!(median([]).abs() < 1e-9);
    }
}
