//! The operator's limit over several links of one router, both ways, on virtual time.

use super::support::*;
use crate::{
    crypto::{
        onion::{Direction, LayerKeys, RelayForward},
        secret::Secret,
    },
    id::{EndNo, LinkNo, TunnelId},
    link::{BURST, LinkInput, LinkSettings, RateLimits},
    plane::{CELL_LEN, Lane, LinkCommand, PartMessage, TransitHalf},
    time::Time,
};

const TUNNEL: TunnelId = TunnelId(1);
/// Of somebody else.
const OTHER: TunnelId = TunnelId(2);
/// Of somebody else who sends a cell now and then.
const LIGHT: TunnelId = TunnelId(3);
const LINKS: usize = 3;
/// Cells that an end keeps on their way.
const FED: u32 = 2_048;

/// Whoever is at either end uses up what comes at once and always has more to send.
fn pump(side: &mut Side, now: Time) {
    while let Some((_, message)) = side.parts.pop_front() {
        match message {
            PartMessage::Cells { tunnel, cells } => {
                let cells = u32::try_from(cells.len()).unwrap();
                side.part(now, PartMessage::Drained { tunnel, splice: None, cells });
            }
            PartMessage::Drained { tunnel, cells, .. } if tunnel != LIGHT => {
                let cells = (0..cells).map(cell).collect();
                side.part(now, PartMessage::Cells { tunnel, cells });
            }
            _ => {}
        }
    }
}

/// What either side wrote gets to the other.
fn carry(pair: &mut Pair, now: Time) {
    let (mut to_b, mut to_a) = (std::mem::take(&mut pair.a.wire), std::mem::take(&mut pair.b.wire));
    for (side, bytes) in [(&mut pair.b, &mut to_b), (&mut pair.a, &mut to_a)] {
        if !bytes.is_empty() {
            side.input(now, LinkInput::Received(bytes));
        }
        pump(side, now);
    }
}

/// A router with three busy links, as seen by its three peers: bytes to and from each in ten
/// seconds, after two to get going; and how often the first link was woken.
fn ten_seconds(limits: &std::sync::Arc<RateLimits>) -> ([[u64; 2]; LINKS], u32) {
    let limited = LinkSettings { rate: Some(limits.clone()), ..settings() };
    let mut pairs: Vec<_> = (0..LINKS).map(|_| pair_with(limited.clone(), settings())).collect();
    for pair in &mut pairs {
        for side in [&mut pair.a, &mut pair.b] {
            let lane = Box::new(Lane::ToEnd { end: EndNo(4) });
            side.command(START, LinkCommand::Open { tunnel: TUNNEL, lane });
            let cells = (0..FED).map(cell).collect();
            side.part(START, PartMessage::Cells { tunnel: TUNNEL, cells });
        }
    }
    let (mut now, mut before, mut wakes) = (START, None, 0);
    let bytes = |pairs: &[Pair]| {
        [0, 1, 2].map(|at: usize| {
            let counters = pairs[at].a.io.counters();
            [counters.bytes_out, counters.bytes_in]
        })
    };
    while now < START + millis(12_000) {
        if now >= START + millis(2_000) {
            before.get_or_insert_with(|| bytes(&pairs));
        }
        for (at, pair) in pairs.iter_mut().enumerate() {
            for side in [&mut pair.a, &mut pair.b] {
                if side.io.poll_timeout().is_some_and(|at| at <= now) {
                    side.io.handle_timeout(now);
                }
                if side.io.wants_transmit() {
                    side.write(now);
                }
            }
            wakes += u32::from(at == 0 && !pair.a.wire.is_empty());
            carry(pair, now);
        }
        now = now + millis(1);
    }
    let (before, mut after) = (before.unwrap(), bytes(&pairs));
    for (after, before) in after.as_flattened_mut().iter_mut().zip(before.as_flattened()) {
        *after -= before;
    }
    (after, wakes)
}

#[test]
fn the_operators_bandwidth_holds_over_all_links_both_ways_and_links_share_it_fairly() {
    const RATE: u64 = 1_000_000;
    let limits = RateLimits::each_way(RATE);
    let (bytes, wakes) = ten_seconds(&limits);
    for way in [0, 1] {
        let each: Vec<_> = bytes.iter().map(|link| link[way]).collect();
        let all: u64 = each.iter().sum();
        assert!(all.abs_diff(10 * RATE) * 100 <= 3 * 10 * RATE, "way {way}: {all} bytes");
        for link in &each {
            let third = all / LINKS as u64;
            assert!(link.abs_diff(third) * 10 <= third, "way {way}: {each:?}");
        }
    }
    assert!(wakes < 2_000, "{wakes} writes for some 700 frames and grants");
    let end = START + millis(12_000);
    for limit in [&limits.sent, &limits.received] {
        let seen = limit.last_seconds(end);
        assert!(seen.abs_diff(RATE) * 100 <= 3 * RATE, "{seen} bytes a second, as status shows");
    }
}

/// What a link carries out in ten seconds for its router and for somebody else, in bytes, if they have a
/// quarter; everything that could be sent is there from the beginning.
fn own_and_others(own: bool) -> [u64; 2] {
    const RATE: u64 = 1_000_000;
    let limits = RateLimits::each_way(RATE);
    limits.change(RATE, BURST, 25);
    let mut pair = pair_with(LinkSettings { rate: Some(limits.clone()), ..settings() }, settings());
    let keys = || LayerKeys::derive(&Secret::take(&mut [3; 32]), Direction::Forward);
    for tunnel in if own { vec![TUNNEL, OTHER, LIGHT] } else { vec![OTHER, LIGHT] } {
        let half = TransitHalf::Forward(RelayForward::new(keys()));
        let theirs = Lane::Transit { half, to: LinkNo(99), tunnel };
        let mine = Lane::ToEnd { end: EndNo(4) };
        let lane = if tunnel == TUNNEL { mine } else { theirs };
        pair.b.command(
            START,
            LinkCommand::Open { tunnel, lane: Box::new(Lane::ToEnd { end: EndNo(4) }) },
        );
        pair.a.command(START, LinkCommand::Open { tunnel, lane: Box::new(lane) });
        if tunnel != LIGHT {
            let cells = (0..FED).map(cell).collect();
            pair.a.part(START, PartMessage::Cells { tunnel, cells });
        }
    }
    let sent = |pair: &Pair| {
        let of = |wanted| {
            let mut lanes = pair.a.io.lanes().filter(|(tunnel, ..)| *tunnel == wanted);
            lanes.next().map_or(0, |(_, _, lane)| lane.cells_out * CELL_LEN as u64)
        };
        [of(TUNNEL), of(OTHER) + of(LIGHT)]
    };
    let (mut now, mut before) = (START, [0; 2]);
    while now < START + millis(12_000) {
        if now <= START + millis(2_000) {
            before = sent(&pair);
        }
        for side in [&mut pair.a, &mut pair.b] {
            if side.io.poll_timeout().is_some_and(|at| at <= now) {
                side.io.handle_timeout(now);
            }
            if side.io.wants_transmit() {
                side.write(now);
            }
        }
        assert!(!pair.a.io.wants_transmit(), "what could be sent was sent");
        carry(&mut pair, now);
        if now.as_micros() % 70_000 == 0 {
            pair.a.part(now, PartMessage::Cells { tunnel: LIGHT, cells: vec![cell(0)] });
        }
        now = now + millis(1);
    }
    let shown = limits.transit_sent.last_seconds(now) * 10;
    let after = sent(&pair);
    let bytes = [after[0] - before[0], after[1] - before[1]];
    assert!(shown.abs_diff(bytes[1]) * 100 <= bytes[1] * 3, "{shown} is what status shows");
    bytes
}

#[test]
fn tunnels_of_others_send_their_share_and_no_more_whatever_was_granted_and_the_owner_has_the_rest()
{
    const QUARTER: u64 = 2_500_000;
    for own in [false, true] {
        let [mine, others] = own_and_others(own);
        assert!(others.abs_diff(QUARTER) * 100 <= QUARTER * 3, "{others} of {QUARTER}");
        let rest = if own { 3 * QUARTER } else { 0 };
        assert!(mine.abs_diff(rest) * 100 <= rest * 3, "{mine} of {rest}");
    }
}
