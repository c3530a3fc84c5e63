//! The ring's housekeeping: join, close the ring, draw long links, gossip, prune, leave.
//!
//! Lives here: what a ring does of its own accord, and its timers. Does not live here: what messages
//! do (`machine.rs`), who is named to whom (`gossip.rs`), telling of routers to choose hops among
//! (`report.rs`).
//!
//! Join: up to 5 of the known routers are asked in parallel who is closest to this router's place;
//! those become successors and predecessors, and name closer ones, until nothing changes. Then long
//! links are drawn one by one. A network with no more routers than this one's degree is a full mesh.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    api::Output,
    machine::Ring,
    neighbours::{NEAR, Origin},
    report::Report,
    wire::{Body, Class, Reach, RingMessage},
};
use crate::{
    id::{LinkNo, Location, RouterId},
    room::Room,
    time::{Now, Time, earliest},
    wire::{LinkMessage, RouterDescriptor},
};

/// Seeds asked at once.
const SEEDS_AT_ONCE: usize = 5;
/// Seeds that must have answered (or all).
const SEEDS_WANTED: usize = 3;
/// Seeds and cached neighbours remembered.
const SEEDS_MAX: usize = 64;
/// After so long one that answered will do.
const SEEDS_WAIT: Duration = Duration::from_secs(2);
/// When nobody answered, all again after this.
const SEEDS_AGAIN: Duration = Duration::from_secs(5);
/// Dials at a time: what P3's dial budget lets through in four seconds.
const DIALS_MAX: usize = 16;
/// How long the owner may take to dial.
const DIAL_WAIT: Duration = Duration::from_secs(15);
/// How long a `Hello` may stay unanswered.
const HELLO_WAIT: Duration = Duration::from_secs(5);
/// Draws looked up at a time.
const DRAWS_MAX: usize = 3;
/// Draws in a row that led nowhere new, after which drawing pauses.
const FRUITLESS_MAX: u32 = 8;
/// That pause; doubles up to 16 times this while nothing comes of it.
const DRAW_PAUSE: Duration = Duration::from_secs(2);
const DRAW_PAUSE_DOUBLINGS_MAX: u32 = 4;
/// Gossip goes out this often, and on change.
const GOSSIP_EVERY: Duration = Duration::from_secs(30);
/// The table is looked at this often while something is missing, and this often otherwise.
const TEND_SOON: Duration = Duration::from_secs(1);
const TEND_LATER: Duration = Duration::from_secs(10);
/// How soon after joining a small network is taken for what it is.
const MESH_AFTER: Duration = Duration::from_secs(1);
/// The own place is looked up this often: first soon, to heal joins at the same time, then rarely.
const LOOKUPS: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(8),
    Duration::from_secs(20),
    Duration::from_mins(1),
];
/// How long handing over may take before the goodbye.
const HANDOVER_WAIT: Duration = Duration::from_secs(3);

/// What an internal question is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// The owner asked.
    Owner(u32),
    /// The owner asked for the router at this place.
    Router { query: u32, location: Location },
    /// Who is around this router's place, asked of a seed.
    Join,
    /// The same, asked of the ring itself.
    Lookup,
    /// Who is around a drawn point.
    Draw { target: Location },
}

/// Why somebody is dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dial {
    Seed,
    Neighbour(Reach, Origin),
}

/// How far this router's life on the ring has come (the picture in `machine.rs`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Idle,
    Joining {
        since: Time,
    },
    Joined {
        since: Time,
    },
    Leaving {
        until: Time,
    },
    Left,
}

#[derive(Debug, Default)]
pub(super) struct Housekeeping {
    stage: Stage,
    seeds: Vec<Arc<RouterDescriptor>>,
    /// Seeds still to be asked in this round.
    round: VecDeque<Arc<RouterDescriptor>>,
    seeds_open: usize,
    seeds_answered: usize,
    seeds_again: Option<Time>,
    dials: BTreeMap<RouterId, (Dial, Time)>,
    draws: usize,
    fruitless: u32,
    draw_after: Time,
    pub(super) purposes: BTreeMap<u32, Purpose>,
    next_number: u32,
    pub(super) dirty: bool,
    /// The windows that all neighbours of now were granted.
    pub(super) granted: Option<[u8; 2]>,
    next_tend: Option<Time>,
    next_gossip: Option<Time>,
    next_lookup: Option<Time>,
    lookups: usize,
    pub(super) report: Report,
}

impl Housekeeping {
    /// A number for a question that serves `purpose`.
    pub(super) fn number(&mut self, purpose: Purpose) -> u32 {
        while self.purposes.contains_key(&self.next_number) {
            self.next_number = self.next_number.wrapping_add(1);
        }
        let number = self.next_number;
        self.next_number = number.wrapping_add(1);
        self.purposes.insert(number, purpose);
        number
    }

    /// Gives up room that nothing needs.
    pub(super) fn rest(&mut self) {
        self.round.rest();
        self.dials.rest();
        self.purposes.rest();
    }

    pub(super) const fn leaving(&self) -> bool {
        matches!(self.stage, Stage::Leaving { .. } | Stage::Left)
    }

    pub(super) const fn joined(&self) -> bool {
        matches!(self.stage, Stage::Joined { .. })
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let leave = match self.stage {
            Stage::Leaving { until } => Some(until),
            Stage::Idle | Stage::Joining { .. } | Stage::Joined { .. } | Stage::Left => None,
        };
        let Self { next_tend, next_gossip, next_lookup, report, .. } = self;
        earliest([*next_tend, *next_gossip, *next_lookup, report.poll_timeout(), leave])
    }
}

fn due(timer: &mut Option<Time>, now: Now) -> bool {
    timer.take_if(|at| *at <= now.time).is_some()
}

impl Ring {
    pub(super) fn start(
        &mut self,
        now: Now,
        seeds: Vec<Arc<RouterDescriptor>>,
        cached: Vec<Arc<RouterDescriptor>>,
    ) {
        if self.keep.leaving() {
            return;
        }
        let mut all: Vec<Arc<RouterDescriptor>> = Vec::new();
        for seed in cached.into_iter().chain(seeds) {
            let known = all.iter().any(|other| other.id() == seed.id());
            if !known && seed.id() != self.own.id() && all.len() < SEEDS_MAX {
                all.push(seed);
            }
        }
        self.keep.round = all.iter().cloned().collect();
        self.keep.seeds = all;
        self.keep.stage = Stage::Joining { since: now.time };
        self.keep.seeds_answered = 0;
        // It may have been on the ring before, until its machine slept or moved.
        (self.keep.seeds_open, self.keep.seeds_again) = (0, None);
        self.keep.dials.clear();
        (self.keep.fruitless, self.keep.lookups, self.keep.draw_after) = (0, 0, now.time);
        self.view.forgive();
        self.keep.dirty = true;
        self.keep.next_gossip = Some(self.jittered(now, GOSSIP_EVERY));
        self.keep.next_lookup = Some(now.time + Duration::from_secs(1));
    }

    /// A moment `span` from now, give or take a quarter, so that routers do not march in step.
    fn jittered(&mut self, now: Now, span: Duration) -> Time {
        now.time + span.mul_f64(0.75 + self.rng.unit() / 2.0)
    }

    pub(super) fn housekeeping_timeout(&mut self, now: Now) {
        if due(&mut self.keep.next_tend, now) {
            self.keep.dirty = true;
        }
        if due(&mut self.keep.next_gossip, now) {
            self.keep.next_gossip = Some(self.jittered(now, GOSSIP_EVERY));
            self.gossip_round(now);
        }
        if due(&mut self.keep.next_lookup, now) {
            let span = LOOKUPS.get(self.keep.lookups).or(LOOKUPS.last()).copied();
            self.keep.lookups = self.keep.lookups.saturating_add(1);
            self.keep.next_lookup = Some(self.jittered(now, span.unwrap_or(GOSSIP_EVERY)));
            if !self.neighbours.is_empty() && !self.keep.leaving() {
                self.find(now, Purpose::Lookup, self.location, None);
            }
        }
        if self.keep.report.is_due(now.time) {
            let view = self.hops(now);
            self.outputs.push_back(Output::View(view));
        }
        if let Stage::Leaving { until } = self.keep.stage
            && until <= now.time
        {
            self.handed_over();
        }
    }

    fn find(&mut self, now: Now, purpose: Purpose, target: Location, via: Option<LinkNo>) {
        let number = self.keep.number(purpose);
        let body = Body::Find(target);
        let ask = (body, Class::Interactive);
        self.requests.ask(now.time, &mut self.neighbours, number, ask, via);
    }

    /// Looks at the whole table and mends what is wrong with it.
    pub(super) fn tend(&mut self, now: Now) {
        if !matches!(self.keep.stage, Stage::Joining { .. } | Stage::Joined { .. }) {
            return;
        }
        self.forget_late_ones(now);
        self.tend_join(now);
        let near_wanted = self.tend_near(now);
        let mesh = self.tend_mesh(now);
        if mesh.is_none() {
            self.tend_long(now);
        }
        while let Some(id) = self.neighbours.surplus(now.time) {
            if let Some(it) = self.neighbours.by_id(&id) {
                let link = it.link;
                self.send(link, RingMessage::Bye { leaving: false });
            }
            self.view.avoid(now.time, &id);
            self.part(&id);
        }
        self.keep.dirty = false;
        let wanting = !self.keep.joined()
            || near_wanted
            || !self.keep.dials.is_empty()
            || mesh.unwrap_or_else(|| self.neighbours.wants_draw());
        let span = if wanting { TEND_SOON } else { TEND_LATER };
        let at = self.jittered(now, span);
        let sooner = self.keep.next_tend.filter(|old| *old > now.time && *old <= at);
        self.keep.next_tend = Some(sooner.unwrap_or(at));
    }

    fn forget_late_ones(&mut self, now: Now) {
        let late: Vec<RouterId> = self
            .keep
            .dials
            .iter()
            .filter(|(_, (_, until))| *until <= now.time)
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            self.unreachable(now, &id);
        }
        let silent: Vec<LinkNo> = self
            .links
            .iter()
            .filter(|(_, it)| it.hello.is_some_and(|(_, until)| until <= now.time))
            .map(|(link, _)| *link)
            .collect();
        for link in silent {
            if let Some(state) = self.links.get_mut(&link) {
                state.hello = None;
                let id = state.peer.id();
                self.view.avoid(now.time, &id);
                if self.neighbours.by_id(&id).is_none() {
                    self.let_go(link);
                }
            }
        }
    }

    fn tend_join(&mut self, now: Now) {
        let keep = &mut self.keep;
        if keep.joined() && !self.neighbours.is_empty() {
            return;
        }
        if keep.seeds_again.take_if(|at| *at <= now.time).is_some() {
            keep.round = keep.seeds.iter().cloned().collect();
        }
        while self.keep.seeds_open < SEEDS_AT_ONCE
            && let Some(seed) = self.keep.round.pop_front()
        {
            self.keep.seeds_open += 1;
            let linked = self.links.iter().find(|(_, it)| it.peer.id() == seed.id());
            if let Some(link) = linked.map(|(link, _)| *link) {
                self.find(now, Purpose::Join, self.location, Some(link));
            } else {
                self.dial(now, &seed, Dial::Seed);
            }
        }
        let keep = &mut self.keep;
        let patient =
            matches!(keep.stage, Stage::Joining { since } if now.time < since + SEEDS_WAIT);
        let asked = keep.seeds_answered >= SEEDS_WANTED
            || (keep.seeds_answered > 0 && !patient)
            || (keep.seeds_open == 0 && keep.round.is_empty());
        if asked && !self.neighbours.is_empty() {
            keep.stage = Stage::Joined { since: now.time };
            keep.draw_after = now.time;
        } else if asked && keep.seeds_again.is_none() && !keep.seeds.is_empty() {
            keep.seeds_again = Some(now.time + SEEDS_AGAIN);
        }
    }

    /// Asks those who should be successors and predecessors; true while some are missing.
    fn tend_near(&mut self, now: Now) -> bool {
        let view = &self.view;
        let admit = |it: &RouterDescriptor| {
            self.neighbours.by_id(&it.id()).is_some()
                || !view.has_failed(now.time, &it.id()) && self.members.may_dial(&it.id())
        };
        let wanted: Vec<Arc<RouterDescriptor>> = view
            .nearest(NEAR, admit)
            .filter(|it| self.neighbours.by_id(&it.id()).is_none())
            .cloned()
            .collect();
        for peer in &wanted {
            self.invite(now, peer, Reach::Near, Origin::Near);
        }
        !wanted.is_empty()
    }

    /// In a network no larger than the degree everybody is everybody's neighbour, and so are friends.
    /// `None` in a larger one of another kind; else whether somebody is missing.
    fn tend_mesh(&mut self, now: Now) -> Option<bool> {
        let degree = self.neighbours.degree();
        let small =
            self.view.len() <= degree && self.neighbours.size_estimate() <= 2 * degree as u64;
        if !small && self.members.is_open() {
            return None;
        }
        let missing: Vec<_> = self
            .view
            .iter()
            .filter(|it| self.neighbours.by_id(&it.id()).is_none())
            .filter(|it| !self.view.has_failed(now.time, &it.id()))
            .filter(|it| self.members.may_dial(&it.id()))
            .cloned()
            .collect();
        if let Stage::Joined { since } = self.keep.stage
            && now.time >= since + MESH_AFTER
        {
            for peer in &missing {
                self.invite(now, peer, Reach::Long, Origin::Near);
            }
        }
        Some(!missing.is_empty())
    }

    fn tend_long(&mut self, now: Now) {
        let dialled = self.keep.dials.values();
        let pending = dialled.filter(|(dial, _)| matches!(dial, Dial::Neighbour(Reach::Long, _)));
        let asked = self
            .links
            .values()
            .filter(|it| it.hello.is_some_and(|(origin, _)| origin == Origin::Drawn));
        let mut open = pending.count() + asked.count() + self.keep.draws;
        let ready = self.keep.joined() && now.time >= self.keep.draw_after;
        while ready && open < DRAWS_MAX && self.neighbours.wants_draw() {
            let target = self.neighbours.draw(&mut self.rng);
            self.keep.draws += 1;
            open += 1;
            self.find(now, Purpose::Draw { target }, target, None);
        }
    }

    /// A question of one's own found routers, or nobody.
    pub(super) fn found_routers(
        &mut self,
        now: Now,
        purpose: Purpose,
        routers: &[Arc<RouterDescriptor>],
    ) {
        for router in routers {
            self.learn(now, router);
        }
        match purpose {
            Purpose::Join => {
                self.keep.seeds_open = self.keep.seeds_open.saturating_sub(1);
                self.keep.seeds_answered += usize::from(!routers.is_empty());
                self.keep.dirty = true;
            }
            Purpose::Draw { target } => {
                self.keep.draws = self.keep.draws.saturating_sub(1);
                let member = |it: &&Arc<RouterDescriptor>| self.members.is_member(now.wall, it);
                let members: Vec<_> = routers.iter().filter(member).cloned().collect();
                self.drawn(now, target, &members);
                self.keep.dirty = true;
            }
            Purpose::Lookup | Purpose::Owner(_) | Purpose::Router { .. } => {}
        }
    }

    /// Takes the router closest to the drawn point that is not a neighbour yet.
    fn drawn(&mut self, now: Now, target: Location, routers: &[Arc<RouterDescriptor>]) {
        let fit = routers
            .iter()
            .filter(|it| it.id() != self.own.id() && self.neighbours.by_id(&it.id()).is_none())
            .filter(|it| self.fits(now, it).is_some())
            .filter(|it| self.neighbours.prefix_has_room(it.prefix()))
            .filter(|it| self.members.may_dial(&it.id()))
            .min_by_key(|it| it.location().distance(target));
        let fit = fit.cloned();
        if let Some(peer) = fit.or_else(|| self.any_known(now)) {
            self.keep.fruitless = 0;
            self.invite(now, &peer, Reach::Long, Origin::Drawn);
        } else {
            self.keep.fruitless = self.keep.fruitless.saturating_add(1);
            if self.keep.fruitless.is_multiple_of(FRUITLESS_MAX) {
                let doublings = self.keep.fruitless / FRUITLESS_MAX - 1;
                let pause = DRAW_PAUSE * (1 << doublings.min(DRAW_PAUSE_DOUBLINGS_MAX));
                self.keep.draw_after = now.time + pause;
            }
        }
    }

    /// Asks a router to be a neighbour, over a link that stands or a new one.
    fn invite(&mut self, now: Now, peer: &Arc<RouterDescriptor>, reach: Reach, origin: Origin) {
        let id = peer.id();
        let link = self.links.iter().find(|(_, it)| it.peer.id() == id).map(|(link, _)| *link);
        let Some(link) = link else {
            self.dial(now, peer, Dial::Neighbour(reach, origin));
            return;
        };
        if let Some(state) = self.links.get_mut(&link)
            && state.hello.is_none()
        {
            state.hello = Some((origin, now.time + HELLO_WAIT));
            self.hold(link);
            let degree = u8::try_from(self.neighbours.degree()).unwrap_or(64);
            self.send(link, RingMessage::Hello { degree, reach });
        }
    }

    fn dial(&mut self, now: Now, peer: &Arc<RouterDescriptor>, dial: Dial) {
        let id = peer.id();
        if let Some((known, _)) = self.keep.dials.get_mut(&id) {
            // What a seed is asked does not wait for anything else.
            if *known != Dial::Seed {
                *known = dial;
            } else if dial == Dial::Seed {
                self.keep.seeds_open = self.keep.seeds_open.saturating_sub(1);
            }
            return;
        }
        if self.keep.dials.len() < DIALS_MAX || dial == Dial::Seed {
            self.keep.dials.insert(id, (dial, now.time + DIAL_WAIT));
            self.outputs.push_back(Output::Connect(Arc::clone(peer)));
        }
    }

    /// A link to `id` stands: do what it was dialled for.
    pub(super) fn dialled(&mut self, now: Now, link: LinkNo, id: &RouterId) {
        match self.keep.dials.remove(id) {
            Some((Dial::Seed, _)) => {
                self.find(now, Purpose::Join, self.location, Some(link));
            }
            Some((Dial::Neighbour(reach, origin), _)) => {
                let peer = self.links.get(&link).map(|it| Arc::clone(&it.peer));
                if let Some(peer) = peer
                    && self.neighbours.by_id(id).is_none()
                {
                    self.invite(now, &peer, reach, origin);
                }
            }
            None => {}
        }
    }

    pub(super) fn unreachable(&mut self, now: Now, id: &RouterId) {
        if let Some((Dial::Seed, _)) = self.keep.dials.remove(id) {
            self.keep.seeds_open = self.keep.seeds_open.saturating_sub(1);
        }
        if self.neighbours.by_id(id).is_none() {
            self.forget(now, id);
        }
        self.keep.dirty = true;
    }

    pub(super) fn leave(&mut self, now: Now) {
        if !self.keep.leaving() {
            self.keep.stage = Stage::Leaving { until: now.time + HANDOVER_WAIT };
            self.outputs.push_back(Output::HandOver);
        }
    }

    pub(super) fn handed_over(&mut self) {
        if !matches!(self.keep.stage, Stage::Leaving { .. }) {
            return;
        }
        self.keep.stage = Stage::Left;
        let links: Vec<_> = self.neighbours.iter().map(|it| (it.link, it.peer.id())).collect();
        for (link, id) in links {
            self.send(link, RingMessage::Bye { leaving: true });
            self.outputs.push_back(Output::Send { link, message: LinkMessage::Goodbye });
            self.part(&id);
        }
        self.outputs.push_back(Output::Left);
    }
}
