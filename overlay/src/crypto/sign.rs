//! Signatures: who a router is, and what it vouches for.
//!
//! Lives here: Ed25519 (RFC 8032) over a context and a message, strictly verified. Does not live
//! here: keys that change every day so that services cannot be listed (`blind.rs`).
//!
//! Signed bytes are the context's length (u64, little-endian), the context, the message: a signature
//! made for one purpose never verifies for another.

use std::fmt;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use super::{
    secret::Secret,
    suite::{self, Suite},
};
use crate::{id::RouterId, rng::Rng};

/// Length of a signature in bytes.
pub const SIGNATURE_LEN: usize = 64;

/// A router's own signing key.
pub struct IdentityKey {
    seed: Secret<32>,
    key: Key,
}

enum Key {
    /// On the heap, so that moves leave no copies; wiped on drop by the library.
    Ed25519(Box<SigningKey>),
    StandIn(&'static dyn Suite),
}

impl IdentityKey {
    /// A new identity.
    pub fn generate(rng: &mut Rng) -> Self {
        Self::from_seed(Secret::random(rng))
    }

    /// The identity that follows from a stored seed (RFC 8032, section 5.1.5).
    pub fn from_seed(seed: Secret<32>) -> Self {
        let key = match suite::entered() {
            None => Key::Ed25519(Box::new(SigningKey::from_bytes(seed.expose_secret()))),
            Some(suite) => Key::StandIn(suite),
        };
        Self { seed, key }
    }

    /// What to store so that the identity survives a restart.
    pub fn seed(&self) -> &Secret<32> {
        &self.seed
    }

    /// The public half: who this router is.
    pub fn id(&self) -> RouterId {
        RouterId(match &self.key {
            Key::Ed25519(key) => key.verifying_key().to_bytes(),
            Key::StandIn(suite) => suite.identity(self.seed.expose_secret()),
        })
    }

    /// Vouches for `message` in the sense of `context` ("warren ... 1"). Deterministic.
    pub fn sign(&self, context: &'static str, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        let message = signed_bytes(context, message);
        match &self.key {
            Key::Ed25519(key) => key.sign(&message).to_bytes(),
            Key::StandIn(suite) => suite.sign(self.id().as_bytes(), &message),
        }
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// Whether the router `id` signed `message` in the sense of `context`.
///
/// Strict: refuses keys and nonces of low order, and non-canonical keys, nonces and scalars, so that
/// a signature has one spelling and all routers agree (Chalkias et al., "Taming the many `EdDSA`s",
/// SSR 2020). Not constant time: all inputs are public.
pub fn verify(
    id: &RouterId,
    context: &'static str,
    message: &[u8],
    signature: &[u8; SIGNATURE_LEN],
) -> bool {
    verify_key(id.as_bytes(), context, message, signature)
}

/// [`verify`] for a key that is no router's: a blinded one, or a site's.
pub fn verify_key(
    public: &[u8; 32],
    context: &'static str,
    message: &[u8],
    signature: &[u8; SIGNATURE_LEN],
) -> bool {
    if let Some(suite) = suite::entered() {
        return suite.sign(public, &signed_bytes(context, message)) == *signature;
    }
    if !canonical(public) {
        return false;
    }
    let Ok(key) = VerifyingKey::from_bytes(public) else {
        return false;
    };
    let signature = Signature::from_bytes(signature);
    key.verify_strict(&signed_bytes(context, message), &signature).is_ok()
}

/// Whether the y coordinate is written below the field's prime 2^255 - 19.
///
/// The library reduces instead, which would give 19 values of y two spellings. (The spellings that
/// remain, a sign on x = 0, are of low order, which the strict check refuses.)
fn canonical(public: &[u8; 32]) -> bool {
    let [low, middle @ .., high] = public;
    !(*low >= 0xed && high & 0x7f == 0x7f && middle.iter().all(|byte| *byte == 0xff))
}

pub(super) fn signed_bytes(context: &'static str, message: &[u8]) -> Vec<u8> {
    [&(context.len() as u64).to_le_bytes(), context.as_bytes(), message].concat()
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER_PERMISSIVE as HEX;
    use proptest::prelude::*;

    use super::*;

    const CONTEXT: &str = "warren test sign 1";
    const OTHER: &str = "warren test sign 2";

    fn key(byte: u8) -> IdentityKey {
        IdentityKey::from_seed(Secret::take(&mut [byte; 32]))
    }

    fn raw(key: &IdentityKey, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        let Key::Ed25519(key) = &key.key else { panic!("no stand-in was entered") };
        key.sign(message).to_bytes()
    }

    /// RFC 8032, section 7.1, test 2: our key derivation and the library's raw signature.
    #[test]
    fn published_answers_hold() {
        let seed = HEX.decode(b"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let key = IdentityKey::from_seed(Secret::take(&mut seed.unwrap().try_into().unwrap()));
        assert_eq!(
            HEX.encode(key.id().as_bytes()),
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
        );
        assert_eq!(
            HEX.encode(&raw(&key, &[0x72])),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        );
    }

    #[test]
    fn signed_bytes_are_the_documented_ones() {
        assert_eq!(signed_bytes("warren x 1", b"m"), b"\x0a\0\0\0\0\0\0\0warren x 1m");
    }

    proptest! {
        #[test]
        fn a_signature_holds_for_its_key_context_and_message_only(
            seed: u8, message: Vec<u8>, other: Vec<u8>, at in 0..64usize, bit in 0..8u32,
        ) {
            let key = key(seed);
            let mut signature = key.sign(CONTEXT, &message);
            prop_assert!(verify(&key.id(), CONTEXT, &message, &signature));
            prop_assert!(!verify(&key.id(), OTHER, &message, &signature));
            prop_assert!(other == message || !verify(&key.id(), CONTEXT, &other, &signature));
            let stranger = self::key(seed.wrapping_add(1)).id();
            prop_assert!(!verify(&stranger, CONTEXT, &message, &signature));
            signature[at] ^= 1 << bit;
            prop_assert!(!verify(&key.id(), CONTEXT, &message, &signature));
        }
    }

    /// Under a key of low order, the signature (R = identity, s = 0) verifies any message where
    /// verification is lax (Chalkias et al., case 0).
    #[test]
    fn a_key_of_low_order_signs_nothing() {
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert!(!verify(&RouterId(identity), CONTEXT, b"anything", &signature));
    }

    #[test]
    fn a_key_has_one_spelling() {
        let mut bytes = [0xff; 32];
        bytes[31] = 0x7f;
        for low in 0..=0xff {
            bytes[0] = low;
            assert_eq!(canonical(&bytes), low < 0xed);
        }
        bytes[0] = 0xff;
        bytes[17] = 0xfe;
        assert!(canonical(&bytes));
    }

    /// s and s + l are the same number to a lax verifier.
    #[test]
    fn a_scalar_has_one_spelling() {
        let key = key(5);
        let mut signature = key.sign(CONTEXT, b"m");
        let order = HEX
            .decode(b"edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
            .unwrap();
        let mut carry = 0;
        for (byte, add) in signature[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            *byte = sum.to_le_bytes()[0];
            carry = sum >> 8;
        }
        assert!(!verify(&key.id(), CONTEXT, b"m", &signature));
    }
}
