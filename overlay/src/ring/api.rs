//! What a ring is told, and what it wants done.
//!
//! Lives here: the machine's inputs, outputs and answers, and its border with the store. Does not live
//! here: what it makes of them (`machine.rs`).

use std::{collections::BTreeSet, sync::Arc};

use super::{
    admission::Network,
    repair::Repair,
    watch::Watch,
    wire::{Class, RingMessage},
};
use crate::{
    answer::Answer,
    block::Block,
    id::{LinkNo, Location, RouterId},
    unit::{Unit, UnitKey},
    wire::{Address, LinkMessage, RouterDescriptor},
};

/// What a ring needs to know once.
#[derive(Clone, Debug)]
pub struct RingConfig {
    /// The network.
    pub network: Network,
    /// This router, as it describes itself now.
    pub own: Arc<RouterDescriptor>,
    /// Neighbours wanted, 8 to 64; 20 by default, more with more bandwidth.
    pub degree: usize,
    /// Routers remembered, at least 32; [`VIEW_MAX`](super::VIEW_MAX) where memory is not scarce.
    pub known_max: usize,
}

/// A question about a stored unit, or a router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Find it.
    Get(UnitKey),
    /// Keep it on the routers closest to its key.
    Put(Unit),
    /// Tell of a record's next version: the answer comes when there is one, or after [`super::WATCH_LEASE`] as
    /// `NotFound`.
    Watch(Watch),
    /// Find the router at this place; [`Output::Router`] is the answer.
    Find(Location),
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// Join, with whoever is known: first `cached` (the neighbours of last time), then `seeds` (from
    /// an invite). With neither, wait for others. Also for a router that lost all links at once: it
    /// joins again without any pause.
    Start {
        /// Seeds of an invite.
        seeds: Vec<Arc<RouterDescriptor>>,
        /// Neighbours of last time.
        cached: Vec<Arc<RouterDescriptor>>,
    },
    /// A link stands, whoever wanted it.
    LinkUp {
        /// The link.
        link: LinkNo,
        /// Who is at its other end, as proven in the handshake.
        peer: Arc<RouterDescriptor>,
        /// Where it really comes from or leads to.
        remote: Address,
    },
    /// A link is gone.
    LinkDown {
        /// The link.
        link: LinkNo,
    },
    /// A ring message came.
    Message {
        /// Over this link.
        link: LinkNo,
        /// What it says.
        message: RingMessage,
    },
    /// `LinkMessage::Descriptor` came: the peer's descriptor changed.
    Descriptor {
        /// Over this link.
        link: LinkNo,
        /// The new one.
        descriptor: Arc<RouterDescriptor>,
    },
    /// This router's own descriptor changed (its location cannot).
    OwnDescriptor(Arc<RouterDescriptor>),
    /// `Output::Connect` came to nothing.
    Unreachable {
        /// Who was dialled.
        id: RouterId,
    },
    /// A question; `Output::Answer` or `Output::Router` follows, always and once.
    Query {
        /// The owner's number for it.
        query: u32,
        /// What is asked.
        request: Request,
        /// How urgent it is; for records it makes no difference.
        class: Class,
    },
    /// Have the neighbour on `link` keep a copy of this block; `Output::Pushed` follows, always and
    /// once.
    Push {
        /// The owner's number for it.
        push: u32,
        /// The neighbour.
        link: LinkNo,
        /// The block.
        block: Block,
    },
    /// The store has this to say to the neighbour on `link`.
    Repair {
        /// The neighbour.
        link: LinkNo,
        /// What to say.
        repair: Repair,
    },
    /// The answer to `Output::Store` with a ticket.
    Held {
        /// The ticket.
        ticket: u32,
        /// What the store says.
        held: Held,
    },
    /// In a network of friends: these are they, from now on. Links with all others close.
    Friends(BTreeSet<RouterId>),
    /// Leave: hand over, say goodbye.
    Leave,
    /// The holder has handed over what it holds.
    HandedOver,
}

/// What the owner must do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Make a link to this router, or report `Unreachable`. There is none yet.
    Connect(Arc<RouterDescriptor>),
    /// Say this on a link.
    Send {
        /// The link.
        link: LinkNo,
        /// A ring message, or the own descriptor.
        message: LinkMessage,
    },
    /// The ring needs this link: do not close it when idle.
    Keep {
        /// The link.
        link: LinkNo,
    },
    /// The ring no longer needs it.
    Release {
        /// The link.
        link: LinkNo,
    },
    /// The peer broke the rules (bad proof): close the link.
    CloseLink {
        /// The link.
        link: LinkNo,
    },
    /// Do this with the store; with a ticket, answer with `Input::Held`.
    Store {
        /// What to answer to.
        ticket: Option<u32>,
        /// What to do.
        op: StoreOp,
    },
    /// The end of a `Query`.
    Answer {
        /// The owner's number.
        query: u32,
        /// How many routers were asked, 255 for more.
        asked: u8,
        /// How it ended.
        answer: Answer<Unit>,
    },
    /// The end of a `Query` about a router: its newest descriptor that was named.
    Router {
        /// The owner's number.
        query: u32,
        /// How many routers were asked, 255 for more.
        asked: u8,
        /// How it ended.
        answer: Answer<Arc<RouterDescriptor>>,
    },
    /// The end of a `Push`.
    Pushed {
        /// The owner's number.
        push: u32,
        /// Whether the neighbour has it now.
        stored: bool,
    },
    /// A neighbour has this to say to the store.
    Repair {
        /// The neighbour.
        link: LinkNo,
        /// What it says, no more often than it may.
        repair: Repair,
    },
    /// The routers known now: for path selection. Their signatures hold and they have not expired;
    /// proofs of admission are checked as time allows, and the bad ones vanish.
    View(Vec<Arc<RouterDescriptor>>),
    /// The neighbours changed: for the holder, which replicates.
    Neighbourhood(Vec<(LinkNo, Location)>),
    /// Hand what is held to the neighbours closest to them, then report `HandedOver`.
    HandOver,
    /// Everybody was told: links may close.
    Left,
}

/// What an operator may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether the seeds were asked and the ring closed around this router.
    pub joined: bool,
    /// Neighbours now.
    pub neighbours: usize,
    /// Neighbours wanted.
    pub degree: usize,
    /// Routers known.
    pub known: usize,
    /// Those of them that could not be had when they were last tried: gone, or full.
    pub doubtful: usize,
    /// How many routers the network seems to have, this one included; right to within a factor of
    /// two or three, exact while fewer are known than the degree.
    pub size_estimate: u64,
    /// Requests being worked on, others' included.
    pub requests: usize,
}

/// What the store is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreOp {
    /// Look a unit up.
    Get(UnitKey),
    /// Keep this; it came over that link, or from this router itself.
    Put {
        /// What to keep.
        unit: Unit,
        /// Whose quota it counts against.
        from: Option<LinkNo>,
    },
    /// This block passed by on its way to somebody: keep it as long as there is room, or do not. Never
    /// with a ticket.
    Cache {
        /// The block.
        block: Block,
        /// Whose quota it counts against.
        from: LinkNo,
    },
}

/// What the store says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// The unit.
    Found(Unit),
    /// Not here, or expired.
    Missing,
    /// Kept (now, or the same bytes already).
    Stored,
    /// A version as high or higher is here.
    Stale,
    /// No room, over the sender's quota, or an expiry out of bounds.
    Refused,
}
