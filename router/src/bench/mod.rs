//! Measuring the router on the machine it runs on (docs/performance.md).
//!
//! Lives here: what `warren bench` runs and what it prints. Does not live here: the flags
//! (`cli/bench.rs`), and anything that a router needs in order to work.

mod actors;
mod figures;
mod hop;
mod limit;
mod load;
mod memory;
mod meter;
mod relay;
mod store;

pub use figures::{LimitFigures, RelayFigures};
pub use load::{LoadSettings, run as load};
pub use memory::MemoryRelay;
pub use meter::AllocationCount;
pub use relay::{RelayError, RelaySettings, run as relay};
pub use store::{StoreFigures, StoreSettings, run as store};
