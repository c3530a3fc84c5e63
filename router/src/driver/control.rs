//! The control API: for the command line over a Unix socket, for people over HTTP.
//!
//! Lives here: routes, the token, the Host check. Does not live here: what a request does (the
//! router's task answers it), the router's own page (`page.rs`), metrics' names (`metrics.rs`).
//!
//! | route | answer | who |
//! |-------|--------|-----|
//! | `GET /`, `POST /login`, `GET /style.css` | the router's page | its verdict: anybody on this machine |
//! | `GET`, `POST /limits` | limits in a form | the page's cookie |
//! | `GET /healthz` | 200 while the process works | anybody on this machine |
//! | `GET /readyz` | 200 when ready, else 503 and the verdict | anybody on this machine |
//! | `GET /metrics` | Prometheus text, no identities | anybody on this machine |
//! | `GET /v1/status` | `Status` | socket, or the token |
//! | `GET /v1/invite` | `{"line"}` | socket, or the token |
//! | `POST /v1/invite` `{"newcomer"}` | `{"line"}`, for that router alone | socket, or the token |
//! | `/v1/friends..` | see `friends.rs` | socket, or the token |
//! | `GET /v1/services` | list of `ServiceStatus` | socket, or the token |
//! | `POST /v1/services` `{"target", "label"}` | `ServiceStatus` | socket, or the token |
//! | `DELETE /v1/services/LABEL` | 204 | socket, or the token |
//! | `/v1/services/LABEL/shares..`, `/v1/access..` | see `private.rs` | socket, or the token |
//! | `POST /v1/files/...` | see `files/api.rs` | socket, or the token |
//! | `/v1/sites..` | see `sites/api.rs` | socket, or the token |
//! | `/v1/bundles..` | see `bundles.rs` | socket, or the token |
//! | `/v1/pins..` | see `pins/api.rs` | socket, or the token |
//! | `POST /v1/why` `{"what"}` | `WhyAnswer` | socket, or the token |
//! | `POST /v1/stop` | 204, then the router leaves | socket, or the token |
//!
//! The Unix socket is readable by its owner alone. On TCP the Host header must name loopback (a
//! page from elsewhere cannot rebind its name to us) and the API wants `Authorization: Bearer`
//! with the token in DIR/api.token.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use serde::{Deserialize, Serialize};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::{mpsc, oneshot},
};
use warren_overlay::id::{EndNo, RouterId};

use super::{
    Event, bundles,
    files::{self, Files},
    friends::{self, FriendRequest},
    metrics,
    page::{self, Page},
    pins,
    private::{self, PrivateAsk},
    sites::{self, Sites},
    why,
};
use warren_datastore::blocks::Usage;
use warren_overlay::block::BlockAddress;

use crate::{
    config::LimitsFile,
    status::{ServiceStatus, Status},
};

/// What the API asks of the router's task.
#[derive(Debug)]
pub(crate) enum Ask {
    /// How are you?
    Status(oneshot::Sender<Status>),
    /// How many cells have you relayed? Cheap enough to be asked while that is measured.
    Relayed(oneshot::Sender<u64>),
    /// A line for the next router.
    Invite(oneshot::Sender<String>),
    /// A line for that router alone, signed.
    InviteFor(RouterId, oneshot::Sender<Result<String, String>>),
    /// Have links with the router that this line names; under which name it is kept.
    Befriend(FriendRequest, oneshot::Sender<Result<String, String>>),
    /// Have none with the friend of this name any more.
    Unfriend(String, oneshot::Sender<Result<(), String>>),
    /// Which services are there?
    Services(oneshot::Sender<Vec<ServiceStatus>>),
    /// Publish a service.
    Expose(ExposeRequest, oneshot::Sender<Result<ServiceStatus, String>>),
    /// Which blocks are pinned? Those above an address, up to so many.
    Pinned(Option<BlockAddress>, usize, oneshot::Sender<Vec<BlockAddress>>),
    /// Keep these blocks no longer.
    Unpin(Vec<BlockAddress>, oneshot::Sender<()>),
    /// What do pinned blocks take?
    PinUsage(oneshot::Sender<Usage>),
    /// Hold to those of these limits that can change; answered as `Host::set_limits` does.
    Limits { limits: LimitsFile, sender: oneshot::Sender<bool> },
    /// Which limits hold?
    LimitsNow(oneshot::Sender<LimitsFile>),
    /// Write those of these limits that can change to the settings file and hold to them.
    Edit { limits: LimitsFile, sender: oneshot::Sender<Result<(), String>> },
    /// Withdraw the service with this label or name.
    Unexpose(String, oneshot::Sender<Result<(), String>>),
    /// How far did a conversation come, and when?
    Steps(EndNo, oneshot::Sender<Vec<Duration>>),
    /// About private services.
    Private(PrivateAsk),
}

/// `POST /v1/services`
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct ExposeRequest {
    /// HOST:PORT that streams go to.
    pub(crate) target: String,
    /// What the operator calls it; drawn from the target when absent.
    pub(crate) label: Option<String>,
    /// Hops of its tunnels, 1 to 4; the router's when absent.
    #[serde(default)]
    pub(crate) hops: Option<u8>,
    /// Nobody reaches it but those whom it is shared with, from the beginning.
    #[serde(default)]
    pub(crate) private: bool,
}

/// `POST /v1/invite`
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct InviteRequest {
    /// What `warren key id` printed there.
    pub(crate) newcomer: String,
}

/// `GET` and `POST /v1/invite`
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct InviteAnswer {
    /// What the next router passes to `warren join`.
    pub(crate) line: String,
}

/// Every error of the API.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct ErrorAnswer {
    /// What is wrong and how to mend it.
    pub(crate) error: String,
}

#[derive(Clone)]
pub(super) struct Api {
    pub(super) events: mpsc::Sender<Event>,
    pub(super) files: Files,
    pub(super) sites: Sites,
    /// Absent on the Unix socket, whose permissions are the authentication.
    token: Option<Arc<str>>,
}

/// Serves the Unix socket until the router's task is gone.
pub(super) async fn serve_socket(
    listener: UnixListener,
    events: mpsc::Sender<Event>,
    sites: Sites,
) {
    let app = api().with_state(Api { events, files: sites.files().clone(), sites, token: None });
    let _ = axum::serve(listener, app).await;
}

/// Serves the page, health, metrics and, to holders of the page's token, the API.
pub(super) async fn serve_http(listener: TcpListener, page: Page, sites: Sites) {
    let (events, token) = (page.events.clone(), Some(Arc::clone(&page.token)));
    let state = Api { events, files: sites.files().clone(), sites, token };
    let app = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_text))
        .merge(api().layer(middleware::from_fn_with_state(state.clone(), require_token)))
        .with_state(state)
        .merge(page::routes(page))
        .layer(middleware::from_fn(page::require_own_origin))
        .layer(middleware::from_fn(require_loopback_host));
    let _ = axum::serve(listener, app).await;
}

fn api() -> Router<Api> {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/invite", get(invite).post(invite_for))
        .route("/v1/services", get(services).post(expose))
        .route("/v1/services/{label}", delete(unexpose))
        .merge(private::routes())
        .merge(friends::routes())
        .merge(files::api::routes())
        .merge(sites::api::routes())
        .merge(pins::api::routes())
        .merge(bundles::routes())
        .route("/v1/why", post(why::why))
        .route("/v1/stop", post(stop))
}

/// The router's task is stopping.
pub(super) struct Gone;

impl IntoResponse for Gone {
    fn into_response(self) -> Response {
        failure(StatusCode::SERVICE_UNAVAILABLE, "the router is stopping")
    }
}

pub(super) fn failure(status: StatusCode, error: impl Into<String>) -> Response {
    (status, Json(ErrorAnswer { error: error.into() })).into_response()
}

pub(super) async fn ask<T>(
    api: &Api,
    make: impl FnOnce(oneshot::Sender<T>) -> Ask,
) -> Result<T, Gone> {
    ask_task(&api.events, make).await
}

/// Asks the router's task.
pub(super) async fn ask_task<T>(
    events: &mpsc::Sender<Event>,
    make: impl FnOnce(oneshot::Sender<T>) -> Ask,
) -> Result<T, Gone> {
    let (sender, answer) = oneshot::channel();
    events.send(Event::Control(make(sender))).await.map_err(|_| Gone)?;
    answer.await.map_err(|_| Gone)
}

async fn status(State(api): State<Api>) -> Result<Json<Status>, Gone> {
    ask(&api, Ask::Status).await.map(Json)
}

async fn invite(State(api): State<Api>) -> Result<Json<InviteAnswer>, Gone> {
    ask(&api, Ask::Invite).await.map(|line| Json(InviteAnswer { line }))
}

async fn invite_for(State(api): State<Api>, Json(request): Json<InviteRequest>) -> Response {
    let Ok(newcomer) = request.newcomer.parse() else {
        let words = "this is no router's identity: give the 52 letters that `warren key id` prints";
        return failure(StatusCode::BAD_REQUEST, words);
    };
    match ask(&api, |sender| Ask::InviteFor(newcomer, sender)).await {
        Ok(Ok(line)) => Json(InviteAnswer { line }).into_response(),
        Ok(Err(why)) => failure(StatusCode::BAD_REQUEST, why),
        Err(gone) => gone.into_response(),
    }
}

async fn services(State(api): State<Api>) -> Result<Json<Vec<ServiceStatus>>, Gone> {
    ask(&api, Ask::Services).await.map(Json)
}

async fn expose(State(api): State<Api>, Json(request): Json<ExposeRequest>) -> Response {
    match ask(&api, |sender| Ask::Expose(request, sender)).await {
        Ok(Ok(service)) => Json(service).into_response(),
        Ok(Err(why)) => failure(StatusCode::BAD_REQUEST, why),
        Err(gone) => gone.into_response(),
    }
}

async fn unexpose(State(api): State<Api>, Path(label): Path<String>) -> Response {
    match ask(&api, |sender| Ask::Unexpose(label, sender)).await {
        Ok(Ok(())) => StatusCode::NO_CONTENT.into_response(),
        Ok(Err(why)) => failure(StatusCode::NOT_FOUND, why),
        Err(gone) => gone.into_response(),
    }
}

async fn stop(State(api): State<Api>) -> Result<StatusCode, Gone> {
    api.events.send(Event::Stop).await.map_err(|_| Gone)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn ready(State(api): State<Api>) -> Response {
    match ask(&api, Ask::Status).await {
        Ok(status) if status.ready => "ready\n".into_response(),
        Ok(status) => (StatusCode::SERVICE_UNAVAILABLE, status.verdict + "\n").into_response(),
        Err(gone) => gone.into_response(),
    }
}

async fn metrics_text(State(api): State<Api>) -> Response {
    match ask(&api, Ask::Status).await {
        Ok(status) => {
            let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
            (kind, metrics::render(&status)).into_response()
        }
        Err(gone) => gone.into_response(),
    }
}

/// Only pages that the user asked this machine for: a foreign name that resolves to loopback is
/// DNS rebinding.
async fn require_loopback_host(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    if host.is_some_and(is_loopback_host) {
        next.run(request).await
    } else {
        failure(StatusCode::MISDIRECTED_REQUEST, "ask for 127.0.0.1 or localhost")
    }
}

fn is_loopback_host(host: &str) -> bool {
    let name = host
        .rsplit_once(':')
        .map_or(host, |(name, port)| if port.parse::<u16>().is_ok() { name } else { host });
    name == "localhost"
        || name.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback())
        || name
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

async fn require_token(
    State(api): State<Api>,
    headers: HeaderMap,
    request: Request,
    next: Next,
) -> Response {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    let fits = match (&api.token, given) {
        (None, _) => true,
        (Some(token), Some(given)) => {
            warren_overlay::crypto::kdf::eq(token.as_bytes(), given.as_bytes())
        }
        (Some(_), None) => false,
    };
    if fits {
        next.run(request).await
    } else {
        failure(
            StatusCode::UNAUTHORIZED,
            "send Authorization: Bearer with the token in DIR/api.token",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_answered() {
        for good in ["127.0.0.1:7730", "localhost", "localhost:7730", "[::1]:7730", "127.9.9.9"] {
            assert!(is_loopback_host(good), "{good}");
        }
        for bad in
            ["evil.example:7730", "", "127.0.0.1.evil.example", "10.0.0.1:7730", "localhost.x"]
        {
            assert!(!is_loopback_host(bad), "{bad}");
        }
    }
}
