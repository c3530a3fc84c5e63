//! Sessions: what client and service say to each other, end to end (docs/spec/session.md).
//!
//! Lives here: the handshake, paths and their records, resumption, streams, and `End`, which puts
//! them on tunnels. Does not live here: tunnels and splices (`garlic`), names and descriptors
//! (`service`), who connects all of it (`router`).
//!
//! ```text
//!  End ─┬─ Carrier (garlic)        tunnels, splices
//!       └─ Client | Service        which path, which lease, who is silent
//!            ├─ handshake, resume, replay
//!            ├─ path ── record     one splice's keys and counters
//!            └─ conversation       offsets, acknowledgements
//!                 ├─ window        what is unacknowledged
//!                 └─ mux ─ stream, frame
//! ```

mod app;
mod choice;
mod client;
mod conversation;
mod effort;
mod end;
mod end_api;
mod frame;
mod fresh;
mod gateways;
mod handshake;
mod mux;
mod names;
mod path;
mod probe;
mod record;
mod replay;
mod requester;
mod resume;
mod service;
mod solve;
mod stream;
#[cfg(test)]
mod testkit;
#[cfg(test)]
mod tests;
mod watch;
mod window;
mod work;

pub use app::{AppCommand, AppEvent, StreamNo};
pub use choice::Route;
pub use client::SessionOffer;
pub use end::{End, QUOTA_DEFAULT};
pub use end_api::{EndEvent, EndInput, EndOutput, Milestone};
pub use frame::ResetReason;
pub use handshake::{Admitted, SessionSecret, SessionTarget};
pub use record::UNIT_MAX;
pub use requester::Requester;
