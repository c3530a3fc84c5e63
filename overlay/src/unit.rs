//! What the network stores: units of two kinds, and their keys.
//!
//! Lives here: the two enums that the ring, the cloves and the stores share. Does not live here: what
//! a record (`record.rs`) or a block (`block.rs`) is, who holds them (crate datastore).

use crate::{
    block::{Block, BlockAddress},
    id::{Key, Location},
    record::Record,
};

/// Which stored unit. Records and blocks have keys of different hash contexts: none is both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnitKey {
    /// The record with this key, whatever its version.
    Record(Key),
    /// The block with this address.
    Block(BlockAddress),
}

impl UnitKey {
    /// The 32 bytes that routing goes by.
    pub const fn key(&self) -> Key {
        match self {
            Self::Record(key) => *key,
            Self::Block(address) => address.key(),
        }
    }

    /// The point of the ring whose nearest routers hold it.
    pub fn location(&self) -> Location {
        self.key().location()
    }

    /// Whether it names a block.
    pub const fn is_block(&self) -> bool {
        matches!(self, Self::Block(_))
    }
}

/// A stored unit that was checked: a record's signature, a block's hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Small, signed, versioned, expiring.
    Record(Record),
    /// 32 KiB that never change.
    Block(Block),
}

impl Unit {
    /// What it is found by.
    pub fn key(&self) -> UnitKey {
        match self {
            Self::Record(record) => UnitKey::Record(record.key()),
            Self::Block(block) => UnitKey::Block(block.address()),
        }
    }

    /// Whether it is a block.
    pub const fn is_block(&self) -> bool {
        matches!(self, Self::Block(_))
    }
}

impl From<Record> for Unit {
    fn from(record: Record) -> Self {
        Self::Record(record)
    }
}

impl From<Block> for Unit {
    fn from(block: Block) -> Self {
        Self::Block(block)
    }
}
