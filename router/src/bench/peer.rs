//! Somebody at the other end of a router's link, without a router: `LinkIo` on a socket.
//!
//! Lives here: dialling, asking for builds, accepting them, keeping the link alive. Does not live
//! here: load (`load.rs`), what is measured (`build.rs`, `idle.rs`).

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use warren_overlay::{
    id::TunnelId,
    link::{Handshake, LinkInput, LinkIo, LinkOutput},
    plane::{LinkCommand, LinkEvent},
    ring::admission::Network,
    wire::{BUILD_LEN, BUILD_REPLY_LEN, LinkMessage, RouterDescriptor},
};

use super::actors::{self, Clock, IN};
use crate::entropy;

const READ_LEN: usize = 64 * 1_024;
/// How often a peer that waits looks whether it should do something else.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The peer.
#[derive(Debug)]
pub(super) struct Peer {
    clock: Clock,
    stream: TcpStream,
    io: LinkIo,
    output: Vec<u8>,
}

impl Peer {
    /// A new router at `from` dials `to`.
    pub(super) async fn dial(
        clock: Clock,
        network: &Network,
        from: SocketAddr,
        to: &RouterDescriptor,
    ) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(from)?;
        let address = SocketAddr::new(from.ip(), 9_000); // nobody dials it
        let own = actors::identity(clock.now(), network, address.into())
            .ok_or_else(|| io::Error::other("no memory for a router's work"))?;
        let contact = actors::contact(to)?;
        let stream = socket.connect(contact.address.socket()).await?;
        let machine = Handshake::initiate(clock.now(), own, contact, entropy::generator());
        Self::shake(clock, stream, machine).await
    }

    /// The link that `machine` makes over `stream`.
    pub(super) async fn shake(
        clock: Clock,
        stream: TcpStream,
        machine: Handshake,
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let established = actors::shake_over(clock, &stream, machine).await?;
        let io = actors::link_io(clock.time(), IN, established);
        Ok(Self { clock, stream, io, output: Vec::new() })
    }

    pub(super) const fn clock(&self) -> Clock {
        self.clock
    }

    fn command(&mut self, command: LinkCommand) {
        self.io.handle_input(self.clock.time(), LinkInput::Command(command));
    }

    fn open(&mut self, tunnel: TunnelId) {
        self.command(LinkCommand::Open { tunnel, lane: Box::new(actors::own_lane()) });
    }

    async fn flush(&mut self) -> io::Result<()> {
        loop {
            self.output.clear();
            if self.io.poll_transmit(self.clock.time(), &mut self.output) == 0 {
                return Ok(());
            }
            actors::write_all(&self.stream, &self.output).await?;
        }
    }

    /// Has a tunnel built. Its answer, as it came; `None` if its lane was closed instead.
    pub(super) async fn build(
        &mut self,
        tunnel: TunnelId,
        message: Box<[u8; BUILD_LEN]>,
    ) -> io::Result<Option<Box<[u8; BUILD_REPLY_LEN]>>> {
        self.open(tunnel);
        self.command(LinkCommand::Send(LinkMessage::Build { tunnel, message }));
        loop {
            match self.event(LOOK_EVERY).await? {
                Some(LinkEvent::Message(message)) => match *message {
                    LinkMessage::BuildReply { tunnel: built, reply } if built == tunnel => {
                        return Ok(Some(reply));
                    }
                    _ => {}
                },
                Some(LinkEvent::LaneClosed { tunnel: closed }) if closed == tunnel => {
                    return Ok(None);
                }
                _ => {}
            }
        }
    }

    /// Ends a tunnel.
    pub(super) async fn close(&mut self, tunnel: TunnelId) -> io::Result<()> {
        self.command(LinkCommand::Close { tunnel, tell: true });
        self.flush().await
    }

    /// Keeps the link alive and accepts all builds, until `enough` or the link ends.
    pub(super) async fn idle(&mut self, enough: impl Fn() -> bool) -> io::Result<()> {
        while !enough() {
            let event = self.event(LOOK_EVERY).await?;
            if let Some(LinkEvent::Message(message)) = event
                && let LinkMessage::Build { tunnel, .. } = *message
            {
                self.open(tunnel);
                let reply = Box::new([0; BUILD_REPLY_LEN]);
                self.command(LinkCommand::Send(LinkMessage::BuildReply { tunnel, reply }));
            }
        }
        self.flush().await
    }

    /// The next thing that the link says to its router, if there is any within `most`; writes and
    /// reads meanwhile.
    async fn event(&mut self, most: Duration) -> io::Result<Option<LinkEvent>> {
        let until = self.clock.time() + most;
        loop {
            self.flush().await?;
            while let Some(output) = self.io.poll_output() {
                match output {
                    LinkOutput::Node(LinkEvent::Closed(_)) => {
                        return Err(io::Error::other("the other side closed the link"));
                    }
                    LinkOutput::Node(event) => return Ok(Some(event)),
                    LinkOutput::Part { .. } => {}
                }
            }
            let now = self.clock.time();
            if now >= until {
                return Ok(None);
            }
            let wake = self.io.poll_timeout().map_or(until, |at| at.min(until));
            match timeout(wake.since(now), self.stream.readable()).await {
                Ok(readable) => readable?,
                Err(_) => self.io.handle_timeout(self.clock.time()),
            }
            self.read()?;
        }
    }

    fn read(&mut self) -> io::Result<()> {
        let mut input = vec![0; READ_LEN];
        match self.stream.try_read(&mut input) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                let bytes = input.get_mut(..n).unwrap_or_default();
                self.io.handle_input(self.clock.time(), LinkInput::Received(bytes));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Router `k`'s source address: each in another /24, as handshakes from one are few.
pub(super) fn source(k: u32) -> SocketAddr {
    let part = |n: u32| u8::try_from(n % 250).unwrap_or_default();
    SocketAddr::from(([127, part(k) + 4, part(k / 250), 1], 0))
}

/// A descriptor, shared.
pub(super) type Descriptor = Arc<RouterDescriptor>;
