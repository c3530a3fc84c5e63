//! Dependencies run one way only.
//!
//! Lives here: who may name whom (DESIGN section 2), read from `cargo tree`. Does not live here: what
//! is inside a crate.

use std::{collections::BTreeSet, process::Command};

use harness::{
    binary::{finish, root},
    group,
    runner::Group,
};

pub(crate) fn group() -> Group {
    group!("layers", shares: false,
        no_crate_names_one_above_it,
        overlay_datastore_and_proxy_have_no_runtime_no_sockets_and_no_clock,
        the_router_as_a_library_has_no_runtime,
        the_router_holds_nothing_of_the_simulator,
        no_program_that_carries_traffic_enters_a_stand_in_suite,
        the_order_of_crates_is_the_whole_workspace,
    )
}

/// From the ground up: a crate may name those before it.
const ORDER: [&str; 6] = [
    "warren-overlay",
    "warren-datastore",
    "warren-proxy",
    "warren-router",
    "warren-sim",
    "warren-tests",
];

/// Crates that bring an executor, sockets, signals or a way to read the clock for one.
const RUNTIMES: [&str; 14] = [
    "tokio",
    "mio",
    "hyper",
    "hyper-util",
    "axum",
    "socket2",
    "async-std",
    "smol",
    "async-io",
    "polling",
    "signal-hook",
    "reqwest",
    "quinn",
    "rocksdb",
];

/// Names of the crates that `package` is made of, without build and test dependencies.
fn tree(package: &str, features: &[&str]) -> BTreeSet<String> {
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["tree", "--locked", "-p", package, "-e", "normal", "--prefix", "none"])
        .args(["--format", "{lib}|{p}"])
        .args(features)
        .current_dir(root());
    let text = finish(&mut command).success();
    let name = |line: &str| Some(line.split_once('|')?.1.split_whitespace().next()?.to_owned());
    let names: BTreeSet<String> = text.lines().filter_map(name).collect();
    assert!(names.contains(package), "cargo tree says nothing of {package}: {text}");
    names
}

/// As little as the crate can be built with: what is optional is chosen further up.
const BARE: [&str; 1] = ["--no-default-features"];

fn no_crate_names_one_above_it() {
    for (place, package) in ORDER.into_iter().enumerate() {
        // Everything it can be built with.
        let names = tree(package, &["--all-features"]);
        for above in &ORDER[place + 1..] {
            assert!(!names.contains(*above), "{package} names {above}");
        }
    }
}

fn overlay_datastore_and_proxy_have_no_runtime_no_sockets_and_no_clock() {
    for package in ["warren-overlay", "warren-datastore", "warren-proxy"] {
        let names = tree(package, &BARE);
        for runtime in RUNTIMES {
            assert!(!names.contains(runtime), "{package} brings {runtime}");
        }
    }
}

fn the_router_as_a_library_has_no_runtime() {
    let names = tree("warren-router", &BARE);
    for runtime in RUNTIMES {
        assert!(!names.contains(runtime), "warren-router without features brings {runtime}");
    }
}

fn the_router_holds_nothing_of_the_simulator() {
    let names = tree("warren-router", &["--all-features"]);
    assert!(!names.contains("warren-sim"));
    assert!(!names.contains("warren-tests"));
    // The stand-in suite is chosen in sim alone: no feature of a lower crate may switch it on.
    for crate_dir in ["overlay", "datastore", "proxy", "router"] {
        let manifest = std::fs::read_to_string(root().join(crate_dir).join("Cargo.toml")).unwrap();
        for word in ["stand-in", "standin", "stand_in", "fake", "insecure"] {
            assert!(!manifest.contains(word), "{crate_dir}/Cargo.toml has a feature {word}");
        }
    }
}

/// `warren_overlay::crypto::suite` is entered by the simulator and by nobody who carries traffic
/// (docs/decisions/0004).
fn no_program_that_carries_traffic_enters_a_stand_in_suite() {
    let mut entered = BTreeSet::new();
    for crate_dir in ["overlay", "datastore", "proxy", "router", "sim"] {
        let mut folders = vec![root().join(crate_dir).join("src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                if ["suite::within", "impl Suite for"].iter().any(|words| text.contains(words)) {
                    entered.insert(crate_dir);
                }
            }
        }
    }
    assert_eq!(entered, BTreeSet::from(["sim"]));
}

fn the_order_of_crates_is_the_whole_workspace() {
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["metadata", "--locked", "--no-deps", "--format-version", "1"])
        .current_dir(root());
    let metadata = finish(&mut command).json();
    let members: BTreeSet<&str> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| package["name"].as_str().unwrap())
        .collect();
    assert_eq!(members, BTreeSet::from(ORDER));
}
