//! Fetching a page through a mixed port as a stranger would: SOCKS5, by name.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// How long one fetch may take.
const FETCH_LIMIT: Duration = Duration::from_mins(1);
/// Longest answer that is kept.
const ANSWER_MAX: u64 = 1 << 20;

/// What a fetch brought.
#[derive(Debug)]
pub(super) struct Fetched {
    /// Whether the answer's status is 200.
    pub(super) ok: bool,
    /// The body, after the head.
    pub(super) body: Vec<u8>,
    /// From connecting to the proxy to the first byte of the answer.
    pub(super) first_byte: Duration,
}

/// Fetches `path` of `host` (port 80) through the SOCKS5 side of `proxy`.
///
/// # Errors
/// When the proxy refuses, with its code; when the answer is no HTTP; after a minute.
pub(super) async fn fetch(proxy: SocketAddr, host: &str, path: &str) -> io::Result<Fetched> {
    tokio::time::timeout(FETCH_LIMIT, through(proxy, host, path))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// A stream to port 80 of `host`, through the SOCKS5 side of `proxy`.
///
/// # Errors
/// When the proxy refuses, with its code.
pub(super) async fn connect(proxy: SocketAddr, host: &str) -> io::Result<TcpStream> {
    let mut socket = TcpStream::connect(proxy).await?;
    socket.set_nodelay(true)?;
    socket.write_all(&[5, 1, 0]).await?;
    let mut method = [0; 2];
    socket.read_exact(&mut method).await?;
    let len = u8::try_from(host.len()).map_err(|_| io::Error::other("name too long"))?;
    let mut request = vec![5, 1, 0, 3, len];
    request.extend_from_slice(host.as_bytes());
    request.extend_from_slice(&80u16.to_be_bytes());
    socket.write_all(&request).await?;
    let mut reply = [0; 10];
    socket.read_exact(&mut reply).await?;
    let [_, code, ..] = reply;
    if code != 0 {
        return Err(io::Error::other(format!("the proxy answered {code:#04x}")));
    }
    Ok(socket)
}

#[expect(clippy::disallowed_methods, reason = "measuring what a person at this machine would see")]
async fn through(proxy: SocketAddr, host: &str, path: &str) -> io::Result<Fetched> {
    let start = Instant::now();
    let mut socket = connect(proxy, host).await?;
    let get = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    socket.write_all(get.as_bytes()).await?;
    let mut answer = Vec::new();
    socket.read_buf(&mut answer).await?;
    let first_byte = start.elapsed();
    socket.take(ANSWER_MAX).read_to_end(&mut answer).await?;
    let head = answer
        .windows(4)
        .position(|end| end == b"\r\n\r\n")
        .ok_or_else(|| io::Error::other("no whole answer"))?;
    let ok = answer.starts_with(b"HTTP/1.1 200") || answer.starts_with(b"HTTP/1.0 200");
    let body = answer.split_off(head + 4);
    Ok(Fetched { ok, body, first_byte })
}
