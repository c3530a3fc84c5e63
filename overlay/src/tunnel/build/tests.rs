//! What holds of build messages, and what a changed bit in one does.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{
    slot::{Record, SLOT_LEN, SLOTS},
    *,
};
use crate::{
    crypto::kdf,
    id::RouterId,
    rng::Rng,
    time::Wall,
    tunnel::testkit::{NETWORK, Router, WALL, descriptors, routers},
    wire::{BUILD_LEN, BUILD_REPLY_LEN},
};

fn rng(seed: u8) -> Rng {
    Rng::from_seed([seed; 32])
}

/// A message as each of `hops` receives it, and what each made of it.
fn walk(hops: &[Router], message: BuildMessage) -> (Vec<BuildMessage>, Vec<Answer>) {
    let (mut seen, mut answers) = (vec![message], Vec::new());
    for (at, hop) in hops.iter().enumerate() {
        let mut window = ReplayWindow::default();
        let opened = hop.keys.open(WALL, &mut window, seen[at].clone()).unwrap();
        assert_eq!(opened.lifetime_minutes, 30);
        answers.push(opened.answer);
        match (opened.onward, hops.get(at + 1)) {
            (Onward::Middle { contact, message }, Some(next)) => {
                assert_eq!(contact, next.descriptor.contact().unwrap());
                seen.push(message);
            }
            (Onward::End, None) => {}
            (onward, _) => panic!("hop {at}: {onward:?}"),
        }
    }
    (seen, answers)
}

/// The reply of hops that all accept, and their layers, first hop first.
fn accept(answers: Vec<Answer>, rng: &mut Rng) -> (BuildReply, Vec<HopLayers>) {
    let mut reply = noise_reply(rng);
    let mut layers: Vec<_> =
        answers.into_iter().rev().map(|answer| answer.accept(rng, &mut reply).unwrap()).collect();
    layers.reverse();
    (reply, layers)
}

fn crosses_both_ways(mut owner: OwnerLayers, mut hops: Vec<HopLayers>) {
    let last = hops.len() - 1;
    for round in 0..3u8 {
        let mut cell = [round; 1_024];
        owner.forward.originate(&mut cell);
        for hop in &mut hops[..last] {
            hop.forward.relay(&mut cell);
        }
        assert!(hops[last].forward.recognise(&mut cell));
        assert_eq!(cell[16..], [round; 1_008]);

        let mut cell = [round ^ 0xff; 1_024];
        hops[last].backward.originate(&mut cell);
        for hop in hops[..last].iter_mut().rev() {
            hop.backward.relay(&mut cell);
        }
        assert!(owner.backward.open(&mut cell));
        assert_eq!(cell[16..], [round ^ 0xff; 1_008]);
    }
}

#[test]
fn one_to_four_hops_give_working_layers_both_ways() {
    let all = routers(4);
    for count in 1..=4 {
        let hops = &all[..count];
        let mut rng = rng(7);
        let (message, pending) = create(&mut rng, WALL, &descriptors(hops), 30).unwrap();
        let (_, answers) = walk(hops, message);
        let (reply, layers) = accept(answers, &mut rng);
        crosses_both_ways(pending.open(&reply).unwrap(), layers);
    }
}

#[test]
fn no_tunnel_has_none_or_five_hops() {
    let all = descriptors(&routers(5));
    assert_eq!(create(&mut rng(1), WALL, &[], 30).unwrap_err(), CreateError::Hops);
    assert_eq!(create(&mut rng(1), WALL, &all, 30).unwrap_err(), CreateError::Hops);
    assert_eq!(create(&mut rng(1), WALL, &all[..3], 121).unwrap_err(), CreateError::Lifetime);
}

/// P6: "one changed bit anywhere is refused by the next honest hop".
#[test]
fn a_flipped_bit_anywhere_is_refused_by_the_hop_that_receives_it() {
    let hops = routers(4);
    for count in [1, 3, 4] {
        let hops = &hops[..count];
        let (message, pending) = create(&mut rng(3), WALL, &descriptors(hops), 30).unwrap();
        let slots = pending.slots();
        let (seen, _) = walk(hops, message);
        for (at, hop) in hops.iter().enumerate() {
            // Every field of the own slot at its borders, and a prime step through everything.
            let own = slots[at] * SLOT_LEN;
            let fields = [0, 31, 32, 1_119, 1_120, 1_135, 1_136, 1_327, 1_328, 1_343];
            let places = fields.iter().map(|field| own + field).chain((0..BUILD_LEN).step_by(97));
            for spot in places {
                let mut changed = seen[at].clone();
                changed[spot] ^= 1 << (spot % 8);
                let opened = hop.keys.open(WALL, &mut ReplayWindow::default(), changed);
                let error = opened.map(|_| ()).unwrap_err();
                assert!(
                    matches!(error, OpenError::NotOurs | OpenError::Unauthentic),
                    "{count} hops, hop {at}, byte {spot}: {error}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_changed_byte_is_refused_at_any_hop(at in 0..3usize, spot in 0..BUILD_LEN, with in 1u8..) {
        let hops = routers(3);
        let (message, _) = create(&mut rng(4), WALL, &descriptors(&hops), 30).unwrap();
        let (mut seen, _) = walk(&hops, message);
        seen[at][spot] ^= with;
        let opened = hops[at].keys.open(WALL, &mut ReplayWindow::default(), seen[at].clone());
        prop_assert!(opened.is_err());
    }

    #[test]
    fn garbage_never_opens_or_panics(seed: u8, reply_seed: u8) {
        let mut rng = rng(seed);
        let message: BuildMessage = Box::new(rng.bytes());
        let opened = Router::new(1).keys.open(WALL, &mut ReplayWindow::default(), message);
        prop_assert_eq!(opened.map(|_| ()).unwrap_err(), OpenError::NotOurs);
        let (_, pending) = create(&mut rng, WALL, &descriptors(&routers(3)), 30).unwrap();
        let reply = noise_reply(&mut Rng::from_seed([reply_seed; 32]));
        let failure = pending.open(&reply).unwrap_err();
        prop_assert_eq!(failure, BuildFailure { hop: 0, reason: FailureReason::Garbage });
    }
}

/// Hop 1 changes a slot that hop 2 only passes on. Were hop 2 to accept it, hop 3 would find the very
/// same difference; that it does not is why the associated data is the whole message.
#[test]
fn a_mark_does_not_get_past_an_honest_hop() {
    let hops = routers(3);
    let (message, pending) = create(&mut rng(5), WALL, &descriptors(&hops), 30).unwrap();
    let slots = pending.slots();
    let (seen, _) = walk(&hops, message);
    for slot in (0..SLOTS).filter(|slot| *slot != slots[1]) {
        let mut marked = seen[1].clone();
        marked[slot * SLOT_LEN + 5] ^= 1;
        let opened = hops[1].keys.open(WALL, &mut ReplayWindow::default(), marked);
        assert_eq!(opened.map(|_| ()).unwrap_err(), OpenError::Unauthentic);
    }
}

#[test]
fn a_build_opens_once() {
    let hops = routers(2);
    let (message, _) = create(&mut rng(6), WALL, &descriptors(&hops), 30).unwrap();
    let mut window = ReplayWindow::default();
    assert!(hops[0].keys.open(WALL, &mut window, message.clone()).is_ok());
    for minutes in 0..=REPLAY_MINUTES {
        let again = hops[0].keys.open(WALL.plus(minutes), &mut window, message.clone());
        let error = again.map(|_| ()).unwrap_err();
        let expected = if minutes <= 10 { OpenError::Replayed } else { OpenError::Expired };
        assert_eq!(error, expected, "after {minutes} minutes");
    }
}

#[test]
fn a_build_out_of_its_time_is_refused() {
    let hops = routers(1);
    let open = |made: u32| {
        let made = Wall::from_minutes(made);
        let (message, _) = create(&mut rng(6), made, &descriptors(&hops), 30).unwrap();
        hops[0].keys.open(WALL, &mut ReplayWindow::default(), message).map(|_| ())
    };
    assert_eq!(open(WALL.minutes() - 11), Err(OpenError::Expired));
    assert_eq!(open(WALL.minutes() - 10), Ok(()));
    assert_eq!(open(WALL.minutes() + 10), Ok(()));
    assert_eq!(open(WALL.minutes() + 11), Err(OpenError::Expired));
}

#[test]
fn a_full_window_says_busy_and_forgets_nothing() {
    let hops = routers(1);
    let mut window = ReplayWindow::new(2);
    let make = |seed| create(&mut rng(seed), WALL, &descriptors(&hops), 30).unwrap().0;
    let open = |window: &mut ReplayWindow, wall, seed| {
        hops[0].keys.open(wall, window, make(seed)).map(|_| ()).err()
    };
    assert_eq!(open(&mut window, WALL, 1), None);
    assert_eq!(open(&mut window, WALL, 2), None);
    assert!(window.is_full(WALL));
    assert_eq!(open(&mut window, WALL, 3), Some(OpenError::Busy));
    assert_eq!(open(&mut window, WALL, 1), Some(OpenError::Replayed));
    assert!(!window.is_full(WALL.plus(REPLAY_MINUTES + 1)));
}

#[test]
fn yesterdays_keys_open_and_those_of_the_day_before_do_not() {
    let mut hop = Router::new(1);
    let (message, _) =
        create(&mut rng(1), WALL, &[std::sync::Arc::clone(&hop.descriptor)], 30).unwrap();
    let open = |hop: &Router| {
        hop.keys.open(WALL, &mut ReplayWindow::default(), message.clone()).map(|_| ())
    };
    hop.keys.rotate(&mut rng(2));
    assert_eq!(open(&hop), Ok(()));
    hop.keys.rotate(&mut rng(3));
    assert_eq!(open(&hop), Err(OpenError::NotOurs));
}

#[test]
fn a_record_for_one_identity_opens_for_no_other() {
    let hop = Router::new(1);
    let (message, _) =
        create(&mut rng(1), WALL, &[std::sync::Arc::clone(&hop.descriptor)], 30).unwrap();
    // Router 1's keys under another name: the same generator as `Router::new` uses.
    let mut same = rng(1);
    let _ = crate::crypto::sign::IdentityKey::generate(&mut same);
    let keys = TunnelKeys::generate(NETWORK, RouterId([1; 32]), &mut same);
    assert_eq!(keys.dh_public(), hop.keys.dh_public());
    let opened = keys.open(WALL, &mut ReplayWindow::default(), message);
    assert_eq!(opened.map(|_| ()).unwrap_err(), OpenError::Unauthentic);
}

/// Form: no two slots of any hop's view are equal, none is empty, each has about as many ones as
/// random bytes have, and slot numbers of hops are spread.
#[test]
fn unused_and_used_slots_look_alike() {
    let mut first = BTreeSet::new();
    for seed in 0..40 {
        let count = usize::from(seed % 4) + 1;
        let hops = routers(u8::try_from(count).unwrap());
        let (message, pending) = create(&mut rng(seed), WALL, &descriptors(&hops), 30).unwrap();
        first.insert(pending.slots()[0]);
        let (seen, _) = walk(&hops, message);
        for message in seen {
            for slot in message.chunks(SLOT_LEN) {
                let ones: u32 = slot.iter().map(|byte| byte.count_ones()).sum();
                // 10,752 bits: mean 5,376, standard deviation 52; six of those either way.
                assert!((5_064..5_688).contains(&ones), "{ones} ones");
            }
        }
    }
    assert_eq!(first.len(), SLOTS, "the first hop's record may lie in any slot");
}

#[test]
fn a_refusal_is_charged_to_the_hop_that_refused() {
    let hops = routers(4);
    for refuser in 0..4 {
        for (why, reason) in [
            (Decline::Refused, FailureReason::Refused),
            (Decline::Unreachable, FailureReason::Unreachable),
        ] {
            let mut rng = rng(8);
            let (message, pending) = create(&mut rng, WALL, &descriptors(&hops), 30).unwrap();
            let (_, mut answers) = walk(&hops, message);
            answers.truncate(refuser + 1);
            let mut reply = noise_reply(&mut rng);
            answers.pop().unwrap().decline(why, &mut reply);
            for answer in answers.into_iter().rev() {
                answer.accept(&mut rng, &mut reply).unwrap();
            }
            assert_eq!(pending.open(&reply).unwrap_err(), BuildFailure { hop: refuser, reason });
        }
    }
}

#[test]
fn garbage_is_charged_to_the_last_hop_that_answered() {
    let hops = routers(4);
    for garbler in 0..4usize {
        let mut rng = rng(9);
        let (message, pending) = create(&mut rng, WALL, &descriptors(&hops), 30).unwrap();
        let (_, mut answers) = walk(&hops, message);
        answers.truncate(garbler);
        let mut reply = noise_reply(&mut rng);
        for answer in answers.into_iter().rev() {
            answer.accept(&mut rng, &mut reply).unwrap();
        }
        assert_eq!(
            pending.open(&reply).unwrap_err(),
            BuildFailure { hop: garbler.saturating_sub(1), reason: FailureReason::Garbage }
        );
    }
}

/// A changed bit in a used reply slot fails the build; in an unused one it says nothing to anybody.
#[test]
fn a_changed_reply_gives_no_tunnel() {
    let hops = routers(3);
    let message_of = || create(&mut rng(10), WALL, &descriptors(&hops), 30).unwrap();
    let used = message_of().1.slots();
    for spot in (0..BUILD_REPLY_LEN).step_by(5) {
        let (message, pending) = message_of();
        let (mut reply, _) = accept(walk(&hops, message).1, &mut rng(11));
        reply[spot] ^= 0x10;
        match (pending.open(&reply), used.contains(&(spot / 64))) {
            (Ok(_), false) | (Err(_), true) => {}
            (result, _) => panic!("byte {spot}: {result:?}"),
        }
    }
}

#[test]
fn a_reply_to_one_build_means_nothing_for_another() {
    let hops = routers(3);
    let (message, _) = create(&mut rng(12), WALL, &descriptors(&hops), 30).unwrap();
    let (_, other) = create(&mut rng(13), WALL, &descriptors(&hops), 30).unwrap();
    let (reply, _) = accept(walk(&hops, message).1, &mut rng(14));
    assert!(other.open(&reply).is_err());
}

proptest! {
    #[test]
    fn no_two_byte_strings_mean_the_same_record(
        end: bool, lifetime in 1..=LIFETIME_MINUTES_MAX, salt: [u8; 32], at in 0..192usize, with: u8,
    ) {
        let next = (!end).then(|| Router::new(1).descriptor.contact().unwrap());
        let record = Record { next, made: WALL, lifetime_minutes: lifetime, salt };
        let mut bytes = record.encode();
        prop_assert_eq!(Record::decode(&bytes), Ok(record));
        bytes[at] = with;
        if let Ok(other) = Record::decode(&bytes) {
            prop_assert_eq!(other.encode(), bytes);
        }
    }
}

/// Frozen: whoever changes a byte of this changes the protocol.
#[test]
fn one_build_has_the_recorded_bytes() {
    let hops = routers(3);
    let (message, pending) = create(&mut rng(42), WALL, &descriptors(&hops), 30).unwrap();
    let (seen, answers) = walk(&hops, message);
    let (reply, _) = accept(answers, &mut rng(43));
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(&bytes[..16]);
    let hash = |bytes: &[u8]| hex(&kdf::hash("warren test vector 1", &[bytes]));
    let got = [
        format!("{:?}", pending.slots()),
        hash(&seen[0][..]),
        hash(&seen[1][..]),
        hash(&seen[2][..]),
        hex(&seen[2][pending.slots()[2] * SLOT_LEN..]),
        hash(&reply[..]),
        hex(&reply[..]),
    ];
    let mut layers = pending.open(&reply).unwrap();
    let mut cell = [1; 1_024];
    layers.forward.originate(&mut cell);
    let got = [got.join(" "), hash(&cell)].join(" ");
    assert_eq!(
        got,
        concat!(
            "[3, 2, 1] ",
            "ea0698f987545561c06b573d0eb1c41e ",
            "ec52ffb4c4a97577a42a1bf4ee8fc9c3 ",
            "c0ad0912b6537ed3a5baef4fea436d58 ",
            "23cfb52129cc59646ce24d008ec86240 ",
            "623dc58c8bed1f6dd20f2d42b19baf3b ",
            "82f159af5c7d45aea4547841a7b7e4ed ",
            "9eae65ce77fe29c7f1d85743ddeab1ca",
        )
    );
}
