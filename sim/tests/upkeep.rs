//! Who is sampled is asked after through tunnels: production routers, builds that fail, and what comes of it.

use std::time::Duration;

use warren_overlay::id::RouterId;
use warren_router::host::Host;
use warren_sim::{
    HostNo,
    world::{Setup, World},
};

const ROUTERS: HostNo = 20;
/// One that dies, and one that is back after an hour.
const DEAD: HostNo = 11;
const AWAY: HostNo = 12;

/// How many of the others would make tunnels of that router.
fn believers(world: &World, router: RouterId) -> usize {
    let others = world.net.hosts().filter(|(no, _)| ![DEAD, AWAY].contains(no));
    let believes = |host: &Host| host.node_ref().ring().sampled().any(|it| it.id() == router);
    others.filter(|(_, host)| believes(host)).count()
}

/// Questions of all, how many of them found somebody, and how many nobody.
fn asked(world: &World) -> [u64; 3] {
    let mut sums = [0; 3];
    for (_, host) in world.net.hosts() {
        let it = host.node_ref().upkeep();
        for (sum, it) in sums.iter_mut().zip([it.asked, it.found, it.missed]) {
            *sum += it;
        }
    }
    sums
}

#[test]
fn who_died_is_gone_in_hours_though_its_descriptor_holds_for_a_day_and_who_is_back_is_found() {
    let setup = Setup { routers: ROUTERS, degree: 8, padding_counted: true, ..Setup::default() };
    let mut world = World::new(setup);
    world.start();
    assert!(world.run_until(Duration::from_mins(2), |world| world.ready() == ROUTERS));
    let id = |no: HostNo| world.net.hosts().find(|(it, _)| *it == no).unwrap().1.descriptor().id();
    let (dead, away) = (id(DEAD), id(AWAY));
    let others = usize::try_from(ROUTERS).unwrap() - 2;
    assert_eq!((believers(&world, dead), asked(&world)), (others, [0; 3]));
    world.kill(DEAD);
    world.kill(AWAY);
    world.run(world.net.time() + Duration::from_hours(1));
    let (soon, after_one) = (believers(&world, dead), asked(&world));
    world.start_router(AWAY);
    world.run(world.net.time() + Duration::from_hours(7));
    let (late, after_eight) = (believers(&world, dead), asked(&world));
    println!(
        "{soon} believe in it after an hour, {late} after eight; {after_one:?}, {after_eight:?}"
    );
    assert!(soon >= others / 2 && late <= 1, "{soon} after an hour, {late} after eight");
    let [asked, found, missed] = after_eight;
    assert!(found >= 3 && missed >= 3 * u64::try_from(soon - late).unwrap());
    assert!(asked <= 8 * 240 * u64::from(ROUTERS));
    assert_eq!(believers(&world, away), others);
}
