//! A directory's bytes.
//!
//! Lives here: their one canonical form, and its checks: these bytes come from strangers. Does not live
//! here: which file goes into which object (`plan.rs`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Range,
};

use warren_overlay::wire::{Reader, WireError, Writer};

use super::path::{parents, valid_path};
use crate::{
    capability::{ReadCap, VerifyCap},
    manifest::valid_mime,
};

/// The only format there is.
const FORMAT: u8 = 1;
/// Bytes that say how long the manifest is.
pub const HEAD_LEN: usize = 5;
/// Longest manifest in bytes: all of it is held in memory.
pub const MANIFEST_MAX: usize = 16 << 20;
/// Most files.
pub const ENTRIES_MAX: usize = 1 << 16;
/// Length of an object's entry.
const OBJECT_LEN: usize = ReadCap::LEN + 8;
/// Shortest entry of a file: a path of one byte.
const ENTRY_LEN_MIN: usize = 2 + 1 + 2 + 4 + 8 + 8;

/// A stored file that holds one or several files of a directory.
pub struct Object {
    /// What reads it.
    pub cap: ReadCap,
    /// Its length in bytes.
    pub len: u64,
}

/// One file of a directory.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Type, empty when unknown.
    pub mime: String,
    /// Which object holds it: 0 the directory's own tail, 1 the first of [`Directory::objects`].
    pub object: u32,
    /// Where it begins there.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
}

impl Entry {
    /// The bytes of its object that are it. In object 0 they count from the tail's beginning, which is
    /// the manifest's end.
    pub const fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.len
    }
}

/// A directory, checked.
///
/// | bytes | field |
/// |-------|-------|
/// | 1     | format, 1 |
/// | 4     | length of the manifest, all of this; the tail begins behind it |
/// | 8     | length of the tail |
/// | 4     | count of objects; each: read capability 64, length 8 |
/// | 2     | count of types; each: length 1, text; ascending |
/// | 4     | count of files; each: path length 2, path, type 2 (0 none, 1 the first), object 4, offset 8, length 8; ascending by path |
pub struct Directory {
    tail_len: u64,
    objects: Vec<Object>,
    entries: BTreeMap<String, Entry>,
}

/// Why a directory is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// Its bytes are not what an encoder writes.
    #[error("the directory is malformed: ask its publisher for another")]
    Malformed(#[from] WireError),
    /// A path that is absolute, leads outside, has control characters, or is too long or deep.
    #[error("the directory holds a path that is not allowed: ask its publisher for another")]
    Path,
    /// A path twice, or a file that is also a folder.
    #[error("the directory holds a path twice: ask its publisher for another")]
    Twice,
    /// Too many files, or a manifest above 16 MiB.
    #[error(
        "the directory has more than 65,536 files or 16 MiB of names: put its parts one by one"
    )]
    TooMany,
    /// A file that does not lie inside its object, or an object that no file uses.
    #[error("the directory points outside of what is stored: ask its publisher for another")]
    Outside,
    /// Written by a later version.
    #[error("the directory is of a format that this version does not know: update warren")]
    Format,
}

/// How long the manifest is that begins with these bytes: fetch so many, then decode.
///
/// # Errors
/// On a format or a length that cannot be.
pub fn manifest_len(head: &[u8; HEAD_LEN]) -> Result<usize, DirectoryError> {
    let mut r = Reader::new(head);
    if r.u8("directory format")? != FORMAT {
        return Err(DirectoryError::Format);
    }
    let len = usize::try_from(r.u32("directory length")?).unwrap_or(usize::MAX);
    if len > MANIFEST_MAX { Err(DirectoryError::TooMany) } else { Ok(len) }
}

impl Directory {
    /// A directory of these files.
    ///
    /// # Errors
    /// As for [`Directory::decode`].
    pub fn new(
        tail_len: u64,
        objects: Vec<Object>,
        entries: Vec<(String, Entry)>,
    ) -> Result<Self, DirectoryError> {
        if entries.len() > ENTRIES_MAX {
            return Err(DirectoryError::TooMany);
        }
        let count = entries.len();
        let entries: BTreeMap<_, _> = entries.into_iter().collect();
        if entries.len() != count {
            return Err(DirectoryError::Twice);
        }
        let directory = Self { tail_len, objects, entries };
        directory.check()?;
        Ok(directory)
    }

    fn check(&self) -> Result<(), DirectoryError> {
        let mut used = vec![false; self.objects.len()];
        for (path, entry) in &self.entries {
            if !valid_path(path) {
                return Err(DirectoryError::Path);
            }
            if parents(path).any(|parent| self.entries.contains_key(parent)) {
                return Err(DirectoryError::Twice);
            }
            if !valid_mime(&entry.mime) {
                return Err(WireError::Bad("type").into());
            }
            let room = match usize::try_from(entry.object).ok().and_then(|n| n.checked_sub(1)) {
                None => self.tail_len,
                Some(at) => {
                    *used.get_mut(at).ok_or(DirectoryError::Outside)? = true;
                    self.objects.get(at).ok_or(DirectoryError::Outside)?.len
                }
            };
            if entry.offset.checked_add(entry.len).is_none_or(|end| end > room) {
                return Err(DirectoryError::Outside);
            }
        }
        if used.contains(&false) { Err(DirectoryError::Outside) } else { Ok(()) }
    }

    /// The manifest's bytes. The directory's content is these and then the tail.
    ///
    /// # Errors
    /// [`DirectoryError::TooMany`] above 16 MiB.
    pub fn encode(&self) -> Result<Vec<u8>, DirectoryError> {
        let mimes: BTreeSet<&str> = self.entries.values().map(|e| e.mime.as_str()).collect();
        let mimes: Vec<&str> = mimes.into_iter().filter(|mime| !mime.is_empty()).collect();
        let count = |count: usize| u32::try_from(count).map_err(|_| DirectoryError::TooMany);
        let mut body = Writer::default();
        body.u64(self.tail_len).u32(count(self.objects.len())?);
        for object in &self.objects {
            body.bytes(object.cap.to_bytes().expose_secret()).u64(object.len);
        }
        body.u16(u16::try_from(mimes.len()).map_err(|_| DirectoryError::TooMany)?);
        for mime in &mimes {
            body.u8(u8::try_from(mime.len()).map_err(|_| DirectoryError::TooMany)?);
            body.bytes(mime.as_bytes());
        }
        body.u32(count(self.entries.len())?);
        for (path, entry) in &self.entries {
            body.u16(u16::try_from(path.len()).map_err(|_| DirectoryError::Path)?);
            body.bytes(path.as_bytes());
            let mime = mimes.binary_search(&entry.mime.as_str()).map_or(0, |at| at + 1);
            body.u16(u16::try_from(mime).map_err(|_| DirectoryError::TooMany)?);
            body.u32(entry.object).u64(entry.offset).u64(entry.len);
        }
        let body = body.into_bytes();
        let len = body.len() + HEAD_LEN;
        if len > MANIFEST_MAX {
            return Err(DirectoryError::TooMany);
        }
        let mut w = Writer::with_capacity(len);
        w.u8(FORMAT).u32(count(len)?).bytes(&body);
        Ok(w.into_bytes())
    }

    /// Reads a manifest: exactly [`manifest_len`] bytes.
    ///
    /// # Errors
    /// On anything that [`Directory::encode`] does not write, and on everything that
    /// [`DirectoryError`] names.
    pub fn decode(bytes: &[u8]) -> Result<Self, DirectoryError> {
        let head = bytes.first_chunk().ok_or(WireError::Truncated("directory head"))?;
        if manifest_len(head)? != bytes.len() {
            return Err(WireError::Bad("directory length").into());
        }
        let mut r = Reader::new(bytes);
        r.array::<HEAD_LEN>("directory head")?;
        let tail_len = r.u64("tail length")?;
        let count = bounded(&mut r, OBJECT_LEN, "object count")?;
        let mut objects = Vec::with_capacity(count);
        for _ in 0..count {
            let cap = ReadCap::take(&mut r.array("object capability")?);
            objects.push(Object { cap, len: r.u64("object length")? });
        }
        let count = usize::from(r.u16("type count")?);
        let mut mimes: Vec<String> = vec![String::new()];
        for _ in 0..count {
            let len = usize::from(r.u8("type length")?);
            let mime = text(&mut r, len, "type")?;
            if mimes.last().is_some_and(|before| *before >= mime) {
                return Err(WireError::Bad("type order").into());
            }
            mimes.push(mime);
        }
        let count = bounded(&mut r, ENTRY_LEN_MIN, "file count")?;
        if count > ENTRIES_MAX {
            return Err(DirectoryError::TooMany);
        }
        let mut entries = BTreeMap::new();
        let mut used = vec![false; mimes.len()];
        for _ in 0..count {
            let len = usize::from(r.u16("path length")?);
            let path = text(&mut r, len, "path")?;
            if entries.last_key_value().is_some_and(|(before, _)| *before >= path) {
                return Err(DirectoryError::Twice);
            }
            let mime = usize::from(r.u16("type")?);
            *used.get_mut(mime).ok_or(WireError::Bad("type"))? = true;
            let mime = mimes.get(mime).cloned().unwrap_or_default();
            let object = r.u32("object")?;
            let (offset, len) = (r.u64("offset")?, r.u64("length")?);
            entries.insert(path, Entry { mime, object, offset, len });
        }
        r.finish()?;
        if used.iter().skip(1).any(|used| !used) {
            return Err(WireError::Bad("type that no file has").into());
        }
        let directory = Self { tail_len, objects, entries };
        directory.check()?;
        Ok(directory)
    }

    /// The file at a path.
    pub fn get(&self, path: &str) -> Option<&Entry> {
        self.entries.get(path)
    }

    /// All files, ascending by path.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// What lies directly in a folder (empty text for the top): names, each with its entry if it is a
    /// file and without if it is a folder. `None` when there is no such folder.
    pub fn list(&self, folder: &str) -> Option<BTreeMap<&str, Option<&Entry>>> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let mut found = BTreeMap::new();
        for (path, entry) in self.entries.range(prefix.clone()..) {
            let Some(rest) = path.strip_prefix(&prefix) else { break };
            match rest.split_once('/') {
                Some((name, _)) => found.insert(name, None),
                None => found.insert(rest, Some(entry)),
            };
        }
        (folder.is_empty() || !found.is_empty()).then_some(found)
    }

    /// The stored files that hold this directory's files, from object 1 on.
    pub fn objects(&self) -> &[Object] {
        &self.objects
    }

    /// Length of the tail in bytes.
    pub const fn tail_len(&self) -> u64 {
        self.tail_len
    }

    /// What the list of children holds: the verify capability of each object, 64 bytes each. Stored as
    /// a file whose capability stands in the directory's root, it lets a third party heal all of
    /// the directory without reading a name in it.
    pub fn children(&self) -> Vec<u8> {
        let caps = self.objects.iter().map(|object| object.cap.verify().to_bytes());
        caps.flat_map(|bytes| *bytes.expose_secret()).collect()
    }
}

/// The verify capabilities of a list of children.
///
/// # Errors
/// On a length that is no multiple of 64, or of more than 65,536 capabilities.
pub fn children(bytes: &[u8]) -> Result<Vec<VerifyCap>, DirectoryError> {
    let (caps, rest) = bytes.as_chunks::<{ VerifyCap::LEN }>();
    if !rest.is_empty() || caps.len() > ENTRIES_MAX {
        return Err(WireError::Bad("list of children").into());
    }
    Ok(caps.iter().map(|cap| VerifyCap::take(&mut cap.clone())).collect())
}

/// A count of things of at least `len` bytes each: no more than the bytes that are left can hold.
fn bounded(r: &mut Reader<'_>, len: usize, field: &'static str) -> Result<usize, WireError> {
    let count = usize::try_from(r.u32(field)?).map_err(|_| WireError::Bad(field))?;
    if count > r.remaining() / len { Err(WireError::Bad(field)) } else { Ok(count) }
}

fn text(r: &mut Reader<'_>, len: usize, field: &'static str) -> Result<String, WireError> {
    let bytes = r.slice(len, field)?;
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| WireError::Bad(field))
}

macro_rules! mute {
    ($($name:ident),*) => {$(
        /// Mute: what a person stores and reads is never logged (DESIGN section 3).
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("_")
            }
        }
    )*};
}
mute!(Object, Entry, Directory);
