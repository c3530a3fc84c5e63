//! Bugs that were put in on purpose, and the oracle that speaks of each.
//!
//! Lives here: ciphers with a bug, in the place of the stand-ins. They see what is sealed, and change
//! it before: what a router would say with the bug in it. No code that is shipped knows of them.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "test code: it fails by panicking"
)]

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use warren_overlay::{
    crypto::{
        aead::TAG_LEN,
        kem::{KEM_CIPHERTEXT_LEN, KEM_PUBLIC_LEN},
        sign::SIGNATURE_LEN,
        suite::{AeadKey, LayerKey, Suite},
    },
    wire::{LinkMessage, RouterDescriptor},
};
use warren_sim::{
    STAND_IN, Violation,
    run::Part,
    scenario::{Ciphers, Scenario},
    swarm::{self, Blind},
};

/// No bug may need more.
const SEEDS_MAX: u64 = 50;
/// Teardowns of one link until one is not sent, and grants until one is too large.
const ONE_IN: u32 = 8;
/// The cell of a layer that is sealed with a wrong tweak.
const WRONG_CELL: u32 = 40;

#[derive(Clone, Copy, Debug)]
enum Bug {
    None,
    /// One layer in eight uses another cell's tag than the previous one's, once.
    WrongTweak,
    /// One teardown in eight is not sent.
    LeakedTunnel,
    /// One grant in eight says a cell more than the book.
    CreditOffByOne,
    /// A resumed path begins a byte too late.
    LostByte,
    /// No copy of a record is sent to a neighbour: who leaves takes his along.
    KeptRecords,
}

/// Bytes before a control message's body: kind 1, length 2.
const HEAD: usize = 3;

/// Makes paddings of a message, as many as its bytes take.
fn padding(mut message: &mut [u8]) {
    while !message.is_empty() {
        let most = message.len().min(HEAD + usize::from(LinkMessage::PADDING_MAX));
        // What is left has room for a head, or is nothing.
        let short = matches!(message.len() - most, 1 | 2);
        let (one, rest) = message.split_at_mut(if short { most - HEAD } else { most });
        one.fill(0);
        let len = u16::try_from(one.len() - HEAD).unwrap();
        one[1..HEAD].copy_from_slice(&len.to_be_bytes());
        message = rest;
    }
}

/// The stand-in, with a bug.
#[derive(Debug)]
struct Buggy(Bug);

struct Sealing {
    inner: Box<dyn AeadKey>,
    bug: Bug,
    count: AtomicU32,
}

impl Sealing {
    /// Whether it is this one's turn.
    fn turn(&self) -> bool {
        self.count.fetch_add(1, Ordering::Relaxed) % ONE_IN == ONE_IN - 1
    }

    /// Changes the control messages of a link's frame: length 2, then the messages.
    fn frame(&self, frame: &mut [u8]) {
        let Some((len, rest)) = frame.split_first_chunk_mut() else { return };
        let mut control = &mut rest[..usize::from(u16::from_be_bytes(*len))];
        while control.len() >= HEAD {
            let len = usize::from(u16::from_be_bytes([control[1], control[2]]));
            let (message, rest) = control.split_at_mut(HEAD + len);
            match (self.bug, message[0], message.get(HEAD)) {
                (Bug::LeakedTunnel, 3, _) if self.turn() => padding(message),
                // A ring's message, with a record to keep.
                (Bug::KeptRecords, 9, Some(7)) => padding(message),
                (Bug::CreditOffByOne, 2, _) if self.turn() => {
                    let cells = u16::from_be_bytes([message[7], message[8]]) + 1;
                    message[7..].copy_from_slice(&cells.to_be_bytes());
                }
                _ => {}
            }
            control = rest;
        }
    }
}

impl AeadKey for Sealing {
    fn seal(&self, nonce: u64, aad: &[u8], data: &mut [u8]) -> [u8; TAG_LEN] {
        match (self.bug, aad.len()) {
            (Bug::LeakedTunnel | Bug::CreditOffByOne | Bug::KeptRecords, 2) => self.frame(data),
            // A session's hello: kind 0, received 8, from 8. At the start both are zero.
            (Bug::LostByte, 0) if nonce == 0 && data.len() >= 17 && data[0] == 0 => {
                let from = u64::from_be_bytes(data[9..17].try_into().unwrap());
                if from > 0 {
                    data[9..17].copy_from_slice(&(from + 1).to_be_bytes());
                }
            }
            _ => {}
        }
        self.inner.seal(nonce, aad, data)
    }

    fn open(&self, nonce: u64, aad: &[u8], data: &mut [u8], tag: &[u8; TAG_LEN]) -> bool {
        self.inner.open(nonce, aad, data, tag)
    }
}

struct Layer {
    inner: Box<dyn LayerKey>,
    wrong: bool,
    cells: AtomicU32,
}

impl LayerKey for Layer {
    fn encrypt(&self, previous: &[u8; 16], left: &mut [u8; 16], right: &mut [u8]) {
        let mut previous = *previous;
        if self.wrong && self.cells.fetch_add(1, Ordering::Relaxed) == WRONG_CELL {
            previous[0] ^= 1;
        }
        self.inner.encrypt(&previous, left, right);
    }

    fn decrypt(&self, previous: &[u8; 16], left: &mut [u8; 16], right: &mut [u8]) {
        self.inner.decrypt(previous, left, right);
    }

    fn update(&mut self, previous: &[u8; 16], nonce: &mut [u8; 16]) {
        self.inner.update(previous, nonce);
    }
}

impl Suite for Buggy {
    fn aead(&self, key: &[u8; 32]) -> Box<dyn AeadKey> {
        Box::new(Sealing { inner: STAND_IN.aead(key), bug: self.0, count: AtomicU32::new(0) })
    }

    fn layer(&self, keys: &[u8; 64]) -> Box<dyn LayerKey> {
        let wrong = matches!(self.0, Bug::WrongTweak) && keys[0].is_multiple_of(8);
        Box::new(Layer { inner: STAND_IN.layer(keys), wrong, cells: AtomicU32::new(0) })
    }

    fn number(&self) -> u16 {
        STAND_IN.number()
    }

    fn dh_public(&self, secret: &[u8; 32]) -> [u8; 32] {
        STAND_IN.dh_public(secret)
    }

    fn dh(&self, secret: &[u8; 32], theirs: &[u8; 32]) -> Option<[u8; 32]> {
        STAND_IN.dh(secret, theirs)
    }

    fn kem_public(&self, seed: &[u8; 64]) -> Arc<[u8; KEM_PUBLIC_LEN]> {
        STAND_IN.kem_public(seed)
    }

    fn encapsulate(
        &self,
        public: &[u8; KEM_PUBLIC_LEN],
        random: [u8; 32],
    ) -> ([u8; KEM_CIPHERTEXT_LEN], [u8; 32]) {
        STAND_IN.encapsulate(public, random)
    }

    fn decapsulate(&self, seed: &[u8; 64], ciphertext: &[u8; KEM_CIPHERTEXT_LEN]) -> [u8; 32] {
        STAND_IN.decapsulate(seed, ciphertext)
    }

    fn stream(&self, purpose: &[u8], parts: &[&[u8]], at: u64, out: &mut [u8]) {
        STAND_IN.stream(purpose, parts, at, out);
    }

    fn identity(&self, seed: &[u8; 32]) -> [u8; 32] {
        STAND_IN.identity(seed)
    }

    fn sign(&self, public: &[u8; 32], message: &[u8]) -> [u8; SIGNATURE_LEN] {
        STAND_IN.sign(public, message)
    }

    fn blind(&self, public: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
        STAND_IN.blind(public, parts)
    }

    fn digest(&self, text: &[u8]) -> [u8; 32] {
        STAND_IN.digest(text)
    }

    fn puzzle(&self, password: &[u8], salt: &[u8]) -> [u8; 32] {
        STAND_IN.puzzle(password, salt)
    }

    fn recall(&self, descriptor: &[u8]) -> Option<Arc<RouterDescriptor>> {
        STAND_IN.recall(descriptor)
    }

    fn keep(&self, bytes: &[u8], descriptor: &Arc<RouterDescriptor>) {
        STAND_IN.keep(bytes, descriptor);
    }
}

/// What the oracles say of a swarm seed under ciphers with a bug, until it heals.
fn swarm(seed: u64, suite: &'static dyn Suite) -> Vec<Violation> {
    let mut wire = swarm::draw(seed);
    (wire.fidelity, wire.heal) = (Ciphers::Full, None);
    let scenario = Scenario::Wire(Box::new(wire));
    let part = Part { suite: Some(suite), ..Part::default() };
    scenario.run(Path::new("."), seed, part, &mut Blind).unwrap().unwrap().violations
}

/// The seed with which `oracle` speaks of the bug first; nobody speaks of those without it before.
fn caught(suite: &'static Buggy, oracle: &str) -> u64 {
    static SOUND: Buggy = Buggy(Bug::None);
    for seed in 1..=SEEDS_MAX {
        if swarm(seed, suite).iter().any(|it| it.oracle == oracle) {
            let without = swarm(seed, &SOUND);
            assert!(without.is_empty(), "seed {seed} without the bug: {without:?}");
            return seed;
        }
    }
    panic!("{suite:?} was not caught");
}

#[test]
fn a_wrong_tweak_is_caught_by_honesty() {
    static BUGGY: Buggy = Buggy(Bug::WrongTweak);
    caught(&BUGGY, "honesty");
}

#[test]
fn a_leaked_tunnel_is_caught_by_lanes() {
    static BUGGY: Buggy = Buggy(Bug::LeakedTunnel);
    caught(&BUGGY, "lanes");
}

#[test]
fn a_credit_off_by_one_is_caught_by_credits() {
    static BUGGY: Buggy = Buggy(Bug::CreditOffByOne);
    caught(&BUGGY, "credits");
}

#[test]
fn a_resumption_that_loses_a_byte_is_caught_by_honesty() {
    static BUGGY: Buggy = Buggy(Bug::LostByte);
    caught(&BUGGY, "honesty");
}

#[test]
fn records_that_leavers_take_along_are_missed_by_replicas() {
    static BUGGY: Buggy = Buggy(Bug::KeptRecords);
    caught(&BUGGY, "replicas");
}
