//! Gossip poisoning: hostile routers name one another to their neighbours, again and again, and nobody else.
//!
//! Lives here: production rings (`rings.rs`) that grow and gossip for a while; what hostile ones push; whom
//! honest routers would then make tunnels of. Beside that what the same names make of a simple view, which
//! keeps whom it heard of last. Does not live here: false proofs (all identities have paid for their places),
//! lies in answers to questions, places around a victim (`sybil.rs`).

use std::{collections::BTreeSet, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warren_overlay::{
    ring::{DESCRIPTORS_MAX, RingMessage, VIEW_MAX},
    rng::Rng,
    time::Time,
};

use super::{Adversary, Outcome, below, hostile};
use crate::{
    curve::Trend,
    metric::{Metric, Metrics},
    rings::{Rings, Seat},
    run::Watcher,
    scenario::{Routing, ScenarioError, value},
    streams::Streams,
};

/// The first routers are the seeds of all others, and honest.
const SEEDS: Seat = 3;
/// Most routers: some minutes of CPU an hour.
const ROUTERS_MAX: u32 = 4_000;
/// A router starts this often.
const APART: Duration = Duration::from_millis(100);
/// What one link takes in, and what a hostile router sends over each: so much at once, and then a message of
/// three names each half minute.
const BURST: usize = 32;
const EVERY: Duration = Duration::from_secs(30);
/// Views are looked at this often.
const LOOK_MINUTES: u32 = 5;

/// Routers that push themselves.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Gossip {
    /// Share of the routers.
    pub hostile: f64,
    /// Other routers that each honest one remembers.
    #[serde(default = "default_known")]
    pub known: u32,
    /// How long it goes on.
    #[serde(default = "default_minutes")]
    pub minutes: u32,
}

fn default_known() -> u32 {
    128
}

fn default_minutes() -> u32 {
    60
}

/// A neighbour takes in another message.
#[derive(Clone, Copy, Debug)]
struct Sight;

/// Names its own in turn.
#[derive(Debug)]
struct Pusher {
    own: Vec<Seat>,
    next: usize,
}

impl Adversary for Pusher {
    type Sight = Sight;
    /// Who is named next.
    type Guess = Vec<Seat>;

    fn see(&mut self, Sight: Sight) {
        self.next = (self.next + DESCRIPTORS_MAX) % self.own.len().max(1);
    }

    fn guess(&self) -> Option<Vec<Seat>> {
        let from_next = self.own.iter().cycle().skip(self.next);
        Some(from_next.take(DESCRIPTORS_MAX.min(self.own.len())).copied().collect())
    }
}

/// A view that takes in whoever is named, and gives up somebody of chance for it.
#[derive(Debug, Default)]
struct Simple {
    known: Vec<Seat>,
}

impl Simple {
    fn hear(&mut self, named: Seat, most: usize, rng: &mut Rng) {
        if self.known.contains(&named) {
            return;
        }
        if self.known.len() < most {
            return self.known.push(named);
        }
        let out = usize::try_from(rng.below(most as u64)).unwrap_or(0);
        if let Some(out) = self.known.get_mut(out) {
            *out = named;
        }
    }
}

struct Stage {
    hostile: BTreeSet<Seat>,
    pusher: Pusher,
    /// Who pushes to whom by now.
    begun: BTreeSet<(Seat, Seat)>,
    simple: Vec<Simple>,
    known: usize,
    rng: Rng,
}

impl Stage {
    fn hear(&mut self, to: Seat, named: impl Iterator<Item = Seat>) {
        if let Some(simple) = self.simple.get_mut(to as usize) {
            named.filter(|it| *it != to).for_each(|it| simple.hear(it, self.known, &mut self.rng));
        }
    }

    /// Hostile routers name their own to all honest neighbours.
    fn push(&mut self, rings: &mut Rings, honest: &[Seat]) {
        for to in honest {
            let around = rings.neighbours(*to);
            for from in
                around.into_iter().filter(|it| self.hostile.contains(it)).collect::<Vec<_>>()
            {
                let messages = if self.begun.insert((from, *to)) { BURST } else { 1 };
                for _ in 0..messages {
                    let Some(named) = self.pusher.guess() else { return };
                    self.pusher.see(Sight);
                    let all =
                        named.iter().filter_map(|it| rings.descriptor(*it).cloned()).collect();
                    rings.say(from, *to, RingMessage::Gossip(all));
                    self.hear(*to, named.into_iter());
                }
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
fn share(of: &[Seat], hostile: &BTreeSet<Seat>) -> f64 {
    of.iter().filter(|it| hostile.contains(it)).count() as f64 / of.len().max(1) as f64
}

#[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

impl Gossip {
    pub(super) fn check(&self, routers: u32) -> Result<(), ScenarioError> {
        let hostile = hostile(self.hostile, routers)?;
        if routers > ROUTERS_MAX || hostile + SEEDS > routers {
            let why = format!("up to {ROUTERS_MAX}, and three of them honest");
            return Err(value("network.routers", why));
        }
        if !(32..=VIEW_MAX).contains(&(self.known as usize)) {
            return Err(value("adversary.known", format!("32 to {VIEW_MAX}")));
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
        let known = self.known as usize;
        let mut rings = Rings::new(routers, (degree, known), APART, streams);
        let mut draw = streams.of("hostile", 0);
        let mut hostile_seats = BTreeSet::new();
        while hostile_seats.len() < hostile(self.hostile, routers).unwrap_or(1) as usize {
            hostile_seats.insert(SEEDS + below(&mut draw, routers - SEEDS));
        }
        let honest: Vec<Seat> = (0..routers).filter(|it| !hostile_seats.contains(it)).collect();
        let own = hostile_seats.iter().copied().collect();
        let mut stage = Stage {
            hostile: hostile_seats,
            pusher: Pusher { own, next: 0 },
            begun: BTreeSet::new(),
            simple: (0..routers).map(|_| Simple::default()).collect(),
            known,
            rng: streams.of("simple", 0),
        };
        let (mut sampled, mut simple) = (Vec::new(), Vec::new());
        let end = Time::ZERO + Duration::from_secs(60 * u64::from(self.minutes));
        let (mut now, mut look) = (Time::ZERO, Time::ZERO);
        while now < end {
            now = (now + EVERY).min(end);
            if !watcher.progress(now, rings.events) {
                return None;
            }
            Self::turn(&mut rings, now, &mut stage);
            stage.push(&mut rings, &honest);
            if now >= look || now >= end {
                look = look + Duration::from_secs(60 * u64::from(LOOK_MINUTES));
                let minutes = now.since(Time::ZERO).as_secs_f64() / 60.0;
                let shares = |of: &dyn Fn(Seat) -> f64| honest.iter().map(|it| of(*it)).collect();
                let ours: Vec<f64> = shares(&|it| share(rings.hops(it), &stage.hostile));
                let theirs: Vec<f64> = shares(&|it| {
                    stage.simple.get(it as usize).map_or(0.0, |it| share(&it.known, &stage.hostile))
                });
                sampled.push((minutes, mean(&ours)));
                simple.push((minutes, mean(&theirs)));
            }
        }
        Some(Self::sum(&rings, &stage, &honest, [sampled, simple]))
    }

    /// Until the next push: hostile rings are as others, but for what they name.
    fn turn(rings: &mut Rings, until: Time, stage: &mut Stage) {
        let mut heard: Vec<(Seat, Vec<warren_overlay::id::RouterId>)> = Vec::new();
        rings.run(until, &mut |from, to, message| {
            let RingMessage::Gossip(named) = message else { return true };
            let honest = !stage.hostile.contains(&from);
            if honest && !stage.hostile.contains(&to) {
                heard.push((to, named.iter().map(|it| it.id()).collect()));
            }
            honest
        });
        for (to, named) in heard {
            stage.hear(to, named.iter().filter_map(|id| rings.seat(id)));
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
    fn sum(
        rings: &Rings,
        stage: &Stage,
        honest: &[Seat],
        [sampled, simple]: [Vec<(f64, f64)>; 2],
    ) -> Outcome {
        let last = |of: &[(f64, f64)]| of.last().map_or(0.0, |it| it.1);
        let most = honest.iter().map(|it| share(rings.hops(*it), &stage.hostile));
        let known: BTreeSet<Seat> = honest.iter().flat_map(|it| rings.hops(*it)).copied().collect();
        let unsampled = honest.iter().filter(|it| !known.contains(it)).count();
        let around: usize = honest.iter().map(|it| rings.neighbours(*it).len()).sum();
        Outcome {
            events: rings.events,
            metrics: Metrics::from([
                (Metric::ViewHostile, last(&sampled)),
                (Metric::ViewHostileMost, most.fold(0.0, f64::max)),
                (Metric::ViewHostileSimple, last(&simple)),
                (Metric::Unsampled, unsampled as f64 / honest.len().max(1) as f64),
                (Metric::Degree, around as f64 / honest.len().max(1) as f64),
            ]),
            trends: [(Trend::ViewHostile, sampled), (Trend::ViewHostileSimple, simple)].into(),
            ..Outcome::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pusher_names_all_of_its_own_in_turn() {
        let mut pusher = Pusher { own: (10..17).collect(), next: 0 };
        let mut named = Vec::new();
        for _ in 0..7 {
            named.extend(pusher.guess().unwrap());
            pusher.see(Sight);
        }
        let of = |seat: &Seat| named.iter().filter(|it| *it == seat).count();
        assert!(pusher.own.iter().all(|seat| of(seat) == 3), "{named:?}");
    }

    #[test]
    fn a_simple_view_is_of_whoever_was_named_last() {
        let mut rng = Rng::from_seed([1; 32]);
        let mut simple = Simple::default();
        (0..1_000).for_each(|it| simple.hear(it, 50, &mut rng));
        assert_eq!(simple.known.len(), 50);
        let late = simple.known.iter().filter(|it| **it >= 800).count();
        assert!(late > 40, "{late} of 50");
    }
}
