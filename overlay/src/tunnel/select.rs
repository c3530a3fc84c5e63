//! Which routers make a path.
//!
//! Lives here: the rules that no path breaks, the weights, and the fixed order in which rules are
//! given up in a network too small for them. Does not live here: who the first hop is
//! (`guards.rs`), when a path is needed (`pools.rs`), where the routers come from (the ring's
//! private sample).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    id::RouterId,
    rng::Rng,
    time::Wall,
    wire::{Address, Prefix, RouterDescriptor},
};

/// Below so many usable routers one of them can get more than 5 % of the hops ([`weights`]): the set is
/// too small.
pub const ROUTERS_ENOUGH: usize = 40;

/// Draws of a whole path before a rule is given up. Draws are blind to what they make impossible for
/// later hops, so one that fails proves nothing; eight are enough where a tenth of paths exist.
const DRAWS: usize = 8;

/// Routers, places and families that a path must not touch (PROTOCOL P11, last point).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Avoid {
    ids: BTreeSet<RouterId>,
    prefixes: BTreeSet<Prefix>,
    families: BTreeSet<[u8; 16]>,
}

impl Avoid {
    /// Nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Also this gateway, and its /16 or /32. Its family follows when its descriptor is in view.
    pub fn gateway(&mut self, id: RouterId, address: Address) {
        self.ids.insert(id);
        self.prefixes.insert(address.prefix());
    }

    /// Also this router, where it lives and who runs it.
    pub fn router(&mut self, router: &RouterDescriptor) {
        self.ids.insert(router.id());
        self.prefixes.extend(prefixes(router));
        self.families.extend(router.fields().family);
    }

    /// Whether `router` may not be used, whatever rule is given up: its identity or family.
    pub fn bans(&self, router: &RouterDescriptor) -> bool {
        self.ids.contains(&router.id())
            || router.fields().family.is_some_and(|family| self.families.contains(&family))
    }

    /// Whether `router` lives in an avoided place.
    pub fn near(&self, router: &RouterDescriptor) -> bool {
        prefixes(router).any(|prefix| self.prefixes.contains(&prefix))
    }

    /// The same, with what `view` tells about the avoided routers: their families and other places.
    #[must_use]
    pub fn completed(&self, view: &[Arc<RouterDescriptor>]) -> Self {
        let mut this = self.clone();
        for router in view.iter().filter(|router| self.ids.contains(&router.id())) {
            this.router(router);
        }
        this
    }
}

fn prefixes(router: &RouterDescriptor) -> impl Iterator<Item = Prefix> + '_ {
    router.fields().addresses.iter().map(Address::prefix)
}

/// Whether two routers share a /16, a /32 or a declared family.
pub(super) fn related(a: &RouterDescriptor, b: &RouterDescriptor) -> (bool, bool) {
    let family = a.fields().family.is_some() && a.fields().family == b.fields().family;
    let place = prefixes(a).any(|prefix| prefixes(b).any(|other| prefix == other));
    (place, family)
}

/// Which rules had to be given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "rules, each given up or not by itself")]
pub struct Relaxed {
    /// First: a router may carry more than 5 % (fewer than [`ROUTERS_ENOUGH`] are usable).
    pub share: bool,
    /// Second: hops may share a /16 or /32.
    pub place: bool,
    /// Third: a hop that a layer should give need not be of it.
    pub layer: bool,
    /// Fourth: the first hop need not be a guard (decided in `pools.rs`).
    pub guard: bool,
}

impl Relaxed {
    /// Whether the anonymity set is too small, which a person must be told.
    pub const fn any(self) -> bool {
        self.share || self.place || self.layer || self.guard
    }
}

/// Who may stand at one position of a path, each with its weight; none for anybody.
pub type Within = Option<BTreeMap<RouterId, u64>>;

/// What path is wanted.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// All routers known.
    pub view: &'a [Arc<RouterDescriptor>],
    /// Who is asking: never a hop of its own tunnel.
    pub own: RouterId,
    /// Number of hops, 1 to 4.
    pub hops: usize,
    /// The guard, if there is one to use; else any router may be first.
    pub first: Option<&'a Arc<RouterDescriptor>>,
    /// By position: the members of the layer that gives that hop, and how much each counts.
    pub within: &'a [Within],
    /// What the path must not touch.
    pub avoid: &'a Avoid,
    /// Routers that failed lately: not used while there are others.
    pub resting: &'a BTreeSet<RouterId>,
    /// Routers that should not be last: they end another tunnel of the same service.
    pub not_last: &'a BTreeSet<RouterId>,
}

/// A path, first hop first.
#[derive(Clone, Debug)]
pub struct Path {
    /// Its hops.
    pub hops: Vec<Arc<RouterDescriptor>>,
    /// What it cost.
    pub relaxed: Relaxed,
}

/// No path of that length exists, whatever is given up. It is never made shorter instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{have} usable routers known, {need} hops wanted")]
pub struct TooFewRouters {
    /// Usable routers known.
    pub have: usize,
    /// Hops wanted.
    pub need: usize,
}

/// Draws a path.
///
/// Never given up: hops are distinct, none is the asker, no two of one family, none that `avoid`
/// bans. Given up in this order: first, silently, that failed routers rest; then that no two hops (and
/// no hop and an avoided place) share a /16 or /32, with failed routers still resting; then both. Layers
/// are kept longer than all these where [`ROUTERS_ENOUGH`] are usable: whoever can make their members
/// rest would else choose when another is met. In a smaller network they give way to a rest.
///
/// # Errors
/// When there is none.
pub fn choose(rng: &mut Rng, wall: Wall, wanted: &Wanted<'_>) -> Result<Path, TooFewRouters> {
    let avoid = wanted.avoid.completed(wanted.view);
    let usable: Vec<_> = wanted
        .view
        .iter()
        .filter(|router| router.id() != wanted.own && router.is_current(wall))
        .filter(|router| !avoid.bans(router))
        .collect();
    let too_few = TooFewRouters { have: usable.len(), need: wanted.hops };
    if usable.len() < wanted.hops || wanted.hops == 0 {
        return Err(too_few);
    }
    let claims: Vec<u32> = usable.iter().map(|router| router.fields().bandwidth_kbps).collect();
    let weights = weights(&claims);
    let share = usable.len() < ROUTERS_ENOUGH;
    for level in levels(wanted.within.iter().any(Option::is_some), share) {
        for _ in 0..DRAWS {
            if let Some(hops) = draw(rng, wanted, &avoid, level, &usable, &weights) {
                let layer = level.layer == Some(false);
                let relaxed = Relaxed { share, place: !level.place, layer, guard: false };
                return Ok(Path { hops, relaxed });
            }
        }
    }
    Err(too_few)
}

/// Which of the rules that can be given up hold.
#[derive(Clone, Copy)]
struct Level {
    /// None where no position has a layer.
    layer: Option<bool>,
    place: bool,
    rest: bool,
}

/// The levels of a path, strictest first.
fn levels(layered: bool, small: bool) -> impl Iterator<Item = Level> {
    const ALL: [(bool, bool); 4] = [(true, true), (true, false), (false, true), (false, false)];
    let level = |layer| move |&(place, rest): &(bool, bool)| Level { layer, place, rest };
    let keep = move |&&(_, rest): &&(bool, bool)| layered && (rest || !small);
    let kept = ALL.iter().filter(keep).map(level(Some(true)));
    kept.chain(ALL.iter().map(level(layered.then_some(false))))
}

fn draw(
    rng: &mut Rng,
    wanted: &Wanted<'_>,
    avoid: &Avoid,
    level: Level,
    usable: &[&Arc<RouterDescriptor>],
    weights: &[u64],
) -> Option<Vec<Arc<RouterDescriptor>>> {
    let mut path: Vec<Arc<RouterDescriptor>> = Vec::with_capacity(wanted.hops);
    if let Some(first) = wanted.first {
        if avoid.bans(first) || level.place && avoid.near(first) {
            return None;
        }
        path.push(Arc::clone(first));
    }
    while path.len() < wanted.hops {
        let last = path.len() + 1 == wanted.hops;
        let within = wanted.within.get(path.len()).and_then(Option::as_ref);
        let within = within.filter(|_| level.layer == Some(true));
        let fits = |router: &RouterDescriptor| {
            path.iter().all(|hop| {
                let (place, family) = related(hop, router);
                hop.id() != router.id() && !family && !(place && level.place)
            }) && !(level.place && avoid.near(router))
                && !(level.rest && wanted.resting.contains(&router.id()))
                && !(level.rest && last && wanted.not_last.contains(&router.id()))
        };
        // Members were drawn by weight once: among them it does not count again.
        let weigh = |(router, weight): (&&Arc<RouterDescriptor>, &u64)| match within {
            Some(members) => members.get(&router.id()).copied(),
            None => Some(*weight),
        };
        let fitting = usable.iter().zip(weights).filter(|(router, _)| fits(router));
        let fitting = fitting.filter_map(|it| Some((it.0, weigh(it)?)));
        let total: u64 = fitting.clone().map(|(_, weight)| weight).sum();
        let mut point = rng.below(total);
        let next = fitting.into_iter().find_map(|(router, weight)| {
            if point < weight {
                return Some(Arc::clone(router));
            }
            point -= weight;
            None
        })?;
        path.push(next);
    }
    Some(path)
}

/// How much each router counts, given what it claims to offer in kbit/s: its claim, but no more than the
/// middle one of all claims.
///
/// Claims are free, and an unbounded one would draw all paths (Bauer et al. 2007 did it to Tor). So a
/// claim can only make its router count for less: nobody counts for more than 2/n of the sum, since half
/// of all count as much as anybody can. A claim of nothing counts as 1.
pub fn weights(claims: &[u32]) -> Vec<u64> {
    let mut rising = claims.to_vec();
    rising.sort_unstable();
    let middle = rising.get(rising.len().saturating_sub(1) / 2).copied().unwrap_or(0);
    claims.iter().map(|claim| u64::from((*claim).min(middle).max(1))).collect()
}

#[cfg(test)]
mod tests;
