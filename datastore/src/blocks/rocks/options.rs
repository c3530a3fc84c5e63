//! How RocksDB is asked to keep blocks.
//!
//! Lives here: options, sizes on disk, clearing garbage away. Does not live here: what is stored.

use std::path::Path;

use rocksdb::{
    BlockBasedOptions, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, Options,
    WriteOptions,
};

use super::{CLIENT, META, OWNED, PINNED, disk};
use crate::{rocks::database, store::StoreError};

/// Memory of a column family before it is flushed, in bytes; RocksDB holds two of them at most. Each
/// flush makes a blob file of this size.
const WRITE_BUFFER: usize = 8 * 1024 * 1024;
/// What write buffers and logs may add to what was measured.
pub(super) const SLACK: u64 = 3 * WRITE_BUFFER as u64;
/// The write-ahead log is folded into tables when it is this long, in bytes.
const WAL_MAX: u64 = 32 * 1024 * 1024;
/// Open files of 1,024 that a home router has in all.
const OPEN_FILES_MAX: i32 = 128;
/// Values below this are no blocks.
const BLOB_MIN: u64 = 4 * 1024;
/// Of blob files by age, the oldest part whose live blocks compaction moves on, so that the files can
/// go. Half: what is left in old files has mostly gone.
const GARBAGE_AGE: f64 = 0.5;

/// Options of a column family that holds blocks.
pub(super) fn blobs() -> Options {
    let mut options = small();
    options.set_write_buffer_size(WRITE_BUFFER);
    options.set_enable_blob_files(true);
    options.set_min_blob_size(BLOB_MIN);
    options.set_blob_file_size(4 * WRITE_BUFFER as u64);
    options.set_blob_compression_type(DBCompressionType::None);
    options.set_enable_blob_gc(true);
    options.set_blob_gc_age_cutoff(GARBAGE_AGE);
    options.set_blob_gc_force_threshold(0.5);
    options
}

fn small() -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_bloom_filter(10.0, false);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::None);
    options.set_write_buffer_size(1024 * 1024);
    options
}

/// The column families of the cache, of this run and earlier ones.
pub(super) fn cache_families(db: &DB) -> Vec<String> {
    let names = DB::list_cf(&Options::default(), db.path()).unwrap_or_default();
    names.into_iter().filter(|name| db.cf_handle(name).is_some()).collect()
}

/// Opens the database with all its column families, those of the cache included.
pub(super) fn open(path: &Path) -> Result<DB, StoreError> {
    let options = database(OPEN_FILES_MAX, WAL_MAX);
    let mut names: Vec<String> =
        ["default", META, OWNED, PINNED, CLIENT].map(str::to_owned).to_vec();
    // A folder that holds no database yet has none to list.
    for name in DB::list_cf(&options, path).unwrap_or_default() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let families = names.into_iter().map(|name| {
        let options = if name == "default" || name == META { small() } else { blobs() };
        ColumnFamilyDescriptor::new(name, options)
    });
    DB::open_cf_descriptors(&options, path, families.collect::<Vec<_>>()).map_err(disk)
}

/// Options of a write; `logged`: through the write-ahead log.
pub(super) fn write(logged: bool) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.disable_wal(!logged);
    options
}

/// Options of a write that is synced at once.
pub(super) fn synced() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(true);
    options
}

/// Bytes that a column family takes: blob files with their garbage, tables, and what is in memory and
/// will be a file.
pub(super) fn size(db: &DB, family: &ColumnFamily) -> u64 {
    let of = |name: &str| db.property_int_value_cf(family, name).ok().flatten().unwrap_or(0);
    of("rocksdb.total-blob-file-size")
        + of("rocksdb.total-sst-files-size")
        + of("rocksdb.cur-size-all-mem-tables")
}

/// Clears away what was removed and still lies in files. Takes as long as moving what is left in the
/// older half of them; rare, since compaction does it by the way.
pub(super) fn collect_garbage(db: &DB, family: &ColumnFamily) {
    let flushed = db.flush_cf(family);
    if flushed.is_ok() {
        db.compact_range_cf(family, None::<&[u8]>, None::<&[u8]>);
    }
}
