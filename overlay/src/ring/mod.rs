//! The ring: who is near whom, and how a request reaches the routers nearest to a key.
//!
//! Lives here: admission, members and a network's settings, neighbours, join and leave, the bounded view of
//! other routers, the request engine. Does not live here: what holders keep (crate datastore), links
//! (`link/`), path selection (`tunnel/`). Bytes and machines in words: docs/spec/ring.md.
//!
//! ```text
//!                    ┌─────────── Ring (machine.rs, keep.rs, gossip.rs) ─────────┐
//!   links ── wire ──>│ neighbours   view   proof checks (admission)   requests ──│──> store (Holder)
//!                    └───────────────────────────────────────────────────────────┘
//! ```

pub mod admission;
mod api;
mod failed;
mod gossip;
mod guests;
mod holders;
mod job;
mod keep;
mod machine;
pub mod members;
mod neighbours;
mod network;
mod question;
mod repair;
mod report;
mod request;
mod rumours;
mod share;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod upkeep;
mod view;
mod visited;
mod waits;
mod watch;
mod window;
mod wire;
mod witnesses;

pub use api::{Held, Input, Output, Request, RingConfig, Status, StoreOp};
pub use machine::Ring;
pub use neighbours::{DEGREE_RANGE, KEEPERS, NEAR, REPLICAS};
pub use repair::{
    CLAIMS_MAX, Claim, Compare, MARKS_MAX, Mark, OFFER_MAX, PARTS, Repair, Says, Stretch,
};
pub use upkeep::{Upkeep, UpkeepInput, UpkeepOutput, UpkeepStatus};
pub use view::VIEW_MAX;
pub use visited::Visited;
pub use watch::{WATCH_LEASE, Watch};
pub use wire::{BUDGET_MAX, Body, Class, DESCRIPTORS_MAX, Found, Reach, RingMessage, WINDOW_MAX};
