//! Networks of real routers on loopback.
//!
//! Lives here: `warren testnet up`, a router's process (its metrics, its signals, its second start),
//! and routers set up by hand. Does not live here: what is true of them (`whole/`).

use std::{
    fmt::Write,
    fs::{self, File, OpenOptions},
    net::{IpAddr, SocketAddr},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    binary::{self, finish, run, warren},
    client::{Via, http_get},
    machine,
    runner::wait_for,
    scratch::Scratch,
};

/// One router of a network.
#[derive(Debug)]
pub struct Router {
    /// What the network calls it; empty for routers made by hand.
    pub id: String,
    /// `client`, `service`, `relay`.
    pub role: String,
    /// Its process.
    pub pid: u32,
    /// Its folder.
    pub dir: PathBuf,
    /// Where other routers reach it.
    pub link: SocketAddr,
    /// Its mixed port.
    pub proxy: SocketAddr,
    /// Its page and metrics.
    pub metrics: SocketAddr,
    /// How it was started, for starting it again.
    args: Vec<String>,
    /// The network namespace that it lives in, if that is not this program's.
    network: Option<PathBuf>,
    /// Set when this program started it.
    child: Option<Child>,
}

impl Router {
    fn read(entry: &Value) -> Self {
        let text = |key: &str| entry[key].as_str().unwrap_or_else(|| panic!("{key} in {entry}"));
        let address = |key: &str| text(key).parse().unwrap_or_else(|_| panic!("{key} in {entry}"));
        let pid = u32::try_from(entry["pid"].as_u64().unwrap()).unwrap();
        Self {
            id: text("id").to_owned(),
            role: text("role").to_owned(),
            pid,
            dir: text("dir").into(),
            link: address("link"),
            proxy: address("proxy"),
            metrics: address("metrics"),
            args: machine::command_line(pid).split_off(1),
            network: None,
            child: None,
        }
    }

    /// Starts `warren run` by hand in `dir` with `extra` flags, and waits until it answers.
    pub fn start(dir: &Path, extra: &[&str]) -> Self {
        Self::start_in(None, dir, extra)
    }

    /// The same in a network namespace, at its place in the file system: its sockets are reached from
    /// there alone.
    pub fn start_in(network: Option<&Path>, dir: &Path, extra: &[&str]) -> Self {
        let mut args: Vec<String> = vec!["run".into(), "--dir".into(), dir.display().to_string()];
        args.extend(extra.iter().map(|word| (*word).to_owned()));
        let none = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut router = Self {
            id: String::new(),
            role: String::new(),
            pid: 0,
            dir: dir.to_owned(),
            link: none,
            proxy: none,
            metrics: none,
            args,
            network: network.map(Path::to_owned),
            child: None,
        };
        router.spawn();
        router
    }

    /// Spawns the process and waits until its control socket answers.
    fn spawn(&mut self) {
        fs::create_dir_all(&self.dir).unwrap();
        let log = OpenOptions::new().create(true).append(true).open(self.dir.join("log")).unwrap();
        let mut command = match &self.network {
            None => Command::new(warren()),
            Some(network) => machine::in_network(network, warren()),
        };
        let mut child = command
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap();
        self.pid = child.id();
        let status = wait_for(Duration::from_mins(1), "a router to start", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the router ended with {status}: {}", self.log());
            }
            self.status()
        });
        self.child = Some(child);
        let none = SocketAddr::from(([0, 0, 0, 0], 0));
        let address = |key: &str| match status[key].as_str().unwrap() {
            "" => none, // it does not listen
            address => address.parse().unwrap(),
        };
        (self.link, self.proxy, self.metrics) = (address("link"), address("proxy"), address("api"));
    }

    /// `warren status --json`; `None` while it does not answer.
    pub fn status(&self) -> Option<Value> {
        let mut command = Command::new(warren());
        command.args(["status", "--json", "--dir"]).arg(&self.dir);
        let ended = finish(&mut command);
        ended.status.success().then(|| serde_json::from_str(&ended.stdout).unwrap())
    }

    /// Runs `warren ARGS --dir DIR`.
    pub fn command(&self, args: &[&str]) -> binary::Ended {
        let dir = self.dir.display().to_string();
        run(args.iter().copied().chain(["--dir", dir.as_str()]))
    }

    /// One of its metrics; `None` while it does not answer.
    pub fn metric(&self, name: &str) -> Option<u64> {
        let (status, text) = http_get(self.metrics, "/metrics").ok()?;
        if status != 200 {
            return None;
        }
        let line = text.lines().find(|line| line.split_whitespace().next() == Some(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// Cells it has moved for others.
    pub fn cells(&self) -> Option<u64> {
        self.metric("warren_cells_relayed_total")
    }

    /// Whether its own page says it is ready.
    pub fn is_ready(&self) -> bool {
        http_get(self.metrics, "/readyz").is_ok_and(|(status, _)| status == 200)
    }

    /// Its own line for the next router.
    pub fn invite(&self) -> String {
        self.command(&["invite"]).success().trim().to_owned()
    }

    /// Its address among routers.
    pub fn ip(&self) -> IpAddr {
        self.link.ip()
    }

    /// Sends it a signal: "KILL", "STOP", "CONT".
    pub fn signal(&mut self, signal: &str) {
        machine::signal(self.pid, signal, &self.dir.display().to_string());
        if signal == "KILL"
            && let Some(mut child) = self.child.take()
        {
            let _ = child.wait();
        }
    }

    /// Whether its process runs.
    pub fn is_running(&self) -> bool {
        !machine::is_over(self.pid)
    }

    /// Starts it again as it was started before, after it was killed; returns how long it took from
    /// then until it was ready.
    pub fn restart(&mut self, limit: Duration) -> Duration {
        let start = self.start_again();
        self.ready_again(limit, start)
    }

    /// The same without waiting, for networks of which too few are left to be ready; says when.
    pub fn start_again(&mut self) -> Instant {
        wait_for(Duration::from_secs(10), "the old process to be gone", || {
            (!self.is_running()).then_some(())
        });
        let start = Instant::now();
        self.spawn();
        start
    }

    /// Waits until it is ready.
    pub fn ready_again(&self, limit: Duration, start: Instant) -> Duration {
        wait_for(limit, "a restarted router to be ready", || self.is_ready().then_some(()));
        start.elapsed()
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join("log")).unwrap_or_default()).into_owned()
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A hidden service of a network.
#[derive(Clone, Debug)]
pub struct Service {
    /// `<56 characters>.warren`
    pub name: String,
    /// Where its streams go.
    pub target: String,
    /// The id of the router that publishes it.
    pub router: String,
}

/// A whole network; taken down when dropped.
#[derive(Debug)]
pub struct Testnet {
    /// From start to all ready and published, in milliseconds, as `net.json` says.
    pub ready_ms: u64,
    /// Its routers.
    pub routers: Vec<Router>,
    /// Its services.
    pub services: Vec<Service>,
    dir: PathBuf,
    scratch: Scratch,
}

impl Testnet {
    /// Brings up `routers` routers, with one hidden service for each of `targets`.
    pub fn up(routers: usize, targets: &[SocketAddr]) -> Self {
        Self::up_with(routers, targets, &[])
    }

    /// The same, with environment variables for the routers.
    pub fn up_with(routers: usize, targets: &[SocketAddr], env: &[(&str, &str)]) -> Self {
        let scratch = Scratch::new("net");
        let dir = scratch.join("net");
        let mut command = Command::new(warren());
        command.args(["testnet", "up"]).arg(&dir).args(["--routers", &routers.to_string()]);
        for target in targets {
            command.args(["--service", &target.to_string()]);
        }
        for (name, value) in env {
            command.env(name, value);
        }
        let ended = finish(&mut command);
        assert!(
            ended.status.success(),
            "testnet up: {:?}: {}{}\n{}",
            ended.status,
            ended.stdout,
            ended.stderr,
            tails(&dir)
        );
        let text = fs::read_to_string(dir.join("net.json")).unwrap();
        let net: Value = serde_json::from_str(&text).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let this = Self {
            ready_ms: net["ready_ms"].as_u64().unwrap(),
            routers: net["routers"].as_array().unwrap().iter().map(Router::read).collect(),
            services: net["services"]
                .as_array()
                .unwrap()
                .iter()
                .map(|service| Service {
                    name: text(&service["name"]),
                    target: text(&service["target"]),
                    router: text(&service["router"]),
                })
                .collect(),
            dir,
            scratch,
        };
        assert_eq!(this.routers.len(), routers);
        assert_eq!(this.services.len(), targets.len());
        this
    }

    /// Its folder, with `net.json`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folder around it, for what else a test needs.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// The client router.
    pub fn client(&self) -> &Router {
        self.routers.iter().find(|router| router.role == "client").expect("a client router")
    }

    /// The router that publishes the services.
    pub fn host(&self) -> &Router {
        self.routers.iter().find(|router| router.role == "service").expect("a service router")
    }

    /// Its position in `routers` of the router with this address.
    pub fn at(&self, ip: IpAddr) -> usize {
        self.routers.iter().position(|router| router.ip() == ip).expect("an address of ours")
    }

    /// What the router with this address is called, for messages.
    pub fn name_of(&self, ip: IpAddr) -> &str {
        self.routers.iter().find(|router| router.ip() == ip).map_or("?", |router| &router.id)
    }

    /// A path in words.
    pub fn path_names(&self, path: &[IpAddr]) -> String {
        path.iter().map(|ip| self.name_of(*ip)).collect::<Vec<_>>().join(" ")
    }

    /// Through the client router to service number `n`.
    pub fn via(&self, n: usize) -> Via {
        Via::new(self.client().proxy, &self.services[n].name)
    }

    /// Cells every router has moved for others so far; zero for those that do not answer.
    pub fn cells(&self) -> Vec<u64> {
        self.routers.iter().map(|router| router.cells().unwrap_or(0)).collect()
    }

    /// CPU seconds all routers have used so far.
    pub fn cpu_seconds(&self) -> f64 {
        self.routers.iter().filter_map(|router| machine::cpu_seconds(router.pid)).sum()
    }
}

impl Drop for Testnet {
    fn drop(&mut self) {
        // What this does not end, the scratch folder's janitor does.
        let down = Command::new(warren())
            .args(["testnet", "down"])
            .arg(&self.dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        if let Ok(mut down) = down {
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(20) && matches!(down.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = down.kill();
            let _ = down.wait();
        }
    }
}

/// The last lines of every router's log, for messages.
fn tails(dir: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(log) = File::open(entry.path().join("log")).and_then(std::io::read_to_string) else {
            continue;
        };
        let lines: Vec<&str> = log.lines().rev().take(4).collect();
        let _ = write!(text, "{}: ", entry.file_name().display());
        for line in lines.iter().rev() {
            let _ = write!(text, "{line} | ");
        }
        text.push('\n');
    }
    text
}
