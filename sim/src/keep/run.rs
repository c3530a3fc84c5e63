//! A run of weeks: members that come and go, blocks that nobody fetches, and how many are still found.
//!
//! Lives here: when what happens, and what is counted. Does not live here: how (`machine.rs`).

use std::fmt::Write as _;

use warren_overlay::{
    block::{BLOCK_LEN, Block, BlockAddress},
    rng::Rng,
    time::Time,
};

use super::{
    lives::{Habits, life},
    machine::Keepers,
    ring::Seat,
};
use crate::{
    curve::{Trend, Trends},
    metric::{Metric, Metrics},
    queue::Queue,
    run::{Outcomes, Report, Watcher, counted, seconds},
    scenario::{Keep, Routing},
    streams::Streams,
};

/// Members come to their seats within this time, so that nobody's timers march in step.
const ARRIVALS_US: u64 = 600_000_000;
/// The first block is stored so long after the start, and all of them within [`PUTS_US`].
const PUTS_FROM_US: u64 = 2 * ARRIVALS_US;
const PUTS_US: u64 = 3_600_000_000;
/// The watcher is told after so many events.
const TELL_EVERY: u64 = 4_096;

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A member's timer.
    Wake(Seat),
    /// A member's session or pause is over; of which life of the seat.
    Turn(Seat, u32),
    /// A member goes for good, and another takes the seat.
    Newcomer(Seat, u32),
    /// A block is stored.
    Put(u32),
    /// All are looked for.
    Sweep(u32),
}

#[derive(Debug)]
struct Chair {
    habits: Habits,
    online: bool,
    life: u32,
}

struct Days<'a> {
    keep: &'a Keep,
    keepers: Keepers,
    queue: Queue<Event>,
    chairs: Vec<Chair>,
    addresses: Vec<BlockAddress>,
    rng: Rng,
    streams: Streams,
    rows: String,
    /// Found and there of each sweep, of so many items.
    sweeps: Vec<(u32, u32, u32)>,
}

/// Runs one seed; `None` if the watcher ended it.
pub(crate) fn run(
    routing: &Routing,
    keep: &Keep,
    seed: u64,
    watcher: &mut dyn Watcher,
) -> Option<Report> {
    let streams = Streams::new(seed);
    let links = streams.of("links", 0);
    let mut days = Days {
        keep,
        keepers: Keepers::new(routing.network.degree, keep.room.0, keep.repair, links),
        queue: Queue::new(),
        chairs: Vec::new(),
        addresses: Vec::new(),
        rng: streams.of("lives", 0),
        streams,
        rows: String::new(),
        sweeps: Vec::new(),
    };
    days.schedule(routing.network.routers);
    let end = Time::ZERO + keep.duration.0;
    let mut hasher = blake3::Hasher::new();
    let mut events = 0u64;
    while let Some((now, event)) = days.queue.pop(end) {
        events += 1;
        hasher.update(&now.as_micros().to_le_bytes());
        days.happen(now, event);
        while let Some((at, seat)) = days.keepers.poll_wake() {
            days.queue.push(at, Event::Wake(seat));
        }
        if events.is_multiple_of(TELL_EVERY) && !watcher.progress(now, events) {
            return None;
        }
    }
    hasher.update(days.rows.as_bytes());
    Some(Report {
        seed,
        hash: *hasher.finalize().as_bytes(),
        events,
        end,
        metrics: days.metrics(),
        trends: Trends::from([(Trend::Retention, days.retention())]),
        outcomes: days.outcomes(),
        store_rows: days.rows,
        ..Report::default()
    })
}

impl Days<'_> {
    fn schedule(&mut self, routers: Seat) {
        for seat in 0..routers {
            self.take_seat(Time::ZERO, seat, false);
        }
        let begin = Time::from_micros(PUTS_FROM_US);
        for no in 0..self.keep.items {
            let after = PUTS_US * u64::from(no) / u64::from(self.keep.items);
            let at = Time::from_micros(begin.as_micros() + after);
            self.queue.push(at, Event::Put(no));
        }
        for (no, at) in (1..).zip(&self.keep.sweeps) {
            self.queue.push(Time::ZERO + at.0, Event::Sweep(no));
        }
    }

    /// Somebody takes a seat: in the beginning, or when the one before is gone.
    fn take_seat(&mut self, now: Time, seat: Seat, newcomer: bool) {
        let habits = Habits::draw(&self.keep.class, &mut self.rng);
        let life_no = self.chairs.get(seat as usize).map_or(0, |chair| chair.life + 1);
        let first = newcomer || habits.first(&mut self.rng);
        // Whoever is online turns so at his first event.
        let chair = Chair { habits, online: !first, life: life_no };
        match self.chairs.get_mut(seat as usize) {
            Some(old) => *old = chair,
            None => self.chairs.push(chair),
        }
        self.keepers.settle(seat);
        let begins = if newcomer { 0 } else { self.rng.below(ARRIVALS_US) };
        let begins = Time::from_micros(now.as_micros() + begins);
        if first {
            self.queue.push(begins, Event::Turn(seat, life_no));
        } else if let Some(left) = habits.next(false, &mut self.rng) {
            if let Some(chair) = self.chairs.get_mut(seat as usize) {
                chair.online = false;
            }
            self.queue.push(begins + left, Event::Turn(seat, life_no));
        }
        if let Some(life) = life(&self.keep.life, newcomer, &mut self.rng) {
            self.queue.push(begins + life, Event::Newcomer(seat, life_no));
        }
    }

    fn happen(&mut self, now: Time, event: Event) {
        match event {
            Event::Wake(seat) => self.keepers.woken(now, seat),
            Event::Turn(seat, life) => self.turn(now, seat, life),
            Event::Newcomer(seat, life) => {
                if self.chairs.get(seat as usize).is_some_and(|it| it.life == life) {
                    self.keepers.stop(now, seat);
                    self.take_seat(now, seat, true);
                }
            }
            Event::Put(no) => self.put(now, no),
            Event::Sweep(no) => self.sweep(now, no),
        }
    }

    fn turn(&mut self, now: Time, seat: Seat, life: u32) {
        let Some(chair) = self.chairs.get_mut(seat as usize).filter(|it| it.life == life) else {
            return;
        };
        chair.online = !chair.online;
        let (online, habits) = (chair.online, chair.habits);
        if online {
            self.keepers.start(now, seat);
        } else if self.rng.unit() < self.keep.graceful {
            self.keepers.leave(now, seat);
        } else {
            self.keepers.stop(now, seat);
        }
        if let Some(left) = habits.next(online, &mut self.rng) {
            // A goodbye takes its time; nobody is back before it is over.
            let left = left.max(std::time::Duration::from_secs(5));
            self.queue.push(now + left, Event::Turn(seat, life));
        }
    }

    /// A member of chance who is online.
    fn somebody(&mut self, rng: &mut Rng) -> Option<Seat> {
        let at = usize::try_from(rng.below(self.keepers.ring.len() as u64)).unwrap_or(0);
        self.keepers.ring.members().nth(at)
    }

    fn put(&mut self, now: Time, no: u32) {
        let mut rng = self.streams.of("item", no.into());
        let mut bytes = rng.bytes::<32>().to_vec();
        bytes.resize(BLOCK_LEN, 0);
        let Some(block) = Block::copy_from(&bytes) else { return };
        self.addresses.push(block.address());
        if let Some(from) = self.somebody(&mut rng) {
            self.keepers.store(now, from, &block);
        }
    }

    fn sweep(&mut self, now: Time, sweep: u32) {
        let mut rng = self.streams.of("sweep", sweep.into());
        let (mut found, mut there) = (0, 0);
        for (no, address) in self.addresses.clone().into_iter().enumerate() {
            let Some(from) = self.somebody(&mut rng) else { continue };
            let owners = self.keepers.owners(&address);
            let (is_found, asked) = self.keepers.look(from, &address);
            found += u32::from(is_found);
            there += u32::from(owners > 0);
            let outcome = match (is_found, owners) {
                (true, _) => "done",
                (false, 0) => "lost",
                (false, _) => "missed",
            };
            let at = seconds(now);
            // Writing to text cannot fail.
            let _ = writeln!(
                self.rows,
                "{},{no},sweep-{sweep},{no},{BLOCK_LEN},{from},{at},{at},1,{asked},{owners},{outcome}",
                self.streams.seed(),
            );
        }
        let items = u32::try_from(self.addresses.len()).unwrap_or(u32::MAX);
        self.sweeps.push((found, there, items));
    }

    /// Found of what was stored, by days.
    fn retention(&self) -> Vec<(f64, f64)> {
        let sweeps = self.keep.sweeps.iter().zip(&self.sweeps);
        let mut points: Vec<_> = sweeps
            .map(|(at, (found, _, items))| {
                (at.0.as_secs_f64() / 86_400.0, f64::from(*found) / f64::from((*items).max(1)))
            })
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        points
    }

    /// How the lookups of all sweeps ended.
    fn outcomes(&self) -> Outcomes {
        let sum = |of: fn(&(u32, u32, u32)) -> u32| self.sweeps.iter().map(of).map(u64::from).sum();
        counted([
            ("found", sum(|it| it.0)),
            ("there but not found", sum(|it| it.1.saturating_sub(it.0))),
            ("lost", sum(|it| it.2 - it.1)),
        ])
    }

    #[expect(clippy::cast_precision_loss, reason = "counts below 2^52")]
    fn metrics(&self) -> Metrics {
        let owners: Vec<u32> = self.addresses.iter().map(|it| self.keepers.owners(it)).collect();
        let there = owners.iter().filter(|it| **it > 0).count();
        let items = owners.len().max(1) as f64;
        let mut metrics = Metrics::from([
            (Metric::ItemsThere, there as f64 / items),
            (Metric::Online, self.keepers.ring.len() as f64),
            (Metric::BlocksRepaired, self.keepers.pushed as f64),
            (Metric::AddressesOffered, self.keepers.offered as f64),
            (Metric::BytesCompared, self.keepers.compared as f64),
        ]);
        if there > 0 {
            let copies: f64 = owners.iter().copied().map(f64::from).sum();
            metrics.insert(Metric::Copies, copies / there as f64);
        }
        let share = |part: u32, of: u32| (of > 0).then(|| f64::from(part) / f64::from(of));
        for (sweep, all, of_there) in [
            (self.sweeps.first(), Metric::SweepFirst, Metric::SweepFirstThere),
            (self.sweeps.last(), Metric::SweepLast, Metric::SweepLastThere),
        ] {
            let Some((found, there, items)) = sweep.copied() else { continue };
            metrics.extend(share(found, items).map(|it| (all, it)));
            metrics.extend(share(found, there).map(|it| (of_there, it)));
        }
        metrics
    }
}
