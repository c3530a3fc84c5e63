//! What one frame holds once it is open: control messages, then cells.
//!
//! Lives here: the plaintext layout, read in place and written into the transmit buffer. Does not
//! live here: sealing (`channel.rs`), which cells go into a frame (`schedule.rs`), the control
//! messages themselves (`wire/message.rs`).
//!
//! | bytes     | field |
//! |-----------|-------|
//! | 2         | length of the control part in bytes, big-endian |
//! | n         | control messages, back to back |
//! | 1,032 m   | m cells, at most 15 |
//!
//! A cell: tunnel id 4, reserved 4 (zero), body 1,024. A frame that holds nothing is refused: there
//! is one spelling for silence.

use crate::{
    id::TunnelId,
    link::channel::{CIPHERTEXT_MAX, HEAD_LEN, Sealer},
    plane::{CELL_BODY_LEN, CELL_LEN, CellBody},
    time::Time,
    wire::WireError,
};

/// Most cells in one frame: what fits into 16 KiB.
pub const CELLS_MAX: usize = 15;
/// Most plaintext bytes in one frame.
pub const PLAIN_MAX: usize = CIPHERTEXT_MAX - crate::crypto::aead::TAG_LEN;
/// Most control bytes in one frame.
pub const CONTROL_MAX: usize = PLAIN_MAX - 2;

/// One cell as it lies in a frame.
pub type WireCell = [u8; CELL_LEN];

/// The two parts of an open frame, borrowed.
#[derive(Debug)]
pub struct Frame<'a> {
    /// Control messages, back to back.
    pub control: &'a [u8],
    /// Cells, for work in place.
    pub cells: &'a mut [WireCell],
}

impl<'a> Frame<'a> {
    /// Splits an open frame.
    ///
    /// # Errors
    /// If the cells do not divide exactly, are more than 15, have a nonzero reserved byte, or if
    /// there is nothing at all.
    pub fn split(plain: &'a mut [u8]) -> Result<Self, WireError> {
        let (len, rest) =
            plain.split_first_chunk_mut::<2>().ok_or(WireError::Truncated("control length"))?;
        let len = usize::from(u16::from_be_bytes(*len));
        let (control, cells) =
            rest.split_at_mut_checked(len).ok_or(WireError::Truncated("control part"))?;
        let (cells, odd) = cells.as_chunks_mut::<CELL_LEN>();
        if !odd.is_empty() || cells.len() > CELLS_MAX {
            return Err(WireError::Bad("cells of a frame"));
        }
        if control.is_empty() && cells.is_empty() {
            return Err(WireError::Bad("frame without content"));
        }
        if cells.iter().any(|[_, _, _, _, a, b, c, d, ..]| a | b | c | d != 0) {
            return Err(WireError::Bad("reserved bits of a cell"));
        }
        Ok(Self { control, cells })
    }
}

/// The lane that a cell names.
pub fn tunnel_of(cell: &WireCell) -> TunnelId {
    let [a, b, c, d, ..] = *cell;
    TunnelId(u32::from_be_bytes([a, b, c, d]))
}

/// The body of a cell, for work in place.
pub fn body_of(cell: &mut WireCell) -> &mut CellBody {
    cell.last_chunk_mut::<CELL_BODY_LEN>().expect("a cell ends with its body")
}

/// Writes one frame at the end of a buffer.
#[derive(Debug)]
pub struct FrameWriter<'a> {
    buffer: &'a mut Vec<u8>,
    start: usize,
    control: usize,
    cells: usize,
}

impl<'a> FrameWriter<'a> {
    /// Begins a frame behind what `buffer` holds.
    pub fn begin(buffer: &'a mut Vec<u8>) -> Self {
        let start = buffer.len();
        buffer.extend_from_slice(&[0; HEAD_LEN + 2]);
        Self { buffer, start, control: 0, cells: 0 }
    }

    /// How many bytes of control still fit.
    pub const fn control_room(&self) -> usize {
        CONTROL_MAX - self.control
    }

    /// Appends one encoded control message; must come before any cell and must fit.
    pub fn control(&mut self, message: &[u8]) {
        debug_assert!(self.cells == 0 && message.len() <= self.control_room());
        self.control += message.len();
        self.buffer.extend_from_slice(message);
    }

    /// How many cells still fit.
    pub fn cell_room(&self) -> usize {
        let bytes = CONTROL_MAX - self.control - self.cells * CELL_LEN;
        (bytes / CELL_LEN).min(CELLS_MAX - self.cells)
    }

    /// Appends cells of one lane; they must fit.
    pub fn cells(&mut self, tunnel: TunnelId, bodies: &[CellBody]) {
        debug_assert!(bodies.len() <= self.cell_room());
        self.cells += bodies.len();
        let mut head = [0; 8];
        head[..4].copy_from_slice(&tunnel.0.to_be_bytes());
        for body in bodies {
            self.buffer.extend_from_slice(&head);
            self.buffer.extend_from_slice(body);
        }
    }

    /// Appends one cell that `make` writes in place, unless it says `false`; it must fit.
    pub fn cell_with(
        &mut self,
        tunnel: TunnelId,
        make: impl FnOnce(&mut CellBody) -> bool,
    ) -> bool {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&tunnel.0.to_be_bytes());
        self.buffer.extend_from_slice(&[0; CELL_LEN - 4]);
        let written = self.buffer.last_chunk_mut::<CELL_BODY_LEN>().is_some_and(make);
        if written {
            self.cells += 1;
        } else {
            self.buffer.truncate(start);
        }
        written
    }

    /// Whether nothing was put in yet.
    pub const fn is_empty(&self) -> bool {
        self.control == 0 && self.cells == 0
    }

    /// How many cells it holds.
    pub const fn cell_count(&self) -> usize {
        self.cells
    }

    /// Seals the frame in place, or removes it if nothing was put in. Returns its bytes on the wire.
    pub fn finish(self, now: Time, sealer: &mut Sealer) -> usize {
        if self.is_empty() {
            self.buffer.truncate(self.start);
            return 0;
        }
        let length = u16::try_from(self.control).expect("checked: control fits a frame");
        if let Some(place) =
            self.buffer.get_mut(self.start + HEAD_LEN..).and_then(<[u8]>::first_chunk_mut)
        {
            *place = length.to_be_bytes();
        }
        sealer.seal(now, self.buffer, self.start);
        self.buffer.len() - self.start
    }
}
