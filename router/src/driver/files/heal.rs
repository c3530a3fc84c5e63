//! A file that is being checked or healed, or a folder with all that is in it.
//!
//! Lives here: one file as a stream of news, and the way from a folder to its objects. Does not live
//! here: which blocks those are (`warren_datastore::file::Repair`).

use std::fmt;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use warren_datastore::{
    capability::{ReadCap, VerifyCap},
    directory::children,
    file::{Scope, Summary, days_without_repair},
    transfer::Heal,
};
use warren_overlay::block::Block;

use super::{
    FileError, Files, LOOK_EVERY,
    link::{Exits, Link, on_own_thread},
};
use crate::{entropy, node::JobInput};

/// Longest list of children of a folder.
const CHILDREN_MAX: u64 = 4 << 20;

/// What is done with the blocks on their way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Way {
    /// Those that were fetched or pinned here before will do.
    pub(crate) cached: bool,
    /// They are pinned (`JobInput::Pin`).
    pub(crate) pin: Option<bool>,
    /// Where each goes that is there or was rebuilt.
    pub(crate) tap: Option<mpsc::Sender<Block>>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct HealNews {
    /// Objects gone through: a file is one, a folder several.
    pub(crate) objects_done: u64,
    /// Objects in all, as far as known.
    pub(crate) objects: u64,
    /// Blocks found.
    pub(crate) found: u64,
    /// Blocks asked for and not found.
    pub(crate) missing: u64,
    /// Of these rebuilt.
    pub(crate) rebuilt: u64,
    /// Put back and confirmed: those, and of a pin also what only this router still had.
    pub(crate) stored: u64,
    /// Segments gone through.
    pub(crate) segments: u64,
    /// Segments with too few blocks left: this part is lost.
    pub(crate) lost: u64,
    /// Of samples: days for which all of it would stay whole if nobody repaired it, 365 for more; of the
    /// object with the fewest.
    pub(crate) days_without_repair: Option<u16>,
}

/// What to go through.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scan {
    /// Look only, at so many random blocks of each segment.
    pub(crate) sample: Option<u16>,
    /// Routers per tunnel; none for the router's own number.
    pub(crate) hops: Option<u8>,
    /// Only the object itself, not what its list of children names.
    pub(crate) alone: bool,
}

impl Files {
    /// Goes through a file, or through a folder and every object that its list of children names; on top
    /// of what was seen `before`.
    pub(crate) async fn heal_all(
        &self,
        root: VerifyCap,
        scan: Scan,
        way: Way,
        before: HealNews,
        tell: &(dyn Fn(HealNews) + Send + Sync),
    ) -> Result<HealNews, FileError> {
        let mut news = HealNews { objects: before.objects + 1, ..before };
        let mut queue = vec![root];
        let mut is_root = !scan.alone;
        while let Some(cap) = queue.pop() {
            let before = news;
            let scope = match scan.sample {
                Some(blocks) => Scope::Sample(blocks, Box::new(entropy::generator())),
                None => Scope::Whole,
            };
            let mut healing = self.heal(cap, scope, scan.hops, way.clone());
            let list = loop {
                let over = healing.next().await;
                let state = over.as_ref().and_then(|over| over.as_ref().ok()).map(|(it, _)| *it);
                let state = state.unwrap_or_else(|| healing.state());
                news = before.with(&state);
                tell(news);
                if let Some(over) = over {
                    let (state, list) = over?;
                    if scan.sample.is_some() {
                        let days = days_without_repair(&state.summary);
                        news.days_without_repair =
                            news.days_without_repair.into_iter().chain(days).min();
                    }
                    break list;
                }
            };
            news.objects_done += 1;
            // Only the folder's own list counts: its objects are plain files, whatever they say.
            if let Some(list) = list.filter(|_| std::mem::take(&mut is_root)) {
                let mut fetching = self.fetch(list.duplicate(), 0..u64::MAX, scan.hops);
                let bytes = fetching.whole(CHILDREN_MAX).await?;
                let mut more = children(&bytes).map_err(|error| {
                    FileError::Source(format!(
                        "the folder's list is damaged ({error}): ask its publisher for another"
                    ))
                })?;
                more.push(list.verify());
                news.objects += more.len() as u64;
                queue.extend(more);
            }
        }
        Ok(news)
    }
}

impl HealNews {
    fn with(self, state: &HealState) -> Self {
        let HealState { summary, stored, .. } = state;
        Self {
            found: self.found + summary.found,
            missing: self.missing + summary.missing,
            rebuilt: self.rebuilt + summary.rebuilt,
            stored: self.stored + stored,
            segments: self.segments + summary.segments,
            lost: self.lost + summary.lost,
            ..self
        }
    }
}

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

pub(super) fn start(link: Link, cap: VerifyCap, scope: Scope, way: Way) -> Healing {
    let (tell, state) = watch::channel(HealState::default());
    let (mut answer, done) = oneshot::channel();
    on_own_thread(async move {
        let result = tokio::select! {
            () = answer.closed() => return,
            result = run(link, Heal::new(cap, scope), way, &tell) => result,
        };
        let _ = answer.send(result);
    });
    Healing { state, done }
}

async fn run(
    mut link: Link,
    mut heal: Heal,
    way: Way,
    tell: &watch::Sender<HealState>,
) -> Result<Healed, FileError> {
    link.begin(way.cached).await?;
    if let Some(renew) = way.pin {
        link.say(JobInput::Pin { renew }).await?;
    }
    link.taps = way.tap.is_some();
    loop {
        for block in std::mem::take(&mut link.lost) {
            heal.put(link.now(), block);
        }
        link.carry(&mut heal).await?;
        for block in std::mem::take(&mut link.tapped) {
            if let Some(tap) = &way.tap
                && tap.send(block).await.is_err()
            {
                return Err(FileError::Stopping);
            }
        }
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
