//! The operator's limit over several links of one router, both ways, on virtual time.

use super::support::*;
use crate::{
    id::{EndNo, TunnelId},
    link::{LinkInput, LinkSettings, RateLimits},
    plane::{Lane, LinkCommand, Part, PartMessage},
    time::Time,
};

const TUNNEL: TunnelId = TunnelId(1);
const LINKS: usize = 3;
/// Cells that an end keeps on their way.
const FED: u32 = 2_048;

/// Both ends use up what comes at once and always have more to send.
fn pump(side: &mut Side, now: Time) {
    while let Some((to, message)) = side.parts.pop_front() {
        assert!(matches!(to, Part::End(_)));
        match message {
            PartMessage::Cells { tunnel, cells } => {
                let cells = u32::try_from(cells.len()).unwrap();
                side.part(now, PartMessage::Drained { tunnel, splice: None, cells });
            }
            PartMessage::Drained { tunnel, cells, .. } => {
                let cells = (0..cells).map(cell).collect();
                side.part(now, PartMessage::Cells { tunnel, cells });
            }
            _ => {}
        }
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
            let (mut to_b, mut to_a) =
                (std::mem::take(&mut pair.a.wire), std::mem::take(&mut pair.b.wire));
            for (side, bytes) in [(&mut pair.b, &mut to_b), (&mut pair.a, &mut to_a)] {
                if !bytes.is_empty() {
                    side.input(now, LinkInput::Received(bytes));
                }
                pump(side, now);
            }
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
