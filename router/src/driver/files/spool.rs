//! Standard input on its way into the store: it must be read twice, so it waits on disk, encrypted.
//!
//! Lives here: filling and reading a spool. Does not live here: its cipher (`file/spool.rs` of
//! datastore). The file has no name while it is in use: whatever happens, nothing of it stays.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{Mutex, PoisonError},
};

use tokio::sync::mpsc;
use warren_datastore::file::{Content, Hasher, SPOOL_CHUNK, SPOOL_SEALED, SpoolCipher};

use super::{Bytes, FileError, Files};
use crate::{entropy, remedy};

/// Spools that nobody has put yet; of more the oldest is dropped.
const SPOOLS_MAX: usize = 8;

struct Spool {
    file: File,
    cipher: SpoolCipher,
    content: Content,
}

/// Spools that wait for their put.
#[derive(Default)]
pub(super) struct Spools(Mutex<(u64, BTreeMap<u64, Spool>)>);

impl Files {
    /// Spools what comes until the sender is dropped; its number for [`super::put::PutRequest`].
    pub(in crate::driver) async fn spool(
        &self,
        pieces: mpsc::Receiver<Vec<u8>>,
    ) -> Result<u64, String> {
        let home = self
            .home()
            .ok_or("this router keeps nothing, and so cannot spool: name a file instead")?;
        let dir = home.dir().to_owned();
        let fill = tokio::task::spawn_blocking(move || {
            fill(&dir, pieces)
                .map_err(|error| format!("cannot spool to disk: {}", remedy::words(&error)))
        });
        let spool = fill.await.map_err(|error| error.to_string())??;
        let mut spools = self.0.spools.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, all) = &mut *spools;
        *last += 1;
        all.insert(*last, spool);
        if all.len() > SPOOLS_MAX {
            all.pop_first();
        }
        Ok(*last)
    }

    pub(super) fn take_spool(&self, number: u64) -> Result<(Content, Bytes), FileError> {
        let spool =
            self.0.spools.0.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&number);
        let Spool { mut file, cipher, content } =
            spool.ok_or_else(|| FileError::Source("the spool is gone: put it again".into()))?;
        let mut next = 0;
        let bytes = Bytes::from_fn(move || {
            let mut chunk = Vec::with_capacity(SPOOL_SEALED);
            let read = (&mut file).take(SPOOL_SEALED as u64).read_to_end(&mut chunk);
            match read {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => {
                    return Some(Err(format!("cannot read the spool: {}", remedy::words(&error))));
                }
            }
            let opened = cipher.open(next, &mut chunk);
            next += 1;
            Some(opened.map(|()| chunk).map_err(|_| "the spool was damaged on disk".into()))
        });
        Ok((content, bytes))
    }
}

fn fill(dir: &Path, mut pieces: mpsc::Receiver<Vec<u8>>) -> std::io::Result<Spool> {
    let mut rng = entropy::generator();
    let name: [u8; 8] = rng.bytes();
    let path = dir.join(format!("spool.{}", data_encoding::HEXLOWER.encode(&name)));
    let mut file =
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    let mut cipher = SpoolCipher::new(&mut rng);
    let mut hasher = Hasher::default();
    let mut chunk = Vec::with_capacity(SPOOL_SEALED);
    while let Some(piece) = pieces.blocking_recv() {
        hasher.update(&piece);
        let mut rest = piece.as_slice();
        while !rest.is_empty() {
            let (head, tail) = rest.split_at(rest.len().min(SPOOL_CHUNK - chunk.len()));
            chunk.extend_from_slice(head);
            rest = tail;
            if chunk.len() == SPOOL_CHUNK {
                cipher.seal_next(&mut chunk);
                file.write_all(&chunk)?;
                chunk.clear();
            }
        }
    }
    if !chunk.is_empty() {
        cipher.seal_next(&mut chunk);
        file.write_all(&chunk)?;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(Spool { file, cipher, content: hasher.finish() })
}

/// Mute.
impl std::fmt::Debug for Spools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("_")
    }
}
