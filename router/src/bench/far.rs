//! `warren bench far`: a network whose links are long, all of it in this process.
//!
//! Lives here: twelve routers behind delay lines, a service, one download. Does not live here: the
//! routers and lines (`crowd.rs`, `delay.rs`), builds (`build.rs`).
//!
//! Throughput over long links is a matter of windows: as the processor serves all routers, lines
//! and programs here at once, it says nothing of CPU time.

use std::{
    fmt, io,
    net::{Ipv4Addr, TcpListener},
    thread,
    time::Duration,
};

use serde::Serialize;
use tokio::runtime;

use super::{
    build,
    crowd::Crowd,
    meter::{median, percentile},
    origin::{self, Bulk, Target},
};
use crate::driver::{ExposeRequest, Handle};

const ROUTERS: u8 = 12;
/// Small fetches that are measured.
const FETCHES: usize = 10;
/// How long windows may take to grow, before a download is measured.
const GROWTH: Duration = Duration::from_secs(8);

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct FarSettings {
    /// One way, on each link.
    pub delay: Duration,
    /// Seconds that the download is measured for.
    pub seconds: u64,
    /// Tunnels that are built.
    pub builds: u32,
}

/// One run of `warren bench far`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FarFigures {
    /// Milliseconds of delay on each link, one way.
    pub delay_ms: f64,
    /// Milliseconds for a tunnel of three hops: the median, of those that were built.
    pub build_p50_ms: f64,
    /// What 95 of 100 do not exceed.
    pub build_p95_ms: f64,
    /// Builds that failed.
    pub builds_failed: usize,
    /// 1 KiB over a new stream of a session that stands, in milliseconds: the median.
    pub first_byte_ms: f64,
    /// What the links take for it: there and back over seven of them for the proxy's answer, and again
    /// for the server's.
    pub first_byte_limit_ms: f64,
    /// One download over six relays once its windows have grown, in MiB a second.
    pub mib_per_s: f64,
    /// The same in its first eight seconds.
    pub first_seconds_mib_per_s: f64,
}

impl fmt::Display for FarFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{ROUTERS} routers, every link {:.0} ms long each way, in one process",
            self.delay_ms
        )?;
        writeln!(
            f,
            "  build of three hops {:>7.0} ms p50, {:.0} ms p95, {} failed",
            self.build_p50_ms, self.build_p95_ms, self.builds_failed
        )?;
        writeln!(
            f,
            "  first byte          {:>7.0} ms median; the links alone take {:.0}",
            self.first_byte_ms, self.first_byte_limit_ms
        )?;
        write!(
            f,
            "  one download        {:>7.1} MiB/s over six relays; {:.1} in its first {} s",
            self.mib_per_s,
            self.first_seconds_mib_per_s,
            GROWTH.as_secs()
        )
    }
}

/// Measures. Blocks for about a minute.
///
/// # Errors
/// When routers do not start or find each other, or the download breaks.
pub fn run(settings: FarSettings) -> io::Result<FarFigures> {
    let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let origin = listener.local_addr()?;
    origin::serve(listener);
    let (crowd, target) = runtime.block_on(async {
        let crowd = Crowd::start(ROUTERS, settings.delay).await?;
        crowd.ready().await?;
        let target = expose(&crowd, origin.to_string()).await?;
        io::Result::Ok((crowd, target))
    })?;
    let figures = measure(settings, &runtime, &crowd, &target);
    runtime.block_on(crowd.stop());
    figures
}

async fn expose(crowd: &Crowd, target: String) -> io::Result<Target> {
    let (Some(service), Some(client)) = (crowd.routers.first(), crowd.routers.last()) else {
        return Err(io::Error::other("no routers"));
    };
    let request = ExposeRequest { target, label: Some("far".into()), hops: None, private: false };
    let exposed = service.expose(request).await.map_err(io::Error::other)?;
    Crowd::wait(service, "the service is not published", async |router: &Handle| {
        let services = router.services().await.unwrap_or_default();
        !services.is_empty() && services.iter().all(|service| service.published)
    })
    .await?;
    Ok(Target::new(client.proxy, exposed.name))
}

fn measure(
    settings: FarSettings,
    runtime: &runtime::Runtime,
    crowd: &Crowd,
    target: &Target,
) -> io::Result<FarFigures> {
    target.first_byte()?; // the first opens the session
    let times: Vec<_> = (0..FETCHES)
        .map(|_| target.first_byte().map(|time| time.as_secs_f64() * 1e3))
        .collect::<Result<_, _>>()?;
    let builds = runtime.block_on(build::measure(crowd, settings.builds))?;
    let built = || builds.iter().flatten().map(|time| time.as_secs_f64() * 1e3);
    let bulk = Bulk::start(target, 1, None);
    thread::sleep(GROWTH);
    let grown = bulk.bytes();
    let seconds = Duration::from_secs(settings.seconds);
    thread::sleep(seconds);
    let after = bulk.bytes();
    bulk.stop()?;
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let rate = |bytes: u64, time: Duration| bytes as f64 / 1_048_576.0 / time.as_secs_f64();
    let delay_ms = settings.delay.as_secs_f64() * 1e3;
    Ok(FarFigures {
        delay_ms,
        build_p50_ms: median(built()),
        build_p95_ms: percentile(built(), 0.95),
        builds_failed: builds.iter().filter(|time| time.is_none()).count(),
        first_byte_ms: median(times),
        first_byte_limit_ms: 4.0 * 7.0 * delay_ms,
        mib_per_s: rate(after - grown, seconds),
        first_seconds_mib_per_s: rate(grown, GROWTH),
    })
}
