//! The predecessor attack: hostile members note who was before them, round after round.
//!
//! Lives here: one initiator who makes a new path each round for something that is known again (the
//! same service, the same account); Crowds (Reiter and Rubin 1998), and tunnels of three hops without
//! guards. Does not live here: tunnels with guards (`ends.rs`), which is the answer to it.
//!
//! In Crowds the first hostile member of a path knows what it is for, since it can read it. In tunnels
//! only the end hop does, and a hostile one compares times with those before it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warren_overlay::{rng::Rng, time::Time};

use super::{Adversary, Outcome, anonymity, below, hostile};
use crate::{
    curve::{Curve, Distribution, Trend},
    metric::{Metric, Metrics},
    run::Watcher,
    scenario::{ScenarioError, value},
    streams::Streams,
};

/// Most rounds of one seed.
const ROUNDS_MAX: u64 = 50_000_000;
/// Members that a path of Crowds may have: it is longer once in 10^30, at a chance of 0.95.
const PATH_MAX: u32 = 1_400;

/// Hostile members who note their predecessors.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Predecessor {
    /// Share of the routers.
    pub hostile: f64,
    /// How paths are made.
    pub paths: Paths,
    /// Of `crowds`: the chance that a member passes on to another instead of out.
    #[serde(default = "default_forward")]
    pub forward: f64,
    /// Initiators, one after the other.
    #[serde(default = "default_initiators")]
    pub initiators: u32,
    /// Paths that each makes.
    #[serde(default = "default_rounds")]
    pub rounds: u32,
    /// Somebody is named who was seen so many times more often than anybody else.
    #[serde(default = "default_margin")]
    pub margin: u32,
}

/// How paths are made. Members know each other, and nobody has guards.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Paths {
    /// Each member tosses a coin whether to pass on; anybody may come again.
    Crowds,
    /// Three hops, nobody twice.
    Tunnels,
}

fn default_forward() -> f64 {
    0.75
}

fn default_initiators() -> u32 {
    200
}

fn default_rounds() -> u32 {
    500
}

fn default_margin() -> u32 {
    5
}

/// What the first hostile member of a path that is known again sees.
#[derive(Clone, Copy, Debug)]
struct Sight {
    before: u32,
}

/// Counts.
#[derive(Debug)]
struct Log {
    margin: u32,
    /// Of each member.
    counts: Vec<u32>,
    /// The member seen most, and how often the next was.
    first: Option<u32>,
    second: u32,
}

impl Log {
    fn new(members: u32, margin: u32) -> Self {
        Self { margin, counts: vec![0; members as usize], first: None, second: 0 }
    }

    fn count(&self, member: Option<u32>) -> u32 {
        member.and_then(|it| self.counts.get(it as usize)).copied().unwrap_or(0)
    }
}

impl Adversary for Log {
    type Sight = Sight;
    type Guess = u32;

    fn see(&mut self, Sight { before }: Sight) {
        if let Some(count) = self.counts.get_mut(before as usize) {
            *count += 1;
        }
        if self.first == Some(before) {
            return;
        }
        if self.count(Some(before)) > self.count(self.first) {
            self.second = self.count(self.first);
            self.first = Some(before);
        } else {
            self.second = self.second.max(self.count(Some(before)));
        }
    }

    fn guess(&self) -> Option<u32> {
        self.first.filter(|_| self.count(self.first) >= self.second + self.margin)
    }
}

/// The initiator is member 0, members 1 to `hostile` are hostile.
#[derive(Clone, Copy, Debug)]
struct Stage {
    hostile: u32,
    members: u32,
}

impl Stage {
    const INITIATOR: u32 = 0;

    fn is_hostile(self, member: u32) -> bool {
        (1..=self.hostile).contains(&member)
    }

    fn crowds(self, forward: f64, rng: &mut Rng) -> Option<Sight> {
        let mut before = Self::INITIATOR;
        for _ in 0..PATH_MAX {
            let next = below(rng, self.members);
            if self.is_hostile(next) {
                return Some(Sight { before });
            }
            if rng.unit() >= forward {
                return None;
            }
            before = next;
        }
        None
    }

    fn tunnel(self, rng: &mut Rng) -> Option<Sight> {
        let other = |taken: &[u32], rng: &mut Rng| loop {
            let drawn = 1 + below(rng, self.members - 1);
            if !taken.contains(&drawn) {
                return drawn;
            }
        };
        let first = other(&[], rng);
        let middle = other(&[first], rng);
        let last = other(&[first, middle], rng);
        match (self.is_hostile(first), self.is_hostile(middle), self.is_hostile(last)) {
            (true, _, true) => Some(Sight { before: Self::INITIATOR }),
            (false, true, true) => Some(Sight { before: first }),
            // A hostile end hop alone sees only who is in the middle, and knows that.
            _ => None,
        }
    }
}

impl Predecessor {
    pub(super) fn check(&self, routers: u32) -> Result<(), ScenarioError> {
        let hostile = hostile(self.hostile, routers)?;
        if hostile + 2 > routers {
            return Err(value("adversary.hostile", "the initiator, and one more, are honest"));
        }
        if !(0.5..=0.95).contains(&self.forward) {
            return Err(value("adversary.forward", "0.5 to 0.95"));
        }
        if self.initiators == 0 || self.rounds == 0 || self.margin == 0 {
            return Err(value("adversary.rounds", "and initiators and margin: at least 1"));
        }
        let all = u64::from(self.initiators) * u64::from(self.rounds);
        if all > ROUNDS_MAX {
            return Err(value("adversary.rounds", format!("{all} paths: at most {ROUNDS_MAX}")));
        }
        Ok(())
    }

    pub(super) fn run(
        &self,
        routers: u32,
        streams: Streams,
        watcher: &mut dyn Watcher,
    ) -> Option<Outcome> {
        let stage =
            Stage { hostile: hostile(self.hostile, routers).unwrap_or(1), members: routers };
        let mut seen = vec![0u64; routers as usize];
        let mut named = Vec::new();
        for initiator in 0..self.initiators {
            let events = u64::from(initiator) * u64::from(self.rounds);
            if !watcher.progress(Time::ZERO, events) {
                return None;
            }
            let mut rng = streams.of("paths", initiator.into());
            let mut log = Log::new(routers, self.margin);
            let mut guess = None;
            for round in 1..=self.rounds {
                let sight = match self.paths {
                    Paths::Crowds => stage.crowds(self.forward, &mut rng),
                    Paths::Tunnels => stage.tunnel(&mut rng),
                };
                let Some(sight) = sight else { continue };
                if let Some(count) = seen.get_mut(sight.before as usize) {
                    *count += 1;
                }
                log.see(sight);
                // The first guess counts.
                guess = guess.or_else(|| log.guess().map(|member| (round, member)));
            }
            named.push(guess);
        }
        Some(self.sum(stage, &seen, &named))
    }

    #[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
    fn sum(&self, stage: Stage, seen: &[u64], named: &[Option<(u32, u32)>]) -> Outcome {
        let all = u64::from(self.initiators) * u64::from(self.rounds);
        let sightings: u64 = seen.iter().sum();
        let of_initiator = seen.first().copied().unwrap_or(0);
        let honest = stage.members - stage.hostile;
        let initiators = f64::from(self.initiators);
        let right = |guess: &&Option<(u32, u32)>| guess.is_some_and(|it| it.1 == Stage::INITIATOR);
        let rounds: Vec<u32> = named.iter().filter(right).flatten().map(|it| it.0).collect();
        let wrong = named.iter().flatten().count() - rounds.len();
        let mut outcome = Outcome {
            events: all,
            metrics: Metrics::from([
                (Metric::Sightings, sightings as f64 / all as f64),
                (Metric::Exposed, rounds.len() as f64 / initiators),
                (Metric::NamedWrongly, wrong as f64 / initiators),
            ]),
            ..Outcome::default()
        };
        if sightings > 0 {
            outcome.metrics.insert(Metric::Named, of_initiator as f64 / sightings as f64);
            let chances = seen.iter().map(|it| *it as f64 / sightings as f64);
            outcome.metrics.extend(anonymity(chances, honest));
        }
        let points = (1..=50).map(|n| self.rounds * n / 50).filter(|it| *it > 0);
        let by = |round: u32| rounds.iter().filter(|it| **it <= round).count() as f64 / initiators;
        let points = points.map(|round| (f64::from(round), by(round))).collect();
        outcome.trends.insert(Trend::Identified, points);
        let distribution = Distribution::of(rounds.iter().copied().map(u64::from));
        outcome.curves.insert(Curve::Rounds, distribution);
        let (sightings, named) = self.theory(stage);
        let rest = (1.0 - named) / f64::from(honest - 1);
        let chances = (0..honest).map(|member| if member == 0 { named } else { rest });
        outcome.theory.extend(anonymity(chances, honest));
        outcome.theory.extend([(Metric::Sightings, sightings), (Metric::Named, named)]);
        outcome
    }

    /// The chance that a path is seen, and that whoever is seen is the initiator.
    fn theory(&self, stage: Stage) -> (f64, f64) {
        let (n, c) = (f64::from(stage.members), f64::from(stage.hostile));
        match self.paths {
            // Reiter and Rubin 1998: at each step caught with chance c/n, passed on with forward.
            Paths::Crowds => {
                let on = self.forward * (n - c) / n;
                (c / n / (1.0 - on), 1.0 - self.forward * (n - c - 1.0) / n)
            }
            Paths::Tunnels => {
                let pair = c * (c - 1.0) / ((n - 1.0) * (n - 2.0));
                let between = pair * (n - 1.0 - c) / (n - 3.0);
                let seen = pair + between;
                // With one hostile member no path is seen, and nobody named.
                (seen, if seen > 0.0 { pair / seen } else { 0.0 })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lead_names_and_a_tie_does_not() {
        let mut log = Log::new(4, 2);
        for before in [1, 2, 1, 2, 3] {
            log.see(Sight { before });
            assert_eq!(log.guess(), None);
        }
        log.see(Sight { before: 2 });
        assert_eq!(log.guess(), None, "3 and 2");
        log.see(Sight { before: 2 });
        assert_eq!(log.guess(), Some(2));
        log.see(Sight { before: 1 });
        assert_eq!(log.guess(), None, "the other caught up");
    }

    #[test]
    fn crowds_hides_as_well_as_is_published() {
        // Degrees after Diaz et al. 2002, with chances of forwarding 0.75 and 0.9.
        let degree = |members: u32, hostile: u32, forward: f64| {
            let stage = Stage { hostile, members };
            let it = Predecessor {
                hostile: f64::from(hostile) / f64::from(members),
                paths: Paths::Crowds,
                forward,
                initiators: 1,
                rounds: 1,
                margin: 1,
            };
            it.sum(stage, &vec![1; members as usize], &[None]).theory[&Metric::Anonymity]
        };
        for (members, hostile, forward, wanted) in [
            (5, 1, 0.75, 0.853),
            (20, 2, 0.75, 0.851),
            (100, 10, 0.75, 0.807),
            (100, 10, 0.9, 0.910),
            (100, 49, 0.75, 0.541),
        ] {
            let it = degree(members, hostile, forward);
            assert!((it - wanted).abs() < 0.001, "{members} {hostile}: {it}, not {wanted}");
        }
    }

    #[test]
    fn crowds_is_probably_innocent_up_to_the_published_number_of_hostile_members() {
        for (members, most) in [(20u32, 5u32), (100, 32), (1_000, 332)] {
            let innocent = |hostile: u32| {
                1.0 - 0.75 * f64::from(members - hostile - 1) / f64::from(members) <= 0.5
            };
            assert!(innocent(most) && !innocent(most + 1), "{members}");
        }
    }
}
