//! Walks: greedy, with a memory of who was asked, and back where a way ends.
//!
//! Lives here: one walk, and many of them with their statistics. Does not live here: links
//! (`rule.rs`), time: a walk counts hops.

use warren_overlay::{id::Location, rng::Rng};

use super::Graph;
use crate::curve::Distribution;

/// Nodes already asked by a walk; emptied in no time.
#[derive(Debug)]
struct Marks {
    walk: u32,
    of: Vec<u32>,
}

impl Marks {
    fn new(nodes: usize) -> Self {
        Self { walk: 1, of: vec![0; nodes] }
    }

    fn clear(&mut self) {
        self.walk += 1;
    }

    fn add(&mut self, node: u32) {
        if let Some(mark) = self.of.get_mut(node as usize) {
            *mark = self.walk;
        }
    }

    fn has(&self, node: u32) -> bool {
        self.of.get(node as usize).is_none_or(|mark| *mark == self.walk)
    }
}

/// What lookups are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookups {
    /// How many.
    pub count: u32,
    /// Hops forward that each may take.
    pub budget: u32,
    /// A lookup finds its key at so many nodes closest to it: chosen before anybody died.
    pub holders: usize,
    /// Whether a walk may go back, and on to a node that is not closer.
    pub backtrack: bool,
}

impl Default for Lookups {
    /// As many as give a mean within 0.2 %; budget and holders as the ring has them.
    fn default() -> Self {
        Self { count: 20_000, budget: 20, holders: 3, backtrack: true }
    }
}

/// What came of lookups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many there were.
    pub lookups: u64,
    /// How many found a holder.
    pub found: u64,
    /// Of those found: how many took so many hops.
    pub hops: Vec<u64>,
    /// How many gave up after as many hops as they may take; others had nowhere left to go.
    pub spent: u64,
    /// How many came by each node, those that ended there included, and not its own.
    pub load: Vec<u64>,
}

impl Tally {
    pub(crate) fn note(&mut self, hops: Option<u32>) {
        self.lookups += 1;
        if let Some(hops) = hops {
            self.found += 1;
            let hops = hops as usize;
            if self.hops.len() <= hops {
                self.hops.resize(hops + 1, 0);
            }
            if let Some(count) = self.hops.get_mut(hops) {
                *count += 1;
            }
        }
    }

    /// Adds what came of others.
    pub fn add(&mut self, other: &Self) {
        self.lookups += other.lookups;
        self.found += other.found;
        self.hops.resize(self.hops.len().max(other.hops.len()), 0);
        for (count, more) in self.hops.iter_mut().zip(&other.hops) {
            *count += more;
        }
        self.spent += other.spent;
        self.load.resize(self.load.len().max(other.load.len()), 0);
        for (count, more) in self.load.iter_mut().zip(&other.load) {
            *count += more;
        }
    }

    /// Share that found a holder.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    pub fn success(&self) -> f64 {
        self.found as f64 / self.lookups.max(1) as f64
    }

    /// Mean hops of those found, and the standard error of it.
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    pub fn mean_hops(&self) -> (f64, f64) {
        let n = self.found.max(1) as f64;
        let moment = |power: fn(f64) -> f64| {
            let terms = (0u32..).zip(&self.hops).map(|(hops, n)| power(hops.into()) * *n as f64);
            terms.sum::<f64>() / n
        };
        let mean = moment(|hops| hops);
        let variance = moment(|hops| hops * hops) - mean * mean;
        (mean, libm::sqrt(variance.max(0.0) / n))
    }

    /// Hops of those found.
    pub(crate) fn distribution(&self) -> Distribution {
        let hops = (0u64..).zip(&self.hops).map(|(hops, count)| (hops, *count));
        Distribution::of_counts(hops.filter(|it| it.1 > 0))
    }

    /// Hops within which this share of those found stayed.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a count"
    )]
    pub fn hops_quantile(&self, share: f64) -> u32 {
        let wanted = libm::ceil(share * self.found as f64) as u64;
        let mut sum = 0;
        let within = self.hops.iter().take_while(|count| {
            sum += **count;
            sum < wanted
        });
        u32::try_from(within.count()).unwrap_or(u32::MAX)
    }
}

/// Who looks for what, and who has it.
#[derive(Clone, Debug)]
pub(crate) struct Errand {
    pub(crate) from: u32,
    pub(crate) key: Location,
    /// Those of the closest that live.
    pub(crate) holders: Vec<u32>,
}

/// Room that walks of one graph share.
#[derive(Debug)]
pub(crate) struct Walker {
    marks: Marks,
    back: Vec<u32>,
    trail: Vec<(u32, u32)>,
}

impl Walker {
    pub(crate) fn new(graph: &Graph) -> Self {
        Self { marks: Marks::new(graph.len() as usize), back: Vec::new(), trail: Vec::new() }
    }

    /// The steps forward of the last walk, from where to where: it comes to no node twice, and not back to
    /// where it began.
    pub(crate) fn trail(&self) -> &[(u32, u32)] {
        &self.trail
    }

    /// Walks from `from` until one of `holders` is reached; `far` says how far a node is.
    ///
    /// Each step forward is a hop; going back costs none: the answer walks back anyway.
    pub(crate) fn walk(
        &mut self,
        graph: &Graph,
        from: u32,
        lookups: Lookups,
        holders: &[u32],
        far: impl Fn(u32) -> u64,
    ) -> Option<u32> {
        self.walk_around(graph, from, lookups, (holders, &[]), far)
    }

    /// The same, without coming to any of `around`.
    pub(crate) fn walk_around(
        &mut self,
        graph: &Graph,
        from: u32,
        lookups: Lookups,
        (holders, around): (&[u32], &[u32]),
        far: impl Fn(u32) -> u64,
    ) -> Option<u32> {
        self.marks.clear();
        self.back.clear();
        self.trail.clear();
        for node in around {
            self.marks.add(*node);
        }
        let mut here = from;
        let mut hops = 0;
        loop {
            self.marks.add(here);
            if holders.contains(&here) {
                return Some(hops);
            }
            let open = |node: &u32| !graph.is_dead(*node) && !self.marks.has(*node);
            let next = graph.links(here).iter().copied().filter(open).min_by_key(|it| far(*it));
            match next {
                Some(next) if lookups.backtrack || far(next) < far(here) => {
                    if hops >= lookups.budget {
                        return None;
                    }
                    hops += 1;
                    self.back.push(here);
                    self.trail.push((here, next));
                    here = next;
                }
                _ if lookups.backtrack => here = self.back.pop()?,
                _ => return None,
            }
        }
    }
}

impl Graph {
    /// Looks up keys of chance from living nodes of chance. Keys whose holders are all dead count as
    /// not found: that is what a reader sees.
    pub fn look_up(&self, lookups: Lookups, rng: &mut Rng) -> Tally {
        let mut tally = Tally { load: vec![0; self.places.len()], ..Tally::default() };
        let mut walker = Walker::new(self);
        if self.dead.iter().all(|dead| *dead) {
            return tally;
        }
        for _ in 0..lookups.count {
            let Errand { from, key, holders } = self.errand(lookups, rng);
            let far = |node| self.place(node).distance(key);
            let hops = walker.walk(self, from, lookups, &holders, far);
            // Going back costs nothing, so a walk that spent its hops came to as many nodes.
            tally.spent +=
                u64::from(hops.is_none() && walker.trail().len() as u64 >= lookups.budget.into());
            for (_, node) in walker.trail() {
                if let Some(load) = tally.load.get_mut(*node as usize) {
                    *load += 1;
                }
            }
            tally.note(hops);
        }
        tally
    }

    /// A lookup of chance, from a living node; there must be one.
    pub(crate) fn errand(&self, lookups: Lookups, rng: &mut Rng) -> Errand {
        let from = loop {
            let from = u32::try_from(rng.below(self.len().into())).unwrap_or(0);
            if !self.is_dead(from) {
                break from;
            }
        };
        let key = Location(rng.below(u64::MAX));
        let mut holders = self.closest(key, lookups.holders);
        holders.retain(|node| !self.is_dead(*node));
        Errand { from, key, holders }
    }
}
