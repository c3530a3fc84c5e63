//! Addresses that stand for names, for programs that cannot keep a name.
//!
//! Lives here: the bounded map behind Tor's `RESOLVE` and `RESOLVE_PTR`. Does not live here: the SOCKS
//! messages that ask for it (`socks5.rs`). torsocks first resolves, then connects to what it got.
//!
//! The addresses are of 240.192.0.0/10 and a ULA prefix, not of 127.192.0.0/10 as with Tor:
//! torsocks refuses to connect to anything in 127.0.0.0/8 (measured, docs/decisions). Class E is
//! routed nowhere, so a program that goes round the proxy with such an address reaches nobody.
//!
//! Every address belongs to one scope (listener and credentials): nobody can find out what another
//! program resolved by asking for all addresses in turn.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroUsize,
};

use lru::LruCache;
use warren_overlay::{rng::Rng, service::Name};

use crate::isolation::Scope;

/// First address of 240.192.0.0/10.
const V4_BASE: u32 = 0xF0C0_0000;
/// Addresses in a /10.
const V4_COUNT: u32 = 1 << 22;
/// `fd77:6172:7265:6e00::/96`, of the range for private use (RFC 4193).
const V6_BASE: u128 = 0xFD77_6172_7265_6E00_0000_0000_0000_0000;

/// What a connection asks of the map.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// The address that stands for this name, made if there is none.
    Address(Scope, Name),
    /// The name that this address stands for.
    Name(Scope, IpAddr),
}

/// What the map says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// This address stands for the name.
    Address(Ipv4Addr),
    /// The address stands for this name.
    Name(Name),
    /// The address stands for nothing here, or no longer.
    Unknown,
}

/// Mute: a name is in it.
impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lookup(_)")
    }
}

/// Mute: a name is in it.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answer(_)")
    }
}

/// The map, one for all listeners. The longest unused pair goes first when it is full.
pub struct VirtualAddresses {
    by_index: LruCache<u32, (Scope, Name)>,
    by_name: BTreeMap<(Scope, Name), u32>,
    /// Where the next free address is looked for.
    next: u32,
}

impl VirtualAddresses {
    /// Pairs held. A program resolves a handful of names; 4,096 pairs take under 1 MiB.
    pub const PAIRS_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("4,096 is not zero");

    /// An empty map. It begins at a random place, so that an address a program kept from before a
    /// restart does not mean another name now.
    pub fn new(rng: &mut Rng) -> Self {
        let next = u32::try_from(rng.below(u64::from(V4_COUNT))).unwrap_or(0);
        Self { by_index: LruCache::new(Self::PAIRS_MAX), by_name: BTreeMap::new(), next }
    }

    /// Answers one question. Both kinds count as use.
    pub fn answer(&mut self, lookup: Lookup) -> Answer {
        match lookup {
            Lookup::Address(scope, name) => Answer::Address(self.assign(scope, name)),
            Lookup::Name(scope, ip) => self.find(scope, ip).map_or(Answer::Unknown, Answer::Name),
        }
    }

    /// The IPv4 address that stands for `name` within `scope`.
    ///
    /// An address is used again only after all 4,194,302 others were given out once.
    pub fn assign(&mut self, scope: Scope, name: Name) -> Ipv4Addr {
        if let Some(&index) = self.by_name.get(&(scope, name)) {
            self.by_index.promote(&index);
            return Ipv4Addr::from(V4_BASE + index);
        }
        let index = self.free_index();
        if let Some((_, forgotten)) = self.by_index.push(index, (scope, name)) {
            self.by_name.remove(&forgotten);
        }
        self.by_name.insert((scope, name), index);
        Ipv4Addr::from(V4_BASE + index)
    }

    /// The IPv6 form of an address that [`Self::assign`] gave.
    pub fn v6(v4: Ipv4Addr) -> Ipv6Addr {
        Ipv6Addr::from(V6_BASE | u128::from(u32::from(v4).wrapping_sub(V4_BASE)))
    }

    /// The name that `ip` stands for within `scope`; IPv4, its IPv6 form, and IPv4 inside IPv6.
    pub fn find(&mut self, scope: Scope, ip: IpAddr) -> Option<Name> {
        let index = match ip.to_canonical() {
            IpAddr::V4(v4) => u32::from(v4).checked_sub(V4_BASE)?,
            IpAddr::V6(v6) => u32::try_from(u128::from(v6).checked_sub(V6_BASE)?).ok()?,
        };
        self.by_index.get(&index).and_then(|&(owner, name)| (owner == scope).then_some(name))
    }

    /// The next index nobody holds; never the first or last of the range. Ends, because far fewer
    /// pairs are held than there are indexes.
    fn free_index(&mut self) -> u32 {
        loop {
            self.next = (self.next + 1) % V4_COUNT;
            let usable = self.next != 0 && self.next != V4_COUNT - 1;
            if usable && !self.by_index.contains(&self.next) {
                return self.next;
            }
        }
    }
}

/// Mute but for the size.
impl fmt::Debug for VirtualAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualAddresses")
            .field("pairs", &self.by_index.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        isolation::Credentials,
        testing::{listener, name},
    };

    fn scopes() -> [Scope; 2] {
        let listener = listener(0);
        [listener.scope(Credentials::None), listener.scope(Credentials::UserId(b"x"))]
    }

    fn map() -> VirtualAddresses {
        VirtualAddresses::new(&mut Rng::from_seed([1; 32]))
    }

    #[test]
    fn an_address_leads_back_to_its_name_in_every_form() {
        let (mut map, [scope, _]) = (map(), scopes());
        let v4 = map.assign(scope, name(1));
        assert_eq!(map.assign(scope, name(1)), v4);
        assert_ne!(map.assign(scope, name(2)), v4);
        assert_eq!((v4.octets()[0], v4.octets()[1] & 0xC0), (240, 192));
        for ip in [v4.into(), v4.to_ipv6_mapped().into(), VirtualAddresses::v6(v4).into()] {
            assert_eq!(map.find(scope, ip), Some(name(1)));
        }
    }

    #[test]
    fn nobody_learns_what_another_program_resolved() {
        let (mut map, [mine, other]) = (map(), scopes());
        let v4 = map.assign(mine, name(1));
        assert_eq!(map.find(other, v4.into()), None);
        assert_ne!(map.assign(other, name(1)), v4);
    }

    #[test]
    fn addresses_that_were_never_given_out_stand_for_nothing() {
        let (mut map, [scope, _]) = (map(), scopes());
        map.assign(scope, name(1));
        for ip in ["127.0.0.1", "8.8.8.8", "240.192.0.0", "255.255.255.255", "::", "ff02::1"] {
            assert_eq!(map.find(scope, ip.parse().unwrap()), None);
        }
    }

    #[test]
    fn a_full_map_forgets_what_was_unused_longest_and_stays_consistent() {
        let (mut map, [scope, _]) = (map(), scopes());
        let listener = listener(7);
        let first = map.assign(scope, name(1));
        let second = map.assign(scope, name(2));
        for number in 0..VirtualAddresses::PAIRS_MAX.get() - 1 {
            assert!(map.find(scope, first.into()).is_some());
            let other = listener.scope(Credentials::UserId(&number.to_be_bytes()));
            map.assign(other, name(1));
        }
        assert_eq!(map.find(scope, second.into()), None);
        assert_eq!(map.by_index.len(), VirtualAddresses::PAIRS_MAX.get());
        assert_eq!(map.by_name.len(), map.by_index.len());
        assert_ne!(map.assign(scope, name(2)), second);
    }

    #[test]
    fn the_range_wraps_without_giving_out_its_ends_or_a_held_address() {
        let (mut map, [scope, other]) = (map(), scopes());
        map.next = 0;
        assert_eq!(map.assign(scope, name(1)), Ipv4Addr::new(240, 192, 0, 1));
        map.next = V4_COUNT - 2;
        assert_eq!(map.assign(other, name(1)), Ipv4Addr::new(240, 192, 0, 2));
    }
}
