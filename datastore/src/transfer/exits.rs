//! The exits of one file: far ends of tunnels that were opened for it and for nothing else.
//!
//! Lives here: how many blocks of a segment each exit has seen, its window, its pause. Does not live
//! here: tunnels.
//!
//! An exit sees which blocks its tunnel asks for. Few of one segment do not tell it which file that
//! is, nor who asks; so no exit gets more than 32 of a segment (DESIGN section 8).

use std::{collections::BTreeMap, time::Duration};

use warren_overlay::{garlic::BLOCK_REQUESTS_MAX, time::Time};

use crate::file::Place;

/// An exit as its owner numbers it; a number is never used for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExitNo(pub u32);

/// Most blocks of one segment that an exit gets to see.
pub const SEGMENT_BLOCKS_PER_EXIT: u16 = 32;
/// Most exits that one file asks for: 512 blocks of a segment, 32 an exit.
pub const EXITS_MAX: usize = 16;
/// Exits that a file wants from the start: a root's copies go different ways.
const EXITS_MIN: usize = 3;
/// Segments that are remembered of each exit: those under way, and some that came before.
const SEGMENTS_MAX: usize = 64;
/// Requests under way at one exit: at first, and at most what its tunnel takes.
const WINDOW_START: usize = 8;
const WINDOW_MAX: usize = BLOCK_REQUESTS_MAX;
/// How long an exit rests that said Busy or that failed.
const REST: Duration = Duration::from_millis(250);

struct Exit {
    under_way: usize,
    window: usize,
    rests_until: Time,
    failures: u32,
    seen: BTreeMap<(u8, u64), u16>,
}

#[derive(Default)]
pub(super) struct Exits {
    all: BTreeMap<ExitNo, Exit>,
    /// How many blocks of each segment were to be carried: says how many exits are needed.
    segments: BTreeMap<(u8, u64), u16>,
    want: usize,
    told: usize,
    /// The owner cannot open more: the bound on blocks of a segment gives way, evenly.
    relaxed: bool,
}

impl Exits {
    pub(super) fn up(&mut self, exit: ExitNo) {
        self.all.entry(exit).or_insert(Exit {
            under_way: 0,
            window: WINDOW_START,
            rests_until: Time::ZERO,
            failures: 0,
            seen: BTreeMap::new(),
        });
    }

    pub(super) fn gone(&mut self, exit: ExitNo) {
        self.all.remove(&exit);
        self.told = 0;
    }

    pub(super) fn relax(&mut self) {
        self.relaxed = true;
    }

    pub(super) const fn is_relaxed(&self) -> bool {
        self.relaxed
    }

    /// How many exits there should be, if that was not said yet.
    pub(super) fn poll_want(&mut self) -> Option<usize> {
        let want = self.want.clamp(EXITS_MIN, EXITS_MAX);
        (want > self.told && self.all.len() < want).then(|| {
            self.told = want;
            want
        })
    }

    /// No exit may carry what waits: one more is needed, and beyond the last the bound gives way.
    pub(super) fn starved(&mut self) {
        if self.all.len() < EXITS_MAX {
            self.want = self.want.max(self.all.len() + 1);
        } else {
            self.relaxed = true;
        }
    }

    /// A block of this place is to be carried.
    pub(super) fn announce(&mut self, place: Place) {
        let count = self.segments.entry((place.level, place.segment)).or_default();
        *count = count.saturating_add(1);
        // One more than its blocks need, so that one exit may fail.
        self.want = self.want.max(usize::from(count.div_ceil(SEGMENT_BLOCKS_PER_EXIT)) + 1);
        trim(&mut self.segments);
    }

    /// The exit for a block: of those that may see it, the one with least to do.
    pub(super) fn choose(&self, now: Time, place: Place, avoid: &[ExitNo]) -> Option<ExitNo> {
        let segment = (place.level, place.segment);
        let pick = |avoid: &[ExitNo]| {
            self.all
                .iter()
                .filter(|(number, exit)| {
                    let seen = exit.seen.get(&segment).copied().unwrap_or_default();
                    exit.under_way < exit.window
                        && exit.rests_until <= now
                        && (self.relaxed || seen < SEGMENT_BLOCKS_PER_EXIT)
                        && !avoid.contains(number)
                })
                .min_by_key(|(_, exit)| {
                    let seen = exit.seen.get(&segment).copied().unwrap_or_default();
                    // Where the bound gave way it still divides evenly.
                    (
                        exit.failures.min(8),
                        if self.relaxed { seen } else { 0 },
                        exit.under_way,
                        seen,
                    )
                })
                .map(|(number, _)| *number)
        };
        // An exit that failed this block before is better than none, once all have.
        let all_avoided = self.all.keys().all(|number| avoid.contains(number));
        if all_avoided { pick(&[]) } else { pick(avoid) }
    }

    pub(super) fn sent(&mut self, number: ExitNo, place: Place) {
        let Some(exit) = self.all.get_mut(&number) else { return };
        exit.under_way += 1;
        *exit.seen.entry((place.level, place.segment)).or_default() += 1;
        trim(&mut exit.seen);
    }

    pub(super) fn answered(&mut self, number: ExitNo, now: Time, outcome: Outcome) {
        let Some(exit) = self.all.get_mut(&number) else { return };
        exit.under_way = exit.under_way.saturating_sub(1);
        match outcome {
            Outcome::Good => {
                exit.window = (exit.window + 1).min(WINDOW_MAX);
                exit.failures = exit.failures.saturating_sub(1);
            }
            Outcome::Neutral => {}
            Outcome::Busy => {
                exit.window = (exit.window / 2).max(1);
                exit.rests_until = now + REST;
            }
            Outcome::Failed => {
                exit.window = (exit.window / 2).max(1);
                exit.failures += 1;
                exit.rests_until = now + REST;
            }
        }
    }

    /// When the next resting exit is back, if one rests.
    pub(super) fn poll_timeout(&self, now: Time) -> Option<Time> {
        self.all.values().map(|exit| exit.rests_until).filter(|until| *until > now).min()
    }
}

/// What an answer says about the exit that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Good,
    /// Not found: true or a lie, nobody can tell.
    Neutral,
    Busy,
    /// No answer, or a wrong one.
    Failed,
}

/// Forgets the segments that came first.
fn trim<T>(segments: &mut BTreeMap<(u8, u64), T>) {
    while segments.len() > SEGMENTS_MAX {
        let oldest = segments.keys().min_by_key(|(_, segment)| *segment).copied();
        let Some(oldest) = oldest else { return };
        segments.remove(&oldest);
    }
}
