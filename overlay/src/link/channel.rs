//! The two ciphers of an established link: frames in, sealed bytes out, and back.
//!
//! Lives here: one direction each of sealing and opening, the masked length, the frame counter and
//! the change of keys. Does not live here: what a frame holds (`frame.rs`) and where the first keys
//! come from (`handshake.rs`).
//!
//! | bytes | field |
//! |-------|-------|
//! | 2     | (last bit 1, length of the ciphertext 15), big-endian, XOR the length stream |
//! | n     | ciphertext and tag 16; n is 19 to 16,384 |
//!
//! ```text
//! key 0 --frame--> key 0 ... --frame with the last bit--> key 1 = KDF(key 0) ...
//! ```
//!
//! The counter is the nonce. It never goes back, not even with a new key, so no pair repeats.

use std::time::Duration;

use crate::{
    crypto::{
        aead::{Aead, TAG_LEN},
        kdf,
        secret::Secret,
    },
    time::Time,
};

/// Bytes before the ciphertext: the masked length.
pub const HEAD_LEN: usize = 2;
/// Most bytes of ciphertext and tag in one frame.
pub const CIPHERTEXT_MAX: usize = 16_384;
/// Fewest: a control length, one byte and the tag.
pub const CIPHERTEXT_MIN: usize = 2 + 1 + TAG_LEN;
/// Frames under one key (DESIGN section 4). AES-GCM would bear 2^32.
pub const REKEY_FRAMES: u32 = 1 << 20;
/// Time under one key (DESIGN section 4).
pub const REKEY_AFTER: Duration = Duration::from_hours(1);

/// Set in the length of the last frame under a key.
const LAST: u16 = 0x8000;
const NEXT_KEY: &str = "warren link rekey 1";
const FIRST_KEY: &str = "warren link frame key 1";
const LENGTH_KEY: &str = "warren link length key 1";
const LENGTH_STREAM: &str = "warren link length stream 1";

/// The frame is none: the link ends. No detail on purpose: the peer learns nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame failed authentication")]
pub struct BadFrame;

/// The stream that hides lengths: two bytes a frame.
#[derive(Debug)]
struct LengthMask {
    key: Secret<32>,
    /// The piece in use.
    piece: [u8; Self::PIECE],
}

impl LengthMask {
    /// Bytes of a block: the stream begins anew with each block's number.
    const BLOCK: u64 = 256;
    /// What BLAKE3 gives at once.
    const STEP: usize = 64;
    /// Eight frames per call of the hash: 2 bytes a call would cost as much as sealing, and all that it
    /// gives would lie there unused on most links.
    const PIECE: usize = 16;

    fn new(key: Secret<32>) -> Self {
        Self { key, piece: [0; Self::PIECE] }
    }

    /// The mask of frame `number`; they are asked for in order.
    fn next(&mut self, number: u64) -> u16 {
        let used = number * 2;
        let at = usize::try_from(used % Self::PIECE as u64).unwrap_or(0);
        if at == 0 {
            let block = used / Self::BLOCK;
            let parts = [&self.key.expose_secret()[..], &block.to_be_bytes()];
            let within = used % Self::BLOCK;
            let from = within % Self::STEP as u64;
            let mut made: [u8; Self::STEP] = kdf::derive_at(LENGTH_STREAM, &parts, within - from);
            let wanted = made.as_chunks().0.get(usize::try_from(from).unwrap_or(0) / Self::PIECE);
            self.piece = wanted.copied().unwrap_or_default();
            zeroize::Zeroize::zeroize(&mut made);
        }
        let mask = self.piece.get(at..).and_then(<[u8]>::first_chunk).copied();
        u16::from_be_bytes(mask.unwrap_or_default())
    }
}

impl Drop for LengthMask {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.piece);
    }
}

/// One direction: key, counter, and how long the key has served.
#[derive(Debug)]
struct Direction {
    key: Secret<32>,
    aead: Aead,
    mask: LengthMask,
    /// Frames so far: the next nonce.
    counter: u64,
    /// Frames under this key.
    under_key: u32,
    /// Most frames under any key, at least 1.
    rekey_frames: u32,
}

impl Direction {
    fn new(split: &Secret<32>, rekey_frames: u32) -> Self {
        let rekey_frames = rekey_frames.max(1);
        let key = kdf::derive_secret(FIRST_KEY, &[split.expose_secret()]);
        let mask = LengthMask::new(kdf::derive_secret(LENGTH_KEY, &[split.expose_secret()]));
        Self { aead: Aead::new(&key), key, mask, counter: 0, under_key: 0, rekey_frames }
    }

    fn step(&mut self, last: bool) {
        self.counter += 1;
        self.under_key += 1;
        if last {
            self.key = kdf::derive_secret(NEXT_KEY, &[self.key.expose_secret()]);
            self.aead = Aead::new(&self.key);
            self.under_key = 0;
        }
    }
}

/// Seals what this side sends.
#[derive(Debug)]
pub struct Sealer {
    direction: Direction,
    keyed_at: Time,
}

impl Sealer {
    /// Frames that were sealed.
    pub const fn frames(&self) -> u64 {
        self.direction.counter
    }

    /// A sealer over one of the handshake's split keys, which is wiped.
    pub fn new(now: Time, split: &Secret<32>, rekey_frames: u32) -> Self {
        Self { direction: Direction::new(split, rekey_frames), keyed_at: now }
    }

    /// Seals `buffer[start..]`, which is [`HEAD_LEN`] spare bytes and the plaintext, in place, and
    /// appends the tag.
    pub fn seal(&mut self, now: Time, buffer: &mut Vec<u8>, start: usize) {
        let direction = &mut self.direction;
        let last = direction.under_key + 1 >= direction.rekey_frames
            || now.since(self.keyed_at) >= REKEY_AFTER;
        let Some((head, plain)) =
            buffer.get_mut(start..).and_then(<[u8]>::split_first_chunk_mut::<HEAD_LEN>)
        else {
            return;
        };
        let length = u16::try_from(plain.len() + TAG_LEN).expect("frames are at most 16 KiB");
        debug_assert!(usize::from(length) <= CIPHERTEXT_MAX);
        let flagged = if last { length | LAST } else { length };
        *head = (flagged ^ direction.mask.next(direction.counter)).to_be_bytes();
        let tag = direction.aead.seal_in_place(direction.counter, &flagged.to_be_bytes(), plain);
        buffer.extend_from_slice(&tag);
        direction.step(last);
        if last {
            self.keyed_at = now;
        }
    }
}

/// What the masked length said: how much to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head(u16);

impl Head {
    /// Bytes of ciphertext and tag that follow.
    pub const fn len(self) -> usize {
        (self.0 & !LAST) as usize
    }

    /// Never: the shortest frame has 19 bytes.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// Opens what the peer sends.
#[derive(Debug)]
pub struct Opener {
    direction: Direction,
}

impl Opener {
    /// Frames that were opened.
    pub const fn frames(&self) -> u64 {
        self.direction.counter
    }

    /// An opener over one of the handshake's split keys.
    pub fn new(split: &Secret<32>, rekey_frames: u32) -> Self {
        Self { direction: Direction::new(split, rekey_frames) }
    }

    /// Unmasks a length; once per frame, in order.
    ///
    /// # Errors
    /// If no frame is that long or that short, or the key has served its time.
    pub fn head(&mut self, masked: [u8; HEAD_LEN]) -> Result<Head, BadFrame> {
        let mask = self.direction.mask.next(self.direction.counter);
        let head = Head(u16::from_be_bytes(masked) ^ mask);
        let overdue = self.direction.under_key >= self.direction.rekey_frames;
        if overdue || !(CIPHERTEXT_MIN..=CIPHERTEXT_MAX).contains(&head.len()) {
            return Err(BadFrame);
        }
        Ok(head)
    }

    /// Opens the `head.len()` bytes that follow a head, in place, and lends the plaintext.
    ///
    /// # Errors
    /// If anything about the frame is not as it was sealed.
    pub fn open<'a>(&mut self, head: Head, sealed: &'a mut [u8]) -> Result<&'a mut [u8], BadFrame> {
        let (plain, tag) = sealed.split_last_chunk_mut::<TAG_LEN>().ok_or(BadFrame)?;
        let direction = &mut self.direction;
        direction
            .aead
            .open_in_place(direction.counter, &head.0.to_be_bytes(), plain, tag)
            .map_err(|_| BadFrame)?;
        direction.step(head.0 & LAST != 0);
        Ok(plain)
    }
}
