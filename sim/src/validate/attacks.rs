//! Adversaries beside their closed forms: each is run as scenarios run it.
//!
//! Lives here: which networks, and how many seeds make the error small enough. Does not live here: the
//! closed forms (with each adversary in `adversary/`).

use std::path::Path;

use super::{
    Check, Known,
    checks::{Make, over},
};
use crate::{metric::Metric, run::Part, scenario::Scenario, swarm::Blind};

/// Names, keys of `[adversary]` on so many routers, and what is compared.
const ATTACKS: [(&str, u32, u64, &str, &[Metric]); 12] = [
    (
        "first-last compromise, no guards, 4 days",
        100,
        40,
        "kind = \"ends\"\nhostile = 0.05\nguards = 0\ntunnels = 96\ndays = 4\nusers = 1000",
        &[Metric::BothEnds, Metric::Exposed],
    ),
    (
        "two guards of 20 to 40 days, 90 days",
        100,
        60,
        "kind = \"ends\"\nhostile = 0.2\nguard_days = [20, 40]\ntunnels = 4\ndays = 90\nusers = 1000",
        &[Metric::BothEnds, Metric::GuardHostile, Metric::Exposed],
    ),
    (
        "first hops that refuse half of what ends at honest ones, 4 days",
        100,
        40,
        "kind = \"ends\"\nhostile = 0.1\nguards = 0\ntunnels = 96\ndays = 4\nrefuse = 0.5",
        &[Metric::BothEnds],
    ),
    (
        "predecessor, Crowds of 100 with 10 hostile",
        100,
        40,
        "kind = \"predecessor\"\npaths = \"crowds\"\nhostile = 0.1\nrounds = 200",
        &[Metric::Sightings, Metric::Named, Metric::Entropy, Metric::Anonymity],
    ),
    // Who is before the first hostile member is the initiator with less than even odds up to 32 of 100.
    (
        "probable innocence, Crowds of 100 with 32 hostile",
        100,
        40,
        "kind = \"predecessor\"\npaths = \"crowds\"\nhostile = 0.32\nrounds = 200",
        &[Metric::Named],
    ),
    (
        "no more innocence, Crowds of 100 with 33 hostile",
        100,
        40,
        "kind = \"predecessor\"\npaths = \"crowds\"\nhostile = 0.33\nrounds = 200",
        &[Metric::Named],
    ),
    (
        "predecessor, tunnels of 100 with 20 hostile",
        100,
        40,
        "kind = \"predecessor\"\npaths = \"tunnels\"\nhostile = 0.2\nrounds = 500",
        &[Metric::Sightings, Metric::Named, Metric::Anonymity],
    ),
    (
        "300 Sybils beside 100 routers",
        100,
        40,
        "kind = \"sybil\"\nidentities = 300",
        &[Metric::Captured, Metric::Touched],
    ),
    (
        "5 Sybils, the best of 50 places each, 100 routers",
        100,
        60,
        "kind = \"sybil\"\nidentities = 5\ngrind = 50",
        &[Metric::Captured, Metric::Touched],
    ),
    (
        "one try past a tenth of droppers, N = 1000",
        1_000,
        60,
        "kind = \"droppers\"\nhostile = 0.1\ntries = 1",
        &[Metric::Success],
    ),
    (
        "tagging, chained layers",
        100,
        40,
        "kind = \"tagging\"\nlayers = \"chained\"\ntunnels = 200",
        &[Metric::MarkBits],
    ),
    (
        "two hops seen, 300 users who each know 200 of 4,000 routers",
        4_000,
        60,
        "kind = \"fingerprint\"\nknown = 200\nhops = 2\nusers = 300\npaths = 1000",
        &[Metric::Candidates, Metric::Exposed],
    ),
];

/// Every adversary that has a closed form.
pub(super) fn all() -> impl Iterator<Item = Make> {
    ATTACKS.into_iter().map(|(name, routers, seeds, keys, metrics)| -> Make {
        Box::new(move || attack(name, routers, seeds, keys, metrics))
    })
}

fn attack(name: &str, routers: u32, seeds: u64, keys: &str, metrics: &[Metric]) -> Vec<Check> {
    let text =
        format!("fidelity = \"routing\"\n[network]\nrouters = {routers}\n[adversary]\n{keys}\n");
    let (scenario, _) = Scenario::read(&text, &[]).expect("a scenario of this list");
    let run = |seed| {
        let report = scenario.run(Path::new("."), seed, Part::default(), &mut Blind);
        report.expect("it names no files").expect("nobody ends it")
    };
    let reports: Vec<_> = (2_000..2_000 + seeds).map(run).collect();
    let check = |metric: &Metric| {
        let pairs = reports
            .iter()
            .filter_map(|it| Some((*it.metrics.get(metric)?, *it.theory.get(metric)?)));
        let (values, theory): (Vec<f64>, Vec<f64>) = pairs.unzip();
        let wanted = over(&theory).0;
        // Where theory takes something of the run (its hops), only what it does not explain is an error.
        let off: Vec<f64> = values.iter().zip(&theory).map(|(value, it)| value - it).collect();
        let (mean, error) = over(&off);
        let name = format!("{metric}: {name}");
        Check { name, known: Known::Exact(wanted), value: wanted + mean, error }
    };
    metrics.iter().map(check).collect()
}
