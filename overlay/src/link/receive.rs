//! From socket bytes to open frames, in place.
//!
//! Lives here: finding frame borders in what the socket gave, and keeping the unfinished rest. Does
//! not live here: what a frame holds (`frame.rs`).
//!
//! A frame that lies whole in the caller's buffer is opened there. Only one that is split over two
//! reads is gathered in a buffer of our own; its size is bounded by the longest frame.

use crate::link::channel::{BadFrame, HEAD_LEN, Head, Opener};

/// Bytes from the socket, taken from the front.
#[derive(Debug)]
pub(super) struct Pieces<'a>(&'a mut [u8]);

impl<'a> Pieces<'a> {
    /// All of `bytes`.
    pub(super) const fn new(bytes: &'a mut [u8]) -> Self {
        Self(bytes)
    }

    /// Up to `len` bytes.
    fn take(&mut self, len: usize) -> &'a mut [u8] {
        let bytes = std::mem::take(&mut self.0);
        let (part, rest) = bytes.split_at_mut(len.min(bytes.len()));
        self.0 = rest;
        part
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).first().copied()
    }
}

/// Cuts a byte stream into frames and opens them.
#[derive(Debug)]
pub(super) struct FrameReader {
    opener: Opener,
    /// First byte of a head whose second has not come.
    odd: Option<u8>,
    head: Option<Head>,
    partial: Vec<u8>,
    /// The frame in `partial` was handed out.
    done: bool,
}

impl FrameReader {
    /// A reader at a frame border.
    pub(super) const fn new(opener: Opener) -> Self {
        Self { opener, odd: None, head: None, partial: Vec::new(), done: false }
    }

    /// The next whole frame, open; takes from the front of `input`. `None` once `input` is used up.
    ///
    /// # Errors
    /// If the peer sent anything but a frame. The reader must not be used after that.
    pub(super) fn next<'s, 'i: 's>(
        &'s mut self,
        input: &mut Pieces<'i>,
    ) -> Result<Option<&'s mut [u8]>, BadFrame> {
        if self.done {
            self.partial.clear();
            self.done = false;
        }
        let head = if let Some(head) = self.head {
            head
        } else {
            let Some(masked) = self.head_bytes(input) else { return Ok(None) };
            let head = self.opener.head(masked)?;
            self.head = Some(head);
            head
        };
        let missing = head.len() - self.partial.len();
        let part = input.take(missing);
        if self.partial.is_empty() && part.len() == missing {
            self.head = None;
            return self.opener.open(head, part).map(Some);
        }
        if self.partial.is_empty() {
            self.partial.reserve_exact(head.len());
        }
        self.partial.extend_from_slice(part);
        if self.partial.len() < head.len() {
            return Ok(None);
        }
        self.head = None;
        self.done = true;
        self.opener.open(head, &mut self.partial).map(Some)
    }

    /// Gives back the gathering buffer of an idle link.
    pub(super) fn rest(&mut self) {
        if self.done || self.partial.is_empty() {
            self.partial = Vec::new();
            self.done = false;
        }
    }

    fn head_bytes(&mut self, input: &mut Pieces<'_>) -> Option<[u8; HEAD_LEN]> {
        let first = self.odd.take().or_else(|| input.byte())?;
        let second = input.byte();
        if second.is_none() {
            self.odd = Some(first);
        }
        second.map(|second| [first, second])
    }
}
