//! What is measured with: CPU time, allocations, medians.
//!
//! Lives here: reading the clocks of the process and the thread, counting, the middle of several
//! rounds. Does not live here: the clock that machines are given (`actors.rs`).

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert!((median([9.0, 1.0, 5.0]) - 5.0).abs() < 1e-9);
        assert!((median([9.0, 1.0, 5.0, 7.0]) - 6.0).abs() < 1e-9);
        assert!(median([]).abs() < 1e-9);
    }
}
