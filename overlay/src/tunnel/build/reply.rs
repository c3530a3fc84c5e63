//! The reply: written only on the way back, one size for yes and no.
//!
//! Lives here: the 64-byte reply slot, and `Answer`, a hop's one chance to write into it. Does not
//! live here: the owner's walk over all slots (`create.rs`).

use super::{
    BuildReply,
    slot::{HopSecret, REPLY_SLOT_LEN},
};
use crate::{
    crypto::{
        aead::{Aead, TAG_LEN},
        kem::DhSecret,
        onion::{Direction, LayerKeys, RelayBackward, RelayForward},
    },
    rng::Rng,
    wire::{BUILD_REPLY_LEN, Reader},
};

const BODY_LEN: usize = REPLY_SLOT_LEN - TAG_LEN;

const ACCEPTED: u8 = 0;
const REFUSED: u8 = 1;
const UNREACHABLE: u8 = 2;

/// Why a hop that opened its record says no. Coarse on purpose (PROTOCOL P3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decline {
    /// It will not carry the tunnel.
    Refused,
    /// It could not reach the next hop, or that did not answer.
    Unreachable,
}

/// What a reply slot says.
pub(super) enum Said {
    Accepted([u8; 32]),
    Refused,
    Unreachable,
}

/// Both directions of one hop's onion layer.
#[derive(Debug)]
pub struct HopLayers {
    /// For cells from the owner.
    pub forward: RelayForward,
    /// For cells to the owner.
    pub backward: RelayBackward,
}

/// A hop's right to answer one build. Used up by answering, because the reply key seals once.
#[derive(Debug)]
pub struct Answer {
    pub(super) secret: HopSecret,
    pub(super) slot: usize,
    pub(super) salt: [u8; 32],
    /// The owner's ephemeral key for this hop.
    pub(super) owner: [u8; 32],
}

impl Answer {
    /// Says yes into a reply that came from the next hop (or, at the end, into a [`noise_reply`]).
    ///
    /// Costs two X25519 operations, about 110 us. `None` if the owner's key agrees on nothing, which `open` has
    /// already ruled out; the reply then says no.
    pub fn accept(self, rng: &mut Rng, reply: &mut [u8; BUILD_REPLY_LEN]) -> Option<HopLayers> {
        let fresh = DhSecret::generate(rng);
        let Some(ee) = fresh.agree(&self.owner) else {
            self.decline(Decline::Refused, reply);
            return None;
        };
        let secret = self.secret.layers(&self.salt, &ee, &self.owner, &fresh.public());
        self.write(ACCEPTED, &fresh.public(), reply);
        Some(HopLayers {
            forward: RelayForward::new(LayerKeys::derive(&secret, Direction::Forward)),
            backward: RelayBackward::new(LayerKeys::derive(&secret, Direction::Backward)),
        })
    }

    /// Says no into a [`noise_reply`].
    pub fn decline(self, why: Decline, reply: &mut [u8; BUILD_REPLY_LEN]) {
        let status = match why {
            Decline::Refused => REFUSED,
            Decline::Unreachable => UNREACHABLE,
        };
        self.write(status, &[0; 32], reply);
    }

    /// Layers the other slots, then seals the own one.
    ///
    /// | bytes | field |
    /// |-------|-------|
    /// | 32    | the hop's fresh X25519 key; zero when it says no |
    /// | 1     | status: 0 accepted, 1 refused, 2 next hop unreachable |
    /// | 15    | zero |
    /// | 16    | tag |
    ///
    /// All but the tag is encrypted; the owner's ephemeral is associated data.
    fn write(self, status: u8, fresh: &[u8; 32], reply: &mut [u8; BUILD_REPLY_LEN]) {
        self.secret.back(reply);
        let mut body = [0; BODY_LEN];
        for (to, from) in body.iter_mut().zip(fresh.iter().chain([&status])) {
            *to = *from;
        }
        let tag = self.secret.reply(&self.salt).seal_in_place(0, &self.owner, &mut body);
        if let Some(slot) = reply.as_chunks_mut::<REPLY_SLOT_LEN>().0.get_mut(self.slot) {
            for (to, from) in slot.iter_mut().zip(body.iter().chain(&tag)) {
                *to = *from;
            }
        }
    }
}

/// A reply that says nothing: what every reply starts from, and all that a hop answers which cannot
/// or will not open a build. To everybody but the owner it looks like any other.
pub fn noise_reply(rng: &mut Rng) -> BuildReply {
    Box::new(rng.bytes())
}

/// Reads one reply slot; `None` if it is not from the hop.
pub(super) fn read_slot(
    key: &Aead,
    owner: &[u8; 32],
    reply: &[u8; BUILD_REPLY_LEN],
    at: usize,
) -> Option<Said> {
    let slot = reply.as_chunks::<REPLY_SLOT_LEN>().0.get(at)?;
    let (body, tag) = slot.split_last_chunk::<TAG_LEN>()?;
    let mut body: [u8; BODY_LEN] = body.try_into().ok()?;
    key.open_in_place(0, owner, &mut body, tag).ok()?;
    let mut r = Reader::new(&body);
    let fresh: [u8; 32] = r.array("reply key").ok()?;
    let status = r.u8("reply status").ok()?;
    if r.rest().iter().any(|byte| *byte != 0) {
        return None;
    }
    match status {
        ACCEPTED => Some(Said::Accepted(fresh)),
        REFUSED if fresh == [0; 32] => Some(Said::Refused),
        UNREACHABLE if fresh == [0; 32] => Some(Said::Unreachable),
        _ => None,
    }
}
