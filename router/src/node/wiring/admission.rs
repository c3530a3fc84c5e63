//! Arrows of admission: who gets a link, who friends are, and the line that brings a newcomer in.

use std::{collections::BTreeSet, sync::Arc};

use warren_overlay::{
    id::{LinkNo, RouterId},
    plane::LinkCommand,
    ring::{self, admission::Mode},
    time::Now,
    tunnel::pools::PoolsInput,
    wire::{Address, Contact, RouterDescriptor},
};

use crate::{
    invite::{Invite, ROUTERS_MAX},
    node::{Given, NoVouch, Node, NodeOutput, Saved, links::Asker},
};

impl Node {
    /// A handshake succeeded: whether it may be of no use to anybody, because the network's mode keeps
    /// that router out. Then it is closed, and is told nothing.
    pub(super) fn is_barred(
        &mut self,
        now: Now,
        link: LinkNo,
        peer: &Arc<RouterDescriptor>,
    ) -> bool {
        if self.ring.admits(now.wall, peer) {
            self.friend_described(peer);
            return false;
        }
        // Whoever waits for it hears that there will be none.
        self.links.down(now.time, link);
        self.tell_link(now, link, LinkCommand::Shut);
        true
    }

    /// A router describes itself anew: a friend's address must not get lost.
    pub(super) fn friend_described(&mut self, peer: &Arc<RouterDescriptor>) {
        if self.friends.described(peer) {
            self.out.push_back(NodeOutput::Save(Saved::Friend(Arc::clone(peer))));
        }
    }

    /// These are the friends from now on.
    pub(in crate::node) fn befriend(&mut self, now: Now, friends: Vec<Arc<RouterDescriptor>>) {
        self.friends.set(now.time, friends);
        let ids = self.friends.ids();
        if self.network.mode == Mode::Friends {
            self.pools.handle_input(now, PoolsInput::FirstHops(ids.clone()));
            self.ring.handle_input(now, ring::Input::Friends(ids));
        }
    }

    /// Dials friends whose time it is.
    pub(in crate::node) fn dial_friends(&mut self, now: Now) {
        if self.friends.poll_timeout().is_none_or(|at| at > now.time) {
            return;
        }
        let linked: BTreeSet<RouterId> = self.links.up_links().map(|(_, peer)| peer.id()).collect();
        for contact in self.friends.due(now, &linked) {
            self.ask_link(now, &contact, &[], Asker::Ring, None);
        }
    }

    /// A router of this network was found: it is dialled as those of a line are.
    pub(super) fn found(&mut self, now: Now, contact: &Contact, also: Option<Address>) {
        let linked = self.links.up_links().any(|(_, peer)| peer.id() == contact.id);
        if !linked {
            self.ask_link(now, contact, also.as_slice(), Asker::Ring, None);
        }
    }

    /// A line for the next router: this network, this router and a few neighbours. Among friends only
    /// this router, since it is who is befriended.
    pub fn invite(&self) -> Invite {
        let own = Some(&self.descriptor).filter(|own| own.address().is_some());
        let others = self.ring.neighbours().filter(|_| self.network.mode != Mode::Friends);
        let routers = own.into_iter().chain(others).take(ROUTERS_MAX).cloned().collect();
        Invite { network: self.network.clone(), routers, chain: Vec::new() }
    }

    /// A line for that newcomer alone, signed. [`Self::given`] must be kept before it is shown.
    ///
    /// # Errors
    /// When this router may not sign, and what to do about it.
    pub fn invite_for(&mut self, now: Now, newcomer: RouterId) -> Result<Invite, NoVouch> {
        let chain = self.membership.vouch(now.wall, &self.network, &self.identity, newcomer)?;
        Ok(Invite { chain, ..self.invite() })
    }

    /// For whom this router signed in the last week in which it did.
    pub fn given(&self) -> &Given {
        &self.membership.given
    }
}

#[cfg(test)]
mod tests;
