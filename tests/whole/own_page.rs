//! A router's own page as it is used: files put at one and got at another, limits changed, with nothing
//! but forms.
//!
//! Lives here: the forms, by hand and in a browser. Does not live here: who may see the page and send
//! them (`operation.rs`), the commands about files (`files.rs`).

use std::{fs, net::SocketAddr, time::Duration};

use harness::{
    browser::{self, Browser},
    client::exchange,
    group,
    runner::{Group, skip_extra, wait_for},
    scratch::Scratch,
    testnet::Router,
};

use crate::shared::standard;

pub(crate) fn group() -> Group {
    group!("own page", shares: true,
        a_file_is_put_on_one_routers_page_and_got_on_anothers,
        a_person_with_a_browser_puts_and_gets_a_file_and_changes_limits_without_script,
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

/// Keeps a picture of the page where `WARREN_PICTURES` names a folder, to be looked at.
fn picture(browser: &mut Browser, name: &str) {
    let png = browser.picture();
    assert!(png.starts_with(b"\x89PNG"));
    if let Some(folder) = std::env::var_os("WARREN_PICTURES") {
        fs::write(std::path::Path::new(&folder).join(name), png).unwrap();
    }
}

fn a_person_with_a_browser_puts_and_gets_a_file_and_changes_limits_without_script() {
    if !browser::is_installed() {
        skip_extra("no Chromium here: `apt-get install chromium`, and run this test again");
    }
    let net = &standard().net;
    let (here, there) = (&net.routers[3], &net.routers[6]);
    let scratch = Scratch::new("person");
    let text = "what a person wrote\n".repeat(10_000);
    let file = scratch.write("letter.txt", text.as_bytes());

    // With the token in the form, as whoever does not have the link.
    let mut browser = Browser::start();
    browser.open(&format!("http://{}/", here.metrics));
    let token = fs::read_to_string(here.dir.join("api.token")).unwrap();
    browser.fill("#token", token.trim());
    browser.click("form[action='/login'] button");
    browser.wait_for("Neighbours");
    picture(&mut browser, "page.png");
    browser.click("a[href='/files']");
    browser.choose("#file", &file);
    browser.click("form[action='/files/put'] button");
    let page = browser.wait_for("<code>warren:file:");
    assert!(page.contains("letter.txt"), "{page}");
    let (_, key) = page.split_once("<code>warren:file:").unwrap();
    let key = format!("warren:file:{}", key.split('<').next().unwrap());
    picture(&mut browser, "files.png");

    // Elsewhere, with the link that the command prints.
    browser.open(there.command(&["page"]).success().trim());
    browser.click("a[href='/files']");
    browser.fill("#uri", "warren:file:nonsense");
    browser.click("form[action='/files/get'] button");
    browser.wait_for("class=\"verdict\"");
    browser.fill("#uri", &key);
    browser.click("form[action='/files/get'] button");
    assert!(browser.saved("warren-file") == text.as_bytes(), "another file");

    let limit = || there.status().unwrap()["month_limit_mib"].as_u64().unwrap();
    for gib in [7_000, 0] {
        browser.open(&format!("http://{}/limits", there.metrics));
        browser.fill("#monthly_gib", &gib.to_string());
        picture(&mut browser, "limits.png");
        browser.click("form[action='/limits'] button");
        wait_for(Duration::from_secs(30), "the limit to hold", || {
            (limit() == gib << 10).then_some(())
        });
    }
    browser.open(&format!("http://{}/limits", there.metrics));
    browser.fill("#bandwidth_kbps", "9");
    browser.click("form[action='/limits'] button");
    browser.wait_for("64 or more");
}
