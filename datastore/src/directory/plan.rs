//! Which file of a directory goes into which object.
//!
//! Lives here: the packing, from names and lengths alone. Does not live here: reading the files.
//!
//! Each object costs a reader round trips and the network a root with three copies. Small files
//! therefore travel together: the smallest, up to 256 KiB in all, behind the manifest itself, the
//! others in packs of up to 4 MiB (one segment), in the order of their paths, so that the pages of one
//! folder come together. Packs are keyed by their content: an update stores anew what changed.

use std::fmt;

use super::{
    manifest::{Directory, DirectoryError, ENTRIES_MAX, Entry, Object},
    path::valid_path,
};
use crate::capability::ReadCap;

/// Files up to this length are packed, in bytes; longer ones are objects of their own.
pub const PACK_ITEM_MAX: u64 = 1 << 20;
/// Longest pack in bytes: a segment of 128 blocks.
pub const PACK_MAX: u64 = 128 * crate::file::CHUNK_LEN;
/// Longest tail in bytes.
pub const TAIL_MAX: u64 = 256 << 10;

/// A file to be stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Planned {
    /// Where it is in the directory: see [`valid_path`].
    pub path: String,
    /// Type, empty when unknown.
    pub mime: String,
    /// Length in bytes.
    pub len: u64,
}

/// Mute.
impl fmt::Debug for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// The objects of a directory to be. Store object 1 and so on, each the bytes of its files one after the
/// other, and [`Plan::finish`] with their capabilities.
#[derive(Debug)]
pub struct Plan {
    files: Vec<Planned>,
    /// Numbers of files; the first list is the tail's.
    objects: Vec<Vec<usize>>,
}

impl Plan {
    /// Divides these files, in any order.
    ///
    /// # Errors
    /// On paths that are not allowed, and more than 65,536 files.
    pub fn new(mut files: Vec<Planned>) -> Result<Self, DirectoryError> {
        if files.len() > ENTRIES_MAX {
            return Err(DirectoryError::TooMany);
        }
        if !files.iter().all(|file| valid_path(&file.path)) {
            return Err(DirectoryError::Path);
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let mut small: Vec<_> = (0..).zip(&files).map(|(n, file)| (file.len, n)).collect();
        small.sort_unstable();
        let mut in_tail = vec![false; files.len()];
        let mut tail_len = 0u64;
        for (len, number) in small {
            tail_len = tail_len.saturating_add(len);
            if tail_len > TAIL_MAX {
                break;
            }
            if let Some(place) = in_tail.get_mut(number) {
                *place = true;
            }
        }
        let mut objects = vec![Vec::new()];
        let mut pack = Vec::new();
        let mut pack_len = 0;
        for (number, (file, in_tail)) in files.iter().zip(in_tail).enumerate() {
            if in_tail {
                if let Some(tail) = objects.first_mut() {
                    tail.push(number);
                }
            } else if file.len > PACK_ITEM_MAX {
                objects.push(vec![number]);
            } else {
                if pack_len + file.len > PACK_MAX {
                    objects.push(std::mem::take(&mut pack));
                    pack_len = 0;
                }
                pack_len += file.len;
                pack.push(number);
            }
        }
        if !pack.is_empty() {
            objects.push(pack);
        }
        Ok(Self { files, objects })
    }

    /// How many objects there are besides the directory itself.
    pub fn objects(&self) -> usize {
        self.objects.len() - 1
    }

    /// The files of object `number`, in the order in which their bytes follow each other; object 0 is
    /// the tail.
    pub fn files(&self, number: usize) -> impl Iterator<Item = &Planned> {
        let files = self.objects.get(number).map(Vec::as_slice).unwrap_or_default();
        files.iter().filter_map(|at| self.files.get(*at))
    }

    /// Whether object `number` is one file by itself, and not a pack.
    pub fn is_whole_file(&self, number: usize) -> bool {
        number > 0 && self.objects.get(number).is_some_and(|files| files.len() == 1)
    }

    /// Length of object `number` in bytes.
    pub fn len(&self, number: usize) -> u64 {
        self.files(number).map(|file| file.len).sum()
    }

    /// Whether there is no file at all.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The directory, once objects 1 and so on are stored under these capabilities.
    ///
    /// # Errors
    /// When there are more or fewer of them, and as for [`Directory::new`].
    pub fn finish(&self, caps: Vec<ReadCap>) -> Result<Directory, DirectoryError> {
        if caps.len() != self.objects() {
            return Err(DirectoryError::Outside);
        }
        let lens = (1..=self.objects()).map(|number| self.len(number));
        let objects = caps.into_iter().zip(lens).map(|(cap, len)| Object { cap, len }).collect();
        let mut entries = Vec::with_capacity(self.files.len());
        for number in 0..self.objects.len() {
            let mut offset = 0;
            let object = u32::try_from(number).map_err(|_| DirectoryError::TooMany)?;
            for file in self.files(number) {
                let (mime, len) = (file.mime.clone(), file.len);
                entries.push((file.path.clone(), Entry { mime, object, offset, len }));
                offset += len;
            }
        }
        Directory::new(self.len(0), objects, entries)
    }
}
