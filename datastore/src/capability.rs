//! What whoever holds it may do: write, read, verify; each gives the next and none gives back.
//!
//! Lives here: the capabilities of stored files and of sites, and the one-way steps down. Does not
//! live here: their text (`uri.rs`), what they open (`manifest.rs`).
//!
//! ```text
//! file, directory      read: root 32, key 32 ── KDF ──> verify: root 32, key 32 ── KDF ──> copies' tails
//! site         write: seed 32 ── Ed25519 ──> read: name ── blinding ──> verify: blinded key 32
//! ```
//!
//! A *verify* capability finds every block of a file, checks it and rebuilds lost ones, and opens
//! no content, no name and no type. A stored file cannot change, so nothing writes to it.

use std::fmt;

use warren_overlay::{
    block::{BlockAddress, BodyHash, TAIL_LEN},
    crypto::{
        blind::{self, BlindedKey, ServiceKey},
        kdf,
        secret::Secret,
    },
    service::{Name, NameKind},
};
use zeroize::Zeroize;

const VERIFY: &str = "warren verify key 1";
const TAIL: &str = "warren copy tail 1";
/// Part of the blinding that makes a site's verify key.
const SITE_VERIFY: &[u8] = b"site verify";

/// Copies of a root at unrelated places of the ring. One address is lost or censored with one
/// region; three are not.
pub const ROOT_COPIES: usize = 3;

/// Reads one stored file or directory.
pub struct ReadCap {
    pub(crate) root: BodyHash,
    pub(crate) key: Secret<32>,
}

impl ReadCap {
    /// Encoded length in bytes.
    pub const LEN: usize = 64;

    /// Takes over the 64 bytes and wipes the caller's copy. All values are good.
    ///
    /// | bytes | field |
    /// |-------|-------|
    /// | 32    | hash of the root's body |
    /// | 32    | read key |
    pub fn take(bytes: &mut [u8; Self::LEN]) -> Self {
        let (root, key) = take(bytes);
        Self { root, key }
    }

    /// The 64 bytes.
    pub fn to_bytes(&self) -> Secret<{ Self::LEN }> {
        join(self.root, &self.key)
    }

    /// A second one, for a second reading. Not `Clone`, so that each copy is asked for by name.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self { root: self.root, key: Secret::take(&mut self.key.expose_secret().clone()) }
    }

    /// The capability that checks and repairs what this one reads.
    pub fn verify(&self) -> VerifyCap {
        let key = kdf::derive_secret(VERIFY, &[self.key.expose_secret()]);
        VerifyCap { root: self.root, key }
    }
}

/// Checks and repairs one stored file or directory, and reads nothing of it.
pub struct VerifyCap {
    pub(crate) root: BodyHash,
    pub(crate) key: Secret<32>,
}

impl VerifyCap {
    /// Encoded length in bytes.
    pub const LEN: usize = 64;

    /// Takes over the 64 bytes and wipes the caller's copy. All values are good.
    pub fn take(bytes: &mut [u8; Self::LEN]) -> Self {
        let (root, key) = take(bytes);
        Self { root, key }
    }

    /// The same.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self::take(&mut { *self.to_bytes().expose_secret() })
    }

    /// The 64 bytes.
    pub fn to_bytes(&self) -> Secret<{ Self::LEN }> {
        join(self.root, &self.key)
    }

    /// The tail of one copy of the root. Whoever holds a copy cannot compute the other tails, so
    /// it cannot find the other copies.
    pub(crate) fn tail(&self, copy: usize) -> [u8; TAIL_LEN] {
        kdf::derive(TAIL, &[self.key.expose_secret(), &copy.to_le_bytes()])
    }

    /// Where the copies of the root are.
    pub fn roots(&self) -> [BlockAddress; ROOT_COPIES] {
        std::array::from_fn(|copy| self.root.address(&self.tail(copy)))
    }
}

fn take(bytes: &mut [u8; 64]) -> (BodyHash, Secret<32>) {
    let mut root = [0; 32];
    let mut key = [0; 32];
    let (head, rest) = bytes.split_at(32);
    root.copy_from_slice(head);
    key.copy_from_slice(rest);
    bytes.zeroize();
    (BodyHash(root), Secret::take(&mut key))
}

fn join(root: BodyHash, key: &Secret<32>) -> Secret<64> {
    let mut bytes = [0; 64];
    let (head, rest) = bytes.split_at_mut(32);
    head.copy_from_slice(&root.0);
    rest.copy_from_slice(key.expose_secret());
    Secret::take(&mut bytes)
}

/// Publishes one site: the seed of its key.
pub struct SiteWriteCap(ServiceKey);

impl SiteWriteCap {
    /// The site of a stored seed.
    pub fn from_seed(seed: Secret<32>) -> Self {
        Self(ServiceKey::from_seed(seed))
    }

    /// The key of the site's verify capability: what signs its records is blinded from it.
    pub fn verify_key(&self) -> BlindedKey {
        self.0.blind(&[SITE_VERIFY])
    }

    /// The key that all others follow from.
    pub const fn key(&self) -> &ServiceKey {
        &self.0
    }

    /// The site's name: its read capability.
    pub fn name(&self) -> Option<Name> {
        Name::new(self.0.public(), NameKind::Site)
    }
}

/// Finds, checks and repairs what one site stores, and cannot tell which site it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SiteVerifyCap([u8; 32]);

impl SiteVerifyCap {
    /// The verify capability of a site: its key, blinded once by a factor that only who knows the
    /// name can compute. `None` for the name of a live service.
    pub fn of(name: &Name) -> Option<Self> {
        (name.kind() == NameKind::Site)
            .then(|| blind::blind_public(name.key(), &[SITE_VERIFY]))
            .flatten()
            .map(Self)
    }

    /// Reads the blinded key; `None` unless it is a valid point of prime order.
    pub fn from_bytes(key: [u8; 32]) -> Option<Self> {
        blind::valid_public(&key).then_some(Self(key))
    }

    /// The blinded public key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

macro_rules! mute {
    ($($name:ident),*) => {$(
        /// Mute: what a person stores and reads is never logged (DESIGN section 3).
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("_")
            }
        }
    )*};
}
mute!(ReadCap, VerifyCap, SiteWriteCap, SiteVerifyCap);
