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

use crate::id::{EndNo, LinkNo, SpliceId, TunnelId};

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
}
