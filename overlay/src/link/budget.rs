//! How many handshakes one corner of the internet may begin.
//!
//! Lives here: a token bucket per source prefix, in a bounded table. Does not live here: what a
//! handshake may cost once begun (`handshake.rs`). The driver asks before it makes a machine.

use std::{collections::BTreeMap, fmt, net::IpAddr, time::Duration};

use crate::time::Time;

/// Prefixes with a bucket of their own; beyond that all new ones share one, so that a flood from
/// everywhere takes the newcomers' turn but not that of prefixes already known.
const PREFIXES_MAX: usize = 4_096;

/// A /24 of IPv4 or a /48 of IPv6.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Source([u8; 7]);

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

impl From<IpAddr> for Source {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                Self([4, a, b, c, 0, 0, 0])
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, ..] = ip.octets();
                Self([6, a, b, c, d, e, f])
            }
        }
    }
}

/// Token buckets by source prefix.
#[derive(Debug)]
pub struct HandshakeBudget {
    /// Time that one handshake costs.
    cost: Duration,
    /// What a prefix may save up.
    burst: Duration,
    /// When all that a prefix began is paid for.
    paid_at: BTreeMap<Source, Time>,
    shared: Time,
    cleaned_at: Time,
}

impl HandshakeBudget {
    /// `per_minute` handshakes a prefix in the long run, and `burst` at once; both at least 1.
    pub fn new(per_minute: u32, burst: u32) -> Self {
        let cost = Duration::from_mins(1) / per_minute.max(1);
        Self {
            cost,
            burst: cost * burst.max(1),
            paid_at: BTreeMap::new(),
            shared: Time::ZERO,
            cleaned_at: Time::ZERO,
        }
    }

    /// Whether a handshake from `source` may begin now; if so it is charged.
    pub fn allow(&mut self, now: Time, source: IpAddr) -> bool {
        let source = Source::from(source);
        if self.paid_at.len() >= PREFIXES_MAX
            && now.since(self.cleaned_at) >= Duration::from_secs(1)
        {
            self.cleaned_at = now;
            self.paid_at.retain(|_, at| *at > now);
        }
        let full = self.paid_at.len() >= PREFIXES_MAX;
        let paid_at = match self.paid_at.get_mut(&source) {
            Some(at) => at,
            None if full => &mut self.shared,
            None => self.paid_at.entry(source).or_insert(now),
        };
        let after = (*paid_at).max(now) + self.cost;
        let allowed = after.since(now) <= self.burst;
        if allowed {
            *paid_at = after;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_has_a_burst_and_then_its_rate() {
        let mut budget = HandshakeBudget::new(60, 5);
        let mut now = Time::from_micros(1);
        let allowed = |budget: &mut HandshakeBudget, now| {
            (0..100).filter(|n| budget.allow(now, ip(&format!("192.0.2.{n}")))).count()
        };
        assert_eq!(allowed(&mut budget, now), 5);
        now = now + Duration::from_secs(2);
        assert_eq!(allowed(&mut budget, now), 2);
        assert!(budget.allow(now, ip("192.0.3.1")), "another prefix has its own");
    }

    #[test]
    fn addresses_of_one_ipv6_site_share_a_bucket() {
        let mut budget = HandshakeBudget::new(60, 1);
        assert!(budget.allow(Time::ZERO, ip("2001:db8:1:2::1")));
        assert!(!budget.allow(Time::ZERO, ip("2001:db8:1:ffff::2")));
        assert!(budget.allow(Time::ZERO, ip("2001:db8:2::2")));
    }

    #[test]
    fn the_table_is_bounded_and_known_prefixes_keep_their_turn() {
        let mut budget = HandshakeBudget::new(60, 4);
        assert!(budget.allow(Time::ZERO, ip("9.9.9.9")));
        for n in 0..20_000u32 {
            budget.allow(Time::ZERO, IpAddr::from((n << 8).to_be_bytes()));
        }
        assert!(budget.paid_at.len() <= PREFIXES_MAX);
        assert!(budget.allow(Time::ZERO, ip("9.9.9.9")));
    }
}
