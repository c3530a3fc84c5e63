//! The proxy through which links leave, where nothing else gets out.
//!
//! Lives here: how it is written. Does not live here: asking it (`driver/outbound.rs`).

use std::{fmt, net::SocketAddr, str::FromStr};

/// A proxy, as `link.proxy` names it: `socks5://IP:PORT` or `http://IP:PORT`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Outbound {
    /// How it is asked.
    pub kind: OutboundKind,
    /// Where it listens.
    pub address: SocketAddr,
}

/// How a proxy is asked for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboundKind {
    /// SOCKS5 without authentication.
    Socks5,
    /// HTTP's CONNECT.
    Http,
}

/// Why it is no proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write socks5://ADDRESS:PORT or http://ADDRESS:PORT, with an IP address")]
pub struct OutboundError;

impl FromStr for Outbound {
    type Err = OutboundError;

    fn from_str(text: &str) -> Result<Self, OutboundError> {
        let (kind, rest) = match text.split_once("://") {
            Some(("socks5", rest)) => (OutboundKind::Socks5, rest),
            Some(("http", rest)) => (OutboundKind::Http, rest),
            _ => return Err(OutboundError),
        };
        let address = rest.trim_end_matches('/').parse().map_err(|_| OutboundError)?;
        Ok(Self { kind, address })
    }
}

/// Mute: it says where somebody is.
impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_has_one_of_two_kinds_and_an_address() {
        assert!("socks5://127.0.0.1:9050".parse::<Outbound>().is_ok());
        assert!("http://[::1]:3128/".parse::<Outbound>().is_ok());
        for text in
            ["", "127.0.0.1:9050", "socks4://127.0.0.1:1", "socks5://host:1", "http://1.2.3.4"]
        {
            assert_eq!(text.parse::<Outbound>(), Err(OutboundError), "{text}");
        }
    }
}
