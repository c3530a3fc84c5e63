//! A day on the virtual clock, under churn and load: nothing grows. Part of `./warren test --long`.

#![expect(clippy::indexing_slicing, reason = "test code: it fails by panicking")]

use std::{fs, time::Duration};

use warren_sim::{
    Fetch, HostNo, Latency, Purpose, Wires,
    world::{Setup, World},
};

const ROUTERS: HostNo = 10;
const SERVICE: HostNo = 0;
const CLIENTS: [HostNo; 2] = [8, 9];
/// Hours that are lived through, where `WARREN_HOURS` says nothing else.
const HOURS: u64 = 24;
const COUNTS: [&str; 7] = [
    "links",
    "tunnels in stock",
    "tunnels in use",
    "tunnels of others",
    "conversations",
    "records",
    "KiB that wait",
];

/// What all routers together hold that could leak.
fn counts(world: &World) -> [u64; COUNTS.len()] {
    let mut sums = [0; COUNTS.len()];
    for (no, host) in world.net.hosts() {
        let status = host.status(world.net.now(no));
        let these = [
            status.links.into(),
            status.tunnels_ready.into(),
            status.tunnels_used.into(),
            status.tunnels_transit.into(),
            status.contexts.into(),
            status.records_held,
            status.memory_held_kib,
        ];
        for (sum, count) in sums.iter_mut().zip(these) {
            *sum += count;
        }
    }
    sums
}

/// Resident memory of this process, in KiB: all routers, and the clock.
fn resident() -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Every minute three strangers, one conversation all day, every ten minutes a router that is killed and
/// comes back.
fn minute(world: &mut World, name: warren_overlay::service::Name, minute: u64) -> usize {
    let relay = 1 + HostNo::try_from(minute / 10 % 7).expect("less than seven");
    match minute % 10 {
        3 => world.kill(relay),
        5 => world.start_router(relay),
        _ => {}
    }
    let fetches: Vec<_> = (0..3)
        .map(|n| {
            let context = u16::try_from(3 * minute % 60_000).expect("it fits") + 1 + n;
            world.fetch(CLIENTS[usize::from(n) % 2], name, 30_000, context)
        })
        .collect();
    world.run(world.net.time() + Duration::from_mins(1));
    let done = |fetch: &&usize| world.fetched(**fetch).is_some_and(Fetch::done);
    fetches.iter().filter(done).count()
}

#[test]
fn in_a_day_of_churn_and_load_nothing_grows_beyond_its_first_tenth() {
    if std::env::var_os("WARREN_LONG").is_none() {
        return; // minutes of computing
    }
    let hours = std::env::var("WARREN_HOURS").ok().and_then(|text| text.parse().ok());
    let minutes = 60 * hours.unwrap_or(HOURS);
    let latency =
        Latency::Uniform { least: Duration::from_millis(2), most: Duration::from_millis(40) };
    let setup = Setup {
        routers: ROUTERS,
        wires: Wires::new(latency),
        padding_counted: true,
        ..Setup::default()
    };
    let mut world = World::new(setup);
    world.start();
    assert!(world.run_until(Duration::from_mins(1), |world| world.ready() == ROUTERS));
    let (end, name) = world.expose(SERVICE);
    assert!(world.run_until(Duration::from_mins(1), |world| world.published(SERVICE, end)));
    let pause = Duration::from_secs(20);
    let purpose =
        Purpose { kind: "conversation", bytes: 3_000, exchanges: 100_000, pause, reads: true };
    let talk = world.ask(CLIENTS[0], name, purpose, 0);
    // A tenth of the run each. Sums: what is under way in one moment says little.
    let tenth = minutes / 10;
    let (mut first, mut last) = ([0; COUNTS.len()], [0; COUNTS.len()]);
    let (mut memory_first, mut memory_rest, mut done) = (0, 0, 0);
    for at in 0..minutes {
        done += minute(&mut world, name, at);
        let (counts, memory) = (counts(&world), resident());
        let most = if at < tenth { &mut memory_first } else { &mut memory_rest };
        *most = memory.max(*most);
        let sums = if at < tenth { &mut first } else { &mut last };
        if at < tenth || at >= minutes - tenth {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        if at % 60 == 59 {
            eprintln!("hour {}: {counts:?}, {memory} KiB, {done} answers", (at + 1) / 60);
        }
    }
    for ((what, first), last) in COUNTS.iter().zip(first).zip(last) {
        let (first, last) = (first / tenth, last / tenth);
        eprintln!("{what}: {first} in the mean of the first tenth, {last} in that of the last");
        assert!(last <= first + first / 4 + 3, "{what} grow: {first}, then {last}");
    }
    eprintln!("resident: {memory_first} KiB at most in the first tenth, {memory_rest} after it");
    // What the test itself keeps: some hundred bytes for each of 4,320 fetches.
    let kept = 4_096;
    assert!(memory_rest <= memory_first + memory_first / 20 + kept, "memory grows");
    let share = done as u64 * 100 / (3 * minutes);
    assert!(share >= 97, "{share} % of the strangers were answered");
    assert!(!world.fetched(talk).is_none_or(Fetch::over), "{:?}", world.fetched(talk));
}
