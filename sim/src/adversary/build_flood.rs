//! Build flood: neighbours send more tunnel builds than a router opens.
//!
//! Lives here: production routers, a tenth of whose attackers' builds are good ones and become tunnels, the
//! others noise that is refused at its turn; how many of what honest routers build comes about meanwhile.
//! The attackers' routers carry no tunnels of others: a build that leads through them is theirs to fail,
//! flood or not. Does not live here: floods by whoever has no link (docs/spec/link.md).

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warren_overlay::{
    rng::Rng,
    time::Wall,
    tunnel::build,
    wire::{BUILD_LEN, LinkMessage, RouterDescriptor},
};

use super::{
    Adversary, Outcome, hostile,
    siege::{self, Rhythm, Siege},
};
use crate::{
    metric::{Metric, Metrics},
    net::HostNo,
    run::Watcher,
    scenario::{ScenarioError, value},
    streams::Streams,
    world::Setup,
};

/// One build in so many is a good one.
const GOOD: u32 = 10;
/// Minutes that a good one asks for.
const LIFETIME: u16 = 30;

/// Neighbours that build more than a router opens.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BuildFlood {
    /// Share of the routers.
    pub hostile: f64,
    /// Builds that come to each honest router, in multiples of what it opens; 0: nobody floods.
    pub times: f64,
    /// Builds of others that a router opens a second.
    #[serde(default = "default_opens")]
    pub opens: u32,
    /// How long people wish for pages meanwhile.
    #[serde(default = "default_seconds")]
    pub seconds: u32,
}

fn default_opens() -> u32 {
    20
}

fn default_seconds() -> u32 {
    30
}

/// A neighbour: how it describes itself, and what time it is.
#[derive(Clone, Debug)]
struct Sight {
    neighbour: Arc<RouterDescriptor>,
    wall: Wall,
}

/// Makes builds for whoever it sees.
struct Builder {
    rng: Rng,
    made: u32,
    next: Option<Box<[u8; BUILD_LEN]>>,
}

impl Adversary for Builder {
    type Sight = Sight;
    /// What is sent.
    type Guess = Box<[u8; BUILD_LEN]>;

    fn see(&mut self, Sight { neighbour, wall }: Sight) {
        let good = self.made.is_multiple_of(GOOD);
        self.made += 1;
        self.next = if good {
            let built = build::create(&mut self.rng, wall, &[neighbour], LIFETIME);
            built.ok().map(|(message, _)| message)
        } else {
            Some(Box::new(self.rng.bytes()))
        };
    }

    fn guess(&self) -> Option<Box<[u8; BUILD_LEN]>> {
        self.next.clone()
    }
}

/// Builds that honest routers' own tunnels took: those that came about, and those that did not; builds of
/// others that they refused.
fn counts(siege: &Siege, honest: HostNo) -> [u64; 3] {
    let mut sum = [0; 3];
    for host in (0..honest).filter_map(|no| Some((no, siege.world.net.host(no)?))) {
        let (no, host) = host;
        let own = host.node_ref().pools().status();
        let refused = host.status(siege.world.net.now(no)).builds_refused;
        for (sum, more) in sum.iter_mut().zip([own.built, own.failed, refused]) {
            *sum += more;
        }
    }
    sum
}

impl BuildFlood {
    pub(super) fn check(&self, routers: u32) -> Result<(), ScenarioError> {
        if !(1..=10_000).contains(&self.opens) {
            return Err(value("adversary.opens", "1 to 10,000"));
        }
        siege::check(routers, self.hostile, self.times, self.seconds)
    }

    #[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
    pub(super) fn run(
        &self,
        routers: u32,
        streams: Streams,
        watcher: &mut dyn Watcher,
    ) -> Option<Outcome> {
        let honest = routers - hostile(self.hostile, routers).unwrap_or(1);
        let setup = Setup {
            seed: streams.seed(),
            routers,
            carriers: honest,
            builds_per_second: self.opens,
            ..Setup::default()
        };
        let mut siege = Siege::new(setup, honest);
        let targets: Vec<_> = (0..honest).map(|no| (no, siege.links(no))).collect();
        let mut builder = Builder { rng: streams.of("builds", 0), made: 0, next: None };
        let (mut rhythm, mut turn) = (Rhythm::default(), 0usize);
        let before = counts(&siege, honest);
        let begun = siege.world.net.time();
        let mut act = |siege: &mut Siege| {
            for _ in 0..rhythm.next(self.times * f64::from(self.opens)) {
                turn += 1;
                for (no, links) in &targets {
                    let Some(link) = links.get(turn % links.len().max(1)) else { continue };
                    let Some(host) = siege.world.net.host(*no) else { continue };
                    let neighbour = Arc::clone(host.descriptor());
                    builder.see(Sight { neighbour, wall: siege.world.net.now(*no).wall });
                    let Some(message) = builder.guess() else { continue };
                    siege.send(*no, *link, |tunnel| LinkMessage::Build {
                        tunnel,
                        message: message.clone(),
                    });
                }
            }
        };
        if !siege.hold(self.seconds, watcher, &mut act) {
            return None;
        }
        let after = counts(&siege, honest);
        let [built, failed, refused] =
            std::array::from_fn(|at| after.get(at).zip(before.get(at)).map_or(0, |(a, b)| a - b));
        let seconds = siege.world.net.time().since(begun).as_secs_f64();
        let mut metrics = siege.wishes();
        metrics.extend(Metrics::from([
            (Metric::BuildSuccess, built as f64 / (built + failed).max(1) as f64),
            (Metric::Builds, (built + failed) as f64),
            (Metric::BuildsRefused, refused as f64 / seconds / f64::from(honest)),
        ]));
        Some(Outcome { events: siege.world.net.events(), metrics, ..Outcome::default() })
    }
}
