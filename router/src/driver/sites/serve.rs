//! One connection of an application to a stored site.
//!
//! Lives here: moving bytes between the socket, the `Responder` and the site. Does not live here: HTTP
//! (`warren_proxy::site`).

use std::{io, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout_at,
};
use warren_datastore::directory::Entry;
use warren_overlay::{service::Name, time::Time};
use warren_proxy::{
    Download, Failure, IsolationKey, Upload,
    site::{Input, Output, Responder},
};

use super::{
    Sites,
    open::{Body, OpenSite, failure},
};

/// Bytes of a request read at once.
const READ_LEN: usize = 4 * 1_024;

/// A connection that was opened to a site.
pub(in crate::driver) struct Connection {
    pub(in crate::driver) socket: TcpStream,
    pub(in crate::driver) name: Name,
    pub(in crate::driver) context: IsolationKey,
    pub(in crate::driver) early: Vec<u8>,
    pub(in crate::driver) upload: Upload,
    pub(in crate::driver) download: Download,
}

impl Sites {
    /// Answers until one side has enough; the socket, to be closed.
    ///
    /// # Errors
    /// When the connection breaks, or has to be cut in the middle of an answer.
    pub(in crate::driver) async fn serve(&self, connection: Connection) -> io::Result<TcpStream> {
        let Connection { mut socket, name, context, early, mut upload, mut download } = connection;
        let clock = self.0.clock;
        let now = || clock.now().time;
        let mut responder = Responder::new(now(), name);
        responder.handle_input(now(), Input::Bytes(&early));
        let mut found: Option<(Arc<OpenSite>, Entry)> = None;
        let mut bytes = Vec::with_capacity(READ_LEN);
        loop {
            while let Some(output) = responder.poll_output() {
                match output {
                    Output::Find(path) => match self.open(context, name).await {
                        Ok(site) => {
                            let (what, entry) = site.find(&path);
                            found = entry.map(|entry| (site, entry));
                            responder.handle_input(now(), Input::Found(what));
                        }
                        Err(failure) => responder.handle_input(now(), Input::Failed(failure)),
                    },
                    Output::Answer { head, body } => {
                        let sent = match &found {
                            Some((site, entry)) if !body.is_empty() => {
                                match site.body(&self.0.files, entry, body).await {
                                    Ok(body) => {
                                        send(&mut socket, &mut download, &head, body).await?
                                    }
                                    Err(failure) => Err(failure),
                                }
                            }
                            _ => Ok(socket.write_all(&download.pass(&head)).await?),
                        };
                        let input = sent.map_or_else(Input::Failed, |()| Input::Sent);
                        responder.handle_input(now(), input);
                    }
                    Output::Reply(bytes) => socket.write_all(&download.pass(&bytes)).await?,
                    Output::Close => return Ok(socket),
                }
            }
            let wake = responder.poll_timeout().unwrap_or(Time::from_micros(u64::MAX));
            bytes.clear();
            match timeout_at(clock.instant(wake), socket.read_buf(&mut bytes)).await {
                Ok(Ok(0)) => return Ok(socket),
                Ok(read) => {
                    read?;
                    bytes.truncate(upload.pass(&bytes));
                    responder.handle_input(now(), Input::Bytes(&bytes));
                }
                Err(_) => responder.handle_timeout(now()),
            }
        }
    }
}

/// Writes head and body; the inner error when nothing was written yet.
async fn send(
    socket: &mut TcpStream,
    download: &mut Download,
    head: &[u8],
    body: Body,
) -> io::Result<Result<(), Failure>> {
    match body {
        Body::Here(bytes, range) => {
            let bytes = bytes.get(range).unwrap_or_default();
            socket.write_all(&download.pass(&[head, bytes].concat())).await?;
        }
        Body::Comes(mut fetching, mut left) => {
            let mut head = Some(head);
            while left > 0 {
                let bytes = match (fetching.next().await, head) {
                    (Some(Ok(bytes)), _) if !bytes.is_empty() && bytes.len() as u64 <= left => {
                        bytes
                    }
                    (Some(Err(error)), Some(_)) => return Ok(Err(failure(&error))),
                    (Some(Ok(_)) | None, Some(_)) => return Ok(Err(Failure::BadSite)),
                    // The length was said: only cutting the connection tells that this is not all.
                    (_, None) => return Err(io::ErrorKind::ConnectionAborted.into()),
                };
                left -= bytes.len() as u64;
                if let Some(head) = head.take() {
                    socket.write_all(&download.pass(head)).await?;
                }
                socket.write_all(&download.pass(&bytes)).await?;
            }
        }
    }
    Ok(Ok(()))
}
