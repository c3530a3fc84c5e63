//! `kill -9` while records and blocks are put: whatever was acknowledged is there afterwards.
#![cfg(feature = "rocks")]
#![expect(clippy::unwrap_used, reason = "a test, helpers included")]

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};

use warren_datastore::{
    PutOutcome, RecordStore, RocksRecords,
    blocks::{BlockLimits, BlockStore, RocksBlocks, Shelf},
};
use warren_overlay::{
    block::{BLOCK_LEN, Block},
    crypto::{blind::ServiceKey, secret::Secret},
    id::{Key, NetworkId},
    record::{Record, RecordSize},
    time::Wall,
};

/// Set in the child: where to put records.
const FOLDER: &str = "WARREN_KILL_TEST_FOLDER";
/// How often the child is killed, and after how many acknowledgements each time.
const KILLS: u64 = 4;
const PUTS: usize = 150;

fn secret() -> Secret<32> {
    Secret::take(&mut [7; 32])
}

fn record(owner: u32, version: u64) -> Record {
    let key = ServiceKey::from_seed(Secret::take(&mut [1; 32])).blind(&[&owner.to_be_bytes()]);
    let (network, expiry) = (NetworkId([9; 32]), Wall::default());
    let payload = version.to_be_bytes();
    Record::sign(&key, network, version, expiry, &payload, RecordSize::Large).unwrap()
}

#[test]
fn a_killed_process_loses_no_record_that_it_acknowledged() {
    if let Some(folder) = env::var_os(FOLDER) {
        return put_until_killed(Path::new(&folder));
    }
    let folder = env::temp_dir().join(format!("warren-kill-{}", std::process::id()));
    for round in 1..=KILLS {
        let acknowledged = kill_after(&folder, PUTS);
        assert!(acknowledged.len() >= PUTS);
        let mut store = RocksRecords::open(&folder, secret()).unwrap();
        assert_eq!(store.damaged(), 0, "what is torn lies beyond what was acknowledged");
        for (key, version) in acknowledged {
            let held = store.get(&key).unwrap().map(|it| it.version());
            assert!(held >= Some(version), "round {round}: {held:?} for {version}");
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Starts this very test once more as a child, and kills it; what it had acknowledged.
fn kill_after(folder: &Path, puts: usize) -> Vec<(Key, u64)> {
    let name = "a_killed_process_loses_no_record_that_it_acknowledged";
    let mut child = Command::new(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads", "1"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut acknowledged = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some((key, version)) = line.strip_prefix("put ").and_then(|it| it.split_once(' '))
        else {
            continue; // the test runner's own, or the last line, torn
        };
        let (Ok(key), Some(version)) = (key.parse(), version.strip_suffix('.')) else { continue };
        acknowledged.push((key, version.parse().unwrap()));
        if acknowledged.len() == puts {
            child.kill().unwrap(); // SIGKILL; lines already written are still read
        }
    }
    child.wait().unwrap();
    acknowledged
}

/// The child: puts and says so, each owner in turn, each time with a higher version.
fn put_until_killed(folder: &Path) {
    let mut store = RocksRecords::open(folder, secret()).unwrap();
    let first = store.range(None, 100).unwrap().iter().map(Record::version).max().unwrap_or(0) + 1;
    for version in first.. {
        for owner in 0..40 {
            let it = record(owner, version);
            assert_eq!(store.put(&it).unwrap(), PutOutcome::Stored);
            let line = format!("put {} {version}.\n", it.key());
            let mut out = std::io::stdout().lock();
            out.write_all(line.as_bytes()).unwrap();
            out.flush().unwrap();
        }
    }
}

fn block(n: u32) -> Block {
    let bytes: Vec<u8> = n.to_be_bytes().into_iter().cycle().take(BLOCK_LEN).collect();
    Block::copy_from(&bytes).unwrap()
}

fn open_blocks(folder: &Path) -> RocksBlocks {
    RocksBlocks::open(folder, secret(), secret(), BlockLimits::default()).unwrap()
}

#[test]
fn a_killed_process_loses_no_block_that_it_acknowledged() {
    const NAME: &str = "a_killed_process_loses_no_block_that_it_acknowledged";
    if let Some(folder) = env::var_os(FOLDER) {
        return put_blocks_until_killed(Path::new(&folder));
    }
    let folder = env::temp_dir().join(format!("warren-kill-blocks-{}", std::process::id()));
    let mut next = 0;
    for _ in 0..KILLS {
        let mut child = Command::new(env::current_exe().unwrap())
            .args([NAME, "--exact", "--nocapture", "--test-threads", "1"])
            .env(FOLDER, &folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let until = next + 250;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let Some(n) = line.strip_prefix("block ").and_then(|it| it.strip_suffix('.')) else {
                continue;
            };
            next = n.parse().unwrap();
            if next == until {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(next >= until);
        let mut store = open_blocks(&folder);
        assert_eq!(store.damaged(), 0);
        for n in 0..=next {
            let got = store.get(Shelf::Owned, &block(n).address()).unwrap();
            assert_eq!(got, Some(block(n)), "{n} of {next}");
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

/// The child: puts ten at a time, syncs, says so.
fn put_blocks_until_killed(folder: &Path) {
    let mut store = open_blocks(folder);
    let first = u32::try_from(store.usage(Shelf::Owned).blocks).unwrap();
    let mut acknowledged = first;
    for n in first.. {
        store.put(Shelf::Owned, &block(n)).unwrap();
        if n % 10 == 0 {
            store.commit().unwrap();
            let mut out = std::io::stdout().lock();
            while acknowledged <= n {
                out.write_all(format!("block {acknowledged}.\n").as_bytes()).unwrap();
                acknowledged += 1;
            }
            out.flush().unwrap();
        }
    }
}
