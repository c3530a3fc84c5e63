//! Cells through two joined links: order, credits, fairness, keys.

use proptest::prelude::*;

use super::support::*;
use crate::{
    crypto::{
        onion::{Direction, LayerKeys, RelayForward},
        secret::Secret,
    },
    id::{EndNo, LinkNo, SpliceId, TunnelId},
    link::{
        CreditQuota, LinkSettings,
        channel::{HEAD_LEN, Opener, REKEY_FRAMES, Sealer},
    },
    plane::{CellBody, CloseReason, Lane, LinkCommand, LinkEvent, Part, PartMessage, TransitHalf},
    time::Time,
    wire::LinkMessage,
};

const TUNNEL: TunnelId = TunnelId(1);
const TO_END: Lane = Lane::ToEnd { end: EndNo(4) };

fn layer() -> RelayForward {
    RelayForward::new(LayerKeys::derive(&Secret::take(&mut [3; 32]), Direction::Forward))
}

fn open(tunnel: TunnelId, lane: Lane) -> LinkCommand {
    LinkCommand::Open { tunnel, lane: Box::new(lane) }
}

/// A lane from an end behind `a` through `b`, a middle hop, to link 99.
fn transit(pair: &mut Pair) {
    let lane =
        Lane::Transit { half: TransitHalf::Forward(layer()), to: LinkNo(99), tunnel: TunnelId(5) };
    pair.a.command(pair.now, open(TUNNEL, TO_END));
    pair.b.command(pair.now, open(TUNNEL, lane));
    pair.settle();
}

/// The cells in messages for `to`, removed.
fn take_cells(side: &mut Side, to: Part) -> Vec<CellBody> {
    let mut out = Vec::new();
    side.parts.retain_mut(|(part, message)| match message {
        PartMessage::Cells { cells, .. } if *part == to => {
            out.append(cells);
            false
        }
        _ => true,
    });
    out
}

/// How many cells of `to` have drained, messages removed.
fn take_drained(side: &mut Side, to: Part) -> u32 {
    let mut out = 0;
    side.parts.retain(|(part, message)| match message {
        PartMessage::Drained { cells, .. } if *part == to => {
            out += cells;
            false
        }
        _ => true,
    });
    out
}

#[test]
fn a_hundred_thousand_cells_pass_a_middle_hop_in_order_and_none_is_lost() {
    const CELLS: u32 = 100_000;
    let mut pair = pair();
    transit(&mut pair);
    let mut check = layer();
    let (mut fed, mut got, mut feed_window, mut most) = (0, 0, 128, 0);
    while got < CELLS {
        while feed_window > 0 && fed < CELLS {
            let batch = feed_window.min(15).min(CELLS - fed);
            let cells = (fed..fed + batch).map(cell).collect();
            pair.a.part(pair.now, PartMessage::Cells { tunnel: TUNNEL, cells });
            fed += batch;
            feed_window -= batch;
        }
        pair.settle();
        feed_window += take_drained(&mut pair.a, Part::End(EndNo(4)));
        let cells = take_cells(&mut pair.b, Part::Link(LinkNo(99)));
        assert!(!cells.is_empty(), "stuck after {got}");
        most = most.max(cells.len());
        for body in &cells {
            let mut want = cell(got);
            check.relay(&mut want);
            assert!(*body == want, "cell {got}");
            got += 1;
        }
        let cells = u32::try_from(cells.len()).unwrap();
        pair.now = pair.now + millis(1);
        pair.b.part(pair.now, PartMessage::Drained { tunnel: TUNNEL, splice: None, cells });
    }
    assert!(most <= 128, "never more under way than the end's feed window: {most}");
    let counters = pair.b.io.counters();
    assert_eq!(counters.relayed_cells_in, u64::from(CELLS));
    assert_eq!(counters.unknown_cells + counters.late_cells, 0);
    let (_, _, lane) = pair.b.io.lanes().next().unwrap();
    assert_eq!(lane.cells_in, u64::from(CELLS));
    assert_eq!(pair.a.io.counters().cells_out, u64::from(CELLS));
}

#[test]
fn without_drain_no_more_than_the_window_comes() {
    let mut pair = pair();
    transit(&mut pair);
    let cells = (0..1_000).map(cell).collect();
    pair.a.part(pair.now, PartMessage::Cells { tunnel: TUNNEL, cells });
    pair.settle();
    assert_eq!(take_cells(&mut pair.b, Part::Link(LinkNo(99))).len(), 64);
    assert_eq!(pair.a.io.queued_cells(), 1_000 - 64);
    pair.b.part(pair.now, PartMessage::Drained { tunnel: TUNNEL, splice: None, cells: 15 });
    pair.settle();
    assert_eq!(take_cells(&mut pair.b, Part::Link(LinkNo(99))).len(), 0, "grants are of 16");
    pair.b.part(pair.now, PartMessage::Drained { tunnel: TUNNEL, splice: None, cells: 1 });
    pair.settle();
    assert_eq!(take_cells(&mut pair.b, Part::Link(LinkNo(99))).len(), 16);
}

#[test]
fn cells_of_one_read_leave_as_few_batches() {
    let mut pair = pair();
    transit(&mut pair);
    let cells = (0..60).map(cell).collect();
    pair.a.part(pair.now, PartMessage::Cells { tunnel: TUNNEL, cells });
    pair.settle();
    assert_eq!(pair.b.parts.len(), 8, "of 8 cells, over frame borders");
    assert_eq!(take_drained(&mut pair.a, Part::End(EndNo(4))), 60);
}

#[test]
fn a_used_up_batch_goes_back_to_its_maker_and_is_filled_again() {
    let mut pair = pair();
    transit(&mut pair);
    let mut made = Vec::new();
    for round in 0..3 {
        let cells = (0..16).map(cell).collect();
        pair.a.part(pair.now, PartMessage::Cells { tunnel: TUNNEL, cells });
        pair.settle();
        for (_, message) in std::mem::take(&mut pair.b.parts) {
            let PartMessage::Cells { cells: batch, .. } = message else { continue };
            assert_eq!(batch.len(), 8);
            let place = batch.as_ptr();
            assert_eq!(made.contains(&place), round > 0, "no batch is made twice");
            made.push(place);
            pair.b.part(pair.now, PartMessage::Spent { batch });
        }
    }
    assert_eq!(made.len(), 6);
}

#[test]
fn small_batches_of_a_middle_hop_share_room_and_go_back_at_once() {
    let mut pair = pair();
    transit(&mut pair);
    let to = Part::Link(LinkNo(99));
    for (count, spent) in [(3, 0), (3, 1), (3, 1), (5, 2)] {
        let mut batch = Vec::with_capacity(8);
        batch.extend((0..count).map(cell));
        pair.b.part(pair.now, PartMessage::Cells { tunnel: TUNNEL, cells: batch });
        let back = |(part, message): &(Part, PartMessage)| {
            *part == to && matches!(message, PartMessage::Spent { batch } if batch.is_empty())
        };
        assert_eq!(pair.b.parts.iter().filter(|it| back(it)).count(), spent);
    }
    assert_eq!(pair.b.io.queued_cells(), 14);
}

#[test]
fn a_splice_leg_carries_leg_cells_to_and_from_its_end_hop() {
    let mut pair = pair();
    let (to, tunnel, splice) = (LinkNo(7), TunnelId(3), SpliceId(9));
    for side in [&mut pair.a, &mut pair.b] {
        side.command(pair.now, open(TUNNEL, Lane::Leg { to, tunnel, splice }));
    }
    pair.settle();
    let cells = (0..100).map(cell).collect();
    pair.a.part(pair.now, PartMessage::Cells { tunnel: TUNNEL, cells });
    pair.settle();
    let mut got = 0;
    for (part, message) in pair.b.parts.drain(..) {
        let PartMessage::SpliceCells { tunnel: t, splice: s, cells } = message else {
            panic!("{message:?}")
        };
        assert_eq!((part, t, s), (Part::Link(to), tunnel, splice));
        got += cells.len();
    }
    assert_eq!(got, 32, "a leg starts with 32 cells");
    let Some((_, PartMessage::Drained { splice: Some(s), cells: 32, tunnel: t })) =
        pair.a.parts.pop_front()
    else {
        panic!("the end hop is told what left")
    };
    assert_eq!((s, t), (splice, tunnel));
}

#[test]
fn a_grant_may_come_before_the_lane_is_opened_here() {
    let mut pair = pair();
    pair.a.command(pair.now, open(TUNNEL, TO_END));
    pair.settle();
    pair.b.command(pair.now, open(TUNNEL, TO_END));
    pair.b.part(pair.now, PartMessage::Cells { tunnel: TUNNEL, cells: vec![cell(1)] });
    pair.settle();
    assert_eq!(take_cells(&mut pair.a, Part::End(EndNo(4))).len(), 1);
}

#[test]
fn opening_again_changes_the_owner_and_keeps_the_credit() {
    let mut pair = pair();
    transit(&mut pair);
    pair.a.command(pair.now, open(TUNNEL, Lane::ToEnd { end: EndNo(5) }));
    pair.a.part(pair.now, PartMessage::Cells { tunnel: TUNNEL, cells: vec![cell(1)] });
    pair.settle();
    assert_eq!(take_cells(&mut pair.b, Part::Link(LinkNo(99))).len(), 1);
    assert_eq!(take_drained(&mut pair.a, Part::End(EndNo(5))), 1);
}

#[test]
fn a_teardown_closes_the_lane_at_the_other_side_and_late_cells_are_counted() {
    let mut pair = pair();
    transit(&mut pair);
    pair.b.command(pair.now, LinkCommand::Close { tunnel: TUNNEL, tell: true });
    let cells = (0..5).map(cell).collect();
    pair.a.part(pair.now, PartMessage::Cells { tunnel: TUNNEL, cells });
    let mut wire = Vec::new();
    pair.a.io.poll_transmit(pair.now, &mut wire);
    pair.b.input(pair.now, crate::link::LinkInput::Received(&mut wire));
    assert_eq!(pair.b.io.counters().late_cells, 5);
    pair.settle();
    assert!(pair.a.lane_closed(TUNNEL) && !pair.b.lane_closed(TUNNEL));
    assert_eq!(pair.a.io.lanes().count(), 0);
    assert_eq!(pair.a.io.core.quota.free(), CreditQuota::new(1 << 30).free());
}

/// `lanes` lanes with `queued` cells each and no lack of credit.
fn loaded(lanes: u32, queued: u32) -> Pair {
    let mut pair = pair();
    for n in 1..=lanes {
        pair.a.command(pair.now, open(TunnelId(n), TO_END));
        pair.a.io.core.lanes.get_mut(&TunnelId(n)).unwrap().egress.credit(1 << 20);
        let cells = (0..queued).map(cell).collect();
        pair.a.part(pair.now, PartMessage::Cells { tunnel: TunnelId(n), cells });
    }
    pair
}

fn sent(pair: &Pair) -> Vec<u64> {
    pair.a.io.lanes().map(|(_, _, counters)| counters.cells_out).collect()
}

#[test]
fn busy_lanes_share_a_link_evenly() {
    let mut pair = loaded(7, 2_000);
    for _ in 0..40 {
        pair.a.io.poll_transmit(pair.now, &mut Vec::new());
        let sent = sent(&pair);
        let (most, least) = (sent.iter().max().unwrap(), sent.iter().min().unwrap());
        assert!(most - least <= 16, "{sent:?}");
    }
    assert_eq!(sent(&pair).iter().sum::<u64>(), 40 * 60, "and fill it");
}

#[test]
fn a_lane_that_was_idle_goes_first() {
    let mut pair = loaded(5, 2_000);
    for _ in 0..10 {
        pair.a.io.poll_transmit(pair.now, &mut Vec::new());
    }
    pair.a.command(pair.now, open(TunnelId(6), TO_END));
    pair.a.io.core.lanes.get_mut(&TunnelId(6)).unwrap().egress.credit(100);
    let cells = vec![cell(0), cell(1)];
    pair.a.part(pair.now, PartMessage::Cells { tunnel: TunnelId(6), cells });
    pair.a.io.core.frame_out(pair.now, &mut Vec::new());
    assert_eq!(sent(&pair)[5], 2, "in the very next frame");
}

#[test]
fn going_idle_on_purpose_gains_nothing() {
    let mut pair = loaded(3, 20_000);
    pair.a.command(pair.now, open(TunnelId(4), TO_END));
    pair.a.io.core.lanes.get_mut(&TunnelId(4)).unwrap().egress.credit(1 << 20);
    for _ in 0..2_000 {
        // Always a little, whenever it ran empty.
        if pair.a.io.core.lanes.get(&TunnelId(4)).unwrap().egress.queued() == 0 {
            let cells = (0..7).map(cell).collect();
            pair.a.part(pair.now, PartMessage::Cells { tunnel: TunnelId(4), cells });
        }
        pair.a.io.core.frame_out(pair.now, &mut Vec::new());
    }
    let sent = sent(&pair);
    assert!(sent[3] <= sent[0] + 16, "{sent:?}");
}

#[test]
fn control_overtakes_cells() {
    let mut pair = loaded(3, 2_000);
    pair.a.command(
        pair.now,
        LinkCommand::Send(LinkMessage::Build {
            tunnel: TunnelId(77),
            message: Box::new([1; 5_376]),
        }),
    );
    let mut wire = Vec::new();
    pair.a.io.core.frame_out(pair.now, &mut wire);
    pair.b.input(pair.now, crate::link::LinkInput::Received(&mut wire));
    let [LinkEvent::Message(message)] = &pair.b.events[..] else { panic!("{:?}", pair.b.events) };
    assert!(matches!(**message, LinkMessage::Build { tunnel: TunnelId(77), .. }), "{message:?}");
    assert_eq!(sent(&pair).iter().sum::<u64>(), 10, "the rest of the frame is filled with cells");
}

#[test]
fn keys_change_often_and_nothing_is_noticed() {
    let often = || LinkSettings { rekey_frames: 3, ..settings() };
    let mut pair = pair_with(often(), often());
    transit(&mut pair);
    for n in 0..200 {
        pair.a.part(pair.now, PartMessage::Cells { tunnel: TUNNEL, cells: vec![cell(n)] });
        pair.settle();
        assert_eq!(take_cells(&mut pair.b, Part::Link(LinkNo(99))).len(), 1);
        pair.b.part(pair.now, PartMessage::Drained { tunnel: TUNNEL, splice: None, cells: 1 });
    }
    assert_eq!(pair.a.closed().or(pair.b.closed()), None);
}

#[test]
fn a_key_serves_no_more_than_its_frames() {
    let mut pair = pair_with(
        LinkSettings { rekey_frames: 50, ..settings() },
        LinkSettings { rekey_frames: 10, ..settings() },
    );
    transit(&mut pair);
    for n in 0..12 {
        pair.a.part(pair.now, PartMessage::Cells { tunnel: TUNNEL, cells: vec![cell(n)] });
        pair.settle();
    }
    assert_eq!(pair.b.closed(), Some(CloseReason::Garbage));
}

fn channel() -> (Sealer, Opener) {
    let key = || Secret::take(&mut [4; 32]);
    (Sealer::new(START, &key(), REKEY_FRAMES), Opener::new(&key(), REKEY_FRAMES))
}

fn seal(sealer: &mut Sealer, now: Time, plain: &[u8], wire: &mut Vec<u8>) {
    wire.clear();
    wire.extend_from_slice(&[0; HEAD_LEN]);
    wire.extend_from_slice(plain);
    sealer.seal(now, wire, 0);
}

fn opened<'a>(opener: &mut Opener, wire: &'a mut [u8]) -> Option<&'a [u8]> {
    let (head, body) = wire.split_first_chunk_mut::<HEAD_LEN>()?;
    let head = opener.head(*head).ok()?;
    (head.len() == body.len()).then_some(())?;
    opener.open(head, body).ok().map(|plain| &*plain)
}

#[test]
fn the_channel_goes_on_over_a_million_frames_and_an_hour() {
    let (mut sealer, mut opener) = channel();
    let mut wire = Vec::new();
    for n in 0..u64::from(REKEY_FRAMES) + 300 {
        seal(&mut sealer, START, &n.to_be_bytes(), &mut wire);
        assert_eq!(opened(&mut opener, &mut wire), Some(&n.to_be_bytes()[..]));
    }
    for n in 0..10u64 {
        seal(&mut sealer, START + millis(3_600_000 * n), &n.to_be_bytes(), &mut wire);
        assert_eq!(opened(&mut opener, &mut wire), Some(&n.to_be_bytes()[..]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn one_flipped_bit_in_a_frame_is_noticed(
        plain in prop::collection::vec(any::<u8>(), 3..200), at: prop::sample::Index, bit in 0..8u32,
    ) {
        let (mut sealer, mut opener) = channel();
        let mut wire = Vec::new();
        seal(&mut sealer, START, &plain, &mut wire);
        let at = at.index(wire.len());
        wire[at] ^= 1 << bit;
        prop_assert_eq!(opened(&mut opener, &mut wire), None);
    }
}

#[test]
fn repeated_and_reordered_frames_are_noticed() {
    let (mut sealer, mut opener) = channel();
    let (mut one, mut two) = (Vec::new(), Vec::new());
    seal(&mut sealer, START, b"one", &mut one);
    seal(&mut sealer, START, b"two", &mut two);
    assert_eq!(opened(&mut opener, &mut two.clone()), None);
    let (_, mut opener) = channel();
    assert_eq!(opened(&mut opener, &mut one.clone()), Some(&b"one"[..]));
    assert_eq!(opened(&mut opener, &mut one), None);
}

#[test]
fn lengths_do_not_show() {
    let (mut sealer, _) = channel();
    let mut heads = std::collections::BTreeSet::new();
    let mut wire = Vec::new();
    for _ in 0..100 {
        seal(&mut sealer, START, b"the same", &mut wire);
        heads.insert([wire[0], wire[1]]);
    }
    assert!(heads.len() > 90);
}

/// What one relayed cell costs in ciphers, copies and bookkeeping. Run by hand:
/// `cargo test --release -p warren-overlay --lib link::tests::relay::cost -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
#[expect(clippy::disallowed_methods, reason = "measures real time")]
fn cost_of_a_relayed_cell() {
    const CELLS: u32 = 600_000;
    let (mut from, mut onward) = (pair(), pair());
    transit(&mut from);
    from.a.io.core.lanes.get_mut(&TUNNEL).unwrap().egress.credit(1 << 24);
    onward.a.command(
        onward.now,
        open(
            TunnelId(5),
            Lane::Transit { half: TransitHalf::Forward(layer()), to: LinkNo(2), tunnel: TUNNEL },
        ),
    );
    onward.a.io.core.lanes.get_mut(&TunnelId(5)).unwrap().egress.credit(1 << 24);
    let book = &mut from.b.io.core.lanes.get_mut(&TUNNEL).unwrap().book;
    for _ in 0..20 {
        let granted = if book.grant(usize::MAX) == 0 { 64 } else { book.window() };
        book.arrived(granted).unwrap();
        book.drained(START, granted, millis(1));
    }
    let (mut done, mut spent, mut buffer) = (0, std::time::Duration::ZERO, Vec::new());
    while done < CELLS {
        from.b.io.core.lanes.get_mut(&TUNNEL).unwrap().book.grant(usize::MAX);
        for _ in 0..4 {
            let cells = (0..15).map(cell).collect();
            from.a.part(from.now, PartMessage::Cells { tunnel: TUNNEL, cells });
        }
        let mut wire = Vec::new();
        from.a.io.poll_transmit(from.now, &mut wire);
        from.a.drain();
        from.a.parts.clear();
        let start = std::time::Instant::now();
        from.b.input(from.now, crate::link::LinkInput::Received(&mut wire));
        while let Some((_, message)) = from.b.parts.pop_front() {
            onward.a.part(onward.now, message);
        }
        buffer.clear();
        onward.a.io.poll_transmit(onward.now, &mut buffer);
        onward.a.drain();
        while let Some((_, message)) = onward.a.parts.pop_front() {
            from.b.part(from.now, message);
        }
        spent += start.elapsed();
        done += 60;
    }
    assert_eq!(onward.a.io.counters().cells_out, u64::from(CELLS));
    println!("{} ns per relayed cell", spent.as_nanos() / u128::from(CELLS));
}
