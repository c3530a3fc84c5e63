//! What Warren routers keep for others, and what a person stores with them.
//!
//! Two sides that meet only in the network. **The person's**, pure: capabilities (`capability`) and
//! their text (`uri`), files to blocks and back (`file`, `manifest`, `erasure`), many files under one
//! capability (`directory`), what a signed key points to (`site`), and the carrying of blocks through tunnels (`transfer`); in words:
//! docs/spec/file.md and uri.md. **The holder's**, below:
//!
//! Lives here: where records are kept (`store.rs` says what a store is, `memory.rs` and `rocks.rs`
//! are two), and who decides what is kept, for how long and where else (`holder.rs`). Does not live
//! here: a record's bytes and signature (`warren_overlay::record`), its way to its holders
//! (`warren_overlay::ring`). In words: docs/spec/record.md.
//!
//! ```text
//!          Store{Get, Put}, Neighbourhood, HandOver        get, put, range, remove
//!   Ring ────────────────────────────────────────> Holder ─────────────────────────> RecordStore
//!        <────────────────────────────────────────                                   ├ MemoryRecords
//!          Held, Send{Replicate}, HandedOver                                         └ RocksRecords
//! ```

pub mod blocks;
pub mod bundle;
pub mod capability;
pub mod directory;
pub mod erasure;
pub mod file;
mod holder;
pub mod manifest;
mod memory;
#[cfg(feature = "rocks")]
mod rocks;
pub mod site;
mod store;
#[cfg(test)]
mod testing;
pub mod transfer;
pub mod uri;

pub use holder::{
    EXPIRY_AHEAD_MAX, FAR, Holder, HolderInput, HolderOutput, HolderStatus, LASTING_AHEAD_MAX,
    REPAIR_RATE, SWEEP_EVERY,
};
pub use memory::MemoryRecords;
#[cfg(feature = "rocks")]
pub use rocks::RocksRecords;
pub use store::{BYTES_MAX, PutOutcome, RecordStore, StoreError};
