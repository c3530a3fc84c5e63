//! Blocks that are there already, on their way into the network. (One that is not is `None`.)

use std::fmt;

use tokio::sync::{mpsc, oneshot, watch};
use warren_datastore::transfer::Load;
use warren_overlay::block::Block;

use super::{
    FileError,
    link::{Exits, Link, on_own_thread},
};

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loaded {
    /// Blocks confirmed in this run.
    pub(crate) stored: u64,
    /// All blocks with lower numbers are confirmed.
    pub(crate) below: u64,
    /// Fewest copies of one.
    pub(crate) copies_min: Option<u8>,
    /// Its tunnels.
    pub(crate) exits: Exits,
}

/// The near end. Dropping it ends the loading.
pub(crate) struct Loading {
    pub(crate) loaded: watch::Receiver<Loaded>,
    done: oneshot::Receiver<Result<(), FileError>>,
}

impl Loading {
    /// Waits until there are no more blocks and all are confirmed.
    pub(crate) async fn finish(&mut self) -> Result<(), FileError> {
        (&mut self.done).await.unwrap_or(Err(FileError::Stopping))
    }
}

pub(super) fn start(link: Link, blocks: mpsc::Receiver<Option<Block>>, from: u64) -> Loading {
    let (tell, loaded) = watch::channel(Loaded { below: from, ..Loaded::default() });
    let (mut answer, done) = oneshot::channel();
    on_own_thread(async move {
        let result = tokio::select! {
            () = answer.closed() => return,
            result = run(link, blocks, from, &tell) => result,
        };
        let _ = answer.send(result);
    });
    Loading { loaded, done }
}

async fn run(
    mut link: Link,
    mut blocks: mpsc::Receiver<Option<Block>>,
    from: u64,
    tell: &watch::Sender<Loaded>,
) -> Result<(), FileError> {
    let mut load = Load::new(from);
    link.gives_up = false;
    link.begin(false).await?;
    let mut ended = false;
    loop {
        link.carry(&mut load).await?;
        let now = Loaded {
            stored: load.stored(),
            below: load.below(),
            copies_min: load.copies_min(),
            exits: link.exits,
        };
        tell.send_if_modified(|old| std::mem::replace(old, now) != now);
        if ended && load.is_idle() {
            return Ok(());
        }
        if ended || !load.has_room() {
            link.wait(&mut load).await?;
            continue;
        }
        tokio::select! {
            block = blocks.recv() => match block {
                Some(Some(block)) => load.push(link.now(), block),
                Some(None) => load.skip(),
                None => ended = true,
            },
            heard = link.wait(&mut load) => heard?,
        }
    }
}

/// Mute.
impl fmt::Debug for Loading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}
