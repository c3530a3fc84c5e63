//! Roots: what opens what, and what no encoder writes.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::file::{
    Content, Encoder, KeySource, Options,
    tests::{encode, source, text},
};

/// Seals any plaintext as a root, as a hostile publisher can.
fn forged(plain: &[u8], cap: &VerifyCap) -> Block {
    let mut plain = plain.to_vec();
    let tag = part_aead(VERIFY_PART, &cap.key).seal_in_place(0, &[], &mut plain);
    Block::copy_from(&[&plain[..], &tag, &cap.tail(0)].concat()).unwrap()
}

fn plain(block: &Block, cap: &VerifyCap) -> Vec<u8> {
    let (text, rest) = block.as_bytes().split_at(PLAIN_LEN);
    let mut text = text.to_vec();
    let tag = rest[..TAG_LEN].try_into().unwrap();
    part_aead(VERIFY_PART, &cap.key).open_in_place(0, &[], &mut text, &tag).unwrap();
    text
}

/// The root's first copy and its capability.
fn root(len: usize) -> (ReadCap, Block) {
    let (cap, placed) = encode(&text(len), source(1), Options::default());
    let root = cap.verify().roots()[0];
    let found = placed.into_iter().find(|p| p.block.address() == root).unwrap();
    (cap, found.block)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_root_makes_the_decoder_panic(
        mut head in prop::collection::vec(any::<u8>(), 1..300), code in 0u8..4, len: u64, small: bool,
    ) {
        let (cap, _) = root(1);
        let cap = cap.verify();
        head.resize(PLAIN_LEN, 0);
        head[0] = 1;
        head[1] = code;
        head[2..10].copy_from_slice(&(if small { len >> 34 } else { len }).to_be_bytes());
        let _ = open(&cap, forged(&head, &cap).as_bytes());
    }

    /// A changed byte is refused, or changes what the root says.
    #[test]
    fn no_two_plaintexts_are_the_same_root(at in 0usize..2_000, with: u8) {
        let (cap, block) = root(50_000);
        let verify = cap.verify();
        let good = plain(&block, &verify);
        let mut bad = good.clone();
        bad[at] = with;
        let opened = open(&verify, forged(&bad, &verify).as_bytes());
        if bad != good && let Ok(part) = opened {
            let before = open(&verify, block.as_bytes()).unwrap();
            let same = part.table == before.table
                && part.layout == before.layout
                && part.content_len() == before.content_len()
                && part.index_key.expose_secret() == before.index_key.expose_secret()
                && part.children.is_some() == before.children.is_some()
                && part.sealed == before.sealed;
            prop_assert!(!same || part.children.is_some());
        }
    }

    #[test]
    fn any_changed_bit_of_a_block_is_refused(at in 0..BODY_LEN, bit in 0..8u32) {
        let (cap, block) = root(3);
        let mut bytes = block.as_bytes().to_vec();
        bytes[at] ^= 1 << bit;
        let block = Block::copy_from(&bytes).unwrap();
        prop_assert_eq!(open(&cap.verify(), block.as_bytes()).unwrap_err(), RootError::Unauthentic);
    }
}

#[test]
fn lengths_that_an_encoder_would_code_otherwise_are_refused() {
    let (cap, block) = root(50_000);
    let verify = cap.verify();
    let good = plain(&block, &verify);
    let of = |code: u8, len: u64| {
        let mut bytes = good.clone();
        bytes[1] = code;
        bytes[2..10].copy_from_slice(&len.to_be_bytes());
        open(&verify, forged(&bytes, &verify).as_bytes()).map(|_| ())
    };
    assert_eq!(of(1, 50_000), Ok(()));
    for (code, len) in [(0, 50_000), (0, 0), (1, 32_000), (3, 50_000), (1, 1 << 40), (4, 50_000)] {
        assert!(of(code, len).is_err(), "{code} {len}");
    }
    let mut later = good.clone();
    later[0] = 2;
    let later = forged(&later, &verify);
    assert_eq!(open(&verify, later.as_bytes()).unwrap_err(), RootError::Format);
    let mut padded = good;
    padded[PLAIN_LEN - 1] = 1;
    assert!(open(&verify, forged(&padded, &verify).as_bytes()).is_err());
}

/// All copies look random and share neither address nor tail.
#[test]
fn copies_are_unrelated_for_who_holds_one() {
    let (cap, placed) = encode(b"x", source(1), Options::default());
    let roots = cap.verify().roots();
    for (i, a) in placed.iter().enumerate() {
        assert_eq!(a.block.address(), roots[i]);
        for b in &placed[..i] {
            assert_ne!(a.block.address(), b.block.address());
            assert_ne!(a.block.as_bytes()[BODY_LEN..], b.block.as_bytes()[BODY_LEN..]);
        }
    }
    let zeros = placed[0].block.as_bytes().windows(8).any(|bytes| bytes == [0; 8]);
    assert!(!zeros, "padding is sealed");
}

#[test]
fn the_longest_type_and_name_fit_beside_the_longest_content_and_table() {
    let meta = || Meta {
        mime: format!("text/{}", "x".repeat(122)),
        name: Some("n".repeat(255)),
        ..Meta::default()
    };
    // The most addresses that a root holds without a second level.
    let len = (1u64..)
        .map(|n| (16 << 20) + n * 32_752)
        .take_while(|len| Layout::of(*len, Code::Standard).unwrap().levels.len() == 1);
    let longest = usize::try_from(len.last().unwrap()).unwrap();
    for len in [usize::try_from(INLINE_MAX).unwrap(), longest] {
        let (_, placed) =
            encode(&text(len), source(1), Options { meta: meta(), ..Options::default() });
        assert!(placed.len() >= 3);
    }
}

#[test]
fn types_and_names_are_what_they_seem() {
    for good in ["", "text/html", "image/svg+xml", "text/plain; charset=utf-8", "application/x-7z"]
    {
        assert!(valid_mime(good), "{good}");
    }
    for bad in ["text", "/", "a/", "Text/html", "text/html\n", "a/b/c", "text/ü", "a b/c", ";"] {
        assert!(!valid_mime(bad), "{bad}");
    }
    for bad in ["", "a/b", "..", "a\nb"] {
        let meta = Meta { name: Some(bad.to_owned()), ..Meta::default() };
        let source =
            Arc::new(KeySource::restored(crate::file::Sharing::Random, Secret::take(&mut [1; 32])));
        let options = Options { meta, ..Options::default() };
        let mut encoder = Encoder::new(source, Content::of(b""), options).unwrap();
        assert!(encoder.finish().is_err(), "{bad}");
    }
}
