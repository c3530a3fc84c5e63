//! Many at once.
//!
//! Lives here: that everything arrives whole, and what it costs. Does not live here: how fast it must
//! be; that is measured on a quiet machine (`warren bench`).

use std::{
    thread,
    time::{Duration, Instant},
};

use harness::{
    client::Via,
    group, machine,
    runner::{Group, figure, wait_for},
    scratch::Scratch,
    testnet::Router,
};

use crate::shared::{ORIGIN, standard};

pub(crate) fn group() -> Group {
    group!("load", shares: true,
        eight_downloads_at_once_arrive_whole,
        five_hundred_fetches_at_once_arrive_whole,
        a_client_that_stops_reading_slows_nobody_else,
        readers_that_stop_never_take_more_memory_than_the_operator_allows,
    )
}

const DOWNLOADS: u64 = 8;
const DOWNLOAD_LEN: u64 = 16 << 20;

fn eight_downloads_at_once_arrive_whole() {
    let shared = standard();
    let via = shared.net.via(ORIGIN);
    via.verify(1_000).unwrap();
    let cpu_before = shared.net.cpu_seconds();
    let start = Instant::now();
    let results: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> =
            (0..DOWNLOADS).map(|_| scope.spawn(|| via.verify(DOWNLOAD_LEN))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let took = start.elapsed().as_secs_f64();
    let cpu = shared.net.cpu_seconds() - cpu_before;
    for (n, result) in results.iter().enumerate() {
        assert!(result.is_ok(), "download {n}: {result:?}");
    }
    #[expect(clippy::cast_precision_loss, reason = "128 MiB fit")]
    let bytes = (DOWNLOADS * DOWNLOAD_LEN) as f64;
    figure("8 x 16 MiB, MiB/s together", format!("{:.1}", bytes / took / f64::from(1 << 20)));
    figure("8 x 16 MiB, CPU-s per GiB", format!("{:.1}", cpu / bytes * f64::from(1 << 30)));
    let rss: u64 =
        shared.net.routers.iter().filter_map(|router| machine::rss_bytes(router.pid)).sum();
    figure("resident memory of all 12 routers, MiB", rss >> 20);
}

const FETCHES: usize = 500;
const HOLD: Duration = Duration::from_secs(5);

fn five_hundred_fetches_at_once_arrive_whole() {
    let shared = standard();
    let via = shared.net.via(ORIGIN);
    via.verify(1_000).unwrap();
    let cpu_before = shared.net.cpu_seconds();
    let start = Instant::now();
    let path = format!("/hold/{}/1024", HOLD.as_millis());
    let results: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..FETCHES)
            .map(|_| {
                thread::Builder::new()
                    .stack_size(256 * 1_024)
                    .spawn_scoped(scope, || via.verify_path(&path, 1_024, |_| {}))
                    .unwrap()
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let took = start.elapsed();
    let failed: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert!(failed.is_empty(), "{} of {FETCHES} failed, for example: {}", failed.len(), failed[0]);
    // They were open at the same time, not one after the other.
    assert!(shared.origin.at_once_max() >= FETCHES, "at once {}", shared.origin.at_once_max());
    figure("500 fetches held 5 s, wall s", format!("{:.2}", took.as_secs_f64()));
    let cpu = shared.net.cpu_seconds() - cpu_before;
    figure("500 fetches, CPU ms each", format!("{:.2}", cpu * 2.0));
}

fn a_client_that_stops_reading_slows_nobody_else() {
    use std::io::{Read, Write};
    let shared = standard();
    // In contexts of their own: each has a session and a splice of its own to the same service.
    let via = shared.net.via(ORIGIN).context("reader");
    let alone = via.verify(8 << 20).unwrap();
    let alone = alone.min(via.verify(8 << 20).unwrap());
    let host = &shared.net.services[ORIGIN].name;
    // A front door takes 16 new contexts a minute, and the tests before may have used them up.
    let idle = shared.net.via(ORIGIN).context("does not read");
    wait_for(Duration::from_mins(1), "room for one more context", || idle.connect().ok());
    let mut stuck: Vec<_> = (0..4)
        .map(|_| {
            let mut socket = idle.connect().unwrap();
            write!(socket, "GET /b/200000000 HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
            let mut first = [0; 1_024];
            socket.read_exact(&mut first).unwrap();
            socket
        })
        .collect();
    // Until every window on the way to them is full.
    thread::sleep(Duration::from_secs(2));
    let beside = via.verify(8 << 20).unwrap();
    let beside = beside.min(via.verify(8 << 20).unwrap());
    figure("8 MiB alone, ms", alone.as_millis());
    figure("8 MiB beside four that do not read, ms", beside.as_millis());
    assert!(beside < alone * 4 + Duration::from_secs(2), "{beside:?} instead of {alone:?}");
    // And those who read again get on.
    for socket in &mut stuck {
        let mut more = vec![0; 1 << 20];
        socket.read_exact(&mut more).unwrap();
    }
}

/// A client's router with little memory: applications that do not read fill it, those whose data
/// waits longest are ended, and an application that reads is as fast as before.
fn readers_that_stop_never_take_more_memory_than_the_operator_allows() {
    use std::io::{Read, Write};
    const MEMORY_MIB: u64 = 8;
    let shared = standard();
    let scratch = Scratch::new("memory");
    let dir = scratch.join("small");
    let line = shared.net.routers[2].invite();
    let folder = dir.display().to_string();
    harness::binary::run(["init", "--join", &line, "--dir", &folder]).success();
    let settings = dir.join("warren.toml");
    std::fs::write(&settings, format!("[limits]\nmemory_mib = {MEMORY_MIB}\n")).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&settings, private).unwrap();
    let ports = ["--link", "127.77.0.1:0", "--proxy", "127.0.0.1:0", "--api", "127.0.0.1:0"];
    let router = Router::start(&dir, &ports);
    wait_for(Duration::from_mins(1), "the small router to be ready", || {
        router.is_ready().then_some(())
    });

    let host = &shared.net.services[ORIGIN].name;
    let any = Via::new(router.proxy, host);
    let via = any.context("reader");
    let alone = via.verify(8 << 20).unwrap().min(via.verify(8 << 20).unwrap());
    let _stuck: Vec<_> = (0..48)
        .filter_map(|n: u32| {
            let via = any.context(&format!("does not read {}", n % 8));
            let mut socket = via.connect().ok()?;
            write!(socket, "GET /b/200000000 HTTP/1.1\r\nHost: {host}\r\n\r\n").ok()?;
            let mut first = [0; 1_024];
            socket.read_exact(&mut first).ok()?;
            Some(socket)
        })
        .collect();
    let status = || router.status().unwrap();
    let held = || {
        let held = status()["memory_held_kib"].as_u64().unwrap();
        assert!(held <= MEMORY_MIB * 1_024, "{held} KiB of {MEMORY_MIB} MiB");
        held
    };
    let most = (0..20).map(|_| {
        thread::sleep(Duration::from_millis(100));
        held()
    });
    let most = most.max().unwrap();
    let beside = via.verify(8 << 20).unwrap();
    let beside = beside.min(via.verify(8 << 20).unwrap());
    held();
    let ended = status()["ended_for_memory"].as_u64().unwrap();
    figure("48 streams that nobody reads: memory held, KiB of 8192", most);
    figure("conversations ended for memory", ended);
    figure("8 MiB alone and beside them, ms", format!("{alone:?} {beside:?}"));
    assert!(ended > 0, "they did not fill it: {most} KiB");
    assert!(beside < alone * 4 + Duration::from_secs(2), "{beside:?} instead of {alone:?}");
}
