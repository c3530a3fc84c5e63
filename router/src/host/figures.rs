//! What can be seen of a router: figures for operators and for those who watch a simulation.
//!
//! Lives here: asking the parts and adding up. Does not live here: anything that changes them.

use warren_overlay::{
    id::LinkNo,
    link::{LinkIo, PadCount, RateLimit},
    session::{End, Requester},
    time::Now,
};

use super::{Host, LinkState};
use crate::status::Status;

impl Host {
    /// How the router is.
    pub fn status(&self, now: Now) -> Status {
        let mut status = self.node.status(now);
        status.cells_relayed = self.cells_relayed();
        status.memory_mib = (self.memory.quota() >> 20) as u64;
        status.ended_for_memory = self.shed;
        status.memory_held_kib = (self.memory_held() / 1_024) as u64;
        if let Some(rate) = &self.settings.rate {
            let kbps = |limit: &RateLimit| limit.last_seconds(now.time) * 8 / 1_000;
            (status.sent_kbps, status.received_kbps) = (kbps(&rate.sent), kbps(&rate.received));
            status.transit_kbps = kbps(&rate.transit_sent);
            let limit = rate.sent.bytes_per_second() * 8 / 1_000;
            status.bandwidth_kbps = u32::try_from(limit).unwrap_or(u32::MAX);
        }
        status
    }

    /// The links that stand, with what they carry.
    pub fn links(&self) -> impl Iterator<Item = (LinkNo, &LinkIo)> {
        self.links.iter().filter_map(|(no, link)| match link {
            LinkState::Up(io) => Some((*no, &**io)),
            LinkState::Dialling(_) | LinkState::Handshake(_) => None,
        })
    }

    /// A link that stands.
    pub fn link(&self, link: LinkNo) -> Option<&LinkIo> {
        match self.links.get(&link)? {
            LinkState::Up(io) => Some(io),
            LinkState::Dialling(_) | LinkState::Handshake(_) => None,
        }
    }

    /// Cells that the windows of all lanes take of the memory quota.
    pub fn credits_taken(&self) -> u64 {
        self.settings.quota.taken()
    }

    /// Links cut off because the peer sent what no router sends. Honest routers never do.
    pub const fn offences(&self) -> u64 {
        self.offences
    }

    /// Tunnels that ended here and were closed because a cell did not decrypt, or said what no owner
    /// says. Among honest routers there is none, while no part of one is late.
    pub fn tunnels_broken(&self) -> u64 {
        let broken = |(_, io): (LinkNo, &LinkIo)| io.counters().lanes_broken;
        self.broken_before + self.links().map(broken).sum::<u64>()
    }

    /// Sessions that ended because the other side said what no honest one says. Among honest routers
    /// there is none.
    pub fn sessions_broken(&self) -> u64 {
        self.sessions_broken_before + self.ends.values().map(End::sessions_broken).sum::<u64>()
    }

    /// Cells moved for others since the start: as a middle hop, as an end hop, over splice legs.
    pub fn cells_relayed(&self) -> u64 {
        let now: u64 = self
            .links
            .values()
            .map(|link| match link {
                LinkState::Up(io) => io.counters().relayed_cells_in,
                _ => 0,
            })
            .sum();
        self.relayed_before + now
    }

    /// Bytes of memory that lanes and sessions keep for what waits.
    pub fn memory_held(&self) -> usize {
        let links = self
            .up_links()
            .map(|(_, io)| io.spare_bytes() + io.waiting().map(|(.., bytes)| bytes).sum::<usize>());
        let requesters = self.requesters.values().map(Requester::held);
        links.chain(self.ends.values().map(End::held)).chain(requesters).sum()
    }

    pub(super) fn up_links(&self) -> impl Iterator<Item = (LinkNo, &LinkIo)> {
        self.links.iter().filter_map(|(no, link)| match link {
            LinkState::Up(io) => Some((*no, &**io)),
            _ => None,
        })
    }

    /// How much padding all links have sent until now, or counted.
    pub fn padding(&mut self, now: Now) -> PadCount {
        let mut sum = self.padded_before;
        for link in self.links.values_mut() {
            if let LinkState::Up(io) = link {
                add(&mut sum, io.padding(now.time));
            }
        }
        sum
    }
}

pub(super) const fn add(sum: &mut PadCount, more: PadCount) {
    sum.frames += more.frames;
    sum.bytes += more.bytes;
}
