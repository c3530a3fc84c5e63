//! Credits of one direction of one splice (PROTOCOL P8).
//!
//! Lives here: what a receiver has granted and when it grants more, and what a sender has left.
//! Does not live here: a lane's credits, which are the link's (PROTOCOL P5), and the splices.
//!
//! One credit is one splice data clove, full or not. Both sides start with 32, unsaid. At every
//! moment `left + held + drained = window`, so that what a sender can make a receiver hold never
//! exceeds the window, and the window never exceeds 512.

use std::time::Duration;

use crate::time::Time;

/// Cells that may be sent on a new splice before any grant.
pub const SPLICE_WINDOW_START: u32 = 32;
/// Most cells that one splice may have under way to one receiver: 512 KiB.
pub const SPLICE_WINDOW_MAX: u32 = 512;
/// Grants are multiples of this many cells, so that they say little about the reader's pace.
pub const GRANT_STEP: u32 = 16;
/// A splice with data waiting and no credit progress for this long is closed.
pub const STALL_MAX: Duration = Duration::from_secs(30);

/// A window that drains whole within this time is doubled: it, not the path, was the limit.
///
/// A splice's ends do not know the round trip time between them (three hops and a link). Half a
/// second is long for that, so that the window grows to half a second's worth of the drain rate:
/// 512 cells carry 1 MB/s at that round trip time, 5 MB/s at 100 ms.
const QUICK: Duration = Duration::from_millis(500);

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
    /// When the first cell of this round came.
    began: Option<Time>,
}

impl Inflow {
    pub(crate) const fn new() -> Self {
        let window = SPLICE_WINDOW_START;
        Self { window, left: window, drained: 0, round: 0, began: None }
    }

    /// One cell came.
    pub(crate) fn receive(&mut self, now: Time) -> Result<(), OverGrant> {
        self.left = self.left.checked_sub(1).ok_or(OverGrant)?;
        self.began.get_or_insert(now);
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
        if self.round >= self.window {
            let quick = self.began.is_some_and(|began| now.since(began) <= QUICK);
            if quick && self.window < SPLICE_WINDOW_MAX {
                self.drained += self.window;
                self.window *= 2;
            }
            self.round = 0;
            self.began = (self.held() > 0).then_some(now);
        }
        self.grant_due()
    }

    /// Whether half a window can be granted.
    pub(crate) const fn grant_due(&self) -> bool {
        self.drained >= self.window / 2
    }

    /// What to grant now: zero, or a multiple of 16.
    pub(crate) fn take_grant(&mut self) -> u16 {
        if !self.grant_due() {
            return 0;
        }
        let cells = self.drained - self.drained % GRANT_STEP;
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
                    // What was granted is less than half a window away from all of it.
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

    fn drained_in(millis: u64) -> u32 {
        let mut inflow = Inflow::new();
        for round in 0..10 {
            for cell in 0..inflow.left {
                assert!(inflow.receive(at(10_000 * round)).is_ok(), "{cell}");
            }
            inflow.drain(at(10_000 * round + millis), u32::MAX);
            inflow.take_grant();
        }
        inflow.window
    }

    #[test]
    fn a_quick_reader_gets_the_largest_window_and_a_slow_one_keeps_the_first() {
        assert_eq!(drained_in(100), SPLICE_WINDOW_MAX);
        assert_eq!(drained_in(900), SPLICE_WINDOW_START);
    }

    #[test]
    fn a_grant_past_the_cap_is_refused() {
        let mut outflow = Outflow::new();
        assert_eq!(outflow.grant(480), Ok(()));
        assert_eq!(outflow.grant(16), Err(OverGrant));
    }
}
