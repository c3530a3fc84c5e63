//! `warren demo`: a whole network in one process, over real TCP on loopback.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use serde::Serialize;
use tokio::sync::watch;
use warren_overlay::{
    crypto::puzzle::Difficulty,
    ring::admission::{Mode, Network, NetworkName, SUITE_HYBRID},
    wire::RouterDescriptor,
};

use super::{
    Failure,
    demo_site::{self, Pages},
    fetch, log, page, print, print_json, say,
};
use crate::{
    config::{ConfigFile, LogLevel},
    driver::{
        self, ExposeRequest, Handle, Setup,
        files::put::PutNews,
        sites::{PublishRequest, SiteDone},
    },
    entropy,
    invite::Invite,
};

/// `warren demo`
#[derive(Args, Debug)]
pub(super) struct Demo {
    /// Routers in the network, 5 to 100
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u8).range(5..=100))]
    routers: u8,
    /// Fetch the page as a stranger would, report, and exit 0 or 1
    #[arg(long)]
    once: bool,
    /// Print one JSON object on standard output
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Outcome {
    routers: u8,
    ready_ms: u64,
    published_ms: u64,
    first_page_ms: u64,
    warm_ttfb_ms: f64,
    relays_on_path: u64,
    verified: bool,
    proxy: SocketAddr,
    url: String,
    site_published_ms: u64,
    site_first_page_ms: u64,
    site_url: String,
}

/// How long each stage may take.
const STAGE_LIMIT: Duration = Duration::from_mins(1);
/// Fetches for the warm figure.
const WARM_FETCHES: usize = 20;

/// Elapsed times, said stage by stage.
struct Stages {
    start: Instant,
}

impl Stages {
    fn millis(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn say(&self, what: std::fmt::Arguments<'_>) {
        say(format_args!("{:7.2} s  {what}", self.start.elapsed().as_secs_f64()));
    }
}

/// Router `k`'s own loopback address: each in another /16, so that path rules apply.
fn address(k: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, k + 1, 0, 1)
}

#[expect(clippy::disallowed_methods, reason = "measuring what a person at this machine would see")]
pub(super) async fn demo(args: Demo) -> Result<(), Failure> {
    // Each router of a network on one machine would warn of how few they are.
    log::set_level(LogLevel::Error);
    let stages = Stages { start: Instant::now() };
    let (page_at, page_task) = page::serve().await?;
    let routers = start_routers(args.routers).await?;
    stages.say(format_args!(
        "{} routers started, each on a loopback address of its own",
        args.routers
    ));

    wait(&routers, "the routers to find each other", async |router| {
        router.status().await.is_some_and(|status| status.ready)
    })
    .await?;
    let ready_ms = stages.millis();
    stages.say(format_args!("all ready: neighbours found, tunnels built"));

    let (Some(service), Some(publisher), Some(client)) =
        (routers.first(), routers.get(1), routers.last())
    else {
        return Err(Failure::Other("no routers: use --routers 8 or more".into()));
    };
    let label = Some("demo".into());
    let request = ExposeRequest { target: page_at.to_string(), label, hops: None, private: false };
    let exposed = service.expose(request).await.map_err(Failure::Other)?;
    wait(std::slice::from_ref(service), "the service to be published", async |router| {
        let services = router.services().await.unwrap_or_default();
        !services.is_empty() && services.iter().all(|service| service.published)
    })
    .await?;
    let published_ms = stages.millis();
    stages.say(format_args!("hidden service published: three gateways, six records in the ring"));

    let url = format!("http://{}/", exposed.name);
    if !args.once {
        let site = publish_site(publisher, &stages).await?;
        say(format_args!(
            "\nPoint a browser's SOCKS5 or HTTP proxy at {0} and open\n  {url}\n  {1}\nor\n  \
             curl --socks5-hostname {0} {url}\nThe second is a stored site: no server is behind it. \
             Ctrl-C ends the demo.",
            client.proxy, site.url
        ));
        if args.json {
            let said = serde_json::json!({"proxy": client.proxy, "url": url, "site_url": site.url});
            print(format_args!("{said}"))?;
        }
        tokio::signal::ctrl_c().await?;
        stop(&routers).await;
        return Ok(());
    }

    let first = fetch::fetch(client.proxy, &exposed.name, "/").await?;
    let first_page_ms = stages.millis();
    let mut verified = first.ok && first.body == page::PAGE.as_bytes();
    stages.say(format_args!("first page, {} bytes, through six relays", first.body.len()));

    let mut times = Vec::new();
    let before = cells_relayed(&routers).await;
    for _ in 0..WARM_FETCHES {
        let fetched = fetch::fetch(client.proxy, &exposed.name, "/").await?;
        verified &= fetched.body == page::PAGE.as_bytes();
        times.push(fetched.first_byte.as_secs_f64() * 1_000.0);
    }
    let after = cells_relayed(&routers).await;
    let risen: Vec<u64> = before.iter().zip(&after).map(|(before, after)| after - before).collect();
    let relays_on_path = positions(&risen);
    times.sort_by(f64::total_cmp);
    let warm_ttfb_ms = times.get(times.len() / 2).copied().unwrap_or(f64::NAN);
    stages.say(format_args!(
        "{WARM_FETCHES} more pages: first byte after {warm_ttfb_ms:.1} ms (median), \
         {relays_on_path} relays carried them"
    ));
    let site = publish_site(publisher, &stages).await?;
    let site_published_ms = stages.millis();
    let page = fetch::fetch(client.proxy, &site.name, "/").await?;
    let site_first_page_ms = stages.millis();
    verified &= page.ok && page.body == demo_site::INDEX.as_bytes();
    stages.say(format_args!("first page of the stored site, out of the ring"));
    stop(&routers).await;
    page_task.abort();
    if args.json {
        print_json(&Outcome {
            routers: args.routers,
            ready_ms,
            published_ms,
            first_page_ms,
            warm_ttfb_ms,
            relays_on_path,
            verified,
            proxy: client.proxy,
            url,
            site_published_ms,
            site_first_page_ms,
            site_url: site.url,
        })?;
    }
    if verified {
        Ok(())
    } else {
        Err(Failure::Other("a page arrived changed: report it, it is a defect".into()))
    }
}

/// Publishes a stored site from a router.
async fn publish_site(router: &Handle, stages: &Stages) -> Result<SiteDone, Failure> {
    let pages = Pages::write()?;
    let request = PublishRequest { path: pages.dir.clone(), ..PublishRequest::default() };
    let (news, _) = watch::channel(PutNews::default());
    let site = router.sites.publish(&request, &news).await;
    let site = site.map_err(|error| Failure::Other(error.to_string()))?;
    stages.say(format_args!(
        "stored site published: three records in the ring, its pages beside them"
    ));
    Ok(site)
}

/// Relay positions that carried the fetches, from what each router's counter rose by.
///
/// Each fetch is at least one cell each way through every position; routers that merely keep their
/// tunnels alive move far fewer. All positions move the same cells, and a router that stands on both
/// sides of the path (neither side can know) moves them twice.
fn positions(risen: &[u64]) -> u64 {
    let least = u64::try_from(2 * WARM_FETCHES).unwrap_or(u64::MAX);
    let carried = || risen.iter().copied().filter(|cells| *cells >= least);
    let once = carried().min().unwrap_or(u64::MAX);
    carried().map(|cells| (cells + once / 2) / once).sum()
}

async fn start_routers(count: u8) -> Result<Vec<Handle>, Failure> {
    let network = Network {
        name: NetworkName::Random(entropy::generator().bytes()),
        mode: Mode::Proof,
        difficulty: Difficulty::NONE,
        suite: SUITE_HYBRID,
        local: true,
    };
    let mut routers = Vec::new();
    let mut seeds: Vec<Arc<RouterDescriptor>> = Vec::new();
    for k in 0..count {
        let mut file = ConfigFile::default();
        let any = |ip: Ipv4Addr| SocketAddr::from((ip, 0));
        file.link.listen = any(address(k));
        file.proxy.listen = any(Ipv4Addr::LOCALHOST);
        file.api.listen = any(Ipv4Addr::LOCALHOST);
        let setup = Setup::in_memory(file.resolve()?, network.clone(), seeds.clone())?;
        let router = driver::start(setup).await?;
        if seeds.len() < 3
            && let Some(line) = router.invite().await
        {
            // The first descriptor of a router's own invite is its own.
            seeds.extend(line.parse::<Invite>()?.routers.first().cloned());
        }
        routers.push(router);
    }
    Ok(routers)
}

#[expect(clippy::disallowed_methods, reason = "a limit on real time")]
async fn wait(
    routers: &[Handle],
    what: &str,
    done: impl AsyncFn(&Handle) -> bool,
) -> Result<(), Failure> {
    let until = Instant::now() + STAGE_LIMIT;
    for router in routers {
        while !done(router).await {
            if Instant::now() > until {
                let verdict = router.status().await.map(|status| status.verdict);
                return Err(Failure::TooLong(format!(
                    "waited a minute for {what}, and one router says: {}. Try again, on a machine with less to do",
                    verdict.unwrap_or_else(|| "nothing".into())
                )));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    Ok(())
}

async fn cells_relayed(routers: &[Handle]) -> Vec<u64> {
    let mut cells = Vec::new();
    for router in routers {
        cells.push(router.status().await.map_or(0, |status| status.cells_relayed));
    }
    cells
}

/// All at once: each hands over what it holds, which takes seconds.
async fn stop(routers: &[Handle]) {
    for router in routers {
        router.leave().await;
    }
    for router in routers {
        router.stop().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_router_on_both_sides_is_two_positions() {
        assert_eq!(positions(&[100, 104, 0, 99, 3, 101, 100, 100]), 6);
        assert_eq!(positions(&[100, 201, 0, 99, 3, 101, 100]), 6);
        assert_eq!(positions(&[0, 3, 2]), 0);
    }
}
