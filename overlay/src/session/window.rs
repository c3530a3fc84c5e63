//! What was sent and not acknowledged: kept until the other side has it.
//!
//! Lives here: the bytes of one direction of a session between "acknowledged" and "written", where
//! the current path is in them, and how large the window may be. Does not live here: what the bytes
//! say (`mux.rs`) and how they are sealed (`record.rs`).
//!
//! ```text
//!  0 ...... acked ======= sent -------- written
//!           |<---- kept: bytes ------->|
//!                         ^ a new path moves this back to what the other side has
//! ```

use std::collections::VecDeque;

/// A session's first window in bytes: 1 s of 2 Mbit/s, so that most pages never wait for its growth.
pub(super) const WINDOW_START: usize = 256 * 1024;
/// Largest window in bytes (DESIGN section 7): 128 Mbit/s at a round trip of 1 s.
pub(super) const WINDOW_MAX: usize = 16 * 1024 * 1024;
/// A window that something waits for becomes so many times larger after a round trip: twice as fast as
/// those of the path below, of which it is the sum, and which alone should decide how much is under way.
const GROWTH: usize = 4;
/// Memory that an idle session may keep for its next burst.
const IDLE_CAPACITY: usize = 64 * 1024;

/// The other side names an offset that cannot be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("offset outside of what was sent")]
pub(super) struct BadOffset;

/// The unacknowledged end of one byte stream.
#[derive(Debug)]
pub(super) struct SendWindow {
    bytes: VecDeque<u8>,
    acked: u64,
    sent: u64,
    size: usize,
    /// Something waited for room since the last growth.
    blocked: bool,
    /// Grows again only when this much is acknowledged: once a round trip.
    next_growth: u64,
}

impl SendWindow {
    pub(super) const fn new() -> Self {
        Self {
            bytes: VecDeque::new(),
            acked: 0,
            sent: 0,
            size: WINDOW_START,
            blocked: false,
            next_growth: 0,
        }
    }

    /// Offset of the next byte that this path would send.
    pub(super) const fn sent(&self) -> u64 {
        self.sent
    }

    /// What the other side is known to have.
    #[cfg(test)]
    pub(super) const fn acked(&self) -> u64 {
        self.acked
    }

    /// End of what was written.
    pub(super) fn written(&self) -> u64 {
        self.acked + self.bytes.len() as u64
    }

    /// Bytes kept.
    pub(super) fn held(&self) -> usize {
        self.bytes.len()
    }

    /// Whether written bytes wait for this path.
    pub(super) fn has_unsent(&self) -> bool {
        self.sent < self.written()
    }

    /// How many bytes may be written beyond what is kept.
    pub(super) fn room(&self) -> usize {
        self.size.saturating_sub(self.bytes.len())
    }

    /// Notes that there was more to write than room.
    pub(super) const fn note_blocked(&mut self) {
        self.blocked = true;
    }

    /// Keeps bytes that go out on the path right now. Only when nothing is unsent.
    pub(super) fn wrote(&mut self, bytes: &[u8]) {
        debug_assert!(!self.has_unsent());
        self.bytes.extend(bytes);
        self.sent += bytes.len() as u64;
    }

    /// Copies the next unsent bytes to `out` and counts them as sent.
    pub(super) fn resend(&mut self, out: &mut [u8]) -> usize {
        let skip = usize::try_from(self.sent - self.acked).unwrap_or(usize::MAX);
        let (front, back) = self.bytes.as_slices();
        let mut len = 0;
        for part in [
            front.get(skip..).unwrap_or_default(),
            back.get(skip.saturating_sub(front.len())..).unwrap_or_default(),
        ] {
            let Some(room) = out.get_mut(len..) else { break };
            let count = part.len().min(room.len());
            if let (Some(to), Some(from)) = (room.get_mut(..count), part.get(..count)) {
                to.copy_from_slice(from);
                len += count;
            }
        }
        self.sent += len as u64;
        len
    }

    /// The other side has everything before `offset`; true if that is news.
    ///
    /// `limit` is how large the window may grow.
    pub(super) fn acknowledge(&mut self, offset: u64, limit: usize) -> Result<bool, BadOffset> {
        if offset < self.acked || offset > self.sent {
            return Err(BadOffset);
        }
        if offset == self.acked {
            return Ok(false);
        }
        let count = usize::try_from(offset - self.acked).map_err(|_| BadOffset)?;
        self.bytes.drain(..count);
        self.acked = offset;
        if self.blocked && offset >= self.next_growth {
            self.blocked = false;
            self.next_growth = self.sent;
            self.size =
                (self.size * GROWTH).min(limit.clamp(WINDOW_START, WINDOW_MAX)).max(self.size);
        }
        if self.bytes.is_empty() && self.bytes.capacity() > IDLE_CAPACITY {
            self.bytes.shrink_to(IDLE_CAPACITY);
        }
        Ok(true)
    }

    /// A new path: the other side has everything before `offset`, all else is sent anew.
    pub(super) fn resume(&mut self, offset: u64) -> Result<(), BadOffset> {
        // On the old path more may have been acknowledged since the other side said so.
        if offset > self.written() {
            return Err(BadOffset);
        }
        self.sent = self.written();
        self.acknowledge(offset.max(self.acked), 0)?;
        self.sent = self.acked;
        Ok(())
    }

    /// Every byte is to be sent anew, on a path that knows nothing yet.
    pub(super) const fn rewind(&mut self) {
        self.sent = self.acked;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against the plain model: an offset into everything ever written.
        #[test]
        fn what_is_resent_is_what_was_written(
            steps in prop::collection::vec((0..4u8, 0..5_000usize), 1..60),
        ) {
            let mut window = SendWindow::new();
            let mut all: Vec<u8> = Vec::new();
            for (kind, n) in steps {
                match kind {
                    0 if !window.has_unsent() => {
                        let bytes: Vec<u8> = (0..n.min(window.room())).map(|i| u8::try_from((all.len() + i) % 256).unwrap()).collect();
                        window.wrote(&bytes);
                        all.extend(bytes);
                    }
                    1 => {
                        let mut out = vec![0; n];
                        let at = usize::try_from(window.sent()).unwrap();
                        let len = window.resend(&mut out);
                        prop_assert_eq!(len, n.min(all.len() - at));
                        prop_assert_eq!(&out[..len], &all[at..at + len]);
                    }
                    2 => {
                        let to = window.acked() + n as u64;
                        prop_assert_eq!(window.acknowledge(to, WINDOW_MAX).is_ok(), to <= window.sent());
                    }
                    _ => {
                        let to = window.acked() + n as u64;
                        prop_assert_eq!(window.resume(to).is_ok(), to <= all.len() as u64);
                    }
                }
                prop_assert_eq!(window.written(), all.len() as u64);
                prop_assert!(window.acked() <= window.sent() && window.sent() <= window.written());
            }
        }
    }

    #[test]
    fn grows_only_when_something_waited_and_once_a_round_trip() {
        let mut window = SendWindow::new();
        window.wrote(&[0; 1000]);
        window.acknowledge(1000, WINDOW_MAX).unwrap();
        assert_eq!(window.room(), WINDOW_START);
        window.wrote(&[0; 2000]);
        window.note_blocked();
        window.acknowledge(2000, WINDOW_MAX).unwrap();
        assert_eq!(window.room() + window.held(), GROWTH * WINDOW_START);
        window.note_blocked();
        window.acknowledge(2500, WINDOW_MAX).unwrap();
        assert_eq!(window.room() + window.held(), GROWTH * WINDOW_START, "same round trip");
        window.acknowledge(3000, 0).unwrap();
        assert_eq!(window.room(), GROWTH * WINDOW_START, "no quota, no growth, no shrinking");
    }

    #[test]
    fn an_impossible_acknowledgement_is_refused() {
        let mut window = SendWindow::new();
        window.wrote(&[0; 10]);
        assert_eq!(window.acknowledge(11, 0), Err(BadOffset));
        window.acknowledge(5, 0).unwrap();
        assert_eq!(window.acknowledge(4, 0), Err(BadOffset));
    }
}
