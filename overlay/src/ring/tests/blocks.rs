//! Blocks on whole rings: found, kept three times, shared searches, windows, loss.

use std::time::Duration;

use super::net::{Net, seconds};
use crate::{
    answer::Answer,
    block::{BLOCK_LEN, Block},
    id::LinkNo,
    ring::{Class, Input, REPLICAS, Request},
    unit::{Unit, UnitKey},
};

fn block(n: u32) -> Block {
    let mut bytes = vec![0x5a; BLOCK_LEN];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    Block::copy_from(&bytes).unwrap()
}

fn key(n: u32) -> UnitKey {
    UnitKey::Block(block(n).address())
}

fn put(net: &mut Net, at: usize, n: u32) -> Answer<Unit> {
    net.answer(at, Request::Put(block(n).into()))
}

fn get(net: &mut Net, at: usize, n: u32) -> Answer<Unit> {
    net.answer(at, Request::Get(key(n)))
}

fn found(n: u32) -> Answer<Unit> {
    Answer::Found(block(n).into())
}

#[test]
fn a_block_is_kept_by_the_three_closest_and_found_from_everywhere() {
    let mut net = Net::grown(1, 12, 60, Duration::from_millis(50));
    net.run(seconds(30));
    for n in 0..40 {
        assert_eq!(put(&mut net, n as usize, n), Answer::Stored { copies: 3 });
        for holder in net.closest(key(n).location(), REPLICAS) {
            assert!(net.routers[holder].store.contains_key(&key(n)));
        }
    }
    for n in 0..40 {
        assert_eq!(get(&mut net, (n as usize + 17) % 60, n), found(n));
    }
}

#[test]
fn who_finds_nothing_is_told_how_many_were_asked() {
    let mut net = Net::grown(1, 12, 60, Duration::from_millis(50));
    net.run(seconds(30));
    let far = *net.closest(key(7).location(), 60).last().unwrap();
    let query = net.ask(far, Request::Get(key(7)));
    net.run(seconds(10));
    let (asked, answer) = net.answers.remove(&query).unwrap();
    assert_eq!(answer, Answer::NotFound);
    // Two tries through different first hops, three holders each, and the way.
    assert!((5..=20).contains(&asked), "asked {asked}");
}

#[test]
fn a_block_that_passed_by_is_found_on_the_way() {
    let mut net = Net::grown(1, 12, 60, Duration::from_millis(50));
    net.run(seconds(30));
    for router in &mut net.routers {
        router.caches = true;
    }
    put(&mut net, 3, 1);
    for at in 0..60 {
        assert_eq!(get(&mut net, at, 1), found(1));
    }
    for holder in net.closest(key(1).location(), REPLICAS) {
        net.routers[holder].store.clear();
        net.routers[holder].cached.clear();
    }
    assert_eq!(get(&mut net, 7, 1), found(1));
}

#[test]
fn many_who_ask_at_once_share_one_search() {
    let mut net = Net::grown(1, 12, 60, Duration::from_millis(50));
    net.run(seconds(30));
    put(&mut net, 3, 1);
    let before = net.forwards;
    let queries: Vec<u32> = (0..60).map(|at| net.ask(at, Request::Get(key(1)))).collect();
    net.run(seconds(10));
    for query in queries {
        assert_eq!(net.answers.remove(&query).unwrap().1, found(1));
    }
    // Each router asks at most one other, however many ask it.
    let forwards = net.forwards - before;
    assert!(forwards <= 75, "{forwards}");
}

#[test]
fn a_flood_of_gets_beyond_all_windows_ends_and_most_of_it_well() {
    let mut net = Net::grown(1, 12, 40, Duration::from_millis(50));
    net.run(seconds(30));
    for n in 0..120 {
        put(&mut net, n as usize % 40, n);
    }
    let queries: Vec<(u32, u32)> =
        (0..120).map(|n| (n, net.ask(5, Request::Get(key(n))))).collect();
    net.run(seconds(60));
    let answers = queries.into_iter().map(|(n, query)| (n, net.answers.remove(&query).unwrap().1));
    let good = answers.filter(|(n, answer)| *answer == found(*n)).count();
    assert!(good >= 118, "{good} of 120");
}

#[test]
fn a_push_is_confirmed_or_refused() {
    let mut net = Net::grown(1, 12, 12, Duration::from_millis(50));
    net.run(seconds(10));
    let link = net.link(0, 1).unwrap();
    net.input(0, Input::Push { push: 4, link, block: block(1) });
    net.input(0, Input::Push { push: 5, link: LinkNo(999), block: block(1) });
    net.run(seconds(1));
    assert_eq!((net.pushed.get(&4), net.pushed.get(&5)), (Some(&true), Some(&false)));
    assert!(net.routers[1].store.contains_key(&key(1)));
    net.kill_silently(1);
    net.input(0, Input::Push { push: 6, link, block: block(2) });
    net.run(seconds(30));
    assert_eq!(net.pushed.get(&6), Some(&false));
}

/// The figure: of what is still held by anybody, nearly all is found at once.
#[test]
fn when_a_third_dies_at_once_blocks_are_still_found() {
    let mut net = Net::grown(4, 20, 120, Duration::from_millis(50));
    net.run(seconds(60));
    for n in 0..200 {
        assert_eq!(put(&mut net, n as usize % 120, n), Answer::Stored { copies: 3 });
    }
    for number in (0..120).filter(|number| number % 10 < 3) {
        net.kill_silently(number);
    }
    let alive = net.alive();
    let held = |net: &Net, n: u32| {
        alive.iter().filter(|it| net.routers[**it].store.contains_key(&key(n))).count()
    };
    let left: Vec<u32> = (0..200).filter(|n| held(&net, *n) > 0).collect();
    let asks: Vec<(u32, u32)> = left
        .iter()
        .map(|n| (*n, net.ask(alive[*n as usize % alive.len()], Request::Get(key(*n)))))
        .collect();
    net.run(seconds(40));
    let good =
        asks.iter().filter(|(n, ask)| net.answers.remove(ask).unwrap().1 == found(*n)).count();
    println!("30 % dead: {} of 200 still held, {good} of these found at once", left.len());
    assert!(good * 100 >= left.len() * 97, "{good} of {}", left.len());
    let _ = Class::Bulk;
}
