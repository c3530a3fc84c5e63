//! Two folders of results beside each other, seed by seed.
//!
//! Lives here: reading `seeds.csv`, pairing. Does not live here: what a difference means
//! (`statistics.rs`).
//!
//! Seeds are common random numbers: the same seed draws the same places, lives and wishes in both, as
//! far as the scenarios let it. So differences within a seed say more than differences of means.

use std::{collections::BTreeMap, fs, io, path::Path};

use serde::Serialize;

use crate::statistics::Paired;

/// Why two folders cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A folder cannot be read.
    #[error("{0}: {1}")]
    Io(String, io::Error),
    /// A table is not one of ours.
    #[error("{0}: line {1} is not as `warren sim run --out` writes it")]
    Form(String, usize),
    /// Nothing can be paired.
    #[error("no seed is in both: run both with the same --seeds")]
    NoSeed,
}

/// What changes from A to B.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// Seeds that both have.
    pub seeds: Vec<u64>,
    /// Each metric that both have.
    pub metrics: BTreeMap<String, Paired>,
}

/// Values of a seed, by metric.
type Table = BTreeMap<u64, BTreeMap<String, f64>>;

fn read(folder: &Path) -> Result<Table, CompareError> {
    let path = folder.join("seeds.csv");
    let name = path.display().to_string();
    let text = fs::read_to_string(&path).map_err(|error| CompareError::Io(name.clone(), error))?;
    let mut lines = text.lines();
    // seed,hash,events,end_s, and then metrics.
    let heading: Vec<&str> = lines.next().unwrap_or_default().split(',').skip(4).collect();
    let mut table = Table::new();
    for (line, number) in lines.zip(2..) {
        let bad = || CompareError::Form(name.clone(), number);
        let mut fields = line.split(',');
        let seed = fields.next().and_then(|it| it.parse().ok()).ok_or_else(bad)?;
        let mut values = BTreeMap::new();
        let fields: Vec<&str> = fields.skip(3).collect();
        if fields.len() != heading.len() {
            return Err(bad());
        }
        for (metric, field) in heading.iter().zip(fields).filter(|it| !it.1.is_empty()) {
            values.insert((*metric).to_owned(), field.parse().map_err(|_| bad())?);
        }
        table.insert(seed, values);
    }
    Ok(table)
}

/// Compares the results in two folders.
///
/// # Errors
/// When one cannot be read, or they have no seed in common.
pub fn compare(a: &Path, b: &Path) -> Result<Comparison, CompareError> {
    let (a, b) = (read(a)?, read(b)?);
    let mut pairs: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    let mut seeds = Vec::new();
    for (seed, of_a) in &a {
        let Some(of_b) = b.get(seed) else { continue };
        seeds.push(*seed);
        for (metric, value) in of_a {
            if let Some(other) = of_b.get(metric) {
                pairs.entry(metric.clone()).or_default().push((*value, *other));
            }
        }
    }
    if seeds.is_empty() {
        return Err(CompareError::NoSeed);
    }
    let paired = pairs.into_iter().filter_map(|(metric, it)| Some((metric, Paired::of(&it)?)));
    Ok(Comparison { seeds, metrics: paired.collect() })
}
