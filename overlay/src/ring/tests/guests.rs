//! Rings with routers in them that nobody can dial.

use std::{sync::Arc, time::Duration};

use super::{
    super::{
        Input, Output, REPLICAS, Reach, Ring, RingConfig, RingMessage, VIEW_MAX,
        testing::{WALL, member, network, redescribed, without_address},
    },
    get,
    net::{Net, record, seconds},
    put,
};
use crate::{
    answer::Answer,
    id::LinkNo,
    ring::admission::Network,
    rng::Rng,
    time::{Now, Time},
    unit::UnitKey,
    wire::{LinkMessage, RouterDescriptor},
};

/// Sixty routers, the first three as seeds of all; of the others two of three are guests.
fn mostly_guests(seed: u8) -> Net {
    let mut net = Net::new(seed, 12);
    for number in 0..60 {
        let seeds: Vec<usize> = (0..number.min(3)).collect();
        let after = Duration::from_millis(50) * u32::try_from(number).unwrap();
        net.add_as(after, &seeds, number >= 3 && number % 3 != 0);
    }
    net.run(seconds(30));
    net
}

/// That nobody dials a guest is watched by the network itself.
#[test]
fn guests_find_and_keep_everything_and_are_nowhere_themselves() {
    for seed in 1..4 {
        let mut net = mostly_guests(seed);
        assert_eq!(net.members().len(), 22);
        assert_eq!(net.unclosed(), 0, "the ring closes among the others");
        for router in &net.routers {
            let status = router.ring.status();
            assert!(status.joined && (status.neighbours >= 10 || !router.guest), "{status:?}");
            let dialable = |it: &Arc<RouterDescriptor>| it.address().is_some();
            assert!(router.ring.view().chain(router.ring.neighbours()).all(dialable));
        }
        for n in 0..60 {
            assert_eq!(put(&mut net, n as usize, n, 1), Answer::Stored { copies: 3 });
            let key = record(n, 1).key();
            for holder in net.closest(key.location(), REPLICAS) {
                assert!(net.routers[holder].store.contains_key(&UnitKey::Record(key)));
            }
        }
        let holding = |it: &&super::net::Router| it.guest && !it.store.is_empty();
        assert_eq!(net.routers.iter().filter(holding).count(), 0, "a guest holds nothing");
        for n in 0..60 {
            let found = Answer::Found(record(n, 1).into());
            assert_eq!(get(&mut net, (n as usize + 17) % 60, n), found);
        }
        assert_eq!(get(&mut net, 4, 200), Answer::NotFound);
        assert!(net.routers[4].guest);
    }
}

#[test]
fn a_router_becomes_a_guest_and_a_neighbour_again_without_a_new_link() {
    let mut net = Net::grown(1, 12, 30, Duration::from_millis(50));
    net.run(seconds(30));
    let known = |net: &Net, number: usize| {
        let id = net.routers[number].descriptor.id();
        let knows = |it: &usize| net.routers[*it].ring.view().any(|it| it.id() == id);
        net.alive().iter().filter(|it| **it != number && knows(it)).count()
    };
    let own = Arc::clone(&net.routers[7].descriptor);
    let links = net.neighbours(7).len();
    assert!(known(&net, 7) > 10 && links >= 12);
    net.routers[7].guest = true;
    let hidden = without_address(7, &own, WALL.plus(1));
    net.input(7, Input::OwnDescriptor(hidden));
    net.run(seconds(60));
    assert_eq!(net.unclosed(), 0, "the others close the gap");
    let near = net.closest(own.location(), 6);
    let still = near.iter().filter(|it| net.neighbours(**it).contains(&7)).count();
    assert_eq!(still, 0);
    assert!(net.neighbours(7).len() >= 8);
    assert_eq!(put(&mut net, 7, 9, 1), Answer::Stored { copies: 3 });
    assert!(net.routers[7].store.is_empty());
    net.routers[7].guest = false;
    let back = redescribed(7, &own, WALL.plus(2), own.fields().addresses.clone());
    net.input(7, Input::OwnDescriptor(back));
    net.run(seconds(60));
    assert_eq!(net.unclosed(), 0);
    assert!(known(&net, 7) > 10);
}

fn sent(ring: &mut Ring) -> Vec<(LinkNo, RingMessage)> {
    let all = std::iter::from_fn(|| ring.poll_output());
    let said = all.filter_map(|it| match it {
        Output::Send { link, message: LinkMessage::Ring(message) } => Some((link, message)),
        _ => None,
    });
    said.collect()
}

/// How many of forty guests are taken in that come from `sources` /24s in turn.
fn taken_in(network: &Network, sources: u8) -> usize {
    let now = Now { time: Time::ZERO, wall: WALL };
    let own = member(network, 0);
    let config = RingConfig { network: network.clone(), own, degree: 8, known_max: VIEW_MAX };
    let mut ring = Ring::new(config, Rng::from_seed([1; 32]));
    ring.handle_input(now, Input::Start { seeds: vec![], cached: vec![] });
    let mut taken = 0;
    for n in 1..=40u32 {
        let peer = without_address(n, &member(network, n), WALL);
        let place = u8::try_from(n).unwrap() % sources;
        let remote = std::net::SocketAddr::from(([8, 8, place, 1], 9_000)).into();
        let link = LinkNo(n);
        ring.handle_input(now, Input::LinkUp { link, peer, remote });
        let message = RingMessage::Hello { degree: 8, reach: Reach::Near };
        ring.handle_input(now, Input::Message { link, message });
        taken +=
            usize::from(sent(&mut ring).contains(&(link, RingMessage::Welcome { accepted: true })));
    }
    assert_eq!((ring.status().neighbours, ring.view().count()), (0, 0));
    taken
}

#[test]
fn guests_take_no_more_room_than_there_is_for_them() {
    let public = Network { local: false, ..network(0) };
    assert_eq!(taken_in(&public, 40), 32, "four for each neighbour wanted");
    assert_eq!(taken_in(&public, 1), 16, "of one /24");
    assert_eq!(taken_in(&network(0), 1), 32, "in a local network all come from few");
}
