//! Files on whole networks on the virtual clock: stored here, fetched there, the publisher gone.

use std::time::Duration;

use warren_sim::world::{Setup, World};

fn ready_world(setup: Setup) -> World {
    let routers = setup.routers;
    let mut world = World::new(setup);
    world.start();
    assert!(world.run_until(Duration::from_mins(1), |world| world.ready() == routers));
    world
}

fn text(len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| u8::try_from((at * 31 + at / 251) % 256).expect("a remainder of 256"))
        .collect()
}

/// Stores a file at router 0, kills it, fetches at router 17.
fn put_and_get(setup: Setup, len: usize) -> World {
    let mut world = ready_world(setup);
    let bytes = text(len);
    let put = world.put(0, bytes.clone());
    let stored = world.run_until(Duration::from_mins(2), |world| world.file_over(put));
    let (progress, cap) = world.stored(put).expect("it was begun");
    assert!(stored, "{progress:?}");
    assert_eq!(progress.stored, progress.total);
    world.kill(0);
    world.run(world.net.time() + Duration::from_secs(1));
    let get = world.get(17, cap);
    world.run_until(Duration::from_mins(2), |world| world.file_over(get));
    let (progress, got) = world.file(get).expect("it was begun");
    assert!(got == bytes, "{progress:?}");
    world
}

#[test]
fn a_file_outlives_its_publisher() {
    put_and_get(Setup { routers: 24, ..Setup::default() }, 1 << 20);
}

#[test]
fn the_same_seed_stores_and_fetches_the_same_way() {
    let run =
        |seed| put_and_get(Setup { routers: 20, seed, ..Setup::default() }, 200_000).net.hash();
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn a_file_goes_and_comes_between_parts_that_answer_late() {
    let deferred = Duration::from_millis(3);
    put_and_get(Setup { routers: 20, deferred, ..Setup::default() }, 300_000);
}

#[test]
fn what_nobody_stored_is_not_found_within_seconds() {
    let mut world = ready_world(Setup { routers: 20, ..Setup::default() });
    let (mut other, bytes) =
        (ready_world(Setup { routers: 20, seed: 9, ..Setup::default() }), text(9));
    let put = other.put(3, bytes);
    assert!(other.run_until(Duration::from_mins(1), |world| world.file_over(put)));
    let (_, cap) = other.stored(put).unwrap();
    let get = world.get(5, cap);
    assert!(world.run_until(Duration::from_secs(20), |world| world.file_over(get)));
    let (progress, got) = world.file(get).unwrap();
    assert!(got.is_empty() && progress.routers > 0, "{progress:?}");
}
