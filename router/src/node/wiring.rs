//! Every arrow of the control plane: whose output is whose input.
//!
//! Lives here: matches, and nothing that decides. Read it to know the house. Does not live here:
//! cells (they never come near the node), the driver's inputs (`node.rs`), looks from outside and
//! files (`wiring/jobs.rs`), asking after routers (`wiring/inquiries.rs`), reachability (`wiring/reach.rs`), admission (`wiring/admission.rs`).

mod admission;
mod ends;
mod inquiries;
mod jobs;
mod reach;

use std::sync::Arc;

use warren_datastore::{HolderInput, HolderOutput};
use warren_overlay::{
    answer::Answer,
    garlic::OwnTunnelName,
    id::{EndNo, LinkNo, RouterId, TunnelId},
    plane::{LinkCommand, LinkEvent},
    record::Record,
    ring::{self, Class, Request},
    session::EndInput,
    time::Now,
    tunnel::{
        pools::{PoolsInput, PoolsOutput},
        select::Avoid,
        transit::{TransitInput, TransitOutput},
    },
    wire::{Address, Contact, LinkMessage, RouterDescriptor},
};

use super::{
    Node, NodeInput, NodeOutput, Saved,
    contexts::{ContextsInput, ContextsOutput},
    exits::{ExitsInput, ExitsOutput},
    links::{Asked, Asker, LinksOutput},
    probes::ProbesInput,
    reach::Ask,
    services::{ServicesInput, ServicesOutput},
    transfers::TransfersInput,
};

impl Node {
    /// Something happened.
    pub fn handle_input(&mut self, now: Now, input: NodeInput) {
        match input {
            NodeInput::LinkUp { link, peer, initiator, peer_minute: _ } => {
                self.link_up(now, link, &peer, initiator);
            }
            NodeInput::LinkDown { link } => self.link_down(now, link),
            NodeInput::Link { link, event } => self.link_event(now, link, event),
            NodeInput::End { end, event } => self.end_event(now, end, event),
            NodeInput::Open { open, isolation, name, port } => {
                let end = self.new_end();
                let input = ContextsInput::Open { open, end, isolation, name, port };
                self.contexts.handle_input(now, input);
            }
            NodeInput::Expose { end, settings } => {
                self.services.handle_input(now, ServicesInput::Expose { end, settings });
            }
            NodeInput::Admit { end, clients } => {
                self.services.handle_input(now, ServicesInput::Admit { end, clients });
            }
            NodeInput::Access { name, key } => {
                self.contexts.handle_input(now, ContextsInput::Access { name, key });
            }
            NodeInput::Unexpose { end } => {
                self.services.handle_input(now, ServicesInput::Unexpose { end });
            }
            NodeInput::Job { job, input } => {
                let end = self.new_end();
                self.transfers.handle_input(now, TransfersInput::Job { job, end, input });
            }
            NodeInput::Door { door, also } => self.open_door(now, door, also),
            NodeInput::Moved { door } => self.moved(now, door),
            NodeInput::Found(contact, also) => self.found(now, &contact, also),
            NodeInput::Loaded(loaded) => self.loaded(now, loaded),
            NodeInput::Friends(friends) => self.befriend(now, friends),
            NodeInput::Transit(transit) => self.carry(now, transit),
            NodeInput::Leave => self.ring.handle_input(now, ring::Input::Leave),
        }
        self.wire(now);
    }

    fn link_up(&mut self, now: Now, link: LinkNo, peer: &Arc<RouterDescriptor>, initiator: bool) {
        if self.is_barred(now, link, peer) || self.is_dial_back(now, link, peer, initiator) {
            return;
        }
        let lost = self.links.up(now.time, link, peer, initiator);
        if let Some(remote) = self.links.remote(link) {
            let place = remote.prefix();
            self.pools.handle_input(now, PoolsInput::Linked(place));
            if !self.network.local {
                self.transit.handle_input(now, TransitInput::Place { link, place });
            }
        }
        if let Some(loser) = lost.filter(|lost| *lost != link) {
            self.ring.handle_input(now, ring::Input::LinkDown { link: loser });
        }
        if lost != Some(link)
            && let Some(remote) = self.links.remote(link)
        {
            let peer = Arc::clone(peer);
            self.ring.handle_input(now, ring::Input::LinkUp { link, peer, remote });
        }
    }

    pub(super) fn link_down(&mut self, now: Now, link: LinkNo) {
        self.end_dial_back(now, link, false);
        if self.links.down(now.time, link) {
            self.reach.link_down(link);
            self.ring.handle_input(now, ring::Input::LinkDown { link });
            self.transit.handle_input(now, TransitInput::LinkDown { link });
            self.pools.handle_input(now, PoolsInput::LinkDown { link });
            self.exits.handle_input(now, ExitsInput::LinkDown(link));
        }
    }

    fn link_event(&mut self, now: Now, link: LinkNo, event: LinkEvent) {
        match event {
            LinkEvent::Message(message) => self.message(now, link, *message),
            LinkEvent::LaneClosed { tunnel } => {
                self.links.lane_closed(now.time, link, tunnel);
                self.lane_closed(now, link, tunnel);
            }
            LinkEvent::EndHop { tunnel, event } => {
                let (at, room) = ((link, tunnel), self.holder.room());
                self.exits.handle_input(now, ExitsInput::EndHop { at, event: *event, room });
            }
            // The host turns it into LinkDown.
            LinkEvent::Quiet(quiet) => {
                self.pools.handle_input(now, PoolsInput::LinkQuiet { link, quiet });
            }
            LinkEvent::Closed(_) => {}
        }
    }

    /// Each machine ignores lanes that are not its own.
    fn lane_closed(&mut self, now: Now, link: LinkNo, tunnel: TunnelId) {
        self.transit.handle_input(now, TransitInput::LaneClosed { link, tunnel });
        self.pools.handle_input(now, PoolsInput::LaneClosed { link, tunnel });
        self.exits.handle_input(now, ExitsInput::LaneClosed((link, tunnel)));
    }

    fn message(&mut self, now: Now, link: LinkNo, message: LinkMessage) {
        match message {
            LinkMessage::Build { tunnel, message } => {
                if self.links.is_theirs(link, tunnel) {
                    let input = TransitInput::Build { link, tunnel, message };
                    self.transit.handle_input(now, input);
                }
            }
            LinkMessage::BuildReply { tunnel, reply } => {
                let input = TransitInput::Reply { link, tunnel, reply: reply.clone() };
                self.transit.handle_input(now, input);
                self.pools.handle_input(now, PoolsInput::Reply { link, tunnel, reply });
            }
            LinkMessage::SpliceOpen { tunnel, sealed } => {
                if self.links.is_theirs(link, tunnel) {
                    let input = ExitsInput::SpliceOpen { leg: (link, tunnel), sealed };
                    self.exits.handle_input(now, input);
                }
            }
            LinkMessage::SpliceReply { tunnel, accepted } => {
                let input = ExitsInput::SpliceReply { leg: (link, tunnel), accepted };
                self.exits.handle_input(now, input);
            }
            LinkMessage::Descriptor(descriptor) => {
                if self.links.refresh(now, link, &descriptor) {
                    self.friend_described(&descriptor);
                    let input = ring::Input::Descriptor { link, descriptor };
                    self.ring.handle_input(now, input);
                }
            }
            LinkMessage::Ring(message) => {
                self.ring.handle_input(now, ring::Input::Message { link, message });
            }
            LinkMessage::DialBack { port } => self.dial_back(now, link, port),
            LinkMessage::DialBackReply { seen, outcome } => {
                self.dialled_back(now, link, seen, outcome);
            }
            // The link's own business.
            LinkMessage::Padding(_)
            | LinkMessage::Ping
            | LinkMessage::Pong
            | LinkMessage::Goodbye
            | LinkMessage::Credit { .. }
            | LinkMessage::Teardown { .. }
            | LinkMessage::Part { .. } => {}
        }
    }

    /// Carries outputs until no machine has one.
    pub(super) fn wire(&mut self, now: Now) {
        let mut quiet = false;
        while !quiet {
            quiet = true;
            while let Some(output) = self.links.say() {
                self.links_say(now, output);
                quiet = false;
            }
            while let Some(Ask { link, port }) = self.reach.say() {
                let message = LinkMessage::DialBack { port };
                self.tell_link(now, link, LinkCommand::Send(message));
                quiet = false;
            }
            while let Some(output) = self.ring.say() {
                self.ring_say(now, output);
                quiet = false;
            }
            while let Some(output) = self.holder.say() {
                self.holder_say(now, output);
                quiet = false;
            }
            while let Some(output) = self.transit.say() {
                self.transit_say(now, output);
                quiet = false;
            }
            while let Some(output) = self.exits.say() {
                self.exits_say(now, output);
                quiet = false;
            }
            while let Some(output) = self.pools.say() {
                self.pools_say(now, output);
                quiet = false;
            }
            while let Some(output) = self.contexts.say() {
                self.contexts_say(now, output);
                quiet = false;
            }
            while let Some(output) = self.services.say() {
                self.services_say(now, output);
                quiet = false;
            }
            while let Some(output) = self.probes.say() {
                self.probes_say(now, output);
                quiet = false;
            }
            while let Some(output) = self.transfers.say() {
                self.transfers_say(now, output);
                quiet = false;
            }
            while let Some(output) = self.inquiries.say() {
                self.inquiries_say(now, output);
                quiet = false;
            }
        }
    }

    fn links_say(&mut self, now: Now, output: LinksOutput) {
        match output {
            LinksOutput::Dial { link, contact, also } => {
                self.out.push_back(NodeOutput::Dial { link, contact, also });
            }
            LinksOutput::Ready { asker, link } => self.connected(now, asker, link),
            LinksOutput::Refused { asker, id } => self.refused(now, id, asker),
            LinksOutput::Retire(link) => self.tell_link(now, link, LinkCommand::Goodbye),
        }
    }

    /// A link for a tunnel or splice: gives it a fresh lane number there.
    fn connected(&mut self, now: Now, asker: Asker, link: LinkNo) {
        if asker == Asker::Ring {
            return; // it hears of every link
        }
        let Some(tunnel) = self.links.new_lane(link) else { return self.unreachable(now, asker) };
        match asker {
            Asker::Ring => {}
            Asker::Transit(ask) => {
                self.transit.handle_input(now, TransitInput::Connected { ask, link, tunnel });
            }
            Asker::Pools(ask) => {
                self.pools.handle_input(now, PoolsInput::Connected { ask, link, tunnel });
            }
            Asker::Splice(ask) => {
                let input = ExitsInput::Connected { ask, lane: (link, tunnel) };
                self.exits.handle_input(now, input);
            }
        }
    }

    fn refused(&mut self, now: Now, id: RouterId, asker: Asker) {
        match asker {
            Asker::Ring => self.ring.handle_input(now, ring::Input::Unreachable { id }),
            asker => self.unreachable(now, asker),
        }
    }

    fn unreachable(&mut self, now: Now, asker: Asker) {
        match asker {
            Asker::Ring => {}
            Asker::Transit(ask) => {
                self.transit.handle_input(now, TransitInput::Unreachable { ask });
            }
            Asker::Pools(ask) => self.pools.handle_input(now, PoolsInput::Unreachable { ask }),
            Asker::Splice(ask) => self.exits.handle_input(now, ExitsInput::Unreachable { ask }),
        }
    }

    fn ask_peer(&mut self, now: Now, peer: &RouterDescriptor, asker: Asker) {
        match peer.contact() {
            Some(contact) => {
                let more = peer.fields().addresses.get(1..).unwrap_or_default();
                self.ask_link(now, &contact, more, asker, None);
            }
            None => self.refused(now, peer.id(), asker),
        }
    }

    /// `more`: where else that router is; others name one address alone.
    fn ask_link(
        &mut self,
        now: Now,
        contact: &Contact,
        more: &[Address],
        asker: Asker,
        asked_by: Option<LinkNo>,
    ) {
        if !self.ring.may_dial(&contact.id) {
            return self.refused(now, contact.id, asker);
        }
        match self.links.ask(now, contact, more, asker, asked_by) {
            Asked::Ready(link) => self.connected(now, asker, link),
            Asked::Pending => {}
            Asked::Refused => self.refused(now, contact.id, asker),
        }
    }

    /// Every command to a link passes here, so that the registry knows which lanes are open.
    fn tell_link(&mut self, now: Now, link: LinkNo, command: LinkCommand) {
        match &command {
            LinkCommand::Open { tunnel, .. } => self.links.lane_opened(link, *tunnel),
            LinkCommand::Close { tunnel, .. } => {
                self.links.lane_closed(now.time, link, *tunnel);
                // A tunnel that ended here takes its splices along, whoever closed it.
                self.exits.handle_input(now, ExitsInput::LaneClosed((link, *tunnel)));
            }
            _ => {}
        }
        self.out.push_back(NodeOutput::Link { link, command });
    }

    fn ring_say(&mut self, now: Now, output: ring::Output) {
        match output {
            ring::Output::Connect(peer) => {
                self.ask_peer(now, &peer, Asker::Ring);
            }
            ring::Output::Send { link, message } => {
                self.tell_link(now, link, LinkCommand::Send(message));
            }
            ring::Output::Keep { link } => self.links.keep(now.time, link, true),
            ring::Output::Release { link } => self.links.keep(now.time, link, false),
            ring::Output::CloseLink { link } => self.tell_link(now, link, LinkCommand::Shut),
            ring::Output::Store { ticket, op } => {
                self.holder.handle_input(now, HolderInput::Store { ticket, op });
            }
            ring::Output::Answer { query, asked, answer } => {
                if let Some(query) = self.queries.remove(&query) {
                    let input = ExitsInput::Answer { query, asked, answer };
                    self.exits.handle_input(now, input);
                }
            }
            ring::Output::Router { query, asked, answer } => {
                if let Some(query) = self.queries.remove(&query) {
                    let input = ExitsInput::Router { query, asked, answer };
                    self.exits.handle_input(now, input);
                }
            }
            ring::Output::Pushed { push, stored } => {
                self.holder.handle_input(now, HolderInput::Pushed { push, stored });
            }
            ring::Output::Repair { link, repair } => {
                self.holder.handle_input(now, HolderInput::Repair { link, repair });
            }
            ring::Output::View(view) => {
                if let Some(seasoned) = self.ring.seasoned(now) {
                    self.pools.handle_input(now, PoolsInput::Seasoned(seasoned));
                }
                self.pools.handle_input(now, PoolsInput::View(view));
            }
            ring::Output::Neighbourhood(neighbours) => {
                self.holder.handle_input(now, HolderInput::Neighbourhood(neighbours));
                self.save_soon(now);
            }
            ring::Output::HandOver => self.holder.handle_input(now, HolderInput::HandOver),
            ring::Output::Left => {
                let links: Vec<_> = self.links.up_links().map(|(link, _)| link).collect();
                for link in links {
                    self.tell_link(now, link, LinkCommand::Goodbye);
                }
            }
        }
    }

    fn holder_say(&mut self, now: Now, output: HolderOutput) {
        match output {
            HolderOutput::Held { ticket, held } => {
                self.ring.handle_input(now, ring::Input::Held { ticket, held });
            }
            HolderOutput::Send { link, message } => {
                self.tell_link(now, link, LinkCommand::Send(LinkMessage::Ring(message)));
            }
            HolderOutput::Push { push, link, block } => {
                self.ring.handle_input(now, ring::Input::Push { push, link, block });
            }
            HolderOutput::Repair { link, repair } => {
                self.ring.handle_input(now, ring::Input::Repair { link, repair });
            }
            HolderOutput::HandedOver => self.ring.handle_input(now, ring::Input::HandedOver),
        }
    }

    fn transit_say(&mut self, now: Now, output: TransitOutput) {
        match output {
            TransitOutput::Connect { ask, contact, asked_by } => {
                self.ask_link(now, &contact, &[], Asker::Transit(ask), Some(asked_by));
            }
            TransitOutput::Link { link, command } => self.tell_link(now, link, command),
        }
    }

    fn exits_say(&mut self, now: Now, output: ExitsOutput) {
        match output {
            ExitsOutput::Connect { ask, contact, asked_by } => {
                self.ask_link(now, &contact, &[], Asker::Splice(ask), Some(asked_by));
            }
            ExitsOutput::Link { link, command } => self.tell_link(now, link, command),
            ExitsOutput::Query { query, request, class } => {
                self.query(now, query, request, class);
            }
            ExitsOutput::Check { query, record } => {
                match Record::decode(record.as_bytes(), self.network()) {
                    Ok(record) => {
                        let request = Request::Put(record.into());
                        self.query(now, query, request, Class::Interactive);
                    }
                    // Signed by nobody, or for another network: nobody would keep it.
                    Err(_) => {
                        let input =
                            ExitsInput::Answer { query, asked: 0, answer: Answer::NotFound };
                        self.exits.handle_input(now, input);
                    }
                }
            }
        }
    }

    fn query(&mut self, now: Now, asked: u64, request: Request, class: Class) {
        self.query = self.query.wrapping_add(1);
        let query = self.query;
        self.queries.insert(query, asked);
        self.ring.handle_input(now, ring::Input::Query { query, request, class });
    }

    fn pools_say(&mut self, now: Now, output: PoolsOutput) {
        match output {
            PoolsOutput::Connect { ask, hop } => {
                self.ask_peer(now, &hop, Asker::Pools(ask));
            }
            PoolsOutput::Link { link, command } => self.tell_link(now, link, command),
            PoolsOutput::Ready { end, link, tunnel, layers, path } => {
                self.tunnel_ready(now, end, (link, tunnel), *layers, &path);
            }
            PoolsOutput::Retire { end, link, tunnel } => {
                let tunnel = (link, tunnel);
                self.services.handle_input(now, ServicesInput::TunnelGone { end, tunnel });
                self.tell_end(end, EndInput::RetireTunnel { tunnel });
            }
            PoolsOutput::Quiet { end, link, tunnel, quiet } => {
                let tunnel = (link, tunnel);
                self.services.handle_input(now, ServicesInput::TunnelQuiet { end, tunnel, quiet });
                self.tell_end(end, EndInput::TunnelQuiet { tunnel, quiet });
            }
            PoolsOutput::Lost { end, link, tunnel } => {
                self.tunnel_gone(now, end, (link, tunnel));
            }
            // The status says so from the ring's own count.
            PoolsOutput::TooFewRouters(_) | PoolsOutput::NoGuard => {}
            PoolsOutput::AnonymitySetTooSmall(small) => {
                if small && !self.relaxed {
                    tracing::warn!("the anonymity set is too small: path rules are relaxed");
                }
                self.relaxed = small;
            }
            PoolsOutput::StoreGuards(bytes) => {
                self.ring.protect(self.pools.kept());
                self.out.push_back(NodeOutput::Save(Saved::Guards(bytes)));
            }
        }
    }

    fn tell_end(&mut self, end: EndNo, input: EndInput) {
        self.out.push_back(NodeOutput::End { end, input: Box::new(input) });
    }

    fn drop_end(&mut self, now: Now, end: EndNo) {
        self.pools.handle_input(now, PoolsInput::DropEnd { end });
        self.out.push_back(NodeOutput::DropEnd { end });
    }

    fn take_client(&mut self, now: Now, end: EndNo) {
        let avoid = Avoid::none();
        self.pools.handle_input(now, PoolsInput::TakeClient { end, avoid });
    }

    fn contexts_say(&mut self, now: Now, output: ContextsOutput) {
        match output {
            ContextsOutput::NewEnd { end, machine } => {
                self.out.push_back(NodeOutput::NewEnd { end, machine });
            }
            ContextsOutput::End { end, input } => self.tell_end(end, input),
            ContextsOutput::DropEnd { end } => self.drop_end(now, end),
            ContextsOutput::TakeTunnel { end } => self.take_client(now, end),
            ContextsOutput::WantFewer { end, count } => {
                self.pools.handle_input(now, PoolsInput::WantFewer { end, count });
            }
            ContextsOutput::Failing { end, failure } => {
                self.out.push_back(NodeOutput::Failing { end, failure });
            }
            ContextsOutput::Opened { open, result } => {
                self.out.push_back(NodeOutput::Opened { open, result });
            }
        }
    }

    fn services_say(&mut self, now: Now, output: ServicesOutput) {
        match output {
            ServicesOutput::NewEnd { end, machine } => {
                self.out.push_back(NodeOutput::NewEnd { end, machine });
            }
            ServicesOutput::End { end, input } => self.tell_end(end, input),
            ServicesOutput::DropEnd { end } => self.drop_end(now, end),
            ServicesOutput::WantTunnels { end, count, hops, layer } => {
                self.pools.handle_input(now, PoolsInput::WantService { end, count, hops, layer });
            }
            ServicesOutput::Save { end, state } => {
                self.out.push_back(NodeOutput::Save(Saved::Service { end, state }));
            }
            ServicesOutput::Look(look) => {
                let end = self.new_end();
                self.probes.handle_input(now, ProbesInput::Look { end, look });
            }
            ServicesOutput::Dead { end, gateway } => {
                let leads = |tunnel: &OwnTunnelName| {
                    let hops = self.pools.hops(tunnel.0, tunnel.1);
                    hops.is_some_and(|hops| hops.last() == Some(&gateway))
                };
                if let Some(tunnel) = self.services.tunnels(end).into_iter().find(leads) {
                    self.tunnel_gone(now, end, tunnel);
                    let (link, tunnel) = tunnel;
                    self.pools.handle_input(now, PoolsInput::Failed { link, tunnel });
                }
            }
        }
    }
}
