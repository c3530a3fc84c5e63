//! Records: the small signed, versioned, expiring things that the ring keeps.
//!
//! Lives here: a record's bytes and its checks. Does not live here: what a payload means
//! (`service/descriptor.rs`), how records are routed (`ring/`), who holds them (crate datastore).
//!
//! All records have one of two sizes, so that nobody who relays one sees how much it says; most
//! payloads are sealed to those who know a name (PROTOCOL P10).

use std::{fmt, sync::Arc};

use crate::{
    crypto::{blind::BlindedKey, kdf, sign},
    id::{Key, NetworkId},
    time::Wall,
    wire::{Reader, WireError, Writer},
};

/// Signature context of records.
const CONTEXT: &str = "warren record 1";
/// Hash context of record keys.
const KEY_CONTEXT: &str = "warren record key 1";
/// The only format there is.
const VERSION: u8 = 1;
/// Bytes before the payload.
const HEAD_LEN: usize = 1 + 32 + 8 + 4 + 2;
/// Bytes of head and signature together: what a size loses.
const FRAME_LEN: usize = HEAD_LEN + sign::SIGNATURE_LEN;

/// How long a record is, encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordSize {
    /// 2,048 bytes; payload up to 1,937.
    Small,
    /// 4,096 bytes; payload up to 3,985. Service descriptors always take this one.
    Large,
}

impl RecordSize {
    /// Encoded length in bytes.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Small => 2_048,
            Self::Large => 4_096,
        }
    }

    /// Longest payload in bytes.
    pub const fn payload_max(self) -> usize {
        self.bytes() - FRAME_LEN
    }

    const fn of(len: usize) -> Option<Self> {
        match len {
            2_048 => Some(Self::Small),
            4_096 => Some(Self::Large),
            _ => None,
        }
    }
}

/// A record, verified (spec/record.md). Cheap to clone: clones share the bytes.
///
/// | bytes | field |
/// |-------|-------|
/// | 1     | format version, 1 |
/// | 32    | public key, blinded (Ed25519) |
/// | 8     | version: only a higher one replaces |
/// | 4     | expiry, minutes since the Unix epoch |
/// | 2     | payload length n |
/// | n     | payload |
/// | ...   | zeros up to 64 bytes before the end |
/// | 64    | signature over network id and all before it |
///
/// All of it is exactly 2,048 or 4,096 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    bytes: Arc<[u8]>,
    public: [u8; 32],
    version: u64,
    expiry: Wall,
    payload_len: u16,
}

impl Record {
    /// Longest encoding in bytes.
    pub const LEN_MAX: usize = RecordSize::Large.bytes();

    /// Signs `payload` as the owner of `key`.
    ///
    /// # Errors
    /// When the payload is longer than [`RecordSize::payload_max`].
    pub fn sign(
        key: &BlindedKey,
        network: NetworkId,
        version: u64,
        expiry: Wall,
        payload: &[u8],
        size: RecordSize,
    ) -> Result<Self, WireError> {
        let sign = |message: &[u8]| key.sign(CONTEXT, message);
        Self::sign_with(key.public(), sign, network, version, expiry, payload, size)
    }

    fn sign_with(
        public: [u8; 32],
        sign: impl FnOnce(&[u8]) -> [u8; 64],
        network: NetworkId,
        version: u64,
        expiry: Wall,
        payload: &[u8],
        size: RecordSize,
    ) -> Result<Self, WireError> {
        if payload.len() > size.payload_max() {
            return Err(WireError::Bad("record payload length"));
        }
        let payload_len =
            u16::try_from(payload.len()).map_err(|_| WireError::Bad("record payload length"))?;
        let mut w = Writer::with_capacity(size.bytes());
        w.u8(VERSION).bytes(&public).u64(version).u32(expiry.minutes());
        w.u16(payload_len).bytes(payload);
        let mut bytes = w.into_bytes();
        bytes.resize(size.bytes() - sign::SIGNATURE_LEN, 0);
        let signature = sign(&signed_bytes(network, &bytes));
        bytes.extend_from_slice(&signature);
        Ok(Self { bytes: bytes.into(), public, version, expiry, payload_len })
    }

    /// Reads a record of `network` and checks its signature. Does not look at the clock.
    ///
    /// # Errors
    /// On any length but 2,048 and 4,096, any other spelling than `sign`'s, and a bad signature.
    pub fn decode(bytes: &[u8], network: NetworkId) -> Result<Self, WireError> {
        let record = Self::restore(bytes)?;
        let (body, signature) =
            bytes.split_last_chunk().ok_or(WireError::Bad("record signature"))?;
        if !sign::verify_key(&record.public, CONTEXT, &signed_bytes(network, body), signature) {
            return Err(WireError::Bad("record signature"));
        }
        Ok(record)
    }

    /// Reads a record that this program decoded and kept itself: checks its form, **not its
    /// signature**. Only for bytes whose integrity something else vouches for (a store's checksum).
    ///
    /// # Errors
    /// On any length but 2,048 and 4,096, and any other spelling than `sign`'s.
    pub fn restore(bytes: &[u8]) -> Result<Self, WireError> {
        let size = RecordSize::of(bytes.len()).ok_or(WireError::Bad("record length"))?;
        let mut r = Reader::new(bytes);
        if r.u8("record format")? != VERSION {
            return Err(WireError::Bad("record format"));
        }
        let public = r.array("record key")?;
        let version = r.u64("record version")?;
        let expiry = Wall::from_minutes(r.u32("record expiry")?);
        let payload_len = r.u16("record payload length")?;
        let payload_end = usize::from(payload_len);
        let padding = size
            .payload_max()
            .checked_sub(payload_end)
            .ok_or(WireError::Bad("record payload length"))?;
        r.slice(payload_end, "record payload")?;
        if r.slice(padding, "record padding")?.iter().any(|byte| *byte != 0) {
            return Err(WireError::Bad("record padding"));
        }
        r.slice(sign::SIGNATURE_LEN, "record signature")?;
        r.finish()?;
        Ok(Self { bytes: bytes.into(), public, version, expiry, payload_len })
    }

    /// The bytes that `decode` reads: 2,048 or 4,096.
    pub fn encode(&self) -> &[u8] {
        &self.bytes
    }

    /// Where the ring keeps it: the hash of its public key.
    pub fn key(&self) -> Key {
        Self::key_of(&self.public)
    }

    /// The key of whatever is signed by `public`.
    pub fn key_of(public: &[u8; 32]) -> Key {
        Key(kdf::hash(KEY_CONTEXT, &[public]))
    }

    /// The (blinded) public key that signed it.
    pub const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// Its version; only a higher one replaces it.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// When it stops being kept and believed.
    pub const fn expiry(&self) -> Wall {
        self.expiry
    }

    /// What it says.
    pub fn payload(&self) -> &[u8] {
        let end = HEAD_LEN + usize::from(self.payload_len);
        self.bytes.get(HEAD_LEN..end).unwrap_or_default()
    }

    /// Whether it is still good at `wall`.
    pub const fn is_current(&self, wall: Wall) -> bool {
        wall.minutes() < self.expiry.minutes()
    }
}

fn signed_bytes(network: NetworkId, body: &[u8]) -> Vec<u8> {
    [network.as_bytes(), body].concat()
}

/// Mute: its key follows from somebody's name.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Record(_)")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::{secret::Secret, sign::IdentityKey};

    pub(crate) const NETWORK: NetworkId = NetworkId([9; 32]);

    /// A record of the owner `seed`. (A plain key signs like a blinded one.)
    pub(crate) fn record_in(
        network: NetworkId,
        seed: u8,
        version: u64,
        expiry: u32,
        payload: &[u8],
        size: RecordSize,
    ) -> Record {
        let key = IdentityKey::from_seed(Secret::take(&mut [seed; 32]));
        let sign = |message: &[u8]| key.sign(CONTEXT, message);
        let expiry = Wall::from_minutes(expiry);
        Record::sign_with(key.id().0, sign, network, version, expiry, payload, size).unwrap()
    }

    fn record(seed: u8, version: u64, payload: &[u8], size: RecordSize) -> Record {
        record_in(NETWORK, seed, version, 77, payload, size)
    }

    fn any_size() -> impl Strategy<Value = RecordSize> {
        prop_oneof![Just(RecordSize::Small), Just(RecordSize::Large)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn decode_undoes_encode(
            seed: u8, version: u64, size in any_size(),
            payload in prop::collection::vec(any::<u8>(), 0..1_937),
        ) {
            let it = record(seed, version, &payload, size);
            prop_assert_eq!(it.encode().len(), size.bytes());
            prop_assert_eq!(it.payload(), &payload[..]);
            prop_assert_eq!(Record::decode(it.encode(), NETWORK), Ok(it));
        }

        #[test]
        fn any_changed_byte_is_refused(at: prop::sample::Index, with in 1u8..) {
            let mut bytes = record(1, 5, b"hello", RecordSize::Small).encode().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= with;
            prop_assert!(Record::decode(&bytes, NETWORK).is_err());
        }

        #[test]
        fn a_truncated_record_is_refused(at: prop::sample::Index, size in any_size()) {
            let bytes = record(1, 5, b"hello", size).encode().to_vec();
            prop_assert!(Record::decode(&bytes[..at.index(bytes.len())], NETWORK).is_err());
        }

        /// Signed by its owner, and still refused: padding that says something is a second spelling.
        #[test]
        fn signed_padding_that_is_not_zero_is_refused(at in HEAD_LEN + 5..2_048 - 64, with in 1u8..) {
            let key = IdentityKey::from_seed(Secret::take(&mut [1; 32]));
            let mut bytes = record(1, 5, b"hello", RecordSize::Small).encode().to_vec();
            bytes.truncate(2_048 - 64);
            bytes[at] = with;
            let signature = key.sign(CONTEXT, &signed_bytes(NETWORK, &bytes));
            bytes.extend_from_slice(&signature);
            prop_assert_eq!(
                Record::decode(&bytes, NETWORK), Err(WireError::Bad("record padding"))
            );
        }

        #[test]
        fn random_bytes_never_panic(seed: u64, len in prop::sample::select(vec![0, 47, 2_047, 2_048, 4_096])) {
            let mut bytes: Vec<u8> = (0..len).map(|i: u64| {
                (seed.wrapping_mul(i | 1) >> 13).to_le_bytes()[0]
            }).collect();
            if let Some(first) = bytes.first_mut() { *first = 1; }
            prop_assert!(Record::decode(&bytes, NETWORK).is_err());
        }
    }

    #[test]
    fn a_record_of_another_network_is_refused() {
        let it = record(1, 5, b"hello", RecordSize::Large);
        let foreign = NetworkId([8; 32]);
        assert_eq!(Record::decode(it.encode(), foreign), Err(WireError::Bad("record signature")));
    }

    #[test]
    fn restoring_checks_the_form_and_trusts_the_signature() {
        let it = record(1, 5, b"hello", RecordSize::Small);
        assert_eq!(Record::restore(it.encode()), Ok(it.clone()));
        let mut bytes = it.encode().to_vec();
        bytes[2_047] ^= 1;
        assert!(Record::restore(&bytes).is_ok() && Record::decode(&bytes, NETWORK).is_err());
        bytes[1_000] = 1;
        assert_eq!(Record::restore(&bytes), Err(WireError::Bad("record padding")));
        assert!(Record::restore(&bytes[..2_047]).is_err());
    }

    #[test]
    fn a_payload_that_does_not_fit_is_refused() {
        let key = IdentityKey::from_seed(Secret::take(&mut [1; 32]));
        let sign = |message: &[u8]| key.sign(CONTEXT, message);
        let long = [0; 1_938];
        let size = RecordSize::Small;
        let wall = Wall::default();
        assert!(Record::sign_with(key.id().0, sign, NETWORK, 1, wall, &long, size).is_err());
        assert_eq!(record(1, 1, &long[1..], size).payload().len(), 1_937);
    }

    #[test]
    fn a_small_record_has_the_documented_bytes() {
        let it = record(1, 0x0102_0304_0506_0708, b"hi", RecordSize::Small);
        let bytes = it.encode();
        assert_eq!(
            HEXLOWER.encode(&bytes[..50]),
            "01\
             8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c\
             0102030405060708\
             0000004d\
             0002\
             686900"
        );
        assert!(bytes[50..1_984].iter().all(|byte| *byte == 0));
        assert_eq!(HEXLOWER.encode(&bytes[1_984..2_000]), VECTOR_SIGNATURE);
        assert_eq!(HEXLOWER.encode(&it.key().0), VECTOR_KEY);
    }

    const VECTOR_SIGNATURE: &str = "faded199373ccaa7454ff937afcccd80";
    const VECTOR_KEY: &str = "24fd3e453707fca1049e3d3b40898bfd088b411f8ab51a96a35395bdb8b48a50";
}
