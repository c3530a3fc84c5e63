//! Which way bytes take through a network, read from the kernel's counters per connection.
//!
//! Lives here: `ss`, who sent how much to whom, and the path that a transfer took. Does not live
//! here: routers' own counters (`testnet`), which say how much went through a router, not whence.
//!
//! Routers of a test network bind and dial from 127.k.0.1, so that both ends of every connection
//! between them are known by address. A download of n bytes raises `bytes_acked` by a little over n
//! on each link of its path, from the service to the client, and by next to nothing elsewhere.

use std::{
    collections::BTreeMap,
    fmt::Write,
    net::{IpAddr, SocketAddr},
    process::Command,
};

use crate::runner;

/// Bytes sent and acknowledged so far, by sender and receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flow(BTreeMap<(IpAddr, IpAddr), u64>);

impl Flow {
    /// What the kernel has counted until now, on connections that stand.
    pub fn now() -> Self {
        let Ok(output) = Command::new("ss").args(["-tinOH", "state", "established"]).output()
        else {
            runner::skip("ss (iproute2) is not installed");
        };
        let mut flow = BTreeMap::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let mut words = line.split_whitespace().skip(2);
            let mut ip = || Some(words.next()?.parse::<SocketAddr>().ok()?.ip());
            let (Some(from), Some(to)) = (ip(), ip()) else { continue };
            let acked = line
                .split_whitespace()
                .find_map(|word| word.strip_prefix("bytes_acked:"))
                .and_then(|bytes| bytes.parse::<u64>().ok())
                .unwrap_or(0);
            *flow.entry((from, to)).or_default() += acked;
        }
        Self(flow)
    }

    /// What was sent between `earlier` and this.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let risen = |(link, bytes): (&(IpAddr, IpAddr), &u64)| {
            (*link, bytes.saturating_sub(earlier.0.get(link).copied().unwrap_or(0)))
        };
        Self(self.0.iter().map(risen).filter(|(_, bytes)| *bytes > 0).collect())
    }

    /// The only path from `from` to `to` that explains a transfer of `payload` bytes, both ends
    /// included; `None` when there is none or more than one (a router may be on it twice).
    pub fn path(&self, from: IpAddr, to: IpAddr, payload: u64) -> Option<Vec<IpAddr>> {
        // Cells, frames and TCP add some 4 %, what the network does for itself far less than half.
        let mut uses: BTreeMap<(IpAddr, IpAddr), u64> = self
            .0
            .iter()
            .map(|(link, bytes)| (*link, (bytes + payload / 2) / payload))
            .filter(|(_, times)| *times > 0)
            .collect();
        let mut found = Vec::new();
        trails(&mut uses, &mut vec![from], to, &mut found);
        match found.as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        }
    }

    /// The links that carried at least half of `payload`, for messages.
    pub fn describe(&self, payload: u64) -> String {
        let mut text = String::new();
        for ((from, to), bytes) in self.0.iter().filter(|(_, bytes)| **bytes >= payload / 2) {
            let _ = write!(text, "{from} -> {to}: {bytes}; ");
        }
        text
    }
}

/// All ways to use up every link, from the end of `trail` to `to`.
fn trails(
    uses: &mut BTreeMap<(IpAddr, IpAddr), u64>,
    trail: &mut Vec<IpAddr>,
    to: IpAddr,
    found: &mut Vec<Vec<IpAddr>>,
) {
    let Some(here) = trail.last().copied() else { return };
    let left: u64 = uses.values().sum();
    if left == 0 {
        if here == to {
            found.push(trail.clone());
        }
        return;
    }
    // More than a dozen links of this size are no path at all, and would take long to try.
    if left > 12 || found.len() > 1 {
        return;
    }
    let next: Vec<IpAddr> = uses
        .iter()
        .filter(|((from, _), times)| *from == here && **times > 0)
        .map(|((_, next), _)| *next)
        .collect();
    for hop in next {
        *uses.get_mut(&(here, hop)).unwrap() -= 1;
        trail.push(hop);
        trails(uses, trail, to, found);
        trail.pop();
        *uses.get_mut(&(here, hop)).unwrap() += 1;
    }
}
