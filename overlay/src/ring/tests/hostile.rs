//! One ring among peers that say what they like, when they like.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::{
    Body, Class, Found, Held, Input, Output, Reach, Request, Ring, RingConfig, RingMessage,
    StoreOp, VIEW_MAX, Visited, WATCH_LEASE, Watch,
    testing::{NETWORK, WALL, descriptor, key, member, network, redescribed, signed},
    wire::tests::any_message,
};
use crate::{
    answer::Answer,
    crypto::puzzle::Difficulty,
    id::{Key, LinkNo, Location},
    record::{Record, RecordSize, tests::record_in},
    ring::admission::Network,
    rng::Rng,
    time::{Now, Time},
    unit::{Unit, UnitKey},
    wire::{Admission, LinkMessage},
};

fn at(ms: u64) -> Now {
    Now { time: Time::from_micros(ms * 1_000), wall: WALL }
}

fn ring_of(network: &Network, degree: usize) -> Ring {
    let own = member(network, 0);
    let config = RingConfig { network: network.clone(), own, degree, known_max: VIEW_MAX };
    let mut ring = Ring::new(config, Rng::from_seed([1; 32]));
    ring.handle_input(at(0), Input::Start { seeds: vec![], cached: vec![] });
    ring
}

fn outputs(ring: &mut Ring) -> Vec<Output> {
    std::iter::from_fn(|| ring.poll_output()).collect()
}

fn sent(outputs: &[Output]) -> Vec<(LinkNo, RingMessage)> {
    let ring = |it: &Output| match it {
        Output::Send { link, message: LinkMessage::Ring(message) } => {
            Some((*link, message.clone()))
        }
        _ => None,
    };
    outputs.iter().filter_map(ring).collect()
}

/// A ring with neighbours 1 to `count` on links of the same number.
fn among(count: u32) -> Ring {
    let network = network(0);
    let mut ring = ring_of(&network, 8);
    for n in 1..=count {
        let peer = member(&network, n);
        let (link, remote) = (LinkNo(n), peer.address().unwrap());
        ring.handle_input(at(0), Input::LinkUp { link, peer, remote });
        let message = RingMessage::Hello { degree: 8, reach: Reach::Near };
        ring.handle_input(at(0), Input::Message { link, message });
    }
    assert_eq!(ring.status().neighbours, count as usize);
    outputs(&mut ring);
    ring
}

#[derive(Clone, Debug)]
enum Act {
    Say(u32, RingMessage),
    Down(u32),
    Up(u32),
    Held(u32, bool),
    Wait(u64),
    Ask(Key),
    Watch(Key, u64),
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (1u32..8, any_message()).prop_map(|(link, message)| Act::Say(link, message)),
        1 => (1u32..8).prop_map(Act::Down),
        1 => (1u32..8).prop_map(Act::Up),
        2 => (0u32..8, any::<bool>()).prop_map(|(ticket, found)| Act::Held(ticket, found)),
        2 => (0u64..20_000).prop_map(Act::Wait),
        1 => any::<[u8; 32]>().prop_map(|key| Act::Ask(Key(key))),
        1 => (any::<[u8; 32]>(), 0u64..3).prop_map(|(key, above)| Act::Watch(Key(key), above)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn whatever_peers_say_nothing_panics_and_every_question_ends(
        acts in prop::collection::vec(any_act(), 1..60),
    ) {
        let mut ring = among(5);
        let record = record_in(NETWORK, 1, 1, 2_000, b"x", RecordSize::Small);
        let (mut ms, mut asked, mut answered) = (0, 0, 0);
        for act in acts {
            let input = match act {
                Act::Say(link, message) => Input::Message { link: LinkNo(link), message },
                Act::Down(link) => Input::LinkDown { link: LinkNo(link) },
                Act::Up(n) => {
                    let peer = descriptor(n);
                    let remote = peer.address().unwrap();
                    Input::LinkUp { link: LinkNo(n), peer, remote }
                }
                Act::Held(ticket, found) => {
                    let held = if found { Held::Found(record.clone().into()) } else { Held::Missing };
                    Input::Held { ticket, held }
                }
                Act::Wait(more) => {
                    ms += more;
                    ring.handle_timeout(at(ms));
                    continue;
                }
                Act::Ask(key) => {
                    asked += 1;
                    let request = Request::Get(UnitKey::Record(key));
                    Input::Query { query: asked, request, class: Class::Interactive }
                }
                Act::Watch(key, above) => {
                    asked += 1;
                    let request = Request::Watch(Watch { key, above });
                    Input::Query { query: asked, request, class: Class::Interactive }
                }
            };
            ring.handle_input(at(ms), input);
            let answers = outputs(&mut ring);
            answered += answers.iter().filter(|it| matches!(it, Output::Answer { .. })).count();
        }
        for _ in 0..2_000 {
            let due = ring.poll_timeout().map_or(0, |due| due.as_micros().div_ceil(1_000));
            if due > ms + 60_000 {
                break;
            }
            ms = ms.max(due);
            ring.handle_timeout(at(ms));
            let answers = outputs(&mut ring);
            answered += answers.iter().filter(|it| matches!(it, Output::Answer { .. })).count();
        }
        prop_assert_eq!(answered, asked as usize);
        prop_assert_eq!(ring.status().requests, 0);
    }
}

#[test]
fn whom_neighbours_in_five_places_have_named_for_a_day_is_seasoned_and_nobody_where_places_say_nothing()
 {
    for local in [false, true] {
        let network = Network { local, ..network(0) };
        let mut ring = ring_of(&network, 8);
        let there = |n: u32, place: u8| {
            let address = std::net::SocketAddr::from(([20 + place, 1, 1, 1], 9_000));
            redescribed(n, &member(&network, n), WALL.plus(1), vec![address.into()])
        };
        // Two of six are in one place.
        for (n, place) in [(1, 1), (2, 2), (3, 3), (4, 4), (5, 4), (6, 6)] {
            let (link, peer) = (LinkNo(n), there(n, place));
            let remote = peer.address().unwrap();
            ring.handle_input(at(0), Input::LinkUp { link, peer, remote });
            let message = RingMessage::Hello { degree: 8, reach: Reach::Near };
            ring.handle_input(at(0), Input::Message { link, message });
        }
        assert_eq!(ring.status().neighbours, 6);
        let name = |ring: &mut Ring, link: u32, router: u32| {
            let message = RingMessage::Gossip(vec![there(router, 9)]);
            ring.handle_input(at(1), Input::Message { link: LinkNo(link), message });
        };
        (1..=6).for_each(|link| name(&mut ring, link, 8));
        (1..=5).for_each(|link| name(&mut ring, link, 9));
        let day = 24 * 3_600_000 + 1;
        let seasoned = (!local).then(|| [there(8, 9).id()].into());
        assert_eq!(ring.seasoned(at(day)), seasoned);
        assert!(ring.seasoned(at(day - 1)).is_none_or(|it| it.is_empty()));
    }
}

/// Asks for a key that is closer to the only neighbour, and returns the id of the request it sends.
fn ask_far(ring: &mut Ring) -> (Key, u32) {
    let place = ring.neighbours().next().unwrap().location();
    let mut key = [0; 32];
    key[..8].copy_from_slice(&place.0.to_be_bytes());
    let request = Request::Get(UnitKey::Record(Key(key)));
    ring.handle_input(at(0), Input::Query { query: 7, request, class: Class::Interactive });
    let ticket = outputs(ring).into_iter().find_map(|it| match it {
        Output::Store { ticket, op: StoreOp::Get(_) } => ticket,
        _ => None,
    });
    ring.handle_input(at(0), Input::Held { ticket: ticket.unwrap(), held: Held::Missing });
    let id = sent(&outputs(ring)).into_iter().find_map(|(_, it)| match it {
        RingMessage::Request { id, .. } => Some(id),
        _ => None,
    });
    (Key(key), id.unwrap())
}

fn answers(outputs: &[Output]) -> Vec<Answer<Unit>> {
    let answer = |it: &Output| match it {
        Output::Answer { answer, .. } => Some(answer.clone()),
        _ => None,
    };
    outputs.iter().filter_map(answer).collect()
}

#[test]
fn a_late_answer_after_giving_up_changes_nothing() {
    let mut ring = among(1);
    let (_, id) = ask_far(&mut ring);
    let mut all = Vec::new();
    for ms in (0..40_000).step_by(100) {
        ring.handle_timeout(at(ms));
        all.extend(outputs(&mut ring));
        for it in sent(&all) {
            assert!(!matches!(it.1, RingMessage::Answer { .. }));
        }
    }
    assert_eq!(answers(&all).len(), 1, "gave up once");
    let late =
        RingMessage::Answer { id, class: Class::Interactive, asked: 1, answer: Answer::NotFound };
    let input = Input::Message { link: LinkNo(1), message: late };
    ring.handle_input(at(40_000), input);
    assert_eq!(outputs(&mut ring), []);
}

#[test]
fn an_answer_from_another_link_or_with_another_record_is_none() {
    let mut ring = among(1);
    let (key, id) = ask_far(&mut ring);
    let other = record_in(network(0).id(), 1, 1, 2_000, b"x", RecordSize::Small);
    assert_ne!(other.key(), key);
    let message =
        RingMessage::Answer { id, class: Class::Interactive, asked: 1, answer: Answer::NotFound };
    ring.handle_input(at(1), Input::Message { link: LinkNo(2), message });
    assert_eq!(answers(&outputs(&mut ring)), []);
    let answer = Answer::Found(Found::Unit(other.into()));
    let message = RingMessage::Answer { id, class: Class::Interactive, asked: 1, answer };
    ring.handle_input(at(1), Input::Message { link: LinkNo(1), message });
    let all = outputs(&mut ring);
    assert!(!answers(&all).iter().any(|it| matches!(it, Answer::Found(_))));
}

#[test]
fn a_neighbour_that_floods_is_told_to_come_back_and_costs_bounded_memory() {
    let mut ring = among(3);
    let own = ring.status().requests;
    let mut busy = 0;
    for id in 0..500 {
        let body = Body::Get(UnitKey::Record(Key([u8::try_from(id % 251).unwrap(); 32])));
        let visited = Visited::default();
        let message =
            RingMessage::Request { id, budget: 20, class: Class::Interactive, visited, body };
        ring.handle_input(at(0), Input::Message { link: LinkNo(1), message });
        let said = sent(&outputs(&mut ring));
        busy += said
            .iter()
            .filter(|(_, it)| {
                matches!(it, RingMessage::Answer { answer: Answer::Busy { retry_s: 1.. }, .. })
            })
            .count();
    }
    assert_eq!(busy, 500 - 64);
    assert_eq!(ring.status().requests, own + 64);
    // The others are still served.
    let body = Body::Get(UnitKey::Record(Key([1; 32])));
    let message = RingMessage::Request {
        id: 1,
        budget: 20,
        class: Class::Interactive,
        visited: Visited::default(),
        body,
    };
    ring.handle_input(at(0), Input::Message { link: LinkNo(2), message });
    assert_eq!(ring.status().requests, own + 65);
}

#[test]
fn a_neighbour_that_watches_without_end_is_told_to_come_back_and_takes_nobodys_place() {
    let mut ring = among(3);
    let own = ring.status().requests;
    let say = |ring: &mut Ring, link, id, body| {
        let (visited, class) = (Visited::default(), Class::Interactive);
        let message = RingMessage::Request { id, budget: 20, class, visited, body };
        ring.handle_input(at(0), Input::Message { link: LinkNo(link), message });
        let busy = |it: &(LinkNo, RingMessage)| {
            matches!(it.1, RingMessage::Answer { answer: Answer::Busy { retry_s: 1.. }, .. })
        };
        sent(&outputs(ring)).iter().any(busy)
    };
    let watch = |n: u8| Body::Watch(Watch { key: Key([n; 32]), above: 0 });
    let refused = (0..200).filter(|id| say(&mut ring, 1, *id, watch(7))).count();
    assert_eq!(refused, 200 - 64);
    assert_eq!(ring.status().requests, own + 64);
    assert!(!say(&mut ring, 2, 1, watch(8)), "others may watch");
    let get = Body::Get(UnitKey::Record(Key([1; 32])));
    assert!(!say(&mut ring, 1, 999, get), "and it may ask for all else");
}

/// Asks the only neighbour to watch a record that is closer to it, and returns the number of that.
fn watch_far(ring: &mut Ring, key: Key) -> u32 {
    let request = Request::Watch(Watch { key, above: 4 });
    ring.handle_input(at(0), Input::Query { query: 7, request, class: Class::Interactive });
    let ticket = outputs(ring).into_iter().find_map(|it| match it {
        Output::Store { ticket, op: StoreOp::Get(_) } => ticket,
        _ => None,
    });
    ring.handle_input(at(0), Input::Held { ticket: ticket.unwrap(), held: Held::Missing });
    let id = sent(&outputs(ring)).into_iter().find_map(|(_, it)| match it {
        RingMessage::Request { id, .. } => Some(id),
        _ => None,
    });
    id.unwrap()
}

/// A record that is closer to the only neighbour of a ring than to the ring itself, in this version.
fn closer(ring: &Ring, version: u64) -> Record {
    let (own, peer) = (member(&network(0), 0).location(), ring.neighbours().next().unwrap());
    let record = |seed| record_in(network(0).id(), seed, version, 2_000, b"x", RecordSize::Small);
    let is_closer = |it: &Record| {
        let place = it.key().location();
        place.distance(peer.location()) < place.distance(own)
    };
    (0..=255).map(record).find(is_closer).unwrap()
}

#[test]
fn who_ends_a_watch_early_or_with_what_is_known_is_not_believed() {
    for wrong in [None, Some(4)] {
        let mut ring = among(1);
        let known = closer(&ring, wrong.unwrap_or(4));
        let id = watch_far(&mut ring, known.key());
        let answer = match wrong {
            None => Answer::NotFound,
            Some(_) => Answer::Found(Found::Unit(known.clone().into())),
        };
        let message = RingMessage::Answer { id, class: Class::Interactive, asked: 1, answer };
        ring.handle_input(at(1_000), Input::Message { link: LinkNo(1), message });
        assert_eq!(answers(&outputs(&mut ring)), [], "it waits on, here");
        // What is new then comes, though not from there.
        let message = RingMessage::Replicate(closer(&ring, 5));
        ring.handle_input(at(2_000), Input::Message { link: LinkNo(1), message });
        assert_eq!(answers(&outputs(&mut ring)), [Answer::Found(closer(&ring, 5).into())]);
    }
}

#[test]
fn a_watch_that_was_kept_to_its_end_ends() {
    let mut ring = among(1);
    let record = closer(&ring, 1);
    let id = watch_far(&mut ring, record.key());
    ring.handle_input(
        at(100),
        Input::Message { link: LinkNo(1), message: RingMessage::Accepted { id } },
    );
    let end = u64::try_from(WATCH_LEASE.as_millis()).unwrap();
    for ms in (0..end).step_by(1_000) {
        ring.handle_timeout(at(ms));
        assert_eq!(answers(&outputs(&mut ring)), []);
    }
    let answer = Answer::NotFound;
    let message = RingMessage::Answer { id, class: Class::Interactive, asked: 3, answer };
    ring.handle_input(at(end + 100), Input::Message { link: LinkNo(1), message });
    assert_eq!(answers(&outputs(&mut ring)), [Answer::NotFound]);
}

#[test]
fn a_stranger_may_ask_who_is_where_and_nothing_else() {
    let mut ring = among(2);
    let peer = member(&network(0), 9);
    let remote = peer.address().unwrap();
    ring.handle_input(at(0), Input::LinkUp { link: LinkNo(9), peer, remote });
    let record = record_in(network(0).id(), 1, 1, 2_000, b"x", RecordSize::Small);
    let visited = Visited::default();
    let mut say = |id, body| {
        let message =
            RingMessage::Request { id, budget: 0, class: Class::Interactive, visited, body };
        ring.handle_input(at(0), Input::Message { link: LinkNo(9), message });
        let all = outputs(&mut ring);
        assert!(!all.iter().any(|it| matches!(it, Output::Store { .. })));
        sent(&all).into_iter().find_map(|(_, it)| match it {
            RingMessage::Answer { answer, .. } => Some(answer),
            _ => None,
        })
    };
    assert!(matches!(say(1, Body::Put(record.clone().into())), Some(Answer::Busy { .. })));
    assert!(matches!(say(2, Body::Get(UnitKey::Record(record.key()))), Some(Answer::Busy { .. })));
    for id in 3..11 {
        assert!(matches!(say(id, Body::Find(Location(0))), Some(Answer::Found(Found::Routers(_)))));
    }
    assert!(matches!(say(11, Body::Find(Location(0))), Some(Answer::Busy { .. })), "at once");
    let message = RingMessage::Replicate(record);
    ring.handle_input(at(0), Input::Message { link: LinkNo(9), message });
    assert!(!outputs(&mut ring).iter().any(|it| matches!(it, Output::Store { .. })));
}

#[test]
fn a_neighbour_whose_work_was_not_done_is_cut_off_and_its_prefix_blocked() {
    let network = Network { difficulty: Difficulty(4), ..network(0) };
    let mut ring = ring_of(&network, 8);
    let admission = Admission { nonce: 1, output: [0; 32] };
    let liar = signed(&network, &key(5), 5, admission);
    let (link, remote) = (LinkNo(5), liar.address().unwrap());
    let up = Input::LinkUp { link, peer: Arc::clone(&liar), remote };
    ring.handle_input(at(0), up);
    let message = RingMessage::Hello { degree: 8, reach: Reach::Near };
    ring.handle_input(at(0), Input::Message { link, message });
    assert_eq!(ring.status().neighbours, 1, "checked lazily");
    ring.handle_timeout(at(300));
    assert_eq!(ring.status().neighbours, 0);
    assert!(outputs(&mut ring).contains(&Output::CloseLink { link }));
    assert_eq!(ring.view().count(), 0);
    // Somebody honest from the same prefix, within ten minutes and after.
    let other = member(&network, 6);
    let input = |link| Input::LinkUp { link: LinkNo(link), peer: Arc::clone(&other), remote };
    ring.handle_input(at(1_000), input(6));
    assert!(outputs(&mut ring).contains(&Output::CloseLink { link: LinkNo(6) }));
    ring.handle_input(at(601_000), input(7));
    assert!(!outputs(&mut ring).contains(&Output::CloseLink { link: LinkNo(7) }));
}

#[test]
fn nobody_moves() {
    let network = network(0);
    let mut ring = among(3);
    let admission = Admission { nonce: 1, output: [7; 32] };
    let moved = signed(&network, &key(2), 2, admission);
    assert_ne!(moved.location(), member(&network, 2).location());
    let input = Input::Descriptor { link: LinkNo(2), descriptor: moved };
    ring.handle_input(at(1), input); // not fresher: ignored
    assert_eq!(ring.status().neighbours, 3);
}
