//! What PROTOCOL P4 promises of the handshake.

use proptest::prelude::*;

use super::support::*;
use crate::{
    id::NetworkId,
    link::{Handshake, LinkIdentity},
    rng::Rng,
    time::{Now, Wall},
};

fn established(said: &Said) -> bool {
    said.established.is_some() && !said.failed
}

#[test]
fn two_routers_agree_in_chunks_of_any_size() {
    let (one, two) = (router(1), router(2));
    for chunk in [1, 2, 3, 17, 34, 511, 1_448, 65_536] {
        // Another router each time: the first message is drawn from a fixed seed.
        let fresh = router_with(2, NETWORK, WALL, None);
        let (a, b) = shake(&one, &fresh, two.descriptor.contact().unwrap(), chunk);
        let (a, b) = (a.established.unwrap(), b.established.unwrap());
        assert!(a.initiator && !b.initiator);
        assert_eq!(a.peer.id(), two.descriptor.id());
        assert_eq!(b.peer.id(), one.descriptor.id());
        assert_eq!(a.keys.send.expose_secret(), b.keys.receive.expose_secret());
        assert_eq!(a.keys.receive.expose_secret(), b.keys.send.expose_secret());
        assert_eq!(a.keys.hash, b.keys.hash);
        assert_eq!((a.peer_minute, b.peer_minute), (WALL, WALL));
        assert_eq!(a.rtt, millis(20));
        assert!(a.leftover.is_empty() && b.leftover.is_empty());
    }
}

#[test]
fn bytes_after_the_handshake_are_handed_on() {
    let (one, two) = (router(1), router(2));
    let (mut a, mut a_said) = dial(&one, two.descriptor.contact().unwrap(), 1);
    let (mut b, mut b_said) = (accept(&two, 2), Said::default());
    let first = a_said.sent.len();
    feed(&mut b, &mut b_said, &a_said.sent.clone(), 4_096);
    feed(&mut a, &mut a_said, &b_said.sent.clone(), 4_096);
    let third = [&a_said.sent[first..], b"frames"].concat();
    feed(&mut b, &mut b_said, &third, 65_536);
    assert_eq!(b_said.established.unwrap().leftover, b"frames");
}

/// All that a stranger may learn: nothing, then a close 10 to 30 s after the beginning.
fn falls_silent(machine: &mut Handshake, said: &mut Said, sent_before: usize) {
    assert!(said.established.is_none());
    let mut time = START + millis(20);
    while let Some(next) = machine.poll_timeout() {
        time = time.max(next);
        machine.handle_timeout(time);
        drain(machine, said);
        machine.handle_input(at(time), &[0x5a; 300]);
        drain(machine, said);
    }
    assert!(said.failed && said.closed && said.established.is_none());
    assert_eq!(said.sent.len(), sent_before, "not a byte was sent");
    let after = time.since(START);
    assert!((millis(10_000)..=millis(30_000)).contains(&after), "{after:?}");
}

#[test]
fn probes_of_any_kind_get_no_answer() {
    let two = router(2);
    let mut rng = Rng::from_seed([5; 32]);
    let probes: Vec<Vec<u8>> = vec![
        vec![],
        vec![0],
        vec![0; 34],
        vec![0xff; 9_000],
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        rng.bytes::<20_000>().to_vec(),
        rng.bytes::<1_700>().to_vec(),
    ];
    for (n, probe) in (0..).zip(probes) {
        let (mut b, mut said) = (accept(&two, n), Said::default());
        feed(&mut b, &mut said, &probe, 1_000);
        falls_silent(&mut b, &mut said, 0);
    }
}

#[test]
fn the_closing_time_does_not_depend_on_what_was_sent() {
    let two = router(2);
    let mut times = Vec::new();
    for probe in [&[][..], &[1; 40], &[0xff; 9_000]] {
        let (mut b, mut said) = (accept(&two, 3), Said::default());
        feed(&mut b, &mut said, probe, 1_000);
        let mut last = None;
        while let Some(next) = b.poll_timeout() {
            last = Some(next);
            b.handle_timeout(next);
            drain(&mut b, &mut said);
        }
        times.push(last.unwrap());
    }
    assert!(times.windows(2).all(|pair| pair[0] == pair[1]), "{times:?}");
}

#[test]
fn a_repeated_first_message_gets_no_answer() {
    let (one, two) = (router(1), router(2));
    let (_, a_said) = dial(&one, two.descriptor.contact().unwrap(), 1);
    let (mut b, mut said) = (accept(&two, 2), Said::default());
    feed(&mut b, &mut said, &a_said.sent, 4_096);
    assert!(!said.sent.is_empty(), "the first is answered");

    let (mut again, mut said) = (accept(&two, 3), Said::default());
    feed(&mut again, &mut said, &a_said.sent, 4_096);
    falls_silent(&mut again, &mut said, 0);
}

/// Whoever knows the identity can mask the same message anew; the ephemeral is what counts.
#[test]
fn a_repeat_under_another_salt_gets_no_answer() {
    use crate::link::masking::Masking;
    let (one, two) = (router(1), router(2));
    let (_, a_said) = dial(&one, two.descriptor.contact().unwrap(), 1);
    let (mut b, mut said) = (accept(&two, 2), Said::default());
    feed(&mut b, &mut said, &a_said.sent, 4_096);
    assert!(!said.sent.is_empty());

    let mut wire = a_said.sent.clone();
    let (salt, masked) = wire.split_at_mut(16);
    let noise = Masking::new(two.descriptor.id(), salt).open(masked).unwrap().to_vec();
    let mut wire = vec![0x77; 16];
    Masking::new(two.descriptor.id(), &[0x77; 16]).seal(&noise, &mut wire);
    let (mut again, mut said) = (accept(&two, 3), Said::default());
    feed(&mut again, &mut said, &wire, 4_096);
    falls_silent(&mut again, &mut said, 0);
}

#[test]
fn a_full_replay_memory_refuses_newcomers() {
    let (one, mut two) = (router(1), router(2));
    let filter = crate::link::ReplayFilter::with_limit(&mut Rng::from_seed([1; 32]), 0);
    two.replay = std::sync::Arc::new(std::sync::Mutex::new(filter));
    let (_, a_said) = dial(&one, two.descriptor.contact().unwrap(), 1);
    let (mut b, mut said) = (accept(&two, 2), Said::default());
    feed(&mut b, &mut said, &a_said.sent, 4_096);
    falls_silent(&mut b, &mut said, 0);
}

/// The responder must refuse message 1 of `one` dialling `two` as `contact`.
fn first_is_refused(one: &LinkIdentity, two: &LinkIdentity, contact: crate::wire::Contact) {
    let (_, a_said) = dial(one, contact, 1);
    let (mut b, mut said) = (accept(two, 2), Said::default());
    feed(&mut b, &mut said, &a_said.sent, 4_096);
    falls_silent(&mut b, &mut said, 0);
}

#[test]
fn another_network_gets_no_answer() {
    let two = router(2);
    let stranger = router_with(1, NetworkId([8; 32]), WALL, None);
    first_is_refused(&stranger, &two, two.descriptor.contact().unwrap());
}

#[test]
fn who_does_not_know_the_identity_gets_no_answer() {
    let (one, two) = (router(1), router(2));
    let mut contact = two.descriptor.contact().unwrap();
    contact.id = router(3).descriptor.id();
    first_is_refused(&one, &two, contact);
}

#[test]
fn who_does_not_know_the_link_key_gets_no_answer() {
    let (one, two) = (router(1), router(2));
    let mut contact = two.descriptor.contact().unwrap();
    contact.link_key = router(3).descriptor.fields().link_key;
    first_is_refused(&one, &two, contact);
}

#[test]
fn a_minute_too_far_off_gets_no_answer() {
    let (one, two) = (router(1), router(2));
    let (_, a_said) = dial(&one, two.descriptor.contact().unwrap(), 1);
    for (minute, answered) in [(-11i32, false), (-10, true), (10, true), (11, false)] {
        let wall = Wall::from_minutes(WALL.minutes().checked_add_signed(minute).unwrap());
        let fresh = router(2);
        let (mut b, mut said) = (accept(&fresh, 2), Said::default());
        b.handle_input(Now { time: START, wall }, &a_said.sent);
        drain(&mut b, &mut said);
        assert_eq!(!said.sent.is_empty(), answered, "{minute}");
    }
}

/// Mallory signs a descriptor of her own that names two's link key, and has victims dial it; or
/// shows it herself, without holding the key.
#[test]
fn an_identity_bound_to_anothers_link_key_is_refused() {
    let (one, two) = (router(1), router(2));
    let mallory = router_with(3, NETWORK, WALL, Some(two.descriptor.fields().link_key));

    // Dialling Mallory's identity at two's key: two never answers.
    first_is_refused(&one, &two, mallory.descriptor.contact().unwrap());

    // Mallory, dialled under her true key, shows the descriptor with two's.
    let mut contact = mallory.descriptor.contact().unwrap();
    contact.link_key = mallory.secret.public();
    let (mut a, mut a_said) = dial(&one, contact, 1);
    let (mut m, mut m_said) = (accept(&mallory, 2), Said::default());
    feed(&mut m, &mut m_said, &a_said.sent.clone(), 4_096);
    assert!(!m_said.sent.is_empty());
    let before = a_said.sent.len();
    feed(&mut a, &mut a_said, &m_said.sent, 4_096);
    falls_silent(&mut a, &mut a_said, before);

    // Mallory dials two and shows it there.
    let (a_said, b_said) = shake(&mallory, &two, two.descriptor.contact().unwrap(), 4_096);
    assert!(established(&a_said), "the initiator cannot know yet");
    assert!(b_said.failed && b_said.established.is_none());
}

#[test]
fn an_expired_descriptor_is_refused_on_both_sides() {
    let old = Wall::from_minutes(WALL.minutes() - 2_000);
    let (one, two) = (router(1), router(2));
    let stale = router_with(2, NETWORK, old, None);
    let (a_said, _) = shake(&one, &stale, two.descriptor.contact().unwrap(), 4_096);
    assert!(a_said.failed && a_said.established.is_none());
    let stale = router_with(1, NETWORK, old, None);
    let (_, b_said) = shake(&stale, &two, two.descriptor.contact().unwrap(), 4_096);
    assert!(b_said.failed && b_said.established.is_none());
}

#[test]
fn a_router_does_not_link_to_itself() {
    let two = router(2);
    let (a_said, b_said) = shake(&two, &router(2), two.descriptor.contact().unwrap(), 4_096);
    assert!(a_said.failed && !established(&b_said));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn one_flipped_bit_in_message_1_is_met_with_silence(at: prop::sample::Index, bit in 0..8u32) {
        let (one, two) = (router(1), router(2));
        let (_, mut a_said) = dial(&one, two.descriptor.contact().unwrap(), 1);
        let at = at.index(a_said.sent.len());
        a_said.sent[at] ^= 1 << bit;
        let (mut b, mut said) = (accept(&two, 2), Said::default());
        feed(&mut b, &mut said, &a_said.sent, 700);
        falls_silent(&mut b, &mut said, 0);
    }

    #[test]
    fn one_flipped_bit_in_message_2_is_met_with_silence(at: prop::sample::Index, bit in 0..8u32) {
        let (one, two) = (router(1), router(2));
        let (mut a, mut a_said) = dial(&one, two.descriptor.contact().unwrap(), 1);
        let (mut b, mut b_said) = (accept(&two, 2), Said::default());
        feed(&mut b, &mut b_said, &a_said.sent.clone(), 4_096);
        let at = at.index(b_said.sent.len());
        b_said.sent[at] ^= 1 << bit;
        let before = a_said.sent.len();
        feed(&mut a, &mut a_said, &b_said.sent, 700);
        falls_silent(&mut a, &mut a_said, before);
    }

    #[test]
    fn one_flipped_bit_in_message_3_is_met_with_silence(at: prop::sample::Index, bit in 0..8u32) {
        let (one, two) = (router(1), router(2));
        let (mut a, mut a_said) = dial(&one, two.descriptor.contact().unwrap(), 1);
        let (mut b, mut b_said) = (accept(&two, 2), Said::default());
        let first = a_said.sent.len();
        feed(&mut b, &mut b_said, &a_said.sent.clone(), 4_096);
        feed(&mut a, &mut a_said, &b_said.sent.clone(), 4_096);
        let mut third = a_said.sent[first..].to_vec();
        let at = at.index(third.len());
        third[at] ^= 1 << bit;
        let before = b_said.sent.len();
        feed(&mut b, &mut b_said, &third, 700);
        falls_silent(&mut b, &mut b_said, before);
    }

    #[test]
    fn half_a_message_is_met_with_silence(cut: prop::sample::Index) {
        let (one, two) = (router(1), router(2));
        let (_, a_said) = dial(&one, two.descriptor.contact().unwrap(), 1);
        let cut = cut.index(a_said.sent.len());
        let (mut b, mut said) = (accept(&two, 2), Said::default());
        feed(&mut b, &mut said, &a_said.sent[..cut], 700);
        assert!(!said.failed, "still waiting");
        falls_silent(&mut b, &mut said, 0);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..6_000)) {
        let (one, two) = (router(1), router(2));
        let (mut a, mut said) = dial(&one, two.descriptor.contact().unwrap(), 1);
        feed(&mut a, &mut said, &bytes, 999);
        prop_assert!(said.established.is_none());
    }
}

#[test]
fn messages_look_different_each_time_and_vary_in_length() {
    let (one, two) = (router(1), router(2));
    let sent: Vec<_> =
        (0..20).map(|seed| dial(&one, two.descriptor.contact().unwrap(), seed).1.sent).collect();
    let lengths: std::collections::BTreeSet<_> = sent.iter().map(Vec::len).collect();
    assert!(lengths.len() > 10);
    assert!(sent.windows(2).all(|pair| pair[0][..40] != pair[1][..40]));
}
