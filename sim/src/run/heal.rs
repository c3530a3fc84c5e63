//! After the faults: everything heals, and then liveness is demanded (as `TigerBeetle`'s VOPR does).
//!
//! Whoever is asleep wakes, partitions end, links break no more, nobody comes or goes. Whoever lives
//! must be ready; a few routers of chance must each fetch from every service whose router lives. A
//! fetch that fails is tried again, as a person reloads a page.

use std::time::Duration;

use super::{Watcher, wire::Run};
use crate::{apps::Purpose, net::HostNo, world::Step};

/// Routers that fetch from each service.
const CLIENTS: usize = 3;
/// Bytes that they fetch.
const BYTES: u64 = 50_000;
/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Heals, and notes a violation if the network is not well within `limit`. False if the watcher
/// ended it.
pub(super) fn heal(run: &mut Run<'_>, limit: Duration, watcher: &mut dyn Watcher) -> bool {
    run.end_leaves();
    let net = &mut run.world.net;
    net.set_breaks(None);
    net.heal();
    for no in 0..net.len() {
        if net.is_asleep(no) {
            net.sleep(no, false);
        }
    }
    let alive: Vec<HostNo> = net.hosts().map(|(no, _)| no).collect();
    let end = net.time() + limit;
    let mut rng = net.streams().of("heal", 0);
    let mut draw = || usize::try_from(rng.below(alive.len() as u64)).unwrap_or(0);
    let services: Vec<_> =
        run.world.services().filter(|(no, ..)| alive.contains(no)).map(|it| it.2).collect();
    let mut wishes = Vec::new();
    for name in services {
        for _ in 0..CLIENTS {
            wishes.extend(alive.get(draw()).map(|client| (*client, name, None)));
        }
    }
    loop {
        for (client, name, fetch) in &mut wishes {
            let state = fetch.and_then(|fetch| run.world.fetched(fetch));
            if state.is_none_or(|it| it.over() && !it.done()) {
                let purpose = Purpose { kind: "heal", ..Purpose::fetch(BYTES) };
                *fetch = Some(run.world.ask(*client, *name, purpose, u16::MAX));
            }
        }
        let until = run.world.net.time() + LOOK_EVERY;
        while let Some(step) = run.world.step(until) {
            if let Step::Event(no) = step {
                run.event(no);
            }
        }
        for line in run.world.net.take_lines() {
            watcher.line(line);
        }
        run.look();
        let ready = run.world.ready() as usize;
        let open = wishes.iter().find(|(.., fetch)| {
            !fetch.and_then(|fetch| run.world.fetched(fetch)).is_some_and(crate::Fetch::done)
        });
        if ready == alive.len() && open.is_none() {
            return true;
        }
        let now = run.world.net.time();
        if now >= end {
            let (router, what) = match open {
                _ if ready < alive.len() => {
                    let now = |no: &HostNo| run.world.net.now(*no);
                    let unready = run.world.net.hosts().find(|(no, it)| !it.status(now(no)).ready);
                    let router = unready.map_or(0, |(no, _)| no);
                    (router, format!("{ready} of {} routers are ready", alive.len()))
                }
                open => {
                    let client = open.map_or(0, |(client, ..)| *client);
                    (client, "a service is not reached".into())
                }
            };
            run.oracle.tell("healing", false, (now, router), what);
            return true;
        }
        if !watcher.progress(now, run.world.net.events()) {
            return false;
        }
    }
}
