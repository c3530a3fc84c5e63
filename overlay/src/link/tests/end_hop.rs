//! A tunnel that ends at one of two joined links.

use super::support::*;
use crate::{
    crypto::{
        onion::{Direction, LayerKeys, OwnerBackward, OwnerForward, RelayBackward, RelayForward},
        secret::Secret,
    },
    garlic::{EndHop, EndHopCommand, EndHopEvent},
    id::{EndNo, LinkNo, SpliceId, TunnelId},
    plane::{CellBody, Lane, LinkCommand, LinkEvent, Part, PartMessage},
};

const TUNNEL: TunnelId = TunnelId(1);
const LEG: (LinkNo, TunnelId) = (LinkNo(50), TunnelId(51));

fn keys(direction: Direction) -> LayerKeys {
    LayerKeys::derive(&Secret::take(&mut [6; 32]), direction)
}

/// The owner's layers, and a pair whose `b` is the tunnel's end hop.
fn tunnel() -> (OwnerForward, OwnerBackward, Pair) {
    let hop = EndHop::new(
        RelayForward::new(keys(Direction::Forward)),
        RelayBackward::new(keys(Direction::Backward)),
    );
    let mut pair = pair();
    let lane = Box::new(Lane::ToEnd { end: EndNo(4) });
    pair.a.command(pair.now, LinkCommand::Open { tunnel: TUNNEL, lane });
    let lane = Box::new(Lane::EndHop(Box::new(hop)));
    pair.b.command(pair.now, LinkCommand::Open { tunnel: TUNNEL, lane });
    pair.settle();
    let forward = OwnerForward::new(vec![keys(Direction::Forward)]);
    let backward = OwnerBackward::new(vec![keys(Direction::Backward)]);
    (forward, backward, pair)
}

fn from_owner(pair: &mut Pair, cell: &CellBody) {
    pair.a.part(pair.now, PartMessage::Cells { tunnel: TUNNEL, cells: vec![*cell] });
    pair.settle();
}

#[test]
fn recognised_cells_return_their_credit() {
    let (mut owner, _, mut pair) = tunnel();
    for _ in 0..1_000 {
        let mut cell = [0; 1_024];
        owner.originate(&mut cell);
        from_owner(&mut pair, &cell);
    }
    assert_eq!(pair.b.io.counters().cells_in, 1_000);
    assert_eq!(pair.a.io.queued_cells(), 0);
    assert!(!pair.b.lane_closed(TUNNEL));
}

#[test]
fn the_first_unrecognised_cell_ends_the_tunnel_on_both_sides() {
    let (mut owner, _, mut pair) = tunnel();
    let mut cell = [0; 1_024];
    owner.originate(&mut cell);
    cell[500] ^= 1;
    from_owner(&mut pair, &cell);
    assert!(pair.b.lane_closed(TUNNEL) && pair.a.lane_closed(TUNNEL));
    assert_eq!(pair.b.io.counters().lanes_broken, 1);
    assert_eq!(pair.a.closed().or(pair.b.closed()), None, "the link is not to blame");
}

#[test]
fn what_an_end_hop_says_and_splices_reaches_owner_node_and_leg() {
    let (_, mut owner, mut pair) = tunnel();
    let command = EndHopCommand::AcceptIncoming { leg: LEG };
    pair.b.command(pair.now, LinkCommand::EndHop { tunnel: TUNNEL, command });
    let Some(LinkEvent::EndHop { event, .. }) = pair.b.events.pop() else { panic!("no splice") };
    let EndHopEvent::Incoming { splice, leg: LEG } = *event else { panic!("{event:?}") };
    // Leg cells, as many as a leg's window, go to the owner as far as the splice's credit goes.
    let mut leg = [0; 1_024];
    leg[..2].copy_from_slice(&1_001u16.to_be_bytes());
    let cells = vec![leg; 32];
    pair.b.part(pair.now, PartMessage::SpliceCells { tunnel: TUNNEL, splice, cells });
    pair.settle();
    let mut got = 0;
    for (to, message) in pair.a.parts.drain(..) {
        if let PartMessage::Cells { tunnel: TUNNEL, cells } = message {
            assert_eq!(to, Part::End(EndNo(4)));
            for mut body in cells {
                assert!(owner.open(&mut body));
                got += 1;
            }
        }
    }
    assert!(got >= 32, "{got}");
    let drained: u32 = pair
        .b
        .parts
        .iter()
        .map(|(to, message)| match message {
            PartMessage::Drained { tunnel, splice: None, cells } => {
                assert_eq!((*to, *tunnel), (Part::Link(LEG.0), LEG.1));
                *cells
            }
            other => panic!("{other:?}"),
        })
        .sum();
    assert_eq!(drained, 32, "the leg may grant again what has left");
    assert_eq!(pair.b.io.counters().cells_out, got);
}

#[test]
fn leg_cells_for_no_end_hop_are_counted() {
    let (_, _, mut pair) = tunnel();
    let cells = vec![[0; 1_024]];
    pair.b.part(
        pair.now,
        PartMessage::SpliceCells { tunnel: TunnelId(9), splice: SpliceId(1), cells },
    );
    assert_eq!(pair.b.io.counters().unknown_cells, 1);
}
