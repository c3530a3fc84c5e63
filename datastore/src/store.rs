//! What a place to keep records must do.
//!
//! Lives here: the trait, its answers and its errors, and the test-suite that every store passes.
//! Does not live here: who may put what and for how long (`holder.rs`).

use std::{error::Error, fmt};

use warren_overlay::{id::Key, record::Record};

/// Room of a store unless said otherwise, in bytes of encoded records: 64 MiB, at least 16,384
/// records. A service needs 24 KiB of it (six records) on each of its holders.
pub const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A place to keep records, one per key, bounded in bytes.
///
/// A store trusts that its owner verified what it puts; it never hands out bytes other than those
/// put: what was damaged since is dropped and counted. After `put` has said `Stored`, the end of the
/// process loses nothing (stores in memory excepted).
pub trait RecordStore: fmt::Debug + Send {
    /// The record with this key, whether or not it has expired.
    ///
    /// # Errors
    /// When the disk fails. A damaged record is no error: it is dropped, and then there is none.
    fn get(&mut self, key: &Key) -> Result<Option<Record>, StoreError>;

    /// Keeps `record` under its key, unless a version as high or higher is there.
    ///
    /// # Errors
    /// [`StoreError::Full`] when it does not fit, [`StoreError::Disk`] when the disk fails; what was
    /// held before stays.
    fn put(&mut self, record: &Record) -> Result<PutOutcome, StoreError>;

    /// Drops the record with this key; says whether there was one.
    ///
    /// # Errors
    /// When the disk fails.
    fn remove(&mut self, key: &Key) -> Result<bool, StoreError>;

    /// Up to `limit` records with keys above `after` (from the lowest, with `None`), in the order of
    /// their keys. Fewer than `limit` only at the end.
    ///
    /// # Errors
    /// When the disk fails.
    fn range(&mut self, after: Option<&Key>, limit: usize) -> Result<Vec<Record>, StoreError>;

    /// Records kept.
    fn len(&self) -> u64;

    /// Whether nothing is kept.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the records kept, encoded; never above `bytes_max`.
    fn bytes(&self) -> u64;

    /// Most bytes of records that fit.
    fn bytes_max(&self) -> u64;

    /// Records that were found damaged and dropped, since the store was opened.
    fn damaged(&self) -> u64;
}

/// What became of a `put`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// Kept.
    Stored,
    /// The very same bytes were there already.
    Same,
    /// A version as high or higher, of other bytes, was there and stays.
    Stale,
}

impl PutOutcome {
    /// What holding `old` means for `new`; `None`: it may replace it.
    pub(crate) fn beside(old: &Record, new: &Record) -> Option<Self> {
        if old.encode() == new.encode() {
            Some(Self::Same)
        } else {
            (old.version() >= new.version()).then_some(Self::Stale)
        }
    }
}

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The record does not fit.
    #[error("the record store is full, {bytes_max} bytes are taken: try again later")]
    Full {
        /// Room in bytes.
        bytes_max: u64,
    },
    /// The files are there and cannot be used, or the disk failed.
    #[error("the record store's disk failed: see whether it is full, and `warren doctor`")]
    Disk(#[source] Box<dyn Error + Send + Sync>),
    /// Written by a version of this program that keeps records otherwise.
    #[error(
        "the record store has layout {found}, but this program knows only {known}: update warren"
    )]
    Layout {
        /// As written.
        found: u32,
        /// The one this program writes.
        known: u32,
    },
}
