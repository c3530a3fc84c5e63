//! The owner's side: making a build message and reading its reply.
//!
//! Lives here: `create` and `PendingBuild`. Does not live here: the choice of hops (`select.rs`) and
//! what a failure means for later choices (`pools.rs`).

use std::sync::Arc;

use super::{
    BuildMessage,
    reply::{Said, read_slot},
    slot::{HOPS_MAX, HopSecret, LIFETIME_MINUTES_MAX, Record, SLOTS, Slot, prefix, take_slot},
};
use crate::{
    crypto::{
        kem::{self, DhSecret, Exchange},
        onion::{Direction, LayerKeys, OwnerBackward, OwnerForward},
    },
    rng::Rng,
    time::Wall,
    wire::{BUILD_LEN, BUILD_REPLY_LEN, RouterDescriptor},
};

/// Why no build message can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// A tunnel has 1 to 4 hops.
    #[error("a tunnel has 1 to 4 hops")]
    Hops,
    /// A tunnel lives for 1 to 120 minutes.
    #[error("a tunnel lives for 1 to 120 minutes")]
    Lifetime,
    /// Nobody can dial the hop.
    #[error("hop {hop} has no address")]
    NoAddress {
        /// Which, counting from 0.
        hop: usize,
    },
    /// The hop published a tunnel key that is none.
    #[error("hop {hop} has an invalid tunnel key")]
    BadKey {
        /// Which, counting from 0.
        hop: usize,
    },
}

/// Why a build that was answered failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureReason {
    /// The charged hop said no.
    Refused,
    /// The charged hop could not reach the next one, or got no answer from it.
    Unreachable,
    /// What came from behind the charged hop opens under no key: the next hop would not open the
    /// build, or somebody changed it or its reply.
    Garbage,
}

/// Whom a failed build is charged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildFailure {
    /// The hop, counting from 0: the one that refused, else the last that answered under its key,
    /// else the first.
    pub hop: usize,
    /// What happened.
    pub reason: FailureReason,
}

/// Both directions of a finished tunnel, as its owner holds them.
#[derive(Debug)]
pub struct OwnerLayers {
    /// Makes cells for the end.
    pub forward: OwnerForward,
    /// Opens cells of the end.
    pub backward: OwnerBackward,
}

struct PendingHop {
    slot: usize,
    ephemeral: DhSecret,
    secret: HopSecret,
    salt: [u8; 32],
}

/// A build on its way: what is needed to read the reply, and nothing that outlives it.
pub struct PendingBuild {
    hops: Vec<PendingHop>,
}

impl std::fmt::Debug for PendingBuild {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("_")
    }
}

/// Makes the message that builds a tunnel through `hops`, the first of which receives it.
///
/// Costs about 180 us a hop. Every slot and every hop has fresh keys; unused slots are random bytes,
/// which is also what every other slot looks like to whom it is not for.
///
/// # Errors
/// When the number of hops or the lifetime is out of bounds, or a hop's published key is invalid.
pub fn create(
    rng: &mut Rng,
    wall: Wall,
    hops: &[Arc<RouterDescriptor>],
    lifetime_minutes: u16,
) -> Result<(BuildMessage, PendingBuild), CreateError> {
    if !(1..=HOPS_MAX).contains(&hops.len()) {
        return Err(CreateError::Hops);
    }
    if !(1..=LIFETIME_MINUTES_MAX).contains(&lifetime_minutes) {
        return Err(CreateError::Lifetime);
    }
    let order = shuffled(rng);
    let mut parts = Vec::with_capacity(hops.len());
    for (at, (hop, slot)) in hops.iter().zip(order).enumerate() {
        let next = match hops.get(at + 1) {
            Some(next) => Some(next.contact().ok_or(CreateError::NoAddress { hop: at + 1 })?),
            None => None,
        };
        let record = Record { next, made: wall, lifetime_minutes, salt: rng.bytes() };
        parts.push(prepare(rng, hop, &record, slot).ok_or(CreateError::BadKey { hop: at })?);
    }

    // What the last hop must receive, but for the records: unused slots are random, every hop before
    // it refills its own slot and layers the rest.
    let mut message: BuildMessage = Box::new([0; BUILD_LEN]);
    for slot in order.iter().skip(hops.len()) {
        if let Some(bytes) = message.as_chunks_mut().0.get_mut(*slot) {
            *bytes = rng.bytes::<{ super::slot::SLOT_LEN }>();
        }
    }
    let last = parts.len().saturating_sub(1);
    for (pending, ..) in parts.iter().take(last) {
        let _ = take_slot(&mut message, pending.slot);
        pending.secret.onward(&mut message);
    }
    // Seal from the last hop to the first, each over the whole message as that hop must see it.
    // Undoing a hop's step leaves its own slot zero, which is just what its record is sealed over.
    let mut hops = Vec::with_capacity(parts.len());
    for (at, (pending, mut slot)) in parts.into_iter().enumerate().rev() {
        if at < last {
            pending.secret.onward(&mut message);
        }
        let _ = take_slot(&mut message, pending.slot);
        slot.tag = pending.secret.seal().seal_in_place(0, &message[..], &mut slot.record);
        if let Some(bytes) = message.as_chunks_mut().0.get_mut(pending.slot) {
            slot.write(bytes);
        }
        hops.push(pending);
    }
    hops.reverse();
    Ok((message, PendingBuild { hops }))
}

fn prepare(
    rng: &mut Rng,
    hop: &RouterDescriptor,
    record: &Record,
    slot: usize,
) -> Option<(PendingHop, Slot)> {
    let fields = hop.fields();
    let ephemeral = DhSecret::generate(rng);
    let dh = ephemeral.agree(&fields.tunnel_dh)?;
    let (ciphertext, kem) = kem::encapsulate(rng, &fields.tunnel_kem)?;
    let exchange = Exchange {
        dh_initiator: &ephemeral.public(),
        dh_responder: &fields.tunnel_dh,
        kem_public: &fields.tunnel_kem,
        kem_ciphertext: &ciphertext,
    };
    let secret = HopSecret::new(&dh, &kem, &exchange, fields.network, hop.id());
    let sealed = Slot {
        ephemeral: ephemeral.public(),
        prefix: prefix(&fields.tunnel_dh, &ephemeral.public()),
        ciphertext,
        record: record.encode(),
        tag: [0; 16],
    };
    Some((PendingHop { slot, ephemeral, secret, salt: record.salt }, sealed))
}

/// A uniform order of the slots (Fisher and Yates).
fn shuffled(rng: &mut Rng) -> [usize; SLOTS] {
    let mut order = [0, 1, 2, 3];
    for at in (1..SLOTS).rev() {
        let with = usize::try_from(rng.below(at as u64 + 1)).unwrap_or(0);
        order.swap(at, with);
    }
    order
}

impl PendingBuild {
    /// Reads the reply: the tunnel's layers, or whom its failure is charged to.
    ///
    /// # Errors
    /// The first hop that refused, could not go on, or passed on what opens under no key.
    pub fn open(self, reply: &[u8; BUILD_REPLY_LEN]) -> Result<OwnerLayers, BuildFailure> {
        let mut reply = *reply;
        let (mut forward, mut backward) = (Vec::new(), Vec::new());
        for (at, hop) in self.hops.iter().enumerate() {
            let owner = hop.ephemeral.public();
            let said = read_slot(&hop.secret.reply(&hop.salt), &owner, &reply, hop.slot);
            let theirs = match said {
                Some(Said::Accepted(theirs)) => theirs,
                Some(Said::Refused) => return Err(charge(at, FailureReason::Refused)),
                Some(Said::Unreachable) => return Err(charge(at, FailureReason::Unreachable)),
                None => return Err(charge(at.saturating_sub(1), FailureReason::Garbage)),
            };
            let Some(ee) = hop.ephemeral.agree(&theirs) else {
                return Err(charge(at, FailureReason::Garbage));
            };
            let secret = hop.secret.layers(&hop.salt, &ee, &owner, &theirs);
            forward.push(LayerKeys::derive(&secret, Direction::Forward));
            backward.push(LayerKeys::derive(&secret, Direction::Backward));
            hop.secret.back(&mut reply);
        }
        Ok(OwnerLayers {
            forward: OwnerForward::new(forward),
            backward: OwnerBackward::new(backward),
        })
    }

    /// Which slot each hop got, first hop first: for tests that look into a message.
    #[cfg(test)]
    pub(super) fn slots(&self) -> Vec<usize> {
        self.hops.iter().map(|hop| hop.slot).collect()
    }
}

const fn charge(hop: usize, reason: FailureReason) -> BuildFailure {
    BuildFailure { hop, reason }
}
