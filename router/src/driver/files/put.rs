//! What `warren put` asks for: a file, a folder or a spool, stored under one capability.
//!
//! Lives here: keys by context, the two passes, a folder's objects one after the other. Does not live
//! here: one object's blocks (`store.rs`), what survives a restart (`queue.rs`).

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use warren_datastore::{
    capability::ReadCap,
    directory::{Plan, Planned, mime_of, valid_path},
    file::{Content, Encoder, KeySource, Options},
    manifest::{Kind, Meta},
    transfer::StoreState,
    uri::Uri,
};

use super::{Bytes, FileError, Files, Stored, bytes_of, content_of, file_bytes};
use crate::{entropy, remedy};

/// The context of whoever names none.
const DEFAULT_CONTEXT: &str = "default";
/// Longest name of a context.
const CONTEXT_MAX: usize = 63;

/// `POST /v1/files/put`
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PutRequest {
    /// A file or folder, absolute; none for a spool.
    pub(crate) path: Option<PathBuf>,
    /// A spool that was filled before.
    pub(crate) spool: Option<u64>,
    /// What the spool's file is called, if anything: its type follows from it.
    pub(crate) name: String,
    /// `--as NAME`.
    pub(crate) context: Option<String>,
    /// The whole network makes the same blocks of the same content.
    pub(crate) dedup: bool,
    /// Nobody does, not even the same person again.
    pub(crate) random_key: bool,
    /// Twice the blocks instead of one and a half times.
    pub(crate) durable: bool,
    /// Routers per tunnel; none for the router's own number.
    pub(crate) hops: Option<u8>,
}

/// How far a put is.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct PutNews {
    /// Objects stored: a file is one, a folder several.
    pub(crate) objects_done: usize,
    /// Objects in all.
    pub(crate) objects: usize,
    /// Bytes of all objects.
    pub(crate) bytes: u64,
    /// What a folder holds and is not stored: links that lead out of it or to folders, and what is neither
    /// file nor folder.
    pub(crate) left_out: usize,
    /// Blocks of the object that is being stored: made, stored, in all.
    pub(crate) encoded: u64,
    /// Blocks stored.
    pub(crate) stored: u64,
    /// Blocks in all.
    pub(crate) blocks: u64,
    /// Fewest copies that were confirmed of a block.
    pub(crate) copies_min: Option<u8>,
    /// Blocks that wait until they are tried again.
    pub(crate) waiting: usize,
    /// Tunnels of the object that is being stored.
    pub(crate) exits: usize,
    /// The network has fewer exits than the file should have.
    pub(crate) few_exits: bool,
    /// When it is done: what reads it.
    pub(crate) uri: Option<String>,
    /// Or why it ended otherwise.
    pub(crate) failed: Option<String>,
}

impl PutNews {
    /// Whether nothing more will be said.
    pub(crate) const fn is_over(&self) -> bool {
        self.uri.is_some() || self.failed.is_some()
    }
}

/// What survives a restart: which blocks are stored, by content.
pub(super) type States = BTreeMap<[u8; 32], StoreState>;

/// One put as it runs.
pub(super) struct Put<'a> {
    pub(super) files: &'a Files,
    pub(super) request: &'a PutRequest,
    pub(super) source: Arc<KeySource>,
    pub(super) states: States,
    pub(super) news: &'a watch::Sender<PutNews>,
    /// Called when more is stored.
    pub(super) keep: &'a mut (dyn FnMut(&States) + Send),
}

/// Where the keys of a request come from.
pub(super) fn key_source(files: &Files, request: &PutRequest) -> Result<KeySource, String> {
    if request.random_key {
        return Ok(KeySource::random(&mut entropy::generator()));
    }
    if request.dedup {
        return Ok(KeySource::dedup_network(files.network()));
    }
    let name = request.context.as_deref().unwrap_or(DEFAULT_CONTEXT);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > CONTEXT_MAX || !name.chars().all(plain) {
        return Err(format!("--as {name:?}: use 1 to {CONTEXT_MAX} letters, digits, - and _"));
    }
    let home =
        files.home().ok_or("this router keeps nothing, and so has no contexts: leave --as away")?;
    let file = format!("contexts/{name}");
    let secret = home.secret(&file).map_err(|error| error.to_string())?;
    Ok(KeySource::context(secret))
}

/// The bytes of one object, twice.
enum Source {
    Paths(Vec<PathBuf>),
    Whole(Vec<u8>),
}

impl Source {
    async fn content(&self) -> Result<Content, FileError> {
        match self {
            Self::Whole(bytes) => Ok(Content::of(bytes)),
            Self::Paths(paths) => {
                let paths = paths.clone();
                let hash = tokio::task::spawn_blocking(move || content_of(&paths));
                hash.await.map_err(|_| FileError::Stopping)?.map_err(FileError::Source)
            }
        }
    }

    fn bytes(self) -> Bytes {
        match self {
            Self::Whole(bytes) => bytes_of(bytes),
            Self::Paths(paths) => file_bytes(paths),
        }
    }
}

impl Put<'_> {
    /// Stores all of it; what reads it.
    pub(super) async fn run(&mut self) -> Result<Uri, FileError> {
        if let Some(spool) = self.request.spool {
            let (content, bytes) = self.files.take_spool(spool)?;
            self.total(1, content.len());
            let meta = Meta { mime: mime_of(&self.request.name).to_owned(), ..Meta::default() };
            let cap = self.object(content, bytes, self.options(meta, None)).await?;
            return Ok(Uri::File(cap));
        }
        let path = self.request.path.clone();
        let path = path.ok_or_else(|| {
            FileError::Source("nothing to store was named: name a file or a folder".into())
        })?;
        let about =
            fs::metadata(&path).map_err(|error| FileError::Source(remedy::at(&path, &error)))?;
        if about.is_dir() {
            return self.folder(path).await;
        }
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let meta = Meta { mime: mime_of(name).to_owned(), ..Meta::default() };
        let source = Source::Paths(vec![path]);
        let content = source.content().await?;
        self.total(1, content.len());
        let cap = self.object(content, source.bytes(), self.options(meta, None)).await?;
        Ok(Uri::File(cap))
    }

    fn options(&self, meta: Meta, children: Option<ReadCap>) -> Options {
        Options { durable: self.request.durable, meta, children }
    }

    fn total(&self, objects: usize, bytes: u64) {
        self.news.send_modify(|news| (news.objects, news.bytes) = (objects, bytes));
    }

    async fn folder(&mut self, root: PathBuf) -> Result<Uri, FileError> {
        let base = root.clone();
        let walk = tokio::task::spawn_blocking(move || files_under(&base));
        let walked = walk.await.map_err(|_| FileError::Stopping)?;
        let (files, left_out) = walked.map_err(FileError::Source)?;
        self.news.send_modify(|news| news.left_out = left_out);
        let bytes = files.iter().map(|file| file.len).sum();
        let bad = |error| FileError::Source(format!("{error}"));
        let plan = Plan::new(files).map_err(bad)?;
        let extra = 1 + usize::from(plan.objects() > 0);
        self.total(plan.objects() + extra, bytes);
        let paths = |number| plan.files(number).map(|file| root.join(&file.path)).collect();
        let mut caps = Vec::new();
        for number in 1..=plan.objects() {
            let source = Source::Paths(paths(number));
            let content = source.content().await?;
            if content.len() != plan.len(number) {
                return Err(changed());
            }
            let options = self.options(Meta::default(), None);
            caps.push(self.object(content, source.bytes(), options).await?);
        }
        let directory = plan.finish(caps).map_err(bad)?;
        let children = match plan.objects() {
            0 => None,
            _ => {
                let list = Source::Whole(directory.children());
                Some(self.source(list, self.options(Meta::default(), None)).await?)
            }
        };
        let tail: Vec<PathBuf> = paths(0);
        let mut whole = directory.encode().map_err(bad)?;
        let rest = tokio::task::spawn_blocking(move || read_all(&tail));
        let rest = rest.await.map_err(|_| FileError::Stopping)?.map_err(FileError::Source)?;
        if rest.len() as u64 != plan.len(0) {
            return Err(changed());
        }
        whole.extend(rest);
        let meta = Meta { kind: Kind::Directory, ..Meta::default() };
        let cap = self.source(Source::Whole(whole), self.options(meta, children)).await?;
        Ok(Uri::Directory(cap))
    }

    async fn source(&mut self, source: Source, options: Options) -> Result<ReadCap, FileError> {
        let content = source.content().await?;
        self.object(content, source.bytes(), options).await
    }

    async fn object(
        &mut self,
        content: Content,
        bytes: Bytes,
        options: Options,
    ) -> Result<ReadCap, FileError> {
        let hash = *content.hash();
        let encoder = Encoder::new(Arc::clone(&self.source), content, options)
            .map_err(|error| FileError::Source(error.to_string()))?;
        let hops = self.request.hops;
        let mut storing = match self.states.get(&hash) {
            Some(state) => self.files.resume(encoder, bytes, state.clone(), hops),
            None => self.files.store(encoder, bytes, hops),
        };
        loop {
            let over = storing.next().await;
            self.stored(hash, &storing.stored());
            if let Some(cap) = over {
                self.news.send_modify(|news| news.objects_done += 1);
                return cap;
            }
        }
    }

    fn stored(&mut self, hash: [u8; 32], stored: &Stored) {
        let progress = stored.progress;
        self.news.send_modify(|news| {
            (news.encoded, news.stored) = (progress.encoded, progress.stored);
            (news.blocks, news.waiting) = (progress.total, progress.waiting);
            let copies = news.copies_min.into_iter().chain(progress.copies_min).min();
            news.copies_min = copies;
            (news.exits, news.few_exits) = (stored.exits.open, stored.exits.few);
        });
        if let Some(state) = &stored.state {
            self.states.insert(hash, state.clone());
            (self.keep)(&self.states);
        }
    }
}

impl Files {
    /// Stores a folder, with keys of this source.
    pub(in crate::driver) async fn put_folder(
        &self,
        path: PathBuf,
        source: KeySource,
        news: &watch::Sender<PutNews>,
    ) -> Result<ReadCap, FileError> {
        let request = PutRequest { path: Some(path), ..PutRequest::default() };
        let mut keep = |_: &States| {};
        match self.put_once(&request, source, news, &mut keep).run().await? {
            Uri::Directory(cap) => Ok(cap),
            _ => Err(FileError::Source("this is a file: name a folder".into())),
        }
    }

    /// Stores a file that is in memory, and with it the list of the files that it leads to.
    pub(in crate::driver) async fn put_listed(
        &self,
        content: Vec<u8>,
        children: Vec<u8>,
        source: KeySource,
    ) -> Result<ReadCap, FileError> {
        let (news, _) = watch::channel(PutNews::default());
        let request = PutRequest::default();
        let mut keep = |_: &States| {};
        let mut put = self.put_once(&request, source, &news, &mut keep);
        let options = put.options(Meta::default(), None);
        let children = put.source(Source::Whole(children), options).await?;
        let options = put.options(Meta::default(), Some(children));
        put.source(Source::Whole(content), options).await
    }

    /// A put that no restart goes on with.
    fn put_once<'a>(
        &'a self,
        request: &'a PutRequest,
        source: KeySource,
        news: &'a watch::Sender<PutNews>,
        keep: &'a mut (dyn FnMut(&States) + Send),
    ) -> Put<'a> {
        let (source, states) = (Arc::new(source), States::new());
        Put { files: self, request, source, states, news, keep }
    }
}

fn changed() -> FileError {
    FileError::Source("the folder changed while it was being stored: put it again".into())
}

/// All files of a folder, and how many entries are left out: a link counts as the file that it leads to,
/// but only inside the folder, since what else it names may be anywhere.
fn files_under(root: &Path) -> Result<(Vec<Planned>, usize), String> {
    let real = fs::canonicalize(root).map_err(|error| remedy::at(root, &error))?;
    let (mut files, mut left_out) = (Vec::new(), 0);
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let fail = |error: std::io::Error| remedy::at(&folder, &error);
        for entry in fs::read_dir(&folder).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            let about = fs::symlink_metadata(&path).map_err(fail)?;
            if about.is_dir() {
                folders.push(path);
                continue;
            }
            let linked = about.is_symlink().then(|| linked_inside(&real, &path)).flatten();
            let Some(about) = linked.or(Some(about)).filter(fs::Metadata::is_file) else {
                left_out += 1;
                continue;
            };
            let inner = path.strip_prefix(root).ok().and_then(Path::to_str);
            let inner = inner.filter(|inner| valid_path(inner)).ok_or_else(|| {
                format!("{}: this name cannot be stored; rename it", path.display())
            })?;
            let mime = mime_of(inner).to_owned();
            files.push(Planned { path: inner.to_owned(), mime, len: about.len() });
        }
    }
    Ok((files, left_out))
}

/// What a link leads to, if that lies in the folder `real` (an absolute path without links).
fn linked_inside(real: &Path, link: &Path) -> Option<fs::Metadata> {
    let target = fs::canonicalize(link).ok()?;
    target.starts_with(real).then(|| fs::metadata(target).ok())?
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<u8>, String> {
    let mut all = Vec::new();
    for path in paths {
        let bytes = fs::read(path).map_err(|error| remedy::at(path, &error))?;
        all.extend(bytes);
    }
    Ok(all)
}
