//! The fidelities say the same: over real ciphers or stand-ins, with padding sent or counted, as
//! routers or as a graph.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "test code: it fails by panicking"
)]

use std::path::Path;

use warren_sim::{
    metric::Metric,
    run::{Part, Report},
    scenario::Scenario,
    swarm::Blind,
};

const SMALL: &str = include_str!("../scenarios/small.toml");

fn run(seed: u64, sets: &[&str]) -> Report {
    let sets: Vec<_> = sets.iter().map(ToString::to_string).collect();
    let (scenario, _) = Scenario::read(SMALL, &sets).unwrap();
    let report = scenario.run(Path::new("."), seed, Part::default(), &mut Blind).unwrap().unwrap();
    assert!(report.violations.is_empty(), "seed {seed}, {sets:?}: {:?}", report.violations);
    report
}

/// Mean over some runs, and the standard error of it.
fn mean(reports: &[Report], metric: Metric) -> (f64, f64) {
    let values: Vec<f64> = reports.iter().map(|it| it.metrics[&metric]).collect();
    let n = f64::from(u32::try_from(values.len()).unwrap());
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|it| (it - mean) * (it - mean)).sum();
    (mean, (squares / (n - 1.0) / n).sqrt())
}

/// Within three standard errors of each other, or within `slack` of the first.
fn agree(metric: Metric, slack: f64, runs: &[(&str, &[Report])]) {
    let means: Vec<_> = runs.iter().map(|(name, reports)| (name, mean(reports, metric))).collect();
    let (_, (first, first_error)) = means[0];
    for (name, (mean, error)) in &means[1..] {
        let off = (mean - first).abs();
        let allowed = 3.0 * first_error.hypot(*error) + slack * first.abs();
        assert!(off <= allowed, "{metric}: {name} is off by {off:.4} of {first:.4}: {means:?}");
    }
}

#[test]
fn sixty_routers_say_the_same_with_padding_sent_or_counted_and_over_either_ciphers() {
    let runs = |fidelity: &str, padding: &str| -> Vec<Report> {
        let sets = [
            "network.routers=60",
            "duration=25s",
            "workload.browsing.clients=20",
            &format!("fidelity={fidelity}"),
            &format!("network.padding={padding}"),
        ];
        (1..=4).map(|seed| run(seed, &sets)).collect()
    };
    let sent = runs("wire", "sent");
    let counted = runs("wire", "counted");
    let full = runs("full", "counted");
    let full_sent = runs("full", "sent");
    let all = [
        ("sent", &sent[..]),
        ("counted", &counted[..]),
        ("full", &full[..]),
        ("full, sent", &full_sent[..]),
    ];
    for (metric, slack) in [
        (Metric::Success, 0.01),
        (Metric::PadFrames, 0.02),
        (Metric::PadBytes, 0.02),
        (Metric::FirstP50, 0.03),
        (Metric::Degree, 0.02),
        (Metric::Hops, 0.03),
        (Metric::CellsRelayed, 0.05),
    ] {
        agree(metric, slack, &all);
    }
    let events = |reports: &[Report]| reports.iter().map(|it| it.events).sum::<u64>();
    assert!(events(&counted) < events(&sent), "counting saves events");
}

#[test]
fn a_full_run_is_the_same_twice_and_not_a_wire_run() {
    let sets = ["fidelity=full", "duration=10s"];
    let hash = |sets: &[&str]| run(3, sets).hash;
    assert_eq!(hash(&sets), hash(&sets));
    assert_ne!(hash(&sets), hash(&sets[1..]));
}
