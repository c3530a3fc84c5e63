//! One seed of a scenario, from start to report.
//!
//! Lives here: who starts, wishes, fails and heals when; what is measured. Does not live here: how
//! (`world.rs`), what must never happen (`oracle.rs`), many seeds at once (`batch.rs`).

mod heal;
mod measure;
mod store;
mod wire;

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use serde::{Deserialize, Serialize};
use warren_overlay::{crypto::suite::Suite, time::Time};

use crate::{
    adversary::Outcome,
    curve::{Curves, Trends},
    graph::Graph,
    metric::{Metric, Metrics},
    net::{HostNo, Line},
    oracle::Violation,
    scenario::{Routing, RoutingNetwork, Scenario, ScenarioError},
    streams::Streams,
};

pub(crate) use wire::Plan;

/// How often something ended how, by its name: adds up exactly over seeds.
pub type Outcomes = BTreeMap<String, u64>;

/// What came of one seed. No clock but the virtual one has touched it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The hash of everything that happened.
    pub hash: [u8; 32],
    /// Events handled; of graphs, lookups walked.
    pub events: u64,
    /// When it ended.
    #[serde(with = "micros")]
    pub end: Time,
    /// What was measured.
    pub metrics: Metrics,
    /// What a closed form says of the same, where there is one.
    pub theory: Metrics,
    /// Distributions.
    pub curves: Curves,
    /// What changed with time.
    pub trends: Trends,
    /// What a closed form says of the same.
    pub theory_trends: Trends,
    /// How wishes, errands to the store and lookups ended.
    pub outcomes: Outcomes,
    /// One line per wish, for people and their tools; without a heading.
    pub rows: String,
    /// The same for errands to the store.
    pub store_rows: String,
    /// What must never happen and did.
    pub violations: Vec<Violation>,
}

/// The heading of [`Report::rows`].
pub const ROWS_HEADING: &str =
    "seed,wish,kind,router,asked_s,first_s,last_s,stall_s,bytes,outcome\n";

/// The heading of [`Report::store_rows`].
pub const STORE_ROWS_HEADING: &str =
    "seed,errand,kind,item,bytes,router,asked_s,ended_s,requests,routers,copies,outcome\n";

/// How a run is watched.
pub trait Watcher {
    /// Now and then: how far it is. False ends the run.
    fn progress(&mut self, at: Time, events: u64) -> bool;

    /// Something happened at the router that is watched.
    fn line(&mut self, line: Line);
}

/// What part of a seed is run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Part {
    /// Ends there, if it has not ended before.
    pub until: Option<Time>,
    /// Whose events are told to the watcher.
    pub watch: Option<HostNo>,
    /// Ciphers in the place of the fidelity's: those of a test that puts a bug into them.
    pub suite: Option<&'static dyn Suite>,
}

impl Scenario {
    /// Where a run of this scenario ends.
    pub fn end(&self) -> Time {
        match self {
            Self::Wire(wire) => Time::ZERO + wire.warmup.0 + wire.duration.0,
            Self::Routing(routing) => {
                Time::ZERO + routing.keep.as_ref().map_or(Duration::ZERO, |keep| keep.duration.0)
            }
        }
    }

    /// Runs one seed; `None` if the watcher ended it. Files are looked for in `folder`.
    ///
    /// # Errors
    /// When a file that the scenario names cannot be read.
    pub fn run(
        &self,
        folder: &std::path::Path,
        seed: u64,
        part: Part,
        watcher: &mut dyn Watcher,
    ) -> Result<Option<Report>, ScenarioError> {
        match self {
            Self::Wire(wire) => Ok(Plan::new(wire, folder)?.run(seed, part, watcher)),
            Self::Routing(routing) => match &routing.keep {
                Some(keep) => Ok(crate::keep::run(routing, keep, seed, watcher)),
                None => routing.run(seed, watcher),
            },
        }
    }
}

impl Routing {
    fn run(&self, seed: u64, watcher: &mut dyn Watcher) -> Result<Option<Report>, ScenarioError> {
        let streams = Streams::new(seed);
        if let Some(attack) = &self.adversary {
            let outcome = attack.run(self, streams, watcher)?;
            return Ok(outcome.map(|outcome| attacked(seed, outcome)));
        }
        let mut graph = self.graph(streams)?;
        graph.kill(self.dead, &mut streams.of("dead", 0));
        if !watcher.progress(Time::ZERO, 0) {
            return Ok(None);
        }
        let tally = graph.look_up(self.lookups(), &mut streams.of("lookups", 0));
        let mut hasher = blake3::Hasher::new();
        for count in [&[tally.lookups, tally.found], &tally.hops[..]].concat() {
            hasher.update(&count.to_le_bytes());
        }
        let mut metrics = measure::lookups(&graph, &tally);
        metrics.insert(Metric::Success, tally.success());
        let failed = tally.lookups - tally.found;
        Ok(Some(Report {
            seed,
            hash: *hasher.finalize().as_bytes(),
            events: tally.lookups,
            end: Time::ZERO,
            metrics,
            curves: measure::lookup_curves(&tally),
            outcomes: counted([
                ("found", tally.found),
                ("hops spent", tally.spent),
                ("nowhere left to go", failed - tally.spent),
            ]),
            ..Report::default()
        }))
    }

    /// The graph of one seed: the same whoever is hostile on it.
    pub(crate) fn graph(&self, streams: Streams) -> Result<Graph, ScenarioError> {
        let RoutingNetwork { routers, degree, rule } = self.network;
        let graph = rule.graph(routers, degree, &mut streams.of("links", 0));
        graph.map_err(|error| ScenarioError::Form(error.to_string()))
    }
}

/// What an adversary's run gives.
fn attacked(seed: u64, outcome: Outcome) -> Report {
    let Outcome { events, metrics, theory, curves, trends, theory_trends, outcomes } = outcome;
    let mut hasher = blake3::Hasher::new();
    for value in metrics.values() {
        hasher.update(&value.to_bits().to_le_bytes());
    }
    for (x, y) in trends.values().flatten() {
        hasher.update(&x.to_bits().to_le_bytes()).update(&y.to_bits().to_le_bytes());
    }
    let hash = *hasher.finalize().as_bytes();
    Report {
        seed,
        hash,
        events,
        metrics,
        theory,
        curves,
        trends,
        theory_trends,
        outcomes,
        ..Report::default()
    }
}

/// Names and counts, without those of nothing.
pub(crate) fn counted<const N: usize>(counts: [(&str, u64); N]) -> Outcomes {
    let some = counts.into_iter().filter(|it| it.1 > 0);
    some.map(|(name, count)| (name.to_owned(), count)).collect()
}

/// Times as microseconds.
mod micros {
    use serde::{Deserialize, Deserializer, Serializer};
    use warren_overlay::time::Time;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives references")]
    pub(super) fn serialize<S: Serializer>(time: &Time, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(time.as_micros())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Time, D::Error> {
        u64::deserialize(from).map(Time::from_micros)
    }
}

/// Seconds with as many digits as microseconds have.
pub(crate) fn seconds(at: Time) -> String {
    let micros = at.as_micros();
    let mut text = String::new();
    // Writing to text cannot fail.
    let _ = write!(text, "{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text
}
