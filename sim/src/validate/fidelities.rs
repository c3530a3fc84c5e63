//! The fidelities agree: 500 routers over real ciphers, over stand-ins, and as a graph.
//!
//! Lives here: the ring that real routers have made after a minute, beside the graph that `routing`
//! draws with as many links. Does not live here: what else the fidelities must share
//! (`tests/fidelities.rs`).

use std::{path::Path, time::Duration};

use super::{Check, Known, checks::over};
use crate::{
    Streams,
    graph::{Lookups, Rule, Tally},
    metric::Metric,
    run::{Part, Report},
    scenario::{Ciphers, Network, Scenario, Span, Wire, Workload},
    swarm::Blind,
};

const ROUTERS: u32 = 500;

/// Rings that routers make; seeds are those of nobody else.
fn rings(fidelity: Ciphers, seeds: std::ops::Range<u64>) -> Vec<Report> {
    let wire = Wire {
        fidelity,
        duration: Span(Duration::from_secs(1)),
        warmup: Span(Duration::from_secs(59)),
        network: Network { routers: ROUTERS, ..Network::default() },
        churn: None,
        workload: Workload::default(),
        fault: Vec::new(),
        heal: None,
        expect: std::collections::BTreeMap::default(),
    };
    let scenario = Scenario::Wire(Box::new(wire));
    let run = |seed| {
        let report = scenario.run(Path::new("."), seed, Part::default(), &mut Blind);
        report.expect("it names no files").expect("nobody ends it")
    };
    seeds.map(run).collect()
}

fn of(reports: &[Report], metric: Metric) -> Vec<f64> {
    reports.iter().filter_map(|it| it.metrics.get(&metric)).copied().collect()
}

/// Hops and success of all three; `full` and `routing` are compared with `wire`.
pub(super) fn agree() -> Vec<Check> {
    let wire = rings(Ciphers::Wire, 1_000..1_004);
    let full = rings(Ciphers::Full, 1_100..1_108);
    let degree = over(&of(&wire, Metric::Degree)).0;
    // Graphs have even degrees: those on both sides of the routers'.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "6 to 64")]
    let below = 2 * libm::floor(degree / 2.0) as u32;
    let upper = (degree - f64::from(below)) / 2.0;
    let graph = |no: u64| {
        let mut rng = Streams::new(no).of("fidelities", 0);
        let degree = if rng.unit() < upper { below + 2 } else { below };
        let graph = Rule::Ours.graph(ROUTERS, degree, &mut rng).expect("degrees that a graph has");
        graph.look_up(Lookups::default(), &mut rng)
    };
    let routing: Vec<Tally> = (0..40).map(graph).collect();
    let hops: Vec<_> = routing.iter().map(|it| it.mean_hops().0).collect();
    let found: Vec<_> = routing.iter().map(Tally::success).collect();
    let mut checks = Vec::new();
    for (metric, routing) in [(Metric::Hops, hops), (Metric::Found, found)] {
        let wire = of(&wire, metric);
        let known = Known::Table(over(&wire).0, over(&wire).1.max(1e-3 * over(&wire).0));
        for (name, values) in [("full", of(&full, metric)), ("routing", routing)] {
            let (value, error) = over(&values);
            let name = format!("{metric} of `{name}` beside `wire`, N = {ROUTERS}");
            checks.push(Check { name, known, value, error });
        }
    }
    checks
}
