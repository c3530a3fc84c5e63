//! A router's keys in one file, sealed with a passphrase: docs/spec/backup.md.
//!
//! Lives here: the file's bytes. Does not live here: which files of the folder go in, and where they
//! come out (`cli/key.rs`).
//!
//! Whoever has the file tries passphrases as fast as Argon2id lets them. So that a file of somebody
//! else's making costs whoever opens it no more than its maker, the costs that are taken are bounded.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use warren_overlay::{
    crypto::{
        aead::{Aead, TAG_LEN},
        secret::Secret,
    },
    rng::Rng,
    wire::{Reader, WireError, Writer},
};
use zeroize::Zeroizing;

/// What each file begins with.
const MAGIC: &[u8; 16] = b"warren backup 1\n";
/// Magic, memory, passes, lanes, salt.
const HEAD_LEN: usize = 16 + 4 + 4 + 4 + SALT_LEN;
const SALT_LEN: usize = 16;
/// What is sealed is a multiple of this, so that its length says little.
const PAD_LEN: usize = 4_096;
/// The longest file that is read, in bytes.
pub(crate) const FILE_MAX: usize = 16 << 20;
/// The longest name of a file within.
const NAME_MAX: usize = 100;
/// The longest file within, in bytes; those of a router are far smaller.
const CONTENT_MAX: usize = 1 << 20;

/// What trying one passphrase costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Cost {
    /// RFC 9106, section 4, its second recommended choice: 64 MiB, 3 passes, 4 lanes.
    pub(crate) const NORMAL: Self = Self { memory_kib: 64 << 10, passes: 3, lanes: 4 };
    /// The most that is taken from a file: 1 GiB, 16 passes, 16 lanes.
    const MAX: Self = Self { memory_kib: 1 << 20, passes: 16, lanes: 16 };

    const fn is_fair(self) -> bool {
        self.memory_kib <= Self::MAX.memory_kib
            && self.passes <= Self::MAX.passes
            && self.lanes <= Self::MAX.lanes
    }

    fn key(self, passphrase: &[u8], salt: &[u8; SALT_LEN]) -> Result<Secret<32>, BackupError> {
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32))
            .map_err(|_| BackupError::Malformed)?;
        // Of our own, so that it is wiped, and so that a lack of it is an error and not the end.
        let mut memory = Zeroizing::new(Vec::new());
        memory.try_reserve_exact(params.block_count()).map_err(|_| BackupError::NoMemory)?;
        memory.resize(params.block_count(), Block::default());
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into_with_memory(passphrase, salt, &mut *key, &mut *memory)
            .map_err(|_| BackupError::Malformed)?;
        Ok(Secret::take(&mut key))
    }
}

/// Why a backup cannot be opened. Each text says what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BackupError {
    /// It begins otherwise, or says what no backup says.
    #[error(
        "this is no backup, or of a newer version than this program's: name a file that `warren key backup` wrote"
    )]
    Malformed,
    /// The tag does not fit. Which of the two it was cannot be told.
    #[error("the passphrase is another one, or the file is damaged: try again")]
    Unauthentic,
    /// Argon2id wants more than there is.
    #[error("there is not enough memory for the passphrase's key: 64 MiB, as a rule; free some")]
    NoMemory,
    /// More than a router has.
    #[error(
        "the folder holds more than the 16 MiB that a backup takes: move away what is not the router's"
    )]
    TooLong,
}

impl From<WireError> for BackupError {
    fn from(_: WireError) -> Self {
        Self::Malformed
    }
}

/// One file within: its name in the router's folder, and what it holds.
pub(crate) type Entry = (String, Zeroizing<Vec<u8>>);

/// Seals `entries` with a key from `passphrase`.
///
/// # Errors
/// `TooLong` over 16 MiB, a name over 100 bytes or a file over 1 MiB; `NoMemory`.
pub(crate) fn seal(
    entries: &[Entry],
    passphrase: &[u8],
    cost: Cost,
    rng: &mut Rng,
) -> Result<Vec<u8>, BackupError> {
    let mut text = encode(entries)?;
    let salt: [u8; SALT_LEN] = rng.bytes();
    let mut w = Writer::with_capacity(HEAD_LEN + text.len() + TAG_LEN);
    w.bytes(MAGIC).u32(cost.memory_kib).u32(cost.passes).u32(cost.lanes).bytes(&salt);
    let mut file = w.into_bytes();
    // A key for this salt alone: its only nonce is 0.
    let tag = Aead::new(&cost.key(passphrase, &salt)?).seal_in_place(0, &file, &mut text);
    file.extend_from_slice(&text);
    file.extend_from_slice(&tag);
    Ok(file)
}

/// Opens what `seal` made.
///
/// # Errors
/// When it is none, or the passphrase is another one.
pub(crate) fn open(file: &[u8], passphrase: &[u8]) -> Result<Vec<Entry>, BackupError> {
    let mut r = Reader::new(file);
    if r.array::<16>("magic")? != *MAGIC || file.len() > FILE_MAX {
        return Err(BackupError::Malformed);
    }
    let cost =
        Cost { memory_kib: r.u32("memory")?, passes: r.u32("passes")?, lanes: r.u32("lanes")? };
    if !cost.is_fair() {
        return Err(BackupError::Malformed);
    }
    let salt = r.array("salt")?;
    let len = r.remaining().checked_sub(TAG_LEN).ok_or(BackupError::Malformed)?;
    let mut text = Zeroizing::new(r.slice(len, "sealed text")?.to_vec());
    let tag = r.array("tag")?;
    let head = file.get(..HEAD_LEN).ok_or(BackupError::Malformed)?;
    Aead::new(&cost.key(passphrase, &salt)?)
        .open_in_place(0, head, &mut text, &tag)
        .map_err(|_| BackupError::Unauthentic)?;
    decode(&text)
}

/// | bytes | field |
/// |-------|-------|
/// | 1     | length of the name, 1 to 100; 0: the rest is zeros |
/// | n     | name |
/// | 4     | length of the content, at most 1 MiB |
/// | m     | content |
fn encode(entries: &[Entry]) -> Result<Zeroizing<Vec<u8>>, BackupError> {
    // Reserved whole: a vector that grows leaves copies of keys behind.
    let len: usize = entries.iter().map(|(name, content)| 5 + name.len() + content.len()).sum();
    let whole = (len + 1).next_multiple_of(PAD_LEN);
    if HEAD_LEN + whole + TAG_LEN > FILE_MAX {
        return Err(BackupError::TooLong);
    }
    let mut w = Writer::with_capacity(whole);
    for (name, content) in entries {
        let name_len = u8::try_from(name.len()).unwrap_or(u8::MAX);
        if usize::from(name_len) > NAME_MAX || content.len() > CONTENT_MAX {
            return Err(BackupError::TooLong);
        }
        let content_len = u32::try_from(content.len()).map_err(|_| BackupError::TooLong)?;
        w.u8(name_len).bytes(name.as_bytes()).u32(content_len).bytes(content);
    }
    let mut text = Zeroizing::new(w.into_bytes());
    text.resize(whole, 0);
    Ok(text)
}

fn decode(text: &[u8]) -> Result<Vec<Entry>, BackupError> {
    let mut r = Reader::new(text);
    let mut entries = Vec::new();
    loop {
        let name_len = usize::from(r.u8("name length")?);
        if name_len == 0 {
            let rest = r.rest();
            let padded = rest.iter().all(|byte| *byte == 0) && text.len().is_multiple_of(PAD_LEN);
            return if padded { Ok(entries) } else { Err(BackupError::Malformed) };
        }
        if name_len > NAME_MAX {
            return Err(BackupError::Malformed);
        }
        let name = std::str::from_utf8(r.slice(name_len, "name")?)
            .map_err(|_| BackupError::Malformed)?
            .to_owned();
        let len = usize::try_from(r.u32("content length")?).map_err(|_| BackupError::Malformed)?;
        if len > CONTENT_MAX {
            return Err(BackupError::Malformed);
        }
        entries.push((name, Zeroizing::new(r.slice(len, "content")?.to_vec())));
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;

    /// The least that Argon2 takes: tests would else spend their time on it.
    const CHEAP: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };

    fn entries(of: &[(&str, &[u8])]) -> Vec<Entry> {
        let entry = |(name, content): &(&str, &[u8])| {
            ((*name).to_owned(), Zeroizing::new(content.to_vec()))
        };
        of.iter().map(entry).collect()
    }

    fn rng() -> warren_overlay::rng::Rng {
        warren_overlay::rng::Rng::from_seed([7; 32])
    }

    #[test]
    fn a_backup_has_the_documented_bytes() {
        let all = entries(&[("network", b"net"), ("router.key", &[0xab; 64])]);
        let file = seal(&all, b"correct horse", Cost::NORMAL, &mut rng()).unwrap();
        assert_eq!(file.len(), HEAD_LEN + PAD_LEN + TAG_LEN);
        // The tag is over every byte between.
        let vector =
            [&file[..HEAD_LEN], &file[file.len() - TAG_LEN..]].map(|part| HEXLOWER.encode(part));
        assert_eq!(
            vector,
            [
                "77617272656e206261636b757020310a000100000000000300000004f400927857aaf64114f561baacb37970",
                "ce825c2f2eb8c4d9aa7b34c72ff561f0",
            ]
        );
        assert_eq!(open(&file, b"correct horse").unwrap(), all);
    }

    #[test]
    fn another_passphrase_opens_nothing() {
        let file = seal(&entries(&[("network", b"net")]), b"right", CHEAP, &mut rng()).unwrap();
        assert_eq!(open(&file, b"wrong"), Err(BackupError::Unauthentic));
    }

    #[test]
    fn a_file_that_asks_for_too_much_work_is_refused_before_any() {
        let file = seal(&[], b"right", CHEAP, &mut rng()).unwrap();
        for at in [16, 20, 24] {
            let mut greedy = file.clone();
            greedy[at] = 0x7f;
            assert_eq!(open(&greedy, b"right"), Err(BackupError::Malformed));
        }
    }

    #[test]
    fn padding_hides_how_many_services_there_are() {
        let len = |n: usize| {
            let names: Vec<String> = (0..n).map(|n| format!("services/{n}")).collect();
            let all: Vec<Entry> =
                names.into_iter().map(|name| (name, Zeroizing::new(vec![1; 600]))).collect();
            seal(&all, b"right", CHEAP, &mut rng()).unwrap().len()
        };
        assert_eq!(len(1), len(6));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn opening_undoes_sealing(
            all in prop::collection::vec(("[a-z/.]{1,100}", prop::collection::vec(any::<u8>(), 0..5_000)), 0..6),
        ) {
            let all: Vec<Entry> = all.into_iter().map(|(name, content)| (name, content.into())).collect();
            let file = seal(&all, b"right", CHEAP, &mut rng()).unwrap();
            prop_assert_eq!(open(&file, b"right").unwrap(), all);
        }

        #[test]
        fn a_changed_or_shortened_file_is_refused(at: prop::sample::Index, bit in 0..8u32, cut: bool) {
            let mut file = seal(&entries(&[("network", b"net")]), b"right", CHEAP, &mut rng()).unwrap();
            let at = at.index(file.len());
            // A flipped bit of a cost may only make it dearer.
            prop_assume!(cut || !(16..28).contains(&at));
            if cut { file.truncate(at) } else { file[at] ^= 1 << bit }
            prop_assert!(open(&file, b"right").is_err());
        }

        #[test]
        fn two_byte_strings_never_mean_the_same_entries(
            text in prop::collection::vec(0u8..3, PAD_LEN), fill in 0..200usize,
        ) {
            let mut text = text;
            text[fill..].fill(0);
            if let Ok(all) = decode(&text) {
                prop_assert_eq!(encode(&all).unwrap().to_vec(), text);
            }
        }
    }
}
