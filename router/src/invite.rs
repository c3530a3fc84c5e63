//! The invite: one line that carries a network and a few of its routers.
//!
//! Lives here: the line's bytes. Does not live here: which routers are named (the driver picks), and
//! what joining does (`home`, the ring).
//!
//! `warren-invite-` and base32 (RFC 4648, lower case, no padding) of:
//!
//! | bytes | field |
//! |-------|-------|
//! | n     | network (`overlay::ring::Network`) |
//! | 1     | number of descriptors, 1 to 4 |
//! | 2 + m | each: length, router descriptor |
//! | 1 + 99 c | in a network by invitation: the newcomer's chain of signatures, 1 to 8 |
//! | 4     | first bytes of BLAKE3 over all before it: a mistyped line is refused, not half believed |

use std::{str::FromStr, sync::Arc};

use data_encoding::BASE32_NOPAD;
use warren_overlay::{
    crypto::kdf,
    ring::admission::{Mode, Network},
    wire::{Reader, RouterDescriptor, Vouch, WireError, Writer, decode_chain, encode_chain},
};

const PREFIX: &str = "warren-invite-";
/// Descriptors in one line: enough to survive one router that is gone, short enough to paste.
pub const ROUTERS_MAX: usize = 4;
/// Longest line in bytes that is looked at.
const LINE_MAX: usize = 20 * 1_024;

/// A network and a few of its routers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    /// Which network.
    pub network: Network,
    /// Routers to dial first, 1 to 4.
    pub routers: Vec<Arc<RouterDescriptor>>,
    /// In a network by invitation what makes the newcomer a member, 1 to 8; in others none.
    pub chain: Vec<Vouch>,
}

/// Text that is no invite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no invite line: copy the whole line that `warren invite` printed")]
pub struct InviteError;

impl Invite {
    /// The line. Only the first four routers are named.
    pub fn to_line(&self) -> String {
        let mut w = Writer::default();
        let routers = self.routers.get(..ROUTERS_MAX).unwrap_or(&self.routers);
        w.bytes(&self.network.encode()).u8(u8::try_from(routers.len()).unwrap_or(0));
        for router in routers {
            let bytes = router.encode();
            w.u16(u16::try_from(bytes.len()).unwrap_or(0)).bytes(&bytes);
        }
        if matches!(self.network.mode, Mode::Invite { .. }) {
            encode_chain(&self.chain, &mut w);
        }
        let mut bytes = w.into_bytes();
        bytes.extend_from_slice(&checksum(&bytes));
        format!("{PREFIX}{}", BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
    }
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    kdf::derive("warren invite 1", &[bytes])
}

fn read(bytes: &[u8]) -> Result<Invite, WireError> {
    let (body, sum) = bytes.split_last_chunk::<4>().ok_or(WireError::Truncated("invite"))?;
    if checksum(body) != *sum {
        return Err(WireError::Bad("invite checksum"));
    }
    let mut r = Reader::new(body);
    let network = Network::decode(&mut r)?;
    let count = usize::from(r.u8("invite routers")?);
    if !(1..=ROUTERS_MAX).contains(&count) {
        return Err(WireError::Bad("invite routers"));
    }
    let id = network.id();
    let routers = (0..count)
        .map(|_| {
            let len = usize::from(r.u16("invite descriptor length")?);
            RouterDescriptor::decode(r.slice(len, "invite descriptor")?, id).map(Arc::new)
        })
        .collect::<Result<_, _>>()?;
    let chain = match network.mode {
        Mode::Invite { .. } => decode_chain(&mut r)?,
        Mode::Proof | Mode::Friends => Vec::new(),
    };
    r.finish()?;
    Ok(Invite { network, routers, chain })
}

impl FromStr for Invite {
    type Err = InviteError;

    fn from_str(line: &str) -> Result<Self, InviteError> {
        let line = line.trim();
        if line.len() > LINE_MAX {
            return Err(InviteError);
        }
        // Capital letters too: a QR code holds them in half of the room.
        let line = line.to_ascii_lowercase();
        let text = line.strip_prefix(PREFIX).ok_or(InviteError)?;
        let bytes =
            BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).map_err(|_| InviteError)?;
        read(&bytes).map_err(|_| InviteError)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use warren_overlay::{
        crypto::{puzzle::Difficulty, secret::Secret, sign::IdentityKey},
        ring::admission::{NetworkName, SUITE_HYBRID},
        time::Wall,
        wire::{Admission, DescriptorFields},
    };

    use super::*;

    fn invite(routers: u8) -> Invite {
        invite_to(Mode::Proof, routers)
    }

    fn invite_to(mode: Mode, routers: u8) -> Invite {
        let network = Network {
            name: NetworkName::Named("ab".into()),
            mode,
            difficulty: Difficulty(7),
            suite: SUITE_HYBRID,
            local: true,
        };
        let router = |n: u8| {
            let fields = DescriptorFields {
                network: network.id(),
                link_key: [1; 32],
                tunnel_dh: [2; 32],
                tunnel_kem: Arc::new([3; 1184]),
                addresses: vec![SocketAddr::from(([127, 0, n, 1], 9_000)).into()],
                capabilities: 0,
                bandwidth_kbps: 1_000,
                family: None,
                admission: Admission { nonce: 5, output: [0; 32] },
                vouches: Vec::new(),
                published: Wall::from_minutes(1_000),
                expiry: Wall::from_minutes(1_100),
            };
            let key = IdentityKey::from_seed(Secret::take(&mut [n; 32]));
            Arc::new(RouterDescriptor::sign(fields, &key).unwrap())
        };
        let key = IdentityKey::from_seed(Secret::take(&mut [9; 32]));
        let signs = |n| Vouch::sign(network.id(), &key, key.id(), 0, n);
        let chain = match mode {
            Mode::Invite { .. } => (0..8).map(signs).collect(),
            Mode::Proof | Mode::Friends => Vec::new(),
        };
        Invite { routers: (1..=routers).map(router).collect(), chain, network }
    }

    fn bytes(line: &str) -> Vec<u8> {
        let text = line.strip_prefix(PREFIX).unwrap().to_ascii_uppercase();
        BASE32_NOPAD.decode(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_line_brings_back_its_network_and_routers_spaces_around_it_aside() {
        for routers in 1..=4 {
            let invite = invite(routers);
            assert_eq!(format!(" {}\n", invite.to_line()).parse(), Ok(invite));
        }
        assert_eq!(invite(6).to_line().parse(), Ok(invite(4)), "the first four are named");
    }

    #[test]
    fn a_line_into_a_network_by_invitation_carries_the_newcomers_signatures() {
        let mode = Mode::Invite { founder: warren_overlay::id::RouterId([4; 32]), weekly: 8 };
        let mut invite = invite_to(mode, 4);
        assert!(invite.to_line().len() <= LINE_MAX);
        assert_eq!(invite.to_line().parse(), Ok(invite.clone()));
        invite.chain.clear();
        assert_eq!(invite.to_line().parse::<Invite>(), Err(InviteError), "without it is none");
    }

    #[test]
    fn a_line_has_the_documented_bytes() {
        let invite = invite(1);
        let bytes = bytes(&invite.to_line());
        let (network, rest) = bytes.split_at(9);
        assert_eq!(network, [0, 2, b'a', b'b', 0, 7, 0, 1, 1]);
        let descriptor = invite.routers[0].encode();
        let len = u16::try_from(descriptor.len()).unwrap().to_be_bytes();
        assert_eq!(rest[..3], [1, len[0], len[1]]);
        assert_eq!(rest[3..3 + descriptor.len()], descriptor[..]);
        // The last four bytes stand for all before them: the vector of docs/spec/invite.md.
        assert_eq!(data_encoding::HEXLOWER.encode(&rest[3 + descriptor.len()..]), "3ce16b0b");
        assert_eq!((bytes.len(), invite.to_line().len()), (1_483, 2_387));
    }

    #[test]
    fn one_wrong_letter_anywhere_is_refused() {
        let line = invite(1).to_line();
        for at in 0..line.len() {
            let mut other = line.clone().into_bytes();
            other[at] = if other[at] == b'a' { b'b' } else { b'a' };
            let other = String::from_utf8(other).unwrap();
            assert_eq!(other.parse::<Invite>(), Err(InviteError), "letter {at}");
        }
        for len in 0..line.len() {
            assert_eq!(line[..len].parse::<Invite>(), Err(InviteError), "{len} letters");
        }
    }

    #[test]
    fn a_line_without_routers_or_with_five_is_refused() {
        for count in [0, 5] {
            let mut bytes = bytes(&invite(4).to_line());
            bytes.truncate(bytes.len() - 4);
            bytes[9] = count;
            bytes.extend_from_slice(&checksum(&bytes));
            assert!(read(&bytes).is_err());
        }
    }
}
