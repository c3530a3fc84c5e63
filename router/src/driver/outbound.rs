//! Links that leave through somebody else's proxy.
//!
//! Lives here: asking a SOCKS5 or HTTP proxy for a connection. Does not live here: the connection itself
//! (`conn.rs`), what goes over it.
//!
//! For networks in which nothing else gets out. The proxy learns the addresses of the routers that are
//! dialled, and when and how much is said; of what is said it learns nothing.

use std::{
    io::{self, Error, ErrorKind},
    net::{IpAddr, SocketAddr},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::config::{Outbound, OutboundKind};

/// Longest head of an HTTP proxy's answer.
const HEAD_MAX: usize = 8 * 1_024;

/// Asks the proxy at the other end of `stream` for a connection to `to`.
pub(super) async fn ask(
    outbound: Outbound,
    stream: &mut TcpStream,
    to: SocketAddr,
) -> io::Result<()> {
    match outbound.kind {
        OutboundKind::Socks5 => socks5(stream, to).await,
        OutboundKind::Http => http(stream, to).await,
    }
}

fn refused() -> Error {
    Error::new(ErrorKind::ConnectionRefused, "the proxy made no connection")
}

/// RFC 1928, without authentication: the address goes as an address, so nothing is looked up.
async fn socks5(stream: &mut TcpStream, to: SocketAddr) -> io::Result<()> {
    stream.write_all(&[5, 1, 0]).await?;
    let mut method = [0; 2];
    stream.read_exact(&mut method).await?;
    if method != [5, 0] {
        return Err(refused());
    }
    let mut request = vec![5, 1, 0];
    match to.ip() {
        IpAddr::V4(ip) => {
            request.push(1);
            request.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            request.push(4);
            request.extend(ip.octets());
        }
    }
    request.extend(to.port().to_be_bytes());
    stream.write_all(&request).await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    let [5, 0, _, kind] = answer else { return Err(refused()) };
    // Where the proxy is bound: of no interest, and as long as it says.
    let len = match kind {
        1 => 4,
        4 => 16,
        3 => usize::from(stream.read_u8().await?),
        _ => return Err(refused()),
    };
    let mut bound = vec![0; len + 2];
    stream.read_exact(&mut bound).await.map(|_| ())
}

/// CONNECT (RFC 9110, section 9.3.6). The head is read byte by byte: what follows it is the link's.
async fn http(stream: &mut TcpStream, to: SocketAddr) -> io::Result<()> {
    let request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD_MAX {
            return Err(refused());
        }
        head.push(stream.read_u8().await?);
    }
    let status = head.split(|byte| *byte == b' ').nth(1);
    let good = head.starts_with(b"HTTP/1.") && status.is_some_and(|it| it.starts_with(b"2"));
    if good { Ok(()) } else { Err(refused()) }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// What a proxy that answers `answers`, one after each read, makes of a request to `to`; and what it
    /// read.
    async fn asked(
        scheme: &str,
        to: &str,
        answers: &'static [&'static [u8]],
    ) -> (io::Result<u8>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let proxy = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut all, mut buffer) = (Vec::new(), [0; 512]);
            for answer in answers {
                let n = stream.read(&mut buffer).await.unwrap();
                all.extend_from_slice(&buffer[..n]);
                stream.write_all(answer).await.unwrap();
            }
            all
        });
        let outbound: Outbound = format!("{scheme}://{address}").parse().unwrap();
        let mut stream = TcpStream::connect(outbound.address).await.unwrap();
        let result = match ask(outbound, &mut stream, to.parse().unwrap()).await {
            // What follows is the link's: not one byte of it is lost.
            Ok(()) => stream.read_u8().await,
            Err(error) => Err(error),
        };
        drop(stream);
        (result, proxy.await.unwrap())
    }

    #[tokio::test]
    async fn socks5_is_asked_for_an_address_and_hands_over_the_first_byte() {
        let answers: &[&[u8]] = &[&[5, 0], &[5, 0, 0, 1, 10, 0, 0, 1, 0, 80, b'L']];
        let (result, read) = asked("socks5", "203.0.113.7:40001", answers).await;
        assert_eq!(result.unwrap(), b'L');
        assert_eq!(read, [5, 1, 0, 5, 1, 0, 1, 203, 0, 113, 7, 0x9c, 0x41]);
        let refusals: [&[&[u8]]; 3] = [&[&[5, 255]], &[&[4, 0]], &[&[5, 0], &[5, 5, 0, 1]]];
        for answers in refusals {
            assert!(asked("socks5", "[2001:db8::1]:443", answers).await.0.is_err());
        }
    }

    #[tokio::test]
    async fn http_is_asked_with_connect_and_hands_over_the_first_byte() {
        let answers: &[&[u8]] = &[b"HTTP/1.1 200 Fine\r\nVia: x\r\n\r\nL"];
        let (result, read) = asked("http", "[2001:db8::1]:443", answers).await;
        assert_eq!(result.unwrap(), b'L');
        assert!(read.starts_with(b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: "));
        for answer in [&b"HTTP/1.1 403 No\r\n\r\n"[..], b"SSH-2.0-200 200\r\n\r\n"] {
            let answers: &'static [&'static [u8]] = Box::leak(Box::new([answer]));
            assert!(asked("http", "203.0.113.7:443", answers).await.0.is_err());
        }
    }
}
