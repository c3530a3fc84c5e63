//! The first hops that a router keeps for months.
//!
//! Lives here: one layer of guards, its rules of replacement, its counts, and its stored bytes.
//! Does not live here: the rest of the path (`select.rs`), where the bytes are stored (Node).
//!
//! Why: whoever owns the first hop sees who built. With first hops drawn anew for every tunnel each
//! user would meet a hostile one within days (predecessor attack, Wright et al. 2004); with two kept
//! for months most users never do. So everything here is slow on purpose.
//!
//! ```text
//!  drawn (5 or more routers known) --> guard --60 to 120 days--> drawn anew
//!                                        |  gone for 3 days --> drawn anew
//!                                        '- under 30 % of 100 builds good while the other does well
//!                                           --> last choice; drawn anew, once in 30 days
//!  all out of reach for 10 s --> a stand-in joins (at most 2, at most one swapped a day),
//!                            used only while no guard is usable
//! ```

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::select::{self, Avoid, Wanted};
use crate::{
    id::RouterId,
    rng::Rng,
    time::{Now, Time, Wall},
    wire::{Reader, RouterDescriptor, WireError, Writer},
};

/// Guards in use.
pub const GUARDS: usize = 2;
/// Guards and stand-ins: the bound on first hops that one outage can make us meet.
pub const GUARDS_MAX: usize = 4;
/// No guard is drawn while fewer routers are known: a newcomer knows only whom its invite names.
pub const GUARD_VIEW_MIN: usize = 5;

const DAY: u32 = 24 * 60;
const LIFE_MIN: u32 = 60 * DAY;
const LIFE_MAX: u32 = 120 * DAY;
/// Gone for so long means replaced.
const GONE_MAX: u32 = 3 * DAY;
/// All out of reach for so long means a stand-in: long enough for a restart, short enough that a
/// service is back within a minute.
const ALL_OUT_MAX: Duration = Duration::from_secs(10);
const SWAP_EVERY: u32 = 30 * DAY;
/// Builds before a verdict.
const JUDGED_FROM: u32 = 100;
/// The other guard needs so many builds to be a measure.
const COMPARED_FROM: u32 = 20;
/// Counts are halved here, so that they speak of the recent past.
const COUNT_MAX: u32 = 400;
/// First rest of a guard that could not be reached; doubles up to the second.
const DOWN_MIN: Duration = Duration::from_secs(15);
const DOWN_DOUBLINGS_MAX: u32 = 4;

const VERSION: u8 = 1;

/// How well a guard serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing to say.
    Well,
    /// Under 50 % of 100 builds came about and lived, while the other does well: a person should know.
    Warn,
    /// Under 30 %: the other guard is used. A guard that fails builds may be choosing which.
    Shunned,
}

/// One guard.
///
/// | bytes | field |
/// |-------|-------|
/// | 32    | identity |
/// | 4 + 4 | drawn, good until: minutes since the Unix epoch |
/// | 4     | gone since; zero when it is there |
/// | 4 + 4 + 4 | builds, successes, deaths |
/// | 1     | 1 for a stand-in |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Who.
    pub id: RouterId,
    /// When it was drawn.
    pub drawn: Wall,
    /// When its time is over.
    pub until: Wall,
    /// Since when it is not usable.
    pub gone_since: Option<Wall>,
    /// Builds through it, of late.
    pub builds: u32,
    /// Those that succeeded.
    pub successes: u32,
    /// Tunnels through it that died before their time.
    pub deaths: u32,
    /// Whether it only stands in for guards that are gone.
    pub stand_in: bool,
    /// Not stored: dials that failed in a row, and until when not to try.
    down: (u32, Time),
}

impl Guard {
    const LEN: usize = 57;

    /// Builds that brought a tunnel which lived as long as it should, in percent. A guard that lets
    /// tunnels come about and then kills those it does not like is no better than one that fails them.
    fn percent(&self) -> u32 {
        self.successes.saturating_sub(self.deaths) * 100 / self.builds.max(1)
    }
}

/// The guards of one router.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guards {
    /// At most [`GUARDS_MAX`].
    list: Vec<Guard>,
    /// When a guard was last replaced for failing, or a stand-in swapped.
    swapped: Option<Wall>,
    /// When all were found out of reach, until one is reached; not stored.
    out_since: Option<Time>,
}

impl Guards {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The guards, best first hop first.
    pub fn list(&self) -> &[Guard] {
        &self.list
    }

    /// What to store: version 1, count 1, last swap 4, then 57 bytes each.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(6 + GUARDS_MAX * Guard::LEN);
        w.u8(VERSION).u8(u8::try_from(self.list.len()).unwrap_or(u8::MAX));
        w.u32(self.swapped.map_or(0, Wall::minutes));
        for guard in &self.list {
            w.bytes(guard.id.as_bytes()).u32(guard.drawn.minutes()).u32(guard.until.minutes());
            w.u32(guard.gone_since.map_or(0, Wall::minutes));
            w.u32(guard.builds).u32(guard.successes).u32(guard.deaths);
            w.u8(u8::from(guard.stand_in));
        }
        w.into_bytes()
    }

    /// Reads what was stored.
    ///
    /// # Errors
    /// On anything that `to_bytes` does not write; the caller then keeps the file aside and starts
    /// with none, and says so.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let mut r = Reader::new(bytes);
        if r.u8("guards version")? != VERSION {
            return Err(WireError::Bad("guards version"));
        }
        let count = usize::from(r.u8("guards count")?);
        if count > GUARDS_MAX {
            return Err(WireError::Bad("guards count"));
        }
        let swapped = minute(r.u32("guards swap")?);
        let mut list: Vec<Guard> = Vec::with_capacity(count);
        for _ in 0..count {
            let guard = Guard {
                id: RouterId(r.array("guard identity")?),
                drawn: Wall::from_minutes(r.u32("guard drawn")?),
                until: Wall::from_minutes(r.u32("guard until")?),
                gone_since: minute(r.u32("guard gone")?),
                builds: r.u32("guard builds")?,
                successes: r.u32("guard successes")?,
                deaths: r.u32("guard deaths")?,
                stand_in: match r.u8("guard kind")? {
                    0 => false,
                    1 => true,
                    _ => return Err(WireError::Bad("guard kind")),
                },
                down: (0, Time::ZERO),
            };
            if guard.builds > COUNT_MAX || guard.successes > guard.builds {
                return Err(WireError::Bad("guard counts"));
            }
            if list.iter().any(|other| other.id == guard.id) {
                return Err(WireError::Bad("guard identity"));
            }
            list.push(guard);
        }
        r.finish()?;
        Ok(Self { list, swapped, out_since: None })
    }

    /// Applies the rules; to be called with every new view and every minute. Says whether anything
    /// that is stored changed.
    pub fn maintain(
        &mut self,
        now: Now,
        rng: &mut Rng,
        view: &[Arc<RouterDescriptor>],
        own: RouterId,
    ) -> bool {
        let before = self.clone();
        let others = view.iter().filter(|it| it.id() != own && it.is_current(now.wall)).count();
        if others == 0 {
            return false; // we are the one who is gone
        }
        for guard in &mut self.list {
            let there = find(view, guard.id, now.wall).is_some() && guard.down.1 <= now.time;
            if there && guard.down.0 == 0 {
                guard.gone_since = None;
            } else if guard.gone_since.is_none() {
                guard.gone_since = Some(now.wall);
            }
        }
        self.list.retain(|guard| {
            let gone = guard.gone_since.is_some_and(|since| since.plus(GONE_MAX) <= now.wall);
            now.wall < guard.until && !gone
        });
        if self.may_swap(now.wall, SWAP_EVERY)
            && let Some(id) = self.shunned()
        {
            self.list.retain(|guard| guard.id != id);
            self.swapped = Some(now.wall);
        }
        while self.primaries() < GUARDS {
            if let Some(guard) = self.list.iter_mut().find(|guard| guard.stand_in) {
                guard.stand_in = false; // already met: better than one more
            } else if others < GUARD_VIEW_MIN || !self.draw(now, rng, view, own, false) {
                break;
            }
        }
        let out = |guard: &Guard| guard.down.0 > 0 || find(view, guard.id, now.wall).is_none();
        if !self.list.is_empty() && self.list.iter().all(out) {
            let since = *self.out_since.get_or_insert(now.time);
            if now.time.since(since) >= ALL_OUT_MAX && others >= GUARD_VIEW_MIN {
                self.stand_in(now, rng, view, own);
            }
        }
        let stored_changed = self.to_bytes() != before.to_bytes();
        if self.list.len() != before.list.len() {
            tracing::debug!(guards = self.list.len(), "guards changed");
        }
        stored_changed
    }

    fn stand_in(&mut self, now: Now, rng: &mut Rng, view: &[Arc<RouterDescriptor>], own: RouterId) {
        if self.list.len() >= GUARDS_MAX {
            if !self.may_swap(now.wall, DAY) {
                return;
            }
            let Some(at) = self.list.iter().position(|guard| guard.stand_in) else { return };
            self.list.remove(at);
            self.swapped = Some(now.wall);
        }
        self.draw(now, rng, view, own, true);
    }

    fn may_swap(&self, wall: Wall, every: u32) -> bool {
        self.swapped.is_none_or(|last| last.plus(every) <= wall)
    }

    fn primaries(&self) -> usize {
        self.list.iter().filter(|guard| !guard.stand_in).count()
    }

    fn shunned(&self) -> Option<RouterId> {
        self.list.iter().map(|guard| guard.id).find(|id| self.verdict(*id) == Verdict::Shunned)
    }

    /// Draws one more, related to none of the others where that is possible.
    fn draw(
        &mut self,
        now: Now,
        rng: &mut Rng,
        view: &[Arc<RouterDescriptor>],
        own: RouterId,
        stand_in: bool,
    ) -> bool {
        let mut apart = Avoid::none();
        let is_guard =
            |router: &Arc<RouterDescriptor>| self.list.iter().any(|guard| guard.id == router.id());
        let (guards, view): (Vec<_>, Vec<_>) = view.iter().cloned().partition(is_guard);
        for router in &guards {
            apart.router(router);
        }
        let none = BTreeSet::new();
        let choose = |rng: &mut Rng, avoid: &Avoid| {
            let wanted = Wanted {
                view: &view,
                own,
                hops: 1,
                first: None,
                avoid,
                resting: &none,
                not_last: &none,
            };
            select::choose(rng, now.wall, &wanted).ok()?.hops.pop()
        };
        let drawn = choose(rng, &apart).or_else(|| choose(rng, &Avoid::none()));
        let Some(router) = drawn else { return false };
        let life =
            LIFE_MIN + u32::try_from(rng.below(u64::from(LIFE_MAX - LIFE_MIN) + 1)).unwrap_or(0);
        self.list.push(Guard {
            id: router.id(),
            drawn: now.wall,
            until: now.wall.plus(life),
            gone_since: None,
            builds: 0,
            successes: 0,
            deaths: 0,
            stand_in,
            down: (0, Time::ZERO),
        });
        true
    }

    /// The guard for the next path: usable, not avoided, well, and least loaded by `load`; a stand-in
    /// only if no guard is usable at all (P11: never a new one because a gateway rules one out).
    pub fn pick<L: Ord>(
        &self,
        now: Now,
        view: &[Arc<RouterDescriptor>],
        avoid: &Avoid,
        load: impl Fn(RouterId) -> L,
    ) -> Option<Arc<RouterDescriptor>> {
        let avoid = avoid.completed(view);
        let usable = |stand_in: bool| {
            self.list
                .iter()
                .filter(move |guard| guard.stand_in == stand_in && guard.down.1 <= now.time)
                .filter_map(|guard| find(view, guard.id, now.wall))
                .collect::<Vec<_>>()
        };
        let mut candidates = usable(false);
        if candidates.is_empty() {
            candidates = usable(true);
        }
        candidates
            .into_iter()
            .filter(|router| !avoid.bans(router))
            .min_by_key(|router| {
                let id = router.id();
                (avoid.near(router), self.verdict(id), load(id))
            })
            .map(Arc::clone)
    }

    /// How well a guard serves, measured against the others.
    pub fn verdict(&self, id: RouterId) -> Verdict {
        let Some(guard) = self.list.iter().find(|guard| guard.id == id) else {
            return Verdict::Well;
        };
        let others_do_well = self
            .list
            .iter()
            .any(|other| other.id != id && other.builds >= COMPARED_FROM && other.percent() >= 50);
        match guard.percent() {
            _ if guard.builds < JUDGED_FROM || !others_do_well => Verdict::Well,
            ..30 => Verdict::Shunned,
            30..50 => Verdict::Warn,
            _ => Verdict::Well,
        }
    }

    /// A link to it could not be had: it rests for 15 s, then twice as long, up to 4 minutes.
    pub fn unreachable(&mut self, now: Time, id: RouterId) {
        if let Some(guard) = self.get(id) {
            let rest = DOWN_MIN * (1 << guard.down.0.min(DOWN_DOUBLINGS_MAX));
            guard.down = (guard.down.0.saturating_add(1), now + rest);
        }
    }

    /// All may be tried again: they were out of reach through no fault of theirs.
    pub fn forgive(&mut self) {
        for guard in &mut self.list {
            guard.down = (0, Time::ZERO);
        }
        self.out_since = None;
    }

    /// A link to it stands.
    pub fn reached(&mut self, id: RouterId) {
        if let Some(guard) = self.get(id) {
            guard.down = (0, Time::ZERO);
            self.out_since = None;
        }
    }

    /// A build through it ended.
    pub fn built(&mut self, id: RouterId, success: bool) {
        if let Some(guard) = self.get(id) {
            if guard.builds >= COUNT_MAX {
                guard.builds /= 2;
                guard.successes /= 2;
                guard.deaths /= 2;
            }
            guard.builds += 1;
            guard.successes += u32::from(success);
        }
    }

    /// A tunnel through it died before its time.
    pub fn died(&mut self, id: RouterId) {
        if let Some(guard) = self.get(id) {
            guard.deaths = guard.deaths.saturating_add(1);
        }
    }

    fn get(&mut self, id: RouterId) -> Option<&mut Guard> {
        self.list.iter_mut().find(|guard| guard.id == id)
    }
}

fn find(
    view: &[Arc<RouterDescriptor>],
    id: RouterId,
    wall: Wall,
) -> Option<&Arc<RouterDescriptor>> {
    view.iter().find(|router| router.id() == id && router.is_current(wall))
}

fn minute(stored: u32) -> Option<Wall> {
    (stored != 0).then(|| Wall::from_minutes(stored))
}

#[cfg(test)]
mod tests;
