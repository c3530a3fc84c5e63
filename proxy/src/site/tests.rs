//! What a stored site answers. Golden bytes are what curl 7.88.1 and Chromium 148 sent to a logging
//! server, their Host apart.

use std::collections::BTreeMap;

use proptest::prelude::*;
use warren_overlay::{
    service::{Name, NameKind},
    time::Time,
};

use super::{answer::shown, *};
use crate::{Failure, HEAD_MAX, HEAD_WAIT, testing};

fn site() -> Name {
    Name::new(*testing::name(1).key(), NameKind::Site).unwrap()
}

/// Files by path, with type; a driver without sockets that serves them.
struct Driver {
    files: BTreeMap<&'static str, (&'static str, &'static [u8])>,
    responder: Responder,
    found: Vec<u8>,
    written: Vec<u8>,
    asked: Vec<SitePath>,
    closed: bool,
}

impl Driver {
    fn new() -> Self {
        let files = BTreeMap::from([
            ("index.html", ("text/html; charset=utf-8", b"<h1>top".as_slice())),
            ("a b/index.html", ("text/html; charset=utf-8", b"<h1>a b")),
            ("a b/ä.png", ("image/png", b"png")),
            ("digits", ("", b"0123456789")),
            ("empty.txt", ("text/plain", b"")),
            ("evil", ("application/x-xpinstall", b"xpi")),
            ("bare/x.txt", ("text/plain", b"x")),
        ]);
        Self {
            files,
            responder: Responder::new(Time::ZERO, site()),
            found: Vec::new(),
            written: Vec::new(),
            asked: Vec::new(),
            closed: false,
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.responder.handle_input(Time::ZERO, Input::Bytes(bytes));
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.responder.poll_output() {
            assert!(!self.closed, "nothing follows Close");
            match output {
                Output::Find(path) => {
                    let found = self.find(&path);
                    self.asked.push(path);
                    self.responder.handle_input(Time::ZERO, Input::Found(found));
                }
                Output::Answer { head, body } => {
                    self.written.extend(head);
                    let body =
                        usize::try_from(body.start).unwrap()..usize::try_from(body.end).unwrap();
                    self.written.extend(&self.found[body]);
                    self.responder.handle_input(Time::ZERO, Input::Sent);
                }
                Output::Reply(bytes) => self.written.extend(bytes),
                Output::Close => self.closed = true,
            }
        }
    }

    fn find(&mut self, path: &SitePath) -> Found {
        let folder =
            if path.as_str().is_empty() { String::new() } else { format!("{}/", path.as_str()) };
        let is_folder = self.files.keys().any(|file| file.starts_with(&folder));
        let wanted =
            if path.is_folder() { format!("{folder}index.html") } else { path.as_str().to_owned() };
        match self.files.get(wanted.as_str()) {
            Some((mime, content)) => {
                self.found = content.to_vec();
                let len = content.len() as u64;
                Found::File(File { mime: (*mime).to_owned(), len, tag: [0xab; 16] })
            }
            None if is_folder && !path.is_folder() => Found::Folder,
            None if is_folder => Found::List(
                [("<x>&.txt", false), ("javascript:a", false), ("b\"c ä", true)]
                    .map(|(name, is_folder)| Listed { name: name.to_owned(), is_folder })
                    .into(),
            ),
            None => Found::Nothing,
        }
    }
}

const TAG: &str = "\"abababababababababababababababab\"";

/// All that is written for these bytes.
fn text(request: &str) -> String {
    let mut driver = Driver::new();
    driver.feed(request.as_bytes());
    String::from_utf8(driver.written).unwrap()
}

/// A GET of HTTP/1.1 with more lines.
fn get(target: &str, lines: &str) -> String {
    text(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n{lines}\r\n"))
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

fn field<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let (head, _) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(other, _)| *other == name).map(|(_, value)| value)
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[test]
fn curl_gets_a_page_whole() {
    let request =
        "GET / HTTP/1.1\r\nHost: x.warren\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n";
    insta::assert_snapshot!(text(request).replace('\r', ""), @r#"
    HTTP/1.1 200 OK
    Content-Type: text/html; charset=utf-8
    Content-Length: 7
    Accept-Ranges: bytes
    ETag: "abababababababababababababababab"
    Cache-Control: no-cache
    Content-Security-Policy: default-src 'self' data:; script-src 'none'; connect-src 'none'; worker-src 'none'; object-src 'none'; frame-src 'self'; style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'; sandbox allow-same-origin allow-downloads allow-popups allow-popups-to-escape-sandbox allow-top-navigation-by-user-activation
    Cross-Origin-Resource-Policy: same-origin
    Referrer-Policy: same-origin
    X-Content-Type-Options: nosniff
    X-DNS-Prefetch-Control: off

    <h1>top
    "#);
}

#[test]
fn curl_asks_for_the_head_only() {
    let lines = "Host: x\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n";
    let head = text(&format!("HEAD /a%20b/?q=1 HTTP/1.1\r\n{lines}"));
    let whole = text(&format!("GET /a%20b/?q=1 HTTP/1.1\r\n{lines}"));
    assert_eq!(format!("{head}<h1>a b"), whole);
    for failing in ["/none", "/digits/"] {
        let head = text(&format!("HEAD {failing} HTTP/1.1\r\n{lines}"));
        assert_eq!((status(&head), body(&head)), (404, ""));
    }
}

#[test]
fn curl_goes_on_where_a_download_broke_off() {
    let lines = "Host: x\r\nRange: bytes=7-\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n";
    let answer = text(&format!("GET /digits HTTP/1.1\r\n{lines}"));
    assert_eq!((status(&answer), body(&answer)), (206, "789"));
    assert_eq!(field(&answer, "Content-Range"), Some("bytes 7-9/10"));
    assert_eq!(field(&answer, "Content-Length"), Some("3"));
    assert_eq!(field(&answer, "ETag"), Some(TAG));
}

/// What Chromium says with each request.
const CHROMIUM: &str = "Connection: keep-alive\r\n\
    sec-ch-ua: \"Not/A)Brand\";v=\"99\", \"Chromium\";v=\"148\"\r\n\
    sec-ch-ua-mobile: ?0\r\nsec-ch-ua-platform: \"Linux\"\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
    HeadlessChrome/148.0.0.0 Safari/537.36\r\nAccept-Language: en-US,en;q=0.9\r\n";

#[test]
fn chromium_asks_again_for_what_it_has() {
    let page = "Upgrade-Insecure-Requests: 1\r\n\
        Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,\
        image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7\r\n\
        Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-User: ?1\r\n\
        Sec-Fetch-Dest: document\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n";
    let first = get("/", &format!("{CHROMIUM}{page}"));
    assert_eq!((status(&first), body(&first)), (200, "<h1>top"));
    let again = get("/", &format!("{CHROMIUM}{page}If-None-Match: {TAG}\r\n"));
    assert_eq!((status(&again), body(&again)), (304, ""));
    assert_eq!((field(&again, "ETag"), field(&again, "Content-Length")), (Some(TAG), None));
}

#[test]
fn chromium_plays_a_film_and_asks_again_for_a_part_that_it_has() {
    let film = "Accept-Encoding: identity;q=1, *;q=0\r\nAccept: */*\r\n\
        Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: video\r\n\
        Referer: http://x.warren/\r\n";
    let first = get("/digits", &format!("{CHROMIUM}{film}Range: bytes=0-\r\n"));
    assert_eq!((status(&first), body(&first)), (206, "0123456789"));
    let again = format!("{CHROMIUM}{film}Range: bytes=0-9\r\nIf-None-Match: {TAG}\r\n");
    assert_eq!(status(&get("/digits", &again)), 304);
}

#[test]
fn a_film_is_read_in_parts_and_whole_when_it_changed() {
    let ranges = [
        ("bytes=0-", 206, "0123456789"),
        ("bytes=4-4", 206, "4"),
        ("bytes=4-99", 206, "456789"),
        ("bytes=-3", 206, "789"),
        ("bytes=-99", 206, "0123456789"),
        ("Bytes = 1-2", 206, "12"),
        ("bytes=0-18446744073709551616", 206, "0123456789"),
        // What means nothing, and several ranges: the whole.
        ("bytes=4-3", 200, "0123456789"),
        ("bytes=0-1,3-4", 200, "0123456789"),
        ("bytes=a-b", 200, "0123456789"),
        ("bytes=-", 200, "0123456789"),
        ("bytes=+1-2", 200, "0123456789"),
        ("lines=0-1", 200, "0123456789"),
    ];
    for (range, code, want) in ranges {
        let answer = get("/digits", &format!("Range: {range}\r\n"));
        assert_eq!((status(&answer), body(&answer)), (code, want), "{range}");
    }
    for range in ["bytes=10-", "bytes=99-100", "bytes=-0", "bytes=99999999999999999999-"] {
        let answer = get("/digits", &format!("Range: {range}\r\n"));
        assert_eq!(status(&answer), 416, "{range}");
        assert_eq!(field(&answer, "Content-Range"), Some("bytes */10"));
    }
    assert_eq!(status(&get("/empty.txt", "Range: bytes=0-\r\n")), 416);
    for (if_range, code) in [(TAG, 206), ("\"other\"", 200), ("Wed, 21 Oct 2015 07:28:00 GMT", 200)]
    {
        let answer = get("/digits", &format!("Range: bytes=1-2\r\nIf-Range: {if_range}\r\n"));
        assert_eq!(status(&answer), code, "{if_range}");
    }
    let weak = get("/digits", &format!("Range: bytes=1-2\r\nIf-Range: W/{TAG}\r\n"));
    assert_eq!(status(&weak), 200);
}

#[test]
fn conditions_are_held() {
    for (lines, code) in [
        (format!("If-None-Match: \"x\", W/{TAG}\r\n"), 304),
        (format!("If-None-Match: \"x\"\r\nIf-None-Match: {TAG}\r\n"), 304),
        ("If-None-Match: *\r\n".into(), 304),
        ("If-None-Match: \"x\"\r\n".into(), 200),
        (format!("If-None-Match: {TAG}\r\nRange: bytes=0-1\r\n"), 304),
        (format!("If-Match: {TAG}\r\n"), 200),
        (format!("If-Match: W/{TAG}\r\n"), 412),
        ("If-Match: \"x\"\r\n".into(), 412),
        ("If-Modified-Since: Wed, 21 Oct 2015 07:28:00 GMT\r\n".into(), 200),
    ] {
        assert_eq!(status(&get("/digits", &lines)), code, "{lines}");
    }
}

#[test]
fn folders_have_an_index_and_a_slash() {
    assert_eq!(body(&get("/a%20b/", "")), "<h1>a b");
    let moved = get("/a%20b?x=%20y", "");
    assert_eq!(status(&moved), 301);
    assert_eq!(field(&moved, "Location"), Some("/a%20b/?x=%20y"));
    assert_eq!(field(&get("/bare", ""), "Location"), Some("/bare/"));
    assert_eq!(body(&get("/a%20b/%C3%A4.png", "")), "png");
}

#[test]
fn a_folder_without_index_is_listed_and_no_name_in_it_is_more_than_a_name() {
    let answer = get("/bare/", "");
    assert_eq!(status(&answer), 200);
    assert_eq!(field(&answer, "Content-Length").unwrap(), body(&answer).len().to_string());
    assert!(field(&answer, "Content-Security-Policy").is_some());
    insta::assert_snapshot!(body(&answer), @r#"
    <!doctype html>
    <html lang="en">
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width">
    <meta name="color-scheme" content="light dark">
    <title>/bare/</title>
    <h1>/bare/</h1>
    <ul>
    <li><a href="../">../</a>
    <li><a href="%3Cx%3E%26.txt">&lt;x&gt;&amp;.txt</a>
    <li><a href="javascript%3Aa">javascript:a</a>
    <li><a href="b%22c%20%C3%A4/">b&quot;c ä/</a>
    </ul>
    </html>
    "#);
    let head = text("HEAD /bare/ HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.starts_with(&head) && body(&head).is_empty());
}

#[test]
fn unknown_types_are_downloads_and_cannot_start_anything() {
    for (path, mime) in [("/digits", None), ("/evil", None), ("/empty.txt", Some("text/plain"))] {
        let answer = get(path, "");
        let want = mime.unwrap_or("application/octet-stream");
        assert_eq!(field(&answer, "Content-Type"), Some(want));
        let disposition = field(&answer, "Content-Disposition");
        assert_eq!(disposition, mime.is_none().then_some("attachment"));
        assert_eq!(field(&answer, "X-Content-Type-Options"), Some("nosniff"));
    }
    assert_eq!(shown("application/zip"), ("application/zip", true));
    assert_eq!(shown("multipart/x-mixed-replace"), ("application/octet-stream", true));
    assert_eq!(shown("text/html\r\nX: y").0, "application/octet-stream");
    assert_eq!(shown("image/svg+xml"), ("image/svg+xml", false));
}

#[test]
fn what_is_sent_to_a_site_goes_nowhere() {
    let post = text("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na=b");
    assert_eq!((status(&post), field(&post, "Allow")), (405, Some("GET, HEAD")));
    for method in ["PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get", "PATCH"] {
        let answer = text(&format!("{method} / HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(status(&answer), 405, "{method}");
    }
    for lines in [
        "Content-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Content-Length: 0\r\nContent-Length: 0\r\n",
        "Host: y\r\n",
    ] {
        assert_eq!(status(&get("/", lines)), 400, "{lines}");
    }
    assert_eq!(status(&get("/", "Content-Length: 0\r\n")), 200);
    assert_eq!(status(&text("GET / HTTP/1.1\r\n\r\n")), 400);
    assert_eq!(status(&text("GET / HTTP/1.0\r\n\r\n")), 200);
}

#[test]
fn a_site_answers_for_its_own_name_only() {
    assert_eq!(status(&get(&format!("http://{}/digits", site()), "")), 200);
    assert_eq!(status(&get(&format!("http://{}", site()), "")), 200);
    assert_eq!(status(&get(&format!("http://{}/", testing::name(2)), "")), 421);
    assert_eq!(status(&get("http://example.com/", "")), 403);
    assert_eq!(status(&get("*", "")), 400);
}

#[test]
fn no_path_leads_outside() {
    for path in [
        "/..",
        "/../etc/passwd",
        "/a%20b/../digits",
        "/%2e%2e/digits",
        "/./digits",
        "//digits",
        "//",
        "/a%20b//",
        "/a%20b%2findex.html",
        "/digits%00",
        "/a%5cb",
        "/%ff",
        "/%",
        "/%4",
        "/%zz",
        "/%0d%0aX:y",
    ] {
        let mut driver = Driver::new();
        driver.feed(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        assert!(driver.asked.is_empty(), "{path}");
        assert!(driver.written.starts_with(b"HTTP/1.1 404"), "{path}");
    }
}

#[test]
fn requests_are_answered_one_after_the_other_in_their_order() {
    let one = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    let both = [one("/digits"), one("/a%20b/"), one("/")].concat();
    let mut driver = Driver::new();
    driver.feed(both.as_bytes());
    let text = String::from_utf8(driver.written.clone()).unwrap();
    let places: Vec<_> =
        ["0123456789", "<h1>a b", "<h1>top"].map(|body| text.find(body).unwrap()).into();
    assert!(places.is_sorted() && !driver.closed);
    driver.feed(b"\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: x, Close\r\n\r\n");
    assert!(driver.closed);
    let text = String::from_utf8(driver.written).unwrap();
    assert_eq!(text.matches("Connection: close").count(), 1);
}

#[test]
fn what_is_sent_ahead_is_bounded() {
    let mut responder = Responder::new(Time::ZERO, site());
    let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    responder.handle_input(Time::ZERO, Input::Bytes(request));
    assert!(matches!(responder.poll_output(), Some(Output::Find(_))));
    for _ in 0..HEAD_MAX {
        responder.handle_input(Time::ZERO, Input::Bytes(request));
    }
    responder.handle_input(Time::ZERO, Input::Found(Found::Nothing));
    assert!(matches!(responder.poll_output(), Some(Output::Reply(_))));
    assert_eq!(responder.poll_output(), Some(Output::Close));
    assert!(responder.buffer_len() <= HEAD_MAX);
    let endless = format!("GET /{}", "a".repeat(HEAD_MAX));
    assert_eq!(status(&text(&endless)), 431);
}

#[test]
fn a_connection_answers_a_thousand_requests_and_no_more() {
    let mut driver = Driver::new();
    for number in 1..=REQUESTS_MAX {
        assert!(!driver.closed, "{number}");
        driver.feed(b"GET /empty.txt HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    assert!(driver.closed);
}

#[test]
fn who_is_slow_is_told_and_who_is_silent_is_left() {
    let mut responder = Responder::new(Time::ZERO, site());
    responder.handle_input(Time::ZERO, Input::Bytes(b"GET / HT"));
    let at = responder.poll_timeout().unwrap();
    assert_eq!(at, Time::ZERO + HEAD_WAIT);
    responder.handle_input(Time::from_micros(9_000_000), Input::Bytes(b"T"));
    responder.handle_timeout(at);
    let Some(Output::Reply(page)) = responder.poll_output() else { panic!("no page") };
    assert!(page.starts_with(b"HTTP/1.1 408"));
    assert_eq!(responder.poll_output(), Some(Output::Close));

    let mut driver = Driver::new();
    driver.feed(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(driver.responder.poll_timeout(), Some(Time::ZERO + IDLE_WAIT));
    driver.responder.handle_timeout(Time::ZERO + IDLE_WAIT);
    assert_eq!(driver.responder.poll_output(), Some(Output::Close));
}

#[test]
fn what_cannot_be_read_is_a_page_that_says_so() {
    for in_the_middle in [false, true] {
        let mut responder = Responder::new(Time::ZERO, site());
        responder.handle_input(Time::ZERO, Input::Bytes(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert!(matches!(responder.poll_output(), Some(Output::Find(_))));
        if in_the_middle {
            let file = File { mime: String::new(), len: 9, tag: [0; 16] };
            responder.handle_input(Time::ZERO, Input::Found(Found::File(file)));
            assert!(matches!(responder.poll_output(), Some(Output::Answer { .. })));
        }
        responder.handle_input(Time::ZERO, Input::Failed(Failure::Incomplete));
        let want = Failure::Incomplete.response(true);
        assert_eq!(responder.poll_output(), Some(Output::Reply(want)));
        assert_eq!(responder.poll_output(), Some(Output::Close));
    }
}

fn any_request() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just("GET ".to_owned()),
        Just("HEAD ".to_owned()),
        Just(" HTTP/1.1\r\n".to_owned()),
        Just("Host: x\r\n".to_owned()),
        Just("\r\n".to_owned()),
        Just("Range: bytes=".to_owned()),
        Just("If-None-Match: ".to_owned()),
        Just(TAG.to_owned()),
        "(/[a-c.%0-9]{0,4}){1,4}",
        "[0-9-]{1,4}\r\n",
        "\\PC{0,8}",
    ];
    prop::collection::vec(word, 1..20).prop_map(|words| words.concat().into_bytes())
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_how_they_are_cut_makes_no_difference(
        bytes in any_request(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let mut whole = Driver::new();
        whole.feed(&bytes);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let mut parts = Driver::new();
        let mut from = 0;
        for to in cuts.into_iter().chain([bytes.len()]) {
            parts.feed(&bytes[from..to]);
            from = to;
        }
        prop_assert_eq!(&whole.written, &parts.written);
        prop_assert_eq!(whole.closed, parts.closed);
    }

    #[test]
    fn every_range_is_the_bytes_of_the_file(range in "(bytes=)?[0-9]{0,2}-[0-9]{0,2}") {
        let answer = get("/digits", &format!("Range: {range}\r\n"));
        let digits = "0123456789";
        match status(&answer) {
            206 => {
                let said = field(&answer, "Content-Range").unwrap();
                let (from, to) =
                    said.strip_prefix("bytes ").unwrap().strip_suffix("/10").unwrap().split_once('-').unwrap();
                let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
                prop_assert_eq!(body(&answer), &digits[from..=to]);
            }
            200 => prop_assert_eq!(body(&answer), digits),
            code => prop_assert_eq!(code, 416),
        }
        let len: usize = field(&answer, "Content-Length").unwrap().parse().unwrap();
        prop_assert_eq!(len, body(&answer).len());
    }

    /// Whatever path is asked for: one spelling of one place below the top, and a redirect that stays
    /// at this site.
    #[test]
    fn paths_are_those_of_a_directory(path in "(/|%2[eEfF0]|%5[cC]|\\.|[a-b ä]|%[0-9a-f]{2}){0,12}") {
        if let Some(read) = SitePath::read(&path) {
            let parts: Vec<_> = read.as_str().split('/').collect();
            let good = |part: &&str| !part.is_empty() && *part != "." && *part != "..";
            prop_assert!(read.as_str().is_empty() || parts.iter().all(good));
            prop_assert!(!read.as_str().chars().any(|c| c.is_control() || c == '\\'));
            let location = read.folder_location();
            prop_assert!(location.starts_with('/') && location.ends_with('/'));
            prop_assert!(!location.contains("//"));
            prop_assert!(location.bytes().all(|byte| byte.is_ascii_graphic()));
            let again = SitePath::read(&location).unwrap();
            prop_assert_eq!(again.as_str(), read.as_str());
        }
    }
}
