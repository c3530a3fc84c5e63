//! Many Warren routers on a virtual clock.
//!
//! Lives here: the event loop that drives whole networks of `warren_router::host::Host`, seeded and
//! without sleeping. Does not live here: any protocol logic.

pub mod adversary;
mod apps;
mod asker;
pub mod batch;
mod chance;
mod churn;
pub mod cli;
pub mod compare;
mod conn;
pub mod curve;
mod disk;
mod files;
pub mod graph;
mod keep;
mod latency;
pub mod metric;
mod net;
mod oracle;
pub mod page;
pub mod plan;
mod queue;
mod replicas;
mod rings;
pub mod run;
pub mod scenario;
mod stand_in;
pub mod statistics;
mod stock;
mod streams;
pub mod swarm;
pub mod sweep;
pub mod template;
pub mod validate;
pub mod world;

pub use apps::{Fetch, FetchNo, Outcome, Purpose};
pub use chance::Times;
pub use conn::Uplink;
pub use latency::{Latency, MATRIX_MAX, Matrix, MatrixError};
pub use net::{Happened, HostNo, Line, Net, Seat, What, Wires};
pub use oracle::Violation;
pub use stand_in::{STAND_IN, StandIn};
pub use stock::{Ended, Errand, ItemNo, Trip};
pub use streams::Streams;
