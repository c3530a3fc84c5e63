//! HTTP requests to a proxy: reading one head, and writing it anew for the service.
//!
//! Lives here: which forms are taken, what is stripped, how the body is framed. Does not live here:
//! the connection (`mixed.rs`), the body's end (`upload.rs`), the service's answer (`download.rs`).
//!
//! | form | what happens |
//! |------|--------------|
//! | `CONNECT name:port` | 200, then bytes both ways |
//! | `METHOD http://name[:port]/path` | rewritten to `METHOD /path`, one request a connection |
//! | `METHOD https://..`, other schemes | 400 |
//! | `METHOD /path`, `METHOD *` | 421 with an empty body: nobody who means a proxy sends that |
//!
//! The target alone routes; `Host` is thrown away unread and written from the target, so that a
//! page cannot reach another site through its own connection (PROTOCOL P13).

use httparse::{EMPTY_HEADER, Header, Status};
use warren_overlay::service::Name;

use crate::{
    destination::{Destination, ip_literal, overlay_name, split_port},
    pages::Failure,
    upload::Upload,
};

/// Most header lines; browsers send under 20.
pub(crate) const HEADERS_MAX: usize = 100;

/// The answer that begins a tunnel.
pub(crate) const TUNNEL_OPEN: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// Headers that end at a proxy (RFC 9110, section 7.6.1), that tell who or what is behind it, or
/// that this proxy writes itself. `proxy-*` and `x-forwarded-*` go by prefix.
const STRIPPED: [&str; 18] = [
    "client-ip",
    "connection",
    "content-length",
    "forwarded",
    "forwarded-for",
    "host",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "te",
    "trailer",
    "transfer-encoding",
    "true-client-ip",
    "upgrade",
    "via",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-real-ip",
];

/// What the bytes so far amount to.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// Not complete.
    More,
    /// CONNECT.
    Tunnel { took: usize, to: Destination, credentials: Option<Vec<u8>> },
    /// One request for the service, as it is to be sent there.
    Forward {
        took: usize,
        to: Destination,
        credentials: Option<Vec<u8>>,
        head: Vec<u8>,
        upload: Upload,
        is_head: bool,
    },
    /// Refused, with or without a body in the answer.
    Refused { failure: Failure, is_head: bool },
}

/// Reads one head; `buffer` holds at most [`crate::HEAD_MAX`] bytes.
pub(crate) fn parse(buffer: &[u8]) -> Parsed {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let refused = |failure, is_head| Parsed::Refused { failure, is_head };
    match request.parse(buffer) {
        Ok(Status::Partial) => Parsed::More,
        Err(httparse::Error::TooManyHeaders) => refused(Failure::TooLarge, false),
        Err(_) => refused(Failure::Malformed, false),
        Ok(Status::Complete(took)) => match (request.method, request.path, request.version) {
            (Some(method), Some(target), Some(version)) => {
                let line = Line { method, target, version };
                line.read(request.headers, took)
                    .unwrap_or_else(|failure| refused(failure, method == "HEAD"))
            }
            _ => refused(Failure::Malformed, false),
        },
    }
}

/// A request line.
struct Line<'a> {
    method: &'a str,
    target: &'a str,
    version: u8,
}

/// `http://host[:port]/path?query`, taken apart.
pub(crate) struct Uri<'a> {
    /// As in the target.
    authority: &'a str,
    pub(crate) name: Name,
    port: u16,
    /// From the first `/` or `?` on; may be empty.
    pub(crate) path: &'a str,
}

impl Line<'_> {
    fn read(&self, headers: &[Header<'_>], took: usize) -> Result<Parsed, Failure> {
        let credentials = single(headers, "proxy-authorization")?.map(<[u8]>::to_vec);
        if self.method == "CONNECT" {
            let (name, port) = authority(self.target)?;
            let port = port.ok_or(Failure::Malformed)?;
            return Ok(Parsed::Tunnel { took, to: Destination { name, port }, credentials });
        }
        if self.target.starts_with('/') || self.target == "*" {
            return Err(Failure::Misdirected);
        }
        let uri = absolute(self.target)?;
        if self.method.eq_ignore_ascii_case("TRACE") {
            return Err(Failure::BadMethod);
        }
        let (framing, upload) = framing(headers)?;
        Ok(Parsed::Forward {
            took,
            to: Destination { name: uri.name, port: uri.port },
            credentials,
            head: self.rewrite(headers, &uri, &framing),
            upload,
            is_head: self.method == "HEAD",
        })
    }

    /// The head as the service gets it: origin form, `Host` from the target, one request only.
    fn rewrite(&self, headers: &[Header<'_>], uri: &Uri<'_>, framing: &str) -> Vec<u8> {
        let mut head = Vec::with_capacity(1024);
        let slash = if uri.path.starts_with('/') { "" } else { "/" };
        let (method, path, version) = (self.method, uri.path, self.version);
        let host = uri.authority.to_ascii_lowercase();
        let host = host.strip_suffix(":80").unwrap_or(&host);
        let line = format!("{method} {slash}{path} HTTP/1.{version}\r\nHost: {host}\r\n");
        head.extend_from_slice(line.as_bytes());
        for header in headers {
            if keeps(header, headers, uri) {
                head.extend_from_slice(header.name.as_bytes());
                head.extend_from_slice(b": ");
                head.extend_from_slice(header.value);
                head.extend_from_slice(b"\r\n");
            }
        }
        head.extend_from_slice(framing.as_bytes());
        head.extend_from_slice(b"Connection: close\r\n\r\n");
        head
    }
}

/// Whether a header goes on to the service.
fn keeps(header: &Header<'_>, all: &[Header<'_>], uri: &Uri<'_>) -> bool {
    let name = header.name.to_ascii_lowercase();
    if STRIPPED.contains(&name.as_str())
        || name.starts_with("proxy-")
        || name.starts_with("x-forwarded-")
        || nominated(all, &name)
    {
        return false;
    }
    name != "referer" || same_origin(header.value, uri)
}

/// Whether `Connection` names this header as one that ends here.
fn nominated(headers: &[Header<'_>], name: &str) -> bool {
    headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case("connection"))
        .flat_map(|header| header.value.split(|&byte| byte == b','))
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
}

/// Whether `referer` is a page of the site that the request goes to. A page of another site, or
/// what does not parse, tells this site where its visitor came from.
fn same_origin(referer: &[u8], uri: &Uri<'_>) -> bool {
    str::from_utf8(referer)
        .ok()
        .and_then(|text| absolute(text).ok())
        .is_some_and(|from| (from.name, from.port) == (uri.name, uri.port))
}

/// Takes an absolute URI apart; only `http` and only with a name of the overlay.
pub(crate) fn absolute(target: &str) -> Result<Uri<'_>, Failure> {
    let (scheme, rest) = target.split_once("://").ok_or(Failure::Malformed)?;
    if !scheme.eq_ignore_ascii_case("http") {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        let known = !scheme.is_empty() && scheme.bytes().all(token);
        return Err(if known { Failure::BadScheme } else { Failure::Malformed });
    }
    if rest.contains('#') {
        return Err(Failure::Malformed);
    }
    let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (name, port) = authority(host)?;
    Ok(Uri { authority: host, name, port: port.unwrap_or(80), path })
}

/// Reads `name` or `name:port`. User information is refused: it has no meaning here and is how
/// `http://good.warren@evil.warren/` deceives people.
fn authority(text: &str) -> Result<(Name, Option<u16>), Failure> {
    if text.is_empty() || text.contains('@') {
        return Err(Failure::Malformed);
    }
    if ip_literal(text.as_bytes()).is_some() {
        return Err(Failure::NotOverlay);
    }
    let (host, port) = split_port(text).ok_or(Failure::Malformed)?;
    Ok((overlay_name(host.as_bytes())?, port))
}

/// How the body is framed: the header line that says it, and the counter that holds it to that.
///
/// Both framings at once, any of them twice, or a coding that is not exactly `chunked` is refused:
/// two parsers could disagree about where the request ends (request smuggling).
fn framing(headers: &[Header<'_>]) -> Result<(String, Upload), Failure> {
    let length = single(headers, "content-length")?;
    let coding = single(headers, "transfer-encoding")?;
    match (length, coding) {
        (None, None) => Ok((String::new(), Upload::length(0))),
        (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => {
            Ok(("Transfer-Encoding: chunked\r\n".to_owned(), Upload::chunked()))
        }
        (Some(digits), None) => {
            let digits = str::from_utf8(digits).map_err(|_| Failure::Malformed)?;
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(Failure::Malformed);
            }
            let length: u64 = digits.parse().map_err(|_| Failure::Malformed)?;
            Ok((format!("Content-Length: {length}\r\n"), Upload::length(length)))
        }
        (_, Some(_)) => Err(Failure::Malformed),
    }
}

/// The value of a header that may be there once.
pub(crate) fn single<'a>(headers: &[Header<'a>], name: &str) -> Result<Option<&'a [u8]>, Failure> {
    let mut values = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(header), None) => Ok(Some(header.value)),
        (Some(_), Some(_)) => Err(Failure::Malformed),
    }
}
