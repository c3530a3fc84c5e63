//! What must hold of every block store.

use std::collections::BTreeMap;

use proptest::{prelude::*, test_runner::TestRunner};
use warren_overlay::block::{BLOCK_LEN, Block, BlockAddress};

use super::{BLOCK_COST, BlockLimits, BlockStore, Kept, Shelf};
use crate::store::StoreError;

/// Block number `n`.
pub(crate) fn block(n: u32) -> Block {
    let mut bytes = vec![0x5a; BLOCK_LEN];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    Block::copy_from(&bytes).unwrap()
}

/// Room for so many blocks on each shelf.
pub(crate) fn limits(blocks: u64) -> BlockLimits {
    // A quarter of each shelf is left for garbage.
    let bytes = blocks * 4 / 3 * BLOCK_COST + 64 * BLOCK_COST;
    BlockLimits { owned: bytes, cache: bytes, pinned: bytes, client: bytes, front: 2 * BLOCK_COST }
}

/// Makes a fresh, empty store with this room.
pub(crate) trait Make: Fn(BlockLimits) -> Box<dyn BlockStore> {}
impl<F: Fn(BlockLimits) -> Box<dyn BlockStore>> Make for F {}

/// Runs all of it.
pub(crate) fn run(make: impl Make) {
    what_was_put_is_got_from_its_shelf_and_no_other(&make);
    addresses_walk_in_order(&make);
    a_full_shelf_refuses_or_makes_room(&make);
    the_cache_keeps_what_is_wanted(&make);
    notes_are_kept(&make);
    a_store_is_a_bounded_map_per_shelf(&make);
}

const LISTED: [Shelf; 3] = [Shelf::Owned, Shelf::Pinned, Shelf::Client];

fn what_was_put_is_got_from_its_shelf_and_no_other(make: &impl Make) {
    let mut store = make(limits(200));
    for (n, on) in (0..).zip(Shelf::ALL) {
        let it = block(n);
        assert_eq!(store.get(on, &it.address()).unwrap(), None);
        assert_eq!(store.put(on, &it).unwrap(), Kept::Stored);
        assert_eq!(store.put(on, &it).unwrap(), Kept::Same);
        store.commit().unwrap();
        for other in Shelf::ALL {
            let got = store.get(other, &it.address()).unwrap();
            assert_eq!(got, (other == on).then(|| it.clone()), "{on:?} {other:?}");
        }
        assert_eq!(store.holds(on, &it.address()), on != Shelf::Cache);
    }
    for (n, on) in (0..).zip(Shelf::ALL).filter(|(_, on)| *on != Shelf::Cache) {
        let address = block(n).address();
        assert!(store.remove(on, &address).unwrap());
        assert!(!store.remove(on, &address).unwrap());
        assert_eq!(store.get(on, &address).unwrap(), None);
        assert_eq!(store.usage(on).blocks, 0);
    }
    assert_eq!(store.damaged(), 0);
}

fn addresses_walk_in_order(make: &impl Make) {
    let mut store = make(limits(200));
    for on in LISTED {
        let mut all: Vec<BlockAddress> = (0..10).map(|n| block(n).address()).collect();
        all.sort();
        for n in 0..10 {
            store.put(on, &block(n)).unwrap();
        }
        let mut walked: Vec<BlockAddress> = Vec::new();
        loop {
            let some = store.addresses(on, walked.last(), 3);
            walked.extend(&some);
            if some.len() < 3 {
                break;
            }
        }
        assert_eq!(walked, all);
        assert!(store.addresses(on, None, 0).is_empty());
    }
}

fn a_full_shelf_refuses_or_makes_room(make: &impl Make) {
    let mut store = make(limits(40));
    for on in [Shelf::Owned, Shelf::Pinned] {
        let first = (0..400).find(|n| store.put(on, &block(*n)).is_err()).unwrap();
        assert!(first >= 40, "{on:?}: {first}");
        let refused = store.put(on, &block(900));
        assert!(matches!(refused, Err(StoreError::Full { .. })));
        store.commit().unwrap();
        for n in 0..first {
            assert_eq!(store.get(on, &block(n).address()).unwrap(), Some(block(n)));
        }
        assert!(store.remove(on, &block(1).address()).unwrap());
        assert_eq!(store.put(on, &block(900)).unwrap(), Kept::Stored);
    }
    for n in 0..400 {
        assert_eq!(store.put(Shelf::Client, &block(n)).unwrap(), Kept::Stored);
        let usage = store.usage(Shelf::Client);
        assert!(usage.bytes <= usage.bytes_max);
    }
    assert_eq!(store.get(Shelf::Client, &block(399).address()).unwrap(), Some(block(399)));
    assert_eq!(store.get(Shelf::Client, &block(0).address()).unwrap(), None);
}

fn the_cache_keeps_what_is_wanted(make: &impl Make) {
    let mut store = make(limits(90));
    let get = |store: &mut Box<dyn BlockStore>, n: u32| {
        store.get(Shelf::Cache, &block(n).address()).unwrap() == Some(block(n))
    };
    for n in 0..20 {
        store.put(Shelf::Cache, &block(n)).unwrap();
    }
    for n in 20..80 {
        store.put(Shelf::Cache, &block(n)).unwrap();
        for wanted in 0..20 {
            get(&mut store, wanted);
        }
    }
    // Five times as many as fit, each seen once.
    for n in 1_000..1_500 {
        store.put(Shelf::Cache, &block(n)).unwrap();
        let usage = store.usage(Shelf::Cache);
        assert!(usage.bytes <= usage.bytes_max, "{usage:?}");
    }
    let kept = (0..20).filter(|n| get(&mut store, *n)).count();
    assert!(kept >= 18, "{kept} of 20");
}

fn notes_are_kept(make: &impl Make) {
    let mut store = make(limits(10));
    assert_eq!(store.note("a").unwrap(), None);
    for value in [&b"one"[..], b"", b"three"] {
        store.set_note("a", value).unwrap();
        store.set_note("b", b"other").unwrap();
        store.commit().unwrap();
        assert_eq!(store.note("a").unwrap().as_deref(), Some(value));
    }
}

fn a_store_is_a_bounded_map_per_shelf(make: &impl Make) {
    let action = (0..3usize, 0..8u32, 0..4u8);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(6) };
    TestRunner::new(config)
        .run(&prop::collection::vec(action, 0..60), |actions| {
            let mut store = make(limits(200));
            let mut model: BTreeMap<(Shelf, BlockAddress), Block> = BTreeMap::new();
            for (on, n, act) in actions {
                let (on, it) = (LISTED[on], block(n));
                let entry = (on, it.address());
                match act {
                    0 => {
                        let removed = store.remove(on, &it.address()).unwrap();
                        prop_assert_eq!(removed, model.remove(&entry).is_some());
                    }
                    1 => store.commit().unwrap(),
                    2 => {
                        let got = store.get(on, &it.address()).unwrap();
                        prop_assert_eq!(got.as_ref(), model.get(&entry));
                    }
                    _ => {
                        let kept = store.put(on, &it).unwrap();
                        let old = model.insert(entry, it);
                        prop_assert_eq!(kept == Kept::Same, old.is_some());
                    }
                }
                for on in LISTED {
                    let count = model.keys().filter(|(other, _)| *other == on).count();
                    prop_assert_eq!(store.usage(on).blocks, count as u64);
                }
            }
            Ok(())
        })
        .unwrap();
}
