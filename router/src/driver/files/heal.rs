//! A file that is being checked or healed.

use std::fmt;

use tokio::sync::{oneshot, watch};
use warren_datastore::{
    capability::{ReadCap, VerifyCap},
    file::{Scope, Summary},
    transfer::Heal,
};

use super::{
    FileError, LOOK_EVERY,
    link::{Exits, Link, on_own_thread},
};

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HealState {
    /// What was found, missed and rebuilt.
    pub(crate) summary: Summary,
    /// Blocks put back and confirmed.
    pub(crate) stored: u64,
    /// Its tunnels.
    pub(crate) exits: Exits,
}

/// What it came to: for a directory, what else there is to heal.
pub(crate) type Healed = (HealState, Option<ReadCap>);

/// The near end. Dropping it ends the healing.
pub(crate) struct Healing {
    state: watch::Receiver<HealState>,
    done: oneshot::Receiver<Result<Healed, FileError>>,
}

impl Healing {
    /// How far it is, now.
    pub(crate) fn state(&self) -> HealState {
        *self.state.borrow()
    }

    /// Waits until all was looked at and what was rebuilt is stored.
    pub(crate) async fn finish(&mut self) -> Result<Healed, FileError> {
        (&mut self.done).await.unwrap_or(Err(FileError::Stopping))
    }

    /// The same for a tenth of a second: for those who look at [`Healing::state`] now and then.
    pub(crate) async fn next(&mut self) -> Option<Result<Healed, FileError>> {
        tokio::time::timeout(LOOK_EVERY, self.finish()).await.ok()
    }
}

pub(super) fn start(link: Link, cap: VerifyCap, scope: Scope) -> Healing {
    let (tell, state) = watch::channel(HealState::default());
    let (mut answer, done) = oneshot::channel();
    on_own_thread(async move {
        let result = tokio::select! {
            () = answer.closed() => return,
            result = run(link, Heal::new(cap, scope), &tell) => result,
        };
        let _ = answer.send(result);
    });
    Healing { state, done }
}

async fn run(
    mut link: Link,
    mut heal: Heal,
    tell: &watch::Sender<HealState>,
) -> Result<Healed, FileError> {
    link.begin(false).await?;
    loop {
        link.carry(&mut heal).await?;
        let state = HealState { summary: heal.summary(), stored: heal.stored(), exits: link.exits };
        tell.send_if_modified(|old| std::mem::replace(old, state) != state);
        if let Some(error) = heal.error() {
            return Err(FileError::of(error, heal.routers()));
        }
        if heal.is_done() {
            return Ok((state, heal.children().map(ReadCap::duplicate)));
        }
        link.wait(&mut heal).await?;
    }
}

/// Mute.
impl fmt::Debug for Healing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}
