//! A machine sleeps and wakes: what it serves answers again within seconds.
//!
//! Lives here: a minute of SIGSTOP for a service's router, by the clock of real processes. Does not
//! live here: the same on a virtual clock with many seeds (`sim/tests/sleep.rs`).

use std::{
    thread,
    time::{Duration, Instant},
};

use harness::{
    client::Via,
    group,
    origin::Origin,
    runner::{Group, figure, wait_for},
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
const ROUNDS: usize = 3;

fn a_service_whose_router_slept_for_a_minute_answers_within_10_s_as_a_rule() {
    let origin = Origin::start();
    let mut net = Testnet::up(12, &[origin.address]);
    net.via(0).verify(10_000).unwrap();
    let host = net.at(net.host().ip());
    let mut took: Vec<Duration> = (0..ROUNDS)
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
    figure("after a minute's sleep a service answers within, ms, median", took[1].as_millis());
    assert!(took[ROUNDS / 2] <= USUAL, "{took:?}");
}
