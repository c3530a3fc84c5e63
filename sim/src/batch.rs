//! Many seeds of one scenario, side by side, and the files that come of them.
//!
//! Lives here: sharing seeds among threads, comparing with what is expected, results as text. Does
//! not live here: one run (`run.rs`), seeds that are kept as they come (`batch/kept.rs`), the terminal
//! (`cli.rs`).
//!
//! Each seed is a run of its own on one thread; what comes out does not depend on how many run at
//! once, nor on how fast: no clock has touched it.

mod kept;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs, io,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde::{Deserialize, Serialize};

pub use self::kept::KeptError;
use crate::{
    curve::{Curve, Curves, Distribution, Trend, Trends},
    metric::Metric,
    oracle::Violation,
    run::{Outcomes, Part, ROWS_HEADING, Report, STORE_ROWS_HEADING, Watcher},
    scenario::{Condition, Scenario, ScenarioError},
    statistics::Interval,
};

/// How runs ended, the worst of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything is as it must be.
    Passed,
    /// A metric is not what the scenario expects.
    Expectation,
    /// Something good did not happen.
    Liveness,
    /// Something bad happened.
    Safety,
}

impl Verdict {
    /// The process's exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Expectation => 10,
            Self::Liveness => 128,
            Self::Safety => 129,
        }
    }
}

impl Report {
    /// How this run ended.
    pub fn verdict(&self, scenario: &Scenario) -> Verdict {
        let broken = |(metric, condition): (&Metric, &Condition)| {
            !condition.holds(self.metrics.get(metric).copied())
        };
        if self.violations.iter().any(|it| it.safety) {
            Verdict::Safety
        } else if !self.violations.is_empty() {
            Verdict::Liveness
        } else if scenario.expect().iter().any(broken) {
            Verdict::Expectation
        } else {
            Verdict::Passed
        }
    }
}

/// A scenario and where its files are.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The scenario.
    pub scenario: &'a Scenario,
    /// Its text.
    pub text: &'a str,
    /// Where the files that it names are.
    pub folder: &'a Path,
}

impl Batch<'_> {
    /// Runs all `seeds`, `jobs` at a time. `watcher` makes one for each seed; a watcher that ends
    /// its run ends the batch. Gives the reports of the seeds that were finished, in order.
    ///
    /// # Errors
    /// When a file that the scenario names cannot be read.
    pub fn run<W: Watcher>(
        self,
        seeds: &[u64],
        jobs: usize,
        watcher: impl Fn(u64) -> W + Sync,
    ) -> Result<Vec<Report>, ScenarioError> {
        self.run_each(seeds, jobs, watcher, |_| Ok(()))
    }

    /// The same; `each` is given every report as it comes. An error of its ends the batch.
    ///
    /// # Errors
    /// As [`Batch::run`], and those of `each`.
    pub fn run_each<W: Watcher, E: From<ScenarioError> + Send>(
        self,
        seeds: &[u64],
        jobs: usize,
        watcher: impl Fn(u64) -> W + Sync,
        each: impl Fn(&Report) -> Result<(), E> + Sync,
    ) -> Result<Vec<Report>, E> {
        let next = AtomicUsize::new(0);
        let done = Mutex::new((Vec::new(), None));
        let work = || {
            while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                let run =
                    self.scenario.run(self.folder, *seed, Part::default(), &mut watcher(*seed));
                let result = match run {
                    Ok(Some(report)) => each(&report).map(|()| report),
                    Ok(None) => return,
                    Err(error) => Err(error.into()),
                };
                let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                match result {
                    Ok(report) => done.0.push(report),
                    Err(error) => {
                        done.1 = Some(error);
                        return;
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..jobs.clamp(1, seeds.len().max(1)) {
                scope.spawn(work);
            }
            work();
        });
        let (mut reports, error) = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        reports.sort_by_key(|report: &Report| report.seed);
        error.map_or(Ok(reports), Err)
    }

    /// Names this scenario and this engine: equal ids give equal results.
    pub fn id(self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(ENGINE.as_bytes()).update(&[0]).update(self.text.as_bytes());
        hasher.finalize().to_hex().chars().take(32).collect()
    }

    /// Writes all results into `folder`: `manifest.json`, `scenario.toml`, `seeds.csv`,
    /// `wishes.csv`, `store.csv`, `summary.json`, and the files that the scenario names.
    ///
    /// # Errors
    /// When it holds results of another scenario, or cannot be written.
    pub fn write(self, folder: &Path, wanted: usize, reports: &[Report]) -> io::Result<()> {
        self.claim(folder)?;
        for file in self.scenario.files() {
            fs::create_dir_all(folder.join(file).parent().unwrap_or(folder))?;
            fs::copy(self.folder.join(file), folder.join(file))?;
        }
        fs::write(folder.join("scenario.toml"), self.text)?;
        fs::write(folder.join("seeds.csv"), seeds_csv(reports))?;
        let wishes: Vec<&str> = reports.iter().map(|it| it.rows.as_str()).collect();
        let stored: Vec<&str> = reports.iter().map(|it| it.store_rows.as_str()).collect();
        for (name, heading, rows) in
            [("wishes.csv", ROWS_HEADING, wishes), ("store.csv", STORE_ROWS_HEADING, stored)]
        {
            if rows.iter().any(|rows| !rows.is_empty()) {
                fs::write(folder.join(name), [heading, &rows.concat()].concat())?;
            }
        }
        let summary = serde_json::to_string_pretty(&Summary::of(self.scenario, reports))?;
        fs::write(folder.join("summary.json"), summary + "\n")?;
        let manifest = Manifest {
            engine: ENGINE.into(),
            run_id: self.id(),
            complete: reports.len() == wanted,
            seeds: reports.iter().map(Entry::of).collect(),
        };
        fs::write(folder.join("manifest.json"), serde_json::to_string_pretty(&manifest)? + "\n")
    }
}

/// Which engine made results.
pub const ENGINE: &str = concat!("warren-sim ", env!("CARGO_PKG_VERSION"));

/// What a folder of results says of itself.
#[derive(Debug, Deserialize, Serialize)]
pub struct Manifest {
    /// The engine and its version.
    pub engine: String,
    /// Of scenario and engine.
    pub run_id: String,
    /// Whether all seeds that were asked for are there.
    pub complete: bool,
    /// The seeds.
    pub seeds: Vec<Entry>,
}

/// One seed's run.
#[derive(Debug, Deserialize, Serialize)]
pub struct Entry {
    /// The seed.
    pub seed: u64,
    /// The hash of all events.
    pub hash: String,
    /// How many there were.
    pub events: u64,
}

impl Entry {
    fn of(report: &Report) -> Self {
        let hash = blake3::Hash::from_bytes(report.hash).to_hex().to_string();
        Self { seed: report.seed, hash, events: report.events }
    }
}

fn seeds_csv(reports: &[Report]) -> String {
    let metrics: Vec<Metric> = reports
        .iter()
        .flat_map(|report| report.metrics.keys().copied())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let mut text = String::from("seed,hash,events,end_s");
    for metric in &metrics {
        // Writing to text cannot fail, here and below.
        let _ = write!(text, ",{metric}");
    }
    text.push('\n');
    for report in reports {
        let Entry { seed, hash, events } = Entry::of(report);
        let end = crate::run::seconds(report.end);
        let _ = write!(text, "{seed},{hash},{events},{end}");
        for metric in &metrics {
            match report.metrics.get(metric) {
                Some(value) => _ = write!(text, ",{value}"),
                None => text.push(','),
            }
        }
        text.push('\n');
    }
    text
}

/// All seeds together.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// The worst of them.
    pub verdict: Option<Verdict>,
    /// How many.
    pub seeds: usize,
    /// Each metric over the seeds.
    pub metrics: BTreeMap<Metric, Interval>,
    /// What a closed form says of it, where there is one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub theory: BTreeMap<Metric, f64>,
    /// Why an interval says less than it seems to.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub doubts: BTreeMap<Metric, String>,
    /// How often what ended how, all seeds together.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub outcomes: Outcomes,
    /// Distributions, all seeds together.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub curves: BTreeMap<Curve, Spread>,
    /// What changed with time.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub trends: BTreeMap<Trend, Vec<Point>>,
    /// Each expectation, and the seeds that do not meet it.
    pub expect: BTreeMap<Metric, Expected>,
    /// What must never happen and did, by seed.
    pub violations: BTreeMap<u64, Vec<Violation>>,
}

/// A distribution in a few numbers: seconds, or counts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// How many values.
    pub count: u64,
    /// 5 % are lower.
    pub p5: f64,
    /// Half are lower.
    pub p50: f64,
    /// 95 % are lower.
    pub p95: f64,
    /// 99 % are lower.
    pub p99: f64,
    /// The highest.
    pub most: f64,
}

impl Spread {
    fn of(curve: Curve, all: &Distribution) -> Self {
        let at = |share| curve.shown(all.quantile(share));
        let [p5, p50, p95, p99, most] = [0.05, 0.5, 0.95, 0.99, 1.0].map(at);
        Self { count: all.len(), p5, p50, p95, p99, most }
    }
}

/// A moment of what changes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// When.
    pub x: f64,
    /// Over the seeds.
    #[serde(flatten)]
    pub y: Interval,
    /// What a closed form says of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub theory: Option<f64>,
}

/// The distributions of all reports, added up.
pub fn merged(reports: &[Report]) -> Curves {
    let mut all = Curves::new();
    for (curve, one) in reports.iter().flat_map(|report| &report.curves) {
        all.entry(*curve).or_default().add(one);
    }
    all
}

/// Each trend over the seeds. Its moments are the scenario's and so the same with all.
fn trends(reports: &[Report]) -> BTreeMap<Trend, Vec<Point>> {
    let names: BTreeSet<Trend> = reports.iter().flat_map(|it| it.trends.keys().copied()).collect();
    let at = |of: fn(&Report) -> &Trends, trend: Trend, at: usize| -> Vec<(f64, f64)> {
        let points = reports.iter().filter_map(|report| of(report).get(&trend)?.get(at));
        points.copied().collect()
    };
    let points = |trend: Trend| {
        (0..).map_while(move |no| {
            let seen = at(|it| &it.trends, trend, no);
            let theory = at(|it| &it.theory_trends, trend, no);
            let values = |points: &[(f64, f64)]| points.iter().map(|it| it.1).collect::<Vec<_>>();
            let theory = (!theory.is_empty()).then(|| Interval::of(&values(&theory)).mean);
            Some(Point { x: seen.first()?.0, y: Interval::of(&values(&seen)), theory })
        })
    };
    names.into_iter().map(|trend| (trend, points(trend).collect())).collect()
}

/// An expectation.
#[derive(Debug, Serialize)]
pub struct Expected {
    /// What it says.
    pub condition: Condition,
    /// Who does not meet it.
    pub failed_seeds: Vec<u64>,
}

impl Summary {
    /// Of these reports.
    pub fn of(scenario: &Scenario, reports: &[Report]) -> Self {
        let mut values: BTreeMap<Metric, Vec<f64>> = BTreeMap::new();
        for (metric, value) in reports.iter().flat_map(|report| &report.metrics) {
            values.entry(*metric).or_default().push(*value);
        }
        let metrics: BTreeMap<Metric, Interval> =
            values.iter().map(|(metric, it)| (*metric, Interval::of(it))).collect();
        let mut theory: BTreeMap<Metric, Vec<f64>> = BTreeMap::new();
        for (metric, value) in reports.iter().flat_map(|report| &report.theory) {
            theory.entry(*metric).or_default().push(*value);
        }
        let mut outcomes = Outcomes::new();
        for (name, count) in reports.iter().flat_map(|report| &report.outcomes) {
            *outcomes.entry(name.clone()).or_default() += count;
        }
        let expected = |(metric, condition): (&Metric, &Condition)| {
            let failed = |report: &&Report| !condition.holds(report.metrics.get(metric).copied());
            let failed_seeds = reports.iter().filter(failed).map(|report| report.seed).collect();
            (*metric, Expected { condition: *condition, failed_seeds })
        };
        let violations = reports.iter().filter(|report| !report.violations.is_empty());
        Self {
            verdict: reports.iter().map(|report| report.verdict(scenario)).max(),
            seeds: reports.len(),
            doubts: metrics.iter().filter_map(|(it, of)| Some((*it, of.doubt()?))).collect(),
            metrics,
            theory: theory.iter().map(|(metric, it)| (*metric, Interval::of(it).mean)).collect(),
            outcomes,
            curves: merged(reports).iter().map(|(it, all)| (*it, Spread::of(*it, all))).collect(),
            trends: trends(reports),
            // Of no seed everything could be said.
            expect: scenario
                .expect()
                .iter()
                .filter(|_| !reports.is_empty())
                .map(expected)
                .collect(),
            violations: violations.map(|it| (it.seed, it.violations.clone())).collect(),
        }
    }
}
