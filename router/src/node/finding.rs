//! Finding a service's descriptor through an end's tunnels.
//!
//! Lives here: which of the end's requests is which of the lookup's. Does not live here: what is
//! asked for, and when it is found or given up (`overlay::service::Lookup`); the end and its tunnels;
//! what is done with what was found (`contexts.rs`, `probes.rs`).

use std::collections::BTreeMap;

use warren_overlay::{
    garlic::{Clove, RecordAnswer},
    service::{Lookup, LookupInput, LookupOutput, Outcome},
    session::EndInput,
    time::{Now, Time},
};

/// What is to be done.
pub(super) enum FindingOutput {
    /// For the end.
    Ask(EndInput),
    /// It is over.
    Done(Outcome),
}

/// One end's lookups, one at a time.
#[derive(Debug, Default)]
pub(super) struct Finding {
    lookup: Option<Lookup>,
    /// The end's request numbers, and the lookup's.
    requests: BTreeMap<u32, u32>,
    next_request: u32,
}

impl Finding {
    /// Begins a lookup; whatever was under way is forgotten.
    pub(super) fn begin(&mut self, lookup: Lookup) {
        self.requests.clear();
        self.lookup = Some(lookup);
    }

    /// Forgets what is under way.
    pub(super) fn stop(&mut self) {
        self.lookup = None;
    }

    /// Whether a lookup is under way.
    pub(super) fn is_under_way(&self) -> bool {
        self.lookup.is_some()
    }

    /// The end's request was answered, or never will be. True if it was the lookup's.
    pub(super) fn answer(&mut self, now: Now, request: u32, answer: Option<RecordAnswer>) -> bool {
        let (Some(request), Some(lookup)) = (self.requests.remove(&request), &mut self.lookup)
        else {
            return false;
        };
        let answer = answer.unwrap_or(RecordAnswer::NoRoute { left: 0 });
        lookup.handle_input(now, LookupInput::Answer { request, answer });
        true
    }

    /// Time passed. True if something was due.
    pub(super) fn handle_timeout(&mut self, now: Now) -> bool {
        let due = self.poll_timeout().is_some_and(|at| at <= now.time);
        if due && let Some(lookup) = &mut self.lookup {
            lookup.handle_timeout(now);
        }
        due
    }

    /// When to be woken.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.lookup.as_ref()?.poll_timeout()
    }

    /// The next thing to do.
    pub(super) fn poll_output(&mut self) -> Option<FindingOutput> {
        match self.lookup.as_mut()?.poll_output()? {
            LookupOutput::Get { request, key } => {
                // The top bit is the end's own (EndInput::Request).
                self.next_request = (self.next_request + 1) & 0x7fff_ffff;
                self.requests.insert(self.next_request, request);
                let clove = Clove::RecordGet { request: self.next_request, key };
                Some(FindingOutput::Ask(EndInput::Request { tunnel: None, clove }))
            }
            LookupOutput::Done(outcome) => {
                self.stop();
                Some(FindingOutput::Done(outcome))
            }
        }
    }
}
