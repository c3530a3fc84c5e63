//! Published vectors, whole handshakes, and hostile messages.

use data_encoding::HEXLOWER_PERMISSIVE as HEX;
use proptest::prelude::{ProptestConfig, any, prop, prop_assert, prop_assert_eq, proptest};
use serde_json::Value;

use super::*;
use crate::crypto::aead::Aead;

const VECTORS: &str = include_str!("../../../tests/vectors/noise-25519-aesgcm-sha256.json");

fn hex(value: &Value) -> Vec<u8> {
    HEX.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

fn secret(value: &Value) -> Option<Secret<32>> {
    value.as_str()?;
    Some(Secret::take(&mut hex(value).try_into().unwrap()))
}

/// One side of a published row.
fn side(row: &Value, name: &str, initiator: bool) -> Noise {
    let key = |what: &str| &row[format!("{name}_{what}")];
    let my_static = secret(key("static")).map(DhSecret::from_bytes);
    let their_static = secret(key("remote_static")).map(|key| *key.expose_secret());
    let psk = secret(&key("psks")[0]);
    let pattern = row["protocol_name"].as_str().unwrap();
    let psk0 = psk.as_ref().filter(|_| pattern.contains("psk0"));
    let setup =
        Setup { my_static: my_static.as_ref(), their_static: their_static.as_ref(), psk: psk0 };
    let ephemeral = secret(key("ephemeral")).unwrap();
    let mut noise =
        Noise::new(pattern, ephemeral, &hex(key("prologue")), &setup, initiator).unwrap();
    if let Some(psk) = psk.filter(|_| pattern.contains("psk3")) {
        noise.0.set_psk(3, psk.expose_secret()).unwrap();
    }
    noise
}

#[test]
fn our_primitives_give_the_published_transcripts() {
    let all: Value = serde_json::from_str(VECTORS).unwrap();
    let rows = all["rows"].as_array().unwrap();
    assert!(rows.len() >= 4);
    for row in rows {
        let mut sides = [side(row, "init", true), side(row, "resp", false)];
        let messages = row["messages"].as_array().unwrap();
        let handshake = if row["protocol_name"].as_str().unwrap().contains("XK") { 3 } else { 2 };
        for (turn, message) in messages[..handshake].iter().enumerate() {
            let sent = sides[turn % 2].write(&[&hex(&message["payload"])]).unwrap();
            assert_eq!(sent, hex(&message["ciphertext"]));
            assert_eq!(sides[1 - turn % 2].read(&sent).unwrap(), hex(&message["payload"]));
        }
        let keys = sides.map(Noise::split);
        assert_eq!(keys[0].2, keys[1].2);
        if row["handshake_hash"].is_string() {
            assert_eq!(keys[0].2[..], hex(&row["handshake_hash"]));
        }
        // What follows is sealed with the split keys: checks the raw split and `Aead` itself.
        let mut counters = [0, 0];
        for (turn, message) in messages.iter().enumerate().skip(handshake) {
            let (sender, mut data) = (turn % 2, hex(&message["payload"]));
            let tag = Aead::new(&keys[sender].0).seal_in_place(counters[sender], &[], &mut data);
            assert_eq!([&data[..], &tag].concat(), hex(&message["ciphertext"]));
            Aead::new(&keys[1 - sender].1)
                .open_in_place(counters[sender], &[], &mut data, &tag)
                .unwrap();
            counters[sender] += 1;
        }
    }
}

fn rng(seed: u8) -> Rng {
    Rng::from_seed([seed; 32])
}

fn dh(seed: u8) -> DhSecret {
    DhSecret::generate(&mut rng(seed))
}

struct Link {
    messages: [Vec<u8>; 3],
    payloads: [Vec<u8>; 3],
    ours: LinkKeys,
    theirs: LinkKeys,
    their_view_of_us: [u8; 32],
}

/// A whole link handshake in which `tamper` may change each message on its way.
fn link(
    payloads: [&[u8]; 3],
    mut tamper: impl FnMut(usize, &mut Vec<u8>),
) -> Result<Link, HandshakeError> {
    let (alice, bob) = (dh(1), dh(2));
    let (initiator, mut m1) =
        LinkInitiator::start(&mut rng(3), b"prologue", &alice, &bob.public(), payloads[0])?;
    tamper(0, &mut m1);
    let (responder, p1) = LinkResponder::new(&mut rng(4), b"prologue", &bob)?.read1(&m1)?;
    assert_eq!(initiator.mask_key(), responder.mask_key());
    let first_mask = initiator.mask_key();
    let (responder, mut m2) = responder.write2(payloads[1])?;
    tamper(1, &mut m2);
    let (initiator, p2) = initiator.read2(&m2)?;
    assert_eq!(initiator.mask_key(), responder.mask_key());
    assert_ne!(initiator.mask_key(), first_mask);
    let (ours, mut m3) = initiator.write3(payloads[2])?;
    tamper(2, &mut m3);
    let (theirs, their_view_of_us, p3) = responder.read3(&m3)?;
    Ok(Link { messages: [m1, m2, m3], payloads: [p1, p2, p3], ours, theirs, their_view_of_us })
}

fn assert_meet(ours: &Secret<32>, theirs: &Secret<32>) {
    assert_eq!(ours.expose_secret(), theirs.expose_secret());
}

#[test]
fn both_sides_of_a_link_hold_the_same_keys() {
    let link = link([b"one", b"", b"three"], |_, _| {}).unwrap();
    assert_eq!(link.payloads, [&b"one"[..], b"", b"three"]);
    assert_eq!(link.their_view_of_us, dh(1).public());
    assert_meet(&link.ours.send, &link.theirs.receive);
    assert_meet(&link.ours.receive, &link.theirs.send);
    assert_ne!(link.ours.send.expose_secret(), link.ours.receive.expose_secret());
    assert_eq!(link.ours.hash, link.theirs.hash);
}

#[test]
fn empty_link_messages_have_the_documented_lengths() {
    let lengths = link([b"", b"", b""], |_, _| {}).unwrap().messages.map(|m| m.len());
    assert_eq!(lengths, [1232, 1136, 64]);
    assert_eq!(lengths, [LINK_MESSAGE1_OVERHEAD, LINK_MESSAGE2_OVERHEAD, LINK_MESSAGE3_OVERHEAD]);
}

#[test]
fn payloads_of_4_kib_fit_and_of_64_do_not() {
    let big = vec![7; 4096];
    assert_eq!(link([&big, &big, &big], |_, _| {}).unwrap().payloads, [&big[..], &big, &big]);
    let huge = vec![7; 65_536];
    assert_eq!(link([&huge, b"", b""], |_, _| {}).err(), Some(HandshakeError::TooLong));
}

#[test]
fn a_handshake_replays_from_its_seed() {
    let [a, b] = [(); 2].map(|()| link([b"x", b"y", b"z"], |_, _| {}).unwrap());
    assert_eq!(a.messages, b.messages);
    assert_eq!(a.ours.hash, b.ours.hash);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn one_changed_bit_in_any_link_message_is_refused(
        which in 0..3usize, at: prop::sample::Index, bit in 0..8u32,
    ) {
        let mut spot = 0;
        let result = link([b"one", b"two", b"three"], |number, message| {
            if number == which {
                spot = at.index(message.len());
                message[spot] ^= 1 << bit;
            }
        });
        // X25519 ignores the top bit of a public key; but the transcript holds it.
        prop_assert_eq!(result.err(), Some(HandshakeError::Refused), "byte {}", spot);
    }

    #[test]
    fn a_truncated_link_message_is_refused(which in 0..3usize, at: prop::sample::Index) {
        let result = link([b"one", b"two", b"three"], |number, message| {
            if number == which {
                message.truncate(at.index(message.len()));
            }
        });
        prop_assert_eq!(result.err(), Some(HandshakeError::Refused));
    }

    #[test]
    fn noise_is_no_message(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let responder = LinkResponder::new(&mut rng(4), b"prologue", &dh(2)).unwrap();
        prop_assert!(responder.read1(&bytes).is_err());
        let psk = Secret::take(&mut [9; 32]);
        prop_assert!(session_respond(&mut rng(4), b"prologue", &dh(2), &psk, &bytes).is_err());
    }

    #[test]
    fn one_changed_bit_in_a_session_message_is_refused(
        which in 0..2usize, at: prop::sample::Index, bit in 0..8u32,
    ) {
        let result = session(b"prologue", [9; 32], |number, message| {
            if number == which {
                let spot = at.index(message.len());
                message[spot] ^= 1 << bit;
            }
        });
        prop_assert_eq!(result.err(), Some(HandshakeError::Refused));
    }
}

#[test]
fn another_prologue_or_static_key_is_refused() {
    let (alice, bob) = (dh(1), dh(2));
    let (_, message) =
        LinkInitiator::start(&mut rng(3), b"here", &alice, &bob.public(), b"").unwrap();
    let read = |prologue: &[u8], key| {
        LinkResponder::new(&mut rng(4), prologue, &dh(key)).unwrap().read1(&message).err()
    };
    assert_eq!(read(b"here", 2), None);
    assert_eq!(read(b"there", 2), Some(HandshakeError::Refused));
    assert_eq!(read(b"here", 7), Some(HandshakeError::Refused));
}

/// A hostile descriptor: es would be all zero, and everybody could read message 1.
#[test]
fn a_static_key_of_low_order_is_refused() {
    let started = LinkInitiator::start(&mut rng(3), b"", &dh(1), &[0; 32], b"");
    assert_eq!(started.err(), Some(HandshakeError::Refused));
    let psk = Secret::take(&mut [9; 32]);
    let started = SessionInitiator::start(&mut rng(3), b"", &[0; 32], &psk, b"");
    assert_eq!(started.err(), Some(HandshakeError::Refused));
}

/// The post-quantum half counts: with the same X25519 keys throughout and another ML-KEM secret,
/// message 3 does not open.
#[test]
fn another_ml_kem_secret_breaks_message_three() {
    let (alice, bob) = (dh(1), dh(2));
    let (mut initiator, m1) =
        LinkInitiator::start(&mut rng(3), b"", &alice, &bob.public(), b"").unwrap();
    let responder = LinkResponder::new(&mut rng(4), b"", &bob).unwrap();
    let (responder, m2) = responder.read1(&m1).unwrap().0.write2(b"").unwrap();
    initiator.kem = KemSecret::generate(&mut rng(9));
    let (_, m3) = initiator.read2(&m2).unwrap().0.write3(b"").unwrap();
    assert_eq!(responder.read3(&m3).err(), Some(HandshakeError::Refused));
}

#[test]
fn a_malformed_ml_kem_key_is_refused() {
    let (alice, bob) = (dh(1), dh(2));
    let setup = Setup { my_static: Some(&alice), their_static: Some(&bob.public()), psk: None };
    let mut noise =
        Noise::new(LINK_PATTERN, Secret::random(&mut rng(3)), b"", &setup, true).unwrap();
    let message = noise.write(&[&[0xff; KEM_PUBLIC_LEN]]).unwrap();
    let responder = LinkResponder::new(&mut rng(4), b"", &bob).unwrap();
    let (responder, _) = responder.read1(&message).unwrap();
    assert_eq!(responder.write2(b"").err(), Some(HandshakeError::Refused));
}

#[test]
fn a_message_one_without_an_ml_kem_key_is_refused() {
    let (alice, bob) = (dh(1), dh(2));
    let setup = Setup { my_static: Some(&alice), their_static: Some(&bob.public()), psk: None };
    let mut noise =
        Noise::new(LINK_PATTERN, Secret::random(&mut rng(3)), b"", &setup, true).unwrap();
    let message = noise.write(&[b"short"]).unwrap();
    let responder = LinkResponder::new(&mut rng(4), b"", &bob).unwrap();
    assert_eq!(responder.read1(&message).err(), Some(HandshakeError::Refused));
}

/// A whole session handshake; the service holds `their_psk` and expects b"prologue".
fn session(
    prologue: &[u8],
    their_psk: [u8; 32],
    mut tamper: impl FnMut(usize, &mut Vec<u8>),
) -> Result<(SessionKeys, SessionKeys), HandshakeError> {
    let service = dh(2);
    let psk = Secret::take(&mut [9; 32]);
    let (client, mut m1) =
        SessionInitiator::start(&mut rng(3), prologue, &service.public(), &psk, b"early")?;
    assert_eq!(m1.len(), SESSION_MESSAGE_OVERHEAD + 5);
    tamper(0, &mut m1);
    let their_psk = Secret::take(&mut their_psk.clone());
    let (responder, early) = session_respond(&mut rng(4), b"prologue", &service, &their_psk, &m1)?;
    assert_eq!(early, b"early");
    let (theirs, mut m2) = responder.write2(b"answer")?;
    tamper(1, &mut m2);
    let (ours, answer) = client.finish(&m2)?;
    assert_eq!(answer, b"answer");
    Ok((ours, theirs))
}

#[test]
fn both_sides_of_a_session_hold_the_same_keys() {
    let (ours, theirs) = session(b"prologue", [9; 32], |_, _| {}).unwrap();
    assert_meet(&ours.send, &theirs.receive);
    assert_meet(&ours.receive, &theirs.send);
    assert_ne!(ours.send.expose_secret(), ours.receive.expose_secret());
    assert_eq!(ours.hash, theirs.hash);
}

#[test]
fn another_psk_or_prologue_opens_no_session() {
    assert_eq!(session(b"prologue", [8; 32], |_, _| {}).err(), Some(HandshakeError::Refused));
    assert_eq!(session(b"other", [9; 32], |_, _| {}).err(), Some(HandshakeError::Refused));
}
