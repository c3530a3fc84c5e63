//! The control API's routes about pins.
//!
//! | route | answer |
//! |-------|--------|
//! | `POST /v1/pins` `PinRequest` | frames: `PinStatus` as news, then done with it |
//! | `GET /v1/pins` | `PinList` |
//! | `POST /v1/pins/remove` `{"uri"}` | `Unpinned` |

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};

use super::{PinRequest, PinStatus};
use crate::driver::{
    control::{Api, failure},
    files::{
        api::frames,
        frame::{Failed, FrameSender, Kind, json},
    },
};

pub(in crate::driver) fn routes() -> Router<Api> {
    Router::new().route("/v1/pins", get(list).post(pin)).route("/v1/pins/remove", post(unpin))
}

async fn list(State(api): State<Api>) -> Response {
    match api.sites.pin_list().await {
        Some(list) => Json(list).into_response(),
        None => failure(StatusCode::SERVICE_UNAVAILABLE, "the router is stopping"),
    }
}

async fn pin(State(api): State<Api>, Json(request): Json<PinRequest>) -> Response {
    let mut news = match api.sites.pin(&request) {
        Ok(news) => news,
        Err(error) => return failure(StatusCode::BAD_REQUEST, error),
    };
    frames(async move |to: FrameSender| {
        let mut last = PinStatus::default();
        loop {
            let now = news.borrow_and_update().clone();
            let frame = match &now.failed {
                Some((error, code)) => {
                    json(Kind::Failed, &Failed { error: error.clone(), code: *code })
                }
                None if now.done => json(Kind::Done, &now),
                None => json(Kind::News, &now),
            };
            let is_over = now.done || now.failed.is_some();
            let left = (is_over || now != last) && to.send(Ok(frame)).await.is_err();
            if left || is_over {
                return; // it goes on without whoever asked
            }
            last = now;
            if news.changed().await.is_err() && !news.borrow().is_over() {
                let error = "it was unpinned, or the router is stopping".into();
                let _ = to.send(Ok(json(Kind::Failed, &Failed { error, code: 1 }))).await;
                return;
            }
        }
    })
}

async fn unpin(State(api): State<Api>, Json(request): Json<PinRequest>) -> Response {
    match api.sites.unpin(&request.uri).await {
        Ok(Some(unpinned)) => Json(unpinned).into_response(),
        Ok(None) => failure(StatusCode::NOT_FOUND, "this is not pinned: see `warren pins`"),
        Err(error) => failure(StatusCode::BAD_REQUEST, error),
    }
}
