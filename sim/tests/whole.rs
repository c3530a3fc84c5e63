//! Whole networks on the virtual clock: seeded, real ciphers, no sleeping.

use std::time::Duration;

use warren_sim::{
    Fetch,
    world::{Setup, World},
};

fn ready_world(setup: Setup) -> World {
    let routers = setup.routers;
    let mut world = World::new(setup);
    world.start();
    let ready = world.run_until(Duration::from_mins(1), |world| world.ready() == routers);
    assert!(ready, "{} of {routers} ready", world.ready());
    world
}

fn published_world(setup: Setup) -> (World, warren_overlay::service::Name) {
    let mut world = ready_world(setup);
    let (end, name) = world.expose(0);
    assert!(world.run_until(Duration::from_secs(30), |world| world.published(0, end)));
    (world, name)
}

#[test]
fn a_stranger_fetches_from_a_hidden_service() {
    let (mut world, name) = published_world(Setup::default());
    let fetch = world.fetch(11, name, 1_000_000, 0);
    let done = world
        .run_until(Duration::from_secs(30), |world| world.fetched(fetch).is_some_and(Fetch::over));
    let fetch = world.fetched(fetch).unwrap();
    assert!(done && fetch.done(), "{fetch:?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let (mut world, name) = published_world(Setup { seed, ..Setup::default() });
        let fetch = world.fetch(5, name, 50_000, 0);
        world.run_until(Duration::from_secs(30), |world| world.fetched(fetch).unwrap().done());
        world.net.hash()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn sixty_routers_lose_a_fifth_of_them_in_the_middle_of_fetches() {
    let (mut world, name) = published_world(Setup { routers: 60, ..Setup::default() });
    let fetches: Vec<_> =
        (40..60).step_by(4).map(|no| world.fetch(no, name, 2_000_000, 0)).collect();
    world.run(world.net.time() + Duration::from_millis(700));
    for no in (1..40).step_by(3).take(12) {
        world.kill(no);
    }
    let finished = world.run_until(Duration::from_secs(90), |world| {
        fetches.iter().all(|fetch| world.fetched(*fetch).is_some_and(Fetch::done))
    });
    for fetch in &fetches {
        let fetch = world.fetched(*fetch).unwrap();
        assert!(fetch.done(), "{fetch:?}");
    }
    assert!(finished);
}

#[test]
fn parts_that_answer_late_change_nothing() {
    let setup = Setup { deferred: Duration::from_millis(3), seed: 3, ..Setup::default() };
    let (mut world, name) = published_world(setup);
    let fetch = world.fetch(9, name, 300_000, 0);
    world.run_until(Duration::from_mins(1), |world| world.fetched(fetch).unwrap().done());
    assert!(world.fetched(fetch).unwrap().done(), "{:?}", world.fetched(fetch));
}
