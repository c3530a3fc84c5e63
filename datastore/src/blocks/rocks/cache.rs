//! The cache on disk: generations that come and go whole.
//!
//! Lives here: the blocks in front in memory, the generations, who is let in and who stays for another
//! round. Does not live here: counts of uses (`admission.rs`), the database (`rocks.rs`).
//!
//! ```text
//!  put --> front (LRU in memory) --pushed out--> wanted more than the oldest? --no--> gone
//!                                                     | yes
//!                                                     v
//!  cache-9  cache-8  ...  cache-2  --dropped when the newest is full--> its most wanted once more
//!  newest                 oldest
//! ```
//!
//! A generation is a column family, a ninth of the room (the ninth is being made while the eighth goes). Dropping one frees its files at once,
//! whatever it held: no tombstones, no compaction, no garbage; a block is written once, and once more
//! for each second chance. Without the write-ahead log: after a crash what was in memory is gone, and
//! nobody misses it but for a fetch.

use std::{collections::VecDeque, num::NonZeroUsize};

use lru::LruCache;
use rocksdb::{DB, ErrorKind};
use warren_overlay::block::{Block, BlockAddress};

use super::{
    super::{BLOCK_COST, BlockLimits, Kept, Shelf, admission::Sketch, seal::StoreKey},
    disk, missing, options,
};
use crate::store::StoreError;

/// Generations at most. Eight: what is dropped at once is an eighth.
const GENERATIONS: u64 = 8;
/// Of a dropped generation, the part that may stay for another round.
const SECOND_CHANCE: u64 = 4;
const PREFIX: &str = "cache-";

/// One column family of the cache.
#[derive(Debug)]
struct Generation {
    number: u32,
    blocks: u64,
    /// What was put in this run: who they are, for comparing and for second chances. Those of earlier
    /// runs are not known and have no second chance.
    known: Vec<BlockAddress>,
    /// Whose turn it is to be compared.
    next: usize,
}

impl Generation {
    fn name(&self) -> String {
        format!("{PREFIX}{:08x}", self.number)
    }
}

/// The cache.
#[derive(Debug)]
pub(super) struct Cache {
    per_generation: u64,
    front: LruCache<BlockAddress, Block>,
    sketch: Sketch,
    /// Newest first.
    generations: VecDeque<Generation>,
    next_number: u32,
}

impl Cache {
    pub(super) fn new(limits: BlockLimits) -> Self {
        let blocks = limits.cache / BLOCK_COST;
        let front = usize::try_from(limits.front / BLOCK_COST).unwrap_or(0);
        Self {
            per_generation: blocks / (GENERATIONS + 1),
            front: LruCache::new(NonZeroUsize::new(front).unwrap_or(NonZeroUsize::MIN)),
            sketch: Sketch::new(blocks),
            generations: VecDeque::new(),
            next_number: 0,
        }
    }

    /// Takes over the generations of earlier runs; as many as fit.
    pub(super) fn load(&mut self, db: &mut DB) -> Result<(), StoreError> {
        self.generations.clear();
        let mut numbers: Vec<u32> = options::cache_families(db)
            .iter()
            .filter_map(|name| u32::from_str_radix(name.strip_prefix(PREFIX)?, 16).ok())
            .collect();
        numbers.sort_unstable();
        for number in numbers {
            let mut generation = Generation { number, blocks: 0, known: Vec::new(), next: 0 };
            self.next_number = self.next_number.max(number + 1);
            if let Some(family) = db.cf_handle(&generation.name()) {
                generation.blocks = options::size(db, family).div_ceil(BLOCK_COST);
            }
            self.generations.push_front(generation);
        }
        while self.bytes() > self.per_generation * GENERATIONS * BLOCK_COST
            || self.generations.len() as u64 > GENERATIONS
        {
            let Some(oldest) = self.generations.pop_back() else { break };
            db.drop_cf(&oldest.name()).map_err(disk)?;
        }
        Ok(())
    }

    pub(super) fn blocks(&self) -> u64 {
        self.generations.iter().map(|it| it.blocks).sum()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.blocks() * BLOCK_COST
    }

    /// The block, and how many damaged ones were met.
    pub(super) fn get(
        &mut self,
        db: &DB,
        key: &StoreKey,
        address: &BlockAddress,
    ) -> Result<(Option<Block>, u64), StoreError> {
        self.sketch.touch(address);
        if let Some(block) = self.front.get(address) {
            return Ok((Some(block.clone()), 0));
        }
        let (block, damaged) = self.read(db, key, address)?;
        if let Some(block) = &block {
            // Already on the disk: whoever it pushes out is judged when it is put again.
            self.front.put(*address, block.clone());
        }
        Ok((block, damaged))
    }

    fn read(
        &self,
        db: &DB,
        key: &StoreKey,
        address: &BlockAddress,
    ) -> Result<(Option<Block>, u64), StoreError> {
        let name = key.name(&[Shelf::Cache as u8], address.as_bytes());
        let mut damaged = 0;
        for generation in &self.generations {
            let family = db.cf_handle(&generation.name()).ok_or_else(missing)?;
            let sealed = match db.get_pinned_cf(family, name) {
                Ok(None) => continue,
                Ok(Some(sealed)) => sealed,
                Err(error) if error.kind() == ErrorKind::Corruption => {
                    damaged += 1;
                    continue;
                }
                Err(error) => return Err(disk(error)),
            };
            match key.open_block(Shelf::Cache, address, &sealed) {
                Some(block) => return Ok((Some(block), damaged)),
                None => damaged += 1,
            }
        }
        Ok((None, damaged))
    }

    /// A block passed by.
    pub(super) fn put(
        &mut self,
        db: &mut DB,
        key: &StoreKey,
        block: &Block,
    ) -> Result<Kept, StoreError> {
        if self.per_generation == 0 {
            return Ok(Kept::Declined);
        }
        let address = block.address();
        self.sketch.touch(&address);
        if self.front.get(&address).is_some() {
            return Ok(Kept::Same);
        }
        match self.front.push(address, block.clone()) {
            Some((old, pushed_out)) if old != address => self.admit(db, key, &pushed_out),
            _ => Ok(Kept::Stored),
        }
    }

    /// A block leaves the front: to the disk, if it is worth it.
    fn admit(&mut self, db: &mut DB, key: &StoreKey, block: &Block) -> Result<Kept, StoreError> {
        let address = block.address();
        let name = key.name(&[Shelf::Cache as u8], address.as_bytes());
        for generation in &self.generations {
            let family = db.cf_handle(&generation.name()).ok_or_else(missing)?;
            if db.key_may_exist_cf(family, name)
                && db.get_pinned_cf(family, name).map_err(disk)?.is_some()
            {
                return Ok(Kept::Same);
            }
        }
        let full = self.generations.len() as u64 >= GENERATIONS;
        if full && !self.is_preferred(&address) {
            return Ok(Kept::Declined);
        }
        self.make_room(db, key)?;
        self.write(db, key, block)?;
        Ok(Kept::Stored)
    }

    /// Compares with one of the oldest generation, each in turn.
    fn is_preferred(&mut self, address: &BlockAddress) -> bool {
        let Some(oldest) = self.generations.back_mut() else { return true };
        let Some(victim) = oldest.known.get(oldest.next) else {
            // An earlier run's, of whom nothing is known, or all were compared.
            oldest.next = 0;
            return oldest.known.is_empty();
        };
        oldest.next += 1;
        self.sketch.prefers(address, victim)
    }

    /// Begins another generation if the newest is full, and drops the oldest if there are too many.
    fn make_room(&mut self, db: &mut DB, key: &StoreKey) -> Result<(), StoreError> {
        if self.generations.front().is_some_and(|newest| newest.blocks < self.per_generation) {
            return Ok(());
        }
        let generation =
            Generation { number: self.next_number, blocks: 0, known: Vec::new(), next: 0 };
        db.create_cf(generation.name(), &options::blobs()).map_err(disk)?;
        self.next_number = self.next_number.wrapping_add(1);
        self.generations.push_front(generation);
        while self.generations.len() as u64 > GENERATIONS {
            let Some(oldest) = self.generations.pop_back() else { break };
            self.second_chances(db, key, &oldest)?;
            db.drop_cf(&oldest.name()).map_err(disk)?;
        }
        Ok(())
    }

    /// Of a generation that goes, those wanted most are put once more.
    fn second_chances(
        &mut self,
        db: &DB,
        key: &StoreKey,
        oldest: &Generation,
    ) -> Result<(), StoreError> {
        let mut wanted: Vec<(u8, BlockAddress)> =
            oldest.known.iter().map(|it| (self.sketch.uses(it), *it)).collect();
        wanted.retain(|(uses, _)| *uses > 1);
        wanted.sort_unstable_by(|a, b| b.cmp(a));
        wanted.truncate(usize::try_from(self.per_generation / SECOND_CHANCE).unwrap_or(0));
        for (_, address) in wanted {
            let name = key.name(&[Shelf::Cache as u8], address.as_bytes());
            let family = db.cf_handle(&oldest.name()).ok_or_else(missing)?;
            let sealed = db.get_pinned_cf(family, name).ok().flatten();
            let block = sealed.and_then(|it| key.open_block(Shelf::Cache, &address, &it));
            if let Some(block) = block {
                self.write(db, key, &block)?;
            }
        }
        Ok(())
    }

    fn write(&mut self, db: &DB, key: &StoreKey, block: &Block) -> Result<(), StoreError> {
        let Some(newest) = self.generations.front_mut() else { return Ok(()) };
        let family = db.cf_handle(&newest.name()).ok_or_else(missing)?;
        let address = block.address();
        let name = key.name(&[Shelf::Cache as u8], address.as_bytes());
        let sealed = key.seal_block(Shelf::Cache, block);
        db.put_cf_opt(family, name, sealed, &options::write(false)).map_err(disk)?;
        newest.blocks += 1;
        newest.known.push(address);
        Ok(())
    }

    /// Writes down what is in memory.
    pub(super) fn flush(&self, db: &DB) {
        if let Some(newest) = self.generations.front()
            && let Some(family) = db.cf_handle(&newest.name())
        {
            // If it fails, the blocks are fetched again some day.
            let _ = db.flush_cf(family);
        }
    }
}
