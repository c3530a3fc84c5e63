//! Keys that were lately searched in vain.
//!
//! Lives here: the negative cache. Does not live here: when it is asked (`request.rs`).
//!
//! A key that nobody holds costs its whole way again with each search; after three searches in vain
//! within three minutes the answer is `RecentlyFailed` at once. Three and not one, so that a person
//! who opens a page just before it is published does not wait for minutes; a put or a find that
//! passes by clears the key.

use std::{collections::BTreeMap, time::Duration};

use super::wire::RECENTLY_FAILED_MAX_S;
use crate::{id::Key, time::Time};

/// Keys remembered: 48 bytes each. The one that is soonest forgotten goes first.
const KEYS_MAX: usize = 2_048;
/// Searches in vain before the next is refused.
const FAILURES: u8 = 3;

/// The negative cache.
#[derive(Debug, Default)]
pub(super) struct FailedKeys(BTreeMap<Key, (Time, u8)>);

impl FailedKeys {
    /// A search for `key` found nothing.
    pub(super) fn note(&mut self, now: Time, key: Key) {
        let until = now + Duration::from_secs(RECENTLY_FAILED_MAX_S.into());
        let entry = self.0.entry(key).or_insert((until, 0));
        if entry.0 <= now {
            *entry = (until, 0);
        }
        entry.1 = entry.1.saturating_add(1);
        if self.0.len() > KEYS_MAX {
            let soonest = self.0.iter().min_by_key(|(_, (until, _))| *until).map(|(key, _)| *key);
            if let Some(soonest) = soonest {
                self.0.remove(&soonest);
            }
        }
    }

    /// For how many more seconds searches for `key` are refused, if they are.
    pub(super) fn refuses(&self, now: Time, key: &Key) -> Option<u16> {
        let (until, count) = self.0.get(key)?;
        let left = u16::try_from(until.since(now).as_secs() + 1).unwrap_or(u16::MAX);
        (now < *until && *count >= FAILURES).then_some(left.min(RECENTLY_FAILED_MAX_S))
    }

    /// It exists after all.
    pub(super) fn forget(&mut self, key: &Key) {
        self.0.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_key_is_refused_after_three_failures_and_for_three_minutes() {
        let mut failed = FailedKeys::default();
        let key = Key([1; 32]);
        for second in 0..3 {
            assert_eq!(failed.refuses(at(second), &key), None);
            failed.note(at(second), key);
        }
        assert_eq!(failed.refuses(at(80), &key), Some(101));
        assert_eq!(failed.refuses(at(180), &key), None);
        failed.note(at(181), key);
        assert_eq!(failed.refuses(at(182), &key), None);
    }

    #[test]
    fn a_put_clears_the_key_and_the_cache_stays_bounded() {
        let mut failed = FailedKeys::default();
        for n in 0..10_000u32 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&n.to_be_bytes());
            for _ in 0..3 {
                failed.note(at(0), Key(key));
            }
        }
        assert_eq!(failed.0.len(), KEYS_MAX);
        let key = *failed.0.keys().next().unwrap();
        assert!(failed.refuses(at(1), &key).is_some());
        failed.forget(&key);
        assert_eq!(failed.refuses(at(1), &key), None);
    }
}
