//! Curves that others published or that this project promises, run as scenarios run them.
//!
//! Lives here: which scenario, how many seeds, and the band. Does not live here: closed forms (`attacks.rs`).
//!
//! Sources of the bands: half of what nobody fetched gone after two weeks and seven tenths after thirty days
//! is what users of Freenet saw (its long-term tests), from which `month.toml` takes its members' lives; 17 to 30 %
//! of readers detected who ask by themselves, and 99 % over walks of chance, from a program of its own.

use std::path::Path;

use warren_overlay::rng::Rng;

use super::{
    Check, Known,
    checks::{Make, check, reciprocal},
};
use crate::{
    Streams,
    curve::Trend,
    graph::harmonic,
    metric::Metric,
    run::{Part, Report},
    scenario::Scenario,
    swarm::Blind,
};

/// Every curve; that of weeks takes as long as all others together, and only comes with `full`.
pub(super) fn all(full: bool) -> Vec<Make> {
    let mut checks: Vec<Make> = vec![Box::new(samplers)];
    if full {
        checks.push(Box::new(decay));
    }
    for (requests, known) in [
        ("direct", Known::Within(0.17, 0.30)),
        ("walks", Known::AtLeast(0.99)),
        ("tunnels", Known::AtMost(0.01)),
    ] {
        checks.push(Box::new(move || vec![originator(requests, known)]));
    }
    checks
}

/// The largest difference between the shares of `draws` below each value and what they should be; of values
/// from 0 to 1 that should be spread evenly.
#[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
fn distance(mut draws: Vec<f64>) -> f64 {
    draws.sort_unstable_by(f64::total_cmp);
    let all = draws.len() as f64;
    let off =
        |(at, it): (usize, &f64)| (at as f64 / all - it).abs().max((at + 1) as f64 / all - it);
    draws.iter().enumerate().map(off).fold(0.0, f64::max)
}

/// Kolmogorov-Smirnov distances of the two samplers of lengths from 1/d.
fn samplers() -> Vec<Check> {
    const DRAWS: usize = 100_000;
    const NODES: u32 = 100_000;
    // Below each length: the sum of reciprocals. A draw is spread evenly over its own step.
    let mut below = vec![0.0];
    for length in 1..NODES {
        below.push(below.last().copied().unwrap_or(0.0) + 1.0 / f64::from(length));
    }
    let all = below.last().copied().unwrap_or(1.0);
    let at = |length: u32| below.get(length as usize).copied().unwrap_or(all) / all;
    let lattice = |rng: &mut Rng| {
        let length = reciprocal(NODES - 1, rng);
        at(length - 1) + rng.unit() * (at(length) - at(length - 1))
    };
    let least = u64::MAX / u64::from(NODES);
    #[expect(clippy::cast_precision_loss, reason = "good to 53 bits")]
    let ring = |rng: &mut Rng| {
        let span = libm::log((1u64 << 63) as f64 / least as f64);
        libm::log(harmonic(least, rng.unit()) as f64 / least as f64) / span
    };
    let ks = |name: &str, draw: &dyn Fn(&mut Rng) -> f64| {
        let batch = |no| {
            let mut chance = Streams::new(no).of(name, 0);
            distance((0..DRAWS).map(|_| draw(&mut chance)).collect())
        };
        let batches: Vec<f64> = (0..8).map(batch).collect();
        let name = format!("KS distance from 1/d, lengths {name}, N = {NODES}");
        check(name, Known::AtMost(0.01), &batches)
    };
    vec![ks("on a lattice, by rejection", &lattice), ks("on the ring", &ring)]
}

fn reports(template: &str, sets: &[&str], seeds: u64) -> Vec<Report> {
    let text = crate::template::TEMPLATES.iter().find(|it| it.name == template);
    let mut table: toml::Table = text.map_or("", |it| it.text).parse().expect("a scenario");
    table.remove("sweep");
    table.remove("expect");
    let text = toml::to_string(&table).expect("it was read from TOML");
    let sets: Vec<_> = sets.iter().map(|it| (*it).to_owned()).collect();
    let (scenario, _) = Scenario::read(&text, &sets).expect("a scenario that is shipped");
    let run = |seed| {
        let report = scenario.run(Path::new("."), seed, Part::default(), &mut Blind);
        report.expect("it names no files").expect("nobody ends it")
    };
    (3_000..3_000 + seeds).map(run).collect()
}

/// What is found without repair after 14 and after 30 days.
fn decay() -> Vec<Check> {
    let sets = ["keep.repair=false", "keep.items=300", "network.routers=300"];
    let reports = reports("month", &sets, 4);
    let after = |no: usize| -> Vec<f64> {
        let found = |it: &Report| it.trends.get(&Trend::Retention)?.get(no).map(|it| it.1);
        reports.iter().filter_map(found).collect()
    };
    let named = |days: u32| format!("found after {days} days without repair, Freenet's churn");
    vec![
        check(named(14), Known::Within(0.4, 0.6), &after(0)),
        check(named(30), Known::Within(0.2, 0.4), &after(1)),
    ]
}

fn originator(requests: &str, known: Known) -> Check {
    let set = format!("adversary.requests={requests}");
    let reports = reports("originator", &[&set], 4);
    let detected = |it: &Report| it.metrics.get(&Metric::Detected).copied();
    let batches: Vec<f64> = reports.iter().filter_map(detected).collect();
    check(format!("readers detected, 256 blocks, 1 % false alarms, {requests}"), known, &batches)
}
