//! Ways into a network: what an invite can be, seeds that are gone, and a line on which only a proxy leads out.
//!
//! Lives here: real processes that come in by each way. Does not live here: by invitation and among friends
//! (`admission`), without any seed (`lan`).

use std::{
    collections::BTreeSet,
    fs, io,
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use data_encoding::BASE32_NOPAD;
use harness::{
    binary::{run, warren},
    client::Via,
    group, invite,
    origin::Origin,
    runner::{Group, wait_for},
    scratch::Scratch,
    testnet::{Router, Testnet},
};

pub(crate) fn group() -> Group {
    group!("getting_in", shares: false,
        an_invite_is_a_line_a_file_or_a_picture,
        seeds_that_say_nothing_hold_nobody_up_and_whom_a_router_met_it_finds_again,
        where_only_a_proxy_leads_out_every_link_goes_through_it,
    )
}

/// The router at 127.K.0.1 in that folder, which has joined.
fn start(dir: &Path, k: u8) -> Router {
    let listen = format!("127.{k}.0.1:0");
    Router::start(dir, &["--link", &listen, "--proxy", "127.0.0.1:0", "--api", "127.0.0.1:0"])
}

/// Whether what `warren WORDS` shows on a terminal has a QR code in it.
fn pictures(words: &str) -> bool {
    let line = format!("{} {words}", warren().display());
    let shown = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(shown.status.success(), "{words}");
    String::from_utf8_lossy(&shown.stdout).matches(['\u{2580}', '\u{2584}', '\u{2588}']).count()
        > 200
}

fn an_invite_is_a_line_a_file_or_a_picture() {
    let scratch = Scratch::new("invites");
    let dir = |name: &str| scratch.join(name);
    let text = |name: &str| dir(name).display().to_string();
    run(["init", "--local", "--difficulty", "0", "--dir", &text("one")]).success();
    let one = start(&dir("one"), 80);
    let file = text("line");
    one.command(&["invite", "--to", &file]).success();
    assert_eq!(fs::read_to_string(&file).unwrap().trim(), one.invite());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let again = one.command(&["invite", "--to", &file]);
    assert!(
        again.code() > 0 && again.stderr.contains(&file),
        "it replaces nothing: {}",
        again.stderr
    );
    // As a telephone reads it off the picture, which comes with the line it holds.
    let shown = one.command(&["invite", "--qr"]).success();
    assert!(
        shown.matches(['\u{2580}', '\u{2584}', '\u{2588}']).count() > 200,
        "no picture: {shown}"
    );
    let capital = shown.lines().last().unwrap().to_ascii_uppercase();
    for (name, given) in [("two", file.as_str()), ("three", &capital), ("four", &one.invite())] {
        run(["join", given, "--dir", &text(name)]).success();
        let network = |of: &str| fs::read(dir(of).join("network")).unwrap();
        assert_eq!(network(name), network("one"));
    }
    let two = start(&dir("two"), 81);
    wait_for(Duration::from_secs(30), "the newcomer to be linked", || {
        (two.status()?["neighbours"] == 1).then_some(())
    });

    let target = ["expose", "127.0.0.1:9", "--label", "diary", "--private"];
    one.command(&target).success();
    let share = format!("service share diary --dir {} --to", text("one"));
    assert!(pictures(&format!("{share} anna")));
    assert!(!pictures(&format!("{share} bert --no-qr")));
    let shares = one.command(&["service", "shares", "diary", "--json"]).json();
    assert_eq!(shares, serde_json::json!(["anna", "bert"]));
}

/// Which of the network's routers a line names.
fn named(net: &Testnet, line: &str) -> Vec<usize> {
    let id = |router: &Router| {
        let text = router.command(&["key", "id"]).success().trim().to_ascii_uppercase();
        BASE32_NOPAD.decode(text.as_bytes()).unwrap()
    };
    let ids: Vec<_> = net.routers.iter().map(id).collect();
    let place = |it: &invite::Named| ids.iter().position(|id| *id == it.id).expect("one of ours");
    invite::routers(line).iter().map(place).collect()
}

fn neighbours(router: &Router) -> u64 {
    router.status().map_or(0, |status| status["neighbours"].as_u64().unwrap())
}

fn seeds_that_say_nothing_hold_nobody_up_and_whom_a_router_met_it_finds_again() {
    let origin = Origin::start();
    let mut net = Testnet::up(8, &[origin.address]);
    let line = net.routers[2].invite();
    let seeds = named(&net, &line);
    assert_eq!(seeds.len(), 4);
    let dir = net.scratch().join("newcomer");
    run(["join", &line, "--dir", &dir.display().to_string()]).success();
    for seed in &seeds[..3] {
        net.routers[*seed].signal("STOP");
    }
    let mut newcomer = start(&dir, 60);
    // One after the other each would be waited for for 15 s.
    wait_for(Duration::from_secs(10), "the one seed that answers to bring it in", || {
        (neighbours(&newcomer) > 0).then_some(())
    });
    for seed in &seeds[..3] {
        net.routers[*seed].signal("CONT");
    }
    // Descriptors have some 1,450 bytes each: five at least, one of which at least no seed's.
    wait_for(Duration::from_mins(3), "the newcomer to remember whom it met", || {
        fs::metadata(dir.join("peers")).is_ok_and(|it| it.len() > 5 * 1_450).then_some(())
    });
    newcomer.signal("KILL");
    for seed in seeds {
        net.routers[seed].signal("KILL");
    }
    newcomer.start_again();
    wait_for(Duration::from_mins(1), "it to come back without any seed", || {
        (neighbours(&newcomer) > 0).then_some(())
    });
}

/// A proxy of either kind; where it was asked to lead to.
fn proxy() -> (SocketAddr, Arc<Mutex<BTreeSet<SocketAddr>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(BTreeSet::new()));
    let list = Arc::clone(&asked);
    thread::spawn(move || {
        for came in listener.incoming().flatten() {
            let list = Arc::clone(&list);
            thread::spawn(move || lead(came, &list));
        }
    });
    (address, asked)
}

fn lead(mut came: TcpStream, asked: &Mutex<BTreeSet<SocketAddr>>) -> Option<()> {
    let mut first = [0];
    came.read_exact(&mut first).ok()?;
    let (to, answer): (SocketAddr, &[u8]) = if first[0] == 5 {
        let (mut rest, mut request) = ([0; 2], [0; 10]);
        came.read_exact(&mut rest).ok()?;
        came.write_all(&[5, 0]).ok()?;
        came.read_exact(&mut request).ok()?;
        let [5, 1, 0, 1, a, b, c, d, high, low] = request else { panic!("{request:?}") };
        let to = (Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low]));
        (to.into(), &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])
    } else {
        let mut head = vec![first[0]];
        while !head.ends_with(b"\r\n\r\n") {
            came.read_exact(&mut first).ok()?;
            head.push(first[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let to = head.strip_prefix("CONNECT ").unwrap().split(' ').next().unwrap();
        (to.parse().unwrap(), b"HTTP/1.1 200 OK\r\n\r\n")
    };
    asked.lock().unwrap().insert(to);
    let leads = TcpStream::connect(to).ok()?;
    came.write_all(answer).ok()?;
    for (mut from, mut into) in [(came.try_clone().ok()?, leads.try_clone().ok()?), (leads, came)] {
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut into);
            let _ = into.shutdown(Shutdown::Write);
        });
    }
    Some(())
}

/// Where the TCP sockets of a process lead, by IPv4.
fn leads_to(pid: u32) -> BTreeSet<SocketAddr> {
    let sockets = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let sockets =
        sockets.filter_map(|it| fs::read_link(it.path()).ok()?.to_str().map(str::to_owned));
    let own: BTreeSet<String> = sockets
        .filter_map(|it| Some(it.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap();
    let remote = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (ip, port) = fields.get(2)?.split_once(':')?;
        let ip = Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?.to_le_bytes());
        let port = u16::from_str_radix(port, 16).ok()?;
        own.contains(*fields.get(9)?).then(|| SocketAddr::from((ip, port)))
    };
    table.lines().skip(1).filter_map(remote).collect()
}

fn where_only_a_proxy_leads_out_every_link_goes_through_it() {
    let origin = Origin::start();
    let net = Testnet::up(7, &[origin.address]);
    let routers: BTreeSet<SocketAddr> = net.routers.iter().map(|router| router.link).collect();
    for (kind, k) in [("socks5", 61), ("http", 62)] {
        let (at, asked) = proxy();
        let dir = net.scratch().join(kind);
        run(["join", &net.routers[1].invite(), "--dir", &dir.display().to_string()]).success();
        let settings = format!("[link]\nannounce = \"none\"\nproxy = \"{kind}://{at}\"\n");
        fs::write(dir.join("warren.toml"), settings).unwrap();
        let inside = start(&dir, k);
        wait_for(Duration::from_mins(1), "a router behind a proxy to be ready", || {
            inside.is_ready().then_some(())
        });
        Via::new(inside.proxy, &net.services[0].name).verify(1_000_000).unwrap();
        let asked = asked.lock().unwrap().clone();
        assert!(!asked.is_empty() && asked.is_subset(&routers), "{kind}: {asked:?}");
        let leads = leads_to(inside.pid);
        assert!(leads.contains(&at), "{kind}: {leads:?}");
        assert!(leads.is_disjoint(&routers), "{kind}: beside the proxy: {leads:?}");
    }
}
