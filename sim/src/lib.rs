//! Many Warren routers on a virtual clock.
//!
//! Lives here: the event loop that drives whole networks of `warren_router::host::Host`, seeded and
//! without sleeping. Does not live here: any protocol logic.

mod net;
pub mod world;

pub use net::{AppEvent, HostNo, Latency, Net};
