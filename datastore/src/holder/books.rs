//! The holder's books: what is held, for whom it was taken in, and until when.
//!
//! Lives here: the index in memory beside the store, the accounts of those who brought records, the
//! choice of what goes when room is short. Does not live here: the records themselves (the store),
//! when to look (`holder.rs`).

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound::{Excluded, Unbounded},
    time::Duration,
};

use warren_overlay::{
    id::{Key, LinkNo, Location},
    record::Record,
    time::{Time, Wall},
};

use crate::memory::encoded_len;

/// Writes that a source may make at once; then `WRITE_EVERY` each. A neighbour that leaves hands
/// over up to about as many.
const WRITES_MAX: u32 = 2_048;
/// 64 writes a second: each costs the disk a sync.
const WRITE_EVERY: Duration = Duration::from_micros(1_000_000 / 64);

/// Who brought a record: whose quota it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// Nobody who is still here: links that closed, earlier runs of this process. They have all the
    /// room, and are the first to lose it once they have most of it: coming back with a new link
    /// gains nothing.
    Gone,
    /// This router, for the owners of tunnels that end here.
    Own,
    /// Requests that came over a link.
    Put(LinkNo),
    /// Copies that a neighbour sent unasked.
    Copy(LinkNo),
}

impl Source {
    pub(super) const fn link(self) -> Option<LinkNo> {
        match self {
            Self::Gone | Self::Own => None,
            Self::Put(link) | Self::Copy(link) => Some(link),
        }
    }

    /// Most bytes it may have here, of `bytes_max` in all.
    const fn quota(self, bytes_max: u64) -> u64 {
        match self {
            Self::Gone => bytes_max,
            Self::Own => bytes_max / 2,
            Self::Copy(_) => bytes_max / 4,
            Self::Put(_) => bytes_max / 8,
        }
    }

    /// Most records it may have here: as many as small ones fit.
    const fn records_quota(self, bytes_max: u64) -> u64 {
        self.quota(bytes_max) / 2_048
    }
}

/// What the books say about one record.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) version: u64,
    pub(super) expiry: Wall,
    pub(super) len: u64,
    pub(super) source: Source,
    /// Neighbours that have it too, or were sent it: at most three.
    pub(super) copies: Vec<LinkNo>,
}

/// What one source has here.
#[derive(Debug, Default)]
struct Account {
    bytes: u64,
    /// Its records, with how far each is from this router.
    records: BTreeSet<(u64, Key)>,
}

/// How fast one source may still write.
#[derive(Debug)]
struct Pace {
    /// When all writes spent so far are paid for.
    paid_at: Time,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Books {
    own: Location,
    bytes_max: u64,
    bytes: u64,
    entries: BTreeMap<Key, Entry>,
    expiries: BTreeSet<(u32, Key)>,
    accounts: BTreeMap<Source, Account>,
    paces: BTreeMap<Source, Pace>,
}

impl Books {
    pub(super) const fn new(own: Location, bytes_max: u64) -> Self {
        Self {
            own,
            bytes_max,
            bytes: 0,
            entries: BTreeMap::new(),
            expiries: BTreeSet::new(),
            accounts: BTreeMap::new(),
            paces: BTreeMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &Key) -> Option<&mut Entry> {
        self.entries.get_mut(key)
    }

    /// The first key above `after`.
    pub(super) fn next_after(&self, after: Option<Key>) -> Option<Key> {
        let from = after.map_or(Unbounded, Excluded);
        self.entries.range((from, Unbounded)).next().map(|(key, _)| *key)
    }

    /// The record that expires first, if its time has come.
    pub(super) fn expired(&self, wall: Wall) -> Option<Key> {
        let (minutes, key) = self.expiries.first()?;
        (*minutes <= wall.minutes()).then_some(*key)
    }

    /// Whether `source` may write now; if so, it is charged for one write.
    pub(super) fn may_write(&mut self, now: Time, source: Source) -> bool {
        let pace = self.paces.entry(source).or_insert(Pace { paid_at: now });
        let paid_at = pace.paid_at.max(now) + WRITE_EVERY;
        let may = paid_at.since(now) <= WRITE_EVERY * WRITES_MAX;
        if may {
            pace.paid_at = paid_at;
        }
        may
    }

    /// Whether `record` fits into the quota of `source`, given that it replaces what has its key.
    pub(super) fn within_quota(&self, source: Source, record: &Record) -> bool {
        let account = self.accounts.get(&source);
        let (bytes, records) = account.map_or((0, 0), |it| (it.bytes, it.records.len() as u64));
        let old = self.entries.get(&record.key()).filter(|old| old.source == source);
        let (old_bytes, old_records) = old.map_or((0, 0), |old| (old.len, 1));
        bytes - old_bytes + encoded_len(record) <= source.quota(self.bytes_max)
            && records - old_records < source.records_quota(self.bytes_max)
    }

    /// How many bytes must go before `record` fits into the whole.
    pub(super) fn excess(&self, record: &Record) -> u64 {
        let old = self.entries.get(&record.key()).map_or(0, |old| old.len);
        (self.bytes - old + encoded_len(record)).saturating_sub(self.bytes_max)
    }

    /// What goes to make room for `record` from `source`: of the source that has most, what is
    /// farthest from here. `None` if `source` would then itself have most.
    pub(super) fn victim(&self, source: Source, record: &Record) -> Option<Key> {
        let mine = self.accounts.get(&source).map_or(0, |it| it.bytes);
        let key = record.key();
        let (_, most) = self.accounts.iter().max_by_key(|(_, it)| it.bytes)?;
        if most.bytes <= mine + encoded_len(record) {
            return None;
        }
        most.records.iter().rev().map(|(_, victim)| *victim).find(|victim| *victim != key)
    }

    /// Enters a record that the store now holds, in the place of what had its key.
    pub(super) fn insert(&mut self, source: Source, record: &Record, copies: Vec<LinkNo>) {
        let key = record.key();
        self.remove(&key);
        let (len, expiry) = (encoded_len(record), record.expiry());
        self.bytes += len;
        self.expiries.insert((expiry.minutes(), key));
        let account = self.accounts.entry(source).or_default();
        account.bytes += len;
        account.records.insert((self.own.distance(key.location()), key));
        let entry = Entry { version: record.version(), expiry, len, source, copies };
        self.entries.insert(key, entry);
    }

    /// Strikes a record out.
    pub(super) fn remove(&mut self, key: &Key) {
        let Some(entry) = self.entries.remove(key) else { return };
        self.bytes -= entry.len;
        self.expiries.remove(&(entry.expiry.minutes(), *key));
        if let Some(account) = self.accounts.get_mut(&entry.source) {
            account.bytes -= entry.len;
            account.records.remove(&(self.own.distance(key.location()), *key));
            if account.records.is_empty() {
                self.accounts.remove(&entry.source);
            }
        }
    }

    /// Only these links are neighbours now: what others brought belongs to `Gone`.
    pub(super) fn keep_links(&mut self, is_neighbour: impl Fn(LinkNo) -> bool) {
        let stays = |source: &Source| source.link().is_none_or(&is_neighbour);
        self.paces.retain(|source, _| stays(source));
        let left: Vec<Source> = self.accounts.keys().filter(|it| !stays(it)).copied().collect();
        for source in left {
            let Some(account) = self.accounts.remove(&source) else { continue };
            for (_, key) in &account.records {
                if let Some(entry) = self.entries.get_mut(key) {
                    entry.source = Source::Gone;
                }
            }
            let gone = self.accounts.entry(Source::Gone).or_default();
            gone.bytes += account.bytes;
            gone.records.extend(account.records);
        }
    }

    /// Sums everything up anew and compares.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let sum = |of: &dyn Fn(&Entry) -> bool| {
            self.entries.values().filter(|it| of(it)).map(|it| it.len).sum::<u64>()
        };
        assert_eq!(sum(&|_| true), self.bytes);
        assert!(self.bytes <= self.bytes_max);
        assert_eq!(self.expiries.len(), self.entries.len());
        let accounted: usize = self.accounts.values().map(|it| it.records.len()).sum();
        assert_eq!(accounted, self.entries.len());
        for (source, account) in &self.accounts {
            assert_eq!(account.bytes, sum(&|it| it.source == *source));
            assert!(account.bytes <= source.quota(self.bytes_max));
            assert!(account.records.len() as u64 <= source.records_quota(self.bytes_max));
        }
        assert!(self.entries.values().all(|it| it.copies.len() <= 3));
    }
}
