//! What a link is told and what it tells: inputs, outputs, settings, counters.
//!
//! Lives here: the types at `LinkIo`'s border. Does not live here: commands and events, which others
//! use too (`plane.rs`), and behaviour.

use std::sync::Arc;

use crate::{
    link::{channel::REKEY_FRAMES, credit::CreditQuota, rate::RateLimits},
    plane::{LinkCommand, LinkEvent, Part, PartMessage},
    rng::SharedRng,
    time::Time,
};

/// What is given to a link.
#[derive(Debug)]
pub enum LinkInput<'a> {
    /// Bytes from the socket, any number of them. Opened in place: worthless afterwards.
    Received(&'a mut [u8]),
    /// From the router's control plane.
    Command(LinkCommand),
    /// From another part of the data plane.
    Part {
        /// Who sent it.
        from: Part,
        /// What it says.
        message: PartMessage,
    },
    /// Where padding is counted: from when on the peer has been silent; `None`: it no longer is.
    Silent(Option<Time>),
}

/// What a link wants done.
#[derive(Debug)]
pub enum LinkOutput {
    /// For another part of the data plane, from this link.
    Part {
        /// Who it is for.
        to: Part,
        /// What it says.
        message: PartMessage,
    },
    /// For the router's control plane.
    Node(LinkEvent),
}

/// What all links of a router share.
#[derive(Clone, Debug)]
pub struct LinkSettings {
    /// Bounds what lanes hold.
    pub quota: Arc<CreditQuota>,
    /// The operator's bandwidth, if limited.
    pub rate: Option<Arc<RateLimits>>,
    /// Frames under one key: [`REKEY_FRAMES`], but in tests. Both sides must agree.
    pub rekey_frames: u32,
    /// Draws when and how long padding is.
    pub pads: SharedRng,
    /// Padding is counted and not sent, on both sides: a simulator's shortcut (`link/padding.rs`).
    pub padding_counted: bool,
}

impl LinkSettings {
    /// Settings without a bandwidth limit.
    pub const fn new(quota: Arc<CreditQuota>, pads: SharedRng) -> Self {
        Self { quota, rate: None, rekey_frames: REKEY_FRAMES, pads, padding_counted: false }
    }
}

/// What a link has carried and dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Bytes from the socket.
    pub bytes_in: u64,
    /// Bytes for the socket.
    pub bytes_out: u64,
    /// Frames opened.
    pub frames_in: u64,
    /// Frames sealed.
    pub frames_out: u64,
    /// Cells that came.
    pub cells_in: u64,
    /// Cells that were sent.
    pub cells_out: u64,
    /// Of `cells_in`, those that this router moves for others: as a middle hop, as an end hop, over a
    /// splice leg; gone lanes included.
    pub relayed_cells_in: u64,
    /// Cells, from either side, for a lane that was closed shortly before.
    pub late_cells: u64,
    /// Cells for a lane that nobody opened.
    pub unknown_cells: u64,
    /// Grants for lanes that nobody opened, which found no room to wait.
    pub grants_dropped: u64,
    /// Lanes closed because their queue did not move.
    pub lanes_stuck: u64,
    /// Lanes closed because the router was short of memory.
    pub lanes_shed: u64,
    /// Tunnels that ended here and whose owner sent what no owner sends.
    pub lanes_broken: u64,
    /// Lanes refused because the quota was used up.
    pub lanes_refused: u64,
}
