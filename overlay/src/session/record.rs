//! The records of one path: what one splice unit holds (docs/spec/session.md, section 4).
//!
//! Lives here: sealing and opening under a counter that cannot repeat, and the kinds of records.
//! Does not live here: where the key comes from (`resume.rs`), what the stream bytes mean
//! (`frame.rs`), what to send when (`line.rs`).
//!
//! A [`Sealer`] owns its key and its counter and cannot be cloned: no key and counter ever seal two
//! records. Everything happens in the caller's buffer; nothing is allocated.

use crate::{
    crypto::{
        aead::{Aead, TAG_LEN},
        secret::Secret,
    },
    wire::{Reader, WireError},
};

/// Most bytes of one splice unit: with the clove's header and splice id it fills one cell.
pub const UNIT_MAX: usize = 1_001;
/// One unit's bytes, to be written in place.
pub(super) type Unit = [u8; UNIT_MAX];
/// Most plaintext of one record.
pub(super) const PLAIN_MAX: usize = UNIT_MAX - TAG_LEN;
/// Most stream bytes in a data record.
#[cfg(test)]
pub(super) const DATA_MAX: usize = PLAIN_MAX - 1;
/// What an acknowledgement takes from a record's stream bytes.
pub(super) const ACK_LEN: usize = 8;
/// What sealing adds.
pub(super) const TAG: usize = TAG_LEN;
/// Bytes of a hello before its padding: kind, received, from.
const HELLO_LEN: usize = 17;

/// Records that one key may seal: 4 TiB of data, far below what AES-GCM allows with counters.
const RECORDS_MAX: u64 = 1 << 32;

const HELLO: u8 = 0;
const DATA: u8 = 1;
const ACK: u8 = 2;
const PING: u8 = 3;
const PONG: u8 = 4;
const CLOSE: u8 = 5;

/// The record is not what the other side would have sent next; the path must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(super) enum RecordError {
    /// Changed, repeated, missing or reordered: it does not authenticate under the next counter.
    #[error("record does not authenticate")]
    Unauthentic,
    /// Authentic, but no record that an encoder writes.
    #[error("malformed record")]
    Malformed(#[from] WireError),
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// The first of each side on a path.
    Hello {
        /// Bytes of the other side's stream that arrived in order.
        received: u64,
        /// Offset of the first byte that the sender will send on this path.
        from: u64,
    },
    /// The next bytes of the stream, perhaps with an acknowledgement.
    Data {
        /// Bytes of the other side's stream that arrived in order.
        received: Option<u64>,
        /// May be empty only beside an acknowledgement.
        bytes: &'a [u8],
    },
    /// Are you there?
    Ping([u8; 8]),
    /// I am: the ping's bytes.
    Pong([u8; 8]),
    /// The session is over, on purpose.
    Close,
}

impl<'a> Record<'a> {
    /// Reads an opened record.
    fn decode(plain: &'a [u8]) -> Result<Self, WireError> {
        let mut r = Reader::new(plain);
        let record = match r.u8("record kind")? {
            HELLO => {
                let hello =
                    Self::Hello { received: r.u64("hello received")?, from: r.u64("hello from")? };
                if r.rest().iter().any(|&byte| byte != 0) {
                    return Err(WireError::Bad("hello padding"));
                }
                hello
            }
            DATA if r.remaining() == 0 => return Err(WireError::Bad("empty data record")),
            DATA => Self::Data { received: None, bytes: r.rest() },
            ACK => Self::Data { received: Some(r.u64("ack")?), bytes: r.rest() },
            PING => Self::Ping(r.array("ping")?),
            PONG => Self::Pong(r.array("pong")?),
            CLOSE => Self::Close,
            _ => return Err(WireError::Bad("record kind")),
        };
        r.finish()?;
        Ok(record)
    }
}

/// Seals the records of one path and direction, each under the next counter.
#[derive(Debug)]
pub(super) struct Sealer {
    aead: Aead,
    counter: u64,
    #[cfg(test)]
    key: [u8; 32],
}

impl Sealer {
    /// Takes over a key that nothing else uses.
    #[expect(clippy::needless_pass_by_value, reason = "consumed: one key, one sealer")]
    pub(super) fn new(key: Secret<32>) -> Self {
        Self {
            aead: Aead::new(&key),
            counter: 0,
            #[cfg(test)]
            key: *key.expose_secret(),
        }
    }

    /// Seals the first `plain` bytes of `unit` where they stand and returns the unit's length.
    ///
    /// `None` if the key is worn out (the path must be closed) or `plain` is over [`PLAIN_MAX`].
    pub(super) fn seal(&mut self, unit: &mut [u8], plain: usize) -> Option<usize> {
        if self.counter >= RECORDS_MAX || plain > PLAIN_MAX {
            return None;
        }
        let (text, rest) = unit.split_at_mut_checked(plain)?;
        let tag_at = rest.first_chunk_mut::<TAG_LEN>()?;
        let counter = self.counter;
        self.counter += 1;
        #[cfg(test)]
        watch::sealed(&self.key, counter);
        *tag_at = self.aead.seal_in_place(counter, &[], text);
        Some(plain + TAG_LEN)
    }

    /// Writes and seals a hello, padded so that the unit has `len` bytes.
    pub(super) fn hello(
        &mut self,
        unit: &mut [u8],
        received: u64,
        from: u64,
        len: usize,
    ) -> Option<usize> {
        let plain = len.checked_sub(TAG_LEN)?.max(HELLO_LEN);
        let head = unit.get_mut(..plain)?;
        head.fill(0);
        head.get_mut(..1)?.copy_from_slice(&[HELLO]);
        head.get_mut(1..9)?.copy_from_slice(&received.to_be_bytes());
        head.get_mut(9..17)?.copy_from_slice(&from.to_be_bytes());
        self.seal(unit, plain)
    }

    /// Writes and seals a data record; `write` puts the stream's next bytes into what it is lent
    /// and says how many. `None` also if there was nothing to send.
    pub(super) fn data(
        &mut self,
        unit: &mut [u8],
        received: Option<u64>,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Option<usize> {
        let head = if received.is_some() { 1 + ACK_LEN } else { 1 };
        let body = unit.get_mut(head..PLAIN_MAX)?;
        let len = write(body).min(PLAIN_MAX - head);
        if let Some(received) = received {
            unit.get_mut(..1)?.copy_from_slice(&[ACK]);
            unit.get_mut(1..=ACK_LEN)?.copy_from_slice(&received.to_be_bytes());
        } else if len == 0 {
            return None;
        } else {
            unit.get_mut(..1)?.copy_from_slice(&[DATA]);
        }
        self.seal(unit, head + len)
    }

    /// Writes and seals a ping.
    pub(super) fn ping(&mut self, unit: &mut [u8], bytes: [u8; 8]) -> Option<usize> {
        self.small(unit, PING, &bytes)
    }

    /// Writes and seals the answer to a ping.
    pub(super) fn pong(&mut self, unit: &mut [u8], bytes: [u8; 8]) -> Option<usize> {
        self.small(unit, PONG, &bytes)
    }

    /// Writes and seals the end of the session.
    pub(super) fn close(&mut self, unit: &mut [u8]) -> Option<usize> {
        self.small(unit, CLOSE, &[])
    }

    fn small(&mut self, unit: &mut [u8], kind: u8, body: &[u8]) -> Option<usize> {
        let (first, rest) = unit.split_first_mut()?;
        *first = kind;
        rest.get_mut(..body.len())?.copy_from_slice(body);
        self.seal(unit, 1 + body.len())
    }
}

/// Opens the records of one path and direction, in order.
#[derive(Debug)]
pub(super) struct Opener {
    aead: Aead,
    counter: u64,
}

impl Opener {
    /// Takes over a key.
    #[expect(clippy::needless_pass_by_value, reason = "consumed: one key, one opener")]
    pub(super) fn new(key: Secret<32>) -> Self {
        Self { aead: Aead::new(&key), counter: 0 }
    }

    /// Opens the next unit where it stands.
    pub(super) fn open<'a>(&mut self, unit: &'a mut [u8]) -> Result<Record<'a>, RecordError> {
        let (text, tag) = unit.split_last_chunk_mut::<TAG_LEN>().ok_or(RecordError::Unauthentic)?;
        self.aead
            .open_in_place(self.counter, &[], text, tag)
            .map_err(|_| RecordError::Unauthentic)?;
        self.counter += 1;
        Ok(Record::decode(text)?)
    }
}

/// The instrument behind "no key and counter twice": in tests every sealing on this thread is noted.
#[cfg(test)]
pub(super) mod watch {
    use std::{cell::RefCell, collections::BTreeSet};

    thread_local! {
        static SEEN: RefCell<BTreeSet<([u8; 32], u64)>> = const { RefCell::new(BTreeSet::new()) };
    }

    /// A new network begins, which may draw the same keys as another.
    pub(in crate::session) fn forget() {
        SEEN.with_borrow_mut(BTreeSet::clear);
    }

    pub(super) fn sealed(key: &[u8; 32], counter: u64) {
        let fresh = SEEN.with_borrow_mut(|seen| seen.insert((*key, counter)));
        assert!(fresh, "a key and counter sealed two records");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rng::Rng;

    fn pair(rng: &mut Rng) -> (Sealer, Opener) {
        let mut key = rng.bytes::<32>();
        let mut copy = key;
        (Sealer::new(Secret::take(&mut key)), Opener::new(Secret::take(&mut copy)))
    }

    fn some_pair(seed: u64) -> (Sealer, Opener) {
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        let mut fresh = Rng::from_seed(bytes);
        // The watch holds for the whole thread: every test takes keys of its own.
        let mut salt = rand_salt();
        salt[..8].copy_from_slice(&fresh.bytes::<8>());
        pair(&mut Rng::from_seed(salt))
    }

    fn rand_salt() -> [u8; 32] {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut salt = [0; 32];
        salt[24..].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        salt
    }

    fn data(sealer: &mut Sealer, received: Option<u64>, bytes: &[u8]) -> Vec<u8> {
        let mut unit = [0; UNIT_MAX];
        let len = sealer
            .data(&mut unit, received, |room| {
                room[..bytes.len()].copy_from_slice(bytes);
                bytes.len()
            })
            .unwrap();
        unit[..len].to_vec()
    }

    #[test]
    fn every_kind_arrives_as_it_was_sent() {
        let (mut sealer, mut opener) = some_pair(1);
        let mut unit = [0; UNIT_MAX];
        let len = sealer.hello(&mut unit, 5, 6, UNIT_MAX).unwrap();
        assert_eq!(len, UNIT_MAX);
        assert_eq!(opener.open(&mut unit), Ok(Record::Hello { received: 5, from: 6 }));
        let mut unit = data(&mut sealer, None, b"abc");
        assert_eq!(unit.len(), 1 + 3 + 16);
        assert_eq!(opener.open(&mut unit), Ok(Record::Data { received: None, bytes: b"abc" }));
        let mut unit = data(&mut sealer, Some(9), b"");
        assert_eq!(opener.open(&mut unit), Ok(Record::Data { received: Some(9), bytes: b"" }));
        let mut unit = [0; UNIT_MAX];
        let len = sealer.ping(&mut unit, [1; 8]).unwrap();
        assert_eq!(opener.open(&mut unit[..len]), Ok(Record::Ping([1; 8])));
        let len = sealer.pong(&mut unit, [2; 8]).unwrap();
        assert_eq!(opener.open(&mut unit[..len]), Ok(Record::Pong([2; 8])));
        let len = sealer.close(&mut unit).unwrap();
        assert_eq!(opener.open(&mut unit[..len]), Ok(Record::Close));
    }

    #[test]
    fn nothing_to_send_uses_no_counter() {
        let (mut sealer, mut opener) = some_pair(2);
        assert_eq!(sealer.data(&mut [0; UNIT_MAX], None, |_| 0), None);
        let mut unit = data(&mut sealer, None, b"x");
        assert!(opener.open(&mut unit).is_ok());
    }

    #[test]
    fn a_repeat_a_gap_and_a_swap_are_refused() {
        let (mut sealer, mut opener) = some_pair(3);
        let units: Vec<_> = (0..4u8).map(|n| data(&mut sealer, None, &[n])).collect();
        assert!(opener.open(&mut units[0].clone()).is_ok());
        assert_eq!(opener.open(&mut units[0].clone()), Err(RecordError::Unauthentic));
        assert_eq!(opener.open(&mut units[2].clone()), Err(RecordError::Unauthentic));
        assert!(opener.open(&mut units[1].clone()).is_ok());
    }

    proptest! {
        #[test]
        fn one_changed_bit_is_refused(
            bytes in prop::collection::vec(any::<u8>(), 1..DATA_MAX), at: prop::sample::Index, bit in 0..8u8,
        ) {
            let (mut sealer, mut opener) = some_pair(4);
            let mut unit = data(&mut sealer, None, &bytes);
            let at = at.index(unit.len());
            unit[at] ^= 1 << bit;
            prop_assert_eq!(opener.open(&mut unit), Err(RecordError::Unauthentic));
        }

        #[test]
        fn hostile_plaintext_is_a_record_or_an_error(plain in prop::collection::vec(any::<u8>(), 0..60)) {
            let (mut sealer, mut opener) = some_pair(5);
            let mut unit = [0; UNIT_MAX];
            unit[..plain.len()].copy_from_slice(&plain);
            let len = sealer.seal(&mut unit, plain.len()).unwrap();
            let _ = opener.open(&mut unit[..len]);
        }

        #[test]
        fn hostile_units_are_refused(mut unit in prop::collection::vec(any::<u8>(), 0..60)) {
            let (_, mut opener) = some_pair(6);
            prop_assert!(opener.open(&mut unit).is_err());
        }
    }

    #[test]
    fn a_worn_out_key_seals_nothing() {
        let (mut sealer, _) = some_pair(7);
        sealer.counter = RECORDS_MAX;
        assert_eq!(sealer.ping(&mut [0; UNIT_MAX], [0; 8]), None);
    }

    #[test]
    #[should_panic(expected = "a key and counter sealed two records")]
    fn the_instrument_sees_a_repeat() {
        let (mut sealer, _) = some_pair(8);
        sealer.ping(&mut [0; UNIT_MAX], [0; 8]).unwrap();
        sealer.counter = 0;
        sealer.ping(&mut [0; UNIT_MAX], [0; 8]).unwrap();
    }
}
