//! Keys that were lately searched in vain.
//!
//! Lives here: the negative cache. Does not live here: when it is asked (`request.rs`).
//!
//! A key that nobody holds costs its whole way again with each search; from the third search in vain
//! on, the answer is `RecentlyFailed` at once: for 5 s, then after each further search in vain for
//! twice as long, up to three minutes. So what is published while somebody keeps asking for it is
//! found before that wait has doubled. A put or a find that passes by clears the key.

use std::{collections::BTreeMap, time::Duration};

use super::wire::RECENTLY_FAILED_MAX_S;
use crate::{id::Key, room::Room, time::Time};

/// Keys remembered: 56 bytes each. The one that is soonest forgotten goes first.
const KEYS_MAX: usize = 2_048;
/// Searches in vain before the next is refused.
const FAILURES: u32 = 3;
/// Seconds for which searches are refused at first.
const FIRST_S: u16 = 5;
/// How long after its last refusal a key is remembered.
const REMEMBERED: Duration = Duration::from_secs(RECENTLY_FAILED_MAX_S as u64);

#[derive(Debug)]
struct Failed {
    searches: u32,
    refused_until: Time,
}

impl Failed {
    fn forgotten_at(&self) -> Time {
        self.refused_until + REMEMBERED
    }
}

/// The negative cache.
#[derive(Debug, Default)]
pub(super) struct FailedKeys(BTreeMap<Key, Failed>);

impl FailedKeys {
    /// A search for `key` found nothing.
    pub(super) fn note(&mut self, now: Time, key: Key) {
        let new = || Failed { searches: 0, refused_until: now };
        let failed = self.0.entry(key).or_insert_with(new);
        if failed.forgotten_at() <= now {
            *failed = new();
        }
        failed.searches = failed.searches.saturating_add(1);
        let wait_s = match failed.searches.checked_sub(FAILURES) {
            None => 0,
            Some(more) => FIRST_S.saturating_mul(1 << more.min(10)).min(RECENTLY_FAILED_MAX_S),
        };
        // Of searches that were on their way together, the last to end says nothing new.
        failed.refused_until = failed.refused_until.max(now + Duration::from_secs(wait_s.into()));
        if self.0.len() > KEYS_MAX {
            let soonest = self.0.iter().min_by_key(|(_, failed)| failed.refused_until);
            if let Some(soonest) = soonest.map(|(key, _)| *key) {
                self.0.remove(&soonest);
            }
        }
    }

    /// For how many more seconds searches for `key` are refused, if they are.
    pub(super) fn refuses(&self, now: Time, key: &Key) -> Option<u16> {
        let until = self.0.get(key)?.refused_until;
        let left = u16::try_from(until.since(now).as_secs() + 1).unwrap_or(u16::MAX);
        (now < until).then_some(left.min(RECENTLY_FAILED_MAX_S))
    }

    /// Drops what says nothing any more.
    pub(super) fn rest(&mut self, now: Time) {
        self.0.retain(|_, failed| failed.forgotten_at() > now);
        self.0.rest();
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

    /// Searches once a second for so long: when a search was really made.
    fn searched(failed: &mut FailedKeys, key: Key, seconds: u64) -> Vec<u64> {
        let mut made = Vec::new();
        for second in 0..seconds {
            if failed.refuses(at(second), &key).is_none() {
                failed.note(at(second), key);
                made.push(second);
            }
        }
        made
    }

    #[test]
    fn the_more_often_a_key_was_searched_in_vain_the_longer_it_is_refused_up_to_three_minutes() {
        let made = searched(&mut FailedKeys::default(), Key([1; 32]), 900);
        assert_eq!(made, [0, 1, 2, 7, 17, 37, 77, 157, 317, 497, 677, 857]);
    }

    #[test]
    fn a_key_that_nobody_asks_for_any_more_is_forgotten() {
        let (mut failed, key) = (FailedKeys::default(), Key([1; 32]));
        searched(&mut failed, key, 100);
        assert_eq!(failed.refuses(at(100), &key), Some(58));
        failed.note(at(157 + 180), key);
        assert_eq!(failed.refuses(at(157 + 181), &key), None);
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
