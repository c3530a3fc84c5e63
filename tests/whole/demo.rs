//! `warren demo --once --json`.
//!
//! Lives here: what the demo must say and how fast it must be. Does not live here: what happens
//! inside (`clients`, `survival`).

use std::collections::BTreeSet;

use harness::{
    binary::run,
    group, machine,
    runner::{Group, figure},
};

pub(crate) fn group() -> Group {
    group!("demo", shares: false,
        the_demo_fetches_a_page_through_six_relays_and_says_how_fast,
        the_demo_says_each_stage_to_people_and_only_json_to_programs,
        a_demo_of_too_few_routers_is_refused,
    )
}

fn the_demo_fetches_a_page_through_six_relays_and_says_how_fast() {
    let quiet = machine::is_quiet();
    let ended = run(["demo", "--once", "--json"]);
    let words = ended.stderr.clone();
    let said = ended.json();
    let keys: BTreeSet<&str> = said.as_object().unwrap().keys().map(String::as_str).collect();
    for key in [
        "routers",
        "ready_ms",
        "published_ms",
        "first_page_ms",
        "warm_ttfb_ms",
        "relays_on_path",
        "verified",
    ] {
        assert!(keys.contains(key), "{key} is missing: {said}");
        figure(key, &said[key]);
    }
    assert_eq!(said["routers"], 12);
    assert_eq!(said["verified"], true, "{words}");
    assert_eq!(said["relays_on_path"], 6, "{words}");
    let (ready, published) =
        (said["ready_ms"].as_f64().unwrap(), said["published_ms"].as_f64().unwrap());
    let first = said["first_page_ms"].as_f64().unwrap();
    let warm = said["warm_ttfb_ms"].as_f64().unwrap();
    assert!(ready <= published && published <= first, "times run backwards: {said}");
    if quiet {
        assert!(first < 10_000.0, "first page after {first} ms");
        assert!(warm < 20.0, "first byte after {warm} ms when warm");
    } else {
        println!("  the machine is busy: the time limits (10 s, 20 ms) were not checked");
    }
}

fn the_demo_says_each_stage_to_people_and_only_json_to_programs() {
    let ended = run(["demo", "--once", "--json", "--routers", "8"]);
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(ended.stdout.lines().count(), 1, "{}", ended.stdout);
    for word in ["started", "ready", "published", "page"] {
        assert!(ended.stderr.contains(word), "no stage says {word:?}: {}", ended.stderr);
    }
    let plain = run(["demo", "--once", "--routers", "8"]);
    assert!(plain.status.success(), "{}", plain.stderr);
}

fn a_demo_of_too_few_routers_is_refused() {
    let ended = run(["demo", "--once", "--routers", "4"]);
    assert_eq!(ended.code(), 2, "{}", ended.stderr);
    assert!(ended.stderr.contains('5'), "{}", ended.stderr);
}
