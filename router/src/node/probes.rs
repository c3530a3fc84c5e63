//! A service looks at itself from outside: is its descriptor found, does each gateway lead to it, and
//! do those of other routers that publish it lead to them?
//!
//! Lives here: one look at one service, over tunnels that are anybody's. Does not live here: when it
//! looks, and what it does about what it sees (`services.rs`).
//!
//! ```text
//! Look --> End made, stream to port 0 --NeedDescriptor--> Lookup --found--> first gateway
//!                                            '--------------------> tried: answers, or 8 s --> next
//!          after the last: Seen; the End is dropped
//! ```
//!
//! Port 0 is nobody's: a service refuses it by itself, and its server hears of nothing.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use warren_overlay::{
    id::{EndNo, NetworkId, RouterId},
    rng::Rng,
    service::{AccessKey, Lease, Lookup, Name, OfferId, Outcome, ServiceDescriptor},
    session::{
        AppCommand, End, EndEvent, EndInput, Milestone, ResetReason, SessionOffer, StreamNo,
    },
    time::{Now, Time},
};

use super::finding::{Finding, FindingOutput};

/// How long a gateway may take: two routers may have to be dialled on the way.
const GATEWAY_MAX: Duration = Duration::from_secs(8);
/// Gateways of another router that are tried before nobody answers there.
const OTHERS_MAX: usize = 3;
/// How long the look may take in all; then it says what it knows.
const LOOK_MAX: Duration = Duration::from_mins(1);
/// Bytes that its buffers may hold: nothing flows.
const QUOTA: usize = 64 * 1_024;

/// What happened.
#[derive(Debug)]
pub(super) enum ProbesInput {
    /// Look at a service, with a number for a new end.
    Look { end: EndNo, look: Look },
    /// An end says something.
    End { end: EndNo, event: EndEvent },
}

/// At what.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// The service's end.
    pub(super) service: EndNo,
    pub(super) name: Name,
    /// Which of the offers is this router's own.
    pub(super) own: OfferId,
    /// As whom: everybody, or one client.
    pub(super) access: Option<Arc<AccessKey>>,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// The version of the descriptor that readers find; none if they find none.
    pub(super) version: Option<u64>,
    /// Whether nobody could be asked: that says nothing of the service.
    pub(super) blind: bool,
    /// What they find.
    pub(super) descriptor: Option<Arc<ServiceDescriptor>>,
    /// Gateways of this router's offer through which the service answered.
    pub(super) alive: Vec<RouterId>,
    /// Those through which it did not.
    pub(super) dead: Vec<RouterId>,
    /// Offers of other routers at which nobody answered.
    pub(super) gone: Vec<OfferId>,
}

/// What to do next.
#[derive(Debug)]
pub(super) enum ProbesOutput {
    /// Hold this end.
    NewEnd { end: EndNo, machine: Box<End> },
    /// For an end.
    End { end: EndNo, input: EndInput },
    /// Forget this end and its tunnels.
    DropEnd { end: EndNo },
    /// One more tunnel for an end.
    TakeTunnel { end: EndNo },
    /// What the look at a service has seen.
    Seen { service: EndNo, seen: Seen },
}

#[derive(Debug)]
struct Probe {
    look: Look,
    seen: Seen,
    tunnels: usize,
    finding: Finding,
    /// Offers and gateways still to be tried, this router's own first; the first is being tried.
    todo: VecDeque<(OfferId, Lease)>,
    stream: u64,
    until: Time,
    over: Time,
}

/// The machine.
#[derive(Debug)]
pub(super) struct Probes {
    network: NetworkId,
    probes: BTreeMap<EndNo, Probe>,
    rng: Rng,
    out: VecDeque<ProbesOutput>,
}

impl Probes {
    /// No look is under way.
    pub(super) fn new(network: NetworkId, rng: Rng) -> Self {
        Self { network, probes: BTreeMap::new(), rng, out: VecDeque::new() }
    }

    /// Whether an end is a look's.
    pub(super) fn holds(&self, end: EndNo) -> bool {
        self.probes.contains_key(&end)
    }

    /// Something happened.
    pub(super) fn handle_input(&mut self, now: Now, input: ProbesInput) {
        match input {
            ProbesInput::Look { end, look } => self.look(now, end, look),
            ProbesInput::End { end, event } => self.end_event(now, end, event),
        }
    }

    /// Time passed.
    pub(super) fn handle_timeout(&mut self, now: Now) {
        let ends: Vec<_> = self.probes.keys().copied().collect();
        for end in ends {
            let Some(probe) = self.probes.get_mut(&end) else { continue };
            if probe.over <= now.time {
                self.finish(end);
            } else if probe.seen.descriptor.is_some() && probe.until <= now.time {
                self.tried(now, end, false);
            } else if probe.finding.handle_timeout(now) {
                self.drain_finding(now, end);
            }
        }
    }

    /// The next thing to do.
    pub(super) fn poll_output(&mut self) -> Option<ProbesOutput> {
        self.out.pop_front()
    }

    /// When to be woken.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let next = |probe: &Probe| {
            let found = probe.finding.poll_timeout();
            let gateway = probe.seen.descriptor.is_some().then_some(probe.until);
            found.into_iter().chain(gateway).chain([probe.over]).min()
        };
        self.probes.values().filter_map(next).min()
    }

    fn look(&mut self, now: Now, end: EndNo, look: Look) {
        if self.probes.values().any(|probe| probe.look.service == look.service) {
            return; // one at a time
        }
        let machine = Box::new(End::client(self.rng.fork(), QUOTA));
        self.out.push_back(ProbesOutput::NewEnd { end, machine });
        let (alive, dead, gone) = (Vec::new(), Vec::new(), Vec::new());
        let probe = Probe {
            look,
            seen: Seen { version: None, blind: true, descriptor: None, alive, dead, gone },
            tunnels: 0,
            finding: Finding::default(),
            todo: VecDeque::new(),
            stream: 0,
            until: now.time,
            over: now.time + LOOK_MAX,
        };
        self.probes.insert(end, probe);
        self.open(end);
    }

    /// A stream is what an end makes a session for.
    fn open(&mut self, end: EndNo) {
        let Some(probe) = self.probes.get_mut(&end) else { return };
        probe.stream += 1;
        let command = AppCommand::Open { stream: StreamNo(probe.stream), port: 0 };
        self.out.push_back(ProbesOutput::End { end, input: EndInput::App(command) });
    }

    fn end_event(&mut self, now: Now, end: EndNo, event: EndEvent) {
        let Some(probe) = self.probes.get_mut(&end) else { return };
        match event {
            EndEvent::NeedTunnels { want } => {
                for _ in probe.tunnels..want {
                    probe.tunnels += 1;
                    self.out.push_back(ProbesOutput::TakeTunnel { end });
                }
            }
            EndEvent::NeedDescriptor if probe.seen.descriptor.is_some() => self.give(end),
            EndEvent::NeedDescriptor if !probe.finding.is_under_way() => {
                let (name, access) = (probe.look.name, probe.look.access.clone());
                let rng = self.rng.fork();
                probe.finding.begin(Lookup::new(now, name, access, self.network, 0, rng));
                self.drain_finding(now, end);
            }
            EndEvent::Answer { request, asked: _, answer } => {
                if probe.finding.answer(now, request, answer) {
                    self.drain_finding(now, end);
                }
            }
            EndEvent::Reached(Milestone::Session) => self.tried(now, end, true),
            EndEvent::NeedDescriptor
            | EndEvent::Reached(Milestone::Gateway)
            | EndEvent::LeasesChanged(_)
            | EndEvent::EffortChanged(_)
            | EndEvent::Block { .. }
            | EndEvent::Router { .. }
            | EndEvent::TunnelFailed { .. }
            | EndEvent::TunnelMute { .. }
            | EndEvent::TunnelFree { .. } => {}
        }
    }

    fn drain_finding(&mut self, now: Now, end: EndNo) {
        let Some(probe) = self.probes.get_mut(&end) else { return };
        while let Some(output) = probe.finding.poll_output() {
            let outcome = match output {
                FindingOutput::Ask(input) => {
                    self.out.push_back(ProbesOutput::End { end, input });
                    continue;
                }
                FindingOutput::Done(outcome) => outcome,
            };
            probe.seen.blind = matches!(outcome, Outcome::Unreachable(_));
            if let Outcome::Found(found) = outcome {
                probe.seen.version = Some(found.version);
                probe.todo = todo(&found.descriptor, probe.look.own);
                probe.seen.descriptor = Some(found.descriptor);
                probe.until = now.time + GATEWAY_MAX;
                if !probe.todo.is_empty() {
                    return self.give(end);
                }
            }
            return self.finish(end);
        }
    }

    /// Has the end try the next gateway, and no other.
    fn give(&mut self, end: EndNo) {
        let Some(probe) = self.probes.get(&end) else { return };
        let (Some(descriptor), Some((id, lease))) = (&probe.seen.descriptor, probe.todo.front())
        else {
            return;
        };
        let access = probe.look.access.as_ref();
        let offers = SessionOffer::all(descriptor, &probe.look.name, access, self.network);
        let Some(offer) = offers.into_iter().find(|offer| offer.id == *id) else {
            return self.finish(end);
        };
        let input = EndInput::Descriptor(vec![SessionOffer { leases: vec![*lease], ..offer }]);
        self.out.push_back(ProbesOutput::End { end, input });
    }

    fn tried(&mut self, now: Now, end: EndNo, answers: bool) {
        let Some(probe) = self.probes.get_mut(&end) else { return };
        let Some((id, lease)) = probe.todo.pop_front() else { return };
        let last = probe.todo.iter().all(|(next, _)| *next != id);
        match (id == probe.look.own, answers) {
            (true, true) => probe.seen.alive.push(lease.gateway),
            (true, false) => probe.seen.dead.push(lease.gateway),
            // One way to another router is enough.
            (false, true) => probe.todo.retain(|(next, _)| *next != id),
            // If nothing of its own answers either, this says nothing of the other router.
            (false, false)
                if last && (probe.seen.dead.is_empty() || !probe.seen.alive.is_empty()) =>
            {
                probe.seen.gone.push(id);
            }
            (false, false) => {}
        }
        let stream = StreamNo(probe.stream);
        probe.until = now.time + GATEWAY_MAX;
        if probe.todo.is_empty() {
            return self.finish(end);
        }
        // Without a target it asks for one again, and gets the next gateway.
        let command = AppCommand::Reset { stream, reason: ResetReason::Closed };
        for input in [EndInput::App(command), EndInput::Withdrawn] {
            self.out.push_back(ProbesOutput::End { end, input });
        }
        self.open(end);
    }

    /// What was not tried is not spoken of.
    fn finish(&mut self, end: EndNo) {
        let Some(probe) = self.probes.remove(&end) else { return };
        self.out.push_back(ProbesOutput::DropEnd { end });
        let (service, seen) = (probe.look.service, probe.seen);
        self.out.push_back(ProbesOutput::Seen { service, seen });
    }
}

/// The order in which a descriptor's gateways are tried.
fn todo(descriptor: &ServiceDescriptor, own: OfferId) -> VecDeque<(OfferId, Lease)> {
    let (ours, others): (Vec<_>, Vec<_>) =
        descriptor.offers.iter().partition(|offer| offer.id == own);
    let ours = ours.into_iter().flat_map(|offer| offer.leases.iter().map(|lease| (own, *lease)));
    let others = others
        .into_iter()
        .flat_map(|offer| offer.leases.iter().take(OTHERS_MAX).map(|lease| (offer.id, *lease)));
    ours.chain(others).collect()
}

#[cfg(test)]
mod tests;
