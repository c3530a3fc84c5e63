//! The verb `bisect`: from which value of a key on a scenario's expectations hold no longer, or hold.
//!
//! Lives here: the search. Does not live here: the values (`sweep.rs` reads them), the seeds at each
//! (`batch.rs`).

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

use clap::Args;

use super::{Failure, Jobs, What, print, run_seeds, say};
use crate::{
    batch::{Batch, Summary, Verdict},
    sweep,
};

#[derive(Args, Debug)]
pub(super) struct Bisect {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    jobs: Jobs,
    /// The key and its values in order: adversary.hostile=0.0..0.3/0.01 or network.degree=[8, 10, 12]
    #[arg(long = "vary", value_name = "KEY=VALUES")]
    vary: String,
    /// Keep results in this folder, a folder for each value that was tried
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Bisect {
    pub(super) fn run(self, stop: &Arc<AtomicBool>) -> Result<Verdict, Failure> {
        let Self { what, vary, .. } = &self;
        let wrong = |error| what.wrong(error);
        let sweep = sweep::Sweep::read(&what.text()?, &what.sets, std::slice::from_ref(vary));
        let sweep = sweep.map_err(wrong)?;
        let points = sweep.points().map_err(wrong)?;
        let usage = |why: &str| Err(what.wrong(why));
        if sweep.keys().count() != 1 || points.len() < 2 {
            return usage("bisect takes one key with two values or more, and no table [sweep]");
        }
        if points.iter().any(|it| it.1.expect().is_empty()) {
            return usage("says nothing in [expect] that could hold or not");
        }
        let holds = |at: usize| self.holds(points.get(at), stop);
        let name = |at: usize| points.get(at).map_or("", |it| it.0.folder.as_str());
        let (mut low, mut high) = (0, points.len() - 1);
        let first = holds(low)?;
        if holds(high)? == first {
            let word = if first { "holds" } else { "does not hold" };
            print(format_args!("{word} at either end: {} and {}", name(low), name(high)))?;
            return Ok(if first { Verdict::Passed } else { Verdict::Expectation });
        }
        while high - low > 1 {
            let middle = low.midpoint(high);
            let to = if holds(middle)? == first { &mut low } else { &mut high };
            *to = middle;
        }
        let words = if first { ["holds", "not"] } else { ["does not hold", "does"] };
        print(format_args!("{} at {}, {} at {}", words[0], name(low), words[1], name(high)))?;
        Ok(Verdict::Passed)
    }

    /// Whether every seed at a point is as expected; prints what there is to see.
    fn holds(
        &self,
        point: Option<&(sweep::Point, crate::scenario::Scenario, String)>,
        stop: &Arc<AtomicBool>,
    ) -> Result<bool, Failure> {
        let Some((point, scenario, text)) = point else { return Ok(false) };
        say(format_args!("{}", point.folder));
        let batch = Batch { scenario, text, folder: self.what.folder() };
        let out = self.out.as_ref().map(|out| out.join(&point.folder));
        let reports = run_seeds(batch, self.what.seeds, self.jobs, out.as_deref(), stop)?;
        if self.what.seeds.is_missing(&reports) {
            return Err(Failure::Interrupted);
        }
        let summary = Summary::of(scenario, &reports);
        let holds = summary.verdict == Some(Verdict::Passed);
        let word = if holds { "ok " } else { "NOT" };
        let seen =
            |metric| summary.metrics.get(metric).map(|it| format!("{metric} {:.4}", it.mean));
        let seen: Vec<String> = summary.expect.keys().filter_map(seen).collect();
        print(format_args!("{word} {}: {}", point.folder, seen.join(", ")))?;
        Ok(holds)
    }
}
