//! `warren bench relay` with allocations counted. `cargo run --release -p warren-router
//! --no-default-features --features app --example bench -- relay [--json]`.
#![expect(clippy::print_stdout, reason = "its purpose")]

use std::{alloc::System, env, process::ExitCode};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use warren_router::bench;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn allocations() -> u64 {
    let stats = ALLOCATOR.stats();
    (stats.allocations + stats.reallocations) as u64
}

fn value<T: std::str::FromStr>(args: &[String], name: &str) -> Option<T> {
    let at = args.iter().position(|arg| arg == name)?;
    args.get(at + 1)?.parse().ok()
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().collect();
    if args.iter().any(|arg| arg == "load") {
        let (Some(source), Some(sink), Some(tunnels)) =
            (value(&args, "--source"), value(&args, "--sink"), value(&args, "--tunnels"))
        else {
            return ExitCode::FAILURE;
        };
        let _ = bench::load(bench::LoadSettings { source, sink, tunnels });
        return ExitCode::SUCCESS;
    }
    let Ok(program) = env::current_exe() else { return ExitCode::FAILURE };
    let settings = bench::RelaySettings {
        rounds: value(&args, "--rounds").unwrap_or(7),
        cells: value(&args, "--cells").unwrap_or(200_000),
        tunnels: value(&args, "--tunnels").unwrap_or(1),
        workers: value(&args, "--workers").unwrap_or(1),
        load: vec![program.into(), "load".into()],
        allocations: Some(allocations),
    };
    match bench::relay(&settings) {
        Ok(figures) if args.iter().any(|arg| arg == "--json") => {
            println!("{}", serde_json::to_string(&figures).unwrap_or_default());
        }
        Ok(figures) => println!("{figures}"),
        Err(error) => {
            println!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
