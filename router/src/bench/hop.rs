//! A middle hop's data plane alone: two links, its lanes, and the mail between them.
//!
//! Lives here: carrying messages from link to link as `host.rs` does, without a control plane: so
//! that only what cells cost is counted. Does not live here: the whole router (`relay.rs`).

use std::collections::{BTreeMap, VecDeque};

use warren_overlay::{
    id::LinkNo,
    link::{Established, LinkInput, LinkIo, LinkOutput},
    plane::{LinkCommand, Part, PartMessage},
    time::Time,
};

use super::actors::{self, IN, OUT};
use crate::entropy;

/// A middle hop.
#[derive(Debug)]
pub(super) struct Hop {
    links: BTreeMap<LinkNo, LinkIo>,
    mail: VecDeque<(Part, Part, PartMessage)>,
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
        let mut this = Self { links, mail: VecDeque::new() };
        let mut rng = entropy::generator();
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
                LinkOutput::Node(_) => {}
            }
        }
    }
}
