//! HTTP on the mixed port: forms, routing, stripping, framing, limits.

use super::*;

#[test]
fn curl_through_http_connect() {
    let head = format!(
        "CONNECT {0}:443 HTTP/1.1\r\nHost: {0}:443\r\nUser-Agent: curl/7.88.1\r\n\
         Proxy-Connection: Keep-Alive\r\n\r\n",
        host()
    );
    let mut driver = Driver::new();
    driver.feed(head.as_bytes());
    assert_eq!(driver.seen.destination, to(443));
    assert_eq!(driver.seen.stream, b"");
    driver.connected();
    assert_eq!(driver.seen.replies, b"HTTP/1.1 200 Connection established\r\n\r\n");
    assert!(!driver.seen.closed);
}

#[test]
fn chromium_through_http_leaves_no_trace_of_the_proxy_or_of_other_sites() {
    let head = format!(
        "GET http://{0}/a/b?c=d HTTP/1.1\r\nHost: {0}\r\nProxy-Connection: keep-alive\r\n\
         User-Agent: Mozilla/5.0\r\nReferer: http://{1}/\r\nAccept-Encoding: gzip\r\n\
         Cookie: a=b\r\n\r\n",
        host(),
        name(2)
    );
    let mut driver = Driver::new();
    driver.feed(head.as_bytes());
    assert_eq!(driver.seen.destination, to(80));
    let want = format!(
        "GET /a/b?c=d HTTP/1.1\r\nHost: {}\r\nUser-Agent: Mozilla/5.0\r\n\
         Accept-Encoding: gzip\r\nCookie: a=b\r\nConnection: close\r\n\r\n",
        host()
    );
    assert_eq!(str::from_utf8(&driver.seen.stream).unwrap(), want);
    driver.connected();
    assert_eq!(driver.seen.replies, b"");
    assert!(!driver.seen.closed);
}

#[test]
fn a_post_passes_its_body_and_nothing_after_it() {
    let second = format!("GET http://{}/ HTTP/1.1\r\nCookie: s\r\n\r\n", name(2));
    let rest = b"hello".as_slice();
    for (framing, body) in [
        ("Content-Length: 5\r\n", rest),
        ("Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
    ] {
        let head = format!("POST http://{}:8080/ HTTP/1.1\r\n{framing}\r\n", host());
        let mut driver = Driver::new();
        driver.feed(&[head.as_bytes(), body, second.as_bytes()].concat());
        driver.feed(second.as_bytes());
        let want = format!("POST / HTTP/1.1\r\nHost: {}:8080\r\n{framing}", host());
        let want = [want.as_bytes(), b"Connection: close\r\n\r\n", body].concat();
        assert_eq!(driver.seen.stream, want);
        assert_eq!(driver.seen.destination, to(8080));
    }
}

#[test]
fn the_host_header_never_routes() {
    let head = format!("GET http://{}/ HTTP/1.1\r\nHost: {}\r\n\r\n", host(), name(2));
    let forward = seen(head.as_bytes());
    assert_eq!(forward.destination, to(80));
    assert!(!String::from_utf8(forward.stream).unwrap().contains(&name(2).to_string()));
    for line in ["GET / HTTP/1.1", "OPTIONS * HTTP/1.1", "GET //x/ HTTP/1.0"] {
        let seen = seen(format!("{line}\r\nHost: {}\r\n\r\n", host()).as_bytes());
        assert_eq!(status(&seen), 421);
        assert!(seen.replies.ends_with(b"\r\n\r\n") && seen.closed);
        assert_eq!(seen.destination, None);
    }
}

#[test]
fn proxy_authorization_isolates_and_is_stripped() {
    let with =
        |header: &str| seen(format!("GET http://{}/ HTTP/1.1\r\n{header}\r\n", host()).as_bytes());
    let (none, a) = (with(""), with("Proxy-Authorization: Basic YTpi\r\n"));
    let b = with("proxy-authorization: Basic YTpj\r\n");
    // A script can set these two, so they must not count.
    let script = with("Authorization: Basic YTpi\r\n");
    assert_ne!(none.isolation, a.isolation);
    assert_ne!(a.isolation, b.isolation);
    assert_eq!(none.isolation, script.isolation);
    assert_eq!((&none.stream, &none.stream), (&a.stream, &b.stream));
    let twice = with("Proxy-Authorization: a\r\nProxy-Authorization: b\r\n");
    assert_eq!(status(&twice), 400);
    let tunnel =
        |header: &str| seen(format!("CONNECT {}:80 HTTP/1.1\r\n{header}\r\n", host()).as_bytes());
    assert_ne!(tunnel("").isolation, tunnel("Proxy-Authorization: x\r\n").isolation);
    assert_eq!(tunnel("").isolation, none.isolation);
}

#[test]
fn hop_by_hop_and_telling_headers_do_not_reach_the_service() {
    let stripped = [
        "Connection: close, X-Secret",
        "X-Secret: 1",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Foo: bar",
        "TE: trailers",
        "Trailer: X",
        "Upgrade: websocket",
        "Via: 1.1 me",
        "Forwarded: for=10.0.0.1",
        "X-Forwarded-For: 10.0.0.1",
        "X-Forwarded-Host: a",
        "X-Real-IP: 10.0.0.1",
        "Max-Forwards: 3",
        "HTTP2-Settings: AAMAAABk",
    ];
    let kept = ["Accept: */*", "Expect: 100-continue", "Range: bytes=5-", "Content-Length: 0"];
    let all = format!("{}\r\n{}", stripped.join("\r\n"), kept.join("\r\n"));
    let head = format!("PUT http://{}/ HTTP/1.1\r\n{all}\r\n\r\n", host());
    let want = kept.join("\r\n");
    assert_eq!(
        String::from_utf8(seen(head.as_bytes()).stream).unwrap(),
        format!("PUT / HTTP/1.1\r\nHost: {}\r\n{want}\r\nConnection: close\r\n\r\n", host())
    );
}

#[test]
fn a_referer_stays_within_its_site() {
    let keeps = |referer: &str| {
        let head = format!("GET http://{}/x HTTP/1.1\r\nReferer: {referer}\r\n\r\n", host());
        String::from_utf8(seen(head.as_bytes()).stream).unwrap().contains("Referer")
    };
    assert!(keeps(&format!("http://{}/page", host())));
    assert!(keeps(&format!("http://{}:80/", host())));
    for other in [
        format!("http://{}/", name(2)),
        format!("http://{}:81/", host()),
        format!("https://{}/", host()),
        "https://example.com/".to_owned(),
        "about:blank".to_owned(),
        format!("http://{}@{}/", host(), name(2)),
    ] {
        assert!(!keeps(&other), "{other}");
    }
}

#[test]
fn requests_that_two_parsers_could_read_differently_are_refused() {
    let at = format!("http://{}/", host());
    for bad in [
        format!("POST {at} HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"),
        format!("POST {at} HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n"),
        format!("POST {at} HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n"),
        format!("POST {at} HTTP/1.1\r\nContent-Length: +5\r\n\r\n"),
        format!("POST {at} HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n"),
        format!("POST {at} HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
        format!("POST {at} HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n"),
        format!("GET {at} HTTP/1.1\r\nA: b\r\n folded\r\n\r\n"),
        format!("GET {at} HTTP/1.1\r\nA : b\r\n\r\n"),
        format!("GET {at} HTTP/1.1\r\nA: b\rc\r\n\r\n"),
        format!("GET {at} HTTP/2.0\r\n\r\n"),
        format!("GET  {at} HTTP/1.1\r\n\r\n"),
        format!("GET {at}\r\n\r\n"),
        format!("GET {at}#x HTTP/1.1\r\n\r\n"),
        format!("GET http://user@{}/ HTTP/1.1\r\n\r\n", host()),
        format!("GET http://{}@example.com/ HTTP/1.1\r\n\r\n", host()),
        format!("GET http://{}:x/ HTTP/1.1\r\n\r\n", host()),
        format!("GET https://{}/ HTTP/1.1\r\n\r\n", host()),
        format!("GET ftp://{}/ HTTP/1.1\r\n\r\n", host()),
        "GET http:/// HTTP/1.1\r\n\r\n".to_owned(),
        "GET x HTTP/1.1\r\n\r\n".to_owned(),
        format!("CONNECT {} HTTP/1.1\r\n\r\n", host()),
        format!("CONNECT {}:0 HTTP/1.1\r\n\r\n", host()),
        format!("CONNECT {at} HTTP/1.1\r\n\r\n"),
    ] {
        let seen = seen(bad.as_bytes());
        assert_eq!((seen.destination, status(&seen)), (None, 400), "{bad}");
        assert!(seen.closed);
    }
    let trace = format!("TRACE {at} HTTP/1.1\r\n\r\n");
    assert_eq!(status(&seen(trace.as_bytes())), 405);
}

#[test]
fn an_oversized_head_is_refused_and_one_of_just_the_limit_is_not() {
    let head = |pad: usize| {
        let start = format!("GET http://{}/ HTTP/1.1\r\nX: ", host());
        let pad = pad - start.len() - 4;
        format!("{start}{}\r\n\r\n", "a".repeat(pad)).into_bytes()
    };
    assert_eq!(head(HEAD_MAX).len(), HEAD_MAX);
    assert_eq!(seen(&head(HEAD_MAX)).destination, to(80));
    assert_eq!(status(&seen(&head(HEAD_MAX + 1))), 431);
    assert_eq!(status(&seen(&[b'A'; HEAD_MAX])), 431);
    let lines = format!("GET http://{}/ HTTP/1.1\r\n{}\r\n", host(), "A: b\r\n".repeat(101));
    assert_eq!(status(&seen(lines.as_bytes())), 431);
}
