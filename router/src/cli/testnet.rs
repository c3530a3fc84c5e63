//! `warren testnet`: private test networks on loopback, one operating-system process a router.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use clap::{Args, Subcommand};
use hyper::Method;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use warren_overlay::{
    crypto::puzzle::Difficulty,
    ring::admission::{Mode, Network, NetworkName, SUITE_HYBRID},
};

use super::{Failure, client, fetch, print, run::wall, say};
use crate::{
    driver::{
        ExposeRequest,
        control::InviteAnswer,
        setup::{save_invite, save_network},
    },
    entropy,
    home::Home,
    invite::Invite,
    status::{ServiceStatus, Status},
};

/// How long the whole network may take until all are ready and published.
const UP_LIMIT: Duration = Duration::from_mins(2);
/// How long a router may take to leave before it is ended.
const LEAVE_LIMIT: Duration = Duration::from_secs(5);
/// All are on one machine: its processors are the limit, not what a line would carry.
const SETTINGS: &[u8] = b"[limits]\nbandwidth_kbps = 10000000\n";
/// Routers that later ones are told of.
const SEEDS: usize = 3;

/// `warren testnet`
#[derive(Args, Debug)]
pub(super) struct Testnet {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start a network in DIR and leave it running; DIR/net.json says what is where
    Up(Up),
    /// Start one more client router and print the milliseconds until its first page
    Join {
        /// The network's folder
        dir: PathBuf,
    },
    /// Stop every router of the network in DIR
    Down {
        /// The network's folder
        dir: PathBuf,
    },
}

#[derive(Args, Debug)]
struct Up {
    /// A new or empty folder
    dir: PathBuf,
    /// Routers, 5 to 100
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u8).range(5..=100))]
    routers: u8,
    /// A hidden service to publish, may be given several times
    #[arg(long, value_name = "HOST:PORT")]
    service: Vec<String>,
    /// Routers per tunnel, 1 to 4
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=4))]
    hops: u8,
}

/// `DIR/net.json`
#[derive(Debug, Deserialize, Serialize)]
struct Net {
    ready_ms: u64,
    hops: u8,
    routers: Vec<RouterEntry>,
    services: Vec<ServiceEntry>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct RouterEntry {
    id: String,
    pid: u32,
    role: String,
    dir: PathBuf,
    link: String,
    proxy: String,
    control: PathBuf,
    metrics: String,
}

#[derive(Debug, Deserialize, Serialize)]
struct ServiceEntry {
    name: String,
    target: String,
    router: String,
}

pub(super) async fn testnet(args: Testnet) -> Result<(), Failure> {
    match args.verb {
        Verb::Up(args) => up(args).await,
        Verb::Join { dir } => join(&dir).await,
        Verb::Down { dir } => down(&dir).await,
    }
}

#[expect(clippy::disallowed_methods, reason = "measuring what a person at this machine would see")]
async fn up(args: Up) -> Result<(), Failure> {
    let start = Instant::now();
    fs::create_dir_all(&args.dir)?;
    let dir = fs::canonicalize(&args.dir)?;
    if dir.join("net.json").exists() {
        return Err(Failure::Refused(format!(
            "{0} holds a network already: `warren testnet down {0}` stops it, then remove the folder",
            dir.display()
        )));
    }
    let mut net = Net { ready_ms: 0, hops: args.hops, routers: Vec::new(), services: Vec::new() };
    let grown = grow(&mut net, &dir, &args, start).await;
    if grown.is_err() {
        for router in &net.routers {
            end(router).await;
        }
    }
    grown
}

async fn grow(net: &mut Net, dir: &Path, args: &Up, start: Instant) -> Result<(), Failure> {
    let mut invite = None;
    for k in 0..args.routers {
        let role = match k {
            0 => "service",
            _ if k + 1 == args.routers => "client",
            _ => "relay",
        };
        let router = launch(dir, k, role, args.hops, invite.as_ref(), start).await?;
        if usize::from(k) < SEEDS {
            let answer: InviteAnswer = ask(&router.dir, Method::GET, "/v1/invite", None).await?;
            invite = Some(merge(invite, answer.line.parse()?));
        }
        net.routers.push(router);
    }
    for router in &net.routers {
        wait_ready(router, start).await?;
    }
    let host = net
        .routers
        .first()
        .ok_or_else(|| Failure::Other("no routers: use --routers 8 or more".into()))?;
    for (n, target) in args.service.iter().enumerate() {
        let label = Some(format!("service-{n}"));
        let request = ExposeRequest { target: target.clone(), label, hops: None, private: false };
        let body = serde_json::to_string(&request)?;
        let service: ServiceStatus =
            ask(&host.dir, Method::POST, "/v1/services", Some(body)).await?;
        net.services.push(ServiceEntry {
            name: service.name,
            target: target.clone(),
            router: host.id.clone(),
        });
    }
    until(start, "the services to be published", async || {
        let services: Vec<ServiceStatus> =
            ask(&host.dir, Method::GET, "/v1/services", None).await.ok()?;
        services.iter().all(|service| service.published).then_some(())
    })
    .await?;
    net.ready_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    fs::write(dir.join("net.json"), serde_json::to_string_pretty(&net)?)?;
    say(format_args!(
        "{} routers ready, {} services published after {} ms: {}",
        net.routers.len(),
        net.services.len(),
        net.ready_ms,
        dir.join("net.json").display()
    ));
    Ok(())
}

/// The first invite, with the routers that the second names besides.
fn merge(first: Option<Invite>, second: Invite) -> Invite {
    let Some(mut invite) = first else {
        return Invite { routers: second.routers.into_iter().take(1).collect(), ..second };
    };
    // The first descriptor of a router's own invite is its own.
    invite.routers.extend(second.routers.into_iter().take(1));
    invite
}

async fn launch(
    dir: &Path,
    k: u8,
    role: &str,
    hops: u8,
    invite: Option<&Invite>,
    start: Instant,
) -> Result<RouterEntry, Failure> {
    let id = format!("r{k}");
    let home_dir = dir.join(&id);
    {
        let home = Home::open(&home_dir)?;
        home.write("warren.toml", SETTINGS)?;
        match invite {
            Some(invite) => save_invite(&home, invite, wall())?,
            None => {
                let name = NetworkName::Random(entropy::generator().bytes());
                let network = Network {
                    name,
                    mode: Mode::Proof,
                    difficulty: Difficulty::NONE,
                    suite: SUITE_HYBRID,
                    local: true,
                };
                save_network(&home, &network)?;
            }
        }
    }
    let log = fs::File::create(home_dir.join("log"))?;
    let any = |ip: Ipv4Addr| SocketAddr::from((ip, 0)).to_string();
    // Each in another /16 of loopback, so that path rules are exercised, not waived.
    let link = any(Ipv4Addr::new(127, k + 1, 0, 1));
    let local = any(Ipv4Addr::LOCALHOST);
    let child = std::process::Command::new(std::env::current_exe()?)
        .args(["run", "--link", &link, "--proxy", &local, "--api", &local])
        .args(["--hops", &hops.to_string(), "--dir"])
        .arg(&home_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0)
        .spawn()?;
    let pid = child.id();
    let status: Status = until(start, "a router to start", async || {
        client::call(&home_dir, Method::GET, "/v1/status", None).await.ok()
    })
    .await?;
    let control = home_dir.join("control.sock");
    Ok(RouterEntry {
        id,
        pid,
        role: role.into(),
        dir: home_dir,
        link: status.link,
        proxy: status.proxy,
        control,
        metrics: status.api,
    })
}

async fn ask<T: DeserializeOwned>(
    dir: &Path,
    method: Method,
    route: &str,
    body: Option<String>,
) -> Result<T, Failure> {
    client::call(dir, method, route, body).await
}

async fn wait_ready(router: &RouterEntry, start: Instant) -> Result<(), Failure> {
    until(start, "the routers to be ready", async || {
        let status: Status = ask(&router.dir, Method::GET, "/v1/status", None).await.ok()?;
        status.ready.then_some(())
    })
    .await
}

#[expect(clippy::disallowed_methods, reason = "a limit on real time")]
async fn until<T>(
    start: Instant,
    what: &str,
    attempt: impl AsyncFn() -> Option<T>,
) -> Result<T, Failure> {
    loop {
        if let Some(done) = attempt().await {
            return Ok(done);
        }
        if Instant::now() > start + UP_LIMIT {
            return Err(Failure::TooLong(format!(
                "waited two minutes for {what}: see the routers' logs in the network's folder"
            )));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn read_net(dir: &Path) -> Result<(PathBuf, Net), Failure> {
    let missing = |_| {
        Failure::NotFound(format!(
            "{0} holds no network: `warren testnet up {0}` makes one",
            dir.display()
        ))
    };
    let dir = fs::canonicalize(dir).map_err(missing)?;
    let text = fs::read_to_string(dir.join("net.json")).map_err(missing)?;
    Ok((dir, serde_json::from_str(&text)?))
}

#[expect(clippy::disallowed_methods, reason = "measuring what a person at this machine would see")]
async fn join(dir: &Path) -> Result<(), Failure> {
    let (dir, mut net) = read_net(dir)?;
    let service = net.services.first().ok_or_else(|| {
        Failure::NotFound(
            "this network has no service to fetch: start it with --service HOST:PORT".into(),
        )
    })?;
    let mut invite: Option<Invite> = None;
    for router in net.routers.iter().take(SEEDS) {
        let answer: InviteAnswer = ask(&router.dir, Method::GET, "/v1/invite", None).await?;
        invite = Some(merge(invite, answer.line.parse()?));
    }
    let k = u8::try_from(net.routers.len()).ok().filter(|k| *k < 250).ok_or_else(|| {
        Failure::Refused("this network is full: make another with `warren testnet up`".into())
    })?;
    let start = Instant::now();
    let router = launch(&dir, k, "client", net.hops, invite.as_ref(), start).await?;
    let proxy: SocketAddr = router.proxy.parse().map_err(|_| {
        Failure::Other("the router names no proxy port: see its log in the network's folder".into())
    })?;
    let fetched =
        until(start, "the first page", async || fetch::fetch(proxy, &service.name, "/").await.ok())
            .await;
    let elapsed = start.elapsed();
    net.routers.push(router);
    fs::write(dir.join("net.json"), serde_json::to_string_pretty(&net)?)?;
    fetched?;
    print(format_args!("{}", elapsed.as_millis()))
}

async fn down(dir: &Path) -> Result<(), Failure> {
    let (dir, net) = read_net(dir)?;
    for router in &net.routers {
        end(router).await;
    }
    fs::remove_file(dir.join("net.json"))?;
    Ok(())
}

/// Asks a router to leave; one that does not answer is ended by its process id, if that is still
/// the process that was started.
async fn end(router: &RouterEntry) {
    let asked = client::call::<()>(&router.dir, Method::POST, "/v1/stop", None);
    let _ = tokio::time::timeout(LEAVE_LIMIT, asked).await;
    let waited = async {
        while is_running(router) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(LEAVE_LIMIT, waited).await.is_err() && is_running(router) {
        let pid = router.pid.to_string();
        let _ = tokio::process::Command::new("kill").args(["-9", &pid]).status().await;
    }
}

fn is_running(router: &RouterEntry) -> bool {
    let proc = PathBuf::from(format!("/proc/{}", router.pid));
    // An ended child of ours has an empty command line until it is collected.
    fs::read(proc.join("cmdline")).is_ok_and(|line| {
        let dir = router.dir.as_os_str().as_encoded_bytes();
        line.windows(dir.len()).any(|part| part == dir)
    })
}
