//! Our link rule, as production routers follow it while a network grows.
//!
//! Lives here: who joins when, who draws a long link, where to, who takes it, who is parted with. Does
//! not live here: other rules (`rule.rs`), production itself (`overlay/src/ring/neighbours.rs`), which
//! this copies without time and messages: a newcomer has its links before the next ones come.
//!
//! Growth is what makes a ring what it is. Whoever came early drew over the longer spacing of his day,
//! and has what newcomers drew since on top: links further away, and more of them, than by drawing all
//! of them over the ring as it is now.

use warren_overlay::{
    id::Location,
    ring::{NEAR, REPLICAS},
    rng::Rng,
};

use super::{Graph, count, rule::harmonic, rule::nearest};

/// A network grows by this factor at a time.
const GROWTH: f64 = 1.1;
/// Draws in vain after which a node is content with what it has until the ring has grown; and while a
/// large ring grows, where those few who find nobody new would cost more than all others.
const VAIN_MAX: u8 = 64;
const VAIN_MAX_LARGE: u8 = 8;
const LARGE: usize = 4_096;
/// Times that draws and parting alternate before the ring goes on growing: both end soon.
const SETTLE_MAX: u32 = 8;
/// Parts of the scale of distances that are told apart: more than it has octaves.
const STRATA_MAX: usize = 64;

/// Why a link is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Drawn,
    Offered,
    Near,
}

/// A graph whose nodes want `degree` links each.
pub(super) fn graph(places: Vec<u64>, degree: u32, rng: &mut Rng) -> Graph {
    let nodes = places.len();
    let mut order: Vec<u32> = (0..count(nodes)).collect();
    for at in (1..nodes).rev() {
        let with = usize::try_from(rng.below(at as u64 + 1)).unwrap_or(0);
        order.swap(at, with);
    }
    let mut members = Ring::new(places, degree);
    let mut size = nodes.min(degree as usize + 1);
    loop {
        members.grow(order.get(..size).unwrap_or_default());
        let growing = size >= LARGE && size < nodes;
        members.vain_max = if growing { VAIN_MAX_LARGE } else { VAIN_MAX };
        members.settle(rng);
        if size == nodes {
            let links = members.links.into_iter().map(|it| it.into_iter().map(|it| it.0).collect());
            return Graph::of(members.places, links);
        }
        size = grown(size).min(nodes);
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a number of nodes is below 2^32"
)]
fn grown(size: usize) -> usize {
    (size as f64 * GROWTH) as usize + 1
}

struct Ring {
    places: Vec<u64>,
    degree: usize,
    /// Of each node.
    links: Vec<Vec<(u32, Origin)>>,
    vain: Vec<u8>,
    vain_max: u8,
    /// Who has joined, in the order of the ring; where they are; and each node's turn among them.
    members: Vec<u32>,
    around: Vec<u64>,
    turns: Vec<u32>,
}

impl Ring {
    fn new(places: Vec<u64>, degree: u32) -> Self {
        Self {
            degree: degree as usize,
            links: vec![Vec::new(); places.len()],
            vain: vec![0; places.len()],
            vain_max: VAIN_MAX,
            members: Vec::new(),
            around: Vec::new(),
            turns: vec![0; places.len()],
            places,
        }
    }

    /// Those who have joined are `members` now: newcomers are linked with those next to them.
    fn grow(&mut self, members: &[u32]) {
        self.members = members.to_vec();
        self.members.sort_unstable();
        self.around = self.members.iter().map(|it| self.place(*it).0).collect();
        for (turn, node) in (0..).zip(&self.members) {
            if let Some(entry) = self.turns.get_mut(*node as usize) {
                *entry = turn;
            }
        }
        self.vain.fill(0);
        // A network no larger than the degree is a full mesh.
        let mesh = self.members.len() <= self.degree + 1;
        let steps = if mesh { self.members.len() / 2 } else { NEAR };
        for at in 0..self.members.len() {
            for step in 1..=steps {
                let to = self.members.get((at + step) % self.members.len()).copied();
                if let (Some(from), Some(to)) = (self.members.get(at).copied(), to) {
                    self.link(from, to, [Origin::Near; 2]);
                }
            }
        }
    }

    /// Draws and partings until everybody has what he wants.
    fn settle(&mut self, rng: &mut Rng) {
        let members = std::mem::take(&mut self.members);
        for _ in 0..SETTLE_MAX {
            let mut still = true;
            let mut open = members.clone();
            loop {
                // Who wants nothing now wants nothing until somebody parts with him.
                open.retain(|node| self.wants(*node));
                if open.is_empty() {
                    break;
                }
                still = false;
                for node in &open {
                    if self.wants(*node) {
                        self.draw(*node, &members, rng);
                    }
                }
            }
            for node in &members {
                while let Some(to) = self.surplus(*node) {
                    self.part(*node, to);
                    still = false;
                }
            }
            if still {
                break;
            }
        }
        self.members = members;
    }

    fn of(&self, node: u32) -> &[(u32, Origin)] {
        self.links.get(node as usize).map(Vec::as_slice).unwrap_or_default()
    }

    fn has(&self, node: u32, to: u32) -> bool {
        self.of(node).iter().any(|it| it.0 == to)
    }

    fn link(&mut self, a: u32, b: u32, origins: [Origin; 2]) {
        if a != b && !self.has(a, b) {
            for ((from, to), origin) in [(a, b), (b, a)].into_iter().zip(origins) {
                self.links.get_mut(from as usize).into_iter().for_each(|it| it.push((to, origin)));
            }
        }
    }

    fn part(&mut self, a: u32, b: u32) {
        for (from, to) in [(a, b), (b, a)] {
            if let Some(links) = self.links.get_mut(from as usize) {
                links.retain(|it| it.0 != to);
            }
        }
    }

    fn wants(&self, node: u32) -> bool {
        let links = self.of(node);
        let drawn = links.iter().filter(|it| it.1 == Origin::Drawn).count();
        let few = links.len() < self.degree
            || drawn < self.long().div_ceil(2) && links.len() < self.cap();
        few && self.vain.get(node as usize).is_some_and(|it| *it < self.vain_max)
    }

    fn cap(&self) -> usize {
        self.degree + self.degree / 2
    }

    /// Long links wanted.
    fn long(&self) -> usize {
        self.degree.saturating_sub(2 * NEAR)
    }

    fn place(&self, node: u32) -> Location {
        Location(self.places.get(node as usize).copied().unwrap_or(0))
    }

    fn turn(&self, node: u32) -> usize {
        self.turns.get(node as usize).map_or(0, |it| *it as usize)
    }

    /// Whether two are successor and predecessor, or next to those.
    fn is_near(&self, a: u32, b: u32) -> bool {
        let all = self.around.len();
        let steps = (self.turn(b) + all - self.turn(a)) % all;
        steps.min(all - steps) <= NEAR
    }

    /// One draw: a point, and the closest to it that is new.
    fn draw(&mut self, node: u32, members: &[u32], rng: &mut Rng) {
        let point = self.point(node, rng);
        let around = nearest(&self.around, point, REPLICAS);
        let mut around = around.into_iter().filter_map(|turn| members.get(turn as usize).copied());
        // Who refused is not asked again soon, so the next one is.
        let fits =
            |it: &u32| *it != node && !self.has(node, *it) && self.of(*it).len() < self.cap();
        match around.find(fits) {
            Some(to) => self.link(node, to, [Origin::Drawn, Origin::Offered]),
            None => self.vain.get_mut(node as usize).into_iter().for_each(|it| *it += 1),
        }
    }

    /// Where a long link should lead: the part of the scale with the fewest links, and 1/d in it.
    fn point(&self, node: u32, rng: &mut Rng) -> Location {
        let scale = Scale::around(self, node);
        let strata = scale.octaves().min(self.long()).clamp(1, STRATA_MAX);
        let long = self.of(node).iter().filter(|it| !self.is_near(node, it.0));
        let links = scale.counts(strata, long.map(|it| self.place(it.0)));
        let links = links.get(..strata).unwrap_or_default();
        let least = links.iter().min();
        let open = || links.iter().enumerate().filter(|it| Some(it.1) == least).map(|it| it.0);
        let pick = usize::try_from(rng.below(open().count() as u64)).unwrap_or(0);
        let distance = scale.draw(open().nth(pick).unwrap_or(0), strata, rng);
        let left = rng.below(2) == 0;
        self.place(node).plus(if left { distance } else { distance.wrapping_neg() })
    }

    /// Whom to part with: one of too many, whom nobody drew and who is not near any more; of far too many
    /// also one that others drew. Out of the fullest octave.
    fn surplus(&self, node: u32) -> Option<u32> {
        let links = self.of(node);
        if links.len() <= self.degree {
            return None;
        }
        let over = links.len() > self.cap();
        let loose = |it: &&(u32, Origin)| {
            (it.1 == Origin::Near || over && it.1 == Origin::Offered) && !self.is_near(node, it.0)
        };
        // Of most nodes nobody: that is cheap to see.
        links.iter().find(loose)?;
        let scale = Scale::around(self, node);
        let strata = scale.octaves().min(STRATA_MAX);
        let counts = scale.counts(strata, links.iter().map(|it| self.place(it.0)));
        let crowd =
            |it: &&(u32, Origin)| counts.get(scale.stratum(self.place(it.0), strata)).copied();
        links.iter().filter(loose).max_by_key(crowd).map(|it| it.0)
    }
}

/// Distances around a node, from twice the spacing to half the ring.
struct Scale {
    own: Location,
    first: u64,
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "parts of a scale of at most 64 octaves"
)]
impl Scale {
    /// The spacing as a node sees it: that of those next to it.
    fn around(ring: &Ring, node: u32) -> Self {
        let (own, all, turn) = (ring.place(node), ring.around.len(), ring.turn(node));
        let at = |turn: usize| Location(ring.around.get(turn % all).copied().unwrap_or(0));
        let (before, after) = (at(turn + all - NEAR), at(turn + NEAR));
        let span = u128::from(before.clockwise(own)) + u128::from(own.clockwise(after));
        let spacing = u64::try_from(span / (2 * NEAR as u128)).unwrap_or(u64::MAX);
        Self { own, first: spacing.saturating_mul(2).clamp(1, 1 << 62) }
    }

    fn octaves(&self) -> usize {
        ((1u64 << 63) / self.first).ilog2().max(1) as usize
    }

    fn log(&self, distance: u64) -> f64 {
        libm::log2((distance as f64 / self.first as f64).max(1.0))
    }

    /// In which of `strata` parts a place lies.
    fn stratum(&self, place: Location, strata: usize) -> usize {
        let part = self.log(self.own.distance(place)) / self.log(1 << 63).max(1.0);
        ((part * strata as f64) as usize).min(strata - 1)
    }

    fn counts(&self, strata: usize, places: impl Iterator<Item = Location>) -> [u32; STRATA_MAX] {
        let mut counts = [0; STRATA_MAX];
        for place in places {
            counts.get_mut(self.stratum(place, strata)).into_iter().for_each(|it| *it += 1);
        }
        counts
    }

    fn draw(&self, stratum: usize, strata: usize, rng: &mut Rng) -> u64 {
        harmonic(self.first, (stratum as f64 + rng.unit()) / strata as f64)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Streams, graph::Rule};

    #[test]
    fn nearly_everybody_has_what_he_wants_nobody_much_more_and_the_ring_is_closed() {
        let mut rng = Streams::new(1).of("test", 0);
        let graph = Rule::Ours.graph(1_000, 20, &mut rng).unwrap();
        let links: Vec<_> = (0..1_000).map(|node| graph.links(node).len()).collect();
        let enough = links.iter().filter(|it| **it >= 20).count();
        assert!(enough >= 950 && links.iter().all(|it| (4..=34).contains(it)), "{links:?}");
        for node in 0..1_000 {
            for step in 1..=2 {
                assert!(graph.links(node).contains(&((node + step) % 1_000)));
            }
        }
    }
}
