//! Many at once.
//!
//! Lives here: that everything arrives whole, and what it costs. Does not live here: how fast it must
//! be; that is measured on a quiet machine (`warren bench`).

use std::{
    thread,
    time::{Duration, Instant},
};

use harness::{
    group, machine,
    runner::{Group, figure},
};

use crate::shared::{ORIGIN, standard};

pub(crate) fn group() -> Group {
    group!("load", shares: true,
        eight_downloads_at_once_arrive_whole,
        five_hundred_fetches_at_once_arrive_whole,
        a_client_that_stops_reading_slows_nobody_else,
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
    let mut stuck: Vec<_> = (0..4)
        .map(|_| {
            let mut socket = shared.net.via(ORIGIN).context("does not read").connect().unwrap();
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
