//! Many at once.
//!
//! Lives here: that everything arrives whole, and what it costs. Does not live here: how fast it must
//! be; that is measured on a quiet machine (`warren bench`).

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
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

use crate::{
    commands::settings,
    shared::{ORIGIN, standard},
};

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

/// Streams whose applications do not read, and how many conversations they belong to.
const STUCK: usize = 1_000;
const CONVERSATIONS: usize = 8;
/// A change of what is held, and what comes in a second, that say that it is not over.
const MOVED_KIB: u64 = 1_024;
/// Who open them at the same time: a stream waits for its turn behind all that nobody reads.
const WORKERS: usize = 40;

/// A client's router with little memory: a thousand streams whose applications do not read fill it, those
/// whose data waits longest are ended, and an application that reads is as fast as before. What the
/// process takes of the machine is what it took at rest, and a tenth more than `memory_mib` at most: all the
/// while, and when nothing moves any more.
fn readers_that_stop_never_take_more_memory_than_the_operator_allows() {
    const MEMORY_MIB: u64 = 64;
    let shared = standard();
    let scratch = Scratch::new("memory");
    let dir = scratch.join("small");
    let line = shared.net.routers[2].invite();
    let folder = dir.display().to_string();
    harness::binary::run(["init", "--join", &line, "--dir", &folder]).success();
    settings(&dir, &format!("[limits]\nmemory_mib = {MEMORY_MIB}\n"));
    let ports = ["--link", "127.77.0.1:0", "--proxy", "127.0.0.1:0", "--api", "127.0.0.1:0"];
    let router = Router::start(&dir, &ports);
    wait_for(Duration::from_mins(1), "the small router to be ready", || {
        router.is_ready().then_some(())
    });

    let host = &shared.net.services[ORIGIN].name;
    let any = &Via::new(router.proxy, host);
    let via = any.context("reader");
    let alone = via.verify(8 << 20).unwrap().min(via.verify(8 << 20).unwrap());
    let rest = machine::rss_bytes(router.pid).unwrap();
    let look = || {
        let held = router.metric("warren_memory_held_bytes").unwrap() >> 10;
        assert!(held <= MEMORY_MIB << 10, "{held} KiB of {MEMORY_MIB} MiB");
        let resident = machine::rss_bytes(router.pid).unwrap();
        let most = rest + (MEMORY_MIB << 20) * 11 / 10;
        assert!(resident <= most, "{} KiB resident, {} at rest", resident >> 10, rest >> 10);
        thread::sleep(Duration::from_millis(100));
        let received = router.metric("warren_received_bytes_per_second").unwrap() >> 10;
        (held, resident, router.metric("warren_ended_for_memory_total").unwrap(), received)
    };
    let mut largest = 0;
    let stuck: Vec<TcpStream> = thread::scope(|scope| {
        let workers =
            (0..WORKERS).map(|n| scope.spawn(move || stop_reading(any, n % CONVERSATIONS)));
        let workers: Vec<_> = workers.collect();
        while !workers.iter().all(thread::ScopedJoinHandle::is_finished) {
            largest = largest.max(look().1);
        }
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    // Until every window and every socket is full, and all that had to end has ended: nothing but what passes
    // by moves.
    let (mut first, mut same) = (look(), 0);
    let last = wait_for(Duration::from_mins(3), "nothing to move any more", || {
        let now = look();
        largest = largest.max(now.1);
        let flows = now.0.abs_diff(first.0) > MOVED_KIB || now.3 > MOVED_KIB;
        let moved = flows || now.2 != first.2;
        (first, same) = if moved { (now, 0) } else { (first, same + 1) };
        (same >= 30).then_some(now)
    });
    let (held, resident, ended, _) = last;
    let beside = via.verify(8 << 20).unwrap();
    let beside = beside.min(via.verify(8 << 20).unwrap());
    look();
    figure("streams that nobody reads", format!("{} of {STUCK}", stuck.len()));
    figure("memory held, KiB of 65536", held);
    figure(
        "resident beyond rest, KiB: at most, at last",
        format!("{} {}", largest.saturating_sub(rest) >> 10, resident.saturating_sub(rest) >> 10),
    );
    figure("conversations ended for memory", ended);
    figure("8 MiB alone and beside them, ms", format!("{alone:?} {beside:?}"));
    assert!(ended > 0, "they did not fill it: {held} KiB");
    assert!(beside < alone * 4 + Duration::from_secs(2), "{beside:?} instead of {alone:?}");
}

/// Opens a part of one conversation's streams, and asks for much on each.
fn stop_reading(any: &Via, conversation: usize) -> Vec<TcpStream> {
    let via = any.context(&format!("does not read {conversation}"));
    let open = |_| {
        let mut socket = via.patience(Duration::from_secs(10)).connect().ok()?;
        write!(socket, "GET /b/200000000 HTTP/1.1\r\nHost: {}\r\n\r\n", via.host).ok()?;
        Some(socket)
    };
    (0..STUCK / WORKERS).filter_map(open).collect()
}
