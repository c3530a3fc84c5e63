//! An owner's work for the blocks that it stores through its tunnels (docs/spec/work.md).
//!
//! Lives here: what each tunnel's end hop asks for, the searches, a millisecond at a time, and the puts that
//! wait for them. Does not live here: what an end hop asks and why (`garlic/toll.rs`), the puzzle
//! (`crypto/effort.rs`), which block goes where.
//!
//! ```text
//!  New ──a put──> Asked ──price──> Idle ──few puts left──> Solving ──found──> Shown ──price──> Idle
//! ```
//!
//! The next work begins before the puts of the last are used up, so that nobody waits for it. As in
//! `solve.rs` a search takes half of a core at most, and on a virtual clock the time that it would take.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::{
    crypto::effort::{MemoryPuzzle, Search},
    garlic::{Clove, OwnTunnelName, PUTS_PER_WORK, Price, put_challenge},
    id::RouterId,
    time::Time,
};

/// Tries at one go: about a millisecond.
const TRIES: u32 = 64;
/// From one go to the next.
const PAUSE: Duration = Duration::from_millis(2);
/// With so few puts left that are paid for, the next work begins.
const FEW: u32 = PUTS_PER_WORK as u32 / 2;
/// An end hop that takes so many works in a row and grants nothing is no use.
const IN_VAIN_MAX: u8 = 3;
/// Requests with this bit are made here; whoever uses the tunnels has the others.
const OWN_BIT: u32 = 1 << 31;

#[derive(Debug)]
enum Stage {
    New,
    /// It was asked what a work costs, by this request.
    Asked(u32),
    Idle,
    Solving(Search),
    /// Work was shown by this request.
    Shown(u32),
}

/// What goes on at one tunnel.
#[derive(Debug)]
struct Account {
    exit: RouterId,
    stage: Stage,
    seed: [u8; 16],
    works: u32,
    effort: u32,
    /// Puts that are paid for and not sent.
    puts: u32,
    in_vain: u8,
    waiting: VecDeque<Clove>,
}

/// The end hop does not keep to what it says: the tunnel is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cheated;

/// The works of one requester.
#[derive(Debug, Default)]
pub(super) struct Works {
    accounts: BTreeMap<OwnTunnelName, Account>,
    /// Tunnels with a search, in turns.
    turns: VecDeque<OwnTunnelName>,
    /// Only while something is searched for.
    puzzle: Option<Box<MemoryPuzzle>>,
    next: Time,
    last_request: u32,
    out: VecDeque<(OwnTunnelName, Clove)>,
}

impl Works {
    pub(super) const fn new() -> Self {
        Self {
            accounts: BTreeMap::new(),
            turns: VecDeque::new(),
            puzzle: None,
            next: Time::ZERO,
            last_request: 0,
            out: VecDeque::new(),
        }
    }

    /// A tunnel that ends at `exit`.
    pub(super) fn add(&mut self, tunnel: OwnTunnelName, exit: RouterId) {
        let account = Account {
            exit,
            stage: Stage::New,
            seed: [0; 16],
            works: 0,
            effort: 0,
            puts: 0,
            in_vain: 0,
            waiting: VecDeque::new(),
        };
        self.accounts.insert(tunnel, account);
    }

    /// A tunnel is gone, with what waits for it.
    pub(super) fn remove(&mut self, tunnel: OwnTunnelName) {
        self.accounts.remove(&tunnel);
        self.turns.retain(|it| *it != tunnel);
        self.out.retain(|(it, _)| *it != tunnel);
    }

    /// Puts that wait for work, or to be taken here.
    pub(super) fn waiting(&self, tunnel: OwnTunnelName) -> usize {
        let waiting = self.accounts.get(&tunnel).map_or(0, |it| it.waiting.len());
        waiting + self.out.iter().filter(|(it, clove)| *it == tunnel && clove.is_block()).count()
    }

    /// A block is to be put, as soon as it is paid for. Whoever calls bounds how many.
    pub(super) fn put(&mut self, tunnel: OwnTunnelName, clove: Clove) {
        if let Some(account) = self.accounts.get_mut(&tunnel) {
            account.waiting.push_back(clove);
            self.go_on(tunnel);
        }
    }

    /// A put was not kept: its end hop lets it come once more.
    pub(super) fn refund(&mut self, tunnel: OwnTunnelName) {
        if let Some(account) = self.accounts.get_mut(&tunnel) {
            account.puts = account.puts.saturating_add(1);
        }
    }

    /// An end hop says what was paid for, and what the next work costs.
    pub(super) fn priced(
        &mut self,
        tunnel: OwnTunnelName,
        request: u32,
        price: Price,
    ) -> Result<(), Cheated> {
        let account = self.accounts.get_mut(&tunnel).ok_or(Cheated)?;
        match account.stage {
            Stage::Asked(asked) if asked == request && price.puts == 0 => account.seed = price.seed,
            Stage::Shown(shown) if shown == request && price.seed == account.seed => {
                if price.puts > 0 {
                    account.works = account.works.wrapping_add(1);
                    account.in_vain = 0;
                } else {
                    account.in_vain += 1;
                }
            }
            _ => return Err(Cheated),
        }
        if account.in_vain >= IN_VAIN_MAX {
            return Err(Cheated);
        }
        account.stage = Stage::Idle;
        account.puts = account.puts.saturating_add(price.puts.into());
        account.effort = price.effort;
        self.go_on(tunnel);
        Ok(())
    }

    /// Sends what is paid for; begins to pay for more where that is wanted.
    fn go_on(&mut self, tunnel: OwnTunnelName) {
        let Some(account) = self.accounts.get_mut(&tunnel) else { return };
        let mut sent = false;
        while account.puts > 0
            && let Some(clove) = account.waiting.pop_front()
        {
            account.puts -= 1;
            sent = true;
            self.out.push_back((tunnel, clove));
        }
        if account.puts > FEW || !sent && account.waiting.is_empty() {
            return;
        }
        match account.stage {
            Stage::New => {
                let request = self.show(tunnel, 0, 0);
                self.stage(tunnel, Stage::Asked(request));
            }
            Stage::Idle => {
                let challenge = put_challenge(&account.exit, &account.seed, account.works);
                account.stage = Stage::Solving(Search::new(challenge, account.effort));
                self.turns.push_back(tunnel);
            }
            Stage::Asked(_) | Stage::Solving(_) | Stage::Shown(_) => {}
        }
    }

    fn stage(&mut self, tunnel: OwnTunnelName, stage: Stage) {
        if let Some(account) = self.accounts.get_mut(&tunnel) {
            account.stage = stage;
        }
    }

    fn show(&mut self, tunnel: OwnTunnelName, effort: u32, nonce: u64) -> u32 {
        self.last_request = (self.last_request + 1) & !OWN_BIT;
        let request = self.last_request | OWN_BIT;
        self.out.push_back((tunnel, Clove::PutWork { request, effort, nonce }));
        request
    }

    /// Works, if it is time.
    pub(super) fn handle_timeout(&mut self, now: Time) {
        if now < self.next {
            return;
        }
        let Some(tunnel) = self.turns.front().copied() else { return };
        self.next = now + PAUSE;
        let Some(account) = self.accounts.get_mut(&tunnel) else { return };
        let Stage::Solving(search) = &mut account.stage else { return };
        let puzzle = self.puzzle.get_or_insert_default();
        let Some(nonce) = search.step(puzzle.as_mut(), TRIES) else { return };
        self.turns.pop_front();
        if self.turns.is_empty() {
            self.puzzle = None;
        }
        let effort = account.effort;
        let request = self.show(tunnel, effort, nonce);
        self.stage(tunnel, Stage::Shown(request));
    }

    /// When to work on.
    pub(super) fn poll_timeout(&self) -> Option<Time> {
        (!self.turns.is_empty()).then_some(self.next)
    }

    /// The next clove to send.
    pub(super) fn poll_output(&mut self) -> Option<(OwnTunnelName, Clove)> {
        self.out.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        block::{BLOCK_LEN, Block},
        garlic::{Room, Toll},
        id::{LinkNo, TunnelId},
        ring::Class,
        rng::Rng,
    };

    const EXIT: RouterId = RouterId([3; 32]);
    const TUNNEL: OwnTunnelName = (LinkNo(1), TunnelId(2));
    const ROOM: Room = Room { free: 9_000, all: 9_000 };

    fn put(request: u32) -> Clove {
        let block = Block::copy_from(&vec![7; BLOCK_LEN]).unwrap();
        Clove::BlockPut { request, class: Class::Bulk, block }
    }

    /// An owner and an end hop: puts that arrive, and works shown.
    struct Pair {
        works: Works,
        toll: Toll,
        now: Time,
        puts: u32,
        shown: u32,
    }

    impl Pair {
        fn new() -> Self {
            let mut works = Works::new();
            works.add(TUNNEL, EXIT);
            let toll = Toll::new(EXIT, Rng::from_seed([1; 32]));
            Self { works, toll, now: Time::ZERO, puts: 0, shown: 0 }
        }

        /// Goes on until nothing is to be done any more.
        fn run(&mut self) {
            loop {
                while let Some((tunnel, clove)) = self.works.poll_output() {
                    match clove {
                        Clove::PutWork { request, effort, nonce } => {
                            self.shown += u32::from(effort > 0);
                            let shown = (effort, nonce);
                            let price = self.toll.work(self.now, TUNNEL, ROOM, shown).unwrap();
                            self.works.priced(tunnel, request, price).unwrap();
                        }
                        Clove::BlockPut { .. } => {
                            assert!(self.toll.spend(TUNNEL), "nothing comes unpaid");
                            self.puts += 1;
                        }
                        other => panic!("{other:?}"),
                    }
                }
                let Some(at) = self.works.poll_timeout() else { return };
                self.now = self.now.max(at);
                self.works.handle_timeout(self.now);
            }
        }
    }

    #[test]
    fn every_put_is_paid_for_and_the_next_work_is_done_before_it_is_needed() {
        let mut pair = Pair::new();
        pair.works.put(TUNNEL, put(1));
        assert_eq!(pair.works.waiting(TUNNEL), 1);
        pair.run();
        assert_eq!((pair.puts, pair.shown, pair.works.waiting(TUNNEL)), (1, 1, 0));
        for request in 2..=15 {
            pair.works.put(TUNNEL, put(request));
            pair.run();
        }
        assert_eq!((pair.puts, pair.shown), (15, 1), "one is enough for the first few");
        for request in 16..=96 {
            pair.works.put(TUNNEL, put(request));
            assert_eq!(pair.works.waiting(TUNNEL), 1, "it goes at once");
            assert!(matches!(pair.works.out.front(), Some((_, Clove::BlockPut { .. }))));
            pair.run();
        }
        assert_eq!((pair.puts, pair.shown), (96, 4));
        pair.works.refund(TUNNEL);
        assert_eq!(pair.works.accounts[&TUNNEL].puts, 33);
    }

    #[test]
    fn a_search_takes_half_of_a_core_and_the_time_that_it_would_take() {
        let mut pair = Pair::new();
        for request in 0..16 {
            pair.works.put(TUNNEL, put(request));
        }
        pair.run();
        assert_eq!(pair.puts, 16);
        // 256 tries on average, 64 at a go.
        assert!((2_000..80_000).contains(&pair.now.as_micros()), "{:?}", pair.now);
    }

    #[test]
    fn who_grants_nothing_for_works_or_answers_what_was_not_asked_is_left() {
        let mut works = Works::new();
        works.add(TUNNEL, EXIT);
        works.put(TUNNEL, put(1));
        let price = |puts, effort| Price { seed: [9; 16], puts, effort };
        assert_eq!(works.priced(TUNNEL, 77, price(0, 1)), Err(Cheated), "no such request");
        let mut now = Time::ZERO;
        let mut outcomes = Vec::new();
        while outcomes.last() != Some(&Err(Cheated)) {
            while let Some((_, clove)) = works.poll_output() {
                let Clove::PutWork { request, .. } = clove else { panic!("unpaid") };
                outcomes.push(works.priced(TUNNEL, request, price(0, 2)));
            }
            now = now + PAUSE;
            works.handle_timeout(now);
        }
        assert_eq!(outcomes.len(), 4, "it asked once and worked three times");
        works.remove(TUNNEL);
        assert_eq!((works.waiting(TUNNEL), works.poll_timeout()), (0, None));
    }
}
