//! Networks that do not let everybody in: by invitation, and among friends.
//!
//! Lives here: real processes that are let in and that are not, and what they are told. Does not live
//! here: what a signature proves (`overlay/src/ring/members.rs`).

use std::{path::Path, time::Duration};

use harness::{
    binary::run,
    group,
    runner::{Group, wait_for},
    scratch::Scratch,
    testnet::Router,
};

pub(crate) fn group() -> Group {
    group!("admission", shares: false,
        a_newcomer_is_invited_and_a_stranger_is_refused_and_told_what_to_do,
        friends_have_links_when_both_have_said_so,
    )
}

/// The router of folder `name`, at an address of its own.
fn start(scratch: &Scratch, name: &str, k: usize) -> Router {
    let link = format!("127.{k}.0.1:0");
    let flags = ["--link", &link, "--proxy", "127.0.0.1:0", "--api", "127.0.0.1:0"];
    Router::start(&scratch.join(name), &flags)
}

fn dir(scratch: &Scratch, name: &str) -> String {
    scratch.join(name).display().to_string()
}

fn id(folder: &str) -> String {
    let id = run(["key", "id", "--dir", folder]).success().trim().to_owned();
    assert_eq!(id.len(), 52, "{id}");
    id
}

fn neighbours(router: &Router) -> u64 {
    router.status().and_then(|status| status["neighbours"].as_u64()).unwrap_or_default()
}

fn all_linked(routers: &[Router], count: u64) {
    wait_for(Duration::from_mins(1), &format!("{count} neighbours each"), || {
        routers.iter().all(|router| neighbours(router) == count).then_some(())
    });
}

fn a_newcomer_is_invited_and_a_stranger_is_refused_and_told_what_to_do() {
    let scratch = Scratch::new("invite-mode");
    let folder = |name: &str| dir(&scratch, name);
    let of = ["--admission", "invite", "--weekly", "3", "--local", "--difficulty", "0"];
    run(["init"].into_iter().chain(of).chain(["--dir", &folder("founder")])).success();
    let mut routers = vec![start(&scratch, "founder", 81)];
    for (k, name) in [(82, "second"), (83, "third")] {
        // Whoever came last invites the next: the chain grows.
        let newcomer = id(&folder(name));
        let line = routers.last().unwrap().command(&["invite", "--for", &newcomer]).success();
        run(["join", line.trim(), "--dir", &folder(name)]).success();
        routers.push(start(&scratch, name, k));
    }
    all_linked(&routers, 2);

    // No line for nobody, and what to do instead.
    let refused = routers[0].command(&["invite"]);
    assert_eq!(refused.code(), 6, "{}", refused.stderr);
    assert!(refused.stderr.contains("warren key id") && refused.stderr.contains("--for"));
    // Another's line is of no use to a stranger, and it is told what to do.
    let line = routers[1].command(&["invite", "--for", &id(&folder("fourth"))]).success();
    let stranger = run(["join", line.trim(), "--dir", &folder("stranger")]);
    assert_eq!(stranger.code(), 6, "{}", stranger.stderr);
    for words in ["for another router", "warren key id", "warren invite --for"] {
        assert!(stranger.stderr.contains(words), "{words}: {}", stranger.stderr);
    }
    // Not even with the network's file and its peers in the folder.
    for file in ["network", "peers"] {
        std::fs::copy(scratch.join("second").join(file), scratch.join("stranger").join(file))
            .unwrap();
    }
    let stranger = run(["run", "--link", "127.84.0.1:0", "--dir", &folder("stranger")]);
    assert_eq!(stranger.code(), 1, "{}", stranger.stderr);
    for words in ["no member has signed", "warren key id", "warren invite --for"] {
        assert!(stranger.stderr.contains(words), "{words}: {}", stranger.stderr);
    }
    // Whom the line is for is let in.
    run(["join", line.trim(), "--dir", &folder("fourth")]).success();
    routers.push(start(&scratch, "fourth", 84));
    all_linked(&routers, 3);

    // The same newcomer again costs nothing; a member's week has three places.
    let (fifth, sixth) = (id(&folder("fifth")), id(&folder("sixth")));
    let invite = |newcomer: &str| routers[1].command(&["invite", "--for", newcomer]);
    for newcomer in [&fifth, &fifth, &sixth] {
        // The third and the fourth were this one's; now two more would be four.
        let ended = invite(newcomer);
        if newcomer == &sixth {
            assert_eq!(ended.code(), 6, "{}", ended.stdout);
            assert!(ended.stderr.contains("all 3 invitations of this week"), "{}", ended.stderr);
        } else {
            ended.success();
        }
    }
}

fn befriends(router: &Router, line: &str, name: &str) {
    router.command(&["friend", "add", line, "--name", name]).success();
}

fn friends_have_links_when_both_have_said_so() {
    let scratch = Scratch::new("friends-mode");
    let folder = |name: &str| dir(&scratch, name);
    let of = ["--admission", "friends", "--local", "--difficulty", "0"];
    run(["init"].into_iter().chain(of).chain(["--dir", &folder("anna")])).success();
    let mut routers = vec![start(&scratch, "anna", 86)];
    let line = routers[0].invite();
    for (k, name) in [(87, "bert"), (88, "carl")] {
        // Who joins with a friend's line has named that friend.
        run(["join", &line, "--dir", &folder(name)]).success();
        routers.push(start(&scratch, name, k));
    }
    let lines: Vec<String> = routers.iter().map(Router::invite).collect();
    befriends(&routers[0], &lines[1], "bert");
    all_linked(&routers[..2], 1);
    // Anna does not know Carl: that Carl names her is not enough.
    assert_eq!(neighbours(&routers[2]), 0);
    let listed = routers[0].command(&["friend", "list", "--json"]).json();
    assert_eq!(listed[0]["name"], "bert");
    assert_eq!(listed[0]["id"], id(&folder("bert")));

    befriends(&routers[0], &lines[2], "carl");
    befriends(&routers[1], &lines[2], "carl");
    befriends(&routers[2], &lines[1], "bert");
    all_linked(&routers, 2);
    // It is over as soon as one of them says so.
    routers[0].command(&["friend", "remove", "carl"]).success();
    wait_for(Duration::from_secs(30), "Anna's link with Carl to end", || {
        (neighbours(&routers[0]) == 1 && neighbours(&routers[2]) == 1).then_some(())
    });
    let unknown = routers[0].command(&["friend", "remove", "carl"]);
    assert_eq!(unknown.code(), 4, "{}", unknown.stderr);
    assert!(unknown.stderr.contains("warren friend list"), "{}", unknown.stderr);
    let wrong = routers[0].command(&["friend", "add", "warren-invite-nonsense"]);
    assert!(wrong.code() > 0 && wrong.stderr.contains("warren invite"), "{}", wrong.stderr);
    assert!(Path::new(&folder("anna")).join("friends/bert").exists());
}
