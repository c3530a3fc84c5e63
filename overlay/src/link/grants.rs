//! Grants that wait to be told, and what of the bandwidth they take.
//!
//! Lives here: a link's lanes with a grant to tell, whose turn it is, the place for it. Does not live
//! here: how much a lane is granted (`credit.rs`), the bandwidth of all links (`rate.rs`).
//!
//! ```text
//!  new lanes     -------------------------------------> Credit: paid for as it is used
//!  own lanes     ---------------------> turns --received--> Credit
//!  others' lanes --share of transit-->
//! ```
//!
//! A lane's first window is granted at once, and takes its bandwidth when cells of it come: most lanes of
//! tunnels that are kept ready, and of paths that are tried, use little of theirs, and on a slow line the first windows
//! of twenty of them would be all that it receives in five seconds. What a lane that closes has left of later
//! grants is given back.
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
    /// Lanes, each at most once. None on most links.
    queues: Option<Box<Queues>>,
    /// Whose turn it is, if both could.
    shared_next: bool,
    /// The link's turns at what all links receive,
    pub(super) pace: Pacer,
    /// and at what tunnels of others may take of it.
    share: Pacer,
    /// Until when the limits hold all of them back.
    held: Option<Time>,
}

#[derive(Debug, Default)]
struct Queues {
    /// Those that were granted nothing yet.
    new: VecDeque<TunnelId>,
    all: VecDeque<TunnelId>,
    /// Those of others, where these have a share.
    others: VecDeque<TunnelId>,
}

impl Queues {
    const fn each(&mut self) -> [&mut VecDeque<TunnelId>; 3] {
        [&mut self.new, &mut self.all, &mut self.others]
    }
}

/// What a grant takes a place in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nothing.
    None,
    /// The bandwidth of all.
    All,
    /// That, and the share of tunnels of others.
    Share,
}

/// A lane's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) tunnel: TunnelId,
    /// Cells that it may be granted.
    pub(super) most: usize,
    place: Place,
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
    pub(super) fn list(&mut self, tunnel: TunnelId, own: bool, new: bool) {
        let shared = self.is_shared(own);
        let queues = self.queues.get_or_insert_default();
        let queue = match (new, shared) {
            (true, _) => &mut queues.new,
            (false, true) => &mut queues.others,
            (false, false) => &mut queues.all,
        };
        queue.push_back(tunnel);
    }

    fn is_shared(&self, own: bool) -> bool {
        !own && self.share.is_limited()
    }

    /// The lane is gone.
    pub(super) fn forget(&mut self, tunnel: TunnelId) {
        for queue in self.queues.iter_mut().flat_map(|it| it.each()) {
            queue.retain(|other| *other != tunnel);
        }
    }

    /// All lanes are gone.
    pub(super) fn clear(&mut self) {
        self.queues = None;
    }

    /// Gives up memory that is kept for more.
    pub(super) fn rest(&mut self) {
        self.queues.take_if(|it| it.each().iter().all(|queue| queue.is_empty()));
    }

    /// The next lane that may tell its grant now; `told` says what came of it.
    pub(super) fn next(&mut self, now: Time) -> Option<Turn> {
        if let Some(tunnel) = self.queues.as_mut()?.new.pop_front() {
            return Some(Turn { tunnel, most: usize::MAX, place: Place::None });
        }
        for shared in [self.shared_next, !self.shared_next] {
            let Ok(most) = self.place(now, shared) else { continue };
            let queues = self.queues.as_mut()?;
            let (queue, place) = if shared {
                (&mut queues.others, Place::Share)
            } else {
                (&mut queues.all, Place::All)
            };
            if let Some(tunnel) = queue.pop_front() {
                self.shared_next = !shared;
                return Some(Turn { tunnel, most, place });
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
        if turn.place != Place::None {
            self.pace.used(now, bytes, true);
        }
        if turn.place == Place::Share {
            self.share.used(now, bytes, true);
        }
    }

    /// So many cells of a lane's first window came, or of a lane that is gone.
    pub(super) fn came(&mut self, now: Time, cells: u32, own: bool) {
        if cells == 0 {
            return;
        }
        self.pace.used(now, bytes(cells), false);
        if self.is_shared(own) {
            self.share.used(now, bytes(cells), false);
        }
    }

    /// So many cells that were granted and paid for will not come: their lane is gone.
    pub(super) fn unused(&self, cells: u32, own: bool) {
        if cells == 0 {
            return;
        }
        self.pace.refund(bytes(cells));
        if self.is_shared(own) {
            self.share.refund(bytes(cells));
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
        self.queues.as_ref().is_some_and(|queues| !queues.new.is_empty())
            || (!(self.is_empty(false) && self.is_empty(true)) && self.held.is_none())
    }

    /// Whether none waits for a place.
    fn is_empty(&self, shared: bool) -> bool {
        let queue = |queues: &Queues| {
            if shared { queues.others.is_empty() } else { queues.all.is_empty() }
        };
        self.queues.as_ref().is_none_or(|queues| queue(queues))
    }
}

fn bytes(cells: u32) -> usize {
    usize::try_from(cells).unwrap_or(usize::MAX).saturating_mul(CELL_LEN)
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
        grants.list(lane(false), false, false);
        if own {
            grants.list(lane(true), true, false);
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
                grants.list(turn.tunnel, own, false);
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
    fn first_grants_are_told_at_once_and_paid_for_when_cells_of_them_come() {
        let limits = RateLimits::each_way(100_000);
        let mut grants = Grants::new(Some(&limits));
        let now = Time::from_micros(5_000_000);
        for lane in 1..=50 {
            grants.list(TunnelId(lane), true, true);
        }
        for lane in 1..=50 {
            let turn = grants.next(now).expect("nothing holds it back");
            assert_eq!((turn.tunnel, turn.most), (TunnelId(lane), usize::MAX));
            grants.told(now, turn, 64);
        }
        assert!(grants.next(now).is_none());
        // The next grant of a lane waits only for what came: two seconds' worth, less what may be used at once.
        grants.list(TunnelId(1), true, false);
        assert!(grants.place(now, false).is_ok());
        grants.came(now, 2 * 100_000 / 1_032, true);
        let mut other = Grants::new(Some(&limits));
        other.list(TunnelId(2), true, false);
        let until = other.place(now, false).unwrap_err().unwrap();
        let wait = until.since(now).as_millis();
        assert!((1_900..2_000).contains(&wait), "{wait} ms");
    }

    #[test]
    fn what_a_lane_that_closes_has_not_used_is_given_back() {
        let limits = RateLimits::each_way(100_000);
        let mut grants = Grants::new(Some(&limits));
        let now = Time::from_micros(5_000_000);
        grants.list(TunnelId(1), true, false);
        let turn = grants.next(now).unwrap();
        grants.told(now, turn, 256);
        grants.list(TunnelId(2), true, false);
        assert!(grants.place(now, false).is_err());
        grants.unused(256, true);
        let mut other = Grants::new(Some(&limits));
        other.list(TunnelId(2), true, false);
        let until =
            other.place(now, false).err().flatten().map_or(0, |at| at.since(now).as_millis());
        assert!(until < 100, "{until} ms: one place is taken by the link that waited");
    }

    #[test]
    fn without_a_share_all_take_turns() {
        let limits = RateLimits::each_way(1_000_000);
        let [own, others] = ten_seconds(&limits, true);
        assert!(own.abs_diff(others) <= 15, "{own} {others}");
    }
}
