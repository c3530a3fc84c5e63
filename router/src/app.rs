//! What applications say to a router's machines and hear from them.

use warren_overlay::{id::EndNo, session};
use warren_proxy::Failure;

/// A stream of an application, as this process counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamNo {
    /// The conversation it belongs to.
    pub end: EndNo,
    /// Its number there.
    pub stream: session::StreamNo,
}

/// What happens to an application's stream.
#[derive(Debug, PartialEq, Eq)]
pub enum StreamEvent {
    /// The service accepted it.
    Opened,
    /// There is room again, after there was none: see `Host::writable`.
    Writable,
    /// Bytes arrived.
    Data(Vec<u8>),
    /// The other side sends nothing more.
    Finished,
    /// Both directions ended in order; nothing follows.
    Closed,
    /// The stream is over before its time; what was not delivered is lost. If it never opened, the
    /// failure says why.
    Reset(Failure),
}
