//! What RocksDB adds: restarts, damage, quotas on the disk.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use proptest::prelude::*;

use super::*;
use crate::blocks::testing::{self, block, limits};

/// A folder of a test's own, gone afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("warren-blocks-{}-{number}", std::process::id())))
    }

    fn open(&self, limits: BlockLimits) -> RocksBlocks {
        let (key, client) = (Secret::take(&mut [1; 32]), Secret::take(&mut [2; 32]));
        RocksBlocks::open(&self.0, key, client, limits).unwrap()
    }

    fn files(&self, extension: &str) -> Vec<PathBuf> {
        let all = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path());
        all.filter(|path| path.extension().is_some_and(|it| it == extension)).collect()
    }

    fn bytes(&self) -> u64 {
        // A file that RocksDB deletes between the listing and the question takes no room.
        let files = fs::read_dir(&self.0).unwrap();
        files.filter_map(|it| Some(it.unwrap().metadata().ok()?.len())).sum()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn rocksdb_keeps_the_rules_of_every_block_store() {
    let folder = Folder::new();
    let next = AtomicU32::new(0);
    testing::run(|limits| {
        let path = folder.0.join(next.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir_all(&path).unwrap();
        let (key, client) = (Secret::take(&mut [1; 32]), Secret::take(&mut [2; 32]));
        Box::new(RocksBlocks::open(&path, key, client, limits).unwrap())
    });
}

#[test]
fn a_restart_keeps_all_but_what_was_fetched_for_the_person_here() {
    let folder = Folder::new();
    let mut store = folder.open(limits(500));
    for n in 0..60 {
        for on in Shelf::ALL {
            store.put(on, &block(n)).unwrap();
        }
    }
    store.set_note("a", b"note").unwrap();
    store.commit().unwrap();
    drop(store);
    let mut store = folder.open(limits(500));
    for n in 0..60 {
        for on in [Shelf::Owned, Shelf::Pinned] {
            assert_eq!(store.get(on, &block(n).address()).unwrap(), Some(block(n)));
        }
        assert_eq!(store.get(Shelf::Client, &block(n).address()).unwrap(), None);
    }
    let cached =
        (0..60).filter(|n| store.get(Shelf::Cache, &block(*n).address()).unwrap().is_some());
    assert!(cached.count() >= 56, "but for the front, which is in memory");
    assert_eq!(store.note("a").unwrap().as_deref(), Some(&b"note"[..]));
    assert_eq!((store.damaged(), store.usage(Shelf::Owned).blocks), (0, 60));
}

#[test]
fn another_key_reads_nothing_and_nothing_on_the_disk_is_in_the_clear() {
    let folder = Folder::new();
    let mut store = folder.open(limits(100));
    for on in Shelf::ALL {
        for n in 0..8 {
            store.put(on, &block(n)).unwrap();
        }
    }
    store.commit().unwrap();
    drop(store);
    for entry in fs::read_dir(&folder.0).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(16).any(|window| window == [0x5a; 16]));
        for n in 0..8 {
            let address = block(n).address();
            assert!(!bytes.windows(8).any(|window| window == &address.as_bytes()[..8]));
        }
    }
    let (key, client) = (Secret::take(&mut [9; 32]), Secret::take(&mut [2; 32]));
    let store = RocksBlocks::open(&folder.0, key, client, limits(100)).unwrap();
    assert_eq!(store.usage(Shelf::Owned).blocks, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn flipped_bits_in_blob_files_never_reach_anybody(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..8u32), 1..12),
    ) {
        let folder = Folder::new();
        let mut store = folder.open(limits(300));
        for n in 0..40 {
            store.put(Shelf::Owned, &block(n)).unwrap();
        }
        store.commit().unwrap();
        let db = store.db().unwrap();
        db.flush_cf(db.cf_handle(OWNED).unwrap()).unwrap();
        drop(store);
        let blobs = folder.files("blob");
        for (file, at, bit) in flips {
            let path = &blobs[file.index(blobs.len())];
            let mut bytes = fs::read(path).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            fs::write(path, bytes).unwrap();
        }
        let (key, client) = (Secret::take(&mut [1; 32]), Secret::take(&mut [2; 32]));
        // A flip in a file's own head or foot may make RocksDB refuse: a clear error, no wrong byte.
        if let Ok(mut store) = RocksBlocks::open(&folder.0, key, client, limits(300)) {
            let mut good = 0;
            for n in 0..40 {
                if let Ok(Some(got)) = store.get(Shelf::Owned, &block(n).address()) {
                    prop_assert_eq!(got, block(n));
                    good += 1;
                }
            }
            prop_assert!(good >= 40 - 12);
        }
    }

    /// Power loss: the log ends somewhere behind the last sync.
    #[test]
    fn a_log_cut_behind_the_last_sync_loses_nothing_that_was_committed(cut in any::<prop::sample::Index>()) {
        let folder = Folder::new();
        let mut store = folder.open(limits(300));
        for n in 0..10 {
            store.put(Shelf::Owned, &block(n)).unwrap();
        }
        store.commit().unwrap();
        let log = folder.files("log").into_iter().max().unwrap();
        let synced = fs::metadata(&log).unwrap().len();
        for n in 10..20 {
            store.put(Shelf::Owned, &block(n)).unwrap();
        }
        store.db().unwrap().flush_wal(false).unwrap();
        // What a crash leaves: the files as they are now, in another place.
        let copy = Folder::new();
        fs::create_dir_all(&copy.0).unwrap();
        for entry in fs::read_dir(&folder.0).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap() != "LOCK" {
                fs::copy(&path, copy.0.join(path.file_name().unwrap())).unwrap();
            }
        }
        let whole = fs::metadata(&log).unwrap().len();
        let rest = usize::try_from(whole - synced).unwrap();
        let len = synced + cut.index(rest + 1) as u64;
        let log = copy.0.join(log.file_name().unwrap());
        fs::OpenOptions::new().write(true).open(log).unwrap().set_len(len).unwrap();
        let mut store = copy.open(limits(300));
        for n in 0..20 {
            let got = store.get(Shelf::Owned, &block(n).address()).unwrap();
            prop_assert!(got == Some(block(n)) || n >= 10 && got.is_none(), "{n}");
        }
        prop_assert_eq!(store.damaged(), 0);
    }
}

#[test]
fn the_quota_holds_on_the_disk_with_all_garbage() {
    let folder = Folder::new();
    // 64 MiB owned, 64 MiB cache.
    let bytes = 64 << 20;
    let limits = BlockLimits { owned: bytes, cache: bytes, pinned: 0, client: 0, front: 1 << 20 };
    let mut store = folder.open(limits);
    let mut most = 0;
    for n in 0..6_000u32 {
        if let Err(StoreError::Full { .. }) = store.put(Shelf::Owned, &block(n)) {
            // As a holder does: some go, and later it fits again.
            for address in store.addresses(Shelf::Owned, None, 200) {
                store.remove(Shelf::Owned, &address).unwrap();
            }
        }
        store.put(Shelf::Cache, &block(n % 3_000)).unwrap();
        if n % 50 == 0 {
            store.commit().unwrap();
            most = most.max(folder.bytes());
        }
        let usage = store.usage(Shelf::Owned);
        assert!(usage.bytes <= usage.bytes_max);
    }
    // Beside both shelves: the log, and what is small.
    assert!(most <= 2 * bytes + (48 << 20), "{} MiB on the disk", most >> 20);
    println!("{} MiB on the disk at most, of 128", most >> 20);
}

#[test]
fn a_store_that_lost_its_disk_says_so_and_goes_on_when_it_is_back() {
    let folder = Folder::new();
    let mut store = folder.open(limits(100));
    store.put(Shelf::Owned, &block(1)).unwrap();
    store.commit().unwrap();
    store.db = None;
    assert!(matches!(store.put(Shelf::Owned, &block(2)), Err(StoreError::Disk(_))));
    assert!(matches!(store.get(Shelf::Owned, &block(1).address()), Err(StoreError::Disk(_))));
    store.mend().unwrap();
    assert_eq!(store.get(Shelf::Owned, &block(1).address()).unwrap(), Some(block(1)));
    assert_eq!(store.put(Shelf::Owned, &block(2)).unwrap(), Kept::Stored);
}

/// A disk that is really full: run as root by
/// `mount -t tmpfs -o size=48m none DIR && WARREN_SMALL_DISK=DIR cargo test -p warren-datastore full_disk`.
#[test]
fn a_full_disk_loses_nothing_that_was_committed_and_is_used_again_when_there_is_room() {
    let Some(dir) = std::env::var_os("WARREN_SMALL_DISK").map(PathBuf::from) else { return };
    let folder = Folder(dir.join("blocks"));
    let ballast = dir.join("ballast");
    fs::write(&ballast, vec![1; 16 << 20]).unwrap();
    let mut store = folder.open(limits(100_000));
    let mut committed = 0;
    for n in 0..10_000 {
        if store.put(Shelf::Owned, &block(n)).is_err() || store.commit().is_err() {
            break;
        }
        committed = n + 1;
    }
    println!("{committed} blocks until the disk was full");
    assert!((100..2_000).contains(&committed));
    for n in 0..committed {
        let got = store.get(Shelf::Owned, &block(n).address());
        assert!(matches!(got, Ok(Some(it)) if it == block(n)), "{n}");
    }
    fs::remove_file(&ballast).unwrap();
    store.mend().unwrap();
    for n in 0..committed {
        assert_eq!(store.get(Shelf::Owned, &block(n).address()).unwrap(), Some(block(n)));
    }
    assert_eq!(store.put(Shelf::Owned, &block(20_000)).unwrap(), Kept::Stored);
    store.commit().unwrap();
}
