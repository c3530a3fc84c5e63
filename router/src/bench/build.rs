//! `warren bench build`: what a tunnel costs to build, and how long it takes.
//!
//! Lives here: the public-key work of owner and hops, in memory; real builds through three routers,
//! over links with or without delay. Does not live here: the routers (`crowd.rs`).

use std::{fmt, io, time::Duration};

use serde::Serialize;
use tokio::{
    runtime,
    time::{sleep, timeout},
};
use warren_overlay::tunnel::build::{self, Onward, ReplayWindow, TunnelKeys};

use super::{
    actors::{self, Clock},
    crowd::Crowd,
    crypto::PublicKey,
    meter::{Samples, median, percentile},
    peer::{Descriptor, Peer},
};
use crate::entropy;

/// Hops of each tunnel.
const HOPS: u8 = 3;
/// Minutes that the tunnels are built for.
const LIFE_MINUTES: u16 = 10;
/// Samples of each primitive of the limit.
const LIMIT_ROUNDS: usize = 9;
/// Between builds: a neighbour takes 20 a second for long (`tunnel::transit::RATE`).
const BUILD_EVERY: Duration = Duration::from_millis(55);
/// Builds before those that are measured: the routers dial each other.
const WARM_UP: u32 = 3;
/// How long a build may take.
const BUILD_LIMIT: Duration = Duration::from_secs(5);

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct BuildSettings {
    /// Builds of each kind, at least 1.
    pub builds: u32,
    /// One way, on each of the three links.
    pub delay: Duration,
}

/// One run of `warren bench build`: medians.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BuildFigures {
    /// Builds of each kind.
    pub builds: u32,
    /// CPU time of the owner for a tunnel of three hops, in microseconds.
    pub owner_us: f64,
    /// CPU time of one hop, in microseconds.
    pub hop_us: f64,
    /// Tunnels of three hops that one core builds in a second, owner and hops together.
    pub builds_per_s: f64,
    /// Builds that a hop takes part in, in a second of one core.
    pub hop_builds_per_s: f64,
    /// What the public-key operations alone take of a tunnel, owner and hops, in microseconds.
    pub limit_us: f64,
    /// Owner and hops over that.
    pub ratio_to_limit: f64,
    /// Milliseconds of delay on each link, one way.
    pub delay_ms: f64,
    /// Milliseconds from nothing to a tunnel through three routers: the median.
    pub p50_ms: f64,
    /// What 95 of 100 do not exceed.
    pub p95_ms: f64,
    /// Builds that failed.
    pub failed: u32,
}

impl fmt::Display for BuildFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "tunnels of three hops; median of {} builds", self.builds)?;
        writeln!(
            f,
            "  CPU  owner {:.0} us, each hop {:.0} us: {:.0} tunnels a second and core in all, {:.0} \
             at a hop",
            self.owner_us, self.hop_us, self.builds_per_s, self.hop_builds_per_s
        )?;
        writeln!(
            f,
            "  limit of the machine {:.0} us (public-key operations): {:.2} times that",
            self.limit_us, self.ratio_to_limit
        )?;
        write!(
            f,
            "  over links with {:.0} ms each way: {:.1} ms p50, {:.1} ms p95, {} failed",
            self.delay_ms, self.p50_ms, self.p95_ms, self.failed
        )
    }
}

/// Measures. Blocks for some seconds.
///
/// # Errors
/// When routers do not start, or no build succeeds.
pub fn run(settings: BuildSettings) -> io::Result<BuildFigures> {
    let primitives = PublicKey::measure(LIMIT_ROUNDS);
    // Owner and hop each: a fresh key, an agreement with the day's key and one of fresh keys.
    let limit_us = f64::from(HOPS) * primitives.exchange_ns(4.0, false) / 1e3;
    let [owner, hops] = in_memory(settings.builds)
        .ok_or_else(|| io::Error::other("a build in memory failed: a defect"))?;
    let hop_us = hops.median() / 1e3;
    let (owner_us, all_us) = (owner.median() / 1e3, (owner.median() + 3.0 * hops.median()) / 1e3);
    let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
    let times = runtime.block_on(through_routers(settings))?;
    let millis = || times.iter().flatten().map(|time| time.as_secs_f64() * 1e3);
    let failed = times.iter().filter(|time| time.is_none()).count();
    Ok(BuildFigures {
        builds: settings.builds,
        owner_us,
        hop_us,
        builds_per_s: 1e6 / all_us,
        hop_builds_per_s: 1e6 / hop_us,
        limit_us,
        ratio_to_limit: all_us / limit_us,
        delay_ms: settings.delay.as_secs_f64() * 1e3,
        p50_ms: median(millis()),
        p95_ms: percentile(millis(), 0.95),
        failed: u32::try_from(failed).unwrap_or(u32::MAX),
    })
}

/// CPU time of the owner for a whole tunnel, and of each hop.
fn in_memory(builds: u32) -> Option<[Samples; 2]> {
    let clock = Clock::start();
    let network = actors::network();
    let hop = |k| {
        let mut address = actors::address(k);
        address.set_port(9_000); // nobody dials it
        actors::hop(clock.now(), &network, address.into())
    };
    let (keys, descriptors): (Vec<TunnelKeys>, Vec<_>) =
        (1..=HOPS).map(hop).collect::<Option<Vec<_>>>()?.into_iter().unzip();
    let mut rng = entropy::generator();
    let mut windows: Vec<_> = keys.iter().map(|_| ReplayWindow::new(100_000)).collect();
    let [mut owner, mut hops] = [Samples::default(), Samples::default()];
    for _ in 0..builds {
        let wall = clock.now().wall;
        let mut first = Samples::default();
        let (mut message, pending) =
            first.add(1, || build::create(&mut rng, wall, &descriptors, LIFE_MINUTES)).ok()?;
        let mut answers = Vec::new();
        for (keys, window) in keys.iter().zip(&mut windows) {
            let mut opening = Samples::default();
            let opened = opening.add(1, || keys.open(wall, window, message.clone())).ok()?;
            if let Onward::Middle { message: next, .. } = opened.onward {
                message = next;
            }
            answers.push((opened.answer, opening.median()));
        }
        let mut reply = build::noise_reply(&mut rng);
        for (answer, opening) in answers.into_iter().rev() {
            let mut accepting = Samples::default();
            accepting.add(1, || answer.accept(&mut rng, &mut reply))?;
            hops.push(opening + accepting.median());
        }
        let mut last = Samples::default();
        last.add(1, || pending.open(&reply)).ok()?;
        owner.push(first.median() + last.median());
    }
    Some([owner, hops])
}

async fn through_routers(settings: BuildSettings) -> io::Result<Vec<Option<Duration>>> {
    let crowd = Crowd::start(HOPS, settings.delay).await?;
    let times = measure(&crowd, settings.builds).await;
    crowd.stop().await;
    times
}

/// How long builds through the first three routers of `crowd` take; `None` for one that failed.
pub(super) async fn measure(crowd: &Crowd, builds: u32) -> io::Result<Vec<Option<Duration>>> {
    let hops: Vec<_> = crowd.descriptors.iter().take(HOPS.into()).cloned().collect();
    let first = hops.first().ok_or_else(|| io::Error::other("no routers"))?;
    let mut owner = Peer::dial(Clock::start(), &crowd.network, actors::address(200), first).await?;
    let mut times = Vec::new();
    for number in 1..=WARM_UP + builds {
        sleep(BUILD_EVERY).await;
        let time = match timeout(BUILD_LIMIT, one(&mut owner, &hops, number)).await {
            Ok(built) => built?,
            Err(_) => None,
        };
        if number > WARM_UP {
            times.push(time);
        }
    }
    Ok(times)
}

/// Builds one tunnel, and closes it again. `None` if a hop refused.
async fn one(owner: &mut Peer, hops: &[Descriptor], number: u32) -> io::Result<Option<Duration>> {
    let (clock, tunnel) = (owner.clock(), actors::lane_in(number));
    let since = clock.elapsed();
    let wall = clock.now().wall;
    let (message, pending) = build::create(&mut entropy::generator(), wall, hops, LIFE_MINUTES)
        .map_err(|_| io::Error::other("the hops' keys make no tunnel"))?;
    let Some(reply) = owner.build(tunnel, message).await? else { return Ok(None) };
    let built = pending.open(&reply).is_ok();
    let time = clock.elapsed().saturating_sub(since);
    owner.close(tunnel).await?;
    Ok(built.then_some(time))
}
