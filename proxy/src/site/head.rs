//! The head of one request to a site.
//!
//! Lives here: what is taken, what is refused. Does not live here: the answer (`answer.rs`).
//!
//! | form | what happens |
//! |------|--------------|
//! | GET, HEAD without a body | read |
//! | other methods | 405: nothing that a visitor sends goes anywhere |
//! | a body, two lengths, a coding | 400: where the next request begins could be doubted |
//! | HTTP/1.1 without exactly one `Host` | 400; its value is not looked at: the name routed already |
//! | `http://name/path` | as `/path` if it is this site's name, else 421 |

use httparse::{EMPTY_HEADER, Header, Status};
use warren_overlay::service::Name;

use super::{
    condition::{Compare, Part, holds},
    path::SitePath,
};
use crate::{
    http::{HEADERS_MAX, absolute, single},
    pages::Failure,
};

/// What the bytes so far amount to.
#[derive(Debug)]
pub(super) enum Parsed {
    /// Not complete.
    More,
    /// Not a request that a site answers.
    Refused { failure: Failure, is_head: bool },
    /// One request, in so many bytes.
    Request { took: usize, request: Request },
}

/// A request that a site answers.
#[derive(Debug)]
pub(super) struct Request {
    /// `None`: a path that no directory has.
    pub(super) path: Option<SitePath>,
    /// `?` and what follows; empty if there is none.
    pub(super) query: String,
    pub(super) is_head: bool,
    /// Whether the application wants to send another one.
    pub(super) keep: bool,
    part: Option<Part>,
    if_range: Option<Vec<u8>>,
    if_match: Option<Vec<u8>>,
    if_none_match: Option<Vec<u8>>,
}

/// What the conditions of a request make of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it.
    Whole,
    /// These bytes.
    Part(std::ops::Range<u64>),
    /// The application has it.
    NotModified,
    /// Not this file, or not these bytes.
    Refused(Failure),
}

impl Request {
    /// Which part of a file of this length and tag is wanted; in the order of RFC 9110, section 13.2.2.
    pub(super) fn wants(&self, len: u64, tag: &str) -> Wanted {
        if self.if_match.as_ref().is_some_and(|list| !holds(list, tag, Compare::Strong)) {
            return Wanted::Refused(Failure::Changed);
        }
        if self.if_none_match.as_ref().is_some_and(|list| holds(list, tag, Compare::Weak)) {
            return Wanted::NotModified;
        }
        let same = self.if_range.as_ref().is_none_or(|one| one == tag.as_bytes());
        match self.part {
            Some(part) if same && !self.is_head => {
                part.of(len).map_or(Wanted::Refused(Failure::BadRange), Wanted::Part)
            }
            _ => Wanted::Whole,
        }
    }
}

/// Reads one head; `buffer` holds at most [`crate::HEAD_MAX`] bytes.
pub(super) fn parse(buffer: &[u8], site: &Name) -> Parsed {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let refused = |failure| Parsed::Refused { failure, is_head: false };
    match request.parse(buffer) {
        Ok(Status::Partial) => Parsed::More,
        Err(httparse::Error::TooManyHeaders) => refused(Failure::TooLarge),
        Err(_) => refused(Failure::Malformed),
        Ok(Status::Complete(took)) => match (request.method, request.path, request.version) {
            (Some(method), Some(target), Some(version)) => {
                let is_head = method == "HEAD";
                match read(method, target, version, request.headers, site) {
                    Ok(request) => Parsed::Request { took, request },
                    Err(failure) => Parsed::Refused { failure, is_head },
                }
            }
            _ => refused(Failure::Malformed),
        },
    }
}

fn read(
    method: &str,
    target: &str,
    version: u8,
    headers: &[Header<'_>],
    site: &Name,
) -> Result<Request, Failure> {
    if !matches!(method, "GET" | "HEAD") {
        return Err(Failure::ReadOnly);
    }
    // An empty Host is one; none and two are not.
    let host = single(headers, "host")?;
    if version == 1 && host.is_none() {
        return Err(Failure::Malformed);
    }
    let length = single(headers, "content-length")?;
    if length.is_some_and(|length| length != b"0") || has(headers, "transfer-encoding") {
        return Err(Failure::Malformed);
    }
    let (path, query) = split(target, site)?;
    let one = |name| single(headers, name).ok().flatten().map(<[u8]>::to_vec);
    Ok(Request {
        path: SitePath::read(path),
        query: query.to_owned(),
        is_head: method == "HEAD",
        keep: version == 1 && !says_close(headers),
        part: one("range").and_then(|value| Part::read(&value)),
        if_range: one("if-range"),
        if_match: list(headers, "if-match"),
        if_none_match: list(headers, "if-none-match"),
    })
}

/// Path and query of a target.
fn split<'a>(target: &'a str, site: &Name) -> Result<(&'a str, &'a str), Failure> {
    if target.contains('#') {
        return Err(Failure::Malformed);
    }
    let text = if target.starts_with('/') {
        target
    } else {
        let uri = absolute(target)?;
        if uri.name != *site {
            return Err(Failure::Misdirected);
        }
        uri.path
    };
    let (path, query) = text.split_at(text.find('?').unwrap_or(text.len()));
    Ok((if path.is_empty() { "/" } else { path }, query))
}

fn has(headers: &[Header<'_>], name: &str) -> bool {
    headers.iter().any(|header| header.name.eq_ignore_ascii_case(name))
}

/// The values of a field that is a list, joined.
fn list(headers: &[Header<'_>], name: &str) -> Option<Vec<u8>> {
    let values = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
    let values: Vec<&[u8]> = values.map(|header| header.value).collect();
    (!values.is_empty()).then(|| values.join(&b','))
}

fn says_close(headers: &[Header<'_>]) -> bool {
    let tokens = list(headers, "connection").unwrap_or_default();
    tokens
        .split(|byte| *byte == b',')
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"))
}
