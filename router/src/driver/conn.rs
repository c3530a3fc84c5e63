//! One TCP connection to another router.
//!
//! Lives here: reading and writing without copying more than once, and waking the router's task
//! when a full socket has room again. Does not live here: what the bytes mean (`overlay::link`).
//!
//! A reader task turns what arrives into events of up to 64 KiB; the bounded event queue is the
//! back-pressure. Writing happens in the router's own task, which asks the link for frames only
//! when the socket takes them, so that the link's scheduler decides as late as possible.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::Instant,
};
use warren_overlay::id::LinkNo;

use super::Event;

/// Bytes per read: four full frames.
const READ_LEN: usize = 64 * 1_024;
/// Unsent bytes the kernel keeps before it calls the socket full (DESIGN section 4).
const NOTSENT_LOWAT: u32 = 64 * 1_024;
/// How long the kernel may try to connect.
const CONNECT_LIMIT: Duration = Duration::from_secs(8);

/// Empty buffers kept for the next reads, 1 MiB; more are on their way only while the task is busy.
const SPARE_MAX: usize = 16;

/// Buffers for reads, used again and again.
#[derive(Clone, Debug, Default)]
pub(super) struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl Buffers {
    fn take(&self) -> Vec<u8> {
        let spare = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        spare.unwrap_or_else(|| Vec::with_capacity(READ_LEN))
    }

    /// What was in it has been handled.
    pub(super) fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE_MAX {
            spare.push(buffer);
        }
    }
}

/// The router task's half of a connection. Dropping it closes the socket.
#[derive(Debug)]
pub(super) struct Conn {
    stream: Arc<TcpStream>,
    full: Arc<Notify>,
    /// Frames the socket did not take yet.
    pending: Vec<u8>,
    sent: usize,
    blocked: bool,
    tasks: [JoinHandle<()>; 2],
}

impl Conn {
    /// Starts reading from `stream`.
    pub(super) fn start(
        link: LinkNo,
        stream: TcpStream,
        events: mpsc::Sender<Event>,
        buffers: Buffers,
    ) -> Self {
        tune(&stream);
        let stream = Arc::new(stream);
        let full = Arc::new(Notify::new());
        let reader = tokio::spawn(read(link, Arc::clone(&stream), events.clone(), buffers));
        let waker = tokio::spawn(wake(link, Arc::clone(&stream), Arc::clone(&full), events));
        Self { stream, full, pending: Vec::new(), sent: 0, blocked: false, tasks: [reader, waker] }
    }

    /// Writes frames from `next` until it has none or the socket is full.
    ///
    /// # Errors
    /// When the socket is broken.
    pub(super) fn flush(&mut self, mut next: impl FnMut(&mut Vec<u8>) -> bool) -> io::Result<()> {
        while !self.blocked {
            if self.sent == self.pending.len() {
                self.pending.clear();
                self.sent = 0;
                if !next(&mut self.pending) {
                    break;
                }
            }
            match self.stream.try_write(self.pending.get(self.sent..).unwrap_or_default()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    self.full.notify_one();
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The socket has room again.
    pub(super) fn writable(&mut self) {
        self.blocked = false;
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Best effort: a socket without these is slower, not wrong.
fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(NOTSENT_LOWAT);
}

async fn read(link: LinkNo, stream: Arc<TcpStream>, events: mpsc::Sender<Event>, buffers: Buffers) {
    loop {
        let readable = stream.readable().await.is_ok();
        // Taken only now: an idle link holds none.
        let mut bytes = buffers.take();
        let alive = readable
            && match stream.try_read_buf(&mut bytes) {
                Ok(n) => n > 0,
                Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            };
        if bytes.is_empty() && alive {
            buffers.give(bytes);
            continue;
        }
        let event = if alive {
            Event::Received { link, bytes, at: Instant::now() }
        } else {
            Event::Closed { link }
        };
        if events.send(event).await.is_err() || !alive {
            return;
        }
    }
}

async fn wake(
    link: LinkNo,
    stream: Arc<TcpStream>,
    full: Arc<Notify>,
    events: mpsc::Sender<Event>,
) {
    loop {
        full.notified().await;
        if stream.writable().await.is_err() || events.send(Event::Writable { link }).await.is_err()
        {
            return;
        }
    }
}

/// Connects from `source` (any address when unspecified) to `to`.
pub(super) async fn dial(source: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if !source.ip().is_unspecified() && source.is_ipv4() == to.is_ipv4() {
        socket.bind(SocketAddr::new(source.ip(), 0))?;
    }
    tokio::time::timeout(CONNECT_LIMIT, socket.connect(to))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
