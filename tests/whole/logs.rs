//! Logs give nothing away, at the finest level.
//!
//! Lives here: a network at trace level in which every name, key and address is known, and the
//! search for them. Does not live here: the types that print as `_` (overlay).

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use harness::{
    binary::warren,
    client::Via,
    curl::curl,
    group, invite,
    origin::{Origin, Python, bytes},
    runner::{Group, figure},
    testnet::Testnet,
};

pub(crate) fn group() -> Group {
    group!("logs", shares: false, logs_give_nothing_away)
}

/// Shorter prefixes of a marker are found by chance.
const PREFIX: usize = 6;

/// Something that must not be found: what it is, and how it would be written.
struct Marker {
    what: String,
    text: Vec<u8>,
}

/// How `bytes` would be written; each form shortened to the shortest telling prefix, so that finding
/// any longer one finds this one.
fn forms(what: &str, bytes: &[u8]) -> Vec<Marker> {
    let base32 = BASE32_NOPAD.encode(bytes);
    let hex = HEXLOWER.encode(bytes);
    let texts = [
        (hex.clone(), "hex"),
        (hex.to_ascii_uppercase(), "hex"),
        (base32.to_ascii_lowercase(), "base32"),
        (base32, "base32"),
    ];
    let mut markers: Vec<_> = texts
        .into_iter()
        .map(|(text, form)| Marker {
            what: format!("{what} in {form}"),
            text: telling(&text).into(),
        })
        .collect();
    // As the program's own Debug output would print them.
    let list: Vec<String> = bytes.iter().take(PREFIX).map(u8::to_string).collect();
    markers.push(Marker { what: format!("{what} as a list"), text: list.join(", ").into() });
    markers.push(Marker {
        what: format!("{what} raw"),
        text: bytes[..PREFIX.min(bytes.len())].into(),
    });
    markers
}

/// Six characters, or as many more as it takes to have a letter among them: digits alone are times
/// and counts.
fn telling(text: &str) -> &str {
    let letter = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len() - 1);
    &text[..text.len().min(PREFIX.max(letter + 1))]
}

fn text_marker(what: &str, text: &str) -> Vec<Marker> {
    let mut markers = forms(what, text.as_bytes());
    markers.push(Marker { what: what.to_owned(), text: text[..PREFIX].into() });
    markers
}

fn logs_give_nothing_away() {
    // Words that nobody would write.
    let (page, query, password) = ("zqxjkvpage", "vwqzjkpost", "kjzqwvsecret");
    let files = harness::scratch::Scratch::new("plants");
    files.write(format!("files/{page}.html"), &bytes(50_000));
    let python = Python::serve(&files.join("files"));
    let origin = Origin::start();
    let net = Testnet::up_with(8, &[python.address, origin.address], &[("WARREN_LOG", "trace")]);

    // Life: fetches by name in several contexts, refusals, a router lost, services come and go.
    let host = &net.services[0].name;
    let proxy = net.client().proxy;
    for n in 0..3 {
        let via = Via::new(proxy, host).context(&format!("{password}{n}"));
        assert_eq!(via.get(&format!("/{page}.html")).unwrap().body, bytes(50_000));
    }
    for way in ["socks4a://", "http://", "socks5h://"] {
        let url = format!("http://{host}/{page}.html?{query}=1");
        let mut args = vec!["--proxy".to_owned(), format!("{way}{proxy}")];
        args.extend(["--output", "/dev/null", "--header", "Cookie: vwqzjkpost"].map(str::to_owned));
        args.push(url);
        curl(args).success();
    }
    let refused = format!("http://{page}.example/");
    let _ = curl(["--proxy", &format!("http://{proxy}"), "--output", "/dev/null", &refused]);
    let target = origin.address.to_string();
    let withdrawn = net.host().command(&["expose", &target, "--label", "xvqzjklabel"]).success();
    net.host().command(&["unexpose", "xvqzjklabel"]).success();
    let _ = net.client().command(&["expose", "nowhere-qzxvjk:1", "--label", "qzxvjk"]);

    let stored = files.write("jqzvxkstored", b"wqkzxvcontent and more of it").display().to_string();
    let key = net.routers[1].command(&["put", &stored, "--as", "vkzqjxcontext"]).success();
    let (key, back) = (key.trim(), files.join("back").display().to_string());
    net.routers[5].command(&["get", key, "-o", &back]).success();

    let mut markers = Vec::new();
    let letters = key.rsplit(':').next().unwrap();
    markers.extend(text_marker("stored file's key", letters));
    let read = BASE32_NOPAD.decode(letters.to_ascii_uppercase().as_bytes()).unwrap();
    markers.extend(forms("stored file's key", &read[1..33]));
    for (word, what) in [
        ("jqzvxkstored", "stored file's name"),
        ("wqkzxvcontent", "stored content"),
        ("vkzqjxcontext", "context"),
        (page, "file name"),
        (query, "query"),
        (password, "SOCKS password"),
        ("xvqzjklabel", "service label"),
        ("qzxvjk", "service target"),
    ] {
        markers.extend(text_marker(what, word));
    }
    let names = net.services.iter().map(|service| service.name.clone());
    for name in names.chain([withdrawn.trim().to_owned()]) {
        let name = name.trim_end_matches(".warren");
        markers.extend(text_marker("service name", name));
        let key = BASE32_NOPAD.decode(name.to_ascii_uppercase().as_bytes()).unwrap();
        markers.extend(forms("service key", &key[..32]));
        // Some formats put a version or checksum first.
        markers.extend(forms("service key", &key[1..33]));
    }
    // A router says where its own doors are, whose ports may by chance be another's link port.
    let doors: Vec<String> = net
        .routers
        .iter()
        .flat_map(|router| [router.proxy, router.metrics])
        .map(|door| format!(":{}", door.port()))
        .collect();
    for router in &net.routers {
        let first = invite::routers(&router.invite())[0].clone();
        markers.extend(forms("router identity", &first.id));
        markers.extend(forms("router link key", &first.link_key));
        // "127.5." is the shortest prefix that says which router.
        let link = router.link.to_string();
        let ip = router.link.ip().to_string();
        let what = format!("link address of {}", router.id);
        markers.push(Marker { what: what.clone(), text: ip[..ip.len() - 3].into() });
        let port = format!(":{}", router.link.port());
        if !doors.iter().any(|door| door.starts_with(&port)) {
            markers.push(Marker { what: format!("{what}, its port"), text: port.into() });
        }
        markers.push(Marker { what, text: link.into() });
        let token = fs::read_to_string(router.dir.join("api.token")).unwrap();
        markers.push(Marker { what: "API token".into(), text: telling(token.trim()).into() });
    }
    // The searcher finds what is there.
    let planted = markers.iter().filter(|marker| {
        let line = [b"2026 TRACE x: ", &marker.text[..], b" y"].concat();
        find(&line, &marker.text).is_some()
    });
    assert_eq!(planted.count(), markers.len());

    thread::sleep(Duration::from_secs(2));
    let dir = net.dir().to_owned();
    let logs: BTreeMap<PathBuf, Vec<u8>> = net
        .routers
        .iter()
        .map(|router| (router.dir.join("log"), fs::read(router.dir.join("log")).unwrap()))
        .collect();
    let total: usize = logs.values().map(Vec::len).sum();
    let fine =
        |log: &Vec<u8>| [&b"TRACE"[..], b"DEBUG"].iter().any(|level| find(log, level).is_some());
    let trace = logs.values().all(fine);
    figure("bytes of logs searched", total);
    figure("markers searched for", markers.len());
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for (path, log) in &logs {
        let lines: Vec<&[u8]> = log.split(|byte| *byte == b'\n').map(without_time).collect();
        let text = lines.join(&b'\n');
        for marker in &markers {
            if let Some(at) = find(&text, &marker.text) {
                found
                    .entry(marker.what.clone())
                    .or_insert_with(|| format!("{}: {}", short(path, &dir), around(&text, at)));
            }
        }
    }
    for (what, place) in &found {
        println!("  found: {what}: {place}");
    }
    assert!(found.is_empty(), "{} kinds of markers in the logs", found.len());
    assert!(
        trace,
        "a router logged nothing fine: WARREN_LOG has no effect on {}",
        warren().display()
    );
}

/// A line without the time it starts with.
fn without_time(line: &[u8]) -> &[u8] {
    let end = line.iter().position(|byte| *byte == b' ').unwrap_or(0);
    if line.first().is_some_and(u8::is_ascii_digit) && line[..end].ends_with(b"Z") {
        &line[end..]
    } else {
        line
    }
}

fn find(text: &[u8], marker: &[u8]) -> Option<usize> {
    let (first, rest) = marker.split_first()?;
    let mut from = 0;
    while let Some(at) = text[from..].iter().position(|byte| byte == first) {
        let at = from + at;
        if text[at + 1..].starts_with(rest) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

fn around(text: &[u8], at: usize) -> String {
    let from = text[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let to = text[at..].iter().position(|byte| *byte == b'\n').map_or(text.len(), |end| at + end);
    let line = String::from_utf8_lossy(&text[from..to]);
    line.chars().take(200).collect()
}

fn short(path: &Path, dir: &Path) -> String {
    path.strip_prefix(dir).unwrap_or(path).display().to_string()
}
