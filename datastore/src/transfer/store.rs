//! Storing a file.
//!
//! Lives here: an [`Encoder`] whose blocks a courier carries, and which of them are stored. Does not
//! live here: both of these, and the file that is read.

use std::{collections::BTreeSet, fmt};

use warren_overlay::{garlic::BlockAnswer, time::Time};

use super::{
    Transfer,
    courier::{Courier, Event, IN_FLIGHT_MAX, Op, Output},
    exits::ExitNo,
    state::{ABOVE_MAX, StoreState},
};
use crate::{
    capability::ReadCap,
    file::{EncodeError, Encoder},
};

/// Copies of a block that the ring aims for.
const COPIES_WANTED: u8 = 3;

/// How far a store is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreProgress {
    /// Blocks encoded.
    pub encoded: u64,
    /// Blocks in all.
    pub total: u64,
    /// Blocks that the network confirmed, in this run and before.
    pub stored: u64,
    /// Of these, how many with fewer than three copies so far.
    pub thin: u64,
    /// Fewest copies that were confirmed of a block in this run.
    pub copies_min: Option<u8>,
    /// Answers that said Busy.
    pub busy: u64,
    /// Requests that failed and are repeated.
    pub failed: u64,
    /// Blocks that wait for a pause to end.
    pub waiting: usize,
}

/// Stores one file. Push its bytes as long as they are taken, then [`Store::finish`]; after each verb
/// drain [`Store::poll_output`].
///
/// It never gives up by itself: what fails is repeated with growing pauses, and shows in its progress.
pub struct Store {
    encoder: Encoder,
    state: StoreState,
    above: BTreeSet<u64>,
    courier: Courier,
    next: u64,
    progress: StoreProgress,
}

impl Store {
    /// Stores what the encoder gives.
    pub fn new(encoder: Encoder) -> Self {
        let state = StoreState::new(*encoder.content().hash());
        Self::begin(encoder, state)
    }

    /// Goes on where a state was saved: the file is encoded anew, with the same key source and options,
    /// and what was confirmed is left out.
    ///
    /// # Errors
    /// [`EncodeError::Changed`] when the file is not the one that the state is of.
    pub fn resume(encoder: Encoder, state: StoreState) -> Result<Self, EncodeError> {
        if state.hash != *encoder.content().hash() {
            return Err(EncodeError::Changed);
        }
        Ok(Self::begin(encoder, state))
    }

    fn begin(encoder: Encoder, state: StoreState) -> Self {
        let above: BTreeSet<u64> = state.above.iter().copied().collect();
        let stored = state.below + above.len() as u64;
        let progress =
            StoreProgress { total: encoder.blocks(), stored, ..StoreProgress::default() };
        Self { encoder, state, above, courier: Courier::new(), next: 0, progress }
    }

    /// What to keep so that a restart goes on.
    pub fn state(&self) -> StoreState {
        StoreState {
            hash: self.state.hash,
            below: self.state.below,
            above: self.above.iter().copied().collect(),
        }
    }

    /// Takes the next bytes of the file; returns how many. None while enough blocks wait.
    ///
    /// # Errors
    /// When the file changed since it was hashed.
    pub fn push(&mut self, now: Time, bytes: &[u8]) -> Result<usize, EncodeError> {
        self.step(now);
        if !self.courier.has_room() {
            return Ok(0);
        }
        let taken = self.encoder.push(bytes)?;
        self.step(now);
        Ok(taken)
    }

    /// Says that the file ends here.
    ///
    /// # Errors
    /// When the file changed since it was hashed, or its type or name cannot be stored.
    pub fn finish(&mut self, now: Time) -> Result<(), EncodeError> {
        self.encoder.finish()?;
        self.step(now);
        Ok(())
    }

    fn step(&mut self, now: Time) {
        while let Some(event) = self.courier.poll_event() {
            if let Event::Stored { tag, copies } = event {
                self.stored(tag, copies);
            }
        }
        while self.courier.has_room()
            && self.above.len() + 2 * IN_FLIGHT_MAX < ABOVE_MAX
            && let Some(placed) = self.encoder.poll_block()
        {
            let number = self.next;
            self.next += 1;
            self.progress.encoded += 1;
            if number >= self.state.below && !self.above.contains(&number) {
                self.courier.add(Op::Put(placed.block), placed.place, number);
            }
        }
        self.courier.pump(now);
        self.progress.busy = self.courier.counts.busy;
        self.progress.failed = self.courier.counts.failed;
        self.progress.waiting = self.courier.paused();
    }

    fn stored(&mut self, number: u64, copies: u8) {
        self.progress.stored += 1;
        self.progress.thin += u64::from(copies < COPIES_WANTED);
        let min = self.progress.copies_min.unwrap_or(copies);
        self.progress.copies_min = Some(min.min(copies));
        self.above.insert(number);
        while self.above.remove(&self.state.below) {
            self.state.below += 1;
        }
    }

    /// How far it is.
    pub const fn progress(&self) -> StoreProgress {
        self.progress
    }

    /// What finds and reads the file; there after [`Store::finish`], long before all is stored.
    pub const fn read_cap(&self) -> Option<&ReadCap> {
        self.encoder.read_cap()
    }

    /// Whether every block was confirmed.
    pub fn is_done(&self) -> bool {
        self.encoder.read_cap().is_some() && self.progress.stored == self.progress.total
    }
}

impl Transfer for Store {
    by_courier!();
}

/// Mute.
impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}
