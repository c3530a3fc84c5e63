//! What must hold of the holder's blocks.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use proptest::prelude::*;
use warren_overlay::{
    block::{Block, BlockAddress},
    id::{LinkNo, Location},
    ring::{Claim, Compare, Held, Repair, Says, StoreOp},
    rng::Rng,
    time::{Now, Time, Wall},
    unit::UnitKey,
};

use super::*;
use crate::{
    blocks::{BLOCK_COST, BlockLimits, Kept, MemoryBlocks, Shelf, Usage, testing::block},
    memory::MemoryRecords,
    store::StoreError,
};

const OWN: Location = Location(0);

fn at(ms: u64) -> Now {
    Now { time: Time::from_micros(ms * 1_000), wall: Wall::from_minutes(1_000) }
}

fn limits(owned: u64) -> BlockLimits {
    let cache = 16 * BLOCK_COST;
    BlockLimits { owned: owned * BLOCK_COST, cache, pinned: cache, client: cache, front: 0 }
}

/// A store whose syncs the test counts, and can make fail.
#[derive(Debug)]
struct Watched {
    inner: MemoryBlocks,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    commits: u32,
    broken: bool,
    mended: u32,
}

impl BlockStore for Watched {
    fn get(&mut self, on: Shelf, address: &BlockAddress) -> Result<Option<Block>, StoreError> {
        self.inner.get(on, address)
    }
    fn put(&mut self, on: Shelf, block: &Block) -> Result<Kept, StoreError> {
        self.inner.put(on, block)
    }
    fn commit(&mut self) -> Result<(), StoreError> {
        let mut seen = self.seen.lock().unwrap();
        seen.commits += 1;
        if seen.broken { Err(StoreError::Disk("no space".into())) } else { Ok(()) }
    }
    fn remove(&mut self, on: Shelf, address: &BlockAddress) -> Result<bool, StoreError> {
        self.inner.remove(on, address)
    }
    fn holds(&self, on: Shelf, address: &BlockAddress) -> bool {
        self.inner.holds(on, address)
    }
    fn addresses(
        &self,
        on: Shelf,
        after: Option<&BlockAddress>,
        limit: usize,
    ) -> Vec<BlockAddress> {
        self.inner.addresses(on, after, limit)
    }
    fn usage(&self, on: Shelf) -> Usage {
        self.inner.usage(on)
    }
    fn damaged(&self) -> u64 {
        0
    }
    fn note(&mut self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.note(name)
    }
    fn set_note(&mut self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.inner.set_note(name, bytes)
    }
    fn mend(&mut self) -> Result<(), StoreError> {
        let mut seen = self.seen.lock().unwrap();
        seen.mended += 1;
        seen.broken = false;
        Ok(())
    }
}

fn holder(owned: u64) -> (Holder, Arc<Mutex<Seen>>) {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let store = Watched { inner: MemoryBlocks::new(limits(owned)), seen: Arc::clone(&seen) };
    let holder = Holder::new(Box::new(MemoryRecords::default()), OWN, Rng::from_seed([0; 32]));
    (holder.with_blocks(Box::new(store), REPAIR_RATE), seen)
}

fn put(holder: &mut Holder, now: Now, ticket: u32, n: u32, from: Option<u32>) {
    let op = StoreOp::Put { unit: block(n).into(), from: from.map(LinkNo) };
    holder.handle_input(now, HolderInput::Store { ticket: Some(ticket), op });
}

fn held(holder: &mut Holder) -> Vec<(u32, Held)> {
    let outputs = std::iter::from_fn(|| holder.poll_output());
    let held = |output| match output {
        HolderOutput::Held { ticket, held } => Some((ticket, held)),
        _ => None,
    };
    outputs.filter_map(held).collect()
}

/// What a neighbour without any block says when it is compared with.
fn has_nothing(link: LinkNo, compare: &Compare) -> HolderInput {
    let claim = |it: &Claim| Claim { stretch: it.stretch, says: Says::Has(Vec::new()) };
    let claims = compare.claims.iter().map(claim).collect();
    let repair = Repair::Compare(Compare { salt: compare.salt, claims });
    HolderInput::Repair { link, repair }
}

fn get(holder: &mut Holder, now: Now, n: u32) -> Held {
    let op = StoreOp::Get(UnitKey::Block(block(n).address()));
    holder.handle_input(now, HolderInput::Store { ticket: Some(9_999), op });
    held(holder).pop().unwrap().1
}

#[test]
fn puts_are_acknowledged_after_one_sync_that_they_share() {
    let (mut holder, seen) = holder(1_000);
    for n in 0..10 {
        put(&mut holder, at(0), n, n, Some(1));
    }
    assert_eq!(held(&mut holder), []);
    assert!(holder.blocks.poll_timeout() <= Some(at(5).time));
    holder.handle_timeout(at(5));
    let all: Vec<_> = (0..10).map(|ticket| (ticket, Held::Stored)).collect();
    assert_eq!((held(&mut holder), seen.lock().unwrap().commits), (all, 1));
    // Thirty-two do not wait.
    for n in 10..42 {
        put(&mut holder, at(6), n, n, Some(1));
    }
    assert_eq!((held(&mut holder).len(), seen.lock().unwrap().commits), (32, 2));
    assert_eq!(get(&mut holder, at(7), 3), Held::Found(block(3).into()));
    assert_eq!(get(&mut holder, at(7), 300), Held::Missing);
}

#[test]
fn what_could_not_be_synced_is_refused_and_the_disk_is_tried_again() {
    let (mut holder, seen) = holder(1_000);
    seen.lock().unwrap().broken = true;
    put(&mut holder, at(0), 1, 1, Some(1));
    holder.handle_timeout(at(5));
    assert_eq!(held(&mut holder), [(1, Held::Refused)]);
    put(&mut holder, at(10), 2, 2, Some(1));
    assert_eq!(held(&mut holder), [(2, Held::Refused)], "not even tried");
    holder.handle_timeout(at(30_005));
    assert_eq!(seen.lock().unwrap().mended, 1);
    put(&mut holder, at(30_010), 3, 3, Some(1));
    holder.handle_timeout(at(30_015));
    assert_eq!(held(&mut holder), [(3, Held::Stored)]);
    assert_eq!(holder.status().failures, 1);
}

#[test]
fn the_ring_never_hears_of_what_the_person_here_fetched_or_pinned() {
    let (mut holder, _) = holder(100);
    for (n, on) in [(1, Shelf::Client), (2, Shelf::Pinned)] {
        holder.blocks.store.put(on, &block(n)).unwrap();
        assert_eq!(get(&mut holder, at(0), n), Held::Missing);
        let blocks = vec![block(n).address()];
        holder.handle_input(
            at(0),
            HolderInput::Repair { link: LinkNo(1), repair: Repair::Want(blocks) },
        );
        assert_eq!(holder.poll_output(), None);
    }
}

#[test]
fn one_link_cannot_fill_the_store_and_others_still_get_in() {
    let (mut holder, _) = holder(100);
    let mut stored = [0; 3];
    for n in 0..300 {
        for (link, stored) in (0..).zip(&mut stored) {
            let number = n * 3 + link;
            // Link 0 floods; the others bring little.
            if link == 0 || n < 10 {
                put(&mut holder, at(u64::from(n) * 10), number, number, Some(link + 1));
                holder.handle_timeout(at(u64::from(n) * 10 + 6));
                let got = held(&mut holder);
                *stored += u32::from(got.iter().any(|(_, held)| *held == Held::Stored));
            }
        }
    }
    assert_eq!(stored, [25, 10, 10], "a quarter, and all of the others'");
    let (mut full, _) = self::holder(8);
    for n in 0..40 {
        put(&mut full, at(0), n, n, Some(n % 8));
        full.handle_timeout(at(6));
    }
    assert!(full.blocks.usage(Shelf::Owned).blocks <= 8);
}

#[test]
fn a_block_that_was_offered_is_asked_for_once_and_taken_from_the_cache_if_it_is_there() {
    let (mut holder, _) = holder(100);
    let around = (1..4).map(|link| (LinkNo(link), Location(u64::from(link) << 40))).collect();
    holder.handle_input(at(0), HolderInput::Neighbourhood(around));
    holder.blocks.store.put(Shelf::Cache, &block(2)).unwrap();
    let blocks: Vec<_> = (1..4).map(|n| block(n).address()).collect();
    let offer =
        |link| HolderInput::Repair { link: LinkNo(link), repair: Repair::Offer(blocks.clone()) };
    holder.handle_input(at(0), offer(1));
    let want = vec![block(1).address(), block(3).address()];
    let wanted = HolderOutput::Repair { link: LinkNo(1), repair: Repair::Want(want.clone()) };
    assert_eq!(holder.poll_output(), Some(wanted));
    holder.handle_input(at(1), offer(2));
    assert_eq!(holder.poll_output(), None, "somebody was asked already");
    assert_eq!(get(&mut holder, at(2), 2), Held::Found(block(2).into()));
    assert!(holder.blocks.entries.contains_key(&block(2).address()), "it is owned now");
    // Nothing came: another may be asked, and at once if that one's link is gone.
    for (ms, link, asked) in [(11_000, 1, false), (11_000, 2, true), (12_000, 3, false)] {
        holder.handle_input(at(ms), offer(link));
        let wanted =
            HolderOutput::Repair { link: LinkNo(link), repair: Repair::Want(want.clone()) };
        assert_eq!(holder.poll_output(), asked.then_some(wanted), "of {link} after {ms} ms");
    }
    let around = vec![(LinkNo(1), Location(1 << 40)), (LinkNo(3), Location(3 << 40))];
    holder.handle_input(at(12_000), HolderInput::Neighbourhood(around));
    holder.handle_input(at(12_000), offer(3));
    let asks = |it| matches!(it, HolderOutput::Repair { repair: Repair::Want(_), .. });
    assert!(std::iter::from_fn(|| holder.poll_output()).any(asks), "the link is gone");
}

#[test]
fn a_full_router_asks_for_copies_only_if_they_are_closer_than_what_would_go() {
    let (mut holder, _) = holder(4);
    holder.handle_input(at(0), HolderInput::Neighbourhood(vec![(LinkNo(1), Location(1 << 40))]));
    let mut all: Vec<u32> = (0..40).collect();
    all.sort_by_key(|n| OWN.distance(block(*n).address().location()));
    let (close, rest) = all.split_at(1);
    let (kept, far) = rest.split_at(4);
    for (n, from) in kept.iter().zip([None, None, Some(2), Some(3)]) {
        put(&mut holder, at(0), *n, *n, from);
    }
    assert_eq!(holder.blocks.usage(Shelf::Owned).blocks, 4);
    held(&mut holder);
    let offer = |n: u32| HolderInput::Repair {
        link: LinkNo(1),
        repair: Repair::Offer(vec![block(n).address()]),
    };
    let asks = |holder: &mut Holder| {
        std::iter::from_fn(|| holder.poll_output())
            .any(|it| matches!(it, HolderOutput::Repair { repair: Repair::Want(_), .. }))
    };
    holder.handle_input(at(10), offer(far[0]));
    assert!(!asks(&mut holder), "it would push out what is closer");
    holder.handle_input(at(10), offer(close[0]));
    assert!(asks(&mut holder));
}

#[test]
fn a_flood_pushes_out_an_eighth_a_day_of_what_lay_here_before_and_then_itself() {
    const DAY_MS: u64 = 24 * 3_600_000;
    let (mut holder, _) = holder(400);
    // What was there before: of links that are gone, which are the first to give way.
    let old = 0..360u32;
    for n in old.clone() {
        put(&mut holder, at(u64::from(n) * 10), n, n, Some(n % 8));
    }
    holder.handle_input(at(10_000), HolderInput::Neighbourhood(Vec::new()));
    let owns = |holder: &Holder, n| holder.blocks.entries.contains_key(&block(n).address());
    let left = |holder: &Holder| old.clone().filter(|n| owns(holder, *n)).count();
    assert_eq!(left(&holder), 360);

    // Ten times as much comes over eight links, within the pace of each.
    let mut stored = 0;
    for n in 0..3_600u32 {
        let now = at(2 * DAY_MS + u64::from(n) * 10);
        put(&mut holder, now, n, 1_000 + n, Some(8 + n % 8));
        holder.handle_timeout(at(2 * DAY_MS + u64::from(n) * 10 + 5));
        stored += held(&mut holder).iter().filter(|(_, held)| *held == Held::Stored).count();
    }
    assert!(left(&holder) >= 345 && left(&holder) < 360, "{}", left(&holder));
    assert!(stored > 90, "{stored}: what is closer still comes in");

    // A day later as much again may go, and no more.
    for n in 0..3_600u32 {
        put(&mut holder, at(4 * DAY_MS + u64::from(n) * 10), n, 9_000 + n, Some(8 + n % 8));
    }
    assert!(left(&holder) >= 290, "{}", left(&holder));
}

#[test]
fn a_copy_goes_when_five_are_closer_and_not_before_the_three_were_asked() {
    let place = block(1).address().location();
    for (closer, stays) in [(4u32, true), (5, false)] {
        let (mut holder, _) = holder(100);
        put(&mut holder, at(0), 1, 1, None);
        let around = (1..=closer).map(|n| (LinkNo(n), Location(place.0.wrapping_add(n.into()))));
        holder.handle_input(at(0), HolderInput::Neighbourhood(around.collect()));
        let (mut ms, mut offered) = (0, 0);
        while ms < 1_800_000 {
            ms = holder.poll_timeout().map_or(ms + 1_000, |due| due.as_micros().div_ceil(1_000));
            holder.handle_timeout(at(ms));
            let there = holder.blocks.entries.contains_key(&block(1).address());
            // Whoever does not ask for what is offered has it.
            while let Some(output) = holder.poll_output() {
                offered += usize::from(matches!(
                    output,
                    HolderOutput::Repair { repair: Repair::Offer(_), .. }
                ));
            }
            assert!(there || offered >= 3, "gone before it was offered to the three");
        }
        assert_eq!(holder.blocks.entries.contains_key(&block(1).address()), stays);
    }
}

#[test]
fn what_a_neighbour_refuses_again_and_again_is_offered_less_and_less_often() {
    let (mut holder, _) = holder(100);
    put(&mut holder, at(0), 1, 1, None);
    holder.handle_timeout(at(10));
    held(&mut holder);
    let around = vec![(LinkNo(1), Location(1 << 40))];
    holder.handle_input(at(10), HolderInput::Neighbourhood(around));
    let (mut ms, mut offers) = (10, Vec::new());
    while ms < 3_600_000 {
        while let Some(output) = holder.poll_output() {
            match output {
                HolderOutput::Repair { link, repair: Repair::Compare(compare) } => {
                    holder.handle_input(at(ms), has_nothing(link, &compare));
                }
                HolderOutput::Repair { link, repair: Repair::Offer(blocks) } => {
                    offers.push(ms);
                    holder.handle_input(
                        at(ms),
                        HolderInput::Repair { link, repair: Repair::Want(blocks) },
                    );
                }
                HolderOutput::Push { push, .. } => {
                    let input = HolderInput::Pushed { push, stored: false };
                    holder.handle_input(at(ms), input);
                }
                _ => {}
            }
        }
        let due = holder.poll_timeout().map_or(ms + 100, |due| due.as_micros().div_ceil(1_000));
        ms = due.max(ms + 1);
        holder.handle_timeout(at(ms));
    }
    assert!(offers[1] - offers[0] <= 21_000, "soon at first: {offers:?}");
    assert!((8..=20).contains(&offers.len()), "{offers:?}");
}

#[test]
fn who_leaves_offers_all_its_blocks_at_once() {
    let (mut holder, _) = holder(1_000);
    for n in 0..200 {
        put(&mut holder, at(0), n, n, None);
    }
    holder.handle_timeout(at(10));
    held(&mut holder);
    let around = (1..=3).map(|n| (LinkNo(n), Location(u64::from(n) << 40))).collect();
    holder.handle_input(at(10), HolderInput::Neighbourhood(around));
    holder.handle_input(at(20), HolderInput::HandOver);
    let mut offered = BTreeMap::<LinkNo, BTreeSet<BlockAddress>>::new();
    while let Some(output) = holder.poll_output() {
        if let HolderOutput::Repair { link, repair: Repair::Offer(blocks) } = output {
            assert!(blocks.len() <= 64);
            offered.entry(link).or_default().extend(blocks);
        }
    }
    assert_eq!(offered.values().map(BTreeSet::len).collect::<Vec<_>>(), [200; 3]);
}

#[test]
fn repair_goes_no_faster_than_it_may() {
    let (mut holder, _) = holder(1_000);
    for n in 0..200 {
        put(&mut holder, at(0), n, n, None);
    }
    holder.handle_timeout(at(10));
    held(&mut holder);
    let around = vec![(LinkNo(1), Location(1 << 40))];
    holder.handle_input(at(10), HolderInput::Neighbourhood(around));
    let (mut ms, mut pushed) = (10, 0);
    while ms < 20_000 {
        while let Some(output) = holder.poll_output() {
            match output {
                HolderOutput::Repair { link, repair: Repair::Compare(compare) } => {
                    holder.handle_input(at(ms), has_nothing(link, &compare));
                }
                HolderOutput::Repair { link, repair: Repair::Offer(blocks) } => {
                    assert!(blocks.len() <= 64);
                    holder.handle_input(
                        at(ms),
                        HolderInput::Repair { link, repair: Repair::Want(blocks) },
                    );
                }
                HolderOutput::Push { push, .. } => {
                    pushed += 1;
                    let input = HolderInput::Pushed { push, stored: true };
                    holder.handle_input(at(ms), input);
                }
                _ => {}
            }
        }
        let due = holder.poll_timeout().map_or(ms + 100, |due| due.as_micros().div_ceil(1_000));
        ms = due.max(ms + 1);
        holder.handle_timeout(at(ms));
    }
    // 125 kB/s for 19 s are 72 blocks.
    assert!((60..=80).contains(&pushed), "{pushed}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_put_is_answered_once_and_bounds_hold_whatever_neighbours_do(
        acts in prop::collection::vec((0u8..8, 0u32..40, 1u32..5), 1..120),
    ) {
        let (mut holder, _) = holder(24);
        let (mut ms, mut tickets, mut answered) = (0, 0u32, Vec::new());
        for (act, n, link) in acts {
            let (now, link) = (at(ms), LinkNo(link));
            let blocks = vec![block(n).address(), block(n + 1).address()];
            match act {
                0..=2 => {
                    put(&mut holder, now, tickets, n, Some(link.0));
                    tickets += 1;
                }
                3 => holder.handle_input(now, HolderInput::Repair { link, repair: Repair::Offer(blocks) }),
                4 => holder.handle_input(now, HolderInput::Repair { link, repair: Repair::Want(blocks) }),
                5 => {
                    let input = HolderInput::Pushed { push: n % 4, stored: n % 2 == 0 };
                    holder.handle_input(now, input);
                }
                6 => {
                    let around = (0..n % 6).map(|it| (LinkNo(it), Location(u64::from(it) << 60)));
                    holder.handle_input(now, HolderInput::Neighbourhood(around.collect()));
                }
                _ => {
                    ms += u64::from(n) * 50;
                    holder.handle_timeout(at(ms));
                }
            }
            answered.extend(held(&mut holder).into_iter().map(|(ticket, _)| ticket));
            let usage = holder.blocks.usage(Shelf::Owned);
            prop_assert!(usage.bytes <= usage.bytes_max);
            prop_assert_eq!(usage.blocks, holder.blocks.entries.len() as u64);
        }
        holder.handle_timeout(at(ms + 10));
        answered.extend(held(&mut holder).into_iter().map(|(ticket, _)| ticket));
        answered.sort_unstable();
        prop_assert_eq!(answered, (0..tickets).collect::<Vec<_>>());
    }
}
