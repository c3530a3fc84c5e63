//! A transfer's line to the router's task.
//!
//! Lives here: beginning and ending the job, carrying wishes one way and events the other. Does not
//! live here: what they mean (`job.rs` of this crate).

use std::time::Duration;

use tokio::{
    runtime::Handle,
    sync::mpsc,
    time::{Instant, sleep_until},
};
use warren_datastore::transfer::{ExitNo, Transfer};
use warren_overlay::{block::Block, garlic::BlockAnswer, ring::Class, time::Time};

use super::FileError;
use crate::{
    driver::{Event, clock::Clock},
    job,
    node::{JobAnswer, JobEvent, JobInput, JobNo, JobRequest},
};

/// Numbers of what is put back: far above a transfer's own.
const PUT_BACK_ASKS: u64 = 1 << 32;
const PUT_BACK_LIMIT: Duration = Duration::from_mins(1);
/// So long a search goes on without any tunnel.
const ALONE_MAX: Duration = Duration::from_mins(1);

/// How many exits a transfer has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exits {
    /// Tunnels that stand.
    pub(crate) open: usize,
    /// The network has fewer than the file should have: each sees more of it.
    pub(crate) few: bool,
}

/// The line.
#[derive(Debug)]
pub(super) struct Link {
    job: JobNo,
    hops: Option<u8>,
    events: mpsc::Sender<Event>,
    inbox: mpsc::UnboundedReceiver<JobEvent>,
    /// Given to the router's task when the job begins. What comes through it is bounded by what is
    /// asked.
    to: Option<mpsc::UnboundedSender<JobEvent>>,
    clock: Clock,
    pub(super) exits: Exits,
    standing: Vec<ExitNo>,
    /// Whether it ends when there is no tunnel for long. A put does not: it goes on when there is.
    pub(super) gives_up: bool,
    alone_since: Option<Time>,
    /// Whether blocks are set aside for `tapped`.
    pub(super) taps: bool,
    /// Blocks that came, and that go to the network.
    pub(super) tapped: Vec<Block>,
    /// Pinned blocks that the network lost.
    pub(super) lost: Vec<Block>,
    runtime: Handle,
}

impl Link {
    pub(super) fn new(
        job: JobNo,
        hops: Option<u8>,
        events: mpsc::Sender<Event>,
        clock: Clock,
    ) -> Self {
        let (to, inbox) = mpsc::unbounded_channel();
        Self {
            gives_up: true,
            alone_since: Some(clock.now().time),
            job,
            hops,
            events,
            inbox,
            to: Some(to),
            clock,
            exits: Exits::default(),
            standing: Vec::new(),
            taps: false,
            tapped: Vec::new(),
            lost: Vec::new(),
            runtime: Handle::current(),
        }
    }

    /// The time of the router's machines.
    pub(super) fn now(&self) -> Time {
        self.clock.now().time
    }

    async fn send(&self, event: Event) -> Result<(), FileError> {
        self.events.send(event).await.map_err(|_| FileError::Stopping)
    }

    /// Begins the job. `cached`: blocks that were fetched here before will do.
    pub(super) async fn begin(&mut self, cached: bool) -> Result<(), FileError> {
        let Some(to) = self.to.take() else { return Ok(()) };
        let job = self.job;
        self.send(Event::JobBegin { job, to }).await?;
        self.say(JobInput::Begin { hops: self.hops, cached }).await
    }

    pub(super) async fn say(&self, input: JobInput) -> Result<(), FileError> {
        self.send(Event::Job { job: self.job, input }).await
    }

    /// Carries what a transfer wants. Waits while the router's task has much to do.
    pub(super) async fn carry(&mut self, transfer: &mut dyn Transfer) -> Result<(), FileError> {
        while let Some(wish) = job::poll_wish(transfer) {
            if self.taps
                && let JobInput::Ask { request: JobRequest::PutBlock(block, _), .. } = &wish
            {
                self.tapped.push(block.clone());
            }
            self.say(wish).await?;
        }
        Ok(())
    }

    /// The next thing that the router's task says.
    pub(super) async fn next(&mut self) -> Result<JobEvent, FileError> {
        self.inbox.recv().await.ok_or(FileError::Stopping)
    }

    /// Waits for the next event or until the transfer's timer, and tells the transfer; with everything
    /// else that has come by then.
    pub(super) async fn wait(&mut self, transfer: &mut dyn Transfer) -> Result<(), FileError> {
        let alone = self.alone_until();
        let wake = transfer.poll_timeout(self.now()).into_iter().chain(alone).min();
        let wake = wake.map(|at| self.clock.instant(at));
        tokio::select! {
            event = self.inbox.recv() => self.deliver(transfer, event.ok_or(FileError::Stopping)?)?,
            () = until(wake) => transfer.handle_timeout(self.now()),
        }
        while let Ok(event) = self.inbox.try_recv() {
            self.deliver(transfer, event)?;
        }
        match self.alone_until() {
            Some(until) if until <= self.now() => Err(FileError::NoTunnel),
            _ => Ok(()),
        }
    }

    /// When to give up for want of any tunnel.
    fn alone_until(&self) -> Option<Time> {
        self.alone_since.filter(|_| self.gives_up).map(|since| since + ALONE_MAX)
    }

    fn deliver(&mut self, transfer: &mut dyn Transfer, event: JobEvent) -> Result<(), FileError> {
        match &event {
            JobEvent::ExitUp(exit) => self.standing.push(*exit),
            JobEvent::ExitGone(exit) => self.standing.retain(|other| other != exit),
            JobEvent::NoMoreExits => self.exits.few = true,
            JobEvent::NotPinned => return Err(FileError::NotPinned),
            JobEvent::TooOld => return Err(FileError::TooOld),
            JobEvent::Answer {
                answer: Some(JobAnswer::Block(BlockAnswer::Found(block))), ..
            } if self.taps => self.tapped.push(block.clone()),
            JobEvent::Answer { answer: Some(JobAnswer::Pinned(block)), .. } => {
                self.lost.push(block.clone());
            }
            JobEvent::Refused | JobEvent::Answer { .. } => {}
        }
        self.exits.open = self.standing.len();
        self.alone_since =
            if self.standing.is_empty() { self.alone_since.or(Some(self.now())) } else { None };
        if job::deliver(transfer, self.now(), event) { Ok(()) } else { Err(FileError::TooMany) }
    }
}

impl Link {
    /// Puts blocks back that were rebuilt while a file was read, one after the other through its exits
    /// in turns, as far as that goes within a minute.
    pub(super) async fn put_back(&mut self, blocks: Vec<Block>) {
        let put = async {
            for (block, ask) in blocks.into_iter().zip(PUT_BACK_ASKS..) {
                let turn = usize::try_from(ask % 16).unwrap_or(0) % self.standing.len().max(1);
                let Some(exit) = self.standing.get(turn).copied() else { return };
                let request = JobRequest::PutBlock(block, Class::Bulk);
                if self.say(JobInput::Ask { ask, exit, request }).await.is_err() {
                    return;
                }
                loop {
                    match self.inbox.recv().await {
                        None => return,
                        Some(JobEvent::Answer { ask: answered, .. }) if answered == ask => break,
                        Some(JobEvent::ExitGone(gone)) => {
                            self.standing.retain(|other| *other != gone);
                            if gone == exit {
                                break;
                            }
                        }
                        Some(_) => {}
                    }
                }
            }
        };
        let _ = tokio::time::timeout(PUT_BACK_LIMIT, put).await;
    }
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Runs a transfer on a thread of its own: coding takes milliseconds, and whatever task runs on the
/// same thread would wait for it.
pub(super) fn on_own_thread(run: impl Future<Output = ()> + Send + 'static) {
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || runtime.block_on(run));
}

impl Drop for Link {
    fn drop(&mut self) {
        let end = Event::Job { job: self.job, input: JobInput::End };
        if let Err(mpsc::error::TrySendError::Full(end)) = self.events.try_send(end) {
            let events = self.events.clone();
            self.runtime.spawn(async move { events.send(end).await });
        }
    }
}
