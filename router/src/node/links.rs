//! Which links there are, who waits for one, and what may be dialled.
//!
//! Lives here: one link per router, made on demand for whoever asks (ring, tunnels, splices), the
//! numbering of lanes on it. Does not live here: how often is dialled for others (`links/favours.rs`),
//! one link (`links/link.rs`), handshakes and frames (`overlay::link`), sockets (driver), what the askers want the link for.
//!
//! ```text
//! ask --up already--> Ready
//!  |--not dialable, over budget, failed lately--> Refused   (one coarse answer for every cause)
//!  |--the same contact is being dialled--> waits with the others
//!  '--else--> Dialling --up--> every waiter gets Ready
//!                 '-- failed or 10 s --> every waiter gets Refused
//! ```
//!
//! Where a router is, others say too, and say what they like: who asks for another contact of it than is
//! being dialled has that dialled beside it. Only those who ask for others' sake wait for an own dial,
//! whatever they say.

mod favours;
mod link;

use std::{collections::VecDeque, sync::Arc};

use warren_overlay::{
    id::{LinkNo, RouterId, TunnelId},
    room::Room,
    table::Table,
    time::{Now, Time},
    wire::{Address, Contact, RouterDescriptor},
};

use self::{
    favours::Favours,
    link::{DIAL_LIMIT, Dial, Link, RETIRING_LIMIT, State},
};
use crate::config::Ban;

/// Links that came from one /16 (IPv4) or /32 (IPv6), as a share of all: one part of this. Not in a local
/// network, where all come from few.
const PLACE_PART: usize = 16;
/// Askers that may wait for one dial.
const WAITERS_MAX: usize = 64;

/// Who waits for a link, and under which number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// The ring wants a neighbour.
    Ring,
    /// A tunnel that goes on through this router.
    Transit(u64),
    /// An own tunnel's first hop.
    Pools(u64),
    /// A client's splice to a gateway.
    Splice(u64),
}

/// What came of asking for a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// It stands.
    Ready(LinkNo),
    /// It is being made; the asker will hear.
    Pending,
    /// There will be none. There is no reason (PROTOCOL P3).
    Refused,
}

/// What the registry wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinksOutput {
    /// Dial this contact, there or at its address of the other family; the new link has this number.
    Dial { link: LinkNo, contact: Contact, also: Option<Address> },
    /// The link an asker waited for stands.
    Ready { asker: Asker, link: LinkNo },
    /// There will be none; the router that could not be reached.
    Refused { asker: Asker, id: RouterId },
    /// Nobody needs this link any more: say goodbye.
    Retire(LinkNo),
}

/// The registry.
#[derive(Debug)]
pub(super) struct Links {
    me: RouterId,
    local_network: bool,
    max: usize,
    bans: Vec<Ban>,
    links: Table<LinkNo, Link>,
    by_id: Table<RouterId, LinkNo>,
    made: u32,
    favours: Favours,
    /// By when to look for what took too long or is of no use; or earlier.
    tidy_at: Option<Time>,
    out: VecDeque<LinksOutput>,
}

impl Links {
    /// An empty registry of router `me` for `max` links, dialling included. Each costs two sockets'
    /// buffers and about 40 KiB.
    pub(super) fn new(me: RouterId, local_network: bool, max: usize) -> Self {
        Self {
            me,
            local_network,
            max,
            bans: Vec::new(),
            links: Table::new(),
            by_id: Table::new(),
            made: 0,
            favours: Favours::default(),
            tidy_at: None,
            out: VecDeque::new(),
        }
    }

    /// The same, without links to whom these cover.
    pub(super) fn banning(self, bans: Vec<Ban>) -> Self {
        Self { bans, ..self }
    }

    fn is_banned(&self, address: &Address) -> bool {
        self.bans.iter().any(|ban| ban.covers(address.socket().ip()))
    }

    /// The number of a connection that came in from `remote`; `None` when there are too many.
    pub(super) fn accept(&mut self, now: Time, remote: Address) -> Option<LinkNo> {
        if self.links.len() >= self.max
            || self.is_banned(&remote)
            || !self.local_network && self.is_crowded(&remote)
        {
            return None;
        }
        let no = self.number();
        self.links.insert(no, Link::new(State::Accepted { since: now }, remote, now));
        self.tidy_by(now + DIAL_LIMIT);
        Some(no)
    }

    /// Whether as many links as may be came from where `remote` is.
    fn is_crowded(&self, remote: &Address) -> bool {
        let came = |link: &&Link| match &link.state {
            State::Accepted { .. } => true,
            State::Up { initiator, .. } => !initiator,
            State::Dialling { .. } | State::Probing { .. } => false,
        };
        let place = remote.prefix();
        let there = self.links.values().filter(came).filter(|it| it.remote.prefix() == place);
        there.count() >= (self.max / PLACE_PART).max(1)
    }

    /// As many links as there may be.
    pub(super) const fn max(&self) -> usize {
        self.max
    }

    fn number(&mut self) -> LinkNo {
        self.made = self.made.wrapping_add(1);
        LinkNo(self.made)
    }

    /// Asks for a link to `contact`, there or at the first of `more` in the other family that may be
    /// dialled: one, so that a descriptor has nobody dialled more often than that. `asked_by` is the
    /// neighbour on whose behalf; `None` for this router's own sake, which P3's budgets do not limit.
    pub(super) fn ask(
        &mut self,
        now: Now,
        contact: &Contact,
        more: &[Address],
        asker: Asker,
        asked_by: Option<LinkNo>,
    ) -> Asked {
        if let Some(no) = self.by_id.get(&contact.id).copied()
            && let Some(asked) = self.wait_there(now.time, no, contact, asker, asked_by.is_none())
        {
            return asked;
        }
        if contact.id == self.me
            || self.links.len() >= self.max
            || !contact.address.dialable(self.local_network)
            || self.is_banned(&contact.address)
            || contact.expiry.plus(10) < now.wall
            || asked_by.is_some_and(|asker| {
                self.favours.failed_lately(now.time, contact)
                    || !self.within_budget(now.time, contact, asker)
            })
        {
            return Asked::Refused;
        }
        let no = self.number();
        let dial =
            Box::new(Dial { contact: *contact, waiters: vec![asker], own: asked_by.is_none() });
        let state = State::Dialling { dial, since: now.time };
        self.links.insert(no, Link::new(state, contact.address, now.time));
        self.by_id.insert(contact.id, no);
        self.tidy_by(now.time + DIAL_LIMIT);
        let v4 = |it: &Address| it.socket().is_ipv4();
        let fits = |it: &Address| {
            v4(it) != v4(&contact.address) && it.dialable(self.local_network) && !self.is_banned(it)
        };
        let also = more.iter().copied().find(fits);
        self.out.push_back(LinksOutput::Dial { link: no, contact: *contact, also });
        Asked::Pending
    }

    /// Dials `contact`, where `asker` itself is, for its sake and nothing else, whatever links to it
    /// there are. Under all rules of dialling for others but one: that it failed lately is no reason
    /// not to look again.
    pub(super) fn probe(&mut self, now: Now, contact: &Contact, asker: LinkNo) -> Option<LinkNo> {
        let address = contact.address;
        if self.links.len() >= self.max
            || !address.dialable(self.local_network)
            || self.is_banned(&address)
            || !self.within_budget(now.time, contact, asker)
        {
            return None;
        }
        let no = self.number();
        let state = State::Probing { contact: Box::new(*contact), since: now.time };
        self.links.insert(no, Link::new(state, address, now.time));
        self.tidy_by(now.time + DIAL_LIMIT);
        self.out.push_back(LinksOutput::Dial { link: no, contact: *contact, also: None });
        Some(no)
    }

    /// A connection has served its purpose: it never counts as a link.
    pub(super) fn met(&mut self, no: LinkNo) {
        if let Some(link) = self.links.get_mut(&no)
            && let State::Probing { since, contact } = &link.state
        {
            self.favours.worked(contact);
            link.state = State::Accepted { since: *since };
        }
    }

    /// Who is at the other end of a link that it opened, and where that comes from.
    pub(super) fn came_from(&self, no: LinkNo) -> Option<(&Arc<RouterDescriptor>, Address)> {
        let link = self.links.get(&no)?;
        match &link.state {
            State::Up { peer, initiator: false, .. } => Some((peer, link.remote)),
            State::Up { .. }
            | State::Dialling { .. }
            | State::Accepted { .. }
            | State::Probing { .. } => None,
        }
    }

    fn within_budget(&mut self, now: Time, contact: &Contact, asker: LinkNo) -> bool {
        let dialled = self
            .links
            .values()
            .filter(|link| matches!(link.state, State::Dialling { .. } | State::Probing { .. }));
        self.favours.admits(now, contact, asker, dialled.map(|link| link.remote))
    }

    /// What comes of waiting for link `no` to the router that `contact` names, or for another dial that
    /// leads where `contact` says; `None` if that is to be dialled itself.
    fn wait_there(
        &mut self,
        now: Time,
        no: LinkNo,
        contact: &Contact,
        asker: Asker,
        own: bool,
    ) -> Option<Asked> {
        let fits = |link: &Link| match &link.state {
            State::Up { .. } => true,
            State::Dialling { dial, .. } => {
                favours::alike(&dial.contact, contact) || dial.own && !own
            }
            State::Accepted { .. } | State::Probing { .. } => false,
        };
        let dials = |link: &Link| matches!(&link.state, State::Dialling { dial, .. } if favours::alike(&dial.contact, contact));
        let at = if self.links.get(&no).is_some_and(fits) {
            no
        } else {
            *self.links.iter().find(|(_, link)| dials(link))?.0
        };
        let link = self.links.get_mut(&at)?;
        link.used = now;
        match &mut link.state {
            State::Up { .. } => Some(Asked::Ready(at)),
            State::Dialling { dial, .. } if own || dial.waiters.len() < WAITERS_MAX => {
                dial.waiters.push(asker);
                dial.own |= own;
                Some(Asked::Pending)
            }
            _ => Some(Asked::Refused),
        }
    }

    /// A handshake succeeded. Of two links between one pair, the one that the router with the
    /// smaller identity dialled stays, on both sides; of two that one side dialled, the later.
    ///
    /// Returns a link that lost against this one and was up, so that the ring can forget it; the
    /// new link itself when it is the one that lost.
    pub(super) fn up(
        &mut self,
        now: Time,
        no: LinkNo,
        peer: &Arc<RouterDescriptor>,
        initiator: bool,
    ) -> Option<LinkNo> {
        let id = peer.id();
        let before = self.links.remove(&no)?;
        let mut waiters = match before.state {
            State::Dialling { dial, .. } => dial.waiters,
            State::Accepted { .. } | State::Probing { .. } | State::Up { .. } => Vec::new(),
        };
        let state = State::Up { peer: Arc::clone(peer), initiator, lanes_made: 0 };
        let mut link = Link::new(state, before.remote, now);
        let mut lost = None;
        if let Some(other_no) = self.by_id.get(&id).copied().filter(|other| *other != no)
            && let Some(other) = self.links.get_mut(&other_no)
        {
            match &mut other.state {
                // Our own dial is still under way: whoever waits for it can have this link now.
                State::Dialling { dial, .. } => waiters.append(&mut dial.waiters),
                State::Accepted { .. } | State::Probing { .. } => {}
                State::Up { initiator: other_initiator, .. }
                    if initiator == (self.me < id) || initiator == *other_initiator =>
                {
                    other.retiring = true;
                    other.kept = false;
                    lost = Some(other_no);
                }
                State::Up { .. } => {
                    link.retiring = true;
                    lost = Some(no);
                }
            }
        }
        let winner = if link.retiring { self.by_id.get(&id).copied().unwrap_or(no) } else { no };
        self.by_id.insert(id, winner);
        self.links.insert(no, link);
        self.tidy_by(now + RETIRING_LIMIT);
        for asker in waiters {
            self.out.push_back(LinksOutput::Ready { asker, link: winner });
        }
        lost
    }

    /// A link, dial or handshake is over. Returns whether it had been up.
    pub(super) fn down(&mut self, now: Time, no: LinkNo) -> bool {
        let Some(link) = self.links.remove(&no) else { return false };
        let (id, was_up) = match link.state {
            State::Up { peer, .. } => (peer.id(), true),
            State::Dialling { dial, .. } => {
                let Dial { contact, waiters, .. } = *dial;
                self.favours.failed(now, &contact);
                for asker in waiters {
                    self.out.push_back(LinksOutput::Refused { asker, id: contact.id });
                }
                (contact.id, false)
            }
            State::Probing { contact, .. } => {
                self.favours.failed(now, &contact);
                return false;
            }
            State::Accepted { .. } => return false,
        };
        if self.by_id.get(&id) == Some(&no) {
            self.by_id.remove(&id);
            // A loser that is still there is better than none.
            let other = self.links.iter_mut().find_map(|(other, link)| match &link.state {
                State::Up { peer, .. } if peer.id() == id => Some((*other, link)),
                _ => None,
            });
            if let Some((other, link)) = other {
                link.retiring = false;
                self.by_id.insert(id, other);
            }
        }
        was_up
    }

    /// The next free lane number on a link that is up, by its side's rule (PROTOCOL P5).
    pub(super) fn new_lane(&mut self, no: LinkNo) -> Option<TunnelId> {
        match &mut self.links.get_mut(&no)?.state {
            State::Up { initiator, lanes_made, .. } if *lanes_made < 0x7fff_ffff => {
                *lanes_made += 1;
                Some(TunnelId(*lanes_made | if *initiator { 0 } else { 0x8000_0000 }))
            }
            _ => None,
        }
    }

    /// Whether the peer, not we, may have chosen this lane number.
    pub(super) fn is_theirs(&self, no: LinkNo, tunnel: TunnelId) -> bool {
        match self.links.get(&no).map(|link| &link.state) {
            Some(State::Up { initiator, .. }) => (tunnel.0 >> 31 == 0) != *initiator,
            _ => false,
        }
    }

    /// A lane opened on the link.
    pub(super) fn lane_opened(&mut self, no: LinkNo, tunnel: TunnelId) {
        if let Some(link) = self.links.get_mut(&no) {
            link.lanes.insert(tunnel, ());
        }
    }

    /// A lane closed on the link.
    pub(super) fn lane_closed(&mut self, now: Time, no: LinkNo, tunnel: TunnelId) {
        if let Some(link) = self.links.get_mut(&no) {
            link.lanes.remove(&tunnel);
            self.left(now, no);
        }
    }

    /// Which of a router's addresses a dial reached.
    pub(super) fn dialled_at(&mut self, no: LinkNo, at: Address) {
        if let Some(link) = self.links.get_mut(&no)
            && matches!(link.state, State::Dialling { .. })
        {
            link.remote = at;
        }
    }

    /// Where a link really comes from or leads to.
    pub(super) fn remote(&self, no: LinkNo) -> Option<Address> {
        self.links.get(&no).map(|link| link.remote)
    }

    /// Whether the ring wants the link.
    pub(super) fn keep(&mut self, now: Time, no: LinkNo, kept: bool) {
        if let Some(link) = self.links.get_mut(&no) {
            link.kept = kept;
            self.left(now, no);
        }
    }

    /// One use less of a link: it may have been the last.
    fn left(&mut self, now: Time, no: LinkNo) {
        if let Some(link) = self.links.get_mut(&no) {
            link.used = now;
            if let Some(at) = link.over() {
                self.tidy_by(at);
            }
        }
    }

    fn tidy_by(&mut self, at: Time) {
        self.tidy_at = Some(self.tidy_at.map_or(at, |before| before.min(at)));
    }

    /// The peer sent a fresh descriptor; one that is not its own is ignored. So is one of the future: times
    /// count minutes, so that nobody describes itself much oftener than once in one.
    pub(super) fn refresh(&mut self, now: Now, no: LinkNo, fresh: &Arc<RouterDescriptor>) -> bool {
        match self.links.get_mut(&no).map(|link| &mut link.state) {
            Some(State::Up { peer, .. })
                if peer.id() == fresh.id()
                    && fresh.is_current(now.wall)
                    && peer.fields().published < fresh.fields().published =>
            {
                *peer = Arc::clone(fresh);
                true
            }
            _ => false,
        }
    }

    /// Links that are up, with their peers.
    pub(super) fn up_links(&self) -> impl Iterator<Item = (LinkNo, &Arc<RouterDescriptor>)> {
        self.links.iter().filter_map(|(no, link)| match &link.state {
            State::Up { peer, .. } => Some((*no, peer)),
            State::Dialling { .. } | State::Accepted { .. } | State::Probing { .. } => None,
        })
    }

    /// Links, dials and handshakes.
    pub(super) fn all(&self) -> Vec<LinkNo> {
        self.links.keys().copied().collect()
    }

    /// Addresses that failed may work from where this router is now.
    pub(super) fn forgive(&mut self) {
        self.favours.forgive();
    }

    /// When to call `tidy`.
    pub(super) const fn poll_timeout(&self) -> Option<Time> {
        self.tidy_at
    }

    /// Ends dials that take too long and links that nobody needs.
    pub(super) fn tidy(&mut self, now: Time) -> Vec<LinkNo> {
        let mut late = Vec::new();
        if self.tidy_at.take_if(|at| *at <= now).is_none() {
            return late;
        }
        for (no, link) in self.links.iter_mut() {
            if link.over().is_none_or(|at| at > now) {
                continue;
            }
            match &link.state {
                State::Dialling { .. } | State::Accepted { .. } | State::Probing { .. } => {
                    late.push(*no);
                }
                State::Up { .. } => {
                    link.used = now; // asked once; the goodbye closes it
                    self.out.push_back(LinksOutput::Retire(*no));
                }
            }
        }
        let left = self.links.iter().filter(|(no, _)| !late.contains(no));
        self.tidy_at = left.filter_map(|(_, link)| link.over()).min();
        late
    }

    /// Gives up room that nothing needs.
    pub(super) fn rest(&mut self) {
        for link in self.links.values_mut() {
            link.lanes.rest();
        }
        self.links.rest();
        self.by_id.rest();
        self.favours.rest();
        self.out.rest();
    }

    /// The next thing to do.
    pub(super) fn poll_output(&mut self) -> Option<LinksOutput> {
        self.out.pop_front()
    }
}

#[cfg(test)]
mod tests;
