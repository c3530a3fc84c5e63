//! Floods at ten times what a router or a service takes, while others go on as ever.

#![expect(clippy::unwrap_used, reason = "test code: it fails by panicking")]

use std::{path::Path, time::Duration};

use warren_sim::{
    metric::{Metric, Metrics},
    run::Part,
    scenario::Scenario,
    swarm::Blind,
    template::Template,
    world::{Setup, World},
};

/// What a shipped scenario gives at one point, seed 1; what it expects must hold.
fn shipped(name: &str, times: u32) -> Metrics {
    let text = name.parse::<Template>().unwrap().text;
    let (one, _) = text.split_once("[sweep]").unwrap();
    let (scenario, _) = Scenario::read(one, &[format!("adversary.times={times}")]).unwrap();
    let report = scenario.run(Path::new("."), 1, Part::default(), &mut Blind).unwrap().unwrap();
    assert!(!scenario.expect().is_empty());
    for (metric, condition) in scenario.expect() {
        let value = report.metrics.get(metric).copied();
        assert!(condition.holds(value), "{metric} {condition}: {:?}", report.metrics);
    }
    report.metrics
}

/// Twenty builds a second are opened, and two hundred come from ten neighbours to every honest router: as many as
/// a neighbour may send. One in ten is a good one that is opened and becomes a tunnel, the others are refused at
/// their turn.
#[test]
fn nine_of_ten_honest_builds_come_about_in_a_flood_of_ten_times_what_routers_open() {
    let metrics = shipped("build-flood", 10);
    assert!(metrics[&Metric::Builds] >= 60.0, "there was something to build: {metrics:?}");
    assert!(metrics[&Metric::BuildsRefused] > 100.0, "there was a flood: {metrics:?}");
}

/// Each gateway lets in two clients a second, ten in all, and a hundred splices a second come, all of
/// them good ones, as whoever knows the service's name can make them.
#[test]
fn nine_of_ten_honest_clients_get_in_within_ten_seconds_in_a_flood_of_ten_times_what_a_service_takes()
 {
    let metrics = shipped("introduction-flood", 10);
    assert!(metrics[&Metric::Effort] > 0.0, "the service asked for work: {metrics:?}");
}

/// Ten strangers store 20 MB as fast as production lets them; somebody else stores a small file meanwhile. Every
/// put goes through end hops that take 48 at a time (96 for who has none under way) and is paid for with work.
#[test]
fn whoever_puts_a_little_is_served_while_ten_others_put_all_they_can() {
    let mut world = World::new(Setup { routers: 12, ..Setup::default() });
    world.start();
    assert!(world.run_until(Duration::from_mins(1), |world| world.ready() == 12));
    let flood: Vec<_> = (2..12u8).map(|no| world.put(no.into(), vec![no; 2_000_000])).collect();
    world.run(world.net.time() + Duration::from_millis(500));
    let begun = world.net.time();
    let mine = world.put(1, vec![77; 200_000]);
    assert!(world.run_until(Duration::from_secs(30), |world| world.file_over(mine)));
    let (progress, _) = world.stored(mine).unwrap();
    eprintln!("{:?} {progress:?}", world.net.time().since(begun));
    assert_eq!((progress.stored, progress.thin), (progress.total, 0));
    let over = |world: &World| flood.iter().all(|job| world.file_over(*job));
    assert!(!over(&world), "there was a flood");
    assert!(world.run_until(Duration::from_mins(5), over), "and it is stored as well");
}
