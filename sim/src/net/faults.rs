//! What goes wrong in the engine's networks: ends, silence, partitions, broken connections.
//!
//! Lives here: doing it. Does not live here: when (`run`), and what routers make of it.
//!
//! Where padding is counted, an idle peer's silence is not noticed by itself: whoever stops hearing
//! somebody is told so here, and since when an idle peer's last padding would have come.

use std::{net::SocketAddr, time::Duration};

use warren_overlay::time::Time;

use super::{Event, HostNo, Net};
use crate::conn::{EndOf, Side};

/// Between two paddings of an idle link: the shortest and the longest pause, in seconds.
const PAUSES: (f64, f64) = (1.5, 9.5);

impl Net {
    /// Ends a router as `kill -9` does: its peers see closed connections.
    pub fn kill(&mut self, no: HostNo) {
        let Some(place) = self.places.get_mut(no as usize) else { return };
        place.host = None;
        place.asleep = false;
        place.dialling.clear();
        for end in std::mem::take(&mut place.links).into_values() {
            self.close(end);
        }
    }

    /// A machine falls asleep: its peers see silence. Or it wakes and finds what came meanwhile.
    pub fn sleep(&mut self, no: HostNo, asleep: bool) {
        let Some(place) = self.places.get_mut(no as usize) else { return };
        place.asleep = asleep && place.host.is_some();
        self.tell_silence(no);
        if !asleep {
            self.catch_up(no);
        }
    }

    /// A machine has another address: nothing gets through its connections any more and nobody is told,
    /// and who dials the old address finds nobody.
    pub fn move_to(&mut self, no: HostNo, address: SocketAddr) {
        let Some(place) = self.places.get_mut(no as usize) else { return };
        self.by_address.remove(&place.seat.address);
        self.by_address.insert(address, no);
        place.seat.address = address;
        let ends: Vec<EndOf> = place.links.values().copied().collect();
        for end in ends {
            self.conns.lose(end);
            if self.padding_counted {
                let since = Some(self.last_padding());
                self.tell(end.other(), since);
            }
        }
    }

    /// Where a router listens.
    pub fn address(&self, no: HostNo) -> Option<SocketAddr> {
        Some(self.places.get(no as usize)?.seat.address)
    }

    /// A router hears what was kept back, and whether any of its time has come.
    fn catch_up(&mut self, no: HostNo) {
        let Some(place) = self.places.get_mut(no as usize) else { return };
        let ends: Vec<_> = place.links.values().copied().collect();
        for end in ends {
            self.release(end);
        }
        self.queue.push(self.now, Event::Timer { host: no });
        if let Some(place) = self.places.get_mut(no as usize) {
            place.timer = Some(self.now);
        }
    }

    /// A router's disk has answered, unless more was asked of it meanwhile.
    pub(super) fn answered(&mut self, no: HostNo) {
        if self.busy(no).is_none() && !self.is_asleep(no) {
            self.catch_up(no);
        }
    }

    /// Until when a router waits for its disk, if it does.
    pub(super) fn busy(&self, no: HostNo) -> Option<Time> {
        let place = self.places.get(no as usize)?;
        (place.busy_until > self.now).then_some(place.busy_until)
    }

    /// Notes that a router must wait for what it asked of its disk.
    pub(super) fn wait_for_disk(&mut self, no: HostNo) {
        let Some(place) = self.places.get_mut(no as usize) else { return };
        let owed = place.pace.as_ref().map_or(Duration::ZERO, |pace| pace.take());
        if !owed.is_zero() {
            place.busy_until = place.busy_until.max(self.now) + owed;
            self.queue.push(place.busy_until, Event::Answered { host: no });
        }
    }

    /// Whether a router is asleep.
    pub fn is_asleep(&self, no: HostNo) -> bool {
        self.places.get(no as usize).is_some_and(|place| place.asleep)
    }

    /// Puts a router on a side: only those of one side hear each other; all begin on side 0.
    pub fn divide(&mut self, no: HostNo, side: u32) {
        if let Some(place) = self.places.get_mut(no as usize) {
            place.side = side;
        }
        self.tell_silence(no);
    }

    /// Everybody is on one side again, and hears what was kept back.
    pub fn heal(&mut self) {
        for place in &mut self.places {
            place.side = 0;
        }
        for end in self.conns.waiting() {
            self.release(end);
        }
        for no in 0..self.len() {
            self.tell_silence(no);
        }
    }

    /// A new mean life of the connections that are made from now on.
    pub fn set_breaks(&mut self, breaks: Option<Duration>) {
        self.wires.breaks = breaks;
    }

    /// Breaks a connection of a router, the `index`-th counted round; both sides see it closed.
    pub fn break_link(&mut self, no: HostNo, index: usize) {
        let Some(place) = self.places.get(no as usize) else { return };
        let at = index % place.links.len().max(1);
        let end = place.links.values().nth(at).copied();
        if let Some(end) = end {
            self.break_conn(end);
        }
    }

    /// Tells the peers of a router, and it of them, whether they still hear each other.
    fn tell_silence(&mut self, no: HostNo) {
        if !self.padding_counted {
            return;
        }
        let ends =
            self.places.get(no as usize).map(|place| place.links.values().copied().collect());
        let ends: Vec<EndOf> = ends.unwrap_or_default();
        for end in ends {
            let peer = self.conns.host(end.other());
            let since = (!self.hear(no, peer)).then(|| self.last_padding());
            self.tell(end, since);
            self.tell(end.other(), since);
        }
    }

    /// Tells a side of a connection since when it does not hear the other, or that it does.
    fn tell(&mut self, end: EndOf, since: Option<Time>) {
        let Some((host, link)) = self.conns.side(end).map(|side| (side.host, side.link)) else {
            return;
        };
        if !self.is_asleep(host) {
            self.with(host, |it, now| it.silent(now, link, since));
        }
    }

    /// When an idle peer that falls silent now was heard last: the age of a renewal process whose
    /// pauses are uniform is that share of a pause that was drawn by its length.
    fn last_padding(&mut self) -> Time {
        let (least, most) = PAUSES;
        let pause = loop {
            let pause = least + (most - least) * self.silences.unit();
            if self.silences.unit() * most < pause {
                break pause;
            }
        };
        let age = Duration::from_secs_f64(pause * self.silences.unit());
        let age = u64::try_from(age.as_micros()).unwrap_or(0);
        Time::from_micros(self.now.as_micros().saturating_sub(age))
    }

    /// Whether two routers hear each other.
    pub(crate) fn hear(&self, a: HostNo, b: HostNo) -> bool {
        let place = |no: HostNo| self.places.get(no as usize);
        match (place(a), place(b)) {
            (Some(a), Some(b)) => !a.asleep && !b.asleep && a.side == b.side,
            _ => false,
        }
    }

    /// Whether what `from` sent gets to `to`: what a sleeper sent before is on its way.
    pub(super) fn reaches(&self, from: HostNo, to: HostNo) -> bool {
        let side = |no: HostNo| self.places.get(no as usize).map(|place| place.side);
        side(from) == side(to) && !self.is_asleep(to) && self.busy(to).is_none()
    }

    pub(super) fn release(&mut self, end: EndOf) {
        let from = self.conns.host(end.other());
        while let Some(to) = self.conns.side(end).map(|side| side.host)
            && self.reaches(from, to)
            && !self.conns.is_lost(end)
            && let Some(arrival) = self.conns.side(end).and_then(Side::release)
        {
            self.deliver(end, arrival);
        }
    }

    /// Both sides see the connection closed, now.
    pub(super) fn break_conn(&mut self, end: EndOf) {
        let use_no = self.conns.use_no(end);
        for end in [end, end.other()] {
            self.queue.push(self.now, Event::Closed { end, use_no });
        }
    }
}
