//! Records on disk, in RocksDB.
//!
//! Lives here: the database's layout and options, checksums, what happens to damage. Does not live
//! here: which records are worth the room (`holder.rs`).
//!
//! | column family | key | value |
//! |---------------|-----|-------|
//! | `records` | name of the key 32 | check 32, sealed record, tag 16 |
//! | `meta` | `layout` | layout number 4, big-endian: 2 |
//!
//! Every write goes through the write-ahead log and is synced before `put` returns: neither a killed
//! process nor a power cut takes back what was acknowledged. Every read is opened under a key that
//! follows from the record's own: what is torn, altered or misplaced is dropped and counted, never
//! served. Names and sealing: `blocks/seal.rs`. Layout 1, which did not seal, is emptied: its records
//! come back from other holders, and from their owners within the hour.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Bound::{Excluded, Unbounded},
    path::Path,
};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRecoveryMode, ErrorKind, IteratorMode, LogLevel, Options, WriteOptions,
};
use warren_overlay::{crypto::secret::Secret, id::Key, record::Record};

use crate::{
    blocks::seal::StoreKey,
    memory::encoded_len,
    store::{BYTES_MAX, PutOutcome, RecordStore, StoreError},
};

const RECORDS: &str = "records";
const META: &str = "meta";
const LAYOUT_KEY: &[u8] = b"layout";
/// The layout in the table above.
const LAYOUT: u32 = 2;
/// The one before.
const LAYOUT_CLEAR: u32 = 1;
const SPACE: &[u8] = b"record";
/// Memory per column family before it is flushed, in bytes; RocksDB holds two of them at most.
const WRITE_BUFFER: usize = 4 * 1024 * 1024;
/// Blocks kept in memory, in bytes.
const BLOCK_CACHE: usize = 8 * 1024 * 1024;
/// Open files of 1,024 that a home router has in all.
const OPEN_FILES_MAX: i32 = 64;
/// The write-ahead log is folded into tables when it is this long, in bytes.
const WAL_MAX: u64 = 16 * 1024 * 1024;

/// Records in a folder of their own; one process at a time.
///
/// Keys and lengths are indexed in memory: about 100 bytes a record, 3 MiB at most.
pub struct RocksRecords {
    db: DB,
    key: StoreKey,
    /// Encoded length of each record.
    lens: BTreeMap<Key, u64>,
    bytes: u64,
    bytes_max: u64,
    damaged: u64,
}

impl RocksRecords {
    /// Opens the records in the folder `path`, or begins there, with room for [`BYTES_MAX`]. They are
    /// sealed under what follows from `key`.
    ///
    /// Reads all of them once; damaged ones, and what is too much, are dropped.
    ///
    /// # Errors
    /// When the folder cannot be used: no permission, no space, another process, an unknown layout.
    pub fn open(path: &Path, key: Secret<32>) -> Result<Self, StoreError> {
        Self::with_bytes_max(path, key, BYTES_MAX)
    }

    /// The same, with room for `bytes_max` bytes of encoded records.
    ///
    /// # Errors
    /// As `open`.
    pub fn with_bytes_max(
        path: &Path,
        key: Secret<32>,
        bytes_max: u64,
    ) -> Result<Self, StoreError> {
        let db = open_db(path)?;
        let key = StoreKey::new(key);
        let mut store = Self { db, key, lens: BTreeMap::new(), bytes: 0, bytes_max, damaged: 0 };
        store.check_layout()?;
        store.load()?;
        Ok(store)
    }

    fn check_layout(&self) -> Result<(), StoreError> {
        let meta = self.family(META)?;
        match self.db.get_cf(meta, LAYOUT_KEY).map_err(disk)? {
            None => {
                let written = self.db.put_cf_opt(meta, LAYOUT_KEY, LAYOUT.to_be_bytes(), &synced());
                written.map_err(disk)
            }
            Some(bytes) => match bytes.try_into().map(u32::from_be_bytes) {
                Ok(LAYOUT) => Ok(()),
                Ok(LAYOUT_CLEAR) => {
                    let records = self.family(RECORDS)?;
                    for item in self.db.iterator_cf(records, IteratorMode::Start) {
                        self.db.delete_cf(records, item.map_err(disk)?.0).map_err(disk)?;
                    }
                    let layout = LAYOUT.to_be_bytes();
                    self.db.put_cf_opt(meta, LAYOUT_KEY, layout, &synced()).map_err(disk)
                }
                found => Err(StoreError::Layout { found: found.unwrap_or(0), known: LAYOUT }),
            },
        }
    }

    fn load(&mut self) -> Result<(), StoreError> {
        let mut bad = Vec::new();
        for item in self.db.iterator_cf(self.family(RECORDS)?, IteratorMode::Start) {
            let (key, value) = item.map_err(disk)?;
            match unsealed(&self.key, &key, &value) {
                Some(record) if self.bytes + encoded_len(&record) <= self.bytes_max => {
                    self.bytes += encoded_len(&record);
                    self.lens.insert(record.key(), encoded_len(&record));
                }
                Some(_) => bad.push(key),
                None => {
                    self.damaged += 1;
                    bad.push(key);
                }
            }
        }
        let records = self.family(RECORDS)?;
        bad.iter().try_for_each(|key| self.db.delete_cf(records, key)).map_err(disk)
    }

    fn family(&self, name: &'static str) -> Result<&ColumnFamily, StoreError> {
        self.db.cf_handle(name).ok_or_else(|| StoreError::Disk("a column family is missing".into()))
    }

    fn name(&self, key: &Key) -> [u8; 32] {
        self.key.name(SPACE, key.as_bytes())
    }

    fn forget(&mut self, key: &Key) {
        self.bytes -= self.lens.remove(key).unwrap_or(0);
    }

    /// What is under `key` cannot be used: takes it out.
    fn drop_damaged(&mut self, key: &Key) -> Result<(), StoreError> {
        self.damaged += 1;
        self.forget(key);
        self.db.delete_cf(self.family(RECORDS)?, self.name(key)).map_err(disk)
    }

    #[cfg(test)]
    fn overwrite(&self, key: &Key, value: &[u8]) {
        self.db.put_cf(self.family(RECORDS).unwrap(), self.name(key), value).unwrap();
    }
}

impl fmt::Debug for RocksRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RocksRecords({} records, {} bytes)", self.lens.len(), self.bytes)
    }
}

impl RecordStore for RocksRecords {
    fn get(&mut self, key: &Key) -> Result<Option<Record>, StoreError> {
        if !self.lens.contains_key(key) {
            return Ok(None);
        }
        let name = self.name(key);
        let record = match self.db.get_cf(self.family(RECORDS)?, name) {
            Ok(value) => value.and_then(|value| unsealed(&self.key, &name, &value)),
            // RocksDB's own checksum of the block failed.
            Err(error) if error.kind() == ErrorKind::Corruption => None,
            Err(error) => return Err(disk(error)),
        };
        if record.is_none() {
            self.drop_damaged(key)?;
        }
        Ok(record)
    }

    fn put(&mut self, record: &Record) -> Result<PutOutcome, StoreError> {
        let key = record.key();
        if let Some(outcome) = self.get(&key)?.and_then(|old| PutOutcome::beside(&old, record)) {
            return Ok(outcome);
        }
        let len = encoded_len(record);
        let bytes = self.bytes - self.lens.get(&key).copied().unwrap_or(0) + len;
        if bytes > self.bytes_max {
            return Err(StoreError::Full { bytes_max: self.bytes_max });
        }
        let name = self.name(&key);
        let value = self.key.seal(&name, record.encode());
        let records = self.family(RECORDS)?;
        self.db.put_cf_opt(records, name, value, &synced()).map_err(disk)?;
        self.lens.insert(key, len);
        self.bytes = bytes;
        Ok(PutOutcome::Stored)
    }

    fn remove(&mut self, key: &Key) -> Result<bool, StoreError> {
        if !self.lens.contains_key(key) {
            return Ok(false);
        }
        // Not synced: a record that comes back after a power cut has expired or is dropped again.
        self.db.delete_cf(self.family(RECORDS)?, self.name(key)).map_err(disk)?;
        self.forget(key);
        Ok(true)
    }

    fn range(&mut self, after: Option<&Key>, limit: usize) -> Result<Vec<Record>, StoreError> {
        let from = after.map_or(Unbounded, |key| Excluded(*key));
        let mut some = Vec::new();
        let keys: Vec<Key> = self.lens.range((from, Unbounded)).map(|(key, _)| *key).collect();
        for key in keys {
            if some.len() >= limit {
                break;
            }
            some.extend(self.get(&key)?);
        }
        Ok(some)
    }

    fn len(&self) -> u64 {
        self.lens.len() as u64
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    fn damaged(&self) -> u64 {
        self.damaged
    }
}

/// How a database of ours is opened: at most `open_files_max` files at a time, and a write-ahead log
/// that is folded into tables when it is `wal_max` bytes long.
pub(crate) fn database(open_files_max: i32, wal_max: u64) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_max_open_files(open_files_max);
    options.set_max_background_jobs(2);
    options.set_max_total_wal_size(wal_max);
    // The log is read up to the first torn entry; what was synced lies before it.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1024 * 1024);
    options.set_log_level(LogLevel::Warn);
    options.set_stats_dump_period_sec(0);
    options
}

fn open_db(path: &Path) -> Result<DB, StoreError> {
    let options = database(OPEN_FILES_MAX, WAL_MAX);
    let cache = Cache::new_lru_cache(BLOCK_CACHE);
    let families = ["default", RECORDS, META].map(|name| {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&cache);
        table.set_bloom_filter(10.0, false);
        let mut options = Options::default();
        options.set_block_based_table_factory(&table);
        options.set_compression_type(DBCompressionType::None);
        options.set_write_buffer_size(WRITE_BUFFER);
        ColumnFamilyDescriptor::new(name, options)
    });
    DB::open_cf_descriptors(&options, path, families).map_err(disk)
}

fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}

fn disk(error: rocksdb::Error) -> StoreError {
    StoreError::Disk(Box::new(error))
}

/// The record stored under `name`; `None` for anything that was not sealed for it.
fn unsealed(key: &StoreKey, name: &[u8], sealed: &[u8]) -> Option<Record> {
    let bytes = key.open(name, sealed)?;
    let record = Record::restore(&bytes).ok()?;
    (key.name(SPACE, record.key().as_bytes())[..] == *name).then_some(record)
}

#[cfg(test)]
mod tests {
    use std::{
        path::PathBuf,
        sync::atomic::{AtomicU32, Ordering},
    };

    use proptest::prelude::*;
    use warren_overlay::time::Wall;

    use super::*;
    use crate::testing::{key, record, suite};

    /// A folder of a test's own, gone afterwards.
    struct Folder(PathBuf);

    impl Folder {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("warren-rocks-{}-{number}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn secret() -> Secret<32> {
        Secret::take(&mut [7; 32])
    }

    fn it(owner: u32) -> Record {
        record(owner, 5, Wall::default())
    }

    #[test]
    fn rocksdb_keeps_the_rules_of_every_store() {
        let folder = Folder::new();
        let next = AtomicU32::new(0);
        suite::run(|bytes_max| {
            let path = folder.0.join(next.fetch_add(1, Ordering::Relaxed).to_string());
            std::fs::create_dir_all(&path).unwrap();
            Box::new(RocksRecords::with_bytes_max(&path, secret(), bytes_max).unwrap())
        });
    }

    #[test]
    fn what_was_put_is_there_after_a_restart() {
        let folder = Folder::new();
        let mut store = RocksRecords::open(&folder.0, secret()).unwrap();
        for owner in 0..3 {
            store.put(&it(owner)).unwrap();
        }
        store.remove(&key(2)).unwrap();
        drop(store);
        let mut store = RocksRecords::open(&folder.0, secret()).unwrap();
        assert_eq!((store.len(), store.bytes(), store.damaged()), (2, 4_096, 0));
        assert_eq!(store.get(&key(1)).unwrap(), Some(it(1)));
        assert_eq!(store.get(&key(2)).unwrap(), None);
        let older = record(1, 4, Wall::default());
        assert_eq!(store.put(&older).unwrap(), PutOutcome::Stale);
    }

    #[test]
    fn a_smaller_bound_than_last_time_holds() {
        let folder = Folder::new();
        let mut store = RocksRecords::open(&folder.0, secret()).unwrap();
        for owner in 0..3 {
            store.put(&it(owner)).unwrap();
        }
        drop(store);
        let mut store = RocksRecords::with_bytes_max(&folder.0, secret(), 4_096).unwrap();
        assert_eq!((store.len(), store.bytes()), (2, 4_096));
        assert_eq!(store.range(None, 9).unwrap().len(), 2);
    }

    #[test]
    fn one_process_at_a_time() {
        let folder = Folder::new();
        let _store = RocksRecords::open(&folder.0, secret()).unwrap();
        assert!(matches!(RocksRecords::open(&folder.0, secret()), Err(StoreError::Disk(_))));
    }

    #[test]
    fn a_layout_from_the_future_is_not_touched() {
        let folder = Folder::new();
        let store = RocksRecords::open(&folder.0, secret()).unwrap();
        store.db.put_cf(store.family(META).unwrap(), LAYOUT_KEY, 3u32.to_be_bytes()).unwrap();
        drop(store);
        let opened = RocksRecords::open(&folder.0, secret());
        assert!(matches!(opened, Err(StoreError::Layout { found: 3, known: 2 })));
    }

    /// A good value under another's key would be a record that its holder never asked for.
    #[test]
    fn a_misplaced_value_is_dropped() {
        let folder = Folder::new();
        let mut store = RocksRecords::open(&folder.0, secret()).unwrap();
        store.put(&it(1)).unwrap();
        store.put(&it(2)).unwrap();
        let value = store.key.seal(&store.name(&key(2)), it(2).encode());
        store.overwrite(&key(1), &value);
        assert_eq!(store.get(&key(1)).unwrap(), None);
        assert_eq!((store.len(), store.bytes(), store.damaged()), (1, 2_048, 1));
    }

    #[test]
    fn damage_is_mended_by_the_same_version() {
        let folder = Folder::new();
        let mut store = RocksRecords::open(&folder.0, secret()).unwrap();
        store.put(&it(1)).unwrap();
        store.overwrite(&key(1), b"torn");
        assert_eq!(store.put(&it(1)).unwrap(), PutOutcome::Stored);
        assert_eq!(store.get(&key(1)).unwrap(), Some(it(1)));
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None, ..ProptestConfig::with_cases(24)
        })]
        #[test]
        fn torn_or_flipped_values_are_never_served(
            at: prop::sample::Index, with in 1u8.., tear: bool, reopen: bool, by_range: bool,
        ) {
            let folder = Folder::new();
            let mut store = RocksRecords::open(&folder.0, secret()).unwrap();
            store.put(&it(1)).unwrap();
            store.put(&it(2)).unwrap();
            let mut value = store.key.seal(&store.name(&key(1)), it(1).encode());
            let at = at.index(value.len());
            if tear { value.truncate(at) } else { value[at] ^= with }
            store.overwrite(&key(1), &value);
            if reopen {
                drop(store);
                store = RocksRecords::open(&folder.0, secret()).unwrap();
            }
            if by_range {
                prop_assert_eq!(store.range(None, 9).unwrap(), vec![it(2)]);
            }
            prop_assert_eq!(store.get(&key(1)).unwrap(), None);
            prop_assert_eq!(store.get(&key(2)).unwrap(), Some(it(2)));
            prop_assert_eq!((store.len(), store.bytes(), store.damaged()), (1, 2_048, 1));
        }
    }
}
