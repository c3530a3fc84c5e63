//! Seeds that are kept as they come, so that nobody runs them twice.
//!
//! Lives here: one file a seed, `seeds/N.json`, whole or not there; whose folder it is. Does not live
//! here: what is made of all of them (`batch.rs`).

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Batch, Manifest};
use crate::{
    run::{Report, Watcher},
    scenario::ScenarioError,
};

/// Seeds that could not be run, or not be kept.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// A file that the scenario names.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The folder.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A file of the folder.
    #[error("{}: {error}; delete it to run the seed again", path.display())]
    Form {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        error: serde_json::Error,
    },
}

/// A seed's file.
#[derive(Deserialize)]
struct Kept {
    run_id: String,
    report: Report,
}

#[derive(Serialize)]
struct Keep<'a> {
    run_id: &'a str,
    report: &'a Report,
}

/// Workers that may have been ended while they kept one and the same seed.
const HALVES_MAX: u32 = 1_000;

/// Where a seed is kept.
fn kept_at(folder: &Path, seed: u64) -> PathBuf {
    folder.join(format!("seeds/{seed}.json"))
}

fn others(folder: &Path) -> io::Error {
    let words = format!("{} holds another scenario's results", folder.display());
    io::Error::new(io::ErrorKind::AlreadyExists, words)
}

impl Batch<'_> {
    /// Makes a folder for results of this batch.
    ///
    /// # Errors
    /// When it holds results of another scenario or engine, or cannot be made.
    pub(super) fn claim(self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let manifest = fs::read_to_string(folder.join("manifest.json"));
        let manifest = manifest.ok().and_then(|text| serde_json::from_str::<Manifest>(&text).ok());
        match manifest {
            Some(it) if it.run_id != self.id() => Err(others(folder)),
            _ => Ok(()),
        }
    }

    /// The seeds that are kept in `folder`.
    ///
    /// # Errors
    /// When it holds those of another scenario or engine, or cannot be read.
    pub fn kept(self, folder: &Path) -> Result<BTreeMap<u64, Report>, KeptError> {
        self.claim(folder)?;
        let seeds = folder.join("seeds");
        fs::create_dir_all(&seeds)?;
        let mut kept = BTreeMap::new();
        for entry in fs::read_dir(&seeds)? {
            let path = entry?.path();
            if path.extension().is_none_or(|it| it != "json") {
                continue;
            }
            let text = fs::read_to_string(&path)?;
            let one: Kept =
                serde_json::from_str(&text).map_err(|error| KeptError::Form { path, error })?;
            if one.run_id != self.id() {
                return Err(others(folder).into());
            }
            kept.insert(one.report.seed, one.report);
        }
        Ok(kept)
    }

    /// Runs those of `seeds` that `kept` does not have, keeps each in `folder` as it comes, and writes
    /// the results of all. Gives all that are there, those that nobody asked for now included.
    ///
    /// # Errors
    /// When a seed cannot be run or kept.
    pub fn run_into<W: Watcher>(
        self,
        folder: &Path,
        mut kept: BTreeMap<u64, Report>,
        seeds: &[u64],
        jobs: usize,
        watcher: impl Fn(u64) -> W + Sync,
    ) -> Result<Vec<Report>, KeptError> {
        let missing: Vec<u64> =
            seeds.iter().copied().filter(|seed| !kept.contains_key(seed)).collect();
        let new = self.run_each(&missing, jobs, watcher, |report| self.keep(folder, report))?;
        kept.extend(new.into_iter().map(|report| (report.seed, report)));
        let ran = seeds.iter().filter(|seed| kept.contains_key(seed)).count();
        let reports: Vec<Report> = kept.into_values().collect();
        let wanted = reports.len() + seeds.len() - ran;
        self.write(folder, wanted, &reports)?;
        Ok(reports)
    }

    /// Whether a seed is kept in `folder`.
    pub fn has(self, folder: &Path, seed: u64) -> bool {
        kept_at(folder, seed).exists()
    }

    /// Runs `seeds` one after the other and keeps each in `folder` as it comes, and nothing else: others
    /// may do the same there at the same time. Gives how many were done before the watcher ended it.
    ///
    /// # Errors
    /// When a seed cannot be run or kept.
    pub fn run_missing<W: Watcher>(
        self,
        folder: &Path,
        seeds: &[u64],
        watcher: impl Fn(u64) -> W + Sync,
    ) -> Result<usize, KeptError> {
        fs::create_dir_all(folder.join("seeds"))?;
        let done = self.run_each(seeds, 1, watcher, |report| self.keep(folder, report))?;
        Ok(done.len())
    }

    /// Makes the results of all seeds that are kept in `folder`, as [`Batch::run_into`] does of those that
    /// it ran, and takes away what ended workers left half.
    ///
    /// # Errors
    /// When there are those of another scenario or engine, or the folder cannot be read or written.
    pub fn merge(self, folder: &Path) -> Result<Vec<Report>, KeptError> {
        let reports: Vec<Report> = self.kept(folder)?.into_values().collect();
        for entry in fs::read_dir(folder.join("seeds"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|it| it.as_encoded_bytes().starts_with(b"half")) {
                fs::remove_file(&path)?;
            }
        }
        self.write(folder, reports.len(), &reports)?;
        Ok(reports)
    }

    /// Keeps one seed: whole or not at all, whoever else keeps the same one now.
    fn keep(self, folder: &Path, report: &Report) -> Result<(), KeptError> {
        let path = kept_at(folder, report.seed);
        let text = serde_json::to_string(&Keep { run_id: &self.id(), report })
            .map_err(|error| KeptError::Form { path: path.clone(), error })?;
        // Under a name that is nobody else's until it is whole.
        let mut names = (0..HALVES_MAX).map(|no| path.with_extension(format!("half{no}")));
        let opened = names.find_map(|half| {
            match fs::OpenOptions::new().write(true).create_new(true).open(&half) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
                other => Some(other.map(|file| (half, file))),
            }
        });
        let full = || io::Error::other("too many halves of one seed: delete seeds/*.half*");
        let (half, mut file) = opened.unwrap_or_else(|| Err(full()))?;
        io::Write::write_all(&mut file, (text + "\n").as_bytes())?;
        Ok(fs::rename(&half, &path)?)
    }
}
