//! The `warren` program: see `warren_router::cli`.

fn main() -> std::process::ExitCode {
    warren_router::cli::main()
}
