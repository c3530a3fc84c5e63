//! The checks, each simulated.
//!
//! Sources: exact hops on rings with 1/d shortcuts by dynamic programming over the distance
//! (Kleinberg 2000; Sandberg's directed ring); k of n and M/M/1 in closed form; the tables of link
//! rules and of sudden loss from a program of its own with 20,000 lookups a row.

use warren_overlay::{id::Location, rng::Rng, time::Time};

use super::{Check, Depth, Known};
use crate::{
    Streams, Uplink,
    chance::exponential,
    conn::Bucket,
    graph::{Lookups, Rule, Table, Tally, Walker},
    queue::Queue,
};

pub(super) type Make = Box<dyn Fn() -> Vec<Check>>;

/// Every check of this depth, in the order of showing.
pub(super) fn all(depth: Depth) -> Vec<Make> {
    let full = depth == Depth::Full;
    let mut checks: Vec<Make> = vec![
        Box::new(|| vec![directed_ring(1_000, 23.21, 400)]),
        Box::new(|| vec![two_sided_ring(1_000, 5, 8.235, 100)]),
        Box::new(|| vec![two_sided_ring(10_000, 10, 8.977, 20)]),
        Box::new(|| vec![directed_ring(10_000, 42.16, 80)]),
    ];
    for (k, n, p) in [(3, 10, 0.5), (32, 64, 0.6), (128, 192, 0.7)] {
        checks.push(Box::new(move || vec![k_of_n(k, n, p)]));
    }
    for load in [0.3, 0.5, 0.8] {
        checks.push(Box::new(move || vec![mm1(load)]));
    }
    for row in RULES.into_iter().filter(|row| full || row.nodes <= 10_000) {
        checks.push(Box::new(move || rule(&row)));
    }
    for row in LOSS {
        checks.push(Box::new(move || vec![loss(row)]));
    }
    checks.push(Box::new(terminus));
    checks.extend(super::mixes::all());
    checks.extend(super::attacks::all());
    checks.extend(super::published::all(full));
    checks.push(Box::new(|| ours(10_000, 5.6, 4)));
    if full {
        checks.push(Box::new(|| ours(100_000, 8.3, 4)));
        checks.push(Box::new(super::fidelities::agree));
    }
    checks
}

/// Mean and standard error over batches that are independent of each other.
pub(super) fn over(batches: &[f64]) -> (f64, f64) {
    let n = f64::from(u32::try_from(batches.len()).unwrap_or(u32::MAX));
    let mean = batches.iter().sum::<f64>() / n;
    let squares: f64 = batches.iter().map(|it| (it - mean) * (it - mean)).sum();
    (mean, libm::sqrt(squares / (n - 1.0) / n))
}

/// How much one batch differs from the next.
fn spread(batches: &[f64]) -> f64 {
    over(batches).1 * libm::sqrt(f64::from(u32::try_from(batches.len()).unwrap_or(u32::MAX)))
}

pub(super) fn check(name: String, known: Known, batches: &[f64]) -> Check {
    let (value, error) = over(batches);
    Check { name, known, value, error }
}

/// 1 to `most` with a probability in proportion to the reciprocal: exact, by rejection.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below `most`")]
pub(super) fn reciprocal(most: u32, rng: &mut Rng) -> u32 {
    loop {
        let x = libm::floor(libm::exp(rng.unit() * libm::log(f64::from(most) + 1.0)));
        let x = x.clamp(1.0, most.into());
        // Drawn with ln(1 + 1/x); wanted 1/x; the ratio is highest at 1.
        let ratio = 1.0 / (x * libm::log1p(1.0 / x));
        if rng.unit() < ratio * std::f64::consts::LN_2 {
            return x as u32;
        }
    }
}

/// Mean hops on one lattice ring between two nodes of chance that are not the same.
fn ring_walks(
    (nodes, walks): (u32, u32),
    draw: impl Fn(u32, &mut Table, &mut Rng),
    far: impl Fn(Location, Location) -> u64,
    rng: &mut Rng,
) -> f64 {
    let mut table = Table::new(nodes, 32);
    for node in 0..nodes {
        draw(node, &mut table, rng);
    }
    let spacing = u64::MAX / u64::from(nodes) + 1;
    let graph = table.graph((0..nodes).map(|node| u64::from(node) * spacing).collect());
    let mut walker = Walker::new(&graph);
    let lookups = Lookups { count: walks, budget: u32::MAX, holders: 1, backtrack: false };
    let mut draw = |bound: u32| u32::try_from(rng.below(bound.into())).unwrap_or(0);
    let hops = (0..walks).map(|_| {
        let from = draw(nodes);
        let to = (from + 1 + draw(nodes - 1)) % nodes;
        let goal = graph.place(to);
        walker.walk(&graph, from, lookups, &[to], |it| far(graph.place(it), goal)).unwrap_or(0)
    });
    hops.map(f64::from).sum::<f64>() / f64::from(walks)
}

fn directed_ring(nodes: u32, wanted: f64, rings: u64) -> Check {
    let draw = |node: u32, table: &mut Table, rng: &mut Rng| {
        table.add(node, (node + 1) % nodes);
        table.add(node, (node + reciprocal(nodes - 1, rng)) % nodes);
    };
    let ring = |no| {
        let mut rng = Streams::new(no).of("directed ring", nodes.into());
        ring_walks((nodes, 4_000), draw, Location::clockwise, &mut rng)
    };
    let batches: Vec<_> = (0..rings).map(ring).collect();
    let name = format!("hops, directed ring, 1 shortcut 1/d, N = {nodes}");
    check(name, Known::Exact(wanted), &batches)
}

fn two_sided_ring(nodes: u32, shortcuts: u32, wanted: f64, rings: u64) -> Check {
    let draw = |node: u32, table: &mut Table, rng: &mut Rng| {
        table.add(node, (node + 1) % nodes);
        table.add(node, (node + nodes - 1) % nodes);
        for _ in 0..shortcuts {
            let length = reciprocal(nodes / 2, rng);
            let left = rng.below(2) == 0;
            table.add(node, (node + if left { nodes - length } else { length }) % nodes);
        }
    };
    let ring = |no| {
        let mut rng = Streams::new(no).of("two-sided ring", nodes.into());
        ring_walks((nodes, 8_000), draw, Location::distance, &mut rng)
    };
    let batches: Vec<_> = (0..rings).map(ring).collect();
    let name = format!("hops, two-sided ring, {shortcuts} shortcuts 1/d, N = {nodes}");
    check(name, Known::Exact(wanted), &batches)
}

/// Whether enough of a file's blocks are there: the sum of a binomial's tail.
fn k_of_n(k: u32, n: u32, p: f64) -> Check {
    let log_choose = |i: u32| {
        let factorial = |n: u32| libm::lgamma(f64::from(n) + 1.0);
        factorial(n) - factorial(i) - factorial(n - i)
    };
    let term = |i: u32| {
        let (with, without) = (f64::from(i) * libm::log(p), f64::from(n - i) * libm::log1p(-p));
        libm::exp(log_choose(i) + with + without)
    };
    let wanted = (k..=n).map(term).sum();
    let mut rng = Streams::new(1).of("k of n", u64::from(n) << 32 | u64::from(k));
    let there = |rng: &mut Rng| (0..n).filter(|_| rng.unit() < p).count() >= k as usize;
    let batches: Vec<_> = (0..50)
        .map(|_| (0..2_000).filter(|_| there(&mut rng)).map(|_| 1.0 / 2_000.0).sum::<f64>())
        .collect();
    check(format!("availability of {k} of {n} at {p}"), Known::Exact(wanted), &batches)
}

/// Poisson arrivals with exponential sizes at an uplink, by the engine's queue and bucket: the mean
/// time in the system, in units of the mean service.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times and sizes are positive and far below 2^52"
)]
fn mm1(load: f64) -> Check {
    const SERVICE: f64 = 10_000.0; // microseconds, and as many bytes
    let uplink = Uplink { rate: 1_000_000, burst: 0 };
    let mut rng = Streams::new(1).of("m/m/1", (load * 100.0) as u64);
    let mut bucket = Bucket::default();
    let mut queue = Queue::new();
    let mut batch = |arrivals: u32| {
        let mut sum = 0.0;
        for _ in 0..arrivals {
            let (now, ()) = queue.pop(Time::from_micros(u64::MAX)).unwrap_or_default();
            let bytes = (SERVICE * exponential(&mut rng)) as usize;
            let left = bucket.take(now, uplink, bytes);
            sum += left.since(now).as_secs_f64() * 1e6 / SERVICE;
            let next = SERVICE / load * exponential(&mut rng);
            queue.push(Time::from_micros(now.as_micros() + next as u64), ());
        }
        sum / f64::from(arrivals)
    };
    batch(10_000); // warm
    let batches: Vec<_> = (0..40).map(|_| batch(100_000)).collect();
    check(
        format!("time in an M/M/1 queue at load {load}"),
        Known::Exact(1.0 / (1.0 - load)),
        &batches,
    )
}

/// Row of the table of link rules: degree 20, budget 18, 3 holders.
#[derive(Clone, Copy)]
struct RuleRow {
    rule: Rule,
    nodes: u32,
    hops: f64,
    success: f64,
}

const RULES: [RuleRow; 8] = [
    RuleRow { rule: Rule::Harmonic, nodes: 1_000, hops: 3.25, success: 1.0 },
    RuleRow { rule: Rule::Harmonic, nodes: 3_000, hops: 4.21, success: 1.0 },
    RuleRow { rule: Rule::Harmonic, nodes: 10_000, hops: 5.36, success: 1.0 },
    RuleRow { rule: Rule::Freenet, nodes: 1_000, hops: 3.93, success: 1.0 },
    RuleRow { rule: Rule::Freenet, nodes: 10_000, hops: 6.70, success: 1.0 },
    RuleRow { rule: Rule::Harmonic, nodes: 100_000, hops: 7.92, success: 1.0 },
    RuleRow { rule: Rule::Freenet, nodes: 100_000, hops: 11.6, success: 0.765 },
    RuleRow { rule: Rule::Uniform, nodes: 100_000, hops: 12.3, success: 0.065 },
];

/// Lookups of each row of both tables, there and here.
const TABLE_LOOKUPS: f64 = 20_000.0;

fn graphs(
    (nodes, degree, dead): (u32, u32, f64),
    rule: Rule,
    count: u64,
    lookups: Lookups,
) -> Vec<Tally> {
    let graph = |no| {
        let mut rng = Streams::new(no).of("graph", u64::from(nodes) << 32 | u64::from(degree));
        let mut graph = rule.graph(nodes, degree, &mut rng).expect("a graph of the table");
        graph.kill(dead, &mut rng);
        graph.look_up(lookups, &mut rng)
    };
    (1..=count).map(graph).collect()
}

fn rule(row: &RuleRow) -> Vec<Check> {
    let RuleRow { rule, nodes, .. } = *row;
    let lookups = Lookups { count: 10_000, budget: 18, ..Lookups::default() };
    let tallies = graphs((nodes, 20, 0.0), rule, if nodes > 10_000 { 4 } else { 8 }, lookups);
    let hops: Vec<_> = tallies.iter().map(|it| it.mean_hops().0).collect();
    let success: Vec<_> = tallies.iter().map(Tally::success).collect();
    let named = |what: &str| format!("{what}, {rule:?} links, degree 20, N = {nodes}");
    // The table's own error: that of its lookups, and of its one graph as graphs differ here.
    let walks: Vec<_> = tallies.iter().map(|it| it.mean_hops().1).collect();
    let walks = over(&walks).0 * libm::sqrt(10_000.0 / TABLE_LOOKUPS);
    let error = libm::hypot(walks, spread(&hops)) + row.hops * 0.000_5;
    let mut checks = vec![check(named("hops"), Known::Table(row.hops, error), &hops)];
    let chance = libm::sqrt(row.success * (1.0 - row.success) / TABLE_LOOKUPS);
    let error = libm::hypot(chance, spread(&success)) + 0.000_5;
    checks.push(check(named("success"), Known::Table(row.success, error), &success));
    checks
}

/// Degree, share that died at once, and the success of the table; N = 10,000, 1/d links.
const LOSS: [(u32, f64, f64); 7] = [
    (10, 0.0, 0.995),
    (10, 0.1, 0.964),
    (10, 0.3, 0.789),
    (20, 0.1, 0.999),
    (20, 0.3, 0.964),
    (20, 0.5, 0.823),
    (32, 0.5, 0.867),
];

fn loss((degree, dead, wanted): (u32, f64, f64)) -> Check {
    let lookups = Lookups { count: 10_000, budget: 18, ..Lookups::default() };
    let tallies = graphs((10_000, degree, dead), Rule::Harmonic, 12, lookups);
    let success: Vec<_> = tallies.iter().map(Tally::success).collect();
    let chance = libm::sqrt(wanted * (1.0 - wanted) / TABLE_LOOKUPS);
    let error = libm::hypot(chance, spread(&success)) + 0.000_5;
    let name = format!("success after the sudden loss of {:.0} %, degree {degree}", 100.0 * dead);
    check(name, Known::Table(wanted, error), &success)
}

/// As published: one network of 3,000 with 10 to 20 links each; 2,000 strictly greedy lookups, each of some other
/// router's own place, of at most five times the logarithm of 3,000 to the base of two, rounded down.
fn terminus() -> Vec<Check> {
    const NODES: u32 = 3_000;
    const LOOKUPS: u32 = 2_000;
    const NETWORKS: u64 = 12;
    let lookups = Lookups { count: LOOKUPS, budget: 55, holders: 1, backtrack: false };
    let network = |no: u64| {
        let mut rng = Streams::new(3_000 + no).of("terminus", 0);
        let graph = Rule::Terminus.graph(NODES, 20, &mut rng).expect("a degree that a graph has");
        let (mut walker, mut tally) = (Walker::new(&graph), Tally::default());
        let mut draw = || u32::try_from(rng.below(NODES.into())).unwrap_or(0);
        while tally.lookups < LOOKUPS.into() {
            let (from, to) = (draw(), draw());
            if from != to {
                let far = |node| graph.place(node).distance(graph.place(to));
                tally.note(walker.walk(&graph, from, lookups, &[to], far));
            }
        }
        tally
    };
    let tallies: Vec<Tally> = (0..NETWORKS).map(network).collect();
    let success: Vec<_> = tallies.iter().map(Tally::success).collect();
    let hops: Vec<_> = tallies.iter().map(|it| it.mean_hops().0).collect();
    let named = |what: &str| format!("{what}, links where requests end, degree 20, N = {NODES}");
    // The published ones are of one network: it is off by as much as one of ours is from the next.
    vec![
        check(named("success"), Known::Table(0.349, spread(&success)), &success),
        check(named("hops"), Known::Table(24.5, spread(&hops)), &hops),
    ]
}

fn ours(nodes: u32, most: f64, count: u64) -> Vec<Check> {
    let tallies = graphs((nodes, 20, 0.0), Rule::Ours, count, Lookups::default());
    let hops: Vec<_> = tallies.iter().map(|it| it.mean_hops().0).collect();
    let success: Vec<_> = tallies.iter().map(Tally::success).collect();
    let named = |what: &str| format!("{what}, our links, degree 20, N = {nodes}");
    vec![
        check(named("hops"), Known::AtMost(most), &hops),
        check(named("success"), Known::AtLeast(0.999), &success),
    ]
}
