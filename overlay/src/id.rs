//! Who and where: the identifiers that cross module borders.
//!
//! Lives here: router and network ids, ring locations, storage keys, tunnel ids on a link, and the
//! per-process ordinals that logs use instead of any of them. Does not live here: service names
//! (`service/name.rs`) and how a location is earned (`ring/admission.rs`).

use std::{fmt, str::FromStr};

use data_encoding::BASE32_NOPAD;

/// Text that is no id: wrong length, wrong letters, or not the canonical spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid id: expected 52 lower-case base32 characters")]
pub struct IdError;

macro_rules! id32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Text form: 52 lower-case base32 characters without padding (RFC 4648, section 6).
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
            }
        }

        /// Mute: no identity is ever logged (DESIGN section 3).
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("_")
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                if text.len() != 52 || text.bytes().any(|b| b.is_ascii_uppercase()) {
                    return Err(IdError);
                }
                let bytes = BASE32_NOPAD
                    .decode(text.to_ascii_uppercase().as_bytes())
                    .map_err(|_| IdError)?;
                Ok(Self(bytes.try_into().map_err(|_| IdError)?))
            }
        }
    };
}

id32! {
    /// Who a router is: its Ed25519 verifying key.
    RouterId
}
id32! {
    /// Which network: the hash of all that its members must agree on (PROTOCOL P1).
    NetworkId
}
id32! {
    /// Where a stored unit belongs: a record's address. Its first 8 bytes are its ring location.
    Key
}

impl Key {
    /// The point of the ring whose nearest routers hold this key.
    pub fn location(&self) -> Location {
        let (head, _) = self.0.split_first_chunk().expect("32 bytes begin with 8");
        Location(u64::from_be_bytes(*head))
    }
}

/// A point on the ring of 2^64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location(pub u64);

impl Location {
    /// How far apart two points are, the short way round.
    ///
    /// Unit: fractions of a turn times 2^64, at most `1 << 63`. Symmetric; zero only for equal
    /// points. Greedy routing forwards to the neighbour for whom this is smallest (Kleinberg, "The
    /// small-world phenomenon: an algorithmic perspective", STOC 2000).
    ///
    /// ```
    /// use warren_overlay::id::Location;
    /// assert_eq!(Location(u64::MAX).distance(Location(1)), 2);
    /// ```
    pub const fn distance(self, other: Self) -> u64 {
        let clockwise = self.clockwise(other);
        let back = clockwise.wrapping_neg();
        if clockwise < back { clockwise } else { back }
    }

    /// How far it is from here to `other` in the direction of growing numbers.
    pub const fn clockwise(self, other: Self) -> u64 {
        other.0.wrapping_sub(self.0)
    }

    /// The point `distance` further in the direction of growing numbers.
    #[must_use]
    pub const fn plus(self, distance: u64) -> Self {
        Self(self.0.wrapping_add(distance))
    }
}

/// Mute: a location follows from an identity.
impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// A tunnel, splice leg or other credit-controlled lane on one link.
///
/// The side that opens the lane chooses it: the link's initiator with the top bit clear, its
/// responder with the top bit set, each counting up from 1, never twice on one link (PROTOCOL P5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TunnelId(pub u32);

/// A splice inside one tunnel (PROTOCOL P8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpliceId(pub u32);

/// A link as this process counts them: what logs show instead of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkNo(pub u32);

/// An `End` (isolation context or service) as this process counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndNo(pub u32);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_undoes_display(bytes: [u8; 32]) {
            let id = RouterId(bytes);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn distance_is_symmetric_and_at_most_half_a_turn(a: u64, b: u64) {
            let (a, b) = (Location(a), Location(b));
            prop_assert_eq!(a.distance(b), b.distance(a));
            prop_assert!(a.distance(b) <= 1 << 63);
        }
    }

    #[test]
    fn an_id_has_one_spelling() {
        let text = RouterId([7; 32]).to_string();
        assert_eq!(text.to_uppercase().parse::<RouterId>(), Err(IdError));
        let mut loose = text.clone();
        loose.pop();
        loose.push('z'); // the last letter carries 4 unused bits, which must be zero
        assert!(loose.parse::<RouterId>().is_err());
    }

    #[test]
    fn debug_gives_nothing_away() {
        assert_eq!(format!("{:?} {:?}", RouterId([7; 32]), Location(9)), "_ _");
    }
}
