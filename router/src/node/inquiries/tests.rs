//! One question from its first moment to its last, with pools and end played by hand.

use std::{net::SocketAddr, sync::Arc};

use warren_overlay::{
    answer::Answer,
    crypto::sign::IdentityKey,
    garlic::{DescriptorBytes, RouterAnswer},
    id::{LinkNo, TunnelId},
    time::Wall,
    wire::{Admission, DescriptorFields},
};

use super::*;

const NETWORK: NetworkId = NetworkId([9; 32]);
const EPOCH: Wall = Wall::from_minutes(1_000_000);
const HOURS: u32 = 20;
const END: EndNo = EndNo(7);
const TUNNEL: OwnTunnelName = (LinkNo(1), TunnelId(2));
const EXIT: RouterId = RouterId([5; 32]);

fn at(hours: u32, seconds: u64) -> Now {
    let time = Time::from_micros((u64::from(hours) * 3_600 + seconds) * 1_000_000);
    Now { time, wall: EPOCH.plus(60 * hours) }
}

fn router(published: Wall) -> Arc<RouterDescriptor> {
    let key = IdentityKey::generate(&mut Rng::from_seed([4; 32]));
    let fields = DescriptorFields {
        network: NETWORK,
        link_key: [1; 32],
        tunnel_dh: [2; 32],
        tunnel_kem: Arc::new([3; 1184]),
        addresses: vec![SocketAddr::from(([127, 0, 0, 1], 9_000)).into()],
        capabilities: 0,
        bandwidth_kbps: 1_000,
        family: None,
        admission: Admission { nonce: 0, output: [6; 32] },
        vouches: Vec::new(),
        published,
        expiry: published.plus(24 * 60),
    };
    Arc::new(RouterDescriptor::sign(fields, &key).unwrap())
}

fn outputs(inquiries: &mut Inquiries) -> Vec<InquiriesOutput> {
    std::iter::from_fn(|| inquiries.poll_output()).collect()
}

/// A router that is late is known; a question is due.
fn due() -> Inquiries {
    let mut inquiries = Inquiries::new(Time::ZERO, NETWORK, Rng::from_seed([1; 32]));
    inquiries.handle_timeout(at(HOURS, 0));
    assert!(matches!(outputs(&mut inquiries)[..], [InquiriesOutput::Look]));
    let (kept, failed) = (Vec::new(), BTreeSet::new());
    let known = InquiriesInput::Known { sampled: vec![router(EPOCH)], kept, failed };
    inquiries.handle_input(at(HOURS, 0), known);
    inquiries.handle_timeout(at(HOURS, 1));
    let [InquiriesOutput::Ask(location)] = outputs(&mut inquiries)[..] else {
        panic!("it is asked after")
    };
    assert_eq!(location, router(EPOCH).location());
    inquiries
}

/// The same, with a tunnel taken for it.
fn taken() -> Inquiries {
    let mut inquiries = due();
    let ask = InquiriesInput::Ask { end: Some(END), location: router(EPOCH).location() };
    inquiries.handle_input(at(HOURS, 1), ask);
    assert!(matches!(
        outputs(&mut inquiries)[..],
        [InquiriesOutput::NewRequester { end: END, .. }, InquiriesOutput::Take { end: END }]
    ));
    assert!(inquiries.holds(END));
    inquiries
}

/// The same, asked.
fn asked() -> Inquiries {
    let mut inquiries = taken();
    let ready = || InquiriesInput::Tunnel { end: END, tunnel: TUNNEL, exit: EXIT, place: None };
    inquiries.handle_input(at(HOURS, 2), ready());
    let InquiriesOutput::End { end: END, input: EndInput::Request { tunnel, clove } } =
        outputs(&mut inquiries).pop().unwrap()
    else {
        panic!("the end hop is asked")
    };
    let location = router(EPOCH).location();
    assert_eq!((tunnel, clove), (Some(TUNNEL), Clove::RouterFind { request: 1, location }));
    // Another tunnel asks nothing more.
    inquiries.handle_input(at(HOURS, 3), ready());
    assert!(outputs(&mut inquiries).is_empty());
    inquiries
}

fn answered(inquiries: &mut Inquiries, answer: Option<RouterAnswer>) -> Vec<InquiriesOutput> {
    let event = EndEvent::Router { request: 1, answer };
    inquiries.handle_input(at(HOURS, 4), InquiriesInput::End { end: END, event });
    assert!(!inquiries.holds(END));
    outputs(inquiries)
}

#[test]
fn each_question_has_a_tunnel_of_its_own_that_is_dropped_with_the_answer() {
    let fresh = router(EPOCH.plus(60 * HOURS));
    let bytes = DescriptorBytes::new(fresh.encode()).unwrap();
    match &answered(&mut asked(), Some(Answer::Found(bytes)))[..] {
        [InquiriesOutput::DropEnd { end: END }, InquiriesOutput::Fresh(it)] => {
            assert_eq!(*it, fresh);
        }
        other => panic!("{other:?}"),
    }
    for answer in [Some(Answer::NotFound), None] {
        let out = answered(&mut asked(), answer);
        assert!(matches!(out[..], [InquiriesOutput::DropEnd { end: END }]), "{out:?}");
    }
}

#[test]
fn a_question_ends_with_its_tunnel_or_after_a_minute_and_a_late_answer_changes_nothing() {
    for asked in [taken as fn() -> Inquiries, asked] {
        let mut gone = asked();
        gone.handle_input(at(HOURS, 9), InquiriesInput::TunnelGone { end: END });
        let mut late = asked();
        late.handle_timeout(at(HOURS, 60));
        assert!(late.holds(END));
        late.handle_timeout(at(HOURS, 62));
        for mut inquiries in [gone, late] {
            let out = outputs(&mut inquiries);
            assert!(matches!(out[..], [InquiriesOutput::DropEnd { end: END }]), "{out:?}");
            assert!(answered(&mut inquiries, Some(Answer::NotFound)).is_empty());
            assert_eq!(inquiries.status().missed, 0);
        }
    }
}

#[test]
fn without_a_tunnel_to_spare_nobody_is_asked_and_it_is_tried_again_later() {
    let mut inquiries = due();
    let ask = InquiriesInput::Ask { end: None, location: router(EPOCH).location() };
    inquiries.handle_input(at(HOURS, 1), ask);
    assert!(outputs(&mut inquiries).is_empty());
    let again = |it: &InquiriesOutput| matches!(it, InquiriesOutput::Ask(_));
    let mut minutes = (1..40).filter(|minute| {
        let time = at(HOURS, 60 * minute).time;
        let wall = EPOCH.plus(60 * HOURS + u32::try_from(*minute).unwrap());
        inquiries.handle_timeout(Now { time, wall });
        outputs(&mut inquiries).iter().any(again)
    });
    assert!((10..=32).contains(&minutes.next().expect("it is asked again")));
}
