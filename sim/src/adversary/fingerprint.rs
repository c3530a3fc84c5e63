//! Route fingerprinting: a path can only be made by somebody who knows its hops.
//!
//! Lives here: users who each know some of the routers, drawn evenly as the private samples are, and an
//! adversary who knows what everybody knows and sees some hops of a path. Who could have made it? Does not
//! live here: how the adversary would come by others' samples, which are told to nobody
//! (`warren_overlay::ring`): that he has them all is the worst case.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warren_overlay::{rng::Rng, time::Time};

use super::{Adversary, Outcome, below};
use crate::{
    metric::{Metric, Metrics},
    run::Watcher,
    scenario::{ScenarioError, value},
    streams::Streams,
};

/// Most known routers of all users together: half a GiB.
const KNOWN_MAX: u64 = 4_000_000_000;
const PATHS_MAX: u32 = 1_000_000;

/// Who knows all hops of a path.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// Routers that each user knows; all of them where there are no more.
    #[serde(default = "default_known")]
    pub known: u32,
    /// Hops of a path that the adversary sees.
    #[serde(default = "default_hops")]
    pub hops: u32,
    /// How many users; they are none of the routers.
    #[serde(default = "default_users")]
    pub users: u32,
    /// Paths, each of a user of chance.
    #[serde(default = "default_paths")]
    pub paths: u32,
}

fn default_known() -> u32 {
    2_048
}

fn default_hops() -> u32 {
    3
}

fn default_users() -> u32 {
    1_000
}

fn default_paths() -> u32 {
    2_000
}

/// A hop of the path.
#[derive(Clone, Copy, Debug)]
struct Sight {
    hop: u32,
}

/// Which routers one user knows, a bit each.
#[derive(Debug)]
struct Sample(Vec<u64>);

impl Sample {
    fn draw(known: u32, routers: u32, rng: &mut Rng) -> Self {
        let mut this = Self(vec![0; routers.div_ceil(64) as usize]);
        // The fewer are drawn: those who are known, or those who are not.
        let all = known >= routers / 2;
        let mut left = if all { routers - known.min(routers) } else { known };
        while left > 0 {
            left -= u32::from(this.flip(below(rng, routers)));
        }
        if all {
            this.0.iter_mut().for_each(|it| *it = !*it);
        }
        this
    }

    /// Sets a bit; true if it was not.
    fn flip(&mut self, router: u32) -> bool {
        let bit = 1u64 << (router % 64);
        let Some(word) = self.0.get_mut((router / 64) as usize) else { return false };
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    fn knows(&self, router: u32) -> bool {
        self.0.get((router / 64) as usize).is_some_and(|word| word & 1 << (router % 64) != 0)
    }
}

/// Has everybody's sample, and strikes out whoever does not know a hop.
struct Suspects<'a> {
    samples: &'a [Sample],
    left: Vec<u32>,
}

impl Adversary for Suspects<'_> {
    type Sight = Sight;
    /// Everybody who could have made the path.
    type Guess = Vec<u32>;

    fn see(&mut self, Sight { hop }: Sight) {
        let samples = self.samples;
        self.left.retain(|user| samples.get(*user as usize).is_some_and(|it| it.knows(hop)));
    }

    fn guess(&self) -> Option<Vec<u32>> {
        Some(self.left.clone())
    }
}

impl Fingerprint {
    pub(super) fn check(&self, routers: u32) -> Result<(), ScenarioError> {
        if self.known < self.hops || !(1..=4).contains(&self.hops) {
            return Err(value("adversary.hops", "1 to 4, and no more than are known"));
        }
        if self.users == 0 || !(1..=PATHS_MAX).contains(&self.paths) {
            return Err(value("adversary.paths", format!("1 to {PATHS_MAX}, and some users")));
        }
        let bits = u64::from(self.users) * u64::from(routers);
        if bits > KNOWN_MAX {
            return Err(value("adversary.users", format!("times routers: at most {KNOWN_MAX}")));
        }
        Ok(())
    }

    /// The chance that somebody else knows all hops that are seen.
    fn another(&self, routers: u32) -> f64 {
        let known = self.known.min(routers);
        let term = |i: u32| f64::from(known - i.min(known)) / f64::from(routers - i);
        (0..self.hops).map(term).product()
    }

    #[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
    pub(super) fn run(
        &self,
        routers: u32,
        streams: Streams,
        watcher: &mut dyn Watcher,
    ) -> Option<Outcome> {
        let sample = |user| {
            let mut rng = streams.of("sample", user);
            Sample::draw(self.known.min(routers), routers, &mut rng)
        };
        let samples: Vec<_> = (0..u64::from(self.users)).map(sample).collect();
        let (mut candidates, mut alone) = (0u64, 0u32);
        for path in 0..self.paths {
            if path.is_multiple_of(256) && !watcher.progress(Time::ZERO, path.into()) {
                return None;
            }
            let mut rng = streams.of("path", path.into());
            let owner = below(&mut rng, self.users);
            let own = samples.get(owner as usize)?;
            let mut suspects = Suspects { samples: &samples, left: (0..self.users).collect() };
            let mut hops = Vec::new();
            while hops.len() < self.hops as usize {
                let hop = below(&mut rng, routers);
                if own.knows(hop) && !hops.contains(&hop) {
                    hops.push(hop);
                    suspects.see(Sight { hop });
                }
            }
            let left = suspects.guess().unwrap_or_default();
            candidates += left.len() as u64;
            alone += u32::from(left == [owner]);
        }
        let paths = f64::from(self.paths);
        let (others, another) = (f64::from(self.users - 1), self.another(routers));
        Some(Outcome {
            events: self.paths.into(),
            metrics: Metrics::from([
                (Metric::Candidates, candidates as f64 / paths),
                (Metric::Exposed, f64::from(alone) / paths),
            ]),
            theory: Metrics::from([
                (Metric::Candidates, 1.0 + others * another),
                (Metric::Exposed, libm::pow(1.0 - another, others)),
            ]),
            ..Outcome::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_as_many_as_are_known_whichever_half_is_drawn() {
        for (known, routers) in [(10, 100), (60, 100), (100, 100), (2_048, 130)] {
            let sample = Sample::draw(known, routers, &mut Rng::from_seed([1; 32]));
            let count = (0..routers).filter(|it| sample.knows(*it)).count();
            assert_eq!(count, known.min(routers) as usize, "{known} of {routers}");
        }
    }
}
