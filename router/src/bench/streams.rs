//! What streams cost when nothing moves in them: the rest of `warren bench idle`.
//!
//! Lives here: a test network of processes, many streams through it, and what their two routers then
//! take. Does not live here: links and tunnels (`idle.rs`), the network (`network.rs`).
//!
//! The server behind the service answers one byte with one byte, then waits; to a second byte it
//! sends without an end, which nobody reads. So the streams are at rest first, and then as full as
//! they get.

use std::{io, net::SocketAddr, path::Path, time::Duration};

use serde::Serialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime,
    time::{sleep, timeout},
};

use super::{
    actors::Clock,
    idle::{AtRest, SETTLE, bytes_each, micros_each},
    network::{Attached, Testnet},
    processes,
};

/// Routers of the network, as many as in `bench path`.
const ROUTERS: u8 = 12;
const HOPS: u8 = 3;
/// Streams of one session, of the 1,024 that it may have.
const STREAMS_PER_CONTEXT: u32 = 1_000;
/// How long the first may take: the network has just started.
const FIRST_LIMIT: Duration = Duration::from_mins(1);
/// How long any other may take.
const OPEN_LIMIT: Duration = Duration::from_secs(20);
/// What the server sends at once.
const PIECE: [u8; 16 * 1_024] = [0x5a; 16 * 1_024];

/// What streams take of one router.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StreamCost {
    /// Before there were any.
    pub before: AtRest,
    /// With all of them at rest.
    pub at_rest: AtRest,
    /// With as much in each as its reader's silence allows.
    pub unread: AtRest,
    /// Resident bytes for one at rest.
    pub bytes_per_stream: f64,
    /// CPU time of one at rest, in microseconds a second.
    pub us_per_stream_and_second: f64,
}

/// What streams take of both their routers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StreamFigures {
    /// How many.
    pub streams: u32,
    /// The router of the program that opened them.
    pub client: StreamCost,
    /// The router of the service.
    pub service: StreamCost,
}

/// Measures `streams` of them, with test networks of the program `warren`. Blocks for over a minute.
///
/// # Errors
/// When the network does not start, or a stream does not come.
pub(super) fn measure(warren: &Path, streams: u32, seconds: u64) -> io::Result<StreamFigures> {
    let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let origin = listener.local_addr()?;
        let server = tokio::spawn(serve(listener));
        let (testnet, network) = Testnet::up(warren, ROUTERS, HOPS, origin)?;
        let mut open = vec![first(&network).await?];
        let before = both(&network, seconds).await?;
        for number in 1..streams {
            let opened = open_one(network.proxy, &network.host, number / STREAMS_PER_CONTEXT);
            open.push(timeout(OPEN_LIMIT, opened).await??);
        }
        let at_rest = both(&network, seconds).await?;
        for stream in &mut open {
            stream.write_all(&[0]).await?;
        }
        let unread = both(&network, seconds).await?;
        drop(testnet);
        server.abort();
        let [client, service] = [0, 1].map(|side| cost(streams, [before, at_rest, unread], side));
        Ok(StreamFigures { streams, client, service })
    })
}

fn cost(streams: u32, looks: [[AtRest; 2]; 3], side: usize) -> StreamCost {
    let [before, at_rest, unread] =
        looks.map(|[client, service]| if side == 0 { client } else { service });
    StreamCost {
        before,
        at_rest,
        unread,
        bytes_per_stream: bytes_each(at_rest, before, streams),
        us_per_stream_and_second: micros_each(at_rest, before, streams),
    }
}

/// Answers, and sends when asked again.
async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        // Whoever hangs up has seen enough.
        tokio::spawn(answer(stream));
    }
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut word = [0];
    stream.read_exact(&mut word).await?;
    stream.write_all(&word).await?;
    stream.read_exact(&mut word).await?;
    loop {
        stream.write_all(&PIECE).await?;
    }
}

/// The first stream, tried until the network carries it.
async fn first(network: &Attached) -> io::Result<TcpStream> {
    let clock = Clock::start();
    loop {
        match open_one(network.proxy, &network.host, 0).await {
            Ok(stream) => return Ok(stream),
            Err(error) if clock.elapsed() > FIRST_LIMIT => return Err(error),
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

/// A stream through the proxy in one of several contexts, after its first byte both ways.
async fn open_one(proxy: SocketAddr, host: &str, context: u32) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(proxy).await?;
    let user = context.to_string();
    let len = |text: &str| u8::try_from(text.len()).map_err(|_| io::Error::other("name too long"));
    // SOCKS5 with user name and password, all at once.
    let mut words = vec![5, 1, 2, 1, len(&user)?];
    words.extend_from_slice(user.as_bytes());
    words.extend_from_slice(&[1, b'x', 5, 1, 0, 3, len(host)?]);
    words.extend_from_slice(host.as_bytes());
    words.extend_from_slice(&[0, 80]);
    stream.write_all(&words).await?;
    let mut reply = [0; 8];
    stream.read_exact(&mut reply).await?;
    let [_, _, _, _, _, code, _, kind] = reply;
    if code != 0 {
        return Err(io::Error::other(format!("the proxy answered {code:#04x}")));
    }
    let mut bound = vec![0; if kind == 4 { 18 } else { 6 }];
    stream.read_exact(&mut bound).await?;
    stream.write_all(&[0]).await?;
    stream.read_exact(&mut [0]).await?;
    Ok(stream)
}

/// The client's router and the service's, once all has settled.
async fn both(network: &Attached, seconds: u64) -> io::Result<[AtRest; 2]> {
    let pid = |role: &str| {
        let member = network.processes.iter().find(|it| it.role == role);
        member.map(|it| it.pid).ok_or_else(|| io::Error::other("a router is missing"))
    };
    let pids = [pid("client")?, pid("service")?];
    sleep(SETTLE).await;
    let clock = Clock::start();
    let before = pids.map(processes::cpu);
    sleep(Duration::from_secs(seconds)).await;
    let wall = clock.elapsed().as_secs_f64();
    let looks = pids.map(|pid| (processes::cpu(pid), processes::resident_kib(pid)));
    let gone = || io::Error::other("a router ended");
    let mut found = Vec::new();
    for (before, (after, resident)) in before.into_iter().zip(looks) {
        let used = after.ok_or_else(gone)?.saturating_sub(before.ok_or_else(gone)?);
        let resident_kib = resident.ok_or_else(gone)?;
        found.push(AtRest { resident_kib, cores: used.as_secs_f64() / wall });
    }
    <[AtRest; 2]>::try_from(found).map_err(|_| gone())
}
