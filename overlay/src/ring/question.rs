//! Own questions: up to three tries, each through another first hop.
//!
//! Lives here: when the next try starts, and which of several answers counts. Does not live here:
//! what one try does (`request.rs`; these are more methods of the same engine).
//!
//! A miss counts when two tries agree, or when this router itself is where the record would be. A try
//! that takes long is not waited for: after 2.5 s the next one starts beside it.

use std::time::Duration;

use super::{
    job::{From, Job},
    neighbours::Neighbours,
    request::{BUSY_RETRY_S, RequestOutput, Requests},
    visited::Visited,
    watch::WATCH_QUERIES_MAX,
    wire::{BUDGET_MAX, Body, Class, Found},
};
use crate::{answer::Answer, id::LinkNo, time::Time};

/// Own questions at a time.
const QUERIES_MAX: usize = 512;
/// Of these, about blocks: 4 MiB.
const BLOCK_QUERIES_MAX: usize = 128;
/// Tries of an own question, each through another first hop.
const TRIES_MAX: u8 = 3;
/// After so long without an answer the next try starts beside the first.
const HEDGE: Duration = Duration::from_millis(2_500);
/// The same for a block, that takes its time on each link; four times this where nobody waits.
const HEDGE_BLOCK: Duration = Duration::from_secs(5);
/// Tries that must agree that there is nothing.
const MISSES_WANTED: u8 = 2;

/// One own question.
#[derive(Debug)]
pub(super) struct Query {
    body: Body,
    class: Class,
    asked: u8,
    pub(super) firsts: Vec<[u8; 4]>,
    tries: u8,
    live: u8,
    misses: u8,
    /// The most telling of the failures so far.
    failure: Answer<Found>,
    /// No further tries: the first went over a link of the owner's choice.
    pinned: bool,
}

impl Requests {
    /// Starts an own question; `query` must not be in use. `via` names the link to ask first, for
    /// who has no neighbours yet.
    pub(super) fn ask(
        &mut self,
        now: Time,
        around: &mut Neighbours,
        query: u32,
        (body, class): (Body, Class),
        via: Option<LinkNo>,
    ) {
        let count =
            |alike: fn(&Body) -> bool| self.queries.values().filter(|it| alike(&it.body)).count();
        if self.queries.len() >= QUERIES_MAX
            || body.is_block() && count(Body::is_block) >= BLOCK_QUERIES_MAX
            || body.is_watch() && count(Body::is_watch) >= WATCH_QUERIES_MAX
            || self.queries.contains_key(&query)
        {
            let answer = Answer::Busy { retry_s: BUSY_RETRY_S };
            self.outputs.push_back(RequestOutput::Done { query, asked: 0, answer });
            return;
        }
        match &body {
            Body::Get(key) => {
                if let Some(until_s) = self.failed.refuses(now, &key.key()) {
                    let answer = Answer::RecentlyFailed { until_s };
                    self.outputs.push_back(RequestOutput::Done { query, asked: 0, answer });
                    return;
                }
            }
            Body::Put(unit) => self.failed.forget(&unit.key().key()),
            Body::Find(_) | Body::Watch(_) => {}
        }
        let failure = Answer::NoRoute { left: 0 };
        let pinned = via.is_some();
        let fresh = Query {
            body,
            class,
            asked: 0,
            firsts: vec![],
            tries: 0,
            live: 0,
            misses: 0,
            failure,
            pinned,
        };
        self.queries.insert(query, fresh);
        self.try_query(now, around, query, via);
    }

    /// Starts the next try of a question.
    fn try_query(&mut self, now: Time, around: &mut Neighbours, query: u32, via: Option<LinkNo>) {
        let Some(it) = self.queries.get_mut(&query) else { return };
        it.tries += 1;
        it.live += 1;
        // A watch takes as long as it takes.
        if it.tries < TRIES_MAX && !it.pinned && !it.body.is_watch() {
            let hedge = match (it.body.is_block(), it.class) {
                (false, _) => HEDGE,
                (true, Class::Interactive) => HEDGE_BLOCK,
                (true, Class::Bulk) => HEDGE_BLOCK * 4,
            };
            self.hedges.insert((now + hedge, query));
        }
        let mut visited = Visited::default();
        visited.insert(self.marks);
        for marks in &it.firsts {
            visited.insert(*marks);
        }
        let first = it.tries == 1;
        let from = From::Own { query };
        let (body, class) = (it.body.clone(), it.class);
        // Later tries go their own ways, whoever else asks.
        if first && via.is_none() && self.follow(&body, from) {
            return;
        }
        let job = Job::new(from, body, class, visited, BUDGET_MAX + 1);
        let number = self.admit(now, job);
        match via {
            Some(link) => self.forward(now, number, link, None),
            None if first => self.begin(now, around, number),
            None => self.route(now, around, number),
        }
    }

    /// Starts the tries that were not waited for any longer.
    pub(super) fn start_hedges(&mut self, now: Time, around: &mut Neighbours) {
        while let Some((at, query)) = self.hedges.first().copied()
            && at <= now
        {
            self.hedges.pop_first();
            if self.queries.get(&query).is_some_and(|it| it.tries < TRIES_MAX) {
                self.try_query(now, around, query, None);
            }
        }
    }

    /// One try of a question ended; `here`: this router itself is where the record would be.
    pub(super) fn conclude(
        &mut self,
        now: Time,
        around: &mut Neighbours,
        query: u32,
        (asked, answer): (u8, Answer<Found>),
        here: bool,
    ) {
        let Some(it) = self.queries.get_mut(&query) else { return };
        it.live = it.live.saturating_sub(1);
        // This router counts once, not with each try.
        let again = u8::from(it.asked > 0);
        it.asked = it.asked.saturating_add(asked - asked.min(again));
        let settled = match &answer {
            Answer::Found(_) | Answer::Stored { .. } | Answer::Stale => true,
            Answer::NotFound => {
                it.misses += 1;
                here || it.misses >= MISSES_WANTED || it.body.is_watch()
            }
            Answer::NoRoute { .. } | Answer::Busy { .. } | Answer::RecentlyFailed { .. } => false,
        };
        if settled {
            self.close_query(now, query, answer);
            return;
        }
        if rank(&answer) > rank(&it.failure) {
            it.failure = answer;
        }
        let last = it.tries >= TRIES_MAX || it.pinned;
        if !last {
            self.try_query(now, around, query, None);
        } else if it.live == 0 {
            let answer = it.failure.clone();
            self.close_query(now, query, answer);
        }
    }

    fn close_query(&mut self, now: Time, query: u32, answer: Answer<Found>) {
        let Some(it) = self.queries.remove(&query) else { return };
        self.hedges.retain(|(_, other)| *other != query);
        self.abandon(now, From::Own { query });
        self.outputs.push_back(RequestOutput::Done { query, asked: it.asked, answer });
    }
}

/// How much a failure tells: what more of the tries should be reported.
const fn rank(answer: &Answer<Found>) -> u8 {
    match answer {
        Answer::NoRoute { .. } => 0,
        Answer::Busy { .. } => 1,
        Answer::RecentlyFailed { .. } => 2,
        Answer::NotFound => 3,
        Answer::Stale | Answer::Stored { .. } | Answer::Found(_) => 4,
    }
}
