//! Prometheus text for `/metrics`: counts only, no peer, service or key anywhere.

use prometheus::{
    Encoder, TextEncoder,
    core::Collector,
    {IntCounter, IntGauge, Registry},
};

use crate::status::Status;

/// `status` in Prometheus' text format 0.0.4.
pub(super) fn render(status: &Status) -> Vec<u8> {
    let registry = Registry::new();
    let per_second = |kbps: u64| kbps * 125;
    let gauges: [(&str, &str, u64); 35] = [
        ("warren_ready", "1 when the router is ready", status.ready.into()),
        ("warren_uptime_seconds", "Since the start", status.uptime_s),
        ("warren_neighbours", "Ring neighbours", status.neighbours.into()),
        ("warren_links", "Links that stand", status.links.into()),
        ("warren_known_routers", "Routers known for paths", status.known_routers.into()),
        ("warren_tunnels_ready", "Own tunnels that wait for use", status.tunnels_ready.into()),
        ("warren_tunnels_used", "Own tunnels in use", status.tunnels_used.into()),
        ("warren_tunnels_transit", "Tunnels of others here", status.tunnels_transit.into()),
        ("warren_sent_bytes_per_second", "Over all links, last 10 s", per_second(status.sent_kbps)),
        (
            "warren_received_bytes_per_second",
            "Over all links, last 10 s",
            per_second(status.received_kbps),
        ),
        (
            "warren_bandwidth_limit_bytes_per_second",
            "Limit for either",
            per_second(status.bandwidth_kbps.into()),
        ),
        (
            "warren_burst_bytes",
            "What may go at once after a pause, either way",
            per_second(status.bandwidth_kbps.into()) * u64::from(status.burst_ms) / 1_000,
        ),
        ("warren_memory_held_bytes", "Memory of what waits", status.memory_held_kib << 10),
        ("warren_memory_limit_bytes", "Limit for it", status.memory_mib << 20),
        ("warren_transit", "1 when tunnels of others are carried", status.transit.into()),
        (
            "warren_transit_bytes_per_second",
            "Sent for tunnels of others, last 10 s",
            per_second(status.transit_kbps),
        ),
        (
            "warren_transit_limit_bytes_per_second",
            "Limit for it",
            per_second(u64::from(status.bandwidth_kbps) * u64::from(status.transit_percent) / 100),
        ),
        ("warren_links_limit", "As many links as may be", status.links_limit.into()),
        ("warren_builds_waiting", "Builds that wait for a turn", status.builds_waiting.into()),
        ("warren_month_bytes", "Traffic of this month", status.month_mib << 20),
        ("warren_month_limit_bytes", "Limit for it, 0 for none", status.month_limit_mib << 20),
        ("warren_disk_limit_bytes", "Limit for stored blocks", status.disk_mib << 20),
        ("warren_files_open", "Files and sockets open", status.files_open),
        ("warren_tasks", "Tasks of the process that have not ended", status.tasks),
        ("warren_files_limit", "As many as may be open", status.files_limit),
        ("warren_records", "Records held for others", status.records_held),
        ("warren_blocks", "Blocks held for others", status.blocks_held),
        ("warren_contexts", "Conversations under way", status.contexts.into()),
        ("warren_services", "Hidden services here", status.services.into()),
        (
            "warren_anonymity_set_small",
            "1 when path rules are relaxed, for too few routers are known",
            status.anonymity_set_small.into(),
        ),
        (
            "warren_dialable",
            "1 when it tells others an address",
            (!status.address.is_empty()).into(),
        ),
        (
            "warren_unreachable",
            "1 when peers tried to dial it and none got through",
            (status.reach == "unreachable").into(),
        ),
        ("warren_dialled_from", "Places that dialled it of late", status.reach_came.into()),
        ("warren_dials_failed_from", "Places that could not", status.reach_failed.into()),
        (
            "warren_guard_fails",
            "1 when a first hop fails far more often than the other",
            status.guard_fails.into(),
        ),
    ];
    for (name, help, value) in gauges {
        if let Ok(gauge) = IntGauge::new(name, help) {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            add(&registry, gauge);
        }
    }
    let counters: [(&str, &str, u64); 7] = [
        ("warren_cells_relayed_total", "Cells moved for others", status.cells_relayed),
        ("warren_ended_for_memory_total", "Ended for memory", status.ended_for_memory),
        ("warren_builds_accepted_total", "Tunnel builds accepted", status.builds_accepted),
        ("warren_builds_refused_total", "Tunnel builds refused", status.builds_refused),
        (
            "warren_asked_after_total",
            "Questions after sampled and kept routers, each through a tunnel",
            status.asked_after,
        ),
        ("warren_asked_after_found_total", "Those that found the router", status.asked_after_found),
        (
            "warren_called_gone_total",
            "Routers called gone because nobody found them",
            status.called_gone,
        ),
    ];
    for (name, help, value) in counters {
        if let Ok(counter) = IntCounter::new(name, help) {
            counter.inc_by(value);
            add(&registry, counter);
        }
    }
    let mut text = Vec::new();
    // Writing to memory cannot fail, and every name above is valid.
    let _ = TextEncoder::new().encode(&registry.gather(), &mut text);
    text
}

fn add(registry: &Registry, metric: impl Collector + 'static) {
    // Fails only on a name used twice.
    let _ = registry.register(Box::new(metric));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_metric_has_its_prefix_and_value() {
        let status = Status { neighbours: 7, cells_relayed: 1_000, ..Status::default() };
        let text = String::from_utf8(render(&status)).unwrap();
        assert!(text.contains("\nwarren_neighbours 7\n"), "{text}");
        assert!(text.contains("\nwarren_cells_relayed_total 1000\n"), "{text}");
        assert_eq!(text.matches("# TYPE warren_").count(), 42);
        assert_eq!(text.matches("# TYPE ").count(), 42);
    }

    /// The metrics that `text` names.
    fn named(text: &str) -> BTreeSet<&str> {
        text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'))
            .filter(|word| word.starts_with("warren_"))
            .collect()
    }

    #[test]
    fn dashboard_and_alerts_name_only_metrics_that_exist_and_the_dashboard_most() {
        let text = String::from_utf8(render(&Status::default())).unwrap();
        let exist: BTreeSet<&str> =
            text.lines().filter(|line| !line.starts_with('#')).flat_map(named).collect();
        let dashboard = include_str!("../../../config/grafana.json");
        for file in [dashboard, include_str!("../../../config/alerts.yml")] {
            let missing: Vec<_> = named(file).difference(&exist).copied().collect();
            assert!(missing.is_empty(), "{missing:?}");
        }
        let shown = named(dashboard);
        let unseen: Vec<_> = exist.difference(&shown).collect();
        assert_eq!(
            unseen,
            [
                &"warren_asked_after_found_total",
                &"warren_asked_after_total",
                &"warren_builds_waiting",
                &"warren_burst_bytes",
                &"warren_called_gone_total",
                &"warren_contexts",
                &"warren_dialable",
                &"warren_dialled_from",
                &"warren_dials_failed_from",
                &"warren_disk_limit_bytes",
                &"warren_ended_for_memory_total",
                &"warren_links_limit",
                &"warren_month_bytes",
                &"warren_month_limit_bytes",
                &"warren_tasks",
                &"warren_transit",
                &"warren_unreachable",
            ]
        );
        assert!(serde_json::from_str::<serde_json::Value>(dashboard).is_ok());
    }
}
