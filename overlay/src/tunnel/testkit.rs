//! Routers for the tests of this folder.

use std::{net::SocketAddr, sync::Arc};

use super::build::TunnelKeys;
use crate::{
    crypto::sign::IdentityKey,
    id::NetworkId,
    rng::Rng,
    time::Wall,
    wire::{Admission, DescriptorFields, RouterDescriptor},
};

pub(super) const NETWORK: NetworkId = NetworkId([9; 32]);
pub(super) const WALL: Wall = Wall::from_minutes(29_000_000);

/// A router: its tunnel keys and what it publishes.
pub(super) struct Router {
    pub(super) keys: TunnelKeys,
    pub(super) descriptor: Arc<RouterDescriptor>,
}

impl Router {
    /// Router `number`, alone in its /16.
    pub(super) fn new(number: u8) -> Self {
        Self::at(number, [100, number, 0, 1], None, 1_000)
    }

    pub(super) fn at(number: u8, ip: [u8; 4], family: Option<[u8; 16]>, kbps: u32) -> Self {
        Self::published(WALL, number, ip, family, kbps)
    }

    pub(super) fn published(
        wall: Wall,
        number: u8,
        ip: [u8; 4],
        family: Option<[u8; 16]>,
        kbps: u32,
    ) -> Self {
        let mut rng = Rng::from_seed([number; 32]);
        let identity = IdentityKey::generate(&mut rng);
        let keys = TunnelKeys::generate(NETWORK, identity.id(), &mut rng);
        let fields = DescriptorFields {
            network: NETWORK,
            link_key: rng.bytes(),
            tunnel_dh: keys.dh_public(),
            tunnel_kem: keys.kem_public(),
            addresses: vec![SocketAddr::from((ip, 9_000)).into()],
            capabilities: 0,
            bandwidth_kbps: kbps,
            family,
            admission: Admission { nonce: 0, output: rng.bytes() },
            vouches: Vec::new(),
            published: wall,
            expiry: wall.plus(3 * 24 * 60),
        };
        let descriptor = Arc::new(RouterDescriptor::sign(fields, &identity).unwrap());
        Self { keys, descriptor }
    }
}

/// Routers 1 to `count`, each in its own /16.
pub(super) fn routers(count: u8) -> Vec<Router> {
    (1..=count).map(Router::new).collect()
}

/// What the first `count` routers publish later on.
pub(super) fn descriptors_at(wall: Wall, count: u8) -> Vec<Arc<RouterDescriptor>> {
    let publish = |n| Router::published(wall, n, [100, n, 0, 1], None, 1_000).descriptor;
    (1..=count).map(publish).collect()
}

/// What `routers` publish.
pub(super) fn descriptors(routers: &[Router]) -> Vec<Arc<RouterDescriptor>> {
    routers.iter().map(|router| Arc::clone(&router.descriptor)).collect()
}
