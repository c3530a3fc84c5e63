//! A version of a site that is being read: its directory, and where the bytes of its files are.
//!
//! Lives here: reading the directory, finding a file in it, its tag, its bytes. Does not live here: which
//! version is newest (`reader.rs`).

use std::{
    fmt,
    num::NonZeroUsize,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use lru::LruCache;
use tokio::sync::OnceCell;
use warren_datastore::{
    capability::ReadCap,
    directory::{Directory, Entry, HEAD_LEN, MANIFEST_MAX, PACK_MAX, manifest_len},
    site::SiteVersion,
};
use warren_overlay::crypto::kdf;
use warren_proxy::{
    Failure,
    site::{File, Found, Listed, SitePath},
};

use crate::driver::files::{Fetching, FileError, Files};

const TAG: &str = "warren site file tag 1";
/// What a folder shows.
const INDEX: &str = "index.html";
/// Longest directory that is read, with its small files.
const DIRECTORY_MAX: u64 = MANIFEST_MAX as u64 + PACK_MAX;
/// Packs kept for the next files in them, 4 MiB each at most.
const PACKS_MAX: NonZeroUsize = NonZeroUsize::new(8).expect("not zero");

/// A pack that is there or is being fetched.
type Pack = Arc<OnceCell<Arc<Vec<u8>>>>;

/// One version, open.
pub(super) struct OpenSite {
    directory: Directory,
    /// The directory's own bytes; its tail begins at `tail_at`.
    whole: Arc<Vec<u8>>,
    tail_at: usize,
    /// Files in each object; several make a pack.
    counts: Vec<u32>,
    packs: Mutex<LruCache<u32, Pack>>,
}

/// Where the bytes of a part of a file come from.
pub(super) enum Body {
    /// They are here.
    Here(Arc<Vec<u8>>, Range<usize>),
    /// They come, so many.
    Comes(Fetching, u64),
}

impl OpenSite {
    /// Reads the directory of a version.
    pub(super) async fn load(files: &Files, version: &SiteVersion) -> Result<Self, Failure> {
        let mut fetching = files.fetch(version.directory.duplicate(), 0..u64::MAX, None);
        let whole = fetching.whole(DIRECTORY_MAX).await.map_err(|error| failure(&error))?;
        let bad = |_| Failure::BadSite;
        let head = whole.first_chunk::<HEAD_LEN>().ok_or(Failure::BadSite)?;
        let tail_at = manifest_len(head).map_err(bad)?;
        let manifest = whole.get(..tail_at).ok_or(Failure::BadSite)?;
        let directory = Directory::decode(manifest).map_err(bad)?;
        if directory.tail_len() != (whole.len() - tail_at) as u64 {
            return Err(Failure::BadSite);
        }
        let mut counts = vec![0; directory.objects().len() + 1];
        for (_, entry) in directory.entries() {
            if let Some(count) =
                usize::try_from(entry.object).ok().and_then(|at| counts.get_mut(at))
            {
                *count += 1;
            }
        }
        let packs = Mutex::new(LruCache::new(PACKS_MAX));
        Ok(Self { directory, whole: Arc::new(whole), tail_at, counts, packs })
    }

    /// About how many bytes it holds; packs apart.
    pub(super) fn held(&self) -> usize {
        self.whole.len()
    }

    /// What is at a path, and the file there.
    pub(super) fn find(&self, path: &SitePath) -> (Found, Option<Entry>) {
        let folder = path.as_str();
        let inside = if path.is_folder() && folder.is_empty() {
            INDEX.to_owned()
        } else if path.is_folder() {
            format!("{folder}/{INDEX}")
        } else {
            folder.to_owned()
        };
        if let Some(entry) = self.directory.get(&inside) {
            let file = File { mime: entry.mime.clone(), len: entry.len, tag: self.tag(entry) };
            return (Found::File(file), Some(entry.clone()));
        }
        let found = match self.directory.list(folder) {
            None => Found::Nothing,
            Some(_) if !path.is_folder() => Found::Folder,
            Some(inside) => {
                let listed = |(name, entry): (&str, Option<&Entry>)| Listed {
                    name: name.to_owned(),
                    is_folder: entry.is_none(),
                };
                Found::List(inside.into_iter().map(listed).collect())
            }
        };
        (found, None)
    }

    /// Follows from the bytes of the file if they are here, else from where they are stored, which
    /// follows from them.
    fn tag(&self, entry: &Entry) -> [u8; 16] {
        let mime = entry.mime.as_bytes();
        match self.object(entry.object) {
            None => {
                let bytes = self.tail(&entry.range()).and_then(|range| self.whole.get(range));
                kdf::derive(TAG, &[&[0], bytes.unwrap_or_default(), mime])
            }
            Some(cap) => {
                let [root, ..] = cap.verify().roots();
                let (offset, len) = (entry.offset.to_be_bytes(), entry.len.to_be_bytes());
                kdf::derive(TAG, &[&[1], &root.0, &offset, &len, mime])
            }
        }
    }

    /// The bytes of a part of a file.
    pub(super) async fn body(
        &self,
        files: &Files,
        entry: &Entry,
        part: Range<u64>,
    ) -> Result<Body, Failure> {
        let range = entry.offset + part.start..entry.offset + part.end;
        let len = part.end - part.start;
        let Some(cap) = self.object(entry.object) else {
            let range = self.tail(&range).ok_or(Failure::BadSite)?;
            return Ok(Body::Here(Arc::clone(&self.whole), range));
        };
        if !self.is_pack(entry.object) {
            return Ok(Body::Comes(files.fetch(cap.duplicate(), range, None), len));
        }
        let pack = {
            let mut packs = self.packs.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(packs.get_or_insert(entry.object, Pack::default))
        };
        // Who comes meanwhile waits for the same bytes.
        let fetch = async || {
            let mut fetching = files.fetch(cap.duplicate(), 0..u64::MAX, None);
            fetching.whole(PACK_MAX).await.map(Arc::new)
        };
        let bytes = pack.get_or_try_init(fetch).await.map_err(|error| failure(&error))?;
        let place = |at: u64| usize::try_from(at).ok().filter(|at| *at <= bytes.len());
        match (place(range.start), place(range.end)) {
            (Some(start), Some(end)) => Ok(Body::Here(Arc::clone(bytes), start..end)),
            _ => Err(Failure::BadSite),
        }
    }

    /// The object with this number; none for the directory itself.
    fn object(&self, number: u32) -> Option<&ReadCap> {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        self.directory.objects().get(at).map(|object| &object.cap)
    }

    /// Whether an object holds several files and is short enough to be kept.
    fn is_pack(&self, number: u32) -> bool {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        let len =
            at.checked_sub(1).and_then(|at| self.directory.objects().get(at)).map(|it| it.len);
        len.is_some_and(|len| len <= PACK_MAX) && self.counts.get(at).is_some_and(|it| *it > 1)
    }

    /// Bytes of the tail, as bytes of the whole.
    fn tail(&self, range: &Range<u64>) -> Option<Range<usize>> {
        let at = |at: u64| usize::try_from(at).ok()?.checked_add(self.tail_at);
        let range = at(range.start)?..at(range.end)?;
        (range.start <= range.end && range.end <= self.whole.len()).then_some(range)
    }
}

/// What a page says of a file that cannot be had.
pub(super) fn failure(error: &FileError) -> Failure {
    match error {
        FileError::NotFound { .. } | FileError::Broken(_) => Failure::Incomplete,
        FileError::NoRoute { .. } | FileError::NoTunnel => Failure::TimedOut,
        FileError::TooMany | FileError::NotPinned | FileError::TooOld => Failure::Busy,
        FileError::Source(_) => Failure::BadSite,
        FileError::Stopping | FileError::Cancelled => Failure::Internal,
    }
}

/// Mute: nobody logs what a person reads.
impl fmt::Debug for OpenSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}
