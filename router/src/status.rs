//! What a router says of itself to its operator: numbers, its own addresses and a verdict in
//! words; no identities.

use serde::{Deserialize, Serialize};

/// A router's state at one moment.
#[expect(clippy::struct_excessive_bools, reason = "facts, each independent of the others")]
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Whether it has its neighbours and a client tunnel.
    pub ready: bool,
    /// One sentence: how it is, and what to do if it is not well.
    pub verdict: String,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Ring neighbours.
    pub neighbours: u32,
    /// Links that stand.
    pub links: u32,
    /// Routers it could build tunnels through, itself not counted.
    pub known_routers: u32,
    /// Own tunnels that wait for use.
    pub tunnels_ready: u32,
    /// Own tunnels in use.
    pub tunnels_used: u32,
    /// Tunnels of others that pass through or end here.
    pub tunnels_transit: u32,
    /// Whether it carries tunnels of others.
    pub transit: bool,
    /// What is sent a second for tunnels of others, mean of the last ten seconds, kbit/s.
    #[serde(default)]
    pub transit_kbps: u64,
    /// The operator's limit for it, per cent of `bandwidth_kbps`.
    #[serde(default)]
    pub transit_percent: u8,
    /// As many links as there may be.
    pub links_limit: u32,
    /// Tunnel builds of others that wait for their turn.
    pub builds_waiting: u32,
    /// Tunnel builds accepted from others.
    pub builds_accepted: u64,
    /// Tunnel builds refused.
    pub builds_refused: u64,
    /// Cells moved for others.
    pub cells_relayed: u64,
    /// What all links sent a second, mean of the last ten seconds, kbit/s; at most `bandwidth_kbps`.
    pub sent_kbps: u64,
    /// What all links received a second, likewise.
    pub received_kbps: u64,
    /// The operator's limit for either, kbit/s.
    pub bandwidth_kbps: u32,
    /// How long bandwidth that is not used is kept, and may be used at once then, ms.
    #[serde(default)]
    pub burst_ms: u32,
    /// Memory that holds what waits to be sent or read, KiB; at most `memory_mib`.
    pub memory_held_kib: u64,
    /// The operator's limit for it, MiB.
    pub memory_mib: u64,
    /// Tunnels and conversations ended because it was reached.
    pub ended_for_memory: u64,
    /// Traffic of this calendar month, sent and received, MiB.
    pub month_mib: u64,
    /// The operator's limit for it, MiB; 0 for none.
    pub month_limit_mib: u64,
    /// The operator's limit for stored blocks, MiB; one block takes 32 KiB.
    pub disk_mib: u64,
    /// Files and sockets that its process has open.
    pub files_open: u64,
    /// As many as it may have open.
    pub files_limit: u64,
    /// Tasks of the process that have not ended: links, streams, files under way.
    pub tasks: u64,
    /// Questions after routers that it sampled or keeps as hops, each through a tunnel (P11).
    #[serde(default)]
    pub asked_after: u64,
    /// How many of these found the router.
    #[serde(default)]
    pub asked_after_found: u64,
    /// Routers that were called gone because nobody found them.
    #[serde(default)]
    pub called_gone: u64,
    /// Records held for others.
    pub records_held: u64,
    /// Blocks held for others, because this router is among the closest to them.
    pub blocks_held: u64,
    /// Conversations with services under way.
    pub contexts: u32,
    /// Hidden services published here.
    pub services: u32,
    /// Whether path rules had to be relaxed because too few routers are known.
    pub anonymity_set_small: bool,
    /// Whether one guard fails builds, or loses tunnels, far more often than the other: it may choose
    /// which. Under 30 % success the other alone is used, and it is replaced, once in 30 days.
    pub guard_fails: bool,
    /// Where it listens for other routers; empty where it does not.
    pub link: String,
    /// What it tells other routers of where it is; empty for a guest, that nobody can dial.
    pub address: String,
    /// Its mixed port.
    pub proxy: String,
    /// Its page, health and metrics.
    pub api: String,
    /// Whether others can dial it: `reachable`, `unreachable`, `unknown`; `told` where that cannot be
    /// asked, `shut` where nobody shall.
    pub reach: String,
    /// The same in words, with what it rests on.
    pub reach_words: String,
    /// What the line's router says of forwarding a port; empty where it is not asked.
    #[serde(default)]
    pub mapping: String,
    /// The same in one word: `asking`, `forwarded`, `refused`; empty where it is not asked.
    #[serde(default)]
    pub mapped: String,
    /// What is known of routers of this network on the local one, in words; empty where it is not looked.
    #[serde(default)]
    pub nearby: String,
    /// Places (in a local network: routers) that dialled it of late.
    pub reach_came: u32,
    /// Places that tried and could not.
    pub reach_failed: u32,
    /// Network name.
    pub network: String,
    /// Program version.
    pub version: String,
}

/// A hidden service as `warren services` shows it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub struct ServiceStatus {
    /// What the operator calls it.
    pub label: String,
    /// `<56 characters>.warren`
    pub name: String,
    /// Where its streams go.
    pub target: String,
    /// Gateways that stand.
    pub gateways: u32,
    /// Whether its descriptor is in the ring.
    pub published: bool,
    /// Hops of its tunnels, 1 to 4, where they are not the router's.
    pub hops: Option<u8>,
    /// For how many seconds it has been reached, by its own looks from outside, one every two minutes;
    /// absent before the first and after one that did not reach it.
    pub reachable_s: Option<u64>,
    /// With how many it is shared, where it is private.
    pub shares: Option<u32>,
    /// How many other routers publish it, as far as is known.
    pub others: u32,
    /// Whether it waits for one of them to go: two publish a service at a time.
    pub stands_by: bool,
}
