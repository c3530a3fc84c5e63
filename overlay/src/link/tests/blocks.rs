//! Blocks over two joined links: whole, in order, and never in the way of cells.

use super::support::*;
use crate::{
    answer::Answer,
    block::{BLOCK_LEN, Block},
    id::{EndNo, TunnelId},
    link::LinkInput,
    plane::{CloseReason, Lane, LinkCommand, LinkEvent, PartMessage},
    ring::{Class, Found, RingMessage},
    wire::LinkMessage,
};

const TUNNEL: TunnelId = TunnelId(1);

fn answer(id: u32) -> RingMessage {
    let mut bytes = vec![0x5a; BLOCK_LEN];
    bytes[..4].copy_from_slice(&id.to_be_bytes());
    let answer = Answer::Found(Found::Unit(Block::copy_from(&bytes).unwrap().into()));
    RingMessage::Answer { id, class: Class::Interactive, asked: 1, answer }
}

fn send(pair: &mut Pair, message: RingMessage) {
    pair.a.command(pair.now, LinkCommand::Send(LinkMessage::Ring(message)));
}

fn came(side: &Side) -> Vec<RingMessage> {
    let ring = |event: &LinkEvent| match event {
        LinkEvent::Message(message) => match &**message {
            LinkMessage::Ring(message) => Some(message.clone()),
            _ => None,
        },
        _ => None,
    };
    side.events.iter().filter_map(ring).collect()
}

#[test]
fn blocks_come_whole_and_in_order() {
    let mut pair = pair();
    for id in 0..40 {
        send(&mut pair, answer(id));
    }
    pair.settle();
    assert_eq!(came(&pair.b), (0..40).map(answer).collect::<Vec<_>>());
}

#[test]
fn cells_pass_while_blocks_wait() {
    let mut pair = pair();
    let open =
        || LinkCommand::Open { tunnel: TUNNEL, lane: Box::new(Lane::ToEnd { end: EndNo(4) }) };
    pair.a.command(pair.now, open());
    pair.b.command(pair.now, open());
    pair.settle();
    for id in 0..40 {
        send(&mut pair, answer(id));
    }
    let cells = (0..16).map(cell).collect();
    pair.a.part(pair.now, PartMessage::Cells { tunnel: TUNNEL, cells });
    send(&mut pair, RingMessage::Accepted { id: 7 });
    // Of 1.3 MB one write: four frames.
    assert!(pair.a.io.poll_transmit(pair.now, &mut pair.a.wire) > 0);
    let mut first = std::mem::take(&mut pair.a.wire);
    pair.b.input(pair.now, LinkInput::Received(&mut first));
    assert_eq!(came(&pair.b)[0], RingMessage::Accepted { id: 7 });
    let cells: usize = pair
        .b
        .parts
        .iter()
        .map(|(_, message)| match message {
            PartMessage::Cells { cells, .. } => cells.len(),
            _ => 0,
        })
        .sum();
    assert_eq!(cells, 16, "eight cells in each frame that a part leaves half of");
    pair.settle();
    assert_eq!(came(&pair.b).len(), 41);
}

#[test]
fn a_part_that_makes_no_large_message_ends_the_link() {
    let mut pair = pair();
    let part = LinkMessage::Part { class: Class::Bulk, last: true, bytes: vec![5, 0, 0, 0, 1] };
    pair.a.command(pair.now, LinkCommand::Send(part));
    pair.settle();
    assert_eq!(pair.b.closed(), Some(CloseReason::Garbage));
}
