//! Stored files, with real routers on real disks: put here, got there, the publisher gone.
//!
//! Lives here: what the commands about files do. Does not live here: how fast (`docs/performance.md`
//! and `scripts/store_path.sh`), networks on a virtual clock (`sim/tests/files.rs`).

use std::{
    fs,
    io::Write,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use harness::{
    binary::{run, warren},
    group,
    origin::bytes,
    runner::{Group, figure, wait_for},
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
        with_one_hop_less_than_half_of_the_cells_pass_through_others,
        durable_stores_twice_the_blocks,
    )
}

/// Those that kill routers.
pub(crate) fn outliving() -> Group {
    group!("files that outlive", shares: false,
        a_file_is_got_elsewhere_after_its_publisher_was_killed,
        what_nobody_stored_is_not_found_and_says_how_many_were_asked,
        a_put_goes_on_after_its_router_was_killed,
        who_cannot_read_a_file_restores_it_when_half_of_its_routers_lost_all,
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
    // A link inside the folder is a file of it; what leads out of it is not stored, and that is said.
    for (link, to) in [("docs/again.txt", "a.txt"), ("outside", "/etc/hostname"), ("gone", "no")] {
        symlink(to, folder.join(link)).unwrap();
    }
    let stored = net.routers[2].command(&["put", &folder.display().to_string()]);
    assert!(stored.stderr.contains("2 entries of the folder were left out"), "{}", stored.stderr);
    let uri = stored.success().trim().to_owned();
    assert!(uri.starts_with("warren:dir:"));
    let out = scratch.join("out");
    get(&net.routers[8], &uri, &out);
    for (path, len) in files.into_iter().chain([("docs/again.txt", 90_000)]) {
        assert!(fs::read(out.join(path)).unwrap() == bytes(len), "{path}");
    }
    assert!(!out.join("outside").exists() && !out.join("gone").exists());
    let list = net.routers[8].command(&["ls", &uri]).success();
    assert_eq!(list.lines().count(), files.len() + 1, "{list}");
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
    assert!(done["news"]["stored"].as_u64().unwrap() > 32, "most of it was only here: {done}");
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

/// The key of a file or folder for who shall not read it.
fn verify_key(uri: &str) -> String {
    let key = run(["verify-key", uri]).success().trim().to_owned();
    assert!(key.contains("-verify:"), "{key}");
    key
}

fn with_one_hop_less_than_half_of_the_cells_pass_through_others() {
    let standard = standard();
    let net = &standard.net;
    let scratch = Scratch::new("hops");
    let len = 12 << 20;
    // Two files: what was fetched once is not asked for again.
    let cells = ["1", "3"].map(|hops| {
        let file = scratch.write(format!("file{hops}"), &bytes(len + usize::from(hops == "3")));
        let relayed = || net.cells().iter().sum::<u64>();
        let before = relayed();
        let uri = put(&net.routers[2], &file, &["--hops", hops]);
        let put_cells = relayed() - before;
        let out = scratch.join(format!("out{hops}"));
        let words = out.display().to_string();
        let before = relayed();
        net.routers[8].command(&["get", &uri, "-o", &words, "--hops", hops]).success();
        let got_cells = relayed() - before;
        assert!(fs::read(&out).unwrap() == fs::read(&file).unwrap());
        [put_cells, got_cells]
    });
    let [one, three] = cells;
    figure("cells relayed, put and get of 12 MiB with one hop", one.iter().sum::<u64>());
    figure("cells relayed, put and get of 12 MiB with three hops", three.iter().sum::<u64>());
    for (one, three) in one.into_iter().zip(three) {
        assert!(three > 20_000, "what is carried for others is counted: {three}");
        assert!(one * 2 < three, "{one} cells with one hop, {three} with three");
    }
}

fn durable_stores_twice_the_blocks() {
    let standard = standard();
    let router = &standard.net.routers[2];
    let scratch = Scratch::new("durable");
    // Four whole segments of data; tables and roots are few beside them.
    let file = scratch.write("file", &bytes(16 << 20)).display().to_string();
    let blocks = |more: &[&str]| {
        let args = [&["put", &file, "--random-key", "--json"], more].concat();
        let done = router.command(&args).json();
        assert_eq!(done["copies_min"].as_u64(), Some(3), "{done}");
        (done["blocks"].as_u64().unwrap(), done["uri"].as_str().unwrap().to_owned())
    };
    let (plain, _) = blocks(&[]);
    let (durable, uri) = blocks(&["--durable"]);
    let data = (16 << 20) / (32 << 10);
    assert!((data * 3 / 2..data * 3 / 2 + 80).contains(&plain), "{plain} blocks");
    assert!((data * 2..data * 2 + 80).contains(&durable), "{durable} blocks");
    let out = scratch.join("out");
    get(&standard.net.routers[9], &uri, &out);
    assert!(fs::read(&out).unwrap() == bytes(16 << 20));
}

/// Kills all routers at once, takes the disks of the first `wiped` but for their keys, and starts all again.
fn lose(net: &mut Testnet, wiped: usize) {
    for router in &mut net.routers {
        router.signal("KILL");
    }
    for (at, router) in net.routers.iter_mut().enumerate() {
        wait_for(Duration::from_secs(10), "a router to be gone", || {
            (!router.is_running()).then_some(())
        });
        if at < wiped {
            fs::remove_dir_all(router.dir.join("blocks")).unwrap();
        }
    }
    let starts: Vec<_> = net.routers.iter_mut().map(Router::start_again).collect();
    for (router, start) in net.routers.iter().zip(starts) {
        router.ready_again(Duration::from_mins(2), start);
    }
}

fn who_cannot_read_a_file_restores_it_when_half_of_its_routers_lost_all() {
    let mut net = network();
    let len = 4 << 20;
    let file = net.scratch().write("file", &bytes(len));
    // The last router stores it, so that no copy of what was read or stored stays with those who lose all.
    let uri = put(&net.routers[11], &file, &["--durable"]);
    let verify = verify_key(&uri);
    let words = net.scratch().join("unread").display().to_string();
    let read = net.routers[0].command(&["get", &verify, "-o", &words]);
    assert_ne!(read.code(), 0);
    assert!(read.stderr.contains("only checks and heals"), "{}", read.stderr);

    // Where on the ring routers are is drawn: with six a block may have a copy left at each place.
    let mut wiped = 6;
    let missing = loop {
        lose(&mut net, wiped);
        let looked =
            net.routers[0].command(&["check", &verify, "--sample", "512", "--json"]).json();
        let missing = looked["missing"].as_u64().unwrap();
        if missing > 0 {
            break missing;
        }
        assert!(wiped < 9, "routers that lost all have all: {looked}");
        wiped += 1;
    };
    figure("routers of 12 that lost all", wiped);
    figure("blocks of 4 MiB, durable, lost with them", missing);
    let healed = net.routers[1].command(&["heal", &verify, "--json"]).json();
    assert_eq!(healed["lost"].as_u64(), Some(0), "{healed}");
    assert!(healed["missing"].as_u64().unwrap() > 0, "{healed}");
    assert_eq!(healed["stored"], healed["missing"], "all that was missing is put back: {healed}");
    let looked = net.routers[2].command(&["check", &verify, "--sample", "512", "--json"]).json();
    assert_eq!(looked["missing"].as_u64(), Some(0), "{looked}");
    // And whoever may read it reads it, the publisher gone.
    net.routers[11].signal("KILL");
    let out = net.scratch().join("out");
    get(&net.routers[3], &uri, &out);
    assert!(fs::read(&out).unwrap() == bytes(len));
}
