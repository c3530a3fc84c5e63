//! Strangers at a router's link port.
//!
//! Lives here: garbage, silence, halves and repetitions of a real handshake, floods. Does not live
//! here: hostile routers that finish the handshake (overlay's own tests, sim/).
//!
//! A real first message is had without any cryptography: a router announces the address of a tap that
//! passes everything on, and another router dials it.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, OnceLock},
    thread,
    time::{Duration, Instant},
};

use harness::{
    client::http_get,
    group, machine,
    origin::bytes,
    runner::{Group, figure, wait_for},
    testnet::Router,
};
use socket2::{Domain, Socket, Type};

use crate::shared::{ORIGIN, standard};

pub(crate) fn group() -> Group {
    group!("hostile", shares: true,
        whoever_is_no_router_hears_no_byte_and_is_cut_off_in_time,
        a_replayed_first_message_gets_no_answer,
        two_hundred_connections_at_once_cost_bounded_memory,
        the_network_still_works_afterwards,
    )
}

/// A router behind a tap, and the first message that another router sent it.
#[derive(Debug)]
struct Tapped {
    router: Router,
    first_message: Vec<u8>,
    _dialler: Router,
}

fn tapped() -> &'static Tapped {
    static TAPPED: OnceLock<Tapped> = OnceLock::new();
    TAPPED.get_or_init(|| {
        let shared = standard();
        let scratch = shared.net.scratch();
        let tap = TcpListener::bind((Ipv4Addr::new(127, 77, 0, 1), 0)).unwrap();
        let announce = tap.local_addr().unwrap();
        let dir = scratch.join("net/tapped");
        let member = |dir: &std::path::Path, line: &str| {
            let dir = dir.display().to_string();
            harness::binary::run(["init", "--join", line, "--dir", &dir]).success();
        };
        member(&dir, &shared.net.routers[1].invite());
        let settings = dir.join("warren.toml");
        std::fs::write(&settings, format!("[link]\nannounce = \"{announce}\"\n")).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&settings, private).unwrap();
        let local = ["--proxy", "127.0.0.1:0", "--api", "127.0.0.1:0"];
        let router = Router::start(&dir, &[&["--link", "127.78.0.1:0"], &local[..]].concat());
        let heard = Arc::new(Mutex::new(None));
        let (slot, to) = (Arc::clone(&heard), router.link);
        thread::spawn(move || {
            for stream in tap.incoming().flatten() {
                let slot = Arc::clone(&slot);
                thread::spawn(move || pass_on(stream, to, &slot));
            }
        });
        wait_for(Duration::from_mins(1), "the tapped router to be ready", || {
            router.is_ready().then_some(())
        });
        let dir = scratch.join("net/dialler");
        member(&dir, &router.invite());
        let dialler = Router::start(&dir, &[&["--link", "127.79.0.1:0"], &local[..]].concat());
        let first_message = wait_for(Duration::from_mins(1), "a router to dial the tap", || {
            heard.lock().unwrap().clone()
        });
        figure("bytes of a real first message", first_message.len());
        Tapped { router, first_message, _dialler: dialler }
    })
}

/// Joins two sockets; into `slot` goes what the dialler had said when the router first answered.
fn pass_on(mut dialler: TcpStream, to: SocketAddr, slot: &Mutex<Option<Vec<u8>>>) {
    let Ok(mut router) = TcpStream::connect(to) else { return };
    let (Ok(mut from_router), Ok(mut to_dialler)) = (router.try_clone(), dialler.try_clone())
    else {
        return;
    };
    let said = Mutex::new(Vec::new());
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; 16 * 1_024];
            while let Ok(n @ 1..) = from_router.read(&mut buffer) {
                slot.lock().unwrap().get_or_insert_with(|| said.lock().unwrap().clone());
                if to_dialler.write_all(&buffer[..n]).is_err() {
                    break;
                }
            }
            let _ = to_dialler.shutdown(std::net::Shutdown::Both);
        });
        let mut buffer = [0; 16 * 1_024];
        while let Ok(n @ 1..) = dialler.read(&mut buffer) {
            said.lock().unwrap().extend_from_slice(&buffer[..n]);
            if router.write_all(&buffer[..n]).is_err() {
                break;
            }
        }
        let _ = router.shutdown(std::net::Shutdown::Both);
    });
}

/// Connects from an address of its own, so that one stranger does not use up another's budget.
fn connect(k: u8, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let source = SocketAddr::from((Ipv4Addr::new(127, 100 + k, 0, 1), 0));
    socket.bind(&source.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

/// What became of a stranger.
#[derive(Debug)]
struct Fate {
    /// Bytes it was answered.
    answered: usize,
    /// When the router closed, counted from connecting; `None` if it did not.
    closed: Option<Duration>,
}

/// The longest a stranger is watched.
const WATCH: Duration = Duration::from_mins(1);

/// Writes what `speak` does and then watches; the answer, if any, and the end.
fn watch(mut socket: TcpStream, speak: impl FnOnce(&mut TcpStream)) -> Fate {
    let start = Instant::now();
    socket.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    speak(&mut socket);
    let (mut answered, mut buffer) = (0, [0; 4_096]);
    while start.elapsed() < WATCH {
        match socket.read(&mut buffer) {
            Ok(0) => return Fate { answered, closed: Some(start.elapsed()) },
            Ok(n) => answered += n,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return Fate { answered, closed: Some(start.elapsed()) },
        }
    }
    Fate { answered, closed: None }
}

type Speech = (&'static str, Box<dyn FnOnce(&mut TcpStream) + Send>);

fn say(words: Vec<u8>) -> Box<dyn FnOnce(&mut TcpStream) + Send> {
    Box::new(move |socket| {
        let _ = socket.write_all(&words);
    })
}

/// What becomes of every kind of stranger; all at the same time, because they wait half a minute.
fn fates() -> &'static [(&'static str, Fate)] {
    static FATES: OnceLock<Vec<(&str, Fate)>> = OnceLock::new();
    FATES.get_or_init(|| {
        let tapped = tapped();
        let to = tapped.router.link;
        thread::scope(|scope| {
            let threads: Vec<_> = (0..)
                .zip(strangers(&tapped.first_message))
                .map(|(k, (what, speak))| scope.spawn(move || (what, watch(connect(k, to), speak))))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    })
}

/// What those strangers are called who say again what a router has said before.
const REPLAY: &str = "a whole first message of another router";

fn strangers(first: &[u8]) -> Vec<Speech> {
    let first = first.to_vec();
    let half = first[..first.len() / 2].to_vec();
    let mut flipped = first.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let mut flipped_early = first.clone();
    flipped_early[40] ^= 0x80;
    vec![
        (REPLAY, say(first.clone())),
        (REPLAY, say(first.clone())),
        ("nothing", say(Vec::new())),
        ("one byte", say(vec![7])),
        ("garbage of 4 KiB", say(bytes(4_096))),
        ("garbage as long as a first message", say(bytes(first.len()))),
        ("zeros", say(vec![0; 4_096])),
        ("HTTP", say(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec())),
        ("TLS", say([&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3][..], &bytes(505)].concat())),
        ("half a handshake", say(half.clone())),
        ("half a handshake, then garbage", say([half, bytes(8_192)].concat())),
        ("a handshake with its last bit changed", say(flipped)),
        ("a handshake with an early bit changed", say(flipped_early)),
        (
            "a handshake byte by byte, never finished",
            Box::new(move |socket| {
                for byte in first.iter().take(200) {
                    if socket.write_all(&[*byte]).is_err() {
                        break;
                    }
                    thread::sleep(Duration::from_millis(20));
                }
            }),
        ),
        (
            "8 MiB without a pause",
            Box::new(|socket| {
                let piece = bytes(64 * 1_024);
                for _ in 0..128 {
                    if socket.write_all(&piece).is_err() {
                        break;
                    }
                }
            }),
        ),
    ]
}

/// Panics unless all of `fates` were told nothing and cut off in time.
fn cut_off_unheard<'a>(fates: impl Iterator<Item = &'a (&'static str, Fate)>) {
    let mut wrong = Vec::new();
    for (what, fate) in fates {
        let closed = fate.closed.map_or("never".into(), |at| format!("{:.1} s", at.as_secs_f64()));
        println!("  {what}: {} bytes answered, closed after {closed}", fate.answered);
        let in_time = fate
            .closed
            .is_some_and(|at| (Duration::from_secs(10)..Duration::from_secs(45)).contains(&at));
        if fate.answered > 0 || !in_time {
            wrong.push(format!("{what}: {fate:?}"));
        }
    }
    assert!(wrong.is_empty(), "answered, or not cut off within 10 to 45 s: {wrong:?}");
}

fn whoever_is_no_router_hears_no_byte_and_is_cut_off_in_time() {
    cut_off_unheard(fates().iter().filter(|(what, _)| *what != REPLAY));
    assert!(tapped().router.is_ready());
}

fn a_replayed_first_message_gets_no_answer() {
    // It was answered when its owner sent it: so it was known to be whole.
    cut_off_unheard(fates().iter().filter(|(what, _)| *what == REPLAY));
}

/// What two hundred strangers may cost in resident memory: 256 KiB each and some slack of the
/// allocator.
const FLOOD_BYTES_MAX: u64 = 64 << 20;

fn two_hundred_connections_at_once_cost_bounded_memory() {
    let tapped = tapped();
    let to = tapped.router.link;
    let before = machine::rss_bytes(tapped.router.pid).unwrap();
    let sockets: Vec<TcpStream> = (0..200u8).map(|k| connect(k % 150, to)).collect();
    let piece = bytes(1 << 20);
    thread::scope(|scope| {
        for (k, socket) in sockets.iter().enumerate() {
            let (mut socket, piece) = (socket, &piece);
            thread::Builder::new()
                .stack_size(128 * 1_024)
                .spawn_scoped(scope, move || {
                    socket.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
                    // Every fourth only holds its place.
                    if k % 4 != 0 {
                        let _ = socket.write_all(piece);
                    }
                })
                .unwrap();
        }
    });
    let mut most = before;
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        most = most.max(machine::rss_bytes(tapped.router.pid).unwrap());
        let start = Instant::now();
        let (status, _) =
            http_get(tapped.router.metrics, "/healthz").expect("healthy in the flood");
        assert_eq!(status, 200);
        slowest = slowest.max(start.elapsed());
        thread::sleep(Duration::from_millis(100));
    }
    figure("200 strangers, MiB of memory more", (most - before) >> 20);
    figure("200 strangers, slowest /healthz, ms", slowest.as_millis());
    assert!(most - before < FLOOD_BYTES_MAX, "{} bytes more", most - before);
    assert!(tapped.router.is_ready());
    drop(sockets);
}

fn the_network_still_works_afterwards() {
    let shared = standard();
    let name = &shared.net.services[ORIGIN].name;
    harness::client::Via::new(tapped().router.proxy, name).verify(1 << 20).unwrap();
    shared.net.via(ORIGIN).verify(1 << 20).unwrap();
    for router in &shared.net.routers {
        assert!(router.is_ready(), "{} is not ready", router.id);
    }
}
