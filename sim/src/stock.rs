//! What people have stored, who asked for it, and what came: found, lost, or there and not found.
//!
//! Lives here: items, errands and how each ended. Does not live here: who wants what when
//! (`run/store.rs`), the transfers (`files.rs`), what disks hold (`world.rs`).
//!
//! An item *is there* when the disks of routers that run and are awake own what it takes: its block, or of
//! each segment of a file as many blocks as decode it. A get is *missed* when its item was there when it
//! was asked for and when it ended, and yet did not come; it is *lost* when the item was not there at one
//! of the two moments. Copies that only lie in caches count for nothing here.

use std::collections::BTreeMap;

use warren_datastore::{
    capability::ReadCap,
    erasure::Code,
    file::{Place, ROOT_LEVEL},
};
use warren_overlay::{
    block::{BLOCK_LEN, Block, BlockAddress},
    time::Time,
};
use warren_router::node::JobNo;

use crate::{
    asker::{Asker, Told},
    files::{Came, Files, encoder},
    net::{HostNo, Net},
};

/// An item's number in the order of storing.
pub type ItemNo = usize;

/// Blocks of which so many are enough.
#[derive(Clone, Debug)]
struct Segment {
    enough: usize,
    blocks: Vec<BlockAddress>,
}

/// Something that somebody stored, or tried to.
#[derive(Debug)]
struct Item {
    segments: Vec<Segment>,
    /// Hash of its bytes, and their number.
    hash: blake3::Hash,
    bytes: u64,
    /// What reads it: of files, once stored.
    cap: Option<ReadCap>,
    stored: bool,
}

/// What an errand was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Errand {
    /// To store it.
    Put,
    /// Somebody wanted it.
    Get,
    /// It was asked for because everything was, for the so-manieth time, from 1 on.
    Sweep(u32),
}

/// How an errand ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It goes on.
    Pending,
    /// All of it came, or is stored.
    Done,
    /// It was there and was not found.
    Missed,
    /// It was not there.
    Lost,
    /// What came is not what was stored.
    Wrong,
    /// It could not be stored.
    Failed,
    /// The router of whoever wanted it was stopped.
    Cut,
}

/// One errand.
#[derive(Clone, Debug)]
pub struct Trip {
    /// At whose router.
    pub host: HostNo,
    /// What for.
    pub errand: Errand,
    /// Of which item.
    pub item: ItemNo,
    /// When.
    pub asked: Time,
    /// When it ended.
    pub ended: Time,
    /// How.
    pub how: Ended,
    /// Requests that it took, and the most routers that one of them asked.
    pub asks: (u64, u8),
    /// Of a put: copies that were confirmed, of the block with the fewest. Of a get: routers that owned
    /// such a block when it ended.
    pub copies: u32,
    there: bool,
}

/// How often each owned block lies on the disks of routers that run and are awake.
pub(crate) type Owned<'a> = dyn Fn(&BlockAddress) -> u32 + 'a;

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Stock {
    items: Vec<Item>,
    /// Items that are stored, in the order in which they came to be so.
    stored: Vec<ItemNo>,
    trips: Vec<Trip>,
    under_way: BTreeMap<JobNo, usize>,
    /// At whose router something else came of which item than what was stored.
    wrong: Option<(HostNo, ItemNo)>,
}

impl Item {
    /// Whether it is there, and the fewest copies of a block of which it cannot do without.
    ///
    /// Of a segment of which `enough` blocks decode it, that is the copies of the `enough`-th best.
    fn there(&self, owned: &Owned<'_>) -> (bool, u32) {
        let copies = self.segments.iter().map(|segment| {
            let mut copies: Vec<u32> = segment.blocks.iter().map(owned).collect();
            copies.sort_unstable_by(|a, b| b.cmp(a));
            copies.get(segment.enough.saturating_sub(1)).copied().unwrap_or(0)
        });
        let least = copies.min().unwrap_or(0);
        (least > 0, least)
    }
}

/// A file's segments: any data blocks' worth decodes one; of the root any copy will do.
fn segments(placed: Vec<(Place, BlockAddress)>, code: Code) -> Vec<Segment> {
    let mut segments: BTreeMap<(u8, u64), Segment> = BTreeMap::new();
    for (place, address) in placed {
        let empty = Segment { enough: 1, blocks: Vec::new() };
        segments.entry((place.level, place.segment)).or_insert(empty).blocks.push(address);
    }
    for ((level, _), segment) in &mut segments {
        if *level != ROOT_LEVEL {
            let code = if *level == 0 { code } else { Code::Durable };
            let total = segment.blocks.len() as u64;
            let data = (1..=total).find(|data| data + code.parity(*data) == total);
            segment.enough = usize::try_from(data.unwrap_or(total)).unwrap_or(usize::MAX);
        }
    }
    segments.into_values().collect()
}

impl Stock {
    /// Somebody stores a block of these bytes, filled up with zeros.
    pub(crate) fn put_block(
        &mut self,
        net: &mut Net,
        files: &mut Files,
        host: HostNo,
        mut bytes: Vec<u8>,
    ) -> ItemNo {
        bytes.resize(BLOCK_LEN, 0);
        let block = Block::copy_from(&bytes).expect("it was made as long as a block");
        let segments = vec![Segment { enough: 1, blocks: vec![block.address()] }];
        let item = self.enter(segments, &bytes);
        let trip = self.sets_out(net, host, Errand::Put, item, false);
        let job = files.block(net, host, Asker::put(block));
        self.under_way.insert(job, trip);
        item
    }

    /// Somebody stores a file.
    pub(crate) fn put_file(
        &mut self,
        net: &mut Net,
        files: &mut Files,
        host: HostNo,
        bytes: Vec<u8>,
    ) -> ItemNo {
        let mut encoder = encoder(net, host, &bytes);
        let (mut placed, mut rest) = (Vec::new(), &bytes[..]);
        while encoder.read_cap().is_none() {
            // The bytes are in memory and did not change.
            let taken = encoder.push(rest).unwrap_or(0);
            rest = rest.get(taken..).unwrap_or_default();
            if rest.is_empty() {
                let _ = encoder.finish();
            }
            while let Some(it) = encoder.poll_block() {
                placed.push((it.place, it.block.address()));
            }
        }
        let code = Code::of_file(bytes.len() as u64, false);
        let item = self.enter(segments(placed, code), &bytes);
        let trip = self.sets_out(net, host, Errand::Put, item, false);
        let job = files.put(net, host, bytes);
        self.under_way.insert(job, trip);
        item
    }

    fn enter(&mut self, segments: Vec<Segment>, bytes: &[u8]) -> ItemNo {
        let (hash, bytes) = (blake3::hash(bytes), bytes.len() as u64);
        self.items.push(Item { segments, hash, bytes, cap: None, stored: false });
        self.items.len() - 1
    }

    fn sets_out(
        &mut self,
        net: &Net,
        host: HostNo,
        errand: Errand,
        item: ItemNo,
        there: bool,
    ) -> usize {
        self.trips.push(Trip {
            host,
            errand,
            item,
            asked: net.time(),
            ended: net.time(),
            how: Ended::Pending,
            asks: (0, 0),
            copies: 0,
            there,
        });
        self.trips.len() - 1
    }

    /// Whether an item is there.
    pub(crate) fn is_there(&self, item: ItemNo, owned: &Owned<'_>) -> bool {
        self.items.get(item).is_some_and(|item| item.there(owned).0)
    }

    /// Somebody asks for an item that was stored, and that is there or not.
    pub(crate) fn get(
        &mut self,
        net: &mut Net,
        files: &mut Files,
        (host, errand, no): (HostNo, Errand, ItemNo),
        there: bool,
    ) {
        let Some(item) = self.items.get(no).filter(|item| item.stored) else { return };
        let block = item.segments.first().and_then(|segment| segment.blocks.first());
        let job = match (&item.cap, block) {
            (Some(cap), _) => files.get(net, host, cap.duplicate()),
            (None, Some(address)) => files.block(net, host, Asker::get(*address)),
            (None, None) => return,
        };
        let trip = self.sets_out(net, host, errand, no, there);
        self.under_way.insert(job, trip);
    }

    /// A transfer is over; perhaps it was not one of these.
    pub(crate) fn over(&mut self, now: Time, files: &mut Files, job: JobNo, owned: &Owned<'_>) {
        let Some(trip) = self.under_way.remove(&job) else { return };
        let (Some(trip), Some(came)) = (self.trips.get_mut(trip), files.take(job)) else { return };
        let Some(item) = self.items.get_mut(trip.item) else { return };
        let (there, owners) = item.there(owned);
        let not_come = if trip.there && there { Ended::Missed } else { Ended::Lost };
        trip.ended = now;
        if trip.errand != Errand::Put {
            trip.copies = owners;
        }
        trip.how = match came {
            Came::Cut => Ended::Cut,
            Came::Stored { cap: Some(cap), copies } => {
                (item.cap, item.stored, trip.copies) = (Some(cap), true, copies.into());
                Ended::Done
            }
            Came::Stored { cap: None, .. } => Ended::Failed,
            Came::Fetched { got, whole, asks } => {
                trip.asks = asks;
                match (whole, blake3::hash(&got) == item.hash) {
                    (true, true) => Ended::Done,
                    (true, false) => Ended::Wrong,
                    (false, _) => not_come,
                }
            }
            Came::Block(asker) => {
                trip.asks = (asker.asks(), asker.routers());
                match asker.told() {
                    Some(Told::Found) => Ended::Done,
                    Some(Told::Stored(copies)) => {
                        (item.stored, trip.copies) = (true, copies.into());
                        Ended::Done
                    }
                    _ if trip.errand == Errand::Put => Ended::Failed,
                    _ => not_come,
                }
            }
        };
        if trip.how == Ended::Wrong {
            self.wrong.get_or_insert((trip.host, trip.item));
        }
        if trip.errand == Errand::Put && trip.how == Ended::Done {
            self.stored.push(trip.item);
        }
    }

    /// Items that are stored, in the order in which they came to be so.
    pub(crate) fn stored(&self) -> &[ItemNo] {
        &self.stored
    }

    /// At whose router something came that is not what was stored, if ever.
    pub(crate) const fn wrong(&self) -> Option<(HostNo, ItemNo)> {
        self.wrong
    }

    /// All errands, in the order in which people set out.
    pub(crate) fn trips(&self) -> &[Trip] {
        &self.trips
    }

    /// Bytes of an item.
    pub(crate) fn bytes(&self, item: ItemNo) -> u64 {
        self.items.get(item).map_or(0, |item| item.bytes)
    }

    /// Of each item that was stored: whether it is there, and its copies.
    pub(crate) fn there(&self, owned: &Owned<'_>) -> Vec<(bool, u32)> {
        let items = self.stored.iter().filter_map(|no| self.items.get(*no));
        items.map(|item| item.there(owned)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u8) -> BlockAddress {
        BlockAddress([n; 32])
    }

    fn item(segments: Vec<Segment>) -> Item {
        Item { segments, hash: blake3::hash(b""), bytes: 0, cap: None, stored: true }
    }

    #[test]
    fn a_file_is_there_while_every_segment_can_be_decoded() {
        let root = Segment { enough: 1, blocks: vec![address(1), address(2)] };
        let content = Segment { enough: 2, blocks: vec![address(3), address(4), address(5)] };
        let file = item(vec![root, content]);
        let owned = |gone: &'static [u8]| {
            move |it: &BlockAddress| if gone.contains(&it.0[0]) { 0 } else { 3 }
        };
        assert_eq!(file.there(&owned(&[])), (true, 3));
        assert_eq!(file.there(&owned(&[1, 4])), (true, 3));
        assert_eq!(file.there(&owned(&[3, 4])), (false, 0));
        assert_eq!(file.there(&owned(&[1, 2])), (false, 0));
    }

    #[test]
    fn of_a_segment_as_many_blocks_are_enough_as_it_has_data() {
        let place = |level, index| Place { level, segment: 0, index };
        let content = (0..192).map(|index| (place(0, index), address(1)));
        let roots = (0..3).map(|index| (place(ROOT_LEVEL, index), address(2)));
        let segments = segments(content.chain(roots).collect(), Code::Standard);
        let enough: Vec<_> = segments.iter().map(|it| (it.enough, it.blocks.len())).collect();
        assert_eq!(enough, [(128, 192), (1, 3)]);
    }
}
