//! A machine sleeps and wakes: what it serves answers again within seconds.
//!
//! Lives here: a minute of SIGSTOP for a service's router, by the clock of real processes.

use std::{
    thread,
    time::{Duration, Instant},
};

use harness::{
    client::Via,
    group,
    origin::Origin,
    runner::{Group, figure, flag, wait_for},
    testnet::Testnet,
};

pub(crate) fn group() -> Group {
    group!("sleep", shares: false,
        a_service_whose_router_slept_for_a_minute_answers_within_10_s_as_a_rule,
    )
}

const SLEEP: Duration = Duration::from_mins(1);
/// PROTOCOL's numbers: half of all times, and always.
const USUAL: Duration = Duration::from_secs(10);
const ALWAYS: Duration = Duration::from_mins(1);
/// With `WARREN_LONG`; else one.
const ROUNDS: usize = 3;

fn a_service_whose_router_slept_for_a_minute_answers_within_10_s_as_a_rule() {
    let origin = Origin::start();
    let mut net = Testnet::up(12, &[origin.address]);
    net.via(0).verify(10_000).unwrap();
    let host = net.at(net.host().ip());
    let rounds = if flag("WARREN_LONG") { ROUNDS } else { 1 };
    let mut took: Vec<Duration> = (0..rounds)
        .map(|round| {
            net.routers[host].signal("STOP");
            thread::sleep(SLEEP);
            net.routers[host].signal("CONT");
            let woke = Instant::now();
            let mut tries = 0;
            wait_for(ALWAYS, "the service to answer again", || {
                tries += 1;
                // Each is somebody else, who has never been there.
                let via = Via::new(net.client().proxy, &net.services[0].name);
                let via = via.context(&format!("round {round} try {}", tries % 4));
                via.patience(Duration::from_secs(5)).verify(1_000).ok()
            });
            println!("  slept 60 s: answers after {} ms", woke.elapsed().as_millis());
            woke.elapsed()
        })
        .collect();
    took.sort_unstable();
    let median = took[rounds / 2];
    figure("after a minute's sleep a service answers within, ms, median", median.as_millis());
    assert!(median <= USUAL, "{took:?}");
}
