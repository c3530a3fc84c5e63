//! Blocks in memory: for tests, simulations, and routers without a disk.
//!
//! Lives here: the store. Does not live here: which blocks are worth the room.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Bound::{Excluded, Unbounded},
};

use lru::LruCache;
use warren_overlay::block::{Block, BlockAddress};

use super::{BLOCK_COST, BlockLimits, BlockStore, Kept, Shelf, Usage, admission::Sketch};
use crate::store::StoreError;

/// Blocks that end with the process.
pub struct MemoryBlocks {
    limits: BlockLimits,
    owned: BTreeMap<BlockAddress, Block>,
    pinned: BTreeMap<BlockAddress, Block>,
    client: LruCache<BlockAddress, Block>,
    cache: LruCache<BlockAddress, Block>,
    sketch: Sketch,
    notes: BTreeMap<String, Vec<u8>>,
}

impl MemoryBlocks {
    /// A store with room for this.
    pub fn new(limits: BlockLimits) -> Self {
        Self {
            limits,
            owned: BTreeMap::new(),
            pinned: BTreeMap::new(),
            client: LruCache::unbounded(),
            cache: LruCache::unbounded(),
            sketch: Sketch::new(limits.cache / BLOCK_COST),
            notes: BTreeMap::new(),
        }
    }

    fn map(&self, on: Shelf) -> Option<&BTreeMap<BlockAddress, Block>> {
        match on {
            Shelf::Owned => Some(&self.owned),
            Shelf::Pinned => Some(&self.pinned),
            Shelf::Cache | Shelf::Client => None,
        }
    }

    fn blocks(&self, on: Shelf) -> usize {
        match on {
            Shelf::Owned => self.owned.len(),
            Shelf::Pinned => self.pinned.len(),
            Shelf::Cache => self.cache.len(),
            Shelf::Client => self.client.len(),
        }
    }

    fn has_room(&self, on: Shelf) -> bool {
        (self.blocks(on) as u64 + 1) * BLOCK_COST <= self.limits.of(on)
    }
}

impl Default for MemoryBlocks {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        let (owned, cache) = (256 * MIB, 64 * MIB);
        Self::new(BlockLimits { owned, cache, pinned: 256 * MIB, client: 64 * MIB, front: 0 })
    }
}

impl fmt::Debug for MemoryBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryBlocks({} owned, {} cached)", self.owned.len(), self.cache.len())
    }
}

impl BlockStore for MemoryBlocks {
    fn get(&mut self, on: Shelf, address: &BlockAddress) -> Result<Option<Block>, StoreError> {
        Ok(match on {
            Shelf::Owned => self.owned.get(address).cloned(),
            Shelf::Pinned => self.pinned.get(address).cloned(),
            Shelf::Client => self.client.get(address).cloned(),
            Shelf::Cache => {
                self.sketch.touch(address);
                self.cache.get(address).cloned()
            }
        })
    }

    fn put(&mut self, on: Shelf, block: &Block) -> Result<Kept, StoreError> {
        let address = block.address();
        let bytes_max = self.limits.of(on);
        match on {
            Shelf::Owned | Shelf::Pinned => {
                if self.holds(on, &address) {
                    return Ok(Kept::Same);
                }
                if !self.has_room(on) {
                    return Err(StoreError::Full { bytes_max });
                }
                let map = if on == Shelf::Owned { &mut self.owned } else { &mut self.pinned };
                map.insert(address, block.clone());
            }
            Shelf::Client => {
                if self.client.contains(&address) {
                    return Ok(Kept::Same);
                }
                while !self.has_room(on) {
                    if self.client.pop_lru().is_none() {
                        return Err(StoreError::Full { bytes_max });
                    }
                }
                self.client.put(address, block.clone());
            }
            Shelf::Cache => {
                self.sketch.touch(&address);
                if self.cache.contains(&address) {
                    return Ok(Kept::Same);
                }
                if !self.has_room(on) {
                    match self.cache.peek_lru() {
                        Some((victim, _)) if self.sketch.prefers(&address, victim) => {
                            self.cache.pop_lru();
                        }
                        _ => return Ok(Kept::Declined),
                    }
                }
                self.cache.put(address, block.clone());
            }
        }
        Ok(Kept::Stored)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn remove(&mut self, on: Shelf, address: &BlockAddress) -> Result<bool, StoreError> {
        Ok(match on {
            Shelf::Owned => self.owned.remove(address).is_some(),
            Shelf::Pinned => self.pinned.remove(address).is_some(),
            Shelf::Cache => self.cache.pop(address).is_some(),
            Shelf::Client => self.client.pop(address).is_some(),
        })
    }

    fn holds(&self, on: Shelf, address: &BlockAddress) -> bool {
        match on {
            Shelf::Owned => self.owned.contains_key(address),
            Shelf::Pinned => self.pinned.contains_key(address),
            Shelf::Client => self.client.contains(address),
            Shelf::Cache => false,
        }
    }

    fn addresses(
        &self,
        on: Shelf,
        after: Option<&BlockAddress>,
        limit: usize,
    ) -> Vec<BlockAddress> {
        let from = after.map_or(Unbounded, |address| Excluded(*address));
        if let Some(map) = self.map(on) {
            return map.range((from, Unbounded)).take(limit).map(|(address, _)| *address).collect();
        }
        if on == Shelf::Cache {
            return Vec::new();
        }
        let above = |address: &&BlockAddress| after.is_none_or(|after| *address > after);
        let mut all: Vec<_> = self.client.iter().map(|(it, _)| it).filter(above).copied().collect();
        all.sort_unstable();
        all.truncate(limit);
        all
    }

    fn usage(&self, on: Shelf) -> Usage {
        let blocks = self.blocks(on) as u64;
        Usage { blocks, bytes: blocks * BLOCK_COST, bytes_max: self.limits.of(on) }
    }

    fn damaged(&self) -> u64 {
        0
    }

    fn note(&mut self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.notes.get(name).cloned())
    }

    fn set_note(&mut self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.notes.insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn mend(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::testing;

    #[test]
    fn memory_keeps_the_rules_of_every_block_store() {
        testing::run(|limits| Box::new(MemoryBlocks::new(limits)));
    }
}
