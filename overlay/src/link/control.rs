//! Control messages that wait for the next frame.
//!
//! Lives here: the bounded queue of encoded messages. Does not live here: credits, which are
//! written when the frame is (`io.rs`), so that several grants to a lane become one message.

use std::collections::VecDeque;

use crate::wire::{LinkMessage, Writer};

/// Most messages that wait: some 40 builds and all else a busy router says in a second. A peer that
/// does not read so little is gone (the link closes).
pub(super) const CONTROL_MESSAGES_MAX: usize = 256;
/// Most bytes that wait.
pub(super) const CONTROL_BYTES_MAX: usize = 512 * 1024;

/// The queue is full: the peer does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// Encoded messages in order.
#[derive(Debug, Default)]
pub(super) struct ControlQueue {
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl ControlQueue {
    /// Appends a message.
    ///
    /// # Errors
    /// If the queue is full.
    pub(super) fn push(&mut self, message: &LinkMessage) -> Result<(), Full> {
        let mut w = Writer::default();
        message.encode(&mut w);
        let bytes = w.into_bytes();
        if self.messages.len() >= CONTROL_MESSAGES_MAX
            || self.bytes + bytes.len() > CONTROL_BYTES_MAX
        {
            return Err(Full);
        }
        self.bytes += bytes.len();
        self.messages.push_back(bytes);
        Ok(())
    }

    /// The next message, if it has at most `room` bytes.
    pub(super) fn pop(&mut self, room: usize) -> Option<Vec<u8>> {
        self.messages.front().filter(|message| message.len() <= room)?;
        let message = self.messages.pop_front()?;
        self.bytes -= message.len();
        Some(message)
    }

    /// Gives up room that nothing needs.
    pub(super) fn rest(&mut self) {
        self.messages.shrink_to_fit();
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Throws everything away.
    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.bytes = 0;
    }
}
