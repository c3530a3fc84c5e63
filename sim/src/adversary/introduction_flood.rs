//! Introduction flood: whoever knows a service's name splices into its gateways without end.
//!
//! Lives here: production routers, a service whose gateways let in so many clients a second, and attackers
//! who open splices to them, all of them good ones, but without work: that is what it would cost them. How
//! long honest clients wait for their first byte. Does not live here: attackers who do the work that the
//! service asks for (docs/spec/garlic.md says what it costs).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warren_overlay::{
    garlic::{Rate, seal_lease},
    rng::Rng,
    service::Lease,
    wire::LinkMessage,
};

use super::{
    Adversary, Outcome, hostile,
    siege::{self, Rhythm, Siege},
};
use crate::{
    metric::Metric,
    run::Watcher,
    scenario::{ScenarioError, value},
    streams::Streams,
    world::Setup,
};

/// Clients that a gateway lets in at once, in seconds of what it lets in.
const BURST_SECONDS: u16 = 2;

/// Clients without end.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IntroductionFlood {
    /// Share of the routers.
    pub hostile: f64,
    /// Splices that come to each gateway, in multiples of what it lets in; 0: nobody floods.
    pub times: f64,
    /// Clients that each gateway lets in a second.
    #[serde(default = "default_takes")]
    pub takes: u16,
    /// How long people wish for pages meanwhile.
    #[serde(default = "default_seconds")]
    pub seconds: u32,
}

fn default_takes() -> u16 {
    2
}

fn default_seconds() -> u32 {
    45
}

/// A lease of the service's descriptor, which its name opens.
#[derive(Debug)]
struct Sight {
    lease: Lease,
}

/// Seals what it sees.
struct Client {
    rng: Rng,
    next: Option<[u8; warren_overlay::wire::SEALED_LEASE_LEN]>,
}

impl Adversary for Client {
    type Sight = Sight;
    /// What is sent.
    type Guess = [u8; warren_overlay::wire::SEALED_LEASE_LEN];

    fn see(&mut self, Sight { lease }: Sight) {
        self.next = seal_lease(&mut self.rng, &lease.splice_key, &lease.lease);
    }

    fn guess(&self) -> Option<Self::Guess> {
        self.next
    }
}

impl IntroductionFlood {
    pub(super) fn check(&self, routers: u32) -> Result<(), ScenarioError> {
        if !(1..=1_000).contains(&self.takes) {
            return Err(value("adversary.takes", "1 to 1,000"));
        }
        siege::check(routers, self.hostile, self.times, self.seconds)
    }

    pub(super) fn run(
        &self,
        routers: u32,
        streams: Streams,
        watcher: &mut dyn Watcher,
    ) -> Option<Outcome> {
        let honest = routers - hostile(self.hostile, routers).unwrap_or(1);
        let rate = Rate { per_second: self.takes, burst: BURST_SECONDS * self.takes };
        let setup = Setup { seed: streams.seed(), routers, rate, ..Setup::default() };
        let mut siege = Siege::new(setup, honest);
        let mut client = Client { rng: streams.of("splices", 0), next: None };
        let (mut rhythm, mut turn, mut highest) = (Rhythm::default(), 0usize, 0);
        let mut act = |siege: &mut Siege| {
            let service = siege.service();
            let host = siege.world.net.host(0);
            let Some((leases, effort)) = host.and_then(|it| it.node_ref().offers(service)) else {
                return;
            };
            highest = effort.max(highest);
            let leases = leases.to_vec();
            for _ in 0..rhythm.next(self.times * f64::from(self.takes)) {
                turn += 1;
                for lease in &leases {
                    let Some(gateway) = siege.number(&lease.gateway) else { continue };
                    let links = siege.links(gateway);
                    let Some(link) = links.get(turn % links.len().max(1)) else { continue };
                    client.see(Sight { lease: *lease });
                    let Some(sealed) = client.guess() else { continue };
                    siege.send(gateway, *link, |tunnel| LinkMessage::SpliceOpen { tunnel, sealed });
                }
            }
        };
        if !siege.hold(self.seconds, watcher, &mut act) {
            return None;
        }
        let mut metrics = siege.wishes();
        metrics.insert(Metric::Effort, highest.into());
        Some(Outcome { events: siege.world.net.events(), metrics, ..Outcome::default() })
    }
}
