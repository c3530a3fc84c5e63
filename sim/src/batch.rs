//! Many seeds of one scenario, side by side, and the files that come of them.
//!
//! Lives here: sharing seeds among threads, comparing with what is expected, results as text. Does
//! not live here: one run (`run.rs`), the terminal (`cli.rs`).
//!
//! Each seed is a run of its own on one thread; what comes out does not depend on how many run at
//! once, nor on how fast: no clock has touched it.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, io,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde::{Deserialize, Serialize};

use crate::{
    metric::Metric,
    oracle::Violation,
    run::{Part, ROWS_HEADING, Report, STORE_ROWS_HEADING, Watcher},
    scenario::{Condition, Scenario, ScenarioError},
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
        let next = AtomicUsize::new(0);
        let done = Mutex::new((Vec::new(), None));
        let work = || {
            while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
                let result =
                    self.scenario.run(self.folder, *seed, Part::default(), &mut watcher(*seed));
                let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                match result {
                    Ok(Some(report)) => done.0.push(report),
                    Ok(None) => return,
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
        fs::create_dir_all(folder)?;
        if let Ok(text) = fs::read_to_string(folder.join("manifest.json"))
            && serde_json::from_str::<Manifest>(&text).is_ok_and(|it| it.run_id != self.id())
        {
            let words = format!("{} holds another scenario's results", folder.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, words));
        }
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
        .collect::<std::collections::BTreeSet<_>>()
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
    /// Each expectation, and the seeds that do not meet it.
    pub expect: BTreeMap<Metric, Expected>,
    /// What must never happen and did, by seed.
    pub violations: BTreeMap<u64, Vec<Violation>>,
}

/// An expectation.
#[derive(Debug, Serialize)]
pub struct Expected {
    /// What it says.
    pub condition: Condition,
    /// Who does not meet it.
    pub failed_seeds: Vec<u64>,
}

/// A metric over the seeds that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// How many.
    pub seeds: u32,
    /// Their mean.
    pub mean: f64,
    /// Half the width of the interval that holds the true mean with 95 % (Student's t); missing for
    /// one seed.
    pub half_width_95: Option<f64>,
    /// The lowest.
    pub least: f64,
    /// The highest.
    pub most: f64,
}

/// 97.5 % of Student's t for 1 to 30 degrees of freedom.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];

impl Interval {
    fn of(values: &[f64]) -> Self {
        let seeds = u32::try_from(values.len()).unwrap_or(u32::MAX);
        let n = f64::from(seeds);
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|it| (it - mean) * (it - mean)).sum();
        let t = values.len().checked_sub(2).map(|at| STUDENT.get(at).copied().unwrap_or(1.96));
        Self {
            seeds,
            mean,
            half_width_95: t.map(|t| t * libm::sqrt(squares / (n - 1.0) / n)),
            least: values.iter().copied().fold(f64::INFINITY, f64::min),
            most: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

impl Summary {
    /// Of these reports.
    pub fn of(scenario: &Scenario, reports: &[Report]) -> Self {
        let mut values: BTreeMap<Metric, Vec<f64>> = BTreeMap::new();
        for (metric, value) in reports.iter().flat_map(|report| &report.metrics) {
            values.entry(*metric).or_default().push(*value);
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
            metrics: values.iter().map(|(metric, it)| (*metric, Interval::of(it))).collect(),
            expect: scenario.expect().iter().map(expected).collect(),
            violations: violations.map(|it| (it.seed, it.violations.clone())).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_students() {
        let interval = Interval::of(&[1.0, 2.0, 3.0, 4.0]);
        assert_eq!((interval.mean, interval.least, interval.most), (2.5, 1.0, 4.0));
        let half = interval.half_width_95.unwrap();
        assert!((half - 2.054).abs() < 0.001, "{half}");
        assert_eq!(Interval::of(&[1.0]).half_width_95, None);
    }
}
