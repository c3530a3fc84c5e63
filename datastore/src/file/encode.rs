//! The second pass over a file: bytes in, sealed and coded blocks out.
//!
//! Lives here: filling blocks and segments, level upon level, up to the root. Does not live here:
//! hashing the content (`hash.rs`), keys and seals (`key.rs`), where blocks go (`transfer/`).
//!
//! ```text
//! push ─> piece of 1 MiB, compared with the first pass ─> block, sealed ─> out
//!                                                          └ segment full ─> parity ─> out
//!                                                                         └ addresses ─> level above
//! finish ─> the last blocks padded ─> root ─> out, ReadCap
//! ```
//!
//! Holds one piece, and one segment a level with its parity: under 64 MiB whatever the file's length,
//! as long as its owner drains `poll_block`.

use std::{collections::VecDeque, fmt, sync::Arc};

use warren_overlay::{
    block::{BLOCK_LEN, BODY_LEN, Block, BlockAddress},
    crypto::secret::Secret,
    wire::WireError,
};
use zeroize::Zeroizing;

use super::{
    hash::{Content, PIECE_LEN, piece_hash},
    key::{self, KeySource},
    layout::{Layout, Level},
    walk::{Place, ROOT_LEVEL},
};
use crate::{
    capability::ReadCap,
    erasure::{Code, Coder},
    manifest::{self, Draft, DraftContent, INLINE_MAX, Meta},
};

/// How a file is to be stored.
#[derive(Debug, Default)]
pub struct Options {
    /// Twice the blocks instead of one and a half times: `--durable`.
    pub durable: bool,
    /// What the file says of itself.
    pub meta: Meta,
    /// For a directory: the file that lists the verify capabilities of all that it holds.
    pub children: Option<ReadCap>,
}

/// A block to be put, and where in the file it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// What to put.
    pub block: Block,
    /// Where it belongs.
    pub place: Place,
}

/// Why a file cannot be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The bytes are not those that were hashed: the file changed. Begin again with the first pass.
    #[error("the file changed while it was being stored: put it again")]
    Changed,
    /// Longer than 1 TiB.
    #[error("the file is longer than 1 TiB: put it in parts")]
    TooLong,
    /// A type or a name that cannot stand in a root.
    #[error(
        "the type or the name of the file is not allowed: use at most 255 bytes, without control characters"
    )]
    Meta(#[from] WireError),
    /// The coder refused; not expected.
    #[error("the blocks could not be coded: report it, it is a defect")]
    Code,
}

/// Stores one file. The same content, source and options give the same blocks in the same order, so
/// that an interrupted put is continued by encoding anew and leaving out what is already stored.
pub struct Encoder {
    source: Arc<KeySource>,
    content: Content,
    options: Options,
    code: Code,
    /// `None` when the content stands in the root.
    layout: Option<Layout>,
    file_key: Secret<32>,
    index_key: Secret<32>,
    piece: Zeroizing<Vec<u8>>,
    pieces: usize,
    taken: u64,
    levels: Vec<LevelEncoder>,
    table: Vec<BlockAddress>,
    coder: Coder,
    out: VecDeque<Placed>,
    cap: Option<ReadCap>,
}

struct LevelEncoder {
    level: Level,
    /// A block's room; the last 16 bytes are the seal's.
    text: Zeroizing<Box<[u8]>>,
    filled: usize,
    number: u64,
    segment: u64,
    blocks: Vec<Block>,
}

impl Encoder {
    /// Begins with what the first pass found out.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`].
    pub fn new(
        source: Arc<KeySource>,
        content: Content,
        options: Options,
    ) -> Result<Self, EncodeError> {
        let code = Code::of_file(content.len(), options.durable);
        let layout = Layout::of(content.len(), code).ok_or(EncodeError::TooLong)?;
        let layout = (content.len() > INLINE_MAX).then_some(layout);
        let file_key = source.file_key(&content, code);
        let index_key = key::index_key(&file_key);
        let levels = layout.iter().flat_map(|layout| &layout.levels).map(|level| LevelEncoder {
            level: *level,
            text: Zeroizing::new(vec![0; BLOCK_LEN].into_boxed_slice()),
            filled: 0,
            number: 0,
            segment: 0,
            blocks: Vec::new(),
        });
        Ok(Self {
            levels: levels.collect(),
            source,
            content,
            options,
            code,
            layout,
            file_key,
            index_key,
            piece: Zeroizing::new(Vec::new()),
            pieces: 0,
            taken: 0,
            table: Vec::new(),
            coder: Coder::default(),
            out: VecDeque::new(),
            cap: None,
        })
    }

    /// How many blocks it will give in all.
    pub fn blocks(&self) -> u64 {
        self.layout.as_ref().map_or(0, Layout::blocks) + crate::capability::ROOT_COPIES as u64
    }

    /// What it stores.
    pub const fn content(&self) -> &Content {
        &self.content
    }

    /// How many bytes of content it has taken.
    pub const fn taken(&self) -> u64 {
        self.taken
    }

    /// Takes the next bytes of the content; returns how many. None while blocks wait in
    /// [`Encoder::poll_block`], which keeps memory bounded.
    ///
    /// # Errors
    /// [`EncodeError::Changed`]: nothing of the piece that changed was sealed.
    pub fn push(&mut self, bytes: &[u8]) -> Result<usize, EncodeError> {
        if !self.out.is_empty() {
            return Ok(0);
        }
        let take = bytes.len().min(PIECE_LEN - self.piece.len());
        let (head, _) = bytes.split_at(take);
        self.taken += take as u64;
        if self.taken > self.content.len() {
            return Err(EncodeError::Changed);
        }
        if self.piece.capacity() == 0 {
            // Never grown, so that no copy of the text stays behind.
            let room = usize::try_from(self.content.len()).unwrap_or(PIECE_LEN).min(PIECE_LEN);
            self.piece.reserve_exact(room);
        }
        self.piece.extend_from_slice(head);
        if self.piece.len() == PIECE_LEN {
            self.end_piece()?;
        }
        Ok(take)
    }

    /// Says that the content ends here: the last blocks, the root and its capability follow.
    ///
    /// # Errors
    /// [`EncodeError::Changed`] when it ends too early, [`EncodeError::Meta`].
    pub fn finish(&mut self) -> Result<(), EncodeError> {
        if self.cap.is_some() {
            return Ok(());
        }
        if self.taken != self.content.len() {
            return Err(EncodeError::Changed);
        }
        if self.layout.is_none() {
            let content = std::mem::take(&mut self.piece);
            if !content.is_empty() && self.content.piece(0) != Some(&piece_hash(&content)) {
                return Err(EncodeError::Changed);
            }
            return self.end(&DraftContent::Inline(&content));
        }
        if !self.piece.is_empty() {
            self.end_piece()?;
        }
        for at in 0..self.levels.len() {
            while let Some(level) = self.levels.get_mut(at)
                && level.number < level.level.blocks()
            {
                level.text.get_mut(level.filled..BODY_LEN).unwrap_or_default().fill(0);
                self.end_block(at)?;
            }
        }
        let table = std::mem::take(&mut self.table);
        let (file_key, index_key) = (self.file_key.expose_secret(), self.index_key.expose_secret());
        let (file_key, index_key) =
            (Secret::take(&mut file_key.clone()), Secret::take(&mut index_key.clone()));
        self.end(&DraftContent::Blocks {
            len: self.content.len(),
            code: self.code,
            file_key: &file_key,
            index_key: &index_key,
            table: &table,
        })
    }

    fn end(&mut self, content: &DraftContent<'_>) -> Result<(), EncodeError> {
        let draft =
            Draft { meta: &self.options.meta, children: self.options.children.as_ref(), content };
        let (cap, copies) = manifest::seal(&self.source, &draft)?;
        self.cap = Some(cap);
        for (block, index) in copies.into_iter().zip(0..) {
            let place = Place { level: ROOT_LEVEL, segment: 0, index };
            self.out.push_back(Placed { block, place });
        }
        Ok(())
    }

    fn end_piece(&mut self) -> Result<(), EncodeError> {
        if self.content.piece(self.pieces) != Some(&piece_hash(&self.piece)) {
            return Err(EncodeError::Changed);
        }
        self.pieces += 1;
        let mut piece = std::mem::take(&mut self.piece);
        self.feed(0, &piece)?;
        piece.clear();
        self.piece = piece;
        Ok(())
    }

    /// Appends to a level.
    fn feed(&mut self, at: usize, mut bytes: &[u8]) -> Result<(), EncodeError> {
        while !bytes.is_empty()
            && let Some(level) = self.levels.get_mut(at)
        {
            let take = bytes.len().min(BODY_LEN - level.filled);
            let (head, rest) = bytes.split_at(take);
            if let Some(room) = level.text.get_mut(level.filled..level.filled + take) {
                room.copy_from_slice(head);
            }
            level.filled += take;
            bytes = rest;
            if level.filled == BODY_LEN {
                self.end_block(at)?;
            }
        }
        Ok(())
    }

    fn end_block(&mut self, at: usize) -> Result<(), EncodeError> {
        let key = if at == 0 { &self.file_key } else { &self.index_key };
        let Some(level) = self.levels.get_mut(at) else { return Err(EncodeError::Code) };
        let text = (&**level.text).try_into().map_err(|_| EncodeError::Code)?;
        let block = key::seal(key, at, level.number, text);
        level.filled = 0;
        level.number += 1;
        level.blocks.push(block.clone());
        let place = place_of(at, level.segment, level.blocks.len() - 1);
        self.out.push_back(Placed { block, place });
        let shape = level.level.segment(level.segment).shape;
        if level.blocks.len() < shape.data {
            return Ok(());
        }
        let data = std::mem::take(&mut level.blocks);
        let segment = level.segment;
        level.segment += 1;
        let parity = self.coder.parity(shape, data.iter()).map_err(|_| EncodeError::Code)?;
        let addresses = data.iter().chain(&parity).map(Block::address);
        if at + 1 < self.levels.len() {
            let table: Vec<u8> = addresses.flat_map(|address| address.0).collect();
            self.feed(at + 1, &table)?;
        } else {
            self.table.extend(addresses);
        }
        for (index, block) in (shape.data..).zip(parity) {
            self.out.push_back(Placed { block, place: place_of(at, segment, index) });
        }
        Ok(())
    }

    /// The next block to put.
    pub fn poll_block(&mut self) -> Option<Placed> {
        self.out.pop_front()
    }

    /// What finds and reads the file; there after [`Encoder::finish`].
    pub const fn read_cap(&self) -> Option<&ReadCap> {
        self.cap.as_ref()
    }

    /// Gives up the encoder for its capability.
    pub fn into_read_cap(self) -> Option<ReadCap> {
        self.cap
    }
}

fn place_of(level: usize, segment: u64, index: usize) -> Place {
    Place {
        level: u8::try_from(level).unwrap_or(ROOT_LEVEL),
        segment,
        index: u16::try_from(index).unwrap_or(u16::MAX),
    }
}

/// Mute: it holds somebody's file.
impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}
