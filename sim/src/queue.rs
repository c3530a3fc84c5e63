//! The event queue: what happens next, in a total order by (time, sequence).
//!
//! Lives here: a monotone radix heap. Does not live here: what an event means (`net.rs`).
//!
//! ```text
//! last popped time:  1011 0100
//! bucket 0           1011 0100   equal: handed out first in, first out
//! bucket k           the highest bit that differs is bit k-1; the lowest bucket holds the earliest
//! ```
//!
//! Popping from an empty bucket 0 takes the lowest bucket apart around its earliest time, in order.
//! Events of one time always lie in one bucket and keep their order when it is taken apart, so the
//! sequence is the order of pushing and costs no bytes. Each event moves at most 64 times in its
//! life, in practice four or five (Ahuja, Mehlhorn, Orlin, Tarjan: "Faster algorithms for the
//! shortest path problem", J. ACM 1990).

use std::collections::VecDeque;

use warren_overlay::time::Time;

/// One bucket for each bit that can differ.
const BUCKETS: usize = 64;

/// Events of type `E` by time; those of one time in the order of pushing.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    /// Nothing earlier can come any more.
    last: u64,
    now: VecDeque<E>,
    later: [Vec<(u64, E)>; BUCKETS],
    /// Bit k is set when `later[k]` holds something.
    filled: u64,
    len: usize,
}

impl<E> Queue<E> {
    /// An empty queue.
    pub(crate) fn new() -> Self {
        Self {
            last: 0,
            now: VecDeque::new(),
            later: std::array::from_fn(|_| Vec::new()),
            filled: 0,
            len: 0,
        }
    }

    /// Events that wait.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Adds an event; one for the past happens at once.
    pub(crate) fn push(&mut self, at: Time, event: E) {
        self.len += 1;
        self.place(at.as_micros().max(self.last), event);
    }

    fn place(&mut self, at: u64, event: E) {
        match (at ^ self.last).checked_ilog2() {
            None => self.now.push_back(event),
            Some(bit) => {
                self.filled |= 1 << bit;
                if let Some(bucket) = self.later.get_mut(bit as usize) {
                    bucket.push((at, event));
                }
            }
        }
    }

    /// Takes the earliest event that is not after `until`.
    pub(crate) fn pop(&mut self, until: Time) -> Option<(Time, E)> {
        let until = until.as_micros();
        if self.now.is_empty() {
            let lowest = self.filled.trailing_zeros() as usize;
            let bucket = self.later.get_mut(lowest)?;
            let first = bucket.iter().map(|(at, _)| *at).min()?;
            if first > until {
                return None;
            }
            let mut events = std::mem::take(bucket);
            self.filled &= self.filled - 1;
            self.last = first;
            for (at, event) in events.drain(..) {
                self.place(at, event);
            }
            // All went lower: the room can be kept for when the bucket fills again.
            if let Some(bucket) = self.later.get_mut(lowest) {
                *bucket = events;
            }
        }
        if self.last > until {
            return None;
        }
        self.len -= 1;
        Some((Time::from_micros(self.last), self.now.pop_front()?))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn events_come_in_the_order_of_time_and_sequence(
            steps in prop::collection::vec((0u64..40, 0u64..1 << 40, 0u64..3), 1..300),
        ) {
            let mut queue = Queue::new();
            let mut model = BTreeSet::new();
            let mut now = 0;
            for (sequence, (pops, ahead, scale)) in steps.into_iter().enumerate() {
                let at = now + (ahead >> (scale * 18));
                queue.push(Time::from_micros(at), sequence);
                model.insert((at, sequence));
                for _ in 0..pops / 20 {
                    // Half of the time up to a moment before the next event.
                    let next = model.first().map(|(at, _)| *at);
                    let until = next.map_or(now, |next| if pops % 2 == 0 { next } else { now });
                    let popped = queue.pop(Time::from_micros(until));
                    let first = model.first().copied().filter(|first| first.0 <= until);
                    let wanted = first.inspect(|first| {
                        model.remove(first);
                    });
                    prop_assert_eq!(popped.map(|(at, no)| (at.as_micros(), no)), wanted);
                    now = now.max(until);
                }
            }
            prop_assert_eq!(queue.len(), model.len());
            while let Some((at, no)) = queue.pop(Time::from_micros(u64::MAX)) {
                prop_assert_eq!(Some((at.as_micros(), no)), model.pop_first());
            }
            prop_assert!(model.is_empty());
        }
    }
}
