//! A service's gateway tunnels and the leases that their end hops gave it.
//!
//! Lives here: asking for a lease on each, and which leases are to be published. Does not live
//! here: publishing (`service/`), building the tunnels (`tunnel/`).
//!
//! ```text
//!  tunnel --LeaseRequest--> asked --LeaseGranted--> published --retired, gone--> not published
//!                             '----LeaseRefused---> failed
//! ```

use std::{collections::BTreeMap, time::Duration};

use super::{
    effort::Effort,
    probe::{PROBE_TIME, Probe},
    watch::earlier,
};
use crate::{
    garlic::{Clove, OwnTunnelName, Rate},
    rng::Rng,
    service::{LEASES_MAX, Lease},
    time::Time,
    wire::Contact,
};

/// Set in the numbers of requests that an `End` makes for itself: leases, probes.
pub(super) const OWN_REQUEST: u32 = 1 << 31;
/// Gateway tunnels of one service: those published, and as many that replace them.
const GATEWAYS_MAX: usize = 2 * LEASES_MAX;
/// How often they are asked at most, whatever clients do.
const PROBE_EVERY: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Gateway {
    contact: Contact,
    request: u32,
    lease: [u8; 16],
    splice_key: Option<[u8; 32]>,
    retiring: bool,
    /// Its tunnel gives no sign of life, or the first hop does not.
    quiet: bool,
    probe: Probe,
    /// It was told that it does not answer.
    mute: bool,
}

/// The gateways of one service.
#[derive(Debug, Default)]
pub(super) struct Gateways {
    tunnels: BTreeMap<OwnTunnelName, Gateway>,
    next_request: u32,
    published: Vec<Lease>,
    /// How many clients each lease lets in.
    rate: Rate,
    /// What they are asked to spend.
    pub(super) effort: Effort,
    /// Something happened since it was last looked at.
    touched: bool,
    /// When they were last asked whether they are there, and when the answers are due.
    probed_at: Option<Time>,
    judge_at: Option<Time>,
}

impl Gateways {
    /// None yet; each lets in clients at `rate`.
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, ..Self::default() }
    }

    /// A tunnel whose end hop, at `contact`, is to be a gateway: what to ask it. `None` if there are
    /// too many.
    pub(super) fn add(
        &mut self,
        rng: &mut Rng,
        tunnel: OwnTunnelName,
        contact: Contact,
    ) -> Option<Clove> {
        if self.tunnels.len() >= GATEWAYS_MAX {
            return None;
        }
        let request = OWN_REQUEST | self.next_request;
        self.next_request = self.next_request.wrapping_add(1) & !OWN_REQUEST;
        let lease = rng.bytes();
        self.touched = true;
        let gateway = Gateway {
            contact,
            request,
            lease,
            splice_key: None,
            retiring: false,
            quiet: false,
            probe: Probe::None,
            mute: false,
        };
        self.tunnels.insert(tunnel, gateway);
        Some(Clove::LeaseRequest { request, lease, rate: self.rate })
    }

    /// The end hop agreed. Later grants of the same request change nothing.
    pub(super) fn granted(&mut self, tunnel: OwnTunnelName, request: u32, splice_key: [u8; 32]) {
        if let Some(gateway) = self.tunnels.get_mut(&tunnel)
            && gateway.request == request
        {
            gateway.splice_key.get_or_insert(splice_key);
            self.touched = true;
        }
    }

    /// No new client is sent there.
    pub(super) fn retire(&mut self, tunnel: OwnTunnelName) {
        if let Some(gateway) = self.tunnels.get_mut(&tunnel) {
            gateway.retiring = true;
            self.touched = true;
        }
    }

    /// The tunnel gives no sign of life, or does again: others are named before it.
    pub(super) fn quiet(&mut self, tunnel: OwnTunnelName, quiet: bool) {
        if let Some(gateway) = self.tunnels.get_mut(&tunnel) {
            gateway.quiet = quiet;
            self.touched = true;
        }
    }

    /// The tunnel is gone.
    pub(super) fn remove(&mut self, tunnel: OwnTunnelName) {
        self.touched |= self.tunnels.remove(&tunnel).is_some();
    }

    /// Those whose end hops are to be asked now whether they are there: all, unless that was done a
    /// moment ago.
    pub(super) fn probe(&mut self, now: Time) -> Vec<OwnTunnelName> {
        if self.probed_at.is_some_and(|at| now < at + PROBE_EVERY) {
            return Vec::new();
        }
        self.probed_at = Some(now);
        self.judge_at = Some(now + PROBE_TIME);
        let tunnels = self.tunnels.iter_mut();
        let asked = tunnels.filter_map(|(name, it)| it.probe.ask(now, now).then_some(*name));
        asked.collect()
    }

    /// An end hop is there.
    pub(super) fn answered(&mut self, now: Time, tunnel: OwnTunnelName) {
        if let Some(gateway) = self.tunnels.get_mut(&tunnel) {
            gateway.probe.answered(now);
            // A late answer takes back what was said of it.
            self.judge_at = earlier(self.judge_at, self.probed_at.map(|at| at + PROBE_TIME));
        }
    }

    /// Those that turn out not to answer, and those that do so again.
    pub(super) fn judge(&mut self, now: Time) -> Vec<(OwnTunnelName, bool)> {
        if self.judge_at.take_if(|at| *at <= now).is_none() {
            return Vec::new();
        }
        let tunnels = self.tunnels.iter_mut();
        let changed = tunnels.filter_map(|(name, gateway)| {
            let mute = gateway.probe.is_mute(now);
            (std::mem::replace(&mut gateway.mute, mute) != mute).then_some((*name, mute))
        });
        changed.collect()
    }

    /// When to judge next.
    pub(super) const fn poll_timeout(&self) -> Option<Time> {
        self.judge_at
    }

    /// Whether a tunnel waits to be free.
    pub(super) fn any_retiring(&self) -> bool {
        self.tunnels.values().any(|gateway| gateway.retiring)
    }

    /// Retired tunnels that carry nothing more; they are forgotten here.
    pub(super) fn take_free(
        &mut self,
        in_use: impl Fn(OwnTunnelName) -> bool,
    ) -> Vec<OwnTunnelName> {
        let free = self.tunnels.iter().filter(|(name, g)| g.retiring && !in_use(**name));
        let free: Vec<_> = free.map(|(name, _)| *name).collect();
        for name in &free {
            self.tunnels.remove(name);
        }
        free
    }

    /// What is to be published, if that has changed.
    pub(super) fn changed(&mut self) -> Option<Vec<Lease>> {
        if !std::mem::take(&mut self.touched) {
            return None;
        }
        let mut gateways: Vec<&Gateway> =
            self.tunnels.values().filter(|gateway| !gateway.retiring).collect();
        gateways.sort_by_key(|gateway| gateway.quiet);
        let leases: Vec<Lease> = gateways
            .into_iter()
            .filter_map(|gateway| {
                Some(Lease {
                    gateway: gateway.contact.id,
                    link_key: gateway.contact.link_key,
                    splice_key: gateway.splice_key?,
                    address: gateway.contact.address,
                    lease: gateway.lease,
                })
            })
            .take(LEASES_MAX)
            .collect();
        if leases == self.published {
            return None;
        }
        self.published.clone_from(&leases);
        Some(leases)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::{
        id::{LinkNo, RouterId, TunnelId},
        time::Wall,
    };

    const A: OwnTunnelName = (LinkNo(1), TunnelId(1));
    const B: OwnTunnelName = (LinkNo(2), TunnelId(2));

    fn two() -> Gateways {
        let mut gateways = Gateways::new(Rate::default());
        let mut rng = Rng::from_seed([1; 32]);
        for (n, tunnel) in [(1, A), (2, B)] {
            let contact = Contact {
                id: RouterId([n; 32]),
                link_key: [n; 32],
                address: SocketAddr::from(([10, 0, 0, n], 7_700)).into(),
                expiry: Wall::from_minutes(30_000_000),
            };
            gateways.add(&mut rng, tunnel, contact);
        }
        gateways
    }

    #[test]
    fn one_that_does_not_answer_is_told_once_and_again_when_it_does() {
        let mut gateways = two();
        let start = Time::from_micros(5_000_000);
        assert_eq!(gateways.probe(start), [A, B]);
        gateways.answered(start + Duration::from_millis(100), A);
        let due = start + PROBE_TIME;
        assert_eq!(gateways.poll_timeout(), Some(due));
        assert_eq!(gateways.judge(start + Duration::from_millis(500)), []);
        assert_eq!(gateways.judge(due), [(B, true)]);
        assert_eq!(gateways.poll_timeout(), None);
        gateways.answered(due + Duration::from_millis(1), B);
        assert_eq!(gateways.judge(due + Duration::from_millis(1)), [(B, false)]);
        assert_eq!(gateways.judge(due + Duration::from_secs(9)), []);
    }

    #[test]
    fn however_often_clients_fall_silent_tunnels_are_asked_every_two_seconds_at_most() {
        let mut gateways = two();
        let start = Time::from_micros(5_000_000);
        let asked: usize = (0..100)
            .map(|step| {
                let now = start + Duration::from_millis(100) * step;
                let asked = gateways.probe(now);
                for tunnel in &asked {
                    gateways.answered(now, *tunnel);
                }
                asked.len()
            })
            .sum();
        assert_eq!(asked, 2 * 5);
    }
}
