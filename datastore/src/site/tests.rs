//! Who opens what of a site, and what makes a fork.

use data_encoding::HEXLOWER;
use proptest::prelude::*;
use warren_overlay::crypto::secret::Secret;

use super::*;

const NETWORK: NetworkId = NetworkId([9; 32]);

fn site(seed: u8) -> (SiteWriteCap, Name, SiteVerifyCap) {
    let cap = SiteWriteCap::from_seed(Secret::take(&mut [seed; 32]));
    let name = cap.name().unwrap();
    (cap, name, SiteVerifyCap::of(&name).unwrap())
}

fn file(byte: u8) -> ReadCap {
    ReadCap::take(&mut [byte; 64])
}

fn bytes(cap: &ReadCap) -> [u8; 64] {
    *cap.to_bytes().expose_secret()
}

fn opened(verify: &SiteVerifyCap, records: &[Record]) -> Vec<SiteRecord> {
    let places = places(verify, NETWORK);
    assert_eq!(places.len(), usize::from(SITE_COPIES));
    let pairs = places.iter().zip(records);
    pairs.map(|(place, record)| SiteRecord::open(verify, place, record).unwrap()).collect()
}

#[test]
fn records_lie_where_who_may_verify_looks_and_say_who_may_read_what() {
    let (write, name, verify) = site(1);
    let expiry = Wall::from_minutes(99);
    let records = publish(&write, NETWORK, 7, expiry, &file(3)).unwrap();
    for (place, record) in places(&verify, NETWORK).iter().zip(&records) {
        assert_eq!(place.key, record.key());
        let checked = Record::decode(record.encode(), NETWORK).unwrap();
        let opened = SiteRecord::open(&verify, place, &checked).unwrap();
        assert_eq!(opened.number(), 7);
        assert_eq!(opened.file.roots(), file(3).verify().roots());
        assert_eq!(bytes(&opened.read(&name).unwrap()), [3; 64]);
        // Neither another name, nor another place, nor who knows only where it lies.
        assert!(opened.read(&site(2).1).is_err());
        assert!(SiteRecord::open(&site(2).2, place, &checked).is_err());
        let other = SitePlace { public: [1; 32], ..*place };
        assert!(SiteRecord::open(&verify, &other, &checked).is_err());
    }
    let keys: std::collections::BTreeSet<_> = records.iter().map(Record::key).collect();
    assert_eq!(keys.len(), 3);
    let elsewhere = places(&verify, NetworkId([8; 32]));
    assert!(elsewhere.iter().all(|place| !keys.contains(&place.key)));
    assert!(records[0].payload() != records[1].payload(), "nothing that links them");
}

#[test]
fn publishing_again_is_no_fork_and_two_files_as_one_version_are() {
    let (write, _, verify) = site(1);
    let at = |number, byte| {
        let records = publish(&write, NETWORK, number, Wall::from_minutes(9), &file(byte));
        opened(&verify, &records.unwrap())
    };
    let mut found = at(7, 3);
    found.extend(at(7, 3));
    found.extend(at(6, 2));
    let (best, forked) = latest(&found).unwrap();
    assert_eq!((best.number(), forked), (7, false));
    found.extend(at(7, 4));
    assert!(latest(&found).unwrap().1);
    found.extend(at(8, 5));
    let (best, forked) = latest(&found).unwrap();
    assert_eq!((best.number(), forked), (8, false), "what was forked is history");
    assert!(latest(&[]).is_none());
}

/// The salt follows from what is sealed: a number given twice gives two keys.
#[test]
fn no_key_seals_two_files() {
    let (write, ..) = site(1);
    let payload = |byte| {
        let records = publish(&write, NETWORK, 7, Wall::from_minutes(9), &file(byte)).unwrap();
        records[0].payload()[..SALT_LEN].to_vec()
    };
    assert_ne!(payload(3), payload(4));
    assert_eq!(payload(3), payload(3));
}

fn any_version() -> impl Strategy<Value = SiteVersion> {
    (1u64..5, any::<u32>(), "[a-z é]{0,20}", any::<u8>()).prop_map(|(number, at, label, byte)| {
        SiteVersion {
            number,
            published: Wall::from_minutes(at),
            label,
            directory: file(byte),
            previous: (number > 1).then(|| file(byte.wrapping_add(1))),
        }
    })
}

proptest! {
    #[test]
    fn decode_undoes_encode(version in any_version(), at: prop::sample::Index, with: u8) {
        let bytes = version.encode().unwrap();
        let back = SiteVersion::decode(&bytes).unwrap();
        prop_assert_eq!(back.encode().unwrap(), bytes.clone());
        prop_assert_eq!(version.children().len(), if version.number > 1 { 128 } else { 64 });
        let at = at.index(bytes.len());
        prop_assert!(SiteVersion::decode(&bytes[..at]).is_err());
        let mut other = bytes;
        other[at] = with;
        if let Ok(version) = SiteVersion::decode(&other) {
            prop_assert_eq!(version.encode().unwrap(), other);
        }
    }
}

#[test]
fn a_version_has_a_history_unless_it_is_the_first() {
    let version = |number, previous: Option<u8>, label: &str| SiteVersion {
        number,
        published: Wall::default(),
        label: label.to_owned(),
        directory: file(1),
        previous: previous.map(file),
    };
    assert!(version(1, None, "").encode().is_ok());
    for (number, previous) in [(0, None), (1, Some(2)), (2, None)] {
        assert!(version(number, previous, "").encode().is_err());
    }
    let long = "a".repeat(65);
    for label in [".", "a\nb", "a/b", &long] {
        assert!(version(1, None, label).encode().is_err());
    }
}

/// Frozen: names that people gave to others lead here.
#[test]
fn a_site_has_the_documented_places_and_bytes() {
    let (write, _, verify) = site(1);
    let places = places(&verify, NETWORK);
    let records = publish(&write, NETWORK, 1, Wall::from_minutes(9), &file(3)).unwrap();
    let hex = |bytes: &[u8]| HEXLOWER.encode(bytes);
    assert_eq!(
        [hex(&places[0].public), hex(&places[2].public), hex(records[0].payload())],
        VECTORS
    );
}

const VECTORS: [&str; 3] = [
    "ebf146bdd687a2febe36c2d94f5cc53e169f4a355a111c9f607da624e078aa80",
    "d4c1686919432c2e9bba254d129a76e15ee4d46224dd0c12dba3e8f565002149",
    "5999c8da8c4e37ce648b9a1abc0b9dcabf44e597a71d64c224faaa57b9de52b217e06fece223086e7d1f3239\
     107dda0f6a023adca6f88a7e5eb6cfe683cc13cb550db1d39e7a8b1e72ef09cb4b85be8002d4999f7678bb15\
     3b22f5e99fd169daa375b0ad741cf29b6cfc2d51c9e2885a6e4bdae0f5b604699509421f5ef9567bf1122e4f\
     845f5aa2f7998fa408a9c246129b6345f966e8208681ccd14de1baa1052ccca1803153a6c98537c44d53184a\
     c1",
];
