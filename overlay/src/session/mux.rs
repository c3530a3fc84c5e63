//! Many streams over a session's one byte stream (after HTTP/2 and yamux).
//!
//! Lives here: which streams there are, whose frame goes next, and what arriving frames do. Does
//! not live here: one stream's queues and credits (`stream.rs`), bytes of frames (`frame.rs`),
//! delivery (`conversation.rs`).
//!
//! ```text
//!  resets, opens, credits ──┐
//!  fresh:  was idle, 16 KiB ─┼─> next frame       fresh, spent or empty ──> bulk's end
//!  bulk:   8 KiB each turn ──┘                    bulk, empty ──> idle    (RFC 8290, 4.2)
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use super::{
    app::{AppEvent, StreamNo},
    frame::{CONTROL_MAX, DATA_HEAD, Frame, Parser, Piece, ResetReason},
    stream::{Incoming, Outgoing, Overrun},
};
use crate::{time::Time, wire::WireError};

/// Streams that one session may have: a browser uses about 6 per host, a crawler hundreds. One costs
/// about 300 B while idle; its bytes count against the quota.
pub(super) const STREAMS_MAX: usize = 1_024;
/// Resets that may wait: a peer that opens more than this without reading is shown out.
const RESETS_MAX: usize = 1_024;
/// What a stream that was idle may send before it counts as bulk.
const FRESH_QUANTUM: usize = 16 * 1024;
/// What a bulk stream sends in one turn.
const BULK_QUANTUM: usize = 8 * 1024;
/// Arriving data of one stream is handed over in pieces of about this size.
const EVENT_DATA_MAX: usize = 64 * 1024;
/// A data frame shorter than this is begun only if it is the stream's last bytes.
const FRAGMENT_MIN: usize = 32;

/// The peer broke the rules of the stream layer: the session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(super) enum MuxError {
    /// Bytes that are no frame.
    #[error("malformed frame")]
    Malformed(#[from] WireError),
    /// A frame about a stream that never was, or that this side may not open.
    #[error("no such stream")]
    NoSuchStream,
    /// More bytes than granted, or bytes after the end.
    #[error("stream exceeded its credit")]
    Overrun,
    /// Streams opened faster than their refusals are read.
    #[error("too many refused streams")]
    Flood,
}

/// What happened to streams.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MuxEvent {
    /// The service accepted a stream of ours.
    Accepted { stream: u32 },
    /// The client opened a stream.
    Incoming { stream: u32, port: u16 },
    /// Bytes to consume.
    Data { stream: u32, bytes: Vec<u8> },
    /// No more data.
    Finished { stream: u32 },
    /// Gone.
    Reset { stream: u32, reason: ResetReason },
    /// Room again, after it had run out.
    Writable { stream: u32 },
    /// Over in both directions, and read.
    Closed { stream: u32 },
}

impl MuxEvent {
    /// Which stream it is about.
    pub(super) const fn stream(&self) -> u32 {
        match self {
            Self::Accepted { stream }
            | Self::Incoming { stream, .. }
            | Self::Data { stream, .. }
            | Self::Finished { stream }
            | Self::Reset { stream, .. }
            | Self::Writable { stream }
            | Self::Closed { stream } => *stream,
        }
    }

    /// The same, for the application, which knows the stream by another number.
    pub(super) fn named(self, stream: StreamNo) -> AppEvent {
        match self {
            Self::Accepted { .. } => AppEvent::Opened { stream },
            Self::Incoming { port, .. } => AppEvent::Incoming { stream, port },
            Self::Data { bytes, .. } => AppEvent::Data { stream, bytes },
            Self::Finished { .. } => AppEvent::Finished { stream },
            Self::Reset { reason, .. } => AppEvent::Reset { stream, reason },
            Self::Writable { .. } => AppEvent::Writable { stream },
            Self::Closed { .. } => AppEvent::Closed { stream },
        }
    }
}

/// Which side this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Opens streams.
    Client,
    /// Accepts streams.
    Service,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Idle,
    Fresh,
    Bulk,
}

#[derive(Debug)]
struct Stream {
    out: Outgoing,
    incoming: Incoming,
    place: Place,
    deficit: usize,
    /// The other side knows of it (service: we said so).
    accepted: bool,
    /// Credit that waits to be said; `Some(0)` is a bare acceptance.
    credit_due: Option<u32>,
}

impl Stream {
    const fn new(now: Time) -> Self {
        Self {
            out: Outgoing::new(),
            incoming: Incoming::new(now),
            place: Place::Idle,
            deficit: 0,
            accepted: false,
            credit_due: None,
        }
    }

    fn held(&self) -> usize {
        self.out.waiting() + usize::try_from(self.incoming.unread()).unwrap_or(usize::MAX)
    }
}

/// All streams of one session.
#[derive(Debug)]
pub(super) struct Mux {
    side: Side,
    streams: BTreeMap<u32, Stream>,
    /// Highest stream id that was ever opened.
    highest: u32,
    opens: VecDeque<(u32, u16)>,
    resets: VecDeque<(u32, ResetReason)>,
    credits: BTreeSet<u32>,
    fresh: VecDeque<u32>,
    bulk: VecDeque<u32>,
    parser: Parser,
    events: VecDeque<MuxEvent>,
    held: usize,
    last_data: Option<Time>,
}

impl Mux {
    pub(super) fn new(side: Side) -> Self {
        Self {
            side,
            streams: BTreeMap::new(),
            highest: 0,
            opens: VecDeque::new(),
            resets: VecDeque::new(),
            credits: BTreeSet::new(),
            fresh: VecDeque::new(),
            bulk: VecDeque::new(),
            parser: Parser::default(),
            events: VecDeque::new(),
            held: 0,
            last_data: None,
        }
    }

    /// Bytes that wait to be sent or to be consumed.
    pub(super) const fn held(&self) -> usize {
        self.held
    }

    /// How many streams there are.
    pub(super) fn count(&self) -> usize {
        self.streams.len()
    }

    /// When stream data last arrived.
    pub(super) const fn last_data(&self) -> Option<Time> {
        self.last_data
    }

    /// Whether `fill` would write anything, given room.
    pub(super) fn has_work(&self) -> bool {
        !(self.opens.is_empty()
            && self.resets.is_empty()
            && self.credits.is_empty()
            && self.fresh.is_empty()
            && !self.bulk.iter().any(|id| self.streams.get(id).is_some_and(|s| s.out.sendable())))
    }

    /// The next event.
    pub(super) fn poll_event(&mut self) -> Option<MuxEvent> {
        self.events.pop_front()
    }

    /// Opens a stream; `None` if there are too many.
    pub(super) fn open(&mut self, now: Time, port: u16) -> Option<u32> {
        if self.side != Side::Client || self.streams.len() >= STREAMS_MAX {
            return None;
        }
        let id = if self.highest == 0 { 1 } else { self.highest.checked_add(2)? };
        self.highest = id;
        self.opens.push_back((id, port));
        self.streams.insert(id, Stream::new(now));
        Some(id)
    }

    /// Says that the stream is welcome. Data says so too.
    pub(super) fn accept(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !stream.accepted
        {
            stream.accepted = true;
            stream.credit_due.get_or_insert(0);
            self.credits.insert(id);
        }
    }

    /// How many bytes the application may write.
    pub(super) fn writable(&self, id: u32) -> usize {
        self.streams.get(&id).map_or(0, |stream| stream.out.room())
    }

    /// Takes what the application wrote. Beyond what is writable, the stream is reset.
    pub(super) fn write(&mut self, id: u32, bytes: Vec<u8>) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let len = bytes.len();
        if stream.out.write(bytes) {
            self.held += len;
            self.activate(id);
        } else {
            self.reset(id, ResetReason::Closed);
            self.events.push_back(MuxEvent::Reset { stream: id, reason: ResetReason::Closed });
        }
    }

    /// The application writes no more.
    pub(super) fn finish(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.out.finish();
            self.activate(id);
        }
    }

    /// The application gives the stream up, in both directions.
    pub(super) fn reset(&mut self, id: u32, reason: ResetReason) {
        if self.remove(id) {
            // A stream that the other side never heard of needs no reset.
            let before = self.opens.len();
            self.opens.retain(|(open, _)| *open != id);
            if self.opens.len() == before {
                self.resets.push_back((id, reason));
            }
        }
    }

    /// Forgets all streams and tells their applications.
    pub(super) fn reset_all(&mut self, reason: ResetReason) {
        for id in self.streams.keys().copied().collect::<Vec<_>>() {
            self.remove(id);
            self.events.push_back(MuxEvent::Reset { stream: id, reason });
        }
        self.opens.clear();
        self.resets.clear();
    }

    /// The application consumed bytes of a stream; `limit` is how large its window may grow.
    pub(super) fn consumed(
        &mut self,
        now: Time,
        id: u32,
        count: usize,
        rtt: Duration,
        limit: usize,
    ) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let before = stream.held();
        let more = stream.incoming.consume(now, count as u64, rtt, limit as u64);
        self.held = self.held.saturating_sub(before - stream.held());
        if more > 0 {
            let due = stream.credit_due.unwrap_or(0).saturating_add(more);
            stream.credit_due = Some(due);
            self.credits.insert(id);
        }
        self.sweep(id);
    }

    /// Writes the next frames to `out` and returns how many bytes; whole frames only.
    pub(super) fn fill(&mut self, out: &mut [u8]) -> usize {
        let mut len = 0;
        while let Some(room) = out.get_mut(len..) {
            let wrote = self.control(room);
            let wrote = if wrote > 0 { wrote } else { self.turn(room) };
            if wrote == 0 {
                break;
            }
            len += wrote;
        }
        len
    }

    /// One control frame, if one waits and fits.
    fn control(&mut self, out: &mut [u8]) -> usize {
        if out.len() < CONTROL_MAX {
            return 0;
        }
        if let Some((stream, port)) = self.opens.pop_front() {
            return Frame::Open { stream, port }.encode(out);
        }
        if let Some((stream, reason)) = self.resets.pop_front() {
            return Frame::Reset { stream, reason }.encode(out);
        }
        while let Some(id) = self.credits.pop_first() {
            if let Some(stream) = self.streams.get_mut(&id)
                && let Some(bytes) = stream.credit_due.take()
            {
                return Frame::Credit { stream: id, bytes }.encode(out);
            }
        }
        0
    }

    /// One frame of the stream whose turn it is.
    fn turn(&mut self, out: &mut [u8]) -> usize {
        loop {
            let fresh = !self.fresh.is_empty();
            let queue = if fresh { &mut self.fresh } else { &mut self.bulk };
            let Some(&id) = queue.front() else { return 0 };
            let Some(stream) = self.streams.get_mut(&id) else {
                queue.pop_front();
                continue;
            };
            if !stream.out.sendable() {
                queue.pop_front();
                stream.place = if fresh { Place::Bulk } else { Place::Idle };
                stream.deficit = 0;
                if fresh {
                    self.bulk.push_back(id);
                }
                continue;
            }
            if stream.deficit == 0 {
                // Its turn is over; the next one is for when it comes to the front again.
                queue.pop_front();
                stream.place = Place::Bulk;
                stream.deficit = BULK_QUANTUM;
                self.bulk.push_back(id);
                continue;
            }
            return self.one(id, out);
        }
    }

    /// One frame of a stream that has something to say.
    fn one(&mut self, id: u32, out: &mut [u8]) -> usize {
        let Some(stream) = self.streams.get_mut(&id) else { return 0 };
        if stream.out.finish_due() {
            let len = Frame::Finish { stream: id }.encode(out);
            if len > 0 {
                stream.out.finish_sent();
                self.sweep(id);
            }
            return len;
        }
        let ready = stream.out.ready();
        let Some(room) = out.len().checked_sub(DATA_HEAD) else { return 0 };
        let count = ready.min(stream.deficit).min(room).min(usize::from(u16::MAX));
        if count == 0 || (count < ready.min(FRAGMENT_MIN) && count == room) {
            return 0;
        }
        let head = Frame::Data { stream: id, len: u16::try_from(count).unwrap_or(0) }.encode(out);
        if let Some(body) = out.get_mut(head..head + count) {
            stream.out.take(body);
        }
        stream.deficit -= count;
        stream.accepted |= self.side == Side::Service;
        self.held = self.held.saturating_sub(count);
        if stream.out.room_is_back() {
            self.events.push_back(MuxEvent::Writable { stream: id });
        }
        head + count
    }

    /// Takes the next bytes of the other side's stream.
    pub(super) fn receive(&mut self, now: Time, mut bytes: &[u8]) -> Result<(), MuxError> {
        // The parser is taken out so that pieces may borrow from `bytes` while `self` changes.
        let mut parser = std::mem::take(&mut self.parser);
        while let Some(piece) = parser.next(&mut bytes)? {
            match piece {
                Piece::Frame(frame) => self.frame(now, frame)?,
                Piece::Data { stream, bytes } => self.data(now, stream, bytes)?,
            }
        }
        self.parser = parser;
        Ok(())
    }

    fn frame(&mut self, now: Time, frame: Frame) -> Result<(), MuxError> {
        match frame {
            Frame::Open { stream, port } => return self.opened(now, stream, port),
            Frame::Credit { stream: id, bytes } => {
                if let Some(stream) = self.known(id)? {
                    stream.out.grant(bytes);
                    self.heard_of(id);
                    self.activate(id);
                }
            }
            Frame::Finish { stream: id } => {
                if let Some(stream) = self.known(id)? {
                    stream.incoming.finish().map_err(|Overrun| MuxError::Overrun)?;
                    self.heard_of(id);
                    self.events.push_back(MuxEvent::Finished { stream: id });
                    self.sweep(id);
                }
            }
            Frame::Reset { stream: id, reason } => {
                self.known(id)?;
                if self.remove(id) {
                    self.events.push_back(MuxEvent::Reset { stream: id, reason });
                }
            }
            Frame::Data { .. } => {}
        }
        Ok(())
    }

    fn opened(&mut self, now: Time, id: u32, port: u16) -> Result<(), MuxError> {
        if self.side != Side::Service || id.is_multiple_of(2) || id <= self.highest {
            return Err(MuxError::NoSuchStream);
        }
        self.highest = id;
        let refused = if port == 0 {
            // Nobody's: a service that looks at itself from outside (router, `probes.rs`).
            Some(ResetReason::Refused)
        } else {
            (self.streams.len() >= STREAMS_MAX).then_some(ResetReason::Busy)
        };
        if let Some(reason) = refused {
            self.resets.push_back((id, reason));
            return if self.resets.len() > RESETS_MAX { Err(MuxError::Flood) } else { Ok(()) };
        }
        self.streams.insert(id, Stream::new(now));
        self.events.push_back(MuxEvent::Incoming { stream: id, port });
        // Resets by the application count too: it may refuse everything.
        if self.resets.len() > RESETS_MAX { Err(MuxError::Flood) } else { Ok(()) }
    }

    fn data(&mut self, now: Time, id: u32, bytes: &[u8]) -> Result<(), MuxError> {
        let Some(stream) = self.known(id)? else { return Ok(()) };
        stream.incoming.arrive(bytes.len()).map_err(|Overrun| MuxError::Overrun)?;
        self.held += bytes.len();
        self.last_data = Some(now);
        self.heard_of(id);
        match self.events.back_mut() {
            Some(MuxEvent::Data { stream, bytes: batch })
                if *stream == id && batch.len() + bytes.len() <= EVENT_DATA_MAX =>
            {
                batch.extend_from_slice(bytes);
            }
            _ => self.events.push_back(MuxEvent::Data { stream: id, bytes: bytes.to_vec() }),
        }
        Ok(())
    }

    /// The stream, `None` if it is gone, an error if it never was.
    fn known(&mut self, id: u32) -> Result<Option<&mut Stream>, MuxError> {
        if id.is_multiple_of(2) || id > self.highest {
            return Err(MuxError::NoSuchStream);
        }
        Ok(self.streams.get_mut(&id))
    }

    /// Any word of the service on a stream means that it accepted it.
    fn heard_of(&mut self, id: u32) {
        if self.side == Side::Client
            && let Some(stream) = self.streams.get_mut(&id)
            && !std::mem::replace(&mut stream.accepted, true)
        {
            // Before the frame's own event, which the caller pushes after this.
            self.events.push_back(MuxEvent::Accepted { stream: id });
        }
    }

    fn activate(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.place == Place::Idle
            && stream.out.sendable()
        {
            stream.place = Place::Fresh;
            stream.deficit = FRESH_QUANTUM;
            self.fresh.push_back(id);
        }
    }

    /// Forgets a stream that is over in both directions.
    fn sweep(&mut self, id: u32) {
        if self.streams.get(&id).is_some_and(|s| s.out.over() && s.incoming.over()) {
            self.remove(id);
            self.events.push_back(MuxEvent::Closed { stream: id });
        }
    }

    fn remove(&mut self, id: u32) -> bool {
        let Some(stream) = self.streams.remove(&id) else { return false };
        self.held = self.held.saturating_sub(stream.held());
        self.credits.remove(&id);
        true
    }
}

#[cfg(test)]
#[path = "mux_tests.rs"]
mod tests;
