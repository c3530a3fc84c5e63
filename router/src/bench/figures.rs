//! What `warren bench relay` and `path` found, for people and for programs.
//!
//! Lives here: the fields, their units, the table. Does not live here: how they are measured.

use std::fmt;

use serde::Serialize;

use super::{
    path::{FirstByte, Throughput},
    scaling::ScalingFigures,
};

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
    /// What a second worker costs, without sockets too.
    pub scaling: ScalingFigures,
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
        let scaling = self.scaling;
        writeln!(
            f,
            "    two hops at once    {:>8.0} ns   {:.2} times one ({:.0}), a thread each",
            scaling.two_shares_ns, scaling.shares_ratio, scaling.one_share_ns
        )?;
        writeln!(
            f,
            "    a task, two threads {:>8.0} ns   {:.2} times on one ({:.0})",
            scaling.task_two_workers_ns, scaling.task_ratio, scaling.task_one_worker_ns
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

/// One run of `warren bench path`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PathFigures {
    /// Which network.
    pub name: String,
    /// Its processes.
    pub processes: usize,
    /// Of them, those that ended meanwhile.
    pub died: usize,
    /// Encrypted connections between the client's router and the service's.
    pub links: u32,
    /// Seconds until the first page came, from when it was first asked for.
    pub first_page_s: f64,
    /// Cores that all processes keep busy when nothing is asked of them.
    pub idle_cores: f64,
    /// Resident memory of a process before the downloads, in MiB: median and most.
    pub idle_mib: [f64; 2],
    /// The same after them.
    pub loaded_mib: [f64; 2],
    /// 1 KiB over a new stream, nothing else going on.
    pub first_byte: FirstByte,
    /// The same beside downloads at 70 % of what `many` reached.
    pub first_byte_busy: FirstByte,
    /// The same beside as many downloads as there is room for.
    pub first_byte_saturated: FirstByte,
    /// One download at a time.
    pub one: Throughput,
    /// Several at once.
    pub many: Throughput,
    /// Milliseconds from a new router's start to its first page, for each that joined.
    pub join_ms: Vec<f64>,
    /// What the machine allows one relay of Warren.
    pub limit: LimitFigures,
    /// All onion layers of a path of 3 and 3 hops, in nanoseconds for one cell.
    pub onion_path_ns: f64,
    /// What the machine allows a whole path: AEAD, onion layers and loopback alone.
    pub limit_cpu_s_per_gib: f64,
    /// One download's CPU time over that.
    pub ratio_to_limit: f64,
}

impl fmt::Display for PathFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [idle, _] = self.idle_mib;
        let [loaded, most] = self.loaded_mib;
        writeln!(
            f,
            "{}: {} processes, {} links from client to service",
            self.name, self.processes, self.links
        )?;
        if self.died > 0 {
            writeln!(f, "  {} processes ended meanwhile", self.died)?;
        }
        for (name, it) in [
            ("idle", &self.first_byte),
            ("bulk at 70 %", &self.first_byte_busy),
            ("saturated", &self.first_byte_saturated),
        ] {
            writeln!(
                f,
                "  first byte, {name:<13} {:>7.1} ms median, {:.1} ms p95; {} of {} fetched; \
                 {:.1} MiB/s beside; {:.2} cores foreign",
                it.median_ms,
                it.p95_ms,
                it.fetched,
                it.fetched + it.failed,
                it.bulk_mib_per_s,
                it.foreign_cores
            )?;
        }
        for it in [&self.one, &self.many] {
            writeln!(
                f,
                "  {} at once {:>14.1} MiB/s; {:.1} CPU-s per GiB ({:.1} without idle; {:.2} a relay \
                 hop); {:.2} cores, {:.2} foreign",
                it.streams,
                it.mib_per_s,
                it.cpu_s_per_gib,
                it.cpu_s_per_gib_net,
                it.relay_cpu_s_per_gib_per_hop,
                it.cores,
                it.foreign_cores
            )?;
        }
        writeln!(
            f,
            "  idle: {:.4} cores for all; memory of a process {idle:.0} MiB idle, {loaded:.0} after \
             load ({most:.0} at most)",
            self.idle_cores
        )?;
        if !self.join_ms.is_empty() {
            writeln!(f, "  new router to first page, ms: {:?}", self.join_ms)?;
        }
        write!(
            f,
            "  limit of the machine {:.1} CPU-s per GiB (a cell: AEAD {:.0}, loopback {:.0} at each \
             of {} places, onion {:.0} ns): {:.2} times that",
            self.limit_cpu_s_per_gib,
            self.limit.aead_ns,
            self.limit.loopback_ns,
            self.links + 1,
            self.onion_path_ns,
            self.ratio_to_limit
        )
    }
}
