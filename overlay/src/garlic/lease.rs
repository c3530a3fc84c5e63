//! Leases: how a client proves to a gateway, through strangers, whose tunnel it wants.
//!
//! Lives here: sealing a lease id to a gateway, and the gateway's book of leases. Does not live
//! here: the descriptor that tells a client the lease (`service`), the splice that follows
//! (`end_hop.rs`).
//!
//! | bytes | field |
//! |-------|-------|
//! | 32    | the client's ephemeral X25519 key, fresh for every splice |
//! | 16    | lease id, encrypted |
//! | 16    | tag |
//!
//! The key is KDF(X25519(ephemeral, splice key), ephemeral, splice key), used for this one text.
//! Without a handshake the gateway proves nothing here: it is its link handshake that does.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    crypto::{aead::Aead, kdf::derive_secret, kem::DhSecret, secret::Secret},
    id::{LinkNo, TunnelId},
    rng::Rng,
    time::Time,
    wire::{Reader, SEALED_LEASE_LEN},
};

/// Leases of one gateway. 16,384 services' tunnels are more than a link-rich router carries; an
/// entry is some 200 B, so the book stays below 4 MB beside the ephemerals.
const LEASES_MAX: usize = 16_384;
/// Leases of one tunnel; a service asks for one, and for another when it rotates.
const LEASES_PER_TUNNEL_MAX: usize = 4;
/// Ephemerals remembered for one lease: more than its rate allows in the 75 min it may live.
const SEEN_PER_LEASE_MAX: usize = 131_072;
/// Ephemerals remembered in all: 16 B each and the tree around them, some 30 MB (PROTOCOL P1).
const SEEN_MAX: usize = 1 << 20;
/// Splices that one lease lets in, per second and at once (DESIGN section 7).
const SPLICES_PER_S: u64 = 25;
const SPLICES_BURST: u64 = 200;
/// How long one splice key is given out. Leases outlive it by their tunnel's life.
const KEY_LIFE: Duration = Duration::from_hours(24);
/// How long an old key is kept: longer than any gateway tunnel lives.
const KEY_KEPT: Duration = Duration::from_hours(3);

/// Seals a lease id to its gateway, so that the end hop that passes it on learns nothing and cannot
/// use it again (PROTOCOL P8). Never twice the same.
///
/// `None` for a splice key that is a point of low order, which no honest gateway has.
pub fn seal_lease(
    rng: &mut Rng,
    splice_key: &[u8; 32],
    lease: &[u8; 16],
) -> Option<[u8; SEALED_LEASE_LEN]> {
    let ephemeral = DhSecret::generate(rng);
    let key = lease_key(&ephemeral.agree(splice_key)?, &ephemeral.public(), splice_key);
    let mut id = *lease;
    let tag = Aead::new(&key).seal_in_place(0, &[], &mut id);
    let mut sealed = [0; SEALED_LEASE_LEN];
    let parts = ephemeral.public().into_iter().chain(id).chain(tag);
    for (to, from) in sealed.iter_mut().zip(parts) {
        *to = from;
    }
    Some(sealed)
}

fn lease_key(shared: &Secret<32>, ephemeral: &[u8; 32], splice_key: &[u8; 32]) -> Secret<32> {
    derive_secret("warren splice lease 1", &[shared.expose_secret(), ephemeral, splice_key])
}

/// Why a gateway does not open a splice. For its own counters: the far side hears no reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseRefusal {
    /// Not sealed to this gateway, or damaged.
    #[error("not sealed to this gateway")]
    Unauthentic,
    /// No such lease, or not any more.
    #[error("no such lease")]
    Unknown,
    /// The same sealed lease was used before.
    #[error("sealed lease used before")]
    Replayed,
    /// Too many at once, or the book is full: what was seen is never forgotten early.
    #[error("busy")]
    Busy,
}

#[derive(Debug)]
struct Entry {
    tunnel: (LinkNo, TunnelId),
    /// First halves of the ephemerals that opened a splice. Only authentic ones come in, and
    /// finding a second key with the same half costs 2^128 key generations.
    seen: BTreeSet<[u8; 16]>,
    /// Splices that may come at once, in millionths.
    tokens: u64,
    filled: Time,
}

impl Entry {
    fn take_token(&mut self, now: Time) -> bool {
        const ONE: u64 = 1_000_000;
        let micros = u64::try_from(now.since(self.filled).as_micros()).unwrap_or(u64::MAX);
        let tokens = self.tokens.saturating_add(micros.saturating_mul(SPLICES_PER_S));
        self.tokens = tokens.min(SPLICES_BURST * ONE);
        self.filled = now;
        let Some(left) = self.tokens.checked_sub(ONE) else { return false };
        self.tokens = left;
        true
    }
}

/// The leases for which this router is the gateway, its splice keys, and what was used.
///
/// One key for all leases, new each day: a client's sealed lease does not say which lease it is, so
/// that a key for each would mean trying them all. The lease ids are the secrets of the services.
#[derive(Debug)]
pub struct LeaseBook {
    rng: Rng,
    key: DhSecret,
    key_since: Time,
    old_key: Option<DhSecret>,
    leases: BTreeMap<[u8; 16], Entry>,
    by_tunnel: BTreeMap<(LinkNo, TunnelId), Vec<[u8; 16]>>,
    seen: usize,
}

impl LeaseBook {
    /// An empty book with a new key.
    pub fn new(mut rng: Rng) -> Self {
        let key = DhSecret::generate(&mut rng);
        Self {
            rng,
            key,
            key_since: Time::ZERO,
            old_key: None,
            leases: BTreeMap::new(),
            by_tunnel: BTreeMap::new(),
            seen: 0,
        }
    }

    /// A service wants clients with this lease to reach it through `tunnel`, which ends here.
    ///
    /// Gives the key that clients seal to; `None` if the lease id is taken or there is no room.
    pub fn grant(
        &mut self,
        now: Time,
        lease: [u8; 16],
        tunnel: (LinkNo, TunnelId),
    ) -> Option<[u8; 32]> {
        self.turn_keys(now);
        let of_tunnel = self.by_tunnel.get(&tunnel).map_or(0, Vec::len);
        let room = self.leases.len() < LEASES_MAX && of_tunnel < LEASES_PER_TUNNEL_MAX;
        if !room || self.leases.contains_key(&lease) {
            return None;
        }
        let tokens = SPLICES_BURST * 1_000_000;
        let entry = Entry { tunnel, seen: BTreeSet::new(), tokens, filled: now };
        self.leases.insert(lease, entry);
        self.by_tunnel.entry(tunnel).or_default().push(lease);
        Some(self.key.public())
    }

    /// The tunnel is gone, and its leases with it.
    pub fn revoke(&mut self, tunnel: (LinkNo, TunnelId)) {
        for lease in self.by_tunnel.remove(&tunnel).unwrap_or_default() {
            if let Some(entry) = self.leases.remove(&lease) {
                self.seen = self.seen.saturating_sub(entry.seen.len());
            }
        }
    }

    /// The tunnel that a sealed lease leads to. Works once for each sealed lease.
    ///
    /// Costs one X25519, or two within three hours of a new key; the link that it came over must
    /// have a budget of its own.
    ///
    /// # Errors
    /// See [`LeaseRefusal`]; the far side hears a plain no.
    pub fn open(
        &mut self,
        now: Time,
        sealed: &[u8; SEALED_LEASE_LEN],
    ) -> Result<(LinkNo, TunnelId), LeaseRefusal> {
        self.turn_keys(now);
        let mut keys = std::iter::once(&self.key).chain(&self.old_key);
        let lease = keys.find_map(|key| unseal(key, sealed)).ok_or(LeaseRefusal::Unauthentic)?;
        let entry = self.leases.get_mut(&lease).ok_or(LeaseRefusal::Unknown)?;
        let half = *sealed.first_chunk().ok_or(LeaseRefusal::Unauthentic)?;
        if entry.seen.contains(&half) {
            return Err(LeaseRefusal::Replayed);
        }
        let full = entry.seen.len() >= SEEN_PER_LEASE_MAX || self.seen >= SEEN_MAX;
        if full || !entry.take_token(now) {
            return Err(LeaseRefusal::Busy);
        }
        entry.seen.insert(half);
        self.seen += 1;
        Ok(entry.tunnel)
    }

    /// The tunnels that have leases.
    pub fn tunnels(&self) -> impl Iterator<Item = (LinkNo, TunnelId)> {
        self.by_tunnel.keys().copied()
    }

    /// How many leases are in the book.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether no lease is in the book.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// Keys turn when the book is used: an idle gateway needs no timer.
    fn turn_keys(&mut self, now: Time) {
        if now.since(self.key_since) >= KEY_LIFE {
            let fresh = DhSecret::generate(&mut self.rng);
            self.old_key = Some(std::mem::replace(&mut self.key, fresh));
            self.key_since = now;
        } else if now.since(self.key_since) >= KEY_KEPT {
            self.old_key = None;
        }
    }
}

fn unseal(key: &DhSecret, sealed: &[u8; SEALED_LEASE_LEN]) -> Option<[u8; 16]> {
    let mut r = Reader::new(sealed);
    let ephemeral = r.array("ephemeral").ok()?;
    let mut id: [u8; 16] = r.array("lease").ok()?;
    let tag = r.array("tag").ok()?;
    let key = lease_key(&key.agree(&ephemeral)?, &ephemeral, &key.public());
    Aead::new(&key).open_in_place(0, &[], &mut id, &tag).ok()?;
    Some(id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::*;

    const TUNNEL: (LinkNo, TunnelId) = (LinkNo(3), TunnelId(4));

    fn rng(seed: u8) -> Rng {
        Rng::from_seed([seed; 32])
    }

    fn book() -> (LeaseBook, [u8; 32]) {
        let mut book = LeaseBook::new(rng(1));
        let key = book.grant(Time::ZERO, [7; 16], TUNNEL).unwrap();
        (book, key)
    }

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn a_sealed_lease_leads_to_its_tunnel_once() {
        let (mut book, key) = book();
        let sealed = seal_lease(&mut rng(2), &key, &[7; 16]).unwrap();
        assert_eq!(book.open(at(1), &sealed), Ok(TUNNEL));
        assert_eq!(book.open(at(1), &sealed), Err(LeaseRefusal::Replayed));
        assert_eq!(book.open(at(5_000), &sealed), Err(LeaseRefusal::Replayed));
    }

    #[test]
    fn the_same_lease_never_looks_the_same_twice() {
        let (mut book, key) = book();
        let mut rng = rng(2);
        let [a, b] = [0; 2].map(|_| seal_lease(&mut rng, &key, &[7; 16]).unwrap());
        assert!(a[..32] != b[..32] && a[32..48] != b[32..48]);
        assert_eq!([book.open(at(0), &a), book.open(at(0), &b)], [Ok(TUNNEL); 2]);
    }

    #[test]
    fn a_lease_ends_with_its_tunnel() {
        let (mut book, key) = book();
        let sealed = seal_lease(&mut rng(2), &key, &[7; 16]).unwrap();
        book.revoke(TUNNEL);
        assert_eq!(book.open(at(1), &sealed), Err(LeaseRefusal::Unknown));
        assert_eq!((book.len(), book.seen), (0, 0));
    }

    #[test]
    fn another_gateway_reads_nothing() {
        let (_, key) = book();
        let sealed = seal_lease(&mut rng(2), &key, &[7; 16]).unwrap();
        let mut other = LeaseBook::new(rng(9));
        other.grant(Time::ZERO, [7; 16], TUNNEL).unwrap();
        assert_eq!(other.open(at(1), &sealed), Err(LeaseRefusal::Unauthentic));
    }

    #[test]
    fn a_key_of_low_order_is_not_sealed_to() {
        assert_eq!(seal_lease(&mut rng(2), &[0; 32], &[7; 16]), None);
    }

    #[test]
    fn a_new_key_each_day_and_the_old_one_for_three_hours() {
        let (mut book, old) = book();
        let day = KEY_LIFE.as_secs();
        let new = book.grant(at(day), [8; 16], TUNNEL).unwrap();
        assert_ne!(new, old);
        let mut rng = rng(2);
        let mut seal = |key| seal_lease(&mut rng, key, &[7; 16]).unwrap();
        assert_eq!(book.open(at(day + 1), &seal(&old)), Ok(TUNNEL));
        assert_eq!(book.open(at(day + 1), &seal(&new)), Ok(TUNNEL));
        let late = at(day + KEY_KEPT.as_secs());
        assert_eq!(book.open(late, &seal(&old)), Err(LeaseRefusal::Unauthentic));
    }

    #[test]
    fn the_book_has_bounds() {
        let (mut book, _) = book();
        assert_eq!(book.grant(at(0), [7; 16], TUNNEL), None, "one id, one lease");
        for (n, _) in (8..).zip(1..LEASES_PER_TUNNEL_MAX) {
            assert!(book.grant(at(0), [n; 16], TUNNEL).is_some());
        }
        assert_eq!(book.grant(at(0), [99; 16], TUNNEL), None);
    }

    #[test]
    fn a_flood_of_splices_is_slowed_to_the_stated_rate() {
        let (mut book, key) = book();
        let mut rng = rng(2);
        let mut came = |now| {
            let sealed = seal_lease(&mut rng, &key, &[7; 16]).unwrap();
            book.open(now, &sealed).is_ok()
        };
        let at_once = (0..300).filter(|_| came(at(0))).count();
        assert_eq!(at_once as u64, SPLICES_BURST);
        let later = (0..300).filter(|_| came(at(4))).count();
        assert_eq!(later as u64, 4 * SPLICES_PER_S);
    }

    proptest! {
        #[test]
        fn a_flipped_bit_opens_nothing(at_bit in 0..SEALED_LEASE_LEN * 8) {
            let (mut book, key) = book();
            let mut sealed = seal_lease(&mut rng(2), &key, &[7; 16]).unwrap();
            sealed[at_bit / 8] ^= 1 << (at_bit % 8);
            prop_assert_eq!(book.open(at(0), &sealed), Err(LeaseRefusal::Unauthentic));
        }
    }
}
