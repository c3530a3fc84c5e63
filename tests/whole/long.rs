//! Half an hour of real processes, under churn and load: nothing grows. Part of `./warren test --long`.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use harness::{
    group, machine,
    origin::Origin,
    runner::{Group, figure, flag, skip_extra},
    testnet::{Router, Testnet},
};

pub(crate) fn group() -> Group {
    group!("long", shares: false,
        in_half_an_hour_of_churn_and_load_nothing_grows_beyond_its_first_tenth,
    )
}

const RUN: Duration = Duration::from_mins(30);
/// Fewer than the 16 contexts a minute that a router begins.
const VISIT_EVERY: Duration = Duration::from_secs(6);
const KILL_EVERY: Duration = Duration::from_mins(1);

/// Resident bytes, tasks, descriptors, threads.
const WHAT: [&str; 4] = ["resident bytes", "tasks", "descriptors", "threads"];

fn taken(router: &Router) -> Option<[u64; 4]> {
    let count = |folder: &str| {
        let entries = fs::read_dir(format!("/proc/{}/{folder}", router.pid)).ok()?;
        u64::try_from(entries.count()).ok()
    };
    let resident = machine::rss_bytes(router.pid)?;
    Some([resident, router.metric("warren_tasks")?, count("fd")?, count("task")?])
}

/// Each of them may vary, by this much beyond what the first tenth has seen: a seventh, and some.
fn allowed(most: [u64; 4]) -> [u64; 4] {
    let some = [8 << 20, 32, 32, 4];
    let mut allowed = most;
    for (allowed, some) in allowed.iter_mut().zip(some) {
        *allowed += *allowed / 7 + some;
    }
    allowed
}

fn in_half_an_hour_of_churn_and_load_nothing_grows_beyond_its_first_tenth() {
    if !flag("WARREN_LONG") {
        skip_extra("half an hour: WARREN_LONG=1");
    }
    let origin = Origin::start();
    let mut net = Testnet::up(12, &[origin.address]);
    net.via(0).verify(10_000).unwrap();
    let (host, client) = (net.at(net.host().ip()), net.at(net.client().ip()));
    let stay: Vec<usize> =
        (0..net.routers.len()).filter(|no| no % 2 == 0 || *no == host || *no == client).collect();
    let relays: Vec<usize> = (0..net.routers.len()).filter(|no| !stay.contains(no)).collect();
    let start = Instant::now();
    let mut most = vec![[0; 4]; net.routers.len()];
    let (mut visits, mut failed, mut kills) = (0u32, 0u32, 0usize);
    while start.elapsed() < RUN {
        let round = Instant::now();
        if start.elapsed() > KILL_EVERY * u32::try_from(kills).unwrap() {
            let relay = relays[kills % relays.len()];
            net.routers[relay].signal("KILL");
            net.routers[relay].start_again();
            kills += 1;
        }
        let via = net.via(0).context(&format!("visit {visits}")).patience(Duration::from_secs(20));
        visits += 1;
        failed += u32::from(via.verify(4 << 20).is_err());
        for no in &stay {
            let Some(now) = taken(&net.routers[*no]) else { continue };
            let early = start.elapsed() < RUN / 10;
            for (at, now) in now.into_iter().enumerate() {
                let limit = allowed(most[*no])[at];
                assert!(early || now <= limit, "router {no}: {now} {}, {limit} allowed", WHAT[at]);
                if early {
                    most[*no][at] = most[*no][at].max(now);
                }
            }
        }
        thread::sleep(VISIT_EVERY.saturating_sub(round.elapsed()));
    }
    figure(
        "visits in half an hour, failed, routers killed",
        format!("{visits}, {failed}, {kills}"),
    );
    for (at, what) in WHAT.iter().enumerate() {
        let all = stay.iter().map(|no| most[*no][at]).max().unwrap();
        figure(&format!("most {what} of one router in the first tenth"), all);
    }
    assert!(failed * 20 <= visits, "{failed} of {visits} visits failed");
}
