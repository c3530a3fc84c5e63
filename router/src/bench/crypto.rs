//! `warren bench crypto`: each primitive and the onion layer, at the sizes that are used.
//!
//! Lives here: one thread, everything in its caches, CPU time. Does not live here: what the machine
//! allows a whole relay (`limit.rs`), whole handshakes (`handshake.rs`).

use std::{fmt, hint::black_box, io};

use serde::Serialize;
use warren_overlay::{
    block::BLOCK_LEN,
    crypto::{
        aead::Aead,
        blind::ServiceKey,
        effort::{MemoryPuzzle, Puzzle},
        kdf,
        kem::{self, DhSecret, KemSecret},
        onion::{Direction, LayerKeys, OwnerBackward, OwnerForward, RelayBackward, RelayForward},
        puzzle::{self, Params},
        secret::Secret,
        sign::{self, IdentityKey},
    },
    id::NetworkId,
    plane::{CELL_BODY_LEN, CellBody},
};

use super::{LimitFigures, limit, meter::Samples};
use crate::entropy;

/// Buffers in one sample: few enough to stay in the second cache, as cells on their way do.
const CACHED: usize = 128;
/// Samples of what takes less than a microsecond, for each round that is asked for.
const QUICK_SAMPLES: usize = 16;
/// Calls in one sample of what takes tens of microseconds.
const SLOW_CALLS: u64 = 16;
/// Domains of the benchmark's own.
const CONTEXT: &str = "warren bench 1";

/// One operation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CryptoPiece {
    /// What is done.
    pub name: &'static str,
    /// Bytes that it is done to; zero where they do not matter.
    pub bytes: usize,
    /// CPU time of one, in nanoseconds: the median.
    pub cpu_ns: f64,
    /// The least and the most of all samples.
    pub cpu_ns_range: [f64; 2],
}

/// One run of `warren bench crypto`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CryptoFigures {
    /// All that was measured.
    pub pieces: Vec<CryptoPiece>,
    /// What a middle hop's cryptography takes for one cell when it is sealed and opened by itself:
    /// against it, a frame of 15 shows what batching gives.
    pub hop_ns_per_cell: f64,
    /// What the machine allows a whole relay.
    pub limit: LimitFigures,
    /// Its sum.
    pub limit_ns_per_cell: f64,
    /// `hop_ns_per_cell` over `limit_ns_per_cell`.
    pub ratio_to_limit: f64,
}

impl fmt::Display for CryptoFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<44} {:>7} {:>11} {:>9}", "", "bytes", "CPU ns", "MiB/s")?;
        for CryptoPiece { name, bytes, cpu_ns, .. } in &self.pieces {
            write!(f, "{name:<44} ")?;
            if *bytes == 0 {
                writeln!(f, "{:>7} {cpu_ns:>11.0}", "")?;
            } else {
                let rate = limit::mib_per_s(*bytes, *cpu_ns);
                writeln!(f, "{bytes:>7} {cpu_ns:>11.0} {rate:>9.0}")?;
            }
        }
        write!(
            f,
            "a middle hop's cell by itself: {:.0} ns; limit of the machine with full frames and \
             sockets {:.0} ns (AEAD {:.0}, onion {:.0}, loopback {:.0}): {:.2} times that",
            self.hop_ns_per_cell,
            self.limit_ns_per_cell,
            self.limit.aead_ns,
            self.limit.onion_ns,
            self.limit.loopback_ns,
            self.ratio_to_limit
        )
    }
}

/// Measures, `rounds` times each.
///
/// # Errors
/// When the loopback cannot be used.
pub fn run(rounds: usize) -> io::Result<CryptoFigures> {
    let limit = limit::measure()?;
    let mut pieces = Vec::new();
    let mut report = |name, bytes, samples: &Samples| {
        let (cpu_ns, cpu_ns_range) = (samples.median(), samples.range());
        pieces.push(CryptoPiece { name, bytes, cpu_ns, cpu_ns_range });
        cpu_ns
    };
    let [seal, open] = aead(rounds, CELL_BODY_LEN);
    let [seal_frame, open_frame] = aead(rounds, limit::PLAIN_LEN);
    let mut hop = report("AES-256-GCM, seal", CELL_BODY_LEN, &seal);
    hop += report("AES-256-GCM, open", CELL_BODY_LEN, &open);
    report("AES-256-GCM, seal a full frame", limit::PLAIN_LEN, &seal_frame);
    report("AES-256-GCM, open a full frame", limit::PLAIN_LEN, &open_frame);
    let onion = Onion::measure(rounds);
    hop += report("onion: a middle hop's layer", CELL_BODY_LEN, &onion.middle);
    report("onion: the end recognises, with new keys", CELL_BODY_LEN, &onion.recognise);
    report("onion: the end originates, with new keys", CELL_BODY_LEN, &onion.originate);
    report("onion: owner originates over 3 hops", CELL_BODY_LEN, &onion.owner_out);
    report("onion: owner opens over 3 hops", CELL_BODY_LEN, &onion.owner_in);
    report("BLAKE3", CELL_BODY_LEN, &hash(rounds, CELL_BODY_LEN));
    report("BLAKE3, a block", BLOCK_LEN, &hash(rounds, BLOCK_LEN));
    for (name, samples) in public_key(rounds) {
        report(name, 0, &samples);
    }
    report("admission puzzle, one check (Argon2id)", 0, &puzzle(rounds));
    report("a service's puzzle, one check (Argon2id)", 0, &effort(rounds));
    let sum = limit.sum();
    Ok(CryptoFigures {
        pieces,
        hop_ns_per_cell: hop,
        limit,
        limit_ns_per_cell: sum,
        ratio_to_limit: hop / sum,
    })
}

/// Sealing and opening `len` bytes.
fn aead(rounds: usize, len: usize) -> [Samples; 2] {
    let aead = Aead::new(&Secret::random(&mut entropy::generator()));
    let count = (CACHED * CELL_BODY_LEN / len).max(1);
    let mut buffers = vec![vec![7; len]; count];
    let mut tags = Vec::with_capacity(count);
    let mut samples = [Samples::default(), Samples::default()];
    let [seal, open] = &mut samples;
    for _ in 0..rounds * QUICK_SAMPLES {
        tags.clear();
        seal.add(count as u64, || {
            tags.extend(
                (0..)
                    .zip(&mut buffers)
                    .map(|(nonce, data)| aead.seal_in_place(nonce, &[0; 2], data)),
            );
        });
        open.add(count as u64, || {
            for ((nonce, data), tag) in (0..).zip(&mut buffers).zip(&tags) {
                black_box(aead.open_in_place(nonce, &[0; 2], data, tag).is_ok());
            }
        });
    }
    samples
}

fn each(cells: &mut [CellBody], mut work: impl FnMut(&mut CellBody)) {
    for cell in cells {
        work(cell);
    }
}

/// The onion layers of a tunnel of three hops, by place.
#[derive(Debug, Default)]
pub(super) struct Onion {
    pub(super) middle: Samples,
    pub(super) recognise: Samples,
    pub(super) originate: Samples,
    pub(super) owner_out: Samples,
    pub(super) owner_in: Samples,
}

impl Onion {
    /// Cells go out over three hops, whose last recognises them, and back.
    pub(super) fn measure(rounds: usize) -> Self {
        let mut rng = entropy::generator();
        let secrets: Vec<Secret<32>> = (0..3).map(|_| Secret::random(&mut rng)).collect();
        let keys = |direction| secrets.iter().map(move |it| LayerKeys::derive(it, direction));
        let mut owner = OwnerForward::new(keys(Direction::Forward).collect());
        let mut owner_back = OwnerBackward::new(keys(Direction::Backward).collect());
        let mut out: Vec<_> = keys(Direction::Forward).map(RelayForward::new).collect();
        let mut back: Vec<_> = keys(Direction::Backward).map(RelayBackward::new).collect();
        let mut cells = vec![[7; CELL_BODY_LEN]; CACHED];
        let mut this = Self::default();
        let n = CACHED as u64;
        for _ in 0..rounds * QUICK_SAMPLES {
            let ([near, middle, end], [near_back, middle_back, end_back]) =
                (out.as_mut_slice(), back.as_mut_slice())
            else {
                break;
            };
            this.owner_out.add(n, || each(&mut cells, |cell| owner.originate(cell)));
            this.middle.add(n, || each(&mut cells, |cell| near.relay(cell)));
            each(&mut cells, |cell| middle.relay(cell));
            let known = |cell| end.recognise(cell);
            let all = this.recognise.add(n, || cells.iter_mut().all(known));
            debug_assert!(all, "our own cells");
            this.originate.add(n, || each(&mut cells, |cell| end_back.originate(cell)));
            each(&mut cells, |cell| middle_back.relay(cell));
            this.middle.add(n, || each(&mut cells, |cell| near_back.relay(cell)));
            this.owner_in.add(n, || {
                for cell in &mut cells {
                    black_box(owner_back.open(cell));
                }
            });
        }
        this
    }

    /// All layers of a path of 3 and 3 hops, from a service to its client, in nanoseconds for one
    /// cell: the service wraps, three hops of its tunnel, three of the client's, who unwraps.
    pub(super) fn path_ns(&self) -> f64 {
        self.owner_out.median()
            + 4.0 * self.middle.median()
            + self.recognise.median()
            + self.originate.median()
            + self.owner_in.median()
    }
}

fn hash(rounds: usize, len: usize) -> Samples {
    let data = vec![7; len];
    let count = (CACHED * CELL_BODY_LEN / len).max(1) as u64;
    let mut samples = Samples::default();
    for _ in 0..rounds * QUICK_SAMPLES {
        samples.add(count, || {
            for _ in 0..count {
                black_box(kdf::hash(CONTEXT, &[black_box(&data)]));
            }
        });
    }
    samples
}

fn slow(rounds: usize, mut work: impl FnMut()) -> Samples {
    let mut samples = Samples::default();
    for _ in 0..rounds {
        samples.add(SLOW_CALLS, || (0..SLOW_CALLS).for_each(|_| work()));
    }
    samples
}

/// What handshakes and builds are made of.
#[derive(Debug)]
pub(super) struct PublicKey {
    pub(super) dh_generate: Samples,
    pub(super) dh_agree: Samples,
    pub(super) kem_generate: Samples,
    pub(super) kem_encapsulate: Samples,
    pub(super) kem_decapsulate: Samples,
    pub(super) verify: Samples,
}

impl PublicKey {
    pub(super) fn measure(rounds: usize) -> Self {
        let mut rng = entropy::generator();
        let (ours, theirs) = (DhSecret::generate(&mut rng), DhSecret::generate(&mut rng).public());
        let kem = KemSecret::generate(&mut rng);
        let ciphertext = kem::encapsulate(&mut rng, kem.public()).map(|(text, _)| text);
        let key = IdentityKey::generate(&mut rng);
        let (id, message) = (key.id(), [7; 512]);
        let signature = key.sign(CONTEXT, &message);
        Self {
            dh_generate: slow(rounds, || {
                black_box(DhSecret::generate(&mut rng).public());
            }),
            dh_agree: slow(rounds, || {
                black_box(ours.agree(black_box(&theirs)));
            }),
            kem_generate: slow(rounds, || {
                black_box(KemSecret::generate(&mut rng));
            }),
            kem_encapsulate: slow(rounds, || {
                black_box(kem::encapsulate(&mut rng, kem.public()));
            }),
            kem_decapsulate: slow(rounds, || {
                black_box(ciphertext.as_ref().map(|text| kem.decapsulate(text)));
            }),
            verify: slow(rounds, || {
                black_box(sign::verify(&id, CONTEXT, &message, &signature));
            }),
        }
    }

    /// Two fresh X25519 keys, `agreements` on both sides together, and one ML-KEM exchange, in
    /// nanoseconds. The ML-KEM key is fresh where `fresh_kem`.
    pub(super) fn exchange_ns(&self, agreements: f64, fresh_kem: bool) -> f64 {
        2.0 * self.dh_generate.median()
            + agreements * self.dh_agree.median()
            + self.kem_encapsulate.median()
            + self.kem_decapsulate.median()
            + if fresh_kem { self.kem_generate.median() } else { 0.0 }
    }
}

fn public_key(rounds: usize) -> Vec<(&'static str, Samples)> {
    let it = PublicKey::measure(rounds);
    let mut rng = entropy::generator();
    let key = IdentityKey::generate(&mut rng);
    let service = ServiceKey::generate(&mut rng);
    vec![
        ("X25519, new key", it.dh_generate),
        ("X25519, agree", it.dh_agree),
        ("ML-KEM-768, new key", it.kem_generate),
        ("ML-KEM-768, encapsulate", it.kem_encapsulate),
        ("ML-KEM-768, decapsulate", it.kem_decapsulate),
        (
            "Ed25519, sign 512 bytes",
            slow(rounds, || {
                black_box(key.sign(CONTEXT, &[7; 512]));
            }),
        ),
        ("Ed25519, verify 512 bytes", it.verify),
        (
            "Ed25519, blind a service's key",
            slow(rounds, || {
                black_box(service.blind(&[b"bench"]).public());
            }),
        ),
    ]
}

fn effort(rounds: usize) -> Samples {
    let mut puzzle = MemoryPuzzle::default();
    let mut solution = 0;
    slow(rounds, || {
        solution += 1;
        black_box(puzzle.output(&[1; 32], solution));
    })
}

fn puzzle(rounds: usize) -> Samples {
    let id = IdentityKey::generate(&mut entropy::generator()).id();
    let mut samples = Samples::default();
    for nonce in (0..).take(rounds) {
        samples.add(1, || {
            black_box(puzzle::output(&NetworkId([7; 32]), &id, nonce, Params::STANDARD));
        });
    }
    samples
}
