//! What the peer of a link may send on one lane, and what it may send in all.
//!
//! Lives here: the book of one lane's grants, the window that follows the drain rate, and the
//! router-wide quota that bounds the sum of all windows (PROTOCOL P5). Does not live here: the
//! grants that the peer gave to this side (`egress.rs`).
//!
//! ```text
//! window = may still come + taken in, not yet drained + to be granted
//!            (peer)            (this router)               (next Credit)
//! ```
//!
//! What is kept for one lane can never exceed its window, whatever the peer does: that is what
//! Tor's sniper attack finds nothing to fill in.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{plane::CELL_LEN, time::Time};

/// Grants are multiples of this many cells (PROTOCOL P5); smaller start windows have their own unit.
const UNIT: u32 = 16;
/// Up to here a window that is drained within a round trip and [`DRAIN_SLACK`] doubles (DESIGN section 6):
/// it is little enough not to matter.
const SMALL: u32 = 512;
/// A processor that others use as well may be away so long.
const DRAIN_SLACK: Duration = Duration::from_millis(50);
/// A larger window follows what drains over this time and no less: a burst after a pause says nothing.
/// Half of it is enough where a round trip alone takes as long: then one window is what came in it.
const SPAN: Duration = Duration::from_millis(100);
/// It doubles when so much drains that a whole one goes in one and a half round trips and this.
///
/// Little, so that no more waits than the link needs: whoever speaks next waits behind it.
const SLACK: Duration = Duration::from_millis(5);
/// No lane starts with fewer cells: with less it could not carry one clove forward.
const START_MIN: u64 = 4;

/// Start and limit of a lane's window, in cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowBounds {
    /// At `Open`, where the quota is not short.
    pub start: u32,
    /// Never more.
    pub cap: u32,
}

/// A tunnel's window (DESIGN section 6).
pub const TUNNEL_WINDOW: WindowBounds = WindowBounds { start: 64, cap: 4_096 };
/// A splice leg's window (PROTOCOL P8, decision 0004).
pub const LEG_WINDOW: WindowBounds = WindowBounds { start: 32, cap: 4_096 };

/// How many cells all lanes of a router may hold or have granted: half its memory quota.
///
/// Shared by all links; touched when a lane opens, grows or closes, never per cell.
#[derive(Debug)]
pub struct CreditQuota {
    total: AtomicU64,
    free: AtomicU64,
    lanes: AtomicU64,
}

impl CreditQuota {
    /// Half of `memory_bytes` for windows.
    pub fn new(memory_bytes: u64) -> Self {
        let total = cells(memory_bytes);
        Self { total: total.into(), free: total.into(), lanes: AtomicU64::new(0) }
    }

    /// Makes it half of another `memory_bytes`; false if windows have taken more than that, and it
    /// shrank only as far as it could.
    pub fn change(&self, memory_bytes: u64) -> bool {
        let (before, wanted) = (self.total(), cells(memory_bytes));
        if let Some(more) = wanted.checked_sub(before) {
            self.total.store(wanted, Ordering::Relaxed);
            self.free.fetch_add(more, Ordering::Relaxed);
            return true;
        }
        let less = before - wanted;
        let keep = |free: u64| Some(free.saturating_sub(less));
        let free = self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, keep);
        let taken = free.unwrap_or(0).min(less);
        self.total.store(before - taken, Ordering::Relaxed);
        taken == less
    }

    fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Cells that no window has taken.
    pub fn free(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }

    /// Whether less than an eighth is free: no time for more tunnels.
    pub fn is_short(&self) -> bool {
        self.free() < self.total() / 8
    }

    /// Cells that windows have taken.
    pub fn taken(&self) -> u64 {
        self.total().saturating_sub(self.free())
    }

    /// Takes a start window: clamp(free / (4 x lanes), 4, `wanted`), a multiple of 16 from 16 up.
    fn open(&self, wanted: u32) -> Option<u32> {
        let lanes = self.lanes.load(Ordering::Relaxed) + 1;
        let fair = (self.free() / (4 * lanes)).max(START_MIN);
        let start = u32::try_from(fair).unwrap_or(u32::MAX).min(wanted);
        let start = if start >= UNIT { start - start % UNIT } else { start };
        self.take(start, 0).then(|| {
            self.lanes.fetch_add(1, Ordering::Relaxed);
            start
        })
    }

    /// Takes `cells` if at least `leave` stay free.
    fn take(&self, cells: u32, leave: u64) -> bool {
        let cells = u64::from(cells);
        self.free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| {
                free.checked_sub(cells).filter(|rest| *rest >= leave)
            })
            .is_ok()
    }

    fn close(&self, cells: u32) {
        self.free.fetch_add(u64::from(cells), Ordering::Relaxed);
        self.lanes.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Cells that half of `memory_bytes` holds.
const fn cells(memory_bytes: u64) -> u64 {
    memory_bytes / 2 / CELL_LEN as u64
}

/// The peer sent more than it was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverGrant;

/// What the peer may send on one lane.
#[derive(Debug)]
pub struct CreditBook {
    quota: Arc<CreditQuota>,
    cap: u32,
    unit: u32,
    window: u32,
    /// Granted and not yet come.
    outstanding: u32,
    /// What has not come of the first window.
    first: u32,
    /// Come and not yet drained.
    held: u32,
    /// Drained since `round_at`.
    round: u32,
    /// Windows of it: it is judged when one more has drained whole, and never between two bursts.
    windows: u32,
    round_at: Time,
}

impl CreditBook {
    /// The book of a new lane; `None` if the quota has no room for even a small one.
    pub fn open(now: Time, bounds: WindowBounds, quota: &Arc<CreditQuota>) -> Option<Self> {
        let window = quota.open(bounds.start)?;
        Some(Self {
            quota: Arc::clone(quota),
            cap: bounds.cap,
            unit: UNIT.min(window),
            window,
            outstanding: 0,
            first: window,
            held: 0,
            round: 0,
            windows: 0,
            round_at: now,
        })
    }

    /// Books `cells` that came; says how many of them are of the first window.
    ///
    /// # Errors
    /// If they are more than was granted.
    pub fn arrived(&mut self, cells: u32) -> Result<u32, OverGrant> {
        self.outstanding = self.outstanding.checked_sub(cells).ok_or(OverGrant)?;
        self.held += cells;
        let first = self.first.min(cells);
        self.first -= first;
        Ok(first)
    }

    /// Books `cells` that have left this router, and lets the window follow.
    ///
    /// `round_trip` is the link's. Doubling stops while less than a quarter of the quota is free, so
    /// that new lanes find room.
    pub fn drained(&mut self, now: Time, cells: u32, round_trip: Duration) {
        self.held = self.held.saturating_sub(cells);
        self.round = self.round.saturating_add(cells);
        let took = now.since(self.round_at);
        let windows = self.round / self.window;
        if windows <= self.windows {
            return;
        }
        self.windows = windows;
        let span = if round_trip < SPAN / 2 { SPAN } else { SPAN / 2 };
        if self.window >= SMALL && took < span {
            return;
        }
        let fast = if self.window < SMALL {
            took <= round_trip + DRAIN_SLACK
        } else {
            took <= (round_trip + round_trip / 2 + SLACK) * windows
        };
        let more = self.window.min(self.cap.saturating_sub(self.window));
        let more = more - more % self.unit;
        if fast && more > 0 && self.quota.take(more, self.quota.total() / 4) {
            self.window += more;
        }
        self.round = 0;
        self.windows = 0;
        self.round_at = now;
    }

    /// How many cells are worth a `Credit` now; zero while it would be too few to tell the peer.
    pub fn due(&self) -> u32 {
        let spare = self.window.saturating_sub(self.outstanding + self.held);
        let worth = self.unit.max(self.window / 8);
        if spare < worth { 0 } else { spare - spare % self.unit }
    }

    /// Whether nothing was granted yet.
    pub const fn is_new(&self) -> bool {
        self.outstanding == 0 && self.first == self.window
    }

    /// Takes what is due, but not much more than `most`: the caller tells the peer.
    pub fn grant(&mut self, most: usize) -> u32 {
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        let due = self.due().min((most - most % self.unit).max(self.unit));
        self.outstanding += due;
        due
    }

    /// The window in cells.
    pub const fn window(&self) -> u32 {
        self.window
    }

    /// Cells granted after the first window, and not yet come.
    pub const fn unused(&self) -> u32 {
        self.outstanding.saturating_sub(self.first)
    }

    /// Cells granted and not yet come.
    pub const fn outstanding(&self) -> u32 {
        self.outstanding
    }

    /// Cells come and not yet drained.
    pub const fn held(&self) -> u32 {
        self.held
    }
}

impl Drop for CreditBook {
    fn drop(&mut self) {
        self.quota.close(self.window);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn book(memory: u64) -> CreditBook {
        CreditBook::open(Time::ZERO, TUNNEL_WINDOW, &Arc::new(CreditQuota::new(memory))).unwrap()
    }

    #[test]
    fn a_changed_quota_gives_and_takes_what_is_free() {
        let quota = Arc::new(CreditQuota::new(1 << 20));
        let book = CreditBook::open(Time::ZERO, TUNNEL_WINDOW, &quota).unwrap();
        let taken = u64::from(book.window());
        assert!(quota.change(4 << 20));
        assert_eq!((quota.taken(), quota.free()), (taken, cells(4 << 20) - taken));
        assert!(quota.change(1 << 20));
        assert_eq!((quota.taken(), quota.free()), (taken, cells(1 << 20) - taken));
        // Less than is taken: as low as can be, and what comes back is no more than that.
        assert!(!quota.change(4_096));
        assert_eq!((quota.taken(), quota.free()), (taken, 0));
        drop(book);
        assert_eq!((quota.taken(), quota.free()), (0, taken));
    }

    #[test]
    fn a_cell_without_a_grant_is_too_many() {
        let mut book = book(1 << 30);
        assert_eq!(book.arrived(1), Err(OverGrant));
        assert_eq!(book.grant(usize::MAX), 64);
        assert_eq!(book.arrived(64), Ok(64));
        assert_eq!(book.arrived(1), Err(OverGrant));
    }

    #[test]
    fn what_comes_is_first_of_the_first_window_and_then_of_what_was_granted_later() {
        let mut book = book(1 << 30);
        assert!(book.is_new());
        assert_eq!((book.grant(usize::MAX), book.unused()), (64, 0));
        assert!(!book.is_new());
        assert_eq!(book.arrived(40), Ok(40));
        book.drained(Time::ZERO + Duration::from_secs(9), 40, Duration::ZERO);
        assert_eq!((book.grant(usize::MAX), book.unused()), (32, 32));
        assert_eq!(book.arrived(30), Ok(24));
        assert_eq!((book.unused(), book.outstanding()), (26, 26));
        assert_eq!(book.arrived(26), Ok(0));
    }

    /// The window after 200 rounds, each of which drains all that was granted in `millis`.
    fn window_after(round_trip: u64, millis: u64) -> u32 {
        let mut book = book(1 << 30);
        let mut now = Time::ZERO;
        for _ in 0..200 {
            let granted = book.grant(usize::MAX);
            book.arrived(granted).unwrap();
            now = now + Duration::from_millis(millis);
            book.drained(now, granted, Duration::from_millis(round_trip));
        }
        book.window()
    }

    #[test]
    fn a_window_follows_what_drains_in_a_round_trip_and_little_more() {
        assert_eq!(window_after(0, 4), TUNNEL_WINDOW.cap);
        assert_eq!(window_after(80, 100), TUNNEL_WINDOW.cap, "a long link");
        assert_eq!(window_after(0, 10), SMALL, "more would only wait");
        assert_eq!(window_after(0, 51), TUNNEL_WINDOW.start);
    }

    #[test]
    fn over_a_long_link_a_window_doubles_in_every_round_trip_however_its_cells_come() {
        for burst in [1, 5, 14, 30] {
            let (mut book, mut now) = (book(1 << 30), Time::ZERO);
            for _ in 0..6 {
                let granted = book.grant(usize::MAX);
                book.arrived(granted).unwrap();
                now = now + Duration::from_millis(80);
                for _ in 0..16 {
                    now = now + Duration::from_millis(burst) / 16;
                    book.drained(now, granted / 16, Duration::from_millis(80));
                }
            }
            assert_eq!(book.window(), TUNNEL_WINDOW.cap, "in {burst} ms");
        }
    }

    #[test]
    fn a_burst_after_each_pause_grows_no_large_window() {
        let mut book = book(1 << 30);
        let mut now = Time::ZERO;
        for _ in 0..200 {
            now = now + Duration::from_millis(45);
            // What had waited goes at once, and so does what was granted for it.
            for _ in 0..3 {
                now = now + Duration::from_millis(1);
                let granted = book.grant(usize::MAX);
                book.arrived(granted).unwrap();
                book.drained(now, granted, Duration::ZERO);
            }
        }
        assert_eq!(book.window(), SMALL);
    }

    #[test]
    fn a_closed_lane_gives_back_what_it_took() {
        let quota = Arc::new(CreditQuota::new(1 << 20));
        let before = quota.free();
        let books: Vec<_> =
            (0..9).filter_map(|_| CreditBook::open(Time::ZERO, LEG_WINDOW, &quota)).collect();
        assert!(quota.free() < before);
        drop(books);
        assert_eq!(quota.free(), before);
    }

    #[test]
    fn a_full_quota_opens_small_windows_and_then_none() {
        let quota = Arc::new(CreditQuota::new(2 * 1_032 * 100)); // 100 cells
        let mut books = Vec::new();
        while let Some(book) = CreditBook::open(Time::ZERO, TUNNEL_WINDOW, &quota) {
            books.push(book);
        }
        assert!(books.len() > 10, "{}", books.len());
        assert!(books.iter().map(CreditBook::window).sum::<u32>() <= 100);
        assert!(quota.free() < 4);
    }

    proptest! {
        #[test]
        fn a_lane_never_holds_more_than_its_window_and_windows_never_exceed_the_quota(
            steps in prop::collection::vec((0u8..3, 0u32..200, 0u64..100), 1..300), cells in 4u64..10_000,
        ) {
            let quota = Arc::new(CreditQuota::new(cells * 2 * CELL_LEN as u64));
            let mut book = CreditBook::open(Time::ZERO, TUNNEL_WINDOW, &quota).unwrap();
            let (mut peer, mut here, mut now) = (0, 0, Time::ZERO);
            for (what, n, millis) in steps {
                now = now + Duration::from_millis(millis);
                match what {
                    0 => peer += book.grant(usize::MAX),
                    1 => {
                        let n = n.min(peer);
                        book.arrived(n).unwrap();
                        peer -= n;
                        here += n;
                    }
                    _ => {
                        let n = n.min(here);
                        book.drained(now, n, Duration::from_millis(5));
                        here -= n;
                    }
                }
                prop_assert!(peer + here <= book.window());
                prop_assert!(u64::from(book.window()) + quota.free() <= cells);
                prop_assert!(book.window() <= TUNNEL_WINDOW.cap);
            }
            // Nothing is lost: once all has drained, the peer may send again.
            book.arrived(peer).unwrap();
            book.drained(now, peer + here, Duration::ZERO);
            prop_assert!(book.grant(usize::MAX) > 0);
        }
    }
}
