//! A service's router is killed and comes back: its disk is all that it remembers.

use std::time::Duration;

use warren_sim::{
    Fetch, HostNo, Latency, Wires,
    world::{Setup, World},
};

const CLIENT: HostNo = 11;

fn answered(world: &mut World, fetch: usize, limit: Duration) -> bool {
    world.run_until(limit, |world| world.fetched(fetch).is_some_and(Fetch::over));
    world.fetched(fetch).is_some_and(Fetch::done)
}

/// The longest of twenty runs took 4.1 s.
#[test]
fn old_clients_and_new_reach_a_restarted_service_within_ten_seconds() {
    for seed in 1..=4 {
        let latency =
            Latency::Uniform { least: Duration::from_micros(200), most: Duration::from_millis(2) };
        let setup = Setup { seed, wires: Wires::new(latency), ..Setup::default() };
        let mut world = World::new(setup);
        world.start();
        assert!(world.run_until(Duration::from_mins(1), |world| world.ready() == 12));
        let (end, name) = world.expose(0);
        assert!(world.run_until(Duration::from_secs(30), |world| world.published(0, end)));
        world.run(world.net.time() + Duration::from_secs(2));
        let fetch = world.fetch(CLIENT, name, 1_000, 0);
        assert!(answered(&mut world, fetch, Duration::from_secs(5)));
        world.kill(0);
        world.run(world.net.time() + Duration::from_millis(300));
        world.start_router(0);
        let start = world.net.time();
        for context in [0, 1] {
            loop {
                let fetch = world.fetch(CLIENT, name, 1_000, context);
                if answered(&mut world, fetch, Duration::from_secs(15)) {
                    break;
                }
                world.run(world.net.time() + Duration::from_millis(200));
            }
        }
        let took = world.net.time().since(start);
        assert!(took <= Duration::from_secs(10), "seed {seed}: {took:?}");
    }
}
