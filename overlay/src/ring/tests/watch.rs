//! Watching records on whole rings: told at once, whoever dies, and for no longer than a lease.

use std::{collections::BTreeSet, time::Duration};

use super::{
    net::{Net, record, seconds},
    put,
};
use crate::{
    answer::Answer,
    ring::{Request, WATCH_LEASE, Watch},
    unit::Unit,
};

fn watch(net: &mut Net, at: usize, n: u32, above: u64) -> u32 {
    net.ask(at, Request::Watch(Watch { key: record(n, 1).key(), above }))
}

fn found(n: u32, version: u64) -> Answer<Unit> {
    Answer::Found(record(n, version).into())
}

fn sixty() -> Net {
    let mut net = Net::grown(1, 12, 60, Duration::from_millis(50));
    net.run(seconds(30));
    net
}

/// The routers farthest from where a record is, `count` of them.
fn far(net: &Net, n: u32, count: usize) -> Vec<usize> {
    let mut all = net.closest(record(n, 1).key().location(), 60);
    all.split_off(all.len() - count)
}

fn parked(net: &Net) -> usize {
    net.alive().into_iter().map(|it| net.routers[it].ring.requests.parked.len()).sum()
}

fn take(net: &mut Net, query: u32) -> Option<Answer<Unit>> {
    net.answers.remove(&query).map(|(_, answer)| answer)
}

#[test]
fn a_version_that_is_put_reaches_everybody_who_waits_for_it() {
    let mut net = sixty();
    for n in 0..20 {
        put(&mut net, n as usize, n, 1);
    }
    let mut asked: Vec<(u32, u32)> = Vec::new();
    for n in 0..20 {
        for at in far(&net, n, 5) {
            asked.push((n, watch(&mut net, at, n, 1)));
        }
    }
    net.run(seconds(20));
    assert!(asked.iter().all(|(_, query)| !net.answers.contains_key(query)), "nothing is new");
    assert_eq!(parked(&net), 100);
    for n in 0..20 {
        assert_eq!(put(&mut net, n as usize + 20, n, 2), Answer::Stored { copies: 3 });
    }
    net.run(seconds(1));
    for (n, query) in asked {
        assert_eq!(take(&mut net, query), Some(found(n, 2)), "record {n}");
    }
    assert_eq!(parked(&net), 0);
}

#[test]
fn what_is_there_already_is_told_at_once_and_what_was_never_there_when_it_comes() {
    let mut net = sixty();
    put(&mut net, 3, 1, 7);
    let [at, ..] = *far(&net, 1, 1) else { panic!() };
    let known = watch(&mut net, at, 1, 6);
    let never = watch(&mut net, at, 2, 0);
    net.run(seconds(2));
    assert_eq!(take(&mut net, known), Some(found(1, 7)));
    assert_eq!(take(&mut net, never), None);
    put(&mut net, 4, 2, 1);
    net.run(seconds(1));
    assert_eq!(take(&mut net, never), Some(found(2, 1)));
}

/// The three holders die one after the other, and so does every router on the way that can be spared.
#[test]
fn whoever_waits_is_told_though_all_died_with_whom_he_waited() {
    let mut net = sixty();
    for n in 0..8 {
        put(&mut net, n as usize, n, 1);
    }
    let mut asked: Vec<(u32, usize, u32)> = Vec::new();
    for n in 0..8 {
        for at in far(&net, n, 2) {
            asked.push((n, at, watch(&mut net, at, n, 1)));
        }
    }
    net.run(seconds(5));
    let watchers: BTreeSet<usize> = asked.iter().map(|(_, at, _)| *at).collect();
    for round in 0..3 {
        for n in 0..8 {
            let holder = net.closest(record(n, 1).key().location(), 1)[0];
            if !watchers.contains(&holder) {
                net.kill_silently(holder);
            }
        }
        net.run(seconds(20));
        // Who gave up on a way that was only slow waits in two places.
        assert!(parked(&net) >= asked.len(), "asked again elsewhere, after round {round}");
    }
    let alive = net.alive();
    assert!(alive.len() < 45, "{} alive", alive.len());
    for n in 0..8 {
        put(&mut net, alive[n as usize], n, 2);
    }
    net.run(seconds(2));
    for (n, _, query) in asked {
        assert_eq!(take(&mut net, query), Some(found(n, 2)), "record {n}");
    }
}

#[test]
fn a_copy_that_a_neighbour_sends_is_news_too() {
    let mut net = sixty();
    put(&mut net, 3, 1, 1);
    let [at, ..] = *far(&net, 1, 1) else { panic!() };
    let query = watch(&mut net, at, 1, 1);
    net.run(seconds(2));
    let [place, other, ..] = *net.closest(record(1, 1).key().location(), 2) else { panic!() };
    let link = net.link(place, other).unwrap();
    let message = crate::ring::RingMessage::Replicate(record(1, 2));
    net.input(place, crate::ring::Input::Message { link, message });
    net.run(seconds(1));
    assert_eq!(take(&mut net, query), Some(found(1, 2)));
}

#[test]
fn a_watch_ends_with_its_lease_and_nobody_keeps_anything_of_it() {
    let mut net = sixty();
    let queries: Vec<u32> = (0..40).map(|n| watch(&mut net, n as usize, n, 0)).collect();
    net.run(WATCH_LEASE.saturating_sub(seconds(30)));
    assert_eq!(parked(&net), 40);
    assert!(queries.iter().all(|query| !net.answers.contains_key(query)));
    net.run(seconds(60));
    for query in queries {
        assert_eq!(take(&mut net, query), Some(Answer::NotFound));
    }
    assert_eq!(parked(&net), 0);
    let open: usize = net.routers.iter().map(|it| it.ring.status().requests).sum();
    assert!(open < 10, "{open} requests left, lookups of the own place among them");
}

/// Nobody tells those further on, who need no more of it than the lease lasts.
#[test]
fn what_the_dead_waited_for_is_forgotten_with_the_lease() {
    let mut net = sixty();
    let [at, ..] = *far(&net, 1, 1) else { panic!() };
    watch(&mut net, at, 1, 0);
    net.run(seconds(2));
    assert_eq!(parked(&net), 1);
    net.kill_silently(at);
    net.run(WATCH_LEASE + seconds(15));
    assert_eq!(parked(&net), 0);
}
