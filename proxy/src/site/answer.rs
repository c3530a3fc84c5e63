//! The head of an answer: what a page may do, and what type a file has.
//!
//! Lives here: the policy, the table of types that are shown, the header lines. Does not live here: which
//! bytes follow (`condition.rs`), pages that say what failed (`pages.rs`).
//!
//! **Why no scripts.** Whoever reads a stored site talks to nobody: its author cannot learn that, when
//! or by whom it is read. A script could tell: by navigating to a live service with what it found
//! out, or past the proxy by WebRTC, which no header stops. Without scripts the policy below is
//! whole: everything a page loads is of the same site, `data:` apart, and forms go nowhere. What is
//! left is what the reader clicks.
//!
//! No line tells time, router or version: an answer is the same bytes on every router.

use std::{fmt::Write as _, ops::Range};

use super::responder::File;

/// What pages may load and do. `allow-same-origin`: without it a page's own fonts are foreign to it; it
/// gives scripts away, and there are none. Downloads and new windows are the reader's clicks; a
/// window for another site is that site's.
const POLICY: &str = "default-src 'self' data:; script-src 'none'; connect-src 'none'; \
     worker-src 'none'; object-src 'none'; frame-src 'self'; style-src 'self' 'unsafe-inline'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'self'; \
     sandbox allow-same-origin allow-downloads allow-popups allow-popups-to-escape-sandbox \
     allow-top-navigation-by-user-activation";

/// Kinds of types that a browser shows by itself.
const SHOWN_KINDS: [&str; 5] = ["audio", "font", "image", "text", "video"];
/// And single types.
const SHOWN: [&str; 9] = [
    "application/atom+xml",
    "application/json",
    "application/manifest+json",
    "application/pdf",
    "application/rss+xml",
    "application/wasm",
    "application/xhtml+xml",
    "application/xml",
    "application/ogg",
];
/// Types that are handed over as what they are, to be kept: programs know archives by them.
const KEPT: [&str; 5] = [
    "application/epub+zip",
    "application/gzip",
    "application/x-tar",
    "application/zip",
    "application/zstd",
];
/// Everything else: a type that is not known here could start a program (an extension, a proxy setting).
const UNKNOWN: &str = "application/octet-stream";

/// The type that is said, and whether the file is a download.
pub(super) fn shown(mime: &str) -> (&str, bool) {
    let essence = mime.split(';').next().unwrap_or_default().trim_end();
    let kind = essence.split('/').next().unwrap_or_default();
    // These bytes go into a header line: a line's end in them would be another line.
    let clean = mime.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if clean && (SHOWN_KINDS.contains(&kind) || SHOWN.contains(&essence)) {
        (mime, false)
    } else if clean && KEPT.contains(&essence) {
        (mime, true)
    } else {
        (UNKNOWN, true)
    }
}

/// The head before `part` of a file, or before all of it.
pub(super) fn file(file: &File, tag: &str, part: Option<&Range<u64>>, keep: bool) -> Vec<u8> {
    let (mime, is_download) = shown(&file.mime);
    let mut head = String::with_capacity(1_024);
    match part {
        None => line(&mut head, "HTTP/1.1 200 OK"),
        Some(_) => line(&mut head, "HTTP/1.1 206 Partial Content"),
    }
    field(&mut head, "Content-Type", mime);
    if is_download {
        field(&mut head, "Content-Disposition", "attachment");
    }
    let len = part.map_or(file.len, |part| part.end - part.start);
    field(&mut head, "Content-Length", &len.to_string());
    if let Some(part) = part {
        let range = format!("bytes {}-{}/{}", part.start, part.end.saturating_sub(1), file.len);
        field(&mut head, "Content-Range", &range);
    }
    field(&mut head, "Accept-Ranges", "bytes");
    common(&mut head, Some(tag), keep);
    head.into_bytes()
}

/// The head before the list of a folder.
pub(super) fn list(page: &str, keep: bool) -> Vec<u8> {
    let mut head = String::with_capacity(1_024);
    line(&mut head, "HTTP/1.1 200 OK");
    field(&mut head, "Content-Type", "text/html; charset=utf-8");
    field(&mut head, "Content-Length", &page.len().to_string());
    common(&mut head, None, keep);
    head.into_bytes()
}

/// The application has the file already.
pub(super) fn not_modified(tag: &str, keep: bool) -> Vec<u8> {
    let mut head = String::with_capacity(1_024);
    line(&mut head, "HTTP/1.1 304 Not Modified");
    common(&mut head, Some(tag), keep);
    head.into_bytes()
}

/// A folder was asked for without the slash: relative links would lead elsewhere.
pub(super) fn moved(location: &str, query: &str, keep: bool) -> Vec<u8> {
    let mut head = String::with_capacity(1_024);
    line(&mut head, "HTTP/1.1 301 Moved Permanently");
    field(&mut head, "Location", &format!("{location}{query}"));
    field(&mut head, "Content-Length", "0");
    common(&mut head, None, keep);
    head.into_bytes()
}

fn common(head: &mut String, tag: Option<&str>, keep: bool) {
    if let Some(tag) = tag {
        field(head, "ETag", tag);
    }
    // Kept and asked for again each time: a site may have a new version, and asking costs nothing here.
    field(head, "Cache-Control", "no-cache");
    field(head, "Content-Security-Policy", POLICY);
    field(head, "Cross-Origin-Resource-Policy", "same-origin");
    field(head, "Referrer-Policy", "same-origin");
    field(head, "X-Content-Type-Options", "nosniff");
    field(head, "X-DNS-Prefetch-Control", "off");
    if !keep {
        field(head, "Connection", "close");
    }
    head.push_str("\r\n");
}

fn line(head: &mut String, text: &str) {
    head.push_str(text);
    head.push_str("\r\n");
}

fn field(head: &mut String, name: &str, value: &str) {
    // Writing to a text cannot fail.
    let _ = write!(head, "{name}: {value}\r\n");
}
