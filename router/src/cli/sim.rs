//! `warren sim`: simulations.
//!
//! Lives here: finding the simulator and becoming it. Does not live here: its verbs (the crate
//! `warren-sim`, which stands on this one and so cannot be part of it).

use std::{env, ffi::OsString, io, os::unix::process::CommandExt, process::Command};

use clap::Args;

use super::Failure;

/// `warren sim`
#[derive(Args, Debug)]
pub(super) struct Sim {
    /// A verb and its flags
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "VERB")]
    words: Vec<OsString>,
}

/// Replaces this process by the program `warren-sim` from the same folder: same words, same exit
/// codes. Comes back only to say why that could not be done.
pub(super) fn become_simulator(sim: &Sim) -> Failure {
    let program = match env::current_exe() {
        Ok(own) => own.with_file_name("warren-sim"),
        Err(error) => return error.into(),
    };
    let error = Command::new(&program).args(&sim.words).exec();
    if error.kind() == io::ErrorKind::NotFound {
        return Failure::NotFound(format!(
            "{} is missing: build it with `cargo build --release -p warren-sim`",
            program.display()
        ));
    }
    error.into()
}
