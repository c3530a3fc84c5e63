//! Blocks and files in whole networks of routers that come and go.

#![expect(clippy::unwrap_used, reason = "test code: it fails by panicking")]

use std::path::Path;

use warren_sim::{
    batch::Batch,
    metric::{Metric, Metrics},
    run::Report,
    scenario::Scenario,
    swarm::Blind,
};

const STORE: &str = include_str!("../scenarios/store.toml");

fn run(text: &str, seed: u64, sets: &[&str]) -> Report {
    let sets: Vec<_> = sets.iter().map(ToString::to_string).collect();
    let (scenario, text) = Scenario::read(text, &sets).unwrap();
    let batch = Batch { scenario: &scenario, text: &text, folder: Path::new(".") };
    let mut reports = batch.run(&[seed], 1, |_| Blind).unwrap();
    let report = reports.pop().unwrap();
    assert!(report.violations.is_empty(), "{:?}", report.violations);
    report
}

fn value(metrics: &Metrics, metric: Metric) -> f64 {
    metrics.get(&metric).copied().unwrap_or_else(|| panic!("no {metric}"))
}

#[test]
fn blocks_are_found_while_routers_come_and_go() {
    let report = run(STORE, 1, &[]);
    let of = |metric| value(&report.metrics, metric);
    println!("{:?}", report.metrics);
    assert!(of(Metric::Gets) >= 400.0);
    assert!(of(Metric::PutSuccess) >= 0.99);
    assert!(of(Metric::GetMissed) <= 0.001);
    assert!(of(Metric::SweepLast) >= 0.99);
    assert!(of(Metric::Copies) >= 2.9);
}

#[test]
fn what_nobody_has_any_more_is_lost_and_not_missed() {
    // All but the first three routers are killed, and nobody else has room for what they had.
    let sets = ["duration=4m", "network.routers=24", "workload.store.items=100"];
    let report = run(
        &STORE
            .replace("[churn]", "[[fault]]\nkind = \"kill\"\nat = \"1m\"\nshare = 0.9\n\n[churn]"),
        3,
        &sets,
    );
    let lost = report.store_rows.lines().filter(|row| row.ends_with(",lost")).count();
    println!("{:?}", report.metrics);
    assert!(lost >= 5, "{lost}");
    assert!(value(&report.metrics, Metric::GetLost) > 0.05);
    assert!(value(&report.metrics, Metric::GetMissed).abs() < f64::EPSILON);
    assert!(value(&report.metrics, Metric::ItemsThere) < 0.95);
}

#[test]
fn the_same_seed_stores_the_same_and_ends_the_same() {
    let sets = ["duration=60s", "network.routers=16", "churn.stable=8", "workload.store.items=40"];
    let rows = |seed| {
        let report = run(STORE, seed, &sets);
        (report.hash, report.store_rows)
    };
    assert_eq!(rows(5), rows(5));
    assert_ne!(rows(5), rows(6));
}

#[test]
fn files_are_stored_and_fetched_whole() {
    let sets = [
        "duration=2m",
        "network.routers=24",
        "workload.store.unit=file",
        "workload.store.items=10",
        "workload.store.clients=5",
        "workload.store.bytes=300KiB",
    ];
    let report = run(STORE, 2, &sets);
    println!("{:?}", report.metrics);
    assert!(value(&report.metrics, Metric::Gets) >= 10.0);
    assert!(value(&report.metrics, Metric::GetSuccess) >= 0.99);
    assert!(value(&report.metrics, Metric::PutSuccess) >= 0.99);
}

const KILLED: &str = include_str!("../scenarios/store-killed.toml");

/// Sixty of the scenario's five hundred routers. What nobody has any more nobody finds (2.7 % by the draw
/// of chance, with three copies and three of ten dead); of what is left nearly all is found at once.
#[test]
fn when_three_of_ten_are_killed_at_once_what_is_left_is_found() {
    let sets = ["network.routers=60", "workload.store.items=300", "workload.store.load=1m"];
    let report = run(KILLED, 1, &sets);
    println!("{:?}", report.metrics);
    assert!(value(&report.metrics, Metric::SweepFirst) >= 0.94);
    assert!(value(&report.metrics, Metric::SweepFirstThere) >= 0.99);
    assert!(value(&report.metrics, Metric::SweepLastThere) >= 0.995);
    assert!(value(&report.metrics, Metric::Copies) >= 2.95);
}

#[test]
fn a_file_of_one_segment_is_read_when_three_of_ten_are_killed_at_once() {
    let sets = [
        "duration=5m",
        "network.routers=60",
        "workload.store.unit=file",
        "workload.store.items=3",
        "workload.store.load=1m",
        "workload.store.bytes=4190000B",
        "workload.store.sigma=0",
        "workload.store.sweeps=[\"3m\", \"4m\"]",
    ];
    let report = run(KILLED, 2, &sets);
    println!("{:?}\n{}", report.metrics, report.store_rows);
    assert!(value(&report.metrics, Metric::PutSuccess) >= 1.0);
    assert!(value(&report.metrics, Metric::SweepFirst) >= 1.0);
    assert!(value(&report.metrics, Metric::SweepLast) >= 1.0);
}
