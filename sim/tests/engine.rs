//! What can go wrong in the engine's networks, and that the routers live through it.

use std::time::Duration;

use warren_overlay::{id::EndNo, service::Name};
use warren_sim::{
    Fetch, FetchNo, Uplink,
    world::{Setup, World},
};

/// Twelve routers that are ready; router 0 has a service.
fn world(setup: Setup) -> (World, EndNo, Name) {
    let mut world = World::new(setup);
    world.start();
    assert!(world.run_until(Duration::from_mins(1), |world| world.ready() == 12));
    let (end, name) = world.expose(0);
    assert!(world.run_until(Duration::from_secs(30), |world| world.published(0, end)));
    (world, end, name)
}

fn wait(world: &mut World, seconds: u64) {
    world.run(world.net.time() + Duration::from_secs(seconds));
}

fn finish(world: &mut World, fetch: FetchNo) -> Fetch {
    world.run_until(Duration::from_mins(2), |world| world.fetched(fetch).is_some_and(Fetch::over));
    let fetch = world.fetched(fetch).cloned().expect("it was asked for");
    assert!(fetch.done(), "{fetch:?}");
    fetch
}

#[test]
fn what_was_kept_back_by_a_partition_comes_when_it_heals() {
    let (mut world, _, name) = world(Setup::default());
    let fetch = world.fetch(11, name, 3_000_000, 0);
    wait(&mut world, 1);
    for no in 6..12 {
        world.net.divide(no, 1);
    }
    wait(&mut world, 5);
    let before = world.fetched(fetch).unwrap().got();
    wait(&mut world, 3);
    assert_eq!(world.fetched(fetch).unwrap().got(), before, "all ways are cut");
    assert!(before < 3_000_000, "done before it was cut");
    world.net.heal();
    finish(&mut world, fetch);
}

#[test]
fn a_machine_that_slept_an_hour_is_ready_again_and_fetches() {
    let (mut world, _, name) = world(Setup::default());
    world.net.sleep(11, true);
    wait(&mut world, 3_600);
    world.net.sleep(11, false);
    assert!(world.run_until(Duration::from_mins(1), |world| world.ready() == 12));
    let fetch = world.fetch(11, name, 100_000, 0);
    finish(&mut world, fetch);
}

#[test]
fn a_fetch_lives_through_links_that_break() {
    let (mut world, _, name) = world(Setup::default());
    let fetch = world.fetch(11, name, 4_000_000, 0);
    for round in 0..10 {
        world.run(world.net.time() + Duration::from_millis(150));
        for no in 0..12 {
            world.net.break_link(no, round);
        }
    }
    finish(&mut world, fetch);
}

#[test]
fn a_service_whose_router_was_killed_is_back_under_its_name() {
    let (mut world, _, name) = world(Setup::default());
    world.kill(0);
    wait(&mut world, 20);
    world.start_router(0);
    let published = |world: &World| world.services().all(|(no, end, _)| world.published(no, end));
    assert!(world.run_until(Duration::from_mins(1), published));
    let fetch = world.fetch(7, name, 100_000, 0);
    finish(&mut world, fetch);
}

#[test]
fn nothing_comes_faster_than_the_uplink_lets_it() {
    let uplink = Some(Uplink { rate: 500_000, burst: 50_000 });
    let (mut world, _, name) = world(Setup { uplink, ..Setup::default() });
    let fetch = world.fetch(9, name, 2_000_000, 0);
    let fetch = finish(&mut world, fetch);
    let took = fetch.last.since(fetch.asked).as_secs_f64();
    assert!(took > 4.0, "{took} s");
}

#[test]
fn routers_nobody_can_dial_and_wrong_clocks_keep_nobody_from_fetching() {
    let (mut world, _, name) = world(Setup { natted: 0.3, skew_minutes: 5, ..Setup::default() });
    for no in [5, 8, 11] {
        let fetch = world.fetch(no, name, 50_000, 0);
        finish(&mut world, fetch);
    }
}

/// Links that others have to router `no`.
fn links_to(world: &World, no: u32) -> usize {
    let others = world.net.hosts().filter(|(other, _)| *other != no);
    others
        .flat_map(|(_, host)| host.links())
        .filter(|(_, io)| world.author(io.peer()) == Some(no))
        .count()
}

#[test]
fn silence_is_noticed_within_fifteen_seconds_also_where_padding_is_counted() {
    for padding_counted in [false, true] {
        let (mut world, ..) = world(Setup { padding_counted, ..Setup::default() });
        wait(&mut world, 30);
        assert!(links_to(&world, 7) >= 8);
        world.net.sleep(7, true);
        wait(&mut world, 4);
        assert!(links_to(&world, 7) > 0, "noticed before its padding was missing");
        wait(&mut world, 12);
        assert_eq!(links_to(&world, 7), 0, "padding counted: {padding_counted}");
        world.net.sleep(7, false);
        assert!(world.run_until(Duration::from_mins(1), |world| world.ready() == 12));
        // Both sides of a partition give each other up, and find each other again.
        for no in 0..3 {
            world.net.divide(no, 1);
        }
        wait(&mut world, 16);
        assert!(links_to(&world, 1) <= 2, "only those of its own side");
        world.net.heal();
        assert!(world.run_until(Duration::from_mins(2), |world| links_to(world, 1) >= 8));
    }
}

#[test]
fn a_slow_disk_slows_down_and_breaks_nothing() {
    let took = |disk| {
        let setup = Setup { disk, ..Setup::default() };
        let mut world = World::new(setup);
        world.start();
        assert!(world.run_until(Duration::from_mins(1), |world| world.ready() == 12));
        let (end, name) = world.expose(0);
        let before = world.net.time();
        assert!(world.run_until(Duration::from_mins(1), |world| world.published(0, end)));
        let published = world.net.time().since(before);
        let fetch = world.fetch(7, name, 100_000, 0);
        finish(&mut world, fetch);
        published
    };
    let [fast, slow] = [None, Some(Duration::from_millis(300))].map(took);
    assert!(slow > fast + Duration::from_millis(300), "{fast:?} {slow:?}");
}
