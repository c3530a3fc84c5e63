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
    let gauges: [(&str, &str, u64); 14] = [
        ("warren_ready", "Whether the router is ready", u64::from(status.ready)),
        ("warren_uptime_seconds", "Seconds since the start", status.uptime_s),
        ("warren_neighbours", "Ring neighbours", status.neighbours.into()),
        ("warren_links", "Links that stand", status.links.into()),
        ("warren_known_routers", "Routers known for paths", status.known_routers.into()),
        ("warren_tunnels_ready", "Own tunnels that wait for use", status.tunnels_ready.into()),
        ("warren_tunnels_used", "Own tunnels in use", status.tunnels_used.into()),
        ("warren_tunnels_transit", "Tunnels of others here", status.tunnels_transit.into()),
        ("warren_sent_kbps", "Sent over all links, last 10 s", status.sent_kbps),
        ("warren_received_kbps", "Received over all links, last 10 s", status.received_kbps),
        ("warren_bandwidth_kbps", "Limit for either", status.bandwidth_kbps.into()),
        ("warren_memory_held_kib", "Memory of what waits, KiB", status.memory_held_kib),
        ("warren_records", "Records held for others", status.records_held),
        ("warren_blocks", "Blocks held for others", status.blocks_held),
    ];
    for (name, help, value) in gauges {
        if let Ok(gauge) = IntGauge::new(name, help) {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            add(&registry, gauge);
        }
    }
    let counters: [(&str, &str, u64); 4] = [
        ("warren_cells_relayed_total", "Cells moved for others", status.cells_relayed),
        ("warren_ended_for_memory_total", "Ended for memory", status.ended_for_memory),
        ("warren_builds_accepted_total", "Tunnel builds accepted", status.builds_accepted),
        ("warren_builds_refused_total", "Tunnel builds refused", status.builds_refused),
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
    use super::*;

    #[test]
    fn every_metric_has_its_prefix_and_value() {
        let status = Status { neighbours: 7, cells_relayed: 1_000, ..Status::default() };
        let text = String::from_utf8(render(&status)).unwrap();
        assert!(text.contains("\nwarren_neighbours 7\n"), "{text}");
        assert!(text.contains("\nwarren_cells_relayed_total 1000\n"), "{text}");
        assert_eq!(text.matches("# TYPE warren_").count(), 18);
    }
}
