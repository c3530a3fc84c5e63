//! How many handshakes one corner of the internet may begin.
//!
//! Lives here: a token bucket per source prefix, in a bounded table. Does not live here: what a
//! handshake may cost once begun (`handshake.rs`). The driver asks before it makes a machine.

use std::{collections::BTreeMap, fmt, net::IpAddr, time::Duration};

use crate::{
    bucket::{Bucket, Refill},
    room::Room,
    time::Time,
};

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
    refill: Refill,
    /// Of prefixes that began something lately.
    buckets: BTreeMap<Source, Bucket>,
    shared: Bucket,
    cleaned_at: Time,
}

impl HandshakeBudget {
    /// As many of a prefix as `refill` says.
    pub const fn new(refill: Refill) -> Self {
        Self { refill, buckets: BTreeMap::new(), shared: Bucket::full(), cleaned_at: Time::ZERO }
    }

    /// Whether a handshake from `source` may begin now; if so it is charged.
    pub fn allow(&mut self, now: Time, source: IpAddr) -> bool {
        let source = Source::from(source);
        if self.buckets.len() >= PREFIXES_MAX
            && now.since(self.cleaned_at) >= Duration::from_secs(1)
        {
            self.cleaned_at = now;
            self.rest(now);
        }
        let full = self.buckets.len() >= PREFIXES_MAX && !self.buckets.contains_key(&source);
        let bucket = if full {
            &mut self.shared
        } else {
            self.buckets.entry(source).or_insert(Bucket::full())
        };
        bucket.take(now, self.refill)
    }

    /// Forgets the prefixes whose buckets are full again.
    pub fn rest(&mut self, now: Time) {
        self.buckets.retain(|_, bucket| !bucket.is_full(now));
        self.buckets.rest();
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
        let mut budget = HandshakeBudget::new(Refill::per_second(1, 5));
        let mut now = Time::from_micros(1);
        let allowed = |budget: &mut HandshakeBudget, now| {
            (0..100).filter(|n| budget.allow(now, ip(&format!("192.0.2.{n}")))).count()
        };
        assert_eq!(allowed(&mut budget, now), 5);
        now = now + Duration::from_secs(2);
        assert_eq!(allowed(&mut budget, now), 2);
        assert!(budget.allow(now, ip("192.0.3.1")), "another prefix has its own");
        // Those that have been quiet for long are forgotten.
        budget.rest(now + Duration::from_secs(1));
        assert_eq!(budget.buckets.len(), 1);
        budget.rest(now + Duration::from_secs(5));
        assert_eq!(budget.buckets.len(), 0);
    }

    #[test]
    fn addresses_of_one_ipv6_site_share_a_bucket() {
        let mut budget = HandshakeBudget::new(Refill::per_second(1, 1));
        assert!(budget.allow(Time::ZERO, ip("2001:db8:1:2::1")));
        assert!(!budget.allow(Time::ZERO, ip("2001:db8:1:ffff::2")));
        assert!(budget.allow(Time::ZERO, ip("2001:db8:2::2")));
    }

    #[test]
    fn the_table_is_bounded_and_known_prefixes_keep_their_turn() {
        let mut budget = HandshakeBudget::new(Refill::per_second(1, 4));
        assert!(budget.allow(Time::ZERO, ip("9.9.9.9")));
        for n in 0..20_000u32 {
            budget.allow(Time::ZERO, IpAddr::from((n << 8).to_be_bytes()));
        }
        assert!(budget.buckets.len() <= PREFIXES_MAX);
        assert!(budget.allow(Time::ZERO, ip("9.9.9.9")));
    }
}
