//! One batch or sweep as jobs for many machines that share a folder.
//!
//! Lives here: what a plan is, which seeds of which points a job has. Does not live here: running them
//! (`batch.rs`), starting jobs, which schedulers do (`sim/cluster`).
//!
//! The folder of results has a folder `plan`: the scenario with all that the command line said in it,
//! the files that it names, and `plan.json`. A job's part follows from its number alone, so that it can
//! be run again, anywhere, by whoever sees the folder.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    batch::ENGINE,
    scenario::{Scenario, ScenarioError},
    sweep::{Point, Sweep},
};

/// Most jobs of a plan.
pub const JOBS_MAX: u32 = 100_000;

/// `plan.json`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The engine and its version: another may give other results.
    pub engine: String,
    /// The first seed of each point.
    pub first: u64,
    /// And the last.
    pub last: u64,
    /// How many jobs.
    pub jobs: u32,
}

/// A plan with its scenario.
#[derive(Debug)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// The sweep, if it is one.
    pub sweep: Option<Sweep>,
    /// All points; of a batch one, with the folder itself.
    pub points: Vec<(Point, Scenario, String)>,
}

/// A plan that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A file.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        error: io::Error,
    },
    /// Not what a plan looks like.
    #[error("{}: {error}", path.display())]
    Form {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        error: serde_json::Error,
    },
    /// What it says cannot be run.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The folder has another plan.
    #[error("{} holds another plan; choose another folder, or delete it", .0.display())]
    Other(PathBuf),
    /// This program would give other results.
    #[error("planned by {0}, and this is {ENGINE}: all jobs need the same")]
    Engine(String),
}

/// Where the plan of a folder of results is; files of its scenario are looked for there.
pub fn folder(out: &Path) -> PathBuf {
    out.join("plan")
}

fn read(path: PathBuf) -> Result<String, PlanError> {
    fs::read_to_string(&path).map_err(|error| PlanError::File { path, error })
}

fn write(path: PathBuf, text: &str) -> Result<(), PlanError> {
    fs::write(&path, text).map_err(|error| PlanError::File { path, error })
}

impl Planned {
    /// A plan for the scenario in `text`, a sweep if it has a table `sweep` or `varies` are given.
    ///
    /// # Errors
    /// As those of [`Scenario::read`] and [`Sweep::read`].
    pub fn new(
        text: &str,
        sets: &[String],
        varies: &[String],
        plan: Plan,
    ) -> Result<Self, ScenarioError> {
        let table: Result<toml::Table, _> = text.parse();
        let sweeps = !varies.is_empty() || table.is_ok_and(|it| it.contains_key("sweep"));
        if sweeps {
            let sweep = Sweep::read(text, sets, varies)?;
            let points = sweep.points()?;
            return Ok(Self { plan, sweep: Some(sweep), points });
        }
        let (scenario, text) = Scenario::read(text, sets)?;
        Ok(Self { plan, sweep: None, points: vec![(Point::default(), scenario, text)] })
    }

    /// Writes it into the folder of results `out`, with the files that it names, from `folder`. A plan that
    /// is there and says the same stays.
    ///
    /// # Errors
    /// When there is another one, or a file cannot be read or written.
    pub fn write(&self, out: &Path, from: &Path) -> Result<(), PlanError> {
        let into = folder(out);
        let made = |path: &Path| {
            fs::create_dir_all(path).map_err(|error| PlanError::File { path: path.into(), error })
        };
        made(&into)?;
        let form = |error| PlanError::Form { path: into.join("plan.json"), error };
        let plan = serde_json::to_string_pretty(&self.plan).map_err(form)? + "\n";
        let text = match &self.sweep {
            Some(sweep) => sweep.text()?,
            None => self.points.iter().map(|it| it.2.as_str()).collect(),
        };
        let files = [("scenario.toml", text), ("plan.json", plan)];
        for (name, text) in &files {
            let there = fs::read_to_string(into.join(name));
            if there.is_ok_and(|there| there != *text) {
                return Err(PlanError::Other(out.into()));
            }
        }
        for file in self.points.iter().flat_map(|it| it.1.files()) {
            let path = into.join(file);
            made(path.parent().unwrap_or(&into))?;
            fs::copy(from.join(file), &path)
                .map_err(|error| PlanError::File { path: from.join(file), error })?;
        }
        // The plan last: with it the folder is one that jobs can begin with.
        files.into_iter().try_for_each(|(name, text)| write(into.join(name), &text))
    }

    /// Reads the plan of a folder of results.
    ///
    /// # Errors
    /// When there is none, it is another engine's, or what it says cannot be run.
    pub fn read(out: &Path) -> Result<Self, PlanError> {
        let path = folder(out).join("plan.json");
        let text = read(path.clone())?;
        let plan: Plan =
            serde_json::from_str(&text).map_err(|error| PlanError::Form { path, error })?;
        if plan.engine != ENGINE {
            return Err(PlanError::Engine(plan.engine));
        }
        let text = read(folder(out).join("scenario.toml"))?;
        Ok(Self::new(&text, &[], &[], plan)?)
    }

    /// What job `job`, counted from 1, has to run: seeds of each point. Every seed of every point is one
    /// job's; one after the other goes to the next.
    pub fn seeds(&self, job: u32) -> impl Iterator<Item = (&(Point, Scenario, String), Vec<u64>)> {
        let Plan { first, last, jobs, .. } = self.plan;
        let mut turn = 0;
        self.points.iter().map(move |point| {
            let mine = |_: &u64| {
                turn = turn % jobs.max(1) + 1;
                turn == job
            };
            (point, (first..=last).filter(mine).collect())
        })
    }

    /// The jobs that have a seed of which `missing` says, for the point at an index, that it is not there.
    pub fn unfinished(&self, missing: impl Fn(usize, u64) -> bool) -> Vec<u32> {
        let Plan { first, last, jobs, .. } = self.plan;
        let seeds = |point| (first..=last).map(move |seed| (point, seed));
        let all = (0..self.points.len()).flat_map(seeds).zip((1..=jobs).cycle());
        let open: BTreeSet<u32> =
            all.filter(|((point, seed), _)| missing(*point, *seed)).map(|it| it.1).collect();
        open.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_of_every_point_is_one_jobs() {
        let text = "fidelity = \"routing\"\n[network]\nrouters = 100\n[sweep]\ndead = [0.1, 0.2]\n";
        for jobs in [1, 2, 3, 7, 40] {
            let plan = Plan { engine: ENGINE.into(), first: 5, last: 15, jobs };
            let planned = Planned::new(text, &[], &[], plan).unwrap();
            let mut all = Vec::new();
            let mut most = Vec::new();
            for job in 1..=jobs {
                let mine = planned.seeds(job);
                let mine: Vec<_> = mine
                    .flat_map(|(it, seeds)| {
                        seeds.into_iter().map(|seed| (it.0.folder.clone(), seed))
                    })
                    .collect();
                most.push(mine.len());
                all.extend(mine);
            }
            let spread = most.iter().max().unwrap() - most.iter().min().unwrap();
            assert!(spread <= 1, "{jobs} jobs have {most:?} seeds");
            all.sort();
            all.dedup();
            assert_eq!(all.len(), 2 * 11, "{jobs} jobs");
            let mine = planned.seeds(jobs).flat_map(|(point, seeds)| {
                seeds.into_iter().map(|seed| (point.0.folder.clone(), seed))
            });
            let mine: Vec<_> = mine.collect();
            let open = planned.unfinished(|point, seed| {
                mine.contains(&(planned.points[point].0.folder.clone(), seed))
            });
            assert_eq!(open, if mine.is_empty() { vec![] } else { vec![jobs] });
        }
    }
}
