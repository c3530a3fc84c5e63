//! The control API's routes about sites.
//!
//! | route | answer |
//! |-------|--------|
//! | `GET /v1/sites` | list of `SiteStatus` |
//! | `POST /v1/sites/publish` `PublishRequest` | frames: news of the storing, then done with `SiteDone` |
//! | `POST /v1/sites/fork` `{"site", "label"}` | `SiteDone` |
//! | `POST /v1/sites/history` `{"site"}` | list of `VersionStatus` |
//! | `POST /v1/sites/watch` `{"site"}` | frames: news with `WatchNews`, without an end |

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{
    PublishRequest, SiteDone,
    keeper::{SiteError, SiteStatus, VersionStatus},
};
use crate::driver::{
    control::{Api, failure},
    files::{
        FileError,
        api::frames,
        frame::{Failed, FrameSender, Kind, json},
        put::PutNews,
    },
};

/// `POST /v1/sites/fork` and `/v1/sites/history`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SiteRequest {
    /// Name, URL or URI.
    pub(crate) site: String,
    /// What to call the first version of the fork.
    pub(crate) label: String,
}

pub(in crate::driver) fn routes() -> Router<Api> {
    Router::new()
        .route("/v1/sites", get(list))
        .route("/v1/sites/publish", post(publish))
        .route("/v1/sites/fork", post(fork))
        .route("/v1/sites/history", post(history))
        .route("/v1/sites/watch", post(watch_site))
}

async fn list(State(api): State<Api>) -> Json<Vec<SiteStatus>> {
    Json(api.sites.list())
}

async fn publish(State(api): State<Api>, Json(request): Json<PublishRequest>) -> Response {
    frames(async move |to: FrameSender| {
        let (tell, mut news) = watch::channel(PutNews::default());
        let publishing = api.sites.publish(&request, &tell);
        let mut publishing = std::pin::pin!(publishing);
        let last = loop {
            tokio::select! {
                done = &mut publishing => break match done {
                    Ok(done) => json(Kind::Done, &done),
                    Err(error) => json(
                        Kind::Failed,
                        &Failed { error: error.to_string(), code: code(&error) },
                    ),
                },
                Ok(()) = news.changed() => {
                    let frame = json(Kind::News, &*news.borrow_and_update());
                    // It goes on without whoever asked.
                    let _ = to.try_send(Ok(frame));
                }
            }
        };
        let _ = to.send(Ok(last)).await;
    })
}

async fn fork(State(api): State<Api>, Json(request): Json<SiteRequest>) -> Response {
    let forked: Result<SiteDone, _> = api.sites.fork(&request.site, request.label).await;
    answer(forked)
}

async fn history(State(api): State<Api>, Json(request): Json<SiteRequest>) -> Response {
    let versions: Result<Vec<VersionStatus>, _> = api.sites.history(&request.site).await;
    answer(versions)
}

async fn watch_site(State(api): State<Api>, Json(request): Json<SiteRequest>) -> Response {
    frames(async move |to: FrameSender| {
        if let Err(error) = api.sites.watch(&request.site, &to).await {
            let failed = Failed { error: error.to_string(), code: code(&error) };
            let _ = to.send(Ok(json(Kind::Failed, &failed))).await;
        }
    })
}

fn answer<T: Serialize>(result: Result<T, SiteError>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(error) => {
            let status = match code(&error) {
                4 => StatusCode::NOT_FOUND,
                5 => StatusCode::GATEWAY_TIMEOUT,
                6 => StatusCode::CONFLICT,
                _ => StatusCode::BAD_REQUEST,
            };
            failure(status, error.to_string())
        }
    }
}

/// The exit codes of `cli.rs`.
pub(in crate::driver) fn code(error: &SiteError) -> u8 {
    match error {
        SiteError::NotFound | SiteError::File(FileError::NotFound { .. }) => 4,
        SiteError::Unreachable
        | SiteError::Pending { .. }
        | SiteError::File(FileError::NoRoute { .. }) => 5,
        SiteError::Conflict { .. }
        | SiteError::Forked { .. }
        | SiteError::NotYours
        | SiteError::TooManyWatched(_)
        | SiteError::File(FileError::TooMany | FileError::NotPinned | FileError::TooOld) => 6,
        SiteError::File(FileError::Broken(_)) | SiteError::Damaged => 7,
        SiteError::File(_) | SiteError::Other(_) => 1,
    }
}
