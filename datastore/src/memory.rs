//! Records in memory: for simulations, tests, and routers without a disk.
//!
//! Lives here: the store. Does not live here: which records are worth the room (`holder.rs`).

use std::{
    collections::BTreeMap,
    fmt,
    ops::Bound::{Excluded, Unbounded},
};

use warren_overlay::{id::Key, record::Record};

use crate::store::{BYTES_MAX, PutOutcome, RecordStore, StoreError};

/// Records that end with the process. 64 MiB by default.
pub struct MemoryRecords {
    records: BTreeMap<Key, Record>,
    bytes: u64,
    bytes_max: u64,
}

impl MemoryRecords {
    /// A store for `bytes_max` bytes of encoded records.
    pub const fn new(bytes_max: u64) -> Self {
        Self { records: BTreeMap::new(), bytes: 0, bytes_max }
    }
}

impl Default for MemoryRecords {
    fn default() -> Self {
        Self::new(BYTES_MAX)
    }
}

impl fmt::Debug for MemoryRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryRecords({} records, {} bytes)", self.records.len(), self.bytes)
    }
}

impl RecordStore for MemoryRecords {
    fn get(&mut self, key: &Key) -> Result<Option<Record>, StoreError> {
        Ok(self.records.get(key).cloned())
    }

    fn put(&mut self, record: &Record) -> Result<PutOutcome, StoreError> {
        let key = record.key();
        let old = self.records.get(&key);
        if let Some(outcome) = old.and_then(|old| PutOutcome::beside(old, record)) {
            return Ok(outcome);
        }
        let bytes = self.bytes - old.map_or(0, encoded_len) + encoded_len(record);
        if bytes > self.bytes_max {
            return Err(StoreError::Full { bytes_max: self.bytes_max });
        }
        self.bytes = bytes;
        self.records.insert(key, record.clone());
        Ok(PutOutcome::Stored)
    }

    fn remove(&mut self, key: &Key) -> Result<bool, StoreError> {
        let old = self.records.remove(key);
        self.bytes -= old.as_ref().map_or(0, encoded_len);
        Ok(old.is_some())
    }

    fn range(&mut self, after: Option<&Key>, limit: usize) -> Result<Vec<Record>, StoreError> {
        let from = after.map_or(Unbounded, |key| Excluded(*key));
        Ok(self.records.range((from, Unbounded)).take(limit).map(|(_, it)| it.clone()).collect())
    }

    fn len(&self) -> u64 {
        self.records.len() as u64
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    fn damaged(&self) -> u64 {
        0
    }
}

/// What a record counts for, in bytes.
pub(crate) fn encoded_len(record: &Record) -> u64 {
    record.encode().len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::suite;

    #[test]
    fn memory_keeps_the_rules_of_every_store() {
        suite::run(|bytes_max| Box::new(MemoryRecords::new(bytes_max)));
    }
}
