//! One application's byte stream, between a TCP socket and the router's task.
//!
//! Lives here: the handle that the front door and the services' targets use, and the pump that
//! joins it to a socket. Does not live here: streams, sessions and their credits
//! (`overlay::session`), protocols of the front door (`warren_proxy`).
//!
//! Back-pressure both ways: the pump reads from the socket only what the stream has room for
//! (`Room`), and returns credit (`Consumed`) for what the socket took.

use std::{future::pending, io};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
};
use warren_overlay::session::{AppCommand, ResetReason};
use warren_proxy::{Download, Failure, Upload};

use super::Event;
use crate::app::StreamNo;

/// Bytes read from a socket at once.
const READ_LEN: usize = 64 * 1_024;
/// Bytes written to a socket at once, if as many have come.
const WRITE_LEN: usize = 64 * 1_024;

/// What the router's task tells a stream's pump.
#[derive(Debug)]
pub(super) enum ToStream {
    /// The service accepted the stream.
    Opened,
    /// That many more bytes may be sent.
    Room(usize),
    /// Bytes arrived.
    Data(Vec<u8>),
    /// The other side sends nothing more.
    Finished,
    /// It is over before its time.
    Reset(Failure),
}

/// A stream that was opened. Dropping the sender's end of `inbox` ends it in order.
#[derive(Debug)]
pub(crate) struct StreamHandle {
    pub(super) no: StreamNo,
    /// To the router's task.
    pub(super) events: mpsc::Sender<Event>,
    /// From the router's task; bounded by the stream's receive window.
    pub(super) inbox: mpsc::UnboundedReceiver<ToStream>,
    /// Bytes that may be sent now.
    room: usize,
}

/// What the front door filters each way; nothing for services and tunnels.
#[derive(Debug, Default)]
pub(super) struct Filters {
    pub(super) upload: Option<Upload>,
    pub(super) download: Option<Download>,
}

fn aborted() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

impl StreamHandle {
    pub(super) fn new(
        no: StreamNo,
        events: mpsc::Sender<Event>,
        inbox: mpsc::UnboundedReceiver<ToStream>,
    ) -> Self {
        Self { no, events, inbox, room: 0 }
    }

    async fn tell(&self, command: AppCommand) -> io::Result<()> {
        tell(&self.events, self.no, command).await
    }

    /// Sends the first bytes, as far as there is room; the rest is returned.
    pub(super) async fn send_early(&mut self, mut early: Vec<u8>) -> io::Result<Vec<u8>> {
        while self.room == 0 && !early.is_empty() {
            match self.inbox.try_recv() {
                Ok(ToStream::Room(more)) => self.room += more,
                _ => return Ok(early),
            }
        }
        let rest = early.split_off(early.len().min(self.room));
        if !early.is_empty() {
            self.room -= early.len();
            self.tell(AppCommand::Data { stream: self.no.stream, bytes: early }).await?;
        }
        Ok(rest)
    }

    /// Waits until the service has accepted the stream.
    ///
    /// # Errors
    /// Why there will be none.
    pub(super) async fn opened(&mut self) -> Result<(), Failure> {
        loop {
            match self.inbox.recv().await {
                Some(ToStream::Opened) => return Ok(()),
                Some(ToStream::Room(more)) => self.room += more,
                Some(ToStream::Reset(failure)) => return Err(failure),
                // Nothing else can come first.
                Some(ToStream::Data(_) | ToStream::Finished) | None => {
                    return Err(Failure::Broken);
                }
            }
        }
    }
}

async fn tell(events: &mpsc::Sender<Event>, no: StreamNo, command: AppCommand) -> io::Result<()> {
    events.send(Event::App { end: no.end, command }).await.map_err(|_| aborted())
}

/// Joins `socket` and `stream` until both directions ended or one broke. `early` goes first.
pub(super) async fn pump(
    socket: TcpStream,
    stream: StreamHandle,
    early: Vec<u8>,
    filters: Filters,
) {
    let (read, write) = socket.into_split();
    let StreamHandle { no, events, inbox, room } = stream;
    let (give_room, rooms) = mpsc::unbounded_channel();
    let _ = give_room.send(room);
    let up = upstream(no, events.clone(), read, rooms, early, filters.upload);
    let down = downstream(no, events.clone(), write, inbox, give_room, filters.download);
    // A reset by the network must not wait for a silent application, nor the reverse; and when the
    // stream is over both ways, an application that keeps its socket open is not waited for.
    let ended = tokio::select! {
        ended = down => ended,
        error = async { match up.await { Ok(()) => pending().await, Err(error) => error } } => Err(error),
    };
    if ended.is_err() {
        let reset = AppCommand::Reset { stream: no.stream, reason: ResetReason::Closed };
        let _ = tell(&events, no, reset).await;
    }
}

async fn upstream(
    no: StreamNo,
    events: mpsc::Sender<Event>,
    mut socket: OwnedReadHalf,
    mut rooms: mpsc::UnboundedReceiver<usize>,
    early: Vec<u8>,
    mut upload: Option<Upload>,
) -> io::Result<()> {
    let mut room: usize = 0;
    let mut early = early.as_slice();
    loop {
        while room == 0 || !rooms.is_empty() {
            match rooms.recv().await {
                Some(more) => room += more,
                None => return Ok(()),
            }
        }
        let mut bytes;
        if early.is_empty() {
            bytes = Vec::with_capacity(READ_LEN.min(room));
            let limit = bytes.capacity() as u64;
            if (&mut socket).take(limit).read_buf(&mut bytes).await? == 0 {
                break;
            }
            if let Some(upload) = &mut upload {
                bytes.truncate(upload.pass(&bytes));
            }
        } else {
            let (head, rest) = early.split_at(early.len().min(room));
            bytes = head.to_vec();
            early = rest;
        }
        if !bytes.is_empty() {
            room -= bytes.len();
            tell(&events, no, AppCommand::Data { stream: no.stream, bytes }).await?;
        }
    }
    tell(&events, no, AppCommand::Finish { stream: no.stream }).await
}

async fn downstream(
    no: StreamNo,
    events: mpsc::Sender<Event>,
    mut socket: OwnedWriteHalf,
    mut inbox: mpsc::UnboundedReceiver<ToStream>,
    rooms: mpsc::UnboundedSender<usize>,
    mut download: Option<Download>,
) -> io::Result<()> {
    let mut next = None;
    loop {
        let event = match next.take() {
            Some(event) => Some(event),
            None => inbox.recv().await,
        };
        let Some(event) = event else { return Ok(()) };
        match event {
            ToStream::Opened => {}
            ToStream::Room(more) => {
                let _ = rooms.send(more);
            }
            ToStream::Data(mut bytes) => {
                next = gather(&mut bytes, &mut inbox);
                let over = match &mut download {
                    Some(download) => {
                        socket.write_all(&download.pass(&bytes)).await?;
                        download.is_over()
                    }
                    None => {
                        socket.write_all(&bytes).await?;
                        false
                    }
                };
                let consumed = AppCommand::Consumed { stream: no.stream, bytes: bytes.len() };
                tell(&events, no, consumed).await?;
                if over {
                    socket.shutdown().await?;
                    return Err(aborted()); // one answer a connection: give the stream up
                }
            }
            ToStream::Finished => {
                if let Some(download) = &mut download {
                    socket.write_all(&download.finish()).await?;
                }
                socket.shutdown().await?;
            }
            ToStream::Reset(_) => return Err(io::ErrorKind::ConnectionReset.into()),
        }
    }
}

/// Adds what has come since to `bytes`, for a cell brings less than is worth a write of its own. Returns
/// what ended that.
fn gather(bytes: &mut Vec<u8>, inbox: &mut mpsc::UnboundedReceiver<ToStream>) -> Option<ToStream> {
    while bytes.len() < WRITE_LEN {
        match inbox.try_recv().ok()? {
            ToStream::Data(more) => bytes.extend_from_slice(&more),
            other => return Some(other),
        }
    }
    None
}

/// Connects an incoming stream of a service to its target.
pub(super) async fn serve(target: String, stream: StreamHandle) {
    let no = stream.no.stream;
    match TcpStream::connect(target).await {
        Ok(socket) => {
            let _ = socket.set_nodelay(true);
            if stream.tell(AppCommand::Accept { stream: no }).await.is_ok() {
                pump(socket, stream, Vec::new(), Filters::default()).await;
            }
        }
        Err(_) => {
            let reset = AppCommand::Reset { stream: no, reason: ResetReason::Refused };
            let _ = stream.tell(reset).await;
        }
    }
}
