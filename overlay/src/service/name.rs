//! What a person types to reach a service or a site: `<56 characters>.warren`.
//!
//! Lives here: the text form and its checks. Does not live here: petnames and subdomains (there
//! are none), and what a name leads to (`descriptor.rs`, the datastore's sites).
//!
//! ```text
//! base32( Ed25519 key 32 ‖ checksum 2 ‖ kind 1 ) ‖ ".warren"      35 bytes = 56 letters exactly
//! ```

use std::{fmt, str::FromStr};

use data_encoding::BASE32_NOPAD;

use crate::crypto::{
    blind::{self, ServiceKey},
    kdf,
};

/// Letters of a name in front of its ending.
const LETTERS: usize = 56;
/// The ending that names have; `.alt` after it is RFC 9476's way to say "not of the DNS".
const ENDING: &str = ".warren";
const ALIAS: &str = ".warren.alt";
/// The longest text that can be a name: more is refused unread.
const TEXT_MAX: usize = LETTERS + ALIAS.len();

/// Binds key and kind, so that a slip of a letter is noticed before anything is asked for.
const CHECKSUM: &str = "warren name checksum 1";

/// What stands behind a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NameKind {
    /// A live service: its descriptor holds leases of gateways.
    Service,
    /// A stored site: signed pages in the datastore.
    Site,
}

impl NameKind {
    const fn byte(self) -> u8 {
        match self {
            Self::Service => 1,
            Self::Site => 2,
        }
    }

    const fn of(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Service),
            2 => Some(Self::Site),
            _ => None,
        }
    }
}

/// Why a text is no name. Every reason but the first means: meant for Warren, but mistyped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The text ends neither in `.warren` nor in `.warren.alt`: not ours to answer.
    #[error("not a name of this overlay: it does not end in .warren")]
    Foreign,
    /// Not 56 letters before the ending.
    #[error("a name has 56 letters before .warren")]
    Length,
    /// A character that is not one of `a` to `z` and `2` to `7`.
    #[error("a name has only the letters a to z and the digits 2 to 7")]
    Letters,
    /// Key and checksum do not fit: a mistyped or cut letter.
    #[error("the name is mistyped: its checksum does not fit")]
    Checksum,
    /// A kind of name that this version does not know.
    #[error("the name is of a kind that this version does not know")]
    Kind,
    /// The key is no point of prime order: nobody can hold it, or several spellings could name it.
    #[error("the name holds no valid key")]
    Key,
}

/// The name of a service or a site: its Ed25519 key and what kind it is.
///
/// `Display` is the canonical form, lower case with `.warren`. `FromStr` takes that, the equal alias
/// with `.warren.alt`, and any mix of letter cases, because host names have none (RFC 4343); two
/// spellings that parse to equal names are one name, so compare and key by the parsed value only.
/// A name always holds a valid point of prime order: with torsion one service would have eight
/// names, with low order anyone could sign for it (PROTOCOL P10).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    key: [u8; 32],
    kind: NameKind,
}

impl Name {
    /// The name of a key; `None` if the key has torsion, low order, or no canonical encoding.
    pub fn new(key: [u8; 32], kind: NameKind) -> Option<Self> {
        blind::valid_public(&key).then_some(Self { key, kind })
    }

    /// The name of the service that holds `key`.
    pub fn of_service(key: &ServiceKey) -> Self {
        Self { key: key.public(), kind: NameKind::Service }
    }

    /// The public key that the name spells.
    pub const fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// Whether a service or a site stands behind it.
    pub const fn kind(&self) -> NameKind {
        self.kind
    }
}

fn checksum(key: &[u8; 32], kind: u8) -> [u8; 2] {
    kdf::derive(CHECKSUM, &[key, &[kind]])
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > TEXT_MAX {
            let foreign = !ends_with(text, ENDING) && !ends_with(text, ALIAS);
            return Err(if foreign { NameError::Foreign } else { NameError::Length });
        }
        let text = text.to_ascii_uppercase();
        let letters = [ALIAS, ENDING]
            .iter()
            .find_map(|ending| text.strip_suffix(&ending.to_ascii_uppercase()))
            .ok_or(NameError::Foreign)?;
        if letters.chars().count() != LETTERS {
            return Err(NameError::Length);
        }
        let bytes = BASE32_NOPAD.decode(letters.as_bytes()).map_err(|_| NameError::Letters)?;
        let (key, rest) = bytes.split_first_chunk::<32>().ok_or(NameError::Length)?;
        let &[check0, check1, kind] = rest else { return Err(NameError::Length) };
        if checksum(key, kind) != [check0, check1] {
            return Err(NameError::Checksum);
        }
        Self::new(*key, NameKind::of(kind).ok_or(NameError::Kind)?).ok_or(NameError::Key)
    }
}

fn ends_with(text: &str, ending: &str) -> bool {
    let tail = text.len().checked_sub(ending.len()).and_then(|at| text.as_bytes().get(at..));
    tail.is_some_and(|tail| tail.eq_ignore_ascii_case(ending.as_bytes()))
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.byte();
        let mut bytes = [0; 35];
        let (key, rest) = bytes.split_at_mut(32);
        key.copy_from_slice(&self.key);
        let [check0, check1] = checksum(&self.key, kind);
        rest.copy_from_slice(&[check0, check1, kind]);
        f.write_str(&BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())?;
        f.write_str(ENDING)
    }
}

/// Mute: which services a person uses or runs is never logged (DESIGN section 3).
impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{crypto::secret::Secret, rng::Rng};

    fn service(seed: u8) -> Name {
        Name::of_service(&ServiceKey::generate(&mut Rng::from_seed([seed; 32])))
    }

    /// Spells any 32 bytes with a right checksum, valid key or not.
    fn spelled(key: [u8; 32], kind: u8) -> String {
        let mut bytes = key.to_vec();
        bytes.extend(checksum(&key, kind));
        bytes.push(kind);
        BASE32_NOPAD.encode(&bytes).to_ascii_lowercase() + ENDING
    }

    proptest! {
        #[test]
        fn text_undoes_display_in_any_case_and_under_both_endings(
            seed: [u8; 32], site: bool, upper in prop::collection::vec(any::<bool>(), 67),
        ) {
            let key = ServiceKey::from_seed(Secret::take(&mut seed.clone())).public();
            let kind = if site { NameKind::Site } else { NameKind::Service };
            let name = Name::new(key, kind).unwrap();
            let text = name.to_string();
            prop_assert_eq!(text.len(), 63);
            prop_assert_eq!(text.to_ascii_lowercase(), text.as_str());
            prop_assert_eq!(text.parse(), Ok(name));
            let mixed: String = format!("{text}.alt")
                .chars()
                .zip(upper)
                .map(|(c, up)| if up { c.to_ascii_uppercase() } else { c })
                .collect();
            prop_assert_eq!(mixed.parse(), Ok(name));
        }

        /// 16 bits of checksum let one slip in 65,536 through; these are all single letters.
        #[test]
        fn a_mistyped_letter_is_noticed(seed: u8, at in 0..56usize, letter in "[a-z2-7]") {
            let name = service(seed);
            let mut text = name.to_string();
            text.replace_range(at..=at, &letter);
            if let Ok(other) = text.parse::<Name>() { prop_assert_eq!(other, name); }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,80}", ending in "(\\.warren)?(\\.alt)?") {
            let _ = text.parse::<Name>();
            let _ = format!("{text}{ending}").parse::<Name>();
        }

        /// One spelling up to case and alias: what parses prints as what was typed.
        #[test]
        fn no_two_spellings_name_the_same_key(key: [u8; 32], kind in 0u8..4) {
            let text = spelled(key, kind);
            if let Ok(name) = text.parse::<Name>() { prop_assert_eq!(name.to_string(), text); }
        }
    }

    #[test]
    fn a_service_and_a_site_of_one_key_are_two_names() {
        let key = *service(1).key();
        let (service, site) =
            (Name::new(key, NameKind::Service).unwrap(), Name::new(key, NameKind::Site).unwrap());
        assert_ne!(service, site);
        assert_ne!(service.to_string(), site.to_string());
        assert_eq!(site.to_string().parse::<Name>().unwrap().kind(), NameKind::Site);
    }

    /// Points of order 1, 2, 4, 8, encodings with y >= p, and one of mixed order.
    #[test]
    fn a_key_of_low_order_or_with_torsion_is_no_name() {
        for hex in [
            "0100000000000000000000000000000000000000000000000000000000000000",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0000000000000000000000000000000000000000000000000000000000000080",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        ] {
            let key = data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap().try_into().unwrap();
            assert_eq!(spelled(key, 1).parse::<Name>(), Err(NameError::Key), "{hex}");
        }
        let mixed =
            curve25519_dalek::edwards::CompressedEdwardsY(*service(1).key()).decompress().unwrap()
                + curve25519_dalek::constants::EIGHT_TORSION[1];
        assert_eq!(spelled(mixed.compress().0, 1).parse::<Name>(), Err(NameError::Key));
    }

    #[test]
    fn each_refusal_says_why() {
        let text = service(1).to_string();
        let parse = |text: &str| text.parse::<Name>().unwrap_err();
        assert_eq!(parse("example.com"), NameError::Foreign);
        assert_eq!(parse(&text.replace(".warren", ".onion")), NameError::Foreign);
        assert_eq!(parse(&text.replace(".warren", "")), NameError::Foreign);
        assert_eq!(parse(&format!("{text}.")), NameError::Foreign);
        assert_eq!(parse(&format!("{text}.alt.alt")), NameError::Foreign);
        assert_eq!(parse(&text[1..]), NameError::Length);
        assert_eq!(parse(&format!("www.{text}")), NameError::Length);
        assert_eq!(parse(&format!("{}{text}", "a".repeat(1000))), NameError::Length);
        assert_eq!(parse(".warren"), NameError::Length);
        assert_eq!(parse(&format!("1{}", &text[1..])), NameError::Letters);
        assert_eq!(parse(&format!("é{}", &text[1..])), NameError::Letters);
        assert_eq!(parse(&spelled(*service(1).key(), 3)), NameError::Kind);
        assert_eq!(parse(&format!("{}{}", "a".repeat(56), ENDING)), NameError::Checksum);
    }

    #[test]
    fn debug_gives_nothing_away() {
        assert_eq!(format!("{:?}", service(1)), "_");
    }
}
