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
    /// The frame that is split over two reads. None on most links.
    split: Option<Box<Split>>,
}

#[derive(Debug, Default)]
struct Split {
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
        Self { opener, split: None }
    }

    /// Frames that were opened.
    pub(super) const fn frames(&self) -> u64 {
        self.opener.frames()
    }

    /// The next whole frame, open; takes from the front of `input`. `None` once `input` is used up.
    ///
    /// # Errors
    /// If the peer sent anything but a frame. The reader must not be used after that.
    pub(super) fn next<'s, 'i: 's>(
        &'s mut self,
        input: &mut Pieces<'i>,
    ) -> Result<Option<&'s mut [u8]>, BadFrame> {
        if let Some(split) = self.split.as_mut().filter(|it| it.done) {
            split.partial.clear();
            split.done = false;
        }
        let begun = self.split.as_mut().and_then(|it| it.head.take());
        let head = if let Some(head) = begun {
            head
        } else {
            let Some(masked) = self.head_bytes(input) else { return Ok(None) };
            self.opener.head(masked)?
        };
        let gathered = self.split.as_ref().map_or(0, |it| it.partial.len());
        let missing = head.len() - gathered;
        let part = input.take(missing);
        if gathered == 0 && part.len() == missing {
            return self.opener.open(head, part).map(Some);
        }
        let split = self.split.get_or_insert_default();
        if gathered == 0 {
            split.partial.reserve_exact(head.len());
        }
        split.partial.extend_from_slice(part);
        if split.partial.len() < head.len() {
            split.head = Some(head);
            return Ok(None);
        }
        split.done = true;
        self.opener.open(head, &mut split.partial).map(Some)
    }

    /// Gives back the gathering buffer of an idle link.
    pub(super) fn rest(&mut self) {
        self.split.take_if(|it| it.done || it.is_empty());
    }

    fn head_bytes(&mut self, input: &mut Pieces<'_>) -> Option<[u8; HEAD_LEN]> {
        let first = self.split.as_mut().and_then(|it| it.odd.take()).or_else(|| input.byte())?;
        let second = input.byte();
        if second.is_none() {
            self.split.get_or_insert_default().odd = Some(first);
        }
        second.map(|second| [first, second])
    }
}

impl Split {
    fn is_empty(&self) -> bool {
        self.odd.is_none() && self.head.is_none() && self.partial.is_empty()
    }
}
