//! What is left when nobody wants anything any more: nothing.
//!
//! Lives here: bytes that a router still keeps, and halves of tunnels whose other half is gone. Does
//! not live here: waiting until all is quiet (`run/heal.rs`), lanes on one side of a link only
//! (`oracle.rs`).
//!
//! Together with the oracle of lanes this follows a tunnel over all its links: a lane is on both sides
//! of its link, and in each router it leads on to a lane that leads back, to an end hop or to its owner.

use std::collections::BTreeSet;

use warren_overlay::{
    id::{LinkNo, TunnelId},
    plane::Lane,
};
use warren_router::host::Host;

use super::{LaneAt, Oracle};
use crate::net::{HostNo, Net};

/// Less may be kept at any time: the last frames of sessions by which services look at themselves.
const KEPT_MIN: usize = 1_024;

/// What must not stay as it is.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// Lanes that lead to a lane that is not there, or does not lead back.
    halves: BTreeSet<LaneAt>,
    /// Routers that keep something for somebody.
    keepers: BTreeSet<HostNo>,
}

impl Left {
    /// What is there now.
    pub(crate) fn of(net: &Net) -> Self {
        let halves = |(no, host)| of(host).map(move |(link, lane)| (no, link, lane));
        let keepers = net.hosts().filter(|(_, host)| kept(host) >= KEPT_MIN).map(|(no, _)| no);
        Self { halves: net.hosts().flat_map(halves).collect(), keepers: keepers.collect() }
    }
}

/// Bytes that wait for somebody; what a link has ready for the next cells does not.
fn kept(host: &Host) -> usize {
    let spare: usize = host.links().map(|(_, io)| io.spare_bytes()).sum();
    host.memory_held() - spare
}

fn of(host: &Host) -> impl Iterator<Item = (LinkNo, TunnelId)> {
    let lanes = host.links().flat_map(|(no, io)| io.lanes().map(move |(id, it, _)| (no, id, it)));
    let half = move |(link, id, lane): &(LinkNo, TunnelId, &Lane)| {
        let other = |to: LinkNo, tunnel: TunnelId| {
            host.link(to)?.lanes().find(|(it, ..)| *it == tunnel).map(|(_, it, _)| it)
        };
        match lane {
            Lane::Transit { to, tunnel, .. } => !matches!(
                other(*to, *tunnel),
                Some(Lane::Transit { to, tunnel, .. }) if (to, tunnel) == (link, id)
            ),
            Lane::Leg { to, tunnel, .. } => !matches!(other(*to, *tunnel), Some(Lane::EndHop(_))),
            Lane::ToEnd { .. } | Lane::EndHop(_) => false,
        }
    };
    lanes.filter(half).map(|(link, id, _)| (link, id))
}

impl Oracle {
    /// Looks at a network that has been quiet for long; `before` is what was left some time ago.
    pub(crate) fn leaks(&mut self, net: &Net, before: &Left) {
        let (now, left) = (net.time(), Left::of(net));
        for (no, link, _) in left.halves.intersection(&before.halves) {
            let what = format!("half a tunnel on link {}: what it leads to is gone", link.0);
            self.tell("leaks", true, (now, *no), what);
        }
        for no in left.keepers.intersection(&before.keepers) {
            let bytes = net.host(*no).map_or(0, kept);
            let what = format!("{bytes} bytes wait for nobody");
            self.tell("leaks", true, (now, *no), what);
        }
    }
}
