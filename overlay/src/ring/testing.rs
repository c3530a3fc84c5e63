//! What the ring's tests share: cheap identities, proofs and descriptors.

use std::{net::SocketAddr, sync::Arc};

use super::admission::{Mode, Network, NetworkName, ProofWork};
use crate::{
    crypto::{kdf, puzzle::Difficulty, secret::Secret, sign::IdentityKey},
    id::NetworkId,
    time::Wall,
    wire::{Address, Admission, DESCRIPTOR_MINUTES_MAX, DescriptorFields, RouterDescriptor, Vouch},
};

/// The network that wire tests use; no settings hash to it.
pub(crate) const NETWORK: NetworkId = NetworkId([9; 32]);
/// The minute at which tests happen.
pub(crate) const WALL: Wall = Wall::from_minutes(1_000);

/// A local network under a suite of its own, so that even difficult proofs are cheap.
pub(crate) fn network(difficulty: u8) -> Network {
    let name = NetworkName::Named("test".into());
    let mode = Mode::Proof;
    Network { name, mode, difficulty: Difficulty(difficulty), suite: 2, local: true }
}

pub(crate) fn key(n: u32) -> IdentityKey {
    let mut seed = [0x5e; 32];
    seed[..4].copy_from_slice(&n.to_be_bytes());
    IdentityKey::from_seed(Secret::take(&mut seed))
}

fn fields(network: NetworkId, n: u32, admission: Admission) -> DescriptorFields {
    let [_, a, b, c] = n.to_be_bytes();
    DescriptorFields {
        network,
        link_key: [1; 32],
        tunnel_dh: [2; 32],
        tunnel_kem: Arc::new([3; 1184]),
        addresses: vec![SocketAddr::from(([127, b, c, a.wrapping_add(1)], 9_000)).into()],
        capabilities: 0,
        bandwidth_kbps: 1_000,
        family: None,
        admission,
        vouches: Vec::new(),
        published: WALL,
        expiry: WALL.plus(DESCRIPTOR_MINUTES_MAX),
    }
}

/// Router number `n` with this claim of work.
pub(crate) fn signed(
    network: &Network,
    key: &IdentityKey,
    n: u32,
    admission: Admission,
) -> Arc<RouterDescriptor> {
    Arc::new(RouterDescriptor::sign(fields(network.id(), n, admission), key).unwrap())
}

/// Router number `n`, for which these signed.
pub(crate) fn vouched(
    n: u32,
    router: &RouterDescriptor,
    vouches: Vec<Vouch>,
) -> Arc<RouterDescriptor> {
    let fields = DescriptorFields { vouches, ..router.fields().clone() };
    Arc::new(RouterDescriptor::sign(fields, &key(n)).unwrap())
}

/// Router number `n` of [`NETWORK`].
pub(crate) fn descriptor(n: u32) -> Arc<RouterDescriptor> {
    let key = key(n);
    let admission = Admission { nonce: 0, output: kdf::hash("warren test 1", &[&key.id().0]) };
    Arc::new(RouterDescriptor::sign(fields(NETWORK, n, admission), &key).unwrap())
}

/// Router number `n` of [`NETWORK`], as it described itself at `published`.
pub(crate) fn signed_at(n: u32, published: Wall) -> Arc<RouterDescriptor> {
    let key = key(n);
    let admission = Admission { nonce: 0, output: kdf::hash("warren test 1", &[&key.id().0]) };
    let expiry = published.plus(DESCRIPTOR_MINUTES_MAX);
    let fields = DescriptorFields { published, expiry, ..fields(NETWORK, n, admission) };
    Arc::new(RouterDescriptor::sign(fields, &key).unwrap())
}

/// What `router` number `n` says at `published` when nobody can dial it.
pub(crate) fn without_address(
    n: u32,
    router: &RouterDescriptor,
    published: Wall,
) -> Arc<RouterDescriptor> {
    redescribed(n, router, published, Vec::new())
}

/// What `router` number `n` says at `published` when it can be dialled there.
pub(crate) fn redescribed(
    n: u32,
    router: &RouterDescriptor,
    published: Wall,
    addresses: Vec<Address>,
) -> Arc<RouterDescriptor> {
    let fields = DescriptorFields { addresses, published, ..router.fields().clone() };
    Arc::new(RouterDescriptor::sign(fields, &key(n)).unwrap())
}

/// Router number `n` of `network`, its work done.
pub(crate) fn member(network: &Network, n: u32) -> Arc<RouterDescriptor> {
    let key = key(n);
    let mut work = ProofWork::new(network, key.id(), 0).unwrap();
    let admission = std::iter::repeat_with(|| work.step()).flatten().next().unwrap();
    signed(network, &key, n, admission)
}
