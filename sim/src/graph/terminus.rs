//! Links where requests end: how the routers of the present Freenet (2026) gather theirs, as a model that its
//! authors published beside the router says (`topology-sim`, strategy *current*).
//!
//! Lives here: that growth. Does not live here: what its lookups are (`validate/checks.rs`).
//!
//! Who comes gets two links to members of chance. Then, round after round: who has less than half the degree
//! sends requests, each ten hops long and greedy, and is linked with the closest router that they came by and
//! that it has no link with. They go to its own place while it has fewer than five links, and then into a gap
//! between two of them, more likely into one that is near and from beside which much is asked. Who has enough looks so
//! for somebody nearer, and gives up its longest link for it. Who has more than the degree gives up its longest
//! links. So long links, which newcomers' first two are, go; and none are made.

use warren_overlay::{id::Location, rng::Rng};

use super::{Graph, count, table::Table};

/// Links to members of chance.
const FIRST: usize = 2;
/// Rounds of growth: the published figure's.
const ROUNDS: u32 = 200;
/// Hops of a request for a link.
const REACH: u32 = 10;
/// With fewer links a request goes to one's own place.
const GAPS_FROM: usize = 5;
/// Requests for links in one round, at most.
const ATTEMPTS_MAX: usize = 3;
/// Who has enough links looks for a better one in one round of ten.
const IMPROVES: f64 = 0.1;
/// And takes one that is so much nearer than its farthest.
const NEARER: f64 = 0.7;
/// Lookups that each router remembers; it makes two to four a round, of keys of chance.
const REMEMBERED: usize = 200;
/// A gap counts as no nearer than this share of the ring.
const NEAREST: f64 = 0.001;
/// Links that a node has room for, in degrees: who comes first is linked with by many.
const ROOM: u32 = 4;
/// And never fewer.
const ROOM_MIN: u32 = 64;

struct Growth<'a> {
    places: &'a [u64],
    table: Table,
    /// Keys that each asked for of late.
    asked: Vec<Vec<u64>>,
    least: usize,
    most: usize,
    rng: &'a mut Rng,
}

/// A graph of nodes at `places`, which ascend.
pub(super) fn graph(places: Vec<u64>, degree: u32, rng: &mut Rng) -> Graph {
    let nodes = count(places.len());
    let mut growth = Growth {
        places: &places,
        table: Table::new(nodes, (ROOM * degree).max(ROOM_MIN)),
        asked: vec![Vec::new(); places.len()],
        least: degree as usize / 2,
        most: degree as usize,
        rng,
    };
    growth.come(nodes);
    for _ in 0..ROUNDS {
        growth.round(nodes);
    }
    growth.table.graph(places)
}

impl Growth<'_> {
    fn place(&self, node: u32) -> Location {
        Location(self.places.get(node as usize).copied().unwrap_or(0))
    }

    fn far(&self, node: u32, to: Location) -> u64 {
        self.place(node).distance(to)
    }

    /// They come in the order of the ring, as in the model: those at its beginning are linked with by most.
    fn come(&mut self, nodes: u32) {
        for node in 1..nodes {
            let mut made = 0;
            while made < FIRST.min(node as usize) {
                let member = u32::try_from(self.rng.below(node.into())).unwrap_or(0);
                made += usize::from(self.table.link(node, member));
            }
        }
    }

    fn round(&mut self, nodes: u32) {
        for asked in &mut self.asked {
            for _ in 0..2 + self.rng.below(3) {
                asked.push(self.rng.below(u64::MAX));
            }
            let over = asked.len().saturating_sub(REMEMBERED);
            asked.drain(..over);
        }
        // All look at what there is when the round begins.
        let mut new = Vec::new();
        for node in 0..nodes {
            let has = self.table.of(node).len();
            if has < self.least {
                for _ in 0..((self.least - has) / 2).clamp(1, ATTEMPTS_MAX) {
                    new.extend(self.seek(node).map(|to| (node, to)));
                }
            }
        }
        for (node, to) in new {
            let room = |it: u32| self.table.of(it).len() < self.most;
            if room(node) && room(to) {
                self.table.link(node, to);
            }
        }
        let mut better = Vec::new();
        for node in 0..nodes {
            if self.table.of(node).len() >= self.least && self.rng.unit() <= IMPROVES {
                better.extend(self.improve(node));
            }
        }
        for (node, farthest, to) in better {
            if !self.table.of(node).contains(&to) {
                self.table.unlink(node, farthest);
                self.table.link(node, to);
            }
        }
        for node in 0..nodes {
            while self.table.of(node).len() > self.most {
                let Some(farthest) = self.farthest(node) else { break };
                self.table.unlink(node, farthest);
            }
        }
    }

    /// A new link for this one: where a request ends, if it has room there.
    fn seek(&mut self, node: u32) -> Option<u32> {
        let target = self.target(node);
        let to = self.request(node, target)?;
        (self.table.of(to).len() < self.most).then_some(to)
    }

    /// Its farthest link, and whom it would rather have.
    #[expect(clippy::cast_precision_loss, reason = "a distance is good to 53 bits")]
    fn improve(&mut self, node: u32) -> Option<(u32, u32, u32)> {
        let own = self.place(node);
        let farthest = self.farthest(node)?;
        let to = self.seek(node)?;
        let nearer = (self.far(to, own) as f64) < NEARER * self.far(farthest, own) as f64;
        nearer.then_some((node, farthest, to))
    }

    fn farthest(&self, node: u32) -> Option<u32> {
        let own = self.place(node);
        self.table.of(node).iter().copied().max_by_key(|it| self.far(*it, own))
    }

    /// Where a request for a link goes.
    #[expect(clippy::cast_precision_loss, reason = "a share of the ring is good to 53 bits")]
    fn target(&mut self, node: u32) -> Location {
        let own = self.place(node);
        let mut around: Vec<u64> = self.table.of(node).iter().map(|it| self.place(*it).0).collect();
        if around.len() < GAPS_FROM {
            return own;
        }
        around.sort_unstable();
        let mut asked = vec![0u32; around.len()];
        for key in self.asked.get(node as usize).into_iter().flatten() {
            let near = (0..).zip(&around).min_by_key(|it| Location(*it.1).distance(Location(*key)));
            if let Some(count) = near.and_then(|it: (usize, _)| asked.get_mut(it.0)) {
                *count += 1;
            }
        }
        let next = |at: usize| (at + 1) % around.len();
        let gap = |at: usize| {
            let (from, to) = (around.get(at)?, around.get(next(at))?);
            // The middle of the shorter way from one to the other.
            let half = to.wrapping_sub(*from).cast_signed() / 2;
            let middle = Location(from.wrapping_add_signed(half));
            let share = own.distance(middle) as f64 / u64::MAX as f64;
            let weight = asked.get(at)? + asked.get(next(at))?;
            Some((middle, f64::from(weight) / share.max(NEAREST)))
        };
        let gaps: Vec<(Location, f64)> = (0..around.len()).filter_map(gap).collect();
        let mut point = self.rng.unit() * gaps.iter().map(|it| it.1).sum::<f64>();
        for (middle, weight) in &gaps {
            point -= weight;
            if point <= 0.0 {
                return *middle;
            }
        }
        gaps.last().map_or(own, |it| it.0)
    }

    /// Who is closest of all that a request comes by and that `node` has no link with.
    fn request(&self, node: u32, target: Location) -> Option<u32> {
        let (mut here, mut seen, mut best) = (node, vec![node], None);
        for _ in 0..REACH {
            let open = self.table.of(here).iter().copied().filter(|it| !seen.contains(it));
            let Some(next) = open.min_by_key(|it| self.far(*it, target)) else { break };
            seen.push(next);
            here = next;
            let nearer = best.is_none_or(|best| self.far(next, target) < self.far(best, target));
            if nearer && !self.table.of(node).contains(&next) {
                best = Some(next);
            }
        }
        best
    }
}
