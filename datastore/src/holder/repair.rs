//! Keeping three copies of each owned block on the routers closest to it, while routers come and go.
//!
//! Lives here: rounds over what is owned, offers, pushes, handing over; how fast. Does not live here:
//! copies of a block that was just put, which the ring sends (`ring/holders.rs`).
//!
//! ```text
//!  this router             neighbour among the three closest
//!     |  Offer (64 addresses) -->|
//!     |<-- Want (those it lacks) |     what it does not ask for, it has
//!     |  put, budget 0 --------->|
//!     |<-- Stored                |
//!
//!  a round: 1 s after the neighbourhood changed, when a comparison found that somebody lacks something, every 10 min
//! ```
//!
//! Where this router is one of the three closest, it compares what it has with the two others (`compares.rs`), after
//! each change and every 10 minutes, and offers what they lack. What it keeps beside that, of those who pushed it out of
//! the three, it offers to them: once, and every hour to find what was lost unseen. Blocks go out at a tenth of the
//! operator's bandwidth.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use warren_overlay::{
    block::{BLOCK_LEN, Block, BlockAddress},
    id::{LinkNo, Location},
    ring::{KEEPERS, OFFER_MAX, REPLICAS, Repair as Say},
    time::Time,
};

use super::{HolderOutput, books::Source, shelf::Blocks, spread::FAR};
use crate::blocks::Shelf;

/// How long after a change a round begins: changes come in crowds.
const ROUND_DELAY: Duration = Duration::from_secs(1);
/// How often all is compared (DESIGN section 8).
const ROUND_EVERY: Duration = Duration::from_mins(10);
/// How often a round goes on; each time a neighbour is offered 64 blocks at most.
const STEP: Duration = Duration::from_secs(1);
/// Blocks looked at in a step.
const LOOKS_MAX: usize = 16_384;
/// Of so many rounds of all, one offers anew what was offered before.
const AGAIN_EVERY: u32 = 6;
/// Pushes under way at a time, all neighbours together: 512 KiB.
const PUSHES_MAX: usize = 16;
/// Pushes that wait: 40 bytes each. What finds no room comes with a later round.
const WANTED_MAX: usize = 8_192;
/// Asked for and not yet come.
const EXPECTED_MAX: usize = 8_192;
/// So long whoever was asked is not asked again.
const EXPECTED_FOR: Duration = Duration::from_mins(2);
/// So long nobody else is: whoever offers what it then does not send keeps nobody else's copy away.
const EXPECTED_ALONE: Duration = Duration::from_secs(10);
/// A push that failed makes another round come soon; while pushes go on failing (a neighbour whose disk
/// is full takes nothing, however often it is asked) later and later, up to [`ROUND_EVERY`].
const AGAIN_AFTER: Duration = Duration::from_secs(20);
/// Handing over ends then, whatever is left: the other copies are repaired.
const LEAVE_WAIT: Duration = Duration::from_millis(2_500);
/// Leaving: a neighbour that wants nothing has so long to say so.
const LEAVE_QUIET: Duration = Duration::from_millis(1_500);
/// Blocks that a leaving router offers a neighbour at most: what may be pushed in that time and more.
const LEAVE_OFFERS: usize = 1_024;
/// The least that repair may use, in bytes a second: one block.
const RATE_MIN: u64 = BLOCK_LEN as u64;

/// A walk over what is owned: offers it to those of the three who are not believed to have it.
#[derive(Clone, Copy, Debug)]
struct Round {
    at: Time,
    after: Option<BlockAddress>,
    /// What is too far from here, and known to be with the three, goes.
    all: bool,
    /// What is compared with nobody is offered once more.
    again: bool,
}

/// How far leaving has come.
#[derive(Clone, Copy, Debug)]
enum Leaving {
    No,
    Until { until: Time, quiet_at: Time },
    Left,
}

/// The state of repair.
#[derive(Debug)]
pub(super) struct Repair {
    bytes_per_second: u64,
    /// When all pushes so far are paid for.
    paid_at: Time,
    round: Option<Round>,
    /// Another round follows the one that is under way: whether of all, and anew.
    then: Option<(bool, bool)>,
    /// When all is compared next; how often it was.
    all_at: Time,
    alls: u32,
    again_at: Option<Time>,
    again_after: Duration,
    /// What neighbours want, in order.
    wanted: VecDeque<(LinkNo, BlockAddress)>,
    pushes: BTreeMap<u32, (LinkNo, BlockAddress)>,
    next_push: u32,
    /// What was asked for, of whom and when.
    expected: BTreeMap<BlockAddress, (LinkNo, Time)>,
    leaving: Leaving,
    /// Blocks pushed and confirmed since the start.
    pub(super) pushed: u64,
}

impl Repair {
    pub(super) fn new(own: Location, bytes_per_second: u64) -> Self {
        // Not all routers at the same minute; the first time soon after the start.
        let part = u32::try_from(own.0 >> 32).unwrap_or(0);
        let offset = ROUND_EVERY.mul_f64(f64::from(part) / f64::from(u32::MAX));
        Self {
            bytes_per_second: bytes_per_second.max(RATE_MIN),
            paid_at: Time::ZERO,
            round: None,
            then: None,
            all_at: Time::ZERO + offset,
            alls: 0,
            again_at: None,
            again_after: AGAIN_AFTER,
            wanted: VecDeque::new(),
            pushes: BTreeMap::new(),
            next_push: 0,
            expected: BTreeMap::new(),
            leaving: Leaving::No,
            pushed: 0,
        }
    }

    pub(super) const fn is_leaving(&self) -> bool {
        !matches!(self.leaving, Leaving::No)
    }

    pub(super) const fn has_left(&self) -> bool {
        matches!(self.leaving, Leaving::Left)
    }

    /// A block came that may have been asked for.
    pub(super) fn arrived(&mut self, address: &BlockAddress) {
        self.expected.remove(address);
    }

    pub(super) fn next(&self, any: bool) -> Option<Time> {
        let round = self.round.map(|it| it.at);
        let push =
            (!self.wanted.is_empty() && self.pushes.len() < PUSHES_MAX).then_some(self.paid_at);
        let leave = match self.leaving {
            Leaving::Until { until, quiet_at } => Some(until.min(quiet_at)),
            Leaving::No | Leaving::Left => None,
        };
        let all = (any && !self.is_leaving()).then_some(self.all_at);
        [round, push, leave, all, self.again_at].into_iter().flatten().min()
    }
}

impl Blocks {
    /// The neighbourhood changed.
    pub(super) fn neighbourhood(&mut self, now: Time, around: Vec<(LinkNo, Location)>) {
        self.around = around;
        self.keep_links();
        if !self.repair.is_leaving() {
            self.compares.neighbourhood(now, self.own, &self.around);
            self.presume();
        }
        self.repair.again_after = AGAIN_AFTER;
        let around = &self.around;
        let there = |link: LinkNo| around.iter().any(|it| it.0 == link);
        self.repair.wanted.retain(|(link, _)| there(*link));
        self.repair.expected.retain(|_, (link, _)| there(*link));
        if !self.entries.is_empty() && !self.repair.is_leaving() {
            self.round(now + ROUND_DELAY, false, false);
        }
    }

    /// Whoever is one of the three where this router is another is believed to have what it has, until the comparison
    /// says otherwise.
    fn presume(&mut self) {
        for (address, entry) in &mut self.entries {
            for link in self.compares.presumed(address) {
                if !entry.copies.contains(&link) {
                    entry.copies.push(link);
                }
            }
        }
    }

    /// Begins a round, or has one follow that is under way: whoever has one begin again and again holds nobody else's
    /// blocks up.
    fn round(&mut self, at: Time, all: bool, again: bool) {
        match &mut self.repair.round {
            Some(Round { after: Some(_), .. }) => {
                let (other_all, other_again) = self.repair.then.unwrap_or_default();
                self.repair.then = Some((all || other_all, again || other_again));
            }
            Some(round) => {
                *round =
                    Round { at, after: None, all: all || round.all, again: again || round.again };
            }
            None => self.repair.round = Some(Round { at, after: None, all, again }),
        }
    }

    /// The neighbour lacks these.
    pub(super) fn lacked(&mut self, now: Time, link: LinkNo, missing: &[BlockAddress]) {
        for address in missing {
            if let Some(entry) = self.entries.get_mut(address) {
                entry.copies.retain(|it| *it != link);
            }
        }
        if !missing.is_empty() && !self.repair.is_leaving() {
            self.round(now, false, false);
        }
    }

    /// Neighbours among the three closest to an address (this router counts, unless it leaves).
    fn targets(&self, address: &BlockAddress) -> Vec<LinkNo> {
        if !self.repair.is_leaving()
            && let Some(others) = self.compares.others(address)
        {
            return others.to_vec();
        }
        let place = address.location();
        let mine = self.own.distance(place);
        let mut best: Vec<(u64, LinkNo)> =
            self.around.iter().map(|(link, it)| (it.distance(place), *link)).collect();
        best.sort_unstable();
        let closer = best.iter().filter(|(distance, _)| *distance < mine).count();
        let own = usize::from(!self.repair.is_leaving() && closer < REPLICAS);
        best.truncate(REPLICAS - own);
        best.into_iter().map(|(_, link)| link).collect()
    }

    /// A step of the round: offers to each neighbour what it may lack, 64 blocks at most.
    fn step(&mut self, now: Time, looks: usize) {
        let Some(Round { mut after, all, again, .. }) = self.repair.round else { return };
        let mut offers: BTreeMap<LinkNo, Vec<BlockAddress>> = BTreeMap::new();
        let mut gone = Vec::new();
        let mut all_seen = false;
        for _ in 0..looks {
            let from = after.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
            let next = self.entries.range((from, std::ops::Bound::Unbounded)).next();
            let Some((address, entry)) = next.map(|(address, entry)| (*address, entry)) else {
                all_seen = true;
                break;
            };
            let targets = self.targets(&address);
            let known = targets.iter().all(|link| entry.copies.contains(link));
            let alone = targets.len() == REPLICAS;
            let anew = again && alone;
            let to: Vec<LinkNo> = targets
                .iter()
                .filter(|link| anew || !entry.copies.contains(link))
                .copied()
                .collect();
            let full =
                to.iter().any(|link| offers.get(link).is_some_and(|it| it.len() >= OFFER_MAX));
            if full {
                break;
            }
            after = Some(address);
            // A copy stays as far as the fifth closest: who is pushed out of the three by one that comes and goes
            // again has it still. Beyond, it goes with the next round of all if nobody wanted it.
            if all && known && alone && self.closer(&address) >= KEEPERS {
                gone.push(address);
                continue;
            }
            for link in to {
                offers.entry(link).or_default().push(address);
            }
            if let Some(entry) = self.entries.get_mut(&address) {
                entry.copies = targets;
            }
        }
        for address in gone {
            self.drop_block(now, &address);
        }
        for (link, blocks) in offers {
            self.out.push_back(HolderOutput::Repair { link, repair: Say::Offer(blocks) });
        }
        let at = now + STEP;
        self.repair.round = if all_seen {
            let then = self.repair.then.take();
            then.map(|(all, again)| Round { at, after: None, all, again })
        } else {
            Some(Round { at, after, all, again })
        };
    }

    /// A neighbour has these blocks: asks for those that belong here and are not.
    pub(super) fn offered(&mut self, now: Time, link: LinkNo, blocks: Vec<BlockAddress>) {
        if self.repair.is_leaving() {
            return;
        }
        self.repair.expected.retain(|_, (_, at)| now.since(*at) < EXPECTED_FOR);
        let within = self.room_for_copies(Source::Copy(link));
        let mut missing = Vec::new();
        for address in blocks {
            if let Some(entry) = self.entries.get_mut(&address) {
                if !entry.copies.contains(&link) && entry.copies.len() < REPLICAS {
                    entry.copies.push(link);
                }
                continue;
            }
            let room = self.repair.expected.len() < EXPECTED_MAX;
            let asked = self.repair.expected.get(&address);
            let waits =
                asked.is_some_and(|(of, at)| *of == link || now.since(*at) < EXPECTED_ALONE);
            if waits || !room || self.closer(&address) > FAR {
                continue;
            }
            if self.own.distance(address.location()) >= within {
                continue;
            }
            // It may have passed by.
            if let Ok(Some(block)) = self.store.get(Shelf::Cache, &address) {
                self.put(now, None, Source::Copy(link), &block);
                continue;
            }
            self.repair.expected.insert(address, (link, now));
            missing.push(address);
        }
        if !missing.is_empty() {
            self.out.push_back(HolderOutput::Repair { link, repair: Say::Want(missing) });
        }
    }

    /// A neighbour lacks these, which were offered to it.
    pub(super) fn wanted(&mut self, now: Time, link: LinkNo, blocks: Vec<BlockAddress>) {
        for address in blocks {
            let Some(entry) = self.entries.get_mut(&address) else { continue };
            entry.copies.retain(|it| *it != link);
            if self.repair.wanted.len() < WANTED_MAX {
                self.repair.wanted.push_back((link, address));
            }
        }
        self.push_some(now);
    }

    /// Sends what is wanted, as fast as repair may go.
    fn push_some(&mut self, now: Time) {
        let hurry = self.repair.is_leaving();
        while self.repair.pushes.len() < PUSHES_MAX
            && (hurry || self.repair.paid_at <= now)
            && let Some((link, address)) = self.repair.wanted.pop_front()
        {
            let block: Option<Block> = match self.store.get(Shelf::Owned, &address) {
                Ok(block) => block,
                Err(error) => {
                    self.failed(now, &error);
                    None
                }
            };
            let Some(block) = block else { continue };
            let cost = BLOCK_LEN as u64 * 1_000_000 / self.repair.bytes_per_second;
            self.repair.paid_at = self.repair.paid_at.max(now) + Duration::from_micros(cost);
            self.repair.next_push = self.repair.next_push.wrapping_add(1);
            let push = self.repair.next_push;
            self.repair.pushes.insert(push, (link, address));
            self.out.push_back(HolderOutput::Push { push, link, block });
        }
    }

    /// What became of a push.
    pub(super) fn pushed(&mut self, now: Time, push: u32, stored: bool) {
        let Some((link, address)) = self.repair.pushes.remove(&push) else { return };
        if !stored {
            self.repair.again_at.get_or_insert(now + self.repair.again_after);
        } else if let Some(entry) = self.entries.get_mut(&address) {
            self.repair.pushed += 1;
            if !entry.copies.contains(&link) {
                entry.copies.push(link);
            }
        }
        self.push_some(now);
        self.leave_timeout(now);
    }

    /// The router leaves: what it has goes to those who are closest then, as far as time allows.
    pub(super) fn leave(&mut self, now: Time) {
        if self.repair.is_leaving() {
            return;
        }
        self.commit(now);
        let until = now + LEAVE_WAIT;
        self.repair.leaving = Leaving::Until { until, quiet_at: now + LEAVE_QUIET };
        // Whoever is only presumed to have something is asked too.
        self.repair.round = Some(Round { at: now, after: None, all: false, again: true });
        self.compares.end();
        if self.entries.is_empty() || self.around.is_empty() {
            self.repair.leaving = Leaving::Left;
            return;
        }
        self.repair.then = None;
        // There is no time for a second between steps: each is one more message to whoever lacks something.
        for _ in 0..LEAVE_OFFERS / OFFER_MAX {
            self.step(now, LEAVE_OFFERS);
        }
        self.repair.round = None;
    }

    fn leave_timeout(&mut self, now: Time) {
        let Leaving::Until { until, quiet_at } = self.repair.leaving else { return };
        let idle = self.repair.pushes.is_empty() && self.repair.wanted.is_empty();
        if now >= until || now >= quiet_at && idle {
            self.repair.leaving = Leaving::Left;
        } else if now >= quiet_at {
            let quiet_at = now + Duration::from_millis(100);
            self.repair.leaving = Leaving::Until { until, quiet_at };
        }
    }

    pub(super) fn repair_timeout(&mut self, now: Time) {
        self.leave_timeout(now);
        let again = self.repair.again_at.take_if(|at| *at <= now).is_some();
        if again {
            self.repair.again_after = (self.repair.again_after * 2).min(ROUND_EVERY);
        }
        let all = now >= self.repair.all_at;
        if all {
            self.repair.all_at = now + ROUND_EVERY;
        }
        if (again || all) && !self.repair.is_leaving() && !self.entries.is_empty() {
            let anew = all && self.repair.alls.is_multiple_of(AGAIN_EVERY);
            self.repair.alls = self.repair.alls.wrapping_add(all.into());
            self.round(now, all, anew);
            if all {
                self.compares.begin(now, anew);
            }
        }
        if self.repair.round.is_some_and(|it| it.at <= now) {
            self.step(now, LOOKS_MAX);
        }
        self.compare_some(now);
        self.push_some(now);
    }
}
