//! One path of a session: one splice, with keys and counters of its own.
//!
//! Lives here: a path's cipher states, its first units, and where in the other side's stream it
//! is. Does not live here: the stream (`conversation.rs`), when paths are made and given up
//! (`client.rs`, `service.rs`).
//!
//! ```text
//!  client, resuming:   tag ‖ hello ──> [talks when the service's hello came]
//!  client, handshake:  (request, answer) hello, talks
//!  service, resuming:  (tag, hello came) hello, talks
//!  service, handshake: answer, talks; confirmed when the client's hello came
//! ```

use std::time::Duration;

use super::{
    record::{Opener, Sealer, UNIT_MAX, Unit},
    resume::{PathKeys, Tag},
};
use crate::time::Time;

/// A splice that carries a path, as its `End` counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PathNo(pub(super) u32);

/// What has to go before anything else.
#[derive(Debug)]
enum First {
    /// The service's answer to a request: sealed by the handshake.
    Answer(Vec<u8>),
    /// The client's tag and hello, in one full unit.
    Tagged(Tag),
    /// A hello, padded to this many bytes.
    Hello(usize),
    /// Nothing.
    Done,
}

/// One path.
#[derive(Debug)]
pub(super) struct Path {
    number: u32,
    pub(super) sealer: Sealer,
    pub(super) opener: Opener,
    first: First,
    /// Stream bytes may be sent: the other side knows where they go on.
    pub(super) talks: bool,
    /// The other side's hello, or what stands for it, came.
    pub(super) greeted: bool,
    /// What this side's hello said it has.
    pub(super) told: u64,
    /// Offset of the next stream byte that arrives here.
    pub(super) at: u64,
    /// Ping to be answered; one place is enough, the last one counts.
    pub(super) pong_due: Option<[u8; 8]>,
    /// Ping to be sent.
    pub(super) ping_due: Option<[u8; 8]>,
    /// The session is to be closed.
    pub(super) close_due: bool,
    /// When the last record came.
    pub(super) heard: Time,
}

impl Path {
    /// A path that starts with nothing of its own.
    fn new(now: Time, keys: PathKeys, first: First) -> Self {
        let PathKeys { number, send, receive } = keys;
        Self {
            number,
            sealer: Sealer::new(send),
            opener: Opener::new(receive),
            first,
            talks: false,
            greeted: false,
            told: 0,
            at: 0,
            pong_due: None,
            ping_due: None,
            close_due: false,
            heard: now,
        }
    }

    /// A client's resumption.
    pub(super) fn resuming(now: Time, keys: PathKeys, tag: Tag) -> Self {
        Self::new(now, keys, First::Tagged(tag))
    }

    /// A client's path 0, when the answer said that the session is new.
    pub(super) fn opened(now: Time, keys: PathKeys) -> Self {
        Self { talks: true, greeted: true, ..Self::new(now, keys, First::Hello(0)) }
    }

    /// A client's path 0, when the answer said that the session goes on.
    pub(super) fn continuing(now: Time, keys: PathKeys) -> Self {
        Self::new(now, keys, First::Hello(0))
    }

    /// A service's path 0: the answer goes first. `talks` if the session is new.
    pub(super) fn answering(now: Time, keys: PathKeys, answer: Vec<u8>, talks: bool) -> Self {
        Self { talks, ..Self::new(now, keys, First::Answer(answer)) }
    }

    /// A service's path that a tag opened; its first record has still to authenticate.
    pub(super) fn tagged(now: Time, keys: PathKeys) -> Self {
        Self::new(now, keys, First::Done)
    }

    /// Its number under its resume secret.
    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    /// Whether its first unit has been written.
    pub(super) const fn shown(&self) -> bool {
        matches!(self.first, First::Done)
    }

    /// The unit that ends the session, if the other side can read it by now.
    pub(super) fn farewell(&mut self) -> Option<Vec<u8>> {
        if !self.talks || !matches!(self.first, First::Done) {
            return None;
        }
        let mut unit = vec![0; UNIT_MAX];
        let len = self.sealer.close(&mut unit)?;
        unit.truncate(len);
        Some(unit)
    }

    /// A service greets back: everything after goes on from the hello's offsets.
    pub(super) fn greet(&mut self, received: u64) {
        self.first = First::Hello(UNIT_MAX);
        self.at = received;
        self.greeted = true;
        self.talks = true;
    }

    /// Writes what has to go first, if anything; the hello says these offsets.
    pub(super) fn fill_first(
        &mut self,
        unit: &mut Unit,
        received: u64,
        from: u64,
    ) -> Option<usize> {
        if !self.shown() {
            self.told = received;
        }
        match std::mem::replace(&mut self.first, First::Done) {
            First::Done => None,
            First::Answer(answer) => {
                unit.get_mut(..answer.len())?.copy_from_slice(&answer);
                Some(answer.len())
            }
            First::Tagged(tag) => {
                let (head, rest) = unit.split_first_chunk_mut::<16>()?;
                *head = tag;
                let len = rest.len();
                Some(head.len() + self.sealer.hello(rest, received, from, len)?)
            }
            First::Hello(len) => {
                self.sealer.hello(unit, received, from, len.max(super::record::TAG))
            }
        }
    }
}

/// Smoothed round trip (RFC 6298 without the variance: four times the mean is far above it).
#[derive(Clone, Copy, Debug)]
pub(super) struct Rtt {
    mean: Option<Duration>,
    guess: Duration,
}

impl Rtt {
    /// What is assumed before the first sample.
    const UNKNOWN: Duration = Duration::from_millis(500);

    pub(super) const fn new() -> Self {
        Self { mean: None, guess: Self::UNKNOWN }
    }

    /// A handshake took so long: it counts until there is a sample, if it is more than what is assumed.
    pub(super) fn guess(&mut self, took: Duration) {
        self.guess = took.max(Self::UNKNOWN);
    }

    /// A measurement. A larger one counts at once by half: a queue builds up faster than a mean.
    pub(super) fn sample(&mut self, sample: Duration) {
        self.mean = Some(match self.mean {
            None => sample,
            Some(mean) if sample > mean => (mean + sample) / 2,
            Some(mean) => (mean * 7 + sample) / 8,
        });
    }

    /// The current estimate.
    pub(super) fn get(self) -> Duration {
        self.mean.unwrap_or(self.guess)
    }

    /// How long an answer may take before something is wrong: max(1 s, 4 x RTT), at most 10 s.
    pub(super) fn patience(self) -> Duration {
        (self.get() * 4).clamp(Duration::from_secs(1), Duration::from_secs(10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_handshake_took_counts_until_there_is_a_sample() {
        let (short, long) = (Duration::from_millis(200), Duration::from_secs(2));
        let mut rtt = Rtt::new();
        rtt.guess(short);
        assert_eq!(rtt.get(), Rtt::UNKNOWN);
        rtt.guess(long);
        assert_eq!((rtt.get(), rtt.patience()), (long, 4 * long));
        rtt.sample(short);
        assert_eq!((rtt.get(), rtt.patience()), (short, Duration::from_secs(1)));
    }
}
