//! Files for whoever wants them in this process: the control API, stored sites, the mixed port.
//!
//! Lives here: the handle through which tasks fetch a range of a file as a stream, store what an
//! encoder gives, find and store records. Does not live here: which block goes when
//! (`warren_datastore::transfer`), tunnels (the router's task), routes of the API (`api.rs`).
//!
//! ```text
//!  whoever ── fetch ──> Fetching ── next ──> bytes        each on a thread of its own,
//!          ── store ──> Storing ── finish ──> ReadCap     so that coding never holds the
//!          ── heal ───> Healing                           router's task up
//!          ── record_get, record_put, record_watch ──> answer
//! ```
//!
//! What waits is bounded: a fetch holds two segments and [`DATA_MAX`] pieces, a store one segment and
//! what its courier has under way.

pub(crate) mod api;
mod fetch;
pub(crate) mod frame;
pub(crate) mod get;
mod heal;
mod link;
mod load;
pub(crate) mod put;
pub(crate) mod queue;
mod record;
mod source;
mod spool;
mod store;

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::mpsc;
use warren_datastore::{
    capability::{ReadCap, VerifyCap},
    file::{Encoder, ReadError, Scope},
    transfer::StoreState,
};
use warren_overlay::{
    garlic::{RecordAnswer, RecordBytes},
    id::{Key, NetworkId},
    ring::Watch,
};

pub(crate) use self::{
    fetch::{Fetching, Found},
    heal::{HealNews, Healing, Scan, Way},
    load::{Loaded, Loading},
    source::{Bytes, bytes_of, content_of, file_bytes},
    store::{Stored, Storing},
};
use self::{link::Link, queue::Puts, spool::Spools, store::StoreJob};
use super::{Event, clock::Clock};
use crate::{home::Home, node::JobNo};

/// Pieces of a fetched file, of up to 32 KiB, that wait for their reader.
const DATA_MAX: usize = 32;
/// How often those look who report progress.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Why a transfer ended without what was wanted.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// The router is stopping.
    #[error("the router is stopping: try again when it runs")]
    Stopping,
    /// Too many transfers at the same time.
    #[error("too many files are under way: wait until some are done")]
    TooMany,
    /// Nothing is where the file would be.
    #[error(
        "not found: asked {routers} routers, reached the place where it would be; ask its publisher to put it \
         again"
    )]
    NotFound {
        /// Most routers that were asked for one block.
        routers: u8,
    },
    /// No router that might hold it could be asked.
    #[error("no way to where it would be: asked {routers} routers; try again")]
    NoRoute {
        /// Most routers that were asked.
        routers: u8,
    },
    /// The pinned shelf is full, or the disk fails.
    #[error(
        "no room for more pinned blocks: `warren pins` says what is taken; unpin something first"
    )]
    NotPinned,
    /// All exits are of a version that takes no work.
    #[error(
        "no router takes it: all that were tried run an older version, which knows no work for puts; update \
         them, or try again when there are others"
    )]
    TooOld,
    /// Somebody ended it.
    #[error(
        "cancelled; what was stored so far stays where it is, unreadable without its key; put it again to go on from there"
    )]
    Cancelled,
    /// There was no tunnel for a minute.
    #[error("no tunnel could be built for a minute: see `warren status`")]
    NoTunnel,
    /// A part of it is lost, or it was stored wrongly.
    #[error("{0}")]
    Broken(ReadError),
    /// What is to be stored cannot be read, or changed meanwhile.
    #[error("{0}")]
    Source(String),
}

impl FileError {
    fn of(error: ReadError, routers: u8) -> Self {
        match error {
            ReadError::NoRoot { .. } if routers == 0 => Self::NoRoute { routers },
            ReadError::NoRoot { .. } => Self::NotFound { routers },
            error => Self::Broken(error),
        }
    }
}

/// The handle. Clones share everything.
#[derive(Clone, Debug)]
pub(crate) struct Files(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    events: mpsc::Sender<Event>,
    clock: Clock,
    home: Option<Arc<Home>>,
    network: NetworkId,
    jobs: AtomicU64,
    spools: Spools,
    puts: Puts,
}

impl Files {
    pub(super) fn new(
        events: mpsc::Sender<Event>,
        clock: Clock,
        home: Option<Arc<Home>>,
        network: NetworkId,
    ) -> Self {
        Self(Arc::new(Shared {
            events,
            clock,
            home,
            network,
            jobs: AtomicU64::new(0),
            spools: Spools::default(),
            puts: Puts::default(),
        }))
    }

    /// The router's folder, if it keeps anything.
    pub(crate) fn home(&self) -> Option<&Arc<Home>> {
        self.0.home.as_ref()
    }

    /// The network's id.
    pub(crate) fn network(&self) -> NetworkId {
        self.0.network
    }

    /// Fetches `range` of a file (`0..u64::MAX` for all), as fast as it is read. `hops` of its tunnels,
    /// or the router's own number.
    pub(crate) fn fetch(&self, cap: ReadCap, range: Range<u64>, hops: Option<u8>) -> Fetching {
        fetch::start(self.link(hops), cap, range)
    }

    /// Stores what the encoder makes of these bytes, which must be those that were hashed for it.
    pub(crate) fn store(&self, encoder: Encoder, bytes: Bytes, hops: Option<u8>) -> Storing {
        store::start(self.link(hops), StoreJob { encoder, bytes, state: None })
    }

    /// The same, leaving out what an earlier run stored.
    pub(crate) fn resume(
        &self,
        encoder: Encoder,
        bytes: Bytes,
        state: StoreState,
        hops: Option<u8>,
    ) -> Storing {
        store::start(self.link(hops), StoreJob { encoder, bytes, state: Some(state) })
    }

    /// Checks a file, and with [`Scope::Whole`] puts back what is lost of it; its blocks go the `way`.
    fn heal(&self, cap: VerifyCap, scope: Scope, hops: Option<u8>, way: Way) -> Healing {
        heal::start(self.link(hops), cap, scope, way)
    }

    /// Puts blocks that are there already; `from` is the number of the first.
    pub(super) fn load(
        &self,
        blocks: mpsc::Receiver<Option<warren_overlay::block::Block>>,
        from: u64,
        hops: Option<u8>,
    ) -> Loading {
        load::start(self.link(hops), blocks, from)
    }

    /// Asks the router's task; `None` when it is stopping.
    pub(super) async fn ask<T>(
        &self,
        make: impl FnOnce(tokio::sync::oneshot::Sender<T>) -> super::control::Ask,
    ) -> Option<T> {
        super::control::ask_task(&self.0.events, make).await.ok()
    }

    /// Finds a record through a tunnel of its own; its signature is for the caller to check. The number
    /// is how many routers were asked.
    pub(crate) async fn record_get(&self, key: Key) -> Result<(u8, RecordAnswer), FileError> {
        record::ask(self.link(None), crate::node::JobRequest::GetRecord(key)).await
    }

    /// Stores a record through a tunnel of its own.
    pub(crate) async fn record_put(
        &self,
        record: RecordBytes,
    ) -> Result<(u8, RecordAnswer), FileError> {
        record::ask(self.link(None), crate::node::JobRequest::PutRecord(record)).await
    }

    /// Waits for a record's next version through a tunnel of its own; `NotFound` when there was none in
    /// [`WATCH_LEASE`](warren_overlay::ring::WATCH_LEASE).
    pub(crate) async fn record_watch(&self, watch: Watch) -> Result<RecordAnswer, FileError> {
        record::watch(self.link(None), watch).await.map(|(_, answer)| answer)
    }

    fn link(&self, hops: Option<u8>) -> Link {
        let job = JobNo(self.0.jobs.fetch_add(1, Ordering::Relaxed));
        Link::new(job, hops, self.0.events.clone(), self.0.clock)
    }
}
