//! What a service says about itself, sealed to those who know its name.
//!
//! Lives here: leases, the descriptor, and its sealing into and opening from records. Does not live
//! here: where the records lie (`day.rs`), when they are written and read (`publish.rs`,
//! `lookup.rs`), the record's own bytes (`record.rs`).
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
    AccessKey, Day, Name, Place,
    day::{self, blinding, blinding_parts},
};
use crate::{
    crypto::{
        aead::{Aead, TAG_LEN},
        blind::ServiceKey,
        effort::EFFORT_MAX,
        kdf,
        kem::KEM_PUBLIC_LEN,
        secret::Secret,
    },
    id::{NetworkId, RouterId},
    record::{Record, RecordSize},
    rng::Rng,
    time::Wall,
    wire::{Address, Contact, Reader, WireError, Writer},
};

/// Leases of one descriptor: 3 gateways in use and 2 spare (DESIGN section 7).
pub const LEASES_MAX: usize = 5;
/// Bytes of the sealed payload: all that a large record carries, whatever the descriptor says.
pub const SEALED_LEN: usize = RecordSize::Large.payload_max();
/// Minutes for which a published record is good (PROTOCOL P10).
pub const EXPIRY_MIN: u32 = 3 * 60;

const SALT_LEN: usize = 16;
const PLAIN_LEN: usize = SEALED_LEN - SALT_LEN - TAG_LEN;
const FORMAT: u8 = 2;
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

/// Where a client may be spliced to a service: one gateway, and the lease it gave the service.
///
/// | bytes | field |
/// |-------|-------|
/// | 32    | gateway's identity |
/// | 32    | gateway's link key, X25519 |
/// | 32    | splice key, X25519: lease ids are sealed to it |
/// | 19    | gateway's address |
/// | 16    | lease id |
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Who the gateway is.
    pub gateway: RouterId,
    /// The key that the gateway proves on a link.
    pub link_key: [u8; 32],
    /// The key to which lease ids for this gateway are sealed.
    pub splice_key: [u8; 32],
    /// Where the gateway listens.
    pub address: Address,
    /// Which of the gateway's tunnels it is: new with each tunnel.
    pub lease: [u8; 16],
}

impl Lease {
    /// Encoded length in bytes (PROTOCOL P8).
    pub const LEN: usize = 131;

    /// Reads a lease.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            gateway: RouterId(r.array("lease gateway")?),
            link_key: r.array("lease link key")?,
            splice_key: r.array("lease splice key")?,
            address: Address::decode(r)?,
            lease: r.array("lease id")?,
        })
    }

    /// Appends the 131 bytes.
    pub fn encode(&self, w: &mut Writer) {
        w.bytes(self.gateway.as_bytes()).bytes(&self.link_key).bytes(&self.splice_key);
        self.address.encode(w);
        w.bytes(&self.lease);
    }

    /// What the client's end hop needs to dial the gateway, good until `expiry`.
    pub const fn contact(&self, expiry: Wall) -> Contact {
        Contact { id: self.gateway, link_key: self.link_key, address: self.address, expiry }
    }
}

/// Mute: it says where a service can be found.
impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// All that a client needs to talk to a service.
///
/// | bytes | field |
/// |-------|-------|
/// | 1     | format, 2 |
/// | 4     | created, minutes since the Unix epoch |
/// | 4     | day on which the session keys were made |
/// | 32    | session key, X25519 |
/// | 1184  | session key, ML-KEM-768 |
/// | 4     | effort that clients are to spend, 0 to 100,000 |
/// | 1     | number of leases, 0 to 5: none means that the service was withdrawn |
/// | 131 n | leases, the preferred ones first |
/// | ...   | zeros up to 3,953 bytes |
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceDescriptor {
    /// When it was sealed.
    pub created: Wall,
    /// The day of the session keys; the key a session is bound to follows from it
    /// ([`ServiceDescriptor::binding`]).
    pub session_day: Day,
    /// The X25519 key that sessions are opened to.
    pub session_dh: [u8; 32],
    /// The ML-KEM-768 key that sessions are opened to. Whether it is one shows on encapsulation.
    pub session_kem: Box<[u8; KEM_PUBLIC_LEN]>,
    /// What clients are to spend for their turn, see [`crate::crypto::effort`].
    pub effort: u32,
    /// Where the service can be reached: 1 to 5; none once it was withdrawn.
    pub leases: Vec<Lease>,
}

impl ServiceDescriptor {
    /// Appends all fields, without the padding.
    ///
    /// # Errors
    /// Where there are more leases than [`LEASES_MAX`].
    pub fn encode(&self, w: &mut Writer) -> Result<(), WireError> {
        let count = u8::try_from(self.leases.len()).unwrap_or(u8::MAX);
        if usize::from(count) > LEASES_MAX {
            return Err(WireError::Bad("descriptor leases"));
        }
        w.u8(FORMAT).u32(self.created.minutes()).u32(self.session_day.0);
        w.bytes(&self.session_dh).bytes(&self.session_kem[..]).u32(self.effort).u8(count);
        for lease in &self.leases {
            lease.encode(w);
        }
        Ok(())
    }

    /// Reads all fields; what is left in `r` is padding.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        if r.u8("descriptor format")? != FORMAT {
            return Err(WireError::Bad("descriptor format"));
        }
        let created = Wall::from_minutes(r.u32("descriptor created")?);
        let session_day = Day(r.u32("descriptor session day")?);
        let session_dh = r.array("descriptor X25519 key")?;
        let session_kem = Box::new(r.array("descriptor ML-KEM key")?);
        let effort = r.u32("descriptor effort")?;
        if effort > EFFORT_MAX {
            return Err(WireError::Bad("descriptor effort"));
        }
        let count = usize::from(r.u8("descriptor leases")?);
        if count > LEASES_MAX {
            return Err(WireError::Bad("descriptor leases"));
        }
        let leases = (0..count).map(|_| Lease::decode(r)).collect::<Result<_, _>>()?;
        Ok(Self { created, session_day, session_dh, session_kem, effort, leases })
    }

    /// The blinded key that a session under this descriptor's keys is bound to (PROTOCOL P9): that
    /// of place 0 on the day of the session keys. The service computes the same from its own.
    pub fn binding(
        &self,
        name: &Name,
        access: Option<&AccessKey>,
        network: NetworkId,
    ) -> Option<[u8; 32]> {
        binding(name, access, network, self.session_day)
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

/// Says only how many leases there are.
impl fmt::Debug for ServiceDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceDescriptor({} leases)", self.leases.len())
    }
}

/// Seals `descriptor` into the record of place `index` (0 to 5) on `day`: for everybody who knows
/// the name, or for the client that holds `access`.
///
/// Every call draws a fresh salt, hence a fresh key: nothing is ever sealed twice under one key,
/// even when a version repeats because its counter was lost.
///
/// # Errors
/// Where the descriptor has more leases than [`LEASES_MAX`].
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
