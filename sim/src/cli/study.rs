//! Verbs for whole studies: sweeps, comparisons, reports, and the first step of one's own.
//!
//! Lives here: flags, words, files. Does not live here: what is computed (`sweep.rs`, `compare.rs`,
//! `page.rs`).

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use clap::Args;

use super::{Failure, Jobs, What, print, run_seeds, say};
use crate::{
    batch::{Batch, ENGINE, Summary, Verdict},
    compare::{self, CompareError},
    page,
    statistics::Finding,
    sweep::{self, Swept},
    template::{TEMPLATES, Template},
};

#[derive(Args, Debug)]
pub(super) struct Sweep {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    jobs: Jobs,
    /// A key beside those in the scenario's table [sweep], and its values: network.routers=[50,100] or adversary.hostile=0.05..0.2/0.05
    #[arg(long = "vary", value_name = "KEY=VALUES")]
    varies: Vec<String>,
    /// Keep results in this folder, a folder for each point; what is there is not run again
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Sweep {
    pub(super) fn run(self, stop: &Arc<AtomicBool>) -> Result<Verdict, Failure> {
        let what = &self.what;
        let wrong = |error| what.wrong(error);
        let sweep = sweep::Sweep::read(&what.text()?, &what.sets, &self.varies).map_err(wrong)?;
        let points = sweep.points().map_err(wrong)?;
        let mut done = Vec::new();
        let mut worst = Verdict::Passed;
        for (no, (point, scenario, text)) in (1..).zip(&points) {
            say(format_args!("{no} of {}: {}", points.len(), point.folder));
            let batch = Batch { scenario, text, folder: what.folder() };
            let out = self.out.join(&point.folder);
            let reports = run_seeds(batch, what.seeds, self.jobs, Some(&out), stop)?;
            if what.seeds.is_missing(&reports) {
                return Err(Failure::Interrupted);
            }
            let summary = Summary::of(scenario, &reports);
            worst = worst.max(summary.verdict.unwrap_or(Verdict::Passed));
            done.push((point.clone(), summary));
        }
        finish(&self.out, &sweep, done)?;
        Ok(worst)
    }
}

/// Writes what all points of a sweep say together, and prints it.
pub(super) fn finish(
    out: &Path,
    sweep: &sweep::Sweep,
    done: Vec<(sweep::Point, Summary)>,
) -> Result<(), Failure> {
    let keys: Vec<String> = sweep.keys().map(str::to_owned).collect();
    let table = sweep::table(&keys, &done);
    fs::write(out.join("sweep.csv"), &table)?;
    let points = done.into_iter().map(|it| it.0).collect();
    fs::write(out.join("scenario.toml"), sweep.text()?)?;
    let swept = Swept { engine: ENGINE.into(), keys, points };
    fs::write(out.join("sweep.json"), serde_json::to_string_pretty(&swept)? + "\n")?;
    print(format_args!("{}", table.trim_end()))
}

#[derive(Args, Debug)]
pub(super) struct Compare {
    /// A folder that `run --out` made
    a: PathBuf,
    /// Another
    b: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Compare {
    pub(super) fn run(self) -> Result<Verdict, Failure> {
        let comparison = compare::compare(&self.a, &self.b).map_err(|error| match error {
            CompareError::Io(..) | CompareError::Form(..) => {
                Failure::Io(std::io::Error::other(error.to_string()))
            }
            CompareError::NoSeed => Failure::Usage(error.to_string()),
        })?;
        if self.json {
            print(format_args!("{}", serde_json::to_string_pretty(&comparison)?))?;
            return Ok(Verdict::Passed);
        }
        print(format_args!(
            "{:<16} {:>12} {:>12} {:>12} {:>10}  finding",
            "metric", "A", "B", "B - A", "+-95 %"
        ))?;
        for (metric, it) in &comparison.metrics {
            let half = it.change.half_width_95.map(|it| format!("{it:.4}")).unwrap_or_default();
            let finding = match it.finding {
                Finding::Higher => "B is higher",
                Finding::Lower => "B is lower",
                Finding::Same => "the same",
                Finding::Unclear => "no difference seen",
            };
            let doubt = it.doubt.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
            print(format_args!(
                "{metric:<16} {:>12.4} {:>12.4} {:>12.4} {half:>10}  {finding}{doubt}",
                it.a.mean, it.b.mean, it.change.mean
            ))?;
        }
        say(format_args!(
            "{} seeds in common. With many metrics one in twenty differs by chance.",
            comparison.seeds.len()
        ));
        Ok(Verdict::Passed)
    }
}

#[derive(Args, Debug)]
pub(super) struct Report {
    /// A folder that `run --out` or `sweep --out` made
    dir: PathBuf,
    /// Where to put the page instead of report.html in the folder
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Report {
    pub(super) fn run(self) -> Result<Verdict, Failure> {
        let page = page::page(&self.dir)
            .map_err(|error| Failure::Io(std::io::Error::other(error.to_string())))?;
        let path = self.out.unwrap_or_else(|| self.dir.join("report.html"));
        fs::write(&path, page).map_err(|error| Failure::File { path: path.clone(), error })?;
        print(format_args!("{}", path.display()))?;
        Ok(Verdict::Passed)
    }
}

#[derive(Args, Debug)]
pub(super) struct New {
    /// Which one to begin with; without it, they are listed
    #[arg(long, value_name = "NAME")]
    template: Option<Template>,
    /// Where to write it
    #[arg(default_value = "scenario.toml", value_name = "FILE")]
    file: PathBuf,
}

impl New {
    pub(super) fn run(self) -> Result<Verdict, Failure> {
        let Some(template) = self.template else {
            for it in TEMPLATES {
                print(format_args!("{:<18} {}", it.name, it.summary()))?;
            }
            return Ok(Verdict::Passed);
        };
        let mut options = fs::OpenOptions::new();
        // What somebody wrote is never written over.
        let mut file = options
            .write(true)
            .create_new(true)
            .open(&self.file)
            .map_err(|error| Failure::File { path: self.file.clone(), error })?;
        std::io::Write::write_all(&mut file, template.text.as_bytes())?;
        let (verb, path) = (template.verb(), self.file.display());
        say(format_args!("now: warren sim {verb} {path} --seeds 1..10 --out results"));
        Ok(Verdict::Passed)
    }
}
