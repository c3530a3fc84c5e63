//! `warren why` names the part of the way that fails.
//!
//! Lives here: each part made to fail in a real network. Does not live here: the words
//! (`router/src/cli/why.rs`).

use harness::{
    group,
    origin::Origin,
    runner::{Group, figure},
    testnet::{Router, Testnet},
};
use serde_json::Value;

pub(crate) fn group() -> Group {
    group!("why", shares: false,
        why_measures_each_part_of_the_way_and_names_the_one_that_fails,
    )
}

fn why(router: &Router, what: &str) -> (i32, Value) {
    let ended = router.command(&["why", what, "--json"]);
    let code = ended.code();
    let report = serde_json::from_str(&ended.stdout);
    (code, report.unwrap_or_else(|error| panic!("{error}: {}{}", ended.stdout, ended.stderr)))
}

/// The parts that were reached.
fn reached(report: &Value) -> Vec<&str> {
    let parts = report["parts"].as_array().unwrap().iter();
    parts
        .filter(|part| part["took_ms"].is_u64())
        .map(|part| part["part"].as_str().unwrap())
        .collect()
}

fn why_measures_each_part_of_the_way_and_names_the_one_that_fails() {
    const ALL: [&str; 6] = ["tunnel", "descriptor", "gateway", "session", "server", "first byte"];
    let origin = Origin::start();
    let mut net = Testnet::up(8, &[origin.address]);
    let name = net.services[0].name.clone();
    let (code, report) = why(net.client(), &name);
    figure("why", &report["verdict"]);
    assert_eq!((code, reached(&report)), (0, ALL.to_vec()), "{report}");
    let words = net.client().command(&["why", &name]).success();
    assert!(words.starts_with("Works: first byte after ") && words.contains("session"), "{words}");

    let nobodys = "rkeohxlubhyzl7ks3mwtzos5olfgocn7dwkbeg7toseadnapn5ofmryb.warren";
    let (code, report) = why(net.client(), nobodys);
    assert_eq!((code, reached(&report)), (5, vec!["tunnel"]), "{report}");
    assert!(report["verdict"].as_str().unwrap().contains("descriptor"), "{report}");
    let none = net.client().command(&["why", "nobodys"]);
    assert_eq!(none.code(), 4, "{}", none.stderr);

    // A server that is off: everything is there but the last step.
    let target = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let words = ["expose", &target.to_string(), "--label", "off"];
    net.host().command(&words).success();
    harness::runner::wait_for(std::time::Duration::from_secs(30), "it to be published", || {
        let list = net.host().command(&["services", "--json"]).json();
        let services = list.as_array().unwrap().clone();
        services.iter().all(|service| service["published"] == true).then_some(())
    });
    let (code, report) = why(net.host(), "off");
    assert_eq!((code, reached(&report)), (5, ALL[..4].to_vec()), "{report}");
    assert!(report["next"].as_str().unwrap().contains("start what listens"), "{report}");

    // A service whose router is silent: nobody is behind its gateways.
    let host = net.at(net.host().ip());
    net.routers[host].signal("STOP");
    // The ring needs a moment to go round it.
    let minute = std::time::Duration::from_mins(1);
    let (code, report) = harness::runner::wait_for(minute, "the descriptor to be found", || {
        Some(why(net.client(), &name)).filter(|(_, report)| reached(report).contains(&"descriptor"))
    });
    net.routers[host].signal("CONT");
    assert_eq!(code, 5, "{report}");
    assert!(!reached(&report).contains(&"session"), "{report}");

    let file = net.scratch().join("file");
    std::fs::write(&file, vec![7; 300_000]).unwrap();
    let put = net.client().command(&["put", &file.display().to_string()]).success();
    let (code, report) = why(net.client(), put.trim());
    assert_eq!((code, reached(&report)), (0, vec!["root", "blocks"]), "{report}");
    let missing = put.trim().to_owned();
    let (head, _) = missing.split_at(missing.len() - 8);
    assert_ne!(net.client().command(&["why", head]).code(), 0);
}
