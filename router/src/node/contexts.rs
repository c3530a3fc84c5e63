//! Isolation contexts: one conversation with one service each.
//!
//! Lives here: which contexts there are, finding their service, and their first failure. Does not
//! live here: sessions and streams (`overlay::session::End`), tunnels (`Pools`), where records are
//! found (the ring, through the context's own tunnels).
//!
//! ```text
//! Open --new key--> End made --NeedTunnels--> tunnels --NeedDescriptor--> Lookup
//!  |                                                              found |   | not found
//!  '--known key--> its End                       Descriptor <-----------'   '--> Unreachable
//! ```

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use warren_overlay::{
    id::{EndNo, NetworkId},
    rng::Rng,
    service::{AccessKey, Found, Lookup, Name, Outcome, Unreachable, VersionMemory},
    session::{self, AppCommand, End, EndEvent, EndInput, Milestone, ResetReason, SessionOffer},
    time::{Now, Time},
};
use warren_proxy::{ContextLimiter, Failure, IsolationKey};

use super::finding::{Finding, FindingOutput};
use crate::app::StreamNo;

/// Contexts at the same time; each holds tunnels of its own.
const CONTEXTS_MAX: usize = 256;
/// Share of the router's memory that all buffers of one context may hold, and most bytes.
const QUOTA: (usize, usize) = (4, session::QUOTA_DEFAULT);

/// What happened.
#[derive(Debug)]
pub(super) enum ContextsInput {
    /// An application wants a stream. `end` is a number for a new end, should one be needed.
    Open { open: u64, end: EndNo, isolation: IsolationKey, name: Name, port: u16 },
    /// What this router shares with a private service, or no more does.
    Access { name: Name, key: Option<Arc<AccessKey>> },
    /// An end says something.
    End { end: EndNo, event: EndEvent },
    /// An end got a tunnel; not all ends are a context's.
    Tunnel { end: EndNo },
}

/// Contexts whose way is remembered, the last ones.
const WAYS_MAX: usize = 16;

/// When each part of a context's way to its service was done for the first time.
#[derive(Clone, Copy, Debug)]
struct Way {
    begun: Time,
    /// A tunnel, the descriptor, a gateway, the session.
    done: [Option<Time>; 4],
}

/// What to do next.
#[derive(Debug)]
pub(super) enum ContextsOutput {
    /// Hold this end.
    NewEnd { end: EndNo, machine: Box<End> },
    /// For an end.
    End { end: EndNo, input: EndInput },
    /// Forget this end and its tunnels.
    DropEnd { end: EndNo },
    /// One more tunnel for an end.
    TakeTunnel { end: EndNo },
    /// From now on so many are enough for an end.
    WantFewer { end: EndNo, count: usize },
    /// The answer to `Open`.
    Opened { open: u64, result: Result<StreamNo, Failure> },
    /// Streams of this end that are reset before they opened failed for this reason.
    Failing { end: EndNo, failure: Failure },
}

#[derive(Debug)]
struct Context {
    key: IsolationKey,
    name: Name,
    streams: u64,
    /// Tunnels asked for so far; the pools replace those that are lost.
    tunnels: usize,
    finding: Finding,
    /// What is looked for, and what was found, is opened with.
    access: Option<Arc<AccessKey>>,
}

/// The machine.
#[derive(Debug)]
pub(super) struct Contexts {
    network: NetworkId,
    /// Bytes that all buffers of one context may hold.
    quota: usize,
    contexts: BTreeMap<EndNo, Context>,
    by_key: BTreeMap<IsolationKey, EndNo>,
    /// Private services that admit this router.
    access: BTreeMap<Name, Arc<AccessKey>>,
    /// Also of contexts that have ended since.
    ways: BTreeMap<EndNo, Way>,
    limiter: ContextLimiter,
    versions: VersionMemory,
    rng: Rng,
    out: VecDeque<ContextsOutput>,
}

impl Contexts {
    /// No context yet, at a router that may use `memory` bytes.
    pub(super) fn new(network: NetworkId, memory: usize, mut rng: Rng) -> Self {
        let versions = VersionMemory::new(&mut rng);
        rng.rest();
        Self {
            network,
            quota: (memory / QUOTA.0).min(QUOTA.1),
            contexts: BTreeMap::new(),
            by_key: BTreeMap::new(),
            access: BTreeMap::new(),
            ways: BTreeMap::new(),
            limiter: ContextLimiter::default(),
            versions,
            rng,
            out: VecDeque::new(),
        }
    }

    /// How many contexts there are.
    pub(super) fn len(&self) -> usize {
        self.contexts.len()
    }

    /// Something happened.
    pub(super) fn handle_input(&mut self, now: Now, input: ContextsInput) {
        match input {
            ContextsInput::Open { open, end, isolation, name, port } => {
                self.open(now, open, end, isolation, name, port);
            }
            ContextsInput::Access { name, key } => self.admitted(name, key),
            ContextsInput::End { end, event } => self.end_event(now, end, event),
            ContextsInput::Tunnel { end } => self.reached(now.time, end, 0),
        }
    }

    /// A private service admits this router from now on, or its line was forgotten: what was found
    /// the other way is of no use.
    fn admitted(&mut self, name: Name, key: Option<Arc<AccessKey>>) {
        match key {
            Some(key) => self.access.insert(name, key),
            None => self.access.remove(&name),
        };
        for (end, context) in self.contexts.iter_mut().filter(|(_, it)| it.name == name) {
            context.finding.stop();
            let input = EndInput::Withdrawn;
            self.out.push_back(ContextsOutput::End { end: *end, input });
        }
    }

    /// How long after it began each part of a context's way was done, as far as it came: a tunnel, the
    /// descriptor, a gateway, the session.
    pub(super) fn way(&self, end: EndNo) -> Vec<Duration> {
        let Some(way) = self.ways.get(&end) else { return Vec::new() };
        way.done.iter().map_while(|done| Some(done.as_ref()?.since(way.begun))).collect()
    }

    fn reached(&mut self, now: Time, end: EndNo, part: usize) {
        if let Some(done) = self.ways.get_mut(&end).and_then(|way| way.done.get_mut(part)) {
            done.get_or_insert(now);
        }
    }

    /// Time passed.
    pub(super) fn handle_timeout(&mut self, now: Now) {
        let contexts = self.contexts.iter_mut();
        let due: Vec<_> = contexts
            .filter_map(|(end, context)| context.finding.handle_timeout(now).then_some(*end))
            .collect();
        for end in due {
            self.drain_finding(now.time, end);
        }
    }

    /// The next thing to do.
    pub(super) fn poll_output(&mut self) -> Option<ContextsOutput> {
        self.out.pop_front()
    }

    /// When to be woken.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.contexts.values().filter_map(|context| context.finding.poll_timeout()).min()
    }

    fn open(&mut self, now: Now, open: u64, new: EndNo, key: IsolationKey, name: Name, port: u16) {
        let end = match self.by_key.get(&key) {
            Some(end) => *end,
            None => match self.begin(now, new, key, name) {
                Ok(()) => new,
                Err(failure) => {
                    let result = Err(failure);
                    return self.out.push_back(ContextsOutput::Opened { open, result });
                }
            },
        };
        let Some(context) = self.contexts.get_mut(&end) else { return };
        context.streams += 1;
        let stream = StreamNo { end, stream: session::StreamNo(context.streams) };
        self.out.push_back(ContextsOutput::Opened { open, result: Ok(stream) });
        let command = AppCommand::Open { stream: stream.stream, port };
        self.out.push_back(ContextsOutput::End { end, input: EndInput::App(command) });
    }

    fn begin(
        &mut self,
        now: Now,
        end: EndNo,
        key: IsolationKey,
        name: Name,
    ) -> Result<(), Failure> {
        if self.contexts.len() >= CONTEXTS_MAX || self.limiter.admit(now.time, key).is_err() {
            return Err(Failure::TooManyContexts);
        }
        let machine = Box::new(End::client(self.rng.fork(), self.quota));
        self.out.push_back(ContextsOutput::NewEnd { end, machine });
        self.by_key.insert(key, end);
        let context = Context {
            key,
            name,
            streams: 0,
            tunnels: 0,
            finding: Finding::default(),
            access: None,
        };
        self.contexts.insert(end, context);
        self.ways.insert(end, Way { begun: now.time, done: [None; 4] });
        if self.ways.len() > WAYS_MAX {
            self.ways.pop_first();
        }
        Ok(())
    }

    fn end_event(&mut self, now: Now, end: EndNo, event: EndEvent) {
        let Some(context) = self.contexts.get_mut(&end) else { return };
        match event {
            EndEvent::NeedTunnels { want: 0 } => {
                let key = context.key;
                self.contexts.remove(&end);
                self.by_key.remove(&key);
                self.out.push_back(ContextsOutput::DropEnd { end });
            }
            EndEvent::NeedTunnels { want } => {
                for _ in context.tunnels..want {
                    context.tunnels += 1;
                    self.out.push_back(ContextsOutput::TakeTunnel { end });
                }
                if want < context.tunnels {
                    context.tunnels = want;
                    self.out.push_back(ContextsOutput::WantFewer { end, count: want });
                }
            }
            EndEvent::NeedDescriptor => {
                let floor = self.versions.floor(context.key.as_bytes(), &context.name);
                let (name, rng) = (context.name, self.rng.fork());
                context.access = self.access.get(&name).cloned();
                let access = context.access.clone();
                context.finding.begin(Lookup::new(now, name, access, self.network, floor, rng));
                self.drain_finding(now.time, end);
            }
            EndEvent::Answer { request, asked: _, answer } => {
                if context.finding.answer(now, request, answer) {
                    self.drain_finding(now.time, end);
                }
            }
            EndEvent::Reached(Milestone::Gateway) => self.reached(now.time, end, 2),
            EndEvent::Reached(Milestone::Session) => {
                // What the service says through a gateway says that it is joined.
                self.reached(now.time, end, 2);
                self.reached(now.time, end, 3);
            }
            // A service's, or the wiring's own business.
            EndEvent::LeasesChanged(_)
            | EndEvent::EffortChanged(_)
            | EndEvent::Block { .. }
            | EndEvent::Router { .. }
            | EndEvent::TunnelFailed { .. }
            | EndEvent::TunnelMute { .. }
            | EndEvent::TunnelFree { .. } => {}
        }
    }

    fn drain_finding(&mut self, now: Time, end: EndNo) {
        let Some(context) = self.contexts.get_mut(&end) else { return };
        while let Some(output) = context.finding.poll_output() {
            let outcome = match output {
                FindingOutput::Ask(input) => {
                    self.out.push_back(ContextsOutput::End { end, input });
                    continue;
                }
                FindingOutput::Done(outcome) => outcome,
            };
            return match outcome {
                Outcome::Found(found) => {
                    self.reached(now, end, 1);
                    self.found(end, &found);
                }
                Outcome::NotFound => self.failed(end, Failure::NotFound),
                Outcome::Invalid => self.failed(end, Failure::BadDescriptor),
                Outcome::Unreachable(Unreachable::NoRoute | Unreachable::Busy { .. }) => {
                    self.failed(end, Failure::Busy);
                }
            };
        }
    }

    fn found(&mut self, end: EndNo, found: &Found) {
        let Some(context) = self.contexts.get(&end) else { return };
        let (descriptor, access) = (&found.descriptor, context.access.as_ref());
        let offers = SessionOffer::all(descriptor, &context.name, access, self.network);
        if offers.len() < descriptor.offers.len() {
            return self.failed(end, Failure::BadDescriptor);
        }
        self.versions.remember(context.key.as_bytes(), &context.name, found.version);
        if offers.is_empty() {
            let failure = Failure::NotFound;
            self.out.push_back(ContextsOutput::Failing { end, failure });
            let input = EndInput::Withdrawn;
            return self.out.push_back(ContextsOutput::End { end, input });
        }
        // From here on, what fails is the service or the way to it.
        self.out.push_back(ContextsOutput::Failing { end, failure: Failure::NoGateway });
        let input = EndInput::Descriptor(offers);
        self.out.push_back(ContextsOutput::End { end, input });
    }

    fn failed(&mut self, end: EndNo, failure: Failure) {
        self.out.push_back(ContextsOutput::Failing { end, failure });
        let input = EndInput::Unreachable(ResetReason::Unreachable);
        self.out.push_back(ContextsOutput::End { end, input });
    }
}
