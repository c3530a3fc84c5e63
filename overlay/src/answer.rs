//! How a request for a stored unit ended: one type from the holder to the owner of a tunnel.
//!
//! Lives here: the answers, their bounds and their bytes. Does not live here: what was found (the
//! type parameter: checked units inside the ring, bytes inside a tunnel), and who answers what.
//!
//! With every answer travels how many routers were asked for it, so that a person can be told `not
//! found: asked 9 routers, reached the place where it would be` and not merely that time passed.

use crate::wire::{Reader, WireError, Writer};

/// Most forwards a request is good for (DESIGN section 5).
pub const BUDGET_MAX: u8 = 20;
/// Longest back-off that anybody may ask for, in seconds.
pub const RETRY_MAX_S: u16 = 60;
/// How long a failed key is remembered, in seconds.
pub const RECENTLY_FAILED_MAX_S: u16 = 180;

/// How a request ended (DESIGN section 5: answers that differ).
///
/// | code | then | meaning |
/// |------|------|---------|
/// | 0    | by what was asked | found |
/// | 1    | copies 1, at least 1 | stored |
/// | 2    |      | not found |
/// | 3    | left 1, at most 20 | no route |
/// | 4    | seconds 2, at most 60 | busy |
/// | 5    | seconds 2, at most 180 | recently failed |
/// | 6    |      | stale |
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// Here it is. Whether a record has expired, and whether a higher version was seen before, is for
    /// the asker to judge.
    Found(T),
    /// Kept by so many routers.
    Stored {
        /// Confirmed copies, at least 1.
        copies: u8,
    },
    /// The place where it would be was reached, and it is not there.
    NotFound,
    /// No way to the holders was found.
    NoRoute {
        /// Unused part of the hop budget.
        left: u8,
    },
    /// Too much to do, here or there.
    Busy {
        /// When to come back, in seconds.
        retry_s: u16,
    },
    /// The key failed several times lately; it is not searched again yet.
    RecentlyFailed {
        /// For how long still, in seconds.
        until_s: u16,
    },
    /// A holder has a version that is as high or higher. Never said of blocks.
    Stale,
}

impl<T> Answer<T> {
    /// The same answer about another form of what was found; `None` makes it `NotFound`.
    pub fn map<U>(self, form: impl FnOnce(T) -> Option<U>) -> Answer<U> {
        match self {
            Self::Found(found) => form(found).map_or(Answer::NotFound, Answer::Found),
            Self::Stored { copies } => Answer::Stored { copies },
            Self::NotFound => Answer::NotFound,
            Self::NoRoute { left } => Answer::NoRoute { left },
            Self::Busy { retry_s } => Answer::Busy { retry_s },
            Self::RecentlyFailed { until_s } => Answer::RecentlyFailed { until_s },
            Self::Stale => Answer::Stale,
        }
    }

    /// Appends code and fields; `found` writes what was found.
    pub(crate) fn encode(&self, w: &mut Writer, found: impl FnOnce(&T, &mut Writer)) {
        match self {
            Self::Found(it) => {
                found(it, w.u8(0));
                w
            }
            Self::Stored { copies } => w.u8(1).u8(*copies),
            Self::NotFound => w.u8(2),
            Self::NoRoute { left } => w.u8(3).u8(*left),
            Self::Busy { retry_s } => w.u8(4).u16(*retry_s),
            Self::RecentlyFailed { until_s } => w.u8(5).u16(*until_s),
            Self::Stale => w.u8(6),
        };
    }

    /// How many bytes `encode` appends, given how many it takes to write what was found.
    pub(crate) fn encoded_len(&self, found: impl FnOnce(&T) -> usize) -> usize {
        1 + match self {
            Self::Found(it) => found(it),
            Self::Stored { .. } | Self::NoRoute { .. } => 1,
            Self::Busy { .. } | Self::RecentlyFailed { .. } => 2,
            Self::NotFound | Self::Stale => 0,
        }
    }

    /// Reads what `encode` wrote; `found` reads what was found.
    ///
    /// # Errors
    /// On anything that `encode` does not write.
    pub(crate) fn decode<'a>(
        r: &mut Reader<'a>,
        found: impl FnOnce(&mut Reader<'a>) -> Result<T, WireError>,
    ) -> Result<Self, WireError> {
        let bounded = |value: u16, max: u16, field| {
            if value > max { Err(WireError::Bad(field)) } else { Ok(value) }
        };
        Ok(match r.u8("answer code")? {
            0 => Self::Found(found(r)?),
            1 => match r.u8("copies")? {
                0 => return Err(WireError::Bad("copies")),
                copies => Self::Stored { copies },
            },
            2 => Self::NotFound,
            3 => {
                let left = r.u8("budget left")?;
                if left > BUDGET_MAX {
                    return Err(WireError::Bad("budget left"));
                }
                Self::NoRoute { left }
            }
            4 => {
                Self::Busy { retry_s: bounded(r.u16("retry after")?, RETRY_MAX_S, "retry after")? }
            }
            5 => {
                let until_s = r.u16("failed until")?;
                Self::RecentlyFailed {
                    until_s: bounded(until_s, RECENTLY_FAILED_MAX_S, "failed until")?,
                }
            }
            6 => Self::Stale,
            _ => return Err(WireError::Bad("answer code")),
        })
    }
}
