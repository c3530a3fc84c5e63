//! Arrows of asking after routers: whom the ring and the pools know, through which tunnel, and what comes of it.
//!
//! Lives here: matches, and who may be asked after at all. Does not live here: all other arrows (`wiring.rs`).

use warren_overlay::{id::Location, time::Now};

use crate::node::{
    Node, NodeOutput,
    inquiries::{InquiriesInput, InquiriesOutput},
};

impl Node {
    pub(super) fn inquiries_say(&mut self, now: Now, output: InquiriesOutput) {
        match output {
            InquiriesOutput::Look => self.look_around(now),
            InquiriesOutput::Ask(location) => self.ask_after(now, location),
            InquiriesOutput::NewRequester { end, machine } => {
                self.out.push_back(NodeOutput::NewRequester { end, machine });
            }
            InquiriesOutput::Take { end } => self.take_client(now, end),
            InquiriesOutput::End { end, input } => self.tell_end(end, input),
            InquiriesOutput::DropEnd { end } => self.drop_end(now, end),
            InquiriesOutput::Fresh(it) => _ = self.ring.renew(now, &it),
            InquiriesOutput::Gone(id) => {
                // What others say counts less than that a link or a tunnel to it stands.
                let linked = self.links.up_links().any(|(_, peer)| peer.id() == id);
                if !linked && !self.pools.leads_through(id) {
                    self.ring.lose(now, &id);
                }
            }
        }
    }

    /// A tunnel of one hop would show its only hop who asks; and who is not on the ring knows nothing.
    fn look_around(&mut self, now: Now) {
        if self.hops < 2 || !self.ring.status().joined {
            return;
        }
        let sampled = self.ring.sampled().cloned().collect();
        let (kept, failed) = (self.pools.kept().collect(), self.pools.failing().collect());
        self.inquiries.handle_input(now, InquiriesInput::Known { sampled, kept, failed });
    }

    /// Only with a tunnel in stock: no conversation waits for a question.
    fn ask_after(&mut self, now: Now, location: Location) {
        let end = (self.pools.status().stock > 0).then(|| self.new_end());
        self.inquiries.handle_input(now, InquiriesInput::Ask { end, location });
    }
}
