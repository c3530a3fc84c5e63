//! What a hop does with builds, and with the tunnels that come of them.
//!
//! Lives here: refusing early, opening records, going on to the next hop, answering, and closing
//! both halves of a tunnel together. Does not live here: the record's bytes (`build/`), dialling and
//! its budgets (Node, PROTOCOL P3), cells (links hold the layers).
//!
//! ```text
//!  Build --bucket, load--> gate --its turn--> open --end--------------> accept, Lane::EndHop
//!            | no           | no               | no \--middle--> Connecting    ^
//!            v              v                  v                  | Connected  |
//!          noise reply    noise reply        noise reply          v            |
//!                         declined <--no-- Waiting (10 s) <-------' ---Reply---'  Lane::Transit
//! ```
//!
//! A lane that closes, a link that ends and a life that is over close the other half too.

mod gate;
mod neighbour;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use self::{
    gate::{Gate, Turn},
    neighbour::Neighbour,
};
use super::build::{
    Answer, BuildMessage, BuildReply, Decline, Onward, ReplayWindow, TunnelKeys, noise_reply,
};
use crate::{
    garlic::EndHop,
    id::{LinkNo, TunnelId},
    plane::{Lane, LinkCommand, TransitHalf},
    rng::Rng,
    room::Room,
    table::Table,
    time::{Now, Time},
    wire::{Contact, LinkMessage, Prefix},
};

/// How long a hop waits for the next one, dialling included.
pub const REPLY_WAIT: Duration = Duration::from_secs(10);
/// Builds that one neighbour may send in a row.
const BURST: u32 = 100;
/// Builds a second that one neighbour may send for long.
pub const RATE: u32 = 20;

/// One lane: a link, and the tunnel's number on it.
type Side = (LinkNo, TunnelId);

/// What a hop is willing to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransitConfig {
    /// Builds opened a second, half of that at once: 260 us of one core each. Default 500.
    pub builds_per_second: u32,
    /// Tunnels of others at one time. One costs about 1 KiB besides its credits. Default 10,000.
    pub tunnels_max: usize,
    /// Builds under way at one time; each holds its message, 5.4 KB. Default 1,024.
    pub pending_max: usize,
    /// Builds remembered against replay. Default a million.
    pub replay_max: usize,
}

impl Default for TransitConfig {
    fn default() -> Self {
        Self {
            builds_per_second: 500,
            tunnels_max: 10_000,
            pending_max: 1_024,
            replay_max: ReplayWindow::CAPACITY_MAX,
        }
    }
}

/// What happened.
#[derive(Debug)]
pub enum TransitInput {
    /// A link stands, and where it leads: links of one place share turns. Not said where places mean
    /// nothing (a network on private addresses): there each link has turns of its own.
    Place {
        /// Which.
        link: LinkNo,
        /// Where its far end really is.
        place: Prefix,
    },
    /// A neighbour sent a build.
    Build {
        /// On this link.
        link: LinkNo,
        /// Under this number.
        tunnel: TunnelId,
        /// The message.
        message: BuildMessage,
    },
    /// A neighbour answered a build. Ignored where it is not one of ours.
    Reply {
        /// On this link.
        link: LinkNo,
        /// Under this number.
        tunnel: TunnelId,
        /// The reply.
        reply: BuildReply,
    },
    /// [`TransitOutput::Connect`] succeeded.
    Connected {
        /// Which.
        ask: u64,
        /// The link to the contact.
        link: LinkNo,
        /// A fresh lane number on it.
        tunnel: TunnelId,
    },
    /// [`TransitOutput::Connect`] failed.
    Unreachable {
        /// Which.
        ask: u64,
    },
    /// A lane is over on its link, open or not yet. Ignored where it is not one of ours.
    LaneClosed {
        /// On this link.
        link: LinkNo,
        /// Its number.
        tunnel: TunnelId,
    },
    /// A link is over, with all its lanes.
    LinkDown {
        /// Which.
        link: LinkNo,
    },
    /// Whether the operator wants no tunnels of others, for now or at all. Those that stand go on.
    Closed(bool),
    /// Whether the router has no room for more (processor, memory quota): builds are then refused
    /// before any costly work.
    Loaded(bool),
}

/// What to do next.
#[derive(Debug)]
pub enum TransitOutput {
    /// Reach this contact within the budgets of PROTOCOL P3, choose a lane number there, and answer
    /// with `Connected` or `Unreachable`.
    Connect {
        /// Counts up, never twice.
        ask: u64,
        /// Whom.
        contact: Contact,
        /// On whose behalf: the neighbour that sent the build.
        asked_by: LinkNo,
    },
    /// Tell a link.
    Link {
        /// Which.
        link: LinkNo,
        /// What.
        command: LinkCommand,
    },
}

/// Counters for status and metrics. None tells whose tunnel it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransitStatus {
    /// Tunnels of others now.
    pub tunnels: usize,
    /// Builds under way now.
    pub pending: usize,
    /// Builds that wait for their turn to be opened now.
    pub waiting: usize,
    /// Builds answered with yes.
    pub accepted: u64,
    /// Builds refused before costly work: bucket, load, full tables, no turn in time.
    pub refused_early: u64,
    /// Builds that did not open: not ours, changed, replayed, out of time, malformed.
    pub refused_unopened: u64,
    /// Builds whose next hop was not reached or did not answer.
    pub unreachable: u64,
}

#[derive(Debug)]
enum Stage {
    Connecting { message: BuildMessage },
    Waiting { onward: Side },
}

#[derive(Debug)]
struct Pending {
    from: Side,
    stage: Stage,
    answer: Answer,
    lifetime: Duration,
    deadline: Time,
}

#[derive(Debug)]
struct Tunnel {
    /// The onward lane; `None` at the end.
    onward: Option<Side>,
    expires: Time,
}

/// The machine: all tunnels of others through this router.
#[derive(Debug)]
pub struct Transit {
    config: TransitConfig,
    keys: TunnelKeys,
    window: ReplayWindow,
    rng: Rng,
    loaded: bool,
    closed: bool,
    next_ask: u64,
    gate: Gate,
    /// At most one per link.
    neighbours: Table<LinkNo, Neighbour>,
    /// At most `pending_max`.
    pending: Table<u64, Pending>,
    /// Lanes of pending builds, arriving and onward.
    pending_sides: BTreeMap<Side, u64>,
    /// By arriving lane; at most `tunnels_max`.
    tunnels: BTreeMap<Side, Tunnel>,
    /// From the onward lane to the arriving one.
    arriving: BTreeMap<Side, Side>,
    /// Ends of tunnels' lives.
    expiries: BTreeSet<(Time, Side)>,
    status: TransitStatus,
    outputs: VecDeque<TransitOutput>,
}

impl Transit {
    /// A hop with these keys and no tunnels.
    pub fn new(config: TransitConfig, keys: TunnelKeys, rng: Rng) -> Self {
        Self {
            config,
            keys,
            window: ReplayWindow::new(config.replay_max),
            rng,
            loaded: false,
            closed: false,
            next_ask: 1,
            gate: Gate::new(config.builds_per_second),
            neighbours: Table::new(),
            pending: Table::new(),
            pending_sides: BTreeMap::new(),
            tunnels: BTreeMap::new(),
            arriving: BTreeMap::new(),
            expiries: BTreeSet::new(),
            status: TransitStatus::default(),
            outputs: VecDeque::new(),
        }
    }

    /// The keys to publish in the descriptor.
    pub const fn keys(&self) -> &TunnelKeys {
        &self.keys
    }

    /// Makes new tunnel keys: once a day, followed by a new descriptor.
    pub fn rotate_keys(&mut self) {
        self.keys.rotate(&mut self.rng);
    }

    /// Counters.
    pub fn status(&self) -> TransitStatus {
        TransitStatus {
            tunnels: self.tunnels.len(),
            pending: self.pending.len(),
            waiting: self.gate.len(),
            ..self.status
        }
    }

    /// Something happened.
    pub fn handle_input(&mut self, now: Now, input: TransitInput) {
        match input {
            TransitInput::Place { link, place } => self.gate.place(link, place),
            TransitInput::Build { link, tunnel, message } => {
                self.build(now, (link, tunnel), message);
            }
            TransitInput::Reply { link, tunnel, reply } => {
                self.reply(now, (link, tunnel), reply);
            }
            TransitInput::Connected { ask, link, tunnel } => self.connected(ask, (link, tunnel)),
            TransitInput::Unreachable { ask } => self.decline(ask),
            TransitInput::LaneClosed { link, tunnel } => self.lane_closed((link, tunnel)),
            TransitInput::LinkDown { link } => self.link_down(link),
            TransitInput::Loaded(loaded) => self.loaded = loaded,
            TransitInput::Closed(closed) => self.closed = closed,
        }
    }

    /// Time passed: opens what waited, gives up on next hops, ends lives.
    pub fn handle_timeout(&mut self, now: Now) {
        self.let_in(now);
        // All waits are equally long and asks count up, so the first is the oldest.
        while let Some((ask, pending)) = self.pending.first()
            && pending.deadline <= now.time
        {
            let ask = *ask;
            self.decline(ask);
        }
        while let Some((at, side)) = self.expiries.first().copied()
            && at <= now.time
        {
            if let Some(onward) = self.forget(side) {
                self.close(onward);
            }
            self.close(side);
        }
    }

    /// Gives up memory that nothing needs: to be called now and then.
    pub fn rest(&mut self, now: Time) {
        self.rng.rest();
        self.gate.rest();
        for neighbour in self.neighbours.values_mut() {
            neighbour.rest(now);
        }
        self.neighbours.rest();
        self.pending.rest();
        self.pending_sides.rest();
        self.tunnels.rest();
        self.arriving.rest();
        self.expiries.rest();
        self.outputs.rest();
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<TransitOutput> {
        self.outputs.pop_front()
    }

    /// When to be woken.
    pub fn poll_timeout(&self) -> Option<Time> {
        let reply = self.pending.first().map(|(_, pending)| pending.deadline);
        let expiry = self.expiries.first().map(|(at, _)| *at);
        reply.into_iter().chain(expiry).chain(self.gate.poll_timeout()).min()
    }

    fn build(&mut self, now: Now, from: Side, message: BuildMessage) {
        if self.pending_sides.contains_key(&from)
            || self.tunnels.contains_key(&from)
            || self.arriving.contains_key(&from)
            || self.gate.holds(from)
        {
            return; // a number is never used twice (P5); what stands must not suffer
        }
        if !self.admits(now, from.0) {
            return self.refuse_early(from);
        }
        if let Some(refused) = self.gate.offer(now.time, from, message) {
            self.refuse_early(refused);
        }
        self.let_in(now);
    }

    /// Opens those whose turn it is.
    fn let_in(&mut self, now: Now) {
        while let Some(turn) = self.gate.next(now.time) {
            match turn {
                // While it waited the tables may have filled up.
                Turn::Open(build) if self.has_room(now, build.from.0) => {
                    self.open_build(now, build.from, build.message);
                }
                Turn::Open(build) | Turn::Late(build) => self.refuse_early(build.from),
            }
        }
    }

    fn refuse_early(&mut self, from: Side) {
        self.status.refused_early += 1;
        self.answer_noise(from);
    }

    fn open_build(&mut self, now: Now, from: Side, message: BuildMessage) {
        let opened = match self.keys.open(now.wall, &mut self.window, message) {
            Ok(opened) => opened,
            Err(error) => {
                tracing::debug!(link = from.0.0, %error, "build refused");
                self.status.refused_unopened += 1;
                return self.answer_noise(from);
            }
        };
        let lifetime = Duration::from_secs(60 * u64::from(opened.lifetime_minutes));
        match opened.onward {
            Onward::End => {
                let mut reply = noise_reply(&mut self.rng);
                if let Some(layers) = opened.answer.accept(&mut self.rng, &mut reply) {
                    let end_hop = EndHop::new(layers.forward, layers.backward);
                    self.open(from, Lane::EndHop(Box::new(end_hop)));
                    self.remember(from, None, now.time + lifetime);
                }
                self.send_reply(from, reply);
            }
            Onward::Middle { contact, message } => {
                let neighbour = self.neighbours.get_mut(&from.0);
                let may = neighbour.is_some_and(|it| it.may_go_on(now.time, contact.id));
                if contact.id == self.keys.id() || !may {
                    return self.decline_at_once(from, opened.answer);
                }
                let ask = self.next_ask;
                self.next_ask += 1;
                let pending = Pending {
                    from,
                    stage: Stage::Connecting { message },
                    answer: opened.answer,
                    lifetime,
                    deadline: now.time + REPLY_WAIT,
                };
                self.pending.insert(ask, pending);
                self.pending_sides.insert(from, ask);
                if let Some(neighbour) = self.neighbours.get_mut(&from.0) {
                    neighbour.held += 1;
                    neighbour.pending += 1;
                }
                self.outputs.push_back(TransitOutput::Connect { ask, contact, asked_by: from.0 });
            }
        }
    }

    /// Whether a build of this neighbour is worth a turn at all.
    fn admits(&mut self, now: Now, link: LinkNo) -> bool {
        let neighbour = self.neighbours.get_or_insert_with(link, Neighbour::new);
        neighbour.may_build(now.time) && !self.loaded && !self.closed && self.has_room(now, link)
    }

    /// Whether the tables have room for one more build of this neighbour: it may have a third of what
    /// is free. So alone it gets a quarter, `n` that take all they can leave `3 / (n + 3)` free, and
    /// nobody ever finds the tables full.
    fn has_room(&mut self, now: Now, link: LinkNo) -> bool {
        let (tunnels, pending) = (self.tunnels.len() + self.pending.len(), self.pending.len());
        let free = |max: usize, used: usize| (max.saturating_sub(used) / 3).max(1);
        let share = |held: usize, max, used| used < max && held < free(max, used);
        self.neighbours.get(&link).is_none_or(|it| {
            share(it.held, self.config.tunnels_max, tunnels)
                && share(it.pending, self.config.pending_max, pending)
        }) && !self.window.is_full(now.wall)
    }

    fn connected(&mut self, ask: u64, onward: Side) {
        let Some(pending) = self.pending.get_mut(&ask) else { return };
        let Stage::Connecting { message } = &mut pending.stage else { return };
        if onward.0 == pending.from.0 {
            // Back to where it came from: no honest owner builds so.
            return self.decline(ask);
        }
        let message = std::mem::replace(message, Box::new([0; _]));
        pending.stage = Stage::Waiting { onward };
        self.pending_sides.insert(onward, ask);
        self.send(onward, LinkMessage::Build { tunnel: onward.1, message });
    }

    fn reply(&mut self, now: Now, onward: Side, mut reply: BuildReply) {
        let Some(ask) = self.pending_sides.get(&onward).copied() else { return };
        let waits = |pending: &Pending| matches!(pending.stage, Stage::Waiting { onward: at } if at == onward);
        if !self.pending.get(&ask).is_some_and(waits) {
            return;
        }
        let Some(pending) = self.remove_pending(ask) else { return };
        let from = pending.from;
        if let Some(layers) = pending.answer.accept(&mut self.rng, &mut reply) {
            let forward = TransitHalf::Forward(layers.forward);
            let backward = TransitHalf::Backward(layers.backward);
            self.open(from, Lane::Transit { half: forward, to: onward.0, tunnel: onward.1 });
            self.open(onward, Lane::Transit { half: backward, to: from.0, tunnel: from.1 });
            self.remember(from, Some(onward), now.time + pending.lifetime);
        } else {
            self.close(onward);
        }
        self.send_reply(from, reply);
    }

    /// Says no to a build that was opened: the next hop is not to be had.
    fn decline(&mut self, ask: u64) {
        let Some(pending) = self.remove_pending(ask) else { return };
        if let Stage::Waiting { onward } = pending.stage {
            self.close(onward);
        }
        self.decline_at_once(pending.from, pending.answer);
    }

    fn decline_at_once(&mut self, from: Side, answer: Answer) {
        self.status.unreachable += 1;
        let mut reply = noise_reply(&mut self.rng);
        answer.decline(Decline::Unreachable, &mut reply);
        self.send_reply(from, reply);
    }

    fn remove_pending(&mut self, ask: u64) -> Option<Pending> {
        let pending = self.pending.remove(&ask)?;
        self.pending_sides.remove(&pending.from);
        if let Stage::Waiting { onward } = pending.stage {
            self.pending_sides.remove(&onward);
        }
        if let Some(neighbour) = self.neighbours.get_mut(&pending.from.0) {
            neighbour.held = neighbour.held.saturating_sub(1);
            neighbour.pending = neighbour.pending.saturating_sub(1);
        }
        Some(pending)
    }

    fn lane_closed(&mut self, side: Side) {
        if self.gate.remove(side) {
            return; // it had only waited for its turn
        }
        if let Some(ask) = self.pending_sides.get(&side).copied() {
            self.pending_side_gone(ask, side);
        } else if let Some(from) = self.arriving.get(&side).copied() {
            self.forget(from);
            self.close(from);
        } else if let Some(onward) = self.forget(side) {
            self.close(onward);
        }
    }

    /// The predecessor gave up, or the next hop hung up.
    fn pending_side_gone(&mut self, ask: u64, side: Side) {
        if self.pending.get(&ask).is_some_and(|pending| pending.from != side) {
            return self.decline(ask);
        }
        let Some(pending) = self.remove_pending(ask) else { return };
        if let Stage::Waiting { onward } = pending.stage {
            self.close(onward);
        }
    }

    fn link_down(&mut self, link: LinkNo) {
        let of_link = |side: &Side| side.0 == link;
        let sides: Vec<Side> = self
            .pending_sides
            .keys()
            .chain(self.tunnels.keys())
            .chain(self.arriving.keys())
            .filter(|side| of_link(side))
            .copied()
            .collect();
        for side in sides {
            self.lane_closed(side);
        }
        self.gate.link_down(link);
        self.neighbours.remove(&link);
        // What was said to the link that is gone reaches nobody.
        self.outputs.retain(
            |output| !matches!(output, TransitOutput::Link { link: to, .. } if *to == link),
        );
    }

    fn remember(&mut self, from: Side, onward: Option<Side>, expires: Time) {
        self.tunnels.insert(from, Tunnel { onward, expires });
        self.expiries.insert((expires, from));
        if let Some(onward) = onward {
            self.arriving.insert(onward, from);
        }
        if let Some(neighbour) = self.neighbours.get_mut(&from.0) {
            neighbour.held += 1;
        }
        self.status.accepted += 1;
    }

    /// Takes a tunnel out of all tables; gives its onward lane.
    fn forget(&mut self, from: Side) -> Option<Side> {
        let tunnel = self.tunnels.remove(&from)?;
        self.expiries.remove(&(tunnel.expires, from));
        if let Some(onward) = tunnel.onward {
            self.arriving.remove(&onward);
        }
        if let Some(neighbour) = self.neighbours.get_mut(&from.0) {
            neighbour.held = neighbour.held.saturating_sub(1);
        }
        tunnel.onward
    }

    fn answer_noise(&mut self, from: Side) {
        let reply = noise_reply(&mut self.rng);
        self.send_reply(from, reply);
    }

    fn send_reply(&mut self, to: Side, reply: BuildReply) {
        self.send(to, LinkMessage::BuildReply { tunnel: to.1, reply });
    }

    fn send(&mut self, to: Side, message: LinkMessage) {
        self.command(to.0, LinkCommand::Send(message));
    }

    fn open(&mut self, side: Side, lane: Lane) {
        self.command(side.0, LinkCommand::Open { tunnel: side.1, lane: Box::new(lane) });
    }

    fn close(&mut self, side: Side) {
        self.command(side.0, LinkCommand::Close { tunnel: side.1, tell: true });
    }

    fn command(&mut self, link: LinkNo, command: LinkCommand) {
        self.outputs.push_back(TransitOutput::Link { link, command });
    }
}

#[cfg(test)]
mod tests;
