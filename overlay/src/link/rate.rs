//! The operator's bandwidth limit, shared by all links of a router.
//!
//! Lives here: one token bucket for each direction, each link's place in the queue for it, and how
//! much went through in the last seconds. Does not live here: sharing between the lanes of a link
//! (`schedule.rs`), which bytes are counted when (`transmit.rs`, `io.rs`).
//!
//! A bucket is kept as the time at which all that was promised is paid for (the virtual scheduling
//! form of the leaky bucket, ITU-T I.371). A link that wants to use some takes the next free place
//! and waits for its time, so that links take turns whatever the order they are asked in:
//!
//! ```text
//! link 1  |==a==|              |==d==|          a, b, c, d: one quantum each; whoever uses less
//! link 2        |==b==|                         or more of its place than that moves all later
//! link 3              |==c==|                   places that are not yet taken
//!         now                        paid_at
//! ```
//!
//! What is sent waits for its place. What is received cannot be made to wait where it is, so the
//! grants that allow a peer to send it do: each is charged when it is given, but for a lane's first, which
//! is as its cells come. Control messages never
//! wait, but are charged; nor do lanes that were idle, for one quantum, while no more than 50 ms are
//! promised ahead: whoever sends a cell now and then is not to wait behind all others at six routers.
//! Over 10 s the error is at most one quantum a link and the burst: under 3 % from 100 kB/s up (DESIGN
//! section 4); for what is received, also what was granted before and not used, and the first windows of new lanes.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{link::frame::CELLS_MAX, plane::CELL_LEN, time::Time};

/// Unused bandwidth is kept this long unless the operator says otherwise: enough to ride over a late wake-up.
pub const BURST: Duration = Duration::from_millis(50);
/// How much time one place in the queue is worth, where that is less than a full frame: whoever sends a
/// cell now and then waits for the place in use and the one that its owner has taken ahead, at each of
/// six routers.
const QUANTUM: Duration = Duration::from_millis(5);
/// How much may be promised ahead, at most, when lanes that were idle send without a place.
const AHEAD: Duration = Duration::from_millis(50);
/// Whole seconds that `last_seconds` looks back.
const SECONDS: u32 = 10;

/// The bandwidth limits of a router, one for each direction.
#[derive(Debug)]
pub struct RateLimits {
    /// What leaves this router.
    pub sent: Arc<RateLimit>,
    /// What comes to it.
    pub received: Arc<RateLimit>,
    /// What tunnels of others may send of that; more than there is where they have no share of their own.
    pub transit_sent: Arc<RateLimit>,
    /// What they may be granted of that.
    pub transit_received: Arc<RateLimit>,
}

impl RateLimits {
    /// The same limit for either direction, in bytes per second.
    pub fn each_way(bytes_per_second: u64) -> Arc<Self> {
        let [sent, received, transit_sent, transit_received] =
            [bytes_per_second, bytes_per_second, u64::MAX, u64::MAX]
                .map(|limit| Arc::new(RateLimit::new(limit)));
        Arc::new(Self { sent, received, transit_sent, transit_received })
    }

    /// Changes the limit, how long unused bandwidth is kept, and how many per cent of it tunnels of others
    /// may take.
    pub fn change(&self, bytes_per_second: u64, burst: Duration, transit_percent: u8) {
        let share = bytes_per_second / 100 * u64::from(transit_percent);
        let share = if transit_percent < 100 { share } else { u64::MAX };
        for (limit, rate) in [
            (&self.sent, bytes_per_second),
            (&self.received, bytes_per_second),
            (&self.transit_sent, share),
            (&self.transit_received, share),
        ] {
            limit.change(rate);
            limit.keep(burst);
        }
    }
}

/// A bandwidth limit for one direction, in bytes per second.
///
/// Behind a lock that is taken a few times per frame, never per cell.
#[derive(Debug)]
pub struct RateLimit {
    bytes_per_second: AtomicU64,
    /// How long what is not used is kept, in nanoseconds.
    burst: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When all that was promised is paid for, in nanoseconds of the monotonic clock.
    paid_at: u64,
    /// What went through since the start.
    total: u64,
    /// What went through in each of the last seconds: the second's number, bytes.
    seconds: [(u32, u32); SECONDS as usize + 1],
}

impl RateLimit {
    /// A limit of `bytes_per_second`, at least 1,000.
    pub fn new(bytes_per_second: u64) -> Self {
        let [rate, burst] = [(); 2].map(|()| AtomicU64::default());
        let this = Self { bytes_per_second: rate, burst, state: Mutex::default() };
        this.change(bytes_per_second);
        this.keep(BURST);
        this
    }

    /// Keeps what is not used for so long, and lets it go at once then.
    fn keep(&self, burst: Duration) {
        let burst = u64::try_from(burst.as_nanos()).unwrap_or(u64::MAX);
        self.burst.store(burst, Ordering::Relaxed);
    }

    /// The longest ago that bandwidth may have been left unused and still count, in nanoseconds.
    fn oldest(&self, now: Time) -> u64 {
        nanoseconds(now).saturating_sub(self.burst.load(Ordering::Relaxed))
    }

    /// Changes the limit, at least 1,000 bytes per second. Places that were taken keep their times.
    pub fn change(&self, bytes_per_second: u64) {
        self.bytes_per_second.store(bytes_per_second.max(1_000), Ordering::Relaxed);
    }

    /// The limit, in bytes per second.
    pub fn bytes_per_second(&self) -> u64 {
        self.bytes_per_second.load(Ordering::Relaxed)
    }

    /// Cells that one place in the queue is worth: 1 to 15.
    pub(super) fn quantum(&self) -> usize {
        let bytes = u128::from(self.bytes_per_second()) * QUANTUM.as_millis() / 1_000;
        usize::try_from(bytes).unwrap_or(usize::MAX).div_euclid(CELL_LEN).clamp(1, CELLS_MAX)
    }

    /// Takes note of `bytes` that went through without waiting: those of handshakes.
    pub fn pass(&self, now: Time, bytes: usize) {
        self.charge(now, bytes as u64);
        self.count(now, bytes as u64);
    }

    fn charge(&self, now: Time, bytes: u64) {
        let cost = self.cost(bytes);
        self.with(|state| state.paid_at = state.paid_at.max(self.oldest(now)).saturating_add(cost));
    }

    /// Takes note that `bytes` went through, for `last_seconds` alone.
    fn count(&self, now: Time, bytes: u64) {
        let second = second(now);
        self.with(|state| {
            state.total += bytes;
            let at = second as usize % state.seconds.len();
            if let Some(slot) = state.seconds.get_mut(at) {
                if slot.0 != second {
                    *slot = (second, 0);
                }
                slot.1 = slot.1.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
            }
        });
    }

    /// Bytes that went through since the start.
    pub fn total(&self) -> u64 {
        self.with(|state| state.total)
    }

    /// Mean of the last ten whole seconds, in bytes per second.
    pub fn last_seconds(&self, now: Time) -> u64 {
        let second = second(now);
        let oldest = second.saturating_sub(SECONDS);
        self.with(|state| {
            let recent = state.seconds.iter().filter(|(at, _)| (oldest..second).contains(at));
            recent.map(|(_, bytes)| u64::from(*bytes)).sum::<u64>() / u64::from(SECONDS)
        })
    }

    /// Takes the next place for `bytes`; from then on they may be used.
    fn reserve(&self, now: Time, bytes: u64) -> Time {
        let cost = self.cost(bytes);
        self.with(|state| {
            let from = state.paid_at.max(self.oldest(now));
            state.paid_at = from.saturating_add(cost);
            Time::from_micros(from.div_ceil(1_000))
        })
    }

    /// Corrects what a place was thought to be worth.
    fn settle(&self, reserved: u64, used: u64) {
        let (reserved, used) = (self.cost(reserved), self.cost(used));
        self.with(|state| {
            state.paid_at = state.paid_at.saturating_add(used).saturating_sub(reserved);
        });
    }

    fn cost(&self, bytes: u64) -> u64 {
        let cost = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second());
        u64::try_from(cost).unwrap_or(u64::MAX)
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The number of a second: of 136 years at most.
fn second(at: Time) -> u32 {
    u32::try_from(at.as_micros() / 1_000_000).unwrap_or(u32::MAX)
}

fn nanoseconds(at: Time) -> u64 {
    at.as_micros().saturating_mul(1_000)
}

/// One link's place in the queue for one direction.
///
/// Gives its place back when it is dropped.
#[derive(Debug)]
pub(super) struct Pacer {
    limit: Option<Arc<RateLimit>>,
    /// From when the place may be used.
    place: Option<Time>,
}

impl Pacer {
    /// A link's turns at `side` of the limits, if there are any.
    pub(super) fn new(limit: Option<&Arc<RateLimit>>) -> Self {
        Self { limit: limit.map(Arc::clone), place: None }
    }

    /// Cells that may be used now; or when there will be any, and the place for them is kept.
    pub(super) fn cells(&mut self, now: Time) -> Result<usize, Time> {
        let Some(limit) = &self.limit else { return Ok(usize::MAX) };
        let quantum = limit.quantum();
        let at = *self.place.get_or_insert_with(|| limit.reserve(now, (quantum * CELL_LEN) as u64));
        if at <= now { Ok(quantum) } else { Err(at) }
    }

    /// Whether some cells may leave before their place: those of lanes that send now and then. They are
    /// charged, so that all places that are not yet taken come later.
    pub(super) fn spares(&self, now: Time) -> bool {
        let Some(limit) = &self.limit else { return true };
        limit.with(|state| state.paid_at) <= nanoseconds(now + AHEAD)
    }

    /// Whether there is a limit to keep to.
    pub(super) fn is_limited(&self) -> bool {
        self.limit.as_ref().is_some_and(|limit| limit.bytes_per_second() < u64::MAX)
    }

    /// Takes note of `bytes` used, by the place if `placed`.
    pub(super) fn used(&mut self, now: Time, bytes: usize, placed: bool) {
        let Some(limit) = &self.limit else { return };
        match self.place.take_if(|_| placed) {
            Some(_) => limit.settle((limit.quantum() * CELL_LEN) as u64, bytes as u64),
            None => limit.charge(now, bytes as u64),
        }
    }

    /// Takes back what was charged for `bytes`.
    pub(super) fn refund(&self, bytes: usize) {
        if let Some(limit) = &self.limit {
            limit.settle(bytes as u64, 0);
        }
    }

    /// Takes note that `bytes` went through.
    pub(super) fn count(&self, now: Time, bytes: usize) {
        if let Some(limit) = &self.limit {
            limit.count(now, bytes as u64);
        }
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        if let (Some(limit), Some(_)) = (&self.limit, self.place) {
            limit.settle((limit.quantum() * CELL_LEN) as u64, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time::from_micros(5_000_000);

    fn pacers(rate: u64, links: usize) -> Vec<Pacer> {
        let limits = RateLimits::each_way(rate);
        (0..links).map(|_| Pacer::new(Some(&limits.sent))).collect()
    }

    /// What each of the links sends in ten seconds, all of them always wanting to, the first asked
    /// first.
    fn ten_seconds(pacers: &mut [Pacer]) -> Vec<u64> {
        ten_seconds_from(START, pacers)
    }

    fn ten_seconds_from(start: Time, pacers: &mut [Pacer]) -> Vec<u64> {
        let mut sent = vec![0; pacers.len()];
        let (mut now, end) = (start, start + Duration::from_secs(10));
        while now < end {
            for (pacer, sent) in pacers.iter_mut().zip(&mut sent) {
                while let Ok(cells) = pacer.cells(now) {
                    let bytes = 20 + cells * CELL_LEN;
                    pacer.used(now, bytes, true);
                    pacer.count(now, bytes);
                    *sent += bytes as u64;
                }
            }
            now = now + Duration::from_millis(3); // wake-ups are never on time
        }
        sent
    }

    #[test]
    fn over_ten_seconds_the_limit_holds_to_three_percent_whatever_the_number_of_links() {
        for (rate, links) in [(100_000, 1), (1_000_000, 7), (50_000_000, 3)] {
            let mut pacers = pacers(rate, links);
            let sent: u64 = ten_seconds(&mut pacers).iter().sum();
            let ideal = rate * 10;
            assert!(sent.abs_diff(ideal) * 100 <= ideal * 3, "{rate}: {sent} of {ideal}");
            let limit = pacers[0].limit.clone().unwrap();
            let mean = limit.last_seconds(START + Duration::from_secs(10));
            assert!(mean.abs_diff(rate) * 100 <= rate * 3, "{rate}: {mean} a second");
            assert_eq!(limit.last_seconds(START + Duration::from_secs(40)), 0);
        }
    }

    /// What goes before its place is paid for all the same, and never more than 50 ms of it.
    #[test]
    fn cells_that_do_not_wait_for_a_place_keep_the_limit_too() {
        let rate = 1_000_000;
        let mut pacers = pacers(rate, 2);
        let (mut now, mut sent) = (START, 0);
        while now < START + Duration::from_secs(10) {
            while let Ok(cells) = pacers[0].cells(now) {
                pacers[0].used(now, cells * CELL_LEN, true);
                sent += cells * CELL_LEN;
            }
            // Somebody whose lanes are idle again and again.
            while pacers[1].spares(now) {
                pacers[1].used(now, CELL_LEN, false);
                sent += CELL_LEN;
            }
            now = now + Duration::from_millis(3);
        }
        let ideal = 10 * rate;
        assert!((sent as u64).abs_diff(ideal) * 100 <= ideal * 3, "{sent}");
    }

    #[test]
    fn a_changed_limit_holds_at_once() {
        let mut pacers = pacers(4_000_000, 3);
        ten_seconds(&mut pacers);
        let limit = pacers[0].limit.clone().unwrap();
        limit.change(500_000);
        // What was promised at the old rate is paid for within the first of its seconds.
        let later = START + Duration::from_secs(10);
        let sent: u64 = ten_seconds_from(later, &mut pacers).iter().sum();
        assert!(sent.abs_diff(5_000_000) * 100 <= 5_000_000 * 3, "{sent}");
    }

    #[test]
    fn links_that_all_want_to_send_get_the_same() {
        let sent = ten_seconds(&mut pacers(1_000_000, 9));
        let (least, most) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
        assert!(most - least <= 52_000 + 2 * 15_500, "the burst and two turns: {sent:?}");
    }

    #[test]
    fn what_was_not_used_is_not_saved_up() {
        let mut pacers = pacers(1_000_000, 1);
        let now = Time::from_micros(60_000_000);
        let mut sent = 0;
        while let Ok(cells) = pacers[0].cells(now) {
            pacers[0].used(now, cells * CELL_LEN, true);
            sent += cells * CELL_LEN;
        }
        assert!(sent <= 52_000 + 15 * CELL_LEN, "{sent}");
    }

    #[test]
    fn what_is_not_used_is_kept_as_long_as_the_operator_says() {
        for seconds in [0, 1, 4] {
            let mut pacers = pacers(1_000_000, 1);
            pacers[0].limit.as_ref().unwrap().keep(Duration::from_secs(seconds));
            let later = START + Duration::from_mins(1);
            let sent = ten_seconds_from(later, &mut pacers)[0];
            let ideal = (10 + seconds) * 1_000_000;
            assert!(sent.abs_diff(ideal) <= 30_000, "{sent} of {ideal}");
            // Whoever never pauses has nothing of it.
            let then = later + Duration::from_secs(10);
            let sent = ten_seconds_from(then, &mut pacers)[0];
            assert!(sent.abs_diff(10_000_000) <= 30_000, "{sent}");
        }
    }

    #[test]
    fn a_link_that_goes_gives_its_place_to_the_others() {
        let mut pacers = pacers(1_000_000, 3);
        while pacers.iter_mut().any(|pacer| {
            let cells = pacer.cells(START);
            pacer.used(START, cells.unwrap_or(0) * CELL_LEN, cells.is_ok());
            cells.is_ok()
        }) {}
        let paid_at = |pacer: &Pacer| {
            let limit = pacer.limit.as_ref().unwrap();
            limit.with(|state| state.paid_at)
        };
        let before = paid_at(&pacers[0]);
        pacers.pop();
        assert!(paid_at(&pacers[0]) < before);
    }
}
