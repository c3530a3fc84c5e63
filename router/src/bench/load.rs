//! Load generators: the owner's side of a hop, and the far side, without onion work of their own.
//!
//! Lives here: keeping lanes full and emptying them, over a socket or in memory; building tunnels
//! through a real router; the process that holds both generators. Does not live here: the hop.
//!
//! A middle hop cannot tell what is in a cell, so these are made once and not encrypted again. Nor
//! can it tell what is in the reply to a build, which the sink therefore leaves empty.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    io::Interest,
    net::{TcpSocket, TcpStream},
    runtime,
    time::timeout,
};
use warren_overlay::{
    id::{EndNo, TunnelId},
    link::{Established, Handshake, LinkIdentity, LinkInput, LinkIo, LinkOutput},
    plane::{CELL_BODY_LEN, LinkCommand, LinkEvent, Part, PartMessage},
    rng::Rng,
    time::Time,
    tunnel::build,
    wire::{BUILD_REPLY_LEN, LinkMessage, RouterDescriptor},
};

use super::actors::{self, Clock, IN, OUT};
use crate::{entropy, invite::Invite};

/// What an end may have waiting in a link's egress, per tunnel (the feed window of `garlic`).
const FEED_WINDOW: u32 = 128;
/// Cells per message: a frame's worth.
const BATCH: u32 = 15;
const END: Part = Part::End(EndNo(1));
/// Bytes per read, as in the router's driver.
const READ_LEN: usize = 64 * 1_024;
/// Builds at once: less than a link's control queue holds and than a neighbour takes in a row.
const BUILDS_AT_ONCE: u32 = 60;
/// Between later ones: a neighbour takes 20 a second for long (`tunnel::transit::RATE`).
const BUILD_EVERY: Duration = Duration::from_millis(55);
/// Minutes that the tunnels are built for.
const LIFE_MINUTES: u16 = 20;

/// How the generators find the hop, and what they do there.
#[derive(Clone, Debug)]
pub struct LoadSettings {
    /// Its network and itself: the first router named.
    pub invite: Invite,
    /// Tunnels through it, 1 to 1,000.
    pub tunnels: u32,
}

/// Tunnels that a source builds, not faster than its neighbour takes them.
#[derive(Debug)]
struct Builds {
    hops: [Arc<RouterDescriptor>; 2],
    rng: Rng,
    since: Time,
    done: u32,
    tunnels: u32,
}

/// One generator: a link, and lanes that are filled or emptied.
#[derive(Debug)]
pub(super) struct Generator {
    io: LinkIo,
    /// Whether it accepts builds and empties their lanes.
    is_sink: bool,
    /// What is still to be built.
    builds: Option<Builds>,
    /// Room in the egress of each lane that is filled.
    room: Vec<(TunnelId, u32)>,
    /// Cells that came.
    pub(super) received: u64,
}

impl Generator {
    /// Fills lanes.
    pub(super) fn source(now: Time, established: Established) -> Self {
        let io = actors::link_io(now, IN, established);
        Self { io, is_sink: false, builds: None, room: Vec::new(), received: 0 }
    }

    /// Empties lanes.
    pub(super) fn sink(now: Time, established: Established) -> Self {
        let io = actors::link_io(now, OUT, established);
        Self { io, is_sink: true, builds: None, room: Vec::new(), received: 0 }
    }

    /// Opens a lane; a source fills it at once.
    pub(super) fn open(&mut self, now: Time, tunnel: TunnelId) {
        self.command(now, LinkCommand::Open { tunnel, lane: Box::new(actors::own_lane()) });
        if !self.is_sink {
            self.room.push((tunnel, FEED_WINDOW));
        }
        self.drain(now);
    }

    /// Asks for those tunnels that are due; says whether there are more.
    fn build(&mut self, clock: Clock) -> io::Result<bool> {
        let now = clock.now();
        while let Some(builds) = &mut self.builds {
            let later = now.time.since(builds.since).as_millis() / BUILD_EVERY.as_millis();
            let due = BUILDS_AT_ONCE.saturating_add(u32::try_from(later).unwrap_or(u32::MAX));
            if builds.done >= builds.tunnels {
                self.builds = None;
                break;
            }
            if builds.done >= due {
                return Ok(true);
            }
            builds.done += 1;
            let tunnel = actors::lane_in(builds.done);
            let (message, _) = build::create(&mut builds.rng, now.wall, &builds.hops, LIFE_MINUTES)
                .map_err(|_| io::Error::other("the hop's keys make no tunnel"))?;
            self.open(now.time, tunnel);
            self.command(now.time, LinkCommand::Send(LinkMessage::Build { tunnel, message }));
        }
        Ok(false)
    }

    /// Bytes came over the link.
    pub(super) fn received(&mut self, now: Time, bytes: &mut [u8]) {
        self.io.handle_input(now, LinkInput::Received(bytes));
        self.drain(now);
    }

    /// Appends up to 64 KiB for the link's socket; false when there is nothing.
    pub(super) fn poll_transmit(&mut self, now: Time, buffer: &mut Vec<u8>) -> bool {
        let bytes = self.io.poll_transmit(now, buffer);
        self.drain(now);
        bytes > 0
    }

    /// Whether the link ended.
    pub(super) fn is_over(&self) -> bool {
        self.io.is_closed()
    }

    fn command(&mut self, now: Time, command: LinkCommand) {
        self.io.handle_input(now, LinkInput::Command(command));
    }

    fn drain(&mut self, now: Time) {
        while let Some(output) = self.io.poll_output() {
            match output {
                LinkOutput::Part { message, .. } => self.part(now, message),
                LinkOutput::Node(LinkEvent::Message(message)) if self.is_sink => {
                    if let LinkMessage::Build { tunnel, .. } = *message {
                        let reply = Box::new([0; BUILD_REPLY_LEN]);
                        let reply = LinkMessage::BuildReply { tunnel, reply };
                        let lane = Box::new(actors::own_lane());
                        self.command(now, LinkCommand::Open { tunnel, lane });
                        self.command(now, LinkCommand::Send(reply));
                    }
                }
                LinkOutput::Node(_) => {}
            }
        }
        self.fill(now);
    }

    fn part(&mut self, now: Time, message: PartMessage) {
        match message {
            PartMessage::Cells { tunnel, cells } => {
                self.received += cells.len() as u64;
                let cells = u32::try_from(cells.len()).unwrap_or(u32::MAX);
                let message = PartMessage::Drained { tunnel, splice: None, cells };
                self.io.handle_input(now, LinkInput::Part { from: END, message });
            }
            PartMessage::Drained { tunnel, cells, .. } => {
                if let Some(room) = self.room.iter_mut().find(|(id, _)| *id == tunnel) {
                    room.1 += cells;
                }
            }
            PartMessage::SpliceCells { .. } | PartMessage::Spent { .. } => {}
        }
    }

    fn fill(&mut self, now: Time) {
        for (tunnel, room) in &mut self.room {
            while *room >= BATCH {
                *room -= BATCH;
                let cells = vec![[0x5a; CELL_BODY_LEN]; BATCH as usize];
                let message = PartMessage::Cells { tunnel: *tunnel, cells };
                self.io.handle_input(now, LinkInput::Part { from: END, message });
            }
        }
    }
}

/// Runs source and sink, each on its own thread, until the hop hangs up.
///
/// # Errors
/// When the hop cannot be reached, or a link breaks.
pub fn run(settings: &LoadSettings) -> io::Result<()> {
    let clock = Clock::start();
    let listener = TcpListener::bind(actors::address(3))?;
    let network = &settings.invite.network;
    let member = |address: SocketAddr| {
        actors::identity(clock.now(), network, address.into())
            .ok_or_else(|| io::Error::other("no memory for a router's work"))
    };
    let sink = member(listener.local_addr()?)?;
    let source = member(SocketAddr::new(actors::address(2).ip(), 9_000))?;
    let [hop, ..] = &*settings.invite.routers else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let (hop, to) = (Arc::clone(hop), Arc::clone(&sink.descriptor));
    let sink = thread::spawn(move || block_on(empty(clock, listener, sink)));
    let source = block_on(fill(clock, source, settings.tunnels, hop, to));
    let sink = sink.join().unwrap_or_else(|_| Err(io::Error::other("the sink stopped")));
    source.and(sink)
}

fn block_on(work: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// The source: dials the hop, builds through it, fills.
async fn fill(
    clock: Clock,
    identity: LinkIdentity,
    tunnels: u32,
    hop: Arc<RouterDescriptor>,
    sink: Arc<RouterDescriptor>,
) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(actors::address(2))?;
    let contact = actors::contact(&hop)?;
    let stream = socket.connect(contact.address.socket()).await?;
    stream.set_nodelay(true)?;
    let machine = Handshake::initiate(clock.now(), identity, contact, entropy::generator());
    let established = actors::shake_over(clock, &stream, machine).await?;
    let mut generator = Generator::source(clock.time(), established);
    let (hops, rng, since) = ([hop, sink], entropy::generator(), clock.time());
    generator.builds = Some(Builds { hops, rng, since, done: 0, tunnels });
    drive(clock, stream, generator, &AtomicU64::new(0)).await
}

/// Fills lanes of one link, until the other side (`bench link`) hangs up.
///
/// # Errors
/// When it cannot be reached, or the link breaks.
pub fn run_link(settings: &LoadSettings) -> io::Result<()> {
    let clock = Clock::start();
    let network = &settings.invite.network;
    let address = SocketAddr::new(actors::address(2).ip(), 9_000); // nobody dials it
    let own = actors::identity(clock.now(), network, address.into())
        .ok_or_else(|| io::Error::other("no memory for a router's work"))?;
    let [peer, ..] = &*settings.invite.routers else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    block_on(async {
        let contact = actors::contact(peer)?;
        let stream = TcpStream::connect(contact.address.socket()).await?;
        stream.set_nodelay(true)?;
        let machine = Handshake::initiate(clock.now(), own, contact, entropy::generator());
        let established = actors::shake_over(clock, &stream, machine).await?;
        let mut generator = Generator::source(clock.time(), established);
        for number in 1..=settings.tunnels {
            generator.open(clock.time(), actors::lane_in(number));
        }
        match drive(clock, stream, generator, &AtomicU64::new(0)).await {
            // It may hang up with cells unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
            over => over,
        }
    })
}

/// The sink: waits for the hop's dial, accepts every build, empties.
async fn empty(clock: Clock, listener: TcpListener, identity: LinkIdentity) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let (stream, _) = tokio::net::TcpListener::from_std(listener)?.accept().await?;
    stream.set_nodelay(true)?;
    let machine = Handshake::accept(clock.now(), identity, entropy::generator());
    let established = actors::shake_over(clock, &stream, machine).await?;
    drive(clock, stream, Generator::sink(clock.time(), established), &AtomicU64::new(0)).await
}

/// Carries a generator's bytes until the link ends; `received` says how many cells came.
pub(super) async fn drive(
    clock: Clock,
    stream: TcpStream,
    mut generator: Generator,
    received: &AtomicU64,
) -> io::Result<()> {
    let mut input = vec![0; READ_LEN];
    let (mut output, mut sent) = (Vec::new(), 0);
    loop {
        let builds_on = generator.build(clock)?;
        let blocked = loop {
            if sent == output.len() {
                output.clear();
                sent = 0;
                if !generator.poll_transmit(clock.time(), &mut output) {
                    break false;
                }
            }
            match stream.try_write(output.get(sent..).unwrap_or_default()) {
                Ok(n) => sent += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break true,
                Err(error) => return Err(error),
            }
        };
        let interest =
            if blocked { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        let ready = stream.ready(interest);
        let ready = if builds_on {
            let Ok(ready) = timeout(BUILD_EVERY, ready).await else { continue };
            ready?
        } else {
            ready.await?
        };
        if !ready.is_readable() {
            continue;
        }
        match stream.try_read(&mut input) {
            Ok(0) => return Ok(()),
            Ok(n) => generator.received(clock.time(), input.get_mut(..n).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        received.store(generator.received, Ordering::Relaxed);
        if generator.is_over() {
            return Ok(());
        }
    }
}
