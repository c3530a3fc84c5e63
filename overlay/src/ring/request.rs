//! Requests: routed greedily, passed back and tried again where a way ends, answered distinctly.
//!
//! Lives here: the requests this router originates and those it passes on, per-link ids, time limits
//! per hop, backtracking, disjoint tries, back-pressure. Does not live here: the neighbour table
//! (`neighbours.rs`), one request's decisions on where next (`job.rs` has its state), the store.
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
    neighbours::{Neighbour, Neighbours, REPLICAS},
    question::Query,
    visited::Visited,
    wire::{Answer, Body, DESCRIPTORS_MAX, RETRY_MAX_S, RingMessage},
};
use crate::{
    id::{Key, LinkNo, Location, RouterId},
    time::Time,
    wire::RouterDescriptor,
};

/// Requests being worked on: at most 4 KiB each with a record inside, so 4 MiB.
const JOBS_MAX: usize = 1_024;
/// Of these, from one link: a neighbour cannot use up what the others need.
const JOBS_PER_LINK_MAX: usize = 64;
/// What the refused are told, in seconds.
pub(super) const BUSY_RETRY_S: u16 = 5;
/// How long a neighbour may take to answer or say `Accepted`.
const ACCEPT_WAIT: Duration = Duration::from_millis(1_200);
/// How long a holder may take to look up or store.
const SIBLING_WAIT: Duration = Duration::from_millis(1_500);
/// How long an accepted request may take: this, and so much for each forward it has left.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
const ANSWER_WAIT_PER_HOP: Duration = Duration::from_millis(500);
/// An honest hop gives up before its asker does: half a hop's wait is for the way.
const ANSWER_WAIT_MARGIN: Duration = Duration::from_millis(250);
/// Ways that one hop tries.
const WAYS_MAX: u8 = 4;
/// How long the store may take to answer.
const STORE_WAIT: Duration = Duration::from_secs(2);

/// What the owner must do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RequestOutput {
    Send { link: LinkNo, message: RingMessage },
    Store { ticket: u32, op: StoreOp },
    Done { query: u32, answer: Answer },
}

/// The request engine of one router.
#[derive(Debug)]
pub(super) struct Requests {
    own: Arc<RouterDescriptor>,
    pub(super) marks: [u8; 4],
    pub(super) jobs: BTreeMap<u32, Job>,
    next_job: u32,
    pub(super) waits: BTreeMap<(LinkNo, u32), u32>,
    next_id: u32,
    timers: BTreeSet<(Time, u32)>,
    pub(super) queries: BTreeMap<u32, Query>,
    pub(super) hedges: BTreeSet<(Time, u32)>,
    pub(super) failed: FailedKeys,
    pub(super) outputs: VecDeque<RequestOutput>,
}

impl Requests {
    pub(super) fn new(own: Arc<RouterDescriptor>) -> Self {
        Self {
            marks: Visited::marks(&own.id()),
            own,
            jobs: BTreeMap::new(),
            next_job: 0,
            waits: BTreeMap::new(),
            next_id: 0,
            timers: BTreeSet::new(),
            queries: BTreeMap::new(),
            hedges: BTreeSet::new(),
            failed: FailedKeys::default(),
            outputs: VecDeque::new(),
        }
    }

    /// This router's descriptor changed.
    pub(super) fn set_own(&mut self, own: Arc<RouterDescriptor>) {
        self.own = own;
    }

    /// A request came over `link` from `peer`.
    pub(super) fn arrive(
        &mut self,
        now: Time,
        around: &mut Neighbours,
        (link, peer): (LinkNo, &RouterId),
        (id, budget, mut visited, body): (u32, u8, Visited, Body),
    ) {
        let refuse =
            |answer| RequestOutput::Send { link, message: RingMessage::Answer { id, answer } };
        let from = From::Link { link, id };
        let of_link = self.jobs.values().filter(|job| job.from.link() == Some(link)).count();
        let full = self.jobs.len() >= JOBS_MAX || of_link >= JOBS_PER_LINK_MAX;
        if full || self.jobs.values().any(|job| job.from == from) {
            self.outputs.push_back(refuse(Answer::Busy { retry_s: BUSY_RETRY_S }));
            return;
        }
        match &body {
            Body::Get(key) if budget > 0 => {
                if let Some(until_s) = self.failed.refuses(now, key) {
                    self.outputs.push_back(refuse(Answer::RecentlyFailed { until_s }));
                    return;
                }
            }
            Body::Put(record) => self.failed.forget(&record.key()),
            Body::Get(_) | Body::Find(_) => {}
        }
        visited.insert(self.marks);
        visited.insert(Visited::marks(peer));
        let number = self.admit(now, Job::new(from, body, visited, budget));
        self.begin(now, around, number);
    }

    /// A record came by another way: its key is no failure any more.
    pub(super) fn heard_of(&mut self, key: &Key) {
        self.failed.forget(key);
    }

    pub(super) fn admit(&mut self, now: Time, job: Job) -> u32 {
        while self.jobs.contains_key(&self.next_job) {
            self.next_job = self.next_job.wrapping_add(1);
        }
        let number = self.next_job;
        self.next_job = number.wrapping_add(1);
        let job = Job { give_up: now + answer_wait(job.budget), ..job };
        self.jobs.insert(number, job);
        self.set_timer(number);
        number
    }

    /// First the own store, where there is something to look up.
    pub(super) fn begin(&mut self, now: Time, around: &mut Neighbours, number: u32) {
        let Some(job) = self.jobs.get(&number) else { return };
        match &job.body {
            Body::Get(key) => {
                let op = StoreOp::Get(*key);
                self.ask_store(now, number, op);
            }
            Body::Put(_) if job.from.is_link() && job.budget == 0 => self.put_here(now, number),
            Body::Find(_) | Body::Put(_) => self.route(now, around, number),
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
        if let Body::Put(record) = &job.body {
            let op = StoreOp::Put { record: record.clone(), from: job.from.link() };
            self.ask_store(now, number, op);
        }
    }

    /// The store's answer to ticket `number`; a late one finds the job gone or further on.
    pub(super) fn held(&mut self, now: Time, around: &mut Neighbours, number: u32, held: Held) {
        let Some(job) = self.jobs.get(&number) else { return };
        if !matches!(job.phase, Phase::Local { .. }) {
            return;
        }
        let leaf = job.from.is_link() && job.budget == 0;
        match (&job.body, held) {
            (Body::Get(key), Held::Found(record)) if record.key() == *key => {
                self.finish(now, around, number, Answer::Found(record));
            }
            (Body::Get(_), _) if leaf => self.finish(now, around, number, Answer::NotFound),
            (Body::Get(_) | Body::Find(_), _) => self.route(now, around, number),
            (Body::Put(_), Held::Stored) if leaf => {
                self.finish(now, around, number, Answer::Stored { copies: 1 });
            }
            (Body::Put(_), Held::Stored) => self.siblings(now, around, number, 1),
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
        let Some(job) = self.jobs.get(&number) else { return };
        let target = job.body.location();
        let visited = job.visited;
        let skip = |it: &Neighbour| visited.contains(it.marks);
        // A budget of 0 would say: answer from what you have.
        let may_forward = job.budget > 1 && job.ways < WAYS_MAX;
        let next = around.next_hop(now, target, skip).filter(|_| may_forward);
        let mine = around.own().distance(target);
        let closer = next.filter(|it| it.location.distance(target) < mine);
        let holder = around.is_holder(now, target);
        let hop = closer.or(if holder { None } else { next });
        if let Some(it) = hop {
            let (link, first) = (it.link, it.marks);
            self.forward(now, number, link, Some(first));
            return;
        }
        match &job.body {
            Body::Find(_) => {
                let answer = Answer::Routers(self.closest_routers(now, around, target));
                self.finish(now, around, number, answer);
            }
            Body::Get(_) if holder => self.siblings(now, around, number, 0),
            Body::Put(_) if holder => self.put_here(now, number),
            Body::Get(_) | Body::Put(_) => {
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
        all.push(Arc::clone(&self.own));
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
        let (budget, visited, body) = (job.budget, job.visited, job.body.clone());
        if let From::Link { link, id } = job.from
            && !std::mem::replace(&mut job.said_accepted, true)
        {
            let message = RingMessage::Accepted { id };
            self.outputs.push_back(RequestOutput::Send { link, message });
        }
        let id = self.fresh_id();
        let message = RingMessage::Request { id, budget, visited, body };
        self.outputs.push_back(RequestOutput::Send { link, message });
        self.waits.insert((link, id), number);
        let wait = Wait { link, id, accepted: false, until: now + ACCEPT_WAIT };
        if let Some(job) = self.jobs.get_mut(&number) {
            job.phase = Phase::Forward(wait);
        }
        self.set_timer(number);
    }

    /// Asks the other holders at once. `copies`: how many are sure already.
    fn siblings(&mut self, now: Time, around: &mut Neighbours, number: u32, copies: u8) {
        let Some(job) = self.jobs.get(&number) else { return };
        let target = job.body.location();
        let getting = matches!(job.body, Body::Get(_));
        let holders = around.closest(now, target, around.len());
        let others: Vec<LinkNo> = holders
            .into_iter()
            .filter(|it| !getting || !job.visited.contains(it.marks))
            .take(REPLICAS - 1)
            .map(|it| it.link)
            .collect();
        let (visited, body) = (job.visited, job.body.clone());
        let mut waits = Vec::with_capacity(others.len());
        for link in others {
            let id = self.fresh_id();
            let message = RingMessage::Request { id, budget: 0, visited, body: body.clone() };
            self.outputs.push_back(RequestOutput::Send { link, message });
            self.waits.insert((link, id), number);
            waits.push(Wait { link, id, accepted: true, until: now + SIBLING_WAIT });
        }
        let Some(job) = self.jobs.get_mut(&number) else { return };
        job.phase = Phase::Siblings { waits, copies };
        self.set_timer(number);
        self.settle_siblings(now, around, number);
    }

    /// Ends a sibling round when nobody is waited for any more.
    fn settle_siblings(&mut self, now: Time, around: &mut Neighbours, number: u32) {
        let Some(job) = self.jobs.get(&number) else { return };
        let Phase::Siblings { waits, copies } = &job.phase else { return };
        if !waits.is_empty() {
            return;
        }
        let answer = match (&job.body, *copies) {
            (Body::Put(_), 0) => Answer::Busy { retry_s: RETRY_MAX_S },
            (Body::Put(_), copies) => Answer::Stored { copies },
            // Only who could ask all that are closer may say that there is nothing.
            (Body::Get(_) | Body::Find(_), _) if around.is_cut_off(now, job.body.location()) => {
                Answer::NoRoute { left: job.left() }
            }
            (Body::Get(_) | Body::Find(_), _) => Answer::NotFound,
        };
        self.finish(now, around, number, answer);
    }

    /// A link's request `id` was passed on by `peer`.
    pub(super) fn accepted(&mut self, now: Time, link: LinkNo, id: u32) {
        let Some(number) = self.waits.get(&(link, id)).copied() else { return };
        let Some(job) = self.jobs.get_mut(&number) else { return };
        if let Phase::Forward(wait) = &mut job.phase
            && !wait.accepted
        {
            wait.accepted = true;
            wait.until = now + answer_wait(job.budget) + ANSWER_WAIT_MARGIN;
            self.set_timer(number);
        }
    }

    /// A link's request `id` was answered by `peer`.
    pub(super) fn answered(
        &mut self,
        now: Time,
        around: &mut Neighbours,
        (link, peer): (LinkNo, &RouterId),
        (id, answer): (u32, Answer),
    ) {
        let Some(number) = self.waits.remove(&(link, id)) else { return };
        let Some(job) = self.jobs.get_mut(&number) else { return };
        around.trust(peer);
        match &mut job.phase {
            Phase::Siblings { waits, copies } => {
                waits.retain(|wait| (wait.link, wait.id) != (link, id));
                match (&job.body, answer) {
                    (Body::Get(key), Answer::Found(record)) if record.key() == *key => {
                        self.finish(now, around, number, Answer::Found(record));
                    }
                    (Body::Put(_), Answer::Stale) => {
                        self.finish(now, around, number, Answer::Stale);
                    }
                    (Body::Put(_), Answer::Stored { .. }) => {
                        *copies = copies.saturating_add(1);
                        self.settle_siblings(now, around, number);
                    }
                    (Body::Get(_) | Body::Put(_) | Body::Find(_), _) => {
                        self.settle_siblings(now, around, number);
                    }
                }
            }
            Phase::Forward(_) => self.forward_answered(now, around, number, peer, answer),
            Phase::Local { .. } => {}
        }
    }

    fn forward_answered(
        &mut self,
        now: Time,
        around: &mut Neighbours,
        number: u32,
        peer: &RouterId,
        answer: Answer,
    ) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        match (&job.body, answer) {
            (Body::Get(key), Answer::Found(record)) if record.key() == *key => {
                self.finish(now, around, number, Answer::Found(record));
            }
            (Body::Find(_), answer @ Answer::Routers(_))
            | (Body::Put(_), answer @ (Answer::Stored { .. } | Answer::Stale))
            | (Body::Get(_), answer @ (Answer::NotFound | Answer::RecentlyFailed { .. })) => {
                self.finish(now, around, number, answer);
            }
            (_, Answer::NoRoute { left }) => {
                job.budget = job.budget.min(left);
                self.route(now, around, number);
            }
            (_, Answer::Busy { retry_s }) => {
                job.busy_s = job.busy_s.max(retry_s.max(1));
                around.back_off(now, peer, retry_s);
                self.route(now, around, number);
            }
            // An answer to some other question than the one asked.
            (
                _,
                Answer::Found(_)
                | Answer::Routers(_)
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
    fn finish(&mut self, now: Time, around: &mut Neighbours, number: u32, answer: Answer) {
        let Some(job) = self.jobs.get(&number) else { return };
        let here = !matches!(job.phase, Phase::Forward(_));
        if let (Body::Get(key), Answer::NotFound, false) = (&job.body, &answer, here) {
            self.failed.note(now, *key);
        }
        if let (Body::Get(key), Answer::Found(_)) = (&job.body, &answer) {
            self.failed.forget(key);
        }
        let from = job.from;
        self.drop_job(number);
        match from {
            From::Link { link, id } => {
                let message = RingMessage::Answer { id, answer };
                self.outputs.push_back(RequestOutput::Send { link, message });
            }
            From::Own { query } => self.conclude(now, around, query, answer, here),
        }
    }

    pub(super) fn drop_job(&mut self, number: u32) {
        if let Some(job) = self.jobs.remove(&number) {
            self.timers.remove(&(job.timer, number));
            for wait in job.phase.waits() {
                self.waits.remove(&(wait.link, wait.id));
            }
        }
    }

    /// The link is gone, and with it all that was asked or owed over it.
    pub(super) fn link_down(&mut self, now: Time, around: &mut Neighbours, link: LinkNo) {
        let owed: Vec<u32> = self
            .jobs
            .iter()
            .filter(|(_, job)| job.from.link() == Some(link))
            .map(|(number, _)| *number)
            .collect();
        for number in owed {
            self.drop_job(number);
        }
        let asked: Vec<((LinkNo, u32), u32)> = self
            .waits
            .range((link, 0)..=(link, u32::MAX))
            .map(|(wait, job)| (*wait, *job))
            .collect();
        for (wait, number) in asked {
            self.waits.remove(&wait);
            self.give_up_wait(now, around, number, wait);
        }
    }

    /// Nothing comes from this one any more: another way.
    fn give_up_wait(
        &mut self,
        now: Time,
        around: &mut Neighbours,
        number: u32,
        wait: (LinkNo, u32),
    ) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        match &mut job.phase {
            Phase::Siblings { waits, .. } => {
                waits.retain(|other| (other.link, other.id) != wait);
                self.settle_siblings(now, around, number);
            }
            Phase::Forward(_) => self.route(now, around, number),
            Phase::Local { .. } => {}
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Time, around: &mut Neighbours) {
        self.start_hedges(now, around);
        while let Some((at, number)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.pop_first();
            self.job_timeout(now, around, number);
        }
    }

    fn job_timeout(&mut self, now: Time, around: &mut Neighbours, number: u32) {
        let Some(job) = self.jobs.get(&number) else { return };
        if now >= job.give_up {
            let answer = match &job.phase {
                Phase::Siblings { copies: copies @ 1.., .. } => Answer::Stored { copies: *copies },
                Phase::Siblings { .. } | Phase::Local { .. } | Phase::Forward(_) => {
                    Answer::NoRoute { left: job.left() }
                }
            };
            self.finish(now, around, number, answer);
            return;
        }
        let late: Vec<_> = job
            .phase
            .waits()
            .iter()
            .filter(|wait| now >= wait.until)
            .map(|wait| (wait.link, wait.id))
            .collect();
        if matches!(job.phase, Phase::Local { until } if now >= until) {
            self.held(now, around, number, Held::Refused);
            return;
        }
        self.set_timer(number);
        for (link, id) in late {
            self.waits.remove(&(link, id));
            let peer = around.iter().find(|it| it.link == link).map(|it| it.peer.id());
            if let Some(peer) = peer {
                around.suspect(now, &peer);
            }
            self.give_up_wait(now, around, number, (link, id));
        }
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

    fn fresh_id(&mut self) -> u32 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    /// Sets the one timer of a job to its next deadline.
    fn set_timer(&mut self, number: u32) {
        if let Some(job) = self.jobs.get_mut(&number) {
            self.timers.remove(&(job.timer, number));
            job.timer = job.next_deadline();
            self.timers.insert((job.timer, number));
        }
    }
}

fn answer_wait(budget: u8) -> Duration {
    ANSWER_WAIT + ANSWER_WAIT_PER_HOP * u32::from(budget)
}
