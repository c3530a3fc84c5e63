//! NAT-PMP: asking the router of a line to forward a port (RFC 6886).
//!
//! Lives here: the bytes of its questions and answers, and one exchange with its patience. Does not live
//! here: when to ask (`mapping.rs`).
//!
//! | question | bytes |
//! |----------|-------|
//! | which address is outside? | version 0, 0 |
//! | forward a TCP port | version 0, 2, reserved 2, port inside 2, port outside wished 2, seconds 4 |
//!
//! | answer | bytes |
//! |--------|-------|
//! | the address | version 0, 128, result 2, epoch 4, IPv4 4 |
//! | the port | version 0, 130, result 2, epoch 4, port inside 2, port outside 2, seconds 4 |
//!
//! All integers are big-endian; result 0 is success. Zero seconds, and port 0 outside, end a forwarding.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{net::UdpSocket, time::timeout};
use warren_overlay::wire::{Reader, WireError, Writer};

/// Where gateways listen.
pub(super) const PORT: u16 = 5_351;
/// First patience; doubles with each try (RFC 6886, section 3.1).
const PATIENCE: Duration = Duration::from_millis(250);
/// Tries: 3.75 s in all. With the RFC's nine nobody would know for two minutes that there is no answer.
const TRIES: u32 = 4;
/// Longest answer there is.
const ANSWER_MAX: usize = 64;
/// How long a forwarding is asked for, in seconds.
pub(super) const LIFETIME_S: u32 = 3_600;

/// What the gateway forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Forwarded {
    /// The port outside.
    pub(super) port: u16,
    /// For so long, in seconds.
    pub(super) seconds: u32,
}

fn ask_address() -> [u8; 2] {
    [0, 0]
}

fn ask_port(inside: u16, outside: u16, seconds: u32) -> Vec<u8> {
    let mut w = Writer::default();
    w.u8(0).u8(2).u16(0).u16(inside).u16(outside).u32(seconds);
    w.into_bytes()
}

/// Any result but success.
const REFUSES: WireError = WireError::Bad("result: the gateway refuses");

/// What comes first in every answer.
fn head(r: &mut Reader<'_>, opcode: u8) -> Result<(), WireError> {
    if r.u8("version")? != 0 || r.u8("opcode")? != 128 + opcode {
        return Err(WireError::Bad("answer to another question"));
    }
    if r.u16("result")? != 0 {
        return Err(REFUSES);
    }
    r.u32("epoch").map(|_| ())
}

fn read_address(bytes: &[u8]) -> Result<Ipv4Addr, WireError> {
    let mut r = Reader::new(bytes);
    head(&mut r, 0)?;
    let ip = r.array::<4>("address")?;
    r.finish().map(|()| ip.into())
}

fn read_port(bytes: &[u8], inside: u16) -> Result<Forwarded, WireError> {
    let mut r = Reader::new(bytes);
    head(&mut r, 2)?;
    if r.u16("port inside")? != inside {
        return Err(WireError::Bad("port inside"));
    }
    let forwarded = Forwarded { port: r.u16("port outside")?, seconds: r.u32("seconds")? };
    r.finish().map(|()| forwarded)
}

/// Asks `gateway` until it answers or has been asked often enough.
async fn exchange<T>(
    gateway: SocketAddr,
    question: &[u8],
    read: impl Fn(&[u8]) -> Result<T, WireError>,
) -> io::Result<T> {
    let any = if gateway.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await?;
    // Connected: what others send does not come through.
    socket.connect(gateway).await?;
    let mut buffer = [0; ANSWER_MAX];
    for n in 0..TRIES {
        socket.send(question).await?;
        match timeout(PATIENCE * (1 << n), socket.recv(&mut buffer)).await {
            Ok(Ok(len)) => {
                let answer = buffer.get(..len).unwrap_or_default();
                return read(answer).map_err(|error| {
                    let refuses = error == REFUSES;
                    let kind =
                        if refuses { ErrorKind::PermissionDenied } else { ErrorKind::InvalidData };
                    io::Error::new(kind, error)
                });
            }
            // Nobody listens there: it will not be otherwise in a second.
            Ok(Err(error)) => return Err(error),
            Err(_) => {}
        }
    }
    Err(ErrorKind::TimedOut.into())
}

/// The address at which the line is outside.
pub(super) async fn address(gateway: SocketAddr) -> io::Result<Ipv4Addr> {
    exchange(gateway, &ask_address(), read_address).await
}

/// Has `outside` forwarded to the port `inside` of this machine, or another port that the gateway has free;
/// with [`LIFETIME_S`] for as long as it grants.
pub(super) async fn forward(
    gateway: SocketAddr,
    inside: u16,
    outside: u16,
) -> io::Result<Forwarded> {
    let question = ask_port(inside, outside, LIFETIME_S);
    exchange(gateway, &question, |answer| read_port(answer, inside)).await
}

/// Ends that.
pub(super) async fn end(gateway: SocketAddr, inside: u16) -> io::Result<()> {
    exchange(gateway, &ask_port(inside, 0, 0), |answer| read_port(answer, inside)).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_have_the_bytes_of_the_rfc() {
        assert_eq!(ask_address(), [0, 0]);
        let forward = [0, 2, 0, 0, 0x9c, 0x41, 0x9c, 0x42, 0, 0, 0x0e, 0x10];
        assert_eq!(ask_port(40_001, 40_002, 3_600), forward);
        assert_eq!(ask_port(40_001, 0, 0), [0, 2, 0, 0, 0x9c, 0x41, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn answers_are_read_whole_or_refused() {
        let address = [0, 128, 0, 0, 0, 0, 1, 0, 203, 0, 113, 7];
        assert_eq!(read_address(&address), Ok([203, 0, 113, 7].into()));
        let port = [0, 130, 0, 0, 0, 0, 1, 0, 0x9c, 0x41, 0x9c, 0x42, 0, 0, 0x0e, 0x10];
        let forwarded = Forwarded { port: 40_002, seconds: 3_600 };
        assert_eq!(read_port(&port, 40_001), Ok(forwarded));
        assert!(read_port(&port, 40_000).is_err(), "another port's");
        assert!(read_address(&port).is_err() && read_port(&address, 40_001).is_err());
        for (at, wrong) in [(0, 1), (1, 129), (3, 2)] {
            let mut bytes = port;
            bytes[at] = wrong;
            assert!(read_port(&bytes, 40_001).is_err(), "byte {at}");
        }
        for len in 0..port.len() {
            assert!(read_port(&port[..len], 40_001).is_err(), "{len} bytes");
        }
        assert!(read_port(&[&port[..], &[0]].concat(), 40_001).is_err());
    }
}
