//! Who is linked with whom: link rules.
//!
//! Lives here: those that ours is compared with. Does not live here: ours (`ours.rs`), links where joins end
//! (`terminus.rs`), walks
//! (`walk.rs`), the production router's way to win links (`warren_overlay::ring`).

use serde::{Deserialize, Serialize};
use warren_overlay::{id::Location, rng::Rng};

use super::{Graph, count, ours, table::Table, terminus};

/// Tries to draw a node that one is not linked with.
const DRAWS_MAX: u32 = 64;

/// Nodes that gather links in rounds: some minutes of CPU.
const TERMINUS_MAX: u32 = 200_000;

/// How links are drawn.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// As our routers have it in a network that grew: two neighbours on each side, long links drawn 1/d,
    /// evenly over the octaves of distance, until everybody has the degree; what others draw comes on top.
    #[default]
    Ours,
    /// One neighbour on each side, the rest drawn 1/d.
    Harmonic,
    /// One neighbour on each side; 70 % of the rest within 1 % of the ring, 30 % anywhere.
    Freenet,
    /// One neighbour on each side, the rest anywhere.
    Uniform,
    /// Links are made where requests end, near oneself at first and then between the links that one has:
    /// nobody draws long links. From half the degree up to it.
    Terminus,
}

/// A graph that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a graph needs at least 16 nodes (`terminus`: at most {TERMINUS_MAX}) and a degree from 6 to 64 that is even"
)]
pub struct RuleError;

impl Rule {
    /// A graph of `nodes` nodes with about `degree` links each, both ends counted; of ours nearly everybody has
    /// as many or more.
    ///
    /// # Errors
    /// With fewer than 16 nodes, too many of `Terminus`, or a degree that is odd or not from 6 to 64.
    pub fn graph(self, nodes: u32, degree: u32, rng: &mut Rng) -> Result<Graph, RuleError> {
        if nodes < 16 || !(6..=64).contains(&degree) || !degree.is_multiple_of(2) {
            return Err(RuleError);
        }
        if self == Self::Terminus && nodes > TERMINUS_MAX {
            return Err(RuleError);
        }
        let mut places: Vec<u64> = (0..nodes).map(|_| rng.below(u64::MAX)).collect();
        places.sort_unstable();
        match self {
            Self::Ours => return Ok(ours::graph(places, degree, rng)),
            Self::Terminus => return Ok(terminus::graph(places, degree, rng)),
            Self::Harmonic | Self::Freenet | Self::Uniform => {}
        }
        // Both ends count a link and nobody draws more than half of theirs, so twice the degree is
        // room for all but one in millions; who is full is drawn anew.
        let mut table = Table::new(nodes, 2 * degree);
        for node in 0..nodes {
            table.link(node, (node + 1) % nodes);
        }
        for _ in 1..degree / 2 {
            for node in 0..nodes {
                for _ in 0..DRAWS_MAX {
                    let to = self.draw(&places, node, rng);
                    if to.is_some_and(|to| table.link(node, to)) {
                        break;
                    }
                }
            }
        }
        Ok(table.graph(places))
    }

    /// The far end of one long link: a point is drawn, and who is closest to it taken.
    fn draw(self, places: &[u64], node: u32, rng: &mut Rng) -> Option<u32> {
        let own = *places.get(node as usize)?;
        let distance = match self {
            Self::Harmonic => harmonic(u64::MAX / places.len() as u64, rng.unit()),
            Self::Freenet if rng.unit() < 0.7 => rng.below(u64::MAX / 100),
            Self::Freenet | Self::Uniform | Self::Ours | Self::Terminus => rng.below(u64::MAX / 2),
        };
        let left = rng.below(2) == 0;
        let point = own.wrapping_add(if left { distance.wrapping_neg() } else { distance });
        nearest(places, Location(point), 1).first().copied()
    }
}

/// A distance from `least` to half the ring, 1/d: `draw` runs over its logarithm.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a distance is good to 53 bits, and below 2^63"
)]
pub(crate) fn harmonic(least: u64, draw: f64) -> u64 {
    let half = (1u64 << 63) as f64;
    (least as f64 * libm::pow(half / least as f64, draw)).min(half) as u64
}

/// The `n` nodes closest to `key`, closest first.
pub(crate) fn nearest(places: &[u64], key: Location, n: usize) -> Vec<u32> {
    let len = places.len();
    let after = places.partition_point(|place| *place < key.0);
    // n on either side hold the n closest.
    let near = (0..2 * n.min(len)).map(|step| (after + len + step - n.min(len)) % len);
    let mut near: Vec<_> = near.map(count).collect();
    let place = |node: &u32| Location(places.get(*node as usize).copied().unwrap_or(0));
    near.sort_by_key(|node| (place(node).distance(key), *node));
    near.dedup();
    near.truncate(n);
    near
}
