//! `warren bench idle`: what links, tunnels and streams cost a router when nothing goes through them.
//!
//! Lives here: a whole router (in this process), its memory and CPU time alone, with links, and with
//! tunnels through it. Does not live here: the other ends (`load`, in a process of their own), streams
//! (`streams.rs`).

use std::{
    ffi::OsString,
    fmt,
    io::{self, BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use tokio::{net::TcpListener, runtime, sync::Semaphore, task::JoinSet, time::sleep};
use warren_overlay::{
    link::{Handshake, LinkIdentity},
    tunnel::build,
};

use super::{
    actors::{self, Clock},
    meter::{per, process_cpu},
    peer::{self, Descriptor, Peer},
    processes,
    streams::{self, StreamFigures},
};
use crate::{
    config::ConfigFile,
    driver::{self, Setup},
    entropy,
    invite::Invite,
};

/// Builds on their way at any time: less than a link's control queue holds.
const BUILDS_AT_ONCE: usize = 32;
/// Handshakes on their way at any time.
const DIALS_AT_ONCE: usize = 16;
/// Minutes that the tunnels are built for.
const LIFE_MINUTES: u16 = 20;
/// Before each measurement: what building has left is tidied up.
pub(super) const SETTLE: Duration = Duration::from_secs(12);

/// What to run.
#[derive(Clone, Debug)]
pub struct IdleSettings {
    /// Links, 1 to 1,000.
    pub links: u32,
    /// Tunnels through the router, over all links.
    pub tunnels: u32,
    /// Streams through a test network; none leaves that out.
    pub streams: u32,
    /// Seconds of each measurement.
    pub seconds: u64,
    /// The program that starts test networks.
    pub warren: PathBuf,
    /// The command that runs [`super::load_idle`]: `--invite LINE --links N --tunnels N` is appended.
    pub load: Vec<OsString>,
}

/// A router at rest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AtRest {
    /// Resident memory of its process, in KiB.
    pub resident_kib: u64,
    /// Share of one core that it uses.
    pub cores: f64,
}

/// One run of `warren bench idle`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct IdleFigures {
    /// Links.
    pub links: u32,
    /// Tunnels through the router.
    pub tunnels: u32,
    /// The router alone.
    pub alone: AtRest,
    /// With its links.
    pub with_links: AtRest,
    /// With its tunnels too.
    pub with_tunnels: AtRest,
    /// Resident bytes for one link.
    pub bytes_per_link: f64,
    /// Resident bytes for one tunnel.
    pub bytes_per_tunnel: f64,
    /// CPU time of one link, in microseconds a second.
    pub us_per_link_and_second: f64,
    /// CPU time of one tunnel, in microseconds a second.
    pub us_per_tunnel_and_second: f64,
    /// What streams take, if any were asked for.
    pub streams: Option<StreamFigures>,
}

impl fmt::Display for IdleFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "one router at rest, records in memory")?;
        for (name, it) in [
            ("alone".into(), self.alone),
            (format!("with {} links", self.links), self.with_links),
            (format!("and {} tunnels", self.tunnels), self.with_tunnels),
        ] {
            let mib = it.resident_kib / 1_024;
            writeln!(f, "  {name:<20} {mib:>5} MiB resident, {:.3} % of a core", it.cores * 100.0)?;
        }
        writeln!(
            f,
            "  one link {:>10.0} bytes, {:.1} us a second",
            self.bytes_per_link, self.us_per_link_and_second
        )?;
        write!(
            f,
            "  one tunnel {:>8.0} bytes, {:.2} us a second",
            self.bytes_per_tunnel, self.us_per_tunnel_and_second
        )?;
        let Some(streams) = self.streams else { return Ok(()) };
        write!(f, "\nthe routers at both ends of {} streams, of a test network", streams.streams)?;
        for (name, it) in [("client", streams.client), ("service", streams.service)] {
            let mib = |it: AtRest| it.resident_kib / 1_024;
            write!(
                f,
                "\n  {name:<8} {:>5} MiB resident before, {} with them, {} when none is read; one \
                 stream {:.0} bytes, {:.2} us a second",
                mib(it.before),
                mib(it.at_rest),
                mib(it.unread),
                it.bytes_per_stream,
                it.us_per_stream_and_second
            )?;
        }
        Ok(())
    }
}

/// Measures. Blocks for about a minute.
///
/// # Errors
/// When the router or the other process does not start, or a link breaks.
pub fn run(settings: &IdleSettings) -> io::Result<IdleFigures> {
    let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
    let router = runtime.block_on(async {
        let mut file = ConfigFile::default();
        file.link.listen = actors::address(1);
        file.proxy.listen.set_port(0);
        file.api.listen.set_port(0);
        let config = file.resolve().map_err(io::Error::other)?;
        let setup = Setup::in_memory(config, actors::network(), Vec::new());
        driver::start(setup.map_err(io::Error::other)?).await.map_err(io::Error::other)
    })?;
    let stopped = || io::Error::other("the router stopped");
    let invite = runtime.block_on(router.invite()).ok_or_else(stopped)?;
    let rest = || runtime.block_on(at_rest(settings.seconds));
    let alone = rest();
    let mut load = Load::start(settings, &invite)?;
    load.next()?;
    let with_links = rest();
    load.next()?;
    let with_tunnels = rest();
    drop(load);
    runtime.block_on(router.stop());
    let figures = figures(settings, [alone, with_links, with_tunnels]);
    let streams = match settings.streams {
        0 => None,
        streams => Some(streams::measure(&settings.warren, streams, settings.seconds)?),
    };
    Ok(IdleFigures { streams, ..figures })
}

/// Resident bytes for one of `n`.
pub(super) fn bytes_each(more: AtRest, less: AtRest, n: u32) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let kib = more.resident_kib as f64 - less.resident_kib as f64;
    per(kib * 1_024.0, n.into())
}

/// CPU time for one of `n`, in microseconds a second.
pub(super) fn micros_each(more: AtRest, less: AtRest, n: u32) -> f64 {
    per((more.cores - less.cores) * 1e6, n.into())
}

fn figures(settings: &IdleSettings, [alone, with_links, with_tunnels]: [AtRest; 3]) -> IdleFigures {
    let (links, tunnels) = (settings.links, settings.tunnels);
    IdleFigures {
        links,
        tunnels,
        alone,
        with_links,
        with_tunnels,
        bytes_per_link: bytes_each(with_links, alone, links),
        bytes_per_tunnel: bytes_each(with_tunnels, with_links, tunnels),
        us_per_link_and_second: micros_each(with_links, alone, links),
        us_per_tunnel_and_second: micros_each(with_tunnels, with_links, tunnels),
        streams: None,
    }
}

async fn at_rest(seconds: u64) -> AtRest {
    sleep(SETTLE).await;
    let clock = Clock::start();
    let before = process_cpu();
    sleep(Duration::from_secs(seconds)).await;
    let cores = process_cpu().saturating_sub(before).as_secs_f64() / clock.elapsed().as_secs_f64();
    AtRest { resident_kib: processes::resident_kib(std::process::id()).unwrap_or_default(), cores }
}

/// The other ends' process; killed and waited for when dropped.
#[derive(Debug)]
struct Load {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Load {
    fn start(settings: &IdleSettings, invite: &str) -> io::Result<Self> {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let (program, args) = settings.load.split_first().ok_or_else(missing)?;
        let [links, tunnels] = [settings.links, settings.tunnels].map(|n| n.to_string());
        let mut child = Command::new(program)
            .args(args)
            .args(["--invite", invite, "--links", &links, "--tunnels", &tunnels])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take().ok_or_else(missing)?;
        let stdout = BufReader::new(child.stdout.take().ok_or_else(missing)?);
        Ok(Self { child, stdin, stdout })
    }

    /// Has it make the links, or then the tunnels, and waits for that.
    fn next(&mut self) -> io::Result<()> {
        self.stdin.write_all(b"next\n")?;
        self.stdin.flush()?;
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        if line.trim() == "done" {
            return Ok(());
        }
        Err(io::Error::other("the other side of the links broke"))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other ends: makes links at the first line of standard input, tunnels at the second, says
/// `done` to each, then keeps them until it is killed.
///
/// # Errors
/// When the router cannot be reached, or a link breaks.
pub fn load(invite: Invite, links: u32, tunnels: u32) -> io::Result<()> {
    let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
    let ends = Arc::new(Ends::new(invite, links, tunnels)?);
    let mut tasks = JoinSet::new();
    let _inside = runtime.enter();
    tasks.spawn(Arc::clone(&ends).sink());
    wait_for_line()?;
    for k in 0..links {
        tasks.spawn(Arc::clone(&ends).link(k));
    }
    runtime.block_on(ends.until(&mut tasks, &ends.links_up, links))?;
    wait_for_line()?;
    ends.build.store(true, Ordering::Relaxed);
    runtime.block_on(ends.until(&mut tasks, &ends.built, tunnels))?;
    match runtime.block_on(tasks.join_next()) {
        Some(ended) => ended.map_err(io::Error::other)?,
        None => Ok(()),
    }
}

fn wait_for_line() -> io::Result<()> {
    io::stdin().read_line(&mut String::new()).map(|_| ())
}

/// What the tasks of the other ends share.
#[derive(Debug)]
struct Ends {
    clock: Clock,
    invite: Invite,
    router: Descriptor,
    links: u32,
    tunnels: u32,
    sink: LinkIdentity,
    listener: std::net::TcpListener,
    dials: Semaphore,
    builds: Semaphore,
    links_up: AtomicU32,
    built: AtomicU32,
    /// It is time for tunnels.
    build: AtomicBool,
}

impl Ends {
    fn new(invite: Invite, links: u32, tunnels: u32) -> io::Result<Self> {
        let clock = Clock::start();
        let listener = std::net::TcpListener::bind(actors::address(3))?;
        listener.set_nonblocking(true)?;
        let sink = actors::identity(clock.now(), &invite.network, listener.local_addr()?.into())
            .ok_or_else(|| io::Error::other("no memory for a router's work"))?;
        let router = invite.routers.first().cloned();
        let router = router.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(Self {
            clock,
            invite,
            router,
            links,
            tunnels,
            sink,
            listener,
            dials: Semaphore::new(DIALS_AT_ONCE),
            builds: Semaphore::new(BUILDS_AT_ONCE),
            links_up: AtomicU32::new(0),
            built: AtomicU32::new(0),
            build: AtomicBool::new(false),
        })
    }

    /// Waits until so many are there, and says so.
    async fn until(
        &self,
        tasks: &mut JoinSet<io::Result<()>>,
        count: &AtomicU32,
        wanted: u32,
    ) -> io::Result<()> {
        while count.load(Ordering::Relaxed) < wanted {
            sleep(Duration::from_millis(20)).await;
            if let Some(ended) = tasks.try_join_next() {
                ended.map_err(io::Error::other)??;
                return Err(io::Error::other("a link ended"));
            }
        }
        let mut out = io::stdout();
        writeln!(out, "done")?;
        out.flush()
    }

    /// The tunnels' far side: waits for the router's dial, accepts everything.
    async fn sink(self: Arc<Self>) -> io::Result<()> {
        let listener = TcpListener::from_std(self.listener.try_clone()?)?;
        let (stream, _) = listener.accept().await?;
        let sink = self.sink.clone();
        let machine = Handshake::accept(self.clock.now(), sink, entropy::generator());
        Peer::shake(self.clock, stream, machine).await?.idle(|| false).await
    }

    /// Link `k`: waits, builds its share, waits on.
    async fn link(self: Arc<Self>, k: u32) -> io::Result<()> {
        let over = |_| io::Error::other("the benchmark is over");
        let permit = self.dials.acquire().await.map_err(over)?;
        let network = &self.invite.network;
        let mut peer = Peer::dial(self.clock, network, peer::source(k), &self.router).await?;
        drop(permit);
        self.links_up.fetch_add(1, Ordering::Relaxed);
        peer.idle(|| self.build.load(Ordering::Relaxed)).await?;
        let hops = [Arc::clone(&self.router), Arc::clone(&self.sink.descriptor)];
        let mut rng = entropy::generator();
        for number in (1..=self.tunnels).filter(|number| number % self.links == k) {
            let _permit = self.builds.acquire().await.map_err(over)?;
            let wall = self.clock.now().wall;
            let (message, _) = build::create(&mut rng, wall, &hops, LIFE_MINUTES)
                .map_err(|_| io::Error::other("the router's keys make no tunnel"))?;
            if peer.build(actors::lane_in(number), message).await?.is_none() {
                return Err(io::Error::other("the router refused a tunnel"));
            }
            self.built.fetch_add(1, Ordering::Relaxed);
        }
        peer.idle(|| false).await
    }
}
