//! What a place to keep blocks must do.
//!
//! Lives here: the trait, its shelves, answers and bounds. Does not live here: which blocks are
//! worth the room (`holder/shelf.rs`), the two stores (`blocks/memory.rs`, `blocks/rocks.rs`), what
//! every store passes (`blocks/testing.rs`). In words: docs/spec/blocks.md.
//!
//! ```text
//!             owned    for others, because this router is close to them     synced before it is
//!                                                                           acknowledged; repaired
//!  BlockStore cache    for others, because they passed by                   old ones go
//!             pinned   for the person here, until told otherwise            synced
//!             client   for the person here, for as long as this runs        key dies with it
//! ```
//!
//! The ring is answered from `owned` and `cache` alone: what a person fetched or pinned here never
//! tells neighbours what that person reads.

pub(crate) mod admission;
mod memory;
#[cfg(feature = "rocks")]
mod rocks;
#[cfg(feature = "rocks")]
pub(crate) mod seal;
#[cfg(test)]
pub(crate) mod testing;

use std::fmt;

use warren_overlay::block::{BLOCK_LEN, Block, BlockAddress};

pub use memory::MemoryBlocks;
#[cfg(feature = "rocks")]
pub use rocks::RocksBlocks;

use crate::store::StoreError;

/// What a block counts for, in bytes: itself and what is stored around it (key, tag, index).
pub const BLOCK_COST: u64 = BLOCK_LEN as u64 + 256;

/// Why a block is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shelf {
    /// This router is among the closest to its address.
    Owned,
    /// It passed by.
    Cache,
    /// The person here wants it kept.
    Pinned,
    /// The person here fetched it. Gone when the process ends: its key is.
    Client,
}

impl Shelf {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Owned, Self::Cache, Self::Pinned, Self::Client];
}

/// Room on the shelves, in bytes as they lie on the disk, garbage included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockLimits {
    /// For others, owned.
    pub owned: u64,
    /// For others, cached.
    pub cache: u64,
    /// For the person here, pinned.
    pub pinned: u64,
    /// For the person here, fetched.
    pub client: u64,
    /// Blocks that are kept in memory as well, in bytes; new ones for the cache wait here.
    pub front: u64,
}

impl Default for BlockLimits {
    /// 4 GiB for others, 4 GiB for the person here.
    fn default() -> Self {
        const GIB: u64 = 1 << 30;
        Self { owned: 3 * GIB, cache: GIB, pinned: 3 * GIB, client: GIB, front: 8 << 20 }
    }
}

impl BlockLimits {
    /// `disk` bytes, shared out as the default is: half for others, three quarters of each half lasting.
    pub const fn within(disk: u64) -> Self {
        let (lasting, passing) = (disk / 8 * 3, disk / 8);
        Self { owned: lasting, cache: passing, pinned: lasting, client: passing, front: 8 << 20 }
    }

    /// Room on one shelf.
    pub const fn of(&self, on: Shelf) -> u64 {
        match on {
            Shelf::Owned => self.owned,
            Shelf::Cache => self.cache,
            Shelf::Pinned => self.pinned,
            Shelf::Client => self.client,
        }
    }
}

/// What lies on a shelf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Blocks.
    pub blocks: u64,
    /// Bytes that they take, garbage included; never above `bytes_max`.
    pub bytes: u64,
    /// Most bytes.
    pub bytes_max: u64,
}

/// What became of a `put`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// On the shelf: after the next `commit`, whatever happens to the process.
    Stored,
    /// It was there already.
    Same,
    /// The cache does not think it worth the room.
    Declined,
}

/// A place to keep blocks, each shelf bounded in bytes.
///
/// A store never hands out bytes that have another address than the one asked for: what was damaged
/// since it was put is dropped and counted. What was put on `Owned` or `Pinned` before a `commit` that
/// said yes survives the process and the power; stores in memory excepted.
pub trait BlockStore: fmt::Debug + Send {
    /// The block with this address on this shelf. Asking the cache counts as a use.
    ///
    /// # Errors
    /// When the disk fails. A damaged block is no error: it is dropped, and then there is none.
    fn get(&mut self, on: Shelf, address: &BlockAddress) -> Result<Option<Block>, StoreError>;

    /// Puts a block on a shelf.
    ///
    /// # Errors
    /// [`StoreError::Full`] when it does not fit (the cache and the client's shelf make room instead),
    /// [`StoreError::Disk`] when the disk fails.
    fn put(&mut self, on: Shelf, block: &Block) -> Result<Kept, StoreError>;

    /// Makes sure of all that was put and not yet committed: one sync for all of it.
    ///
    /// # Errors
    /// When the disk fails: nothing that was put since the last one may be acknowledged.
    fn commit(&mut self) -> Result<(), StoreError>;

    /// Takes a block from a shelf; says whether it was there. The cache needs nothing removed.
    ///
    /// # Errors
    /// When the disk fails.
    fn remove(&mut self, on: Shelf, address: &BlockAddress) -> Result<bool, StoreError>;

    /// Whether a block is on a shelf other than the cache (of which nobody keeps a list).
    fn holds(&self, on: Shelf, address: &BlockAddress) -> bool;

    /// Up to `limit` addresses above `after` on a shelf other than the cache, in order.
    fn addresses(&self, on: Shelf, after: Option<&BlockAddress>, limit: usize)
    -> Vec<BlockAddress>;

    /// What lies on a shelf.
    fn usage(&self, on: Shelf) -> Usage;

    /// Blocks that were found damaged and dropped, since the store was opened.
    fn damaged(&self) -> u64;

    /// A note kept beside the blocks, sealed like them; at most 64 KiB.
    ///
    /// # Errors
    /// When the disk fails.
    fn note(&mut self, name: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Keeps a note: after the next `commit`.
    ///
    /// # Errors
    /// When the disk fails.
    fn set_note(&mut self, name: &str, bytes: &[u8]) -> Result<(), StoreError>;

    /// After the disk failed: tries to get going again. Does nothing where nothing is wrong.
    ///
    /// # Errors
    /// When it still fails.
    fn mend(&mut self) -> Result<(), StoreError>;
}
