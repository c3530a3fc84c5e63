//! The `warren-sim` program: see `warren_sim::cli`.

/// A network of routers is millions of small pieces: this one wastes least on each, and is quick.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    warren_sim::cli::main()
}
