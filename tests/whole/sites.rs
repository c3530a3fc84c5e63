//! Stored sites: published by one router, read with curl at another, alive without their publisher.
//!
//! Lives here: what a person with a browser sees of a site. Does not live here: the bytes of the answers
//! (crate proxy), forks and races (crate datastore).

use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError, mpsc},
    time::{Duration, Instant},
};

use harness::{
    binary::{Ended, warren},
    curl::curl,
    group,
    runner::{Group, figure, wait_for},
    scratch::Scratch,
    testnet::{Router, Testnet},
};

pub(crate) fn group() -> Group {
    group!("sites", shares: false,
        a_published_folder_opens_at_another_router_as_a_web_site,
        what_a_browser_asks_of_a_web_server_a_site_answers,
        twenty_files_come_within_2_s,
        an_update_is_seen_and_history_and_fork_show_it,
        a_publisher_from_an_old_backup_takes_nothing_back,
        a_site_opens_without_its_publisher,
        a_watch_tells_each_version_as_it_comes_though_a_third_of_the_routers_die,
    )
}

/// One network, and a site in it.
struct World {
    net: Testnet,
    scratch: Scratch,
    /// `<56 characters>.warren`
    site: String,
    /// Contexts used so far.
    contexts: u32,
}

static WORLD: Mutex<Option<World>> = Mutex::new(None);

fn with_world<T>(work: impl FnOnce(&mut World) -> T) -> T {
    if WORLD.is_poisoned() {
        *WORLD.lock().unwrap_or_else(PoisonError::into_inner) = None;
        WORLD.clear_poison();
    }
    let mut world = WORLD.lock().unwrap();
    work(world.get_or_insert_with(World::new))
}

/// 20 small files, and one that no object shares.
fn pages(scratch: &Scratch, word: &str) -> PathBuf {
    let links: Vec<_> = (0..18).map(|n| format!("<a href=p/{n}.html>{n}</a>")).collect();
    let links = links.concat();
    let index = format!("<!doctype html><title>{word}</title><h1>{word}</h1>{links}");
    scratch.write("pages/index.html", index.as_bytes());
    scratch.write("pages/p/index.html", b"<h1>folder</h1>");
    for n in 0..18 {
        let text = format!("<h1>{n}</h1>{}", "x".repeat(500 * (n + 1)));
        scratch.write(format!("pages/p/{n}.html"), text.as_bytes());
    }
    scratch.write("pages/film.xyz", &film());
    scratch.join("pages")
}

/// 3 MiB in which every position tells where it is.
fn film() -> Vec<u8> {
    (0..3u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect()
}

impl World {
    fn new() -> Self {
        let net = Testnet::up(12, &[]);
        let scratch = Scratch::new("site");
        let dir = pages(&scratch, "first").display().to_string();
        let start = Instant::now();
        let made = publisher(&net).command(&["site", "publish", &dir, "--label", "one"]).success();
        figure("a site of 3 MiB published, seconds", start.elapsed().as_secs_f32());
        Self { net, scratch, site: made.trim().to_owned(), contexts: 0 }
    }

    /// curl to a path, as a stranger whom the router has never seen.
    fn stranger(&mut self, path: &str, args: &[&str]) -> Ended {
        self.contexts += 1;
        self.person(self.contexts, path, args)
    }

    /// curl to a path, in a context with this number.
    fn person(&self, context: u32, path: &str, args: &[&str]) -> Ended {
        let proxy = format!("socks5h://c{context}:x@{}", self.net.client().proxy);
        let url = format!("http://{}{path}", self.site);
        let args: Vec<&str> = ["--proxy", &proxy].into_iter().chain(args.iter().copied()).collect();
        curl(args.into_iter().chain([url.as_str()]))
    }
}

/// A router that is neither the reader's nor a service's.
fn publisher(net: &Testnet) -> &Router {
    net.routers.iter().find(|router| router.role == "relay").expect("a relay")
}

fn field(head: &str, name: &str) -> Option<String> {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(other, _)| *other == name).map(|(_, value)| value.trim().to_owned())
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap_or_else(|| panic!("no status: {head}")).parse().unwrap()
}

fn a_published_folder_opens_at_another_router_as_a_web_site() {
    with_world(|world| {
        let start = Instant::now();
        let page = world.stranger("/", &[]).success();
        figure("first page of a site, seconds", start.elapsed().as_secs_f32());
        assert!(page.contains("<h1>first</h1>"), "{page}");
        // The same through the other doors.
        let proxy = world.net.client().proxy;
        let url = format!("http://{}/p/", world.site);
        let door = |args: [&str; 2]| curl(args.into_iter().chain([url.as_str()])).success();
        assert_eq!(door(["--proxy", &format!("http://{proxy}")]), "<h1>folder</h1>");
        assert_eq!(door(["--proxy", &format!("socks4a://{proxy}")]), "<h1>folder</h1>");
        let tunnel = curl(["--proxytunnel", "--proxy", &format!("http://{proxy}"), &url]);
        assert_eq!(tunnel.success(), "<h1>folder</h1>");
        // Nothing but a web site is there, and what was never published is not.
        let other = format!("http://{}:81/", world.site);
        let refused = curl(["--proxy", &format!("http://{proxy}"), "--head", &other]).success();
        assert_eq!(status(&refused), 502);
    });
}

fn what_a_browser_asks_of_a_web_server_a_site_answers() {
    with_world(|world| {
        let moved = world.stranger("/p", &["--head"]).success();
        assert_eq!((status(&moved), field(&moved, "Location").as_deref()), (301, Some("/p/")));
        let context = world.contexts;
        let head = |path: &str, args: &[&str]| {
            let args: Vec<&str> = ["--head"].iter().chain(args).copied().collect();
            world.person(context, path, &args).success()
        };
        let page = head("/p/3.html", &[]);
        assert_eq!(status(&page), 200);
        assert_eq!(field(&page, "Content-Type").unwrap(), "text/html; charset=utf-8");
        assert_eq!(field(&page, "X-Content-Type-Options").unwrap(), "nosniff");
        assert!(field(&page, "Content-Security-Policy").unwrap().contains("script-src 'none'"));
        let tag = field(&page, "ETag").unwrap();
        let same = head("/p/3.html", &["--header", &format!("If-None-Match: {tag}")]);
        assert_eq!(status(&same), 304);

        let film = film();
        let known = head("/film.xyz", &[]);
        assert_eq!(field(&known, "Content-Length").unwrap(), film.len().to_string());
        assert_eq!(field(&known, "Content-Type").unwrap(), "application/octet-stream");
        assert_eq!(field(&known, "Content-Disposition").unwrap(), "attachment");
        let out = world.scratch.join("out");
        let place = out.display().to_string();
        for (range, want) in [
            ("2000000-2000099", &film[2_000_000..2_000_100]),
            ("-17", &film[film.len() - 17..]),
            ("3145000-", &film[3_145_000..]),
        ] {
            world.person(context, "/film.xyz", &["--range", range, "--output", &place]).success();
            assert!(fs::read(&out).unwrap() == want, "{range}");
        }
        world.person(context, "/film.xyz", &["--output", &place]).success();
        assert!(fs::read(&out).unwrap() == film);
        let beyond = head("/film.xyz", &["--request", "GET", "--range", "9000000-"]);
        assert_eq!(status(&beyond), 416);

        assert_eq!(status(&head("/none", &[])), 404);
        assert_eq!(status(&head("/..%2f..%2fetc/passwd", &["--path-as-is"])), 404);
        let post = world.person(context, "/", &["--include", "--data", "a=b"]).success();
        assert_eq!((status(&post), field(&post, "Allow").as_deref()), (405, Some("GET, HEAD")));
    });
}

fn twenty_files_come_within_2_s() {
    with_world(|world| {
        world.contexts += 1;
        let proxy = format!("socks5h://c{}:x@{}", world.contexts, world.net.client().proxy);
        let mut args = vec!["--proxy".to_owned(), proxy, "--parallel".into(), "--fail".into()];
        let mut urls = vec!["/".to_owned(), "/p/".into()];
        urls.extend((0..18).map(|n| format!("/p/{n}.html")));
        for (n, path) in urls.iter().enumerate() {
            let out = world.scratch.join(format!("got/{n}")).display().to_string();
            args.extend(["--create-dirs".into(), "--output".into(), out]);
            args.push(format!("http://{}{path}", world.site));
        }
        let ended = curl(&args);
        let took = ended.took;
        ended.success();
        figure("20 files of a site in a new context, seconds", took.as_secs_f32());
        for n in 0..18 {
            let want = fs::read(world.scratch.join(format!("pages/p/{n}.html"))).unwrap();
            assert!(fs::read(world.scratch.join(format!("got/{}", n + 2))).unwrap() == want);
        }
        assert!(took < Duration::from_secs(2), "{took:?}");
    });
}

fn an_update_is_seen_and_history_and_fork_show_it() {
    with_world(|world| {
        world.stranger("/", &[]).success();
        let reader = world.contexts;
        let dir = pages(&world.scratch, "second").display().to_string();
        let site = world.site.clone();
        let args = ["site", "update", &site, &dir, "--label", "two", "--json"];
        let done = publisher(&world.net).command(&args).json();
        assert_eq!((done["number"].as_u64(), done["name"].as_str()), (Some(2), Some(&*site)));
        assert!(world.stranger("/", &[]).success().contains("<h1>second</h1>"));
        // Who had it open sees it within a minute, without doing anything else.
        wait_for(Duration::from_mins(1), "an update to be seen", || {
            world.person(reader, "/", &[]).success().contains("<h1>second</h1>").then_some(())
        });
        let client = world.net.client();
        let history = client.command(&["site", "history", &site, "--json"]).json();
        let labels: Vec<_> = history.as_array().unwrap().iter().map(|it| &it["label"]).collect();
        assert_eq!(labels, ["two", "one"]);
        // A fork is another site with the same pages.
        let fork = client.command(&["site", "fork", &format!("http://{site}/")]).success();
        assert_ne!(fork.trim(), site);
        fork.trim().clone_into(&mut world.site);
        let page = world.stranger("/", &[]).success();
        world.site = site;
        assert!(page.contains("<h1>second</h1>"), "{page}");
    });
}

fn a_publisher_from_an_old_backup_takes_nothing_back() {
    with_world(|world| {
        let dir = pages(&world.scratch, "third").display().to_string();
        let at = world.net.routers.iter().position(|router| router.role == "relay").unwrap();
        let site = world.site.clone();
        let letters = site.strip_suffix(".warren").unwrap();
        let key = world.net.routers[at].dir.join("sites").join(letters);
        let backup = fs::read(&key).unwrap();
        let update = ["site", "update", &site, &dir];
        world.net.routers[at].command(&update).success();
        assert!(world.stranger("/", &[]).success().contains("<h1>third</h1>"));
        // The disk of before the update, and a router that believes it.
        world.net.routers[at].signal("KILL");
        fs::write(&key, backup).unwrap();
        world.net.routers[at].restart(Duration::from_mins(1));
        let refused = world.net.routers[at].command(&update);
        assert_eq!(refused.code(), 6, "{}", refused.stderr);
        assert!(refused.stderr.contains("--onto-newest"), "{}", refused.stderr);
        assert!(world.stranger("/", &[]).success().contains("<h1>third</h1>"));
        let dir = pages(&world.scratch, "fourth").display().to_string();
        let args = ["site", "update", &site, &dir, "--onto-newest", "--json"];
        let done = world.net.routers[at].command(&args).json();
        assert_eq!(done["number"].as_u64(), Some(4), "{done}");
        assert!(world.stranger("/", &[]).success().contains("<h1>fourth</h1>"));
    });
}

fn a_site_opens_without_its_publisher() {
    with_world(|world| {
        let at = world.net.routers.iter().position(|router| router.role == "relay").unwrap();
        world.net.routers[at].signal("KILL");
        let page = world.stranger("/", &["--fail"]).success();
        assert!(page.contains("<h1>"), "{page}");
        let out = world.scratch.join("out");
        let place = out.display().to_string();
        world.stranger("/film.xyz", &["--fail", "--output", &place]).success();
        assert!(fs::read(&out).unwrap() == film());
    });
    *WORLD.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// `warren site watch` as it runs, and what it printed.
struct Watching {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Watching {
    fn start(router: &Router, site: &str) -> Self {
        let mut command = Command::new(warren());
        command.args(["site", "watch", site, "--json", "--dir"]).arg(&router.dir);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
        let printed = BufReader::new(child.stdout.take().expect("a pipe"));
        let (to, lines) = mpsc::channel();
        std::thread::spawn(move || {
            printed.lines().map_while(Result::ok).try_for_each(|line| to.send(line))
        });
        Self { child, lines }
    }

    /// The number and label of the next version that it prints, within a minute.
    fn next(&self) -> (u64, String) {
        let line = self.lines.recv_timeout(Duration::from_mins(1)).expect("a version in time");
        let version: serde_json::Value = serde_json::from_str(&line).expect("an object a line");
        let label = version["label"].as_str().unwrap().to_owned();
        (version["number"].as_u64().unwrap(), label)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// It asks by itself once in ten minutes only, so what comes within one was said unasked.
fn a_watch_tells_each_version_as_it_comes_though_a_third_of_the_routers_die() {
    let mut net = Testnet::up(12, &[]);
    let scratch = Scratch::new("watch");
    let pages = scratch.join("pages").display().to_string();
    let write = |word: &str| scratch.write("pages/index.html", word.as_bytes());
    write("1");
    let made = net.routers[1].command(&["site", "publish", &pages, "--label", "one"]).success();
    let site = made.trim().to_owned();
    let update = |net: &Testnet, label: &str| {
        write(label);
        net.routers[1].command(&["site", "update", &site, &pages, "--label", label]).success();
        Instant::now()
    };
    let watching = Watching::start(&net.routers[0], &site);
    assert_eq!(watching.next(), (1, "one".into()));
    let done = update(&net, "two");
    assert_eq!(watching.next(), (2, "two".into()));
    figure(
        "a watcher knows a version after it was published, seconds",
        done.elapsed().as_secs_f32(),
    );

    let more: Vec<Watching> = (0..7).map(|_| Watching::start(&net.routers[0], &site)).collect();
    assert!(more.iter().all(|it| it.next() == (2, "two".into())));
    let refused = net.routers[0].command(&["site", "watch", &site]);
    assert_eq!(refused.code(), 6, "{}", refused.stderr);
    assert!(refused.stderr.contains("8 sites are watched here"), "{}", refused.stderr);
    drop(more);

    for at in 4..8 {
        net.routers[at].signal("KILL");
    }
    let done = update(&net, "three");
    assert_eq!(watching.next(), (3, "three".into()));
    let name = "the same right after a third of the routers died, seconds";
    figure(name, done.elapsed().as_secs_f32());
    // Who ended his watch makes room for another.
    let again = Watching::start(&net.routers[0], &site);
    assert_eq!(again.next(), (3, "three".into()));
}
