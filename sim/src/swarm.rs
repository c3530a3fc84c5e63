//! Swarm: networks, faults and people drawn from a seed; then everything heals, and must be well.
//!
//! Lives here: what a seed draws, and making what failed smaller. Does not live here: what must hold
//! (`oracle.rs`, `run/heal.rs`).
//!
//! Each seed leaves a random half of the features and faults out (swarm testing: Groce et al., ISSTA
//! 2012): a fault that always comes with another hides what it does alone. What a seed draws is a
//! scenario as files have them, so what fails can be kept, read and run again.

use std::time::Duration;

use warren_overlay::{rng::Rng, time::Time};

use crate::{
    batch::Verdict,
    net::Line,
    oracle::Violation,
    run::{Part, Watcher},
    scenario::{
        Browsing, Chat, Churn, ChurnModel, Ciphers, Fault, LatencyKey, Network, Scenario,
        ScenarioError, Size, Span, StoreLoad, Unit, Wire, Workload,
    },
    streams::Streams,
};

/// No swarm run is longer before it heals.
pub const LONGEST: Time = Time::from_micros(110_000_000);
/// How long healing may take.
const HEAL: Duration = Duration::from_mins(4);
/// Runs that shrinking may take.
const SHRINK_RUNS_MAX: u32 = 40;

/// The scenario that a seed draws.
pub fn draw(seed: u64) -> Wire {
    let mut rng = Streams::new(seed).of("swarm", 0);
    let rng = &mut rng;
    let routers = between(rng, 12, 28);
    let duration = between(rng, 30, 60);
    let mut network = Network {
        routers,
        degree: [8, 12, 20].get(index(rng, 3)).copied().unwrap_or(20),
        hops: u8::try_from(between(rng, 2, 3)).unwrap_or(3),
        stagger: millis(between(rng, 10, 400)),
        latency: if half(rng) {
            LatencyKey::Geographic {}
        } else {
            LatencyKey::Uniform { least: millis(1), most: millis(between(rng, 5, 250)) }
        },
        jitter: if half(rng) { rng.unit() } else { 0.0 },
        ..Network::default()
    };
    if half(rng) {
        network.uplink = Some(Size(u64::from(between(rng, 100, 4_000)) << 10));
    }
    if half(rng) {
        network.link_life = Some(Span::seconds(between(rng, 20, 200).into()));
    }
    if half(rng) {
        network.natted = 0.3 * rng.unit();
    }
    if half(rng) {
        network.clock_skew = Span::seconds(60 * u64::from(between(rng, 1, 5)));
    }
    if half(rng) {
        network.deferred = millis(between(rng, 1, 20));
    }
    let churn = half(rng).then(|| churn(rng, (40, 200), routers / 2, 0.0));
    let wishes = |rng: &mut Rng, kib: u32| Browsing {
        clients: between(rng, 2, 6),
        every: Span::seconds(between(rng, 3, 15).into()),
        bytes: Size(u64::from(kib) << 10),
    };
    let mut workload = Workload {
        services: between(rng, 1, 3),
        browsing: half(rng).then(|| wishes(rng, 60)),
        bulk: half(rng).then(|| wishes(rng, 1_500)),
        chat: half(rng).then(|| Chat {
            clients: between(rng, 1, 4),
            every: Span::seconds(10),
            messages: between(rng, 2, 30),
            pause: millis(between(rng, 10, 2_000)),
            bytes: Size(between(rng, 1, 5_000).into()),
        }),
        store: None,
    };
    let mut fault = Vec::new();
    for kind in 0..4 {
        if half(rng) {
            let at = between(rng, 1, duration / 2);
            let until = Span::seconds(u64::from(at + between(rng, 1, duration / 2)));
            let at = Span::seconds(at.into());
            let share = 0.5 * rng.unit();
            fault.push(match kind {
                0 => Fault::Kill { at, share: share / 2.0, until: half(rng).then_some(until) },
                1 => Fault::Partition { at, share, until },
                2 => Fault::Sleep { at, share, until },
                _ => Fault::Breaks { at, life: Span::seconds(between(rng, 1, 10).into()), until },
            });
        }
    }
    let (store, leavers) = store(seed);
    workload.store = store;
    let churn = leavers.map_or(churn, |(services, leavers)| {
        workload.services = services;
        Some(leavers)
    });
    Wire {
        fidelity: Ciphers::Wire,
        duration: Span::seconds(duration.into()),
        warmup: Span::seconds(between(rng, 20, 50).into()),
        network,
        churn,
        workload,
        fault,
        heal: Some(Span(HEAL)),
        expect: std::collections::BTreeMap::default(),
    }
}

/// Routers that come and go; `least` is the smallest share of goodbyes in order.
fn churn(rng: &mut Rng, online: (u32, u32), stable: u32, least: f64) -> Churn {
    Churn {
        model: ChurnModel::Exponential,
        online: Some(Span::seconds(between(rng, online.0, online.1).into())),
        offline: Some(Span::seconds(between(rng, 5, 60).into())),
        shape: None,
        stable,
        graceful: least + (1.0 - least) * rng.unit(),
        diurnal: 0.0,
        file: None,
    }
}

/// Half of the seeds store something. A stream of its own: the rest is as it was without it.
///
/// Half of those have many services, whose records are kept for them, and routers that leave soon and
/// mostly in order: what is handed over, and what is not, comes up in nearly each.
fn store(seed: u64) -> (Option<StoreLoad>, Option<(u32, Churn)>) {
    let rng = &mut Streams::new(seed).of("swarm store", 0);
    let load = half(rng).then(|| StoreLoad {
        unit: if half(rng) { Unit::Block } else { Unit::File },
        items: between(rng, 5, 40),
        load: Span::seconds(between(rng, 5, 20).into()),
        bytes: Size(u64::from(between(rng, 1, 200)) << 10),
        sigma: 1.0,
        clients: between(rng, 1, 6),
        every: Span::seconds(between(rng, 3, 15).into()),
        zipf: 2.0 * rng.unit(),
        puts: 0.3 * rng.unit(),
        sweeps: Vec::new(),
    });
    let leave = load.is_some() && half(rng);
    let leavers = leave.then(|| {
        let services = between(rng, 4, 10);
        (services, churn(rng, (20, 60), services, 0.5))
    });
    (load, leavers)
}

fn half(rng: &mut Rng) -> bool {
    rng.below(2) == 0
}

fn index(rng: &mut Rng, below: u64) -> usize {
    usize::try_from(rng.below(below)).unwrap_or(0)
}

fn between(rng: &mut Rng, least: u32, most: u32) -> u32 {
    least + u32::try_from(rng.below(u64::from(most.saturating_sub(least)) + 1)).unwrap_or(0)
}

fn millis(millis: u32) -> Span {
    Span(Duration::from_millis(millis.into()))
}

/// A seed that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which.
    pub seed: u64,
    /// What was run.
    pub wire: Wire,
    /// The same as a file.
    pub text: String,
    /// What was seen.
    pub violations: Vec<Violation>,
}

/// Runs the swarm; gives the seeds that failed, in order.
///
/// # Errors
/// Never for what a seed draws; a scenario's errors are passed on.
pub fn run<W: Watcher>(
    seeds: &[u64],
    jobs: usize,
    watcher: impl Fn(u64) -> W + Sync,
) -> Result<Vec<Failure>, ScenarioError> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let failures = std::sync::Mutex::new(Ok(Vec::new()));
    let work = || {
        while let Some(seed) =
            seeds.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)).copied()
        {
            let tried = attempt(seed, draw(seed), &mut watcher(seed));
            let mut all = failures.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match (tried, &mut *all) {
                (Ok(failure), Ok(all)) => all.extend(failure),
                (Err(error), all) => *all = Err(error),
                (_, Err(_)) => return,
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..jobs.clamp(1, seeds.len().max(1)) {
            scope.spawn(work);
        }
        work();
    });
    let mut failures = failures.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)?;
    failures.sort_by_key(|failure: &Failure| failure.seed);
    Ok(failures)
}

/// Runs one; a failure if an oracle spoke.
fn attempt(
    seed: u64,
    wire: Wire,
    watcher: &mut dyn Watcher,
) -> Result<Option<Failure>, ScenarioError> {
    let text = toml::to_string(&wire).map_err(|error| ScenarioError::Form(error.to_string()))?;
    // Through the text, so that what is kept is what was run.
    let (scenario, text) = Scenario::read(&text, &[])?;
    let report = scenario.run(std::path::Path::new("."), seed, Part::default(), watcher)?;
    Ok(report.filter(|report| !report.violations.is_empty()).map(|report| Failure {
        seed,
        wire,
        text,
        violations: report.violations,
    }))
}

impl Failure {
    /// Whether something bad happened, or something good did not.
    pub fn verdict(&self) -> Verdict {
        if self.violations.iter().any(|it| it.safety) { Verdict::Safety } else { Verdict::Liveness }
    }

    /// The oracle that spoke first.
    fn oracle(&self) -> &str {
        self.violations.first().map_or("", |it| &it.oracle)
    }

    /// The smallest scenario found that still makes the same oracle speak: shorter, with fewer
    /// faults and features, with fewer routers.
    ///
    /// # Errors
    /// Never for what a seed draws; a scenario's errors are passed on.
    pub fn shrink(
        &self,
        watcher: &mut dyn FnMut() -> Box<dyn Watcher>,
    ) -> Result<Self, ScenarioError> {
        let mut best = self.clone();
        let mut runs = 0;
        loop {
            let mut better = None;
            for smaller in less(&best.wire) {
                runs += 1;
                if runs > SHRINK_RUNS_MAX {
                    return Ok(best);
                }
                let tried = attempt(self.seed, smaller, watcher().as_mut())?;
                if let Some(failure) = tried.filter(|it| it.oracle() == best.oracle()) {
                    better = Some(failure);
                    break;
                }
            }
            match better {
                Some(failure) => best = failure,
                None => return Ok(best),
            }
        }
    }
}

/// Every scenario that is one step smaller, the largest steps first.
fn less(wire: &Wire) -> Vec<Wire> {
    let mut all = Vec::new();
    let mut with = |change: &dyn Fn(&mut Wire)| {
        let mut smaller = wire.clone();
        change(&mut smaller);
        all.push(smaller);
    };
    if wire.duration.0 > Duration::from_secs(2) {
        with(&|it| it.duration.0 /= 2);
    }
    for at in 0..wire.fault.len() {
        with(&|it| {
            it.fault.remove(at);
        });
    }
    if wire.churn.is_some() {
        with(&|it| it.churn = None);
    }
    if wire.network.routers >= 12 {
        with(&|it| it.network.routers = it.network.routers * 3 / 4);
    }
    let Network { uplink, link_life, natted, clock_skew, deferred, jitter, .. } = &wire.network;
    if uplink.is_some() {
        with(&|it| it.network.uplink = None);
    }
    if link_life.is_some() {
        with(&|it| it.network.link_life = None);
    }
    if *natted > 0.0 {
        with(&|it| it.network.natted = 0.0);
    }
    if !clock_skew.0.is_zero() {
        with(&|it| it.network.clock_skew = Span::default());
    }
    if !deferred.0.is_zero() {
        with(&|it| it.network.deferred = Span::default());
    }
    if *jitter > 0.0 {
        with(&|it| it.network.jitter = 0.0);
    }
    if wire.workload.browsing.is_some() {
        with(&|it| it.workload.browsing = None);
    }
    if wire.workload.bulk.is_some() {
        with(&|it| it.workload.bulk = None);
    }
    if wire.workload.chat.is_some() {
        with(&|it| it.workload.chat = None);
    }
    if wire.workload.store.is_some() {
        with(&|it| it.workload.store = None);
    }
    all
}

/// A watcher that sees nothing.
#[derive(Clone, Copy, Debug)]
pub struct Blind;

impl Watcher for Blind {
    fn progress(&mut self, _: Time, _: u64) -> bool {
        true
    }

    fn line(&mut self, _: Line) {}
}
