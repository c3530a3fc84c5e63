//! Routers that nobody can dial, and what the ring is to them and they to it.
//!
//! Lives here: being a guest, taking guests in, and changing from one to the other. Does not live
//! here: where guests are kept (`neighbours.rs`), how a router finds out what it is (its owner).
//!
//! A guest dials its neighbours as any router does, asks through them and hears their gossip. It is no
//! way for a request, holds nothing for others, and nobody is told of it: so nobody ever tries to
//! dial it, for a tunnel, a splice or a place in the ring. A ring in which guests were places would
//! have gaps, since two guests next to each other could never be linked.

use std::sync::Arc;

use super::{
    machine::Ring,
    neighbours::{NEAR, Neighbour, Origin},
    wire::RingMessage,
};
use crate::{id::LinkNo, time::Now, wire::RouterDescriptor};

/// Neighbours that a guest wants at most: enough to know whom to build through and to ask three ways,
/// and few enough that the others have room for many guests.
pub(super) const DEGREE: usize = 12;
/// Guests taken in from one /24 or /48; any number in a local network, where all come from few.
const PER_SOURCE_MAX: usize = 16;

/// Neighbours that a router wants whose owner set it up for `degree`.
pub(super) fn degree(degree: usize, guest: bool) -> usize {
    if guest { degree.min(DEGREE) } else { degree }
}

impl Ring {
    /// Whether nobody can dial this router.
    pub(super) fn is_guest(&self) -> bool {
        self.neighbours.is_guest(&self.own)
    }

    /// Whether to take the router on `link` in: as a neighbour, or as a guest.
    pub(super) fn accepts(&self, link: LinkNo) -> bool {
        let Some(state) = self.links.get(&link) else { return false };
        if !self.neighbours.is_guest(&state.peer) {
            return self.neighbours.accepts(&state.peer);
        }
        let source_of = |guest: &Neighbour| self.links.get(&guest.link).map(|it| it.source);
        let same = |guest: &&Neighbour| source_of(guest) == Some(state.source);
        self.neighbours.by_id(&state.peer.id()).is_some()
            || self.neighbours.guests_have_room()
                && (self.local || self.neighbours.guests().filter(same).count() < PER_SOURCE_MAX)
    }

    /// For a guest, that nobody else draws: any router that it knows and has no link with. It has no
    /// place for which it would matter how far they are.
    pub(super) fn any_known(&mut self, now: Now) -> Option<Arc<RouterDescriptor>> {
        if !self.is_guest() {
            return None;
        }
        let fits = |it: &&Arc<RouterDescriptor>| {
            self.neighbours.by_id(&it.id()).is_none()
                && !self.view.has_failed(now.time, &it.id())
                && self.neighbours.prefix_has_room(it.prefix())
                && self.members.may_dial(&it.id())
        };
        let fit: Vec<_> = self.view.iter().filter(fits).collect();
        let at = self.rng.below((fit.len() as u64).max(1));
        fit.get(usize::try_from(at).ok()?).map(|it| Arc::clone(it))
    }

    /// A neighbour can no longer be dialled, or a guest can: it changes its seat, if there is one.
    pub(super) fn reseat(&mut self, now: Now, link: LinkNo, peer: &Arc<RouterDescriptor>) {
        let Some(old) = self.neighbours.remove(&peer.id()) else { return };
        if self.accepts(link) {
            // Who was drawn as a neighbour is none of those that one wanted any more.
            let near = self.neighbours.would_be_near(peer.location(), NEAR);
            let origin = if near { Origin::Near } else { Origin::Offered };
            self.neighbours.insert(Neighbour::new(old.link, Arc::clone(peer), origin, now.time));
            self.greet(&peer.id());
        } else {
            self.let_go(old.link);
            self.send(link, RingMessage::Bye { leaving: false });
        }
        self.neighbours_changed();
    }
}
