//! Web servers to put behind a hidden service.
//!
//! Lives here: a small one with deterministic bodies, and python's. Does not live here: who asks.
//!
//! | request | answer |
//! |---------|--------|
//! | `GET /b/N` | N bytes of [`bytes`] |
//! | `GET /hold/MS/N` | the same after MS milliseconds |
//! | `POST /echo` | the body it was sent |
//! | `GET /stats` | `{"requests": n, "at_once": n, "at_once_max": n}` |
//! | anything else | 404 |

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crate::runner::wait_for;

/// Bytes `from..from + out.len()` of an endless sequence that no one can compress: `SplitMix64` over
/// the position, big-endian.
pub fn fill(from: u64, out: &mut [u8]) {
    for (at, byte) in (from..).zip(out.iter_mut()) {
        let mut z = (at / 8).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        *byte = z.to_be_bytes()[usize::try_from(at % 8).unwrap()];
    }
}

/// The first `n` bytes of the sequence.
pub fn bytes(n: usize) -> Vec<u8> {
    let mut out = vec![0; n];
    fill(0, &mut out);
    out
}

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicUsize,
    at_once: AtomicUsize,
    at_once_max: AtomicUsize,
}

/// The server. Its thread ends with the test program.
#[derive(Debug)]
pub struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    counts: Arc<Counts>,
}

impl Origin {
    /// Starts one on a free port of 127.0.0.1.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        thread::spawn(move || {
            // Made once: what a download costs the origin must not show in what it costs the routers.
            let body = Arc::new(bytes(8 << 20));
            for stream in listener.incoming().flatten() {
                let (counts, body) = (Arc::clone(&shared), Arc::clone(&body));
                let answer = move || {
                    let now = counts.at_once.fetch_add(1, Ordering::Relaxed) + 1;
                    counts.at_once_max.fetch_max(now, Ordering::Relaxed);
                    // A client that goes away is no concern of the server.
                    let _ = serve(stream, &counts, &body);
                    counts.at_once.fetch_sub(1, Ordering::Relaxed);
                };
                let _ = thread::Builder::new().stack_size(128 * 1_024).spawn(answer);
            }
        });
        Self { address, counts }
    }

    /// Requests answered so far.
    pub fn requests(&self) -> usize {
        self.counts.requests.load(Ordering::Relaxed)
    }

    /// Most connections there ever were at the same time.
    pub fn at_once_max(&self) -> usize {
        self.counts.at_once_max.load(Ordering::Relaxed)
    }
}

fn serve(stream: TcpStream, counts: &Counts, block: &[u8]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let number = |text: &str| text.parse::<u64>().ok();
    counts.requests.fetch_add(1, Ordering::Relaxed);
    let head = |status: &str, n: u64| {
        format!("HTTP/1.1 {status}\r\nContent-Length: {n}\r\nConnection: close\r\n\r\n")
            .into_bytes()
    };
    let wanted = match (method, parts.as_slice()) {
        ("GET" | "HEAD", ["b", n]) => number(n),
        ("GET", ["hold", ms, n]) => {
            thread::sleep(Duration::from_millis(number(ms).unwrap_or(0).min(60_000)));
            number(n)
        }
        ("GET", ["stats"]) => {
            let text = serde_json::json!({
                "requests": counts.requests.load(Ordering::Relaxed),
                "at_once": counts.at_once.load(Ordering::Relaxed),
                "at_once_max": counts.at_once_max.load(Ordering::Relaxed),
            })
            .to_string();
            out.write_all(&head("200 OK", text.len() as u64))?;
            return out.write_all(text.as_bytes());
        }
        ("POST", ["echo"]) => {
            out.write_all(&head("200 OK", length))?;
            std::io::copy(&mut reader.take(length), &mut out)?;
            return Ok(());
        }
        _ => None,
    };
    let Some(wanted) = wanted else { return out.write_all(&head("404 Not Found", 0)) };
    out.write_all(&head("200 OK", wanted))?;
    if method == "HEAD" {
        return Ok(());
    }
    let mut sent: u64 = 0;
    let mut piece = Vec::new();
    while sent < wanted {
        let left = usize::try_from(wanted - sent).unwrap_or(usize::MAX);
        if sent < block.len() as u64 {
            let ready = &block[usize::try_from(sent).unwrap()..];
            let n = ready.len().min(left);
            out.write_all(&ready[..n])?;
            sent += n as u64;
        } else {
            piece.resize(left.min(256 * 1_024), 0);
            fill(sent, &mut piece);
            out.write_all(&piece)?;
            sent += piece.len() as u64;
        }
    }
    Ok(())
}

/// Python's web server, as a person would start it; ended when dropped.
#[derive(Debug)]
pub struct Python {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
}

impl Python {
    /// Serves `dir` on a free port of 127.0.0.1.
    pub fn serve(dir: &Path) -> Self {
        // A port that was free a moment ago: http.server cannot tell which one it drew.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new("python3")
            .args(["-m", "http.server", "--protocol", "HTTP/1.1", "--bind", "127.0.0.1"])
            .arg("--directory")
            .arg(dir.join("."))
            .arg(address.port().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3");
        let server = Self { address, child };
        wait_for(Duration::from_secs(20), "python's web server", || {
            TcpStream::connect(address).ok()
        });
        server
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
