//! Which first messages are read: each once, and not too many (docs/spec/session.md, 1.5).
//!
//! Lives here: the bounded memory of ephemeral keys, and how many handshakes a service does. Does not live
//! here: the messages (`handshake.rs`).

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use crate::{
    bucket::Refill,
    crypto::kdf,
    time::{Time, Wall},
};

/// How far a first message's minute may be off, either way (PROTOCOL P1).
const MINUTES_OFF_MAX: u32 = 10;
/// How long an ephemeral is remembered: both ends of the window above. They are whole minutes and
/// both count, so that 20 minutes would leave one in which a copy is fresh again.
const REMEMBERED: Duration = Duration::from_mins(22);
/// How many are remembered: 100 handshakes a second all that time; 6 MiB. When full, early data
/// goes unread: evicting would let a flood replay.
const REMEMBERED_MAX: usize = 131_072;

/// Full handshakes of one service: some 200 us each, 1 % of a core.
pub(super) const HANDSHAKES: Refill = Refill::per_second(50, 200);

const SEEN: &str = "warren session seen 1";

/// What to do with a first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// New: its early data may be read.
    Fresh,
    /// Not known to be new: answer, but leave early data unread.
    Unsure,
    /// Seen before: no client sends the same ephemeral twice.
    Repeat,
}

/// The memory.
#[derive(Debug, Default)]
pub(super) struct Replay {
    seen: BTreeSet<[u8; 16]>,
    order: VecDeque<(Time, [u8; 16])>,
}

impl Replay {
    /// Judges a first message and remembers its ephemeral.
    ///
    /// `key_since` is when this process first answered to the key that the message was for; `None`
    /// if nobody else ever did. What came before a restart is not remembered.
    pub(super) fn judge(
        &mut self,
        now: Time,
        wall: Wall,
        minute: Wall,
        ephemeral: &[u8; 32],
        key_since: Option<Time>,
    ) -> Verdict {
        self.expire(now);
        let id = kdf::derive::<16>(SEEN, &[ephemeral]);
        if self.seen.contains(&id) {
            return Verdict::Repeat;
        }
        if self.seen.len() >= REMEMBERED_MAX {
            return Verdict::Unsure;
        }
        self.seen.insert(id);
        self.order.push_back((now + REMEMBERED, id));
        let in_time = minute.within(wall, MINUTES_OFF_MAX, MINUTES_OFF_MAX);
        let amnesia = key_since.is_some_and(|since| now.since(since) < REMEMBERED);
        if in_time && !amnesia { Verdict::Fresh } else { Verdict::Unsure }
    }

    fn expire(&mut self, now: Time) {
        while let Some((until, id)) = self.order.front()
            && *until <= now
        {
            self.seen.remove(id);
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::Bucket;

    const MINUTE: Wall = Wall::from_minutes(1_000_000);

    fn judge(replay: &mut Replay, seconds: u64, minute: u32, ephemeral: u8) -> Verdict {
        let now = Time::from_micros(seconds * 1_000_000);
        let wall = MINUTE.plus(u32::try_from(seconds / 60).unwrap());
        replay.judge(now, wall, Wall::from_minutes(minute), &[ephemeral; 32], None)
    }

    #[test]
    fn a_message_is_fresh_once() {
        let mut replay = Replay::default();
        assert_eq!(judge(&mut replay, 0, 1_000_000, 1), Verdict::Fresh);
        assert_eq!(judge(&mut replay, 1, 1_000_000, 1), Verdict::Repeat);
        assert_eq!(judge(&mut replay, 1_319, 1_000_000, 1), Verdict::Repeat);
        assert_eq!(
            judge(&mut replay, 1_320, 1_000_000, 1),
            Verdict::Unsure,
            "forgotten, but too old"
        );
    }

    /// The memory outlasts the window for every minute a message may carry.
    #[test]
    fn no_message_is_fresh_twice() {
        for minute in 999_980..1_000_020 {
            for (first, second) in [(0, 600), (0, 1_200), (0, 1_320), (59, 1_379), (30, 1_400)] {
                let mut replay = Replay::default();
                let fresh = [first, second]
                    .iter()
                    .filter(|&&at| judge(&mut replay, at, minute, 1) == Verdict::Fresh)
                    .count();
                assert!(fresh <= 1, "minute {minute}, at {first} and {second}");
            }
        }
    }

    #[test]
    fn a_full_memory_reads_no_early_data_and_evicts_nothing() {
        let mut replay = Replay::default();
        for n in 0..REMEMBERED_MAX {
            let mut ephemeral = [0; 32];
            ephemeral[..8].copy_from_slice(&n.to_be_bytes());
            let verdict = replay.judge(Time::ZERO, MINUTE, MINUTE, &ephemeral, None);
            assert_eq!(verdict, Verdict::Fresh);
        }
        assert_eq!(replay.judge(Time::ZERO, MINUTE, MINUTE, &[1; 32], None), Verdict::Unsure);
        assert_eq!(replay.judge(Time::ZERO, MINUTE, MINUTE, &[0; 32], None), Verdict::Repeat);
    }

    #[test]
    fn a_flood_of_handshakes_is_cut_to_fifty_a_second() {
        let mut budget = Bucket::full();
        let start = Time::from_micros(5_000_000);
        assert_eq!((0..1_000).filter(|_| budget.take(start, HANDSHAKES)).count(), 200);
        let later = start + Duration::from_secs(1);
        assert_eq!((0..1_000).filter(|_| budget.take(later, HANDSHAKES)).count(), 50);
    }

    #[test]
    fn after_a_restart_an_old_key_reads_no_early_data_for_a_while() {
        let at = |seconds: u64| {
            let now = Time::from_micros(seconds * 1_000_000);
            Replay::default().judge(now, MINUTE, MINUTE, &[1; 32], Some(Time::ZERO))
        };
        assert_eq!(at(1_319), Verdict::Unsure);
        assert_eq!(at(1_320), Verdict::Fresh);
    }
}
