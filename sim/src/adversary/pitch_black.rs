//! Location swap poisoning ("Pitch Black": Evans, GauthierDickey, Grothoff 2007), against places that cost work.
//!
//! Lives here: routers on a fixed graph of friends who swap places as the dark Freenet does (Sandberg's
//! Metropolis-Hastings), some of them hostile: whoever swaps with one of these gets a place next to a few
//! that it chose. Beside that places that follow from work, as ours do, which nobody can give to anybody. Does not
//! live here: what is stored where (a place that moves leaves its blocks behind, attack or not).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warren_overlay::{id::Location, rng::Rng, time::Time};

use super::{Adversary, Outcome, below, hostile};
use crate::{
    graph::{Graph, Lookups, Tally, Walker},
    metric::{Metric, Metrics},
    run::Watcher,
    scenario::{Routing, ScenarioError, value},
    streams::Streams,
};

/// Most offers of a seed: some seconds.
const OFFERS_MAX: u64 = 20_000_000;
/// Friends of friends over whom an offer goes.
const WALK: u32 = 6;
/// Places that all hostile routers crowd everybody around.
const CHOSEN: usize = 8;
/// How close to a chosen place they put others.
const CLOSE: u64 = 1 << 40;

/// Routers that poison swaps.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PitchBlack {
    /// How routers come to their places.
    pub places: Places,
    /// Share of the routers; 0 shows what swapping does by itself.
    #[serde(default)]
    pub hostile: f64,
    /// Swaps that each router offers.
    #[serde(default = "default_swaps")]
    pub swaps: u32,
}

/// Where places come from.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Places {
    /// Whoever meets may swap.
    Swapped,
    /// They follow from a proof of work, and others check it.
    Worked,
}

fn default_swaps() -> u32 {
    100
}

/// Somebody offers a hostile router a swap: what it shows is the offerer's place.
#[derive(Clone, Copy, Debug)]
struct Sight {
    place: u64,
}

/// Takes whatever place it is offered and gives a chosen one for it.
#[derive(Debug)]
struct Poisoner {
    chosen: [u64; CHOSEN],
    taken: u64,
}

impl Adversary for Poisoner {
    type Sight = Sight;
    /// The place around which the offerer is put.
    type Guess = u64;

    fn see(&mut self, Sight { place }: Sight) {
        self.taken = place;
    }

    /// The chosen one that is furthest from what it takes.
    fn guess(&self) -> Option<u64> {
        let far = |it: &&u64| Location(**it).distance(Location(self.taken));
        self.chosen.iter().max_by_key(far).copied()
    }
}

/// Who is where.
struct Stage<'a> {
    graph: &'a Graph,
    places: Vec<u64>,
    hostile: Vec<bool>,
}

impl Stage<'_> {
    fn place(&self, node: u32) -> Location {
        Location(self.places.get(node as usize).copied().unwrap_or(0))
    }

    fn is_hostile(&self, node: u32) -> bool {
        self.hostile.get(node as usize).copied().unwrap_or(false)
    }

    /// The logarithms of the distances from `node`, were it at `at`, to its friends; with `other` it has
    /// changed places.
    #[expect(clippy::cast_precision_loss, reason = "a logarithm of a distance")]
    fn stretch(&self, node: u32, at: Location, (other, there): (u32, Location)) -> f64 {
        let far = |friend: &u32| {
            let place = if *friend == other { there } else { self.place(*friend) };
            libm::log(place.distance(at).max(1) as f64)
        };
        self.graph.links(node).iter().map(far).sum()
    }

    /// One router offers its place to somebody a few friends away.
    fn offer(&mut self, node: u32, poisoner: &mut Poisoner, rng: &mut Rng) {
        let mut with = node;
        for _ in 0..WALK {
            let links = self.graph.links(with);
            let drawn = usize::try_from(rng.below(links.len() as u64)).unwrap_or(0);
            with = links.get(drawn).copied().unwrap_or(with);
        }
        if with == node || self.is_hostile(node) {
            return;
        }
        let (a, b) = (self.place(node), self.place(with));
        if self.is_hostile(with) {
            // It says of its friends whatever makes the swap look good.
            poisoner.see(Sight { place: a.0 });
            if let (Some(chosen), Some(place)) =
                (poisoner.guess(), self.places.get_mut(node as usize))
            {
                *place = chosen.wrapping_add(rng.below(CLOSE));
            }
            return;
        }
        let before = self.stretch(node, a, (with, b)) + self.stretch(with, b, (node, a));
        let after = self.stretch(node, b, (with, a)) + self.stretch(with, a, (node, b));
        if after <= before || rng.unit() < libm::exp(before - after) {
            for (node, place) in [(node, b), (with, a)] {
                if let Some(it) = self.places.get_mut(node as usize) {
                    *it = place.0;
                }
            }
        }
    }

    /// Lookups of keys of chance, for whoever is closest to them now.
    fn look_up(&self, lookups: Lookups, rng: &mut Rng) -> Tally {
        let mut order: Vec<u32> = (0..self.graph.len()).collect();
        order.sort_by_key(|node| self.place(*node).0);
        let sorted: Vec<u64> = order.iter().map(|node| self.place(*node).0).collect();
        let (mut walker, mut tally) = (Walker::new(self.graph), Tally::default());
        for _ in 0..lookups.count {
            let (from, key) = (below(rng, self.graph.len()), Location(rng.below(u64::MAX)));
            let closest = crate::graph::nearest(&sorted, key, lookups.holders);
            let holders: Vec<u32> =
                closest.iter().filter_map(|at| order.get(*at as usize)).copied().collect();
            let far = |node| self.place(node).distance(key);
            tally.note(walker.walk(self.graph, from, lookups, &holders, far));
        }
        tally
    }

    /// The share of the honest that are within the most crowded tenth of the ring.
    #[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
    fn crowded(&self) -> f64 {
        let honest = self.places.iter().zip(&self.hostile).filter(|it| !it.1);
        let mut all: Vec<u64> = honest.map(|it| *it.0).collect();
        all.sort_unstable();
        let within = |from: &u64| {
            let inside = |it: &&u64| it.wrapping_sub(*from) < u64::MAX / 10;
            all.iter().filter(inside).count()
        };
        all.iter().map(within).max().unwrap_or(0) as f64 / all.len().max(1) as f64
    }
}

impl PitchBlack {
    pub(super) fn check(&self, routing: &Routing) -> Result<(), ScenarioError> {
        let routers = routing.network.routers;
        if self.hostile != 0.0 {
            hostile(self.hostile, routers)?;
        }
        if u64::from(routers) * u64::from(self.swaps) > OFFERS_MAX || routers > 20_000 {
            let why = format!("times routers: at most {OFFERS_MAX}, and 20,000 routers");
            return Err(value("adversary.swaps", why));
        }
        Ok(())
    }

    pub(super) fn run(
        &self,
        routing: &Routing,
        graph: &Graph,
        streams: Streams,
        watcher: &mut dyn Watcher,
    ) -> Option<Outcome> {
        let nodes = graph.len();
        let mut stage = Stage {
            graph,
            places: (0..nodes).map(|node| graph.place(node).0).collect(),
            hostile: vec![false; nodes as usize],
        };
        let mut draw = streams.of("hostile", 0);
        let mut left = hostile(self.hostile, nodes).unwrap_or(0);
        while left > 0 {
            let node = below(&mut draw, nodes) as usize;
            if let Some(it) = stage.hostile.get_mut(node).filter(|it| !**it) {
                (*it, left) = (true, left - 1);
            }
        }
        let mut poisoner =
            Poisoner { chosen: std::array::from_fn(|_| draw.below(u64::MAX)), taken: 0 };
        let lookups = routing.lookups();
        let before = stage.look_up(lookups, &mut streams.of("lookups", 0));
        let mut rng = streams.of("swaps", 0);
        for round in 0..self.swaps {
            if !watcher.progress(Time::ZERO, u64::from(round) * u64::from(nodes)) {
                return None;
            }
            for _ in 0..nodes {
                let node = below(&mut rng, nodes);
                if self.places == Places::Swapped {
                    stage.offer(node, &mut poisoner, &mut rng);
                }
            }
        }
        let after = stage.look_up(lookups, &mut streams.of("lookups", 0));
        Some(Outcome {
            events: u64::from(self.swaps) * u64::from(nodes),
            metrics: Metrics::from([
                (Metric::Success, after.success()),
                (Metric::Found, before.success()),
                (Metric::Hops, after.mean_hops().0),
                (Metric::Crowded, stage.crowded()),
            ]),
            ..Outcome::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Rule;

    #[test]
    fn honest_swaps_keep_every_place_and_one_poisoner_loses_many() {
        let mut rng = Rng::from_seed([1; 32]);
        let graph = Rule::Harmonic.graph(200, 8, &mut rng).unwrap();
        let mut poisoner = Poisoner { chosen: [7 << 60; CHOSEN], taken: 0 };
        let places: Vec<u64> = (0..200).map(|node| graph.place(node).0).collect();
        let mut kept = |hostile: usize| {
            let mut bad = vec![false; 200];
            bad[..hostile].fill(true);
            let mut stage = Stage { graph: &graph, places: places.clone(), hostile: bad };
            for step in 0..20_000 {
                stage.offer(step % 200, &mut poisoner, &mut rng);
            }
            let moved = stage.places.iter().zip(&places).filter(|(a, b)| a != b).count();
            assert!(moved > 50, "{moved} moved");
            stage.places.iter().filter(|place| places.contains(place)).count()
        };
        assert_eq!(kept(0), 200);
        assert!(kept(2) < 100);
    }
}
