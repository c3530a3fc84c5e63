//! Reading a file or any part of it.
//!
//! Lives here: the way from a read capability to verified bytes in order. Does not live here: the walk
//! through the segments (`walk.rs`), asking others for blocks (`transfer/fetch.rs`).
//!
//! ```text
//! Root: one copy after the other ──> Open: range after range ──> done
//!    └ none found, or it does not open ──> error
//! ```
//!
//! Every byte that comes out was sealed by the file's publisher and lies where it says: its block has
//! the address that the table names, and opens only as the block of its number.

use std::{fmt, ops::Range};

use warren_overlay::block::{Block, BlockAddress};
use zeroize::Zeroizing;

use super::walk::{Place, Purpose, ROOT_LEVEL, ReadError, Taken, Walk};
use crate::{
    capability::{ROOT_COPIES, ReadCap, VerifyCap},
    manifest::{self, ContentSecret, Meta, ReadPart, VerifyPart},
};

/// The search for a root at its places.
pub(crate) struct RootSeek {
    cap: VerifyCap,
    places: [BlockAddress; ROOT_COPIES],
    states: [RootState; ROOT_COPIES],
    /// Whether one found copy is enough.
    any: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RootState {
    Idle,
    Asked,
    Late,
    Missing,
    Found,
}

impl RootSeek {
    pub(crate) fn new(cap: VerifyCap, any: bool) -> Self {
        let places = cap.roots();
        Self { cap, places, states: [RootState::Idle; ROOT_COPIES], any }
    }

    pub(crate) const fn cap(&self) -> &VerifyCap {
        &self.cap
    }

    pub(crate) fn poll_want(&mut self) -> Option<(BlockAddress, Place)> {
        if self.any && self.states.iter().any(|s| matches!(s, RootState::Asked | RootState::Found))
        {
            return None;
        }
        let at = self.states.iter().position(|s| *s == RootState::Idle)?;
        *self.states.get_mut(at)? = RootState::Asked;
        let index = u16::try_from(at).unwrap_or(u16::MAX);
        let place = Place { level: ROOT_LEVEL, segment: 0, index };
        self.places.get(at).map(|address| (*address, place))
    }

    /// Notes a block; `Yes` if it is a copy that was asked for.
    pub(crate) fn handle_block(&mut self, block: &Block) -> Taken {
        self.note(&block.address(), RootState::Found)
    }

    pub(crate) fn handle_missing(&mut self, address: &BlockAddress) {
        self.note(address, RootState::Missing);
    }

    pub(crate) fn handle_late(&mut self, address: &BlockAddress) {
        self.note(address, RootState::Late);
    }

    fn note(&mut self, address: &BlockAddress, to: RootState) -> Taken {
        let found = self.places.iter().position(|place| place == address);
        let Some(state) = found.and_then(|at| self.states.get_mut(at)) else { return Taken::No };
        match (*state, to) {
            (RootState::Asked, _)
            | (RootState::Late, RootState::Missing)
            | (RootState::Late | RootState::Missing, RootState::Found) => {
                *state = to;
                Taken::Yes
            }
            _ => Taken::No,
        }
    }

    pub(crate) fn wants(&self, address: &BlockAddress) -> bool {
        let mut states = self.places.iter().zip(&self.states);
        states.any(|(place, state)| place == address && *state != RootState::Found)
    }

    /// Whether every place was answered for.
    pub(crate) fn is_over(&self) -> bool {
        let is_open =
            |s: &RootState| matches!(s, RootState::Idle | RootState::Asked | RootState::Late);
        !self.states.iter().any(is_open)
    }

    /// Which copies were not found.
    pub(crate) fn missing(&self) -> impl Iterator<Item = usize> + '_ {
        (0..).zip(&self.states).filter(|(_, s)| **s == RootState::Missing).map(|(at, _)| at)
    }

    pub(crate) fn found(&self) -> usize {
        self.states.iter().filter(|s| **s == RootState::Found).count()
    }
}

/// Reads one file. Ask it for wants, hand it what came, take the bytes.
pub struct Reader {
    cap: ReadCap,
    range: Range<u64>,
    stage: Stage,
    error: Option<ReadError>,
}

enum Stage {
    Root(RootSeek),
    Inline { part: Box<ReadPart>, text: Zeroizing<Vec<u8>>, given: bool },
    Blocks { verify: Box<VerifyPart>, read: Box<ReadPart>, walk: Box<Walk> },
}

impl Reader {
    /// Reads `range` of the content (clipped to its length); `0..u64::MAX` for all of it.
    pub fn new(cap: ReadCap, range: Range<u64>) -> Self {
        let stage = Stage::Root(RootSeek::new(cap.verify(), true));
        Self { cap, range, stage, error: None }
    }

    /// The next block to ask for. Each is asked for once; the order is the order of need.
    pub fn poll_want(&mut self) -> Option<(BlockAddress, Place)> {
        match &mut self.stage {
            _ if self.error.is_some() => None,
            Stage::Root(seek) => seek.poll_want(),
            Stage::Inline { .. } => None,
            Stage::Blocks { walk, .. } => walk.poll_want(),
        }
    }

    /// A block that was asked for came. `No`: it is not wanted, or no longer.
    pub fn handle_block(&mut self, block: &Block) -> Taken {
        match &mut self.stage {
            Stage::Root(seek) => {
                let taken = seek.handle_block(block);
                if taken == Taken::Yes
                    && let Err(error) = self.open(block)
                {
                    self.error = Some(error);
                }
                taken
            }
            Stage::Inline { .. } => Taken::No,
            Stage::Blocks { walk, .. } => walk.handle_block(block),
        }
    }

    /// A block takes long: another is asked for in its place, and it is still taken.
    pub fn handle_late(&mut self, address: &BlockAddress) {
        match &mut self.stage {
            Stage::Root(seek) => seek.handle_late(address),
            Stage::Inline { .. } => {}
            Stage::Blocks { walk, .. } => walk.handle_late(address),
        }
    }

    /// A block was not found, or came altered. One that comes after all is still taken.
    pub fn handle_missing(&mut self, address: &BlockAddress) {
        match &mut self.stage {
            Stage::Root(seek) => {
                seek.handle_missing(address);
                if seek.is_over() {
                    self.error = Some(ReadError::NoRoot { copies: ROOT_COPIES });
                }
            }
            Stage::Inline { .. } => {}
            Stage::Blocks { walk, .. } => walk.handle_missing(address),
        }
    }

    fn open(&mut self, block: &Block) -> Result<(), ReadError> {
        let Stage::Root(seek) = &self.stage else { return Ok(()) };
        let verify = manifest::open(seek.cap(), block.as_bytes())?;
        let read = Box::new(verify.read(&self.cap)?);
        self.stage = match (&verify.layout, &read.secret) {
            (Some(_), ContentSecret::Key(_)) => {
                let walk = Box::new(Self::walk(&verify, self.range.clone())?);
                Stage::Blocks { verify: Box::new(verify), read, walk }
            }
            (None, ContentSecret::Inline(text)) => {
                let text = text.clone();
                Stage::Inline { part: read, text, given: false }
            }
            _ => return Err(ReadError::Inconsistent),
        };
        Ok(())
    }

    fn walk(verify: &VerifyPart, range: Range<u64>) -> Result<Walk, ReadError> {
        let layout = verify.layout.as_ref().ok_or(ReadError::Inconsistent)?;
        Ok(Walk::new(Purpose::Read, layout, &verify.table, &verify.index_key, range))
    }

    /// Goes on at another range. What was asked for and has not come is forgotten.
    pub fn seek(&mut self, range: Range<u64>) {
        self.range = range;
        match &mut self.stage {
            Stage::Root(_) => {}
            Stage::Inline { given, .. } => *given = false,
            Stage::Blocks { verify, walk, .. } => match Self::walk(verify, self.range.clone()) {
                Ok(new) => **walk = new,
                Err(error) => self.error = Some(error),
            },
        }
    }

    /// Whether a block that was asked for would still be of use.
    pub fn wants(&self, address: &BlockAddress) -> bool {
        match &self.stage {
            Stage::Root(seek) => seek.wants(address),
            Stage::Inline { .. } => false,
            Stage::Blocks { walk, .. } => walk.wants(address),
        }
    }

    /// The next bytes of the range, at most a block's worth.
    pub fn poll_data(&mut self) -> Option<Vec<u8>> {
        if self.error.is_some() {
            return None;
        }
        match &mut self.stage {
            Stage::Root(_) => None,
            Stage::Inline { text, given, .. } => {
                if std::mem::replace(given, true) {
                    return None;
                }
                let clip = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(text.len());
                let bytes = text.get(clip(self.range.start)..clip(self.range.end));
                bytes.filter(|bytes| !bytes.is_empty()).map(<[u8]>::to_vec)
            }
            Stage::Blocks { read, walk, .. } => match &read.secret {
                ContentSecret::Key(key) => walk.poll_data(key),
                ContentSecret::Inline(_) => None,
            },
        }
    }

    /// A data block that was missing and could be rebuilt: put it back. (Background healing of what
    /// was read with holes; at most 256 wait, more are forgotten.)
    pub fn poll_healed(&mut self) -> Option<Block> {
        match &mut self.stage {
            Stage::Blocks { walk, .. } => walk.poll_healed(),
            Stage::Root(_) | Stage::Inline { .. } => None,
        }
    }

    /// What the file says of itself, once its root is there.
    pub fn meta(&self) -> Option<&Meta> {
        match &self.stage {
            Stage::Root(_) => None,
            Stage::Inline { part, .. } => Some(&part.meta),
            Stage::Blocks { read, .. } => Some(&read.meta),
        }
    }

    /// Length of the content in bytes, once its root is there.
    pub fn content_len(&self) -> Option<u64> {
        match &self.stage {
            Stage::Root(_) => None,
            Stage::Inline { text, .. } => Some(text.len() as u64),
            Stage::Blocks { verify, .. } => Some(verify.content_len()),
        }
    }

    /// Whether the whole range was given out.
    pub fn is_done(&self) -> bool {
        match &self.stage {
            Stage::Root(_) => false,
            Stage::Inline { given, .. } => *given,
            Stage::Blocks { walk, .. } => walk.is_done(),
        }
    }

    /// Why it cannot go on.
    pub fn error(&self) -> Option<ReadError> {
        match &self.stage {
            Stage::Blocks { walk, .. } => self.error.or(walk.error()),
            Stage::Root(_) | Stage::Inline { .. } => self.error,
        }
    }
}

/// Mute.
impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}
