//! A router asks after those it has sampled, and after the hops that it keeps.
//!
//! Lives here: after whom and when, and what is made of the answers. Does not live here: the tunnels that the
//! questions go through (the owner), who is sampled (`view.rs`), the hops that are kept (`tunnel/layers.rs`).
//!
//! Gossip names whom it names: of a router among many thousands the next descriptor may not come by before the
//! last has expired, and who is gone is named as long as who is there. So each sampled router is asked after by
//! its place on the ring, through a tunnel that is used for this one question (PROTOCOL P11): neither a
//! neighbour nor an end hop learns two names of one sample.
//!
//! ```text
//!  not renewed in time, ── its moment ──> Ask ── found ──────────────> Fresh: the view has its newest descriptor
//!  or builds fail at it,       ^           |
//!  or kept and not known       |           |── nobody there ── the third, of exits apart, an hour apart ──> Gone
//!                              |           '── no answer
//!                              '── an hour or two, or some minutes ──'
//! ```
//!
//! What an answer can do: renew who is sampled, or end it. Whom to ask after follows from the sample alone, so
//! no answer brings anybody in; and a router that was called gone is back with the next descriptor it makes.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::view::VIEW_MAX;
use crate::{
    answer::Answer,
    garlic::RouterAnswer,
    id::{Location, NetworkId, RouterId},
    rng::Rng,
    room::Room,
    time::{Now, Time, Wall},
    wire::{Prefix, RouterDescriptor},
};

/// How often it is looked after whom to ask.
const LOOK_EVERY: Duration = Duration::from_mins(10);
/// From an answer to the next question, uniform, in milliseconds: some 220 an hour, what it takes to ask after
/// 2,048 routers within what is left of half of a descriptor's day.
const PACE_MS: (u64, u64) = (12_000, 20_000);
/// Who has not made its next descriptor an hour after half of the last one's time either did not, or it did not
/// come by.
const LATE: u32 = 60;
/// How long after that the question is asked: a share of the time that is left, so that some is left to ask again.
const SPREAD: u32 = 2;
/// Exits that say that nobody is there, one after the other, before that is believed.
const MISSES: usize = 3;
/// Minutes until the next question after one of these, uniform.
const AFTER_MISS: (u32, u32) = (60, 120);
/// The same where there was no answer, or a router was just found to fail.
const SOON: (u32, u32) = (10, 30);
/// Minutes for which a router that was found is there, whatever fails at it.
const FOUND: u32 = 6 * 60;
/// Kept hops that are remembered: as many as are protected from giving way.
const KEPT_MAX: usize = VIEW_MAX / 2;

/// What happened.
#[derive(Debug)]
pub enum UpkeepInput {
    /// The answer to [`UpkeepOutput::Look`].
    Known {
        /// The private sample, with the hops that are kept, as far as they are known.
        sampled: Vec<Arc<RouterDescriptor>>,
        /// The hops that are kept.
        kept: Vec<RouterId>,
        /// Those at which builds of ours failed last.
        failed: BTreeSet<RouterId>,
    },
    /// The answer to [`UpkeepOutput::Ask`].
    Answered {
        /// The end hop that gave it.
        exit: RouterId,
        /// Where that is, if places mean something.
        place: Option<Prefix>,
        /// What it says; nobody has checked it.
        answer: RouterAnswer,
    },
    /// There was none, or no tunnel.
    Unanswered,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpkeepOutput {
    /// Say who is known. Without an answer this is asked again in ten minutes.
    Look,
    /// Ask for the router at this place, through a tunnel of its own. One question at a time.
    Ask(Location),
    /// Who was asked after describes itself so, and has signed it.
    Fresh(Arc<RouterDescriptor>),
    /// It is not there any more, unless its use has shown otherwise of late.
    Gone(RouterId),
}

/// Numbers: of this run, but for the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpkeepStatus {
    /// Routers that are going to be asked after.
    pub waiting: usize,
    /// Questions asked.
    pub asked: u64,
    /// Those that found the router.
    pub found: u64,
    /// Those that were answered: nobody there.
    pub missed: u64,
    /// Routers that were called gone.
    pub gone: u64,
}

/// A router to be asked after.
#[derive(Debug)]
struct Subject {
    location: Location,
    /// Of the descriptor that is known; none for a kept hop that is not known any more.
    published: Option<Wall>,
    kept: bool,
    /// When.
    at: Wall,
    /// Exits that said that nobody is there, and where they are.
    misses: Vec<(RouterId, Option<Prefix>)>,
}

/// The machine.
#[derive(Debug)]
pub struct Upkeep {
    network: NetworkId,
    rng: Rng,
    /// At most the sample and [`KEPT_MAX`].
    subjects: BTreeMap<RouterId, Subject>,
    /// Where the kept hops are: who is known no more can still be asked after.
    places: BTreeMap<RouterId, Location>,
    /// Who was found lately.
    found: BTreeMap<RouterId, Wall>,
    asking: Option<RouterId>,
    look_at: Time,
    /// No question before.
    next: Time,
    status: UpkeepStatus,
    out: VecDeque<UpkeepOutput>,
}

impl Upkeep {
    /// Nobody is to be asked after.
    pub fn new(now: Time, network: NetworkId, rng: Rng) -> Self {
        Self {
            network,
            rng,
            subjects: BTreeMap::new(),
            places: BTreeMap::new(),
            found: BTreeMap::new(),
            asking: None,
            look_at: now + LOOK_EVERY,
            next: now,
            status: UpkeepStatus::default(),
            out: VecDeque::new(),
        }
    }

    /// Something happened.
    pub fn handle_input(&mut self, now: Now, input: UpkeepInput) {
        match input {
            UpkeepInput::Known { mut sampled, kept, failed } => {
                sampled.truncate(VIEW_MAX);
                let kept = kept.into_iter().take(KEPT_MAX).collect();
                self.known(now.wall, &sampled, &kept, &failed);
            }
            UpkeepInput::Answered { exit, place, answer } => {
                let Some(id) = self.asked(now.time) else { return };
                match answer {
                    Answer::Found(bytes) => {
                        let read = RouterDescriptor::decode_shared(bytes.as_bytes(), self.network);
                        match read {
                            Ok(it) if it.id() == id && it.is_current(now.wall) => {
                                self.is_there(now.wall, it);
                            }
                            // Nobody who is honest says that.
                            Ok(_) | Err(_) => self.again(now.wall, id, SOON),
                        }
                    }
                    Answer::NotFound => self.is_missing(now.wall, id, (exit, place)),
                    _ => self.again(now.wall, id, SOON),
                }
            }
            UpkeepInput::Unanswered => {
                if let Some(id) = self.asked(now.time) {
                    self.again(now.wall, id, SOON);
                }
            }
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.look_at <= now.time {
            self.look_at = now.time + LOOK_EVERY;
            self.out.push_back(UpkeepOutput::Look);
        }
        if self.asking.is_some() || now.time < self.next || self.subjects.is_empty() {
            return;
        }
        // Kept hops first: they are few, and more depends on them.
        let due = self.subjects.iter().filter(|(_, it)| it.at <= now.wall);
        match due.min_by_key(|(_, it)| (!it.kept, it.at)) {
            Some((id, it)) => {
                self.asking = Some(*id);
                self.status.asked += 1;
                self.out.push_back(UpkeepOutput::Ask(it.location));
            }
            None => self.next = now.time + Duration::from_mins(1),
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<UpkeepOutput> {
        self.out.pop_front()
    }

    /// When to be woken.
    pub fn poll_timeout(&self) -> Option<Time> {
        let waits = self.asking.is_some() || self.subjects.is_empty();
        Some(if waits { self.look_at } else { self.look_at.min(self.next) })
    }

    /// Gives up room that nothing needs.
    pub fn rest(&mut self) {
        self.rng.rest();
        self.out.rest();
    }

    /// Numbers.
    pub fn status(&self) -> UpkeepStatus {
        UpkeepStatus { waiting: self.subjects.len(), ..self.status }
    }

    fn known(
        &mut self,
        wall: Wall,
        sampled: &[Arc<RouterDescriptor>],
        kept: &BTreeSet<RouterId>,
        failed: &BTreeSet<RouterId>,
    ) {
        self.found.retain(|_, at| at.plus(FOUND) > wall);
        self.places.retain(|id, _| kept.contains(id));
        let mut wanted = BTreeSet::new();
        for it in sampled {
            let id = it.id();
            if kept.contains(&id) {
                self.places.insert(id, it.location());
            }
            let late = late(it);
            let fails = failed.contains(&id) && !self.found.contains_key(&id);
            if late <= wall || fails {
                wanted.insert(id);
                let at = if late <= wall { self.moment(it, wall) } else { self.drawn(wall, SOON) };
                self.subject(it, kept.contains(&id), at);
            }
        }
        let known: BTreeSet<_> = sampled.iter().map(|it| it.id()).collect();
        let lost: Vec<_> = self.places.iter().filter(|(id, _)| !known.contains(id)).collect();
        let lost: Vec<_> = lost.into_iter().map(|(id, location)| (*id, *location)).collect();
        for (id, location) in lost {
            wanted.insert(id);
            let at = self.drawn(wall, SOON);
            let fresh = || Subject { location, published: None, kept: true, at, misses: vec![] };
            self.subjects.entry(id).or_insert_with(fresh).published = None;
        }
        let asking = self.asking;
        self.subjects.retain(|id, _| wanted.contains(id) || asking == Some(*id));
    }

    /// One to be asked after at that minute, unless that was known already.
    fn subject(&mut self, it: &RouterDescriptor, kept: bool, at: Wall) {
        let published = Some(it.fields().published);
        let location = it.location();
        let fresh = Subject { location, published, kept, at, misses: Vec::new() };
        match self.subjects.get_mut(&it.id()) {
            Some(old) if old.published >= published => old.kept = kept,
            _ => _ = self.subjects.insert(it.id(), fresh),
        }
    }

    /// When to ask after a router that is late: a moment of chance in what time its descriptor has left.
    fn moment(&mut self, it: &RouterDescriptor, wall: Wall) -> Wall {
        let late = late(it);
        let left = it.fields().expiry.minutes().saturating_sub(late.minutes());
        let spread = u64::from(left / SPREAD) + 1;
        let at = late.plus(u32::try_from(self.rng.below(spread)).unwrap_or(0));
        at.max(wall)
    }

    fn drawn(&mut self, wall: Wall, (least, most): (u32, u32)) -> Wall {
        let more = self.rng.below(u64::from(most - least) + 1);
        wall.plus(least + u32::try_from(more).unwrap_or(0))
    }

    /// The question is over, whatever came of it; after whom it was.
    fn asked(&mut self, now: Time) -> Option<RouterId> {
        let (least, most) = PACE_MS;
        let pause = Duration::from_millis(least + self.rng.below(most - least + 1));
        let asked = self.asking.take()?;
        self.next = now + pause;
        Some(asked)
    }

    fn again(&mut self, wall: Wall, id: RouterId, after: (u32, u32)) {
        let at = self.drawn(wall, after);
        if let Some(subject) = self.subjects.get_mut(&id) {
            subject.at = at;
        }
    }

    fn is_there(&mut self, wall: Wall, it: Arc<RouterDescriptor>) {
        let id = it.id();
        self.found.insert(id, wall);
        self.status.found += 1;
        self.again(wall, id, (FOUND / 2, FOUND));
        if let Some(subject) = self.subjects.get_mut(&id) {
            subject.misses.clear();
            if Some(it.fields().published) > subject.published {
                self.subjects.remove(&id);
            }
        }
        self.out.push_back(UpkeepOutput::Fresh(it));
    }

    fn is_missing(&mut self, wall: Wall, id: RouterId, exit: (RouterId, Option<Prefix>)) {
        self.status.missed += 1;
        let Some(subject) = self.subjects.get_mut(&id) else { return };
        let said = |(who, place): &(RouterId, Option<Prefix>)| {
            *who == exit.0 || place.is_some() && *place == exit.1
        };
        // One place has one voice.
        if subject.misses.iter().any(said) {
            return self.again(wall, id, SOON);
        }
        subject.misses.push(exit);
        if subject.misses.len() >= MISSES {
            subject.misses.clear();
            self.status.gone += 1;
            self.out.push_back(UpkeepOutput::Gone(id));
        }
        self.again(wall, id, AFTER_MISS);
    }
}

/// From when on a router is late: it should have described itself anew, and others have heard.
fn late(it: &RouterDescriptor) -> Wall {
    let fields = it.fields();
    let life = fields.expiry.minutes().saturating_sub(fields.published.minutes());
    fields.published.plus(life / 2 + LATE)
}

#[cfg(test)]
#[path = "upkeep_tests.rs"]
mod tests;
