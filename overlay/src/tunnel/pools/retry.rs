//! How long to wait for a build, and how soon to try again.
//!
//! Lives here: the time limit that learns, the back-off, and who rests after a failure. Does not
//! live here: the builds (`pools.rs`).

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use crate::{id::RouterId, rng::Rng, time::Time};

const LIMIT_MIN: Duration = Duration::from_secs(5);
/// A build that takes longer is worth nothing: the page has its error by then.
const LIMIT_MAX: Duration = Duration::from_secs(30);
/// Past builds that the limit learns from.
const SAMPLES_MAX: usize = 64;

/// max(5 s, 3 x p95 of past builds), at most 30 s.
#[derive(Debug, Default)]
pub(super) struct Limit(VecDeque<Duration>);

impl Limit {
    pub(super) fn took(&mut self, span: Duration) {
        if self.0.len() >= SAMPLES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(span);
    }

    pub(super) fn get(&self) -> Duration {
        let mut sorted: Vec<_> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        let p95 = sorted.get(sorted.len().saturating_sub(1) * 95 / 100).copied();
        (p95.unwrap_or_default() * 3).clamp(LIMIT_MIN, LIMIT_MAX)
    }
}

/// Failures in a row that are tried again at once, with other hops.
const FREE_FAILURES: u32 = 6;
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// At once, then after 0.25 s, 0.5 s, ... 15 s; each pause between half and whole, so that routers
/// that lost the same hop do not come back together.
#[derive(Debug, Default)]
pub(super) struct BackOff {
    failures: u32,
    next: Time,
}

impl BackOff {
    pub(super) fn failed(&mut self, now: Time, rng: &mut Rng) {
        self.failures = self.failures.saturating_add(1);
        if let Some(doublings) = self.failures.checked_sub(FREE_FAILURES + 1) {
            let pause = (PAUSE_MIN * (1 << doublings.min(8))).min(PAUSE_MAX);
            let next = now + pause.mul_f64(0.5 + rng.unit() / 2.0);
            self.next = self.next.max(next);
        }
    }

    pub(super) const fn succeeded(&mut self) {
        self.failures = 0;
        self.next = Time::ZERO;
    }

    /// Not before.
    pub(super) const fn next(&self) -> Time {
        self.next
    }

    /// At least this long until the next try: there is no guard to build through.
    pub(super) fn hold(&mut self, until: Time) {
        self.next = self.next.max(until);
    }

    /// While nothing works, two builds at a time are enough to notice that it does again.
    pub(super) const fn builds_max(&self, usual: usize) -> usize {
        if self.failures > FREE_FAILURES { 2 } else { usual }
    }
}

/// Builds that may be begun at once after a quiet time: all that a router may hold, and their successors.
const BURST: u32 = 40;
/// What a build of three hops sends through the network, in bits: three messages of 5.4 kB there and three back.
const BUILD_BITS: u64 = 6 * 5_400 * 8;
/// Builds take one part of so many of what a router carries.
const PART: u64 = 20;
const EVERY_MAX: Duration = Duration::from_secs(10);

/// How fast builds may be begun, whatever they are for. On lines so slow that tunnels seem dead, those who
/// look for better ones would else fill the lines with builds, and nothing would arrive at all.
#[derive(Debug)]
pub(super) struct Pace {
    every: Duration,
    /// When all that were begun are paid for.
    paid: Time,
}

impl Pace {
    pub(super) fn of(kbps: u32) -> Self {
        let mut this = Self { every: Duration::ZERO, paid: Time::ZERO };
        this.change(kbps);
        this
    }

    pub(super) fn change(&mut self, kbps: u32) {
        let every = Duration::from_millis(BUILD_BITS * PART / u64::from(kbps).max(1));
        self.every = every.min(EVERY_MAX);
    }

    /// Whether one may be begun now.
    ///
    /// # Errors
    /// When it may, if later.
    pub(super) fn may(&self, now: Time) -> Result<(), Time> {
        let early = self.paid.since(now).saturating_sub(self.every * (BURST - 1));
        if early.is_zero() { Ok(()) } else { Err(now + early) }
    }

    /// One is begun.
    pub(super) fn spend(&mut self, now: Time) {
        self.paid = self.paid.max(now) + self.every;
    }
}

/// Routers remembered as failing.
const RESTING_MAX: usize = 256;
const REST_MIN: Duration = Duration::from_secs(30);
const REST_DOUBLINGS_MAX: u32 = 5;

/// Routers that are not chosen for a while, if there are others.
#[derive(Debug, Default)]
pub(super) struct Resting(BTreeMap<RouterId, (u32, Time)>);

impl Resting {
    /// Charged with a failure: rests 30 s, doubling each time, up to 16 min.
    pub(super) fn charge(&mut self, now: Time, id: RouterId) {
        let (failures, until) = self.0.get(&id).copied().unwrap_or_default();
        let rest = REST_MIN * (1 << failures.min(REST_DOUBLINGS_MAX));
        self.put(id, (failures.saturating_add(1), until.max(now + rest)));
    }

    /// On the path of a failure that cannot be charged: rests 30 s.
    pub(super) fn suspect(&mut self, now: Time, id: RouterId) {
        let (failures, until) = self.0.get(&id).copied().unwrap_or_default();
        self.put(id, (failures, until.max(now + REST_MIN)));
    }

    pub(super) fn clear(&mut self, id: RouterId) {
        self.0.remove(&id);
    }

    pub(super) fn at(&self, now: Time) -> BTreeSet<RouterId> {
        self.0.iter().filter(|(_, (_, until))| *until > now).map(|(id, _)| *id).collect()
    }

    /// All who had a part in a failure, and through whom no build has come about since.
    pub(super) fn failing(&self) -> impl Iterator<Item = RouterId> {
        self.0.keys().copied()
    }

    fn put(&mut self, id: RouterId, entry: (u32, Time)) {
        self.0.insert(id, entry);
        if self.0.len() > RESTING_MAX
            && let Some(soonest) = self.0.iter().min_by_key(|(_, (_, until))| *until)
        {
            let soonest = *soonest.0;
            self.0.remove(&soonest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_three_times_what_nearly_all_took() {
        let mut limit = Limit::default();
        assert_eq!(limit.get(), LIMIT_MIN);
        for _ in 0..60 {
            limit.took(Duration::from_secs(3));
        }
        assert_eq!(limit.get(), Duration::from_secs(9));
        for _ in 0..64 {
            limit.took(Duration::from_secs(29));
        }
        assert_eq!(limit.get(), LIMIT_MAX);
    }

    #[test]
    fn first_failures_cost_no_time_and_no_pause_exceeds_15_s() {
        let (mut rng, mut back_off) = (Rng::from_seed([1; 32]), BackOff::default());
        for failure in 0..40 {
            back_off.failed(Time::ZERO, &mut rng);
            let pause = back_off.next().since(Time::ZERO);
            assert_eq!(pause == Duration::ZERO, failure < FREE_FAILURES, "failure {failure}");
            assert!(pause <= PAUSE_MAX);
        }
        assert!(back_off.next().since(Time::ZERO) >= PAUSE_MAX / 2);
        back_off.succeeded();
        assert_eq!(back_off.next(), Time::ZERO);
    }

    #[test]
    fn the_resting_are_bounded() {
        let mut resting = Resting::default();
        for n in 0..1_000u32 {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&n.to_be_bytes());
            resting.charge(Time::ZERO, RouterId(id));
        }
        assert_eq!(resting.at(Time::ZERO).len(), RESTING_MAX);
    }

    #[test]
    fn builds_begin_at_once_until_there_were_many_and_then_by_what_the_line_carries() {
        let mut pace = Pace::of(2_097);
        let begun = |pace: &mut Pace, now| {
            let begin = |_: &i32| pace.may(now).map(|()| pace.spend(now)).is_ok();
            (0..100).take_while(begin).count()
        };
        let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
        assert_eq!(begun(&mut pace, at(0)), 40);
        let next = pace.may(at(0)).unwrap_err();
        assert!(at(2) < next && next < at(3), "{next:?}");
        assert_eq!(begun(&mut pace, at(25)), 10);
        // Who has a gigabit never waits, who has next to nothing begins one in ten seconds.
        let mut fast = Pace::of(1_000_000);
        assert!((0..9).all(|second| begun(&mut fast, at(second)) == 40));
        pace.change(64);
        assert!(begun(&mut pace, at(3_600)) == 40 && begun(&mut pace, at(3_700)) == 10);
    }
}
