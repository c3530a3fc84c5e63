//! `warren man` and `warren completions`: what packages ship beside the program, made by itself.

use std::{fs, io, path::PathBuf};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Failure, examples};

/// `warren man DIR`
#[derive(Args, Debug)]
pub(super) struct Man {
    /// A folder for the pages: warren.1 and one for each command
    dir: PathBuf,
}

/// `warren completions SHELL`
#[derive(Args, Debug)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

pub(super) fn man(args: &Man) -> Result<(), Failure> {
    fs::create_dir_all(&args.dir)?;
    Ok(clap_mangen::generate_to(examples::add(Cli::command()), &args.dir)?)
}

pub(super) fn completions(args: &Completions) -> Result<(), Failure> {
    // First into memory: a closed pipe must not end in a panic of the generator.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "warren", &mut script);
    match io::Write::write_all(&mut io::stdout(), &script) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
