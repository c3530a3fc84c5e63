//! Clients that others wrote, fetching from plain web servers behind hidden services.
//!
//! Lives here: curl over every protocol of the mixed port, git. Does not live here: measuring.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use harness::{
    binary::finish,
    client::Via,
    curl::curl,
    group,
    origin::bytes,
    runner::{Group, figure, skip, wait_for},
};

use crate::shared::{ORIGIN, PAGE_LEN, PYTHON, Standard, standard};

pub(crate) fn group() -> Group {
    group!("clients", shares: true,
        curl_over_socks5_gets_the_file_that_python_serves,
        curl_over_socks4a_gets_the_file_that_python_serves,
        curl_over_an_http_proxy_gets_the_file_that_python_serves,
        curl_over_http_connect_gets_the_file_that_python_serves,
        the_alias_under_warren_alt_is_the_same_service,
        a_head_request_brings_headers_and_no_body,
        a_post_carries_its_body_there_and_the_answer_back,
        a_page_that_is_not_there_is_the_servers_own_404,
        git_clones_over_socks5,
        a_name_that_nobody_publishes_is_refused_with_words,
        one_more_client_joins_and_prints_the_milliseconds_to_its_first_page,
    )
}

fn url(shared: &Standard, path: &str) -> String {
    format!("http://{}{path}", shared.net.services[PYTHON].name)
}

/// Runs curl with `proxy` and compares what it wrote with what python serves.
fn fetch_page(proxy: &[&str]) {
    let shared = standard();
    let out = shared.net.scratch().join("out");
    let _ = fs::remove_file(&out);
    let url = url(&shared, "/page");
    let start = Instant::now();
    let mut args = proxy.to_vec();
    args.extend(["--fail", "--output", out.to_str().unwrap(), &url]);
    curl(args).success();
    let took = start.elapsed();
    let got = fs::read(&out).unwrap();
    assert_eq!(got.len(), PAGE_LEN);
    assert!(got == bytes(PAGE_LEN), "the file arrived changed");
    figure(&format!("{} to 1 MiB, ms", proxy[0]), took.as_millis());
}

fn proxy() -> SocketAddr {
    standard().net.client().proxy
}

fn curl_over_socks5_gets_the_file_that_python_serves() {
    fetch_page(&["--socks5-hostname", &proxy().to_string()]);
}

fn curl_over_socks4a_gets_the_file_that_python_serves() {
    fetch_page(&["--proxy", &format!("socks4a://{}", proxy())]);
}

fn curl_over_an_http_proxy_gets_the_file_that_python_serves() {
    fetch_page(&["--proxy", &format!("http://{}", proxy())]);
}

fn curl_over_http_connect_gets_the_file_that_python_serves() {
    fetch_page(&["--proxytunnel", "--proxy", &format!("http://{}", proxy())]);
}

fn the_alias_under_warren_alt_is_the_same_service() {
    let shared = standard();
    let url = format!("http://{}.alt/page", shared.net.services[PYTHON].name);
    let proxy = proxy().to_string();
    let text = curl(["--socks5-hostname", &proxy, "--fail", "--head", &url]).success();
    assert!(text.contains(&format!("Content-Length: {PAGE_LEN}")), "{text}");
}

fn a_head_request_brings_headers_and_no_body() {
    let shared = standard();
    for way in ["socks5h://", "http://"] {
        let proxy = format!("{way}{}", proxy());
        let text = curl(["--proxy", &proxy, "--head", "--fail", &url(&shared, "/page")]).success();
        assert!(text.starts_with("HTTP/1."), "{text}");
        assert!(text.contains(&format!("Content-Length: {PAGE_LEN}")), "{text}");
    }
}

fn a_post_carries_its_body_there_and_the_answer_back() {
    let shared = standard();
    let sent = bytes(300_000);
    let file = shared.net.scratch().write("post", &sent);
    let out = shared.net.scratch().join("posted");
    let url = format!("http://{}/echo", shared.net.services[ORIGIN].name);
    for way in ["socks5h://", "socks4a://", "http://"] {
        let _ = fs::remove_file(&out);
        let proxy = format!("{way}{}", proxy());
        let data = format!("@{}", file.display());
        let out = out.to_str().unwrap();
        curl(["--proxy", &proxy, "--fail", "--data-binary", &data, "--output", out, &url])
            .success();
        assert!(fs::read(out).unwrap() == sent, "over {way} the body came back changed");
    }
}

fn a_page_that_is_not_there_is_the_servers_own_404() {
    let shared = standard();
    let proxy = proxy().to_string();
    let code = ["--output", "/dev/null", "--write-out", "%{http_code}"];
    let mut args = vec!["--socks5-hostname", proxy.as_str()];
    args.extend(code);
    let missing = url(&shared, "/no-such-page");
    args.push(&missing);
    assert_eq!(curl(args).success(), "404");
}

fn git(dir: &Path, args: &[&str]) {
    let mut command = Command::new("git");
    command
        .args(["-c", "user.name=n", "-c", "user.email=e", "-c", "init.defaultBranch=main"])
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0");
    finish(&mut command).success();
}

fn git_clones_over_socks5() {
    if Command::new("git").arg("--version").output().is_err() {
        skip("git is not installed");
    }
    let shared: Arc<Standard> = standard();
    let scratch = shared.net.scratch();
    let work = scratch.join("work");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work).unwrap();
    git(&work, &["init", "--quiet"]);
    for n in 0..20 {
        fs::write(work.join(format!("file-{n}")), bytes(1_000 * (n + 1))).unwrap();
        git(&work, &["add", "."]);
        git(&work, &["commit", "--quiet", "--message", &format!("commit {n}")]);
    }
    let bare = shared.files.join("repo.git");
    let _ = fs::remove_dir_all(&bare);
    git(&work, &["clone", "--quiet", "--bare", ".", bare.to_str().unwrap()]);
    git(&bare, &["update-server-info"]);

    let clone = scratch.join("clone");
    let _ = fs::remove_dir_all(&clone);
    let start = Instant::now();
    let through = format!("http.proxy=socks5h://{}", proxy());
    let from = url(&shared, "/repo.git");
    git(scratch.path(), &["-c", &through, "clone", "--quiet", &from, clone.to_str().unwrap()]);
    figure("git clone of 20 commits, ms", start.elapsed().as_millis());
    for n in 0..20 {
        assert!(fs::read(clone.join(format!("file-{n}"))).unwrap() == bytes(1_000 * (n + 1)));
    }
    git(&clone, &["fsck", "--strict"]);
}

fn a_name_that_nobody_publishes_is_refused_with_words() {
    // A well-formed name: that of a service withdrawn at once would do, but this one is known never
    // to have been in this network.
    let host = standard();
    let proxy = format!("http://{}", proxy());
    let target = host.origin.address.to_string();
    let name = host
        .net
        .host()
        .command(&["expose", &target, "--label", "gone"])
        .success()
        .trim()
        .to_owned();
    // A client that is in the middle of something when the service is withdrawn.
    let old = Via::new(self::proxy(), &name).context("old client");
    // Who asks earlier may be told for a while that there is none.
    wait_for(Duration::from_mins(1), "the service to be published", || {
        let all = host.net.host().command(&["services", "--json"]).success();
        let all: serde_json::Value = serde_json::from_str(&all).unwrap();
        let gone = all.as_array().unwrap().iter().find(|service| service["label"] == "gone");
        gone.and_then(|service| service["published"].as_bool()).filter(|published| *published)
    });
    let started = std::sync::mpsc::channel();
    let busy = thread::spawn(move || {
        let mut first = Some(started.0);
        let progress = |_| {
            if let Some(sender) = first.take() {
                sender.send(()).unwrap();
            }
        };
        let result = old.verify_path("/b/20000000000", 20_000_000_000, progress);
        (result, Instant::now())
    });
    started.1.recv().unwrap();
    let withdrawn = Instant::now();
    host.net.host().command(&["unexpose", "gone"]).success();
    let (result, over) = busy.join().unwrap();
    assert!(result.is_err(), "it cannot have got everything");
    figure("withdrawn service: old stream over after, ms", (over - withdrawn).as_millis());
    assert!(over - withdrawn < Duration::from_secs(15), "{:?}", over - withdrawn);
    let page = format!("http://{name}/");
    let code = ["--output", "/dev/null", "--write-out", "%{http_code}"];
    let mut args = vec!["--proxy", proxy.as_str()];
    args.extend(code);
    args.push(&page);
    let start = Instant::now();
    let code = curl(args).success();
    figure("withdrawn service refused after, ms", start.elapsed().as_millis());
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    assert_eq!(code, "404", "its own word is that it is no more");
    // One that never was: a mistyped letter is caught by the name's checksum before anything is asked.
    let mut mistyped = host.net.services[PYTHON].name.clone().into_bytes();
    mistyped[10] = if mistyped[10] == b'a' { b'b' } else { b'a' };
    let page = format!("http://{}/", String::from_utf8(mistyped).unwrap());
    let start = Instant::now();
    let code =
        curl(["--proxy", &proxy, "--output", "/dev/null", "--write-out", "%{http_code}", &page])
            .success();
    assert_eq!(code, "400");
    assert!(start.elapsed() < Duration::from_secs(5));
}

fn one_more_client_joins_and_prints_the_milliseconds_to_its_first_page() {
    let shared = standard();
    let dir = shared.net.dir().display().to_string();
    let text = harness::binary::run(["testnet", "join", &dir]).success();
    let millis: u64 = text.trim().parse().unwrap_or_else(|_| panic!("no milliseconds: {text:?}"));
    figure("a new client's first page, ms", millis);
    assert!(millis > 0);
    let net = fs::read_to_string(shared.net.dir().join("net.json")).unwrap();
    let net: serde_json::Value = serde_json::from_str(&net).unwrap();
    assert_eq!(net["routers"].as_array().unwrap().len(), 13, "net.json names it too");
}
