//! What holds between honest ends.

use super::world::{CLIENT, NAME, SERVICE, Stream, World};
use crate::{
    garlic::{
        CarrierOutput, Clove, EndHopCommand, EndHopEvent, EndHopOutput, REQUESTS_MAX, RecordAnswer,
        RecordBytes, SPLICES_MAX, STALL_MAX, clove::tests::contact,
    },
    id::{Key, LinkNo, SpliceId, TunnelId},
    time::Time,
};

const MEBIBYTE: usize = 1 << 20;

fn record(fill: u8, len: usize) -> RecordBytes {
    RecordBytes::new(vec![fill; len]).unwrap()
}

#[test]
fn cloves_span_cells_both_ways() {
    let mut path = super::world::Path::new();
    let asked: Vec<Clove> = (0..20u8)
        .map(|n| match n % 3 {
            0 => Clove::RecordGet { request: n.into(), key: Key([n; 32]) },
            1 => Clove::RecordPut { request: n.into(), record: record(n, 4_096) },
            _ => Clove::RecordPut { request: n.into(), record: record(n, 2_048) },
        })
        .collect();
    for clove in &asked {
        assert!(path.carrier.send_clove(NAME, clove));
    }
    let mut seen = Vec::new();
    for step in 0..50 {
        path.step(Time::from_micros(step));
        for output in path.hop_outputs() {
            let EndHopOutput::Node(EndHopEvent::Request(clove)) = output else { panic!() };
            let request = clove.request().unwrap();
            let answer = RecordAnswer::Found(record(u8::try_from(request).unwrap(), 4_096));
            let answer = EndHopCommand::Answer(Clove::RecordAnswer { request, asked: 2, answer });
            path.hop.handle_command(Time::ZERO, answer.clone());
            path.hop.handle_command(Time::ZERO, answer); // a second answer is ignored
            seen.push(clove);
        }
    }
    let by_request = |clove: &Clove| clove.request();
    seen.sort_by_key(by_request);
    assert_eq!(seen, asked);
    let mut answers: Vec<(u32, u8)> = path
        .got
        .iter()
        .map(|output| match output {
            CarrierOutput::Clove {
                tunnel: NAME,
                clove:
                    Clove::RecordAnswer { request, asked: 2, answer: RecordAnswer::Found(record) },
            } => (*request, record.as_bytes()[4_095]),
            other => panic!("{other:?}"),
        })
        .collect();
    answers.sort_unstable();
    assert_eq!(answers, (0..20u8).map(|n| (n.into(), n)).collect::<Vec<_>>());
}

#[test]
fn ten_mebibytes_cross_both_ways_in_order_and_nothing_is_lost() {
    let mut world = World::new();
    world.service_sends = 10 * MEBIBYTE;
    world.client_stream(10 * MEBIBYTE);
    let steps = world.run_until("10 MiB each way", |world| {
        [CLIENT, SERVICE].iter().all(|side| {
            world.streams[*side].first().is_some_and(|s| s.received == 10 * MEBIBYTE && s.done())
        })
    });
    let pieces = (10 * MEBIBYTE).div_ceil(1_001);
    for path in &world.paths {
        for cells in path.cells {
            assert!(cells < pieces + pieces / 10, "{cells} cells for {pieces} pieces");
        }
    }
    // The lanes carry 16 cells a step; the splice keeps them busy.
    assert!(steps < pieces / 16 * 3 / 2, "{steps} steps");
    let opened = |output: &CarrierOutput| matches!(output, CarrierOutput::SpliceOpened { .. });
    assert_eq!(world.other.iter().filter(|output| opened(output)).count(), 1);
}

#[test]
fn data_sent_before_the_gateway_answered_arrives() {
    let mut world = World::new();
    let at = world.client_stream(40 * 1_001);
    world.deaf_gateway = true;
    // All that the first credit allows leaves at once.
    world.run(5);
    assert_eq!(world.streams[CLIENT][at].sent, 32 * 1_001);
    let mut world = World::new();
    world.client_stream(40 * 1_001);
    world.run_until("all arrived", |world| {
        world.streams[SERVICE].first().is_some_and(|stream| stream.received == 40 * 1_001)
    });
}

#[test]
fn small_pieces_share_cells() {
    let mut world = World::new();
    let sealed = world.seal();
    let no = world.open(sealed);
    world.streams[CLIENT].push(Stream::new(no, 3_200).in_pieces_of(100));
    world.run_until("arrived", |world| {
        world.streams[SERVICE].first().is_some_and(|stream| stream.received == 3_200)
    });
    assert!(world.paths[CLIENT].cells[0] <= 5, "{:?}", world.paths[CLIENT].cells);
    assert!(world.paths[SERVICE].cells[1] <= 5, "{:?}", world.paths[SERVICE].cells);
}

/// Steps until all but the first of `streams` have sent and got 1 MiB.
fn time_for_the_others(streams: usize, first_reads: [bool; 2]) -> usize {
    let mut world = World::new();
    world.service_sends = MEBIBYTE;
    world.service_reads = first_reads[SERVICE];
    for _ in 0..streams {
        world.client_stream(MEBIBYTE);
    }
    world.streams[CLIENT][0].reads = first_reads[CLIENT];
    world.run_until("all splices stand", |world| world.streams[SERVICE].len() == streams);
    for stream in &mut world.streams[SERVICE][1..] {
        stream.reads = true;
    }
    world.run_until("the others finish", |world| {
        let done = |stream: &Stream| stream.received == MEBIBYTE;
        world.streams.iter().all(|streams| streams.iter().skip(1).all(done))
    })
}

#[test]
fn one_splice_that_stops_reading_leaves_the_others_at_full_speed() {
    let all_read = time_for_the_others(4, [true, true]);
    for reads in [[false, true], [true, false], [false, false]] {
        let one_stuck = time_for_the_others(4, reads);
        assert!(one_stuck <= all_read, "{one_stuck} against {all_read}");
    }
}

#[test]
fn splices_get_equal_shares() {
    let mut world = World::new();
    for _ in 0..8 {
        world.client_stream(MEBIBYTE);
    }
    world.run(200);
    let got: Vec<usize> = world.streams[SERVICE].iter().map(|stream| stream.received).collect();
    let (least, most) = (got.iter().min().unwrap(), got.iter().max().unwrap());
    assert!(*least * 2 > *most, "{got:?}");
}

#[test]
fn what_was_sent_before_a_close_arrives_before_it() {
    for closer in [CLIENT, SERVICE] {
        let mut world = World::new();
        world.service_sends = 100_000;
        world.client_stream(100_000);
        world.run_until("sent", |world| world.streams[closer].first().is_some_and(Stream::done));
        let no = world.streams[closer][0].no;
        world.paths[closer].carrier.close_splice(no);
        world.streams[closer][0].closed = true;
        let there = 1 - closer;
        world.run_until("closed", |world| world.streams[there][0].closed);
        assert_eq!(world.streams[there][0].received, 100_000);
        assert_eq!(world.legs(), 0);
        world.run(10);
        for path in &world.paths {
            assert_eq!(path.failed, None);
            assert_eq!(path.hop.legs().count(), 0);
        }
    }
}

#[test]
fn a_broken_leg_closes_the_splice_on_both_sides() {
    let mut world = World::new();
    world.service_sends = MEBIBYTE;
    world.client_stream(MEBIBYTE);
    world.run(50);
    world.break_a_leg();
    world.run_until("both know", |world| world.streams.iter().all(|side| side[0].closed));
}

#[test]
fn a_refused_splice_is_closed() {
    let mut world = World::new();
    world.book.revoke(NAME);
    world.client_stream(100);
    world.run_until("refused", |world| world.streams[CLIENT][0].closed);
}

#[test]
fn a_replayed_sealed_lease_opens_nothing() {
    let mut world = World::new();
    let sealed = world.seal();
    let [first, second] = [0; 2].map(|_| world.open(sealed));
    world.streams[CLIENT].push(Stream::new(first, 10));
    world.streams[CLIENT].push(Stream::new(second, 10));
    world.run(20);
    assert_eq!(world.streams[SERVICE].len(), 1);
    assert!(!world.streams[CLIENT][0].closed);
    assert!(world.streams[CLIENT][1].closed);
}

#[test]
fn a_splice_that_nobody_reads_is_closed_after_thirty_seconds() {
    let mut world = World::new();
    world.service_sends = MEBIBYTE;
    let at = world.client_stream(10);
    world.streams[CLIENT][at].reads = false;
    let idle = world.client_stream(0); // has nothing to wait for
    world.service_sends = 0;
    world.run(5);
    world.streams[SERVICE][0].to_send = MEBIBYTE;
    let limit = usize::try_from(STALL_MAX.as_millis()).unwrap();
    let steps = world.run_until("closed", |world| world.streams[CLIENT][at].closed);
    assert!((limit..limit + 6_000).contains(&steps), "{steps} ms");
    assert!(!world.streams[CLIENT][idle].closed);
}

#[test]
fn a_gateway_that_never_answers_is_given_up_after_thirty_seconds() {
    let mut world = World::new();
    world.deaf_gateway = true;
    let at = world.client_stream(10);
    let limit = usize::try_from(STALL_MAX.as_millis()).unwrap();
    let steps = world.run_until("closed", |world| world.streams[CLIENT][at].closed);
    assert!((limit..limit + 6_000).contains(&steps), "{steps} ms");
}

#[test]
fn an_owner_asks_no_more_than_it_may() {
    let mut path = super::world::Path::new();
    let ask = |request| Clove::RecordGet { request, key: Key([1; 32]) };
    for request in 0..u32::try_from(REQUESTS_MAX).unwrap() {
        assert!(path.carrier.send_clove(NAME, &ask(request)));
        assert!(!path.carrier.send_clove(NAME, &ask(request)), "number in use");
    }
    assert!(!path.carrier.send_clove(NAME, &ask(99)));
    for _ in 0..SPLICES_MAX {
        assert!(path.carrier.open_splice(NAME, contact(), [0; 76]).is_some());
    }
    assert!(path.carrier.open_splice(NAME, contact(), [0; 76]).is_none());
    let mut now = Time::ZERO;
    for step in 0..200 {
        now = Time::from_micros(step);
        path.step(now);
        path.hop_outputs();
    }
    assert_eq!(path.failed, None, "the end hop allows what the owner allows itself");
    let answer = RecordAnswer::NotFound;
    let answer = EndHopCommand::Answer(Clove::RecordAnswer { request: 5, asked: 2, answer });
    path.hop.handle_command(now, answer);
    path.step(now);
    assert!(path.carrier.send_clove(NAME, &ask(5)), "an answer makes room");
}

#[test]
fn padding_cells_say_nothing() {
    let mut path = super::world::Path::new();
    assert!(path.carrier.send_padding(NAME));
    path.step(Time::ZERO);
    assert_eq!((path.cells[0], path.failed), (1, None));
    assert!(path.hop_outputs().is_empty());
    assert!(!path.hop.has_cell());
}

#[test]
fn a_removed_tunnel_closes_its_splices_and_forgets_them() {
    let mut world = World::new();
    world.client_stream(0);
    world.run(5);
    world.paths[CLIENT].carrier.remove_tunnel(NAME);
    world.run(1);
    world.applications_now();
    assert!(world.streams[CLIENT][0].closed);
    let no = world.streams[CLIENT][0].no;
    assert!(!world.paths[CLIENT].carrier.splice_send(no, b"x"));
    assert_eq!(world.paths[CLIENT].carrier.splice_capacity(no), 0);
}

/// Closing a lane drops what waits in it, so Node must not hear of the end too early.
#[test]
fn a_closed_splice_keeps_its_leg_until_the_leg_has_sent_all() {
    let mut path = super::world::Path::new();
    let no = path.carrier.open_splice(NAME, contact(), [0; 76]).unwrap();
    assert!(path.carrier.splice_send(no, b"last words"));
    path.carrier.close_splice(no);
    let leg = (LinkNo(50), TunnelId(1));
    path.step(Time::ZERO);
    let splice = SpliceId(1);
    path.hop.handle_command(Time::ZERO, EndHopCommand::Attach { splice, leg });
    assert_eq!(path.hop_outputs().len(), 2, "it closed before it was attached");

    let no = path.carrier.open_splice(NAME, contact(), [0; 76]).unwrap();
    assert!(path.carrier.splice_send(no, b"last words"));
    path.step(Time::ZERO);
    let splice = SpliceId(2);
    path.hop.handle_command(Time::ZERO, EndHopCommand::Attach { splice, leg });
    path.carrier.close_splice(no);
    path.step(Time::ZERO);
    let gone = |output: &EndHopOutput| {
        matches!(output, EndHopOutput::Node(EndHopEvent::SpliceGone { .. }))
    };
    let before = path.hop_outputs();
    assert!(!before.iter().any(gone), "{before:?}");
    path.hop.handle_drained(Time::ZERO, splice, 1);
    let after = path.hop_outputs();
    assert!(after.len() == 1 && after.iter().all(gone), "{after:?}");
}
