//! Where held records are.
//!
//! Lives here: the trait that a holder stores through, and the store in memory. Does not live here:
//! RocksDB (`rocks.rs`), what is kept and for whom (`holder.rs`).

use std::{collections::BTreeMap, fmt};

use warren_overlay::{
    id::{Key, Location},
    record::Record,
    time::Wall,
};

use crate::index::{Index, Rank};

/// How many bytes of records a router keeps unless told otherwise: 64 MiB, 16,384 large ones.
pub const BYTES_MAX_DEFAULT: usize = 64 << 20;
/// Expired records taken out in one go: some milliseconds of work.
pub(crate) const EXPIRE_AT_ONCE: usize = 1_024;

/// The store itself failed (a disk, not a record).
#[derive(Debug, thiserror::Error)]
#[error("record store: {0}")]
pub struct StoreError(pub String);

/// What became of a record that was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is kept.
    Stored,
    /// The very same one was kept already.
    Same,
    /// Another one of the same or a higher version is kept.
    Stale,
    /// There is no room for it.
    Full,
}

/// Keeps records by key; one each, and only a higher version replaces.
///
/// What it returns was verified: a store that reads bytes back decodes them again.
pub trait RecordStore: fmt::Debug + Send {
    /// The record with this key, expired or not.
    ///
    /// # Errors
    /// When the medium fails.
    fn get(&self, key: &Key) -> Result<Option<Record>, StoreError>;

    /// Keeps a record, if it is newer and fits.
    ///
    /// # Errors
    /// When the medium fails; then the record may or may not be kept.
    fn put(&mut self, record: &Record) -> Result<Put, StoreError>;

    /// Takes a record out; whether there was one.
    ///
    /// # Errors
    /// When the medium fails.
    fn remove(&mut self, key: &Key) -> Result<bool, StoreError>;

    /// Takes out some of what has expired at `wall`; how many. Zero when nothing is left to take.
    ///
    /// # Errors
    /// When the medium fails.
    fn expire(&mut self, wall: Wall) -> Result<usize, StoreError>;

    /// The first key after this one, in ring order from location 0; to walk over all of them.
    fn next_after(&self, after: Option<&Key>) -> Option<Key>;

    /// The held key nearest to a point of the ring.
    fn nearest(&self, to: Location) -> Option<Key>;

    /// Records held.
    fn len(&self) -> usize;

    /// Bytes held.
    fn bytes(&self) -> usize;

    /// Whether nothing is held.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Records in memory: gone with the process.
#[derive(Debug)]
pub struct MemoryRecords {
    index: Index,
    records: BTreeMap<Key, Record>,
}

impl MemoryRecords {
    /// An empty store for so many bytes.
    pub const fn new(bytes_max: usize) -> Self {
        Self { index: Index::new(bytes_max), records: BTreeMap::new() }
    }
}

impl Default for MemoryRecords {
    /// An empty store for [`BYTES_MAX_DEFAULT`] bytes.
    fn default() -> Self {
        Self::new(BYTES_MAX_DEFAULT)
    }
}

impl RecordStore for MemoryRecords {
    fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        Ok(self.records.get(key).cloned())
    }

    fn put(&mut self, record: &Record) -> Result<Put, StoreError> {
        let key = record.key();
        Ok(match self.index.rank(record) {
            Rank::Fits => {
                self.index.insert(record);
                self.records.insert(key, record.clone());
                Put::Stored
            }
            Rank::SameVersion if self.records.get(&key) == Some(record) => Put::Same,
            Rank::SameVersion | Rank::Older => Put::Stale,
            Rank::TooMuch => Put::Full,
        })
    }

    fn remove(&mut self, key: &Key) -> Result<bool, StoreError> {
        self.records.remove(key);
        Ok(self.index.remove(key))
    }

    fn expire(&mut self, wall: Wall) -> Result<usize, StoreError> {
        let past = self.index.expired(wall, EXPIRE_AT_ONCE);
        for key in &past {
            self.remove(key)?;
        }
        Ok(past.len())
    }

    fn next_after(&self, after: Option<&Key>) -> Option<Key> {
        self.index.next_after(after)
    }

    fn nearest(&self, to: Location) -> Option<Key> {
        self.index.nearest(to)
    }

    fn len(&self) -> usize {
        self.index.len()
    }

    fn bytes(&self) -> usize {
        self.index.bytes()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use warren_overlay::{
        crypto::{blind::ServiceKey, secret::Secret},
        id::NetworkId,
        record::RecordSize,
    };

    use super::*;

    pub(crate) const NETWORK: NetworkId = NetworkId([9; 32]);

    pub(crate) fn record(owner: u8, version: u64, expiry: u32, payload: &[u8]) -> Record {
        let key = ServiceKey::from_seed(Secret::take(&mut [owner; 32])).blind(&[b"test"]);
        let expiry = Wall::from_minutes(expiry);
        Record::sign(&key, NETWORK, version, expiry, payload, RecordSize::Small).unwrap()
    }

    /// What every store must hold to; `bytes_max` of the given one is four small records.
    pub(crate) fn a_store_keeps_its_promises(store: &mut dyn RecordStore) {
        let first = record(1, 5, 100, b"a");
        assert_eq!(store.put(&first).unwrap(), Put::Stored);
        assert_eq!(store.put(&first).unwrap(), Put::Same);
        assert_eq!(store.put(&record(1, 5, 100, b"fork")).unwrap(), Put::Stale);
        assert_eq!(store.put(&record(1, 4, 100, b"older")).unwrap(), Put::Stale);
        assert_eq!(store.get(&first.key()).unwrap(), Some(first.clone()));
        let newer = record(1, 6, 120, b"b");
        assert_eq!(store.put(&newer).unwrap(), Put::Stored);
        assert_eq!(store.get(&first.key()).unwrap(), Some(newer.clone()));
        assert_eq!((store.len(), store.bytes()), (1, 2_048));

        for owner in 2..=4 {
            assert_eq!(store.put(&record(owner, 1, 110, b"")).unwrap(), Put::Stored);
        }
        assert_eq!(store.put(&record(5, 1, 110, b"")).unwrap(), Put::Full);
        assert_eq!(store.put(&record(4, 2, 110, b"")).unwrap(), Put::Stored, "in place of its own");
        assert_eq!(store.bytes(), 4 * 2_048);

        let mut keys = Vec::new();
        while let Some(key) = store.next_after(keys.last()) {
            keys.push(key);
        }
        assert_eq!(keys.len(), 4);
        assert!(keys.is_sorted());
        for key in &keys {
            assert_eq!(store.nearest(key.location().plus(1)), Some(*key));
        }
        let antipode = Location(1 << 63);
        let nearest = keys.iter().min_by_key(|key| key.location().distance(antipode));
        assert_eq!(store.nearest(antipode).as_ref(), nearest);

        assert_eq!(store.expire(Wall::from_minutes(109)).unwrap(), 0);
        assert_eq!(store.expire(Wall::from_minutes(110)).unwrap(), 3);
        assert_eq!(store.len(), 1);
        assert!(store.remove(&newer.key()).unwrap());
        assert!(!store.remove(&newer.key()).unwrap());
        assert_eq!(store.get(&newer.key()).unwrap(), None);
        assert_eq!((store.len(), store.bytes()), (0, 0));
    }

    #[test]
    fn memory_keeps_its_promises() {
        a_store_keeps_its_promises(&mut MemoryRecords::new(4 * 2_048 + 100));
    }
}
