//! Routers are killed and come back: their disk is all that they remember.

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

/// A descriptor says in which minute it was made. Of two of one minute others keep the first, in which the
/// tunnel keys are those of a process that is gone.
#[test]
fn who_starts_twice_in_a_minute_is_known_to_all_by_its_new_keys_in_the_next() {
    const TWICE: HostNo = 5;
    let mut world = World::new(Setup::default());
    world.start();
    assert!(world.run_until(Duration::from_secs(20), |world| world.ready() == 12));
    let first = world.net.host(TWICE).unwrap().descriptor().clone();
    world.kill(TWICE);
    world.run(world.net.time() + Duration::from_millis(300));
    world.start_router(TWICE);
    let second = world.net.host(TWICE).unwrap().descriptor().clone();
    assert_eq!(first.fields().published, second.fields().published, "the same minute");
    assert_ne!(first.fields().tunnel_dh, second.fields().tunnel_dh);
    world.run(world.net.time() + Duration::from_secs(75));
    for (no, host) in world.net.hosts().filter(|(no, _)| *no != TWICE) {
        let known = host.node_ref().ring().view().find(|it| it.id() == second.id());
        let keys = known.map(|it| it.fields().tunnel_dh);
        assert_eq!(keys, Some(second.fields().tunnel_dh), "as router {no} knows it");
    }
}
