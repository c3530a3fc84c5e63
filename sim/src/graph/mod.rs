//! The `routing` fidelity: graphs and walks, no routers; a million nodes in a fraction of a GiB.
//!
//! `rule.rs` and `ours.rs` draw the links, `walk.rs` finds ways. Nodes are numbered in the order of the ring, so
//! that the nodes closest to a key are found by bisection and neighbours on the ring by counting.

mod ours;
mod rule;
mod table;
mod terminus;
mod walk;

pub(crate) use self::{
    rule::{harmonic, nearest},
    table::Table,
    walk::Walker,
};
pub use rule::{Rule, RuleError};
pub use walk::{Lookups, Tally};

use warren_overlay::{id::Location, rng::Rng};

/// Nodes and their links.
#[derive(Debug)]
pub struct Graph {
    /// Ascending.
    places: Vec<u64>,
    /// Where each node's links begin, and after the last where they end.
    begins: Vec<u32>,
    links: Vec<u32>,
    dead: Vec<bool>,
}

impl Graph {
    /// A graph of `places`, which ascend, with each node's links.
    pub(crate) fn of(places: Vec<u64>, links: impl Iterator<Item = Vec<u32>>) -> Self {
        let dead = vec![false; places.len()];
        let mut this = Self { places, begins: vec![0], links: Vec::new(), dead };
        for mut links in links {
            this.links.append(&mut links);
            this.begins.push(count(this.links.len()));
        }
        this
    }

    /// How many nodes there are, dead ones included.
    pub fn len(&self) -> u32 {
        count(self.places.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Links a node has on average.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    pub fn mean_degree(&self) -> f64 {
        self.links.len() as f64 / self.places.len().max(1) as f64
    }

    /// Bytes that the graph takes.
    pub fn bytes(&self) -> usize {
        8 * self.places.capacity()
            + 4 * (self.begins.capacity() + self.links.capacity())
            + self.dead.capacity()
    }

    /// Kills this share of the nodes, drawn anew each time; nobody repairs anything.
    pub fn kill(&mut self, share: f64, rng: &mut Rng) {
        for dead in &mut self.dead {
            *dead = *dead || rng.unit() < share;
        }
    }

    /// Whether a node is dead.
    pub fn is_dead(&self, node: u32) -> bool {
        self.dead.get(node as usize).copied().unwrap_or(true)
    }

    /// Where a node is.
    pub fn place(&self, node: u32) -> Location {
        Location(self.places.get(node as usize).copied().unwrap_or(0))
    }

    /// Whom a node is linked with.
    pub fn links(&self, node: u32) -> &[u32] {
        let at = |node: usize| self.begins.get(node).map(|at| *at as usize);
        match (at(node as usize), at(node as usize + 1)) {
            (Some(from), Some(to)) => self.links.get(from..to).unwrap_or_default(),
            _ => &[],
        }
    }

    /// The `n` nodes closest to `key`, dead or not, closest first.
    pub fn closest(&self, key: Location, n: usize) -> Vec<u32> {
        nearest(&self.places, key, n)
    }
}

/// A number of nodes or links, which fit 32 bits.
fn count(n: usize) -> u32 {
    u32::try_from(n).expect("a graph has fewer than 2^32 links")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Streams;

    #[test]
    fn the_closest_are_those_that_a_search_of_all_finds() {
        let mut rng = Streams::new(1).of("test", 0);
        let graph = Rule::Uniform.graph(50, 8, &mut rng).unwrap();
        for _ in 0..200 {
            let key = Location(rng.below(u64::MAX));
            let mut all: Vec<u32> = (0..50).collect();
            all.sort_by_key(|node| graph.place(*node).distance(key));
            assert_eq!(graph.closest(key, 3), all[..3]);
        }
    }
}
