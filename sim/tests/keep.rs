//! Days of the datastore's production machines over a graph.

#![expect(clippy::unwrap_used, reason = "test code: it fails by panicking")]

use std::path::Path;

use warren_sim::{batch::Batch, metric::Metric, run::Report, scenario::Scenario, swarm::Blind};

const MONTH: &str = include_str!("../scenarios/month.toml");

fn run(seed: u64, sets: &[&str]) -> Report {
    let sets: Vec<_> = sets.iter().map(ToString::to_string).collect();
    let (scenario, text) = Scenario::read(MONTH, &sets).unwrap();
    let batch = Batch { scenario: &scenario, text: &text, folder: Path::new(".") };
    batch.run(&[seed], 1, |_| Blind).unwrap().pop().unwrap()
}

/// Two days of thirty. What thirty give is in docs/sim.md.
#[test]
fn with_repair_two_days_lose_nothing_and_without_it_they_do() {
    let two = ["keep.duration=2d", "keep.items=1000", "keep.sweeps=[\"2d\"]"];
    let kept = run(1, &two);
    let left = run(1, &[&two[..], &["keep.repair=false"]].concat());
    println!("{:?}\n{:?}", kept.metrics, left.metrics);
    assert!(kept.metrics[&Metric::SweepLast] >= 0.98);
    assert!(kept.metrics[&Metric::ItemsThere] >= 0.98);
    assert!(kept.metrics[&Metric::Copies] >= 3.0);
    // Of three copies with members that stay 16 days on average, a tenth is not found after two.
    assert!((0.80..0.95).contains(&left.metrics[&Metric::SweepLast]));
    assert!(left.metrics[&Metric::BlocksRepaired] == 0.0);
}

#[test]
fn who_never_goes_loses_nothing_even_without_repair() {
    let still = MONTH.split("[[keep.class]]").next().unwrap();
    let (scenario, text) = Scenario::read(
        still,
        &["keep.duration=12h".into(), "keep.sweeps=[\"12h\"]".into(), "keep.repair=false".into()],
    )
    .unwrap();
    let batch = Batch { scenario: &scenario, text: &text, folder: Path::new(".") };
    let report = batch.run(&[1], 1, |_| Blind).unwrap().pop().unwrap();
    assert!(report.metrics[&Metric::SweepLast] >= 1.0);
    assert!(report.metrics[&Metric::Copies] >= 3.0);
}

#[test]
fn the_same_seed_gives_the_same_days() {
    let short = ["keep.duration=6h", "keep.items=200", "keep.sweeps=[\"5h\"]"];
    let rows = |seed| {
        let report = run(seed, &short);
        (report.hash, report.store_rows)
    };
    assert_eq!(rows(3), rows(3));
    assert_ne!(rows(3), rows(4));
}

#[test]
fn disks_that_are_full_push_out_what_is_farthest_and_hold_no_more_than_they_may() {
    // 2,000 blocks in three copies for some 300 disks with room for 31 blocks each: too little for all.
    let report = run(
        2,
        &["keep.duration=12h", "keep.sweeps=[\"12h\"]", "keep.room=1MiB", "keep.items=4000"],
    );
    println!("{:?}", report.metrics);
    let there = report.metrics[&Metric::ItemsThere];
    let copies = report.metrics[&Metric::Copies];
    let online = report.metrics[&Metric::Online];
    assert!(there * 4_000.0 * copies <= online * 31.0);
    assert!(there > 0.5, "{there}");
}
