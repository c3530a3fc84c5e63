//! One segment under way: what is known of its blocks, and what to ask for next.
//!
//! Lives here: the states of a segment's blocks. Does not live here: which segments (`walk.rs`).
//!
//! ```text
//! Idle ─want─> Asked ─block─> Have           any k of k + m Have ─> the rest is rebuilt
//!                ├─late────> Late ─missing─> Missing ─block after all─> Have
//!                └─missing─> Missing
//! ```

use std::ops::Range;

use warren_overlay::{
    block::{Block, BlockAddress},
    rng::Rng,
};

use super::layout::{CHUNK_LEN, Segment};

/// One segment under way.
pub(super) struct Job {
    pub(super) number: u64,
    pub(super) segment: Segment,
    pub(super) slots: Vec<Slot>,
    /// Data blocks to deliver, from the next one on.
    pub(super) need: Range<usize>,
    pub(super) have: usize,
    pub(super) open: usize,
    pub(super) late: usize,
    pub(super) missing: usize,
}

/// One block of a segment.
pub(super) struct Slot {
    pub(super) address: BlockAddress,
    pub(super) state: State,
}

/// What is known of a block.
pub(super) enum State {
    Idle,
    Asked,
    /// Asked, and taking long: others are asked in its place, and it may still come.
    Late,
    Missing,
    Have(Block),
}

impl Slot {
    pub(super) const fn block(&self) -> Option<&Block> {
        match &self.state {
            State::Have(block) => Some(block),
            State::Idle | State::Asked | State::Late | State::Missing => None,
        }
    }
}

impl Job {
    /// Segment `number` of a level, with its addresses from the table.
    pub(super) fn new(number: u64, segment: Segment, table: &[u8], bytes: &Range<u64>) -> Self {
        let addresses = table.as_chunks::<{ BlockAddress::LEN }>().0.iter();
        let slots = addresses.map(|a| Slot { address: BlockAddress(*a), state: State::Idle });
        Self {
            number,
            segment,
            slots: slots.collect(),
            need: needed(&segment, bytes),
            have: 0,
            open: 0,
            late: 0,
            missing: 0,
        }
    }

    pub(super) fn ask(&mut self, index: usize) -> Option<(u16, BlockAddress)> {
        let slot = self.slots.get_mut(index)?;
        if !matches!(slot.state, State::Idle) {
            return None;
        }
        slot.state = State::Asked;
        self.open += 1;
        u16::try_from(index).ok().map(|index| (index, slot.address))
    }

    pub(super) fn take(&mut self, index: usize, block: &Block) -> bool {
        let Some(slot) = self.slots.get_mut(index) else { return false };
        match slot.state {
            State::Asked => self.open -= 1,
            State::Late => self.late -= 1,
            State::Missing => self.missing -= 1,
            State::Idle | State::Have(_) => return false,
        }
        slot.state = State::Have(block.clone());
        self.have += 1;
        true
    }

    pub(super) fn miss(&mut self, index: usize, late: bool) -> bool {
        let Some(slot) = self.slots.get_mut(index) else { return false };
        match slot.state {
            State::Asked => self.open -= 1,
            State::Late if !late => self.late -= 1,
            State::Idle | State::Late | State::Missing | State::Have(_) => return false,
        }
        if late {
            slot.state = State::Late;
            self.late += 1;
        } else {
            slot.state = State::Missing;
            self.missing += 1;
        }
        true
    }

    /// What to ask for besides, now that a needed block is missing: so many that, if all come, the
    /// segment can be rebuilt, and one more for every eight that did not come.
    pub(super) fn replace(&mut self) -> Vec<(u16, BlockAddress)> {
        let goal = self.segment.shape.data + self.missing / 8;
        let mut more = Vec::new();
        for index in 0..self.slots.len() {
            if self.have + self.open >= goal {
                break;
            }
            more.extend(self.ask(index));
        }
        more
    }

    /// Whether a data block that must be delivered is missing.
    pub(super) fn needs_more(&self) -> bool {
        let mut need = self.slots.iter().take(self.need.end).skip(self.need.start);
        need.any(|slot| matches!(slot.state, State::Missing | State::Late))
    }
}

/// The data blocks of a segment that hold some of these bytes.
pub(super) fn needed(segment: &Segment, bytes: &Range<u64>) -> Range<usize> {
    let at = |block: u64| {
        let within = block.saturating_sub(segment.first);
        usize::try_from(within).unwrap_or(usize::MAX).min(segment.shape.data)
    };
    at(bytes.start / CHUNK_LEN)..at(bytes.end.div_ceil(CHUNK_LEN))
}

/// `count` different numbers below `total`.
pub(super) fn sample(total: usize, count: usize, rng: &mut Rng) -> Vec<usize> {
    let mut all: Vec<usize> = (0..total).collect();
    let mut chosen = Vec::new();
    while chosen.len() < count && !all.is_empty() {
        let at = usize::try_from(rng.below(all.len() as u64)).unwrap_or(0);
        chosen.push(all.swap_remove(at));
    }
    chosen
}
