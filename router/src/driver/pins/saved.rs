//! What is kept of pins: `pins/NUMBER`, and `pins/NUMBER-PART` for the addresses of its blocks.
//!
//! Both are sealed as the queue of puts is (docs/spec/file.md, section 8):
//!
//! | bytes | `pins/NUMBER` |
//! |-------|---------------|
//! | n     | [`Kept`], JSON |
//!
//! | bytes | `pins/NUMBER-PART` |
//! |-------|--------------------|
//! | 32·n  | addresses, ascending; up to 16,384 |

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use warren_overlay::block::BlockAddress;
use zeroize::Zeroizing;

use crate::{
    driver::files::queue::{load_key, seal, unseal},
    home::Home,
};

const FOLDER: &str = "pins";
/// Addresses in one file: 512 KiB.
const PART: usize = 16_384;

/// One pin.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Kept {
    /// What is pinned.
    pub(super) uri: String,
    /// Routers per tunnel; none for the router's own number.
    pub(super) hops: Option<u8>,
    /// Whether all of it is here.
    pub(super) done: bool,
    /// Whether all of it was here before, and the network is given what it lost. Not noted: a restart
    /// does not go on with that.
    #[serde(skip)]
    pub(super) renew: bool,
    /// Blocks of it that are here.
    pub(super) blocks: u64,
    /// Parts of it that nobody has.
    pub(super) lost: u64,
    /// Of a site: which version.
    pub(super) version: u64,
}

/// Every pin, by number.
pub(super) fn load(home: &Home) -> Result<Vec<(u64, Kept)>, String> {
    let mut pins = Vec::new();
    for name in home.list(FOLDER).map_err(|error| error.to_string())? {
        let Ok(number) = name.parse() else { continue };
        let file = format!("{FOLDER}/{name}");
        let Some(mut bytes) = home.read(&file).map_err(|error| error.to_string())? else {
            continue;
        };
        let kept = unseal(&load_key(home)?, &mut bytes)
            .and_then(|json| serde_json::from_slice(json).ok())
            .ok_or_else(|| home.damaged(&file).to_string())?;
        pins.push((number, kept));
    }
    Ok(pins)
}

/// Writes a pin down.
pub(super) fn save(home: &Home, number: u64, kept: &Kept) -> Result<(), String> {
    let json = serde_json::to_vec(kept).map_err(|error| error.to_string())?;
    let sealed = seal(&load_key(home)?, Zeroizing::new(json));
    home.write(&format!("{FOLDER}/{number}"), &sealed).map_err(|error| error.to_string())
}

/// Writes down which blocks a pin has, in the place of what was known of it.
pub(super) fn save_blocks(
    home: &Home,
    number: u64,
    blocks: &BTreeSet<BlockAddress>,
) -> Result<(), String> {
    let key = load_key(home)?;
    let addresses: Vec<u8> = blocks.iter().flat_map(|address| *address.as_bytes()).collect();
    let mut parts = 0;
    for part in addresses.chunks(PART * BlockAddress::LEN) {
        let sealed = seal(&key, Zeroizing::new(part.to_vec()));
        home.write(&format!("{FOLDER}/{number}-{parts}"), &sealed)
            .map_err(|error| error.to_string())?;
        parts += 1;
    }
    remove_parts(home, number, parts)
}

/// The parts of a pin that are there.
fn parts(home: &Home, number: u64) -> Result<Vec<(usize, String)>, String> {
    let of = |name: String| {
        let part = name.strip_prefix(&format!("{number}-"))?.parse().ok()?;
        Some((part, format!("{FOLDER}/{name}")))
    };
    Ok(home.list(FOLDER).map_err(|error| error.to_string())?.into_iter().filter_map(of).collect())
}

fn remove_parts(home: &Home, number: u64, from: usize) -> Result<(), String> {
    for (part, file) in parts(home, number)? {
        if part >= from {
            home.remove(&file).map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

/// Adds the addresses of a pin's blocks. One part that cannot be read is an error: what is not known
/// to be pinned would be taken away.
pub(super) fn add_blocks(
    home: &Home,
    number: u64,
    all: &mut BTreeSet<BlockAddress>,
) -> Result<(), String> {
    let key = load_key(home)?;
    for (_, file) in parts(home, number)? {
        let Some(mut sealed) = home.read(&file).map_err(|error| error.to_string())? else {
            continue;
        };
        let bytes = unseal(&key, &mut sealed).ok_or_else(|| home.damaged(&file).to_string())?;
        let (addresses, rest) = bytes.as_chunks::<{ BlockAddress::LEN }>();
        if !rest.is_empty() {
            return Err(home.damaged(&file).to_string());
        }
        all.extend(addresses.iter().copied().map(BlockAddress));
    }
    Ok(())
}

/// Forgets a pin.
pub(super) fn remove(home: &Home, number: u64) -> Result<(), String> {
    home.remove(&format!("{FOLDER}/{number}")).map_err(|error| error.to_string())?;
    remove_parts(home, number, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_and_their_blocks_are_read_back_and_forgotten() {
        let dir = std::env::temp_dir().join(format!("warren-pins-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let home = Home::open(&dir).unwrap();
        let kept = Kept { uri: "x".into(), blocks: 3, ..Kept::default() };
        let blocks = |count: u32| -> BTreeSet<_> {
            let address = |n: u32| {
                let mut bytes = [0; 32];
                bytes[..4].copy_from_slice(&n.to_be_bytes());
                BlockAddress(bytes)
            };
            (0..count).map(address).collect()
        };
        let many = u32::try_from(PART).unwrap() * 2 + 1;
        save(&home, 1, &kept).unwrap();
        save_blocks(&home, 1, &blocks(many)).unwrap();
        save(&home, 12, &kept).unwrap();
        assert_eq!(load(&home).unwrap().len(), 2, "parts are no pins");
        let read = |number| {
            let mut all = BTreeSet::new();
            add_blocks(&home, number, &mut all).map(|()| all)
        };
        assert!(read(1).unwrap() == blocks(many) && read(12).unwrap().is_empty());
        save_blocks(&home, 1, &blocks(2)).unwrap();
        assert_eq!(read(1).unwrap().len(), 2, "what it had before is gone");
        let file = dir.join("pins/1-0");
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        assert!(read(1).is_err(), "what cannot be read is no empty list");
        remove(&home, 1).unwrap();
        assert_eq!(load(&home).unwrap(), [(12, kept)]);
        assert!(read(1).unwrap().is_empty());
        drop(home);
        let _ = std::fs::remove_dir_all(&dir);
    }
}
