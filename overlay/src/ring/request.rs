//! Requests: routed greedily, passed back and tried again where a way ends, answered distinctly.
//!
//! Lives here: the requests this router originates and those it passes on, per-link ids,
//! backtracking, back-pressure. Does not live here: time limits (`waits.rs`), asking the holders
//! (`holders.rs`), several who ask for one block (`share.rs`), who waits for a record (`watch.rs`), disjoint tries (`question.rs`), all more methods of this same engine; one
//! request's state (`job.rs`), windows (`window.rs`), the neighbour table (`neighbours.rs`), the store.
//!
//! ```text
//! arrives ─> Local ─ held ───────────────────────────────> answer
//!              │ not held, or nothing to look up
//!              v            NoRoute(left), silence, Busy
//!            route ──> Forward ──────────────────────┐
//!              │ ^                                   │
//!              │ └───────────────────────────────────┘
//!              │ nobody closer is left, and this router is a holder
//!              v
//!            Siblings: the other holders, asked at once with budget 0 ──> answer
//! ```
//!
//! A hop that passes a request on says `Accepted` at once, so that a neighbour who lets requests
//! fall is noticed within a second; who accepted has time in proportion to the budget. An answer
//! that comes after its request was given up finds nothing and changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    api::{Held, StoreOp},
    failed::FailedKeys,
    job::{From, Job, Phase, Wait},
    neighbours::{Neighbour, Neighbours},
    question::Query,
    visited::Visited,
    waits::{answer_wait, ask_wait},
    watch::{WATCHES_MAX, WATCHES_PER_LINK_MAX, is_kept},
    window::Windows,
    wire::{Body, Class, DESCRIPTORS_MAX, Found, RETRY_MAX_S, RingMessage},
};
use crate::{
    answer::Answer,
    block::Block,
    id::{Key, LinkNo, Location, RouterId},
    table::Table,
    time::Time,
    unit::{Unit, UnitKey},
    wire::RouterDescriptor,
};

/// Requests being worked on: at most 4 KiB each with a record inside, so 4 MiB.
const JOBS_MAX: usize = 1_024;
/// Of these, from one link: a neighbour cannot use up what the others need.
const JOBS_PER_LINK_MAX: usize = 64;
/// What the refused are told, in seconds.
pub(super) const BUSY_RETRY_S: u16 = 5;
/// Requests for blocks being worked on: each holds at most one, so 8 MiB.
pub(super) const BLOCK_JOBS_MAX: usize = 256;
/// What those are told for whom there is no window or no room, in seconds.
const BLOCK_RETRY_S: [u16; 2] = [1, 5];
/// Ways that one hop tries.
const WAYS_MAX: u8 = 4;
/// How long the store may take to answer.
pub(super) const STORE_WAIT: Duration = Duration::from_secs(2);

/// What the owner must do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RequestOutput {
    Send {
        link: LinkNo,
        message: RingMessage,
    },
    Store {
        ticket: u32,
        op: StoreOp,
    },
    /// A block passed by: the store may keep it.
    Cache {
        block: Block,
        from: LinkNo,
    },
    Done {
        query: u32,
        asked: u8,
        answer: Answer<Found>,
    },
    Pushed {
        push: u32,
        stored: bool,
    },
}

/// The request engine of one router.
#[derive(Debug)]
pub(super) struct Requests {
    own: Arc<RouterDescriptor>,
    /// Nobody can dial this router: it has no place, and everybody is closer to a key.
    guest: bool,
    pub(super) marks: [u8; 4],
    pub(super) jobs: Table<u32, Job>,
    next_job: u32,
    pub(super) waits: BTreeMap<(LinkNo, u32), u32>,
    next_id: u32,
    pub(super) timers: BTreeSet<(Time, u32)>,
    pub(super) windows: Windows,
    /// Which job asks for a block.
    pub(super) gets: BTreeMap<UnitKey, u32>,
    /// Jobs that wait here for a record, by its key.
    pub(super) parked: BTreeSet<(Key, u32)>,
    pub(super) queries: Table<u32, Query>,
    pub(super) hedges: BTreeSet<(Time, u32)>,
    pub(super) failed: FailedKeys,
    pub(super) outputs: VecDeque<RequestOutput>,
}

impl Requests {
    pub(super) fn new(own: Arc<RouterDescriptor>, guest: bool) -> Self {
        Self {
            marks: Visited::marks(&own.id()),
            own,
            guest,
            jobs: Table::new(),
            next_job: 0,
            waits: BTreeMap::new(),
            next_id: 0,
            timers: BTreeSet::new(),
            windows: Windows::default(),
            gets: BTreeMap::new(),
            parked: BTreeSet::new(),
            queries: Table::new(),
            hedges: BTreeSet::new(),
            failed: FailedKeys::default(),
            outputs: VecDeque::new(),
        }
    }

    /// This router's descriptor changed.
    pub(super) fn set_own(&mut self, own: Arc<RouterDescriptor>, guest: bool) {
        (self.own, self.guest) = (own, guest);
    }

    /// A request came over `link` from `peer`.
    pub(super) fn arrive(
        &mut self,
        now: Time,
        around: &mut Neighbours,
        (link, peer): (LinkNo, &RouterId),
        (id, budget, class, mut visited, body): (u32, u8, Class, Visited, Body),
    ) {
        let from = From::Link { link, id };
        if let Some(retry_s) = self.crowded(from, class, &body) {
            return self.refuse(from, Answer::Busy { retry_s });
        }
        match &body {
            Body::Get(key) if budget > 0 => {
                if let Some(until_s) = self.failed.refuses(now, &key.key()) {
                    return self.refuse(from, Answer::RecentlyFailed { until_s });
                }
                if self.follow(&body, from) {
                    let message = RingMessage::Accepted { id };
                    self.outputs.push_back(RequestOutput::Send { link, message });
                    return;
                }
            }
            Body::Put(unit) => self.failed.forget(&unit.key().key()),
            Body::Get(_) | Body::Find(_) | Body::Watch(_) => {}
        }
        visited.insert(self.marks);
        visited.insert(Visited::marks(peer));
        let number = self.admit(now, Job::new(from, body, class, visited, budget));
        self.begin(now, around, number);
    }

    /// Whether there is no room for a request; if so, after how many seconds there may be.
    fn crowded(&self, from: From, class: Class, body: &Body) -> Option<u16> {
        let (mut all, mut of_link, mut blocks, mut of_window) = (0, 0, 0, 0);
        for job in self.jobs.values() {
            let is_block = job.body.is_block();
            let alike = job.body.is_watch() == body.is_watch();
            all += usize::from(alike);
            blocks += usize::from(is_block);
            for other in std::iter::once(&job.from).chain(&job.followers) {
                if *other == from {
                    return Some(BUSY_RETRY_S);
                }
                if other.link() == from.link() {
                    of_link += usize::from(alike);
                    of_window += usize::from(is_block && job.class == class);
                }
            }
        }
        if body.is_watch() {
            return (all >= WATCHES_MAX || of_link >= WATCHES_PER_LINK_MAX).then_some(RETRY_MAX_S);
        }
        if all >= JOBS_MAX || of_link >= JOBS_PER_LINK_MAX {
            return Some(BUSY_RETRY_S);
        }
        let granted = from.link().map_or(0, |link| self.windows.granted(link, class));
        let over = body.is_block() && (blocks >= BLOCK_JOBS_MAX || of_window >= granted);
        let [interactive, bulk] = BLOCK_RETRY_S;
        over.then_some(if class == Class::Bulk { bulk } else { interactive })
    }

    fn refuse(&mut self, from: From, answer: Answer<Found>) {
        if let From::Link { link, id } = from {
            let class = Class::Interactive;
            let message = RingMessage::Answer { id, class, asked: 1, answer };
            self.outputs.push_back(RequestOutput::Send { link, message });
        }
    }

    /// A unit came by another way: its key is no failure any more.
    pub(super) fn heard_of(&mut self, key: &Key) {
        self.failed.forget(key);
    }

    pub(super) fn admit(&mut self, now: Time, job: Job) -> u32 {
        while self.jobs.contains_key(&self.next_job) {
            self.next_job = self.next_job.wrapping_add(1);
        }
        let number = self.next_job;
        self.next_job = number.wrapping_add(1);
        let give_up = now + answer_wait(&job);
        let job = Job { give_up, ..job };
        if let Body::Get(key @ UnitKey::Block(_)) = &job.body
            && !job.is_leaf()
        {
            self.gets.entry(*key).or_insert(number);
        }
        self.jobs.insert(number, job);
        self.set_timer(number);
        number
    }

    /// First the own store, where there is something to look up.
    pub(super) fn begin(&mut self, now: Time, around: &mut Neighbours, number: u32) {
        let Some(job) = self.jobs.get(&number) else { return };
        match (&job.body, job.body.sought()) {
            (_, Some(key)) => self.ask_store(now, number, StoreOp::Get(key)),
            (Body::Put(_), None) if job.is_leaf() => self.put_here(now, number),
            (_, None) => self.route(now, around, number),
        }
    }

    fn ask_store(&mut self, now: Time, number: u32, op: StoreOp) {
        if let Some(job) = self.jobs.get_mut(&number) {
            job.phase = Phase::Local { until: now + STORE_WAIT };
            self.set_timer(number);
            self.outputs.push_back(RequestOutput::Store { ticket: number, op });
        }
    }

    fn put_here(&mut self, now: Time, number: u32) {
        let Some(job) = self.jobs.get(&number) else { return };
        if let Body::Put(unit) = &job.body {
            let op = StoreOp::Put { unit: unit.clone(), from: job.from.link() };
            self.ask_store(now, number, op);
        }
    }

    /// The store's answer to ticket `number`; a late one finds the job gone or further on.
    pub(super) fn held(&mut self, now: Time, around: &mut Neighbours, number: u32, held: Held) {
        let Some(job) = self.jobs.get(&number) else { return };
        if !matches!(job.phase, Phase::Local { .. }) {
            return;
        }
        let leaf = job.is_leaf();
        match (&job.body, held) {
            (body @ (Body::Get(_) | Body::Watch(_)), Held::Found(unit))
                if body.is_met_by(&unit) =>
            {
                self.finish(now, around, number, Answer::Found(Found::Unit(unit)));
            }
            (Body::Get(_) | Body::Watch(_), _) if leaf => {
                self.finish(now, around, number, Answer::NotFound);
            }
            (Body::Get(_) | Body::Find(_) | Body::Watch(_), _) => self.route(now, around, number),
            (Body::Put(unit), Held::Stored) => {
                if let Unit::Record(record) = unit {
                    let record = record.clone();
                    self.came_by(now, around, &record);
                }
                if leaf {
                    self.finish(now, around, number, Answer::Stored { copies: 1 });
                } else {
                    self.siblings(now, around, number, 1);
                }
            }
            (Body::Put(_), Held::Stale) => self.finish(now, around, number, Answer::Stale),
            (Body::Put(_), _) if leaf => {
                let answer = Answer::Busy { retry_s: RETRY_MAX_S };
                self.finish(now, around, number, answer);
            }
            (Body::Put(_), _) => self.siblings(now, around, number, 0),
        }
    }

    /// Decides where a request goes from here.
    pub(super) fn route(&mut self, now: Time, around: &mut Neighbours, number: u32) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        let target = job.body.location();
        let (visited, class, is_block) = (job.visited, job.class, job.body.is_block());
        let windows = &self.windows;
        let full = |it: &Neighbour| is_block && !windows.is_ready(now, it.link, class);
        // A budget of 0 would say: answer from what you have.
        let may_forward = job.budget > 1 && job.ways < WAYS_MAX;
        let skip = |it: &Neighbour| visited.contains(it.marks) || full(it);
        let next = around.next_hop(now, target, skip).filter(|_| may_forward);
        let mine = around.own().distance(target);
        let closer = next.filter(|it| self.guest || it.location.distance(target) < mine);
        let holder = !self.guest && around.is_holder(now, target);
        if may_forward && closer.is_none() && !holder {
            // No long way round one who is merely busy: the asker hears when to come back.
            let unvisited = |it: &&Neighbour| !visited.contains(it.marks) && !it.is_suspect(now);
            let best =
                around.iter().filter(unvisited).min_by_key(|it| it.location.distance(target));
            if best.is_some_and(full) {
                let [interactive, bulk] = BLOCK_RETRY_S;
                let retry_s = if class == Class::Bulk { bulk } else { interactive };
                let answer = Answer::Busy { retry_s: job.busy_s.max(retry_s) };
                return self.finish(now, around, number, answer);
            }
        }
        let hop = closer.or(if holder { None } else { next });
        if let Some(it) = hop {
            let (link, first) = (it.link, it.marks);
            job.closer &= closer.is_some();
            self.forward(now, number, link, Some(first));
            return;
        }
        match &job.body {
            Body::Find(_) => {
                let routers = self.closest_routers(now, around, target);
                self.finish(now, around, number, Answer::Found(Found::Routers(routers)));
            }
            Body::Get(_) if holder => self.siblings(now, around, number, 0),
            Body::Put(_) if holder => self.put_here(now, number),
            Body::Watch(watch) if holder => {
                let key = watch.key;
                self.park(number, key);
            }
            Body::Get(_) | Body::Put(_) | Body::Watch(_) => {
                let answer = match job.busy_s {
                    0 => Answer::NoRoute { left: job.left() },
                    retry_s => Answer::Busy { retry_s },
                };
                self.finish(now, around, number, answer);
            }
        }
    }

    /// What this router knows about who is around `target`: up to three, itself included.
    fn closest_routers(
        &self,
        now: Time,
        around: &Neighbours,
        target: Location,
    ) -> Vec<Arc<RouterDescriptor>> {
        let near = around.closest(now, target, DESCRIPTORS_MAX);
        let mut all: Vec<_> = near.into_iter().map(|it| Arc::clone(&it.peer)).collect();
        all.extend((!self.guest).then(|| Arc::clone(&self.own)));
        all.sort_by_cached_key(|it| it.location().distance(target));
        all.truncate(DESCRIPTORS_MAX);
        all
    }

    /// Passes a request on over `link`.
    pub(super) fn forward(&mut self, now: Time, number: u32, link: LinkNo, marks: Option<[u8; 4]>) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        job.budget = job.budget.saturating_sub(1);
        job.ways += 1;
        if let Some(marks) = marks {
            job.visited.insert(marks);
            if let From::Own { query } = job.from
                && let Some(query) = self.queries.get_mut(&query)
            {
                query.firsts.push(marks);
            }
        }
        self.say_accepted(number);
        let id = self.fresh_id();
        let Some(job) = self.jobs.get_mut(&number) else { return };
        let until = now + ask_wait(job);
        job.phase = Phase::Forward(Wait { link, id, accepted: false, queued: false, until });
        self.send_ask(now, number, link, id);
        self.set_timer(number);
    }

    /// Whoever asked this router hears that it is busy with it.
    pub(super) fn say_accepted(&mut self, number: u32) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        if let From::Link { link, id } = job.from
            && !std::mem::replace(&mut job.said_accepted, true)
        {
            let message = RingMessage::Accepted { id };
            self.outputs.push_back(RequestOutput::Send { link, message });
        }
    }

    /// Sends what a job asks of `link` under the number `id`, or queues it if it is about a block and
    /// the neighbour's window is full.
    pub(super) fn send_ask(&mut self, now: Time, number: u32, link: LinkNo, id: u32) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        self.waits.insert((link, id), number);
        if job.body.is_block() && !self.windows.take(link, job.class, id, number) {
            return self.mark_queued(now, number, link, id);
        }
        let message = job.message(id);
        self.outputs.push_back(RequestOutput::Send { link, message });
    }

    /// A link's request `id` was answered by `peer`.
    pub(super) fn answered(
        &mut self,
        now: Time,
        around: &mut Neighbours,
        (link, peer): (LinkNo, &RouterId),
        (id, asked, answer): (u32, u8, Answer<Found>),
    ) {
        let Some(number) = self.end_wait(now, link, id) else { return };
        let Some(job) = self.jobs.get_mut(&number) else { return };
        around.trust(peer);
        job.count_asked(asked);
        if let Answer::Found(Found::Unit(unit)) = &answer
            && job.body.is_met_by(unit)
        {
            if let Unit::Block(block) = unit {
                let block = block.clone();
                self.outputs.push_back(RequestOutput::Cache { block, from: link });
            }
            return self.finish(now, around, number, answer);
        }
        match &mut job.phase {
            Phase::Siblings { waits, copies } => {
                waits.retain(|wait| (wait.link, wait.id) != (link, id));
                match (&job.body, answer) {
                    (Body::Put(_), Answer::Stale) => {
                        self.finish(now, around, number, Answer::Stale);
                    }
                    (Body::Put(_), Answer::Stored { .. }) => {
                        *copies = copies.saturating_add(1);
                        self.settle_siblings(now, around, number);
                    }
                    (Body::Get(_) | Body::Put(_) | Body::Find(_) | Body::Watch(_), _) => {
                        self.settle_siblings(now, around, number);
                    }
                }
            }
            Phase::Forward(_) => {
                self.forward_answered(now, around, number, (link, peer), answer);
            }
            Phase::Local { .. } | Phase::Parked => {}
        }
    }

    fn forward_answered(
        &mut self,
        now: Time,
        around: &mut Neighbours,
        number: u32,
        (link, peer): (LinkNo, &RouterId),
        answer: Answer<Found>,
    ) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        match (&job.body, answer) {
            (Body::Find(_), answer @ Answer::Found(Found::Routers(_)))
            | (Body::Put(_), answer @ (Answer::Stored { .. } | Answer::Stale))
            | (Body::Get(_), answer @ (Answer::NotFound | Answer::RecentlyFailed { .. })) => {
                self.finish(now, around, number, answer);
            }
            (Body::Watch(_), Answer::NotFound) if is_kept(now, job) => {
                self.finish(now, around, number, Answer::NotFound);
            }
            (_, Answer::NoRoute { left }) => {
                job.budget = job.budget.min(left);
                self.route(now, around, number);
            }
            (_, Answer::Busy { retry_s }) => {
                job.busy_s = job.busy_s.max(retry_s.max(1));
                if job.body.is_block() {
                    // Records still go there.
                    let until = now + Duration::from_secs(retry_s.into());
                    self.windows.close(link, job.class, until);
                } else if !job.body.is_watch() {
                    // Who has no room for watches may have some for all else.
                    around.back_off(now, peer, retry_s);
                }
                self.route(now, around, number);
            }
            // An answer to some other question than the one asked.
            (
                _,
                Answer::Found(_)
                | Answer::Stored { .. }
                | Answer::Stale
                | Answer::NotFound
                | Answer::RecentlyFailed { .. },
            ) => {
                around.suspect(now, peer);
                self.route(now, around, number);
            }
        }
    }

    /// Ends a job: passes its answer back, or into its question.
    #[expect(clippy::needless_pass_by_value, reason = "callers make it for this")]
    pub(super) fn finish(
        &mut self,
        now: Time,
        around: &mut Neighbours,
        number: u32,
        answer: Answer<Found>,
    ) {
        let Some(job) = self.jobs.get(&number) else { return };
        let here = !matches!(job.phase, Phase::Forward(_));
        if let (Body::Get(key), Answer::NotFound, false) = (&job.body, &answer, here) {
            self.failed.note(now, key.key());
        }
        if let (Body::Get(key), Answer::Found(found)) = (&job.body, &answer) {
            self.failed.forget(&key.key());
            if matches!(found, Found::Unit(Unit::Block(_))) {
                // A block takes its time on the link.
                self.say_accepted(number);
            }
        }
        let Some(job) = self.drop_job(now, number) else { return };
        for from in std::iter::once(job.from).chain(job.followers) {
            match from {
                From::Link { link, id } => {
                    let (asked, answer) = (job.asked, answer.clone());
                    let is_block = matches!(&answer, Answer::Found(Found::Unit(Unit::Block(_))));
                    let class = if is_block { job.class } else { Class::Interactive };
                    let message = RingMessage::Answer { id, class, asked, answer };
                    self.outputs.push_back(RequestOutput::Send { link, message });
                }
                From::Own { query } => {
                    let answer = (job.asked, answer.clone());
                    self.conclude(now, around, query, answer, here);
                }
                From::Push { push } => {
                    let stored = matches!(answer, Answer::Stored { .. });
                    self.outputs.push_back(RequestOutput::Pushed { push, stored });
                }
            }
        }
    }

    /// Takes a job out, with all that it waits for.
    pub(super) fn drop_job(&mut self, now: Time, number: u32) -> Option<Job> {
        let job = self.jobs.remove(&number)?;
        self.timers.remove(&(job.timer, number));
        if let Body::Get(key) = &job.body
            && self.gets.get(key) == Some(&number)
        {
            self.gets.remove(key);
        }
        if let Body::Watch(watch) = &job.body {
            self.parked.remove(&(watch.key, number));
        }
        for wait in job.phase.waits() {
            self.end_wait(now, wait.link, wait.id);
        }
        Some(job)
    }

    pub(super) fn poll_output(&mut self) -> Option<RequestOutput> {
        self.outputs.pop_front()
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let job = self.timers.first().map(|(at, _)| *at);
        let hedge = self.hedges.first().map(|(at, _)| *at);
        job.into_iter().chain(hedge).min()
    }

    /// Requests being worked on.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Those of them that are about blocks.
    pub(super) fn block_jobs(&self) -> usize {
        self.jobs.values().filter(|job| job.body.is_block()).count()
    }

    pub(super) fn fresh_id(&mut self) -> u32 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    /// Sets the one timer of a job to its next deadline.
    pub(super) fn set_timer(&mut self, number: u32) {
        if let Some(job) = self.jobs.get_mut(&number) {
            self.timers.remove(&(job.timer, number));
            job.timer = job.next_deadline();
            self.timers.insert((job.timer, number));
        }
    }
}
