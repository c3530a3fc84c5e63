//! Hidden services: their names, what they publish about themselves, and how it is found.
//!
//! Lives here: names. Does not live here: records, the ring that routes to them, sessions.

mod name;

pub use name::{Name, NameError, NameKind};
