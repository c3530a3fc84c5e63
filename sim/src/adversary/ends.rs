//! First-last compromise: hostile routers at both ends of a tunnel compare times.
//!
//! Lives here: users with tunnels of three hops, with guards or without; who is named, and when. Does
//! not live here: how well times compare. It is granted that hostile routers know a tunnel again
//! wherever they are on it, which is the worst case (docs/threat-model.md, section 7).
//!
//! A user's guards are drawn independently of each other and live whole days; tunnels take them in turn.
//! Middle and end are drawn anew for each tunnel, nobody twice on one. (With bandwidths all alike.)

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warren_overlay::rng::Rng;

use super::{Adversary, Outcome, below, hostile};
use crate::{
    curve::Trend,
    metric::{Metric, Metrics},
    run::Watcher,
    scenario::{ScenarioError, value},
    streams::Streams,
};

/// Most tunnels of one seed: some ten seconds.
const TUNNELS_MAX: u64 = 400_000_000;

/// Hostile routers at both ends of tunnels.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ends {
    /// Share of the routers, all equally likely as hops.
    pub hostile: f64,
    /// Guards of each user; 0: the first hop is drawn anew for each tunnel.
    #[serde(default = "default_guards")]
    pub guards: u32,
    /// Days that a guard is kept, from least to most, evenly drawn.
    #[serde(default = "default_guard_days")]
    pub guard_days: [u32; 2],
    /// How many users; they are none of the routers.
    #[serde(default = "default_users")]
    pub users: u32,
    /// Tunnels of a user a day; a multiple of the guards.
    #[serde(default = "default_tunnels")]
    pub tunnels: u32,
    /// How long it goes on.
    #[serde(default = "default_days")]
    pub days: u32,
    /// Selective refusal: share of the tunnels with an honest end hop that a hostile first hop fails, whose
    /// owner then draws another end hop.
    #[serde(default)]
    pub refuse: f64,
}

fn default_guards() -> u32 {
    2
}

fn default_guard_days() -> [u32; 2] {
    [60, 120]
}

fn default_users() -> u32 {
    500
}

/// Two tunnels held all day, each replaced after 15 minutes.
fn default_tunnels() -> u32 {
    192
}

fn default_days() -> u32 {
    30
}

/// What a hostile hop of a tunnel sees of it.
#[derive(Clone, Copy, Debug)]
struct Sight {
    /// Whom its cells come from: a router or a user; that is not told.
    before: Peer,
    /// Whom they go to; the end hop knows that it is the end.
    after: Option<u32>,
}

/// Whoever has a link with a router. Only the stage looks into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Router(u32),
    User(u32),
}

/// Sees one tunnel at all its hostile hops.
#[derive(Debug, Default)]
struct Watching {
    seen: Vec<Sight>,
}

impl Adversary for Watching {
    type Sight = Sight;
    type Guess = Peer;

    fn see(&mut self, sight: Sight) {
        self.seen.push(sight);
    }

    /// Tunnels have three hops: whose next hop is the one before the end is the first, and whoever is
    /// before the first is the owner. Middle and end together know the first, and not the owner.
    fn guess(&self) -> Option<Peer> {
        let end = self.seen.iter().find(|it| it.after.is_none())?;
        let Peer::Router(middle) = end.before else { return None };
        let first = self.seen.iter().find(|it| it.after == Some(middle))?;
        Some(first.before)
    }
}

/// One user's first hops.
#[derive(Clone, Copy, Debug)]
struct Guard {
    router: u32,
    until: u32,
}

/// Routers below `hostile` are hostile, of so many.
#[derive(Clone, Copy, Debug)]
struct Stage {
    hostile: u32,
    routers: u32,
    refuse: f64,
}

impl Stage {
    /// A tunnel of this user; whom the adversary takes for its owner.
    fn tunnel(self, user: u32, first: u32, rng: &mut Rng, watching: &mut Watching) -> Option<Peer> {
        let other = |taken: &[u32], rng: &mut Rng| loop {
            let drawn = below(rng, self.routers);
            if !taken.contains(&drawn) {
                return drawn;
            }
        };
        let last = loop {
            let last = other(&[first], rng);
            let unwelcome = self.refuse > 0.0 && first < self.hostile && last >= self.hostile;
            if !unwelcome || rng.unit() >= self.refuse {
                break last;
            }
        };
        // Who is in the middle matters where an end is hostile.
        if first >= self.hostile && last >= self.hostile {
            return None;
        }
        let middle = other(&[first, last], rng);
        watching.seen.clear();
        for (hop, before, after) in [
            (first, Peer::User(user), Some(middle)),
            (middle, Peer::Router(first), Some(last)),
            (last, Peer::Router(middle), None),
        ] {
            if hop < self.hostile {
                watching.see(Sight { before, after });
            }
        }
        watching.guess()
    }
}

/// What becomes of one user.
#[derive(Clone, Copy, Debug, Default)]
struct Fate {
    /// Tunnels for which he was named.
    named: u64,
    /// Tunnels for which somebody else was.
    wrong: u64,
    /// The first day on which he was named, and on which he had a hostile guard.
    exposed: Option<u32>,
    guarded: Option<u32>,
}

impl Ends {
    pub(super) fn check(&self, routers: u32) -> Result<(), ScenarioError> {
        hostile(self.hostile, routers)?;
        if self.guards > 16 {
            return Err(value("adversary.guards", "0 to 16"));
        }
        if self.tunnels == 0 || self.guards > 0 && !self.tunnels.is_multiple_of(self.guards) {
            return Err(value("adversary.tunnels", "a multiple of the guards, above zero"));
        }
        let [least, most] = self.guard_days;
        if least == 0 || least > most || most > 100_000 {
            return Err(value("adversary.guard_days", "from least to most, 1 to 100,000 days"));
        }
        if !(0.0..=0.99).contains(&self.refuse) {
            return Err(value("adversary.refuse", "0 to 0.99"));
        }
        if self.users == 0 || self.days == 0 || self.days > 3_650 {
            return Err(value("adversary.days", "1 to 3,650, and at least one user"));
        }
        let all = u64::from(self.users) * u64::from(self.tunnels) * u64::from(self.days);
        if all > TUNNELS_MAX {
            return Err(value("adversary.users", format!("{all} tunnels: at most {TUNNELS_MAX}")));
        }
        Ok(())
    }

    pub(super) fn run(
        &self,
        routers: u32,
        streams: Streams,
        watcher: &mut dyn Watcher,
    ) -> Option<Outcome> {
        let hostile = hostile(self.hostile, routers).unwrap_or(1);
        let stage = Stage { hostile, routers, refuse: self.refuse };
        let mut fates = Vec::new();
        for user in 0..self.users {
            let events = u64::from(user) * u64::from(self.tunnels) * u64::from(self.days);
            if !watcher.progress(warren_overlay::time::Time::ZERO, events) {
                return None;
            }
            // Guards have a stream of their own: with more tunnels a user has the same guards.
            fates.push(self.life(stage, user, streams));
        }
        Some(self.sum(stage, &fates))
    }

    fn life(&self, stage: Stage, user: u32, streams: Streams) -> Fate {
        let mut draws = streams.of("guards", user.into());
        let mut rng = streams.of("tunnels", user.into());
        let [least, most] = self.guard_days;
        let mut draw = |day: u32| Guard {
            router: below(&mut draws, stage.routers),
            until: day + least + below(&mut draws, most - least + 1),
        };
        let mut guards: Vec<Guard> = (0..self.guards).map(|_| draw(0)).collect();
        let (mut fate, mut watching) = (Fate::default(), Watching::default());
        for day in 0..self.days {
            for guard in guards.iter_mut().filter(|guard| guard.until == day) {
                *guard = draw(day);
            }
            if guards.iter().any(|guard| guard.router < stage.hostile) {
                fate.guarded = fate.guarded.or(Some(day));
            }
            for tunnel in 0..self.tunnels {
                let guard = guards.get((tunnel % self.guards.max(1)) as usize);
                let first = match guard {
                    Some(guard) => guard.router,
                    None => below(&mut rng, stage.routers),
                };
                match stage.tunnel(user, first, &mut rng, &mut watching) {
                    Some(peer) if peer == Peer::User(user) => {
                        fate.named += 1;
                        fate.exposed = fate.exposed.or(Some(day));
                    }
                    Some(_) => fate.wrong += 1,
                    None => {}
                }
            }
        }
        fate
    }

    #[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
    fn sum(&self, stage: Stage, fates: &[Fate]) -> Outcome {
        let all = u64::from(self.tunnels) * u64::from(self.days) * u64::from(self.users);
        let users = f64::from(self.users);
        let by = |of: fn(&Fate) -> Option<u32>, day: u32| {
            fates.iter().filter(|it| of(it).is_some_and(|at| at < day)).count() as f64 / users
        };
        let named: u64 = fates.iter().map(|it| it.named).sum();
        let wrong: u64 = fates.iter().map(|it| it.wrong).sum();
        let shown = |day: &u32| self.days <= 60 || day.is_multiple_of(7) || *day == self.days;
        let days: Vec<u32> = (1..=self.days).filter(shown).collect();
        let trend = |of: fn(&Fate) -> Option<u32>| -> Vec<(f64, f64)> {
            days.iter().map(|day| (f64::from(*day), by(of, *day))).collect()
        };
        let mut outcome = Outcome {
            events: all,
            metrics: Metrics::from([
                (Metric::BothEnds, named as f64 / all as f64),
                (Metric::NamedWrongly, wrong as f64 / all as f64),
                (Metric::Exposed, by(|it| it.exposed, self.days)),
            ]),
            ..Outcome::default()
        };
        outcome.trends.insert(Trend::Exposed, trend(|it| it.exposed));
        let share = f64::from(stage.hostile) / f64::from(stage.routers);
        // Of what a hostile first hop lets come about: where it refuses none, whatever is drawn.
        let end = f64::from(stage.hostile - 1) / f64::from(stage.routers - 1);
        let end = end / (end + (1.0 - end) * (1.0 - stage.refuse));
        let theory = |met: &dyn Fn(f64) -> f64| -> Vec<(f64, f64)> {
            let kept = survival(share, met, self.guard_days, self.days);
            let at = |day: &u32| (f64::from(*day), 1.0 - both(&kept, self.guards, *day));
            days.iter().map(at).collect()
        };
        let exposed = if let Some(a_day) = self.tunnels.checked_div(self.guards) {
            let a_day = f64::from(a_day);
            theory(&|days| 1.0 - libm::pow(1.0 - end, a_day * days))
        } else {
            let gone = |day: f64| 1.0 - libm::pow(1.0 - share * end, day * f64::from(self.tunnels));
            days.iter().map(|day| (f64::from(*day), gone((*day).into()))).collect()
        };
        outcome.theory =
            Metrics::from([(Metric::BothEnds, share * end), (Metric::NamedWrongly, 0.0)]);
        outcome.theory.extend(exposed.last().map(|it| (Metric::Exposed, it.1)));
        outcome.theory_trends.insert(Trend::Exposed, exposed);
        if self.guards > 0 {
            let guarded = theory(&|_| 1.0);
            outcome.metrics.insert(Metric::GuardHostile, by(|it| it.guarded, self.days));
            outcome.theory.extend(guarded.last().map(|it| (Metric::GuardHostile, it.1)));
            outcome.trends.insert(Trend::GuardHostile, trend(|it| it.guarded));
            outcome.theory_trends.insert(Trend::GuardHostile, guarded);
        }
        outcome
    }
}

/// The same for several places that are alike.
pub(super) fn both(kept: &[f64], places: u32, day: u32) -> f64 {
    let one = kept.get(day as usize).copied().unwrap_or(0.0);
    libm::pow(one, places.into())
}

/// For each day the chance that nothing has happened yet to one guard's place, by the renewal equation:
/// each guard is hostile with chance `share`, and something happens within `met(days)` of such a guard;
/// lives are whole days, even from least to most.
pub(super) fn survival(
    share: f64,
    met: &dyn Fn(f64) -> f64,
    [least, most]: [u32; 2],
    days: u32,
) -> Vec<f64> {
    let clean = |life: u32| 1.0 - share * met(f64::from(life));
    let each = 1.0 / f64::from(most - least + 1);
    let mut kept = vec![1.0];
    for day in 1..=days {
        // Lives that are longer than this day, and those that ended before.
        let longer = f64::from(most.saturating_sub(day.max(least - 1))) * each;
        let ended = (least..=most.min(day)).map(|life| {
            let since = kept.get((day - life) as usize).copied().unwrap_or(1.0);
            each * clean(life) * since
        });
        let sum: f64 = ended.sum();
        kept.push(longer * clean(day) + sum);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_both_ends_together_name_the_owner() {
        let user = Peer::User(7);
        let (first, middle, last) = (
            Sight { before: user, after: Some(2) },
            Sight { before: Peer::Router(1), after: Some(3) },
            Sight { before: Peer::Router(2), after: None },
        );
        let guess = |sights: &[Sight]| {
            let mut watching = Watching::default();
            for sight in sights {
                watching.see(*sight);
            }
            watching.guess()
        };
        assert_eq!(guess(&[first, last]), Some(user));
        assert_eq!(guess(&[first, middle, last]), Some(user));
        for few in [&[first][..], &[middle], &[last], &[first, middle], &[middle, last]] {
            assert_eq!(guess(few), None, "{few:?}");
        }
    }

    #[test]
    fn a_place_that_is_never_renewed_survives_as_its_one_guard_does() {
        let kept = survival(0.2, &|_| 1.0, [1_000, 1_000], 10);
        assert!(kept.iter().skip(1).all(|it| (it - 0.8).abs() < 1e-12), "{kept:?}");
        // Renewed each day: one more draw each day. (The draw of the last day's end is the next day's.)
        let kept = survival(0.2, &|_| 1.0, [1, 1], 3);
        let wanted = [1.0, 0.8, 0.64, 0.512];
        assert!(kept.iter().zip(wanted).all(|(it, wanted)| (it - wanted).abs() < 1e-12));
    }
}
