//! Arrows of reachability: who is asked, who dials back, and what this router then says of itself.

use std::{net::SocketAddr, sync::Arc};

use warren_overlay::{
    id::LinkNo,
    plane::LinkCommand,
    time::Now,
    wire::{Address, Contact, DialBackOutcome, LinkMessage, RouterDescriptor},
};

use crate::node::{Node, describe::addresses, dial_back::Told};

impl Node {
    /// A link stands: whether it only shows that it can, and serves nothing else.
    pub(super) fn is_dial_back(
        &mut self,
        now: Now,
        link: LinkNo,
        peer: &Arc<RouterDescriptor>,
        initiator: bool,
    ) -> bool {
        let Some(remote) = self.links.remote(link) else { return false };
        let shown = if initiator {
            let ours = self.end_dial_back(now, link, true);
            if !ours {
                self.reach.opened(now.time, link, peer.id(), remote);
            }
            ours
        } else {
            self.reach.came(now.time, peer.id(), remote)
        };
        self.settle_door(now);
        if shown {
            self.links.met(link);
            self.tell_link(now, link, LinkCommand::Goodbye);
        }
        shown
    }

    /// A peer wants to know whether it can be dialled at this port.
    pub(super) fn dial_back(&mut self, now: Now, link: LinkNo, port: u16) {
        let Some((peer, remote)) = self.links.came_from(link) else { return };
        let seen = Address::from(SocketAddr::new(remote.socket().ip(), port));
        let fields = peer.fields();
        let (link_key, expiry) = (fields.link_key, fields.expiry);
        let contact = Contact { id: peer.id(), link_key, address: seen, expiry };
        let turn = self.dial_backs.admits(now.time, link);
        match turn.then(|| self.links.probe(now, &contact, link)).flatten() {
            Some(dial) => self.dial_backs.began(dial, link, seen),
            None => self.say_dialled(now, Told { link, seen, outcome: DialBackOutcome::NotTried }),
        }
    }

    /// A dial for a peer's sake is over. Says whether it was one.
    pub(super) fn end_dial_back(&mut self, now: Now, dial: LinkNo, reached: bool) -> bool {
        let told = self.dial_backs.ended(dial, reached);
        if let Some(told) = told {
            self.say_dialled(now, told);
        }
        told.is_some()
    }

    fn say_dialled(&mut self, now: Now, Told { link, seen, outcome }: Told) {
        if self.links.came_from(link).is_some() {
            let message = LinkMessage::DialBackReply { seen, outcome };
            self.tell_link(now, link, LinkCommand::Send(message));
        }
    }

    /// What a peer says that came of it.
    pub(super) fn dialled_back(
        &mut self,
        now: Now,
        link: LinkNo,
        seen: Address,
        outcome: DialBackOutcome,
    ) {
        self.reach.answered(now.time, link, seen, outcome);
        self.settle_door(now);
    }

    /// Time passed.
    pub(in crate::node) fn reach_timeout(&mut self, now: Now) {
        self.reach.handle_timeout(now.time);
        self.settle_door(now);
    }

    /// Says of itself what is held to be so.
    pub(in crate::node) fn settle_door(&mut self, now: Now) {
        let addresses = addresses(self.reach.address(), self.also);
        if self.descriptor.fields().addresses != addresses {
            self.unsaid = self.descriptor.fields().published == now.wall;
            self.describe(now, |fields| fields.addresses = addresses);
        }
    }
}

#[cfg(test)]
mod tests;
