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

/// The service manager, if one started this process and listens.
#[derive(Debug)]
pub(super) struct Manager {
    watches: bool,
}

impl Manager {
    /// Finds it in the environment.
    pub(super) fn find() -> Self {
        Self { watches: sd_notify::watchdog_enabled().is_some() }
    }

    /// The ports are open and the router's task answers.
    pub(super) fn ready(&self, words: &str) {
        tell(&[NotifyState::Ready, NotifyState::Status(words)]);
    }

    /// The router's task answered just now: the watchdog may rest.
    pub(super) fn alive(&self) {
        if self.watches {
            tell(&[NotifyState::Watchdog]);
        }
    }

    /// One line that `systemctl status` shows.
    pub(super) fn status(&self, words: &str) {
        tell(&[NotifyState::Status(words)]);
    }

    /// The settings are read again; `ready` follows.
    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        }
    }

    /// The router leaves.
    pub(super) fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    // A manager that does not listen is its own affair.
    let _ = sd_notify::notify(states);
}
