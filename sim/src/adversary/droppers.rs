//! Hostile routers that swallow requests: they say "accepted", and nothing more.
//!
//! Lives here: the same lookups on the same graph with droppers and without; tries that begin with
//! another neighbour. Does not live here: time: a swallowed try is known to be one (in routers by a
//! time limit), and so is nothing else about where it was swallowed.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warren_overlay::{rng::Rng, time::Time};

use super::{Adversary, Outcome, below, hostile};
use crate::{
    curve::Curve,
    graph::{Graph, Tally, Walker},
    metric::{Metric, Metrics},
    run::{Watcher, counted},
    scenario::{Routing, ScenarioError, value},
    streams::Streams,
};

/// Routers that swallow requests.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Droppers {
    /// Share of the routers; whoever asks is none of them.
    pub hostile: f64,
    /// How often one lookup is tried, each time with another first hop.
    #[serde(default = "default_tries")]
    pub tries: u32,
}

fn default_tries() -> u32 {
    3
}

/// A request that comes to a hostile router. It shows no more: requests are written afresh on each link.
#[derive(Clone, Copy, Debug)]
struct Sight;

/// Swallows all: it makes nothing of what it sees, and passes nothing on.
#[derive(Debug, Default)]
struct Swallow {
    swallowed: u64,
}

impl Adversary for Swallow {
    type Sight = Sight;
    type Guess = std::convert::Infallible;

    fn see(&mut self, Sight: Sight) {
        self.swallowed += 1;
    }

    fn guess(&self) -> Option<Self::Guess> {
        None
    }
}

/// How a lookup ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Found,
    Swallowed,
    NotFound,
}

impl Droppers {
    pub(super) fn check(&self, routers: u32) -> Result<(), ScenarioError> {
        hostile(self.hostile, routers)?;
        match self.tries {
            1..=8 => Ok(()),
            tries => Err(value("adversary.tries", format!("1 to 8, not {tries}"))),
        }
    }

    pub(super) fn run(
        &self,
        routing: &Routing,
        graph: &Graph,
        streams: Streams,
        watcher: &mut dyn Watcher,
    ) -> Option<Outcome> {
        let lookups = routing.lookups();
        let hostile = choose(hostile(self.hostile, graph.len()).unwrap_or(1), graph, streams);
        let mut rng = streams.of("lookups", 0);
        let (mut honest, mut walker) = (Tally::default(), Walker::new(graph));
        let mut swallow = Swallow::default();
        let mut ends: BTreeMap<End, u64> = BTreeMap::new();
        for no in 0..lookups.count {
            if no.is_multiple_of(4_096) && !watcher.progress(Time::ZERO, no.into()) {
                return None;
            }
            let errand = loop {
                let errand = graph.errand(lookups, &mut rng);
                if !hostile.contains(&errand.from) {
                    break errand;
                }
            };
            let far = |node| graph.place(node).distance(errand.key);
            honest.note(walker.walk(graph, errand.from, lookups, &errand.holders, far));
            let mut tried = Vec::new();
            let mut end = End::NotFound;
            for _ in 0..self.tries {
                let around = (&errand.holders[..], &tried[..]);
                let hops = walker.walk_around(graph, errand.from, lookups, around, far);
                let swallowed = walker.trail().iter().any(|(_, node)| hostile.contains(node));
                end = match hops {
                    _ if swallowed => {
                        swallow.see(Sight);
                        End::Swallowed
                    }
                    Some(_) => End::Found,
                    None => End::NotFound,
                };
                if end != End::Swallowed {
                    break;
                }
                tried.extend(walker.trail().first().map(|it| it.1));
            }
            *ends.entry(end).or_default() += 1;
        }
        Some(self.sum(graph, &honest, &ends, &swallow))
    }

    #[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
    fn sum(
        &self,
        graph: &Graph,
        honest: &Tally,
        ends: &BTreeMap<End, u64>,
        swallow: &Swallow,
    ) -> Outcome {
        let lookups = honest.lookups.max(1) as f64;
        let of = |end: End| ends.get(&end).copied().unwrap_or(0);
        let hostile = hostile(self.hostile, graph.len()).unwrap_or(1);
        let mut outcome = Outcome {
            events: honest.lookups,
            metrics: Metrics::from([
                (Metric::Success, of(End::Found) as f64 / lookups),
                (Metric::Found, honest.success()),
                (Metric::Hops, honest.mean_hops().0),
                (Metric::Swallowed, swallow.swallowed as f64 / lookups),
                (Metric::Degree, graph.mean_degree()),
            ]),
            outcomes: counted([
                ("found", of(End::Found)),
                ("swallowed", of(End::Swallowed)),
                ("not found", of(End::NotFound)),
            ]),
            ..Outcome::default()
        };
        outcome.curves.insert(Curve::Hops, honest.distribution());
        if self.tries == 1 {
            outcome.theory.insert(Metric::Success, one_try(honest, hostile, graph.len()));
        }
        outcome
    }
}

/// Who is hostile: any of the routers, each as likely.
fn choose(count: u32, graph: &Graph, streams: Streams) -> BTreeSet<u32> {
    let mut rng: Rng = streams.of("hostile", 0);
    let mut chosen = BTreeSet::new();
    while chosen.len() < count as usize {
        chosen.insert(below(&mut rng, graph.len()));
    }
    chosen
}

/// Success of one try: that of walks without droppers, each of whose h nodes must be honest. A walk
/// comes to no node twice and not back to where it began, and droppers look like everybody else: so that is
/// a draw of h from all others without replacement.
#[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
fn one_try(honest: &Tally, hostile: u32, routers: u32) -> f64 {
    let mut clean = 1.0;
    let mut success = 0.0;
    for (hop, count) in (0u32..).zip(&honest.hops) {
        success += clean * *count as f64;
        let left = f64::from(routers.saturating_sub(1 + hop).max(1));
        clean *= (1.0 - f64::from(hostile) / left).max(0.0);
    }
    success / honest.lookups.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_of_h_nodes_is_clean_as_a_draw_without_replacement_says() {
        let tally = |hops: usize| {
            let mut counts = vec![0; hops + 1];
            counts[hops] = 10;
            Tally { lookups: 10, found: 10, hops: counts, ..Tally::default() }
        };
        // Of 10 others 5 are hostile.
        assert!((one_try(&tally(0), 5, 11) - 1.0).abs() < 1e-12);
        assert!((one_try(&tally(1), 5, 11) - 0.5).abs() < 1e-12);
        assert!((one_try(&tally(2), 5, 11) - 5.0 / 10.0 * 4.0 / 9.0).abs() < 1e-12);
        assert!(one_try(&tally(6), 5, 11).abs() < 1e-12);
    }
}
