//! What others' tunnels ask of this router where they end, and the splice legs that come of it.
//!
//! Lives here: requests of end hops (records, blocks, leases, splices), both sides of a splice leg, and
//! closing a leg with its splice and a splice with its leg. Does not live here: cells and credits
//! (`EndHop`, `LinkIo`), dialling (`links`), finding records and blocks (the ring), lease ids (`LeaseBook`),
//! what a put costs (`Toll`).
//!
//! ```text
//!  client's end hop (A,t)              gateway of the service (P,p)
//!  SpliceOpen clove --> Dialling
//!                 link up |
//!        Lane::Leg, SpliceOpen ------> lease opens? --no, or waited in vain--> SpliceReply no
//!                      Asking                | yes, or its turn: AcceptIncoming, Incoming
//!                         |            Lane::Leg, SpliceReply yes
//!        Attach <---------+-------------'
//!  Either side gone: the leg's lane is closed, the other side hears CloseSplice.
//! ```

use std::{
    collections::{BTreeMap, VecDeque},
    ops::RangeInclusive,
    sync::Arc,
};

use warren_overlay::{
    answer::{Answer, RETRY_MAX_S},
    bucket::{Bucket, Refill},
    garlic::{
        Admission, Clove, DescriptorBytes, EndHopCommand, EndHopEvent, LeaseBook, RecordBytes,
        Room, Toll,
    },
    id::{LinkNo, RouterId, SpliceId, TunnelId},
    plane::{Lane, LinkCommand},
    ring::{Class, Request},
    rng::Rng,
    time::{Now, Time},
    unit::{Unit, UnitKey},
    wire::{Contact, LinkMessage, RouterDescriptor, SEALED_LEASE_LEN},
};

/// Legs at the same time, both kinds. Each is a lane whose cells count against the quota.
const LEGS: Places = Places { max: 8_192, few: 16, all: 12_288 };
/// Splices whose gateway is still being dialled; each is one of a bounded number in its end hop too.
const OPENING: Places = Places { max: 1_024, few: 4, all: 2_048 };
/// Requests under way for all tunnels that end here.
const QUERIES: Places = Places { max: 1_024, few: 1, all: 1_536 };
/// Of these, watches, which stay open for minutes.
const WATCHES_MAX: usize = 256;
/// Watches of one tunnel.
const WATCHES_PER_TUNNEL_MAX: usize = 4;
/// Puts of blocks under way for all tunnels that end here: of 128 questions about blocks that the ring asks at
/// a time, so that no flood of puts keeps anybody from getting.
const PUTS_MAX: usize = 48;
/// Above that a tunnel with none under way may have one, up to so many in all: who puts little is not
/// kept out by who puts much.
const PUTS_FIRST_MAX: usize = 96;
/// Found blocks that wait to be read, in all tunnels that end here: 32 to 48 MiB. Owners that do not
/// read lose their tunnels after a minute (the link's doing).
const UNREAD: Places = Places { max: 1_024, few: 1, all: 1_536 };
/// Leases that one link may show, a second and at once: each costs a key agreement.
const SHOWN: Refill = Refill::per_second(100, 400);
/// What those are told for whom there is no room, in seconds.
const BUSY_RETRY_S: u16 = 5;
/// The same for a put of a block: those under way take a second or so.
const BUSY_PUT_RETRY_S: u16 = 1;
/// The same for a watch.
const BUSY_WATCH_RETRY_S: u16 = 60;

/// Places that all tunnels that end here share. A tunnel is cheap, and most of what it takes can be kept
/// without a word: so a few must not be able to take all.
struct Places {
    /// For all that anybody asks: a tunnel may have a third of what is free.
    max: usize,
    /// So many a tunnel may have also when these are taken,
    few: usize,
    /// as long as there are not so many in all.
    all: usize,
}

impl Places {
    /// Whether a tunnel that has `held` of `used` may have one more.
    const fn has_one_for(&self, held: usize, used: usize) -> bool {
        held < self.max.saturating_sub(used) / 3 || held < self.few && used < self.all
    }
}

/// A lane: a link, and its number there.
type Side = (LinkNo, TunnelId);

/// What happened.
#[derive(Debug)]
pub(super) enum ExitsInput {
    /// An end hop on this router; and how much room there is for others' blocks.
    EndHop { at: Side, event: EndHopEvent, room: Room },
    /// A router asks for a leg to a lease of ours; it numbered the lane.
    SpliceOpen { leg: Side, sealed: [u8; SEALED_LEASE_LEN] },
    /// A gateway answered our `SpliceOpen`.
    SpliceReply { leg: Side, accepted: bool },
    /// The gateway's link stands; `lane` is a fresh number on it.
    Connected { ask: u64, lane: Side },
    /// The gateway cannot be reached.
    Unreachable { ask: u64 },
    /// A lane is gone: a leg, or a tunnel that ended here.
    LaneClosed(Side),
    /// A link is gone with all its lanes.
    LinkDown(LinkNo),
    /// The ring's answer to `ExitsOutput::Query`.
    Answer { query: u64, asked: u8, answer: Answer<Unit> },
    /// The same where a router was asked after.
    Router { query: u64, asked: u8, answer: Answer<Arc<RouterDescriptor>> },
}

/// What to do next.
#[derive(Debug)]
pub(super) enum ExitsOutput {
    /// Reach this gateway on behalf of the tunnel's previous hop.
    Connect { ask: u64, contact: Contact, asked_by: LinkNo },
    /// Tell a link.
    Link { link: LinkNo, command: LinkCommand },
    /// Ask the ring.
    Query { query: u64, request: Request, class: Class },
    /// Ask the ring to store a record; the bytes are not checked yet.
    Check { query: u64, record: RecordBytes },
}

/// What a request is about, as far as its bounds and its answer go by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    Record,
    Watch,
    Block,
    PutBlock,
    Router,
}

impl About {
    const fn of(request: &Request) -> Self {
        match request {
            Request::Watch(_) => Self::Watch,
            Request::Find(_) => Self::Router,
            Request::Get(UnitKey::Block(_)) => Self::Block,
            Request::Put(Unit::Block(_)) => Self::PutBlock,
            Request::Get(UnitKey::Record(_)) | Request::Put(Unit::Record(_)) => Self::Record,
        }
    }
}

#[derive(Debug)]
struct Leg {
    tunnel: Side,
    splice: SpliceId,
}

/// The machine.
#[derive(Debug)]
pub(super) struct Exits {
    leases: LeaseBook,
    toll: Toll,
    next: u64,
    dialling: BTreeMap<u64, (Side, SpliceId, [u8; SEALED_LEASE_LEN])>,
    /// Who asked what: the tunnel, its request's number, and what it is about.
    queries: BTreeMap<u64, (Side, u32, About)>,
    /// Found blocks that owners have not read, by tunnel.
    unread: BTreeMap<Side, usize>,
    /// Leases that each link may show.
    shown: BTreeMap<LinkNo, Bucket>,
    /// Legs with an open lane, by lane.
    legs: BTreeMap<Side, Leg>,
    /// The same, by splice.
    by_splice: BTreeMap<(Side, SpliceId), Side>,
    out: VecDeque<ExitsOutput>,
}

impl Exits {
    /// Nothing asked, no leases, at the router `own`.
    pub(super) fn new(own: RouterId, mut rng: Rng) -> Self {
        let toll = Toll::new(own, rng.fork());
        rng.rest();
        Self {
            toll,
            leases: LeaseBook::new(rng),
            next: 0,
            dialling: BTreeMap::new(),
            queries: BTreeMap::new(),
            unread: BTreeMap::new(),
            shown: BTreeMap::new(),
            legs: BTreeMap::new(),
            by_splice: BTreeMap::new(),
            out: VecDeque::new(),
        }
    }

    /// Something happened. Late and impossible events change nothing.
    pub(super) fn handle_input(&mut self, now: Now, input: ExitsInput) {
        match input {
            ExitsInput::EndHop { at, event, room } => self.end_hop(now, at, event, room),
            ExitsInput::SpliceOpen { leg, sealed } => self.splice_open(now, leg, &sealed),
            ExitsInput::SpliceReply { leg, accepted } => self.splice_reply(leg, accepted),
            ExitsInput::Connected { ask, lane } => self.connected(ask, lane),
            ExitsInput::Unreachable { ask } => {
                if let Some((at, splice, _)) = self.dialling.remove(&ask) {
                    self.tell(at, EndHopCommand::CloseSplice { splice });
                }
            }
            ExitsInput::LaneClosed(side) => self.lane_closed(side),
            ExitsInput::LinkDown(link) => self.link_down(link),
            ExitsInput::Answer { query, asked, answer } => {
                if let Some((at, request, about)) = self.queries.remove(&query) {
                    self.answer(at, (request, about), asked, answer);
                }
            }
            ExitsInput::Router { query, asked, answer } => {
                if let Some((at, request, About::Router)) = self.queries.remove(&query) {
                    let answer = answer.map(|router| DescriptorBytes::new(router.encode()));
                    let clove = Clove::RouterAnswer { request, asked, answer };
                    self.tell(at, EndHopCommand::Answer(clove));
                }
            }
        }
    }

    /// What the ring found, as an end hop says it to a tunnel's owner.
    fn answer(
        &mut self,
        at: Side,
        (request, about): (u32, About),
        asked: u8,
        answer: Answer<Unit>,
    ) {
        let clove = if matches!(about, About::Block | About::PutBlock) {
            let answer = answer.map(|unit| match unit {
                Unit::Block(block) => Some(block),
                Unit::Record(_) => None,
            });
            if let Answer::Found(_) = answer {
                *self.unread.entry(at).or_default() += 1;
            }
            if about == About::PutBlock && !matches!(answer, Answer::Stored { .. }) {
                self.toll.refund(at);
            }
            Clove::BlockAnswer { request, asked, answer }
        } else if about == About::Router {
            Clove::RouterAnswer { request, asked, answer: answer.map(|_| None) }
        } else {
            let answer = answer.map(|unit| match unit {
                Unit::Record(record) => RecordBytes::new(record.encode()),
                Unit::Block(_) => None,
            });
            Clove::RecordAnswer { request, asked, answer }
        };
        self.tell(at, EndHopCommand::Answer(clove));
    }

    /// Time passed: clients that wait at leases of ours enter, or have waited too long.
    pub(super) fn handle_timeout(&mut self, now: Now) {
        while let Some(admission) = self.leases.next(now.time) {
            match admission {
                Admission::Enter { leg, tunnel } => self.enter(leg, tunnel),
                Admission::Refuse { leg } => self.reply(leg, false),
                Admission::Report { tunnel, crowd } => {
                    self.tell(tunnel, EndHopCommand::Crowd(crowd));
                }
            }
        }
    }

    /// When to be woken.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.leases.poll_timeout()
    }

    /// The next thing to do.
    pub(super) fn poll_output(&mut self) -> Option<ExitsOutput> {
        self.out.pop_front()
    }

    fn tell(&mut self, (link, tunnel): Side, command: EndHopCommand) {
        let command = LinkCommand::EndHop { tunnel, command };
        self.out.push_back(ExitsOutput::Link { link, command });
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn end_hop(&mut self, now: Now, at: Side, event: EndHopEvent, room: Room) {
        match event {
            EndHopEvent::Request(Clove::PutWork { request, effort, nonce }) => {
                match self.toll.work(now.time, at, room, (effort, nonce)) {
                    Ok(price) => {
                        let clove = Clove::PutPrice { request, price };
                        self.tell(at, EndHopCommand::Answer(clove));
                    }
                    // No owner of ours says so.
                    Err(_) => self.close_lane(at),
                }
            }
            EndHopEvent::Request(clove) => self.request(now, at, clove),
            EndHopEvent::SpliceGone { splice } => {
                self.dialling.retain(|_, (tunnel, of, _)| (*tunnel, *of) != (at, splice));
                if let Some(leg) = self.by_splice.remove(&(at, splice)) {
                    self.legs.remove(&leg);
                    self.close_lane(leg);
                }
            }
            EndHopEvent::Incoming { splice, leg } => {
                self.add_leg(leg, at, splice);
                self.reply(leg, true);
            }
            EndHopEvent::Refused { leg } => self.reply(leg, false),
            EndHopEvent::Flushed { blocks } => {
                if let Some(unread) = self.unread.get_mut(&at) {
                    *unread = unread.saturating_sub(usize::try_from(blocks).unwrap_or(usize::MAX));
                    if *unread == 0 {
                        self.unread.remove(&at);
                    }
                }
            }
        }
    }

    fn request(&mut self, now: Now, at: Side, clove: Clove) {
        match clove {
            Clove::RecordGet { request, key } => {
                self.ask(at, request, Class::Interactive, Request::Get(UnitKey::Record(key)));
            }
            Clove::RecordPut { request, record } => {
                if let Some(query) = self.query(at, request, About::Record) {
                    self.out.push_back(ExitsOutput::Check { query, record });
                }
            }
            Clove::RecordWatch { request, watch } => {
                self.ask(at, request, Class::Interactive, Request::Watch(watch));
            }
            Clove::RouterFind { request, location } => {
                self.ask(at, request, Class::Interactive, Request::Find(location));
            }
            Clove::BlockGet { request, class, address } => {
                self.ask(at, request, class, Request::Get(UnitKey::Block(address)));
            }
            Clove::BlockPut { request, class, block } if self.toll.spend(at) => {
                self.ask(at, request, class, Request::Put(block.into()));
            }
            // Not paid for, as from a router of a version that knows of no work.
            Clove::BlockPut { request, .. } => {
                let answer = Answer::Busy { retry_s: RETRY_MAX_S };
                let clove = Clove::BlockAnswer { request, asked: 0, answer };
                self.tell(at, EndHopCommand::Answer(clove));
            }
            Clove::LeaseRequest { request, lease, rate } => {
                let clove = match self.leases.grant(now.time, lease, rate, at) {
                    Some(splice_key) => Clove::LeaseGranted { request, splice_key },
                    None => Clove::LeaseRefused { request },
                };
                self.tell(at, EndHopCommand::Answer(clove));
            }
            Clove::SpliceOpen { splice, contact, sealed } => {
                let (opening, of_it) = (self.dialling.len(), self.opening(at));
                if !OPENING.has_one_for(of_it, opening) || !self.has_leg_for(at) {
                    return self.tell(at, EndHopCommand::CloseSplice { splice });
                }
                let ask = self.number();
                self.dialling.insert(ask, (at, splice, sealed));
                self.out.push_back(ExitsOutput::Connect { ask, contact, asked_by: at.0 });
            }
            // The end hop passes on no other kind.
            _ => {}
        }
    }

    fn ask(&mut self, at: Side, number: u32, class: Class, request: Request) {
        if let Some(query) = self.query(at, number, About::of(&request)) {
            self.out.push_back(ExitsOutput::Query { query, request, class });
        }
    }

    /// Remembers who asked; answers `Busy` itself when too many are under way, or too many found
    /// blocks wait to be read.
    fn query(&mut self, at: Side, request: u32, about: About) -> Option<u64> {
        if let Some(retry_s) = self.crowded(at, about) {
            self.answer(at, (request, about), 0, Answer::Busy { retry_s });
            return None;
        }
        let query = self.number();
        self.queries.insert(query, (at, request, about));
        Some(query)
    }

    /// Whether there is no room for a request; if so, after how many seconds there may be.
    fn crowded(&self, at: Side, about: About) -> Option<u16> {
        let watches = || self.queries.values().filter(|(_, _, about)| *about == About::Watch);
        let of_tunnel = || watches().filter(|(tunnel, ..)| *tunnel == at).count();
        if about == About::Watch
            && (watches().count() >= WATCHES_MAX || of_tunnel() >= WATCHES_PER_TUNNEL_MAX)
        {
            return Some(BUSY_WATCH_RETRY_S);
        }
        if about == About::PutBlock {
            let puts = || self.queries.values().filter(|(.., about)| *about == About::PutBlock);
            let first = !puts().any(|(tunnel, ..)| *tunnel == at);
            let most = if first { PUTS_FIRST_MAX } else { PUTS_MAX };
            if puts().count() >= most {
                return Some(BUSY_PUT_RETRY_S);
            }
        }
        let of_tunnel = self.queries.values().filter(|(tunnel, ..)| *tunnel == at).count();
        let unread = self.unread.values().sum();
        let of_it = self.unread.get(&at).copied().unwrap_or_default();
        let room = QUERIES.has_one_for(of_tunnel, self.queries.len())
            && (about != About::Block || UNREAD.has_one_for(of_it, unread));
        (!room).then_some(BUSY_RETRY_S)
    }

    fn connected(&mut self, ask: u64, lane: Side) {
        let Some((at, splice, sealed)) = self.dialling.remove(&ask) else { return };
        self.add_leg(lane, at, splice);
        let (link, tunnel) = lane;
        let command = LinkCommand::Send(LinkMessage::SpliceOpen { tunnel, sealed });
        self.out.push_back(ExitsOutput::Link { link, command });
    }

    fn splice_open(&mut self, now: Now, leg: Side, sealed: &[u8; SEALED_LEASE_LEN]) {
        let bucket = self.shown.entry(leg.0).or_insert(Bucket::full());
        if self.legs.contains_key(&leg)
            || self.legs.len() >= LEGS.all
            || !bucket.take(now.time, SHOWN)
        {
            return self.reply(leg, false);
        }
        match self.leases.open(now.time, leg, sealed) {
            Ok(Some(tunnel)) => self.enter(leg, tunnel),
            Ok(None) => self.handle_timeout(now),
            Err(_) => self.reply(leg, false),
        }
    }

    /// A client may enter at a lease, if its service's tunnel may have one more.
    fn enter(&mut self, leg: Side, tunnel: Side) {
        if self.has_leg_for(tunnel) {
            self.tell(tunnel, EndHopCommand::AcceptIncoming { leg });
        } else {
            self.reply(leg, false);
        }
    }

    /// Splices of a tunnel whose gateway is being dialled.
    fn opening(&self, tunnel: Side) -> usize {
        self.dialling.values().filter(|(at, ..)| *at == tunnel).count()
    }

    /// Whether a tunnel may have one more leg.
    fn has_leg_for(&self, tunnel: Side) -> bool {
        let held = self.by_splice.range(all_of(tunnel)).count() + self.opening(tunnel);
        LEGS.has_one_for(held, self.legs.len() + self.dialling.len())
    }

    fn splice_reply(&mut self, leg: Side, accepted: bool) {
        let Some(Leg { tunnel, splice }) = self.legs.get(&leg) else { return };
        let (tunnel, splice) = (*tunnel, *splice);
        if accepted {
            self.tell(tunnel, EndHopCommand::Attach { splice, leg });
        } else {
            self.forget(leg);
            let (link, tunnel_id) = leg;
            let command = LinkCommand::Close { tunnel: tunnel_id, tell: false };
            self.out.push_back(ExitsOutput::Link { link, command });
            self.tell(tunnel, EndHopCommand::CloseSplice { splice });
        }
    }

    fn add_leg(&mut self, leg: Side, tunnel: Side, splice: SpliceId) {
        self.legs.insert(leg, Leg { tunnel, splice });
        self.by_splice.insert((tunnel, splice), leg);
        let lane = Lane::Leg { to: tunnel.0, tunnel: tunnel.1, splice };
        let command = LinkCommand::Open { tunnel: leg.1, lane: Box::new(lane) };
        self.out.push_back(ExitsOutput::Link { link: leg.0, command });
    }

    fn reply(&mut self, (link, tunnel): Side, accepted: bool) {
        let command = LinkCommand::Send(LinkMessage::SpliceReply { tunnel, accepted });
        self.out.push_back(ExitsOutput::Link { link, command });
    }

    fn close_lane(&mut self, (link, tunnel): Side) {
        let command = LinkCommand::Close { tunnel, tell: true };
        self.out.push_back(ExitsOutput::Link { link, command });
    }

    fn forget(&mut self, leg: Side) -> Option<Leg> {
        let gone = self.legs.remove(&leg)?;
        self.by_splice.remove(&(gone.tunnel, gone.splice));
        Some(gone)
    }

    fn lane_closed(&mut self, side: Side) {
        if let Some(Leg { tunnel, splice }) = self.forget(side) {
            self.tell(tunnel, EndHopCommand::CloseSplice { splice });
            return;
        }
        self.leases.forget(side);
        self.tunnel_gone(side);
    }

    /// A tunnel that ended here is over: so are its leases, requests and legs.
    fn tunnel_gone(&mut self, tunnel: Side) {
        for leg in self.leases.revoke(tunnel) {
            self.reply(leg, false);
        }
        self.dialling.retain(|_, (at, ..)| *at != tunnel);
        self.queries.retain(|_, (at, ..)| *at != tunnel);
        self.unread.remove(&tunnel);
        self.toll.forget(tunnel);
        let legs: Vec<_> = self.by_splice.range(all_of(tunnel)).map(|(_, leg)| *leg).collect();
        for leg in legs {
            self.forget(leg);
            self.close_lane(leg);
        }
    }

    fn link_down(&mut self, link: LinkNo) {
        self.leases.link_down(link);
        self.shown.remove(&link);
        let on_link = |side: &Side| side.0 == link;
        let legs: Vec<_> = self.legs.keys().copied().filter(on_link).collect();
        for leg in legs {
            if let Some(Leg { tunnel, splice }) = self.forget(leg)
                && tunnel.0 != link
            {
                self.tell(tunnel, EndHopCommand::CloseSplice { splice });
            }
        }
        let mut tunnels: Vec<Side> = self.by_splice.keys().map(|(tunnel, _)| *tunnel).collect();
        tunnels.extend(self.dialling.values().map(|(at, ..)| *at));
        tunnels.extend(self.queries.values().map(|(at, ..)| *at));
        tunnels.extend(self.unread.keys());
        tunnels.extend(self.leases.tunnels());
        tunnels.extend(self.toll.lanes());
        tunnels.retain(on_link);
        tunnels.sort_unstable();
        tunnels.dedup();
        for tunnel in tunnels {
            self.tunnel_gone(tunnel);
        }
    }
}

/// All splices that a tunnel may have.
fn all_of(tunnel: Side) -> RangeInclusive<(Side, SpliceId)> {
    (tunnel, SpliceId(0))..=(tunnel, SpliceId(u32::MAX))
}

#[cfg(test)]
mod tests;
