//! Grants that wait to be told, and what of the bandwidth they take.
//!
//! Lives here: a link's lanes with a grant to tell, whose turn it is, the place for it. Does not live
//! here: how much a lane is granted (`credit.rs`), the bandwidth of all links (`rate.rs`).
//!
//! ```text
//!  own lanes     ---------------------> turns --received--> Credit
//!  others' lanes --share of transit-->
//! ```
//!
//! What a tunnel of others brings leaves again, and is held back there too (`classes.rs`): what was granted
//! long ago may come at any time. Here the share keeps it from waiting in this router.

use std::collections::VecDeque;

use crate::{
    id::TunnelId,
    link::rate::{Pacer, RateLimits},
    plane::CELL_LEN,
    time::Time,
};

/// The grants of one link.
#[derive(Debug)]
pub(super) struct Grants {
    /// Lanes, each at most once: all, and those of others where these have a share. None on most links.
    queues: Option<Box<[VecDeque<TunnelId>; 2]>>,
    /// Whose turn it is, if both could.
    shared_next: bool,
    /// The link's turns at what all links receive,
    pub(super) pace: Pacer,
    /// and at what tunnels of others may take of it.
    share: Pacer,
    /// Until when the limits hold all of them back.
    held: Option<Time>,
}

/// A lane's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) tunnel: TunnelId,
    /// Cells that it may be granted.
    pub(super) most: usize,
    /// Whether they take of the share.
    shared: bool,
}

impl Grants {
    /// None yet.
    pub(super) fn new(limits: Option<&RateLimits>) -> Self {
        Self {
            queues: None,
            shared_next: false,
            pace: Pacer::new(limits.map(|limits| &limits.received)),
            share: Pacer::new(limits.map(|limits| &limits.transit_received)),
            held: None,
        }
    }

    /// A lane that is not listed has a grant to tell.
    pub(super) fn list(&mut self, tunnel: TunnelId, own: bool) {
        let shared = !own && self.share.is_limited();
        let [all, others] = &mut **self.queues.get_or_insert_default();
        (if shared { others } else { all }).push_back(tunnel);
    }

    /// The lane is gone.
    pub(super) fn forget(&mut self, tunnel: TunnelId) {
        for queue in self.queues.iter_mut().flat_map(|it| it.iter_mut()) {
            queue.retain(|other| *other != tunnel);
        }
    }

    /// All lanes are gone.
    pub(super) fn clear(&mut self) {
        self.queues = None;
    }

    /// Gives up memory that is kept for more.
    pub(super) fn rest(&mut self) {
        self.queues.take_if(|it| it.iter().all(VecDeque::is_empty));
    }

    /// The next lane that may tell its grant now; `told` says what came of it.
    pub(super) fn next(&mut self, now: Time) -> Option<Turn> {
        for shared in [self.shared_next, !self.shared_next] {
            let Ok(most) = self.place(now, shared) else { continue };
            let [all, others] = &mut **self.queues.as_mut()?;
            let queue = if shared { others } else { all };
            if let Some(tunnel) = queue.pop_front() {
                self.shared_next = !shared;
                return Some(Turn { tunnel, most, shared });
            }
        }
        None
    }

    /// Cells for which the first of a queue has a place now; else when it will have one, if any waits.
    fn place(&mut self, now: Time, shared: bool) -> Result<usize, Option<Time>> {
        if self.is_empty(shared) {
            return Err(None);
        }
        let share = if shared { self.share.cells(now)? } else { usize::MAX };
        Ok(self.pace.cells(now)?.min(share))
    }

    /// So many cells were granted.
    pub(super) fn told(&mut self, now: Time, turn: Turn, cells: u16) {
        let bytes = usize::from(cells) * CELL_LEN;
        self.pace.used(now, bytes, true);
        if turn.shared {
            self.share.used(now, bytes, true);
        }
    }

    /// Takes note of how long the limits keep back what is left, if they do.
    pub(super) fn hold(&mut self, now: Time) {
        let places = [false, true].map(|shared| self.place(now, shared));
        let ready = places.iter().any(Result::is_ok);
        self.held =
            if ready { None } else { places.into_iter().filter_map(Result::err).flatten().min() };
    }

    /// Time passed.
    pub(super) fn handle_timeout(&mut self, now: Time) {
        self.held.take_if(|until| *until <= now);
    }

    /// When to call `handle_timeout`.
    pub(super) const fn poll_timeout(&self) -> Option<Time> {
        self.held
    }

    /// Whether one may be told now.
    pub(super) fn is_ready(&self) -> bool {
        !(self.is_empty(false) && self.is_empty(true)) && self.held.is_none()
    }

    fn is_empty(&self, shared: bool) -> bool {
        let queue = self.queues.as_ref().and_then(|queues| queues.get(usize::from(shared)));
        queue.is_none_or(VecDeque::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::link::rate::BURST;

    /// Grants whatever it may for ten seconds; how many cells to own lanes, and to others'.
    fn ten_seconds(limits: &Arc<RateLimits>, own: bool) -> [u64; 2] {
        let mut grants = Grants::new(Some(limits));
        let lane = |own: bool| TunnelId(if own { 1 } else { 2 });
        grants.list(lane(false), false);
        if own {
            grants.list(lane(true), true);
        }
        let mut told = [0, 0];
        let start = Time::from_micros(5_000_000);
        for at in 0..10_000 {
            let now = start + Duration::from_millis(at);
            grants.handle_timeout(now);
            while let Some(turn) = grants.next(now) {
                let own = turn.tunnel == lane(true);
                let cells = u16::try_from(turn.most).unwrap();
                grants.told(now, turn, cells);
                told[usize::from(!own)] += u64::from(cells);
                grants.list(turn.tunnel, own);
            }
            grants.hold(now);
            assert!(!grants.is_ready(), "what could be told was told");
        }
        told
    }

    #[test]
    fn others_have_their_share_and_no_more_and_own_lanes_the_rest() {
        let all = 10_000_000 / CELL_LEN as u64;
        let percent = |cells: u64| cells * 100 / all;
        let limits = RateLimits::each_way(1_000_000);
        limits.change(1_000_000, BURST, 25);
        assert!((24..=26).contains(&percent(ten_seconds(&limits, false)[1])));
        let limits = RateLimits::each_way(1_000_000);
        limits.change(1_000_000, BURST, 25);
        let [own, others] = ten_seconds(&limits, true);
        // Turns of a place each, and theirs are the smaller: a little less than their share.
        assert!(percent(own) >= 74, "{own}");
        assert!((19..=26).contains(&percent(others)), "{others}");
    }

    #[test]
    fn without_a_share_all_take_turns() {
        let limits = RateLimits::each_way(1_000_000);
        let [own, others] = ten_seconds(&limits, true);
        assert!(own.abs_diff(others) <= 15, "{own} {others}");
    }
}
