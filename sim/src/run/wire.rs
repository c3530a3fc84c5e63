//! A run with routers: production routers, people, faults.

use std::{collections::BTreeSet, path::Path, time::Duration};

use warren_overlay::{crypto::suite, service::Name, time::Time};

use super::{
    Part, Report, Watcher, heal, measure,
    store::{StoreMoment, StoreState},
};
use crate::{
    apps::Purpose,
    chance::{Times, exponential},
    churn::{Comings, read_trace},
    conn::Uplink,
    latency::Latency,
    net::{HostNo, Wires},
    oracle::Oracle,
    replicas::Replicas,
    scenario::{Ciphers, Fault, ScenarioError, Wire},
    stand_in::STAND_IN,
    world::{SEEDS, Setup, Step, World},
};

/// In networks of up to so many routers each event is looked at; larger ones would take twice as long.
const EACH_MAX: u32 = 100;
/// A router that leaves in order hands over for three seconds, says goodbye and ends.
const LEAVE_LIMIT: Duration = Duration::from_secs(4);
/// How often the whole is looked at from outside.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A scenario with its files loaded.
#[derive(Clone, Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) wire: &'a Wire,
    latency: Latency,
    comings: Option<Comings>,
}

/// What the plan wants done at a moment.
#[derive(Clone, Copy, Debug)]
pub(super) enum Moment {
    /// A router starts for the first time.
    First(HostNo),
    /// Churn starts a router or ends it.
    Turn(HostNo),
    /// Entry of a churn trace.
    Traced(u32),
    /// A client wishes for something.
    Wish(u32),
    /// A fault begins.
    Begin(u32),
    /// A fault is over.
    End(u32),
    /// A router that left in order has had its time.
    Gone(HostNo),
    /// Somebody looks.
    Look,
    /// Something of the store's workload.
    Store(StoreMoment),
}

impl Moment {
    fn token(self) -> u64 {
        let (kind, index) = match self {
            Self::First(no) => (0, no),
            Self::Turn(no) => (1, no),
            Self::Traced(no) => (2, no),
            Self::Wish(no) => (3, no),
            Self::Begin(no) => (4, no),
            Self::End(no) => (5, no),
            Self::Look => (6, 0),
            Self::Gone(no) => (10, no),
            Self::Store(StoreMoment::Item) => (7, 0),
            Self::Store(StoreMoment::Wish(no)) => (8, no),
            Self::Store(StoreMoment::Sweep(no)) => (9, no),
        };
        kind << 32 | u64::from(index)
    }

    fn of(token: u64) -> Self {
        let index = u32::try_from(token & u64::from(u32::MAX)).unwrap_or(0);
        match token >> 32 {
            0 => Self::First(index),
            1 => Self::Turn(index),
            2 => Self::Traced(index),
            3 => Self::Wish(index),
            4 => Self::Begin(index),
            5 => Self::End(index),
            10 => Self::Gone(index),
            7 => Self::Store(StoreMoment::Item),
            8 => Self::Store(StoreMoment::Wish(index)),
            9 => Self::Store(StoreMoment::Sweep(index)),
            _ => Self::Look,
        }
    }
}

/// Somebody at a router.
#[derive(Clone, Copy, Debug)]
struct Client {
    host: HostNo,
    /// Which of the services.
    service: u32,
    purpose: Purpose,
    every: Duration,
    /// Sizes are drawn around the purpose's.
    drawn: bool,
}

/// One run.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) plan: &'a Plan<'a>,
    pub(super) world: World,
    pub(super) store: StoreState,
    services: Vec<Name>,
    clients: Vec<Client>,
    /// Whether churn has each router online.
    online: Vec<bool>,
    /// Routers that are leaving in order.
    leaving: BTreeSet<HostNo>,
    /// Each fault's routers.
    victims: Vec<Vec<HostNo>>,
    /// When each router started first, and became ready.
    started: Vec<Option<Time>>,
    ready: Vec<Option<Time>>,
    pub(super) oracle: Oracle,
    replicas: Replicas,
}

impl<'a> Plan<'a> {
    /// Loads the files that a scenario names.
    pub(crate) fn new(wire: &'a Wire, folder: &Path) -> Result<Self, ScenarioError> {
        let latency = wire.network.latency.load(folder)?;
        let comings = match &wire.churn {
            None => None,
            Some(churn) => Some(match (churn.sessions(), &churn.file) {
                (Some(sessions), _) => Comings::Drawn {
                    sessions,
                    pauses: Times::Exponential {
                        mean: churn.offline.map_or(1.0, |it| it.0.as_secs_f64()),
                    },
                    diurnal: churn.diurnal,
                },
                (None, file) => {
                    let file = file.clone().unwrap_or_default();
                    let bad = |why: String| ScenarioError::Value {
                        key: "churn.file",
                        why: format!("{file}: {why}"),
                    };
                    let text = std::fs::read_to_string(folder.join(&file))
                        .map_err(|error| bad(error.to_string()))?;
                    Comings::Trace(read_trace(&text).map_err(bad)?)
                }
            }),
        };
        Ok(Self { wire, latency, comings })
    }

    fn setup(&self, seed: u64) -> Setup {
        let network = &self.wire.network;
        let uplink =
            network.uplink.map(|rate| Uplink { rate: rate.0, burst: (rate.0 / 8).max(65_536) });
        Setup {
            seed,
            routers: network.routers,
            degree: network.degree,
            hops: network.hops,
            known_max: network.known,
            invited: network.invited,
            wires: Wires {
                latency: self.latency.clone(),
                jitter: network.jitter,
                breaks: network.link_life.map(|it| it.0),
            },
            deferred: network.deferred.0,
            stagger: network.stagger.0,
            uplink,
            natted: network.natted,
            skew_minutes: u32::try_from(network.clock_skew.0.as_secs() / 60).unwrap_or(u32::MAX),
            disk: network.disk.map(|it| it.0),
            padding_counted: self.wire.counts_padding(),
            ..Setup::default()
        }
    }

    /// Runs one seed; `None` if the watcher ended it.
    pub(crate) fn run(&self, seed: u64, part: Part, watcher: &mut dyn Watcher) -> Option<Report> {
        let stand_in: Option<&'static dyn suite::Suite> = match self.wire.fidelity {
            Ciphers::Wire => None,
            Ciphers::Full => Some(&STAND_IN),
        };
        suite::within(part.suite.or(stand_in), || self.run_within(seed, part, watcher))
    }

    fn run_within(&self, seed: u64, part: Part, watcher: &mut dyn Watcher) -> Option<Report> {
        let mut run = Run::new(self, seed);
        run.schedule();
        let until = part.until.unwrap_or(Time::from_micros(u64::MAX));
        let end = until.min(Time::ZERO + self.wire.warmup.0 + self.wire.duration.0);
        if let Some(no) = part.watch {
            run.world.net.watch(no);
        }
        loop {
            let step = run.world.step(end);
            for line in run.world.net.take_lines() {
                watcher.line(line);
            }
            let moment = match step {
                None => break,
                Some(Step::Event(no)) => {
                    run.event(no);
                    continue;
                }
                Some(Step::Moment(token)) => Moment::of(token),
            };
            match moment {
                Moment::Look => {
                    if !watcher.progress(run.world.net.time(), run.world.net.events()) {
                        return None;
                    }
                    run.look();
                }
                moment => run.happen(moment),
            }
        }
        run.oracle.look(&run.world);
        if let Some(limit) = self.wire.heal
            && until > end
            && !heal::heal(&mut run, limit.0, until, watcher)
        {
            return None;
        }
        Some(run.report())
    }
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan<'a>, seed: u64) -> Self {
        let mut world = World::new(plan.setup(seed));
        if plan.wire.network.routers <= EACH_MAX {
            world.net.look_at_each();
        }
        let routers = plan.wire.network.routers;
        Self {
            online: vec![true; routers as usize],
            leaving: BTreeSet::new(),
            started: vec![None; routers as usize],
            ready: vec![None; routers as usize],
            victims: Vec::new(),
            services: Vec::new(),
            clients: Vec::new(),
            store: StoreState::default(),
            replicas: Replicas::default(),
            oracle: Oracle::new(!world.setup().deferred.is_zero()),
            world,
            plan,
        }
    }

    pub(super) fn at(&mut self, at: Time, moment: Moment) {
        self.world.at(at, moment.token());
    }

    /// Asks for every moment that is known from the start.
    fn schedule(&mut self) {
        let wire = self.plan.wire;
        let begin = Time::ZERO + wire.warmup.0;
        let stable = wire.churn.as_ref().map_or(u32::MAX, |churn| churn.stable);
        for no in 0..wire.network.routers {
            let first = Time::ZERO + wire.network.stagger.0 * no;
            self.at(first, Moment::First(no));
            if let Some(comings @ Comings::Drawn { .. }) = &self.plan.comings
                && no >= stable.max(wire.workload.services)
            {
                let mut rng = self.world.net.streams().of("comings", no.into());
                let (online, left) = comings.first(&mut rng);
                if let Some(entry) = self.online.get_mut(no as usize) {
                    *entry = online;
                }
                self.at(first + left, Moment::Turn(no));
            }
        }
        if let Some(Comings::Trace(entries)) = &self.plan.comings {
            for (index, (no, at, _)) in (0..).zip(entries) {
                if *no >= stable && *no < wire.network.routers {
                    self.at(*at, Moment::Traced(index));
                }
            }
            // Who has an entry is offline until the first says otherwise.
            for (no, ..) in entries.iter().filter(|(no, ..)| *no >= stable) {
                if let Some(entry) = self.online.get_mut(*no as usize) {
                    *entry = false;
                }
            }
        }
        self.schedule_faults(begin);
        self.schedule_clients(begin);
        self.schedule_store(begin);
        self.at(Time::ZERO + LOOK_EVERY, Moment::Look);
    }

    fn schedule_faults(&mut self, begin: Time) {
        let routers = self.plan.wire.network.routers;
        let spared = SEEDS.max(self.plan.wire.workload.services);
        for (index, fault) in (0u32..).zip(&self.plan.wire.fault) {
            let mut rng = self.world.net.streams().of("fault", index.into());
            let (at, until, share, spared) = match *fault {
                Fault::Kill { at, share, until } => (at, until, share, spared),
                Fault::Partition { at, share, until } => (at, Some(until), share, 0),
                Fault::Sleep { at, share, until } => (at, Some(until), share, spared),
                Fault::Breaks { at, until, .. } => (at, Some(until), 0.0, routers),
            };
            self.victims.push((spared..routers).filter(|_| rng.unit() < share).collect());
            self.at(begin + at.0, Moment::Begin(index));
            if let Some(until) = until {
                self.at(begin + until.0, Moment::End(index));
            }
        }
    }

    fn schedule_clients(&mut self, begin: Time) {
        let workload = &self.plan.wire.workload;
        let one = |kind, bytes: u64, exchanges, pause| Purpose {
            kind,
            bytes,
            exchanges,
            pause,
            reads: true,
        };
        let mut kinds = Vec::new();
        if let Some(it) = workload.browsing {
            kinds.push((
                it.clients,
                it.every,
                one("browsing", it.bytes.0, 1, Duration::ZERO),
                true,
            ));
        }
        if let Some(it) = workload.bulk {
            kinds.push((it.clients, it.every, one("bulk", it.bytes.0, 1, Duration::ZERO), true));
        }
        if let Some(it) = workload.chat {
            let purpose = one("chat", it.bytes.0, it.messages, it.pause.0);
            kinds.push((it.clients, it.every, purpose, false));
        }
        for (clients, every, purpose, drawn) in kinds {
            for _ in 0..clients {
                let no = u32::try_from(self.clients.len()).unwrap_or(u32::MAX);
                let mut rng = self.world.net.streams().of("client", no.into());
                let mut draw = |of: u32| u32::try_from(rng.below(of.into())).unwrap_or(0);
                let host = draw(self.plan.wire.network.routers);
                let service = draw(workload.services);
                self.clients.push(Client { host, service, purpose, every: every.0, drawn });
                let first = every.0.mul_f64(exponential(&mut rng));
                self.at(begin + first, Moment::Wish(no));
            }
        }
    }

    fn happen(&mut self, moment: Moment) {
        match moment {
            Moment::First(no) => {
                if self.online.get(no as usize).is_some_and(|online| *online) {
                    self.start(no);
                }
                if no < self.plan.wire.workload.services {
                    self.services.push(self.world.expose(no).1);
                }
            }
            Moment::Turn(no) => self.turn(no),
            Moment::Traced(index) => {
                if let Some(Comings::Trace(entries)) = &self.plan.comings
                    && let Some((no, _, up)) = entries.get(index as usize)
                {
                    if *up { self.start(*no) } else { self.stop(*no) }
                }
            }
            Moment::Wish(client) => self.wish(client),
            Moment::Begin(fault) => self.fault(fault, true),
            Moment::End(fault) => self.fault(fault, false),
            Moment::Gone(no) => self.gone(no),
            Moment::Store(moment) => self.store_happens(moment),
            Moment::Look => {}
        }
    }

    fn start(&mut self, no: HostNo) {
        self.gone(no);
        self.world.start_router(no);
        if let Some(started) = self.started.get_mut(no as usize) {
            started.get_or_insert(self.world.net.time());
        }
    }

    /// A router's session ends: as by a crash, or in order.
    fn stop(&mut self, no: HostNo) {
        let graceful = self.plan.wire.churn.as_ref().map_or(0.0, |churn| churn.graceful);
        let now = self.world.net.time().as_micros();
        let mut rng = self.world.net.streams().of("goodbye", now ^ u64::from(no) << 44);
        if rng.unit() < graceful && self.world.net.host(no).is_some() {
            if self.plan.wire.network.routers <= EACH_MAX {
                self.replicas.leaves(&self.world, no);
            }
            self.leaving.insert(no);
            self.world.leave(no);
            self.at(self.world.net.time() + LEAVE_LIMIT, Moment::Gone(no));
        } else {
            self.world.kill(no);
        }
    }

    /// A router that leaves in order, if it does, has had its time.
    fn gone(&mut self, no: HostNo) {
        if !self.leaving.remove(&no) {
            return;
        }
        if let Some(what) = self.replicas.gone(no) {
            self.oracle.tell("replicas", true, (self.world.net.time(), no), what);
        }
        self.world.kill(no);
    }

    /// Whoever is leaving is gone now.
    pub(super) fn end_leaves(&mut self) {
        while let Some(no) = self.leaving.first().copied() {
            self.gone(no);
        }
    }

    /// Something happened at a router.
    pub(super) fn event(&mut self, no: HostNo) {
        self.oracle.event(&self.world.net, no);
        self.replicas.event(&self.world, no);
    }

    fn turn(&mut self, no: HostNo) {
        let Some(comings) = &self.plan.comings else { return };
        let Some(online) = self.online.get_mut(no as usize) else { return };
        *online = !*online;
        let online = *online;
        let now = self.world.net.time();
        let mut rng = self.world.net.streams().of("turn", now.as_micros() ^ u64::from(no) << 44);
        let left = comings.next(now, online, &mut rng);
        if online {
            self.start(no);
        } else {
            self.stop(no);
        }
        self.at(now + left, Moment::Turn(no));
    }

    fn wish(&mut self, no: u32) {
        let Some(client) = self.clients.get(no as usize).copied() else { return };
        let now = self.world.net.time();
        let mut rng = self.world.net.streams().of("wish", now.as_micros() ^ u64::from(no) << 44);
        self.at(now + client.every.mul_f64(exponential(&mut rng)), Moment::Wish(no));
        let Some(name) = self.services.get(client.service as usize).copied() else { return };
        if self.world.net.host(client.host).is_none() || self.world.net.is_asleep(client.host) {
            return;
        }
        let mut purpose = client.purpose;
        if client.drawn {
            #[expect(clippy::cast_precision_loss, reason = "a size in bytes is below 2^52")]
            let sizes = Times::Lognormal { mean: purpose.bytes as f64, sigma: 1.0 };
            purpose.bytes = sizes.draw(&mut rng).as_secs().max(1);
        }
        self.world.ask(client.host, name, purpose, u16::try_from(no % 65_536).unwrap_or(0));
    }

    fn fault(&mut self, index: u32, begins: bool) {
        let Some(fault) = self.plan.wire.fault.get(index as usize).copied() else { return };
        let victims = self.victims.get(index as usize).cloned().unwrap_or_default();
        match fault {
            Fault::Kill { .. } => {
                for no in victims {
                    if begins { self.world.kill(no) } else { self.start(no) }
                }
            }
            Fault::Partition { .. } if begins => {
                for no in victims {
                    self.world.net.divide(no, 1);
                }
            }
            Fault::Partition { .. } => self.world.net.heal(),
            Fault::Sleep { .. } => {
                for no in victims {
                    self.world.net.sleep(no, begins);
                }
            }
            Fault::Breaks { life, .. } => {
                let usual = self.plan.wire.network.link_life.map(|it| it.0);
                self.world.net.set_breaks(if begins { Some(life.0) } else { usual });
            }
        }
    }

    pub(super) fn look(&mut self) {
        let now = self.world.net.time();
        if let Some((host, item)) = self.world.stock().wrong() {
            let what = format!("item {item}: what came is not what was stored");
            self.oracle.tell("bytes", true, (now, host), what);
        }
        for (no, (ready, started)) in (0..).zip(self.ready.iter_mut().zip(&self.started)) {
            if ready.is_none()
                && started.is_some()
                && let Some(host) = self.world.net.host(no)
                && host.status(self.world.net.now(no)).ready
            {
                *ready = Some(now);
            }
        }
        self.oracle.look(&self.world);
        self.at(now + LOOK_EVERY, Moment::Look);
    }

    fn report(mut self) -> Report {
        let world = &mut self.world;
        let waited = |(start, ready): (&Option<Time>, &Option<Time>)| {
            Some((*ready)?.since((*start)?).as_secs_f64())
        };
        let waits: Vec<f64> = self.started.iter().zip(&self.ready).filter_map(waited).collect();
        Report {
            seed: world.setup().seed,
            hash: world.net.hash(),
            events: world.net.events(),
            end: world.net.time(),
            metrics: measure::metrics(world, &waits),
            curves: measure::curves(world, &waits),
            outcomes: measure::outcomes(world),
            rows: measure::rows(world),
            store_rows: measure::store_rows(world),
            violations: self.oracle.take(),
            ..Report::default()
        }
    }
}
