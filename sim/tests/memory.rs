//! How much memory a router takes that only stands there. A file of its own: it counts all memory of
//! its process, so nothing may run beside it.
//!
//! Bytes that were asked for, over stand-in ciphers: they depend on the code alone, not on the machine.
//! Ten thousand routers are to fit into 1 GiB; what the allocator adds is not counted here.

use std::{alloc::System, time::Duration};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use warren_overlay::{crypto::suite, time::Time};
use warren_sim::{
    STAND_IN,
    world::{Setup, World},
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ROUTERS: u32 = 150;
/// Most bytes of one router, its links and its share of the network. What it was when last looked at:
/// docs/sim.md.
const AT_REST_MAX: usize = 76 * 1_024;
/// The same while the whole network grows at once: handshakes, first tunnels, links that nobody needs.
const GROWING_MAX: usize = 112 * 1_024;

fn held() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

#[test]
fn ten_thousand_routers_at_rest_take_about_a_gibibyte() {
    suite::within(Some(&STAND_IN), || {
        let before = held();
        let setup =
            Setup { routers: ROUTERS, known_max: 64, padding_counted: true, ..Setup::default() };
        let mut world = World::new(setup);
        world.start();
        let mut most = 0;
        while world.net.time() < Time::ZERO + Duration::from_secs(10) {
            world.run(world.net.time() + Duration::from_millis(200));
            most = most.max(held() - before);
        }
        // Everybody has looked after itself by then: once a minute.
        world.run(Time::ZERO + Duration::from_secs(150));
        assert_eq!(world.ready(), ROUTERS);
        let [growing, at_rest] = [most, held() - before].map(|bytes| bytes / ROUTERS as usize);
        println!("{at_rest} bytes a router at rest, {growing} while they come");
        assert!(at_rest <= AT_REST_MAX, "{at_rest} bytes a router at rest");
        assert!(growing <= GROWING_MAX, "{growing} bytes a router while they come");
    });
}
