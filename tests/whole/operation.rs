//! Running a router as a service: signals, settings, limits, what packages ship.
//!
//! Lives here: one router under a service manager, and a relay that leaves a working network. Does
//! not live here: what its commands say when something is wrong (`commands`), limits (`limits`).

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind},
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use harness::{
    binary::{finish, root, run, warren},
    client::{Via, exchange, http_get},
    group,
    origin::Origin,
    runner::{Group, figure, skip_extra, wait_for},
    scratch::Scratch,
    testnet::{Router, Testnet},
};

use crate::commands::{PORTS, made, settings};

pub(crate) fn group() -> Group {
    group!("operation", shares: false,
        the_service_unit_is_valid_and_leaves_little_open,
        a_service_manager_hears_that_the_router_is_ready_alive_reloading_and_leaving,
        settings_are_read_again_and_what_cannot_change_is_named,
        every_help_has_an_example_and_every_command_a_manual_page,
        metrics_and_alerts_are_such_as_prometheus_takes,
        completions_are_scripts_that_shells_take,
        status_is_said_again_and_again_when_it_is_watched,
        the_page_shows_services_to_who_knows_the_token_and_to_no_other_page,
        the_doctor_names_what_is_wrong_and_what_to_do,
        a_service_is_put_on_a_second_machine_from_a_backup_and_outlives_the_first,
        a_relay_that_is_told_to_leave_is_gone_within_ten_seconds_and_breaks_nothing,
    )
}

fn the_service_unit_is_valid_and_leaves_little_open() {
    if !Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_ok_and(|ok| ok.status.success())
    {
        skip_extra("no systemd-analyze here");
    }
    let unit = root().join("config/warren.service");
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--offline=true", "--no-pager"]).arg(&unit);
    let report = finish(&mut command).success();
    let level = report
        .lines()
        .find_map(|line| line.split_once("Overall exposure level for warren.service: "))
        .and_then(|(_, rest)| rest.split_whitespace().next()?.parse::<f64>().ok())
        .expect("a level");
    figure("exposure of the unit", level);
    assert!(level <= 2.0, "{report}");
    // As installed, but with the program that is here: `verify` looks for it and for its manual.
    let scratch = Scratch::new("unit");
    let text = fs::read_to_string(&unit).unwrap();
    let here = text
        .replace("/usr/bin/warren", &warren().display().to_string())
        .replace("Documentation=man:warren(1)\n", "");
    let copy = scratch.write("warren.service", here.as_bytes());
    let mut command = Command::new("systemd-analyze");
    command.arg("verify").arg(copy);
    let ended = finish(&mut command);
    assert!(ended.status.success() && !ended.stderr.contains("warren.service"), "{}", ended.stderr);
}

/// A process that ends with its test.
pub(crate) struct Started(pub(crate) Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn signal(pid: u32, name: &str) {
    let done = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
    assert!(done.is_ok_and(|status| status.success()));
}

/// What has come to a notify socket since the last call.
fn heard(socket: &UnixDatagram, all: &mut String) {
    let mut buffer = [0; 4_096];
    loop {
        match socket.recv(&mut buffer) {
            Ok(n) => {
                all.push_str(&String::from_utf8_lossy(&buffer[..n]));
                all.push('\n');
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => panic!("{error}"),
        }
    }
}

fn a_service_manager_hears_that_the_router_is_ready_alive_reloading_and_leaving() {
    let scratch = Scratch::new("notify");
    let dir = made(&scratch, "one");
    let path = scratch.join("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let child = Command::new(warren())
        .arg("run")
        .args(PORTS)
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "60000000")
        // What systemd sets for StateDirectory=.
        .env("STATE_DIRECTORY", &dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut child = Started(child);
    let mut all = String::new();
    let wait = |all: &mut String, word: &str| {
        wait_for(Duration::from_secs(30), word, || {
            heard(&socket, all);
            all.contains(word).then_some(())
        });
    };
    wait(&mut all, "READY=1");
    // Its word is true: the control socket answers now.
    run(["status", "--dir", &dir.display().to_string()]).success();
    wait(&mut all, "WATCHDOG=1");
    wait(&mut all, "STATUS=Alone");
    all.clear();
    signal(child.0.id(), "HUP");
    wait(&mut all, "RELOADING=1");
    assert!(all.contains("MONOTONIC_USEC="), "{all}");
    wait(&mut all, "READY=1");
    // A router that hangs is not called alive.
    signal(child.0.id(), "STOP");
    heard(&socket, &mut all);
    all.clear();
    std::thread::sleep(Duration::from_millis(700));
    heard(&socket, &mut all);
    assert_eq!(all, "");
    signal(child.0.id(), "CONT");
    wait(&mut all, "WATCHDOG=1");
    signal(child.0.id(), "TERM");
    wait(&mut all, "STOPPING=1");
    let status =
        wait_for(Duration::from_secs(10), "the router to leave", || child.0.try_wait().unwrap());
    assert!(status.success(), "{status}");
}

fn settings_are_read_again_and_what_cannot_change_is_named() {
    let scratch = Scratch::new("reload");
    let dir = made(&scratch, "one");
    settings(&dir, "[limits]\nbandwidth_kbps = 8000\n[ring]\ndegree = 12\n");
    let mut router = Router::start(&dir, &PORTS);
    assert_eq!(router.status().unwrap()["bandwidth_kbps"], 8_000);
    settings(
        &dir,
        "[limits]\nbandwidth_kbps = 16000\nmemory_mib = 64\n[ring]\ndegree = 16\n[log]\nlevel = \"info\"\n",
    );
    router.signal("HUP");
    wait_for(Duration::from_secs(10), "the new limits to hold", || {
        let status = router.status()?;
        (status["bandwidth_kbps"] == 16_000 && status["memory_mib"] == 64).then_some(())
    });
    let said = |word: &str| {
        wait_for(Duration::from_secs(10), word, || router.log().contains(word).then_some(()));
    };
    said("limits.bandwidth_kbps = 16000 from now on");
    said("limits.memory_mib = 64 from now on");
    said("log.level = info from now on");
    said("ring.degree changes only when the router is started again");
    assert!(!router.log().contains("link.listen changes"), "{}", router.log());
    // A mistake changes nothing, and says where it is.
    settings(&dir, "[limits]\nbandwith_kbps = 32000\n");
    let pid = router.pid;
    harness::machine::signal(pid, "HUP", &dir.display().to_string());
    said("settings stay as they were");
    said("did you mean `bandwidth_kbps`?");
    assert_eq!(router.status().unwrap()["bandwidth_kbps"], 16_000);
}

/// Every command and verb, by its words.
fn commands(words: &[String], all: &mut Vec<Vec<String>>) {
    all.push(words.to_vec());
    let help = run(words.iter().map(String::as_str).chain(["--help"])).success();
    let Some(list) = help.split("Commands:").nth(1) else { return };
    let named = list.lines().skip(1).take_while(|line| !line.trim().is_empty());
    for line in named.filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
        let name = line.split_whitespace().next().unwrap();
        // `sim` has a help of its own, and may not be built here.
        if !["help", "sim"].contains(&name) {
            commands(&[words, &[name.to_owned()]].concat(), all);
        }
    }
}

fn every_help_has_an_example_and_every_command_a_manual_page() {
    let scratch = Scratch::new("man");
    let dir = scratch.join("man1");
    run(["man", &dir.display().to_string()]).success();
    let mut all = Vec::new();
    commands(&[], &mut all);
    assert!(all.len() > 12, "{all:?}");
    for words in all {
        let help = run(words.iter().map(String::as_str).chain(["--help"])).success();
        let line = format!("Example: warren {}", words.join(" "));
        assert!(help.contains(line.trim_end()), "{words:?}: {help}");
        let page = [&["warren".to_owned()], &words[..]].concat().join("-") + ".1";
        let text = fs::read_to_string(dir.join(&page)).unwrap_or_else(|_| panic!("no {page}"));
        assert!(text.contains(".SH NAME") && text.contains("Example"), "{page}: {text}");
    }
}

fn metrics_and_alerts_are_such_as_prometheus_takes() {
    let promtool = |words: &[&str], input: Stdio| {
        Command::new("promtool")
            .args(words)
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()
    };
    if promtool(&["--version"], Stdio::null()).is_err() {
        skip_extra("no promtool here: `apt-get install prometheus`, and run this test again");
    }
    let scratch = Scratch::new("metrics");
    let router = Router::start(&made(&scratch, "one"), &PORTS);
    let (_, metrics) = http_get(router.metrics, "/metrics").unwrap();
    let file = fs::File::open(scratch.write("metrics", metrics.as_bytes())).unwrap();
    let rules = root().join("config/alerts.yml").display().to_string();
    for (words, input) in
        [(&["check", "metrics"][..], file.into()), (&["check", "rules", &rules], Stdio::null())]
    {
        let ended = promtool(words, input).unwrap();
        let said = [ended.stdout, ended.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(ended.status.success() && !said.contains("FAILED"), "{words:?}: {said}");
    }
}

fn completions_are_scripts_that_shells_take() {
    let scratch = Scratch::new("complete");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(["completions", shell]).success();
        assert!(script.contains("warren") && script.contains("unexpose"), "{shell}");
        let path = scratch.write(shell, script.as_bytes());
        // The one shell that is everywhere reads it.
        if shell == "bash" {
            let mut command = Command::new("bash");
            command.arg("-n").arg(path);
            finish(&mut command).success();
        }
    }
}

fn status_is_said_again_and_again_when_it_is_watched() {
    let scratch = Scratch::new("watch");
    let router = Router::start(&made(&scratch, "one"), &PORTS);
    let child = Command::new(warren())
        .args(["status", "--watch", "--json", "--dir"])
        .arg(&router.dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Started(child);
    let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    for line in lines.take(3) {
        let status: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert_eq!(status["ready"], false);
    }
}

fn the_page_shows_services_to_who_knows_the_token_and_to_no_other_page() {
    let scratch = Scratch::new("own-page");
    let router = Router::start(&made(&scratch, "one"), &PORTS);
    let name = router.command(&["expose", "127.0.0.1:9", "--label", "blog"]).success();
    let name = name.trim();
    let host = router.metrics;
    let ask = |method: &str, path: &str, more: &str| {
        exchange(
            host,
            &format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n"),
        )
    };
    let outside = ask("GET", "/", "");
    assert!(outside.starts_with("HTTP/1.1 200") && outside.contains("Alone"), "{outside}");
    assert!(!outside.contains(name) && !outside.contains("blog"), "{outside}");
    let policy = "content-security-policy: default-src 'none'; style-src 'self';";
    assert!(outside.contains(policy) && !outside.contains("<script"), "{outside}");
    assert!(ask("GET", "/?token=00", "").starts_with("HTTP/1.1 403"));
    // The link is the one that `warren page` prints; it leads on to one without the token.
    let link = router.command(&["page"]).success();
    let path = link.trim().strip_prefix(&format!("http://{host}")).unwrap();
    let entered = ask("GET", path, "");
    assert!(
        entered.starts_with("HTTP/1.1 303") && entered.contains("location: /\r\n"),
        "{entered}"
    );
    let cookie = entered.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = format!("Cookie: a=b; {}\r\n", cookie.split(';').next().unwrap());
    let inside = ask("GET", "/", &cookie);
    for part in [name, "blog", "127.0.0.1:9", "<svg", "kbit/s", policy, "refresh: 5"] {
        assert!(inside.contains(part), "no {part}: {inside}");
    }
    // The form does the same; the cookie is not the token, and opens nothing else.
    let body = format!("token={}", path.split('=').nth(1).unwrap());
    let form = format!("Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    let entered = exchange(host, &format!("POST /login HTTP/1.1\r\nHost: {host}\r\n{form}"));
    assert!(entered.starts_with("HTTP/1.1 303"), "{entered}");
    assert!(ask("GET", "/v1/status", &cookie).starts_with("HTTP/1.1 401"));
    // A page of elsewhere gets nothing, even with the cookie.
    for foreign in ["Origin: http://evil.example\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
        for path in ["/", "/metrics", "/healthz", "/style.css"] {
            let answer = ask("GET", path, &format!("{cookie}{foreign}"));
            assert!(answer.starts_with("HTTP/1.1 403"), "{path} {foreign}: {answer}");
        }
    }
    let style = ask("GET", "/style.css", "Sec-Fetch-Site: same-origin\r\n");
    assert!(style.contains("text/css"), "{style}");
}

fn the_doctor_names_what_is_wrong_and_what_to_do() {
    let scratch = Scratch::new("doctor");
    let dir = made(&scratch, "one");
    let place = dir.display().to_string();
    let found = |report: &serde_json::Value, check: &str| {
        let all = report["findings"].as_array().unwrap();
        all.iter()
            .find(|finding| finding["check"] == check)
            .unwrap_or_else(|| panic!("{check}: {report}"))
            .clone()
    };
    // Each check that does not pass has a remedy.
    let look = |dir: &str| {
        let ended = run(["doctor", "--json", "--dir", dir]);
        let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        for finding in report["findings"].as_array().unwrap() {
            assert_eq!(finding["grade"] == "ok", finding["remedy"].is_null(), "{finding}");
        }
        assert_eq!(report["grade"] == "failed", ended.code() == 1, "{report}");
        report
    };
    let report = look(&place);
    assert_eq!(found(&report, "router")["grade"], "warning");
    assert_eq!(found(&report, "ports")["grade"], "ok");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    settings(&dir, &format!("[proxy]\nlisten = \"{}\"\n", taken.local_addr().unwrap()));
    let report = look(&place);
    assert!(found(&report, "ports")["remedy"].as_str().unwrap().contains("proxy.listen"));
    settings(&dir, "[limits]\nmemory = 3\n");
    assert_eq!(found(&look(&place), "settings")["grade"], "failed");
    settings(&dir, "");
    let network = dir.join("network");
    fs::set_permissions(&network, fs::Permissions::from_mode(0o644)).unwrap();
    let report = look(&place);
    assert!(found(&report, "folder")["remedy"].as_str().unwrap().contains("chmod"), "{report}");
    fs::set_permissions(&network, fs::Permissions::from_mode(0o600)).unwrap();
    // Alone: it runs, and cannot work.
    let router = Router::start(&dir, &PORTS);
    let report = look(&place);
    assert_eq!(found(&report, "router")["grade"], "failed");
    assert_eq!(found(&report, "ports")["grade"], "ok");
    drop(router);

    let origin = Origin::start();
    let net = Testnet::up(8, &[origin.address]);
    let host = net.host().dir.display().to_string();
    let report = look(&host);
    assert_ne!(report["grade"], "failed", "{report}");
    let service = found(&report, "service");
    assert!(
        service["cause"].as_str().unwrap().contains("reached through its gateways"),
        "{report}"
    );
    assert_eq!(found(&report, "address")["grade"], "ok", "{report}");
    let words = run(["doctor", "--dir", &host]).success();
    assert!(words.contains("ok       service"), "{words}");
    // A service whose server is gone is found out.
    run(["expose", "127.0.0.1:9", "--label", "dead", "--dir", &host]).success();
    let report = look(&host);
    assert!(report.to_string().contains("dead: nothing answers on 127.0.0.1:9"), "{report}");
}

fn a_service_is_put_on_a_second_machine_from_a_backup_and_outlives_the_first() {
    let scratch = Scratch::new("move");
    let origin = Origin::start();
    let mut net = Testnet::up(8, &[origin.address]);
    let name = net.services[0].name.clone();
    net.via(0).verify(100_000).unwrap();
    let secret = scratch.write("secret", b"correct horse battery staple\n");
    let path = |name: &str| scratch.join(name).display().to_string();
    let (file, secret_path) = (path("warren.backup"), secret.display().to_string());
    let with = ["--passphrase-file", secret_path.as_str()];

    // Others could have read the passphrase: refused, with the remedy.
    let host = net.host().dir.display().to_string();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let open = run([&["key", "backup", &file, "--dir", &host][..], &with].concat());
    assert_eq!(open.code(), 6, "{}", open.stderr);
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    // While the router runs; a second time it does not overwrite.
    run([&["key", "backup", &file, "--dir", &host][..], &with].concat()).success();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let again = run([&["key", "backup", &file, "--dir", &host][..], &with].concat());
    assert!(again.code() == 6 && again.stderr.contains("not overwritten"), "{}", again.stderr);
    let key = fs::read(net.host().dir.join("router.key")).unwrap();
    let bytes = fs::read(&file).unwrap();
    assert!(!bytes.windows(8).any(|part| part == &key[..8]), "the key is there to be read");

    // Everything, on a new machine: the same bytes; and once only.
    let whole = path("whole");
    run([&["key", "restore", &file, "--dir", &whole][..], &with].concat()).success();
    assert_eq!(fs::read(scratch.join("whole/router.key")).unwrap(), key);
    assert!(scratch.join("whole/services/service-0").is_file());
    let again = run([&["key", "restore", &file, "--dir", &whole][..], &with].concat());
    assert!(again.code() == 6 && again.stderr.contains("not overwritten"), "{}", again.stderr);
    let wrong = scratch.write("wrong", b"incorrect horse battery staple");
    fs::set_permissions(&wrong, fs::Permissions::from_mode(0o600)).unwrap();
    let wrong = path("wrong");
    let refused =
        run(["key", "restore", &file, "--dir", &path("none"), "--passphrase-file", &wrong]);
    assert_eq!(refused.code(), 1, "{}", refused.stderr);
    assert!(refused.stderr.contains("passphrase"), "{}", refused.stderr);

    // The service alone, to a router that is somebody else, while the first one goes on; there another
    // server stands behind it.
    let line = net.client().invite();
    let (other, there) = (scratch.join("other"), Origin::start());
    run(["join", &line, "--dir", &path("other")]).success();
    let target = format!("service-0={}", there.address);
    let restore = ["key", "restore", &file, "--services", "--target", &target];
    run([&restore[..], &["--dir", &path("other")], &with].concat()).success();
    assert!(!other.join("router.key").exists());
    let router = Router::start(&other, &PORTS);
    assert_ne!(fs::read(other.join("router.key")).unwrap(), key);
    wait_for(Duration::from_mins(2), "the service to be published from both machines", || {
        let list = router.command(&["services", "--json"]).json();
        let service = &list[0];
        let both = service["published"] == true && service["others"] == 1;
        (service["name"] == name.as_str() && both).then_some(())
    });
    let list = router.command(&["services", "--json"]).json();
    assert_eq!(list[0]["target"], there.address.to_string());
    // Visitors get to either: by chance, so some to each.
    let visits = |context: &str| Via::new(net.client().proxy, &name).context(context).verify(1_000);
    for visitor in 0..12 {
        visits(&format!("visitor {visitor}")).unwrap();
        if there.requests() > 0 && visitor > 0 {
            break;
        }
    }
    assert!(there.requests() > 0, "nobody got to the second machine");
    let proxy = net.client().proxy;

    // The first one is switched off: a visitor of it, and one who was never there.
    let at = net.routers.iter().position(|router| router.role == "service").unwrap();
    net.routers[at].signal("KILL");
    let gone = Instant::now();
    for (proxy, context) in [(proxy, "moved"), (router.proxy, "new")] {
        let via = Via::new(proxy, &name);
        wait_for(Duration::from_mins(1), "the other machine to answer", || {
            via.context(context).patience(Duration::from_secs(10)).verify(100_000).ok()
        });
    }
    figure(
        "one of a service's two routers is gone: the other answers after, ms",
        gone.elapsed().as_millis(),
    );
}

fn a_relay_that_is_told_to_leave_is_gone_within_ten_seconds_and_breaks_nothing() {
    let origin = Origin::start();
    let mut net = Testnet::up(8, &[origin.address]);
    let via = net.via(0);
    via.verify(1 << 20).unwrap();
    // A download that is under way for longer than leaving takes.
    let download = std::thread::spawn(move || via.verify(512 << 20));
    wait_for(Duration::from_secs(30), "the download to be under way", || {
        (net.cells().iter().sum::<u64>() > 20_000).then_some(())
    });
    // Whoever relays most is on its path.
    let (client, host) = (net.client().pid, net.host().pid);
    let relay = net
        .routers
        .iter_mut()
        .filter(|router| router.pid != client && router.pid != host)
        .max_by_key(|router| router.cells().unwrap_or(0))
        .unwrap();
    assert!(relay.cells().unwrap() > 1_000);
    let start = Instant::now();
    relay.signal("TERM");
    wait_for(Duration::from_secs(10), "the relay to leave", || (!relay.is_running()).then_some(()));
    figure("a relay with a download through it left after, ms", start.elapsed().as_millis());
    assert!(!download.is_finished(), "it was over too early to show anything");
    download.join().unwrap().unwrap();
    assert_eq!(http_get(net.client().metrics, "/readyz").unwrap().0, 200);
}
