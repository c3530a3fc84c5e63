//! What is kept of a site that is published from here: `sites/LETTERS`, by its name.
//!
//! | bytes | field |
//! |-------|-------|
//! | 1     | format, 1 |
//! | 32    | key seed, Ed25519 |
//! | 8     | number of the newest version; 0 while there is none, and then nothing follows |
//! | 4     | when its records end, minutes since the Unix epoch |
//! | 64    | read capability of its version file |
//! | 64    | read capability of its directory |
//! | 1 + n | its label |
//!
//! Who loses this file can never publish the site again.

use std::fmt;

use warren_datastore::{
    capability::{ReadCap, SiteWriteCap},
    site::Seen,
};
use warren_overlay::{
    crypto::secret::Secret,
    service::Name,
    time::Wall,
    wire::{Reader, WireError, Writer},
};
use zeroize::Zeroizing;

use crate::{driver::StartError, home::Home};

const FOLDER: &str = "sites";
const FORMAT: u8 = 1;

/// A site whose key is here.
pub(super) struct OwnSite {
    seed: Secret<32>,
    pub(super) name: Name,
    pub(super) newest: Option<OwnVersion>,
}

/// Its newest version.
pub(super) struct OwnVersion {
    pub(super) number: u64,
    pub(super) expiry: Wall,
    pub(super) file: ReadCap,
    pub(super) directory: ReadCap,
    pub(super) label: String,
}

impl OwnSite {
    /// A site that has no version yet.
    pub(super) fn new(seed: Secret<32>) -> Option<Self> {
        let name = cap(&seed).name()?;
        Some(Self { seed, name, newest: None })
    }

    /// What publishes it.
    pub(super) fn write_cap(&self) -> SiteWriteCap {
        cap(&self.seed)
    }

    /// What the next version follows.
    pub(super) fn base(&self) -> Option<Seen> {
        let version = self.newest.as_ref()?;
        Some(Seen { number: version.number, file: version.file.duplicate() })
    }

    fn encode(&self) -> Result<Zeroizing<Vec<u8>>, WireError> {
        let mut w = Writer::default();
        w.u8(FORMAT).bytes(self.seed.expose_secret());
        w.u64(self.newest.as_ref().map_or(0, |version| version.number));
        if let Some(version) = &self.newest {
            w.u32(version.expiry.minutes());
            w.bytes(version.file.to_bytes().expose_secret());
            w.bytes(version.directory.to_bytes().expose_secret());
            w.u8(u8::try_from(version.label.len()).map_err(|_| WireError::Bad("site label"))?);
            w.bytes(version.label.as_bytes());
        }
        Ok(Zeroizing::new(w.into_bytes()))
    }

    fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut r = Reader::new(bytes);
        if r.u8("site format")? != FORMAT {
            return Err(WireError::Bad("site format"));
        }
        let seed = Secret::take(&mut r.array("site seed")?);
        let mut site = Self::new(seed).ok_or(WireError::Bad("site seed"))?;
        let number = r.u64("site version")?;
        if number > 0 {
            let expiry = Wall::from_minutes(r.u32("site expiry")?);
            let file = ReadCap::take(&mut r.array("site file")?);
            let directory = ReadCap::take(&mut r.array("site directory")?);
            let len = usize::from(r.u8("site label")?);
            let label = std::str::from_utf8(r.slice(len, "site label")?)
                .map_err(|_| WireError::Bad("site label"))?
                .to_owned();
            site.newest = Some(OwnVersion { number, expiry, file, directory, label });
        }
        r.finish()?;
        Ok(site)
    }

    /// Writes it down.
    pub(super) fn save(&self, home: &Home) -> Result<(), StartError> {
        let bytes = self.encode().map_err(|error| StartError::Setup(error.to_string()))?;
        Ok(home.write(&path(&self.name), &bytes)?)
    }
}

fn cap(seed: &Secret<32>) -> SiteWriteCap {
    SiteWriteCap::from_seed(Secret::take(&mut seed.expose_secret().clone()))
}

fn path(name: &Name) -> String {
    let text = name.to_string();
    format!("{FOLDER}/{}", text.split('.').next().unwrap_or_default())
}

/// Every site of a folder.
pub(super) fn load(home: &Home) -> Result<Vec<OwnSite>, StartError> {
    let mut sites = Vec::new();
    for letters in home.list(FOLDER)? {
        let file = format!("{FOLDER}/{letters}");
        let Some(bytes) = home.read(&file)? else { continue };
        sites.push(OwnSite::decode(&bytes).map_err(|_| home.damaged(&file))?);
    }
    Ok(sites)
}

/// Mute.
impl fmt::Debug for OwnSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_a_site_is_read_back_and_nothing_else() {
        let mut site = OwnSite::new(Secret::take(&mut [7; 32])).unwrap();
        let first = site.encode().unwrap();
        let cap = |byte: u8| ReadCap::take(&mut [byte; 64]);
        let (number, expiry) = (3, Wall::from_minutes(5));
        let (file, directory) = (cap(1), cap(2));
        site.newest = Some(OwnVersion { number, expiry, file, directory, label: "ä".into() });
        for bytes in [first, site.encode().unwrap()] {
            let back = OwnSite::decode(&bytes).unwrap();
            assert_eq!(*back.encode().unwrap(), *bytes);
            assert_eq!(back.name, site.name);
            assert!((0..bytes.len()).all(|len| OwnSite::decode(&bytes[..len]).is_err()));
        }
        assert!(path(&site.name).ends_with(|c: char| c.is_ascii_alphanumeric()));
        assert!(format!("{}.warren", &path(&site.name)["sites/".len()..]) == site.name.to_string());
    }
}
