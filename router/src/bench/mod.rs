//! Measuring the router on the machine it runs on (docs/performance.md).
//!
//! Lives here: what `warren bench` runs and what it prints. Does not live here: the flags
//! (`cli/bench.rs`), and anything that a router needs in order to work.

mod actors;
mod build;
mod crowd;
mod crypto;
mod delay;
mod far;
mod figures;
mod handshake;
mod hop;
mod idle;
mod limit;
mod link;
mod load;
mod memory;
mod meter;
mod network;
mod origin;
mod path;
mod peer;
mod processes;
mod relay;
mod scaling;
mod store;
mod streams;

pub use build::{BuildFigures, BuildSettings, run as build};
pub use crypto::{CryptoFigures, CryptoPiece, run as crypto};
pub use far::{FarFigures, FarSettings, run as far};
pub use figures::{LimitFigures, PathFigures, RelayFigures};
pub use handshake::{HandshakeCost, HandshakeFigures, run as handshake};
pub use idle::{AtRest, IdleFigures, IdleSettings, load as load_idle, run as idle};
pub use link::{LinkBenchSettings, LinkFigures, run as link};
pub use load::{LoadSettings, run as load, run_link as load_link};
pub use memory::MemoryRelay;
pub use meter::AllocationCount;
pub use path::{FirstByte, PathSettings, Throughput, run as path};
pub use relay::{RelayError, RelaySettings, run as relay};
pub use scaling::ScalingFigures;
pub use store::{StoreFigures, StoreSettings, run as store};
pub use streams::{StreamCost, StreamFigures};
