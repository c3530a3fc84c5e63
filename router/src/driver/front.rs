//! The mixed port: accepted connections, from first byte to stream.
//!
//! Lives here: moving bytes between sockets and the proxy's machines. Does not live here: protocols
//! and pages (`warren_proxy`), the streams that result (`streams.rs`), stored sites (`sites/`).

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, oneshot},
    time::timeout_at,
};
use warren_overlay::{service::NameKind, time::Time};
use warren_proxy::{
    Destination, Failure, Inbound, IsolationKey, Listener, Output, Request, VirtualAddresses,
};

use super::{
    Clock, Event,
    sites::{Connection, Sites},
    streams::{self, Filters, StreamHandle},
};

/// Connections of applications at the same time. Each costs two sockets and up to 80 KiB.
const CONNECTIONS_MAX: usize = 4_096;
/// What a stored site answers at.
const SITE_PORT: u16 = 80;
/// Bytes read at once while the request is incomplete.
const HEAD_READ_LEN: usize = 4 * 1_024;

/// What all connections of a listener share.
#[derive(Clone, Debug)]
pub(super) struct Front {
    pub(super) clock: Clock,
    pub(super) listener: Listener,
    pub(super) addresses: Arc<Mutex<VirtualAddresses>>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) sites: Sites,
}

/// Serves `socket` until the router's task is gone.
pub(super) async fn serve(socket: TcpListener, front: Front) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((connection, _)) = socket.accept().await else {
            // Out of descriptors, most likely: let some close.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        if front.events.is_closed() {
            return;
        }
        let front = front.clone();
        tokio::spawn(async move {
            // A broken application connection concerns nobody else.
            let _ = front.converse(connection).await;
            drop(place);
        });
    }
}

impl Front {
    async fn converse(self, mut socket: TcpStream) -> io::Result<()> {
        let _ = socket.set_nodelay(true);
        let mut inbound = Inbound::new(self.clock.now().time, self.listener.clone());
        let Some(request) = self.read_request(&mut socket, &mut inbound).await? else {
            return Ok(());
        };
        if request.destination.name.kind() == NameKind::Site {
            return self.site(socket, inbound, request).await;
        }
        let Request { destination, isolation, early, upload, download, .. } = request;
        let mut stream = match self.open(destination, isolation).await? {
            Ok(stream) => stream,
            Err(failure) => return self.refuse(socket, inbound, failure).await,
        };
        let rest = stream.send_early(early).await?;
        match stream.opened().await {
            Ok(()) => {
                inbound.connected();
                self.reply(&mut socket, &mut inbound).await?;
                let filters = Filters { upload: Some(upload), download: Some(download) };
                streams::pump(socket, stream, rest, filters).await;
                Ok(())
            }
            Err(failure) => self.refuse(socket, inbound, failure).await,
        }
    }

    /// A stored site: no stream is opened, its pages are found and answered from here.
    async fn site(
        self,
        mut socket: TcpStream,
        mut inbound: Inbound,
        request: Request,
    ) -> io::Result<()> {
        let Request { destination, isolation: context, early, upload, download, .. } = request;
        if destination.port != SITE_PORT {
            return self.refuse(socket, inbound, Failure::PortRefused).await;
        }
        inbound.connected();
        self.reply(&mut socket, &mut inbound).await?;
        let name = destination.name;
        let connection = Connection { socket, name, context, early, upload, download };
        let mut socket = self.sites.serve(connection).await?;
        linger(&mut socket).await;
        Ok(())
    }

    async fn open(
        &self,
        destination: Destination,
        isolation: IsolationKey,
    ) -> io::Result<Result<StreamHandle, Failure>> {
        let aborted = || io::Error::from(io::ErrorKind::ConnectionAborted);
        let (answer, opened) = oneshot::channel();
        let open = Event::Open { destination, isolation, answer };
        self.events.send(open).await.map_err(|_| aborted())?;
        opened.await.map_err(|_| aborted())
    }

    async fn refuse(
        &self,
        mut socket: TcpStream,
        mut inbound: Inbound,
        failure: Failure,
    ) -> io::Result<()> {
        inbound.refused(failure);
        self.reply(&mut socket, &mut inbound).await?;
        linger(&mut socket).await;
        Ok(())
    }

    /// Reads until the machine wants a stream; `None` when it closed instead.
    async fn read_request(
        &self,
        socket: &mut TcpStream,
        inbound: &mut Inbound,
    ) -> io::Result<Option<Request>> {
        let mut bytes = Vec::with_capacity(HEAD_READ_LEN);
        loop {
            while let Some(output) = inbound.poll_output() {
                match output {
                    Output::Reply(reply) => socket.write_all(&reply).await?,
                    Output::Lookup(lookup) => {
                        let mut addresses =
                            self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
                        let answer = addresses.answer(lookup);
                        drop(addresses);
                        inbound.looked_up(answer);
                    }
                    Output::Connect(request) => return Ok(Some(request)),
                    Output::Close => {
                        linger(socket).await;
                        return Ok(None);
                    }
                }
            }
            let deadline = inbound.poll_timeout().map_or_else(
                || self.clock.instant(Time::from_micros(u64::MAX / 4)),
                |at| self.clock.instant(at),
            );
            bytes.clear();
            match timeout_at(deadline, socket.read_buf(&mut bytes)).await {
                Ok(Ok(0)) => return Ok(None),
                Ok(Ok(_)) => inbound.handle_input(self.clock.now().time, &bytes),
                Ok(Err(error)) => return Err(error),
                Err(_) => inbound.handle_timeout(self.clock.now().time),
            }
        }
    }

    async fn reply(&self, socket: &mut TcpStream, inbound: &mut Inbound) -> io::Result<()> {
        while let Some(output) = inbound.poll_output() {
            if let Output::Reply(reply) = output {
                socket.write_all(&reply).await?;
            }
        }
        Ok(())
    }
}

/// Closes after the application has read the answer: closing with unread bytes in the socket would
/// reset it and lose the page.
async fn linger(socket: &mut TcpStream) {
    let _ = socket.shutdown().await;
    let mut rest = [0; 1_024];
    let drain = async { while matches!(socket.read(&mut rest).await, Ok(n) if n > 0) {} };
    let _ = tokio::time::timeout(std::time::Duration::from_secs(2), drain).await;
}
