//! The first pass over a file: its length and hash, from which its keys follow.
//!
//! Lives here: the hash and the pieces by which the second pass notices that the file changed in
//! between. Does not live here: keys (`key.rs`).
//!
//! ```text
//! piece hash   = BLAKE3("warren file piece 1"; up to 1 MiB)
//! content hash = H("warren file content 1"; length, piece hashes)
//! ```
//!
//! Why pieces: the second pass seals under a key that follows from the hash. A file that changed
//! meanwhile would be a second text under that key and nonce; by its pieces it is refused before a
//! byte of it is sealed.

use std::fmt;

use warren_overlay::crypto::kdf::{self, Streamed};

use super::layout::FILE_LEN_MAX;

const PIECE: &str = "warren file piece 1";
const CONTENT: &str = "warren file content 1";

/// Length of a piece in bytes.
pub(crate) const PIECE_LEN: usize = 1 << 20;

/// What the first pass found out.
pub struct Content {
    len: u64,
    hash: [u8; 32],
    pieces: Vec<[u8; 32]>,
}

impl Content {
    /// The content of bytes that are all there.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Length in bytes.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no bytes.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The hash of it all. Whoever has it can confirm the content: treat it like the content.
    pub const fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    pub(crate) fn piece(&self, at: usize) -> Option<&[u8; 32]> {
        self.pieces.get(at)
    }
}

/// Mute.
impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// Takes a file's bytes in order, in parts of any length.
///
/// Remembers 32 bytes of each MiB, and of a file longer than [`FILE_LEN_MAX`] no more of them.
pub struct Hasher {
    len: u64,
    piece: Streamed,
    in_piece: usize,
    pieces: Vec<[u8; 32]>,
}

impl Default for Hasher {
    fn default() -> Self {
        Self { len: 0, piece: Streamed::new(PIECE), in_piece: 0, pieces: Vec::new() }
    }
}

impl Hasher {
    /// The next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        self.len = self.len.saturating_add(bytes.len() as u64);
        if self.len > FILE_LEN_MAX {
            return;
        }
        while !bytes.is_empty() {
            let take = bytes.len().min(PIECE_LEN - self.in_piece);
            let (head, rest) = bytes.split_at(take);
            self.piece.update(head);
            self.in_piece += take;
            if self.in_piece == PIECE_LEN {
                self.end_piece();
            }
            bytes = rest;
        }
    }

    fn end_piece(&mut self) {
        self.pieces.push(self.piece.finish());
        self.piece = Streamed::new(PIECE);
        self.in_piece = 0;
    }

    /// What all the bytes come to.
    pub fn finish(mut self) -> Content {
        if self.in_piece > 0 {
            self.end_piece();
        }
        let hash = kdf::hash(CONTENT, &[&self.len.to_le_bytes(), self.pieces.as_flattened()]);
        Content { len: self.len, hash, pieces: self.pieces }
    }
}

/// The hash of one piece.
pub(crate) fn piece_hash(bytes: &[u8]) -> [u8; 32] {
    let mut piece = Streamed::new(PIECE);
    piece.update(bytes);
    piece.finish()
}

/// Mute.
impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_the_bytes_are_cut_does_not_matter() {
        let bytes: Vec<u8> =
            (0..PIECE_LEN * 2 + 77).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let whole = Content::of(&bytes);
        for step in [1_000, PIECE_LEN, PIECE_LEN - 1] {
            let mut hasher = Hasher::default();
            bytes.chunks(step).for_each(|part| hasher.update(part));
            let parts = hasher.finish();
            assert_eq!((parts.hash(), parts.len()), (whole.hash(), whole.len()));
        }
        assert_eq!(whole.pieces.len(), 3);
        assert_eq!(whole.piece(2), Some(&piece_hash(&bytes[2 * PIECE_LEN..])));
        assert_ne!(Content::of(&bytes[1..]).hash(), whole.hash());
        assert_ne!(Content::of(&[0]).hash(), Content::of(&[]).hash());
    }
}
