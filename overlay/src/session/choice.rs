//! Which tunnel and which lease the next path takes.
//!
//! Lives here: what a client knows of its tunnels and of the service's leases, and the choice
//! between them. Does not live here: building tunnels (`tunnel/`), reading descriptors (`service/`).

use std::collections::BTreeMap;

use super::probe::Probe;
use crate::{
    garlic::OwnTunnelName, id::RouterId, rng::Rng, service::Lease, time::Time, wire::Address,
};

/// Tunnels of one client: what it uses, a spare, and those that are being replaced.
const TUNNELS_MAX: usize = 16;

/// The routers of a tunnel, first hop first; so that no path runs through its own gateway.
#[derive(Clone, Default)]
pub struct Route {
    /// Each hop's identity and address.
    pub hops: Vec<(RouterId, Address)>,
}

impl Route {
    /// The gateway itself is a hop: a router cannot be spliced to itself, and would see both sides.
    fn holds(&self, lease: &Lease) -> bool {
        self.hops.iter().any(|(id, _)| *id == lease.gateway)
    }

    /// A hop is in the gateway's address range (PROTOCOL P11).
    fn is_near(&self, lease: &Lease) -> bool {
        self.hops.iter().any(|(_, address)| address.prefix() == lease.address.prefix())
    }
}

/// Mute: it says who carries whom.
impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Route({})", self.hops.len())
    }
}

#[derive(Debug)]
struct Tunnel {
    route: Route,
    retiring: bool,
    suspect: bool,
    /// Its first hop gives no sign of life.
    quiet: bool,
    probe: Probe,
}

impl Tunnel {
    /// Taken only if there is no other.
    fn doubtful(&self, now: Time) -> bool {
        self.suspect || self.quiet || self.probe.is_mute(now)
    }
}

/// The tunnels of one client.
#[derive(Debug, Default)]
pub(super) struct Tunnels(BTreeMap<OwnTunnelName, Tunnel>);

impl Tunnels {
    /// A tunnel is ready. False if there are too many.
    pub(super) fn add(&mut self, name: OwnTunnelName, route: Route) -> bool {
        if self.0.len() >= TUNNELS_MAX {
            return false;
        }
        self.0.insert(
            name,
            Tunnel { route, retiring: false, suspect: false, quiet: false, probe: Probe::None },
        );
        true
    }

    /// A tunnel is gone.
    pub(super) fn remove(&mut self, name: OwnTunnelName) {
        self.0.remove(&name);
    }

    /// No new path goes there.
    pub(super) fn retire(&mut self, name: OwnTunnelName) {
        if let Some(tunnel) = self.0.get_mut(&name) {
            tunnel.retiring = true;
        }
    }

    /// Its first hop gives no sign of life, or does again.
    pub(super) fn quiet(&mut self, name: OwnTunnelName, quiet: bool) {
        if let Some(tunnel) = self.0.get_mut(&name) {
            tunnel.quiet = quiet;
        }
    }

    /// Those whose end hops are to be asked now: all that have not answered since `known`, nor are
    /// being asked.
    pub(super) fn probe(&mut self, now: Time, known: Time) -> Vec<OwnTunnelName> {
        let tunnels = self.0.iter_mut();
        let asked = tunnels.filter_map(|(name, it)| it.probe.ask(now, known).then_some(*name));
        asked.collect()
    }

    /// Its end hop answered.
    pub(super) fn answered(&mut self, now: Time, name: OwnTunnelName) {
        if let Some(tunnel) = self.0.get_mut(&name) {
            tunnel.probe.answered(now);
        }
    }

    /// When the next of them becomes doubtful because it does not answer.
    pub(super) fn doubts_at(&self, now: Time) -> Option<Time> {
        self.0.values().filter_map(|tunnel| tunnel.probe.due(now)).min()
    }

    /// Whether its end hop was asked and has not answered.
    pub(super) fn is_mute(&self, name: OwnTunnelName) -> bool {
        self.0.get(&name).is_some_and(|tunnel| tunnel.probe.is_open())
    }

    /// Whether it is taken only if there is no other.
    pub(super) fn is_doubtful(&self, now: Time, name: OwnTunnelName) -> bool {
        self.0.get(&name).is_some_and(|tunnel| tunnel.doubtful(now))
    }

    /// Whether a path should leave it.
    pub(super) fn is_retiring(&self, name: OwnTunnelName) -> bool {
        self.0.get(&name).is_some_and(|tunnel| tunnel.retiring)
    }

    /// Taken only if there is no other; true if that is news.
    pub(super) fn suspect(&mut self, name: OwnTunnelName) -> bool {
        self.0.get_mut(&name).is_some_and(|tunnel| !std::mem::replace(&mut tunnel.suspect, true))
    }

    /// It works.
    pub(super) fn trust(&mut self, name: OwnTunnelName) {
        if let Some(tunnel) = self.0.get_mut(&name) {
            tunnel.suspect = false;
        }
    }

    /// How many may be counted on.
    pub(super) fn good(&self, now: Time) -> usize {
        self.0.values().filter(|tunnel| !tunnel.retiring && !tunnel.doubtful(now)).count()
    }

    /// How many are the last choice.
    pub(super) fn doubtful(&self, now: Time) -> usize {
        self.0.values().filter(|tunnel| !tunnel.retiring && tunnel.doubtful(now)).count()
    }

    /// Retiring ones that nobody uses; they are forgotten here.
    pub(super) fn take_free(
        &mut self,
        in_use: impl Fn(OwnTunnelName) -> bool,
    ) -> Vec<OwnTunnelName> {
        let free = self.0.iter().filter(|(name, tunnel)| tunnel.retiring && !in_use(**name));
        let free: Vec<_> = free.map(|(name, _)| *name).collect();
        for name in &free {
            self.0.remove(name);
        }
        free
    }

    /// Some tunnel for a request: the trusted first, then the one with the fewest `waiting` for an
    /// answer, so that what is asked of several does not hang on one.
    pub(super) fn any(
        &self,
        now: Time,
        rng: &mut Rng,
        waiting: impl Fn(OwnTunnelName) -> usize,
    ) -> Option<OwnTunnelName> {
        let tunnels = self.0.iter().map(|(name, tunnel)| {
            let trust = (tunnel.retiring, tunnel.doubtful(now), tunnel.probe.is_open());
            ((trust, waiting(*name)), *name)
        });
        least(rng, tunnels)
    }
}

/// The service's leases, and which of them failed.
#[derive(Debug, Default)]
pub(super) struct Leases(Vec<(Lease, bool)>);

impl Leases {
    /// A descriptor came: those that failed come after new ones. True if there is a new one.
    pub(super) fn replace(&mut self, leases: Vec<Lease>) -> bool {
        let failed = |lease: &Lease| self.0.iter().find(|(old, _)| old == lease).map(|old| old.1);
        let news = leases.iter().any(|lease| failed(lease).is_none());
        let leases = leases.into_iter().map(|lease| (lease, failed(&lease) == Some(true)));
        self.0 = leases.collect();
        if self.all_failed() {
            self.forgive();
        }
        news
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Lease> {
        self.0.iter().map(|(lease, _)| *lease).collect()
    }

    /// All are good again, for what one tunnel cannot reach another can.
    pub(super) fn forgive(&mut self) {
        for (_, failed) in &mut self.0 {
            *failed = false;
        }
    }

    /// No path came about through it, or it broke.
    pub(super) fn failed(&mut self, gateway: RouterId) {
        for (lease, failed) in &mut self.0 {
            *failed |= lease.gateway == gateway;
        }
    }

    /// Whether there is none left to try.
    pub(super) fn all_failed(&self) -> bool {
        self.0.iter().all(|(_, failed)| *failed)
    }
}

/// What the last path used and why the next should differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Avoid {
    pub(super) tunnel: OwnTunnelName,
    pub(super) gateway: RouterId,
}

/// A tunnel and a lease for the next path, at random among the best.
///
/// Never a tunnel through the gateway, nor a pair that an attempt in `running` has. Then, worst
/// first: a hop in the gateway's address range (a network may be too small for that rule), a
/// retiring tunnel, a doubtful one, the very pair to be avoided; then each use of the gateway, and of
/// the tunnel.
pub(super) fn choose(
    now: Time,
    rng: &mut Rng,
    tunnels: &Tunnels,
    leases: &Leases,
    avoid: Option<Avoid>,
    running: &[Avoid],
) -> Option<(OwnTunnelName, Lease)> {
    let pairs = leases.0.iter().filter(|(_, failed)| !failed).flat_map(|(lease, _)| {
        // What went through a tunnel that does not answer says nothing of the gateway.
        let told = |via: &&Avoid| !tunnels.is_doubtful(now, via.tunnel);
        let uses = running.iter().filter(told).chain(&avoid);
        let gateway: u32 = uses.filter(|via| via.gateway == lease.gateway).map(|_| 4).sum();
        let usable = tunnels.0.iter().filter(|(name, tunnel)| {
            let via = Avoid { tunnel: **name, gateway: lease.gateway };
            !tunnel.route.holds(lease) && !running.contains(&via)
        });
        usable.map(move |(name, tunnel)| {
            let uses = running.iter().chain(&avoid).filter(|via| via.tunnel == *name).map(|_| 2);
            let via = Avoid { tunnel: *name, gateway: lease.gateway };
            let cost = u32::from(tunnel.route.is_near(lease)) * 256
                + u32::from(tunnel.retiring) * 128
                + u32::from(tunnel.doubtful(now)) * 64
                + u32::from(avoid == Some(via)) * 32
                + uses.sum::<u32>()
                + gateway;
            (cost, (*name, *lease))
        })
    });
    least(rng, pairs)
}

/// One of those with the least cost, at random.
fn least<C: Ord, T>(rng: &mut Rng, all: impl Iterator<Item = (C, T)>) -> Option<T> {
    let mut best: Option<(C, T)> = None;
    let mut ties = 1;
    for (cost, item) in all {
        match &best {
            Some((least, _)) if cost > *least => {}
            Some((least, _)) if cost == *least => {
                ties += 1;
                if rng.below(ties) == 0 {
                    best = Some((cost, item));
                }
            }
            _ => {
                ties = 1;
                best = Some((cost, item));
            }
        }
    }
    best.map(|(_, item)| item)
}
