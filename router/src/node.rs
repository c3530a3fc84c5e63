//! The control plane: every machine that decides, in one place.
//!
//! Lives here: the node's children, its own descriptor, and its status. Does not live here: how the
//! children's outputs become inputs (`wiring.rs`), what each of them does (`overlay`, `datastore`,
//! and beside this file `links`, `exits`, `contexts`, `services`, `transfers`).

mod change;
mod contexts;
mod describe;
mod dial_back;
mod door;
mod exits;
mod finding;
mod friends;
mod inquiries;
mod links;
mod membership;
mod part;
mod probes;
mod reach;
mod report;
mod rest;
mod services;
mod transfers;
mod wiring;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use warren_datastore::{Holder, RecordStore, blocks::BlockStore};
use warren_overlay::{
    crypto::sign::IdentityKey,
    id::{EndNo, LinkNo, NetworkId, RouterId},
    plane::{LinkCommand, LinkEvent},
    ring::{self, Ring, RingConfig, admission::Network},
    rng::Rng,
    service::{AccessKey, Name},
    session::{End, EndEvent, EndInput, Requester},
    time::{Now, Time, Wall},
    tunnel::{
        build::TunnelKeys,
        layers::Layers,
        pools::{Pools, PoolsConfig},
        transit::{Transit, TransitConfig, TransitInput},
    },
    wire::{Address, Admission, Contact, DescriptorFields, RouterDescriptor},
};
use warren_proxy::{Failure, IsolationKey};

use self::{
    contexts::Contexts,
    describe::{DESCRIPTOR_MINUTES, addresses, capabilities},
    dial_back::DialBacks,
    exits::Exits,
    friends::Friends,
    inquiries::Inquiries,
    links::Links,
    part::Part,
    probes::Probes,
    reach::Reach,
    services::Services,
    transfers::Transfers,
};
pub use self::{
    door::Door,
    friends::FRIENDS_MAX,
    membership::{Given, Membership, NoVouch},
    report::service_status,
    services::{Clients, ServiceSettings, ServiceState},
    transfers::{JobAnswer, JobEvent, JobInput, JobNo, JobRequest},
};
use crate::{app::StreamNo, config::Ban};

/// How often it is looked whether keys or the descriptor are old: the wall clock has minutes.
const RENEW_EVERY: Duration = Duration::from_mins(1);
/// How often what should survive a restart is given to the driver, when it changed.
const SAVE_EVERY: Duration = Duration::from_mins(1);
/// And how soon after a neighbour came or went.
const SAVE_SOON: Duration = Duration::from_secs(1);
/// Routers remembered for the next start: neighbours, then those that were.
const PEERS_MAX: usize = 64;

/// What a node starts from.
#[derive(Debug)]
pub struct NodeSettings {
    /// Its network.
    pub network: Network,
    /// Who it is.
    pub identity: IdentityKey,
    /// The public half of its link key.
    pub link_key: [u8; 32],
    /// Where others reach it.
    pub door: Door,
    /// Where else: an address of the other family, told beside the first.
    pub also: Option<Address>,
    /// Its place's work.
    pub admission: Admission,
    /// In a network by invitation: its signatures, and those that it gave.
    pub membership: Membership,
    /// In a network of friends: they, as they last described themselves.
    pub friends: Vec<Arc<RouterDescriptor>>,
    /// Hops per own tunnel, 1 to 4.
    pub hops: u8,
    /// Neighbours to keep.
    pub degree: u8,
    /// Routers to remember, at least 32; `ring::VIEW_MAX` where memory is not scarce.
    pub known_max: usize,
    /// Bandwidth of all links together, each way, kbit/s: enforced, and claimed in the descriptor.
    pub bandwidth_kbps: u32,
    /// Memory for everything that waits to be sent or read, in bytes.
    pub memory_bytes: u64,
    /// Builds of others opened a second: 260 us of one core each.
    pub builds_per_second: u32,
    /// Whether it carries tunnels of others.
    pub transit: bool,
    /// Links at the same time, dialling included.
    pub links_max: usize,
    /// With whom there are no links.
    pub bans: Vec<Ban>,
    /// Routers to dial first.
    pub peers: Vec<Arc<RouterDescriptor>>,
    /// Guards and other layers of the last run, as `Saved::Guards` gave them; empty for none.
    pub guards: Vec<u8>,
    /// Where records are held.
    pub store: Box<dyn RecordStore>,
    /// Where blocks are held.
    pub blocks: Box<dyn BlockStore>,
}

/// Something to keep for the next start.
#[derive(Debug)]
pub enum Saved {
    /// First hops of own tunnels.
    Guards(Vec<u8>),
    /// Routers to dial first.
    Peers(Vec<Arc<RouterDescriptor>>),
    /// A friend describes itself anew.
    Friend(Arc<RouterDescriptor>),
    /// A service's published version and session keys.
    Service {
        /// Which.
        end: EndNo,
        /// Opaque; `ServiceSettings::state` takes it back.
        state: zeroize::Zeroizing<Vec<u8>>,
    },
}

/// What happens to a node.
#[derive(Debug)]
pub enum NodeInput {
    /// A link stands.
    LinkUp {
        /// Its number.
        link: LinkNo,
        /// Who is there.
        peer: Arc<RouterDescriptor>,
        /// Whether this side dialled.
        initiator: bool,
        /// The peer's clock.
        peer_minute: Wall,
    },
    /// A link, dial or handshake is over.
    LinkDown {
        /// Its number.
        link: LinkNo,
    },
    /// From a link that stands.
    Link {
        /// Its number.
        link: LinkNo,
        /// What happened.
        event: LinkEvent,
    },
    /// From an end.
    End {
        /// Which.
        end: EndNo,
        /// What happened.
        event: EndEvent,
    },
    /// An application wants a stream to a service; `Opened` follows.
    Open {
        /// The caller's number for it.
        open: u64,
        /// Who may share a session.
        isolation: IsolationKey,
        /// The service.
        name: Name,
        /// The port there.
        port: u16,
    },
    /// The operator publishes a service.
    Expose {
        /// The number its end shall have, from `new_end`.
        end: EndNo,
        /// Its keys.
        settings: Box<ServiceSettings>,
    },
    /// Who may reach a service from now on; sessions of all others end.
    Admit {
        /// Which.
        end: EndNo,
        /// Those who may.
        clients: Clients,
    },
    /// A private service admits this router, or no longer shall.
    Access {
        /// Which.
        name: Name,
        /// What is shared with it; none to forget that.
        key: Option<Arc<AccessKey>>,
    },
    /// The operator withdraws a service.
    Unexpose {
        /// Which.
        end: EndNo,
    },
    /// A file's owner wants something of its tunnels.
    Job {
        /// Which file's.
        job: JobNo,
        /// What.
        input: JobInput,
    },
    /// The machine slept, or its network is another one: no link of before leads anywhere.
    Moved {
        /// Where others reach it now, and in the other family; none if as before.
        door: Option<(Door, Option<Address>)>,
    },
    /// Others reach it there now; all links stand.
    Door {
        /// Where.
        door: Door,
        /// And where in the other family.
        also: Option<Address>,
    },
    /// A router of this network is there, or at its other address: nearby, say.
    Found(Contact, Option<Address>),
    /// Whether the router has no room for more tunnels of others (processor, memory).
    Loaded(bool),
    /// In a network of friends: these are they from now on; links with others end.
    Friends(Vec<Arc<RouterDescriptor>>),
    /// Whether it carries tunnels of others from now on. Those that stand go on.
    Transit(bool),
    /// Leave the network in order.
    Leave,
}

/// What a node wants done.
#[derive(Debug)]
pub enum NodeOutput {
    /// Dial; `connected`, `disconnected` or `LinkUp` follows.
    Dial {
        /// The new link's number.
        link: LinkNo,
        /// Whom.
        contact: Contact,
        /// Where that router is in the other family.
        also: Option<Address>,
    },
    /// For a link.
    Link {
        /// Which.
        link: LinkNo,
        /// What.
        command: LinkCommand,
    },
    /// Close a connection that is no link yet, or a link at once.
    Shut {
        /// Which.
        link: LinkNo,
    },
    /// Hold this end.
    NewEnd {
        /// Its number.
        end: EndNo,
        /// The machine.
        machine: Box<End>,
    },
    /// Hold this end, which has no session.
    NewRequester {
        /// Its number.
        end: EndNo,
        /// The machine.
        machine: Box<Requester>,
    },
    /// For an end.
    End {
        /// Which.
        end: EndNo,
        /// What.
        input: Box<EndInput>,
    },
    /// Forget this end.
    DropEnd {
        /// Which.
        end: EndNo,
    },
    /// The answer to `Open`.
    Opened {
        /// The caller's number.
        open: u64,
        /// The stream, or why there is none.
        result: Result<StreamNo, Failure>,
    },
    /// Streams of this end that are reset before they opened failed for this reason.
    Failing {
        /// Which.
        end: EndNo,
        /// Why.
        failure: Failure,
    },
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

/// The control plane of one router.
#[derive(Debug)]
pub struct Node {
    network: Network,
    identity: IdentityKey,
    descriptor: Arc<RouterDescriptor>,
    keys_made: Wall,
    also: Option<Address>,
    hops: u8,
    started: Time,
    membership: Membership,
    friends: Friends,
    links: Part<Links>,
    reach: Part<Reach>,
    dial_backs: DialBacks,
    ring: Part<Ring>,
    holder: Part<Holder>,
    transit: Part<Transit>,
    exits: Part<Exits>,
    pools: Part<Pools>,
    contexts: Part<Contexts>,
    services: Part<Services>,
    probes: Part<Probes>,
    transfers: Part<Transfers>,
    inquiries: Part<Inquiries>,
    /// Whose question each of the ring's queries is.
    queries: BTreeMap<u32, u64>,
    query: u32,
    ends: u32,
    relaxed: bool,
    renew_at: Time,
    awake_at: Time,
    /// What it says of itself may have changed in a minute, before it started or since: it is said again.
    unsaid: bool,
    save_at: Time,
    rest_at: Time,
    saved_peers: Vec<Arc<RouterDescriptor>>,
    out: VecDeque<NodeOutput>,
}

/// What repair of blocks may use: a tenth of the operator's bandwidth, in bytes a second.
fn repair_rate(bandwidth_kbps: u32) -> u64 {
    u64::from(bandwidth_kbps) * 1_000 / 8 / 10
}

impl Node {
    /// A node that knows the routers in its settings.
    pub fn new(now: Now, settings: NodeSettings, mut rng: Rng) -> Self {
        let network_id = settings.network.id();
        let memory = usize::try_from(settings.memory_bytes).unwrap_or(usize::MAX);
        let me = settings.identity.id();
        let keys = TunnelKeys::generate(network_id, me, &mut rng);
        let fields = DescriptorFields {
            network: network_id,
            link_key: settings.link_key,
            tunnel_dh: keys.dh_public(),
            tunnel_kem: keys.kem_public(),
            addresses: addresses(settings.door.address(), settings.also),
            capabilities: capabilities(settings.transit),
            bandwidth_kbps: settings.bandwidth_kbps,
            family: None,
            admission: settings.admission,
            vouches: settings.membership.chain.clone(),
            published: now.wall,
            expiry: now.wall.plus(DESCRIPTOR_MINUTES),
        };
        let descriptor = RouterDescriptor::sign(fields, &settings.identity)
            .expect("an address, a chain that was checked and a day's lifetime are within bounds")
            .shared();
        let config = RingConfig {
            network: settings.network.clone(),
            own: Arc::clone(&descriptor),
            degree: usize::from(settings.degree),
            known_max: settings.known_max,
        };
        let transit = TransitConfig {
            builds_per_second: settings.builds_per_second,
            ..TransitConfig::default()
        };
        let pools = PoolsConfig {
            client_hops: settings.hops.into(),
            service_hops: settings.hops.into(),
            bandwidth_kbps: settings.bandwidth_kbps,
            ..PoolsConfig::new(me)
        };
        // Damaged layers are no reason not to start: new ones are drawn.
        let layers = Layers::from_bytes(&settings.guards)
            .unwrap_or_else(|_| Layers::new(settings.peers.iter().map(|peer| peer.id())));
        let mut this = Self {
            hops: settings.hops,
            started: now.time,
            links: Links::new(me, settings.network.local, settings.links_max)
                .banning(settings.bans)
                .into(),
            ring: Ring::new(config, rng.fork()).into(),
            transit: Transit::new(transit, keys, rng.fork()).into(),
            exits: Exits::new(me, rng.fork()).into(),
            pools: Pools::new(pools, layers, rng.fork()).into(),
            contexts: Contexts::new(network_id, memory, rng.fork()).into(),
            services: Services::new(network_id, &settings.identity, memory, rng.fork()).into(),
            probes: Probes::new(network_id, rng.fork()).into(),
            transfers: Transfers::default().into(),
            reach: Reach::new(now.time, settings.door, settings.network.local, rng.fork()).into(),
            holder: Holder::new(settings.store, descriptor.location(), rng.fork())
                .with_blocks(settings.blocks, repair_rate(settings.bandwidth_kbps))
                .into(),
            dial_backs: DialBacks::new(),
            inquiries: Inquiries::new(now.time, network_id, rng.fork()).into(),
            membership: settings.membership,
            friends: Friends::default(),
            network: settings.network,
            identity: settings.identity,
            descriptor,
            keys_made: now.wall,
            also: settings.also,
            queries: BTreeMap::new(),
            query: 0,
            ends: 0,
            relaxed: false,
            renew_at: now.time + RENEW_EVERY,
            awake_at: change::look_at(now),
            unsaid: !settings.guards.is_empty(),
            save_at: now.time + SAVE_EVERY,
            rest_at: now.time,
            saved_peers: settings.peers.clone(),
            out: VecDeque::new(),
        };
        this.befriend(now, settings.friends);
        let start = ring::Input::Start { seeds: settings.peers, cached: Vec::new() };
        this.ring.handle_input(now, start);
        this.ring.protect(this.pools.kept());
        this.transit.handle_input(now, TransitInput::Closed(!settings.transit));
        this.wire(now);
        this
    }

    /// The network's id.
    pub fn network(&self) -> NetworkId {
        self.descriptor.fields().network
    }

    /// All that the network's members agreed on.
    pub const fn network_settings(&self) -> &Network {
        &self.network
    }

    /// This router as it describes itself now.
    pub const fn descriptor(&self) -> &Arc<RouterDescriptor> {
        &self.descriptor
    }

    /// What the ring says of itself.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// What is known of own tunnels.
    pub fn pools(&self) -> &Pools {
        &self.pools
    }

    /// Links that stand, and who is there.
    pub fn links(&self) -> impl Iterator<Item = (LinkNo, RouterId)> {
        self.links.up_links().map(|(link, peer)| (link, peer.id()))
    }

    /// A connection came in; `None` when there are too many.
    pub fn accept(&mut self, now: Now, source: SocketAddr) -> Option<LinkNo> {
        self.links.accept(now.time, source.into())
    }

    /// Which of a router's addresses a dial reached.
    pub fn dialled_at(&mut self, link: LinkNo, at: SocketAddr) {
        self.links.dialled_at(link, at.into());
    }

    /// A number for a new end.
    pub fn new_end(&mut self) -> EndNo {
        self.ends += 1;
        EndNo(self.ends)
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Now) {
        self.rest(now.time);
        self.notice_sleep(now);
        for link in self.links.tidy(now.time) {
            self.out.push_back(NodeOutput::Shut { link });
        }
        if self.renew_at <= now.time {
            self.renew_at = now.time + RENEW_EVERY;
            self.renew(now);
        }
        if self.save_at <= now.time {
            self.save_at = now.time + SAVE_EVERY;
            self.save();
        }
        self.reach_timeout(now);
        self.dial_friends(now);
        self.ring.handle_timeout(now);
        self.holder.handle_timeout(now);
        self.transit.handle_timeout(now);
        self.exits.handle_timeout(now);
        self.pools.handle_timeout(now);
        self.contexts.handle_timeout(now);
        self.services.handle_timeout(now);
        self.probes.handle_timeout(now);
        self.transfers.handle_timeout(now);
        self.inquiries.handle_timeout(now);
        self.wire(now);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<NodeOutput> {
        self.out.pop_front()
    }

    fn save_soon(&mut self, now: Now) {
        self.save_at = self.save_at.min(now.time + SAVE_SOON);
    }

    /// Those who were neighbours stay on the list behind those who are: a router that has lost all of
    /// them, because its own network was gone, still knows whom to ask.
    fn save(&mut self) {
        let mut peers: Vec<_> = self.ring.neighbours().cloned().collect();
        for old in &self.saved_peers {
            let known = peers.iter().any(|peer| peer.id() == old.id());
            if !known && peers.len() < PEERS_MAX {
                peers.push(Arc::clone(old));
            }
        }
        let same = |(a, b): (&Arc<RouterDescriptor>, &Arc<RouterDescriptor>)| {
            a.id() == b.id() && a.fields().published == b.fields().published
        };
        if peers.len() != self.saved_peers.len() || !peers.iter().zip(&self.saved_peers).all(same) {
            self.saved_peers.clone_from(&peers);
            self.out.push_back(NodeOutput::Save(Saved::Peers(peers)));
        }
    }

    /// What is kept for others and pinned here.
    pub(crate) fn holder_mut(&mut self) -> &mut Holder {
        &mut self.holder
    }
}
