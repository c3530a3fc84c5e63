//! The places of one day in one round: what lies where, and what is tried again when.
//!
//! Lives here: one place's state and its waits, and how long a round holds. Does not live here: what
//! begins one (`publish.rs`).

use std::time::Duration;

use crate::{
    record::Record,
    rng::Rng,
    service::Day,
    time::{Now, Time, Wall},
};

/// A round is repeated after 50 to 60 minutes, drawn: six puts at the same second of every hour
/// would be easy to link.
const REFRESH_MIN: Duration = Duration::from_mins(50);
const REFRESH_SPREAD_S: u64 = 10 * 60;
/// The same on the wall clock, which goes on while a machine sleeps.
const REFRESH_WALL_MIN: u32 = 60;
/// The least time from a round to one because of a change; with the wait for others to go with it well
/// under the 5 s of PROTOCOL P10.
const ROUND_MIN: Duration = Duration::from_secs(1);
/// Twice as long after each round that was overtaken before enough of it was stored, up to this: where
/// lines are so slow, rounds that overtake each other would be all that they carry.
const ROUND_MAX: Duration = Duration::from_secs(32);
/// A put or get without an answer is sent again after three times what answers take, through another
/// tunnel: one on its way may be silent. At least this, and this before the first answer.
const ANSWER_WAIT_MIN: Duration = Duration::from_millis(500);
const ANSWER_WAIT_FIRST: Duration = Duration::from_millis(1_500);
/// So many times, while there are other tunnels; then the wait doubles up to this.
const QUICK_TRIES: u32 = 3;
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(24);
/// Waits between tries of one place: 1 s, doubling up to 30 s.
const BACK_OFF_MIN: Duration = Duration::from_secs(1);
const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// The longest wait that an answer can ask for.
const BUSY_MAX_S: u16 = 60;
/// So many stored records of today's six make a service published: readers ask three, then the
/// other three.
const PUBLISHED_MIN: usize = 3;

/// One version, sealed for every set.
pub(super) struct Round {
    pub(super) sealed: Now,
    refresh: Duration,
    /// The least time until a change begins another.
    gap: Duration,
}

impl Round {
    /// A round that begins now, overtaking one of which too little was stored, if any.
    pub(super) fn new(now: Now, rng: &mut Rng, overtaken: Option<&Self>) -> Self {
        let refresh = REFRESH_MIN + Duration::from_secs(rng.below(REFRESH_SPREAD_S));
        let gap = overtaken.map_or(ROUND_MIN, |round| (round.gap * 2).min(ROUND_MAX));
        Self { sealed: now, refresh, gap }
    }

    /// When a change may begin another.
    pub(super) fn next(&self) -> Time {
        self.sealed.time + self.gap
    }

    /// When its records want refreshing.
    pub(super) fn due(&self) -> Time {
        self.sealed.time + self.refresh
    }

    /// Whether its records want refreshing; also when a machine slept, or its clock was set back.
    pub(super) fn over(&self, now: Now) -> bool {
        let wall = self.sealed.wall;
        now.time >= self.due() || now.wall >= wall.plus(REFRESH_WALL_MIN) || now.wall.plus(2) < wall
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SlotState {
    Retrying { at: Time },
    Putting { request: u32, until: Time },
    Learning { request: u32, until: Time },
    Stored,
}

/// One place of one day in one round.
pub(super) struct Slot {
    pub(super) record: Record,
    pub(super) failures: u32,
    /// When it was put last.
    pub(super) put: Time,
    pub(super) state: SlotState,
}

impl Slot {
    pub(super) const fn request(&self) -> Option<u32> {
        match self.state {
            SlotState::Putting { request, .. } | SlotState::Learning { request, .. } => {
                Some(request)
            }
            SlotState::Retrying { .. } | SlotState::Stored => None,
        }
    }

    pub(super) const fn wakes(&self) -> Option<Time> {
        match self.state {
            SlotState::Retrying { at } => Some(at),
            SlotState::Putting { until, .. } | SlotState::Learning { until, .. } => Some(until),
            SlotState::Stored => None,
        }
    }

    /// It was sent, and waited for long enough.
    pub(super) fn is_unanswered(&self, now: Time) -> bool {
        self.request().is_some() && self.wakes().is_some_and(|until| now >= until)
    }

    /// How long an answer is waited for, where they usually take so long.
    pub(super) fn patience(&self, usual: Option<Duration>) -> Duration {
        let wait = usual.map_or(ANSWER_WAIT_FIRST, |usual| (usual * 3).max(ANSWER_WAIT_MIN));
        let doublings = self.failures.saturating_sub(QUICK_TRIES).min(8);
        wait.saturating_mul(1 << doublings).min(ANSWER_WAIT_MAX)
    }

    /// Puts the next try off: 1 s doubling to 30 s, or as long as was asked for.
    pub(super) fn fail(&mut self, now: Time, asked_s: u16) {
        let doubled = BACK_OFF_MIN.saturating_mul(1 << self.failures.min(8)).min(BACK_OFF_MAX);
        let asked = Duration::from_secs(asked_s.min(BUSY_MAX_S).into());
        self.failures = self.failures.saturating_add(1);
        self.state = SlotState::Retrying { at: now + doubled.max(asked) };
    }
}

pub(super) struct DaySet {
    pub(super) day: Day,
    pub(super) slots: Vec<Slot>,
    /// Until when at least 3 places hold this version or one before it.
    pub(super) complete: Option<Wall>,
}

impl DaySet {
    pub(super) fn awaits(&self, request: u32) -> bool {
        self.slots.iter().any(|slot| slot.request() == Some(request))
    }

    pub(super) fn stored(&self) -> usize {
        self.slots.iter().filter(|slot| slot.state == SlotState::Stored).count()
    }

    /// Whether enough of this round is.
    pub(super) fn is_stored(&self) -> bool {
        self.stored() >= PUBLISHED_MIN
    }

    /// Notes whether enough places hold the set, and until when.
    pub(super) fn count(&mut self) {
        let expiry = self.slots.first().map(|slot| slot.record.expiry());
        if let Some(expiry) = expiry.filter(|_| self.is_stored()) {
            self.complete = Some(expiry);
        }
    }
}
