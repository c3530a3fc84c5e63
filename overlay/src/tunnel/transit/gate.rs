//! Whose build is opened next, when more come than this router opens.
//!
//! Lives here: the router's own rate of public-key work, and turns between those who want some of it:
//! between places first, then between the links of a place. Does not live here: what one neighbour
//! may send at all (`neighbour.rs`), opening (`transit.rs`).
//!
//! ```text
//!  offer --> [link 1][link 2] place A --.
//!            [link 3]         place B --+-- a token of the router's bucket --> next: Open
//!            [link 4][link 5] place C --'         waited longer than 1 s ----> next: Late
//! ```
//!
//! Who was idle goes before those who are at it all the time (the sparse flows of FQ-CoDel, RFC 8290), a
//! few builds long, and counts as idle again only after a round in which it had nothing. So a flood, however large,
//! takes turns with itself: whoever sends less than its share waits for one token.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::Side;
use crate::{
    bucket::{Bucket, Refill},
    id::LinkNo,
    table::Table,
    time::Time,
    tunnel::build::BuildMessage,
    wire::Prefix,
};

/// Builds that may wait in all: 5.4 KB each.
pub(super) const WAITING_MAX: usize = 256;
/// Builds of one link that may wait.
pub(super) const PER_LINK_MAX: usize = 16;
/// Builds of whoever was idle that go before all others: owners build a few tunnels at a time.
const QUANTUM: u32 = 4;
/// A build that waited longer is not opened: its owner has better ways by then.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(1);

/// Who shares turns: the links of one place; or one link, where places say nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Place(Prefix),
    Link(LinkNo),
}

/// A build that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) from: Side,
    pub(super) message: BuildMessage,
    since: Time,
}

/// What comes out.
#[derive(Debug)]
pub(super) enum Turn {
    /// To be opened.
    Open(Waiting),
    /// To be refused.
    Late(Waiting),
}

/// Turns: newcomers before those who have had one.
#[derive(Debug)]
struct Turns<K> {
    /// And how many turns each has had here.
    fresh: VecDeque<(K, u32)>,
    rest: VecDeque<K>,
    members: Table<K, ()>,
}

impl<K: Copy + Ord> Turns<K> {
    const fn new() -> Self {
        Self { fresh: VecDeque::new(), rest: VecDeque::new(), members: Table::new() }
    }

    fn join(&mut self, key: K) {
        if self.members.insert(key, ()).is_none() {
            self.fresh.push_back((key, 0));
        }
    }

    /// Whose turn it is among those that have something.
    fn next(&mut self, has: impl Fn(&K) -> bool) -> Option<K> {
        loop {
            if let Some((key, turns)) = self.fresh.front_mut() {
                let (key, has) = (*key, has(key));
                *turns += 1;
                if !has || *turns >= QUANTUM {
                    self.fresh.pop_front();
                    self.rest.push_back(key);
                }
                if has {
                    return Some(key);
                }
                continue;
            }
            let key = self.rest.pop_front()?;
            if has(&key) {
                self.rest.push_back(key);
                return Some(key);
            }
            self.members.remove(&key);
        }
    }

    fn leave(&mut self, key: K) {
        if self.members.remove(&key).is_some() {
            self.fresh.retain(|(other, _)| *other != key);
            self.rest.retain(|other| *other != key);
        }
    }
}

#[derive(Debug)]
struct Crowd {
    turns: Turns<LinkNo>,
    /// Never empty queues.
    queues: Table<LinkNo, VecDeque<Waiting>>,
}

impl Crowd {
    fn len(&self) -> usize {
        self.queues.values().map(VecDeque::len).sum()
    }

    /// The last build of whoever has most.
    fn displace(&mut self) -> Option<Waiting> {
        let (link, _) = self.queues.iter().max_by_key(|(_, queue)| queue.len())?;
        let link = *link;
        self.take(link, VecDeque::pop_back)
    }

    fn take(
        &mut self,
        link: LinkNo,
        pop: impl FnOnce(&mut VecDeque<Waiting>) -> Option<Waiting>,
    ) -> Option<Waiting> {
        let queue = self.queues.get_mut(&link)?;
        let waiting = pop(queue);
        if queue.is_empty() {
            self.queues.remove(&link);
        }
        waiting
    }
}

/// The queue before public-key work.
#[derive(Debug)]
pub(super) struct Gate {
    refill: Refill,
    bucket: Bucket,
    places: BTreeMap<LinkNo, Prefix>,
    /// At most one per link that has sent a build.
    crowds: BTreeMap<Group, Box<Crowd>>,
    turns: Turns<Group>,
    len: usize,
}

impl Gate {
    /// A gate for `per_second` builds a second, and half of that at once.
    pub(super) const fn new(per_second: u32) -> Self {
        Self {
            refill: Refill::per_second(per_second, if per_second < 2 { 1 } else { per_second / 2 }),
            bucket: Bucket::full(),
            places: BTreeMap::new(),
            crowds: BTreeMap::new(),
            turns: Turns::new(),
            len: 0,
        }
    }

    /// Gives up what is remembered of turns while nobody waits: everybody is idle.
    pub(super) fn rest(&mut self) {
        if self.len == 0 {
            self.crowds = BTreeMap::new();
            self.turns = Turns::new();
        }
    }

    /// Where a link leads to.
    pub(super) fn place(&mut self, link: LinkNo, place: Prefix) {
        self.places.insert(link, place);
    }

    /// Builds that wait.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    fn group(&self, link: LinkNo) -> Group {
        self.places.get(&link).map_or(Group::Link(link), |place| Group::Place(*place))
    }

    /// Takes a build in. Gives one that is to be refused: this one, or where there is no more room
    /// the last of the place that has most.
    pub(super) fn offer(&mut self, now: Time, from: Side, message: BuildMessage) -> Option<Side> {
        let group = self.group(from.0);
        let crowd = self
            .crowds
            .entry(group)
            .or_insert_with(|| Box::new(Crowd { turns: Turns::new(), queues: Table::new() }));
        if crowd.queues.get(&from.0).is_some_and(|queue| queue.len() >= PER_LINK_MAX) {
            return Some(from);
        }
        crowd.turns.join(from.0);
        let waiting = Waiting { from, message, since: now };
        crowd.queues.get_or_insert_with(from.0, VecDeque::new).push_back(waiting);
        self.turns.join(group);
        self.len += 1;
        if self.len <= WAITING_MAX {
            return None;
        }
        let fullest = self.crowds.values_mut().max_by_key(|crowd| crowd.len())?;
        let displaced = fullest.displace()?;
        self.len -= 1;
        Some(displaced.from)
    }

    /// The next build whose turn has come.
    pub(super) fn next(&mut self, now: Time) -> Option<Turn> {
        if self.len == 0 || !self.bucket.take(now, self.refill) {
            return None;
        }
        let crowds = &self.crowds;
        let has = |group: &Group| crowds.get(group).is_some_and(|crowd| !crowd.queues.is_empty());
        let group = self.turns.next(has)?;
        let crowd = self.crowds.get_mut(&group)?;
        let queues = &crowd.queues;
        let link = crowd.turns.next(|link| queues.contains_key(link))?;
        let waiting = crowd.take(link, VecDeque::pop_front)?;
        self.len -= 1;
        if now.since(waiting.since) <= WAIT_MAX {
            return Some(Turn::Open(waiting));
        }
        self.bucket.give_back(self.refill);
        Some(Turn::Late(waiting))
    }

    /// When to ask again.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        (self.len > 0).then(|| self.bucket.next_at(self.refill))
    }

    /// Whether a build under this number waits.
    pub(super) fn holds(&self, side: Side) -> bool {
        let queue = self.crowds.get(&self.group(side.0)).and_then(|it| it.queues.get(&side.0));
        queue.is_some_and(|queue| queue.iter().any(|waiting| waiting.from == side))
    }

    /// Its owner gave a build up; whether it had waited.
    pub(super) fn remove(&mut self, side: Side) -> bool {
        let Some(crowd) = self.crowds.get_mut(&self.group(side.0)) else { return false };
        let removed = crowd.take(side.0, |queue| {
            let at = queue.iter().position(|waiting| waiting.from == side)?;
            queue.remove(at)
        });
        self.len -= usize::from(removed.is_some());
        removed.is_some()
    }

    /// A link is gone, with all that waited.
    pub(super) fn link_down(&mut self, link: LinkNo) {
        let group = self.group(link);
        self.places.remove(&link);
        let Some(crowd) = self.crowds.get_mut(&group) else { return };
        crowd.turns.leave(link);
        self.len -= crowd.queues.remove(&link).map_or(0, |queue| queue.len());
        if crowd.turns.members.is_empty() {
            self.crowds.remove(&group);
            self.turns.leave(group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{id::TunnelId, wire::Address};

    fn message() -> BuildMessage {
        Box::new([0; _])
    }

    fn place(n: u8) -> Prefix {
        Address::from(std::net::SocketAddr::from(([10, n, 0, 1], 1))).prefix()
    }

    /// Runs a minute: `flood` links send ten builds a second each, from the places given, and link 0
    /// one a second; 20 a second are opened. Gives how many of link 0's were.
    fn opened_of_sixty(flood: u32, place_of: impl Fn(u32) -> u8) -> usize {
        let mut gate = Gate::new(20);
        gate.place(LinkNo(0), place(0));
        for link in 1..=flood {
            gate.place(LinkNo(link), place(place_of(link)));
        }
        let (mut opened, mut all) = (0, 0);
        for tick in 0..600u32 {
            let now = Time::from_micros(u64::from(tick) * 100_000);
            for link in 1..=flood {
                gate.offer(now, (LinkNo(link), TunnelId(tick)), message());
            }
            if tick % 10 == 3 {
                gate.offer(now, (LinkNo(0), TunnelId(tick)), message());
            }
            while let Some(turn) = gate.next(now) {
                all += usize::from(matches!(turn, Turn::Open(_)));
                opened += usize::from(matches!(turn, Turn::Open(it) if it.from.0 == LinkNo(0)));
            }
            assert!(gate.len() <= WAITING_MAX);
        }
        assert!((1_150..=1_210).contains(&all), "the rate is used and holds: {all}");
        opened
    }

    #[test]
    fn who_sends_less_than_its_share_is_opened_whatever_the_others_send() {
        assert_eq!(opened_of_sixty(12, |link| u8::try_from(link).unwrap()), 60);
    }

    #[test]
    fn many_links_of_one_place_are_one_place() {
        assert_eq!(opened_of_sixty(200, |_| 1), 60);
    }

    #[test]
    fn whoever_was_idle_has_a_few_turns_before_the_others() {
        let mut gate = Gate::new(1_000);
        for n in 0..8 {
            gate.offer(Time::ZERO, (LinkNo(1), TunnelId(n)), message());
        }
        let links = |gate: &mut Gate, count: usize| -> Vec<u32> {
            let turns = (0..count).map(|_| match gate.next(Time::ZERO) {
                Some(Turn::Open(waiting)) => waiting.from.0.0,
                other => panic!("{other:?}"),
            });
            turns.collect()
        };
        assert_eq!(links(&mut gate, 5), [1; 5]);
        for n in 0..6 {
            gate.offer(Time::ZERO, (LinkNo(2), TunnelId(n)), message());
        }
        assert_eq!(links(&mut gate, 9), [2, 2, 2, 2, 1, 2, 1, 2, 1]);
    }

    #[test]
    fn what_waited_too_long_is_not_opened() {
        let mut gate = Gate::new(1);
        let late = Time::from_micros(1_000_001);
        for n in 0..3 {
            assert_eq!(gate.offer(Time::ZERO, (LinkNo(1), TunnelId(n)), message()), None);
        }
        assert!(matches!(gate.next(Time::ZERO), Some(Turn::Open(_))));
        assert!(gate.next(Time::ZERO).is_none());
        assert_eq!(gate.poll_timeout(), Some(Time::from_micros(1_000_000)));
        assert!(matches!(gate.next(late), Some(Turn::Late(_))));
    }

    #[test]
    fn what_is_given_up_or_hung_up_waits_no_more() {
        let mut gate = Gate::new(1);
        for (link, n) in [(1, 1), (1, 2), (2, 3)] {
            gate.offer(Time::ZERO, (LinkNo(link), TunnelId(n)), message());
        }
        assert!(gate.holds((LinkNo(1), TunnelId(2))));
        assert!(gate.remove((LinkNo(1), TunnelId(2))));
        assert!(!gate.remove((LinkNo(1), TunnelId(2))));
        gate.link_down(LinkNo(1));
        assert_eq!(gate.len(), 1);
        assert!(matches!(gate.next(Time::ZERO), Some(Turn::Open(it)) if it.from.0 == LinkNo(2)));
        gate.link_down(LinkNo(2));
        assert!(gate.crowds.is_empty() && gate.turns.members.is_empty());
    }
}
