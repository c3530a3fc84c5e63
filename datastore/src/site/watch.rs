//! Being told of a site's versions: who holds its records says when there is a higher one.
//!
//! Lives here: which place is watched when, what is believed of the answers, when the site is looked up.
//! Does not live here: the lookup (`lookup.rs`; the owner runs it), tunnels, what holders and hops do
//! (`warren_overlay::ring`).
//!
//! ```text
//!  new ──> Look ──looked──> every place: Watch ──Found, signed, higher──> Look ──> Newer
//!           ^                  ^    │ ├─ lease over ──> Watch again, at once
//!           └── every 10 min   └────┘ └─ no, Busy, nothing, forged ──> again after 1 s, 2 s, .. 60 s
//! ```
//!
//! Any of the three places is enough, and none is believed: a version is told only after the lookup read
//! it and saw that it continues the one before.

use std::{collections::VecDeque, fmt, time::Duration};

use warren_overlay::{
    garlic::RecordAnswer,
    id::NetworkId,
    record::Record,
    ring::Watch,
    service::Name,
    time::{Now, Time},
};

use super::{LookupOutcome, Newest, Seen, SitePlace, SiteRecord, places};
use crate::capability::SiteVerifyCap;

/// How often a site is looked up though nobody says anything: the bound for who hides a version in all
/// its places.
const LOOK_EVERY: Duration = Duration::from_mins(10);
/// A watch that ends sooner without anything was none.
const KEPT_MIN: Duration = Duration::from_mins(1);
/// Longest pause after failures, in seconds.
const PAUSE_MAX_S: u64 = 60;

/// What a watch is told.
#[derive(Debug)]
pub enum WatchInput {
    /// What came of `Look`.
    Looked(LookupOutcome),
    /// What came of a `Watch`; `None` when no answer will come.
    Watched {
        /// Of which place.
        place: u8,
        /// As the end hop said.
        answer: Option<RecordAnswer>,
    },
}

/// What a watch wants done, and what it tells.
#[derive(Debug)]
pub enum WatchOutput {
    /// Look the site up, as who read this of it.
    Look(Option<Seen>),
    /// Ask a place for its next version, through a tunnel; `Watched` follows, once.
    Watch {
        /// Which place.
        place: u8,
        /// Of what, above what.
        watch: Watch,
    },
    /// A version that was not told yet: the newest. The first is the one that is there.
    Newer(Box<Newest>),
    /// There is none to be told, or none to be believed, and why. Said once, until that changes; the watch
    /// goes on.
    Not(LookupOutcome),
}

#[derive(Clone, Copy)]
enum State {
    Due(Time),
    Watching { since: Time, above: u64 },
}

/// One place.
struct Slot {
    place: SitePlace,
    state: State,
    failures: u8,
}

impl Slot {
    fn fail(&mut self, now: Time, asked_s: u16) {
        self.state = State::Due(now + pause(&mut self.failures).max(seconds(asked_s)));
    }
}

/// The watch of one site. It ends when it is dropped.
pub struct SiteWatch {
    verify: SiteVerifyCap,
    network: NetworkId,
    slots: Vec<Slot>,
    seen: Option<Seen>,
    /// The highest version that its key signed, as far as is known here.
    heard: u64,
    /// What was said last instead of a version.
    said: Option<(std::mem::Discriminant<LookupOutcome>, u64)>,
    /// Places are watched from the first lookup on: until then it is not known above what.
    has_looked: bool,
    /// When to look it up; `None` while that is done.
    look_at: Option<Time>,
    failures: u8,
    outputs: VecDeque<WatchOutput>,
}

impl SiteWatch {
    /// Starts to watch `name`; `None` for the name of a live service.
    pub fn new(now: Time, name: Name, network: NetworkId) -> Option<Self> {
        let verify = SiteVerifyCap::of(&name)?;
        let slot = |place| Slot { place, state: State::Due(now), failures: 0 };
        let mut this = Self {
            slots: places(&verify, network).into_iter().map(slot).collect(),
            verify,
            network,
            seen: None,
            heard: 0,
            said: None,
            has_looked: false,
            look_at: Some(now),
            failures: 0,
            outputs: VecDeque::new(),
        };
        this.handle_timeout(now);
        Some(this)
    }

    /// Something happened. What nobody waits for changes nothing.
    pub fn handle_input(&mut self, now: Now, input: WatchInput) {
        match input {
            WatchInput::Looked(outcome) if self.look_at.is_none() => {
                self.looked(now.time, outcome);
            }
            WatchInput::Looked(_) => {}
            WatchInput::Watched { place, answer } => self.watched(now, place, answer),
        }
        self.handle_timeout(now.time);
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.look_at.take_if(|at| *at <= now).is_some() {
            let seen = self.seen.as_ref().map(Seen::duplicate);
            self.outputs.push_back(WatchOutput::Look(seen));
        }
        if !self.has_looked {
            return;
        }
        let above = self.heard;
        for slot in &mut self.slots {
            if matches!(slot.state, State::Due(due) if due <= now) {
                slot.state = State::Watching { since: now, above };
                let watch = Watch { key: slot.place.key, above };
                self.outputs.push_back(WatchOutput::Watch { place: slot.place.copy, watch });
            }
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<WatchOutput> {
        self.outputs.pop_front()
    }

    /// When to be woken.
    pub fn poll_timeout(&self) -> Option<Time> {
        let due = self.slots.iter().filter_map(|slot| match slot.state {
            State::Due(due) if self.has_looked => Some(due),
            State::Due(_) | State::Watching { .. } => None,
        });
        due.chain(self.look_at).min()
    }

    fn looked(&mut self, now: Time, outcome: LookupOutcome) {
        self.has_looked = true;
        // The highest version that there is something to be said of.
        let known = match &outcome {
            LookupOutcome::Found(newest) => newest.version.number,
            LookupOutcome::Forked { number, .. } => *number,
            _ => self.seen.as_ref().map_or(0, |seen| seen.number),
        };
        self.heard = self.heard.max(known);
        let is_answer = match outcome {
            LookupOutcome::Found(newest) => {
                self.said = None;
                self.seen = Some(Seen { number: known, file: newest.file.duplicate() });
                self.outputs.push_back(WatchOutput::Newer(newest));
                true
            }
            LookupOutcome::Same(_) => {
                self.said = None;
                true
            }
            other => {
                let is_answer =
                    matches!(other, LookupOutcome::Forked { .. } | LookupOutcome::NotFound);
                let say = Some((std::mem::discriminant(&other), known));
                if self.said != say {
                    self.said = say;
                    self.outputs.push_back(WatchOutput::Not(other));
                }
                is_answer
            }
        };
        // Something newer was signed, and is not found yet.
        self.look_at = Some(if is_answer && self.heard == known {
            self.failures = 0;
            now + LOOK_EVERY
        } else {
            now + pause(&mut self.failures)
        });
    }

    fn watched(&mut self, now: Now, place: u8, answer: Option<RecordAnswer>) {
        let (verify, network) = (&self.verify, self.network);
        let Some(slot) = self.slots.get_mut(usize::from(place)) else { return };
        let State::Watching { since, above } = slot.state else { return };
        match answer {
            Some(RecordAnswer::Found(bytes)) => {
                let record = Record::decode(bytes.as_bytes(), network).ok();
                let record = record.filter(|record| {
                    record.version() > above
                        && record.expiry() > now.wall
                        && SiteRecord::open(verify, &slot.place, record).is_ok()
                });
                let Some(record) = record else { return slot.fail(now.time, 0) };
                (slot.failures, slot.state) = (0, State::Due(now.time));
                if record.version() > self.heard {
                    self.heard = record.version();
                    self.failures = 0;
                    // A lookup that is under way looks again when it did not find this.
                    self.look_at = self.look_at.map(|_| now.time);
                }
            }
            Some(RecordAnswer::NotFound) if now.time.since(since) >= KEPT_MIN => {
                (slot.failures, slot.state) = (0, State::Due(now.time));
            }
            Some(RecordAnswer::Busy { retry_s }) => slot.fail(now.time, retry_s),
            Some(_) | None => slot.fail(now.time, 0),
        }
    }
}

/// 1 s, 2 s, 4 s, .. 60 s.
fn pause(failures: &mut u8) -> Duration {
    let pause = 1u64 << (*failures).min(6);
    *failures = failures.saturating_add(1);
    Duration::from_secs(pause.min(PAUSE_MAX_S))
}

fn seconds(count: u16) -> Duration {
    Duration::from_secs(count.into())
}

/// Mute: which sites a person reads is never logged (DESIGN section 3).
impl fmt::Debug for SiteWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}
