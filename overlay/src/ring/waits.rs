//! Answers that are owed: how long each may take, and what happens when none comes.
//!
//! Lives here: time limits, links that break, requests that waited for a window (more methods of the
//! engine of `request.rs`). Does not live here: what an answer means (`request.rs`).

use std::time::Duration;

use super::{
    api::Held,
    job::{From, Job, Phase},
    neighbours::Neighbours,
    request::{RequestOutput, Requests},
    watch::WATCH_LEASE,
    wire::Class,
};
use crate::{answer::Answer, id::LinkNo, room::Room, time::Time};

/// How long a neighbour may take to answer or say `Accepted`.
const ACCEPT_WAIT: Duration = Duration::from_millis(1_200);
/// The same for the put of a block, which may have a whole window of blocks in front of it on the
/// link: a megabyte at 160 KiB/s.
const ACCEPT_WAIT_BLOCK: [Duration; 2] = [Duration::from_secs(6), Duration::from_secs(15)];
/// How long a holder may take to look up or store a record.
const SIBLING_WAIT: Duration = Duration::from_millis(1_500);
/// How long an accepted request may take: this, and so much for each forward it has left.
const ANSWER_WAIT: [Duration; 2] = [Duration::from_secs(2), Duration::from_millis(500)];
/// The same for blocks, which are passed on whole from hop to hop: at most 36 s and 70 s.
const ANSWER_WAIT_INTERACTIVE: [Duration; 2] =
    [Duration::from_secs(6), Duration::from_millis(1_500)];
const ANSWER_WAIT_BULK: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(3)];
/// The same for a watch: each hop waits longer than the next one.
const ANSWER_WAIT_WATCH: [Duration; 2] = [WATCH_LEASE, Duration::from_millis(500)];
/// An honest hop gives up before its asker does: half a hop's wait is for the way.
const ANSWER_WAIT_MARGIN: Duration = Duration::from_millis(250);
/// How long a request for a block may wait for a window before another way is tried.
const QUEUE_WAIT: [Duration; 2] = [Duration::from_secs(4), Duration::from_secs(20)];

const fn by_class(class: Class, [interactive, bulk]: [Duration; 2]) -> Duration {
    match class {
        Class::Interactive => interactive,
        Class::Bulk => bulk,
    }
}

/// How long a job may take in all, from what it may still do.
pub(super) fn answer_wait(job: &Job) -> Duration {
    let [base, per_hop] = match (job.body.is_block(), job.class) {
        (false, _) if job.body.is_watch() => ANSWER_WAIT_WATCH,
        (false, _) => ANSWER_WAIT,
        (true, Class::Interactive) => ANSWER_WAIT_INTERACTIVE,
        (true, Class::Bulk) => ANSWER_WAIT_BULK,
    };
    let queue = if matches!(job.from, From::Push { .. }) { QUEUE_WAIT } else { Default::default() };
    base + per_hop * u32::from(job.budget) + by_class(job.class, queue)
}

/// How long the next one asked may take to say anything.
pub(super) fn ask_wait(job: &Job) -> Duration {
    if job.carries_block() { by_class(job.class, ACCEPT_WAIT_BLOCK) } else { ACCEPT_WAIT }
}

/// How long a holder may take to say anything.
pub(super) fn sibling_wait(job: &Job) -> Duration {
    if job.carries_block() { by_class(job.class, ACCEPT_WAIT_BLOCK) } else { SIBLING_WAIT }
}

impl Requests {
    /// Gives up room that nothing needs.
    pub(super) fn rest(&mut self, now: Time) {
        self.jobs.rest();
        self.waits.rest();
        self.timers.rest();
        self.windows.rest(now);
        self.gets.rest();
        self.parked.rest();
        self.queries.rest();
        self.hedges.rest();
        self.failed.rest(now);
        self.outputs.rest();
    }

    /// A link's request `id` was taken on by `peer`.
    pub(super) fn accepted(&mut self, now: Time, link: LinkNo, id: u32) {
        let Some(number) = self.waits.get(&(link, id)).copied() else { return };
        let Some(job) = self.jobs.get_mut(&number) else { return };
        let forward = matches!(job.phase, Phase::Forward(_));
        let more = if forward || job.body.is_block() { answer_wait(job) } else { SIBLING_WAIT };
        if let Some(wait) = job.phase.wait_mut(link, id)
            && !std::mem::replace(&mut wait.accepted, true)
        {
            wait.until = now + more + ANSWER_WAIT_MARGIN;
            self.set_timer(number);
        }
    }

    /// What was asked waits for the neighbour's window: the clock that runs is the queue's.
    pub(super) fn mark_queued(&mut self, now: Time, number: u32, link: LinkNo, id: u32) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        let until = now + by_class(job.class, QUEUE_WAIT);
        if let Some(wait) = job.phase.wait_mut(link, id) {
            (wait.queued, wait.until) = (true, until);
        }
    }

    /// Nothing is owed under this number any more; what waited in its place goes out. The job.
    pub(super) fn end_wait(&mut self, now: Time, link: LinkNo, id: u32) -> Option<u32> {
        let number = self.waits.remove(&(link, id));
        let go = self.windows.done(link, id);
        self.send_queued(now, link, go);
        number
    }

    /// The neighbour's window has room for these.
    pub(super) fn send_queued(&mut self, now: Time, link: LinkNo, go: Vec<(u32, u32)>) {
        for (id, number) in go {
            let Some(job) = self.jobs.get_mut(&number) else { continue };
            let forward = matches!(job.phase, Phase::Forward(_));
            let until = now + if forward { ask_wait(job) } else { sibling_wait(job) };
            let message = job.message(id);
            let Some(wait) = job.phase.wait_mut(link, id) else { continue };
            (wait.queued, wait.until) = (false, until);
            self.outputs.push_back(RequestOutput::Send { link, message });
            self.set_timer(number);
        }
    }

    /// The neighbour says how many requests for blocks it takes at a time.
    pub(super) fn window(&mut self, now: Time, link: LinkNo, windows: [u8; 2]) {
        let go = self.windows.allow(link, windows);
        self.send_queued(now, link, go);
    }

    /// The link is gone, and with it all that was asked or owed over it.
    pub(super) fn link_down(&mut self, now: Time, around: &mut Neighbours, link: LinkNo) {
        self.windows.forget(link);
        self.abandon_link(now, link);
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
        job.count_asked(1);
        match &mut job.phase {
            Phase::Siblings { waits, .. } => {
                waits.retain(|other| (other.link, other.id) != wait);
                self.settle_siblings(now, around, number);
            }
            Phase::Forward(_) => self.route(now, around, number),
            Phase::Local { .. } | Phase::Parked => {}
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
                // The lease is over.
                Phase::Parked => Answer::NotFound,
                Phase::Forward(wait) if job.body.is_watch() && wait.accepted => Answer::NotFound,
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
            .map(|wait| (wait.link, wait.id, wait.queued))
            .collect();
        if matches!(job.phase, Phase::Local { until } if now >= until) {
            self.held(now, around, number, Held::Refused);
            return;
        }
        self.set_timer(number);
        for (link, id, queued) in late {
            self.end_wait(now, link, id);
            let peer = around.iter().find(|it| it.link == link).map(|it| it.peer.id());
            if let (Some(peer), false) = (peer, queued) {
                around.suspect(now, &peer);
            }
            self.give_up_wait(now, around, number, (link, id));
        }
    }
}
