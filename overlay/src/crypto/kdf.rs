//! Hashing and deriving keys: all of it BLAKE3, each use under a context string of its own.
//!
//! Lives here: hash, key derivation, keystream, short MAC, and the constant-time comparison.
//! Does not live here: the context strings, which stand beside their single use and are listed in
//! docs/spec/crypto.md (a test there keeps the table honest).
//!
//! Every input is a list of parts. Each part is preceded by its length (u64, little-endian), so that
//! two different lists never hash the same bytes: `["ab", "c"]` is not `["a", "bc"]`.

use std::fmt;

use blake3::Hasher;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use super::{secret::Secret, suite};

/// What a 32-byte hash of these parts is, for everyone who knows them.
///
/// BLAKE3 in `derive_key` mode under `context` ("warren ... 1"): hashes under different contexts are
/// unrelated, also to any plain or keyed BLAKE3 of the same bytes.
pub fn hash(context: &'static str, parts: &[&[u8]]) -> [u8; 32] {
    derive(context, parts)
}

/// [`hash`] of one text whose length follows from its type, without a length in front of it.
///
/// For large units only: eight bytes in front would shift the text against BLAKE3's 1 KiB chunks and
/// cost half the speed. Use a context in which nothing but texts of this length are hashed.
pub fn hash_exact<const N: usize>(context: &'static str, text: &[u8; N]) -> [u8; 32] {
    *Hasher::new_derive_key(context).update(text).finalize().as_bytes()
}

/// [`hash`] of one long text that comes piece by piece, without a length in front of it.
///
/// Use a context under which nothing else is hashed. Wipes its state on drop.
pub struct Streamed(Hasher);

impl Streamed {
    /// Nothing yet.
    pub fn new(context: &'static str) -> Self {
        Self(Hasher::new_derive_key(context))
    }

    /// Appends to the text.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all that was appended; may be asked at any time.
    pub fn finish(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Mute: it follows from somebody's text.
impl fmt::Debug for Streamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// `N` bytes that follow from the parts and give nothing away about them.
///
/// Output of any length is the prefix of one stream, so `derive::<16>` is the head of
/// `derive::<32>`: use another context where both are needed.
pub fn derive<const N: usize>(context: &'static str, parts: &[&[u8]]) -> [u8; N] {
    derive_at(context, parts, 0)
}

/// What [`derive`] would give from byte `at` on, a multiple of 64, without what comes before.
pub fn derive_at<const N: usize>(context: &'static str, parts: &[&[u8]], at: u64) -> [u8; N] {
    let mut out = [0; N];
    fill(context, parts, at, &mut out);
    out
}

/// [`derive`] for keys: the result wipes itself.
pub fn derive_secret<const N: usize>(context: &'static str, parts: &[&[u8]]) -> Secret<N> {
    let mut out = Secret::zeroed();
    fill(context, parts, 0, out.expose_mut());
    out
}

/// XORs the stream that follows from the parts over `data`; doing it twice undoes it.
///
/// Hides, does not authenticate. One (context, parts) must mask one text only.
pub fn xor_keystream(context: &'static str, parts: &[&[u8]], data: &mut [u8]) {
    let mut block = [0; 1024];
    if let Some(suite) = suite::entered() {
        for (chunk, at) in data.chunks_mut(block.len()).zip((0..).step_by(block.len())) {
            let (block, _) = block.split_at_mut(chunk.len());
            suite.stream(context.as_bytes(), parts, at, block);
            xor(chunk, block);
        }
        return;
    }
    let mut hasher = Hasher::new_derive_key(context);
    absorb(&mut hasher, parts);
    let mut stream = hasher.finalize_xof();
    for chunk in data.chunks_mut(block.len()) {
        stream.fill(&mut block);
        xor(chunk, &block);
    }
    block.zeroize();
    hasher.zeroize();
    stream.zeroize();
}

fn xor(data: &mut [u8], mask: &[u8]) {
    for (byte, mask) in data.iter_mut().zip(mask) {
        *byte ^= mask;
    }
}

/// A 16-byte tag over the parts that only who holds `key` can make.
///
/// BLAKE3 in keyed mode, cut to 16 bytes. The key must come from [`derive`] under a context of its
/// own, or be used for nothing else. Compare with [`eq`].
pub fn mac16(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 16] {
    let mut out = [0; 16];
    match suite::entered() {
        Some(suite) => suite.stream(key, parts, 0, &mut out),
        None => hashed(Hasher::new_keyed(key), parts, 0, &mut out),
    }
    out
}

/// Whether two byte strings are the same, in time that depends on their lengths only.
pub fn eq(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

fn fill(context: &'static str, parts: &[&[u8]], at: u64, out: &mut [u8]) {
    match suite::entered() {
        Some(suite) => suite.stream(context.as_bytes(), parts, at, out),
        None => hashed(Hasher::new_derive_key(context), parts, at, out),
    }
}

fn hashed(mut hasher: Hasher, parts: &[&[u8]], at: u64, out: &mut [u8]) {
    absorb(&mut hasher, parts);
    let mut stream = hasher.finalize_xof();
    stream.set_position(at);
    stream.fill(out);
    stream.zeroize();
    hasher.zeroize();
}

fn absorb(hasher: &mut Hasher, parts: &[&[u8]]) {
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: &str = "warren test a 1";
    const B: &str = "warren test b 1";

    #[test]
    fn borders_between_parts_count() {
        assert_ne!(hash(A, &[b"ab", b"c"]), hash(A, &[b"a", b"bc"]));
        assert_ne!(hash(A, &[b"ab"]), hash(A, &[b"ab", b""]));
        assert_ne!(mac16(&[1; 32], &[b"ab", b"c"]), mac16(&[1; 32], &[b"a", b"bc"]));
    }

    #[test]
    fn an_exact_hash_is_blake3_derive_key_of_the_bare_text() {
        assert_eq!(hash_exact(A, b"text"), blake3::derive_key(A, b"text"));
        assert_ne!(hash_exact(A, b"text"), hash(A, &[b"text"]));
        let mut streamed = Streamed::new(A);
        streamed.update(b"te");
        streamed.update(b"xt");
        assert_eq!(streamed.finish(), hash_exact(A, b"text"));
    }

    #[test]
    fn contexts_do_not_meet() {
        assert_ne!(hash(A, &[b"x"]), hash(B, &[b"x"]));
    }

    #[test]
    fn derivation_is_blake3_derive_key_over_length_prefixed_parts() {
        let mut plain = Vec::new();
        for part in [&b"one"[..], b"", b"three"] {
            plain.extend_from_slice(&(part.len() as u64).to_le_bytes());
            plain.extend_from_slice(part);
        }
        let parts: [&[u8]; 3] = [b"one", b"", b"three"];
        assert_eq!(hash(A, &parts), blake3::derive_key(A, &plain));
        assert_eq!(derive_secret::<32>(A, &parts).expose_secret(), &hash(A, &parts));
        let mac = blake3::keyed_hash(&[9; 32], &plain);
        assert_eq!(mac16(&[9; 32], &parts)[..], mac.as_bytes()[..16]);
    }

    /// BLAKE3's own published vectors, the row of the empty input.
    #[test]
    fn the_library_gives_the_published_answers() {
        let context = "BLAKE3 2019-12-27 16:29:52 test vectors context";
        let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
        assert_eq!(
            hex(blake3::hash(&[]).as_bytes()),
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
        assert_eq!(
            hex(&blake3::derive_key(context, &[])),
            "2cc39783c223154fea8dfb7c1b1660f2ac2dcbd1c1de8277b0b0dd39b7e50d7d"
        );
    }

    proptest! {
        #[test]
        fn a_keystream_undoes_itself_and_starts_like_derive(text: Vec<u8>, key: [u8; 32]) {
            let mut data = text.clone();
            xor_keystream(A, &[&key], &mut data);
            let stream = derive::<8>(A, &[&key]);
            for ((got, was), mask) in data.iter().zip(&text).zip(stream) {
                prop_assert_eq!(*got, was ^ mask);
            }
            xor_keystream(A, &[&key], &mut data);
            prop_assert_eq!(data, text);
        }
    }

    #[test]
    fn a_long_keystream_does_not_repeat() {
        let mut data = [0; 3000];
        xor_keystream(A, &[b"k"], &mut data);
        assert_eq!(data, derive::<3000>(A, &[b"k"]));
    }

    #[test]
    fn a_stream_can_be_entered_anywhere() {
        let whole = derive::<256>(A, &[b"k"]);
        for at in [0, 64, 192] {
            let from = usize::try_from(at).unwrap();
            assert_eq!(derive_at::<64>(A, &[b"k"], at), whole[from..from + 64]);
        }
    }

    #[test]
    fn comparison_sees_contents_and_length() {
        assert!(eq(b"abc", b"abc"));
        assert!(!eq(b"abc", b"abd"));
        assert!(!eq(b"abc", b"ab"));
    }
}
