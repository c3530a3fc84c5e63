//! Padding of an idle link, so that silence says nothing (DESIGN section 4).
//!
//! Lives here: when padding is due, how long it is, and how much there was. Does not live here: putting
//! it into a frame (`transmit.rs`), what a peer's silence means (`pulse.rs`).
//!
//! ```text
//! sent --1.5 to 9.5 s without a frame--> due --a frame leaves: padding, if nothing else is in it--> sent
//! ```
//!
//! In a simulator padding may be *counted* instead: nothing leaves and nobody is woken for it, and when
//! the next frame leaves, what would have been sent before is drawn and added up. Whoever counts must
//! tell the link of a peer that falls silent, since the peer's padding does not (`LinkInput::Silent`).

use std::time::Duration;

use crate::{
    crypto::aead::TAG_LEN, link::channel::HEAD_LEN, rng::SharedRng, time::Time, wire::LinkMessage,
};

/// Bytes of a frame with padding beside the padding itself: head, control length, message head, tag.
const FRAME_LEN: u64 = (HEAD_LEN + 2 + 3 + TAG_LEN) as u64;

/// Where padding is counted, idle links are looked for this often.
const REST_EVERY: Duration = Duration::from_secs(4);

/// How much padding has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PadCount {
    /// Frames.
    pub frames: u64,
    /// Their bytes on the wire.
    pub bytes: u64,
}

/// The padding of one direction of a link.
#[derive(Debug)]
pub(super) struct Pads {
    counted: bool,
    rng: SharedRng,
    sent_at: Time,
    /// How long the link may be idle, in microseconds.
    after: u32,
    due: bool,
    count: PadCount,
}

impl Pads {
    /// For a link on which something has just been sent.
    pub(super) fn new(now: Time, counted: bool, rng: SharedRng) -> Self {
        let after = after(&rng);
        Self { counted, rng, sent_at: now, after, due: false, count: PadCount::default() }
    }

    /// When to call `handle_timeout`. Where padding is counted that is no more than the moment to give
    /// up memory: all links of a router do so at once.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let at = self.due_at();
        (!self.due).then(|| if self.counted { at.next_multiple_of(REST_EVERY) } else { at })
    }

    /// Time passed; true if the link has become idle.
    pub(super) fn handle_timeout(&mut self, now: Time) -> bool {
        let idle = now >= self.due_at();
        self.due |= idle;
        idle
    }

    /// Whether nothing has left for long.
    pub(super) const fn is_idle(&self) -> bool {
        self.due
    }

    /// Whether a frame must leave for its sake.
    pub(super) const fn wants_frame(&self) -> bool {
        self.due && !self.counted
    }

    /// A frame is being filled, and is `empty` so far: how much padding goes into it.
    pub(super) fn fill(&mut self, now: Time, empty: bool) -> Option<u16> {
        if self.counted {
            if !empty {
                self.settle(now);
            }
            return None;
        }
        if !std::mem::take(&mut self.due) {
            return None;
        }
        let len = empty.then(|| self.draw());
        self.after = after(&self.rng);
        len
    }

    /// Something has left.
    pub(super) const fn sent(&mut self, now: Time) {
        self.sent_at = now;
    }

    /// What has left until `now`, or would have.
    pub(super) fn settle(&mut self, now: Time) -> PadCount {
        if self.counted {
            let mut next = self.due_at();
            while next <= now {
                self.draw();
                self.sent_at = next;
                self.after = after(&self.rng);
                next = self.due_at();
            }
            self.due = false;
        }
        self.count
    }

    fn due_at(&self) -> Time {
        self.sent_at + Duration::from_micros(self.after.into())
    }

    fn draw(&mut self) -> u16 {
        let most = u64::from(LinkMessage::PADDING_MAX) + 1;
        let len = u16::try_from(self.rng.below(most)).unwrap_or_default();
        self.count.frames += 1;
        self.count.bytes += FRAME_LEN + u64::from(len);
        len
    }
}

/// A random 1.5 to 9.5 s, in microseconds.
fn after(rng: &SharedRng) -> u32 {
    1_500_000 + u32::try_from(rng.below(8_000_001)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    const HOUR: Time = Time::from_micros(3_600_000_000);

    /// What a link sends in an hour in which something else leaves every `every`.
    fn hour(counted: bool, every: Duration) -> PadCount {
        let mut pads = Pads::new(Time::ZERO, counted, SharedRng::new(Rng::from_seed([7; 32])));
        let (mut next, mut woken) = (Time::ZERO + every, 0);
        loop {
            let now = pads.poll_timeout().map_or(next, |due| due.min(next));
            if now > HOUR {
                break;
            }
            woken += u32::from(pads.handle_timeout(now));
            let empty = now < next;
            if !empty || pads.wants_frame() {
                pads.fill(now, empty);
                pads.sent(now);
            }
            if !empty {
                next = now + every;
            }
        }
        assert!(!counted || every < HOUR.since(Time::ZERO) || woken == 1, "woken {woken} times");
        pads.settle(HOUR)
    }

    #[test]
    fn counting_gives_what_sending_does() {
        for every in [12, 20, 4_000].map(Duration::from_secs) {
            let [sent, counted] = [false, true].map(|counted| hour(counted, every));
            // 3,600 s without anything else: about 655 of 5.5 s each.
            let near = |a: u64, b: u64| a.abs_diff(b) * 10 <= a + b;
            assert!(near(sent.frames, counted.frames), "{every:?}: {sent:?} {counted:?}");
            assert!(near(sent.bytes, counted.bytes), "{every:?}: {sent:?} {counted:?}");
            assert!(sent.frames > 100);
        }
    }
}
