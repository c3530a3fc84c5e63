//! What a node says of itself: its descriptor, kept fresh.
//!
//! Lives here: when a descriptor and the tunnel keys in it are made anew. Does not live here: its bytes
//! (`overlay::wire`), which address is in it (`wiring/reach.rs`).

use std::sync::Arc;

use warren_overlay::{
    time::Now,
    tunnel::transit::TransitInput,
    wire::{Address, DescriptorFields, NO_TRANSIT, RouterDescriptor, TAKES_WORK},
};

use super::Node;

/// How long a descriptor holds; it is renewed at half of it.
pub(super) const DESCRIPTOR_MINUTES: u32 = 24 * 60;
/// How often the tunnel keys change; the ones before are accepted for as long again.
const TUNNEL_KEYS_MINUTES: u32 = 24 * 60;

/// What a router tells of where it is: the address that is held to be so, and then the other family's.
pub(super) fn addresses(first: Option<Address>, also: Option<Address>) -> Vec<Address> {
    let differs = |also: &Address| first.is_some_and(|it| it != *also);
    first.into_iter().chain(also.filter(differs)).collect()
}

/// What a router says that it does.
pub(super) const fn capabilities(transit: bool) -> u16 {
    TAKES_WORK | if transit { 0 } else { NO_TRANSIT }
}

impl Node {
    /// Whether there is room for more tunnels of others.
    pub(super) fn loaded(&mut self, now: Now, loaded: bool) {
        self.transit.handle_input(now, TransitInput::Loaded(loaded));
    }

    /// Opens or closes this router for tunnels of others, and tells everybody.
    pub(super) fn carry(&mut self, now: Now, transit: bool) {
        let capabilities = capabilities(transit);
        if self.descriptor.fields().capabilities != capabilities {
            self.transit.handle_input(now, TransitInput::Closed(!transit));
            self.unsaid = self.descriptor.fields().published == now.wall;
            self.describe(now, |fields| fields.capabilities = capabilities);
        }
    }

    pub(super) fn renew(&mut self, now: Now) {
        let rotate = now.wall.minutes() >= self.keys_made.plus(TUNNEL_KEYS_MINUTES).minutes();
        if rotate {
            self.transit.rotate_keys();
            self.keys_made = now.wall;
        }
        let published = self.descriptor.fields().published;
        let stale = published.plus(DESCRIPTOR_MINUTES / 2) <= now.wall;
        let unsaid = self.unsaid && published < now.wall;
        if rotate || stale || unsaid {
            self.unsaid = false;
            self.describe(now, |_| {});
        }
    }

    /// Signs a new descriptor, with what `change` says anew, and tells the ring, which tells the
    /// neighbours.
    pub(super) fn describe(&mut self, now: Now, change: impl FnOnce(&mut DescriptorFields)) {
        let keys = self.transit.keys();
        let mut fields = DescriptorFields {
            tunnel_dh: keys.dh_public(),
            tunnel_kem: keys.kem_public(),
            published: now.wall,
            expiry: now.wall.plus(DESCRIPTOR_MINUTES),
            ..self.descriptor.fields().clone()
        };
        change(&mut fields);
        if let Ok(descriptor) = RouterDescriptor::sign(fields, &self.identity) {
            self.descriptor = descriptor.shared();
            let own = Arc::clone(&self.descriptor);
            self.ring.handle_input(now, warren_overlay::ring::Input::OwnDescriptor(own));
        }
    }
}
