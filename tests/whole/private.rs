//! Private services: there for those whom they are shared with, and for nobody else.
//!
//! Lives here: share, accept, revoke among real routers, and what a stranger gets. Does not live
//! here: the records and handshakes behind it (`overlay/src/service`, `overlay/src/session`).

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use harness::{
    client::Via,
    curl::curl,
    group,
    origin::Origin,
    runner::{Group, figure, wait_for},
    testnet::{Router, Testnet},
};

pub(crate) fn group() -> Group {
    group!("private", shares: false,
        a_private_service_is_there_for_its_clients_and_for_nobody_else,
        who_was_told_of_a_service_before_it_became_private_reaches_it_no_longer,
    )
}

/// A name that is right and nobody's: the vector of docs/spec/service.md.
const NOBODY: &str = "rkeohxlubhyzl7ks3mwtzos5olfgocn7dwkbeg7toseadnapn5ofmryb.warren";
/// After this a client that was turned away has been told so (docs/spec/private.md).
const TURNED_AWAY: Duration = Duration::from_mins(1);

/// Longer than it takes to turn somebody away.
const DOWNLOAD: u64 = 192 << 20;

/// What a stranger's browser gets for a name: the answer's code, and all of its page.
fn answer(router: &Router, name: &str) -> (String, String) {
    let (proxy, url) = (format!("http://{}", router.proxy), format!("http://{name}/stats"));
    let line = "\nanswer %{http_code}";
    let text = curl(["-w", line, "-x", &proxy, &url]).stdout;
    let (body, code) = text.rsplit_once("\nanswer ").unwrap();
    (code.to_owned(), body.replace(name, "NAME"))
}

fn published(router: &Router, label: &str) {
    wait_for(Duration::from_secs(30), "a service to be published", || {
        let list = router.command(&["services", "--json"]).json();
        let services = list.as_array().unwrap().clone();
        let service = services.into_iter().find(|service| service["label"] == label)?;
        (service["published"] == true).then_some(())
    });
}

fn share(router: &Router, label: &str, to: &str) -> String {
    let line = router.command(&["service", "share", label, "--to", to]).success().trim().to_owned();
    assert!(line.starts_with("warren-share-") && line.len() == 122, "{line}");
    line
}

/// Asks for a service until it opens: every two seconds, since a router begins 16 conversations a minute.
fn opens_for(router: &Router, name: &str) {
    wait_for(Duration::from_secs(30), "the service to open", || {
        let opens = Via::new(router.proxy, name).patience(Duration::from_secs(20)).verify(1_000);
        if opens.is_err() {
            thread::sleep(Duration::from_secs(2));
        }
        opens.ok()
    });
}

fn a_private_service_is_there_for_its_clients_and_for_nobody_else() {
    let origin = Origin::start();
    let mut net = Testnet::up(9, &[]);
    let (host, anna, bert, stranger) = (0, 1, 2, 3);
    let target = origin.address.to_string();
    let words = ["expose", &target, "--label", "diary", "--private"];
    let name = net.routers[host].command(&words).success().trim().to_owned();
    let for_anna = share(&net.routers[host], "diary", "anna");
    let for_bert = share(&net.routers[host], "diary", "bert");
    let shares = net.routers[host].command(&["service", "shares", "diary", "--json"]).json();
    assert_eq!(shares, serde_json::json!(["anna", "bert"]));
    published(&net.routers[host], "diary");

    for (router, line) in [(anna, &for_anna), (bert, &for_bert)] {
        let taken = net.routers[router].command(&["service", "accept", line]).success();
        assert_eq!(taken.trim(), name);
        Via::new(net.routers[router].proxy, &name).verify(100_000).unwrap();
    }
    let proxy = net.routers[anna].proxy.to_string();
    let url = format!("http://{name}/stats");
    curl(["--socks5-hostname", &proxy, "--fail", &url]).success();

    // A stranger who knows the name cannot tell it from one that nobody has.
    let before = origin.requests();
    let private = answer(&net.routers[stranger], &name);
    assert_eq!(private, answer(&net.routers[stranger], NOBODY));
    assert!(private.0.parse::<u16>().unwrap() >= 400, "{private:?}");
    let socks = |name: &str| {
        Via::new(net.routers[stranger].proxy, name).get("/stats").unwrap_err().to_string()
    };
    assert_eq!(socks(&name), socks(NOBODY));
    assert_eq!(origin.requests(), before);

    // Turned away in the middle of a download, which ends; another's goes on.
    let via = [anna, bert].map(|router| Via::new(net.routers[router].proxy, &name));
    let downloads = via.clone().map(|via| {
        let (begun, begins) = mpsc::channel();
        let path = format!("/b/{DOWNLOAD}");
        let read = move || {
            via.verify_path(&path, DOWNLOAD, |_| {
                let _ = begun.send(());
            })
        };
        let thread = thread::spawn(read);
        begins.recv_timeout(Duration::from_secs(30)).unwrap();
        thread
    });
    let revoked = Instant::now();
    net.routers[host].command(&["service", "revoke", "diary", "anna"]).success();
    let [annas, berts] = downloads.map(|thread| thread.join().unwrap());
    berts.unwrap();
    assert!(annas.is_err(), "who was turned away read on to the end");
    let before = origin.requests();
    let gone = via[0].patience(TURNED_AWAY).get("/stats");
    figure("who was turned away gives up after, ms", revoked.elapsed().as_millis());
    assert!(gone.is_err(), "who was turned away got in: {gone:?}");
    assert_eq!(origin.requests(), before);
    let again = net.routers[host].command(&["service", "revoke", "diary", "anna"]);
    assert_eq!(again.code(), 4, "{}", again.stderr);

    // All of it is still so after both sides were killed.
    for router in [host, bert] {
        net.routers[router].signal("KILL");
        net.routers[router].restart(Duration::from_mins(1));
    }
    published(&net.routers[host], "diary");
    Via::new(net.routers[bert].proxy, &name).verify(1_000).unwrap();
    let before = origin.requests();
    assert!(via[0].patience(TURNED_AWAY).get("/stats").is_err());
    assert_eq!(origin.requests(), before);
    // What bert forgets opens for him no longer, and what he was given can be taken again.
    net.routers[bert].command(&["service", "forget", &name]).success();
    let accepted = net.routers[bert].command(&["service", "accepted", "--json"]).json();
    assert_eq!(accepted, serde_json::json!([]));
}

fn who_was_told_of_a_service_before_it_became_private_reaches_it_no_longer() {
    let origin = Origin::start();
    let net = Testnet::up(7, &[origin.address]);
    let (name, client) = (net.services[0].name.clone(), net.client());
    Via::new(client.proxy, &name).verify(1_000).unwrap();
    let shared = net.host().command(&["service", "share", &name, "--to", "carl"]);
    assert!(shared.stderr.contains("private from now on"), "{}", shared.stderr);
    let line = shared.success().trim().to_owned();

    // Somebody in a hurry asks for it again and again from before it is published to him.
    let hurried = net.routers.iter().find(|router| router.role == "relay").unwrap();
    let line_of_dora = share(net.host(), &name, "dora");
    hurried.command(&["service", "accept", &line_of_dora]).success();
    let asked = Instant::now();
    opens_for(hurried, &name);
    figure("who is in a hurry waits, ms", asked.elapsed().as_millis());

    let before = origin.requests();
    let gone = Via::new(client.proxy, &name).patience(TURNED_AWAY).get("/stats");
    assert!(gone.is_err(), "{gone:?}");
    assert_eq!(origin.requests(), before);
    client.command(&["service", "accept", &line]).success();
    opens_for(client, &name);
}
