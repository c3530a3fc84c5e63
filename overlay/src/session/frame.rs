//! The frames inside a session's byte stream (docs/spec/session.md, section 5).
//!
//! Lives here: their bytes, and a parser that takes the stream in pieces of any length without
//! holding data back. Does not live here: what they do (`mux.rs`).

use crate::wire::WireError;

/// Bytes of a data frame before its data.
pub(super) const DATA_HEAD: usize = 7;
/// Bytes of the longest frame that is not data.
pub(super) const CONTROL_MAX: usize = 9;

const OPEN: u8 = 1;
const DATA: u8 = 2;
const CREDIT: u8 = 3;
const FINISH: u8 = 4;
const RESET: u8 = 5;

/// Why a stream ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetReason {
    /// The application closed it.
    Closed,
    /// Nothing listens at this port.
    Refused,
    /// The service cannot be reached, or what stands behind it cannot.
    Unreachable,
    /// Too many streams, or the memory quota is used up.
    Busy,
    /// The session could not be resumed: its other end has forgotten it.
    SessionLost,
}

impl ResetReason {
    const fn code(self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::Refused => 1,
            Self::Unreachable => 2,
            Self::Busy => 3,
            Self::SessionLost => 4,
        }
    }

    /// Unknown codes are `Closed`, so that later ones do not break older peers.
    const fn of(code: u8) -> Self {
        match code {
            1 => Self::Refused,
            2 => Self::Unreachable,
            3 => Self::Busy,
            4 => Self::SessionLost,
            _ => Self::Closed,
        }
    }
}

/// One frame, or the head of a data frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A new stream to a port of the service.
    Open { stream: u32, port: u16 },
    /// That many bytes of data follow.
    Data { stream: u32, len: u16 },
    /// That many more bytes may be sent.
    Credit { stream: u32, bytes: u32 },
    /// No more data in this direction.
    Finish { stream: u32 },
    /// Gone.
    Reset { stream: u32, reason: ResetReason },
}

impl Frame {
    /// Writes the frame to the front of `out` and returns its length; 0 if it does not fit.
    pub(super) fn encode(self, out: &mut [u8]) -> usize {
        let (kind, stream) = match self {
            Self::Open { stream, .. } => (OPEN, stream),
            Self::Data { stream, .. } => (DATA, stream),
            Self::Credit { stream, .. } => (CREDIT, stream),
            Self::Finish { stream } => (FINISH, stream),
            Self::Reset { stream, .. } => (RESET, stream),
        };
        let mut bytes = [0; CONTROL_MAX];
        let (head, tail) = bytes.split_at_mut(5);
        if let Some((first, id)) = head.split_first_mut() {
            *first = kind;
            id.copy_from_slice(&stream.to_be_bytes());
        }
        let mut put = |body: &[u8]| {
            for (to, from) in tail.iter_mut().zip(body) {
                *to = *from;
            }
            5 + body.len()
        };
        let len = match self {
            Self::Open { port, .. } => put(&port.to_be_bytes()),
            Self::Data { len, .. } => put(&len.to_be_bytes()),
            Self::Credit { bytes, .. } => put(&bytes.to_be_bytes()),
            Self::Finish { .. } => put(&[]),
            Self::Reset { reason, .. } => put(&[reason.code()]),
        };
        match (out.get_mut(..len), bytes.get(..len)) {
            (Some(out), Some(bytes)) => {
                out.copy_from_slice(bytes);
                len
            }
            _ => 0,
        }
    }

    /// Length of the frame (or data head) that starts with `kind`.
    const fn len_of(kind: u8) -> Option<usize> {
        Some(match kind {
            OPEN | DATA => 7,
            CREDIT => 9,
            FINISH => 5,
            RESET => 6,
            _ => return None,
        })
    }
}

/// What the stream's next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A whole frame; never [`Frame::Data`].
    Frame(Frame),
    /// Data of a stream, never empty; perhaps not yet the whole frame's.
    Data { stream: u32, bytes: &'a [u8] },
}

/// Takes frames out of a byte stream that arrives in pieces.
#[derive(Debug, Default)]
pub(super) struct Parser {
    held: [u8; CONTROL_MAX],
    held_len: usize,
    /// Inside a data frame: its stream and how many bytes are still to come.
    data: Option<(u32, usize)>,
}

impl Parser {
    /// The next piece; takes what it uses from the front of `bytes`. `None` when more is needed.
    pub(super) fn next<'a>(
        &mut self,
        bytes: &mut &'a [u8],
    ) -> Result<Option<Piece<'a>>, WireError> {
        loop {
            if let Some((stream, left)) = self.data {
                let (now, rest) = bytes.split_at(left.min(bytes.len()));
                if now.is_empty() {
                    return Ok(None);
                }
                *bytes = rest;
                self.data = (left > now.len()).then_some((stream, left - now.len()));
                return Ok(Some(Piece::Data { stream, bytes: now }));
            }
            let Some(frame) = self.head(bytes)? else { return Ok(None) };
            match frame {
                Frame::Data { len: 0, .. } => return Err(WireError::Bad("data frame length")),
                Frame::Data { stream, len } => self.data = Some((stream, usize::from(len))),
                frame => return Ok(Some(Piece::Frame(frame))),
            }
        }
    }

    fn head(&mut self, bytes: &mut &[u8]) -> Result<Option<Frame>, WireError> {
        loop {
            let need = match self.held.first() {
                Some(kind) if self.held_len > 0 => {
                    Frame::len_of(*kind).ok_or(WireError::Bad("frame kind"))?
                }
                _ => 1,
            };
            if self.held_len < need {
                let (now, rest) = bytes.split_at((need - self.held_len).min(bytes.len()));
                if now.is_empty() {
                    return Ok(None);
                }
                for (to, from) in self.held.iter_mut().skip(self.held_len).zip(now) {
                    *to = *from;
                }
                self.held_len += now.len();
                *bytes = rest;
                continue;
            }
            self.held_len = 0;
            return Ok(Some(self.decode()));
        }
    }

    /// Reads the held bytes, whose kind was checked and whose length fits it.
    fn decode(&self) -> Frame {
        let [kind, a, b, c, d, e, f, g, h] = self.held;
        let stream = u32::from_be_bytes([a, b, c, d]);
        match kind {
            OPEN => Frame::Open { stream, port: u16::from_be_bytes([e, f]) },
            DATA => Frame::Data { stream, len: u16::from_be_bytes([e, f]) },
            CREDIT => Frame::Credit { stream, bytes: u32::from_be_bytes([e, f, g, h]) },
            FINISH => Frame::Finish { stream },
            _ => Frame::Reset { stream, reason: ResetReason::of(e) },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_frame() -> impl Strategy<Value = (Frame, Vec<u8>)> {
        let control = prop_oneof![
            (any::<u32>(), any::<u16>()).prop_map(|(stream, port)| Frame::Open { stream, port }),
            (any::<u32>(), any::<u32>())
                .prop_map(|(stream, bytes)| Frame::Credit { stream, bytes }),
            any::<u32>().prop_map(|stream| Frame::Finish { stream }),
            (any::<u32>(), 0..5u8)
                .prop_map(|(stream, code)| Frame::Reset { stream, reason: ResetReason::of(code) }),
        ]
        .prop_map(|frame| (frame, Vec::new()));
        let data = (any::<u32>(), prop::collection::vec(any::<u8>(), 1..300)).prop_map(
            |(stream, bytes)| {
                (Frame::Data { stream, len: u16::try_from(bytes.len()).unwrap() }, bytes)
            },
        );
        prop_oneof![control, data]
    }

    fn encoded(frames: &[(Frame, Vec<u8>)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (frame, data) in frames {
            let mut room = [0; CONTROL_MAX];
            let len = frame.encode(&mut room);
            out.extend_from_slice(&room[..len]);
            out.extend_from_slice(data);
        }
        out
    }

    #[test]
    fn frames_have_the_documented_bytes() {
        let frames = [
            (Frame::Open { stream: 1, port: 80 }, vec![]),
            (Frame::Data { stream: 1, len: 2 }, vec![8, 9]),
            (Frame::Credit { stream: 3, bytes: 0x01_02_03_04 }, vec![]),
            (Frame::Finish { stream: 1 }, vec![]),
            (Frame::Reset { stream: 0x0a_0b_0c_0d, reason: ResetReason::Busy }, vec![]),
        ];
        assert_eq!(
            encoded(&frames),
            [
                1, 0, 0, 0, 1, 0, 80, 2, 0, 0, 0, 1, 0, 2, 8, 9, 3, 0, 0, 0, 3, 1, 2, 3, 4, 4, 0,
                0, 0, 1, 5, 10, 11, 12, 13, 3
            ]
        );
    }

    #[test]
    fn a_frame_that_does_not_fit_is_not_begun() {
        let mut room = [9; 6];
        assert_eq!(Frame::Open { stream: 1, port: 80 }.encode(&mut room), 0);
        assert_eq!(room, [9; 6]);
    }

    #[test]
    fn unknown_kinds_and_empty_data_are_refused() {
        assert!(Parser::default().next(&mut &[1u8; 1][..]).is_ok(), "one byte waits for more");
        assert!(Parser::default().next(&mut &[0u8; 1][..]).is_err());
        assert!(Parser::default().next(&mut &[6u8, 0, 0, 0, 0, 0][..]).is_err());
        assert!(Parser::default().next(&mut &[2u8, 0, 0, 0, 1, 0, 0][..]).is_err());
    }

    proptest! {
        #[test]
        fn the_stream_says_the_same_however_it_is_cut(
            frames in prop::collection::vec(any_frame(), 1..20), cuts in prop::collection::vec(1..40usize, 1..60),
        ) {
            let bytes = encoded(&frames);
            let mut parser = Parser::default();
            let mut got: Vec<(Frame, Vec<u8>)> = Vec::new();
            let mut open: Option<(u32, Vec<u8>)> = None;
            let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (mut now, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                rest = later;
                while let Some(piece) = parser.next(&mut now).unwrap() {
                    match piece {
                        Piece::Frame(frame) => got.push((frame, vec![])),
                        Piece::Data { stream, bytes } => {
                            let (_, data) = open.get_or_insert((stream, vec![]));
                            data.extend_from_slice(bytes);
                            if parser.data.is_none() {
                                let (stream, data) = open.take().unwrap();
                                let len = u16::try_from(data.len()).unwrap();
                                got.push((Frame::Data { stream, len }, data));
                            }
                        }
                    }
                }
                prop_assert!(now.is_empty());
            }
            prop_assert_eq!(got, frames);
        }

        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>) {
            let (mut parser, mut rest) = (Parser::default(), &bytes[..]);
            while let Ok(Some(_)) = parser.next(&mut rest) {}
        }
    }
}
