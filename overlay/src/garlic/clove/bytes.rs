//! What cloves carry that nobody has checked yet.
//!
//! Lives here: records and descriptors as bytes of a length that they may have, and the answers that bring
//! them. Does not live here: their contents (`record/`, `wire/descriptor.rs`), the cloves (`clove.rs`).

use std::fmt;

use crate::{answer::Answer, block::Block, wire::RouterDescriptor};

/// The two lengths a record comes in, in bytes (DESIGN section 8).
pub(super) const RECORD_LENS: [usize; 2] = [2_048, 4_096];

/// A record as bytes: 2,048 or 4,096 of them, not yet verified by anyone.
#[derive(Clone, PartialEq, Eq)]
pub struct RecordBytes(Box<[u8]>);

impl RecordBytes {
    /// Takes the bytes if they have one of a record's two lengths.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Option<Self> {
        let bytes = bytes.into();
        RECORD_LENS.contains(&bytes.len()).then_some(Self(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, owned.
    pub fn into_bytes(self) -> Box<[u8]> {
        self.0
    }
}

/// Mute: what somebody stores or reads goes into no log.
impl fmt::Debug for RecordBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// A router's descriptor as bytes, up to [`DescriptorBytes::LEN_MAX`] of them, not yet verified by its reader.
#[derive(Clone, PartialEq, Eq)]
pub struct DescriptorBytes(Box<[u8]>);

impl DescriptorBytes {
    /// The longest that a descriptor can be.
    pub const LEN_MAX: usize = RouterDescriptor::LEN_MAX;

    /// Takes the bytes if there are as many as a descriptor may have.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Option<Self> {
        let bytes = bytes.into();
        (1..=Self::LEN_MAX).contains(&bytes.len()).then_some(Self(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Mute: whom somebody asked after goes into no log.
impl fmt::Debug for DescriptorBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// What became of a request for a record, its signature not yet verified by the owner.
pub type RecordAnswer = Answer<RecordBytes>;
/// What became of a request for a block.
pub type BlockAnswer = Answer<Block>;
/// What became of a search for a router, its descriptor not yet verified by the owner.
pub type RouterAnswer = Answer<DescriptorBytes>;
