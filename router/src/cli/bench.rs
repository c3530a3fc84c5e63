//! `warren bench`: measuring the router on this machine.
//!
//! Lives here: the flags, and finding the program that measures. Does not live here: what is
//! measured (`crate::bench`).
//!
//! Counting allocations makes each of them four times as dear, so a program of its own does it:
//! `warren bench` runs `warren-bench` from the same folder.

use std::{
    env, fmt::Display, io, net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration,
};

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use super::{Failure, log, print, print_json, say};
use crate::{
    bench::{
        self, AllocationCount, BuildSettings, FarSettings, IdleSettings, LinkBenchSettings,
        LoadSettings, PathSettings, RelaySettings, StoreSettings,
    },
    invite::Invite,
};

/// `warren bench`
#[derive(Args, Debug)]
pub(super) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Each primitive and the onion layer, at the sizes that are used
    Crypto(Rounds),
    /// The handshakes of links and sessions: CPU time of both sides
    Handshake(Rounds),
    /// Tunnels of three hops: CPU time, and how long a build takes through three routers
    Build(Build),
    /// Two processes, one link, as fast as it goes
    Link(Link),
    /// One router as a middle hop between two load generators: CPU time and allocations per cell
    Relay(Relay),
    /// Downloads from a hidden service through a network of processes: 3 minutes
    Path(PathFlags),
    /// A network whose links are long: builds, first byte, one download
    Far(Far),
    /// One router at rest, with links, tunnels and streams: memory and CPU time
    Idle(Idle),
    /// The block store on this machine's disk: blocks of 32 KiB put and got in a second
    Store(Store),
    /// Cells through a middle hop in memory, for `scripts/instructions`
    #[command(hide = true)]
    Hop {
        #[arg(long)]
        cells: u64,
    },
    /// The load generators of `relay`
    #[command(hide = true)]
    Load(Load),
    /// The sender of `link`
    #[command(hide = true)]
    LinkLoad(Load),
    /// The other ends of `idle`
    #[command(hide = true)]
    IdleLoad(IdleLoad),
}

#[derive(Args, Debug)]
struct Rounds {
    /// Rounds, of which the median is taken
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    rounds: u16,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct Build {
    /// Builds, of which the median is taken
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    builds: u32,
    /// Milliseconds of delay on each link, one way
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1_000))]
    delay_ms: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct Link {
    /// Rounds of two seconds, of which the median is taken
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    rounds: u16,
    /// Lanes that are kept full
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    tunnels: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct Relay {
    /// Rounds, of which the median is taken
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    rounds: u16,
    /// Cells per round, at least; as many go before the first
    #[arg(long, default_value_t = 200_000)]
    cells: u64,
    /// Tunnels through the router
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    tunnels: u32,
    /// Threads of the router
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_024))]
    workers: u16,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct PathFlags {
    /// Routers of the test network
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u8).range(5..=100))]
    routers: u8,
    /// Routers per tunnel
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=4))]
    hops: u8,
    /// Downloads of each kind, of which the median is taken
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Seconds that each takes
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Small fetches of each kind
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    fetches: u16,
    /// Routers that join, one after the other
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(..=50))]
    joins: u16,
    /// Where the server behind the service listens
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Measure a network that runs already, described in FILE (docs/performance.md), whose service
    /// leads to --listen
    #[arg(long, value_name = "FILE", conflicts_with_all = ["routers", "hops", "joins"])]
    attach: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct Far {
    /// Milliseconds of delay on each link, one way
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=500))]
    delay_ms: u32,
    /// Seconds that the download is measured for
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Tunnels that are built
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    builds: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct Idle {
    /// Links
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    links: u32,
    /// Tunnels of others through the router
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(..=50_000))]
    tunnels: u32,
    /// Streams through a test network, measured apart; more than a router's port takes are too many
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(..=4_000))]
    streams: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct Store {
    /// Blocks in each part: 8,192 are 256 MiB
    #[arg(long, default_value_t = 8_192, value_parser = clap::value_parser!(u32).range(256..))]
    blocks: u32,
    /// The disk to measure: a folder is made there, and removed
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct Load {
    #[arg(long)]
    invite: Invite,
    #[arg(long)]
    tunnels: u32,
}

#[derive(Args, Debug)]
struct IdleLoad {
    #[arg(long)]
    invite: Invite,
    #[arg(long)]
    links: u32,
    #[arg(long)]
    tunnels: u32,
}

/// The program `warren-bench`.
#[derive(Debug, Parser)]
#[command(
    name = "warren-bench",
    version,
    about = "Measures the Warren router",
    max_term_width = 100
)]
struct BenchCli {
    #[command(flatten)]
    bench: Bench,
}

/// Has the program beside this one measure; same words, same exit code.
pub(super) async fn forward(_checked: Bench) -> Result<(), Failure> {
    let program = beside()?;
    let status = tokio::process::Command::new(&program)
        .args(env::args_os().skip(2)) // "warren", "bench"
        .status()
        .await;
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(Failure::Other("the benchmark failed: see above for its own words".into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Failure::NotFound(format!(
            "{} is missing: it comes with warren's source, `cargo build --release -p warren-router`",
            program.display()
        ))),
        Err(error) => Err(error.into()),
    }
}

fn beside() -> Result<PathBuf, Failure> {
    Ok(env::current_exe()?.with_file_name("warren-bench"))
}

/// Runs `warren-bench`; `allocations` counts those of its process.
pub fn main(allocations: AllocationCount) -> ExitCode {
    let cli = BenchCli::parse();
    log::start();
    match run(cli.bench.what, allocations) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(format_args!("error: {failure}"));
            failure.code()
        }
    }
}

fn run(what: What, allocations: AllocationCount) -> Result<(), Failure> {
    let broken = |error: io::Error| Failure::Other(error.to_string());
    let own = env::current_exe()?;
    match what {
        What::Crypto(Rounds { rounds, json }) => {
            report(json, &bench::crypto(rounds.into()).map_err(broken)?)
        }
        What::Handshake(Rounds { rounds, json }) => {
            let defect =
                || Failure::Other("a handshake in memory failed: report it, it is a defect".into());
            report(json, &bench::handshake(rounds.into()).ok_or_else(defect)?)
        }
        What::Build(Build { builds, delay_ms, json }) => {
            let delay = Duration::from_millis(delay_ms.into());
            report(json, &bench::build(BuildSettings { builds, delay }).map_err(broken)?)
        }
        What::Link(Link { rounds, tunnels, json }) => {
            let load = vec![own.into(), "link-load".into()];
            let settings = LinkBenchSettings { rounds: rounds.into(), tunnels, load };
            report(json, &bench::link(&settings).map_err(broken)?)
        }
        What::Relay(Relay { rounds, cells, tunnels, workers, json }) => {
            let settings = RelaySettings {
                rounds: rounds.into(),
                cells,
                tunnels,
                workers: workers.into(),
                load: vec![own.into(), "load".into()],
                allocations: Some(allocations),
            };
            let figures = bench::relay(&settings);
            report(json, &figures.map_err(|error| Failure::Other(error.to_string()))?)
        }
        What::Path(PathFlags {
            routers,
            hops,
            rounds,
            seconds,
            fetches,
            joins,
            listen,
            attach,
            json,
        }) => {
            let settings = PathSettings {
                routers,
                hops,
                rounds: rounds.into(),
                seconds,
                fetches: fetches.into(),
                joins: joins.into(),
                listen,
                attach,
                warren: own.with_file_name("warren"),
            };
            report(json, &bench::path(&settings).map_err(broken)?)
        }
        What::Far(Far { delay_ms, seconds, builds, json }) => {
            let delay = Duration::from_millis(delay_ms.into());
            report(json, &bench::far(FarSettings { delay, seconds, builds }).map_err(broken)?)
        }
        What::Idle(Idle { links, tunnels, streams, seconds, json }) => {
            let warren = own.with_file_name("warren");
            let load = vec![own.into(), "idle-load".into()];
            let settings = IdleSettings { links, tunnels, streams, seconds, warren, load };
            report(json, &bench::idle(&settings).map_err(broken)?)
        }
        What::Store(Store { blocks, dir, json }) => {
            let figures = bench::store(&StoreSettings { blocks, dir });
            report(json, &figures.map_err(Failure::Other)?)
        }
        What::Hop { cells } => {
            let defect =
                || Failure::Other("a handshake in memory failed: report it, it is a defect".into());
            let mut relay = bench::MemoryRelay::new(1).ok_or_else(defect)?;
            while relay.cells() < cells {
                relay.step(|_| {});
            }
            print(format_args!("{}", relay.cells()))
        }
        What::Load(Load { invite, tunnels }) => Ok(bench::load(&LoadSettings { invite, tunnels })?),
        What::LinkLoad(Load { invite, tunnels }) => {
            Ok(bench::load_link(&LoadSettings { invite, tunnels })?)
        }
        What::IdleLoad(IdleLoad { invite, links, tunnels }) => {
            Ok(bench::load_idle(invite, links, tunnels)?)
        }
    }
}

fn report<T: Display + Serialize>(json: bool, figures: &T) -> Result<(), Failure> {
    if json { print_json(figures) } else { print(format_args!("{figures}")) }
}
