//! What goes into an `End` and what comes out.
//!
//! Lives here: its inputs and outputs. Does not live here: the machine (`end.rs`), what applications
//! say (`app.rs`).

use super::{
    app::{AppCommand, AppEvent},
    choice::Route,
    client::SessionOffer,
    frame::ResetReason,
    handshake::SessionSecret,
};
use crate::{
    crypto::onion::{OwnerBackward, OwnerForward},
    garlic::{BlockAnswer, Clove, OwnTunnelName, RecordAnswer, RouterAnswer},
    id::LinkNo,
    plane::PartMessage,
    service::Lease,
    wire::Contact,
};

/// What happened outside.
#[derive(Debug)]
pub enum EndInput {
    /// From a link that carries one of this `End`'s tunnels.
    Part {
        /// Which.
        from: LinkNo,
        /// Cells, or that cells have left.
        message: PartMessage,
    },
    /// A tunnel was built for this `End`; its lane leads here.
    Tunnel {
        /// Its name from now on.
        tunnel: OwnTunnelName,
        /// The onion layers.
        layers: (OwnerForward, OwnerBackward),
        /// Its hops, first hop first.
        route: Route,
        /// Service: the end hop, if it is to be a gateway. Client: `None`.
        gateway: Option<Contact>,
    },
    /// The tunnel will not live much longer: move away. [`EndEvent::TunnelFree`] follows.
    RetireTunnel {
        /// Which.
        tunnel: OwnTunnelName,
    },
    /// The tunnel, or its first hop, gives no sign of life, or does again.
    TunnelQuiet {
        /// Which.
        tunnel: OwnTunnelName,
        /// Whether it is.
        quiet: bool,
    },
    /// The tunnel is gone.
    TunnelClosed {
        /// Which.
        tunnel: OwnTunnelName,
    },
    /// Find or store a unit through a tunnel: `RecordGet`, `RecordPut`, `BlockGet` or `BlockPut`, whose
    /// request number has the top bit clear. Waits for a tunnel if there is none. Answered once.
    Request {
        /// Through which; `None` for any.
        tunnel: Option<OwnTunnelName>,
        /// The request.
        clove: Clove,
    },
    /// Client: what the service's routers offer, one or more, in answer to
    /// [`EndEvent::NeedDescriptor`] or because it has changed.
    Descriptor(Vec<SessionOffer>),
    /// Client: there is no descriptor to be had. Streams that wait are reset with this reason.
    Unreachable(ResetReason),
    /// The other answer: the service's own word that it is no more.
    Withdrawn,
    /// The service ends: its clients are told, and nobody is answered from here on.
    Leave,
    /// Service: the session keys to answer to from now on, newest first; at most 4.
    Secrets(Vec<SessionSecret>),
    /// From an application.
    App(AppCommand),
}

/// What an `End` wants done.
#[derive(Debug)]
pub enum EndOutput {
    /// For a link.
    Part {
        /// Which.
        to: LinkNo,
        /// Cells, or that cells were consumed.
        message: PartMessage,
    },
    /// For Node.
    Node(EndEvent),
    /// For an application.
    App(AppEvent),
}

/// How far a client's way to its service has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Milestone {
    /// A gateway has joined a tunnel to one of the service's.
    Gateway,
    /// The service has answered through it.
    Session,
}

/// What Node is told.
#[derive(Debug)]
pub enum EndEvent {
    /// Client: this many usable tunnels in all; 0 when none is needed any more.
    NeedTunnels {
        /// How many.
        want: usize,
    },
    /// Client: a descriptor is needed, newer than the one given before. Said once; answer with
    /// [`EndInput::Descriptor`] or [`EndInput::Unreachable`].
    NeedDescriptor,
    /// Service: publish these leases.
    LeasesChanged(Vec<Lease>),
    /// Service: publish that clients are to spend this effort.
    EffortChanged(u32),
    /// The tunnel does not work: silent, garbled, or its end hop refuses. Close it, build another.
    TunnelFailed {
        /// Which.
        tunnel: OwnTunnelName,
    },
    /// Service: the tunnel's end hop does not answer, or does again. Build another beside it.
    TunnelMute {
        /// Which.
        tunnel: OwnTunnelName,
        /// Whether it does not.
        mute: bool,
    },
    /// A retired tunnel carries nothing any more: close it.
    TunnelFree {
        /// Which.
        tunnel: OwnTunnelName,
    },
    /// Client: so far has the way to the service come. Said each time.
    Reached(Milestone),
    /// What became of a request.
    Answer {
        /// Which.
        request: u32,
        /// How many routers were asked, 255 for more.
        asked: u8,
        /// `None` if its tunnel ended first, or too many wait.
        answer: Option<RecordAnswer>,
    },
    /// What became of a request for a block.
    Block {
        /// Which.
        request: u32,
        /// How many routers were asked, 255 for more.
        asked: u8,
        /// A found block is the one that was asked for. `None` if its tunnel ended first, or too many
        /// wait.
        answer: Option<BlockAnswer>,
    },
    /// What became of a search for a router.
    Router {
        /// Which.
        request: u32,
        /// Not verified. `None` if its tunnel ended first.
        answer: Option<RouterAnswer>,
    },
}
