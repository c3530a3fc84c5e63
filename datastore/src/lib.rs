//! What Warren routers keep for others.
//!
//! Lives here: stores for records (in memory, in RocksDB) and the holder, which decides what is kept,
//! for how long, and who else must have it. Does not live here: what a record is and how requests
//! find their way (crate overlay). Blocks and files will move in beside it.
//!
//! The border with the ring is small: `Ring` says `Store`, `Neighbourhood` and `HandOver`; the holder
//! says `Held`, `Send` and `HandedOver` (docs/spec/record.md, "Holder").

mod holder;
mod index;
#[cfg(feature = "rocks")]
mod rocks;
mod store;

pub use holder::{Holder, HolderInput, HolderOutput};
#[cfg(feature = "rocks")]
pub use rocks::RocksRecords;
pub use store::{BYTES_MAX_DEFAULT, MemoryRecords, Put, RecordStore, StoreError};
