//! The owner's side of its tunnels: requests and splices, carried by whichever tunnel was chosen.
//!
//! Lives here: the set of tunnels of one `End`, and what its user (`session`) sees of them. Does
//! not live here: one tunnel's cells and credits (`owned.rs`), building and choosing tunnels, and
//! the session inside a splice.
//!
//! ```text
//!  session --open, send, consumed, close--> Carrier --Cells, Drained--> link of the first hop
//!          <--opened, data, writable, ----          <--Cells, Drained--
//!             closed, answers
//! ```

use std::collections::{BTreeMap, VecDeque};

use super::{clove::Clove, owned::OwnTunnel};
use crate::{
    crypto::onion::{OwnerBackward, OwnerForward},
    id::{LinkNo, SpliceId, TunnelId},
    plane::{CellBody, PartMessage},
    time::Time,
    wire::{Contact, SEALED_LEASE_LEN},
};

/// A tunnel of ours: the link to its first hop, and its id there.
pub type OwnTunnelName = (LinkNo, TunnelId);

/// A splice of one carrier. Never given out twice; what is said about one that ended does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpliceNo {
    pub(crate) slot: u32,
    pub(crate) splice: SpliceId,
}

/// What a carrier tells its user, and what it wants carried.
#[derive(Debug)]
pub enum CarrierOutput {
    /// For the link `to`.
    Part {
        /// The first hop's link.
        to: LinkNo,
        /// Up to 15 cells, or credit for consumed ones.
        message: PartMessage,
    },
    /// The answer to a request: `RecordAnswer`, `BlockAnswer` (a found block is the one that was asked
    /// for), `RouterAnswer`, `LeaseGranted` or `LeaseRefused`.
    Clove {
        /// The tunnel that it came through.
        tunnel: OwnTunnelName,
        /// The answer.
        clove: Clove,
    },
    /// The gateway accepted the splice.
    SpliceOpened {
        /// Which.
        splice: SpliceNo,
    },
    /// Somebody used a lease of this tunnel.
    SpliceIncoming {
        /// The gateway tunnel.
        tunnel: OwnTunnelName,
        /// The new splice; data may be sent at once.
        splice: SpliceNo,
    },
    /// One piece of a splice's bytes. Say [`Carrier::splice_consumed`] when it has left your hands.
    SpliceData {
        /// Which.
        splice: SpliceNo,
        /// 1 to 1,001 bytes.
        data: Vec<u8>,
    },
    /// There was no capacity when you asked; now there is.
    SpliceWritable {
        /// Which.
        splice: SpliceNo,
    },
    /// The splice is over: refused, closed from the far side, or its tunnel ended.
    SpliceClosed {
        /// Which.
        splice: SpliceNo,
    },
    /// The tunnel ended because of a cell that is not what its end hop sent, or because the end hop
    /// overstepped: close its lane, build another (PROTOCOL P7). Its splices were closed before.
    TunnelFailed {
        /// Which.
        tunnel: OwnTunnelName,
    },
}

/// The machine. No timers: what stalls is found by the session, and by the end hops.
///
/// Drain [`Self::poll_output`] after each batch of calls; cells are sealed there, so that several
/// small pieces given together share one.
#[derive(Debug, Default)]
pub struct Carrier {
    tunnels: BTreeMap<u32, OwnTunnel>,
    slots: BTreeMap<OwnTunnelName, u32>,
    next_slot: u32,
    outputs: VecDeque<CarrierOutput>,
}

impl Carrier {
    /// A carrier without tunnels.
    pub const fn new() -> Self {
        Self {
            tunnels: BTreeMap::new(),
            slots: BTreeMap::new(),
            next_slot: 0,
            outputs: VecDeque::new(),
        }
    }

    /// A tunnel was built; its lane on `link` leads here.
    pub fn add_tunnel(
        &mut self,
        link: LinkNo,
        tunnel: TunnelId,
        forward: OwnerForward,
        backward: OwnerBackward,
    ) {
        let name = (link, tunnel);
        self.remove_tunnel(name);
        let slot = self.next_slot;
        self.next_slot = self.next_slot.wrapping_add(1);
        self.slots.insert(name, slot);
        self.tunnels.insert(slot, OwnTunnel::new(slot, name, forward, backward));
    }

    /// A tunnel is gone or not wanted any more. Its splices are reported closed.
    pub fn remove_tunnel(&mut self, tunnel: OwnTunnelName) {
        let Some(slot) = self.slots.remove(&tunnel) else { return };
        if let Some(tunnel) = self.tunnels.remove(&slot) {
            let closed = tunnel.live().map(|splice| CarrierOutput::SpliceClosed { splice });
            self.outputs.extend(closed);
        }
    }

    /// Whether the tunnel is there.
    pub fn has_tunnel(&self, tunnel: OwnTunnelName) -> bool {
        self.slots.contains_key(&tunnel)
    }

    /// The tunnel that carries a splice, while both are there.
    pub fn tunnel_of(&self, splice: SpliceNo) -> Option<OwnTunnelName> {
        self.tunnels.get(&splice.slot).map(OwnTunnel::name)
    }

    /// A link says something: cells from an end hop, or that fed cells have left.
    pub fn handle_part(&mut self, now: Time, from: LinkNo, message: PartMessage) {
        match message {
            PartMessage::Cells { tunnel, cells } => self.receive(now, (from, tunnel), cells),
            PartMessage::Drained { tunnel, splice: None, cells } => {
                if let Some(tunnel) = self.named((from, tunnel)) {
                    tunnel.drained(cells);
                }
            }
            PartMessage::Drained { splice: Some(_), .. }
            | PartMessage::SpliceCells { .. }
            | PartMessage::Spent { .. } => {}
        }
    }

    fn receive(&mut self, now: Time, name: OwnTunnelName, cells: Vec<CellBody>) {
        let Some(slot) = self.slots.get(&name) else { return };
        let Some(tunnel) = self.tunnels.get_mut(slot) else { return };
        for mut cell in cells {
            if let Err(reason) = tunnel.receive(now, &mut cell, &mut self.outputs) {
                tracing::debug!(%reason, "own tunnel ended");
                self.remove_tunnel(name);
                self.outputs.push_back(CarrierOutput::TunnelFailed { tunnel: name });
                return;
            }
        }
    }

    /// Sends `RecordGet`, `RecordPut`, `RecordWatch`, `BlockGet`, `BlockPut`, `PutWork`, `RouterFind` or `LeaseRequest`.
    ///
    /// `false` if the tunnel is not there, the clove is none of these, its request number is in
    /// use on this tunnel, or 32 requests are open on it, 16 of them about blocks. Each is answered once, or its tunnel
    /// ends.
    #[must_use]
    pub fn send_clove(&mut self, tunnel: OwnTunnelName, clove: &Clove) -> bool {
        self.named(tunnel).is_some_and(|tunnel| tunnel.ask(clove))
    }

    /// How many more requests about blocks the tunnel takes now.
    pub fn block_room(&self, tunnel: OwnTunnelName) -> usize {
        let tunnel = self.slots.get(&tunnel).and_then(|slot| self.tunnels.get(slot));
        tunnel.map_or(0, OwnTunnel::block_room)
    }

    /// Sends a cell of padding, which no hop can tell from data. `false` if the feed window is full.
    pub fn send_padding(&mut self, tunnel: OwnTunnelName) -> bool {
        self.named(tunnel).is_some_and(OwnTunnel::pad)
    }

    /// Asks the tunnel's end hop for a splice. Up to 32 cells of data may follow at once.
    ///
    /// `None` if the tunnel is not there or has 1,024 splices.
    pub fn open_splice(
        &mut self,
        tunnel: OwnTunnelName,
        contact: Contact,
        sealed: [u8; SEALED_LEASE_LEN],
    ) -> Option<SpliceNo> {
        let tunnel = self.named(tunnel)?;
        tunnel.open_splice(|splice| Clove::SpliceOpen { splice, contact, sealed })
    }

    /// How many pieces the splice may send now: its credit, and what its tunnel's feed window has
    /// room for. After zero a [`CarrierOutput::SpliceWritable`] follows, once.
    pub fn splice_capacity(&mut self, splice: SpliceNo) -> usize {
        let tunnel = self.tunnels.get_mut(&splice.slot);
        tunnel.map_or(0, |tunnel| tunnel.capacity(splice.splice))
    }

    /// Sends one piece of 1 to 1,001 bytes. `false`, and nothing sent, beyond the capacity.
    #[must_use]
    pub fn splice_send(&mut self, splice: SpliceNo, data: &[u8]) -> bool {
        let tunnel = self.tunnels.get_mut(&splice.slot);
        tunnel.is_some_and(|tunnel| tunnel.send_data(splice.splice, data))
    }

    /// That many pieces of [`CarrierOutput::SpliceData`] have left the user's hands.
    pub fn splice_consumed(&mut self, now: Time, splice: SpliceNo, cells: u32) {
        if let Some(tunnel) = self.tunnels.get_mut(&splice.slot) {
            tunnel.consumed(now, splice.splice, cells);
        }
    }

    /// Closes a splice. What was sent before still arrives; nothing more is reported about it.
    pub fn close_splice(&mut self, splice: SpliceNo) {
        if let Some(tunnel) = self.tunnels.get_mut(&splice.slot) {
            tunnel.close_splice(splice.splice);
        }
    }

    /// What is to be done next; `None` when all is said.
    pub fn poll_output(&mut self) -> Option<CarrierOutput> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        for tunnel in self.tunnels.values_mut() {
            if let Some(message) = tunnel.take_part() {
                return Some(CarrierOutput::Part { to: tunnel.name().0, message });
            }
        }
        for tunnel in self.tunnels.values_mut() {
            tunnel.wake(&mut self.outputs);
        }
        self.outputs.pop_front()
    }

    fn named(&mut self, name: OwnTunnelName) -> Option<&mut OwnTunnel> {
        self.tunnels.get_mut(self.slots.get(&name)?)
    }

    /// Cells that wait for links, for the memory quota: at most 128 a tunnel.
    pub fn queued_cells(&self) -> usize {
        self.tunnels.values().map(OwnTunnel::queued_cells).sum()
    }
}
