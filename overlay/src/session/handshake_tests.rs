//! Handshakes between one client and one service.

use proptest::prelude::{
    Just, ProptestConfig, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};

use super::*;

const NETWORK: NetworkId = NetworkId([5; 32]);
const MINUTE: Wall = Wall::from_minutes(29_000_000);

fn rng(seed: u8) -> Rng {
    Rng::from_seed([seed; 32])
}

fn secret(seed: u8) -> SessionSecret {
    let mut rng = rng(seed);
    SessionSecret {
        dh: DhSecret::generate(&mut rng),
        kem: KemSecret::generate(&mut rng),
        admitted: vec![Admitted { client: 0, binding: rng.bytes(), access: None }],
        restored: None,
    }
}

fn target(secret: &SessionSecret) -> SessionTarget {
    SessionTarget {
        network: NETWORK,
        binding: secret.admitted[0].binding,
        access: secret.admitted[0].access.clone(),
        dh: secret.dh.public(),
        kem: Box::new(*secret.kem.public()),
    }
}

fn start(secret: &SessionSecret, purpose: Purpose<'_>) -> (ClientHandshake, Vec<u8>) {
    ClientHandshake::start(&mut rng(9), &target(secret), MINUTE, purpose).unwrap()
}

fn read(secrets: &[SessionSecret], request: &[u8]) -> Option<Request> {
    Request::read(&mut rng(8), NETWORK, secrets, request)
}

#[test]
fn both_sides_get_the_same_keys_and_the_early_data_arrives() {
    let secrets = [secret(1), secret(2)];
    for secret in &secrets {
        let (client, bytes) =
            start(secret, Purpose::New { early: b"GET / HTTP/1.1", nonce: [4; 16] });
        let request = read(&secrets, &bytes).unwrap();
        assert_eq!((request.minute, request.continues, request.mark), (MINUTE, false, [4; 16]));
        assert_eq!(request.early, b"GET / HTTP/1.1");
        let (theirs, unit) = request.answer(Answer::Taken).unwrap();
        assert_eq!(unit.len(), UNIT_MAX);
        let (ours, answer) = client.finish(&unit).unwrap();
        assert_eq!(answer, Answer::Taken);
        assert_eq!(ours.hash, theirs.hash);
        assert_eq!(ours.send.expose_secret(), theirs.receive.expose_secret());
        assert_eq!(ours.receive.expose_secret(), theirs.send.expose_secret());
    }
}

#[test]
fn a_continuation_carries_its_mark_and_nothing_else() {
    let secrets = [secret(1)];
    let (_, bytes) = start(&secrets[0], Purpose::Continue { mark: [3; 16] });
    let request = read(&secrets, &bytes).unwrap();
    assert_eq!((request.continues, request.mark, request.early.len()), (true, [3; 16], 0));
}

#[test]
fn requests_are_whole_units_with_an_end_mark() {
    for (len, count) in [(0, 2), (842, 2), (843, 3), (EARLY_MAX, 8)] {
        let (_, bytes) = start(&secret(1), Purpose::New { early: &vec![7; len], nonce: [4; 16] });
        let all: Vec<_> = units(&bytes).collect();
        assert_eq!(all.len(), count, "{len}");
        assert_eq!(all.last().unwrap().len(), UNIT_MAX - 1);
        assert!(all[..count - 1].iter().all(|unit| unit.len() == UNIT_MAX));
        let mut joined = Joined::default();
        for (at, unit) in all.iter().enumerate() {
            let whole = joined.add(unit).unwrap();
            assert_eq!(whole.is_some(), at + 1 == count);
        }
    }
    assert_eq!(EARLY_MAX, 6_848);
    let early = vec![0; EARLY_MAX + 1];
    let none = ClientHandshake::start(
        &mut rng(9),
        &target(&secret(1)),
        MINUTE,
        Purpose::New { early: &early, nonce: [4; 16] },
    );
    assert!(none.is_none());
}

#[test]
fn what_is_no_request_is_refused_before_it_is_long() {
    assert!(Joined::default().add(&[0; LAST_UNIT_LEN]).is_err(), "one unit");
    assert!(Joined::default().add(&[0; 5]).is_err());
    let mut joined = Joined::default();
    let refused = (0..9).position(|_| joined.add(&[0; UNIT_MAX]).is_err());
    assert_eq!(refused, Some(7));
}

#[test]
fn another_network_day_or_service_opens_nothing() {
    let secrets = [secret(1)];
    let (_, bytes) = start(&secrets[0], Purpose::New { early: b"x", nonce: [4; 16] });
    assert!(Request::read(&mut rng(8), NetworkId([6; 32]), &secrets, &bytes).is_none());
    let mut copied = secret(1);
    copied.admitted[0].binding = [1; 32];
    assert!(read(&[copied], &bytes).is_none(), "same keys, other binding");
    assert!(read(&[secret(2)], &bytes).is_none());
}

fn access(seed: u8) -> Arc<AccessKey> {
    Arc::new(AccessKey::generate(&mut rng(seed)))
}

#[test]
fn a_client_of_a_private_service_is_known_by_what_it_shares_with_it() {
    let admitted = |client: u8| {
        let binding = [client; 32];
        Admitted { client: client.into(), binding, access: Some(access(client)) }
    };
    let secrets = [SessionSecret { admitted: (1..=3).map(admitted).collect(), ..secret(1) }];
    let open = |binding: [u8; 32], access: Option<Arc<AccessKey>>| {
        let target = SessionTarget { binding, access, ..target(&secrets[0]) };
        let purpose = Purpose::New { early: b"x", nonce: [4; 16] };
        let (client, bytes) =
            ClientHandshake::start(&mut rng(9), &target, MINUTE, purpose).unwrap();
        let request = read(&secrets, &bytes)?;
        let number = request.client;
        let (_, unit) = request.answer(Answer::Taken).unwrap();
        client.finish(&unit).map(|_| number)
    };
    assert_eq!([1, 2, 3].map(|n| open([n; 32], Some(access(n)))), [Some(1), Some(2), Some(3)]);
    // Whoever keeps a client's record knows its binding, and any other client the session keys.
    assert_eq!(open([1; 32], None), None, "a binding and no key");
    assert_eq!(open([1; 32], Some(access(2))), None, "another client's key");
    assert_eq!(open([4; 32], Some(access(4))), None, "a key that was taken back");
    assert_eq!(open(target(&secret(1)).binding, None), None, "the binding for everybody");
}

#[test]
fn each_half_of_the_service_key_is_needed() {
    let secrets = [secret(1)];
    let (_, bytes) = start(&secrets[0], Purpose::New { early: b"x", nonce: [4; 16] });
    let mut dh_only = secret(2);
    dh_only.admitted = secrets[0].admitted.clone();
    dh_only.dh = secret(1).dh;
    assert!(read(&[dh_only], &bytes).is_none());
    let mut kem_only = secret(2);
    kem_only.admitted = secrets[0].admitted.clone();
    kem_only.kem = secret(1).kem;
    assert!(read(&[kem_only], &bytes).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn one_changed_bit_of_a_request_is_refused(at: prop::sample::Index, bit in 0..8u8) {
        let secrets = [secret(1)];
        let (_, mut bytes) = start(&secrets[0], Purpose::New { early: b"x", nonce: [4; 16] });
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        // X25519 does not look at the highest bit of a public key, but the transcript does.
        prop_assert!(read(&secrets, &bytes).is_none());
    }

    #[test]
    fn one_changed_bit_of_an_answer_is_refused(at in 0..UNIT_MAX, bit in 0..8u8) {
        let secrets = [secret(1)];
        let (client, bytes) = start(&secrets[0], Purpose::New { early: b"x", nonce: [4; 16] });
        let (_, mut unit) = read(&secrets, &bytes).unwrap().answer(Answer::Taken).unwrap();
        unit[at] ^= 1 << bit;
        prop_assert!(client.finish(&unit).is_none());
    }

    #[test]
    fn hostile_requests_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..2_100)) {
        prop_assert!(read(&[secret(1)], &bytes).is_none());
    }

    #[test]
    fn a_payload_has_one_spelling(
        kind in 0..3u8, mark in prop_oneof![Just([0u8; 16]), any::<[u8; 16]>()], len in 0..4u16,
        rest in prop::collection::vec(0..2u8, 0..8),
    ) {
        let mut w = Writer::default();
        w.u8(kind).u32(7).bytes(&mark).u16(len).bytes(&rest);
        let bytes = w.into_bytes();
        if let Ok(payload) = read_payload(&bytes) {
            let mut w = Writer::default();
            w.u8(payload.continues.into()).u32(payload.minute.minutes()).bytes(&payload.mark);
            w.u16(u16::try_from(payload.early.len()).unwrap()).bytes(&payload.early);
            let mut again = w.into_bytes();
            again.resize(bytes.len(), 0);
            prop_assert_eq!(again, bytes);
        }
    }
}
