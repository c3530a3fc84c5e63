//! The session keys of one service: a new pair each day, each forgotten after two.
//!
//! Lives here: the X25519 and ML-KEM pairs that clients open sessions to, their daily change, and
//! what of them is stored. Does not live here: the handshake that uses them (`session/`), the
//! service's own signing key (`crypto/blind.rs`).
//!
//! ```text
//!  day        |----- d -----|---- d+1 ----|---- d+2 ----|
//!  published     pair d        pair d+1      pair d+2
//!  held          pair d ...................... wiped 48 h after it was made
//! ```
//!
//! The wiping is the horizon of post-quantum forward secrecy: who later breaks X25519 and takes the
//! machine reads sessions of the last 48 h at most (PROTOCOL P9). The classical one is immediate.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

use super::{Day, Lease, Name, Offer, OfferId, day};
use crate::{
    crypto::{
        kem::{DhSecret, KemSecret},
        secret::Secret,
    },
    rng::Rng,
    time::Wall,
    wire::{Reader, WireError, Writer},
};

/// Minutes for which a private half is kept after it was made.
pub const KEEP_MIN: u32 = 48 * 60;
/// Pairs held at once: today's, and those made in the 48 h before. A clock that jumps about makes
/// more; then the oldest go first.
pub const DAILY_KEYS_MAX: usize = 4;
/// Bytes of one stored pair.
pub const SAVED_KEY_LEN: usize = 4 + 4 + 32 + 64;

/// The key pair of one day.
pub struct DailyKey {
    day: Day,
    made: Wall,
    dh: DhSecret,
    kem: KemSecret,
}

impl DailyKey {
    /// The day on which it was made: with it goes the blinded key that a session is bound to.
    pub const fn day(&self) -> Day {
        self.day
    }

    /// When it was made.
    pub const fn made(&self) -> Wall {
        self.made
    }

    /// The X25519 half.
    pub const fn dh(&self) -> &DhSecret {
        &self.dh
    }

    /// The ML-KEM half.
    pub const fn kem(&self) -> &KemSecret {
        &self.kem
    }

    /// The offer of this pair; its publisher fills in whose it is, and its version.
    pub fn offer(&self, leases: Vec<Lease>, effort: u32) -> Offer {
        Offer {
            id: OfferId::default(),
            version: 0,
            session_day: self.day,
            session_dh: self.dh.public(),
            session_kem: Box::new(*self.kem.public()),
            effort,
            leases,
        }
    }

    /// What is stored, so that a restarted service answers to descriptors that are still about.
    ///
    /// | bytes | field |
    /// |-------|-------|
    /// | 4     | day |
    /// | 4     | made, minutes since the Unix epoch |
    /// | 32    | X25519 private key |
    /// | 64    | ML-KEM seed |
    pub fn save(&self) -> Secret<SAVED_KEY_LEN> {
        let mut w = Writer::with_capacity(SAVED_KEY_LEN);
        w.u32(self.day.0).u32(self.made.minutes());
        w.bytes(self.dh.secret_bytes().expose_secret()).bytes(self.kem.to_bytes().expose_secret());
        let mut bytes = Zeroizing::new(w.into_bytes());
        let mut out = [0; SAVED_KEY_LEN];
        out.copy_from_slice(&bytes);
        bytes.zeroize();
        Secret::take(&mut out)
    }

    /// The pair that was saved.
    pub fn restore(saved: &Secret<SAVED_KEY_LEN>) -> Result<Self, WireError> {
        let mut r = Reader::new(saved.expose_secret());
        let day = Day(r.u32("saved day")?);
        let made = Wall::from_minutes(r.u32("saved minute")?);
        let dh = DhSecret::from_bytes(Secret::take(&mut r.array("saved X25519 key")?));
        let kem = KemSecret::from_bytes(Secret::take(&mut r.array("saved ML-KEM seed")?));
        r.finish()?;
        Ok(Self { day, made, dh, kem })
    }
}

/// Mute.
impl fmt::Debug for DailyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// The pairs of a service that are still good, newest last.
#[derive(Debug)]
pub struct DailyKeys {
    name: Name,
    rng: Rng,
    keys: Vec<DailyKey>,
}

impl DailyKeys {
    /// The pairs of a service: those that were saved and are not over, and today's if it is missing.
    pub fn new(name: Name, rng: Rng, saved: Vec<DailyKey>, wall: Wall) -> Self {
        let mut keys = Self { name, rng, keys: saved };
        keys.keys.sort_by_key(DailyKey::made);
        keys.rotate(wall);
        keys
    }

    /// Makes today's pair if it is missing and wipes what is over; true if anything changed.
    ///
    /// To be called at least hourly, and after sleep. What changed must be saved anew (the wiping
    /// reaches the disk so) and, with a new pair, the descriptor published anew. A pair "made" over
    /// a day in the future is of a clock that was wrong: it goes, else no new one would come.
    pub fn rotate(&mut self, wall: Wall) -> bool {
        let day = Day::at(&self.name, wall);
        let held = self.keys.len();
        self.keys.retain(|key| {
            let over = wall >= key.made.plus(KEEP_MIN);
            let future = key.day > day.next() || key.made > wall.plus(day::DAY_MIN);
            !over && !future
        });
        let mut changed = self.keys.len() != held;
        if self.keys.last().is_none_or(|newest| newest.day < day) {
            let dh = DhSecret::generate(&mut self.rng);
            let kem = KemSecret::generate(&mut self.rng);
            self.keys.push(DailyKey { day, made: wall, dh, kem });
            changed = true;
        }
        let excess = self.keys.len().saturating_sub(DAILY_KEYS_MAX);
        self.keys.drain(..excess);
        changed
    }

    /// When `rotate` has something to do at the latest.
    pub fn next_change(&self) -> Wall {
        let wiped = self.keys.iter().map(|key| key.made.plus(KEEP_MIN)).min();
        let boundary = self.keys.last().map(|newest| newest.day.next().start(&self.name));
        wiped.into_iter().chain(boundary).min().unwrap_or_default()
    }

    /// The pair to publish.
    pub fn newest(&self) -> Option<&DailyKey> {
        self.keys.last()
    }

    /// All pairs that a client may still use, newest first: the order in which to try them.
    pub fn iter(&self) -> impl Iterator<Item = &DailyKey> {
        self.keys.iter().rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{blind::ServiceKey, kem::encapsulate};

    const START: Wall = Wall::from_minutes(28_800_000);

    fn name() -> Name {
        Name::of_service(&ServiceKey::generate(&mut Rng::from_seed([1; 32])))
    }

    fn keys(saved: Vec<DailyKey>, wall: Wall) -> DailyKeys {
        DailyKeys::new(name(), Rng::from_seed([2; 32]), saved, wall)
    }

    fn publics(keys: &DailyKeys) -> Vec<[u8; 32]> {
        keys.iter().map(|key| key.dh().public()).collect()
    }

    #[test]
    fn a_new_pair_comes_each_day_and_goes_after_48_hours() {
        let mut keys = keys(Vec::new(), START);
        let mut seen = publics(&keys);
        for minute in 0..5 * day::DAY_MIN {
            let wall = START.plus(minute);
            let due = keys.next_change() <= wall;
            assert_eq!(keys.rotate(wall), due, "next_change tells each change");
            let newest = keys.newest().unwrap();
            assert_eq!(newest.day(), Day::at(&name(), wall));
            if due && !seen.contains(&newest.dh().public()) {
                seen.push(newest.dh().public());
            }
            assert!(keys.iter().all(|key| wall < key.made().plus(KEEP_MIN)));
            assert!(keys.iter().count() < DAILY_KEYS_MAX);
        }
        assert_eq!(seen.len(), 6, "the first day was already running");
    }

    #[test]
    fn yesterdays_pair_still_works_beside_todays() {
        let mut keys = keys(Vec::new(), START);
        let first = keys.newest().unwrap().offer(Vec::new(), 0);
        assert!(keys.rotate(START.plus(day::DAY_MIN)));
        let (ciphertext, ours) =
            encapsulate(&mut Rng::from_seed([3; 32]), &first.session_kem).unwrap();
        let old = keys.iter().find(|key| key.day() == first.session_day).unwrap();
        assert_eq!(old.kem().decapsulate(&ciphertext).expose_secret(), ours.expose_secret());
        assert_eq!(old.dh().public(), first.session_dh);
    }

    #[test]
    fn a_saved_pair_is_the_same_pair() {
        let ours = keys(Vec::new(), START);
        let saved: Vec<_> = ours.iter().map(DailyKey::save).collect();
        let restored = saved.iter().map(|saved| DailyKey::restore(saved).unwrap()).collect();
        let again = keys(restored, START.plus(5));
        assert_eq!(publics(&again), publics(&ours));
        let (a, b) = (ours.newest().unwrap(), again.newest().unwrap());
        assert_eq!((a.day(), a.made()), (b.day(), b.made()));
        assert_eq!(a.kem().public(), b.kem().public());
    }

    #[test]
    fn pairs_that_were_saved_too_long_ago_are_wiped_on_start() {
        let ours = keys(Vec::new(), START);
        let saved: Vec<_> = ours.iter().map(DailyKey::save).collect();
        let restored = saved.iter().map(|saved| DailyKey::restore(saved).unwrap()).collect();
        let rng = Rng::from_seed([4; 32]);
        let again = DailyKeys::new(name(), rng, restored, START.plus(KEEP_MIN));
        assert!(publics(&again).iter().all(|key| !publics(&ours).contains(key)));
    }

    #[test]
    fn a_pair_of_a_clock_that_was_years_ahead_is_replaced() {
        let mut keys = keys(Vec::new(), START.plus(5_000_000));
        assert!(keys.rotate(START));
        assert_eq!(keys.newest().unwrap().made(), START);
        assert_eq!(keys.iter().count(), 1);
    }

    #[test]
    fn a_jumping_clock_holds_a_bounded_number_of_pairs() {
        let mut keys = keys(Vec::new(), START);
        for step in 0..200u32 {
            keys.rotate(START.plus((step * 7_919) % (6 * day::DAY_MIN)));
            assert!(keys.iter().count() <= DAILY_KEYS_MAX);
        }
    }

    #[test]
    fn debug_gives_nothing_away() {
        let keys = keys(Vec::new(), START);
        assert_eq!(format!("{:?}", keys.newest().unwrap()), "_");
        assert!(!format!("{keys:?}").contains("28800000"));
    }
}
