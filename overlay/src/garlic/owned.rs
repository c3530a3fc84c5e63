//! One tunnel of ours, as its owner sees it.
//!
//! Lives here: making and opening its cells, its clove stream each way, its splices' credits, and
//! the feed window into the link's egress. Does not live here: which tunnel to use (`session`,
//! `tunnel/pools`), and what is inside a splice.
//!
//! Nothing waits here that could grow: splice data is written into a cell when it is given, and is
//! refused when there is no credit or no feed window; control cloves wait, one for each open
//! request and a few for each splice.

use std::collections::{BTreeMap, VecDeque};

use super::{
    carrier::{CarrierOutput, SpliceNo},
    cell::{Fill, payload},
    clove::{Clove, HEAD_LEN},
    end_hop::{BLOCK_REQUESTS_MAX, HOP_BIT, REQUESTS_MAX, SPLICES_MAX},
    flow::{Inflow, Outflow},
    hop_api::EndHopError,
    hop_splice::BATCH_MAX,
    packer::{CloveReader, CloveWriter, Piece},
};
use crate::{
    answer::Answer,
    block::BlockAddress,
    crypto::onion::{OwnerBackward, OwnerForward},
    id::{LinkNo, SpliceId, TunnelId},
    plane::{CELL_BODY_LEN, CellBody, PartMessage},
    time::Time,
};

/// Most of our cells that may wait in the first link's egress, per tunnel (plane.rs).
pub(crate) const FEED_MAX: u32 = 128;

/// A splice's credits.
#[derive(Debug)]
struct OwnSplice {
    inflow: Inflow,
    outflow: Outflow,
    phase: Phase,
    /// The user found no capacity and wants to know when there is some.
    wants: bool,
    in_urgent: bool,
    in_blocked: bool,
    /// Cells it may send before it goes to the end of the line, where others wait.
    turn: u32,
}

/// What an open request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Block(BlockAddress),
    PutBlock,
    Router,
    Other,
}

impl Ask {
    const fn is_block(self) -> bool {
        matches!(self, Self::Block(_) | Self::PutBlock)
    }
}

/// How far a splice has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Data may be sent; the gateway has not answered.
    Opening,
    /// The user knows that it is open.
    Opened,
    /// The user closed it; `SpliceClosed` is to be said.
    Closing,
}

impl OwnSplice {
    const fn closing(&self) -> bool {
        matches!(self.phase, Phase::Closing)
    }

    const fn new(phase: Phase) -> Self {
        Self {
            inflow: Inflow::new(),
            outflow: Outflow::new(),
            phase,
            wants: false,
            in_urgent: false,
            in_blocked: false,
            turn: 0,
        }
    }
}

/// The state of one tunnel.
#[derive(Debug)]
pub(crate) struct OwnTunnel {
    slot: u32,
    link: LinkNo,
    tunnel: TunnelId,
    forward: OwnerForward,
    backward: OwnerBackward,
    reader: CloveReader,
    writer: CloveWriter,
    /// Open requests; of a block that is asked for, its address.
    requests: BTreeMap<u32, Ask>,
    splices: BTreeMap<SpliceId, OwnSplice>,
    last_own: u32,
    last_incoming: u32,
    /// Splices with a grant or a close to say.
    urgent: VecDeque<SpliceId>,
    /// Splices with credit that wait for the feed window.
    blocked: VecDeque<SpliceId>,
    /// Several splices want the feed window: they take turns.
    contended: bool,
    feed_room: u32,
    /// Sealed cells, but for the last while `open` is set.
    batch: Vec<CellBody>,
    open: Option<Fill>,
    full: VecDeque<Vec<CellBody>>,
    /// Cells that were opened and that the link was not told of yet.
    consumed: u32,
}

impl OwnTunnel {
    pub(crate) const fn new(
        slot: u32,
        (link, tunnel): (LinkNo, TunnelId),
        forward: OwnerForward,
        backward: OwnerBackward,
    ) -> Self {
        Self {
            slot,
            link,
            tunnel,
            forward,
            backward,
            reader: CloveReader::new(),
            writer: CloveWriter::new(),
            requests: BTreeMap::new(),
            splices: BTreeMap::new(),
            last_own: 0,
            last_incoming: HOP_BIT,
            urgent: VecDeque::new(),
            blocked: VecDeque::new(),
            contended: false,
            feed_room: FEED_MAX,
            batch: Vec::new(),
            open: None,
            full: VecDeque::new(),
            consumed: 0,
        }
    }

    pub(crate) const fn name(&self) -> (LinkNo, TunnelId) {
        (self.link, self.tunnel)
    }

    const fn no(&self, splice: SpliceId) -> SpliceNo {
        SpliceNo { slot: self.slot, splice }
    }

    // ---- from the end hop ----

    /// Opens one cell and says what was in it.
    pub(crate) fn receive(
        &mut self,
        now: Time,
        cell: &mut CellBody,
        out: &mut VecDeque<CarrierOutput>,
    ) -> Result<(), EndHopError> {
        if !self.backward.open(cell) {
            return Err(EndHopError::Unrecognised);
        }
        self.consumed = self.consumed.saturating_add(1);
        let (payload, mut at) = (payload(cell), 0);
        while at < payload.len() {
            match self.reader.next(payload, &mut at)? {
                Some(Piece::Data { splice, data }) => self.receive_data(now, splice, data, out)?,
                Some(Piece::Clove(clove)) => self.receive_clove(clove, out)?,
                None => {}
            }
        }
        Ok(())
    }

    fn receive_data(
        &mut self,
        now: Time,
        id: SpliceId,
        data: &[u8],
        out: &mut VecDeque<CarrierOutput>,
    ) -> Result<(), EndHopError> {
        let no = self.no(id);
        let Some(splice) = self.splices.get_mut(&id) else { return self.late(id) };
        splice.inflow.receive(now).map_err(|_| EndHopError::Overstepped("splice data"))?;
        if !splice.closing() {
            out.push_back(CarrierOutput::SpliceData { splice: no, data: data.to_vec() });
        }
        Ok(())
    }

    fn receive_clove(
        &mut self,
        clove: Clove,
        out: &mut VecDeque<CarrierOutput>,
    ) -> Result<(), EndHopError> {
        let tunnel = self.name();
        match clove {
            Clove::RecordAnswer { request, .. }
            | Clove::BlockAnswer { request, .. }
            | Clove::PutPrice { request, .. }
            | Clove::RouterAnswer { request, .. }
            | Clove::Probed { request }
            | Clove::LeaseGranted { request, .. }
            | Clove::LeaseRefused { request } => {
                let ask = self.requests.remove(&request);
                let fits = match (&clove, ask) {
                    // The end hop was asked for a certain block, and had to check it as well.
                    (
                        Clove::BlockAnswer { answer: Answer::Found(block), .. },
                        Some(Ask::Block(address)),
                    ) => block.address() == address,
                    (Clove::BlockAnswer { answer: Answer::Found(_), .. }, _) => false,
                    (Clove::BlockAnswer { .. }, ask) => {
                        matches!(ask, Some(Ask::Block(_) | Ask::PutBlock))
                    }
                    (Clove::RouterAnswer { .. }, ask) => ask == Some(Ask::Router),
                    (_, ask) => ask == Some(Ask::Other),
                };
                if !fits {
                    return Err(EndHopError::OutOfPlace);
                }
                out.push_back(CarrierOutput::Clove { tunnel, clove });
            }
            Clove::LeaseCrowd(_) => out.push_back(CarrierOutput::Clove { tunnel, clove }),
            Clove::SpliceOpened { splice: id } => {
                let no = self.no(id);
                let Some(splice) = self.splices.get_mut(&id) else { return self.late(id) };
                if splice.phase == Phase::Opening {
                    splice.phase = Phase::Opened;
                    out.push_back(CarrierOutput::SpliceOpened { splice: no });
                }
            }
            Clove::SpliceIncoming { splice: id } => {
                if id.0 <= self.last_incoming {
                    return Err(EndHopError::OutOfPlace);
                }
                if self.splices.len() >= 2 * SPLICES_MAX {
                    return Err(EndHopError::Overstepped("splices"));
                }
                self.last_incoming = id.0;
                self.splices.insert(id, OwnSplice::new(Phase::Opened));
                out.push_back(CarrierOutput::SpliceIncoming { tunnel, splice: self.no(id) });
            }
            Clove::SpliceClosed { splice: id } => {
                let Some(splice) = self.splices.get(&id) else { return self.late(id) };
                if !splice.closing() {
                    out.push_back(CarrierOutput::SpliceClosed { splice: self.no(id) });
                }
                self.remove(id);
            }
            Clove::SpliceCredit { splice: id, cells } => {
                let Some(splice) = self.splices.get_mut(&id) else { return self.late(id) };
                splice
                    .outflow
                    .grant(cells)
                    .map_err(|_| EndHopError::Overstepped("splice credit"))?;
                if splice.wants && !std::mem::replace(&mut splice.in_blocked, true) {
                    self.blocked.push_back(id);
                }
            }
            Clove::Probe { .. }
            | Clove::RecordGet { .. }
            | Clove::RecordPut { .. }
            | Clove::RecordWatch { .. }
            | Clove::BlockGet { .. }
            | Clove::BlockPut { .. }
            | Clove::PutWork { .. }
            | Clove::RouterFind { .. }
            | Clove::SpliceOpen { .. }
            | Clove::SpliceData { .. }
            | Clove::LeaseRequest { .. } => return Err(EndHopError::OutOfPlace),
        }
        Ok(())
    }

    const fn late(&self, id: SpliceId) -> Result<(), EndHopError> {
        let last = if id.0 >= HOP_BIT { self.last_incoming } else { self.last_own };
        if id.0 <= last { Ok(()) } else { Err(EndHopError::OutOfPlace) }
    }

    // ---- from the user ----

    /// Sends a request, unless too many are open or its number is in use.
    pub(crate) fn ask(&mut self, clove: &Clove) -> bool {
        let Some(request) = clove.request().filter(|_| clove.asks()) else { return false };
        let ask = match clove {
            Clove::BlockGet { address, .. } => Ask::Block(*address),
            Clove::BlockPut { .. } => Ask::PutBlock,
            Clove::RouterFind { .. } => Ask::Router,
            _ => Ask::Other,
        };
        let room = self.requests.len() < REQUESTS_MAX && (!ask.is_block() || self.block_room() > 0);
        if !room || self.requests.contains_key(&request) {
            return false;
        }
        self.requests.insert(request, ask);
        self.writer.push(clove);
        true
    }

    /// How many more requests about blocks may be open.
    pub(crate) fn block_room(&self) -> usize {
        let open = self.requests.values().filter(|ask| ask.is_block()).count();
        let all = REQUESTS_MAX.saturating_sub(self.requests.len());
        BLOCK_REQUESTS_MAX.saturating_sub(open).min(all)
    }

    /// The clove that opens the splice goes ahead of its data, since control goes first.
    pub(crate) fn open_splice(
        &mut self,
        clove: impl FnOnce(SpliceId) -> Clove,
    ) -> Option<SpliceNo> {
        let next = self.last_own + 1;
        if self.splices.len() >= SPLICES_MAX || next >= HOP_BIT {
            return None;
        }
        self.last_own = next;
        let id = SpliceId(next);
        self.splices.insert(id, OwnSplice::new(Phase::Opening));
        self.writer.push(&clove(id));
        Some(self.no(id))
    }

    pub(crate) fn close_splice(&mut self, id: SpliceId) {
        let Some(splice) = self.splices.get_mut(&id) else { return };
        splice.phase = Phase::Closing;
        if !std::mem::replace(&mut splice.in_urgent, true) {
            self.urgent.push_back(id);
        }
    }

    pub(crate) fn consumed(&mut self, now: Time, id: SpliceId, cells: u32) {
        let Some(splice) = self.splices.get_mut(&id) else { return };
        let due = splice.inflow.drain(now, cells);
        if due && !std::mem::replace(&mut splice.in_urgent, true) {
            self.urgent.push_back(id);
        }
    }

    /// How many cells the splice may send now; zero means that it will be told when it may.
    pub(crate) fn capacity(&mut self, id: SpliceId) -> usize {
        self.write_control();
        let Some(splice) = self.splices.get_mut(&id).filter(|splice| !splice.closing()) else {
            return 0;
        };
        let credit = splice.outflow.credit();
        let turn = if self.contended { splice.turn } else { u32::MAX };
        let cells = credit.min(self.feed_room).min(turn);
        if cells == 0 {
            splice.wants = true;
            if credit > 0 && !std::mem::replace(&mut splice.in_blocked, true) {
                self.blocked.push_back(id);
                self.contended = true;
            }
        }
        usize::try_from(cells).unwrap_or(usize::MAX)
    }

    /// Writes one piece of data into a cell: the only copy it costs.
    pub(crate) fn send_data(&mut self, id: SpliceId, data: &[u8]) -> bool {
        if self.capacity(id) == 0 || !self.write_data(id, data) {
            return false;
        }
        if let Some(splice) = self.splices.get_mut(&id) {
            splice.outflow.spend();
            splice.turn = splice.turn.saturating_sub(1);
        }
        true
    }

    fn write_data(&mut self, id: SpliceId, data: &[u8]) -> bool {
        for _ in 0..2 {
            if !self.open_cell() {
                return false;
            }
            let (Some(body), Some(fill)) = (self.batch.last_mut(), &mut self.open) else {
                return false;
            };
            if fill.put_data(body, id, data) {
                if fill.room() < HEAD_LEN {
                    self.seal();
                }
                return true;
            }
            if fill.is_empty() {
                return false; // no cell has room for this
            }
            self.seal();
        }
        false
    }

    /// Sends a cell of nothing but padding, if the feed window allows.
    pub(crate) fn pad(&mut self) -> bool {
        self.write_control();
        self.seal();
        let sent = self.open_cell();
        self.seal();
        sent
    }

    // ---- to the link ----

    /// `cells` of ours have left the link's queue.
    pub(crate) fn drained(&mut self, cells: u32) {
        self.feed_room = self.feed_room.saturating_add(cells).min(FEED_MAX);
    }

    /// Shares the room among blocked splices, in the order in which they came, and tells them.
    ///
    /// A turn reserves nothing: a splice that does not use its own takes nothing from the others,
    /// who are woken again as soon as they have used theirs and there is room.
    pub(crate) fn wake(&mut self, out: &mut VecDeque<CarrierOutput>) {
        let waiting = u32::try_from(self.blocked.len()).unwrap_or(u32::MAX);
        if self.feed_room == 0 || waiting == 0 {
            return;
        }
        self.contended = waiting > 1;
        let turn = (self.feed_room / waiting).max(1);
        for _ in 0..self.feed_room {
            let Some(id) = self.blocked.pop_front() else { return };
            let no = self.no(id);
            let Some(splice) = self.splices.get_mut(&id) else { continue };
            splice.in_blocked = false;
            splice.turn = turn;
            if std::mem::take(&mut splice.wants) {
                out.push_back(CarrierOutput::SpliceWritable { splice: no });
            }
        }
    }

    /// What the link must be told next: cells, or how many of its cells were consumed.
    pub(crate) fn take_part(&mut self) -> Option<PartMessage> {
        let tunnel = self.tunnel;
        if self.consumed > 0 {
            let cells = std::mem::take(&mut self.consumed);
            return Some(PartMessage::Drained { tunnel, splice: None, cells });
        }
        if let Some(cells) = self.full.pop_front() {
            return Some(PartMessage::Cells { tunnel, cells });
        }
        self.write_control();
        self.seal();
        if let Some(cells) = self.full.pop_front() {
            return Some(PartMessage::Cells { tunnel, cells });
        }
        let cells = std::mem::take(&mut self.batch);
        (!cells.is_empty()).then_some(PartMessage::Cells { tunnel, cells })
    }

    /// Puts all control cloves into cells; `false` if the feed window ends before they do.
    fn write_control(&mut self) -> bool {
        while !(self.writer.is_empty() && self.urgent.is_empty()) {
            if !self.open_cell() {
                return false;
            }
            let (Some(body), Some(fill)) = (self.batch.last_mut(), &mut self.open) else {
                return false;
            };
            if fill.is_empty() {
                self.writer.resume(body, fill);
            }
            self.writer.fill_small(body, fill);
            while self.writer.at_border()
                && fill.room() >= HEAD_LEN
                && let Some(id) = self.urgent.pop_front()
            {
                let Some(splice) = self.splices.get_mut(&id) else { continue };
                splice.in_urgent = false;
                let clove = if splice.closing() {
                    self.splices.remove(&id);
                    Clove::SpliceClosed { splice: id }
                } else {
                    Clove::SpliceCredit { splice: id, cells: splice.inflow.take_grant() }
                };
                self.writer.write_now(body, fill, &clove);
            }
            self.writer.fill_large(body, fill, false);
            if fill.room() < HEAD_LEN {
                self.seal();
            }
        }
        true
    }

    /// Makes sure that there is a cell to write to, within the feed window.
    fn open_cell(&mut self) -> bool {
        if self.open.is_none() {
            let Some(room) = self.feed_room.checked_sub(1) else { return false };
            self.feed_room = room;
            if self.batch.len() >= BATCH_MAX {
                self.full.push_back(std::mem::take(&mut self.batch));
            }
            if self.batch.is_empty() {
                self.batch.reserve_exact(BATCH_MAX); // else it grows three times, copying cells
            }
            self.batch.push([0; CELL_BODY_LEN]);
            self.open = Some(Fill::default());
        }
        true
    }

    /// Ends the cell that is being written.
    fn seal(&mut self) {
        if let (Some(fill), Some(body)) = (self.open.take(), self.batch.last_mut()) {
            fill.finish(body);
            self.forward.originate(body);
        }
    }

    fn remove(&mut self, id: SpliceId) {
        if let Some(splice) = self.splices.remove(&id) {
            if splice.in_urgent {
                self.urgent.retain(|other| *other != id);
            }
            if splice.in_blocked {
                self.blocked.retain(|other| *other != id);
            }
        }
    }

    /// The splices that its user still counts on.
    pub(crate) fn live(&self) -> impl Iterator<Item = SpliceNo> + '_ {
        self.splices.iter().filter(|(_, splice)| !splice.closing()).map(|(id, _)| self.no(*id))
    }

    /// Cells that wait for the link: never more than the feed window.
    pub(crate) fn queued_cells(&self) -> usize {
        self.batch.len() + self.full.iter().map(Vec::len).sum::<usize>()
    }
}
