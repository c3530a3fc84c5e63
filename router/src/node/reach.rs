//! Whether others can dial this router: found out by asking peers to try.
//!
//! Lives here: whom to ask and when, what was seen, and the verdict that follows. Does not live here:
//! dialling back for others (`dial_back.rs`), who carries the questions (`wiring/reach.rs`).
//!
//! ```text
//!  ask peers in different places to dial back ──> somebody came in        seen here: counts for
//!                                            └──> "nobody answered"       their word: counts against
//!
//!  two places came in ──────────────────────> Reachable
//!  three places say no, and nobody came in ─> Unreachable: a guest, until somebody comes in
//!  anything else ───────────────────────────> Unknown: what was held before goes on
//! ```
//!
//! Nobody decides alone. What speaks for it is never somebody's word: a handshake came in. What
//! speaks against it are words, of three routers in different places, all of which this router chose
//! to dial; one that does get through outweighs them. Whoever came in unasked counts too, so that a
//! router that is dialled anyway asks nobody.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    time::Duration,
};

use warren_overlay::{
    id::{LinkNo, RouterId},
    rng::Rng,
    room::Room,
    table::Table,
    time::Time,
    wire::{Address, DialBackOutcome, Prefix},
};

use super::Door;

/// So many places must come in.
const CAME_WANTED: usize = 2;
/// So many places must say no.
const FAILED_WANTED: usize = 3;
/// Peers asked at a time.
const ASKS: usize = 5;
/// What was seen counts for so long.
const EVIDENCE_LIFE: Duration = Duration::from_mins(30);
/// Places of which something is remembered.
const EVIDENCE_MAX: usize = 32;
/// How long a dial back may take: eight seconds for the connection, ten for the handshake.
const ANSWER_WAIT: Duration = Duration::from_secs(25);
/// One that has an address gives others time to dial it before it asks them to.
const FIRST_DOOR: Duration = Duration::from_secs(30);
/// One that does not know its address has nothing to wait for but links.
const FIRST_BEHIND: Duration = Duration::from_secs(3);
/// How soon it asks again while it does not know.
const AGAIN_UNKNOWN: Duration = Duration::from_secs(30);
/// And when it does: half of what evidence lives, so that it never runs out.
const AGAIN_KNOWN: Duration = Duration::from_mins(15);
/// The same peer is not asked again before.
const PEER_PAUSE: Duration = Duration::from_mins(10);
/// Nor before this, if it had no turn to give.
const BUSY_PAUSE: Duration = Duration::from_mins(1);

/// What is held to be so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing to go by yet.
    #[default]
    Unknown,
    Reachable,
    Unreachable,
}

/// What counts as one witness: routers of one place may be one person's. In a local network, where
/// all share few places, each router counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Prefix(Prefix),
    Router(Short),
}

/// A router, by the first bytes of its id: of some dozens two hardly look alike, and who makes one that does
/// gains nothing by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Short(u64);

/// Mute, as ids are.
impl fmt::Debug for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

impl From<RouterId> for Short {
    fn from(id: RouterId) -> Self {
        Self(u64::from_be_bytes(id.as_bytes().first_chunk().copied().unwrap_or_default()))
    }
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Time,
    place: Place,
    /// Whether it got through.
    came: bool,
    /// Where it says that it dialled.
    address: Option<Address>,
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    id: Short,
    prefix: Prefix,
    /// When it may be asked again.
    ask_after: Time,
}

/// A question that is out.
#[derive(Clone, Copy, Debug)]
struct Asked {
    until: Time,
    /// A handshake of this peer came in.
    came: bool,
    /// It says that it got through, and where it dialled.
    said: Option<Address>,
}

/// Ask the peer on this link to dial back to this port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) link: LinkNo,
    pub(super) port: u16,
}

/// What is known of this router's reachability.
#[derive(Debug)]
pub(super) struct Reach {
    door: Door,
    local: bool,
    rng: Rng,
    /// Links that this router opened, and who is there.
    peers: Table<LinkNo, Peer>,
    asked: BTreeMap<LinkNo, Asked>,
    /// The latest of each place, oldest first.
    seen: VecDeque<Seen>,
    next: Time,
    verdict: Verdict,
    /// Where peers found it, that does not know itself.
    found: Option<Address>,
    out: VecDeque<Ask>,
}

impl Reach {
    /// Nothing is known of `door` yet.
    pub(super) fn new(now: Time, door: Door, local: bool, rng: Rng) -> Self {
        let mut this = Self {
            door,
            local,
            rng,
            peers: Table::new(),
            asked: BTreeMap::new(),
            seen: VecDeque::new(),
            next: now,
            verdict: Verdict::Unknown,
            found: None,
            out: VecDeque::new(),
        };
        this.begin(now, door);
        this
    }

    /// The door is another one, or elsewhere: what was seen of the old one says nothing.
    pub(super) fn begin(&mut self, now: Time, door: Door) {
        self.door = door;
        (self.verdict, self.found) = (Verdict::Unknown, None);
        self.seen.clear();
        self.asked.clear();
        self.next = now + if matches!(door, Door::At(_)) { FIRST_DOOR } else { FIRST_BEHIND };
    }

    /// What it tells others of where it is.
    pub(super) fn address(&self) -> Option<Address> {
        match self.door {
            Door::Shut => None,
            Door::Told(address) => Some(address),
            Door::At(address) => Some(address).filter(|_| self.verdict != Verdict::Unreachable),
            Door::Behind(_) => self.found,
        }
    }

    /// Whether peers are asked at all.
    const fn asks(&self) -> Option<u16> {
        match self.door {
            Door::Shut | Door::Told(_) => None,
            Door::At(address) => Some(address.socket().port()),
            Door::Behind(port) => Some(port),
        }
    }

    fn place(&self, id: Short, prefix: Prefix) -> Place {
        if self.local { Place::Router(id) } else { Place::Prefix(prefix) }
    }

    /// The place of a router to which this one opened a link.
    fn place_of(&self, link: LinkNo) -> Option<Place> {
        self.peers.get(&link).map(|peer| self.place(peer.id, peer.prefix))
    }

    /// This router opened a link.
    pub(super) fn opened(&mut self, now: Time, link: LinkNo, id: RouterId, remote: Address) {
        self.peers.insert(link, Peer { id: id.into(), prefix: remote.prefix(), ask_after: now });
    }

    /// Somebody came in. Says whether that was in answer to a question, and the link serves nothing
    /// else.
    pub(super) fn came(&mut self, now: Time, id: RouterId, remote: Address) -> bool {
        let id = Short::from(id);
        let waits = |link: &LinkNo| self.asked.get(link).is_some_and(|asked| !asked.came);
        let asked = self.peers.iter().find(|(link, peer)| peer.id == id && waits(link));
        if let Some(link) = asked.map(|(link, _)| *link) {
            if let Some(asked) = self.asked.get_mut(&link) {
                asked.came = true;
            }
            self.conclude(now, link);
            return true;
        }
        // Who lives in the same house proves nothing about the street.
        if self.local || remote.globally_routable() {
            let place = self.place(id, remote.prefix());
            self.note(Seen { at: now, place, came: true, address: None });
        }
        false
    }

    /// A link is gone.
    pub(super) fn link_down(&mut self, link: LinkNo) {
        self.peers.remove(&link);
        self.asked.remove(&link);
    }

    /// What a peer says came of it.
    pub(super) fn answered(
        &mut self,
        now: Time,
        link: LinkNo,
        seen: Address,
        how: DialBackOutcome,
    ) {
        let Some(place) = self.place_of(link) else { return };
        let Some(asked) = self.asked.get_mut(&link) else { return };
        match how {
            DialBackOutcome::Reached => {
                asked.said = Some(seen);
                self.conclude(now, link);
            }
            // Its handshake is here: it does not know itself what it did.
            DialBackOutcome::Failed if asked.came => {}
            DialBackOutcome::Failed => {
                self.asked.remove(&link);
                self.note(Seen { at: now, place, came: false, address: Some(seen) });
            }
            DialBackOutcome::NotTried => {
                self.asked.remove(&link);
                if let Some(peer) = self.peers.get_mut(&link) {
                    peer.ask_after = now + BUSY_PAUSE;
                }
            }
        }
    }

    /// Both its handshake and its word are here.
    fn conclude(&mut self, now: Time, link: LinkNo) {
        let Some(Asked { came: true, said: Some(address), .. }) = self.asked.get(&link).copied()
        else {
            return;
        };
        self.asked.remove(&link);
        if let Some(place) = self.place_of(link) {
            self.note(Seen { at: now, place, came: true, address: Some(address) });
        }
    }

    fn note(&mut self, seen: Seen) {
        // Where peers see another address than the one that is told, they tried another door.
        let told = match self.door {
            Door::At(told) => Some(told.socket().ip()),
            Door::Shut | Door::Told(_) | Door::Behind(_) => None,
        };
        let elsewhere = |at: Address| told.is_some_and(|told| told != at.socket().ip());
        if seen.address.is_some_and(elsewhere) || self.asks().is_none() {
            return;
        }
        self.seen.retain(|old| old.place != seen.place);
        if self.seen.len() >= EVIDENCE_MAX {
            self.seen.pop_front();
        }
        self.seen.push_back(seen);
        let before = self.verdict;
        self.judge();
        if self.verdict != before {
            self.next = self.soon(seen.at);
        }
    }

    /// When to ask next, give or take a quarter, so that routers do not march in step.
    fn soon(&mut self, now: Time) -> Time {
        let known = self.verdict != Verdict::Unknown;
        let span = if known { AGAIN_KNOWN } else { AGAIN_UNKNOWN };
        now + span.mul_f64(0.75 + self.rng.unit() / 2.0)
    }

    fn judge(&mut self) {
        let (came, failed) = self.evidence();
        let named = self.named();
        let reached = match self.door {
            Door::Behind(_) => named.is_some(),
            Door::At(_) | Door::Told(_) | Door::Shut => came >= CAME_WANTED,
        };
        if reached {
            self.verdict = Verdict::Reachable;
            self.found = named;
        } else if came == 0 && failed >= FAILED_WANTED {
            (self.verdict, self.found) = (Verdict::Unreachable, None);
        }
    }

    /// The address that two places or more dialled and got through, if no other has as many.
    fn named(&self) -> Option<Address> {
        let mut votes: BTreeMap<Address, usize> = BTreeMap::new();
        for address in self.seen.iter().filter(|it| it.came).filter_map(|it| it.address) {
            *votes.entry(address).or_default() += 1;
        }
        let (address, most) = votes.iter().max_by_key(|(_, votes)| **votes)?;
        let alone = votes.values().filter(|votes| *votes == most).count() == 1;
        Some(*address).filter(|it| alone && *most >= CAME_WANTED && it.dialable(self.local))
    }

    /// How many places got through of late, and how many did not.
    pub(super) fn evidence(&self) -> (usize, usize) {
        let came = self.seen.iter().filter(|it| it.came).count();
        (came, self.seen.len() - came)
    }

    /// Time passed.
    pub(super) fn handle_timeout(&mut self, now: Time) {
        let late: Vec<_> = self
            .asked
            .iter()
            .filter(|(_, it)| it.until <= now)
            .map(|(link, it)| (*link, *it))
            .collect();
        for (link, asked) in late {
            self.asked.remove(&link);
            // Who is silent says nothing; but who came in came in.
            let place = self.place_of(link);
            if let Some(place) = place.filter(|_| asked.came) {
                self.note(Seen { at: now, place, came: true, address: asked.said });
            }
        }
        if self.next > now {
            return;
        }
        while self.seen.front().is_some_and(|it| now.since(it.at) >= EVIDENCE_LIFE) {
            self.seen.pop_front();
        }
        let fresh = |it: &&Seen| it.came && now.since(it.at) < AGAIN_KNOWN;
        let dialled = self.seen.iter().filter(fresh).count() >= CAME_WANTED;
        if !dialled || matches!(self.door, Door::Behind(_)) {
            self.ask(now);
        }
        self.next = self.soon(now);
    }

    /// Asks some peers, drawn from all that this router dialled, no two of one place.
    fn ask(&mut self, now: Time) {
        let Some(port) = self.asks() else { return };
        let mut open: Vec<LinkNo> = self
            .peers
            .iter()
            .filter(|(link, it)| it.ask_after <= now && !self.asked.contains_key(link))
            .map(|(link, _)| *link)
            .collect();
        let mut places = Vec::new();
        while places.len() < ASKS && !open.is_empty() {
            let at = usize::try_from(self.rng.below(open.len() as u64)).unwrap_or(0);
            let link = open.swap_remove(at);
            let Some(place) = self.place_of(link).filter(|it| !places.contains(it)) else {
                continue;
            };
            let Some(peer) = self.peers.get_mut(&link) else { continue };
            places.push(place);
            peer.ask_after = now + PEER_PAUSE;
            let asked = Asked { until: now + ANSWER_WAIT, came: false, said: None };
            self.asked.insert(link, asked);
            self.out.push_back(Ask { link, port });
        }
    }

    /// Gives up room that nothing needs.
    pub(super) fn rest(&mut self) {
        self.rng.rest();
        self.peers.rest();
        self.asked.rest();
        self.seen.rest();
        self.out.rest();
    }

    /// The next question.
    pub(super) fn poll_output(&mut self) -> Option<Ask> {
        self.out.pop_front()
    }

    /// When to be woken.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.asks()?;
        self.asked.values().map(|it| it.until).chain([self.next]).min()
    }

    /// What it looks like, in one word for programs.
    pub(super) const fn word(&self) -> &'static str {
        match (self.door, self.verdict) {
            (Door::Shut, _) => "shut",
            (Door::Told(_), _) => "told",
            (Door::At(_) | Door::Behind(_), Verdict::Unknown) => "unknown",
            (Door::At(_) | Door::Behind(_), Verdict::Reachable) => "reachable",
            (Door::At(_) | Door::Behind(_), Verdict::Unreachable) => "unreachable",
        }
    }

    /// The same for people, with what it rests on.
    pub(super) fn words(&self, now: Time) -> String {
        let (came, failed) = self.evidence();
        let last = self.seen.iter().map(|it| now.since(it.at).as_secs() / 60).min().unwrap_or(0);
        let where_ = if self.local { "other routers" } else { "routers in different networks" };
        match self.word() {
            "shut" => "Nobody can dial it: its settings say so.".into(),
            "told" => {
                "Whether others can dial it cannot be asked: its links leave through a proxy."
                    .into()
            }
            "reachable" => {
                format!("{came} {where_} dialled it, the last {last} min ago; {failed} could not.")
            }
            "unreachable" => format!(
                "{failed} {where_} tried to dial it, the last {last} min ago, and none got through."
            ),
            _ => format!("{came} {where_} dialled it and {failed} could not: too few to tell."),
        }
    }
}

#[cfg(test)]
mod tests;
