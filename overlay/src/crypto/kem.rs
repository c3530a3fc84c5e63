//! Agreeing on a secret: X25519 and ML-KEM-768, the two halves of every hybrid exchange.
//!
//! Lives here: both key types, plain, and the combiner that makes one secret of both. Does not
//! live here: the handshakes (`noise.rs`) and the tunnel build, which say what else is bound.
//!
//! libcrux takes all randomness as an argument, so that a network on the virtual clock replays from
//! its seed; that is why it is used although aws-lc-rs is as fast.

use std::{fmt, sync::Arc};

use libcrux_ml_kem::mlkem768::{self, MlKem768Ciphertext, MlKem768PrivateKey, MlKem768PublicKey};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroize;

use super::{
    kdf,
    secret::Secret,
    suite::{self, Suite},
};
use crate::rng::Rng;

/// Length of an ML-KEM-768 encapsulation key in bytes (FIPS 203, table 3).
pub const KEM_PUBLIC_LEN: usize = 1184;
/// Length of an ML-KEM-768 ciphertext in bytes (FIPS 203, table 3).
pub const KEM_CIPHERTEXT_LEN: usize = 1088;

/// Length of a serialised decapsulation key in bytes (FIPS 203, table 3).
const KEM_SECRET_LEN: usize = 2400;

/// An X25519 private key (RFC 7748).
pub struct DhSecret {
    secret: Secret<32>,
    public: [u8; 32],
}

impl DhSecret {
    /// A new key.
    pub fn generate(rng: &mut Rng) -> Self {
        Self::from_bytes(Secret::random(rng))
    }

    /// The key of these stored bytes; any 32 bytes are one.
    pub fn from_bytes(secret: Secret<32>) -> Self {
        let public = match suite::entered() {
            None => PublicKey::from(&StaticSecret::from(*secret.expose_secret())).to_bytes(),
            Some(suite) => suite.dh_public(secret.expose_secret()),
        };
        Self { secret, public }
    }

    /// What to store so that the key survives a restart.
    pub fn secret_bytes(&self) -> &Secret<32> {
        &self.secret
    }

    /// The public half.
    pub fn public(&self) -> [u8; 32] {
        self.public
    }

    /// The secret shared with the holder of `theirs`, which must go through a KDF before use.
    ///
    /// `None` where the result is all zero, which is so exactly for points of low order: who sends
    /// one would fix the secret (RFC 7748, section 6.1). Constant time in both keys.
    pub fn agree(&self, theirs: &[u8; 32]) -> Option<Secret<32>> {
        if let Some(suite) = suite::entered() {
            return Some(Secret::take(&mut suite.dh(self.secret.expose_secret(), theirs)?));
        }
        let shared = StaticSecret::from(*self.secret.expose_secret())
            .diffie_hellman(&PublicKey::from(*theirs));
        shared.was_contributory().then(|| Secret::take(&mut shared.to_bytes()))
    }
}

impl fmt::Debug for DhSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

enum Private {
    MlKem(Box<MlKem768PrivateKey>),
    StandIn(&'static dyn Suite),
}

/// An ML-KEM-768 decapsulation key (FIPS 203).
pub struct KemSecret {
    seed: Secret<64>,
    private: Private,
    public: Arc<[u8; KEM_PUBLIC_LEN]>,
}

impl KemSecret {
    /// A new key.
    pub fn generate(rng: &mut Rng) -> Self {
        Self::from_bytes(Secret::random(rng))
    }

    /// The key of a stored seed `d ‖ z`; any 64 bytes are one (FIPS 203, section 3.3 and
    /// algorithm 16), so that there is no malformed stored key.
    pub fn from_bytes(seed: Secret<64>) -> Self {
        if let Some(suite) = suite::entered() {
            let public = suite.kem_public(seed.expose_secret());
            return Self { seed, private: Private::StandIn(suite), public };
        }
        let (private, public) = mlkem768::generate_key_pair(*seed.expose_secret()).into_parts();
        let private = Private::MlKem(Box::new(private));
        Self { seed, private, public: Arc::new(public.into()) }
    }

    /// What to store so that the key survives a restart: the seed.
    pub fn to_bytes(&self) -> &Secret<64> {
        &self.seed
    }

    /// The public half: what others encapsulate to.
    pub fn public(&self) -> &[u8; KEM_PUBLIC_LEN] {
        &self.public
    }

    /// The same, for whoever keeps it.
    pub fn shared_public(&self) -> Arc<[u8; KEM_PUBLIC_LEN]> {
        Arc::clone(&self.public)
    }

    /// The secret inside `ciphertext`.
    ///
    /// Never fails: of a ciphertext that was not made for this key comes a secret that nobody else
    /// knows ("implicit rejection", FIPS 203, algorithm 18). Constant time.
    pub fn decapsulate(&self, ciphertext: &[u8; KEM_CIPHERTEXT_LEN]) -> Secret<32> {
        Secret::take(&mut match &self.private {
            Private::MlKem(private) => {
                mlkem768::decapsulate(private, &MlKem768Ciphertext::from(ciphertext))
            }
            Private::StandIn(suite) => suite.decapsulate(self.seed.expose_secret(), ciphertext),
        })
    }
}

/// The library does not wipe its keys.
impl Drop for KemSecret {
    fn drop(&mut self) {
        if let Private::MlKem(private) = &mut self.private {
            private[0..KEM_SECRET_LEN].zeroize();
        }
    }
}

impl fmt::Debug for KemSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// A fresh secret, and the ciphertext that tells it to the holder of `public` alone.
///
/// `None` where `public` is no encapsulation key: a coefficient of 3,329 or more (the modulus check
/// of FIPS 203, section 7.2; without it a key would have several spellings).
pub fn encapsulate(
    rng: &mut Rng,
    public: &[u8; KEM_PUBLIC_LEN],
) -> Option<([u8; KEM_CIPHERTEXT_LEN], Secret<32>)> {
    if let Some(suite) = suite::entered() {
        let (ciphertext, mut secret) = suite.encapsulate(public, rng.bytes());
        return Some((ciphertext, Secret::take(&mut secret)));
    }
    let public = MlKem768PublicKey::from(public);
    if !mlkem768::validate_public_key(&public) {
        return None;
    }
    let (ciphertext, mut secret) = mlkem768::encapsulate(&public, rng.bytes());
    Some((ciphertext.into(), Secret::take(&mut secret)))
}

/// What a hybrid exchange was: everything that its secret must be bound to.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    /// The initiator's ephemeral X25519 key.
    pub dh_initiator: &'a [u8; 32],
    /// The responder's X25519 key.
    pub dh_responder: &'a [u8; 32],
    /// The responder's ML-KEM key.
    pub kem_public: &'a [u8; KEM_PUBLIC_LEN],
    /// What the initiator encapsulated to it.
    pub kem_ciphertext: &'a [u8; KEM_CIPHERTEXT_LEN],
}

/// One secret of two: unknown to whoever cannot compute both.
///
/// KDF over both secrets, both X25519 keys, the ML-KEM key and ciphertext, and `bind` (identities,
/// salts). X-Wing (draft-connolly-cfrg-xwing-kem) leaves out the ML-KEM half of what is bound here
/// because ML-KEM hashes it itself; binding it again costs 3 us and no argument.
pub fn combine(
    context: &'static str,
    dh: &Secret<32>,
    kem: &Secret<32>,
    exchange: &Exchange<'_>,
    bind: &[&[u8]],
) -> Secret<32> {
    let mut parts: Vec<&[u8]> = vec![
        kem.expose_secret(),
        dh.expose_secret(),
        exchange.dh_initiator,
        exchange.dh_responder,
        exchange.kem_public,
        exchange.kem_ciphertext,
    ];
    parts.extend_from_slice(bind);
    kdf::derive_secret(context, &parts)
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER_PERMISSIVE as HEX;
    use proptest::prelude::{
        ProptestConfig, prop_assert, prop_assert_eq, prop_assert_ne, proptest,
    };

    use super::*;

    fn rng(seed: u8) -> Rng {
        Rng::from_seed([seed; 32])
    }

    fn hex32(text: &str) -> [u8; 32] {
        HEX.decode(text.as_bytes()).unwrap().try_into().unwrap()
    }

    /// RFC 7748, section 6.1.
    #[test]
    fn published_x25519_answers_hold() {
        let alice = DhSecret::from_bytes(Secret::take(&mut hex32(
            "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
        )));
        let bob = hex32("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
        assert_eq!(
            alice.public(),
            hex32("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
        );
        assert_eq!(
            alice.agree(&bob).unwrap().expose_secret(),
            &hex32("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
        );
    }

    #[test]
    fn both_sides_agree() {
        let (a, b) = (DhSecret::generate(&mut rng(1)), DhSecret::generate(&mut rng(2)));
        let ab = a.agree(&b.public()).unwrap();
        let ba = b.agree(&a.public()).unwrap();
        assert_eq!(ab.expose_secret(), ba.expose_secret());
    }

    /// Each of the points of order 1, 2, 4 and 8 (RFC 7748, section 6.1; Bernstein's list).
    #[test]
    fn a_point_of_low_order_agrees_on_nothing() {
        let key = DhSecret::generate(&mut rng(3));
        for point in [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        ] {
            assert!(key.agree(&hex32(point)).is_none(), "{point}");
        }
    }

    #[test]
    fn both_sides_share_what_was_encapsulated() {
        let key = KemSecret::generate(&mut rng(4));
        let (ciphertext, ours) = encapsulate(&mut rng(5), key.public()).unwrap();
        assert_eq!(ours.expose_secret(), key.decapsulate(&ciphertext).expose_secret());
    }

    #[test]
    fn a_stored_key_is_the_same_key() {
        let key = KemSecret::generate(&mut rng(4));
        let (ciphertext, ours) = encapsulate(&mut rng(5), key.public()).unwrap();
        let again =
            KemSecret::from_bytes(Secret::take(&mut key.to_bytes().expose_secret().clone()));
        assert_eq!(again.public(), key.public());
        assert_eq!(ours.expose_secret(), again.decapsulate(&ciphertext).expose_secret());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Implicit rejection: another secret, the same one each time, and never an error.
        #[test]
        fn a_changed_ciphertext_gives_another_secret(at in 0..KEM_CIPHERTEXT_LEN, bit in 0..8u32) {
            let key = KemSecret::generate(&mut rng(4));
            let (mut ciphertext, ours) = encapsulate(&mut rng(5), key.public()).unwrap();
            ciphertext[at] ^= 1 << bit;
            let theirs = key.decapsulate(&ciphertext);
            prop_assert_ne!(ours.expose_secret(), theirs.expose_secret());
            let again = key.decapsulate(&ciphertext);
            prop_assert_eq!(again.expose_secret(), theirs.expose_secret());
        }

        /// Three coefficients of 12 bits in 2 come as 3 bytes; a whole pair of 0xfff is over 3,328.
        #[test]
        fn a_coefficient_over_the_modulus_is_refused(at in 0..1152 / 3usize) {
            let mut public = *KemSecret::generate(&mut rng(4)).public();
            public[3 * at..3 * at + 3].fill(0xff);
            prop_assert!(encapsulate(&mut rng(5), &public).is_none());
        }
    }

    /// ML-KEM of another library (aws-lc-rs, FIPS 140-3 code), both ways.
    #[test]
    fn a_second_implementation_agrees() {
        use aws_lc_rs::kem::{DecapsulationKey, EncapsulationKey, ML_KEM_768};
        for seed in 0..20 {
            let ours = KemSecret::generate(&mut rng(seed));
            let theirs = EncapsulationKey::new(&ML_KEM_768, ours.public()).unwrap();
            let (ciphertext, secret) = theirs.encapsulate().unwrap();
            let ciphertext = ciphertext.as_ref().try_into().unwrap();
            assert_eq!(ours.decapsulate(ciphertext).expose_secret(), secret.as_ref());

            let theirs = DecapsulationKey::generate(&ML_KEM_768).unwrap();
            let public = theirs.encapsulation_key().unwrap().key_bytes().unwrap();
            let public = public.as_ref().try_into().unwrap();
            let (ciphertext, secret) = encapsulate(&mut rng(seed), public).unwrap();
            let opened = theirs.decapsulate(ciphertext.as_slice().into()).unwrap();
            assert_eq!(secret.expose_secret(), opened.as_ref());
        }
    }

    /// Frozen: key, ciphertext and secret that follow from fixed randomness.
    #[test]
    fn encapsulation_stays_as_it_was_frozen() {
        let key =
            KemSecret::from_bytes(Secret::take(&mut std::array::from_fn(|i| i.to_le_bytes()[0])));
        let (ciphertext, secret) = encapsulate(&mut rng(5), key.public()).unwrap();
        let all =
            kdf::hash("warren test kem 1", &[key.public(), &ciphertext, secret.expose_secret()]);
        assert_eq!(
            HEX.encode(&all),
            "ccf54c5213848de342244266f685a9244acfc260a39c9601fb914793de30e7d5"
        );
    }

    #[test]
    fn each_half_of_a_hybrid_counts() {
        let (initiator, responder) =
            (DhSecret::generate(&mut rng(1)), DhSecret::generate(&mut rng(2)));
        let kem = KemSecret::generate(&mut rng(3));
        let (kem_ciphertext, kem_secret) = encapsulate(&mut rng(4), kem.public()).unwrap();
        let dh_secret = initiator.agree(&responder.public()).unwrap();
        let exchange = Exchange {
            dh_initiator: &initiator.public(),
            dh_responder: &responder.public(),
            kem_public: kem.public(),
            kem_ciphertext: &kem_ciphertext,
        };
        let of = |dh: &Secret<32>, kem: &Secret<32>, exchange: &Exchange<'_>, bind: &[u8]| {
            *combine("warren test combine 1", dh, kem, exchange, &[bind]).expose_secret()
        };
        let whole = of(&dh_secret, &kem_secret, &exchange, b"x");
        let wrong = Secret::take(&mut [9; 32]);
        assert_eq!(whole, of(&dh_secret, &kem_secret, &exchange, b"x"));
        assert_ne!(whole, of(&wrong, &kem_secret, &exchange, b"x"));
        assert_ne!(whole, of(&dh_secret, &wrong, &exchange, b"x"));
        assert_ne!(whole, of(&dh_secret, &kem_secret, &exchange, b"y"));
        let swapped = Exchange { dh_initiator: exchange.dh_responder, ..exchange };
        assert_ne!(whole, of(&dh_secret, &kem_secret, &swapped, b"x"));
    }
}
