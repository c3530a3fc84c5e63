//! Credits of one direction of one splice (PROTOCOL P8).
//!
//! Lives here: what a receiver has granted and when it grants more, and what a sender has left.
//! Does not live here: a lane's credits, which are the link's (PROTOCOL P5), and the splices.
//!
//! One credit is one splice data clove, full or not. Both sides start with 32, unsaid. At every
//! moment `left + held + drained = window`, so that what a sender can make a receiver hold never
//! exceeds the window, and the window never exceeds 8,192 (decision 0004).

use std::time::Duration;

use crate::time::Time;

/// Cells that may be sent on a new splice before any grant.
pub const SPLICE_WINDOW_START: u32 = 32;
/// Most cells that one splice may have under way to one receiver: 8 MiB, which carry 28 MiB/s over
/// three links of 40 ms each way. Only who reads fast for long gets there.
pub const SPLICE_WINDOW_MAX: u32 = 8_192;
/// Grants are multiples of this many cells, so that they say little about the reader's pace.
pub const GRANT_STEP: u32 = 16;
/// A splice with data waiting and no credit progress for this long is closed.
pub const STALL_MAX: Duration = Duration::from_secs(30);

/// Up to here a window doubles when it drains whole within [`QUICK`], whatever the path is like: it is
/// little enough not to matter, and smaller ones cost a grant for every few cells.
const SMALL: u32 = 512;
/// Half a second is long for three hops and a link.
const QUICK: Duration = Duration::from_millis(500);
/// A larger window doubles when it drains whole within one and a half round trips and this: then it,
/// not the path, was the limit.
///
/// Little, so that no more waits than the path needs: whoever speaks next waits behind it.
const SLACK: Duration = Duration::from_millis(5);
/// It is judged by what drains over this time and no less: a burst after a pause says nothing. Half of it
/// is enough where a round trip alone takes as long: then one window is what came in it.
const SPAN: Duration = Duration::from_millis(100);
/// Largest grant that is waited for where the window is small.
const GRANT_SMALL: u32 = 256;
/// A larger window's grants are this part of it: what is under way stays even, so that the window is
/// worth most of itself in each round trip.
const GRANTS_PER_WINDOW: u32 = 8;

/// More was sent than was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sent beyond what was granted")]
pub(crate) struct OverGrant;

/// The receiver's side.
#[derive(Debug)]
pub(crate) struct Inflow {
    window: u32,
    /// What the peer may still send.
    left: u32,
    /// What has left our hands and was not granted again yet.
    drained: u32,
    /// What has left our hands since `began`.
    round: u32,
    /// Windows of it: it is judged when one more has drained whole, and never between two bursts.
    windows: u32,
    /// When the first cell of this round came.
    began: Option<Time>,
    /// A grant of which no cell has come: how many of those before it still may, and its time.
    probe: Option<(u32, Time)>,
    /// The shortest time from a grant to its first cell: what a round trip takes at most.
    round_trip: Option<Duration>,
    /// When something left our hands last.
    drained_at: Time,
}

impl Inflow {
    pub(crate) const fn new() -> Self {
        let window = SPLICE_WINDOW_START;
        Self {
            window,
            left: window,
            drained: 0,
            round: 0,
            windows: 0,
            began: None,
            probe: None,
            round_trip: None,
            drained_at: Time::ZERO,
        }
    }

    /// One cell came.
    pub(crate) fn receive(&mut self, now: Time) -> Result<(), OverGrant> {
        self.left = self.left.checked_sub(1).ok_or(OverGrant)?;
        self.began.get_or_insert(now);
        self.probe = match self.probe {
            Some((0, granted)) => {
                let took = now.since(granted);
                self.round_trip = Some(self.round_trip.map_or(took, |least| least.min(took)));
                None
            }
            Some((before, granted)) => Some((before - 1, granted)),
            None => None,
        };
        Ok(())
    }

    /// How many cells came and are still ours to hold.
    pub(crate) const fn held(&self) -> u32 {
        self.window.saturating_sub(self.left).saturating_sub(self.drained)
    }

    /// `cells` have left our hands (more than are held do not count); `true` if a grant is due.
    pub(crate) fn drain(&mut self, now: Time, cells: u32) -> bool {
        let cells = cells.min(self.held());
        self.drained += cells;
        self.round += cells;
        self.drained_at = now;
        let windows = self.round / self.window;
        if windows > self.windows {
            self.windows = windows;
            self.judge(now);
        }
        self.grant_due()
    }

    /// One more window has drained: doubles it, if it is what the sender waited for.
    fn judge(&mut self, now: Time) {
        if self.is_whole(now) {
            if self.is_limit(now) && self.window < SPLICE_WINDOW_MAX {
                self.drained += self.window;
                self.window *= 2;
            }
            self.round = 0;
            self.windows = 0;
            self.began = (self.held() > 0).then_some(now);
        }
    }

    /// Whether the round is long enough to be judged.
    fn is_whole(&self, now: Time) -> bool {
        let far = self.round_trip.is_some_and(|round_trip| round_trip >= SPAN / 2);
        let span = if far { SPAN / 2 } else { SPAN };
        self.window < SMALL || self.began.is_none_or(|began| now.since(began) >= span)
    }

    /// Whether the window that has just drained was what the sender waited for.
    fn is_limit(&self, now: Time) -> bool {
        let Some(began) = self.began else { return false };
        let took = now.since(began);
        let far = |round_trip| took <= (round_trip + round_trip / 2 + SLACK) * self.windows;
        (self.window < SMALL && took <= QUICK) || self.round_trip.is_some_and(far)
    }

    /// Whether enough can be granted: half a small window, an eighth of a large one.
    pub(crate) fn grant_due(&self) -> bool {
        self.drained >= (self.window / 2).min(GRANT_SMALL).max(self.window / GRANTS_PER_WINDOW)
    }

    /// What to grant now: zero, or a multiple of 16.
    pub(crate) fn take_grant(&mut self) -> u16 {
        if !self.grant_due() {
            return 0;
        }
        let cells = self.drained - self.drained % GRANT_STEP;
        self.probe.get_or_insert((self.left, self.drained_at));
        self.drained -= cells;
        self.left += cells;
        u16::try_from(cells).unwrap_or_default()
    }
}

/// The sender's side: how many cells it may send.
#[derive(Debug)]
pub(crate) struct Outflow(u32);

impl Outflow {
    pub(crate) const fn new() -> Self {
        Self(SPLICE_WINDOW_START)
    }

    /// What may be sent now.
    pub(crate) const fn credit(&self) -> u32 {
        self.0
    }

    /// Uses one credit; `false` if there is none.
    pub(crate) const fn spend(&mut self) -> bool {
        let Some(left) = self.0.checked_sub(1) else { return false };
        self.0 = left;
        true
    }

    /// The receiver granted more. No honest one grants past the cap.
    pub(crate) fn grant(&mut self, cells: u16) -> Result<(), OverGrant> {
        let credit = self.0 + u32::from(cells);
        if credit > SPLICE_WINDOW_MAX {
            return Err(OverGrant);
        }
        self.0 = credit;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_micros(millis * 1_000)
    }

    proptest! {
        #[test]
        fn a_sender_within_its_credit_is_never_over_the_window(
            steps in prop::collection::vec((0u8..3, 0u32..600, 0u64..400), 1..400),
        ) {
            let (mut inflow, mut outflow) = (Inflow::new(), Outflow::new());
            let mut now = 0;
            for (what, cells, wait) in steps {
                now += wait;
                match what {
                    0 => for _ in 0..cells {
                        if outflow.spend() {
                            prop_assert_eq!(inflow.receive(at(now)), Ok(()));
                        }
                    },
                    1 => { inflow.drain(at(now), cells); }
                    _ => match inflow.take_grant() {
                        0 => {}
                        grant => {
                            prop_assert_eq!(u32::from(grant) % GRANT_STEP, 0);
                            prop_assert_eq!(outflow.grant(grant), Ok(()));
                        }
                    },
                }
                prop_assert!(inflow.held() <= SPLICE_WINDOW_MAX);
                prop_assert_eq!(inflow.left, outflow.credit());
                prop_assert_eq!(inflow.left + inflow.held() + inflow.drained, inflow.window);
            }
        }

        /// However it is read: once all is drained, the sender can go on.
        #[test]
        fn a_drained_splice_never_waits_for_ever(cells in 1u32..=32, wait in 0u64..2_000) {
            let (mut inflow, mut outflow) = (Inflow::new(), Outflow::new());
            for round in 0..100 {
                for _ in 0..cells {
                    prop_assert!(outflow.spend());
                    prop_assert!(inflow.receive(at(round * wait)).is_ok());
                }
                inflow.drain(at(round * wait), cells);
                match inflow.take_grant() {
                    0 => {}
                    grant => prop_assert!(outflow.grant(grant).is_ok()),
                }
                if outflow.credit() < cells {
                    // What was granted is less than one grant away from all of it.
                    prop_assert!(outflow.credit() > 0);
                    break;
                }
            }
        }
    }

    #[test]
    fn the_cell_after_the_last_credit_is_over() {
        let mut inflow = Inflow::new();
        for _ in 0..SPLICE_WINDOW_START {
            assert_eq!(inflow.receive(at(0)), Ok(()));
        }
        assert_eq!(inflow.receive(at(0)), Err(OverGrant));
    }

    /// The window after two hundred rounds: each grant's cells come after `round_trip`, in `millis` all of
    /// them are read.
    fn window_after(round_trip: u64, millis: u64) -> u32 {
        let mut inflow = Inflow::new();
        let mut now = 0;
        for _ in 0..200 {
            now += round_trip;
            while inflow.left > 0 {
                assert!(inflow.receive(at(now)).is_ok());
            }
            now += millis;
            inflow.drain(at(now), u32::MAX);
            inflow.take_grant();
        }
        inflow.window
    }

    #[test]
    fn a_window_that_is_read_faster_than_it_comes_grows_and_a_slow_readers_stays() {
        assert_eq!(window_after(240, 20), SPLICE_WINDOW_MAX);
        assert_eq!(window_after(0, 4), SPLICE_WINDOW_MAX);
        // What waits is the reader, not the path: no more than a little is worth having.
        assert_eq!(window_after(0, 50), SMALL);
        assert_eq!(window_after(100, 400), SMALL);
        assert_eq!(window_after(0, 600), SPLICE_WINDOW_START);
    }

    #[test]
    fn over_a_long_path_a_window_doubles_in_every_round_trip() {
        for burst in [4, 6, 12] {
            let (mut inflow, mut now) = (Inflow::new(), 0);
            for _ in 0..9 {
                now += 240;
                let part = inflow.left / 16;
                for _ in 0..16 {
                    now += burst;
                    for _ in 0..part {
                        inflow.receive(at(now)).unwrap();
                    }
                    inflow.drain(at(now), u32::MAX);
                }
                inflow.take_grant();
            }
            assert_eq!(inflow.window, SPLICE_WINDOW_MAX, "in {burst} ms each");
        }
    }

    #[test]
    fn a_burst_after_each_pause_grows_no_large_window() {
        let mut inflow = Inflow::new();
        let mut now = 0;
        for round in 0..200 {
            // A short path, once; then all comes at once after each pause, and is read a cell at a time.
            now += if round < 2 { 1 } else { 60 };
            while inflow.left > 0 {
                assert!(inflow.receive(at(now)).is_ok());
            }
            while inflow.held() > 0 {
                inflow.drain(at(now), 1);
            }
            inflow.take_grant();
        }
        assert_eq!(inflow.window, SMALL);
    }

    #[test]
    fn a_grant_past_the_cap_is_refused() {
        let mut outflow = Outflow::new();
        assert_eq!(
            outflow.grant(u16::try_from(SPLICE_WINDOW_MAX - SPLICE_WINDOW_START).unwrap()),
            Ok(())
        );
        assert_eq!(outflow.grant(16), Err(OverGrant));
    }
}
