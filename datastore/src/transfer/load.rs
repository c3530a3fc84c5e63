//! Putting blocks that are there already, whatever they belong to.
//!
//! Lives here: a courier that is given blocks. Does not live here: where they come from.

use std::{collections::BTreeSet, fmt};

use warren_overlay::{block::Block, garlic::BlockAnswer, time::Time};

use super::{
    Transfer,
    courier::{Courier, Event, Op, Output},
    exits::ExitNo,
};
use crate::file::Place;

/// Nobody knows which blocks are of one segment: so many in a row count as one.
const SEGMENT: u64 = 192;

/// Puts blocks in the order in which they are given. It never gives up by itself.
pub struct Load {
    courier: Courier,
    given: u64,
    below: u64,
    above: BTreeSet<u64>,
    stored: u64,
    copies_min: Option<u8>,
}

impl Load {
    /// Without any block yet. `from` is the number of the first that will be given.
    pub fn new(from: u64) -> Self {
        let (above, courier) = (BTreeSet::new(), Courier::new());
        Self { courier, given: from, below: from, above, stored: 0, copies_min: None }
    }

    /// Whether there is room for another block.
    pub fn has_room(&self) -> bool {
        self.courier.has_room()
    }

    /// The next block. Give none while there is no room.
    pub fn push(&mut self, now: Time, block: Block) {
        let index = u16::try_from(self.given % SEGMENT).unwrap_or(0);
        let place = Place { level: 0, segment: self.given / SEGMENT, index };
        self.courier.add(Op::Put(block), place, self.given);
        self.given += 1;
        self.step(now);
    }

    /// The next block is not to be had: it counts as confirmed.
    pub fn skip(&mut self) {
        self.confirm(self.given);
        self.given += 1;
    }

    fn step(&mut self, now: Time) {
        while let Some(event) = self.courier.poll_event() {
            if let Event::Stored { tag, copies } = event {
                self.stored += 1;
                self.copies_min = Some(self.copies_min.map_or(copies, |min| min.min(copies)));
                self.confirm(tag);
            }
        }
        self.courier.pump(now);
    }

    fn confirm(&mut self, number: u64) {
        self.above.insert(number);
        while self.above.remove(&self.below) {
            self.below += 1;
        }
    }

    /// All blocks with lower numbers are confirmed: a later run may begin here.
    pub const fn below(&self) -> u64 {
        self.below
    }

    /// Blocks confirmed in this run.
    pub const fn stored(&self) -> u64 {
        self.stored
    }

    /// Fewest copies that were confirmed of one.
    pub const fn copies_min(&self) -> Option<u8> {
        self.copies_min
    }

    /// Whether all that was given is confirmed.
    pub fn is_idle(&self) -> bool {
        self.courier.is_idle()
    }
}

impl Transfer for Load {
    by_courier!();
}

/// Mute.
impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}
