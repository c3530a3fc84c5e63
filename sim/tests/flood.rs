//! Floods at ten times what a router or a service takes, while others go on as ever.

#![expect(clippy::unwrap_used, reason = "test code: it fails by panicking")]

use std::{collections::BTreeMap, time::Duration};

use warren_overlay::{
    garlic::{Rate, seal_lease},
    id::{LinkNo, RouterId, TunnelId},
    plane::LinkEvent,
    rng::Rng,
    service::Lease,
    tunnel::build,
    wire::{BUILD_LEN, LinkMessage, RouterDescriptor},
};
use warren_router::node::NodeInput;
use warren_sim::{
    HostNo,
    world::{Setup, World},
};

const TICK: Duration = Duration::from_millis(100);

/// A network that stands; those from `hostile` on are the attacker's.
struct Attack {
    world: World,
    hostile: HostNo,
    rng: Rng,
    lane: u32,
}

impl Attack {
    fn new(setup: Setup, hostile: HostNo) -> Self {
        let (routers, rng) = (setup.routers, Rng::from_seed([5; 32]));
        let mut world = World::new(setup);
        world.start();
        assert!(world.run_until(Duration::from_mins(1), |world| world.ready() == routers));
        Self { world, hostile, rng, lane: 0x4000_0000 }
    }

    fn numbers(&self) -> BTreeMap<RouterId, HostNo> {
        self.world.net.hosts().map(|(no, host)| (host.descriptor().id(), no)).collect()
    }

    /// The links over which the attacker reaches `no`.
    fn links(&self, no: HostNo) -> Vec<LinkNo> {
        let numbers = self.numbers();
        let host = self.world.net.host(no).unwrap();
        let links = host.node_ref().links();
        let theirs = links.filter(|(_, id)| numbers.get(id).is_some_and(|no| *no >= self.hostile));
        theirs.map(|(link, _)| link).collect()
    }

    /// Something comes to `no` over a link, on a lane of the other side's choice: whichever half of the
    /// numbers that is.
    fn send(&mut self, no: HostNo, link: LinkNo, message: impl Fn(TunnelId) -> LinkMessage) {
        self.lane += 1;
        for lane in [self.lane, self.lane | 0x8000_0000] {
            let event = LinkEvent::Message(Box::new(message(TunnelId(lane))));
            self.world.net.with(no, |host, now| host.node(now, NodeInput::Link { link, event }));
        }
    }

    fn pass(&mut self, time: Duration) {
        self.world.run(self.world.net.time() + time);
    }
}

/// Own builds of the honest: how many came about, how many did not.
fn own_builds(world: &World, honest: HostNo) -> (u64, u64) {
    let all = (0..honest).map(|no| world.net.host(no).unwrap().node_ref().pools().status());
    all.fold((0, 0), |(built, failed), it| (built + it.built, failed + it.failed))
}

/// Twenty builds a second are opened, and two hundred come from ten neighbours (eight at least), to every
/// honest router: twenty each, as many as a neighbour may send. One in ten is a good one that is opened and
/// becomes a tunnel, the others are refused at their turn. The attacker's routers carry no tunnels of others: a
/// build that leads through them is theirs to fail, flood or not.
#[test]
fn nine_of_ten_honest_builds_come_about_in_a_flood_of_ten_times_what_routers_open() {
    let setup = Setup { routers: 20, carriers: 10, builds_per_second: 20, ..Setup::default() };
    let mut attack = Attack::new(setup, 10);
    let (end, name) = attack.world.expose(0);
    assert!(attack.world.run_until(Duration::from_mins(1), |world| world.published(0, end)));
    let targets: Vec<_> = (0..10)
        .map(|no| {
            let descriptor = attack.world.net.host(no).unwrap().descriptor().clone();
            (no, attack.links(no), descriptor)
        })
        .collect();
    let least = targets.iter().map(|(_, links, _)| links.len()).min();
    assert!(least >= Some(8), "nearly all know all: {least:?}");
    let before = own_builds(&attack.world, 10);
    for tick in 0..300u16 {
        for (no, links, descriptor) in &targets {
            flood(&mut attack, *no, links, descriptor);
        }
        if tick % 10 == 0 {
            attack.world.fetch(1 + HostNo::from(tick / 10) % 9, name, 1_000, tick);
        }
        attack.pass(TICK);
    }
    let after = own_builds(&attack.world, 10);
    let (built, failed) = (after.0 - before.0, after.1 - before.1);
    let host = attack.world.net.host(3).unwrap();
    let status = host.status(attack.world.net.now(3));
    eprintln!("{built} built, {failed} failed; router 3: {status:?}");
    assert!(built >= 60, "there was something to build: {built}");
    assert!(failed * 9 <= built, "{failed} of {} failed", built + failed);
    let done = attack.world.fetches().iter().filter(|fetch| fetch.done()).count();
    assert!(done * 10 >= attack.world.fetches().len() * 9, "{done} fetches");
    assert!(status.builds_refused > 4_000, "there was a flood: {status:?}");
}

fn flood(
    attack: &mut Attack,
    no: HostNo,
    links: &[LinkNo],
    descriptor: &std::sync::Arc<RouterDescriptor>,
) {
    let wall = attack.world.net.now(no).wall;
    for (n, link) in links.iter().enumerate() {
        let good = build::create(&mut attack.rng, wall, std::slice::from_ref(descriptor), 30);
        let (good, _) = good.unwrap();
        for n in [n, n + 1] {
            let message = if n % 10 == 0 { good.clone() } else { Box::new([0; BUILD_LEN]) };
            attack
                .send(no, *link, |tunnel| LinkMessage::Build { tunnel, message: message.clone() });
        }
    }
}

/// Each gateway lets in two clients a second, ten in all, and a hundred splices a second come, all of
/// them good ones, as whoever knows the service's name can make them.
#[test]
fn nine_of_ten_honest_clients_get_in_within_ten_seconds_in_a_flood_of_ten_times_what_a_service_takes()
 {
    let rate = Rate { per_second: 2, burst: 4 };
    let mut attack = Attack::new(Setup { routers: 16, rate, ..Setup::default() }, 12);
    let (end, name) = attack.world.expose(0);
    assert!(attack.world.run_until(Duration::from_mins(1), |world| world.published(0, end)));
    attack.pass(Duration::from_secs(2));
    let mut highest = 0;
    for tick in 0..600u16 {
        let host = attack.world.net.host(0).unwrap();
        let (leases, effort) = host.node_ref().offers(end).unwrap();
        highest = highest.max(effort);
        let leases: Vec<Lease> = leases.to_vec();
        for lease in &leases {
            let gateway = attack.numbers().get(&lease.gateway).copied().unwrap();
            let links = attack.links(gateway);
            for n in 0..2usize {
                let sealed = seal_lease(&mut attack.rng, &lease.splice_key, &lease.lease).unwrap();
                let link = links[(usize::from(tick) + n) % links.len()];
                attack.send(gateway, link, |tunnel| LinkMessage::SpliceOpen { tunnel, sealed });
            }
        }
        // Honest clients, one a second, from the first moment of the flood on.
        if tick % 10 == 5 && tick < 450 {
            attack.world.fetch(1 + HostNo::from(tick / 10) % 11, name, 1_000, tick);
        }
        attack.pass(TICK);
    }
    let fetches = attack.world.fetches();
    let mut waits: Vec<_> = fetches
        .iter()
        .map(|it| it.first.map_or(Duration::from_secs(99), |first| first.since(it.asked)))
        .collect();
    waits.sort();
    eprintln!("effort {highest}, waits {waits:?}");
    let within = waits.iter().filter(|wait| **wait <= Duration::from_secs(10)).count();
    assert_eq!(waits.len(), 45);
    assert!(within * 10 >= waits.len() * 9, "{within} of {}: {waits:?}", waits.len());
    assert!(highest > 0, "the service asked for effort");
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
