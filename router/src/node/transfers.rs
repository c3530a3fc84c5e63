//! The exits of files: tunnels that one job opens for itself alone, and what it asks through them.
//!
//! Lives here: which job has which tunnels, drawing others where two would end at one router, and
//! whose answer is whose. Does not live here: which block goes when and through which exit (`Fetch`,
//! `Store`, `Heal` of datastore, run by the job's owner), tunnels (`Pools`), their cells (`Requester`).
//!
//! ```text
//!  job's owner                      Transfers                       Pools, Requester
//!   Begin ───────────────────────> a Requester of its own
//!   Exits{want} ─────────────────> ──────────── Take, WantHops ──>
//!     <── ExitUp ────────────────── new end hop? <── TunnelReady ──
//!     <── NoMoreExits ───────────── too many repeat, or 15 s
//!   Ask{exit, request} ──────────> ──────────── Request ─────────>
//!     <── Answer, ExitGone ──────── <────────── Answer, TunnelGone ─
//!   End ─────────────────────────> all of it is dropped
//! ```
//!
//! Bulk is bounded by the tunnels: 16 requests about blocks each, with the owner counting along; what
//! is asked beyond that comes back unanswered.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use warren_datastore::transfer::{EXITS_MAX, ExitNo};
use warren_overlay::{
    block::{Block, BlockAddress},
    garlic::{BlockAnswer, Clove, OwnTunnelName, RecordAnswer, RecordBytes},
    id::{EndNo, Key, RouterId},
    ring::{Class, Watch},
    session::{EndEvent, EndInput, Requester},
    time::{Now, Time},
};

/// Jobs at the same time; each may hold 16 tunnels.
const JOBS_MAX: usize = 64;
/// So long a job waits for the exits that it wants before it is told to make do.
const PATIENCE: Duration = Duration::from_secs(15);

/// A job's number, which its owner chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobNo(pub u64);

/// A unit to find or to store through an exit.
#[derive(Clone, Debug)]
pub enum JobRequest {
    /// Find a block.
    GetBlock(BlockAddress, Class),
    /// Store a block.
    PutBlock(Block, Class),
    /// Find a record.
    GetRecord(Key),
    /// Store a record.
    PutRecord(RecordBytes),
    /// Tell of a record's next version; the answer may take [`WATCH_LEASE`](warren_overlay::ring::WATCH_LEASE).
    WatchRecord(Watch),
}

/// What came of it.
#[derive(Debug)]
pub enum JobAnswer {
    /// To a request about a block; a found one is the one that was asked for.
    Block(BlockAnswer),
    /// Nobody has it any more; it is pinned here. Give it back to the network.
    Pinned(Block),
    /// To a request about a record, whose signature nobody has checked.
    Record(RecordAnswer),
}

/// What a job's owner says.
#[derive(Debug)]
pub enum JobInput {
    /// The job begins.
    Begin {
        /// Routers per tunnel; none for the router's own number.
        hops: Option<u8>,
        /// Whether blocks that the person here fetched before will do, and are kept.
        cached: bool,
    },
    /// From now on its blocks are pinned: those that come and those that it stores.
    Pin {
        /// Whether the network is asked also for what is pinned; what it has lost comes from here then, as
        /// [`JobAnswer::Pinned`]. Otherwise only what is not pinned yet is asked for.
        renew: bool,
    },
    /// It wants so many exits in all, at most 16.
    Exits {
        /// How many.
        want: usize,
    },
    /// Ask through an exit; `Answer` follows once, unless the exit goes first.
    Ask {
        /// The owner's number for it.
        ask: u64,
        /// Through which.
        exit: ExitNo,
        /// For what.
        request: JobRequest,
    },
    /// The job is over: its tunnels close, nothing more is said of it.
    End,
}

/// What a job's owner is told.
#[derive(Debug)]
pub enum JobEvent {
    /// There are too many jobs. Begin again later.
    Refused,
    /// An exit is there.
    ExitUp(ExitNo),
    /// An exit is gone; what was asked through it is not answered.
    ExitGone(ExitNo),
    /// There are no more exits to be had now.
    NoMoreExits,
    /// Blocks are to be put, and all routers where its tunnels could end are of a version that takes no work
    /// for that (docs/spec/work.md).
    TooOld,
    /// A block could not be pinned: there is no room for it, or the disk failed.
    NotPinned,
    /// What came of an `Ask`.
    Answer {
        /// Which.
        ask: u64,
        /// How many routers were asked, 255 for more.
        routers: u8,
        /// `None` when it was not answered.
        answer: Option<JobAnswer>,
    },
}

/// What happened.
#[derive(Debug)]
pub(super) enum TransfersInput {
    /// A job's owner says something. `end` is a number for a new end, should one be needed.
    Job { job: JobNo, end: EndNo, input: JobInput },
    /// A tunnel was built for a job's end.
    TunnelReady { end: EndNo, tunnel: OwnTunnelName, last: Last },
    /// A tunnel is gone, or will be soon.
    TunnelGone { end: EndNo, tunnel: OwnTunnelName },
    /// A job's end says something.
    End { end: EndNo, event: EndEvent },
}

/// Where a tunnel ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Last {
    pub(super) router: RouterId,
    /// Whether blocks can be put there.
    pub(super) takes_work: bool,
}

/// What to do next.
#[derive(Debug)]
pub(super) enum TransfersOutput {
    /// Hold this end.
    NewRequester { end: EndNo, machine: Box<Requester> },
    /// For an end.
    End { end: EndNo, input: EndInput },
    /// Forget this end and its tunnels.
    DropEnd { end: EndNo },
    /// One more tunnel of the usual length for an end.
    Take { end: EndNo },
    /// So many tunnels of this length for an end.
    WantHops { end: EndNo, count: usize, hops: u8 },
    /// An end is done with a tunnel.
    DropTunnel { end: EndNo, tunnel: OwnTunnelName },
    /// Look among what was fetched and pinned here before; [`Transfers::looked`] follows.
    Look { job: JobNo, look: Look },
    /// Keep this block that was fetched.
    Keep { block: Block },
    /// Pin this block; [`Transfers::not_pinned`] if that cannot be.
    Pin { job: JobNo, block: Block },
    /// For a job's owner.
    Event { job: JobNo, event: JobEvent },
}

/// A block to look for here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    ask: u64,
    exit: ExitNo,
    /// The block.
    pub(super) address: BlockAddress,
    class: Class,
    /// How many routers did not have it; none when nobody was asked yet.
    asked: Option<u8>,
}

/// A request that was sent.
#[derive(Debug)]
struct Open {
    /// The owner's number.
    ask: u64,
    exit: ExitNo,
    /// Which block is wanted.
    get: Option<(BlockAddress, Class)>,
}

#[derive(Debug)]
struct Exit {
    tunnel: OwnTunnelName,
    /// Where it ends. No two exits of a job end at one router.
    last: Last,
}

#[derive(Debug)]
struct Job {
    end: EndNo,
    hops: Option<u8>,
    cached: bool,
    /// Its blocks are pinned; with `true` the network is asked first.
    pin: Option<bool>,
    want: usize,
    /// Tunnels that the pools keep for it.
    taken: usize,
    exits: BTreeMap<ExitNo, Exit>,
    next_exit: u32,
    /// It puts blocks.
    puts: bool,
    /// Tunnels of it were thrown away because they ended at routers that take no work.
    passed_over: bool,
    /// Tunnels that may still be thrown away because they end where another one does.
    redraws: usize,
    /// When to say `NoMoreExits`; `None` where there are enough, or it was said.
    patience: Option<Time>,
    next_request: u32,
    open: BTreeMap<u32, Open>,
}

impl Job {
    /// What its owner hears when it has to make do with what exits there are.
    fn makes_do(&self) -> JobEvent {
        let too_old = self.exits.is_empty() && self.passed_over;
        if too_old { JobEvent::TooOld } else { JobEvent::NoMoreExits }
    }
}

/// The machine.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    jobs: BTreeMap<JobNo, Job>,
    ends: BTreeMap<EndNo, JobNo>,
    out: VecDeque<TransfersOutput>,
}

impl Transfers {
    /// Whether a job has this end.
    pub(super) fn holds(&self, end: EndNo) -> bool {
        self.ends.contains_key(&end)
    }

    /// Something happened.
    pub(super) fn handle_input(&mut self, now: Now, input: TransfersInput) {
        match input {
            TransfersInput::Job { job, end, input } => match input {
                JobInput::Begin { hops, cached } => self.begin(job, end, hops, cached),
                JobInput::Pin { renew } => {
                    if let Some(job) = self.jobs.get_mut(&job) {
                        job.pin = Some(renew);
                    }
                }
                JobInput::Exits { want } => self.want(now.time, job, want),
                JobInput::Ask { ask, exit, request } => {
                    self.ask(now.time, job, (ask, exit), request);
                }
                JobInput::End => self.end(job),
            },
            TransfersInput::TunnelReady { end, tunnel, last } => self.ready(end, tunnel, last),
            TransfersInput::TunnelGone { end, tunnel } => self.gone(now.time, end, tunnel),
            TransfersInput::End { end, event } => self.end_event(end, event),
        }
    }

    /// Time passed.
    pub(super) fn handle_timeout(&mut self, now: Now) {
        for (no, job) in &mut self.jobs {
            if job.patience.is_some_and(|until| until <= now.time) {
                job.patience = None;
                let event = job.makes_do();
                self.out.push_back(TransfersOutput::Event { job: *no, event });
            }
        }
    }

    /// When to be woken.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.jobs.values().filter_map(|job| job.patience).min()
    }

    /// The next thing to do.
    pub(super) fn poll_output(&mut self) -> Option<TransfersOutput> {
        self.out.pop_front()
    }

    fn tell(&mut self, job: JobNo, event: JobEvent) {
        self.out.push_back(TransfersOutput::Event { job, event });
    }

    fn begin(&mut self, no: JobNo, end: EndNo, hops: Option<u8>, cached: bool) {
        if self.jobs.len() >= JOBS_MAX || self.jobs.contains_key(&no) {
            return self.tell(no, JobEvent::Refused);
        }
        let job = Job {
            end,
            hops,
            cached,
            pin: None,
            want: 0,
            taken: 0,
            exits: BTreeMap::new(),
            puts: false,
            passed_over: false,
            next_exit: 0,
            redraws: 0,
            patience: None,
            next_request: 0,
            open: BTreeMap::new(),
        };
        self.jobs.insert(no, job);
        self.ends.insert(end, no);
        let machine = Box::new(Requester::new());
        self.out.push_back(TransfersOutput::NewRequester { end, machine });
    }

    fn want(&mut self, now: Time, no: JobNo, want: usize) {
        let Some(job) = self.jobs.get_mut(&no) else { return };
        job.want = want.min(EXITS_MAX).max(job.want);
        job.redraws = job.want;
        job.patience = (job.exits.len() < job.want).then(|| now + PATIENCE);
        Self::take(&mut self.out, job);
    }

    /// Asks the pools for what is missing.
    fn take(out: &mut VecDeque<TransfersOutput>, job: &mut Job) {
        let end = job.end;
        match job.hops {
            Some(hops) if job.taken < job.want => {
                out.push_back(TransfersOutput::WantHops { end, count: job.want, hops });
            }
            Some(_) => {}
            None => {
                out.extend((job.taken..job.want).map(|_| TransfersOutput::Take { end }));
            }
        }
        job.taken = job.taken.max(job.want);
    }

    fn ready(&mut self, end: EndNo, tunnel: OwnTunnelName, last: Last) {
        let Some(no) = self.ends.get(&end).copied() else { return };
        let Some(job) = self.jobs.get_mut(&no) else { return };
        let usable = last.takes_work || !job.puts;
        if usable && job.exits.values().all(|exit| exit.last.router != last.router) {
            job.next_exit += 1;
            let exit = ExitNo(job.next_exit);
            job.exits.insert(exit, Exit { tunnel, last });
            if job.exits.len() >= job.want {
                job.patience = None;
            }
            return self.tell(no, JobEvent::ExitUp(exit));
        }
        job.passed_over |= !usable;
        // What two tunnels ask of one router is as if one had asked it all.
        self.draw_again(no, tunnel);
    }

    /// Drops a tunnel that ends where none of the job's should; another is built unless too many were dropped.
    fn draw_again(&mut self, no: JobNo, tunnel: OwnTunnelName) {
        let Some(job) = self.jobs.get_mut(&no) else { return };
        let end = job.end;
        self.out.push_back(TransfersOutput::DropTunnel { end, tunnel });
        if let Some(left) = job.redraws.checked_sub(1) {
            job.redraws = left;
            if job.hops.is_none() {
                self.out.push_back(TransfersOutput::Take { end });
            }
        } else {
            job.taken = job.taken.saturating_sub(1);
            if let Some(hops) = job.hops {
                let count = job.taken;
                self.out.push_back(TransfersOutput::WantHops { end, count, hops });
            }
            if job.patience.take().is_some() {
                let event = job.makes_do();
                self.tell(no, event);
            }
        }
    }

    fn gone(&mut self, now: Time, end: EndNo, tunnel: OwnTunnelName) {
        let Some(no) = self.ends.get(&end).copied() else { return };
        let Some(job) = self.jobs.get_mut(&no) else { return };
        let exit = job.exits.iter().find(|(_, exit)| exit.tunnel == tunnel).map(|(no, _)| *no);
        let Some(exit) = exit else { return };
        job.exits.remove(&exit);
        job.open.retain(|_, open| open.exit != exit);
        // The pools build another one by themselves, which may have to be drawn again.
        job.redraws = (job.redraws + 1).min(EXITS_MAX);
        job.patience = Some(now + PATIENCE);
        self.tell(no, JobEvent::ExitGone(exit));
    }

    fn ask(&mut self, now: Time, no: JobNo, (ask, exit): (u64, ExitNo), request: JobRequest) {
        let Some(job) = self.jobs.get(&no) else { return };
        let pin = job.pin;
        match request {
            JobRequest::GetBlock(address, class) if pin == Some(false) || job.cached => {
                let look = Look { ask, exit, address, class, asked: None };
                self.out.push_back(TransfersOutput::Look { job: no, look });
            }
            JobRequest::PutBlock(block, class) if pin.is_some() => {
                self.out.push_back(TransfersOutput::Pin { job: no, block: block.clone() });
                self.send(now, no, (ask, exit), JobRequest::PutBlock(block, class));
            }
            request => self.send(now, no, (ask, exit), request),
        }
    }

    /// What came of a `Look`. Where nothing is found the network is asked, unless it was before.
    pub(super) fn looked(&mut self, now: Time, no: JobNo, look: Look, found: Option<Block>) {
        let Look { ask, exit, address, class, asked } = look;
        let answer = match (found, asked) {
            (Some(block), Some(_)) => JobAnswer::Pinned(block),
            (Some(block), None) => {
                if self.jobs.get(&no).is_some_and(|job| job.pin.is_some()) {
                    self.out.push_back(TransfersOutput::Pin { job: no, block: block.clone() });
                }
                JobAnswer::Block(BlockAnswer::Found(block))
            }
            (None, Some(_)) => JobAnswer::Block(BlockAnswer::NotFound),
            (None, None) => {
                return self.send(now, no, (ask, exit), JobRequest::GetBlock(address, class));
            }
        };
        let routers = asked.unwrap_or(0);
        self.tell(no, JobEvent::Answer { ask, routers, answer: Some(answer) });
    }

    /// A block could not be pinned.
    pub(super) fn not_pinned(&mut self, job: JobNo) {
        self.tell(job, JobEvent::NotPinned);
    }

    fn send(&mut self, now: Time, no: JobNo, (ask, exit): (u64, ExitNo), request: JobRequest) {
        let Some(job) = self.jobs.get_mut(&no) else { return };
        let puts = matches!(request, JobRequest::PutBlock(..));
        job.puts |= puts;
        let usable = |it: &&Exit| it.last.takes_work || !puts;
        let Some(through) = job.exits.get(&exit).filter(usable) else {
            if let Some(old) = job.exits.remove(&exit) {
                job.passed_over = true;
                job.open.retain(|_, open| open.exit != exit);
                job.patience.get_or_insert(now + PATIENCE);
                self.tell(no, JobEvent::ExitGone(exit));
                self.draw_again(no, old.tunnel);
            }
            return self.tell(no, JobEvent::Answer { ask, routers: 0, answer: None });
        };
        let (end, tunnel) = (job.end, Some(through.tunnel));
        // The top bit is the end's own (EndInput::Request).
        job.next_request = (job.next_request + 1) & 0x7fff_ffff;
        let number = job.next_request;
        let get = match &request {
            JobRequest::GetBlock(address, class) => Some((*address, *class)),
            _ => None,
        };
        job.open.insert(number, Open { ask, exit, get });
        let input = EndInput::Request { tunnel, clove: clove(number, request) };
        self.out.push_back(TransfersOutput::End { end, input });
    }

    fn end(&mut self, no: JobNo) {
        let Some(job) = self.jobs.remove(&no) else { return };
        self.ends.remove(&job.end);
        self.out.push_back(TransfersOutput::DropEnd { end: job.end });
    }

    fn end_event(&mut self, end: EndNo, event: EndEvent) {
        let (request, routers, answer) = match event {
            EndEvent::Answer { request, asked, answer } => {
                (request, asked, answer.map(JobAnswer::Record))
            }
            EndEvent::Block { request, asked, answer } => {
                (request, asked, answer.map(JobAnswer::Block))
            }
            // The wiring's own business.
            _ => return,
        };
        let Some(no) = self.ends.get(&end).copied() else { return };
        let Some(job) = self.jobs.get_mut(&no) else { return };
        let Some(Open { ask, exit, get }) = job.open.remove(&request) else { return };
        match (&answer, get) {
            (Some(JobAnswer::Block(BlockAnswer::Found(block))), _) => {
                let block = block.clone();
                if job.pin.is_some() {
                    self.out.push_back(TransfersOutput::Pin { job: no, block });
                } else if job.cached {
                    self.out.push_back(TransfersOutput::Keep { block });
                }
            }
            (
                Some(JobAnswer::Block(
                    BlockAnswer::NotFound
                    | BlockAnswer::NoRoute { .. }
                    | BlockAnswer::RecentlyFailed { .. },
                )),
                Some((address, class)),
            ) if job.pin == Some(true) => {
                let look = Look { ask, exit, address, class, asked: Some(routers) };
                return self.out.push_back(TransfersOutput::Look { job: no, look });
            }
            _ => {}
        }
        self.tell(no, JobEvent::Answer { ask, routers, answer });
    }
}

fn clove(request: u32, what: JobRequest) -> Clove {
    match what {
        JobRequest::GetBlock(address, class) => Clove::BlockGet { request, class, address },
        JobRequest::PutBlock(block, class) => Clove::BlockPut { request, class, block },
        JobRequest::GetRecord(key) => Clove::RecordGet { request, key },
        JobRequest::PutRecord(record) => Clove::RecordPut { request, record },
        JobRequest::WatchRecord(watch) => Clove::RecordWatch { request, watch },
    }
}

#[cfg(test)]
mod tests;
