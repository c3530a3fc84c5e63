//! Guard discovery: a hostile second hop of a hidden service's tunnel sees the guard before it.
//!
//! Lives here: services with the **production layers** (`warren_overlay::tunnel::guards`: two guards, four
//! second hops, eight gateways, their lives and their rules) and **production paths** (`select::choose`),
//! against paths all of whose hops are drawn anew; who is found, and when. Does not live here: how a hop knows
//! that a tunnel is the service's: its next hop is a gateway that the descriptor names, which is granted at
//! once; taking members down, so that others are met (docs/threat-model.md, section 6.3).

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warren_overlay::{
    id::RouterId,
    ring::admission::Network,
    rng::Rng,
    time::{Now, Time},
    tunnel::{
        guards::{FIRST, Guards, Known, SECOND, THIRD},
        select::{self, Avoid, Wanted, Within},
    },
    wire::RouterDescriptor,
};

use super::{Adversary, Outcome, ends, hostile};
use crate::{
    curve::Trend,
    metric::{Metric, Metrics},
    rings::{self, EPOCH},
    run::Watcher,
    scenario::{ScenarioError, value},
    streams::Streams,
};

/// Hops of a service's tunnel.
const HOPS: usize = 3;
/// Most routers: each path is drawn from all of them.
const ROUTERS_MAX: u32 = 2_000;
/// Most paths of one seed, some ten seconds with 200 routers.
const PATHS_MAX: u64 = 4_000_000;
/// Layers are looked after this often; a router does each minute, and its members stay for days.
const LOOK_MINUTES: u32 = 60;
/// Points of a trend.
const POINTS: u32 = 60;
const DAY_MINUTES: u32 = 24 * 60;

/// Where a service's hops come from.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceHops {
    /// Layers that are kept, as our routers have them.
    #[default]
    Kept,
    /// All three are drawn anew with each tunnel.
    Drawn,
}

/// Second hops that look for guards.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GuardDiscovery {
    /// Share of the routers, all equally likely as hops.
    pub hostile: f64,
    /// Where hops come from.
    #[serde(default)]
    pub hops: ServiceHops,
    /// How many services, each on a router of its own that is none of those.
    #[serde(default = "default_services")]
    pub services: u32,
    /// Tunnels that a service holds.
    #[serde(default = "default_tunnels")]
    pub tunnels: u32,
    /// Minutes after which each is replaced.
    #[serde(default = "default_minutes")]
    pub minutes: u32,
    /// How long it goes on.
    #[serde(default = "default_days")]
    pub days: u32,
}

fn default_services() -> u32 {
    20
}

fn default_tunnels() -> u32 {
    5
}

fn default_minutes() -> u32 {
    10
}

fn default_days() -> u32 {
    30
}

/// What a hostile hop sees of a tunnel.
#[derive(Clone, Copy, Debug)]
struct Sight {
    before: RouterId,
    after: RouterId,
}

/// Knows the service's descriptor, and so its gateways.
#[derive(Debug, Default)]
struct Watching {
    gateways: BTreeSet<RouterId>,
    guard: Option<RouterId>,
}

impl Adversary for Watching {
    type Sight = Sight;
    /// The service's guard.
    type Guess = RouterId;

    fn see(&mut self, Sight { before, after }: Sight) {
        if self.gateways.contains(&after) {
            self.guard = Some(before);
        }
    }

    fn guess(&self) -> Option<RouterId> {
        self.guard
    }
}

/// One service, until it is found.
struct Service {
    own: RouterId,
    layers: [Guards; HOPS],
    /// Who may stand at each position, by the layers; empty where all are drawn anew.
    within: Vec<Within>,
    rng: Rng,
    /// The day on which its guard was found.
    found: Option<f64>,
}

/// All routers of one day, and who of them is hostile.
struct Day {
    view: Vec<Arc<RouterDescriptor>>,
    hostile: BTreeSet<RouterId>,
}

impl Day {
    fn new(network: &Network, (hostile, routers): (u32, u32), day: u32, streams: Streams) -> Self {
        let one = |seat: u32| {
            let [.., a, b] = seat.to_be_bytes();
            let at = ([40 + a, b, 1, 1], 9_000).into();
            let published = EPOCH.plus(day * DAY_MINUTES);
            rings::descriptor(network, &mut streams.of("keys", seat.into()), at, published)
        };
        let view: Vec<_> = (0..routers).map(one).collect();
        let hostile = view.iter().take(hostile as usize).map(|it| it.id()).collect();
        Self { view, hostile }
    }
}

impl Service {
    fn new(own: RouterId, rng: Rng) -> Self {
        let layers = [Guards::new(&FIRST), Guards::new(&SECOND), Guards::new(&THIRD)];
        Self { own, layers, within: Vec::new(), rng, found: None }
    }

    /// Layers by their rules; each takes nobody of those before it.
    fn maintain(&mut self, now: Now, view: &[Arc<RouterDescriptor>]) {
        let (none, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for layer in &mut self.layers {
            let known = Known { view, own: self.own, taken: &taken, last: &none };
            layer.maintain(now, &mut self.rng, known);
            taken.extend(layer.list().iter().map(|it| it.id));
        }
        let even = |ids: BTreeSet<RouterId>| ids.into_iter().map(|id| (id, 1)).collect();
        let members = |layer: &Guards| layer.members(now, view, self.own).map(even);
        self.within = self.layers.iter().map(members).collect();
    }

    /// A tunnel's hops.
    fn path(&mut self, now: Now, day: &Day) -> Option<[RouterId; HOPS]> {
        let wanted = Wanted {
            view: &day.view,
            own: self.own,
            hops: HOPS,
            first: None,
            within: &self.within,
            avoid: &Avoid::none(),
            resting: &BTreeSet::new(),
            not_last: &BTreeSet::new(),
        };
        let path = select::choose(&mut self.rng, now.wall, &wanted).ok()?;
        let ids: Vec<RouterId> = path.hops.iter().map(|it| it.id()).collect();
        ids.try_into().ok()
    }

    /// One more tunnel.
    fn build(&mut self, now: Now, day: &Day) {
        let Some([guard, second, gateway]) = self.path(now, day) else { return };
        let at = now.time.since(Time::ZERO).as_secs_f64() / 86_400.0;
        if day.hostile.contains(&second) {
            let mut watching = Watching { gateways: [gateway].into(), guard: None };
            watching.see(Sight { before: guard, after: gateway });
            if watching.guess() == Some(guard) {
                self.found.get_or_insert(at);
            }
        }
    }
}

impl GuardDiscovery {
    pub(super) fn check(&self, routers: u32) -> Result<(), ScenarioError> {
        hostile(self.hostile, routers)?;
        if !(40..=ROUTERS_MAX).contains(&routers) {
            return Err(value("network.routers", format!("40 to {ROUTERS_MAX}")));
        }
        if self.services == 0 || self.tunnels == 0 || !(1..=3_650).contains(&self.days) {
            return Err(value("adversary.days", "1 to 3,650; services and tunnels: at least 1"));
        }
        if self.minutes == 0 || !LOOK_MINUTES.is_multiple_of(self.minutes) {
            let why = format!("what divides {LOOK_MINUTES} without a rest");
            return Err(value("adversary.minutes", why));
        }
        let rounds = u64::from(self.days) * u64::from(DAY_MINUTES / self.minutes);
        let paths = rounds * u64::from(self.services) * u64::from(self.tunnels);
        if paths > PATHS_MAX {
            return Err(value("adversary.services", format!("{paths} paths: at most {PATHS_MAX}")));
        }
        Ok(())
    }

    pub(super) fn run(
        &self,
        routers: u32,
        streams: Streams,
        watcher: &mut dyn Watcher,
    ) -> Option<Outcome> {
        let (network, count) = (rings::network(), hostile(self.hostile, routers).unwrap_or(1));
        let mut services: Vec<Service> = (0..u64::from(self.services))
            .map(|no| {
                let mut rng = streams.of("service", no);
                Service::new(RouterId(rng.bytes()), rng)
            })
            .collect();
        let (kept, mut paths) = (self.hops == ServiceHops::Kept, 0);
        for day_no in 0..self.days {
            let day = Day::new(&network, (count, routers), day_no, streams);
            for round in 0..DAY_MINUTES / self.minutes {
                let minute = day_no * DAY_MINUTES + round * self.minutes;
                let time = Time::ZERO + Duration::from_secs(60 * u64::from(minute));
                let now = Now { time, wall: EPOCH.plus(minute) };
                if !watcher.progress(time, paths) {
                    return None;
                }
                // Who is found stays found.
                for service in services.iter_mut().filter(|it| it.found.is_none()) {
                    if kept && minute.is_multiple_of(LOOK_MINUTES) {
                        service.maintain(now, &day.view);
                    }
                    for _ in 0..self.tunnels {
                        service.build(now, &day);
                        paths += 1;
                    }
                }
            }
        }
        let share = f64::from(count) / f64::from(routers);
        Some(self.sum(&services, share, paths))
    }

    /// The chance that a service's guard is found by then: each draw of a second hop finds it with `share`.
    fn theory(&self, share: f64) -> impl Fn(f64) -> f64 {
        let hour = |minutes: u32| minutes.div_ceil(60);
        let life = [hour(SECOND.life.0), hour(SECOND.life.1)];
        let place = ends::survival(share, &|_| 1.0, life, self.days * 24);
        let kept = self.hops == ServiceHops::Kept;
        let places = u32::try_from(SECOND.count).unwrap_or(0);
        let a_day = f64::from(self.tunnels) * f64::from(DAY_MINUTES) / f64::from(self.minutes);
        let first = f64::from(self.tunnels);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "ten years at most"
        )]
        let hours = |days: f64| libm::round(days * 24.0) as u32;
        move |days| {
            if kept {
                1.0 - ends::both(&place, places, hours(days))
            } else {
                1.0 - libm::pow(1.0 - share, (a_day * days).max(first))
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
    fn sum(&self, services: &[Service], share: f64, paths: u64) -> Outcome {
        let all = services.len().max(1) as f64;
        let by = |days: f64| {
            services.iter().filter(|it| it.found.is_some_and(|at| at < days)).count() as f64 / all
        };
        let mut moments: Vec<f64> = services.iter().filter_map(|it| it.found).collect();
        moments.sort_by(f64::total_cmp);
        let half = moments.get(services.len().div_ceil(2) - 1);
        let days = f64::from(self.days);
        let points = || (1..=POINTS).map(|it| days * f64::from(it) / f64::from(POINTS));
        let theory = self.theory(share);
        let found: Vec<_> = points().map(|it| (it, by(it))).collect();
        let wanted: Vec<_> = points().map(|it| (it, theory(it))).collect();
        let mut metrics = Metrics::from([(Metric::GuardFound, by(days))]);
        metrics.extend(half.map(|at| (Metric::GuardFoundHalf, at * 86_400.0)));
        Outcome {
            events: paths,
            metrics,
            theory: Metrics::from([(Metric::GuardFound, theory(days))]),
            trends: [(Trend::GuardFound, found)].into(),
            theory_trends: [(Trend::GuardFound, wanted)].into(),
            ..Outcome::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_stands_before_a_published_gateway_learns_of_a_guard() {
        let id = |it: u8| RouterId([it; 32]);
        let mut watching = Watching { gateways: [id(3)].into(), guard: None };
        watching.see(Sight { before: id(9), after: id(2) });
        assert_eq!(watching.guess(), None);
        watching.see(Sight { before: id(1), after: id(3) });
        assert_eq!(watching.guess(), Some(id(1)));
    }

    #[test]
    fn kept_hops_stay_for_their_time_and_drawn_ones_do_not() {
        let streams = Streams::new(1);
        let day = Day::new(&rings::network(), (1, 60), 0, streams);
        let met = |kept: bool| {
            let mut service = Service::new(RouterId([7; 32]), streams.of("service", 0));
            let mut seconds = BTreeSet::new();
            for round in 0..100 {
                let now = Now { time: Time::ZERO, wall: EPOCH.plus(10 * round) };
                if kept {
                    service.maintain(now, &day.view);
                }
                seconds.insert(service.path(now, &day).unwrap()[1]);
            }
            seconds.len()
        };
        assert_eq!(met(true), SECOND.count);
        assert!(met(false) > 40);
    }
}
