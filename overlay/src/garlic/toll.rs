//! What puts of blocks through tunnels cost where they end (PROTOCOL P12; docs/spec/work.md).
//!
//! Lives here: the price, which follows from what was put lately and how much room is left, and what each
//! tunnel has paid for. Does not live here: the puzzle (`crypto/effort.rs`), an owner's search
//! (`session/work.rs`), the puts themselves.
//!
//! ```text
//!  owner                                     end hop
//!    |  PutWork(effort 0) ------------------>|  a seed for this tunnel
//!    |<-- PutPrice(seed, 0 puts, effort e) --|
//!    |  PutWork(e, nonce) ------------------>|  one try checks it
//!    |<-- PutPrice(seed, 32 puts, e') -------|  or 0 puts, if e is too little by now
//!    |  up to 32 BlockPut ------------------>|
//! ```
//!
//! Nobody knows strangers who put from each other, so all pay alike, and what the many blocks of a flood
//! raise is the price. It doubles with each eighth of the free room that is paid for here, and falls as
//! time passes: where there is room it costs next to nothing, and where each block pushes out another it
//! soon costs seconds.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    crypto::{
        effort::{EFFORT_MAX, MemoryPuzzle, Puzzle, is_worth},
        kdf::derive,
    },
    id::{LinkNo, RouterId, TunnelId},
    rng::Rng,
    time::Time,
    wire::{Reader, WireError, Writer},
};

/// Puts that one work pays for (PROTOCOL P12): 1 MiB.
pub const PUTS_PER_WORK: u16 = 32;
/// What a work costs where nobody puts much: some 4 ms of one core.
const EFFORT_LEAST: u32 = 256;
/// After so many doublings it is as high as it gets.
const DOUBLINGS_MAX: u64 = 16;
/// A price that was told is good for so long: what the search for it may take.
const TOLD_FOR: Duration = Duration::from_secs(30);
/// The price doubles with so many parts of the free room.
const FREE_PARTS: u64 = 8;
/// Or, where hardly any is free, with so many parts of all room.
const ALL_PARTS: u64 = 192;
/// What a router without a shelf goes by, which knows nothing of others' room.
const NO_SHELF: Room = Room { free: 4_096, all: 4_096 };
/// Free room fills in so many seconds without raising the price.
const FREE_SECONDS: u64 = 3_600;
/// All of it is replaced in so many: three weeks.
const ALL_SECONDS: u64 = 21 * 24 * 3_600;
/// Millionths, in which the level is counted.
const ONE: u64 = 1_000_000;

/// A tunnel that ends here: its link, and its number there.
type Lane = (LinkNo, TunnelId);

/// What an end hop says of puts.
///
/// | bytes | field |
/// |-------|-------|
/// | 16    | seed of this tunnel's works |
/// | 2     | puts granted for the work just shown: 0 or 32 |
/// | 4     | effort of the next, 1 to 100,000 |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price {
    /// What the tunnel's works are for; the same as long as the tunnel lives.
    pub seed: [u8; 16],
    /// 0, or [`PUTS_PER_WORK`].
    pub puts: u16,
    /// What the next work has to be worth.
    pub effort: u32,
}

impl Price {
    /// Bytes.
    pub(crate) const LEN: usize = 16 + 2 + 4;

    pub(crate) fn encode<'a>(&self, w: &'a mut Writer) -> &'a mut Writer {
        w.bytes(&self.seed).u16(self.puts).u32(self.effort)
    }

    pub(crate) fn decode(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let this = Self {
            seed: r.array("seed of works")?,
            puts: r.u16("puts granted")?,
            effort: r.u32("effort")?,
        };
        if this.puts != 0 && this.puts != PUTS_PER_WORK {
            return Err(WireError::Bad("puts granted"));
        }
        if this.effort == 0 || this.effort > EFFORT_MAX {
            return Err(WireError::Bad("effort"));
        }
        Ok(this)
    }
}

/// What a tunnel's work number `works` is for, from 0 on: for one end hop, one tunnel, once.
pub fn put_challenge(exit: &RouterId, seed: &[u8; 16], works: u32) -> [u8; 32] {
    derive("warren put work 1", &[exit.as_bytes(), seed, &works.to_le_bytes()])
}

/// Room for blocks that are kept for others, in blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Free.
    pub free: u64,
    /// In all.
    pub all: u64,
}

/// Work was shown that was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unearned;

#[derive(Debug)]
struct Account {
    seed: [u8; 16],
    /// Works that were accepted.
    works: u32,
    /// Puts that are paid for.
    puts: u32,
    told: (u32, Time),
}

/// The books of one router.
#[derive(Debug)]
pub struct Toll {
    exit: RouterId,
    rng: Rng,
    /// Made with the first work: most routers' tunnels put nothing.
    puzzle: Option<Box<MemoryPuzzle>>,
    accounts: BTreeMap<Lane, Account>,
    /// Millionths of puts that were paid for lately.
    level: u64,
    at: Time,
}

impl Toll {
    /// Of the router `exit`.
    pub const fn new(exit: RouterId, rng: Rng) -> Self {
        Self { exit, rng, puzzle: None, accounts: BTreeMap::new(), level: 0, at: Time::ZERO }
    }

    /// The price of a work now.
    fn effort(&mut self, now: Time, room: Room) -> u32 {
        let room = if room.all == 0 { NO_SHELF } else { room };
        let micros = u64::try_from(now.since(self.at).as_micros()).unwrap_or(u64::MAX);
        let paid = |blocks: u64, seconds: u64| micros.saturating_mul(blocks) / seconds;
        let gone = paid(room.free, FREE_SECONDS).max(paid(room.all, ALL_SECONDS));
        // What is less than a millionth goes on being counted.
        if gone > 0 {
            self.level = self.level.saturating_sub(gone);
            self.at = now;
        }
        let doubles = (room.free / FREE_PARTS).max(room.all / ALL_PARTS).max(1) * ONE;
        let times = self.level / doubles;
        if times >= DOUBLINGS_MAX {
            return EFFORT_MAX;
        }
        // Straight from one power of two to the next.
        let whole = u64::from(EFFORT_LEAST) << times;
        let part = whole * (self.level % doubles / ONE) / (doubles / ONE);
        u32::try_from(whole + part).unwrap_or(EFFORT_MAX).min(EFFORT_MAX)
    }

    /// An owner shows work, or with effort 0 asks what it costs.
    ///
    /// # Errors
    /// When the work was not done: no honest owner says so.
    pub fn work(
        &mut self,
        now: Time,
        lane: Lane,
        room: Room,
        (effort, nonce): (u32, u64),
    ) -> Result<Price, Unearned> {
        let asked = self.effort(now, room);
        let rng = &mut self.rng;
        let account = self.accounts.entry(lane).or_insert_with(|| Account {
            seed: rng.bytes(),
            works: 0,
            puts: 0,
            told: (asked, now),
        });
        let (told, at) = account.told;
        let asked = if now.since(at) <= TOLD_FOR { asked.min(told) } else { asked };
        let enough = effort >= asked;
        if enough {
            let challenge = put_challenge(&self.exit, &account.seed, account.works);
            let puzzle = self.puzzle.get_or_insert_default();
            if !is_worth(puzzle.output(&challenge, nonce), effort) {
                return Err(Unearned);
            }
            account.works = account.works.wrapping_add(1);
            account.puts = account.puts.saturating_add(PUTS_PER_WORK.into());
            self.level = self.level.saturating_add(u64::from(PUTS_PER_WORK) * ONE);
        }
        let effort = self.effort(now, room);
        let account = self.accounts.get_mut(&lane).ok_or(Unearned)?;
        account.told = (effort, now);
        Ok(Price { seed: account.seed, puts: if enough { PUTS_PER_WORK } else { 0 }, effort })
    }

    /// Takes one put off what a tunnel has paid for; false if it has paid for none.
    pub fn spend(&mut self, lane: Lane) -> bool {
        let account = self.accounts.get_mut(&lane);
        let left = account.and_then(|it| it.puts.checked_sub(1).map(|left| (it, left)));
        left.map(|(account, left)| account.puts = left).is_some()
    }

    /// A put was not kept: its owner may put once more.
    pub fn refund(&mut self, lane: Lane) {
        if let Some(account) = self.accounts.get_mut(&lane) {
            account.puts = account.puts.saturating_add(1);
        }
    }

    /// A tunnel is gone.
    pub fn forget(&mut self, lane: Lane) {
        self.accounts.remove(&lane);
    }

    /// Tunnels with accounts.
    pub fn lanes(&self) -> impl Iterator<Item = Lane> + '_ {
        self.accounts.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::effort::Search;

    const EXIT: RouterId = RouterId([3; 32]);
    /// 3 GiB.
    const WIDE: Room = Room { free: 80_000, all: 80_000 };
    const FULL: Room = Room { free: 0, all: 80_000 };

    fn at(seconds: u64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    fn lane(no: u32) -> Lane {
        (LinkNo(1), TunnelId(no))
    }

    fn toll() -> Toll {
        Toll::new(EXIT, Rng::from_seed([1; 32]))
    }

    fn solve(price: Price, works: u32) -> (u32, u64) {
        let mut search = Search::new(put_challenge(&EXIT, &price.seed, works), price.effort);
        (price.effort, search.step(&mut MemoryPuzzle::default(), u32::MAX).unwrap())
    }

    #[test]
    fn nothing_is_put_before_it_is_paid_for_and_a_work_pays_for_32_once() {
        let mut toll = toll();
        assert!(!toll.spend(lane(1)));
        let price = toll.work(at(0), lane(1), WIDE, (0, 0)).unwrap();
        assert_eq!((price.puts, price.effort), (0, EFFORT_LEAST));
        assert!(!toll.spend(lane(1)), "asking pays for nothing");
        let work = solve(price, 0);
        let next = toll.work(at(1), lane(1), WIDE, work).unwrap();
        assert_eq!((next.puts, next.seed), (32, price.seed));
        assert!((0..32).all(|_| toll.spend(lane(1))) && !toll.spend(lane(1)));
        toll.refund(lane(1));
        assert!(toll.spend(lane(1)) && !toll.spend(lane(1)), "what was not kept may come again");
        // The same work again is for another number.
        assert_eq!(toll.work(at(1), lane(1), WIDE, work), Err(Unearned));
        let other = toll.work(at(1), lane(2), WIDE, (0, 0)).unwrap();
        assert_ne!(other.seed, price.seed);
        assert_eq!(toll.work(at(1), lane(2), WIDE, work), Err(Unearned), "of another tunnel");
        toll.forget(lane(1));
        assert!(!toll.spend(lane(1)));
        assert_eq!(toll.lanes().collect::<Vec<_>>(), [lane(2)]);
    }

    #[test]
    fn work_for_one_router_is_none_for_another() {
        let seed = [7; 16];
        let of = |exit, works| put_challenge(&RouterId([exit; 32]), &seed, works);
        assert_ne!(of(3, 0), of(4, 0));
        assert_ne!(of(3, 0), of(3, 1));
    }

    /// Pays for so many puts without doing the work.
    fn buy(toll: &mut Toll, puts: u64) {
        toll.level += puts * ONE;
    }

    #[test]
    fn the_price_doubles_with_an_eighth_of_the_free_room_and_falls_with_time() {
        let mut toll = toll();
        assert_eq!(toll.effort(at(0), WIDE), EFFORT_LEAST);
        buy(&mut toll, 80_000 / 8);
        assert_eq!(toll.effort(at(0), WIDE), 2 * EFFORT_LEAST);
        buy(&mut toll, 80_000 / 16);
        assert_eq!(toll.effort(at(0), WIDE), 3 * EFFORT_LEAST);
        // Half an hour is worth half of the free room.
        assert_eq!(toll.effort(at(1_800), WIDE), EFFORT_LEAST);
        // One file of 1 GiB, divided among eleven exits, is hardly noticed.
        buy(&mut toll, 6_000);
        assert!(toll.effort(at(1_800), WIDE) < 2 * EFFORT_LEAST);
    }

    #[test]
    fn where_each_block_pushes_out_another_a_flood_soon_costs_the_most_and_for_days() {
        let mut toll = toll();
        buy(&mut toll, 80_000 / 192 * 9);
        assert_eq!(toll.effort(at(0), FULL), EFFORT_MAX, "after a twentieth of all room");
        assert!(toll.effort(at(3_600), FULL) > EFFORT_MAX / 2, "an hour changes little");
        assert_eq!(toll.effort(at(2 * 24 * 3_600), FULL), EFFORT_LEAST, "two days do");
        buy(&mut toll, u64::MAX / ONE / 2);
        assert_eq!(toll.effort(at(2 * 24 * 3_600), FULL), EFFORT_MAX);
    }

    #[test]
    fn a_price_that_was_told_is_good_while_the_search_for_it_lasts() {
        let mut toll = toll();
        let price = toll.work(at(0), lane(1), WIDE, (0, 0)).unwrap();
        buy(&mut toll, 80_000);
        let dear = toll.work(at(0), lane(2), WIDE, (0, 0)).unwrap();
        assert_eq!(dear.effort, EFFORT_LEAST << 8);
        let work = solve(price, 0);
        assert_eq!(toll.work(at(29), lane(1), WIDE, work).unwrap().puts, 32);
        assert_eq!(toll.work(at(29), lane(2), WIDE, (EFFORT_LEAST, 1)).unwrap().puts, 0);
        let again = toll.work(at(60), lane(1), WIDE, (EFFORT_LEAST, 1)).unwrap();
        assert_eq!(again.puts, 0, "too late, and too little");
    }

    #[test]
    fn a_price_has_one_spelling() {
        let price = Price { seed: [9; 16], puts: 32, effort: 7 };
        let bytes = |price: Price| {
            let mut w = Writer::default();
            price.encode(&mut w);
            w.into_bytes()
        };
        let read = |bytes: &[u8]| Price::decode(&mut Reader::new(bytes));
        assert_eq!(bytes(price).len(), Price::LEN);
        assert_eq!(read(&bytes(price)), Ok(price));
        for bad in [
            Price { puts: 31, ..price },
            Price { effort: 0, ..price },
            Price { effort: EFFORT_MAX + 1, ..price },
        ] {
            assert!(read(&bytes(bad)).is_err());
        }
    }
}
