//! The machine slept, or its network is another one: what the router's own timers cannot tell.
//!
//! Lives here: noticing, once a second. Does not live here: what follows from it (`node`), a process
//! that was stopped while its machine ran (the node sees how late it is).

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use super::lan;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(1);
/// Shorter sleep ends no link.
const SLEPT: Duration = Duration::from_secs(5);

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// The machine slept.
    Woke,
    /// Packets leave from another address than before, or do so again.
    Moved,
}

/// The last look.
#[derive(Debug)]
pub(super) struct Change {
    next: Instant,
    /// Whether packets leave this machine at all.
    leaves: bool,
    /// Whether addresses of a local network count where none leads to the internet.
    on_lan: bool,
    seen: Seen,
}

/// What can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    /// How long the machine has slept since it was started.
    slept: Duration,
    /// From where packets to the outside leave, by IPv4 and IPv6.
    from: [Option<IpAddr>; 2],
}

impl Change {
    /// As it is now, for a router whose links are at `link`.
    pub(super) fn new(now: Instant, link: SocketAddr, on_lan: bool) -> Self {
        let leaves = !link.ip().is_loopback();
        Self { next: now + EVERY, leaves, on_lan, seen: Seen::now(leaves, on_lan) }
    }

    /// Whether anything changed since the last look; looks once a second at most.
    pub(super) fn look(&mut self, now: Instant) -> Option<Changed> {
        if now < self.next {
            return None;
        }
        self.next = now + EVERY;
        let before = std::mem::replace(&mut self.seen, Seen::now(self.leaves, self.on_lan));
        self.seen.since(&before)
    }
}

impl Seen {
    fn now(leaves: bool, on_lan: bool) -> Self {
        let read = |id| Duration::try_from(clock_gettime(id)).unwrap_or_default();
        // In this order, so that what passes between the two is never taken for sleep.
        let (all, awake) = (read(ClockId::Boottime), read(ClockId::Monotonic));
        Self {
            slept: all.saturating_sub(awake),
            from: [true, false].map(|v4| leaves.then(|| outward_ip(v4, on_lan)).flatten()),
        }
    }

    fn since(&self, before: &Self) -> Option<Changed> {
        if self.slept.saturating_sub(before.slept) >= SLEPT {
            return Some(Changed::Woke);
        }
        // A network that is gone is nothing to begin anew with: its return is.
        let is_new =
            |(now, before): (&Option<IpAddr>, &Option<IpAddr>)| now.is_some() && now != before;
        self.from.iter().zip(&before.from).any(is_new).then_some(Changed::Moved)
    }
}

/// The address that packets to the outside would carry. Nothing is sent: connecting a UDP socket
/// only asks the routing table. Where it knows no way out, an address `on_lan` will do, if asked for.
pub(super) fn outward_ip(v4: bool, on_lan: bool) -> Option<IpAddr> {
    routed_ip(v4).or_else(|| on_lan.then(|| lan::own_ip(v4)).flatten())
}

fn routed_ip(v4: bool) -> Option<IpAddr> {
    let (any, far): (SocketAddr, SocketAddr) = if v4 {
        (([0, 0, 0, 0], 0).into(), ([192, 0, 2, 1], 9).into())
    } else {
        let far = [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1];
        (([0u16; 8], 0).into(), (far, 9).into())
    };
    let socket = std::net::UdpSocket::bind(any).ok()?;
    socket.connect(far).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(slept_s: u64, last: Option<u8>) -> Seen {
        let from = [last.map(|last| IpAddr::from([10, 0, 0, last])), None];
        Seen { slept: Duration::from_secs(slept_s), from }
    }

    #[test]
    fn sleep_and_another_address_are_noticed_and_a_network_that_is_gone_is_waited_for() {
        let since = |now: Seen, before: Seen| now.since(&before);
        assert_eq!(since(seen(7, Some(1)), seen(7, Some(1))), None);
        assert_eq!(since(seen(11, Some(1)), seen(7, Some(1))), None, "a moment");
        assert_eq!(since(seen(67, Some(1)), seen(7, Some(1))), Some(Changed::Woke));
        assert_eq!(since(seen(7, Some(2)), seen(7, Some(1))), Some(Changed::Moved));
        assert_eq!(since(seen(7, None), seen(7, Some(1))), None);
        assert_eq!(since(seen(7, Some(1)), seen(7, None)), Some(Changed::Moved));
    }

    #[test]
    fn a_look_at_this_machine_finds_nothing_changed() {
        let start = Instant::now();
        let mut change = Change::new(start, ([0, 0, 0, 0], 0).into(), true);
        assert_eq!(change.look(start), None);
        assert_eq!(change.look(start + EVERY), None);
    }
}
