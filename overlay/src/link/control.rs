//! Control messages that wait for the next frame.
//!
//! Lives here: the bounded queue of encoded messages. Does not live here: credits, which are
//! written when the frame is (`io.rs`), so that several grants to a lane become one message.

use crate::wire::{LinkMessage, Writer};

/// Most messages that wait: some 40 builds and all else a busy router says in a second. A peer that
/// does not read so little is gone (the link closes).
pub(super) const CONTROL_MESSAGES_MAX: usize = 256;
/// Most bytes that wait.
pub(super) const CONTROL_BYTES_MAX: usize = 512 * 1024;
/// Room that is made for the first message: most are no longer.
const ROOM: usize = 128;
/// What is gone is cut off when it is so much, and more than what waits.
const GONE_MAX: usize = 4_096;

/// The queue is full: the peer does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// Encoded messages in order.
#[derive(Debug)]
pub(super) struct ControlQueue {
    /// One behind the other: each says how long it is.
    bytes: Vec<u8>,
    /// Where the first that waits begins.
    start: usize,
    messages: usize,
}

impl ControlQueue {
    /// Nothing waits.
    pub(super) const fn none() -> Self {
        Self { bytes: Vec::new(), start: 0, messages: 0 }
    }

    /// Appends a message.
    ///
    /// # Errors
    /// If the queue is full.
    pub(super) fn push(&mut self, message: &LinkMessage) -> Result<(), Full> {
        if self.bytes.capacity() == 0 {
            self.bytes.reserve_exact(ROOM);
        }
        let before = self.bytes.len();
        let mut w = Writer::behind(std::mem::take(&mut self.bytes));
        message.encode(&mut w);
        self.bytes = w.into_bytes();
        if self.messages >= CONTROL_MESSAGES_MAX
            || self.bytes.len() - self.start > CONTROL_BYTES_MAX
        {
            self.bytes.truncate(before);
            return Err(Full);
        }
        self.messages += 1;
        Ok(())
    }

    /// Hands the next message to `take`, if it has at most `room` bytes; says whether it did.
    pub(super) fn pop(&mut self, room: usize, take: impl FnOnce(&[u8])) -> bool {
        let waiting = self.bytes.get(self.start..).unwrap_or_default();
        let Some(message) = LinkMessage::first(waiting).filter(|it| it.len() <= room) else {
            return false;
        };
        take(message);
        self.start += message.len();
        self.messages -= 1;
        if self.messages == 0 {
            self.clear();
        } else if self.start >= GONE_MAX && self.start * 2 >= self.bytes.len() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        true
    }

    /// Whether nothing waits.
    pub(super) const fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Throws everything away, and gives back the room.
    fn clear(&mut self) {
        *self = Self::none();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::TunnelId;

    fn message(number: u32) -> LinkMessage {
        match number % 3 {
            0 => LinkMessage::Ping,
            1 => LinkMessage::Teardown { tunnel: TunnelId(number) },
            _ => LinkMessage::Padding(u16::try_from(number % 900).unwrap()),
        }
    }

    fn popped(queue: &mut ControlQueue, room: usize) -> Option<Vec<u8>> {
        let mut message = None;
        let taken = queue.pop(room, |bytes| message = Some(bytes.to_vec()));
        assert_eq!(taken, message.is_some());
        message
    }

    #[test]
    fn messages_leave_whole_and_in_order_and_what_is_gone_takes_no_room() {
        let mut queue = ControlQueue::none();
        let encoded = |number| {
            let mut w = Writer::default();
            message(number).encode(&mut w);
            w.into_bytes()
        };
        // A peer that never quite reads all.
        for number in 0..5 {
            queue.push(&message(number)).unwrap();
        }
        for number in 0..3_000 {
            queue.push(&message(number + 5)).unwrap();
            let expected = encoded(number);
            assert_eq!(popped(&mut queue, expected.len() - 1), None);
            assert_eq!(popped(&mut queue, expected.len()), Some(expected));
            assert!(queue.bytes.len() < 3 * GONE_MAX);
        }
        while popped(&mut queue, usize::MAX).is_some() {}
        assert!(queue.is_empty() && queue.bytes.capacity() == 0);
    }

    #[test]
    fn no_more_waits_than_may() {
        let mut queue = ControlQueue::none();
        for _ in 0..CONTROL_MESSAGES_MAX {
            queue.push(&LinkMessage::Ping).unwrap();
        }
        assert_eq!(queue.push(&LinkMessage::Ping), Err(Full));
        let mut left = 0;
        while let Some(message) = popped(&mut queue, usize::MAX) {
            assert_eq!(message.len(), 3);
            left += 1;
        }
        assert_eq!(left, CONTROL_MESSAGES_MAX);
    }
}
