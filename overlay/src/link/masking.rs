//! The look of handshake messages: random bytes to whoever lacks the responder's identity.
//!
//! Lives here: mac, mask and length of one handshake message on the wire. Does not live here: what
//! is masked (`crypto/noise.rs`), when to give up (`handshake.rs`).
//!
//! | bytes | field |
//! |-------|-------|
//! | 16    | mac: BLAKE3 keyed from the responder's identity, over the salt and all that follows |
//! | 2     | length n of the Noise message, big-endian, XOR the keystream |
//! | n     | Noise message, XOR the keystream |
//!
//! Message 1 is preceded by its salt, 16 random bytes. Messages 2 and 3 have a key from the
//! transcript in place of the salt, which is not sent. The length is believed as soon as it has
//! come, because it says where the mac's text ends; it is bounded, costs nothing but waiting, and
//! a wrong one ends like every other wrong byte: in silence.

use crate::{crypto::kdf, id::RouterId};

/// Bytes of the salt before message 1.
pub(super) const SALT_LEN: usize = 16;
/// Bytes of mac and length.
pub(super) const HEAD_LEN: usize = 16 + 2;

const MAC_KEY: &str = "warren link handshake mac 1";
const MASK: &str = "warren link handshake mask 1";

/// How one message is masked.
#[derive(Debug)]
pub(super) struct Masking {
    responder: RouterId,
    salt: Vec<u8>,
}

impl Masking {
    /// The mask that follows from the responder and a salt or transcript key.
    pub(super) fn new(responder: RouterId, salt: &[u8]) -> Self {
        Self { responder, salt: salt.to_vec() }
    }

    /// Appends the masked form of a Noise message.
    pub(super) fn seal(&self, noise: &[u8], wire: &mut Vec<u8>) {
        let mut text = Vec::with_capacity(2 + noise.len());
        text.extend_from_slice(&u16::try_from(noise.len()).unwrap_or(u16::MAX).to_be_bytes());
        text.extend_from_slice(noise);
        self.mask(&mut text);
        wire.extend_from_slice(&self.mac(&text));
        wire.extend_from_slice(&text);
    }

    /// How many bytes follow a head.
    pub(super) fn length(&self, head: &[u8; HEAD_LEN]) -> usize {
        let [.., a, b] = *head;
        let mut length = [a, b];
        self.mask(&mut length);
        usize::from(u16::from_be_bytes(length))
    }

    /// Checks a whole message, head included, and unmasks it in place.
    pub(super) fn open<'a>(&self, wire: &'a mut [u8]) -> Option<&'a [u8]> {
        let (mac, text) = wire.split_first_chunk_mut::<16>()?;
        if !kdf::eq(mac, &self.mac(text)) {
            return None;
        }
        self.mask(text);
        text.get(2..)
    }

    fn mask(&self, text: &mut [u8]) {
        kdf::xor_keystream(MASK, &[self.responder.as_bytes(), &self.salt], text);
    }

    fn mac(&self, text: &[u8]) -> [u8; 16] {
        let key = kdf::derive(MAC_KEY, &[self.responder.as_bytes()]);
        kdf::mac16(&key, &[&self.salt, text])
    }
}
