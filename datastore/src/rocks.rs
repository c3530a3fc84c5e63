//! Records on disk, in RocksDB.
//!
//! Lives here: the database's layout and options. Does not live here: what is kept (`holder.rs`).
//!
//! One column family, `records`: key = the record's key (32 bytes), value = the record's bytes. Every
//! write goes through the write-ahead log, so that a killed process loses none; every read is
//! decoded again, signature and all, so that a torn or altered value is never served: it is taken
//! out instead. What is held is indexed in memory (about 150 bytes a record) when the store opens.
//!
//! Values are not sealed once more: a service's record is sealed to those who know its name, and its
//! key is blinded, before it ever gets here.

use std::{fmt, path::Path};

use rocksdb::{ColumnFamily, DB, IteratorMode, Options};
use warren_overlay::{
    id::{Key, Location, NetworkId},
    record::Record,
    time::Wall,
};

use crate::{
    index::{Index, Rank},
    store::{BYTES_MAX_DEFAULT, EXPIRE_AT_ONCE, Put, RecordStore, StoreError},
};

const RECORDS: &str = "records";
/// Write buffers: two of these before one is flushed; records are few.
const WRITE_BUFFER: usize = 4 << 20;
/// Files that RocksDB may hold open: a home router has 1,024 in all.
const OPEN_FILES_MAX: i32 = 64;

/// Records in a RocksDB database.
pub struct RocksRecords {
    db: DB,
    network: NetworkId,
    index: Index,
}

impl RocksRecords {
    /// Opens the database in the folder `path`, or makes it, for [`BYTES_MAX_DEFAULT`] bytes.
    ///
    /// # Errors
    /// When the folder cannot be used: no permission, no space, in use by another process.
    pub fn open(path: &Path, network: NetworkId) -> Result<Self, StoreError> {
        Self::with_bytes(path, network, BYTES_MAX_DEFAULT)
    }

    /// [`RocksRecords::open`] with a bound of one's own on the bytes held.
    ///
    /// # Errors
    /// As there.
    pub fn with_bytes(
        path: &Path,
        network: NetworkId,
        bytes_max: usize,
    ) -> Result<Self, StoreError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_max_open_files(OPEN_FILES_MAX);
        options.set_write_buffer_size(WRITE_BUFFER);
        options.set_keep_log_file_num(2);
        options.set_max_total_wal_size(4 * WRITE_BUFFER as u64);
        let db = DB::open_cf(&options, path, [RECORDS]).map_err(failed)?;
        let mut this = Self { db, network, index: Index::new(bytes_max) };
        this.load()?;
        Ok(this)
    }

    /// Indexes what is there; takes out what is no record, or too much.
    fn load(&mut self) -> Result<(), StoreError> {
        let mut bad = Vec::new();
        for item in self.db.iterator_cf(self.family()?, IteratorMode::Start) {
            let (key, value) = item.map_err(failed)?;
            match Record::decode(&value, self.network) {
                Ok(record)
                    if record.key().as_bytes()[..] == key[..]
                        && self.index.rank(&record) == Rank::Fits =>
                {
                    self.index.insert(&record);
                }
                Ok(_) | Err(_) => bad.push(key),
            }
        }
        for key in bad {
            self.db.delete_cf(self.family()?, key).map_err(failed)?;
        }
        Ok(())
    }

    fn family(&self) -> Result<&ColumnFamily, StoreError> {
        self.db.cf_handle(RECORDS).ok_or_else(|| StoreError("column family is missing".into()))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "used with map_err")]
fn failed(error: rocksdb::Error) -> StoreError {
    StoreError(error.to_string())
}

impl fmt::Debug for RocksRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksRecords").field("records", &self.index.len()).finish_non_exhaustive()
    }
}

impl RecordStore for RocksRecords {
    fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        if !self.index.contains(key) {
            return Ok(None);
        }
        let Some(bytes) = self.db.get_cf(self.family()?, key.as_bytes()).map_err(failed)? else {
            return Ok(None);
        };
        let record = Record::decode(&bytes, self.network).ok();
        Ok(record.filter(|record| record.key() == *key))
    }

    fn put(&mut self, record: &Record) -> Result<Put, StoreError> {
        let key = record.key();
        match self.index.rank(record) {
            Rank::Fits => {}
            // What was damaged on disk may be mended by the same version.
            Rank::SameVersion => match self.get(&key)? {
                Some(held) if held == *record => return Ok(Put::Same),
                Some(_) => return Ok(Put::Stale),
                None => {}
            },
            Rank::Older => return Ok(Put::Stale),
            Rank::TooMuch => return Ok(Put::Full),
        }
        self.db.put_cf(self.family()?, key.as_bytes(), record.encode()).map_err(failed)?;
        self.index.insert(record);
        Ok(Put::Stored)
    }

    fn remove(&mut self, key: &Key) -> Result<bool, StoreError> {
        self.db.delete_cf(self.family()?, key.as_bytes()).map_err(failed)?;
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
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::store::tests::{NETWORK, a_store_keeps_its_promises, record};

    /// A folder of this test's own, gone afterwards.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("warren-rocks-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            let _ = std::fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn rocksdb_keeps_its_promises() {
        let folder = Folder::new("promises");
        let mut store = RocksRecords::with_bytes(&folder.0, NETWORK, 4 * 2_048 + 100).unwrap();
        a_store_keeps_its_promises(&mut store);
    }

    #[test]
    fn what_was_kept_is_there_after_a_restart() {
        let folder = Folder::new("restart");
        let mut store = RocksRecords::open(&folder.0, NETWORK).unwrap();
        store.put(&record(1, 5, 100, b"old")).unwrap();
        store.put(&record(1, 6, 100, b"new")).unwrap();
        store.put(&record(2, 1, 100, b"gone")).unwrap();
        store.remove(&record(2, 1, 100, b"").key()).unwrap();
        drop(store);
        let mut store = RocksRecords::open(&folder.0, NETWORK).unwrap();
        assert_eq!((store.len(), store.bytes()), (1, 2_048));
        let held = record(1, 6, 100, b"new");
        assert_eq!(store.get(&held.key()).unwrap(), Some(held));
        assert_eq!(store.put(&record(1, 5, 100, b"old")).unwrap(), Put::Stale);
    }

    #[test]
    fn altered_bytes_are_never_served_and_can_be_mended() {
        let folder = Folder::new("altered");
        let mut store = RocksRecords::open(&folder.0, NETWORK).unwrap();
        let good = record(1, 5, 100, b"hello");
        store.put(&good).unwrap();
        let mut bytes = good.encode().to_vec();
        bytes[60] ^= 1;
        store.db.put_cf(store.family().unwrap(), good.key().as_bytes(), &bytes).unwrap();
        assert_eq!(store.get(&good.key()).unwrap(), None);
        assert_eq!(store.put(&good).unwrap(), Put::Stored);
        assert_eq!(store.get(&good.key()).unwrap(), Some(good.clone()));
        store.db.put_cf(store.family().unwrap(), good.key().as_bytes(), &bytes).unwrap();
        drop(store);
        let store = RocksRecords::open(&folder.0, NETWORK).unwrap();
        assert_eq!(store.len(), 0, "taken out");
    }

    #[test]
    fn another_process_using_the_folder_is_an_error() {
        let folder = Folder::new("locked");
        let _store = RocksRecords::open(&folder.0, NETWORK).unwrap();
        assert!(RocksRecords::open(&folder.0, NETWORK).is_err());
    }
}
