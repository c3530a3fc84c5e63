//! What must never happen, seen from outside.
//!
//! Lives here: the invariants of a network of honest routers, looked at once a second of simulated
//! time and at the end. Does not live here: what wires do (`net.rs`), what a test demands
//! (`scenario.rs`).
//!
//! | oracle | what it says |
//! |---|---|
//! | bytes | what a client reads is what the service wrote: none lost, doubled or changed |
//! | honesty | nobody is cut off for sending what no router sends: a frame that does not open, a cell too many, a cell that does not decrypt at its end hop |
//! | credits | what one side may send is what the other has granted, wherever a link is quiet |
//! | quota | the windows of a router's lanes are what its quota has given |
//! | lanes | a tunnel ends on both sides of a link: no lane is on one side only for half a minute |
//! | bounds | links and queued cells stay below their limits |
//! | hanging | a wish ends, well or not: none waits five minutes without a byte |
//! | healing | when all faults are over, who lives gets ready and reaches every service (`run/heal.rs`) |
//!
//! The last two are about liveness, all others about safety.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use warren_overlay::{
    id::{LinkNo, TunnelId},
    link::LaneBalance,
    plane::Lane,
    time::Time,
};

use crate::{
    apps::Outcome,
    net::{HostNo, Net},
    world::World,
};

/// How long a lane may be on one side only: opening and closing take a few round trips.
const LANE_LIMIT: Duration = Duration::from_secs(30);
/// How long a wish may wait without a byte.
const HANG_LIMIT: Duration = Duration::from_mins(5);
/// Links of a router; its own limit.
const LINKS_MAX: usize = 1_024;
/// Cells that a lane may queue: what its feeders may send, and an end's feed window.
const QUEUED_MAX: usize = 4_096 + 128;
/// Violations that are kept: the first tell most.
const VIOLATIONS_MAX: usize = 16;

/// Something that must never happen.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Violation {
    /// Which oracle spoke.
    pub oracle: &'static str,
    /// Whether something bad happened, rather than something good not.
    pub safety: bool,
    /// When, in microseconds.
    pub at_us: u64,
    /// At which router.
    pub router: HostNo,
    /// What was seen.
    pub what: String,
}

type LaneAt = (HostNo, LinkNo, TunnelId);

/// Looks at one run.
#[derive(Debug)]
pub(crate) struct Oracle {
    /// Messages between the parts of a router take time: what is on its way cannot be seen.
    deferred: bool,
    /// Since when a lane is on one side only.
    single: BTreeMap<LaneAt, Time>,
    offences: BTreeMap<HostNo, u64>,
    told: BTreeSet<(&'static str, HostNo)>,
    /// Wishes before this one are over.
    pending: usize,
    violations: Vec<Violation>,
}

impl Oracle {
    pub(crate) fn new(deferred: bool) -> Self {
        Self {
            deferred,
            single: BTreeMap::new(),
            offences: BTreeMap::new(),
            told: BTreeSet::new(),
            pending: 0,
            violations: Vec::new(),
        }
    }

    /// What was seen so far.
    pub(crate) fn take(&mut self) -> Vec<Violation> {
        std::mem::take(&mut self.violations)
    }

    /// Looks at everything that can be seen at any moment.
    pub(crate) fn look(&mut self, world: &World) {
        self.routers(&world.net);
        self.links(&world.net);
        self.wishes(world);
    }

    /// Tells of each kind of violation once per router.
    pub(crate) fn tell(
        &mut self,
        oracle: &'static str,
        safety: bool,
        (at, router): (Time, HostNo),
        what: String,
    ) {
        if self.violations.len() < VIOLATIONS_MAX && self.told.insert((oracle, router)) {
            self.violations.push(Violation { oracle, safety, at_us: at.as_micros(), router, what });
        }
    }

    fn routers(&mut self, net: &Net) {
        let now = net.time();
        for (no, host) in net.hosts() {
            // Where parts are late, a cell can be before the opening of its lane: the tunnel ends.
            let broken = if self.deferred { 0 } else { host.tunnels_broken() };
            let offences = host.offences() + broken;
            // A router that starts again counts from zero.
            let before = self.offences.insert(no, offences).unwrap_or(0);
            if offences > before {
                let what = "a peer sent what no router sends".into();
                self.tell("honesty", true, (now, no), what);
            }
            let (mut links, mut windows) = (0, 0);
            for (_, io) in host.links() {
                links += 1;
                let lanes =
                    io.balances().inspect(|(_, it)| windows += u64::from(it.window)).count();
                let queued = io.queued_cells();
                if queued > lanes.saturating_mul(QUEUED_MAX) {
                    self.tell("bounds", true, (now, no), format!("{queued} cells wait on a link"));
                }
            }
            if links > LINKS_MAX {
                self.tell("bounds", true, (now, no), format!("{links} links"));
            }
            let taken = host.credits_taken();
            if taken != windows {
                let what = format!("windows of {windows} cells, but the quota gave {taken}");
                self.tell("quota", true, (now, no), what);
            }
        }
    }

    fn links(&mut self, net: &Net) {
        if self.deferred {
            return;
        }
        let now = net.time();
        let balances = |(no, link): (HostNo, LinkNo)| -> Option<BTreeMap<TunnelId, LaneBalance>> {
            let io = net.host(no)?.links().find(|(it, _)| *it == link)?.1;
            (!io.wants_transmit()).then(|| io.balances().collect())
        };
        let mut single = BTreeMap::new();
        for (sides, quiet) in net.connections() {
            let [Some(a), Some(b)] = sides.map(balances) else { continue };
            if !quiet {
                // Nothing can be said now; what was single before may still be.
                for (side, (no, link)) in [&a, &b].into_iter().zip(sides) {
                    for tunnel in side.keys() {
                        let key = (no, link, *tunnel);
                        single.extend(self.single.get(&key).map(|since| (key, *since)));
                    }
                }
                continue;
            }
            for ((mine, theirs), (no, link)) in [(&a, &b), (&b, &a)].into_iter().zip(sides) {
                for (tunnel, balance) in mine {
                    let Some(other) = theirs.get(tunnel) else {
                        let key = (no, link, *tunnel);
                        single.insert(key, self.single.get(&key).copied().unwrap_or(now));
                        continue;
                    };
                    if balance.granted != other.allowed {
                        let (granted, allowed) = (balance.granted, other.allowed);
                        let what = format!("{granted} cells granted, {allowed} allowed");
                        self.tell("credits", true, (now, no), what);
                    }
                }
            }
        }
        self.single = single;
        let old = |since: &Time| now.since(*since) >= LANE_LIMIT;
        let old: Vec<_> =
            self.single.iter().filter(|(_, since)| old(since)).map(|it| *it.0).collect();
        for (no, link, tunnel) in old {
            let io = net.host(no).and_then(|host| host.links().find(|(it, _)| *it == link));
            let lane = io.and_then(|(_, io)| io.lanes().find(|(it, ..)| *it == tunnel));
            let kind = match lane.map(|(_, lane, _)| lane) {
                Some(Lane::Transit { .. }) => "a transit lane",
                Some(Lane::ToEnd { .. }) => "an owner's lane",
                Some(Lane::EndHop(_)) => "an end hop's lane",
                Some(Lane::Leg { .. }) => "a splice leg",
                None => "a lane",
            };
            let what = format!("{kind} on link {} is on one side only", link.0);
            self.tell("lanes", true, (now, no), what);
        }
    }

    fn wishes(&mut self, world: &World) {
        let now = world.net.time();
        let fetches = world.fetches();
        let mut first = fetches.len();
        for (index, fetch) in fetches.iter().enumerate().skip(self.pending) {
            match fetch.outcome {
                Outcome::Wrong => {
                    let what = format!("wish {index}: what came is not what was sent");
                    self.tell("bytes", true, (now, fetch.host), what);
                }
                Outcome::Pending => {
                    first = first.min(index);
                    if now.since(fetch.last) > HANG_LIMIT && !world.net.is_asleep(fetch.host) {
                        let what = format!("wish {index} hangs");
                        self.tell("hanging", false, (now, fetch.host), what);
                    }
                }
                Outcome::Done | Outcome::Failed(_) | Outcome::Cut => {}
            }
        }
        self.pending = first;
    }
}
