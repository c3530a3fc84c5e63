//! One router, single-threaded: the node, its links and its ends, and the mail between them.
//!
//! Lives here: who holds which part, and what wakes them. Does not live here: carrying messages from
//! part to part (`host/carry.rs`), what a message means (`wiring`), sockets and clocks (driver,
//! simulator). Both of these run this very type, so that what was simulated is what runs.
//!
//! ```text
//!   bytes -> Handshake -> LinkIo <--cells, drained--> LinkIo, End
//!                           ^ commands, events          ^ commands, events
//!                           '---------> Node <----------'
//! ```

mod apps;
mod carry;
mod due;
mod figures;
mod mail;
mod memory;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use warren_overlay::{
    bucket::Refill,
    crypto::kem::DhSecret,
    id::{EndNo, LinkNo, RouterId},
    link::{
        CreditQuota, Handshake, HandshakeBudget, HandshakeOutput, LinkIdentity, LinkInput, LinkIo,
        LinkSettings, PadCount, RateLimits, ReplayFilter,
    },
    rng::{Rng, SharedRng},
    room::Room,
    session::{End, Requester},
    table::Table,
    time::{Now, Time},
    wire::{Contact, RouterDescriptor},
};

use warren_proxy::Failure;

use self::{
    due::{Deadlines, Touched},
    mail::{Address, Mail},
    memory::{Load, Memory},
};
use crate::{
    app::{StreamEvent, StreamNo},
    invite::Invite,
    node::{JobEvent, JobNo, NoVouch, Node, NodeInput, NodeSettings, Saved},
};

/// Handshakes from one /24: so many a second, and at once (DESIGN section 4).
const HANDSHAKES: Refill = Refill::per_second(2, 60);
/// Bytes a handshake may leave unread in the socket before the connection is given up.
const HANDSHAKE_BACKLOG_MAX: usize = 16 * 1_024;

/// What the driver must do.
#[derive(Debug)]
pub enum HostOutput {
    /// Connect; then `connected` or `disconnected`.
    Dial {
        /// The connection's number.
        link: LinkNo,
        /// Where to.
        to: SocketAddr,
        /// Where the same router is in the other family, to be tried as well.
        also: Option<SocketAddr>,
    },
    /// There may be bytes to write: call `poll_transmit` when the socket takes them.
    Transmit(LinkNo),
    /// Write what `poll_transmit` still gives, then close the socket. Nothing else comes of it.
    Close(LinkNo),
    /// The answer to `open`.
    Opened {
        /// The caller's number for it.
        open: u64,
        /// The stream, or why there is none.
        result: Result<StreamNo, Failure>,
    },
    /// A client opened a stream to a service of this router.
    Incoming(StreamNo),
    /// Something for a stream's application.
    Stream(StreamNo, StreamEvent),
    /// A conversation is gone, with all its streams.
    EndGone(EndNo),
    /// For a file's owner.
    Job {
        /// Which file's.
        job: JobNo,
        /// What.
        event: JobEvent,
    },
    /// Keep this for the next start.
    Save(Saved),
}

#[derive(Debug)]
enum LinkState {
    Dialling(Box<Contact>),
    Handshake(Box<Handshake>),
    Up(Box<LinkIo>),
}

/// The composition.
#[derive(Debug)]
pub struct Host {
    node: Node,
    links: Table<LinkNo, LinkState>,
    /// Messages of handshakes that their sockets have not taken yet.
    unsent: Table<LinkNo, Vec<u8>>,
    ends: BTreeMap<EndNo, End>,
    requesters: BTreeMap<EndNo, Requester>,
    /// Why streams of an end would fail to open now.
    failing: BTreeMap<EndNo, Failure>,
    identity: LinkIdentity,
    settings: LinkSettings,
    budget: HandshakeBudget,
    mail: Mail,
    memory: Memory,
    touched: Touched,
    deadlines: Deadlines,
    out: VecDeque<HostOutput>,
    rng: Rng,
    relayed_before: u64,
    /// Lanes and sessions ended for want of memory.
    shed: u64,
    /// Why tunnels of others are refused, as the node was told last.
    loaded: Load,
    broken_before: u64,
    padded_before: PadCount,
    sessions_broken_before: u64,
    offences: u64,
}

impl Host {
    /// A router that knows its settings and nobody yet.
    pub fn new(now: Now, settings: NodeSettings, link_secret: Arc<DhSecret>, mut rng: Rng) -> Self {
        let quota = Arc::new(CreditQuota::new(settings.memory_bytes));
        let memory = Memory::new(settings.memory_bytes);
        let rate = RateLimits::each_way(u64::from(settings.bandwidth_kbps) * 1_000 / 8);
        let node = Node::new(now, settings, rng.fork());
        let identity = LinkIdentity {
            network: node.network(),
            descriptor: Arc::clone(node.descriptor()),
            secret: link_secret,
            replay: Arc::new(Mutex::new(ReplayFilter::new(&mut rng))),
        };
        let pads = SharedRng::new(rng.fork());
        let mut this = Self {
            node,
            links: Table::new(),
            unsent: Table::new(),
            ends: BTreeMap::new(),
            requesters: BTreeMap::new(),
            failing: BTreeMap::new(),
            identity,
            settings: LinkSettings { rate: Some(rate), ..LinkSettings::new(quota, pads) },
            budget: HandshakeBudget::new(HANDSHAKES),
            mail: Mail::default(),
            memory,
            touched: Touched::default(),
            deadlines: Deadlines::default(),
            out: VecDeque::new(),
            rng,
            relayed_before: 0,
            shed: 0,
            loaded: Load::default(),
            broken_before: 0,
            padded_before: PadCount::default(),
            sessions_broken_before: 0,
            offences: 0,
        };
        this.touched.insert(Address::Node);
        this.settle(now);
        this
    }

    /// Delays each message between parts by up to `most`, in order for each pair.
    pub fn defer(&mut self, most: Duration) {
        self.mail.defer(most, self.rng.fork());
    }

    /// Counts the padding of idle links instead of sending it. All routers of a network do, or none;
    /// whoever runs them then tells each of peers that fall silent (`silent`).
    pub fn count_padding(&mut self) {
        self.settings.padding_counted = true;
    }

    /// Where padding is counted: the peer of a link has been silent since then, or no longer is.
    pub fn silent(&mut self, now: Now, link: LinkNo, since: Option<Time>) {
        if let Some(LinkState::Up(io)) = self.links.get_mut(&link) {
            io.handle_input(now.time, LinkInput::Silent(since));
            self.touched.insert(Address::Link(link));
            self.settle(now);
        }
    }

    /// A connection came in from `source`; `None`: close it at once.
    pub fn accept(&mut self, now: Now, source: SocketAddr) -> Option<LinkNo> {
        if !self.budget.allow(now.time, source.ip()) {
            return None;
        }
        let link = self.node.accept(now, source)?;
        let machine = Handshake::accept(now, self.link_identity(), self.rng.fork());
        self.handshake(now, link, machine);
        Some(link)
    }

    /// A dial reached its address.
    pub fn connected(&mut self, now: Now, link: LinkNo) {
        if let Some(LinkState::Dialling(contact)) = self.links.get(&link) {
            let contact = **contact;
            let machine = Handshake::initiate(now, self.link_identity(), contact, self.rng.fork());
            self.handshake(now, link, machine);
            self.settle(now);
        }
    }

    /// The same, and which of the addresses it was.
    pub fn connected_at(&mut self, now: Now, link: LinkNo, at: SocketAddr) {
        self.node.dialled_at(link, at);
        self.connected(now, link);
    }

    fn link_identity(&mut self) -> LinkIdentity {
        self.identity.descriptor = Arc::clone(self.node.descriptor());
        self.identity.clone()
    }

    fn handshake(&mut self, now: Now, link: LinkNo, machine: Handshake) {
        self.links.insert(link, LinkState::Handshake(Box::new(machine)));
        self.drain_handshake(now, link);
    }

    /// A dial failed, or a socket closed or broke.
    pub fn disconnected(&mut self, now: Now, link: LinkNo) {
        if self.links.contains_key(&link) {
            self.gone(now, link);
            self.settle(now);
        }
    }

    /// Bytes came over a connection. They are opened in place: worthless afterwards.
    pub fn received(&mut self, now: Now, link: LinkNo, bytes: &mut [u8]) {
        match self.links.get_mut(&link) {
            Some(LinkState::Up(io)) => {
                io.handle_input(now.time, LinkInput::Received(bytes));
                self.touched.insert(Address::Link(link));
                let look = self.memory.grew(bytes.len());
                self.settle(now);
                return self.look_at_memory(now, look);
            }
            Some(LinkState::Handshake(machine)) => {
                if let Some(rate) = &self.settings.rate {
                    rate.received.pass(now.time, bytes.len());
                }
                machine.handle_input(now, bytes);
                self.drain_handshake(now, link);
            }
            Some(LinkState::Dialling(_)) | None => return,
        }
        self.settle(now);
    }

    /// Appends up to 64 KiB for the connection's socket; false when there is nothing.
    pub fn poll_transmit(&mut self, now: Now, link: LinkNo, buffer: &mut Vec<u8>) -> bool {
        let before = buffer.len();
        if let Some(mut messages) = self.unsent.remove(&link) {
            buffer.append(&mut messages);
        }
        if let Some(LinkState::Up(io)) = self.links.get_mut(&link) {
            io.poll_transmit(now.time, buffer);
            self.touched.insert(Address::Link(link));
            self.settle(now);
        }
        buffer.len() > before
    }

    /// What the operator, the driver or an application's wish for a stream tells the node.
    pub fn node(&mut self, now: Now, input: NodeInput) {
        self.node.handle_input(now, input);
        self.touched.insert(Address::Node);
        self.settle(now);
    }

    /// A number for the end of a new service.
    pub fn new_end(&mut self) -> EndNo {
        self.node.new_end()
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Now) {
        let due = |at: Option<Time>| at.is_some_and(|at| at <= now.time);
        for part in self.deadlines.take(now.time) {
            if !due(self.timeout(part)) {
                self.arm(part);
                continue;
            }
            let link = match part {
                Address::Node => {
                    self.rest(now.time);
                    self.node.handle_timeout(now);
                    None
                }
                Address::End(no) => {
                    if let Some(end) = self.ends.get_mut(&no) {
                        end.handle_timeout(now);
                    } else if let Some(requester) = self.requesters.get_mut(&no) {
                        requester.handle_timeout(now);
                    }
                    None
                }
                Address::Link(no) => self.links.get_mut(&no).map(|link| (no, link)),
            };
            match link {
                Some((no, LinkState::Handshake(machine))) => {
                    machine.handle_timeout(now.time);
                    self.drain_handshake(now, no);
                    continue;
                }
                Some((_, LinkState::Up(io))) => io.handle_timeout(now.time),
                Some((_, LinkState::Dialling(_))) | None => {}
            }
            self.touched.insert(part);
        }
        self.settle(now);
        // What drained without anything new coming is not noticed otherwise.
        self.look_at_memory(now, self.loaded.memory);
    }

    /// Gives up the room of what was much at a time and is carried by now.
    fn rest(&mut self, now: Time) {
        self.budget.rest(now);
        self.mail.rest();
        self.out.rest();
        self.links.rest();
        self.unsent.rest();
        self.deadlines.rest();
        self.ends.rest();
        self.requesters.rest();
        self.failing.rest();
        self.rng.rest();
        self.settings.pads.rest();
    }

    /// When to call `handle_timeout`: by then, or earlier than need be.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.deadlines.first().into_iter().chain(self.mail.due()).min()
    }

    /// When a part wants to be woken.
    fn timeout(&self, part: Address) -> Option<Time> {
        match part {
            Address::Node => self.node.poll_timeout(),
            Address::End(no) => match self.ends.get(&no) {
                Some(end) => end.poll_timeout(),
                None => self.requesters.get(&no)?.poll_timeout(),
            },
            Address::Link(no) => match self.links.get(&no)? {
                LinkState::Up(io) => io.poll_timeout(),
                LinkState::Handshake(machine) => machine.poll_timeout(),
                LinkState::Dialling(_) => None,
            },
        }
    }

    fn arm(&mut self, part: Address) {
        let at = self.timeout(part);
        self.deadlines.arm(part, at);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<HostOutput> {
        self.out.pop_front()
    }

    /// Changes limits while running: bandwidth each way in kbit/s, how long what is not used of it is
    /// kept, memory in bytes. The descriptor goes on to tell others the bandwidth of the start. False if tunnels have more of the memory
    /// than that now: then its limit is as low as it could be made.
    pub fn set_limits(
        &mut self,
        bandwidth_kbps: u32,
        burst: Duration,
        transit_percent: u8,
        memory_bytes: u64,
    ) -> bool {
        if let Some(rate) = &self.settings.rate {
            rate.change(u64::from(bandwidth_kbps) * 1_000 / 8, burst, transit_percent);
        }
        self.node.set_bandwidth(bandwidth_kbps);
        self.memory = Memory::new(memory_bytes);
        self.settings.quota.change(memory_bytes)
    }

    /// Bytes that all links have sent and received since the start.
    pub fn traffic(&self) -> (u64, u64) {
        let rate = self.settings.rate.as_ref();
        rate.map_or((0, 0), |rate| (rate.sent.total(), rate.received.total()))
    }

    /// The control plane, for what tests and operators ask of it.
    pub fn node_ref(&self) -> &Node {
        &self.node
    }

    /// What is kept for others and pinned here.
    pub fn holder_mut(&mut self) -> &mut warren_datastore::Holder {
        self.node.holder_mut()
    }

    /// A line for that newcomer alone, signed, and what must be kept before it is shown.
    ///
    /// # Errors
    /// When this router may not sign, and what to do about it.
    pub fn invite_for(
        &mut self,
        now: Now,
        newcomer: RouterId,
    ) -> Result<(Invite, Vec<u8>), NoVouch> {
        let invite = self.node.invite_for(now, newcomer)?;
        Ok((invite, self.node.given().to_bytes()))
    }

    /// This router's own descriptor as it is now.
    pub fn descriptor(&self) -> &Arc<RouterDescriptor> {
        self.node.descriptor()
    }

    fn drain_handshake(&mut self, now: Now, link: LinkNo) {
        self.drain_handshake_outputs(now, link);
        self.arm(Address::Link(link));
    }

    fn drain_handshake_outputs(&mut self, now: Now, link: LinkNo) {
        loop {
            let Some(LinkState::Handshake(machine)) = self.links.get_mut(&link) else { return };
            match machine.poll_output() {
                None => return,
                Some(HandshakeOutput::Transmit(bytes)) => {
                    let unsent = self.unsent.get_or_insert_with(link, Vec::new);
                    if unsent.len() + bytes.len() > HANDSHAKE_BACKLOG_MAX {
                        return self.gone(now, link);
                    }
                    if let Some(rate) = &self.settings.rate {
                        rate.sent.pass(now.time, bytes.len());
                    }
                    unsent.extend_from_slice(&bytes);
                    self.out.push_back(HostOutput::Transmit(link));
                }
                Some(HandshakeOutput::Established(established)) => {
                    let input = NodeInput::LinkUp {
                        link,
                        peer: Arc::clone(&established.peer),
                        initiator: established.initiator,
                        peer_minute: established.peer_minute,
                    };
                    let settings = self.settings.clone();
                    let io = Box::new(LinkIo::new(now.time, link, *established, settings));
                    self.links.insert(link, LinkState::Up(io));
                    self.touched.insert(Address::Link(link));
                    self.touched.insert(Address::Node);
                    self.node.handle_input(now, input);
                    return;
                }
                // The socket stays open and is read until `Close`, so that a prober learns nothing;
                // whoever waited for the link need not.
                Some(HandshakeOutput::Failed) => {
                    self.node.handle_input(now, NodeInput::LinkDown { link });
                    self.touched.insert(Address::Node);
                }
                Some(HandshakeOutput::Close) => return self.gone(now, link),
            }
        }
    }

    /// The connection is over, whatever it was.
    fn gone(&mut self, now: Now, link: LinkNo) {
        self.unsent.remove(&link);
        if let Some(LinkState::Up(mut io)) = self.links.remove(&link) {
            figures::add(&mut self.padded_before, io.padding(now.time));
            self.broken_before += io.counters().lanes_broken;
            self.relayed_before += io.counters().relayed_cells_in;
        }
        self.node.handle_input(now, NodeInput::LinkDown { link });
        self.touched.insert(Address::Node);
        self.out.push_back(HostOutput::Close(link));
    }
}
