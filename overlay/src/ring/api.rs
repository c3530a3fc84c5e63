//! What a ring is told, and what it wants done.
//!
//! Lives here: the machine's inputs, outputs and answers, and its border with the store. Does not live
//! here: what it makes of them (`machine.rs`).

use std::sync::Arc;

use super::{admission::Network, wire::RingMessage};
use crate::{
    id::{Key, LinkNo, Location, RouterId},
    record::Record,
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
}

/// A question about records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordRequest {
    /// Find the record with this key.
    Get(Key),
    /// Keep this record on the routers closest to its key.
    Put(Record),
}

/// How a question about records ended (DESIGN section 5: answers that differ).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordAnswer {
    /// Here it is. Whether it has expired, and whether a higher version was seen before, is for the
    /// asker to judge.
    Found(Record),
    /// Kept by so many routers.
    Stored {
        /// Confirmed copies, 1 to 3.
        copies: u8,
    },
    /// A holder has a version that is as high or higher.
    Stale,
    /// Two ways to the holders agree that there is none.
    NotFound,
    /// No way to the holders was found.
    NoRoute {
        /// Unused part of the hop budget.
        left: u8,
    },
    /// Too much to do, here or there.
    Busy {
        /// When to come back, in seconds, up to 60.
        retry_s: u16,
    },
    /// The key failed several times lately; it is not searched again yet.
    RecentlyFailed {
        /// For how long still, in seconds, up to 180.
        until_s: u16,
    },
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// Join, with whoever is known: first `cached` (the neighbours of last time), then `seeds` (from
    /// an invite). With neither, wait for others.
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
    /// A question; `Output::Answer` follows, always and once.
    Query {
        /// The owner's number for it.
        query: u32,
        /// What is asked.
        request: RecordRequest,
    },
    /// The answer to `Output::Store` with a ticket.
    Held {
        /// The ticket.
        ticket: u32,
        /// What the store says.
        held: Held,
    },
    /// Leave: hand over, say goodbye.
    Leave,
    /// The holder has handed its records over.
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
        /// How it ended.
        answer: RecordAnswer,
    },
    /// The routers known now: for path selection. Their signatures hold and they have not expired;
    /// proofs of admission are checked as time allows, and the bad ones vanish.
    View(Vec<Arc<RouterDescriptor>>),
    /// The neighbours changed: for the holder, which replicates.
    Neighbourhood(Vec<(LinkNo, Location)>),
    /// Hand the held records to the neighbours closest to them, then report `HandedOver`.
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
    /// How many routers the network seems to have, this one included; right to within a factor of
    /// two or three, exact while fewer are known than the degree.
    pub size_estimate: u64,
    /// Requests being worked on, others' included.
    pub requests: usize,
}

/// What the store is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreOp {
    /// Look a record up.
    Get(Key),
    /// Keep this; it came over that link, or from this router itself.
    Put {
        /// What to keep.
        record: Record,
        /// Whose quota it counts against.
        from: Option<LinkNo>,
    },
}

/// What the store says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// The record.
    Found(Record),
    /// Not here, or expired.
    Missing,
    /// Kept (now, or the same bytes already).
    Stored,
    /// A version as high or higher is here.
    Stale,
    /// No room, over the sender's quota, or an expiry out of bounds.
    Refused,
}
