//! One seed of a scenario, from start to report.
//!
//! Lives here: who starts, wishes, fails and heals when; what is measured. Does not live here: how
//! (`world.rs`), what must never happen (`oracle.rs`), many seeds at once (`batch.rs`).

mod heal;
mod measure;
mod store;
mod wire;

use std::{fmt::Write as _, time::Duration};

use warren_overlay::{crypto::suite::Suite, time::Time};

use crate::{
    graph::Lookups,
    metric::{Metric, Metrics},
    net::{HostNo, Line},
    oracle::Violation,
    scenario::{Routing, Scenario, ScenarioError},
    streams::Streams,
};

pub(crate) use wire::Plan;

/// What came of one seed. No clock but the virtual one has touched it.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The hash of everything that happened.
    pub hash: [u8; 32],
    /// Events handled; of graphs, lookups walked.
    pub events: u64,
    /// When it ended.
    pub end: Time,
    /// What was measured.
    pub metrics: Metrics,
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
    /// Ends there instead of where the scenario ends.
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
        let network = self.network;
        let graph =
            network.rule.graph(network.routers, network.degree, &mut streams.of("links", 0));
        let mut graph = graph.map_err(|error| ScenarioError::Form(error.to_string()))?;
        graph.kill(self.dead, &mut streams.of("dead", 0));
        if !watcher.progress(Time::ZERO, 0) {
            return Ok(None);
        }
        let lookups = Lookups {
            count: self.lookups.count,
            budget: self.lookups.budget,
            holders: self.lookups.holders as usize,
            backtrack: true,
        };
        let tally = graph.look_up(lookups, &mut streams.of("lookups", 0));
        let mut hasher = blake3::Hasher::new();
        for count in [&[tally.lookups, tally.found], &tally.hops[..]].concat() {
            hasher.update(&count.to_le_bytes());
        }
        let mut metrics = measure::lookups(&graph, &tally);
        metrics.insert(Metric::Success, tally.success());
        Ok(Some(Report {
            seed,
            hash: *hasher.finalize().as_bytes(),
            events: tally.lookups,
            end: Time::ZERO,
            metrics,
            rows: String::new(),
            store_rows: String::new(),
            violations: Vec::new(),
        }))
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
