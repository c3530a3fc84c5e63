//! Idle links, silent peers, stuck lanes, goodbyes: on virtual time.

use super::support::*;
use crate::{
    id::{EndNo, TunnelId},
    link::LinkInput,
    plane::{CloseReason, Lane, LinkCommand, PartMessage},
};

const TUNNEL: TunnelId = TunnelId(1);

#[test]
fn padding_keeps_an_idle_link_alive() {
    let mut pair = pair();
    pair.run_until(START + millis(600_000));
    assert_eq!(pair.a.closed().or(pair.b.closed()), None);
    let counters = pair.a.io.counters();
    assert!((60..=200).contains(&counters.frames_out), "{counters:?}");
    assert!(pair.b.events.is_empty(), "nobody hears of padding");
}

#[test]
fn pauses_between_paddings_are_random_in_their_bounds_and_so_are_sizes() {
    let mut pair = pair();
    let (mut last, mut pauses, mut sizes) = (START, Vec::new(), Vec::new());
    while pauses.len() < 200 {
        let next = [pair.a.io.poll_timeout(), pair.b.io.poll_timeout()];
        let now = next.into_iter().flatten().min().unwrap();
        for side in [&mut pair.a, &mut pair.b] {
            side.io.handle_timeout(now);
        }
        let size = pair.a.write(now);
        if size > 0 {
            pauses.push(now.since(last));
            sizes.push(size);
            last = now;
        }
        pair.b.write(now);
        let (mut to_b, mut to_a) =
            (std::mem::take(&mut pair.a.wire), std::mem::take(&mut pair.b.wire));
        pair.b.input(now, LinkInput::Received(&mut to_b));
        pair.a.input(now, LinkInput::Received(&mut to_a));
    }
    assert!(pauses.iter().all(|pause| (millis(1_500)..=millis(9_500)).contains(pause)));
    assert!(pauses.iter().any(|pause| *pause < millis(2_500)));
    assert!(pauses.iter().any(|pause| *pause > millis(8_500)));
    sizes.sort_unstable();
    sizes.dedup();
    assert!(sizes.len() > 100, "{} sizes", sizes.len());
}

#[test]
fn fifteen_seconds_of_silence_end_a_link() {
    let mut pair = pair();
    let mut now = START;
    while let Some(next) = pair.a.io.poll_timeout() {
        now = next;
        pair.a.io.handle_timeout(now);
        pair.a.write(now); // into the void
    }
    assert_eq!(pair.a.closed(), Some(CloseReason::Silent));
    assert_eq!(now, START + millis(15_000));
}

#[test]
fn a_queue_that_does_not_move_for_a_minute_kills_its_lane_only() {
    let mut pair = pair();
    for n in 1..=2 {
        for side in [&mut pair.a, &mut pair.b] {
            let lane = Box::new(Lane::ToEnd { end: EndNo(1) });
            side.command(pair.now, LinkCommand::Open { tunnel: TunnelId(n), lane });
        }
    }
    pair.settle();
    let cells = (0..65).map(cell).collect(); // one more than granted
    pair.a.part(pair.now, PartMessage::Cells { tunnel: TUNNEL, cells });
    pair.run_until(START + millis(59_000));
    assert!(!pair.a.lane_closed(TUNNEL));
    assert!(pair.a.io.waiting().next().is_some());
    pair.run_until(START + millis(66_000));
    assert!(pair.a.lane_closed(TUNNEL) && pair.b.lane_closed(TUNNEL));
    assert!(!pair.a.lane_closed(TunnelId(2)) && pair.a.closed().is_none());
    assert_eq!(pair.a.io.counters().lanes_stuck, 1);
}

#[test]
fn a_goodbye_is_written_before_the_link_ends() {
    let mut pair = pair();
    pair.a.command(pair.now, LinkCommand::Goodbye);
    assert_eq!(pair.a.closed(), None);
    pair.settle();
    assert_eq!(pair.a.closed(), Some(CloseReason::Local));
    assert_eq!(pair.b.closed(), Some(CloseReason::PeerGoodbye));
}

#[test]
fn a_goodbye_that_cannot_be_written_ends_the_link_after_five_seconds() {
    let mut pair = pair();
    pair.a.command(pair.now, LinkCommand::Goodbye);
    pair.a.io.handle_timeout(pair.now + millis(5_000));
    pair.a.drain();
    assert_eq!(pair.a.closed(), Some(CloseReason::Local));
}

#[test]
fn early_and_repeated_timeouts_change_nothing() {
    let mut pair = pair();
    for _ in 0..5 {
        pair.a.io.handle_timeout(START);
        pair.a.io.handle_timeout(START + millis(1_000));
    }
    assert_eq!(pair.a.write(START), 0);
    assert_eq!(pair.a.closed(), None);
}

#[test]
fn a_lane_closed_for_memory_is_told_to_both_sides_and_keeps_nothing() {
    let mut pair = pair();
    for tunnel in [TUNNEL, TunnelId(2)] {
        for side in [&mut pair.a, &mut pair.b] {
            side.command(
                pair.now,
                LinkCommand::Open { tunnel, lane: Box::new(Lane::ToEnd { end: EndNo(4) }) },
            );
        }
    }
    pair.settle();
    for (tunnel, cells, later) in [(TUNNEL, 300, 0), (TunnelId(2), 500, 1_000)] {
        let cells = (0..cells).map(cell).collect();
        pair.a.part(pair.now + millis(later), PartMessage::Cells { tunnel, cells });
        pair.settle();
    }
    let mut waiting: Vec<_> = pair.a.io.waiting().collect();
    waiting.sort_by_key(|(since, ..)| *since);
    let [(_, first, bytes), (_, second, more)] = waiting[..] else { panic!("{waiting:?}") };
    assert_eq!((first, second), (TUNNEL, TunnelId(2)), "the longer wait is seen");
    assert!((236 * 1_024..=300 * 1_024).contains(&bytes), "{bytes}");
    assert!(more >= 436 * 1_024, "{more}");

    pair.a.io.shed(TUNNEL);
    pair.a.drain();
    pair.settle();
    assert!(pair.a.lane_closed(TUNNEL) && pair.b.lane_closed(TUNNEL));
    assert!(pair.a.io.waiting().all(|(_, tunnel, _)| tunnel != TUNNEL));
    assert_eq!(pair.a.closed().or(pair.b.closed()), None, "the link goes on");
}
