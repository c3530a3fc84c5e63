//! One stream of a session: two byte directions, each within a credit.
//!
//! Lives here: bytes that the application wrote and that wait for their turn, the credit for them,
//! and the receiving side's window that tunes itself. Does not live here: whose turn it is and the
//! frames (`mux.rs`).

use std::{collections::VecDeque, time::Duration};

use crate::time::Time;

/// Each direction's first credit in bytes; both sides know it, nobody sends it.
pub(super) const CREDIT_START: u64 = 256 * 1024;
/// Credit is given when half a small window is due, at most this,
const CREDIT_SMALL: u64 = 512 * 1024;
/// or this part of a large one.
const CREDITS_PER_WINDOW: u64 = 8;
/// Largest receive window in bytes, as the session's (`window.rs`).
const CREDIT_MAX: u64 = 16 * 1024 * 1024;
/// A reader's pace is what it reads in a round trip, or in this time if that is longer: a burst after a
/// pause says nothing.
const SPAN: Duration = Duration::from_millis(100);
/// Bytes that an application may have waiting in one stream: enough that the path never starves
/// between two of its turns.
pub(super) const WAITING_MAX: usize = 256 * 1024;
/// Small writes are joined up to this, so that an application that writes bytes costs no allocation
/// per byte.
const JOIN_MAX: usize = 4 * 1024;

/// How far the end of a direction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finish {
    Open,
    Wanted,
    Sent,
}

/// What goes out.
#[derive(Debug)]
pub(super) struct Outgoing {
    queue: VecDeque<Vec<u8>>,
    head: usize,
    waiting: usize,
    credit: u64,
    finish: Finish,
    /// The application was told that there is no room and wants to hear when there is.
    full: bool,
}

impl Outgoing {
    pub(super) const fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            head: 0,
            waiting: 0,
            credit: CREDIT_START,
            finish: Finish::Open,
            full: false,
        }
    }

    /// Bytes that the application may still write.
    pub(super) const fn room(&self) -> usize {
        if matches!(self.finish, Finish::Open) {
            WAITING_MAX.saturating_sub(self.waiting)
        } else {
            0
        }
    }

    /// Bytes that wait.
    pub(super) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Takes what the application wrote; false if that is more than the room it has.
    pub(super) fn write(&mut self, bytes: Vec<u8>) -> bool {
        if bytes.len() > self.room() {
            return false;
        }
        self.waiting += bytes.len();
        self.full = self.room() == 0;
        match self.queue.back_mut() {
            Some(last) if last.len() + bytes.len() <= JOIN_MAX => last.extend_from_slice(&bytes),
            _ if bytes.is_empty() => {}
            _ => self.queue.push_back(bytes),
        }
        true
    }

    /// The application writes no more.
    pub(super) fn finish(&mut self) {
        if self.finish == Finish::Open {
            self.finish = Finish::Wanted;
        }
    }

    /// More credit from the other side.
    pub(super) const fn grant(&mut self, bytes: u32) {
        self.credit = self.credit.saturating_add(bytes as u64);
    }

    /// How many bytes could go now.
    pub(super) fn ready(&self) -> usize {
        self.waiting.min(usize::try_from(self.credit).unwrap_or(usize::MAX))
    }

    /// Whether all data is gone and the end is to be said.
    pub(super) fn finish_due(&self) -> bool {
        self.finish == Finish::Wanted && self.waiting == 0
    }

    /// Whether there is anything to send now.
    pub(super) fn sendable(&self) -> bool {
        self.ready() > 0 || self.finish_due()
    }

    /// The end was said.
    pub(super) const fn finish_sent(&mut self) {
        self.finish = Finish::Sent;
    }

    /// Whether this direction is over.
    pub(super) fn over(&self) -> bool {
        self.finish == Finish::Sent
    }

    /// Moves the next bytes to `out`, whose length is at most `ready()`.
    pub(super) fn take(&mut self, out: &mut [u8]) {
        let mut rest = out;
        while !rest.is_empty() {
            let Some(front) = self.queue.front() else { return };
            let part = front.get(self.head..).unwrap_or_default();
            let count = part.len().min(rest.len());
            let (now, later) = rest.split_at_mut(count);
            if let Some(part) = part.get(..count) {
                now.copy_from_slice(part);
            }
            rest = later;
            self.head += count;
            self.waiting = self.waiting.saturating_sub(count);
            self.credit = self.credit.saturating_sub(count as u64);
            if self.head >= front.len() {
                self.queue.pop_front();
                self.head = 0;
            }
        }
    }

    /// True once when room has come back after the application had filled it.
    pub(super) const fn room_is_back(&mut self) -> bool {
        if self.full && self.waiting <= WAITING_MAX / 2 && matches!(self.finish, Finish::Open) {
            self.full = false;
            return true;
        }
        false
    }
}

/// The other side sent more than its credit, or after its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overrun;

/// What comes in.
#[derive(Debug)]
pub(super) struct Incoming {
    window: u64,
    granted: u64,
    arrived: u64,
    consumed: u64,
    finished: bool,
    /// Since when, and from which offset on, the reader's pace is measured.
    measured: (Time, u64),
}

impl Incoming {
    pub(super) const fn new(now: Time) -> Self {
        Self {
            window: CREDIT_START,
            granted: CREDIT_START,
            arrived: 0,
            consumed: 0,
            finished: false,
            measured: (now, 0),
        }
    }

    /// Bytes that the application has not consumed.
    pub(super) const fn unread(&self) -> u64 {
        self.arrived - self.consumed
    }

    /// Bytes came.
    pub(super) const fn arrive(&mut self, count: usize) -> Result<(), Overrun> {
        let arrived = self.arrived + count as u64;
        if self.finished || arrived > self.granted {
            return Err(Overrun);
        }
        self.arrived = arrived;
        Ok(())
    }

    /// The other side's end came.
    pub(super) const fn finish(&mut self) -> Result<(), Overrun> {
        if self.finished {
            return Err(Overrun);
        }
        self.finished = true;
        Ok(())
    }

    /// Whether this direction is over and read.
    pub(super) const fn over(&self) -> bool {
        self.finished && self.unread() == 0
    }

    /// The application consumed bytes; how many more the other side may send.
    ///
    /// The window becomes four times what is read in a round trip, up to `limit`, if that is more than it
    /// was: twice as fast as those of the path below grow, since credit needs a round trip to be of use. A
    /// reader that is slow keeps a small one.
    pub(super) fn consume(&mut self, now: Time, count: u64, rtt: Duration, limit: u64) -> u32 {
        self.consumed = self.consumed.saturating_add(count).min(self.arrived);
        let (since, from) = self.measured;
        let took = now.since(since);
        if took >= rtt.max(SPAN) {
            let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            let read = (self.consumed - from).saturating_mul(micros(rtt)) / micros(took).max(1);
            self.window = self.window.max((read * 4).min(limit).min(CREDIT_MAX));
            self.measured = (now, self.consumed);
        }
        let open = self.granted - self.consumed;
        // Little by little: credit that waits to be told is no use to a sender far away.
        let due = (self.window / 2).min(CREDIT_SMALL).max(self.window / CREDITS_PER_WINDOW);
        if self.finished || open > self.window - due {
            return 0;
        }
        let more = self.window - open;
        self.granted += more;
        u32::try_from(more).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_beyond_the_room_is_refused_and_room_comes_back() {
        let mut out = Outgoing::new();
        assert!(out.write(vec![1; WAITING_MAX]));
        assert!(!out.write(vec![1]));
        assert!(!out.room_is_back());
        out.take(&mut vec![0; WAITING_MAX / 2]);
        assert!(out.room_is_back());
        assert!(!out.room_is_back(), "said once");
    }

    #[test]
    fn nothing_leaves_beyond_the_credit() {
        let mut out = Outgoing::new();
        for _ in 0..2 {
            out.write(vec![1; WAITING_MAX / 2]);
        }
        out.take(&mut vec![0; out.ready()]);
        out.write(vec![2; 10]);
        out.finish();
        assert!(!out.sendable() && !out.finish_due());
        out.grant(4);
        assert_eq!(out.ready(), 4);
        out.take(&mut [0; 4]);
        out.grant(100);
        out.take(&mut [0; 6]);
        assert!(out.finish_due());
    }

    #[test]
    fn small_writes_are_joined() {
        let mut out = Outgoing::new();
        for n in 0..100 {
            out.write(vec![n]);
        }
        assert_eq!(out.queue.len(), 1);
        let mut all = [0; 100];
        out.take(&mut all);
        assert_eq!(all.to_vec(), (0..100).collect::<Vec<u8>>());
    }

    #[test]
    fn a_slow_reader_keeps_its_window_and_a_fast_one_doubles_it() {
        let rtt = Duration::from_millis(100);
        let read = |gap_ms: u64| {
            let mut incoming = Incoming::new(Time::ZERO);
            for step in 1..=1_000 {
                let open = usize::try_from(incoming.granted - incoming.arrived).unwrap();
                incoming.arrive(open.min(64 * 1024)).unwrap();
                let now = Time::ZERO + Duration::from_millis(gap_ms) * step;
                incoming.consume(now, incoming.unread(), rtt, u64::MAX);
            }
            incoming.window
        };
        assert_eq!(read(1_000), CREDIT_START);
        assert_eq!(read(101), CREDIT_START, "a quarter of a window in a round trip");
        assert!(read(50) > CREDIT_START);
        assert_eq!(read(1), CREDIT_MAX);
    }

    #[test]
    fn a_reader_that_stops_gets_no_more_and_what_it_left_is_within_its_window() {
        let mut incoming = Incoming::new(Time::ZERO);
        incoming.arrive(usize::try_from(CREDIT_START).unwrap()).unwrap();
        let late = Time::ZERO + Duration::from_mins(1);
        assert_eq!(incoming.consume(late, 0, Duration::from_millis(100), u64::MAX), 0);
        assert_eq!((incoming.window, incoming.arrive(1)), (CREDIT_START, Err(Overrun)));
    }

    /// The path below grows meanwhile, and credit is a round trip on its way.
    #[test]
    fn a_stream_over_a_path_that_doubles_has_its_whole_window_after_ten_round_trips() {
        let rtt = Duration::from_millis(500);
        let mut incoming = Incoming::new(Time::ZERO);
        let (mut told, mut known) = (VecDeque::new(), CREDIT_START);
        for round_trip in 0..10 {
            for step in 1..=100 {
                let now = Time::ZERO + rtt * round_trip + rtt / 100 * step;
                while told.front().is_some_and(|(at, _)| *at <= now) {
                    known += told.pop_front().map_or(0, |(_, more)| more);
                }
                let comes = known.min(((CREDIT_START / 4) << round_trip) / 100);
                known -= comes;
                incoming.arrive(usize::try_from(comes).unwrap()).unwrap();
                let more: u64 = incoming.consume(now, comes, rtt, u64::MAX).into();
                told.push_back((now + rtt, more));
            }
        }
        assert_eq!(incoming.window, CREDIT_MAX);
    }

    #[test]
    fn bytes_over_the_credit_or_after_the_end_are_an_overrun() {
        let mut incoming = Incoming::new(Time::ZERO);
        incoming.arrive(256 * 1024).unwrap();
        assert_eq!(incoming.arrive(1), Err(Overrun));
        let mut incoming = Incoming::new(Time::ZERO);
        incoming.finish().unwrap();
        assert_eq!(incoming.arrive(1), Err(Overrun));
        assert_eq!(incoming.finish(), Err(Overrun));
    }
}
