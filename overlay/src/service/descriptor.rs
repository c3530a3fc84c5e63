//! What a service says about itself, sealed to those who know its name.
//!
//! Lives here: the descriptor, and its sealing into and opening from records. Does not live here:
//! what each router offers (`offer.rs`), where the records lie (`day.rs`), when they are written and
//! read (`publish.rs`, `lookup.rs`), the record's own bytes (`record.rs`).
//!
//! ```text
//!  descriptor --pad to 3,953--> AES-256-GCM under KDF(service key, blinded key i, network, day, i,
//!                               version, salt) --> payload 3,985 --> record 4,096, signed by
//!                               blinded key i          six times: i = 0 to 5
//! ```
//!
//! The service key is in the KDF and nowhere in the record: who stores a record, or sees it pass,
//! cannot read it, and finds nothing in it that one of the other five has too but the version.

use std::fmt;

use super::{
    AccessKey, Day, Name, Offer, Place,
    day::{self, blinding, blinding_parts},
};
use crate::{
    crypto::{
        aead::{Aead, TAG_LEN},
        blind::ServiceKey,
        kdf,
        secret::Secret,
    },
    id::NetworkId,
    record::{Record, RecordSize},
    rng::Rng,
    time::Wall,
    wire::{Reader, WireError, Writer},
};

/// Offers of one descriptor: each has session keys of its own, and a third has no room.
pub const OFFERS_MAX: usize = 2;
/// Bytes of the sealed payload: all that a large record carries, whatever the descriptor says.
pub const SEALED_LEN: usize = RecordSize::Large.payload_max();
/// Minutes for which a published record is good (PROTOCOL P10).
pub const EXPIRY_MIN: u32 = 3 * 60;

const SALT_LEN: usize = 16;
const PLAIN_LEN: usize = SEALED_LEN - SALT_LEN - TAG_LEN;
const FORMAT: u8 = 3;
const SEAL: &str = "warren service seal 1";

/// Why a record is not the descriptor that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DescriptorError {
    /// Signed by another key than the place's: of another service, day, place or network.
    #[error("the record is of another place")]
    Place,
    /// Does not open under this name. No detail on purpose.
    #[error("the record does not open under this name")]
    Sealed,
    /// Opens, but is malformed: the service itself wrote it so.
    #[error("malformed descriptor")]
    Malformed(#[from] WireError),
}

/// All that a client needs to talk to a service.
///
/// | bytes | field |
/// |-------|-------|
/// | 1     | format, 3 |
/// | 4     | created, minutes since the Unix epoch |
/// | 1     | number of offers, 0 to 2: none means that the service was withdrawn |
/// | n     | offers ([`Offer`]), of rising ids |
/// | ...   | zeros up to 3,953 bytes |
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceDescriptor {
    /// When it was sealed.
    pub created: Wall,
    /// What each router of the service offers; none once it was withdrawn.
    pub offers: Vec<Offer>,
}

impl ServiceDescriptor {
    /// Appends all fields, without the padding.
    ///
    /// # Errors
    /// Where there are more offers than [`OFFERS_MAX`], not of rising ids, or one has no leases or
    /// too many.
    pub fn encode(&self, w: &mut Writer) -> Result<(), WireError> {
        let count = u8::try_from(self.offers.len()).unwrap_or(u8::MAX);
        if usize::from(count) > OFFERS_MAX || !self.is_sorted() {
            return Err(WireError::Bad("descriptor offers"));
        }
        w.u8(FORMAT).u32(self.created.minutes()).u8(count);
        self.offers.iter().try_for_each(|offer| offer.encode(w))
    }

    /// Reads all fields; what is left in `r` is padding.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        if r.u8("descriptor format")? != FORMAT {
            return Err(WireError::Bad("descriptor format"));
        }
        let created = Wall::from_minutes(r.u32("descriptor created")?);
        let count = usize::from(r.u8("descriptor offers")?);
        if count > OFFERS_MAX {
            return Err(WireError::Bad("descriptor offers"));
        }
        let offers = (0..count).map(|_| Offer::decode(r)).collect::<Result<_, _>>()?;
        let this = Self { created, offers };
        if this.is_sorted() { Ok(this) } else { Err(WireError::Bad("descriptor offers")) }
    }

    /// Every router once, and one spelling.
    fn is_sorted(&self) -> bool {
        self.offers.is_sorted_by(|one, next| one.id < next.id)
    }
}

/// The blinded key that sessions under the session keys made on `day` are bound to: everybody's, or
/// those of the client that holds `access`.
pub fn binding(
    name: &Name,
    access: Option<&AccessKey>,
    network: NetworkId,
    day: Day,
) -> Option<[u8; 32]> {
    day::place(name, access, network, day, 0).map(|place| place.blinded)
}

/// Says only how much there is.
impl fmt::Debug for ServiceDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServiceDescriptor").field(&self.offers).finish()
    }
}

/// Seals `descriptor` into the record of place `index` (0 to 5) on `day`: for everybody who knows
/// the name, or for the client that holds `access`.
///
/// Every call draws a fresh salt, hence a fresh key: nothing is ever sealed twice under one key,
/// even when a version repeats because its counter was lost.
///
/// # Errors
/// As [`ServiceDescriptor::encode`].
#[expect(clippy::too_many_arguments, reason = "all that a record is bound to")]
pub fn seal(
    rng: &mut Rng,
    key: &ServiceKey,
    access: Option<&AccessKey>,
    network: NetworkId,
    day: Day,
    index: u8,
    version: u64,
    expiry: Wall,
    descriptor: &ServiceDescriptor,
) -> Result<Record, WireError> {
    let mut w = Writer::with_capacity(PLAIN_LEN);
    descriptor.encode(&mut w)?;
    let mut text = w.into_bytes();
    text.resize(PLAIN_LEN, 0);

    let place = blinding(network, day, index);
    let blinded = key.blind(blinding_parts(&place, access).as_ref());
    let salt = rng.bytes::<SALT_LEN>();
    let aead = sealing(&key.public(), &blinded.public(), access, &place, version, &salt);
    let tag = aead.seal_in_place(0, &[], &mut text);

    let mut payload = Writer::with_capacity(SEALED_LEN);
    payload.bytes(&salt).bytes(&text).bytes(&tag);
    Record::sign(&blinded, network, version, expiry, &payload.into_bytes(), RecordSize::Large)
}

/// Opens the record that was found at `place`.
///
/// Looks at neither clock nor earlier versions: `lookup.rs` does.
pub fn open(
    name: &Name,
    access: Option<&AccessKey>,
    network: NetworkId,
    place: &Place,
    record: &Record,
) -> Result<ServiceDescriptor, DescriptorError> {
    if record.public() != &place.blinded {
        return Err(DescriptorError::Place);
    }
    let mut r = Reader::new(record.payload());
    let salt = r.array::<SALT_LEN>("descriptor salt")?;
    let mut text = r.slice(PLAIN_LEN, "descriptor")?.to_vec();
    let tag = r.array::<TAG_LEN>("descriptor tag")?;
    r.finish()?;
    let version = record.version();
    let at = blinding(network, place.day, place.index);
    sealing(name.key(), &place.blinded, access, &at, version, &salt)
        .open_in_place(0, &[], &mut text, &tag)
        .map_err(|_| DescriptorError::Sealed)?;
    let mut r = Reader::new(&text);
    let descriptor = ServiceDescriptor::decode(&mut r)?;
    if r.rest().iter().any(|byte| *byte != 0) {
        return Err(WireError::Bad("descriptor padding").into());
    }
    Ok(descriptor)
}

fn sealing(
    key: &[u8; 32],
    blinded: &[u8; 32],
    access: Option<&AccessKey>,
    place: &[u8; 37],
    version: u64,
    salt: &[u8; SALT_LEN],
) -> Aead {
    let version = version.to_be_bytes();
    let mut parts: Vec<&[u8]> = vec![key, blinded, place, &version, salt];
    parts.extend(access.map(|access| access.seal().as_slice()));
    let secret: Secret<32> = kdf::derive_secret(SEAL, &parts);
    Aead::new(&secret)
}

#[cfg(test)]
pub(super) mod tests;
