//! One slot of a build message: its bytes, its record, and the keys that follow from it.
//!
//! Lives here: the 1,344-byte slot, the 192-byte record sealed in it, and `HopSecret`, what owner
//! and hop share. Does not live here: the order of sealing (`create.rs`), opening (`open.rs`).

use crate::{
    crypto::{
        aead::Aead,
        kdf,
        kem::{self, Exchange, KEM_CIPHERTEXT_LEN},
        secret::Secret,
    },
    id::{NetworkId, RouterId},
    time::Wall,
    wire::{BUILD_LEN, BUILD_REPLY_LEN, Contact, Reader, WireError, Writer},
};

/// Slots of every build message and reply, whatever the number of hops.
pub(super) const SLOTS: usize = 4;
/// Most hops of a tunnel: one per slot.
pub const HOPS_MAX: usize = SLOTS;
/// Bytes of a slot.
pub(super) const SLOT_LEN: usize = 1_344;
/// Bytes of a reply slot.
pub(super) const REPLY_SLOT_LEN: usize = 64;
/// Bytes of a sealed record.
pub(super) const RECORD_LEN: usize = 192;
/// The longest life a record may ask for, in minutes; a service tunnel asks for 90.
pub const LIFETIME_MINUTES_MAX: u16 = 120;

const SALT_LEN: usize = 32;
const RESERVED_LEN: usize = RECORD_LEN - 1 - Contact::LEN - 4 - 2 - SALT_LEN;

const PREFIX_CONTEXT: &str = "warren build prefix 1";
const SECRET_CONTEXT: &str = "warren build secret 1";
const SEAL_CONTEXT: &str = "warren build seal 1";
const ONWARD_CONTEXT: &str = "warren build onward stream 1";
const BACK_CONTEXT: &str = "warren build back stream 1";
const REPLY_CONTEXT: &str = "warren build reply 1";
const LAYERS_CONTEXT: &str = "warren build layers 1";

/// A slot in its fields.
///
/// | bytes | field |
/// |-------|-------|
/// | 32    | the owner's ephemeral X25519 key, one per slot |
/// | 1,088 | ML-KEM-768 ciphertext to the hop's tunnel key |
/// | 16    | prefix: by this the hop finds its slot |
/// | 192   | record, sealed |
/// | 16    | tag |
pub(super) struct Slot {
    pub(super) ephemeral: [u8; 32],
    pub(super) ciphertext: [u8; KEM_CIPHERTEXT_LEN],
    pub(super) prefix: [u8; 16],
    pub(super) record: [u8; RECORD_LEN],
    pub(super) tag: [u8; 16],
}

impl Slot {
    pub(super) fn decode(bytes: &[u8; SLOT_LEN]) -> Result<Self, WireError> {
        let mut r = Reader::new(bytes);
        let this = Self {
            ephemeral: r.array("slot ephemeral")?,
            ciphertext: r.array("slot ciphertext")?,
            prefix: r.array("slot prefix")?,
            record: r.array("slot record")?,
            tag: r.array("slot tag")?,
        };
        r.finish()?;
        Ok(this)
    }

    pub(super) fn write(&self, out: &mut [u8; SLOT_LEN]) {
        let fields: [&[u8]; 5] =
            [&self.ephemeral, &self.ciphertext, &self.prefix, &self.record, &self.tag];
        for (to, from) in out.iter_mut().zip(fields.into_iter().flatten()) {
            *to = *from;
        }
    }
}

/// How the holder of `tunnel_dh` recognises a slot made for it.
///
/// Everybody who knows the hop and sees the slot can compute it, so it authenticates nothing; it
/// saves three useless decapsulations.
pub(super) fn prefix(tunnel_dh: &[u8; 32], ephemeral: &[u8; 32]) -> [u8; 16] {
    kdf::derive(PREFIX_CONTEXT, &[tunnel_dh, ephemeral])
}

/// What a hop is for a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Passes cells on.
    Middle,
    /// Recognises cells, reads cloves.
    End,
}

/// What the owner tells one hop.
///
/// | bytes | field |
/// |-------|-------|
/// | 1     | role: 0 middle, 1 end |
/// | 87    | next hop's contact; zero for the end |
/// | 4     | minute it was made |
/// | 2     | lifetime in minutes, 1 to 120 |
/// | 32    | salt of the tunnel's keys |
/// | 66    | zero |
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Where the build goes on; `None` for the end.
    pub(super) next: Option<Contact>,
    pub(super) made: Wall,
    pub(super) lifetime_minutes: u16,
    pub(super) salt: [u8; SALT_LEN],
}

impl Record {
    pub(super) fn encode(&self) -> [u8; RECORD_LEN] {
        let mut w = Writer::with_capacity(RECORD_LEN);
        if let Some(next) = &self.next {
            next.encode(w.u8(0));
        } else {
            w.u8(1).bytes(&[0; Contact::LEN]);
        }
        w.u32(self.made.minutes()).u16(self.lifetime_minutes).bytes(&self.salt);
        w.bytes(&[0; RESERVED_LEN]);
        let mut out = [0; RECORD_LEN];
        for (to, from) in out.iter_mut().zip(w.into_bytes()) {
            *to = from;
        }
        out
    }

    /// # Errors
    /// Anything that `encode` does not write.
    pub(super) fn decode(bytes: &[u8; RECORD_LEN]) -> Result<Self, WireError> {
        let mut r = Reader::new(bytes);
        let next = match r.u8("record role")? {
            0 => Some(Contact::decode(&mut r)?),
            1 if r.array::<{ Contact::LEN }>("record contact")? == [0; Contact::LEN] => None,
            _ => return Err(WireError::Bad("record role")),
        };
        let made = Wall::from_minutes(r.u32("record minute")?);
        let lifetime_minutes = r.u16("record lifetime")?;
        if !(1..=LIFETIME_MINUTES_MAX).contains(&lifetime_minutes) {
            return Err(WireError::Bad("record lifetime"));
        }
        let salt = r.array("record salt")?;
        if r.array("record reserved")? != [0; RESERVED_LEN] {
            return Err(WireError::Bad("record reserved"));
        }
        r.finish()?;
        Ok(Self { next, made, lifetime_minutes, salt })
    }
}

/// What one slot makes known to owner and hop alone; everything else is derived from it.
///
/// Binds both shared secrets, the ciphertext, both X25519 keys, the ML-KEM key, the network and the
/// hop's identity, so that no record can be carried over to another hop, key or network.
#[derive(Debug)]
pub(super) struct HopSecret(Secret<32>);

impl HopSecret {
    pub(super) fn new(
        dh: &Secret<32>,
        kem: &Secret<32>,
        exchange: &Exchange<'_>,
        network: NetworkId,
        hop: RouterId,
    ) -> Self {
        let bind: [&[u8]; 2] = [network.as_bytes(), hop.as_bytes()];
        Self(kem::combine(SECRET_CONTEXT, dh, kem, exchange, &bind))
    }

    /// The key that seals the record. Seals once, so its nonce is 0.
    pub(super) fn seal(&self) -> Aead {
        Aead::new(&kdf::derive_secret(SEAL_CONTEXT, &[self.0.expose_secret()]))
    }

    /// Applies the hop to a message whose own slot is zero: the slot is refilled, the other three get
    /// a layer. Doing it twice undoes it.
    pub(super) fn onward(&self, message: &mut [u8; BUILD_LEN]) {
        kdf::xor_keystream(ONWARD_CONTEXT, &[self.0.expose_secret()], message);
    }

    /// Layers a reply on its way back. Doing it twice undoes it.
    pub(super) fn back(&self, reply: &mut [u8; BUILD_REPLY_LEN]) {
        kdf::xor_keystream(BACK_CONTEXT, &[self.0.expose_secret()], reply);
    }

    /// The key of the hop's reply slot. Seals once, so its nonce is 0.
    pub(super) fn reply(&self, salt: &[u8; SALT_LEN]) -> Aead {
        Aead::new(&kdf::derive_secret(REPLY_CONTEXT, &[self.0.expose_secret(), salt]))
    }

    /// The secret of the tunnel's layers at this hop: with `ee`, the agreement of both ephemerals, it
    /// stays unknown also to who later learns the hop's daily keys.
    pub(super) fn layers(
        &self,
        salt: &[u8; SALT_LEN],
        ee: &Secret<32>,
        owner: &[u8; 32],
        hop: &[u8; 32],
    ) -> Secret<32> {
        let parts: [&[u8]; 5] = [self.0.expose_secret(), salt, ee.expose_secret(), owner, hop];
        kdf::derive_secret(LAYERS_CONTEXT, &parts)
    }
}

/// Takes the bytes of slot `at` out of a message and leaves zeros.
pub(super) fn take_slot(message: &mut [u8; BUILD_LEN], at: usize) -> Option<[u8; SLOT_LEN]> {
    let (slots, _) = message.as_chunks_mut::<SLOT_LEN>();
    slots.get_mut(at).map(|slot| std::mem::replace(slot, [0; SLOT_LEN]))
}
