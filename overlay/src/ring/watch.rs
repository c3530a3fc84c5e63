//! Watching a record: asking for a version that is not there yet.
//!
//! Lives here: what is asked for and its bytes, who waits at the end of the way and for how long, and what
//! ends the wait (more methods of the engine of `request.rs`). Does not live here: the way there, which is
//! that of any request; renewing (whoever asked does, through another tunnel).
//!
//! ```text
//!  Watch{key, above} ── a hop has a higher version ──────────────────────────────────────> Found
//!        │ else                                          a higher one is put or copied here │
//!        └── passed on ──> the closest to the key ──> Parked ───────────────────────────────┤
//!                 ^  the hop asked goes, at any time │           8 min without ──> NotFound │
//!                 └──────────────────────────────────┘
//! ```
//!
//! Each hop keeps the request open, so what ends the wait comes back the way it was asked, and a hop that
//! loses the next one asks another at once. Nobody waits longer than a lease; nobody is told of anything
//! that he did not ask for.

use std::time::Duration;

use super::{
    job::{Job, Phase},
    neighbours::Neighbours,
    request::Requests,
    wire::{Body, Found},
};
use crate::{
    answer::Answer,
    id::Key,
    record::Record,
    time::Time,
    unit::{Unit, UnitKey},
    wire::{Reader, WireError, Writer},
};

/// How long a watch lasts at most; then whoever still wants to know asks again.
pub const WATCH_LEASE: Duration = Duration::from_mins(8);
/// Watches that a router keeps open for others: under 1 MiB.
pub(super) const WATCHES_MAX: usize = 2_048;
/// Of these, from one link: all at once answered they are half of what a link's control queue holds.
pub(super) const WATCHES_PER_LINK_MAX: usize = 64;
/// Own watches at a time, of the own questions: others ask through tunnels that end here.
pub(super) const WATCH_QUERIES_MAX: usize = 256;
/// A watch that ends without anything so long before its time was not kept: the clocks of two hops need
/// less, and so does the way.
const EARLY: Duration = Duration::from_secs(30);

/// The record with this key, as soon as there is a version above the known one.
///
/// | bytes | field |
/// |-------|-------|
/// | 32    | key |
/// | 8     | version that is known; 0 for none |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    /// The record's key.
    pub key: Key,
    /// Only a higher version is an answer.
    pub above: u64,
}

impl Watch {
    pub(crate) fn encode<'a>(&self, w: &'a mut Writer) -> &'a mut Writer {
        w.bytes(self.key.as_bytes()).u64(self.above)
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self { key: Key(r.array("ring key")?), above: r.u64("version known")? })
    }
}

impl Body {
    /// Whether it may stay open for minutes.
    pub(super) const fn is_watch(&self) -> bool {
        matches!(self, Self::Watch(_))
    }

    /// What to look for in the own store.
    pub(super) const fn sought(&self) -> Option<UnitKey> {
        match self {
            Self::Get(key) => Some(*key),
            Self::Watch(watch) => Some(UnitKey::Record(watch.key)),
            Self::Find(_) | Self::Put(_) => None,
        }
    }

    /// Whether this unit is what is asked for.
    pub(super) fn is_met_by(&self, unit: &Unit) -> bool {
        let newer = match (self, unit) {
            (Self::Watch(watch), Unit::Record(record)) => record.version() > watch.above,
            _ => true,
        };
        newer && self.sought() == Some(unit.key())
    }
}

/// Whether a watch that ends without anything now was kept as long as it should be.
pub(super) fn is_kept(now: Time, job: &Job) -> bool {
    now + EARLY >= job.give_up
}

impl Requests {
    /// This router is where the record would be: the request waits here.
    pub(super) fn park(&mut self, number: u32, key: Key) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        job.phase = Phase::Parked;
        self.parked.insert((key, number));
        self.say_accepted(number);
        self.set_timer(number);
    }

    /// A record was put or copied here: those who wait for it get it.
    pub(super) fn came_by(&mut self, now: Time, around: &mut Neighbours, record: &Record) {
        let unit = Unit::from(record.clone());
        let key = record.key();
        let waiting: Vec<u32> =
            self.parked.range((key, 0)..=(key, u32::MAX)).map(|(_, number)| *number).collect();
        for number in waiting {
            let met = self.jobs.get(&number).is_some_and(|job| job.body.is_met_by(&unit));
            if met {
                self.finish(now, around, number, Answer::Found(Found::Unit(unit.clone())));
            }
        }
    }
}
