//! A local network: routers that find one another there, and a line's router that forwards a port.
//!
//! Lives here: real processes, each in a network namespace of its own on one bridge, in a namespace that has
//! nothing else. Does not live here: notices and answers that are hostile (beside their code).
//!
//! The test program runs itself once more inside: what it makes there is gone with its last process, and
//! nothing that is sent there leaves this machine.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use harness::{
    binary::{run, warren},
    group, machine,
    runner::{Group, skip, wait_for},
    scratch::Scratch,
    testnet::Router,
};
use socket2::{Domain, Protocol, Socket, Type};

pub(crate) fn group() -> Group {
    group!("lan", shares: false,
        routers_without_seeds_find_one_another_on_a_local_network_and_strangers_do_not,
        the_lines_router_is_asked_for_a_port_by_upnp_and_gets_it_back,
    )
}

/// This test program's own address on the bridge.
const HERE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);

/// Runs this program again as `name`, on a bridge with namespaces r1 to r4 at 10.77.0.1 to 10.77.0.4.
fn on_a_bridge(name: &str) {
    if !machine::is_root() {
        skip("needs root for network namespaces");
    }
    // /run is hidden so that the namespaces' names are nobody else's.
    let script = "set -e; mount -t tmpfs none /run; ip link set lo up; ip link add br0 type bridge; \
                  ip addr add 10.77.0.100/24 dev br0; ip link set br0 up; \
                  for n in 1 2 3 4; do ip netns add r$n; ip link add v$n type veth peer name eth0 netns r$n; \
                  ip link set v$n master br0 up; ip -n r$n addr add 10.77.0.$n/24 dev eth0; \
                  ip -n r$n link set lo up; ip -n r$n link set eth0 up; done; ";
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-n", "-m", "sh", "-c", script, "inside"]).stdin(Stdio::null());
        command
    };
    if !unshare(script).stderr(Stdio::null()).status().is_ok_and(|done| done.success()) {
        skip("network namespaces and bridges cannot be made here");
    }
    // The binary is built before, where there may be a network.
    let binary = warren();
    let status = unshare(&format!("{script} exec \"$1\" --inside={name}"))
        .arg(std::env::current_exe().unwrap())
        .env("WARREN_BIN", binary)
        .status()
        .unwrap();
    assert!(status.success(), "inside the namespace: {status}");
}

fn routers_without_seeds_find_one_another_on_a_local_network_and_strangers_do_not() {
    on_a_bridge("lan");
}

fn the_lines_router_is_asked_for_a_port_by_upnp_and_gets_it_back() {
    on_a_bridge("line");
}

/// The namespace of the `n`th machine.
fn namespace(n: u8) -> PathBuf {
    format!("/run/netns/r{n}").into()
}

/// A folder of a network that was never joined: who has its name has its id.
fn member(dir: &Path, network: &str, settings: &str) {
    let place = dir.display().to_string();
    let init = ["init", "--local", "--difficulty", "0", "--name", network, "--dir", &place];
    run(init).success();
    fs::write(dir.join("warren.toml"), format!("[link]\n{settings}\n")).unwrap();
}

/// Everything that is said by multicast DNS.
fn listen() -> Arc<Mutex<Vec<u8>>> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from(([0, 0, 0, 0], 5_353)).into()).unwrap();
    let socket = UdpSocket::from(socket);
    socket.join_multicast_v4(&Ipv4Addr::new(224, 0, 0, 251), &HERE).unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::clone(&heard);
    thread::spawn(move || {
        let mut buffer = [0; 9_000];
        while let Ok((len, _)) = socket.recv_from(&mut buffer) {
            all.lock().unwrap().extend_from_slice(&buffer[..len]);
        }
    });
    heard
}

fn holds(heard: &[u8], part: &[u8]) -> bool {
    heard.windows(part.len()).any(|it| it.eq_ignore_ascii_case(part))
}

fn neighbours(router: &Router) -> u64 {
    router.status().map_or(0, |status| status["neighbours"].as_u64().unwrap())
}

fn nearby(router: &Router) -> String {
    router.status().map_or(String::new(), |status| status["nearby"].as_str().unwrap().to_owned())
}

pub(crate) fn inside() {
    let scratch = Scratch::new("lan");
    let heard = listen();
    let mut ids = Vec::new();
    let mut start = |n: u8, network: &str| {
        let dir = scratch.join(format!("r{n}"));
        member(&dir, network, "lan_discovery = true");
        let place = dir.display().to_string();
        ids.push(run(["key", "id", "--dir", &place]).success().trim().to_owned());
        Router::start_in(Some(&namespace(n)), &dir, &[])
    };
    let stranger = start(4, "elsewhere-7f3a");
    let mut routers: Vec<Router> = (1..=3).map(|n| start(n, "garden-7f3a")).collect();
    wait_for(Duration::from_mins(1), "three routers that nobody introduced to be linked", || {
        routers.iter().all(|router| neighbours(router) == 2).then_some(())
    });
    for (n, router) in routers.iter().enumerate() {
        let status = router.status().unwrap();
        // Nothing leads out of here, and still they are no guests.
        assert!(status["address"].as_str().unwrap().starts_with(&format!("10.77.0.{}:", n + 1)));
        wait_for(Duration::from_secs(30), "a router to hear of both others", || {
            nearby(router).ends_with("nearby: 2").then_some(())
        });
        let said = router.command(&["status"]).success();
        assert!(said.contains("local network: routers of this network"), "{said}");
    }
    assert_eq!(neighbours(&stranger), 0);
    assert!(nearby(&stranger).contains("none so far"), "{}", nearby(&stranger));

    // What a stranger hears: that there are routers, and not whose.
    let all = heard.lock().unwrap().clone();
    assert!(holds(&all, b"_warren"), "nothing was heard");
    for network in [&b"garden-7f3a"[..], b"elsewhere-7f3a"] {
        assert!(!holds(&all, network), "a network's name was said");
    }
    for id in &ids {
        let raw = BASE32_NOPAD.decode(id.to_ascii_uppercase().as_bytes()).unwrap();
        let hex = HEXLOWER.encode(&raw);
        for part in [&raw[..8], &id.as_bytes()[..12], &hex.as_bytes()[..16]] {
            assert!(!holds(&all, part), "an identity was said");
        }
    }

    // Who leaves takes back what it said.
    routers[2].signal("TERM");
    for router in &routers[..2] {
        wait_for(Duration::from_secs(30), "a router to hear that another left", || {
            nearby(router).ends_with("nearby: 1").then_some(())
        });
    }
}

/// A line's router that speaks UPnP; what it was asked to do.
fn gateway() -> Arc<Mutex<Vec<String>>> {
    let search = UdpSocket::bind((HERE, 1_900)).unwrap();
    let pages = TcpListener::bind((HERE, 0)).unwrap();
    let page = pages.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    thread::spawn(move || {
        let mut buffer = [0; 2_000];
        while let Ok((_, from)) = search.recv_from(&mut buffer) {
            let answer = format!("HTTP/1.1 200 OK\r\nLOCATION: http://{page}/d.xml\r\n\r\n");
            search.send_to(answer.as_bytes(), from).unwrap();
        }
    });
    let list = Arc::clone(&asked);
    thread::spawn(move || {
        for socket in pages.incoming().flatten() {
            answer(socket, &list);
        }
    });
    asked
}

fn answer(mut socket: TcpStream, asked: &Mutex<Vec<String>>) -> Option<()> {
    socket.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let (mut text, mut piece) = (String::new(), [0; 4_096]);
    let whole = |text: &str| {
        text.contains("</s:Envelope>") || text.starts_with("GET") && text.ends_with("\r\n\r\n")
    };
    while !whole(&text) {
        let n = socket.read(&mut piece).ok().filter(|n| *n > 0)?;
        text.push_str(&String::from_utf8_lossy(&piece[..n]));
    }
    let body = if text.starts_with("GET /d.xml ") {
        "<root><device><serviceList><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1\
         </serviceType><controlURL>/c</controlURL></service></serviceList></device></root>"
            .to_owned()
    } else {
        let action = text.split_once('#')?.1.split_once('"')?.0.to_owned();
        let values =
            text.split("<New").skip(1).filter_map(|it| it.split_once('>')?.1.split_once('<'));
        let values: Vec<&str> = values.map(|(value, _)| value).collect();
        asked.lock().unwrap().push(format!("{action} {}", values.join(" ")));
        let ip = "<NewExternalIPAddress>9.9.9.9</NewExternalIPAddress>";
        let inner = if action == "GetExternalIPAddress" { ip } else { "" };
        format!("<e><{action}Response>{inner}</{action}Response></e>")
    };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    socket.write_all((head + &body).as_bytes()).ok()
}

pub(crate) fn inside_line() {
    let asked = gateway();
    let route = ["-n", "r1", "route", "add", "default", "via", "10.77.0.100"];
    assert!(Command::new("ip").args(route).status().unwrap().success());
    let scratch = Scratch::new("line");
    let dir = scratch.join("r1");
    let place = dir.display().to_string();
    run(["init", "--difficulty", "0", "--dir", &place]).success();
    // Its network is one of the internet.
    fs::write(dir.join("warren.toml"), "[link]\nlan_discovery = true\n").unwrap();
    let refused = run(["run", "--dir", &place]);
    assert!(!refused.status.success());
    assert!(refused.stderr.contains("warren init --local"), "{}", refused.stderr);
    fs::write(dir.join("warren.toml"), "[link]\nport_mapping = true\n").unwrap();
    let mut router = Router::start_in(Some(&namespace(1)), &dir, &[]);
    let status = wait_for(Duration::from_mins(1), "a port to be forwarded", || {
        router.status().filter(|status| status["mapped"] != "asking")
    });
    let port = router.link.port();
    assert_eq!(status["mapped"], "forwarded", "{status}");
    assert_eq!(status["mapping"], format!("the line's router forwards 9.9.9.9:{port} (UPnP)"));
    assert_eq!(status["address"], format!("9.9.9.9:{port}"), "what it tells others");
    let doctor = router.command(&["doctor"]);
    assert!(doctor.stdout.contains("port mapping the line's router forwards"), "{}", doctor.stdout);
    router.signal("TERM");
    wait_for(Duration::from_secs(20), "the router to stop", || {
        (!router.is_running()).then_some(())
    });
    let asked = asked.lock().unwrap().clone();
    let adds = format!("AddPortMapping  {port} TCP {port} 10.77.0.1 1 warren 3600");
    let ends = format!("DeletePortMapping  {port} TCP");
    assert_eq!(asked, ["GetExternalIPAddress ".to_owned(), adds, ends]);
}
