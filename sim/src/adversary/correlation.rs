//! A global observer: who compares the times of packets at both ends of many flows.
//!
//! Lives here: flows in bursts, as pages are read, each with a delay of its own and jitter on every packet; an
//! observer who counts packets in bins at both ends and looks how alike the counts are. Does not live
//! here: routers: this is a model of what they let through, since they neither delay nor pad what they carry
//! (docs/threat-model.md, section 7). A published attack that learns does better with less.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use warren_overlay::{rng::Rng, time::Time};

use super::{Adversary, Outcome, below};
use crate::{
    chance::exponential,
    curve::Trend,
    metric::{Metric, Metrics},
    run::Watcher,
    scenario::{ScenarioError, value},
    streams::Streams,
};

/// Most bins that are compared in a seed: some seconds.
const BINS_MAX: u64 = 4_000_000_000;
/// Other flows that each is compared with.
const OTHERS: u32 = 20;
/// Mean packets of a burst, how often one comes, and the time between two packets of one, in seconds.
const BURST: f64 = 12.0;
const BURST_EVERY: f64 = 2.0;
const PACKET_EVERY: f64 = 0.005;
/// Delays of flows lie between these, in seconds; the observer tries all.
const DELAY: (f64, f64) = (0.1, 0.6);
/// Shares of false alarms at which detections are shown.
const FALSE_ALARMS: [f64; 8] = [0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0];
/// The share at which they are compared.
const COMPARED: f64 = 0.01;

/// Somebody who sees all lines.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Correlation {
    /// Flows at the same time.
    #[serde(default = "default_flows")]
    pub flows: u32,
    /// How long they are watched, in seconds.
    #[serde(default = "default_seconds")]
    pub seconds: u32,
    /// Mean of what is added to each packet's delay, in milliseconds; exponential.
    #[serde(default = "default_jitter")]
    pub jitter_ms: u32,
    /// The observer counts packets in bins of so many milliseconds.
    #[serde(default = "default_bin")]
    pub bin_ms: u32,
}

fn default_flows() -> u32 {
    200
}

fn default_seconds() -> u32 {
    60
}

fn default_jitter() -> u32 {
    20
}

fn default_bin() -> u32 {
    100
}

/// A packet at one of the two ends, and when, in seconds.
#[derive(Clone, Copy, Debug)]
enum Sight {
    In(f64),
    Out(f64),
}

/// Counts of two lines.
#[derive(Clone, Debug)]
struct Counts {
    bin: f64,
    into: Vec<f64>,
    out: Vec<f64>,
}

impl Counts {
    fn new(seconds: u32, bin_ms: u32) -> Self {
        let bins = (seconds * 1_000).div_ceil(bin_ms) as usize;
        Self { bin: f64::from(bin_ms) / 1_000.0, into: vec![0.0; bins], out: vec![0.0; bins] }
    }
}

impl Adversary for Counts {
    type Sight = Sight;
    /// How alike both are at the best delay: Pearson's coefficient.
    type Guess = f64;

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a bin's number")]
    fn see(&mut self, sight: Sight) {
        let (at, counts) = match sight {
            Sight::In(at) => (at, &mut self.into),
            Sight::Out(at) => (at, &mut self.out),
        };
        if let Some(count) = counts.get_mut((at / self.bin) as usize) {
            *count += 1.0;
        }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few bins")]
    fn guess(&self) -> Option<f64> {
        let bins = |delay: f64| (delay / self.bin) as usize;
        let delays = bins(DELAY.0)..=bins(DELAY.1) + 1;
        let alike = |delay| alike(&self.into, self.out.get(delay..).unwrap_or_default());
        delays.map(alike).reduce(f64::max)
    }
}

/// Pearson's coefficient of the first of both, as many as the second has.
#[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
fn alike(a: &[f64], b: &[f64]) -> f64 {
    let n = b.len().min(a.len()).max(1) as f64;
    let (mut sums, mut squares, mut product) = ((0.0, 0.0), (0.0, 0.0), 0.0);
    for (a, b) in a.iter().zip(b) {
        sums = (sums.0 + a, sums.1 + b);
        squares = (squares.0 + a * a, squares.1 + b * b);
        product += a * b;
    }
    let spread = |sum: f64, squares: f64| squares - sum * sum / n;
    let both = spread(sums.0, squares.0) * spread(sums.1, squares.1);
    if both > 0.0 { (product - sums.0 * sums.1 / n) / libm::sqrt(both) } else { 0.0 }
}

/// The share of `flows` above the line that blames this share of `others`, who ascend.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a count"
)]
fn detected(flows: &[f64], others: &[f64], false_alarms: f64) -> f64 {
    let blamed = (false_alarms * others.len() as f64) as usize;
    let line = others.len().checked_sub(blamed + 1).and_then(|at| others.get(at)).copied();
    let above = flows.iter().filter(|it| line.is_none_or(|line| **it > line)).count();
    above as f64 / flows.len().max(1) as f64
}

impl Correlation {
    pub(super) fn check(&self) -> Result<(), ScenarioError> {
        if self.flows < 2 || !(1..=36_000).contains(&self.seconds) || self.jitter_ms > 60_000 {
            let why = "1 to 36,000, of two flows or more, with up to a minute of jitter";
            return Err(value("adversary.seconds", why));
        }
        if !(5..=10_000).contains(&self.bin_ms) {
            return Err(value("adversary.bin_ms", "5 to 10,000"));
        }
        let bins = u64::from(self.seconds * 1_000 / self.bin_ms) * u64::from(self.flows);
        if bins * u64::from(OTHERS) > BINS_MAX {
            return Err(value("adversary.flows", "times seconds: fewer, or with larger bins"));
        }
        Ok(())
    }

    /// One flow's packets: when they go in and come out.
    fn flow(self, rng: &mut Rng) -> Vec<(f64, f64)> {
        let delay = DELAY.0 + rng.unit() * (DELAY.1 - DELAY.0);
        let (mut at, mut packets) = (0.0, Vec::new());
        let mut last = 0.0f64;
        loop {
            at += BURST_EVERY * exponential(rng);
            if at >= f64::from(self.seconds) {
                return packets;
            }
            let length = 1.0 + BURST * exponential(rng);
            let mut sent = at;
            while sent < at + length * PACKET_EVERY {
                // Nothing overtakes.
                let jitter = f64::from(self.jitter_ms) / 1_000.0 * exponential(rng);
                last = last.max(sent + delay + jitter);
                packets.push((sent, last));
                sent += PACKET_EVERY;
            }
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
    pub(super) fn run(&self, streams: Streams, watcher: &mut dyn Watcher) -> Option<Outcome> {
        let flow = |no: u32| self.flow(&mut streams.of("flow", no.into()));
        let flows: Vec<_> = (0..self.flows).map(flow).collect();
        let empty = Counts::new(self.seconds, self.bin_ms);
        let score = |a: &[(f64, f64)], b: &[(f64, f64)]| {
            let mut counts = empty.clone();
            for (sent, _) in a {
                counts.see(Sight::In(*sent));
            }
            for (_, came) in b {
                counts.see(Sight::Out(*came));
            }
            counts.guess().unwrap_or(0.0)
        };
        let (mut same, mut others) = (Vec::new(), Vec::new());
        let mut rng = streams.of("pairs", 0);
        for (no, a) in (0u32..).zip(&flows) {
            if no.is_multiple_of(16) && !watcher.progress(Time::ZERO, no.into()) {
                return None;
            }
            same.push(score(a, a));
            for _ in 0..OTHERS {
                let other = (no + 1 + below(&mut rng, self.flows - 1)) % self.flows;
                others.extend(flows.get(other as usize).map(|b| score(a, b)));
            }
        }
        others.sort_unstable_by(f64::total_cmp);
        let roc = FALSE_ALARMS.map(|it| (it, detected(&same, &others, it)));
        let packets: usize = flows.iter().map(Vec::len).sum();
        Some(Outcome {
            events: packets as u64,
            metrics: Metrics::from([
                (Metric::Detected, detected(&same, &others, COMPARED)),
                (Metric::Packets, packets as f64 / f64::from(self.flows)),
            ]),
            trends: [(Trend::Roc, roc.to_vec())].into(),
            ..Outcome::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_same_is_alike_and_what_is_not_is_not() {
        let a = [1.0, 0.0, 3.0, 0.0, 2.0, 5.0];
        let twice = a.map(|it| 2.0 * it + 1.0);
        let against = a.map(|it| -it);
        assert!((alike(&a, &twice) - 1.0).abs() < 1e-12);
        assert!((alike(&a, &against) + 1.0).abs() < 1e-12);
        assert!(alike(&a, &[1.0; 6]).abs() < 1e-12);
    }

    #[test]
    fn one_in_a_hundred_others_is_blamed_at_most() {
        let others: Vec<f64> = (0..100).map(f64::from).collect();
        assert!((detected(&[98.5, 99.5, 50.0, 98.0], &others, 0.01) - 0.5).abs() < 1e-12);
        assert!((detected(&[50.0, 99.5], &others, 0.0) - 0.5).abs() < 1e-12);
        assert!((detected(&[0.0, 1.0], &others, 1.0) - 1.0).abs() < 1e-12);
    }
}
