//! What the application gets of the service's answer to one HTTP request.
//!
//! Lives here: the answer's head, read and written anew; what follows passes raw until the service
//! closes. Does not live here: the request (`http.rs`, `upload.rs`). A tunnel passes everything.
//!
//! The service is not trusted, and to the application its answer comes from the proxy it trusts. So
//! the head always says that the connection closes (else the application would send its next
//! request, perhaps to another site, into it), and the service can neither ask for the proxy's
//! credentials (407) nor send the browser round the proxy (`Alt-Svc`).
//!
//! ```text
//! Head --100--> Head (passed on)      Head --whole head--> Raw
//!      --other 1xx--> Head (dropped)       --101, 407, no HTTP, 32 KiB, end--> Over (a page)
//! ```

use std::{borrow::Cow, fmt};

use httparse::{EMPTY_HEADER, Status};

use crate::pages::Failure;

/// Most bytes of an answer's head.
const HEAD_MAX: usize = 32 * 1024;
/// Most header lines of an answer.
const HEADERS_MAX: usize = 128;

/// Headers that end at a proxy, that only a proxy may send, or that lead round it. `proxy-*` goes by
/// prefix.
const STRIPPED: [&str; 6] =
    ["alt-svc", "alternate-protocol", "connection", "keep-alive", "te", "upgrade"];

/// The way of the service's bytes to the application.
#[derive(PartialEq, Eq)]
pub struct Download(State);

#[derive(PartialEq, Eq)]
enum State {
    Raw,
    Head { buffer: Vec<u8>, with_body: bool },
    Over,
}

/// Mute: the buffer holds what a service sent.
impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::Raw => "Download(raw)",
            State::Head { .. } => "Download(head)",
            State::Over => "Download(over)",
        })
    }
}

/// What a head amounts to.
enum Head {
    More,
    /// Passed on as these bytes; `took` bytes of the buffer; the last head or an interim one.
    Pass {
        took: usize,
        bytes: Vec<u8>,
        last: bool,
    },
    Bad,
}

impl Download {
    /// Everything passes.
    pub(crate) const fn raw() -> Self {
        Self(State::Raw)
    }

    /// One HTTP answer; `with_body` is false if the request was HEAD.
    pub(crate) const fn answer(with_body: bool) -> Self {
        Self(State::Head { buffer: Vec::new(), with_body })
    }

    /// What to write to the application when the service sent `bytes`.
    pub fn pass<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let State::Head { buffer, with_body } = &mut self.0 else {
            return Cow::Borrowed(if self.is_over() { &[] } else { bytes });
        };
        buffer.extend_from_slice(bytes);
        let mut out = Vec::new();
        loop {
            match read(buffer.get(..HEAD_MAX).unwrap_or(buffer)) {
                Head::More if buffer.len() < HEAD_MAX => break,
                Head::More | Head::Bad => {
                    out.extend(Failure::BadAnswer.response(*with_body));
                    self.0 = State::Over;
                    break;
                }
                Head::Pass { took, bytes, last } => {
                    buffer.drain(..took.min(buffer.len()));
                    out.extend(bytes);
                    if last {
                        out.append(buffer);
                        self.0 = State::Raw;
                        break;
                    }
                }
            }
        }
        Cow::Owned(out)
    }

    /// What to write when the service has finished: a page, if there was no whole head.
    pub fn finish(&mut self) -> Vec<u8> {
        match std::mem::replace(&mut self.0, State::Over) {
            State::Head { with_body, .. } => Failure::BadAnswer.response(with_body),
            State::Raw | State::Over => Vec::new(),
        }
    }

    /// Whether nothing more will pass: write what there is and close both sides.
    pub fn is_over(&self) -> bool {
        self.0 == State::Over
    }
}

/// Reads one head and writes it anew.
fn read(buffer: &[u8]) -> Head {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    let took = match answer.parse(buffer) {
        Ok(Status::Complete(took)) => took,
        Ok(Status::Partial) => return Head::More,
        Err(_) => return Head::Bad,
    };
    let (Some(version), Some(code)) = (answer.version, answer.code) else { return Head::Bad };
    let bytes = match code {
        100 => return Head::Pass { took, bytes: CONTINUE.to_vec(), last: false },
        101 | 407 | 0..100 | 600.. => return Head::Bad,
        102..200 => return Head::Pass { took, bytes: Vec::new(), last: false },
        200..600 => {
            let reason = answer.reason.unwrap_or_default();
            let mut bytes = format!("HTTP/1.{version} {code} {reason}\r\n").into_bytes();
            for header in answer.headers.iter().filter(|header| keeps(header.name)) {
                bytes.extend_from_slice(header.name.as_bytes());
                bytes.extend_from_slice(b": ");
                bytes.extend_from_slice(header.value);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"Connection: close\r\n\r\n");
            bytes
        }
    };
    Head::Pass { took, bytes, last: true }
}

/// The only interim answer that applications wait for.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

fn keeps(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    !STRIPPED.contains(&name.as_str()) && !name.starts_with("proxy-")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the application sees, and whether the driver is told to close.
    fn seen(bytes: &[u8], step: usize) -> (String, bool) {
        let mut download = Download::answer(true);
        let mut out = Vec::new();
        for piece in bytes.chunks(step.max(1)) {
            out.extend_from_slice(&download.pass(piece));
        }
        let over = download.is_over();
        (String::from_utf8_lossy(&out).into_owned(), over)
    }

    fn page() -> String {
        String::from_utf8(Failure::BadAnswer.response(true)).unwrap()
    }

    #[test]
    fn the_application_is_always_told_that_the_connection_closes() {
        let answer = "HTTP/1.1 200 OK\r\nServer: x\r\nConnection: keep-alive\r\n\
                      Keep-Alive: timeout=99\r\nContent-Length: 5\r\n\r\nhello";
        let want = "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\n\
                    hello";
        assert_eq!(seen(answer.as_bytes(), 1000), (want.to_owned(), false));
    }

    #[test]
    fn a_service_cannot_ask_for_the_proxys_credentials_or_lead_round_it() {
        for code in ["407 Proxy Authentication Required", "101 Switching Protocols"] {
            let answer = format!("HTTP/1.1 {code}\r\nProxy-Authenticate: Basic realm=x\r\n\r\n");
            assert_eq!(seen(answer.as_bytes(), 1000), (page(), true));
        }
        let answer = "HTTP/1.1 200 OK\r\nAlt-Svc: h3=\":443\"\r\nProxy-Authenticate: Basic\r\n\
                      Proxy-Connection: keep-alive\r\nUpgrade: h2c\r\n\r\n";
        assert_eq!(seen(answer.as_bytes(), 1000).0, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
    }

    #[test]
    fn continue_passes_and_hints_do_not() {
        let answer = "HTTP/1.1 103 Early Hints\r\nLink: <//a>; rel=preconnect\r\n\r\n\
                      HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
        let want = "HTTP/1.1 100 Continue\r\n\r\n\
                    HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
        assert_eq!(seen(answer.as_bytes(), 1000), (want.to_owned(), false));
    }

    #[test]
    fn what_is_no_answer_becomes_a_page() {
        for bad in [
            &b"SSH-2.0-OpenSSH_9\r\n"[..],
            b"HTTP/1.1 999 x\r\n\r\n",
            b"HTTP/1.1 099 x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            &[b"HTTP/1.1 200 OK\r\nA: ".as_slice(), "a".repeat(HEAD_MAX).as_bytes()].concat(),
        ] {
            assert_eq!(seen(bad, 10_000), (page(), true));
        }
        let mut cut = Download::answer(false);
        assert_eq!(cut.pass(b"HTTP/1.1 200 OK\r\n").len(), 0);
        assert_eq!(cut.finish(), Failure::BadAnswer.response(false));
        assert!(cut.is_over());
        assert!(cut.finish().is_empty());
    }

    #[test]
    fn a_tunnel_passes_everything_without_copying() {
        let mut raw = Download::raw();
        assert!(matches!(raw.pass(b"HTTP/1.1 407 x\r\n\r\n"), Cow::Borrowed(b) if b.len() == 18));
        assert!(raw.finish().is_empty());
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            status in prop::sample::select(&["100", "103", "200", "404", "407", "abc"][..]),
            body in prop::collection::vec(any::<u8>(), 0..60),
            step in 1..30_usize,
        ) {
            let mut bytes = format!("HTTP/1.1 {status} x\r\nA: b\r\n\r\n").into_bytes();
            bytes.extend(body);
            prop_assert_eq!(seen(&bytes, step), seen(&bytes, usize::MAX));
        }
    }
}
