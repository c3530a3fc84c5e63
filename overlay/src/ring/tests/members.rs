//! Rings that do not let everybody in.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    super::{
        Input,
        admission::{Mode, Network},
        testing::{WALL, key, member, network, vouched},
    },
    get,
    net::{Net, record, seconds},
    put,
};
use crate::{
    answer::Answer,
    wire::{RouterDescriptor, Vouch, week},
};

const WEEKLY: u8 = 4;

fn by_invitation() -> Network {
    Network { mode: Mode::Invite { founder: key(0).id(), weekly: WEEKLY }, ..network(0) }
}

fn vouch(network: &Network, by: u32, newcomer: u32, number: u8) -> Vouch {
    Vouch::sign(network.id(), &key(by), key(newcomer).id(), week(WALL), number)
}

/// Seven members: the founder, four whom it invited, and two whom the first of those did.
fn members() -> Net {
    let network = by_invitation();
    let mut net = Net::new(1, 8);
    net.network = network.clone();
    net.add(seconds(0), &[]);
    for n in 1..=4 {
        let number = u8::try_from(n - 1).unwrap();
        net.add_vouched(seconds(1), &[0], vec![vouch(&network, 0, n, number)]);
    }
    for n in 5..=6 {
        let number = u8::try_from(n - 5).unwrap();
        let chain = vec![vouch(&network, 0, 1, 0), vouch(&network, 1, n, number)];
        net.add_vouched(seconds(2), &[0, 1], chain);
    }
    net
}

/// Whether nobody of the first `among` has a link with router `number`, or knows of it.
fn is_nowhere(net: &Net, number: usize, among: usize) -> bool {
    let id = net.routers[number].descriptor.id();
    net.neighbours(number).is_empty()
        && (0..among).all(|n| {
            let ring = &net.routers[n].ring;
            let other = |it: &Arc<RouterDescriptor>| it.id() != id;
            net.link(n, number).is_none() && ring.view().all(other) && ring.neighbours().all(other)
        })
}

#[test]
fn members_by_invitation_find_each_other_and_who_was_not_invited_gets_no_link() {
    let mut net = members();
    let network = net.network.clone();
    let other = Network { difficulty: crate::crypto::puzzle::Difficulty(1), ..by_invitation() };
    let strangers: Vec<Vec<Vouch>> = vec![
        // Nobody signed.
        vec![],
        // A stranger did.
        vec![vouch(&network, 7, 8, 0)],
        // The founder's signature for another router.
        vec![vouch(&network, 0, 1, 0)],
        // Of another network.
        vec![vouch(&other, 0, 10, 0)],
        // One more than the member may in a week.
        vec![vouch(&network, 0, 11, WEEKLY)],
        // A place of the week that somebody has.
        vec![vouch(&network, 0, 12, 0)],
    ];
    let count = strangers.len();
    net.run(seconds(5));
    for chain in strangers {
        net.add_vouched(seconds(0), &[0, 1, 2], chain);
    }
    net.run(seconds(60));
    for n in 0..7 {
        assert_eq!(net.neighbours(n).len(), 6, "member {n}");
    }
    for stranger in 7..7 + count {
        assert!(is_nowhere(&net, stranger, 7), "stranger {stranger}");
    }
    for n in 0..7 {
        assert_eq!(put(&mut net, n as usize, n, 1), Answer::Stored { copies: 3 });
        assert_eq!(get(&mut net, 6 - n as usize, n), Answer::Found(record(n, 1).into()));
    }
}

#[test]
fn who_shows_no_signature_any_more_loses_its_links() {
    let mut net = members();
    net.run(seconds(30));
    assert_eq!(net.neighbours(6).len(), 6);
    let fresh = vouched(6, &net.routers[6].descriptor.clone(), Vec::new());
    let mut fields = fresh.fields().clone();
    fields.published = WALL.plus(1);
    let fresh = Arc::new(RouterDescriptor::sign(fields, &key(6)).unwrap());
    net.input(6, Input::OwnDescriptor(fresh));
    net.run(seconds(5));
    for n in 0..6 {
        assert!(net.link(n, 6).is_none(), "member {n}");
    }
}

#[test]
fn friends_have_links_with_friends_alone_and_find_what_others_keep() {
    let mut net = Net::new(3, 8);
    net.network = Network { mode: Mode::Friends, ..network(0) };
    // A circle of six, and one whom nobody named.
    let friends_of = |n: usize| [(n + 5) % 6, (n + 1) % 6];
    for n in 0..6 {
        let seeds: Vec<usize> = friends_of(n).into_iter().filter(|it| *it < n).collect();
        let number = net.add(seconds(n as u64), &seeds);
        let ids: BTreeSet<_> =
            friends_of(number).map(|n| member(&net.network, u32::try_from(n).unwrap()).id()).into();
        net.input(number, Input::Friends(ids));
    }
    let stranger = net.add(seconds(7), &[0, 1, 2]);
    let all = (0..6).map(|n| net.routers[n].descriptor.id()).collect();
    net.input(stranger, Input::Friends(all));
    net.run(seconds(60));
    for n in 0..6 {
        let there: BTreeSet<_> = net.neighbours(n).into_iter().collect();
        assert_eq!(there, BTreeSet::from(friends_of(n)), "router {n}");
        // It hears of others, and has no link with them.
        assert!((0..7).all(|m| net.link(n, m).is_none() || there.contains(&m)), "router {n}");
    }
    assert!(net.neighbours(stranger).is_empty());
    for n in 0..6 {
        assert!(matches!(put(&mut net, n as usize, n, 1), Answer::Stored { .. }));
    }
    for n in 0..6 {
        assert_eq!(get(&mut net, n as usize, n), Answer::Found(record(n, 1).into()));
    }
    // One that is no friend any more: both lose the link.
    net.input(0, Input::Friends(BTreeSet::from([net.routers[1].descriptor.id()])));
    net.run(seconds(5));
    assert_eq!((net.neighbours(0), net.link(0, 5), net.link(5, 0)), (vec![1], None, None));
}
