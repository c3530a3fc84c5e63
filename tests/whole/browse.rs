//! A browser that `warren browse` starts sends nothing but to the proxy.
//!
//! Lives here: a page that tries to get out in every way that was seen to work, headless Chromium
//! and Firefox in a network namespace with a line that leads nowhere, and what was sent there. Does
//! not live here: what the proxy does with what reaches it (`fail_closed`).
//!
//! Needs a browser, which `./warren test` does not install for its size.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use harness::{
    binary::warren,
    group, machine,
    runner::{Group, figure, skip, skip_extra, wait_for},
    scratch::Scratch,
    testnet::Testnet,
};
use socket2::{Domain, Protocol, Socket, Type};

pub(crate) fn group() -> Group {
    group!("browse", shares: false,
        a_browser_started_by_browse_sends_nothing_but_to_the_proxy,
    )
}

/// Browsers, as `warren browse --browser` calls them, and their programs.
const BROWSERS: [(&str, &str); 2] = [("chromium", "chromium"), ("firefox", "firefox-esr")];

fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

fn a_browser_started_by_browse_sends_nothing_but_to_the_proxy() {
    if !installed("chromium") {
        skip_extra("no Chromium here: `apt-get install chromium`, and run this test again");
    }
    if !machine::is_root() {
        skip("needs root for a network namespace");
    }
    let scratch = Scratch::new("browse");
    let resolv =
        scratch.write("resolv.conf", b"nameserver 198.51.100.1\noptions timeout:1 attempts:1\n");
    // A line with an address, a router and a name server on it, none of which is there.
    let script = "ip link set lo up && ip link add v0 type veth peer name v1 && \
                  ip addr add 198.51.100.2/24 dev v0 && ip link set v0 up && ip link set v1 up && \
                  ip neigh add 198.51.100.1 lladdr 02:00:00:00:00:01 dev v0 nud permanent && \
                  ip route add default via 198.51.100.1 && \
                  mount --bind \"$1\" \"$(readlink -f /etc/resolv.conf)\" && \
                  exec \"$2\" --inside=browse";
    let status = Command::new("unshare")
        .args(["-n", "-m", "sh", "-c", script, "inside"])
        .arg(resolv)
        .arg(std::env::current_exe().unwrap())
        .env("WARREN_BIN", warren())
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "inside the namespace: {status}");
}

/// The page; what it asks for last tells that its script ran to the end.
const PAGE: &str = r#"<!doctype html><title>out</title>
<link rel="dns-prefetch" href="//dns-prefetch.example">
<link rel="preconnect" href="http://preconnect.example">
<link rel="prefetch" href="http://prefetch.example/x">
<link rel="icon" href="http://icon.example/x.ico">
<img src="http://clearnet.example/x.png"><img src="http://203.0.113.7/x.png">
<img src="http://127.0.0.1:7730/x.png"><img src="https://tls.example/x.png">
<iframe src="http://frame.example/"></iframe>
<script>
const quietly = f => { try { const p = f(); if (p && p.catch) p.catch(() => {}); } catch (e) {} };
quietly(() => fetch('http://fetch.example/'));
quietly(() => fetch('http://198.51.100.9:8080/', {mode: 'no-cors'}));
quietly(() => new WebSocket('ws://socket.example/'));
quietly(() => navigator.sendBeacon('http://beacon.example/', 'x'));
quietly(() => {
  const urls = ['stun:203.0.113.5:3478', 'stun:stun.example:3478'];
  const peer = new RTCPeerConnection({iceServers: [{urls}]});
  peer.createDataChannel('x');
  return peer.createOffer().then(offer => peer.setLocalDescription(offer));
});
setTimeout(() => fetch('/done'), 4000);
</script>
"#;

/// A web server that serves the page, and tells what it was asked for.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&asked);
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let list = Arc::clone(&list);
                thread::spawn(move || answer(socket, &list));
            }
        });
        Self { address, asked }
    }

    fn was_asked(&self, path: &str) -> bool {
        self.asked.lock().unwrap().iter().any(|asked| asked == path)
    }

    fn forget(&self) {
        self.asked.lock().unwrap().clear();
    }
}

fn answer(mut socket: TcpStream, asked: &Mutex<Vec<String>>) -> Option<()> {
    socket.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let mut head = Vec::new();
    let mut piece = [0; 4_096];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let n = socket.read(&mut piece).ok().filter(|n| *n > 0)?;
        head.extend_from_slice(&piece[..n]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split_whitespace().nth(1)?.to_owned();
    let body = if path == "/" { PAGE } else { "" };
    asked.lock().unwrap().push(path);
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(answer.as_bytes()).ok()
}

/// Everything that this namespace's devices carry, from now on.
struct Wire {
    seen: Arc<Mutex<BTreeSet<String>>>,
    over: Arc<AtomicBool>,
}

impl Wire {
    /// `allowed`: where connections may go.
    fn watch(allowed: BTreeSet<SocketAddr>) -> Self {
        // ETH_P_ALL, in network order: every packet of every device.
        let protocol = Protocol::from(i32::from(3u16.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        socket.set_recv_buffer_size(8 << 20).unwrap();
        let (seen, over) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let this = Self { seen: Arc::clone(&seen), over: Arc::clone(&over) };
        thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while !over.load(Ordering::Relaxed) {
                match (&socket).read(&mut buffer) {
                    Ok(n) => seen.lock().unwrap().extend(foreign(&buffer[..n], &allowed)),
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
        this
    }

    /// What went where it should not, since the last call.
    fn take(&self) -> BTreeSet<String> {
        // What is still in the socket's buffer.
        thread::sleep(Duration::from_millis(500));
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// A datagram, or the first packet of a connection to somewhere else than `allowed`.
fn foreign(packet: &[u8], allowed: &BTreeSet<SocketAddr>) -> Option<String> {
    let (protocol, target, rest): (u8, IpAddr, &[u8]) = match packet.first()? >> 4 {
        4 => {
            let header = usize::from(packet[0] & 15) * 4;
            let to: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
            (*packet.get(9)?, Ipv4Addr::from(to).into(), packet.get(header..)?)
        }
        6 => {
            let to: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
            (*packet.get(6)?, Ipv6Addr::from(to).into(), packet.get(40..)?)
        }
        _ => return None,
    };
    let port = u16::from_be_bytes(rest.get(2..4)?.try_into().ok()?);
    let to = SocketAddr::new(target, port);
    match protocol {
        17 => Some(format!("UDP to {to}")),
        6 => {
            let (syn, ack) = (rest.get(13)? & 2 != 0, rest.get(13)? & 16 != 0);
            (syn && !ack && !allowed.contains(&to)).then(|| format!("TCP to {to}"))
        }
        _ => None,
    }
}

/// A browser that ends with its test.
struct Running(Child);

impl Running {
    fn start(program: impl AsRef<OsStr>, words: &[&str], home: &Path) -> Self {
        let mut command = Command::new(program);
        command.args(words).env("HOME", home).env("TMPDIR", home).stdin(Stdio::null());
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // `browse` ends its browser when it is told to end.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        for _ in 0..200 {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What Chromium needs where there is no screen and only root.
const HEADLESS: [&str; 3] = ["--headless", "--no-sandbox", "--disable-gpu"];

pub(crate) fn inside() {
    let server = Server::start();
    let net = Testnet::up(8, &[server.address]);
    let name = &net.services[0].name;
    net.via(0).get("/hello").unwrap();
    let mut allowed = BTreeSet::from([server.address]);
    for router in &net.routers {
        allowed.extend([router.link, router.proxy, router.metrics]);
    }
    let wire = Wire::watch(allowed);
    assert!(TcpStream::connect(net.client().proxy).is_ok());
    assert_eq!(wire.take(), BTreeSet::new(), "the network itself sends elsewhere");

    // What sees nothing proves nothing: a browser that is only pointed at the proxy is seen.
    let home = Scratch::new("home");
    let proxy = format!("--proxy-server=socks5://{}", net.client().proxy);
    let profile = format!("--user-data-dir={}", home.join("plain").display());
    let url = format!("http://{name}/");
    let words = [&HEADLESS[..], &[&proxy, &profile, &url]].concat();
    let plain = Running::start("chromium", &words, home.path());
    let mut seen = BTreeSet::new();
    wait_for(Duration::from_mins(1), "an unprotected browser to be seen", || {
        seen.extend(wire.take());
        seen.iter().any(|what| what.starts_with("UDP to 203.0.113.5")).then_some(())
    });
    drop(plain);
    figure("sent by a Chromium that is only pointed at the proxy", format!("{seen:?}"));

    for (browser, _) in BROWSERS.iter().filter(|(_, program)| installed(program)) {
        server.forget();
        wire.take();
        let dir = net.client().dir.display().to_string();
        let headless: &[&str] = if *browser == "chromium" { &HEADLESS } else { &["--headless"] };
        let words =
            [&["browse", name, "--browser", browser, "--dir", &dir, "--"], headless].concat();
        let running = Running::start(warren(), &words, home.path());
        wait_for(Duration::from_mins(1), "the page's script to end", || {
            server.was_asked("/done").then_some(())
        });
        // What it does when it has nothing to do, and when it is told to end.
        thread::sleep(Duration::from_secs(10));
        drop(running);
        let seen = wire.take();
        assert_eq!(seen, BTreeSet::new(), "{browser}");
        println!("  figure: {browser}: nothing but to the proxy");
        let left = std::fs::read_dir(home.path()).unwrap().flatten();
        let left: Vec<_> = left
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with("warren-browse-"))
            .collect();
        assert!(left.is_empty(), "a profile was left behind: {left:?}");
    }
}
