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
    cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit, consts::U16},
};
use polyval::{Polyval, universal_hash::UniversalHash};
use zeroize::Zeroize;

/// Length of a cell's tag, the cipher's left half, in bytes.
pub(super) const TAG_LEN: usize = 16;
/// Length of all keys of one layer, `kb ‖ ku ‖ ks ‖ b`, in bytes.
pub(super) const KEYS_LEN: usize = 64;
/// Longest body, in bytes.
#[cfg(test)]
pub(super) const BODY_LEN_MAX: usize = 1008;
/// Blocks of keystream that are made at once, though a body takes one less: of 64, `aes` makes all
/// with the widest instructions (AVX-512), of 63 each by itself.
const STREAM_BLOCKS: usize = 64;
/// What of the tweak is put together before it is hashed: 8 blocks, which POLYVAL takes at once. No
/// body is shorter than the rest of them.
const HEAD_LEN: usize = 8 * TAG_LEN;

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
    /// m of E: POLYVAL over `T' ‖ cmd ‖ body`, padded with zeros to whole blocks.
    ///
    /// The body lies one byte off the blocks. All but its head is hashed where it lies.
    fn mask(&self, tweak: Tweak<'_>, body: &[u8]) -> Block {
        debug_assert!(body.len() >= HEAD_LEN - TAG_LEN - 1);
        let mut head = [0; HEAD_LEN];
        let (first, rest) = body.split_at(body.len().min(HEAD_LEN - TAG_LEN - 1));
        let (to_tag, to_rest) = head.split_at_mut(TAG_LEN);
        to_tag.copy_from_slice(tweak.previous);
        if let Some((to_command, to_body)) = to_rest.split_first_mut() {
            *to_command = tweak.command;
            if let Some(to_body) = to_body.get_mut(..first.len()) {
                to_body.copy_from_slice(first);
            }
        }
        let mut hash = self.e_hash.clone();
        let (head, _) = Block::slice_as_chunks(&head);
        hash.update(head);
        hash.update_padded(rest);
        hash.finalize()
    }

    /// XORs F(x, 0) or, from `first_block` on, F(x, 1) over `data`.
    ///
    /// AES-CTR of which the counter never leaves the cleared bits, so that the last byte is all in
    /// which its blocks differ.
    fn apply_f(&self, streams: Streams, x: &[u8; TAG_LEN], first_block: u8, data: &mut [u8]) {
        let mut hash = self.f_hash.clone();
        hash.update(&[Block::from(*x)]);
        let iv = u128::from_be_bytes(hash.finalize().into());
        let iv = iv & (u128::MAX << streams.cleared_bits) | u128::from(first_block);
        for (part, done) in
            data.chunks_mut(STREAM_BLOCKS * TAG_LEN).zip((0..).step_by(STREAM_BLOCKS))
        {
            let mut stream = [Block::default(); STREAM_BLOCKS];
            let needed = part.len().div_ceil(TAG_LEN);
            let used = if needed > STREAM_BLOCKS / 2 { STREAM_BLOCKS } else { needed };
            let (stream, _) = stream.split_at_mut(used);
            for (block, number) in stream.iter_mut().zip(done..) {
                *block = (iv + number).to_be_bytes().into();
            }
            self.f.encrypt_blocks(stream);
            for (byte, key) in part.iter_mut().zip(Block::slice_as_flattened(stream)) {
                *byte ^= key;
            }
            if first_block != 0 {
                Block::slice_as_flattened_mut(stream).zeroize(); // it held the next keys
            }
        }
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
