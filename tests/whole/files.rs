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
        a_key_that_only_checks_checks_and_heals,
    )
}

/// Those that kill routers.
pub(crate) fn outliving() -> Group {
    group!("files that outlive", shares: false,
        a_file_is_got_elsewhere_after_its_publisher_was_killed,
        what_nobody_stored_is_not_found_and_says_how_many_were_asked,
        a_put_goes_on_after_its_router_was_killed,
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
    let scratch = Scratch::new("got");
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
    wait_for(Duration::from_secs(60), "the put to be noted", || {
        fs::read_dir(&kept).ok().and_then(|mut entries| entries.next())
    });
    net.routers[5].signal("KILL");
    let _ = child.wait();
    net.routers[5].restart(Duration::from_secs(60));
    // It goes on by itself; the same command joins it.
    let uri = put(&net.routers[5], &file, &[]);
    wait_for(Duration::from_secs(10), "nothing to be left over", || {
        fs::read_dir(&kept).unwrap().next().is_none().then_some(())
    });
    let out = net.scratch().join("out");
    get(&net.routers[10], &uri, &out);
    assert!(fs::read(&out).unwrap() == bytes(len));
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
    wait_for(Duration::from_secs(60), "the put to be noted", || {
        fs::read_dir(&kept).ok().and_then(|mut entries| entries.next())
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
    let found = ended.stderr.lines().filter_map(|line| {
        let news: serde_json::Value = serde_json::from_str(line).ok()?;
        news["found"].as_u64()
    });
    assert!(found.max().unwrap_or(0) < 120, "only the rest was fetched: {}", ended.stderr);
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
    let heal = net.routers[4].command(&["heal", &uri, "--json"]).success();
    let news: serde_json::Value = serde_json::from_str(&heal).unwrap();
    assert_eq!((&news["lost"], &news["missing"]), (&0.into(), &0.into()), "{news}");
}
