//! Numbers over seeds: intervals, paired differences, doubts, and how unevenly a load lies.
//!
//! Lives here: what is computed from one value a seed. Does not live here: the values (`run.rs`),
//! distributions within a run (`curve.rs`).

use serde::Serialize;

/// Seeds below which an interval is worth little: it rests on a guess of how seeds differ.
pub const SEEDS_FEW: u32 = 10;
/// Half an interval above this share of its mean is wide.
pub const WIDE: f64 = 0.05;

/// Values of the seeds that gave one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// How many.
    pub seeds: u32,
    /// Their mean.
    pub mean: f64,
    /// Half the width of the interval that holds the true mean with 95 % (Student's t); missing for
    /// one seed.
    pub half_width_95: Option<f64>,
    /// The lowest.
    pub least: f64,
    /// The highest.
    pub most: f64,
}

/// 97.5 % of Student's t for 1 to 30 degrees of freedom.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];

impl Interval {
    /// Of one value a seed.
    pub fn of(values: &[f64]) -> Self {
        let seeds = u32::try_from(values.len()).unwrap_or(u32::MAX);
        let n = f64::from(seeds);
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|it| (it - mean) * (it - mean)).sum();
        let t = values.len().checked_sub(2).map(|at| STUDENT.get(at).copied().unwrap_or(1.96));
        Self {
            seeds,
            mean,
            half_width_95: t.map(|t| t * libm::sqrt(squares / (n - 1.0) / n)),
            least: values.iter().copied().fold(f64::INFINITY, f64::min),
            most: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }

    /// Why this says less than it seems to; nothing where it is good enough. A value that is the same
    /// with every seed needs no more of them.
    pub fn doubt(&self) -> Option<String> {
        let Some(half) = self.half_width_95 else {
            return Some(format!("one seed says nothing of others: run {SEEDS_FEW} or more"));
        };
        let wanted = WIDE * self.mean.abs();
        if half <= 1e-12 * self.mean.abs().max(1e-12) {
            None
        } else if half > wanted {
            let needed = seeds_for(self.seeds, half, wanted);
            let needed = needed.map_or_else(String::new, |n| format!(": about {n} seeds would do"));
            Some(format!("the interval is wider than 5 % of the mean either way{needed}"))
        } else if self.seeds < SEEDS_FEW {
            Some(format!("{} seeds are few: run {SEEDS_FEW} or more", self.seeds))
        } else {
            None
        }
    }
}

/// Seeds with which half an interval of `half` would come down to `wanted`; `None` beyond a million.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to a million")]
fn seeds_for(seeds: u32, half: f64, wanted: f64) -> Option<u32> {
    let needed = libm::ceil(f64::from(seeds) * (half / wanted) * (half / wanted));
    (needed <= 1e6).then_some((needed as u32).max(SEEDS_FEW))
}

/// What a metric is in B, where it was something else in A, seed by seed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Paired {
    /// In A.
    pub a: Interval,
    /// In B.
    pub b: Interval,
    /// B minus A of the same seed. With common random numbers this varies less than either.
    pub change: Interval,
    /// What can be said.
    pub finding: Finding,
    /// Why it should not be relied on.
    pub doubt: Option<String>,
}

/// What a comparison finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// B is higher: the interval of the change lies above zero.
    Higher,
    /// B is lower.
    Lower,
    /// Every seed has the same value in both.
    Same,
    /// The interval holds zero.
    Unclear,
}

impl Paired {
    /// Of pairs (A, B), one a seed; `None` without any.
    pub fn of(pairs: &[(f64, f64)]) -> Option<Self> {
        if pairs.is_empty() {
            return None;
        }
        let interval =
            |of: fn(&(f64, f64)) -> f64| Interval::of(&pairs.iter().map(of).collect::<Vec<_>>());
        let (a, b) = (interval(|it| it.0), interval(|it| it.1));
        let change = interval(|it| it.1 - it.0);
        let same = pairs.iter().all(|(a, b)| a.total_cmp(b).is_eq());
        let finding = match change.half_width_95 {
            _ if same => Finding::Same,
            Some(half) if change.mean - half > 0.0 => Finding::Higher,
            Some(half) if change.mean + half < 0.0 => Finding::Lower,
            _ => Finding::Unclear,
        };
        let doubt = doubt(&a, &change, finding);
        Some(Self { a, b, change, finding, doubt })
    }
}

/// A comparison is under-powered with few seeds, or where it could not tell a change of 5 % of A from none.
fn doubt(a: &Interval, change: &Interval, finding: Finding) -> Option<String> {
    let Some(half) = change.half_width_95 else {
        return Some(format!("one seed in common: run {SEEDS_FEW} or more in both"));
    };
    let wanted = WIDE * a.mean.abs();
    match finding {
        Finding::Unclear if half > wanted => {
            let needed = seeds_for(change.seeds, half, wanted);
            let needed = needed.map_or_else(String::new, |n| format!(" (about {n} would)"));
            let seeds = change.seeds;
            Some(format!("under-powered: {seeds} seeds would not show a change of 5 %{needed}"))
        }
        Finding::Same => None,
        _ if change.seeds < SEEDS_FEW => {
            Some(format!("{} seeds in common are few: run {SEEDS_FEW} or more", change.seeds))
        }
        _ => None,
    }
}

/// How unevenly a load lies: 0 where everybody carries the same, towards 1 where one carries all. `None`
/// where nobody carries anything.
#[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
pub fn gini(loads: impl IntoIterator<Item = u64>) -> Option<f64> {
    let mut loads: Vec<u64> = loads.into_iter().collect();
    loads.sort_unstable();
    let n = loads.len() as f64;
    let sum: f64 = loads.iter().map(|it| *it as f64).sum();
    let ranked: f64 = (1u32..).zip(&loads).map(|(rank, it)| f64::from(rank) * *it as f64).sum();
    (sum > 0.0).then(|| 2.0 * ranked / (n * sum) - (n + 1.0) / n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_students() {
        let interval = Interval::of(&[1.0, 2.0, 3.0, 4.0]);
        assert_eq!((interval.mean, interval.least, interval.most), (2.5, 1.0, 4.0));
        let half = interval.half_width_95.unwrap();
        assert!((half - 2.054).abs() < 0.001, "{half}");
        assert_eq!(Interval::of(&[1.0]).half_width_95, None);
    }

    #[test]
    fn few_or_wide_is_doubted_and_certain_is_not() {
        let doubt = |values: &[f64]| Interval::of(values).doubt();
        assert!(doubt(&[1.0]).unwrap().contains("one seed"));
        assert!(doubt(&[1.0, 1.01, 0.99, 1.0]).unwrap().contains("4 seeds are few"));
        assert!(doubt(&[1.0, 3.0, 2.0, 1.0]).unwrap().contains("wider than 5 %"));
        assert_eq!(doubt(&[2.0, 2.0, 2.0]), None, "the same every time");
        assert_eq!(doubt(&[0.0; 3]), None);
        let many: Vec<f64> = (0..40).map(|n| 1.0 + f64::from(n % 2) / 100.0).collect();
        assert_eq!(doubt(&many), None);
    }

    #[test]
    fn pairs_show_what_unpaired_values_hide() {
        // Seeds differ by ones; B is higher by a tenth with each.
        let pairs: Vec<_> = (0..12)
            .map(|n| (f64::from(n), f64::from(n) + 0.1 + 0.001 * f64::from(n % 2)))
            .collect();
        let paired = Paired::of(&pairs).unwrap();
        assert_eq!((paired.finding, paired.doubt), (Finding::Higher, None));
        let back: Vec<_> = pairs.iter().map(|(a, b)| (*b, *a)).collect();
        assert_eq!(Paired::of(&back).unwrap().finding, Finding::Lower);
        // The same, shuffled: nothing is seen, and said to be too little.
        let shuffled: Vec<_> =
            pairs.iter().zip(pairs.iter().cycle().skip(5)).map(|(a, b)| (a.0, b.1)).collect();
        let paired = Paired::of(&shuffled).unwrap();
        assert_eq!(paired.finding, Finding::Unclear);
        assert!(paired.doubt.unwrap().contains("under-powered"));
        assert_eq!(Paired::of(&[(1.0, 1.0), (2.0, 2.0)]).unwrap().finding, Finding::Same);
        assert_eq!(Paired::of(&[]), None);
    }

    #[test]
    fn ginis_index_of_known_loads() {
        let near = |loads: &[u64], wanted: f64| {
            let it = gini(loads.iter().copied()).unwrap();
            assert!((it - wanted).abs() < 1e-12, "{loads:?}: {it}");
        };
        near(&[5, 5, 5, 5], 0.0);
        near(&[0, 0, 0, 8], 0.75);
        near(&[3, 1, 2], 2.0 / 9.0);
        assert_eq!(gini([0, 0]), None);
        assert_eq!(gini([]), None);
    }
}
