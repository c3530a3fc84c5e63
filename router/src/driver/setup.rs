//! What a router starts from: loaded from its folder, made where missing.
//!
//! Lives here: which file holds what, and the making of keys and admission work. Does not live
//! here: how files are written (`home`), what runs (`task`).

use std::{net::SocketAddr, sync::Arc};

use warren_datastore::{
    MemoryRecords, RecordStore,
    blocks::{BlockStore, MemoryBlocks},
};
use warren_overlay::{
    crypto::{kem::DhSecret, secret::Secret, sign::IdentityKey},
    id::RouterId,
    ring::{
        admission::{Mode, Network, ProofWork},
        members::{Members, Stranger},
    },
    rng::Rng,
    time::Wall,
    wire::{Address, Admission, Reader, RouterDescriptor, Writer, decode_chain, encode_chain},
};

use super::{StartError, change::outward_ip, friends};
use crate::{
    config::{Announce, Config},
    entropy,
    home::Home,
    invite::Invite,
    node::{Door, Given, Membership},
};

/// Descriptors of other routers that are kept between starts.
const PEERS_MAX: usize = 64;

/// Everything a router starts from.
#[derive(Debug)]
pub(crate) struct Setup {
    /// Its folder; `None` for routers that live in memory (the demo's).
    pub(crate) home: Option<Arc<Home>>,
    /// Its settings.
    pub(crate) config: Config,
    /// Its network.
    pub(crate) network: Network,
    /// Who it is.
    pub(crate) identity: IdentityKey,
    /// Its link key.
    pub(crate) link_secret: DhSecret,
    /// Its work.
    pub(crate) admission: Admission,
    /// Its signatures in a network by invitation, and those that it gave.
    pub(crate) membership: Membership,
    /// Those whom it has links with in a network of friends.
    pub(crate) friends: Vec<Arc<RouterDescriptor>>,
    /// Routers to dial first.
    pub(crate) peers: Vec<Arc<RouterDescriptor>>,
}

impl Setup {
    /// A router that keeps nothing.
    pub(crate) fn in_memory(
        config: Config,
        network: Network,
        peers: Vec<Arc<RouterDescriptor>>,
    ) -> Result<Self, StartError> {
        let mut rng = entropy::generator();
        let identity = IdentityKey::generate(&mut rng);
        let link_secret = DhSecret::generate(&mut rng);
        let admission = work(&network, &identity, &mut rng, &mut |_| {})?;
        let (membership, friends) = (Membership::default(), Vec::new());
        let home = None;
        Ok(Self {
            home,
            config,
            network,
            identity,
            link_secret,
            admission,
            membership,
            friends,
            peers,
        })
    }

    /// Loads a router from its folder; makes a network, keys and admission work where they are
    /// missing. `progress` hears how many tries the work has taken.
    ///
    /// # Errors
    /// When a file cannot be read or written, or holds nonsense.
    pub(crate) fn load(
        home: Home,
        config: Config,
        wall: Wall,
        progress: &mut dyn FnMut(u32),
    ) -> Result<Self, StartError> {
        let mut rng = entropy::generator();
        let network = network(&home)?;
        let (identity, link_secret) = load_keys(&home, &mut rng)?;
        let membership = load_membership(&home)?;
        let (id, chain) = (identity.id(), &membership.chain);
        if let Err(stranger) = Members::new(&network).check(wall, id, chain) {
            return Err(StartError::Setup(not_invited(&home, stranger)));
        }
        let admission = match home.read("admission")? {
            Some(bytes) => {
                let mut r = Reader::new(&bytes);
                let read = || -> Result<Admission, warren_overlay::wire::WireError> {
                    let admission =
                        Admission { nonce: r.u64("nonce")?, output: r.array("output")? };
                    r.finish().map(|()| admission)
                };
                read().map_err(|_| home.damaged("admission"))?
            }
            None => {
                let made = work(&network, &identity, &mut rng, progress)?;
                let mut w = Writer::default();
                w.u64(made.nonce).bytes(&made.output);
                home.write("admission", &w.into_bytes())?;
                made
            }
        };
        let peers = load_peers(&home, &network, wall)?;
        let friends = friends::load(&home, &network)?;
        let friends = friends.into_iter().map(|(_, friend)| friend).collect();
        let home = Some(Arc::new(home));
        Ok(Self {
            home,
            config,
            network,
            identity,
            link_secret,
            admission,
            membership,
            friends,
            peers,
        })
    }

    /// The link port is known now: keeps it for the next start.
    pub(super) fn listening(&mut self, link: SocketAddr) -> Result<(), StartError> {
        if let Some(home) = &self.home {
            home.write("port", link.port().to_string().as_bytes())?;
        }
        self.config.link = link;
        Ok(())
    }
}

/// Where others reach this router, and where in the other family: where the operator says, else where it
/// listens, else where packets leave from. Where nobody may dial that (it is behind NAT, most likely), peers
/// may see it elsewhere, unless links leave through a proxy: then they see that. What the line's router forwards
/// (`mapped`) comes before all that is only seen from here.
pub(super) fn door(
    announce: Announce,
    link: SocketAddr,
    local: bool,
    proxied: bool,
    on_lan: bool,
    mapped: Option<SocketAddr>,
) -> (Door, Option<Address>) {
    let outward = |v4: bool| Some(SocketAddr::new(outward_ip(v4, on_lan)?, link.port()));
    let found = match announce {
        Announce::Nothing => return (Door::Shut, None),
        Announce::At(first, also) => [None, Some(first), also],
        Announce::Found if !link.ip().is_unspecified() => [mapped, Some(link), None],
        Announce::Found if link.is_ipv4() => [mapped, outward(true), None],
        // IPv4 first: that is what everybody can dial.
        Announce::Found => [mapped, outward(true), outward(false)],
    };
    let mut dialable =
        found.into_iter().flatten().map(Address::from).filter(|address| address.dialable(local));
    let first = dialable.next();
    let v4 = |address: Address| address.socket().is_ipv4();
    let also = dialable.find(|also| first.is_some_and(|first| v4(first) != v4(*also)));
    let door = match (first, proxied) {
        (Some(address), false) => Door::At(address),
        (Some(address), true) => Door::Told(address),
        (None, false) => Door::Behind(link.port()),
        (None, true) => Door::Shut,
    };
    (door, also)
}

fn work(
    network: &Network,
    identity: &IdentityKey,
    rng: &mut Rng,
    progress: &mut dyn FnMut(u32),
) -> Result<Admission, StartError> {
    let start = u64::from_be_bytes(rng.bytes());
    let mut work = ProofWork::new(network, identity.id(), start).ok_or_else(|| {
        StartError::Setup("no memory for the admission puzzle: free 20 MiB".into())
    })?;
    loop {
        if let Some(admission) = work.step() {
            return Ok(admission);
        }
        progress(work.tries());
    }
}

/// What a router that has no part in its network by invitation is told.
pub(crate) fn not_invited(home: &Home, why: Stranger) -> String {
    let dir = home.dir().display();
    format!(
        "this network admits by invitation, and {why}: give a member what `warren key id --dir {dir}` \
         prints; the line that `warren invite --for` prints there goes into `warren join LINE --dir {dir}`"
    )
}

/// Signatures that make the folder's router a member, and those that it gave.
fn load_membership(home: &Home) -> Result<Membership, StartError> {
    let mut membership = Membership::default();
    if let Some(bytes) = home.read("membership")? {
        let mut r = Reader::new(&bytes);
        let chain = decode_chain(&mut r).and_then(|chain| r.finish().map(|()| chain));
        membership.chain = chain.map_err(|_| home.damaged("membership"))?;
    }
    if let Some(bytes) = home.read("invited")? {
        membership.given = Given::from_bytes(&bytes).map_err(|_| home.damaged("invited"))?;
    }
    Ok(membership)
}

/// Who the folder's router is; made where it is missing.
pub(crate) fn identity(home: &Home) -> Result<RouterId, StartError> {
    load_keys(home, &mut entropy::generator()).map(|(identity, _)| identity.id())
}

fn load_keys(home: &Home, rng: &mut Rng) -> Result<(IdentityKey, DhSecret), StartError> {
    if let Some(bytes) = home.read("router.key")? {
        let whole: &[u8; 64] =
            bytes.as_slice().try_into().map_err(|_| home.damaged("router.key"))?;
        let (seed, link) = whole.split_at(32);
        let take = |half: &[u8]| {
            let mut copy = [0; 32];
            copy.copy_from_slice(half);
            Secret::take(&mut copy)
        };
        return Ok((IdentityKey::from_seed(take(seed)), DhSecret::from_bytes(take(link))));
    }
    let identity = IdentityKey::generate(rng);
    let link = DhSecret::generate(rng);
    let mut bytes = zeroize::Zeroizing::new([0; 64]);
    let (seed_part, link_part) = bytes.split_at_mut(32);
    seed_part.copy_from_slice(identity.seed().expose_secret());
    link_part.copy_from_slice(link.secret_bytes().expose_secret());
    home.write("router.key", &bytes[..])?;
    Ok((identity, link))
}

/// The network of a folder, if it has one.
pub(crate) fn load_network(home: &Home) -> Result<Option<Network>, StartError> {
    let Some(bytes) = home.read("network")? else { return Ok(None) };
    let mut r = Reader::new(&bytes);
    let network = Network::decode(&mut r)
        .and_then(|network| r.finish().map(|()| network))
        .map_err(|_| home.damaged("network"))?;
    Ok(Some(network))
}

/// The network of a folder that must have one.
pub(crate) fn network(home: &Home) -> Result<Network, StartError> {
    let none = || {
        let dir = home.dir().display();
        StartError::Setup(format!(
            "{dir} belongs to no network yet: `warren init` or `warren join LINE` first"
        ))
    };
    load_network(home)?.ok_or_else(none)
}

/// Makes the folder a member of `network`.
pub(crate) fn save_network(home: &Home, network: &Network) -> Result<(), StartError> {
    Ok(home.write("network", &network.encode())?)
}

/// Keeps an invite: its network and its routers, and what makes this router a member. Among friends the
/// router that it names is one from now on.
///
/// # Errors
/// When it is for another router, and when a file cannot be written.
pub(crate) fn save_invite(home: &Home, invite: &Invite, wall: Wall) -> Result<(), StartError> {
    if let Mode::Invite { .. } = invite.network.mode {
        let members = Members::new(&invite.network).check(wall, identity(home)?, &invite.chain);
        members.map_err(|stranger| StartError::Setup(not_invited(home, stranger)))?;
        let mut w = Writer::default();
        encode_chain(&invite.chain, &mut w);
        home.write("membership", &w.into_bytes())?;
    }
    if invite.network.mode == Mode::Friends {
        for friend in &invite.routers {
            friends::add(home, &invite.network, None, friend)?;
        }
    }
    save_network(home, &invite.network)?;
    save_peers(home, &invite.routers)
}

/// Keeps descriptors for the next start.
pub(super) fn save_peers(home: &Home, peers: &[Arc<RouterDescriptor>]) -> Result<(), StartError> {
    let mut w = Writer::default();
    for peer in peers.iter().take(PEERS_MAX) {
        let bytes = peer.encode();
        w.u16(u16::try_from(bytes.len()).unwrap_or(0)).bytes(&bytes);
    }
    Ok(home.write("peers", &w.into_bytes())?)
}

fn load_peers(
    home: &Home,
    network: &Network,
    wall: Wall,
) -> Result<Vec<Arc<RouterDescriptor>>, StartError> {
    let Some(bytes) = home.read("peers")? else { return Ok(Vec::new()) };
    let id = network.id();
    let mut r = Reader::new(&bytes);
    let mut peers = Vec::new();
    while r.remaining() > 0 && peers.len() < PEERS_MAX {
        let len = usize::from(r.u16("length").map_err(|_| home.damaged("peers"))?);
        let bytes = r.slice(len, "descriptor").map_err(|_| home.damaged("peers"))?;
        // One bad descriptor (of an older version, say) is no reason to lose the others.
        if let Ok(peer) = RouterDescriptor::decode(bytes, id)
            && peer.is_current(wall)
        {
            peers.push(Arc::new(peer));
        }
    }
    Ok(peers)
}

/// The port that an earlier start drew.
pub(crate) fn load_port(home: &Home) -> Result<Option<u16>, StartError> {
    let Some(bytes) = home.read("port")? else { return Ok(None) };
    let text = std::str::from_utf8(&bytes).map_err(|_| home.damaged("port"))?;
    Ok(Some(text.trim().parse().map_err(|_| home.damaged("port"))?))
}

/// Where records and blocks are held.
#[derive(Debug)]
pub(super) struct Stores {
    pub(super) records: Box<dyn RecordStore>,
    pub(super) blocks: Box<dyn BlockStore>,
}

impl Stores {
    fn in_memory() -> Self {
        let records = Box::new(MemoryRecords::default());
        Self { records, blocks: Box::new(MemoryBlocks::default()) }
    }
}

/// The stores: on disk in the router's folder; in memory for routers that keep nothing.
#[cfg(feature = "rocks")]
pub(super) fn open_stores(home: Option<&Home>, disk: u64) -> Result<Stores, StartError> {
    use warren_datastore::{
        RocksRecords,
        blocks::{BlockLimits, RocksBlocks},
    };

    let Some(home) = home else { return Ok(Stores::in_memory()) };
    let mut rng = entropy::generator();
    let key = load_store_key(home, &mut rng)?;
    let records = RocksRecords::open(&home.dir().join("records"), copy(&key))
        .map_err(|error| StartError::Setup(format!("records: {error}; see whether that disk is full, or move `records` away to start without them")))?;
    let client_key = Secret::random(&mut rng);
    let path = home.dir().join("blocks");
    let blocks = RocksBlocks::open(&path, key, client_key, BlockLimits::within(disk))
        .map_err(|error| StartError::Setup(format!("blocks: {error}; see whether that disk is full, or move `blocks` away to start without them")))?;
    Ok(Stores { records: Box::new(records), blocks: Box::new(blocks) })
}

/// The stores: in memory, in a program built without RocksDB.
#[cfg(not(feature = "rocks"))]
#[expect(clippy::unnecessary_wraps, reason = "RocksDB can fail to open")]
pub(super) fn open_stores(_: Option<&Home>, _: u64) -> Result<Stores, StartError> {
    Ok(Stores::in_memory())
}

/// Two stores, one key: they derive what they use under names of their own.
#[cfg(feature = "rocks")]
fn copy(key: &Secret<32>) -> Secret<32> {
    Secret::take(&mut { *key.expose_secret() })
}

/// What seals everything that is held for others. Who has the disk without this file reads nothing.
#[cfg(feature = "rocks")]
fn load_store_key(home: &Home, rng: &mut Rng) -> Result<Secret<32>, StartError> {
    if let Some(bytes) = home.read("store.key")? {
        let mut key: [u8; 32] =
            bytes.as_slice().try_into().map_err(|_| home.damaged("store.key"))?;
        return Ok(Secret::take(&mut key));
    }
    let key = Secret::random(rng);
    home.write("store.key", key.expose_secret())?;
    Ok(key)
}
