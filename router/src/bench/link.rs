//! `warren bench link`: two processes, one link, as fast as it goes.
//!
//! Lives here: the receiving side (in this process), the rounds, the figures. Does not live here:
//! the sending side (`load.rs`, in a process of its own).
//!
//! ```text
//!  child: source --link over loopback--> this process: sink
//!                <------- credits ------
//! ```
//!
//! Both sides are `LinkIo` on a socket, without a router around them: what a link can do, which no
//! relay can exceed.

use std::{
    ffi::OsString,
    fmt, io,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::{net::TcpListener, runtime, time::sleep};
use warren_overlay::link::{Handshake, LinkIdentity};

use super::{
    LimitFigures,
    actors::{self, Clock},
    limit,
    load::{Generator, drive},
    meter::{median, nanoseconds_per, process_cpu},
    processes,
};
use crate::{entropy, invite::Invite};

/// How long one round takes. The sender's CPU time comes in steps of 10 ms.
const ROUND: Duration = Duration::from_secs(2);

/// What to run.
#[derive(Clone, Debug)]
pub struct LinkBenchSettings {
    /// Rounds of two seconds, at least 1.
    pub rounds: usize,
    /// Lanes that are kept full, 1 to 1,000.
    pub tunnels: u32,
    /// The command that runs [`super::load_link`]: `--invite LINE --tunnels N` is appended.
    pub load: Vec<OsString>,
}

/// One run of `warren bench link`: medians.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LinkFigures {
    /// Rounds that were measured.
    pub rounds: usize,
    /// Lanes that were kept full.
    pub tunnels: u32,
    /// Cell bodies of 1,024 bytes through the link, in MiB a second of wall time.
    pub mib_per_s: f64,
    /// CPU time of the sending process for one cell, in nanoseconds.
    pub sender_ns_per_cell: f64,
    /// CPU time of the receiving process for one cell, in nanoseconds.
    pub receiver_ns_per_cell: f64,
    /// Both, as seconds for one GiB of cell bodies.
    pub cpu_s_per_gib: f64,
    /// What the machine allows; a link has no onion layer.
    pub limit: LimitFigures,
    /// AEAD and loopback alone.
    pub limit_ns_per_cell: f64,
    /// Both sides over `limit_ns_per_cell`.
    pub ratio_to_limit: f64,
}

impl fmt::Display for LinkFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "one link, two processes, {} lanes; median of {} rounds of {} s",
            self.tunnels,
            self.rounds,
            ROUND.as_secs()
        )?;
        writeln!(f, "  throughput    {:>8.0} MiB/s", self.mib_per_s)?;
        writeln!(
            f,
            "  CPU per cell  {:>8.0} ns sending, {:.0} ns receiving; {:.2} CPU-s per GiB for both",
            self.sender_ns_per_cell, self.receiver_ns_per_cell, self.cpu_s_per_gib
        )?;
        write!(
            f,
            "  limit         {:>8.0} ns (AEAD {:.0}, loopback {:.0}): {:.2} times that",
            self.limit_ns_per_cell, self.limit.aead_ns, self.limit.loopback_ns, self.ratio_to_limit
        )
    }
}

/// Measures. Blocks for some seconds; the process should do nothing else meanwhile.
///
/// # Errors
/// When the other process cannot be started, or the link breaks.
pub fn run(settings: &LinkBenchSettings) -> io::Result<LinkFigures> {
    let limit = limit::measure()?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let rounds = runtime.block_on(measure(settings))?;
    let of = |pick: fn(&Round) -> Duration| {
        median(rounds.iter().map(|round| nanoseconds_per(pick(round), round.cells)))
    };
    let (sender, receiver) = (of(|round| round.sender), of(|round| round.receiver));
    let limit_ns_per_cell = limit.aead_ns + limit.loopback_ns;
    Ok(LinkFigures {
        rounds: rounds.len(),
        tunnels: settings.tunnels,
        mib_per_s: 1e9 / of(|round| round.wall) / 1_024.0,
        sender_ns_per_cell: sender,
        receiver_ns_per_cell: receiver,
        cpu_s_per_gib: (sender + receiver) * 1_048_576.0 / 1e9,
        limit,
        limit_ns_per_cell,
        ratio_to_limit: (sender + receiver) / limit_ns_per_cell,
    })
}

/// The sending process; killed and waited for when dropped.
struct Sender(Child);

impl Drop for Sender {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[derive(Clone, Copy, Debug)]
struct Round {
    cells: u64,
    wall: Duration,
    sender: Duration,
    receiver: Duration,
}

async fn measure(settings: &LinkBenchSettings) -> io::Result<Vec<Round>> {
    let clock = Clock::start();
    let listener = TcpListener::bind(actors::address(1)).await?;
    let network = actors::network();
    let own = actors::identity(clock.now(), &network, listener.local_addr()?.into())
        .ok_or_else(|| io::Error::other("no memory for a router's work"))?;
    let invite =
        Invite { network, routers: vec![Arc::clone(&own.descriptor)], chain: Vec::new() }.to_line();
    let (program, args) =
        settings.load.split_first().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let sender = Command::new(program)
        .args(args)
        .args(["--invite", &invite, "--tunnels", &settings.tunnels.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map(Sender)?;
    let cells = AtomicU64::new(0);
    tokio::select! {
        over = receive(clock, &listener, own, settings.tunnels, &cells) => {
            over.and(Err(io::Error::other("the link ended")))
        }
        rounds = watch(clock, &cells, sender.0.id(), settings.rounds) => rounds,
    }
}

async fn receive(
    clock: Clock,
    listener: &TcpListener,
    own: LinkIdentity,
    tunnels: u32,
    cells: &AtomicU64,
) -> io::Result<()> {
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    let machine = Handshake::accept(clock.now(), own, entropy::generator());
    let established = actors::shake_over(clock, &stream, machine).await?;
    let mut sink = Generator::sink(clock.time(), established);
    for number in 1..=tunnels {
        sink.open(clock.time(), actors::lane_in(number));
    }
    drive(clock, stream, sink, cells).await
}

/// The first round is not counted: windows grow in it.
async fn watch(
    clock: Clock,
    cells: &AtomicU64,
    sender: u32,
    rounds: usize,
) -> io::Result<Vec<Round>> {
    let mut done = Vec::with_capacity(rounds);
    let look = || -> Option<Round> {
        Some(Round {
            cells: cells.load(Ordering::Relaxed),
            wall: clock.elapsed(),
            sender: processes::cpu(sender)?,
            receiver: process_cpu(),
        })
    };
    let gone = || io::Error::other("the sending process ended");
    sleep(ROUND).await;
    let mut before = look().ok_or_else(gone)?;
    while done.len() < rounds {
        sleep(ROUND).await;
        let now = look().ok_or_else(gone)?;
        if now.cells == before.cells {
            return Err(io::Error::other("no cells come: is the machine overloaded?"));
        }
        done.push(Round {
            cells: now.cells - before.cells,
            wall: now.wall.saturating_sub(before.wall),
            sender: now.sender.saturating_sub(before.sender),
            receiver: now.receiver.saturating_sub(before.receiver),
        });
        before = now;
    }
    Ok(done)
}
