//! Telling this router's owner whom tunnels may go through.
//!
//! Lives here: who of the known routers is fit to be a hop, when that is told anew, and with whom there
//! may be links. Does not live here: the view (`view.rs`), the checks of others' work
//! (`admission.rs`) and of their signatures (`members.rs`).

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{admission::Source, api::Output, machine::Ring};
use crate::{
    id::RouterId,
    time::{Now, Time, Wall},
    wire::RouterDescriptor,
};

/// So many routers with proven work are enough to choose hops among. At 300 ms a check that is 6 s
/// after the first are known; a router that waited longer would start too slowly.
const PROVEN_ENOUGH: usize = 20;
/// With so many known, one more or one less is no hurry.
const AMPLE: usize = 64;
/// Changes are told together.
const DELAY: Duration = Duration::from_millis(200);
/// The same with [`AMPLE`] known: in a large network they change all the time.
const AMPLE_DELAY: Duration = Duration::from_secs(5);

/// When the view is told next.
#[derive(Debug, Default)]
pub(super) struct Report {
    due: Option<Time>,
}

impl Report {
    /// What is told has changed; `known` routers are in it.
    fn changed(&mut self, now: Time, known: usize) {
        let delay = if known >= AMPLE { AMPLE_DELAY } else { DELAY };
        self.due.get_or_insert(now + delay);
    }

    /// Whether it is time; asked once.
    pub(super) fn is_due(&mut self, now: Time) -> bool {
        self.due.take_if(|at| *at <= now).is_some()
    }

    /// When it will be.
    pub(super) const fn poll_timeout(&self) -> Option<Time> {
        self.due
    }
}

impl Ring {
    /// Whether there may be a link with the router that describes itself so: the owner asks before it
    /// lets one be used for anything.
    pub fn admits(&mut self, wall: Wall, router: &RouterDescriptor) -> bool {
        self.members.admits(wall, router)
    }

    /// Whether a link to that router may be opened, for whomever.
    pub fn may_dial(&self, id: &RouterId) -> bool {
        self.members.may_dial(id)
    }

    /// Others are friends from now on.
    pub(super) fn befriended(&mut self, friends: BTreeSet<RouterId>) {
        self.members.set_friends(friends);
        let mut barred = Vec::new();
        for (link, state) in self.links.iter() {
            if !self.members.may_dial(&state.peer.id()) {
                barred.push((*link, state.peer.id()));
            }
        }
        for (link, id) in barred {
            self.part(&id);
            self.outputs.push_back(Output::CloseLink { link });
        }
        self.keep.dirty = true;
    }

    /// The routers that tunnels may go through: those of the private sample (among friends neighbours as
    /// well, since first hops are friends); none whose work is known to be bad, and as soon as
    /// [`PROVEN_ENOUGH`] have shown theirs, none that has not. The others' is asked for.
    pub(super) fn hops(&mut self, now: Now) -> Vec<Arc<RouterDescriptor>> {
        let mut proven = Vec::with_capacity(self.view.len());
        let mut unproven = Vec::new();
        let (neighbours, open) = (&self.neighbours, self.members.is_open());
        for router in self.view.fit(|id| !open && neighbours.by_id(id).is_some()) {
            if self.proofs.known(router).is_none()
                && let Some(address) = router.address()
            {
                self.proofs.submit(now.time, router, Source::of(address), false);
            }
            match self.proofs.known(router) {
                Some(true) => proven.push(Arc::clone(router)),
                Some(false) => {}
                None => unproven.push(Arc::clone(router)),
            }
        }
        if proven.len() < PROVEN_ENOUGH {
            proven.append(&mut unproven);
        }
        proven
    }

    /// Tells the view a moment after it changed.
    pub(super) fn note_view(&mut self, now: Now) {
        if self.view.take_changed() {
            self.report_view_soon(now);
        }
    }

    /// Tells the view soon: it changed, or more of it is proven.
    pub(super) fn report_view_soon(&mut self, now: Now) {
        self.keep.report.changed(now.time, self.view.len());
    }
}
