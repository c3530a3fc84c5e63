//! One router falls silent in the middle of a download (SIGSTOP, not a reset): wherever it stands, the
//! download goes on within 3 s and loses nothing.

use std::time::Duration;

use warren_sim::{
    Fetch, HostNo, Latency, Wires,
    world::{Setup, World},
};

const CLIENT: HostNo = 11;

/// A download in a network of twelve with `silent` asleep after the first eighth of it.
fn stall(seed: u64, silent: HostNo) -> Duration {
    let latency =
        Latency::Uniform { least: Duration::from_micros(200), most: Duration::from_millis(2) };
    let setup = Setup { seed, wires: Wires::new(latency), ..Setup::default() };
    let mut world = World::new(setup);
    world.start();
    assert!(world.run_until(Duration::from_mins(1), |world| world.ready() == 12));
    let (end, name) = world.expose(0);
    assert!(world.run_until(Duration::from_secs(30), |world| world.published(0, end)));
    world.run(world.net.time() + Duration::from_secs(2));
    let fetch = world.fetch(CLIENT, name, 40_000_000, 0);
    let eighth = |world: &World| world.fetched(fetch).is_some_and(|it| it.got() > 5_000_000);
    assert!(world.run_until(Duration::from_secs(30), eighth));
    world.net.sleep(silent, true);
    world.run_until(Duration::from_secs(90), |world| world.fetched(fetch).is_some_and(Fetch::over));
    let fetch = world.fetched(fetch).expect("it was asked for");
    assert!(fetch.done(), "seed {seed}, router {silent}: {fetch:?}");
    fetch.stall
}

/// The limit. Of 160 such runs the longest took 2.2 s.
#[test]
fn whichever_router_falls_silent_a_download_stalls_three_seconds_at_most() {
    let runs = (1..=2).flat_map(|seed| (1..CLIENT).map(move |silent| (seed, silent)));
    let stalls: Vec<_> = runs.map(|run| (stall(run.0, run.1), run)).collect();
    let (longest, run) = stalls.iter().max().unwrap();
    assert!(*longest <= Duration::from_secs(3), "seed and router {run:?}: {longest:?}");
    // Some of them were on the path, or nothing was tested.
    assert!(*longest >= Duration::from_secs(1), "nobody's silence was noticed");
}
