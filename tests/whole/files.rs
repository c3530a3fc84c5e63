//! Stored files, with real routers on real disks: put here, got there, the publisher gone.
//!
//! Lives here: what the commands about files do. Does not live here: how fast (`docs/performance.md`
//! and `scripts/store_path.sh`), networks on a virtual clock (`sim/tests/files.rs`).

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use harness::{
    binary::warren,
    client::exchange,
    group,
    origin::bytes,
    runner::{Group, wait_for},
    scratch::Scratch,
    testnet::{Router, Testnet},
};

use crate::shared::standard;

pub(crate) fn group() -> Group {
    group!("files", shares: true,
        a_folder_comes_back_whole_or_in_part,
        standard_input_goes_in_and_standard_output_comes_out,
        contexts_share_no_key_and_dedup_shares_all,
        a_get_goes_on_where_it_was_interrupted,
        a_folder_goes_on_with_the_files_that_are_not_there_yet,
        what_was_fetched_once_is_read_again_without_asking_anybody,
        a_key_that_only_checks_checks_and_heals,
        a_file_is_put_on_one_routers_page_and_got_on_anothers,
    )
}

/// Those that kill routers.
pub(crate) fn outliving() -> Group {
    group!("files that outlive", shares: false,
        a_file_is_got_elsewhere_after_its_publisher_was_killed,
        what_nobody_stored_is_not_found_and_says_how_many_were_asked,
        a_put_goes_on_after_its_router_was_killed,
        what_is_pinned_outlives_its_network_and_a_restart_and_comes_back_to_others,
        a_bundle_carries_files_to_a_network_that_never_met_the_first,
        a_put_that_is_cancelled_ends_and_leaves_nothing_to_go_on_with,
    )
}

/// A network of 12 without services, whose routers can be killed.
fn network() -> Testnet {
    Testnet::up(12, &[])
}

fn put(router: &Router, path: &Path, more: &[&str]) -> String {
    let path = path.display().to_string();
    let ended = router.command(&[&["put", &path], more].concat());
    let uri = ended.success().trim().to_owned();
    assert!(uri.starts_with("warren:") && !uri.contains(char::is_whitespace), "{uri}");
    uri
}

/// Gets to a new path.
fn get(router: &Router, uri: &str, out: &Path) {
    router.command(&["get", uri, "-o", &out.display().to_string()]).success();
}

fn a_file_is_got_elsewhere_after_its_publisher_was_killed() {
    let mut net = network();
    for (name, len) in [("small", 1_000), ("one", 1 << 20), ("seven", 7_654_321)] {
        let file = net.scratch().write(name, &bytes(len));
        let uri = put(&net.routers[3], &file, &[]);
        let again = net.scratch().join(format!("{name}.back"));
        if name == "seven" {
            net.routers[3].signal("KILL");
        }
        get(&net.routers[9], &uri, &again);
        assert!(fs::read(&again).unwrap() == bytes(len), "{name}");
    }
}

fn a_folder_comes_back_whole_or_in_part() {
    let standard = standard();
    let net = &standard.net;
    let scratch = Scratch::new("got");
    let folder = scratch.join("folder");
    let files: [(&str, usize); 6] = [
        ("index.html", 700),
        ("empty", 0),
        ("docs/a.txt", 90_000),
        ("docs/deep/er/b.png", 300_000),
        ("large.bin", 2_500_000),
        ("docs/c.css", 33_000),
    ];
    for (path, len) in files {
        scratch.write(format!("folder/{path}"), &bytes(len));
    }
    let uri = put(&net.routers[2], &folder, &[]);
    assert!(uri.starts_with("warren:dir:"));
    let out = scratch.join("out");
    get(&net.routers[8], &uri, &out);
    for (path, len) in files {
        assert!(fs::read(out.join(path)).unwrap() == bytes(len), "{path}");
    }
    let list = net.routers[8].command(&["ls", &uri]).success();
    assert_eq!(list.lines().count(), files.len(), "{list}");
    assert!(list.contains("text/html") && list.contains("docs/deep/er/b.png"), "{list}");
    let one = scratch.join("one");
    get(&net.routers[8], &format!("{uri}/docs/a.txt"), &one);
    assert!(fs::read(&one).unwrap() == bytes(90_000));
    let docs = scratch.join("docs");
    get(&net.routers[8], &format!("{uri}/docs"), &docs);
    assert!(fs::read(docs.join("docs/c.css")).unwrap() == bytes(33_000));
    assert!(!docs.join("index.html").exists());
    let ended = net.routers[8].command(&["cat", &uri]);
    assert!(!ended.status.success() && ended.stderr.contains("warren ls"), "{}", ended.stderr);
}

fn what_nobody_stored_is_not_found_and_says_how_many_were_asked() {
    let (net, other) = (network(), network());
    let file = other.scratch().write("file", b"only there");
    let uri = put(&other.routers[0], &file, &[]);
    let out = net.scratch().join("out");
    let ended = net.routers[4].command(&["get", &uri, "-o", &out.display().to_string()]);
    assert_eq!(ended.code(), 4, "{}", ended.stderr);
    let words = "routers, reached the place where it would be";
    assert!(ended.stderr.contains("not found: asked ") && ended.stderr.contains(words));
    assert!(!out.exists());
    let ended = net.routers[4].command(&["get", &uri[..uri.len() - 1]]);
    assert_eq!(ended.code(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("the key is"), "{}", ended.stderr);
}

fn standard_input_goes_in_and_standard_output_comes_out() {
    let standard = standard();
    let net = &standard.net;
    let mut child = Command::new(warren())
        .args(["put", "-", "--dir"])
        .arg(&net.routers[1].dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&bytes(200_001)).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success());
    let uri = String::from_utf8(ended.stdout).unwrap().trim().to_owned();
    let ended = Command::new(warren())
        .args(["cat", &uri, "--dir"])
        .arg(&net.routers[7].dir)
        .output()
        .unwrap();
    assert!(ended.status.success() && ended.stdout == bytes(200_001));
    let left = fs::read_dir(&net.routers[1].dir).unwrap().flatten();
    let spools = left.filter(|entry| entry.file_name().to_string_lossy().starts_with("spool"));
    assert_eq!(spools.count(), 0, "nothing of the input stays on the disk");
}

fn contexts_share_no_key_and_dedup_shares_all() {
    let standard = standard();
    let net = &standard.net;
    let scratch = Scratch::new("got");
    let file = scratch.write("file", &bytes(5_000));
    let [one, two] = [&net.routers[1], &net.routers[2]];
    let plain = put(one, &file, &[]);
    assert_eq!(plain, put(one, &file, &[]), "the same context makes the same key");
    let mut keys = vec![plain, put(two, &file, &[]), put(one, &file, &["--as", "blog"])];
    keys.push(put(one, &file, &["--random-key"]));
    keys.push(put(one, &file, &["--random-key"]));
    let dedup = put(one, &file, &["--dedup"]);
    assert_eq!(dedup, put(two, &file, &["--dedup"]));
    keys.push(dedup);
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 6);
    let ended = one.command(&["put", &file.display().to_string(), "--as", "../x"]);
    assert_eq!(ended.code(), 6, "{}", ended.stderr);
}

fn a_put_goes_on_after_its_router_was_killed() {
    let mut net = network();
    let len = 24 << 20;
    let file = net.scratch().write("file", &bytes(len));
    let mut child = Command::new(warren())
        .args(["put", "--json"])
        .arg(&file)
        .arg("--dir")
        .arg(&net.routers[5].dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let kept = net.routers[5].dir.join("transfers");
    wait_for(Duration::from_mins(1), "the put to be noted", || {
        fs::read_dir(&kept).ok().and_then(|mut entries| entries.next()).map(drop)
    });
    net.routers[5].signal("KILL");
    let _ = child.wait();
    net.routers[5].restart(Duration::from_mins(1));
    // It goes on by itself; the same command joins it.
    let uri = put(&net.routers[5], &file, &[]);
    wait_for(Duration::from_secs(10), "nothing to be left over", || {
        fs::read_dir(&kept).unwrap().next().is_none().then_some(())
    });
    let out = net.scratch().join("out");
    get(&net.routers[10], &uri, &out);
    assert!(fs::read(&out).unwrap() == bytes(len));
}

fn what_is_pinned_outlives_its_network_and_a_restart_and_comes_back_to_others() {
    let mut net = network();
    let folder = net.scratch().join("folder");
    let len = 2 << 20;
    net.scratch().write("folder/large", &bytes(len));
    net.scratch().write("folder/docs/a", &bytes(5_000));
    let uri = put(&net.routers[0], &folder, &[]);
    let other = put(&net.routers[0], &net.scratch().write("other", &bytes(100_000)), &[]);
    let keeper = 4;
    let pinned = |net: &Testnet| net.routers[keeper].command(&["pins", "--json"]).json();
    for uri in [&uri, &other] {
        let done = net.routers[keeper].command(&["pin", uri, "--json"]).json();
        assert_eq!((&done["done"], &done["lost"]), (&true.into(), &0.into()), "{done}");
    }
    let list = pinned(&net);
    let blocks = |list: &serde_json::Value, at: usize| list["pins"][at]["blocks"].as_u64().unwrap();
    assert!(blocks(&list, 0) > 64 + 32 && blocks(&list, 1) > 4, "{list}");
    // Pinned once more is pinned once; what it shares with nothing goes with it.
    net.routers[keeper].command(&["pin", &other]).success();
    let gone = net.routers[keeper].command(&["unpin", &other, "--json"]).json();
    assert_eq!(gone["blocks"].as_u64(), Some(blocks(&list, 1)));
    assert_eq!(net.routers[keeper].command(&["unpin", &other]).code(), 4);
    assert_eq!(pinned(&net)["pins"].as_array().unwrap().len(), 1);

    // Nobody else has it any more, and the router was killed.
    for (at, router) in net.routers.iter_mut().enumerate() {
        router.signal("KILL");
        wait_for(Duration::from_secs(10), "a router to be gone", || {
            (!router.is_running()).then_some(())
        });
        if at != keeper {
            fs::remove_dir_all(router.dir.join("blocks")).unwrap();
        }
    }
    let starts: Vec<_> = net.routers.iter_mut().map(Router::start_again).collect();
    for (router, start) in net.routers.iter().zip(starts) {
        router.ready_again(Duration::from_mins(2), start);
    }
    let out = net.scratch().join("out");
    let mine = net.scratch().join("mine");
    let words = mine.display().to_string();
    let ended = net.routers[keeper].command(&["get", &uri, "-o", &words, "--json"]);
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(fs::read(mine.join("large")).unwrap() == bytes(len));
    assert_eq!(most(&ended.stderr, "routers"), 0, "nobody was asked: {}", ended.stderr);
    // What the network lost is put back when that is asked for, and each day.
    let done = net.routers[keeper].command(&["pin", &uri, "--renew", "--json"]).json();
    assert_eq!((&done["done"], &done["lost"]), (&true.into(), &0.into()), "{done}");
    get(&net.routers[9], &uri, &out);
    assert!(fs::read(out.join("large")).unwrap() == bytes(len));
}

fn a_bundle_carries_files_to_a_network_that_never_met_the_first() {
    let (net, other) = (network(), network());
    let scratch = Scratch::new("bundle");
    let (len, folder) = (3 << 20, scratch.join("folder"));
    scratch.write("folder/large", &bytes(len));
    scratch.write("folder/index.html", b"<h1>carried</h1>");
    let uri = put(&net.routers[0], &folder, &[]);
    let site = net.routers[0].command(&["site", "publish", &folder.display().to_string()]);
    let site = site.success().trim().to_owned();
    let stick = scratch.join("stick").display().to_string();
    let export = ["bundle", "export", &uri, &site, "-o", &stick, "--json"];
    let made = net.routers[3].command(&export).json();
    let blocks = made["blocks"].as_u64().unwrap();
    assert!(blocks > 2 * 96 && made["records"].as_u64().unwrap() >= 2, "{made}");
    assert_eq!(made["bytes"].as_u64(), Some(fs::metadata(&stick).unwrap().len()));

    let import =
        |router: &Router, path: &str| router.command(&["bundle", "import", path, "--json"]);
    // In its own network all of it is good.
    let took = import(&net.routers[5], &stick).json();
    assert_eq!((took["stored"].as_u64(), &took["damaged"]), (Some(blocks), &0.into()), "{took}");
    assert_eq!((&took["records"], &took["foreign"]), (&made["records"], &false.into()), "{took}");
    // In another one files are, and no signature is.
    let took = import(&other.routers[5], &stick).json();
    assert_eq!(took["stored"].as_u64(), Some(blocks), "{took}");
    assert_eq!((&took["damaged"], &took["foreign"]), (&made["records"], &true.into()), "{took}");
    let out = scratch.join("out");
    get(&other.routers[9], &uri, &out);
    assert!(fs::read(out.join("large")).unwrap() == bytes(len));

    // A stick with a bad sector, and one that was pulled out.
    let mut bad = fs::read(&stick).unwrap();
    bad[700_000] ^= 1;
    let path = scratch.write("bad", &bad).display().to_string();
    let ended = import(&net.routers[5], &path);
    assert_eq!(ended.code(), 7, "{}", ended.stderr);
    assert!(ended.stdout.contains("\"damaged\":1"), "{}", ended.stdout);
    bad.truncate(900_000);
    let path = scratch.write("cut", &bad).display().to_string();
    let ended = import(&net.routers[5], &path);
    assert_eq!(ended.code(), 7, "{}", ended.stderr);
    assert!(ended.stderr.contains("cut off"), "{}", ended.stderr);
    let ended = import(&net.routers[5], &scratch.write("none", b"no bundle").display().to_string());
    assert_eq!(ended.code(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("no bundle"), "{}", ended.stderr);
}

fn a_put_that_is_cancelled_ends_and_leaves_nothing_to_go_on_with() {
    let net = network();
    let file = net.scratch().write("file", &bytes(200 << 20)).display().to_string();
    let router = &net.routers[5];
    let mut child = Command::new(warren())
        .args(["put", &file, "--dir"])
        .arg(&router.dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let kept = router.dir.join("transfers");
    wait_for(Duration::from_mins(1), "the put to be noted", || {
        fs::read_dir(&kept).ok().and_then(|mut entries| entries.next()).map(drop)
    });
    let puts = router.command(&["puts", "--json"]).json();
    assert_eq!(puts[0]["request"]["path"], file);
    let number = puts[0]["number"].to_string();
    assert!(router.command(&["puts"]).success().contains(&file));
    router.command(&["puts", "--cancel", &number]).success();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(router.command(&["puts"]).success(), "");
    assert!(fs::read_dir(&kept).unwrap().next().is_none());
    assert_eq!(router.command(&["puts", "--cancel", &number]).code(), 4);
}

fn a_get_goes_on_where_it_was_interrupted() {
    let standard = standard();
    let net = &standard.net;
    let scratch = Scratch::new("got");
    let len = 5 << 20;
    let file = scratch.write("file", &bytes(len));
    let uri = put(&net.routers[0], &file, &[]);
    let out = scratch.join("out");
    // What an interrupted command leaves: the first bytes under a name of its own.
    let letters = &uri[uri.len() - 8..];
    let part = scratch.write(format!(".out.warren-{letters}"), &bytes(len)[..3 << 20]);
    let get = ["get", &uri, "-o", &out.display().to_string(), "--json"];
    let ended = net.routers[6].command(&get);
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(fs::read(&out).unwrap() == bytes(len) && !part.exists());
    let found = most(&ended.stderr, "found");
    assert!((1..120).contains(&found), "only the rest was fetched: {}", ended.stderr);
}

/// The most that the news say of something.
fn most(news: &str, what: &str) -> u64 {
    let of = |line| serde_json::from_str::<serde_json::Value>(line).ok()?[what].as_u64();
    news.lines().filter_map(of).max().unwrap_or(0)
}

fn a_folder_goes_on_with_the_files_that_are_not_there_yet() {
    let standard = standard();
    let net = &standard.net;
    let scratch = Scratch::new("got");
    scratch.write("folder/docs/a", &bytes(300_000));
    scratch.write("folder/b", &bytes(1_000));
    let uri = put(&net.routers[0], &scratch.join("folder"), &[]);
    let letters = &uri[uri.len() - 8..];
    // Not what the folder holds, so that it shows which of the two was taken.
    scratch.write(format!(".out.warren-{letters}/docs/a"), b"came before");
    let out = scratch.join("out");
    get(&net.routers[6], &uri, &out);
    assert_eq!(fs::read(out.join("docs/a")).unwrap(), b"came before");
    assert!(fs::read(out.join("b")).unwrap() == bytes(1_000));
}

fn what_was_fetched_once_is_read_again_without_asking_anybody() {
    let standard = standard();
    let net = &standard.net;
    let scratch = Scratch::new("got");
    let file = scratch.write("file", &bytes(3 << 20));
    let uri = put(&net.routers[0], &file, &[]);
    let asked = ["once", "again"].map(|name| {
        let out = scratch.join(name);
        let get = ["get", &uri, "-o", &out.display().to_string(), "--json"];
        let ended = net.routers[7].command(&get);
        assert!(ended.status.success(), "{}", ended.stderr);
        assert!(fs::read(&out).unwrap() == bytes(3 << 20));
        assert!(most(&ended.stderr, "found") > 90, "{}", ended.stderr);
        most(&ended.stderr, "routers")
    });
    assert!(asked[0] > 0 && asked[1] == 0, "{asked:?}");
}

fn a_key_that_only_checks_checks_and_heals() {
    let standard = standard();
    let net = &standard.net;
    let scratch = Scratch::new("got");
    let folder = scratch.join("folder");
    scratch.write("folder/a", &bytes(1_500_000));
    scratch.write("folder/b", &bytes(100));
    let uri = put(&net.routers[0], &folder, &[]);
    let check = net.routers[4].command(&["check", &uri, "--json"]).success();
    let news: serde_json::Value = serde_json::from_str(&check).unwrap();
    assert!(news["found"].as_u64().unwrap() > 10 && news["objects"] == 3, "{news}");
    assert!((1..365).contains(&news["days_without_repair"].as_u64().unwrap()), "{news}");
    let more = net.routers[4].command(&["check", &uri, "--sample", "64", "--json"]).json();
    assert!(more["days_without_repair"].as_u64() >= news["days_without_repair"].as_u64(), "{more}");
    let words = net.routers[4].command(&["check", &uri]).success();
    assert!(words.contains("if nobody repaired it"), "{words}");
    let heal = net.routers[4].command(&["heal", &uri, "--json"]).success();
    let news: serde_json::Value = serde_json::from_str(&heal).unwrap();
    assert_eq!((&news["lost"], &news["missing"]), (&0.into(), &0.into()), "{news}");
}

/// The page of a router, to somebody who entered with its link.
struct OwnPage {
    host: std::net::SocketAddr,
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
    let uri = wait_for(Duration::from_secs(60), "the file to be stored", || {
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
    let folder = put(&net.routers[2], scratch.path(), &[]);
    let list = there.send("/files/get", &head, &wish(&folder));
    let value = format!("value=\"{folder}/inner/note.md\"");
    assert!(list.contains(&value), "{list}");
    let got = there.send("/files/get", &head, &wish(&format!("{folder}/inner/note.md")));
    assert!(got.contains("filename=\"note.md\"") && got.ends_with("\r\n\r\n# a note"), "{got}");
    let lost = there.send("/files/get", &head, "uri=warren%3Afile%3Aabc");
    assert!(lost.starts_with("HTTP/1.1 200") && lost.contains("p class=\"verdict\""), "{lost}");
}
