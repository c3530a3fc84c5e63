//! What a store holds, without the bytes.
//!
//! Lives here: versions, expiries, sizes, and the rule that only a higher version replaces. Does not
//! live here: where the bytes are (`store.rs`, `rocks.rs`).

use std::collections::{BTreeMap, BTreeSet};

use warren_overlay::{
    id::{Key, Location},
    record::Record,
    time::Wall,
};

/// What is known of one held record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    version: u64,
    expiry: Wall,
    bytes: usize,
}

/// What a record that comes in is to those that are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rank {
    /// New, or of a higher version; there is room.
    Fits,
    /// The same version is held: the same bytes, or a fork of them.
    SameVersion,
    /// A higher version is held.
    Older,
    /// No room.
    TooMuch,
}

/// Keys in ring order, with a bound on the bytes they stand for.
#[derive(Debug)]
pub(crate) struct Index {
    entries: BTreeMap<Key, Entry>,
    expiries: BTreeSet<(Wall, Key)>,
    bytes: usize,
    bytes_max: usize,
}

impl Index {
    pub(crate) const fn new(bytes_max: usize) -> Self {
        Self { entries: BTreeMap::new(), expiries: BTreeSet::new(), bytes: 0, bytes_max }
    }

    pub(crate) fn rank(&self, record: &Record) -> Rank {
        let held = self.entries.get(&record.key());
        match held {
            Some(held) if held.version == record.version() => return Rank::SameVersion,
            Some(held) if held.version > record.version() => return Rank::Older,
            Some(_) | None => {}
        }
        let freed = held.map_or(0, |held| held.bytes);
        if self.bytes - freed + record.encode().len() > self.bytes_max {
            Rank::TooMuch
        } else {
            Rank::Fits
        }
    }

    pub(crate) fn insert(&mut self, record: &Record) {
        let key = record.key();
        self.remove(&key);
        let bytes = record.encode().len();
        let entry = Entry { version: record.version(), expiry: record.expiry(), bytes };
        self.entries.insert(key, entry);
        self.expiries.insert((entry.expiry, key));
        self.bytes += bytes;
    }

    pub(crate) fn remove(&mut self, key: &Key) -> bool {
        let Some(entry) = self.entries.remove(key) else { return false };
        self.expiries.remove(&(entry.expiry, *key));
        self.bytes -= entry.bytes;
        true
    }

    #[cfg(feature = "rocks")]
    pub(crate) fn contains(&self, key: &Key) -> bool {
        self.entries.contains_key(key)
    }

    /// The keys that have expired at `wall`, at most `count` of them.
    pub(crate) fn expired(&self, wall: Wall, count: usize) -> Vec<Key> {
        let past = self.expiries.iter().take_while(|(expiry, _)| *expiry <= wall);
        past.take(count).map(|(_, key)| *key).collect()
    }

    pub(crate) fn next_after(&self, after: Option<&Key>) -> Option<Key> {
        match after {
            None => self.entries.keys().next().copied(),
            Some(after) => {
                let rest = (std::ops::Bound::Excluded(*after), std::ops::Bound::Unbounded);
                self.entries.range(rest).next().map(|(key, _)| *key)
            }
        }
    }

    /// The held key nearest to a point of the ring.
    pub(crate) fn nearest(&self, to: Location) -> Option<Key> {
        let mut first = [0; 32];
        let (head, _) = first.split_first_chunk_mut::<8>()?;
        *head = to.0.to_be_bytes();
        let first = Key(first);
        let ahead = self.entries.range(first..).next().or(self.entries.iter().next());
        let behind = self.entries.range(..first).next_back().or(self.entries.iter().next_back());
        let both = ahead.into_iter().chain(behind).map(|(key, _)| *key);
        both.min_by_key(|key| key.location().distance(to))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }
}
