//! How fast files become blocks and back, per core: `cargo bench -p warren-datastore --bench codec`.
//!
//! Twice: the erasure code alone, and the whole pipeline with hashes and ciphers. Figures are bytes of
//! file data. Decoding is measured with a third of the blocks lost, data blocks first.

use std::{collections::BTreeMap, hint::black_box, sync::Arc};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use warren_datastore::{
    capability::ReadCap,
    erasure::{Code, Coder, Shape},
    file::{Content, Encoder, Hasher, KeySource, Options, Placed, Reader},
};
use warren_overlay::{block::Block, crypto::secret::Secret};

/// 64 MiB: 17 segments of 128 + 64 at most.
const LEN: usize = 64 << 20;

fn text() -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()
    };
    (0..LEN / 8).flat_map(|_| next()).collect()
}

fn erasure(c: &mut Criterion) {
    let mut group = c.benchmark_group("erasure");
    for (name, code, data) in [("128+64", Code::Standard, 128u16), ("256+256", Code::Large, 256)] {
        let parity = usize::try_from(code.parity(u64::from(data))).expect("small");
        let shape = Shape { data: usize::from(data), parity };
        let blocks: Vec<Block> =
            text().chunks_exact(32_768).take(shape.data).filter_map(Block::copy_from).collect();
        let mut coder = Coder::default();
        group.throughput(Throughput::Bytes(u64::from(data) * 32_768));
        group.bench_function(format!("encode {name}"), |b| {
            b.iter(|| {
                let mut bytes = 0;
                coder.parity_with(shape, blocks.iter(), |_, p| bytes += p.len()).expect("coded");
                black_box(bytes)
            });
        });
        let all: Vec<Block> = blocks
            .iter()
            .cloned()
            .chain(coder.parity(shape, blocks.iter()).expect("coded"))
            .collect();
        let lost = shape.total() / 3;
        let have: Vec<_> = all.iter().enumerate().map(|(i, b)| (i >= lost).then_some(b)).collect();
        group.bench_function(format!("decode {name}, a third lost"), |b| {
            b.iter(|| {
                let mut bytes = 0;
                coder.restore_with(shape, &have, |_, p| bytes += p.len()).expect("decoded");
                black_box(bytes)
            });
        });
    }
    group.finish();
}

fn encode(bytes: &[u8], mut each: impl FnMut(Placed)) -> ReadCap {
    let mut hasher = Hasher::default();
    hasher.update(bytes);
    let source = Arc::new(KeySource::context(Secret::take(&mut [1; 32])));
    encode_second(bytes, source, hasher.finish(), &mut each)
}

fn encode_second(
    bytes: &[u8],
    source: Arc<KeySource>,
    content: Content,
    each: &mut impl FnMut(Placed),
) -> ReadCap {
    let mut encoder = Encoder::new(source, content, Options::default()).expect("not too long");
    let mut rest = bytes;
    while !rest.is_empty() {
        let (_, after) = rest.split_at(encoder.push(rest).expect("unchanged"));
        rest = after;
        while let Some(placed) = encoder.poll_block() {
            each(placed);
        }
    }
    encoder.finish().expect("unchanged");
    while let Some(placed) = encoder.poll_block() {
        each(placed);
    }
    encoder.into_read_cap().expect("finished")
}

fn decode(cap: &ReadCap, stored: &BTreeMap<[u8; 32], Block>) -> usize {
    let cap = ReadCap::take(&mut cap.to_bytes().expose_secret().clone());
    let mut reader = Reader::new(cap, 0..u64::MAX);
    let mut bytes = 0;
    loop {
        if let Some((address, _)) = reader.poll_want() {
            // What the network brings is checked against its address.
            let found = stored.get(address.as_bytes());
            match found.and_then(|block| Block::verified(address, block.as_bytes())) {
                Some(block) => {
                    reader.handle_block(&block);
                }
                None => reader.handle_missing(&address),
            }
        } else if let Some(data) = reader.poll_data() {
            bytes += black_box(data).len();
        } else {
            assert!(reader.is_done());
            return bytes;
        }
        while reader.poll_healed().is_some() {}
    }
}

fn pipeline(c: &mut Criterion) {
    let bytes = text();
    let mut group = c.benchmark_group("pipeline");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(LEN as u64));
    group.bench_function("hash, first pass", |b| {
        b.iter(|| {
            let mut hasher = Hasher::default();
            hasher.update(&bytes);
            black_box(hasher.finish())
        });
    });
    group.bench_function("encode, both passes", |b| {
        b.iter(|| encode(&bytes, |placed| drop(black_box(placed))));
    });
    let mut placed = Vec::new();
    let cap = encode(&bytes, |one| placed.push(one));
    let whole: BTreeMap<_, _> =
        placed.iter().map(|p| (p.block.address().0, p.block.clone())).collect();
    let mut holes = whole.clone();
    for p in &placed {
        let third = p.place.index < 64 && p.place.level == 0;
        if third {
            holes.remove(p.block.address().as_bytes());
        }
    }
    group.bench_function("decode, nothing lost", |b| {
        b.iter_batched(|| (), |()| decode(&cap, &whole), BatchSize::PerIteration);
    });
    group.bench_function("decode, a third lost", |b| {
        b.iter_batched(|| (), |()| decode(&cap, &holes), BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(benches, erasure, pipeline);
criterion_main!(benches);
