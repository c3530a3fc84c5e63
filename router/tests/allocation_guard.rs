//! How many allocations a middle hop makes for the cells it relays. A file of its own: it counts
//! every allocation of its process, so nothing may run beside it.
//!
//! No sockets: those are the driver's. Counts do not depend on the machine, only on the code and on
//! how cells fall into frames.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use warren_router::bench::MemoryRelay;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Most allocations for 10,000 cells: one for 1,000, the bound of issue 5. What it was when last
/// looked at: docs/performance.md.
const PER_10_000_CELLS_MAX: u64 = 10;
/// Windows have grown to their cap, and buffers with them, after so many cells.
const WARM_UP: u64 = 50_000;
const MEASURED: u64 = 200_000;

fn allocations() -> u64 {
    let stats = ALLOCATOR.stats();
    (stats.allocations + stats.reallocations) as u64
}

/// Allocations of the hop for 10,000 cells through `tunnels` tunnels.
fn per_10_000_cells(tunnels: u32) -> u64 {
    let mut relay = MemoryRelay::new(tunnels).expect("honest handshakes succeed");
    while relay.cells() < WARM_UP {
        relay.step(|_| {});
    }
    let (start, mut before, mut made) = (relay.cells(), 0, 0);
    while relay.cells() < start + MEASURED {
        relay.step(|works| {
            if works {
                before = allocations();
            } else {
                made += allocations() - before;
            }
        });
    }
    made * 10_000 / (relay.cells() - start)
}

#[test]
fn a_relayed_cell_hardly_ever_allocates() {
    for tunnels in [1, 16, 100] {
        let made = per_10_000_cells(tunnels);
        println!("{tunnels} tunnels: {made} allocations for 10,000 cells");
        assert!(made <= PER_10_000_CELLS_MAX, "{tunnels} tunnels: {made} for 10,000 cells");
    }
}
