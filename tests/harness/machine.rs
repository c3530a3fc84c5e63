//! What the operating system tells about processes.
//!
//! Lives here: signals, CPU time, memory, how busy the machine is. Does not live here: sockets
//! (`flow`).

use std::{ffi::OsStr, fs, path::Path, process::Command, thread, time::Duration};

/// CPU seconds a process has used so far, user and system; `None` when it is gone.
pub fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold spaces; what follows does not.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    // USER_HZ, which is 100 on every Linux.
    Some(ticks / 100.0)
}

/// Resident memory in bytes; `None` when the process is gone.
pub fn rss_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1_024)
}

/// The words of a process's command line; empty when it is gone.
pub fn command_line(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    bytes
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// Whether a process is over: gone, or only its exit status is left. (The first thread may be over
/// some moments before the others, and the files and locks of all are free only after the last.)
pub fn is_over(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    let ended = stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']));
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    ended && threads <= 1
}

/// Sends `signal` ("KILL", "STOP", ..) to a process, if its command line names `dir`.
pub fn signal(pid: u32, signal: &str, dir: &str) {
    let line = command_line(pid);
    assert!(line.iter().any(|word| word.contains(dir)), "process {pid} is not ours: {line:?}");
    let status = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status();
    assert!(status.is_ok_and(|status| status.success()), "kill -{signal} {pid}");
}

/// `program`, in a network namespace, named by its place in the file system. It becomes the program: the
/// process is the same.
pub fn in_network(network: &Path, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", network.display())).arg(program);
    command
}

/// Whether we may make namespaces.
pub fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status.lines().any(|line| line.starts_with("Uid:\t0\t") || line.starts_with("Uid:\t0 "))
    })
}

/// Whether nothing else uses this machine's processors just now: at least 85 % idle for half a
/// second. Time limits of the issue hold for such a machine.
pub fn is_quiet() -> bool {
    let read = || -> Option<(u64, u64)> {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        let fields: Vec<u64> =
            stat.lines().next()?.split_whitespace().skip(1).flat_map(str::parse).collect();
        Some((fields.get(3)? + fields.get(4)?, fields.iter().take(8).sum()))
    };
    let before = read();
    thread::sleep(Duration::from_millis(500));
    match (before, read()) {
        (Some((idle, all)), Some((idle_now, all_now))) => {
            (idle_now - idle) * 100 >= (all_now - all) * 85
        }
        _ => false,
    }
}
