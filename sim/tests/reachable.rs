//! A service stays reachable: its streams outlive the tunnels they began in, and after a sleep, or in
//! another network, it answers within seconds.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "test code: it fails by panicking"
)]

use std::time::Duration;

use warren_overlay::{
    id::{EndNo, RouterId},
    service::Name,
};
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
    assert!(world.run_until(Duration::from_mins(3), |world| world.ready() == routers));
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

/// What happens to a service.
#[derive(Clone, Copy, Debug)]
enum Blow {
    /// The gateway of its first lease ends, as `kill -9` ends it.
    GatewayDies,
    /// It falls silent, with all its connections open.
    GatewayFallsSilent,
    /// The same with a guard, over which half of its tunnels lead.
    GuardDies,
    GuardFallsSilent,
    /// Its own machine sleeps for a minute.
    Sleeps,
    /// Its own machine is in another network from now on, at another address.
    Moves,
}

/// The router with that identity.
fn number(world: &World, id: RouterId) -> HostNo {
    let mut hosts = world.net.hosts();
    hosts.find(|(_, host)| host.descriptor().id() == id).expect("it runs").0
}

/// After it, how long until a stranger is answered: from when it can be, where the service itself was away.
fn recovery(seed: u64, blow: Blow) -> Duration {
    let padding_counted = false;
    let (mut world, end, name) = world(seed, FEW, padding_counted);
    strike(&mut world, end, blow);
    back_after(&mut world, name)
}

/// Lets it happen; says to which router.
fn strike(world: &mut World, end: EndNo, blow: Blow) -> HostNo {
    let node = world.net.host(SERVICE).unwrap().node_ref();
    // The stranger who asks goes on living.
    let other = |id: &RouterId| number(world, *id) != CLIENT;
    let gateway =
        node.offers(end).unwrap().0.iter().map(|lease| lease.gateway).find(other).unwrap();
    let guard = node.pools().kept().find(other).unwrap();
    let [gateway, guard] = [gateway, guard].map(|id| number(world, id));
    let struck = match blow {
        Blow::GatewayDies | Blow::GatewayFallsSilent => gateway,
        Blow::GuardDies | Blow::GuardFallsSilent => guard,
        Blow::Sleeps | Blow::Moves => SERVICE,
    };
    match blow {
        Blow::GatewayDies | Blow::GuardDies => world.kill(struck),
        Blow::GatewayFallsSilent | Blow::GuardFallsSilent => world.net.sleep(struck, true),
        Blow::Sleeps => {
            world.net.sleep(SERVICE, true);
            world.run(world.net.time() + Duration::from_mins(1));
            world.net.sleep(SERVICE, false);
        }
        Blow::Moves => {
            let before = world.net.address(SERVICE);
            world.move_router(SERVICE);
            assert_ne!(world.net.address(SERVICE), before);
        }
    }
    struck
}

/// In ten seconds as a rule, in a minute nearly always: over ten seeds, or as many as `WARREN_SEEDS` says
/// (the table of docs/operation.md).
#[expect(clippy::print_stdout, reason = "figures for whoever asks with --nocapture")]
fn answers_again(blow: Blow) {
    let seeds = std::env::var("WARREN_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let mut took: Vec<Duration> = (1..=seeds).map(|seed| recovery(seed, blow)).collect();
    took.sort_unstable();
    let share = |percent: usize| took[(took.len() * percent).div_ceil(100) - 1];
    let (median, nearly_all, longest) = (share(50), share(99), share(100));
    println!(
        "{blow:?}, {seeds} seeds: p50 {median:.1?}, p99 {nearly_all:.1?}, longest {longest:.1?}"
    );
    assert!(median <= USUAL, "{took:?}");
    assert!(nearly_all <= NEARLY_ALWAYS, "{took:?}");
}

#[test]
fn after_a_gateways_death_strangers_are_answered_again_within_ten_seconds_as_a_rule() {
    answers_again(Blow::GatewayDies);
}

#[test]
fn after_a_gateways_silence_strangers_are_answered_again_within_ten_seconds_as_a_rule() {
    answers_again(Blow::GatewayFallsSilent);
}

#[test]
fn after_a_guards_death_strangers_are_answered_again_within_ten_seconds_as_a_rule() {
    answers_again(Blow::GuardDies);
}

#[test]
fn after_a_guards_silence_strangers_are_answered_again_within_ten_seconds_as_a_rule() {
    answers_again(Blow::GuardFallsSilent);
}

#[test]
fn after_a_minutes_sleep_a_service_answers_strangers_within_ten_seconds_as_a_rule() {
    answers_again(Blow::Sleeps);
}

#[test]
fn at_another_address_a_service_answers_strangers_within_ten_seconds_as_a_rule() {
    answers_again(Blow::Moves);
}

/// One network in which all layers hold, its routers know hundreds, and everything happens in turn.
#[test]
fn among_six_hundred_routers_a_service_with_kept_hops_answers_within_a_minute_whatever_happens() {
    if std::env::var_os("WARREN_LONG").is_none() {
        return; // minutes of computing
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let routers = number("WARREN_ROUTERS").unwrap_or(600);
    let seed = number("WARREN_SEED").unwrap_or(1);
    let (mut world, end, name) = world(seed.into(), routers, true);
    let kept = world.net.host(SERVICE).unwrap().node_ref().pools().kept().count();
    assert!(kept >= 2 + 4 + 8, "guards, second hops, gateways: {kept}");
    let mut all = Vec::new();
    for blow in [
        Blow::GatewayDies,
        Blow::GatewayFallsSilent,
        Blow::GuardDies,
        Blow::GuardFallsSilent,
        Blow::Sleeps,
        Blow::Moves,
    ] {
        let struck = strike(&mut world, end, blow);
        let took = back_after(&mut world, name);
        println!("{blow:?}: {took:.1?}");
        all.push(took);
        if world.net.host(struck).is_none() {
            world.start_router(struck);
        }
        world.net.sleep(struck, false);
        world.run(world.net.time() + Duration::from_mins(2));
    }
    all.sort_unstable();
    assert!(all[all.len() / 2] <= USUAL && all[all.len() - 1] <= NEARLY_ALWAYS, "{all:?}");
}
