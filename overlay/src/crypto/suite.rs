//! The ciphers that cost, and the one place where a simulator puts others under the machines.
//!
//! Lives here: what a stand-in must give, and `within`, which runs something under one. Does not live
//! here: any stand-in (they live in the simulator's crate; no program that carries traffic holds
//! one), and our own suite, which is the code of the files beside this one.
//!
//! A thread is under no stand-in unless it is inside `within`; a whole run is, or none of it, for what
//! one suite made the other cannot use. What is hashed whole (blocks, files) is so under every suite. Why it is entered and not passed along: docs/decisions/0004.

use std::{cell::Cell, fmt, sync::Arc};

use super::{
    aead::TAG_LEN,
    kem::{KEM_CIPHERTEXT_LEN, KEM_PUBLIC_LEN},
    sign::SIGNATURE_LEN,
};
use crate::wire::RouterDescriptor;

/// X25519 + ML-KEM-768, Ed25519, AES-GCM, BLAKE3, UIV+, Argon2id: what every router uses.
pub const HYBRID: u16 = 1;

/// Ciphers to be simulated with. The lengths are those of the real ones, and what was sealed under one
/// key must not open under another; beyond that they may be as weak as they are fast.
pub trait Suite: Sync {
    /// Its number in the network id: none of another suite's networks is one of its own.
    fn number(&self) -> u16;

    /// In the place of AES-256-GCM.
    fn aead(&self, key: &[u8; 32]) -> Box<dyn AeadKey>;

    /// In the place of UIV+: one direction of one layer.
    fn layer(&self, keys: &[u8; 64]) -> Box<dyn LayerKey>;

    /// In the place of X25519: the public half of a secret.
    fn dh_public(&self, secret: &[u8; 32]) -> [u8; 32];

    /// What two agree on, from either side; none for a key of zeros.
    fn dh(&self, secret: &[u8; 32], theirs: &[u8; 32]) -> Option<[u8; 32]>;

    /// In the place of ML-KEM-768: the public half of a seed.
    fn kem_public(&self, seed: &[u8; 64]) -> Arc<[u8; KEM_PUBLIC_LEN]>;

    /// A ciphertext to the holder of `public`, and the secret in it; both follow from `random`.
    fn encapsulate(
        &self,
        public: &[u8; KEM_PUBLIC_LEN],
        random: [u8; 32],
    ) -> ([u8; KEM_CIPHERTEXT_LEN], [u8; 32]);

    /// The secret in a ciphertext; another one if it was made for another key.
    fn decapsulate(&self, seed: &[u8; 64], ciphertext: &[u8; KEM_CIPHERTEXT_LEN]) -> [u8; 32];

    /// In the place of Ed25519: the public half of a seed.
    fn identity(&self, seed: &[u8; 32]) -> [u8; 32];

    /// The one signature of `message` that holds under `public`.
    fn sign(&self, public: &[u8; 32], message: &[u8]) -> [u8; SIGNATURE_LEN];

    /// A public key, blinded.
    fn blind(&self, public: &[u8; 32], parts: &[&[u8]]) -> [u8; 32];

    /// In the place of BLAKE3 for keys, masks and short hashes: what follows from a purpose and some
    /// parts, from byte `at` of the stream on, which is a multiple of 64.
    fn stream(&self, purpose: &[u8], parts: &[&[u8]], at: u64, out: &mut [u8]);

    /// In the place of a handshake's SHA-256.
    fn digest(&self, text: &[u8]) -> [u8; 32];

    /// In the place of Argon2id.
    fn puzzle(&self, password: &[u8], salt: &[u8]) -> [u8; 32];

    /// What somebody on this thread has read from the very same bytes and still keeps: the routers of
    /// one process share what they know of each other.
    fn recall(&self, _descriptor: &[u8]) -> Option<Arc<RouterDescriptor>> {
        None
    }

    /// It was read, and is good.
    fn keep(&self, _bytes: &[u8], _descriptor: &Arc<RouterDescriptor>) {}
}

/// A key that seals.
pub trait AeadKey: Send + Sync {
    /// The tag over all that is given; `data` may change.
    fn seal(&self, nonce: u64, aad: &[u8], data: &mut [u8]) -> [u8; TAG_LEN];

    /// Undoes it; false if anything is not as it was.
    fn open(&self, nonce: u64, aad: &[u8], data: &mut [u8], tag: &[u8; TAG_LEN]) -> bool;
}

/// One direction of one layer of a tunnel, for whichever side.
pub trait LayerKey: Send + Sync {
    /// Encrypts a cell, `left ‖ right`; `previous` is the tag of the one before.
    fn encrypt(&self, previous: &[u8; 16], left: &mut [u8; 16], right: &mut [u8]);

    /// Undoes it.
    fn decrypt(&self, previous: &[u8; 16], left: &mut [u8; 16], right: &mut [u8]);

    /// The next key and nonce.
    fn update(&mut self, previous: &[u8; 16], nonce: &mut [u8; 16]);
}

thread_local! {
    static ENTERED: Cell<Option<&'static dyn Suite>> = const { Cell::new(None) };
}

/// Runs something under `suite`; under our own for `None`.
pub fn within<T>(suite: Option<&'static dyn Suite>, run: impl FnOnce() -> T) -> T {
    struct Leave(Option<&'static dyn Suite>);
    impl Drop for Leave {
        fn drop(&mut self) {
            ENTERED.set(self.0);
        }
    }
    let _leave = Leave(ENTERED.replace(suite));
    run()
}

/// The number of the suite that this thread is under.
pub fn number() -> u16 {
    entered().map_or(HYBRID, Suite::number)
}

/// The stand-in that this thread is under, if any.
pub(crate) fn entered() -> Option<&'static dyn Suite> {
    ENTERED.get()
}

impl fmt::Debug for dyn Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}
