//! Sends blocks and requests for blocks through exits, and tries again where that makes sense.
//!
//! Lives here: the queue, what is under way, retries and their pauses. Does not live here: which
//! blocks (`fetch.rs`, `store.rs`, `heal.rs`), which exit (`exits.rs`).
//!
//! ```text
//! Ready ─exit free─> UnderWay ─Found, Stored─> over
//!   ^                   │ ├─NotFound, NoRoute, altered: first time─> Paused 2 s, another exit ─> ...
//!   │                   │ │                             second time─> a get is over: Missing
//!   └── pause over ──── │ ├─Busy─> Paused 1 s, 2 s, 4 s ... 60 s, not less than it asked for
//!                       │ └─no answer (tunnel died, 60 s)─> Ready, another exit
//!                       └─ slow ─> reported Late, still UnderWay
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use warren_overlay::{
    answer::Answer,
    block::{Block, BlockAddress},
    garlic::BlockAnswer,
    time::Time,
};

use super::exits::{ExitNo, Exits, Outcome};
use crate::file::Place;

/// Most requests under way for one file: 4 MiB of blocks, 8 MiB/s at half a second a request.
pub const IN_FLIGHT_MAX: usize = 128;
/// How many jobs wait before its owner should stop to add some.
const READY_MAX: usize = 32;
/// How often a get fails before its block counts as missing: the second try goes through another
/// exit, since the first may lie.
const GET_FAILURES_MAX: u8 = 2;
/// How often a get is put off before its block counts as missing: about 12 minutes.
const GET_BUSY_MAX: u8 = 16;
/// How often a tunnel may die under a get.
const GET_LOST_MAX: u8 = 8;
/// Pause before a failed request is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// Back-off: from one second, doubled, to sixty (DESIGN section 8).
const BACKOFF_MAX_S: u64 = 60;
/// Without any answer for so long, a request is lost.
const LOST_AFTER: Duration = Duration::from_mins(1);
/// A request is late after four times what is usual, within these bounds.
const LATE_MIN: Duration = Duration::from_millis(500);
const LATE_MAX: Duration = Duration::from_secs(5);
/// What is taken as usual before the first answer.
const USUAL_START: Duration = Duration::from_millis(500);

/// What the owner of a transfer must do.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Ask for a block through an exit; answer `ask` once.
    Get {
        /// Number of this request, never used twice in one transfer.
        ask: u64,
        /// Through which tunnel.
        exit: ExitNo,
        /// Which block.
        address: BlockAddress,
    },
    /// Put a block through an exit; answer `ask` once.
    Put {
        /// Number of this request.
        ask: u64,
        /// Through which tunnel.
        exit: ExitNo,
        /// The block.
        block: Block,
    },
    /// Have so many exits for this file in all, up to 16; say [`Fetch::no_more_exits`] (or its
    /// siblings) where that cannot be.
    ///
    /// [`Fetch::no_more_exits`]: super::Fetch::no_more_exits
    NeedExits {
        /// How many.
        want: usize,
    },
    /// This exit brought bytes that were not what was asked for. (It or who is behind it.)
    Suspect {
        /// Which.
        exit: ExitNo,
    },
}

#[derive(Clone, Debug)]
pub(super) enum Op {
    Get(BlockAddress),
    Put(Block),
}

/// What became of a job.
#[derive(Debug)]
pub(super) enum Event {
    Found(Block),
    Missing(BlockAddress),
    Late(BlockAddress),
    Stored { tag: u64, copies: u8 },
}

struct Job {
    op: Op,
    place: Place,
    /// The owner's number for it.
    tag: u64,
    tried: Vec<ExitNo>,
    failures: u8,
    busy: u8,
    lost: u8,
}

struct UnderWay {
    job: u64,
    exit: ExitNo,
    since: Time,
    late: bool,
}

/// What was counted on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) sent: u64,
    pub(super) busy: u64,
    pub(super) failed: u64,
    /// Most routers that one answer said were asked.
    pub(super) routers: u8,
}

pub(super) struct Courier {
    pub(super) exits: Exits,
    jobs: BTreeMap<u64, Job>,
    ready: VecDeque<u64>,
    paused: BTreeSet<(Time, u64)>,
    under_way: BTreeMap<u64, UnderWay>,
    next_job: u64,
    next_ask: u64,
    usual: Duration,
    out: VecDeque<Output>,
    events: VecDeque<Event>,
    pub(super) counts: Counts,
}

impl Courier {
    pub(super) fn new() -> Self {
        Self {
            exits: Exits::default(),
            jobs: BTreeMap::new(),
            ready: VecDeque::new(),
            paused: BTreeSet::new(),
            under_way: BTreeMap::new(),
            next_job: 0,
            next_ask: 0,
            usual: USUAL_START,
            out: VecDeque::new(),
            events: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// Whether more jobs should be added now. Bounds what waits: 32 ready, 128 under way, and as many
    /// paused.
    pub(super) fn has_room(&self) -> bool {
        self.ready.len() < READY_MAX && self.jobs.len() < 2 * IN_FLIGHT_MAX
    }

    /// Whether nothing is to be done and nothing is waited for.
    pub(super) fn is_idle(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Jobs that wait for a pause to end.
    pub(super) fn paused(&self) -> usize {
        self.paused.len()
    }

    pub(super) fn add(&mut self, op: Op, place: Place, tag: u64) {
        self.exits.announce(place);
        let job = Job { op, place, tag, tried: Vec::new(), failures: 0, busy: 0, lost: 0 };
        self.jobs.insert(self.next_job, job);
        self.ready.push_back(self.next_job);
        self.next_job += 1;
    }

    /// Drops the waiting jobs whose blocks are of no more use.
    pub(super) fn retain_gets(&mut self, useful: impl Fn(&BlockAddress) -> bool) {
        let under_way: BTreeSet<u64> = self.under_way.values().map(|way| way.job).collect();
        self.jobs.retain(|number, job| match &job.op {
            Op::Get(address) => under_way.contains(number) || useful(address),
            Op::Put(_) => true,
        });
        let jobs = &self.jobs;
        self.ready.retain(|number| jobs.contains_key(number));
        self.paused.retain(|(_, number)| jobs.contains_key(number));
    }

    pub(super) fn exit_gone(&mut self, now: Time, exit: ExitNo) {
        self.exits.gone(exit);
        self.out.retain(|out| match out {
            Output::Get { exit: to, .. } | Output::Put { exit: to, .. } => *to != exit,
            Output::NeedExits { .. } | Output::Suspect { .. } => true,
        });
        let lost = self.under_way.iter().filter(|(_, way)| way.exit == exit);
        for ask in lost.map(|(ask, _)| *ask).collect::<Vec<_>>() {
            self.handle_answer(now, ask, 0, None);
        }
    }

    pub(super) fn handle_answer(
        &mut self,
        now: Time,
        ask: u64,
        routers: u8,
        answer: Option<BlockAnswer>,
    ) {
        let Some(UnderWay { job: number, exit, since, .. }) = self.under_way.remove(&ask) else {
            return;
        };
        self.counts.routers = self.counts.routers.max(routers);
        let Some(job) = self.jobs.get_mut(&number) else {
            self.exits.answered(exit, now, Outcome::Neutral);
            return;
        };
        let outcome = match (answer, &job.op) {
            (Some(Answer::Found(block)), Op::Get(address)) if block.address() == *address => {
                // An eighth of the newest: steady enough for a bound of four times.
                self.usual = (self.usual * 7 + now.since(since)) / 8;
                self.end(number, Event::Found(block));
                Outcome::Good
            }
            (Some(Answer::Stored { copies }), Op::Put(_)) => {
                let tag = job.tag;
                self.end(number, Event::Stored { tag, copies });
                Outcome::Good
            }
            (Some(Answer::Busy { retry_s }), _) => {
                self.put_off(now, number, u64::from(retry_s));
                Outcome::Busy
            }
            (
                Some(Answer::NotFound | Answer::NoRoute { .. } | Answer::RecentlyFailed { .. }),
                _,
            ) => {
                self.fail(now, number, exit);
                Outcome::Neutral
            }
            (Some(Answer::Found(_) | Answer::Stored { .. } | Answer::Stale), _) => {
                self.out.push_back(Output::Suspect { exit });
                self.fail(now, number, exit);
                Outcome::Failed
            }
            (None, _) => {
                self.lose(now, number, exit);
                Outcome::Failed
            }
        };
        self.exits.answered(exit, now, outcome);
    }

    fn end(&mut self, number: u64, event: Event) {
        self.jobs.remove(&number);
        self.events.push_back(event);
    }

    /// The answer was no, or wrong.
    fn fail(&mut self, now: Time, number: u64, exit: ExitNo) {
        self.counts.failed += 1;
        let Some(job) = self.jobs.get_mut(&number) else { return };
        job.failures = job.failures.saturating_add(1);
        if !job.tried.contains(&exit) {
            job.tried.push(exit);
        }
        let pause = match &job.op {
            Op::Get(address) if job.failures >= GET_FAILURES_MAX => {
                let event = Event::Missing(*address);
                return self.end(number, event);
            }
            Op::Get(address) => {
                self.events.push_back(Event::Late(*address));
                RETRY
            }
            // A put has nowhere else to go: it is tried until it succeeds.
            Op::Put(_) => backoff(job.failures),
        };
        self.paused.insert((now + pause, number));
    }

    fn put_off(&mut self, now: Time, number: u64, retry_s: u64) {
        self.counts.busy += 1;
        let Some(job) = self.jobs.get_mut(&number) else { return };
        job.busy = job.busy.saturating_add(1);
        if let Op::Get(address) = &job.op {
            let address = *address;
            if job.busy >= GET_BUSY_MAX {
                return self.end(number, Event::Missing(address));
            }
            if job.busy > 1 {
                self.events.push_back(Event::Late(address));
            }
        }
        let asked = Duration::from_secs(retry_s.min(BACKOFF_MAX_S));
        let pause = self.jobs.get(&number).map_or(asked, |job| backoff(job.busy).max(asked));
        self.paused.insert((now + pause, number));
    }

    /// No answer will come.
    fn lose(&mut self, now: Time, number: u64, exit: ExitNo) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        job.lost = job.lost.saturating_add(1);
        if let Op::Get(address) = &job.op
            && job.lost >= GET_LOST_MAX
        {
            let event = Event::Missing(*address);
            return self.end(number, event);
        }
        if !job.tried.contains(&exit) {
            job.tried.push(exit);
        }
        if job.lost > 1 {
            self.paused.insert((now + backoff(job.lost - 1), number));
        } else {
            self.ready.push_front(number);
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Time) {
        while let Some((until, number)) = self.paused.first().copied()
            && until <= now
        {
            self.paused.pop_first();
            self.ready.push_back(number);
        }
        let late_after = self.late_after();
        let mut lost = Vec::new();
        for (ask, way) in &mut self.under_way {
            if way.since + LOST_AFTER <= now {
                lost.push(*ask);
            } else if !way.late && way.since + late_after <= now {
                way.late = true;
                if let Some(Job { op: Op::Get(address), .. }) = self.jobs.get(&way.job) {
                    self.events.push_back(Event::Late(*address));
                }
            }
        }
        for ask in lost {
            self.handle_answer(now, ask, 0, None);
        }
    }

    fn late_after(&self) -> Duration {
        (self.usual * 4).clamp(LATE_MIN, LATE_MAX)
    }

    pub(super) fn poll_timeout(&self, now: Time) -> Option<Time> {
        let late_after = self.late_after();
        let ways = self
            .under_way
            .values()
            .map(|way| way.since + if way.late { LOST_AFTER } else { late_after });
        let paused = self.paused.first().map(|(until, _)| *until);
        let resting = if self.ready.is_empty() { None } else { self.exits.poll_timeout(now) };
        ways.chain(paused).chain(resting).min()
    }

    /// Sends what can be sent.
    pub(super) fn pump(&mut self, now: Time) {
        let mut at = 0;
        while self.under_way.len() < IN_FLIGHT_MAX
            && let Some(number) = self.ready.get(at).copied()
        {
            let Some(job) = self.jobs.get(&number) else {
                self.ready.remove(at);
                continue;
            };
            let Some(exit) = self.exits.choose(now, job.place, &job.tried) else {
                at += 1;
                continue;
            };
            self.ready.remove(at);
            self.exits.sent(exit, job.place);
            let ask = self.next_ask;
            self.next_ask += 1;
            self.counts.sent += 1;
            self.under_way.insert(ask, UnderWay { job: number, exit, since: now, late: false });
            self.out.push_back(match &job.op {
                Op::Get(address) => Output::Get { ask, exit, address: *address },
                Op::Put(block) => Output::Put { ask, exit, block: block.clone() },
            });
        }
        let stuck = self.under_way.is_empty() && !self.ready.is_empty();
        if stuck && self.exits.poll_timeout(now).is_none() {
            // Every exit has seen its share of the segment, by repetitions for the most part.
            self.exits.starved();
        }
        if !self.exits.is_relaxed()
            && let Some(want) = self.exits.poll_want()
        {
            self.out.push_back(Output::NeedExits { want });
        }
    }

    pub(super) fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
}

/// 1 s, 2 s, 4 s ... 60 s.
fn backoff(times: u8) -> Duration {
    let seconds = 1u64.checked_shl(u32::from(times.saturating_sub(1))).unwrap_or(BACKOFF_MAX_S);
    Duration::from_secs(seconds.clamp(1, BACKOFF_MAX_S))
}
