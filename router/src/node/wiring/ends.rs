//! Arrows of what ends say: of their tunnels to the pools, all else to whoever holds the end.
//!
//! Lives here: matches, and nothing that decides. Does not live here: all other arrows (`wiring.rs`).

use warren_overlay::{id::EndNo, session::EndEvent, time::Now, tunnel::pools::PoolsInput};

use crate::node::{
    Node, contexts::ContextsInput, probes::ProbesInput, services::ServicesInput,
    transfers::TransfersInput,
};

impl Node {
    pub(super) fn end_event(&mut self, now: Now, end: EndNo, event: EndEvent) {
        match &event {
            EndEvent::TunnelFailed { tunnel: (link, tunnel) } => {
                let (link, tunnel) = (*link, *tunnel);
                self.tunnel_gone(now, end, (link, tunnel));
                self.pools.handle_input(now, PoolsInput::Failed { link, tunnel });
            }
            EndEvent::TunnelFree { tunnel: (link, tunnel) } => {
                let (link, tunnel) = (*link, *tunnel);
                self.tunnel_gone(now, end, (link, tunnel));
                self.pools.handle_input(now, PoolsInput::Drop { link, tunnel });
            }
            EndEvent::TunnelMute { tunnel: (link, tunnel), mute } => {
                let (link, tunnel, mute) = (*link, *tunnel, *mute);
                self.pools.handle_input(now, PoolsInput::Mute { link, tunnel, mute });
            }
            _ => {}
        }
        if self.services.holds(end) {
            self.services.handle_input(now, ServicesInput::End { end, event });
        } else if self.probes.holds(end) {
            self.probes.handle_input(now, ProbesInput::End { end, event });
        } else if self.transfers.holds(end) {
            self.transfers.handle_input(now, TransfersInput::End { end, event });
        } else {
            self.contexts.handle_input(now, ContextsInput::End { end, event });
        }
    }
}
