//! Tunnels that end at this router: the link's side of `garlic::EndHop`.
//!
//! Lives here: giving an end hop what comes for it, and passing on what it wants. Does not live
//! here: what it does (`garlic`), when its cells go out (`transmit.rs`).

use crate::{
    garlic::{EndHop, EndHopCommand, EndHopOutput},
    id::{SpliceId, TunnelId},
    link::{
        api::LinkOutput,
        frame::{self, WireCell},
        io::Core,
    },
    plane::{CellBody, Lane, LinkEvent, Part},
    time::Time,
};

impl Core {
    /// Cells of the tunnel's owner. They are used up at once, so their credit returns.
    pub(super) fn end_hop_cells(&mut self, now: Time, tunnel: TunnelId, run: &mut [WireCell]) {
        let round_trip = self.round_trip();
        let Some(state) = self.lanes.get_mut(&tunnel) else { return };
        let Lane::EndHop(hop) = &mut *state.lane else { return };
        let mut bodies = run.iter_mut().map(frame::body_of);
        if let Err(error) = bodies.try_for_each(|body| hop.handle_cell(now, body)) {
            tracing::debug!(link = self.link.0, %error, "tunnel ended by its end hop");
            self.past.counters().lanes_broken += 1;
            return self.break_lane(tunnel);
        }
        state.book.drained(now, u32::try_from(run.len()).unwrap_or(u32::MAX), round_trip);
        self.list_grant(tunnel);
        self.pump_end_hop(now, tunnel);
    }

    /// Cells of a splice's leg.
    pub(super) fn leg_cells(
        &mut self,
        now: Time,
        tunnel: TunnelId,
        splice: SpliceId,
        cells: Vec<CellBody>,
    ) {
        let count = cells.len() as u64;
        if let Some(hop) = self.end_hop(tunnel) {
            hop.handle_leg_cells(now, splice, cells);
            self.pump_end_hop(now, tunnel);
        } else {
            self.count_lost(tunnel, count);
        }
    }

    /// Cells that the end hop fed to a splice's leg have left.
    pub(super) fn leg_drained(
        &mut self,
        now: Time,
        tunnel: TunnelId,
        splice: SpliceId,
        cells: u32,
    ) {
        if let Some(hop) = self.end_hop(tunnel) {
            hop.handle_drained(now, splice, cells);
            self.pump_end_hop(now, tunnel);
        }
    }

    /// The control plane speaks to an end hop.
    pub(super) fn end_hop_command(&mut self, now: Time, tunnel: TunnelId, command: EndHopCommand) {
        if let Some(hop) = self.end_hop(tunnel) {
            hop.handle_command(now, command);
            self.pump_end_hop(now, tunnel);
        }
    }

    /// Lets all end hops look for stalled splices.
    pub(super) fn end_hop_timeouts(&mut self, now: Time) {
        let mut due = Vec::new();
        for (tunnel, state) in self.lanes.iter_mut() {
            if let Lane::EndHop(hop) = &mut *state.lane
                && hop.poll_timeout().is_some_and(|at| at <= now)
            {
                hop.handle_timeout(now);
                due.push(*tunnel);
            }
        }
        for tunnel in due {
            self.pump_end_hop(now, tunnel);
        }
    }

    /// Passes on what an end hop wants, and schedules its lane if it has cells to send.
    pub(super) fn pump_end_hop(&mut self, now: Time, tunnel: TunnelId) {
        let Some(state) = self.lanes.get_mut(&tunnel) else { return };
        let Lane::EndHop(hop) = &mut *state.lane else { return };
        while let Some(output) = hop.poll_output() {
            self.load.outputs.push_back(match output {
                EndHopOutput::Node(event) => {
                    let event = Box::new(event);
                    LinkOutput::Node(LinkEvent::EndHop { tunnel, event })
                }
                EndHopOutput::Part { to, message } => {
                    LinkOutput::Part { to: Part::Link(to), message }
                }
            });
        }
        state.egress.waits(now, hop.has_cell());
        if state.is_ready() {
            self.schedule.wake(tunnel, state);
        }
    }

    fn end_hop(&mut self, tunnel: TunnelId) -> Option<&mut EndHop> {
        match &mut *self.lanes.get_mut(&tunnel)?.lane {
            Lane::EndHop(hop) => Some(hop),
            _ => None,
        }
    }
}
