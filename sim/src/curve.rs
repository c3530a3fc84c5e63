//! What one number does not tell: distributions within a run, and what changes with time.
//!
//! Lives here: their names, and merging them. Does not live here: who measures (`run/measure.rs`),
//! pictures (`page.rs`).
//!
//! Distributions are HDR histograms (three significant digits): those of several seeds, or of several
//! machines, add up exactly, whatever the order.

use std::{collections::BTreeMap, fmt};

use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What is distributed.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Curve {
    /// From a router's first start until it is ready.
    Ready,
    /// From a wish to the first byte, of those that succeeded.
    First,
    /// From a wish to the last byte.
    Done,
    /// Longest wait within one answer.
    Stall,
    /// From a put to its end, of those that were stored.
    Put,
    /// From a get to its end, of those that succeeded.
    Get,
    /// Hops of the lookups that succeeded.
    Hops,
    /// What a router carried for others: cells; of graphs, lookups that came by.
    Load,
    /// Rounds until an adversary names somebody.
    Rounds,
}

impl Curve {
    /// Whether values are times, kept in microseconds; otherwise they are counts.
    pub const fn is_time(self) -> bool {
        matches!(self, Self::Ready | Self::First | Self::Done | Self::Stall | Self::Put | Self::Get)
    }

    /// What it is, in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Ready => "from a router's start until it is ready, s",
            Self::First => "from a wish to the first byte, s",
            Self::Done => "from a wish to the last byte, s",
            Self::Stall => "longest wait within one answer, s",
            Self::Put => "from a put to its end, s",
            Self::Get => "from a get to its end, s",
            Self::Hops => "hops of lookups that succeeded",
            Self::Load => "what a router carried for others",
            Self::Rounds => "rounds until the adversary names somebody",
        }
    }

    /// A kept value in the unit of people: seconds or a count.
    #[expect(clippy::cast_precision_loss, reason = "good to 53 bits")]
    pub fn shown(self, value: u64) -> f64 {
        if self.is_time() { value as f64 / 1e6 } else { value as f64 }
    }
}

impl fmt::Display for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Significant digits: every value is kept to within one thousandth.
const DIGITS: u8 = 3;

/// Many values.
///
/// Written as pairs of a value and how often it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution(Histogram<u64>);

/// Distributions by name.
pub type Curves = BTreeMap<Curve, Distribution>;

impl Default for Distribution {
    fn default() -> Self {
        Self(Histogram::new(DIGITS).expect("three digits are a number of digits"))
    }
}

impl Distribution {
    /// Of these values.
    pub fn of(values: impl IntoIterator<Item = u64>) -> Self {
        Self::of_counts(values.into_iter().map(|value| (value, 1)))
    }

    /// Of these values and how often each came.
    pub fn of_counts(counts: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut this = Self::default();
        counts.into_iter().for_each(|(value, count)| this.add_some(value, count));
        this
    }

    /// Of these times in seconds.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "times are positive; casts from floats saturate"
    )]
    pub fn of_seconds(seconds: &[f64]) -> Self {
        Self::of(seconds.iter().map(|it| libm::round(it * 1e6) as u64))
    }

    fn add_some(&mut self, value: u64, count: u64) {
        // It grows as it must, and no value of 64 bits is too large for that.
        let _ = self.0.record_n(value, count);
    }

    /// Adds what came of others.
    pub fn add(&mut self, other: &Self) {
        other.counts().for_each(|(value, count)| self.add_some(value, count));
    }

    /// Values and how often they came, ascending.
    pub fn counts(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter_recorded().map(|it| (it.value_iterated_to(), it.count_at_value()))
    }

    /// How many values there are.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value below which this share lies; zero where there are none.
    pub fn quantile(&self, share: f64) -> u64 {
        self.0.value_at_quantile(share)
    }
}

impl Serialize for Distribution {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.counts())
    }
}

impl<'de> Deserialize<'de> for Distribution {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<(u64, u64)>::deserialize(deserializer).map(Self::of_counts)
    }
}

/// What changes with time.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trend {
    /// Share of users whom an adversary has named; by days.
    Exposed,
    /// Share of users that have had a hostile guard; by days.
    GuardHostile,
    /// Share of what was stored that is found; by days.
    Retention,
    /// Share of initiators that an adversary has named rightly; by rounds.
    Identified,
    /// Detections, by false alarms.
    Roc,
    /// Share of what an honest router would make tunnels of that is hostile; by minutes.
    ViewHostile,
    /// The same of a view that keeps whom it heard of last.
    ViewHostileSimple,
    /// Share of the routers that crawlers know of; by minutes.
    Enumerated,
    /// Share of the services one of whose guards an adversary has found; by days.
    GuardFound,
    /// Share of a victim's neighbours that are hostile; by minutes.
    NeighboursHostile,
}

impl Trend {
    /// What it is, and what it goes by.
    pub const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Exposed => ("share of users whom the adversary has named", "days"),
            Self::GuardHostile => ("share of users that have had a hostile guard", "days"),
            Self::Retention => ("share of what was stored that is found", "days"),
            Self::Identified => ("share of initiators named rightly", "rounds"),
            Self::Roc => ("share that is detected", "share of others blamed"),
            Self::ViewHostile => ("hostile share of what tunnels are made of", "minutes"),
            Self::ViewHostileSimple => ("hostile share of a simple view", "minutes"),
            Self::Enumerated => ("share of the routers that crawlers know of", "minutes"),
            Self::GuardFound => ("share of services whose guard the adversary has found", "days"),
            Self::NeighboursHostile => ("hostile share of the victim's neighbours", "minutes"),
        }
    }
}

/// Points (x, y), x ascending and the same with every seed.
pub type Trends = BTreeMap<Trend, Vec<(f64, f64)>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_to_the_whole_in_any_order_and_through_a_file() {
        let values: Vec<u64> = (1..4_000u64).map(|n| n * n % 1_000_003 + n).collect();
        let whole = Distribution::of(values.iter().copied());
        let mut parts: Vec<Distribution> =
            values.chunks(701).map(|part| Distribution::of(part.iter().copied())).collect();
        parts.reverse();
        let mut merged = Distribution::default();
        for part in &parts {
            let text = serde_json::to_string(part).unwrap();
            merged.add(&serde_json::from_str(&text).unwrap());
        }
        assert_eq!(merged.len(), 3_999);
        assert!(merged.counts().eq(whole.counts()));
        assert_eq!(merged.quantile(0.5), whole.quantile(0.5));
    }

    #[test]
    fn small_counts_are_exact_and_large_ones_good_to_a_thousandth() {
        let counts = Distribution::of([0, 7, 7, 1_999]);
        assert!(counts.counts().eq([(0, 1), (7, 2), (1_999, 1)]));
        let one = Distribution::of_seconds(&[123.456_789]);
        let shown = Curve::First.shown(one.quantile(1.0));
        assert!((shown / 123.456_789 - 1.0).abs() < 1e-3, "{shown}");
    }
}
