//! Whole files through encoder, reader and repair, over stores with holes.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use data_encoding::HEXLOWER;
use proptest::prelude::*;
use warren_overlay::{
    block::{Block, BlockAddress},
    crypto::secret::Secret,
    id::NetworkId,
    rng::Rng,
};

use super::*;
use crate::{
    capability::ReadCap,
    manifest::{Kind, Meta},
};

pub(crate) type Stored = BTreeMap<BlockAddress, Block>;

pub(crate) fn source(byte: u8) -> Arc<KeySource> {
    Arc::new(KeySource::context(Secret::take(&mut [byte; 32])))
}

pub(crate) fn text(len: usize) -> Vec<u8> {
    let mut state = len as u64 | 1;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .collect()
}

/// All blocks in order of emission, with their places, and the capability.
pub(crate) fn encode(
    bytes: &[u8],
    source: Arc<KeySource>,
    options: Options,
) -> (ReadCap, Vec<Placed>) {
    let mut encoder = Encoder::new(source, Content::of(bytes), options).unwrap();
    let expected = encoder.blocks();
    let mut out = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let taken = encoder.push(&rest[..rest.len().min(77_777)]).unwrap();
        rest = &rest[taken..];
        out.extend(std::iter::from_fn(|| encoder.poll_block()));
    }
    encoder.finish().unwrap();
    out.extend(std::iter::from_fn(|| encoder.poll_block()));
    assert_eq!(out.len() as u64, expected);
    (encoder.into_read_cap().unwrap(), out)
}

pub(crate) fn store(placed: &[Placed]) -> Stored {
    placed.iter().map(|p| (p.block.address(), p.block.clone())).collect()
}

fn same(cap: &ReadCap) -> ReadCap {
    ReadCap::take(&mut cap.to_bytes().expose_secret().clone())
}

pub(crate) fn read(
    cap: &ReadCap,
    stored: &Stored,
    range: Range<u64>,
) -> (Result<Vec<u8>, ReadError>, usize) {
    drive(&mut Reader::new(same(cap), range), stored)
}

/// Answers every want at once; what came out, and how many blocks were asked for.
fn drive(reader: &mut Reader, stored: &Stored) -> (Result<Vec<u8>, ReadError>, usize) {
    let (mut out, mut asked) = (Vec::new(), 0);
    loop {
        if let Some((address, _)) = reader.poll_want() {
            asked += 1;
            match stored.get(&address) {
                Some(block) => assert_eq!(reader.handle_block(block), Taken::Yes),
                None => reader.handle_missing(&address),
            }
        } else if let Some(bytes) = reader.poll_data() {
            out.extend(bytes);
        } else if let Some(error) = reader.error() {
            return (Err(error), asked);
        } else {
            assert!(reader.is_done(), "nothing wanted, nothing given, not done");
            return (Ok(out), asked);
        }
    }
}

fn repaired(cap: &ReadCap, stored: &mut Stored) -> (Summary, Option<ReadError>) {
    let mut repair = Repair::new(cap.verify(), Scope::Whole);
    let mut put = Vec::new();
    loop {
        if let Some((address, _)) = repair.poll_want() {
            match stored.get(&address) {
                Some(block) => assert_eq!(repair.handle_block(block), Taken::Yes),
                None => repair.handle_missing(&address),
            }
        } else if let Some(block) = repair.poll_block() {
            put.push(block);
        } else {
            assert!(repair.is_done() || repair.error().is_some());
            break;
        }
    }
    stored.extend(put.into_iter().map(|block| (block.address(), block)));
    (repair.summary(), repair.error())
}

fn durable() -> Options {
    Options { durable: true, ..Options::default() }
}

const LENGTHS: [usize; 9] = [0, 1, 32_000, 32_001, 32_752, 65_504, 65_505, 1 << 20, 6_000_000];

#[test]
fn every_length_comes_back() {
    for len in LENGTHS {
        let bytes = text(len);
        for options in [Options::default(), durable()] {
            let (cap, placed) = encode(&bytes, source(1), options);
            let stored = store(&placed);
            assert_eq!(stored.len(), placed.len(), "no two blocks are one");
            let (got, asked) = read(&cap, &stored, 0..u64::MAX);
            assert!(got.unwrap() == bytes, "{len}");
            let data = if len <= 32_000 { 0 } else { len.div_ceil(32_752) };
            assert_eq!(asked, 1 + data, "no more is asked than is needed");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Nothing but the wanted blocks, and exactly the wanted bytes.
    #[test]
    fn any_range_of_a_file_with_holes_comes_back(
        len in 32_001u64..5_000_000, a: prop::sample::Index, b: prop::sample::Index,
        seed: u64, durable: bool,
    ) {
        let bytes = text(usize::try_from(len).unwrap());
        let options = Options { durable, ..Options::default() };
        let (cap, placed) = encode(&bytes, source(1), options);
        let mut stored = store(&placed);
        // A fifth of all blocks is gone, in each segment no more than its parity.
        let mut rng = Rng::from_seed([(seed % 251) as u8; 32]);
        let mut lost: BTreeMap<(u8, u64), usize> = BTreeMap::new();
        for p in &placed {
            let count = lost.entry((p.place.level, p.place.segment)).or_default();
            let may = if p.place.level == ROOT_LEVEL { 2 } else { 4 };
            if rng.below(5) == 0 && *count < may {
                *count += 1;
                stored.remove(&p.block.address());
            }
        }
        let (a, b) = (a.index(bytes.len()), b.index(bytes.len() + 9));
        let (a, b) = (a.min(b), a.max(b));
        let (got, _) = read(&cap, &stored, a as u64..b as u64);
        prop_assert!(got.unwrap() == bytes[a..b.min(bytes.len())]);
    }

    #[test]
    fn any_third_of_the_blocks_may_be_lost(seed: u8, len in 2_100_000usize..4_100_000) {
        let bytes = text(len);
        let (cap, placed) = encode(&bytes, source(1), Options::default());
        let mut stored = store(&placed);
        let mut rng = Rng::from_seed([seed; 32]);
        let mut content: Vec<_> =
            placed.iter().filter(|p| p.place.level == 0).map(|p| p.block.address()).collect();
        for _ in 0..content.len() / 3 {
            let at = usize::try_from(rng.below(content.len() as u64)).unwrap();
            stored.remove(&content.swap_remove(at));
        }
        let (got, asked) = read(&cap, &stored, 0..u64::MAX);
        prop_assert!(got.unwrap() == bytes);
        prop_assert!(asked <= placed.len());
        // A third party restores what it cannot read.
        let (summary, error) = repaired(&cap, &mut stored);
        prop_assert_eq!(error, None);
        prop_assert_eq!(summary.rebuilt, summary.missing);
        prop_assert_eq!(stored, store(&placed));
    }
}

/// Tables of tables: Large code, three levels, most of it cut away.
#[test]
fn a_file_with_tables_is_read_and_repaired() {
    let bytes = text(24 << 20);
    let (cap, placed) = encode(&bytes, source(1), Options::default());
    assert_eq!(placed.iter().filter(|p| p.place.level == 1).count(), 2 + 8);
    let whole = store(&placed);
    let mut stored = whole.clone();
    for (i, p) in placed.iter().enumerate() {
        if i % 4 == 0 {
            stored.remove(&p.block.address());
        }
    }
    let range = 9_000_001..9_500_003;
    let (got, asked) = read(&cap, &stored, range.clone());
    assert!(got.unwrap() == bytes[9_000_001..9_500_003]);
    assert!(asked < 200, "one segment and its table: {asked}");
    let (got, _) = read(&cap, &stored, 0..u64::MAX);
    assert!(got.unwrap() == bytes);
    let (summary, error) = repaired(&cap, &mut stored);
    assert_eq!((error, summary.lost), (None, 0));
    assert_eq!(summary.rebuilt, (whole.len().div_ceil(4)) as u64);
    assert!(stored == whole);
}

#[test]
fn too_many_holes_are_an_error_that_says_how_many() {
    let bytes = text(1_000_000);
    let (cap, placed) = encode(&bytes, source(1), Options::default());
    let mut stored = store(&placed);
    let content: Vec<_> = placed.iter().filter(|p| p.place.level == 0).collect();
    let data = 31;
    for p in content.iter().take(content.len() - data + 1) {
        stored.remove(&p.block.address());
    }
    let (got, asked) = read(&cap, &stored, 0..u64::MAX);
    assert_eq!(got, Err(ReadError::TooFew { found: data - 1, needed: data }));
    assert!(asked <= placed.len());
    let (summary, error) = repaired(&cap, &mut stored);
    assert_eq!((error, summary.lost, summary.rebuilt), (None, 1, 0));
}

#[test]
fn one_copy_of_the_root_is_enough_and_none_is_an_error() {
    for left in 0..3 {
        let (cap, placed) = encode(b"short", source(1), Options::default());
        let mut stored = store(&placed);
        assert_eq!(placed.len(), 3, "one block, three salted copies");
        for p in &placed {
            if p.place.index != left {
                stored.remove(&p.block.address());
            }
        }
        assert_eq!(read(&cap, &stored, 0..u64::MAX).0.unwrap(), b"short");
        assert_eq!(repaired(&cap, &mut stored).0.rebuilt, 2);
        assert_eq!(stored, store(&placed));
    }
    let (cap, _) = encode(b"short", source(1), Options::default());
    let none = Stored::new();
    assert_eq!(read(&cap, &none, 0..9).0, Err(ReadError::NoRoot { copies: 3 }));
    assert_eq!(repaired(&cap, &mut Stored::new()).1, Some(ReadError::NoRoot { copies: 3 }));
}

#[test]
fn a_late_block_is_still_taken() {
    let bytes = text(100_000);
    let (cap, placed) = encode(&bytes, source(1), Options::default());
    let stored = store(&placed);
    let mut reader = Reader::new(cap, 0..u64::MAX);
    let (root, _) = reader.poll_want().unwrap();
    reader.handle_missing(&root);
    assert!(reader.poll_want().is_some(), "the second copy");
    assert_eq!(reader.handle_block(&stored[&root]), Taken::Yes);
    let (slow, _) = reader.poll_want().unwrap();
    reader.handle_late(&slow);
    reader.handle_late(&slow);
    reader.handle_missing(&slow);
    assert_eq!(reader.handle_block(&stored[&slow]), Taken::Yes);
    assert_eq!(reader.handle_block(&stored[&slow]), Taken::No, "once");
    assert_eq!(reader.handle_block(&stored[&root]), Taken::No);
    assert!(drive(&mut reader, &stored).0.unwrap() == bytes);
}

#[test]
fn the_first_bytes_come_before_the_segment_is_complete() {
    let bytes = text(1_000_000);
    let (cap, placed) = encode(&bytes, source(1), Options::default());
    let stored = store(&placed);
    let mut reader = Reader::new(cap, 0..u64::MAX);
    for _ in 0..2 {
        let (address, _) = reader.poll_want().unwrap();
        reader.handle_block(&stored[&address]);
    }
    assert_eq!(reader.poll_data().unwrap(), bytes[..32_752]);
    assert_eq!(reader.poll_data(), None);
    assert_eq!(reader.content_len(), Some(1_000_000));
    reader.seek(999_999..u64::MAX);
    assert_eq!(drive(&mut reader, &stored).0.unwrap(), bytes[999_999..]);
}

#[test]
fn contexts_share_nothing_and_dedup_shares_all() {
    let bytes = text(200_000);
    let addresses = |source: KeySource, options: Options| -> Vec<BlockAddress> {
        let (_, placed) = encode(&bytes, Arc::new(source), options);
        placed.iter().map(|p| p.block.address()).collect()
    };
    let secret = |byte: u8| Secret::take(&mut [byte; 32]);
    let plain = Options::default;
    let one = addresses(KeySource::context(secret(1)), plain());
    let rng = &mut Rng::from_seed([1; 32]);
    for other in [
        addresses(KeySource::context(secret(2)), plain()),
        addresses(KeySource::dedup(secret(1)), plain()),
        addresses(KeySource::random(rng), plain()),
        addresses(KeySource::random(rng), plain()),
        addresses(KeySource::dedup_network(NetworkId([1; 32])), plain()),
        addresses(KeySource::context(secret(1)), durable()),
    ] {
        assert!(one.iter().all(|address| !other.contains(address)));
    }
    assert_eq!(one, addresses(KeySource::context(secret(1)), plain()));
    let dedup = |byte| addresses(KeySource::dedup(secret(byte)), plain());
    assert_eq!(dedup(7), dedup(7));
    // Another name is another root over the same content.
    let meta = Meta { name: Some("a".to_owned()), ..Meta::default() };
    let named = addresses(KeySource::context(secret(1)), Options { meta, ..Options::default() });
    assert_eq!(named[..named.len() - 3], one[..one.len() - 3]);
    assert!(named[named.len() - 3..].iter().all(|root| !one.contains(root)));
}

#[test]
fn a_file_that_changed_between_the_passes_is_refused_before_it_is_sealed() {
    let bytes = text(3 << 20);
    for at in [0, 1 << 20, (3 << 20) - 1] {
        let mut other = bytes.clone();
        other[at] ^= 1;
        let mut encoder = Encoder::new(source(1), Content::of(&bytes), Options::default()).unwrap();
        let (mut rest, mut blocks) = (&other[..], 0);
        let error = loop {
            match encoder.push(rest) {
                Ok(taken) => rest = &rest[taken..],
                Err(error) => break error,
            }
            blocks += std::iter::from_fn(|| encoder.poll_block()).count();
            assert!(!rest.is_empty(), "the change went unnoticed");
        };
        assert_eq!(error, EncodeError::Changed);
        assert!(blocks * 32_752 <= at);
    }
    for len in [(3 << 20) - 1, 5] {
        let mut encoder =
            Encoder::new(source(1), Content::of(&bytes[..len]), Options::default()).unwrap();
        assert_eq!(encoder.finish(), Err(EncodeError::Changed));
        let mut long = &bytes[..=len];
        let error = loop {
            match encoder.push(long) {
                Ok(taken) => long = &long[taken..],
                Err(error) => break error,
            }
            while encoder.poll_block().is_some() {}
        };
        assert_eq!(error, EncodeError::Changed);
    }
}

#[test]
fn meta_comes_back_and_names_are_absent_unless_wished() {
    for (bytes, name) in [(text(5), None), (text(90_000), Some("a b.txt".to_owned()))] {
        let meta = Meta { kind: Kind::Directory, mime: "text/plain; charset=utf-8".into(), name };
        let children = Some(ReadCap::take(&mut [3; 64]));
        let options = Options { meta: meta.clone(), children, ..Options::default() };
        let (cap, placed) = encode(&bytes, source(1), options);
        let stored = store(&placed);
        let mut reader = Reader::new(same(&cap), 0..0);
        let (root, _) = reader.poll_want().unwrap();
        reader.handle_block(&stored[&root]);
        assert_eq!(reader.meta(), Some(&meta));
        assert_eq!(reader.content_len(), Some(bytes.len() as u64));
        let mut repair = Repair::new(cap.verify(), Scope::Whole);
        let (root, _) = repair.poll_want().unwrap();
        repair.handle_block(&stored[&root]);
        assert_eq!(repair.children().unwrap().to_bytes().expose_secret(), &[3; 64]);
    }
    let bad = Meta { mime: "text/html\r\nX: y".into(), ..Meta::default() };
    let options = Options { meta: bad, ..Options::default() };
    let mut encoder = Encoder::new(source(1), Content::of(b""), options).unwrap();
    assert!(matches!(encoder.finish(), Err(EncodeError::Meta(_))));
}

#[test]
fn a_sample_counts_and_rebuilds_nothing() {
    let bytes = text(20 << 20);
    let (cap, placed) = encode(&bytes, source(1), Options::default());
    let mut stored = store(&placed);
    for p in placed.iter().filter(|p| p.place.level == 0 && p.place.index % 2 == 0) {
        stored.remove(&p.block.address());
    }
    let mut repair =
        Repair::new(cap.verify(), Scope::Sample(20, Box::new(Rng::from_seed([1; 32]))));
    while let Some((address, _)) = repair.poll_want() {
        match stored.get(&address) {
            Some(block) => assert_eq!(repair.handle_block(block), Taken::Yes),
            None => repair.handle_missing(&address),
        }
    }
    assert!(repair.is_done());
    assert_eq!(repair.poll_block(), None);
    let sum = repair.summary();
    assert_eq!((sum.found + sum.missing, sum.lost), (3 + 20 * sum.segments, 0));
    assert!((30..=70).contains(&sum.missing), "{sum:?}");
}

#[test]
fn another_s_capability_opens_nothing() {
    let (cap, placed) = encode(&text(50_000), source(1), Options::default());
    let stored = store(&placed);
    let mut forged = *cap.to_bytes().expose_secret();
    forged[40] ^= 1;
    let forged = ReadCap::take(&mut forged);
    assert!(forged.verify().roots().iter().all(|root| !stored.contains_key(root)));
    // The verify key opens the verify part and not the read part.
    let verify = cap.verify();
    let mut bytes = *verify.to_bytes().expose_secret();
    let part = crate::manifest::open(&verify, stored[&verify.roots()[0]].as_bytes()).unwrap();
    assert!(part.read(&ReadCap::take(&mut bytes)).is_err());
    assert!(part.read(&cap).is_ok());
}

#[test]
fn a_wrongly_coded_file_is_noticed() {
    let bytes = text(100_000);
    let (cap, placed) = encode(&bytes, source(1), Options::default());
    let verify = cap.verify();
    let root = placed.iter().find(|p| p.place.level == ROOT_LEVEL).unwrap();
    let mut part = crate::manifest::open(&verify, root.block.as_bytes()).unwrap();
    // A publisher names another block in place of a parity block.
    let alien = Block::copy_from(&vec![5; 32_768]).unwrap();
    let parity = part.table.len() - 1;
    part.table[parity] = alien.address();
    let mut stored = store(&placed);
    stored.insert(alien.address(), alien);
    let content: Vec<_> = placed.iter().filter(|p| p.place.level == 0).collect();
    for p in &content[..content.len() - 4] {
        stored.remove(&p.block.address());
    }
    let layout = part.layout.as_ref().unwrap();
    let mut walk =
        walk::Walk::new(walk::Purpose::Repair, layout, &part.table, &part.index_key, 0..u64::MAX);
    while let Some((address, _)) = walk.poll_want() {
        match stored.get(&address) {
            Some(block) => assert_eq!(walk.handle_block(block), Taken::Yes),
            None => walk.handle_missing(&address),
        }
    }
    assert_eq!(walk.error(), Some(ReadError::Inconsistent));
    assert_eq!(walk.poll_healed(), None);
}

/// Frozen: whatever was stored once must be found and read by every later version.
#[test]
fn a_file_has_the_documented_capability_and_blocks() {
    for (len, cap, last) in VECTORS {
        let (got, placed) = encode(&text(len), source(9), Options::default());
        let (mut all, hex) = (Vec::new(), |bytes: &[u8]| HEXLOWER.encode(bytes));
        for p in &placed {
            all.extend(p.block.address().0);
        }
        let hash = warren_overlay::crypto::kdf::hash("warren test 1", &[&all]);
        assert_eq!(
            (hex(got.to_bytes().expose_secret()).as_str(), hex(&hash).as_str()),
            (cap, last),
            "{len}"
        );
    }
}

const VECTORS: [(usize, &str, &str); 2] = [
    (
        5,
        "70b22e131aedf8f9e301665b9816992698918cb7ee05d6b31705afece2b42dd2\
         39d98da0f29e62506778626fc6850e338c7a3033dd40e17a9dee70dd4f05b934",
        "1ee1064d2a611d0ae60fece4cfbf52dd50d4f94537a4983d1d01cd4ba3fbe336",
    ),
    (
        5_000_000,
        "188e9393ac227d9b5dd4ce78ee64965baf2d37cbf8074ccfac6741a4b58dd195\
         b36bed41fb7f7e33f1542989c1c6b062c8db83a8c06606686d0cb253453dd3f2",
        "a05d0b095608439ce9054c955ed2b2afe14370a7363290ae7209c71edd098343",
    ),
];
