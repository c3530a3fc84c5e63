//! What both sides of a session do: two reliable byte streams over one path after another.
//!
//! Lives here: offsets, acknowledgements, what a path's records do to the session. Does not live
//! here: which path is the current one (`client.rs`, `service.rs`), streams (`mux.rs`).
//!
//! ```text
//!  streams ──mux──> window ──Sealer──> unit          (fill)
//!  streams <──mux── received <──Opener── unit         (receive)
//! ```

use std::time::Duration;

use super::{
    mux::{Mux, Side},
    path::{Path, Rtt},
    record::{Record, Unit},
    window::SendWindow,
};
use crate::time::Time;

/// Unacknowledged bytes after which an acknowledgement goes at once: well below the smallest
/// window, so that a sender never waits for the timer.
const ACK_EVERY: u64 = 32 * 1024;
/// How long an acknowledgement may wait for data to ride on.
const ACK_DELAY: Duration = Duration::from_millis(25);

/// What a record did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The other side's first record on this path; the owner decides what it changes.
    Hello { received: u64, from: u64 },
    /// Stream bytes, or an acknowledgement, or a ping.
    Something,
    /// The other side ended the session.
    Close,
}

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The path: anybody on the way can do that. Close it, resume.
    Path,
    /// The session: only its other end can do that.
    Session,
}

/// One side of a session.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) mux: Mux,
    window: SendWindow,
    /// Bytes of the other side's stream that arrived in order.
    received: u64,
    /// What of them was acknowledged.
    ack_sent: u64,
    ack_at: Option<Time>,
    /// That moment has come; it waits for the path to have room.
    ack_due: bool,
    pub(super) rtt: Rtt,
    /// When this offset is acknowledged, that was a round trip.
    sample: Option<(u64, Time)>,
    /// Since when nothing came, if that was reason to ask.
    pinged: Option<Time>,
    /// When the ping went whose pong has not come, whatever else came.
    asked: Option<Time>,
    /// How large any window may grow now.
    limit: usize,
    /// Bytes that were in the buffers when they were last counted.
    counted: usize,
    /// When something last left the buffers, or when the first of it came.
    moved_at: Time,
}

impl Conversation {
    pub(super) fn new(side: Side) -> Self {
        Self {
            mux: Mux::new(side),
            window: SendWindow::new(),
            received: 0,
            ack_sent: 0,
            ack_at: None,
            ack_due: false,
            rtt: Rtt::new(),
            sample: None,
            pinged: None,
            asked: None,
            limit: 0,
            counted: 0,
            moved_at: Time::ZERO,
        }
    }

    /// How large any window may grow from here on, in bytes.
    pub(super) const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Bytes of memory in all buffers.
    pub(super) fn held(&self) -> usize {
        self.window.held() + self.mux.held()
    }

    /// Counts the bytes in all buffers; call it after whatever may have changed them.
    pub(super) fn count(&mut self, now: Time) -> usize {
        let held = self.held();
        if self.counted == 0 || held == 0 {
            self.moved_at = now;
        }
        self.counted = held;
        held
    }

    /// Since when the buffers hold something that nobody takes; none if they are empty.
    pub(super) fn waiting(&self) -> Option<(Time, usize)> {
        let held = self.held();
        (held > 0).then_some((self.moved_at, held))
    }

    /// Whether a path is needed: a stream is open, or something is still to be said.
    pub(super) fn wants_path(&self) -> bool {
        self.mux.count() > 0 || self.window.held() > 0 || self.mux.has_work()
    }

    /// Bytes that were sent and not acknowledged.
    pub(super) fn outstanding(&self) -> usize {
        self.window.held()
    }

    /// Bytes of the other side's stream that arrived.
    pub(super) const fn received(&self) -> u64 {
        self.received
    }

    /// Since when a ping waits for its answer.
    pub(super) const fn pinged(&self) -> Option<Time> {
        self.pinged
    }

    /// Asks for a sign of life.
    pub(super) fn ping(&mut self, now: Time, path: &mut Path) {
        if self.pinged.is_none() {
            self.pinged = Some(now);
            if self.asked.is_none() {
                self.asked = Some(now);
                path.ping_due = Some(now.as_micros().to_be_bytes());
            }
        }
    }

    /// The application consumed bytes of a stream.
    pub(super) fn consumed(&mut self, now: Time, stream: u32, count: usize) {
        self.moved_at = now;
        let (rtt, limit) = (self.rtt.get(), self.limit);
        self.mux.consumed(now, stream, count, rtt, limit);
    }

    /// The first bytes of the stream, to travel in a handshake.
    pub(super) fn early(&mut self, room: usize) -> Vec<u8> {
        self.window.rewind();
        let mut out = vec![0; room];
        let len = self.next_bytes(&mut out);
        out.truncate(len);
        out
    }

    /// The handshake's early data arrived: that many bytes. Otherwise all goes again.
    pub(super) fn early_taken(&mut self, taken: bool, len: usize) {
        self.window.rewind();
        if taken {
            // They were written before the handshake went, so this cannot fail.
            let _ = self.window.resume(len as u64);
        }
    }

    /// Early data of a client, at the service.
    pub(super) fn take_early(&mut self, now: Time, bytes: &[u8]) -> Result<(), Trouble> {
        self.take(now, bytes)
    }

    /// A client's path goes on where the service's hello says.
    pub(super) fn resume(
        &mut self,
        path: &mut Path,
        received: u64,
        from: u64,
    ) -> Result<(), Trouble> {
        if from > self.received || path.greeted {
            return Err(Trouble::Session);
        }
        self.switch(received)?;
        // What another path brought since the hello was sealed is not acknowledged yet; it will be
        // when this path has brought it too, for the service has not sent it here before.
        self.ack_sent = path.told.min(self.received);
        path.at = from;
        path.greeted = true;
        path.talks = true;
        Ok(())
    }

    /// A service's path goes on where the client's hello says, and greets back.
    pub(super) fn resumed(&mut self, path: &mut Path, received: u64) -> Result<(), Trouble> {
        self.switch(received)?;
        path.greet(self.received);
        Ok(())
    }

    /// The client's hello on the path that opened the session: an acknowledgement.
    pub(super) fn confirmed(&mut self, path: &mut Path, received: u64) -> Result<(), Trouble> {
        path.greeted = true;
        self.window.acknowledge(received, self.limit).map_err(|_| Trouble::Session)?;
        Ok(())
    }

    fn switch(&mut self, received: u64) -> Result<(), Trouble> {
        self.window.resume(received).map_err(|_| Trouble::Session)?;
        // The hello is an acknowledgement; measurements of the old path say nothing of this one.
        self.ack_sent = self.received;
        self.ack_at = None;
        self.ack_due = false;
        self.sample = None;
        self.pinged = None;
        self.asked = None;
        Ok(())
    }

    /// Opens a unit and does what it says.
    pub(super) fn receive(
        &mut self,
        now: Time,
        path: &mut Path,
        unit: &mut [u8],
    ) -> Result<Heard, Trouble> {
        let record = path.opener.open(unit).map_err(|_| Trouble::Path)?;
        let hello = matches!(record, Record::Hello { .. });
        // The opener takes one hello at most: a second is no record of an honest peer.
        if !hello && !path.greeted {
            return Err(Trouble::Path);
        }
        path.heard = now;
        match record {
            Record::Hello { received, from } => return Ok(Heard::Hello { received, from }),
            Record::Close => return Ok(Heard::Close),
            Record::Ping(bytes) => path.pong_due = Some(bytes),
            Record::Pong(bytes) => {
                let sent = Time::from_micros(u64::from_be_bytes(bytes));
                if self.asked.take_if(|asked| *asked == sent).is_some() {
                    self.rtt.sample(now.since(sent));
                }
            }
            Record::Data { received, bytes } => {
                if let Some(received) = received {
                    self.acknowledged(now, received)?;
                }
                let skip = usize::try_from(self.received.saturating_sub(path.at))
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                path.at = path.at.saturating_add(bytes.len() as u64);
                self.take(now, bytes.get(skip..).unwrap_or_default())?;
                if skip > 0 && path.at >= self.received && self.ack_sent < self.received {
                    self.ack_at = self.ack_at.or(Some(now + ACK_DELAY));
                }
            }
        }
        // Whatever came: the other side is there.
        self.pinged = None;
        Ok(Heard::Something)
    }

    fn acknowledged(&mut self, now: Time, offset: u64) -> Result<(), Trouble> {
        if self.window.acknowledge(offset, self.limit).map_err(|_| Trouble::Session)? {
            self.moved_at = now;
        }
        if let Some((end, at)) = self.sample
            && offset >= end
        {
            self.sample = None;
            self.rtt.sample(now.since(at));
        }
        Ok(())
    }

    fn take(&mut self, now: Time, bytes: &[u8]) -> Result<(), Trouble> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.received = self.received.saturating_add(bytes.len() as u64);
        if self.received - self.ack_sent >= ACK_EVERY {
            self.ack_due = true;
            self.ack_at = None;
        } else if self.ack_at.is_none() && !self.ack_due {
            self.ack_at = Some(now + ACK_DELAY);
        }
        self.mux.receive(now, bytes).map_err(|_| Trouble::Session)
    }

    /// Writes and seals the path's next unit; `None` when there is nothing to send now.
    pub(super) fn fill(&mut self, now: Time, path: &mut Path, unit: &mut Unit) -> Option<usize> {
        let from = if path.talks { self.window.sent() } else { 0 };
        if let Some(len) = path.fill_first(unit, self.received, from) {
            return Some(len);
        }
        if let Some(bytes) = path.pong_due.take() {
            return path.sealer.pong(unit, bytes);
        }
        if let Some(bytes) = path.ping_due.take() {
            return path.sealer.ping(unit, bytes);
        }
        if !path.talks {
            return None;
        }
        self.settle(now);
        let piggyback = self.ack_due || (self.ack_at.is_some() && self.has_bytes());
        let received = piggyback.then_some(self.received);
        let before = self.window.sent();
        let len = path.sealer.data(unit, received, |room| self.next_bytes(room));
        if len.is_some() {
            if piggyback {
                self.ack_sent = self.received;
                self.ack_at = None;
                self.ack_due = false;
            }
            if self.sample.is_none() && self.window.sent() > before {
                self.sample = Some((self.window.sent(), now));
            }
            return len;
        }
        if std::mem::take(&mut path.close_due) { path.sealer.close(unit) } else { None }
    }

    /// Whether stream bytes could go now.
    fn has_bytes(&self) -> bool {
        self.window.has_unsent() || (self.window.room() > 0 && self.mux.has_work())
    }

    /// The stream's next bytes: what a former path lost, else new frames.
    fn next_bytes(&mut self, out: &mut [u8]) -> usize {
        if self.window.has_unsent() {
            return self.window.resend(out);
        }
        let room = self.window.room();
        if room < out.len() && self.mux.has_work() {
            self.window.note_blocked();
        }
        let room = room.min(out.len());
        let Some(out) = out.get_mut(..room) else { return 0 };
        let len = self.mux.fill(out);
        if let Some(wrote) = out.get(..len) {
            self.window.wrote(wrote);
        }
        len
    }

    /// Notes that an acknowledgement is due, so that a path without room does not wake anybody.
    pub(super) fn settle(&mut self, now: Time) {
        if self.ack_at.is_some_and(|at| at <= now) {
            self.ack_at = None;
            self.ack_due = true;
        }
    }

    /// When an acknowledgement will be due.
    pub(super) const fn poll_timeout(&self) -> Option<Time> {
        self.ack_at
    }
}
