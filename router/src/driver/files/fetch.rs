//! A file that is being fetched, as a stream.

use std::{fmt, ops::Range};

use tokio::sync::{mpsc, watch};
use warren_datastore::{
    capability::ReadCap,
    manifest::Meta,
    transfer::{Fetch, FetchProgress},
};
use warren_overlay::block::Block;

use super::{
    DATA_MAX, FileError,
    link::{Exits, Link, on_own_thread},
};

/// Rebuilt blocks that are put back once a file was read: 8 MiB.
const HEALED_MAX: usize = 256;

/// What is known of a file that is being fetched.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    /// What it says of itself; none until its root was found.
    pub(crate) meta: Option<Meta>,
    /// How far it is; its length is known with the root.
    pub(crate) progress: FetchProgress,
    /// Its tunnels.
    pub(crate) exits: Exits,
}

/// The near end of the stream. Dropping it ends the fetch.
pub(crate) struct Fetching {
    data: mpsc::Receiver<Result<Vec<u8>, FileError>>,
    found: watch::Receiver<Found>,
}

impl Fetching {
    /// The next bytes, up to 32 KiB; `None` behind the last.
    pub(crate) async fn next(&mut self) -> Option<Result<Vec<u8>, FileError>> {
        self.data.recv().await
    }

    /// How far it is, now.
    pub(crate) fn found(&self) -> Found {
        self.found.borrow().clone()
    }

    /// Waits until the root was found: what the file says of itself, and its length.
    pub(crate) async fn head(&mut self) -> Result<(Meta, u64), FileError> {
        loop {
            {
                let found = self.found.borrow_and_update();
                if let (Some(meta), Some(len)) = (&found.meta, found.progress.len) {
                    return Ok((meta.clone(), len));
                }
            }
            if self.found.changed().await.is_err() {
                // It ended before there was a root: its only item says why.
                return Err(match self.data.recv().await {
                    Some(Err(error)) => error,
                    _ => FileError::Stopping,
                });
            }
        }
    }

    /// All of it, up to `max` bytes; more are an error.
    pub(crate) async fn whole(&mut self, max: u64) -> Result<Vec<u8>, FileError> {
        let (_, len) = self.head().await?;
        if len > max {
            return Err(FileError::Source(format!(
                "it has {len} bytes, more than {max}: `warren get` saves it"
            )));
        }
        let mut whole = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
        while let Some(bytes) = self.next().await {
            whole.extend(bytes?);
        }
        Ok(whole)
    }
}

pub(super) fn start(link: Link, cap: ReadCap, range: Range<u64>) -> Fetching {
    let (to, data) = mpsc::channel(DATA_MAX);
    let (tell, found) = watch::channel(Found::default());
    on_own_thread(async move {
        let mut link = link;
        match run(&mut link, Fetch::new(cap, range), &to, &tell).await {
            Ok(healed) => {
                drop((to, tell)); // whoever reads is not kept waiting
                link.put_back(healed).await;
            }
            Err(error) => {
                let _ = to.send(Err(error)).await;
            }
        }
    });
    Fetching { data, found }
}

/// Fetches; gives the blocks that were missing and were rebuilt on the way.
async fn run(
    link: &mut Link,
    mut fetch: Fetch,
    to: &mpsc::Sender<Result<Vec<u8>, FileError>>,
    tell: &watch::Sender<Found>,
) -> Result<Vec<Block>, FileError> {
    link.begin(true).await?;
    let (mut waiting, mut healed) = (None, Vec::new());
    loop {
        while let Some(block) = fetch.poll_healed() {
            if healed.len() < HEALED_MAX {
                healed.push(block);
            }
        }
        while waiting.is_none()
            && let Some(bytes) = fetch.poll_data(link.now())
        {
            match to.try_send(Ok(bytes)) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(bytes)) => waiting = Some(bytes),
                Err(mpsc::error::TrySendError::Closed(_)) => return Ok(healed),
            }
        }
        link.carry(&mut fetch).await?;
        report(&fetch, link.exits, tell);
        if let Some(error) = fetch.error() {
            return Err(FileError::of(error, fetch.progress().routers));
        }
        if waiting.is_none() && fetch.is_done() {
            return Ok(healed);
        }
        if waiting.is_some() {
            tokio::select! {
                room = to.reserve() => match (room, waiting.take()) {
                    (Ok(room), Some(bytes)) => room.send(bytes),
                    _ => return Ok(healed),
                },
                heard = link.wait(&mut fetch) => heard?,
            }
        } else {
            tokio::select! {
                () = to.closed() => return Ok(healed),
                heard = link.wait(&mut fetch) => heard?,
            }
        }
    }
}

fn report(fetch: &Fetch, exits: Exits, tell: &watch::Sender<Found>) {
    let progress = fetch.progress();
    tell.send_if_modified(|found| {
        let changed = found.progress != progress || found.exits != exits;
        if changed {
            found.progress = progress;
            found.exits = exits;
            if found.meta.is_none() {
                found.meta = fetch.meta().cloned();
            }
        }
        changed
    });
}

/// Mute.
impl fmt::Debug for Fetching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}
