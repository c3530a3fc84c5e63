//! What must hold of comparing two holders.

#![expect(
    clippy::zero_sized_map_values,
    reason = "what is compared are the keys of a map; here it maps to nothing"
)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use warren_overlay::{
    block::{Block, BlockAddress},
    crypto::kdf,
    id::{LinkNo, Location},
    ring::{CLAIMS_MAX, Claim, Compare, MARKS_MAX, PARTS, Repair, Says, Stretch},
    rng::Rng,
    time::{Now, Time, Wall},
};

use super::{
    Holder, HolderInput, HolderOutput, REPAIR_RATE,
    compare::{Marker, Teller},
};
use crate::{
    blocks::{BlockStore, Kept, Shelf, Usage},
    memory::MemoryRecords,
    store::StoreError,
};

/// As an address is: the same number, the same 32 random bytes.
fn address(n: u64) -> BlockAddress {
    BlockAddress(kdf::hash("warren test address 1", &[&n.to_be_bytes()]))
}

type Set = BTreeMap<BlockAddress, ()>;

fn set(of: impl IntoIterator<Item = u64>) -> Set {
    of.into_iter().map(|n| (address(n), ())).collect()
}

/// What each finds that the other lacks, and how many claims were made.
fn compared(one: &Set, other: &Set, shared: [&[Stretch]; 2]) -> ([Vec<BlockAddress>; 2], usize) {
    let marker = Marker::new(&[3; 16]);
    let mut tellers =
        [Teller::new(one, shared[0], &marker), Teller::new(other, shared[1], &marker)];
    for stretch in shared[0] {
        tellers[0].begin(*stretch);
    }
    let mut claims = 0;
    for turn in 1.. {
        let said = std::mem::take(&mut tellers[(turn + 1) % 2].claims);
        if said.is_empty() && tellers[turn % 2].claims.is_empty() {
            break;
        }
        claims += said.len();
        for claim in &said {
            tellers[turn % 2].answer(claim);
        }
        assert!(turn < 64, "it goes on and on");
    }
    let [mine, theirs] = tellers.map(|teller| {
        let mut missing = teller.missing;
        missing.sort_unstable();
        missing
    });
    ([mine, theirs], claims)
}

fn without(one: &Set, other: &Set, shared: &[Stretch]) -> Vec<BlockAddress> {
    let inside = |it: &BlockAddress| {
        let place = it.location();
        shared.iter().any(|it| it.first() <= place && place <= it.last())
    };
    one.keys().filter(|it| !other.contains_key(it) && inside(it)).copied().collect()
}

fn any_stretch() -> impl Strategy<Value = Stretch> {
    (any::<u64>(), any::<u64>()).prop_map(|(one, other)| {
        Stretch::new(Location(one.min(other)), Location(one.max(other))).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn each_finds_what_the_other_lacks_and_nothing_else(
        both in 0u64..3_000,
        mine in 0u64..200,
        theirs in 0u64..200,
        one_shares in any_stretch(),
        other_shares in any_stretch(),
        all: bool,
    ) {
        let one = set((0..both).chain(10_000..10_000 + mine));
        let other = set((0..both).chain(20_000..20_000 + theirs));
        let whole = [Stretch::whole()];
        let shared = if all { [whole, whole] } else { [[one_shares], [other_shares]] };
        let (found, claims) = compared(&one, &other, [&shared[0], &shared[1]]);
        let agreed: Vec<Stretch> = shared[0][0].within(shared[1][0]).into_iter().collect();
        prop_assert_eq!(&found[0], &without(&one, &other, &agreed));
        prop_assert_eq!(&found[1], &without(&other, &one, &agreed));
        // A sum, and for each difference no more than a way down to it and an answer.
        let differences = found[0].len() + found[1].len();
        prop_assert!(claims <= 5 + differences * 6, "{} for {}", claims, differences);
    }

    #[test]
    fn nobody_learns_of_what_is_not_his_and_answers_are_bounded_whatever_is_claimed(
        held in 0u64..500,
        shared in any_stretch(),
        stretch in any_stretch(),
        marks in prop::collection::btree_set(any::<u64>(), 1..=MARKS_MAX),
        kind in 0..5,
    ) {
        let all = set(0..held);
        let marks: Vec<u64> = marks.into_iter().collect();
        let says = match kind {
            0 => Says::Sum(marks[0]),
            1 => Says::Parts([marks[0]; PARTS]),
            2 => Says::Has(marks),
            3 => Says::Lacks(marks),
            _ => Says::Apart,
        };
        let (marker, shared) = (Marker::new(&[9; 16]), [shared]);
        let mut teller = Teller::new(&all, &shared, &marker);
        teller.answer(&Claim { stretch, says });
        prop_assert!(teller.claims.len() <= PARTS + 4);
        prop_assert!(teller.marks <= 3 * held);
        for claim in &teller.claims {
            let both = claim.stretch.within(shared[0]);
            prop_assert_eq!(both, (claim.says != Says::Apart).then_some(claim.stretch));
        }
        let inside = |it: &BlockAddress| {
            shared[0].first() <= it.location() && it.location() <= shared[0].last()
        };
        prop_assert!(teller.missing.iter().all(inside));
    }
}

#[test]
fn another_salt_is_another_mark() {
    let (all, whole) = (set(0..40), [Stretch::whole()]);
    let sums = [1, 2].map(|salt| {
        let marker = Marker::new(&[salt; 16]);
        let mut teller = Teller::new(&all, &whole, &marker);
        teller.begin(Stretch::whole());
        teller.claims
    });
    assert_ne!(sums[0], sums[1]);
}

/// A store that has these addresses and no blocks.
#[derive(Debug)]
struct Listed(BTreeSet<BlockAddress>);

impl BlockStore for Listed {
    fn get(&mut self, _: Shelf, _: &BlockAddress) -> Result<Option<Block>, StoreError> {
        Ok(None)
    }
    fn put(&mut self, _: Shelf, _: &Block) -> Result<Kept, StoreError> {
        Ok(Kept::Declined)
    }
    fn commit(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
    fn remove(&mut self, _: Shelf, _: &BlockAddress) -> Result<bool, StoreError> {
        Ok(false)
    }
    fn holds(&self, _: Shelf, address: &BlockAddress) -> bool {
        self.0.contains(address)
    }
    fn addresses(&self, _: Shelf, after: Option<&BlockAddress>, limit: usize) -> Vec<BlockAddress> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.0.range((from, Unbounded)).take(limit).copied().collect()
    }
    fn usage(&self, _: Shelf) -> Usage {
        Usage { blocks: self.0.len() as u64, bytes: 0, bytes_max: u64::MAX }
    }
    fn damaged(&self) -> u64 {
        0
    }
    fn note(&mut self, _: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(None)
    }
    fn set_note(&mut self, _: &str, _: &[u8]) -> Result<(), StoreError> {
        Ok(())
    }
    fn mend(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

fn at(ms: u64) -> Now {
    Now { time: Time::from_micros(ms * 1_000), wall: Wall::from_minutes(1_000) }
}

/// All is compared at the start by one, and after nearly ten minutes by the other.
const PLACES: [Location; 2] = [Location(1 << 40), Location(u64::MAX - (1 << 40))];

/// A holder that knows of one neighbour, on link 1.
fn holder(number: usize, holds: impl IntoIterator<Item = u64>) -> Holder {
    let store = Listed(holds.into_iter().map(address).collect());
    let rng = Rng::from_seed([u8::try_from(number).unwrap(); 32]);
    let mut holder = Holder::new(Box::new(MemoryRecords::default()), PLACES[number], rng)
        .with_blocks(Box::new(store), REPAIR_RATE);
    let around = vec![(LinkNo(1), PLACES[1 - number])];
    holder.handle_input(at(0), HolderInput::Neighbourhood(around));
    holder
}

/// What passed between two.
#[derive(Debug, Default)]
struct Passed {
    messages: u64,
    compared: usize,
    offered: BTreeSet<BlockAddress>,
    addresses: usize,
    wanted: BTreeSet<BlockAddress>,
}

/// Two that are each other's only neighbours, each of which compares once.
fn met(mut holders: [Holder; 2], until_ms: u64) -> Passed {
    let mut passed = Passed::default();
    let mut ms = 0;
    while ms < until_ms {
        let mut quiet = false;
        while !std::mem::replace(&mut quiet, true) {
            for number in [0, 1] {
                while let Some(output) = holders[number].poll_output() {
                    let HolderOutput::Repair { repair, .. } = output else { continue };
                    quiet = false;
                    passed.messages += 1;
                    match &repair {
                        Repair::Compare(compare) => {
                            assert!((1..=CLAIMS_MAX).contains(&compare.claims.len()));
                            passed.compared += compare.encoded_len();
                        }
                        Repair::Offer(blocks) => {
                            passed.addresses += blocks.len();
                            passed.offered.extend(blocks);
                        }
                        Repair::Want(blocks) => {
                            passed.addresses += blocks.len();
                            passed.wanted.extend(blocks);
                        }
                    }
                    let input = HolderInput::Repair { link: LinkNo(1), repair };
                    holders[1 - number].handle_input(at(ms), input);
                }
            }
        }
        let due = holders.iter().filter_map(Holder::poll_timeout).min();
        ms = due.map_or(until_ms, |due| due.as_micros().div_ceil(1_000)).max(ms + 1);
        for holder in &mut holders {
            holder.handle_timeout(at(ms));
        }
    }
    passed
}

/// Two that own the same but for `differences`, which lie with one and the other by turns.
fn differing(owned: u64, differences: u64) -> Passed {
    let odd = |n: &u64| n % 2 == 1;
    let extra = owned..owned + differences;
    let one = holder(0, (0..owned).chain(extra.clone().filter(odd)));
    let other = holder(1, (0..owned).chain(extra.clone().filter(|n| !odd(n))));
    let passed = met([one, other], 9 * 60_000);
    let expected: BTreeSet<BlockAddress> = extra.map(address).collect();
    assert_eq!(passed.offered, expected, "all that differs is offered, and nothing else");
    assert_eq!(passed.wanted, expected);
    passed
}

#[test]
fn two_that_hold_the_same_say_next_to_nothing_and_find_whatever_differs() {
    for (differences, bytes_max) in [(0, 200), (10, 8_000), (400, 160_000)] {
        let passed = differing(10_000, differences);
        assert!(passed.compared <= bytes_max, "{} for {differences}", passed.compared);
    }
}

/// The figures of docs/spec/blocks.md, section 4.
#[test]
#[ignore = "a minute, for the figures"]
fn what_a_comparison_costs() {
    for owned in [10_000, 1_000_000] {
        for differences in [0, 10, 1_000] {
            let passed = differing(owned, differences);
            println!(
                "{owned} addresses, {differences} differences: {} bytes compared and {} of addresses, {} messages; \
                 all addresses of both: {}",
                passed.compared,
                passed.addresses * 32,
                passed.messages,
                (2 * owned + differences) * 32,
            );
        }
    }
}

#[test]
fn who_compares_without_end_gets_a_message_a_second_and_costs_a_bounded_number_of_marks() {
    let mut holder = holder(0, 0..50_000);
    let mut says = vec![Says::Sum(1); CLAIMS_MAX - 1];
    says.push(Says::Parts([1; PARTS]));
    let claims = says.into_iter().map(|says| Claim { stretch: Stretch::whole(), says }).collect();
    let compare = Compare { salt: [1; 16], claims };
    let mut said = 0;
    for ms in (0..20_000).step_by(50) {
        let repair = Repair::Compare(compare.clone());
        holder.handle_input(at(ms), HolderInput::Repair { link: LinkNo(1), repair });
        holder.handle_timeout(at(ms));
        while let Some(output) = holder.poll_output() {
            let HolderOutput::Repair { repair: Repair::Compare(compare), .. } = output else {
                continue;
            };
            said += compare.claims.len();
        }
    }
    // A sum that differs costs twice what is held. Eight seconds were saved up, and twenty passed.
    let answered = 28 * 131_072 / (2 * 50_000) + 2;
    assert!(said <= answered + 16, "{said} claims answered");
    assert!(said <= 29 * CLAIMS_MAX);
}

#[test]
fn what_the_other_does_not_take_for_both_of_theirs_is_offered_by_address_and_every_hour() {
    let mut holder = holder(0, 0..20);
    let (mut ms, mut offered) = (0, Vec::new());
    while ms < 3 * 3_600_000 {
        while let Some(output) = holder.poll_output() {
            match output {
                HolderOutput::Repair { link, repair: Repair::Compare(mut compare) } => {
                    compare.claims.iter_mut().for_each(|it| it.says = Says::Apart);
                    let repair = Repair::Compare(compare);
                    holder.handle_input(at(ms), HolderInput::Repair { link, repair });
                }
                HolderOutput::Repair { repair: Repair::Offer(blocks), .. } => {
                    offered.push(blocks.len());
                }
                _ => {}
            }
        }
        let due = holder.poll_timeout().unwrap().as_micros().div_ceil(1_000);
        ms = due.max(ms + 1);
        holder.handle_timeout(at(ms));
    }
    assert!(offered.iter().all(|it| *it == 20), "{offered:?}");
    assert!((3..=5).contains(&offered.len()), "{offered:?}");
}

#[test]
fn a_stranger_to_the_three_closest_is_told_nothing() {
    let mut holder = holder(0, 0..100);
    let around = (1..9).map(|n| (LinkNo(n), Location(u64::from(n) << 50))).collect();
    holder.handle_input(at(1_000), HolderInput::Neighbourhood(around));
    // What it asks of its own accord comes first.
    holder.handle_timeout(at(2_400));
    while holder.poll_output().is_some() {}
    let claim = Claim { stretch: Stretch::whole(), says: Says::Sum(1) };
    let compare = Compare { salt: [1; 16], claims: vec![claim] };
    let mut told = |link: u32| {
        let repair = Repair::Compare(compare.clone());
        holder.handle_input(at(2_500), HolderInput::Repair { link: LinkNo(link), repair });
        match holder.poll_output() {
            Some(HolderOutput::Repair { repair: Repair::Compare(compare), .. }) => compare.claims,
            other => {
                assert_eq!(other, None);
                Vec::new()
            }
        }
    };
    for link in [5, 6] {
        assert!(told(link).iter().all(|it| it.says == Says::Apart), "link {link}");
    }
    assert_eq!(told(77), [], "not even a neighbour");
    let claims = told(1);
    assert!(claims.iter().any(|it| it.says != Says::Apart), "one of the three is answered");
}
