//! What a run with routers gives: metrics, and a line for each wish.

use std::{fmt::Write as _, time::Duration};

use warren_overlay::time::Time;

use super::seconds;
use crate::{
    apps::{Fetch, Outcome},
    graph::{Graph, Lookups, Tally},
    metric::{Metric, Metrics, quantile},
    world::World,
};

/// What lookups over a graph gave.
pub(super) fn lookups(graph: &Graph, tally: &Tally) -> Metrics {
    let mut metrics =
        Metrics::from([(Metric::Found, tally.success()), (Metric::Degree, graph.mean_degree())]);
    if tally.found > 0 {
        metrics.insert(Metric::Hops, tally.mean_hops().0);
        metrics.insert(Metric::HopsP99, tally.hops_quantile(0.99).into());
    }
    metrics
}

/// The metrics of a run that is over; `waits` are the seconds that routers took to be ready.
pub(super) fn metrics(world: &mut World, waits: Vec<f64>) -> Metrics {
    let padding = world.padding();
    let world = &*world;
    let graph = world.ring();
    let mut metrics = if graph.len() < 2 {
        Metrics::new()
    } else {
        let mut rng = world.net.streams().of("lookups", 0);
        lookups(&graph, &graph.look_up(Lookups::default(), &mut rng))
    };
    #[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
    metrics.extend([
        (Metric::PadFrames, padding.frames as f64),
        (Metric::PadBytes, padding.bytes as f64),
    ]);
    let number = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    let living = world.net.hosts().count();
    let over = |fetch: &&Fetch| fetch.over() && fetch.outcome != Outcome::Cut;
    let over: Vec<_> = world.fetches().iter().filter(over).collect();
    let done: Vec<_> = over.iter().filter(|fetch| fetch.done()).collect();
    let relayed: u64 = world.net.hosts().map(|(_, host)| host.cells_relayed()).sum();
    metrics.insert(Metric::Fetches, number(over.len()));
    #[expect(clippy::cast_precision_loss, reason = "a count of cells is below 2^52")]
    metrics.insert(Metric::CellsRelayed, relayed as f64);
    if living > 0 {
        metrics.insert(Metric::Ready, f64::from(world.ready()) / number(living));
    }
    if !over.is_empty() {
        metrics.insert(Metric::Success, number(done.len()) / number(over.len()));
    }
    let times = |of: fn(&Fetch) -> Option<Duration>| -> Vec<f64> {
        done.iter().filter_map(|fetch| Some(of(fetch)?.as_secs_f64())).collect()
    };
    let first = times(|fetch| Some(fetch.first?.since(fetch.asked)));
    let last = times(|fetch| Some(fetch.last.since(fetch.asked)));
    let stall = times(|fetch| Some(fetch.stall));
    let quantiles = [
        (waits, &[(Metric::ReadyP50, 0.5), (Metric::ReadyP95, 0.95)][..]),
        (first, &[(Metric::FirstP50, 0.5), (Metric::FirstP95, 0.95), (Metric::FirstP99, 0.99)]),
        (last, &[(Metric::DoneP50, 0.5), (Metric::DoneP95, 0.95), (Metric::DoneP99, 0.99)]),
        (stall, &[(Metric::StallP99, 0.99), (Metric::StallMax, 1.0)]),
    ];
    for (mut values, wanted) in quantiles {
        values.sort_by(f64::total_cmp);
        for (metric, share) in wanted {
            metrics.extend(quantile(&values, *share).map(|value| (*metric, value)));
        }
    }
    metrics
}

/// One line per wish.
pub(super) fn rows(world: &World) -> String {
    let mut text = String::new();
    let seed = world.setup().seed;
    for (no, fetch) in world.fetches().iter().enumerate() {
        let first = fetch.first.map(seconds).unwrap_or_default();
        let outcome = match fetch.outcome {
            Outcome::Pending => "pending".into(),
            Outcome::Done => "done".into(),
            Outcome::Wrong => "wrong".into(),
            Outcome::Cut => "cut".into(),
            Outcome::Failed(failure) => format!("{failure:?}").to_lowercase(),
        };
        // Writing to text cannot fail.
        let _ = writeln!(
            text,
            "{seed},{no},{},{},{},{first},{},{},{},{outcome}",
            fetch.purpose.kind,
            fetch.host,
            seconds(fetch.asked),
            seconds(fetch.last),
            seconds(Time::ZERO + fetch.stall),
            fetch.got(),
        );
    }
    text
}
