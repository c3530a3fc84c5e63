//! A router's signed self-description.
//!
//! Lives here: its bytes, its signature, and the checks that cost little. Does not live here: the
//! admission work behind its location, which is checked lazily (`ring/admission.rs`).

use std::{fmt, sync::Arc};

use super::{
    Address, CHAIN_MAX, Contact, Reader, Vouch, WireError, Writer, contact::Prefix, decode_chain,
    encode_chain,
};
use crate::{
    crypto::{
        kdf,
        sign::{self, IdentityKey},
        suite,
    },
    id::{Location, NetworkId, RouterId},
    time::Wall,
};

/// Signature context of router descriptors.
const CONTEXT: &str = "warren router descriptor 1";
/// The format of a router that nobody had to sign for.
const VERSION: u8 = 1;
/// The format with a chain of signatures.
const VERSION_VOUCHED: u8 = 2;
/// Capability bit: the router carries no tunnels of others, so nobody should choose it for one.
pub const NO_TRANSIT: u16 = 1;
/// Capability bit: tunnels that end at the router may show work for puts of blocks (spec/work.md). A router
/// of a version that knows nothing of it would end the tunnel.
pub const TAKES_WORK: u16 = 2;
/// Addresses that a descriptor names at most.
const ADDRESSES_MAX: usize = 4;
/// A descriptor is good for at most three days, so that forgotten routers fade.
pub const DESCRIPTOR_MINUTES_MAX: u32 = 3 * 24 * 60;

/// The proof of the work that a place on the ring costs (PROTOCOL P2).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// The nonce that was found.
    pub nonce: u64,
    /// The Argon2id output claimed for it; the location follows from this.
    pub output: [u8; 32],
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// What a router says of itself, before signing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescriptorFields {
    /// The network it belongs to.
    pub network: NetworkId,
    /// X25519 key of its links.
    pub link_key: [u8; 32],
    /// X25519 half of today's tunnel key.
    pub tunnel_dh: [u8; 32],
    /// ML-KEM-768 half of today's tunnel key.
    pub tunnel_kem: Arc<[u8; 1184]>,
    /// Where it listens: up to 4 addresses; none for a router that nobody can dial.
    pub addresses: Vec<Address>,
    /// Capability bits: [`NO_TRANSIT`], [`TAKES_WORK`]; others are not looked at.
    pub capabilities: u16,
    /// Bandwidth offered to others, in kbit/s.
    pub bandwidth_kbps: u32,
    /// Declared family: routers that name the same 16 bytes are run by the same people.
    pub family: Option<[u8; 16]>,
    /// Its work.
    pub admission: Admission,
    /// In a network by invitation: who signed for it, the founder's signature first; else none. At
    /// most [`CHAIN_MAX`].
    pub vouches: Vec<Vouch>,
    /// When it was signed.
    pub published: Wall,
    /// When it stops being true, at most three days later.
    pub expiry: Wall,
}

/// A router's signed self-description (spec/link.md, "Router descriptor").
///
/// | bytes    | field |
/// |----------|-------|
/// | 1        | version: 1, or 2 with signatures of members |
/// | 32       | network id |
/// | 32       | identity, Ed25519 |
/// | 32       | link key, X25519 |
/// | 32       | tunnel key, X25519 |
/// | 1,184    | tunnel key, ML-KEM-768 |
/// | 1        | number of addresses n, 0 to 4; 0: nobody can dial it |
/// | 19 n     | addresses |
/// | 2        | capabilities: bit 0: carries no tunnels of others; 1: takes work for puts |
/// | 4        | bandwidth offered, kbit/s |
/// | 16       | family; zero when none is declared |
/// | 8 + 32   | admission nonce and output |
/// | 1 + 99 m | version 2 only: number of signatures m, 1 to 8, and they ([`Vouch`]) |
/// | 4 + 4    | published, expiry: minutes since the Unix epoch |
/// | 64       | signature over all before it |
#[derive(Clone, PartialEq, Eq)]
pub struct RouterDescriptor {
    id: RouterId,
    fields: DescriptorFields,
    signature: [u8; 64],
    /// Both follow from the rest, and are asked for all the time.
    location: Location,
    claim: [u8; 16],
}

impl RouterDescriptor {
    /// Shortest encoding in bytes: no address, no signature of a member.
    const LEN_LEAST: usize = 1_448;
    /// Longest encoding in bytes: four addresses, eight signatures.
    pub const LEN_MAX: usize = Self::LEN_LEAST + 4 * Address::LEN + 1 + CHAIN_MAX * Vouch::LEN;

    /// Signs `fields` as the router that owns `key`.
    ///
    /// # Errors
    /// When the number of addresses or the lifetime is out of bounds.
    pub fn sign(fields: DescriptorFields, key: &IdentityKey) -> Result<Self, WireError> {
        fields.check()?;
        let (location, claim) = fields.place(&key.id());
        let mut this = Self { id: key.id(), fields, signature: [0; 64], location, claim };
        this.signature = key.sign(CONTEXT, &this.signed_bytes());
        Ok(this)
    }

    /// Reads a descriptor of `network` and checks its signature.
    ///
    /// # Errors
    /// On any other spelling than `encode`'s, on a foreign network, and on a bad signature.
    pub fn decode(bytes: &[u8], network: NetworkId) -> Result<Self, WireError> {
        let mut r = Reader::new(bytes);
        let version = r.u8("descriptor version")?;
        if version != VERSION && version != VERSION_VOUCHED {
            return Err(WireError::Bad("descriptor version"));
        }
        if NetworkId(r.array("descriptor network")?) != network {
            return Err(WireError::Bad("descriptor network"));
        }
        let id = RouterId(r.array("descriptor identity")?);
        let link_key = r.array("descriptor link key")?;
        let tunnel_dh = r.array("descriptor tunnel key")?;
        let tunnel_kem = Arc::new(r.array("descriptor tunnel key")?);
        let count = r.u8("descriptor addresses")?;
        if usize::from(count) > ADDRESSES_MAX {
            return Err(WireError::Bad("descriptor addresses"));
        }
        let addresses = (0..count).map(|_| Address::decode(&mut r)).collect::<Result<_, _>>()?;
        let fields = DescriptorFields {
            network,
            link_key,
            tunnel_dh,
            tunnel_kem,
            addresses,
            capabilities: r.u16("descriptor capabilities")?,
            bandwidth_kbps: r.u32("descriptor bandwidth")?,
            family: Some(r.array("descriptor family")?).filter(|family| *family != [0; 16]),
            admission: Admission {
                nonce: r.u64("descriptor nonce")?,
                output: r.array("descriptor admission")?,
            },
            vouches: match version {
                VERSION_VOUCHED => decode_chain(&mut r)?,
                _ => Vec::new(),
            },
            published: Wall::from_minutes(r.u32("descriptor published")?),
            expiry: Wall::from_minutes(r.u32("descriptor expiry")?),
        };
        let signature = r.array("descriptor signature")?;
        r.finish()?;
        fields.check()?;
        let (location, claim) = fields.place(&id);
        let this = Self { id, fields, signature, location, claim };
        if !sign::verify(&id, CONTEXT, &this.signed_bytes(), &signature) {
            return Err(WireError::Bad("descriptor signature"));
        }
        Ok(this)
    }

    /// [`Self::decode`], shared: in a simulation with all who have read the same bytes.
    ///
    /// # Errors
    /// Those of `decode`.
    pub fn decode_shared(bytes: &[u8], network: NetworkId) -> Result<Arc<Self>, WireError> {
        let Some(suite) = suite::entered() else {
            return Self::decode(bytes, network).map(Arc::new);
        };
        if let Some(known) = suite.recall(bytes).filter(|it| it.fields.network == network) {
            return Ok(known);
        }
        let read = Arc::new(Self::decode(bytes, network)?);
        suite.keep(bytes, &read);
        Ok(read)
    }

    /// This one, shared: in a simulation with all who will read its bytes.
    pub fn shared(self) -> Arc<Self> {
        let this = Arc::new(self);
        if let Some(suite) = suite::entered() {
            suite.keep(&this.encode(), &this);
        }
        this
    }

    /// The bytes that `decode` reads.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        self.write(&mut w);
        w.into_bytes()
    }

    /// Appends them.
    pub(crate) fn write(&self, w: &mut Writer) {
        w.reserve(self.len());
        self.write_signed(w);
        w.bytes(&self.signature);
    }

    /// How many they are.
    pub(crate) fn len(&self) -> usize {
        let vouches = match self.fields.vouches.len() {
            0 => 0,
            count => 1 + count * Vouch::LEN,
        };
        Self::LEN_LEAST + self.fields.addresses.len() * Address::LEN + vouches
    }

    fn signed_bytes(&self) -> Vec<u8> {
        let mut w = Writer::with_capacity(self.len());
        self.write_signed(&mut w);
        w.into_bytes()
    }

    fn write_signed(&self, w: &mut Writer) {
        let f = &self.fields;
        w.u8(if f.vouches.is_empty() { VERSION } else { VERSION_VOUCHED })
            .bytes(f.network.as_bytes())
            .bytes(self.id.as_bytes());
        w.bytes(&f.link_key).bytes(&f.tunnel_dh).bytes(&f.tunnel_kem[..]);
        w.u8(u8::try_from(f.addresses.len()).unwrap_or(u8::MAX));
        for address in &f.addresses {
            address.encode(w);
        }
        w.u16(f.capabilities).u32(f.bandwidth_kbps).bytes(&f.family.unwrap_or_default());
        w.u64(f.admission.nonce).bytes(&f.admission.output);
        if !f.vouches.is_empty() {
            encode_chain(&f.vouches, w);
        }
        w.u32(f.published.minutes()).u32(f.expiry.minutes());
    }

    /// Who it describes.
    pub const fn id(&self) -> RouterId {
        self.id
    }

    /// What it says.
    pub const fn fields(&self) -> &DescriptorFields {
        &self.fields
    }

    /// What is needed to dial it: its first address. `None` if nobody can.
    pub fn contact(&self) -> Option<Contact> {
        Some(Contact {
            id: self.id,
            link_key: self.fields.link_key,
            address: self.address()?,
            expiry: self.fields.expiry,
        })
    }

    /// Whether it carries tunnels of others.
    pub const fn carries(&self) -> bool {
        self.fields.capabilities & NO_TRANSIT == 0
    }

    /// Whether blocks can be put through tunnels that end at it.
    pub const fn takes_work(&self) -> bool {
        self.fields.capabilities & TAKES_WORK != 0
    }

    /// Its first address; `None` for a router that nobody can dial.
    pub fn address(&self) -> Option<Address> {
        self.fields.addresses.first().copied()
    }

    /// The prefix its first address lies in.
    pub fn prefix(&self) -> Option<Prefix> {
        self.address().map(|address| address.prefix())
    }

    /// Whether others may dial it, in a network of that kind.
    pub fn is_dialable(&self, local_network: bool) -> bool {
        self.address().is_some_and(|address| address.dialable(local_network))
    }

    /// Its place on the ring, as far as its claimed work is true (PROTOCOL P2).
    pub const fn location(&self) -> Location {
        self.location
    }

    /// What stands for that claim: network, identity and the output of the work, all in one.
    pub const fn claim(&self) -> &[u8; 16] {
        &self.claim
    }

    /// Whether it holds at `wall`, with ten minutes of grace for clocks.
    pub fn is_current(&self, wall: Wall) -> bool {
        self.fields.published <= wall.plus(10) && wall <= self.fields.expiry.plus(10)
    }
}

impl DescriptorFields {
    /// Location and claim: eight bytes of one stream, and the sixteen after them.
    fn place(&self, id: &RouterId) -> (Location, [u8; 16]) {
        let parts = [&self.network.0[..], &id.0, &self.admission.output];
        let stream: [u8; 24] = kdf::derive("warren location 1", &parts);
        let head = stream.first_chunk().copied().unwrap_or_default();
        let tail = stream.last_chunk().copied().unwrap_or_default();
        (Location(u64::from_be_bytes(head)), tail)
    }

    fn check(&self) -> Result<(), WireError> {
        if self.addresses.len() > ADDRESSES_MAX {
            return Err(WireError::Bad("descriptor addresses"));
        }
        if self.vouches.len() > CHAIN_MAX {
            return Err(WireError::Bad("descriptor signatures"));
        }
        let lifetime = self.expiry.minutes().checked_sub(self.published.minutes());
        if lifetime.is_none_or(|minutes| minutes > DESCRIPTOR_MINUTES_MAX) {
            return Err(WireError::Bad("descriptor expiry"));
        }
        if self.family == Some([0; 16]) {
            return Err(WireError::Bad("descriptor family"));
        }
        Ok(())
    }
}

/// Mute: it is somebody.
impl fmt::Debug for RouterDescriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RouterDescriptor(_)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rng::Rng;

    const NETWORK: NetworkId = NetworkId([9; 32]);

    fn descriptor(seed: u8, addresses: usize, family: Option<[u8; 16]>) -> RouterDescriptor {
        vouched(seed, addresses, family, 0)
    }

    fn vouched(
        seed: u8,
        addresses: usize,
        family: Option<[u8; 16]>,
        vouches: u8,
    ) -> RouterDescriptor {
        let mut rng = Rng::from_seed([seed; 32]);
        let key = IdentityKey::generate(&mut rng);
        let address = |i| std::net::SocketAddr::from(([127, i, 0, 1], 9000)).into();
        let fields = DescriptorFields {
            network: NETWORK,
            link_key: rng.bytes(),
            tunnel_dh: rng.bytes(),
            tunnel_kem: Arc::new(rng.bytes()),
            addresses: (0..u8::try_from(addresses).unwrap()).map(address).collect(),
            capabilities: 0,
            bandwidth_kbps: 8_000,
            family,
            admission: Admission { nonce: 7, output: rng.bytes() },
            vouches: (0..vouches).map(|n| Vouch::sign(NETWORK, &key, key.id(), 3, n)).collect(),
            published: Wall::from_minutes(1_000),
            expiry: Wall::from_minutes(1_000 + DESCRIPTOR_MINUTES_MAX),
        };
        RouterDescriptor::sign(fields, &key).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn decode_undoes_encode(seed: u8, addresses in 0usize..=4, family: bool, by in 0u8..=8) {
            let it = vouched(seed, addresses, family.then_some([3; 16]), by);
            prop_assert_eq!(RouterDescriptor::decode(&it.encode(), NETWORK), Ok(it));
        }

        #[test]
        fn any_changed_byte_is_refused(at: prop::sample::Index, with in 1u8..) {
            let mut bytes = vouched(1, 2, None, 2).encode();
            let at = at.index(bytes.len());
            bytes[at] ^= with;
            prop_assert!(RouterDescriptor::decode(&bytes, NETWORK).is_err());
        }

        #[test]
        fn a_truncated_descriptor_is_refused(at: prop::sample::Index) {
            let bytes = vouched(1, 1, None, 1).encode();
            let short = &bytes[..at.index(bytes.len())];
            prop_assert!(RouterDescriptor::decode(short, NETWORK).is_err());
        }
    }

    #[test]
    fn a_descriptor_of_another_network_is_refused() {
        let bytes = descriptor(1, 1, None).encode();
        assert!(RouterDescriptor::decode(&bytes, NetworkId([8; 32])).is_err());
    }

    #[test]
    fn the_longest_descriptor_has_the_documented_length() {
        assert_eq!(vouched(1, 4, None, 8).encode().len(), RouterDescriptor::LEN_MAX);
        assert_eq!(descriptor(1, 1, None).encode().len(), 1_467);
    }

    #[test]
    fn a_lifetime_over_three_days_cannot_be_signed() {
        let mut rng = Rng::from_seed([1; 32]);
        let mut fields = descriptor(1, 1, None).fields().clone();
        fields.expiry = fields.expiry.plus(1);
        assert!(RouterDescriptor::sign(fields, &IdentityKey::generate(&mut rng)).is_err());
    }
}
