//! Tor's known answers, row by row, and what a wide block means.

use data_encoding::HEXLOWER_PERMISSIVE as HEX;
use serde_json::Value;

use super::*;

const TOR_VECTORS: &str = include_str!("../../../tests/vectors/uivplus-tor-509.json");

fn rows(name: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(TOR_VECTORS).unwrap();
    let rows = all[name].as_array().unwrap().clone();
    assert!(!rows.is_empty());
    rows
}

fn bytes(value: &Value) -> Vec<u8> {
    HEX.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

fn byte(value: &Value) -> u8 {
    array::<1>(value)[0]
}

/// `half ‖ half` where a row gives the keys of E or of F alone.
fn doubled(value: &Value) -> [u8; KEYS_LEN] {
    [bytes(value), bytes(value)].concat().try_into().unwrap()
}

/// One hop's state as the rows give it: (keys, nonce, previous tag).
struct State<C> {
    cipher: C,
    nonce: [u8; TAG_LEN],
    previous: [u8; TAG_LEN],
}

impl<C> State<C> {
    fn of(value: &Value, new: fn(&[u8; KEYS_LEN]) -> C) -> Self {
        Self { cipher: new(&array(&value[0])), nonce: array(&value[1]), previous: array(&value[2]) }
    }
}

/// Schedules cannot be compared; what they encrypt can.
fn same_keys<C>(schedule: &Schedule<C>, keys: &[u8; KEYS_LEN]) -> bool {
    let expected = Schedule::<Aes128Enc>::new(keys);
    let tweak = Tweak { previous: &[7; 16], command: 7 };
    let mut ours = [0; 64];
    let mut theirs = [0; 64];
    schedule.apply_f(TOR, &[7; 16], 0, &mut ours);
    expected.apply_f(TOR, &[7; 16], 0, &mut theirs);
    schedule.mask(tweak, &[7; 493]) == expected.mask(tweak, &[7; 493]) && ours == theirs
}

#[test]
fn e_gives_the_published_answers() {
    for row in rows("ET_TEST_VECTORS") {
        let keys = doubled(&row[1]);
        let tweak = bytes(&row[2]);
        let (previous, rest) = tweak.split_first_chunk().unwrap();
        let (command, body) = rest.split_first().unwrap();
        let tweak = Tweak { previous, command: *command };
        let block = Block::from(array::<16>(&row[3]));
        let schedule = Schedule::<Aes128Enc>::new(&keys);
        let mask = schedule.mask(tweak, body);
        let mut out = xor(&block, &mask);
        if row[0].as_bool().unwrap() {
            schedule.e.encrypt_block(&mut out);
        } else {
            Schedule::<Aes128Dec>::new(&keys).e.decrypt_block(&mut out);
        }
        assert_eq!(xor(&out, &mask)[..], bytes(&row[4]));
    }
}

#[test]
fn f_gives_the_published_answers() {
    for row in rows("PRF_TEST_VECTORS") {
        let schedule = Schedule::<Aes128Enc>::new(&doubled(&row[0]));
        let first = if row[1] == 0 { 0 } else { TOR.update_block };
        let expected = bytes(&row[3]);
        let mut out = vec![0; expected.len()];
        schedule.apply_f(TOR, &array(&row[2]), first, &mut out);
        assert_eq!(out, expected);
    }
}

#[test]
fn the_wide_block_gives_the_published_answers() {
    for row in rows("UIV_TEST_VECTORS") {
        let keys = array(&row[1]);
        let tweak = bytes(&row[2]);
        let (previous, command) = tweak.split_first_chunk().unwrap();
        let tweak = Tweak { previous, command: command[0] };
        let (mut left, mut right) = (array(&row[3]), bytes(&row[4]));
        if row[0].as_bool().unwrap() {
            Encryptor::new(&keys).encrypt(TOR, tweak, &mut left, &mut right);
        } else {
            Decryptor::new(&keys).decrypt(TOR, tweak, &mut left, &mut right);
        }
        assert_eq!(left[..], bytes(&row[5][0]));
        assert_eq!(right, bytes(&row[5][1]));
    }
}

#[test]
fn update_gives_the_published_answers() {
    for row in rows("UIV_UPDATE_TEST_VECTORS") {
        let update = Schedule::<Aes128Enc>::new(&array(&row[0])).update(TOR, &array(&row[1]));
        assert_eq!(update.keys[..], bytes(&row[2][0]));
        assert_eq!(update.nonce[..], bytes(&row[2][1]));
    }
}

#[test]
fn a_relay_gives_the_published_answers() {
    for row in rows("CGO_RELAY_TEST_VECTORS") {
        let inbound = row[0].as_bool().unwrap();
        let mut state = State::of(&row[1], Encryptor::new);
        let (mut tag, mut body) = (array(&row[3]), bytes(&row[4]));
        let tweak = Tweak { previous: &state.previous, command: byte(&row[2]) };
        state.cipher.encrypt(TOR, tweak, &mut tag, &mut body);
        state.previous = tag;
        if !inbound && tag == state.nonce {
            state.cipher.update(TOR, &tag, &mut state.nonce);
        }
        let (after, out) = (&row[5][0], &row[5][1]);
        assert_eq!((&tag[..], body), (&bytes(&out[0])[..], bytes(&out[1])));
        assert!(same_keys(&state.cipher.0, &array(&after[0])));
        assert_eq!(state.nonce[..], bytes(&after[1]));
        assert_eq!(state.previous[..], bytes(&after[2]));
    }
}

#[test]
fn an_originating_relay_gives_the_published_answers() {
    for row in rows("CGO_RELAY_ORIGINATE_TEST_VECTORS") {
        let mut state = State::of(&row[0], Encryptor::new);
        let (mut tag, mut body) = (state.nonce, bytes(&row[2]));
        let tweak = Tweak { previous: &state.previous, command: byte(&row[1]) };
        state.cipher.encrypt(TOR, tweak, &mut tag, &mut body);
        state.previous = tag;
        state.cipher.update(TOR, &state.previous, &mut state.nonce);
        let (after, out) = (&row[3][0], &row[3][1]);
        assert_eq!((&tag[..], body), (&bytes(&out[0])[..], bytes(&out[1])));
        assert!(same_keys(&state.cipher.0, &array(&after[0])));
        assert_eq!(state.nonce[..], bytes(&after[1]));
        assert_eq!(state.previous[..], bytes(&after[2]));
    }
}

#[test]
fn an_originating_owner_gives_the_published_answers() {
    for row in rows("CGO_CLIENT_ORIGINATE_TEST_VECTORS") {
        let mut states: Vec<_> =
            row[0].as_array().unwrap().iter().map(|s| State::of(s, Decryptor::new)).collect();
        let target = usize::try_from(row[1].as_u64().unwrap()).unwrap() - 1;
        let command = byte(&row[2]);
        let (mut tag, mut body) = (states[target].nonce, bytes(&row[3]));
        for (hop, state) in states[..=target].iter_mut().enumerate().rev() {
            let outside = tag;
            let tweak = Tweak { previous: &state.previous, command };
            state.cipher.decrypt(TOR, tweak, &mut tag, &mut body);
            state.previous = outside;
            if hop == target {
                state.cipher.update(TOR, &outside, &mut state.nonce);
            }
        }
        let (after, out) = (row[4][0].as_array().unwrap(), &row[4][1]);
        assert_eq!((&tag[..], body), (&bytes(&out[0])[..], bytes(&out[1])));
        for (state, after) in states.iter().zip(after) {
            assert!(same_keys(&state.cipher.0, &array(&after[0])));
            assert_eq!(state.nonce[..], bytes(&after[1]));
            assert_eq!(state.previous[..], bytes(&after[2]));
        }
    }
}

/// The two streams of F never share a counter block, at both shapes.
#[test]
fn body_and_update_streams_do_not_meet() {
    for (streams, body) in [(WARREN, BODY_LEN_MAX), (TOR, 493)] {
        let update = usize::from(streams.update_block);
        assert!(body.div_ceil(16) <= update);
        assert!(update + (KEYS_LEN + TAG_LEN) / 16 <= 1 << streams.cleared_bits);
        // or-ing the first block into the cleared bits is then an addition
        assert!(update < 1 << streams.cleared_bits);
    }
}
