//! Files on a router's own page: put at one, got at another, with nothing but forms.
//!
//! Lives here: the forms of `/files`. Does not live here: who may see the page, its limits
//! (`operation.rs`), the commands about files (`files.rs`).

use std::{fs, net::SocketAddr, time::Duration};

use harness::{
    client::exchange,
    group,
    runner::{Group, wait_for},
    scratch::Scratch,
    testnet::Router,
};

use crate::shared::standard;

pub(crate) fn group() -> Group {
    group!("own page", shares: true,
        a_file_is_put_on_one_routers_page_and_got_on_anothers,
    )
}

/// The page of a router, to somebody who entered with its link.
struct OwnPage {
    host: SocketAddr,
    cookie: String,
}

impl OwnPage {
    fn of(router: &Router) -> Self {
        let host = router.metrics;
        let link = router.command(&["page"]).success();
        let path = link.trim().strip_prefix(&format!("http://{host}")).unwrap();
        let enter = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let entered = exchange(host, &enter);
        let cookie = entered.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
        Self { host, cookie: cookie.split(';').next().unwrap().to_owned() }
    }

    fn show(&self) -> String {
        let (host, cookie) = (self.host, &self.cookie);
        let ask = format!(
            "GET /files HTTP/1.1\r\nHost: {host}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
        );
        exchange(host, &ask)
    }

    /// Sends a form, with these lines more in its head.
    fn send(&self, path: &str, head: &str, body: &str) -> String {
        let (host, len) = (self.host, body.len());
        exchange(
            host,
            &format!(
                "POST {path} HTTP/1.1\r\nHost: {host}\r\n{head}Content-Length: {len}\r\nConnection: close\r\n\r\n{body}"
            ),
        )
    }
}

fn a_file_is_put_on_one_routers_page_and_got_on_anothers() {
    let net = &standard().net;
    let (here, there) = (OwnPage::of(&net.routers[2]), OwnPage::of(&net.routers[5]));
    let text = "what somebody wrote\r\n--and more\r\n".repeat(5_000);
    let body = format!(
        "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"own page.txt\"\r\n\
         Content-Type: text/plain\r\n\r\n{text}\r\n--XX--\r\n"
    );
    let kind = "Content-Type: multipart/form-data; boundary=XX\r\n";
    let cookie = |page: &OwnPage| format!("Cookie: {}\r\n", page.cookie);
    assert!(here.send("/files/put", kind, &body).starts_with("HTTP/1.1 403"), "without the token");
    let foreign = format!("{kind}{}Origin: http://evil.example\r\n", cookie(&here));
    assert!(here.send("/files/put", &foreign, &body).starts_with("HTTP/1.1 403"));
    let begun = here.send("/files/put", &format!("{kind}{}", cookie(&here)), &body);
    assert!(begun.starts_with("HTTP/1.1 303"), "{begun}");
    let uri = wait_for(Duration::from_mins(1), "the file to be stored", || {
        let page = here.show();
        assert!(page.contains("own page.txt") && !page.contains("<script"), "{page}");
        let (_, rest) = page.split_once("<code>warren:file:")?;
        Some(format!("warren:file:{}", rest.split('<').next().unwrap()))
    });

    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let wish = |uri: &str| format!("uri={}", uri.replace(':', "%3A").replace('/', "%2F"));
    assert!(there.send("/files/get", form, &wish(&uri)).starts_with("HTTP/1.1 403"));
    let head = format!("{form}{}", cookie(&there));
    let got = there.send("/files/get", &head, &wish(&uri));
    let (answer, bytes) = got.split_once("\r\n\r\n").unwrap();
    assert!(
        answer.contains("content-disposition: attachment; filename=\"warren-file\""),
        "{answer}"
    );
    assert!(answer.contains("content-type: text/plain") && answer.contains("sandbox"), "{answer}");
    assert!(bytes == text);

    // A folder is listed, and each file of it can be had.
    let scratch = Scratch::new("page-folder");
    fs::create_dir(scratch.path().join("inner")).unwrap();
    fs::write(scratch.path().join("inner/note.md"), "# a note").unwrap();
    let path = scratch.path().display().to_string();
    let folder = net.routers[2].command(&["put", &path]).success().trim().to_owned();
    let list = there.send("/files/get", &head, &wish(&folder));
    let value = format!("value=\"{folder}/inner/note.md\"");
    assert!(list.contains(&value), "{list}");
    let got = there.send("/files/get", &head, &wish(&format!("{folder}/inner/note.md")));
    assert!(got.contains("filename=\"note.md\"") && got.ends_with("\r\n\r\n# a note"), "{got}");
    let nothing = there.send("/files/get", &head, "uri=warren%3Afile%3Aabc");
    assert!(
        nothing.starts_with("HTTP/1.1 200") && nothing.contains("p class=\"verdict\""),
        "{nothing}"
    );
}
