//! Comparing what is owned with each neighbour that should own the same: when, and how fast.
//!
//! Lives here: whose turn it is, what waits to be said, what answering may cost. Does not live here: what is said
//! (`compare.rs`), what becomes of the blocks that somebody lacks (`repair.rs`).
//!
//! One message a second to each neighbour, and some at once after a silence. What finds no room, or costs too much now, is dropped: the next comparison
//! finds it again.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use warren_overlay::{
    block::BlockAddress,
    id::{LinkNo, Location},
    ring::{CLAIMS_MAX, Claim, Compare, Repair as Say, Stretch},
    rng::Rng,
    table::Table,
    time::Time,
};

use super::{
    HolderOutput,
    arcs::Arcs,
    compare::{Marker, Teller, inside},
    shelf::{Blocks, Entry},
};

/// A neighbour is told something this often, and in this time's silence so much is saved up.
const SAY_EVERY: Duration = Duration::from_secs(1);
const SAY_SAVED: Duration = Duration::from_secs(8);
/// How long after a change a comparison begins: changes come in crowds.
const BEGIN_DELAY: Duration = Duration::from_secs(1);
/// Addresses that one sum stands for when a comparison begins, and that are marked for it in a second: some 8 ms.
const SEGMENT: usize = 65_536;
/// Claims that wait for a neighbour: 150 KiB at most.
const WAITING_MAX: usize = 1_024;
/// Stretches that a neighbour may say are not of both: two that disagree need two or three.
const APART_MAX: usize = 8;
/// What answering a neighbour may cost: so many marks a second, and what was saved up in eight.
const MARKS_PER_SECOND: u64 = 131_072;
const MARKS_SAVED: Duration = Duration::from_secs(8);

/// What is compared with a neighbour.
#[derive(Debug)]
struct Peer {
    /// As far as this router knows, rising.
    shared: Vec<Stretch>,
    /// Of these, what is not so as far as the neighbour knows.
    apart: Vec<Stretch>,
    /// What is still to be compared, under this salt, and when that goes on.
    ahead: VecDeque<Stretch>,
    salt: [u8; 16],
    begin_at: Time,
    /// What is to be said, each under its salt.
    waiting: VecDeque<([u8; 16], Claim)>,
    /// When all that was said is paid for.
    said_until: Time,
    /// When all that was answered is paid for.
    paid_at: Time,
}

impl Peer {
    const fn new(now: Time) -> Self {
        Self {
            shared: Vec::new(),
            apart: Vec::new(),
            ahead: VecDeque::new(),
            salt: [0; 16],
            begin_at: now,
            waiting: VecDeque::new(),
            said_until: now,
            paid_at: now,
        }
    }

    /// Whether it is as if nothing had ever been shared or said.
    fn is_blank(&self, now: Time) -> bool {
        let shares = !self.shared.is_empty() || !self.apart.is_empty() || !self.ahead.is_empty();
        !shares && self.waiting.is_empty() && self.said_until.max(self.paid_at) <= now
    }

    fn begin(&mut self, at: Time, salt: [u8; 16]) {
        self.salt = salt;
        self.ahead = self.shared.iter().copied().collect();
        self.begin_at = at;
    }

    /// When it is to be told something; `None` if there is nothing.
    fn say_at(&self) -> Option<Time> {
        let saved = u64::try_from(SAY_SAVED.as_micros()).unwrap_or(0);
        let may = Time::from_micros(self.said_until.as_micros().saturating_sub(saved));
        if self.waiting.is_empty() {
            (!self.ahead.is_empty()).then_some(may.max(self.begin_at))
        } else {
            Some(may)
        }
    }
}

/// All comparisons of one holder.
#[derive(Debug)]
pub(super) struct Compares {
    rng: Rng,
    arcs: Arcs,
    /// None as long as nothing is shared and nothing was said: so with all but the nearest.
    peers: Table<LinkNo, Option<Box<Peer>>>,
    /// When somebody is to be told something: everybody is asked that all the time.
    due: Option<Time>,
}

impl Compares {
    pub(super) const fn new(rng: Rng, arcs: Arcs) -> Self {
        Self { rng, arcs, peers: Table::new(), due: None }
    }

    /// A generator for whoever takes this one's place.
    pub(super) fn fork(&mut self) -> Rng {
        self.rng.fork()
    }

    /// The other two of the three closest to an address; `None` where this router is not one of them.
    pub(super) fn others(&self, address: &BlockAddress) -> Option<&[LinkNo]> {
        self.arcs.others(address)
    }

    /// Those of them with whom it is compared: believed to have it until that says otherwise.
    pub(super) fn presumed(&self, address: &BlockAddress) -> impl Iterator<Item = LinkNo> {
        let others = self.others(address).unwrap_or_default();
        others.iter().copied().filter(|link| !self.is_apart(*link, address))
    }

    /// Whether the neighbour says that this address is not one of both.
    fn is_apart(&self, link: LinkNo, address: &BlockAddress) -> bool {
        let place = address.location();
        let inside = |it: &Stretch| it.first() <= place && place <= it.last();
        let peer = self.peers.get(&link).and_then(Option::as_ref);
        peer.is_some_and(|peer| peer.apart.iter().any(inside))
    }

    /// These are the neighbours now. Whoever shares a stretch that it did not share before is compared with soon.
    pub(super) fn neighbourhood(
        &mut self,
        now: Time,
        own: Location,
        around: &[(LinkNo, Location)],
    ) {
        self.arcs = Arcs::new(own, around);
        self.peers.retain(|link, _| around.iter().any(|(it, _)| it == link));
        for (link, _) in around {
            let shared = self.arcs.with(*link);
            let peer = self.peers.get_or_insert_with(*link, || None);
            if peer.as_ref().map_or(&[][..], |it| &it.shared) != shared {
                let peer = peer.get_or_insert_with(|| Box::new(Peer::new(now)));
                peer.apart.clear();
                peer.shared = shared;
                peer.begin(now + BEGIN_DELAY, self.rng.bytes());
            }
            peer.take_if(|it| it.is_blank(now));
        }
        self.rng.rest();
        self.settle();
    }

    /// Compares everything with everybody; `anew`: whatever they said is not of both.
    pub(super) fn begin(&mut self, now: Time, anew: bool) {
        for peer in self.peers.values_mut() {
            let salt = self.rng.bytes();
            let Some(peer) = peer else { continue };
            if anew {
                peer.apart.clear();
            }
            peer.begin(now, salt);
        }
        self.rng.rest();
        self.settle();
    }

    /// Says nothing more.
    pub(super) fn end(&mut self) {
        self.peers = Table::new();
        self.settle();
    }

    pub(super) const fn next(&self) -> Option<Time> {
        self.due
    }

    fn settle(&mut self) {
        self.due = self.peers.values().flatten().filter_map(|peer| peer.say_at()).min();
    }
}

impl Blocks {
    /// A neighbour compares.
    pub(super) fn compared(&mut self, now: Time, link: LinkNo, compare: &Compare) {
        let Some(peer) = self.compares.peers.get_mut(&link) else { return };
        let peer = peer.get_or_insert_with(|| Box::new(Peer::new(now)));
        let marker = Marker::new(&compare.salt);
        let mut missing: Vec<BlockAddress> = Vec::new();
        for claim in &compare.claims {
            peer.paid_at = peer.paid_at.max(now);
            if peer.paid_at.since(now) > MARKS_SAVED {
                break;
            }
            let mut teller = Teller::new(&self.entries, &peer.shared, &marker);
            teller.answer(claim);
            let cost = teller.marks * 1_000_000 / MARKS_PER_SECOND;
            peer.paid_at = peer.paid_at + Duration::from_micros(cost);
            missing.append(&mut teller.missing);
            for stretch in teller.apart {
                let known = peer.apart.iter().any(|it| it.within(stretch) == Some(stretch));
                if !known && peer.apart.len() < APART_MAX {
                    peer.apart.push(stretch);
                    missing.extend(inside(&self.entries, stretch));
                }
            }
            for answer in teller.claims {
                if peer.waiting.len() < WAITING_MAX {
                    peer.waiting.push_back((compare.salt, answer));
                }
            }
        }
        self.lacked(now, link, &missing);
        self.compare_some(now);
    }

    /// Says what is due.
    pub(super) fn compare_some(&mut self, now: Time) {
        for (link, peer) in self.compares.peers.iter_mut() {
            let Some(peer) = peer else { continue };
            while peer.say_at().is_some_and(|at| at <= now) {
                if peer.waiting.is_empty() {
                    begin_some(&self.entries, peer);
                    peer.begin_at = now + SAY_EVERY;
                }
                let Some(salt) = peer.waiting.front().map(|it| it.0) else { continue };
                let mut claims = Vec::new();
                while claims.len() < CLAIMS_MAX
                    && let Some((_, claim)) = peer.waiting.pop_front_if(|it| it.0 == salt)
                {
                    claims.push(claim);
                }
                let repair = Say::Compare(Compare { salt, claims });
                self.out.push_back(HolderOutput::Repair { link: *link, repair });
                peer.said_until = peer.said_until.max(now) + SAY_EVERY;
            }
        }
        self.compares.settle();
    }
}

/// Sums up the next [`SEGMENT`] addresses of what is still to be compared with a neighbour.
fn begin_some(all: &BTreeMap<BlockAddress, Entry>, peer: &mut Peer) {
    let marker = Marker::new(&peer.salt);
    let mut teller = Teller::new(all, &peer.shared, &marker);
    let mut room = SEGMENT;
    while room > 0
        && let Some(stretch) = peer.ahead.pop_front()
    {
        let mut some = inside(all, stretch);
        // Who holds nothing there need not ask: the other does.
        if some.next().is_none() {
            continue;
        }
        let cut = some.nth(room - 1).map(BlockAddress::location);
        let part =
            cut.and_then(|cut| Stretch::new(stretch.first(), Location(cut.0.checked_sub(1)?)));
        if let Some(part) = part {
            let after = Location(part.last().0 + 1);
            peer.ahead.extend(Stretch::new(after, stretch.last()));
        }
        let before = teller.marks;
        teller.begin(part.unwrap_or(stretch));
        room = room.saturating_sub(usize::try_from(teller.marks - before).unwrap_or(room));
    }
    let salt = peer.salt;
    peer.waiting.extend(teller.claims.into_iter().map(|claim| (salt, claim)));
}
