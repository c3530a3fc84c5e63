//! UIV+: the wide-block tweakable cipher under every tunnel cell.
//!
//! Lives here: one encryption and one decryption of a whole cell, and the key update. Does not live
//! here: chaining, recognition and who may do what (`onion.rs`).
//!
//! Degabriele, Melloni, Muench, Stam, "Counter Galois Onion" (IACR ePrint 2025/583); Tor proposal
//! 359. In words: docs/spec/crypto.md, "Onion layer". Keys are `J = kb ‖ ku` and `S = ks ‖ b`.
//!
//! ```text
//!           left 16                    right (body)
//!              │                            │
//!              ▼          tweak             │
//!            E(J) ◄──── T' ‖ cmd ‖ ─────────┤      E = AES(kb, x ^ m) ^ m,  m = POLYVAL(ku, tweak)
//!              │                            ▼
//!              ├────────── F(S, 0) ───────► ^      F = AES-CTR(ks) from POLYVAL(b, left')
//!              ▼                            ▼
//!            left'                        right'
//! ```

use std::fmt;

use aes::{
    Aes128Dec, Aes128Enc,
    cipher::{
        Array, BlockCipherDecrypt, BlockCipherEncrypt, InnerIvInit, KeyInit, StreamCipherCore,
        consts::U16,
    },
};
use ctr::{CtrCore, flavors::Ctr32BE};
use polyval::{Polyval, universal_hash::UniversalHash};
use zeroize::Zeroize;

/// Length of a cell's tag, the cipher's left half, in bytes.
pub(super) const TAG_LEN: usize = 16;
/// Length of all keys of one layer, `kb ‖ ku ‖ ks ‖ b`, in bytes.
pub(super) const KEYS_LEN: usize = 64;
/// Longest body, in bytes.
pub(super) const BODY_LEN_MAX: usize = 1008;

/// The longest tweak, `T' ‖ cmd ‖ body`, in whole blocks.
const TWEAK_LEN_MAX: usize = (TAG_LEN + 1 + BODY_LEN_MAX).next_multiple_of(16);

/// Where in AES-CTR's counter space the two streams of F lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Streams {
    /// How many low bits of the IV are cleared, so that no counter ever carries into the rest.
    pub(super) cleared_bits: u32,
    /// The block at which the stream for UPDATE starts: past the longest body, and its 5 blocks
    /// still within `cleared_bits`.
    pub(super) update_block: u8,
}

/// Ours: a body of 1,008 bytes takes blocks 0 to 62, UPDATE 64 to 68, all below 128.
pub(super) const WARREN: Streams = Streams { cleared_bits: 7, update_block: 64 };
/// Tor's, for its known answers: 493 bytes take blocks 0 to 30, UPDATE 31 to 35, all below 64.
#[cfg(test)]
pub(super) const TOR: Streams = Streams { cleared_bits: 6, update_block: 31 };

type Block = Array<u8, U16>;

/// What is fed into both halves of the cipher beside the cell itself.
#[derive(Clone, Copy)]
pub(super) struct Tweak<'a> {
    /// The previous cell's tag, T'.
    pub(super) previous: &'a [u8; TAG_LEN],
    /// The command.
    pub(super) command: u8,
}

/// The half of the schedule that both directions share, and the cipher C of E in one direction.
struct Schedule<C> {
    e: C,
    e_hash: Polyval,
    f: Aes128Enc,
    f_hash: Polyval,
}

impl<C: KeyInit> Schedule<C> {
    fn new(keys: &[u8; KEYS_LEN]) -> Self
    where
        C: aes::cipher::KeySizeUser<KeySize = U16>,
    {
        let (blocks, _) = Block::slice_as_chunks(keys);
        let [kb, ku, ks, b] = blocks else { unreachable!("64 bytes are 4 blocks") };
        Self {
            e: C::new(kb),
            e_hash: Polyval::new(ku),
            f: Aes128Enc::new(ks),
            f_hash: Polyval::new(b),
        }
    }
}

impl<C> Schedule<C> {
    /// m of E.
    fn mask(&self, tweak: Tweak<'_>, body: &[u8]) -> Block {
        let mut padded = [0; TWEAK_LEN_MAX];
        let used = (TAG_LEN + 1 + body.len()).next_multiple_of(16);
        let (head, rest) = padded.split_at_mut(TAG_LEN);
        head.copy_from_slice(tweak.previous);
        for (to, from) in rest.iter_mut().zip([tweak.command]) {
            *to = from;
        }
        if let Some(to) = rest.get_mut(1..=body.len()) {
            to.copy_from_slice(body);
        }
        let mut hash = self.e_hash.clone();
        hash.update_padded(padded.get(..used).unwrap_or(&padded));
        hash.finalize()
    }

    /// XORs F(x, 0) or, from `first_block` on, F(x, 1) over `data`.
    fn apply_f(&self, streams: Streams, x: &[u8; TAG_LEN], first_block: u8, data: &mut [u8]) {
        let mut hash = self.f_hash.clone();
        hash.update(&[Block::from(*x)]);
        let mut iv = hash.finalize();
        if let Some(low) = iv.last_mut() {
            *low = (*low & (0xff << streams.cleared_bits)) | first_block;
        }
        // A 32-bit counter is enough: it never leaves the cleared bits.
        CtrCore::<_, Ctr32BE>::inner_iv_init(&self.f, &iv).apply_keystream_partial(data.into());
    }

    /// F(previous, 1): the next keys and nonce.
    fn update(&self, streams: Streams, previous: &[u8; TAG_LEN]) -> Update {
        let mut stream = [0; KEYS_LEN + TAG_LEN];
        self.apply_f(streams, previous, streams.update_block, &mut stream);
        let mut update = Update { keys: [0; KEYS_LEN], nonce: [0; TAG_LEN] };
        let (keys, nonce) = stream.split_at(KEYS_LEN);
        update.keys.copy_from_slice(keys);
        update.nonce.copy_from_slice(nonce);
        stream.zeroize();
        update
    }
}

/// What a layer's keys and nonce become.
#[derive(Zeroize)]
#[zeroize(drop)]
struct Update {
    keys: [u8; KEYS_LEN],
    nonce: [u8; TAG_LEN],
}

/// What relays can do: encrypt.
pub(super) struct Encryptor(Schedule<Aes128Enc>);

impl Encryptor {
    pub(super) fn new(keys: &[u8; KEYS_LEN]) -> Self {
        Self(Schedule::new(keys))
    }

    /// Encrypts `left ‖ right` in place.
    #[inline]
    pub(super) fn encrypt(
        &self,
        streams: Streams,
        tweak: Tweak<'_>,
        left: &mut [u8; TAG_LEN],
        right: &mut [u8],
    ) {
        let mask = self.0.mask(tweak, right);
        let mut block = xor(&Block::from(*left), &mask);
        self.0.e.encrypt_block(&mut block);
        *left = xor(&block, &mask).into();
        self.0.apply_f(streams, left, 0, right);
    }

    /// Replaces keys and nonce by F(previous, 1).
    pub(super) fn update(
        &mut self,
        streams: Streams,
        previous: &[u8; TAG_LEN],
        nonce: &mut [u8; TAG_LEN],
    ) {
        let next = self.0.update(streams, previous);
        *self = Self::new(&next.keys);
        *nonce = next.nonce;
    }
}

/// What owners can do: decrypt.
pub(super) struct Decryptor(Schedule<Aes128Dec>);

impl Decryptor {
    pub(super) fn new(keys: &[u8; KEYS_LEN]) -> Self {
        Self(Schedule::new(keys))
    }

    /// Undoes [`Encryptor::encrypt`] under the same tweak.
    #[inline]
    pub(super) fn decrypt(
        &self,
        streams: Streams,
        tweak: Tweak<'_>,
        left: &mut [u8; TAG_LEN],
        right: &mut [u8],
    ) {
        self.0.apply_f(streams, left, 0, right);
        let mask = self.0.mask(tweak, right);
        let mut block = xor(&Block::from(*left), &mask);
        self.0.e.decrypt_block(&mut block);
        *left = xor(&block, &mask).into();
    }

    /// Replaces keys and nonce by F(previous, 1).
    pub(super) fn update(
        &mut self,
        streams: Streams,
        previous: &[u8; TAG_LEN],
        nonce: &mut [u8; TAG_LEN],
    ) {
        let next = self.0.update(streams, previous);
        *self = Self::new(&next.keys);
        *nonce = next.nonce;
    }
}

impl fmt::Debug for Encryptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

impl fmt::Debug for Decryptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

fn xor(a: &Block, b: &Block) -> Block {
    let ab = u128::from_ne_bytes((*a).into()) ^ u128::from_ne_bytes((*b).into());
    ab.to_ne_bytes().into()
}

#[cfg(test)]
#[path = "uiv_tests.rs"]
mod tests;
