//! Arrows of what runs over own tunnels for a while: looks from outside, and files.
//!
//! Lives here: matches, and nothing that decides. Does not live here: all other arrows (`wiring.rs`).

use warren_overlay::{session::EndInput, time::Now, tunnel::pools::PoolsInput};

use crate::node::{
    Node, NodeOutput, probes::ProbesOutput, services::ServicesInput, transfers::TransfersOutput,
};

impl Node {
    pub(super) fn probes_say(&mut self, now: Now, output: ProbesOutput) {
        match output {
            ProbesOutput::NewEnd { end, machine } => {
                self.out.push_back(NodeOutput::NewEnd { end, machine });
            }
            ProbesOutput::End { end, input } => self.tell_end(end, input),
            ProbesOutput::DropEnd { end } => self.drop_end(now, end),
            ProbesOutput::TakeTunnel { end } => self.take_client(now, end),
            ProbesOutput::Seen { service: end, seen } => {
                self.services.handle_input(now, ServicesInput::Seen { end, seen });
            }
        }
    }

    pub(super) fn transfers_say(&mut self, now: Now, output: TransfersOutput) {
        match output {
            TransfersOutput::NewRequester { end, machine } => {
                self.out.push_back(NodeOutput::NewRequester { end, machine });
            }
            TransfersOutput::End { end, input } => self.tell_end(end, input),
            TransfersOutput::DropEnd { end } => self.drop_end(now, end),
            TransfersOutput::Take { end } => self.take_client(now, end),
            TransfersOutput::WantHops { end, count, hops } => {
                let hops = usize::from(hops);
                self.pools.handle_input(now, PoolsInput::WantExits { end, count, hops });
            }
            TransfersOutput::DropTunnel { end, tunnel } => {
                self.tell_end(end, EndInput::TunnelClosed { tunnel });
                let (link, tunnel) = tunnel;
                self.pools.handle_input(now, PoolsInput::Drop { link, tunnel });
            }
            TransfersOutput::Look { job, look } => {
                let found = self.holder.fetched(&look.address);
                self.transfers.looked(now.time, job, look, found);
            }
            TransfersOutput::Keep { block } => self.holder.keep_fetched(&block),
            TransfersOutput::Pin { job, block } => {
                if !self.holder.pin(now.time, &block) {
                    self.transfers.not_pinned(job);
                }
            }
            TransfersOutput::Event { job, event } => {
                self.out.push_back(NodeOutput::Job { job, event });
            }
        }
    }
}
