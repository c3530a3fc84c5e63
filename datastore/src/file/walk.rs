//! The way through a file's segments: which blocks are wanted next, and what becomes of them.
//!
//! Lives here: one walk from the root's table down to the content, for reading a range, for repair and
//! for samples. Does not live here: the root (`read.rs` and `repair.rs` open it), who is asked.
//!
//! ```text
//! root's table ─> level 2: jobs ─ bytes of level 1's table ─> level 1: jobs ─ ... ─> level 0: jobs ─> content
//! job: one segment (`job.rs`)
//! ```
//!
//! Each level is read from front to back; two segments of the content are under way at a time, of each
//! table one. A block that comes late is still taken while its segment is open.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
};

use warren_overlay::{
    block::{Block, BlockAddress},
    crypto::secret::Secret,
    rng::Rng,
};

use super::{
    job::{Job, Slot, State, sample},
    key,
    layout::{CHUNK_LEN, Layout, Level},
};
use crate::{erasure::Coder, manifest::RootError};

/// The level number of a root's copies.
pub const ROOT_LEVEL: u8 = 255;
/// Segments of the content under way at once: while one is delivered the next is fetched. 2 x 512
/// blocks of 32 KiB are 32 MiB.
const JOBS_MAX: usize = 2;
/// Rebuilt blocks of a reading that wait to be put back; more are forgotten.
const HEALED_MAX: usize = 256;

/// Where in a file a block belongs. Blocks of one `level` and `segment` are a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// 0 the content, above it tables, [`ROOT_LEVEL`] the root.
    pub level: u8,
    /// Number of the segment in its level.
    pub segment: u64,
    /// Number in the segment, data before parity; number of the copy of a root.
    pub index: u16,
}

/// What became of a block that was handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was wanted.
    Yes,
    /// It was not, or no longer.
    No,
}

/// Why reading or repair cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No copy of the root was found.
    #[error(
        "the file's root was not found at any of its {copies} places: try again later, or ask its publisher to put it again"
    )]
    NoRoot {
        /// How many places were asked.
        copies: usize,
    },
    /// The root was found and does not open.
    #[error(transparent)]
    Root(#[from] RootError),
    /// Too many blocks of one segment are gone.
    #[error(
        "{found} of the {needed} blocks needed for a part of the file were found: `warren heal` puts back what it finds; try again later"
    )]
    TooFew {
        /// How many were found.
        found: usize,
        /// How many are needed.
        needed: usize,
    },
    /// All blocks have their addresses, and still they are no file: its publisher made it wrongly.
    #[error("the file was stored wrongly by its publisher: ask for another key")]
    Inconsistent,
}

/// What a walk is for.
#[derive(Debug)]
pub(crate) enum Purpose {
    /// Deliver bytes.
    Read,
    /// Ask for every block and rebuild those that are missing.
    Repair,
    /// Ask for some blocks of each segment of the content and count.
    Sample(u16, Box<Rng>),
}

/// What a walk counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Blocks that were found.
    pub found: u64,
    /// Blocks that were asked for and not found.
    pub missing: u64,
    /// Of these, how many were rebuilt.
    pub rebuilt: u64,
    /// Segments that were gone through.
    pub segments: u64,
    /// Segments that had too few blocks left.
    pub lost: u64,
    /// Of the content's segment with the least redundancy: blocks needed, and in all.
    pub thinnest: Option<(usize, usize)>,
}

pub(crate) struct Walk {
    purpose: Purpose,
    index_key: Secret<32>,
    levels: Vec<LevelWalk>,
    /// Every address of an open job that was asked for.
    asked: BTreeMap<BlockAddress, Vec<Place>>,
    wants: VecDeque<BlockAddress>,
    coder: Coder,
    healed: VecDeque<Block>,
    pub(crate) summary: Summary,
    error: Option<ReadError>,
}

struct LevelWalk {
    level: Level,
    /// What of it is still to be delivered.
    bytes: Range<u64>,
    /// Segments not yet opened.
    segments: Range<u64>,
    jobs: VecDeque<Job>,
    /// Addresses of the next segments, as they came from the level above.
    table: VecDeque<u8>,
}

impl Walk {
    /// A walk over `bytes` of the content (clipped to its length).
    pub(crate) fn new(
        purpose: Purpose,
        layout: &Layout,
        table: &[BlockAddress],
        index_key: &Secret<32>,
        bytes: Range<u64>,
    ) -> Self {
        let mut range = bytes;
        let mut levels = Vec::new();
        for level in &layout.levels {
            range = range.start.min(level.len)..range.end.min(level.len);
            let mut segments = level.segments_of(&range);
            // Whoever looks after all blocks also wants those behind the last byte.
            if !matches!(purpose, Purpose::Read) {
                segments = 0..level.segments;
            }
            levels.push(LevelWalk {
                level: *level,
                bytes: range,
                segments: segments.clone(),
                jobs: VecDeque::new(),
                table: VecDeque::new(),
            });
            range = level.table_of(&segments);
        }
        if let Some(top) = levels.last_mut() {
            let table = table.iter().flat_map(|address| address.0);
            let skip = usize::try_from(range.start).unwrap_or(usize::MAX);
            let take = usize::try_from(range.end - range.start).unwrap_or(0);
            top.table = table.skip(skip).take(take).collect();
        }
        let mut walk = Self {
            purpose,
            index_key: Secret::take(&mut index_key.expose_secret().clone()),
            levels,
            asked: BTreeMap::new(),
            wants: VecDeque::new(),
            coder: Coder::default(),
            healed: VecDeque::new(),
            summary: Summary::default(),
            error: None,
        };
        walk.advance();
        walk
    }

    pub(crate) const fn error(&self) -> Option<ReadError> {
        self.error
    }

    /// Whether everything was delivered or looked at.
    pub(crate) fn is_done(&self) -> bool {
        self.levels.first().is_none_or(|l| l.segments.is_empty() && l.jobs.is_empty())
    }

    /// The next block to ask for, most urgent first.
    pub(crate) fn poll_want(&mut self) -> Option<(BlockAddress, Place)> {
        while self.error.is_none()
            && let Some(address) = self.wants.pop_front()
        {
            let place = self.asked.get(&address).and_then(|places| places.first()).copied();
            let still = place.filter(|place| {
                self.slot(*place).is_some_and(|slot| matches!(slot.state, State::Asked))
            });
            if let Some(place) = still {
                return Some((address, place));
            }
        }
        None
    }

    /// Whether a block that was asked for would still be of use.
    pub(crate) fn wants(&self, address: &BlockAddress) -> bool {
        let places = self.asked.get(address).into_iter().flatten();
        places
            .filter_map(|place| self.slot(*place))
            .any(|slot| matches!(slot.state, State::Asked | State::Late | State::Missing))
    }

    pub(crate) fn poll_healed(&mut self) -> Option<Block> {
        let block = self.healed.pop_front();
        if self.healed.is_empty() {
            self.advance();
        }
        block
    }

    fn job(&mut self, place: Place) -> Option<&mut Job> {
        let level = self.levels.get_mut(usize::from(place.level))?;
        level.jobs.iter_mut().find(|job| job.number == place.segment)
    }

    fn slot(&self, place: Place) -> Option<&Slot> {
        let level = self.levels.get(usize::from(place.level))?;
        let job = level.jobs.iter().find(|job| job.number == place.segment)?;
        job.slots.get(usize::from(place.index))
    }

    /// A block arrived; its bytes have its address.
    pub(crate) fn handle_block(&mut self, block: &Block) -> Taken {
        let mut taken = Taken::No;
        for place in self.asked.get(&block.address()).cloned().unwrap_or_default() {
            if let Some(job) = self.job(place)
                && job.take(usize::from(place.index), block)
            {
                taken = Taken::Yes;
            }
        }
        if taken == Taken::Yes {
            self.advance();
        }
        taken
    }

    /// A block was not found where it would be, or came altered.
    pub(crate) fn handle_missing(&mut self, address: &BlockAddress) {
        self.handle_gap(address, false);
    }

    /// A block takes long: another is asked for in its place, and it is waited for all the same.
    pub(crate) fn handle_late(&mut self, address: &BlockAddress) {
        self.handle_gap(address, true);
    }

    fn handle_gap(&mut self, address: &BlockAddress, late: bool) {
        let reading = matches!(self.purpose, Purpose::Read);
        for place in self.asked.get(address).cloned().unwrap_or_default() {
            let Some(job) = self.job(place) else { continue };
            if !job.miss(usize::from(place.index), late) || !(reading || place.level > 0) {
                continue;
            }
            let (level, segment) = (place.level, place.segment);
            for (index, address) in job.replace() {
                self.want(Place { level, segment, index }, address, true);
            }
        }
        self.advance();
    }

    fn want(&mut self, place: Place, address: BlockAddress, urgent: bool) {
        let places = self.asked.entry(address).or_default();
        places.push(place);
        match (places.len(), urgent) {
            (1, true) => self.wants.push_front(address),
            (1, false) => self.wants.push_back(address),
            // A hostile table named it twice: one answer serves both.
            _ => {}
        }
    }

    /// Opens and ends whatever can be opened and ended.
    fn advance(&mut self) {
        let mut moved = true;
        while moved && self.error.is_none() {
            moved = false;
            for at in (0..self.levels.len()).rev() {
                moved |= self.open_job(at);
                moved |= self.step(at);
                self.give_up(at);
            }
        }
    }

    /// Begins the next segment of a level if its table is there and there is room.
    fn open_job(&mut self, at: usize) -> bool {
        let wanted = match at.checked_sub(1).and_then(|below| self.levels.get(below)) {
            None => {
                let drained = matches!(self.purpose, Purpose::Read) || self.healed.is_empty();
                self.levels.first().is_some_and(|l| l.jobs.len() < JOBS_MAX) && drained
            }
            // Of a table no more than the level below needs soon.
            Some(below) => {
                let soon = below.level.segment(below.segments.start);
                let jobs = self.levels.get(at).map_or(0, |l| l.jobs.len());
                jobs == 0
                    && !below.segments.is_empty()
                    && (below.table.len() as u64) < soon.table.1 - soon.table.0
            }
        };
        let Some(level) = self.levels.get_mut(at) else { return false };
        let number = level.segments.start;
        if !wanted || level.segments.is_empty() {
            return false;
        }
        let segment = level.level.segment(number);
        let table_len = segment.shape.total() * BlockAddress::LEN;
        if level.table.len() < table_len {
            return false;
        }
        let table: Vec<u8> = level.table.drain(..table_len).collect();
        level.segments.start += 1;
        let mut job = Job::new(number, segment, &table, &level.bytes);
        let chosen: Vec<usize> = match &mut self.purpose {
            Purpose::Repair => (0..segment.shape.total()).collect(),
            Purpose::Sample(count, rng) if at == 0 => {
                sample(segment.shape.total(), usize::from(*count), rng)
            }
            Purpose::Read | Purpose::Sample(..) => job.need.clone().collect(),
        };
        let wants: Vec<_> = chosen.into_iter().filter_map(|index| job.ask(index)).collect();
        level.jobs.push_back(job);
        let level = u8::try_from(at).unwrap_or(ROOT_LEVEL);
        for (index, address) in wants {
            self.want(Place { level, segment: number, index }, address, false);
        }
        true
    }

    /// Does what can be done with the first job of a level. The content of a reading waits for
    /// `poll_data`.
    fn step(&mut self, at: usize) -> bool {
        let whole = match (&self.purpose, at) {
            (Purpose::Read, 0) => return false,
            (Purpose::Repair, _) | (Purpose::Sample(..), 0) => true,
            (Purpose::Read | Purpose::Sample(..), _) => false,
        };
        let Some(job) = self.levels.get(at).and_then(|l| l.jobs.front()) else { return false };
        if whole && job.open + job.late > 0 {
            return false;
        }
        if matches!(self.purpose, Purpose::Repair) && job.missing > 0 {
            self.repair(at);
        }
        if at > 0 && self.error.is_none() {
            let key = Secret::take(&mut self.index_key.expose_secret().clone());
            let mut moved = false;
            while let Some(bytes) = self.deliver(at, &key) {
                moved = true;
                if let Some(below) = self.levels.get_mut(at - 1) {
                    below.table.extend(bytes);
                }
            }
            let ended = self.levels.get(at).and_then(|l| l.jobs.front());
            return if ended.is_some_and(|job| job.need.is_empty()) {
                self.end_job(at)
            } else {
                moved
            };
        }
        self.error.is_none() && self.end_job(at)
    }

    /// Notices that the first job of a level can never be delivered.
    fn give_up(&mut self, at: usize) {
        if at == 0 && !matches!(self.purpose, Purpose::Read) {
            return;
        }
        let Some(job) = self.levels.get(at).and_then(|l| l.jobs.front()) else { return };
        let needed = job.segment.shape.data;
        if job.open + job.late == 0 && job.have < needed && job.needs_more() {
            self.error.get_or_insert(ReadError::TooFew { found: job.have, needed });
        }
    }

    /// Closes the first job of a level.
    fn end_job(&mut self, at: usize) -> bool {
        let Some(job) = self.levels.get_mut(at).and_then(|l| l.jobs.pop_front()) else {
            return false;
        };
        if at == 0 || matches!(self.purpose, Purpose::Repair) {
            self.summary.segments += 1;
            self.summary.found += job.have as u64;
            self.summary.missing += job.missing as u64;
        }
        if at == 0 {
            let this = (job.segment.shape.data, job.segment.shape.total());
            let is_thinner = |(needed, total): (usize, usize)| this.0 * total > needed * this.1;
            if self.summary.thinnest.is_none_or(is_thinner) {
                self.summary.thinnest = Some(this);
            }
        }
        for slot in &job.slots {
            if let Some(places) = self.asked.get_mut(&slot.address) {
                places.retain(|p| !(usize::from(p.level) == at && p.segment == job.number));
                if places.is_empty() {
                    self.asked.remove(&slot.address);
                }
            }
        }
        true
    }

    /// The next bytes of the content, in order; only of a reading.
    pub(crate) fn poll_data(&mut self, key: &Secret<32>) -> Option<Vec<u8>> {
        if self.error.is_some() {
            return None;
        }
        let bytes = self.deliver(0, key);
        let front = self.levels.first().and_then(|l| l.jobs.front());
        if front.is_some_and(|job| job.need.is_empty()) {
            self.end_job(0);
            self.advance();
        }
        bytes
    }

    /// The next bytes of a level's first job, rebuilt if need be.
    fn deliver(&mut self, at: usize, key: &Secret<32>) -> Option<Vec<u8>> {
        let level = self.levels.get(at)?;
        let job = level.jobs.front()?;
        if job.need.is_empty() {
            return None;
        }
        let index = job.need.start;
        if !matches!(job.slots.get(index)?.state, State::Have(_)) {
            if job.have < job.segment.shape.data {
                return None;
            }
            self.restore(at)?;
        }
        let level = self.levels.get_mut(at)?;
        let job = level.jobs.front_mut()?;
        let State::Have(block) = &job.slots.get(index)?.state else { return None };
        let number = job.segment.first + index as u64;
        let mut body = Vec::new();
        if key::open(key, at, number, block, &mut body).is_err() {
            self.error = Some(ReadError::Inconsistent);
            return None;
        }
        job.need.start += 1;
        // Cut to what was asked for.
        let start = number * CHUNK_LEN;
        let cut =
            |byte: u64| usize::try_from(byte.saturating_sub(start).min(CHUNK_LEN)).unwrap_or(0);
        body.truncate(cut(level.bytes.end));
        body.drain(..cut(level.bytes.start).min(body.len()));
        Some(body)
    }

    /// Rebuilds the data blocks that the first job of a level has not.
    fn restore(&mut self, at: usize) -> Option<()> {
        let job = self.levels.get_mut(at)?.jobs.front_mut()?;
        let shape = job.segment.shape;
        let have: Vec<_> = job.slots.iter().map(Slot::block).collect();
        let Ok(restored) = self.coder.restore(shape, &have) else {
            self.error = Some(ReadError::Inconsistent);
            return None;
        };
        for (index, block) in restored {
            let slot = job.slots.get_mut(index)?;
            if block.address() != slot.address {
                self.error = Some(ReadError::Inconsistent);
                return None;
            }
            if matches!(slot.state, State::Missing) {
                self.summary.rebuilt += 1;
                if self.healed.len() < HEALED_MAX || matches!(self.purpose, Purpose::Repair) {
                    self.healed.push_back(block.clone());
                }
            }
            slot.state = State::Have(block);
        }
        Some(())
    }

    /// Rebuilds all that the first job of a level misses.
    fn repair(&mut self, at: usize) {
        let Some(job) = self.levels.get(at).and_then(|l| l.jobs.front()) else { return };
        let shape = job.segment.shape;
        if job.have < shape.data {
            let error = ReadError::TooFew { found: job.have, needed: shape.data };
            self.summary.lost += 1;
            if at > 0 {
                self.error = Some(error);
            }
            return;
        }
        if self.restore(at).is_none() {
            return;
        }
        let Some(job) = self.levels.get_mut(at).and_then(|l| l.jobs.front_mut()) else { return };
        let lost_parity = job.slots.iter().skip(shape.data).any(|slot| slot.block().is_none());
        if !lost_parity {
            return;
        }
        let data = job.slots.iter().take(shape.data).filter_map(Slot::block);
        let Ok(parity) = self.coder.parity(shape, data) else {
            self.error = Some(ReadError::Inconsistent);
            return;
        };
        for (slot, block) in job.slots.iter_mut().skip(shape.data).zip(parity) {
            if slot.block().is_some() {
                continue;
            }
            if block.address() != slot.address {
                self.error = Some(ReadError::Inconsistent);
                return;
            }
            self.summary.rebuilt += 1;
            self.healed.push_back(block);
        }
    }
}
