//! What a router's disk holds, and how long it takes.
//!
//! Lives here: stores that outlive the router, and a router that waits for them. Does not live here:
//! what is worth keeping (`warren_datastore`), the clock (`net.rs`).
//!
//! A router asks its stores on the thread that does everything else (docs/decisions/0001), so a slow
//! disk stops it altogether: what each access takes is added up, and the engine keeps everything back
//! from the router until that time has passed.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use warren_datastore::{
    MemoryRecords, PutOutcome, RecordStore, StoreError,
    blocks::{BlockStore, Kept, MemoryBlocks, Shelf, Usage},
};
use warren_overlay::{
    block::{Block, BlockAddress},
    id::Key,
    record::Record,
    rng::Rng,
};

use crate::chance::exponential;

/// How long accesses take, and how much of it the router has yet to wait.
#[derive(Debug)]
pub(crate) struct Pace {
    mean: Duration,
    rng: Mutex<Rng>,
    owed_us: AtomicU64,
}

impl Pace {
    /// Accesses that take `mean`, exponential.
    pub(crate) fn new(mean: Duration, rng: Rng) -> Self {
        Self { mean, rng: Mutex::new(rng), owed_us: AtomicU64::new(0) }
    }

    fn access(&self) {
        let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
        let took = self.mean.mul_f64(exponential(&mut rng));
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.owed_us.fetch_add(took, Ordering::Relaxed);
    }

    /// What was asked for since the last call takes so long.
    pub(crate) fn take(&self) -> Duration {
        Duration::from_micros(self.owed_us.swap(0, Ordering::Relaxed))
    }
}

/// Records that outlive the router that holds them.
#[derive(Debug)]
pub(crate) struct Records {
    pub(crate) kept: Arc<Mutex<MemoryRecords>>,
    pub(crate) pace: Option<Arc<Pace>>,
}

impl Records {
    fn access(&self) -> MutexGuard<'_, MemoryRecords> {
        if let Some(pace) = &self.pace {
            pace.access();
        }
        self.look()
    }

    fn look(&self) -> MutexGuard<'_, MemoryRecords> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RecordStore for Records {
    fn get(&mut self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.access().get(key)
    }

    fn put(&mut self, record: &Record) -> Result<PutOutcome, StoreError> {
        self.access().put(record)
    }

    fn remove(&mut self, key: &Key) -> Result<bool, StoreError> {
        self.access().remove(key)
    }

    fn range(&mut self, after: Option<&Key>, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.access().range(after, limit)
    }

    fn len(&self) -> u64 {
        self.look().len()
    }

    fn bytes(&self) -> u64 {
        self.look().bytes()
    }

    fn bytes_max(&self) -> u64 {
        self.look().bytes_max()
    }

    fn damaged(&self) -> u64 {
        self.look().damaged()
    }
}

/// Blocks that outlive the router that holds them, behind a disk that may be slow.
#[derive(Debug)]
pub(crate) struct Blocks {
    pub(crate) kept: Arc<Mutex<MemoryBlocks>>,
    pub(crate) pace: Option<Arc<Pace>>,
}

impl Blocks {
    /// Opens what a disk holds. What the person there fetched is gone: its key ended with the process.
    pub(crate) fn open(kept: &Arc<Mutex<MemoryBlocks>>, pace: Option<Arc<Pace>>) -> Self {
        let this = Self { kept: Arc::clone(kept), pace };
        let mut disk = this.look();
        for address in disk.addresses(Shelf::Client, None, usize::MAX) {
            // Memory does not fail.
            let _ = disk.remove(Shelf::Client, &address);
        }
        drop(disk);
        this
    }

    fn access(&self) -> MutexGuard<'_, MemoryBlocks> {
        if let Some(pace) = &self.pace {
            pace.access();
        }
        self.look()
    }

    fn look(&self) -> MutexGuard<'_, MemoryBlocks> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlockStore for Blocks {
    fn get(&mut self, on: Shelf, address: &BlockAddress) -> Result<Option<Block>, StoreError> {
        self.access().get(on, address)
    }

    fn put(&mut self, on: Shelf, block: &Block) -> Result<Kept, StoreError> {
        self.access().put(on, block)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.access().commit()
    }

    fn remove(&mut self, on: Shelf, address: &BlockAddress) -> Result<bool, StoreError> {
        self.access().remove(on, address)
    }

    fn holds(&self, on: Shelf, address: &BlockAddress) -> bool {
        self.look().holds(on, address)
    }

    fn addresses(
        &self,
        on: Shelf,
        after: Option<&BlockAddress>,
        limit: usize,
    ) -> Vec<BlockAddress> {
        self.look().addresses(on, after, limit)
    }

    fn usage(&self, on: Shelf) -> Usage {
        self.look().usage(on)
    }

    fn damaged(&self) -> u64 {
        self.look().damaged()
    }

    fn note(&mut self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.access().note(name)
    }

    fn set_note(&mut self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.access().set_note(name, bytes)
    }

    fn mend(&mut self) -> Result<(), StoreError> {
        self.look().mend()
    }
}
