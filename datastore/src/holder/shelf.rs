//! The holder's blocks: what is taken in, acknowledged, passed on and repaired.
//!
//! Lives here: the machine's state, puts and gets, group commit, the guard against floods. Does not
//! live here: keeping three copies while routers come and go (`repair.rs`, `compares.rs`), bytes on disk
//! (`blocks/`). In words: docs/spec/blocks.md.
//!
//! ```text
//! Put ──> not FAR from it? ──> pace and quota of who brings it ──> room? ──> on the shelf ──┐
//!            │ no: Refused           │ no: Refused      no: Refused                          │ 5 ms, or 32 puts
//!                                                            Held{Stored} <── one sync ──────┘
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use warren_overlay::{
    block::{Block, BlockAddress},
    id::{LinkNo, Location},
    ring::Held,
    rng::Rng,
    time::Time,
};

use super::{
    HolderOutput, arcs::Arcs, books::Source, compares::Compares, repair::Repair, spread::FAR,
};
use crate::{
    blocks::{BLOCK_COST, BlockStore, Kept, Shelf, Usage},
    store::StoreError,
};

/// Puts wait so long for others to share a sync with.
const COMMIT_DELAY: Duration = Duration::from_millis(5);
/// Or until so many wait: the ring's windows let 256 be under way in all.
const COMMIT_PUTS: usize = 32;
/// Blocks that a source may bring at once, 32 MiB; then one each `BLOCK_EVERY`.
const BLOCKS_BURST: u32 = 1_024;
/// 128 blocks a second, 4 MiB.
const BLOCK_EVERY: Duration = Duration::from_micros(1_000_000 / 128);
/// What came within a day has a part of the shelf, once all of it is taken: whatever comes at once then pushes
/// out that, and at most so much of what has lain here longer.
const FRESH_FOR: Duration = Duration::from_hours(24);
const FRESH_PART: u64 = 8;
/// Addresses read at once when the books are opened.
const OPEN_BATCH: usize = 1_024;
/// After the disk failed, it is tried again this often.
const MEND_EVERY: Duration = Duration::from_secs(30);

/// What the books say about one owned block.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    source: Source,
    /// Neighbours that are believed to have it too: presumed, or it was offered and they did not want it.
    pub(super) copies: Vec<LinkNo>,
}

/// Takes a block out of a source's account; says whether it was there.
fn strike(
    accounts: &mut BTreeMap<Source, BTreeSet<(u64, BlockAddress)>>,
    source: Source,
    own: Location,
    address: BlockAddress,
) -> bool {
    let Some(account) = accounts.get_mut(&source) else { return false };
    let was = account.remove(&(own.distance(address.location()), address));
    if account.is_empty() {
        accounts.remove(&source);
    }
    was
}

/// The blocks of one holder.
#[derive(Debug)]
pub(super) struct Blocks {
    pub(super) store: Box<dyn BlockStore>,
    pub(super) own: Location,
    /// Neighbours, by link.
    pub(super) around: Vec<(LinkNo, Location)>,
    pub(super) entries: BTreeMap<BlockAddress, Entry>,
    /// What each source brought, with how far each block is from this router.
    accounts: BTreeMap<Source, BTreeSet<(u64, BlockAddress)>>,
    /// The same of what came within a day; and when each came.
    fresh: BTreeMap<Source, BTreeSet<(u64, BlockAddress)>>,
    arrivals: VecDeque<(Time, BlockAddress)>,
    /// When what a source brought is paid for; apart for what passed by.
    paces: BTreeMap<(Source, bool), Time>,
    /// Tickets of puts that wait for the sync.
    uncommitted: Vec<u32>,
    commit_at: Option<Time>,
    mend_at: Option<Time>,
    pub(super) repair: Repair,
    pub(super) compares: Compares,
    pub(super) out: VecDeque<HolderOutput>,
    pub(super) refused: u64,
    pub(super) evicted: u64,
    pub(super) failures: u64,
}

impl Blocks {
    /// What `store` kept from last time; repair may use so many bytes a second.
    pub(super) fn new(
        store: Box<dyn BlockStore>,
        own: Location,
        repair_bytes_per_second: u64,
        rng: Rng,
    ) -> Self {
        let mut this = Self {
            store,
            own,
            around: Vec::new(),
            entries: BTreeMap::new(),
            accounts: BTreeMap::new(),
            fresh: BTreeMap::new(),
            arrivals: VecDeque::new(),
            paces: BTreeMap::new(),
            uncommitted: Vec::new(),
            commit_at: None,
            mend_at: None,
            repair: Repair::new(own, repair_bytes_per_second),
            compares: Compares::new(rng, Arcs::default()),
            out: VecDeque::new(),
            refused: 0,
            evicted: 0,
            failures: 0,
        };
        let mut after = None;
        loop {
            let some = this.store.addresses(Shelf::Owned, after.as_ref(), OPEN_BATCH);
            for address in &some {
                this.enter(Source::Gone, *address);
            }
            after = some.last().copied();
            if some.len() < OPEN_BATCH {
                return this;
            }
        }
    }

    /// What lies on a shelf.
    pub(super) fn usage(&self, on: Shelf) -> Usage {
        self.store.usage(on)
    }

    fn enter(&mut self, source: Source, address: BlockAddress) {
        let distance = self.own.distance(address.location());
        self.accounts.entry(source).or_default().insert((distance, address));
        // Whoever brings it sees to the two others; if not, the next comparison does.
        let copies = self.compares.presumed(&address).collect();
        self.entries.insert(address, Entry { source, copies });
    }

    /// What came more than a day ago is fresh no longer.
    fn age(&mut self, now: Time) {
        while let Some((came, address)) = self.arrivals.front().copied()
            && now.since(came) >= FRESH_FOR
        {
            self.arrivals.pop_front();
            if let Some(entry) = self.entries.get(&address) {
                strike(&mut self.fresh, entry.source, self.own, address);
            }
        }
    }

    /// Strikes a block out, and off the shelf.
    pub(super) fn drop_block(&mut self, now: Time, address: &BlockAddress) {
        if let Some(entry) = self.entries.remove(address) {
            strike(&mut self.accounts, entry.source, self.own, *address);
            if strike(&mut self.fresh, entry.source, self.own, *address) {
                self.arrivals.retain(|(_, other)| other != address);
            }
        }
        if let Err(error) = self.store.remove(Shelf::Owned, address) {
            self.failed(now, &error);
        }
    }

    /// Only these links are neighbours now: what others brought belongs to `Gone`.
    pub(super) fn keep_links(&mut self) {
        let around = &self.around;
        let stays =
            |source: &Source| source.link().is_none_or(|link| around.iter().any(|it| it.0 == link));
        self.paces.retain(|(source, _), _| stays(source));
        let left: Vec<Source> = self.accounts.keys().filter(|it| !stays(it)).copied().collect();
        for source in left {
            let Some(account) = self.accounts.remove(&source) else { continue };
            for (_, address) in &account {
                if let Some(entry) = self.entries.get_mut(address) {
                    entry.source = Source::Gone;
                }
            }
            self.accounts.entry(Source::Gone).or_default().extend(account);
            let fresh = self.fresh.remove(&source).unwrap_or_default();
            self.fresh.entry(Source::Gone).or_default().extend(fresh);
        }
        for entry in self.entries.values_mut() {
            entry.copies.retain(|link| around.iter().any(|it| it.0 == *link));
        }
    }

    pub(super) fn failed(&mut self, now: Time, error: &StoreError) {
        if let StoreError::Disk(_) | StoreError::Layout { .. } = error {
            if self.mend_at.is_none() {
                tracing::error!(%error, "blocks cannot be kept: is the disk full or broken?");
            }
            self.failures += 1;
            self.mend_at.get_or_insert(now + MEND_EVERY);
        }
    }

    /// Looks a block up for the ring: never what the person here fetched or pinned.
    pub(super) fn get(&mut self, now: Time, address: &BlockAddress) -> Held {
        self.read(now, address).map_or(Held::Missing, |block| Held::Found(block.into()))
    }

    pub(super) fn read(&mut self, now: Time, address: &BlockAddress) -> Option<Block> {
        for on in [Shelf::Owned, Shelf::Cache] {
            match self.store.get(on, address) {
                Ok(Some(block)) => return Some(block),
                Ok(None) => {}
                Err(error) => self.failed(now, &error),
            }
        }
        if self.entries.contains_key(address) && !self.store.holds(Shelf::Owned, address) {
            self.drop_block(now, address); // found damaged just now
        }
        None
    }

    /// A block passed by.
    pub(super) fn cache(&mut self, now: Time, block: &Block, from: LinkNo) {
        let known = self.entries.contains_key(&block.address());
        if known || self.mend_at.is_some() || !self.may_bring(now, Source::Put(from), true) {
            return;
        }
        if let Err(error) = self.store.put(Shelf::Cache, block) {
            self.failed(now, &error);
        }
    }

    /// Keeps a block for the person here; synced with the next commit.
    pub(super) fn pin(&mut self, now: Time, block: &Block) -> bool {
        match self.store.put(Shelf::Pinned, block) {
            Ok(Kept::Stored) => {
                self.commit_at.get_or_insert(now + COMMIT_DELAY);
                true
            }
            Ok(kept) => kept == Kept::Same,
            Err(error) => {
                self.failed(now, &error);
                false
            }
        }
    }

    /// Whether `source` may bring a block now; if so, it is charged for one.
    fn may_bring(&mut self, now: Time, source: Source, passing: bool) -> bool {
        let paid_at = self.paces.entry((source, passing)).or_insert(now);
        let next = (*paid_at).max(now) + BLOCK_EVERY;
        let may = next.since(now) <= BLOCK_EVERY * BLOCKS_BURST;
        if may {
            *paid_at = next;
        }
        may
    }

    /// Keeps a block for others. `Some`: the answer; `None`: it follows the next sync.
    pub(super) fn put(
        &mut self,
        now: Time,
        ticket: Option<u32>,
        source: Source,
        block: &Block,
    ) -> Option<Held> {
        let held = self.take_in(now, source, block);
        match held {
            Held::Stored => {
                self.uncommitted.extend(ticket);
                self.commit_at.get_or_insert(now + COMMIT_DELAY);
                if self.uncommitted.len() >= COMMIT_PUTS {
                    self.commit(now);
                }
                None
            }
            other => {
                self.refused += 1;
                Some(other)
            }
        }
    }

    fn take_in(&mut self, now: Time, source: Source, block: &Block) -> Held {
        let address = block.address();
        self.repair.arrived(&address);
        if self.entries.contains_key(&address) {
            return Held::Stored; // maybe not synced yet: this one waits as well
        }
        if self.repair.is_leaving() || self.mend_at.is_some() || self.closer(&address) > FAR {
            return Held::Refused;
        }
        self.age(now);
        if !self.may_bring(now, source, false) || !self.within_quota(source) {
            return Held::Refused;
        }
        for _ in 0..2 {
            match self.store.put(Shelf::Owned, block) {
                Ok(Kept::Stored | Kept::Same) => {
                    self.enter(source, address);
                    let distance = self.own.distance(address.location());
                    self.fresh.entry(source).or_default().insert((distance, address));
                    self.arrivals.push_back((now, address));
                    return Held::Stored;
                }
                Ok(Kept::Declined) => return Held::Refused,
                Err(StoreError::Full { .. }) => {
                    let Some(victim) = self.victim(source) else { return Held::Refused };
                    let theirs = self.entries.get(&victim).is_some_and(|it| it.source != source);
                    let far = |it: &BlockAddress| self.own.distance(it.location());
                    if !theirs && far(&victim) <= far(&address) {
                        return Held::Refused;
                    }
                    self.evicted += 1;
                    self.drop_block(now, &victim);
                }
                Err(error) => {
                    self.failed(now, &error);
                    return Held::Refused;
                }
            }
        }
        Held::Refused
    }

    /// The guard against floods: nobody who is still here may have more than a part of the room.
    fn within_quota(&self, source: Source) -> bool {
        let room = self.store.usage(Shelf::Owned).bytes_max / BLOCK_COST;
        let most = match source {
            Source::Gone => room,
            Source::Own => room / 2,
            Source::Put(_) | Source::Copy(_) => (room / 4).max(1),
        };
        (self.accounts.get(&source).map_or(0, BTreeSet::len) as u64) < most
    }

    /// Whether what came within a day has its part of the shelf.
    fn is_flooded(&self) -> bool {
        self.arrivals.len() as u64 > self.store.usage(Shelf::Owned).blocks / FRESH_PART
    }

    /// What goes to make room for `source`: of who has most, what is farthest from here; `None` if that is
    /// `source` itself. Where what came within a day has its part of the shelf, only that is counted, and goes:
    /// then of who has most, or of `source` itself for what is closer.
    fn victim(&self, source: Source) -> Option<BlockAddress> {
        let flooded = self.is_flooded();
        let books = if flooded { &self.fresh } else { &self.accounts };
        let mine = books.get(&source);
        let most = books.values().max_by_key(|it| it.len())?;
        let account = if most.len() > mine.map_or(0, BTreeSet::len) + 1 {
            most
        } else {
            mine.filter(|_| flooded)?
        };
        account.last().map(|(_, address)| *address)
    }

    /// How far away a block may be that `source` brings as a copy: where there is room, anywhere. Where
    /// there is none it must be closer than what would go, else two copies that both belong here would push
    /// each other out for ever.
    pub(super) fn room_for_copies(&self, source: Source) -> u64 {
        let usage = self.store.usage(Shelf::Owned);
        if !self.within_quota(source) {
            0
        } else if usage.bytes + BLOCK_COST <= usage.bytes_max {
            u64::MAX
        } else {
            self.victim(source).map_or(0, |it| self.own.distance(it.location()))
        }
    }

    /// Neighbours that are closer to an address than this router.
    pub(super) fn closer(&self, address: &BlockAddress) -> usize {
        let place = address.location();
        let mine = self.own.distance(place);
        self.around.iter().filter(|(_, it)| it.distance(place) < mine).count()
    }

    /// One sync for all puts that wait; then they are acknowledged, or refused.
    pub(super) fn commit(&mut self, now: Time) {
        self.commit_at = None;
        let held = match self.store.commit() {
            Ok(()) => Held::Stored,
            Err(error) => {
                self.failed(now, &error);
                Held::Refused
            }
        };
        for ticket in self.uncommitted.drain(..) {
            self.out.push_back(HolderOutput::Held { ticket, held: held.clone() });
        }
    }

    /// Time passed.
    pub(super) fn handle_timeout(&mut self, now: Time) {
        if self.commit_at.is_some_and(|at| at <= now) {
            self.commit(now);
        }
        if self.mend_at.take_if(|at| *at <= now).is_some() {
            match self.store.mend() {
                Ok(()) => tracing::info!("blocks are kept again"),
                Err(error) => self.failed(now, &error),
            }
        }
        self.repair_timeout(now);
    }

    /// When to be woken.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let repair = self.repair.next(!self.entries.is_empty());
        [self.commit_at, self.mend_at, repair, self.compares.next()].into_iter().flatten().min()
    }
}
