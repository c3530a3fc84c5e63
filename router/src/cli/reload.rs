//! SIGHUP: the settings are read again while the router runs.
//!
//! Lives here: which settings can change while it runs, and saying what was done. Does not live
//! here: the settings themselves (`config`), what a limit does (`host`).

use super::{log, say};
use crate::{
    config::{
        ApiFile, ConfigFile, LimitsFile, LinkFile, LogFile, ProxyFile, RingFile, TunnelsFile,
    },
    driver::Handle,
};

/// Takes over from `new` what can change, says so, and leaves in `held` what holds now.
pub(super) async fn apply(router: &Handle, held: &mut ConfigFile, new: ConfigFile) {
    let (limits, level) = (new.limits.clone(), new.log);
    let mut done = Vec::new();
    if limits != held.limits {
        let answer = router.set_limits(limits.clone()).await;
        if answer == Some(false) {
            say(format_args!(
                "settings: limits.memory_mib = {} is less than tunnels hold now: it is as low as \
                 could be; reload again later, or restart",
                limits.memory_mib
            ));
        }
        if limits.bandwidth_kbps != held.limits.bandwidth_kbps {
            done.push(format!("limits.bandwidth_kbps = {}", limits.bandwidth_kbps));
        }
        if limits.burst_ms != held.limits.burst_ms {
            done.push(format!("limits.burst_ms = {}", limits.burst_ms));
        }
        if limits.memory_mib != held.limits.memory_mib && answer == Some(true) {
            done.push(format!("limits.memory_mib = {}", limits.memory_mib));
        }
        if limits.transit != held.limits.transit {
            done.push(format!("limits.transit = {}", limits.transit));
        }
        if limits.transit_percent != held.limits.transit_percent {
            done.push(format!("limits.transit_percent = {}", limits.transit_percent));
        }
        if limits.monthly_gib != held.limits.monthly_gib {
            done.push(format!("limits.monthly_gib = {}", limits.monthly_gib));
        }
    }
    if level != held.log {
        log::set_level(level.level);
        done.push(format!("log.level = {}", level.level.as_str()));
    }
    for change in &done {
        say(format_args!("settings: {change} from now on"));
    }
    let refused = refused(held, &new);
    for key in &refused {
        say(format_args!("settings: {key} changes only when the router is started again"));
    }
    if done.is_empty() && refused.is_empty() {
        say(format_args!("settings: nothing to change"));
    }
    let LimitsFile { builds_per_second, links, disk_mib, .. } = held.limits;
    held.limits = LimitsFile { builds_per_second, links, disk_mib, ..limits };
    held.log = level;
}

/// The keys that differ and cannot change while the router runs.
fn refused(held: &ConfigFile, new: &ConfigFile) -> Vec<&'static str> {
    let pairs = lasting(held).into_iter().zip(lasting(new));
    pairs.filter(|(held, new)| held != new).map(|(held, _)| held.0).collect()
}

/// The settings that hold from start to end, as text. Taken apart whole, so that a new setting is a
/// compile error until somebody decides where it belongs.
fn lasting(file: &ConfigFile) -> [(&'static str, String); 14] {
    let ConfigFile {
        link: LinkFile { listen: link, announce, port_mapping, lan_discovery, proxy: outbound, ban },
        proxy: ProxyFile { listen: proxy, expose },
        api: ApiFile { listen: api },
        tunnels: TunnelsFile { hops },
        ring: RingFile { degree },
        limits:
            LimitsFile {
                bandwidth_kbps: _,
                burst_ms: _,
                memory_mib: _,
                transit: _,
                transit_percent: _,
                monthly_gib: _,
                builds_per_second,
                links,
                disk_mib,
            },
        log: LogFile { level: _ },
    } = file;
    [
        ("link.listen", link.to_string()),
        ("link.announce", announce.clone()),
        ("link.port_mapping", port_mapping.to_string()),
        ("link.lan_discovery", lan_discovery.to_string()),
        ("link.proxy", outbound.clone()),
        ("link.ban", ban.join(" ")),
        ("proxy.listen", proxy.to_string()),
        ("proxy.expose", expose.to_string()),
        ("api.listen", api.to_string()),
        ("tunnels.hops", hops.to_string()),
        ("ring.degree", degree.to_string()),
        ("limits.builds_per_second", builds_per_second.to_string()),
        ("limits.links", links.to_string()),
        ("limits.disk_mib", disk_mib.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_change_is_named_and_what_can_is_not() {
        let held = ConfigFile::default();
        let text = "[tunnels]\nhops = 2\n[ring]\ndegree = 12\n[limits]\nbandwidth_kbps = 9000\n\
                    memory_mib = 64\ntransit = false\nlinks = 99\n[log]\nlevel = \"debug\"\n";
        let new = ConfigFile::parse(text).unwrap();
        assert_eq!(refused(&held, &new), ["tunnels.hops", "ring.degree", "limits.links"]);
        assert!(refused(&held, &held).is_empty());
    }
}
