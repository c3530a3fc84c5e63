//! What people store and fetch, as scenarios write it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ScenarioError, Size, Span, value};

/// Most items of a scenario.
const ITEMS_MAX: u32 = 100_000;
/// Most sweeps.
const SWEEPS_MAX: usize = 64;
/// The longest file.
const BYTES_MAX: u64 = 64 << 20;

/// Files or blocks that are stored, and asked for with Zipf popularity. Moments count from the end of
/// the warm-up.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StoreLoad {
    /// What an item is.
    #[serde(default)]
    pub unit: Unit,
    /// Items that are stored in the beginning.
    pub items: u32,
    /// They are stored within this time, one after the other, by routers of chance; people come after it.
    #[serde(default = "default_load")]
    pub load: Span,
    /// Mean length of a file.
    #[serde(default = "default_bytes")]
    pub bytes: Size,
    /// Lengths are lognormal with this sigma; 0: all the same.
    #[serde(default = "one")]
    pub sigma: f64,
    /// People, each at a router of chance.
    #[serde(default)]
    pub clients: u32,
    /// Mean time between two wishes of one; exponential.
    #[serde(default = "default_every")]
    pub every: Span,
    /// The item that is n-th in popularity, which is the n-th stored, is wanted as often as n to minus
    /// this; 0: all alike.
    #[serde(default = "one")]
    pub zipf: f64,
    /// Share of wishes that store a new item instead of getting one.
    #[serde(default)]
    pub puts: f64,
    /// Moments at which every item is asked for once, each by a router of chance, all within ten seconds.
    #[serde(default)]
    pub sweeps: Vec<Span>,
}

/// What is stored.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, PartialOrd, Ord, Serialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Blocks by themselves, 32 KiB each.
    #[default]
    Block,
    /// Files: sealed, coded, and fetched as the command line does it.
    File,
}

fn default_load() -> Span {
    Span::seconds(30)
}

fn default_bytes() -> Size {
    Size(200 << 10)
}

fn default_every() -> Span {
    Span::seconds(10)
}

fn one() -> f64 {
    1.0
}

impl StoreLoad {
    pub(super) fn check(&self) -> Result<(), ScenarioError> {
        if !(1..=ITEMS_MAX).contains(&self.items) {
            let why = format!("1 to {ITEMS_MAX}, not {}", self.items);
            return Err(value("workload.store.items", why));
        }
        if self.load.0.is_zero() {
            return Err(value("workload.store.load", "must be above zero"));
        }
        if !(1..=BYTES_MAX).contains(&self.bytes.0) {
            return Err(value("workload.store.bytes", "1B to 64MiB"));
        }
        if !(0.0..=3.0).contains(&self.sigma) {
            return Err(value("workload.store.sigma", "0 to 3"));
        }
        if !(0.0..=10.0).contains(&self.zipf) {
            return Err(value("workload.store.zipf", "0 to 10"));
        }
        if !(0.0..=1.0).contains(&self.puts) {
            return Err(value("workload.store.puts", "a share: 0 to 1"));
        }
        if self.every.0.as_millis() == 0 {
            return Err(value("workload.store.every", "must be at least 1ms"));
        }
        if self.sweeps.len() > SWEEPS_MAX {
            return Err(value("workload.store.sweeps", format!("at most {SWEEPS_MAX}")));
        }
        Ok(())
    }
}
