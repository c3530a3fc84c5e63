//! Load generators: the owner's side of a hop, and the far side, without onion work of their own.
//!
//! Lives here: keeping lanes full and emptying them, over a socket or in memory; the process that
//! holds both generators. Does not live here: the hop (`hop.rs`).
//!
//! A middle hop cannot tell what is in a cell, so these are made once and not encrypted again.

use std::{io, net::SocketAddr, thread};

use tokio::{io::Interest, net::TcpStream, runtime};
use warren_overlay::{
    id::{EndNo, TunnelId},
    link::{Established, Handshake, LinkInput, LinkIo, LinkOutput},
    plane::{CELL_BODY_LEN, LinkCommand, Part, PartMessage},
    time::Time,
};

use super::{
    actors::{self, Clock, HOP, IN, OUT, SINK, SOURCE},
    socket::{READ_LEN, tune},
};

/// What an end may have waiting in a link's egress, per tunnel (INTERFACES: feed window).
const FEED_WINDOW: u32 = 128;
/// Cells per message: a frame's worth.
const BATCH: u32 = 15;
const END: Part = Part::End(EndNo(1));

/// How the generators find the hop.
#[derive(Clone, Copy, Debug)]
pub struct LoadSettings {
    /// Where the hop takes the source's link.
    pub source: SocketAddr,
    /// Where it takes the sink's.
    pub sink: SocketAddr,
    /// Tunnels through the hop, 1 to 10,000.
    pub tunnels: u32,
}

/// One generator: a link, and lanes that are filled or emptied.
#[derive(Debug)]
pub(super) struct Generator {
    io: LinkIo,
    /// Room in the egress of each lane that is filled.
    room: Vec<(TunnelId, u32)>,
    /// Cells that came.
    pub(super) received: u64,
}

impl Generator {
    /// Fills `tunnels` lanes.
    pub(super) fn source(now: Time, established: Established, tunnels: u32) -> Self {
        let lanes = (1..=tunnels).map(actors::lane_in);
        let mut this = Self::new(now, actors::link_io(now, IN, established), lanes.clone());
        this.room = lanes.map(|lane| (lane, FEED_WINDOW)).collect();
        this.fill(now);
        this
    }

    /// Empties `tunnels` lanes.
    pub(super) fn sink(now: Time, established: Established, tunnels: u32) -> Self {
        let lanes = (1..=tunnels).map(actors::lane_out);
        Self::new(now, actors::link_io(now, OUT, established), lanes)
    }

    fn new(now: Time, mut io: LinkIo, lanes: impl Iterator<Item = TunnelId>) -> Self {
        for tunnel in lanes {
            let command = LinkCommand::Open { tunnel, lane: Box::new(actors::own_lane()) };
            io.handle_input(now, LinkInput::Command(command));
        }
        let mut this = Self { io, room: Vec::new(), received: 0 };
        this.drain(now);
        this
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

    fn drain(&mut self, now: Time) {
        while let Some(output) = self.io.poll_output() {
            match output {
                LinkOutput::Part { message: PartMessage::Cells { tunnel, cells }, .. } => {
                    self.received += cells.len() as u64;
                    let cells = u32::try_from(cells.len()).unwrap_or(u32::MAX);
                    let message = PartMessage::Drained { tunnel, splice: None, cells };
                    self.io.handle_input(now, LinkInput::Part { from: END, message });
                }
                LinkOutput::Part {
                    message: PartMessage::Drained { tunnel, cells, .. }, ..
                } => {
                    if let Some(room) = self.room.iter_mut().find(|(id, _)| *id == tunnel) {
                        room.1 += cells;
                    }
                }
                LinkOutput::Part { .. } | LinkOutput::Node(_) => {}
            }
        }
        self.fill(now);
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
pub fn run(settings: LoadSettings) -> io::Result<()> {
    let sink = thread::spawn(move || {
        one(SINK, settings.sink, |now, established| {
            Generator::sink(now, established, settings.tunnels)
        })
    });
    let source = one(SOURCE, settings.source, |now, established| {
        Generator::source(now, established, settings.tunnels)
    });
    let sink = sink.join().unwrap_or_else(|_| Err(io::Error::other("the sink stopped")));
    source.and(sink)
}

fn one(
    seed: u8,
    address: SocketAddr,
    make: impl FnOnce(Time, Established) -> Generator,
) -> io::Result<()> {
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let clock = Clock::start();
        let stream = TcpStream::connect(address).await?;
        tune(&stream);
        let identity = actors::identity(seed);
        let machine =
            Handshake::initiate(clock.now(), identity, actors::contact(HOP), actors::fresh_rng());
        let established = actors::shake_over(clock, &stream, machine).await?;
        drive(clock, stream, make(clock.time(), established)).await
    })
}

async fn drive(clock: Clock, stream: TcpStream, mut generator: Generator) -> io::Result<()> {
    let mut input = vec![0; READ_LEN];
    let (mut output, mut sent) = (Vec::new(), 0);
    loop {
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
        if !stream.ready(interest).await?.is_readable() {
            continue;
        }
        match stream.try_read(&mut input) {
            Ok(0) => return Ok(()),
            Ok(n) => generator.received(clock.time(), input.get_mut(..n).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if generator.is_over() {
            return Ok(());
        }
    }
}
