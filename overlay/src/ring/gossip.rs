//! Gossip: who is named to whom, and what is believed of it.
//!
//! Lives here: what neighbours are told of each other and of the public view, what becomes of a router that
//! somebody names. Does not live here: the private sample that all this feeds (`view.rs`), the public view
//! (`rumours.rs`), when its time comes (`keep.rs`).
//!
//! ```text
//!             neighbours, and one rumour a round                     private sample ──> tunnels
//! this router ──────────────────────────────────> its neighbour ──<
//!                                                                    public view ──> its neighbours
//! ```

use std::{collections::BTreeSet, sync::Arc};

use super::{
    machine::Ring,
    wire::{DESCRIPTORS_MAX, RingMessage},
};
use crate::{
    id::{LinkNo, RouterId},
    time::Now,
    wire::{Prefix, RouterDescriptor},
};

/// Gossip messages to a new neighbour at once.
const GREETING: usize = 2;

impl Ring {
    /// Whether a router that somebody names may be known and dialled here, and if so whether its work is
    /// known to be good.
    pub(super) fn fits(&self, now: Now, it: &RouterDescriptor) -> Option<bool> {
        let proven = self.proofs.known(it);
        let fits = it.is_dialable(self.local)
            && it.is_current(now.wall)
            && proven != Some(false)
            && !self.view.has_failed(now.time, &it.id());
        fits.then_some(proven == Some(true))
    }

    /// A router is named by itself or by somebody; true if its work is worth checking.
    pub(super) fn learn(&mut self, now: Now, descriptor: &Arc<RouterDescriptor>) -> bool {
        let known = descriptor.is_dialable(self.local) && self.view.is_known(descriptor);
        if known && !self.rumours.is_news(descriptor) {
            return false; // as mostly
        }
        let Some(news) = self.admit(now, descriptor) else { return false };
        self.keep.dirty |= news;
        let other = descriptor.id() != self.own.id();
        (other && self.rumours.hear(descriptor)) | news
    }

    /// A router that was asked after through a tunnel describes itself so. Nobody around hears of it: that it
    /// was asked after is this router's alone. True if that is news.
    pub fn renew(&mut self, now: Now, descriptor: &Arc<RouterDescriptor>) -> bool {
        self.view.found(&descriptor.id());
        let news = self.admit(now, descriptor) == Some(true);
        self.note_view(now);
        news
    }

    /// Takes a router into the view, if it may be known; whether that is news, none if it may not.
    fn admit(&mut self, now: Now, descriptor: &Arc<RouterDescriptor>) -> Option<bool> {
        if !descriptor.is_dialable(self.local) {
            self.view.withdraw(descriptor);
            return None;
        }
        let proven = self.fits(now, descriptor)?;
        if !self.members.is_member(now.wall, descriptor) {
            return None;
        }
        let neighbours = &self.neighbours;
        let keep = |id: &RouterId| neighbours.by_id(id).is_some();
        Some(self.view.insert(now, descriptor, proven, keep))
    }

    /// A router is not there any more, as far as could be learnt by asking after it: tunnels lead through it no
    /// more, until it describes itself anew. Unless it is around here, which a ring knows better.
    pub fn lose(&mut self, now: Now, id: &RouterId) {
        if self.neighbours.by_id(id).is_none() {
            self.view.lose(id);
            self.note_view(now);
        }
    }

    /// The routers of the private sample, and of the hops that the owner keeps those that are known.
    pub fn sampled(&self) -> impl Iterator<Item = &Arc<RouterDescriptor>> {
        self.view.sampled()
    }

    /// A router is gone or lied: it is neither believed nor named for a while.
    pub(super) fn forget(&mut self, now: Now, id: &RouterId) {
        self.view.fail(now.time, id);
        self.rumours.forget(id);
    }

    /// A router is named by a neighbour in that place. Where all are in one place that says nothing.
    pub(super) fn heard(&mut self, now: Now, descriptor: &RouterDescriptor, by: Prefix) {
        if !self.local && self.view.get(&descriptor.id()).is_some() {
            self.witnesses.named(now.time, descriptor, by);
        }
    }

    /// The known routers that were heard of a day ago at least, and named by neighbours in five places; none where
    /// all are in one place.
    pub fn seasoned(&self, now: Now) -> Option<BTreeSet<RouterId>> {
        (!self.local).then(|| self.witnesses.seasoned(now.time))
    }

    /// Once in a while everybody around is told something.
    pub(super) fn gossip_round(&mut self, now: Now) {
        self.view.expire(now.wall);
        self.witnesses.keep(|id| self.view.get(id).is_some());
        self.rumours.expire(now.wall);
        if self.rumours.turn(now.time, &mut self.rng) {
            // Those who are surely there.
            self.neighbours.iter().for_each(|it| _ = self.rumours.hear(&it.peer));
        }
        // Nobody passes on whose work he has not checked.
        let fit = |it: &&Arc<RouterDescriptor>| self.fits(now, it) == Some(true);
        let told: Vec<_> = self.rumours.all().filter(fit).map(Arc::clone).collect();
        let all: Vec<_> = self.neighbours.all().map(|it| it.peer.id()).collect();
        for id in all {
            if self.gossip_to(&id) < DESCRIPTORS_MAX {
                self.pass_on(&id, &told);
            }
        }
    }

    /// Tells a new neighbour who is around it, and the near ones (in a small network everybody about
    /// everybody) about it.
    pub(super) fn greet(&mut self, id: &RouterId) {
        let small = self.view.len() <= self.neighbours.degree();
        let messages =
            if small { self.neighbours.degree().div_ceil(DESCRIPTORS_MAX) } else { GREETING };
        for _ in 0..messages {
            self.gossip_to(id);
        }
        let others: Vec<_> = if small {
            self.neighbours.iter().map(|it| it.peer.id()).collect()
        } else if self.neighbours.is_near(id) {
            self.neighbours.near().map(|it| it.peer.id()).collect()
        } else {
            Vec::new()
        };
        for other in others.iter().filter(|other| *other != id) {
            self.gossip_to(other);
        }
    }

    /// Names the three closest to a router that is refused.
    pub(super) fn direct(&mut self, now: Now, link: LinkNo) {
        let Some(place) = self.links.get(&link).map(|it| it.peer.location()) else { return };
        let closest = self.neighbours.closest(now.time, place, DESCRIPTORS_MAX);
        let closest: Vec<_> = closest.into_iter().map(|it| Arc::clone(&it.peer)).collect();
        if !closest.is_empty() {
            self.send(link, RingMessage::Gossip(closest));
        }
    }

    /// Sends one neighbour up to three others that it was not sent yet, nearest to it first; gives how many.
    ///
    /// They are alive. What was named before is named again when its descriptor is new. A guest names
    /// nobody: it is not listened to.
    fn gossip_to(&mut self, id: &RouterId) -> usize {
        let Some(to) = self.neighbours.by_id(id).filter(|_| !self.is_guest()) else { return 0 };
        let (link, place) = (to.link, to.location);
        let mut others: Vec<_> = self.neighbours.iter().map(|it| Arc::clone(&it.peer)).collect();
        others.sort_by_cached_key(|it| it.location().distance(place));
        let Some(to) = self.neighbours.by_id_mut(id) else { return 0 };
        let news: Vec<_> =
            others.into_iter().filter(|it| to.note_sent(it)).take(DESCRIPTORS_MAX).collect();
        let count = news.len();
        if count > 0 {
            self.send(link, RingMessage::Gossip(news));
        }
        count
    }

    /// Sends one neighbour one of these that it was not sent yet, from one of chance on.
    fn pass_on(&mut self, id: &RouterId, told: &[Arc<RouterDescriptor>]) {
        if self.is_guest() {
            return;
        }
        let from = usize::try_from(self.rng.below(told.len() as u64)).unwrap_or(0);
        let (before, after) = told.split_at(from);
        let Some(to) = self.neighbours.by_id_mut(id) else { return };
        let news = after.iter().chain(before).find(|it| to.note_sent(it));
        let (link, news) = (to.link, news.map(Arc::clone));
        if let Some(news) = news {
            self.send(link, RingMessage::Gossip(vec![news]));
        }
    }
}
