//! A service stays reachable: its streams outlive the tunnels they began in, and after a sleep, or in
//! another network, it answers within seconds.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "test code: it fails by panicking"
)]

use std::time::Duration;

use warren_overlay::{id::EndNo, service::Name};
use warren_sim::{
    Fetch, HostNo, Latency, Purpose, Wires,
    world::{Setup, World},
};

const SERVICE: HostNo = 0;
const CLIENT: HostNo = 11;
/// Too few for kept second hops; and enough.
const FEW: HostNo = 12;
const LAYERED: HostNo = 17;
/// The limits: half of all times, and 99 of 100.
const USUAL: Duration = Duration::from_secs(10);
const NEARLY_ALWAYS: Duration = Duration::from_mins(1);
const STALL: Duration = Duration::from_secs(3);

/// A network with a service that is published.
fn world(seed: u64, routers: HostNo, padding_counted: bool) -> (World, EndNo, Name) {
    let latency =
        Latency::Uniform { least: Duration::from_millis(2), most: Duration::from_millis(40) };
    let wires = Wires::new(latency);
    let setup = Setup { seed, routers, wires, padding_counted, ..Setup::default() };
    let mut world = World::new(setup);
    world.start();
    assert!(world.run_until(Duration::from_mins(1), |world| world.ready() == routers));
    let (end, name) = world.expose(SERVICE);
    assert!(world.run_until(Duration::from_secs(30), |world| world.published(SERVICE, end)));
    world.run(world.net.time() + Duration::from_secs(5));
    (world, end, name)
}

/// Tunnels that a router's ends left for newer ones.
fn renewed(world: &World, no: HostNo) -> u64 {
    world.net.host(no).map_or(0, |host| host.node_ref().pools().status().renewed)
}

/// How long the service stays away from somebody who tries again and again, each time as somebody who
/// has never been there.
fn back_after(world: &mut World, name: Name) -> Duration {
    let from = world.net.time();
    for context in 100.. {
        let fetch = world.fetch(CLIENT, name, 1_000, context);
        let over = |world: &World| world.fetched(fetch).is_some_and(Fetch::over);
        world.run_until(Duration::from_secs(5), over);
        if world.fetched(fetch).is_some_and(Fetch::done) {
            break;
        }
        assert!(world.net.time().since(from) < 2 * NEARLY_ALWAYS, "it never came back");
        world.run(world.net.time() + Duration::from_millis(200));
    }
    world.net.time().since(from)
}

fn within_limits(mut took: Vec<Duration>) {
    took.sort_unstable();
    let (median, worst) = (took[took.len() / 2], *took.last().unwrap());
    assert!(median <= USUAL, "{took:?}");
    assert!(worst <= NEARLY_ALWAYS, "{took:?}");
}

/// A conversation of some bytes every two seconds, while each of a client's two tunnels is renewed twelve
/// times, and as often some of a service's five. Second hops are kept ones.
#[test]
fn a_stream_outlives_twelve_rotations_and_stalls_three_seconds_at_most() {
    let (mut world, _, name) = world(1, LAYERED, true);
    let pause = Duration::from_secs(2);
    let purpose =
        Purpose { kind: "conversation", bytes: 3_000, exchanges: 20_000, pause, reads: true };
    let before = [SERVICE, CLIENT].map(|no| renewed(&world, no));
    let fetch = world.ask(CLIENT, name, purpose, 0);
    let enough = |world: &World| {
        let [service, client] = [SERVICE, CLIENT].map(|no| renewed(world, no));
        service - before[0] >= 12 && client - before[1] >= 12 * 2
    };
    let over = |world: &World| world.fetched(fetch).is_some_and(Fetch::over);
    assert!(world.run_until(Duration::from_hours(5), |world| enough(world) || over(world)));
    assert!(enough(&world) && !over(&world), "{:?}", world.fetched(fetch));
    let got = world.fetched(fetch).unwrap().got();
    world.run(world.net.time() + STALL + pause);
    let fetch = world.fetched(fetch).unwrap();
    assert!(fetch.got() > got, "it is alive: {fetch:?}");
    assert!(fetch.stall <= STALL, "{fetch:?}");
}

#[test]
fn after_a_minutes_sleep_a_service_answers_strangers_within_ten_seconds_as_a_rule() {
    let slept = |seed| {
        let (mut world, _, name) = world(seed, FEW, false);
        world.net.sleep(SERVICE, true);
        world.run(world.net.time() + Duration::from_mins(1));
        world.net.sleep(SERVICE, false);
        back_after(&mut world, name)
    };
    within_limits((1..=20).map(slept).collect());
}

#[test]
fn at_another_address_a_service_answers_strangers_within_ten_seconds_as_a_rule() {
    let moved = |seed| {
        let (mut world, _, name) = world(seed, FEW, false);
        let before = world.net.address(SERVICE);
        world.move_router(SERVICE);
        assert_ne!(world.net.address(SERVICE), before);
        back_after(&mut world, name)
    };
    within_limits((1..=20).map(moved).collect());
}
