//! Adversaries: who watches or meddles, from a position of his own.
//!
//! Lives here: the list of them, and what they have in common. One file each:
//!
//! | part | what |
//! |---|---|
//! | keys | what a scenario says of it, `[adversary]` with its `kind` |
//! | [`Adversary::Sight`] | everything that its position shows, and nothing else reaches it |
//! | the adversary | what it makes of what it sees: a guess, or what it does |
//! | the stage | who is who; makes sights, and judges guesses |
//! | theory | what a closed form says of the same, where there is one |
//!
//! The stage knows the truth and the adversary does not: a guess is made from sights alone. Numbers of
//! routers, users and tunnels in sights are names; nothing follows from their order.

mod build_flood;
mod correlation;
mod crawler;
mod droppers;
mod eclipse;
mod ends;
mod fingerprint;
mod gossip;
mod guard_discovery;
mod introduction_flood;
mod originator;
mod pitch_black;
mod predecessor;
mod siege;
mod sybil;
mod tagging;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warren_overlay::crypto::suite::{self, Suite};

pub use self::{
    build_flood::BuildFlood,
    correlation::Correlation,
    crawler::Crawler,
    droppers::Droppers,
    eclipse::Eclipse,
    ends::Ends,
    fingerprint::Fingerprint,
    gossip::Gossip,
    guard_discovery::{GuardDiscovery, ServiceHops},
    introduction_flood::IntroductionFlood,
    originator::{Originator, Requests},
    pitch_black::{PitchBlack, Places},
    predecessor::{Paths, Predecessor},
    sybil::Sybil,
    tagging::{Layers, Tagging},
};
use crate::{
    STAND_IN,
    curve::{Curves, Trends},
    graph::Rule,
    metric::{Metric, Metrics},
    run::{Outcomes, Watcher},
    scenario::{DEGREE, LookupKeys, Routing, RoutingNetwork, ScenarioError, value},
    streams::Streams,
};

/// Who watches or meddles.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Attack {
    /// Hostile routers at both ends of tunnels compare times.
    Ends(Ends),
    /// Hostile routers note who was before them, round after round.
    Predecessor(Predecessor),
    /// Identities near one key.
    Sybil(Sybil),
    /// Hostile routers swallow requests.
    Droppers(Droppers),
    /// Neighbours count requests for the blocks of one file.
    Originator(Originator),
    /// Hostile routers name one another.
    Gossip(Gossip),
    /// Hostile hops mark cells.
    Tagging(Tagging),
    /// Everybody's sample tells who can have made a path.
    Fingerprint(Fingerprint),
    /// Routers write down all others.
    Crawler(Crawler),
    /// Routers poison swaps of places.
    PitchBlack(PitchBlack),
    /// Somebody compares times at both ends of all flows.
    Correlation(Correlation),
    /// Hostile routers are all around one newcomer.
    Eclipse(Eclipse),
    /// Hostile second hops look for guards.
    GuardDiscovery(GuardDiscovery),
    /// Neighbours build more than a router opens.
    BuildFlood(BuildFlood),
    /// Clients without end come to a service.
    IntroductionFlood(IntroductionFlood),
}

/// Somebody who is told what his position shows.
trait Adversary {
    /// What it shows.
    type Sight;
    /// What is made of it.
    type Guess;

    /// Something is seen.
    fn see(&mut self, sight: Self::Sight);

    /// Whether all that was seen says something.
    fn guess(&self) -> Option<Self::Guess>;
}

/// What came of one seed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) events: u64,
    pub(crate) metrics: Metrics,
    pub(crate) theory: Metrics,
    pub(crate) curves: Curves,
    pub(crate) trends: Trends,
    pub(crate) theory_trends: Trends,
    pub(crate) outcomes: Outcomes,
}

impl Attack {
    /// Whether its keys make sense in a network of so many routers, and the others are of use.
    pub(crate) fn check(&self, routing: &Routing) -> Result<(), ScenarioError> {
        let routers = routing.network.routers;
        if routing.keep.is_some() || routing.dead > 0.0 {
            return Err(value("adversary", "goes without `keep` and `dead`"));
        }
        let lookups = routing.lookups != LookupKeys::default();
        match self {
            Self::Droppers(it) => return it.check(routers),
            Self::Originator(it) => return it.check(routing),
            Self::PitchBlack(it) => return it.check(routing),
            Self::Gossip(_) | Self::Crawler(_) | Self::Eclipse(_) => {
                if routing.network.rule != Rule::default() || lookups {
                    let why = "production rings: rule and lookups are of no use";
                    return Err(value("adversary", why));
                }
            }
            Self::Ends(_)
            | Self::Predecessor(_)
            | Self::Sybil(_)
            | Self::Tagging(_)
            | Self::Fingerprint(_)
            | Self::Correlation(_)
            | Self::GuardDiscovery(_)
            | Self::BuildFlood(_)
            | Self::IntroductionFlood(_) => {
                let RoutingNetwork { degree, rule, .. } = routing.network;
                if degree != DEGREE || rule != Rule::default() || lookups {
                    let why =
                        "this adversary looks at no links: degree, rule and lookups are of no use";
                    return Err(value("adversary", why));
                }
            }
        }
        match self {
            Self::Ends(it) => it.check(routers),
            Self::Predecessor(it) => it.check(routers),
            Self::Sybil(it) => it.check(routers),
            Self::Tagging(it) => it.check(),
            Self::Gossip(it) => it.check(routers),
            Self::Fingerprint(it) => it.check(routers),
            Self::Crawler(it) => it.check(routers),
            Self::Correlation(it) => it.check(),
            Self::Eclipse(it) => it.check(routers),
            Self::GuardDiscovery(it) => it.check(routers),
            Self::BuildFlood(it) => it.check(routers),
            Self::IntroductionFlood(it) => it.check(routers),
            Self::Droppers(_) | Self::Originator(_) | Self::PitchBlack(_) => Ok(()),
        }
    }

    /// Runs one seed; `None` if the watcher ended it.
    ///
    /// # Errors
    /// When there is no such graph.
    pub(crate) fn run(
        &self,
        routing: &Routing,
        streams: Streams,
        watcher: &mut dyn Watcher,
    ) -> Result<Option<Outcome>, ScenarioError> {
        let routers = routing.network.routers;
        suite::within(self.suite(), || {
            Ok(match self {
                Self::Ends(it) => it.run(routers, streams, watcher),
                Self::Predecessor(it) => it.run(routers, streams, watcher),
                Self::Sybil(it) => it.run(routers, streams, watcher),
                Self::Tagging(it) => it.run(streams, watcher),
                Self::Droppers(it) => it.run(routing, &routing.graph(streams)?, streams, watcher),
                Self::Originator(it) => it.run(routing, &routing.graph(streams)?, streams, watcher),
                Self::PitchBlack(it) => it.run(routing, &routing.graph(streams)?, streams, watcher),
                Self::Gossip(it) => it.run(routing, streams, watcher),
                Self::Fingerprint(it) => it.run(routers, streams, watcher),
                Self::Crawler(it) => it.run(routing, streams, watcher),
                Self::Correlation(it) => it.run(streams, watcher),
                Self::Eclipse(it) => it.run(routing, streams, watcher),
                Self::GuardDiscovery(it) => it.run(routers, streams, watcher),
                Self::BuildFlood(it) => it.run(routers, streams, watcher),
                Self::IntroductionFlood(it) => it.run(routers, streams, watcher),
            })
        })
    }

    /// What its routers seal with: real ciphers only where somebody meddles with what is sealed.
    const fn suite(&self) -> Option<&'static dyn Suite> {
        match self {
            Self::Tagging(_) => None,
            _ => Some(&STAND_IN),
        }
    }
}

/// How many of `routers` are hostile; refuses shares that leave nobody honest, or nobody hostile.
fn hostile(share: f64, routers: u32) -> Result<u32, ScenarioError> {
    let count = libm::round(share * f64::from(routers));
    if (1.0..f64::from(routers)).contains(&count) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "below routers"
        )]
        Ok(count as u32)
    } else {
        let why =
            format!("{share} of {routers} routers: at least one hostile, and one that is not");
        Err(value("adversary.hostile", why))
    }
}

/// A number from 0 to `bound`, without it.
fn below(rng: &mut warren_overlay::rng::Rng, bound: u32) -> u32 {
    u32::try_from(rng.below(bound.into())).unwrap_or(0)
}

/// Uncertainty of a choice with these chances, in bits: Shannon's and the least.
///
/// Degree of anonymity is the first over the logarithm of how many there are (Diaz et al. 2002).
fn entropy(chances: impl Iterator<Item = f64>) -> (f64, f64) {
    let (mut shannon, mut most) = (0.0, 0.0f64);
    for chance in chances.filter(|it| *it > 0.0) {
        shannon -= chance * libm::log2(chance);
        most = most.max(chance);
    }
    (shannon, -libm::log2(most))
}

/// Entropies and the degree of anonymity among `honest`.
fn anonymity(chances: impl Iterator<Item = f64>, honest: u32) -> [(Metric, f64); 3] {
    let (shannon, least) = entropy(chances);
    let degree = shannon / libm::log2(f64::from(honest.max(2)));
    [(Metric::Entropy, shannon), (Metric::MinEntropy, least), (Metric::Anonymity, degree)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_of_what_everybody_knows() {
        assert_eq!(entropy([0.5, 0.5].into_iter()), (1.0, 1.0));
        assert!(entropy([1.0, 0.0].into_iter()).0.abs() < 1e-12);
        let (shannon, least) = entropy([0.5, 0.25, 0.25].into_iter());
        assert!((shannon - 1.5).abs() < 1e-12 && (least - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_share_needs_somebody_hostile_and_somebody_who_is_not() {
        assert_eq!(hostile(0.1, 50).unwrap(), 5);
        for share in [0.0, 1.0, -1.0, 2.0, f64::NAN] {
            assert!(hostile(share, 50).is_err(), "{share}");
        }
    }
}
