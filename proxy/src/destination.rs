//! Where a request wants to go, and whether that is a place of the overlay.
//!
//! Lives here: telling a service's name from everything else, and splitting `host:port`. Does not
//! live here: what a name means (`warren_overlay::service`), what a refusal looks like (`pages.rs`).
//!
//! A name outside the overlay and an IP literal are told apart from a mistyped name only so that
//! the words can help; all three are refused, none is ever resolved.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

use warren_overlay::service::{Name, NameError};

use crate::pages::Failure;

/// One port of one service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Destination {
    /// The service.
    pub name: Name,
    /// The service's port, 1 to 65,535.
    pub port: u16,
}

/// Mute: nobody logs where someone goes.
impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// Reads a name of the overlay, in any letter case and under either ending.
///
/// # Errors
/// [`Failure::BadName`] if it ends like a name of the overlay and is none; [`Failure::NotOverlay`]
/// for everything else.
pub(crate) fn overlay_name(host: &[u8]) -> Result<Name, Failure> {
    let text = str::from_utf8(host).map_err(|_| Failure::NotOverlay)?;
    text.parse().map_err(|error| match error {
        NameError::Foreign => Failure::NotOverlay,
        _ => Failure::BadName,
    })
}

/// The address that `host` spells out, if it is an IP literal (torsocks sends them as text).
pub(crate) fn ip_literal(host: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(host).ok()?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().map(|ip: IpAddr| ip.to_canonical())
}

/// The address in 16 network-order bytes; an IPv4 address inside one counts as IPv4.
pub(crate) fn ip_from_v6(octets: [u8; 16]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(octets)).to_canonical()
}

/// Splits `host` or `host:port`; the port is 1 to 65,535 in plain digits.
pub(crate) fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let host_end = authority.rfind(']').map_or(0, |at| at + 1);
    let Some(colon) = authority.get(host_end..)?.find(':').map(|at| at + host_end) else {
        return Some((authority, None));
    };
    let (host, port) = (authority.get(..colon)?, authority.get(colon + 1..)?);
    if port.is_empty() || port.len() > 5 || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let port: u16 = port.parse().ok()?;
    (port > 0 && !host.is_empty()).then_some((host, Some(port)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::name;

    #[test]
    fn both_suffixes_and_any_letter_case_mean_the_same_service() {
        let want = name(1);
        let label = want.to_string();
        let label = label.strip_suffix(".warren").unwrap();
        for host in [
            format!("{label}.warren"),
            format!("{label}.warren.alt"),
            format!("{}.Warren.ALT", label.to_uppercase()),
        ] {
            assert_eq!(overlay_name(host.as_bytes()), Ok(want));
        }
    }

    #[test]
    fn what_is_no_name_of_the_overlay_is_refused() {
        let label = "a".repeat(56);
        for host in [
            "example.com",
            "localhost",
            "warren",
            "x.warren.com",
            "",
            "127.0.0.1",
            "x.alt",
            "x.warren.",
        ] {
            assert_eq!(overlay_name(host.as_bytes()), Err(Failure::NotOverlay), "{host}");
        }
        assert_eq!(overlay_name(&[0xff; 60]), Err(Failure::NotOverlay));
        for host in ["x.warren", ".warren", "x.warren.alt", ".warren.alt"] {
            assert_eq!(overlay_name(host.as_bytes()), Err(Failure::BadName), "{host}");
        }
        let sub = format!("www.{label}.warren");
        assert_eq!(overlay_name(sub.as_bytes()), Err(Failure::BadName));
    }

    #[test]
    fn ports_are_plain_numbers_from_1() {
        assert_eq!(split_port("a:80"), Some(("a", Some(80))));
        assert_eq!(split_port("a"), Some(("a", None)));
        assert_eq!(split_port("[::1]:80"), Some(("[::1]", Some(80))));
        assert_eq!(split_port("[::1]"), Some(("[::1]", None)));
        for bad in ["a:", ":80", "a:0", "a:65536", "a:+80", "a:80:80", "a: 80", "a:000080"] {
            assert_eq!(split_port(bad), None, "{bad}");
        }
    }

    #[test]
    fn ip_literals_are_known_in_every_spelling() {
        for text in ["127.0.0.1", "::1", "[::1]", "::ffff:10.0.0.1"] {
            assert!(ip_literal(text.as_bytes()).is_some(), "{text}");
        }
        assert_eq!(ip_literal(b"::ffff:10.0.0.1"), ip_literal(b"10.0.0.1"));
        assert_eq!(ip_literal(b"example.com"), None);
    }
}
