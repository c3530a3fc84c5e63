//! What a run with routers gives: metrics, and a line for each wish.

use std::{fmt::Write as _, time::Duration};

use warren_overlay::time::Time;

use super::{Outcomes, seconds};
use crate::{
    apps::{Fetch, Outcome},
    curve::{Curve, Curves, Distribution},
    graph::{Graph, Lookups, Tally},
    metric::{Metric, Metrics, quantile},
    statistics::gini,
    stock::{Ended, Errand, Trip},
    world::World,
};

/// What lookups over a graph gave.
pub(super) fn lookups(graph: &Graph, tally: &Tally) -> Metrics {
    let mut metrics =
        Metrics::from([(Metric::Found, tally.success()), (Metric::Degree, graph.mean_degree())]);
    metrics.extend(gini(tally.load.iter().copied()).map(|it| (Metric::Gini, it)));
    if tally.found > 0 {
        metrics.insert(Metric::Hops, tally.mean_hops().0);
        metrics.insert(Metric::HopsP99, tally.hops_quantile(0.99).into());
    }
    metrics
}

/// The distributions of lookups over a graph.
pub(super) fn lookup_curves(tally: &Tally) -> Curves {
    let mut curves = Curves::from([(Curve::Load, Distribution::of(tally.load.iter().copied()))]);
    if tally.found > 0 {
        curves.insert(Curve::Hops, tally.distribution());
    }
    curves
}

/// The metrics of a run that is over; `waits` are the seconds that routers took to be ready.
pub(super) fn metrics(world: &mut World, waits: &[f64]) -> Metrics {
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
    metrics.extend(overhead(world));
    metrics.insert(Metric::Fetches, number(over.len()));
    #[expect(clippy::cast_precision_loss, reason = "a count of cells is below 2^52")]
    metrics.insert(Metric::CellsRelayed, relayed as f64);
    // Of cells, and not of lookups over the graph.
    metrics.remove(&Metric::Gini);
    metrics.extend(gini(loads(world)).map(|it| (Metric::Gini, it)));
    if living > 0 {
        metrics.insert(Metric::Ready, f64::from(world.ready()) / number(living));
    }
    if !over.is_empty() {
        metrics.insert(Metric::Success, number(done.len()) / number(over.len()));
    }
    let [first, last, stall] = waited(world);
    let quantiles = [
        (waits.to_vec(), &[(Metric::ReadyP50, 0.5), (Metric::ReadyP95, 0.95)][..]),
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
    metrics.extend(store(world));
    metrics
}

/// What everything cost, for all that people wanted.
#[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
fn overhead(world: &World) -> Metrics {
    let pools = || world.net.hosts().map(|(_, host)| host.node_ref().pools().status());
    let (built, failed) =
        pools().fold((0, 0), |(built, failed), it| (built + it.built, failed + it.failed));
    let builds = (built + failed) as f64;
    let moved = world.net.received() as f64;
    let mut metrics = Metrics::from([(Metric::Builds, builds), (Metric::BytesMoved, moved)]);
    if built + failed > 0 {
        metrics.insert(Metric::BuildSuccess, built as f64 / builds);
    }
    let wishes = world.fetches().iter().filter(|it| it.over()).count();
    let trips = world.stock().trips();
    let wishes = wishes + trips.iter().filter(|it| it.how != Ended::Pending).count();
    if wishes > 0 {
        metrics.insert(Metric::BuildsPerWish, builds / wishes as f64);
    }
    let got: u64 = world.fetches().iter().map(Fetch::got).sum();
    let items = trips.iter().filter(|it| it.errand != Errand::Put && it.how == Ended::Done);
    let got = got + items.map(|it| world.stock().bytes(it.item)).sum::<u64>();
    if got > 0 {
        metrics.insert(Metric::BytesOverhead, moved / got as f64);
    }
    metrics
}

/// Seconds of the wishes that were fulfilled: to the first byte, to the last, and the longest wait.
fn waited(world: &World) -> [Vec<f64>; 3] {
    let done = || world.fetches().iter().filter(|fetch| fetch.done());
    let times = |of: fn(&Fetch) -> Option<Duration>| -> Vec<f64> {
        done().filter_map(|fetch| Some(of(fetch)?.as_secs_f64())).collect()
    };
    [
        times(|fetch| Some(fetch.first?.since(fetch.asked))),
        times(|fetch| Some(fetch.last.since(fetch.asked))),
        times(|fetch| Some(fetch.stall)),
    ]
}

/// Cells that each living router moved for others.
fn loads(world: &World) -> impl Iterator<Item = u64> {
    world.net.hosts().map(|(_, host)| host.cells_relayed())
}

/// Distributions of a run that is over; `waits` as for [`metrics`].
pub(super) fn curves(world: &World, waits: &[f64]) -> Curves {
    let [first, last, stall] = waited(world);
    let store = |wanted: fn(Errand) -> bool| -> Vec<f64> {
        let done = world.stock().trips().iter();
        let done = done.filter(|trip| wanted(trip.errand) && trip.how == Ended::Done);
        done.map(|trip| trip.ended.since(trip.asked).as_secs_f64()).collect()
    };
    let puts = store(|errand| errand == Errand::Put);
    let gets = store(|errand| errand == Errand::Get);
    let times = [
        (Curve::Ready, waits),
        (Curve::First, &first),
        (Curve::Done, &last),
        (Curve::Stall, &stall),
        (Curve::Put, &puts),
        (Curve::Get, &gets),
    ];
    let some = times.into_iter().filter(|it| !it.1.is_empty());
    let mut curves: Curves =
        some.map(|(curve, times)| (curve, Distribution::of_seconds(times))).collect();
    curves.insert(Curve::Load, Distribution::of(loads(world)));
    curves
}

/// How often wishes and errands to the store ended how.
pub(super) fn outcomes(world: &World) -> Outcomes {
    let mut outcomes = Outcomes::new();
    let mut count = |name: String| *outcomes.entry(name).or_default() += 1;
    for fetch in world.fetches() {
        count(format!("{}: {}", fetch.purpose.kind, outcome(fetch.outcome)));
    }
    for trip in world.stock().trips() {
        count(format!("{}: {}", errand(trip.errand), ended(trip.how)));
    }
    outcomes
}

/// The names that rows and counts have.
fn outcome(outcome: Outcome) -> String {
    match outcome {
        Outcome::Pending => "pending".into(),
        Outcome::Done => "done".into(),
        Outcome::Wrong => "wrong".into(),
        Outcome::Cut => "cut".into(),
        Outcome::Failed(failure) => format!("{failure:?}").to_lowercase(),
    }
}

fn errand(errand: Errand) -> String {
    match errand {
        Errand::Put => "put".into(),
        Errand::Get => "get".into(),
        Errand::Sweep(no) => format!("sweep-{no}"),
    }
}

fn ended(how: Ended) -> String {
    format!("{how:?}").to_lowercase()
}

/// What came of errands to the store: nothing where there were none.
fn store(world: &World) -> Metrics {
    let mut metrics = Metrics::new();
    let number = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    let over = |trip: &&Trip| !matches!(trip.how, Ended::Pending | Ended::Cut);
    let trips: Vec<&Trip> = world.stock().trips().iter().filter(over).collect();
    let of = |errand: Errand| trips.iter().copied().filter(move |trip| trip.errand == errand);
    let count = |errand: Errand, how: Ended| of(errand).filter(|trip| trip.how == how).count();
    let share = |part: usize, of: usize| (of > 0).then(|| number(part) / number(of));
    let times = |errand: Errand| -> Vec<f64> {
        let done = of(errand).filter(|trip| trip.how == Ended::Done);
        let mut times: Vec<f64> = done.map(|it| it.ended.since(it.asked).as_secs_f64()).collect();
        times.sort_by(f64::total_cmp);
        times
    };
    let mut give = |metric: Metric, value: Option<f64>| {
        metrics.extend(value.map(|value| (metric, value)));
    };
    for (errand, all, success, quantiles) in [
        (
            Errand::Put,
            Metric::Puts,
            Metric::PutSuccess,
            &[(Metric::PutP50, 0.5), (Metric::PutP95, 0.95)][..],
        ),
        (
            Errand::Get,
            Metric::Gets,
            Metric::GetSuccess,
            &[(Metric::GetP50, 0.5), (Metric::GetP95, 0.95), (Metric::GetP99, 0.99)],
        ),
    ] {
        let sum = of(errand).count();
        give(all, (sum > 0).then(|| number(sum)));
        give(success, share(count(errand, Ended::Done), sum));
        let times = times(errand);
        for (metric, part) in quantiles {
            give(*metric, quantile(&times, *part));
        }
    }
    let missed = |errand: Errand| count(errand, Ended::Missed);
    let there = |errand: Errand| missed(errand) + count(errand, Ended::Done);
    give(Metric::GetMissed, share(missed(Errand::Get), there(Errand::Get)));
    give(Metric::GetLost, share(count(Errand::Get, Ended::Lost), of(Errand::Get).count()));
    let sweeps = trips.iter().filter_map(|trip| match trip.errand {
        Errand::Sweep(no) => Some(no),
        Errand::Put | Errand::Get => None,
    });
    if let Some(last) = sweeps.max() {
        for (no, all, of_there) in [
            (1, Metric::SweepFirst, Metric::SweepFirstThere),
            (last, Metric::SweepLast, Metric::SweepLastThere),
        ] {
            let sweep = Errand::Sweep(no);
            let done = count(sweep, Ended::Done);
            give(all, share(done, of(sweep).count()));
            give(of_there, share(done, there(sweep)));
        }
    }
    let items = world.stocked();
    let copies: Vec<u32> = items.iter().filter(|(there, _)| *there).map(|it| it.1).collect();
    give(Metric::ItemsThere, share(copies.len(), items.len()));
    let sum: f64 = copies.iter().copied().map(f64::from).sum();
    give(Metric::Copies, (!copies.is_empty()).then(|| sum / number(copies.len())));
    metrics
}

/// One line per errand to the store.
pub(super) fn store_rows(world: &World) -> String {
    let mut text = String::new();
    let seed = world.setup().seed;
    for (no, trip) in world.stock().trips().iter().enumerate() {
        let kind = errand(trip.errand);
        // Writing to text cannot fail.
        let _ = writeln!(
            text,
            "{seed},{no},{kind},{},{},{},{},{},{},{},{},{}",
            trip.item,
            world.stock().bytes(trip.item),
            trip.host,
            seconds(trip.asked),
            seconds(trip.ended),
            trip.asks.0,
            trip.asks.1,
            trip.copies,
            ended(trip.how),
        );
    }
    text
}

/// One line per wish.
pub(super) fn rows(world: &World) -> String {
    let mut text = String::new();
    let seed = world.setup().seed;
    for (no, fetch) in world.fetches().iter().enumerate() {
        let first = fetch.first.map(seconds).unwrap_or_default();
        let outcome = outcome(fetch.outcome);
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
