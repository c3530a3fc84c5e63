//! The router that is measured: two links, a middle hop's lanes, and the mail between them.
//!
//! Lives here: carrying messages from link to link as the router's host does. Does not live here:
//! sockets (`socket.rs`), and the figures (`relay.rs`).

use std::collections::{BTreeMap, VecDeque};

use warren_overlay::{
    id::LinkNo,
    link::{Established, LinkInput, LinkIo, LinkOutput},
    plane::{CloseReason, LinkCommand, LinkEvent, Part, PartMessage},
    time::Time,
};

use super::actors::{self, IN, OUT};

/// A middle hop.
#[derive(Debug)]
pub(super) struct Hop {
    links: BTreeMap<LinkNo, LinkIo>,
    mail: VecDeque<(Part, Part, PartMessage)>,
    /// Why a link ended, if one did.
    pub(super) over: Option<CloseReason>,
}

impl Hop {
    /// A hop of `tunnels` tunnels between two links.
    pub(super) fn new(
        now: Time,
        came_in: Established,
        goes_out: Established,
        tunnels: u32,
    ) -> Self {
        let link = |no, established| (no, actors::link_io(now, no, established));
        let links = BTreeMap::from([link(IN, came_in), link(OUT, goes_out)]);
        let mut this = Self { links, mail: VecDeque::new(), over: None };
        let mut rng = actors::fresh_rng();
        for number in 1..=tunnels {
            let (forward, backward) = actors::transit_lanes(number, &mut rng);
            for (link, tunnel, lane) in
                [(IN, actors::lane_in(number), forward), (OUT, actors::lane_out(number), backward)]
            {
                let command = LinkCommand::Open { tunnel, lane: Box::new(lane) };
                this.input(now, link, LinkInput::Command(command));
            }
        }
        this
    }

    /// Bytes came over a link.
    pub(super) fn received(&mut self, now: Time, link: LinkNo, bytes: &mut [u8]) {
        self.input(now, link, LinkInput::Received(bytes));
    }

    /// Appends up to 64 KiB for the link's socket; false when there is nothing.
    pub(super) fn poll_transmit(&mut self, now: Time, link: LinkNo, buffer: &mut Vec<u8>) -> bool {
        let Some(io) = self.links.get_mut(&link) else { return false };
        let bytes = io.poll_transmit(now, buffer);
        self.drain(link);
        self.settle(now);
        bytes > 0
    }

    /// Whether `poll_transmit` may have something.
    pub(super) fn wants_transmit(&self, link: LinkNo) -> bool {
        self.links.get(&link).is_some_and(LinkIo::wants_transmit)
    }

    /// Time passed.
    pub(super) fn handle_timeout(&mut self, now: Time) {
        for io in self.links.values_mut() {
            if io.poll_timeout().is_some_and(|at| at <= now) {
                io.handle_timeout(now);
            }
        }
        for link in [IN, OUT] {
            self.drain(link);
        }
        self.settle(now);
    }

    /// When to call `handle_timeout`.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.links.values().filter_map(LinkIo::poll_timeout).min()
    }

    /// Cells that have left for the sink.
    pub(super) fn cells(&self) -> u64 {
        self.links.get(&OUT).map_or(0, |io| io.counters().cells_out)
    }

    fn input(&mut self, now: Time, link: LinkNo, input: LinkInput<'_>) {
        if let Some(io) = self.links.get_mut(&link) {
            io.handle_input(now, input);
            self.drain(link);
            self.settle(now);
        }
    }

    fn settle(&mut self, now: Time) {
        while let Some((from, to, message)) = self.mail.pop_front() {
            let Part::Link(link) = to else { continue };
            if let Some(io) = self.links.get_mut(&link) {
                io.handle_input(now, LinkInput::Part { from, message });
                self.drain(link);
            }
        }
    }

    fn drain(&mut self, link: LinkNo) {
        let Some(io) = self.links.get_mut(&link) else { return };
        while let Some(output) = io.poll_output() {
            match output {
                LinkOutput::Part { to, message } => {
                    self.mail.push_back((Part::Link(link), to, message));
                }
                LinkOutput::Node(LinkEvent::Closed(reason)) => self.over = Some(reason),
                LinkOutput::Node(_) => {}
            }
        }
    }
}
