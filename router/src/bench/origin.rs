//! A web server to stand behind a service that is measured, and what fetches from it.
//!
//! Lives here: bodies that nothing can compress, their check at the other end, and pacing. Does not
//! live here: when what is fetched and what is made of the times (`path.rs`, `far.rs`).
//!
//! `GET /bytes/N` answers N bytes, `GET /bytes/N/R` the same at R bytes a second: byte `i` of each
//! body is byte `i mod 2^20` of a fixed random MiB.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use warren_overlay::rng::Rng;

use super::actors::Clock;

/// Bytes after which bodies repeat.
const PATTERN_LEN: usize = 1 << 20;
/// Bytes per read and write.
const PIECE_LEN: usize = 256 * 1_024;
/// A paced body goes out in pieces of so much time.
const PACE: Duration = Duration::from_millis(2);
/// Longest head of a request or answer.
const HEAD_MAX: usize = 4_096;
/// How long a fetch may take until its first byte.
const FIRST_BYTE_LIMIT: Duration = Duration::from_mins(1);
/// How often a reader looks whether it should stop.
const STOP_LOOK: Duration = Duration::from_millis(200);
/// A body without an end.
const ENDLESS: u64 = 1 << 50;

fn pattern() -> Arc<[u8]> {
    let mut rng = Rng::from_seed([1; 32]);
    let mut bytes = Vec::with_capacity(PATTERN_LEN);
    while bytes.len() < PATTERN_LEN {
        bytes.extend_from_slice(&rng.bytes::<1_024>());
    }
    bytes.into()
}

/// The piece of a body that begins at `offset`: at most to where the pattern repeats.
fn piece(pattern: &[u8], offset: u64, most: usize) -> &[u8] {
    let at = usize::try_from(offset % PATTERN_LEN as u64).unwrap_or(0);
    let end = (at + most.min(PIECE_LEN)).min(pattern.len());
    pattern.get(at..end).unwrap_or_default()
}

/// Serves on `listener`, a thread for each connection, until the process ends.
pub(super) fn serve(listener: TcpListener) {
    let pattern = pattern();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let pattern = Arc::clone(&pattern);
            // Whoever hangs up has seen enough.
            thread::spawn(move || answer(stream, &pattern));
        }
    });
}

fn answer(mut stream: TcpStream, pattern: &[u8]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (head, _) = read_head(&mut stream)?;
    let path = head.split(' ').nth(1).unwrap_or_default();
    let mut numbers = path.split('/').skip(2).map(str::parse::<u64>);
    let (Some(Ok(len)), rate) = (numbers.next(), numbers.next()) else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let clock = Clock::start();
    let mut sent = 0;
    while sent < len {
        let due = match rate {
            Some(Ok(rate)) => {
                let micros = u64::try_from(clock.elapsed().as_micros()).unwrap_or(u64::MAX);
                (u128::from(rate) * u128::from(micros) / 1_000_000).min(len.into())
            }
            _ => len.into(),
        };
        let due = u64::try_from(due).unwrap_or(len).saturating_sub(sent);
        let bytes = piece(pattern, sent, usize::try_from(due).unwrap_or(usize::MAX));
        stream.write_all(bytes)?;
        sent += bytes.len() as u64;
        // What became due while that was written waits for the next piece: a byte at a time would take a
        // whole core.
        if bytes.len() as u64 == due {
            thread::sleep(PACE);
        }
    }
    Ok(())
}

/// Everything up to an empty line, and what came after it.
fn read_head(stream: &mut TcpStream) -> io::Result<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; HEAD_MAX];
    loop {
        let n = stream.read(&mut buffer)?;
        bytes.extend_from_slice(buffer.get(..n).unwrap_or_default());
        if let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            let body = bytes.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), body));
        }
        if n == 0 || bytes.len() > HEAD_MAX {
            return Err(io::Error::new(ErrorKind::InvalidData, "no HTTP head"));
        }
    }
}

/// Where to fetch from: a service behind a SOCKS5 proxy.
#[derive(Clone, Debug)]
pub(super) struct Target {
    proxy: SocketAddr,
    host: String,
    pattern: Arc<[u8]>,
}

impl Target {
    /// The service `host`, whose target is [`serve`].
    pub(super) fn new(proxy: SocketAddr, host: String) -> Self {
        Self { proxy, host, pattern: pattern() }
    }

    /// Opens a new stream and asks; the connection, and the first bytes of the body.
    fn ask(&self, path: &str) -> io::Result<(TcpStream, Vec<u8>)> {
        let mut stream = TcpStream::connect(self.proxy)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(FIRST_BYTE_LIMIT))?;
        stream.write_all(&[5, 1, 0])?;
        let mut method = [0; 2];
        stream.read_exact(&mut method)?;
        let len = u8::try_from(self.host.len()).map_err(|_| io::Error::other("name too long"))?;
        let mut request = vec![5, 1, 0, 3, len];
        request.extend_from_slice(self.host.as_bytes());
        request.extend_from_slice(&80u16.to_be_bytes());
        stream.write_all(&request)?;
        let mut reply = [0; 4];
        stream.read_exact(&mut reply)?;
        let [_, code, _, kind] = reply;
        if code != 0 {
            return Err(io::Error::other(format!("the proxy answered {code:#04x}")));
        }
        let mut bound = vec![0; if kind == 4 { 18 } else { 6 }];
        stream.read_exact(&mut bound)?;
        let host = &self.host;
        let get = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(get.as_bytes())?;
        let (head, body) = read_head(&mut stream)?;
        if !head.starts_with("HTTP/1.1 200") {
            return Err(io::Error::other("the answer is not the server's"));
        }
        Ok((stream, body))
    }

    fn check(&self, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let expected = piece(&self.pattern, offset, bytes.len());
            let Some(rest) = bytes.strip_prefix(expected) else {
                return Err(io::Error::other("the body is not what was sent"));
            };
            offset += expected.len() as u64;
            bytes = rest;
        }
        Ok(())
    }

    /// Fetches 1 KiB over a new stream, from connecting to the proxy on: the time until the first
    /// byte of the answer.
    ///
    /// # Errors
    /// When it does not come within a minute, or is not what was sent.
    pub(super) fn first_byte(&self) -> io::Result<Duration> {
        let clock = Clock::start();
        let (mut stream, mut body) = self.ask("/bytes/1024")?;
        let time = clock.elapsed();
        stream.read_to_end(&mut body)?;
        self.check(0, &body)?;
        if body.len() == 1_024 { Ok(time) } else { Err(ErrorKind::UnexpectedEof.into()) }
    }
}

/// Downloads in the background, each a stream of its own.
#[derive(Debug)]
pub(super) struct Bulk {
    stop: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Bulk {
    /// Starts `streams` downloads without an end; at `rate` bytes a second all together, if that is
    /// said.
    pub(super) fn start(target: &Target, streams: u32, rate: Option<u64>) -> Self {
        let (stop, bytes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let path = match rate {
            Some(rate) => format!("/bytes/{ENDLESS}/{}", rate / u64::from(streams.max(1))),
            None => format!("/bytes/{ENDLESS}"),
        };
        let threads = (0..streams).map(|_| {
            let (target, path) = (target.clone(), path.clone());
            let (stop, bytes) = (Arc::clone(&stop), Arc::clone(&bytes));
            thread::spawn(move || download(&target, &path, &stop, &bytes))
        });
        let threads = threads.collect();
        Self { stop, bytes, threads }
    }

    /// Bytes that have come so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Ends them all.
    ///
    /// # Errors
    /// When one of them broke, or brought what was not sent.
    pub(super) fn stop(self) -> io::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap_or_else(|_| Err(io::Error::other("a download stopped")))?;
        }
        Ok(())
    }
}

fn download(target: &Target, path: &str, stop: &AtomicBool, bytes: &AtomicU64) -> io::Result<()> {
    let (mut stream, body) = target.ask(path)?;
    stream.set_read_timeout(Some(STOP_LOOK))?;
    target.check(0, &body)?;
    let mut offset = body.len() as u64;
    let mut buffer = vec![0; PIECE_LEN];
    while !stop.load(Ordering::Relaxed) {
        let n = match stream.read(&mut buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => n,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                continue;
            }
            Err(error) => return Err(error),
        };
        target.check(offset, buffer.get(..n).unwrap_or_default())?;
        offset += n as u64;
        bytes.fetch_add(n as u64, Ordering::Relaxed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_served_is_recognised_and_nothing_else_is() {
        let target = Target::new(([127, 0, 0, 1], 1).into(), String::new());
        let near_the_end = PATTERN_LEN as u64 - 100;
        let whole: Vec<u8> = (near_the_end..near_the_end + 300)
            .flat_map(|at| piece(&target.pattern, at, 1).to_vec())
            .collect();
        assert!(target.check(near_the_end, &whole).is_ok());
        assert!(target.check(near_the_end + 1, &whole).is_err());
        let mut changed = whole;
        changed[250] ^= 1;
        assert!(target.check(near_the_end, &changed).is_err());
    }
}
