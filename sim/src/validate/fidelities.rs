//! The fidelities agree: 500 routers over real ciphers, over stand-ins, and as a graph.
//!
//! Lives here: the rings that routers make over real ciphers and over stand-ins within a minute; and the
//! ring that they make when newcomers have their links before the next ones come, beside the graph that
//! `routing` draws, which grows so. Does not live here: what else the fidelities must share
//! (`tests/fidelities.rs`).
//!
//! A ring that grows to 500 in ten seconds is another one: its routers draw most links when nearly all are
//! there. Lookups take 2.55 hops on it, and 2.47 where it took 100 s.

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

/// A newcomer has its links by then.
const SLOW: Duration = Duration::from_millis(200);

/// Rings that routers make when one starts every `stagger`; seeds are those of nobody else.
fn rings(fidelity: Ciphers, stagger: Duration, seeds: std::ops::Range<u64>) -> Vec<Report> {
    let grown = stagger * ROUTERS;
    let wire = Wire {
        fidelity,
        duration: Span(Duration::from_secs(1)),
        warmup: Span(grown + Duration::from_secs(49)),
        network: Network { routers: ROUTERS, stagger: Span(stagger), ..Network::default() },
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

/// Hops and success: of `full` beside `wire`, and of `routing` beside `full`.
pub(super) fn agree() -> Vec<Check> {
    let usual = Network::default().stagger.0;
    let wire = rings(Ciphers::Wire, usual, 1_000..1_004);
    let full = rings(Ciphers::Full, usual, 1_100..1_108);
    let slow = rings(Ciphers::Full, SLOW, 1_101..1_105);
    let graph = |no: u64| {
        let mut rng = Streams::new(no).of("fidelities", 0);
        let degree = Network::default().degree.into();
        let graph = Rule::Ours.graph(ROUTERS, degree, &mut rng).expect("a degree that a graph has");
        graph.look_up(Lookups::default(), &mut rng)
    };
    let routing: Vec<Tally> = (0..40).map(graph).collect();
    let hops: Vec<_> = routing.iter().map(|it| it.mean_hops().0).collect();
    let found: Vec<_> = routing.iter().map(Tally::success).collect();
    let mut checks = Vec::new();
    for (metric, routing) in [(Metric::Hops, hops), (Metric::Found, found)] {
        let rows = [
            ("`full` beside `wire`", of(&wire, metric), of(&full, metric)),
            ("`routing` beside `full`, grown in 100 s", of(&slow, metric), routing),
        ];
        for (what, known, values) in rows {
            let (wanted, error) = over(&known);
            let known = Known::Table(wanted, error.max(1e-3 * wanted));
            let (value, error) = over(&values);
            let name = format!("{metric} of {what}, N = {ROUTERS}");
            checks.push(Check { name, known, value, error });
        }
    }
    checks
}
