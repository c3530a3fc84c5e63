//! Progress for people: a line for each seed that runs, with simulated time, speed and memory.
//!
//! The only place of the simulator that reads a clock; nothing of it gets into results. Where
//! standard error is no terminal nothing is shown.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use warren_overlay::time::Time;

use crate::{net::Line, run::Watcher};

/// How often a line is drawn anew.
const DRAW_EVERY: Duration = Duration::from_millis(200);
const STYLE: &str = "{prefix:>9} {wide_bar} {pos}/{len} s  {msg}  ETA {eta}";

/// All lines.
#[derive(Debug)]
pub(super) struct Show {
    lines: MultiProgress,
    seeds: ProgressBar,
    length: u64,
    stop: Arc<AtomicBool>,
}

/// One line.
#[derive(Debug)]
pub(super) struct Bar {
    bar: ProgressBar,
    seeds: ProgressBar,
    stop: Arc<AtomicBool>,
    drawn: Instant,
    events: u64,
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[expect(clippy::disallowed_methods, reason = "for people; nothing of it gets into results")]
fn clock() -> Instant {
    Instant::now()
}

/// Memory of this process in MiB, where the system tells.
fn memory() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4 / 1_024
}

/// The most memory of this process so far in KiB, where the system tells.
pub(super) fn most_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

impl Show {
    /// Lines for `seeds` runs that end at `end`.
    pub(super) fn new(end: Time, seeds: usize, stop: &Arc<AtomicBool>) -> Self {
        let lines = MultiProgress::new();
        let bar = ProgressBar::new(seeds as u64);
        let bar = bar.with_style(style("    seeds {wide_bar} {pos}/{len}  {elapsed}"));
        let length = end.as_micros() / 1_000_000;
        Self { seeds: lines.add(bar), lines, length, stop: Arc::clone(stop) }
    }

    /// The line of one seed.
    pub(super) fn watcher(&self, seed: u64) -> Bar {
        let bar = self.lines.insert_from_back(1, ProgressBar::new(self.length));
        bar.set_style(style(STYLE));
        bar.set_prefix(format!("seed {seed}"));
        let (stop, seeds) = (Arc::clone(&self.stop), self.seeds.clone());
        Bar { bar, seeds, stop, drawn: clock(), events: 0 }
    }

    /// Takes all lines away.
    pub(super) fn finish(&self) {
        self.seeds.finish_and_clear();
    }
}

impl Watcher for Bar {
    fn progress(&mut self, at: Time, events: u64) -> bool {
        let now = clock();
        let since = now.duration_since(self.drawn);
        if since >= DRAW_EVERY {
            let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
            let rate = (events - self.events) / millis.max(1);
            self.bar.set_position(at.as_micros() / 1_000_000);
            self.bar.set_message(format!("{rate}k events/s  {} MiB", memory()));
            (self.drawn, self.events) = (now, events);
        }
        !self.stop.load(Ordering::Relaxed)
    }

    fn line(&mut self, _: Line) {}
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        self.seeds.inc(1);
    }
}
