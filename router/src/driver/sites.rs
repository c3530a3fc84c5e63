//! Stored sites: those that are read here, and those that are published from here.
//!
//! Lives here: the handle that the front door, the control API and the demo use. Does not live here:
//! what a version is and who is newest (`warren_datastore::site`), HTTP (`warren_proxy::site`), blocks
//! and tunnels (`files`).
//!
//! ```text
//!  front door ─ serve ─> Responder ─ path ─> Readers ─> OpenSite ── bytes
//!                                              │ SiteLookup      └─ Files::fetch
//!  control API ─ publish, update, fork ─> Keeper ─ SiteUpdate ─> Files::store, record_put
//!                                              └─ Announcer, every 5 to 7 h
//!              ─ watch ─────────────────> SiteWatch ─────> Files::record_watch, look_up
//! ```

pub(crate) mod api;
mod keeper;
mod open;
mod reader;
mod run;
mod saved;
mod serve;
mod watch;

use std::sync::Arc;

pub(crate) use self::keeper::{PublishRequest, SiteDone, SiteStatus, VersionStatus};
pub(super) use self::keeper::{name_of, other};
pub(super) use self::serve::Connection;
pub(crate) use self::watch::WatchNews;
use self::{keeper::Keeper, reader::Readers, watch::Watched};
use super::{clock::Clock, files::Files, pins::Pins};

/// The handle. Clones share everything.
#[derive(Clone, Debug)]
pub(crate) struct Sites(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    files: Files,
    clock: Clock,
    readers: Readers,
    keeper: Keeper,
    pins: Pins,
    watched: Watched,
}

impl Sites {
    pub(super) fn new(files: Files, clock: Clock) -> Self {
        let (readers, keeper) = (Readers::default(), Keeper::default());
        let (pins, watched) = (Pins::default(), Watched::default());
        Self(Arc::new(Shared { files, clock, readers, keeper, pins, watched }))
    }

    /// What is pinned here.
    pub(super) fn pins(&self) -> &Pins {
        &self.0.pins
    }

    /// Through which they are read and stored.
    pub(super) fn files(&self) -> &Files {
        &self.0.files
    }
}
