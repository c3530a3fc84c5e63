//! Telling the ring what a site's newest version is, again and again.
//!
//! Lives here: when each record is put, and again after it failed. Does not live here: what the records
//! say. Who holds a site's records may announce them, its publisher or a reader: they are signed.
//!
//! ```text
//!  Due ──Put──> Putting ──Stored──> Due in 5 to 7 h
//!   ^              │ ├─ failed, 20 s of silence ──> Due in 1 s, 2 s, .. 60 s
//!   └──────────────┘ └─ Stale ──> Beaten: somebody announced a newer version
//! ```

use std::{collections::VecDeque, fmt, time::Duration};

use warren_overlay::{garlic::RecordAnswer, record::Record, rng::Rng, time::Time};

/// Records are announced again after this and up to [`AGAIN_SPREAD`] more: drawn, so that the six hours
/// of one site mark nothing.
const AGAIN: Duration = Duration::from_hours(5);
const AGAIN_SPREAD: Duration = Duration::from_hours(2);
/// Without an answer for so long a put is lost.
const LOST_AFTER: Duration = Duration::from_secs(20);
/// Longest pause after failures, in seconds.
const BACKOFF_MAX_S: u64 = 60;

/// What became of a [`Put`]; `None` when no answer will come.
#[derive(Debug)]
pub struct PutAnswer {
    /// Of which record.
    pub at: u8,
    /// As the end hop said.
    pub answer: Option<RecordAnswer>,
}

/// Put this record, through a tunnel.
#[derive(Debug)]
pub struct Put {
    /// Its number, to be given back.
    pub at: u8,
    /// The record.
    pub record: Record,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Due(Time),
    Putting { until: Time },
    Beaten,
}

struct Slot {
    record: Record,
    state: State,
    failures: u8,
    is_stored: bool,
}

/// Announces the records of one site.
pub struct Announcer {
    slots: Vec<Slot>,
    rng: Rng,
    outputs: VecDeque<Put>,
}

impl Announcer {
    /// Announces these records, of different places; the first time at once.
    pub fn new(now: Time, records: Vec<Record>, rng: Rng) -> Self {
        Self::starting(now, records, rng)
    }

    /// The same, for records that were announced not long ago: the first time after hours.
    pub fn later(now: Time, records: Vec<Record>, mut rng: Rng) -> Self {
        let at = now + again(&mut rng);
        Self::starting(at, records, rng)
    }

    fn starting(at: Time, records: Vec<Record>, rng: Rng) -> Self {
        let slot = |record| Slot { record, state: State::Due(at), failures: 0, is_stored: false };
        let mut this =
            Self { slots: records.into_iter().map(slot).collect(), rng, outputs: VecDeque::new() };
        this.slots.truncate(super::SITE_COPIES.into());
        this
    }

    /// An answer came. One that nobody waits for changes nothing.
    pub fn handle_input(&mut self, now: Time, input: PutAnswer) {
        let PutAnswer { at, answer } = input;
        let Some(slot) = self.slots.get_mut(usize::from(at)) else { return };
        let State::Putting { .. } = slot.state else { return };
        match answer {
            Some(RecordAnswer::Stored { .. }) => {
                slot.is_stored = true;
                slot.failures = 0;
                slot.state = State::Due(now + again(&mut self.rng));
            }
            Some(RecordAnswer::Stale) => slot.state = State::Beaten,
            Some(RecordAnswer::Busy { retry_s }) => slot.fail(now, retry_s),
            Some(RecordAnswer::RecentlyFailed { until_s }) => slot.fail(now, until_s),
            Some(
                RecordAnswer::NotFound | RecordAnswer::NoRoute { .. } | RecordAnswer::Found(_),
            )
            | None => slot.fail(now, 0),
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Time) {
        for (at, slot) in (0..).zip(&mut self.slots) {
            match slot.state {
                State::Due(due) if due <= now => {
                    slot.state = State::Putting { until: now + LOST_AFTER };
                    self.outputs.push_back(Put { at, record: slot.record.clone() });
                }
                State::Putting { until } if until <= now => slot.fail(now, 0),
                State::Due(_) | State::Putting { .. } | State::Beaten => {}
            }
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Put> {
        self.outputs.pop_front()
    }

    /// When to be woken.
    pub fn poll_timeout(&self) -> Option<Time> {
        let at = self.slots.iter().filter_map(|slot| match slot.state {
            State::Due(at) | State::Putting { until: at } => Some(at),
            State::Beaten => None,
        });
        at.min()
    }

    /// Places that confirmed their record.
    pub fn stored(&self) -> usize {
        self.slots.iter().filter(|slot| slot.is_stored).count()
    }

    /// Whether every place confirmed its record or has a newer one.
    pub fn is_settled(&self) -> bool {
        self.slots.iter().all(|slot| slot.is_stored || matches!(slot.state, State::Beaten))
    }

    /// Whether a place holds a newer record, or another of the same version.
    pub fn is_beaten(&self) -> bool {
        self.slots.iter().any(|slot| matches!(slot.state, State::Beaten))
    }
}

impl Slot {
    fn fail(&mut self, now: Time, asked_s: u16) {
        let doubled = 1u64 << self.failures.min(6);
        self.failures = self.failures.saturating_add(1);
        let pause = doubled.max(asked_s.into()).min(BACKOFF_MAX_S);
        self.state = State::Due(now + Duration::from_secs(pause));
    }
}

fn again(rng: &mut Rng) -> Duration {
    AGAIN + Duration::from_secs(rng.below(AGAIN_SPREAD.as_secs() + 1))
}

/// Mute: which sites a person keeps is never logged (DESIGN section 3).
impl fmt::Debug for Announcer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}
