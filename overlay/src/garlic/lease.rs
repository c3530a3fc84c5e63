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
//! | 4     | effort, encrypted: what the nonce is worth |
//! | 8     | nonce, encrypted; zero with effort 0 |
//! | 16    | tag |
//!
//! The key is KDF(X25519(ephemeral, splice key), ephemeral, splice key), used for this one text. The
//! nonce solves the puzzle (`crypto/effort.rs`) for KDF(ephemeral, splice key, lease id): work for one
//! use of one lease, for an ephemeral is good once, and a lease is as old as its tunnel at most.
//! Without a handshake the gateway proves nothing here: it is its link handshake that does.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use super::intake::{Crowd, Intake, Rate};
use crate::{
    crypto::{
        aead::Aead,
        effort::{EFFORT_MAX, MemoryPuzzle, Puzzle, is_worth},
        kdf::{derive, derive_secret},
        kem::DhSecret,
        secret::Secret,
    },
    id::{LinkNo, TunnelId},
    rng::Rng,
    time::Time,
    wire::{Reader, SEALED_LEASE_LEN, Writer},
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
/// Clients that wait at all leases of this router.
const WAITING_MAX: usize = 4_096;
/// How long one splice key is given out. Leases outlive it by their tunnel's life.
const KEY_LIFE: Duration = Duration::from_hours(24);
/// How long an old key is kept: longer than any gateway tunnel lives.
const KEY_KEPT: Duration = Duration::from_hours(3);

/// A lease id that is about to be sealed to its gateway, so that the end hop that passes it on learns
/// nothing and cannot use it again (PROTOCOL P8). Never twice the same.
#[derive(Debug)]
pub struct LeaseSeal {
    key: Secret<32>,
    ephemeral: [u8; 32],
    lease: [u8; 16],
    challenge: [u8; 32],
}

impl LeaseSeal {
    /// `None` for a splice key that is a point of low order, which no honest gateway has.
    pub fn new(rng: &mut Rng, splice_key: &[u8; 32], lease: &[u8; 16]) -> Option<Self> {
        let ephemeral = DhSecret::generate(rng);
        let public = ephemeral.public();
        let key = lease_key(&ephemeral.agree(splice_key)?, &public, splice_key);
        let challenge = challenge(&public, splice_key, lease);
        Some(Self { key, ephemeral: public, lease: *lease, challenge })
    }

    /// What the nonce must solve.
    pub const fn challenge(&self) -> [u8; 32] {
        self.challenge
    }

    /// The 76 bytes.
    pub fn seal(self, effort: u32, nonce: u64) -> [u8; SEALED_LEASE_LEN] {
        let mut w = Writer::with_capacity(TEXT_LEN);
        w.bytes(&self.lease).u32(effort).u64(nonce);
        let mut text = w.into_bytes();
        let tag = Aead::new(&self.key).seal_in_place(0, &[], &mut text);
        let mut sealed = [0; SEALED_LEASE_LEN];
        let parts = self.ephemeral.into_iter().chain(text).chain(tag);
        for (to, from) in sealed.iter_mut().zip(parts) {
            *to = from;
        }
        sealed
    }
}

/// Seals a lease id without any effort.
pub fn seal_lease(
    rng: &mut Rng,
    splice_key: &[u8; 32],
    lease: &[u8; 16],
) -> Option<[u8; SEALED_LEASE_LEN]> {
    LeaseSeal::new(rng, splice_key, lease).map(|seal| seal.seal(0, 0))
}

fn challenge(ephemeral: &[u8; 32], splice_key: &[u8; 32], lease: &[u8; 16]) -> [u8; 32] {
    derive("warren splice effort 1", &[ephemeral, splice_key, lease])
}

/// Bytes of the text: id, effort, nonce.
const TEXT_LEN: usize = 16 + 4 + 8;

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
    /// It claims an effort that was not spent.
    #[error("effort not spent")]
    Unpaid,
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
    intake: Intake,
}

/// What becomes of those who had to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It enters.
    Enter {
        /// Who.
        leg: (LinkNo, TunnelId),
        /// Where.
        tunnel: (LinkNo, TunnelId),
    },
    /// It does not.
    Refuse {
        /// Who.
        leg: (LinkNo, TunnelId),
    },
    /// A service hears how many wait.
    Report {
        /// Which, by its tunnel.
        tunnel: (LinkNo, TunnelId),
        /// How many, and what they pay.
        crowd: Crowd,
    },
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
    /// Who waits, at which lease; at most [`WAITING_MAX`].
    waiting: BTreeMap<(LinkNo, TunnelId), [u8; 16]>,
    /// Leases at which somebody waits, or did a moment ago: the others need not be looked at, however many
    /// somebody takes.
    crowded: BTreeSet<[u8; 16]>,
    /// Who had to give way to dearer ones.
    refused: VecDeque<(LinkNo, TunnelId)>,
    /// Once somebody has spent work.
    puzzle: Option<Box<MemoryPuzzle>>,
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
            waiting: BTreeMap::new(),
            crowded: BTreeSet::new(),
            refused: VecDeque::new(),
            puzzle: None,
        }
    }

    /// A service wants clients with this lease to reach it through `tunnel`, which ends here.
    ///
    /// Gives the key that clients seal to; `None` if the lease id is taken or there is no room.
    pub fn grant(
        &mut self,
        now: Time,
        lease: [u8; 16],
        rate: Rate,
        tunnel: (LinkNo, TunnelId),
    ) -> Option<[u8; 32]> {
        self.turn_keys(now);
        let of_tunnel = self.by_tunnel.get(&tunnel).map_or(0, Vec::len);
        let room = self.leases.len() < LEASES_MAX && of_tunnel < LEASES_PER_TUNNEL_MAX;
        if !room || self.leases.contains_key(&lease) {
            return None;
        }
        let entry = Entry { tunnel, seen: BTreeSet::new(), intake: Intake::new(rate) };
        self.leases.insert(lease, entry);
        self.by_tunnel.entry(tunnel).or_default().push(lease);
        Some(self.key.public())
    }

    /// The tunnel is gone, and its leases with it. Gives those who waited at them.
    pub fn revoke(&mut self, tunnel: (LinkNo, TunnelId)) -> Vec<(LinkNo, TunnelId)> {
        let mut left = Vec::new();
        for lease in self.by_tunnel.remove(&tunnel).unwrap_or_default() {
            if let Some(entry) = self.leases.remove(&lease) {
                self.seen = self.seen.saturating_sub(entry.seen.len());
                left.extend(entry.intake.legs());
            }
        }
        for leg in &left {
            self.waiting.remove(leg);
        }
        left
    }

    /// The tunnel that a sealed lease leads to, at once; or `None` if whoever asks on `leg` must wait
    /// its turn: then [`LeaseBook::next`] says what becomes of it. Works once for each sealed lease.
    ///
    /// Costs one X25519, or two within three hours of a new key, and where clients wait one try of the
    /// puzzle; the link that it came over must have a budget of its own.
    ///
    /// # Errors
    /// See [`LeaseRefusal`]; the far side hears a plain no.
    pub fn open(
        &mut self,
        now: Time,
        leg: (LinkNo, TunnelId),
        sealed: &[u8; SEALED_LEASE_LEN],
    ) -> Result<Option<(LinkNo, TunnelId)>, LeaseRefusal> {
        self.turn_keys(now);
        let keys = [Some(&self.key), self.old_key.as_ref()];
        let mut opened = keys.into_iter().flatten().filter_map(|key| unseal(key, sealed));
        let Shown { lease, effort, nonce, challenge } =
            opened.next().ok_or(LeaseRefusal::Unauthentic)?;
        drop(opened);
        let entry = self.leases.get_mut(&lease).ok_or(LeaseRefusal::Unknown)?;
        let half = *sealed.first_chunk().ok_or(LeaseRefusal::Unauthentic)?;
        if entry.seen.contains(&half) {
            return Err(LeaseRefusal::Replayed);
        }
        if entry.seen.len() >= SEEN_PER_LEASE_MAX
            || self.seen >= SEEN_MAX
            || self.waiting.contains_key(&leg)
        {
            return Err(LeaseRefusal::Busy);
        }
        entry.seen.insert(half);
        self.seen += 1;
        if entry.intake.enters(now) {
            return Ok(Some(entry.tunnel));
        }
        if self.waiting.len() >= WAITING_MAX {
            return Err(LeaseRefusal::Busy);
        }
        let puzzle = &mut self.puzzle;
        let mut is_paid = || {
            effort == 0
                || is_worth(puzzle.get_or_insert_default().output(&challenge, nonce), effort)
        };
        if effort > EFFORT_MAX || !is_paid() {
            return Err(LeaseRefusal::Unpaid);
        }
        self.waiting.insert(leg, lease);
        self.crowded.insert(lease);
        match entry.intake.wait(now, effort, leg) {
            Some(refused) if refused == leg => {
                self.waiting.remove(&leg);
                return Err(LeaseRefusal::Busy);
            }
            Some(refused) => {
                self.waiting.remove(&refused);
                self.refused.push_back(refused);
            }
            None => {}
        }
        Ok(None)
    }

    /// What becomes of those who wait; ask until there is nothing.
    pub fn next(&mut self, now: Time) -> Option<Admission> {
        if let Some(leg) = self.refused.pop_front() {
            return Some(Admission::Refuse { leg });
        }
        if self.waiting.is_empty() {
            return None;
        }
        let leases = &mut self.leases;
        self.crowded.retain(|lease| leases.get(lease).is_some_and(|it| it.intake.is_crowded()));
        for lease in &self.crowded {
            let Some(entry) = leases.get_mut(lease) else { continue };
            let tunnel = entry.tunnel;
            if let Some(leg) = entry.intake.late(now) {
                self.waiting.remove(&leg);
                return Some(Admission::Refuse { leg });
            }
            if let Some(leg) = entry.intake.next(now) {
                self.waiting.remove(&leg);
                return Some(Admission::Enter { leg, tunnel });
            }
            if let Some(crowd) = entry.intake.report(now) {
                return Some(Admission::Report { tunnel, crowd });
            }
        }
        None
    }

    /// Whoever waited on `leg` gave up.
    pub fn forget(&mut self, leg: (LinkNo, TunnelId)) {
        if let Some(lease) = self.waiting.remove(&leg)
            && let Some(entry) = self.leases.get_mut(&lease)
        {
            entry.intake.forget(leg);
        }
    }

    /// Whoever waited on any lane of `link` is gone.
    pub fn link_down(&mut self, link: LinkNo) {
        let gone: Vec<_> = self.waiting.keys().filter(|leg| leg.0 == link).copied().collect();
        for leg in gone {
            self.forget(leg);
        }
    }

    /// When to ask again.
    pub fn poll_timeout(&self) -> Option<Time> {
        if self.waiting.is_empty() {
            return None;
        }
        let crowded = self.crowded.iter().filter_map(|lease| self.leases.get(lease));
        crowded.filter_map(|entry| entry.intake.poll_timeout()).min()
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

/// What a sealed lease says.
struct Shown {
    lease: [u8; 16],
    effort: u32,
    nonce: u64,
    challenge: [u8; 32],
}

fn unseal(key: &DhSecret, sealed: &[u8; SEALED_LEASE_LEN]) -> Option<Shown> {
    let mut r = Reader::new(sealed);
    let ephemeral = r.array("ephemeral").ok()?;
    let mut text: [u8; TEXT_LEN] = r.array("lease").ok()?;
    let tag = r.array("tag").ok()?;
    let splice_key = key.public();
    let secret = lease_key(&key.agree(&ephemeral)?, &ephemeral, &splice_key);
    Aead::new(&secret).open_in_place(0, &[], &mut text, &tag).ok()?;
    let mut r = Reader::new(&text);
    let lease = r.array("lease id").ok()?;
    let effort = r.u32("effort").ok()?;
    let nonce = r.u64("nonce").ok()?;
    Some(Shown { lease, effort, nonce, challenge: challenge(&ephemeral, &splice_key, &lease) })
}

#[cfg(test)]
mod tests;
