//! Ciphers that cost next to nothing, for the fidelity `full`.
//!
//! Lives here: the simulator's stand-in suite, and nothing that a router could be built with. Does not
//! live here: the seam (`warren_overlay::crypto::suite`), hashes of whole blocks and files, which stay.
//!
//! | real | stand-in | what stays true |
//! |---|---|---|
//! | AES-256-GCM | text in clear, 16 bytes of [`Mix`] over key, nonce and all that is sealed | opens under its key and nonce only, and unchanged |
//! | UIV+ | the same picture (`crypto/uiv.rs`) with a sum for the block cipher and one word for the stream | relays encrypt, owners decrypt; whatever is changed, lost or repeated garbles that cell and all later ones |
//! | X25519 | products of 128-bit numbers | both sides agree, nobody else by accident |
//! | ML-KEM-768 | the secret in clear beside a check | another key's ciphertext gives another secret |
//! | Ed25519 | [`Mix`] over public key and message | a changed message or another key does not verify |
//! | BLAKE3 for keys, masks, short hashes | [`Mix`] over purpose and parts, for each eight bytes anew | another purpose or part gives other bytes |
//! | Argon2id, SHA-256 in handshakes | [`Mix`] | |
//!
//! **None of it is secret.** Who wants to cheat can; a simulated adversary is given what its position
//! lets it see, not the keys. All lengths are the real ones, so sizes and times on the wires are too.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use warren_overlay::{
    crypto::{
        aead::TAG_LEN,
        kem::{KEM_CIPHERTEXT_LEN, KEM_PUBLIC_LEN},
        sign::SIGNATURE_LEN,
        suite::{AeadKey, LayerKey, Suite},
    },
    wire::RouterDescriptor,
};

/// The stand-in.
pub static STAND_IN: StandIn = StandIn;

/// See [`STAND_IN`].
#[derive(Clone, Copy, Debug)]
pub struct StandIn;

/// Odd numbers without a pattern: digits of pi.
const PI: [u64; 4] =
    [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7345, 0xa409_3822_299f_31d1, 0x082e_fa98_ec4e_6c89];

/// The two halves of a 128-bit product, one over the other: what every mixing here is made of (after wyhash).
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ PI[0]) * u128::from(b ^ PI[1]);
    low(product) ^ low(product >> 64)
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
const fn low(wide: u128) -> u64 {
    wide as u64
}

fn word(bytes: &[u8]) -> u64 {
    if let Ok(whole) = bytes.try_into() {
        return u64::from_le_bytes(whole);
    }
    let mut word = [0; 8];
    for (to, from) in word.iter_mut().zip(bytes) {
        *to = *from;
    }
    u64::from_le_bytes(word)
}

/// A fast hash of 64 bits that nobody attacks.
#[derive(Clone, Copy)]
struct Mix(u64);

impl Mix {
    /// A hash for one purpose.
    const fn new(purpose: u64) -> Self {
        Self(purpose)
    }

    /// Adds a text, and where it ends.
    fn text(self, text: &[u8]) -> Self {
        let (chunks, rest) = text.as_chunks::<32>();
        let [mut a, mut b] = [self.0, self.0 ^ PI[2]];
        for chunk in chunks {
            let (words, _) = chunk.as_chunks::<8>();
            if let [w, x, y, z] = words {
                a = fold(a ^ u64::from_le_bytes(*w), u64::from_le_bytes(*x));
                b = fold(b ^ u64::from_le_bytes(*y), u64::from_le_bytes(*z));
            }
        }
        for piece in rest.chunks(8) {
            a = fold(a ^ word(piece), PI[3]);
        }
        self.number(fold(a, b)).number(text.len() as u64)
    }

    /// Adds a number.
    fn number(self, number: u64) -> Self {
        Self(fold(self.0 ^ number, PI[2] ^ self.0.rotate_left(32)))
    }

    /// A stream that follows from all that was added, from byte `at` on, a multiple of 8.
    fn stream(self, at: u64, out: &mut [u8]) {
        let mut numbers = at / 8 + 1..;
        let mut next = || numbers.next().map_or([0; 8], |it| self.number(it).0.to_le_bytes());
        let (words, rest) = out.as_chunks_mut::<8>();
        for word in words {
            *word = next();
        }
        if !rest.is_empty() {
            rest.iter_mut().zip(next()).for_each(|(to, from)| *to = from);
        }
    }

    /// So many bytes that follow from all that was added.
    fn fill<const N: usize>(self) -> [u8; N] {
        let mut out = [0; N];
        self.stream(0, &mut out);
        out
    }
}

/// What the hashes are for.
mod purpose {
    pub(super) const AEAD: u64 = 1;
    pub(super) const LAYER: u64 = 2;
    pub(super) const NEXT: u64 = 3;
    pub(super) const KEM: u64 = 4;
    pub(super) const IDENTITY: u64 = 5;
    pub(super) const SIGNATURE: u64 = 6;
    pub(super) const BLIND: u64 = 7;
    pub(super) const DIGEST: u64 = 8;
    pub(super) const PUZZLE: u64 = 9;
    pub(super) const NAME: u64 = 10;
    pub(super) const STREAM: u64 = 11;
}

/// The first 16 bytes as an odd number: those have inverses, so that no two keys meet by a factor.
fn odd(bytes: &[u8; 32]) -> u128 {
    bytes.first_chunk().map_or(1, |head| u128::from_le_bytes(*head) | 1)
}

fn pair(a: u128, b: u128) -> [u8; 32] {
    let mut out = [0; 32];
    let (first, second) = out.split_at_mut(16);
    first.copy_from_slice(&a.to_le_bytes());
    second.copy_from_slice(&b.to_le_bytes());
    out
}

/// What both X25519 stand-ins multiply.
const BASE: [u128; 2] =
    [0x4528_21e6_38d0_1377_be54_66cf_34e9_0c6d, 0xc0ac_29b7_c97c_50dd_3f84_d5b5_b547_0917];

impl Suite for StandIn {
    fn number(&self) -> u16 {
        0xffff
    }

    fn aead(&self, key: &[u8; 32]) -> Box<dyn AeadKey> {
        Box::new(Sealing(Mix::new(purpose::AEAD).text(key)))
    }

    fn layer(&self, keys: &[u8; 64]) -> Box<dyn LayerKey> {
        let (e, f) = keys.split_at(32);
        let half = |half| Mix::new(purpose::LAYER).text(half).0;
        Box::new(Layer { e: half(e), f: half(f) })
    }

    fn dh_public(&self, secret: &[u8; 32]) -> [u8; 32] {
        let [a, b] = BASE.map(|base| base.wrapping_mul(odd(secret)));
        pair(a, b)
    }

    fn dh(&self, secret: &[u8; 32], theirs: &[u8; 32]) -> Option<[u8; 32]> {
        let (halves, _) = theirs.as_chunks::<16>();
        let [a, b] = halves else { return None };
        let of = |half: &[u8; 16]| u128::from_le_bytes(*half).wrapping_mul(odd(secret));
        (*theirs != [0; 32]).then(|| pair(of(a), of(b)))
    }

    fn kem_public(&self, seed: &[u8; 64]) -> Arc<[u8; KEM_PUBLIC_LEN]> {
        let mut public = [0; KEM_PUBLIC_LEN];
        if let Some(head) = public.first_chunk_mut::<32>() {
            *head = Mix::new(purpose::KEM).text(seed).fill();
        }
        Arc::new(public)
    }

    fn encapsulate(
        &self,
        public: &[u8; KEM_PUBLIC_LEN],
        random: [u8; 32],
    ) -> ([u8; KEM_CIPHERTEXT_LEN], [u8; 32]) {
        let head = public.first_chunk().copied().unwrap_or_default();
        let mut ciphertext = [0; KEM_CIPHERTEXT_LEN];
        if let Some((to, rest)) = ciphertext.split_first_chunk_mut::<32>() {
            *to = random;
            if let Some(check) = rest.first_chunk_mut::<16>() {
                *check = kem_check(&head, &random);
            }
        }
        (ciphertext, kem_secret(&head, &random))
    }

    fn decapsulate(&self, seed: &[u8; 64], ciphertext: &[u8; KEM_CIPHERTEXT_LEN]) -> [u8; 32] {
        let own: [u8; 32] = Mix::new(purpose::KEM).text(seed).fill();
        let (random, rest) = ciphertext.split_first_chunk::<32>().unwrap_or((&[0; 32], &[]));
        if rest.first_chunk() == Some(&kem_check(&own, random)) {
            kem_secret(&own, random)
        } else {
            Mix::new(purpose::KEM).text(seed).text(ciphertext).fill()
        }
    }

    fn identity(&self, seed: &[u8; 32]) -> [u8; 32] {
        Mix::new(purpose::IDENTITY).text(seed).fill()
    }

    fn sign(&self, public: &[u8; 32], message: &[u8]) -> [u8; SIGNATURE_LEN] {
        Mix::new(purpose::SIGNATURE).text(public).text(message).fill()
    }

    fn blind(&self, public: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
        let mix = Mix::new(purpose::BLIND).text(public);
        parts.iter().fold(mix, |mix, part| mix.text(part)).fill()
    }

    fn stream(&self, purpose: &[u8], parts: &[&[u8]], at: u64, out: &mut [u8]) {
        let mix = Mix::new(purpose::STREAM).text(purpose);
        parts.iter().fold(mix, |mix, part| mix.text(part)).stream(at, out);
    }

    fn digest(&self, text: &[u8]) -> [u8; 32] {
        Mix::new(purpose::DIGEST).text(text).fill()
    }

    fn puzzle(&self, password: &[u8], salt: &[u8]) -> [u8; 32] {
        Mix::new(purpose::PUZZLE).text(password).text(salt).fill()
    }

    fn recall(&self, descriptor: &[u8]) -> Option<Arc<RouterDescriptor>> {
        READ.with_borrow(|read| read.get(&name(descriptor))?.upgrade())
    }

    fn keep(&self, bytes: &[u8], descriptor: &Arc<RouterDescriptor>) {
        READ.with_borrow_mut(|read| {
            read.insert(name(bytes), Arc::downgrade(descriptor));
            // Now and then those that nobody keeps are swept out.
            if read.len().is_power_of_two() {
                read.retain(|_, it| it.strong_count() > 0);
            }
        });
    }
}

/// What stands for the bytes of a descriptor.
fn name(descriptor: &[u8]) -> u128 {
    u128::from_le_bytes(Mix::new(purpose::NAME).text(descriptor).fill())
}

thread_local! {
    /// Descriptors that somebody keeps.
    static READ: RefCell<BTreeMap<u128, Weak<RouterDescriptor>>> = const { RefCell::new(BTreeMap::new()) };
}

fn kem_check(public: &[u8; 32], random: &[u8; 32]) -> [u8; 16] {
    Mix::new(purpose::KEM).number(1).text(public).text(random).fill()
}

fn kem_secret(public: &[u8; 32], random: &[u8; 32]) -> [u8; 32] {
    Mix::new(purpose::KEM).number(2).text(public).text(random).fill()
}

struct Sealing(Mix);

impl Sealing {
    fn tag(&self, nonce: u64, aad: &[u8], data: &[u8]) -> [u8; TAG_LEN] {
        self.0.number(nonce).text(aad).text(data).fill()
    }
}

impl AeadKey for Sealing {
    fn seal(&self, nonce: u64, aad: &[u8], data: &mut [u8]) -> [u8; TAG_LEN] {
        self.tag(nonce, aad, data)
    }

    fn open(&self, nonce: u64, aad: &[u8], data: &mut [u8], tag: &[u8; TAG_LEN]) -> bool {
        self.tag(nonce, aad, data) == *tag
    }
}

struct Layer {
    e: u64,
    f: u64,
}

impl Layer {
    /// What the left half moves by: it follows from the cell before and the right half.
    fn mask(&self, previous: &[u8; 16], right: &[u8]) -> u128 {
        u128::from_le_bytes(Mix::new(self.e).text(previous).text(right).fill())
    }

    /// What lies over the right half: it follows from the left one.
    fn cover(&self, left: &[u8; 16], right: &mut [u8]) {
        let cover = Mix::new(self.f).text(left).0.to_le_bytes();
        let (words, rest) = right.as_chunks_mut::<8>();
        for word in words {
            *word = (u64::from_le_bytes(*word) ^ u64::from_le_bytes(cover)).to_le_bytes();
        }
        for (byte, over) in rest.iter_mut().zip(cover) {
            *byte ^= over;
        }
    }
}

impl LayerKey for Layer {
    fn encrypt(&self, previous: &[u8; 16], left: &mut [u8; 16], right: &mut [u8]) {
        let mask = self.mask(previous, right);
        *left = u128::from_le_bytes(*left).wrapping_add(mask).to_le_bytes();
        self.cover(left, right);
    }

    fn decrypt(&self, previous: &[u8; 16], left: &mut [u8; 16], right: &mut [u8]) {
        self.cover(left, right);
        let mask = self.mask(previous, right);
        *left = u128::from_le_bytes(*left).wrapping_sub(mask).to_le_bytes();
    }

    fn update(&mut self, previous: &[u8; 16], nonce: &mut [u8; 16]) {
        let next = Mix::new(purpose::NEXT).number(self.e).number(self.f).text(previous);
        *nonce = next.fill();
        *self = Self { e: next.number(u64::MAX).0, f: next.number(u64::MAX - 1).0 };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use warren_overlay::{
        crypto::{
            aead::Aead,
            blind::{ServiceKey, blind_public},
            kem::{self, DhSecret, KemSecret},
            onion::{
                CELL_BODY_LEN, Direction, LayerKeys, OwnerBackward, OwnerForward, RelayBackward,
                RelayForward,
            },
            secret::Secret,
            sign::{IdentityKey, verify, verify_key},
            suite::{self, within},
        },
        rng::Rng,
    };

    use super::*;

    fn under<T>(run: impl FnOnce() -> T) -> T {
        within(Some(&STAND_IN), run)
    }

    fn rng(seed: u8) -> Rng {
        Rng::from_seed([seed; 32])
    }

    fn keys(hop: u8, direction: Direction) -> LayerKeys {
        LayerKeys::derive(&Secret::take(&mut [hop; 32]), direction)
    }

    #[test]
    fn a_thread_is_under_the_stand_in_inside_and_only_there() {
        assert_eq!(suite::number(), suite::HYBRID);
        let inside = under(|| (suite::number(), std::thread::spawn(suite::number).join().unwrap()));
        assert_eq!(inside, (0xffff, suite::HYBRID));
        let failed = std::panic::catch_unwind(|| under(|| panic!("inside")));
        assert!(failed.is_err());
        assert_eq!(suite::number(), suite::HYBRID);
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens_unchanged_and_under_its_key_and_nonce_only(
            nonce: u64, text in prop::collection::vec(any::<u8>(), 1..300), at: prop::sample::Index,
            with in 1u8..,
        ) {
            let (sealed, tag, opened, others) = under(|| {
                let [key, other] = [1, 2].map(|byte| Aead::new(&Secret::take(&mut [byte; 32])));
                let mut sealed = text.clone();
                let tag = key.seal_in_place(nonce, b"aad", &mut sealed);
                let mut opened = sealed.clone();
                key.open_in_place(nonce, b"aad", &mut opened, &tag).unwrap();
                let mut changed = sealed.clone();
                changed[at.index(text.len())] ^= with;
                let others = [
                    key.open_in_place(nonce, b"aad", &mut changed, &tag),
                    key.open_in_place(nonce ^ 1, b"aad", &mut sealed.clone(), &tag),
                    key.open_in_place(nonce, b"oad", &mut sealed.clone(), &tag),
                    other.open_in_place(nonce, b"aad", &mut sealed.clone(), &tag),
                ];
                (sealed, tag, opened, others)
            });
            prop_assert_eq!(sealed.len(), text.len());
            prop_assert_eq!(tag.len(), 16);
            prop_assert_eq!(opened, text);
            prop_assert!(others.iter().all(Result::is_err));
        }

        /// Three hops; a byte changed between two of them, or a cell that one of them misses.
        #[test]
        fn a_tunnel_carries_cells_both_ways_until_one_is_changed_or_lost(
            whole in 1usize..6, hop in 0usize..3, at in 0..CELL_BODY_LEN, with in 1u8.., lost: bool,
        ) {
            let tunnel = |direction: Direction| (0..3).map(|hop| keys(hop, direction)).collect();
            let (forth, back) = under(|| {
                let mut owner = OwnerForward::new(tunnel(Direction::Forward));
                let mut relays: Vec<_> =
                    (0..3).map(|hop| RelayForward::new(keys(hop, Direction::Forward))).collect();
                let mut forth = Vec::new();
                for number in 0..whole + 2 {
                    let mut cell = [u8::try_from(number).unwrap(); CELL_BODY_LEN];
                    owner.originate(&mut cell);
                    let (mut recognised, mut missed) = (false, false);
                    for (index, relay) in relays.iter_mut().enumerate() {
                        if number == whole && index == hop {
                            cell[at] ^= if lost { 0 } else { with };
                            missed = lost;
                        }
                        match (missed, index) {
                            (true, _) => {}
                            (false, 2) => recognised = relay.recognise(&mut cell),
                            (false, _) => relay.relay(&mut cell),
                        }
                    }
                    let same = cell[16..].iter().all(|byte| usize::from(*byte) == number);
                    forth.push(recognised && same);
                }
                let mut owner = OwnerBackward::new(tunnel(Direction::Backward));
                let mut relays: Vec<_> =
                    (0..3).map(|hop| RelayBackward::new(keys(hop, Direction::Backward))).collect();
                let mut back = Vec::new();
                for number in 0..whole + 2 {
                    let mut cell = [u8::try_from(number).unwrap(); CELL_BODY_LEN];
                    for (index, relay) in relays.iter_mut().enumerate().rev() {
                        if index == 2 { relay.originate(&mut cell) } else { relay.relay(&mut cell) }
                        if number == whole && index == hop {
                            cell[at] ^= with;
                        }
                    }
                    let recognised = owner.open(&mut cell);
                    let same = cell[16..].iter().all(|byte| usize::from(*byte) == number);
                    back.push(recognised && same);
                }
                (forth, back)
            });
            for (number, (forth, back)) in forth.into_iter().zip(back).enumerate() {
                prop_assert_eq!(forth, number < whole);
                prop_assert_eq!(back, number < whole);
            }
        }

        #[test]
        fn a_signature_holds_for_its_key_and_message_only(
            message: Vec<u8>, other: Vec<u8>, at in 0usize..64, with in 1u8..,
        ) {
            let context = "warren test stand in 1";
            let good = under(|| {
                let [key, stranger] = [1, 2].map(|seed| IdentityKey::generate(&mut rng(seed)));
                let service = ServiceKey::generate(&mut rng(3));
                let blinded = service.blind(&[b"day"]);
                let mut signature = key.sign(context, &message);
                let good = [
                    verify(&key.id(), context, &message, &signature),
                    !verify(&stranger.id(), context, &message, &signature),
                    other == message || !verify(&key.id(), context, &other, &signature),
                    blind_public(&service.public(), &[b"day"]) == Some(blinded.public()),
                    blind_public(&service.public(), &[b"dax"]) != Some(blinded.public()),
                    verify_key(
                        &blinded.public(), context, &message, &blinded.sign(context, &message),
                    ),
                ];
                signature[at] ^= with;
                good.into_iter().all(|it| it)
                    && !verify(&key.id(), context, &message, &signature)
            });
            prop_assert!(good);
        }

        #[test]
        fn two_agree_on_a_secret_and_a_third_on_another(seed in 0u8..250) {
            under(|| {
                let [a, b, c] = [0, 1, 2].map(|it| DhSecret::generate(&mut rng(seed + it)));
                let agree = |a: &DhSecret, b: &DhSecret| {
                    *a.agree(&b.public()).unwrap().expose_secret()
                };
                assert_eq!(agree(&a, &b), agree(&b, &a));
                assert_ne!(agree(&a, &b), agree(&a, &c));
                assert!(a.agree(&[0; 32]).is_none());
                let [a, b] = [0, 1].map(|it| KemSecret::generate(&mut rng(seed + it)));
                let (text, secret) = kem::encapsulate(&mut rng(seed), a.public()).unwrap();
                assert_eq!(a.decapsulate(&text).expose_secret(), secret.expose_secret());
                assert_ne!(b.decapsulate(&text).expose_secret(), secret.expose_secret());
            });
        }
    }
}
