//! The command line: what it names, what it says when something is wrong, how it exits.
//!
//! Lives here: single commands and single routers. Does not live here: a network set up by hand with
//! them (`by_hand`).

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use harness::{
    binary::{Ended, root, run, warren},
    client::{exchange, http_get},
    group,
    runner::{Group, wait_for},
    scratch::Scratch,
    testnet::Router,
};

pub(crate) fn group() -> Group {
    group!("commands", shares: false,
        help_names_the_commands_that_exist_and_no_others,
        every_command_that_reports_takes_json_and_every_command_takes_a_folder,
        wrong_usage_exits_2_and_says_what_is_meant,
        commands_without_a_router_exit_3_and_say_how_to_start_one,
        a_locked_folder_is_an_error_that_names_the_remedy,
        a_key_that_others_can_read_is_refused_with_what_to_do,
        a_taken_port_is_an_error_that_names_the_flag,
        an_unknown_setting_is_an_error_with_a_suggestion,
        a_value_out_of_range_is_an_error_with_the_range,
        a_public_proxy_needs_an_explicit_opt_in,
        the_shipped_settings_file_works_when_copied_as_it_says,
        a_line_that_is_no_invite_is_refused,
        a_folder_of_one_network_does_not_join_another,
        init_does_not_replace_a_network,
        run_without_a_network_makes_one_and_says_you_are_alone,
        the_page_answers_this_machine_only_and_the_api_wants_its_token,
        a_terminated_router_leaves_cleanly_and_its_folder_is_free,
    )
}

/// Flags that keep a router away from ports that others may use.
pub(crate) const PORTS: [&str; 6] =
    ["--link", "127.60.0.1:0", "--proxy", "127.0.0.1:0", "--api", "127.0.0.1:0"];

/// A folder with a network of its own that costs nothing to join.
pub(crate) fn made(scratch: &Scratch, name: &str) -> std::path::PathBuf {
    let dir = scratch.join(name);
    let place = dir.display().to_string();
    run(["init", "--local", "--difficulty", "0", "--dir", &place]).success();
    dir
}

/// `warren run` that is expected to fail at once.
fn refused(dir: &Path, extra: &[&str]) -> Ended {
    let dir = dir.display().to_string();
    let mut args = vec!["run", "--dir", &dir];
    args.extend(extra);
    let ended = run(args);
    assert!(!ended.status.success());
    ended
}

fn listed() -> BTreeSet<String> {
    let help = run(["--help"]).success();
    let commands = help.split("Commands:").nth(1).expect("a list of commands");
    commands
        .lines()
        .skip(1)
        .take_while(|line| !line.trim().is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .collect()
}

fn help_names_the_commands_that_exist_and_no_others() {
    let listed = listed();
    for command in [
        "init", "run", "status", "invite", "join", "expose", "services", "unexpose", "put", "puts",
        "get", "cat", "ls", "check", "heal", "demo", "testnet", "service", "why",
    ] {
        assert!(listed.contains(command), "{command} is missing: {listed:?}");
    }
    for command in listed.iter().filter(|command| *command != "help") {
        let ended = run([command.as_str(), "--help"]);
        assert!(ended.status.success(), "{command} --help: {}", ended.stderr);
    }
    // What later issues build is absent, not pretended.
    for command in ["pin", "site", "browse", "send", "receive", "sim"] {
        if !listed.contains(command) {
            assert_eq!(run([command]).code(), 2, "{command} exists but is not listed");
        }
    }
    let version = run(["--version"]).success();
    assert!(version.starts_with("warren "), "{version}");
}

fn every_command_that_reports_takes_json_and_every_command_takes_a_folder() {
    for command in [
        "status", "invite", "services", "expose", "put", "puts", "get", "cat", "ls", "check",
        "heal", "demo", "why",
    ] {
        assert!(run([command, "--help"]).success().contains("--json"), "{command} has no --json");
    }
    for command in [
        "init", "run", "status", "invite", "join", "expose", "services", "unexpose", "put", "puts",
        "get", "cat", "ls", "check", "heal",
    ] {
        assert!(run([command, "--help"]).success().contains("--dir"), "{command} has no --dir");
    }
}

fn wrong_usage_exits_2_and_says_what_is_meant() {
    let ended = run(["statsu"]);
    assert_eq!(ended.code(), 2);
    assert!(ended.stderr.contains("status"), "{}", ended.stderr);
    assert!(ended.stdout.is_empty());
    assert_eq!(run(["join"]).code(), 2);
    assert_eq!(run(["demo", "--routers", "many"]).code(), 2);
    assert_eq!(run(["run", "--hops", "nine"]).code(), 2);
}

fn commands_without_a_router_exit_3_and_say_how_to_start_one() {
    let scratch = Scratch::new("none");
    let dir = scratch.join("nobody").display().to_string();
    for command in [
        &["status"][..],
        &["invite"],
        &["services"],
        &["site", "list"],
        &["expose", "127.0.0.1:80"],
        &["unexpose", "a"],
    ] {
        let ended = run(command.iter().copied().chain(["--dir", &dir]));
        assert_eq!(ended.code(), 3, "{command:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("warren run --dir"), "{command:?}: {}", ended.stderr);
        assert!(ended.stdout.is_empty(), "{command:?}: {}", ended.stdout);
    }
    assert!(!Path::new(&dir).exists(), "asking made the folder");
}

fn a_locked_folder_is_an_error_that_names_the_remedy() {
    let scratch = Scratch::new("locked");
    let dir = made(&scratch, "one");
    let router = Router::start(&dir, &PORTS);
    let ended = refused(&dir, &PORTS);
    assert!(ended.stderr.contains("in use"), "{}", ended.stderr);
    assert!(ended.stderr.contains("--dir"), "{}", ended.stderr);
    // The one that runs is not disturbed.
    assert!(router.status().is_some());
}

fn a_key_that_others_can_read_is_refused_with_what_to_do() {
    let scratch = Scratch::new("open");
    let dir = made(&scratch, "one");
    drop(Router::start(&dir, &PORTS));
    let key = dir.join("router.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let ended = refused(&dir, &PORTS);
    assert!(
        ended.stderr.contains("chmod 600") && ended.stderr.contains("router.key"),
        "{}",
        ended.stderr
    );
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(Router::start(&dir, &PORTS).status().is_some());
}

fn a_taken_port_is_an_error_that_names_the_flag() {
    let scratch = Scratch::new("taken");
    let dir = made(&scratch, "one");
    let holders = ["127.0.0.1:0", "127.60.0.1:0"].map(|any| TcpListener::bind(any).unwrap());
    let [taken, link] = holders.each_ref().map(|held| held.local_addr().unwrap().to_string());
    let free = "127.0.0.1:0";
    for (flag, flags) in [
        ("--proxy", ["--link", "127.60.0.1:0", "--proxy", &taken, "--api", free]),
        ("--api", ["--link", "127.60.0.1:0", "--proxy", free, "--api", &taken]),
        ("--link", ["--link", &link, "--proxy", free, "--api", free]),
    ] {
        let ended = refused(&dir, &flags);
        assert!(ended.stderr.contains(flag), "{flag}: {}", ended.stderr);
        assert!(ended.code() > 0, "{}", ended.code());
    }
}

/// Writes the settings in `dir`.
pub(crate) fn settings(dir: &Path, text: &str) {
    let path = dir.join("warren.toml");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn an_unknown_setting_is_an_error_with_a_suggestion() {
    let scratch = Scratch::new("unknown");
    let dir = made(&scratch, "one");
    settings(&dir, "[tunnels]\nhop = 3\n");
    let ended = refused(&dir, &PORTS);
    assert!(ended.stderr.contains("did you mean `hops`?"), "{}", ended.stderr);
    assert!(ended.stderr.contains("hop"), "{}", ended.stderr);
}

fn a_value_out_of_range_is_an_error_with_the_range() {
    let scratch = Scratch::new("range");
    let dir = made(&scratch, "one");
    settings(&dir, "[tunnels]\nhops = 5\n");
    let ended = refused(&dir, &PORTS);
    assert!(ended.stderr.contains("1 to 4"), "{}", ended.stderr);
    settings(&dir, "");
    let ended = refused(&dir, &[&PORTS[..], &["--hops", "5"]].concat());
    assert!(ended.stderr.contains("1 to 4"), "{}", ended.stderr);
}

fn a_public_proxy_needs_an_explicit_opt_in() {
    let scratch = Scratch::new("public");
    let dir = made(&scratch, "one");
    let flags = ["--link", "127.60.0.1:0", "--proxy", "0.0.0.0:0", "--api", "127.0.0.1:0"];
    let ended = refused(&dir, &flags);
    assert!(ended.stderr.contains("proxy.expose = true"), "{}", ended.stderr);
    settings(&dir, "[proxy]\nexpose = true\n");
    let router = Router::start(&dir, &flags);
    assert!(router.proxy.ip().is_unspecified());
}

fn the_shipped_settings_file_works_when_copied_as_it_says() {
    let scratch = Scratch::new("shipped");
    let dir = made(&scratch, "one");
    // As `cp` leaves it with everybody's umask.
    let path = dir.join("warren.toml");
    fs::copy(root().join("config/warren.toml"), &path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let router = Router::start(&dir, &PORTS);
    assert!(router.status().is_some());
}

fn a_line_that_is_no_invite_is_refused() {
    let scratch = Scratch::new("invite");
    let router = Router::start(&made(&scratch, "one"), &PORTS);
    let line = router.invite();
    let mut broken = line.clone().into_bytes();
    let middle = broken.len() / 2;
    broken[middle] = if broken[middle] == b'a' { b'b' } else { b'a' };
    let broken = String::from_utf8(broken).unwrap();
    let dir = scratch.join("two").display().to_string();
    for wrong in ["nonsense", "warren-invite-", &broken, &line[..line.len() - 1]] {
        let ended = run(["join", wrong, "--dir", &dir]);
        assert!(ended.code() > 0);
        assert!(ended.stderr.contains("invite"), "{}", ended.stderr);
        assert!(!run(["init", "--join", wrong, "--dir", &dir]).status.success());
    }
    run(["join", &line, "--dir", &dir]).success();
}

fn a_folder_of_one_network_does_not_join_another() {
    let scratch = Scratch::new("other");
    let router = Router::start(&made(&scratch, "one"), &PORTS);
    let line = router.invite();
    let other = made(&scratch, "two").display().to_string();
    let ended = run(["join", &line, "--dir", &other]);
    assert_eq!(ended.code(), 6, "{}", ended.stderr);
    assert!(ended.stderr.contains("--dir"), "{}", ended.stderr);
}

fn init_does_not_replace_a_network() {
    let scratch = Scratch::new("init");
    let dir = made(&scratch, "one");
    let before = fs::read(dir.join("network")).unwrap();
    let ended = run(["init", "--dir", &dir.display().to_string()]);
    assert_eq!(ended.code(), 6, "{}", ended.stderr);
    assert_eq!(fs::read(dir.join("network")).unwrap(), before);
}

fn run_without_a_network_makes_one_and_says_you_are_alone() {
    let scratch = Scratch::new("alone");
    let dir = scratch.join("one");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("warren.toml"), "[link]\nannounce = \"9.9.9.9:40001\"\n").unwrap();
    // A public network: its place on the ring is earned by work, so this takes some seconds.
    let mut router = Router::start(&dir, &["--proxy", "127.0.0.1:0", "--api", "127.0.0.1:0"]);
    wait_for(Duration::from_secs(20), "the router to say that it is alone", || {
        router.log().contains("you are alone").then_some(())
    });
    let log = router.log();
    assert!(log.contains("warren invite"), "{log}");
    let status = router.command(&["status"]).success();
    let verdict = status.lines().next().unwrap();
    assert!(verdict.len() > 10 && verdict.contains(' '), "no verdict in words: {verdict:?}");
    let said = router.status().unwrap();
    assert_eq!(said["ready"], false, "alone and ready: {said}");
    // It says what is missing: any other router (`by_hand` has what it says when it has a few).
    assert!(verdict.to_lowercase().contains("alone"), "{verdict}");
    assert!(verdict.contains("warren invite"), "{verdict}");
    assert!(router.invite().starts_with("warren-invite-"));
    let json = router.command(&["invite", "--json"]).json();
    assert_eq!(json["line"], router.invite());

    // At home, where nobody can dial it, there is no line to give, and it says what there is to do.
    fs::write(dir.join("warren.toml"), "[link]\nannounce = \"none\"\n").unwrap();
    router.signal("TERM");
    router.start_again();
    let status = wait_for(Duration::from_secs(20), "the router to answer", || router.status());
    let refused = router.command(&["invite"]);
    assert_eq!(refused.code(), 6, "{}", refused.stderr);
    for words in [&refused.stderr, status["verdict"].as_str().unwrap()] {
        assert!(words.contains("link.announce") && words.contains("--local"), "{words}");
    }
}

fn the_page_answers_this_machine_only_and_the_api_wants_its_token() {
    let scratch = Scratch::new("page");
    let dir = made(&scratch, "one");
    let router = Router::start(&dir, &PORTS);
    let ask = |text: String| exchange(router.metrics, &text);
    let get = |path: &str, host: &str, more: &str| {
        ask(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n"))
    };
    assert_eq!(http_get(router.metrics, "/healthz").unwrap().0, 200);
    assert_eq!(http_get(router.metrics, "/").unwrap().0, 200);
    assert_eq!(http_get(router.metrics, "/readyz").unwrap().0, 503, "alone, and ready");
    for path in ["/", "/metrics", "/v1/status"] {
        let answer = get(path, "evil.example", "");
        assert!(answer.starts_with("HTTP/1.1 421"), "{path} for a foreign name: {answer}");
    }
    for path in ["/v1/status", "/v1/invite", "/v1/services"] {
        let answer = get(path, "127.0.0.1", "");
        assert!(answer.starts_with("HTTP/1.1 401"), "{path} without a token: {answer}");
        let answer = get(path, "127.0.0.1", "Authorization: Bearer 00\r\n");
        assert!(answer.starts_with("HTTP/1.1 401"), "{path} with a wrong token: {answer}");
    }
    let token = fs::read_to_string(dir.join("api.token")).unwrap();
    let answer =
        get("/v1/status", "127.0.0.1", &format!("Authorization: Bearer {}\r\n", token.trim()));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // A page of the web that posts here gets nothing either.
    let answer =
        ask("POST /v1/stop HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://evil.example\r\n\
         Content-Length: 0\r\nConnection: close\r\n\r\n"
            .to_owned());
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(!answer.to_ascii_lowercase().contains("access-control"), "{answer}");
    // Secrets and the socket are the owner's alone.
    for (file, private) in [("control.sock", 0o077), ("api.token", 0o077), ("router.key", 0o077)] {
        let meta = fs::metadata(dir.join(file)).unwrap();
        assert_eq!(meta.permissions().mode() & private, 0, "{file} is open to others");
        assert_eq!(meta.file_type().is_socket(), file == "control.sock");
    }
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o077, 0);
    // Metrics have no label that names anybody.
    let (_, metrics) = http_get(router.metrics, "/metrics").unwrap();
    assert!(metrics.contains("warren_cells_relayed_total"), "{metrics}");
    assert!(!metrics.contains('{'), "a label: {metrics}");
}

fn a_terminated_router_leaves_cleanly_and_its_folder_is_free() {
    let scratch = Scratch::new("term");
    let dir = made(&scratch, "one");
    for signal in ["-TERM", "-INT"] {
        let mut child = Command::new(warren())
            .args(["run", "--dir"])
            .arg(&dir)
            .args(PORTS)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let place = dir.display().to_string();
        wait_for(Duration::from_secs(20), "the router to answer", || {
            run(["status", "--dir", &place]).status.success().then_some(())
        });
        Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        let status =
            wait_for(Duration::from_secs(10), "the router to leave", || child.try_wait().unwrap());
        assert!(status.success(), "{signal}: {status}");
    }
    let router = Router::start(&dir, &PORTS);
    assert!(router.status().is_some());
}
