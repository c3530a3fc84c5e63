//! Messages between the parts of one router, on their way.
//!
//! Lives here: their order, and in deferred mode their delays. Does not live here: who receives
//! them and what they do (`host.rs`).
//!
//! In *deferred mode* each message takes a seeded random while, in order for each pair, as between
//! the threads of a busy machine: races of install and remove get a seed.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use warren_overlay::{
    id::{EndNo, LinkNo},
    plane::{LinkCommand, Part, PartMessage},
    rng::Rng,
    room::Room,
    session::{AppCommand, EndInput},
    time::Time,
};

use crate::app::StreamNo;

/// Where a letter goes, or comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Address {
    Node,
    Link(LinkNo),
    End(EndNo),
}

/// What is carried.
#[derive(Debug)]
pub(super) enum Letter {
    Part(Part, PartMessage),
    Command(LinkCommand),
    ToEnd(Box<EndInput>),
}

impl Letter {
    /// The bytes that an application gives a stream of `end`, if that is what it is.
    fn data(&self, end: Address) -> Option<(StreamNo, usize)> {
        let (Self::ToEnd(input), Address::End(end)) = (self, end) else { return None };
        let EndInput::App(AppCommand::Data { stream, bytes }) = &**input else { return None };
        Some((StreamNo { end, stream: *stream }, bytes.len()))
    }
}

/// Letters that wait. What links and ends feed each other is bounded by their credits.
#[derive(Debug, Default)]
pub(super) struct Mail {
    ready: VecDeque<(Address, Letter)>,
    deferred: Option<Box<Deferred>>,
}

#[derive(Debug)]
struct Deferred {
    rng: Rng,
    most: Duration,
    /// When the last letter of each pair is due: those after it may not overtake.
    last: BTreeMap<(Address, Address), Time>,
    waiting: BTreeMap<(Time, u64), (Address, Letter)>,
    sent: u64,
    /// Bytes of streams that applications gave and no end has yet.
    unread: BTreeMap<StreamNo, usize>,
}

impl Mail {
    /// From now on each letter takes up to `most`.
    pub(super) fn defer(&mut self, most: Duration, rng: Rng) {
        self.deferred = Some(Box::new(Deferred {
            rng,
            most,
            last: BTreeMap::new(),
            waiting: BTreeMap::new(),
            sent: 0,
            unread: BTreeMap::new(),
        }));
    }

    /// Gives up room that nothing needs.
    pub(super) fn rest(&mut self) {
        self.ready.rest();
    }

    pub(super) fn post(&mut self, now: Time, from: Address, to: Address, letter: Letter) {
        let Some(deferred) = &mut self.deferred else {
            return self.ready.push_back((to, letter));
        };
        if let Some((stream, len)) = letter.data(to) {
            *deferred.unread.entry(stream).or_default() += len;
        }
        let most = u64::try_from(deferred.most.as_micros()).unwrap_or(u64::MAX);
        let delay = Duration::from_micros(deferred.rng.below(most.saturating_add(1)));
        let last = deferred.last.entry((from, to)).or_default();
        *last = (now + delay).max(*last);
        deferred.sent += 1;
        deferred.waiting.insert((*last, deferred.sent), (to, letter));
    }

    /// The next letter that is due; and the stream whose bytes it brings, if they were delayed: its
    /// application may have found no room meanwhile, and should look again.
    pub(super) fn next(&mut self, now: Time) -> Option<(Address, Letter, Option<StreamNo>)> {
        let Some(deferred) = &mut self.deferred else {
            return self.ready.pop_front().map(|(to, letter)| (to, letter, None));
        };
        let first = deferred.waiting.first_entry().filter(|first| first.key().0 <= now)?;
        let (to, letter) = first.remove();
        let stream = letter.data(to).map(|(stream, len)| {
            if let Some(unread) = deferred.unread.get_mut(&stream) {
                *unread = unread.saturating_sub(len);
            }
            stream
        });
        Some((to, letter, stream))
    }

    /// Bytes of a stream on their way to its end.
    pub(super) fn unread(&self, stream: StreamNo) -> usize {
        let unread = self.deferred.as_ref().and_then(|deferred| deferred.unread.get(&stream));
        unread.copied().unwrap_or(0)
    }

    /// When the next letter is due, where letters are delayed.
    pub(super) fn due(&self) -> Option<Time> {
        let ((at, _), _) = self.deferred.as_ref()?.waiting.first_key_value()?;
        Some(*at)
    }
}
