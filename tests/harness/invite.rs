//! What an invite line says, read as a stranger would who has only the written format.
//!
//! Lives here: finding identities and addresses in a line (docs/spec/link.md, "Router descriptor").
//! Does not live here: signatures; nobody is trusted here.

use data_encoding::BASE32_NOPAD;

/// A router that an invite line names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its Ed25519 identity.
    pub id: [u8; 32],
    /// Its X25519 link key.
    pub link_key: [u8; 32],
}

/// The routers of `line`: the router that made it comes first.
pub fn routers(line: &str) -> Vec<Named> {
    let text = line.trim().strip_prefix("warren-invite-").expect("an invite line");
    let bytes = BASE32_NOPAD.decode(text.to_ascii_uppercase().as_bytes()).unwrap();
    // The network comes first and its length varies: the list starts where its lengths add up.
    (0..bytes.len()).find_map(|start| list(&bytes[start..])).expect("descriptors in the invite")
}

/// Number of descriptors, then each with its length, then a checksum of 4.
fn list(bytes: &[u8]) -> Option<Vec<Named>> {
    let (count, mut rest) = bytes.split_first()?;
    if !(1..=4).contains(count) {
        return None;
    }
    let mut routers = Vec::new();
    for _ in 0..*count {
        let (len, after) = rest.split_first_chunk::<2>()?;
        let len = usize::from(u16::from_be_bytes(*len));
        if !(1_400..1_600).contains(&len) || after.len() < len || after[0] != 1 {
            return None;
        }
        let (descriptor, after) = after.split_at(len);
        // version 1, network 32, identity 32, link key 32
        routers.push(Named {
            id: descriptor[33..65].try_into().ok()?,
            link_key: descriptor[65..97].try_into().ok()?,
        });
        rest = after;
    }
    (rest.len() == 4).then_some(routers)
}
