//! Sites: what a signed key points to, and the chain of what it pointed to before.
//!
//! Lives here: the version file, the payload of a site's records, where these records are; and in files
//! of their own the machines that find the newest version (`lookup`), publish the next (`update`),
//! announce it again and again (`announce`) and hear of it (`watch`). Does not live here: pages (`directory/`), records
//! themselves (`warren_overlay::record`). In words: docs/spec/site.md.
//!
//! ```text
//! name ──> record at 3 places ──> version file n ──> directory n ──> pages
//!          (highest version wins)      └──> version file n-1 ──> ...
//! ```
//!
//! Records are replaced, files are not: history is a chain of files, each naming the one before by its
//! hash, and the signature on the record vouches for all of it.

mod announce;
mod lookup;
mod update;
mod watch;

use std::fmt;

use warren_overlay::{
    crypto::{
        aead::{Aead, TAG_LEN},
        blind::{self, BlindedKey},
        kdf,
    },
    id::{Key, NetworkId},
    record::{Record, RecordSize},
    service::Name,
    time::Wall,
    wire::{Reader, WireError, Writer},
};
use zeroize::Zeroizing;

pub use self::{
    announce::{Announcer, Put, PutAnswer},
    lookup::{
        HISTORY_READ_MAX, LookupInput, LookupOutcome, LookupOutput, Newest, Seen, SiteLookup,
        VERSION_FILE_MAX,
    },
    update::{
        Draft, Known, LIFE_MIN, Onto, Published, SignedVersion, SiteUpdate, UpdateInput,
        UpdateOutcome, UpdateOutput,
    },
    watch::{SiteWatch, WatchInput, WatchOutput},
};
use crate::{
    capability::{ReadCap, SiteVerifyCap, SiteWriteCap, VerifyCap},
    directory::valid_component,
};

const SALT: &str = "warren site salt 1";
const VERIFY_PART: &str = "warren site verify part 1";
const READ_PART: &str = "warren site read part 1";

/// The only format there is.
const FORMAT: u8 = 1;
/// Records of one site at unrelated places: one place is lost or censored with its region.
pub const SITE_COPIES: u8 = 3;
/// Longest label in bytes.
pub const LABEL_MAX: usize = 64;
const SALT_LEN: usize = 16;
const PLAIN_LEN: usize = 1 + VerifyCap::LEN + ReadCap::LEN + TAG_LEN;
const PAYLOAD_LEN: usize = SALT_LEN + PLAIN_LEN + TAG_LEN;

/// One version of a site, as stored in a file of its own.
///
/// | bytes | field |
/// |-------|-------|
/// | 1     | format, 1 |
/// | 8     | number, from 1; the version of the records that point here |
/// | 4     | when it was published, minutes since the Unix epoch; 0 when its publisher does not say |
/// | 1 + n | label, n up to 64 |
/// | 64    | read capability of the directory |
/// | 1     | 1 if there was a version before |
/// | 64    | read capability of its version file; absent otherwise |
pub struct SiteVersion {
    /// Number, from 1.
    pub number: u64,
    /// When it was published; [`Wall`] zero when not said.
    pub published: Wall,
    /// What its publisher calls it: empty, or as one component of a path.
    pub label: String,
    /// The pages.
    pub directory: ReadCap,
    /// The version file of the version before.
    pub previous: Option<ReadCap>,
}

impl SiteVersion {
    /// The content of the version file.
    ///
    /// # Errors
    /// When a field has a value that `decode` refuses.
    pub fn encode(&self) -> Result<Vec<u8>, WireError> {
        self.check()?;
        let mut w = Writer::default();
        w.u8(FORMAT).u64(self.number).u32(self.published.minutes());
        w.u8(u8::try_from(self.label.len()).map_err(|_| WireError::Bad("site label"))?);
        w.bytes(self.label.as_bytes()).bytes(self.directory.to_bytes().expose_secret());
        match &self.previous {
            None => w.u8(0),
            Some(previous) => w.u8(1).bytes(previous.to_bytes().expose_secret()),
        };
        Ok(w.into_bytes())
    }

    /// Reads a version file.
    ///
    /// # Errors
    /// On anything that `encode` does not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut r = Reader::new(bytes);
        if r.u8("site format")? != FORMAT {
            return Err(WireError::Bad("site format"));
        }
        let number = r.u64("site version")?;
        let published = Wall::from_minutes(r.u32("site time")?);
        let len = usize::from(r.u8("site label")?);
        let label = std::str::from_utf8(r.slice(len, "site label")?)
            .map_err(|_| WireError::Bad("site label"))?
            .to_owned();
        let directory = ReadCap::take(&mut r.array("site directory")?);
        let previous = match r.u8("site history")? {
            0 => None,
            1 => Some(ReadCap::take(&mut r.array("site history")?)),
            _ => return Err(WireError::Bad("site history")),
        };
        r.finish()?;
        let version = Self { number, published, label, directory, previous };
        version.check()?;
        Ok(version)
    }

    fn check(&self) -> Result<(), WireError> {
        let label =
            self.label.is_empty() || self.label.len() <= LABEL_MAX && valid_component(&self.label);
        if !label {
            return Err(WireError::Bad("site label"));
        }
        // The first has none before it, and any other has.
        if self.number == 0 || (self.number == 1) != self.previous.is_none() {
            return Err(WireError::Bad("site version"));
        }
        Ok(())
    }

    /// The version file's list of children: stored and named in its root, it lets a third party heal
    /// the pages and all history.
    pub fn children(&self) -> Vec<u8> {
        let caps = [Some(&self.directory), self.previous.as_ref()];
        let caps = caps.into_iter().flatten().map(|cap| cap.verify().to_bytes());
        caps.flat_map(|bytes| *bytes.expose_secret()).collect()
    }
}

/// Where one of a site's records is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SitePlace {
    /// Number, below [`SITE_COPIES`].
    pub copy: u8,
    /// The key that signs the record there.
    pub public: [u8; 32],
    /// What to ask the ring for.
    pub key: Key,
}

/// All places of a site in a network; they stay the same.
pub fn places(cap: &SiteVerifyCap, network: NetworkId) -> Vec<SitePlace> {
    (0..SITE_COPIES)
        .filter_map(|copy| {
            let public = blind::blind_public(cap.as_bytes(), &blinding(&network, &[copy]))?;
            Some(SitePlace { copy, public, key: Record::key_of(&public) })
        })
        .collect()
}

const fn blinding<'a>(network: &'a NetworkId, copy: &'a [u8; 1]) -> [&'a [u8]; 2] {
    [network.as_bytes(), copy]
}

/// The records that say: version `number` of the site is the file that `file` reads.
///
/// The same words give the same records: a publisher that does it again after a crash makes no fork.
///
/// # Errors
/// When the seed is no valid key; not expected.
pub fn publish(
    cap: &SiteWriteCap,
    network: NetworkId,
    number: u64,
    expiry: Wall,
    file: &ReadCap,
) -> Result<Vec<Record>, WireError> {
    let name = cap.name().ok_or(WireError::Bad("site key"))?;
    let key = cap.verify_key();
    (0..SITE_COPIES)
        .map(|copy| {
            let signer = key.blind(&blinding(&network, &[copy]));
            let payload = seal(cap, &name, &key, &signer, number, file);
            Record::sign(&signer, network, number, expiry, &payload, RecordSize::Small)
        })
        .collect()
}

fn seal(
    cap: &SiteWriteCap,
    name: &Name,
    verify: &BlindedKey,
    signer: &BlindedKey,
    number: u64,
    file: &ReadCap,
) -> Vec<u8> {
    let place = signer.public();
    let mut read = Zeroizing::new(file.to_bytes().expose_secret().to_vec());
    // From the seed and all that is sealed: no (key, nonce) seals two texts, also not after a
    // publisher came back with an old disk and gives a number a second time.
    let salt: [u8; SALT_LEN] = kdf::derive(
        SALT,
        &[cap.key().seed().expose_secret(), &place, &number.to_be_bytes(), &read],
    );
    let read_tag =
        part(READ_PART, name.key(), &place, number, &salt).seal_in_place(0, &[], &mut read);
    let mut plain = Zeroizing::new(Vec::with_capacity(PLAIN_LEN));
    plain.push(FORMAT);
    plain.extend_from_slice(file.verify().to_bytes().expose_secret());
    plain.extend_from_slice(&read);
    plain.extend_from_slice(&read_tag);
    let aead = part(VERIFY_PART, &verify.public(), &place, number, &salt);
    let tag = aead.seal_in_place(0, &[], &mut plain);
    let mut w = Writer::with_capacity(PAYLOAD_LEN);
    w.bytes(&salt).bytes(&plain).bytes(&tag);
    w.into_bytes()
}

fn part(
    context: &'static str,
    key: &[u8; 32],
    place: &[u8; 32],
    number: u64,
    salt: &[u8; SALT_LEN],
) -> Aead {
    Aead::new(&kdf::derive_secret(context, &[key, place, &number.to_be_bytes(), salt]))
}

/// What who may verify learns from a record that was found at a place: the version file's verify
/// capability, and what who may read opens further.
pub struct SiteRecord {
    /// Finds, checks and heals the version file; its list of children leads on.
    pub file: VerifyCap,
    number: u64,
    place: [u8; 32],
    salt: [u8; SALT_LEN],
    sealed: Vec<u8>,
}

impl SiteRecord {
    /// Opens a record. It was decoded, so its signature is good; clock and earlier versions are for the
    /// caller to compare.
    ///
    /// # Errors
    /// When it is another's record, or says what `publish` does not.
    pub fn open(
        cap: &SiteVerifyCap,
        place: &SitePlace,
        record: &Record,
    ) -> Result<Self, WireError> {
        if *record.public() != place.public {
            return Err(WireError::Bad("site place"));
        }
        let mut r = Reader::new(record.payload());
        let salt = r.array("site salt")?;
        let mut plain = Zeroizing::new(r.slice(PLAIN_LEN, "site payload")?.to_vec());
        let tag = r.array("site tag")?;
        r.finish()?;
        let number = record.version();
        part(VERIFY_PART, cap.as_bytes(), &place.public, number, &salt)
            .open_in_place(0, &[], &mut plain, &tag)
            .map_err(|_| WireError::Bad("site payload"))?;
        let mut r = Reader::new(&plain);
        if r.u8("site format")? != FORMAT {
            return Err(WireError::Bad("site format"));
        }
        let file = VerifyCap::take(&mut r.array("site file")?);
        Ok(Self { file, number, place: place.public, salt, sealed: r.rest().to_vec() })
    }

    /// The version that it announces.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Opens the rest for who knows the name.
    ///
    /// # Errors
    /// When the name is another site's, or the publisher sealed two different files.
    pub fn read(&self, name: &Name) -> Result<ReadCap, WireError> {
        let mut text = Zeroizing::new(self.sealed.clone());
        let at = text.len().checked_sub(TAG_LEN).ok_or(WireError::Truncated("site read part"))?;
        let tag = text.split_off(at).try_into().map_err(|_| WireError::Bad("site read part"))?;
        part(READ_PART, name.key(), &self.place, self.number, &self.salt)
            .open_in_place(0, &[], &mut text, &tag)
            .map_err(|_| WireError::Bad("site read part"))?;
        let cap: &[u8] = &text;
        let cap = ReadCap::take(&mut cap.try_into().map_err(|_| WireError::Bad("site file"))?);
        let same =
            kdf::eq(cap.verify().to_bytes().expose_secret(), self.file.to_bytes().expose_secret());
        if same { Ok(cap) } else { Err(WireError::Bad("site file")) }
    }
}

/// The highest of the records that were found, and whether its key signed two different files as that
/// version: a fork, to be shown as one.
pub fn latest(found: &[SiteRecord]) -> Option<(&SiteRecord, bool)> {
    let best = found.iter().max_by_key(|record| record.number)?;
    let mut equals = found.iter().filter(|record| record.number == best.number);
    let forked = equals.any(|record| record.file.roots() != best.file.roots());
    Some((best, forked))
}

macro_rules! mute {
    ($($name:ident),*) => {$(
        /// Mute: which sites a person reads or writes is never logged (DESIGN section 3).
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("_")
            }
        }
    )*};
}
mute!(SiteVersion, SitePlace, SiteRecord);

#[cfg(test)]
mod machine_tests;
#[cfg(test)]
mod tests;
