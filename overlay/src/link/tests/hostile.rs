//! Peers that break the rules, and what they cost.

use proptest::prelude::*;

use super::support::*;
use crate::{
    id::{EndNo, TunnelId},
    link::{LinkInput, channel::HEAD_LEN},
    plane::{CELL_LEN, CloseReason, Lane, LinkCommand, LinkEvent, PartMessage},
    rng::Rng,
    wire::{LinkMessage, Writer},
};

const TUNNEL: TunnelId = TunnelId(1);

fn open(pair: &mut Pair) {
    let lane = || Box::new(Lane::ToEnd { end: EndNo(1) });
    pair.a.command(pair.now, LinkCommand::Open { tunnel: TUNNEL, lane: lane() });
    pair.b.command(pair.now, LinkCommand::Open { tunnel: TUNNEL, lane: lane() });
    pair.settle();
}

/// Has `a` seal a plaintext of any kind, and gives it to `b`.
fn sealed(pair: &mut Pair, plain: &[u8]) {
    let mut wire = vec![0; HEAD_LEN];
    wire.extend_from_slice(plain);
    pair.a.io.core.sealer.seal(pair.now, &mut wire, 0);
    pair.b.input(pair.now, LinkInput::Received(&mut wire));
}

#[test]
fn a_peer_beyond_its_grant_is_cut_off() {
    let mut pair = pair();
    open(&mut pair);
    pair.a.io.core.lanes.get_mut(&TUNNEL).unwrap().egress.credit(1);
    let cells = (0..65).map(cell).collect();
    pair.a.part(pair.now, PartMessage::Cells { tunnel: TUNNEL, cells });
    pair.settle();
    assert_eq!(pair.b.closed(), Some(CloseReason::OverGrant));
    assert!(CloseReason::OverGrant.is_offence());
    assert!(pair.b.io.is_closed() && pair.b.io.poll_timeout().is_none());
}

#[test]
fn frames_that_no_router_writes_end_the_link() {
    let cell = |tunnel: u32, reserved: u32| {
        let mut cell = vec![0; CELL_LEN];
        cell[..4].copy_from_slice(&tunnel.to_be_bytes());
        cell[4..8].copy_from_slice(&reserved.to_be_bytes());
        cell
    };
    let bad: Vec<Vec<u8>> = vec![
        vec![0, 0],                                           // nothing
        vec![0, 1],                                           // control beyond the end
        vec![0, 1, 99],                                       // half a message
        vec![0, 3, 99, 0, 0],                                 // unknown kind
        vec![0, 4, 1, 0, 1, 0],                               // a goodbye with a body
        [&[0, 0][..], &[7; 100]].concat(),                    // a piece of a cell
        [&[0, 0][..], &cell(1, 1)].concat(),                  // reserved bit, low
        [&[0, 0][..], &cell(1, 0x8000_0000)].concat(),        // reserved bit, high
        [&[0, 9][..], &[2, 0, 6, 0, 0, 0, 1, 0, 0]].concat(), // a grant of nothing
        [&[0, 9][..], &[2, 0, 6, 0, 0, 0, 0, 0, 1]].concat(), // lane number zero
    ];
    for plain in bad {
        let mut pair = pair();
        sealed(&mut pair, &plain);
        assert_eq!(
            pair.b.closed(),
            Some(CloseReason::Garbage),
            "{:?}",
            &plain[..4.min(plain.len())]
        );
    }
    let mut pair = pair();
    sealed(&mut pair, &[&[0, 0][..], &cell(1, 0)].concat());
    assert_eq!(pair.b.closed(), None, "a cell for an unknown lane is only counted");
    assert_eq!(pair.b.io.counters().unknown_cells, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_after_the_handshake_ends_the_link_or_waits_in_bounded_memory(
        bytes in prop::collection::vec(any::<u8>(), 1..40_000), chunk in 1usize..20_000,
    ) {
        let mut pair = pair();
        for piece in bytes.chunks(chunk) {
            let mut piece = piece.to_vec();
            pair.b.input(pair.now, LinkInput::Received(&mut piece));
        }
        prop_assert!(pair.b.closed().is_some() || bytes.len() < HEAD_LEN + 16_384);
        prop_assert!(pair.b.parts.is_empty());
        pair.run_until(pair.now + millis(15_001));
        prop_assert!(pair.b.io.is_closed());
    }

    #[test]
    fn one_flipped_bit_on_the_wire_ends_the_link(at: prop::sample::Index, bit in 0..8u32) {
        let mut pair = pair();
        open(&mut pair);
        let cells = (0..20).map(cell).collect();
        pair.a.part(pair.now, PartMessage::Cells { tunnel: TUNNEL, cells });
        pair.a.write(pair.now);
        let mut wire = std::mem::take(&mut pair.a.wire);
        let at = at.index(wire.len());
        wire[at] ^= 1 << bit;
        pair.b.input(pair.now, LinkInput::Received(&mut wire));
        // A longer length makes it wait for bytes that never come: silence ends that.
        let silent = pair.now + millis(15_000);
        pair.b.io.handle_timeout(silent);
        pair.b.drain();
        let reason = pair.b.closed();
        prop_assert!(
            reason == Some(CloseReason::Garbage) || reason == Some(CloseReason::Silent), "{:?}", reason
        );
    }

    #[test]
    fn frames_in_any_pieces_are_the_same_frames(cuts in prop::collection::vec(1usize..5_000, 1..60)) {
        let mut pair = pair();
        open(&mut pair);
        let cells: Vec<_> = (0..60).map(cell).collect();
        pair.a.part(pair.now, PartMessage::Cells { tunnel: TUNNEL, cells });
        pair.a.write(pair.now);
        let mut wire = std::mem::take(&mut pair.a.wire);
        let (mut rest, mut cuts) = (&mut wire[..], cuts.into_iter().cycle());
        while !rest.is_empty() {
            let at = cuts.next().unwrap().min(rest.len());
            let (piece, later) = rest.split_at_mut(at);
            pair.b.input(pair.now, LinkInput::Received(piece));
            rest = later;
        }
        let mut got = 0;
        for (_, message) in pair.b.parts.drain(..) {
            if let PartMessage::Cells { cells, .. } = message {
                for body in cells {
                    prop_assert_eq!(number(&body), got);
                    got += 1;
                }
            }
        }
        prop_assert_eq!(got, 60);
    }

    #[test]
    fn sealed_nonsense_never_panics(plain in prop::collection::vec(any::<u8>(), 1..3_000)) {
        let mut pair = pair();
        open(&mut pair);
        sealed(&mut pair, &plain);
    }
}

#[test]
fn a_peer_that_does_not_read_control_is_cut_off() {
    let mut pair = pair();
    for n in 1..=300 {
        let reply = Box::new([0; 256]);
        let message = LinkMessage::BuildReply { tunnel: TunnelId(n), reply };
        pair.a.command(pair.now, LinkCommand::Send(message));
    }
    assert_eq!(pair.a.closed(), Some(CloseReason::ControlOverflow));
    assert!(!CloseReason::ControlOverflow.is_offence());
}

#[test]
fn senseless_grants_and_teardowns_cost_bounded_memory() {
    let mut pair = pair();
    for n in 0..20_000u32 {
        let mut w = Writer::default();
        LinkMessage::Credit { tunnel: TunnelId(n + 1), cells: 4_096 }.encode(&mut w);
        let message = w.into_bytes();
        sealed(&mut pair, &[&[0, 9][..], &message].concat());
    }
    assert_eq!(pair.b.closed(), None);
    assert_eq!(pair.b.io.counters().grants_dropped, 20_000 - 4_096);
    let mut w = Writer::default();
    LinkMessage::Teardown { tunnel: TunnelId(50_000) }.encode(&mut w);
    sealed(&mut pair, &[&[0, 7][..], &w.into_bytes()].concat());
    assert!(pair.b.lane_closed(TunnelId(50_000)), "its build may be waiting for an answer");
}

/// Found by the simulator's swarm: a hop whose onward link broke as it answered a build.
#[test]
fn a_lane_that_was_torn_down_before_it_was_opened_stays_closed() {
    let mut pair = pair();
    let reply = LinkMessage::BuildReply { tunnel: TUNNEL, reply: Box::new([0; 256]) };
    pair.b.command(pair.now, LinkCommand::Send(reply));
    pair.b.command(pair.now, LinkCommand::Close { tunnel: TUNNEL, tell: true });
    pair.settle();
    assert!(pair.a.lane_closed(TUNNEL));
    // The control plane read the reply first, and its command comes now.
    let lane = Box::new(Lane::ToEnd { end: EndNo(1) });
    pair.a.command(pair.now, LinkCommand::Open { tunnel: TUNNEL, lane });
    assert_eq!(pair.a.io.lanes().count(), 0);
}

#[test]
fn a_used_up_quota_refuses_lanes_and_says_so() {
    let small = limited_to(2 * 1_032 * 10);
    let mut pair = pair_with(small, settings());
    for n in 1..=10 {
        let lane = Box::new(Lane::ToEnd { end: EndNo(1) });
        pair.a.command(pair.now, LinkCommand::Open { tunnel: TunnelId(n), lane });
    }
    let open = pair.a.io.lanes().count();
    assert!(open < 10 && open > 0);
    assert!(pair.a.lane_closed(TunnelId(10)));
    pair.settle();
    assert!(pair.b.events.iter().any(|event| matches!(event, LinkEvent::LaneClosed { .. })));
}

#[test]
fn a_closed_link_does_nothing() {
    let mut pair = pair();
    open(&mut pair);
    pair.a.command(pair.now, LinkCommand::Shut);
    assert_eq!(pair.a.closed(), Some(CloseReason::Local));
    let events = pair.a.events.len();
    let mut noise = Rng::from_seed([1; 32]).bytes::<5_000>();
    pair.a.input(pair.now, LinkInput::Received(&mut noise));
    pair.a.part(pair.now, PartMessage::Cells { tunnel: TUNNEL, cells: vec![cell(1)] });
    pair.a.command(pair.now, LinkCommand::Send(LinkMessage::Goodbye));
    pair.a.io.handle_timeout(pair.now + millis(100_000));
    assert_eq!(pair.a.write(pair.now), 0);
    assert_eq!((pair.a.events.len(), pair.a.parts.len()), (events, 0));
}
