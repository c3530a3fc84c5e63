//! What must never happen, seen from outside.
//!
//! Lives here: the invariants of a network of honest routers: those of one router (honesty, quota,
//! bounds) after each event at it, in networks of up to a hundred; all of them once a second of
//! simulated time (in larger networks of a twentieth of the routers and links each time, in turn) and
//! at the end. Does not live here: what wires do (`net.rs`), what a test demands (`scenario.rs`).
//!
//! | oracle | what it says |
//! |---|---|
//! | bytes | what a client reads is what the service wrote: none lost, doubled or changed |
//! | honesty | nobody is cut off for sending what no router sends: a frame that does not open, a cell too many, a cell that does not decrypt at its end hop, a session that resumes where it is not |
//! | credits | what one side may send is what the other has granted, wherever a link is quiet |
//! | quota | the windows of a router's lanes are what its quota has given |
//! | lanes | a tunnel ends on both sides of a link: no lane is on one side only for half a minute |
//! | bounds | links and queued cells stay below their limits |
//! | provenance | who is known, is known as he described himself; nobody dials an address that no router has |
//! | hanging | a wish ends, well or not: none waits five minutes without a byte |
//! | leaks | when nobody has wanted anything for a while, nothing is kept for anybody, and no tunnel is half (`oracle/leaks.rs`) |
//! | healing | when all faults are over, who lives gets ready and reaches every service (`run/heal.rs`) |
//!
//! Hanging and healing are about liveness, all others about safety.

mod leaks;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use warren_overlay::{
    id::{LinkNo, TunnelId},
    link::LaneBalance,
    plane::Lane,
    time::Time,
};
use warren_router::host::Host;

pub(crate) use self::leaks::Left;
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
/// Larger networks are looked at in parts, a part each second: looking must cost little beside running.
const WHOLE_MAX: u32 = 100;
/// In so many, so that each link comes up every twenty seconds.
const PARTS: usize = 20;
/// Violations that are kept: the first tell most.
const VIOLATIONS_MAX: usize = 16;

/// Something that must never happen.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct Violation {
    /// Which oracle spoke.
    pub oracle: Cow<'static, str>,
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
    /// A large network is looked at in parts, one each time.
    parts: usize,
    part: usize,
    /// Whose knowledge was looked at last.
    turn: HostNo,
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
            parts: 1,
            part: 0,
            turn: 0,
            violations: Vec::new(),
        }
    }

    /// What was seen so far.
    pub(crate) fn take(&mut self) -> Vec<Violation> {
        std::mem::take(&mut self.violations)
    }

    /// Looks at everything that can be seen at any moment.
    pub(crate) fn look(&mut self, world: &World) {
        self.parts = if world.net.len() > WHOLE_MAX { PARTS } else { 1 };
        self.part = (self.part + 1) % self.parts;
        self.routers(&world.net);
        self.links(&world.net);
        self.provenance(world);
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
            let oracle = oracle.into();
            self.violations.push(Violation { oracle, safety, at_us: at.as_micros(), router, what });
        }
    }

    /// Looks at a router after something happened at it.
    pub(crate) fn event(&mut self, net: &Net, no: HostNo) {
        if let Some(host) = net.host(no) {
            self.router(net.time(), no, host);
        }
    }

    fn routers(&mut self, net: &Net) {
        for (no, host) in net.hosts().skip(self.part).step_by(self.parts) {
            self.router(net.time(), no, host);
        }
    }

    fn router(&mut self, now: Time, no: HostNo, host: &Host) {
        // Where parts are late, a cell can be before the opening of its lane: the tunnel ends.
        let broken = if self.deferred { 0 } else { host.tunnels_broken() };
        let offences = host.offences() + host.sessions_broken() + broken;
        // A router that starts again counts from zero.
        let before = self.offences.insert(no, offences).unwrap_or(0);
        if offences > before {
            let what = "a peer sent what no router sends".into();
            self.tell("honesty", true, (now, no), what);
        }
        let (mut links, mut windows) = (0, 0);
        for (_, io) in host.links() {
            links += 1;
            let lanes = io.balances().inspect(|(_, it)| windows += u64::from(it.window)).count();
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

    /// One router each time, in turn: what it knows of others is what they said.
    fn provenance(&mut self, world: &World) {
        let now = world.net.time();
        for no in world.net.strangers() {
            self.tell("provenance", true, (now, no), "dials an address where no router is".into());
        }
        self.turn = (self.turn + 1) % world.net.len().max(1);
        let Some(host) = world.net.host(self.turn) else { return };
        let ring = host.node_ref().ring();
        let known = ring.view().chain(ring.neighbours());
        let peers = host.links().map(|(_, io)| io.peer());
        if !known.chain(peers).all(|it| world.author(it).is_some()) {
            let what = "knows of a router what that never said".into();
            self.tell("provenance", true, (now, self.turn), what);
        }
    }

    fn links(&mut self, net: &Net) {
        if self.deferred {
            return;
        }
        let now = net.time();
        let balances = |(no, link): (HostNo, LinkNo)| -> Option<BTreeMap<TunnelId, LaneBalance>> {
            let io = net.host(no)?.link(link)?;
            (!io.wants_transmit()).then(|| io.balances().collect())
        };
        for (sides, quiet) in net.connections().skip(self.part).step_by(self.parts) {
            // Where something is under way nothing can be said now; what was single may still be.
            let [Some(a), Some(b)] = sides.map(|side| quiet.then(|| balances(side)).flatten())
            else {
                continue;
            };
            for ((mine, theirs), (no, link)) in [(&a, &b), (&b, &a)].into_iter().zip(sides) {
                self.single.retain(|(n, l, tunnel), _| {
                    (*n, *l) != (no, link)
                        || mine.contains_key(tunnel) && !theirs.contains_key(tunnel)
                });
                for (tunnel, balance) in mine {
                    let Some(other) = theirs.get(tunnel) else {
                        self.single.entry((no, link, *tunnel)).or_insert(now);
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
        self.single_lanes(net);
    }

    /// Tells of lanes that have been on one side for too long.
    fn single_lanes(&mut self, net: &Net) {
        let now = net.time();
        let lane = |(no, link, tunnel): LaneAt| {
            net.host(no)?.link(link)?.lanes().find(|(it, ..)| *it == tunnel).map(|(_, it, _)| it)
        };
        self.single.retain(|at, _| lane(*at).is_some());
        let old = |since: &Time| now.since(*since) >= LANE_LIMIT;
        let old: Vec<_> =
            self.single.iter().filter(|(_, since)| old(since)).map(|it| *it.0).collect();
        for at in old {
            let kind = match lane(at) {
                Some(Lane::Transit { .. }) => "a transit lane",
                Some(Lane::ToEnd { .. }) => "an owner's lane",
                Some(Lane::EndHop(_)) => "an end hop's lane",
                Some(Lane::Leg { .. }) => "a splice leg",
                None => "a lane",
            };
            let what = format!("{kind} on link {} is on one side only", at.1.0);
            self.tell("lanes", true, (now, at.0), what);
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
