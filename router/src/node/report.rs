//! How a node is: numbers and a verdict in words.
//!
//! Lives here: asking the node's parts and saying it. Does not live here: anything that changes them.

use std::time::Duration;

use warren_overlay::{
    id::EndNo,
    ring::{UpkeepStatus, admission::NetworkName},
    service::{Lease, Name},
    time::{Now, Time},
    tunnel::guards::Verdict,
};

use super::{Node, ServiceState};
use crate::status::{ServiceStatus, Status};

/// What a router that carries nothing for others says of itself.
const CLIENT_ONLY: &str = " It carries no tunnels of others: whoever watches its line knows that all \
                           of its traffic is its owner's.";
/// What a guest says of itself.
const GUEST: &str = " Nobody can dial it: it takes part through the links that it opens, and carries \
                     nothing for others, so whoever watches its line knows that all of its traffic is \
                     its owner's. `warren doctor` says what to do.";

impl Node {
    /// How the node is.
    pub fn status(&self, now: Now) -> Status {
        let ring = self.ring.status();
        let pools = self.pools.status();
        let transit = self.transit.status();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        // Ready: min(10, N-1) neighbours, or every one there is; and a client tunnel. Others go on naming who
        // is gone until its descriptor expires.
        let there = ring.known.saturating_sub(ring.doubtful);
        let enough = ring.neighbours >= 10.min(ring.degree).min(there);
        let ready = ring.joined
            && enough
            && ring.known > usize::from(self.hops)
            && pools.stock + pools.held > 0;
        // A path's hops, and somebody else to talk to.
        let others_needed = usize::from(self.hops) + 1;
        let guard_fails = self
            .pools
            .guards()
            .list()
            .iter()
            .any(|guard| self.pools.guards().verdict(guard.id) != Verdict::Well);
        let alone = match (self.descriptor.address(), self.descriptor.carries()) {
            (None, _) => GUEST,
            (Some(_), false) => CLIENT_ONLY,
            (Some(_), true) => "",
        };
        let verdict = if ring.known == 0 && self.descriptor.address().is_none() {
            "Alone: no other router is known, and others cannot dial this one. `warren join LINE` \
             enters a network. To begin one, name a public address with link.announce, or make it \
             for one house or lab with `warren init --local`."
                .to_owned()
        } else if ring.known == 0 {
            "Alone: no other router is known. `warren invite` prints a line for the next router, \
             `warren join LINE` uses one."
                .to_owned()
        } else if ring.known < others_needed {
            format!(
                "Too few routers for {} hops: have {}, need {}. It will go on by itself when more \
                 have joined.",
                self.hops,
                ring.known + 1,
                others_needed + 1
            )
        } else if ready && self.relaxed {
            format!(
                "Ready, but the anonymity set is too small: {} routers known.{alone}",
                ring.known
            )
        } else if ready {
            format!("Ready: {} neighbours, {} tunnels.{alone}", ring.neighbours, pools.stock)
        } else if !ring.joined {
            "Joining the ring.".to_owned()
        } else if !enough {
            format!("Looking for neighbours: {} so far.", ring.neighbours)
        } else {
            "Building the first tunnel.".to_owned()
        };
        let verdict = match self.membership.words(now.wall) {
            Some(words) => format!("{verdict} {words}"),
            None => verdict,
        };
        let address = self.descriptor.address();
        let (came, failed) = self.reach.evidence();
        let upkeep = self.upkeep();
        Status {
            ready,
            verdict,
            uptime_s: now.time.since(self.started).as_secs(),
            neighbours: count(ring.neighbours),
            links: count(self.links.up_links().count()),
            known_routers: count(ring.known),
            tunnels_ready: count(pools.stock),
            tunnels_used: count(pools.held),
            tunnels_transit: count(transit.tunnels),
            transit: self.descriptor.carries() && address.is_some(),
            reach: self.reach.word().into(),
            reach_words: self.reach.words(now.time),
            reach_came: count(came),
            reach_failed: count(failed),
            address: address.map_or_else(String::new, |it| it.socket().to_string()),
            links_limit: count(self.links.max()),
            builds_waiting: count(transit.waiting),
            builds_accepted: transit.accepted,
            builds_refused: transit.refused_early + transit.refused_unopened,
            bandwidth_kbps: self.descriptor.fields().bandwidth_kbps,
            asked_after: upkeep.asked,
            asked_after_found: upkeep.found,
            called_gone: upkeep.gone,
            records_held: self.holder.len(),
            blocks_held: self.holder.status().blocks,
            contexts: count(self.contexts.len()),
            services: count(self.services.len()),
            anonymity_set_small: self.relaxed,
            guard_fails,
            network: match &self.network.name {
                NetworkName::Named(name) => name.clone(),
                NetworkName::Random(_) => "private".into(),
            },
            version: env!("CARGO_PKG_VERSION").into(),
            ..Status::default()
        }
    }

    /// What asking after sampled and kept routers came to.
    pub fn upkeep(&self) -> UpkeepStatus {
        self.inquiries.status()
    }

    /// What a service publishes of itself: its leases, and what clients are to spend for a turn.
    pub fn offers(&self, end: EndNo) -> Option<(&[Lease], u32)> {
        self.services.offers(end)
    }

    /// How a service is.
    pub fn service(&self, end: EndNo) -> Option<ServiceState> {
        self.services.state(end)
    }

    /// How long after it began each part of a conversation's way to its service was done, as far as it
    /// came: a tunnel, the descriptor, a gateway, the session. Empty for one that began long ago.
    pub fn way(&self, end: EndNo) -> Vec<Duration> {
        self.contexts.way(end)
    }
}

/// What `warren services` shows, from the parts that know.
pub fn service_status(
    label: String,
    name: &Name,
    target: String,
    state: Option<ServiceState>,
    now: Time,
) -> ServiceStatus {
    let service = ServiceStatus { label, name: name.to_string(), target, ..Default::default() };
    let Some(state) = state else { return service };
    let ServiceState { gateways, published, reachable, others, stands_by } = state;
    let reachable_s = reachable.map(|since| now.since(since).as_secs());
    ServiceStatus { gateways, published, reachable_s, others, stands_by, ..service }
}
