//! Addresses that the operator wants nothing to do with.
//!
//! Lives here: reading and asking the list. Does not live here: adding to it: only the operator does,
//! for a ban that the program made by itself could be brought upon others by whoever provokes it.

use std::{fmt, net::IpAddr, str::FromStr};

/// One entry: an address, or all that begin with the same bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Ban {
    ip: IpAddr,
    bits: u8,
}

/// Why an entry is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write an address like 203.0.113.7, or a range like 203.0.113.0/24 or 2001:db8::/32")]
pub struct BanError;

impl FromStr for Ban {
    type Err = BanError;

    fn from_str(text: &str) -> Result<Self, BanError> {
        let (ip, bits) = match text.split_once('/') {
            Some((ip, bits)) => (ip, Some(bits.parse().map_err(|_| BanError)?)),
            None => (text, None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| BanError)?;
        let all = if ip.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(all);
        if bits > all { Err(BanError) } else { Ok(Self { ip, bits }) }
    }
}

impl Ban {
    /// Whether it covers `ip`, an IPv4 address inside IPv6 included.
    pub fn covers(&self, ip: IpAddr) -> bool {
        let same = |a: u128, b: u128, width: u32| {
            let rest = width - u32::from(self.bits).min(width);
            (a ^ b).checked_shr(rest).unwrap_or(0) == 0
        };
        match (self.ip, ip.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(a.to_bits().into(), b.to_bits().into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits(), b.to_bits(), 128),
            _ => false,
        }
    }
}

/// Mute: it says where somebody is.
impl fmt::Debug for Ban {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_covers_its_range_and_no_more() {
        for (ban, inside, outside) in [
            ("203.0.113.7", "203.0.113.7", "203.0.113.8"),
            ("203.0.113.0/24", "203.0.113.255", "203.0.114.0"),
            ("203.0.113.0/24", "::ffff:203.0.113.9", "::203.0.113.9"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("0.0.0.0/0", "8.8.8.8", "2001:db8::1"),
            ("::/0", "2001:db8::1", "8.8.8.8"),
        ] {
            let ban: Ban = ban.parse().unwrap();
            assert!(ban.covers(inside.parse().unwrap()), "{inside}");
            assert!(!ban.covers(outside.parse().unwrap()), "{outside}");
        }
    }

    #[test]
    fn nonsense_is_no_entry() {
        for text in ["", "host", "1.2.3.4/33", "1.2.3.4/x", "::1/129", "1.2.3", "1.2.3.4/-1"] {
            assert_eq!(text.parse::<Ban>(), Err(BanError), "{text}");
        }
    }
}
