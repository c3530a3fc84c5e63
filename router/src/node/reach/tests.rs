//! What peers say, true or not, and what is believed.

use std::net::SocketAddr;

use proptest::prelude::{ProptestConfig, prop, prop_assert_eq, proptest};

use super::*;

const PORT: u16 = 9_000;

fn at(seconds: u64) -> Time {
    Time::from_micros(seconds * 1_000_000)
}

fn id(n: u8) -> RouterId {
    RouterId([n; 32])
}

/// Peer `n`, each in a /16 of its own.
fn home(n: u8) -> Address {
    SocketAddr::from(([8, n, 0, 1], 9_000)).into()
}

fn own() -> Address {
    SocketAddr::from(([9, 9, 9, 9], PORT)).into()
}

/// A router behind `door` with links that it opened to peers 1 to `peers`.
fn reach(door: Door, peers: u8) -> Reach {
    let mut reach = Reach::new(at(0), door, false, Rng::from_seed([1; 32]));
    for n in 1..=peers {
        reach.opened(at(0), LinkNo(n.into()), id(n), home(n));
    }
    reach
}

/// Runs to when it asks, and whom.
fn asked(reach: &mut Reach, now: Time) -> Vec<LinkNo> {
    reach.handle_timeout(now);
    let asks: Vec<Ask> = std::iter::from_fn(|| reach.poll_output()).collect();
    assert!(asks.iter().all(|ask| ask.port == PORT));
    asks.into_iter().map(|ask| ask.link).collect()
}

fn n_of(link: LinkNo) -> u8 {
    u8::try_from(link.0).unwrap()
}

/// The peer dials back, and says so before or after it is seen here.
fn gets_through(reach: &mut Reach, now: Time, link: LinkNo, seen: Address) {
    let n = n_of(link);
    if n.is_multiple_of(2) {
        assert!(reach.came(now, id(n), home(n)), "it serves nothing else");
        reach.answered(now, link, seen, DialBackOutcome::Reached);
    } else {
        reach.answered(now, link, seen, DialBackOutcome::Reached);
        assert!(reach.came(now, id(n), home(n)));
    }
}

#[test]
fn a_router_that_does_not_know_its_address_learns_it_from_two_who_got_through() {
    let mut reach = reach(Door::Behind(PORT), 5);
    assert_eq!((reach.address(), reach.word()), (None, "unknown"));
    let links = asked(&mut reach, at(3));
    assert_eq!(links.len(), 5);
    gets_through(&mut reach, at(4), links[0], own());
    assert_eq!(reach.address(), None, "one alone decides nothing");
    gets_through(&mut reach, at(4), links[1], own());
    assert_eq!((reach.address(), reach.word()), (Some(own()), "reachable"));
    let other = SocketAddr::from(([9, 9, 9, 8], PORT)).into();
    gets_through(&mut reach, at(5), links[2], other);
    gets_through(&mut reach, at(5), links[3], other);
    assert_eq!(reach.address(), Some(own()), "as many say otherwise, and no more");
    gets_through(&mut reach, at(6), links[4], other);
    assert_eq!(reach.address(), Some(other));
}

#[test]
fn three_places_that_could_not_make_a_guest_of_it_and_one_that_could_outweighs_them() {
    for through in [false, true] {
        let mut reach = reach(Door::At(own()), 5);
        assert_eq!(reach.address(), Some(own()), "told from the start");
        let links = asked(&mut reach, at(30));
        if through {
            gets_through(&mut reach, at(31), links[4], own());
        }
        for link in &links[..2] {
            reach.answered(at(32), *link, own(), DialBackOutcome::Failed);
            assert_eq!(reach.address(), Some(own()), "two are too few");
        }
        reach.answered(at(32), links[2], own(), DialBackOutcome::Failed);
        assert_eq!(reach.address(), Some(own()).filter(|_| through));
        assert_eq!(reach.word(), if through { "unknown" } else { "unreachable" });
    }
}

#[test]
fn a_guest_that_is_dialled_at_last_is_none_any_more() {
    let mut reach = reach(Door::At(own()), 8);
    for link in asked(&mut reach, at(30)).into_iter().take(3) {
        reach.answered(at(31), link, own(), DialBackOutcome::Failed);
    }
    assert_eq!(reach.address(), None);
    let later = at(31) + AGAIN_KNOWN * 2;
    let links = asked(&mut reach, later);
    gets_through(&mut reach, later, links[0], own());
    assert_eq!(reach.address(), None);
    gets_through(&mut reach, later, links[1], own());
    assert_eq!(reach.address(), Some(own()));
}

#[test]
fn who_is_dialled_anyway_asks_nobody() {
    let mut reach = reach(Door::At(own()), 5);
    for n in [11, 12] {
        assert!(!reach.came(at(10), id(n), home(n)), "it came for its own sake");
    }
    assert_eq!(reach.word(), "reachable");
    assert_eq!(asked(&mut reach, at(30)), []);
}

#[test]
fn neighbours_of_the_same_house_or_place_are_one_or_no_witness() {
    let mut reach = reach(Door::At(own()), 0);
    let lan = |n| Address::from(SocketAddr::from(([192, 168, 0, n], 9_000)));
    let same = |n| Address::from(SocketAddr::from(([8, 8, n, 1], 9_000)));
    for n in 1..20 {
        reach.came(at(1), id(n), lan(n));
        reach.came(at(1), id(n), same(n));
    }
    assert_eq!((reach.evidence(), reach.word()), ((1, 0), "unknown"));
    // Nor are several of one place asked.
    for n in 1..20 {
        reach.opened(at(1), LinkNo(n.into()), id(n), same(n));
    }
    assert_eq!(asked(&mut reach, at(30)).len(), 1);
}

#[test]
fn a_word_without_a_handshake_and_a_door_elsewhere_count_for_nothing() {
    let mut reach = reach(Door::At(own()), 5);
    let links = asked(&mut reach, at(30));
    for link in &links[..3] {
        reach.answered(at(31), *link, own(), DialBackOutcome::Reached);
    }
    let other = SocketAddr::from(([7, 7, 7, 7], PORT)).into();
    for link in &links[3..] {
        reach.answered(at(31), *link, other, DialBackOutcome::Failed);
    }
    reach.handle_timeout(at(31) + ANSWER_WAIT);
    assert_eq!((reach.evidence(), reach.word()), ((0, 0), "unknown"));
    // Nobody was asked: nobody is believed.
    reach.answered(at(60), links[0], own(), DialBackOutcome::Failed);
    assert_eq!(reach.evidence(), (0, 0));
}

#[test]
fn who_has_no_door_asks_nobody_and_says_why() {
    for (door, address) in [(Door::Shut, None), (Door::Told(own()), Some(own()))] {
        let mut reach = reach(door, 5);
        assert_eq!(reach.poll_timeout(), None);
        assert_eq!(asked(&mut reach, at(3_600)), []);
        for n in 11..20 {
            reach.came(at(10), id(n), home(n));
        }
        assert_eq!(reach.address(), address);
    }
}

#[test]
fn another_door_is_another_question() {
    let mut reach = reach(Door::At(own()), 5);
    for link in asked(&mut reach, at(30)).into_iter().take(3) {
        reach.answered(at(31), link, own(), DialBackOutcome::Failed);
    }
    assert_eq!(reach.word(), "unreachable");
    reach.begin(at(40), Door::At(home(77)));
    assert_eq!((reach.word(), reach.address()), ("unknown", Some(home(77))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Liars of one place, however many and whatever they say and do, change nothing.
    #[test]
    fn one_place_never_decides(
        acts in prop::collection::vec((1u8..6, 0u8..4, 0u64..2_000), 1..80),
        behind: bool,
    ) {
        let door = if behind { Door::Behind(PORT) } else { Door::At(own()) };
        let mut reach = Reach::new(at(0), door, false, Rng::from_seed([2; 32]));
        let told = reach.address();
        let same = |n: u8| Address::from(SocketAddr::from(([8, 8, n, 1], 9_000)));
        for n in 1..6 {
            reach.opened(at(0), LinkNo(n.into()), id(n), same(n));
        }
        let mut now = 0;
        for (n, act, wait) in acts {
            now += wait;
            reach.handle_timeout(at(now));
            while reach.poll_output().is_some() {}
            let link = LinkNo(n.into());
            match act {
                0 => { reach.came(at(now), id(n), same(n)); }
                1 => reach.answered(at(now), link, own(), DialBackOutcome::Failed),
                2 => reach.answered(at(now), link, own(), DialBackOutcome::Reached),
                _ => reach.answered(at(now), link, own(), DialBackOutcome::NotTried),
            }
            prop_assert_eq!((reach.address(), reach.word()), (told, "unknown"));
        }
    }
}
