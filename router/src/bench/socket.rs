//! The hop's sockets: read and written as the router's driver does it.
//!
//! Lives here: one connection's reader, and writing what the socket takes. Does not live here: what
//! the bytes mean.

use std::{io, sync::Arc};

use socket2::SockRef;
use tokio::{
    net::TcpStream,
    sync::{Notify, mpsc},
    task::JoinHandle,
};
use warren_overlay::id::LinkNo;

/// Bytes per read: four full frames.
pub(super) const READ_LEN: usize = 64 * 1_024;
/// Unsent bytes the kernel keeps before it calls the socket full (DESIGN section 4).
const NOTSENT_LOWAT: u32 = 64 * 1_024;

/// What happens at a socket.
#[derive(Debug)]
pub(super) enum Event {
    Received { link: LinkNo, bytes: Vec<u8> },
    Writable { link: LinkNo },
    Closed,
}

/// The writing half of a connection.
#[derive(Debug)]
pub(super) struct Conn {
    stream: Arc<TcpStream>,
    full: Arc<Notify>,
    pending: Vec<u8>,
    sent: usize,
    blocked: bool,
    tasks: [JoinHandle<()>; 2],
}

impl Conn {
    /// Starts reading from `stream`.
    pub(super) fn start(link: LinkNo, stream: TcpStream, events: mpsc::Sender<Event>) -> Self {
        let stream = Arc::new(stream);
        let full = Arc::new(Notify::new());
        let reader = tokio::spawn(read(link, Arc::clone(&stream), events.clone()));
        let waker = tokio::spawn(wake(link, Arc::clone(&stream), Arc::clone(&full), events));
        let (pending, tasks) = (Vec::new(), [reader, waker]);
        Self { stream, full, pending, sent: 0, blocked: false, tasks }
    }

    /// Writes frames from `next` until it has none or the socket is full.
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
    pub(super) const fn writable(&mut self) {
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
pub(super) fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(NOTSENT_LOWAT);
}

async fn read(link: LinkNo, stream: Arc<TcpStream>, events: mpsc::Sender<Event>) {
    loop {
        let mut bytes = Vec::with_capacity(READ_LEN);
        let alive = stream.readable().await.is_ok()
            && match stream.try_read_buf(&mut bytes) {
                Ok(n) => n > 0,
                Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            };
        if bytes.is_empty() && alive {
            continue;
        }
        let event = if alive { Event::Received { link, bytes } } else { Event::Closed };
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
