//! What tests share: records of numbered owners, and what must hold of every store.

use warren_overlay::{
    crypto::{blind::ServiceKey, secret::Secret},
    id::{Key, NetworkId},
    record::{Record, RecordSize},
    time::Wall,
};

pub(crate) const NETWORK: NetworkId = NetworkId([9; 32]);

/// A record of the owner `owner`, saying `payload`.
pub(crate) fn record_saying(
    owner: u32,
    version: u64,
    expiry: Wall,
    payload: &[u8],
    size: RecordSize,
) -> Record {
    let key = ServiceKey::from_seed(Secret::take(&mut [1; 32])).blind(&[&owner.to_be_bytes()]);
    Record::sign(&key, NETWORK, version, expiry, payload, size).unwrap()
}

/// A small record of the owner `owner`.
pub(crate) fn record(owner: u32, version: u64, expiry: Wall) -> Record {
    record_saying(owner, version, expiry, b"hello", RecordSize::Small)
}

/// The key of all records of `owner`.
pub(crate) fn key(owner: u32) -> Key {
    record(owner, 1, Wall::default()).key()
}

/// What must hold of every store.
pub(crate) mod suite {
    use std::collections::BTreeMap;

    use proptest::{prelude::*, test_runner::TestRunner};

    use super::*;
    use crate::store::{PutOutcome, RecordStore, StoreError};

    /// Makes a fresh, empty store for so many bytes.
    pub(crate) trait Make: Fn(u64) -> Box<dyn RecordStore> {}
    impl<F: Fn(u64) -> Box<dyn RecordStore>> Make for F {}

    /// Runs all of it.
    pub(crate) fn run(make: impl Make) {
        what_was_put_is_got_until_it_is_removed(&make);
        only_a_higher_version_replaces(&make);
        range_walks_all_keys_in_order(&make);
        a_full_store_refuses_and_keeps_what_it_has(&make);
        a_store_is_a_bounded_map(&make);
    }

    fn what_was_put_is_got_until_it_is_removed(make: &impl Make) {
        let mut store = make(1 << 20);
        let it = record(1, 5, Wall::default());
        assert_eq!(store.get(&it.key()).unwrap(), None);
        assert!(store.is_empty());
        assert_eq!(store.put(&it).unwrap(), PutOutcome::Stored);
        assert_eq!(store.get(&it.key()).unwrap().as_ref(), Some(&it));
        assert_eq!((store.len(), store.bytes()), (1, 2_048));
        assert!(store.remove(&it.key()).unwrap());
        assert!(!store.remove(&it.key()).unwrap());
        assert_eq!(store.get(&it.key()).unwrap(), None);
        assert_eq!((store.len(), store.bytes()), (0, 0));
    }

    fn only_a_higher_version_replaces(make: &impl Make) {
        let mut store = make(1 << 20);
        let old = record(1, 5, Wall::default());
        let other = record_saying(1, 5, Wall::default(), b"other", RecordSize::Small);
        let lower = record(1, 4, Wall::default());
        let higher = record_saying(1, 6, Wall::default(), b"new", RecordSize::Large);
        assert_eq!(store.put(&old).unwrap(), PutOutcome::Stored);
        assert_eq!(store.put(&old).unwrap(), PutOutcome::Same);
        assert_eq!(store.put(&other).unwrap(), PutOutcome::Stale);
        assert_eq!(store.put(&lower).unwrap(), PutOutcome::Stale);
        assert_eq!(store.get(&old.key()).unwrap().as_ref(), Some(&old));
        assert_eq!(store.put(&higher).unwrap(), PutOutcome::Stored);
        assert_eq!(store.get(&old.key()).unwrap().as_ref(), Some(&higher));
        assert_eq!((store.len(), store.bytes()), (1, 4_096));
    }

    fn range_walks_all_keys_in_order(make: &impl Make) {
        let mut store = make(1 << 20);
        let mut keys: Vec<Key> = (0..10).map(key).collect();
        keys.sort();
        for owner in 0..10 {
            store.put(&record(owner, 1, Wall::default())).unwrap();
        }
        let mut walked = Vec::new();
        loop {
            let some = store.range(walked.last(), 3).unwrap();
            walked.extend(some.iter().map(Record::key));
            if some.len() < 3 {
                break;
            }
        }
        assert_eq!(walked, keys);
        assert!(store.range(None, 0).unwrap().is_empty());
    }

    fn a_full_store_refuses_and_keeps_what_it_has(make: &impl Make) {
        let mut store = make(2 * 2_048);
        let grown = record_saying(1, 2, Wall::default(), b"", RecordSize::Large);
        for owner in 0..2 {
            store.put(&record(owner, 1, Wall::default())).unwrap();
        }
        for too_much in [record(2, 1, Wall::default()), grown] {
            assert!(matches!(store.put(&too_much), Err(StoreError::Full { bytes_max: 4_096 })));
        }
        assert_eq!(store.put(&record(1, 2, Wall::default())).unwrap(), PutOutcome::Stored);
        assert_eq!((store.len(), store.bytes()), (2, 4_096));
    }

    fn a_store_is_a_bounded_map(make: &impl Make) {
        let action = (0..6u32, 0..4u64, any::<bool>(), 0..4u8);
        let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) };
        TestRunner::new(config)
            .run(&prop::collection::vec(action, 0..40), |actions| {
                let (mut store, mut model) = (make(12_288), BTreeMap::<Key, Record>::new());
                for (owner, version, large, remove) in actions {
                    if remove == 0 {
                        let key = key(owner);
                        prop_assert_eq!(store.remove(&key).unwrap(), model.remove(&key).is_some());
                        continue;
                    }
                    let size = if large { RecordSize::Large } else { RecordSize::Small };
                    let it = record_saying(owner, version, Wall::default(), b"", size);
                    let old = model.get(&it.key());
                    let higher = old.is_none_or(|old| it.version() > old.version());
                    match store.put(&it) {
                        Ok(PutOutcome::Stored) => {
                            prop_assert!(higher);
                            model.insert(it.key(), it);
                        }
                        Ok(PutOutcome::Same) => prop_assert_eq!(old, Some(&it)),
                        Ok(PutOutcome::Stale) => prop_assert!(!higher && old != Some(&it)),
                        Err(_) => prop_assert!(higher && store.bytes() + 4_096 > 12_288),
                    }
                    let bytes = model.values().map(|it| it.encode().len() as u64).sum::<u64>();
                    prop_assert!(bytes <= 12_288);
                    prop_assert_eq!((store.len(), store.bytes()), (model.len() as u64, bytes));
                }
                let all: Vec<Record> = model.values().cloned().collect();
                prop_assert_eq!(store.range(None, 100).unwrap(), all);
                Ok(())
            })
            .unwrap();
    }
}
