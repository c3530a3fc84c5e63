//! This process, as the operating system and the service manager see it.
//!
//! Lives here: keeping secrets out of core dumps, and what a service manager hears (`sd_notify`: a
//! no-op where there is none). Does not live here: the unit that starts it (`config/warren.service`).

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use sd_notify::NotifyState;

/// Memory holds keys: it goes into no core dump, and no other process of this user may read it.
pub(super) fn guard_secrets() {
    // Each alone is enough on most systems; neither being possible is no reason not to run.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// The ports are open and the router's task answers.
pub(super) fn tell_ready(words: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(words)]);
}

/// The router's task answered just now: the watchdog, if there is one, may rest.
pub(super) fn tell_alive() {
    if sd_notify::watchdog_enabled().is_some() {
        tell(&[NotifyState::Watchdog]);
    }
}

/// One line that `systemctl status` shows.
pub(super) fn tell_status(words: &str) {
    tell(&[NotifyState::Status(words)]);
}

/// The settings are read again; `tell_ready` follows.
pub(super) fn tell_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// The router leaves.
pub(super) fn tell_stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    // A manager that does not listen is its own affair.
    let _ = sd_notify::notify(states);
}
