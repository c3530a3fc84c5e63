//! What is kept of a site that is published from here: `sites/LETTERS`, by its name.
//!
//! | bytes | field |
//! |-------|-------|
//! | 1     | format, 2 |
//! | 32    | key seed, Ed25519 |
//! | v     | the newest version that two places confirmed |
//! | v     | a later one that was signed, of which that is not known |
//!
//! | bytes | version |
//! |-------|---------|
//! | 8     | number; 0 where there is none, and then nothing follows |
//! | 4     | when its records end, minutes since the Unix epoch |
//! | 64    | read capability of its version file |
//! | 64    | read capability of its directory |
//! | 1 + n | its label |
//!
//! Format 1, which is still read, ends after the first of the two. Who loses this file can never publish the site again.

use std::fmt;

use warren_datastore::{
    capability::{ReadCap, SiteWriteCap},
    site::{Known, SignedVersion},
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
const FORMAT: u8 = 2;
/// Without a pending version.
const FORMAT_BEFORE: u8 = 1;

/// A site whose key is here.
pub(super) struct OwnSite {
    seed: Secret<32>,
    pub(super) name: Name,
    pub(super) newest: Option<SignedVersion>,
    /// Signed, and perhaps seen by some; what is published next is this one or follows it.
    pub(super) pending: Option<SignedVersion>,
}

impl OwnSite {
    /// A site that has no version yet.
    pub(super) fn new(seed: Secret<32>) -> Option<Self> {
        let name = cap(&seed).name()?;
        Some(Self { seed, name, newest: None, pending: None })
    }

    /// What publishes it.
    pub(super) fn write_cap(&self) -> SiteWriteCap {
        cap(&self.seed)
    }

    /// What is known here of its versions.
    pub(super) fn known(&self) -> Known {
        Known {
            newest: self.newest.as_ref().map(SignedVersion::seen),
            pending: self.pending.as_ref().map(SignedVersion::duplicate),
        }
    }

    fn encode(&self) -> Result<Zeroizing<Vec<u8>>, WireError> {
        let mut w = Writer::default();
        w.u8(FORMAT).bytes(self.seed.expose_secret());
        encode_version(&mut w, self.newest.as_ref())?;
        encode_version(&mut w, self.pending.as_ref())?;
        Ok(Zeroizing::new(w.into_bytes()))
    }

    fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut r = Reader::new(bytes);
        let format = r.u8("site format")?;
        if format != FORMAT && format != FORMAT_BEFORE {
            return Err(WireError::Bad("site format"));
        }
        let seed = Secret::take(&mut r.array("site seed")?);
        let mut site = Self::new(seed).ok_or(WireError::Bad("site seed"))?;
        site.newest = decode_version(&mut r)?;
        if format == FORMAT {
            site.pending = decode_version(&mut r)?;
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

fn encode_version(w: &mut Writer, version: Option<&SignedVersion>) -> Result<(), WireError> {
    w.u64(version.map_or(0, |version| version.number));
    if let Some(version) = version {
        w.u32(version.expiry.minutes());
        w.bytes(version.file.to_bytes().expose_secret());
        w.bytes(version.directory.to_bytes().expose_secret());
        w.u8(u8::try_from(version.label.len()).map_err(|_| WireError::Bad("site label"))?);
        w.bytes(version.label.as_bytes());
    }
    Ok(())
}

fn decode_version(r: &mut Reader<'_>) -> Result<Option<SignedVersion>, WireError> {
    let number = r.u64("site version")?;
    if number == 0 {
        return Ok(None);
    }
    let expiry = Wall::from_minutes(r.u32("site expiry")?);
    let file = ReadCap::take(&mut r.array("site file")?);
    let directory = ReadCap::take(&mut r.array("site directory")?);
    let len = usize::from(r.u8("site label")?);
    let label = std::str::from_utf8(r.slice(len, "site label")?)
        .map_err(|_| WireError::Bad("site label"))?
        .to_owned();
    Ok(Some(SignedVersion { number, expiry, file, directory, label }))
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
        let mut all = vec![site.encode().unwrap()];
        let cap = |byte: u8| ReadCap::take(&mut [byte; 64]);
        let version = |number, label: &str| {
            let (expiry, label) = (Wall::from_minutes(5), label.to_owned());
            Some(SignedVersion { number, expiry, file: cap(1), directory: cap(2), label })
        };
        site.newest = version(3, "ä");
        all.push(site.encode().unwrap());
        site.pending = version(4, "");
        all.push(site.encode().unwrap());
        for bytes in &all {
            let back = OwnSite::decode(bytes).unwrap();
            assert_eq!(**back.encode().unwrap(), **bytes);
            assert_eq!(back.name, site.name);
            assert!((0..bytes.len()).all(|len| OwnSite::decode(&bytes[..len]).is_err()));
        }
        // As it was written before there were pending versions.
        let [_, published, _] = &all[..] else { panic!() };
        let mut before = published[..published.len() - 8].to_vec();
        before[0] = FORMAT_BEFORE;
        assert_eq!(**OwnSite::decode(&before).unwrap().encode().unwrap(), **published);
        assert!(path(&site.name).ends_with(|c: char| c.is_ascii_alphanumeric()));
        assert!(format!("{}.warren", &path(&site.name)["sites/".len()..]) == site.name.to_string());
    }
}
