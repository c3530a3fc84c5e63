//! Our primitives, as snow wants them.
//!
//! Lives here: X25519, AES-256-GCM and SHA-256 behind snow's traits, and what a simulator's stand-in
//! gives in their place. Does not live here: the handshakes (`noise.rs`).

use aes_gcm::{
    Aes256Gcm,
    aead::{AeadInOut, KeyInit},
};
use sha2::{Digest, Sha256};
use snow::{
    params::{CipherChoice, DHChoice, HashChoice},
    resolvers::CryptoResolver,
    types::{Cipher, Dh, Hash, Random},
};
use zeroize::Zeroize;

use crate::crypto::{
    aead::TAG_LEN,
    kem::DhSecret,
    secret::Secret,
    suite::{self, AeadKey, Suite},
};

/// Our primitives, for snow.
pub(super) struct Resolver {
    /// The one private key that a handshake generates.
    pub(super) ephemeral: Secret<32>,
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Once(Some(Secret::take(&mut self.ephemeral.expose_secret().clone())))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        matches!(choice, DHChoice::Curve25519).then(|| Box::new(X25519(None)) as Box<dyn Dh>)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        matches!(choice, HashChoice::SHA256).then(|| match suite::entered() {
            None => Box::new(Sha256Hash(Sha256::new())) as Box<dyn Hash>,
            Some(suite) => Box::new(StandInHash(suite, Vec::new())),
        })
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        matches!(choice, CipherChoice::AESGCM).then(|| match suite::entered() {
            None => Box::new(AesGcm(None)) as Box<dyn Cipher>,
            Some(suite) => Box::new(StandInCipher(suite, None)),
        })
    }
}

/// Gives its 32 bytes once, then fails: a handshake draws one ephemeral and nothing else.
struct Once(Option<Secret<32>>);

impl Random for Once {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        let bytes = self.0.take().ok_or(snow::Error::Rng)?;
        dest.first_chunk_mut().map(|to| *to = *bytes.expose_secret()).ok_or(snow::Error::Rng)
    }
}

struct X25519(Option<(DhSecret, [u8; 32])>);

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, privkey: &[u8]) {
        if let Ok(mut bytes) = <[u8; 32]>::try_from(privkey) {
            let secret = DhSecret::from_bytes(Secret::take(&mut bytes));
            let public = secret.public();
            self.0 = Some((secret, public));
        }
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        let mut bytes = [0; 32];
        rng.try_fill_bytes(&mut bytes)?;
        self.set(&bytes);
        bytes.zeroize();
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        self.0.as_ref().map_or(&[0; 32], |(_, public)| public)
    }

    fn privkey(&self) -> &[u8] {
        self.0.as_ref().map_or(&[0; 32], |(secret, _)| secret.secret_bytes().expose_secret())
    }

    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let theirs = pubkey.first_chunk().ok_or(snow::Error::Dh)?;
        let (secret, _) = self.0.as_ref().ok_or(snow::Error::Dh)?;
        let shared = secret.agree(theirs).ok_or(snow::Error::Dh)?;
        let to = out.first_chunk_mut().ok_or(snow::Error::Dh)?;
        *to = *shared.expose_secret();
        Ok(())
    }
}

/// AES-256-GCM of the `aes-gcm` crate: handshakes are few bytes, and its pure Rust is enough there.
struct AesGcm(Option<Aes256Gcm>);

/// Noise's nonce for AESGCM: four zero bytes, then the counter, big-endian.
fn nonce_of(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    let (_, low) = nonce.split_at_mut(4);
    low.copy_from_slice(&counter.to_be_bytes());
    nonce
}

impl Cipher for AesGcm {
    fn name(&self) -> &'static str {
        "AESGCM"
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.0 = Some(Aes256Gcm::new(key.into()));
    }

    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        // snow checks the room and sets the key before it calls.
        let len = plaintext.len();
        let (Some(cipher), Some((data, rest))) = (&self.0, out.split_at_mut_checked(len)) else {
            return 0;
        };
        data.copy_from_slice(plaintext);
        let sealed = cipher.encrypt_inout_detached(&nonce_of(nonce).into(), authtext, data.into());
        let (Ok(tag), Some(to)) = (sealed, rest.first_chunk_mut::<TAG_LEN>()) else { return 0 };
        *to = tag.into();
        len + TAG_LEN
    }

    fn decrypt(
        &self,
        nonce: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, snow::Error> {
        let (data, tag) = ciphertext.split_last_chunk::<TAG_LEN>().ok_or(snow::Error::Decrypt)?;
        let cipher = self.0.as_ref().ok_or(snow::Error::Decrypt)?;
        let out = out.get_mut(..data.len()).ok_or(snow::Error::Decrypt)?;
        out.copy_from_slice(data);
        cipher
            .decrypt_inout_detached(&nonce_of(nonce).into(), authtext, out.into(), &(*tag).into())
            .map_err(|_| snow::Error::Decrypt)?;
        Ok(data.len())
    }
}

struct Sha256Hash(Sha256);

impl Hash for Sha256Hash {
    fn name(&self) -> &'static str {
        "SHA256"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.0.reset();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        let hash = self.0.finalize_reset();
        if let Some(to) = out.first_chunk_mut() {
            *to = <[u8; 32]>::from(hash);
        }
    }
}

/// A stand-in for [`AesGcm`].
struct StandInCipher(&'static dyn Suite, Option<Box<dyn AeadKey>>);

impl Cipher for StandInCipher {
    fn name(&self) -> &'static str {
        "AESGCM"
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.1 = Some(self.0.aead(key));
    }

    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let len = plaintext.len();
        let (Some(key), Some((data, rest))) = (&self.1, out.split_at_mut_checked(len)) else {
            return 0;
        };
        data.copy_from_slice(plaintext);
        let tag = key.seal(nonce, authtext, data);
        let Some(to) = rest.first_chunk_mut::<TAG_LEN>() else { return 0 };
        *to = tag;
        len + TAG_LEN
    }

    fn decrypt(
        &self,
        nonce: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, snow::Error> {
        let (data, tag) = ciphertext.split_last_chunk::<TAG_LEN>().ok_or(snow::Error::Decrypt)?;
        let key = self.1.as_ref().ok_or(snow::Error::Decrypt)?;
        let out = out.get_mut(..data.len()).ok_or(snow::Error::Decrypt)?;
        out.copy_from_slice(data);
        if key.open(nonce, authtext, out, tag) { Ok(data.len()) } else { Err(snow::Error::Decrypt) }
    }
}

/// A stand-in for [`Sha256Hash`]: gathers the text.
struct StandInHash(&'static dyn Suite, Vec<u8>);

impl Hash for StandInHash {
    fn name(&self) -> &'static str {
        "SHA256"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        self.1.clear();
    }

    fn input(&mut self, data: &[u8]) {
        self.1.extend_from_slice(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        if let Some(to) = out.first_chunk_mut() {
            *to = self.0.digest(&self.1);
        }
        self.1.clear();
    }
}
