//! The operator's bandwidth: it is kept, and it is used.

use std::time::Duration;

use warren_sim::{
    HostNo, Latency, Wires,
    world::{Setup, World},
};

/// 1 MiB/s in kbit/s.
const KBPS: u32 = 8_389;
const SERVICE: HostNo = 0;

/// A network of routers that each may use 1 MiB/s, and a service.
fn network() -> (World, warren_overlay::service::Name) {
    let latency =
        Latency::Uniform { least: Duration::from_millis(5), most: Duration::from_millis(20) };
    let setup = Setup { bandwidth_kbps: KBPS, wires: Wires::new(latency), ..Setup::default() };
    let mut world = World::new(setup);
    world.start();
    assert!(world.run_until(Duration::from_mins(1), |world| world.ready() == 12));
    let (end, name) = world.expose(SERVICE);
    assert!(world.run_until(Duration::from_mins(1), |world| world.published(SERVICE, end)));
    world.run(world.net.time() + Duration::from_secs(2));
    (world, name)
}

/// Twenty downloads in contexts of their own, so over tunnels of their own.
fn twenty_downloads(world: &mut World, name: warren_overlay::service::Name) {
    for n in 0..20u16 {
        world.fetch(1 + HostNo::from(n) % 11, name, 200_000_000, n);
    }
}

#[test]
fn at_one_mebibyte_a_second_every_ten_seconds_are_within_three_percent_while_twenty_tunnels_push() {
    let (mut world, name) = network();
    twenty_downloads(&mut world, name);
    world.run(world.net.time() + Duration::from_secs(15));
    let mut means = Vec::new();
    for _ in 0..60 {
        world.run(world.net.time() + Duration::from_secs(1));
        let status = world.net.host(SERVICE).unwrap().status(world.net.now(SERVICE));
        means.push(status.sent_kbps);
        // Nobody exceeds it, in either direction.
        for (no, host) in world.net.hosts() {
            let status = host.status(world.net.now(no));
            let most = status.sent_kbps.max(status.received_kbps);
            assert!(most * 100 <= u64::from(KBPS) * 103, "router {no}: {most} kbit/s");
        }
    }
    let (least, most) = (means.iter().min().unwrap(), means.iter().max().unwrap());
    eprintln!("{least} to {most} kbit/s of {KBPS}");
    assert!(least * 100 >= u64::from(KBPS) * 97, "it is used: {means:?}");
}
