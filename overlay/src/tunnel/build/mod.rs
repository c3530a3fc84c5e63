//! Building a tunnel in one pass (PROTOCOL P6; bytes and argument in docs/spec/tunnel.md).
//!
//! Lives here: the message of four slots and its reply, as the owner makes and reads them and as a
//! hop opens and answers them. Does not live here: which hops (`select.rs`), when and how often
//! (`pools.rs`), what a hop does with an opened record (`transit.rs`).
//!
//! ```text
//!  owner           hop 1            hop 2            hop 3 (end)
//!  create --Build--> open --Build--> open --Build--> open
//!                                                      |  RelayForward, RelayBackward
//!  read <--Reply-- answer <--Reply-- answer <--Reply-- answer
//!  OwnerForward, OwnerBackward
//! ```

mod create;
mod open;
mod replay;
mod reply;
mod slot;
#[cfg(test)]
mod tests;

pub use create::{BuildFailure, CreateError, FailureReason, OwnerLayers, PendingBuild, create};
pub use open::{Onward, OpenError, Opened, TunnelKeys};
pub use replay::{REPLAY_MINUTES, ReplayWindow};
pub use reply::{Answer, Decline, HopLayers, noise_reply};
pub use slot::{HOPS_MAX, LIFETIME_MINUTES_MAX, Role};

use crate::wire::{BUILD_LEN, BUILD_REPLY_LEN};

/// Four slots of 1,344 bytes, as one hop must receive them.
pub type BuildMessage = Box<[u8; BUILD_LEN]>;
/// Four reply slots of 64 bytes, on their way back.
pub type BuildReply = Box<[u8; BUILD_REPLY_LEN]>;
