//! `warren bench relay`: one whole router as a middle hop between two load generators.
//!
//! Lives here: the router (in this process), the rounds, the figures. Does not live here: the
//! generators (`load.rs`), which run in a process of their own so that everything this one uses and
//! allocates is the router's.
//!
//! ```text
//!  child: source --link over 127.0.0.0/8--> router (measured) --link--> child: sink
//!                <--------- credits -------                   <-- credits
//! ```
//!
//! The router is the one that `warren run` runs, its driver and control plane included; the source
//! builds its tunnels through it with real builds.

use std::{
    ffi::OsString,
    io,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::time::sleep;

use super::{
    actors::{self, Clock},
    figures::RelayFigures,
    limit,
    memory::MemoryRelay,
    meter::{AllocationCount, median, nanoseconds_per, per, process_cpu, thread_cpu},
    scaling,
};
use crate::{
    config::ConfigFile,
    driver::{self, Handle, Setup},
};

/// How often the router is asked how many cells it has relayed.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Cells come all the time, or something is wrong; the first ones within this too.
const SILENCE_LIMIT: Duration = Duration::from_secs(20);

/// What to run.
#[derive(Clone, Debug)]
pub struct RelaySettings {
    /// Rounds, at least 1.
    pub rounds: usize,
    /// Cells per round; as many go before the first.
    pub cells: u64,
    /// Tunnels through the router, 1 to 1,000.
    pub tunnels: u32,
    /// Threads of the router, at least 1.
    pub workers: usize,
    /// The command that runs [`super::load`]: `--invite LINE --tunnels N` is appended.
    pub load: Vec<OsString>,
    /// Counts this process's allocations, if anybody does.
    pub allocations: Option<AllocationCount>,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// Sockets, threads or processes.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The router did not start.
    #[error("the router does not start: {0}")]
    Start(String),
    /// The generators did not come, or fell silent.
    #[error("no cells come through the router: is the machine overloaded?")]
    Silent,
    /// A handshake in memory failed: a defect.
    #[error("the routers of the benchmark do not come together")]
    Handshake,
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> RelayError {
    move |source| RelayError::Io { what, source }
}

/// The generators' process; killed and waited for when dropped.
struct Load(Child);

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Measures. Blocks for some seconds; the process should do nothing else meanwhile.
///
/// # Errors
/// When the generators cannot be started or a link breaks.
pub fn run(settings: &RelaySettings) -> Result<RelayFigures, RelayError> {
    let limit = limit::measure().map_err(io_error("measuring the loopback"))?;
    let memory = memory(settings).ok_or(RelayError::Handshake)?;
    let scaling = scaling::measure(settings.rounds, settings.cells, settings.tunnels)
        .map_err(io_error("measuring two workers"))?;
    let runtime = scaling::runtime(settings.workers).map_err(io_error("starting threads"))?;
    let rounds = runtime.block_on(router(settings))?;
    Ok(figures(settings, limit, &memory, scaling, &rounds))
}

/// What one round took.
#[derive(Clone, Copy, Debug)]
struct Round {
    cells: u64,
    cpu: Duration,
    wall: Duration,
    allocations: u64,
}

/// Counters at one moment.
#[derive(Clone, Copy, Debug)]
struct Mark {
    cells: u64,
    cpu: Duration,
    wall: Duration,
    allocations: u64,
}

impl Mark {
    fn take(cells: u64, clock: Clock, allocations: Option<AllocationCount>) -> Self {
        let allocations = allocations.map_or(0, |count| count());
        Self { cells, cpu: process_cpu(), wall: clock.elapsed(), allocations }
    }

    fn to(self, later: Self) -> Round {
        Round {
            cells: later.cells - self.cells,
            cpu: later.cpu.saturating_sub(self.cpu),
            wall: later.wall.saturating_sub(self.wall),
            allocations: later.allocations - self.allocations,
        }
    }
}

/// Runs the router until all rounds are measured.
async fn router(settings: &RelaySettings) -> Result<Vec<Round>, RelayError> {
    let start_error = |error: &dyn std::error::Error| RelayError::Start(error.to_string());
    let mut file = ConfigFile::default();
    file.link.listen = actors::address(1);
    file.proxy.listen.set_port(0);
    file.api.listen.set_port(0);
    file.limits.bandwidth_kbps = u32::MAX; // the machine is measured, not the limit
    let config = file.resolve().map_err(|error| start_error(&error))?;
    let setup = Setup::in_memory(config, actors::network(), Vec::new())
        .map_err(|error| start_error(&error))?;
    let router = driver::start(setup).await.map_err(|error| start_error(&error))?;
    let invite = router.invite().await.ok_or(RelayError::Silent)?;
    let load = start_load(settings, &invite)?;
    let rounds = measure(settings, &router).await;
    drop(load);
    router.stop().await;
    rounds
}

fn start_load(settings: &RelaySettings, invite: &str) -> Result<Load, RelayError> {
    let nothing = || io::Error::from(io::ErrorKind::NotFound);
    let (program, args) =
        settings.load.split_first().ok_or_else(nothing).map_err(io_error("starting the load"))?;
    Command::new(program)
        .args(args)
        .args(["--invite", invite, "--tunnels", &settings.tunnels.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map(Load)
        .map_err(io_error("starting the load generators"))
}

async fn measure(settings: &RelaySettings, router: &Handle) -> Result<Vec<Round>, RelayError> {
    let clock = Clock::start();
    let mut marks: Vec<Mark> = Vec::with_capacity(settings.rounds + 1);
    let (mut seen, mut seen_at) = (0, clock.elapsed());
    let mut built = false;
    while marks.len() <= settings.rounds {
        sleep(LOOK_EVERY).await;
        let cells = router.cells_relayed().await.ok_or(RelayError::Silent)?;
        if !built {
            // Many take a while: a neighbour may build 20 a second.
            let status = router.status().await.ok_or(RelayError::Silent)?;
            built = status.tunnels_transit >= settings.tunnels;
        }
        if built && cells >= marks.last().map_or(0, |mark| mark.cells) + settings.cells {
            marks.push(Mark::take(cells, clock, settings.allocations));
        }
        if cells > seen {
            (seen, seen_at) = (cells, clock.elapsed());
        } else if clock.elapsed().saturating_sub(seen_at) > SILENCE_LIMIT {
            return Err(RelayError::Silent);
        }
    }
    Ok(marks.array_windows::<2>().map(|[start, end]| start.to(*end)).collect())
}

/// The same without sockets: nanoseconds and allocations per cell, of each round.
fn memory(settings: &RelaySettings) -> Option<Vec<(f64, Option<f64>)>> {
    let mut relay = MemoryRelay::new(settings.tunnels)?;
    let mut rounds = Vec::with_capacity(settings.rounds);
    for round in 0..=settings.rounds {
        let start = relay.cells();
        let (mut time, mut begun) = (Duration::ZERO, Duration::ZERO);
        let (mut allocated, mut before) = (0, 0);
        while relay.cells() < start + settings.cells {
            relay.step(|works| {
                let count = settings.allocations.map_or(0, |count| count());
                if works {
                    (begun, before) = (thread_cpu(), count);
                } else {
                    time += thread_cpu().saturating_sub(begun);
                    allocated += count - before;
                }
            });
        }
        let cells = relay.cells() - start;
        if round > 0 {
            let count = settings.allocations.map(|_| per_count(allocated, cells));
            rounds.push((nanoseconds_per(time, cells), count));
        }
    }
    Some(rounds)
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people; counts are far below 2^53")]
fn per_count(count: u64, cells: u64) -> f64 {
    per(count as f64, cells)
}

fn figures(
    settings: &RelaySettings,
    limit: super::LimitFigures,
    memory: &[(f64, Option<f64>)],
    scaling: super::ScalingFigures,
    rounds: &[Round],
) -> RelayFigures {
    let cpu = || rounds.iter().map(|round| nanoseconds_per(round.cpu, round.cells));
    let cpu_ns_per_cell = median(cpu());
    let seconds_per_cell =
        median(rounds.iter().map(|round| nanoseconds_per(round.wall, round.cells))) / 1e9;
    let cells_per_s = if seconds_per_cell > 0.0 { 1.0 / seconds_per_cell } else { 0.0 };
    let counted = settings.allocations.is_some();
    let allocations = rounds.iter().map(|round| per_count(round.allocations, round.cells));
    let memory_counts = memory.iter().filter_map(|(_, count)| *count);
    RelayFigures {
        rounds: rounds.len(),
        cells_per_round: settings.cells,
        tunnels: settings.tunnels,
        workers: settings.workers.max(1),
        cpu_ns_per_cell,
        cpu_ns_per_cell_range: [cpu().fold(f64::MAX, f64::min), cpu().fold(0.0, f64::max)],
        cpu_s_per_gib: cpu_ns_per_cell * 1_048_576.0 / 1e9,
        allocations_per_cell: counted.then(|| median(allocations)),
        cells_per_s,
        mib_per_s: cells_per_s / 1_024.0,
        busy: cpu_ns_per_cell / 1e9 * cells_per_s,
        memory_ns_per_cell: median(memory.iter().map(|(time, _)| *time)),
        memory_allocations_per_cell: counted.then(|| median(memory_counts)),
        scaling,
        limit,
        limit_ns_per_cell: limit.sum(),
        ratio_to_limit: cpu_ns_per_cell / limit.sum(),
    }
}
