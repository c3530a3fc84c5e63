//! Carrying a file's blocks to and from the network.
//!
//! Lives here: which block goes through which exit and when, and what to do about answers: one
//! courier below, and above it fetching, storing and healing. No I/O: tunnels are the owner's. Does not
//! live here: what is in the blocks (`file/`). In words: docs/spec/file.md, section 7.
//!
//! ```text
//! Reader  ─ wants ─> Fetch ┐             Get / Put through exit n ──> owner's tunnels
//! Encoder ─ blocks > Store ┼─> Courier ─────────────────────────────────────────────
//! Repair  ─ both ──> Heal  ┘             Found, NotFound, NoRoute, Busy, nothing <── owner
//! ```

mod courier;
mod exits;
mod fetch;
mod heal;
mod state;
mod store;

#[cfg(test)]
mod tests;

pub use courier::{IN_FLIGHT_MAX, Output};
pub use exits::{EXITS_MAX, ExitNo, SEGMENT_BLOCKS_PER_EXIT};
pub use fetch::{Fetch, FetchProgress};
pub use heal::Heal;
pub use state::{FetchState, StoreState};
pub use store::{Store, StoreProgress};
