//! `warren bench relay`: one middle hop between two load generators.
//!
//! Lives here: the hop's process (this one), its loop over two real sockets, the rounds. Does not
//! live here: the generators (`load.rs`), which run in a process of their own so that everything
//! this one uses and allocates is the hop's.
//!
//! ```text
//!  child: source --link over 127.0.0.1--> hop (measured) --link over 127.0.0.1--> child: sink
//!                <------- credits -------                <------- credits ------
//! ```

use std::{
    ffi::OsString,
    io,
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    runtime,
    sync::mpsc,
    time::timeout,
};
use warren_overlay::{link::Handshake, plane::CloseReason};

use super::{
    actors::{self, Clock, HOP, IN, OUT},
    figures::RelayFigures,
    hop::Hop,
    limit,
    memory::MemoryRelay,
    meter::{AllocationCount, median, nanoseconds_per, per, process_cpu, thread_cpu},
    socket::{Conn, Event, tune},
};

/// As in the router's driver.
const EVENTS_MAX: usize = 256;
/// The generators are there within this, or something is wrong.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// Cells come all the time, or something is wrong.
const SILENCE_LIMIT: Duration = Duration::from_secs(10);

/// What to run.
#[derive(Clone, Debug)]
pub struct RelaySettings {
    /// Rounds, at least 1.
    pub rounds: usize,
    /// Cells per round; as many go before the first.
    pub cells: u64,
    /// Tunnels through the hop, 1 to 10,000.
    pub tunnels: u32,
    /// Threads of the hop, at least 1.
    pub workers: usize,
    /// The command that runs [`super::load`]: `--source A --sink B --tunnels N` is appended.
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
    /// The generators did not come, or fell silent.
    #[error("the load generators are silent: is the machine overloaded?")]
    Silent,
    /// The generators are gone.
    #[error("the load generators stopped")]
    LoadStopped,
    /// A link broke: a defect.
    #[error("a link of the benchmark ended: {0:?}")]
    Link(CloseReason),
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
    let runtime = if settings.workers <= 1 {
        runtime::Builder::new_current_thread().enable_all().build()
    } else {
        let threads = settings.workers;
        runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()
    };
    let runtime = runtime.map_err(io_error("starting threads"))?;
    // On a worker, as the router's task is.
    let task = runtime.spawn(hop(settings.clone()));
    let rounds = runtime.block_on(task).map_err(|error| RelayError::Io {
        what: "running the hop",
        source: io::Error::other(error),
    })??;
    Ok(figures(settings, limit, &memory, &rounds))
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

async fn hop(settings: RelaySettings) -> Result<Vec<Round>, RelayError> {
    let clock = Clock::start();
    let listen = || TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let for_source = listen().await.map_err(io_error("listening"))?;
    let for_sink = listen().await.map_err(io_error("listening"))?;
    let _load = start_load(&settings, &for_source, &for_sink)?;
    let came_in = timeout(CONNECT_LIMIT, accept(clock, &for_source));
    let goes_out = timeout(CONNECT_LIMIT, accept(clock, &for_sink));
    let (came_in, goes_out) =
        tokio::try_join!(came_in, goes_out).map_err(|_| RelayError::Silent)?;
    let (in_stream, came_in) = came_in.map_err(io_error("accepting the source"))?;
    let (out_stream, goes_out) = goes_out.map_err(io_error("accepting the sink"))?;
    let hop = Hop::new(clock.time(), came_in, goes_out, settings.tunnels);
    let (events, inbox) = mpsc::channel(EVENTS_MAX);
    let conns = [Conn::start(IN, in_stream, events.clone()), Conn::start(OUT, out_stream, events)];
    relay(clock, &settings, hop, conns, inbox).await
}

fn start_load(
    settings: &RelaySettings,
    for_source: &TcpListener,
    for_sink: &TcpListener,
) -> Result<Load, RelayError> {
    let address = |listener: &TcpListener| listener.local_addr().map(|address| address.to_string());
    let source = address(for_source).map_err(io_error("listening"))?;
    let sink = address(for_sink).map_err(io_error("listening"))?;
    let [program, args @ ..] = &*settings.load else { return Err(RelayError::LoadStopped) };
    Command::new(program)
        .args(args)
        .args(["--source", &source, "--sink", &sink])
        .args(["--tunnels", &settings.tunnels.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map(Load)
        .map_err(io_error("starting the load generators"))
}

async fn accept(
    clock: Clock,
    listener: &TcpListener,
) -> io::Result<(TcpStream, warren_overlay::link::Established)> {
    let (stream, _) = listener.accept().await?;
    tune(&stream);
    let machine = Handshake::accept(clock.now(), actors::identity(HOP), actors::fresh_rng());
    let established = actors::shake_over(clock, &stream, machine).await?;
    Ok((stream, established))
}

/// The router's loop, until all rounds are measured.
async fn relay(
    clock: Clock,
    settings: &RelaySettings,
    mut hop: Hop,
    mut conns: [Conn; 2],
    mut inbox: mpsc::Receiver<Event>,
) -> Result<Vec<Round>, RelayError> {
    let mut marks: Vec<Mark> = Vec::with_capacity(settings.rounds + 1);
    loop {
        flush(clock, &mut hop, &mut conns)?;
        if let Some(reason) = hop.over {
            return Err(RelayError::Link(reason));
        }
        let cells = hop.cells();
        if cells >= marks.last().map_or(0, |mark| mark.cells) + settings.cells {
            marks.push(Mark::take(cells, clock, settings.allocations));
            if marks.len() > settings.rounds {
                let pairs = marks.array_windows::<2>();
                return Ok(pairs.map(|[start, end]| start.to(*end)).collect());
            }
        }
        let now = clock.time();
        if hop.poll_timeout().is_some_and(|at| at <= now) {
            hop.handle_timeout(now);
        }
        let event = match inbox.try_recv() {
            Ok(event) => event,
            Err(_) => match timeout(SILENCE_LIMIT, inbox.recv()).await {
                Ok(Some(event)) => event,
                Ok(None) => return Err(RelayError::LoadStopped),
                Err(_) => return Err(RelayError::Silent),
            },
        };
        match event {
            Event::Received { link, mut bytes } => hop.received(clock.time(), link, &mut bytes),
            Event::Writable { link } => {
                let [in_conn, out_conn] = &mut conns;
                if link == IN { in_conn.writable() } else { out_conn.writable() }
            }
            Event::Closed => return Err(RelayError::LoadStopped),
        }
    }
}

fn flush(clock: Clock, hop: &mut Hop, conns: &mut [Conn; 2]) -> Result<(), RelayError> {
    for (link, conn) in [OUT, IN].into_iter().zip(conns.iter_mut().rev()) {
        if hop.wants_transmit(link) {
            conn.flush(|buffer| hop.poll_transmit(clock.time(), link, buffer))
                .map_err(io_error("writing to a link"))?;
        }
    }
    Ok(())
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
        limit,
        limit_ns_per_cell: limit.sum(),
        ratio_to_limit: cpu_ns_per_cell / limit.sum(),
    }
}
