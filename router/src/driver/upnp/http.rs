//! One exchange with a gateway: short, bounded, and with nobody else.
//!
//! Lives here: asking and reading within limits of time and length; which addresses may be named. Does not
//! live here: what the texts say (`soap.rs`).
//!
//! A redirection is not followed: where the gateway says "elsewhere", it does not answer.

use std::{
    io::{self, ErrorKind},
    net::SocketAddrV4,
    time::Duration,
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, StatusCode, Uri,
    body::Bytes,
    client::conn::http1::Builder,
    header::{CONNECTION, CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet, time::timeout};

/// How long one exchange may take, from dialling to the last byte.
const LIMIT: Duration = Duration::from_secs(3);
/// Longest text that is read; descriptions have 3 to 30 KiB.
const TEXT_MAX: usize = 64 << 10;
/// Longest head of an answer.
const HEAD_MAX: usize = 8 << 10;

/// Where something of a gateway's is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Address and port.
    pub(super) at: SocketAddrV4,
    /// With its query; begins with `/`.
    pub(super) path: String,
}

impl Place {
    /// Reads `http://ADDRESS[:PORT]/PATH`. A name is no address: it would have to be asked for elsewhere.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let authority = uri.authority()?;
        let port = authority.port_u16().unwrap_or(80);
        // Anything beside host and port (a user, say) makes the two differ.
        let bare = [authority.host().to_owned(), format!("{}:{port}", authority.host())];
        if uri.scheme_str() != Some("http") || port == 0 || !bare.iter().any(|it| authority == it) {
            return None;
        }
        let ip = authority.host().parse().ok()?;
        let path = uri.path_and_query().map_or("/", |it| it.as_str()).to_owned();
        Some(Self { at: SocketAddrV4::new(ip, port), path })
    }

    /// What `text` means that was found here: an address of the same machine, a path from its root, or
    /// beside this one.
    pub(super) fn join(&self, text: &str) -> Option<Self> {
        if text.contains("://") {
            return Self::parse(text).filter(|other| other.at.ip() == self.at.ip());
        }
        let folder = self.path.split('?').next()?.rsplit_once('/')?.0;
        let path = if text.starts_with('/') { text.into() } else { format!("{folder}/{text}") };
        Self::parse(&format!("http://{}{path}", self.at)).filter(|other| other.at == self.at)
    }
}

fn nonsense(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

/// The text at `place`.
pub(super) async fn get(place: &Place) -> io::Result<String> {
    let request = Request::get(&place.path);
    match exchange(place.at, request, String::new()).await? {
        (StatusCode::OK, text) => Ok(text),
        (status, _) => Err(nonsense(format!("status {}", status.as_u16()))),
    }
}

/// Asks something; whether it was done, and what is said to it.
pub(super) async fn post(place: &Place, action: &str, text: String) -> io::Result<(bool, String)> {
    let request = Request::post(&place.path)
        .header("SOAPAction", action)
        .header(CONTENT_TYPE, "text/xml; charset=\"utf-8\"");
    match exchange(place.at, request, text).await? {
        (StatusCode::OK, text) => Ok((true, text)),
        (StatusCode::INTERNAL_SERVER_ERROR, text) => Ok((false, text)),
        (status, _) => Err(nonsense(format!("status {}", status.as_u16()))),
    }
}

async fn exchange(
    at: SocketAddrV4,
    request: hyper::http::request::Builder,
    text: String,
) -> io::Result<(StatusCode, String)> {
    let request = request
        .header(HOST, at.to_string())
        .header(CONNECTION, "close")
        .body(Full::new(Bytes::from(text)))
        .map_err(nonsense)?;
    let all = async {
        let socket = TcpStream::connect(at).await?;
        let (mut sender, connection) = Builder::new()
            .max_buf_size(HEAD_MAX)
            .handshake(TokioIo::new(socket))
            .await
            .map_err(nonsense)?;
        // Ends with this exchange, whatever the gateway does.
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        let answer = sender.send_request(request).await.map_err(nonsense)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), TEXT_MAX).collect().await.map_err(nonsense)?;
        let text = String::from_utf8(body.to_bytes().into()).map_err(nonsense)?;
        Ok((status, text))
    };
    timeout(LIMIT, all).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Place {
        Place::parse(text).unwrap()
    }

    #[test]
    fn what_a_description_names_is_taken_as_it_is_meant_if_it_is_the_same_machine() {
        let here = place("http://10.0.0.1:49000/igd/desc.xml?v=2");
        let joined = |text: &str| here.join(text).map(|it| format!("{}{}", it.at, it.path));
        for (text, means) in [
            ("/ctl/IPConn", Some("10.0.0.1:49000/ctl/IPConn")),
            ("ctl?a=b", Some("10.0.0.1:49000/igd/ctl?a=b")),
            ("http://10.0.0.1:5555/ctl", Some("10.0.0.1:5555/ctl")),
            ("http://10.0.0.2:49000/ctl", None),
            ("http://example.com/ctl", None),
            ("https://10.0.0.1/ctl", None),
            ("@10.0.0.2/ctl", Some("10.0.0.1:49000/igd/@10.0.0.2/ctl")),
            ("/a b", None),
            ("/a\r\nHost: x", None),
        ] {
            assert_eq!(joined(text).as_deref(), means, "{text:?}");
        }
    }
}
