//! Ranges and entity tags: which part of a file is asked for, and under which conditions.
//!
//! Lives here: the header fields of RFC 9110, sections 13 and 14, as far as a site needs them. A field
//! that means nothing is as one that is not there.

use std::ops::Range;

/// One range of bytes. Several in one request are not served apart: the whole is, as the RFC allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// From a byte to the end.
    From(u64),
    /// From a byte to another, both included.
    FromTo(u64, u64),
    /// The last so many.
    Last(u64),
}

impl Part {
    /// Reads the value of `Range`; `None` if it is to be ignored.
    pub(super) fn read(value: &[u8]) -> Option<Self> {
        let text = str::from_utf8(value).ok()?.trim();
        let (unit, range) = text.split_once('=')?;
        if !unit.trim_end().eq_ignore_ascii_case("bytes") || range.contains(',') {
            return None;
        }
        let (first, last) = range.trim().split_once('-')?;
        match (first, last) {
            ("", last) => Some(Self::Last(number(last)?)),
            (first, "") => Some(Self::From(number(first)?)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::FromTo(first, last))
            }
        }
    }

    /// The bytes of a file of length `len`; `None` if it has none of them.
    pub(super) fn of(self, len: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::From(first) => first..len,
            Self::FromTo(first, last) => first..last.saturating_add(1).min(len),
            Self::Last(count) => len.saturating_sub(count)..len,
        };
        (range.start < range.end).then_some(range)
    }
}

/// Digits only; what is too large for any file is as good as the largest number.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// How two tags are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compare {
    /// Tags that promise the same bytes only.
    Strong,
    /// `W/` in front makes no difference.
    Weak,
}

/// Whether a list of tags (`*` is all) holds `tag`, which is strong and has its quotation marks.
pub(super) fn holds(list: &[u8], tag: &str, compare: Compare) -> bool {
    let Ok(list) = str::from_utf8(list) else { return false };
    if list.trim() == "*" {
        return true;
    }
    // Our tags have no comma, so that those of a list can be divided without reading the others.
    list.split(',').map(str::trim).any(|other| match (other.strip_prefix("W/"), compare) {
        (Some(other), Compare::Weak) => other == tag,
        (Some(_), Compare::Strong) => false,
        (None, _) => other == tag,
    })
}
