//! The registry's rules: what is dialled for whom, and which of two links stays.

use std::{net::SocketAddr, sync::Arc};

use warren_overlay::{
    crypto::sign::IdentityKey,
    id::NetworkId,
    rng::Rng,
    time::{Now, Time, Wall},
    wire::{Admission, DescriptorFields, RouterDescriptor},
};

use super::{favours::DIALS_PER_ASKER_MAX, *};

const WALL: Wall = Wall::from_minutes(1_000);

fn at(seconds: u64) -> Now {
    Now { time: Time::from_micros(seconds * 1_000_000), wall: WALL }
}

fn router(seed: u8, address: &str) -> Arc<RouterDescriptor> {
    published(seed, address, WALL)
}

fn published(seed: u8, address: &str, published: Wall) -> Arc<RouterDescriptor> {
    let mut rng = Rng::from_seed([seed; 32]);
    let key = IdentityKey::generate(&mut rng);
    let fields = DescriptorFields {
        network: NetworkId([9; 32]),
        link_key: rng.bytes(),
        tunnel_dh: rng.bytes(),
        tunnel_kem: Arc::new(rng.bytes()),
        addresses: vec![address.parse::<SocketAddr>().unwrap().into()],
        capabilities: 0,
        bandwidth_kbps: 1,
        family: None,
        admission: Admission { nonce: 0, output: [0; 32] },
        vouches: Vec::new(),
        published,
        expiry: published.plus(60),
    };
    Arc::new(RouterDescriptor::sign(fields, &key).unwrap())
}

fn registry(local: bool) -> Links {
    Links::new(router(0, "8.8.8.8:9000").id(), local, 1_024)
}

fn ask(links: &mut Links, now: Now, to: &RouterDescriptor, by: Option<LinkNo>) -> Asked {
    links.ask(now, &to.contact().unwrap(), &[], Asker::Transit(1), by)
}

#[test]
fn nobody_makes_us_dial_our_own_lan_or_a_low_port() {
    let mut links = registry(false);
    for address in ["127.0.0.1:9000", "10.1.2.3:9000", "192.168.0.1:9000", "8.8.4.4:25"] {
        let to = router(1, address);
        assert_eq!(ask(&mut links, at(0), &to, Some(LinkNo(9))), Asked::Refused, "{address}");
    }
    assert_eq!(links.poll_output(), None);
    let mut local = registry(true);
    assert_eq!(ask(&mut local, at(0), &router(1, "127.3.0.1:9000"), None), Asked::Pending);
}

#[test]
fn a_router_of_both_families_is_dialled_in_both_for_ones_own_sake() {
    let contact = router(1, "8.8.4.1:9000").contact().unwrap();
    let more: Vec<Address> = ["8.8.4.2:9000", "[fe80::1]:9000", "[2a00::1]:9000", "[2a00::2]:9000"]
        .map(|text| text.parse::<SocketAddr>().unwrap().into())
        .into();
    let mut links = registry(false);
    assert_eq!(links.ask(at(0), &contact, &more, Asker::Ring, None), Asked::Pending);
    let Some(LinksOutput::Dial { link, also, .. }) = links.poll_output() else { panic!("no dial") };
    assert_eq!(also, Some(more[2]), "one, of the other family, that may be dialled");
    // Where it was reached is where it is.
    links.dialled_at(link, more[2]);
    assert_eq!(links.remote(link), Some(more[2]));
}

#[test]
fn dials_for_others_are_few_to_one_place_and_for_one_neighbour() {
    let mut links = registry(false);
    let same_block = |n: u8| router(n, &format!("8.8.4.{n}:9000"));
    assert_eq!(ask(&mut links, at(0), &same_block(1), Some(LinkNo(9))), Asked::Pending);
    assert_eq!(ask(&mut links, at(0), &same_block(2), Some(LinkNo(8))), Asked::Pending);
    // Two are pending there already, whoever asked for them.
    assert_eq!(ask(&mut links, at(0), &same_block(3), Some(LinkNo(7))), Asked::Refused);
    let elsewhere = |n: u8| router(n, &format!("9.{n}.1.1:9000"));
    let answers: Vec<_> =
        (10..30).map(|n| ask(&mut links, at(0), &elsewhere(n), Some(LinkNo(9)))).collect();
    let pending = answers.iter().filter(|answer| **answer == Asked::Pending).count();
    assert_eq!(pending, DIALS_PER_ASKER_MAX - 1, "one was used above");
    // A second later there is a new budget; for this router's own sake there is none.
    assert_eq!(ask(&mut links, at(2), &elsewhere(31), Some(LinkNo(9))), Asked::Pending);
    assert_eq!(ask(&mut links, at(0), &same_block(4), None), Asked::Pending);
}

#[test]
fn an_address_that_failed_is_left_alone_for_ten_minutes() {
    let mut links = registry(false);
    let to = router(1, "8.8.4.1:9000");
    assert_eq!(ask(&mut links, at(0), &to, Some(LinkNo(9))), Asked::Pending);
    let Some(LinksOutput::Dial { link, .. }) = links.poll_output() else { panic!("no dial") };
    assert!(!links.down(at(1).time, link));
    let refused = LinksOutput::Refused { asker: Asker::Transit(1), id: to.id() };
    assert_eq!(links.poll_output(), Some(refused));
    assert_eq!(ask(&mut links, at(300), &to, Some(LinkNo(9))), Asked::Refused);
    assert_eq!(ask(&mut links, at(602), &to, Some(LinkNo(9))), Asked::Pending);
}

/// Asks for `contact` on behalf of a tunnel, or for this router's own sake.
fn ask_for(links: &mut Links, contact: &Contact, asker: Asker, by: Option<LinkNo>) -> Asked {
    links.ask(at(0), contact, &[], asker, by)
}

fn dial(links: &mut Links) -> LinkNo {
    let Some(LinksOutput::Dial { link, .. }) = links.poll_output() else { panic!("no dial") };
    link
}

#[test]
fn who_sends_us_to_the_wrong_place_keeps_us_from_nobody() {
    let victim = router(1, "8.8.4.1:9000");
    let right = victim.contact().unwrap();
    let address = "9.9.9.9:9000".parse::<SocketAddr>().unwrap().into();
    for wrong in [Contact { address, ..right }, Contact { link_key: [7; 32], ..right }] {
        let mut links = registry(false);
        let (theirs, own) = (Asker::Transit(1), Asker::Pools(1));
        assert_eq!(ask_for(&mut links, &wrong, theirs, Some(LinkNo(9))), Asked::Pending);
        let to_nobody = dial(&mut links);
        // A guard of ours, say: it is dialled where we know it to be.
        assert_eq!(ask_for(&mut links, &right, own, None), Asked::Pending);
        let to_victim = dial(&mut links);
        // Others wait for what we dial ourselves, whatever they say; we do not wait for theirs.
        assert_eq!(ask_for(&mut links, &wrong, Asker::Transit(2), Some(LinkNo(9))), Asked::Pending);
        assert_eq!(ask_for(&mut links, &right, Asker::Transit(3), Some(LinkNo(8))), Asked::Pending);
        assert_eq!(links.poll_output(), None);
        links.up(at(1).time, to_victim, &victim, true);
        let ready: Vec<_> = std::iter::from_fn(|| links.poll_output()).collect();
        let waited = [own, Asker::Transit(2), Asker::Transit(3)];
        assert_eq!(ready, waited.map(|asker| LinksOutput::Ready { asker, link: to_victim }));
        // What was dialled in vain hurts nobody but who wanted it, for now and later.
        assert!(!links.down(at(2).time, to_nobody));
        let refused = LinksOutput::Refused { asker: theirs, id: victim.id() };
        assert_eq!(links.poll_output(), Some(refused));
        assert_eq!(ask_for(&mut links, &right, own, None), Asked::Ready(to_victim));
        links.down(at(3).time, to_victim);
        assert_eq!(ask_for(&mut links, &right, theirs, Some(LinkNo(8))), Asked::Pending);
    }
}

#[test]
fn those_who_wait_for_others_take_no_place_from_ourselves() {
    let mut links = registry(false);
    let contact = router(1, "8.8.4.1:9000").contact().unwrap();
    let crowd = u64::try_from(WAITERS_MAX).unwrap();
    for n in 0..crowd {
        let asked = ask_for(&mut links, &contact, Asker::Transit(n), Some(LinkNo(9)));
        assert_eq!(asked, Asked::Pending, "{n}");
    }
    let one_more = ask_for(&mut links, &contact, Asker::Transit(crowd), Some(LinkNo(9)));
    assert_eq!(one_more, Asked::Refused);
    assert_eq!(ask_for(&mut links, &contact, Asker::Pools(1), None), Asked::Pending);
}

#[test]
fn of_two_links_both_sides_keep_the_same() {
    let (a, b) = (router(1, "8.8.4.1:9000"), router(2, "9.9.9.9:9000"));
    // Both dial at once. On each side its own dial comes up first, then the other's.
    let keeps_own_dial = |me: &Arc<RouterDescriptor>, peer: &Arc<RouterDescriptor>| {
        let mut links = Links::new(me.id(), false, 1_024);
        assert_eq!(
            links.ask(at(0), &peer.contact().unwrap(), &[], Asker::Ring, None),
            Asked::Pending
        );
        let Some(LinksOutput::Dial { link: own, .. }) = links.poll_output() else {
            panic!("no dial")
        };
        let theirs = links.accept(at(0).time, peer.address().unwrap()).unwrap();
        assert_eq!(links.up(at(1).time, own, peer, true), None);
        let lost = links.up(at(1).time, theirs, peer, false).unwrap();
        let kept = if lost == own { theirs } else { own };
        assert_eq!(
            links.ask(at(2), &peer.contact().unwrap(), &[], Asker::Ring, None),
            Asked::Ready(kept)
        );
        kept == own
    };
    assert_ne!(keeps_own_dial(&a, &b), keeps_own_dial(&b, &a));
}

#[test]
fn a_peer_describes_itself_anew_as_often_as_minutes_pass() {
    let mut links = registry(false);
    let says = |minutes| published(1, "8.8.4.1:9000", WALL.plus(minutes));
    let link = links.accept(at(0).time, says(0).address().unwrap()).unwrap();
    links.up(at(0).time, link, &says(0), false);
    let mut taken = |minute: u32, of| {
        let now = Now { wall: WALL.plus(minute), ..at(0) };
        (0..of).filter(|n| links.refresh(now, link, &says(*n))).count()
    };
    assert_eq!(taken(0, 60), 10, "clocks may be ten minutes off");
    assert_eq!((taken(0, 60), taken(1, 60), taken(3, 60)), (0, 1, 2));
}

#[test]
fn a_link_that_nobody_needs_is_retired_and_one_with_a_lane_is_not() {
    let mut links = registry(false);
    let peer = router(1, "8.8.4.1:9000");
    let link = links.accept(at(0).time, peer.address().unwrap()).unwrap();
    links.up(at(0).time, link, &peer, false);
    let lane = links.new_lane(link).unwrap();
    assert!(!links.is_theirs(link, lane));
    links.lane_opened(link, lane);
    links.tidy(at(300).time);
    assert_eq!(links.poll_output(), None);
    links.lane_closed(at(300).time, link, lane);
    links.tidy(at(308).time);
    assert_eq!(links.poll_output(), None);
    links.tidy(at(311).time);
    assert_eq!(links.poll_output(), Some(LinksOutput::Retire(link)));
}

#[test]
fn one_place_gets_a_sixteenth_of_the_links_where_places_mean_something() {
    let from = |n: u32| {
        let [_, _, high, low] = n.to_be_bytes();
        SocketAddr::from(([9, 9, high, low], 4_000)).into()
    };
    let came = |links: &mut Links| {
        (0..200).filter(|n| links.accept(at(0).time, from(*n)).is_some()).count()
    };
    let mut links = registry(false);
    assert_eq!(came(&mut links), 64);
    let elsewhere = SocketAddr::from(([9, 10, 0, 1], 4_000)).into();
    assert!(links.accept(at(0).time, elsewhere).is_some());
    assert_eq!(came(&mut registry(true)), 200);
}

#[test]
fn with_whom_the_operator_bans_there_is_no_link_either_way() {
    let mut links = registry(false).banning(vec!["9.9.0.0/16".parse().unwrap()]);
    let inside = router(1, "9.9.3.4:9000");
    assert_eq!(ask(&mut links, at(0), &inside, None), Asked::Refused);
    assert_eq!(links.accept(at(0).time, inside.address().unwrap()), None);
    let outside = router(2, "9.10.3.4:9000");
    assert!(links.accept(at(0).time, outside.address().unwrap()).is_some());
    assert_eq!(ask(&mut links, at(0), &outside, None), Asked::Pending);
}
