//! The holders of all members, what they say to each other, and their timers.
//!
//! Lives here: starting, stopping and wiring them as `router/src/node/wiring.rs` wires one. Does not live
//! here: who comes when (`run.rs`).

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use warren_datastore::{
    Holder, HolderInput, HolderOutput, MemoryRecords, REPAIR_RATE,
    blocks::{BlockLimits, BlockStore, MemoryBlocks, Shelf},
};
use warren_overlay::{
    block::{Block, BlockAddress},
    id::{LinkNo, Location},
    ring::{Held, KEEPERS, REPLICAS, Repair, StoreOp},
    rng::Rng,
    time::{Now, Time, Wall},
    unit::Unit,
};

use super::ring::{Ring, Seat};
use crate::disk::Blocks;

/// Who waits for the answer to a put: the seat, its session, and its number there.
#[derive(Clone, Copy, Debug)]
struct Asker {
    seat: Seat,
    session: u32,
    push: u32,
}

/// A member that is online.
#[derive(Debug)]
struct Member {
    holder: Holder,
    session: u32,
    links: BTreeMap<Seat, LinkNo>,
    peers: BTreeMap<LinkNo, Seat>,
    next_link: u32,
    tickets: BTreeMap<u32, Asker>,
    next_ticket: u32,
    /// When its next timer is due, as far as the owner knows.
    wake: Option<Time>,
}

/// A member's seat: it keeps its place and its disk until somebody else takes it.
#[derive(Debug)]
struct Keeper {
    place: Location,
    disk: Arc<Mutex<MemoryBlocks>>,
    sessions: u32,
    online: Option<Member>,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Keepers {
    pub(super) ring: Ring,
    seats: Vec<Keeper>,
    limits: BlockLimits,
    /// Whether offers are delivered. Without them nobody repairs and nobody hands over.
    repair: bool,
    rng: Rng,
    /// For what holders draw.
    salts: Rng,
    busy: VecDeque<Seat>,
    /// Timers that were set, for the owner's queue.
    wakes: Vec<(Time, Seat)>,
    /// Blocks that reached somebody through an offer, addresses offered, and bytes of what was compared.
    pub(super) pushed: u64,
    pub(super) offered: u64,
    pub(super) compared: u64,
}

fn clock(time: Time) -> Now {
    let minutes = u32::try_from(time.as_micros() / 60_000_000).unwrap_or(u32::MAX);
    Now { time, wall: Wall::from_minutes(minutes) }
}

impl Keepers {
    /// Nobody yet; each will have room for `room` bytes of others' blocks.
    pub(super) fn new(degree: u32, room: u64, repair: bool, mut rng: Rng) -> Self {
        let nothing = 1 << 20;
        let limits = BlockLimits { owned: room, cache: nothing, pinned: 0, client: 0, front: 0 };
        Self {
            ring: Ring::new(degree),
            seats: Vec::new(),
            limits,
            repair,
            salts: rng.fork(),
            rng,
            busy: VecDeque::new(),
            wakes: Vec::new(),
            pushed: 0,
            offered: 0,
            compared: 0,
        }
    }

    /// A seat whose member is new, with an empty disk, and not online yet.
    pub(super) fn settle(&mut self, seat: Seat) {
        let place = Location(self.rng.below(u64::MAX));
        let disk = Arc::new(Mutex::new(MemoryBlocks::new(self.limits)));
        let keeper = |sessions| Keeper { place, disk, sessions, online: None };
        match self.seats.get_mut(seat as usize) {
            Some(old) => *old = keeper(old.sessions),
            None => self.seats.push(keeper(0)),
        }
    }

    /// A member comes online with what its disk holds.
    pub(super) fn start(&mut self, now: Time, seat: Seat) {
        let Some(keeper) = self.seats.get_mut(seat as usize) else { return };
        if keeper.online.is_some() {
            return;
        }
        keeper.sessions += 1;
        let blocks = Box::new(Blocks::open(&keeper.disk, None));
        let salts = self.salts.fork();
        let holder = Holder::new(Box::new(MemoryRecords::default()), keeper.place, salts)
            .with_blocks(blocks, REPAIR_RATE);
        keeper.online = Some(Member {
            holder,
            session: keeper.sessions,
            links: BTreeMap::new(),
            peers: BTreeMap::new(),
            next_link: 0,
            tickets: BTreeMap::new(),
            next_ticket: 0,
            wake: None,
        });
        let place = keeper.place;
        let changed = self.ring.join(seat, place, &mut self.rng);
        self.tell(now, changed);
    }

    /// A member says that it leaves, and hands over; it is gone when it has.
    pub(super) fn leave(&mut self, now: Time, seat: Seat) {
        self.input(now, seat, HolderInput::HandOver);
        self.pump(now);
    }

    /// A member is gone, as by a crash.
    pub(super) fn stop(&mut self, now: Time, seat: Seat) {
        let gone = self.seats.get_mut(seat as usize).and_then(|it| it.online.take());
        if gone.is_some() {
            let changed = self.ring.leave(seat, &mut self.rng);
            self.tell(now, changed);
        }
    }

    /// Tells these who their neighbours are now.
    fn tell(&mut self, now: Time, changed: impl IntoIterator<Item = Seat>) {
        for seat in changed {
            let around = self.ring.neighbours(seat);
            let places: Vec<_> = around.iter().map(|it| (*it, self.ring.place(*it))).collect();
            let Some(member) = self.online(seat) else { continue };
            member.links.retain(|peer, _| around.contains(peer));
            member.peers.retain(|_, peer| around.contains(peer));
            let neighbours = places
                .into_iter()
                .map(|(peer, place)| {
                    let link = *member.links.entry(peer).or_insert_with(|| {
                        member.next_link += 1;
                        LinkNo(member.next_link)
                    });
                    member.peers.insert(link, peer);
                    (link, place)
                })
                .collect();
            self.input(now, seat, HolderInput::Neighbourhood(neighbours));
        }
        self.pump(now);
    }

    fn online(&mut self, seat: Seat) -> Option<&mut Member> {
        self.seats.get_mut(seat as usize)?.online.as_mut()
    }

    fn input(&mut self, now: Time, seat: Seat, input: HolderInput) {
        if let Some(member) = self.online(seat) {
            member.holder.handle_input(clock(now), input);
            self.busy.push_back(seat);
        }
    }

    /// A member's timer.
    pub(super) fn woken(&mut self, now: Time, seat: Seat) {
        let Some(member) = self.online(seat) else { return };
        if member.wake.take_if(|at| *at <= now).is_some() {
            member.holder.handle_timeout(clock(now));
            self.busy.push_back(seat);
            self.pump(now);
        }
    }

    /// Timers that were set since the last call.
    pub(super) fn poll_wake(&mut self) -> Option<(Time, Seat)> {
        self.wakes.pop()
    }

    /// Delivers until nobody has anything to say.
    fn pump(&mut self, now: Time) {
        while let Some(seat) = self.busy.pop_front() {
            while let Some(output) = self.online(seat).and_then(|it| it.holder.poll_output()) {
                self.say(now, seat, output);
            }
            let Some(member) = self.online(seat) else { continue };
            let due = member.holder.poll_timeout();
            if let Some(due) = due.filter(|due| member.wake.is_none_or(|wake| *due < wake)) {
                member.wake = Some(due);
                self.wakes.push((due.max(now), seat));
            }
        }
    }

    /// The far end of a link, and the link as it is called there.
    fn far(&self, seat: Seat, link: LinkNo) -> Option<(Seat, LinkNo)> {
        let member = |seat: Seat| self.seats.get(seat as usize)?.online.as_ref();
        let peer = *member(seat)?.peers.get(&link)?;
        Some((peer, *member(peer)?.links.get(&seat)?))
    }

    fn say(&mut self, now: Time, seat: Seat, output: HolderOutput) {
        match output {
            HolderOutput::Held { ticket, held } => {
                let asker = self.online(seat).and_then(|it| it.tickets.remove(&ticket));
                let Some(Asker { seat, session, push }) = asker else { return };
                let stored = held == Held::Stored;
                if self.online(seat).is_some_and(|it| it.session == session) {
                    self.pushed += u64::from(stored);
                    self.input(now, seat, HolderInput::Pushed { push, stored });
                }
            }
            HolderOutput::Push { push, link, block } => {
                let session = self.online(seat).map_or(0, |it| it.session);
                let to = self.far(seat, link);
                let kept = to.and_then(|(to, back)| {
                    self.put(now, to, Some(back), block, Some(Asker { seat, session, push }))
                });
                if kept.is_none() {
                    self.input(now, seat, HolderInput::Pushed { push, stored: false });
                }
            }
            HolderOutput::Repair { link, repair } if self.repair => {
                if let Some((to, link)) = self.far(seat, link) {
                    match &repair {
                        Repair::Offer(blocks) => self.offered += blocks.len() as u64,
                        Repair::Compare(compare) => self.compared += compare.encoded_len() as u64,
                        Repair::Want(_) => {}
                    }
                    self.input(now, to, HolderInput::Repair { link, repair });
                }
            }
            HolderOutput::HandedOver => self.stop(now, seat),
            // Records are not part of it.
            HolderOutput::Repair { .. } | HolderOutput::Send { .. } => {}
        }
    }

    /// Puts a block into a member's store.
    fn put(
        &mut self,
        now: Time,
        to: Seat,
        from: Option<LinkNo>,
        block: Block,
        asker: Option<Asker>,
    ) -> Option<()> {
        let member = self.online(to)?;
        member.next_ticket = member.next_ticket.wrapping_add(1);
        let ticket = member.next_ticket;
        if let Some(asker) = asker {
            member.tickets.insert(ticket, asker);
        }
        let op = StoreOp::Put { unit: Unit::Block(block), from };
        self.input(now, to, HolderInput::Store { ticket: Some(ticket), op });
        Some(())
    }

    /// Somebody stores a block through a member: it goes to the closest, which copies it to the two
    /// closest others, as a put on the ring does.
    pub(super) fn store(&mut self, now: Time, from: Seat, block: &Block) {
        let way = self.way(from, block.address().location());
        let Some(end) = way.last().copied() else { return };
        let others = self.siblings(end, block.address().location(), REPLICAS - 1);
        let _ = self.put(now, end, None, block.clone(), None);
        for other in others {
            let link = self.online(other).and_then(|it| it.links.get(&end).copied());
            let _ = self.put(now, other, link, block.clone(), None);
        }
        self.pump(now);
    }

    /// The greedy way from a member to the closest to a place, both included.
    fn way(&self, from: Seat, place: Location) -> Vec<Seat> {
        let far = |seat: Seat| self.ring.place(seat).distance(place);
        let mut way = vec![from];
        let mut here = from;
        while let Some(next) = self.ring.neighbours(here).into_iter().min_by_key(|it| far(*it))
            && far(next) < far(here)
        {
            way.push(next);
            here = next;
        }
        way
    }

    /// The neighbours of the terminal router that are closest to a place.
    fn siblings(&self, end: Seat, place: Location, count: usize) -> Vec<Seat> {
        let mut others: Vec<Seat> = self.ring.neighbours(end).into_iter().collect();
        others.sort_by_key(|it| self.ring.place(*it).distance(place));
        others.truncate(count);
        others
    }

    /// Looks for a block from a member: whether it was found on the way, at its end or with the four beside it, and how
    /// many were asked. Nothing is fetched: nobody's cache changes.
    pub(super) fn look(&self, from: Seat, address: &BlockAddress) -> (bool, u32) {
        let place = address.location();
        let way = self.way(from, place);
        let end = way.last().copied();
        let siblings = end.map(|end| self.siblings(end, place, KEEPERS - 1)).unwrap_or_default();
        let mut asked = 0;
        for seat in way.into_iter().chain(siblings) {
            asked += 1;
            if self.has(seat, address) {
                return (true, asked);
            }
        }
        (false, asked)
    }

    fn has(&self, seat: Seat, address: &BlockAddress) -> bool {
        self.seats.get(seat as usize).is_some_and(|it| {
            let disk = it.disk.lock().unwrap_or_else(PoisonError::into_inner);
            it.online.is_some() && disk.holds(Shelf::Owned, address)
        })
    }

    /// Members online that own a block.
    pub(super) fn owners(&self, address: &BlockAddress) -> u32 {
        let owners = self.ring.members().filter(|seat| self.has(*seat, address));
        u32::try_from(owners.count()).unwrap_or(u32::MAX)
    }
}
