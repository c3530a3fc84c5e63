//! The table: who is near, who is asked next, where long links lead, who has room.

use std::net::SocketAddr;

use super::*;
use crate::ring::testing::{WALL, descriptor, redescribed};

fn table(count: u32, degree: usize, local: bool) -> Neighbours {
    let mut table = Neighbours::new(descriptor(0).location(), degree, local);
    for n in 1..=count {
        let origin = Origin::Offered;
        table.insert(Neighbour::new(LinkNo(n), descriptor(n), origin, Time::ZERO));
    }
    table
}

#[test]
fn near_ones_are_the_next_on_either_side() {
    let table = table(30, 20, true);
    let own = table.own();
    let mut all: Vec<_> = table.iter().map(|it| own.clockwise(it.location)).collect();
    assert!(all.is_sorted());
    let near: Vec<_> = table.near().map(|it| own.clockwise(it.location)).collect();
    let last = all.split_off(28);
    assert_eq!(near, [all[0], all[1], last[1], last[0]]);
    assert!(table.near().all(|it| table.is_near(&it.peer.id())));
}

#[test]
fn the_next_hop_is_the_closest_that_was_not_tried_and_is_not_suspect() {
    let mut table = table(10, 20, true);
    let key = Location(1 << 40);
    let now = Time::ZERO;
    let first = table.next_hop(now, key, |_| false).unwrap();
    let best = first.location.distance(key);
    assert!(table.iter().all(|it| it.location.distance(key) >= best));
    let (id, link) = (first.peer.id(), first.link);
    let second = table.next_hop(now, key, |it| it.link == link).unwrap().link;
    assert_ne!(second, link);
    table.suspect(now, &id);
    assert_eq!(table.next_hop(now, key, |_| false).unwrap().link, second);
    let later = now + SUSPECT_TIME;
    assert_eq!(table.next_hop(later, key, |_| false).unwrap().link, link);
    table.suspect(later, &id);
    assert_ne!(table.next_hop(later + SUSPECT_TIME, key, |_| false).unwrap().link, link);
    assert!(table.next_hop(now, key, |_| true).is_none());
}

#[test]
fn the_size_is_estimated_from_the_spacing() {
    let mut sum = 0;
    for own in 0..20 {
        let mut table = Neighbours::new(descriptor(own).location(), 20, true);
        for n in (0..300).filter(|n| *n != own) {
            let origin = Origin::Near;
            table.insert(Neighbour::new(LinkNo(n), descriptor(n), origin, Time::ZERO));
        }
        let estimate = table.size_estimate();
        assert!((60..1_500).contains(&estimate), "{estimate}");
        sum += estimate;
    }
    assert!((150 * 20..600 * 20).contains(&sum), "{sum}");
}

#[test]
fn draws_fill_every_octave_alike() {
    let mut table = table(4, 20, true);
    // Four near ones at the spacing of 4,096 routers: eleven octaves but one to draw from.
    let step = 1u64 << 52;
    for (at, it) in table.list.iter_mut().enumerate() {
        let place = [1, 2, 3, 4][at] * step;
        it.location = table.own.plus(if at < 2 { place } else { place.wrapping_sub(5 * step) });
    }
    assert_eq!(table.spacing(), Some(step));
    let mut rng = Rng::from_seed([3; 32]);
    let mut octaves = [0u32; 64];
    let draws = 10_000;
    for _ in 0..draws {
        let distance = table.own.distance(table.draw(&mut rng));
        octaves[usize::try_from(distance.ilog2()).unwrap()] += 1;
    }
    assert_eq!(octaves[..53].iter().sum::<u32>(), 0, "nearer than the near ones");
    for octave in &octaves[53..63] {
        assert!((850..1_150).contains(octave), "{octaves:?}");
    }
}

#[test]
fn a_drawn_octave_gives_way_to_an_empty_one() {
    let mut table = table(12, 20, true);
    let step = 1u64 << 52;
    for (at, it) in table.list.iter_mut().enumerate() {
        // Two near on each side; the eight long ones all in the farthest octave.
        let long = (1 << 62) + at as u64 * step;
        it.location = table.own.plus(match at {
            0 | 1 => (at as u64 + 1) * step,
            10 | 11 => (12 - at as u64).wrapping_neg().wrapping_mul(step),
            _ => long,
        });
    }
    let mut rng = Rng::from_seed([4; 32]);
    for _ in 0..1_000 {
        assert!(table.own.distance(table.draw(&mut rng)) < 1 << 62);
    }
}

#[test]
fn one_prefix_cannot_fill_the_table_and_local_networks_do_not_care() {
    let at = |n: u8| SocketAddr::from(([8, 8, 0, n], 9_000)).into();
    let peer = |n: u8| redescribed(n.into(), &descriptor(n.into()), WALL, vec![at(n)]);
    let prefix = peer(1).prefix();
    for (local, room) in [(false, false), (true, true)] {
        let mut table = Neighbours::new(descriptor(0).location(), 20, local);
        for n in 1..=4 {
            let origin = Origin::Offered;
            table.insert(Neighbour::new(LinkNo(n.into()), peer(n), origin, Time::ZERO));
        }
        assert!(table.iter().all(|it| it.peer.prefix() == prefix));
        assert_eq!(table.prefix_has_room(prefix), room);
    }
}

#[test]
fn a_full_table_still_takes_who_is_near() {
    let table = table(30, 20, true);
    assert_eq!(table.len(), table.cap());
    let verdicts: Vec<_> = (100..400)
        .map(|n| {
            let it = descriptor(n);
            (table.accepts(&it), table.would_be_near(it.location(), NEAR + 1))
        })
        .collect();
    assert!(verdicts.iter().all(|(accepts, near)| accepts == near));
    assert!(verdicts.iter().any(|(accepts, _)| *accepts));
}

#[test]
fn who_is_not_needed_goes_and_what_was_drawn_stays() {
    let mut table = table(25, 20, true);
    assert_eq!(table.surplus(Time::ZERO), None, "others drew them, and the cap is 30");
    let ids: Vec<_> = table.iter().map(|it| it.peer.id()).collect();
    for (at, id) in ids.iter().enumerate() {
        let near = at == 5 || at == 0;
        let origin = if near { Origin::Near } else { Origin::Drawn };
        table.by_id_mut(id).unwrap().origin = origin;
    }
    assert_eq!(table.surplus(Time::ZERO), None, "not at once");
    assert_eq!(table.surplus(Time::ZERO + GRACE), Some(ids[5]));
    table.remove(&ids[5]);
    assert_eq!(table.surplus(Time::ZERO + GRACE), None, "the near one is near");
}

#[test]
fn three_hold_a_key() {
    let table = table(30, 20, true);
    let now = Time::ZERO;
    assert!(table.is_holder(now, table.own()));
    let holders: Vec<_> =
        table.closest(now, table.own(), 40).iter().map(|it| it.location).collect();
    assert!(table.is_holder(now, holders[0]), "its nearest neighbour's place");
    assert!(!table.is_holder(now, holders[20]));
}
