//! Keeping each record on the routers closest to its key, while routers come and go.
//!
//! Lives here: the pass over all records that follows a change of the neighbourhood, handing over
//! before leaving, who is close to a key. Does not live here: copies of a record that was just put;
//! the ring sends those (`ring/request.rs`), and the books presume them made.
//!
//! ```text
//! Idle ──neighbourhood changed──> Passing ──every record was looked at──> Idle
//!   └───────────┬────────────────────┘
//!            HandOver ──> Leaving ──all sent, twice round, or time is up──> Left (HandedOver)
//! ```

use std::time::Duration;

use warren_overlay::{
    id::{Key, LinkNo, Location},
    ring::{REPLICAS, RingMessage},
    time::{Now, Time},
};

use super::{Holder, HolderOutput};

/// A router with more closer neighbours than this has no business with a record: it takes none in
/// and parts with those it has, once the closest were sent them.
pub const FAR: usize = 8;
/// How long after a change a pass begins: changes come in crowds.
const PASS_DELAY: Duration = Duration::from_secs(1);
/// Routers that send a copy to a newcomer, of those that had the record: the closest two, so that one
/// that keeps silent changes nothing, and three do not all do the same work.
const SENDERS: usize = 2;
/// How often a pass goes on.
const PASS_EVERY: Duration = Duration::from_millis(250);
/// Copies sent each time: at most 128 KiB a second, and far below what a link's control queue takes.
const PASS_SENDS_MAX: usize = 8;
/// Records looked at each time.
const PASS_LOOKS_MAX: usize = 512;
/// How often handing over goes on.
const LEAVE_EVERY: Duration = Duration::from_millis(50);
/// Copies sent each time, 1.3 MB a second or less: a link's control queue (256 messages, 512 KiB)
/// has room for five rounds even if all go to one neighbour.
const LEAVE_SENDS_MAX: usize = 24;
/// The ring says goodbye 3 s after it asked to hand over.
const LEAVE_WAIT: Duration = Duration::from_millis(2_500);

/// What spreading is busy with.
#[derive(Clone, Copy, Debug)]
pub(super) enum Spread {
    Idle,
    /// Goes round the keys from `end` to `end`. `after`: the last one looked at.
    Passing {
        at: Time,
        after: Option<Key>,
        end: Option<Key>,
        wrapped: bool,
    },
    /// Goes through all records twice: those who are not known to have one come first.
    Leaving {
        at: Time,
        after: Option<Key>,
        again: bool,
        until: Time,
    },
    Left,
}

impl Spread {
    pub(super) const fn next(&self) -> Option<Time> {
        match self {
            Self::Passing { at, .. } | Self::Leaving { at, .. } => Some(*at),
            Self::Idle | Self::Left => None,
        }
    }

    /// The neighbourhood changed: once round from wherever a pass is now.
    pub(super) fn changed(&mut self, now: Time) {
        match self {
            Self::Idle => {
                let at = now + PASS_DELAY;
                *self = Self::Passing { at, after: None, end: None, wrapped: false };
            }
            Self::Passing { after, end, wrapped, .. } => {
                *end = *after;
                *wrapped = false;
            }
            Self::Leaving { .. } | Self::Left => {}
        }
    }
}

/// Who is around, as far as a key is concerned.
#[derive(Debug)]
pub(super) struct Closest {
    /// Neighbours among the three routers closest to it (this one counts), closest first.
    pub(super) targets: Vec<LinkNo>,
    /// Neighbours that are closer to it than this router.
    pub(super) closer: usize,
}

impl Holder {
    /// Who is close to `key`. `with_own`: whether this router counts as one of the three.
    pub(super) fn closest(&self, key: &Key, with_own: bool) -> Closest {
        let place = key.location();
        let mine = self.own.distance(place);
        // At most 64 neighbours and a few: no heap needed, three places are enough.
        let mut best: Vec<(u64, LinkNo)> = Vec::with_capacity(REPLICAS + 1);
        let mut closer = 0;
        for (link, location) in &self.around {
            let distance = Location::distance(*location, place);
            closer += usize::from(distance < mine);
            let at = best.partition_point(|other| *other < (distance, *link));
            if at < REPLICAS {
                best.insert(at, (distance, *link));
                best.truncate(REPLICAS);
            }
        }
        if with_own && closer < REPLICAS {
            best.truncate(REPLICAS - 1);
        }
        Closest { targets: best.into_iter().map(|(_, link)| link).collect(), closer }
    }

    /// Begins to hand over.
    pub(super) fn leave(&mut self, now: Time) {
        match self.spread {
            Spread::Idle | Spread::Passing { .. } => {
                let until = now + LEAVE_WAIT;
                self.spread = Spread::Leaving { at: now, after: None, again: false, until };
                self.hand_over(now);
            }
            Spread::Leaving { .. } => {}
            Spread::Left => self.handed_over = false, // to be said again
        }
    }

    pub(super) fn spread_timeout(&mut self, now: Now) {
        match self.spread {
            Spread::Passing { at, .. } if now.time >= at => self.pass(now),
            Spread::Leaving { at, .. } if now.time >= at => self.hand_over(now.time),
            Spread::Idle | Spread::Passing { .. } | Spread::Leaving { .. } | Spread::Left => {}
        }
    }

    /// Looks at some records: sends them to who should have them, drops what is not for here.
    fn pass(&mut self, now: Now) {
        let Spread::Passing { mut after, end, mut wrapped, .. } = self.spread else { return };
        let mut sent = 0;
        for _ in 0..PASS_LOOKS_MAX {
            let Some(key) = self.books.next_after(after) else {
                if wrapped || end.is_none() {
                    self.spread = Spread::Idle;
                    return;
                }
                (wrapped, after) = (true, None);
                continue;
            };
            if wrapped && end.is_some_and(|end| key > end) {
                self.spread = Spread::Idle;
                return;
            }
            let closest = self.closest(&key, true);
            let mut missing = self.without_copy(&key, &closest.targets);
            if self.closer_senders(&key, &closest.targets) >= SENDERS {
                missing.clear();
            }
            if sent + missing.len() > PASS_SENDS_MAX {
                break;
            }
            after = Some(key);
            sent += missing.len();
            let is_sent = missing.is_empty() || self.replicate(&key, &missing, Some(now));
            if is_sent {
                self.note_copies(&key, closest.targets);
                if closest.closer > FAR {
                    self.drop_record(&key);
                }
            }
        }
        self.spread = Spread::Passing { at: now.time + PASS_EVERY, after, end, wrapped };
    }

    /// Sends some records to those who are closest once this router is gone.
    fn hand_over(&mut self, now: Time) {
        let Spread::Leaving { mut after, mut again, until, .. } = self.spread else { return };
        if now >= until {
            return self.left();
        }
        let mut sent = 0;
        loop {
            let Some(key) = self.books.next_after(after) else {
                if again {
                    return self.left();
                }
                (after, again) = (None, true);
                continue;
            };
            // That somebody has a copy is presumed, not known: so the closest is sent one at once, and the
            // others once all who should have none have theirs.
            let mut targets = self.closest(&key, false).targets;
            let closest = targets.first().copied();
            let missing = self.without_copy(&key, &targets);
            targets.retain(|it| (missing.contains(it) || closest == Some(*it)) != again);
            if sent + targets.len() > LEAVE_SENDS_MAX {
                self.spread = Spread::Leaving { at: now + LEAVE_EVERY, after, again, until };
                return;
            }
            after = Some(key);
            sent += targets.len();
            self.replicate(&key, &targets, None);
        }
    }

    fn left(&mut self) {
        self.spread = Spread::Left;
    }

    /// How many that are closer to `key` than this router have the record as well and will send it.
    fn closer_senders(&self, key: &Key, targets: &[LinkNo]) -> usize {
        let Some(entry) = self.books.get(key) else { return 0 };
        let mine = self.own.distance(key.location());
        let is_closer = |link: &LinkNo| {
            let it = self.around.iter().find(|(other, _)| other == link);
            it.is_some_and(|(_, location)| location.distance(key.location()) < mine)
        };
        targets.iter().filter(|link| entry.copies.contains(link) && is_closer(link)).count()
    }

    fn without_copy(&self, key: &Key, targets: &[LinkNo]) -> Vec<LinkNo> {
        let copies = self.books.get(key).map(|it| &it.copies[..]).unwrap_or_default();
        targets.iter().filter(|link| !copies.contains(link)).copied().collect()
    }

    fn note_copies(&mut self, key: &Key, targets: Vec<LinkNo>) {
        if let Some(entry) = self.books.get_mut(key) {
            entry.copies = targets;
        }
    }

    /// Sends a record; says whether there was one to send.
    fn replicate(&mut self, key: &Key, to: &[LinkNo], now: Option<Now>) -> bool {
        let Some(record) = self.read(key) else { return false };
        if now.is_some_and(|now| !record.is_current(now.wall)) {
            return false;
        }
        for link in to {
            let message = RingMessage::Replicate(record.clone());
            self.out.push_back(HolderOutput::Send { link: *link, message });
        }
        true
    }
}
