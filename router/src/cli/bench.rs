//! `warren bench`: measuring the router on this machine.
//!
//! Lives here: the flags, and finding the program that measures. Does not live here: what is
//! measured (`crate::bench`).
//!
//! Counting allocations makes each of them four times as dear, so a program of its own does it:
//! `warren bench` runs `warren-bench` from the same folder.

use std::{env, io, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use super::{Failure, log, print, print_json, say};
use crate::{
    bench::{self, AllocationCount, LoadSettings, RelaySettings, StoreSettings},
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
    /// One router as a middle hop between two load generators: CPU time and allocations per cell
    Relay(Relay),
    /// The block store on this machine's disk: blocks of 32 KiB put and got in a second
    Store(Store),
    /// The load generators of `relay`
    #[command(hide = true)]
    Load(Load),
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
        Ok(_) => Err(Failure::Other("the benchmark failed".into())),
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
    match what {
        What::Relay(relay) => {
            let settings = RelaySettings {
                rounds: relay.rounds.into(),
                cells: relay.cells,
                tunnels: relay.tunnels,
                workers: relay.workers.into(),
                load: vec![env::current_exe()?.into(), "load".into()],
                allocations: Some(allocations),
            };
            let figures =
                bench::relay(&settings).map_err(|error| Failure::Other(error.to_string()))?;
            if relay.json { print_json(&figures) } else { print(format_args!("{figures}")) }
        }
        What::Store(store) => {
            let settings = StoreSettings { blocks: store.blocks, dir: store.dir };
            let figures = bench::store(&settings).map_err(Failure::Other)?;
            if store.json { print_json(&figures) } else { print(format_args!("{figures}")) }
        }
        What::Load(load) => {
            let settings = LoadSettings { invite: load.invite, tunnels: load.tunnels };
            Ok(bench::load(&settings)?)
        }
    }
}
