//! The inside of one cell, written in place; and the cell that crosses a splice leg.
//!
//! Lives here: the layout of a payload while it is being filled, and of a leg cell. Does not live
//! here: which cloves go in (`packer.rs` and both ends) and the onion layer around it.
//!
//! ```text
//!  0    16                                                    1,024
//!  | tag | clove | clove | first part of a longer clove ......... |   cell body
//!  | tag | rest of it | clove | 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 |
//!  | tag | 19 | len | splice | 1,001 bytes of data .............. |
//!
//!  0   2                                              1,003   1,024
//!  | n | n bytes of data .................................| 0 0 0 |   leg cell
//! ```

use super::clove::{HEAD_LEN, kind};
use crate::{
    id::SpliceId,
    plane::{CELL_BODY_LEN, CellBody},
};

/// Bytes of the onion layer's tag, in front of the payload.
const TAG_LEN: usize = 16;
/// Bytes of a payload.
pub(crate) const PAYLOAD_LEN: usize = CELL_BODY_LEN - TAG_LEN;
/// Most data bytes in one splice data clove: it then fills one payload.
pub const DATA_MAX: usize = PAYLOAD_LEN - HEAD_LEN - 4;

/// The payload of a recognised cell.
pub(crate) fn payload(body: &CellBody) -> &[u8] {
    body.get(TAG_LEN..).unwrap_or_default()
}

/// Turns data into the cell that carries it over a splice leg.
///
/// | bytes | field |
/// |-------|-------|
/// | 2     | length of data, big-endian, 1 to 1,001 |
/// | n     | data |
/// | rest  | zero |
///
/// `None` for no data, or for more than [`DATA_MAX`].
pub fn leg_cell(data: &[u8]) -> Option<CellBody> {
    let mut cell = [0; CELL_BODY_LEN];
    push_leg_data(&mut cell, data).then_some(cell)
}

/// [`leg_cell`] into a cell of zeros.
pub(crate) fn push_leg_data(cell: &mut CellBody, data: &[u8]) -> bool {
    if data.is_empty() || data.len() > DATA_MAX {
        return false;
    }
    let Ok(len) = u16::try_from(data.len()) else { return false };
    let Some((head, rest)) = cell.split_first_chunk_mut() else { return false };
    *head = len.to_be_bytes();
    let Some(room) = rest.get_mut(..data.len()) else { return false };
    room.copy_from_slice(data);
    true
}

/// The data in a leg cell; `None` if it is none that [`leg_cell`] makes.
pub fn leg_data(cell: &CellBody) -> Option<&[u8]> {
    let (head, rest) = cell.split_first_chunk()?;
    let (data, zeros) = rest.split_at_checked(usize::from(u16::from_be_bytes(*head)))?;
    let fits = (1..=DATA_MAX).contains(&data.len());
    (fits && zeros.iter().all(|byte| *byte == 0)).then_some(data)
}

/// Where the next byte of a cell goes. Kept apart from the cell, which may lie in a batch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fill {
    used: usize,
}

impl Fill {
    /// How many payload bytes are free.
    pub(crate) const fn room(self) -> usize {
        PAYLOAD_LEN - self.used
    }

    /// Whether nothing was written yet.
    pub(crate) const fn is_empty(self) -> bool {
        self.used == 0
    }

    /// Writes as much of `bytes` as fits; says how much that was.
    pub(crate) fn put(&mut self, body: &mut CellBody, bytes: &[u8]) -> usize {
        let Some(free) = body.get_mut(TAG_LEN + self.used..) else { return 0 };
        let len = bytes.len().min(free.len());
        if let (Some(to), Some(from)) = (free.get_mut(..len), bytes.get(..len)) {
            to.copy_from_slice(from);
        }
        self.used += len;
        len
    }

    /// Writes one splice data clove, if all of it fits.
    pub(crate) fn put_data(&mut self, body: &mut CellBody, splice: SpliceId, data: &[u8]) -> bool {
        if data.is_empty() || data.len() + 4 + HEAD_LEN > self.room() {
            return false;
        }
        let Ok(len) = u16::try_from(data.len() + 4) else { return false };
        let ([high, low], [a, b, c, d]) = (len.to_be_bytes(), splice.0.to_be_bytes());
        self.put(body, &[kind::SPLICE_DATA, high, low, a, b, c, d]);
        self.put(body, data);
        true
    }

    /// Turns what is left into padding; the cell is then ready for its onion layer.
    pub(crate) fn finish(self, body: &mut CellBody) {
        if let Some(rest) = body.get_mut(TAG_LEN + self.used..) {
            rest.fill(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_leg_cell_gives_its_data_back(data in prop::collection::vec(any::<u8>(), 1..=DATA_MAX)) {
            let cell = leg_cell(&data).unwrap();
            prop_assert_eq!(leg_data(&cell), Some(&data[..]));
        }

        #[test]
        fn no_two_leg_cells_carry_the_same_data(
            data in prop::collection::vec(any::<u8>(), 1..=DATA_MAX), at in 0..CELL_BODY_LEN, with: u8,
        ) {
            let mut cell = leg_cell(&data).unwrap();
            cell[at] = with;
            if let Some(other) = leg_data(&cell) {
                prop_assert_eq!(leg_cell(other), Some(cell));
            }
        }
    }

    #[test]
    fn leg_cells_have_the_documented_bytes() {
        let cell = leg_cell(b"abc").unwrap();
        assert_eq!(cell[..5], [0, 3, b'a', b'b', b'c']);
        assert_eq!(cell[5..], [0; CELL_BODY_LEN - 5]);
        assert_eq!(leg_cell(&[]), None);
        assert_eq!(leg_cell(&[0; DATA_MAX + 1]), None);
        assert_eq!(leg_data(&[0xff; CELL_BODY_LEN]), None);
    }

    #[test]
    fn a_full_data_clove_fills_a_cell() {
        assert_eq!(DATA_MAX, 1_001);
        let (mut body, mut fill) = ([0; CELL_BODY_LEN], Fill::default());
        assert!(fill.put_data(&mut body, SpliceId(1), &[7; DATA_MAX]));
        assert_eq!(fill.room(), 0);
        assert!(!fill.put_data(&mut body, SpliceId(1), &[7]));
    }
}
