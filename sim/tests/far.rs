//! One stream over six relays with 40 ms between any two: windows that start small are as large as the
//! path needs after a few round trips.

use std::time::Duration;

use warren_overlay::{crypto::suite, service::Name};
use warren_sim::{
    Fetch, FetchNo, HostNo, Latency, STAND_IN, Uplink, Wires,
    world::{Setup, World},
};

const SERVICE: HostNo = 0;
const CLIENT: HostNo = 11;
/// One way, on each link.
const WAY: Duration = Duration::from_millis(40);
/// There and back over seven links.
const ROUND_TRIP_MS: u64 = 7 * 2 * 40;
const ROUND_TRIP: Duration = Duration::from_millis(ROUND_TRIP_MS);
const MIB: u64 = 1 << 20;

/// A line that is no limit, even where a path passes one router twice.
const LINE: Uplink = Uplink { rate: 150 * MIB, burst: 65_536 };
/// Each window doubles seven times, some after others.
const GROWTH: usize = 13;
const ROUND_TRIPS: usize = 18;

/// Twelve routers far from each other, each with the memory of a router whose operator says nothing.
fn network(seed: u64) -> (World, Name) {
    let setup = Setup {
        seed,
        wires: Wires::new(Latency::Uniform { least: WAY, most: WAY }),
        uplink: Some(LINE),
        bandwidth_kbps: u32::MAX,
        memory_mib: 256,
        padding_counted: true,
        ..Setup::default()
    };
    let mut world = World::new(setup);
    world.start();
    assert!(world.run_until(Duration::from_mins(1), |world| world.ready() == 12));
    let (end, name) = world.expose(SERVICE);
    assert!(world.run_until(Duration::from_mins(1), |world| world.published(SERVICE, end)));
    world.run(world.net.time() + Duration::from_secs(5));
    (world, name)
}

fn got(world: &World, fetch: FetchNo) -> u64 {
    world.fetched(fetch).map_or(0, Fetch::got)
}

/// Bytes that come in each round trip after the first byte of a download.
fn download(seed: u64) -> Vec<u64> {
    let (mut world, name) = network(seed);
    // The session stands.
    let small = world.fetch(CLIENT, name, 1_000, 0);
    assert!(world.run_until(Duration::from_secs(30), |world| {
        world.fetched(small).is_some_and(Fetch::done)
    }));
    let fetch = world.fetch(CLIENT, name, 1 << 40, 0);
    assert!(world.run_until(Duration::from_secs(30), |world| got(world, fetch) > 0));
    let mut before = 0;
    (0..ROUND_TRIPS)
        .map(|_| {
            world.run(world.net.time() + ROUND_TRIP);
            let came = got(&world, fetch) - before;
            before += came;
            came
        })
        .collect()
}

#[test]
fn a_stream_over_six_far_relays_is_at_full_speed_after_thirteen_round_trips() {
    suite::within(Some(&STAND_IN), || {
        for seed in 1..=2 {
            let came = download(seed);
            let steady = came[GROWTH..].iter().sum::<u64>() / (ROUND_TRIPS - GROWTH) as u64;
            let kib_per_s = |bytes: u64| bytes * 1_000 / 1_024 / ROUND_TRIP_MS;
            let speeds: Vec<_> = came.iter().copied().map(kib_per_s).collect();
            println!("seed {seed}: {speeds:?} KiB/s in each round trip");
            // The bound for one stream over such a path.
            assert!(kib_per_s(steady) >= 20 * 1_024, "{} KiB/s at last", kib_per_s(steady));
            let grown = speeds[GROWTH - 1];
            assert!(grown * 10 >= kib_per_s(steady) * 8, "{grown} KiB/s after {GROWTH}");
        }
    });
}
