//! The `warren-sim` program: see `warren_sim::cli`.

fn main() -> std::process::ExitCode {
    warren_sim::cli::main()
}
