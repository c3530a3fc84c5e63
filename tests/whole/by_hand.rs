//! A network of six processes made by hand, as people would: one makes it, the others join by line.
//!
//! Lives here: `init`, `run`, `invite`, `join`, `expose`, `services`, `unexpose` together. Does not
//! live here: each command's errors (`commands`).

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use harness::{
    binary::run,
    client::Via,
    curl::curl,
    group,
    origin::Origin,
    runner::{Group, figure, wait_for},
    scratch::Scratch,
    testnet::Router,
};

pub(crate) fn group() -> Group {
    group!("by_hand", shares: false,
        three_routers_say_that_they_are_too_few_and_are_not_ready,
        six_people_make_a_network_and_one_of_them_publishes_a_service,
    )
}

/// The `k`th person's folder and flags: each listens on an address of its own.
fn start(scratch: &Scratch, k: usize) -> Router {
    let link = format!("127.{}.0.1:0", 40 + k);
    Router::start(
        &folder(scratch, k),
        &["--link", &link, "--proxy", "127.0.0.1:0", "--api", "127.0.0.1:0"],
    )
}

fn folder(scratch: &Scratch, k: usize) -> PathBuf {
    scratch.join(format!("person{k}"))
}

fn three_routers_say_that_they_are_too_few_and_are_not_ready() {
    let scratch = Scratch::new("three");
    let dir = |k| folder(&scratch, k).display().to_string();
    run(["init", "--local", "--difficulty", "0", "--dir", &dir(0)]).success();
    let mut routers = vec![start(&scratch, 0)];
    let line = routers[0].invite();
    for k in 1..3 {
        run(["join", &line, "--dir", &dir(k)]).success();
        routers.push(start(&scratch, k));
    }
    wait_for(Duration::from_secs(30), "three routers to know each other", || {
        let known = |router: &Router| router.status().unwrap()["known_routers"] == 2;
        routers.iter().all(known).then_some(())
    });
    // Verdicts follow within a moment; tunnels would have been built by then, too.
    std::thread::sleep(Duration::from_secs(2));
    for router in &routers {
        let status = router.status().unwrap();
        assert_eq!(status["ready"], false, "{status}");
        let verdict = router.command(&["status"]).success().lines().next().unwrap().to_owned();
        let said = verdict.to_lowercase().contains("too few routers for 3 hops: have 3, need 5");
        assert!(said, "it says: {verdict}");
    }
}

fn six_people_make_a_network_and_one_of_them_publishes_a_service() {
    let scratch = Scratch::new("hand");
    let dir = |k| folder(&scratch, k).display().to_string();
    run(["init", "--local", "--difficulty", "0", "--name", "by-hand", "--dir", &dir(0)]).success();
    let mut routers = vec![start(&scratch, 0)];
    for k in 1..6 {
        // Whoever came last invites the next: no router is special.
        let line = routers.last().unwrap().invite();
        // Both spellings do the same.
        if k % 2 == 0 {
            run(["join", &line, "--dir", &dir(k)]).success();
        } else {
            run(["init", "--join", &line, "--dir", &dir(k)]).success();
        }
        routers.push(start(&scratch, k));
    }
    let start = Instant::now();
    wait_for(Duration::from_mins(1), "six routers to be ready", || {
        routers.iter().all(Router::is_ready).then_some(())
    });
    figure("six routers ready after the last started, ms", start.elapsed().as_millis());
    for router in &routers {
        let status = router.status().unwrap();
        assert_eq!(status["ready"], true);
        assert_eq!(status["network"], routers[0].status().unwrap()["network"]);
        // Ready means min(10, N - 1) neighbours, or every seed tried.
        assert!(status["neighbours"].as_u64().unwrap() >= 3, "{status}");
    }

    let origin = Origin::start();
    let target = origin.address.to_string();
    let name = routers[1].command(&["expose", &target, "--label", "mine"]).success();
    let name = name.trim();
    let (letters, rest) = name.split_at(56);
    assert_eq!(rest, ".warren");
    assert!(letters.chars().all(|c| c.is_ascii_lowercase() || ('2'..='7').contains(&c)), "{name}");
    let published = Instant::now();
    wait_for(Duration::from_secs(30), "the service to be published", || {
        let list = routers[1].command(&["services", "--json"]).json();
        let service = list.as_array().unwrap().first()?.clone();
        assert_eq!(service["label"], "mine");
        assert_eq!(service["name"], name);
        assert_eq!(service["target"], target);
        (service["published"] == true).then_some(())
    });
    figure("published, ms", published.elapsed().as_millis());
    assert!(routers[1].command(&["services"]).success().contains(name));
    // The same label twice, a target that is none: refused, and nothing changes.
    let twice = routers[1].command(&["expose", &target, "--label", "mine"]);
    assert!(twice.code() > 0, "the label was taken: {}", twice.stdout);
    assert!(twice.stderr.contains("mine"), "{}", twice.stderr);
    let nowhere = routers[1].command(&["expose", "no port"]);
    assert_eq!(nowhere.code(), 6, "{}", nowhere.stderr);
    let none = routers[1].command(&["unexpose", "nobodys"]);
    assert_eq!(none.code(), 4, "{}", none.stderr);

    // Strangers and the owner's own machine read it alike.
    for router in &routers {
        Via::new(router.proxy, name).verify(100_000).unwrap();
    }
    let proxy = routers[5].proxy.to_string();
    let text =
        curl(["--socks5-hostname", &proxy, "--fail", &format!("http://{name}/stats")]).success();
    assert!(text.contains("requests"), "{text}");

    routers[1].command(&["unexpose", "mine"]).success();
    assert_eq!(routers[1].command(&["services", "--json"]).json(), serde_json::json!([]));
    let before = origin.requests();
    let start = Instant::now();
    let gone = Via::new(routers[4].proxy, name).patience(Duration::from_mins(1)).get("/stats");
    figure("a withdrawn service's old client gives up after, ms", start.elapsed().as_millis());
    figure("  with", gone.as_ref().err().map(ToString::to_string).unwrap_or_default());
    assert!(gone.is_err(), "a withdrawn service answered: {gone:?}");
    assert_eq!(origin.requests(), before);
}
