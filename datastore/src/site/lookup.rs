//! Finding the newest version of a site: ask all places, believe the highest, look whether it continues
//! what was read before.
//!
//! Lives here: one lookup, from its first question to its one outcome. Does not live here: tunnels (the
//! owner sends each `GetRecord` and `GetFile` through some), the memory of what was read, pages.
//!
//! ```text
//!  new --3 x GetRecord--> Asking --one good--> Settling --all, or 100 to 500 ms--> judge
//!                           └─ none good: all answered, or 10 s ─> Done              │
//!       Done <── the version read before ──────────────────────────────────────────┤
//!       Done <── agrees ── Reading <──GetFile── the newest, then those before it <──┘
//! ```

use std::{collections::VecDeque, fmt, time::Duration};

use warren_overlay::{
    garlic::RecordAnswer,
    id::{Key, NetworkId},
    record::Record,
    service::{Name, Unreachable},
    time::{Now, Time},
};

use super::{SITE_COPIES, SitePlace, SiteRecord, SiteVersion, latest, places};
use crate::capability::{ReadCap, SiteVerifyCap};

/// How long nobody may have a good record before the lookup ends.
const WAIT: Duration = Duration::from_secs(10);
/// How long others may still answer once one did: as long as that took, within these. One quick and
/// hostile holder does not decide alone with an old record.
const GRACE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));
/// Minutes for which an expired record is still believed, for clocks that differ.
const SKEW_MIN: u32 = 10;
/// So many places without a record mean that there is none: a site is published from two on.
const NOT_FOUND_QUORUM: usize = 2;
/// Version files read to see whether what was read before is among them: a site that was not visited
/// for longer is taken on trust.
pub const HISTORY_READ_MAX: usize = 32;
/// Longest version file in bytes.
pub const VERSION_FILE_MAX: u64 = 1 + 8 + 4 + 1 + super::LABEL_MAX as u64 + 2 * 64 + 1;

/// What was read of a site before, in the same isolation context: nothing older is accepted, and
/// nothing that does not continue it.
pub struct Seen {
    /// Its number.
    pub number: u64,
    /// Its version file.
    pub file: ReadCap,
}

impl Seen {
    /// The same.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self { number: self.number, file: self.file.duplicate() }
    }
}

/// What a lookup is told.
#[derive(Debug)]
pub enum LookupInput {
    /// What became of a `GetRecord`; `None` when no answer will come.
    Record {
        /// Of which place.
        place: u8,
        /// As the end hop said.
        answer: Option<RecordAnswer>,
    },
    /// What became of a `GetFile`: all of it, or `None` when it cannot be read.
    File(Option<Vec<u8>>),
}

/// What a lookup wants done.
#[derive(Debug)]
pub enum LookupOutput {
    /// Get a record, through a tunnel.
    GetRecord {
        /// Which of the site's places.
        place: u8,
        /// Where it lies.
        key: Key,
    },
    /// Get a stored file, which is [`VERSION_FILE_MAX`] bytes long at most. One at a time.
    GetFile(ReadCap),
    /// The lookup is over; nothing follows.
    Done(LookupOutcome),
}

/// How a lookup ended.
#[derive(Debug)]
pub enum LookupOutcome {
    /// A version that was not read before.
    Found(Box<Newest>),
    /// The version that was read before is the newest.
    Same(Vec<Record>),
    /// Those who should hold the records do not.
    NotFound,
    /// The site's key signed two things as this version, or one that does not continue what was read.
    Forked {
        /// The version.
        number: u64,
        /// The files that were found as this version, each once.
        branches: Vec<ReadCap>,
    },
    /// Records are there, and none is good or as new as what was read before.
    Invalid,
    /// A version was announced, and its version file is not to be read.
    Incomplete {
        /// The version.
        number: u64,
    },
    /// Those who should hold the records could not be asked.
    Unreachable(Unreachable),
}

/// The newest version.
pub struct Newest {
    /// What its version file says.
    pub version: SiteVersion,
    /// The version file.
    pub file: ReadCap,
    /// The records that say so, for who wants to announce them again.
    pub records: Vec<Record>,
    /// Whether it continues what was read before: known, or nothing was; else too much lies between, or a
    /// version file between is lost.
    pub continues: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    Awaited,
    Good,
    NotFound,
    NoRoute,
    Busy(u16),
    Invalid,
}

enum State {
    Asking { until: Time },
    Settling { until: Time },
    Reading { newest: Option<Box<Newest>>, file: ReadCap, number: u64, read: usize },
    Over,
}

/// The lookup of one site.
pub struct SiteLookup {
    name: Name,
    verify: SiteVerifyCap,
    network: NetworkId,
    places: Vec<SitePlace>,
    replies: Vec<Reply>,
    seen: Option<Seen>,
    started: Time,
    /// What was found, and the record that said it.
    found: Vec<SiteRecord>,
    records: Vec<Record>,
    state: State,
    outputs: VecDeque<LookupOutput>,
}

impl SiteLookup {
    /// Starts to look `name` up; `None` for the name of a live service.
    pub fn new(now: Now, name: Name, network: NetworkId, seen: Option<Seen>) -> Option<Self> {
        let verify = SiteVerifyCap::of(&name)?;
        let places = places(&verify, network);
        let ask = |place: &SitePlace| LookupOutput::GetRecord { place: place.copy, key: place.key };
        let outputs = places.iter().map(ask).collect();
        Some(Self {
            name,
            verify,
            network,
            replies: vec![Reply::Awaited; places.len()],
            places,
            seen,
            started: now.time,
            found: Vec::with_capacity(SITE_COPIES.into()),
            records: Vec::with_capacity(SITE_COPIES.into()),
            state: State::Asking { until: now.time + WAIT },
            outputs,
        })
    }

    /// Something happened. What nobody waits for changes nothing.
    pub fn handle_input(&mut self, now: Now, input: LookupInput) {
        match (input, &self.state) {
            (
                LookupInput::Record { place, answer },
                State::Asking { .. } | State::Settling { .. },
            ) => {
                self.answer(now, usize::from(place), answer);
                self.advance(now);
            }
            (LookupInput::File(content), State::Reading { .. }) => self.read(content.as_deref()),
            (LookupInput::Record { .. } | LookupInput::File(_), _) => {}
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Now) {
        self.advance(now);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<LookupOutput> {
        self.outputs.pop_front()
    }

    /// When to be woken.
    pub const fn poll_timeout(&self) -> Option<Time> {
        match self.state {
            State::Asking { until } | State::Settling { until } => Some(until),
            State::Reading { .. } | State::Over => None,
        }
    }

    fn answer(&mut self, now: Now, at: usize, answer: Option<RecordAnswer>) {
        if self.replies.get(at) != Some(&Reply::Awaited) {
            return;
        }
        let reply = match answer {
            Some(RecordAnswer::Found(bytes)) => self.open(now, at, bytes.as_bytes()),
            Some(RecordAnswer::NotFound | RecordAnswer::RecentlyFailed { .. }) => Reply::NotFound,
            Some(RecordAnswer::Busy { retry_s }) => Reply::Busy(retry_s),
            Some(
                RecordAnswer::NoRoute { .. } | RecordAnswer::Stored { .. } | RecordAnswer::Stale,
            )
            | None => Reply::NoRoute,
        };
        if let Some(place) = self.replies.get_mut(at) {
            *place = reply;
        }
    }

    fn open(&mut self, now: Now, at: usize, bytes: &[u8]) -> Reply {
        let Some(place) = self.places.get(at) else { return Reply::Invalid };
        let Ok(record) = Record::decode(bytes, self.network) else { return Reply::Invalid };
        let Ok(opened) = SiteRecord::open(&self.verify, place, &record) else {
            return Reply::Invalid;
        };
        if self.seen.as_ref().is_some_and(|seen| opened.number() < seen.number) {
            return Reply::Invalid;
        }
        if record.expiry().plus(SKEW_MIN) <= now.wall {
            return Reply::NotFound;
        }
        self.found.push(opened);
        self.records.push(record);
        Reply::Good
    }

    fn advance(&mut self, now: Now) {
        let awaited = self.replies.contains(&Reply::Awaited);
        match self.state {
            State::Asking { until } | State::Settling { until }
                if !awaited || now.time >= until =>
            {
                self.judge();
            }
            State::Asking { .. } if !self.found.is_empty() => {
                let took = now.time.since(self.started);
                self.state = State::Settling { until: now.time + took.clamp(GRACE.0, GRACE.1) };
            }
            State::Asking { .. } | State::Settling { .. } | State::Reading { .. } | State::Over => {
            }
        }
    }

    /// All that will answer has answered.
    fn judge(&mut self) {
        let Some((best, forked)) = latest(&self.found) else { return self.fail() };
        let number = best.number();
        let file = if forked { None } else { best.read(&self.name).ok() };
        self.records.retain(|record| record.version() == number);
        let records = std::mem::take(&mut self.records);
        let Some(file) = file else {
            return self.end(if forked {
                LookupOutcome::Forked { number, branches: self.branches(number) }
            } else {
                LookupOutcome::Invalid
            });
        };
        if let Some(seen) = self.seen.as_ref().filter(|seen| seen.number == number) {
            return self.end(if same(&seen.file, &file) {
                LookupOutcome::Same(records)
            } else {
                LookupOutcome::Forked { number, branches: vec![file] }
            });
        }
        self.records = records;
        self.outputs.push_back(LookupOutput::GetFile(file.duplicate()));
        self.state = State::Reading { newest: None, file, number, read: 0 };
    }

    /// The files that were found as this version.
    fn branches(&self, number: u64) -> Vec<ReadCap> {
        let mut branches: Vec<ReadCap> = Vec::new();
        for record in self.found.iter().filter(|record| record.number() == number) {
            if let Ok(file) = record.read(&self.name)
                && !branches.iter().any(|other| same(other, &file))
            {
                branches.push(file);
            }
        }
        branches
    }

    /// A version file came: the newest, or one of those before it.
    fn read(&mut self, content: Option<&[u8]>) {
        let State::Reading { newest, file, number, read } =
            std::mem::replace(&mut self.state, State::Over)
        else {
            return;
        };
        let version = content.and_then(|content| SiteVersion::decode(content).ok());
        let version = version.filter(|version| version.number == number);
        let (version, newest) = match (version, newest) {
            (Some(version), newest) => (version, newest),
            // A version between is lost: whether the newest continues what was read is not known.
            (None, Some(mut newest)) => {
                newest.continues = false;
                return self.end(LookupOutcome::Found(newest));
            }
            (None, None) if content.is_some() => return self.end(LookupOutcome::Invalid),
            (None, None) => return self.end(LookupOutcome::Incomplete { number }),
        };
        let previous = version.previous.as_ref().map(ReadCap::duplicate);
        let mut newest = newest.unwrap_or_else(|| {
            let records = std::mem::take(&mut self.records);
            Box::new(Newest { version, file, records, continues: true })
        });
        let Some(seen) = &self.seen else { return self.end(LookupOutcome::Found(newest)) };
        let before = number - 1;
        match previous {
            Some(previous) if seen.number < before && read < HISTORY_READ_MAX => {
                self.outputs.push_back(LookupOutput::GetFile(previous.duplicate()));
                let newest = Some(newest);
                self.state =
                    State::Reading { newest, file: previous, number: before, read: read + 1 };
            }
            Some(previous) if seen.number == before => {
                let agrees = same(&seen.file, &previous);
                let number = newest.version.number;
                self.end(if agrees {
                    LookupOutcome::Found(newest)
                } else {
                    LookupOutcome::Forked { number, branches: vec![newest.file] }
                });
            }
            _ => {
                newest.continues = false;
                self.end(LookupOutcome::Found(newest));
            }
        }
    }

    /// Nobody had a good record.
    fn fail(&mut self) {
        let count = |reply| self.replies.iter().filter(|it| **it == reply).count();
        let busy = self.replies.iter().filter_map(|reply| match reply {
            Reply::Busy(retry_s) => Some(*retry_s),
            _ => None,
        });
        let outcome = if count(Reply::NotFound) >= NOT_FOUND_QUORUM {
            LookupOutcome::NotFound
        } else if count(Reply::Invalid) > 0 {
            LookupOutcome::Invalid
        } else if let Some(retry_s) = busy.min() {
            LookupOutcome::Unreachable(Unreachable::Busy { retry_s })
        } else {
            LookupOutcome::Unreachable(Unreachable::NoRoute)
        };
        self.end(outcome);
    }

    fn end(&mut self, outcome: LookupOutcome) {
        self.state = State::Over;
        self.outputs.push_back(LookupOutput::Done(outcome));
    }
}

/// Whether two capabilities read one file.
pub(super) fn same(one: &ReadCap, other: &ReadCap) -> bool {
    one.verify().roots() == other.verify().roots()
}

macro_rules! mute {
    ($($name:ident),*) => {$(
        /// Mute: which sites a person reads is never logged (DESIGN section 3).
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("_")
            }
        }
    )*};
}
mute!(Seen, Newest, SiteLookup);
