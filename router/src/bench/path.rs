//! `warren bench path`: downloads from a hidden service through a whole network of processes.
//!
//! Lives here: the order of the measurements, and what is made of them. Does not live here: the
//! network (`network.rs`), the server behind the service and the fetching (`origin.rs`): both are
//! this process, whose CPU time is not the network's.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    thread,
    time::Duration,
};

use serde::Serialize;

use super::{
    PathFigures,
    actors::Clock,
    crypto::Onion,
    limit,
    meter::{median, percentile, process_cpu},
    network::{Attached, Testnet},
    origin::{self, Bulk, Target},
    processes,
};

/// Streams of the parallel downloads.
const STREAMS: u32 = 8;
/// Bytes per second of bulk, in parts of its measured maximum, beside which small fetches are
/// measured.
const BUSY_SHARE: f64 = 0.7;
/// Between small fetches, so that none profits from the one before.
const FETCH_EVERY: Duration = Duration::from_millis(20);
/// Rest after downloads: what was under way drains.
const REST: Duration = Duration::from_millis(500);
/// How long the first page of a network may take.
const FIRST_PAGE_LIMIT: Duration = Duration::from_mins(10);
/// Fetches that warm everything up.
const WARM_UP: usize = 5;
/// Samples of the onion layer for the limit.
const LIMIT_ROUNDS: usize = 4;
/// Bytes of a stream that one cell carries.
const CELL_DATA: f64 = 1_001.0;

/// What to run.
#[derive(Clone, Debug)]
pub struct PathSettings {
    /// Routers of the test network, 5 to 100.
    pub routers: u8,
    /// Hops of each tunnel, 1 to 4.
    pub hops: u8,
    /// Downloads of each kind.
    pub rounds: usize,
    /// Seconds that each takes.
    pub seconds: u64,
    /// Small fetches of each kind.
    pub fetches: usize,
    /// Routers that join, one after the other.
    pub joins: usize,
    /// Where the server listens; port 0 is any.
    pub listen: SocketAddr,
    /// A network that runs already.
    pub attach: Option<PathBuf>,
    /// The program that starts test networks.
    pub warren: PathBuf,
}

/// Downloads of one kind: medians.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Throughput {
    /// Streams at once.
    pub streams: u32,
    /// Bytes delivered, all streams together, in MiB a second.
    pub mib_per_s: f64,
    /// CPU time of all processes of the network, as seconds for one GiB delivered.
    pub cpu_s_per_gib: f64,
    /// The same without what they use when nothing is asked of them.
    pub cpu_s_per_gib_net: f64,
    /// Of that, what the relays use, for each of their hops.
    pub relay_cpu_s_per_gib_per_hop: f64,
    /// Cores that the network kept busy.
    pub cores: f64,
    /// Cores that everything else on this machine kept busy, this process not counted.
    pub foreign_cores: f64,
}

/// Small fetches of one kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FirstByte {
    /// How many succeeded.
    pub fetched: usize,
    /// And how many did not.
    pub failed: usize,
    /// Milliseconds until the first byte: the median.
    pub median_ms: f64,
    /// What 95 of 100 did not exceed.
    pub p95_ms: f64,
    /// Downloads beside them, in MiB a second.
    pub bulk_mib_per_s: f64,
    /// Cores that everything else on this machine kept busy.
    pub foreign_cores: f64,
}

/// Measures. Blocks for minutes.
///
/// # Errors
/// When the network does not start or serves no page, or what comes is not what was sent.
pub fn run(settings: &PathSettings) -> io::Result<PathFigures> {
    let limit = limit::measure()?;
    let onion_ns = Onion::measure(LIMIT_ROUNDS).path_ns();
    let listener = TcpListener::bind(settings.listen)?;
    let origin = listener.local_addr()?;
    origin::serve(listener);
    let (testnet, network) = match &settings.attach {
        Some(file) => (None, Attached::read(file)?),
        None => {
            let (testnet, network) =
                Testnet::up(&settings.warren, settings.routers, settings.hops, origin)?;
            (Some(testnet), network)
        }
    };
    let target = Target::new(network.proxy, network.host.clone());
    let first_page_s = first_page(&target)?.as_secs_f64();
    for _ in 0..WARM_UP {
        let _ = target.first_byte();
    }
    let mut meter = Meter { network: &network, target: &target, idle_cores: 0.0 };
    let (_, idle) = meter.during(|| {
        thread::sleep(Duration::from_secs(settings.seconds));
        Ok(0)
    })?;
    meter.idle_cores = idle.cores;
    let idle_mib = network.resident_mib();
    let first_byte = meter.first_byte(settings.fetches, None)?;
    let one = meter.downloads(settings, 1)?;
    let many = meter.downloads(settings, STREAMS)?;
    let loaded_mib = network.resident_mib();
    let rate = bytes(many.mib_per_s * BUSY_SHARE);
    let busy = Bulk::start(&target, STREAMS, Some(rate));
    let busy = meter.first_byte(settings.fetches, Some(busy))?;
    let saturated = Bulk::start(&target, STREAMS, None);
    let saturated = meter.first_byte(settings.fetches, Some(saturated))?;
    let joins = match &testnet {
        Some(testnet) => (0..settings.joins).map(|_| testnet.join()).collect::<Result<_, _>>()?,
        None => Vec::new(),
    };
    let links = f64::from(network.links);
    // Each link, and the conversation itself; the sockets of both ends' programs.
    let limit_ns = (links + 1.0) * (limit.aead_ns + limit.loopback_ns) + onion_ns;
    let limit_cpu_s_per_gib = limit_ns * f64::from(1 << 30) / CELL_DATA / 1e9;
    Ok(PathFigures {
        name: network.name.clone(),
        processes: network.processes.len(),
        died: network.dead(),
        links: network.links,
        first_page_s,
        idle_cores: idle.cores,
        idle_mib,
        loaded_mib,
        first_byte,
        first_byte_busy: busy,
        first_byte_saturated: saturated,
        ratio_to_limit: one.cpu_s_per_gib / limit_cpu_s_per_gib,
        one,
        many,
        join_ms: joins,
        limit,
        onion_path_ns: onion_ns,
        limit_cpu_s_per_gib,
    })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate in bytes")]
fn bytes(mib: f64) -> u64 {
    (mib * 1_048_576.0) as u64
}

/// Asks until the network serves a page.
fn first_page(target: &Target) -> io::Result<Duration> {
    let clock = Clock::start();
    loop {
        match target.first_byte() {
            Ok(_) => return Ok(clock.elapsed()),
            Err(error) if clock.elapsed() > FIRST_PAGE_LIMIT => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// What was used while something went on.
#[derive(Clone, Copy, Debug)]
struct Use {
    wall: f64,
    cpu: f64,
    relays: f64,
    cores: f64,
    foreign_cores: f64,
}

#[derive(Debug)]
struct Meter<'a> {
    network: &'a Attached,
    target: &'a Target,
    idle_cores: f64,
}

impl Meter<'_> {
    fn during<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<(T, Use)> {
        let clock = Clock::start();
        let look = || {
            let all = processes::machine_cpu().unwrap_or_default();
            [self.network.cpu(None), self.network.cpu(Some("relay")), all, process_cpu()]
        };
        let before = look();
        let made = work()?;
        let (wall, after) = (clock.elapsed().as_secs_f64(), look());
        let mut used = after.iter().zip(before).map(|(a, b)| a.saturating_sub(b).as_secs_f64());
        let mut next = || used.next().unwrap_or_default();
        let (cpu, relays, machine, own) = (next(), next(), next(), next());
        let foreign_cores = ((machine - cpu - own) / wall).max(0.0);
        Ok((made, Use { wall, cpu, relays, cores: cpu / wall, foreign_cores }))
    }

    fn downloads(&self, settings: &PathSettings, streams: u32) -> io::Result<Throughput> {
        let mut rounds = Vec::with_capacity(settings.rounds);
        for _ in 0..settings.rounds {
            thread::sleep(REST);
            let bulk = Bulk::start(self.target, streams, None);
            let (bytes, used) = self.during(|| {
                thread::sleep(Duration::from_secs(settings.seconds));
                Ok(bulk.bytes())
            })?;
            bulk.stop()?;
            if bytes == 0 {
                return Err(io::Error::other("nothing came: is the machine overloaded?"));
            }
            #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
            rounds.push((bytes as f64, used));
        }
        let gib = f64::from(1 << 30);
        let of = |pick: &dyn Fn(f64, Use) -> f64| {
            median(rounds.iter().map(|(bytes, used)| pick(*bytes, *used)))
        };
        let idle = self.idle_cores;
        let relays = f64::from(self.network.links.saturating_sub(1).max(1));
        Ok(Throughput {
            streams,
            mib_per_s: of(&|bytes, used| bytes / 1_048_576.0 / used.wall),
            cpu_s_per_gib: of(&|bytes, used| used.cpu / (bytes / gib)),
            cpu_s_per_gib_net: of(&|bytes, used| (used.cpu - idle * used.wall) / (bytes / gib)),
            relay_cpu_s_per_gib_per_hop: of(&|bytes, used| used.relays / (bytes / gib) / relays),
            cores: of(&|_, used| used.cores),
            foreign_cores: of(&|_, used| used.foreign_cores),
        })
    }

    /// Small fetches one after the other, beside downloads if there are any.
    fn first_byte(&self, fetches: usize, bulk: Option<Bulk>) -> io::Result<FirstByte> {
        if bulk.is_some() {
            thread::sleep(Duration::from_secs(1)); // windows grow
        }
        let before = bulk.as_ref().map_or(0, Bulk::bytes);
        let (times, used) = self.during(|| {
            let times = (0..fetches).map(|_| {
                thread::sleep(FETCH_EVERY);
                self.target.first_byte().ok()
            });
            Ok(times.collect::<Vec<_>>())
        })?;
        let after = bulk.as_ref().map_or(0, Bulk::bytes);
        bulk.map_or(Ok(()), Bulk::stop)?;
        thread::sleep(REST);
        let times: Vec<f64> =
            times.into_iter().flatten().map(|time| time.as_secs_f64() * 1e3).collect();
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let bulk_mib_per_s = (after - before) as f64 / 1_048_576.0 / used.wall;
        Ok(FirstByte {
            fetched: times.len(),
            failed: fetches - times.len(),
            median_ms: median(times.iter().copied()),
            p95_ms: percentile(times.iter().copied(), 0.95),
            bulk_mib_per_s,
            foreign_cores: used.foreign_cores,
        })
    }
}
