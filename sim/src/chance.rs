//! Distributions of times: how long routers stay, how often people click.
//!
//! Lives here: exponential, Weibull, Pareto and lognormal draws, and the draw of what is left of a
//! time under way. Does not live here: who draws (`churn.rs`, `workload.rs`), the streams
//! (`streams.rs`).
//!
//! Logarithms and powers come from `libm`, in software: the same bits on every machine, which the
//! compiler's own do not promise.

use std::time::Duration;

use warren_overlay::rng::Rng;

/// A distribution of positive times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Times {
    /// Always the same.
    Constant {
        /// Seconds.
        mean: f64,
    },
    /// Without memory.
    Exponential {
        /// Seconds.
        mean: f64,
    },
    /// Below shape 1 the old stay longer: sessions of people (shape 0.34 to 0.59; Stutzbach and
    /// Rejaie, IMC 2006).
    Weibull {
        /// Seconds.
        mean: f64,
        /// Above zero.
        shape: f64,
    },
    /// With a tail that never ends.
    Pareto {
        /// Seconds.
        mean: f64,
        /// Above one.
        shape: f64,
    },
    /// The logarithm is normal.
    Lognormal {
        /// Seconds.
        mean: f64,
        /// Of the logarithm; above zero.
        sigma: f64,
    },
}

impl Times {
    /// A whole time.
    pub fn draw(self, rng: &mut Rng) -> Duration {
        seconds(match self {
            Self::Constant { mean } => mean,
            Self::Exponential { mean } => mean * exponential(rng),
            Self::Weibull { mean, shape } => {
                weibull_scale(mean, shape) * libm::pow(exponential(rng), 1.0 / shape)
            }
            Self::Pareto { mean, shape } => pareto(mean * (shape - 1.0) / shape, shape, rng),
            Self::Lognormal { mean, sigma } => {
                let mu = libm::log(mean) - sigma * sigma / 2.0;
                libm::exp(mu + sigma * normal(rng))
            }
        })
    }

    /// What is left of a time that somebody finds under way: the equilibrium distribution.
    ///
    /// A moment falls into a long time more often than into a short one: the time around it is drawn
    /// in proportion to its length, and the moment lies anywhere in it.
    pub fn residual(self, rng: &mut Rng) -> Duration {
        let around = match self {
            Self::Constant { mean } => mean,
            Self::Exponential { mean } => mean * gamma(2.0, rng),
            Self::Weibull { mean, shape } => {
                let inverse = 1.0 / shape;
                weibull_scale(mean, shape) * libm::pow(gamma(1.0 + inverse, rng), inverse)
            }
            // In proportion to its length a Pareto time has the shape one lower; at or below 2 that
            // has no mean, but each draw is finite.
            Self::Pareto { mean, shape } => pareto(mean * (shape - 1.0) / shape, shape - 1.0, rng),
            Self::Lognormal { mean, sigma } => {
                let mu = libm::log(mean) + sigma * sigma / 2.0;
                libm::exp(mu + sigma * normal(rng))
            }
        };
        seconds(around * rng.unit())
    }

    /// The mean, in seconds.
    pub const fn mean(self) -> f64 {
        match self {
            Self::Constant { mean }
            | Self::Exponential { mean }
            | Self::Weibull { mean, .. }
            | Self::Pareto { mean, .. }
            | Self::Lognormal { mean, .. } => mean,
        }
    }
}

/// A time of so many seconds, at most a thousand years: Pareto's tail is longer than any clock.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.clamp(0.0, 3.2e10)).unwrap_or_default()
}

fn weibull_scale(mean: f64, shape: f64) -> f64 {
    mean / libm::tgamma(1.0 + 1.0 / shape)
}

fn pareto(least: f64, shape: f64, rng: &mut Rng) -> f64 {
    least * libm::exp(exponential(rng) / shape)
}

/// With mean 1.
pub(crate) fn exponential(rng: &mut Rng) -> f64 {
    -libm::log(1.0 - rng.unit())
}

/// With mean 0 and variance 1 (Box and Muller 1958).
pub(crate) fn normal(rng: &mut Rng) -> f64 {
    let radius = libm::sqrt(2.0 * exponential(rng));
    radius * libm::cos(2.0 * std::f64::consts::PI * rng.unit())
}

/// With scale 1 and `shape` of at least 1 (Marsaglia and Tsang 2000).
fn gamma(shape: f64, rng: &mut Rng) -> f64 {
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / libm::sqrt(9.0 * d);
    loop {
        let x = normal(rng);
        let v = 1.0 + c * x;
        if v <= 0.0 {
            continue;
        }
        let v = v * v * v;
        if exponential(rng) > d * (v - 1.0 - libm::log(v)) - x * x / 2.0 {
            return d * v;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Streams;

    const ALL: [Times; 5] = [
        Times::Constant { mean: 100.0 },
        Times::Exponential { mean: 100.0 },
        Times::Weibull { mean: 100.0, shape: 0.6 },
        Times::Pareto { mean: 100.0, shape: 4.5 },
        Times::Lognormal { mean: 100.0, sigma: 0.7 },
    ];

    fn mean_of(n: u32, mut draw: impl FnMut() -> Duration) -> f64 {
        (0..n).map(|_| draw().as_secs_f64()).sum::<f64>() / f64::from(n)
    }

    #[test]
    fn each_distribution_has_the_mean_it_is_given() {
        let mut rng = Streams::new(1).of("test", 0);
        for times in ALL {
            let mean = mean_of(200_000, || times.draw(&mut rng));
            assert!((mean - 100.0).abs() < 2.0, "{times:?}: {mean}");
        }
    }

    #[test]
    fn what_is_left_has_the_mean_that_renewal_theory_says() {
        // (mean^2 + variance) / (2 mean), with the variance of each in units of mean^2.
        let weibull = libm::tgamma(1.0 + 2.0 / 0.6) / libm::pow(libm::tgamma(1.0 + 1.0 / 0.6), 2.0);
        let pareto = 1.0 + 1.0 / (4.5 * 2.5);
        let wanted = [50.0, 100.0, 50.0 * weibull, 50.0 * pareto, 50.0 * libm::exp(0.49)];
        let mut rng = Streams::new(2).of("test", 0);
        for (times, wanted) in ALL.into_iter().zip(wanted) {
            let mean = mean_of(200_000, || times.residual(&mut rng));
            assert!((mean / wanted - 1.0).abs() < 0.03, "{times:?}: {mean}, not {wanted}");
        }
    }
}
