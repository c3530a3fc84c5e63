//! What `warren bench relay` found, for people and for programs.
//!
//! Lives here: the fields, their units, the table. Does not live here: how they are measured.

use std::fmt;

use serde::Serialize;

/// The least that one relayed cell costs on this machine, in CPU nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LimitFigures {
    /// Opening and sealing one cell's share of a full frame.
    pub aead_ns: f64,
    /// One onion layer.
    pub onion_ns: f64,
    /// Reading and writing it, 64 KiB at a time, over loopback TCP.
    pub loopback_ns: f64,
}

impl LimitFigures {
    /// All of it.
    pub fn sum(self) -> f64 {
        self.aead_ns + self.onion_ns + self.loopback_ns
    }
}

/// One run of `warren bench relay`: medians over its rounds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RelayFigures {
    /// Rounds that were measured.
    pub rounds: usize,
    /// Cells in one round, at least.
    pub cells_per_round: u64,
    /// Tunnels through the hop.
    pub tunnels: u32,
    /// Threads of the hop.
    pub workers: usize,
    /// CPU time of the hop's process for one cell, kernel included, in nanoseconds.
    pub cpu_ns_per_cell: f64,
    /// Of that, the least and the most of all rounds.
    pub cpu_ns_per_cell_range: [f64; 2],
    /// The same as seconds for one GiB of cell bodies.
    pub cpu_s_per_gib: f64,
    /// Allocations of the hop's process for one cell; absent if this binary does not count them.
    pub allocations_per_cell: Option<f64>,
    /// Cells through the hop in one second of wall time, generators on the same machine.
    pub cells_per_s: f64,
    /// The same as cell bodies of 1,024 bytes.
    pub mib_per_s: f64,
    /// CPU time of the hop over wall time: under 1 it waited for the generators.
    pub busy: f64,
    /// One cell through the same hop without sockets and tasks, in nanoseconds.
    pub memory_ns_per_cell: f64,
    /// Allocations there; absent if this binary does not count them.
    pub memory_allocations_per_cell: Option<f64>,
    /// What the machine allows.
    pub limit: LimitFigures,
    /// Its sum.
    pub limit_ns_per_cell: f64,
    /// `cpu_ns_per_cell` over `limit_ns_per_cell`.
    pub ratio_to_limit: f64,
}

impl fmt::Display for RelayFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |value: Option<f64>| value.map_or("not counted".into(), |n| format!("{n:.4}"));
        let [least, most] = self.cpu_ns_per_cell_range;
        writeln!(
            f,
            "one middle hop, {} tunnels, {} threads; median of {} rounds of {} cells",
            self.tunnels, self.workers, self.rounds, self.cells_per_round
        )?;
        writeln!(
            f,
            "  CPU per cell          {:>8.0} ns   ({least:.0} to {most:.0}; {:.2} CPU-s per GiB)",
            self.cpu_ns_per_cell, self.cpu_s_per_gib
        )?;
        writeln!(
            f,
            "    without sockets     {:>8.0} ns   {} allocations",
            self.memory_ns_per_cell,
            count(self.memory_allocations_per_cell)
        )?;
        writeln!(f, "  allocations per cell  {:>8}", count(self.allocations_per_cell))?;
        writeln!(
            f,
            "  cells per second      {:>8.0}      ({:.0} MiB/s; the hop was busy {:.0} % of the time)",
            self.cells_per_s,
            self.mib_per_s,
            self.busy * 100.0
        )?;
        write!(
            f,
            "  limit of the machine  {:>8.0} ns   (AEAD {:.0}, onion {:.0}, loopback {:.0}): {:.2} times that",
            self.limit_ns_per_cell,
            self.limit.aead_ns,
            self.limit.onion_ns,
            self.limit.loopback_ns,
            self.ratio_to_limit
        )
    }
}
