//! `warren bench store`: what the block store does on this machine's disk.
//!
//! Lives here: filling a store in a folder of its own, reading it back, counting what was written.
//! Does not live here: the store (`warren_datastore::blocks`), the flags (`cli/bench.rs`).

use std::{fmt, path::PathBuf};

use serde::Serialize;

/// What to measure.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// Blocks in each part.
    pub blocks: u32,
    /// Where; a folder is made in it and removed afterwards.
    pub dir: PathBuf,
}

/// What it found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StoreFigures {
    /// Blocks in each part.
    pub blocks: u32,
    /// Owned blocks put in a second, each acknowledged by a sync that 32 share.
    pub owned_puts_per_s: f64,
    /// Owned blocks got in a second, in random order, opened and hashed.
    pub owned_gets_per_s: f64,
    /// Bytes written to the disk for one byte of an owned block: log and blob file.
    pub owned_write_amplification: f64,
    /// Blocks put into the cache in a second, without log.
    pub cache_puts_per_s: f64,
    /// Cached blocks got in a second, in random order.
    pub cache_gets_per_s: f64,
    /// Bytes written to the disk for one byte of a cached block.
    pub cache_write_amplification: f64,
    /// Bytes on the disk when the cache had been filled three times over.
    pub cache_disk_bytes: u64,
    /// The room it was given.
    pub cache_bytes_max: u64,
}

impl fmt::Display for StoreFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes >> 20;
        writeln!(f, "{} blocks of 32 KiB in each part\n", self.blocks)?;
        writeln!(f, "            put/s     get/s   written per byte")?;
        writeln!(
            f,
            "owned   {:>9.0} {:>9.0}   {:>16.2}",
            self.owned_puts_per_s, self.owned_gets_per_s, self.owned_write_amplification
        )?;
        writeln!(
            f,
            "cache   {:>9.0} {:>9.0}   {:>16.2}",
            self.cache_puts_per_s, self.cache_gets_per_s, self.cache_write_amplification
        )?;
        write!(
            f,
            "\ncache filled three times over: {} MiB on the disk, room for {} MiB",
            mib(self.cache_disk_bytes),
            mib(self.cache_bytes_max)
        )
    }
}

#[cfg(feature = "rocks")]
pub use measure::run;

/// There is no store on disk in this program.
///
/// # Errors
/// Always.
#[cfg(not(feature = "rocks"))]
pub fn run(_: &StoreSettings) -> Result<StoreFigures, String> {
    Err("this program was built without RocksDB (feature `rocks`)".into())
}

#[cfg(feature = "rocks")]
mod measure {
    use std::{
        fs,
        path::{Path, PathBuf},
        time::Instant,
    };

    use warren_datastore::blocks::{BLOCK_COST, BlockLimits, BlockStore, RocksBlocks, Shelf};
    use warren_overlay::{
        block::{BLOCK_LEN, Block, BlockAddress},
        crypto::{kdf, secret::Secret},
        rng::Rng,
    };

    use super::{StoreFigures, StoreSettings};

    /// Puts that share a sync, as the holder lets them.
    const COMMIT_EVERY: u32 = 32;
    /// Blocks made at a time, outside the time that is taken.
    const BATCH: u32 = 256;

    /// The folder, gone afterwards.
    struct Scratch(PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn block(part: u8, n: u32) -> Block {
        let mut bytes = vec![0; BLOCK_LEN];
        kdf::xor_keystream("warren bench block 1", &[&[part], &n.to_be_bytes()], &mut bytes);
        Block::copy_from(&bytes).expect("as long as a block")
    }

    /// Bytes that this process caused to be written to disks; 0 where the system does not say.
    fn written() -> u64 {
        let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
        let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        line.and_then(|it| it.parse().ok()).unwrap_or(0)
    }

    fn disk_bytes(path: &Path) -> u64 {
        let files = fs::read_dir(path).into_iter().flatten().flatten();
        files.filter_map(|entry| entry.metadata().ok()).map(|it| it.len()).sum()
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn ratio(a: u64, b: u64) -> f64 {
        a as f64 / b.max(1) as f64
    }

    fn fail(error: impl std::fmt::Display) -> String {
        error.to_string()
    }

    struct Part {
        puts_per_s: f64,
        gets_per_s: f64,
        write_amplification: f64,
    }

    fn open(path: &Path, limits: BlockLimits) -> Result<RocksBlocks, String> {
        let (key, client) = (Secret::take(&mut [1; 32]), Secret::take(&mut [2; 32]));
        RocksBlocks::open(path, key, client, limits).map_err(fail)
    }

    fn put_all(store: &mut RocksBlocks, on: Shelf, part: u8, count: u32) -> Result<f64, String> {
        let mut seconds = 0.0;
        for first in (0..count).step_by(BATCH as usize) {
            let blocks: Vec<Block> =
                (first..count.min(first + BATCH)).map(|n| block(part, n)).collect();
            let start = now();
            for (n, it) in (1..).zip(&blocks) {
                store.put(on, it).map_err(fail)?;
                if n % COMMIT_EVERY == 0 {
                    store.commit().map_err(fail)?;
                }
            }
            store.commit().map_err(fail)?;
            seconds += start.elapsed().as_secs_f64();
        }
        Ok(f64::from(count) / seconds)
    }

    fn get_all(store: &mut RocksBlocks, on: Shelf, wanted: &[BlockAddress]) -> Result<f64, String> {
        let mut order = wanted.to_vec();
        let mut rng = Rng::from_seed([3; 32]);
        for at in (1..order.len()).rev() {
            let other = usize::try_from(rng.below(at as u64 + 1)).unwrap_or(0);
            order.swap(at, other);
        }
        let start = now();
        let mut got = 0;
        for address in &order {
            got += u32::from(store.get(on, address).map_err(fail)?.is_some());
        }
        Ok(f64::from(got) / start.elapsed().as_secs_f64())
    }

    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
    fn now() -> Instant {
        Instant::now()
    }

    fn measure(path: &Path, on: Shelf, part: u8, count: u32, room: u64) -> Result<Part, String> {
        let front = 32 * BLOCK_COST;
        let limits = BlockLimits { owned: room, cache: room, pinned: 0, client: 0, front };
        let mut store = open(path, limits)?;
        let before = written();
        let puts_per_s = put_all(&mut store, on, part, count)?;
        drop(store); // what is in memory goes to the disk
        let bytes = written().saturating_sub(before);
        let mut store = open(path, limits)?;
        let addresses: Vec<BlockAddress> = (0..count).map(|n| block(part, n).address()).collect();
        let gets_per_s = get_all(&mut store, on, &addresses)?;
        let write_amplification = ratio(bytes, u64::from(count) * BLOCK_LEN as u64);
        Ok(Part { puts_per_s, gets_per_s, write_amplification })
    }

    /// Measures the block store.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn run(settings: &StoreSettings) -> Result<StoreFigures, String> {
        let scratch =
            Scratch(settings.dir.join(format!("warren-bench-store-{}", std::process::id())));
        fs::create_dir_all(&scratch.0).map_err(fail)?;
        let count = settings.blocks;
        let room = (u64::from(count) * 2 * BLOCK_COST).max(64 << 20);
        let owned = measure(&scratch.0.join("owned"), Shelf::Owned, 1, count, room)?;
        let cache = measure(&scratch.0.join("cache"), Shelf::Cache, 2, count, room)?;
        // A cache for a third of what comes.
        let small = u64::from(count) / 3 * BLOCK_COST;
        let limits =
            BlockLimits { owned: 0, cache: small, pinned: 0, client: 0, front: 32 * BLOCK_COST };
        let path = scratch.0.join("full");
        let mut store = open(&path, limits)?;
        for round in 0..3 {
            put_all(&mut store, Shelf::Cache, 3 + round, count / 3)?;
        }
        drop(store);
        Ok(StoreFigures {
            blocks: count,
            owned_puts_per_s: owned.puts_per_s,
            owned_gets_per_s: owned.gets_per_s,
            owned_write_amplification: owned.write_amplification,
            cache_puts_per_s: cache.puts_per_s,
            cache_gets_per_s: cache.gets_per_s,
            cache_write_amplification: cache.write_amplification,
            cache_disk_bytes: disk_bytes(&path),
            cache_bytes_max: small,
        })
    }
}
