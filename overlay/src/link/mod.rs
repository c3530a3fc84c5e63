//! Links: an encrypted connection between two routers, from its first byte on (docs/spec/link.md).

mod api;
mod batch;
mod budget;
mod bulk;
pub mod channel;
mod classes;
mod control;
pub mod credit;
mod egress;
mod end_hop;
pub mod frame;
mod grants;
mod handshake;
mod io;
mod lane;
mod lanes;
mod load;
mod masking;
mod padding;
mod pulse;
mod rate;
mod receive;
mod replay;
mod schedule;
#[cfg(test)]
mod tests;
mod transmit;

pub use api::{LinkCounters, LinkInput, LinkOutput, LinkSettings};
pub use budget::HandshakeBudget;
pub use credit::CreditQuota;
pub use handshake::{Established, Handshake, HandshakeOutput, LinkIdentity};
pub use io::{LinkIo, TRANSMIT_MAX};
pub use lane::{LaneBalance, LaneCounters};
pub use padding::PadCount;
pub use rate::{BURST, RateLimit, RateLimits};
pub use replay::{REPLAY_MAX, ReplayFilter};
