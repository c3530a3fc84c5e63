//! A client of the mixed port that measures.
//!
//! Lives here: SOCKS5 by hand, plain HTTP over it, byte-for-byte comparison with what the origin
//! sends, the longest gap between bytes. Does not live here: clients that others wrote (`curl`).

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use crate::origin;

/// A read that brings nothing for so long has failed.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(90);

/// Whom to ask, through which port, in which isolation context.
#[derive(Clone, Debug)]
pub struct Via {
    /// The mixed port.
    pub proxy: SocketAddr,
    /// SOCKS user and password; none is a context too.
    pub user: Option<(String, String)>,
    /// The name asked for.
    pub host: String,
    /// Silence after which a read fails.
    pub patience: Duration,
}

impl Via {
    /// Through `proxy` to `host`, in the context of those who send no password.
    pub fn new(proxy: SocketAddr, host: &str) -> Self {
        Self { proxy, user: None, host: host.to_owned(), patience: SILENCE_LIMIT }
    }

    /// The same in the context of `password`.
    #[must_use]
    pub fn context(&self, password: &str) -> Self {
        Self { user: Some(("user".to_owned(), password.to_owned())), ..self.clone() }
    }

    /// The same, giving up after so much silence.
    #[must_use]
    pub fn patience(&self, patience: Duration) -> Self {
        Self { patience, ..self.clone() }
    }

    /// A stream to port 80 of the host.
    ///
    /// # Errors
    /// When the proxy refuses, with its code in the text.
    pub fn connect(&self) -> io::Result<TcpStream> {
        let mut socket = TcpStream::connect(self.proxy)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(self.patience))?;
        socket.set_write_timeout(Some(self.patience))?;
        match &self.user {
            None => socket.write_all(&[5, 1, 0])?,
            Some((user, password)) => {
                socket.write_all(&[5, 1, 2])?;
                let mut sub = vec![1];
                for text in [user, password] {
                    sub.push(u8::try_from(text.len()).map_err(io::Error::other)?);
                    sub.extend_from_slice(text.as_bytes());
                }
                socket.write_all(&sub)?;
            }
        }
        let mut method = [0; 2];
        socket.read_exact(&mut method)?;
        if self.user.is_some() {
            let mut verdict = [0; 2];
            socket.read_exact(&mut verdict)?;
            if verdict[1] != 0 {
                return Err(io::Error::other("password refused"));
            }
        }
        let mut request =
            vec![5, 1, 0, 3, u8::try_from(self.host.len()).map_err(io::Error::other)?];
        request.extend_from_slice(self.host.as_bytes());
        request.extend_from_slice(&80u16.to_be_bytes());
        socket.write_all(&request)?;
        let mut reply = [0; 10];
        socket.read_exact(&mut reply)?;
        match reply[1] {
            0 => Ok(socket),
            code => Err(io::Error::other(format!("the proxy answered {code:#04x}"))),
        }
    }

    /// Fetches `path`.
    ///
    /// # Errors
    /// When anything goes wrong on the way, or the answer ends early.
    pub fn get(&self, path: &str) -> io::Result<Answer> {
        let mut body = Vec::new();
        let (status, took) = self.stream(path, |piece| body.extend_from_slice(piece))?;
        Ok(Answer { status, body, took })
    }

    /// Fetches `/b/n` and compares every byte.
    ///
    /// # Errors
    /// When anything goes wrong, or one byte differs.
    pub fn verify(&self, n: u64) -> io::Result<Duration> {
        self.verify_path(&format!("/b/{n}"), n, |_| {})
    }

    /// Fetches `path`, whose answer are the first `n` bytes, and compares every byte; `progress`
    /// hears how many have come.
    ///
    /// # Errors
    /// When anything goes wrong, or one byte differs.
    pub fn verify_path(
        &self,
        path: &str,
        n: u64,
        mut progress: impl FnMut(u64),
    ) -> io::Result<Duration> {
        let mut at: u64 = 0;
        let mut wrong = None;
        let mut expected = Vec::new();
        let (status, took) = self.stream(path, |piece| {
            expected.resize(piece.len(), 0);
            origin::fill(at, &mut expected);
            if expected != piece && wrong.is_none() {
                wrong = Some(at);
            }
            at += piece.len() as u64;
            progress(at);
        })?;
        match (status, wrong) {
            (200, None) if at == n => Ok(took),
            (200, None) => Err(io::Error::other(format!("{at} bytes of {n}"))),
            (200, Some(at)) => Err(io::Error::other(format!("differs in the piece at byte {at}"))),
            (status, _) => Err(io::Error::other(format!("status {status}"))),
        }
    }

    fn stream(&self, path: &str, mut take: impl FnMut(&[u8])) -> io::Result<(u16, Duration)> {
        let start = Instant::now();
        let mut socket = self.connect()?;
        let host = &self.host;
        let get = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        socket.write_all(get.as_bytes())?;
        let mut head = Vec::new();
        let mut buffer = vec![0; 64 * 1_024];
        let body_at = loop {
            let n = socket.read(&mut buffer)?;
            if n == 0 {
                return Err(io::Error::other(format!(
                    "{} bytes of a head, then the end",
                    head.len()
                )));
            }
            head.extend_from_slice(&buffer[..n]);
            if let Some(end) = head.windows(4).position(|end| end == b"\r\n\r\n") {
                break end + 4;
            }
            if head.len() > 64 * 1_024 {
                return Err(io::Error::other("no end of the head"));
            }
        };
        let rest = head.split_off(body_at);
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let length: Option<u64> = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .and_then(|value| value.trim().parse().ok());
        let mut got = rest.len() as u64;
        if !rest.is_empty() {
            take(&rest);
        }
        while length.is_none_or(|length| got < length) {
            let n = socket.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            got += n as u64;
            take(&buffer[..n]);
        }
        match length {
            Some(length) if got != length => {
                Err(io::Error::other(format!("{got} bytes of {length}, then the end")))
            }
            _ => Ok((status, start.elapsed())),
        }
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
    /// From connecting to the proxy to the last byte.
    pub took: Duration,
}

/// One plain HTTP GET without any proxy: status and body.
///
/// # Errors
/// When the server does not answer within five seconds.
pub fn http_get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let limit = Duration::from_secs(5);
    let mut socket = TcpStream::connect_timeout(&address, limit)?;
    socket.set_read_timeout(Some(limit))?;
    socket.write_all(
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut text = Vec::new();
    socket.read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Ok((status, body.to_owned()))
}

/// Says `request` to a server and returns everything it answers until it closes.
pub fn exchange(address: SocketAddr, request: &str) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = socket.read_to_string(&mut answer);
    answer
}
