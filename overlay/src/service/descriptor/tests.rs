//! What holds of descriptors and of those who must not read them.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
};

use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::*;
use crate::{
    crypto::{effort::EFFORT_MAX, kem::KEM_PUBLIC_LEN},
    id::RouterId,
    rng::Rng,
    service::{LEASES_MAX, Lease, OfferId, PLACES, place, places},
};

const NETWORK: NetworkId = NetworkId([9; 32]);
const DAY: Day = Day(20_000);
const EXPIRY: Wall = Wall::from_minutes(28_800_180);

/// Where the number of the first offer's leases is: format 1, created 4, offers 1, id 8, version 8, day
/// 4, X25519 32, ML-KEM 1184, effort 4.
const COUNT: usize = 1_246;

fn key(seed: u8) -> ServiceKey {
    ServiceKey::from_seed(Secret::take(&mut [seed; 32]))
}

fn lease(seed: u8) -> Lease {
    Lease {
        gateway: RouterId([seed; 32]),
        link_key: [seed ^ 1; 32],
        splice_key: [seed ^ 2; 32],
        address: SocketAddr::from((Ipv4Addr::new(203, 0, 113, seed), 4_000)).into(),
        lease: [seed ^ 3; 16],
    }
}

/// What one router offers; which one it is follows from the number of leases.
pub(in crate::service) fn offer(leases: u8) -> Offer {
    Offer {
        id: OfferId::from_bytes([leases; 8]),
        version: 7,
        session_day: DAY,
        session_dh: [5; 32],
        session_kem: Box::new([6; KEM_PUBLIC_LEN]),
        effort: 7,
        leases: (1..=leases).map(lease).collect(),
    }
}

/// Of one router; without leases, of none.
pub(in crate::service) fn descriptor(leases: u8) -> ServiceDescriptor {
    let offers = (leases > 0).then(|| offer(leases)).into_iter().collect();
    ServiceDescriptor { created: Wall::from_minutes(28_800_000), offers }
}

fn sealed(seed: u8, index: u8, descriptor: &ServiceDescriptor) -> Record {
    let mut rng = Rng::from_seed([seed; 32]);
    seal(&mut rng, &key(seed), None, NETWORK, DAY, index, 7, EXPIRY, descriptor).unwrap()
}

/// A record of place 0 that holds whatever `text` is, sealed as the service would.
fn holding(text: &[u8]) -> Record {
    let blinded = key(1).blind(&[&blinding(NETWORK, DAY, 0)]);
    let mut text = text.to_vec();
    let tag =
        sealing(&key(1).public(), &blinded.public(), None, &blinding(NETWORK, DAY, 0), 7, &[0; 16])
            .seal_in_place(0, &[], &mut text);
    let payload = [&[0; 16][..], &text, &tag].concat();
    Record::sign(&blinded, NETWORK, 7, EXPIRY, &payload, RecordSize::Large).unwrap()
}

fn encoded(descriptor: &ServiceDescriptor) -> Vec<u8> {
    let mut w = Writer::default();
    descriptor.encode(&mut w).unwrap();
    w.into_bytes()
}

fn decoded(bytes: &[u8]) -> Result<ServiceDescriptor, WireError> {
    let mut r = Reader::new(bytes);
    let descriptor = ServiceDescriptor::decode(&mut r)?;
    r.finish().map(|()| descriptor)
}

prop_compose! {
    fn any_lease()(
        gateway: [u8; 32], link_key: [u8; 32], splice_key: [u8; 32], ip: [u8; 4],
        port in 1u16.., lease: [u8; 16],
    ) -> Lease {
        let address = SocketAddr::from((ip, port)).into();
        Lease { gateway: RouterId(gateway), link_key, splice_key, address, lease }
    }
}

prop_compose! {
    fn any_offer()(
        id: [u8; 8], version: u64, day: u32, session_dh: [u8; 32], kem: u8, effort in 0..=EFFORT_MAX,
        leases in prop::collection::vec(any_lease(), 1..=LEASES_MAX),
    ) -> Offer {
        let session_kem = Box::new([kem; KEM_PUBLIC_LEN]);
        let (id, session_day) = (OfferId::from_bytes(id), Day(day));
        Offer { id, version, session_day, session_dh, session_kem, effort, leases }
    }
}

prop_compose! {
    fn any_descriptor()(
        created: u32, mut offers in prop::collection::vec(any_offer(), 0..=OFFERS_MAX),
    ) -> ServiceDescriptor {
        offers.sort_by_key(|offer| offer.id);
        ServiceDescriptor { created: Wall::from_minutes(created), offers }
    }
}

proptest! {
    #[test]
    fn decode_undoes_encode(descriptor in any_descriptor()) {
        prop_assert_eq!(decoded(&encoded(&descriptor)), Ok(descriptor));
    }

    /// The interesting bytes, those of count and address, are drawn half of the time.
    #[test]
    fn no_two_byte_strings_mean_the_same_descriptor(
        descriptor in any_descriptor(), at: prop::sample::Index, special: bool, with: u8,
    ) {
        let mut bytes = encoded(&descriptor);
        let counts = [5, COUNT, 5 + at.index(20), COUNT + 97 + at.index(19)];
        let at = if special { counts[at.index(4)] } else { at.index(bytes.len()) };
        let at = at.min(bytes.len() - 1); // one without offers ends with their count
        bytes[at] = with;
        if let Ok(other) = decoded(&bytes) { prop_assert_eq!(encoded(&other), bytes); }
    }

    #[test]
    fn a_truncated_descriptor_is_refused(descriptor in any_descriptor(), at: prop::sample::Index) {
        let bytes = encoded(&descriptor);
        prop_assert!(decoded(&bytes[..at.index(bytes.len())]).is_err());
    }

    #[test]
    fn what_was_sealed_opens(descriptor in any_descriptor(), index in 0u8..6, version: u64) {
        let mut rng = Rng::from_seed([3; 32]);
        let record =
            seal(&mut rng, &key(1), None, NETWORK, DAY, index, version, EXPIRY, &descriptor).unwrap();
        let name = Name::of_service(&key(1));
        let place = place(&name, None, NETWORK, DAY, index).unwrap();
        prop_assert_eq!(record.encode().len(), 4_096);
        prop_assert_eq!(record.key(), place.key);
        prop_assert_eq!((record.version(), record.expiry()), (version, EXPIRY));
        prop_assert_eq!(open(&name, None, NETWORK, &place, &record), Ok(descriptor));
    }

    /// Even a service that writes nonsense under its own key cannot make a reader panic.
    #[test]
    fn hostile_contents_never_panic(
        head in prop::collection::vec(any::<u8>(), 0..200), count: u8, len in 0..=PLAIN_LEN, good: bool,
    ) {
        let mut text = if good { encoded(&descriptor(5)) } else { head };
        if let Some(byte) = text.get_mut(COUNT) { *byte = count; }
        text.resize(len, 0);
        let name = Name::of_service(&key(1));
        let place = place(&name, None, NETWORK, DAY, 0).unwrap();
        if let Ok(opened) = open(&name, None, NETWORK, &place, &holding(&text)) {
            prop_assert!(opened.offers.len() <= OFFERS_MAX);
            prop_assert!(opened.offers.iter().all(|it| (1..=LEASES_MAX).contains(&it.leases.len())));
        }
    }

    #[test]
    fn hostile_records_never_open(bytes in prop::collection::vec(any::<u8>(), 0..64), len: prop::sample::Index) {
        let mut whole = sealed(1, 0, &descriptor(3)).encode().to_vec();
        whole.truncate(len.index(4_097));
        for (to, from) in whole.iter_mut().zip(&bytes) { *to ^= from; }
        let changed = whole != sealed(1, 0, &descriptor(3)).encode();
        prop_assert_eq!(Record::decode(&whole, NETWORK).is_err(), changed);
    }
}

#[test]
fn an_offer_has_one_to_five_leases() {
    assert!(descriptor(6).encode(&mut Writer::default()).is_err());
    let none = ServiceDescriptor { offers: vec![offer(0)], ..descriptor(0) };
    assert!(none.encode(&mut Writer::default()).is_err());
    for count in [0, 6] {
        let mut bytes = encoded(&descriptor(5));
        bytes[COUNT] = count;
        assert_eq!(decoded(&bytes), Err(WireError::Bad("offer leases")));
    }
}

#[test]
fn a_descriptor_names_at_most_two_routers_each_once_in_one_order() {
    let of = |leases: &[u8]| ServiceDescriptor {
        offers: leases.iter().map(|leases| offer(*leases)).collect(),
        ..descriptor(0)
    };
    for bad in [&[1, 1][..], &[2, 1], &[1, 2, 3]] {
        assert!(of(bad).encode(&mut Writer::default()).is_err(), "{bad:?}");
    }
    let two = of(&[4, 5]);
    let mut bytes = encoded(&two);
    assert_eq!(decoded(&bytes), Ok(two));
    bytes[6] = 9; // the first router's id is the greater one now
    assert_eq!(decoded(&bytes), Err(WireError::Bad("descriptor offers")));
    bytes[5] = 3;
    assert_eq!(decoded(&bytes), Err(WireError::Bad("descriptor offers")));
}

/// The longest there is has room.
#[test]
fn two_routers_with_five_gateways_each_fit_a_record() {
    let mut other = offer(5);
    other.id = OfferId::from_bytes([6; 8]);
    let both = ServiceDescriptor { offers: vec![offer(5), other], ..descriptor(0) };
    assert_eq!(encoded(&both).len(), 6 + 2 * (1_241 + 5 * Lease::LEN));
    assert!(encoded(&both).len() <= PLAIN_LEN);
    let name = Name::of_service(&key(1));
    let place = place(&name, None, NETWORK, DAY, 0).unwrap();
    assert_eq!(open(&name, None, NETWORK, &place, &sealed(1, 0, &both)), Ok(both));
}

#[test]
fn a_lease_has_the_documented_bytes() {
    let mut w = Writer::default();
    lease(9).encode(&mut w);
    let bytes = w.into_bytes();
    assert_eq!(bytes.len(), Lease::LEN);
    let field = |byte: &str, times: usize| byte.repeat(times);
    assert_eq!(
        HEXLOWER.encode(&bytes),
        field("09", 32)
            + &field("08", 32)
            + &field("0b", 32)
            + "04cb007109"
            + &field("00", 12)
            + "0fa0"
            + &field("0a", 16)
    );
    assert_eq!(Lease::decode(&mut Reader::new(&bytes)), Ok(lease(9)));
    assert_eq!(lease(9).contact(EXPIRY).id, RouterId([9; 32]));
}

#[test]
fn all_six_open_for_one_who_knows_the_name() {
    let name = Name::of_service(&key(1));
    for place in places(&name, None, NETWORK, DAY) {
        let record = sealed(1, place.index, &descriptor(3));
        assert_eq!(open(&name, None, NETWORK, &place, &record), Ok(descriptor(3)));
    }
}

/// What the six records of one set share: the format's constants, version and expiry, nothing else.
#[test]
fn six_records_are_unlinkable_in_form() {
    let mut rng = Rng::from_seed([1; 32]);
    let mut sealed = |seed, index, leases| {
        let descriptor = descriptor(leases);
        seal(&mut rng, &key(seed), None, NETWORK, DAY, index, 7, EXPIRY, &descriptor).unwrap()
    };
    for leases in [0, 1, 5] {
        let of_six: Vec<_> = (0..6).map(|index| sealed(index + 1, index, leases)).collect();
        let of_one: Vec<_> = (0..6).map(|index| sealed(1, index, leases)).collect();
        assert_eq!(of_one.iter().map(Record::key).collect::<BTreeSet<_>>().len(), PLACES);
        for set in [&of_six, &of_one] {
            let mut windows = BTreeSet::new();
            let mut count = 0;
            for record in set {
                let bytes = record.encode();
                assert_eq!(bytes.len(), 4_096);
                assert_eq!(record.payload().len(), SEALED_LEN);
                assert_eq!(bytes[0], 1);
                assert_eq!(bytes[33..47], set[0].encode()[33..47]);
                for part in [&bytes[1..33], &bytes[47..]] {
                    windows.extend(part.windows(6).map(<[u8]>::to_vec));
                    count += part.windows(6).count();
                }
            }
            assert_eq!(windows.len(), count, "no six bytes occur twice");
        }
    }
}

#[test]
fn sealing_the_same_twice_gives_unrelated_bytes() {
    let mut rng = Rng::from_seed([1; 32]);
    let mut again =
        || seal(&mut rng, &key(1), None, NETWORK, DAY, 0, 7, EXPIRY, &descriptor(3)).unwrap();
    let (one, two) = (again(), again());
    let pairs = one.payload().iter().zip(two.payload());
    assert!(pairs.filter(|(a, b)| a == b).count() < 64, "one byte in 256 by chance");
}

#[test]
fn a_storer_cannot_open_what_it_holds() {
    let record = sealed(1, 0, &descriptor(3));
    let mine = place(&Name::of_service(&key(1)), None, NETWORK, DAY, 0).unwrap();
    // Everything it has: the record, hence the blinded key. It takes that for the name's, and also
    // tries a name of its own at the right place.
    let from_record = Name::new(*record.public(), crate::service::NameKind::Service).unwrap();
    for name in [from_record, Name::of_service(&key(2))] {
        assert_eq!(open(&name, None, NETWORK, &mine, &record), Err(DescriptorError::Sealed));
        for other in places(&name, None, NETWORK, DAY) {
            assert_eq!(open(&name, None, NETWORK, &other, &record), Err(DescriptorError::Place));
            let blinded = Place { blinded: mine.blinded, ..other };
            assert_eq!(open(&name, None, NETWORK, &blinded, &record), Err(DescriptorError::Sealed));
        }
    }
}

fn access(seed: u8) -> AccessKey {
    AccessKey::from_bytes(Secret::take(&mut [seed; 32]))
}

fn sealed_for(access: &AccessKey, index: u8) -> Record {
    let mut rng = Rng::from_seed([1; 32]);
    let access = Some(access);
    seal(&mut rng, &key(1), access, NETWORK, DAY, index, 7, EXPIRY, &descriptor(3)).unwrap()
}

#[test]
fn what_is_sealed_for_a_client_lies_elsewhere_and_opens_for_that_client_alone() {
    let name = Name::of_service(&key(1));
    let (ours, theirs) = (access(2), access(3));
    let known: BTreeSet<_> = places(&name, None, NETWORK, DAY).iter().map(|it| it.key).collect();
    for place in places(&name, Some(&ours), NETWORK, DAY) {
        let record = sealed_for(&ours, place.index);
        assert!(!known.contains(&record.key()), "not where everybody would look");
        assert_eq!(open(&name, Some(&ours), NETWORK, &place, &record), Ok(descriptor(3)));
        // Whoever keeps it may know the name, and be a client as well.
        for other in [None, Some(&theirs)] {
            let opened = open(&name, other, NETWORK, &place, &record);
            assert_eq!(opened, Err(DescriptorError::Sealed));
        }
        assert_eq!(record.encode().len(), sealed(1, 0, &descriptor(3)).encode().len());
    }
    let bound = |access| offer(1).binding(&name, access, NETWORK);
    let all: BTreeSet<_> = [None, Some(&ours), Some(&theirs)].map(bound).into_iter().collect();
    assert_eq!(all.len(), 3, "each client's sessions are bound to a key of its own");
}

/// Frozen: a change here makes every private service unreachable.
#[test]
fn the_private_format_is_frozen() {
    let name = Name::of_service(&key(1));
    let place = place(&name, Some(&access(2)), NETWORK, DAY, 0).unwrap();
    let record = *blake3::hash(sealed_for(&access(2), 0).encode()).as_bytes();
    let parts = [place.blinded, place.key.0, record].map(|bytes| HEXLOWER.encode(&bytes));
    assert_eq!(parts, [PRIVATE_BLINDED, PRIVATE_KEY, PRIVATE_RECORD]);
}

const PRIVATE_BLINDED: &str = "0e181ee3366518e8cac8aa3c2d1996df33287dfc8bbeb7228582651f6cd4b37f";
const PRIVATE_KEY: &str = "8342a36ab4992cfeccba9296966c1c0e048bf9dc82a0efb0b9a7ddaf56b0c3f6";
const PRIVATE_RECORD: &str = "67b53771f705710c1e0ab7bd9b92fa5ba20b5487fc3fc791e5596c6ed77a16bf";

#[test]
fn wrong_day_index_or_network_refuses() {
    let name = Name::of_service(&key(1));
    let record = sealed(1, 2, &descriptor(3));
    let right = place(&name, None, NETWORK, DAY, 2).unwrap();
    let foreign = NetworkId([8; 32]);
    for (network, day, index) in [(NETWORK, DAY.next(), 2), (NETWORK, DAY, 3), (foreign, DAY, 2)] {
        let wrong = place(&name, None, network, day, index).unwrap();
        assert_eq!(open(&name, None, network, &wrong, &record), Err(DescriptorError::Place));
        // Were the blinding the same everywhere, the sealing alone would refuse.
        let forced = Place { blinded: right.blinded, ..wrong };
        assert_eq!(open(&name, None, network, &forced, &record), Err(DescriptorError::Sealed));
    }
    assert!(Record::decode(record.encode(), foreign).is_err());
    assert_eq!(open(&name, None, NETWORK, &right, &record), Ok(descriptor(3)));
}

/// The version is inside the sealing too: a record cannot be raised without sealing it anew.
#[test]
fn a_raised_version_opens_nothing() {
    let record = sealed(1, 0, &descriptor(3));
    let blinded = key(1).blind(&[&blinding(NETWORK, DAY, 0)]);
    let raised =
        Record::sign(&blinded, NETWORK, 8, EXPIRY, record.payload(), RecordSize::Large).unwrap();
    let name = Name::of_service(&key(1));
    let place = place(&name, None, NETWORK, DAY, 0).unwrap();
    assert_eq!(open(&name, None, NETWORK, &place, &raised), Err(DescriptorError::Sealed));
}

#[test]
fn padding_that_says_something_is_refused() {
    let name = Name::of_service(&key(1));
    let place = place(&name, None, NETWORK, DAY, 0).unwrap();
    let mut text = encoded(&descriptor(3));
    text.resize(PLAIN_LEN, 0);
    assert_eq!(open(&name, None, NETWORK, &place, &holding(&text)), Ok(descriptor(3)));
    text[PLAIN_LEN - 1] = 1;
    let refused = DescriptorError::Malformed(WireError::Bad("descriptor padding"));
    assert_eq!(open(&name, None, NETWORK, &place, &holding(&text)), Err(refused));
}

#[test]
fn a_session_is_bound_to_the_key_of_its_keys_day() {
    let name = Name::of_service(&key(1));
    let bound = offer(1).binding(&name, None, NETWORK).unwrap();
    assert_eq!(Some(bound), binding(&name, None, NETWORK, DAY));
    assert_eq!(bound, place(&name, None, NETWORK, DAY, 0).unwrap().blinded);
    assert_ne!(Some(bound), binding(&name, None, NETWORK, DAY.next()));
}

/// Frozen: a change here makes every published service unreachable.
#[test]
fn the_format_is_frozen() {
    let name = Name::of_service(&key(1));
    assert_eq!(name.to_string(), VECTOR_NAME);
    assert_eq!(DAY.start(&name).minutes(), VECTOR_START);
    let place = place(&name, None, NETWORK, DAY, 0).unwrap();
    assert_eq!(HEXLOWER.encode(&place.blinded), VECTOR_BLINDED);
    assert_eq!(HEXLOWER.encode(&place.key.0), VECTOR_KEY);
    let record = sealed(1, 0, &descriptor(3));
    assert_eq!(HEXLOWER.encode(blake3::hash(record.encode()).as_bytes()), VECTOR_RECORD);
}

const VECTOR_NAME: &str = "rkeohxlubhyzl7ks3mwtzos5olfgocn7dwkbeg7toseadnapn5ofmryb.warren";
const VECTOR_START: u32 = 28_799_596;
const VECTOR_BLINDED: &str = "4365a13ae756bf2a3291d6b46eb02ac0a05ddeec7864a3d12c99c6d76af25462";
const VECTOR_KEY: &str = "55933dc2963f720973f97e0758ff54e219bec48eb6f2ba2ca465ec9b9cadd93d";
const VECTOR_RECORD: &str = "a9d0a2808ad43286ff72e544eb87677e09696919e9b20a55bde9bf696b61e989";

#[test]
fn debug_gives_nothing_away() {
    assert_eq!(
        format!("{:?} {:?}", lease(7), descriptor(2)),
        "_ ServiceDescriptor([Offer(2 leases)])"
    );
}
