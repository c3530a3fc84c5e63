//! Blocks asked for and brought through a tunnel.

use super::world::{NAME, Path};
use crate::{
    answer::Answer,
    block::{BLOCK_LEN, Block, BlockAddress},
    garlic::{
        BLOCK_REQUESTS_MAX, CarrierOutput, Clove, DescriptorBytes, EndHopCommand, EndHopEvent,
        EndHopOutput,
    },
    id::{Key, Location},
    ring::Class,
    time::Time,
};

fn block(n: u32) -> Block {
    let mut bytes = vec![0x5a; BLOCK_LEN];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    Block::copy_from(&bytes).unwrap()
}

fn get(request: u32, address: BlockAddress) -> Clove {
    Clove::BlockGet { request, class: Class::Interactive, address }
}

fn put(request: u32) -> Clove {
    Clove::BlockPut { request, class: Class::Bulk, block: block(request) }
}

/// Runs the tunnel, its end hop answering gets with `found` and puts with three copies; how many found
/// blocks it said have gone out.
fn run(path: &mut Path, found: impl Fn(u32) -> Block) -> (Vec<Clove>, u32) {
    let (mut asked, mut flushed) = (Vec::new(), 0);
    for step in 0..2_000 {
        path.step(Time::from_micros(step));
        for output in path.hop_outputs() {
            match output {
                EndHopOutput::Node(EndHopEvent::Request(clove)) => {
                    let request = clove.request().unwrap();
                    let answer = match &clove {
                        Clove::BlockGet { .. } => Answer::Found(found(request)),
                        _ => Answer::Stored { copies: 3 },
                    };
                    let answer = Clove::BlockAnswer { request, asked: 9, answer };
                    path.hop.handle_command(Time::ZERO, EndHopCommand::Answer(answer));
                    asked.push(clove);
                }
                EndHopOutput::Node(EndHopEvent::Flushed { blocks }) => flushed += blocks,
                other => panic!("{other:?}"),
            }
        }
    }
    (asked, flushed)
}

#[test]
fn blocks_cross_whole_both_ways_and_answers_name_how_many_were_asked() {
    let mut path = Path::new();
    for request in 0..8 {
        assert!(path.carrier.send_clove(NAME, &put(request)));
        assert!(path.carrier.send_clove(NAME, &get(100 + request, block(100 + request).address())));
    }
    let (asked, flushed) = run(&mut path, block);
    let puts: Vec<&Clove> =
        asked.iter().filter(|clove| matches!(clove, Clove::BlockPut { .. })).collect();
    assert_eq!(puts, (0..8).map(put).collect::<Vec<_>>().iter().collect::<Vec<_>>());
    assert_eq!(flushed, 8);
    let mut found = 0;
    for output in &path.got {
        let CarrierOutput::Clove {
            clove: Clove::BlockAnswer { request, asked: 9, answer }, ..
        } = output
        else {
            panic!("{output:?}")
        };
        match answer {
            Answer::Found(it) => {
                assert_eq!(*it, block(*request));
                found += 1;
            }
            other => assert_eq!(*other, Answer::Stored { copies: 3 }),
        }
    }
    assert_eq!((path.got.len(), found), (16, 8));
}

#[test]
fn a_block_that_was_not_asked_for_ends_the_tunnel() {
    let mut path = Path::new();
    assert!(path.carrier.send_clove(NAME, &get(1, block(1).address())));
    run(&mut path, |_| block(2));
    let failed = |it: &CarrierOutput| matches!(it, CarrierOutput::TunnelFailed { tunnel: NAME });
    assert!(path.got.iter().any(failed));
    assert!(!path.got.iter().any(|it| matches!(it, CarrierOutput::Clove { .. })));
}

#[test]
fn a_search_for_a_router_is_answered_as_such_and_by_nothing_else() {
    let find = Clove::RouterFind { request: 1, location: Location(7) };
    let get = Clove::RecordGet { request: 1, key: Key([7; 32]) };
    let bytes = || DescriptorBytes::new(vec![5; 1_500]).unwrap();
    let router = || Clove::RouterAnswer { request: 1, asked: 3, answer: Answer::Found(bytes()) };
    let record = || Clove::RecordAnswer { request: 1, asked: 3, answer: Answer::NotFound };
    for (question, answer, fits) in [
        (&find, router(), true),
        (&find, record(), false),
        (&get, record(), true),
        (&get, router(), false),
    ] {
        let mut path = Path::new();
        assert!(path.carrier.send_clove(NAME, question));
        path.step(Time::ZERO);
        path.hop_outputs();
        path.hop.handle_command(Time::ZERO, EndHopCommand::Answer(answer.clone()));
        (1..10).for_each(|step| path.step(Time::from_micros(step)));
        let came = path.got.iter().any(
            |it| matches!(it, CarrierOutput::Clove { tunnel: NAME, clove } if *clove == answer),
        );
        let failed =
            path.got.iter().any(|it| matches!(it, CarrierOutput::TunnelFailed { tunnel: NAME }));
        assert_eq!((came, failed), (fits, !fits), "{question:?} {answer:?}");
    }
}

#[test]
fn no_more_requests_about_blocks_are_open_than_the_end_hop_takes() {
    let mut path = Path::new();
    for request in 0..u32::try_from(BLOCK_REQUESTS_MAX).unwrap() {
        assert_eq!(path.carrier.block_room(NAME), BLOCK_REQUESTS_MAX - request as usize);
        assert!(path.carrier.send_clove(NAME, &get(request, block(request).address())));
    }
    assert_eq!(path.carrier.block_room(NAME), 0);
    assert!(!path.carrier.send_clove(NAME, &get(99, block(99).address())));
    run(&mut path, block);
    assert_eq!(path.carrier.block_room(NAME), BLOCK_REQUESTS_MAX);
}
