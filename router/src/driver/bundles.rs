//! Bundles: stored things in one file, out of this network and into another.
//!
//! Lives here: what goes into a bundle, and what becomes of what is read. Does not live here: its bytes
//! (`warren_datastore::bundle`), blocks' ways (`files`), where the file is written (`cli/bundle.rs`).
//!
//! | route | answer |
//! |-------|--------|
//! | `POST /v1/bundles/export` `ExportRequest` | frames: news, bytes of the bundle, done with `ExportNews` |
//! | `POST /v1/bundles/import` `ImportRequest` | frames: news, done with `ImportNews` |
//!
//! `imports/ID` of the router's folder says how many blocks of a bundle are confirmed, 8 bytes, big-endian:
//! the same import goes on there.

use std::{
    collections::BTreeSet,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use axum::{Json, Router, extract::State, response::Response, routing::post};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use warren_datastore::bundle::{BundleError, BundleReader, BundleWriter, HEAD_LEN, ID_LEN, Unit};
use warren_overlay::{
    block::{Block, BlockAddress},
    garlic::{RecordAnswer, RecordBytes},
    record::Record,
};

use super::{
    control::Api,
    files::{
        Bytes, FileError, HealNews, Loaded, Scan, Way,
        api::{code, frames, with_news},
        file_bytes,
        frame::{Failed, FrameSender, Kind, frame, json},
    },
    pins::{Ended, Roots},
    sites::Sites,
};
use crate::{entropy, remedy};

/// Blocks that wait for the file, or for a tunnel.
const BLOCKS_MAX: usize = 8;
/// How often it is noted how many blocks are confirmed.
const NOTE_EVERY: Duration = Duration::from_secs(2);
const FOLDER: &str = "imports";

/// `POST /v1/bundles/export`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ExportRequest {
    /// Files, folders, sites.
    pub(crate) uris: Vec<String>,
    /// Routers per tunnel; none for the router's own number.
    pub(crate) hops: Option<u8>,
}

/// How far an export is.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct ExportNews {
    /// Blocks in the bundle.
    pub(crate) blocks: u64,
    /// Records in the bundle.
    pub(crate) records: u64,
    /// Bytes of it.
    pub(crate) bytes: u64,
    /// How what is exported was found.
    pub(crate) found: HealNews,
}

/// `POST /v1/bundles/import`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ImportRequest {
    /// The bundle, absolute.
    pub(crate) path: PathBuf,
    /// Routers per tunnel; none for the router's own number.
    pub(crate) hops: Option<u8>,
}

/// How far an import is, and at its end what it took.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct ImportNews {
    /// Bytes read.
    pub(crate) bytes: u64,
    /// Blocks that the network confirmed.
    pub(crate) stored: u64,
    /// Blocks that an earlier run of the same import stored.
    pub(crate) before: u64,
    /// Fewest copies that were confirmed of one.
    pub(crate) copies_min: Option<u8>,
    /// Records that the network took.
    pub(crate) records: u64,
    /// Records that it did not: it has newer ones, they ran out, or nobody could be asked.
    pub(crate) records_refused: u64,
    /// Blocks and records that were altered, and records of another network: left out.
    pub(crate) damaged: u64,
    /// The bundle was made in another network, whose records are worth nothing here.
    pub(crate) foreign: bool,
    /// What is wrong with the file as a whole: what came before it was taken.
    pub(crate) broken: Option<String>,
}

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/bundles/export", post(export))
        .route("/v1/bundles/import", post(import))
}

async fn export(State(api): State<Api>, Json(request): Json<ExportRequest>) -> Response {
    frames(async move |to: FrameSender| {
        let (news, mut heard) = watch::channel(ExportNews::default());
        let exporting = api.sites.export(&request, &news, &to);
        let Some(ended) = with_news(exporting, &mut heard, &to).await else { return };
        let last = match ended {
            Ok(()) => json(Kind::Done, &*news.borrow()),
            Err(ended) => ended.frame(),
        };
        let _ = to.send(Ok(last)).await;
    })
}

async fn import(State(api): State<Api>, Json(request): Json<ImportRequest>) -> Response {
    frames(async move |to: FrameSender| {
        let (news, mut heard) = watch::channel(ImportNews::default());
        let importing = api.sites.import(request, &news);
        let Some(ended) = with_news(importing, &mut heard, &to).await else { return };
        let last = match ended {
            Ok(()) => json(Kind::Done, &*news.borrow()),
            Err(error) => {
                let code = code(&error);
                json(Kind::Failed, &Failed { error: error.to_string(), code })
            }
        };
        let _ = to.send(Ok(last)).await;
    })
}

impl Ended {
    fn frame(self) -> Vec<u8> {
        let (error, code) = match self {
            Self::Failed(error, code) => (error, code),
            Self::Stopping => (FileError::Stopping.to_string(), 1),
        };
        json(Kind::Failed, &Failed { error, code })
    }
}

impl Sites {
    /// Writes a bundle of what these URIs mean.
    async fn export(
        &self,
        request: &ExportRequest,
        news: &watch::Sender<ExportNews>,
        to: &FrameSender,
    ) -> Result<(), Ended> {
        let mut roots = Vec::new();
        for uri in &request.uris {
            roots.push(self.roots(uri).await?); // before anything is written
        }
        let id = entropy::generator().bytes();
        let (mut writer, head) = BundleWriter::new(self.files().network(), id);
        write(head, news, to).await?;
        let mut written = BTreeSet::new();
        for Roots { roots, records, .. } in roots {
            for record in &records {
                write(writer.record(record), news, to).await?;
                news.send_modify(|news| news.records += 1);
            }
            for (root, alone) in roots {
                let (tap, blocks) = mpsc::channel(BLOCKS_MAX);
                let way = Way { cached: true, pin: None, tap: Some(tap) };
                let scan = Scan { sample: None, hops: request.hops, alone };
                let before = news.borrow().found;
                let say = |found| news.send_modify(|news| news.found = found);
                let finding = self.files().heal_all(root, scan, way, before, &say);
                let writing = write_blocks(blocks, &mut writer, &mut written, news, to);
                let (found, wrote) = tokio::join!(finding, writing);
                wrote?;
                found?;
            }
        }
        write(writer.end(), news, to).await
    }

    /// Puts what a bundle has into the network.
    async fn import(
        &self,
        request: ImportRequest,
        news: &watch::Sender<ImportNews>,
    ) -> Result<(), FileError> {
        let network = self.files().network();
        let begin = || begin_of(&request.path, BundleReader::new(network));
        let (id, foreign) = tokio::task::block_in_place(begin)
            .map_err(|words| FileError::Source(format!("{}: {}", request.path.display(), words)))?;
        let noted = format!("{FOLDER}/{}", HEXLOWER.encode(&id));
        let before = self.stored_before(&noted);
        news.send_modify(|news| (news.before, news.foreign) = (before, foreign));
        let (to, blocks) = mpsc::channel(BLOCKS_MAX);
        let mut loading = self.files().load(blocks, before, request.hops);
        let noting = self.note_import(&noted, news, loading.loaded.clone());
        let reading = self.read_bundle(file_bytes(vec![request.path]), before, to, news);
        let work = async {
            let (read, loaded) = tokio::join!(reading, loading.finish());
            loaded.and(read)
        };
        tokio::select! {
            result = work => result?,
            () = noting => return Err(FileError::Stopping),
        }
        let last = *loading.loaded.borrow();
        news.send_modify(|news| (news.stored, news.copies_min) = (last.stored, last.copies_min));
        if let Some(home) = self.files().home() {
            // What stays costs the next import of this bundle nothing but a look.
            let _ = home.remove(&noted);
        }
        Ok(())
    }

    /// How many blocks of a bundle an earlier run stored. What is damaged is a repetition.
    fn stored_before(&self, noted: &str) -> u64 {
        let bytes = self.files().home().and_then(|home| home.read(noted).ok().flatten());
        let count = bytes.and_then(|bytes| bytes.as_slice().try_into().ok());
        count.map_or(0, u64::from_be_bytes)
    }

    /// Says, and notes now and then, how many blocks are confirmed; ends when whoever loads does.
    async fn note_import(
        &self,
        noted: &str,
        news: &watch::Sender<ImportNews>,
        mut loaded: watch::Receiver<Loaded>,
    ) {
        let mut noted_at = Instant::now();
        while loaded.changed().await.is_ok() {
            let now = *loaded.borrow_and_update();
            news.send_modify(|news| (news.stored, news.copies_min) = (now.stored, now.copies_min));
            if noted_at.elapsed() < NOTE_EVERY {
                continue;
            }
            noted_at = Instant::now();
            if let Some(home) = self.files().home() {
                let write = || home.write(noted, &now.below.to_be_bytes());
                if let Err(error) = tokio::task::block_in_place(write) {
                    tracing::warn!("a restart would repeat the import: {error}");
                }
            }
        }
        // What came of it is known elsewhere.
        std::future::pending::<()>().await;
    }

    /// Reads all of a bundle; its blocks go `to` whoever loads them.
    async fn read_bundle(
        &self,
        mut bytes: Bytes,
        before: u64,
        to: mpsc::Sender<Option<Block>>,
        news: &watch::Sender<ImportNews>,
    ) -> Result<(), FileError> {
        let mut reader = BundleReader::new(self.files().network());
        let mut number = 0;
        let mut ended = Ok(());
        while let Some(piece) = bytes.next().await {
            let piece = piece.map_err(FileError::Source)?;
            reader.push(&piece);
            news.send_modify(|news| news.bytes += piece.len() as u64);
            loop {
                let block = match reader.poll() {
                    Ok(Some(Unit::Block(block))) => Some(block),
                    Ok(Some(Unit::DamagedBlock)) => None,
                    Ok(Some(Unit::Record(record))) => {
                        self.import_record(&record, news).await;
                        continue;
                    }
                    Ok(Some(Unit::DamagedRecord)) => {
                        news.send_modify(|news| news.damaged += 1);
                        continue;
                    }
                    Ok(None) => break,
                    Err(error) => {
                        ended = Err(error);
                        break;
                    }
                };
                if block.is_none() {
                    news.send_modify(|news| news.damaged += 1);
                }
                number += 1;
                if number > before && to.send(block).await.is_err() {
                    return Err(FileError::Stopping);
                }
            }
            if ended.is_err() {
                break;
            }
        }
        let ended = ended.and_then(|()| reader.finish());
        news.send_modify(|news| news.broken = ended.err().map(|error| error.to_string()));
        Ok(())
    }

    async fn import_record(&self, record: &Record, news: &watch::Sender<ImportNews>) {
        let put = match RecordBytes::new(record.encode().to_vec()) {
            Some(bytes) => self.files().record_put(bytes).await.ok(),
            None => None,
        };
        let is_stored = matches!(put, Some((_, RecordAnswer::Stored { .. })));
        news.send_modify(|news| {
            if is_stored {
                news.records += 1;
            } else {
                news.records_refused += 1;
            }
        });
    }
}

/// A bundle's id, and whether it is of another network.
fn begin_of(path: &Path, mut reader: BundleReader) -> Result<([u8; ID_LEN], bool), String> {
    let mut head = [0; HEAD_LEN];
    let mut file = File::open(path).map_err(|error| remedy::words(&error))?;
    file.read_exact(&mut head).map_err(|_| BundleError::Foreign.to_string())?;
    reader.push(&head);
    reader.poll().map_err(|error| error.to_string())?;
    let id = reader.id().ok_or_else(|| BundleError::Foreign.to_string())?;
    Ok((id, !reader.is_of_this_network()))
}

async fn write_blocks(
    mut blocks: mpsc::Receiver<Block>,
    writer: &mut BundleWriter,
    written: &mut BTreeSet<BlockAddress>,
    news: &watch::Sender<ExportNews>,
    to: &FrameSender,
) -> Result<(), Ended> {
    while let Some(block) = blocks.recv().await {
        if written.insert(block.address()) {
            write(writer.block(&block), news, to).await?;
            news.send_modify(|news| news.blocks += 1);
        }
    }
    Ok(())
}

async fn write(
    bytes: Vec<u8>,
    news: &watch::Sender<ExportNews>,
    to: &FrameSender,
) -> Result<(), Ended> {
    news.send_modify(|news| news.bytes += bytes.len() as u64);
    to.send(Ok(frame(Kind::Bytes, &bytes))).await.map_err(|_| Ended::Stopping)
}
