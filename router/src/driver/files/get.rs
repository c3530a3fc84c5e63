//! What `warren get`, `cat` and `ls` ask for: a file, a folder or a part of one, as frames.
//!
//! Lives here: which bytes of which object, in which order. Does not live here: one object's blocks
//! (`fetch.rs`), where the bytes end up (the command line).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use warren_datastore::{
    capability::ReadCap,
    directory::{Directory, Entry, HEAD_LEN, MANIFEST_MAX, TAIL_MAX, manifest_len},
    file::ReadError,
    uri::{Uri, UriKind},
};

use super::{
    Fetching, FileError, Files, Found, LOOK_EVERY,
    frame::{Begin, FrameSender, Kind, frame, json},
};

/// `POST /v1/files/get`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct GetRequest {
    /// A capability that reads, perhaps with a path behind it.
    pub(crate) uri: String,
    /// Where to begin in a single file: what comes before is there already.
    pub(crate) from: u64,
    /// Say what a folder holds instead.
    pub(crate) list: bool,
    /// Files of a folder that are there already.
    pub(crate) skip: Vec<String>,
    /// Routers per tunnel; none for the router's own number.
    pub(crate) hops: Option<u8>,
}

/// How far a get is.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct GetNews {
    /// Bytes that came.
    pub(crate) bytes: u64,
    /// Bytes in all; none while it is searched for.
    pub(crate) len: Option<u64>,
    /// Requests for blocks so far.
    pub(crate) asked: u64,
    /// Blocks found.
    pub(crate) found: u64,
    /// Blocks that were not found.
    pub(crate) missing: u64,
    /// Most routers that were asked for one block.
    pub(crate) routers: u8,
    /// Tunnels.
    pub(crate) exits: usize,
    /// The network has fewer exits than the file should have.
    pub(crate) few_exits: bool,
}

/// One file of a folder, as `ls` shows it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Listed {
    /// Inside the folder.
    pub(crate) path: String,
    /// Type; empty when unknown.
    pub(crate) mime: String,
    /// Length in bytes.
    pub(crate) len: u64,
}

/// What a get came to.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct GetDone {
    /// Whether it was a folder.
    pub(crate) folder: bool,
    /// With `list`: what it holds.
    pub(crate) files: Vec<Listed>,
}

/// One get as it runs.
pub(super) struct Get<'a> {
    files: &'a Files,
    request: &'a GetRequest,
    to: &'a FrameSender,
    news: GetNews,
}

/// Nobody reads the answer any more.
struct Left;

/// Why a get ended early.
pub(super) enum Ended {
    Left,
    Failed(FileError),
}

impl From<FileError> for Ended {
    fn from(error: FileError) -> Self {
        Self::Failed(error)
    }
}

impl From<Left> for Ended {
    fn from(_: Left) -> Self {
        Self::Left
    }
}

fn wrong(words: impl Into<String>) -> FileError {
    FileError::Source(words.into())
}

impl<'a> Get<'a> {
    pub(super) fn new(files: &'a Files, request: &'a GetRequest, to: &'a FrameSender) -> Self {
        Self { files, request, to, news: GetNews::default() }
    }

    /// Gets it.
    pub(super) async fn run(&mut self) -> Result<GetDone, Ended> {
        let (uri, path) =
            Uri::split_path(&self.request.uri).map_err(|error| wrong(error.to_string()))?;
        let kind = uri.kind();
        let (Uri::File(cap) | Uri::Directory(cap)) = uri else {
            let words = if kind == UriKind::Site {
                "a site is not fetched as a file: open it through the proxy"
            } else {
                "this key only checks and heals: reading needs the one that was printed by put"
            };
            return Err(wrong(words).into());
        };
        if kind == UriKind::File {
            if path.is_some() {
                return Err(wrong("a file has no paths inside").into());
            }
            if self.request.list {
                let mut fetching = self.fetch(cap, 0, 0);
                let (meta, len) = self.head(&mut fetching).await?;
                let listed = Listed { path: String::new(), mime: meta.mime, len };
                return Ok(GetDone { folder: false, files: vec![listed] });
            }
            self.single(cap).await?;
            return Ok(GetDone::default());
        }
        let mut root = self.fetch(cap, 0, u64::MAX);
        let root = self.folder_bytes(&mut root).await?;
        let (directory, tail) = parse(&root)?;
        let inner = path.unwrap_or_default().trim_end_matches('/');
        if let Some(entry) = directory.get(inner) {
            if self.request.list {
                let listed = vec![listed(inner, entry)];
                return Ok(GetDone { folder: false, files: listed });
            }
            self.one_of(&directory, tail, entry).await?;
            return Ok(GetDone::default());
        }
        let under = |path: &str| {
            inner.is_empty() || path.strip_prefix(inner).is_some_and(|rest| rest.starts_with('/'))
        };
        let chosen: Vec<_> = directory.entries().filter(|(path, _)| under(path)).collect();
        if chosen.is_empty() && !inner.is_empty() {
            return Err(wrong(format!("the folder has no {inner}: see `warren ls`")).into());
        }
        if self.request.list {
            let files = chosen.iter().map(|(path, entry)| listed(path, entry)).collect();
            return Ok(GetDone { folder: true, files });
        }
        self.folder(&directory, tail, chosen).await?;
        Ok(GetDone { folder: true, files: Vec::new() })
    }

    fn fetch(&self, cap: ReadCap, from: u64, to: u64) -> Fetching {
        self.files.fetch(cap, from..to, self.request.hops)
    }

    async fn say(&self, frame: Vec<u8>) -> Result<(), Left> {
        self.to.send(Ok(frame)).await.map_err(|_| Left)
    }

    /// Says how far a fetch is, if that changed.
    async fn tell(&mut self, found: &Found, base: u64) -> Result<(), Left> {
        let Found { progress, exits, .. } = found;
        let news = GetNews {
            bytes: base,
            len: self.news.len,
            asked: progress.asked,
            found: progress.found,
            missing: progress.missing,
            routers: progress.routers,
            exits: exits.open,
            few_exits: exits.few,
        };
        if self.news != news {
            self.say(json(Kind::News, &news)).await?;
            self.news = news;
        }
        Ok(())
    }

    /// Waits for something of a fetch, and says meanwhile how far it is.
    async fn head(
        &mut self,
        fetching: &mut Fetching,
    ) -> Result<(warren_datastore::manifest::Meta, u64), Ended> {
        loop {
            if let Ok(head) = tokio::time::timeout(LOOK_EVERY, fetching.head()).await {
                return Ok(head?);
            }
            self.tell(&fetching.found(), self.news.bytes).await?;
        }
    }

    async fn next(&mut self, fetching: &mut Fetching) -> Result<Option<Vec<u8>>, Ended> {
        loop {
            if let Ok(bytes) = tokio::time::timeout(LOOK_EVERY, fetching.next()).await {
                return Ok(bytes.transpose()?);
            }
            self.tell(&fetching.found(), self.news.bytes).await?;
        }
    }

    async fn folder_bytes(&mut self, fetching: &mut Fetching) -> Result<Vec<u8>, Ended> {
        let (_, len) = self.head(fetching).await?;
        if len > MANIFEST_MAX as u64 + TAIL_MAX {
            return Err(FileError::Broken(ReadError::Inconsistent).into());
        }
        let mut whole = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
        while let Some(bytes) = self.next(fetching).await? {
            whole.extend(bytes);
        }
        Ok(whole)
    }

    async fn single(&mut self, cap: ReadCap) -> Result<(), Ended> {
        let mut fetching = self.fetch(cap, self.request.from, u64::MAX);
        let (meta, len) = self.head(&mut fetching).await?;
        let from = self.request.from.min(len);
        let begin = Begin { path: String::new(), mime: meta.mime, len, from };
        self.begin(&begin).await?;
        (self.news.len, self.news.bytes) = (Some(len), from);
        while let Some(bytes) = self.next(&mut fetching).await? {
            self.bytes(&bytes, &fetching.found()).await?;
        }
        Ok(())
    }

    async fn begin(&self, begin: &Begin) -> Result<(), Left> {
        self.say(json(Kind::Begin, begin)).await
    }

    /// Bytes of a file; and now and then how far it is.
    async fn bytes(&mut self, bytes: &[u8], found: &Found) -> Result<(), Left> {
        const NEWS_EVERY: u64 = 1 << 20;
        self.say(frame(Kind::Bytes, bytes)).await?;
        let before = self.news.bytes / NEWS_EVERY;
        self.news.bytes += bytes.len() as u64;
        if self.news.bytes / NEWS_EVERY != before {
            self.tell(found, self.news.bytes).await?;
        }
        Ok(())
    }

    /// One file of a folder, alone.
    async fn one_of(
        &mut self,
        directory: &Directory,
        tail: &[u8],
        entry: &Entry,
    ) -> Result<(), Ended> {
        let from = self.request.from.min(entry.len);
        let begin = Begin { mime: entry.mime.clone(), len: entry.len, from, ..Begin::default() };
        self.begin(&begin).await?;
        (self.news.len, self.news.bytes) = (Some(entry.len), from);
        let range = entry.range();
        let start = range.start + from;
        if entry.object == 0 {
            return self.tail_part(tail, start..range.end).await;
        }
        let mut fetching = self.fetch(object(directory, entry.object)?, start, range.end);
        while let Some(bytes) = self.next(&mut fetching).await? {
            self.bytes(&bytes, &fetching.found()).await?;
        }
        Ok(())
    }

    async fn tail_part(&mut self, tail: &[u8], range: std::ops::Range<u64>) -> Result<(), Ended> {
        let at = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        let bytes = tail.get(at(range.start)..at(range.end));
        let bytes = bytes.ok_or(FileError::Broken(ReadError::Inconsistent))?;
        for piece in bytes.chunks(1 << 16) {
            self.bytes(piece, &Found::default()).await?;
        }
        Ok(())
    }

    /// Files of a folder, object by object.
    async fn folder(
        &mut self,
        directory: &Directory,
        tail: &[u8],
        chosen: Vec<(&str, &Entry)>,
    ) -> Result<(), Ended> {
        let mut objects: BTreeMap<u32, Vec<(&str, &Entry)>> = BTreeMap::new();
        let mut len = 0u64;
        for (path, entry) in chosen {
            if !self.request.skip.iter().any(|skip| skip == path) {
                objects.entry(entry.object).or_default().push((path, entry));
                len = len.saturating_add(entry.len);
            }
        }
        self.news.len = Some(len);
        for (number, mut entries) in objects {
            entries.sort_by_key(|(_, entry)| entry.offset);
            if number == 0 {
                for (path, entry) in entries {
                    self.begin(&begin(path, entry)).await?;
                    self.tail_part(tail, entry.range()).await?;
                }
            } else {
                self.object(directory, number, &entries).await?;
            }
        }
        Ok(())
    }

    /// The files of one object, which is read from front to back.
    async fn object(
        &mut self,
        directory: &Directory,
        number: u32,
        entries: &[(&str, &Entry)],
    ) -> Result<(), Ended> {
        let mut open: Option<(Fetching, u64, Vec<u8>)> = None;
        let end = entries.iter().map(|(_, entry)| entry.range().end).max().unwrap_or(0);
        for (path, entry) in entries {
            self.begin(&begin(path, entry)).await?;
            let range = entry.range();
            if range.is_empty() {
                continue;
            }
            let (mut fetching, mut at, mut rest) = match open.take() {
                Some((fetching, at, rest)) if at <= range.start => (fetching, at, rest),
                _ => {
                    let cap = object(directory, number)?;
                    (self.fetch(cap, range.start, end), range.start, Vec::new())
                }
            };
            while at < range.end {
                if rest.is_empty() {
                    let next = self.next(&mut fetching).await?;
                    rest = next.ok_or(FileError::Broken(ReadError::Inconsistent))?;
                }
                let before = usize::try_from(range.start.saturating_sub(at)).unwrap_or(usize::MAX);
                if before > 0 {
                    let skipped = before.min(rest.len());
                    rest.drain(..skipped);
                    at += skipped as u64;
                    continue;
                }
                let left = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(rest.len());
                let kept = rest.split_off(left);
                self.bytes(&rest, &fetching.found()).await?;
                at += rest.len() as u64;
                rest = kept;
            }
            open = Some((fetching, at, rest));
        }
        Ok(())
    }
}

fn begin(path: &str, entry: &Entry) -> Begin {
    Begin { path: path.to_owned(), mime: entry.mime.clone(), len: entry.len, from: 0 }
}

fn listed(path: &str, entry: &Entry) -> Listed {
    Listed { path: path.to_owned(), mime: entry.mime.clone(), len: entry.len }
}

fn object(directory: &Directory, number: u32) -> Result<ReadCap, FileError> {
    let at = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
    let object = at.and_then(|at| directory.objects().get(at));
    Ok(object.ok_or(FileError::Broken(ReadError::Inconsistent))?.cap.duplicate())
}

/// Manifest and tail.
pub(crate) fn parse(whole: &[u8]) -> Result<(Directory, &[u8]), FileError> {
    let bad = |error: warren_datastore::directory::DirectoryError| wrong(error.to_string());
    let cut = FileError::Broken(ReadError::Inconsistent);
    let head = whole.first_chunk::<HEAD_LEN>().ok_or_else(|| cut.clone())?;
    let len = manifest_len(head).map_err(bad)?;
    let (manifest, tail) = whole.split_at_checked(len).ok_or(cut)?;
    Ok((Directory::decode(manifest).map_err(bad)?, tail))
}
