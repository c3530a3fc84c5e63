//! What is logged, to standard error.
//!
//! Lives here: the level, from `WARREN_LOG` or the settings, and changing it while the router runs.
//! Does not live here: what may be said at which level (no identity at any).

use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;

use crate::config::LogLevel;

/// Replaces the filter of the running program.
type Replace = Box<dyn Fn(EnvFilter) + Send + Sync>;

static REPLACE: OnceLock<Replace> = OnceLock::new();

/// The filter of the environment: it wins over the settings.
fn wanted() -> Option<EnvFilter> {
    EnvFilter::try_from_env("WARREN_LOG").ok()
}

/// Starts to log: what `WARREN_LOG` says, else warnings, until the settings are read.
pub(super) fn start() {
    let filter = wanted().unwrap_or_else(|| EnvFilter::new(LogLevel::default().as_str()));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_filter_reloading();
    let handle = subscriber.reload_handle();
    subscriber.init();
    let _ = REPLACE.set(Box::new(move |filter| {
        // Fails only when the subscriber is gone, and nobody logs any more.
        let _ = handle.reload(filter);
    }));
}

/// Logs at `level` from now on, unless `WARREN_LOG` says otherwise.
pub(super) fn set_level(level: LogLevel) {
    if let (None, Some(replace)) = (wanted(), REPLACE.get()) {
        replace(EnvFilter::new(level.as_str()));
    }
}
