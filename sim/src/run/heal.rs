//! After the faults: everything heals, and then liveness is demanded (as `TigerBeetle`'s VOPR does).
//!
//! Whoever is asleep wakes, partitions end, links break no more, nobody comes or goes. Whoever lives
//! must be ready; a few routers of chance must each fetch from every service whose router lives. A
//! fetch that fails is tried again, as a person reloads a page. When all of them are done, nobody wants
//! anything any more, and nothing may be left of it.

use std::time::Duration;

use warren_overlay::time::Time;

use super::{Watcher, wire::Run};
use crate::{apps::Purpose, net::HostNo, oracle::Left, world::Step};

/// Routers that fetch from each service.
const CLIENTS: usize = 3;
/// Bytes that they fetch.
const BYTES: u64 = 50_000;
/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long what was begun may take to end when all is well; who waits without a byte is told of before.
const REST_LIMIT: Duration = Duration::from_mins(10);
/// How long nobody wants anything before it is looked at what is kept, and how long something must be
/// half: a build may be under way at any moment, and a service waits up to five minutes for a client that
/// is gone (docs/spec/session.md).
const QUIET: Duration = Duration::from_mins(3);

/// Heals, and notes a violation if the network is not well within `limit`; goes no further than `until`.
/// False if the watcher ended it.
pub(super) fn heal(
    run: &mut Run<'_>,
    limit: Duration,
    until: Time,
    watcher: &mut dyn Watcher,
) -> bool {
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
        step(run, until, watcher);
        let ready = run.world.ready() as usize;
        let open = wishes.iter().find(|(.., fetch)| {
            !fetch.and_then(|fetch| run.world.fetched(fetch)).is_some_and(crate::Fetch::done)
        });
        if ready == alive.len() && open.is_none() {
            return rest(run, until, watcher);
        }
        let now = run.world.net.time();
        if now >= end {
            let (router, what) = match open {
                _ if ready < alive.len() => {
                    let net = &run.world.net;
                    let states = net.hosts().map(|(no, it)| (no, it.status(net.now(no))));
                    let (router, verdict) = states
                        .filter(|(_, it)| !it.ready)
                        .map(|(no, it)| (no, it.verdict))
                        .next()
                        .unwrap_or_default();
                    (router, format!("{ready} of {} routers are ready: {verdict}", alive.len()))
                }
                open => {
                    let client = open.map_or(0, |(client, ..)| *client);
                    (client, "a service is not reached".into())
                }
            };
            run.oracle.tell("healing", false, (now, router), what);
            return true;
        }
        if now >= until {
            return true;
        }
        if !watcher.progress(now, run.world.net.events()) {
            return false;
        }
    }
}

/// Half a second more, if there is as much.
fn step(run: &mut Run<'_>, until: Time, watcher: &mut dyn Watcher) {
    let until = until.min(run.world.net.time() + LOOK_EVERY);
    while let Some(step) = run.world.step(until) {
        if let Step::Event(no) = step {
            run.event(no);
        }
    }
    for line in run.world.net.take_lines() {
        watcher.line(line);
    }
    run.look();
}

/// Goes on until every wish is over and then for a while, and looks what is left. False if the watcher
/// ended it.
fn rest(run: &mut Run<'_>, until: Time, watcher: &mut dyn Watcher) -> bool {
    let end = until.min(run.world.net.time() + REST_LIMIT);
    while run.world.net.time() < end && !run.world.fetches().iter().all(crate::Fetch::over) {
        step(run, until, watcher);
        if !watcher.progress(run.world.net.time(), run.world.net.events()) {
            return false;
        }
    }
    if !run.world.fetches().iter().all(crate::Fetch::over) {
        // Lines that take hours for all that was asked of them: what is kept is on its way.
        return true;
    }
    let mut before = Left::default();
    for _ in 0..2 {
        before = Left::of(&run.world.net);
        let quiet = run.world.net.time() + QUIET;
        while run.world.net.time() < quiet.min(until) {
            step(run, until, watcher);
        }
        if quiet > until {
            return true;
        }
    }
    run.oracle.leaks(&run.world.net, &before);
    true
}
