//! The control API's routes about files.
//!
//! Lives here: requests in, frames out. Does not live here: what they do (`put.rs`, `get.rs`,
//! `heal.rs`), the token and the socket (`control.rs`).
//!
//! | route | answer |
//! |-------|--------|
//! | `POST /v1/files/spool`, body: bytes | `{"spool"}`, for `put` |
//! | `POST /v1/files/put` `PutRequest` | frames: news, then done with `PutNews` |
//! | `GET /v1/files/puts` | list of `UnderWay` |
//! | `DELETE /v1/files/puts/NUMBER` | 204 |
//! | `POST /v1/files/get` `GetRequest` | frames: news, files, then done with `GetDone` |
//! | `POST /v1/files/heal` `HealRequest` | frames: news, then done with `HealNews` |

use axum::{
    Json, Router,
    body::Body,
    extract::{DefaultBodyLimit, Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{self, post},
};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use warren_datastore::{capability::VerifyCap, directory::children, file::Scope, uri::Uri};

use super::{
    FileError, Files,
    frame::{Failed, FrameSender, Kind, Pieces, json},
    get::{Ended, Get, GetRequest},
    put::{PutNews, PutRequest},
    queue::UnderWay,
};
use crate::{
    driver::control::{Api, failure},
    entropy,
};

/// Frames that wait for the socket: 4 MiB at most.
const FRAMES_MAX: usize = 64;
/// Pieces of a spool that wait for the disk.
const SPOOL_PIECES_MAX: usize = 16;
/// Longest request, with 65,536 paths that are there already.
const REQUEST_MAX: usize = 96 << 20;
/// Longest list of children of a folder.
const CHILDREN_MAX: u64 = 4 << 20;

/// `POST /v1/files/heal`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HealRequest {
    /// Any capability of a file or folder.
    pub(crate) uri: String,
    /// Look only, at so many random blocks of each segment.
    pub(crate) sample: Option<u16>,
    /// Routers per tunnel; none for the router's own number.
    pub(crate) hops: Option<u8>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct HealNews {
    /// Objects gone through: a file is one, a folder several.
    pub(crate) objects_done: u64,
    /// Objects in all, as far as known.
    pub(crate) objects: u64,
    /// Blocks found.
    pub(crate) found: u64,
    /// Blocks asked for and not found.
    pub(crate) missing: u64,
    /// Of these rebuilt.
    pub(crate) rebuilt: u64,
    /// Of these put back and confirmed.
    pub(crate) stored: u64,
    /// Segments gone through.
    pub(crate) segments: u64,
    /// Segments with too few blocks left: this part is lost.
    pub(crate) lost: u64,
}

pub(in crate::driver) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/files/spool", post(spool).layer(DefaultBodyLimit::disable()))
        .route("/v1/files/put", post(put))
        .route("/v1/files/puts", routing::get(puts))
        .route("/v1/files/puts/{number}", routing::delete(cancel))
        .route("/v1/files/get", post(get).layer(DefaultBodyLimit::max(REQUEST_MAX)))
        .route("/v1/files/heal", post(heal))
}

pub(in crate::driver) fn frames<Work: Future<Output = ()> + Send + 'static>(
    work: impl FnOnce(FrameSender) -> Work,
) -> Response {
    let (to, frames) = mpsc::channel(FRAMES_MAX);
    tokio::spawn(work(to));
    Body::new(Pieces(frames)).into_response()
}

/// The exit codes of `cli.rs`.
fn failed(error: &FileError) -> Vec<u8> {
    let code = match error {
        FileError::NotFound { .. } => 4,
        FileError::NoRoute { .. } | FileError::NoTunnel => 5,
        FileError::TooMany => 6,
        FileError::Broken(_) => 7,
        FileError::Stopping | FileError::Cancelled | FileError::Source(_) => 1,
    };
    json(Kind::Failed, &Failed { error: error.to_string(), code })
}

async fn spool(State(api): State<Api>, body: Body) -> Response {
    let (to, pieces) = mpsc::channel(SPOOL_PIECES_MAX);
    let read = async move {
        let mut body = body;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| format!("the input broke off: {error}"))?;
            if let Ok(bytes) = frame.into_data()
                && to.send(bytes.to_vec()).await.is_err()
            {
                break;
            }
        }
        Ok(())
    };
    let (spooled, read) = tokio::join!(api.files.spool(pieces), read);
    match read.and(spooled) {
        Ok(spool) => Json(serde_json::json!({ "spool": spool })).into_response(),
        Err(error) => failure(StatusCode::INSUFFICIENT_STORAGE, error),
    }
}

async fn put(State(api): State<Api>, Json(request): Json<PutRequest>) -> Response {
    let mut news = match api.files.put(request) {
        Ok(news) => news,
        Err(error) => return failure(StatusCode::BAD_REQUEST, error),
    };
    frames(async move |to: FrameSender| {
        let mut last = PutNews::default();
        loop {
            let now = news.borrow_and_update().clone();
            let (over, code) = (now.is_over(), 1);
            let frame = match &now.failed {
                Some(error) => json(Kind::Failed, &Failed { error: error.clone(), code }),
                None if over => json(Kind::Done, &now),
                None => json(Kind::News, &now),
            };
            let left = (over || now != last) && to.send(Ok(frame)).await.is_err();
            if left || over {
                return; // it goes on without whoever asked
            }
            last = now;
            if news.changed().await.is_err() && !news.borrow().is_over() {
                let _ = to.send(Ok(failed(&FileError::Stopping))).await;
                return;
            }
        }
    })
}

async fn puts(State(api): State<Api>) -> Json<Vec<UnderWay>> {
    Json(api.files.puts())
}

async fn cancel(State(api): State<Api>, Path(number): Path<u64>) -> Response {
    if api.files.cancel_put(number) {
        StatusCode::NO_CONTENT.into_response()
    } else {
        failure(StatusCode::NOT_FOUND, format!("no put has the number {number}: see `warren puts`"))
    }
}

async fn get(State(api): State<Api>, Json(request): Json<GetRequest>) -> Response {
    frames(async move |to: FrameSender| {
        let last = match Get::new(&api.files, &request, &to).run().await {
            Ok(done) => json(Kind::Done, &done),
            Err(Ended::Failed(error)) => failed(&error),
            Err(Ended::Left) => return,
        };
        let _ = to.send(Ok(last)).await;
    })
}

async fn heal(State(api): State<Api>, Json(request): Json<HealRequest>) -> Response {
    let uri = match request.uri.parse() {
        Ok(Uri::File(cap) | Uri::Directory(cap)) => cap.verify(),
        Ok(Uri::FileVerify(cap) | Uri::DirectoryVerify(cap)) => cap,
        Ok(_) => {
            return failure(StatusCode::BAD_REQUEST, "this is the key of a site, not of a file");
        }
        Err(error) => return failure(StatusCode::BAD_REQUEST, error.to_string()),
    };
    frames(async move |to: FrameSender| {
        let last = match heal_all(&api.files, uri, &request, &to).await {
            Ok(news) => json(Kind::Done, &news),
            Err(error) => failed(&error),
        };
        let _ = to.send(Ok(last)).await;
    })
}

/// Goes through a file, or through a folder and every object that its list of children names.
async fn heal_all(
    files: &Files,
    root: VerifyCap,
    request: &HealRequest,
    to: &FrameSender,
) -> Result<HealNews, FileError> {
    let mut news = HealNews { objects: 1, ..HealNews::default() };
    let mut queue = vec![root];
    let mut is_root = true;
    while let Some(cap) = queue.pop() {
        let before = news;
        let scope = match request.sample {
            Some(blocks) => Scope::Sample(blocks, Box::new(entropy::generator())),
            None => Scope::Whole,
        };
        let mut healing = files.heal(cap, scope, request.hops);
        let list = loop {
            let over = healing.next().await;
            let state = over.as_ref().and_then(|over| over.as_ref().ok()).map(|(state, _)| *state);
            let state = state.unwrap_or_else(|| healing.state());
            let now = HealNews {
                found: before.found + state.summary.found,
                missing: before.missing + state.summary.missing,
                rebuilt: before.rebuilt + state.summary.rebuilt,
                stored: before.stored + state.stored,
                segments: before.segments + state.summary.segments,
                lost: before.lost + state.summary.lost,
                ..before
            };
            if now != news {
                news = now;
                if to.send(Ok(json(Kind::News, &news))).await.is_err() {
                    return Ok(news); // nobody waits for it
                }
            }
            if let Some(over) = over {
                break over?.1;
            }
        };
        news.objects_done += 1;
        // Only the folder's own list counts: its objects are plain files, whatever they say.
        if let Some(list) = list.filter(|_| std::mem::take(&mut is_root)) {
            let mut fetching = files.fetch(list.duplicate(), 0..u64::MAX, request.hops);
            let bytes = fetching.whole(CHILDREN_MAX).await?;
            let mut more = children(&bytes)
                .map_err(|error| FileError::Source(format!("the list of the folder: {error}")))?;
            more.push(list.verify());
            news.objects += more.len() as u64;
            queue.extend(more);
        }
    }
    Ok(news)
}
