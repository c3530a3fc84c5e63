//! What other processes of this machine use: those under test, and all others.
//!
//! Lives here: reading `/proc`. Does not live here: this process's own clocks (`meter.rs`).

use std::{fs, time::Duration};

/// CPU time that process `pid` has used, all its threads, in steps of a clock tick (10 ms); `None`
/// when it is gone.
pub(super) fn cpu(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the numbers follow the last one.
    let (_, numbers) = stat.rsplit_once(')')?;
    let mut fields = numbers.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(ticks(user + system))
}

/// Resident memory of process `pid`, in KiB.
pub(super) fn resident_kib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// CPU time that all processes of this machine have used together.
pub(super) fn machine_cpu() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().next()?.strip_prefix("cpu")?;
    let fields: Vec<u64> =
        line.split_ascii_whitespace().map_while(|field| field.parse().ok()).collect();
    // user, nice, system, idle, waiting for disks, interrupts twice, stolen by other machines
    let idle = fields.get(3)? + fields.get(4)?;
    Some(ticks(fields.iter().take(8).sum::<u64>().saturating_sub(idle)))
}

fn ticks(ticks: u64) -> Duration {
    let second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_micros(ticks.saturating_mul(1_000_000) / second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen_to_work_and_to_take_memory() {
        let own = std::process::id();
        let before = cpu(own).unwrap();
        let mut sum = 0u64;
        while cpu(own).unwrap() < before + Duration::from_millis(20) {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(resident_kib(own).unwrap() > 500);
        assert!(machine_cpu().unwrap() > Duration::ZERO);
        assert_eq!(cpu(0), None);
    }
}
