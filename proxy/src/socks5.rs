//! SOCKS5: choosing a method, reading the request, the replies.
//!
//! Lives here: the bytes of RFC 1928 and RFC 1929, with Tor's `RESOLVE` and `RESOLVE_PTR` (Tor's
//! socks-extensions). Does not live here: what becomes of a request (`mixed.rs`), the reply codes of
//! failures (`pages.rs`).
//!
//! | message  | bytes |
//! |----------|-------|
//! | methods  | 5, count 1, method 1 each |
//! | -> pick  | 5, method: 2 if offered, else 0, else 255 and the end |
//! | password | 1, length 1, user, length 1, password (only after method 2) |
//! | -> taken | 1, 0: any value is accepted, it only keeps contexts apart |
//! | request  | 5, command 1, 0, address kind 1, address, port 2 |
//! | -> reply | 5, code 1, 0, address kind 1, address, port 2 |
//!
//! Address kinds: 1 IPv4 (4), 3 name (length 1, name), 4 IPv6 (16).

use std::net::{IpAddr, Ipv4Addr};

use crate::destination::{ip_from_v6, ip_literal};

/// No authentication.
const METHOD_NONE: u8 = 0;
/// User name and password (RFC 1929).
const METHOD_PASSWORD: u8 = 2;
/// None of the methods offered is taken.
const METHOD_REFUSED: u8 = 0xFF;

/// Which message comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Methods,
    Password,
    Request,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// A byte stream.
    Connect,
    /// The address that stands for a name (Tor, 0xF0).
    Resolve,
    /// The name that an address stands for (Tor, 0xF1).
    ResolvePtr,
    /// BIND, UDP ASSOCIATE and what nobody knows.
    Other,
}

/// To where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target<'a> {
    /// By name.
    Name(&'a [u8]),
    /// By IP literal, in bytes or, as torsocks does it, as text.
    Ip(IpAddr),
}

/// What the bytes so far amount to; `took` bytes of them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed<'a> {
    /// Not complete.
    More,
    /// The methods offered; answer with `reply` and go on with `next`, or end if there is none.
    Methods { took: usize, reply: [u8; 2], next: Option<Stage> },
    /// Credentials.
    Password { took: usize, user: &'a [u8], password: &'a [u8] },
    /// The request.
    Request { took: usize, command: Command, target: Target<'a>, port: u16 },
    /// An address kind that does not exist.
    BadAddress,
    /// No SOCKS5.
    Bad,
}

/// Reads the message of `stage`.
pub(crate) fn parse(stage: Stage, buffer: &[u8]) -> Parsed<'_> {
    match stage {
        Stage::Methods => methods(buffer),
        Stage::Password => password(buffer),
        Stage::Request => request(buffer),
    }
    .unwrap_or(Parsed::More)
}

/// `None` here and below: not complete.
fn methods(buffer: &[u8]) -> Option<Parsed<'_>> {
    let [5, count, rest @ ..] = buffer else { return bad_unless_prefix(buffer, 5) };
    let (offered, rest) = rest.split_at_checked(usize::from(*count))?;
    let (method, next) = if offered.contains(&METHOD_PASSWORD) {
        (METHOD_PASSWORD, Some(Stage::Password))
    } else if offered.contains(&METHOD_NONE) {
        (METHOD_NONE, Some(Stage::Request))
    } else {
        (METHOD_REFUSED, None)
    };
    Some(Parsed::Methods { took: buffer.len() - rest.len(), reply: [5, method], next })
}

fn password(buffer: &[u8]) -> Option<Parsed<'_>> {
    let [1, length, rest @ ..] = buffer else { return bad_unless_prefix(buffer, 1) };
    let (user, rest) = rest.split_at_checked(usize::from(*length))?;
    let (&length, rest) = rest.split_first()?;
    let (password, rest) = rest.split_at_checked(usize::from(length))?;
    Some(Parsed::Password { took: buffer.len() - rest.len(), user, password })
}

fn request(buffer: &[u8]) -> Option<Parsed<'_>> {
    let [5, command, _, kind, rest @ ..] = buffer else { return bad_unless_prefix(buffer, 5) };
    let command = match command {
        1 => Command::Connect,
        0xF0 => Command::Resolve,
        0xF1 => Command::ResolvePtr,
        _ => Command::Other,
    };
    let (target, rest) = match kind {
        1 => {
            let (&octets, rest) = rest.split_first_chunk::<4>()?;
            (Target::Ip(Ipv4Addr::from(octets).into()), rest)
        }
        3 => {
            let (&length, rest) = rest.split_first()?;
            let (name, rest) = rest.split_at_checked(usize::from(length))?;
            (ip_literal(name).map_or(Target::Name(name), Target::Ip), rest)
        }
        4 => {
            let (&octets, rest) = rest.split_first_chunk::<16>()?;
            (Target::Ip(ip_from_v6(octets)), rest)
        }
        _ => return Some(Parsed::BadAddress),
    };
    let (&port, rest) = rest.split_first_chunk::<2>()?;
    let took = buffer.len() - rest.len();
    Some(Parsed::Request { took, command, target, port: u16::from_be_bytes(port) })
}

/// A message too short to judge goes on waiting, unless its first byte is wrong already.
fn bad_unless_prefix(buffer: &[u8], version: u8) -> Option<Parsed<'_>> {
    buffer.first().is_some_and(|&first| first != version).then_some(Parsed::Bad)
}

/// A reply that carries no address: success of CONNECT (0) or a failure's code.
pub(crate) fn reply(code: u8) -> Vec<u8> {
    vec![5, code, 0, 1, 0, 0, 0, 0, 0, 0]
}

/// The answer to RESOLVE.
pub(crate) fn resolved(address: Ipv4Addr) -> Vec<u8> {
    let [a, b, c, d] = address.octets();
    vec![5, 0, 0, 1, a, b, c, d, 0, 0]
}

/// The answer to `RESOLVE_PTR`; the name has 63 characters.
pub(crate) fn resolved_name(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
    let mut reply = vec![5, 0, 0, 3, length];
    reply.extend(name.bytes().take(usize::from(length)));
    reply.extend([0, 0]);
    reply
}

/// The answer to credentials: taken.
pub(crate) const PASSWORD_TAKEN: [u8; 2] = [1, 0];
/// The answer to credentials that are no RFC 1929: refused, and the end.
pub(crate) const PASSWORD_REFUSED: [u8; 2] = [1, 1];
