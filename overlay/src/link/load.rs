//! What a link keeps only while something goes over it.
//!
//! Lives here: lists that are empty on most links of a router most of the time, and are then not there.
//! Does not live here: what they are for (`io.rs`, `lanes.rs`, `transmit.rs`).

use std::{
    collections::{BTreeMap, VecDeque},
    ops::{Deref, DerefMut},
};

use crate::{
    id::TunnelId,
    link::{
        api::LinkOutput,
        batch::Spares,
        bulk::{BulkQueue, Joiner},
        control::ControlQueue,
    },
    room::Room,
    time::Time,
};

/// Read as if it were always there; made when something is first put into it.
#[derive(Debug, Default)]
pub(super) struct Load(Option<Box<Lists>>);

/// What a [`Load`] is.
#[derive(Debug)]
pub(super) struct Lists {
    /// What is to be passed on.
    pub(super) outputs: VecDeque<LinkOutput>,
    /// What the next frames begin with.
    pub(super) control: ControlQueue,
    /// Messages that go in parts,
    pub(super) bulk: BulkQueue,
    /// and those that come so.
    pub(super) joiner: Joiner,
    /// Lanes with a pending batch.
    pub(super) touched: Vec<TunnelId>,
    /// Batches to fill.
    pub(super) spares: Spares,
    /// Where a control message is put together.
    pub(super) scratch: Vec<u8>,
    /// Lanes of which cells have left, not yet told to the feeder.
    pub(super) drained: Vec<TunnelId>,
    /// Grants that came before their lane: cells, and when.
    pub(super) early: BTreeMap<TunnelId, (u32, Time)>,
    /// What the bandwidth limit keeps back.
    pub(super) held: Held,
}

/// Until when the bandwidth limit keeps what back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Cells and parts.
    pub(super) data: Option<Time>,
    /// And lanes that were idle may not send before that either.
    pub(super) fresh: bool,
    /// Cells of others, by their share.
    pub(super) shared: Option<Time>,
    /// And of those that were idle.
    pub(super) shared_fresh: bool,
}

static NOTHING: Lists = Lists::none();

impl Default for Lists {
    fn default() -> Self {
        Self::none()
    }
}

impl Deref for Load {
    type Target = Lists;

    fn deref(&self) -> &Lists {
        self.0.as_deref().unwrap_or(&NOTHING)
    }
}

impl DerefMut for Load {
    fn deref_mut(&mut self) -> &mut Lists {
        self.0.get_or_insert_default()
    }
}

impl Load {
    /// The lists, if they are there.
    pub(super) fn lists(&mut self) -> Option<&mut Lists> {
        self.0.as_deref_mut()
    }

    /// The link is over: what it has yet to tell is left, and nothing else.
    pub(super) fn end(&mut self) {
        let outputs = self.lists().map(|it| std::mem::take(&mut it.outputs)).unwrap_or_default();
        self.0 = None;
        self.outputs = outputs;
    }

    /// Cells that the peer granted before the lane was there.
    pub(super) fn take_early(&mut self, tunnel: TunnelId) -> Option<u32> {
        if self.early.is_empty() {
            return None;
        }
        let cells = self.early.remove(&tunnel).map(|(cells, _)| cells);
        self.early.rest();
        cells
    }

    /// Takes note of what is kept back now.
    pub(super) fn hold(&mut self, held: Held) {
        if self.held != held {
            self.held = held;
        }
    }

    /// Time passed: what was kept back until now may go.
    pub(super) fn let_go(&mut self, now: Time) {
        let mut held = self.held;
        held.data.take_if(|until| *until <= now);
        held.shared.take_if(|until| *until <= now);
        self.hold(held);
    }

    /// Nothing has gone over the link for long: gives up what is empty, or only room to spare.
    pub(super) fn rest(&mut self) {
        let Some(lists) = &mut self.0 else { return };
        if lists.is_needed() {
            lists.outputs.rest();
            lists.bulk.rest();
            lists.joiner.rest();
            lists.touched.rest();
            lists.spares.rest();
            lists.scratch = Vec::new();
            lists.drained.rest();
            lists.early.rest();
        } else {
            self.0 = None;
        }
    }
}

impl Lists {
    const fn none() -> Self {
        Self {
            outputs: VecDeque::new(),
            control: ControlQueue::none(),
            bulk: BulkQueue::none(),
            joiner: Joiner::none(),
            touched: Vec::new(),
            spares: Spares::none(),
            scratch: Vec::new(),
            drained: Vec::new(),
            early: BTreeMap::new(),
            held: Held { data: None, fresh: false, shared: None, shared_fresh: false },
        }
    }

    fn is_needed(&self) -> bool {
        !(self.outputs.is_empty()
            && self.control.is_empty()
            && self.bulk.is_empty()
            && self.joiner.is_empty()
            && self.touched.is_empty()
            && self.drained.is_empty()
            && self.early.is_empty()
            && self.held == Held::default())
    }
}
