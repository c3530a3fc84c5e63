//! Identities near one key: who owns all that keep it can withhold it.
//!
//! Lives here: places drawn as admission gives them (evenly on the ring, one for each proof), kept all
//! or only the best of several; whether all of a key's holders are hostile. Does not live here: the
//! work behind a proof (docs/threat-model.md, section 6.5).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warren_overlay::{id::Location, rng::Rng, time::Time};

use super::{Adversary, Outcome};
use crate::{
    metric::{Metric, Metrics},
    run::Watcher,
    scenario::{ScenarioError, value},
    streams::Streams,
};

/// Most places drawn with one seed.
const DRAWS_MAX: u64 = 2_000_000_000;

/// Identities near a key.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sybil {
    /// Identities of the adversary, beside the routers, which are all honest.
    pub identities: u32,
    /// Proofs made for each identity; the one whose place is closest to the key is kept.
    #[serde(default = "default_grind")]
    pub grind: u32,
    /// Routers closest to a key that keep it.
    #[serde(default = "default_holders")]
    pub holders: u32,
    /// Keys, each in a network of its own.
    #[serde(default = "default_keys")]
    pub keys: u32,
}

fn default_grind() -> u32 {
    1
}

fn default_holders() -> u32 {
    3
}

fn default_keys() -> u32 {
    2_000
}

/// What a proof shows to whoever made it: the place that it gives.
#[derive(Clone, Copy, Debug)]
struct Sight {
    place: Location,
}

/// Makes proofs for one identity, and keeps the best.
#[derive(Debug)]
struct Grinder {
    key: Location,
    best: Option<Location>,
}

impl Adversary for Grinder {
    type Sight = Sight;
    type Guess = Location;

    fn see(&mut self, Sight { place }: Sight) {
        let far = |it: Location| it.distance(self.key);
        if self.best.is_none_or(|best| far(place) < far(best)) {
            self.best = Some(place);
        }
    }

    /// The place that is taken.
    fn guess(&self) -> Option<Location> {
        self.best
    }
}

/// The closest of those added: distance, and whether it is hostile; ascending.
#[derive(Debug)]
struct Closest {
    most: usize,
    kept: Vec<(u64, bool)>,
}

impl Closest {
    fn add(&mut self, far: u64, hostile: bool) {
        if self.kept.len() == self.most && self.kept.last().is_some_and(|last| last.0 <= far) {
            return;
        }
        let at = self.kept.partition_point(|it| it.0 <= far);
        self.kept.insert(at, (far, hostile));
        self.kept.truncate(self.most);
    }
}

impl Sybil {
    pub(super) fn check(&self, routers: u32) -> Result<(), ScenarioError> {
        if self.identities == 0 || self.grind == 0 || self.keys == 0 {
            return Err(value("adversary.identities", "and grind and keys: at least 1"));
        }
        if !(1..=16).contains(&self.holders) || self.holders > routers {
            return Err(value("adversary.holders", "1 to 16, and no more than routers"));
        }
        let proofs = u64::from(self.identities) * u64::from(self.grind);
        let draws = (u64::from(routers) + proofs).saturating_mul(self.keys.into());
        if draws > DRAWS_MAX {
            return Err(value("adversary.keys", format!("{draws} places: at most {DRAWS_MAX}")));
        }
        Ok(())
    }

    /// The holders of one key: how many are hostile.
    fn key(&self, routers: u32, rng: &mut Rng) -> u32 {
        let draw = |rng: &mut Rng| Location(rng.below(u64::MAX));
        let key = draw(rng);
        let mut closest = Closest { most: self.holders as usize, kept: Vec::new() };
        for _ in 0..routers {
            closest.add(draw(rng).distance(key), false);
        }
        for _ in 0..self.identities {
            let mut grinder = Grinder { key, best: None };
            for _ in 0..self.grind {
                grinder.see(Sight { place: draw(rng) });
            }
            if let Some(place) = grinder.guess() {
                closest.add(place.distance(key), true);
            }
        }
        let hostile = closest.kept.iter().filter(|it| it.1).count();
        u32::try_from(hostile).unwrap_or(u32::MAX)
    }

    pub(super) fn run(
        &self,
        routers: u32,
        streams: Streams,
        watcher: &mut dyn Watcher,
    ) -> Option<Outcome> {
        let (mut captured, mut touched, mut hostile) = (0u32, 0u32, 0u32);
        for key in 0..self.keys {
            if key.is_multiple_of(64) && !watcher.progress(Time::ZERO, key.into()) {
                return None;
            }
            let of_key = self.key(routers, &mut streams.of("key", key.into()));
            captured += u32::from(of_key == self.holders);
            touched += u32::from(of_key > 0);
            hostile += of_key;
        }
        let share = |count: u32| f64::from(count) / f64::from(self.keys);
        Some(Outcome {
            events: self.keys.into(),
            metrics: Metrics::from([
                (Metric::Captured, share(captured)),
                (Metric::Touched, share(touched)),
                (Metric::HostileHolders, share(hostile) / f64::from(self.holders)),
                (Metric::Proofs, f64::from(self.identities) * f64::from(self.grind)),
            ]),
            theory: Metrics::from([
                (Metric::Captured, self.captured(routers)),
                (Metric::Touched, self.touched(routers)),
            ]),
            ..Outcome::default()
        })
    }

    /// The chance that somebody hostile is among the holders: that of all proofs' places and the honest
    /// ones, the closest are not all honest. Grinding changes nothing about the best place of all.
    fn touched(&self, routers: u32) -> f64 {
        let (n, proofs) = (f64::from(routers), f64::from(self.identities) * f64::from(self.grind));
        let honest = |i: u32| (n - f64::from(i)) / (n + proofs - f64::from(i));
        1.0 - (0..self.holders).map(honest).product::<f64>()
    }

    /// The chance that all holders are hostile: that before the first honest place there are as many
    /// identities as holders.
    ///
    /// The closest of n honest places is at u of the half ring, (1 - u)^n = e^-y with y exponential; an
    /// identity that kept the best of g is within u with 1 - (1 - u)^g. Integrated over y (Simpson). Without
    /// grinding that is the product of (G - i) / (N + G - i).
    fn captured(&self, routers: u32) -> f64 {
        const STEPS: u32 = 8_000;
        const FAR: f64 = 40.0;
        let within = |y: f64| {
            let outside = libm::exp(-f64::from(self.grind) * y / f64::from(routers));
            at_least(self.holders, self.identities, 1.0 - outside)
        };
        let width = FAR / f64::from(STEPS);
        let term = |step: u32| {
            let y = f64::from(step) * width;
            let weight = match step {
                0 | STEPS => 1.0,
                odd if odd % 2 == 1 => 4.0,
                _ => 2.0,
            };
            weight * libm::exp(-y) * within(y)
        };
        (0..=STEPS).map(term).sum::<f64>() * width / 3.0
    }
}

/// The chance of at least `k` of `n`, each with `p`.
fn at_least(k: u32, n: u32, p: f64) -> f64 {
    if k > n || p <= 0.0 {
        return 0.0;
    }
    if p >= 1.0 {
        return 1.0;
    }
    let mut term = libm::exp(f64::from(n) * libm::log1p(-p));
    let mut fewer = 0.0;
    for i in 0..k {
        fewer += term;
        term *= f64::from(n - i) / f64::from(i + 1) * p / (1.0 - p);
    }
    (1.0 - fewer).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sybil(identities: u32, grind: u32, holders: u32) -> Sybil {
        Sybil { identities, grind, holders, keys: 1 }
    }

    #[test]
    fn without_grinding_the_integral_is_the_product() {
        for (routers, identities, holders) in [(1_000, 1_000, 3), (500, 50, 3), (100, 300, 8)] {
            let (n, g) = (f64::from(routers), f64::from(identities));
            let term = |i: u32| (g - f64::from(i)) / (n + g - f64::from(i));
            let wanted: f64 = (0..holders).map(term).product();
            let it = sybil(identities, 1, holders).captured(routers);
            assert!((it / wanted - 1.0).abs() < 1e-6, "{routers} {identities}: {it}, not {wanted}");
        }
    }

    #[test]
    fn grinding_gains_what_as_many_identities_would_near_the_key() {
        // Three identities with N proofs each: about as good as 3 N identities, and far fewer to feed.
        let ground = sybil(3, 1_000, 3).captured(1_000);
        let many = sybil(3_000, 1, 3).captured(1_000);
        assert!(ground < many && ground > 0.2 * many, "{ground} {many}");
        assert!(sybil(2, 1_000, 3).captured(1_000).abs() < 1e-12, "two cannot be all three");
    }

    #[test]
    fn the_closest_are_kept_in_order() {
        let mut closest = Closest { most: 2, kept: Vec::new() };
        for (far, hostile) in [(9, false), (4, true), (7, false), (1, true), (8, true)] {
            closest.add(far, hostile);
        }
        assert_eq!(closest.kept, [(1, true), (4, true)]);
    }
}
