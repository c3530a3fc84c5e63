//! What tunnels may ask of the router where they end.

use warren_overlay::{id::Key, ring::Watch};

use super::*;

fn tunnel(no: u32) -> Side {
    (LinkNo(1), TunnelId(no))
}

/// Asks through a tunnel: the number of the question to the ring, or with what it is refused.
fn ask(exits: &mut Exits, at: Side, clove: Clove) -> Result<u64, Answer<RecordBytes>> {
    let input = ExitsInput::EndHop { at, event: EndHopEvent::Request(clove) };
    exits.handle_input(Now::default(), input);
    match exits.poll_output().expect("something is done") {
        ExitsOutput::Query { query, .. } => Ok(query),
        ExitsOutput::Link {
            command:
                LinkCommand::EndHop {
                    command: EndHopCommand::Answer(Clove::RecordAnswer { answer, .. }),
                    ..
                },
            ..
        } => Err(answer),
        other => panic!("{other:?}"),
    }
}

fn watch(request: u32) -> Clove {
    Clove::RecordWatch { request, watch: Watch { key: Key([7; 32]), above: 1 } }
}

#[test]
fn watches_are_bounded_for_each_tunnel_and_for_all_and_take_no_room_from_other_requests() {
    let mut exits = Exits::new(Rng::from_seed([1; 32]));
    let busy = |it: &Result<u64, Answer<RecordBytes>>| {
        matches!(it, Err(Answer::Busy { retry_s: BUSY_WATCH_RETRY_S }))
    };
    let first = ask(&mut exits, tunnel(1), watch(0)).expect("there is room");
    for request in 1..4 {
        assert!(ask(&mut exits, tunnel(1), watch(request)).is_ok());
    }
    assert!(busy(&ask(&mut exits, tunnel(1), watch(4))), "a fifth in one tunnel");
    let get = Clove::RecordGet { request: 5, key: Key([7; 32]) };
    assert!(ask(&mut exits, tunnel(1), get).is_ok());
    // One that was answered makes room.
    let answer = Answer::NotFound;
    let input = ExitsInput::Answer { query: first, asked: 3, answer };
    exits.handle_input(Now::default(), input);
    assert!(matches!(exits.poll_output(), Some(ExitsOutput::Link { .. })), "its owner hears of it");
    assert!(ask(&mut exits, tunnel(1), watch(6)).is_ok());

    for no in 2..=64 {
        for request in 0..4 {
            assert!(ask(&mut exits, tunnel(no), watch(request)).is_ok(), "tunnel {no}");
        }
    }
    assert!(busy(&ask(&mut exits, tunnel(65), watch(0))), "256 in all");
    let get = Clove::RecordGet { request: 1, key: Key([7; 32]) };
    assert!(ask(&mut exits, tunnel(65), get).is_ok());
    // A tunnel that is gone takes its watches along.
    exits.handle_input(Now::default(), ExitsInput::LaneClosed(tunnel(9)));
    assert!(ask(&mut exits, tunnel(65), watch(2)).is_ok());
}
