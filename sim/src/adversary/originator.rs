//! The originator test: a neighbour counts how many requests for the blocks of one file come from whom.
//!
//! Lives here: one file at a time, whose block addresses the adversary knows; requests that its reader
//! sends by himself, over a walk of chance each, or through tunnels. The adversary is some neighbours of
//! a router, who put their counts of it together; everybody is a suspect who asked one of them for a block,
//! and all of a suspect's neighbours are taken for adversaries, so many at a time. Does not live here: caches and
//! other traffic, which would hide more; hop counts, which no request of ours shows.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warren_overlay::{rng::Rng, time::Time};

use super::{Adversary, Outcome, below};
use crate::{
    curve::Trend,
    graph::{Graph, Walker},
    metric::{Metric, Metrics},
    run::Watcher,
    scenario::{LookupKeys, Routing, ScenarioError, value},
    streams::Streams,
};

/// Most requests of one seed.
const REQUESTS_MAX: u64 = 20_000_000;
/// Shares of false alarms at which detections are shown.
const FALSE_ALARMS: [f64; 10] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];
/// The share at which they are compared.
const COMPARED: f64 = 0.01;

/// Neighbours that count requests.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Originator {
    /// How the reader asks.
    pub requests: Requests,
    /// Blocks of a file.
    #[serde(default = "default_blocks")]
    pub blocks: u32,
    /// Files, each with a reader of chance.
    #[serde(default = "default_files")]
    pub files: u32,
    /// Of `walks`: hops of chance before a request is routed.
    #[serde(default = "default_walk")]
    pub walk: u32,
    /// Of `tunnels`: blocks that one tunnel's end hop is asked for.
    #[serde(default = "default_exit")]
    pub per_exit: u32,
    /// Neighbours of a suspect who put their counts together.
    #[serde(default = "default_colluding")]
    pub colluding: u32,
}

/// How a reader asks for blocks.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Requests {
    /// He routes each himself.
    Direct,
    /// Each goes some hops of chance first.
    Walks,
    /// Tunnels' end hops route them. Cells of tunnels show nothing to whoever counts requests.
    Tunnels,
}

fn default_blocks() -> u32 {
    256
}

fn default_files() -> u32 {
    60
}

fn default_walk() -> u32 {
    3
}

fn default_exit() -> u32 {
    32
}

fn default_colluding() -> u32 {
    1
}

/// A request for a block of the file, from the neighbour that is counted.
#[derive(Clone, Copy, Debug)]
struct Sight;

/// What some routers counted of one neighbour of theirs.
#[derive(Clone, Copy, Debug, Default)]
struct Counter {
    count: u32,
}

impl Adversary for Counter {
    type Sight = Sight;
    /// How much speaks for the neighbour being the reader; where to draw the line is what a ROC shows.
    type Guess = u32;

    fn see(&mut self, Sight: Sight) {
        self.count += 1;
    }

    fn guess(&self) -> Option<u32> {
        Some(self.count)
    }
}

/// How often each count came.
type Histogram = BTreeMap<u32, u64>;

/// Counts of readers, by all neighbours of theirs, and of others who passed something on.
#[derive(Debug, Default)]
struct Scores {
    readers: Histogram,
    others: Histogram,
}

#[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
fn share_from(histogram: &Histogram, least: u32) -> f64 {
    let all: u64 = histogram.values().sum();
    let from: u64 = histogram.range(least..).map(|it| it.1).sum();
    from as f64 / all.max(1) as f64
}

#[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
fn mean(histogram: &Histogram) -> f64 {
    let all: u64 = histogram.values().sum();
    let sum: u64 = histogram.iter().map(|(count, often)| u64::from(*count) * often).sum();
    sum as f64 / all.max(1) as f64
}

impl Scores {
    /// The share of readers detected where at most this share of the others is blamed.
    fn detected(&self, false_alarms: f64) -> f64 {
        let top = self.others.keys().chain(self.readers.keys()).max().copied().unwrap_or(0);
        let bound = (0..=top + 1).find(|least| share_from(&self.others, *least) <= false_alarms);
        share_from(&self.readers, bound.unwrap_or(top + 1))
    }
}

impl Originator {
    pub(super) fn check(&self, routing: &Routing) -> Result<(), ScenarioError> {
        let requests = u64::from(self.blocks) * u64::from(self.files);
        if requests == 0 || requests > REQUESTS_MAX {
            let why = format!("and blocks: {requests} requests, not 1 to {REQUESTS_MAX}");
            return Err(value("adversary.files", why));
        }
        if !(1..=64).contains(&self.colluding) {
            return Err(value("adversary.colluding", "1 to 64 neighbours"));
        }
        if self.per_exit == 0 || self.walk > 64 {
            return Err(value("adversary.per_exit", "at least 1, and at most 64 hops of walk"));
        }
        if routing.lookups.count != LookupKeys::default().count {
            return Err(value("lookups.count", "is of no use here: blocks times files"));
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
        let mut scores = Scores::default();
        let mut walker = Walker::new(graph);
        let requests = u64::from(self.blocks);
        for file in 0..self.files {
            if !watcher.progress(Time::ZERO, u64::from(file) * requests) {
                return None;
            }
            // Who reads what is the same however it is asked for.
            let mut rng = streams.of("file", file.into());
            let reader = below(&mut rng, graph.len());
            let mut ways = streams.of("ways", file.into());
            let counts = self.read(routing, graph, (reader, &mut rng, &mut ways), &mut walker);
            let mut draw = streams.of("colluding", file.into());
            let senders: BTreeSet<u32> = counts.keys().map(|it| it.0).chain([reader]).collect();
            for suspect in senders {
                for seen in self.groups(graph.links(suspect), &mut draw, |to| {
                    counts.get(&(suspect, to)).copied().unwrap_or_default()
                }) {
                    // Nobody suspects who asked for nothing; a reader who asked them for nothing is missed.
                    let (Some(count), reads) = (seen.guess(), suspect == reader) else { continue };
                    if reads || count > 0 {
                        let scores = if reads { &mut scores.readers } else { &mut scores.others };
                        *scores.entry(count).or_default() += 1;
                    }
                }
            }
        }
        let roc = FALSE_ALARMS.map(|it| (it, scores.detected(it)));
        Some(Outcome {
            events: u64::from(self.files) * requests,
            metrics: Metrics::from([
                (Metric::Detected, scores.detected(COMPARED)),
                (Metric::FromReader, mean(&scores.readers)),
                (Metric::FromOthers, mean(&scores.others)),
            ]),
            trends: [(Trend::Roc, roc.to_vec())].into(),
            ..Outcome::default()
        })
    }

    /// A suspect's neighbours as groups of who colludes, and what each group counted; who is left over after
    /// the last whole group joins none, unless it is the only one.
    fn groups(
        &self,
        links: &[u32],
        rng: &mut Rng,
        counted: impl Fn(u32) -> Counter,
    ) -> Vec<Counter> {
        let size = (self.colluding as usize).min(links.len()).max(1);
        let mut order = links.to_vec();
        if size > 1 {
            for at in (1..order.len()).rev() {
                let with = usize::try_from(rng.below(at as u64 + 1)).unwrap_or(0);
                order.swap(at, with);
            }
        }
        let together =
            |group: &[u32]| Counter { count: group.iter().map(|it| counted(*it).count).sum() };
        order.chunks_exact(size).map(together).collect()
    }

    /// Reads one file: what each router (second) counts of each neighbour (first).
    fn read(
        &self,
        routing: &Routing,
        graph: &Graph,
        (reader, rng, ways): (u32, &mut Rng, &mut Rng),
        walker: &mut Walker,
    ) -> BTreeMap<(u32, u32), Counter> {
        let lookups = routing.lookups();
        let mut counts: BTreeMap<(u32, u32), Counter> = BTreeMap::new();
        let mut exit = reader;
        for block in 0..self.blocks {
            let errand = graph.errand(lookups, rng);
            let mut from = reader;
            match self.requests {
                Requests::Direct => {}
                Requests::Walks => {
                    for _ in 0..self.walk {
                        let links = graph.links(from);
                        let drawn = usize::try_from(ways.below(links.len() as u64)).unwrap_or(0);
                        let Some(next) = links.get(drawn) else { break };
                        counts.entry((from, *next)).or_default().see(Sight);
                        from = *next;
                    }
                }
                Requests::Tunnels => {
                    while block.is_multiple_of(self.per_exit) {
                        exit = below(ways, graph.len());
                        if exit != reader {
                            break;
                        }
                    }
                    from = exit;
                }
            }
            let far = |node| graph.place(node).distance(errand.key);
            let _ = walker.walk(graph, from, lookups, &errand.holders, far);
            for step in walker.trail() {
                counts.entry(*step).or_default().see(Sight);
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detections_are_those_above_the_line_that_blames_few_enough() {
        let scores = Scores {
            readers: Histogram::from([(0, 1), (3, 1), (5, 2)]),
            others: Histogram::from([(1, 97), (3, 2), (5, 1)]),
        };
        // Nobody has more than 5; 5 blames one of a hundred, 3 three.
        for (false_alarms, wanted) in [(0.0, 0.0), (0.01, 0.5), (0.03, 0.75), (1.0, 1.0)] {
            assert!((scores.detected(false_alarms) - wanted).abs() < 1e-12, "{false_alarms}");
        }
    }
}
