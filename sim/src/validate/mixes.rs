//! Mixes beside their closed forms: how long messages stay, and how many they could be.
//!
//! Lives here: mixes as the literature has them, since a tool for anonymity should know them; Warren has none.
//! Sources: Serjantov and Danezis (2002) for the pool mix; a Poisson mix is an M/M/infinity queue.

use warren_overlay::rng::Rng;

use super::{
    Check, Known,
    checks::{Make, check},
};
use crate::{Streams, chance::exponential};

/// Runs of each, independent of each other.
const BATCHES: u64 = 20;

pub(super) fn all() -> impl Iterator<Item = Make> {
    let pools = [(50, 10), (100, 50)]
        .map(|(input, pool)| -> Make { Box::new(move || vec![pool_mix(input, pool)]) });
    let poisson = [2.0, 20.0].map(|mean| -> Make { Box::new(move || vec![poisson_mix(mean)]) });
    pools.into_iter().chain(poisson)
}

fn batches(name: &str, one: impl Fn(&mut Rng) -> f64) -> Vec<f64> {
    (0..BATCHES).map(|batch| one(&mut Streams::new(batch).of(name, 0))).collect()
}

/// Each round so many come in, and as many of chance go out; the others stay in the pool. From the shares of
/// messages that leave after so many rounds follows how uncertain it is whose one is, in bits.
fn pool_mix(input: u32, pool: u32) -> Check {
    const ROUNDS: u32 = 4_000;
    const WARM: u32 = 200;
    /// One message in so many: all together stay for a mean time that is no matter of chance.
    const LOOKED_AT: u64 = 50;
    let one = |rng: &mut Rng| {
        let mut inside: Vec<u32> = vec![0; pool as usize];
        let (mut stayed, mut all) = (vec![0u32; ROUNDS as usize], 0u32);
        for round in 0..ROUNDS {
            inside.extend((0..input).map(|_| round));
            for _ in 0..input {
                let at = usize::try_from(rng.below(inside.len() as u64)).unwrap_or(0);
                let came = inside.swap_remove(at);
                if round >= WARM
                    && rng.below(LOOKED_AT) == 0
                    && let Some(count) = stayed.get_mut((round - came) as usize)
                {
                    *count += 1;
                    all += 1;
                }
            }
        }
        // Of those that came so many rounds ago each is as likely.
        let shares = stayed.iter().filter(|it| **it > 0).map(|it| f64::from(*it) / f64::from(all));
        shares.map(|share| -share * libm::log2(share / f64::from(input))).sum()
    };
    let (n, k) = (f64::from(pool), f64::from(input));
    let wanted = (1.0 + n / k) * libm::log2(n + k) - n / k * libm::log2(n);
    let name = format!("bits of doubt, pool mix, {input} come and {pool} stay");
    check(name, Known::Exact(wanted), &batches("pool mix", one))
}

/// Each message waits an exponential time of its own: how many are inside, on average over time.
fn poisson_mix(mean: f64) -> Check {
    const MESSAGES: u32 = 50_000;
    let one = |rng: &mut Rng| {
        // A mean wait of one; so many come in each unit of time. By Little's law the sum of waits is the area.
        let (mut now, mut ends, mut area) = (0.0, Vec::new(), 0.0);
        for _ in 0..MESSAGES {
            let next = now + exponential(rng) / mean;
            ends.retain(|end| {
                area += f64::min(*end, next) - now;
                *end > next
            });
            now = next;
            ends.push(now + exponential(rng));
        }
        area / now
    };
    let name = format!("messages inside, Poisson mix at load {mean}");
    check(name, Known::Exact(mean), &batches("poisson mix", one))
}
