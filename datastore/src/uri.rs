//! What a person copies and pastes: the text of a capability.
//!
//! Lives here: one grammar for all kinds and rights, its checksum, and the way down from one right to
//! the next. Does not live here: what capabilities open (`capability.rs`).
//!
//! ```text
//! warren:file:LETTERS      warren:file-verify:LETTERS                       112 letters
//! warren:dir:LETTERS       warren:dir-verify:LETTERS                        112 letters
//! warren:site:LETTERS      warren:site-verify:LETTERS  warren:site-write:LETTERS
//! ```
//!
//! LETTERS is base32, lower case: version 1 ‖ capability ‖ checksum 5. Those of `warren:site:` are
//! the 56 letters of the site's name: put `.warren` behind them and a browser opens them. A text is a
//! capability if and only if it is what `Display` writes.

use std::{fmt, str::FromStr};

use data_encoding::BASE32_NOPAD;
use warren_overlay::{
    crypto::{kdf, secret::Secret},
    service::{Name, NameKind},
};
use zeroize::{Zeroize, Zeroizing};

use crate::capability::{ReadCap, SiteVerifyCap, SiteWriteCap, VerifyCap};

const CHECKSUM: &str = "warren uri checksum 1";
const SCHEME: &str = "warren:";
const ENDING: &str = ".warren";
const VERSION: u8 = 1;
/// 40 bits: a mistyped text passes once in 10^12.
const CHECKSUM_LEN: usize = 5;
/// Longest text of a URI, in bytes: more is refused unread.
pub const TEXT_MAX: usize = 160;

/// What a URI names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UriKind {
    /// A stored file.
    File,
    /// A stored directory.
    Directory,
    /// Pages under a signed key, which change.
    Site,
}

/// What a URI allows. Each right contains those that are less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// Check and repair.
    Verify,
    /// And read.
    Read,
    /// And change; of sites only.
    Write,
}

/// A capability with its kind. Prints as its text, in logs as `_`.
pub enum Uri {
    /// Reads a file.
    File(ReadCap),
    /// Checks and repairs a file.
    FileVerify(VerifyCap),
    /// Reads a directory and all that is in it.
    Directory(ReadCap),
    /// Checks and repairs a directory and all that is in it.
    DirectoryVerify(VerifyCap),
    /// Reads a site.
    Site(Name),
    /// Checks and repairs a site.
    SiteVerify(SiteVerifyCap),
    /// Publishes a site.
    SiteWrite(SiteWriteCap),
}

/// Why a text is no URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UriError {
    /// Not one of the beginnings above.
    #[error(
        "not a key of this network: use one that begins with warren:file:, warren:dir: or warren:site:"
    )]
    Foreign,
    /// Letters are missing or too many.
    #[error("the key is cut or has something behind it: copy it whole")]
    Length,
    /// A character that is not `a` to `z` or `2` to `7`.
    #[error(
        "a key has only the letters a to z and the digits 2 to 7 behind the last colon: copy it whole"
    )]
    Letters,
    /// A mistyped letter.
    #[error("the key is mistyped, its checksum does not fit: copy it whole")]
    Checksum,
    /// Written by a later version.
    #[error("the key is of a version that this program does not know: update warren")]
    Version,
    /// It spells well and holds nothing that can be a key.
    #[error("the key holds no valid capability: ask for it again")]
    Capability,
}

/// Kind, right and the words that stand for them.
const WORDS: [(&str, UriKind, Right); 7] = [
    ("file", UriKind::File, Right::Read),
    ("file-verify", UriKind::File, Right::Verify),
    ("dir", UriKind::Directory, Right::Read),
    ("dir-verify", UriKind::Directory, Right::Verify),
    ("site", UriKind::Site, Right::Read),
    ("site-verify", UriKind::Site, Right::Verify),
    ("site-write", UriKind::Site, Right::Write),
];

impl Uri {
    /// What it names.
    pub const fn kind(&self) -> UriKind {
        match self {
            Self::File(_) | Self::FileVerify(_) => UriKind::File,
            Self::Directory(_) | Self::DirectoryVerify(_) => UriKind::Directory,
            Self::Site(_) | Self::SiteVerify(_) | Self::SiteWrite(_) => UriKind::Site,
        }
    }

    /// What it allows.
    pub const fn right(&self) -> Right {
        match self {
            Self::File(_) | Self::Directory(_) | Self::Site(_) => Right::Read,
            Self::FileVerify(_) | Self::DirectoryVerify(_) | Self::SiteVerify(_) => Right::Verify,
            Self::SiteWrite(_) => Right::Write,
        }
    }

    /// The same thing with less rights, or with the same; `None` for more.
    pub fn attenuate(&self, to: Right) -> Option<Self> {
        if to > self.right() {
            return None;
        }
        Some(match (self, to) {
            (Self::File(cap), Right::Verify) => Self::FileVerify(cap.verify()),
            (Self::Directory(cap), Right::Verify) => Self::DirectoryVerify(cap.verify()),
            (Self::Site(name), Right::Verify) => Self::SiteVerify(SiteVerifyCap::of(name)?),
            (Self::SiteWrite(cap), Right::Read) => Self::Site(cap.name()?),
            (Self::SiteWrite(cap), Right::Verify) => {
                Self::SiteVerify(SiteVerifyCap::of(&cap.name()?)?)
            }
            _ => self.to_string().parse().ok()?,
        })
    }

    fn word(&self) -> &'static str {
        let wanted = (self.kind(), self.right());
        let word = WORDS.iter().find(|(_, kind, right)| (*kind, *right) == wanted);
        word.map_or("", |(word, _, _)| word)
    }

    fn of(word: &str, body: &mut [u8]) -> Option<Self> {
        Some(match word {
            "file" => Self::File(ReadCap::take(body.try_into().ok()?)),
            "file-verify" => Self::FileVerify(VerifyCap::take(body.try_into().ok()?)),
            "dir" => Self::Directory(ReadCap::take(body.try_into().ok()?)),
            "dir-verify" => Self::DirectoryVerify(VerifyCap::take(body.try_into().ok()?)),
            "site-verify" => {
                Self::SiteVerify(SiteVerifyCap::from_bytes((&*body).try_into().ok()?)?)
            }
            "site-write" => {
                Self::SiteWrite(SiteWriteCap::from_seed(Secret::take(body.try_into().ok()?)))
            }
            _ => return None,
        })
    }

    /// Divides what a person typed into a URI and a path inside it: `warren:dir:LETTERS/docs/a.txt`.
    ///
    /// # Errors
    /// When the part before the first slash is no URI. The path is as typed, without that slash.
    pub fn split_path(text: &str) -> Result<(Self, Option<&str>), UriError> {
        match text.split_once('/') {
            Some((uri, path)) => Ok((uri.parse()?, Some(path))),
            None => Ok((text.parse()?, None)),
        }
    }
}

fn checksum(word: &str, body: &[u8]) -> [u8; CHECKSUM_LEN] {
    kdf::derive(CHECKSUM, &[word.as_bytes(), body])
}

impl FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let rest = text.strip_prefix(SCHEME).ok_or(UriError::Foreign)?;
        let (word, letters) = rest.split_once(':').ok_or(UriError::Foreign)?;
        if !WORDS.iter().any(|(known, _, _)| *known == word) {
            return Err(UriError::Foreign);
        }
        if text.len() > TEXT_MAX {
            return Err(UriError::Length);
        }
        if !letters.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b)) {
            return Err(UriError::Letters);
        }
        if word == "site" {
            let name: Name = format!("{letters}{ENDING}").parse().map_err(UriError::of_name)?;
            return if name.kind() == NameKind::Site {
                Ok(Self::Site(name))
            } else {
                Err(UriError::Capability)
            };
        }
        let upper = Zeroizing::new(letters.to_ascii_uppercase());
        let bytes = BASE32_NOPAD.decode(upper.as_bytes()).map_err(|_| UriError::Length)?;
        let mut bytes = Zeroizing::new(bytes);
        let body_len = if word.starts_with("site") { 32 } else { 64 };
        if bytes.len() != 1 + body_len + CHECKSUM_LEN {
            return Err(UriError::Length);
        }
        let at = bytes.len() - CHECKSUM_LEN;
        let (body, sum) = bytes.split_at_mut(at);
        if checksum(word, body) != sum {
            return Err(UriError::Checksum);
        }
        match body.split_first_mut() {
            Some((&mut VERSION, body)) => Self::of(word, body).ok_or(UriError::Capability),
            _ => Err(UriError::Version),
        }
    }
}

impl UriError {
    const fn of_name(error: warren_overlay::service::NameError) -> Self {
        use warren_overlay::service::NameError;
        match error {
            NameError::Length | NameError::Foreign => Self::Length,
            NameError::Letters => Self::Letters,
            NameError::Checksum => Self::Checksum,
            NameError::Kind => Self::Version,
            _ => Self::Capability,
        }
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.word();
        let mut body = Zeroizing::new(vec![VERSION]);
        match self {
            Self::Site(name) => {
                let text = name.to_string();
                return write!(f, "{SCHEME}{word}:{}", text.trim_end_matches(ENDING));
            }
            Self::File(cap) | Self::Directory(cap) => {
                body.extend_from_slice(cap.to_bytes().expose_secret());
            }
            Self::FileVerify(cap) | Self::DirectoryVerify(cap) => {
                body.extend_from_slice(cap.to_bytes().expose_secret());
            }
            Self::SiteVerify(cap) => body.extend_from_slice(cap.as_bytes()),
            Self::SiteWrite(cap) => body.extend_from_slice(cap.key().seed().expose_secret()),
        }
        let sum = checksum(word, &body);
        body.extend_from_slice(&sum);
        let mut letters = BASE32_NOPAD.encode(&body);
        letters.make_ascii_lowercase();
        let written = write!(f, "{SCHEME}{word}:{letters}");
        letters.zeroize();
        written
    }
}

/// Mute: what a person stores and reads is never logged (DESIGN section 3).
impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

#[cfg(test)]
#[path = "uri/tests.rs"]
mod tests;
