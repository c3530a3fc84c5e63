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
//! | 4     | first bytes of BLAKE3 over all before it: a mistyped line is refused, not half believed |

use std::{str::FromStr, sync::Arc};

use data_encoding::BASE32_NOPAD;
use warren_overlay::{
    crypto::kdf,
    ring::admission::Network,
    wire::{Reader, RouterDescriptor, WireError, Writer},
};

const PREFIX: &str = "warren-invite-";
/// Descriptors in one line: enough to survive one router that is gone, short enough to paste.
pub const ROUTERS_MAX: usize = 4;
/// Longest line in bytes that is looked at.
const LINE_MAX: usize = 16 * 1_024;

/// A network and a few of its routers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    /// Which network.
    pub network: Network,
    /// Routers to dial first, 1 to 4.
    pub routers: Vec<Arc<RouterDescriptor>>,
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
    r.finish()?;
    Ok(Invite { network, routers })
}

impl FromStr for Invite {
    type Err = InviteError;

    fn from_str(line: &str) -> Result<Self, InviteError> {
        let line = line.trim();
        let text =
            line.strip_prefix(PREFIX).filter(|_| line.len() <= LINE_MAX).ok_or(InviteError)?;
        let bytes =
            BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).map_err(|_| InviteError)?;
        read(&bytes).map_err(|_| InviteError)
    }
}
