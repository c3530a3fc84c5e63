//! The hops that a router keeps, by where they stand on its paths.
//!
//! Lives here: which layers there are, who may stand where, and all of it as stored bytes. Does not
//! live here: one layer's members and how they are replaced (`guards.rs`), drawing paths (`select.rs`).
//!
//! ```text
//!  client, 3 hops    guard ── second ── anybody
//!  client, 4 hops    guard ── second ── third ── anybody
//!  service, 3 hops   guard ── second ── gateway
//!  service, 4 hops   guard ── second ── third ── gateway
//! ```
//!
//! Why: a hop sees those before and behind it. Were the middle drawn anew with every tunnel, a few
//! hostile routers would stand beside a service's guard within hours. Kept ones make that days, and
//! then only for who stands in the second layer; whoever stands in the third sees the second.
//!
//! A client's end hop is drawn anew: it sees what is asked, and one that stayed would see more of it.
//! Gateways are public. So each service has a layer of its own: two with the same gateways would be
//! known to be of one router.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use self::trial::Trial;
use super::{
    guards::{FIRST, Guards, Known, SECOND, THIRD},
    select::Within,
};
use crate::{
    crypto::kdf,
    id::RouterId,
    rng::Rng,
    time::{Now, Time},
    wire::{Prefix, Reader, RouterDescriptor, WireError, Writer},
};

const VERSION: u8 = 3;
/// Before a newcomer's guards were drawn once more.
const VERSION_LAYERS: u8 = 2;
/// Before there were layers: the guards alone.
const VERSION_GUARDS: u8 = 1;
/// Services whose gateways are kept; those of one more are drawn anew with each tunnel.
const SERVICES_MAX: usize = 64;

/// Loads that differ in weight, by a factor of 16 each; with more, everybody counts alike.
const LOAD_MAX: usize = 12;

/// Which layer of gateways: it follows from the service's name, so that it is found again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GatewaysTag([u8; 16]);

impl GatewaysTag {
    /// The one of the service with this key, the one that its name says.
    pub fn of(service: &[u8; 32]) -> Self {
        Self(kdf::derive("warren gateways layer 1", &[service]))
    }
}

#[cfg(test)]
impl GatewaysTag {
    pub(super) const fn test(number: u8) -> Self {
        Self([number; 16])
    }
}

/// Mute: it follows from a service's name.
impl std::fmt::Debug for GatewaysTag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("_")
    }
}

/// Who wants a path, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Hops, 1 to 4.
    pub(super) hops: usize,
    /// The layer of its last hop, if it has one.
    pub(super) gateways: Option<GatewaysTag>,
}

/// All layers of one router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layers {
    trial: Trial,
    /// Who was heard of long ago and from many places; none where places mean nothing. Not stored.
    seasoned: Option<BTreeSet<RouterId>>,
    /// The guards.
    pub(super) first: Guards,
    second: Guards,
    third: Guards,
    /// At most [`SERVICES_MAX`].
    gateways: BTreeMap<GatewaysTag, Guards>,
}

impl Layers {
    /// None drawn yet, by a newcomer whose invite names these routers: at most 16 are remembered.
    pub fn new(invited_by: impl IntoIterator<Item = RouterId>) -> Self {
        Self {
            trial: Trial::new(invited_by),
            seasoned: None,
            first: Guards::new(&FIRST),
            second: Guards::new(&SECOND),
            third: Guards::new(&THIRD),
            gateways: BTreeMap::new(),
        }
    }

    /// What to store: version 3, the first day, the three layers, count of services 1, then for each its tag
    /// 16 and its layer.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.u8(VERSION);
        self.trial.write(&mut w);
        for layer in [&self.first, &self.second, &self.third] {
            layer.write(&mut w);
        }
        w.u8(u8::try_from(self.gateways.len()).unwrap_or(u8::MAX));
        for (tag, layer) in &self.gateways {
            w.bytes(&tag.0);
            layer.write(&mut w);
        }
        w.into_bytes()
    }

    /// Reads what was stored, now or by an older version.
    ///
    /// # Errors
    /// On anything else; the caller then starts with none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let mut r = Reader::new(bytes);
        let mut this = Self { trial: Trial::over(), ..Self::new([]) };
        match r.u8("guards version")? {
            VERSION_GUARDS => this.first = Guards::read(&mut r, &FIRST)?,
            version @ (VERSION | VERSION_LAYERS) => {
                if version == VERSION {
                    this.trial = Trial::read(&mut r)?;
                }
                this.first = Guards::read(&mut r, &FIRST)?;
                this.second = Guards::read(&mut r, &SECOND)?;
                this.third = Guards::read(&mut r, &THIRD)?;
                let count = usize::from(r.u8("gateways count")?);
                if count > SERVICES_MAX {
                    return Err(WireError::Bad("gateways count"));
                }
                for _ in 0..count {
                    let tag = GatewaysTag(r.array("gateways tag")?);
                    if this.gateways.last_key_value().is_some_and(|(last, _)| *last >= tag) {
                        return Err(WireError::Bad("gateways tag"));
                    }
                    this.gateways.insert(tag, Guards::read(&mut r, &THIRD)?);
                }
            }
            _ => return Err(WireError::Bad("guards version")),
        }
        r.finish()?;
        Ok(this)
    }

    /// Applies each layer's rules; to be called with every new view, every minute, and when `shapes`,
    /// the paths that are wanted, change. `firsts` are those of `view` that this router may have links with. Layers that none of them uses are kept to the end of their
    /// members' time: a service that is away for an hour finds its gateways again.
    pub(super) fn maintain(
        &mut self,
        now: Now,
        rng: &mut Rng,
        view: &[Arc<RouterDescriptor>],
        firsts: &[Arc<RouterDescriptor>],
        own: RouterId,
        shapes: &[Shape],
    ) {
        let (none, mut taken) = (BTreeSet::new(), BTreeSet::new());
        let (last, seasoned) = self.not_yet(firsts);
        let is_due = self.trial.is_due(now.time, seasoned);
        let known = Known { view: firsts, own, taken: &none, last: &last };
        self.first.maintain(now, rng, known);
        if is_due {
            let mut again = Guards::new(&FIRST);
            again.maintain(now, rng, known);
            if !again.list().is_empty() {
                self.first = again;
                self.trial.end();
            }
        }
        taken.extend(self.first.list().iter().map(|it| it.id));
        self.second.maintain(now, rng, Known { view, own, taken: &taken, last: &none });
        taken.extend(self.second.list().iter().map(|it| it.id));
        let known = Known { view, own, taken: &taken, last: &none };
        if shapes.iter().any(|shape| shape.hops > 3) {
            self.third.maintain(now, rng, known);
        } else {
            self.third.expire(now.wall);
        }
        let wanted: BTreeSet<GatewaysTag> =
            shapes.iter().filter_map(|shape| shape.gateways).collect();
        for (tag, layer) in &mut self.gateways {
            if !wanted.contains(tag) {
                layer.expire(now.wall);
            }
        }
        self.gateways.retain(|tag, layer| wanted.contains(tag) || !layer.list().is_empty());
        for tag in wanted {
            if self.gateways.len() < SERVICES_MAX || self.gateways.contains_key(&tag) {
                let layer = self.gateways.entry(tag).or_insert_with(|| Guards::new(&THIRD));
                layer.maintain(now, rng, known);
            }
        }
    }

    /// These were heard of long ago and from many places.
    pub(super) fn season(&mut self, routers: BTreeSet<RouterId>) {
        self.seasoned = Some(routers);
    }

    /// Who becomes a guard only where there is nobody else: the invite's routers, and where enough are seasoned all
    /// others. And whether enough are, or it does not matter.
    fn not_yet(&self, firsts: &[Arc<RouterDescriptor>]) -> (BTreeSet<RouterId>, bool) {
        let mut last = self.trial.invited_by().clone();
        let Some(seasoned) = &self.seasoned else { return (last, true) };
        let (fit, green): (Vec<_>, Vec<_>) = firsts
            .iter()
            .map(|it| it.id())
            .partition(|id| seasoned.contains(id) && !last.contains(id));
        let enough = fit.len() >= FIRST.view_min;
        if enough {
            last.extend(green);
        }
        (last, enough)
    }

    /// There is a link with somebody in this place.
    pub(super) fn linked(&mut self, place: Prefix) {
        self.trial.linked(place);
    }

    /// Who may stand at each position of a path behind the first; `load` says how many paths of the
    /// same purpose lead through a router, and whoever has least comes first: so one death takes few.
    pub(super) fn within(
        &self,
        now: Now,
        view: &[Arc<RouterDescriptor>],
        own: RouterId,
        shape: Shape,
        load: impl Fn(RouterId) -> usize,
    ) -> Vec<Within> {
        let at = |position: usize| {
            let layer = match position {
                0 => None,
                _ if position + 1 == shape.hops => self.gateways.get(&shape.gateways?),
                1 => Some(&self.second),
                _ => Some(&self.third),
            };
            let members = layer?.members(now, view, own)?;
            let weight = |id: &RouterId| 1 << (4 * (LOAD_MAX - load(*id).min(LOAD_MAX)));
            Some(members.iter().map(|id| (*id, weight(id))).collect())
        };
        (0..shape.hops).map(at).collect()
    }

    /// Whether a layer behind the first has too few within reach.
    pub(super) fn is_short(&self, now: Now, view: &[Arc<RouterDescriptor>]) -> bool {
        self.behind().any(|layer| layer.is_short(now.wall, view))
    }

    /// A path through it came about, where it stood behind the first.
    pub(super) fn reached(&mut self, id: RouterId) {
        self.behind_mut().for_each(|layer| layer.reached(id));
    }

    /// A path failed for which it may be to blame, where it stood behind the first; false if it is of no
    /// layer there.
    pub(super) fn unreachable(&mut self, now: Time, id: RouterId) -> bool {
        let mut known = false;
        for layer in self.behind_mut() {
            known |= layer.list().iter().any(|it| it.id == id);
            layer.unreachable(now, id);
        }
        known
    }

    /// All may be tried again: they were out of reach through no fault of theirs.
    pub(super) fn forgive(&mut self) {
        self.first.forgive();
        self.behind_mut().for_each(Guards::forgive);
    }

    /// Everybody who is of a layer, those in front first.
    pub(super) fn members(&self) -> impl Iterator<Item = RouterId> {
        let layers = std::iter::once(&self.first).chain(self.behind());
        layers.flat_map(|layer| layer.list().iter().map(|it| it.id))
    }

    fn behind(&self) -> impl Iterator<Item = &Guards> {
        [&self.second, &self.third].into_iter().chain(self.gateways.values())
    }

    fn behind_mut(&mut self) -> impl Iterator<Item = &mut Guards> {
        [&mut self.second, &mut self.third].into_iter().chain(self.gateways.values_mut())
    }
}

mod trial;

#[cfg(test)]
mod tests;
