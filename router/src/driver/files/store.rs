//! A file that is being stored.

use std::fmt;

use tokio::sync::{oneshot, watch};
use warren_datastore::{
    capability::ReadCap,
    file::Encoder,
    transfer::{Store, StoreProgress, StoreState},
};

use super::{
    Bytes, FileError, LOOK_EVERY,
    link::{Exits, Link, on_own_thread},
};

/// A restart repeats at most so many blocks, and those under way.
const STATE_BLOCKS: u64 = 32;

/// How far a file is stored.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    /// Blocks encoded, stored and in all.
    pub(crate) progress: StoreProgress,
    /// Its tunnels.
    pub(crate) exits: Exits,
    /// What a later run needs to go on here; none before anything was stored.
    pub(crate) state: Option<StoreState>,
}

/// The near end. Dropping it ends the store.
pub(crate) struct Storing {
    stored: watch::Receiver<Stored>,
    cap: oneshot::Receiver<Result<ReadCap, FileError>>,
}

impl Storing {
    /// How far it is, now.
    pub(crate) fn stored(&self) -> Stored {
        self.stored.borrow().clone()
    }

    /// Waits until every block is confirmed: what reads the file.
    pub(crate) async fn finish(&mut self) -> Result<ReadCap, FileError> {
        (&mut self.cap).await.unwrap_or(Err(FileError::Stopping))
    }

    /// The same for a tenth of a second: for those who look at [`Storing::stored`] now and then.
    pub(crate) async fn next(&mut self) -> Option<Result<ReadCap, FileError>> {
        tokio::time::timeout(LOOK_EVERY, self.finish()).await.ok()
    }
}

/// What to store.
pub(super) struct StoreJob {
    pub(super) encoder: Encoder,
    pub(super) bytes: Bytes,
    pub(super) state: Option<StoreState>,
}

pub(super) fn start(link: Link, job: StoreJob) -> Storing {
    let (tell, stored) = watch::channel(Stored::default());
    let (mut done, cap) = oneshot::channel();
    on_own_thread(async move {
        let result = tokio::select! {
            () = done.closed() => return,
            result = run(link, job, &tell) => result,
        };
        let _ = done.send(result);
    });
    Storing { stored, cap }
}

async fn run(
    mut link: Link,
    job: StoreJob,
    tell: &watch::Sender<Stored>,
) -> Result<ReadCap, FileError> {
    let changed = |error| FileError::Source(format!("{error}"));
    let StoreJob { encoder, mut bytes, state } = job;
    let mut store = match state {
        Some(state) => Store::resume(encoder, state).map_err(changed)?,
        None => Store::new(encoder),
    };
    link.gives_up = false;
    link.begin(false).await?;
    let (mut chunk, mut taken, mut ended) = (Vec::new(), 0, false);
    loop {
        while !ended {
            let rest = chunk.get(taken..).unwrap_or_default();
            if rest.is_empty() {
                match bytes.next().await {
                    Some(next) => (chunk, taken) = (next.map_err(FileError::Source)?, 0),
                    None => {
                        store.finish(link.now()).map_err(changed)?;
                        ended = true;
                    }
                }
                continue;
            }
            match store.push(link.now(), rest).map_err(changed)? {
                0 => break,
                count => taken += count,
            }
        }
        link.carry(&mut store).await?;
        report(&store, link.exits, tell);
        if store.is_done()
            && let Some(cap) = store.read_cap()
        {
            return Ok(cap.duplicate());
        }
        link.wait(&mut store).await?;
    }
}

fn report(store: &Store, exits: Exits, tell: &watch::Sender<Stored>) {
    let progress = store.progress();
    tell.send_if_modified(|stored| {
        let changed = stored.progress != progress || stored.exits != exits;
        if changed {
            let kept = stored.state.as_ref().map_or(0, StoreState::count);
            if progress.stored >= kept + STATE_BLOCKS || store.is_done() {
                stored.state = Some(store.state());
            }
            (stored.progress, stored.exits) = (progress, exits);
        }
        changed
    });
}

/// Mute.
impl fmt::Debug for Storing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}
