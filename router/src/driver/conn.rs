//! One TCP connection to another router.
//!
//! Lives here: reading and writing without copying more than once, and telling the router's task
//! when the socket has something to read, or room again. Does not live here: what the bytes mean
//! (`overlay::link`), whose turn it is (`task`).
//!
//! Both happen in the router's own task: it reads when it has time, so that what it has no time for
//! stays in the kernel and slows its sender down; and it asks the link for frames only when the socket
//! takes them, so that the link's scheduler decides as late as possible. A watcher beside it waits for
//! the socket, and only when it is asked to: under load it never is.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use socket2::SockRef;
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::Instant,
};
use warren_overlay::id::LinkNo;

use super::{Event, outbound};
use crate::config::Outbound;

/// Bytes per read: four full frames.
pub(super) const READ_LEN: usize = 64 * 1_024;
/// Unsent bytes the kernel keeps before it calls the socket full (DESIGN section 4).
const NOTSENT_LOWAT: u32 = 64 * 1_024;
/// How long a connection may take, a proxy's part included.
const CONNECT_LIMIT: Duration = Duration::from_secs(8);

/// What the router's task asks of a connection's watcher.
#[derive(Debug, Default)]
struct Wishes {
    /// Nothing is left to read: say when there is.
    read: Notify,
    /// The socket is full: say when it has room.
    write: Notify,
}

/// The router task's half of a connection. Dropping it closes the socket.
#[derive(Debug)]
pub(super) struct Conn {
    stream: Arc<TcpStream>,
    wishes: Arc<Wishes>,
    /// Frames the socket did not take yet.
    pending: Vec<u8>,
    sent: usize,
    blocked: bool,
    watcher: JoinHandle<()>,
}

/// What reading brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// So many bytes; there may be more.
    Bytes(usize),
    /// Nothing; there will be an event when there is something.
    Nothing,
    /// The other side is gone.
    Over,
}

impl Conn {
    /// Watches `stream`: what there is to read is told by events.
    pub(super) fn start(link: LinkNo, stream: TcpStream, events: mpsc::Sender<Event>) -> Self {
        tune(&stream);
        let stream = Arc::new(stream);
        let wishes = Arc::new(Wishes::default());
        wishes.read.notify_one();
        let watcher = tokio::spawn(watch(link, Arc::clone(&stream), Arc::clone(&wishes), events));
        Self { stream, wishes, pending: Vec::new(), sent: 0, blocked: false, watcher }
    }

    /// Reads once, as much as there is and `buffer` takes.
    pub(super) fn read(&self, buffer: &mut [u8]) -> Read {
        match self.stream.try_read(buffer) {
            Ok(0) => Read::Over,
            Ok(n) => Read::Bytes(n),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.wishes.read.notify_one();
                Read::Nothing
            }
            Err(_) => Read::Over,
        }
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
                    self.wishes.write.notify_one();
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
        self.watcher.abort();
    }
}

/// Best effort: a socket without these is slower, not wrong.
fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(NOTSENT_LOWAT);
}

/// Waits for the socket whenever the router's task wants to know. A broken socket is readable and
/// writable: whoever tries will see.
async fn watch(
    link: LinkNo,
    stream: Arc<TcpStream>,
    wishes: Arc<Wishes>,
    events: mpsc::Sender<Event>,
) {
    let read = async {
        loop {
            wishes.read.notified().await;
            let _ = stream.readable().await;
            if events.send(Event::Readable { link, at: Instant::now() }).await.is_err() {
                return;
            }
        }
    };
    let write = async {
        loop {
            wishes.write.notified().await;
            let _ = stream.writable().await;
            if events.send(Event::Writable { link }).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(read, write);
}

/// Connects from `source` (any address when unspecified) to `to`, through `outbound` if there is one.
pub(super) async fn dial(
    source: SocketAddr,
    outbound: Option<Outbound>,
    to: SocketAddr,
) -> io::Result<TcpStream> {
    let made = async {
        let Some(outbound) = outbound else { return connect(source, to).await };
        let mut stream = connect(source, outbound.address).await?;
        outbound::ask(outbound, &mut stream, to).await?;
        Ok(stream)
    };
    let made = tokio::time::timeout(CONNECT_LIMIT, made).await;
    made.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn connect(source: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if !source.ip().is_unspecified() && source.is_ipv4() == to.is_ipv4() {
        socket.bind(SocketAddr::new(source.ip(), 0))?;
    }
    socket.connect(to).await
}
