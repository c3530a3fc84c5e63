//! The checks of a running router: what it says of itself, and whether its ports and services answer.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use hyper::Method;
use tokio::{net::TcpStream, time::timeout};

use super::{Finding, client, local};
use crate::{
    cli::fetch,
    status::{ServiceStatus, Status},
};

/// How long a port of this machine may take to answer.
const NEAR_LIMIT: Duration = Duration::from_secs(3);
/// How long a service may take, through six relays.
const FAR_LIMIT: Duration = Duration::from_secs(30);

/// Everything there is to see of the router in `dir`.
pub(super) async fn examine(dir: &Path, status: &Status) -> Vec<Finding> {
    let mut findings = vec![
        router(status),
        network(status),
        guards(status),
        files(status),
        memory(status),
        ports(status).await,
        address(status).await,
    ];
    findings.extend(mapping(status));
    let listed = client::call::<Vec<ServiceStatus>>(dir, Method::GET, "/v1/services", None).await;
    for service in listed.unwrap_or_default() {
        findings.push(service_answers(status, &service).await);
    }
    findings
}

fn router(status: &Status) -> Finding {
    let words = status.verdict.clone();
    if status.ready {
        return Finding::ok("router", words);
    }
    let remedy = if status.known_routers == 0 {
        "ask somebody of the network for a line of `warren invite`, and join with it"
    } else {
        "give it half a minute; if it stays so, see below"
    };
    Finding::failed("router", words, remedy)
}

fn network(status: &Status) -> Finding {
    let known = status.known_routers;
    if !status.anonymity_set_small && known > 0 {
        return Finding::ok("network", format!("{known} routers known"));
    }
    Finding::warning(
        "network",
        format!("{known} other routers known: too few to hide among"),
        "invite more people; until then do not rely on this network for anybody's safety",
    )
}

fn guards(status: &Status) -> Finding {
    if !status.guard_fails {
        return Finding::ok("guards", "no first hop fails more often than another");
    }
    Finding::warning(
        "guards",
        "a first hop fails far more often than the other: broken, or choosing what it lets through",
        "nothing: it is used less, and replaced after a while",
    )
}

fn files(status: &Status) -> Finding {
    let Status { files_open: open, files_limit: limit, .. } = *status;
    if open.saturating_mul(5) > limit.saturating_mul(4) {
        return local::too_few(limit);
    }
    Finding::ok("files", format!("{open} of {limit} are open"))
}

fn memory(status: &Status) -> Finding {
    let held = status.memory_held_kib >> 10;
    let words = format!("what waits takes {held} of {} MiB", status.memory_mib);
    if status.ended_for_memory == 0 {
        return Finding::ok("memory", words);
    }
    Finding::warning(
        "memory",
        format!("{words}; {} tunnels or conversations were ended", status.ended_for_memory),
        "raise limits.memory_mib in warren.toml and reload",
    )
}

async fn reaches(address: &str) -> bool {
    let Ok(mut address) = address.parse::<SocketAddr>() else { return false };
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    matches!(timeout(NEAR_LIMIT, TcpStream::connect(address)).await, Ok(Ok(_)))
}

async fn ports(status: &Status) -> Finding {
    for (address, what) in
        [(&status.link, "links"), (&status.proxy, "the proxy"), (&status.api, "the page")]
    {
        // A guest may listen nowhere.
        if !address.is_empty() && !reaches(address).await {
            return Finding::failed(
                "ports",
                format!("nothing answers on {address} ({what})"),
                "look for a firewall on this machine that shuts its own ports",
            );
        }
    }
    Finding::ok("ports", "links, proxy and page answer")
}

/// Whether others can dial it: what its peers found, or as far as that can be seen from here.
async fn address(status: &Status) -> Finding {
    let (told, found) = (&status.address, &status.reach_words);
    let guest = "it carries nothing for others, and its owner's traffic hides in nobody's";
    match status.reach.as_str() {
        "shut" => Finding::warning(
            "address",
            format!("{found} So {guest}"),
            "set link.announce to an address that leads here, or leave it empty, and restart",
        ),
        "unreachable" => Finding::warning(
            "address",
            format!("{found} So {guest}"),
            "forward a port of your line to the one in link.listen, or have link.port_mapping = true ask \
             its router to, and let the firewall pass it; peers are asked again every 15 minutes, and at \
             a start",
        ),
        "reachable" => Finding::ok("address", format!("{told}: {found}")),
        _ if told.is_empty() => Finding::warning(
            "address",
            format!("no address is known that leads here. {found} So far {guest}"),
            "wait a minute: peers are asked; if it stays so, forward a port of your line to the one in \
             link.listen, and name it with link.announce",
        ),
        _ if reaches(told).await => {
            Finding::ok("address", format!("{told} answers, seen from this machine. {found}"))
        }
        _ => Finding::warning(
            "address",
            format!("it tells others {told}, and this machine gets no answer there. {found}"),
            "wait a minute: peers are asked; some lines cannot reach themselves",
        ),
    }
}

/// What the line's router says of forwarding a port, where it is asked to.
fn mapping(status: &Status) -> Option<Finding> {
    let words = status.mapping.clone();
    match status.mapped.as_str() {
        "" => None,
        "refused" => Some(Finding::warning(
            "port mapping",
            words,
            "allow it in the line's router (often called UPnP or NAT-PMP), or forward the port there by \
             hand and name it with link.announce",
        )),
        _ => Some(Finding::ok("port mapping", words)),
    }
}

/// Whether a service's target answers, and whether a stranger would get there: the proxy asks
/// through tunnels of its own, as anybody's would.
async fn service_answers(status: &Status, service: &ServiceStatus) -> Finding {
    let ServiceStatus { label, name, target, gateways, published, .. } = service;
    if !matches!(timeout(NEAR_LIMIT, TcpStream::connect(target.as_str())).await, Ok(Ok(_))) {
        return Finding::failed(
            "service",
            format!("{label}: nothing answers on {target}"),
            "start what listens there, or publish another HOST:PORT",
        );
    }
    if service.stands_by {
        let words = format!("{label}: stands by; {} other routers publish it", service.others);
        return Finding::ok("service", words);
    }
    if !published {
        return Finding::failed(
            "service",
            format!("{label}: not published yet, {gateways} gateways stand"),
            "give it half a minute; if it stays so, the router is not ready: see above",
        );
    }
    if service.shares.is_some() {
        let words = format!("{label}: private, {gateways} gateways stand; no stranger reaches it");
        return Finding::ok("service", words);
    }
    let connected = match status.proxy.parse() {
        Ok(proxy) => timeout(FAR_LIMIT, fetch::connect(proxy, name)).await,
        Err(_) => Ok(Err(std::io::ErrorKind::AddrNotAvailable.into())),
    };
    match connected {
        Ok(Ok(_)) => Finding::ok("service", format!("{label}: reached through its gateways")),
        Ok(Err(error)) => Finding::failed(
            "service",
            format!("{label}: published, but its gateways are not reached: {error}"),
            "it builds new ones by itself; if it stays so, restart the router",
        ),
        Err(_) => Finding::failed(
            "service",
            format!("{label}: published, but nobody answered within 30 s"),
            "it builds new gateways by itself; look again in a minute",
        ),
    }
}
