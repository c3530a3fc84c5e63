//! What one router offers of a service: the keys that it answers to, and where it is reached.
//!
//! Lives here: leases, offers, their bytes. Does not live here: how they are sealed
//! (`descriptor.rs`), and how several routers of one service keep each other's (`publish/beside.rs`).

use std::fmt;

use super::{AccessKey, Day, Name, descriptor::binding};
use crate::{
    crypto::{effort::EFFORT_MAX, kdf, kem::KEM_PUBLIC_LEN, secret::Secret},
    id::{NetworkId, RouterId},
    time::Wall,
    wire::{Address, Contact, Reader, WireError, Writer},
};

/// Leases of one offer: 3 gateways in use and 2 spare (DESIGN section 7).
pub const LEASES_MAX: usize = 5;

const OFFER_ID: &str = "warren service offer 1";

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

/// Which of a service's routers offers: the same over its restarts, and of no use to tell which
/// router that is, or that two services are of one.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OfferId([u8; 8]);

impl OfferId {
    /// Encoded length in bytes.
    pub const LEN: usize = 8;

    /// That of the router with this secret for the service of this name.
    pub fn of(router: &Secret<32>, name: &Name) -> Self {
        Self(kdf::derive(OFFER_ID, &[router.expose_secret(), name.key()]))
    }

    /// From its bytes.
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

/// Mute: it says which router.
impl fmt::Debug for OfferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// What one router offers of a service.
///
/// | bytes | field |
/// |-------|-------|
/// | 8     | whose offer it is |
/// | 8     | version of the round since when it is so, see [`crate::service::Publisher`] |
/// | 4     | day on which the session keys were made |
/// | 32    | session key, X25519 |
/// | 1184  | session key, ML-KEM-768 |
/// | 4     | effort that clients are to spend, 0 to 100,000 |
/// | 1     | number of leases, 1 to 5 |
/// | 131 n | leases, the preferred ones first |
#[derive(Clone, PartialEq, Eq)]
pub struct Offer {
    /// Whose it is.
    pub id: OfferId,
    /// Since which version it is so: of two of one router the higher one holds.
    pub version: u64,
    /// The day of the session keys; the key a session is bound to follows from it
    /// ([`Offer::binding`]).
    pub session_day: Day,
    /// The X25519 key that sessions are opened to.
    pub session_dh: [u8; 32],
    /// The ML-KEM-768 key that sessions are opened to. Whether it is one shows on encapsulation.
    pub session_kem: Box<[u8; KEM_PUBLIC_LEN]>,
    /// What clients are to spend for their turn, see [`crate::crypto::effort`].
    pub effort: u32,
    /// Where the router's service can be reached: 1 to 5 once it is published.
    pub leases: Vec<Lease>,
}

impl Offer {
    /// Appends all fields.
    ///
    /// # Errors
    /// Where there is no lease, or more than [`LEASES_MAX`].
    pub fn encode(&self, w: &mut Writer) -> Result<(), WireError> {
        let count = u8::try_from(self.leases.len()).unwrap_or(u8::MAX);
        if !(1..=LEASES_MAX).contains(&count.into()) {
            return Err(WireError::Bad("offer leases"));
        }
        w.bytes(&self.id.0).u64(self.version).u32(self.session_day.0);
        w.bytes(&self.session_dh).bytes(&self.session_kem[..]).u32(self.effort).u8(count);
        for lease in &self.leases {
            lease.encode(w);
        }
        Ok(())
    }

    /// Reads all fields.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let id = OfferId(r.array("offer id")?);
        let version = r.u64("offer version")?;
        let session_day = Day(r.u32("offer session day")?);
        let session_dh = r.array("offer X25519 key")?;
        let session_kem = Box::new(r.array("offer ML-KEM key")?);
        let effort = r.u32("offer effort")?;
        if effort > EFFORT_MAX {
            return Err(WireError::Bad("offer effort"));
        }
        let count = usize::from(r.u8("offer leases")?);
        if !(1..=LEASES_MAX).contains(&count) {
            return Err(WireError::Bad("offer leases"));
        }
        let leases = (0..count).map(|_| Lease::decode(r)).collect::<Result<_, _>>()?;
        Ok(Self { id, version, session_day, session_dh, session_kem, effort, leases })
    }

    /// The blinded key that a session under this offer's keys is bound to (PROTOCOL P9): that of
    /// place 0 on the day of the session keys. The service computes the same from its own.
    pub fn binding(
        &self,
        name: &Name,
        access: Option<&AccessKey>,
        network: NetworkId,
    ) -> Option<[u8; 32]> {
        binding(name, access, network, self.session_day)
    }
}

/// Says only how many leases there are.
impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Offer({} leases)", self.leases.len())
    }
}
