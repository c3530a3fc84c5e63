//! Carrying out what routers want: dials, bytes, closes, timers.
//!
//! Lives here: from a router's outputs to events. Does not live here: from events to routers
//! (`net.rs`).

use std::time::Duration;

use warren_overlay::{id::LinkNo, link::LinkIo};
use warren_router::host::{Host, HostOutput};

use super::{CONNECT_LIMIT, Event, Happened, HostNo, JITTER_MAX, Net};
use crate::{chance, conn::EndOf};

impl Net {
    /// Carries out all that a router wants.
    pub(super) fn drain(&mut self, no: HostNo) {
        let now = self.now(no);
        let mut transmit = std::mem::take(&mut self.transmit);
        loop {
            let Some(place) = self.places.get_mut(no as usize) else { return };
            let Some(host) = &mut place.host else { return };
            match host.poll_output() {
                Some(HostOutput::Transmit(link)) => {
                    // Last first, so that the first is taken from the end.
                    if let Err(at) = transmit.binary_search_by(|other| link.cmp(other)) {
                        transmit.insert(at, link);
                    }
                }
                Some(HostOutput::Dial { link, to, .. }) => {
                    place.dialling.insert(link);
                    let event = match self.by_address.get(&to) {
                        Some(to) => {
                            let dial = Event::Dial { from: no, link: link.0, to: *to };
                            (self.way(no, *to), dial)
                        }
                        None => {
                            self.strangers.insert(no);
                            (CONNECT_LIMIT, Event::Dialled { host: no, link: link.0, ok: false })
                        }
                    };
                    self.queue.push(self.now + event.0, event.1);
                }
                Some(HostOutput::Close(link)) => {
                    place.dialling.remove(&link);
                    self.flush(no, link);
                    transmit.retain(|it| *it != link);
                    let end =
                        self.places.get_mut(no as usize).and_then(|it| it.links.remove(&link));
                    if let Some(end) = end {
                        self.close(end);
                    }
                }
                Some(output) => {
                    self.happened.push_back(Happened::App { host: no, at: self.now, output });
                }
                None => match transmit.pop() {
                    Some(link) => self.send(no, link),
                    None => break,
                },
            }
        }
        self.transmit = transmit; // keeps its room
        self.wait_for_disk(no);
        let Some(place) = self.places.get_mut(no as usize) else { return };
        let wanted = place.host.as_deref().and_then(Host::poll_timeout);
        if let Some(at) = wanted
            && place.timer.is_none_or(|set| at < set)
        {
            let at = at.max(now.time);
            place.timer = Some(at);
            self.queue.push(at, Event::Timer { host: no });
        }
    }

    /// Writes what a link has for its socket, as long as that takes it.
    pub(super) fn send(&mut self, no: HostNo, link: LinkNo) {
        let Some(end) = self.places.get(no as usize).and_then(|it| it.links.get(&link).copied())
        else {
            // Nobody is there to hear it; the router is told so, or closed it itself.
            return;
        };
        loop {
            if self.conns.side(end).is_none_or(|side| side.full_until > self.now) {
                return;
            }
            if !self.write(no, link, end) || !self.has_more(no, link) {
                return;
            }
        }
    }

    /// Whether a link may have something left after a write.
    fn has_more(&self, no: HostNo, link: LinkNo) -> bool {
        self.host(no).and_then(|host| host.link(link)).is_some_and(LinkIo::wants_transmit)
    }

    /// What a link still has goes out whatever the socket takes: it is closing.
    fn flush(&mut self, no: HostNo, link: LinkNo) {
        let end = self.places.get(no as usize).and_then(|it| it.links.get(&link).copied());
        if let Some(end) = end {
            while self.write(no, link, end) {}
        }
    }

    /// One write of up to 64 KiB; false when there was nothing.
    fn write(&mut self, no: HostNo, link: LinkNo, end: EndOf) -> bool {
        let now = self.now(no);
        let way = self.conns.way(end);
        let Some(place) = self.places.get_mut(no as usize) else { return false };
        let Some(host) = &mut place.host else { return false };
        self.written.clear();
        if !host.poll_transmit(now, link, &mut self.written) {
            return false;
        }
        // As long as it is, and no longer: it may be under way for long, with many others.
        let bytes = self.written.clone();
        let left = match place.seat.uplink {
            Some(uplink) => place.bucket.take(now.time, uplink, bytes.len()),
            None => now.time,
        };
        let jitter = if self.wires.jitter > 0.0 {
            let draw = chance::exponential(&mut place.jitter).min(JITTER_MAX);
            way.mul_f64(self.wires.jitter * draw)
        } else {
            Duration::ZERO
        };
        let use_no = self.conns.use_no(end);
        if left > now.time
            && let Some(side) = self.conns.side(end)
        {
            side.full_until = left;
            self.queue.push(left, Event::Writable { end, use_no });
        }
        if let Some(other) = self.conns.side(end.other()) {
            other.last = other.last.max(left + way + jitter);
            other.coming += 1;
            let at = other.last;
            let payload = self.flight.add(bytes);
            self.queue.push(at, Event::Bytes { end: end.other(), use_no, payload });
        }
        true
    }
}
