//! `POST /v1/why`: goes the way to a service as a stranger would, and says how long each part of it took.
//!
//! Lives here: the attempt, in an isolation context of its own, and its times. Does not live here:
//! the words about it (`cli/why.rs`), stored files and sites, which have measures of their own.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};
use warren_overlay::{
    service::{Name, NameKind},
    session::{AppCommand, ResetReason},
};
use warren_proxy::{Destination, Failure, IsolationSecret, Listener};

use super::{
    Event,
    control::{Api, Ask, Gone, ask, failure},
    inbox::News,
};
use crate::{entropy, status::ServiceStatus};

/// How long the whole way may take; a page gives up as late.
const WAY_MAX: Duration = Duration::from_mins(1);
/// How long the server may think about a request once it has it.
const BYTE_MAX: Duration = Duration::from_secs(10);
/// The port that is tried: what browsers ask for.
const PORT: u16 = 80;

/// `POST /v1/why`
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct WhyRequest {
    /// A service's label here, or its name.
    pub(crate) what: String,
}

/// Its answer.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct WhyAnswer {
    /// The service's name.
    pub(crate) name: String,
    /// Whether it is published by this router, and private.
    pub(crate) own: bool,
    pub(crate) private: bool,
    /// How many other routers publish it, as far as this one knows: the way may have led to any.
    pub(crate) others: u32,
    /// When each part of the way was done, in milliseconds from the beginning; in the order of
    /// [`STEPS`], as many as were.
    pub(crate) done_ms: Vec<u64>,
    /// How long it took in all, in milliseconds.
    pub(crate) took_ms: u64,
    /// What the router says of the failure; none if there was none.
    pub(crate) failure: Option<String>,
}

/// The parts of the way, in order.
pub(crate) const STEPS: [&str; 6] =
    ["tunnel", "descriptor", "gateway", "session", "server", "first byte"];

pub(super) async fn why(State(api): State<Api>, Json(request): Json<WhyRequest>) -> Response {
    let services = match ask(&api, Ask::Services).await {
        Ok(services) => services,
        Err(gone) => return gone.into_response(),
    };
    let what = request.what.trim();
    let own = services.iter().find(|service| service.label == what || service.name == what);
    let text = own.map_or(what, |service| service.name.as_str());
    match text.parse::<Name>() {
        Ok(name) if name.kind() == NameKind::Service => match go(&api, name, own).await {
            Ok(answer) => Json(answer).into_response(),
            Err(gone) => gone.into_response(),
        },
        Ok(_) => failure(StatusCode::BAD_REQUEST, "this names a stored site, not a live service"),
        Err(error) => failure(
            StatusCode::NOT_FOUND,
            format!(
                "{what:?} is no label of `warren services`, and no name either ({error}): copy it whole"
            ),
        ),
    }
}

async fn go(api: &Api, name: Name, own: Option<&ServiceStatus>) -> Result<WhyAnswer, Gone> {
    let start = Instant::now();
    // A secret of its own: nothing that is open already is used, and nothing that follows uses this.
    let secret = Arc::new(IsolationSecret::new(&mut entropy::generator()));
    let isolation = Listener { number: 0, secret }.context(name);
    let (answer, opened) = oneshot::channel();
    let destination = Destination { name, port: PORT };
    api.events.send(Event::Open { destination, isolation, answer }).await.map_err(|_| Gone)?;
    let mut report = WhyAnswer {
        name: name.to_string(),
        own: own.is_some(),
        private: own.is_some_and(|service| service.shares.is_some()),
        others: own.map_or(0, |service| service.others),
        ..WhyAnswer::default()
    };
    let since = |start: Instant| u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut stream = match opened.await.map_err(|_| Gone)? {
        Ok(stream) => stream,
        Err(failure) => {
            report.failure = Some(failure.title().to_owned());
            return Ok(report);
        }
    };
    let no = stream.no;
    let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
    let _ = stream.send_early(request.into_bytes()).await;
    let accepted = timeout(WAY_MAX, stream.opened()).await.unwrap_or(Err(Failure::TimedOut));
    let at_server = since(start);
    let steps = ask(api, |to| Ask::Steps(no.end, to)).await?;
    report.done_ms =
        steps.iter().map(|step| u64::try_from(step.as_millis()).unwrap_or(0)).collect();
    match accepted {
        Err(failure) => report.failure = Some(failure.title().to_owned()),
        Ok(()) => {
            report.done_ms.push(at_server);
            let byte = async { matches!(stream.inbox.next(1).await, News::Data(_)) };
            if timeout(BYTE_MAX, byte).await.unwrap_or(false) {
                report.done_ms.push(since(start));
            } else {
                report.failure = Some(Failure::TimedOut.title().to_owned());
            }
        }
    }
    report.took_ms = since(start);
    let command = AppCommand::Reset { stream: no.stream, reason: ResetReason::Closed };
    let _ = api.events.send(Event::App { end: no.end, command }).await;
    Ok(report)
}
