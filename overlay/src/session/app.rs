//! What applications and a session say to each other.
//!
//! Lives here: the words only. Does not live here: who carries them (`router`) and what they do
//! (`client.rs`, `service.rs`).

use super::frame::ResetReason;

/// A stream of one `End`.
///
/// A client's application chooses the number when it opens the stream, and never one that is in
/// use; a service's `End` chooses it. Numbers of an `End` are not used twice by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamNo(pub u64);

/// What an application wants. About a stream that is gone, each of them does nothing.
#[derive(Debug, PartialEq, Eq)]
pub enum AppCommand {
    /// Client: open a stream to a port of the service. Data may follow at once.
    Open {
        /// A number that is not in use.
        stream: StreamNo,
        /// Which of the service's ports.
        port: u16,
    },
    /// Service: the stream is welcome. Data says so too.
    Accept {
        /// Which.
        stream: StreamNo,
    },
    /// Send these bytes: at most what [`super::End::writable`] says, else the stream is reset.
    Data {
        /// Which.
        stream: StreamNo,
        /// Any number of bytes; taken over, not copied.
        bytes: Vec<u8>,
    },
    /// No more data will follow; what was given still goes out.
    Finish {
        /// Which.
        stream: StreamNo,
    },
    /// Give the stream up, both ways, at once.
    Reset {
        /// Which.
        stream: StreamNo,
        /// What the other side is told.
        reason: ResetReason,
    },
    /// So many bytes of [`AppEvent::Data`] have left the application's hands: the other side may
    /// send as many more.
    Consumed {
        /// Which.
        stream: StreamNo,
        /// How many.
        bytes: usize,
    },
}

/// What an application is told.
#[derive(Debug, PartialEq, Eq)]
pub enum AppEvent {
    /// Client: the service accepted the stream.
    Opened {
        /// Which.
        stream: StreamNo,
    },
    /// Service: a client opened a stream. Answer with `Accept`, data or `Reset`.
    Incoming {
        /// Its number from now on.
        stream: StreamNo,
        /// The port that the client asked for.
        port: u16,
    },
    /// Bytes, in order; at most what was consumed plus the credit, so that this is bounded.
    Data {
        /// Which.
        stream: StreamNo,
        /// At least one byte.
        bytes: Vec<u8>,
    },
    /// The other side sends no more.
    Finished {
        /// Which.
        stream: StreamNo,
    },
    /// The stream ended before its time, both ways. Nothing more is said about it.
    Reset {
        /// Which.
        stream: StreamNo,
        /// Why.
        reason: ResetReason,
    },
    /// Both directions ended and all was consumed. Nothing more is said about it.
    Closed {
        /// Which.
        stream: StreamNo,
    },
    /// There is room again after it had run out.
    Writable {
        /// Which.
        stream: StreamNo,
    },
}
