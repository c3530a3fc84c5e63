//! Service keys that look new every day.
//!
//! Lives here: Ed25519 key blinding as Tor's onion services use it (rend-spec-v3, appendix A.2),
//! with BLAKE3 for the blinding factor. Does not live here: days, indices and addresses of
//! descriptors (`service/`), the text form of names.
//!
//! ```text
//! A = a·B  the service's key, its name          h = KDF(A, parts) mod l
//! A' = h·A the blinded key                      a' = h·a mod l
//! ```
//!
//! Who knows the name computes A'; who knows only A' can neither find A nor tell two blinded keys
//! of one service from two services. Signatures under a' verify as plain Ed25519 under A'.

use std::fmt;

use curve25519_dalek::{EdwardsPoint, Scalar, edwards::CompressedEdwardsY};
use ed25519_dalek::{
    VerifyingKey,
    hazmat::{ExpandedSecretKey, raw_sign},
};
use sha2::{Digest, Sha512};
use zeroize::Zeroize;

pub use super::sign::verify_key;
use super::{
    kdf,
    secret::Secret,
    sign::signed_bytes,
    suite::{self, Suite},
};
use crate::rng::Rng;

const FACTOR_CONTEXT: &str = "warren blind factor 1";
const PREFIX_CONTEXT: &str = "warren blind nonce prefix 1";

enum Expanded {
    /// On the heap, so that moves leave no copies; wiped on drop by the library.
    Ed25519(Box<ExpandedSecretKey>),
    StandIn(&'static dyn Suite),
}

/// A service's long-lived key.
pub struct ServiceKey {
    seed: Secret<32>,
    expanded: Expanded,
    public: [u8; 32],
}

impl ServiceKey {
    /// A new service.
    pub fn generate(rng: &mut Rng) -> Self {
        Self::from_seed(Secret::random(rng))
    }

    /// The service of a stored seed; the public key is that of RFC 8032, section 5.1.5.
    pub fn from_seed(seed: Secret<32>) -> Self {
        if let Some(suite) = suite::entered() {
            let public = suite.identity(seed.expose_secret());
            return Self { seed, expanded: Expanded::StandIn(suite), public };
        }
        let mut wide: [u8; 64] = Sha512::digest(seed.expose_secret()).into();
        let expanded = Box::new(ExpandedSecretKey::from_bytes(&wide));
        wide.zeroize();
        let public = EdwardsPoint::mul_base(&expanded.scalar).compress().to_bytes();
        Self { seed, expanded: Expanded::Ed25519(expanded), public }
    }

    /// What to store so that the service survives a restart.
    pub fn seed(&self) -> &Secret<32> {
        &self.seed
    }

    /// The public half, from which the service's name is made.
    pub fn public(&self) -> [u8; 32] {
        self.public
    }

    /// The key of these parts (network, day, index): unlinkable to any other.
    ///
    /// Its nonce prefix is derived from the seed's, the parts and the blinded key: two blinded keys
    /// that shared one would sign a message with the same nonce under different scalars, from which
    /// both could be computed.
    pub fn blind(&self, parts: &[&[u8]]) -> BlindedKey {
        blind(&self.expanded, &self.public, parts)
    }
}

fn blind(key: &Expanded, public: &[u8; 32], parts: &[&[u8]]) -> BlindedKey {
    let key = match key {
        Expanded::Ed25519(key) => key,
        Expanded::StandIn(suite) => {
            let public = suite.blind(public, parts);
            return BlindedKey { expanded: Expanded::StandIn(*suite), public };
        }
    };
    let mut scalar = factor(public, parts) * key.scalar;
    let public = EdwardsPoint::mul_base(&scalar).compress().to_bytes();
    let mut all: Vec<&[u8]> = vec![&key.hash_prefix, &public];
    all.extend_from_slice(parts);
    let hash_prefix = kdf::derive(PREFIX_CONTEXT, &all);
    let expanded = Box::new(ExpandedSecretKey { scalar, hash_prefix });
    scalar.zeroize();
    BlindedKey { expanded: Expanded::Ed25519(expanded), public }
}

/// The blinded form of a service's public key, for who knows its name.
///
/// `None` where `public` is no valid key, see [`valid_public`].
pub fn blind_public(public: &[u8; 32], parts: &[&[u8]]) -> Option<[u8; 32]> {
    if let Some(suite) = suite::entered() {
        return Some(suite.blind(public, parts));
    }
    let point = valid_point(public)?;
    Some((factor(public, parts) * point).compress().to_bytes())
}

/// Whether these 32 bytes can be a service's key: canonical, of prime order, not the identity.
///
/// A key with torsion has siblings (A + T) whose blinded keys are the same where h is a multiple of
/// 8 and otherwise verify the same signatures now and then: one service under several names. One
/// of low order signs anything for anybody (PROTOCOL P10).
pub fn valid_public(public: &[u8; 32]) -> bool {
    suite::entered().is_some() || valid_point(public).is_some()
}

fn valid_point(public: &[u8; 32]) -> Option<EdwardsPoint> {
    let point = CompressedEdwardsY(*public).decompress()?;
    let canonical = point.compress().to_bytes() == *public;
    (canonical && !point.is_small_order() && point.is_torsion_free()).then_some(point)
}

/// h: uniform modulo the group's order (64 bytes reduced), so that no clamping is needed; valid
/// keys have no torsion for clamping to remove. Never zero in practice (2^-252).
fn factor(public: &[u8; 32], parts: &[&[u8]]) -> Scalar {
    let mut all: Vec<&[u8]> = vec![public];
    all.extend_from_slice(parts);
    Scalar::from_bytes_mod_order_wide(&kdf::derive(FACTOR_CONTEXT, &all))
}

/// A service's key for one day and index.
pub struct BlindedKey {
    expanded: Expanded,
    public: [u8; 32],
}

impl BlindedKey {
    /// The public half: what [`blind_public`] gives who knows the name.
    pub fn public(&self) -> [u8; 32] {
        self.public
    }

    /// Blinded once more, as [`ServiceKey::blind`]: whoever was given this public key as if it were
    /// a name computes the public half by [`blind_public`].
    #[must_use]
    pub fn blind(&self, parts: &[&[u8]]) -> Self {
        blind(&self.expanded, &self.public, parts)
    }

    /// Vouches for `message` in the sense of `context`; verify with [`verify_key`]. Deterministic.
    pub fn sign(&self, context: &'static str, message: &[u8]) -> [u8; 64] {
        let message = signed_bytes(context, message);
        match &self.expanded {
            Expanded::Ed25519(key) => {
                let point = EdwardsPoint::mul_base(&key.scalar);
                raw_sign::<Sha512>(key, &message, &VerifyingKey::from(point)).to_bytes()
            }
            Expanded::StandIn(suite) => suite.sign(&self.public, &message),
        }
    }
}

impl fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

impl fmt::Debug for BlindedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::EIGHT_TORSION;
    use proptest::prelude::{
        ProptestConfig, any, prop, prop_assert, prop_assert_eq, prop_assert_ne, proptest,
    };

    use super::*;
    use crate::crypto::sign::IdentityKey;

    const CONTEXT: &str = "warren test blind 1";

    fn key(byte: u8) -> ServiceKey {
        ServiceKey::from_seed(Secret::take(&mut [byte; 32]))
    }

    #[test]
    fn the_public_key_is_that_of_plain_ed25519() {
        let plain = IdentityKey::from_seed(Secret::take(&mut [5; 32])).id();
        assert_eq!(key(5).public(), *plain.as_bytes());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn both_ways_of_blinding_meet(seed: u8, day in any::<[u8; 4]>(), i in 0..6u8) {
            let key = key(seed);
            let parts: [&[u8]; 2] = [&day, &[i]];
            let blinded = key.blind(&parts);
            prop_assert_eq!(blind_public(&key.public(), &parts), Some(blinded.public()));
            prop_assert!(valid_public(&blinded.public()));
            let other: [&[u8]; 2] = [&day, &[i + 1]];
            prop_assert_ne!(key.blind(&other).public(), blinded.public());
            let twice = blinded.blind(&other);
            prop_assert_eq!(blind_public(&blinded.public(), &other), Some(twice.public()));
            let signature = twice.sign(CONTEXT, b"text");
            prop_assert!(verify_key(&twice.public(), CONTEXT, b"text", &signature));
            prop_assert_ne!(&signature[..32], &blinded.sign(CONTEXT, b"text")[..32]);
        }

        #[test]
        fn a_blinded_signature_verifies_as_plain_ed25519_and_for_nothing_else(
            seed: u8, message: Vec<u8>, at in 0..64usize, bit in 0..8u32,
        ) {
            let key = key(seed);
            let blinded = key.blind(&[b"monday"]);
            let mut signature = blinded.sign(CONTEXT, &message);
            prop_assert!(verify_key(&blinded.public(), CONTEXT, &message, &signature));
            prop_assert!(!verify_key(&blinded.public(), "warren test blind 2", &message, &signature));
            prop_assert!(!verify_key(&key.public(), CONTEXT, &message, &signature));
            let tuesday = key.blind(&[b"tuesday"]).public();
            prop_assert!(!verify_key(&tuesday, CONTEXT, &message, &signature));
            signature[at] ^= 1 << bit;
            prop_assert!(!verify_key(&blinded.public(), CONTEXT, &message, &signature));
        }

        #[test]
        fn a_key_with_torsion_is_refused(seed: u8, at in 1..8usize) {
            let point = CompressedEdwardsY(key(seed).public()).decompress().unwrap();
            let twin = (point + EIGHT_TORSION[at]).compress().to_bytes();
            prop_assert!(!valid_public(&twin));
            prop_assert_eq!(blind_public(&twin, &[]), None);
        }

        #[test]
        fn any_bytes_are_judged_without_panic(bytes in prop::collection::vec(any::<u8>(), 32)) {
            let bytes: [u8; 32] = bytes.try_into().unwrap();
            prop_assert_eq!(valid_public(&bytes), blind_public(&bytes, &[]).is_some());
        }
    }

    #[test]
    fn a_key_of_low_order_or_no_canonical_form_is_refused() {
        for point in EIGHT_TORSION {
            assert!(!valid_public(&point.compress().to_bytes()));
        }
        // The 19 values of y that can be written a second time, as y + p, with both signs.
        for low in 0xed..=0xff {
            for high in [0x7f, 0xff] {
                let mut bytes = [0xff; 32];
                bytes[0] = low;
                bytes[31] = high;
                assert!(!valid_public(&bytes));
            }
        }
    }

    /// The same nonce under two scalars would give both away: R must differ.
    #[test]
    fn blinded_keys_never_share_a_nonce() {
        let key = key(6);
        let [a, b] = [b"a", b"b"].map(|part| key.blind(&[part]).sign(CONTEXT, b"same"));
        assert_ne!(a[..32], b[..32]);
    }

    /// Frozen: a service's addresses follow from this, on every router alike.
    #[test]
    fn blinding_stays_as_it_was_frozen() {
        let blinded = key(7).blind(&[b"network", b"day", b"0"]).public();
        assert_eq!(
            data_encoding::HEXLOWER.encode(&blinded),
            "8aa446069ce497721ff2528addf422695386194dc14c1726724cb9cf11c6929b"
        );
    }
}
