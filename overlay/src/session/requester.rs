//! `Requester`: the near end of tunnels that only ask their end hops: for stored units, and after routers.
//!
//! Lives here: which requests are open through which tunnel, and that each is answered once. Does not
//! live here: sessions and streams (`end.rs`), the work that puts of blocks cost (`work.rs`), what is asked
//! for and through which tunnel (`router`).
//!
//! ```text
//!  links <──Part──> Carrier <──cloves── Requester <──Request, Tunnel── Node
//!                                                 ──Answer, Block──>
//! ```
//!
//! One file's tunnels end here and nobody else's requests use them; or one tunnel, for one question. It holds at most what its open
//! requests carry: 16 blocks a tunnel each way. It never waits for a tunnel: who asks names one.

use std::collections::{BTreeMap, VecDeque};

use super::{
    end_api::{EndEvent, EndInput, EndOutput},
    work::Works,
};
use crate::{
    answer::Answer,
    block::BLOCK_LEN,
    garlic::{Carrier, CarrierOutput, Clove, OwnTunnelName},
    time::{Now, Time},
};

/// What an open request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Record,
    Block,
    PutBlock,
    Router,
}

/// The machine. Its tunnels answer, or they end: it has a timer for work only.
#[derive(Debug, Default)]
pub struct Requester {
    carrier: Carrier,
    open: BTreeMap<(OwnTunnelName, u32), Ask>,
    works: Works,
    outputs: VecDeque<EndOutput>,
}

impl Requester {
    /// No tunnel yet.
    pub const fn new() -> Self {
        Self {
            carrier: Carrier::new(),
            open: BTreeMap::new(),
            works: Works::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Something happened. What only sessions know is ignored.
    pub fn handle_input(&mut self, now: Now, input: EndInput) {
        match input {
            EndInput::Part { from, message } => self.carrier.handle_part(now.time, from, message),
            EndInput::Tunnel { tunnel, layers: (forward, backward), route, .. } => {
                if let Some((exit, _)) = route.hops.last() {
                    self.works.add(tunnel, *exit);
                }
                self.carrier.add_tunnel(tunnel.0, tunnel.1, forward, backward);
            }
            // What it carries is asked for through others.
            EndInput::RetireTunnel { tunnel } => self.event(EndEvent::TunnelFree { tunnel }),
            EndInput::TunnelClosed { tunnel } => self.tunnel_closed(tunnel),
            EndInput::Request { tunnel, clove } => self.request(tunnel, clove),
            _ => {}
        }
    }

    fn tunnel_closed(&mut self, tunnel: OwnTunnelName) {
        self.carrier.remove_tunnel(tunnel);
        self.works.remove(tunnel);
        let range = (tunnel, 0)..=(tunnel, u32::MAX);
        let lost: Vec<_> = self.open.range(range).map(|(entry, ask)| (*entry, *ask)).collect();
        for (entry, ask) in lost {
            self.open.remove(&entry);
            self.no_answer(entry.1, ask);
        }
    }

    fn request(&mut self, tunnel: Option<OwnTunnelName>, clove: Clove) {
        let (request, ask) = match clove {
            Clove::RecordGet { request, .. }
            | Clove::RecordPut { request, .. }
            | Clove::RecordWatch { request, .. } => (request, Ask::Record),
            Clove::BlockGet { request, .. } => (request, Ask::Block),
            Clove::BlockPut { request, .. } => (request, Ask::PutBlock),
            Clove::RouterFind { request, .. } => (request, Ask::Router),
            _ => return,
        };
        let Some(tunnel) = tunnel else { return self.no_answer(request, ask) };
        let room = || self.carrier.block_room(tunnel) > self.works.waiting(tunnel);
        let taken = match ask {
            Ask::Record | Ask::Router => self.carrier.send_clove(tunnel, &clove),
            Ask::Block => room() && self.carrier.send_clove(tunnel, &clove),
            Ask::PutBlock if !room() || self.open.contains_key(&(tunnel, request)) => false,
            Ask::PutBlock => {
                self.works.put(tunnel, clove);
                true
            }
        };
        if taken {
            self.open.insert((tunnel, request), ask);
        } else {
            self.no_answer(request, ask);
        }
    }

    /// Sends what is paid for, and what pays.
    fn send_works(&mut self) {
        while let Some((tunnel, clove)) = self.works.poll_output() {
            if self.carrier.send_clove(tunnel, &clove) {
                continue;
            }
            // Its requests are all in use: with the work unseen, nothing would ever be put through it.
            match clove.request().filter(|_| clove.is_block()) {
                Some(request) => {
                    self.works.refund(tunnel);
                    self.open.remove(&(tunnel, request));
                    self.no_answer(request, Ask::PutBlock);
                }
                None => self.failed(tunnel),
            }
        }
    }

    /// A tunnel is of no more use.
    fn failed(&mut self, tunnel: OwnTunnelName) {
        self.tunnel_closed(tunnel);
        self.event(EndEvent::TunnelFailed { tunnel });
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Now) {
        self.works.handle_timeout(now.time);
    }

    /// When to be woken.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.works.poll_timeout()
    }

    fn no_answer(&mut self, request: u32, ask: Ask) {
        self.event(match ask {
            Ask::Record => EndEvent::Answer { request, asked: 0, answer: None },
            Ask::Block | Ask::PutBlock => EndEvent::Block { request, asked: 0, answer: None },
            Ask::Router => EndEvent::Router { request, answer: None },
        });
    }

    fn event(&mut self, event: EndEvent) {
        self.outputs.push_back(EndOutput::Node(event));
    }

    /// Bytes of blocks that it was given and that are not stored yet.
    pub fn held(&self) -> usize {
        self.open.values().filter(|ask| **ask == Ask::PutBlock).count() * BLOCK_LEN
    }

    /// What is to be done next; `None` when all is said.
    pub fn poll_output(&mut self) -> Option<EndOutput> {
        loop {
            self.send_works();
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            match self.carrier.poll_output()? {
                CarrierOutput::Part { to, message } => {
                    return Some(EndOutput::Part { to, message });
                }
                CarrierOutput::Clove { tunnel, clove } => self.answered(tunnel, clove),
                CarrierOutput::TunnelFailed { tunnel } => self.failed(tunnel),
                // Nobody has a lease of these tunnels; an end hop that says so has its splice closed.
                CarrierOutput::SpliceIncoming { splice, .. } => self.carrier.close_splice(splice),
                CarrierOutput::SpliceOpened { .. }
                | CarrierOutput::SpliceData { .. }
                | CarrierOutput::SpliceWritable { .. }
                | CarrierOutput::SpliceClosed { .. } => {}
            }
        }
    }

    fn answered(&mut self, tunnel: OwnTunnelName, clove: Clove) {
        let (request, event) = match clove {
            Clove::RecordAnswer { request, asked, answer } => {
                (request, EndEvent::Answer { request, asked, answer: Some(answer) })
            }
            Clove::BlockAnswer { request, asked, answer } => {
                let kept = matches!(answer, Answer::Stored { .. });
                if !kept && self.open.get(&(tunnel, request)) == Some(&Ask::PutBlock) {
                    self.works.refund(tunnel);
                }
                (request, EndEvent::Block { request, asked, answer: Some(answer) })
            }
            Clove::RouterAnswer { request, asked: _, answer } => {
                (request, EndEvent::Router { request, answer: Some(answer) })
            }
            Clove::PutPrice { request, price } => {
                if self.works.priced(tunnel, request, price).is_err() {
                    self.failed(tunnel);
                }
                return;
            }
            _ => return,
        };
        if self.open.remove(&(tunnel, request)).is_some() {
            self.event(event);
        }
    }
}
