//! Dialling for others: how often, and what is not tried again (PROTOCOL P3).
//!
//! Lives here: the budgets of destinations and askers, and contacts that failed. Does not live here: dials
//! under way (`links.rs`).
//!
//! What failed is remembered with the identity and key that were asked for there. A dial with an invented key
//! fails wherever it leads: were the address alone remembered, one such dial in ten minutes would keep
//! everybody else's tunnels away from whoever really is there.

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use warren_overlay::{
    id::LinkNo,
    room::Room,
    time::Time,
    wire::{Address, Contact},
};

/// What failed is not dialled again for others for this long.
const FAILED_MEMORY: Duration = Duration::from_mins(10);
/// Remembered contacts that failed.
const FAILED_MAX: usize = 4_096;
/// Dials that may be pending to one /24 or /48 on behalf of others.
const PENDING_PER_BLOCK_MAX: usize = 2;
/// New dials a second to one /24 or /48 on behalf of others.
const DIALS_PER_BLOCK_MAX: usize = 4;
/// New dials a second on behalf of one neighbour.
pub(super) const DIALS_PER_ASKER_MAX: usize = 8;

/// A /24 of IPv4 or a /48 of IPv6.
type Block = [u8; 7];

fn block(address: &Address) -> Block {
    match address.socket().ip() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            [4, a, b, c, 0, 0, 0]
        }
        IpAddr::V6(ip) => {
            let [a, b, c, d, e, f, ..] = ip.octets();
            [6, a, b, c, d, e, f]
        }
    }
}

/// Whether both lead to the same place, where the same is expected.
pub(super) fn alike(a: &Contact, b: &Contact) -> bool {
    (a.id, a.link_key, a.address) == (b.id, b.link_key, b.address)
}

/// What was done for others of late.
#[derive(Debug, Default)]
pub(super) struct Favours {
    failed: VecDeque<(Time, Contact)>,
    /// Dials within the last second: when, where to, for whom.
    recent: VecDeque<(Time, Block, LinkNo)>,
}

impl Favours {
    /// Whether `asker` may have `contact` dialled now, where `pending` are being dialled. Counts as its turn.
    pub(super) fn admits(
        &mut self,
        now: Time,
        contact: &Contact,
        asker: LinkNo,
        pending: impl Iterator<Item = Address>,
    ) -> bool {
        while self.recent.front().is_some_and(|(at, ..)| now.since(*at) > Duration::from_secs(1)) {
            self.recent.pop_front();
        }
        let to = block(&contact.address);
        let pending = pending.filter(|address| block(address) == to).count();
        let there = self.recent.iter().filter(|(_, block, _)| *block == to).count();
        let turns = self.recent.iter().filter(|(.., by)| *by == asker).count();
        let allowed = pending < PENDING_PER_BLOCK_MAX
            && there < DIALS_PER_BLOCK_MAX
            && turns < DIALS_PER_ASKER_MAX;
        if allowed {
            self.recent.push_back((now, to, asker));
        }
        allowed
    }

    /// Whether it was dialled in vain within the last ten minutes, for whomever.
    pub(super) fn failed_lately(&mut self, now: Time, contact: &Contact) -> bool {
        while self.failed.front().is_some_and(|(at, _)| now.since(*at) > FAILED_MEMORY) {
            self.failed.pop_front();
        }
        self.failed.iter().any(|(_, failed)| alike(failed, contact))
    }

    /// It was dialled in vain.
    pub(super) fn failed(&mut self, now: Time, contact: &Contact) {
        if self.failed.len() == FAILED_MAX {
            self.failed.pop_front();
        }
        self.failed.push_back((now, *contact));
    }

    /// It is there after all.
    pub(super) fn worked(&mut self, contact: &Contact) {
        self.failed.retain(|(_, failed)| !alike(failed, contact));
    }

    /// What failed may work from where this router is now.
    pub(super) fn forgive(&mut self) {
        self.failed.clear();
    }

    /// Gives up room that nothing needs.
    pub(super) fn rest(&mut self) {
        self.failed.rest();
        self.recent.rest();
    }
}
