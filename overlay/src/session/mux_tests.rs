//! Two muxes joined by a byte stream.

use proptest::prelude::*;

use super::*;

const RTT: Duration = Duration::from_millis(100);
const LIMIT: usize = 16 * 1024 * 1024;

struct Pair {
    client: Mux,
    service: Mux,
}

impl Pair {
    fn new() -> Self {
        Self { client: Mux::new(Side::Client), service: Mux::new(Side::Service) }
    }

    /// Moves at most `units` records from the client to the service.
    fn forth(&mut self, units: usize) -> usize {
        pass(&mut self.client, &mut self.service, units)
    }

    fn back(&mut self, units: usize) -> usize {
        pass(&mut self.service, &mut self.client, units)
    }
}

fn pass(from: &mut Mux, to: &mut Mux, units: usize) -> usize {
    let mut unit = [0; 984];
    (0..units)
        .take_while(|_| {
            let len = from.fill(&mut unit);
            to.receive(Time::ZERO, &unit[..len]).unwrap();
            len > 0
        })
        .count()
}

fn byte_of(at: usize) -> u8 {
    u8::try_from(at % 251).unwrap()
}

fn events(mux: &mut Mux) -> Vec<MuxEvent> {
    std::iter::from_fn(|| mux.poll_event()).collect()
}

#[test]
fn a_stream_opens_talks_and_ends() {
    let mut pair = Pair::new();
    let id = pair.client.open(Time::ZERO, 80).unwrap();
    pair.client.write(id, b"hello".to_vec());
    pair.client.finish(id);
    pair.forth(9);
    assert_eq!(
        events(&mut pair.service),
        [
            MuxEvent::Incoming { stream: 1, port: 80 },
            MuxEvent::Data { stream: 1, bytes: b"hello".to_vec() },
            MuxEvent::Finished { stream: 1 },
        ]
    );
    pair.service.accept(id);
    pair.back(9);
    assert_eq!(events(&mut pair.client), [MuxEvent::Accepted { stream: 1 }]);
    pair.service.consumed(Time::ZERO, id, 5, RTT, LIMIT);
    pair.service.finish(id);
    pair.back(9);
    assert_eq!(
        events(&mut pair.client),
        [MuxEvent::Finished { stream: 1 }, MuxEvent::Closed { stream: 1 }]
    );
    assert_eq!((pair.client.count(), pair.service.count()), (0, 0));
    assert_eq!((pair.client.held(), pair.service.held()), (0, 0));
}

#[test]
fn data_is_an_acceptance() {
    let mut pair = Pair::new();
    let id = pair.client.open(Time::ZERO, 80).unwrap();
    pair.forth(9);
    pair.service.write(id, b"x".to_vec());
    pair.back(9);
    assert_eq!(
        events(&mut pair.client),
        [MuxEvent::Accepted { stream: 1 }, MuxEvent::Data { stream: 1, bytes: b"x".to_vec() }]
    );
}

#[test]
fn a_reader_that_stops_reading_stops_only_its_stream() {
    let mut pair = Pair::new();
    let stuck = pair.client.open(Time::ZERO, 1).unwrap();
    let lively = pair.client.open(Time::ZERO, 2).unwrap();
    let mut through = 0;
    for _ in 0..40 {
        for id in [stuck, lively] {
            let room = pair.client.writable(id).min(64 * 1024);
            pair.client.write(id, vec![7; room]);
        }
        pair.forth(1_000);
        for event in events(&mut pair.service) {
            if let MuxEvent::Data { stream, bytes } = event
                && stream == lively
            {
                through += bytes.len();
                pair.service.consumed(Time::ZERO, lively, bytes.len(), RTT, LIMIT);
            }
        }
        pair.back(1_000);
    }
    assert!(through > 2_000_000, "{through}");
    assert!(pair.service.held() as u64 <= crate::session::stream::CREDIT_START);
}

#[test]
fn a_small_stream_is_not_stuck_behind_bulk() {
    let mut pair = Pair::new();
    let bulk: Vec<u32> = (0..4).map(|_| pair.client.open(Time::ZERO, 1).unwrap()).collect();
    for id in &bulk {
        pair.client.write(*id, vec![1; 200_000]);
    }
    pair.forth(100); // all of them have had their fresh turn
    events(&mut pair.service);
    let small = pair.client.open(Time::ZERO, 2).unwrap();
    pair.client.write(small, b"click".to_vec());
    pair.forth(2);
    let got = events(&mut pair.service);
    assert!(
        got.contains(&MuxEvent::Data { stream: small, bytes: b"click".to_vec() }),
        "{}",
        got.len()
    );
}

#[test]
fn bulk_streams_share_equally() {
    let mut pair = Pair::new();
    let ids: Vec<u32> = (0..5).map(|_| pair.client.open(Time::ZERO, 1).unwrap()).collect();
    for id in &ids {
        pair.client.write(*id, vec![1; 250_000]);
    }
    pair.forth(600);
    let mut got = BTreeMap::<u32, usize>::new();
    for event in events(&mut pair.service) {
        if let MuxEvent::Data { stream, bytes } = event {
            *got.entry(stream).or_default() += bytes.len();
        }
    }
    let (least, most) = (got.values().min().unwrap(), got.values().max().unwrap());
    assert!(got.len() == 5 && most - least <= 2 * FRESH_QUANTUM, "{got:?}");
}

#[test]
fn rules_of_the_stream_layer_are_enforced() {
    let mut service = Mux::new(Side::Service);
    let open = |id: u32| {
        let mut out = [0; 7];
        Frame::Open { stream: id, port: 1 }.encode(&mut out);
        out
    };
    assert_eq!(service.receive(Time::ZERO, &open(2)), Err(MuxError::NoSuchStream), "even");
    let mut service = Mux::new(Side::Service);
    service.receive(Time::ZERO, &open(3)).unwrap();
    assert_eq!(service.receive(Time::ZERO, &open(3)), Err(MuxError::NoSuchStream), "twice");
    let mut service = Mux::new(Side::Service);
    service.receive(Time::ZERO, &open(3)).unwrap();
    assert_eq!(service.receive(Time::ZERO, &[4, 0, 0, 0, 5]), Err(MuxError::NoSuchStream));
    let mut client = Mux::new(Side::Client);
    assert_eq!(client.receive(Time::ZERO, &open(1)), Err(MuxError::NoSuchStream), "to a client");
    // Over the credit.
    let mut service = Mux::new(Side::Service);
    service.receive(Time::ZERO, &open(1)).unwrap();
    let mut data = vec![2, 0, 0, 0, 1, 0xff, 0xff];
    data.extend(vec![0; 65_535]);
    for _ in 0..4 {
        service.receive(Time::ZERO, &data).unwrap();
    }
    assert_eq!(service.receive(Time::ZERO, &data), Err(MuxError::Overrun));
}

#[test]
fn a_stream_to_port_0_is_refused_and_the_application_hears_of_nothing() {
    let mut pair = Pair::new();
    let ports = [0, 80].map(|port| pair.client.open(Time::ZERO, port));
    pair.forth(1);
    let heard: Vec<_> = std::iter::from_fn(|| pair.service.poll_event()).collect();
    assert_eq!(heard, [MuxEvent::Incoming { stream: ports[1].unwrap(), port: 80 }]);
    pair.back(1);
    let refused = MuxEvent::Reset { stream: ports[0].unwrap(), reason: ResetReason::Refused };
    assert_eq!(pair.client.poll_event(), Some(refused));
}

#[test]
fn streams_over_the_limit_are_refused_and_a_flood_ends_the_session() {
    let mut service = Mux::new(Side::Service);
    let mut result = Ok(());
    let mut opened = 0;
    while result.is_ok() {
        let mut out = [0; 7];
        Frame::Open { stream: 2 * opened + 1, port: 1 }.encode(&mut out);
        result = service.receive(Time::ZERO, &out);
        opened += 1;
    }
    assert_eq!(result, Err(MuxError::Flood));
    assert_eq!(service.count(), STREAMS_MAX);
    assert!(service.resets.len() <= RESETS_MAX + 1);
}

#[test]
fn frames_about_a_stream_that_is_gone_are_skipped() {
    let mut pair = Pair::new();
    let id = pair.client.open(Time::ZERO, 80).unwrap();
    pair.forth(9);
    pair.service.write(id, vec![1; 100_000]);
    pair.client.reset(id, ResetReason::Closed);
    pair.back(1_000);
    assert_eq!(events(&mut pair.client), []);
    pair.forth(9);
    assert_eq!(
        events(&mut pair.service),
        [
            MuxEvent::Incoming { stream: 1, port: 80 },
            MuxEvent::Reset { stream: 1, reason: ResetReason::Closed }
        ]
    );
    assert_eq!(pair.service.held(), 0);
}

#[test]
fn a_stream_given_up_before_it_was_opened_is_never_heard_of() {
    let mut pair = Pair::new();
    let id = pair.client.open(Time::ZERO, 80).unwrap();
    pair.client.write(id, b"x".to_vec());
    pair.client.reset(id, ResetReason::Closed);
    assert_eq!(pair.forth(9), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the order of writes, reads and transfers: each stream's bytes arrive, in order.
    #[test]
    fn every_stream_arrives_in_order(steps in prop::collection::vec((0..6u8, 0..6usize, 1..20_000usize), 1..200)) {
        let mut pair = Pair::new();
        let ids: Vec<u32> = (0..6).map(|_| pair.client.open(Time::ZERO, 1).unwrap()).collect();
        let (mut wrote, mut got) = (vec![0usize; 6], vec![0usize; 6]);
        let mut now = Time::ZERO;
        let drain = |pair: &mut Pair, got: &mut Vec<usize>, now: Time| {
            for event in events(&mut pair.service) {
                if let MuxEvent::Data { stream, bytes } = event {
                    let at = ids.iter().position(|id| *id == stream).unwrap();
                    for byte in &bytes {
                        assert_eq!(*byte, byte_of(got[at]));
                        got[at] += 1;
                    }
                    pair.service.consumed(now, stream, bytes.len(), RTT, LIMIT);
                }
            }
        };
        for (kind, at, n) in steps {
            now = now + Duration::from_millis(1);
            match kind {
                0..3 => {
                    let n = n.min(pair.client.writable(ids[at]));
                    let bytes = (0..n).map(|i| byte_of(wrote[at] + i)).collect();
                    pair.client.write(ids[at], bytes);
                    wrote[at] += n;
                }
                3 => { pair.forth(n % 50); }
                4 => { pair.back(n % 50); }
                _ => drain(&mut pair, &mut got, now),
            }
        }
        for _ in 0..100 {
            pair.forth(1_000);
            drain(&mut pair, &mut got, now);
            pair.back(1_000);
        }
        prop_assert_eq!(wrote, got);
        prop_assert_eq!((pair.client.held(), pair.service.held()), (0, 0));
    }

    #[test]
    fn hostile_streams_never_panic(bytes in prop::collection::vec(0..8u8, 0..400)) {
        let _ = Mux::new(Side::Service).receive(Time::ZERO, &bytes);
        let mut client = Mux::new(Side::Client);
        client.open(Time::ZERO, 1);
        let _ = client.receive(Time::ZERO, &bytes);
    }
}
