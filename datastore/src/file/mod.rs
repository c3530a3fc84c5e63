//! Files: from bytes to blocks and back.
//!
//! Lives here: the two passes of encoding, reading of any range, checking and repair, all of it
//! without I/O and in bounded memory. Does not live here: the root block (`manifest.rs`), the code
//! over GF(2^16) (`erasure.rs`), who asks whom for blocks (`transfer/`). In words: docs/spec/file.md.
//!
//! ```text
//! bytes ──> Hasher ── Content ──┐
//! bytes again ─────────────> Encoder ──> blocks, ReadCap
//! ReadCap ──> Reader ── wants addresses ──> takes blocks or "missing" ──> bytes, in order
//! VerifyCap ──> Repair ── wants addresses ──> takes blocks or "missing" ──> the blocks that were lost
//! ```

mod encode;
mod hash;
mod job;
mod key;
mod layout;
mod life;
mod read;
mod repair;
mod spool;
mod walk;

#[cfg(test)]
pub(crate) mod tests;

pub use encode::{EncodeError, Encoder, Options, Placed};
pub use hash::{Content, Hasher};
pub use key::{KeySource, Sharing};
pub use layout::{CHUNK_LEN, FILE_LEN_MAX, Layout};
pub use life::days_without_repair;
pub use read::Reader;
pub use repair::{Repair, Scope, Summary};
pub use spool::{SPOOL_CHUNK, SPOOL_SEALED, SpoolCipher};
pub use walk::{Place, ROOT_LEVEL, ReadError, Taken};
