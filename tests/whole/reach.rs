//! Routers that nobody can dial: they use and offer everything, and carry nothing.
//!
//! Lives here: real processes that do not listen, or where nobody gets through. Does
//! not live here: many of them on a virtual clock (`sim/tests/guests.rs`).

use std::{
    fs, io,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use harness::{
    binary::{finish, run, warren},
    client::Via,
    group, machine,
    origin::Origin,
    runner::{Group, skip, wait_for},
    scratch::Scratch,
    testnet::{Router, Testnet},
};

pub(crate) fn group() -> Group {
    group!("reach", shares: false,
        routers_link_in_whichever_family_answers,
        a_router_that_does_not_listen_reads_and_publishes_and_carries_nothing,
        a_router_whose_address_nobody_can_dial_finds_out_and_says_so_and_one_behind_a_forwarded_port_too,
        a_router_that_does_not_know_its_address_learns_it_from_its_peers_and_others_hear_of_it,
    )
}

/// A router at 127.K.0.1 that joins with `line`, and says `announce` of itself.
fn start(dir: &Path, line: &str, k: u8, announce: &str) -> Router {
    run(["join", line, "--dir", &dir.display().to_string()]).success();
    fs::write(dir.join("warren.toml"), format!("[link]\nannounce = \"{announce}\"\n")).unwrap();
    let listen = format!("127.{k}.0.1:0");
    Router::start(dir, &["--link", &listen, "--proxy", "127.0.0.1:0", "--api", "127.0.0.1:0"])
}

/// Whether it has so many neighbours.
fn linked(router: &Router, count: u64) {
    wait_for(Duration::from_secs(30), &format!("{count} neighbours"), || {
        (router.status()?["neighbours"].as_u64()? == count).then_some(())
    });
}

fn routers_link_in_whichever_family_answers() {
    if TcpListener::bind("[::1]:0").is_err() {
        skip("this machine has no IPv6");
    }
    let scratch = Scratch::new("families");
    let dir = |name: &str| scratch.join(name);
    let text = |name: &str| dir(name).display().to_string();
    run(["init", "--local", "--difficulty", "0", "--dir", &text("both")]).success();
    // It says that it is at ::1 too, and first; nobody listens there.
    let port = TcpListener::bind("127.90.0.1:0").unwrap().local_addr().unwrap().port();
    let said = format!("[::1]:{port}, 127.90.0.1:{port}");
    fs::write(dir("both").join("warren.toml"), format!("[link]\nannounce = \"{said}\"\n")).unwrap();
    let start_at = |name: &str, link: &str| {
        Router::start(
            &dir(name),
            &["--link", link, "--proxy", "127.0.0.1:0", "--api", "127.0.0.1:0"],
        )
    };
    let both = start_at("both", &format!("127.90.0.1:{port}"));
    // One that is at IPv6 alone.
    run(["join", &both.invite(), "--dir", &text("six")]).success();
    let six = start_at("six", "[::1]:0");
    linked(&six, 1);
    // And one whom that one invites: it dials ::1.
    run(["join", &six.invite(), "--dir", &text("third")]).success();
    let third = start_at("third", "127.91.0.1:0");
    for router in [&both, &six, &third] {
        linked(router, 2);
    }
}

fn a_router_that_does_not_listen_reads_and_publishes_and_carries_nothing() {
    let origin = Origin::start();
    let net = Testnet::up(7, &[origin.address]);
    let guests: Vec<Router> = (0..2)
        .map(|n| {
            let dir = net.scratch().join(format!("guest{n}"));
            start(&dir, &net.routers[3].invite(), 60 + n, "none")
        })
        .collect();
    wait_for(Duration::from_secs(30), "guests to be ready", || {
        guests.iter().all(Router::is_ready).then_some(())
    });
    for guest in &guests {
        let status = guest.status().unwrap();
        assert_eq!((&status["link"], &status["address"]), (&"".into(), &"".into()), "{status}");
        assert_eq!(status["transit"], false);
        let verdict = status["verdict"].as_str().unwrap();
        assert!(verdict.contains("Nobody can dial it"), "{verdict}");
        // Every link leads to one of the seven: two guests cannot be linked.
        assert!((1..=7).contains(&status["links"].as_u64().unwrap()), "{status}");
        assert_eq!(status["known_routers"], 7, "{status}");
        Via::new(guest.proxy, &net.services[0].name).verify(1_000_000).unwrap();
    }

    let target = origin.address.to_string();
    let name = guests[0].command(&["expose", &target, "--label", "home"]).success();
    wait_for(Duration::from_secs(30), "the guest's service to be published", || {
        let list = guests[0].command(&["services", "--json"]).json();
        (list[0]["published"] == true).then_some(())
    });
    for router in [net.client(), &guests[1]] {
        Via::new(router.proxy, name.trim()).verify(1_000_000).unwrap();
    }

    // A guest's line brings a newcomer to those that it knows.
    let dir = net.scratch().join("newcomer");
    let newcomer = start(&dir, &guests[0].invite(), 70, "");
    wait_for(Duration::from_secs(30), "the newcomer to be ready", || {
        newcomer.is_ready().then_some(())
    });
    assert_eq!(newcomer.status().unwrap()["known_routers"], 7, "guests are in nobody's list");

    for router in guests.iter().chain(&net.routers) {
        let status = router.status().unwrap();
        let known = status["known_routers"].as_u64().unwrap();
        assert!(known <= 8, "a guest is known: {status}");
    }
    for guest in &guests {
        assert_eq!(guest.cells(), Some(0), "a guest carried something");
        assert_eq!(guest.status().unwrap()["records_held"], 0);
        let doctor = guest.command(&["doctor"]).success();
        assert!(doctor.contains("Nobody can dial it"), "{doctor}");
    }
}

/// What a router does for the line that it is at: whoever comes to `listener` is led to `to`.
fn forward(listener: TcpListener, to: SocketAddr) {
    thread::spawn(move || {
        for came in listener.incoming().flatten() {
            let Ok(leads) = TcpStream::connect(to) else { continue };
            for (mut from, mut into) in
                [(came.try_clone().unwrap(), leads.try_clone().unwrap()), (leads, came)]
            {
                thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut into);
                    let _ = into.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
}

/// Waits until it knows, which takes half a minute before it asks, and then as long as its peers take.
fn knows(router: &Router, word: &str) -> serde_json::Value {
    wait_for(Duration::from_mins(3), &format!("a router to know that it is {word}"), || {
        let status = router.status()?;
        (status["reach"] == word).then_some(status)
    })
}

fn a_router_whose_address_nobody_can_dial_finds_out_and_says_so_and_one_behind_a_forwarded_port_too()
 {
    let origin = Origin::start();
    let net = Testnet::up(7, &[origin.address]);
    // Ports that are free now: one stays shut, the other is a forwarded one.
    let shut = TcpListener::bind("127.71.0.1:0").unwrap().local_addr().unwrap();
    let listener = TcpListener::bind("127.72.0.1:0").unwrap();
    let open = listener.local_addr().unwrap();
    let line = net.routers[2].invite();
    let dark = start(&net.scratch().join("dark"), &line, 71, &shut.to_string());
    let lit = start(&net.scratch().join("lit"), &line, 72, &open.to_string());
    forward(listener, lit.link);

    let status = knows(&dark, "unreachable");
    assert_eq!((&status["address"], &status["transit"]), (&"".into(), &false.into()), "{status}");
    assert!(status["reach_failed"].as_u64().unwrap() >= 3, "{status}");
    let said = dark.command(&["status"]).success();
    assert!(said.contains("tried to dial it") && said.contains("none got through"), "{said}");
    let doctor = dark.command(&["doctor"]);
    assert!(doctor.stdout.contains("forward a port of your line"), "{}", doctor.stdout);
    assert_eq!(dark.metric("warren_unreachable"), Some(1));
    assert_eq!(dark.metric("warren_dialable"), Some(0));
    Via::new(dark.proxy, &net.services[0].name).verify(1_000_000).unwrap();

    let status = knows(&lit, "reachable");
    assert_eq!(status["address"], open.to_string(), "{status}");
    assert!(status["reach_came"].as_u64().unwrap() >= 2, "{status}");
    assert_eq!(lit.metric("warren_dialable"), Some(1));
    let doctor = lit.command(&["doctor"]).success();
    assert!(doctor.contains("dialled it, the last"), "{doctor}");
    Via::new(lit.proxy, &net.services[0].name).verify(1_000_000).unwrap();
}

fn a_router_that_does_not_know_its_address_learns_it_from_its_peers_and_others_hear_of_it() {
    if !machine::is_root() {
        skip("needs root for network namespaces");
    }
    // The binary is built before, where there may be a network.
    let status = Command::new("unshare")
        .args(["-n", "sh", "-c", "ip link set lo up && exec \"$1\" --inside=reach", "inside"])
        .arg(std::env::current_exe().unwrap())
        .env("WARREN_BIN", warren())
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "inside the namespace: {status}");
}

/// A machine on the same wire: a process whose network it is.
struct Machine(Child);

impl Machine {
    fn start() -> Self {
        let this = Self(Command::new("unshare").args(["-n", "sleep", "600"]).spawn().unwrap());
        wait_for(Duration::from_secs(10), "a network namespace", || {
            let there = fs::read_link(this.network()).ok()?;
            (Some(there) != fs::read_link("/proc/self/ns/net").ok()).then_some(())
        });
        this
    }

    fn network(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.0.id()).into()
    }

    fn ip(&self, words: &str) {
        let mut command = machine::in_network(&self.network(), "ip");
        finish(command.args(words.split(' '))).success();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A network on the internet, as far as its routers can tell, of five and one more. That one takes the
/// address from where its packets leave for one that nobody can dial, as behind NAT; its peers see another
/// one, where it can be dialled.
pub(crate) fn inside() {
    let far = Machine::start();
    let here = |words: &str| {
        finish(Command::new("ip").args(words.split(' '))).success();
    };
    here(&format!("link add v0 type veth peer name v1 netns {}", far.0.id()));
    here("link set v0 up");
    here("addr add 9.200.0.1/16 dev v0");
    far.ip("link set lo up");
    far.ip("link set v1 up");
    far.ip("addr add 9.200.0.2/16 dev v1");
    far.ip("addr add 192.168.7.7/32 dev v1");
    far.ip("route add 9.0.0.0/8 via 9.200.0.1 src 9.200.0.2");
    far.ip("route add default via 9.200.0.1 src 192.168.7.7");

    let scratch = Scratch::new("learns");
    let dir = |n: u8| scratch.join(format!("r{n}"));
    let text = |n: u8| dir(n).display().to_string();
    run(["init", "--difficulty", "0", "--dir", &text(1)]).success();
    let mut routers: Vec<Router> = Vec::new();
    for n in 1..=6 {
        if let Some(first) = routers.first() {
            run(["join", &first.invite(), "--dir", &text(n)]).success();
        }
        let (network, link) = if n == 6 {
            (Some(far.network()), "0.0.0.0:0".to_owned())
        } else {
            here(&format!("addr add 9.{n}.0.1/32 dev lo"));
            (None, format!("9.{n}.0.1:0"))
        };
        let flags = ["--link", &link, "--proxy", "127.0.0.1:0", "--api", "127.0.0.1:0"];
        routers.push(Router::start_in(network.as_deref(), &dir(n), &flags));
    }
    let learner = routers.last().unwrap();
    assert_eq!(learner.status().unwrap()["address"], "", "it cannot know yet");
    let status = knows(learner, "reachable");
    let port = learner.link.port();
    assert_eq!(status["address"], format!("9.200.0.2:{port}"), "{status}");
    assert_eq!(status["transit"], true, "{status}");
    // It carries tunnels of others now, and they know that it does.
    for router in &routers[..5] {
        wait_for(Duration::from_mins(1), "the newcomer to be known", || {
            (router.status()?["known_routers"].as_u64()? == 5).then_some(())
        });
    }
}
