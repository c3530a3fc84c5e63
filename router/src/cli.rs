//! The command line.
//!
//! Lives here: the commands, their flags, exit codes and the way results are printed. Does not live
//! here: what a router does (`driver`), how the demo and test networks are set up (`demo.rs`,
//! `testnet.rs`).
//!
//! Results go to standard output, words for people to standard error. Exit codes: 0 done, 1 failed,
//! 2 wrong usage, 3 no router is running there, 4 not found, 5 took too long or no way there, 6 refused,
//! 7 a part of a file is lost.

mod bench;
mod browse;
mod bundle;
mod client;
mod demo;
mod demo_site;
mod doctor;
mod examples;
mod fence;
mod fetch;
mod files;
mod friend;
mod invite;
mod key;
mod log;
mod man;
mod own_page;
mod page;
mod pins;
mod process;
mod qr;
mod reload;
mod run;
mod services;
mod shares;
mod sim;
mod site;
mod testnet;
mod verify_key;
mod why;

use std::{io::Write, path::PathBuf, process::ExitCode};

pub use bench::main as bench_main;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use serde::Serialize;

use crate::remedy;

/// An anonymizing overlay network router.
#[derive(Debug, Parser)]
#[command(
    name = "warren",
    version,
    about = "A router of an anonymizing overlay network: hidden services, stored files and sites",
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make this router's folder: a new network, or with --join one that exists
    Init(run::Init),
    /// Run the router until Ctrl-C; without a network it makes one
    Run(run::Run),
    /// Say how the running router is
    Status(run::StatusArgs),
    /// Look for what is wrong, and say what to do about it
    Doctor(doctor::Doctor),
    /// Say which part of the way to a service, site or file is slow or fails, measured
    Why(why::Why),
    /// Print a line that lets the next router join this network
    Invite(invite::InviteArgs),
    /// Join the network of an invite line (before `warren run`)
    Join(run::Join),
    /// Networks of friends: say with whom this router has links
    Friend(friend::Friend),
    /// Publish HOST:PORT as a hidden service and print its name
    Expose(services::Expose),
    /// List the hidden services of the running router
    Services(Report),
    /// Withdraw a hidden service for good
    Unexpose(services::Unexpose),
    /// Private services: say who reaches one, or take what somebody shares with you
    Service(shares::Service),
    /// Store a file or folder and print its URI; `-` stores standard input
    Put(files::Put),
    /// List the puts that are under way, or end one
    Puts(files::Puts),
    /// Fetch a stored file or folder
    Get(files::Get),
    /// Fetch a stored file to standard output
    Cat(files::Cat),
    /// List a stored folder
    Ls(files::Ls),
    /// Say how much of a stored file or folder is there, by samples
    Check(files::Check),
    /// Put back what is lost of a stored file or folder; reading rights are not needed
    Heal(files::Heal),
    /// Print a key for who shall check, heal or pin a file or folder and not read it
    VerifyKey(verify_key::VerifyKey),
    /// Keep every block of a stored file, folder or site here, until it is unpinned
    Pin(pins::Pin),
    /// Keep it no longer
    Unpin(pins::Unpin),
    /// List what is pinned and the room that it takes
    Pins(Report),
    /// Stored things in one file: take them out of this network, or bring them in
    Bundle(bundle::Bundle),
    /// Stored sites: publish a folder of pages, update it, look at versions
    Site(site::Site),
    /// Print the link that opens the running router's page
    Page(Report),
    /// Start a browser that goes through the running router and nowhere else
    Browse(browse::Browse),
    /// Keep this router's identity, services and sites in a file, and bring them back
    Key(key::Key),
    /// A whole network on this machine, with a page behind a hidden service
    Demo(demo::Demo),
    /// Private test networks: one process a router
    Testnet(testnet::Testnet),
    /// Print what makes the Tab key complete these commands in a shell
    Completions(man::Completions),
    /// Write the manual pages into a folder
    Man(man::Man),
    /// Measure the router on this machine
    Bench(bench::Bench),
    /// Simulate whole networks on a virtual clock; `warren sim help` lists its verbs
    #[command(disable_help_flag = true, disable_help_subcommand = true)]
    Sim(sim::Sim),
}

/// Flags of every command that talks to a router.
#[derive(Args, Clone, Debug)]
struct Place {
    /// The router's folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Flags of every command that reports.
#[derive(Args, Clone, Debug)]
struct Report {
    #[command(flatten)]
    place: Place,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Place {
    /// The folder named, or the one for this user or service.
    fn dir(&self) -> Result<PathBuf, Failure> {
        if let Some(dir) = &self.dir {
            return Ok(dir.clone());
        }
        let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        from("STATE_DIRECTORY")
            .map(PathBuf::from)
            .or_else(|| from("XDG_STATE_HOME").map(|base| PathBuf::from(base).join("warren")))
            .or_else(|| from("HOME").map(|home| PathBuf::from(home).join(".local/state/warren")))
            .ok_or_else(|| Failure::Other("no HOME: say where with --dir DIR".into()))
    }
}

/// Why a command failed; each text says what to do.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Other(String),
    #[error("no router is running in {0}: start one with `warren run --dir {0}`")]
    NotRunning(PathBuf),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    TooLong(String),
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    InPart(String),
    /// Whoever read standard output has enough.
    #[error("nobody reads what is printed: write it to a file")]
    Unread,
}

impl Failure {
    fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Other(_) | Self::Unread => 1,
            Self::NotRunning(_) => 3,
            Self::NotFound(_) => 4,
            Self::TooLong(_) => 5,
            Self::Refused(_) => 6,
            Self::InPart(_) => 7,
        })
    }
}

macro_rules! failure_from {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::Other(error.to_string())
            }
        }
    )*};
}
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Other(remedy::words(&error))
    }
}
failure_from!(
    serde_json::Error,
    crate::backup::BackupError,
    crate::config::ConfigError,
    crate::home::HomeError,
    crate::invite::InviteError,
    crate::driver::StartError
);

/// Runs the command that the process was called with.
pub fn main() -> ExitCode {
    let matches = examples::add(Cli::command()).get_matches();
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    log::start();
    // These two become other programs, which hold no secrets.
    if !matches!(cli.command, Command::Sim(_) | Command::Bench(_)) {
        process::guard_secrets();
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Command::Run(run) = &cli.command {
        if let Err(failure) = run.fence() {
            say(format_args!("error: {failure}"));
            return failure.code();
        }
        // A router is one task (decision 0001): what wakes it, and what it wakes, costs least beside it.
        builder.worker_threads(1);
    }
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(format_args!("cannot start: {}", remedy::words(&error)));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run_command(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !matches!(failure, Failure::Unread) {
                say(format_args!("error: {failure}"));
            }
            failure.code()
        }
    }
}

async fn run_command(command: Command) -> Result<(), Failure> {
    match command {
        Command::Init(init) => run::init(init),
        Command::Run(run) => run::run(run).await,
        Command::Status(args) => run::status(args).await,
        Command::Doctor(args) => doctor::doctor(args).await,
        Command::Why(args) => why::why(args).await,
        Command::Invite(args) => invite::invite(args).await,
        Command::Join(join) => run::join(&join),
        Command::Friend(args) => friend::friend(args).await,
        Command::Expose(expose) => services::expose(expose).await,
        Command::Services(report) => services::list(report).await,
        Command::Unexpose(unexpose) => services::unexpose(unexpose).await,
        Command::Service(service) => shares::service(service).await,
        Command::Put(put) => files::put(put).await,
        Command::Puts(puts) => files::puts(puts).await,
        Command::Get(get) => files::get(get).await,
        Command::Cat(cat) => files::cat(cat).await,
        Command::Ls(ls) => files::ls(ls).await,
        Command::Check(check) => files::check(check).await,
        Command::Heal(heal) => files::heal(heal).await,
        Command::VerifyKey(args) => verify_key::verify_key(&args),
        Command::Pin(pin) => pins::pin(pin).await,
        Command::Unpin(unpin) => pins::unpin(unpin).await,
        Command::Pins(report) => pins::pins(report).await,
        Command::Bundle(bundle) => bundle::bundle(bundle).await,
        Command::Site(site) => site::site(site).await,
        Command::Page(report) => own_page::page(report).await,
        Command::Browse(args) => browse::browse(args).await,
        Command::Key(key) => key::key(&key),
        Command::Demo(demo) => demo::demo(demo).await,
        Command::Testnet(testnet) => testnet::testnet(testnet).await,
        Command::Completions(args) => man::completions(&args),
        Command::Man(args) => man::man(&args),
        Command::Bench(bench) => bench::forward(bench).await,
        Command::Sim(sim) => Err(sim::become_simulator(&sim)),
    }
}

/// Words for people. A closed standard error is nobody's problem.
fn say(words: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{words}");
}

/// A result, on standard output.
fn print(result: std::fmt::Arguments<'_>) -> Result<(), Failure> {
    use std::io::ErrorKind::BrokenPipe;
    writeln!(std::io::stdout(), "{result}").map_err(|error| match error.kind() {
        BrokenPipe => Failure::Unread,
        _ => error.into(),
    })
}

/// A result as one JSON object, on standard output.
fn print_json(result: &impl Serialize) -> Result<(), Failure> {
    print(format_args!("{}", serde_json::to_string(result)?))
}
