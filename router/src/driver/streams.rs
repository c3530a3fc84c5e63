//! One application's byte stream, between a TCP socket and the router's task.
//!
//! Lives here: the handle that the front door and the services' targets use, and the pump that
//! joins it to a socket. Does not live here: streams, sessions and their credits
//! (`overlay::session`), what waits for the pump (`inbox.rs`), protocols of the front door
//! (`warren_proxy`).
//!
//! Back-pressure both ways: the pump reads from the socket only what the stream has room for, and
//! returns credit (`Consumed`) for what the socket took. A stream with nothing to read or to write has
//! no buffer: there may be thousands.

use std::{
    borrow::Cow,
    collections::VecDeque,
    future::{pending, ready},
    io::{self, ErrorKind, IoSlice},
};

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

use super::{
    Event,
    inbox::{Inbox, News, Over},
};
use crate::app::StreamNo;

/// Bytes read from a socket at once.
const READ_LEN: usize = 64 * 1_024;
/// Bytes written to a socket at once, if as many have come.
const WRITE_LEN: usize = 64 * 1_024;
/// Pieces in one write; so many are `WRITE_LEN` long, if as much waited.
const WRITE_PIECES: usize = 16;

/// A stream that was opened.
#[derive(Debug)]
pub(crate) struct StreamHandle {
    pub(super) no: StreamNo,
    /// To the router's task.
    pub(super) events: mpsc::Sender<Event>,
    /// From the router's task.
    pub(super) inbox: Inbox,
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
    ErrorKind::ConnectionAborted.into()
}

impl StreamHandle {
    pub(super) fn new(no: StreamNo, events: mpsc::Sender<Event>, inbox: Inbox) -> Self {
        Self { no, events, inbox, room: 0 }
    }

    async fn tell(&self, command: AppCommand) -> io::Result<()> {
        tell(&self.events, self.no, command).await
    }

    /// Sends the first bytes, as far as there is room; the rest is returned.
    pub(super) async fn send_early(&mut self, mut early: Vec<u8>) -> io::Result<Vec<u8>> {
        self.room += self.inbox.take_room();
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
    pub(super) async fn opened(&self) -> Result<(), Failure> {
        self.inbox.opened().await
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
    let up = upstream(no, &events, read, &inbox, room, early, filters.upload);
    let down = downstream(no, &events, write, &inbox, filters.download);
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
    events: &mpsc::Sender<Event>,
    mut socket: OwnedReadHalf,
    inbox: &Inbox,
    mut room: usize,
    early: Vec<u8>,
    mut upload: Option<Upload>,
) -> io::Result<()> {
    let mut early = early.as_slice();
    loop {
        room += inbox.take_room();
        if room == 0 {
            match inbox.room().await {
                Some(more) => room += more,
                None => return Ok(()),
            }
        }
        let mut bytes;
        if early.is_empty() {
            bytes = read(&mut socket, READ_LEN.min(room)).await?;
            if bytes.is_empty() {
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
            tell(events, no, AppCommand::Data { stream: no.stream, bytes }).await?;
        }
    }
    tell(events, no, AppCommand::Finish { stream: no.stream }).await
}

/// Waits until there is something to read, and reads up to `most` bytes of it; none at the end.
async fn read(socket: &mut OwnedReadHalf, most: usize) -> io::Result<Vec<u8>> {
    loop {
        socket.readable().await?;
        let mut bytes = Vec::with_capacity(most);
        let mut limited = (&mut *socket).take(most as u64);
        tokio::select! {
            biased;
            read = limited.read_buf(&mut bytes) => {
                if read? < most / 2 {
                    bytes.shrink_to_fit();
                }
                return Ok(bytes);
            }
            // There was nothing after all.
            () = ready(()) => {}
        }
    }
}

async fn downstream(
    no: StreamNo,
    events: &mpsc::Sender<Event>,
    mut socket: OwnedWriteHalf,
    inbox: &Inbox,
    mut download: Option<Download>,
) -> io::Result<()> {
    loop {
        match inbox.next(WRITE_LEN).await {
            News::Data(mut pieces) => {
                let bytes = pieces.iter().map(Vec::len).sum();
                let over = download.as_mut().is_some_and(|download| filter(download, &mut pieces));
                write(&socket, &mut pieces, inbox).await?;
                tell(events, no, AppCommand::Consumed { stream: no.stream, bytes }).await?;
                if over {
                    socket.shutdown().await?;
                    return Err(aborted()); // one answer a connection: give the stream up
                }
            }
            News::Finished => {
                if let Some(download) = &mut download {
                    socket.write_all(&download.finish()).await?;
                }
                socket.shutdown().await?;
            }
            News::Over(Over::Closed) => return Ok(()),
            News::Over(Over::Reset(_)) => {
                // What an application that reads would have had.
                let mut rest = inbox.rest();
                if let Some(download) = &mut download {
                    filter(download, &mut rest);
                }
                write_now(&socket, &mut rest, &mut 0)?;
                return Err(ErrorKind::ConnectionReset.into());
            }
        }
    }
}

/// Makes of `pieces` what is to be written of them; true if that is all there will be.
fn filter(download: &mut Download, pieces: &mut VecDeque<Vec<u8>>) -> bool {
    for piece in pieces {
        let passed = match download.pass(piece) {
            Cow::Borrowed(all) if all.len() == piece.len() => continue,
            passed => passed.into_owned(),
        };
        *piece = passed;
    }
    download.is_over()
}

/// Writes all of `pieces`. A reset does not wait for an application that does not read.
async fn write(
    socket: &OwnedWriteHalf,
    pieces: &mut VecDeque<Vec<u8>>,
    inbox: &Inbox,
) -> io::Result<()> {
    let mut sent = 0;
    while !write_now(socket, pieces, &mut sent)? {
        tokio::select! {
            writable = socket.writable() => writable?,
            _ = inbox.reset() => return Err(ErrorKind::ConnectionReset.into()),
        }
    }
    Ok(())
}

/// Writes what the socket takes now of what is left of `pieces` after `sent` bytes; true if that was all.
fn write_now(
    socket: &OwnedWriteHalf,
    pieces: &mut VecDeque<Vec<u8>>,
    sent: &mut usize,
) -> io::Result<bool> {
    loop {
        while let Some(whole) = pieces.pop_front_if(|piece| piece.len() <= *sent) {
            *sent -= whole.len();
        }
        if pieces.is_empty() {
            return Ok(true);
        }
        let mut slices = [IoSlice::new(&[]); WRITE_PIECES];
        for (slice, piece) in slices.iter_mut().zip(&*pieces) {
            *slice = IoSlice::new(piece);
        }
        let [first, ..] = &mut slices;
        first.advance(*sent);
        match socket.try_write_vectored(&slices) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => *sent += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{net::TcpListener, time::timeout};
    use warren_overlay::{id::EndNo, session};

    use super::*;
    use crate::driver::inbox;

    const NO: StreamNo = StreamNo { end: EndNo(1), stream: session::StreamNo(1) };

    #[tokio::test]
    async fn a_reset_does_not_wait_for_an_application_that_does_not_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let application = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        let (events, mut heard) = mpsc::channel(128);
        let (outlet, inbox) = inbox::new();
        // More than any socket takes.
        for _ in 0..64 {
            outlet.data(vec![7; 1 << 20]);
        }
        let stream = StreamHandle::new(NO, events, inbox);
        let pump = tokio::spawn(pump(socket, stream, Vec::new(), Filters::default()));
        application.readable().await.unwrap();
        outlet.reset(Failure::Busy);
        timeout(Duration::from_secs(20), pump).await.unwrap().unwrap();
        let mut last = None;
        while let Some(event) = heard.recv().await {
            last = Some(event);
        }
        let reset = AppCommand::Reset { stream: NO.stream, reason: ResetReason::Closed };
        assert!(matches!(&last, Some(Event::App { command, .. }) if *command == reset), "{last:?}");
    }
}
