//! Blocks on disk, in RocksDB.
//!
//! Lives here: the layout, what is synced when, the indexes in memory, quotas. Does not live here:
//! the cache's generations (`rocks/cache.rs`), RocksDB's options (`rocks/options.rs`), sealing
//! (`seal.rs`), which blocks are worth the room (`holder/shelf.rs`).
//!
//! | column family | key | value |
//! |---------------|-----|-------|
//! | `owned`, `pinned`, `client` | name of the address 32 | sealed block 32,784 |
//! | `cache-N`, eight at most | name of the address 32 | sealed block 32,784 |
//! | `meta` | `layout` | layout number 4, big-endian: 1 |
//! | `meta` | `o` or `p`, name 32 | sealed address 80: what is owned, what is pinned |
//! | `meta` | `n`, name of a note 32 | sealed note |
//!
//! Blocks lie in blob files, which compaction does not rewrite. Owned and pinned ones go through the
//! write-ahead log, which `commit` syncs for all puts since the last. The cache and what the person
//! here fetched do not: losing them costs a fetch. Whatever is read is opened under a key of its own
//! and hashed: what is torn, altered or misplaced is dropped and counted, never served.

mod cache;
mod options;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, VecDeque},
    fmt,
    ops::Bound::{Excluded, Unbounded},
    path::{Path, PathBuf},
};

use rocksdb::{DB, Direction, ErrorKind, IteratorMode, WriteBatch};
use warren_overlay::{
    block::{Block, BlockAddress},
    crypto::secret::Secret,
};

use self::cache::Cache;
use super::{
    BLOCK_COST, BlockLimits, BlockStore, Kept, Shelf, Usage,
    seal::{SEALED_BLOCK_LEN, StoreKey},
};
use crate::store::StoreError;

const OWNED: &str = "owned";
const PINNED: &str = "pinned";
const CLIENT: &str = "client";
const META: &str = "meta";
const LAYOUT_KEY: &[u8] = b"layout";
/// The layout in the table above.
const LAYOUT: u32 = 1;
/// How often the disk is asked what a shelf really takes: after so many writes.
const MEASURE_EVERY: u32 = 64;
/// Of a shelf's room, what blocks may take; the rest is for garbage that compaction has yet to free,
/// logs, indexes and write buffers.
const LIVE_PART: (u64, u64) = (3, 4);

/// Blocks in a folder of their own; one process at a time.
///
/// What is owned, pinned or fetched is indexed in memory: about 100 bytes a block, 10 MiB for 3 GiB.
pub struct RocksBlocks {
    path: PathBuf,
    key: StoreKey,
    /// Never written down: what is on the client's shelf is lost with it.
    client_key: StoreKey,
    limits: BlockLimits,
    /// `None` only between a failed `mend` and the next.
    db: Option<DB>,
    owned: BTreeSet<BlockAddress>,
    pinned: BTreeSet<BlockAddress>,
    client: VecDeque<BlockAddress>,
    client_set: BTreeSet<BlockAddress>,
    cache: Cache,
    /// Bytes on the disk when last asked: owned, pinned, client.
    measured: [u64; 3],
    writes: u32,
    /// Puts that a sync has yet to confirm.
    unsynced: bool,
    broken: bool,
    damaged: u64,
}

fn disk(error: rocksdb::Error) -> StoreError {
    StoreError::Disk(Box::new(error))
}

fn missing() -> StoreError {
    StoreError::Disk("a column family is missing".into())
}

const fn family_of(on: Shelf) -> &'static str {
    match on {
        Shelf::Owned => OWNED,
        Shelf::Pinned => PINNED,
        Shelf::Client | Shelf::Cache => CLIENT,
    }
}

const fn index_prefix(on: Shelf) -> Option<u8> {
    match on {
        Shelf::Owned => Some(b'o'),
        Shelf::Pinned => Some(b'p'),
        Shelf::Client | Shelf::Cache => None,
    }
}

impl RocksBlocks {
    /// Opens the blocks in the folder `path`, or begins there. `key` seals them, `client_key` those
    /// that end with this process: draw it anew each time.
    ///
    /// Reads the indexes, not the blocks. What was on the client's shelf goes.
    ///
    /// # Errors
    /// When the folder cannot be used: no permission, no space, another process, an unknown layout.
    pub fn open(
        path: &Path,
        key: Secret<32>,
        client_key: Secret<32>,
        limits: BlockLimits,
    ) -> Result<Self, StoreError> {
        let mut store = Self {
            path: path.to_owned(),
            key: StoreKey::new(key),
            client_key: StoreKey::new(client_key),
            limits,
            db: None,
            owned: BTreeSet::new(),
            pinned: BTreeSet::new(),
            client: VecDeque::new(),
            client_set: BTreeSet::new(),
            cache: Cache::new(limits),
            measured: [0; 3],
            writes: 0,
            unsynced: false,
            broken: false,
            damaged: 0,
        };
        store.start()?;
        Ok(store)
    }

    fn start(&mut self) -> Result<(), StoreError> {
        self.db = None; // lets go of the folder before it is opened again
        let mut db = options::open(&self.path)?;
        check_layout(&db)?;
        db.drop_cf(CLIENT).map_err(disk)?;
        db.create_cf(CLIENT, &options::blobs()).map_err(disk)?;
        self.client.clear();
        self.client_set.clear();
        let (owned, bad_owned) = self.load(&db, Shelf::Owned)?;
        let (pinned, bad_pinned) = self.load(&db, Shelf::Pinned)?;
        (self.owned, self.pinned) = (owned, pinned);
        self.damaged += bad_owned + bad_pinned;
        self.cache.load(&mut db)?;
        self.db = Some(db);
        (self.unsynced, self.broken) = (false, false);
        self.measure();
        Ok(())
    }

    /// The addresses on a shelf, and how many entries cannot be read (they are taken out).
    fn load(&self, db: &DB, on: Shelf) -> Result<(BTreeSet<BlockAddress>, u64), StoreError> {
        let Some(prefix) = index_prefix(on) else { return Ok((BTreeSet::new(), 0)) };
        let meta = db.cf_handle(META).ok_or_else(missing)?;
        let blocks = db.cf_handle(family_of(on)).ok_or_else(missing)?;
        let (mut all, mut bad) = (BTreeSet::new(), Vec::new());
        for item in db.iterator_cf(meta, IteratorMode::From(&[prefix], Direction::Forward)) {
            let (name, sealed) = item.map_err(disk)?;
            if name.first() != Some(&prefix) {
                break;
            }
            let address = self.key.open(&name, &sealed).and_then(|it| it.try_into().ok());
            match address.map(BlockAddress) {
                Some(address) => drop(all.insert(address)),
                None => bad.push(name),
            }
        }
        for name in &bad {
            db.delete_cf(meta, name).map_err(disk)?;
            db.delete_cf(blocks, name.get(1..).unwrap_or_default()).map_err(disk)?;
        }
        Ok((all, bad.len() as u64))
    }

    fn db(&self) -> Result<&DB, StoreError> {
        self.db.as_ref().ok_or_else(|| StoreError::Disk("the block store is closed".into()))
    }

    const fn key_of(&self, on: Shelf) -> &StoreKey {
        match on {
            Shelf::Client => &self.client_key,
            Shelf::Owned | Shelf::Cache | Shelf::Pinned => &self.key,
        }
    }

    fn name(&self, on: Shelf, address: &BlockAddress) -> [u8; 32] {
        self.key_of(on).name(&[on as u8], address.as_bytes())
    }

    /// Takes note of what went wrong: `mend` will see to it.
    fn checked<T>(&mut self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        self.broken |= matches!(result, Err(StoreError::Disk(_)));
        result
    }

    fn read(&mut self, on: Shelf, address: &BlockAddress) -> Result<Option<Block>, StoreError> {
        let name = self.name(on, address);
        let db = self.db()?;
        let family = db.cf_handle(family_of(on)).ok_or_else(missing)?;
        let block = match db.get_pinned_cf(family, name) {
            Ok(sealed) => {
                sealed.and_then(|sealed| self.key_of(on).open_block(on, address, &sealed))
            }
            // RocksDB's own checksum failed.
            Err(error) if error.kind() == ErrorKind::Corruption => None,
            Err(error) => return Err(disk(error)),
        };
        if block.is_none() {
            self.damaged += 1;
            // If even that fails, it is at least not served any more in this run.
            self.forget(on, address);
            self.erase(on, address)?;
        }
        Ok(block)
    }

    fn write(&mut self, on: Shelf, block: &Block) -> Result<(), StoreError> {
        let address = block.address();
        let name = self.name(on, &address);
        let sealed = self.key_of(on).seal_block(on, block);
        let mut batch = WriteBatch::default();
        let db = self.db()?;
        batch.put_cf(db.cf_handle(family_of(on)).ok_or_else(missing)?, name, sealed);
        if let Some(prefix) = index_prefix(on) {
            let name = [&[prefix][..], &name].concat();
            let entry = self.key.seal(&name, address.as_bytes());
            batch.put_cf(db.cf_handle(META).ok_or_else(missing)?, name, entry);
        }
        let logged = on != Shelf::Client;
        db.write_opt(batch, &options::write(logged)).map_err(disk)?;
        self.unsynced |= logged;
        Ok(())
    }

    /// Not synced: a block that comes back after a power cut is dropped again.
    fn erase(&mut self, on: Shelf, address: &BlockAddress) -> Result<(), StoreError> {
        let name = self.name(on, address);
        let mut batch = WriteBatch::default();
        let db = self.db()?;
        batch.delete_cf(db.cf_handle(family_of(on)).ok_or_else(missing)?, name);
        if let Some(prefix) = index_prefix(on) {
            let name = [&[prefix][..], &name].concat();
            batch.delete_cf(db.cf_handle(META).ok_or_else(missing)?, name);
        }
        db.write_opt(batch, &options::write(on != Shelf::Client)).map_err(disk)
    }

    fn forget(&mut self, on: Shelf, address: &BlockAddress) {
        match on {
            Shelf::Owned => drop(self.owned.remove(address)),
            Shelf::Pinned => drop(self.pinned.remove(address)),
            Shelf::Client => {
                if self.client_set.remove(address) {
                    self.client.retain(|other| other != address);
                }
            }
            Shelf::Cache => {}
        }
    }

    fn note_put(&mut self, on: Shelf, address: BlockAddress) {
        match on {
            Shelf::Owned => drop(self.owned.insert(address)),
            Shelf::Pinned => drop(self.pinned.insert(address)),
            Shelf::Client => {
                self.client_set.insert(address);
                self.client.push_back(address);
            }
            Shelf::Cache => {}
        }
    }

    fn blocks(&self, on: Shelf) -> u64 {
        match on {
            Shelf::Owned => self.owned.len() as u64,
            Shelf::Pinned => self.pinned.len() as u64,
            Shelf::Client => self.client_set.len() as u64,
            Shelf::Cache => self.cache.blocks(),
        }
    }

    /// Asks the disk what the shelves really take.
    fn measure(&mut self) {
        let Ok(db) = self.db() else { return };
        self.measured = [OWNED, PINNED, CLIENT]
            .map(|name| db.cf_handle(name).map_or(0, |it| options::size(db, it)));
        self.writes = 0;
    }

    /// What a shelf takes, never less than its blocks.
    fn taken(&self, on: Shelf) -> u64 {
        let [owned, pinned, client] = self.measured;
        let measured = match on {
            Shelf::Owned => owned,
            Shelf::Pinned => pinned,
            Shelf::Client => client,
            Shelf::Cache => return self.cache.bytes(),
        };
        let since = u64::from(self.writes) * BLOCK_COST;
        (measured + since).max(self.blocks(on) * BLOCK_COST)
    }

    /// Whether another block fits: among the blocks, and with all garbage on the disk. Clears the
    /// garbage away if need be.
    fn has_room(&mut self, on: Shelf) -> bool {
        let bytes_max = self.limits.of(on);
        let (part, whole) = LIVE_PART;
        if (self.blocks(on) + 1) * BLOCK_COST > bytes_max / whole * part {
            return false;
        }
        let fits =
            |it: &Self| it.taken(on) + BLOCK_COST + options::SLACK.min(bytes_max / 8) <= bytes_max;
        if fits(self) {
            return true;
        }
        self.measure();
        if fits(self) {
            return true;
        }
        if let Ok(db) = self.db()
            && let Some(family) = db.cf_handle(family_of(on))
        {
            options::collect_garbage(db, family);
        }
        self.measure();
        fits(self)
    }

    fn put_here(&mut self, on: Shelf, block: &Block) -> Result<Kept, StoreError> {
        let address = block.address();
        if self.holds(on, &address) {
            return Ok(Kept::Same);
        }
        while !self.has_room(on) {
            let oldest = if on == Shelf::Client { self.client.front().copied() } else { None };
            let Some(oldest) = oldest else {
                return Err(StoreError::Full { bytes_max: self.limits.of(on) });
            };
            self.forget(on, &oldest);
            self.erase(on, &oldest)?;
        }
        self.write(on, block)?;
        self.note_put(on, address);
        self.writes += 1;
        if self.writes >= MEASURE_EVERY {
            self.measure();
        }
        Ok(Kept::Stored)
    }

    fn get_cached(&mut self, address: &BlockAddress) -> Result<Option<Block>, StoreError> {
        let Some(db) = &self.db else { return Ok(None) };
        let (block, damaged) = self.cache.get(db, &self.key, address)?;
        self.damaged += damaged;
        Ok(block)
    }

    fn put_cached(&mut self, block: &Block) -> Result<Kept, StoreError> {
        let Some(db) = &mut self.db else {
            return Err(StoreError::Disk("the block store is closed".into()));
        };
        self.cache.put(db, &self.key, block)
    }
}

fn check_layout(db: &DB) -> Result<(), StoreError> {
    let meta = db.cf_handle(META).ok_or_else(missing)?;
    match db.get_cf(meta, LAYOUT_KEY).map_err(disk)? {
        None => {
            db.put_cf_opt(meta, LAYOUT_KEY, LAYOUT.to_be_bytes(), &options::synced()).map_err(disk)
        }
        Some(bytes) => match bytes.try_into().map(u32::from_be_bytes) {
            Ok(LAYOUT) => Ok(()),
            found => Err(StoreError::Layout { found: found.unwrap_or(0), known: LAYOUT }),
        },
    }
}

impl fmt::Debug for RocksBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RocksBlocks({} owned, {} cached)", self.owned.len(), self.cache.blocks())
    }
}

impl BlockStore for RocksBlocks {
    fn get(&mut self, on: Shelf, address: &BlockAddress) -> Result<Option<Block>, StoreError> {
        let got = match on {
            Shelf::Cache => self.get_cached(address),
            Shelf::Owned | Shelf::Pinned | Shelf::Client if self.holds(on, address) => {
                self.read(on, address)
            }
            Shelf::Owned | Shelf::Pinned | Shelf::Client => Ok(None),
        };
        self.checked(got)
    }

    fn put(&mut self, on: Shelf, block: &Block) -> Result<Kept, StoreError> {
        let put = match on {
            Shelf::Cache => self.put_cached(block),
            Shelf::Owned | Shelf::Pinned | Shelf::Client => self.put_here(on, block),
        };
        self.checked(put)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        if !self.unsynced {
            return Ok(());
        }
        let synced = self.db().and_then(|db| db.flush_wal(true).map_err(disk));
        self.unsynced = synced.is_err();
        self.checked(synced)
    }

    fn remove(&mut self, on: Shelf, address: &BlockAddress) -> Result<bool, StoreError> {
        if !self.holds(on, address) {
            return Ok(false);
        }
        self.forget(on, address);
        let erased = self.erase(on, address);
        self.checked(erased).map(|()| true)
    }

    fn holds(&self, on: Shelf, address: &BlockAddress) -> bool {
        match on {
            Shelf::Owned => self.owned.contains(address),
            Shelf::Pinned => self.pinned.contains(address),
            Shelf::Client => self.client_set.contains(address),
            Shelf::Cache => false,
        }
    }

    fn addresses(
        &self,
        on: Shelf,
        after: Option<&BlockAddress>,
        limit: usize,
    ) -> Vec<BlockAddress> {
        let set = match on {
            Shelf::Owned => &self.owned,
            Shelf::Pinned => &self.pinned,
            Shelf::Client => &self.client_set,
            Shelf::Cache => return Vec::new(),
        };
        let from = after.map_or(Unbounded, |address| Excluded(*address));
        set.range((from, Unbounded)).take(limit).copied().collect()
    }

    fn usage(&self, on: Shelf) -> Usage {
        let (blocks, bytes) = (self.blocks(on), self.taken(on));
        Usage { blocks, bytes, bytes_max: self.limits.of(on) }
    }

    fn damaged(&self) -> u64 {
        self.damaged
    }

    fn note(&mut self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let name = [&b"n"[..], &self.key.name(b"note", name.as_bytes())].concat();
        let db = self.db()?;
        let sealed = db.get_cf(db.cf_handle(META).ok_or_else(missing)?, &name).map_err(disk);
        let sealed = self.checked(sealed)?;
        Ok(sealed.and_then(|sealed| self.key.open(&name, &sealed)))
    }

    fn set_note(&mut self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let name = [&b"n"[..], &self.key.name(b"note", name.as_bytes())].concat();
        let sealed = self.key.seal(&name, bytes);
        let db = self.db()?;
        let meta = db.cf_handle(META).ok_or_else(missing)?;
        let put = db.put_cf_opt(meta, name, sealed, &options::write(true)).map_err(disk);
        self.unsynced = true;
        self.checked(put)
    }

    fn mend(&mut self) -> Result<(), StoreError> {
        if self.broken || self.db.is_none() { self.start() } else { Ok(()) }
    }
}

impl Drop for RocksBlocks {
    /// What the cache still has in memory goes to the disk, so that a restart finds it.
    fn drop(&mut self) {
        if let Some(db) = &self.db {
            self.cache.flush(db);
        }
    }
}

/// Bytes that a stored block takes in a blob file: itself, its name, and RocksDB's header.
const _: () = assert!((SEALED_BLOCK_LEN + 64) as u64 <= BLOCK_COST);
