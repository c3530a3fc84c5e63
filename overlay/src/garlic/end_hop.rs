//! The far end of somebody's tunnel, at this router.
//!
//! Lives here: recognising and making the tunnel's cells, the clove stream each way, and the table
//! of splices. Does not live here: answering requests, dialling gateways and choosing legs (Node);
//! lane credits, sockets and frames (the link that this sits in); what is inside a splice.
//!
//! ```text
//!              handle_cell                         EndHopEvent::Request
//!  owner's ---------------> recognise -> cloves -+--------------------> Node
//!  lane on                                       '- splice data -> leg's link (Part)
//!  this    <--------------- originate <- cloves -+--------------------- Node (EndHopCommand)
//!  link       poll_cell                          '- splice data <- leg's link (handle_leg_cells)
//! ```
//!
//! Bounds, all per tunnel: open requests and answers together [`REQUESTS_MAX`]; splices
//! [`SPLICES_MAX`] and as many refusals; per splice what [`super::flow`] grants, each way; one
//! unfinished clove. An owner that oversteps any of them loses its tunnel.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::{
    cell::{Fill, leg_data, payload},
    clove::{Clove, HEAD_LEN},
    flow::SPLICE_WINDOW_MAX,
    hop_api::{EndHopCommand, EndHopError, EndHopEvent, EndHopOutput},
    hop_splice::{BATCH_MAX, Greeting, HopSplice, LEG_FEED_MAX, Phase, Stall},
    packer::{CloveReader, CloveWriter, Piece},
};
use crate::{
    crypto::onion::{RelayBackward, RelayForward},
    id::{LinkNo, SpliceId, TunnelId},
    plane::{CellBody, PartMessage},
    time::Time,
};

/// Most requests of one tunnel that are unanswered, or answered and not yet sent.
///
/// 32 found records are 131 KiB, which is what an owner that asks and never reads can make a
/// router hold beside its splices.
pub const REQUESTS_MAX: usize = 32;
/// Of these, about blocks: 512 KiB. What all tunnels together make a router hold, Node bounds: it
/// answers `Busy` while too many found blocks wait to be read ([`EndHopEvent::Flushed`]).
pub const BLOCK_REQUESTS_MAX: usize = 16;
/// Most splices of one tunnel. Beyond, new ones are refused; a tunnel with twice as many, refusals
/// included, is ended, since its owner reads nothing and asks on.
pub const SPLICES_MAX: usize = 1_024;
/// Splice ids with this bit are numbered by the end hop, those without by the owner.
pub(crate) const HOP_BIT: u32 = 1 << 31;

/// What a found block that waits counts for, in cells.
const CELLS_PER_BLOCK: usize = 33;

/// How often stalled splices are looked for, while any waits: they live 30 to 35 s.
const SWEEP: Duration = Duration::from_secs(5);

/// The machine. Its owner is the link that holds the tunnel's lane.
///
/// Drain [`Self::poll_output`] after each batch of calls, those of [`Self::poll_cell`] included.
#[derive(Debug)]
pub struct EndHop {
    forward: RelayForward,
    backward: RelayBackward,
    reader: CloveReader,
    writer: CloveWriter,
    /// Open requests, and whether they are about blocks.
    requests: BTreeMap<u32, bool>,
    /// Found blocks that the owner was not yet sent, and of which Node was told last.
    unread: u32,
    splices: BTreeMap<SpliceId, HopSplice>,
    /// The highest id that the owner used; ids only grow, so that a late clove is told from a
    /// wrong one without remembering what was closed.
    last_from_owner: u32,
    /// The highest id given out here.
    last_own: u32,
    /// Splices with a control clove to say. Each of the three lists holds a splice at most once.
    urgent: VecDeque<SpliceId>,
    /// Splices with data for the owner and credit to send it, in round robin.
    ready: VecDeque<SpliceId>,
    /// Splices with something for their leg.
    dirty: VecDeque<SpliceId>,
    events: VecDeque<EndHopEvent>,
    sweep: Option<Time>,
    over: bool,
}

impl EndHop {
    /// The end hop of a tunnel that was just built.
    pub const fn new(forward: RelayForward, backward: RelayBackward) -> Self {
        Self {
            forward,
            backward,
            reader: CloveReader::new(),
            writer: CloveWriter::new(),
            requests: BTreeMap::new(),
            unread: 0,
            splices: BTreeMap::new(),
            last_from_owner: 0,
            last_own: HOP_BIT,
            urgent: VecDeque::new(),
            ready: VecDeque::new(),
            dirty: VecDeque::new(),
            events: VecDeque::new(),
            sweep: None,
            over: false,
        }
    }

    /// A cell came from the owner. It is consumed at once: the lane may grant another.
    ///
    /// # Errors
    /// The tunnel is over: close the lane. All later cells are refused too.
    pub fn handle_cell(&mut self, now: Time, cell: &mut CellBody) -> Result<(), EndHopError> {
        let done = self.read_cell(now, cell);
        self.over |= done.is_err();
        done
    }

    fn read_cell(&mut self, now: Time, cell: &mut CellBody) -> Result<(), EndHopError> {
        if self.over || !self.forward.recognise(cell) {
            return Err(EndHopError::Unrecognised);
        }
        let (payload, mut at) = (payload(cell), 0);
        while at < payload.len() {
            match self.reader.next(payload, &mut at)? {
                Some(Piece::Data { splice, data }) => self.data_from_owner(now, splice, data)?,
                Some(Piece::Clove(clove)) => self.clove_from_owner(now, clove)?,
                None => {}
            }
        }
        Ok(())
    }

    fn data_from_owner(&mut self, now: Time, id: SpliceId, data: &[u8]) -> Result<(), EndHopError> {
        let Some(splice) = self.splices.get_mut(&id) else { return self.late(id) };
        splice.inflow.receive(now).map_err(|_| EndHopError::Overstepped("splice data"))?;
        if splice.phase == Phase::Open {
            splice.to_leg.push_data(data);
            splice.leg_moved(now, false);
            mark(&mut self.dirty, &mut splice.in_dirty, id);
            self.plan_sweep(now);
        }
        Ok(())
    }

    fn clove_from_owner(&mut self, now: Time, clove: Clove) -> Result<(), EndHopError> {
        match clove {
            Clove::RecordGet { request, .. }
            | Clove::RecordPut { request, .. }
            | Clove::RecordWatch { request, .. }
            | Clove::BlockGet { request, .. }
            | Clove::BlockPut { request, .. }
            | Clove::PutWork { request, .. }
            | Clove::RouterFind { request, .. }
            | Clove::LeaseRequest { request, .. } => {
                let is_block = clove.is_block();
                let open = self.requests.len() + self.writer.len();
                let blocks = self.requests.values().filter(|is_block| **is_block).count();
                if open >= REQUESTS_MAX
                    || is_block && blocks + self.writer.blocks() >= BLOCK_REQUESTS_MAX
                    || self.requests.insert(request, is_block).is_some()
                {
                    return Err(EndHopError::Overstepped("requests"));
                }
                self.events.push_back(EndHopEvent::Request(clove));
                Ok(())
            }
            Clove::SpliceOpen { splice, .. } => {
                self.open(now, splice)?;
                if self.splices.get(&splice).is_some_and(|s| s.phase == Phase::Open) {
                    self.events.push_back(EndHopEvent::Request(clove));
                }
                Ok(())
            }
            // Answered here and at once: it asks whether this is here.
            Clove::Probe { request } => {
                if self.requests.len() + self.writer.len() >= REQUESTS_MAX {
                    return Err(EndHopError::Overstepped("requests"));
                }
                self.writer.push(&Clove::Probed { request });
                Ok(())
            }
            Clove::SpliceClosed { splice } => self.owner_closed(splice),
            Clove::SpliceCredit { splice: id, cells } => {
                let Some(splice) = self.splices.get_mut(&id) else { return self.late(id) };
                splice
                    .outflow
                    .grant(cells)
                    .map_err(|_| EndHopError::Overstepped("splice credit"))?;
                splice.owner_moved(now);
                self.refresh(id);
                Ok(())
            }
            Clove::SpliceData { .. }
            | Clove::RecordAnswer { .. }
            | Clove::BlockAnswer { .. }
            | Clove::PutPrice { .. }
            | Clove::RouterAnswer { .. }
            | Clove::Probed { .. }
            | Clove::SpliceOpened { .. }
            | Clove::SpliceIncoming { .. }
            | Clove::LeaseGranted { .. }
            | Clove::LeaseRefused { .. }
            | Clove::LeaseCrowd(_) => Err(EndHopError::OutOfPlace),
        }
    }

    fn open(&mut self, now: Time, id: SpliceId) -> Result<(), EndHopError> {
        if id.0 >= HOP_BIT || id.0 <= self.last_from_owner {
            return Err(EndHopError::OutOfPlace);
        }
        if self.splices.len() >= 2 * SPLICES_MAX {
            return Err(EndHopError::Overstepped("splices"));
        }
        self.last_from_owner = id.0;
        let splice = if self.splices.len() < SPLICES_MAX {
            HopSplice::unattached(now)
        } else {
            HopSplice::refused()
        };
        self.splices.insert(id, splice);
        self.refresh(id);
        self.plan_sweep(now);
        Ok(())
    }

    fn owner_closed(&mut self, id: SpliceId) -> Result<(), EndHopError> {
        let Some(splice) = self.splices.get_mut(&id) else { return self.late(id) };
        match splice.phase {
            Phase::Open => {
                splice.phase = Phase::OwnerLeft;
                splice.drop_for_owner();
                splice.greeting = Greeting::None;
                mark(&mut self.dirty, &mut splice.in_dirty, id); // to see whether it is flushed
                self.forget_in_rings(id);
                Ok(())
            }
            Phase::OwnerLeft => Err(EndHopError::OutOfPlace),
            Phase::LegLeft => {
                self.remove(id);
                Ok(())
            }
        }
    }

    /// A clove about a splice that is not in the table: late if the splice ever was.
    const fn late(&self, id: SpliceId) -> Result<(), EndHopError> {
        let last = if id.0 >= HOP_BIT { self.last_own } else { self.last_from_owner };
        if id.0 <= last { Ok(()) } else { Err(EndHopError::OutOfPlace) }
    }

    /// Cells came over a splice's leg, within the grants of the leg's lane.
    pub fn handle_leg_cells(&mut self, now: Time, id: SpliceId, cells: Vec<CellBody>) {
        let Some(splice) = self.splices.get_mut(&id) else { return };
        if splice.phase != Phase::Open {
            return;
        }
        let bound = usize::try_from(SPLICE_WINDOW_MAX).unwrap_or(usize::MAX);
        let wrong = splice.to_owner.len() + cells.len() > bound
            || cells.iter().any(|cell| leg_data(cell).is_none());
        if wrong {
            tracing::debug!("splice closed: leg overstepped or sent no leg cell");
            self.give_up(id);
            return;
        }
        splice.to_owner.push_batch(cells);
        splice.owner_moved(now);
        self.refresh(id);
        self.plan_sweep(now);
    }

    /// `cells` that this fed to a splice's leg have left the leg's queue.
    pub fn handle_drained(&mut self, now: Time, id: SpliceId, cells: u32) {
        let Some(splice) = self.splices.get_mut(&id) else { return };
        splice.leg_room = splice.leg_room.saturating_add(cells).min(LEG_FEED_MAX);
        splice.inflow.drain(now, cells);
        splice.leg_moved(now, true);
        mark(&mut self.dirty, &mut splice.in_dirty, id);
        self.refresh(id);
    }

    /// Node says what to do.
    pub fn handle_command(&mut self, now: Time, command: EndHopCommand) {
        match command {
            // An owner that reads nothing need not hear how many wait.
            EndHopCommand::Crowd(crowd) if self.writer.len() < REQUESTS_MAX => {
                self.writer.push(&Clove::LeaseCrowd(crowd));
            }
            EndHopCommand::Crowd(_) => {}
            EndHopCommand::Answer(clove) => {
                let open = clove.request().filter(|_| clove.answers());
                if open.is_some_and(|request| self.requests.remove(&request).is_some()) {
                    let before = self.writer.blocks();
                    self.writer.push(&clove);
                    self.unread += u32::from(self.writer.blocks() > before);
                }
            }
            EndHopCommand::Attach { splice: id, leg } => {
                let Some(splice) = self.splices.get_mut(&id) else { return };
                if splice.phase == Phase::Open && splice.leg.is_none() {
                    splice.leg = Some(leg);
                    splice.greeting = Greeting::Opened;
                    splice.leg_moved(now, true);
                    mark(&mut self.dirty, &mut splice.in_dirty, id);
                    self.refresh(id);
                }
            }
            EndHopCommand::AcceptIncoming { leg } => self.accept(leg),
            EndHopCommand::CloseSplice { splice: id } => {
                let Some(splice) = self.splices.get_mut(&id) else { return };
                match splice.phase {
                    Phase::Open => {
                        splice.leg_left();
                        self.refresh(id);
                    }
                    Phase::OwnerLeft => self.remove(id),
                    Phase::LegLeft => {}
                }
            }
        }
    }

    fn accept(&mut self, leg: (LinkNo, TunnelId)) {
        let next = self.last_own.checked_add(1);
        let Some(next) = next.filter(|_| self.splices.len() < SPLICES_MAX && !self.over) else {
            self.events.push_back(EndHopEvent::Refused { leg });
            return;
        };
        self.last_own = next;
        let splice = SpliceId(next);
        self.splices.insert(splice, HopSplice::incoming(leg));
        self.refresh(splice);
        self.events.push_back(EndHopEvent::Incoming { splice, leg });
    }

    /// Whether [`Self::poll_cell`] would give a cell.
    pub fn has_cell(&self) -> bool {
        !(self.over || self.writer.is_empty() && self.urgent.is_empty() && self.ready.is_empty())
    }

    /// Writes the next cell for the owner into `out`, sealed; `false`, and nothing spent, if there
    /// is nothing to say. The link calls it when the lane has credit.
    ///
    /// Order: the clove under way, small answers, splice control, then records and splice data in
    /// turns, splices in round robin.
    pub fn poll_cell(&mut self, now: Time, out: &mut CellBody) -> bool {
        if self.over {
            return false;
        }
        let mut fill = Fill::default();
        self.writer.resume(out, &mut fill);
        self.writer.fill_small(out, &mut fill);
        self.say(out, &mut fill);
        self.writer.fill_large(out, &mut fill, !self.ready.is_empty());
        if self.send_data(now, out, &mut fill) {
            self.writer.data_had_its_turn();
        }
        if fill.is_empty() {
            return false;
        }
        fill.finish(out);
        self.backward.originate(out);
        true
    }

    /// Writes splice control cloves.
    fn say(&mut self, out: &mut CellBody, fill: &mut Fill) {
        while self.writer.at_border()
            && fill.room() >= HEAD_LEN
            && let Some(&id) = self.urgent.front()
        {
            let word = self.splices.get_mut(&id).and_then(|splice| splice.next_word(id));
            match word {
                Some(Clove::SpliceClosed { .. }) => self.remove(id),
                Some(_) => {}
                None => {
                    self.urgent.pop_front();
                    if let Some(splice) = self.splices.get_mut(&id) {
                        splice.in_urgent = false;
                    }
                }
            }
            if let Some(clove) = word {
                self.writer.write_now(out, fill, &clove);
            }
        }
    }

    /// Writes splice data cloves as long as they fit; whether any did.
    fn send_data(&mut self, now: Time, out: &mut CellBody, fill: &mut Fill) -> bool {
        let mut any = false;
        while self.writer.at_border()
            && let Some(&id) = self.ready.front()
        {
            let Some(splice) = self.splices.get_mut(&id) else {
                self.ready.pop_front();
                continue;
            };
            let data = splice.to_owner.front().and_then(leg_data).unwrap_or_default();
            if !fill.put_data(out, id, data) {
                break;
            }
            any = true;
            splice.to_owner.pop();
            splice.outflow.spend();
            splice.owner_moved(now);
            splice.drained += 1;
            splice.in_ready = false;
            mark(&mut self.dirty, &mut splice.in_dirty, id);
            self.ready.pop_front();
            self.refresh(id);
        }
        if any {
            self.plan_sweep(now);
        }
        any
    }

    /// What is to be done next; `None` when all is said.
    pub fn poll_output(&mut self) -> Option<EndHopOutput> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(EndHopOutput::Node(event));
            }
            let left = u32::try_from(self.writer.blocks()).unwrap_or(u32::MAX);
            if let Some(blocks @ 1..) = self.unread.checked_sub(left) {
                self.unread = left;
                return Some(EndHopOutput::Node(EndHopEvent::Flushed { blocks }));
            }
            let id = *self.dirty.front()?;
            if let Some(output) = self.for_leg(id) {
                return Some(output);
            }
            self.dirty.pop_front();
            if let Some(splice) = self.splices.get_mut(&id) {
                splice.in_dirty = false;
                let gone = splice.leg.is_none() || splice.leg_is_flushed();
                if splice.phase == Phase::OwnerLeft && gone {
                    self.remove(id);
                    self.events.push_back(EndHopEvent::SpliceGone { splice: id });
                }
            }
        }
    }

    fn for_leg(&mut self, id: SpliceId) -> Option<EndHopOutput> {
        let splice = self.splices.get_mut(&id)?;
        let (to, tunnel) = splice.leg?;
        let message = if splice.drained > 0 {
            let cells = std::mem::take(&mut splice.drained);
            PartMessage::Drained { tunnel, splice: None, cells }
        } else if splice.leg_room > 0 && !splice.to_leg.is_empty() {
            let room = usize::try_from(splice.leg_room).unwrap_or(BATCH_MAX);
            let cells = splice.to_leg.take(room);
            let fed = u32::try_from(cells.len()).unwrap_or(u32::MAX);
            splice.leg_room = splice.leg_room.saturating_sub(fed);
            PartMessage::Cells { tunnel, cells }
        } else {
            return None;
        };
        Some(EndHopOutput::Part { to, message })
    }

    /// Looks for splices that have not moved for 30 s.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.sweep.is_none_or(|at| now < at) {
            return;
        }
        self.sweep = None;
        let stalled: Vec<(SpliceId, Stall)> = self
            .splices
            .iter()
            .map(|(id, splice)| (*id, splice.stall(now)))
            .filter(|(_, stall)| *stall != Stall::None)
            .collect();
        for (id, stall) in stalled {
            tracing::debug!(?stall, "splice closed: no progress");
            match stall {
                Stall::None => {}
                Stall::Both => self.give_up(id),
                Stall::Owner => {
                    if let Some(splice) = self.splices.get_mut(&id) {
                        splice.drop_for_owner();
                    }
                    self.forget_in_rings(id);
                    self.refresh(id);
                }
                Stall::Leg => {
                    self.remove(id);
                    self.events.push_back(EndHopEvent::SpliceGone { splice: id });
                }
            }
        }
        if self.splices.values().any(HopSplice::waits) {
            self.sweep = Some(now + SWEEP);
        }
    }

    /// When [`Self::handle_timeout`] has something to look at.
    pub const fn poll_timeout(&self) -> Option<Time> {
        self.sweep
    }

    /// The legs of all splices, for whoever closes them together with the tunnel.
    pub fn legs(&self) -> impl Iterator<Item = (LinkNo, TunnelId)> + '_ {
        self.splices.values().filter_map(|splice| splice.leg)
    }

    /// Cells held for splices, at most 1,024 a splice, and what found blocks that wait come to: for the
    /// router's memory quota.
    pub fn queued_cells(&self) -> usize {
        let blocks = self.writer.blocks() * CELLS_PER_BLOCK;
        self.splices.values().map(HopSplice::queued).sum::<usize>() + blocks
    }

    /// Closes a splice on this router's own account: both sides are told.
    fn give_up(&mut self, id: SpliceId) {
        let Some(splice) = self.splices.get_mut(&id) else { return };
        splice.leg_left();
        splice.drop_for_owner();
        self.forget_in_rings(id);
        self.refresh(id);
        self.events.push_back(EndHopEvent::SpliceGone { splice: id });
    }

    fn remove(&mut self, id: SpliceId) {
        self.forget_in_rings(id);
        self.splices.remove(&id);
    }

    /// Takes a splice out of both lists that feed cells. Rare: once or twice a splice.
    fn forget_in_rings(&mut self, id: SpliceId) {
        if let Some(splice) = self.splices.get_mut(&id) {
            if std::mem::take(&mut splice.in_urgent) {
                self.urgent.retain(|other| *other != id);
            }
            if std::mem::take(&mut splice.in_ready) {
                self.ready.retain(|other| *other != id);
            }
        }
    }

    /// Puts a splice into the lists where it belongs.
    fn refresh(&mut self, id: SpliceId) {
        if let Some(splice) = self.splices.get_mut(&id) {
            if splice.has_word() {
                mark(&mut self.urgent, &mut splice.in_urgent, id);
            }
            if splice.may_send() {
                mark(&mut self.ready, &mut splice.in_ready, id);
            }
        }
    }

    fn plan_sweep(&mut self, now: Time) {
        self.sweep.get_or_insert(now + SWEEP);
    }
}

/// Appends to a list unless it is there.
fn mark(list: &mut VecDeque<SpliceId>, listed: &mut bool, id: SpliceId) {
    if !std::mem::replace(listed, true) {
        list.push_back(id);
    }
}
