//! Golden bytes are what the real clients sent to a logging proxy (Debian 12 and Chromium 156).

use proptest::prelude::*;
use warren_overlay::rng::Rng;

use super::*;
use crate::{
    testing::{listener, name},
    virtual_addresses::VirtualAddresses,
};

mod http;

/// What a driver sees of one connection.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    replies: Vec<u8>,
    destination: Option<Destination>,
    isolation: Option<IsolationKey>,
    protocol: Option<Protocol>,
    /// Early data and what passed after it.
    stream: Vec<u8>,
    closed: bool,
}

/// A driver without sockets: one connection, and the map that all share.
struct Driver {
    inbound: Inbound,
    map: VirtualAddresses,
    upload: Option<Upload>,
    seen: Seen,
}

impl Driver {
    fn new() -> Self {
        Self::with(VirtualAddresses::new(&mut Rng::from_seed([3; 32])))
    }

    fn with(map: VirtualAddresses) -> Self {
        let inbound = Inbound::new(Time::ZERO, listener(0));
        Self { inbound, map, upload: None, seen: Seen::default() }
    }

    fn feed(&mut self, bytes: &[u8]) {
        if let Some(upload) = &mut self.upload {
            let pass = upload.pass(bytes);
            self.seen.stream.extend(&bytes[..pass]);
        } else {
            self.inbound.handle_input(Time::ZERO, bytes);
            self.drain();
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.inbound.poll_output() {
            assert!(!self.seen.closed, "nothing follows Close");
            match output {
                Output::Reply(bytes) => self.seen.replies.extend(bytes),
                Output::Lookup(lookup) => {
                    let answer = self.map.answer(lookup);
                    self.inbound.looked_up(answer);
                }
                Output::Connect(request) => {
                    self.seen.destination = Some(request.destination);
                    self.seen.isolation = Some(request.isolation);
                    self.seen.protocol = Some(request.protocol);
                    self.seen.stream.extend(request.early);
                    self.upload = Some(request.upload);
                }
                Output::Close => self.seen.closed = true,
            }
        }
    }

    fn connected(&mut self) {
        self.inbound.connected();
        self.drain();
    }

    fn refused(&mut self, failure: Failure) {
        self.inbound.refused(failure);
        self.drain();
    }
}

/// What is seen of `bytes`, given at once.
fn seen(bytes: &[u8]) -> Seen {
    let mut driver = Driver::new();
    driver.feed(bytes);
    driver.seen
}

/// `name(1)` as text, with `.warren`.
fn host() -> String {
    name(1).to_string()
}

#[expect(clippy::unnecessary_wraps, reason = "it is compared with an option everywhere")]
fn to(port: u16) -> Option<Destination> {
    Some(Destination { name: name(1), port })
}

/// A SOCKS5 request by name.
fn socks5(command: u8, host: &str, port: u16) -> Vec<u8> {
    let mut bytes = vec![5, command, 0, 3, u8::try_from(host.len()).unwrap()];
    bytes.extend(host.bytes());
    bytes.extend(port.to_be_bytes());
    bytes
}

fn socks5_ip(command: u8, octets: &[u8]) -> Vec<u8> {
    let mut bytes = vec![5, 1, 0, 5, command, 0, if octets.len() == 4 { 1 } else { 4 }];
    bytes.extend(octets);
    bytes.extend([0, 80]);
    bytes
}

fn socks4(host: &str, user: &str) -> Vec<u8> {
    [&[4, 1, 0, 80, 0, 0, 0, 1], user.as_bytes(), &[0], host.as_bytes(), &[0]].concat()
}

fn status(seen: &Seen) -> u16 {
    let text = str::from_utf8(&seen.replies).unwrap();
    text.strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap()
}

#[test]
fn curl_and_git_over_socks5() {
    // Offer GSSAPI (1) beside none (0).
    let mut driver = Driver::new();
    driver.feed(&[5, 2, 0, 1]);
    assert_eq!(driver.seen.replies, [5, 0]);
    driver.feed(&socks5(1, &host(), 80));
    assert_eq!(driver.seen.destination, to(80));
    assert_eq!(driver.seen.stream, b"");
    driver.connected();
    assert_eq!(driver.seen.replies, [5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    assert!(!driver.seen.closed);
}

#[test]
fn curl_with_user_and_password_gets_a_context_of_its_own() {
    let with = |user: &str, password: &str| {
        let mut driver = Driver::new();
        driver.feed(&[5, 3, 0, 1, 2]);
        assert_eq!(driver.seen.replies, [5, 2]);
        let mut login = vec![1, u8::try_from(user.len()).unwrap()];
        login.extend(user.bytes());
        login.push(u8::try_from(password.len()).unwrap());
        login.extend(password.bytes());
        driver.feed(&login);
        assert_eq!(driver.seen.replies, [5, 2, 1, 0]);
        driver.feed(&socks5(1, &host(), 80));
        driver.seen.isolation.unwrap()
    };
    let without = seen(&[&[5, 1, 0][..], &socks5(1, &host(), 80)].concat()).isolation.unwrap();
    let keys = [with("a", "b"), with("a", "c"), with("ab", ""), with("", ""), without];
    for (index, key) in keys.iter().enumerate() {
        assert!(!keys[..index].contains(key));
    }
    assert_eq!(with("a", "b"), keys[0]);
}

#[test]
fn chromium_and_python_over_socks5_offer_only_no_authentication() {
    let mut driver = Driver::new();
    driver.feed(&[5, 1, 0]);
    driver.feed(&socks5(1, &host(), 80));
    assert_eq!((driver.seen.destination, driver.seen.protocol), (to(80), Some(Protocol::Socks5)));
    driver.refused(Failure::NotFound);
    assert_eq!(driver.seen.replies, [5, 0, 5, 0xF0, 0, 1, 0, 0, 0, 0, 0, 0]);
    assert!(driver.seen.closed);
}

#[test]
fn torsocks_resolves_and_then_connects_to_the_address_as_text() {
    let mut driver = Driver::new();
    driver.feed(&[5, 1, 0]);
    driver.feed(&socks5(0xF0, &host(), 42)); // torsocks leaves rubbish in the port
    assert!(driver.seen.closed);
    let reply = driver.seen.replies.split_off(2);
    assert_eq!(reply[..4], [5, 0, 0, 1]);
    assert_eq!(reply[8..], [0, 0]);
    let octets: [u8; 4] = reply[4..8].try_into().unwrap();
    assert_ne!(octets[0], 127, "torsocks refuses loopback addresses");

    let text = std::net::Ipv4Addr::from(octets).to_string();
    let mut driver = Driver::with(driver.map);
    driver.feed(&[5, 1, 0]);
    driver.feed(&socks5(1, &text, 80));
    assert_eq!(driver.seen.destination, to(80));

    let mut driver = Driver::with(driver.map);
    driver.feed(&socks5_ip(1, &octets));
    assert_eq!(driver.seen.destination, to(80));

    let mut driver = Driver::with(driver.map);
    driver.feed(&socks5_ip(0xF1, &octets));
    let mut want = vec![5, 0, 5, 0, 0, 3, 63];
    want.extend(host().bytes());
    want.extend([0, 0]);
    assert_eq!(driver.seen.replies, want);
    assert!(driver.seen.closed);
}

#[test]
fn an_address_resolved_with_other_credentials_is_refused() {
    let mut driver = Driver::new();
    driver.feed(&[5, 1, 2, 1, 1, b'u', 1, b'p']);
    driver.feed(&socks5(0xF0, &host(), 0));
    let octets: [u8; 4] = driver.seen.replies[8..12].try_into().unwrap();
    let mut driver = Driver::with(driver.map);
    driver.feed(&socks5_ip(1, &octets));
    assert_eq!(driver.seen.replies, [5, 0, 5, 2, 0, 1, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn curl_over_socks4a() {
    let mut driver = Driver::new();
    driver.feed(&socks4(&host(), ""));
    assert_eq!(driver.seen.destination, to(80));
    driver.connected();
    assert_eq!(driver.seen.replies, [0, 0x5A, 0, 0, 0, 0, 0, 0]);
    let keys = [seen(&socks4(&host(), "")).isolation, seen(&socks4(&host(), "me")).isolation];
    assert_ne!(keys[0], keys[1]);
}

#[test]
fn whatever_is_outside_the_overlay_is_refused_at_once_and_never_looked_up() {
    for outside in ["example.com", "localhost", "127.0.0.1", "::1", "10.0.0.1", "warren"] {
        for command in [1, 0xF0] {
            let seen = seen(&[&[5, 1, 0][..], &socks5(command, outside, 80)].concat());
            assert_eq!(seen.replies, [5, 0, 5, 2, 0, 1, 0, 0, 0, 0, 0, 0], "{outside}");
            assert!(seen.closed && seen.destination.is_none());
        }
        let seen = seen(&socks4(outside, ""));
        assert_eq!(seen.replies, [0, 0x5B, 0, 0, 0, 0, 0, 0], "{outside}");
        assert!(seen.closed && seen.destination.is_none());
        let bracket = if outside.contains(':') { format!("[{outside}]") } else { outside.into() };
        for head in [
            format!("GET http://{bracket}/ HTTP/1.1\r\nHost: {}\r\n\r\n", host()),
            format!("GET http://{bracket}:8080 HTTP/1.1\r\n\r\n"),
            format!("CONNECT {bracket}:443 HTTP/1.1\r\n\r\n"),
        ] {
            let seen = self::seen(head.as_bytes());
            assert_eq!(status(&seen), 403, "{head}");
            assert!(seen.closed && seen.destination.is_none());
        }
    }
    for octets in [&[127, 0, 0, 1][..], &[8, 8, 8, 8], &[240, 192, 0, 9], &[0; 16]] {
        for command in [1, 0xF0, 0xF1] {
            let seen = seen(&socks5_ip(command, octets));
            assert_eq!(seen.replies, [5, 0, 5, 2, 0, 1, 0, 0, 0, 0, 0, 0]);
            assert!(seen.closed);
        }
    }
    assert_eq!(seen(&[4, 1, 0, 80, 8, 8, 8, 8, 0]).replies[..2], [0, 0x5B]);
}

#[test]
fn a_mistyped_name_is_told_apart() {
    let mistyped = host().replacen(&host()[..2], "aa", 1);
    let seen_socks = seen(&[&[5, 1, 0][..], &socks5(1, &mistyped, 80)].concat());
    assert_eq!(seen_socks.replies[..4], [5, 0, 5, 0xF6]);
    let seen_http = seen(format!("GET http://{mistyped}/ HTTP/1.1\r\n\r\n").as_bytes());
    assert_eq!(status(&seen_http), 400);
}

#[test]
fn bind_udp_and_unknown_address_kinds_are_refused() {
    for command in [2, 3, 0x7F] {
        let seen = seen(&[&[5, 1, 0][..], &socks5(command, &host(), 80)].concat());
        assert_eq!(seen.replies[..4], [5, 0, 5, 7]);
    }
    assert_eq!(seen(&[5, 1, 0, 5, 1, 0, 9]).replies[..4], [5, 0, 5, 8]);
    assert_eq!(seen(&[5, 1, 1]).replies, [5, 0xFF]);
    assert_eq!(seen(&[5, 0]).replies, [5, 0xFF]);
    assert_eq!(seen(&[5, 1, 2, 9]).replies, [5, 2, 1, 1]);
    assert_eq!(seen(&[&[4, 2], &socks4(&host(), "")[2..]].concat()).replies[..2], [0, 0x5B]);
}

#[test]
fn optimistic_data_comes_along() {
    let get = b"GET / HTTP/1.1\r\n\r\n";
    let mut driver = Driver::new();
    driver.feed(&[&[5, 1, 0][..], &socks5(1, &host(), 80), get].concat());
    driver.feed(b"more");
    assert_eq!(driver.seen.stream, b"GET / HTTP/1.1\r\n\r\nmore");
    let four = seen(&[&socks4(&host(), "")[..], get].concat());
    assert_eq!(four.stream, get);
    let connect = format!("CONNECT {}:22 HTTP/1.1\r\n\r\nSSH-2.0", host());
    assert_eq!(seen(connect.as_bytes()).stream, b"SSH-2.0");
}

#[test]
fn input_before_connect_was_polled_is_early_data_too() {
    let mut inbound = Inbound::new(Time::ZERO, listener(0));
    inbound.handle_input(Time::ZERO, &[5, 1, 0]);
    inbound.handle_input(Time::ZERO, &socks5(1, &host(), 80));
    inbound.handle_input(Time::ZERO, b"early");
    assert!(matches!(inbound.poll_output(), Some(Output::Reply(_))));
    let Some(Output::Connect(request)) = inbound.poll_output() else { panic!("no request") };
    assert_eq!(request.early, b"early");
}

#[test]
fn other_first_bytes_are_closed_on_without_a_word() {
    for first in (0..=255_u8).filter(|byte| ![4, 5].contains(byte) && !byte.is_ascii_alphabetic()) {
        let seen = seen(&[first]);
        assert_eq!(seen, Seen { closed: true, ..Seen::default() });
    }
}

#[test]
fn a_request_must_be_whole_within_ten_seconds() {
    let late = Time::ZERO + HEAD_WAIT;
    let cases: [(&[u8], &[u8]); 5] = [
        (b"", b""),
        (&[5, 1], b""),
        (&[5, 1, 0, 5], &[5, 0, 5, 1, 0, 1, 0, 0, 0, 0, 0, 0]),
        (&[4, 1], &[0, 0x5B, 0, 0, 0, 0, 0, 0]),
        (b"GET http", &Failure::Slow.response(true)),
    ];
    for (bytes, reply) in cases {
        let mut driver = Driver::new();
        driver.feed(bytes);
        assert_eq!(driver.inbound.poll_timeout(), Some(late));
        driver.inbound.handle_timeout(Time::from_micros(late.as_micros() - 1));
        driver.drain();
        assert!(!driver.seen.closed);
        driver.inbound.handle_timeout(late);
        driver.drain();
        assert!(driver.seen.closed);
        assert_eq!(driver.seen.replies, reply);
        assert_eq!(driver.inbound.poll_timeout(), None);
    }
    let mut driver = Driver::new();
    driver.feed(&socks4(&host(), ""));
    assert_eq!(driver.inbound.poll_timeout(), None);
    driver.inbound.handle_timeout(late);
    driver.drain();
    assert!(!driver.seen.closed);
}

#[test]
fn each_protocol_says_a_failure_in_its_own_words() {
    for failure in Failure::ALL {
        let mut driver = Driver::new();
        driver.feed(&[&[5, 1, 0][..], &socks5(1, &host(), 80)].concat());
        driver.refused(failure);
        assert_eq!(driver.seen.replies[2..4], [5, failure.socks5_code()]);

        let mut driver = Driver::new();
        driver.feed(&socks4(&host(), ""));
        driver.refused(failure);
        assert_eq!(driver.seen.replies[..2], [0, 0x5B]);

        for (method, with_body) in [("GET", true), ("HEAD", false)] {
            let mut driver = Driver::new();
            driver.feed(format!("{method} http://{}/ HTTP/1.1\r\n\r\n", host()).as_bytes());
            driver.refused(failure);
            assert_eq!(driver.seen.replies, failure.response(with_body));
            assert!(driver.seen.closed);
        }
    }
}

#[test]
fn late_and_repeated_answers_change_nothing() {
    let mut driver = Driver::new();
    driver.connected();
    driver.refused(Failure::Internal);
    driver.inbound.looked_up(Answer::Unknown);
    driver.drain();
    assert_eq!(driver.seen, Seen::default());
    driver.feed(&socks4(&host(), ""));
    driver.connected();
    driver.connected();
    driver.refused(Failure::Internal);
    assert_eq!(driver.seen.replies.len(), 8);
    assert!(!driver.seen.closed);
}

/// Whole requests of every kind, and things close to them.
fn any_stream() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        4 => Just(host()),
        1 => Just("example.com".to_owned()),
        1 => Just("127.0.0.1".to_owned()),
        1 => Just("x.warren".to_owned()),
    ];
    let request = name.prop_flat_map(|host| {
        prop_oneof![
            Just([&[5, 2, 0, 1][..], &socks5(1, &host, 80)].concat()),
            Just([&[5, 1, 2, 1, 1, b'u', 0][..], &socks5(0xF0, &host, 80)].concat()),
            Just(socks4(&host, "user")),
            Just(format!("CONNECT {host}:22 HTTP/1.1\r\nA: b\r\n\r\n").into_bytes()),
            Just(format!("GET http://{host}/x HTTP/1.1\r\nA: b\r\n\r\n").into_bytes()),
            Just(
                format!(
                    "POST http://{host} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
                     3\r\nabc\r\n0\r\n\r\n"
                )
                .into_bytes()
            ),
        ]
    });
    let broken = prop::option::weighted(0.4, (any::<prop::sample::Index>(), any::<u8>()));
    (request, broken, prop::collection::vec(any::<u8>(), 0..40)).prop_map(
        |(mut bytes, broken, tail)| {
            if let Some((at, with)) = broken {
                let at = at.index(bytes.len());
                bytes[at] = with;
            }
            bytes.extend(tail);
            bytes
        },
    )
}

proptest! {
    #[test]
    fn how_the_bytes_are_cut_makes_no_difference(
        bytes in any_stream(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let whole = seen(&bytes);
        let mut single = Driver::new();
        for byte in &bytes {
            single.feed(&[*byte]);
        }
        prop_assert_eq!(&single.seen, &whole);
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        ends.extend([0, bytes.len()]);
        ends.sort_unstable();
        let mut pieces = Driver::new();
        for pair in ends.windows(2) {
            pieces.feed(&bytes[pair[0]..pair[1]]);
        }
        prop_assert_eq!(&pieces.seen, &whole);
    }

    #[test]
    fn a_truncated_request_waits(at: prop::sample::Index) {
        for request in [
            [&[5, 1, 0][..], &socks5(1, &host(), 80)].concat(),
            [&[5, 1, 2, 1, 1, b'u', 1, b'p'][..], &socks5(1, &host(), 80)].concat(),
            socks4(&host(), "user"),
            format!("CONNECT {}:22 HTTP/1.1\r\nA: b\r\n\r\n", host()).into_bytes(),
            format!("GET http://{}/ HTTP/1.1\r\nA: b\r\n\r\n", host()).into_bytes(),
        ] {
            let seen = seen(&request[..at.index(request.len())]);
            prop_assert!(seen.destination.is_none() && !seen.closed);
        }
    }

    #[test]
    fn random_bytes_never_panic_and_never_connect(
        first in prop::sample::select(&[4_u8, 5, b'G', b'C', 0, 22][..]),
        bytes in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let mut driver = Driver::new();
        driver.feed(&[first]);
        driver.feed(&bytes);
        driver.refused(Failure::Broken);
        prop_assert!(driver.seen.destination.is_none());
    }
}
