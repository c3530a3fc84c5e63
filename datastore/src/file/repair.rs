//! Checking and repairing a file without being able to read it.
//!
//! Lives here: the way from a verify capability to the blocks that must be put again. Does not live
//! here: the walk through the segments (`walk.rs`), asking and putting (`transfer/`).
//!
//! ```text
//! Root: all copies ──> Blocks: every segment, tables first ──> done
//!   └ lost copies are made again        └ lost blocks are rebuilt from any k, compared, given out
//! ```

use std::{collections::VecDeque, fmt};

use warren_overlay::{
    block::{BODY_LEN, Block, BlockAddress},
    rng::Rng,
};

pub use super::walk::Summary;
use super::{
    read::RootSeek,
    walk::{Place, Purpose, ReadError, Taken, Walk},
};
use crate::{
    capability::{ROOT_COPIES, ReadCap, VerifyCap},
    manifest::{self, VerifyPart},
};

/// How much of a file is looked at.
#[derive(Debug)]
pub enum Scope {
    /// Every block; those that are missing are rebuilt: `heal`.
    Whole,
    /// So many random blocks of each segment; nothing is rebuilt: `check`.
    Sample(u16, Box<Rng>),
}

/// Looks after one file.
pub struct Repair {
    scope: Option<Scope>,
    seek: RootSeek,
    root: Option<VerifyPart>,
    /// Any copy of the root, to make the others from.
    body: Option<Block>,
    walk: Option<Walk>,
    out: VecDeque<Block>,
    roots_missing: u64,
    error: Option<ReadError>,
}

impl Repair {
    /// Begins at the root.
    pub fn new(cap: VerifyCap, scope: Scope) -> Self {
        Self {
            scope: Some(scope),
            seek: RootSeek::new(cap, false),
            root: None,
            body: None,
            walk: None,
            out: VecDeque::new(),
            roots_missing: 0,
            error: None,
        }
    }

    /// The next block to ask for.
    pub fn poll_want(&mut self) -> Option<(BlockAddress, Place)> {
        if self.error.is_some() {
            return None;
        }
        let root = self.seek.poll_want();
        root.or_else(|| self.walk.as_mut().and_then(Walk::poll_want))
    }

    /// A block that was asked for came.
    pub fn handle_block(&mut self, block: &Block) -> Taken {
        if self.seek.handle_block(block) == Taken::Yes {
            if self.root.is_none() {
                match manifest::open(self.seek.cap(), block.as_bytes()) {
                    Ok(part) => {
                        self.body = Some(block.clone());
                        self.begin(&part);
                        self.root = Some(part);
                    }
                    Err(error) => self.error = Some(error.into()),
                }
            }
            self.end_root();
            return Taken::Yes;
        }
        self.walk.as_mut().map_or(Taken::No, |walk| walk.handle_block(block))
    }

    /// A block was not found or came altered.
    pub fn handle_missing(&mut self, address: &BlockAddress) {
        self.seek.handle_missing(address);
        self.end_root();
        if let Some(walk) = &mut self.walk {
            walk.handle_missing(address);
        }
    }

    fn begin(&mut self, part: &VerifyPart) {
        let purpose = match self.scope.take() {
            Some(Scope::Sample(count, rng)) => Purpose::Sample(count, rng),
            Some(Scope::Whole) | None => Purpose::Repair,
        };
        if matches!(purpose, Purpose::Repair) {
            self.scope = Some(Scope::Whole);
        }
        let all = 0..u64::MAX;
        self.walk = part
            .layout
            .as_ref()
            .map(|layout| Walk::new(purpose, layout, &part.table, &part.index_key, all));
    }

    /// When all copies of the root were answered for: makes those that are lost.
    fn end_root(&mut self) {
        if !self.seek.is_over() {
            return;
        }
        let Some(found) = &self.body else {
            self.error.get_or_insert(ReadError::NoRoot { copies: ROOT_COPIES });
            return;
        };
        let missing: Vec<usize> = self.seek.missing().collect();
        if missing.len() as u64 == self.roots_missing {
            return;
        }
        self.roots_missing = missing.len() as u64;
        let (body, _) = found.as_bytes().split_at(BODY_LEN);
        if matches!(self.scope, Some(Scope::Whole))
            && let Some(copies) = manifest::copies(self.seek.cap(), body)
        {
            let lost = (0..).zip(copies).filter(|(at, _)| missing.contains(at));
            self.out.extend(lost.map(|(_, block)| block));
        }
    }

    /// A block that was lost and is to be put again.
    pub fn poll_block(&mut self) -> Option<Block> {
        self.out.pop_front().or_else(|| self.walk.as_mut().and_then(Walk::poll_healed))
    }

    /// For a directory: the file that lists the verify capabilities of what it holds, once the
    /// root is there.
    pub fn children(&self) -> Option<&ReadCap> {
        self.root.as_ref().and_then(|root| root.children.as_ref())
    }

    /// Whether all was looked at. Lost blocks may still wait in [`Repair::poll_block`].
    pub fn is_done(&self) -> bool {
        self.root.is_some() && self.seek.is_over() && self.walk.as_ref().is_none_or(Walk::is_done)
    }

    /// Why it cannot go on. A segment of the content that is lost is none: see [`Summary::lost`].
    pub fn error(&self) -> Option<ReadError> {
        self.error.or(self.walk.as_ref().and_then(Walk::error))
    }

    /// What was found so far, the root's copies included.
    pub fn summary(&self) -> Summary {
        let mut sum = self.walk.as_ref().map_or_else(Summary::default, |walk| walk.summary);
        sum.found += self.seek.found() as u64;
        sum.missing += self.roots_missing;
        if matches!(self.scope, Some(Scope::Whole)) {
            sum.rebuilt += self.roots_missing;
        }
        sum
    }
}

/// Mute.
impl fmt::Debug for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}
