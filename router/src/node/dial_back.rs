//! Dialling back for peers that want to know whether others can.
//!
//! Lives here: for whom it is done, how often, and what they are told. Does not live here: the dial
//! itself (`links.rs`, under the rules of PROTOCOL P3), asking others (`reach.rs`).
//!
//! The asker chooses a port and nothing else: what is dialled is where its own link comes from, so
//! nobody can have a third party dialled. The answer says whether this very asker was met there by a
//! whole handshake, so nothing is learnt of anybody else's ports.

use std::{collections::BTreeMap, time::Duration};

use warren_overlay::{
    bucket::{Bucket, Refill},
    id::LinkNo,
    time::Time,
    wire::{Address, DialBackOutcome},
};

/// Dials under way at a time.
const PENDING_MAX: usize = 16;
/// One for a link in this time.
const LINK_PAUSE: Duration = Duration::from_mins(1);
/// For all links together: so many at once, and one a second.
const DIALS: Refill = Refill::per_second(1, 8);

/// A dial that is under way.
#[derive(Clone, Copy, Debug)]
struct Pending {
    asker: LinkNo,
    address: Address,
}

/// What to tell somebody who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) link: LinkNo,
    pub(super) seen: Address,
    pub(super) outcome: DialBackOutcome,
}

/// Dials for others' sake, under way and lately.
#[derive(Debug)]
pub(super) struct DialBacks {
    pending: BTreeMap<LinkNo, Pending>,
    /// When each link's last was.
    last: BTreeMap<LinkNo, Time>,
    all: Bucket,
}

impl DialBacks {
    /// None yet.
    pub(super) const fn new() -> Self {
        Self { pending: BTreeMap::new(), last: BTreeMap::new(), all: Bucket::full() }
    }

    /// Whether the peer on `link` may be dialled back now. Counts as its turn.
    pub(super) fn admits(&mut self, now: Time, link: LinkNo) -> bool {
        self.last.retain(|_, at| now.since(*at) < LINK_PAUSE);
        let free = self.pending.len() < PENDING_MAX && !self.last.contains_key(&link);
        let admitted = free && self.all.take(now, DIALS);
        if admitted {
            self.last.insert(link, now);
        }
        admitted
    }

    /// The dial goes out as link `dial`.
    pub(super) fn began(&mut self, dial: LinkNo, asker: LinkNo, address: Address) {
        self.pending.insert(dial, Pending { asker, address });
    }

    /// A dial ended: what to tell the asker. `None` if it is none of these.
    pub(super) fn ended(&mut self, dial: LinkNo, reached: bool) -> Option<Told> {
        let Pending { asker: link, address: seen } = self.pending.remove(&dial)?;
        let outcome = if reached { DialBackOutcome::Reached } else { DialBackOutcome::Failed };
        Some(Told { link, seen, outcome })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    fn here() -> Address {
        std::net::SocketAddr::from(([8, 8, 8, 8], 9_000)).into()
    }

    #[test]
    fn a_link_has_one_turn_a_minute_and_all_together_one_a_second() {
        let mut dials = DialBacks::new();
        assert!(dials.admits(at(0), LinkNo(1)));
        assert!(!dials.admits(at(59), LinkNo(1)));
        assert!(dials.admits(at(60), LinkNo(1)));
        let many = (2..40).filter(|link| dials.admits(at(100), LinkNo(*link))).count();
        assert_eq!(many, 8);
        assert!(dials.admits(at(101), LinkNo(50)));
        assert!(!dials.admits(at(101), LinkNo(51)));
    }

    #[test]
    fn no_more_than_sixteen_are_under_way_and_each_is_told_once() {
        let mut dials = DialBacks::new();
        for n in 0..16 {
            assert!(dials.admits(at(n.into()), LinkNo(n)));
            dials.began(LinkNo(100 + n), LinkNo(n), here());
        }
        assert!(!dials.admits(at(20), LinkNo(99)));
        let told = dials.ended(LinkNo(102), false).unwrap();
        let outcome = DialBackOutcome::Failed;
        assert_eq!(told, Told { link: LinkNo(2), seen: here(), outcome });
        assert_eq!(dials.ended(LinkNo(102), true), None);
        assert!(dials.admits(at(20), LinkNo(99)));
    }
}
