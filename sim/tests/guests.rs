//! Whole networks in which most routers are behind NAT.

use std::time::Duration;

use warren_sim::{
    Fetch, HostNo, What,
    world::{Setup, World},
};

/// Forty routers, of which about two thirds cannot be dialled: all that the seed draws so.
fn behind_nat(seed: u64) -> World {
    let mut world = World::new(Setup { seed, routers: 40, natted: 0.66, ..Setup::default() });
    for no in 0..40 {
        world.net.watch(no);
    }
    world.start();
    let ready = world.run_until(Duration::from_mins(1), |world| world.ready() == 40);
    assert!(ready, "{} of 40 ready", world.ready());
    world
}

fn guests(world: &World) -> Vec<HostNo> {
    let hosts = world.net.hosts();
    let guests = hosts.filter(|(_, host)| host.descriptor().address().is_none());
    guests.map(|(no, _)| no).collect()
}

#[test]
fn guests_publish_and_fetch_and_nobody_dials_or_uses_them() {
    for seed in 1..=2 {
        let mut world = behind_nat(seed);
        let guests = guests(&world);
        assert!((15..35).contains(&guests.len()), "{} guests", guests.len());
        let (service, client) = (guests[0], guests[1]);
        let (end, name) = world.expose(service);
        assert!(world.run_until(Duration::from_secs(30), |it| it.published(service, end)));
        let fetches: Vec<_> =
            [client, 0].into_iter().map(|no| world.fetch(no, name, 1_000_000, 0)).collect();
        let over = world.run_until(Duration::from_mins(1), |world| {
            fetches.iter().all(|fetch| world.fetched(*fetch).is_some_and(Fetch::over))
        });
        for fetch in &fetches {
            let fetch = world.fetched(*fetch).unwrap();
            assert!(over && fetch.done(), "{fetch:?}");
        }
        // They asked whether they can be dialled, and know by now that nobody gets through.
        let reach =
            |world: &World, no: HostNo| world.net.host(no).unwrap().status(world.net.now(no)).reach;
        let known = world.run_until(Duration::from_mins(5), |world| {
            guests.iter().all(|no| reach(world, *no) == "unreachable")
        });
        assert!(known, "{:?}", guests.iter().map(|no| reach(&world, *no)).collect::<Vec<_>>());
        // Dials that were under way end.
        world.run(world.net.time() + Duration::from_secs(30));
        // To build tunnels, to place records, to fill the ring: from now on nobody tries a guest.
        world.net.take_lines().for_each(drop);
        world.run(world.net.time() + Duration::from_mins(5));
        let lines: Vec<_> = world.net.take_lines().collect();
        assert!(!lines.is_empty());
        let refused = lines.iter().filter(|line| line.what == What::Unanswered).count();
        assert_eq!(refused, 0, "somebody was dialled that cannot be");
        for no in &guests {
            let host = world.net.host(*no).unwrap();
            let status = host.status(world.net.now(*no));
            let carried = (status.tunnels_transit, status.cells_relayed, status.records_held);
            assert_eq!(carried, (0, 0, 0), "router {no}");
        }
    }
}
