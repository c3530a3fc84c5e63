//! `warren init`, `run`, `status`, `invite`, `join`.

use std::{
    io::{self, IsTerminal},
    net::SocketAddr,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::{Args, ValueEnum};
use hyper::Method;
use tokio::signal::unix::{SignalKind, signal};
use warren_overlay::{
    crypto::puzzle::Difficulty,
    ring::admission::{Mode, Network, NetworkName, SUITE_HYBRID},
    time::Wall,
};

use super::{
    Failure, Place, Report, client, fence, invite, log, print, print_json, process, reload, say,
};
use crate::{
    config::ConfigFile,
    driver::{self, Handle, Setup, StartError, open_files, setup},
    entropy,
    home::Home,
    invite::Invite,
    status::Status,
};

/// How long leaving may take. The router itself takes at most three seconds.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// Newcomers a member and week, where nobody says otherwise.
const WEEKLY: u8 = 8;
/// What a place costs where people say who may come in: 16 tries, a fifth of a second.
const DIFFICULTY_KNOWN: Difficulty = Difficulty(4);
/// How often `status --watch` says how it is.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How often a change of the router's state is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// `warren init`
#[derive(Args, Debug)]
pub(super) struct Init {
    #[command(flatten)]
    place: Place,
    /// Become a member of the network of this invite line, or file, instead
    #[arg(long, value_name = "LINE")]
    join: Option<String>,
    #[command(flatten)]
    network: NetworkFlags,
}

/// What a new network is like.
#[derive(Args, Clone, Debug, Default)]
struct NetworkFlags {
    /// Name of the new network (default: a random id)
    #[arg(long, conflicts_with = "join")]
    name: Option<String>,
    /// What a place in the new network costs: 2^BITS tries of 13 ms on average [default: 7, 2 s]
    #[arg(long, value_name = "BITS", conflicts_with = "join")]
    difficulty: Option<u8>,
    /// The new network lives on this machine or lab: loopback and private addresses are good
    #[arg(long, conflicts_with = "join")]
    local: bool,
    /// Who is let into the new network: whoever does the work, whom a member invites, or friends alone
    #[arg(long, value_name = "MODE", conflicts_with = "join")]
    admission: Option<Admission>,
    /// Newcomers that one member may invite in a week, 1 to 64 [default: 8]
    #[arg(long, value_name = "N", conflicts_with = "join")]
    weekly: Option<u8>,
}

/// What it takes to be let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Admission {
    /// Some seconds of computing
    #[default]
    Proof,
    /// A member's signature
    Invite,
    /// That both operators name each other
    Friends,
}

impl NetworkFlags {
    fn make(&self, home: &Home) -> Result<Network, Failure> {
        let admission = self.admission.unwrap_or_default();
        if self.weekly.is_some() && admission != Admission::Invite {
            return Err(Failure::Other(
                "--weekly goes with --admission invite: use both or neither".into(),
            ));
        }
        let mode = match admission {
            Admission::Proof => Mode::Proof,
            Admission::Invite => {
                let weekly = self.weekly.unwrap_or(WEEKLY);
                Mode::Invite { founder: setup::identity(home)?, weekly }
            }
            Admission::Friends => Mode::Friends,
        };
        // Where somebody says who may come in, the work only spreads routers over the ring.
        let difficulty =
            if admission == Admission::Proof { Difficulty::PUBLIC } else { DIFFICULTY_KNOWN };
        let name = match &self.name {
            Some(name) => NetworkName::Named(name.clone()),
            None => NetworkName::Random(entropy::generator().bytes()),
        };
        let network = Network {
            name,
            mode,
            difficulty: self.difficulty.map_or(difficulty, Difficulty),
            suite: SUITE_HYBRID,
            local: self.local,
        };
        // What cannot be read back could never be joined.
        let bytes = network.encode();
        Network::decode(&mut warren_overlay::wire::Reader::new(&bytes)).map_err(|_| {
            Failure::Other(
                "out of range: use 1 to 64 letters, digits or signs without spaces for --name, at \
                 most 20 for --difficulty, 1 to 64 for --weekly"
                    .into(),
            )
        })
    }
}

/// `warren run`
#[derive(Args, Debug)]
pub(super) struct Run {
    #[command(flatten)]
    place: Place,
    /// Where other routers reach this one [default: a port drawn once]
    #[arg(long, value_name = "ADDRESS:PORT")]
    link: Option<SocketAddr>,
    /// The mixed port for browsers and other programs [default: 127.0.0.1:7731]
    #[arg(long, value_name = "ADDRESS:PORT")]
    proxy: Option<SocketAddr>,
    /// The router's own page [default: 127.0.0.1:7730]
    #[arg(long, value_name = "ADDRESS:PORT")]
    api: Option<SocketAddr>,
    /// Routers per tunnel, 1 to 4 [default: 3]
    #[arg(long)]
    hops: Option<u8>,
    /// Neighbours to keep, 8 to 64 [default: 20]
    #[arg(long)]
    degree: Option<u8>,
}

impl Run {
    /// The settings in `dir`, under the flags.
    fn settings(&self, dir: &Path) -> Result<ConfigFile, Failure> {
        let mut file = match Home::settings(dir)? {
            Some(text) => ConfigFile::parse(&text)?,
            None => ConfigFile::default(),
        };
        file.link.listen = self.link.unwrap_or(file.link.listen);
        file.proxy.listen = self.proxy.unwrap_or(file.proxy.listen);
        file.api.listen = self.api.unwrap_or(file.api.listen);
        file.tunnels.hops = self.hops.unwrap_or(file.tunnels.hops);
        file.ring.degree = self.degree.unwrap_or(file.ring.degree);
        file.resolve()?;
        Ok(file)
    }
}

/// `warren join LINE`
#[derive(Args, Debug)]
pub(super) struct Join {
    /// The line that `warren invite` printed, or the file that `warren invite --to FILE` wrote
    line: String,
    #[command(flatten)]
    place: Place,
}

/// The wall clock in minutes.
#[expect(clippy::disallowed_methods, reason = "the command line has no other clock")]
pub(super) fn wall() -> Wall {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Wall::from_minutes(u32::try_from(seconds / 60).unwrap_or(u32::MAX))
}

pub(super) fn init(args: Init) -> Result<(), Failure> {
    let home = Home::open(&args.place.dir()?)?;
    if setup::load_network(&home)?.is_some() {
        return Err(Failure::Refused(format!(
            "{} belongs to a network already: choose another folder with --dir",
            home.dir().display()
        )));
    }
    match args.join {
        Some(line) => take(&home, &invite::read(&line)?)?,
        None => setup::save_network(&home, &args.network.make(&home)?)?,
    }
    say(format_args!("ready: `warren run --dir {}` starts the router", home.dir().display()));
    Ok(())
}

/// Becomes a member; who was not invited is refused.
fn take(home: &Home, invite: &Invite) -> Result<(), Failure> {
    match setup::save_invite(home, invite, wall()) {
        Err(StartError::Setup(words)) => Err(Failure::Refused(words)),
        done => Ok(done?),
    }
}

pub(super) fn join(args: &Join) -> Result<(), Failure> {
    let invite = invite::read(&args.line)?;
    let home = Home::open(&args.place.dir()?)?;
    match setup::load_network(&home)? {
        Some(network) if network != invite.network => Err(Failure::Refused(format!(
            "{} belongs to another network: choose another folder with --dir",
            home.dir().display()
        ))),
        _ => {
            take(&home, &invite)?;
            say(format_args!(
                "joined: `warren run --dir {}` starts the router",
                home.dir().display()
            ));
            Ok(())
        }
    }
}

impl Run {
    /// Keeps the router out of all folders but its own, from before its first thread on.
    pub(super) fn fence(&self) -> Result<(), Failure> {
        let dir = self.place.dir()?;
        // The folder must be there for that, and must not be another router's.
        drop(Home::open(&dir)?);
        match fence::raise(&dir) {
            Ok(true) => {}
            Ok(false) => tracing::info!("this kernel cannot keep a router in its folder"),
            Err(error) => tracing::warn!(%error, "not kept in its folder"),
        }
        Ok(())
    }
}

pub(super) async fn run(args: Run) -> Result<(), Failure> {
    let home = Home::open(&args.place.dir()?)?;
    let dir = home.dir().to_owned();
    let mut file = args.settings(&dir)?;
    let mut config = file.resolve()?;
    log::set_level(config.log);
    open_files::raise_limit();
    if config.link.port() == 0
        && let Some(port) = setup::load_port(&home)?
    {
        config.link.set_port(port);
    }
    if setup::load_network(&home)?.is_none() {
        setup::save_network(&home, &NetworkFlags::default().make(&home)?)?;
        say(format_args!(
            "made a new network: `warren invite` prints the line for the next router"
        ));
    }
    let mut told = false;
    let setup = tokio::task::block_in_place(|| {
        Setup::load(home, config, wall(), &mut |tries| {
            if !told {
                say(format_args!("earning a place in the network (once, a few seconds) ..."));
                told = true;
            } else if tries % 500 == 0 {
                say(format_args!("  still at it: {tries} tries; luck varies"));
            }
        })
    })?;
    let alone = setup.peers.is_empty();
    let router = driver::start(setup).await?;
    // Where the router lives goes into no log: `warren status` says it to who may ask.
    say(format_args!("proxy on {}, page on http://{}/", router.proxy, router.api));
    if alone && router.status().await.is_some_and(|status| !status.address.is_empty()) {
        say(format_args!(
            "you are alone: `warren invite --dir {}` prints the line for the next router",
            dir.display()
        ));
    }
    attend(&router, || args.settings(&dir), &mut file).await?;
    say(format_args!("leaving"));
    process::tell_stopping();
    tokio::time::timeout(DRAIN_LIMIT, router.stop()).await.map_err(|_| {
        Failure::TooLong("leaving took more than ten seconds, what was under way is lost: see what keeps this machine busy".into())
    })
}

/// Tells people and the service manager how the router is, and reads its settings again when it is
/// asked to; until it is asked to leave.
async fn attend(
    router: &Handle,
    settings: impl Fn() -> Result<ConfigFile, Failure>,
    held: &mut ConfigFile,
) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut verdict = String::new();
    process::tell_ready("Started.");
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hang_up.recv() => {
                process::tell_reloading();
                match settings() {
                    Ok(new) => reload::apply(router, held, new).await,
                    Err(error) => say(format_args!("settings stay as they were: {error}")),
                }
                process::tell_ready(&verdict);
            }
            status = look(router) => {
                let status = status.ok_or_else(|| Failure::Other("the router stopped: start it again with `warren run`, its own output says why".into()))?;
                process::tell_alive();
                if status.verdict != verdict {
                    say(format_args!("{}", status.verdict));
                    process::tell_status(&status.verdict);
                    verdict = status.verdict;
                }
            }
        }
    }
}

/// How the router is, a moment later.
async fn look(router: &Handle) -> Option<Status> {
    tokio::time::sleep(LOOK_EVERY).await;
    router.status().await
}

/// `warren status`
#[derive(Args, Debug)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    report: Report,
    /// Say it again every second, until Ctrl-C
    #[arg(long)]
    watch: bool,
}

pub(super) async fn status(args: StatusArgs) -> Result<(), Failure> {
    let dir = args.report.place.dir()?;
    let redraw = args.watch && !args.report.json && io::stdout().is_terminal();
    loop {
        let status: Status = client::call(&dir, Method::GET, "/v1/status", None).await?;
        if redraw {
            // Home, and clear to the end.
            print(format_args!("\x1b[H\x1b[J"))?;
        }
        if args.report.json {
            print_json(&status)?;
        } else {
            show(&status)?;
        }
        if !args.watch {
            return Ok(());
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

fn show(status: &Status) -> Result<(), Failure> {
    print(format_args!("{}", status.verdict))?;
    print(format_args!(
        "  neighbours {}, links {}, routers known {}",
        status.neighbours, status.links, status.known_routers
    ))?;
    print(format_args!(
        "  own tunnels {} ready, {} in use; tunnels of others {}; cells moved for others {}",
        status.tunnels_ready, status.tunnels_used, status.tunnels_transit, status.cells_relayed
    ))?;
    if status.asked_after > 0 {
        print(format_args!(
            "  questions after routers {}, found {}; called gone {}",
            status.asked_after, status.asked_after_found, status.called_gone
        ))?;
    }
    print(format_args!(
        "  sent {} kbit/s, received {} kbit/s over the last 10 s; limit {} each, burst {} ms of it",
        status.sent_kbps, status.received_kbps, status.bandwidth_kbps, status.burst_ms
    ))?;
    print(format_args!(
        "  of it for tunnels of others {} kbit/s; limit {} %",
        status.transit_kbps, status.transit_percent
    ))?;
    if status.guard_fails {
        print(format_args!(
            "  a first hop fails far more often than the other; it is used less, or not at all"
        ))?;
    }
    print(format_args!(
        "  waiting data takes {} KiB of {} MiB; ended for want of it: {}",
        status.memory_held_kib, status.memory_mib, status.ended_for_memory
    ))?;
    print(format_args!(
        "  services {}, conversations {}, records held {}",
        status.services, status.contexts, status.records_held
    ))?;
    print(format_args!(
        "  links {} of {}, files and sockets {} of {}",
        status.links, status.links_limit, status.files_open, status.files_limit
    ))?;
    print(format_args!(
        "  blocks held {} MiB of {} MiB for all; traffic this month {} MiB{}; tunnels of others {}",
        status.blocks_held / 32,
        status.disk_mib,
        status.month_mib,
        match status.month_limit_mib {
            0 => ", no limit".to_owned(),
            limit => format!(" of {limit} MiB"),
        },
        if status.transit { "carried" } else { "not carried" }
    ))?;
    print(format_args!(
        "  links {}, proxy on {}, page on http://{}/",
        match (status.link.as_str(), status.address.as_str()) {
            ("", _) => "opened from here alone".to_owned(),
            (link, "") => format!("on {link}, where nobody can dial them"),
            (link, address) if link == address => format!("on {link}"),
            (link, address) => format!("on {link}, dialled at {address}"),
        },
        status.proxy,
        status.api
    ))?;
    print(format_args!("  reachability: {}", status.reach_words))?;
    if !status.mapping.is_empty() {
        print(format_args!("  port mapping: {}", status.mapping))?;
    }
    if !status.nearby.is_empty() {
        print(format_args!("  local network: {}", status.nearby))?;
    }
    print(format_args!(
        "  network {}, up {} s, version {}",
        status.network, status.uptime_s, status.version
    ))
}
