//! What an end hop is told, what it says, and why it may end.
//!
//! Lives here: the border between `EndHop`, its link and Node. Does not live here: the machine
//! (`end_hop.rs`).

use super::{clove::Clove, intake::Crowd};
use crate::{
    id::{LinkNo, SpliceId, TunnelId},
    plane::PartMessage,
    wire::WireError,
};

/// Why a tunnel ends at once. Always the owner's fault, or that of a hop before this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndHopError {
    /// The cell, or one before it, was changed, dropped, repeated or made up (PROTOCOL P7).
    #[error("cell not recognised")]
    Unrecognised,
    /// The cloves are none that an owner writes.
    #[error("malformed clove stream")]
    Malformed(#[from] WireError),
    /// More than was granted or allowed.
    #[error("overstepped the bound on {0}")]
    Overstepped(&'static str),
    /// A clove that only an end hop sends, or about a splice that never was.
    #[error("clove out of place")]
    OutOfPlace,
}

/// What an end hop tells Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndHopEvent {
    /// `RecordGet`, `RecordPut`, `RecordWatch`, `BlockGet`, `BlockPut`, `PutWork`, `LeaseRequest`: answer with
    /// [`EndHopCommand::Answer`], once. `SpliceOpen`: answer with `Attach` or `CloseSplice`.
    Request(Clove),
    /// The owner closed the splice, or it stalled, or its leg misbehaved: close its leg, or stop
    /// dialling. Never sent for a splice that Node closed.
    SpliceGone {
        /// Which.
        splice: SpliceId,
    },
    /// `AcceptIncoming` was carried out: the leg's lane can be opened with this splice id.
    Incoming {
        /// Its id from now on.
        splice: SpliceId,
        /// The leg that was named.
        leg: (LinkNo, TunnelId),
    },
    /// So many found blocks have gone to the owner, whole, since this was said last.
    Flushed {
        /// How many.
        blocks: u32,
    },
    /// `AcceptIncoming` found no room.
    Refused {
        /// The leg that was named.
        leg: (LinkNo, TunnelId),
    },
}

/// What Node tells an end hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndHopCommand {
    /// The answer to a request: `RecordAnswer`, `BlockAnswer`, `PutPrice`, `RouterAnswer`,
    /// `LeaseGranted` or `LeaseRefused`.
    Answer(Clove),
    /// Clients wait at this tunnel's lease: its owner should know.
    Crowd(Crowd),
    /// The gateway accepted: the splice's data goes over this leg.
    Attach {
        /// Which.
        splice: SpliceId,
        /// The lane to the gateway.
        leg: (LinkNo, TunnelId),
    },
    /// A client used a lease of this tunnel: make a splice of its leg.
    AcceptIncoming {
        /// The lane from the client's end hop.
        leg: (LinkNo, TunnelId),
    },
    /// The leg is gone or was refused. What it brought still goes to the owner.
    CloseSplice {
        /// Which.
        splice: SpliceId,
    },
}

/// What an end hop wants done.
#[derive(Debug)]
pub enum EndHopOutput {
    /// For Node.
    Node(EndHopEvent),
    /// For the link `to`: leg cells, or credit for leg cells that went to the owner.
    Part {
        /// The leg's link.
        to: LinkNo,
        /// What to tell it.
        message: PartMessage,
    },
}
