//! What floods have in common: a network of production routers that stands, attackers among them, and people.
//!
//! Lives here: the routers, the links between attackers and others, and people who go on reading a page.
//! Does not live here: what attackers send (`build_flood.rs`, `introduction_flood.rs`).

use std::{collections::BTreeMap, time::Duration};

use warren_overlay::{
    id::{EndNo, LinkNo, RouterId, TunnelId},
    plane::LinkEvent,
    service::Name,
    time::Time,
    wire::LinkMessage,
};
use warren_router::node::NodeInput;

use crate::{
    metric::{Metric, Metrics, quantile},
    net::HostNo,
    run::Watcher,
    scenario::{ScenarioError, value},
    world::{Setup, World},
};

/// Attackers act this often.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// Ticks in a second.
pub(super) const TICKS: u32 = 10;
/// A network has this long to stand, and its service to be published.
const STAND_MAX: Duration = Duration::from_mins(1);
/// Bytes of the page that people read, one of them each second.
const PAGE: u64 = 1_000;
/// A wish that came true within it was fast enough.
const IN_TIME: f64 = 10.0;
/// Seconds of flood after the last wish.
const TAIL: u32 = 15;
/// Most routers: a second of flood costs some CPU-milliseconds at each.
const ROUTERS_MAX: u32 = 200;
/// Fewer are no network in which tunnels could go elsewhere.
const HONEST_MIN: u32 = 8;
/// Most seconds.
const SECONDS_MAX: u32 = 600;

/// Whether so many routers, of which this share is hostile, can be besieged so hard and so long.
pub(super) fn check(
    routers: u32,
    hostile: f64,
    times: f64,
    seconds: u32,
) -> Result<(), ScenarioError> {
    let hostile = super::hostile(hostile, routers)?;
    if routers > ROUTERS_MAX || routers - hostile < HONEST_MIN {
        let why = format!("up to {ROUTERS_MAX}, and {HONEST_MIN} of them honest");
        return Err(value("network.routers", why));
    }
    if !(0.0..=1_000.0).contains(&times) {
        return Err(value("adversary.times", "0 to 1,000"));
    }
    match seconds {
        1..=SECONDS_MAX => Ok(()),
        _ => Err(value("adversary.seconds", format!("1 to {SECONDS_MAX}, not {seconds}"))),
    }
}

/// A network that stands; routers from `hostile` on are the attackers'. The first has a service.
pub(super) struct Siege {
    pub(super) world: World,
    hostile: HostNo,
    name: Name,
    end: EndNo,
    lane: u32,
    numbers: BTreeMap<RouterId, HostNo>,
}

impl Siege {
    pub(super) fn new(setup: Setup, hostile: HostNo) -> Self {
        let routers = setup.routers;
        let mut world = World::new(setup);
        world.start();
        world.run_until(STAND_MAX, |world| world.ready() == routers);
        let (end, name) = world.expose(0);
        world.run_until(STAND_MAX, |world| world.published(0, end));
        let numbers = world.net.hosts().map(|(no, host)| (host.descriptor().id(), no)).collect();
        Self { world, hostile, name, end, lane: 0x4000_0000, numbers }
    }

    /// The service, at the first router.
    pub(super) const fn service(&self) -> EndNo {
        self.end
    }

    pub(super) fn number(&self, id: &RouterId) -> Option<HostNo> {
        self.numbers.get(id).copied()
    }

    /// The links over which attackers reach `no`.
    pub(super) fn links(&self, no: HostNo) -> Vec<LinkNo> {
        let links = self.world.net.host(no).into_iter().flat_map(|host| host.node_ref().links());
        let theirs = links.filter(|(_, id)| self.number(id).is_some_and(|no| no >= self.hostile));
        theirs.map(|(link, _)| link).collect()
    }

    /// Something comes to `no` over a link, on a lane of the other side's choice: whichever half of the
    /// numbers that is, so it is said in both, and one of them is refused.
    pub(super) fn send(
        &mut self,
        no: HostNo,
        link: LinkNo,
        message: impl Fn(TunnelId) -> LinkMessage,
    ) {
        self.lane += 1;
        for lane in [self.lane, self.lane | 0x8000_0000] {
            let event = LinkEvent::Message(Box::new(message(TunnelId(lane))));
            self.world.net.with(no, |host, now| host.node(now, NodeInput::Link { link, event }));
        }
    }

    /// For so many seconds somebody honest wishes for the page each second; attackers act each tick, and a
    /// while longer. False if the watcher ended it.
    pub(super) fn hold(
        &mut self,
        seconds: u32,
        watcher: &mut dyn Watcher,
        act: &mut dyn FnMut(&mut Self),
    ) -> bool {
        for tick in 0..TICKS * (seconds + TAIL) {
            act(self);
            let second = tick / TICKS;
            if tick % TICKS == TICKS / 2 && second < seconds {
                let client = 1 + second % (self.hostile - 1);
                let context = u16::try_from(second).unwrap_or(0);
                self.world.fetch(client, self.name, PAGE, context);
            }
            self.world.run(self.world.net.time() + TICK);
            if tick % TICKS == 0
                && !watcher.progress(self.world.net.time(), self.world.net.events())
            {
                return false;
            }
        }
        true
    }

    /// What became of the wishes.
    #[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
    pub(super) fn wishes(&self) -> Metrics {
        let fetches = self.world.fetches();
        let all = fetches.len().max(1) as f64;
        let wait = |first: Time, asked: Time| first.since(asked).as_secs_f64();
        let mut waits: Vec<f64> =
            fetches.iter().filter_map(|it| Some(wait(it.first?, it.asked))).collect();
        waits.sort_by(f64::total_cmp);
        let done = fetches.iter().filter(|it| it.done()).count() as f64;
        let fast = waits.iter().filter(|it| **it <= IN_TIME).count() as f64;
        let mut metrics =
            Metrics::from([(Metric::Success, done / all), (Metric::InTime, fast / all)]);
        for (metric, share) in [(Metric::FirstP50, 0.5), (Metric::FirstP95, 0.95)] {
            metrics.extend(quantile(&waits, share).map(|it| (metric, it)));
        }
        metrics
    }
}

/// So many of something each tick, on average.
#[derive(Debug, Default)]
pub(super) struct Rhythm {
    owed: f64,
}

impl Rhythm {
    /// How many are due in the next tick, where there are `a_second`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive; far below 2^32"
    )]
    pub(super) fn next(&mut self, a_second: f64) -> u32 {
        self.owed += a_second / f64::from(TICKS);
        let due = libm::floor(self.owed);
        self.owed -= due;
        due as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rhythm_gives_as_many_as_it_says_whatever_falls_into_a_tick() {
        for a_second in [0.0, 3.0, 10.0, 25.0] {
            let mut rhythm = Rhythm::default();
            let all: u32 = (0..100).map(|_| rhythm.next(a_second)).sum();
            assert!((f64::from(all) - 10.0 * a_second).abs() <= 1.0, "{a_second}: {all}");
        }
    }
}
