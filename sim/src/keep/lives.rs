//! Who is online for how long, and who goes for good.
//!
//! Lives here: drawing sessions, pauses and memberships. Does not live here: what they cause
//! (`machine.rs`).
//!
//! A run starts in the steady state: shares are of the members at any moment, so those who are there in the
//! beginning have the lives that such members have left, and newcomers are drawn in proportion to how often
//! such members come.

use std::time::Duration;

use warren_overlay::rng::Rng;

use crate::{
    chance::Times,
    scenario::{Class, Life},
};

/// How one member behaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    sessions: Times,
    /// `None`: it is always online.
    pauses: Option<Times>,
}

/// One of `weights`, in proportion.
fn pick(weights: impl Iterator<Item = f64> + Clone, rng: &mut Rng) -> usize {
    let mut point = rng.unit() * weights.clone().sum::<f64>();
    let mut last = 0;
    for (at, weight) in weights.enumerate() {
        last = at;
        point -= weight;
        if point < 0.0 {
            break;
        }
    }
    last
}

impl Habits {
    /// Those of a member of chance.
    pub(super) fn draw(classes: &[Class], rng: &mut Rng) -> Self {
        let class = classes.get(pick(classes.iter().map(|it| it.share), rng));
        let exponential = |mean: Duration| Times::Exponential { mean: mean.as_secs_f64() };
        Self {
            sessions: exponential(class.map_or(Duration::from_hours(24), |it| it.online.0)),
            pauses: class.and_then(|it| it.offline).map(|it| exponential(it.0)),
        }
    }

    /// Whether it is online at a moment of chance.
    pub(super) fn first(self, rng: &mut Rng) -> bool {
        let pauses = self.pauses.map_or(0.0, Times::mean);
        rng.unit() < self.sessions.mean() / (self.sessions.mean() + pauses)
    }

    /// How long it stays online, or offline; `None`: for ever.
    pub(super) fn next(self, online: bool, rng: &mut Rng) -> Option<Duration> {
        let pauses = self.pauses?;
        Some(if online { self.sessions.draw(rng) } else { pauses.draw(rng) })
    }
}

/// How long somebody stays a member: of those who are there in the beginning, or of a newcomer. `None`:
/// for ever.
pub(super) fn life(lives: &[Life], newcomer: bool, rng: &mut Rng) -> Option<Duration> {
    let weight = |it: &Life| {
        let often = if newcomer { it.mean.0.as_secs_f64().max(1.0) } else { 1.0 };
        it.share / often
    };
    let life = lives.get(pick(lives.iter().map(weight), rng))?;
    // Without memory: what is left is distributed like the whole.
    Some(Times::Exponential { mean: life.mean.0.as_secs_f64() }.draw(rng))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Streams, scenario::Span};

    #[test]
    fn newcomers_are_such_that_the_shares_stay_as_they_are() {
        let days = |days: u64| Span::seconds(days * 86_400);
        let lives = [Life { share: 0.5, mean: days(2) }, Life { share: 0.5, mean: days(38) }];
        let mut rng = Streams::new(1).of("test", 0);
        let mut mean = |newcomer| {
            let lives: Vec<_> =
                (0..40_000).filter_map(|_| life(&lives, newcomer, &mut rng)).collect();
            lives.iter().map(Duration::as_secs_f64).sum::<f64>() / 40_000.0 / 86_400.0
        };
        // 20 days on average at a moment; of those who come, 19 in 20 stay for two days.
        assert!((mean(false) - 20.0).abs() < 0.6);
        assert!((mean(true) - 3.8).abs() < 0.3);
    }
}
