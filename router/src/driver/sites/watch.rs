//! Sites that somebody here wants to be told of: each watch runs as long as whoever asked listens.
//!
//! Lives here: the loop from output to input, how many at a time. Does not live here: any decision
//! (`SiteWatch` of `warren_datastore::site`).
//!
//! Each watch has a memory of its own of what was read, as an isolation context has.

use serde::{Deserialize, Serialize};
use tokio::{sync::Semaphore, task::JoinSet};
use warren_datastore::site::{SiteWatch, WatchInput, WatchOutput};

use super::{
    Sites, VersionStatus,
    keeper::{SiteError, name_of, other},
    run::until,
};
use crate::driver::files::frame::{FrameSender, Kind, json};

/// Sites watched at a time: three jobs each, of the 64 that a router takes.
const WATCHES_MAX: usize = 8;

/// Room for watches.
#[derive(Debug)]
pub(super) struct Watched(Semaphore);

impl Default for Watched {
    fn default() -> Self {
        Self(Semaphore::new(WATCHES_MAX))
    }
}

/// Frames of `POST /v1/sites/watch`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WatchNews {
    /// The newest version, as it is or became.
    Version(VersionStatus),
    /// Why there is none to be told now, in words.
    Not(String),
}

impl Sites {
    /// Tells the newest version of a site and each further one, until
    /// nobody reads the frames.
    pub(super) async fn watch(&self, site: &str, to: &FrameSender) -> Result<(), SiteError> {
        let name = name_of(site)?;
        let full = |_| SiteError::TooManyWatched(WATCHES_MAX);
        let _room = self.0.watched.0.try_acquire().map_err(full)?;
        let (files, clock) = (&self.0.files, self.0.clock);
        let watch = SiteWatch::new(clock.now().time, name, files.network());
        let mut watch = watch.ok_or(SiteError::NotFound)?;
        let mut asked = JoinSet::new();
        loop {
            while let Some(output) = watch.poll_output() {
                let news = match output {
                    WatchOutput::Look(seen) => {
                        let this = self.clone();
                        asked.spawn(
                            async move { WatchInput::Looked(this.look_up(name, seen).await) },
                        );
                        continue;
                    }
                    WatchOutput::Watch { place, watch } => {
                        let files = files.clone();
                        asked.spawn(async move {
                            let answer = files.record_watch(watch).await.ok();
                            WatchInput::Watched { place, answer }
                        });
                        continue;
                    }
                    WatchOutput::Newer(newest) => {
                        WatchNews::Version(VersionStatus::of(newest.version, 0))
                    }
                    WatchOutput::Not(outcome) => WatchNews::Not(other(&outcome).to_string()),
                };
                if to.send(Ok(json(Kind::News, &news))).await.is_err() {
                    return Ok(());
                }
            }
            tokio::select! {
                Some(Ok(input)) = asked.join_next() => watch.handle_input(clock.now(), input),
                () = to.closed() => return Ok(()),
                () = until(clock, watch.poll_timeout()) => watch.handle_timeout(clock.now().time),
            }
        }
    }
}
