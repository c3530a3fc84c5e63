//! Weeks of the datastore over a routing graph, as scenarios write them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ScenarioError, Size, Span, value};
use crate::graph::Rule;

/// Most items.
const ITEMS_MAX: u32 = 1_000_000;
/// Most members: each has a disk.
const MEMBERS_MAX: u32 = 20_000;

/// Blocks that are stored in the first hours and never fetched, on the disks of members who come and go.
/// Production holders decide what becomes of them.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// Simulated time.
    pub duration: Span,
    /// Blocks.
    pub items: u32,
    /// Whether neighbours offer each other what they may lack; without it nobody repairs or hands over.
    #[serde(default = "yes")]
    pub repair: bool,
    /// Room for others' blocks on each disk.
    #[serde(default = "default_room")]
    pub room: Size,
    /// Share of sessions that end in order, with a handover; others end as by a crash. Nobody who goes for
    /// good says so.
    #[serde(default)]
    pub graceful: f64,
    /// How members are online. Without any everybody always is.
    #[serde(default)]
    pub class: Vec<Class>,
    /// How long members stay members. Without any they stay for ever.
    #[serde(default)]
    pub life: Vec<Life>,
    /// Moments at which all blocks are looked for, each by a member of chance. Nothing is fetched.
    #[serde(default)]
    pub sweeps: Vec<Span>,
}

/// Members who are online alike.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    /// Of all members.
    pub share: f64,
    /// Mean session; exponential.
    pub online: Span,
    /// Mean pause; exponential. Without it there is none.
    pub offline: Option<Span>,
}

/// Members who stay alike.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Life {
    /// Of the members at any moment.
    pub share: f64,
    /// Mean time as a member; exponential. Then somebody new has the seat.
    pub mean: Span,
}

fn yes() -> bool {
    true
}

fn default_room() -> Size {
    Size(256 << 20)
}

impl Keep {
    pub(super) fn check(&self, routers: u32, rule: Rule, dead: f64) -> Result<(), ScenarioError> {
        if routers > MEMBERS_MAX {
            return Err(value("network.routers", format!("at most {MEMBERS_MAX} with `keep`")));
        }
        if rule != Rule::Ours || dead > 0.0 {
            return Err(value("keep", "goes with rule = \"ours\" and without `dead`"));
        }
        if !(1..=ITEMS_MAX).contains(&self.items) {
            return Err(value("keep.items", format!("1 to {ITEMS_MAX}, not {}", self.items)));
        }
        if self.duration.0.as_secs() < 3 * 3_600 {
            return Err(value("keep.duration", "at least 3h: storing takes the first two"));
        }
        if self.room.0 < 1 << 20 {
            return Err(value("keep.room", "at least 1MiB"));
        }
        if !(0.0..=1.0).contains(&self.graceful) {
            return Err(value("keep.graceful", "a share: 0 to 1"));
        }
        let shares = [
            self.class.iter().map(|it| it.share).collect::<Vec<_>>(),
            self.life.iter().map(|it| it.share).collect(),
        ];
        for shares in shares {
            let bad = shares.iter().any(|it| !(0.0..=1.0).contains(it));
            if bad || !shares.is_empty() && (shares.iter().sum::<f64>() - 1.0).abs() > 0.001 {
                return Err(value("keep.class", "and `keep.life`: shares must add up to 1"));
            }
        }
        let zero = |span: &Span| span.0.is_zero();
        let spans = self.class.iter().map(|it| it.online).chain(self.life.iter().map(|it| it.mean));
        if spans.chain(self.class.iter().filter_map(|it| it.offline)).any(|it| zero(&it)) {
            return Err(value("keep.class", "and `keep.life`: times must be above zero"));
        }
        if self.sweeps.iter().any(|at| at.0 > self.duration.0) {
            return Err(value("keep.sweeps", "after the end"));
        }
        Ok(())
    }
}
