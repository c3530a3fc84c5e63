//! The operating system's limit on open files: each link and each application's connection is one.
//!
//! Lives here: what the limit is, how much of it is used, raising it. Does not live here: who opens
//! them, and what happens when there are no more (they wait: `accept`, `front`).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files and sockets that this process has open; 0 where the system does not say.
pub(crate) fn open() -> u64 {
    // The folder itself is open while it is read.
    std::fs::read_dir("/proc/self/fd").map_or(0, |all| (all.count() as u64).saturating_sub(1))
}

/// As many as it may have open.
pub(crate) fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Raises the limit as far as the operator allows, and says what it is then.
pub(crate) fn raise_limit() -> u64 {
    let maximum = getrlimit(Resource::Nofile).maximum;
    // May be refused in a sandbox: then the limit stays as it was, and `status` shows it.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    limit()
}
