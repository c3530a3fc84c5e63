//! A service's machine sleeps for a minute, or its network is gone that long, and comes back: it answers
//! again within seconds, not minutes.

#![expect(clippy::unwrap_used, reason = "test code: it fails by panicking")]

use std::time::Duration;

use warren_sim::{
    Fetch, HostNo, Latency, Wires,
    world::{Setup, World},
};

const SERVICE: HostNo = 0;
const CLIENT: HostNo = 11;
const SLEEP: Duration = Duration::from_mins(1);

/// How long after its machine woke a service answers a client that asks again and again.
fn answers_after(seed: u64) -> Duration {
    let latency =
        Latency::Uniform { least: Duration::from_millis(5), most: Duration::from_millis(40) };
    let setup = Setup { seed, wires: Wires::new(latency), ..Setup::default() };
    let mut world = World::new(setup);
    world.start();
    assert!(world.run_until(Duration::from_mins(1), |world| world.ready() == 12));
    let (end, name) = world.expose(SERVICE);
    assert!(world.run_until(Duration::from_secs(30), |world| world.published(SERVICE, end)));
    world.run(world.net.time() + Duration::from_secs(30));
    world.net.sleep(SERVICE, true);
    world.run(world.net.time() + SLEEP);
    world.net.sleep(SERVICE, false);
    let woke = world.net.time();
    loop {
        let fetch = world.fetch(CLIENT, name, 1_000, 0);
        let over = |world: &World| world.fetched(fetch).is_some_and(Fetch::over);
        world.run_until(Duration::from_secs(90), over);
        if world.fetched(fetch).is_some_and(Fetch::done) {
            return world.net.time().since(woke);
        }
        world.run(world.net.time() + Duration::from_millis(250));
        assert!(world.net.time().since(woke) < Duration::from_mins(5), "seed {seed}: not again");
    }
}

#[test]
fn a_service_that_slept_for_a_minute_answers_within_ten_seconds_as_a_rule_and_sixty_always() {
    let mut took: Vec<_> = (1..=20).map(|seed| (answers_after(seed), seed)).collect();
    took.sort();
    println!("{took:?}");
    assert!(took[took.len() / 2].0 <= Duration::from_secs(10), "{took:?}");
    assert!(took.last().unwrap().0 <= Duration::from_mins(1), "{took:?}");
}
