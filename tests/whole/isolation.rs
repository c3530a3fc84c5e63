//! What two isolation contexts share: nothing.
//!
//! Lives here: paths, read from the kernel's counters. Does not live here: how contexts are told
//! apart (proxy's own tests).

use std::{collections::BTreeSet, net::IpAddr, thread, time::Duration};

use harness::{
    flow::Flow,
    group,
    runner::{Group, figure},
};

use crate::shared::{ORIGIN, Standard, standard};

pub(crate) fn group() -> Group {
    group!("isolation", shares: true,
        a_download_crosses_six_relays_between_service_and_client,
        one_context_keeps_its_path,
        contexts_have_paths_of_their_own,
    )
}

/// Enough to stand out from what the network does for itself.
const PAYLOAD: u64 = 4 << 20;

/// The path of one download in `context`, from the service to the client, both included; `None` when
/// a router is on it so often that it cannot be read.
fn path(shared: &Standard, context: &str) -> Option<Vec<IpAddr>> {
    let via = shared.net.via(ORIGIN).context(context);
    // The context's tunnels are built by the first request, not by the one that is looked at.
    via.verify(1_000).unwrap();
    let before = Flow::now();
    via.verify(PAYLOAD).unwrap();
    // The kernel's counters follow the last acknowledgement.
    thread::sleep(Duration::from_millis(100));
    let flow = Flow::now().since(&before);
    let path = flow.path(shared.net.host().ip(), shared.net.client().ip(), PAYLOAD);
    match &path {
        Some(path) => println!("  {context}: {}", shared.net.path_names(path)),
        None => println!("  {context}: cannot be read: {}", flow.describe(PAYLOAD)),
    }
    path
}

fn a_download_crosses_six_relays_between_service_and_client() {
    let shared = standard();
    // A path through one router twice cannot always be read; one of three surely can.
    let path = (0..3)
        .find_map(|n| path(&shared, &format!("six relays {n}")))
        .expect("a path that can be read");
    assert_eq!(path.len(), 8, "service, three of its relays, three of the client's, client");
    figure("relays between client and service", path.len() - 2);
    // Each side takes three different relays.
    for side in [&path[1..4], &path[4..7]] {
        assert_eq!(side.iter().collect::<BTreeSet<_>>().len(), 3);
    }
}

fn one_context_keeps_its_path() {
    let shared = standard();
    let paths: BTreeSet<_> = (0..3).filter_map(|_| path(&shared, "one and the same")).collect();
    assert!(paths.len() <= 1, "{paths:?}");
    let first = path(&shared, "one and the same");
    assert!(paths.len() == 1 || first.is_none());
}

/// How many contexts are asked for. The client's side of a path is a draw out of at least 2 guards
/// and 8 x 7 further pairs, so that six contexts that draw for themselves all agree once in 10^10
/// runs; if they shared tunnels they would all agree always.
const CONTEXTS: usize = 6;

fn contexts_have_paths_of_their_own() {
    let shared = standard();
    let paths: Vec<_> =
        (0..CONTEXTS).filter_map(|n| path(&shared, &format!("person {n}"))).collect();
    assert!(paths.len() >= 2, "paths that can be read");
    // The client's three relays come last before the client.
    let client_sides: BTreeSet<&[IpAddr]> =
        paths.iter().map(|path| &path[path.len() - 4..path.len() - 1]).collect();
    figure("different client tunnels of six contexts", client_sides.len());
    assert!(client_sides.len() >= 2, "all contexts share one tunnel: {client_sides:?}");
}
