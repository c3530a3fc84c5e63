//! Paths of a service that have not said yet whose they are.
//!
//! Lives here: collecting their first units, and how many and for how long. Does not live here: what
//! a request or a tag leads to (`service.rs`), joining units (`handshake.rs`), tags (`resume.rs`).
//!
//! ```text
//!  added --first unit begins with a tag--> Said::Tag
//!    '----units, up to 8 in 10 s--------> Said::Request, Said::Nonsense
//! ```

use std::{collections::BTreeMap, time::Duration};

use super::{
    handshake::Joined,
    path::PathNo,
    resume::{PathNumber, Tags},
};
use crate::time::Time;

/// Paths that have not said what they are: at most 8 units each, 2 MiB in all.
const FRESH_MAX: usize = 256;
/// How long a path may take to say it.
const FRESH_TIME: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Stranger {
    joined: Joined,
    since: Time,
    first: bool,
}

/// What a fresh path turns out to be.
pub(super) enum Said<'a> {
    /// It resumes a session: whose, under which number, and the record after the tag.
    Tag { session: u32, number: PathNumber, record: &'a mut [u8] },
    /// A whole message 1.
    Request(Vec<u8>),
    /// Neither.
    Nonsense,
}

/// The fresh paths of one service. Their numbers grow, so the first is the oldest.
#[derive(Debug, Default)]
pub(super) struct Fresh(BTreeMap<PathNo, Stranger>);

impl Fresh {
    /// Somebody used a lease; the path that must close for it, if there are too many.
    pub(super) fn add(&mut self, now: Time, path: PathNo) -> Option<PathNo> {
        let oldest = if self.0.len() >= FRESH_MAX { self.0.pop_first() } else { None };
        let stranger = Stranger { joined: Joined::default(), since: now, first: true };
        self.0.insert(path, stranger);
        oldest.map(|(path, _)| path)
    }

    /// The path is over.
    pub(super) fn remove(&mut self, path: PathNo) {
        self.0.remove(&path);
    }

    /// A unit came; `None` if the path is unknown or has more to say. A tag is burnt in `tags`.
    pub(super) fn receive<'a>(
        &mut self,
        tags: &mut Tags,
        path: PathNo,
        unit: &'a mut [u8],
    ) -> Option<Said<'a>> {
        let mut stranger = self.0.remove(&path)?;
        if std::mem::replace(&mut stranger.first, false)
            && let Some((session, number)) = unit.first_chunk().and_then(|tag| tags.burn(tag))
        {
            let record = unit.get_mut(16..)?;
            return Some(Said::Tag { session, number, record });
        }
        match stranger.joined.add(unit) {
            Ok(None) => {
                self.0.insert(path, stranger);
                None
            }
            Ok(Some(request)) => Some(Said::Request(request)),
            Err(_) => Some(Said::Nonsense),
        }
    }

    /// A path that took too long; it is forgotten here.
    pub(super) fn take_late(&mut self, now: Time) -> Option<PathNo> {
        let oldest = self.0.first_entry().filter(|it| now >= it.get().since + FRESH_TIME)?;
        Some(oldest.remove_entry().0)
    }

    /// When the next one is late.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.0.first_key_value().map(|(_, stranger)| stranger.since + FRESH_TIME)
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
