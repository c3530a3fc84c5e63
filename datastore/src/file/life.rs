//! How long a file would last if nobody repaired it: a guess from samples.
//!
//! Lives here: the model and its numbers. Does not live here: taking the samples (`repair.rs`).
//!
//! A block has three copies on routers that are up a part `UP` of the time and that leave for good at a
//! rate `LEAVES` a day, each by itself:
//!
//! ```text
//! there(t) = 1 - (1 - UP e^(-LEAVES t))^3          half of them after 14 days, 18 of 100 after 30
//! p(t)     = p(0) there(t) / there(0)              p(0): what the samples say, at its lower bound
//! whole(t) = P(Binomial(n, p(t)) >= k)^segments    k of n blocks of each segment are needed
//! ```
//!
//! The half after 14 days is what was measured of blocks that nobody fetched in Freenet, a network without
//! repair; there 30 of 100 were left after 30 days, so the model is on the safe side.

#![expect(clippy::cast_precision_loss, reason = "counts of blocks and samples")]

use super::Summary;
use crate::capability::ROOT_COPIES;

const UP: f64 = 0.588;
const LEAVES: f64 = 0.075;
/// The file counts as alive while it is whole with this probability.
const WHOLE: f64 = 0.9;
/// Standard deviations of the lower bound: 84 of 100 such bounds are right.
const SIGMAS: f64 = 1.0;
/// Longer is not said: nothing known here reaches so far.
const DAYS_MAX: u16 = 365;

/// Days for which the file of this check would stay whole, with 90 % probability, if nobody repaired
/// it: 0 to 365. `None` when nothing was sampled.
pub fn days_without_repair(summary: &Summary) -> Option<u16> {
    let sampled = summary.found + summary.missing;
    if sampled == 0 {
        return None;
    }
    if summary.lost > 0 {
        return Some(0);
    }
    let now = lower_bound(summary.found as f64, sampled as f64);
    // Without segments all of it stands in the root, whose copies are blocks of their own.
    let (needed, total) = summary.thinnest.unwrap_or((1, ROOT_COPIES));
    let segments = summary.segments.max(1) as f64;
    let is_whole = |day: u16| {
        let there = now * there(f64::from(day)) / there(0.0);
        at_least(needed, total, there).powf(segments) >= WHOLE
    };
    // It only gets worse.
    let (mut good, mut bad) = (0, DAYS_MAX + 1);
    while bad - good > 1 {
        let middle = good.midpoint(bad);
        if is_whole(middle) {
            good = middle;
        } else {
            bad = middle;
        }
    }
    Some(good)
}

fn there(days: f64) -> f64 {
    1.0 - (1.0 - UP * (-LEAVES * days).exp()).powi(3)
}

/// Wilson's lower bound of a share.
fn lower_bound(found: f64, of: f64) -> f64 {
    let (share, z2) = (found / of, SIGMAS * SIGMAS);
    let spread = SIGMAS * (share * (1.0 - share) / of + z2 / (4.0 * of * of)).sqrt();
    ((share + z2 / (2.0 * of) - spread) / (1.0 + z2 / of)).clamp(0.0, 1.0)
}

/// Probability that of `total` blocks, each there with probability `p`, at least `needed` are.
fn at_least(needed: usize, total: usize, p: f64) -> f64 {
    if p >= 1.0 || needed == 0 {
        return 1.0;
    }
    if p <= 0.0 {
        return 0.0;
    }
    // From all of them downwards, in logarithms: 0.3^512 is no number that a double can hold.
    let (mut log, mut sum) = (total as f64 * p.ln(), 0.0);
    let odds = (1.0 - p).ln() - p.ln();
    for gone in 0..=total.saturating_sub(needed) {
        sum += log.exp();
        log += ((total - gone) as f64 / (gone + 1) as f64).ln() + odds;
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(one: f64, other: f64, within: f64) -> bool {
        (one - other).abs() < within
    }

    #[test]
    fn blocks_vanish_as_was_measured() {
        assert!(close(there(14.0), 0.5, 0.005) && close(there(30.0), 0.175, 0.005));
    }

    #[test]
    fn a_segment_survives_as_the_binomial_says() {
        // 128 of 192 at 0.7 fail in 14 of 100 cases, at 0.8 in 5 of a million; 16 of 32 at 0.6 in 9.
        assert!(close(at_least(128, 192, 0.7), 0.86, 0.01));
        assert!(close(1.0 - at_least(128, 192, 0.8), 4.9e-6, 2e-7));
        assert!(close(1.0 - at_least(16, 32, 0.6), 0.092, 0.001));
        assert!(close(at_least(256, 512, 0.01), 0.0, 1e-12) && at_least(1, 3, 1.0) > 0.999);
    }

    #[test]
    fn more_is_said_of_more_samples_more_parity_and_less_loss() {
        let days = |found, missing, thinnest| {
            let summary = Summary { found, missing, segments: 1, thinnest, ..Summary::default() };
            days_without_repair(&summary)
        };
        let standard = Some((128, 192));
        assert_eq!(days(0, 0, standard), None);
        assert_eq!(days(0, 16, standard), Some(0));
        let [few, many] = [16, 160].map(|found| days(found, 0, standard).unwrap());
        assert!(0 < few && few < many, "{few} {many}");
        assert!(days(140, 20, standard).unwrap() < many);
        assert!(days(160, 0, Some((128, 256))).unwrap() > many);
        // Ten segments die with the first of them.
        let one = Summary { found: 160, segments: 1, thinnest: standard, ..Summary::default() };
        let ten = Summary { segments: 10, ..one };
        assert!(days_without_repair(&ten) <= days_without_repair(&one));
        let lost = Summary { lost: 1, ..one };
        assert_eq!(days_without_repair(&lost), Some(0));
        assert!(days(3, 0, None).unwrap() > 0, "three copies of a root");
    }
}
