//! A hop's side: opening the record in a build message.
//!
//! Lives here: a router's daily tunnel keys, and `open`, which finds, checks and removes the own
//! slot. Does not live here: refusing before the costly work, and the answer's way back
//! (`transit.rs`, `reply.rs`).

use std::sync::Arc;

use super::{
    BuildMessage,
    replay::ReplayWindow,
    reply::Answer,
    slot::{HopSecret, Record, SLOT_LEN, Slot, prefix, take_slot},
};
use crate::{
    crypto::{
        kdf,
        kem::{DhSecret, Exchange, KEM_PUBLIC_LEN, KemSecret},
    },
    id::{NetworkId, RouterId},
    rng::Rng,
    time::Wall,
    wire::Contact,
};

/// Why a build is not opened. Told to nobody: the answer is noise in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No slot is for us.
    #[error("no slot is for this router")]
    NotOurs,
    /// Not one bit may differ from what the owner made.
    #[error("build does not authenticate")]
    Unauthentic,
    /// Made too long ago, or too far ahead.
    #[error("build is out of its time")]
    Expired,
    /// Seen before.
    #[error("build was seen before")]
    Replayed,
    /// No room to remember it.
    #[error("replay window is full")]
    Busy,
    /// The owner wrote what no honest owner writes.
    #[error("malformed build record")]
    Malformed,
}

struct Pair {
    dh: DhSecret,
    kem: KemSecret,
}

impl Pair {
    fn generate(rng: &mut Rng) -> Self {
        Self { dh: DhSecret::generate(rng), kem: KemSecret::generate(rng) }
    }
}

/// A router's tunnel keys: today's, which its descriptor shows, and yesterday's, still accepted.
///
/// They live in memory only. After a restart the replay window is empty, and so must be what it
/// guarded: builds for the old keys fail, and the new descriptor names new ones.
pub struct TunnelKeys {
    network: NetworkId,
    id: RouterId,
    today: Pair,
    yesterday: Option<Pair>,
}

impl std::fmt::Debug for TunnelKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("_")
    }
}

/// Where an opened build goes.
#[derive(Debug)]
pub enum Onward {
    /// On to this router, as this message.
    Middle {
        /// Whom to dial, as the owner says.
        contact: Contact,
        /// What it must receive.
        message: BuildMessage,
    },
    /// Nowhere: we are the end.
    End,
}

/// A build that is authentic, fresh and in form.
#[derive(Debug)]
pub struct Opened {
    /// Where it goes.
    pub onward: Onward,
    /// For how long the owner wants the tunnel, 1 to 120.
    pub lifetime_minutes: u16,
    /// Our one chance to answer.
    pub answer: Answer,
}

impl TunnelKeys {
    /// A router's first keys.
    pub fn generate(network: NetworkId, id: RouterId, rng: &mut Rng) -> Self {
        Self { network, id, today: Pair::generate(rng), yesterday: None }
    }

    /// New keys for a new day; those of the day before yesterday are wiped.
    pub fn rotate(&mut self, rng: &mut Rng) {
        self.yesterday = Some(std::mem::replace(&mut self.today, Pair::generate(rng)));
    }

    /// Whose keys these are.
    pub const fn id(&self) -> RouterId {
        self.id
    }

    /// The X25519 half to publish.
    pub fn dh_public(&self) -> [u8; 32] {
        self.today.dh.public()
    }

    /// The ML-KEM half to publish.
    pub fn kem_public(&self) -> Arc<[u8; KEM_PUBLIC_LEN]> {
        self.today.kem.shared_public()
    }

    /// Opens a build. Costs about 150 us when a slot is for us, else 2.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing is remembered of a build that does not authenticate, so that nobody
    /// fills the window without paying for each entry.
    pub fn open(
        &self,
        wall: Wall,
        window: &mut ReplayWindow,
        mut message: BuildMessage,
    ) -> Result<Opened, OpenError> {
        let (pair, at) = self.find(&message).ok_or(OpenError::NotOurs)?;
        let bytes = take_slot(&mut message, at).ok_or(OpenError::NotOurs)?;
        let mut slot = Slot::decode(&bytes).map_err(|_| OpenError::NotOurs)?;
        let secret = self.agree(pair, &slot).ok_or(OpenError::Unauthentic)?;
        secret
            .seal()
            .open_in_place(0, &message[..], &mut slot.record, &slot.tag)
            .map_err(|_| OpenError::Unauthentic)?;
        let record = Record::decode(&slot.record).map_err(|_| OpenError::Malformed)?;
        window.insert(wall, record.made, slot.prefix)?;
        secret.onward(&mut message);
        let onward = match record.next {
            Some(contact) => Onward::Middle { contact, message },
            None => Onward::End,
        };
        let answer = Answer { secret, slot: at, salt: record.salt, owner: slot.ephemeral };
        Ok(Opened { onward, lifetime_minutes: record.lifetime_minutes, answer })
    }

    /// The first slot made for one of our keys.
    fn find(&self, message: &BuildMessage) -> Option<(&Pair, usize)> {
        let (slots, _) = message.as_chunks::<SLOT_LEN>();
        let pairs = || std::iter::once(&self.today).chain(&self.yesterday);
        slots.iter().enumerate().find_map(|(at, bytes)| {
            let slot = Slot::decode(bytes).ok()?;
            pairs()
                .find(|pair| kdf::eq(&prefix(&pair.dh.public(), &slot.ephemeral), &slot.prefix))
                .map(|pair| (pair, at))
        })
    }

    fn agree(&self, pair: &Pair, slot: &Slot) -> Option<HopSecret> {
        let dh = pair.dh.agree(&slot.ephemeral)?;
        let kem = pair.kem.decapsulate(&slot.ciphertext);
        let exchange = Exchange {
            dh_initiator: &slot.ephemeral,
            dh_responder: &pair.dh.public(),
            kem_public: pair.kem.public(),
            kem_ciphertext: &slot.ciphertext,
        };
        Some(HopSecret::new(&dh, &kem, &exchange, self.network, self.id))
    }
}
