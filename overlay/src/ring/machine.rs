//! One router's place on the ring: the machine that its owner talks to.
//!
//! Lives here: inputs and outputs, what each message does, who counts as a neighbour. Does not live
//! here: join, draws, gossip and pruning (`keep.rs`: the same machine's housekeeping), requests
//! (`request.rs`), dialling and its rules (the owner; PROTOCOL P3).
//!
//! ```text
//!            Start                  3 seeds answered           Leave
//! Idle ───────────────> Joining ───────────────────> Joined ──────────> Leaving ──> Left
//!                          └── no seed answers: all again after 5 s
//!
//! a linked router:  stranger ── Hello/Welcome ──> neighbour ── Bye, link gone, bad proof ──> stranger
//! ```

use std::{collections::VecDeque, sync::Arc};

use super::{
    admission::{ProofChecks, Source},
    api::{Input, Output, Request, RingConfig, Status, StoreOp},
    guests,
    keep::{Housekeeping, Purpose},
    members::Members,
    neighbours::{Neighbour, Neighbours, Origin},
    repair::Repair,
    request::{BLOCK_JOBS_MAX, RequestOutput, Requests},
    rumours::Rumours,
    view::View,
    wire::{Body, Class, Found, Reach, RingMessage, WINDOW_MAX},
    witnesses::Witnesses,
};
use crate::{
    answer::Answer,
    bucket::{Bucket, Refill},
    crypto::{puzzle::Difficulty, secret::Secret},
    id::{LinkNo, Location, RouterId},
    rng::Rng,
    room::Room,
    table::Table,
    time::{Now, Time, earliest},
    wire::{Address, LinkMessage, Prefix, RouterDescriptor},
};

/// Finds that a linked router which is no neighbour may ask at once, and then one per second: what a
/// newcomer needs.
const STRANGER_FINDS: Refill = Refill::per_second(1, 8);
/// Descriptors that a neighbour may send at once, and then one in ten seconds: as many as a router of ours
/// names (PROTOCOL P11).
const GOSSIP: Refill = Refill::every(10, 96);
/// Offers of blocks that a neighbour may make at once, and then one per second: 64 blocks each. The same for what it
/// says to compare.
const REPAIRS: Refill = Refill::per_second(1, 64);
/// Fewest requests for blocks that a neighbour is allowed at a time, in each class.
const WINDOW_MIN: usize = 4;
/// Proofs whose results are kept, for each router that is remembered: those forgotten come back.
const PROOFS_PER_KNOWN: usize = 16;
/// The same where a check costs next to nothing.
const FREE_PROOFS_PER_KNOWN: usize = 1;
/// Links that the ring knows of; more than a router keeps.
const LINKS_MAX: usize = 4_096;
/// What a stranger's request is told, in seconds.
const STRANGER_RETRY_S: u16 = 5;

/// A linked router.
#[derive(Debug)]
pub(super) struct LinkState {
    pub(super) peer: Arc<RouterDescriptor>,
    pub(super) source: Source,
    place: Prefix,
    /// A `Hello` of ours that waits for its `Welcome`: as what, until when.
    pub(super) hello: Option<(Origin, Time)>,
    pub(super) kept: bool,
    finds: Bucket,
    gossip: Bucket,
    offers: Bucket,
    compares: Bucket,
}

/// One router's place on the ring.
#[derive(Debug)]
pub struct Ring {
    pub(super) rng: Rng,
    pub(super) local: bool,
    pub(super) own: Arc<RouterDescriptor>,
    pub(super) location: Location,
    /// Neighbours that the owner wants; a guest has fewer.
    degree: usize,
    pub(super) links: Table<LinkNo, LinkState>,
    pub(super) neighbours: Neighbours,
    pub(super) view: View,
    pub(super) rumours: Rumours,
    pub(super) witnesses: Witnesses,
    pub(super) members: Members,
    pub(super) proofs: ProofChecks,
    pub(super) requests: Requests,
    pub(super) keep: Housekeeping,
    pub(super) outputs: VecDeque<Output>,
}

impl Ring {
    /// A ring of one.
    pub fn new(config: RingConfig, mut rng: Rng) -> Self {
        let RingConfig { network, own, degree, known_max } = config;
        let location = own.location();
        let free = network.difficulty == Difficulty::NONE;
        let per_known = if free { FREE_PROOFS_PER_KNOWN } else { PROOFS_PER_KNOWN };
        let guest = !own.is_dialable(network.local);
        let (sample, rumours) = (Secret::random(&mut rng), Rumours::new(&mut rng));
        Self {
            rng,
            rumours,
            witnesses: Witnesses::default(),
            local: network.local,
            location,
            degree,
            links: Table::new(),
            neighbours: Neighbours::new(location, guests::degree(degree, guest), network.local),
            view: View::new(&own, known_max, sample),
            members: Members::new(&network),
            proofs: ProofChecks::new(&network, per_known * known_max),
            requests: Requests::new(Arc::clone(&own), guest),
            own,
            keep: Housekeeping::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Something happened.
    pub fn handle_input(&mut self, now: Now, input: Input) {
        match input {
            Input::Start { seeds, cached } => self.start(now, seeds, cached),
            Input::LinkUp { link, peer, remote } => self.link_up(now, link, peer, remote),
            Input::LinkDown { link } => self.link_down(now, link),
            Input::Message { link, message } => self.message(now, link, message),
            Input::Descriptor { link, descriptor } => self.peer_changed(now, link, &descriptor),
            Input::OwnDescriptor(own) => self.own_changed(own),
            Input::Unreachable { id } => self.unreachable(now, &id),
            Input::Query { query, request, class } => {
                let owner = Purpose::Owner(query);
                let (body, purpose) = match request {
                    Request::Get(key) => (Body::Get(key), owner),
                    Request::Put(unit) => (Body::Put(unit), owner),
                    Request::Watch(watch) => (Body::Watch(watch), owner),
                    Request::Find(location) => {
                        (Body::Find(location), Purpose::Router { query, location })
                    }
                };
                let class = if body.is_block() { class } else { Class::Interactive };
                let number = self.keep.number(purpose);
                self.requests.ask(now.time, &mut self.neighbours, number, (body, class), None);
            }
            Input::Push { push, link, block } => {
                self.requests.push(now.time, &mut self.neighbours, push, link, block);
            }
            Input::Repair { link, repair } => {
                if self.neighbours.iter().any(|it| it.link == link) && !repair.is_empty() {
                    self.send(link, RingMessage::Repair(repair));
                }
            }
            Input::Held { ticket, held } => {
                self.requests.held(now.time, &mut self.neighbours, ticket, held);
            }
            Input::Friends(friends) => self.befriended(friends),
            Input::Leave => self.leave(now),
            Input::HandedOver => self.handed_over(),
        }
        self.settle(now);
    }

    /// The hops that the owner keeps: as many of them as fill half of the view stay known, whoever else
    /// there is.
    pub fn protect(&mut self, hops: impl Iterator<Item = RouterId>) {
        self.view.protect(hops);
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Now) {
        self.outputs.rest();
        self.requests.handle_timeout(now.time, &mut self.neighbours);
        self.proofs.handle_timeout(now.time);
        self.housekeeping_timeout(now);
        self.settle(now);
    }

    /// Gives up memory that nothing needs: to be called now and then.
    pub fn rest(&mut self, now: Time) {
        self.rng.rest();
        self.links.rest();
        self.outputs.rest();
        self.neighbours.rest();
        self.view.rest(now);
        self.witnesses.rest();
        self.proofs.rest();
        self.requests.rest(now);
        self.keep.rest();
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to be woken.
    pub fn poll_timeout(&self) -> Option<Time> {
        let Self { requests, proofs, keep, .. } = self;
        earliest([requests.poll_timeout(), proofs.poll_timeout(), keep.poll_timeout()])
    }

    /// What an operator may see.
    pub fn status(&self) -> Status {
        let (known, estimate) = (self.view.len(), self.neighbours.size_estimate());
        let small = known <= self.neighbours.degree();
        Status {
            joined: self.keep.joined() && !self.neighbours.is_empty(),
            neighbours: self.neighbours.len(),
            degree: self.neighbours.degree(),
            known,
            doubtful: self.view.doubtful(),
            size_estimate: if small { known as u64 + 1 } else { estimate.max(known as u64 + 1) },
            requests: self.requests.len(),
        }
    }

    /// The neighbours' descriptors: to be remembered for the next start.
    pub fn neighbours(&self) -> impl Iterator<Item = &Arc<RouterDescriptor>> {
        self.neighbours.iter().map(|it| &it.peer)
    }

    /// The routers known now, neighbours included.
    pub fn view(&self) -> impl Iterator<Item = &Arc<RouterDescriptor>> {
        self.view.iter()
    }

    /// Takes what the children have to say, and tends the table if it changed.
    fn settle(&mut self, now: Now) {
        while let Some(checked) = self.proofs.poll_output() {
            if checked.good {
                self.view.prove(&checked.id);
            } else {
                self.cast_out(now, &checked.id);
            }
            self.report_view_soon(now);
        }
        self.pump_requests(now);
        if std::mem::take(&mut self.keep.dirty) {
            self.tend(now);
            self.grant_windows();
            self.pump_requests(now);
        }
        self.note_view(now);
    }

    fn pump_requests(&mut self, now: Now) {
        while let Some(output) = self.requests.poll_output() {
            match output {
                RequestOutput::Send { link, message } => self.send(link, message),
                RequestOutput::Store { ticket, op } => {
                    self.outputs.push_back(Output::Store { ticket: Some(ticket), op });
                }
                RequestOutput::Cache { block, from } => {
                    let op = StoreOp::Cache { block, from };
                    self.outputs.push_back(Output::Store { ticket: None, op });
                }
                RequestOutput::Done { query, asked, answer } => {
                    self.done(now, query, asked, answer);
                }
                RequestOutput::Pushed { push, stored } => {
                    self.outputs.push_back(Output::Pushed { push, stored });
                }
            }
        }
    }

    fn done(&mut self, now: Now, number: u32, asked: u8, answer: Answer<Found>) {
        let Some(purpose) = self.keep.purposes.remove(&number) else { return };
        match purpose {
            Purpose::Owner(query) => {
                let answer = answer.map(|found| match found {
                    Found::Unit(unit) => Some(unit),
                    Found::Routers(_) => None,
                });
                self.outputs.push_back(Output::Answer { query, asked, answer });
            }
            Purpose::Router { query, location } => {
                let answer = answer.map(|found| found.router_at(location));
                self.outputs.push_back(Output::Router { query, asked, answer });
            }
            Purpose::Join | Purpose::Lookup | Purpose::Draw { .. } => {
                let routers = match answer {
                    Answer::Found(Found::Routers(routers)) => routers,
                    _ => Vec::new(),
                };
                self.found_routers(now, purpose, &routers);
            }
        }
    }

    /// Tells neighbours how many requests for blocks they may have here at a time: what the engine
    /// has room for, shared out, and half of that while half of it is taken.
    fn grant_windows(&mut self) {
        let free = if self.requests.block_jobs() * 2 > BLOCK_JOBS_MAX { 2 } else { 1 };
        let share = BLOCK_JOBS_MAX / self.neighbours.len().max(1) / free;
        let window = |share: usize| {
            let share = share.max(WINDOW_MIN).min(usize::from(WINDOW_MAX));
            u8::try_from(share).unwrap_or(WINDOW_MAX)
        };
        let (interactive, bulk) = (window(share), window(share / 2));
        if self.keep.granted.replace([interactive, bulk]) == Some([interactive, bulk]) {
            return; // and to the same neighbours
        }
        let links: Vec<LinkNo> = self.neighbours.iter().map(|it| it.link).collect();
        for link in links {
            if self.requests.windows.grant(link, [interactive, bulk]) {
                self.send(link, RingMessage::Window { interactive, bulk });
            }
        }
    }

    pub(super) fn send(&mut self, link: LinkNo, message: RingMessage) {
        let message = LinkMessage::Ring(message);
        self.outputs.push_back(Output::Send { link, message });
    }

    fn link_up(&mut self, now: Now, link: LinkNo, peer: Arc<RouterDescriptor>, remote: Address) {
        let source = Source::of(remote);
        let known_bad = self.proofs.known(&peer) == Some(false);
        let barred = known_bad || !self.members.admits(now.wall, &peer);
        if self.proofs.is_blocked(now.time, source) || barred || self.links.len() >= LINKS_MAX {
            self.outputs.push_back(Output::CloseLink { link });
            return;
        }
        let id = peer.id();
        self.view.reached(&id);
        self.learn(now, &peer);
        let [finds, gossip, offers, compares] = [Bucket::full(); 4];
        let hello = None;
        let place = remote.prefix();
        let state =
            LinkState { peer, source, place, hello, kept: false, finds, gossip, offers, compares };
        self.links.insert(link, state);
        self.dialled(now, link, &id);
        self.keep.dirty = true;
    }

    fn link_down(&mut self, now: Now, link: LinkNo) {
        let Some(state) = self.links.remove(&link) else { return };
        let id = state.peer.id();
        let other = self.links.iter().find(|(_, it)| it.peer.id() == id).map(|(link, _)| *link);
        if let Some(neighbour) = self.neighbours.by_id_mut(&id)
            && neighbour.link == link
        {
            if let Some(other) = other {
                neighbour.link = other;
                self.hold(other);
                self.neighbours_changed();
            } else {
                self.view.avoid(now.time, &id);
                self.part(&id);
            }
        }
        self.requests.link_down(now.time, &mut self.neighbours, link);
        self.keep.dirty = true;
    }

    fn message(&mut self, now: Now, link: LinkNo, message: RingMessage) {
        let Some(state) = self.links.get_mut(&link) else { return };
        let peer = state.peer.id();
        let known = self.neighbours.by_id(&peer).is_some();
        // What a guest may do is to ask.
        let neighbour = known && !self.neighbours.is_guest(&state.peer);
        match message {
            RingMessage::Hello { degree: _, reach } => self.hello(now, link, reach),
            RingMessage::Welcome { accepted } => self.welcome(now, link, accepted),
            RingMessage::Bye { leaving } => {
                if leaving {
                    self.forget(now, &peer);
                } else {
                    self.view.avoid(now.time, &peer);
                }
                self.part(&peer);
            }
            RingMessage::Gossip(descriptors) => {
                // Or from one who is being asked: it names closer ones even when it refuses.
                if !neighbour && state.hello.is_none() {
                    return;
                }
                let take = |_: &&Arc<RouterDescriptor>| state.gossip.take(now.time, GOSSIP);
                let taken: Vec<_> = descriptors.iter().take_while(take).collect();
                let (source, place) = (state.source, state.place);
                for descriptor in taken {
                    if self.learn(now, descriptor) {
                        self.proofs.submit(now.time, descriptor, source, false);
                    }
                    self.heard(now, descriptor, place);
                }
            }
            RingMessage::Request { id, budget, class, visited, body } => {
                let finding = matches!(body, Body::Find(_));
                if known || finding && state.finds.take(now.time, STRANGER_FINDS) {
                    let request = (id, budget, class, visited, body);
                    let around = &mut self.neighbours;
                    self.requests.arrive(now.time, around, (link, &peer), request);
                } else {
                    let answer = Answer::Busy { retry_s: STRANGER_RETRY_S };
                    let class = Class::Interactive;
                    self.send(link, RingMessage::Answer { id, class, asked: 1, answer });
                }
            }
            RingMessage::Accepted { id } => self.requests.accepted(now.time, link, id),
            RingMessage::Answer { id, class: _, asked, answer } => {
                let around = &mut self.neighbours;
                let answer = (id, asked, answer);
                self.requests.answered(now.time, around, (link, &peer), answer);
            }
            RingMessage::Replicate(record) => {
                if neighbour {
                    self.requests.heard_of(&record.key());
                    self.requests.came_by(now.time, &mut self.neighbours, &record);
                    let op = StoreOp::Put { unit: record.into(), from: Some(link) };
                    self.outputs.push_back(Output::Store { ticket: None, op });
                }
            }
            RingMessage::Window { interactive, bulk } => {
                if neighbour {
                    self.requests.window(now.time, link, [interactive, bulk]);
                }
            }
            RingMessage::Repair(repair) => {
                let may = match repair {
                    Repair::Offer(_) => state.offers.take(now.time, REPAIRS),
                    Repair::Compare(_) => state.compares.take(now.time, REPAIRS),
                    Repair::Want(_) => true,
                };
                if neighbour && may {
                    self.outputs.push_back(Output::Repair { link, repair });
                }
            }
        }
    }

    fn hello(&mut self, now: Now, link: LinkNo, reach: Reach) {
        let accepted = !self.keep.leaving() && self.accepts(link);
        let Some(state) = self.links.get_mut(&link) else { return };
        if accepted {
            // Both asked at once: it is what this side wanted it for.
            let offered = match reach {
                Reach::Near => Origin::Near,
                Reach::Long => Origin::Offered,
            };
            let origin = state.hello.take().map_or(offered, |(origin, _)| origin);
            self.befriend(now, link, origin);
        } else {
            self.direct(now, link);
        }
        self.send(link, RingMessage::Welcome { accepted });
    }

    fn welcome(&mut self, now: Now, link: LinkNo, accepted: bool) {
        let Some(state) = self.links.get_mut(&link) else { return };
        let id = state.peer.id();
        match (state.hello.take(), accepted) {
            (Some((origin, _)), true) => self.befriend(now, link, origin),
            (Some(_), false) => {
                self.view.avoid(now.time, &id);
                self.let_go(link);
                self.keep.dirty = true;
            }
            (None, true) if self.neighbours.by_id(&id).is_none() => {
                self.send(link, RingMessage::Bye { leaving: false });
            }
            (None, true | false) => {}
        }
    }

    /// Both sides agreed.
    fn befriend(&mut self, now: Now, link: LinkNo, origin: Origin) {
        let Some(state) = self.links.get(&link) else { return };
        let peer = Arc::clone(&state.peer);
        let source = state.source;
        if let Some(known) = self.neighbours.by_id_mut(&peer.id()) {
            if origin == Origin::Drawn {
                known.origin = origin;
            }
            return;
        }
        self.neighbours.insert(Neighbour::new(link, Arc::clone(&peer), origin, now.time));
        self.hold(link);
        self.view.reached(&peer.id());
        self.learn(now, &peer);
        self.proofs.submit(now.time, &peer, source, true);
        self.neighbours_changed();
        self.greet(&peer.id());
    }

    /// No longer a neighbour, for whatever reason.
    pub(super) fn part(&mut self, id: &RouterId) {
        if let Some(it) = self.neighbours.remove(id) {
            self.let_go(it.link);
            self.neighbours_changed();
        }
    }

    pub(super) fn neighbours_changed(&mut self) {
        self.keep.dirty = true;
        self.keep.granted = None;
        let around = self.neighbours.iter().map(|it| (it.link, it.location)).collect();
        self.outputs.push_back(Output::Neighbourhood(around));
        tracing::debug!(neighbours = self.neighbours.len(), "ring neighbours changed");
    }

    /// The proof was bad, or it is no member any more: the router is none.
    fn cast_out(&mut self, now: Now, id: &RouterId) {
        self.forget(now, id);
        self.part(id);
        let links = self.links.iter().filter(|(_, it)| it.peer.id() == *id);
        for link in links.map(|(link, _)| *link).collect::<Vec<_>>() {
            self.outputs.push_back(Output::CloseLink { link });
        }
    }

    fn peer_changed(&mut self, now: Now, link: LinkNo, descriptor: &Arc<RouterDescriptor>) {
        let Some(state) = self.links.get_mut(&link) else { return };
        let fresher = descriptor.fields().published > state.peer.fields().published;
        if state.peer.id() != descriptor.id() || !fresher {
            return;
        }
        if !self.members.is_member(now.wall, descriptor) {
            return self.cast_out(now, &descriptor.id());
        }
        state.peer = Arc::clone(descriptor);
        let source = state.source;
        self.learn(now, descriptor);
        if let Some(known) = self.neighbours.by_id_mut(&descriptor.id()) {
            let changed = known.peer.is_dialable(self.local) != descriptor.is_dialable(self.local);
            if known.location == descriptor.location() && changed {
                self.reseat(now, link, descriptor);
            } else if known.location == descriptor.location() {
                known.peer = Arc::clone(descriptor);
            } else {
                // Nobody moves: a new place is a new neighbour, who must ask again.
                self.part(&descriptor.id());
                self.send(link, RingMessage::Bye { leaving: false });
            }
            self.proofs.submit(now.time, descriptor, source, true);
        }
    }

    fn own_changed(&mut self, own: Arc<RouterDescriptor>) {
        self.own = own;
        let guest = self.is_guest();
        self.requests.set_own(Arc::clone(&self.own), guest);
        self.neighbours.set_degree(guests::degree(self.degree, guest));
        self.keep.dirty = true;
        let links: Vec<_> = self.neighbours.all().map(|it| it.link).collect();
        for link in links {
            let message = LinkMessage::Descriptor(Arc::clone(&self.own));
            self.outputs.push_back(Output::Send { link, message });
        }
    }

    /// Marks a link as needed.
    pub(super) fn hold(&mut self, link: LinkNo) {
        if let Some(state) = self.links.get_mut(&link)
            && !std::mem::replace(&mut state.kept, true)
        {
            self.outputs.push_back(Output::Keep { link });
        }
    }

    /// Marks a link as not needed.
    pub(super) fn let_go(&mut self, link: LinkNo) {
        if let Some(state) = self.links.get_mut(&link)
            && std::mem::take(&mut state.kept)
        {
            self.outputs.push_back(Output::Release { link });
        }
    }
}
