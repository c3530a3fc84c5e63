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
use tokio::sync::{mpsc, watch};
use warren_datastore::uri::Uri;

use super::{
    FileError, Files, HealNews, Scan, Way,
    frame::{Failed, FrameSender, Kind, Pieces, json},
    get::{Ended, Get, GetRequest},
    put::{PutNews, PutRequest},
    queue::UnderWay,
};
use crate::driver::control::{Api, failure};

/// Frames that wait for the socket: 4 MiB at most.
pub(in crate::driver) const FRAMES_MAX: usize = 64;
/// Pieces of a spool that wait for the disk.
pub(in crate::driver) const SPOOL_PIECES_MAX: usize = 16;
/// Longest request, with 65,536 paths that are there already.
const REQUEST_MAX: usize = 96 << 20;

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

fn failed(error: &FileError) -> Vec<u8> {
    json(Kind::Failed, &Failed { error: error.to_string(), code: code(error) })
}

/// The exit codes of `cli.rs`.
pub(in crate::driver) const fn code(error: &FileError) -> u8 {
    match error {
        FileError::NotFound { .. } => 4,
        FileError::NoRoute { .. } | FileError::NoTunnel => 5,
        FileError::TooMany | FileError::NotPinned | FileError::TooOld => 6,
        FileError::Broken(_) => 7,
        FileError::Stopping | FileError::Cancelled | FileError::Source(_) => 1,
    }
}

async fn spool(State(api): State<Api>, body: Body) -> Response {
    let (to, pieces) = mpsc::channel(SPOOL_PIECES_MAX);
    let read = async move {
        let mut body = body;
        while let Some(frame) = body.frame().await {
            let frame =
                frame.map_err(|error| format!("the input broke off ({error}): try again"))?;
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
    frames(async move |to: FrameSender| get_all(&api.files, &request, &to).await)
}

/// Gets it, and says how it ended.
pub(in crate::driver) async fn get_all(files: &Files, request: &GetRequest, to: &FrameSender) {
    let last = match Get::new(files, request, to).run().await {
        Ok(done) => json(Kind::Done, &done),
        Err(Ended::Failed(error)) => failed(&error),
        Err(Ended::Left) => return,
    };
    let _ = to.send(Ok(last)).await;
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
    let scan = Scan { sample: request.sample, hops: request.hops, alone: false };
    frames(async move |to: FrameSender| {
        let (news, mut heard) = watch::channel(HealNews::default());
        let tell = |now| {
            news.send_replace(now);
        };
        let healing = api.files.heal_all(uri, scan, Way::default(), HealNews::default(), &tell);
        let Some(result) = with_news(healing, &mut heard, &to).await else { return };
        let last = match result {
            Ok(news) => json(Kind::Done, &news),
            Err(error) => failed(&error),
        };
        let _ = to.send(Ok(last)).await;
    })
}

/// Does some work and says meanwhile how far it is; `None` when nobody waits for it any more.
pub(in crate::driver) async fn with_news<News: Clone + PartialEq + Serialize, Done>(
    work: impl Future<Output = Done>,
    news: &mut watch::Receiver<News>,
    to: &FrameSender,
) -> Option<Done> {
    let mut work = std::pin::pin!(work);
    let mut last = None;
    loop {
        tokio::select! {
            done = &mut work => return Some(done),
            Ok(()) = news.changed() => {
                let now = news.borrow_and_update().clone();
                if last.as_ref() != Some(&now) {
                    to.send(Ok(json(Kind::News, &now))).await.ok()?;
                    last = Some(now);
                }
            }
            () = to.closed() => return None,
        }
    }
}
