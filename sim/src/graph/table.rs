//! Links while they are drawn: room for so many a node, side by side.

use super::{Graph, count};

/// Links of nodes that have at most so many each.
#[derive(Debug)]
pub(crate) struct Table {
    room: usize,
    taken: Vec<u32>,
    to: Vec<u32>,
}

impl Table {
    /// Room for `room` links at each of `nodes` nodes.
    pub(crate) fn new(nodes: u32, room: u32) -> Self {
        let (nodes, room) = (nodes as usize, room as usize);
        Self { room, taken: vec![0; nodes], to: vec![0; nodes * room] }
    }

    /// The links of a node, in the order of drawing.
    pub(crate) fn of(&self, node: u32) -> &[u32] {
        let from = node as usize * self.room;
        let taken = self.taken.get(node as usize).map_or(0, |it| *it as usize);
        self.to.get(from..from + taken).unwrap_or_default()
    }

    fn has_room(&self, node: u32) -> bool {
        self.taken.get(node as usize).is_some_and(|it| (*it as usize) < self.room)
    }

    /// A link one way; false if it is there, leads nowhere, or there is no room.
    pub(crate) fn add(&mut self, from: u32, to: u32) -> bool {
        if from == to || !self.has_room(from) || self.of(from).contains(&to) {
            return false;
        }
        let at = from as usize * self.room + self.of(from).len();
        if let (Some(place), Some(taken)) = (self.to.get_mut(at), self.taken.get_mut(from as usize))
        {
            *place = to;
            *taken += 1;
        }
        true
    }

    /// A link both ways; false if it is there, leads nowhere, or there is no room.
    pub(crate) fn link(&mut self, a: u32, b: u32) -> bool {
        self.has_room(b) && self.add(a, b) && self.add(b, a)
    }

    /// Takes a link out, both ways.
    pub(crate) fn unlink(&mut self, a: u32, b: u32) {
        for (from, to) in [(a, b), (b, a)] {
            let Some(at) = self.of(from).iter().position(|it| *it == to) else { continue };
            let first = from as usize * self.room;
            let Some(taken) = self.taken.get_mut(from as usize) else { continue };
            *taken -= 1;
            self.to.swap(first + at, first + *taken as usize);
        }
    }

    /// The graph of nodes at `places`, which ascend.
    pub(crate) fn graph(self, places: Vec<u64>) -> Graph {
        let links = self.taken.iter().map(|taken| *taken as usize).sum();
        let mut graph = Graph {
            begins: Vec::with_capacity(places.len() + 1),
            links: Vec::with_capacity(links),
            dead: vec![false; places.len()],
            places,
        };
        for node in 0..count(self.taken.len()) {
            graph.begins.push(count(graph.links.len()));
            graph.links.extend_from_slice(self.of(node));
        }
        graph.begins.push(count(graph.links.len()));
        graph
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_count_both_ways_and_once() {
        let mut table = Table::new(3, 2);
        assert!(table.link(0, 1) && table.link(1, 2));
        assert!(!table.link(1, 0), "it is there");
        assert!(!table.link(2, 2), "to itself");
        assert!(table.link(0, 2));
        table.unlink(1, 0);
        let graph = table.graph(vec![0, 5, 9]);
        assert_eq!(graph.links(0), [2]);
        assert_eq!(graph.links(1), [2]);
        assert_eq!(graph.links(2), [1, 0]);
    }

    #[test]
    fn who_is_full_takes_no_more() {
        let mut table = Table::new(4, 2);
        assert!(table.link(0, 1) && table.link(0, 2));
        assert!(!table.link(3, 0) && !table.link(0, 3));
        assert_eq!(table.of(3), [0; 0], "not even one way");
    }
}
