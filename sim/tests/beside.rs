//! One service on two routers: when one of them dies, by reset or by silence, strangers and those who
//! were there before get in through the other, and it is found alone soon after.

#![expect(clippy::indexing_slicing, reason = "test code: it fails by panicking")]

use std::time::Duration;

use warren_overlay::{id::EndNo, service::Name};
use warren_sim::{
    Fetch, HostNo, Latency, Wires,
    world::{Setup, World},
};

const FIRST: HostNo = 0;
const SECOND: HostNo = 1;
const CLIENT: HostNo = 11;
/// The limits: half of all times, and 99 of 100.
const USUAL: Duration = Duration::from_secs(10);
const NEARLY_ALWAYS: Duration = Duration::from_mins(1);

fn others(world: &World, no: HostNo, end: EndNo) -> u32 {
    world.net.host(no).and_then(|host| host.node_ref().service(end)).map_or(0, |it| it.others)
}

/// A network of twelve with a service on two routers that know of each other.
fn world(seed: u64) -> (World, [EndNo; 2], Name) {
    let latency =
        Latency::Uniform { least: Duration::from_millis(2), most: Duration::from_millis(40) };
    let setup = Setup { seed, wires: Wires::new(latency), ..Setup::default() };
    let mut world = World::new(setup);
    world.start();
    assert!(world.run_until(Duration::from_mins(1), |world| world.ready() == 12));
    let (first, name) = world.expose(FIRST);
    assert!(world.run_until(Duration::from_secs(30), |world| world.published(FIRST, first)));
    let second = world.expose_beside(SECOND, name).expect("it was published");
    assert!(world.run_until(Duration::from_secs(30), |world| world.published(SECOND, second)));
    assert_eq!(others(&world, SECOND, second), 1, "it read before it wrote");
    // The first learns of it by its next look at itself.
    assert!(world.run_until(Duration::from_secs(130), |world| others(world, FIRST, first) == 1));
    world.run(world.net.time() + Duration::from_secs(5));
    (world, [first, second], name)
}

fn fetched(world: &mut World, name: Name, context: u16) -> bool {
    let fetch = world.fetch(CLIENT, name, 1_000, context);
    let over = |world: &World| world.fetched(fetch).is_some_and(Fetch::over);
    world.run_until(Duration::from_secs(5), over);
    world.fetched(fetch).is_some_and(Fetch::done)
}

/// How long somebody who tries again and again waits: in a conversation that there was before, or as
/// somebody new each time.
fn back_after(world: &mut World, name: Name, mut context: impl FnMut() -> u16) -> Duration {
    let from = world.net.time();
    while !fetched(world, name, context()) {
        assert!(world.net.time().since(from) < 2 * NEARLY_ALWAYS, "nobody answers");
        world.run(world.net.time() + Duration::from_millis(200));
    }
    world.net.time().since(from)
}

/// The first router dies: how long a stranger waits, and somebody who talked to whichever router.
fn first_dies(seed: u64, die: fn(&mut World)) -> [Duration; 2] {
    let (mut world, [_, second], name) = world(seed);
    assert!(fetched(&mut world, name, 0));
    die(&mut world);
    let known = back_after(&mut world, name, || 0);
    let mut new = 100..;
    let stranger = back_after(&mut world, name, || new.next().unwrap_or(0));
    // Its next look at itself finds nobody there.
    let alone = |world: &World| others(world, SECOND, second) == 0;
    assert!(world.run_until(Duration::from_secs(200), alone), "seed {seed}: it is still named");
    [known, stranger]
}

fn within_limits(die: fn(&mut World)) {
    let took: Vec<_> = (1..=8).map(|seed| first_dies(seed, die)).collect();
    for who in [0, 1] {
        let mut took: Vec<_> = took.iter().map(|took| took[who]).collect();
        took.sort_unstable();
        assert!(took[took.len() / 2] <= USUAL, "{took:?}");
        assert!(took.iter().all(|took| *took <= NEARLY_ALWAYS), "{took:?}");
    }
}

#[test]
fn when_one_of_two_routers_of_a_service_is_killed_the_other_answers_within_ten_seconds_as_a_rule() {
    within_limits(|world| world.kill(FIRST));
}

#[test]
fn when_one_of_two_routers_of_a_service_falls_silent_the_other_answers_as_soon() {
    within_limits(|world| world.net.sleep(FIRST, true));
}

/// A move without an interruption: both for a while, then the first one withdraws.
#[test]
fn a_router_that_withdraws_its_service_leaves_it_to_the_other() {
    let (mut world, [first, second], name) = world(1);
    world.withdraw(FIRST, first);
    world.run(world.net.time() + Duration::from_secs(15));
    assert!(world.published(SECOND, second));
    for context in 1..10 {
        assert!(fetched(&mut world, name, context), "context {context}");
    }
}
