//! Questions after sampled and kept routers, each through a tunnel of its own.
//!
//! Lives here: the tunnel of the question that is open. Does not live here: after whom and when, and what is
//! made of the answers (`Upkeep`), whom builds fail at and whom tunnels lead through (`Pools`).
//!
//! ```text
//! Ask ──> a Requester of its own, a tunnel ── Ready ──> RouterFind ── Router ──> Answered
//!                 '── a minute, or the tunnel is gone ──> Unanswered     whatever comes, the end is dropped
//! ```
//!
//! A tunnel for each question: an end hop that was asked after two routers would know two of one sample.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use warren_overlay::{
    garlic::{Clove, OwnTunnelName},
    id::{EndNo, Location, NetworkId, RouterId},
    ring::{Upkeep, UpkeepInput, UpkeepOutput, UpkeepStatus},
    rng::Rng,
    session::{EndEvent, EndInput, Requester},
    time::{Now, Time},
    wire::{Prefix, RouterDescriptor},
};

/// How long a question may take, its tunnel included.
const PATIENCE: Duration = Duration::from_mins(1);
/// Its number: the only one on its tunnel.
const REQUEST: u32 = 1;

/// What happened.
#[derive(Debug)]
pub(super) enum InquiriesInput {
    /// The answer to [`InquiriesOutput::Look`]: who is sampled, who is kept, at whom builds fail.
    Known { sampled: Vec<Arc<RouterDescriptor>>, kept: Vec<RouterId>, failed: BTreeSet<RouterId> },
    /// The answer to [`InquiriesOutput::Ask`]: a number for a new end; none if there is no tunnel to spare.
    Ask { end: Option<EndNo>, location: Location },
    /// A tunnel was built for the question, and who is at its end and where.
    Tunnel { end: EndNo, tunnel: OwnTunnelName, exit: RouterId, place: Option<Prefix> },
    /// A tunnel is gone.
    TunnelGone { end: EndNo },
    /// The question's end says something.
    End { end: EndNo, event: EndEvent },
}

/// What to do next.
#[derive(Debug)]
pub(super) enum InquiriesOutput {
    /// Say who is known.
    Look,
    /// Say whether there is a tunnel to ask through.
    Ask(Location),
    /// Hold this end.
    NewRequester { end: EndNo, machine: Box<Requester> },
    /// One tunnel for an end.
    Take { end: EndNo },
    /// For an end.
    End { end: EndNo, input: EndInput },
    /// Forget this end and its tunnel.
    DropEnd { end: EndNo },
    /// Who was asked after describes itself so.
    Fresh(Arc<RouterDescriptor>),
    /// It is not there any more, unless its use has shown otherwise.
    Gone(RouterId),
}

/// The question that is open.
#[derive(Debug)]
struct Question {
    end: EndNo,
    location: Location,
    until: Time,
    exit: Option<(RouterId, Option<Prefix>)>,
}

/// The machine.
#[derive(Debug)]
pub(super) struct Inquiries {
    upkeep: Upkeep,
    question: Option<Question>,
    out: VecDeque<InquiriesOutput>,
}

impl Inquiries {
    /// Nobody is asked after.
    pub(super) fn new(now: Time, network: NetworkId, rng: Rng) -> Self {
        let upkeep = Upkeep::new(now, network, rng);
        Self { upkeep, question: None, out: VecDeque::new() }
    }

    /// Whether an end is the open question's.
    pub(super) fn holds(&self, end: EndNo) -> bool {
        self.question.as_ref().is_some_and(|it| it.end == end)
    }

    /// Numbers.
    pub(super) fn status(&self) -> UpkeepStatus {
        self.upkeep.status()
    }

    /// Something happened.
    pub(super) fn handle_input(&mut self, now: Now, input: InquiriesInput) {
        match input {
            InquiriesInput::Known { sampled, kept, failed } => {
                self.upkeep.handle_input(now, UpkeepInput::Known { sampled, kept, failed });
            }
            InquiriesInput::Ask { end: None, .. } => {
                self.upkeep.handle_input(now, UpkeepInput::Unanswered);
            }
            InquiriesInput::Ask { end: Some(end), location } => {
                let until = now.time + PATIENCE;
                self.question = Some(Question { end, location, until, exit: None });
                let machine = Box::new(Requester::new());
                self.out.push_back(InquiriesOutput::NewRequester { end, machine });
                self.out.push_back(InquiriesOutput::Take { end });
            }
            InquiriesInput::Tunnel { end, tunnel, exit, place } => {
                let question = self.question.as_mut().filter(|it| it.end == end);
                if let Some(question) = question.filter(|it| it.exit.is_none()) {
                    question.exit = Some((exit, place));
                    let location = question.location;
                    let clove = Clove::RouterFind { request: REQUEST, location };
                    let input = EndInput::Request { tunnel: Some(tunnel), clove };
                    self.out.push_back(InquiriesOutput::End { end, input });
                }
            }
            InquiriesInput::TunnelGone { end } => {
                if self.holds(end) {
                    self.close(now, UpkeepInput::Unanswered);
                }
            }
            InquiriesInput::End { end, event: EndEvent::Router { answer, .. } } => {
                let question = self.question.as_ref().filter(|it| it.end == end);
                let Some(question) = question else { return };
                let input = match (question.exit, answer) {
                    (Some((exit, place)), Some(answer)) => {
                        UpkeepInput::Answered { exit, place, answer }
                    }
                    _ => UpkeepInput::Unanswered,
                };
                self.close(now, input);
            }
            // The wiring's own business.
            InquiriesInput::End { .. } => {}
        }
        self.drain();
    }

    /// Time passed.
    pub(super) fn handle_timeout(&mut self, now: Now) {
        if self.question.as_ref().is_some_and(|it| it.until <= now.time) {
            self.close(now, UpkeepInput::Unanswered);
        }
        self.upkeep.handle_timeout(now);
        self.drain();
    }

    /// When to be woken.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        let until = self.question.as_ref().map(|it| it.until);
        until.into_iter().chain(self.upkeep.poll_timeout()).min()
    }

    /// The next thing to do.
    pub(super) fn poll_output(&mut self) -> Option<InquiriesOutput> {
        self.out.pop_front()
    }

    /// Gives up room that nothing needs.
    pub(super) fn rest(&mut self) {
        self.upkeep.rest();
    }

    fn close(&mut self, now: Now, outcome: UpkeepInput) {
        if let Some(Question { end, .. }) = self.question.take() {
            self.out.push_back(InquiriesOutput::DropEnd { end });
            self.upkeep.handle_input(now, outcome);
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.upkeep.poll_output() {
            self.out.push_back(match output {
                UpkeepOutput::Look => InquiriesOutput::Look,
                UpkeepOutput::Ask(location) => InquiriesOutput::Ask(location),
                UpkeepOutput::Fresh(it) => InquiriesOutput::Fresh(it),
                UpkeepOutput::Gone(id) => InquiriesOutput::Gone(id),
            });
        }
    }
}

#[cfg(test)]
mod tests;
