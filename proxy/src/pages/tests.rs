//! What holds of every page and code.

use std::fmt::Write as _;

use super::*;

fn text(failure: Failure) -> String {
    String::from_utf8(failure.response(true)).unwrap()
}

#[test]
fn the_page_that_refuses_names_outside_the_overlay() {
    insta::assert_snapshot!(text(Failure::NotOverlay).replace('\r', ""), @r#"
    HTTP/1.1 403 Forbidden
    Content-Type: text/html; charset=utf-8
    Content-Length: 1029
    Cache-Control: no-store
    Content-Security-Policy: default-src 'none'; sandbox
    Cross-Origin-Resource-Policy: same-origin
    Referrer-Policy: no-referrer
    X-Content-Type-Options: nosniff
    Connection: close

    <!doctype html>
    <html lang="en">
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width">
    <meta name="color-scheme" content="light dark">
    <title>Not a Warren name</title>
    <table role="presentation" align="center" cellpadding="24"><tr><td width="560"><font face="system-ui, sans-serif">
    <p><small>Warren &middot; 403</small></p>
    <h1>Not a Warren name</h1>
    <p>Through this proxy only names that end in .warren or .warren.alt can be reached. Everything else is refused at once: it is neither looked up nor passed on, so that nothing you do here can leak to the open network.</p>
    <p>If you meant a Warren service but a number like 192.0.2.1 arrived here, your program looked the name up by itself. Let the proxy do it: socks5h:// instead of socks5://, --socks5-hostname with curl, "remote DNS" in Firefox.</p>
    <p>For the open web use another browser or profile.</p>
    <hr>
    <p><small><a href="http://127.0.0.1:7730/" rel="noreferrer">Details on your router's own page</a></small></p>
    </font></td></tr></table>
    </html>
    "#);
}

#[test]
fn the_page_shown_while_tunnels_are_being_built() {
    insta::assert_snapshot!(text(Failure::Building).replace('\r', ""), @r#"
    HTTP/1.1 503 Service Unavailable
    Content-Type: text/html; charset=utf-8
    Content-Length: 666
    Refresh: 2
    Retry-After: 2
    Cache-Control: no-store
    Content-Security-Policy: default-src 'none'; sandbox
    Cross-Origin-Resource-Policy: same-origin
    Referrer-Policy: no-referrer
    X-Content-Type-Options: nosniff
    Connection: close

    <!doctype html>
    <html lang="en">
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width">
    <meta name="color-scheme" content="light dark">
    <title>Building tunnels</title>
    <table role="presentation" align="center" cellpadding="24"><tr><td width="560"><font face="system-ui, sans-serif">
    <p><small>Warren &middot; 503</small></p>
    <h1>Building tunnels</h1>
    <p>Your router is still building the tunnels that hide you. This takes a few seconds after it starts.</p>
    <p>This page tries again by itself.</p>
    <hr>
    <p><small><a href="http://127.0.0.1:7730/" rel="noreferrer">Details on your router's own page</a></small></p>
    </font></td></tr></table>
    </html>
    "#);
}

#[test]
fn a_misdirected_request_gets_an_empty_page() {
    insta::assert_snapshot!(text(Failure::Misdirected).replace('\r', ""), @r#"
    HTTP/1.1 421 Misdirected Request
    Content-Length: 0
    Cache-Control: no-store
    Content-Security-Policy: default-src 'none'; sandbox
    Cross-Origin-Resource-Policy: same-origin
    Referrer-Policy: no-referrer
    X-Content-Type-Options: nosniff
    Connection: close
    "#);
}

#[test]
fn every_failure_has_its_codes_and_words() {
    let mut table = String::new();
    for failure in Failure::ALL {
        let row = failure.row();
        let retry = row.retry_s.map_or(String::new(), |seconds| format!(" again in {seconds} s"));
        let (status, phrase, code, title) = (row.status, row.phrase, row.socks5, row.title);
        writeln!(table, "{failure:?}: {status} {phrase}, SOCKS 0x{code:02X}{retry}: {title}")
            .unwrap();
        for line in row.words {
            writeln!(table, "  {line}").unwrap();
        }
    }
    insta::assert_snapshot!(table, @r#"
    Building: 503 Service Unavailable, SOCKS 0x03 again in 2 s: Building tunnels
      Your router is still building the tunnels that hide you. This takes a few seconds after it starts.
      This page tries again by itself.
    Busy: 503 Service Unavailable, SOCKS 0x01 again in 10 s: Busy
      The way to this service has too much to do just now.
      This page tries again by itself.
    TooManyContexts: 429 Too Many Requests, SOCKS 0x01 again in 10 s: Too many new conversations
      Programs on this computer began conversations with too many services at once. Each gets tunnels of its own, so only some may begin each minute.
      This page tries again by itself.
    NotFound: 404 Not Found, SOCKS 0xF0: No such service now
      Nothing is published under this name. The service is offline, has moved, or the name is not quite right.
      Compare every character of the name with where you got it from, or try later.
    BadDescriptor: 502 Bad Gateway, SOCKS 0xF1: Unusable description
      What is published under this name is not usable: damaged, out of date, or made by a newer version.
      Only the owner of the service can mend that. Try later.
    NoGateway: 502 Bad Gateway, SOCKS 0xF2: Service not connected
      The service published where it can be met, but is not there now.
      It has probably just stopped or lost its connection. Try again in a minute.
    NoSession: 502 Bad Gateway, SOCKS 0xF3: No conversation came about
      The service was reached, but no secured conversation with it came about.
      Try again. If it stays so, its owner has to look into it.
    NeedsAuthorization: 403 Forbidden, SOCKS 0xF4: For known visitors only
      This service lets in only visitors whose key its owner has added, and your router has no key for it.
      Ask the owner for access.
    WrongAuthorization: 403 Forbidden, SOCKS 0xF5: Key not accepted
      This service does not accept the key that your router has for it.
      Ask the owner for a new one.
    TimedOut: 504 Gateway Timeout, SOCKS 0xF7: No answer in time
      The service did not answer in time. It may be overloaded, or a part of the way to it is slow.
      Try again.
    PortRefused: 502 Bad Gateway, SOCKS 0x05: Nothing at this port
      The service is there, but answers nothing at this port.
      Check the port in the address, or ask the owner.
    Broken: 502 Bad Gateway, SOCKS 0x04: Connection lost
      The way to the service broke before it answered.
      Try again.
    BadAnswer: 502 Bad Gateway, SOCKS 0x01: Unusable answer
      What the service sent is not a proper answer to a web request.
      Perhaps something other than a web server is at this port. Otherwise its owner has to look into it.
    Internal: 500 Internal Server Error, SOCKS 0x01: A fault of your router
      Your router failed at something that should have worked.
      The details help whoever mends it.
    NotOverlay: 403 Forbidden, SOCKS 0x02: Not a Warren name
      Through this proxy only names that end in .warren or .warren.alt can be reached. Everything else is refused at once: it is neither looked up nor passed on, so that nothing you do here can leak to the open network.
      If you meant a Warren service but a number like 192.0.2.1 arrived here, your program looked the name up by itself. Let the proxy do it: socks5h:// instead of socks5://, --socks5-hostname with curl, "remote DNS" in Firefox.
      For the open web use another browser or profile.
    BadName: 400 Bad Request, SOCKS 0xF6: Mistyped name
      This ends like a Warren name, but is none: 56 letters and digits, the last of which check the others, come before .warren.
      Compare it with where you got it from. Nothing was looked up.
    BadScheme: 400 Bad Request, SOCKS 0x01: Only http:// here
      This proxy takes http:// addresses, and CONNECT for everything else.
      Warren already encrypts from your router to the service: http:// is right.
    BadMethod: 405 Method Not Allowed, SOCKS 0x01: Method not allowed
      This method is not passed on, because it would give back to a page what it must not see.
    Misdirected: 421 Misdirected Request, SOCKS 0x01: Misdirected
    Malformed: 400 Bad Request, SOCKS 0x01: Not understood
      What your program sent is not a proper request to a proxy.
    TooLarge: 431 Request Header Fields Too Large, SOCKS 0x01: Too large
      The head of the request is over 16 KiB or 100 lines.
      Deleting this site's cookies often helps.
    Slow: 408 Request Timeout, SOCKS 0x01: Request not finished
      Your program began a request and did not finish it within 10 seconds.
    BadCommand: 501 Not Implemented, SOCKS 0x07: Command not supported
      Only outgoing byte streams are possible.
    BadAddressKind: 400 Bad Request, SOCKS 0x08: Address kind unknown
      This kind of address does not exist.
    NoSite: 404 Not Found, SOCKS 0xF0: No such site
      No site is stored under this name: it was never published, has run out, or the name is not quite right.
      Compare every character of the name with where you got it from.
    BadSite: 502 Bad Gateway, SOCKS 0xF1: Unusable site
      What is stored under this name is not usable: damaged, made by a newer version, or older than what you have read before.
      Only the owner of the site can mend that. Try later.
    Forked: 502 Bad Gateway, SOCKS 0xF1: Published twice
      The key of this site signed two different things as its newest version, and nothing says which one is meant. So neither is shown.
      Its owner ends this by publishing again; or somebody else has the key.
    Incomplete: 502 Bad Gateway, SOCKS 0x04: Not all of it is left
      Too many pieces of this could not be found. The routers that keep them may be away for a while, or the pieces are lost.
      Try again later.
    NoPage: 404 Not Found, SOCKS 0x01: No such page
      This site has nothing at this address.
    ReadOnly: 405 Method Not Allowed, SOCKS 0x01: Only to be read
      This site is stored: it can be read, and nothing can be sent to it.
    BadRange: 416 Range Not Satisfiable, SOCKS 0x01: No such part
      The file does not have the bytes that your program asked for.
    Changed: 412 Precondition Failed, SOCKS 0x01: Changed meanwhile
      This file is not the one that your program has a part of.
    "#);
}

#[test]
fn every_page_says_only_what_the_site_may_know() {
    for failure in Failure::ALL {
        let page = text(failure);
        assert_eq!(page, text(failure));
        let (head, body) = page.split_once("\r\n\r\n").unwrap();
        let head = head.to_ascii_lowercase();
        assert!(head.contains("\r\ncache-control: no-store\r\n"));
        assert!(head.contains("\r\ncontent-security-policy: default-src 'none'; sandbox\r\n"));
        assert!(head.contains("\r\nreferrer-policy: no-referrer\r\n"));
        assert!(head.ends_with("\r\nconnection: close"));
        assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())));
        for absent in ["access-control", "date:", "server:", "set-cookie", "warren/"] {
            assert!(!head.contains(absent), "{absent} in {failure:?}");
        }
        for absent in ["<script", "<style", "style=", "<img", "onload", "http-equiv"] {
            assert!(!body.contains(absent), "{absent} in {failure:?}");
        }
        assert!(body.is_empty() || body.contains("http://127.0.0.1:7730/"));
    }
}

#[test]
fn an_answer_to_head_has_the_length_and_no_body() {
    for failure in Failure::ALL {
        let (with, without) = (failure.response(true), failure.response(false));
        assert!(with.starts_with(&without));
        assert!(without.ends_with(b"\r\n\r\n"));
    }
}

#[test]
fn all_holds_every_failure_once() {
    for (index, failure) in Failure::ALL.into_iter().enumerate() {
        assert_eq!(failure as usize, index);
    }
}

#[test]
fn only_what_passes_by_itself_is_tried_again() {
    for failure in Failure::ALL {
        let refreshes = text(failure).contains("\r\nRefresh: ");
        let says_so = text(failure).contains("tries again by itself");
        assert_eq!(refreshes, says_so, "{failure:?}");
        assert_eq!(refreshes, matches!(failure.status(), 503 | 429), "{failure:?}");
    }
}
