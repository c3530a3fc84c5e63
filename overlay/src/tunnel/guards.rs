//! Hops that a router keeps: one layer of them.
//!
//! Lives here: one layer, its rules of replacement, its counts, and its stored bytes. Does not live
//! here: which layers there are (`layers.rs`), the rest of the path (`select.rs`).
//!
//! Why: whoever owns the first hop sees who built. With first hops drawn anew for every tunnel each
//! user would meet a hostile one within days (predecessor attack, Wright et al. 2004); with two kept
//! for months most users never do. So everything here is slow on purpose. The layers behind are kept
//! so that nobody finds the guards as quickly.
//!
//! ```text
//!  drawn (enough routers known) --> guard --end of its time--> drawn anew
//!                                     |  gone for long --> drawn anew
//!                                     '- under 30 % of 100 builds good while the other does well
//!                                        --> last choice; drawn anew, once in 30 days
//!  too few within reach for 10 s --> a stand-in joins (at most as many as the layer's rules say,
//!                                    then at most one swapped a day), used only while that is so
//! ```

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::select::{self, Avoid, Wanted};
use crate::{
    id::RouterId,
    rng::Rng,
    time::{Now, Time, Wall},
    wire::{Reader, RouterDescriptor, WireError, Writer},
};

const HOUR: u32 = 60;
const DAY: u32 = 24 * HOUR;

/// What holds of one layer (DESIGN section 6).
#[derive(Debug, PartialEq, Eq)]
pub struct Rules {
    /// Members, stand-ins not counted.
    pub count: usize,
    /// Stand-ins at most: with the members the bound on routers that one outage makes us meet.
    pub stand_ins: usize,
    /// None is drawn, and the layer does not hold, while fewer other routers are known.
    pub view_min: usize,
    /// With fewer within reach stand-ins are needed.
    pub least: usize,
    /// How long one is kept, in minutes: uniform between these.
    pub life: (u32, u32),
    /// Gone for so many minutes means replaced.
    pub gone_max: u32,
}

/// Guards: the first hops. A newcomer knows only whom its invite names, so none is drawn from four.
pub const FIRST: Rules = Rules {
    count: 2,
    stand_ins: 2,
    view_min: 5,
    least: 1,
    life: (60 * DAY, 120 * DAY),
    gone_max: 3 * DAY,
};
/// The hop behind the guard. With two within reach one more death is no outage. In a network where it
/// would be more than a third of those who are no guards, all paths would lead through too few.
pub const SECOND: Rules = Rules {
    count: 4,
    stand_ins: 2,
    view_min: 14,
    least: 2,
    life: (DAY, 12 * DAY),
    gone_max: 2 * DAY,
};
/// The hop behind that, and the gateways of one service: of eight, five are in use at a time.
pub const THIRD: Rules = Rules {
    count: 8,
    stand_ins: 4,
    view_min: 30,
    least: 5,
    life: (HOUR, 48 * HOUR),
    gone_max: 12 * HOUR,
};

/// Too few within reach for so long means a stand-in: long enough for a restart, short enough that a
/// service is back within a minute.
const OUT_MAX: Duration = Duration::from_secs(10);
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
    /// Builds that brought a tunnel which lived as long as it should, in percent. A guard that lets
    /// tunnels come about and then kills those it does not like is no better than one that fails them.
    fn percent(&self) -> u32 {
        self.successes.saturating_sub(self.deaths) * 100 / self.builds.max(1)
    }

    /// Whether it could not be reached when it was last tried, or is not known any more.
    fn is_out(&self, view: &[Arc<RouterDescriptor>], wall: Wall) -> bool {
        self.down.0 > 0 || find(view, self.id, wall).is_none()
    }
}

/// From whom a layer is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// All that are known.
    pub view: &'a [Arc<RouterDescriptor>],
    /// Never this router itself.
    pub own: RouterId,
    /// None of these is or becomes a member: they belong to a layer before this one.
    pub taken: &'a BTreeSet<RouterId>,
    /// These are drawn only where there is nobody else.
    pub last: &'a BTreeSet<RouterId>,
}

/// One layer of one router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guards {
    rules: &'static Rules,
    /// At most [`Rules::count`] and [`Rules::stand_ins`].
    list: Vec<Guard>,
    /// When a guard was last replaced for failing, or a stand-in swapped.
    swapped: Option<Wall>,
    /// Since when too few are within reach; not stored.
    out_since: Option<Time>,
}

impl Guards {
    /// None yet.
    pub const fn new(rules: &'static Rules) -> Self {
        Self { rules, list: Vec::new(), swapped: None, out_since: None }
    }

    /// The members, in no order.
    pub fn list(&self) -> &[Guard] {
        &self.list
    }

    /// What to store: count 1, last swap 4, then 57 bytes each.
    pub fn write(&self, w: &mut Writer) {
        w.u8(u8::try_from(self.list.len()).unwrap_or(u8::MAX));
        w.u32(self.swapped.map_or(0, Wall::minutes));
        for guard in &self.list {
            w.bytes(guard.id.as_bytes()).u32(guard.drawn.minutes()).u32(guard.until.minutes());
            w.u32(guard.gone_since.map_or(0, Wall::minutes));
            w.u32(guard.builds).u32(guard.successes).u32(guard.deaths);
            w.u8(u8::from(guard.stand_in));
        }
    }

    /// Reads what was stored.
    ///
    /// # Errors
    /// On anything that `write` does not write.
    pub fn read(r: &mut Reader<'_>, rules: &'static Rules) -> Result<Self, WireError> {
        let count = usize::from(r.u8("guards count")?);
        if count > rules.count + rules.stand_ins {
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
        Ok(Self { list, swapped, ..Self::new(rules) })
    }

    /// Applies the rules; to be called with every new view and every minute.
    pub fn maintain(&mut self, now: Now, rng: &mut Rng, known: Known<'_>) {
        let Known { view, own, taken, .. } = known;
        let before = self.list.len();
        let others = others(view, own, now.wall);
        if others == 0 {
            return; // we are the one who is gone
        }
        for guard in &mut self.list {
            if guard.is_out(view, now.wall) {
                guard.gone_since.get_or_insert(now.wall);
            } else {
                guard.gone_since = None;
            }
        }
        let gone_max = self.rules.gone_max;
        self.list.retain(|guard| {
            let gone = guard.gone_since.is_some_and(|since| since.plus(gone_max) <= now.wall);
            now.wall < guard.until && !gone && !taken.contains(&guard.id)
        });
        if self.may_swap(now.wall, SWAP_EVERY)
            && let Some(id) = self.shunned()
        {
            self.list.retain(|guard| guard.id != id);
            self.swapped = Some(now.wall);
        }
        let enough = others >= self.rules.view_min;
        while self.primaries() < self.rules.count {
            if let Some(guard) = self.list.iter_mut().find(|guard| guard.stand_in) {
                guard.stand_in = false; // already met: better than one more
            } else if !enough || !self.draw(now, rng, known, false) {
                break;
            }
        }
        if self.is_short(now.wall, view) {
            let since = *self.out_since.get_or_insert(now.time);
            if now.time.since(since) >= OUT_MAX && enough {
                self.stand_in(now, rng, known);
            }
        } else {
            self.out_since = None;
        }
        if self.list.len() != before {
            tracing::debug!(guards = self.list.len(), of = self.rules.count, "guards changed");
        }
    }

    /// Only ends the time of those whose time is over: nobody needs the layer now.
    pub fn expire(&mut self, wall: Wall) {
        self.list.retain(|guard| wall < guard.until);
    }

    /// Whether too few of a layer that was drawn are within reach.
    pub fn is_short(&self, wall: Wall, view: &[Arc<RouterDescriptor>]) -> bool {
        let reached = self.list.iter().filter(|guard| !guard.is_out(view, wall)).count();
        !self.list.is_empty() && reached < self.rules.least
    }

    fn stand_in(&mut self, now: Now, rng: &mut Rng, known: Known<'_>) {
        if self.list.len() >= self.rules.count + self.rules.stand_ins {
            if !self.may_swap(now.wall, DAY) {
                return;
            }
            let Some(at) = self.list.iter().position(|guard| guard.stand_in) else { return };
            self.list.remove(at);
            self.swapped = Some(now.wall);
        }
        self.draw(now, rng, known, true);
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

    /// Draws one more, related to none of the others, nor to those of `taken`, where that is possible.
    fn draw(&mut self, now: Now, rng: &mut Rng, known: Known<'_>, stand_in: bool) -> bool {
        let Known { view, own, taken, .. } = known;
        let mut apart = Avoid::none();
        let is_met = |router: &Arc<RouterDescriptor>| {
            let id = router.id();
            taken.contains(&id) || self.list.iter().any(|guard| guard.id == id)
        };
        let (met, view): (Vec<_>, Vec<_>) = view.iter().cloned().partition(is_met);
        for router in &met {
            apart.router(router);
        }
        let is_spare = |router: &Arc<RouterDescriptor>| known.last.contains(&router.id());
        let (spare, view): (Vec<_>, Vec<_>) = view.into_iter().partition(is_spare);
        let none = BTreeSet::new();
        let choose = |rng: &mut Rng, view: &[Arc<RouterDescriptor>], avoid: &Avoid| {
            let wanted = Wanted {
                view,
                own,
                hops: 1,
                first: None,
                within: &[],
                avoid,
                resting: &none,
                not_last: &none,
            };
            select::choose(rng, now.wall, &wanted).ok()?.hops.pop()
        };
        let anywhere = Avoid::none();
        let mut ways = [(&view, &apart), (&view, &anywhere), (&spare, &anywhere)].into_iter();
        let drawn = ways.find_map(|(view, avoid)| choose(rng, view, avoid));
        let Some(router) = drawn else { return false };
        let (least, most) = self.rules.life;
        let life = least + u32::try_from(rng.below(u64::from(most - least) + 1)).unwrap_or(0);
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

    /// Those that a path may take here, if the layer holds: members in view that do not rest, and
    /// stand-ins if that leaves too few; if all rest, all of them. None where the layer does not hold.
    pub fn members(
        &self,
        now: Now,
        view: &[Arc<RouterDescriptor>],
        own: RouterId,
    ) -> Option<BTreeSet<RouterId>> {
        if others(view, own, now.wall) < self.rules.view_min {
            return None;
        }
        let usable = |stand_in: bool, resting: bool| {
            let there = move |guard: &&Guard| {
                let awake = resting || guard.down.1 <= now.time;
                guard.stand_in == stand_in && awake && find(view, guard.id, now.wall).is_some()
            };
            self.list.iter().filter(there).map(|guard| guard.id)
        };
        let mut members: BTreeSet<RouterId> = usable(false, false).collect();
        if members.len() < self.rules.least {
            members.extend(usable(true, false));
        }
        if members.is_empty() {
            members.extend(usable(false, true).chain(usable(true, true)));
        }
        (!members.is_empty()).then_some(members)
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
        if let Some(guard) = self.get(id).filter(|guard| guard.down.0 > 0) {
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

fn others(view: &[Arc<RouterDescriptor>], own: RouterId, wall: Wall) -> usize {
    view.iter().filter(|router| router.id() != own && router.is_current(wall)).count()
}

fn minute(stored: u32) -> Option<Wall> {
    (stored != 0).then(|| Wall::from_minutes(stored))
}

#[cfg(test)]
mod tests;
