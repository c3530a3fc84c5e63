//! The bytes that are to be stored, read on a thread that may wait for a disk.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use tokio::sync::mpsc;
use warren_datastore::file::{Content, Hasher};

use crate::remedy;

/// Bytes read at a time.
const READ_LEN: usize = 256 << 10;
/// Reads ahead.
const READS_MAX: usize = 2;

/// A file's bytes in order, in pieces; or why there are no more.
pub(crate) struct Bytes(mpsc::Receiver<Result<Vec<u8>, String>>);

impl Bytes {
    /// The next piece.
    pub(in crate::driver) async fn next(&mut self) -> Option<Result<Vec<u8>, String>> {
        self.0.recv().await
    }

    /// What a function gives, run on a thread of its own, until it gives `None`.
    pub(crate) fn from_fn(
        mut next: impl FnMut() -> Option<Result<Vec<u8>, String>> + Send + 'static,
    ) -> Self {
        let (to, bytes) = mpsc::channel(READS_MAX);
        tokio::task::spawn_blocking(move || {
            while let Some(piece) = next() {
                if to.blocking_send(piece).is_err() {
                    return;
                }
            }
        });
        Self(bytes)
    }
}

/// The bytes of these files, one after the other.
pub(crate) fn file_bytes(paths: Vec<PathBuf>) -> Bytes {
    let mut paths = paths.into_iter();
    let mut open: Option<(PathBuf, File)> = None;
    Bytes::from_fn(move || {
        loop {
            if open.is_none() {
                let path = paths.next()?;
                match File::open(&path) {
                    Ok(file) => open = Some((path, file)),
                    Err(error) => return Some(Err(unreadable(&path, &error))),
                }
            }
            let (path, file) = open.as_mut()?;
            match read_some(file) {
                Ok(piece) if piece.is_empty() => open = None,
                Ok(piece) => return Some(Ok(piece)),
                Err(error) => return Some(Err(unreadable(path, &error))),
            }
        }
    })
}

/// Bytes that are all there.
pub(crate) fn bytes_of(bytes: Vec<u8>) -> Bytes {
    let mut bytes = Some(bytes);
    Bytes::from_fn(move || bytes.take().map(Ok))
}

/// The first pass over these files. Waits for the disk: for a thread that may.
///
/// # Errors
/// In words, when one cannot be read.
pub(crate) fn content_of(paths: &[PathBuf]) -> Result<Content, String> {
    let mut hasher = Hasher::default();
    let mut piece = vec![0; READ_LEN];
    for path in paths {
        let mut file = File::open(path).map_err(|error| unreadable(path, &error))?;
        loop {
            let len = file.read(&mut piece).map_err(|error| unreadable(path, &error))?;
            if len == 0 {
                break;
            }
            hasher.update(piece.get(..len).unwrap_or_default());
        }
    }
    Ok(hasher.finish())
}

fn read_some(file: &mut File) -> io::Result<Vec<u8>> {
    let mut piece = Vec::with_capacity(READ_LEN);
    file.take(READ_LEN as u64).read_to_end(&mut piece)?;
    Ok(piece)
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    remedy::at(path, error)
}

/// Mute.
impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}
