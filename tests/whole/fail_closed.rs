//! Nothing leaves the overlay.
//!
//! Lives here: refusals of names and addresses outside, at once and without a DNS query, shown in a
//! network namespace that has nothing but a loopback device. Does not live here: the wording of each
//! refusal (proxy's own tests).
//!
//! The test program runs itself once more inside the namespace: `unshare` makes it, and it is gone
//! with its last process. There, `/etc/resolv.conf` names a socket of ours, and the kernel's own
//! counters tell whether anybody sent a datagram or tried to reach an address outside.

use std::{
    collections::BTreeMap,
    fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use harness::{
    client::Via,
    group, machine,
    origin::Origin,
    runner::{Group, figure, skip},
    scratch::Scratch,
    testnet::Testnet,
};

pub(crate) fn group() -> Group {
    group!("fail_closed", shares: false,
        names_and_addresses_outside_are_refused_at_once_and_cause_no_dns_query,
    )
}

fn names_and_addresses_outside_are_refused_at_once_and_cause_no_dns_query() {
    if !machine::is_root() {
        skip("needs root for a network namespace");
    }
    if !Command::new("unshare").args(["-n", "-m", "true"]).status().is_ok_and(|done| done.success())
    {
        skip("network namespaces cannot be made here");
    }
    // The binary is built before, where there may be a network.
    let binary = harness::binary::warren();
    let scratch = Scratch::new("dns");
    let resolv =
        scratch.write("resolv.conf", b"nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
    // An address that is not loopback: without one, resolvers know that asking is of no use.
    let script = "ip link set lo up && ip addr add 198.51.100.2/32 dev lo && mount --bind \"$1\" \"$(readlink -f /etc/resolv.conf)\" && \
                  exec \"$2\" --inside=fail_closed";
    let status = Command::new("unshare")
        .args(["-n", "-m", "sh", "-c", script, "inside"])
        .arg(resolv)
        .arg(std::env::current_exe().unwrap())
        .env("WARREN_BIN", binary)
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "inside the namespace: {status}");
}

/// The namespace's counters that a query or a stray connection would raise.
fn counters() -> BTreeMap<String, u64> {
    let mut counters = BTreeMap::new();
    for file in ["/proc/net/snmp", "/proc/net/snmp6"] {
        let text = fs::read_to_string(file).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.windows(2) {
            let (Some((kind, names)), Some((again, values))) =
                (pair[0].split_once(": "), pair[1].split_once(": "))
            else {
                continue;
            };
            if kind == again {
                for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
                    counters.insert(format!("{kind}{name}"), value.parse().unwrap_or(0));
                }
            }
        }
        for line in &lines {
            if let Some((name, value)) = line.split_once(char::is_whitespace)
                && let Ok(value) = value.trim().parse()
            {
                counters.insert(name.to_owned(), value);
            }
        }
    }
    let watched = ["UdpOutDatagrams", "Udp6OutDatagrams", "IpOutNoRoutes", "Ip6OutNoRoutes"];
    counters.retain(|name, _| watched.contains(&name.as_str()));
    assert_eq!(counters.len(), 4, "{counters:?}");
    counters
}

/// Datagrams that have come to the name server since the last call.
fn queries(server: &UdpSocket) -> usize {
    let mut count = 0;
    let mut buffer = [0; 512];
    loop {
        match server.recv_from(&mut buffer) {
            Ok(_) => count += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return count,
            Err(error) => panic!("{error}"),
        }
    }
}

/// What is said to the mixed port, and the start of the answer it must give.
struct Ask {
    what: String,
    /// Each is sent when the one before was answered.
    say: Vec<Vec<u8>>,
    /// Where in the last answer what is looked at starts.
    at: usize,
    answer: Vec<u8>,
}

fn socks5(command: u8, address: &[u8], what: String) -> Ask {
    let request = [&[5, command, 0], address, &[0, 80]].concat();
    Ask { what, say: vec![vec![5, 1, 0], request], at: 1, answer: vec![2] }
}

fn asks() -> Vec<Ask> {
    let names = [
        "example.com",
        "localhost",
        "facebookcorewwwi.onion",
        "a.i2p",
        "warren",
        "x.warren.com",
        "router.local",
    ];
    let mut asks = Vec::new();
    for name in names {
        let len = u8::try_from(name.len()).unwrap();
        let address = [&[3, len], name.as_bytes()].concat();
        asks.push(socks5(1, &address, format!("SOCKS5 CONNECT {name}")));
        asks.push(socks5(0xf0, &address, format!("SOCKS5 RESOLVE {name}")));
        let request = [&[4, 1, 0, 80, 0, 0, 0, 1, 0], name.as_bytes(), &[0]].concat();
        let (say, answer) = (vec![request], vec![0x5b]);
        asks.push(Ask { what: format!("SOCKS4a {name}"), say, at: 1, answer });
        for request in [
            format!("CONNECT {name}:443 HTTP/1.1\r\nHost: {name}:443\r\n\r\n"),
            format!("GET http://{name}/ HTTP/1.1\r\nHost: {name}\r\n\r\n"),
        ] {
            let what = request.lines().next().unwrap().to_owned();
            asks.push(Ask {
                what,
                say: vec![request.into_bytes()],
                at: 9,
                answer: b"403".to_vec(),
            });
        }
    }
    for ip in [[93, 184, 216, 34], [127, 0, 0, 1], [10, 0, 0, 1], [169, 254, 169, 254]] {
        let text = std::net::Ipv4Addr::from(ip).to_string();
        asks.push(socks5(1, &[&[1], &ip[..]].concat(), format!("SOCKS5 CONNECT address {text}")));
        let len = u8::try_from(text.len()).unwrap();
        let as_name = [&[3, len], text.as_bytes()].concat();
        asks.push(socks5(1, &as_name, format!("SOCKS5 CONNECT {text} as a name")));
        let request = [&[4, 1, 0, 80], &ip[..], &[0]].concat();
        asks.push(Ask {
            what: format!("SOCKS4 {text}"),
            say: vec![request],
            at: 1,
            answer: vec![0x5b],
        });
        let request = format!("GET http://{text}/ HTTP/1.1\r\nHost: {text}\r\n\r\n");
        let what = format!("GET http://{text}/");
        asks.push(Ask { what, say: vec![request.into_bytes()], at: 9, answer: b"403".to_vec() });
    }
    let ip6 = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    asks.push(socks5(1, &[&[4], &ip6[..]].concat(), "SOCKS5 CONNECT address 2001:db8::1".into()));
    let request = b"GET http://[2001:db8::1]/ HTTP/1.1\r\nHost: [2001:db8::1]\r\n\r\n".to_vec();
    let (what, answer) = ("GET http://[2001:db8::1]/".into(), b"403".to_vec());
    asks.push(Ask { what, say: vec![request], at: 9, answer });
    asks
}

impl Ask {
    /// How long the refusal took; panics when it is none.
    fn put(&self, proxy: SocketAddr) -> Duration {
        let mut socket = TcpStream::connect(proxy).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let start = Instant::now();
        let mut answer = Vec::new();
        let wanted = self.at + self.answer.len();
        for words in &self.say {
            socket.write_all(words).unwrap();
            answer.clear();
            let need = if std::ptr::eq(words, self.say.last().unwrap()) { wanted } else { 2 };
            while answer.len() < need {
                let mut buffer = [0; 4_096];
                match socket.read(&mut buffer) {
                    Ok(n @ 1..) => answer.extend_from_slice(&buffer[..n]),
                    other => panic!("{}: {other:?} after {answer:?}", self.what),
                }
            }
        }
        let took = start.elapsed();
        let got = &answer[self.at..wanted];
        assert!(got == self.answer, "{}: answered {got:?} instead of {:?}", self.what, self.answer);
        took
    }
}

/// The time in which a refusal must come.
const AT_ONCE: Duration = Duration::from_millis(50);

/// What runs inside the namespace.
pub(crate) fn inside() {
    let server = UdpSocket::bind("127.0.0.1:53").unwrap();
    server.set_nonblocking(true).unwrap();
    let _tcp_server = std::net::TcpListener::bind("127.0.0.1:53").unwrap();

    // The detectors work: somebody who does resolve is seen by both.
    let before = counters();
    let _ = Command::new("getent").args(["ahosts", "detector.example"]).output();
    assert!(queries(&server) > 0, "the name server of this namespace hears nothing");
    assert!(counters()["UdpOutDatagrams"] > before["UdpOutDatagrams"]);
    let before = counters();
    let _ =
        TcpStream::connect_timeout(&"93.184.216.34:80".parse().unwrap(), Duration::from_secs(1));
    assert!(counters()["IpOutNoRoutes"] > before["IpOutNoRoutes"], "{before:?} {:?}", counters());

    let origin = Origin::start();
    let before = counters();
    let net = Testnet::up(5, &[origin.address]);
    let proxy = net.client().proxy;
    let mut slowest = (Duration::ZERO, String::new());
    let asks = asks();
    for ask in &asks {
        // The fastest of three: how long the router takes, not how busy this machine is.
        let took = (0..3).map(|_| ask.put(proxy)).min().unwrap();
        assert!(took < AT_ONCE, "{}: refused after {took:?}", ask.what);
        slowest = slowest.max((took, ask.what.clone()));
    }
    println!("  {} ways to ask for something outside, all refused", asks.len());
    figure("slowest refusal, us", format!("{} ({})", slowest.0.as_micros(), slowest.1));
    // The same port does serve the overlay.
    Via::new(proxy, &net.services[0].name).verify(100_000).unwrap();
    // A resolver that was asked would retry for some seconds.
    thread::sleep(Duration::from_secs(2));
    assert_eq!(queries(&server), 0, "DNS queries");
    assert_eq!(counters(), before, "datagrams or connections to the outside");
}
