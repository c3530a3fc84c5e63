//! Connections: the wires between two routers.
//!
//! Lives here: which link of which router ends where, what waits for a sleeper or behind a
//! partition, bytes on their way, the bandwidth of a router. Does not live here: when anything
//! happens (`net.rs`).
//!
//! As over TCP, what one side sends arrives whole and in order, or the connection ends. Silence (a
//! sleeping router, a partition) keeps everything back until it is over.

use std::{collections::VecDeque, time::Duration};

use warren_overlay::{id::LinkNo, time::Time};

use crate::net::HostNo;

/// One end of a connection: the connection's number doubled, plus the side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EndOf(u32);

impl EndOf {
    const fn of(conn: u32, side: u32) -> Self {
        Self(conn << 1 | side)
    }

    const fn conn(self) -> usize {
        (self.0 >> 1) as usize
    }

    const fn side(self) -> usize {
        (self.0 & 1) as usize
    }

    /// The other end.
    pub(crate) const fn other(self) -> Self {
        Self(self.0 ^ 1)
    }
}

/// What arrives at an end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arrival {
    /// Bytes, by their number in [`Flight`].
    Bytes(u32),
    /// The other side closed.
    Closed,
}

/// One side of a connection.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) host: HostNo,
    pub(crate) link: LinkNo,
    /// This side closed, or knows that the other did.
    over: bool,
    /// When the last thing sent to this side arrives: nothing overtakes.
    pub(crate) last: Time,
    /// Until when this side's socket takes nothing more.
    pub(crate) full_until: Time,
    /// Sent to this side and not yet there.
    pub(crate) coming: u32,
    /// Kept back: the other side cannot be heard. Never an empty queue, and almost always none.
    #[expect(clippy::box_collection, reason = "a side is kept for every link of every router")]
    pub(crate) held: Option<Box<VecDeque<Arrival>>>,
}

impl Side {
    /// The first of what was kept back.
    pub(crate) fn release(&mut self) -> Option<Arrival> {
        let held = self.held.as_mut()?;
        let first = held.pop_front();
        self.held.take_if(|held| held.is_empty());
        first
    }
}

#[derive(Debug)]
struct Conn {
    /// Events for an earlier use of this place carry an earlier number.
    use_no: u32,
    /// In microseconds.
    way: u32,
    /// One side is elsewhere now: nothing gets through, and nobody is told.
    lost: bool,
    sides: [Side; 2],
}

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Conns {
    places: Vec<Conn>,
    free: Vec<u32>,
}

impl Conns {
    /// A connection between two links, `way` long.
    pub(crate) fn open(&mut self, ends: [(HostNo, LinkNo); 2], way: Duration) -> [EndOf; 2] {
        let way = u32::try_from(way.as_micros()).unwrap_or(u32::MAX);
        let sides = ends.map(|(host, link)| Side {
            host,
            link,
            over: false,
            last: Time::ZERO,
            full_until: Time::ZERO,
            coming: 0,
            held: None,
        });
        let reused = self.free.pop();
        let no = reused.unwrap_or_else(|| u32::try_from(self.places.len()).unwrap_or(u32::MAX));
        match self.places.get_mut(no as usize) {
            Some(place) => {
                let use_no = place.use_no.wrapping_add(1);
                *place = Conn { use_no, way, lost: false, sides };
            }
            None => {
                // They are most of what a network takes beside its routers: doubling would leave half empty.
                if self.places.len() == self.places.capacity() {
                    self.places.reserve_exact(64.max(self.places.len() / 8));
                }
                self.places.push(Conn { use_no: 0, way, lost: false, sides });
            }
        }
        [EndOf::of(no, 0), EndOf::of(no, 1)]
    }

    /// Which use of its place this connection is.
    pub(crate) fn use_no(&self, end: EndOf) -> u32 {
        self.places.get(end.conn()).map_or(0, |conn| conn.use_no)
    }

    /// How long one way takes, without jitter.
    pub(crate) fn way(&self, end: EndOf) -> Duration {
        self.places
            .get(end.conn())
            .map_or(Duration::ZERO, |conn| Duration::from_micros(conn.way.into()))
    }

    /// Whose end this is, or was last.
    pub(crate) fn host(&self, end: EndOf) -> HostNo {
        let conn = self.places.get(end.conn());
        conn.and_then(|conn| conn.sides.get(end.side())).map_or(HostNo::MAX, |side| side.host)
    }

    /// From now on nothing gets through.
    pub(crate) fn lose(&mut self, end: EndOf) {
        if let Some(conn) = self.places.get_mut(end.conn()) {
            conn.lost = true;
        }
    }

    /// Whether nothing gets through any more.
    pub(crate) fn is_lost(&self, end: EndOf) -> bool {
        self.places.get(end.conn()).is_some_and(|conn| conn.lost)
    }

    /// A side that is not over.
    pub(crate) fn side(&mut self, end: EndOf) -> Option<&mut Side> {
        let side = self.places.get_mut(end.conn())?.sides.get_mut(end.side())?;
        (!side.over).then_some(side)
    }

    /// A side, if `use_no` is still the use of this connection.
    pub(crate) fn side_in_use(&mut self, end: EndOf, use_no: u32) -> Option<&mut Side> {
        if self.use_no(end) == use_no { self.side(end) } else { None }
    }

    /// A side is over; its place is free again when both are. Gives what was kept back for it.
    pub(crate) fn end(&mut self, end: EndOf) -> VecDeque<Arrival> {
        let Some(conn) = self.places.get_mut(end.conn()) else { return VecDeque::new() };
        let Some(side) = conn.sides.get_mut(end.side()) else { return VecDeque::new() };
        let held = side.held.take().map_or_else(VecDeque::new, |held| *held);
        if !side.over {
            side.over = true;
            if conn.sides.iter().all(|side| side.over) {
                conn.use_no = conn.use_no.wrapping_add(1);
                self.free.push(end.0 >> 1);
            }
        }
        held
    }

    /// The connections whose sides both are not over, and whether nothing is under way on them.
    pub(crate) fn standing(&self) -> impl Iterator<Item = ([(HostNo, LinkNo); 2], bool)> {
        let whole = |conn: &&Conn| conn.sides.iter().all(|side| !side.over);
        self.places.iter().filter(whole).map(|conn| {
            let quiet = conn.sides.iter().all(|side| side.coming == 0);
            (conn.sides.each_ref().map(|side| (side.host, side.link)), quiet)
        })
    }

    /// Every end that something is kept back for, in order.
    pub(crate) fn waiting(&self) -> Vec<EndOf> {
        let ends = (0u32..).zip(&self.places).flat_map(|(no, conn)| {
            let held =
                |side: u32| conn.sides.get(side as usize).is_some_and(|it| it.held.is_some());
            [0, 1].into_iter().filter(move |side| held(*side)).map(move |side| EndOf::of(no, side))
        });
        ends.collect()
    }
}

/// Bytes on their way, kept outside the events so that those stay small.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    places: Vec<Vec<u8>>,
    free: Vec<u32>,
}

impl Flight {
    /// Keeps bytes; says under which number.
    pub(crate) fn add(&mut self, bytes: Vec<u8>) -> u32 {
        let no = self.free.pop();
        match no.and_then(|no| Some((no, self.places.get_mut(no as usize)?))) {
            Some((no, place)) => {
                *place = bytes;
                no
            }
            None => {
                self.places.push(bytes);
                u32::try_from(self.places.len() - 1).unwrap_or(u32::MAX)
            }
        }
    }

    /// Takes bytes out.
    pub(crate) fn take(&mut self, no: u32) -> Vec<u8> {
        self.free.push(no);
        self.places.get_mut(no as usize).map(std::mem::take).unwrap_or_default()
    }
}

/// A router's way out: a token bucket.
#[derive(Clone, Copy, Debug)]
pub struct Uplink {
    /// Bytes a second, above zero.
    pub rate: u64,
    /// Bytes that may leave at once after a pause.
    pub burst: u64,
}

/// The state of an [`Uplink`]: the moment at which the bucket will be full again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    full_at: Time,
}

impl Bucket {
    /// Takes `bytes` out; says when the last of them has left.
    pub(crate) fn take(&mut self, now: Time, uplink: Uplink, bytes: usize) -> Time {
        let micros = |bytes: u64| {
            let micros = u128::from(bytes) * 1_000_000 / u128::from(uplink.rate.max(1));
            Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
        };
        self.full_at = self.full_at.max(now) + micros(bytes as u64);
        let slack = u64::try_from(micros(uplink.burst).as_micros()).unwrap_or(u64::MAX);
        Time::from_micros(self.full_at.as_micros().saturating_sub(slack)).max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_at_once_and_its_rate_from_then_on() {
        let uplink = Uplink { rate: 1_000_000, burst: 100_000 };
        let mut bucket = Bucket::default();
        let now = Time::from_micros(5_000_000);
        assert_eq!(bucket.take(now, uplink, 100_000), now);
        assert_eq!(bucket.take(now, uplink, 500_000), now + Duration::from_millis(500));
        let later = now + Duration::from_secs(10);
        assert_eq!(bucket.take(later, uplink, 100_000), later, "full again");
    }

    #[test]
    fn a_place_that_is_used_again_knows_events_of_its_earlier_use() {
        let mut conns = Conns::default();
        let ends = [(0, LinkNo(1)), (1, LinkNo(2))];
        let [a, b] = conns.open(ends, Duration::ZERO);
        let first = conns.use_no(a);
        conns.end(a);
        assert!(conns.side_in_use(b, first).is_some(), "the other side is not over yet");
        conns.end(b);
        assert_eq!(conns.open(ends, Duration::ZERO), [a, b]);
        assert!(conns.side_in_use(b, first).is_none());
        assert!(conns.side(b).is_some());
    }
}
