//! A member's signature over a newcomer, and the chain of them that leads back to the founder.
//!
//! Lives here: their bytes, making one, checking one. Does not live here: whether a chain lets a router
//! in (`ring/members.rs`), how many a member may give (its own router counts, and all others check).

use std::fmt;

use super::{Reader, WireError, Writer};
use crate::{
    crypto::sign::{self, IdentityKey},
    id::{NetworkId, RouterId},
    time::Wall,
};

/// Signature context of members' signatures over newcomers.
const CONTEXT: &str = "warren vouch 1";
/// Longest chain: the founder's signature, and seven more.
pub const CHAIN_MAX: usize = 8;
const WEEK_MINUTES: u32 = 7 * 24 * 60;

/// The week that `wall` lies in: whole weeks since the Unix epoch (they begin on Thursdays).
pub fn week(wall: Wall) -> u16 {
    u16::try_from(wall.minutes() / WEEK_MINUTES).unwrap_or(u16::MAX)
}

/// A member's word that a router may join.
///
/// | bytes | field |
/// |-------|-------|
/// | 32    | who signed: identity |
/// | 2     | when: weeks since the Unix epoch |
/// | 1     | which of the signer's signatures of that week, from 0 |
/// | 64    | signature over network id 32, newcomer's identity 32, week 2, number 1 |
///
/// Whom it is for is not written: in a chain that is who signs next, and last the router whose
/// descriptor it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Vouch {
    /// Who signed.
    pub by: RouterId,
    /// In which week.
    pub week: u16,
    /// Which one of that week.
    pub number: u8,
    signature: [u8; 64],
}

impl Vouch {
    /// Encoded length in bytes.
    pub const LEN: usize = 99;

    /// The owner of `key` signs for `newcomer`, as number `number` of `week`.
    pub fn sign(
        network: NetworkId,
        key: &IdentityKey,
        newcomer: RouterId,
        week: u16,
        number: u8,
    ) -> Self {
        let signature = key.sign(CONTEXT, &message(network, newcomer, week, number));
        Self { by: key.id(), week, number, signature }
    }

    /// Whether it really was signed for `newcomer`. Costs one verification, some 40 us.
    pub fn is_for(&self, network: NetworkId, newcomer: RouterId) -> bool {
        let message = message(network, newcomer, self.week, self.number);
        sign::verify(&self.by, CONTEXT, &message, &self.signature)
    }
}

fn message(network: NetworkId, newcomer: RouterId, week: u16, number: u8) -> Vec<u8> {
    let mut w = Writer::with_capacity(67);
    w.bytes(network.as_bytes()).bytes(newcomer.as_bytes()).u16(week).u8(number);
    w.into_bytes()
}

/// Mute: it says who knows whom.
impl fmt::Debug for Vouch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vouch(_)")
    }
}

/// Appends a chain: count 1, then the signatures, the founder's first.
pub fn encode_chain(chain: &[Vouch], w: &mut Writer) {
    w.u8(u8::try_from(chain.len()).unwrap_or(u8::MAX));
    for vouch in chain {
        w.bytes(vouch.by.as_bytes()).u16(vouch.week).u8(vouch.number).bytes(&vouch.signature);
    }
}

/// Reads a chain of 1 to [`CHAIN_MAX`]; the signatures are not checked.
///
/// # Errors
/// On another count, or when the bytes end early.
pub fn decode_chain(r: &mut Reader<'_>) -> Result<Vec<Vouch>, WireError> {
    let count = usize::from(r.u8("signatures count")?);
    if !(1..=CHAIN_MAX).contains(&count) {
        return Err(WireError::Bad("signatures count"));
    }
    let one = |_| {
        Ok(Vouch {
            by: RouterId(r.array("signer")?),
            week: r.u16("signature's week")?,
            number: r.u8("signature's number")?,
            signature: r.array("signature")?,
        })
    };
    (0..count).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::secret::Secret;

    fn key(n: u8) -> IdentityKey {
        IdentityKey::from_seed(Secret::take(&mut [n; 32]))
    }

    #[test]
    fn a_signature_is_for_one_newcomer_of_one_network_in_one_week() {
        let network = NetworkId([9; 32]);
        let vouch = Vouch::sign(network, &key(1), key(2).id(), 2_900, 3);
        assert!(vouch.is_for(network, key(2).id()));
        assert!(!vouch.is_for(network, key(3).id()));
        assert!(!vouch.is_for(NetworkId([8; 32]), key(2).id()));
        for changed in [
            Vouch { by: key(3).id(), ..vouch },
            Vouch { week: 2_901, ..vouch },
            Vouch { number: 4, ..vouch },
        ] {
            assert!(!changed.is_for(network, key(2).id()));
        }
    }

    #[test]
    fn a_chain_has_the_documented_bytes() {
        let vouch = Vouch::sign(NetworkId([9; 32]), &key(1), key(2).id(), 0x0b54, 3);
        let mut w = Writer::default();
        encode_chain(&[vouch, vouch], &mut w);
        let bytes = w.into_bytes();
        assert_eq!(bytes.len(), 1 + 2 * Vouch::LEN);
        assert_eq!((bytes[0], &bytes[1..33]), (2, &key(1).id().0[..]));
        assert_eq!(bytes[33..36], [0x0b, 0x54, 3]);
        let mut r = Reader::new(&bytes);
        assert_eq!(decode_chain(&mut r), Ok(vec![vouch, vouch]));
        assert_eq!(r.finish(), Ok(()));
        for count in [0, 9] {
            let mut bytes = bytes.clone();
            bytes[0] = count;
            bytes.resize(1 + 9 * Vouch::LEN, 0);
            assert!(decode_chain(&mut Reader::new(&bytes)).is_err());
        }
    }

    #[test]
    fn weeks_are_counted_from_the_epoch() {
        assert_eq!(week(Wall::from_minutes(0)), 0);
        assert_eq!(week(Wall::from_minutes(WEEK_MINUTES - 1)), 0);
        assert_eq!(week(Wall::from_minutes(29_730_000)), 2_949);
    }
}
