//! Crawling: routers that take part and write down every other that they are told of.
//!
//! Lives here: production rings (`rings.rs`), crawlers among them that also ask their neighbours who is around
//! points of chance; which routers are on their list after how long. Does not live here: dialling everybody
//! on the list, and blocking it, which is what a censor would do with it.
//!
//! That one takes part is nothing that Warren hides (docs/threat-model.md, section 1): this says how fast it
//! is found out.

use std::{collections::BTreeSet, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warren_overlay::{
    answer::Answer,
    id::{Location, RouterId},
    ring::{BUDGET_MAX, Body, Class, Found, RingMessage, Visited},
    rng::Rng,
    time::Time,
};

use super::{Adversary, Outcome};
use crate::{
    curve::Trend,
    metric::{Metric, Metrics},
    rings::{Rings, Seat},
    run::Watcher,
    scenario::{Routing, ScenarioError, value},
    streams::Streams,
};

/// Most routers: a minute or so of CPU.
const ROUTERS_MAX: u32 = 4_000;
/// A router starts this often; the crawlers come when all others are there.
const APART: Duration = Duration::from_millis(100);
/// Crawlers look at their lists and ask this often.
const EVERY: Duration = Duration::from_secs(1);
/// Numbers of crawlers' own questions: out of the way of those of their rings.
const ASKED_FROM: u32 = 0x8000_0000;

/// Routers that collect others.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Crawler {
    /// How many, beside the routers.
    pub crawlers: u32,
    /// Questions that each asks each neighbour a minute; 0: they only listen.
    #[serde(default)]
    pub asks: u32,
    /// How long it goes on, once the network stands.
    #[serde(default = "default_minutes")]
    pub minutes: u32,
}

fn default_minutes() -> u32 {
    30
}

/// Somebody names a router to a crawler.
#[derive(Clone, Copy, Debug)]
struct Sight {
    named: RouterId,
}

/// What all crawlers have written down.
#[derive(Debug, Default)]
struct List {
    known: BTreeSet<RouterId>,
}

impl Adversary for List {
    type Sight = Sight;
    /// How many are on it.
    type Guess = usize;

    fn see(&mut self, Sight { named }: Sight) {
        self.known.insert(named);
    }

    fn guess(&self) -> Option<usize> {
        Some(self.known.len())
    }
}

/// Whom a message names.
fn named(message: &RingMessage) -> Vec<RouterId> {
    match message {
        RingMessage::Gossip(all)
        | RingMessage::Answer { answer: Answer::Found(Found::Routers(all)), .. } => {
            all.iter().map(|it| it.id()).collect()
        }
        _ => Vec::new(),
    }
}

impl Crawler {
    pub(super) fn check(&self, routers: u32) -> Result<(), ScenarioError> {
        if routers + self.crawlers > ROUTERS_MAX || self.crawlers == 0 {
            return Err(value("adversary.crawlers", format!("some, and {ROUTERS_MAX} in all")));
        }
        if self.asks > 600 {
            return Err(value("adversary.asks", "at most 600 a minute"));
        }
        match self.minutes {
            1..=1_440 => Ok(()),
            minutes => Err(value("adversary.minutes", format!("1 to 1,440, not {minutes}"))),
        }
    }

    pub(super) fn run(
        &self,
        routing: &Routing,
        streams: Streams,
        watcher: &mut dyn Watcher,
    ) -> Option<Outcome> {
        let (routers, degree) = (routing.network.routers, routing.network.degree as usize);
        let known = warren_overlay::ring::VIEW_MAX;
        let mut rings = Rings::new(routers + self.crawlers, (degree, known), APART, streams);
        let crawlers: Vec<Seat> = (routers..routers + self.crawlers).collect();
        let (mut list, mut rng) = (List::default(), streams.of("asks", 0));
        let begin = Time::ZERO + APART * routers;
        let end = begin + Duration::from_secs(60 * u64::from(self.minutes));
        let (mut now, mut asked, mut trend) = (Time::ZERO, ASKED_FROM, Vec::new());
        while now < end {
            now = if now < begin { begin } else { (now + EVERY).min(end) };
            if !watcher.progress(now, rings.events) {
                return None;
            }
            rings.run(now, &mut |_, to, message| {
                if to >= routers {
                    for named in named(message) {
                        list.see(Sight { named });
                    }
                }
                true
            });
            if now > begin {
                self.ask(&mut rings, &crawlers, &mut asked, &mut rng);
                let found = list.known.iter().filter_map(|id| rings.seat(id));
                let found = found.filter(|seat| *seat < routers).count();
                #[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
                let share = found as f64 / f64::from(routers);
                trend.push((now.since(begin).as_secs_f64() / 60.0, share));
            }
        }
        let share = trend.last().map_or(0.0, |it| it.1);
        let half = trend.iter().find(|it| it.1 >= 0.5).map(|it| it.0 * 60.0);
        let mut metrics = Metrics::from([(Metric::Enumerated, share)]);
        metrics.extend(half.map(|seconds| (Metric::EnumeratedHalf, seconds)));
        let step = (trend.len() / 60).max(1);
        let trend = trend.into_iter().step_by(step).collect();
        Some(Outcome {
            events: rings.events,
            metrics,
            trends: [(Trend::Enumerated, trend)].into(),
            ..Outcome::default()
        })
    }

    /// Each crawler asks each neighbour who is around a point of chance, if it is its turn.
    fn ask(&self, rings: &mut Rings, crawlers: &[Seat], asked: &mut u32, rng: &mut Rng) {
        for crawler in crawlers {
            for to in rings.neighbours(*crawler) {
                let one_more = rng.below(60) < u64::from(self.asks % 60);
                for _ in 0..self.asks / 60 + u32::from(one_more) {
                    *asked += 1;
                    let body = Body::Find(Location(rng.below(u64::MAX)));
                    let (id, budget) = (*asked, BUDGET_MAX);
                    let (class, visited) = (Class::Interactive, Visited::default());
                    rings.say(
                        *crawler,
                        to,
                        RingMessage::Request { id, budget, class, visited, body },
                    );
                }
            }
        }
    }
}
