//! Checking and healing a file.
//!
//! Lives here: a [`Repair`] whose wants and blocks a courier carries. Does not live here: both of
//! these.

use std::fmt;

use warren_overlay::{block::Block, garlic::BlockAnswer, time::Time};

use super::{
    Transfer,
    courier::{Courier, Event, Op, Output},
    exits::ExitNo,
};
use crate::{
    capability::{ReadCap, VerifyCap},
    file::{Place, ReadError, Repair, Scope, Summary},
};

/// Looks after one file: asks for its blocks, and puts back what it rebuilt.
pub struct Heal {
    repair: Repair,
    courier: Courier,
    put: u64,
    stored: u64,
}

impl Heal {
    /// Begins at the root.
    pub fn new(cap: VerifyCap, scope: Scope) -> Self {
        let repair = Repair::new(cap, scope);
        let mut heal = Self { repair, courier: Courier::new(), put: 0, stored: 0 };
        // There is no exit yet: nothing is sent, only said how many are needed.
        heal.step(Time::ZERO);
        heal
    }

    /// Puts a block back that was not found, and is here.
    pub fn put(&mut self, now: Time, block: Block) {
        self.add_put(block);
        self.step(now);
    }

    fn add_put(&mut self, block: Block) {
        // They come from all over the file: each 32 are a segment of their own.
        let place = Place { level: u8::MAX - 1, segment: self.put / 32, index: 0 };
        self.courier.add(Op::Put(block), place, self.put);
        self.put += 1;
    }

    fn step(&mut self, now: Time) {
        while let Some(event) = self.courier.poll_event() {
            match event {
                Event::Found(block) => {
                    self.repair.handle_block(&block);
                }
                Event::Missing(address) => self.repair.handle_missing(&address),
                Event::Late(_) => {}
                Event::Stored { .. } => self.stored += 1,
            }
        }
        while self.courier.has_room()
            && let Some(block) = self.repair.poll_block()
        {
            self.add_put(block);
        }
        while self.courier.has_room()
            && let Some((address, place)) = self.repair.poll_want()
        {
            self.courier.add(Op::Get(address), place, 0);
        }
        self.courier.pump(now);
    }

    /// What was found, missed and rebuilt so far.
    pub fn summary(&self) -> Summary {
        self.repair.summary()
    }

    /// Blocks that were put back and confirmed.
    pub const fn stored(&self) -> u64 {
        self.stored
    }

    /// Most routers that were asked for one block.
    pub const fn routers(&self) -> u8 {
        self.courier.counts.routers
    }

    /// For a directory: the file that lists what else to heal.
    pub fn children(&self) -> Option<&ReadCap> {
        self.repair.children()
    }

    /// Whether all was looked at and all that was rebuilt is stored.
    pub fn is_done(&self) -> bool {
        self.repair.is_done() && self.courier.is_idle()
    }

    /// Why it cannot go on.
    pub fn error(&self) -> Option<ReadError> {
        self.repair.error()
    }
}

impl Transfer for Heal {
    by_courier!();
}

/// Mute.
impl fmt::Debug for Heal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}
