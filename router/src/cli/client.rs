//! Talking to a running router over its control socket.

use std::path::Path;

use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, body::Bytes, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::Failure;
use crate::driver::control::ErrorAnswer;

/// The longest answer taken, in bytes.
const ANSWER_MAX: usize = 1 << 20;

/// Sends one request to the router in `dir`; an empty answer reads as JSON `null`.
///
/// # Errors
/// `NotRunning` when no router answers there; `Refused` with its words when it says no.
pub(super) async fn call<T: DeserializeOwned>(
    dir: &Path,
    method: Method,
    route: &str,
    body: Option<String>,
) -> Result<T, Failure> {
    let socket = UnixStream::connect(dir.join("control.sock"))
        .await
        .map_err(|_| Failure::NotRunning(dir.to_owned()))?;
    let broken = |error: hyper::Error| Failure::Other(format!("control socket: {error}"));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.map_err(broken)?;
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(route)
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body.unwrap_or_default())))
        .map_err(|error| Failure::Other(error.to_string()))?;
    let answer = sender.send_request(request).await.map_err(broken)?;
    let status = answer.status();
    let limited = http_body_util::Limited::new(answer.into_body(), ANSWER_MAX);
    let bytes = limited
        .collect()
        .await
        .map_err(|error| Failure::Other(format!("control socket: {error}")))?
        .to_bytes();
    connection.abort();
    if !status.is_success() {
        let words = serde_json::from_slice::<ErrorAnswer>(&bytes)
            .map_or_else(|_| format!("the router answered {status}"), |answer| answer.error);
        return Err(match status {
            StatusCode::NOT_FOUND => Failure::NotFound(words),
            _ => Failure::Refused(words),
        });
    }
    let text: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
    serde_json::from_slice(text)
        .map_err(|error| Failure::Other(format!("the router's answer makes no sense: {error}")))
}
