//! `End`: the near end of tunnels, where their bytes become streams.
//!
//! Lives here: one isolation context's or one service's carrier and session machine, joined. Does
//! not live here: either of them (`garlic`, `client.rs`, `service.rs`), and who asks whom for
//! tunnels and descriptors (`router`).
//!
//! ```text
//!  links <──Part──> Carrier <──units──> Client | Service <──App──> applications
//!                      '─────────cloves, tunnels─────────Node─> Node
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    app::StreamNo,
    choice::Route,
    client::{Client, ClientOutput},
    end_api::{EndEvent, EndInput, EndOutput, Milestone},
    gateways::{Gateways, OWN_REQUEST},
    path::PathNo,
    record::UNIT_MAX,
    service::{Service, ServiceOutput},
    solve::{Solver, Wish},
    watch::earlier,
};
use crate::{
    crypto::onion::{OwnerBackward, OwnerForward},
    garlic::{Carrier, CarrierOutput, Clove, LeaseSeal, OwnTunnelName, Rate, SpliceNo},
    id::NetworkId,
    rng::Rng,
    service::Lease,
    time::{Now, Time},
    wire::{Contact, SEALED_LEASE_LEN},
};

/// Default bound of all buffers of one `End`, in bytes.
pub const QUOTA_DEFAULT: usize = 64 * 1024 * 1024;
/// Requests that wait for a tunnel.
const REQUESTS_MAX: usize = 64;
/// Units that one path sends before others have their turn: one batch of cells.
const BATCH: usize = 16;
/// Minutes for which a contact made from a lease is good: it is used at once.
const CONTACT_MIN: u32 = 30;

#[derive(Debug)]
enum Machine {
    Client(Box<Client>),
    Service(Box<Service>, Gateways),
}

/// The machine.
///
/// Give it inputs, then drain `poll_output`; several inputs may be given before (they then share
/// cells).
#[derive(Debug)]
pub struct End {
    rng: Rng,
    now: Now,
    carrier: Carrier,
    machine: Machine,
    paths: BTreeMap<SpliceNo, PathNo>,
    splices: BTreeMap<PathNo, SpliceNo>,
    next_path: u32,
    /// Tunnels over which requests may go, at a service.
    tunnels: BTreeSet<OwnTunnelName>,
    waiting: VecDeque<Clove>,
    /// Number of the next probe.
    probes: u32,
    solver: Solver,
    /// Requests under way, and whether they are about blocks.
    open: BTreeMap<(OwnTunnelName, u32), bool>,
    dirty: bool,
    outputs: VecDeque<EndOutput>,
}

impl End {
    /// One isolation context's conversation with one service, or its requests.
    ///
    /// `quota` bounds its buffers in bytes, see [`QUOTA_DEFAULT`].
    pub fn client(mut rng: Rng, quota: usize) -> Self {
        let client = Client::new(rng.fork(), quota);
        Self::new(rng, Machine::Client(Box::new(client)))
    }

    /// One service, which answers nobody until it has keys and gateway tunnels. Each of its gateways
    /// lets in clients at `rate`.
    pub fn service(mut rng: Rng, network: NetworkId, quota: usize, rate: Rate) -> Self {
        let service = Service::new(rng.fork(), network, quota);
        let gateways = Gateways::new(rate);
        Self::new(rng, Machine::Service(Box::new(service), gateways))
    }

    fn new(rng: Rng, machine: Machine) -> Self {
        Self {
            rng,
            now: Now::default(),
            carrier: Carrier::new(),
            machine,
            paths: BTreeMap::new(),
            splices: BTreeMap::new(),
            next_path: 0,
            tunnels: BTreeSet::new(),
            waiting: VecDeque::new(),
            probes: 0,
            solver: Solver::default(),
            open: BTreeMap::new(),
            dirty: false,
            outputs: VecDeque::new(),
        }
    }

    /// Something happened.
    pub fn handle_input(&mut self, now: Now, input: EndInput) {
        self.now = now;
        self.dirty = true;
        match input {
            EndInput::Part { from, message } => self.carrier.handle_part(now.time, from, message),
            EndInput::Tunnel { tunnel, layers, route, gateway } => {
                self.add_tunnel(tunnel, layers, route, gateway);
            }
            EndInput::RetireTunnel { tunnel } => match &mut self.machine {
                Machine::Client(client) => client.tunnels.retire(tunnel),
                Machine::Service(_, gateways) => {
                    gateways.retire(tunnel);
                    self.tunnels.remove(&tunnel);
                }
            },
            EndInput::TunnelQuiet { tunnel, quiet } => match &mut self.machine {
                Machine::Client(client) => client.tunnels.quiet(tunnel, quiet),
                Machine::Service(_, gateways) => gateways.quiet(tunnel, quiet),
            },
            EndInput::TunnelClosed { tunnel } => self.tunnel_closed(tunnel),
            EndInput::Request { tunnel, clove } => self.request(tunnel, clove),
            EndInput::Descriptor(offers) => {
                if let Machine::Client(client) = &mut self.machine {
                    client.descriptor(offers);
                }
            }
            EndInput::Unreachable(reason) => {
                if let Machine::Client(client) = &mut self.machine {
                    client.unreachable(reason);
                }
            }
            EndInput::Withdrawn => {
                if let Machine::Client(client) = &mut self.machine {
                    client.withdrawn();
                }
            }
            EndInput::Leave => {
                if let Machine::Service(service, _) = &mut self.machine {
                    service.leave();
                }
            }
            EndInput::Secrets(secrets) => {
                if let Machine::Service(service, _) = &mut self.machine {
                    service.secrets(secrets);
                }
            }
            EndInput::App(command) => match &mut self.machine {
                Machine::Client(client) => client.command(now, command),
                Machine::Service(service, _) => service.command(now, command),
            },
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Now) {
        self.now = now;
        self.dirty = true;
    }

    /// How many bytes may be given for a stream now.
    pub fn writable(&self, stream: StreamNo) -> usize {
        match &self.machine {
            Machine::Client(client) => client.writable(stream),
            Machine::Service(service, _) => service.writable(stream),
        }
    }

    /// Sessions that ended because the other side said what no honest one says.
    pub const fn sessions_broken(&self) -> u64 {
        match &self.machine {
            Machine::Client(client) => client.broken,
            Machine::Service(service, _) => service.broken,
        }
    }

    /// Bytes in the buffers of its sessions.
    pub fn held(&self) -> usize {
        match &self.machine {
            Machine::Client(client) => client.held(),
            Machine::Service(service, _) => service.held(),
        }
    }

    /// The sessions that keep something: since when nothing of it has left, which, how many bytes.
    /// A router short of memory ends the one that has waited longest first (DESIGN section 6).
    pub fn waiting(&self) -> impl Iterator<Item = (Time, u32, usize)> {
        let (client, service) = match &self.machine {
            Machine::Client(client) => (client.waiting(), None),
            Machine::Service(service, _) => (None, Some(service.waiting())),
        };
        let client = client.map(|(since, bytes)| (since, 0, bytes));
        client.into_iter().chain(service.into_iter().flatten())
    }

    /// Ends a session because the router is short of memory: its streams are reset as `Busy`, and the
    /// other side is told.
    pub fn shed(&mut self, now: Now, session: u32) {
        self.now = now;
        self.dirty = true;
        match &mut self.machine {
            Machine::Client(client) => client.shed(),
            Machine::Service(service, _) => service.shed(session),
        }
    }

    /// What is to be done next; `None` when all is said.
    pub fn poll_output(&mut self) -> Option<EndOutput> {
        if self.outputs.is_empty() && std::mem::take(&mut self.dirty) {
            self.pump();
        }
        self.outputs.pop_front()
    }

    /// When to be woken.
    pub fn poll_timeout(&self) -> Option<Time> {
        match &self.machine {
            Machine::Client(client) => earlier(client.poll_timeout(), self.solver.poll_timeout()),
            Machine::Service(service, gateways) => {
                let gateways = earlier(gateways.poll_timeout(), gateways.effort.poll_timeout());
                earlier(service.poll_timeout(), gateways)
            }
        }
    }

    fn add_tunnel(
        &mut self,
        tunnel: OwnTunnelName,
        (forward, backward): (OwnerForward, OwnerBackward),
        route: Route,
        gateway: Option<Contact>,
    ) {
        self.carrier.add_tunnel(tunnel.0, tunnel.1, forward, backward);
        let welcome = match &mut self.machine {
            Machine::Client(client) => client.tunnels.add(tunnel, route),
            Machine::Service(_, gateways) => {
                self.tunnels.insert(tunnel);
                gateway.is_none_or(|contact| {
                    let clove = gateways.add(&mut self.rng, tunnel, contact);
                    clove.is_some_and(|clove| self.carrier.send_clove(tunnel, &clove))
                })
            }
        };
        if !welcome {
            self.event(EndEvent::TunnelFailed { tunnel });
            return;
        }
        while let Some(clove) = self.waiting.pop_front() {
            self.request(Some(tunnel), clove);
        }
    }

    fn tunnel_closed(&mut self, tunnel: OwnTunnelName) {
        match &mut self.machine {
            Machine::Client(client) => client.tunnel_closed(tunnel),
            Machine::Service(_, gateways) => gateways.remove(tunnel),
        }
        self.tunnels.remove(&tunnel);
        self.carrier.remove_tunnel(tunnel);
        let range = (tunnel, 0)..=(tunnel, u32::MAX);
        let lost: Vec<_> = self.open.range(range).map(|(entry, block)| (*entry, *block)).collect();
        for (entry, is_block) in lost {
            self.open.remove(&entry);
            self.no_answer(entry.1, is_block);
        }
    }

    fn request(&mut self, tunnel: Option<OwnTunnelName>, clove: Clove) {
        let (request, is_block) = match clove {
            Clove::RecordGet { request, .. } | Clove::RecordPut { request, .. } => (request, false),
            Clove::BlockGet { request, .. } | Clove::BlockPut { request, .. } => (request, true),
            _ => return,
        };
        let any = match &self.machine {
            Machine::Client(client) => {
                let waiting = |tunnel| self.open.range((tunnel, 0)..=(tunnel, u32::MAX)).count();
                client.tunnels.any(self.now.time, &mut self.rng, waiting)
            }
            Machine::Service(..) => {
                let count = u64::try_from(self.tunnels.len()).unwrap_or(0);
                let at = usize::try_from(self.rng.below(count)).unwrap_or(0);
                self.tunnels.iter().nth(at).copied()
            }
        };
        match tunnel.or(any) {
            Some(tunnel) if self.carrier.send_clove(tunnel, &clove) => {
                self.open.insert((tunnel, request), is_block);
            }
            None if self.waiting.len() < REQUESTS_MAX => self.waiting.push_back(clove),
            _ => self.no_answer(request, is_block),
        }
    }

    fn no_answer(&mut self, request: u32, is_block: bool) {
        self.event(if is_block {
            EndEvent::Block { request, asked: 0, answer: None }
        } else {
            EndEvent::Answer { request, asked: 0, answer: None }
        });
    }

    /// How many more requests about blocks a tunnel takes now.
    pub fn block_room(&self, tunnel: OwnTunnelName) -> usize {
        self.carrier.block_room(tunnel)
    }

    fn event(&mut self, event: EndEvent) {
        self.outputs.push_back(EndOutput::Node(event));
    }

    /// Moves everything as far as it goes.
    fn pump(&mut self) {
        loop {
            self.settle();
            self.fill();
            let mut news = false;
            let mut consumed: Option<(SpliceNo, u32)> = None;
            while let Some(output) = self.carrier.poll_output() {
                if let CarrierOutput::SpliceData { splice, mut data } = output {
                    news = true;
                    self.unit(splice, &mut data);
                    // Stream credits bound what the session keeps: the splice's return at once.
                    match &mut consumed {
                        Some((last, count)) if *last == splice => *count += 1,
                        _ => {
                            let before = consumed.replace((splice, 1));
                            self.consumed(before);
                        }
                    }
                } else {
                    news |= self.carried(output);
                }
            }
            self.consumed(consumed);
            if !news && consumed.is_none() {
                return;
            }
        }
    }

    fn consumed(&mut self, consumed: Option<(SpliceNo, u32)>) {
        if let Some((splice, count)) = consumed {
            self.carrier.splice_consumed(self.now.time, splice, count);
        }
    }

    fn unit(&mut self, splice: SpliceNo, data: &mut [u8]) {
        let Some(&path) = self.paths.get(&splice) else { return };
        match &mut self.machine {
            Machine::Client(client) => client.receive(self.now, path, data),
            Machine::Service(service, _) => service.receive(self.now, path, data),
        }
    }

    /// What the carrier said; true if the session machine may have something to do now.
    fn carried(&mut self, output: CarrierOutput) -> bool {
        match output {
            CarrierOutput::Part { to, message } => {
                self.outputs.push_back(EndOutput::Part { to, message });
                return false;
            }
            CarrierOutput::Clove { tunnel, clove } => self.answered(tunnel, clove),
            CarrierOutput::SpliceOpened { .. } => {
                if matches!(self.machine, Machine::Client(_)) {
                    self.event(EndEvent::Reached(Milestone::Gateway));
                }
            }
            CarrierOutput::SpliceData { .. } => {}
            CarrierOutput::SpliceIncoming { splice, .. } => {
                if let Machine::Service(service, _) = &mut self.machine {
                    let path = PathNo(self.next_path);
                    self.next_path = self.next_path.wrapping_add(1);
                    self.paths.insert(splice, path);
                    self.splices.insert(path, splice);
                    service.incoming(self.now, path);
                } else {
                    self.carrier.close_splice(splice);
                }
            }
            CarrierOutput::SpliceWritable { splice } => {
                if let (Machine::Service(service, _), Some(path)) =
                    (&mut self.machine, self.paths.get(&splice))
                {
                    service.wake(*path);
                }
            }
            CarrierOutput::SpliceClosed { splice } => {
                if let Some(path) = self.paths.remove(&splice) {
                    self.splices.remove(&path);
                    match &mut self.machine {
                        Machine::Client(client) => client.path_closed(self.now, path),
                        Machine::Service(service, _) => service.path_closed(self.now, path),
                    }
                }
            }
            CarrierOutput::TunnelFailed { tunnel } => {
                self.tunnel_closed(tunnel);
                self.event(EndEvent::TunnelFailed { tunnel });
            }
        }
        true
    }

    fn answered(&mut self, tunnel: OwnTunnelName, clove: Clove) {
        match (clove, &mut self.machine) {
            (Clove::RecordAnswer { request, asked, answer }, _)
                if self.open.remove(&(tunnel, request)).is_some() =>
            {
                self.event(EndEvent::Answer { request, asked, answer: Some(answer) });
            }
            (Clove::BlockAnswer { request, asked, answer }, _)
                if self.open.remove(&(tunnel, request)).is_some() =>
            {
                self.event(EndEvent::Block { request, asked, answer: Some(answer) });
            }
            (Clove::LeaseGranted { request, splice_key }, Machine::Service(_, gateways)) => {
                gateways.granted(tunnel, request, splice_key);
            }
            (Clove::LeaseCrowd(crowd), Machine::Service(_, gateways)) => {
                let changed = gateways.effort.crowd(self.now.time, crowd);
                let asked = changed.then(|| EndEvent::EffortChanged(gateways.effort.asked()));
                self.outputs.extend(asked.map(EndOutput::Node));
            }
            (Clove::Probed { .. }, Machine::Client(client)) => {
                client.tunnels.answered(self.now.time, tunnel);
            }
            (Clove::Probed { .. }, Machine::Service(_, gateways)) => {
                gateways.answered(self.now.time, tunnel);
            }
            (Clove::LeaseRefused { .. }, Machine::Service(_, gateways)) => {
                gateways.remove(tunnel);
                self.event(EndEvent::TunnelFailed { tunnel });
            }
            _ => {}
        }
    }

    /// Lets the session machine do what is due, and does what it wants.
    fn settle(&mut self) {
        if let Machine::Client(client) = &mut self.machine {
            client.settle(self.now, !self.waiting.is_empty());
            if let Some((path, tunnel, contact, sealed)) = self.solver.step(self.now.time) {
                self.splice_path(path, tunnel, contact, Some(sealed));
            }
        } else if let Machine::Service(service, _) = &mut self.machine {
            service.settle(self.now);
        }
        self.wishes();
        let Machine::Service(_, gateways) = &mut self.machine else { return };
        let judged = gateways.judge(self.now.time);
        let lower = gateways.effort.handle_timeout(self.now.time);
        let effort = lower.then(|| gateways.effort.asked());
        let leases = gateways.changed();
        let mut free = Vec::new();
        if gateways.any_retiring() {
            let used: BTreeSet<_> =
                self.paths.keys().filter_map(|splice| self.carrier.tunnel_of(*splice)).collect();
            free = gateways.take_free(|tunnel| used.contains(&tunnel));
        }
        if let Some(leases) = leases {
            self.event(EndEvent::LeasesChanged(leases));
        }
        if let Some(effort) = effort {
            self.event(EndEvent::EffortChanged(effort));
        }
        for (tunnel, mute) in judged {
            self.event(EndEvent::TunnelMute { tunnel, mute });
        }
        for tunnel in free {
            self.event(EndEvent::TunnelFree { tunnel });
        }
    }

    fn wishes(&mut self) {
        loop {
            let wish = match &mut self.machine {
                Machine::Client(client) => match client.poll_output() {
                    Some(wish) => wish,
                    None => return,
                },
                Machine::Service(service, gateways) => match service.poll_output() {
                    Some(ServiceOutput::Unheard) => {
                        for tunnel in gateways.probe(self.now.time) {
                            self.probe(tunnel);
                        }
                        continue;
                    }
                    Some(ServiceOutput::ClosePath { path }) => ClientOutput::ClosePath { path },
                    Some(ServiceOutput::App(event)) => ClientOutput::App(event),
                    None => return,
                },
            };
            match wish {
                ClientOutput::OpenPath { path, tunnel, lease, effort } => {
                    self.open_path(path, tunnel, &lease, effort);
                }
                ClientOutput::ClosePath { path } => {
                    self.solver.forget(path);
                    if let Some(splice) = self.splices.remove(&path) {
                        self.paths.remove(&splice);
                        self.carrier.close_splice(splice);
                    }
                }
                ClientOutput::NeedTunnels { want } => self.event(EndEvent::NeedTunnels { want }),
                ClientOutput::NeedDescriptor => self.event(EndEvent::NeedDescriptor),
                ClientOutput::Probe { tunnel } => self.probe(tunnel),
                ClientOutput::TunnelFailed { tunnel } => {
                    self.event(EndEvent::TunnelFailed { tunnel });
                }
                ClientOutput::TunnelFree { tunnel } => self.event(EndEvent::TunnelFree { tunnel }),
                ClientOutput::Live => self.event(EndEvent::Reached(Milestone::Session)),
                ClientOutput::App(event) => self.outputs.push_back(EndOutput::App(event)),
            }
        }
    }

    fn probe(&mut self, tunnel: OwnTunnelName) {
        let request = OWN_REQUEST | self.probes;
        self.probes = self.probes.wrapping_add(1) & !OWN_REQUEST;
        // A tunnel that cannot be asked will not answer either.
        let _ = self.carrier.send_clove(tunnel, &Clove::Probe { request });
    }

    fn open_path(&mut self, path: PathNo, tunnel: OwnTunnelName, lease: &Lease, effort: u32) {
        let contact = lease.contact(self.now.wall.plus(CONTACT_MIN));
        match LeaseSeal::new(&mut self.rng, &lease.splice_key, &lease.lease) {
            Some(seal) if effort > 0 => {
                self.solver.begin(Wish { path, tunnel, contact, seal, effort });
            }
            seal => {
                let sealed = seal.map(|seal| seal.seal(0, 0));
                self.splice_path(path, tunnel, contact, sealed);
            }
        }
    }

    fn splice_path(
        &mut self,
        path: PathNo,
        tunnel: OwnTunnelName,
        contact: Contact,
        sealed: Option<[u8; SEALED_LEASE_LEN]>,
    ) {
        let splice = sealed.and_then(|sealed| self.carrier.open_splice(tunnel, contact, sealed));
        if let Some(splice) = splice {
            self.paths.insert(splice, path);
            self.splices.insert(path, splice);
        } else if let Machine::Client(client) = &mut self.machine {
            client.path_closed(self.now, path);
        }
    }

    /// Sends what the session machine has, in turns, as far as credits go.
    fn fill(&mut self) {
        let mut turn: Vec<PathNo> = match &mut self.machine {
            Machine::Client(client) => client.paths().collect(),
            Machine::Service(service, _) => std::iter::from_fn(|| service.poll_ready()).collect(),
        };
        let mut unit = [0; UNIT_MAX];
        while !turn.is_empty() {
            turn.retain(|path| {
                let Some(&splice) = self.splices.get(path) else { return false };
                for _ in 0..BATCH {
                    if self.carrier.splice_capacity(splice) == 0 {
                        return false;
                    }
                    let len = match &mut self.machine {
                        Machine::Client(client) => client.fill(self.now, *path, &mut unit),
                        Machine::Service(service, _) => service.fill(self.now, *path, &mut unit),
                    };
                    let Some(bytes) = len.and_then(|len| unit.get(..len)) else { return false };
                    if !self.carrier.splice_send(splice, bytes) {
                        return false;
                    }
                }
                true
            });
        }
        self.wishes();
    }
}

#[cfg(test)]
#[path = "end_tests.rs"]
mod tests;
