//! People who store and fetch: who wants what, and when.
//!
//! Lives here: the first items, popularity, sweeps over everything. Does not live here: what becomes of
//! an errand (`stock.rs`).

use std::time::Duration;

use warren_overlay::{rng::Rng, time::Time};

use super::wire::{Moment, Run};
use crate::{
    chance::{Times, exponential},
    net::HostNo,
    scenario::{StoreLoad, Unit},
    stock::Errand,
};

/// A sweep asks for everything within this time.
const SWEEP: Duration = Duration::from_secs(10);
/// Tries to find a router of chance that runs.
const DRAWS_MAX: u32 = 64;

/// What is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoreMoment {
    /// The next of the first items is stored.
    Item,
    /// Somebody has a wish.
    Wish(u32),
    /// A sweep asks for its next item.
    Sweep(u32),
}

/// Where the workload is.
#[derive(Debug, Default)]
pub(super) struct StoreState {
    items: u32,
    /// Each person's router.
    clients: Vec<HostNo>,
    /// Each sweep's next item, in the order of `Stock::stored`.
    sweeps: Vec<usize>,
    /// Sums of the weights of the first items in popularity.
    weights: Vec<f64>,
}

impl StoreState {
    /// Which of `count` items is wanted: `exponent` is Zipf's.
    fn draw(&mut self, count: usize, exponent: f64, rng: &mut Rng) -> usize {
        while self.weights.len() < count {
            let rank = u32::try_from(self.weights.len() + 1).unwrap_or(u32::MAX);
            let sum = self.weights.last().copied().unwrap_or(0.0);
            self.weights.push(sum + libm::pow(rank.into(), -exponent));
        }
        let sums = self.weights.get(..count).unwrap_or_default();
        let point = rng.unit() * sums.last().copied().unwrap_or(0.0);
        sums.partition_point(|sum| *sum <= point).min(count.saturating_sub(1))
    }
}

impl Run<'_> {
    /// Asks for every moment of the workload that is known from the start.
    pub(super) fn schedule_store(&mut self, begin: Time) {
        let Some(load) = self.plan.wire.workload.store.clone() else { return };
        self.at(begin, Moment::Store(StoreMoment::Item));
        let routers = self.plan.wire.network.routers;
        for no in 0..load.clients {
            let mut rng = self.world.net.streams().of("reader", no.into());
            let host = u32::try_from(rng.below(routers.into())).unwrap_or(0);
            self.store.clients.push(host);
            let first = begin + load.load.0 + load.every.0.mul_f64(exponential(&mut rng));
            self.at(first, Moment::Store(StoreMoment::Wish(no)));
        }
        for (no, at) in (0u32..).zip(&load.sweeps) {
            self.store.sweeps.push(0);
            self.at(begin + at.0, Moment::Store(StoreMoment::Sweep(no)));
        }
    }

    pub(super) fn store_happens(&mut self, moment: StoreMoment) {
        let Some(load) = self.plan.wire.workload.store.clone() else { return };
        match moment {
            StoreMoment::Item => self.store_item(&load),
            StoreMoment::Wish(no) => self.store_wish(&load, no),
            StoreMoment::Sweep(no) => self.sweep(no),
        }
    }

    fn store_item(&mut self, load: &StoreLoad) {
        let now = self.world.net.time();
        let mut rng = self.world.net.streams().of("first items", self.store.items.into());
        if let Some(host) = self.somebody(&mut rng) {
            self.put_new(load, host, &mut rng);
        }
        self.store.items += 1;
        if self.store.items < load.items {
            self.at(now + load.load.0 / load.items, Moment::Store(StoreMoment::Item));
        }
    }

    fn store_wish(&mut self, load: &StoreLoad, no: u32) {
        let Some(host) = self.store.clients.get(no as usize).copied() else { return };
        let now = self.world.net.time();
        let place = now.as_micros() ^ u64::from(no) << 44;
        let mut rng = self.world.net.streams().of("errand", place);
        let next = now + load.every.0.mul_f64(exponential(&mut rng));
        self.at(next, Moment::Store(StoreMoment::Wish(no)));
        if !self.runs(host) {
            return;
        }
        if rng.unit() < load.puts {
            return self.put_new(load, host, &mut rng);
        }
        let stored = self.world.stock().stored();
        let at = self.store.draw(stored.len(), load.zipf, &mut rng);
        if let Some(item) = stored.get(at).copied() {
            self.world.get_item(host, Errand::Get, item);
        }
    }

    fn sweep(&mut self, no: u32) {
        let now = self.world.net.time();
        let Some(next) = self.store.sweeps.get_mut(no as usize) else { return };
        let stored = self.world.stock().stored();
        let Some(item) = stored.get(*next).copied() else { return };
        let left = u32::try_from(stored.len()).unwrap_or(u32::MAX);
        *next += 1;
        let place = u64::from(no) << 32 | item as u64;
        let mut rng = self.world.net.streams().of("sweep", place);
        if let Some(host) = self.somebody(&mut rng) {
            self.world.get_item(host, Errand::Sweep(no + 1), item);
        }
        self.at(now + SWEEP / left.max(1), Moment::Store(StoreMoment::Sweep(no)));
    }

    fn put_new(&mut self, load: &StoreLoad, host: HostNo, rng: &mut Rng) {
        match load.unit {
            Unit::Block => self.world.put_block(host, rng.bytes::<32>().to_vec()),
            Unit::File => {
                #[expect(clippy::cast_precision_loss, reason = "a size in bytes is below 2^52")]
                let mean = load.bytes.0 as f64;
                let len = if load.sigma > 0.0 {
                    Times::Lognormal { mean, sigma: load.sigma }.draw(rng).as_secs()
                } else {
                    load.bytes.0
                };
                let mut bytes = vec![0; usize::try_from(len.max(1)).unwrap_or(1)];
                for piece in bytes.chunks_mut(32) {
                    let random = rng.bytes::<32>();
                    piece.iter_mut().zip(random).for_each(|(byte, random)| *byte = random);
                }
                self.world.put_file_item(host, bytes);
            }
        }
    }

    fn runs(&self, host: HostNo) -> bool {
        self.world.net.host(host).is_some() && !self.world.net.is_asleep(host)
    }

    /// A router of chance that runs and is awake.
    fn somebody(&self, rng: &mut Rng) -> Option<HostNo> {
        let routers = u64::from(self.plan.wire.network.routers);
        (0..DRAWS_MAX)
            .map(|_| u32::try_from(rng.below(routers)).unwrap_or(0))
            .find(|host| self.runs(*host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Streams;

    #[test]
    fn what_is_first_is_wanted_most_as_zipf_says() {
        let mut state = StoreState::default();
        let mut rng = Streams::new(1).of("test", 0);
        let mut counts = [0u32; 50];
        for _ in 0..100_000 {
            if let Some(count) = counts.get_mut(state.draw(50, 1.0, &mut rng)) {
                *count += 1;
            }
        }
        let harmonic: f64 = (1..=50).map(|n| 1.0 / f64::from(n)).sum();
        for rank in [1u32, 2, 10, 50] {
            let wanted = 100_000.0 / harmonic / f64::from(rank);
            let count = f64::from(counts[rank as usize - 1]);
            assert!((count - wanted).abs() < 5.0 * wanted.sqrt(), "rank {rank}: {count}, {wanted}");
        }
        // Nothing to choose among is no item, and harms nobody.
        assert_eq!(StoreState::default().draw(0, 1.0, &mut rng), 0);
    }
}
