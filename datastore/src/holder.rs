//! The holder: decides what this router keeps for others, for how long, and who else must have it.
//!
//! Lives here: the machine's border; for records puts and gets, expiry. Does not live here: accounts and quotas
//! (`holder/books.rs`), copies for other routers (`holder/spread.rs`), blocks (`holder/shelf.rs` and what it names: a
//! machine of its own inside this one), bytes on disk (`rocks.rs`, `blocks/`),
//! signatures: whoever brings a record here has checked it (`Record::decode`). In words:
//! docs/spec/record.md.
//!
//! ```text
//! Put ──> expiry in bounds? ──> not FAR from the key? ──> higher version? ──> pace, quota, room ──> kept
//!              │ no: Refused        │ no: Refused            │ no: Stale           │ no: Refused
//! ```

mod arcs;
#[cfg(test)]
mod block_tests;
mod books;
mod compare;
#[cfg(test)]
mod compare_tests;
mod compares;
mod repair;
mod shelf;
mod spread;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, time::Duration};

use warren_overlay::{
    block::{Block, BlockAddress},
    garlic::Room,
    id::{Key, LinkNo, Location},
    record::{Record, RecordSize},
    ring::{Held, Repair, RingMessage, StoreOp},
    rng::Rng,
    time::{Now, Time},
    unit::{Unit, UnitKey},
};

pub use self::spread::FAR;
use self::{
    books::{Books, Source},
    shelf::Blocks,
    spread::Spread,
};
use crate::{
    blocks::{BLOCK_COST, BlockStore, MemoryBlocks, Shelf, Usage},
    store::{PutOutcome, RecordStore},
};

/// What repair of blocks may use unless said otherwise, in bytes a second: a tenth of 10 Mbit/s.
pub const REPAIR_RATE: u64 = 125_000;
/// Furthest that a large record's expiry may lie ahead, in minutes: one day. A service's records live
/// three hours; what somebody forgets to refresh takes nobody's room for long.
pub const EXPIRY_AHEAD_MAX: u32 = 24 * 60;
/// The same for a small record, such as those of stored sites, which outlive their publisher: 400 days
/// (decision 0003).
pub const LASTING_AHEAD_MAX: u32 = 400 * 24 * 60;
/// How often expired records are looked for: wall time counts minutes.
pub const SWEEP_EVERY: Duration = Duration::from_mins(1);
/// Records dropped in one sweep; the rest follow `SWEEP_MORE` later.
const SWEEP_MAX: usize = 256;
const SWEEP_MORE: Duration = Duration::from_millis(250);
/// Records read at once when the books are opened: 1 MiB.
const OPEN_BATCH: usize = 256;
/// Records that make room for one: the shortest is half as long as the longest.
const EVICT_MAX: usize = 2;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HolderInput {
    /// The ring wants something of the store; with a ticket, `Held` follows, always and once.
    /// Without one, a put is a copy that a neighbour sent unasked.
    Store {
        /// What to answer to.
        ticket: Option<u32>,
        /// What to do. The record's signature was checked.
        op: StoreOp,
    },
    /// These are the ring's neighbours now: all of them, at most 64 and a few.
    Neighbourhood(Vec<(LinkNo, Location)>),
    /// What became of a [`HolderOutput::Push`].
    Pushed {
        /// Its number.
        push: u32,
        /// Whether the neighbour has the block now.
        stored: bool,
    },
    /// A neighbour has this to say about blocks that both should hold.
    Repair {
        /// The neighbour's link.
        link: LinkNo,
        /// What it says.
        repair: Repair,
    },
    /// The router leaves: send what is held to those closest to it, then say `HandedOver`, within
    /// 2.5 s. Nothing is taken in any more.
    HandOver,
}

/// What the owner must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HolderOutput {
    /// The answer to `Store`.
    Held {
        /// Its ticket.
        ticket: u32,
        /// What the store says.
        held: Held,
    },
    /// Say this to a neighbour; it is a `Replicate`.
    Send {
        /// The neighbour's link.
        link: LinkNo,
        /// What to say.
        message: RingMessage,
    },
    /// Have the neighbour keep a copy of this block; `Pushed` follows.
    Push {
        /// A number for it.
        push: u32,
        /// The neighbour's link.
        link: LinkNo,
        /// The block.
        block: Block,
    },
    /// Say this to a neighbour about blocks that both should hold.
    Repair {
        /// The neighbour's link.
        link: LinkNo,
        /// What to say.
        repair: Repair,
    },
    /// Everything was handed over, or time was up.
    HandedOver,
}

/// What an operator may see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HolderStatus {
    /// Records held.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Most bytes.
    pub bytes_max: u64,
    /// Puts refused since the start: bounds, quotas, or no room.
    pub refused: u64,
    /// Records dropped to make room since the start.
    pub evicted: u64,
    /// Records found damaged and dropped since the start.
    pub damaged: u64,
    /// Times that the disk failed since the start.
    pub failures: u64,
    /// Blocks owned, and bytes that they take with all garbage.
    pub blocks: u64,
    /// Bytes that owned blocks take, garbage included.
    pub block_bytes: u64,
    /// Most bytes of owned blocks.
    pub block_bytes_max: u64,
    /// Blocks in the cache.
    pub blocks_cached: u64,
    /// Blocks sent to neighbours that lacked them, and confirmed, since the start.
    pub blocks_repaired: u64,
}

/// The record holder of one router.
#[derive(Debug)]
pub struct Holder {
    store: Box<dyn RecordStore>,
    books: Books,
    own: Location,
    /// Neighbours, by link.
    around: Vec<(LinkNo, Location)>,
    spread: Spread,
    blocks: Blocks,
    handed_over: bool,
    sweep_at: Time,
    /// One for each input, and what one timeout may send: bounded as the owner drains it each time.
    out: VecDeque<HolderOutput>,
    refused: u64,
    evicted: u64,
    failures: u64,
}

impl Holder {
    /// The holder of the router at `location`, with what `store` kept from last time, and blocks in
    /// memory ([`Self::with_blocks`] puts them elsewhere). `rng`: for what nobody but a neighbour may guess.
    pub fn new(store: Box<dyn RecordStore>, location: Location, rng: Rng) -> Self {
        let mut holder = Self {
            books: Books::new(location, store.bytes_max()),
            store,
            own: location,
            around: Vec::new(),
            spread: Spread::Idle,
            blocks: Blocks::new(Box::new(MemoryBlocks::default()), location, REPAIR_RATE, rng),
            handed_over: false,
            sweep_at: Time::ZERO,
            out: VecDeque::new(),
            refused: 0,
            evicted: 0,
            failures: 0,
        };
        holder.open_books();
        holder
    }

    /// The same with blocks in `blocks`, where what was kept last time is kept on. Repair may use so
    /// many bytes a second: a tenth of the operator's bandwidth (DESIGN section 8).
    #[must_use]
    pub fn with_blocks(
        mut self,
        blocks: Box<dyn BlockStore>,
        repair_bytes_per_second: u64,
    ) -> Self {
        let rng = self.blocks.compares.fork();
        self.blocks = Blocks::new(blocks, self.own, repair_bytes_per_second, rng);
        self
    }

    /// A block that the person here fetched before, or pinned. Never an answer to the ring: it would tell
    /// what was read here.
    pub fn fetched(&mut self, address: &BlockAddress) -> Option<Block> {
        // A disk that fails costs a repetition and nothing else.
        let mut on = |shelf| self.blocks.store.get(shelf, address).ok().flatten();
        on(Shelf::Client).or_else(|| on(Shelf::Pinned))
    }

    /// Keeps a block until [`Self::unpin`]; false when there is no room, or the disk fails.
    pub fn pin(&mut self, now: Time, block: &Block) -> bool {
        self.blocks.pin(now, block)
    }

    /// Up to `limit` addresses of pinned blocks above `after`, in order.
    pub fn pinned(&self, after: Option<&BlockAddress>, limit: usize) -> Vec<BlockAddress> {
        self.blocks.store.addresses(Shelf::Pinned, after, limit)
    }

    /// Keeps these blocks no longer.
    pub fn unpin(&mut self, blocks: &[BlockAddress]) {
        for address in blocks {
            // What stays for a disk that fails goes with the next sweep.
            let _ = self.blocks.store.remove(Shelf::Pinned, address);
        }
    }

    /// What pinned blocks take.
    pub fn pin_usage(&self) -> Usage {
        self.blocks.usage(Shelf::Pinned)
    }

    /// Keeps a block that the person here fetched, as long as there is room.
    pub fn keep_fetched(&mut self, block: &Block) {
        let _ = self.blocks.store.put(Shelf::Client, block);
    }

    fn open_books(&mut self) {
        let mut after = None;
        loop {
            let Ok(some) = self.store.range(after.as_ref(), OPEN_BATCH) else {
                self.failures += 1;
                return;
            };
            for record in &some {
                self.books.insert(Source::Gone, record, Vec::new());
            }
            match some.last() {
                Some(last) if some.len() == OPEN_BATCH => after = Some(last.key()),
                _ => return,
            }
        }
    }

    /// Something happened.
    pub fn handle_input(&mut self, now: Now, input: HolderInput) {
        match input {
            HolderInput::Store { ticket, op } => {
                let held = self.operate(now, ticket, op);
                if let (Some(ticket), Some(held)) = (ticket, held) {
                    self.out.push_back(HolderOutput::Held { ticket, held });
                }
            }
            HolderInput::Neighbourhood(around) => self.neighbourhood(now, around),
            HolderInput::HandOver => {
                self.blocks.leave(now.time);
                self.leave(now.time);
            }
            HolderInput::Pushed { push, stored } => self.blocks.pushed(now.time, push, stored),
            HolderInput::Repair { link, repair } => match repair {
                Repair::Offer(blocks) => self.blocks.offered(now.time, link, blocks),
                Repair::Want(blocks) => self.blocks.wanted(now.time, link, blocks),
                Repair::Compare(compare) => self.blocks.compared(now.time, link, &compare),
            },
        }
        self.settle();
    }

    /// What the ring wants of the store; `None`: the answer follows.
    fn operate(&mut self, now: Now, ticket: Option<u32>, op: StoreOp) -> Option<Held> {
        let source = |from: Option<LinkNo>| match (from, ticket) {
            (None, _) => Source::Own,
            (Some(link), Some(_)) => Source::Put(link),
            (Some(link), None) => Source::Copy(link),
        };
        match op {
            StoreOp::Get(UnitKey::Record(key)) => Some(self.get(now, &key)),
            StoreOp::Get(UnitKey::Block(address)) => Some(self.blocks.get(now.time, &address)),
            StoreOp::Put { unit: Unit::Record(record), from } => {
                let held = self.put(now, source(from), &record);
                self.refused += u64::from(held == Held::Refused);
                Some(held)
            }
            StoreOp::Put { unit: Unit::Block(block), from } => {
                self.blocks.put(now.time, ticket, source(from), &block)
            }
            StoreOp::Cache { block, from } => {
                self.blocks.cache(now.time, &block, from);
                None
            }
        }
    }

    /// Passes on what the blocks' part has to say.
    fn settle(&mut self) {
        self.out.append(&mut self.blocks.out);
        let left = matches!(self.spread, Spread::Left) && self.blocks.repair.has_left();
        if left && !std::mem::replace(&mut self.handed_over, true) {
            self.out.push_back(HolderOutput::HandedOver);
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Now) {
        if now.time >= self.sweep_at {
            self.sweep(now);
        }
        self.spread_timeout(now);
        self.blocks.handle_timeout(now.time);
        self.settle();
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<HolderOutput> {
        self.out.pop_front()
    }

    /// When to be woken.
    pub fn poll_timeout(&self) -> Option<Time> {
        let sweep = (self.books.len() > 0).then_some(self.sweep_at);
        let parts = [self.spread.next(), self.blocks.poll_timeout()];
        sweep.into_iter().chain(parts.into_iter().flatten()).min()
    }

    /// Records held.
    pub fn len(&self) -> u64 {
        self.books.len() as u64
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.books.len() == 0
    }

    /// Room for others' blocks. What a shelf needs beside them is not counted as free (docs/spec/blocks.md,
    /// section 2).
    pub fn room(&self) -> Room {
        let Usage { blocks, bytes_max, .. } = self.blocks.usage(Shelf::Owned);
        let all = bytes_max / 4 * 3 / BLOCK_COST;
        Room { free: all.saturating_sub(blocks), all }
    }

    /// What an operator may see.
    pub fn status(&self) -> HolderStatus {
        HolderStatus {
            records: self.len(),
            bytes: self.books.bytes(),
            bytes_max: self.store.bytes_max(),
            refused: self.refused + self.blocks.refused,
            evicted: self.evicted + self.blocks.evicted,
            damaged: self.store.damaged(),
            failures: self.failures + self.blocks.failures,
            blocks: self.blocks.usage(Shelf::Owned).blocks,
            block_bytes: self.blocks.usage(Shelf::Owned).bytes,
            block_bytes_max: self.blocks.usage(Shelf::Owned).bytes_max,
            blocks_cached: self.blocks.usage(Shelf::Cache).blocks,
            blocks_repaired: self.blocks.repair.pushed,
        }
    }

    fn get(&mut self, now: Now, key: &Key) -> Held {
        if self.books.get(key).is_none_or(|it| it.expiry <= now.wall) {
            return Held::Missing;
        }
        self.read(key).map_or(Held::Missing, |record| Held::Found(record.into()))
    }

    /// Reads a record that the books know; one that the store lost is struck out.
    fn read(&mut self, key: &Key) -> Option<Record> {
        match self.store.get(key) {
            Ok(Some(record)) if record.key() == *key => Some(record),
            Ok(_) => {
                self.books.remove(key);
                None
            }
            Err(_) => {
                self.failures += 1;
                None
            }
        }
    }

    fn put(&mut self, now: Now, source: Source, record: &Record) -> Held {
        let expiry = record.expiry();
        let leaving = matches!(self.spread, Spread::Leaving { .. } | Spread::Left);
        if leaving || expiry <= now.wall || expiry > now.wall.plus(ahead_max(record)) {
            return Held::Refused;
        }
        let key = record.key();
        let closest = self.closest(&key, true);
        if closest.closer > FAR {
            return Held::Refused;
        }
        match self.books.get(&key).map(|old| old.version) {
            Some(version) if version > record.version() => return Held::Stale,
            Some(version) if version == record.version() => {
                match self.read(&key) {
                    Some(old) if old == *record => return Held::Stored,
                    Some(_) => return Held::Stale,
                    // Damaged: this one mends it. A disk that does not answer will refuse below.
                    None => {}
                }
            }
            Some(_) | None => {}
        }
        if !self.books.may_write(now.time, source)
            || !self.books.within_quota(source, record)
            || !self.make_room(source, record)
        {
            return Held::Refused;
        }
        match self.store.put(record) {
            Ok(PutOutcome::Stored | PutOutcome::Same) => {
                // The ring sends it to the others of the three, or they sent it.
                self.books.insert(source, record, closest.targets);
                Held::Stored
            }
            Ok(PutOutcome::Stale) => Held::Stale,
            Err(_) => {
                self.failures += 1;
                Held::Refused
            }
        }
    }

    fn make_room(&mut self, source: Source, record: &Record) -> bool {
        for _ in 0..EVICT_MAX {
            if self.books.excess(record) == 0 {
                return true;
            }
            let Some(victim) = self.books.victim(source, record) else { return false };
            self.evicted += 1;
            self.drop_record(&victim);
        }
        self.books.excess(record) == 0
    }

    /// Drops a record. If the disk refuses, it is at least not served any more in this run.
    fn drop_record(&mut self, key: &Key) {
        self.failures += u64::from(self.store.remove(key).is_err());
        self.books.remove(key);
    }

    fn sweep(&mut self, now: Now) {
        for _ in 0..SWEEP_MAX {
            let Some(key) = self.books.expired(now.wall) else { break };
            self.drop_record(&key);
        }
        let more = self.books.expired(now.wall).is_some();
        self.sweep_at = now.time + if more { SWEEP_MORE } else { SWEEP_EVERY };
    }

    fn neighbourhood(&mut self, now: Now, mut around: Vec<(LinkNo, Location)>) {
        around.sort_unstable();
        around.dedup_by_key(|(link, _)| *link);
        if around == self.around {
            return;
        }
        self.blocks.neighbourhood(now.time, around.clone());
        self.around = around;
        let links = &self.around;
        self.books.keep_links(|link| links.binary_search_by_key(&link, |(it, _)| *it).is_ok());
        if self.books.len() > 0 {
            self.spread.changed(now.time);
        }
    }
}

/// How far ahead a record's expiry may lie, in minutes.
fn ahead_max(record: &Record) -> u32 {
    if record.encode().len() == RecordSize::Small.bytes() {
        LASTING_AHEAD_MAX
    } else {
        EXPIRY_AHEAD_MAX
    }
}
