//! Who is linked with whom: link rules.
//!
//! Lives here: ours, and those it is compared with. Does not live here: walks (`walk.rs`), the
//! production router's way to win such links (`warren_overlay::ring`).

use serde::{Deserialize, Serialize};
use warren_overlay::{id::Location, rng::Rng};

use super::{Graph, count, table::Table};

/// Successors, and as many predecessors, that our routers keep.
const NEAR: u32 = 2;
/// Tries to draw a node that one is not linked with.
const DRAWS_MAX: u32 = 64;

/// How links are drawn.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Two neighbours on each side, and long links drawn 1/d, evenly over the octaves of distance.
    #[default]
    Ours,
    /// One neighbour on each side, the rest drawn 1/d.
    Harmonic,
    /// One neighbour on each side; 70 % of the rest within 1 % of the ring, 30 % anywhere.
    Freenet,
    /// One neighbour on each side, the rest anywhere.
    Uniform,
    /// Who joins is linked with those at whom its join requests end: nobody draws long links.
    Terminus,
}

/// A graph that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a graph needs at least 16 nodes and a degree from 6 to 64 that is even")]
pub struct RuleError;

impl Rule {
    /// A graph of `nodes` nodes with about `degree` links each, both ends counted.
    ///
    /// # Errors
    /// With fewer than 16 nodes, or a degree that is odd or not from 6 to 64.
    pub fn graph(self, nodes: u32, degree: u32, rng: &mut Rng) -> Result<Graph, RuleError> {
        if nodes < 16 || !(6..=64).contains(&degree) || !degree.is_multiple_of(2) {
            return Err(RuleError);
        }
        let mut places: Vec<u64> = (0..nodes).map(|_| rng.below(u64::MAX)).collect();
        places.sort_unstable();
        if self == Self::Terminus {
            return Ok(terminus(places, degree, rng));
        }
        let near = if self == Self::Ours { NEAR } else { 1 };
        // Both ends count a link and nobody draws more than half of theirs, so twice the degree is
        // room for all but one in millions; who is full is drawn anew.
        let mut table = Table::new(nodes, 2 * degree);
        for node in 0..nodes {
            for step in 1..=near {
                table.link(node, (node + step) % nodes);
            }
        }
        let turns = degree / 2 - near;
        for turn in 0..turns {
            for node in 0..nodes {
                for _ in 0..DRAWS_MAX {
                    let to = self.draw(&places, node, (turn, turns), rng);
                    if to.is_some_and(|to| table.link(node, to)) {
                        break;
                    }
                }
            }
        }
        Ok(table.graph(places))
    }

    /// The far end of one long link: a point is drawn, and who is closest to it taken.
    fn draw(
        self,
        places: &[u64],
        node: u32,
        (turn, turns): (u32, u32),
        rng: &mut Rng,
    ) -> Option<u32> {
        let own = *places.get(node as usize)?;
        // From the third neighbour on, ours are long; others from the second.
        let spacing = u64::MAX / places.len() as u64;
        let least = if self == Self::Ours { spacing * u64::from(NEAR) } else { spacing };
        let distance = match self {
            // A stratum of the logarithm for each link: no octave is left out.
            Self::Ours => harmonic(least, (f64::from(turn) + rng.unit()) / f64::from(turns)),
            Self::Harmonic => harmonic(least, rng.unit()),
            Self::Freenet if rng.unit() < 0.7 => rng.below(u64::MAX / 100),
            Self::Freenet | Self::Uniform | Self::Terminus => rng.below(u64::MAX / 2),
        };
        let left = rng.below(2) == 0;
        let point = own.wrapping_add(if left { distance.wrapping_neg() } else { distance });
        Some(closest(places, point))
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

fn closest(places: &[u64], point: u64) -> u32 {
    let len = places.len();
    let after = places.partition_point(|place| *place < point);
    let [before, after] = [(after + len - 1) % len, after % len];
    let far = |at: usize| places.get(at).map(|it| Location(*it).distance(Location(point)));
    count(if far(before) < far(after) { before } else { after })
}

/// Joins one after the other, in an order of chance: each asks members of chance to route to its
/// own place, and is linked with whoever it ends at. Who has too many keeps the closest.
fn terminus(places: Vec<u64>, degree: u32, rng: &mut Rng) -> Graph {
    let nodes = count(places.len());
    let mut order: Vec<u32> = (0..nodes).collect();
    for at in (1..order.len()).rev() {
        let with = usize::try_from(rng.below(at as u64 + 1)).unwrap_or(0);
        order.swap(at, with);
    }
    let mut table = Table::new(nodes, degree + 1);
    let far = |a: u32, b: u32| {
        let place = |node: u32| Location(places.get(node as usize).copied().unwrap_or(0));
        place(a).distance(place(b))
    };
    for (at, &node) in order.iter().enumerate().skip(1) {
        for _ in 0..degree / 2 {
            let member = usize::try_from(rng.below(at as u64)).unwrap_or(0);
            let mut here = order.get(member).copied().unwrap_or(0);
            let open = |it: &u32| *it != node;
            while let Some(next) =
                table.of(here).iter().copied().filter(open).min_by_key(|it| far(*it, node))
                && far(next, node) < far(here, node)
            {
                here = next;
            }
            // The one that it ends at, or the closest around it that is no neighbour yet.
            let around = table.of(here).iter().copied();
            let new = |it: &u32| *it != node && !table.of(node).contains(it);
            let to =
                std::iter::once(here).chain(around).filter(new).min_by_key(|it| far(*it, node));
            let Some(to) = to.filter(|to| table.link(node, *to)) else { continue };
            for full in [node, to] {
                if table.of(full).len() > degree as usize {
                    let last = table.of(full).iter().copied().max_by_key(|it| far(*it, full));
                    if let Some(last) = last {
                        table.unlink(full, last);
                    }
                }
            }
        }
    }
    table.graph(places)
}
