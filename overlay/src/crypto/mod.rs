//! Everything that is secret, signed, sealed or hashed.
//!
//! Lives here: one small file per primitive, each the only place that names its library, so that a
//! library can be replaced in one file; and the chained onion layer. Does not live here: message
//! formats (`wire/` and the machines), randomness (`rng.rs`). The constructions in words, and the
//! table of all domain strings: docs/spec/crypto.md.
//!
//! ```text
//! secret ── kdf ──┬── aead          link frames, sessions, build records, store
//!                 ├── sign ── blind  identities, services
//!                 ├── kem ── noise   link and session handshakes
//!                 ├── uiv ── onion   tunnel cells
//!                 └── puzzle         admission
//! ```
//!
//! A simulator can put others in their place: `suite.rs`.

pub mod aead;
pub mod blind;
pub mod effort;
pub mod kdf;
pub mod kem;
pub mod noise;
pub mod onion;
pub mod puzzle;
pub mod secret;
pub mod sign;
pub mod suite;
mod uiv;

#[cfg(test)]
mod domain_tests;
