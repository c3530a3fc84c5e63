//! What the control socket says while a file is on its way: words and bytes in turns.
//!
//! Lives here: frames, both sides. Does not live here: who says what when (`api.rs`), what the command
//! line makes of it (`cli/files.rs`).
//!
//! | bytes | field |
//! |-------|-------|
//! | 1     | kind: 1 news, 2 a file begins, 3 bytes of it, 4 done, 5 failed |
//! | 4     | length n, big-endian, at most 1 MiB |
//! | n     | bytes of the file, or JSON |

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use hyper::body::{Body, Bytes, Frame};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::mpsc;

/// Where frames go.
pub(crate) type FrameSender = mpsc::Sender<io::Result<Vec<u8>>>;

/// A body that comes in pieces, at the pace of whoever reads it.
#[derive(Debug)]
pub(crate) struct Pieces(pub(crate) mpsc::Receiver<io::Result<Vec<u8>>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = self.0.poll_recv(cx);
        piece.map(|piece| piece.map(|bytes| Ok(Frame::data(bytes?.into()))))
    }
}

/// Longest body of a frame.
const BODY_MAX: usize = 1 << 20;
const HEAD_LEN: usize = 5;

/// Kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// How far it is.
    News,
    /// A file begins.
    Begin,
    /// Bytes of it.
    Bytes,
    /// All of it came.
    Done,
    /// It ended.
    Failed,
}

impl Kind {
    const ALL: [Self; 5] = [Self::News, Self::Begin, Self::Bytes, Self::Done, Self::Failed];
}

/// Body of [`Kind::Begin`].
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Begin {
    /// Inside its folder; empty for a file by itself.
    pub(crate) path: String,
    /// Type; empty when unknown.
    pub(crate) mime: String,
    /// Length in bytes.
    pub(crate) len: u64,
    /// Where the bytes that follow begin.
    pub(crate) from: u64,
}

/// Body of [`Kind::Failed`].
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Failed {
    /// In words.
    pub(crate) error: String,
    /// What the command line ends with (`cli.rs`).
    pub(crate) code: u8,
}

/// One frame.
pub(crate) fn frame(kind: Kind, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_LEN + body.len());
    let code = Kind::ALL.iter().position(|other| *other == kind).unwrap_or(0) + 1;
    bytes.push(u8::try_from(code).unwrap_or(0));
    bytes.extend_from_slice(&u32::try_from(body.len()).unwrap_or(0).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// One frame of JSON.
pub(crate) fn json(kind: Kind, body: &impl Serialize) -> Vec<u8> {
    frame(kind, &serde_json::to_vec(body).unwrap_or_default())
}

/// Takes bytes as they come and gives frames.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
    at: usize,
}

impl Frames {
    /// More came.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame; an error where it is none.
    pub(crate) fn next(&mut self) -> Result<Option<(Kind, &[u8])>, String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some((head, body)) = rest.split_first_chunk::<HEAD_LEN>() else { return Ok(None) };
        let [kind, len @ ..] = *head;
        let len = usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX);
        let kind = Kind::ALL.get(usize::from(kind).wrapping_sub(1)).copied();
        let kind = kind.filter(|_| len <= BODY_MAX).ok_or(
            "the router's answer makes no sense: start it again, it may be of another version",
        )?;
        if body.len() < len {
            return Ok(None);
        }
        let begin = self.at + HEAD_LEN;
        self.at = begin + len;
        Ok(self.bytes.get(begin..self.at).map(|body| (kind, body)))
    }
}

/// Reads a body.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("the router's answer makes no sense ({error}): start it again, it may be of another version"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_whole_however_they_are_cut() {
        let sent =
            [(Kind::News, b"{}".to_vec()), (Kind::Bytes, vec![7; 3_000]), (Kind::Done, vec![])];
        let whole: Vec<u8> = sent.iter().flat_map(|(kind, body)| frame(*kind, body)).collect();
        for step in [1, 7, 4_000] {
            let (mut frames, mut came) = (Frames::default(), Vec::new());
            for piece in whole.chunks(step) {
                frames.push(piece);
                while let Some((kind, body)) = frames.next().unwrap() {
                    came.push((kind, body.to_vec()));
                }
            }
            assert_eq!(came, sent);
        }
        for bad in [[0, 0, 0, 0, 0], [6, 0, 0, 0, 0], [3, 1, 0, 0, 0]] {
            let mut frames = Frames::default();
            frames.push(&bad);
            assert!(frames.next().is_err());
        }
    }
}
