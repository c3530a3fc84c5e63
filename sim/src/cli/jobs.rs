//! Verbs for more than one machine: `plan` writes jobs, `exec` does one, `merge` makes results of all.
//!
//! Lives here: flags, words. Does not live here: which job has which seeds (`plan.rs`), what is
//! written (`batch.rs`).

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

use clap::Args;

use super::{Failure, Seeds, What, failed, print, progress::Show, say, study, tell};
use crate::{
    batch::{Batch, ENGINE, Summary, Verdict},
    plan::{self, JOBS_MAX, PlanError, Planned},
};

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::Scenario(error) => error.into(),
            PlanError::File { path, error } => Self::File { path, error },
            PlanError::Form { .. } | PlanError::Other(_) | PlanError::Engine(_) => {
                Self::Usage(error.to_string())
            }
        }
    }
}

#[derive(Args, Debug)]
pub(super) struct Plan {
    #[command(flatten)]
    what: What,
    /// How many jobs the seeds are dealt to
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(JOBS_MAX)))]
    jobs: u32,
    /// Another key, and its values, as for `sweep`
    #[arg(long = "vary", value_name = "KEY=VALUES")]
    varies: Vec<String>,
    /// A folder that all machines see; results come there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Plan {
    pub(super) fn run(self) -> Result<Verdict, Failure> {
        let what = &self.what;
        let Seeds(first, last) = what.seeds;
        let plan = plan::Plan { engine: ENGINE.into(), first, last, jobs: self.jobs };
        let planned = Planned::new(&what.text()?, &what.sets, &self.varies, plan);
        let planned = planned.map_err(|error| what.wrong(error))?;
        planned.write(&self.out, what.folder())?;
        let out = self.out.display();
        for job in 1..=self.jobs {
            print(format_args!("warren sim exec {out} --job {job}"))?;
        }
        say(format_args!("when all of these are done: warren sim merge {out}"));
        Ok(Verdict::Passed)
    }
}

#[derive(Args, Debug)]
pub(super) struct Exec {
    /// A folder that `plan --out` made
    dir: PathBuf,
    /// Which job, from 1; seeds that are there already are not run again
    #[arg(long)]
    job: u32,
}

impl Exec {
    pub(super) fn run(self, stop: &Arc<AtomicBool>) -> Result<Verdict, Failure> {
        let planned = Planned::read(&self.dir)?;
        if !(1..=planned.plan.jobs).contains(&self.job) {
            let why = format!("--job {}: the plan has 1 to {}", self.job, planned.plan.jobs);
            return Err(Failure::Usage(why));
        }
        let files = plan::folder(&self.dir);
        for ((point, scenario, text), seeds) in planned.seeds(self.job) {
            let batch = Batch { scenario, text, folder: &files };
            let out = self.dir.join(&point.folder);
            let missing: Vec<u64> =
                seeds.into_iter().filter(|seed| !batch.has(&out, *seed)).collect();
            let show = Show::new(scenario.end(), missing.len(), stop);
            let done = batch.run_missing(&out, &missing, |seed| show.watcher(seed))?;
            show.finish();
            if done < missing.len() {
                return Err(Failure::Interrupted);
            }
        }
        // What the seeds say of the scenario is the business of `merge`: this job is done.
        Ok(Verdict::Passed)
    }
}

#[derive(Args, Debug)]
pub(super) struct Merge {
    /// A folder that `plan --out` made
    dir: PathBuf,
    /// Print the summary as JSON; of a sweep its table comes either way
    #[arg(long)]
    json: bool,
}

impl Merge {
    pub(super) fn run(self) -> Result<Verdict, Failure> {
        let planned = Planned::read(&self.dir)?;
        let files = plan::folder(&self.dir);
        let batch = |index: usize| {
            let (point, scenario, text) = planned.points.get(index)?;
            Some((point, Batch { scenario, text, folder: &files }, self.dir.join(&point.folder)))
        };
        let points: Vec<_> = (0..planned.points.len()).map_while(batch).collect();
        let missing = |point: usize, seed| {
            points.get(point).is_some_and(|(_, batch, out)| !batch.has(out, seed))
        };
        let unfinished = planned.unfinished(missing);
        if !unfinished.is_empty() {
            let words = format!("not all is there yet; unfinished jobs: {unfinished:?}");
            return Err(std::io::Error::other(words).into());
        }
        let mut done = Vec::new();
        for (point, batch, out) in points {
            let reports = batch.merge(&out)?;
            let summary = Summary::of(batch.scenario, &reports);
            for report in reports.iter().filter(|it| it.verdict(batch.scenario) != Verdict::Passed)
            {
                failed(report, Some(&out), &self.dir);
            }
            done.push((point.clone(), summary));
        }
        let verdict = done.iter().filter_map(|it| it.1.verdict).max();
        match (&planned.sweep, done.as_slice()) {
            (Some(sweep), _) => study::finish(&self.dir, sweep, done)?,
            (None, [(_, summary)]) if self.json => {
                print(format_args!("{}", serde_json::to_string_pretty(summary)?))?;
            }
            (None, all) => all.iter().try_for_each(|(_, summary)| tell(summary))?,
        }
        Ok(verdict.unwrap_or(Verdict::Passed))
    }
}
