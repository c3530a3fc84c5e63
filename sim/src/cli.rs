//! The command line of `warren-sim`.
//!
//! Lives here: the verbs, their flags, exit codes, progress. Does not live here: what they do.
//!
//! Results go to standard output and files, words for people to standard error.

mod bisect;
mod jobs;
mod progress;
mod study;

use std::{
    fmt::Display,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use warren_overlay::time::Time;

use self::progress::Show;
use crate::{
    batch::{Batch, KeptError, Manifest, Summary, Verdict},
    net::{HostNo, Line},
    run::{Part, Report, Watcher, seconds},
    scenario::{Scenario, ScenarioError, Span},
    swarm,
    validate::{Check, Depth, validate},
};

/// Whole networks of Warren routers on a virtual clock
///
/// Exit codes: 0 passed, 1 could not be done, 2 wrong usage or scenario, 10 an expectation or check
/// failed, 128 something good did not happen (liveness), 129 something bad happened (safety),
/// 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "warren-sim", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a scenario with many seeds
    Run(Run),
    /// Run one seed of results again, and show what happens at a router
    Replay(Replay),
    /// Compare the simulator with closed forms, exact values and published tables
    Validate {
        /// Every kind of check, but small: seconds
        #[arg(long)]
        quick: bool,
        /// Print one JSON array
        #[arg(long)]
        json: bool,
        /// Print one table in Markdown
        #[arg(long, conflicts_with = "json")]
        markdown: bool,
    },
    /// Networks, faults and people drawn from the seed; then everything heals, and must be well
    Swarm(Swarm),
    /// Print the JSON schema of scenario files
    Schema,
    /// Run a scenario at all combinations of values of some keys
    Sweep(study::Sweep),
    /// Write a run or sweep as jobs for many machines that see one folder
    Plan(jobs::Plan),
    /// Do one job of a plan
    Exec(jobs::Exec),
    /// Make results of a plan whose jobs are done
    Merge(jobs::Merge),
    /// Find the value of a key at which a scenario's expectations begin or cease to hold
    Bisect(bisect::Bisect),
    /// Compare two folders of results, seed by seed: B minus A
    Compare(study::Compare),
    /// Make one page of a folder of results: tables, plots, the command that gives them again
    Report(study::Report),
    /// Begin a scenario of one's own from one that is shipped
    New(study::New),
}

/// What is run: the flags of every verb that takes a scenario.
#[derive(Args, Debug)]
struct What {
    /// The scenario, a TOML file
    #[arg(value_name = "SCENARIO.toml")]
    scenario: PathBuf,
    /// Which seeds, at each value of a key that varies: `7`, or `1..32` with both ends
    #[arg(long, default_value = "1..10", value_name = "FIRST..LAST")]
    seeds: Seeds,
    /// Put KEY=VALUE in the place of what the scenario says, such as network.routers=200
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
}

impl What {
    fn text(&self) -> Result<String, Failure> {
        read(&self.scenario)
    }

    /// Where files lie that the scenario names.
    fn folder(&self) -> &Path {
        folder(&self.scenario)
    }

    /// What is wrong with the scenario.
    fn wrong(&self, why: impl Display) -> Failure {
        Failure::Usage(format!("{}: {why}", self.scenario.display()))
    }
}

/// How many seeds are run at a time.
#[derive(Args, Clone, Copy, Debug)]
struct Jobs {
    /// How many run side by side; results do not depend on it
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    jobs: u16,
}

#[derive(Args, Debug)]
struct Run {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    jobs: Jobs,
    /// Keep results in this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct Replay {
    /// A folder that `run --out` made
    dir: PathBuf,
    /// Which seed
    #[arg(long)]
    seed: u64,
    /// End at this simulated time, such as 90s
    #[arg(long, value_name = "TIME")]
    until: Option<Span>,
    /// Print what happens at a router, as CSV
    #[arg(long, value_name = "node=K")]
    trace: Option<Trace>,
}

#[derive(Args, Debug)]
struct Swarm {
    /// How many
    #[arg(long, default_value_t = 10)]
    seeds: u64,
    /// The first
    #[arg(long, default_value_t = 1)]
    first: u64,
    #[command(flatten)]
    jobs: Jobs,
    /// Where to put what fails, and then the smallest scenario found that still does
    #[arg(long, default_value = ".", value_name = "DIR")]
    out: PathBuf,
}

/// Seeds from first to last.
#[derive(Clone, Copy, Debug)]
struct Seeds(u64, u64);

impl Seeds {
    /// Whether one of them was not run.
    fn is_missing(self, reports: &[Report]) -> bool {
        let there = |seed: u64| reports.iter().any(|report| report.seed == seed);
        (self.0..=self.1).any(|seed| !there(seed))
    }
}

impl FromStr for Seeds {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        let number = |text: &str| -> Result<u64, _> { text.parse().map_err(|_| "not a number") };
        let (first, last) = (number(first)?, number(last.trim_start_matches('='))?);
        match last.checked_sub(first) {
            Some(0..100_000) => Ok(Self(first, last)),
            Some(_) => Err("too many: at most 100,000"),
            None => Err("the last comes before the first"),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Trace(HostNo);

impl FromStr for Trace {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.strip_prefix("node=").and_then(|no| no.parse().ok());
        number.map(Self).ok_or("say node=K, with the router's number")
    }
}

/// Why a verb could not be done.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error("{}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("interrupted")]
    Interrupted,
}

impl From<ScenarioError> for Failure {
    fn from(error: ScenarioError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<KeptError> for Failure {
    fn from(error: KeptError) -> Self {
        match error {
            KeptError::Scenario(error) => error.into(),
            KeptError::Io(error) => error.into(),
            KeptError::Form { .. } => Self::Io(io::Error::other(error.to_string())),
        }
    }
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::File { .. } | Self::Io(_) | Self::Json(_) => 1,
            Self::Interrupted => 130,
        }
    }
}

/// Runs the verb that the process was called with.
pub fn main() -> ExitCode {
    let stop = Arc::new(AtomicBool::new(false));
    let heard = Arc::clone(&stop);
    // A second Ctrl-C does not wait for the runs to notice.
    let handler = move || {
        if heard.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        say(format_args!("Ctrl-C will keep no results: {error}"));
    }
    let cli = Cli::parse();
    start_log();
    let done = match cli.verb {
        Verb::Run(run) => run.run(&stop),
        Verb::Replay(replay) => replay.run(&stop),
        Verb::Validate { quick, json, markdown } => checks(quick, json, markdown),
        Verb::Swarm(swarm) => swarm.run(&stop),
        Verb::Schema => schema(),
        Verb::Sweep(sweep) => sweep.run(&stop),
        Verb::Plan(plan) => plan.run(),
        Verb::Exec(exec) => exec.run(&stop),
        Verb::Merge(merge) => merge.run(),
        Verb::Bisect(bisect) => bisect.run(&stop),
        Verb::Compare(compare) => compare.run(),
        Verb::Report(report) => report.run(),
        Verb::New(new) => new.run(),
    };
    match done {
        Ok(verdict) => ExitCode::from(verdict.code()),
        Err(failure) => {
            say(format_args!("error: {failure}"));
            ExitCode::from(failure.code())
        }
    }
}

/// `WARREN_LOG` chooses what the routers log (default nothing), to standard error.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("WARREN_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("off"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).without_time();
    log.with_writer(io::stderr).init();
}

/// Words for people. A closed standard error is nobody's problem.
fn say(words: std::fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{words}");
}

/// A result, on standard output.
fn print(result: std::fmt::Arguments<'_>) -> Result<(), Failure> {
    Ok(writeln!(io::stdout(), "{result}")?)
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| Failure::File { path: path.into(), error })
}

fn folder(file: &Path) -> &Path {
    file.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl Run {
    fn run(self, stop: &Arc<AtomicBool>) -> Result<Verdict, Failure> {
        let Self { what, jobs, .. } = &self;
        let read = Scenario::read(&what.text()?, &what.sets);
        let (scenario, text) = read.map_err(|error| what.wrong(error))?;
        let batch = Batch { scenario: &scenario, text: &text, folder: what.folder() };
        let reports = run_seeds(batch, what.seeds, *jobs, self.out.as_deref(), stop)?;
        let summary = Summary::of(&scenario, &reports);
        if self.json {
            print(format_args!("{}", serde_json::to_string_pretty(&summary)?))?;
        } else {
            tell(&summary)?;
        }
        let dir = self.out.as_deref();
        for report in reports.iter().filter(|it| it.verdict(&scenario) != Verdict::Passed) {
            failed(report, dir, &what.scenario);
        }
        if what.seeds.is_missing(&reports) {
            return Err(Failure::Interrupted);
        }
        Ok(summary.verdict.unwrap_or(Verdict::Passed))
    }
}

/// From so many routers on room is what a run lacks most.
const LARGE: u32 = 2_000;

/// Memory in small pages for a large network of routers: with huge ones, which are found sooner, it takes a
/// tenth more. Where the system does not grant it, all goes on as it was.
fn make_room(scenario: &Scenario) {
    if matches!(scenario, Scenario::Wire(_)) && scenario.routers() >= LARGE {
        let _ = rustix::thread::disable_transparent_huge_pages(true);
    }
}

/// Runs the seeds that `out` does not have yet, and gives all that it has then.
fn run_seeds(
    batch: Batch<'_>,
    seeds: Seeds,
    Jobs { jobs }: Jobs,
    out: Option<&Path>,
    stop: &Arc<AtomicBool>,
) -> Result<Vec<Report>, Failure> {
    make_room(batch.scenario);
    let kept = out.map(|out| batch.kept(out)).transpose()?.unwrap_or_default();
    let seeds: Vec<u64> = (seeds.0..=seeds.1).collect();
    let missing = seeds.iter().filter(|seed| !kept.contains_key(seed)).count();
    if missing < seeds.len() {
        say(format_args!("{} of {} seeds are there already", seeds.len() - missing, seeds.len()));
    }
    let show = Show::new(batch.scenario.end(), missing, stop);
    let watcher = |seed| show.watcher(seed);
    let reports = match out {
        Some(out) => batch.run_into(out, kept, &seeds, jobs.into(), watcher)?,
        None => batch.run(&seeds, jobs.into(), watcher)?,
    };
    show.finish();
    if missing > 0
        && let Some(kib) = progress::most_memory()
    {
        let (jobs, routers) = (u64::from(jobs), u64::from(batch.scenario.routers()));
        let each = kib / routers.max(1);
        let side_by_side = jobs.min(missing as u64);
        say(format_args!(
            "memory: {} MiB at most, {each} KiB for each of {routers} routers; seeds at once: {side_by_side}",
            kib >> 10
        ));
    }
    Ok(reports)
}

/// A summary as a table.
fn tell(summary: &Summary) -> Result<(), Failure> {
    if summary.seeds == 0 {
        return print(format_args!("no seed was finished"));
    }
    print(format_args!(
        "{:<16} {:>12} {:>10} {:>12} {:>12} {:>12}",
        "metric", "mean", "+-95 %", "least", "most", "theory"
    ))?;
    for (metric, it) in &summary.metrics {
        let half = it.half_width_95.map(|it| format!("{it:.4}")).unwrap_or_default();
        let name = metric.to_string();
        let theory = summary.theory.get(metric).map(|it| format!("{it:.4}")).unwrap_or_default();
        let line = format!(
            "{name:<16} {:>12.4} {half:>10} {:>12.4} {:>12.4} {theory:>12}",
            it.mean, it.least, it.most
        );
        print(format_args!("{}", line.trim_end()))?;
    }
    for (name, count) in &summary.outcomes {
        print(format_args!("{name}: {count}"))?;
    }
    for (metric, it) in &summary.expect {
        let condition = String::from(it.condition);
        match it.failed_seeds.as_slice() {
            [] => print(format_args!("expected {metric} {condition}: so it is"))?,
            seeds => {
                print(format_args!("expected {metric} {condition}: NOT with seeds {seeds:?}"))?;
            }
        }
    }
    Ok(())
}

/// Says what went wrong with a seed, and how to see it again.
fn failed(report: &Report, out: Option<&Path>, scenario: &Path) {
    let seed = report.seed;
    for it in &report.violations {
        let (oracle, router, what) = (&it.oracle, it.router, &it.what);
        let at = seconds(Time::from_micros(it.at_us));
        say(format_args!("seed {seed}: {oracle}: at {at} s, router {router}: {what}"));
    }
    match (out, report.violations.first()) {
        (Some(dir), Some(it)) => say(format_args!(
            "again: warren sim replay {} --seed {seed} --until {}s --trace node={}",
            dir.display(),
            seconds(Time::from_micros(it.at_us)),
            it.router
        )),
        (Some(dir), None) => {
            say(format_args!("again: warren sim replay {} --seed {seed}", dir.display()));
        }
        (None, _) => say(format_args!(
            "again: warren sim run {} --seeds {seed} --out DIR (with the same --set)",
            scenario.display()
        )),
    }
}

/// Prints what happens at a router.
struct Printer {
    stop: Arc<AtomicBool>,
    broken: bool,
}

impl Watcher for Printer {
    fn progress(&mut self, _: Time, _: u64) -> bool {
        !self.stop.load(Ordering::Relaxed) && !self.broken
    }

    fn line(&mut self, line: Line) {
        let Line { at, host, what, link, bytes } = line;
        let what = format!("{what:?}").to_lowercase();
        let line = print(format_args!("{},{host},{what},{link},{bytes}", seconds(at)));
        self.broken |= line.is_err();
    }
}

impl Replay {
    fn run(self, stop: &Arc<AtomicBool>) -> Result<Verdict, Failure> {
        let text = read(&self.dir.join("scenario.toml"))?;
        let manifest: Manifest = serde_json::from_str(&read(&self.dir.join("manifest.json"))?)?;
        let (scenario, text) = Scenario::read(&text, &[])?;
        let batch = Batch { scenario: &scenario, text: &text, folder: &self.dir };
        if manifest.run_id != batch.id() {
            say(format_args!(
                "made by {}, or changed since: this may be another run",
                manifest.engine
            ));
        }
        let part = Part {
            until: self.until.map(|until| Time::ZERO + until.0),
            watch: self.trace.map(|trace| trace.0),
            ..Part::default()
        };
        if part.watch.is_some() {
            print(format_args!("time_s,router,what,link,bytes"))?;
        }
        let mut printer = Printer { stop: Arc::clone(stop), broken: false };
        let report = scenario.run(&self.dir, self.seed, part, &mut printer)?;
        let Some(report) = report else { return Err(Failure::Interrupted) };
        for it in &report.violations {
            let (oracle, router, what) = (&it.oracle, it.router, &it.what);
            let at = seconds(Time::from_micros(it.at_us));
            say(format_args!("{oracle}: at {at} s, router {router}: {what}"));
        }
        let hash = blake3::Hash::from_bytes(report.hash).to_hex();
        let then = manifest.seeds.iter().find(|entry| entry.seed == self.seed);
        let same = then.map(|entry| entry.hash == hash.as_str());
        let word = match (part.until, same) {
            (Some(_), _) => "up to there",
            (None, Some(true)) => "the same as then",
            (None, Some(false)) => "NOT the same as then",
            (None, None) => "a seed that was not run then",
        };
        say(format_args!("{} events, hash {hash}: {word}", report.events));
        Ok(report.verdict(&scenario))
    }
}

fn checks(quick: bool, json: bool, markdown: bool) -> Result<Verdict, Failure> {
    let depth = if quick { Depth::Quick } else { Depth::Full };
    let mut broken = None;
    let done = validate(depth, &mut |check| {
        if json || markdown {
            return;
        }
        let word = if check.holds() { "ok" } else { "OFF" };
        let Check { name, known, value, error } = check;
        let line = format_args!("{word:<4} {name:<72} {value:>9.4} +-{error:.4}  {known}");
        broken = broken.take().or(print(line).err());
    });
    if json {
        print(format_args!("{}", serde_json::to_string_pretty(&done)?))?;
    }
    if markdown {
        print(format_args!("{}", crate::validate::markdown(&done).trim_end()))?;
    }
    let off = done.iter().filter(|check| !check.holds()).count();
    if off > 0 {
        say(format_args!("{off} of {} checks are off", done.len()));
    }
    match broken {
        Some(failure) => Err(failure),
        None if off > 0 => Ok(Verdict::Expectation),
        None => Ok(Verdict::Passed),
    }
}

impl Swarm {
    fn run(self, stop: &Arc<AtomicBool>) -> Result<Verdict, Failure> {
        let last = self.first.saturating_add(self.seeds.clamp(1, 100_000) - 1);
        let seeds: Vec<_> = (self.first..=last).collect();
        let show = Show::new(swarm::LONGEST, seeds.len(), stop);
        let failures = swarm::run(&seeds, self.jobs.jobs.into(), |seed| show.watcher(seed))?;
        show.finish();
        let mut worst = Verdict::Passed;
        for failure in &failures {
            worst = worst.max(failure.verdict());
            say(format_args!("seed {} failed", failure.seed));
            self.keep(failure)?;
        }
        for failure in &failures {
            say(format_args!("looking for less of seed {} that still fails", failure.seed));
            let quiet = || Quiet(Arc::clone(stop));
            let small = failure.shrink(&mut || Box::new(quiet()))?;
            self.keep(&small)?;
        }
        if stop.load(Ordering::Relaxed) {
            return Err(Failure::Interrupted);
        }
        print(format_args!("{} of {} seeds passed", seeds.len() - failures.len(), seeds.len()))?;
        Ok(worst)
    }

    /// Writes the scenario of a seed that failed, and says what was seen and how to see it again.
    fn keep(&self, failure: &swarm::Failure) -> Result<(), Failure> {
        fs::create_dir_all(&self.out)?;
        let path = self.out.join(format!("swarm-{}.toml", failure.seed));
        fs::write(&path, &failure.text)?;
        for it in &failure.violations {
            let (oracle, router, what) = (&it.oracle, it.router, &it.what);
            let at = Duration::from_micros(it.at_us).as_secs_f64();
            say(format_args!("  {oracle}: at {at} s, router {router}: {what}"));
        }
        let path = path.display();
        say(format_args!("again: warren sim run {path} --seeds {} --out DIR", failure.seed));
        Ok(())
    }
}

/// Only hears Ctrl-C.
struct Quiet(Arc<AtomicBool>);

impl Watcher for Quiet {
    fn progress(&mut self, _: Time, _: u64) -> bool {
        !self.0.load(Ordering::Relaxed)
    }

    fn line(&mut self, _: Line) {}
}

fn schema() -> Result<Verdict, Failure> {
    print(format_args!("{}", serde_json::to_string_pretty(&Scenario::schema())?))?;
    Ok(Verdict::Passed)
}
