//! The bytes of every kind, and that there is one spelling of each clove.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::{
    id::RouterId,
    time::Wall,
    wire::{Address, RouterDescriptor},
};

fn encoded(clove: &Clove) -> Vec<u8> {
    let mut w = Writer::default();
    clove.encode(&mut w);
    w.into_bytes()
}

fn decoded(bytes: &[u8]) -> Result<Clove, WireError> {
    let mut r = Reader::new(bytes);
    let clove = Clove::decode(&mut r)?;
    r.finish().map(|()| clove)
}

pub(crate) fn contact() -> Contact {
    Contact {
        id: RouterId([1; 32]),
        link_key: [2; 32],
        address: Address::from("127.0.0.1:9000".parse::<SocketAddr>().unwrap()),
        expiry: Wall::from_minutes(7),
    }
}

fn any_record() -> impl Strategy<Value = RecordBytes> {
    (any::<bool>(), any::<u8>()).prop_map(|(large, fill)| {
        RecordBytes::new(vec![fill; if large { 4_096 } else { 2_048 }]).unwrap()
    })
}

fn any_answer() -> impl Strategy<Value = RecordAnswer> {
    prop_oneof![
        any_record().prop_map(RecordAnswer::Found),
        (1u8..).prop_map(|copies| RecordAnswer::Stored { copies }),
        Just(RecordAnswer::NotFound),
        (0..=20u8).prop_map(|left| RecordAnswer::NoRoute { left }),
        (0..=60u16).prop_map(|retry_s| RecordAnswer::Busy { retry_s }),
        (0..=180u16).prop_map(|until_s| RecordAnswer::RecentlyFailed { until_s }),
        Just(RecordAnswer::Stale),
    ]
}

fn any_block() -> impl Strategy<Value = Block> {
    any::<u8>().prop_map(|fill| Block::copy_from(&vec![fill; BLOCK_LEN]).unwrap())
}

fn any_class() -> impl Strategy<Value = Class> {
    prop_oneof![Just(Class::Interactive), Just(Class::Bulk)]
}

pub(crate) fn any_clove() -> impl Strategy<Value = Clove> {
    let splice = || (1u32..).prop_map(SpliceId);
    let sealed = (any::<[u8; 32]>(), any::<[u8; 32]>()).prop_map(|(a, b)| {
        let mut sealed = [0; SEALED_LEASE_LEN];
        sealed[..32].copy_from_slice(&a);
        sealed[32..64].copy_from_slice(&b);
        sealed
    });
    prop_oneof![
        (any::<u32>(), any::<[u8; 32]>())
            .prop_map(|(request, key)| Clove::RecordGet { request, key: Key(key) }),
        (any::<u32>(), any_record())
            .prop_map(|(request, record)| Clove::RecordPut { request, record }),
        (any::<u32>(), any::<[u8; 32]>(), any::<u64>()).prop_map(|(request, key, above)| {
            Clove::RecordWatch { request, watch: Watch { key: Key(key), above } }
        }),
        (any::<u32>(), any::<u8>(), any_answer()).prop_map(|(request, asked, answer)| {
            Clove::RecordAnswer { request, asked, answer }
        }),
        (any::<u32>(), any_class(), any::<[u8; 32]>()).prop_map(|(request, class, address)| {
            Clove::BlockGet { request, class, address: BlockAddress(address) }
        }),
        (any::<u32>(), any_class(), any_block())
            .prop_map(|(request, class, block)| Clove::BlockPut { request, class, block }),
        (any::<u32>(), any::<u8>(), any_block(), any_answer(), any::<bool>()).prop_map(
            |(request, asked, block, answer, found)| {
                let other = answer.map(|_| None);
                let answer = if found { Answer::Found(block) } else { other };
                Clove::BlockAnswer { request, asked, answer }
            }
        ),
        (any::<u32>(), any::<u64>()).prop_map(|(request, location)| Clove::RouterFind {
            request,
            location: Location(location)
        }),
        (any::<u32>(), any::<u8>(), 1..=RouterDescriptor::LEN_MAX, any_answer(), any::<bool>())
            .prop_map(|(request, asked, len, answer, found)| {
                let router = DescriptorBytes::new(vec![asked; len]).unwrap();
                let other = answer.map(|_| None);
                let answer = if found { Answer::Found(router) } else { other };
                Clove::RouterAnswer { request, asked, answer }
            }),
        (any::<u32>(), 0..=EFFORT_MAX, any::<u64>()).prop_map(|(request, effort, nonce)| {
            Clove::PutWork { request, effort, nonce: if effort == 0 { 0 } else { nonce } }
        }),
        (any::<u32>(), any::<[u8; 16]>(), any::<bool>(), 1..=EFFORT_MAX).prop_map(
            |(request, seed, paid, effort)| {
                let puts = if paid { crate::garlic::PUTS_PER_WORK } else { 0 };
                Clove::PutPrice { request, price: Price { seed, puts, effort } }
            }
        ),
        (splice(), sealed).prop_map(|(splice, sealed)| Clove::SpliceOpen {
            splice,
            contact: contact(),
            sealed
        }),
        splice().prop_map(|splice| Clove::SpliceOpened { splice }),
        splice().prop_map(|splice| Clove::SpliceClosed { splice }),
        (splice(), prop::collection::vec(any::<u8>(), 1..=DATA_MAX))
            .prop_map(|(splice, data)| Clove::SpliceData { splice, data }),
        (splice(), 1u16..=512)
            .prop_map(|(splice, n)| Clove::SpliceCredit { splice, cells: 16 * n }),
        splice().prop_map(|splice| Clove::SpliceIncoming { splice }),
        (any::<u32>(), any::<[u8; 16]>(), 1u16.., 1u16..).prop_map(
            |(request, lease, per_second, burst)| {
                Clove::LeaseRequest { request, lease, rate: Rate { per_second, burst } }
            }
        ),
        (any::<u16>(), any::<u32>())
            .prop_map(|(waiting, effort)| Clove::LeaseCrowd(Crowd { waiting, effort })),
        (any::<u32>(), any::<[u8; 32]>())
            .prop_map(|(request, splice_key)| Clove::LeaseGranted { request, splice_key }),
        any::<u32>().prop_map(|request| Clove::LeaseRefused { request }),
        any::<u32>().prop_map(|request| Clove::Probe { request }),
        any::<u32>().prop_map(|request| Clove::Probed { request }),
    ]
}

proptest! {
    #[test]
    fn decode_undoes_encode(clove in any_clove()) {
        prop_assert_eq!(decoded(&encoded(&clove)), Ok(clove));
    }

    /// Heads and the first fields are where two spellings would hide; the rest is contents.
    #[test]
    fn no_two_byte_strings_mean_the_same_clove(
        clove in any_clove(), at: prop::sample::Index, with: u8,
    ) {
        let mut bytes = encoded(&clove);
        let head = bytes.len().min(10);
        let at = if at.index(2) == 0 { at.index(head) } else { at.index(bytes.len()) };
        bytes[at] = with;
        if let Ok(other) = decoded(&bytes) {
            prop_assert_eq!(encoded(&other), bytes);
        }
    }

    #[test]
    fn a_truncated_or_longer_clove_is_refused(clove in any_clove(), cut: prop::sample::Index) {
        let mut bytes = encoded(&clove);
        prop_assert!(decoded(&bytes[..cut.index(bytes.len())]).is_err());
        bytes.push(0);
        prop_assert!(decoded(&bytes).is_err());
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0u8..40) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        let _ = decoded(&bytes);
    }

    #[test]
    fn no_clove_is_longer_than_the_bound(clove in any_clove()) {
        prop_assert!(encoded(&clove).len() <= CLOVE_MAX);
    }
}

#[test]
fn cloves_have_the_documented_bytes() {
    let splice = SpliceId(0x0102_0304);
    let request = 0x0a0b_0c0d;
    let vectors: [(Clove, &[u8]); 16] = [
        (
            Clove::RecordAnswer { request, asked: 2, answer: RecordAnswer::Stored { copies: 3 } },
            &[3, 0, 7, 10, 11, 12, 13, 2, 1, 3],
        ),
        (
            Clove::RecordAnswer { request, asked: 2, answer: RecordAnswer::NotFound },
            &[3, 0, 6, 10, 11, 12, 13, 2, 2],
        ),
        (
            Clove::RecordAnswer { request, asked: 2, answer: RecordAnswer::NoRoute { left: 9 } },
            &[3, 0, 7, 10, 11, 12, 13, 2, 3, 9],
        ),
        (
            Clove::RecordAnswer { request, asked: 2, answer: RecordAnswer::Busy { retry_s: 60 } },
            &[3, 0, 8, 10, 11, 12, 13, 2, 4, 0, 60],
        ),
        (
            Clove::RecordAnswer {
                request,
                asked: 2,
                answer: RecordAnswer::RecentlyFailed { until_s: 180 },
            },
            &[3, 0, 8, 10, 11, 12, 13, 2, 5, 0, 180],
        ),
        (
            Clove::RecordAnswer { request, asked: 2, answer: RecordAnswer::Stale },
            &[3, 0, 6, 10, 11, 12, 13, 2, 6],
        ),
        (Clove::SpliceOpened { splice }, &[17, 0, 4, 1, 2, 3, 4]),
        (Clove::SpliceClosed { splice }, &[18, 0, 4, 1, 2, 3, 4]),
        (Clove::SpliceData { splice, data: b"hi".to_vec() }, &[19, 0, 6, 1, 2, 3, 4, b'h', b'i']),
        (Clove::SpliceCredit { splice, cells: 272 }, &[20, 0, 6, 1, 2, 3, 4, 1, 16]),
        (Clove::SpliceIncoming { splice }, &[21, 0, 4, 1, 2, 3, 4]),
        (Clove::LeaseRefused { request }, &[34, 0, 4, 10, 11, 12, 13]),
        (Clove::Probe { request }, &[7, 0, 4, 10, 11, 12, 13]),
        (Clove::Probed { request }, &[8, 0, 4, 10, 11, 12, 13]),
        (
            Clove::RouterFind { request, location: Location(258) },
            &[12, 0, 12, 10, 11, 12, 13, 0, 0, 0, 0, 0, 0, 1, 2],
        ),
        (
            Clove::RouterAnswer { request, asked: 2, answer: Answer::NotFound },
            &[13, 0, 6, 10, 11, 12, 13, 2, 2],
        ),
    ];
    for (clove, bytes) in vectors {
        assert_eq!(encoded(&clove), bytes, "{clove:?}");
        assert_eq!(decoded(bytes), Ok(clove));
    }
}

#[test]
fn longer_cloves_have_the_documented_bytes() {
    let request = 0x0a0b_0c0d;
    let with = |head: &[u8], rest: &[u8]| [head, &[10, 11, 12, 13], rest].concat();
    let get = Clove::RecordGet { request, key: Key([5; 32]) };
    assert_eq!(encoded(&get), with(&[1, 0, 36], &[5; 32]));
    let watch = Clove::RecordWatch { request, watch: Watch { key: Key([5; 32]), above: 258 } };
    let above = [0, 0, 0, 0, 0, 0, 1, 2];
    assert_eq!(encoded(&watch), with(&[9, 0, 44], &[&[5; 32][..], &above].concat()));
    let record = RecordBytes::new(vec![6; 2_048]).unwrap();
    let put = Clove::RecordPut { request, record: record.clone() };
    assert_eq!(encoded(&put), with(&[2, 8, 4], &[6; 2_048]));
    let found = Clove::RecordAnswer { request, asked: 2, answer: RecordAnswer::Found(record) };
    assert_eq!(encoded(&found), with(&[3, 8, 6], &[&[2, 0][..], &[6; 2_048]].concat()));
    let get = Clove::BlockGet { request, class: Class::Bulk, address: BlockAddress([5; 32]) };
    assert_eq!(encoded(&get), with(&[4, 0, 37], &[&[1][..], &[5; 32]].concat()));
    let block = Block::copy_from(&vec![6; BLOCK_LEN]).unwrap();
    let put = Clove::BlockPut { request, class: Class::Interactive, block: block.clone() };
    assert_eq!(encoded(&put), with(&[5, 128, 5], &[&[0][..], &vec![6; BLOCK_LEN]].concat()));
    let found = Clove::BlockAnswer { request, asked: 2, answer: Answer::Found(block) };
    assert_eq!(encoded(&found), with(&[6, 128, 6], &[&[2, 0][..], &vec![6; BLOCK_LEN]].concat()));
    let work = Clove::PutWork { request, effort: 258, nonce: 7 };
    assert_eq!(encoded(&work), with(&[10, 0, 16], &[0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 7]));
    let price = Clove::PutPrice { request, price: Price { seed: [4; 16], puts: 32, effort: 258 } };
    assert_eq!(encoded(&price), with(&[11, 0, 26], &[&[4; 16][..], &[0, 32, 0, 0, 1, 2]].concat()));
    let router = DescriptorBytes::new(vec![6; 1_500]).unwrap();
    let found = Clove::RouterAnswer { request, asked: 2, answer: Answer::Found(router) };
    assert_eq!(encoded(&found), with(&[13, 5, 226], &[&[2, 0][..], &[6; 1_500]].concat()));
    let ask = Clove::LeaseRequest { request, lease: [7; 16], rate: Rate::default() };
    assert_eq!(encoded(&ask), with(&[32, 0, 24], &[&[7; 16][..], &[0, 25, 0, 200]].concat()));
    let crowd = Clove::LeaseCrowd(Crowd { waiting: 258, effort: 7 });
    assert_eq!(encoded(&crowd), [35, 0, 6, 1, 2, 0, 0, 0, 7]);
    let granted = Clove::LeaseGranted { request, splice_key: [8; 32] };
    assert_eq!(encoded(&granted), with(&[33, 0, 36], &[8; 32]));

    let open = Clove::SpliceOpen { splice: SpliceId(9), contact: contact(), sealed: [3; 76] };
    let mut expected = vec![16, 0, 167, 0, 0, 0, 9];
    expected.extend_from_slice(&[1; 32]);
    expected.extend_from_slice(&[2; 32]);
    expected.extend_from_slice(&[4, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    expected.extend_from_slice(&[0x23, 0x28, 0, 0, 0, 7]);
    expected.extend_from_slice(&[3; 76]);
    assert_eq!(encoded(&open), expected);
}

#[test]
fn what_no_encoder_writes_is_refused() {
    for bytes in [
        &[0, 0, 0][..],                  // padding is no clove
        &[7, 0, 0],                      // unknown kind
        &[17, 0, 4, 0, 0, 0, 0],         // splice 0
        &[19, 0, 4, 0, 0, 0, 1],         // no data
        &[20, 0, 6, 0, 0, 0, 1, 0, 0],   // a grant of nothing
        &[20, 0, 6, 0, 0, 0, 1, 0, 17],  // not a multiple of 16
        &[20, 0, 6, 0, 0, 0, 1, 32, 16], // more than the cap
        &[3, 0, 7, 0, 0, 0, 1, 2, 2, 0], // an answer with something after it
        &[3, 0, 6, 0, 0, 0, 1, 2, 7],    // unknown code
        &[3, 0, 7, 0, 0, 0, 1, 2, 1, 0], // stored nowhere
        &[13, 0, 6, 0, 0, 0, 1, 2, 0],   // found, and nothing
    ] {
        assert!(decoded(bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn work_is_worth_what_it_may_be_and_who_only_asks_shows_none() {
    for (effort, nonce, fits) in
        [(0, 0, true), (0, 9, false), (100_000, 9, true), (100_001, 9, false)]
    {
        let work = Clove::PutWork { request: 1, effort, nonce };
        assert_eq!(decoded(&encoded(&work)).is_ok(), fits, "{effort} {nonce}");
    }
}

/// The property above draws the interesting bytes too rarely: here all of them.
#[test]
fn no_changed_head_or_first_field_makes_a_second_spelling() {
    let (splice, request) = (SpliceId(1), 2);
    let answer = |answer| Clove::RecordAnswer { request, asked: 2, answer };
    for clove in [
        answer(RecordAnswer::Stored { copies: 1 }),
        answer(RecordAnswer::NotFound),
        answer(RecordAnswer::NoRoute { left: 1 }),
        answer(RecordAnswer::Busy { retry_s: 0 }),
        answer(RecordAnswer::RecentlyFailed { until_s: 6 }),
        answer(RecordAnswer::Stale),
        answer(RecordAnswer::Found(RecordBytes::new(vec![0; 2_048]).unwrap())),
        Clove::SpliceOpen { splice, contact: contact(), sealed: [0; 76] },
        Clove::SpliceClosed { splice },
        Clove::SpliceData { splice, data: vec![0; 2] },
        Clove::SpliceCredit { splice, cells: 16 },
        Clove::LeaseRequest { request, lease: [0; 16], rate: Rate { per_second: 1, burst: 1 } },
        Clove::LeaseGranted { request, splice_key: [0; 32] },
        Clove::PutWork { request, effort: 0, nonce: 0 },
        Clove::PutPrice { request, price: Price { seed: [0; 16], puts: 0, effort: 1 } },
    ] {
        let good = encoded(&clove);
        for at in 0..good.len().min(12) {
            for with in 0..=255 {
                let mut bytes = good.clone();
                bytes[at] = with;
                if let Ok(other) = decoded(&bytes) {
                    assert_eq!(encoded(&other), bytes, "{clove:?} byte {at} = {with}");
                }
            }
        }
    }
}

#[test]
fn debug_shows_the_kind_alone() {
    let clove = Clove::SpliceData { splice: SpliceId(1), data: b"secret".to_vec() };
    assert_eq!(format!("{clove:?}"), "SpliceData(..)");
}
