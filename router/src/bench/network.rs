//! The network that `warren bench path` measures: a test network of this program, or any that runs.
//!
//! Lives here: starting and stopping it, and what its processes use. Does not live here: what is
//! sent through it (`path.rs`).

use std::{
    env, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    time::Duration,
};

use serde::Deserialize;

use super::{meter, processes};

/// A network that runs already, as `--attach FILE` describes it: one JSON object.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Attached {
    /// What to call it.
    pub(super) name: String,
    /// Its client's SOCKS5 port.
    pub(super) proxy: SocketAddr,
    /// The service's name in it; its target is where the benchmark listens.
    pub(super) host: String,
    /// Encrypted connections between the client's router and the service's.
    pub(super) links: u32,
    /// All its processes.
    pub(super) processes: Vec<Member>,
}

/// One process under test.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Member {
    /// Its number.
    pub(super) pid: u32,
    /// `client`, `service` or `relay`.
    pub(super) role: String,
}

impl Attached {
    pub(super) fn read(file: &Path) -> io::Result<Self> {
        Ok(serde_json::from_str(&fs::read_to_string(file)?)?)
    }

    /// CPU time that all its processes have used, and those of `role` alone.
    pub(super) fn cpu(&self, role: Option<&str>) -> Duration {
        let chosen = self.processes.iter().filter(|it| role.is_none_or(|role| it.role == role));
        chosen.filter_map(|it| processes::cpu(it.pid)).sum()
    }

    /// Processes that are gone.
    pub(super) fn dead(&self) -> usize {
        self.processes.iter().filter(|it| processes::cpu(it.pid).is_none()).count()
    }

    /// Median and most resident memory of a process, in MiB.
    pub(super) fn resident_mib(&self) -> [f64; 2] {
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let mib = |it: &Member| processes::resident_kib(it.pid).map(|kib| kib as f64 / 1_024.0);
        let all: Vec<f64> = self.processes.iter().filter_map(mib).collect();
        [meter::median(all.iter().copied()), all.iter().copied().fold(0.0, f64::max)]
    }
}

/// The parts of `net.json` that matter here.
#[derive(Debug, Deserialize)]
struct NetFile {
    routers: Vec<RouterEntry>,
    services: Vec<ServiceEntry>,
}

#[derive(Debug, Deserialize)]
struct RouterEntry {
    pid: u32,
    role: String,
    proxy: SocketAddr,
}

#[derive(Debug, Deserialize)]
struct ServiceEntry {
    name: String,
}

/// A test network in a folder of its own; stopped and removed when dropped.
#[derive(Debug)]
pub(super) struct Testnet {
    warren: PathBuf,
    dir: PathBuf,
}

impl Testnet {
    /// Starts `routers` processes of the program `warren`, with a service for `origin`.
    pub(super) fn up(
        warren: &Path,
        routers: u8,
        hops: u8,
        origin: SocketAddr,
    ) -> io::Result<(Self, Attached)> {
        let dir = env::temp_dir().join(format!("warren-bench-{}", process::id()));
        let this = Self { warren: warren.into(), dir };
        let [routers, tunnel_hops] = [routers, hops].map(|number| number.to_string());
        let origin = origin.to_string();
        let args = ["--routers", &routers, "--hops", &tunnel_hops, "--service", &origin];
        this.verb("up", &args)?;
        let file: NetFile = serde_json::from_str(&fs::read_to_string(this.dir.join("net.json"))?)?;
        let missing = || io::Error::other("the test network names no client and service");
        let client = file.routers.iter().find(|it| it.role == "client").ok_or_else(missing)?;
        let service = file.services.first().ok_or_else(missing)?;
        let attached = Attached {
            name: "warren".into(),
            proxy: client.proxy,
            host: service.name.clone(),
            links: 2 * u32::from(hops) + 1,
            processes: file
                .routers
                .iter()
                .map(|it| Member { pid: it.pid, role: it.role.clone() })
                .collect(),
        };
        Ok((this, attached))
    }

    /// Adds a client from nothing: milliseconds until its first page.
    pub(super) fn join(&self) -> io::Result<f64> {
        self.verb("join", &[])?
            .trim()
            .parse()
            .map_err(|_| io::Error::other("`warren testnet join` printed no number"))
    }

    fn verb(&self, verb: &str, args: &[&str]) -> io::Result<String> {
        let output = Command::new(&self.warren)
            .args(["testnet", verb])
            .arg(&self.dir)
            .args(args)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()?;
        if !output.status.success() {
            let program = self.warren.display();
            return Err(io::Error::other(format!("`{program} testnet {verb}` failed")));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Testnet {
    fn drop(&mut self) {
        let _ = self.verb("down", &[]);
        let _ = fs::remove_dir_all(&self.dir);
    }
}
