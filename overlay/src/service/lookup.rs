//! Finding one service: ask three of six places, believe the highest version, say honestly why not.
//!
//! Lives here: one lookup of one name, from its first question to its one outcome. Does not live
//! here: tunnels (the owner sends each `Get` through one), the memory of versions (`memory.rs`),
//! retrying after an outcome.
//!
//! ```text
//!          ask 3 places              all 3 without a good record, or 3 s
//!  new ------------------> Asking ----------------------------------------> Asking (next wave)
//!                            |                                                | last wave:
//!                            | a good record                                  | all failed, or 10 s
//!                            v                                                v
//!                         Settling --all asked have answered, or grace--> Over, Done(outcome)
//! ```
//!
//! Waves: 3 random places of today, the other 3, and within 30 minutes of the service's day
//! boundary 3 and 3 of the neighbouring day, for a reader whose clock and the service's disagree.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use super::{AccessKey, Day, Name, PLACES, Place, ServiceDescriptor, open, place};
use crate::{
    garlic::RecordAnswer,
    id::{Key, NetworkId},
    record::Record,
    rng::Rng,
    time::{Now, Time, Wall},
};

/// Places asked at once.
const WAVE: usize = 3;
/// How long a wave may be silent before the next one is sent as well: a router on the way of its
/// requests may be.
const WAVE_WAIT: Duration = Duration::from_millis(800);
/// How long the last wave may be silent before the lookup ends.
const LAST_WAIT: Duration = Duration::from_secs(10);
/// How long others may still answer once a good record came: as long as that one took, within
/// these. The lower bound keeps one quick and hostile holder from deciding alone with an old record.
const GRACE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));
/// Minutes around the day boundary within which the neighbouring day is tried too.
const NEAR_MIN: u32 = 30;
/// Minutes for which an expired record is still believed, for clocks that differ (PROTOCOL P1).
const SKEW_MIN: u32 = 10;
/// So many of today's six places without a record mean that it is not published: a service counts
/// itself published from three on.
const NOT_FOUND_QUORUM: usize = 4;

/// What a lookup is told.
#[derive(Debug)]
pub enum Input {
    /// What became of one `Get`.
    Answer {
        /// Its number.
        request: u32,
        /// As the end hop said.
        answer: RecordAnswer,
    },
}

/// What a lookup wants done.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Get the record under `key`, through a tunnel.
    Get {
        /// Counts from 0 in each lookup.
        request: u32,
        /// Where it lies.
        key: Key,
    },
    /// The lookup is over; nothing follows.
    Done(Outcome),
}

/// How a lookup ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Here it is.
    Found(Found),
    /// Those who should hold it do not: the name is wrong, or the service is off.
    NotFound,
    /// Those who should hold it could not be asked: this network's trouble, try again.
    Unreachable(Unreachable),
    /// Only records that are forged, damaged, or older than what was read before.
    Invalid,
}

/// A descriptor, verified and opened.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// What the service says.
    pub descriptor: Arc<ServiceDescriptor>,
    /// The record's version: to be remembered, so that an older one is refused from now on.
    pub version: u64,
    /// When it stops being true.
    pub expiry: Wall,
}

/// Why nobody could be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// Requests ended before they reached those who should hold the record, or got no answer.
    NoRoute,
    /// At least one router on the way was overloaded.
    Busy {
        /// Ask again after this many seconds.
        retry_s: u16,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    Unsent,
    Awaited,
    Good,
    NotFound,
    NoRoute,
    Busy(u16),
    Invalid,
}

struct Ask {
    place: Place,
    wave: usize,
    reply: Reply,
}

#[derive(Clone, Copy)]
enum State {
    Asking { wave: usize, until: Time },
    Settling { until: Time },
    Over,
}

/// The lookup of one name.
pub struct Lookup {
    name: Name,
    access: Option<Arc<AccessKey>>,
    network: NetworkId,
    today: Day,
    floor: u64,
    started: Time,
    asks: Vec<Ask>,
    best: Option<Found>,
    state: State,
    outputs: VecDeque<Output>,
}

impl Lookup {
    /// Starts looking `name` up: where everybody does, or where the client that holds `access` does.
    /// `floor` is the lowest version to accept ([`super::VersionMemory::floor`]).
    pub fn new(
        now: Now,
        name: Name,
        access: Option<Arc<AccessKey>>,
        network: NetworkId,
        floor: u64,
        mut rng: Rng,
    ) -> Self {
        let today = Day::at(&name, now.wall);
        let mut days = vec![today];
        if Day::at(&name, now.wall.plus(NEAR_MIN)) != today {
            days.push(today.next());
        } else if now.wall < today.start(&name).plus(NEAR_MIN) {
            days.push(today.previous());
        }
        let mut asks = Vec::with_capacity(days.len() * PLACES);
        for (nth, day) in days.into_iter().enumerate() {
            for (at, index) in shuffled(&mut rng).into_iter().enumerate() {
                let place = place(&name, access.as_deref(), network, day, index);
                let Some(place) = place else { continue };
                asks.push(Ask { place, wave: nth + at / WAVE, reply: Reply::Unsent });
            }
        }
        let state = State::Asking { wave: 0, until: now.time };
        let (best, outputs) = (None, VecDeque::new());
        let started = now.time;
        let mut lookup =
            Self { name, access, network, today, floor, started, asks, best, state, outputs };
        lookup.send(now.time, 0);
        lookup
    }

    /// The name that is looked up.
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// An answer came. One that nobody waits for changes nothing.
    pub fn handle_input(&mut self, now: Now, input: Input) {
        let Input::Answer { request, answer } = input;
        if matches!(self.state, State::Over) {
            return;
        }
        let at = usize::try_from(request).unwrap_or(usize::MAX);
        let Some(ask) = self.asks.get(at).filter(|ask| ask.reply == Reply::Awaited) else { return };
        let reply = match answer {
            RecordAnswer::Found(bytes) => self.read(ask.place, bytes.as_bytes(), now),
            RecordAnswer::NotFound | RecordAnswer::RecentlyFailed { .. } => Reply::NotFound,
            RecordAnswer::Busy { retry_s } => Reply::Busy(retry_s),
            RecordAnswer::NoRoute { .. } | RecordAnswer::Stored { .. } | RecordAnswer::Stale => {
                Reply::NoRoute
            }
        };
        if let Some(ask) = self.asks.get_mut(at) {
            ask.reply = reply;
        }
        self.advance(now);
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Now) {
        self.advance(now);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to be woken.
    pub const fn poll_timeout(&self) -> Option<Time> {
        match self.state {
            State::Asking { until, .. } | State::Settling { until } => Some(until),
            State::Over => None,
        }
    }

    /// Checks a record from `place` and keeps it if it is the best so far.
    fn read(&mut self, place: Place, bytes: &[u8], now: Now) -> Reply {
        let Ok(record) = Record::decode(bytes, self.network) else { return Reply::Invalid };
        let access = self.access.as_deref();
        let Ok(descriptor) = open(&self.name, access, self.network, &place, &record) else {
            return Reply::Invalid;
        };
        let (version, expiry) = (record.version(), record.expiry());
        if version < self.floor {
            return Reply::Invalid;
        }
        if expiry.plus(SKEW_MIN) <= now.wall {
            return Reply::NotFound; // the service has been silent for hours
        }
        if self.best.as_ref().is_none_or(|best| version > best.version) {
            self.best = Some(Found { descriptor: Arc::new(descriptor), version, expiry });
        }
        Reply::Good
    }

    fn advance(&mut self, now: Now) {
        let awaited = self.asks.iter().any(|ask| ask.reply == Reply::Awaited);
        match self.state {
            State::Asking { .. } | State::Settling { .. } if self.best.is_some() && !awaited => {
                self.finish();
            }
            State::Asking { .. } if self.best.is_some() => {
                let took = now.time.since(self.started);
                self.state = State::Settling { until: now.time + took.clamp(GRACE.0, GRACE.1) };
            }
            State::Asking { wave, until } if !awaited || now.time >= until => {
                if wave + 1 < self.waves() { self.send(now.time, wave + 1) } else { self.finish() }
            }
            State::Settling { until } if now.time >= until => self.finish(),
            State::Asking { .. } | State::Settling { .. } | State::Over => {}
        }
    }

    fn waves(&self) -> usize {
        self.asks.iter().map(|ask| ask.wave + 1).max().unwrap_or(0)
    }

    fn send(&mut self, now: Time, wave: usize) {
        for (request, ask) in (0u32..).zip(&mut self.asks).filter(|(_, ask)| ask.wave == wave) {
            ask.reply = Reply::Awaited;
            self.outputs.push_back(Output::Get { request, key: ask.place.key });
        }
        let wait = if wave + 1 < self.waves() { WAVE_WAIT } else { LAST_WAIT };
        self.state = State::Asking { wave, until: now + wait };
    }

    fn finish(&mut self) {
        let outcome = self.outcome();
        tracing::debug!(found = matches!(outcome, Outcome::Found(_)), "lookup over");
        self.state = State::Over;
        self.outputs.push_back(Output::Done(outcome));
    }

    fn outcome(&mut self) -> Outcome {
        if let Some(found) = self.best.take() {
            return Outcome::Found(found);
        }
        let empty = |ask: &&Ask| ask.place.day == self.today && ask.reply == Reply::NotFound;
        if self.asks.iter().filter(empty).count() >= NOT_FOUND_QUORUM {
            return Outcome::NotFound;
        }
        if self.asks.iter().any(|ask| ask.reply == Reply::Invalid) {
            return Outcome::Invalid;
        }
        let busy = self.asks.iter().filter_map(|ask| match ask.reply {
            Reply::Busy(retry_s) => Some(retry_s),
            _ => None,
        });
        Outcome::Unreachable(
            busy.min().map_or(Unreachable::NoRoute, |retry_s| Unreachable::Busy { retry_s }),
        )
    }
}

/// 0 to 5 in random order: which places a reader asks first tells nothing about it.
fn shuffled(rng: &mut Rng) -> [u8; PLACES] {
    let mut order = [0, 1, 2, 3, 4, 5];
    for at in (1..PLACES).rev() {
        let with = rng.below(at as u64 + 1);
        order.swap(at, usize::try_from(with).unwrap_or(0));
    }
    order
}

/// Mute but for the state.
impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Asking { wave, .. } => return write!(f, "Lookup(wave {wave})"),
            State::Settling { .. } => "settling",
            State::Over => "over",
        };
        write!(f, "Lookup({state})")
    }
}

#[cfg(test)]
mod tests;
