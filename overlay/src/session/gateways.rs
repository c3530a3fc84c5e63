//! A service's gateway tunnels and the leases that their end hops gave it.
//!
//! Lives here: asking for a lease on each, and which leases are to be published. Does not live
//! here: publishing (`service/`), building the tunnels (`tunnel/`).
//!
//! ```text
//!  tunnel --LeaseRequest--> asked --LeaseGranted--> published --retired, gone--> not published
//!                             '----LeaseRefused---> failed
//! ```

use std::collections::BTreeMap;

use super::effort::Effort;
use crate::{
    garlic::{Clove, OwnTunnelName, Rate},
    rng::Rng,
    service::{LEASES_MAX, Lease},
    wire::Contact,
};

/// Set in the numbers of requests that an `End` makes for itself: leases, probes.
pub(super) const OWN_REQUEST: u32 = 1 << 31;
/// Gateway tunnels of one service: those published, and as many that replace them.
const GATEWAYS_MAX: usize = 2 * LEASES_MAX;

#[derive(Debug)]
struct Gateway {
    contact: Contact,
    request: u32,
    lease: [u8; 16],
    splice_key: Option<[u8; 32]>,
    retiring: bool,
    /// Its tunnel's first hop gives no sign of life.
    quiet: bool,
}

/// The gateways of one service.
#[derive(Debug, Default)]
pub(super) struct Gateways {
    tunnels: BTreeMap<OwnTunnelName, Gateway>,
    next_request: u32,
    published: Vec<Lease>,
    /// How many clients each lease lets in.
    rate: Rate,
    /// What they are asked to spend.
    pub(super) effort: Effort,
    /// Something happened since it was last looked at.
    touched: bool,
}

impl Gateways {
    /// None yet; each lets in clients at `rate`.
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, ..Self::default() }
    }

    /// A tunnel whose end hop, at `contact`, is to be a gateway: what to ask it. `None` if there are
    /// too many.
    pub(super) fn add(
        &mut self,
        rng: &mut Rng,
        tunnel: OwnTunnelName,
        contact: Contact,
    ) -> Option<Clove> {
        if self.tunnels.len() >= GATEWAYS_MAX {
            return None;
        }
        let request = OWN_REQUEST | self.next_request;
        self.next_request = self.next_request.wrapping_add(1) & !OWN_REQUEST;
        let lease = rng.bytes();
        self.touched = true;
        let gateway =
            Gateway { contact, request, lease, splice_key: None, retiring: false, quiet: false };
        self.tunnels.insert(tunnel, gateway);
        Some(Clove::LeaseRequest { request, lease, rate: self.rate })
    }

    /// The end hop agreed. Later grants of the same request change nothing.
    pub(super) fn granted(&mut self, tunnel: OwnTunnelName, request: u32, splice_key: [u8; 32]) {
        if let Some(gateway) = self.tunnels.get_mut(&tunnel)
            && gateway.request == request
        {
            gateway.splice_key.get_or_insert(splice_key);
            self.touched = true;
        }
    }

    /// No new client is sent there.
    pub(super) fn retire(&mut self, tunnel: OwnTunnelName) {
        if let Some(gateway) = self.tunnels.get_mut(&tunnel) {
            gateway.retiring = true;
            self.touched = true;
        }
    }

    /// The tunnel's first hop gives no sign of life, or does again: others are named before it.
    pub(super) fn quiet(&mut self, tunnel: OwnTunnelName, quiet: bool) {
        if let Some(gateway) = self.tunnels.get_mut(&tunnel) {
            gateway.quiet = quiet;
            self.touched = true;
        }
    }

    /// The tunnel is gone.
    pub(super) fn remove(&mut self, tunnel: OwnTunnelName) {
        self.touched |= self.tunnels.remove(&tunnel).is_some();
    }

    /// Whether a tunnel waits to be free.
    pub(super) fn any_retiring(&self) -> bool {
        self.tunnels.values().any(|gateway| gateway.retiring)
    }

    /// Retired tunnels that carry nothing more; they are forgotten here.
    pub(super) fn take_free(
        &mut self,
        in_use: impl Fn(OwnTunnelName) -> bool,
    ) -> Vec<OwnTunnelName> {
        let free = self.tunnels.iter().filter(|(name, g)| g.retiring && !in_use(**name));
        let free: Vec<_> = free.map(|(name, _)| *name).collect();
        for name in &free {
            self.tunnels.remove(name);
        }
        free
    }

    /// What is to be published, if that has changed.
    pub(super) fn changed(&mut self) -> Option<Vec<Lease>> {
        if !std::mem::take(&mut self.touched) {
            return None;
        }
        let mut gateways: Vec<&Gateway> =
            self.tunnels.values().filter(|gateway| !gateway.retiring).collect();
        gateways.sort_by_key(|gateway| gateway.quiet);
        let leases: Vec<Lease> = gateways
            .into_iter()
            .filter_map(|gateway| {
                Some(Lease {
                    gateway: gateway.contact.id,
                    link_key: gateway.contact.link_key,
                    splice_key: gateway.splice_key?,
                    address: gateway.contact.address,
                    lease: gateway.lease,
                })
            })
            .take(LEASES_MAX)
            .collect();
        if leases == self.published {
            return None;
        }
        self.published.clone_from(&leases);
        Some(leases)
    }
}
