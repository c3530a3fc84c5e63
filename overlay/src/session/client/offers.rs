//! Which of a service's routers a client talks to, and when it turns to another.
//!
//! Lives here: the offers of the last descriptor, and the choice between them. Does not live here:
//! which of an offer's gateways (`choice.rs`), reading descriptors (`service/`).
//!
//! ```text
//!  no session: any, at random --an attempt fails--> the next
//!  a session:  where it is    --no path for 5 s---> its streams are reset, then the next
//! ```

use std::{sync::Arc, time::Duration};

use super::{Client, Leases};
use crate::{
    crypto::effort::EFFORT_MAX,
    id::NetworkId,
    service::{AccessKey, Lease, Name, OfferId, ServiceDescriptor},
    session::{frame::ResetReason, handshake::SessionTarget, watch::earlier},
    time::Time,
};

/// How long a session may be without a path, or on a silent one, before its streams are given up for
/// another router of the service: longer than it takes to find another path to the same.
const TURN_AFTER: Duration = Duration::from_secs(5);

/// What one router of a service offers, as its clients use it.
#[derive(Clone, Debug)]
pub struct SessionOffer {
    /// Whose it is.
    pub id: OfferId,
    /// Its session keys.
    pub target: SessionTarget,
    /// Where it can be reached.
    pub leases: Vec<Lease>,
    /// What it asks its clients to spend.
    pub effort: u32,
}

impl SessionOffer {
    /// All that a descriptor names, for everybody or for the client that holds `access`.
    pub fn all(
        descriptor: &ServiceDescriptor,
        name: &Name,
        access: Option<&Arc<AccessKey>>,
        network: NetworkId,
    ) -> Vec<Self> {
        let of = |offer: &crate::service::Offer| {
            let target = SessionTarget::of(offer, name, access.cloned(), network)?;
            let (id, leases, effort) = (offer.id, offer.leases.clone(), offer.effort);
            Some(Self { id, target, leases, effort })
        };
        descriptor.offers.iter().filter_map(of).collect()
    }
}

/// What a client knows of the routers that it could talk to instead.
#[derive(Debug, Default)]
pub(super) struct Others {
    /// With whom it talks.
    at: Option<OfferId>,
    offers: Vec<SessionOffer>,
    /// How many attempts had failed when it last turned.
    turned: u32,
    /// Since when the session has had no path that works.
    lost: Option<Time>,
}

impl Client {
    /// What the service's routers offer, new or again; none of them is without leases.
    pub(in crate::session) fn descriptor(&mut self, mut offers: Vec<SessionOffer>) {
        self.asked_descriptor = false;
        self.refused = false;
        let same = offers.iter().position(|offer| Some(offer.id) == self.others.at);
        if same.is_none() && self.live.is_some() {
            // Its router is named no more, and still carries the session.
            self.others.offers = offers;
            return;
        }
        let any = usize::try_from(self.rng.below(offers.len().max(1) as u64)).unwrap_or(0);
        let at = same.unwrap_or(any);
        if at >= offers.len() {
            return;
        }
        let offer = offers.swap_remove(at);
        self.others.offers = offers;
        if same.is_none() && self.others.at.is_some() {
            self.end_session(ResetReason::SessionLost);
        }
        if self.take(offer) {
            (self.failures, self.others.turned) = (0, 0);
        }
        self.retry_at = Time::ZERO;
    }

    /// Talks to this router from now on; whether it has a gateway that is news.
    fn take(&mut self, offer: SessionOffer) -> bool {
        let SessionOffer { id, target, leases, effort } = offer;
        let effort = effort.min(EFFORT_MAX);
        if effort != self.asked_effort {
            (self.asked_effort, self.effort) = (effort, effort);
        }
        self.others.at = Some(id);
        self.target = Some(target);
        self.leases.replace(leases)
    }

    /// There is no descriptor to be had: whoever waits is told why.
    pub(in crate::session) fn unreachable(&mut self, reason: ResetReason) {
        self.asked_descriptor = false;
        if self.target.is_some() {
            // No newer one: what is known is tried again.
            self.leases.forgive();
        } else if self.live.is_none() {
            self.end_session(reason);
        }
    }

    /// The service was withdrawn: whoever waits need not.
    pub(in crate::session) fn withdrawn(&mut self) {
        self.asked_descriptor = false;
        self.target = None;
        self.leases = Leases::default();
        self.others = Others::default();
        self.end_session(ResetReason::Unreachable);
    }

    /// Turns to another router of the service if this one does not answer.
    pub(super) fn turn(&mut self, now: Time) {
        let works = self.live.as_ref().is_some_and(|live| !live.silent);
        if works
            || !self.conversation.wants_path()
            || self.others.offers.is_empty()
            || self.target.is_none()
        {
            self.others.lost = None;
            return;
        }
        let due = if self.session.is_some() {
            let due = *self.others.lost.get_or_insert(now) + TURN_AFTER;
            self.timer = earlier(self.timer, Some(due).filter(|due| now < *due));
            now >= due
        } else {
            self.failures > self.others.turned
        };
        if !due {
            return;
        }
        let next = self.others.offers.remove(0);
        if let (Some(id), Some(target)) = (self.others.at, self.target.take()) {
            let leases = self.leases.all();
            self.others.offers.push(SessionOffer { id, target, leases, effort: self.asked_effort });
        }
        if self.session.is_some() {
            self.end_session(ResetReason::SessionLost);
        } else {
            self.close_attempts(|_| false);
        }
        (self.others.turned, self.others.lost) = (self.failures, None);
        self.leases = Leases::default();
        self.take(next);
        tracing::debug!("turned to another router of the service");
    }
}
