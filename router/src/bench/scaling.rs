//! What a second worker costs a relay, for one cell.
//!
//! Lives here: hops whose frames are recorded before they work, so that while they do nothing else
//! runs; one alone, two at once, and one in a task like the router's. Does not live here: the hop
//! (`hop.rs`), the whole router over sockets (`relay.rs`).
//!
//! ```text
//!  record:  source, sink ──> frames          (not measured)
//!  play:    frames ──> hop ──> frames        (measured: CPU time)
//!  settle:  frames ──> source, sink          (not measured)
//! ```
//!
//! A router runs all its links in one task (decision 0001). So "two workers" is two things: a task
//! that two threads may run, which is what a router is on two cores; and two shares of links, a thread
//! each, which is what it would be if links were spread (and what two routers on one machine are).

use std::{
    io,
    sync::{Arc, Barrier},
    thread,
    time::Duration,
};

use serde::Serialize;
use tokio::{runtime, task::yield_now};

use super::{
    actors::{IN, OUT},
    memory::Parts,
    meter::{median, nanoseconds_per, process_cpu, thread_cpu},
};

/// Threads beside one.
const WORKERS: usize = 2;
/// Bytes after which the router's task lets others run.
const BYTES_PER_ROUND: usize = 256 * 1_024;
/// Windows are as large as they get after so many cells.
const WARM_UP: u64 = 100_000;

/// CPU nanoseconds for one cell without sockets, by who relays it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ScalingFigures {
    /// One hop in one thread.
    pub one_share_ns: f64,
    /// Two hops at once, a thread each.
    pub two_shares_ns: f64,
    /// `two_shares_ns` over `one_share_ns`.
    pub shares_ratio: f64,
    /// One hop in a task that lets others run as the router's does, on one thread.
    pub task_one_worker_ns: f64,
    /// The same task where two threads may run it.
    pub task_two_workers_ns: f64,
    /// `task_two_workers_ns` over `task_one_worker_ns`.
    pub task_ratio: f64,
}

/// A runtime as the router's with so many workers.
pub(super) fn runtime(workers: usize) -> io::Result<runtime::Runtime> {
    if workers <= 1 {
        runtime::Builder::new_current_thread().enable_all().build()
    } else {
        runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()
    }
}

/// A hop and its generators, which work in turns.
#[derive(Debug)]
struct Share {
    parts: Parts,
    /// Source to hop, hop to sink, sink to hop, hop to source.
    wires: [Tape; 4],
}

/// Writes of up to 64 KiB, in order; their buffers are used again.
#[derive(Debug, Default)]
struct Tape {
    writes: Vec<Vec<u8>>,
    used: usize,
}

impl Tape {
    /// Records what `write` appends, until it has nothing.
    fn record(&mut self, mut write: impl FnMut(&mut Vec<u8>) -> bool) {
        loop {
            if self.used == self.writes.len() {
                self.writes.push(Vec::new());
            }
            let Some(buffer) = self.writes.get_mut(self.used) else { return };
            buffer.clear();
            if !write(buffer) {
                return;
            }
            self.used += 1;
        }
    }

    /// Hands on all that was recorded; what is opened is opened in place.
    fn play(&mut self, mut read: impl FnMut(&mut [u8])) {
        for buffer in self.writes.iter_mut().take(self.used) {
            read(buffer);
        }
        self.used = 0;
    }
}

impl Share {
    fn new(tunnels: u32) -> Option<Self> {
        let mut this = Self { parts: Parts::new(tunnels)?, wires: Default::default() };
        while this.parts.sink.received < WARM_UP {
            this.record();
            this.play();
            this.settle();
        }
        Some(this)
    }

    /// All that the generators may send now.
    fn record(&mut self) {
        let (now, parts) = (self.parts.clock.time(), &mut self.parts);
        let [to_hop, _, from_sink, _] = &mut self.wires;
        to_hop.record(|buffer| parts.source.poll_transmit(now, buffer));
        from_sink.record(|buffer| parts.sink.poll_transmit(now, buffer));
    }

    /// The hop takes one write in, and sends what it then has.
    fn relay(&mut self, write: usize) -> usize {
        let (now, hop) = (self.parts.clock.time(), &mut self.parts.hop);
        let [to_hop, to_sink, _, to_source] = &mut self.wires;
        let Some(bytes) = to_hop.writes.get_mut(write) else { return 0 };
        hop.received(now, IN, bytes);
        to_sink.record(|buffer| hop.poll_transmit(now, OUT, buffer));
        to_source.record(|buffer| hop.poll_transmit(now, IN, buffer));
        bytes.len()
    }

    /// What the sink grants comes first: so everything that comes in can go out.
    fn granted(&mut self) -> usize {
        let (now, hop) = (self.parts.clock.time(), &mut self.parts.hop);
        let [to_hop, _, from_sink, _] = &mut self.wires;
        from_sink.play(|bytes| hop.received(now, OUT, bytes));
        std::mem::take(&mut to_hop.used)
    }

    /// The hop works through all that was recorded.
    fn play(&mut self) {
        for write in 0..self.granted() {
            self.relay(write);
        }
    }

    /// The same in a task, with others' turns between as in the router's.
    async fn play_in_turns(&mut self) {
        let mut bytes = 0;
        for write in 0..self.granted() {
            bytes += self.relay(write);
            if bytes >= BYTES_PER_ROUND {
                bytes = 0;
                yield_now().await;
            }
        }
    }

    /// The generators take what the hop sent.
    fn settle(&mut self) {
        let (now, parts) = (self.parts.clock.time(), &mut self.parts);
        let [_, to_sink, _, to_source] = &mut self.wires;
        to_sink.play(|bytes| parts.sink.received(now, bytes));
        to_source.play(|bytes| parts.source.received(now, bytes));
    }

    /// Cells that have gone through the hop.
    const fn cells(&self) -> u64 {
        self.parts.sink.received
    }

    /// CPU time and cells of `plays` turns in this thread; all threads begin each together.
    fn measure(&mut self, plays: u64, together: &Barrier) -> (Duration, u64) {
        let (mut time, start) = (Duration::ZERO, self.cells());
        for _ in 0..plays {
            self.record();
            together.wait();
            let before = thread_cpu();
            self.play();
            time += thread_cpu().saturating_sub(before);
            self.settle();
        }
        (time, self.cells() - start)
    }

    /// CPU time of the process, and cells, of `plays` turns in a task.
    async fn measure_task(mut self, plays: u64) -> (Self, f64) {
        let (mut time, start) = (Duration::ZERO, self.cells());
        for _ in 0..plays {
            self.record();
            let before = process_cpu();
            self.play_in_turns().await;
            time += process_cpu().saturating_sub(before);
            self.settle();
        }
        let cells = self.cells() - start;
        (self, nanoseconds_per(time, cells))
    }
}

/// Measures `rounds` times, about `cells` cells in each part.
///
/// # Errors
/// When threads cannot be started, or the hops do not come together.
pub(super) fn measure(rounds: usize, cells: u64, tunnels: u32) -> io::Result<ScalingFigures> {
    let defect = || io::Error::other("the routers of the benchmark do not come together");
    let share = || Share::new(tunnels).ok_or_else(defect);
    let mut shares = [share()?, share()?];
    let mut alone = share()?;
    let plays = plays(&mut alone, cells);
    let mut task = Some(alone);
    let runtimes = [runtime(1)?, runtime(WORKERS)?];
    let mut samples: [Vec<f64>; 4] = Default::default();
    for _ in 0..rounds {
        let [first, _] = &mut shares;
        let (time, count) = first.measure(plays, &Barrier::new(1));
        let two = both(&mut shares, plays)?;
        let mut found = vec![nanoseconds_per(time, count), two];
        for runtime in &runtimes {
            let work = task.take().ok_or_else(defect)?.measure_task(plays);
            let (share, ns) = runtime.block_on(runtime.spawn(work)).map_err(io::Error::other)?;
            task = Some(share);
            found.push(ns);
        }
        for (samples, ns) in samples.iter_mut().zip(found) {
            samples.push(ns);
        }
    }
    let [one_share_ns, two_shares_ns, task_one_worker_ns, task_two_workers_ns] =
        samples.map(median);
    Ok(ScalingFigures {
        one_share_ns,
        two_shares_ns,
        shares_ratio: two_shares_ns / one_share_ns,
        task_one_worker_ns,
        task_two_workers_ns,
        task_ratio: task_two_workers_ns / task_one_worker_ns,
    })
}

/// How many turns make `cells` cells.
fn plays(share: &mut Share, cells: u64) -> u64 {
    let before = share.cells();
    share.record();
    share.play();
    share.settle();
    cells.div_ceil((share.cells() - before).max(1))
}

/// Both shares at once, a thread each: CPU nanoseconds for one cell.
fn both(shares: &mut [Share; WORKERS], plays: u64) -> io::Result<f64> {
    let together = Arc::new(Barrier::new(WORKERS));
    let found = thread::scope(|scope| {
        let threads = shares.each_mut().map(|share| {
            let together = Arc::clone(&together);
            scope.spawn(move || share.measure(plays, &together))
        });
        threads.map(thread::ScopedJoinHandle::join)
    });
    let (mut time, mut cells) = (Duration::ZERO, 0);
    for one in found {
        let (took, count) = one.map_err(|_| io::Error::other("a share stopped"))?;
        time += took;
        cells += count;
    }
    Ok(nanoseconds_per(time, cells))
}
