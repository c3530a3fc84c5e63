//! Arrows of ends: what they say of their tunnels to the pools, all else to whoever holds the end, and to both
//! what becomes of an end's tunnels.
//!
//! Lives here: matches, and nothing that decides. Does not live here: all other arrows (`wiring.rs`).

use std::sync::Arc;

use warren_overlay::{
    garlic::OwnTunnelName,
    id::EndNo,
    session::{EndEvent, EndInput, Route},
    time::Now,
    tunnel::{build::OwnerLayers, pools::PoolsInput},
    wire::RouterDescriptor,
};

use crate::node::{
    Node,
    contexts::ContextsInput,
    inquiries::InquiriesInput,
    probes::ProbesInput,
    services::ServicesInput,
    transfers::{Last, TransfersInput},
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
        } else if self.inquiries.holds(end) {
            self.inquiries.handle_input(now, InquiriesInput::End { end, event });
        } else {
            self.contexts.handle_input(now, ContextsInput::End { end, event });
        }
    }

    /// A tunnel for an end; a service's last hop becomes its gateway.
    pub(super) fn tunnel_ready(
        &mut self,
        now: Now,
        end: EndNo,
        tunnel: OwnTunnelName,
        layers: OwnerLayers,
        path: &[Arc<RouterDescriptor>],
    ) {
        let hops = path.iter().filter_map(|hop| Some((hop.id(), hop.address()?))).collect();
        let is_service = self.services.holds(end);
        let gateway = path.last().filter(|_| is_service).and_then(|hop| hop.contact());
        let layers = (layers.forward, layers.backward);
        let input = EndInput::Tunnel { tunnel, layers, route: Route { hops }, gateway };
        self.tell_end(end, input);
        self.services.handle_input(now, ServicesInput::Tunnel { end, tunnel });
        self.contexts.handle_input(now, ContextsInput::Tunnel { end });
        if let Some(last) = path.last() {
            let (exit, place) = (last.id(), last.prefix().filter(|_| !self.network.local));
            let asks = InquiriesInput::Tunnel { end, tunnel, exit, place };
            self.inquiries.handle_input(now, asks);
            let last = Last { router: last.id(), takes_work: last.takes_work() };
            self.transfers.handle_input(now, TransfersInput::TunnelReady { end, tunnel, last });
        }
    }

    pub(super) fn tunnel_gone(&mut self, now: Now, end: EndNo, tunnel: OwnTunnelName) {
        self.services.handle_input(now, ServicesInput::TunnelGone { end, tunnel });
        self.transfers.handle_input(now, TransfersInput::TunnelGone { end, tunnel });
        self.inquiries.handle_input(now, InquiriesInput::TunnelGone { end });
        self.tell_end(end, EndInput::TunnelClosed { tunnel });
    }
}
