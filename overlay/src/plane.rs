//! What the parts of the data plane say to each other (DESIGN section 2, "Two planes").
//!
//! Lives here: the addresses of parts, the messages between them, and what a link does with a
//! lane. Does not live here: the parts themselves (`link`, `garlic`, `session`) and who carries
//! their messages (`router`'s host and driver).
//!
//! ```text
//!  link 3 --cells--> [Lane::Transit] --Cells--> link 7's egress --cells-->
//!    ^                                              |
//!    '---- Credit <---- grants n <---- Drained n ---'
//! ```
//!
//! A *lane* is a tunnel or a splice leg on one link: one id, both directions, credits each way.

use crate::{
    crypto::onion::{RelayBackward, RelayForward},
    garlic::{EndHop, EndHopCommand, EndHopEvent},
    id::{EndNo, LinkNo, SpliceId, TunnelId},
    wire::LinkMessage,
};

/// Bytes of a cell after its header: tag 16, payload 1,008.
pub const CELL_BODY_LEN: usize = 1_024;
/// Bytes of a cell in a frame: tunnel id 4, reserved 4, body.
pub const CELL_LEN: usize = 8 + CELL_BODY_LEN;
/// The body of one cell; what onion layers work on, in place.
pub type CellBody = [u8; CELL_BODY_LEN];

/// Where a message goes, or came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The `LinkIo` of a link.
    Link(LinkNo),
    /// The `End` of an isolation context or service.
    End(EndNo),
}

/// One message between parts. It is delivered together with the part it came from.
///
/// `tunnel` is the id on the receiving link; where the receiver is an `End`, on the link it came
/// from.
#[derive(Debug)]
pub enum PartMessage {
    /// Cells for a lane's egress, or for an owner.
    Cells {
        /// The lane.
        tunnel: TunnelId,
        /// In order; at most what credits allow.
        cells: Vec<CellBody>,
    },
    /// Cells that came over a splice leg, for the `EndHop` that serves the splice.
    SpliceCells {
        /// The lane whose `EndHop` is meant.
        tunnel: TunnelId,
        /// Which of its splices.
        splice: SpliceId,
        /// Leg cells: length 2, data, zeros.
        cells: Vec<CellBody>,
    },
    /// Cells that the receiver fed have left: it may take in as many more.
    Drained {
        /// The lane that was fed from.
        tunnel: TunnelId,
        /// Set where an `EndHop`'s splice fed them.
        splice: Option<SpliceId>,
        /// How many.
        cells: u32,
    },
    /// A batch that the receiver made for a middle hop's lane and that is used up, to be filled
    /// again. Worth nothing to anybody but its maker.
    Spent {
        /// What is left of it; its contents mean nothing.
        batch: Vec<CellBody>,
    },
}

/// A middle hop's onion layer for the direction that a link receives.
#[derive(Debug)]
pub enum TransitHalf {
    /// Away from the tunnel's owner.
    Forward(RelayForward),
    /// Towards the owner.
    Backward(RelayBackward),
}

impl TransitHalf {
    /// Applies the layer in place. About 0.4 us.
    pub fn relay(&mut self, cell: &mut CellBody) {
        match self {
            Self::Forward(layer) => layer.relay(cell),
            Self::Backward(layer) => layer.relay(cell),
        }
    }
}

/// What a link does with the cells of a lane.
#[derive(Debug)]
pub enum Lane {
    /// A middle hop: cells get their layer and go on to `tunnel` on link `to`, which in turn feeds
    /// this lane's egress.
    Transit {
        /// The layer of the arriving direction.
        half: TransitHalf,
        /// The counterpart's link.
        to: LinkNo,
        /// The counterpart's lane.
        tunnel: TunnelId,
    },
    /// This router owns the tunnel.
    ToEnd {
        /// Who holds its layers.
        end: EndNo,
    },
    /// This router is the tunnel's end hop.
    EndHop(Box<EndHop>),
    /// A splice leg: cells go to a splice of the `EndHop` at `tunnel` on link `to`, which in turn
    /// feeds this lane's egress.
    Leg {
        /// The link of the tunnel.
        to: LinkNo,
        /// The tunnel.
        tunnel: TunnelId,
        /// The splice.
        splice: SpliceId,
    },
}

/// What the control plane tells a link.
#[derive(Debug)]
pub enum LinkCommand {
    /// Send a control message.
    Send(LinkMessage),
    /// Open a lane, granting its start window; or replace what an open lane does, keeping credits.
    ///
    /// The side that opens gives this before it sends the message that makes the peer open its half.
    /// What the peer grants before this side opens is kept for it for 60 s.
    Open {
        /// Its number.
        tunnel: TunnelId,
        /// What it does.
        lane: Box<Lane>,
    },
    /// Close a lane; late cells are dropped.
    Close {
        /// Its number.
        tunnel: TunnelId,
        /// Whether to send a teardown.
        tell: bool,
    },
    /// For the `EndHop` of a lane.
    EndHop {
        /// Its lane.
        tunnel: TunnelId,
        /// What it should do.
        command: EndHopCommand,
    },
    /// Say goodbye once what waits of control messages is sent, then end the link. Cells are not
    /// waited for.
    Goodbye,
    /// End the link at once, without a word.
    Shut,
}

/// What a link tells the control plane.
#[derive(Debug)]
pub enum LinkEvent {
    /// A control message that is not the link's own business: `Padding`, `Credit`, `Teardown`,
    /// `Ping`, `Pong` and `Goodbye` never appear here.
    Message(Box<LinkMessage>),
    /// A lane ended: teardown by the peer, an unrecognised cell, a stuck queue, or no quota for it.
    /// It is gone here, and the peer knows. Also for a lane that was never opened here and that the
    /// peer tore down: its build may be waiting for an answer.
    LaneClosed {
        /// Its number.
        tunnel: TunnelId,
    },
    /// From the `EndHop` of a lane.
    EndHop {
        /// Its lane.
        tunnel: TunnelId,
        /// What happened.
        event: Box<EndHopEvent>,
    },
    /// The peer owes an answer and gives no sign of life (true), or speaks again (false). A hint:
    /// what can go another way should.
    Quiet(bool),
    /// The link is over, and with it all its lanes; nothing follows. Once what the last
    /// `poll_transmit` gave is written, the socket is to be closed.
    Closed(CloseReason),
}

/// Why a link ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer said goodbye.
    PeerGoodbye,
    /// This side said goodbye, or shut the link.
    Local,
    /// Nothing came for 15 s, or no answer for 5 s.
    Silent,
    /// The peer sent what no router sends: not sealed, malformed, or with reserved bits.
    Garbage,
    /// The peer sent more cells than it was granted.
    OverGrant,
    /// The peer does not read: too many control messages wait.
    ControlOverflow,
}

impl CloseReason {
    /// Whether the peer broke the protocol.
    pub const fn is_offence(self) -> bool {
        matches!(self, Self::Garbage | Self::OverGrant)
    }
}
