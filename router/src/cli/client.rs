//! Talking to a running router over its control socket.

use std::path::Path;

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Bytes, Incoming},
    header,
};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::{net::UnixStream, task::JoinHandle};

use super::Failure;
use crate::driver::{
    control::ErrorAnswer,
    files::frame::{Failed, Frames, Kind, read},
};

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
    let body = Full::new(Bytes::from(body.unwrap_or_default()));
    let (answer, connection) = send(dir, method, route, body).await?;
    let status = answer.status();
    let limited = http_body_util::Limited::new(answer.into_body(), ANSWER_MAX);
    let bytes = limited
        .collect()
        .await
        .map_err(|error| {
            Failure::Other(format!(
                "control socket: {error}; see with `warren status` whether the router still runs"
            ))
        })?
        .to_bytes();
    connection.abort();
    if !status.is_success() {
        return Err(refusal(status, &bytes));
    }
    let text: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
    serde_json::from_slice(text)
        .map_err(|error| Failure::Other(format!("the router's answer makes no sense ({error}): start it again, it may be of another version")))
}

fn refusal(status: StatusCode, bytes: &[u8]) -> Failure {
    let words = serde_json::from_slice::<ErrorAnswer>(bytes)
        .map_or_else(|_| format!("the router answered {status}"), |answer| answer.error);
    match status {
        StatusCode::NOT_FOUND => Failure::NotFound(words),
        _ => Failure::Refused(words),
    }
}

fn broken(error: impl std::fmt::Display) -> Failure {
    Failure::Other(format!(
        "control socket: {error}; see with `warren status` whether the router still runs"
    ))
}

type Connection = JoinHandle<hyper::Result<()>>;

async fn send<B>(
    dir: &Path,
    method: Method,
    route: &str,
    body: B,
) -> Result<(Response<Incoming>, Connection), Failure>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let socket = UnixStream::connect(dir.join("control.sock"))
        .await
        .map_err(|_| Failure::NotRunning(dir.to_owned()))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.map_err(broken)?;
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(route)
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(|error| Failure::Other(error.to_string()))?;
    let answer = sender.send_request(request).await.map_err(broken)?;
    Ok((answer, connection))
}

/// Sends bytes of any length as they come; the answer as JSON.
///
/// # Errors
/// As for [`call`].
pub(super) async fn upload<T, B>(dir: &Path, route: &str, body: B) -> Result<T, Failure>
where
    T: DeserializeOwned,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (answer, connection) = send(dir, Method::POST, route, body).await?;
    let status = answer.status();
    let limited = http_body_util::Limited::new(answer.into_body(), ANSWER_MAX);
    let bytes = limited.collect().await.map_err(broken)?.to_bytes();
    connection.abort();
    if !status.is_success() {
        return Err(refusal(status, &bytes));
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| Failure::Other(format!("the router's answer makes no sense ({error}): start it again, it may be of another version")))
}

/// An answer that comes in frames.
#[derive(Debug)]
pub(super) struct Answer {
    body: Incoming,
    frames: Frames,
    connection: Connection,
}

impl Answer {
    /// Asks.
    ///
    /// # Errors
    /// As for [`call`].
    pub(super) async fn of(dir: &Path, route: &str, body: String) -> Result<Self, Failure> {
        let (answer, connection) =
            send(dir, Method::POST, route, Full::new(Bytes::from(body))).await?;
        let status = answer.status();
        let body = answer.into_body();
        if !status.is_success() {
            let limited = http_body_util::Limited::new(body, ANSWER_MAX);
            let bytes = limited.collect().await.map_err(broken)?.to_bytes();
            return Err(refusal(status, &bytes));
        }
        Ok(Self { body, frames: Frames::default(), connection })
    }

    /// The next frame.
    ///
    /// # Errors
    /// What the router says went wrong, or that it is gone.
    pub(super) async fn next(&mut self) -> Result<(Kind, Vec<u8>), Failure> {
        loop {
            if let Some((kind, body)) = self.frames.next().map_err(Failure::Other)? {
                if kind == Kind::Failed {
                    let failed: Failed = read(body).map_err(Failure::Other)?;
                    return Err(match failed.code {
                        4 => Failure::NotFound(failed.error),
                        5 => Failure::TooLong(failed.error),
                        6 => Failure::Refused(failed.error),
                        7 => Failure::InPart(failed.error),
                        _ => Failure::Other(failed.error),
                    });
                }
                return Ok((kind, body.to_vec()));
            }
            let frame = self.body.frame().await;
            let frame = frame.ok_or_else(|| broken("the router is gone"))?.map_err(broken)?;
            if let Ok(bytes) = frame.into_data() {
                self.frames.push(&bytes);
            }
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
