//! How to reach a router: addresses and contacts.
//!
//! Lives here: the 19-byte address, the 87-byte contact, and which addresses may be dialled on
//! behalf of others (PROTOCOL P3). Does not live here: dial budgets (router's link registry).

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::{Reader, WireError, Writer};
use crate::{id::RouterId, time::Wall};

/// A transport address. Prints as `_`: where somebody is goes into no log.
///
/// | bytes | field |
/// |-------|-------|
/// | 1     | family: 4 or 6 |
/// | 16    | IP address; IPv4 in the first 4 bytes, the rest zero |
/// | 2     | TCP port, not zero |
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// So that addresses are in the order of families, and of numbers within them.
    v6: bool,
    /// IPv4 in the first 4 bytes, the rest zero. As bytes: a `SocketAddr` takes half as much again.
    ip: [u8; 16],
    port: u16,
}

impl Address {
    /// Encoded length in bytes.
    pub const LEN: usize = 19;

    /// Reads an address; IPv4-mapped IPv6 is refused, since it would be a second spelling.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let family = r.u8("address family")?;
        let ip: [u8; 16] = r.array("address ip")?;
        let port = r.u16("address port")?;
        let ip = match (family, ip) {
            (4, [a, b, c, d, rest @ ..]) if rest == [0; 12] => {
                IpAddr::V4(Ipv4Addr::new(a, b, c, d))
            }
            (6, ip) if Ipv6Addr::from(ip).to_ipv4_mapped().is_none() => IpAddr::V6(ip.into()),
            _ => return Err(WireError::Bad("address")),
        };
        if port == 0 {
            return Err(WireError::Bad("address port"));
        }
        Ok(SocketAddr::new(ip, port).into())
    }

    /// Appends the 19 bytes.
    pub fn encode(&self, w: &mut Writer) {
        w.u8(if self.v6 { 6 } else { 4 }).bytes(&self.ip).u16(self.port);
    }

    /// The socket address to dial.
    pub const fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.ip(), self.port)
    }

    const fn ip(&self) -> IpAddr {
        if self.v6 {
            return IpAddr::V6(Ipv6Addr::from_octets(self.ip));
        }
        let [a, b, c, d, ..] = self.ip;
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    }

    /// The network prefix that stands for "the same place": /16 for IPv4, /32 for IPv6.
    ///
    /// No two hops of a tunnel share one (DESIGN section 6).
    pub fn prefix(&self) -> Prefix {
        let [a, b, c, d, ..] = self.ip;
        Prefix(if self.v6 { [6, a, b, c, d] } else { [4, a, b, 0, 0] })
    }

    /// Whether anyone on the internet could be behind it, on a port that a router may use.
    ///
    /// Loopback, private, link-local, multicast, documentation and reserved ranges are not, nor is
    /// any port below 1024 but 443 (PROTOCOL P3).
    pub fn globally_routable(&self) -> bool {
        (self.port >= 1024 || self.port == 443)
            && match self.ip() {
                IpAddr::V4(ip) => global_v4(ip),
                IpAddr::V6(ip) => global_v6(ip),
            }
    }

    /// Whether this router may dial it when somebody else named it.
    ///
    /// In a `local` network loopback addresses are where everybody lives (PROTOCOL P3); ports keep
    /// the rule.
    pub fn dialable(&self, local_network: bool) -> bool {
        self.globally_routable() || local_network && self.port >= 1024 && !self.ip().is_multicast()
    }
}

fn global_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let protocol = a == 192 && b == 0 && c == 0;
    let benchmark = a == 198 && (b == 18 || b == 19);
    !(a == 0
        || a >= 224
        || ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || ip.is_documentation()
        || shared
        || protocol
        || benchmark)
}

fn global_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    let unicast = (a & 0xe000) == 0x2000; // 2000::/3, all that IANA has allotted
    let documentation = a == 0x2001 && b == 0x0db8 || (a & 0xfff0) == 0x3ff0;
    let translated = a == 0x2002 || a == 0x2001 && b == 0; // 6to4 and Teredo embed IPv4
    unicast && !documentation && !translated
}

impl From<SocketAddr> for Address {
    fn from(socket: SocketAddr) -> Self {
        let mut bytes = [0; 16];
        let canonical = socket.ip().to_canonical();
        match canonical {
            IpAddr::V4(ip) => bytes[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => bytes = ip.octets(),
        }
        Self { v6: canonical.is_ipv6(), ip: bytes, port: socket.port() }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// A /16 of IPv4 or a /32 of IPv6.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix([u8; 5]);

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// What is needed to dial a router.
///
/// | bytes | field |
/// |-------|-------|
/// | 32    | identity |
/// | 32    | link key, X25519 |
/// | 19    | address |
/// | 4     | expiry, minutes since the Unix epoch |
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Contact {
    /// Who should answer.
    pub id: RouterId,
    /// The key it proves in the handshake.
    pub link_key: [u8; 32],
    /// Where it listens.
    pub address: Address,
    /// When this stops being true.
    pub expiry: Wall,
}

impl Contact {
    /// Encoded length in bytes.
    pub const LEN: usize = 87;

    /// Reads a contact.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            id: RouterId(r.array("contact identity")?),
            link_key: r.array("contact link key")?,
            address: Address::decode(r)?,
            expiry: Wall::from_minutes(r.u32("contact expiry")?),
        })
    }

    /// Appends the 87 bytes.
    pub fn encode(&self, w: &mut Writer) {
        w.bytes(self.id.as_bytes()).bytes(&self.link_key);
        self.address.encode(w);
        w.u32(self.expiry.minutes());
    }
}

/// Mute: it says who and where.
impl fmt::Debug for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(bytes: &[u8]) -> Result<Address, WireError> {
        let mut r = Reader::new(bytes);
        let address = Address::decode(&mut r)?;
        r.finish().map(|()| address)
    }

    fn encoded(address: &Address) -> Vec<u8> {
        let mut w = Writer::default();
        address.encode(&mut w);
        w.into_bytes()
    }

    prop_compose! {
        fn any_address()(v4: bool, ip: [u8; 16], port in 1u16..) -> Address {
            let [a, b, c, d, ..] = ip;
            let ip = if v4 { IpAddr::from([a, b, c, d]) } else { IpAddr::from(ip) };
            SocketAddr::new(ip, port).into()
        }
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(address in any_address()) {
            prop_assert_eq!(decoded(&encoded(&address)), Ok(address));
        }

        #[test]
        fn no_two_byte_strings_mean_the_same_address(
            address in any_address(), at in 0usize..19, with: u8,
        ) {
            let mut bytes = encoded(&address);
            bytes[at] = with;
            if let Ok(other) = decoded(&bytes) {
                prop_assert_eq!(encoded(&other), bytes);
            }
        }
    }

    fn dialable(text: &str, local: bool) -> bool {
        Address::from(text.parse::<SocketAddr>().unwrap()).dialable(local)
    }

    #[test]
    fn only_global_addresses_on_high_ports_or_443_are_dialled_for_others() {
        for good in ["8.8.8.8:9000", "8.8.8.8:443", "[2a00::1]:2000"] {
            assert!(dialable(good, false), "{good}");
        }
        for bad in [
            "8.8.8.8:80",
            "8.8.8.8:22",
            "127.0.0.1:9000",
            "10.0.0.1:9000",
            "192.168.1.1:9000",
            "172.16.0.1:9000",
            "169.254.169.254:9000",
            "100.64.0.1:9000",
            "224.0.0.1:9000",
            "0.0.0.0:9000",
            "255.255.255.255:9000",
            "192.0.2.1:9000",
            "198.18.0.1:9000",
            "[::1]:9000",
            "[fe80::1]:9000",
            "[fc00::1]:9000",
            "[ff02::1]:9000",
            "[2002:7f00:1::]:9000",
            "[2001:db8::1]:9000",
            "[::ffff:127.0.0.1]:9000",
        ] {
            assert!(!dialable(bad, false), "{bad}");
        }
        assert!(dialable("127.3.0.1:9000", true));
        assert!(!dialable("127.3.0.1:80", true));
    }
}
