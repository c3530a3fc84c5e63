//! Ten thousand streams with data that nobody reads: all that waits in them is within each router's
//! limit, whoever has waited longest goes first, and the others stand.

use std::time::Duration;

use warren_overlay::crypto::suite;
use warren_sim::{
    Fetch, FetchNo, HostNo, Purpose, STAND_IN,
    world::{Setup, World},
};

const SERVICE: HostNo = 0;
const CLIENT: HostNo = 11;
/// A session has 1,024 at most.
const STREAMS_PER_CONTEXT: u16 = 1_000;
const CONTEXTS: u16 = 10;
/// All of them together are nearly twice the limit.
const BYTES: u64 = 12_000;
const MEMORY_MIB: u32 = 64;

/// The most that any router holds for what waits, bytes.
fn held(world: &World) -> usize {
    world.net.hosts().map(|(_, host)| host.memory_held()).max().unwrap_or(0)
}

#[test]
fn ten_thousand_streams_that_nobody_reads_stay_within_the_memory_limit() {
    suite::within(Some(&STAND_IN), || {
        let setup = Setup { memory_mib: MEMORY_MIB, padding_counted: true, ..Setup::default() };
        let mut world = World::new(setup);
        world.start();
        assert!(world.run_until(Duration::from_mins(1), |world| world.ready() == 12));
        let (end, name) = world.expose(SERVICE);
        assert!(world.run_until(Duration::from_mins(1), |world| world.published(SERVICE, end)));
        let purpose = Purpose { kind: "unread", reads: false, ..Purpose::fetch(BYTES) };
        let (mut filled, mut most) = (0, 0);
        for context in 0..CONTEXTS {
            let streams: Vec<_> = (0..STREAMS_PER_CONTEXT)
                .map(|_| world.ask(CLIENT, name, purpose, context))
                .collect();
            let over = |world: &World| {
                streams.iter().all(|no| world.fetched(*no).is_some_and(Fetch::over))
            };
            let until = world.net.time() + Duration::from_secs(20);
            while !over(&world) && world.net.time() < until {
                world.run(world.net.time() + Duration::from_millis(20));
                most = most.max(held(&world));
            }
            let all = |no: &&FetchNo| world.fetched(**no).is_some_and(Fetch::done);
            filled += streams.iter().filter(all).count();
        }
        let host = world.net.host(CLIENT).expect("it runs");
        let ended = host.status(world.net.now(CLIENT)).ended_for_memory;
        println!("{filled} streams were filled, {ended} sessions ended, at most {most} bytes held");
        assert_eq!(filled, usize::from(CONTEXTS * STREAMS_PER_CONTEXT));
        let limit = (MEMORY_MIB as usize) << 20;
        assert!((limit / 4 * 3..=limit).contains(&most), "{most} bytes held of {limit}");
        assert!((1..=6).contains(&ended), "{ended} sessions ended");
    });
}
