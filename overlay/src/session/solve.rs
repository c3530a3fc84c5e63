//! A client's work for its turn at a service that asks for it.
//!
//! Lives here: the searches of one `End`, a millisecond at a time. Does not live here: what an effort is
//! (`crypto/effort.rs`), how much is asked (`session/effort.rs`), opening the path then (`end.rs`).
//!
//! A router is one task: a search must never hold up cells. So it makes a few tries, lets everything
//! else go on for as long, and makes the next. Half of a core at most, and on a virtual clock the time
//! that it would take.

use std::{collections::VecDeque, time::Duration};

use super::path::PathNo;
use crate::{
    crypto::effort::{MemoryPuzzle, Search},
    garlic::{LeaseSeal, OwnTunnelName},
    time::Time,
    wire::{Contact, SEALED_LEASE_LEN},
};

/// Tries at one go: about a millisecond.
const TRIES: u32 = 64;
/// From one go to the next.
const PAUSE: Duration = Duration::from_millis(2);

/// What work of `effort` may take: four times the mean, which one search in fifty exceeds.
pub(super) fn patience(effort: u32) -> Duration {
    PAUSE * (4 * effort / TRIES)
}

/// A path that waits for its work.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) path: PathNo,
    pub(super) tunnel: OwnTunnelName,
    pub(super) contact: Contact,
    pub(super) seal: LeaseSeal,
    pub(super) effort: u32,
}

/// The searches, one after the other. At most as many as a client has attempts.
#[derive(Debug, Default)]
pub(super) struct Solver {
    wishes: VecDeque<(Wish, Search)>,
    puzzle: Option<Box<MemoryPuzzle>>,
    next: Time,
}

impl Solver {
    /// Begins one.
    pub(super) fn begin(&mut self, wish: Wish) {
        let search = Search::new(wish.seal.challenge(), wish.effort);
        self.wishes.push_back((wish, search));
    }

    /// The path is not wanted any more.
    pub(super) fn forget(&mut self, path: PathNo) {
        self.wishes.retain(|(wish, _)| wish.path != path);
    }

    /// Works, if it is time; gives a path whose lease is sealed.
    pub(super) fn step(
        &mut self,
        now: Time,
    ) -> Option<(PathNo, OwnTunnelName, Contact, [u8; SEALED_LEASE_LEN])> {
        if now < self.next {
            return None;
        }
        let (_, search) = self.wishes.front_mut()?;
        self.next = now + PAUSE;
        let puzzle = self.puzzle.get_or_insert_default();
        let nonce = search.step(puzzle.as_mut(), TRIES)?;
        let (wish, _) = self.wishes.pop_front()?;
        if self.wishes.is_empty() {
            self.puzzle = None;
        }
        let sealed = wish.seal.seal(wish.effort, nonce);
        Some((wish.path, wish.tunnel, wish.contact, sealed))
    }

    /// When to work on.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        (!self.wishes.is_empty()).then_some(self.next)
    }
}
