//! Fetching a file, or a part of it.
//!
//! Lives here: a [`Reader`] whose wants a courier carries. Does not live here: both of these.

use std::{fmt, ops::Range};

use warren_overlay::{block::Block, garlic::BlockAnswer, time::Time};

use super::{
    Transfer,
    courier::{Courier, Event, Op, Output},
    exits::ExitNo,
    state::FetchState,
};
use crate::{
    capability::ReadCap,
    file::{ReadError, Reader},
    manifest::Meta,
};

/// How far a fetch is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FetchProgress {
    /// Requests sent, repetitions included.
    pub asked: u64,
    /// Blocks found.
    pub found: u64,
    /// Blocks given up; others were asked for in their place.
    pub missing: u64,
    /// Answers that said Busy.
    pub busy: u64,
    /// Blocks that wait for a pause to end.
    pub waiting: usize,
    /// Bytes given out.
    pub bytes: u64,
    /// Length of the file, once known.
    pub len: Option<u64>,
    /// Most routers that were asked for one block: `not found: asked 9 routers`.
    pub routers: u8,
}

/// Fetches one file. After each verb drain [`Fetch::poll_output`]; take bytes from
/// [`Fetch::poll_data`] at the pace of whoever wants them: no more than two segments are fetched ahead.
pub struct Fetch {
    state: FetchState,
    reader: Reader,
    courier: Courier,
    progress: FetchProgress,
}

impl Fetch {
    /// Fetches `range` of a file (`0..u64::MAX` for all), given out from `range.start` on.
    pub fn new(cap: ReadCap, range: Range<u64>) -> Self {
        Self::resume(FetchState { cap, range, delivered: 0 })
    }

    /// Goes on where a state was saved.
    pub fn resume(state: FetchState) -> Self {
        let cap = state.cap.duplicate();
        let start = state.range.start.saturating_add(state.delivered);
        let reader = Reader::new(cap, start..state.range.end.max(start));
        let progress = FetchProgress { bytes: state.delivered, ..FetchProgress::default() };
        let mut fetch = Self { state, reader, courier: Courier::new(), progress };
        // There is no exit yet: nothing is sent, only said how many are needed.
        fetch.step(Time::ZERO);
        fetch
    }

    /// What to keep so that a restart goes on: save it when the bytes given out are safe.
    pub const fn state(&self) -> &FetchState {
        &self.state
    }

    /// The next bytes of the range.
    pub fn poll_data(&mut self, now: Time) -> Option<Vec<u8>> {
        let bytes = self.reader.poll_data();
        self.state.delivered += bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        self.progress.bytes = self.state.delivered;
        self.step(now);
        bytes
    }

    /// Goes on at another range, through the same exits.
    pub fn seek(&mut self, now: Time, range: Range<u64>) {
        self.state.range = range.clone();
        self.state.delivered = 0;
        self.reader.seek(range);
        self.courier.retain_gets(|address| self.reader.wants(address));
        self.step(now);
    }

    /// A block that was missing and was rebuilt: hand it to a [`super::Heal`] or put it.
    pub fn poll_healed(&mut self) -> Option<Block> {
        self.reader.poll_healed()
    }

    fn step(&mut self, now: Time) {
        while let Some(event) = self.courier.poll_event() {
            match event {
                Event::Found(block) => {
                    self.progress.found += 1;
                    self.reader.handle_block(&block);
                }
                Event::Missing(address) => {
                    self.progress.missing += 1;
                    self.reader.handle_missing(&address);
                }
                Event::Late(address) => self.reader.handle_late(&address),
                Event::Stored { .. } => {}
            }
        }
        while self.courier.has_room()
            && let Some((address, place)) = self.reader.poll_want()
        {
            self.courier.add(Op::Get(address), place, 0);
        }
        self.courier.pump(now);
        let counts = self.courier.counts;
        self.progress.asked = counts.sent;
        self.progress.busy = counts.busy;
        self.progress.routers = counts.routers;
        self.progress.waiting = self.courier.paused();
        self.progress.len = self.reader.content_len();
    }

    /// How far it is.
    pub const fn progress(&self) -> FetchProgress {
        self.progress
    }

    /// What the file says of itself, once its root is there.
    pub fn meta(&self) -> Option<&Meta> {
        self.reader.meta()
    }

    /// Length of the file in bytes, once its root is there.
    pub fn content_len(&self) -> Option<u64> {
        self.reader.content_len()
    }

    /// Whether all of the range was given out.
    pub fn is_done(&self) -> bool {
        self.reader.is_done()
    }

    /// Why it cannot go on.
    pub fn error(&self) -> Option<ReadError> {
        self.reader.error()
    }
}

impl Transfer for Fetch {
    by_courier!(answers);

    fn handle_timeout(&mut self, now: Time) {
        self.courier.retain_gets(|address| self.reader.wants(address));
        self.courier.handle_timeout(now);
        self.step(now);
    }

    fn poll_timeout(&self, now: Time) -> Option<Time> {
        if self.is_done() || self.error().is_some() {
            return None;
        }
        self.courier.poll_timeout(now)
    }

    fn poll_output(&mut self) -> Option<Output> {
        if self.reader.error().is_some() {
            return None;
        }
        self.courier.poll_output()
    }
}

/// Mute.
impl fmt::Debug for Fetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}
