//! What the members of a network must agree on (PROTOCOL P1).
//!
//! Lives here: a network's settings, their bytes and their hash. Does not live here: proofs of work
//! (`admission.rs`), who is let in by the mode (`members.rs`).

use std::fmt;

use crate::{
    crypto::{
        kdf,
        puzzle::{Difficulty, Params},
    },
    id::{NetworkId, RouterId},
    wire::{Reader, WireError, Writer},
};

/// Longest network name in bytes.
pub const NETWORK_NAME_MAX: usize = 64;
pub use crate::crypto::suite::HYBRID as SUITE_HYBRID;
/// Hardest network there is, in bits: about 4 hours of work. A bound, so that an invite cannot ask
/// for years.
pub const DIFFICULTY_MAX: u8 = 20;
/// What the puzzle costs where work is not the point: the least Argon2id takes.
const FREE: Params = Params { memory_kib: 8, passes: 1 };

/// What a network is called.
#[derive(Clone, PartialEq, Eq)]
pub enum NetworkName {
    /// A name that people agreed on: 1 to 64 bytes of printable ASCII.
    Named(String),
    /// A private network: 16 random bytes.
    Random([u8; 16]),
}

/// Newcomers that one member may sign for in a week, at most, whatever the network says.
pub const WEEKLY_MAX: u8 = 64;

/// What it takes to be let in, besides the work for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing: the work is the price.
    Proof,
    /// A chain of members' signatures that begins with the founder's.
    Invite {
        /// Whose signature every chain begins with: the router that made the network.
        founder: RouterId,
        /// Newcomers that a member may sign for in one week, 1 to [`WEEKLY_MAX`].
        weekly: u8,
    },
    /// Links only between routers whose operators both named the other.
    Friends,
}

/// All that the members of a network must agree on. Prints as `_`.
///
/// | bytes | field |
/// |-------|-------|
/// | 1     | name kind: 0 named, 1 random |
/// | 1     | name length n: 1 to 64; 16 when random |
/// | n     | name |
/// | 1     | admission mode: 0 `proof`, 1 `invite`, 2 `friends` |
/// | 1     | difficulty: leading zero bits of a proof's output, 0 to 20 |
/// | 2     | suite |
/// | 1     | 1 when local: routers live on one machine or one lab's addresses, else 0 |
/// | 32 + 1 | mode 1 only: the founder's identity, newcomers a member and week |
#[derive(Clone, PartialEq, Eq)]
pub struct Network {
    /// What it is called.
    pub name: NetworkName,
    /// What it takes to be let in.
    pub mode: Mode,
    /// How hard a proof is; up to [`DIFFICULTY_MAX`]. Zero, for demonstrations and tests: any output
    /// is good, and one costs microseconds.
    pub difficulty: Difficulty,
    /// Which ciphers; [`SUITE_HYBRID`] outside of simulators.
    pub suite: u16,
    /// Whether its routers may live on loopback and private addresses (PROTOCOL P3).
    pub local: bool,
}

impl Network {
    /// The hash that stands for all of it: in every prologue, key derivation and signature.
    pub fn id(&self) -> NetworkId {
        NetworkId(kdf::hash("warren network 1", &[&self.encode()]))
    }

    /// Its bytes: what an invite carries.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        let (kind, name) = match &self.name {
            NetworkName::Named(name) => (0, name.as_bytes()),
            NetworkName::Random(id) => (1, &id[..]),
        };
        w.u8(kind).u8(u8::try_from(name.len()).unwrap_or(u8::MAX)).bytes(name);
        let mode = match self.mode {
            Mode::Proof => 0,
            Mode::Invite { .. } => 1,
            Mode::Friends => 2,
        };
        w.u8(mode).u8(self.difficulty.0).u16(self.suite).u8(u8::from(self.local));
        if let Mode::Invite { founder, weekly } = &self.mode {
            w.bytes(founder.as_bytes()).u8(*weekly);
        }
        w.into_bytes()
    }

    /// Reads the bytes of `encode`.
    ///
    /// # Errors
    /// On any other spelling, a name that cannot be printed, a difficulty nobody could pay, and a
    /// week without a newcomer or with more than [`WEEKLY_MAX`].
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let kind = r.u8("network name kind")?;
        let len = usize::from(r.u8("network name length")?);
        let name = match kind {
            0 if (1..=NETWORK_NAME_MAX).contains(&len) => {
                let name = r.slice(len, "network name")?;
                if !name.iter().all(u8::is_ascii_graphic) {
                    return Err(WireError::Bad("network name"));
                }
                let name = name.iter().map(|byte| char::from(*byte)).collect();
                NetworkName::Named(name)
            }
            1 if len == 16 => NetworkName::Random(r.array("network name")?),
            _ => return Err(WireError::Bad("network name")),
        };
        let mode = r.u8("network admission mode")?;
        let difficulty = Difficulty(r.u8("network difficulty")?);
        if difficulty.0 > DIFFICULTY_MAX {
            return Err(WireError::Bad("network difficulty"));
        }
        let suite = r.u16("network suite")?;
        let local = match r.u8("network local flag")? {
            0 => false,
            1 => true,
            _ => return Err(WireError::Bad("network local flag")),
        };
        let mode = match mode {
            0 => Mode::Proof,
            1 => {
                let founder = RouterId(r.array("network founder")?);
                let weekly = r.u8("network newcomers a week")?;
                if !(1..=WEEKLY_MAX).contains(&weekly) {
                    return Err(WireError::Bad("network newcomers a week"));
                }
                Mode::Invite { founder, weekly }
            }
            2 => Mode::Friends,
            _ => return Err(WireError::Bad("network admission mode")),
        };
        Ok(Self { name, mode, difficulty, suite, local })
    }

    /// What one evaluation of the puzzle costs here: about 13 ms, or next to nothing in networks of
    /// difficulty 0 and under a simulator's stand-in suite.
    pub fn cost(&self) -> Params {
        let free = self.difficulty == Difficulty::NONE || self.suite != SUITE_HYBRID;
        if free { FREE } else { Params::STANDARD }
    }
}

/// Mute: a private network's name is its secret.
impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network(_)")
    }
}

/// Mute, see [`Network`].
impl fmt::Debug for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ring::testing::network;

    fn any_network() -> impl Strategy<Value = Network> {
        let name = prop_oneof![
            "[!-~]{1,64}".prop_map(NetworkName::Named),
            any::<[u8; 16]>().prop_map(NetworkName::Random),
        ];
        let mode = prop_oneof![
            Just(Mode::Proof),
            (any::<[u8; 32]>(), 1..=WEEKLY_MAX)
                .prop_map(|(id, weekly)| Mode::Invite { founder: RouterId(id), weekly }),
            Just(Mode::Friends),
        ];
        let rest = ((0..=DIFFICULTY_MAX).prop_map(Difficulty), any::<u16>(), any::<bool>());
        (name, mode, rest).prop_map(|(name, mode, (difficulty, suite, local))| Network {
            name,
            mode,
            difficulty,
            suite,
            local,
        })
    }

    fn decoded(bytes: &[u8]) -> Result<Network, WireError> {
        let mut r = Reader::new(bytes);
        let network = Network::decode(&mut r)?;
        r.finish().map(|()| network)
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(network in any_network()) {
            prop_assert_eq!(decoded(&network.encode()), Ok(network));
        }

        #[test]
        fn no_two_byte_strings_mean_the_same_network(
            network in any_network(), at: prop::sample::Index, head: bool, with: u8,
        ) {
            let mut bytes = network.encode();
            let at = at.index(if head { 2 } else { bytes.len() });
            bytes[at] = with;
            if let Ok(other) = decoded(&bytes) {
                prop_assert_eq!(other.encode(), bytes);
            }
        }

        #[test]
        fn truncated_settings_are_refused(network in any_network(), at: prop::sample::Index) {
            let bytes = network.encode();
            prop_assert!(decoded(&bytes[..at.index(bytes.len())]).is_err());
        }

        #[test]
        fn every_setting_enters_the_network_id(a in any_network(), b in any_network()) {
            prop_assert_eq!(a == b, a.id() == b.id());
        }
    }

    #[test]
    fn each_single_setting_changes_the_network_id() {
        let base = network(7);
        let id = base.id();
        let mut ids = std::collections::BTreeSet::from([id]);
        for other in [
            Network { name: NetworkName::Named("other".into()), ..base.clone() },
            Network { mode: Mode::Friends, ..base.clone() },
            Network {
                mode: Mode::Invite { founder: RouterId([1; 32]), weekly: 8 },
                ..base.clone()
            },
            Network {
                mode: Mode::Invite { founder: RouterId([1; 32]), weekly: 9 },
                ..base.clone()
            },
            Network {
                mode: Mode::Invite { founder: RouterId([2; 32]), weekly: 8 },
                ..base.clone()
            },
            Network { difficulty: Difficulty(8), ..base.clone() },
            Network { suite: 3, ..base.clone() },
            Network { local: false, ..base },
        ] {
            assert!(ids.insert(other.id()));
        }
    }

    #[test]
    fn a_named_network_has_the_documented_bytes() {
        let name = NetworkName::Named("ab".into());
        let mode = Mode::Proof;
        let network =
            Network { name, mode, difficulty: Difficulty(7), suite: SUITE_HYBRID, local: true };
        assert_eq!(network.encode(), [0, 2, b'a', b'b', 0, 7, 0, 1, 1]);
        let mode = Mode::Invite { founder: RouterId([9; 32]), weekly: 8 };
        let bytes = Network { mode, ..network.clone() }.encode();
        assert_eq!(bytes[..9], [0, 2, b'a', b'b', 1, 7, 0, 1, 1]);
        assert_eq!((&bytes[9..41], &bytes[41..]), (&[9; 32][..], &[8][..]));
        let mode = Mode::Friends;
        assert_eq!(Network { mode, ..network }.encode(), [0, 2, b'a', b'b', 2, 7, 0, 1, 1]);
    }

    #[test]
    fn a_week_of_no_newcomer_or_of_too_many_is_refused() {
        for weekly in [0, WEEKLY_MAX + 1] {
            let mode = Mode::Invite { founder: RouterId([9; 32]), weekly };
            assert!(decoded(&Network { mode, ..network(7) }.encode()).is_err());
        }
    }
}
