//! What tunnels may ask of the router where they end.

use warren_overlay::{
    block::{BLOCK_LEN, Block, BlockAddress},
    crypto::effort::{EFFORT_MAX, MemoryPuzzle, Search},
    garlic::{Rate, put_challenge, seal_lease},
    id::{Key, Location},
    ring::Watch,
};

use super::*;

const ROOM: Room = Room { free: 9_000, all: 9_000 };

fn exits() -> Exits {
    Exits::new(RouterId([3; 32]), Rng::from_seed([1; 32]))
}

fn tunnel(no: u32) -> Side {
    (LinkNo(1), TunnelId(no))
}

/// Asks through a tunnel: the number of the question to the ring, or with what it is refused.
fn ask(exits: &mut Exits, at: Side, clove: Clove) -> Result<u64, Answer<RecordBytes>> {
    let input = ExitsInput::EndHop { at, event: EndHopEvent::Request(clove), room: ROOM };
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
    let mut exits = exits();
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

/// A put, or work, of a tunnel: what it is told at once; nothing if the ring is asked.
fn told(exits: &mut Exits, at: Side, clove: Clove) -> Option<Clove> {
    let input = ExitsInput::EndHop { at, event: EndHopEvent::Request(clove), room: ROOM };
    exits.handle_input(Now::default(), input);
    match exits.poll_output().expect("something is done") {
        ExitsOutput::Query { .. } => None,
        ExitsOutput::Link { command: LinkCommand::EndHop { command, .. }, .. } => match command {
            EndHopCommand::Answer(clove) => Some(clove),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn put(request: u32) -> Clove {
    let block = Block::copy_from(&vec![7; BLOCK_LEN]).unwrap();
    Clove::BlockPut { request, class: Class::Bulk, block }
}

fn pay(exits: &mut Exits, at: Side) {
    let ask = Clove::PutWork { request: 900, effort: 0, nonce: 0 };
    let Some(Clove::PutPrice { price, .. }) = told(exits, at, ask) else { panic!("no price") };
    let challenge = put_challenge(&RouterId([3; 32]), &price.seed, 0);
    let mut search = Search::new(challenge, price.effort);
    let nonce = search.step(&mut MemoryPuzzle::default(), u32::MAX).unwrap();
    let work = Clove::PutWork { request: 901, effort: price.effort, nonce };
    let Some(Clove::PutPrice { price, .. }) = told(exits, at, work) else { panic!("no price") };
    assert_eq!(price.puts, 32);
}

const fn is_busy(clove: Option<&Clove>, seconds: u16) -> bool {
    matches!(clove, Some(Clove::BlockAnswer { answer: Answer::Busy { retry_s }, .. }) if *retry_s == seconds)
}

#[test]
fn puts_leave_room_for_gets_and_whoever_puts_little_is_not_kept_out() {
    let mut exits = exits();
    assert!(is_busy(told(&mut exits, tunnel(1), put(0)).as_ref(), 60), "nothing was paid");
    for no in 1..=5 {
        pay(&mut exits, tunnel(no));
    }
    // Three tunnels with all that one may have under way.
    for no in 1..=3 {
        for request in 0..16 {
            assert_eq!(told(&mut exits, tunnel(no), put(request)), None, "{no} {request}");
        }
    }
    assert!(is_busy(told(&mut exits, tunnel(3), put(16)).as_ref(), 1));
    assert_eq!(told(&mut exits, tunnel(4), put(0)), None, "the first of a tunnel goes before");
    assert!(is_busy(told(&mut exits, tunnel(4), put(1)).as_ref(), 1));
    let get = |request| {
        let address = BlockAddress([1; 32]);
        Clove::BlockGet { request, class: Class::Interactive, address }
    };
    assert_eq!(told(&mut exits, tunnel(4), get(2)), None);
    // One that is stored makes room, and is spent; what was refused is not.
    let answer = Answer::Stored { copies: 3 };
    exits.handle_input(Now::default(), ExitsInput::Answer { query: 1, asked: 3, answer });
    assert!(exits.poll_output().is_some());
    for no in 1..=2 {
        exits.handle_input(Now::default(), ExitsInput::LaneClosed(tunnel(no)));
    }
    for request in 17..17 + 16 {
        assert_eq!(told(&mut exits, tunnel(3), put(request)), None, "{request}");
    }
    assert!(is_busy(told(&mut exits, tunnel(3), put(40)).as_ref(), 60), "32 were spent");
}

#[test]
fn work_that_was_not_done_ends_the_tunnel() {
    let mut exits = exits();
    let ask = Clove::PutWork { request: 1, effort: 0, nonce: 0 };
    assert!(matches!(told(&mut exits, tunnel(1), ask), Some(Clove::PutPrice { .. })));
    // One nonce in a hundred thousand would do.
    let clove = Clove::PutWork { request: 2, effort: EFFORT_MAX, nonce: 5 };
    let event = EndHopEvent::Request(clove);
    let input = ExitsInput::EndHop { at: tunnel(1), event, room: ROOM };
    exits.handle_input(Now::default(), input);
    let closed = exits.poll_output();
    assert!(
        matches!(closed, Some(ExitsOutput::Link { command: LinkCommand::Close { .. }, .. })),
        "{closed:?}"
    );
}

/// What a router does about a splice that the owner of a tunnel wants: it is dialled, or refused.
fn splice(exits: &mut Exits, at: Side, no: u32) -> Option<u64> {
    let address = std::net::SocketAddr::from(([8, 8, 8, 8], 9_000)).into();
    let (id, link_key) = (RouterId([5; 32]), [6; 32]);
    let contact = Contact { id, link_key, address, expiry: Now::default().wall };
    let clove = Clove::SpliceOpen { splice: SpliceId(no), contact, sealed: [0; _] };
    let input = ExitsInput::EndHop { at, event: EndHopEvent::Request(clove), room: ROOM };
    exits.handle_input(Now::default(), input);
    match exits.poll_output().expect("something is done") {
        ExitsOutput::Connect { ask, .. } => Some(ask),
        ExitsOutput::Link {
            command: LinkCommand::EndHop { command: EndHopCommand::CloseSplice { .. }, .. },
            ..
        } => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_few_tunnels_with_silent_splices_leave_room_for_those_of_others() {
    let mut exits = exits();
    let mut legs = 0;
    for (tunnel_no, no) in (1..=20).flat_map(|tunnel| (1..=1_024).map(move |no| (tunnel, no))) {
        let Some(ask) = splice(&mut exits, tunnel(tunnel_no), no) else { continue };
        legs += 1;
        let lane = (LinkNo(2), TunnelId(legs));
        exits.handle_input(Now::default(), ExitsInput::Connected { ask, lane });
        while exits.poll_output().is_some() {}
    }
    assert!(legs > 8_000, "{legs}: there is room for many");
    assert!(splice(&mut exits, tunnel(21), 1).is_some());
    // And for those of a service whose gateway is here.
    let lease = [7; 16];
    let ask = Clove::LeaseRequest { request: 1, lease, rate: Rate::default() };
    let Some(Clove::LeaseGranted { splice_key, .. }) = told(&mut exits, tunnel(22), ask) else {
        panic!("no lease")
    };
    let sealed = seal_lease(&mut Rng::from_seed([2; 32]), &splice_key, &lease).unwrap();
    let leg = (LinkNo(3), TunnelId(1));
    exits.handle_input(Now::default(), ExitsInput::SpliceOpen { leg, sealed });
    let Some(ExitsOutput::Link { command: LinkCommand::EndHop { tunnel: at, command }, .. }) =
        exits.poll_output()
    else {
        panic!("refused")
    };
    assert_eq!((at, command), (TunnelId(22), EndHopCommand::AcceptIncoming { leg }));
}

#[test]
fn a_few_tunnels_that_ask_much_or_never_read_leave_room_for_others() {
    let mut exits = exits();
    let get = |request| Clove::RecordGet { request, key: Key([7; 32]) };
    for (no, request) in (1..=40).flat_map(|no| (0..32).map(move |request| (no, request))) {
        let _ = ask(&mut exits, tunnel(no), get(request));
    }
    assert!(exits.queries.len() > 1_000, "{}: there is room for many", exits.queries.len());
    assert!(ask(&mut exits, tunnel(41), get(0)).is_ok());

    let mut exits = self::exits();
    let block = |request| {
        let address = BlockAddress([1; 32]);
        Clove::BlockGet { request, class: Class::Interactive, address }
    };
    let found = Block::copy_from(&vec![7; BLOCK_LEN]).unwrap();
    for (no, request) in (1..=80).flat_map(|no| (0..16).map(move |request| (no, request))) {
        if told(&mut exits, tunnel(no), block(request)).is_none() {
            let (query, answer) = (exits.next, Answer::Found(Unit::Block(found.clone())));
            exits.handle_input(Now::default(), ExitsInput::Answer { query, asked: 1, answer });
            assert!(exits.poll_output().is_some());
        }
    }
    let unread: usize = exits.unread.values().sum();
    assert!(unread > 1_000, "{unread}: there is room for many");
    assert_eq!(told(&mut exits, tunnel(81), block(0)), None);
}

#[test]
fn a_search_for_a_router_is_a_question_to_the_ring_and_its_answer_names_that_router_alone() {
    let mut exits = exits();
    let find = |request| Clove::RouterFind { request, location: Location(7) };
    let input = |request| ExitsInput::EndHop {
        at: tunnel(1),
        event: EndHopEvent::Request(find(request)),
        room: ROOM,
    };
    exits.handle_input(Now::default(), input(1));
    let Some(ExitsOutput::Query { query, request: Request::Find(Location(7)), .. }) =
        exits.poll_output()
    else {
        panic!("the ring is asked")
    };
    let answer = ExitsInput::Router { query, asked: 4, answer: Answer::NotFound };
    exits.handle_input(Now::default(), answer);
    let Some(ExitsOutput::Link { command: LinkCommand::EndHop { command, .. }, .. }) =
        exits.poll_output()
    else {
        panic!("the owner hears of it")
    };
    let missing = Clove::RouterAnswer { request: 1, asked: 4, answer: Answer::NotFound };
    assert_eq!(command, EndHopCommand::Answer(missing));
    // They share the places of all requests; who has no room is told in the kind that was asked for.
    let busy = Answer::Busy { retry_s: BUSY_RETRY_S };
    let told: Vec<_> =
        (2..600).filter_map(|request| told(&mut exits, tunnel(1), find(request))).collect();
    assert!(!told.is_empty());
    assert!(
        told.iter().all(
            |it| matches!(it, Clove::RouterAnswer { asked: 0, answer, .. } if *answer == busy)
        )
    );
}
